"""stop_tls(): a connection that spoke TLS goes on in the clear, with every byte in its place, as often as one likes.

Two kinds of peers: another stream, which does the same at the same time; and the `Peer` of upgrading.py, which
puts into one packet what it wants, behind close_notify too, or does not answer.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pairs import (
    each_way_to_wait,
    stream_pair,
    tls_pair,
)
from tls_support import BOTH_VERSIONS, HOST, V12, V13, client_context, cut, openssl, server_context, taken
from upgrading import SECRET, MakeWaits, Peer, Wire, both, meeting

from landline import (
    LimitOverrun,
    ReadTimeout,
    SocketStream,
    SslError,
    StreamClosed,
    TextSocketStream,
    WriteTimeout,
)
from landline.engine.session import Session
from landline.sync.wait import KernelWaits
from landline.testing.contract.stage import BRIEF, PATIENCE, PROMPT, Task, expect, stall

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

EITHER_SIDE = pytest.mark.parametrize("side", ["client", "server"])

PLAIN = b"in the clear again\n"


@contextmanager
def speaking(
    side: str = "client", version: ssl.TLSVersion = V13, waits: MakeWaits = KernelWaits, **more: Any
) -> Iterator[tuple[SocketStream, Peer]]:
    """A stream after its handshake, and its peer by hand."""
    with meeting(side, version, waits, **more) as (stream, peer, start):
        upgrade = Task(start)
        peer.shake()
        upgrade.result()
        yield stream, peer


@contextmanager
def two(
    waits: MakeWaits = KernelWaits, version: ssl.TLSVersion = V13, server_side: bool = False
) -> Iterator[tuple[SocketStream, SocketStream]]:
    """Two streams that speak TLS."""
    stream, peer = tls_pair(waits, version, server_side)
    try:
        yield stream, peer
    finally:
        stream.abort()
        peer.abort()


def close_notify(peer: Peer) -> bytes:
    """The peer's close_notify, and payload that was written before it."""
    peer.session.close_output()
    return taken(peer.session)


def hear_plain(peer: Peer) -> None:
    """Nothing but close_notify, and PLAIN in the clear behind it."""
    while not peer.heard.endswith(PLAIN):
        peer.hear()
    assert peer.session.read(1) == b""
    assert peer.session.leftover() == PLAIN


# ---- both sides stop -----------------------------------------------------------------------------------


@BOTH_VERSIONS
@EITHER_SIDE
@each_way_to_wait
def test_the_stream_is_plain_again_and_may_speak_tls_again(
    waits: MakeWaits, side: str, version: ssl.TLSVersion
) -> None:
    of_client, of_server = client_context(version), server_context(version)
    stream, peer = stream_pair(waits)
    client, server = (stream, peer) if side == "client" else (peer, stream)
    exchanged = 0
    try:
        for _ in range(4):
            serving = Task(partial(server.start_tls, of_server))
            client.start_tls(of_client, host=HOST)
            serving.result()
            for one, other in ((stream, peer), (peer, stream)):
                one.write(SECRET)
                one.flush()
                assert other.read_exactly(len(SECRET)) == SECRET
            stopping = Task(peer.stop_tls)
            assert stream.stop_tls() is stream
            assert stopping.result() is peer
            for one, other in ((stream, peer), (peer, stream)):
                assert one.tls is None
                one.write(PLAIN)
                one.flush()
                assert other.readline() == PLAIN
            exchanged += len(SECRET + PLAIN)
            for one in (stream, peer):
                assert (one.bytes_sent, one.bytes_received) == (exchanged, exchanged)
        stream.close()
        assert peer.read() == b""
    finally:
        stream.abort()
        peer.abort()


