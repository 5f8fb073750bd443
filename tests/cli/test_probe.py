"""`landline probe` over real connections: what is measured, and what a person and a monitor are told of it."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import (
    CASES,
    Certificates,
    matrix,  # noqa: F401 - the fixture `certificates`
)
from command import Terminal, dead_port, interrupt, read_until, run, silent_port, started
from probing import HOST, expiring, for_loopback, over_tls, serving, silent, smtp, until_the_end, wanted
from typer.testing import CliRunner

from landline.cli.app import app
from landline.cli.probe import as_json
from landline.cli.probe.facts import Measured, Wanted
from landline.cli.probe.measure import Trust, measure, measure_all_addresses
from landline.cli.probe.verdict import Status, Verdict, judge
from landline.testing.contract.stage import until

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.skipif(sys.platform != "linux", reason="silent ports, TCP_INFO and 127.0.0.2 as Linux has them"),
]

LIMIT = 10.0
SOON = 0.6
"""Seconds for what must run into its time limit."""


@pytest.fixture
def good(certificates: Certificates) -> Iterator[int]:
    """The port of a server that is all right."""
    context = for_loopback(certificates, "good", "good.example").server()
    context.set_alpn_protocols(["h2"])
    with serving(over_tls(context)) as port:
        yield port


def probed(port: int, trust: Trust | None = None, host: str = HOST, **more: Any) -> tuple[Measured, Verdict]:
    measured = measure(Wanted(host, str(port), port, **{"timeout": LIMIT, **more}), trust or Trust())
    return measured, judge(measured, 14)


def values(*arguments: object) -> dict[str, Any]:
    done = run("probe", *arguments, "--json")
    assert done.stderr == b""
    line = done.stdout.decode("ascii")
    assert line.count("\n") == 1
    told: dict[str, Any] = json.loads(line)
    assert told["exit_status"] == done.returncode
    return told


# ---- what is measured ------------------------------------------------------------------------------------


def test_everything_about_a_good_connection(certificates: Certificates, good: int) -> None:
    trust = Trust(certificates.trusted_file, ("h2", "http/1.1"))
    measured, verdict = probed(good, trust, tls=True, alpn=("h2", "http/1.1"))
    assert (verdict.status, verdict.code, verdict.advice) == (Status.OK, "ok", ())
    assert [(step.kind, step.what, step.outcome) for step in measured.steps] == [
        ("connect", HOST, "done"),
        ("tls", "handshake", "done"),
    ]
    connect, handshake = measured.steps
    assert connect.ended is not None
    assert 0 <= connect.started <= connect.ended <= handshake.started < (handshake.ended or 0) == measured.elapsed
    assert measured.agreed is not None
    assert (measured.agreed.version, measured.agreed.alpn, measured.agreed.checked_name) == ("TLSv1.3", "h2", HOST)
    assert [each.subject for each in measured.certificates] == ["somebody", "Test Intermediate", "Test Root"]
    assert [check.ok for check in verdict.checks] == [True, True, True]
    tcp = measured.tcp
    assert tcp is not None
    assert tcp.round_trip is not None
    assert 0 < tcp.round_trip < LIMIT
    assert tcp.mss is not None
    assert tcp.path_mtu is not None
    assert 0 < tcp.mss < tcp.path_mtu
    assert tcp.keepalive is not None
    assert not tcp.keepalive.on
    assert tcp.keepalive.idle == int(Path("/proc/sys/net/ipv4/tcp_keepalive_time").read_text("ascii"))


def test_every_handshake_is_a_full_one(certificates: Certificates) -> None:
    """A resumed one would show no chain, and verify nothing. TLS 1.2 resumes at once."""
    context = for_loopback(certificates, "good").server()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    trust = Trust(certificates.trusted_file)
    with serving(over_tls(context)) as port:
        for _ in range(3):
            measured, _ = probed(port, trust, tls=True)
            assert measured.agreed is not None
            assert measured.agreed.version == "TLSv1.2"
            assert len(measured.certificates) == 3
    assert context.session_stats()["hits"] == 0


REFUSED = {
    "expired": ("certificate-expired", {"dates": False, "name": True}),
    "not yet valid": ("certificate-not-yet-valid", {"dates": False, "name": True}),
    "wrong host": ("certificate-wrong-name", {"dates": True, "name": False}),
    "self-signed": ("certificate-not-trusted", {"trust": False, "dates": True, "name": True}),
    "untrusted root": ("certificate-not-trusted", {"trust": False, "dates": True, "name": True}),
    "missing intermediate": ("certificate-not-trusted", {"trust": False}),
    "weak key": ("certificate-refused", {"rules": False, "name": True}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_certificate_is_shown_with_what_fails_and_how_to_fix_it(
    certificates: Certificates, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity, case = certificates[name], CASES[name]
    answering(monkeypatch, HOST)
    with serving(over_tls(identity.server())) as port:
        measured, verdict = probed(port, Trust(certificates.trusted_file), case.wanted, tls=True, ipv6=False)
    code, checks = REFUSED[name]
    assert (verdict.status, verdict.code) == (Status.CRITICAL, code)
    assert [each.der for each in measured.certificates] == list(identity.chain_der)
    assert measured.agreed is None
    assert measured.failure is not None
    assert measured.failure.condition == "SslVerificationFailure"
    assert measured.failure.verify_code == case.verify_code
    found = {check.name: check.ok for check in verdict.checks}
    assert {check: found[check] for check in checks} == checks
    assert len(verdict.advice) == 1
    assert "openssl_trusted_file" not in verdict.advice[0]  # which is the library's name for it
    assert measured.steps[-1].outcome == "failed"
    assert measured.tcp is not None


def test_one_refused_for_its_date_is_known_to_be_for_another_name_too(certificates: Certificates) -> None:
    with serving(over_tls(certificates["expired"].server())) as port:
        _, verdict = probed(port, Trust(certificates.trusted_file), tls=True)
    assert {check.name: check.ok for check in verdict.checks} == {"trust": None, "dates": False, "name": False}


def test_sni_is_sent_and_the_certificate_is_for_the_host_all_the_same(certificates: Certificates) -> None:
    sent: list[str | None] = []
    context = for_loopback(certificates, "good").server()
    context.sni_callback = lambda _object, name, _context: sent.append(name)
    with serving(over_tls(context)) as port:
        measured, verdict = probed(port, Trust(certificates.trusted_file), tls=True, sni="other.example")
    assert sent == ["other.example"]
    assert verdict.status is Status.OK
    assert measured.agreed is not None
    assert (measured.agreed.sni, measured.agreed.checked_name) == ("other.example", HOST)


def test_starttls_has_a_step_of_its_own(certificates: Certificates) -> None:
    with serving(smtp(for_loopback(certificates, "good").server())) as port:
        measured, verdict = probed(port, Trust(certificates.trusted_file), tls=True, starttls="smtp")
    assert verdict.status is Status.OK
    assert [(step.kind, step.what) for step in measured.steps] == [
        ("connect", HOST),
        ("starttls", "smtp"),
        ("tls", "handshake"),
    ]


def test_a_server_without_starttls() -> None:
    with serving(smtp(None)) as port:
        measured, verdict = probed(port, tls=True, starttls="smtp")
    assert (verdict.status, verdict.code) == (Status.CRITICAL, "starttls-failed")
    assert "does not offer STARTTLS" in verdict.headline
    assert [step.outcome for step in measured.steps] == ["done", "failed"]


def test_a_server_that_speaks_no_tls() -> None:
    with serving(lambda connection: connection.sendall(b"220 \x1b[31mmail\r\n")) as port:
        _, verdict = probed(port, tls=True)
    assert (verdict.status, verdict.code) == (Status.CRITICAL, "not-tls")
    assert "\x1b" not in verdict.headline
    assert "--starttls" in verdict.advice[0]


@pytest.mark.parametrize("starttls", [None, "imap"])
def test_a_peer_that_stays_silent_after_connecting_ends_with_the_time(starttls: str | None) -> None:
    with serving(until_the_end) as port:
        measured, verdict = probed(port, tls=True, starttls=starttls, timeout=SOON)
    assert (verdict.status, verdict.code) == (Status.CRITICAL, "timed-out")
    assert [step.outcome for step in measured.steps] == ["done", "timed out"]
    assert SOON * 0.9 <= measured.elapsed < LIMIT


def test_a_port_that_never_answers_ends_with_the_time() -> None:
    with silent_port() as port:
        measured, verdict = probed(port, timeout=SOON)
    assert (verdict.status, verdict.code) == (Status.CRITICAL, "timed-out")
    assert [step.outcome for step in measured.steps] == ["timed out"]


def test_a_file_of_authorities_that_is_not_there_is_this_machines_matter(good: int) -> None:
    measured, verdict = probed(good, Trust("/nowhere/ca.pem"), tls=True)
    assert (verdict.status, verdict.code, measured.steps) == (Status.UNKNOWN, "local", ())
    assert verdict.headline.startswith("--ca '/nowhere/ca.pem'")


# ---- names with several addresses ------------------------------------------------------------------------


def answering(monkeypatch: pytest.MonkeyPatch, *ipv4: str) -> None:
    """A resolver that knows these addresses for every name, and no IPv6."""

    def getaddrinfo(host: str, port: Any, family: int = 0, *more: Any) -> list[Any]:
        if family == socket.AF_INET6:
            raise socket.gaierror(socket.EAI_NODATA, "No address associated with hostname")
        return [(family, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ipv4]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


SILENT, REFUSING, ANSWERING = "127.0.0.2", "127.0.0.3", "127.0.0.4"


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch, certificates: Certificates) -> Iterator[int]:
    """A name with three addresses, of which the last one works; gives the port."""
    answering(monkeypatch, SILENT, REFUSING, ANSWERING)
    context = for_loopback(certificates, "good", "three.example").server()
    with serving(over_tls(context), ANSWERING) as port, silent(SILENT, port):
        yield port


def test_the_race_is_told_with_winner_and_losers(certificates: Certificates, three: int) -> None:
    measured, verdict = probed(three, Trust(certificates.trusted_file), "three.example", tls=True)
    assert [(step.kind, step.what, step.outcome) for step in measured.steps] == [
        ("lookup", "IPv6", "failed"),
        ("lookup", "IPv4", "done"),
        ("connect", SILENT, "cancelled"),
        ("connect", REFUSING, "failed"),
        ("connect", ANSWERING, "done"),
        ("tls", "handshake", "done"),
    ]
    assert measured.steps[3].code == "ECONNREFUSED"
    assert verdict.status is Status.OK
    assert ["does not work" in note or "had not answered" in note for note in verdict.notes] == [True, True]


def test_all_addresses_are_probed_each_with_its_own_verdict(certificates: Certificates, three: int) -> None:
    """And each is checked against the name, which it was not connected by."""
    target = Wanted("three.example", "x", three, timeout=SOON, tls=True)
    found = measure_all_addresses(target, Trust(certificates.trusted_file))
    assert [address for address, _ in found] == [SILENT, REFUSING, ANSWERING]
    measured = [work() for _, work in found]
    assert [judge(one, 14).code for one in measured] == ["timed-out", "refused", "ok"]
    for one, (address, _) in zip(measured, found, strict=True):
        assert one.address == address
        assert [step.what for step in one.steps][:3] == ["IPv6", "IPv4", address]
        assert one.steps[2].started >= (one.steps[1].ended or LIMIT)
    assert measured[2].agreed is not None
    assert measured[2].agreed.checked_name == "three.example"


def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*arguments: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    measured, _ = probed(1, host="nobody.example")
    ((_, work),) = measure_all_addresses(wanted("nobody.example"), Trust())
    for one in (measured, work()):
        assert (one.failure and one.failure.phase) == "lookup"
        assert {step.code for step in one.steps} == {"EAI_NONAME"}
        assert judge(one, 14).code == "lookup-failed"


def test_a_resolver_that_stays_silent_ends_with_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def getaddrinfo(*arguments: Any) -> None:
        gate.wait()
        raise socket.gaierror(socket.EAI_NONAME, "late")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        measured, verdict = probed(1, host="silent.example", timeout=SOON)
        ((_, work),) = measure_all_addresses(wanted("silent.example", timeout=SOON), Trust())
    finally:
        gate.set()
    assert (verdict.code, judge(work(), 14).code) == ("timed-out", "timed-out")
    assert {step.outcome for step in measured.steps} == {"timed out"}


# ---- the command -----------------------------------------------------------------------------------------


def test_a_good_connection_is_told_as_plain_text_and_exits_with_0(certificates: Certificates, good: int) -> None:
    done = run("probe", HOST, good, "--tls", "--ca", certificates.trusted_file)
    text = done.stdout.decode("utf-8")
    assert (done.returncode, done.stderr) == (0, b"")
    assert text.splitlines()[0].startswith(f"✓ OK  {HOST} port {good}: connected after")
    assert "\x1b" not in text
    assert "TLS handshake" in text
    assert all(line == line.rstrip() and len(line) <= 80 for line in text.splitlines())


def test_a_certificate_that_expires_soon_exits_with_1(certificates: Certificates) -> None:
    with serving(over_tls(expiring(certificates, 5.5).server())) as port:
        told = values(HOST, port, "--tls", "--ca", certificates.trusted_file)
        assert (told["status"], told["exit_status"], told["code"]) == ("warning", 1, "certificate-expires-soon")
        assert 5.4 < told["certificates"][0]["days_left"] <= 5.5


def test_failures_exit_with_2_also_when_another_target_is_all_right(good: int) -> None:
    with dead_port() as port:
        done = run("probe", HOST, good, HOST, port, "--json")
    assert done.returncode == 2
    assert [json.loads(line)["code"] for line in done.stdout.splitlines()] == ["ok", "refused"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["one.example"], "left over"),
        ([HOST, "1", "--sni", "a.example"], "--sni needs --tls"),
        ([HOST, "1", "--tls", "--starttls", "smtp"], "exclude each other"),
        ([HOST, "1", "--starttls", "gopher"], "smtp, imap"),
        ([HOST, "1", "--timeout", "0"], "--timeout must be"),
        ([HOST, "1", "--nonsense"], "--nonsense"),
        ([], "Missing argument"),
        (["localhost:443", "1"], "give the port as the service"),
        ([HOST, "no-such-service"], "is unknown"),
        (["::1", "1", "-4"], "it is an IPv6 address"),
    ],
)
def test_wrong_usage_is_unknown_and_not_critical(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, which is quicker; the next test has one of its own."""
    done = CliRunner().invoke(app, ["probe", *arguments])
    assert done.exit_code == 3
    assert says in " ".join((done.output + done.stderr + capsys.readouterr().err).split())


