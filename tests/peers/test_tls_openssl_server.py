"""openssl's s_client in front of our server: start_up_server(ssl_ctx=...), and start_tls() as the server side.

(What both directions have in common is in test_tls_openssl.py and test_tls_openssl_duplex.py.)
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from certificates import (
    matrix,  # noqa: F401 - the fixture `certificates`
)
from tls_daemons import (
    BOTH_VERSIONS,
    HOST,
    OPTIONS,
    Parties,
    accepted,
    digits,
    exchange,
    parties_fixture,  # noqa: F401 - the fixture `parties`
    s_client,
    secrets,
    shown,
)

from landline import (
    SocketStream,
    SslFailure,
    SslVersionOrCipherMismatch,
    start_up_server,
)
from landline.errors import SslVerificationFailure
from landline.testing.contract.stage import expect, until
from landline.tls.abstract import SslAbstractContext

pytestmark = [pytest.mark.usefixtures("no_leaks", "quick_leak_checks"), pytest.mark.peer("openssl")]

DATA = digits(100_000, seed=3)


# ---- what is agreed upon -------------------------------------------------------------------------


@BOTH_VERSIONS
def test_a_server_tells_its_handler_what_was_agreed_upon(version: str, parties: Parties) -> None:
    seen = []

    def handle(stream: SocketStream) -> None:
        assert stream.tls is not None
        seen.append((stream.tls.version, stream.tls.server_side, stream.tls.certificate, stream.tls.cipher.encode()))
        stream.write(stream.readline())

    with (
        start_up_server(handle, ssl_ctx=parties.server_context()) as server,
        s_client(parties, server.port, OPTIONS[version], "-ign_eof", commands=True) as client,
    ):
        client.type(b"123\n")
        assert client.wait() == 0
    assert client.out == b"123\n"
    assert seen[0][:3] == (f"TLSv{version}", True, None)
    assert b"\nCiphersuite: " + seen[0][3] + b"\n" in client.err
    assert b"\nVerification: OK\n" in client.err


@BOTH_VERSIONS
def test_a_client_resumes_and_its_certificate_is_asked_about_again(
    version: str, parties: Parties, tmp_path: Path
) -> None:
    """The session brings the certificate along, so verify_callback can have changed its mind."""
    asked: list[Any] = []
    answers = iter([True, True, False])

    def verify(stream: SocketStream) -> bool:
        assert stream.tls is not None
        asked.append((stream.tls.session_reused, stream.tls.chain[:1]))
        return next(answers)

    def handle(stream: SocketStream) -> None:
        stream.write(b"hello\n")

    session = tmp_path / "session"
    told = []
    with start_up_server(handle, ssl_ctx=parties.server_context(verify_callback=verify)) as server:
        for option in ("-sess_out", "-sess_in", "-sess_in"):
            with s_client(parties, server.port, OPTIONS[version], option, session, *shown(parties.ann)) as client:
                client.wait()
                told.append(bytes(client.out))
    ann = (parties.ann.der,)
    assert asked == [(False, ann), (True, ann), (True, ann)]
    assert told == [b"hello\n", b"hello\n", b""]


@BOTH_VERSIONS
@pytest.mark.parametrize(
    ("offered", "agreed"),
    [(("-alpn", "h2,http/1.1"), "http/1.1"), (("-alpn", "spdy/3"), None), ((), None)],
    ids=["agreed", "no overlap", "none"],
)
def test_a_protocol_is_agreed_upon(
    version: str, offered: tuple[str, ...], agreed: str | None, parties: Parties
) -> None:
    """A server of ours that shares none goes on without, as Python's ssl has it."""
    with accepted(parties, version, *offered) as (stream, _):
        stream.start_tls(parties.server_context(alpn=["http/1.1"]))
        assert stream.tls is not None
        assert stream.tls.alpn == agreed


@pytest.mark.parametrize(
    ("version", "options", "more"),
    [
        ("1.2", (), {"protocol_version": "tls-v1-3"}),
        ("1.2", ("-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"), {"ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384"}),
        ("1.3", ("-groups", "ffdhe3072"), {"openssl_ctx_configure_callback": lambda made: made.set_ecdh_curve(CURVE)}),
    ],
    ids=["theirs is too old", "ciphers", "groups"],
)
def test_no_common_version_or_cipher(version: str, options: Any, more: Any, parties: Parties) -> None:
    with accepted(parties, version, *options) as (stream, _), expect(SslVersionOrCipherMismatch):
        stream.start_tls(parties.server_context(**more))


CURVE = "prime256v1"


@pytest.mark.parametrize(
    ("version", "options"),
    [
        ("1.2", ("-maxfraglen", "512")),
        ("1.3", ("-maxfraglen", "512")),
        ("1.3", ("-record_padding", "5000")),
        ("1.2", ("-max_send_frag", "600")),
    ],
)
def test_records_of_any_length_are_counted_exactly(version: str, options: tuple[str, ...], parties: Parties) -> None:
    with accepted(parties, version, *options) as (stream, client):
        stream.start_tls(parties.server_context())
        client.type(DATA)
        stream.write(DATA + b"\n")
        stream.flush()
        assert stream.bytes_sent == len(DATA) + 1
        assert stream.read_exactly(len(DATA)) == DATA
        assert stream.bytes_received == len(DATA)
        client.said(b"\n")
        assert client.out == DATA + b"\n"


@BOTH_VERSIONS
def test_starttls_after_a_dialogue_in_the_clear(version: str, parties: Parties) -> None:
    with accepted(parties, version, "-starttls", "smtp", "-name", "client.example") as (stream, client):
        stream.write(b"220 ready\r\n")
        assert stream.readline() == b"EHLO client.example\r\n"
        stream.write(b"250-here\r\n250 STARTTLS\r\n")
        assert stream.readline() == b"STARTTLS\r\n"
        stream.write(b"220 go on\r\n")
        stream.start_tls(parties.server_context())
        assert stream.tls is not None
        assert stream.tls.version == f"TLSv{version}"
        exchange(stream, client)


