"""One stream over TLS: how it ends in every way there is, what is seen of it on the wire, and what an idle one costs.

What a stream promises in general is the contract's (test_stream_contract.py runs it over TLS too). Here is what only
TLS has: records that are cut, close_notify and what its absence means, tickets that are no data, and the clear text
that nobody but the two ends may see.
"""

from __future__ import annotations

import gc
import os
import socket
import ssl
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from pairs import (
    connect,
    each_way_to_wait,
    tls_pair,
)
from tls_support import (
    BOTH_VERSIONS,
    V13,
    client_context,
    new_client,
    server_context,
    taken,
)
from tls_wire import Bare, MakeWaits, bare_pair, closes_in_vain, recorded_pair, records, reset

from landline import (
    ReadTimeout,
    SocketStream,
    SslError,
    SslHandshakeTimeout,
    StreamClosed,
    WriteTimeout,
)
from landline.testing.contract.reading import EVERY, LONG, send
from landline.testing.contract.stage import BRIEF, PATIENCE, Task, expect, stall

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

MARK = b"what nobody in between may read\n"
BOTH_SIDES = pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])


# ---- truncation ----------------------------------------------------------------------------------------

MESSAGE = [b"a line\n", b"!", b"0123456789" * 300, b"the last line\n"]
"""The payload of its records, which are cut at every boundary, in every header and within every body."""

READS: dict[str, Callable[[SocketStream], object]] = {
    **{name: lambda stream, read=read: read(stream)() for name, read in EVERY.items()},  # type: ignore[misc]
    "read_no_hang": lambda stream: stream.read_no_hang(),
    "iter": list,
}


