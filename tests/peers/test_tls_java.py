"""A real JVM as server and as client: its TLS is written apart from OpenSSL, and reads the RFCs in its own way.

Our side is the public one: open_tcp_stream(), start_tls(), start_up_server(), and the contexts made for them. What
Java sees it says itself (tls_java.py), so each test looks at a connection from both ends.
"""

from __future__ import annotations

import hashlib
import queue
import random
from functools import cache
from typing import Any

import pytest
from certificates import CASES, matrix
from certificates import HOST as GOOD
from tls_java import (
    ADDRESS,
    HOST,
    VERSIONS,
    JavaFailed,
    Stage,
    Wire,
    accepted,
    jvm_fixture,
    known,
    local_fixture,
    opened,
    stage_fixture,
    until_the_end,
)

from landline import (
    SocketStream,
    SslAbstractContext,
    SslError,
    SslFailure,
    SslVerificationFailure,
    SslVersionOrCipherMismatch,
    open_tcp_stream,
    start_up_server,
)
from landline.testing.contract.stage import PATIENCE, Task, expect
from landline.tls.info import TlsInfo

__all__ = ["jvm_fixture", "local_fixture", "matrix", "stage_fixture"]

pytestmark = pytest.mark.usefixtures("jvm", "no_leaks")

each_version = pytest.mark.parametrize("version", VERSIONS)
each_side = pytest.mark.parametrize("java_is", ["server", "client"])

MUCH = 20_000_000


# ---- the handshake, and what was agreed upon -------------------------------------------------------------


@each_version
@each_side
def test_both_ends_agree_about_version_cipher_and_name_and_talk(stage: Stage, java_is: str, version: str) -> None:
    with stage.meet(java_is, version) as (stream, java, seen):
        ours = known(stream)
        assert (ours.version, seen["version"]) == (version, version)
        same = seen["cipher"].removeprefix("TLS_").replace("_WITH_", "_").replace("AES_", "AES").replace("_", "-")
        assert ours.cipher.removeprefix("TLS_").replace("AES_", "AES").replace("_", "-") == same
        assert (ours.session_reused, seen["resumed"]) == (False, "false")
        assert (ours.server_side, ours.alpn, seen["alpn"]) == (java_is == "client", None, "")
        if java_is == "server":
            assert (ours.sni, seen["names"], ours.checked_name) == (HOST, HOST, HOST)
            assert ours.verify().ok
            assert ours.chain[:2] == stage.local.chain_der
        stream.write(b"from Python")
        stream.flush()
        assert java.read(11) == b"from Python"
        java.write(b"from Java")
        assert stream.read_exactly(9) == b"from Java"


@each_version
def test_our_client_resumes_a_session_with_a_java_server(stage: Stage, version: str) -> None:
    context = stage.client()
    with stage.java_server(version) as (java, port):
        for resumed in (False, True, True):
            java.tell("accept")
            with opened(port, context) as stream:
                seen = java.answer()
                java.write(b"!")
                assert stream.read_exactly(1) == b"!"  # tickets have come with it
                assert (known(stream).session_reused, seen["resumed"]) == (resumed, str(resumed).lower())
                assert known(stream).version == version


@each_version
def test_a_java_client_resumes_a_session_with_our_server(stage: Stage, version: str) -> None:
    """Behind start_up_server(), whose connections share what is needed for that; each handler is a thread."""
    met: queue.Queue[TlsInfo] = queue.Queue()

    def echo(stream: SocketStream) -> None:
        met.put(known(stream))
        while data := stream.read1():
            stream.write(data)
            stream.flush()

    with (
        start_up_server(echo, ssl_ctx=stage.server(), read_timeout=PATIENCE) as server,
        stage.java_client(version) as java,
    ):
        for resumed in (False, True, True):
            seen = java.ask("connect", server.port, HOST)
            java.write(b"!")
            assert java.read(1) == b"!"  # tickets have come with it
            java.ask("close")
            ours = met.get(timeout=PATIENCE)
            assert (ours.session_reused, seen["resumed"]) == (resumed, str(resumed).lower())
            assert ours.version == version
        server.terminate(drain=PATIENCE)


