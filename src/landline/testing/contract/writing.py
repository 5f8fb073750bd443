"""What writing promises: all is accepted, counted to the byte, sent once, and never waits for a forgotten flush."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any

from ...errors import ReadTimeout, WriteTimeout
from .stage import BRIEF, BROKEN, MUCH, PATIENCE, Checks, MakePair, Task, expect, pair, stall, until

if TYPE_CHECKING:
    from ...sync.stream import SocketStream

__all__ = ["CHECKS"]

CHECKS = Checks()

PATTERN = array("I", range(MUCH // 4)).tobytes()
"""Bytes of which no part looks like another, as much as `stall` writes at once."""

BUFFERED = 65536
"""So much may wait for a flush."""


def resume(stream: SocketStream) -> int:
    """Flush until everything is sent: how many WriteTimeouts that took."""
    timeouts, sent = 0, stream.bytes_sent
    while True:
        try:
            stream.flush()
        except WriteTimeout as timeout:
            timeouts += 1
            sent = max(timeout.sent, sent)
            _same(timeout.sent, sent)
        else:
            return timeouts


def _same(count: int, wanted: int) -> None:
    assert count == wanted, f"the count is {count}, {wanted} would be right"


def answer(peer: SocketStream, size: int) -> None:
    """What a peer does that takes a request of this size first."""
    peer.read_exactly(size)
    peer.write(b"answer\n")
    peer.flush()


# ---- a timeout is a pause, not a loss ------------------------------------------------------------


@CHECKS.each(("bytes", "bytearray", "memoryview", "array"))
def after_a_write_timeout_flush_resumes(kind: str, make_pair: MakePair) -> None:
    """write() accepts all its data; what could not be sent is kept, even if the caller's memory changes."""
    makers: dict[str, Callable[[], Any]] = {
        "bytes": lambda: PATTERN,
        "bytearray": lambda: bytearray(PATTERN),
        "memoryview": lambda: memoryview(bytearray(PATTERN)),
        "array": lambda: array("I", PATTERN),
    }
    with pair(make_pair) as (stream, peer):
        data = makers[kind]()
        stream.write_timeout = BRIEF
        written = 0
        with expect(WriteTimeout) as caught:
            while True:
                written += len(PATTERN)
                assert stream.write(data) == len(PATTERN)
        if kind == "array":
            data[:] = array("I", bytes(len(PATTERN)))
        elif kind != "bytes":
            data[:] = bytes(len(PATTERN))
        timeout = caught.error
        assert timeout.accepted == written
        assert timeout.sent == stream.bytes_sent < written
        reader = Task(lambda: peer.read_exactly(written))
        resume(stream)
        assert stream.bytes_sent == written
        assert reader.result() == PATTERN * (written // len(PATTERN))
        assert peer.read_no_hang() is None


@CHECKS.one
def after_write_raised_its_memory_is_free(make_pair: MakePair) -> None:
    """A bytearray may also change its size, at once, while WriteTimeout is being handled."""
    with pair(make_pair) as (stream, _):
        stream.write_timeout = BRIEF
        while True:
            data = bytearray(PATTERN)
            try:
                stream.write(data)
            except WriteTimeout:
                data.clear()
                break
            data.clear()
        data = bytearray(PATTERN)
        try:
            stream.write(data)
        except WriteTimeout:
            data.clear()
        assert not data


@CHECKS.one
def the_count_sent_is_exact(make_pair: MakePair) -> None:
    """WriteTimeout.sent bytes reach the peer, no more and no fewer, before flush() is called."""
    with pair(make_pair) as (stream, peer):
        stream.write_timeout = BRIEF
        with expect(WriteTimeout) as caught:
            while True:
                stream.write(PATTERN)
        sent = caught.error.sent
        data = peer.read_exactly(sent)
        assert data == (PATTERN * (sent // len(PATTERN) + 1))[:sent]
        peer.read_timeout = 0.05
        with expect(ReadTimeout):
            peer.read(1)
        assert stream.bytes_sent == sent


@CHECKS.one
def writes_after_a_timeout_queue_up_in_order(make_pair: MakePair) -> None:
    """While nothing can be sent, further writes are accepted behind what waits, each with its count."""
    with pair(make_pair) as (stream, peer):
        written = stall(stream, PATTERN)
        stream.write_timeout = 0
        mutable = bytearray(b"mutable,")
        more: list[bytes | bytearray] = [b"small,", PATTERN[:100_000], mutable, b"last"]
        for data in more:
            written += len(data)
            try:
                stream.write(data)
            except WriteTimeout as timeout:
                _same(timeout.accepted, written)
        mutable[:] = b"CHANGED,"
        with expect(WriteTimeout) as caught:
            stream.flush()
        assert caught.error.accepted == written
        reader = Task(lambda: peer.read_exactly(written))
        stream.write_timeout = PATIENCE
        stream.flush()
        assert reader.result().endswith(PATTERN[-5:] + b"small," + PATTERN[:100_000] + b"mutable,last")


@CHECKS.each(("read_timeout", "read_no_hang", "input_ready", "deadline"))
def a_read_between_writes_changes_no_order(read: str, make_pair: MakePair) -> None:
    """What a write could not send stays in front of later writes, also when reads were tried in between."""
    with pair(make_pair) as (stream, peer):
        written = stall(stream, PATTERN)
        stream.read_timeout = stream.write_timeout = BRIEF
        tail = b""
        for number in range(3):
            if read == "read_no_hang":
                assert stream.read_no_hang() is None
            elif read == "input_ready":
                assert not stream.input_ready()
            else:
                with stream.deadline(BRIEF if read == "deadline" else None), expect(ReadTimeout):
                    stream.read(1)
            small = b"small %d," % number
            tail += small
            try:
                stream.write(small)
            except WriteTimeout as timeout:
                _same(timeout.accepted, written + len(tail))
        reader = Task(lambda: peer.read_exactly(written + len(tail)))
        stream.write_timeout = PATIENCE
        stream.flush()
        data = reader.result()
        assert data.endswith(PATTERN[-9:] + tail)
        assert data[: -len(tail)] == PATTERN * (written // len(PATTERN))


@CHECKS.one
def writelines_takes_all_though_it_times_out_midway(make_pair: MakePair) -> None:
    """writelines() takes over every line, whatever happens, and counts them all in its WriteTimeout."""
    with pair(make_pair) as (stream, peer):
        stream.write_timeout = 0
        lines: list[Any] = [b"first,", *([PATTERN] * 8), bytearray(b"mutable,"), memoryview(b"view,"), b"last"]
        whole = b"".join(lines)
        with expect(WriteTimeout) as caught:
            stream.writelines(iter(lines))
        assert caught.error.accepted == len(whole)
        lines[-3][:] = b"CHANGED,"
        reader = Task(lambda: peer.read_exactly(len(whole)))
        stream.write_timeout = PATIENCE
        stream.flush()
        assert reader.result() == whole


# ---- two clocks ----------------------------------------------------------------------------------


@CHECKS.one
def write_timeout_zero_does_not_wait(make_pair: MakePair) -> None:
    """write_timeout=0 sends what the system takes at once, and raises WriteTimeout for the rest."""
    with pair(make_pair) as (stream, peer):
        stream.write_timeout = 0
        stream.write(b"x" * (BUFFERED + 1))
        assert peer.read_exactly(BUFFERED + 1)
        begun = time.monotonic()
        with expect(WriteTimeout):
            while True:
                stream.write(PATTERN)
        assert time.monotonic() - begun < PATIENCE / 2


@CHECKS.each(("write", "flush"))
def a_write_waits_no_less_than_its_limit(method: str, make_pair: MakePair) -> None:
    """WriteTimeout, which is a TimeoutError, comes when write_timeout seconds passed without progress."""
    with pair(make_pair) as (stream, _):
        stall(stream)
        for limit in (0.001, 0.0101, 0.05):
            stream.write_timeout = limit
            begun = time.monotonic()
            with expect(TimeoutError):
                if method == "write":
                    stream.write(PATTERN)
                else:
                    stream.flush()
            assert limit <= time.monotonic() - begun < limit + PATIENCE


@CHECKS.one
def an_idle_limit_allows_a_slow_reader(make_pair: MakePair) -> None:
    """write_timeout is time without progress: a peer that reads slowly is written to for longer than the limit."""
    with pair(make_pair) as (stream, peer):
        waiting = stall(stream)
        limit, read, last_read = 0.2, 0, [time.monotonic()]

        def slowly() -> None:
            nonlocal read
            part = waiting // 40
            while read < waiting:
                time.sleep(0.012)
                read += len(peer.read_exactly(min(part, waiting - read)))
                last_read[0] = time.monotonic()

        stream.write_timeout = limit
        reader = Task(slowly)
        while True:
            try:
                stream.flush()
                break
            except WriteTimeout:
                # Small gaps open no TCP window; only a peer that did not read for so long excuses a timeout.
                assert time.monotonic() - last_read[0] >= limit * 0.9 or read < waiting // 2
        reader.result()
        assert stream.bytes_sent == waiting


@CHECKS.each(("write", "flush"))
def a_deadline_ends_a_write_to_a_slow_reader(method: str, make_pair: MakePair) -> None:
    """Inside a deadline a write ends with it though the peer goes on reading; nothing is lost."""
    with pair(make_pair) as (stream, peer):
        written = stall(stream, PATTERN)
        written += len(PATTERN)
        read: list[bytes] = []
        timed_out = Event()

        def slowly() -> None:
            while not timed_out.wait(0.001):
                read.append(peer.read1(10_000))
            read.append(peer.read_exactly(written - sum(map(len, read))))

        begun = time.monotonic()
        if method == "flush":
            with stream.deadline(0), expect(WriteTimeout):
                stream.write(PATTERN)
        reader = Task(slowly)
        with stream.deadline(0.05), expect(WriteTimeout):
            if method == "flush":
                stream.flush()
            else:
                stream.write(PATTERN)
        assert time.monotonic() - begun < PATIENCE / 2
        timed_out.set()
        stream.flush()
        reader.result()
        assert b"".join(read) == PATTERN * (written // len(PATTERN))


@CHECKS.one
def a_passed_deadline_ends_writes_though_there_is_room(make_pair: MakePair) -> None:
    """A peer that always has room does not carry writes past the deadline; small ones are accepted and wait."""
    with pair(make_pair) as (stream, peer):
        with stream.deadline(0):
            assert stream.write(b"small") == 5
            with expect(WriteTimeout) as caught:
                stream.flush()
            assert (caught.error.accepted, caught.error.sent) == (5, 0)
        stream.flush()
        assert peer.read_exactly(5) == b"small"


# ---- buffering -----------------------------------------------------------------------------------


@CHECKS.one
def writes_wait_for_flush(make_pair: MakePair) -> None:
    """Small writes are joined, up to 64 KiB; flush() sends them. bytes_sent counts what was handed over."""
    with pair(make_pair) as (stream, peer):
        for _ in range(BUFFERED // 16):
            assert stream.write(b"0123456789abcdef") == 16
        assert stream.bytes_sent == 0
        assert peer.read_no_hang() is None
        stream.flush()
        assert stream.bytes_sent == BUFFERED
        assert peer.read_exactly(BUFFERED) == b"0123456789abcdef" * (BUFFERED // 16)
        stream.flush()
        assert stream.bytes_sent == BUFFERED


@CHECKS.one
def more_than_the_buffer_holds_is_sent_in_order(make_pair: MakePair) -> None:
    """A write that does not fit any more sends; what was written before it goes first."""
    with pair(make_pair) as (stream, peer):
        stream.write(b"before,")
        stream.write(PATTERN[:BUFFERED])
        sent = stream.bytes_sent
        assert sent == 7 + BUFFERED
        stream.write(b",after")
        assert stream.bytes_sent == sent, "and then small writes wait again"
        stream.flush()
        assert peer.read_exactly(7 + BUFFERED + 6) == b"before," + PATTERN[:BUFFERED] + b",after"


@CHECKS.one
def any_bytes_like_object_is_written(make_pair: MakePair) -> None:
    """Whatever has bytes is taken as it is in memory, and copied: it may change as soon as write() returns."""
    with pair(make_pair) as (stream, peer):
        mutable = bytearray(b"mutable")
        numbers = array("H", [1, 2, 3])
        every_other = memoryview(b"a-b-c-")[::2]
        assert stream.write(b"") == 0
        assert stream.write(mutable) == 7
        mutable[:] = b"changed"
        mutable.clear()
        assert stream.write(numbers) == 6
        assert stream.write(every_other) == 3
        assert stream.bytes_sent == 0
        with expect(TypeError):
            stream.write("text")  # type: ignore[arg-type]
        stream.writelines([b"lines", bytearray(b"!")])
        stream.flush()
        wanted = b"mutable" + numbers.tobytes() + b"abc" + b"lines!"
        assert peer.read_exactly(len(wanted)) == wanted


# ---- a forgotten flush -----------------------------------------------------------------------------


@CHECKS.each(("readline", "read_exactly", "iteration", "read1", "read_no_hang", "input_ready"))
def a_read_sends_what_is_pending(method: str, make_pair: MakePair) -> None:
    """A read that would wait first sends what is pending: the answer to a request that was not flushed comes."""
    with pair(make_pair) as (stream, peer):
        answering = Task(lambda: answer(peer, len(b"request\n")))
        stream.write(b"request\n")
        if method == "readline":
            assert stream.readline() == b"answer\n"
        elif method == "read_exactly":
            assert stream.read_exactly(7) == b"answer\n"
        elif method == "iteration":
            assert next(iter(stream)) == b"answer\n"
        elif method == "read1":
            assert stream.read1() == b"answer\n"
        elif method == "read_no_hang":
            until(lambda: stream.read_no_hang() == b"answer\n")
        else:
            until(stream.input_ready)
        answering.result()


@CHECKS.one
def a_write_beside_a_blocked_read_is_sent_at_once(make_pair: MakePair) -> None:
    """While another thread waits in a read, nobody would flush: a write is sent at once."""
    with pair(make_pair) as (stream, peer):
        reader = Task(stream.readline).blocked()
        stream.write(b"re")
        assert peer.read_exactly(2) == b"re"
        stream.write(bytearray(b"quest\n"))
        assert peer.readline() == b"quest\n"
        peer.write(b"answer\n")
        peer.flush()
        assert reader.result() == b"answer\n"
        stream.write(b"waits for flush")
        assert stream.bytes_sent == len(b"request\n")


@CHECKS.one
def both_sides_may_write_more_than_the_buffers_before_they_read(make_pair: MakePair) -> None:
    """Reading receives while it sends what is pending, and waits for neither alone: no deadlock."""
    with pair(make_pair) as ends:
        written = [stall(end, PATTERN) for end in ends]

        def read(end: SocketStream, count: int) -> bytes:
            data = end.read_exactly(count)
            end.flush()  # whoever has everything first may still have something for the other
            return data

        readers = [Task(partial(read, end, count)) for end, count in zip(ends, reversed(written), strict=True)]
        received = [reader.result() for reader in readers]
        assert [len(data) for data in received] == written[::-1]
        assert all(data == PATTERN * (len(data) // len(PATTERN)) for data in received)


@CHECKS.each(("unlimited", "idle", "deadline"))
def a_read_goes_on_sending_while_it_waits(limit: str, make_pair: MakePair) -> None:
    """What a read could not send at once is sent while it waits for the answer."""
    with pair(make_pair) as (stream, peer):
        written = stall(stream, PATTERN)
        answering = Task(lambda: answer(peer, written))
        if limit == "idle":
            stream.read_timeout = PATIENCE
        with stream.deadline(PATIENCE) if limit == "deadline" else nullcontext():
            assert stream.readline() == b"answer\n"
        answering.result()
        assert stream.bytes_sent == written


@CHECKS.one
def one_reader_and_one_writer_at_each_end(make_pair: MakePair) -> None:
    """Four threads at once on one connection, flushing or not: both directions arrive whole and in order."""
    with pair(make_pair) as ends:
        sizes = (1, 7, 100, 4096, 70_000, 3)
        total = sum(sizes) * 12

        def write(end: SocketStream) -> None:
            position = 0
            for turn in range(12):
                for size in sizes:
                    end.write(PATTERN[position : position + size])
                    position += size
                if turn % 3:
                    end.flush()
            end.flush()

        def read(end: SocketStream) -> bytes:
            data = b""
            while left := total - len(data):
                data += end.read1(left) if left % 2 else end.read_exactly(min(left, 5001))
            return data

        writers = [Task(lambda end=end: write(end)) for end in ends]  # type: ignore[misc]
        readers = [Task(lambda end=end: read(end)) for end in ends]  # type: ignore[misc]
        for writer in writers:
            writer.result()
        for reader in readers:
            assert reader.result() == PATTERN[:total]


# ---- failures ------------------------------------------------------------------------------------


@CHECKS.one
def a_write_to_a_peer_that_is_gone_fails_and_goes_on_failing(make_pair: MakePair) -> None:
    """After the first ConnectionError nothing more is accepted; the error stays."""
    with pair(make_pair) as (stream, peer):
        peer.abort()
        with expect(ConnectionError) as caught:
            while True:
                stream.write(PATTERN)
        assert isinstance(caught.error, BROKEN)
        sent = stream.bytes_sent
        for write in (lambda: stream.write(b"x"), lambda: stream.writelines([b"x"]), stream.flush):
            with expect(ConnectionError):
                write()
        assert stream.bytes_sent == sent


@CHECKS.each(("write", "flush", "close", "shutdown"))
def a_failure_to_send_that_a_read_met_is_told_later(method: str, make_pair: MakePair) -> None:
    """A read that could not send what was pending still gives what came; the next write or close() tells of it."""
    with pair(make_pair) as (stream, peer):
        peer.write(b"farewell\n")
        peer.close()

        def refused() -> bool:
            sent = stream.bytes_sent
            stream.write(b".")
            stream.input_ready()
            return stream.bytes_sent == sent

        until(refused)
        assert stream.readline() == b"farewell\n"
        assert stream.readline() == b""
        calls: dict[str, Callable[[], object]] = {
            "write": lambda: stream.write(b"more"),
            "flush": stream.flush,
            "close": stream.close,
            "shutdown": lambda: stream.shutdown("output"),
        }
        with expect(BrokenPipeError) as caught:
            calls[method]()
        assert isinstance(caught.error, BROKEN)
        stream.close()