@BOTH_VERSIONS
@each_way_to_wait
def test_what_is_pending_on_either_side_still_comes_through_tls(waits: MakeWaits, version: ssl.TLSVersion) -> None:
    with two(waits, version) as (stream, peer):
        stream.write(b"from here\n")
        peer.write(b"from there\n")
        stopping = Task(peer.stop_tls)
        stream.stop_tls()
        stopping.result()
        peer.write(PLAIN)
        peer.flush()
        assert (stream.readline(), stream.readline()) == (b"from there\n", PLAIN)
        assert peer.readline() == b"from here\n"


SIZES = st.lists(st.integers(0, 40_000), max_size=4)


@settings(max_examples=60)
@given(st.sampled_from([V12, V13]), SIZES, SIZES, SIZES, SIZES, st.integers(0, 50_000), st.booleans())
@example(V13, [0, 16384], [16385], [1], [70_000], 3, True)
@example(V12, [], [], [], [], 0, False)
def test_payload_of_any_sizes_before_and_behind_stays_in_order(
    version: ssl.TLSVersion,
    ours: list[int],
    theirs: list[int],
    our_plain: list[int],
    their_plain: list[int],
    read_before: int,
    server_side: bool,
) -> None:
    def pieces(sizes: list[int], first: int) -> list[bytes]:
        return [bytes([first + number]) * size for number, size in enumerate(sizes)]

    def run(one: SocketStream, sealed: list[bytes], plain: list[bytes], read: int) -> bytes:
        for piece in sealed:
            one.write(piece)
        one.flush()
        got = one.read_exactly(read)
        one.stop_tls()
        for piece in plain:
            one.write(piece)
        one.shutdown("output")
        return got + one.read()

    with two(version=version, server_side=server_side) as (stream, peer):
        sealed, plain = pieces(ours, 1), pieces(our_plain, 11)
        their_sealed, their_behind = pieces(theirs, 21), pieces(their_plain, 31)
        before = min(read_before, sum(theirs))
        other = Task(lambda: run(peer, their_sealed, their_behind, 0))
        assert run(stream, sealed, plain, before) == b"".join(their_sealed + their_behind)
        assert other.result() == b"".join(sealed + plain)
        for one in (stream, peer):
            assert one.bytes_sent + one.bytes_received == sum(ours + theirs + our_plain + their_plain)


# ---- what comes in one packet --------------------------------------------------------------------------


@BOTH_VERSIONS
@EITHER_SIDE
@pytest.mark.parametrize("sizes", [[], [7], [30, 40], [60, 1, 1, 1]], ids=str)
def test_payload_and_plaintext_around_close_notify_keep_their_order(
    sizes: list[int], side: str, version: ssl.TLSVersion
) -> None:
    with speaking(side, version) as (stream, peer):
        peer.session.write(b"sealed\n")
        packet = close_notify(peer) + PLAIN
        for piece in [packet] if not sizes else cut(packet, [*sizes, 9000]):
            peer.send(piece)
        stream.stop_tls()
        assert stream.tls is None
        assert stream.bytes_received >= len(b"sealed\n")
        assert (stream.readline(), stream.readline()) == (b"sealed\n", PLAIN)
        assert stream.bytes_received == len(b"sealed\n" + PLAIN)
        stream.write(PLAIN)
        stream.flush()
        hear_plain(peer)


def test_a_whole_handshake_may_follow_in_the_same_packet() -> None:
    with speaking("server") as (stream, peer):
        behind = close_notify(peer)
        arguments, session = both("server")
        again = Peer(peer.sock, session)
        peer.send(behind + PLAIN + again.flight())
        stream.stop_tls()
        assert stream.readline() == PLAIN
        upgrade = Task(lambda: stream.start_tls(**arguments, leftover="tls"))
        while peer.session.read(100) is None:
            peer.hear()
        again.session.feed(peer.session.leftover())
        again.shake()
        assert upgrade.result().tls is not None
        again.say(SECRET)
        assert stream.read_exactly(len(SECRET)) == SECRET