@each_version
def test_alpn_with_a_java_server_is_its_choice(stage: Stage, version: str) -> None:
    with stage.java_server(version, alpn="h2,http/1.1") as (java, port):
        java.tell("accept")
        with opened(port, stage.client(alpn=["http/1.1", "h2"])) as stream:
            assert (known(stream).alpn, java.answer()["alpn"]) == ("h2", "h2")
        java.tell("accept")
        with expect(SslFailure) as caught:
            opened(port, stage.client(alpn=["smtp"]))
        assert "it speaks none of the protocols that were offered (ALPN)" in str(caught.error)
        assert java.failure().kind == "SSLHandshakeException"


@each_version
@pytest.mark.parametrize(("wanted", "agreed"), [("http/1.1,h2", "h2"), ("http/1.1", "http/1.1"), ("smtp", None)])
def test_alpn_with_a_java_client_is_our_choice(stage: Stage, version: str, wanted: str, agreed: str | None) -> None:
    """Without a common protocol the standard library's servers go on without one."""
    with stage.java_client(version, alpn=wanted) as java, accepted(java) as stream:
        stream.start_tls(stage.server(alpn=["h2", "http/1.1"]))
        assert (known(stream).alpn, java.answer()["alpn"]) == (agreed, agreed or "")


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({}, HOST),
        ({"tlsext_host_name": "other.example"}, "other.example"),
        ({"tlsext_host_name": "Faß.example."}, "xn--fa-hia.example"),
        ({"tlsext_host_name": None}, ""),
    ],
)
def test_java_sees_the_name_that_tlsext_host_name_says(stage: Stage, asked: dict[str, Any], sent: str) -> None:
    """The certificate is checked for the host asked for in every case."""
    with stage.java_server() as (java, port):
        java.tell("accept")
        with opened(port, stage.client(), **asked) as stream:
            assert java.answer()["names"] == sent
            assert (known(stream).sni or "", known(stream).checked_name) == (sent, HOST)


@each_version
def test_a_java_server_that_does_not_serve_the_name_says_so(stage: Stage, version: str) -> None:
    with stage.java_server(version, serves=r"other\.example") as (java, port):
        java.tell("accept")
        with expect(SslFailure) as caught:
            opened(port, stage.client())
        assert "'unrecognized name' (it does not serve the name that was asked for)" in str(caught.error)
        assert java.failure().kind == "SSLHandshakeException"


@each_version
def test_our_server_sees_the_name_that_java_asks_for_and_chooses_by_it(stage: Stage, version: str) -> None:
    """Java checks that the certificate is for it. It sends only names with a dot."""
    names: list[str | None] = []
    good = stage.server(stage.certificates["good"])

    def choose(name: str | None) -> SslAbstractContext | None:
        names.append(name)
        return good if name == GOOD else None

    context = stage.server(sni_callback=choose)
    with stage.java_client(version) as java:
        for asked in (GOOD, HOST):
            with accepted(java, asked) as stream:
                stream.start_tls(context)
                java.answer()
    assert names == [GOOD, None]


@each_side
def test_without_a_common_version_both_sides_say_so(stage: Stage, java_is: str) -> None:
    with expect(SslVersionOrCipherMismatch) as caught:
        if java_is == "server":
            with stage.java_server("TLSv1.2") as (java, port):
                java.tell("accept")
                try:
                    opened(port, stage.client(protocol_version="tls-v1-3"))
                finally:
                    assert java.failure().kind == "SSLHandshakeException"
        else:
            with stage.java_client("TLSv1.2") as java, accepted(java) as stream:
                try:
                    stream.start_tls(stage.server(protocol_version="tls-v1-3"))
                finally:
                    assert "protocol_version" in java.failure().why
    assert "the TLS handshake with 127.0.0.1" in str(caught.error)