def test_a_client_cannot_make_our_server_renegotiate(parties: Parties) -> None:
    """It is told so (a warning: no_renegotiation), and openssl gives up then."""
    with accepted(parties, "1.2", "-state", commands=True) as (stream, client):
        stream.start_tls(parties.server_context())
        exchange(stream, client)
        client.type(b"R\n")
        with expect(SslFailure) as caught:
            stream.read1()
        assert "handshake failure" in str(caught.error)
        client.noted(b"alert read:warning:no renegotiation")


# ---- certificates --------------------------------------------------------------------------------


@BOTH_VERSIONS
def test_a_client_that_does_not_trust_us(version: str, parties: Parties) -> None:
    with accepted(parties, version, "-CAfile", parties.eve.cert_file) as (stream, _), expect(SslFailure) as caught:
        stream.start_tls(parties.server_context())
    assert "it does not trust the authority that signed this side's certificate" in str(caught.error)


def everybody(stream: SocketStream) -> bool:
    return True


def nobody(stream: SocketStream) -> bool:
    return False


@pytest.mark.parametrize("verify", [True, "try", everybody, nobody])
@pytest.mark.parametrize("who", ["no one", "ann", "eve"])
@BOTH_VERSIONS
def test_certificates_of_clients(version: str, who: str, verify: Any, parties: Parties) -> None:
    """True: each must show a good one. "try": or none. A function: as True, and it has the last word."""
    options = {"no one": (), "ann": shown(parties.ann), "eve": shown(parties.eve)}[who]
    context = parties.server_context(verify_callback=verify)
    with accepted(parties, version, *options) as (stream, client):
        if who == "ann" and verify is not nobody:
            stream.start_tls(context)
            assert stream.tls is not None
            assert stream.tls.certificate is not None
            assert stream.tls.certificate.subject == "Ann"
            assert stream.tls.verify().ok
            exchange(stream, client)
        elif who == "no one" and verify == "try":
            stream.start_tls(context)
            assert stream.tls is not None
            assert stream.tls.chain == ()
            assert stream.tls.certificate is None
            assert not stream.tls.verify().ok
            exchange(stream, client)
        elif who == "no one":
            with expect(SslFailure) as missing:
                stream.start_tls(context)
            assert "did not return a certificate" in str(missing.error)
        else:
            with expect(SslVerificationFailure) as refused:
                stream.start_tls(context)
            stream.close()
            client.wait()
            assert client.out == b""
            if who == "ann":
                assert refused.error.ssl_code == "verify_callback"
            else:
                assert "unnamed" not in str(refused.error)
                assert b"alert unknown ca" in client.err


@BOTH_VERSIONS
def test_refused_clients_are_logged_and_the_next_one_is_served(
    version: str, parties: Parties, caplog: pytest.LogCaptureFixture
) -> None:
    served = []

    def handle(stream: SocketStream) -> None:
        served.append(stream.tls)
        stream.write(b"hello\n")

    with (
        caplog.at_level(logging.WARNING, "landline.server"),
        start_up_server(handle, ssl_ctx=parties.server_context(verify_callback=True)) as server,
    ):
        for identity in (None, parties.eve, parties.ann):
            options = () if identity is None else shown(identity)
            with s_client(parties, server.port, OPTIONS[version], *options) as client:
                assert (client.wait() == 0) == (identity is parties.ann)
                assert bytes(client.out) == (b"hello\n" if identity is parties.ann else b"")
        until(lambda: len(caplog.records) >= 2)
    assert len(served) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "did not return a certificate" in caplog.records[0].getMessage()
    assert "the client's certificate was refused" in caplog.records[1].getMessage()


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "asked", "shown_is"),
    [
        (("-servername", HOST), HOST, "server"),
        (("-servername", "second.example"), "second.example", "second"),
        (("-noservername",), None, "server"),
        (("-servername", "third.example"), "third.example", None),
    ],
)
@BOTH_VERSIONS
def test_the_name_that_a_client_sends_chooses_the_certificate(
    version: str, option: tuple[str, ...], asked: str | None, shown_is: str | None, parties: Parties
) -> None:
    names = []
    chosen: dict[str | None, SslAbstractContext | None] = {
        HOST: None,
        None: None,
        "second.example": parties.server_context(parties.second),
    }

    def choose(name: str | None) -> SslAbstractContext | None:
        names.append(name)
        return chosen[name]

    wanted = "second.example" if shown_is == "second" else HOST
    with accepted(parties, version, *option, "-verify_hostname", wanted, commands=True) as (stream, client):
        context = parties.server_context(sni_callback=choose)
        if shown_is is None:
            with expect(SslFailure) as refused:
                stream.start_tls(context)
            assert "third.example" in str(refused.error)
            stream.close()
            client.wait()
            assert b"unrecognized name" in client.err
        else:
            stream.start_tls(context)
            exchange(stream, client)
            assert f"\nVerified peername: {wanted}\n".encode() in client.err
    assert names == [asked]


def test_key_log_of_a_server(parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSLKEYLOGFILE, when the context is built: the very secrets that the client knows."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    monkeypatch.setenv("SSLKEYLOGFILE", str(ours))
    context = parties.server_context()
    for version in OPTIONS:
        with accepted(parties, version, "-keylogfile", theirs) as (stream, client):
            stream.start_tls(context)
            exchange(stream, client)
    assert secrets(ours) == secrets(theirs)