def test_plaintext_behind_tls_is_left_over_for_the_next_start() -> None:
    with speaking() as (stream, peer):
        peer.send(close_notify(peer) + PLAIN)
        stream.stop_tls()
        arguments, _session = both("client")
        with expect(SslError) as caught:
            stream.start_tls(**arguments)
        assert caught.error.ssl_code == "leftover"
        assert stream.readline() == PLAIN


def test_a_character_may_be_cut_by_the_end_of_tls() -> None:
    with speaking() as (stream, peer):
        text = TextSocketStream(stream)
        character = "ü".encode()
        peer.session.write(b"gr" + character[:1])
        peer.send(close_notify(peer) + character[1:] + b"n\n")
        assert text.read_exactly(1) == "g"
        assert text.stop_tls() is text
        assert text.tls is None
        assert text.readline() == "rün\n"


# ---- pauses --------------------------------------------------------------------------------------------


@BOTH_VERSIONS
@EITHER_SIDE
@each_way_to_wait
def test_a_timeout_is_a_pause_and_the_next_call_goes_on(waits: MakeWaits, side: str, version: ssl.TLSVersion) -> None:
    with speaking(side, version, waits) as (stream, peer):
        stream.write(SECRET)
        stream.read_timeout = BRIEF
        with expect(ReadTimeout):
            stream.stop_tls()
        peer.say(b"one\n")
        with expect(ReadTimeout):
            stream.stop_tls()
        assert stream.tls is not None
        assert stream.readline() == b"one\n"
        with expect(StreamClosed):
            stream.write(b"our close_notify is out")
        with stream.deadline(BRIEF), expect(ReadTimeout):
            stream.stop_tls()
        peer.session.write(b"two\n")
        packet = close_notify(peer) + PLAIN
        for byte in range(len(packet) - len(PLAIN)):
            with expect(ReadTimeout):
                stream.stop_tls()
            peer.send(packet[byte : byte + 1])
            if byte == 10:
                stream.read_timeout = 0
        peer.send(PLAIN)
        stream.read_timeout = PATIENCE
        stream.stop_tls()
        assert (stream.readline(), stream.readline()) == (b"two\n", PLAIN)
        stream.write(PLAIN)
        stream.flush()
        assert peer.read(len(SECRET)) == SECRET


@each_way_to_wait
def test_a_write_timeout_is_a_pause_too(waits: MakeWaits) -> None:
    with two(waits) as (stream, peer):
        stall(stream)
        stream.write_timeout = BRIEF
        with expect(WriteTimeout) as caught:
            stream.stop_tls()
        accepted = caught.error.accepted
        assert caught.error.sent < accepted
        stream.write(b"end\n")  # nothing has ended yet
        stream.write_timeout = None
        stopping = Task(stream.stop_tls)
        received = peer.read(accepted + 4)
        assert received == bytes(accepted) + b"end\n"
        peer.stop_tls()
        stopping.result()
        assert stream.bytes_sent == peer.bytes_received == accepted + 4
        peer.write(PLAIN)
        peer.flush()
        assert stream.readline() == PLAIN


class Flood(Wire):
    """A wire on which the peer may send one ticket after another, and no payload.

    Attributes:
        flooding: the session that does, when it does.
        until: when that has gone on for too long.
    """

    flooding: Session | None = None
    until = 0.0

    def receive(self, size: int, limit: float | None, /) -> bytes | None:
        if self.flooding is None:
            return super().receive(size, limit)
        assert monotonic() < self.until, "the deadline has passed, and nobody looks at it"
        library, session = openssl()._library, openssl()._pointer(self.flooding)
        for _ in range(8):
            assert library.SSL_new_session_ticket(session) == 1
            self.flooding.ssl_object.do_handshake()
        # What had come before is first; the end of a packet is no end of a record.
        return (super().receive(size, 0) or b"") + taken(self.flooding)


