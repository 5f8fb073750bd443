"""openssl's own s_server, and s_client where both directions are alike: what two sides have to agree upon.

(Our server: test_tls_openssl_server.py; large transfers and what may interrupt them: test_tls_openssl_duplex.py.)
"""

from __future__ import annotations

import gc
import ssl
from pathlib import Path
from typing import Any

import pytest
from certificates import (
    matrix,  # noqa: F401 - the fixture `certificates`
)
from tls_daemons import (
    ADDRESS,
    BIG,
    BOTH_VERSIONS,
    HELLO_REQUEST,
    HOST,
    OPTIONS,
    Parties,
    Program,
    accepted,
    digits,
    exchange,
    greet,
    opened,
    parties_fixture,  # noqa: F401 - the fixture `parties`
    s_server,
    secrets,
    send,
)

from landline import (
    SocketStream,
    SslError,
    SslFailure,
    SslVersionOrCipherMismatch,
    StreamClosed,
)
from landline.errors import SslVerificationFailure
from landline.testing.contract.stage import Task, expect, until
from landline.tls.contexts import default_context

pytestmark = [pytest.mark.usefixtures("no_leaks", "quick_leak_checks"), pytest.mark.peer("openssl")]

DOWN = digits(BIG, seed=2)


# ---- our client: what is agreed upon -------------------------------------------------------------


@BOTH_VERSIONS
def test_both_sides_name_the_same_version_cipher_and_certificates(version: str, parties: Parties) -> None:
    with s_server(parties, version) as (server, port), opened(port, parties.client_context()) as stream:
        exchange(stream, server)
        assert stream.tls is not None
        assert stream.tls.version == f"TLSv{version}"
        assert f"\nCIPHER is {stream.tls.cipher}\n".encode() in server.out
        assert stream.tls.chain[:2] == parties.server.chain_der
        assert stream.tls.verify().ok


@BOTH_VERSIONS
def test_tls_begins_on_a_live_stream(version: str, parties: Parties) -> None:
    with s_server(parties, version) as (server, port), opened(port, None) as stream:
        stream.start_tls(parties.client_context())
        assert stream.tls is not None
        assert (stream.tls.checked_name, stream.tls.sni) == (HOST, HOST)
        exchange(stream, server)


@BOTH_VERSIONS
def test_a_session_is_resumed(version: str, parties: Parties) -> None:
    """Of a context of ours from the second connection on; of a user's own from the third on."""
    theirs = ssl.create_default_context(cafile=parties.trusted_file)
    with s_server(parties, version, "-rev") as (_, port):
        for context, wanted in ((parties.client_context(), [False, True, True]), (theirs, [False, False, True])):
            reused = []
            for _ in range(3):
                with opened(port, context) as stream:
                    stream.write(b"abc\n")
                    assert stream.readline() == b"cba\n"
                    assert stream.tls is not None
                    assert stream.tls.verify().ok
                    assert stream.tls.chain[0] == parties.server.der
                    reused.append(stream.tls.session_reused)
            assert reused == wanted


