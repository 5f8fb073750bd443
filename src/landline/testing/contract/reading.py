"""What reading promises: a timeout is a pause, two clocks, limits, ends, and failures that stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ...errors import IncompleteRead, LimitOverrun, ReadTimeout, SocketIOError
from .stage import BRIEF, BROKEN, PATIENCE, Checks, MakePair, Task, expect, pair, until

if TYPE_CHECKING:
    from ...sync.stream import SocketStream

__all__ = ["CHECKS"]

CHECKS = Checks()

LINE = b"a line\n"
NEXT = b"the next\n"
LONG = b"0123456789abcdef" * 20_000
"""More than one receive brings."""

Read = Callable[[], bytes]


def _into(stream: SocketStream, size: int, once: bool = False) -> Read:
    def read() -> bytes:
        memory = bytearray(size)
        count = stream.readinto1(memory) if once else stream.readinto(memory)
        return bytes(memory[:count])

    return read


WHOLE: dict[str, Callable[[SocketStream], Read]] = {
    "readline": lambda stream: stream.readline,
    "readline_sized": lambda stream: lambda: stream.readline(1000),
    "read": lambda stream: lambda: stream.read(len(LINE)),
    "readinto": lambda stream: _into(stream, len(LINE)),
    "read_exactly": lambda stream: lambda: stream.read_exactly(len(LINE)),
    "read_until": lambda stream: lambda: stream.read_until(b"ne\n"),
    "iteration": lambda stream: iter(stream).__next__,
    "next": lambda stream: lambda: next(stream),
}
"""Ways to read LINE that wait until all of it has come."""

WHOLE_LONG: dict[str, Callable[[SocketStream], Read]] = {
    "readline": lambda stream: stream.readline,
    "read": lambda stream: lambda: stream.read(len(LONG) + 1),
    "readinto": lambda stream: _into(stream, len(LONG) + 1),
    "read_exactly": lambda stream: lambda: stream.read_exactly(len(LONG) + 1),
    "read_until": lambda stream: lambda: stream.read_until(b"\n"),
    "iteration": lambda stream: iter(stream).__next__,
}
"""Ways to read LONG and a line end."""

TO_THE_END: dict[str, Callable[[SocketStream], Read]] = {
    "read": lambda stream: stream.read,
    "readlines": lambda stream: lambda: b"".join(stream.readlines()),
    "read_sized": lambda stream: lambda: stream.read(1 << 20),
    "readinto": lambda stream: _into(stream, 1 << 20),
}
"""Ways to read that wait for the peer's end."""

FIRST: dict[str, Callable[[SocketStream], Read]] = {
    "read1": lambda stream: stream.read1,
    "read1_sized": lambda stream: lambda: stream.read1(100),
    "read1_large": lambda stream: lambda: stream.read1(1 << 20),
    "readinto1": lambda stream: _into(stream, 100, once=True),
    "peek": lambda stream: stream.peek,
}
"""Ways to read that wait for a first byte only."""

AT_ONCE: dict[str, Callable[[SocketStream], object]] = {
    "read_no_hang": lambda stream: stream.read_no_hang(),
    "input_ready": lambda stream: stream.input_ready(),
}
"""What never waits."""

EVERY = {
    **{f"whole-{name}": read for name, read in WHOLE.items()},
    **{f"end-{name}": read for name, read in TO_THE_END.items()},
    **{f"first-{name}": read for name, read in FIRST.items()},
}
"""Every way that may wait."""


def send(peer: SocketStream, data: bytes) -> None:
    peer.write(data)
    peer.flush()


def arrived(stream: SocketStream) -> None:
    """Wait until something can be read without waiting."""
    until(stream.input_ready)


def pause(stream: SocketStream, received: int, read: Callable[[], object]) -> None:
    """Let ``read`` time out, again and again until so many bytes have been received in all."""

    def timed_out() -> bool:
        with expect(ReadTimeout):
            read()
        return stream.bytes_received == received

    until(timed_out)


# ---- a timeout is a pause, not a loss ------------------------------------------------------------


@CHECKS.each(WHOLE)
def after_a_read_timeout_the_same_call_gives_the_whole(method: str, make_pair: MakePair) -> None:
    """After ReadTimeout the same call gives the whole line or count, whatever had come before."""
    with pair(make_pair) as (stream, peer):
        read = WHOLE[method](stream)
        stream.read_timeout = BRIEF
        for count in range(1, len(LINE)):
            send(peer, LINE[count - 1 : count])
            pause(stream, count, read)
        send(peer, LINE[-1:] + NEXT)
        stream.read_timeout = PATIENCE
        assert read() == LINE
        assert stream.readline() == NEXT