# ---- certificates ----------------------------------------------------------------------------------------


@each_version
@pytest.mark.parametrize("name", ["wrong host", "untrusted root", "self-signed", "expired", "missing intermediate"])
def test_a_bad_certificate_of_a_java_server_is_refused(stage: Stage, version: str, name: str) -> None:
    case = CASES[name]
    with stage.jvm.server(stage.certificates[name], versions=version) as (java, port):
        java.tell("accept")
        with until_the_end(open_tcp_stream(ADDRESS, port, read_timeout=PATIENCE)) as stream:
            with expect(SslVerificationFailure) as caught:
                stream.start_tls(stage.client(), host=case.wanted)
            assert caught.error.verify_code == case.verify_code
            assert case.says in str(caught.error)
            told = java.failure()
        assert told.kind == "SSLHandshakeException"
        if version == "TLSv1.2":  # in 1.3 OpenSSL's clients send this alert in the clear, which Java takes for damage
            assert "Received fatal alert: " in told.why


@each_version
@pytest.mark.parametrize("name", ["wrong host", "untrusted root", "self-signed", "expired", "missing intermediate"])
def test_our_server_reports_why_a_java_client_refuses_its_certificate(stage: Stage, version: str, name: str) -> None:
    with stage.java_client(version) as java, accepted(java, GOOD) as stream:
        with expect(SslFailure) as caught:
            stream.start_tls(stage.server(stage.certificates[name]))
        assert "the peer refuses, with the alert 'certificate " in str(caught.error)
        assert "(it does not accept this side's certificate)" in str(
            caught.error
        ) or "(this side's certificate has expired)" in str(caught.error)
        assert java.failure().kind == "SSLHandshakeException"


