"""start_tls(): TLS on a connection that is in use already, as client and as server."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from pairs import (
    each_way_to_wait,
)
from tls_support import (
    BOTH_VERSIONS,
    HOST,
    V12,
    V13,
    authority,
    certificate,
    client_context,
)
from upgrading import EITHER_SIDE, LINE, READY, SECRET, MakeWaits, Peer, both, meeting

from landline import (
    SocketStream,
    SslError,
    SslFailure,
    SslHandshakeTimeout,
    SslVerificationFailure,
    StreamClosed,
    TextSocketStream,
    create_ssl_client_context,
    open_tcp_stream,
)
from landline.testing.contract.stage import BRIEF, PATIENCE, Task, expect, stall, until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")


# ---- the upgrade ---------------------------------------------------------------------------------------


@BOTH_VERSIONS
@EITHER_SIDE
@each_way_to_wait
def test_a_stream_in_use_goes_on_over_tls(waits: MakeWaits, side: str, version: ssl.TLSVersion) -> None:
    with meeting(side, version, waits) as (stream, peer, start):
        peer.send(LINE)
        assert stream.readline() == LINE
        stream.write(READY)
        upgrade = Task(start)
        peer.hear_line(READY)
        peer.shake()
        assert upgrade.result() is stream
        assert stream.tls is not None
        assert stream.tls.version == {V12: "TLSv1.2", V13: "TLSv1.3"}[version]
        assert stream.tls.server_side is (side == "server")
        stream.write(SECRET)
        stream.flush()
        assert peer.read(len(SECRET)) == SECRET
        peer.say(SECRET * 2)
        assert stream.read_exactly(2 * len(SECRET)) == SECRET * 2
        assert SECRET not in peer.heard
        # Payload only, before and after.
        assert stream.bytes_sent == len(READY) + len(SECRET)
        assert stream.bytes_received == len(LINE) + 2 * len(SECRET)


@pytest.mark.parametrize("ssl_side", [None, "server"])
def test_which_side_comes_from_the_context_unless_it_is_said(ssl_side: str | None) -> None:
    with meeting("server") as (stream, peer, start):
        upgrade = Task(lambda: start(ssl_side=ssl_side))
        peer.shake()
        assert upgrade.result().tls is not None
        assert stream.tls is not None
        assert stream.tls.server_side


def test_a_server_can_have_its_context_made_for_the_call() -> None:
    with meeting("server") as (stream, peer, _start):
        configure = certificate().configure_cert
        upgrade = Task(lambda: stream.start_tls(True, ssl_side="server", ctx_configure_callback=configure))
        peer.shake()
        assert upgrade.result().tls is not None


@EITHER_SIDE
def test_what_is_pending_is_sent_in_the_clear_before_tls_begins(side: str) -> None:
    with meeting(side) as (stream, peer, start):
        stream.write(READY)  # and no flush()
        upgrade = Task(start)
        peer.hear_line(READY)
        peer.shake()
        upgrade.result()


@pytest.mark.parametrize("direction", ["input", "output"])
@pytest.mark.parametrize("text", [False, True], ids=["bytes", "text"])
@EITHER_SIDE
def test_streams_of_one_direction_can_be_upgraded(side: str, text: bool, direction: str) -> None:
    with meeting(side, direction=direction) as (stream, peer, _):
        face = TextSocketStream(stream) if text else stream
        arguments, _session = both(side)
        upgrade = Task(lambda: face.start_tls(**arguments))
        peer.shake()
        assert upgrade.result() is face
        if direction == "input":
            peer.say(b"payload\n")
            assert face.readline() == ("payload\n" if text else b"payload\n")
        else:
            face.buffer.write(SECRET) if isinstance(face, TextSocketStream) else face.write(SECRET)
            face.flush()
            assert peer.read(len(SECRET)) == SECRET


def test_a_text_stream_speaks_tls_after_any_line() -> None:
    with meeting("client") as (stream, peer, _):
        text = TextSocketStream(stream, newline="\r\n")
        text.write("straße\n")
        text.flush()
        peer.send("grün\r\n".encode())
        assert text.readline() == "grün\r\n"
        arguments, _session = both("client")
        upgrade = Task(lambda: text.start_tls(**arguments))
        peer.hear_line("straße\r\n".encode())
        peer.shake()
        assert upgrade.result() is text
        assert text.tls == stream.tls
        peer.say("süß\r\n".encode()[:2])
        with text.deadline(BRIEF), expect(TimeoutError):
            text.readline()
        peer.say("süß\r\n".encode()[2:])
        assert text.readline() == "süß\r\n"


# ---- what was received and not read (STARTTLS injection) -----------------------------------------------


def _unread(stream: SocketStream) -> None:
    stream.unread(stream.read1())


LEFT = {
    "behind a line": lambda stream: stream.unread(stream.readline()),
    "behind a line of many": lambda stream: stream.readline(),
    "behind a count": lambda stream: stream.read_exactly(3),
    "behind an iterator": lambda stream: next(iter(stream)),
    "looked at": lambda stream: stream.peek(),
    "put back": _unread,
}


@EITHER_SIDE
@pytest.mark.parametrize("leave", LEFT.values(), ids=list(LEFT))
def test_leftover_plaintext_is_refused_and_the_stream_is_as_before(
    leave: Callable[[SocketStream], object], side: str
) -> None:
    with meeting(side) as (stream, peer, start):
        injected = b"250 one\r\n250 two\r\n"
        peer.send(injected)
        stream.read_exactly(len(injected))
        stream.unread(injected)
        leave(stream)
        with expect(SslError) as caught:
            start()
        assert str(caught.error).startswith("plaintext before TLS: ")
        assert str(peer.sock.getsockname()[1]) in str(caught.error)
        assert (caught.error.ssl_code, caught.error.operation) == ("leftover", "handshake")
        assert stream.tls is None
        rest = b"".join(iter(stream.read_no_hang, None))
        assert rest
        assert injected.endswith(rest)
        stream.write(READY)
        stream.flush()
        peer.hear_line(READY)  # and no ClientHello before it
        peer.heard.clear()
        upgrade = Task(start)  # now nothing is left over
        peer.shake()
        assert upgrade.result().tls is not None


def test_what_comes_in_the_clear_after_tls_began_is_no_plaintext() -> None:
    with meeting("client") as (stream, peer, start):
        stream.write(SECRET[:3])
        upgrade = Task(start)
        peer.hear_line(SECRET[:3])
        peer.send(b"250 injected a little later\r\n")
        assert "does not speak TLS" in str(upgrade.failure(SslFailure))
        with expect(SslFailure):
            stream.readline()


@BOTH_VERSIONS
@pytest.mark.parametrize("arrived", [1, 5, 60, None])
def test_bytes_in_the_buffer_can_be_handed_over_as_the_beginning_of_tls(
    arrived: int | None, version: ssl.TLSVersion
) -> None:
    # RFC-less but usual: a line of a proxy and the client's first record in one packet.
    with meeting("server", version) as (stream, peer, start):
        hello = peer.flight()
        peer.send(b"PROXY TCP4 192.0.2.1\r\n" + hello[:arrived])
        assert stream.readline() == b"PROXY TCP4 192.0.2.1\r\n"
        while len(stream.peek()) < len(hello[:arrived]):
            stream.unread(stream.read_exactly(len(hello[:arrived])))
        upgrade = Task(lambda: start(leftover="tls"))
        if arrived is not None:
            peer.send(hello[arrived:])
        peer.shake()
        assert upgrade.result().tls is not None
        peer.say(SECRET)
        assert stream.read_exactly(len(SECRET)) == SECRET


def test_ciphertext_that_was_handed_over_does_not_count_as_payload() -> None:
    with meeting("server") as (stream, peer, start):
        peer.send(b"PROXY\r\n" + peer.flight())
        stream.readline()
        upgrade = Task(lambda: start(leftover="tls"))
        peer.shake()
        upgrade.result()
        peer.say(SECRET)
        assert stream.read_exactly(len(SECRET)) == SECRET
        assert stream.bytes_received == len(b"PROXY\r\n") + len(SECRET)


def test_a_hello_handed_over_survives_a_handshake_out_of_time() -> None:
    with meeting("server") as (stream, peer, start):
        peer.send(b"PROXY\r\n" + peer.flight())
        stream.readline()
        with expect(SslHandshakeTimeout):
            start(leftover="tls", handshake_timeout=BRIEF)
        peer.shake()
        stream.handshake()
        assert stream.tls is not None


def test_leftover_that_is_no_tls_is_a_handshake_that_failed() -> None:
    with meeting("server") as (stream, peer, start):
        peer.send(LINE + b"MAIL FROM:<injected@example>\r\n")
        stream.readline()
        with expect(SslFailure):
            start(leftover="tls")
        with expect(SslFailure):
            stream.readline()


def test_a_line_of_text_and_a_hello_in_one_packet() -> None:
    with meeting("server") as (stream, peer, _):
        text = TextSocketStream(stream)
        peer.send("grün\n".encode() + peer.flight())
        assert text.readline() == "grün\n"
        arguments, _session = both("server")
        with expect(SslError):
            text.start_tls(**arguments)
        upgrade = Task(lambda: text.start_tls(**arguments, leftover="tls"))
        peer.shake()
        assert upgrade.result().tls is not None


TEXT_LEFT: dict[str, tuple[Callable[[TextSocketStream], object], str]] = {
    "decoded": (lambda text: text.unread(text.read(3)), "eins\nzwei\n"),
    "half a line": (lambda text: text.readline(2), "ns\nzwei\n"),
    "a line": (lambda text: text.readline(), "zwei\n"),
    "decoded lines": (lambda text: text.unread("".join([text.readline(), text.readline()])), "eins\nzwei\n"),
}


@pytest.mark.parametrize(("leave", "rest"), TEXT_LEFT.values(), ids=list(TEXT_LEFT))
def test_characters_left_over_are_refused_and_can_still_be_read(
    leave: Callable[[TextSocketStream], object], rest: str
) -> None:
    with meeting("client") as (stream, peer, _):
        text = TextSocketStream(stream)
        peer.send(b"eins\nzwei\n")
        leave(text)
        arguments, _session = both("client")
        with expect(SslError) as caught:
            text.start_tls(**arguments)
        assert caught.error.ssl_code == "leftover"
        assert text.tls is None
        assert text.read_exactly(len(rest)) == rest


@pytest.mark.parametrize("leftover", ["refuse", "tls"])
@pytest.mark.parametrize("sent", [b"ab", "aü".encode()[:2]], ids=["a character", "half a character"])
def test_decoded_characters_are_no_tls_even_if_they_are_handed_over(sent: bytes, leftover: Any) -> None:
    with meeting("server") as (stream, peer, _):
        text = TextSocketStream(stream)
        peer.send(sent)
        if sent == b"ab":
            text.unread(text.read_exactly(2))
        else:
            with text.deadline(BRIEF), expect(TimeoutError):
                text.read_exactly(2)
        arguments, _session = both("server")
        with expect(SslError) as caught:
            text.start_tls(**arguments, leftover=leftover)
        assert caught.error.ssl_code == "leftover"
        peer.send("ü".encode()[1:])
        assert text.read_exactly(1) == "a"


# ---- wrong arguments, wrong moments --------------------------------------------------------------------

WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "leftover": ({"leftover": "keep"}, ValueError, "leftover='keep' is not allowed"),
    "ssl_side": ({"ssl_side": "both"}, ValueError, "ssl_side='both' is not allowed"),
    "no context": ({"ssl_ctx": None}, ValueError, "ssl_ctx=None is not allowed"),
    "no context, server": ({"ssl_ctx": None, "ssl_side": "server"}, ValueError, "ssl_ctx=None is not allowed"),
    "a context of another kind": ({"ssl_ctx": 7}, TypeError, "ssl_ctx"),
    "a version that is refused": ({"ssl_ctx": "v3"}, ValueError, "v3"),
    "a server without a certificate": ({"ssl_ctx": True, "ssl_side": "server"}, ValueError, "needs a certificate"),
    "the other side's context": ({"ssl_side": "server"}, ValueError, "PROTOCOL_TLS_CLIENT"),
    "host": ({"host": "a..b"}, ValueError, "host='a..b' is not allowed"),
    "host of another type": ({"host": b"peer"}, TypeError, "host=b'peer' is not allowed"),
    "handshake_timeout": ({"handshake_timeout": -1}, ValueError, "handshake_timeout=-1"),
    "a callback": ({"ssl_configure_callback": 7}, TypeError, "ssl_configure_callback=7"),
    "tlsext_host_name": ({"tlsext_host_name": 7}, TypeError, "tlsext_host_name"),
}


@pytest.mark.parametrize(("wrong", "kind", "says"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_argument_changes_nothing(wrong: dict[str, Any], kind: type[Exception], says: str) -> None:
    with meeting("client") as (stream, peer, start):
        stream.write(READY)
        with expect(kind) as caught:
            start(**wrong)
        assert says in str(caught.error)
        assert stream.tls is None
        assert stream.bytes_sent == 0
        stream.flush()
        peer.hear_line(READY)
        upgrade = Task(start)
        peer.shake()
        upgrade.result()


def test_without_an_address_somebody_must_say_whom_the_certificate_is_for() -> None:
    arguments, session = both("client")
    near, far = socket.socketpair()
    with far, SocketStream(near) as stream:
        peer = Peer(far, session)
        with expect(ValueError) as caught:
            stream.start_tls(arguments["ssl_ctx"])
        assert "host=None is not allowed" in str(caught.error)
        upgrade = Task(lambda: stream.start_tls(**arguments))
        peer.shake()
        assert upgrade.result().tls is not None


def test_tls_over_tls_is_refused() -> None:
    with meeting("client") as (stream, peer, start):
        upgrade = Task(start)
        peer.shake()
        upgrade.result()
        with expect(ValueError) as caught:
            start()
        assert "TLS is active on this stream already" in str(caught.error)
        peer.say(SECRET)
        assert stream.read_exactly(len(SECRET)) == SECRET


def test_a_closed_stream_cannot_be_upgraded() -> None:
    with meeting("client") as (stream, _, start):
        stream.close()
        for call in (start, stream.handshake):
            with expect(StreamClosed):
                call()


@EITHER_SIDE
@pytest.mark.parametrize("direction", ["input", "output", "io"])
def test_a_direction_that_was_shut_down_cannot_speak_tls(direction: Any, side: str) -> None:
    with meeting(side) as (stream, peer, start):
        stream.shutdown(direction)
        with expect(StreamClosed):
            start()
        assert stream.tls is None
        if direction == "input":
            stream.write(READY)
            stream.flush()
            peer.hear_line(READY)
        else:
            assert peer.hear_all() == b""


def test_while_another_thread_reads_or_writes_nothing_is_upgraded() -> None:
    with meeting("client") as (stream, peer, start):
        reading = Task(lambda: stream.read_exactly(3)).blocked()
        with expect(ValueError) as caught:
            start()
        assert "another thread is reading" in str(caught.error)
        peer.send(b"abc")
        assert reading.result() == b"abc"
        written = stall(stream)
        writing = Task(stream.flush).blocked()
        with expect(ValueError) as caught:
            start()
        assert "another thread is writing" in str(caught.error)
        assert stream.tls is None
        while len(peer.heard) < written:
            peer.heard += peer.sock.recv(1 << 20)
        writing.result()
        assert peer.heard == bytes(written)


# ---- whom the certificate must be for ------------------------------------------------------------------


@pytest.mark.parametrize("opened", [True, False], ids=["opened by name", "a socket of one's own"])
def test_the_host_asked_for_is_checked_or_else_the_peers_address(opened: bool) -> None:
    name = "localhost" if opened else "127.0.0.1"
    trusting, serving = client_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate(name).configure_cert(serving)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        for host, right in ((None, True), (name, True), (HOST, False)):
            if opened:
                stream = open_tcp_stream("localhost", address[1], ipv6=False)
            else:
                stream = SocketStream(socket.create_connection(address))
            with SocketStream(listener.accept()[0]) as server, stream:
                serve = Task(partial(server.start_tls, serving))
                upgrade = Task(partial(stream.start_tls, trusting, host=host))
                if right:
                    tls = upgrade.result().tls
                    assert tls is not None
                    assert (tls.checked_name, tls.verify().ok) == (name, True)
                    serve.result()
                else:
                    assert "it is not for 'peer.example'" in str(upgrade.failure(SslVerificationFailure))
                    stream.abort()


# ---- callbacks -----------------------------------------------------------------------------------------


def test_callbacks_run_the_contexts_first_then_the_sessions_then_tls_begins() -> None:
    with meeting("client") as (stream, peer, _):
        called: list[type] = []

        def configure_context(context: ssl.SSLContext) -> None:
            authority().configure_trust(context)
            called.append(type(context))

        def configure_session(session: ssl.SSLObject) -> None:
            assert session.version() is None
            called.append(type(session))

        upgrade = Task(
            lambda: stream.start_tls(
                host=HOST, ctx_configure_callback=configure_context, ssl_configure_callback=configure_session
            )
        )
        peer.shake()
        upgrade.result()
        assert [issubclass(one, kind) for one, kind in zip(called, (ssl.SSLContext, ssl.SSLObject), strict=True)]


@pytest.mark.parametrize("which", ["ctx_configure_callback", "ssl_configure_callback"])
def test_a_callback_that_raises_leaves_the_stream_in_the_clear(which: str) -> None:
    with meeting("client") as (stream, peer, _):

        def raising(_: object) -> None:
            raise ZeroDivisionError("of the callback")

        callbacks: dict[str, Any] = {which: raising}
        with expect(ZeroDivisionError):
            stream.start_tls(host=HOST, **callbacks)
        assert stream.tls is None
        stream.write(READY)
        stream.flush()
        peer.hear_line(READY)
        arguments, _session = both("client")
        upgrade = Task(lambda: stream.start_tls(**arguments))
        peer.shake()
        upgrade.result()


@pytest.fixture(scope="module")
def trusted_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("trust") / "root.pem"
    authority().cert_pem.write_to_path(str(path))
    return str(path)


def test_the_verify_callback_is_asked_last_and_may_refuse(trusted_file: str) -> None:
    for answer in (True, False):
        asked: list[object] = []

        def verify(stream: SocketStream, asked: list[object] = asked, answer: bool = answer) -> bool:
            assert stream.tls is not None
            asked.append(stream)
            return answer

        context = create_ssl_client_context(openssl_trusted_file=trusted_file, verify_callback=verify)
        with meeting("client", V12) as (stream, peer, _):
            upgrade = Task(lambda: stream.start_tls(context, host=HOST))  # noqa: B023
            peer.shake()
            if answer:
                assert upgrade.result().tls is not None
            else:
                assert "verify_callback refused" in str(upgrade.failure(SslVerificationFailure))
                with expect(SslVerificationFailure):
                    stream.read(1)
                with expect(SslVerificationFailure):
                    stream.handshake()
            assert asked == [stream]


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("during", ["ssl_configure_callback", "verify_callback"])
def test_closing_while_a_callback_runs_ends_the_upgrade_too(during: str, end: str, trusted_file: str) -> None:
    with meeting("client", V12) as (stream, peer, _):
        ending: list[Task[Any]] = []

        def callback(_: object) -> bool:
            ending.append(Task(getattr(stream, end)))
            until(lambda: stream.closed)
            ending[0].blocked()
            return True

        ours: dict[str, Any] = {during: callback}
        verify = ours.pop("verify_callback", None)
        context = create_ssl_client_context(openssl_trusted_file=trusted_file, verify_callback=verify)
        upgrade = Task(lambda: stream.start_tls(context, host=HOST, handshake_timeout=PATIENCE, **ours))
        if during == "verify_callback":
            peer.shake()
        upgrade.failure(StreamClosed)
        ending[0].result()
        for call in (lambda: stream.write(SECRET), lambda: stream.read(1), stream.flush, stream.handshake):
            with expect(StreamClosed):
                call()
        assert SECRET not in peer.hear_all()
