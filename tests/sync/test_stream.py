"""SocketStream, beyond the contract (landline.testing.contract): sockets, descriptors, signals, memory, io."""

from __future__ import annotations

import errno
import gc
import io
import os
import random
import signal
import socket
import sys
import threading
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import pytest
from pairs import (
    connect,
    each_way_to_wait,
    needs_signals,
    over,
    signals,
    stream_pair,
)

from landline import ReadTimeout, SocketAddress, SocketStream, StreamClosed, TextSocketStream, WriteTimeout
from landline.engine.send import SendBuffer
from landline.sync import channel
from landline.sync.wait import PolledWaits, Waits, Wakeup
from landline.testing.contract.reading import EVERY, LINE, NEXT, send
from landline.testing.contract.stage import BRIEF, PATIENCE, Task, stall, standing_still, until
from landline.testing.contract.writing import PATTERN

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

MakeWaits = Callable[[socket.socket], Waits]
Pair = tuple[SocketStream, SocketStream]


@pytest.fixture
def pair(waits: MakeWaits) -> Iterator[Pair]:
    stream, peer = stream_pair(waits)
    yield stream, peer
    stream.abort()
    peer.abort()


@pytest.fixture
def stream(pair: Pair) -> SocketStream:
    return pair[0]


@pytest.fixture
def peer(pair: Pair) -> SocketStream:
    return pair[1]


def main_thread_waits() -> Callable[[], bool]:
    return standing_still(threading.get_ident())


# ---- made from a socket --------------------------------------------------------------------------------


def test_a_stream_knows_its_addresses() -> None:
    near, far = connect()
    with SocketStream(near, read_timeout=1, write_timeout=2) as stream, SocketStream(far) as peer:
        assert stream.local_address == peer.peer_address == SocketAddress.from_sockaddr(near.getsockname())
        assert stream.peer_address == peer.local_address
        assert (stream.read_timeout, stream.write_timeout) == (1, 2)
        assert (peer.read_timeout, peer.write_timeout) == (None, None)
        assert stream.report is None
        assert stream.direction == "io"
        assert str(stream.peer_address) in repr(stream)


def test_wrong_arguments_leave_the_socket_alone() -> None:
    wrong: list[dict[str, Any]] = [{"direction": "both"}, {"read_timeout": -1}, {"write_timeout": float("nan")}]
    near, far = connect()
    with near, far:
        near.settimeout(3)
        for arguments in wrong:
            with pytest.raises(ValueError, match="is not allowed"):
                SocketStream(near, **arguments)
        assert near.gettimeout() == 3
    with socket.socket() as unconnected, pytest.raises(OSError):
        SocketStream(unconnected)


def test_a_stream_is_a_binary_file() -> None:
    near, far = connect()
    with SocketStream(near) as stream, SocketStream(far):
        assert isinstance(stream, io.BufferedIOBase)
        assert stream.readable()
        assert stream.writable()
        assert not stream.seekable()
        assert not stream.isatty()
        for call in (stream.tell, stream.truncate, lambda: stream.seek(0)):
            with pytest.raises(io.UnsupportedOperation):
                call()


def test_unix_sockets_serve_too() -> None:
    near, far = socket.socketpair()
    with SocketStream(near) as stream, SocketStream(far) as peer:
        send(stream, LINE)
        assert peer.readline() == LINE
        reader = Task(stream.readline).blocked()
        stream.close()
        reader.failure(StreamClosed)
        assert peer.read() == b""


# ---- directions ----------------------------------------------------------------------------------------

WRITES: list[Callable[[SocketStream], object]] = [
    lambda stream: stream.write(b"x"),
    lambda stream: stream.write(b""),
    lambda stream: stream.write(bytearray(b"x")),
    lambda stream: stream.write(PATTERN),
    lambda stream: stream.writelines([b"x"]),
]