@BOTH_VERSIONS
@pytest.mark.parametrize(("offered", "agreed"), [(["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "h2"), ([], None)])
def test_a_protocol_is_agreed_upon(version: str, offered: list[str], agreed: str | None, parties: Parties) -> None:
    with (
        s_server(parties, version, "-alpn", "h2,http/1.1") as (_, port),
        opened(port, parties.client_context(alpn=offered)) as stream,
    ):
        assert stream.tls is not None
        assert stream.tls.alpn == agreed


@BOTH_VERSIONS
def test_a_server_that_speaks_none_of_the_protocols_refuses(version: str, parties: Parties) -> None:
    with s_server(parties, version, "-alpn", "h2") as (_, port), expect(SslFailure) as caught:
        opened(port, parties.client_context(alpn=["spdy/3"]))
    assert "none of the protocols that were offered" in str(caught.error)


def set_highest(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("version", "options", "more"),
    [
        ("1.2", (), {"protocol_version": "tls-v1-3"}),
        ("1.3", (), {"openssl_ctx_configure_callback": set_highest}),
        ("1.2", ("-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"), {"ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384"}),
    ],
    ids=["theirs is too old", "ours is too old", "ciphers"],
)
def test_no_common_version_or_cipher(version: str, options: Any, more: Any, parties: Parties) -> None:
    with s_server(parties, version, *options) as (_, port), expect(SslVersionOrCipherMismatch):
        opened(port, parties.client_context(**more))


def test_key_log_of_a_client(parties: Parties, tmp_path: Path) -> None:
    """SSLKEYLOGFILE, for ssl_ctx=True and for an abstract context: the very secrets that the server knows."""
    for version in OPTIONS:
        for kind in ("default", "abstract"):
            ours, theirs = tmp_path / f"ours {kind} {version}", tmp_path / f"theirs {kind} {version}"
            with (
                pytest.MonkeyPatch.context() as environment,
                s_server(parties, version, "-keylogfile", theirs) as (server, port),
            ):
                environment.setenv("SSL_CERT_FILE", parties.trusted_file)
                environment.setenv("SSLKEYLOGFILE", str(ours))
                with opened(port, True if kind == "default" else parties.client_context()) as stream:
                    exchange(stream, server)
            assert secrets(ours) == secrets(theirs)
    default_context()  # which lets go of the file
    gc.collect()


# ---- our client: names ---------------------------------------------------------------------------

NOT_GIVEN = object()


def second(parties: Parties) -> tuple[str, ...]:
    """s_server's options with which it shows another certificate to who asks for that name."""
    return ("-servername", "second.example", "-cert2", parties.second.cert_file, "-key2", parties.second.key_file)


@pytest.mark.parametrize(
    ("host", "given", "of_context", "sent"),
    [
        (HOST, NOT_GIVEN, NOT_GIVEN, HOST),
        (HOST, True, NOT_GIVEN, HOST),
        (HOST, "other.example", NOT_GIVEN, "other.example"),
        (HOST, None, NOT_GIVEN, None),
        (HOST, False, NOT_GIVEN, None),
        (ADDRESS, NOT_GIVEN, NOT_GIVEN, None),
        (0x7F000001, NOT_GIVEN, NOT_GIVEN, None),
        (ADDRESS, True, NOT_GIVEN, None),
        (ADDRESS, "other.example", NOT_GIVEN, "other.example"),
        (HOST, NOT_GIVEN, "own.example", "own.example"),
        (ADDRESS, NOT_GIVEN, "own.example", "own.example"),
        (HOST, True, "own.example", HOST),
        (HOST, "other.example", "own.example", "other.example"),
        (HOST, None, "own.example", None),
        (HOST, NOT_GIVEN, None, None),
    ],
)
@BOTH_VERSIONS
def test_the_name_that_is_sent(
    version: str, host: Any, given: Any, of_context: Any, sent: str | None, parties: Parties
) -> None:
    """Every value of tlsext_host_name; and whatever is sent, the certificate was checked for the host asked for.

    To other names than its own s_server answers with a warning in TLS 1.2 (unrecognized_name), which means nothing.
    """
    asked = {} if given is NOT_GIVEN else {"tlsext_host_name": given}
    context = parties.client_context(**({} if of_context is NOT_GIVEN else {"tlsext_host_name": of_context}))
    with s_server(parties, version, "-tlsextdebug", *second(parties)) as (server, port):
        with opened(port, context, host, **asked) as stream:
            exchange(stream, server)
            assert stream.tls is not None
            assert stream.tls.sni == sent
            assert stream.tls.checked_name == (HOST if str(host).startswith(HOST) else ADDRESS)
        assert (b'client extension "server name"' in server.out) == (sent is not None)
        if sent is not None:
            assert f'Hostname in TLS extension: "{sent}"\n'.encode() in server.out


@BOTH_VERSIONS
def test_a_good_certificate_for_the_name_sent_is_not_enough(version: str, parties: Parties) -> None:
    with s_server(parties, version, *second(parties)) as (_, port), expect(SslVerificationFailure) as caught:
        opened(port, parties.client_context(), tlsext_host_name="second.example")
    assert f"it is not for {HOST!r}" in str(caught.error)
    assert "second.example" in str(caught.error)


# ---- client certificates -------------------------------------------------------------------------


def demanding(parties: Parties) -> tuple[str, ...]:
    """s_server's options with which it wants a certificate that `parties` trust."""
    return ("-Verify", "3", "-verify_return_error", "-CAfile", parties.trusted_file)


@BOTH_VERSIONS
def test_a_server_that_wants_our_certificate_gets_it(version: str, parties: Parties) -> None:
    with (
        s_server(parties, version, *demanding(parties)) as (server, port),
        opened(port, parties.client_context(parties.ann)) as stream,
    ):
        exchange(stream, server)
        assert b"subject=CN = Ann\n" in server.out


@pytest.mark.parametrize(("version", "command"), [("1.2", b"R\n"), ("1.3", b"c\n")])
def test_a_server_that_asks_for_our_certificate_later(version: str, command: bytes, parties: Parties) -> None:
    """By a renegotiation; in TLS 1.3 by itself (RFC 8446, 4.6.2). The read that meets it gives the answer."""
    context = ssl.create_default_context(cafile=parties.trusted_file)
    context.load_cert_chain(parties.ann.cert_file, parties.ann.key_file)
    context.post_handshake_auth = True
    options = ("-state", "-no_resumption_on_reneg", "-CAfile", parties.trusted_file)
    with s_server(parties, version, *options) as (server, port), opened(port, context) as stream:
        exchange(stream, server)
        assert b"CN = Ann" not in server.err
        server.type(command)
        server.noted(b"write certificate request" if version == "1.3" else HELLO_REQUEST)
        reading = Task(stream.readline)
        server.noted(b"depth=0 CN = Ann")
        server.type(b"33333\n")
        assert reading.result() == b"33333\n"


@pytest.mark.parametrize("write_first", [False, True], ids=["read", "write"])
@pytest.mark.parametrize("who", ["nobody", "eve"])
@BOTH_VERSIONS
def test_a_server_that_refuses_our_certificate(version: str, who: str, write_first: bool, parties: Parties) -> None:
    """In TLS 1.3 the client is done before the server has seen its certificate: the first read tells."""
    context = parties.client_context(parties.eve if who == "eve" else None)
    with (
        s_server(parties, version, *demanding(parties)) as (_, port),
        expect(SslFailure) as caught,
        opened(port, context) as stream,
    ):
        assert version == "1.3"
        if write_first:
            stream.write(b"not for anybody\n")
        stream.read1()
    said = str(caught.error)
    if who == "eve":
        assert "it does not trust the authority that signed this side's certificate" in said
    elif version == "1.3":  # the alert of TLS 1.2 gives no reason
        assert "it wants a client certificate" in said


# ---- half close, the end of TLS, truncation ------------------------------------------------------


@BOTH_VERSIONS
def test_our_output_ends_and_20_megabytes_still_come(version: str, parties: Parties, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DOWN)
    with (
        s_server(parties, version, "-WWW", folder=tmp_path) as (_, port),
        opened(port, parties.client_context()) as stream,
    ):
        stream.write(b"GET /file HTTP/1.0\r\n\r\n")
        stream.shutdown("output")
        answer = stream.read()
        with expect(StreamClosed):
            stream.write(b"more")
    assert answer.partition(b"\r\n\r\n")[2] == DOWN


@BOTH_VERSIONS
def test_our_output_ends_as_a_server(version: str, parties: Parties) -> None:
    """s_client stops when it hears of it: what it has sent by then is read, up to its own proper end."""
    with accepted(parties, version) as (stream, client):
        stream.start_tls(parties.server_context())
        typing = Task(lambda: client.type(DOWN)).blocked()
        stream.shutdown("output")
        came = stream.read()
        assert came
        assert DOWN.startswith(came)
        typing.failure(BrokenPipeError)


@BOTH_VERSIONS
def test_the_peer_ends_first_and_we_write_on(version: str, parties: Parties) -> None:
    with s_server(parties, version, "-rev") as (_, port), opened(port, parties.client_context()) as stream:
        stream.write(b"abc\nCLOSE\n")
        assert stream.read() == b"cba\n"
        send(stream, b"more")
        assert stream.bytes_sent == len(b"abc\nCLOSE\nmore")
    with accepted(parties, version, commands=True) as (stream, client):
        stream.start_tls(parties.server_context())
        client.type(b"abc\n")
        client.end_input()
        assert stream.read() == b"abc\n"
        send(stream, b"more")


@BOTH_VERSIONS
def test_tls_ends_and_the_connection_stays(version: str, parties: Parties) -> None:
    """openssl ends the connection itself then, without another byte."""
    with s_server(parties, version) as (server, port), opened(port, parties.client_context()) as stream:
        greet(stream, server)
        stop_tls(stream, server)
    with accepted(parties, version) as (stream, client):
        stream.start_tls(parties.server_context())
        stop_tls(stream, client)


def stop_tls(stream: SocketStream, peer: Program) -> None:
    peer.type(b"7777\n")
    until(stream.input_ready)
    stream.stop_tls()
    assert stream.tls is None
    assert stream.read() == b"7777\n"


@pytest.mark.parametrize("amid", [False, True], ids=["idle", "amid data"])
@BOTH_VERSIONS
def test_a_peer_that_is_killed_is_no_end_of_file(version: str, amid: bool, parties: Parties) -> None:
    with s_server(parties, version) as (server, port), opened(port, parties.client_context()) as stream:
        exchange(stream, server)
        truncated(stream, server, amid)
    with accepted(parties, version) as (stream, client):
        stream.start_tls(parties.server_context())
        exchange(stream, client)
        truncated(stream, client, amid)


def truncated(stream: SocketStream, peer: Program, amid: bool) -> None:
    typing = Task(lambda: peer.type(DOWN)).blocked() if amid else None
    peer.kill()
    if typing is not None:
        typing.failure(BrokenPipeError)
    for _ in range(2):
        with expect(SslError):
            stream.read()
    assert stream.bytes_received < BIG
