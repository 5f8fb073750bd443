"""What ending promises: nobody is left waiting, what was accepted is sent or counted, the descriptor is released."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...errors import ReadTimeout, SocketIOError, StreamClosed, WriteTimeout
from .reading import EVERY, LINE, LONG, NEXT, arrived, send
from .stage import BRIEF, PATIENCE, PROMPT, Checks, MakePair, Task, all_that_came, expect, pair, stall, until
from .writing import PATTERN, resume

if TYPE_CHECKING:
    from ...sync.flow import Direction
    from ...sync.stream import SocketStream

__all__ = ["CHECKS"]

CHECKS = Checks()

ENDINGS: dict[str, Callable[[SocketStream], object]] = {
    "close": lambda stream: stream.close(),
    "abort": lambda stream: stream.abort(),
}

OPERATIONS: dict[str, Callable[[SocketStream], object]] = {
    **{f"read-{name}": lambda stream, read=read: read(stream)() for name, read in EVERY.items()},  # type: ignore[misc]
    "iter": list,
    "read0": lambda stream: stream.read(0),
    "read1_0": lambda stream: stream.read1(0),
    "readline0": lambda stream: stream.readline(0),
    "read_no_hang": lambda stream: stream.read_no_hang(),
    "unread": lambda stream: stream.unread(b"x"),
    "input_ready": lambda stream: stream.input_ready(),
    "write": lambda stream: stream.write(b"x"),
    "write_nothing": lambda stream: stream.write(b""),
    "write_bytearray": lambda stream: stream.write(bytearray(3)),
    "write_much": lambda stream: stream.write(PATTERN),
    "writelines": lambda stream: stream.writelines([b"x"]),
    "flush": lambda stream: stream.flush(),
    "shutdown_input": lambda stream: stream.shutdown("input"),
    "shutdown_output": lambda stream: stream.shutdown("output"),
    "shutdown_abort": lambda stream: stream.shutdown("io", abort=True),
    "detach": lambda stream: stream.detach(),
    "fileno": lambda stream: stream.fileno(),
    "readable": lambda stream: stream.readable(),
    "writable": lambda stream: stream.writable(),
    "seekable": lambda stream: stream.seekable(),
    "isatty": lambda stream: stream.isatty(),
    "with": lambda stream: stream.__enter__(),
}
"""Everything that a closed stream refuses."""


# ---- close ---------------------------------------------------------------------------------------


@CHECKS.one
def close_sends_what_is_pending(make_pair: MakePair) -> None:
    """close() flushes; the peer gets everything, then the end."""
    with pair(make_pair) as (stream, peer):
        stream.write(b"pending")
        stream.close()
        assert stream.closed
        assert peer.read() == b"pending"


@CHECKS.one
def leaving_a_with_block_closes(make_pair: MakePair) -> None:
    """The end of a with block closes, also when it ends by an exception; once more does no harm."""
    with pair(make_pair) as (stream, peer):
        with expect(KeyError), stream as same:
            assert same is stream
            stream.write(b"pending")
            raise KeyError
        assert stream.closed
        stream.close()
        stream.abort()
        assert peer.read() == b"pending"


@CHECKS.each(("write_timeout", "deadline", "zero"))
def close_flushes_within_its_limit(limit: str, make_pair: MakePair) -> None:
    """A peer that does not read holds close() up no longer than write_timeout; the stream is closed nevertheless."""
    with pair(make_pair) as (stream, peer):
        written = stall(stream)
        begun = time.monotonic()
        if limit == "deadline":
            with stream.deadline(0.03), expect(WriteTimeout) as caught:
                stream.close()
        else:
            stream.write_timeout = 0.03 if limit == "write_timeout" else 0
            with expect(WriteTimeout) as caught:
                stream.close()
        assert limit == "zero" or time.monotonic() - begun >= 0.03
        assert time.monotonic() - begun < PATIENCE / 2
        assert stream.closed
        assert caught.error.accepted == written
        assert caught.error.sent == stream.bytes_sent < written
        stream.close()
        assert len(all_that_came(peer)) == stream.bytes_sent


@CHECKS.one
def close_reads_away_what_has_arrived(make_pair: MakePair) -> None:
    """Input that nobody read does not destroy what is on its way: the peer gets all of it, and the end."""
    with pair(make_pair) as (stream, peer):
        send(peer, LONG)
        arrived(stream)
        stream.write(LONG)
        stream.close()
        assert peer.read() == LONG
        assert peer.read() == b""


@CHECKS.each(("deadline", "no_deadline"))
def closing_after_a_deadline_still_sends_what_there_is_room_for(deadline: str, make_pair: MakePair) -> None:
    """close() inside a deadline that has passed does not wait, and drops nothing that need not wait."""
    with pair(make_pair) as (stream, peer):
        with stream.deadline(0 if deadline == "deadline" else None):
            stream.write(b"pending")
            stream.close()
        assert peer.read() == b"pending"


@CHECKS.each(OPERATIONS)
def after_the_end_every_operation_raises_stream_closed(operation: str, make_pair: MakePair) -> None:
    """After close() and abort() every operation raises StreamClosed, which is a ValueError as io expects."""
    for ending in ENDINGS.values():
        with pair(make_pair) as (stream, peer):
            send(peer, LINE + NEXT)
            assert stream.readline() == LINE, "a line is left in the buffer"
            lines = iter(stream)
            ending(stream)
            with expect(StreamClosed) as caught:
                OPERATIONS[operation](stream)
            assert isinstance(caught.error, ValueError)
            assert isinstance(caught.error, SocketIOError)
            with expect(StreamClosed):
                next(lines)


@CHECKS.each(ENDINGS)
def the_facts_outlive_the_end(ending: str, make_pair: MakePair) -> None:
    """Addresses, counters, limits and ``closed`` can be asked for after the end."""
    with pair(make_pair) as (stream, peer):
        addresses = (stream.local_address, stream.peer_address)
        stream.read_timeout, stream.write_timeout = 3, 4
        send(peer, LINE)
        assert stream.readline() == LINE
        send(stream, NEXT)
        ENDINGS[ending](stream)
        assert stream.closed
        assert (stream.local_address, stream.peer_address) == addresses
        assert (stream.bytes_received, stream.bytes_sent) == (len(LINE), len(NEXT))
        assert (stream.read_timeout, stream.write_timeout) == (3, 4)
        assert "closed" in repr(stream)


# ---- from another thread -------------------------------------------------------------------------


def promptly(
    make_pair: MakePair, block: Callable[[SocketStream], object], end: Callable[[SocketStream], object]
) -> None:
    """``end`` wakes a thread that is blocked in ``block`` within PROMPT.

    A busy machine may be slow now and then, so one of several attempts has to be prompt; a stream that looks
    for its end only every 100 ms is prompt in none.
    """
    took = []
    for _ in range(5):
        with pair(make_pair) as (stream, _peer):
            task = Task(lambda stream=stream: block(stream)).blocked()  # type: ignore[misc]
            begun = time.monotonic()
            end(stream)
            task.failure(StreamClosed)
            took.append(task.ended_at - begun)
            if took[-1] <= PROMPT:
                return
    raise AssertionError(f"blocked calls ended only after {took} s")


def _limited(stream: SocketStream) -> object:
    stream.read_timeout = PATIENCE
    return stream.readline()


def _in_deadline(stream: SocketStream) -> object:
    with stream.deadline(PATIENCE):
        return stream.readline()


def _while_sending(stream: SocketStream) -> object:
    stall(stream)
    return stream.readline()


def _second_line(stream: SocketStream) -> object:
    return next(iter(stream))


BLOCKED_READS: dict[str, Callable[[SocketStream], object]] = {
    **{name: lambda stream, read=read: read(stream)() for name, read in EVERY.items()},  # type: ignore[misc]
    "limited": _limited,
    "in_deadline": _in_deadline,
    "while_sending": _while_sending,
}


@CHECKS.each(BLOCKED_READS)
def close_wakes_a_blocked_read(method: str, make_pair: MakePair) -> None:
    """close() from another thread ends a blocked read within milliseconds, with StreamClosed."""

    def close(stream: SocketStream) -> None:
        stream.write_timeout = 0  # what is pending shall not hold it up
        try:
            stream.close()
        except WriteTimeout:
            assert method == "while_sending"

    promptly(make_pair, BLOCKED_READS[method], close)


@CHECKS.each(("limited", "in_deadline", "while_sending", "whole-readinto", "first-read1"))
def abort_wakes_a_blocked_read(method: str, make_pair: MakePair) -> None:
    """So does abort()."""
    promptly(make_pair, BLOCKED_READS[method], ENDINGS["abort"])


def _write(stream: SocketStream) -> None:
    stall(stream)
    stream.write(PATTERN)


def _flush(stream: SocketStream) -> None:
    stall(stream)
    stream.flush()


def _limited_flush(stream: SocketStream) -> None:
    stream.write_timeout = PATIENCE
    _flush(stream)


BLOCKED_WRITES: dict[str, Callable[[SocketStream], object]] = {
    "write": _write,
    "flush": _flush,
    "limited": _limited_flush,
}


@CHECKS.each([f"{ending}-{blocked}" for ending in ENDINGS for blocked in BLOCKED_WRITES])
def the_end_wakes_a_blocked_write(how: str, make_pair: MakePair) -> None:
    """close() and abort() from another thread end a blocked write within milliseconds, with StreamClosed."""
    ending, blocked = how.split("-")
    promptly(make_pair, BLOCKED_WRITES[blocked], ENDINGS[ending])


@CHECKS.one
def a_write_that_was_closed_counts_what_it_dropped(make_pair: MakePair) -> None:
    """The rest of a write that close() interrupts is dropped; StreamClosed counts it, and the peer gets no more."""
    with pair(make_pair) as (stream, peer):
        written = stall(stream, PATTERN) + len(PATTERN)
        writer = Task(lambda: stream.write(PATTERN)).blocked()
        stream.close()
        error = writer.failure(StreamClosed)
        assert error.accepted == written
        assert error.sent == stream.bytes_sent < written
        data = all_that_came(peer)
        assert data == (PATTERN * (len(data) // len(PATTERN) + 1))[: error.sent]


@CHECKS.each(ENDINGS)
def the_end_wakes_a_reader_and_a_writer(ending: str, make_pair: MakePair) -> None:
    """Both threads of a connection that is used both ways are woken."""
    with pair(make_pair) as (stream, _):
        reader = Task(stream.readline).blocked()
        writer = Task(lambda: _flush(stream)).blocked()
        until(lambda: stream.bytes_sent > 0)
        ENDINGS[ending](stream)
        reader.failure(StreamClosed)
        writer.failure(StreamClosed)


@CHECKS.one
def close_beside_a_reader_still_sends_what_is_pending(make_pair: MakePair) -> None:
    """A thread that reads is woken, and what was accepted is sent all the same."""
    for _ in range(20):
        with pair(make_pair) as (stream, peer):
            written = stall(stream)
            reader = Task(stream.readline).blocked()
            collecting = Task(peer.read)
            stream.close()
            reader.failure(StreamClosed)
            assert len(collecting.result()) == written


@CHECKS.one
def two_threads_may_close_at_once(make_pair: MakePair) -> None:
    """Any number of threads may close: one of them does it, none fails."""
    for _ in range(10):
        with pair(make_pair) as (stream, peer):
            stream.write(b"pending")
            closers = [Task(stream.close) for _ in range(4)]
            for closer in closers:
                closer.result()
            assert peer.read() == b"pending"
            with expect(StreamClosed):
                stream.fileno()


@CHECKS.one
def abort_ends_a_close_that_waits(make_pair: MakePair) -> None:
    """A close() that waits for a stalled peer is ended by abort(), and tells that not everything was sent."""
    with pair(make_pair) as (stream, _):
        written = stall(stream)
        closer = Task(stream.close).blocked()
        begun = time.monotonic()
        stream.abort()
        error = closer.failure(SocketIOError)
        assert closer.ended_at - begun < 2
        assert getattr(error, "accepted", None) == written
        assert getattr(error, "sent", written) < written
        with expect(StreamClosed):
            stream.fileno()


@CHECKS.one
def abort_resets(make_pair: MakePair) -> None:
    """abort() drops everything and resets the connection: the peer gets ConnectionResetError, no orderly end."""
    with pair(make_pair) as (stream, peer):
        stream.write(b"dropped")
        stream.abort()
        assert stream.bytes_sent == 0
        with expect(ConnectionResetError):
            peer.read()
    with pair(make_pair) as (stream, peer):
        stall(stream)
        writer = Task(stream.flush).blocked()
        reader = Task(lambda: stream.read(1)).blocked()
        stream.abort()
        writer.failure(StreamClosed)
        reader.failure(StreamClosed)
        with expect(ConnectionResetError):
            peer.read()


# ---- half close ----------------------------------------------------------------------------------


@CHECKS.one
def shutdown_output_ends_one_direction(make_pair: MakePair) -> None:
    """shutdown("output") sends what is pending and the end; reading goes on, writing raises StreamClosed."""
    with pair(make_pair) as (stream, peer):
        stream.write(b"request")
        stream.shutdown("output")
        stream.shutdown("output")
        assert peer.read() == b"request"
        send(peer, LINE + NEXT)
        assert stream.readline() == LINE
        writes: list[Callable[[], object]] = [
            lambda: stream.write(b"x"),
            lambda: stream.write(bytearray(b"x")),
            lambda: stream.writelines([b"x"]),
        ]
        for write in writes:
            with expect(StreamClosed):
                write()
        assert not stream.closed
        assert stream.readline() == NEXT
        assert stream.bytes_sent == len(b"request")
        peer.close()
        assert stream.read() == b""
        stream.close()


@CHECKS.one
def shutdown_output_that_times_out_has_shut_down_nothing(make_pair: MakePair) -> None:
    """When not everything can be sent in time nothing has happened: the rest is kept, and later it works."""
    with pair(make_pair) as (stream, peer):
        written = stall(stream)
        stream.write_timeout = BRIEF
        directions: tuple[Direction, ...] = ("output", "io")
        for direction in directions:
            with expect(WriteTimeout):
                stream.shutdown(direction)
        written += stall(stream)
        collecting = Task(peer.read)
        resume(stream)
        stream.shutdown("output")
        assert len(collecting.result()) == written
        send(peer, LINE)
        assert stream.readline() == LINE


@CHECKS.each(("output", "io"))
def an_aborting_shutdown_drops_what_is_buffered(direction: Any, make_pair: MakePair) -> None:
    """With abort=True what is pending is not sent and what was received is forgotten; the peer sees the end."""
    with pair(make_pair) as (stream, peer):
        send(peer, LINE + NEXT)
        assert stream.readline() == LINE
        stream.write(b"dropped")
        stream.shutdown(direction, abort=True)
        assert peer.read() == b""
        with expect(StreamClosed):
            stream.write(b"x")
        if direction == "output":
            stream.read_timeout = BRIEF
            with expect(ReadTimeout):
                stream.readline()
            send(peer, LINE)
            stream.read_timeout = PATIENCE
            assert stream.readline() == LINE
        else:
            with expect(StreamClosed):
                stream.readline()
        assert stream.bytes_sent == 0


@CHECKS.one
def an_aborting_shutdown_wakes_a_blocked_write(make_pair: MakePair) -> None:
    """shutdown("output", abort=True) from another thread ends a blocked write; reading goes on."""
    with pair(make_pair) as (stream, peer):
        written = stall(stream)
        writer = Task(stream.flush).blocked()
        stream.shutdown("output", abort=True)
        error = writer.failure(StreamClosed)
        assert error.accepted == written
        assert (error.sent or 0) <= stream.bytes_sent < written  # over TLS what was encrypted already may follow
        send(peer, LINE)
        assert stream.readline() == LINE
        assert len(all_that_came(peer)) == stream.bytes_sent


@CHECKS.one
def shutdown_input_ends_one_direction(make_pair: MakePair) -> None:
    """shutdown("input") leaves what is buffered to be read, then reads raise StreamClosed; writing goes on."""
    with pair(make_pair) as (stream, peer):
        send(peer, LINE + NEXT)
        assert stream.peek() == LINE + NEXT
        stream.shutdown("input")
        stream.shutdown("input")
        assert stream.readline() == LINE
        assert stream.read_exactly(len(NEXT)) == NEXT
        for read in EVERY.values():
            with expect(StreamClosed):
                read(stream)()
        with expect(StreamClosed):
            stream.read_no_hang()
        send(stream, LINE)
        assert peer.readline() == LINE
        assert not stream.closed
        stream.close()
        assert peer.read() == b""


@CHECKS.one
def shutdown_input_wakes_a_blocked_read(make_pair: MakePair) -> None:
    """A read that waits ends with StreamClosed; the connection goes on."""
    with pair(make_pair) as (stream, peer):
        reader = Task(stream.readline).blocked()
        stream.shutdown("input")
        reader.failure(StreamClosed)
        send(stream, LINE)
        assert peer.readline() == LINE


@CHECKS.each(("peer_first", "peer_last"))
def shutdown_io_ends_both(order: str, make_pair: MakePair) -> None:
    """shutdown("io") is both, in order, also when the peer has ended before; close() is still needed, and works."""
    with pair(make_pair) as (stream, peer):
        stream.write(b"last words")
        if order == "peer_first":
            peer.shutdown("output")
            assert stream.read() == b""
        stream.shutdown("io")
        assert peer.read() == b"last words"
        with expect(StreamClosed):
            stream.read(1)
        with expect(StreamClosed):
            stream.write(b"x")
        assert stream.fileno() >= 0
        stream.shutdown("io", abort=True)
        stream.close()


@CHECKS.one
def an_unknown_direction_is_refused(make_pair: MakePair) -> None:
    """shutdown() takes "input", "output" and "io"; anything else is a ValueError that names it."""
    with pair(make_pair) as (stream, peer):
        wrong: Any
        for wrong in ("both", "", None, "Output"):
            with expect(ValueError) as caught:
                stream.shutdown(wrong)
            assert repr(wrong) in str(caught.error)
        send(stream, LINE)
        assert peer.readline() == LINE