def test_wrong_usage_is_unknown_to_the_shell_too() -> None:
    assert run("probe", "one.example").returncode == 3


def test_json_keeps_its_promise(certificates: Certificates, good: int) -> None:
    """Every field that the schema names is there, and no other; dates and times are what it says."""
    told = values("localhost", good, "--tls", "--ca", certificates.trusted_file, "-4")
    assert as_json.__doc__ is not None
    promised = re.findall(r"^    (\w+(?:, \w+)*)  +", as_json.__doc__, re.MULTILINE)
    assert set(told) == {name for names in promised for name in names.split(", ")}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told["at"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told["certificates"][0]["not_after"])
    assert (told["host"], told["service"], told["port"]) == ("localhost", str(good), good)
    assert told["peer"] == {"address": HOST, "port": good}
    assert [step["kind"] for step in told["steps"]] == ["lookup", "connect", "tls"]
    for step in told["steps"]:
        assert step["took"] == pytest.approx(step["ended"] - step["started"], abs=1e-5)
    assert set(told["tls"]) == {"version", "cipher", "cipher_bits", "alpn", "sni", "checked_name"}
    assert told["certificates"][0]["names"] == ["localhost", "good.example"]
    assert told["tcp"]["connect"] == told["steps"][1]["took"]
    assert set(told["tcp"]["keepalive"]) == {"on", "idle", "interval", "count"}