def test_a_server_goes_on_after_a_java_client_refused_it(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    with start_up_server(lambda stream: stream.write(b"hello"), ssl_ctx=stage.server()) as server:
        with stage.java_client() as java:
            java.tell("connect", server.port, "other.example")
            assert "other.example" in java.failure().why
            java.ask("connect", server.port, HOST)
            assert java.read(9) == b"hello"
        server.terminate(drain=PATIENCE)
    (record,) = caplog.records
    assert "(it does not accept this side's certificate)" in record.getMessage()


@each_version
@pytest.mark.parametrize("clients", ["need", "want"])
def test_a_java_server_gets_our_clients_certificate(stage: Stage, version: str, clients: str) -> None:
    options = {"clients": clients, "trust": stage.certificates.trusted_file}
    with stage.java_server(version, **options) as (java, port):
        java.tell("accept")
        with opened(port, stage.client(stage.certificates["client"])):
            assert java.answer()["peer"] == "CN=Ann"
        if clients == "want":
            java.tell("accept")
            with opened(port, stage.client()):
                assert java.answer()["peer"] == ""


@each_version
@pytest.mark.parametrize("shown", [None, "self-signed"])
def test_a_java_server_that_refuses_our_clients_certificate_is_explained(
    stage: Stage, version: str, shown: str | None
) -> None:
    """In TLS 1.3 the client's handshake is over by then, and the alert comes with the first read."""
    options = {"clients": "need", "trust": stage.certificates.trusted_file}
    context = stage.client(stage.certificates[shown] if shown else None)
    with stage.java_server(version, **options) as (java, port):
        java.tell("accept")
        with expect(SslFailure) as caught:  # noqa: SIM117 (the stream exists in one of the two cases)
            with until_the_end(opened(port, context)) as stream:
                stream.read()
        assert java.failure().kind == "SSLHandshakeException"
    explained = (
        "(it does not accept this side's certificate)",
        "(it cannot use this side's certificate)",
        "(it wants a client certificate: give cert_file and key_file)",
    )
    assert any(words in str(caught.error) for words in explained), str(caught.error)


@each_version
@pytest.mark.parametrize("verify", [True, "try"])
def test_our_server_gets_a_java_clients_certificate(stage: Stage, version: str, verify: bool | str) -> None:
    context = stage.server(verify_callback=verify, openssl_trusted_file=stage.certificates.trusted_file)
    ann = stage.certificates["client"]
    with stage.java_client(version, ann) as java, accepted(java) as stream:
        stream.start_tls(context)
        java.answer()
        certificate = known(stream).certificate
        assert certificate is not None
        assert (certificate.subject, known(stream).chain[0]) == ("Ann", ann.der)
    if verify == "try":
        with stage.java_client(version) as java, accepted(java) as stream:
            stream.start_tls(context)
            java.answer()
            assert known(stream).certificate is None


@each_version
@pytest.mark.parametrize(
    ("shown", "kind", "alerts"),
    [
        (None, SslFailure, ("handshake_failure", "certificate_required")),
        ("self-signed", SslVerificationFailure, ("unknown_ca",)),
    ],
)
def test_a_java_client_whose_certificate_our_server_refuses_hears_why(
    stage: Stage, version: str, shown: str | None, kind: type[SslFailure], alerts: tuple[str, ...]
) -> None:
    context = stage.server(verify_callback=True, openssl_trusted_file=stage.certificates.trusted_file)
    with stage.java_client(version, stage.certificates[shown] if shown else None) as java, accepted(java) as stream:
        with expect(kind):
            stream.start_tls(context)
        java.tell("read", 1)
        assert java.refusal() in alerts


@each_version
def test_the_same_client_hears_why_from_start_up_server_too(stage: Stage, version: str) -> None:
    """Its certificate and what it sends behind it come in packets of their own: some after it has been refused."""
    context = stage.server(verify_callback=True, openssl_trusted_file=stage.certificates.trusted_file)
    with (
        start_up_server(lambda stream: None, ssl_ctx=context) as server,
        stage.java_client(version, stage.certificates["self-signed"]) as java,
    ):
        heard = []
        for _ in range(5):
            java.tell("connect", server.port, HOST)
            java.tell("read", 1)
            heard.append(java.refusal())
        server.terminate(drain=PATIENCE)
    assert heard == ["unknown_ca"] * 5


# ---- ends ------------------------------------------------------------------------------------------------


@each_version
@each_side
def test_our_half_close_in_java(stage: Stage, java_is: str, version: str) -> None:
    """TLS 1.3 (RFC 8446 6.1): Java sees the end, and goes on writing.

    TLS 1.2 (RFC 5246 7.2.1) knows no half close: Java answers with its own end at once, and can write no more. What
    it has written before comes all the same.
    """
    with stage.meet(java_is, version) as (stream, java, _):
        java.write(b"before")
        stream.write(b"all")
        stream.shutdown("output")
        assert java.read(4) == b"all"
        if version == "TLSv1.3":
            java.write(b", after")
            java.ask("shutdownOutput")
            assert stream.read() == b"before, after"
        else:
            with pytest.raises(JavaFailed, match=r"shutdown|closed"):
                java.write(b", after")
            assert stream.read() == b"before"
        stream.close()
        java.ask("close")


@each_version
@each_side
def test_javas_half_close_here(stage: Stage, java_is: str, version: str) -> None:
    """Our side sees a proper end, and goes on writing; Java reads on, also in TLS 1.2."""
    with stage.meet(java_is, version) as (stream, java, _):
        java.write(b"all")
        java.ask("shutdownOutput")
        assert stream.read() == b"all"
        stream.write(b"after")
        stream.flush()
        assert java.read(5) == b"after"
        stream.close()
        assert java.read(1) == b""


@each_version
@each_side
def test_a_close_is_a_proper_end_for_the_other_side(stage: Stage, java_is: str, version: str) -> None:
    with stage.meet(java_is, version) as (stream, java, _):
        java.write(b"bye")
        java.tell("close")
        assert stream.read() == b"bye"
        stream.close()  # before which Java's close() may not be done: it waits for the answer
        java.answer()
    with stage.meet(java_is, version) as (stream, java, _):
        stream.write(b"bye")
        stream.close()
        assert java.read(4) == b"bye"


@each_version
@each_side
@pytest.mark.parametrize("ending", ["cut", "reset"])
def test_javas_end_without_close_notify_is_an_error(stage: Stage, java_is: str, version: str, ending: str) -> None:
    with stage.meet(java_is, version, layered="yes") as (stream, java, _):
        java.write(b"part of")
        assert stream.read_exactly(5) == b"part "
        java.ask(ending)
        with expect(SslError) as caught:
            stream.read_exactly(10)
        if ending == "reset":
            assert isinstance(caught.error, ConnectionResetError)
        else:
            assert "without close_notify; what has come may not be all" in str(caught.error)
        with expect(SslError) as again:
            stream.read()
        assert str(again.error) == str(caught.error)


@each_version
@each_side
def test_our_abort_is_an_error_in_java(stage: Stage, java_is: str, version: str) -> None:
    with stage.meet(java_is, version) as (stream, java, _):
        stream.write(b"part")
        stream.flush()
        assert java.read(4) == b"part"
        stream.abort()
        java.tell("read", 1)
        assert java.failure().kind in ("SocketException", "SSLException")


# ---- bytes -----------------------------------------------------------------------------------------------


@cache
def much() -> bytes:
    return random.Random(7).randbytes(MUCH)


@each_version
@each_side
def test_20_megabytes_both_ways_at_once(stage: Stage, java_is: str, version: str) -> None:
    """In TLS 1.3 Java takes a new key for each megabyte, and wants one of us: reader and writer are both busy then."""
    wire = Wire()
    data = much()
    with stage.meet(java_is, version, told=wire) as (stream, java, seen):

        def send() -> None:
            stream.write(data)
            stream.flush()

        java.tell("echo", MUCH)
        java.tell("shutdownOutput")
        sending = Task(send)
        back = stream.read()
        sending.result()
        wanted = hashlib.sha256(data).hexdigest()
        assert hashlib.sha256(back).hexdigest() == wanted
        assert java.answer() == {"count": str(MUCH), "hash": wanted}
        java.answer()
        stream.close()
        assert java.read(1) == b""
        assert (stream.bytes_sent, stream.bytes_received) == (MUCH, MUCH)
    if version == "TLSv1.3":
        assert "AES" in seen["cipher"]
        assert wire.key_updates["read"] > 10
        assert wire.key_updates["write"] > 10
    else:
        assert wire.key_updates == {"read": 0, "write": 0}


@each_version
@each_side
@pytest.mark.parametrize(
    ("pieces", "options", "size", "records"),
    [
        pytest.param((1,), {}, 3000, {1: 3000}, id="one byte each"),
        pytest.param((1, 499), {}, 3000, {1: 6, 499: 6}, id="one byte, then the rest"),
        pytest.param((), {"packet": 600, "layered": "yes"}, 3000, {540: 5}, id="short"),
        pytest.param((), {}, 30 * 16384, {16384: 30}, id="full"),
    ],
)
def test_whatever_javas_records_are_the_data_is_whole(
    stage: Stage, java_is: str, version: str, pieces: tuple[int, ...], options: Any, size: int, records: dict[int, int]
) -> None:
    """A byte in front of each write is what TLS 1.0 taught Java against BEAST; a record may carry up to 16384.

    In TLS 1.3 Java pads its records. What they carry is told by their lengths nearly enough.
    """
    wire = Wire()
    data = much()[:size]
    with stage.meet(java_is, version, told=wire, **options) as (stream, java, _):
        writing = Task(lambda: java.write(data, *pieces))
        assert stream.read_exactly(size) == data
        writing.result()
    for payload, count in records.items():  # or more: a ticket may be as long
        assert sum(payload < length <= payload + 80 for length in wire.lengths) >= count
    assert max(wire.lengths) <= options.get("packet", 16384 + 256)