@contextmanager
def wired(version: ssl.TLSVersion = V13) -> Iterator[tuple[SocketStream, Peer, Flood]]:
    """A stream that speaks TLS, its peer by hand, and what is between them."""
    with meeting("client", version) as (plain, peer, _):
        wire = Flood(plain.detach())
        stream = SocketStream._over(wire, peer_address=plain.peer_address)
        arguments, _session = both("client", version)
        try:
            upgrade = Task(lambda: stream.start_tls(**arguments))
            peer.shake()
            upgrade.result()
            yield stream, peer, wire
        finally:
            wire.flooding = None
            stream.abort()


@BOTH_VERSIONS
def test_close_notify_alone_may_have_to_wait(version: ssl.TLSVersion) -> None:
    with wired(version) as (stream, peer, wire):
        stream.write(SECRET)
        stream.flush()
        wire.full = True
        for _ in range(2):
            with expect(WriteTimeout) as caught:
                stream.stop_tls()
            assert caught.error.accepted == caught.error.sent == len(SECRET)
            with expect(StreamClosed):
                stream.write(b"too late")
        wire.full = False
        peer.send(close_notify(peer) + PLAIN)
        stream.stop_tls()
        assert stream.readline() == PLAIN
        stream.write(PLAIN)
        stream.flush()
        assert peer.read(len(SECRET)) == SECRET
        hear_plain(peer)


@pytest.mark.parametrize("call", ["stop_tls", "read1"])
def test_a_deadline_holds_against_a_peer_that_sends_on_and_says_nothing(call: str) -> None:
    openssl()
    with wired() as (stream, peer, wire):
        wire.until = monotonic() + PATIENCE / 4
        wire.flooding = peer.session
        with stream.deadline(0.05), expect(ReadTimeout):
            getattr(stream, call)()


# ---- peers that do not stop ----------------------------------------------------------------------------


def _reset(peer: Peer) -> None:
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
    peer.sock.close()


def _break_off(peer: Peer) -> None:
    peer.send(b"\x17\x03\x03")
    peer.sock.shutdown(socket.SHUT_WR)


INSTEAD: dict[str, tuple[Callable[[Peer], object], type[Exception]]] = {
    "the end": (lambda peer: peer.sock.shutdown(socket.SHUT_WR), SslError),
    "the end within a record": (_break_off, SslError),
    "a reset": (_reset, ConnectionResetError),
    "plaintext": (lambda peer: peer.send(PLAIN), SslError),
}


@BOTH_VERSIONS
@pytest.mark.parametrize(("instead", "kind"), INSTEAD.values(), ids=list(INSTEAD))
def test_a_peer_that_ends_in_another_way_is_an_error_and_stays_one(
    instead: Callable[[Peer], object], kind: type[Exception], version: ssl.TLSVersion
) -> None:
    with speaking(version=version) as (stream, peer):
        peer.say(b"before\n")
        assert stream.peek() == b"before\n"
        stopping = Task(stream.stop_tls).blocked()
        instead(peer)
        error = stopping.failure(kind)
        assert isinstance(error, SslError)
        assert stream.tls is not None
        assert stream.readline() == b"before\n"
        for call in (stream.stop_tls, lambda: stream.read(1)):
            with expect(SslError):
                call()
        with expect(StreamClosed):
            stream.write(SECRET)
        stream.close()


