"""start_tls() and handshake(): TLS on a connection that is in use already, as client and as server.

The stream under test talks to a `Peer`: a session in memory whose ciphertext goes through a socket as the test
wants it, in one packet with something else, late, or never. It keeps what it heard, and that decides whether a
byte went out in the clear.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event
from time import monotonic
from typing import Any

import pytest
from pairs import (
    connect,
    each_way_to_wait,
    over,
    quick_leak_checks,  # noqa: F401 (a fixture is used by its name)
)
from tls_support import (
    BOTH_VERSIONS,
    HOST,
    V12,
    V13,
    authority,
    certificate,
    client_context,
    cut,
    new_client,
    new_server,
    of_version,
    server_context,
    taken,
)

from landline import (
    SocketStream,
    SslClosed,
    SslError,
    SslFailure,
    SslHandshakeTimeout,
    SslVerificationFailure,
    SslVersionOrCipherMismatch,
    StreamClosed,
    TextSocketStream,
    create_ssl_client_context,
    open_tcp_stream,
)
from landline.engine.session import Session
from landline.sync.transport import PlainTransport
from landline.sync.wait import KernelWaits, Waits
from landline.testing.contract.stage import BRIEF, PATIENCE, PROMPT, Task, expect, stall, until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

MakeWaits = Callable[[socket.socket], Waits]

SECRET = b"what must not be seen on the wire"
LINE = b"STARTTLS\r\n"
READY = b"220 ready\r\n"

EITHER_SIDE = pytest.mark.parametrize("side", ["client", "server"])


class Peer:
    """The other end, by hand. ``heard`` is everything that came over the wire."""

    def __init__(self, sock: socket.socket, session: Session) -> None:
        sock.settimeout(PATIENCE)
        self.sock = sock
        self.session = session
        self.heard = bytearray()

    def hear(self) -> None:
        data = self.sock.recv(65536)
        self.heard += data
        self.session.feed(data) if data else self.session.feed_end()

    def hear_line(self, line: bytes) -> None:
        """Exactly this, in the clear; what comes behind it stays in the socket."""
        while len(self.heard) < len(line):
            data = self.sock.recv(len(line) - len(self.heard))
            assert data, bytes(self.heard)
            self.heard += data
        assert self.heard == line

    def hear_all(self) -> bytes:
        """Everything there is until the end, whatever it is."""
        try:
            while data := self.sock.recv(65536):
                self.heard += data
        except ConnectionResetError:
            pass
        return bytes(self.heard)

    def flight(self) -> bytes:
        """What the session has to say next in its handshake, waiting for the other side as long as it takes."""
        while True:
            self.session.handshake()
            if data := taken(self.session):
                return data
            self.hear()

    def send(self, data: bytes = b"") -> None:
        """What waits in the session, or ``data``."""
        self.sock.sendall(data or taken(self.session))

    def shake(self) -> None:
        """The whole handshake, or what is left of it."""
        while not self.session.handshake():
            self.send()
            self.hear()
        self.send()

    def say(self, payload: bytes) -> None:
        self.session.write(payload)
        self.send()

    def read(self, count: int) -> bytes:
        payload = b""
        while len(payload) < count:
            piece = self.session.read(count - len(payload))
            if piece is None:
                self.hear()
            else:
                assert piece, payload
                payload += piece
        return payload


class Wire(PlainTransport):
    """A transport that takes nothing while it is ``full``."""

    full = False

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._sending = self.send
        self.send = lambda data, limit: 0 if self.full else self._sending(data, limit)


def both(side: str, version: ssl.TLSVersion | None = None) -> tuple[dict[str, Any], Session]:
    """Arguments of start_tls() for this side, and the session on the other one."""
    if side == "client":
        return {"ssl_ctx": client_context(version), "host": HOST}, new_server(server_context(version))
    return {"ssl_ctx": server_context(version)}, new_client(client_context(version))


@contextmanager
def meeting(
    side: str, version: ssl.TLSVersion | None = None, waits: MakeWaits = KernelWaits, **more: Any
) -> Iterator[tuple[SocketStream, Peer, Callable[..., SocketStream]]]:
    """A plain stream, its peer, and start_tls() of the stream with what it needs."""
    arguments, session = both(side, version)
    near, far = connect()
    stream = over(near, waits, **more)
    try:
        with far:
            yield stream, Peer(far, session), partial(stream.start_tls, **arguments)
    finally:
        stream.abort()


def paused(start: Callable[..., SocketStream]) -> None:
    """A handshake that was not done in time, for the peer has said nothing."""
    with expect(SslHandshakeTimeout):
        start(handshake_timeout=BRIEF)


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


# ---- a handshake that takes longer than it may ---------------------------------------------------------


@BOTH_VERSIONS
@EITHER_SIDE
@each_way_to_wait
def test_a_handshake_out_of_time_goes_on_and_no_payload_passes_before(
    waits: MakeWaits, side: str, version: ssl.TLSVersion
) -> None:
    with meeting(side, version, waits) as (stream, peer, start):
        paused(start)
        stream.write(SECRET)  # is kept
        for call in (stream.flush, lambda: stream.read(1), stream.read_no_hang):
            with expect(SslError) as caught:
                call()
            assert "handshake() goes on" in str(caught.error)
        with expect(SslHandshakeTimeout):
            stream.handshake(BRIEF)
        for misuse in (stream.detach, start):
            with expect(ValueError):
                misuse()
        upgrade = Task(stream.handshake)
        peer.shake()
        upgrade.result()
        assert stream.tls is not None
        assert stream.bytes_sent == 0
        peer.say(b"answer")
        assert stream.read_exactly(6) == b"answer"  # which sends what is pending, too
        assert peer.read(len(SECRET)) == SECRET
        assert SECRET not in peer.heard


def test_every_write_before_the_handshake_is_done_is_kept() -> None:
    with meeting("client") as (stream, peer, start):
        paused(start)
        big = b"b" * (1 << 17)
        for data in (SECRET, big, SECRET):
            with expect(SslError) as caught:
                stream.write(data)
                stream.flush()
            assert "handshake() goes on" in str(caught.error)
        upgrade = Task(stream.handshake)
        peer.shake()
        upgrade.result()
        flushing = Task(stream.flush)
        assert peer.read(len(big) + 2 * len(SECRET)) == SECRET + big + SECRET
        flushing.result()
        assert SECRET not in peer.heard


@BOTH_VERSIONS
@EITHER_SIDE
def test_a_handshake_may_run_out_of_time_after_every_piece_of_it(side: str, version: ssl.TLSVersion) -> None:
    with meeting(side, version) as (stream, peer, start):
        call: Callable[[], object] = partial(start, handshake_timeout=BRIEF)
        timeouts = 0
        while stream.tls is None:
            try:
                call()
            except SslHandshakeTimeout:
                timeouts += 1
            call = partial(stream.handshake, BRIEF)
            if not peer.session.handshake():
                peer.sock.setblocking(False)
                try:
                    peer.hear()
                except BlockingIOError:
                    pass
                peer.sock.settimeout(PATIENCE)
            for piece in cut(taken(peer.session), [3, 200, 40, 500, 1, 20000]):
                peer.send(piece)
                try:
                    call()
                except SslHandshakeTimeout:
                    timeouts += 1
        assert timeouts > 5
        peer.shake()
        peer.say(SECRET)
        assert stream.read_exactly(len(SECRET)) == SECRET


@pytest.mark.parametrize(  # who says the last word
    ("side", "version"), [("client", V13), ("server", V12)], ids=["client-1.3", "server-1.2"]
)
def test_until_its_last_byte_is_out_the_handshake_is_not_done(side: str, version: ssl.TLSVersion) -> None:
    with meeting(side, version) as (plain, peer, _):
        wire = Wire(plain.detach())
        stream = SocketStream._over(wire, peer_address=plain.peer_address)
        arguments, _session = both(side, version)
        try:
            upgrade = Task(lambda: stream.start_tls(**arguments))
            if side == "server":
                peer.send(peer.flight())
            said = peer.flight()
            wire.full = True
            peer.send(said)
            upgrade.failure(SslHandshakeTimeout)
            told = stream.tls
            with expect(SslError):
                stream.read(1)
            wire.full = False
            stream.handshake()
            assert told is None
            assert stream.tls is not None
        finally:
            stream.abort()


def test_who_comes_during_the_handshake_waits_and_goes_on_over_tls() -> None:
    with meeting("client") as (stream, peer, start):
        upgrade = Task(start).blocked()
        reading = Task(lambda: stream.read_exactly(5)).blocked()
        writing = Task(lambda: stream.write(bytes(1 << 17) + SECRET)).blocked()
        with expect(ValueError) as caught:
            stream.handshake()
        assert "another thread" in str(caught.error)
        peer.shake()
        upgrade.result()
        assert peer.read((1 << 17) + len(SECRET)) == bytes(1 << 17) + SECRET
        writing.result()
        peer.say(b"hello")
        assert reading.result() == b"hello"
        assert SECRET not in peer.heard


def test_handshake_does_nothing_when_it_is_done_and_needs_tls() -> None:
    with meeting("client") as (stream, peer, start):
        with expect(ValueError) as plain:
            stream.handshake()
        assert "TLS is not active" in str(plain.error)
        upgrade = Task(start)
        peer.shake()
        upgrade.result()
        reading = Task(lambda: stream.read(1)).blocked()
        before = bytes(peer.heard)
        stream.handshake()
        stream.handshake(0)
        with expect(ValueError):
            stream.handshake(-1)
        peer.say(b"x")
        assert reading.result() == b"x"
        assert peer.heard == before


WRONG_MOMENT = {
    "stop_tls": lambda stream: stream.stop_tls(),
    "shutdown output": lambda stream: stream.shutdown("output"),
}


@pytest.mark.parametrize("what", WRONG_MOMENT.values(), ids=list(WRONG_MOMENT))
def test_ending_tls_before_it_began_leaves_a_condition_and_no_riddle(what: Callable[[SocketStream], object]) -> None:
    """Either it is refused and changes nothing, or what was ended stays ended and says so."""
    with meeting("client") as (stream, peer, start):
        paused(start)
        ended = True
        try:
            what(stream)
        except (SslError, ValueError):
            ended = False
        upgrade = Task(stream.handshake)
        shaking = Task(peer.shake)
        try:
            upgrade.result()
            shaking.result()
            stream.write(SECRET)
            stream.flush()
        except StreamClosed:
            assert ended
            stream.abort()
        else:
            assert peer.read(len(SECRET)) == SECRET
        finally:
            stream.abort()
            Task(lambda: shaking.failure(OSError) if ended else None)
        assert SECRET not in peer.heard


# ---- how long it may take ------------------------------------------------------------------------------


@EITHER_SIDE
@each_way_to_wait
def test_handshake_timeout_deadline_and_read_timeout_bound_it(waits: MakeWaits, side: str) -> None:
    with meeting(side, waits=waits) as (stream, peer, start):
        with expect(SslHandshakeTimeout) as caught:
            start(handshake_timeout=BRIEF)
        assert f"within handshake_timeout={BRIEF:g} s" in str(caught.error)
        assert (caught.error.operation, caught.error.address) == ("handshake", stream.peer_address)
        assert isinstance(caught.error, TimeoutError)
        stream.read_timeout = BRIEF
        with expect(SslHandshakeTimeout) as caught:
            stream.handshake()
        assert f"within read_timeout={BRIEF:g} s" in str(caught.error)
        for timeout in (None, PATIENCE):
            with stream.deadline(BRIEF), expect(SslHandshakeTimeout) as caught:
                stream.handshake(timeout)
            assert "before the deadline" in str(caught.error)
        with stream.deadline(PATIENCE):  # which is later, and no idle limit counts beside it
            upgrade = Task(stream.handshake).blocked()
            peer.shake()
            upgrade.result()
        assert stream.read_timeout == BRIEF


def test_a_peer_that_drips_is_held_to_the_limit_too() -> None:
    with meeting("client", V12) as (stream, peer, start):
        enough = Event()
        upgrade = Task(lambda: start(handshake_timeout=0.1))
        flight = peer.flight()

        def drip() -> bytes:
            for position in range(len(flight)):
                if enough.wait(0.001):
                    return flight[position:]
                peer.send(flight[position : position + 1])
            raise AssertionError("the handshake waited for all of it")

        dripping = Task(drip)
        upgrade.failure(SslHandshakeTimeout)
        enough.set()
        peer.send(dripping.result())
        going_on = Task(stream.handshake)
        peer.shake()
        going_on.result()


HELLO_REQUEST = bytes.fromhex("1603030004 00000000")
"""Which a client in its handshake has to ignore, however many come (RFC 5246, 7.4.1.1)."""


@pytest.mark.parametrize("bound", ["handshake_timeout", "deadline"])
def test_a_peer_that_floods_is_held_to_the_limit_too(bound: str) -> None:
    with meeting("client", V12) as (stream, peer, start):
        over = Event()

        def flood() -> None:
            try:
                while not over.is_set():
                    peer.send(HELLO_REQUEST * 8000)
            except OSError:
                pass

        flooding = Task(flood)
        try:
            with stream.deadline(0.1 if bound == "deadline" else None):
                upgrade = Task(lambda: start(handshake_timeout=0.1 if bound == "handshake_timeout" else None))
                upgrade.failure(SslHandshakeTimeout)
        finally:
            over.set()
            stream.abort()
            flooding.result()


# ---- a handshake that fails ----------------------------------------------------------------------------

RESET = struct.pack("@ii", 1, 0)


def _reset(peer: Peer) -> None:
    peer.hear()
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    peer.sock.close()


def _other_certificate(peer: Peer) -> None:
    context = of_version(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), V12)
    certificate("other.example").configure_cert(context)
    peer.session = new_server(context)
    peer.send(peer.flight())


FAILING: dict[str, tuple[Callable[[Peer], object], type[Exception]]] = {
    "another protocol": (lambda peer: peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), SslFailure),
    "a broken record": (lambda peer: peer.send(b"\x16\x03\x03\x00\x05wrong"), SslFailure),
    "an alert": (lambda peer: peer.send(bytes.fromhex("15030300020250")), SslFailure),
    "nothing in common": (lambda peer: peer.send(bytes.fromhex("15030300020228")), SslVersionOrCipherMismatch),
    "close_notify": (lambda peer: peer.send(bytes.fromhex("15030300020100")), SslClosed),
    "the end": (lambda peer: peer.sock.shutdown(socket.SHUT_WR), SslError),
    "a reset": (_reset, ConnectionResetError),
    "another's certificate": (_other_certificate, SslVerificationFailure),
}


@pytest.mark.parametrize(("fail", "kind"), FAILING.values(), ids=list(FAILING))
def test_a_failed_handshake_leaves_the_stream_dead_with_the_same_condition(
    fail: Callable[[Peer], object], kind: type[Exception]
) -> None:
    with meeting("client", V12) as (stream, peer, start):
        upgrade = Task(start)
        fail(peer)
        first = upgrade.failure(kind)
        assert stream.tls is None
        stream.write(SECRET)
        for call in (lambda: stream.read(1), stream.flush, stream.read_no_hang, stream.handshake, stream.stop_tls):
            with expect(type(first)) as caught:
                call()
            assert type(caught.error) is type(first)
            assert "goes on" not in str(caught.error)
        with expect(ValueError):
            start()
        with expect(ValueError):
            stream.detach()
        stream.close()
        if kind is not ConnectionResetError:
            assert SECRET not in peer.hear_all()


def test_the_peer_is_told_why_a_certificate_was_refused() -> None:
    with meeting("client", V12) as (stream, peer, start):
        upgrade = Task(start)
        _other_certificate(peer)
        upgrade.failure(SslVerificationFailure)
        peer.hear()
        with pytest.raises(OSError, match="bad certificate"):
            peer.session.handshake()
        assert not peer.session.established
        stream.close()


# ---- ended from another thread -------------------------------------------------------------------------

ENDS: dict[str, Callable[[SocketStream], object]] = {
    "close": lambda stream: stream.close(),
    "abort": lambda stream: stream.abort(),
    "shutdown input": lambda stream: stream.shutdown("input"),
    "shutdown output, abort": lambda stream: stream.shutdown("output", abort=True),
    "shutdown io, abort": lambda stream: stream.shutdown("io", abort=True),
}


@EITHER_SIDE
@each_way_to_wait
@pytest.mark.parametrize("end", ENDS.values(), ids=list(ENDS))
def test_another_thread_ends_a_handshake_within_milliseconds(
    end: Callable[[SocketStream], object], waits: MakeWaits, side: str
) -> None:
    took = []
    for _ in range(5):  # one of which has to be prompt, for the machine may be busy
        with meeting(side, waits=waits) as (stream, peer, start):
            stream.write(READY)
            upgrade = Task(start).blocked()
            began = monotonic()
            end(stream)
            upgrade.failure(StreamClosed)
            took.append(upgrade.ended_at - began)
            stream.abort()
            assert SECRET not in peer.hear_all()
        if took[-1] <= PROMPT:
            return
    raise AssertionError(f"the handshake ended only after {took} s")


@pytest.mark.parametrize("end", ENDS.values(), ids=list(ENDS))
def test_another_thread_ends_the_sending_of_what_is_pending_before_it(end: Callable[[SocketStream], object]) -> None:
    with meeting("client") as (stream, peer, start):
        stall(stream)
        upgrade = Task(start).blocked()
        ending = Task(lambda: end(stream))
        if end is ENDS["shutdown input"]:
            ending.blocked()  # which ends nothing but a receive
        draining = Task(peer.hear_all)
        upgrade.failure(StreamClosed)
        ending.result()
        stream.abort()
        assert SECRET not in draining.result()
