"""What the facts of a probe mean: statuses, codes, advice; and the words that every picture has of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from probing import AT, CASES, EVIL, crowd, made_up, race, wanted

from landline.cli.probe.facts import Failure, Keepalive, Measured, Step, TcpFacts, clean
from landline.cli.probe.story import shortened, tell
from landline.cli.probe.verdict import Status, judge, milliseconds, number, worst


def failed(*steps: Step, phase: str = "connect", timed_out: bool = False, **more: Any) -> Measured:
    failure = Failure(phase, "SocketConnectError", "could not connect", timed_out=timed_out)  # type: ignore[arg-type]
    return Measured(wanted(**more), AT, steps, 1.0, failure=failure)


def refused(address: str, code: str) -> Step:
    return Step("connect", address, 0.0, 0.1, "failed", code.lower(), code)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((Status.OK, Status.WARNING), Status.WARNING),
        ((Status.WARNING, Status.UNKNOWN), Status.UNKNOWN),
        ((Status.UNKNOWN, Status.CRITICAL, Status.OK), Status.CRITICAL),
        ((), Status.UNKNOWN),
    ],
)
def test_the_worst_of_several_as_monitoring_orders_them(statuses: tuple[Status, ...], expected: Status) -> None:
    assert worst(statuses) is expected


def test_the_first_certificate_of_the_chain_to_expire_counts() -> None:
    measured = race()
    leaf, authority, root = measured.certificates
    sooner = replace(authority, not_after=AT + timedelta(days=3, hours=1))
    verdict = judge(replace(measured, certificates=(leaf, sooner, root)), 14)
    assert (verdict.status, verdict.code) == (Status.WARNING, "certificate-expires-soon")
    assert "the certificate of 'E8' expires in 3 days, on 2026-11-26" in verdict.headline


def test_the_limit_of_the_warning_is_exact() -> None:
    measured = race()
    leaf, *rest = measured.certificates
    for seconds, status in ((0, Status.OK), (-1, Status.WARNING)):
        ends = replace(leaf, not_after=AT + timedelta(days=14, seconds=seconds))
        assert judge(replace(measured, certificates=(ends, *rest)), 14).status is status


def test_protocols_that_were_offered_in_vain_are_a_warning() -> None:
    measured = race()
    assert measured.agreed is not None
    measured = replace(measured, wanted=wanted(alpn=("h3",)), agreed=replace(measured.agreed, alpn=None))
    assert judge(measured, 14).code == "alpn-not-agreed"


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        (["ECONNREFUSED", "ECONNREFUSED"], "refused"),
        (["ENETUNREACH"], "unreachable"),
        (["EHOSTUNREACH"], "unreachable"),
        (["ETIMEDOUT"], "timed-out"),
        (["ECONNRESET"], "reset"),
        (["EPERM"], "not-permitted"),
        (["EPROTO"], "connect-failed"),
        (["ECONNREFUSED", "ENETUNREACH"], "connect-failed"),
    ],
)
def test_each_reason_not_to_connect_has_its_code(codes: list[str], code: str) -> None:
    steps = [refused(f"192.0.2.{index}", reason) for index, reason in enumerate(codes)]
    verdict = judge(failed(*steps), 14)
    assert (verdict.status, verdict.code) == (Status.CRITICAL, code)
    assert len(verdict.advice) == len({reason for reason in codes if reason != "EPROTO"})


def test_different_reasons_are_counted() -> None:
    verdict = judge(crowd(), 14)
    assert (
        "within 10 s: no answer (3), refused (3), no route (3), a reason that takes many words (3)" in verdict.headline
    )
    assert "7 more addresses of the name were not tried." in verdict.notes


def test_only_one_family_was_asked_for() -> None:
    steps = [Step("lookup", "IPv6", 0.0, 0.1, "failed", "No address associated with hostname", "EAI_NODATA")]
    verdict = judge(failed(*steps, phase="lookup", ipv6=True), 14)
    assert verdict.code == "lookup-failed"
    assert "Try without -6" in verdict.advice[0]


def test_a_known_port_says_which_starttls() -> None:
    measured = failed(Step("connect", "192.0.2.1", 0.0, 0.1, "done"), phase="tls", timed_out=True)
    measured = replace(measured, wanted=replace(measured.wanted, port=5432))
    assert "--starttls postgres" in judge(measured, 14).advice[0]


def test_a_tls_port_without_tls_is_noted() -> None:
    measured = replace(race(), wanted=wanted(tls=False), agreed=None, certificates=())
    verdict = judge(measured, 14)
    assert verdict.status is Status.OK
    assert [note for note in verdict.notes if "--tls" in note]


def test_certificates_that_nobody_can_read_are_counted() -> None:
    assert "2 certificates of the chain could not be read." in judge(replace(race(), unread=2), 14).notes


# ---- words -----------------------------------------------------------------------------------------------


def test_text_of_the_peers_is_bounded_and_harmless() -> None:
    assert clean(EVIL).isprintable()
    assert len(clean("x" * 1000)) == 120
    assert clean("x" * 1000).endswith("x...")


def test_times_and_numbers_are_short() -> None:
    assert [milliseconds(time) for time in (0.000012, 0.00999, 0.0234, 0.25, 1.5)] == [
        "0.01 ms", "9.99 ms", "23.4 ms", "250 ms", "1.50 s",
    ]  # fmt: skip
    assert (number(1, "day"), number(12345, "day")) == ("1 day", "12 345 days")


def test_what_is_too_long_loses_its_middle() -> None:
    assert shortened("2001:db8:1234:5678:9abc:def0:1234:5678", 20) == "2001:db8:1…1234:5678"
    assert len(shortened("x" * 100, 9, "...")) == 9
    assert shortened("short", 5) == "short"


@pytest.mark.parametrize("total", [2e-6, 0.0004, 0.0009, 0.0317, 0.342, 0.999, 1.0, 2.4, 10.0, 30.0, 3600.0])
def test_the_axis_has_a_few_round_numbers(total: float) -> None:
    measured = Measured(wanted(), AT, (Step("connect", "192.0.2.1", 0.0, total, "done"),), total)
    ticks = tell(measured, judge(measured, 14), 14).ticks
    assert 3 <= len(ticks) <= 11
    assert ticks[0].label == "0"
    assert all(0 <= tick.at <= total * 1.000001 for tick in ticks)
    assert len({tick.label for tick in ticks}) == len(ticks)
    unit = 1.0 if ticks[-1].label.endswith(" s") else 1e-3
    for tick in ticks:
        assert float(tick.label.split()[0]) * unit == pytest.approx(tick.at, rel=1e-6)


def test_a_name_without_ipv6_has_not_failed() -> None:
    steps = (
        Step("lookup", "IPv6", 0.0, 0.1, "failed", "No address associated with hostname", "EAI_NODATA"),
        Step("lookup", "IPv4", 0.0, 0.1, "done", addresses=("192.0.2.1",)),
        Step("connect", "192.0.2.1", 0.1, 0.2, "done"),
    )
    measured = Measured(wanted(tls=False), AT, steps, 0.2)
    rows = tell(measured, judge(measured, 14), 14).rows
    assert [(row.state, row.note) for row in rows][:2] == [("lookup", "no address"), ("lookup", "1 address")]


def test_what_is_not_known_is_said_to_be_so() -> None:
    for tcp in (TcpFacts(), TcpFacts(keepalive=Keepalive(True, None, None, None))):
        measured = replace(race(), tcp=tcp, steps=())
        facts = dict(tell(measured, judge(measured, 14), 14).facts)
        assert facts["packets"] == facts["round trip"] == "not known here"
        assert facts["keepalive"] in ("not known here", "on; its times are not known here")


def test_a_chain_says_what_each_certificate_is() -> None:
    measured = race()
    cards = tell(measured, judge(measured, 14), 14).cards
    assert [card.role for card in cards] == ["certificate", "authority", "root"]
    assert cards[0].lines == ("for www.example.org, example.org", "RSA 2048 key, signed by E8 with RSA SHA-256")
    assert cards[2].validity == "3 300 days left, until 2035-12-06"
    early = replace(made_up("a", "b"), not_before=AT + timedelta(days=2))
    (card,) = tell(replace(measured, certificates=(early,)), judge(measured, 14), 14).cards
    assert (card.validity, card.tone) == ("not valid before 2026-11-25", "bad")


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_a_verdict_in_one_line(case: str) -> None:
    verdict = judge(CASES[case](), 14)
    assert verdict.headline.isprintable()
    assert all(sentence.endswith((".", "?")) for sentence in (*verdict.advice, *verdict.notes))