@CHECKS.each(WHOLE_LONG)
def after_a_read_timeout_a_long_read_gives_the_whole(method: str, make_pair: MakePair) -> None:
    """The same for more than one receive brings, which may go past the stream's own buffer."""
    with pair(make_pair) as (stream, peer):
        read = WHOLE_LONG[method](stream)
        third = len(LONG) // 3
        for part in (1, 2):
            sender = Task(lambda part=part: send(peer, LONG[(part - 1) * third : part * third]))  # type: ignore[misc]
            stream.read_timeout = BRIEF
            pause(stream, part * third, read)
            sender.result()
        sender = Task(lambda: send(peer, LONG[2 * third :] + b"\n" + NEXT))
        stream.read_timeout = PATIENCE
        assert read() == LONG + b"\n"
        assert stream.readline() == NEXT
        sender.result()


@CHECKS.each(TO_THE_END)
def after_a_read_timeout_reading_to_the_end_gives_all(method: str, make_pair: MakePair) -> None:
    """A read to the peer's end that times out has taken nothing, complete lines included."""
    with pair(make_pair) as (stream, peer):
        read = TO_THE_END[method](stream)
        stream.read_timeout = BRIEF
        send(peer, LINE + b"half")
        pause(stream, len(LINE) + 4, read)
        send(peer, b" and half\n" + NEXT)
        pause(stream, len(LINE) + 14 + len(NEXT), read)
        peer.shutdown("output")
        stream.read_timeout = PATIENCE
        assert read() == LINE + b"half and half\n" + NEXT
        assert read() == b""


@CHECKS.each(FIRST)
def a_read_for_what_is_there_waits_for_one_byte(method: str, make_pair: MakePair) -> None:
    """read1(), readinto1() and peek() time out when nothing comes, and give at once what does."""
    with pair(make_pair) as (stream, peer):
        read = FIRST[method](stream)
        stream.read_timeout = BRIEF
        with expect(ReadTimeout):
            read()
        send(peer, LINE)
        stream.read_timeout = PATIENCE
        data = read()
        if method == "peek":
            assert stream.read_exactly(len(data)) == data
        assert data + stream.read_exactly(len(LINE) - len(data)) == LINE


@CHECKS.one
def a_timed_out_readinto_gives_its_bytes_to_any_other_read(make_pair: MakePair) -> None:
    """Nothing was consumed: not only the same call finds it all."""
    with pair(make_pair) as (stream, peer):
        stream.read_timeout = BRIEF
        send(peer, b"12345")
        pause(stream, 5, lambda: stream.readinto(bytearray(10)))
        pause(stream, 5, lambda: stream.read_exactly(7))
        pause(stream, 5, stream.readline)
        pause(stream, 5, lambda: stream.read_until(b"6"))
        assert stream.peek() == b"12345"
        assert stream.read_no_hang(2) == b"12"
        send(peer, b"67\n")
        stream.read_timeout = PATIENCE
        assert stream.readline() == b"34567\n"


@CHECKS.one
def readlines_with_a_hint_that_times_out_gives_its_lines_back(make_pair: MakePair) -> None:
    """readlines() that cannot finish consumes nothing; a hint is enough to finish."""
    with pair(make_pair) as (stream, peer):
        stream.read_timeout = BRIEF
        send(peer, LINE + NEXT)
        pause(stream, len(LINE + NEXT), lambda: stream.readlines(100))
        assert stream.readlines(len(LINE) + 1) == [LINE, NEXT]


@CHECKS.one
def read_no_hang_tells_nothing_yet_from_the_end(make_pair: MakePair) -> None:
    """read_no_hang() never waits: None is nothing yet, b"" is the peer's end."""
    with pair(make_pair) as (stream, peer):
        assert stream.read_no_hang() is None
        assert not stream.input_ready()
        send(peer, b"12345")
        arrived(stream)
        assert stream.read_no_hang(2) == b"12"
        assert stream.input_ready()
        assert stream.read_no_hang() == b"345"
        assert stream.read_no_hang() is None
        peer.shutdown("output")
        arrived(stream)
        assert stream.read_no_hang() == b""
        assert stream.read_no_hang() == b""
        assert stream.input_ready()


# ---- files ---------------------------------------------------------------------------------------