def cuts(sealed: list[bytes]) -> list[tuple[int, int]]:
    """(where to cut, how many records are whole there), at several places in every record."""
    places, at = [], 0
    for number, record in enumerate(sealed):
        places += [(at + inside, number) for inside in (0, 1, 3, 5, 6, len(record) // 2, len(record) - 1)]
        at += len(record)
    return [*places, (at, len(sealed))]


@BOTH_VERSIONS
@each_way_to_wait
@pytest.mark.parametrize("ending", ["FIN", "RST"])
def test_an_end_without_close_notify_is_an_error_at_every_point_of_a_message(
    waits: MakeWaits, version: ssl.TLSVersion, ending: str
) -> None:
    """What was whole is delivered, then the same SslError again and again; never an end of file."""
    for point in range(len(MESSAGE) * 7 + 1):
        stream, under, bare = recorded_pair(waits, version, server_side=point % 2 == 1, tickets=False)
        with stream, bare:
            sealed = bare.sealed(*MESSAGE)
            place, whole = cuts(sealed)[point]
            wire = bare.tickets + b"".join(sealed)[:place]
            bare.sock.sendall(wire)
            under.has_arrived(len(wire))
            if ending == "FIN":
                bare.sock.shutdown(socket.SHUT_WR)
            else:
                reset(bare.sock)
            came = b""
            with expect(SslError) as caught:
                while True:
                    piece = stream.read1(1000)
                    assert piece, "an end of file"
                    came += piece
            first = caught.error
            assert came == b"".join(MESSAGE[:whole])
            assert isinstance(first, ConnectionResetError) == (ending == "RST")
            assert stream.input_ready(), "a failure is something to read"
            for name in READS if point < 2 else ("whole-readline", "read_no_hang", "iter"):
                with expect(SslError) as caught:
                    READS[name](stream)
                assert type(caught.error) is type(first)
                assert str(caught.error) == str(first)
            with expect(SslError):
                stream.write(MARK)
                stream.flush()
            with suppress(SslError):  # it could not be sent, and the write said so
                stream.close()


@BOTH_VERSIONS
@each_way_to_wait
@pytest.mark.parametrize("ending", ["FIN", "RST"])
def test_what_is_cut_off_is_not_taken_for_the_whole_and_not_lost(
    waits: MakeWaits, version: ssl.TLSVersion, ending: str
) -> None:
    """Half a line is no line; whatever could not be read whole is still there for who wants it."""
    calls: dict[str, Callable[[SocketStream], object]] = {
        "readline": lambda stream: stream.readline(),
        "iteration": lambda stream: next(iter(stream)),
        "read": lambda stream: stream.read(),
        "read_sized": lambda stream: stream.read(100),
        "readinto": lambda stream: stream.readinto(bytearray(100)),
        "read_exactly": lambda stream: stream.read_exactly(100),
        "read_until": lambda stream: stream.read_until(b"\r\n"),
        "readlines": lambda stream: stream.readlines(),
    }
    for call in calls.values():
        stream, bare = bare_pair(waits, version)
        with stream, bare:
            bare.say(b"half a line")
            assert stream.peek() == b"half a line"
            if ending == "FIN":
                bare.sock.shutdown(socket.SHUT_WR)
            else:
                reset(bare.sock)
            for _ in range(2):
                with pytest.raises(SslError):
                    call(stream)
            assert stream.read_no_hang() == b"half a line"
            with pytest.raises(SslError):
                stream.read1()


@BOTH_VERSIONS
@each_way_to_wait
def test_an_end_behind_close_notify_is_an_end(waits: MakeWaits, version: ssl.TLSVersion) -> None:
    """RST or not: when the peer has said that this was all, that is what it was."""
    for ending in ("nothing", "FIN", "RST"):
        stream, under, bare = recorded_pair(waits, version)
        with stream, bare:
            last = b"".join(bare.sealed(*MESSAGE)) + bare.farewell()
            bare.sock.sendall(last)
            under.has_arrived(len(last))
            if ending == "FIN":
                bare.sock.shutdown(socket.SHUT_WR)
            elif ending == "RST":
                reset(bare.sock)
            assert stream.read() == b"".join(MESSAGE)
            for _ in range(2):
                assert stream.read() == stream.read1() == stream.readline() == stream.read_no_hang() == b""
                assert stream.input_ready()


# ---- half close ----------------------------------------------------------------------------------------


@BOTH_VERSIONS
@each_way_to_wait
@BOTH_SIDES
@pytest.mark.parametrize("first", ["stream", "peer"])
def test_either_side_may_close_its_half_first(
    waits: MakeWaits, version: ssl.TLSVersion, server_side: bool, first: str
) -> None:
    """The other one reads the end of file, writes on as long as it likes, and closes its own half later."""
    ends = tls_pair(waits, version, server_side)
    one, other = ends if first == "stream" else ends[::-1]
    with one, other:
        send(other, b"before\n")
        one.write(LONG)
        closing = Task(lambda: one.shutdown("output"))
        assert other.read() == LONG
        closing.result()
        assert other.read() == b""
        for number in range(3):
            send(other, b"%d\n" % number + LONG)
            assert one.readline() == (b"before\n" if not number else b"%d\n" % number)
            if not number:
                assert one.readline() == b"0\n"
            assert one.read_exactly(len(LONG)) == LONG
        with pytest.raises(StreamClosed):
            one.write(b"x")
        other.shutdown("output")
        assert one.read() == b""
        assert other.read() == b""
        one.shutdown("output")


@BOTH_VERSIONS
@each_way_to_wait
def test_both_sides_may_close_their_half_at_once(waits: MakeWaits, version: ssl.TLSVersion) -> None:
    """Each with data of the other under way, and unread: all of it is read, then the end."""
    one, other = tls_pair(waits, version)
    with one, other:
        for end, data in ((one, LONG), (other, LONG[::-1])):
            send(end, data[:100_000])
        for end in (one, other):
            assert end.read_exactly(5) in (LONG[:5], LONG[::-1][:5])
        one.shutdown("output")
        other.shutdown("output")
        assert other.read() == LONG[5:100_000]
        assert one.read() == LONG[::-1][5:100_000]


@BOTH_VERSIONS
@each_way_to_wait
@BOTH_SIDES
def test_half_close_is_close_notify_once_and_no_end_of_tcp(
    waits: MakeWaits, version: ssl.TLSVersion, server_side: bool
) -> None:
    stream, under, bare = recorded_pair(waits, version, server_side=server_side)
    with stream, bare:
        stream.write(MARK)
        stream.shutdown("output")
        stream.shutdown("output")
        assert bare.hear_end() == MARK
        told = len(under.handed)
        assert records(under.handed)[-1].is_alert
        bare.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            bare.sock.recv(1)
        bare.sock.setblocking(True)
        bare.say(b"answer\n")
        assert stream.readline() == b"answer\n"
        if version is V13 and sys.platform == "linux":
            bare.sock.sendall(bare.key_update())
            bare.say(b"with new keys\n")
            assert stream.readline() == b"with new keys\n"
        bare.sock.sendall(bare.farewell())
        assert stream.read() == b""
        stream.close()
        assert bare.end_of_tcp()
        assert len(under.handed) == told, "RFC 8446 6.1: nothing follows close_notify"


@BOTH_VERSIONS
@each_way_to_wait
def test_a_half_close_that_found_no_room_is_gone_on_with(waits: MakeWaits, version: ssl.TLSVersion) -> None:
    """Nothing more can be written then, reading goes on, and shutdown() again tells the peer, once."""
    stream, under, bare = recorded_pair(waits, version)
    with stream, bare:
        send(stream, MARK)
        for room in (0, 7):
            under.room = room
            with pytest.raises(WriteTimeout) as caught:
                stream.shutdown("output")
            assert caught.value.accepted == caught.value.sent == len(MARK)
        with pytest.raises(StreamClosed):
            stream.write(MARK)
        bare.say(b"meanwhile\n")
        assert stream.readline() == b"meanwhile\n"
        under.room = None
        stream.shutdown("output")
        stream.shutdown("output")
        assert bare.hear_end() == MARK
        assert sum(record.is_alert for record in records(under.handed)) == 1


@BOTH_VERSIONS
@each_way_to_wait
def test_a_half_close_waits_for_room_until_write_timeout(waits: MakeWaits, version: ssl.TLSVersion) -> None:
    """A socket that is really full: shut down as often as it takes, and everything arrives before the end."""
    stream, peer = tls_pair(waits, version)
    with stream, peer:
        written = stall(stream)
        stream.write_timeout = BRIEF
        for _ in range(3):
            with pytest.raises(WriteTimeout):
                stream.shutdown("output")
        collecting = Task(peer.read)
        while True:
            with suppress(WriteTimeout):
                stream.shutdown("output")
                break
        assert len(collecting.result()) == written == stream.bytes_sent


@BOTH_VERSIONS
@each_way_to_wait
@pytest.mark.parametrize("room", [None, 0], ids=["room", "full"])
@pytest.mark.parametrize("direction", ["output", "io"])
def test_an_aborting_shutdown_counts_what_the_peer_gets(
    waits: MakeWaits, version: ssl.TLSVersion, room: int | None, direction: Any
) -> None:
    """Part of a write is on its way, the rest is dropped: the peer gets what bytes_sent says, and no more."""
    stream, under, bare = recorded_pair(waits, version)
    with stream, bare:
        stream.write_timeout = 0
        under.room = 40_000
        with pytest.raises(WriteTimeout):
            stream.write(LONG)
        assert 0 < stream.bytes_sent < 40_000
        under.room = room
        stream.shutdown(direction, abort=True)
        came = b""
        while not bare.session.input_closed and (data := bare.sock.recv(1 << 18)):
            bare.session.feed(data)
            while data := bare.session.read(1 << 18) or b"":
                came += data
        assert came == LONG[: len(came)]
        assert len(came) == stream.bytes_sent
        assert room is None or not bare.session.input_closed, "nobody can be told: TCP ends, TLS does not"


@BOTH_VERSIONS
@each_way_to_wait
def test_shutdown_of_the_input_leaves_the_output_sealed(waits: MakeWaits, version: ssl.TLSVersion) -> None:
    """Reads end, writing goes on; what the peer sends meanwhile disturbs nothing."""
    stream, bare = bare_pair(waits, version)
    with stream, bare:
        bare.say(b"read\n")
        assert stream.readline() == b"read\n"
        bare.say(b"unread\n")
        stream.shutdown("input")
        with pytest.raises(StreamClosed):
            stream.readline()
        bare.say(b"nobody reads this\n")
        send(stream, MARK)
        assert bare.hear(len(MARK)) == MARK
        stream.write(MARK)
        stream.shutdown("output")
        assert bare.hear_end() == MARK


# ---- close ---------------------------------------------------------------------------------------------


@BOTH_VERSIONS
@each_way_to_wait
@BOTH_SIDES
@pytest.mark.parametrize("ended", ["nobody", "this side", "the peer", "both"])
def test_close_sends_what_is_pending_then_close_notify_then_the_end_of_tcp(
    waits: MakeWaits, version: ssl.TLSVersion, server_side: bool, ended: str
) -> None:
    """In this order, each once, whoever may have closed a half before."""
    stream, under, bare = recorded_pair(waits, version, server_side=server_side)
    with bare:
        stream.write(MARK)
        if ended in ("this side", "both"):
            stream.shutdown("output")
        if ended in ("the peer", "both"):
            bare.sock.sendall(bare.farewell())
            assert stream.read() == b""
        stream.close()
        assert bare.hear_end() == MARK
        assert bare.end_of_tcp()
        assert [record.is_alert for record in records(under.handed)][-2:] == [False, True]


@BOTH_VERSIONS
@each_way_to_wait
@BOTH_SIDES
def test_close_reads_away_what_nobody_wants_so_that_no_reset_destroys_what_is_under_way(
    waits: MakeWaits, version: ssl.TLSVersion, server_side: bool
) -> None:
    """Tickets (as a client) and payload that have arrived unread; the peer gets all of ours, and an orderly end."""
    stream, under, bare = recorded_pair(waits, version, server_side=server_side, tickets=False)
    with bare:
        unread = bare.tickets + b"".join(bare.sealed(MARK))
        bare.sock.sendall(unread)
        under.has_arrived(len(unread))
        stream.write(LONG)
        stream.close()
        assert bare.hear_end() == LONG
        assert bare.end_of_tcp()
        assert bare.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_a_client_that_writes_and_leaves_before_its_tickets_come_is_read_whole() -> None:
    """The server's tickets meet a closed socket, and RST comes back for them: what the client said is read first."""
    near, far = connect()
    client = Bare(far, new_client(client_context(V13)))
    with SocketStream(near) as stream:
        client.session.handshake()
        far.sendall(taken(client.session))
        with pytest.raises(SslHandshakeTimeout):
            stream.start_tls(server_context(V13), handshake_timeout=BRIEF)
        client.shake()
        client.say(MARK)
        far.sendall(client.farewell())
        far.close()
        stream.handshake(PATIENCE)
        assert stream.read() == MARK
        assert stream.read() == b""


@BOTH_VERSIONS
@each_way_to_wait
def test_close_has_a_limit_for_its_goodbye_and_does_not_fail_for_it(waits: MakeWaits, version: ssl.TLSVersion) -> None:
    """All payload is out, so close() has kept its word. Without room the peer misses close_notify, as it should."""
    for write_timeout, most in ((None, 5.0), (0.01, 0.01), (0, 0)):
        stream, under, bare = recorded_pair(waits, version)
        with bare:
            stream.write_timeout = write_timeout
            send(stream, MARK)
            limits: list[float | None] = []

            def full(data: memoryview | bytes, limit: float | None, limits: list[float | None] = limits) -> int:
                limits.append(limit)
                return 0

            under.send = full
            stream.close()
            assert limits
            assert all(limit is not None and 0 <= limit <= most for limit in limits)
            assert bare.hear(len(MARK)) == MARK
            assert bare.end_of_tcp()


def _leaves_by_exception(stream: SocketStream) -> None:
    stream.write_timeout = 0
    with pytest.raises(WriteTimeout), stream:
        raise KeyError


def _beside_a_writer(stream: SocketStream) -> None:
    writer = Task(stream.flush).blocked()
    stream.close()
    error = writer.failure(StreamClosed)
    assert error.sent == stream.bytes_sent
    assert (error.accepted or 0) > stream.bytes_sent


def _aborts_its_half(stream: SocketStream) -> None:
    stream.shutdown("output", abort=True)
    stream.close()


DROPPING: dict[str, Callable[[SocketStream], object]] = {
    "close": closes_in_vain,
    "exception": _leaves_by_exception,
    "writer": _beside_a_writer,
    "shutdown": _aborts_its_half,
    "abort": lambda stream: stream.abort(),
}


@BOTH_VERSIONS
@each_way_to_wait
@pytest.mark.parametrize("how", DROPPING)
def test_a_peer_that_did_not_get_all_sees_a_truncation(waits: MakeWaits, version: ssl.TLSVersion, how: str) -> None:
    """Whatever dropped the rest: no end of file behind a part, and the part is as long as bytes_sent says."""
    stream, peer = tls_pair(waits, version)
    with peer:
        written = stall(stream)
        DROPPING[how](stream)
        came = 0
        with expect(SslError):
            while piece := peer.read1():
                came += len(piece)
        assert came <= stream.bytes_sent < written
        assert came == stream.bytes_sent or how == "abort", "RST drops what the kernel has not delivered"


@BOTH_VERSIONS
@each_way_to_wait
@pytest.mark.parametrize("room", [None, 0, 10], ids=["room", "full", "nearly full"])
def test_an_unclosed_stream_warns_tells_the_peer_the_truth_and_leaks_nothing(
    waits: MakeWaits, version: ssl.TLSVersion, room: int | None
) -> None:
    """What can be sent without waiting is sent; the peer sees an end if that was all, and a truncation if not."""
    stream, under, bare = recorded_pair(waits, version)
    with bare:
        number = stream.fileno()
        stream.read_timeout = BRIEF
        with pytest.raises(ReadTimeout):
            stream.readline()  # makes whatever is made late
        stream.write(MARK)
        under.room = room
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del stream
            gc.collect()
        assert [warning.category for warning in caught] == [ResourceWarning]
        assert not is_open(number)
        if room is None:
            assert bare.hear_end() == MARK
        assert (room == 10) == (bare.sock.recv(10) != b"")


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