def test_many_rounds_are_lines_and_a_summary(good: int) -> None:
    done = run("probe", HOST, good, "--count", 3, "--every", 0.05)
    lines = done.stdout.decode("utf-8").splitlines()
    assert done.returncode == 0
    assert len([line for line in lines if re.match(rf"\d\d:\d\d:\d\d ✓ OK  {HOST} port {good}  ", line)]) == 2
    assert f"{HOST} port {good}: 3 probes, 3 OK; " in lines[-3]


def test_ctrl_c_ends_it_with_what_there_was(good: int) -> None:
    with started("probe", HOST, good, "--every", 0.05) as process:
        assert process.stdout is not None
        seen = read_until(process.stdout.fileno(), f" port {good}  ".encode())
        process.send_signal(signal.SIGINT)
        seen = read_until(process.stdout.fileno(), b"(this never comes)", seen)
        assert process.stderr is not None
        assert (process.wait(), process.stderr.read()) == (130, b"")
    assert re.search(rb"\d+ probes, \d+ OK", seen)


def test_ctrl_c_in_the_middle_of_a_probe(good: int) -> None:
    with silent_port() as port, started("probe", HOST, good, HOST, port, "--timeout", 60) as process:
        assert process.stdout is not None
        read_until(process.stdout.fileno(), b"keepalive")
        until(lambda: waits(process.pid))  # or the signal may come inside connect(2), and be noticed after the wait
        status, told = interrupt(process)
    assert (status, told) == (130, "")