@CHECKS.one
def lines_and_counts_mix(make_pair: MakePair) -> None:
    """Whatever order the reading methods are called in, each goes on where the one before stopped."""
    with pair(make_pair) as (stream, peer):
        send(peer, b"one\ntwo\nthree\nfour;five\nsix seven\neight\nnine\nten\nlast")
        peer.shutdown("output")
        lines = iter(stream)
        assert stream.readline() == b"one\n"
        assert next(lines) == b"two\n"
        assert stream.read(2) == b"th"
        assert next(lines) == b"ree\n"
        assert stream.read_until(b";") == b"four;"
        assert stream.read_exactly(2) == b"fi"
        assert stream.readline(1) == b"v"
        assert stream.readline() == b"e\n"
        memory = bytearray(3)
        assert stream.readinto(memory) == 3
        assert memory == b"six"
        stream.unread(b"SIX")
        assert next(lines) == b"SIX seven\n"
        assert stream.readlines(1) == [b"eight\n"]
        assert next(stream) == b"nine\n"
        assert list(lines) == [b"ten\n", b"last"]
        assert list(lines) == []
        assert stream.readline() == b""


@CHECKS.one
def memory_that_cannot_be_read_into_takes_nothing(make_pair: MakePair) -> None:
    with pair(make_pair) as (stream, peer):
        send(peer, b"line\n")
        assert stream.peek()
        for read_into in stream.readinto, stream.readinto1:
            with expect(TypeError):
                read_into(memoryview(b"xx"))
        assert stream.readline() == b"line\n"


@CHECKS.one
def sizes_follow_io(make_pair: MakePair) -> None:
    """Sizes mean what they mean to a file: none or negative is everything, 0 is nothing, a line may be cut."""
    with pair(make_pair) as (stream, peer):
        send(peer, b"12345\n678\n" + b"x" * 90)
        peer.shutdown("output")
        assert stream.read(0) == stream.read1(0) == stream.readline(0) == stream.read_exactly(0) == b""
        assert stream.readinto(bytearray()) == 0
        assert stream.readline(3) == b"123"
        assert stream.readline(3) == b"45\n"
        assert stream.readline(None) == b"678\n"
        assert stream.read(40) == b"x" * 40
        assert stream.read1(10) == b"x" * 10
        assert stream.read(None) == b"x" * 40
        assert stream.read() == stream.read(5) == stream.read1() == stream.readline() == b""
        assert stream.readinto(bytearray(3)) == stream.readinto1(bytearray(3)) == 0
        with expect(ValueError):
            stream.read_exactly(-1)


@CHECKS.one
def the_end_comes_short_and_stays(make_pair: MakePair) -> None:
    """At the peer's end counts and separators raise IncompleteRead with what there was; then reads say b""."""
    with pair(make_pair) as (stream, peer):
        send(peer, b"123")
        peer.shutdown("output")
        with expect(IncompleteRead) as caught:
            stream.read_exactly(5)
        assert (caught.error.partial, caught.error.expected) == (b"123", 5)
        with expect(EOFError):
            stream.read_exactly(1)
    with pair(make_pair) as (stream, peer):
        send(peer, b"123")
        peer.shutdown("output")
        with expect(IncompleteRead) as caught:
            stream.read_until(b";")
        assert (caught.error.partial, caught.error.expected) == (b"123", None)
        for _ in range(3):
            assert stream.readline() == stream.read(3) == stream.read1() == stream.read_no_hang() == b""
            assert list(stream) == stream.readlines() == []


@CHECKS.one
def unread_comes_first(make_pair: MakePair) -> None:
    """unread() puts bytes back, the same or others; the next read gives them before anything else."""
    with pair(make_pair) as (stream, peer):
        stream.unread(b"before anything came\n")
        assert stream.readline() == b"before anything came\n"
        send(peer, LINE + NEXT)
        assert stream.read_exactly(3) == LINE[:3]
        stream.unread(LINE[:3])
        assert stream.readline() == LINE
        stream.unread(bytearray(b"other\n"))
        assert stream.peek()[:5] == b"other"
        assert stream.input_ready()
        assert stream.read_exactly(3) == b"oth"
        assert stream.readline() == b"er\n"
        assert stream.readline() == NEXT
        with expect(TypeError):
            stream.unread("text")  # type: ignore[arg-type]
        assert stream.read_no_hang() is None


# ---- bounded by default --------------------------------------------------------------------------