READS: list[Callable[[SocketStream], object]] = [
    *(lambda stream, read=read: read(stream)() for read in EVERY.values()),
    list,
    lambda stream: stream.read(0),
    lambda stream: stream.read_no_hang(),
    lambda stream: stream.input_ready(),
    lambda stream: stream.unread(b"x"),
]


@each_way_to_wait
def test_an_input_stream_refuses_to_write(waits: MakeWaits) -> None:
    stream, peer = stream_pair(waits, direction="input")
    with stream, peer:
        assert stream.readable()
        assert not stream.writable()
        for write in WRITES:
            with pytest.raises(io.UnsupportedOperation, match="input only"):
                write(stream)
        send(peer, LINE)
        assert stream.readline() == LINE
        for write in WRITES:
            with pytest.raises(io.UnsupportedOperation):
                write(stream)
        stream.flush()
        assert stream.bytes_sent == 0


@each_way_to_wait
def test_an_output_stream_refuses_to_read(waits: MakeWaits) -> None:
    stream, peer = stream_pair(waits, direction="output")
    with stream, peer:
        assert stream.writable()
        assert not stream.readable()
        send(peer, LINE)
        for read in READS:
            with pytest.raises(io.UnsupportedOperation, match="output only"):
                read(stream)
        send(stream, LINE)
        assert peer.readline() == LINE
        assert stream.bytes_received == 0


# ---- detaching -----------------------------------------------------------------------------------------


@each_way_to_wait
def test_detach_gives_a_plain_blocking_socket(stream: SocketStream, peer: SocketStream) -> None:
    stream.read_timeout = stream.write_timeout = BRIEF
    with pytest.raises(ReadTimeout):
        stream.readline()
    stream.write(b"pending")
    with stream.detach() as sock:
        assert peer.read_exactly(7) == b"pending"
        assert stream.closed
        assert sock.gettimeout() is None
        if sys.platform == "linux":
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                assert sock.getsockopt(socket.SOL_SOCKET, option, 16) == bytes(16)
        receiver = Task(lambda: sock.recv(10)).blocked()
        send(peer, b"received")
        assert receiver.result() == b"received"
        for read in READS:
            with pytest.raises(StreamClosed, match="detached"):
                read(stream)
        stream.close()
        sock.sendall(b"still open")
        assert peer.read_exactly(10) == b"still open"


@each_way_to_wait
def test_detach_refuses_while_bytes_are_unread(stream: SocketStream, peer: SocketStream) -> None:
    send(peer, LINE + NEXT)
    assert stream.readline() == LINE
    with pytest.raises(ValueError, match="9 received bytes"):
        stream.detach()
    assert stream.readline() == NEXT
    stream.detach().close()


@each_way_to_wait
def test_detach_refuses_while_another_thread_is_inside(stream: SocketStream, peer: SocketStream) -> None:
    reader = Task(stream.readline).blocked()
    with pytest.raises(ValueError, match="reading"):
        stream.detach()
    send(peer, LINE)
    assert reader.result() == LINE
    written = stall(stream)
    stream.write_timeout = BRIEF
    with pytest.raises(WriteTimeout):
        stream.detach()
    collector = Task(lambda: peer.read_exactly(written))
    stream.write_timeout = None
    stream.detach().close()
    collector.result()


# ---- descriptors ---------------------------------------------------------------------------------------


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@each_way_to_wait
def test_close_releases_the_descriptor_whatever_happens(stream: SocketStream) -> None:
    number = stream.fileno()
    stall(stream)
    stream.write_timeout = 0
    with pytest.raises(WriteTimeout):
        stream.close()
    assert not is_open(number)


@each_way_to_wait
def test_close_after_a_reset_releases_the_descriptor(stream: SocketStream, peer: SocketStream) -> None:
    number = stream.fileno()
    stream.write(b"pending")
    peer.abort()
    until(stream.input_ready)
    with pytest.raises(ConnectionError):
        stream.close()
    assert not is_open(number)