def waits(process: int) -> bool:
    """Its main thread stands still in a system call, as far as that can be told."""
    stat = Path(f"/proc/{process}/stat")
    return not stat.exists() or stat.read_text("ascii").rpartition(") ")[2].startswith("S")


def test_output_that_nobody_reads_changes_no_exit_status() -> None:
    with dead_port() as port, started("probe", HOST, port, HOST, port, "--json") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        told = process.stderr.read()
        assert (process.wait(20), told) == (2, b"")


def test_a_terminal_gets_colours_and_no_color_takes_them(good: int) -> None:
    for extra, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        with Terminal("probe", HOST, good, **extra) as terminal:
            assert terminal.wait() == 0
            assert bool(re.search(rb"\x1b\[[0-9;]*3[0-7]m", terminal.shown)) is coloured
            assert "━".encode() in terminal.shown


@pytest.mark.parametrize("extra", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "latin-1"}])
def test_output_that_has_no_such_glyphs_gets_ascii(good: int, extra: dict[str, str]) -> None:
    done = run("probe", HOST, good, stdin=b"", **extra)
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert b"==" in done.stdout


def test_a_file_that_cannot_be_written_is_told(good: int) -> None:
    done = run("probe", HOST, good, "--svg", "/nowhere/a.svg")
    assert done.returncode == 3
    assert done.stderr == b"landline: writing /nowhere/a.svg failed: No such file or directory\n"


def test_the_help_has_the_statuses_and_examples() -> None:
    text = " ".join(CliRunner().invoke(app, ["probe", "--help"]).output.split())
    for wanted_text in ("0 when all is well", "130 after Ctrl-C", "--starttls smtp --warn-days 21", "--all-addresses"):
        assert wanted_text in text


def test_json_needs_no_rich() -> None:
    """It is imported by whoever draws."""
    code = (
        "import sys; from landline.cli.probe.run import Options, probe; from landline.cli.probe.facts import Wanted;"
        "before = set(sys.modules); probe(lambda: [Wanted('127.0.0.1', '1', 1, timeout=1.0)], Options(json=True));"
        "sys.exit('rich' in set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
