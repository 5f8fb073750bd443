"""handshake() and the limits of start_tls(): paused, failed, and ended from another thread."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable
from functools import partial
from threading import Event
from time import monotonic

import pytest
from pairs import (
    each_way_to_wait,
)
from tls_support import (
    BOTH_VERSIONS,
    V12,
    V13,
    certificate,
    cut,
    new_server,
    of_version,
    taken,
)
from upgrading import EITHER_SIDE, READY, SECRET, MakeWaits, Peer, Wire, both, meeting, paused

from landline import (
    SocketStream,
    SslClosed,
    SslError,
    SslFailure,
    SslHandshakeTimeout,
    SslVerificationFailure,
    SslVersionOrCipherMismatch,
    StreamClosed,
)
from landline.testing.contract.stage import BRIEF, PATIENCE, PROMPT, Task, expect, stall

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")


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