@each_way_to_wait
def test_close_waits_for_a_stalled_peer_no_longer_than_its_own_bound(
    stream: SocketStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert channel.CLOSE_LIMIT == 5
    monkeypatch.setattr(channel, "CLOSE_LIMIT", 0.05)
    stall(stream)
    for limit in (None, PATIENCE):
        stream.write_timeout = limit
    begun = time.monotonic()
    with pytest.raises(WriteTimeout):
        stream.close()
    assert 0.05 <= time.monotonic() - begun < PATIENCE / 2


@each_way_to_wait
def test_close_bounds_a_peer_that_drips(
    stream: SocketStream, peer: SocketStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "CLOSE_LIMIT", 0.1)
    stall(stream, bytes(32 << 20))
    stream.write_timeout = 0.05
    enough = threading.Event()

    def drip() -> None:
        with suppress(ConnectionError):
            while not enough.wait(0.002):
                peer.read1(50_000)

    dripping = Task(drip)
    with pytest.raises(WriteTimeout):
        stream.close()
    enough.set()
    dripping.result()


@each_way_to_wait
def test_timeouts_say_what_held_and_what_becomes_of_the_rest(stream: SocketStream, peer: SocketStream) -> None:
    stream.read_timeout = 0.01
    with pytest.raises(
        ReadTimeout, match=r"nothing came from 127.0.0.1\S* within read_timeout=0.01 s; .* the same call"
    ):
        stream.readline()
    with stream.deadline(0), pytest.raises(ReadTimeout, match="before the deadline"):
        stream.readline()
    written = stall(stream)
    stream.write_timeout = 0.01
    with pytest.raises(WriteTimeout, match=rf"within write_timeout=0.01 s; \d+ of {written} bytes are kept, and flush"):
        stream.flush()
    stream.write_timeout = 0
    with pytest.raises(WriteTimeout, match="without waiting"):
        stream.flush()
    with stream.deadline(0), pytest.raises(WriteTimeout, match="before the deadline"):
        stream.flush()
    with pytest.raises(WriteTimeout, match=rf"that close\(\) has for it .*; \d+ of {written} bytes are dropped"):
        stream.close()
    with pytest.raises(StreamClosed, match="closed on this side"):
        stream.readline()
    assert peer.read_no_hang() is not None


@each_way_to_wait
def test_an_unclosed_stream_warns_and_leaks_nothing(waits: MakeWaits) -> None:
    stream, peer = stream_pair(waits)
    number = stream.fileno()
    stream.read_timeout = BRIEF
    with pytest.raises(ReadTimeout):
        stream.readline()  # makes whatever is made late
    stream.write(b"pending")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del stream
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert "SocketStream" in str(caught[0].message)
    assert not is_open(number)
    with peer:
        assert peer.read() == b"pending"


@each_way_to_wait
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_warning_that_is_an_error_leaks_nothing_either(waits: MakeWaits) -> None:
    stream, peer = stream_pair(waits)
    number = stream.fileno()
    stream.write(b"pending")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del stream
        gc.collect()
    assert not is_open(number)
    with peer:
        assert peer.read() == b"pending"


@each_way_to_wait
def test_a_lack_of_descriptors_is_not_the_end_of_a_stream(
    stream: SocketStream, peer: SocketStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(self: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Wakeup, "__init__", lacking)
        stream.read_timeout = 0.05
        with pytest.raises(OSError) as caught:  # polled waits need a descriptor here, kernel waits do not
            stream.readline()
    assert isinstance(caught.value, ReadTimeout) or caught.value.errno == errno.EMFILE
    stream.read_timeout = PATIENCE
    send(peer, LINE)
    assert stream.readline() == LINE
    written = stall(stream)
    with monkeypatch.context() as patch:
        patch.setattr(Wakeup, "__init__", lacking)
        stream.write_timeout = 0.05
        with pytest.raises(OSError) as caught:
            stream.flush()
    assert isinstance(caught.value, WriteTimeout) or caught.value.errno == errno.EMFILE
    collector = Task(lambda: peer.read_exactly(written))
    stream.write_timeout = PATIENCE
    stream.flush()
    collector.result()


@each_way_to_wait
def test_an_idle_stream_costs_at_most_4_kib(waits: MakeWaits) -> None:
    sockets = [connect() for _ in range(200)]
    over(sockets[0][0], waits).detach()  # whatever is imported or cached once
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        streams = [over(near, waits) for near, _ in sockets]
        for stream in streams:
            assert stream.read_no_hang() is None
        cost = (tracemalloc.get_traced_memory()[0] - before) / len(streams)
    finally:
        tracemalloc.stop()
    for stream, (_, far) in zip(streams, sockets, strict=True):
        stream.close()
        far.close()
    assert cost <= 4096


@each_way_to_wait
def test_a_stream_that_was_used_gives_its_buffers_back(waits: MakeWaits) -> None:
    stream, peer = stream_pair(waits)
    with stream, peer:
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(3):
                collector = Task(lambda: peer.read_exactly(len(PATTERN)))
                stream.write(PATTERN)
                stream.write(b"x" * 60_000)
                stream.flush()
                assert len(collector.result()) == len(PATTERN)
                del collector
                peer.read_exactly(60_000)
                sender = Task(lambda: send(peer, PATTERN))
                assert stream.read_exactly(len(PATTERN)) == PATTERN
                sender.result()
                del sender
            cost = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
    assert cost < 3 * 65536 + 100_000


# ---- on the wire ---------------------------------------------------------------------------------------


@each_way_to_wait
def test_abort_is_a_reset_on_the_wire(waits: MakeWaits) -> None:
    near, far = connect()
    stream = over(near, waits)
    stream.write(b"dropped")
    number = stream.fileno()
    stream.abort()
    assert not is_open(number)
    with far, pytest.raises(ConnectionResetError):
        far.recv(10)


@each_way_to_wait
def test_close_is_an_orderly_end_on_the_wire_though_input_is_unread(waits: MakeWaits) -> None:
    near, far = connect()
    with far:
        stream = over(near, waits)
        far.sendall(bytes(300_000))
        until(stream.input_ready)
        stream.read_exactly(10)
        stream.write(b"answer")
        stream.close()
        assert far.recv(10) == b"answer"
        assert far.recv(10) == b""
        assert far.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_a_flood_does_not_hold_close_up() -> None:
    """What has arrived is read away before closing, but a peer that sends faster than we read does not win."""
    discarded = 0

    class Flooded(PolledWaits):
        def receive_now(self, size: int) -> bytes:
            nonlocal discarded
            discarded += size
            assert discarded < 100 << 20
            return bytes(size)

    near, far = connect()
    with far:
        over(near, Flooded).close()
    assert discarded >= 1 << 20, "what a kernel may hold is read"


# ---- threads that come and go at any moment -------------------------------------------------------------


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns a thousand times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


@each_way_to_wait
@pytest.mark.usefixtures("hasty_threads")
def test_both_directions_at_once_under_hasty_threads(waits: MakeWaits) -> None:
    """Small and large writes by one thread, while another reads and so pushes them: whole and in order."""
    sizes = (1, 30_000, 7, 40_000, 100, 70_000, 3, 65_536, 5, 200_000)
    total = sum(sizes) * 6
    wanted = PATTERN[:total]

    def write(end: SocketStream) -> None:
        position = 0
        for size in sizes * 6:
            end.write(wanted[position : position + size] if size % 2 else bytearray(wanted[position : position + size]))
            position += size
        end.flush()

    def read(end: SocketStream) -> bytes:
        data = b""
        while left := total - len(data):
            data += end.read_exactly(min(left, 1 + left % 9000))
        return data

    ends = stream_pair(waits)
    tasks = [Task(lambda end=end: read(end)) for end in ends]  # type: ignore[misc]
    writers = [Task(lambda end=end: write(end)) for end in ends]  # type: ignore[misc]
    for writer in writers:
        writer.result()
    for task in tasks:
        assert task.result() == wanted
    for end in ends:
        assert end.bytes_sent == end.bytes_received == total
        end.close()


def _into(stream: SocketStream) -> Callable[[], bytes]:
    def read() -> bytes:
        memory = bytearray(10)
        return bytes(memory[: stream.readinto(memory)])

    return read


def _encoded(read: Callable[[], str]) -> Callable[[], bytes]:
    return lambda: read().encode()


BUSY: dict[str, Callable[[SocketStream], Callable[[], bytes]]] = {
    "readline": lambda stream: stream.readline,
    "iteration": lambda stream: iter(stream).__next__,
    "read_until": lambda stream: lambda: stream.read_until(b"\n"),
    "readline_sized": lambda stream: lambda: stream.readline(20),
    "read": lambda stream: lambda: stream.read(10),
    "read_exactly": lambda stream: lambda: stream.read_exactly(10),
    "readinto": _into,
    "text_readline": lambda stream: _encoded(TextSocketStream(stream).readline),
    "text_iteration": lambda stream: _encoded(iter(TextSocketStream(stream)).__next__),
    "text_read_until": lambda stream: _encoded(partial(TextSocketStream(stream).read_until, "\n")),
    "text_read": lambda stream: _encoded(partial(TextSocketStream(stream).read, 10)),
}


@each_way_to_wait
@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize("method", BUSY)
@pytest.mark.parametrize("ending", ["close", "abort"])
def test_a_busy_reader_is_ended_by_stream_closed_and_nothing_else(waits: MakeWaits, method: str, ending: str) -> None:
    """Whatever the reader is at when another thread ends the stream: no end of file, no half line, no odd error."""
    for turn in range(8):
        stream, peer = stream_pair(waits)
        read = BUSY[method](stream)
        count = 0

        def feed(peer: SocketStream = peer) -> None:
            with suppress(ConnectionError):
                for start in range(0, 1_000_000, 1000):
                    peer.write(b"".join(b"%09d\n" % number for number in range(start, start + 1000)))
                    peer.flush()

        def consume(read: Callable[[], bytes] = read) -> None:
            nonlocal count
            while True:
                data = read()
                assert data == b"%09d\n" % count
                count += 1

        feeding, consuming = Task(feed), Task(consume)
        until(lambda: count > turn * 300)  # noqa: B023 (it is asked at once)
        getattr(stream, ending)()
        consuming.failure(StreamClosed)
        with pytest.raises(StreamClosed):
            read()
        peer.abort()
        with suppress(StreamClosed):
            feeding.result()


# ---- signals -------------------------------------------------------------------------------------------


@each_way_to_wait
@needs_signals
@pytest.mark.parametrize("method", ["readline", "iteration"])
def test_signals_do_not_prolong_a_deadline(stream: SocketStream, method: str) -> None:
    with signals(lambda: None, when=lambda: True, often=True) as heard:
        begun = time.monotonic()
        with stream.deadline(0.1), pytest.raises(ReadTimeout):
            next(iter(stream)) if method == "iteration" else stream.readline()
        assert 0.1 <= time.monotonic() - begun < 5
        stall(stream)
        begun = time.monotonic()
        with stream.deadline(0.1), pytest.raises(WriteTimeout):
            stream.flush()
        assert 0.1 <= time.monotonic() - begun < 5
    assert len(heard) > 6


class Interruption(Exception):
    """What a signal handler raises, as Ctrl-C does."""


def interrupt() -> None:
    raise Interruption


@each_way_to_wait
@needs_signals
@pytest.mark.parametrize("method", ["whole-readline", "whole-read_exactly", "whole-readinto", "whole-iteration"])
@pytest.mark.parametrize("deadline", [None, PATIENCE])
def test_a_read_that_is_interrupted_consumes_nothing(
    stream: SocketStream, peer: SocketStream, method: str, deadline: float | None
) -> None:
    read = EVERY[method](stream)
    with stream.deadline(deadline):
        for count in range(3):
            send(peer, LINE[count : count + 1])
            with signals(interrupt, when=main_thread_waits()), pytest.raises(Interruption):
                read()
        send(peer, LINE[3:])
        assert read() == LINE


@each_way_to_wait
@needs_signals
def test_a_write_that_is_interrupted_is_accepted_whole(stream: SocketStream, peer: SocketStream) -> None:
    with signals(interrupt, when=main_thread_waits()), pytest.raises(Interruption):
        stream.write(PATTERN * 8)
    collector = Task(lambda: peer.read_exactly(len(PATTERN) * 8))
    stream.flush()
    assert collector.result() == PATTERN * 8


@each_way_to_wait
@needs_signals
def test_a_close_that_is_interrupted_has_closed(stream: SocketStream) -> None:
    number = stream.fileno()
    stall(stream)
    with signals(interrupt, when=main_thread_waits()), pytest.raises(Interruption):
        stream.close()
    assert stream.closed
    assert not is_open(number)


@each_way_to_wait
@needs_signals
@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("where", ["read", "limited", "deadline", "iteration", "readinto", "write", "pushing"])
def test_a_signal_handler_may_end_the_stream_that_its_thread_waits_for(
    stream: SocketStream, peer: SocketStream, how: str, where: str
) -> None:
    waiting: dict[str, Callable[[], object]] = {
        "read": lambda: stream.read_exactly(1),
        "limited": stream.readline,
        "deadline": stream.readline,
        "iteration": lambda: list(stream),
        "readinto": lambda: stream.readinto(bytearray(5)),
        "write": stream.flush,
        "pushing": stream.readline,
    }
    if where in ("write", "pushing"):
        stall(stream)
    if where == "limited":
        stream.read_timeout = PATIENCE
    number = stream.fileno()
    begun = time.monotonic()
    with stream.deadline(PATIENCE if where == "deadline" else None):
        stream.write_timeout = 0.05  # for close() itself
        end = {"close": lambda: suppress_timeout(stream.close), "abort": stream.abort}[how]
        if where == "write":
            stream.write_timeout = None
        with signals(end, when=main_thread_waits()), pytest.raises(StreamClosed):
            waiting[where]()
    assert time.monotonic() - begun < PATIENCE / 2
    assert not is_open(number)


def suppress_timeout(call: Callable[[], object]) -> None:
    with suppress(WriteTimeout):
        call()


class Hooked(PolledWaits):
    """Waits whose sends go through ``around``, which gets the real send as a function."""

    __slots__ = ("around",)

    around: Callable[[Callable[[], int]], int]

    def send(self, data: memoryview | bytes, limit: float | None) -> int:
        return self.around(lambda: PolledWaits.send(self, data, limit))


def hooked_pair() -> tuple[SocketStream, SocketStream, Hooked]:
    near, far = connect()
    waits = Hooked(near)
    waits.around = lambda send: send()
    return over(near, lambda sock: waits), SocketStream(far), waits


def test_close_takes_over_what_a_reader_is_sending() -> None:
    """A read that tries to send what is pending is no writer that is blocked: close() sends what it leaves."""
    entered, go = threading.Event(), threading.Event()

    def no_room_at_first(send: Callable[[], int]) -> int:
        if entered.is_set():
            return send()
        entered.set()
        assert go.wait(PATIENCE)
        return 0

    stream, peer, waits = hooked_pair()
    with peer:
        stream.write(b"pending")
        waits.around = no_room_at_first
        reader = Task(stream.readline)
        assert entered.wait(PATIENCE)
        closer = Task(stream.close).blocked()
        go.set()
        closer.result()
        reader.failure(StreamClosed)
        assert peer.read() == b"pending"


POINTS = ("send", "accept", "advance", "own", "next")
USES: dict[str, Callable[[SocketStream], object]] = {
    "flush": lambda stream: stream.flush(),
    "read": lambda stream: stream.readline(),
    "write": lambda stream: stream.write(b"z" * 100_000),
    "write_mutable": lambda stream: stream.write(bytearray(b"z" * 100_000)),
}


@contextmanager
def signals_at(point: str, waits: Hooked, handler: Callable[[], object]) -> Iterator[None]:
    """Run ``handler`` as a signal handler, once, right after the next call of one of the POINTS."""
    done = False

    def strike() -> None:
        nonlocal done
        if not done:
            done = True
            signal.raise_signal(signal.SIGUSR1)

    def around(send: Callable[[], int]) -> int:
        sent = send()
        strike()
        return sent

    with pytest.MonkeyPatch.context() as patch:
        before = signal.signal(signal.SIGUSR1, lambda *_: handler())
        if point == "send":
            waits.around = around
        else:
            real = getattr(SendBuffer, point)

            def method(self: SendBuffer, *arguments: Any) -> Any:
                result = real(self, *arguments)
                strike()
                return result

            patch.setattr(SendBuffer, point, method)
        try:
            yield
        finally:
            signal.signal(signal.SIGUSR1, before)


@needs_signals
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("use", USES)
def test_a_signal_handler_may_close_in_the_middle_of_sending(point: str, use: str) -> None:
    """Between any two steps: no deadlock, no odd error, and no byte is sent twice."""
    stream, peer, waits = hooked_pair()
    with peer:
        send(peer, LINE)
        stream.write(b"small")
        with signals_at(point, waits, stream.close), suppress(StreamClosed):
            USES[use](stream)
        stream.close()  # where the point was not on the way
        for again in USES.values():
            with pytest.raises(StreamClosed):
                again(stream)
        got = peer.read()
        assert (b"small" + b"z" * 100_000).startswith(got)
        assert stream.bytes_sent == len(got)


@needs_signals
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    "data", [b"SIGNAL", b"S" * 70_000, bytearray(b"S" * 70_000)], ids=["small", "large", "mutable"]
)
def test_a_signal_handler_may_write_in_the_middle_of_sending(point: str, use: str, data: bytes | bytearray) -> None:
    """What it writes arrives once and in one piece; so does everything else."""
    stream, peer, waits = hooked_pair()
    with peer:
        send(peer, LINE)
        stream.write(b"small")
        wrote = []

        def handler() -> None:
            wrote.append(stream.write(data))
            stream.flush()

        with signals_at(point, waits, handler):
            USES[use](stream)
        collector = Task(peer.read)
        stream.close()
        got = collector.result()
        assert got.replace(data, b"", 1) == b"small" + (b"z" * 100_000 if "write" in use else b"")
        assert stream.bytes_sent == len(got) == len(got.replace(data, b"", 1)) + sum(wrote)


@each_way_to_wait
@needs_signals
def test_a_signal_handler_may_close_at_any_moment(waits: MakeWaits) -> None:
    """Also in the middle of a write or of its accounting: no deadlock, no other exception, no leak."""
    chance = random.Random(1)
    for _ in range(150):
        stream, peer = stream_pair(waits)
        moment = time.monotonic() + chance.random() * 0.004

        def close(stream: SocketStream = stream) -> None:
            stream.close()

        def use(stream: SocketStream = stream, peer: SocketStream = peer) -> None:
            while True:
                stream.write(b"x" * 100)
                stream.write(bytearray(70_000))
                stream.flush()
                peer.read1(200_000)
                peer.write(LINE)
                peer.flush()
                stream.readline()

        def due(moment: float = moment) -> bool:
            return time.monotonic() > moment

        with peer, signals(close, when=due), pytest.raises(StreamClosed):
            use()