@CHECKS.each(("readline", "iteration", "next", "readlines"))
def a_line_is_bounded(method: str, make_pair: MakePair) -> None:
    """A line longer than line_limit raises LimitOverrun, nothing consumed; with a higher limit it can be read."""
    with pair(make_pair) as (stream, peer):
        reads: dict[str, Callable[[], object]] = {
            "readline": stream.readline,
            "iteration": iter(stream).__next__,
            "next": lambda: next(stream),
            "readlines": lambda: stream.readlines(1)[0],
        }
        assert stream.line_limit == 1 << 20
        stream.line_limit = 10
        send(peer, b"12345678\n123456789\n1234567890\n" + LINE)
        assert reads[method]() == b"12345678\n"
        assert reads[method]() == b"123456789\n"
        for _ in range(2):
            with expect(LimitOverrun) as caught:
                reads[method]()
            assert caught.error.limit == 10
            assert isinstance(caught.error, SocketIOError)
        assert stream.readline(4) == b"1234", "with a size the size is the bound"
        stream.unread(b"1234")
        stream.line_limit = 11
        assert reads[method]() == b"1234567890\n"
        assert reads[method]() == LINE


@CHECKS.one
def a_line_that_never_ends_is_refused_before_it_ends(make_pair: MakePair) -> None:
    """The limit holds for what has come; nobody waits for the rest of a line that is too long already."""
    with pair(make_pair) as (stream, peer):
        stream.line_limit = 1000
        send(peer, b"x" * 1000)
        with expect(LimitOverrun):
            stream.readline()
        assert stream.read_exactly(1000) == b"x" * 1000


@CHECKS.one
def a_separator_is_bounded(make_pair: MakePair) -> None:
    """read_until() includes the separator; over its limit, by default line_limit, nothing is consumed."""
    with pair(make_pair) as (stream, peer):
        send(peer, b"key: value\r\n\r\nbody" + b"." * 2000)
        assert stream.read_until(b": ") == b"key: "
        for _ in range(2):
            with expect(LimitOverrun):
                stream.read_until(b"\r\n\r\n", 8)
        assert stream.read_until(b"\r\n\r\n", 9) == b"value\r\n\r\n"
        stream.line_limit = 100
        with expect(LimitOverrun) as caught:
            stream.read_until(b"!")
        assert caught.error.limit == 100
        assert stream.read_exactly(4) == b"body"
        for wrong in (b"", "text", None):
            with expect(ValueError):
                stream.read_until(wrong)  # type: ignore[arg-type]


# ---- failures ------------------------------------------------------------------------------------


@CHECKS.one
def a_reset_is_never_an_end(make_pair: MakePair) -> None:
    """What came before a reset is delivered first; then every read raises ConnectionResetError, again and again."""
    with pair(make_pair) as (stream, peer):
        send(peer, LINE + b"rest")
        arrived(stream)
        peer.abort()
        assert stream.readline() == LINE
        for read in (*WHOLE.values(), *TO_THE_END.values()):
            with expect(ConnectionResetError) as caught:
                read(stream)()
            assert isinstance(caught.error, BROKEN)
            assert caught.error.__cause__ is not None
        assert stream.read_exactly(4) == b"rest"
        for read in EVERY.values():
            with expect(ConnectionResetError):
                read(stream)()
        with expect(ConnectionResetError):
            stream.read_no_hang()
        assert stream.input_ready()


@CHECKS.one
def a_reset_that_a_write_found_is_no_end_for_reads(make_pair: MakePair) -> None:
    """The system tells of a reset once. Where a write was told, reads still say reset, and not end of file."""
    with pair(make_pair) as (stream, peer):
        peer.abort()
        arrived(stream)
        stream.write(LINE)
        with expect(ConnectionError):
            stream.flush()
        for read in EVERY.values():
            with expect(ConnectionResetError):
                read(stream)()


@CHECKS.one
def a_reset_wakes_a_blocked_read(make_pair: MakePair) -> None:
    """A read that waits when the peer resets the connection ends with ConnectionResetError."""
    with pair(make_pair) as (stream, peer):
        reader = Task(stream.readline).blocked()
        peer.abort()
        reader.failure(ConnectionResetError)


@CHECKS.one
def bytes_received_counts_what_came(make_pair: MakePair) -> None:
    """bytes_received counts every payload byte received, whether read or not, and once."""
    with pair(make_pair) as (stream, peer):
        assert stream.bytes_received == 0
        send(peer, LINE)
        stream.peek()
        assert stream.bytes_received == len(LINE)
        stream.unread(b"12345")
        send(peer, NEXT)
        assert stream.read_exactly(5 + len(LINE + NEXT)) == b"12345" + LINE + NEXT
        assert stream.bytes_received == len(LINE + NEXT)
        send(peer, LONG)
        peer.shutdown("output")
        assert stream.readinto(bytearray(1 << 20)) == len(LONG)
        assert stream.read_no_hang() == b""
        assert stream.bytes_received == len(LINE + NEXT + LONG)