def test_a_peer_that_floods_is_left_with_nothing_lost() -> None:
    with two() as (stream, peer):
        size = 40 << 20
        block = bytes(range(256)) * 4096

        def flood() -> None:
            for _ in range(size // len(block)):
                peer.write(block)
            peer.stop_tls()
            peer.write(PLAIN)
            peer.flush()

        flooding = Task(flood)
        received = 0
        for _ in range(2):
            with expect(LimitOverrun) as caught:
                stream.stop_tls()
            assert stream.bytes_received - received > caught.error.limit
            while stream.bytes_received - received >= len(block):
                assert stream.read_exactly(len(block)) == block
                received += len(block)
        stream.stop_tls()
        while received < size:
            assert stream.read_exactly(len(block)) == block
            received += len(block)
        assert stream.readline() == PLAIN
        flooding.result()


# ---- moments -------------------------------------------------------------------------------------------


def test_without_tls_nothing_happens() -> None:
    stream, peer = stream_pair(KernelWaits)
    with stream, peer:
        stream.write(PLAIN)
        peer.write(PLAIN)
        peer.flush()
        reading = Task(lambda: stream.read_exactly(len(PLAIN) + 1)).blocked()
        assert stream.stop_tls() is stream
        peer.write(b"x")
        peer.flush()
        assert reading.result() == PLAIN + b"x"
        assert peer.readline() == PLAIN


def test_after_close_it_is_closed_with_tls_and_without() -> None:
    with speaking() as (secure, _):
        secure.close()
        with expect(StreamClosed):
            secure.stop_tls()
    stream, peer = stream_pair(KernelWaits)
    with peer:
        stream.close()
        with expect(StreamClosed):
            stream.stop_tls()


@BOTH_VERSIONS
def test_either_end_may_have_closed_its_half_before(version: ssl.TLSVersion) -> None:
    with two(version=version) as (stream, peer):
        stream.shutdown("output")
        assert peer.read() == b""
        peer.write(SECRET)
        peer.stop_tls()
        assert stream.read() == SECRET
        stream.stop_tls()
        assert (stream.tls, peer.tls) == (None, None)
        for one, other in ((stream, peer), (peer, stream)):
            one.write(PLAIN)
            one.flush()
            assert other.readline() == PLAIN


def test_without_an_input_side_nobody_can_tell_where_tls_ends() -> None:
    with two() as (stream, _peer):
        stream.shutdown("input")
        for _ in range(2):
            with expect(StreamClosed):
                stream.stop_tls()


@pytest.mark.parametrize("direction", ["input", "output"])
@pytest.mark.parametrize("text", [False, True], ids=["bytes", "text"])
def test_streams_of_one_direction_can_stop_too(text: bool, direction: str) -> None:
    with speaking(direction=direction) as (stream, peer):
        face = TextSocketStream(stream) if text else stream
        peer.send(close_notify(peer))
        assert face.stop_tls() is face
        assert face.tls is None
        if direction == "input":
            peer.send(PLAIN)
            assert stream.readline() == PLAIN


def test_while_another_thread_reads_or_writes_tls_is_not_stopped() -> None:
    with two() as (stream, peer):
        reading = Task(lambda: stream.read_exactly(3)).blocked()
        with expect(ValueError) as caught:
            stream.stop_tls()
        assert "another thread is reading" in str(caught.error)
        peer.write(b"abc")
        peer.flush()
        assert reading.result() == b"abc"
        written = stall(stream)
        writing = Task(stream.flush).blocked()
        with expect(ValueError) as caught:
            stream.stop_tls()
        assert "another thread is writing" in str(caught.error)
        assert peer.read(written) == bytes(written)
        writing.result()
        stopping = Task(peer.stop_tls)
        stream.stop_tls()
        stopping.result()


ENDS: dict[str, Callable[[SocketStream], object]] = {
    "close": lambda stream: stream.close(),
    "abort": lambda stream: stream.abort(),
    "shutdown input": lambda stream: stream.shutdown("input"),
}


@each_way_to_wait
@pytest.mark.parametrize("end", ENDS.values(), ids=list(ENDS))
def test_another_thread_ends_it_within_milliseconds(end: Callable[[SocketStream], object], waits: MakeWaits) -> None:
    took = []
    for _ in range(5):  # one of which has to be prompt, for the machine may be busy
        with two(waits) as (stream, _peer):
            stopping = Task(stream.stop_tls).blocked()
            began = monotonic()
            end(stream)
            stopping.failure(StreamClosed)
            took.append(stopping.ended_at - began)
        if took[-1] <= PROMPT:
            return
    raise AssertionError(f"it ended only after {took} s")
