"""The receive buffer against the plainest thing that could do the same: one bytes object, sliced.

The machine feeds fragments and takes them by every method in any order, the way streams do. Blocks stay in
the hands of iterators; whatever such a block gives, early or late, must be what comes next.

What an operation costs is counted, not timed: bytes copied into blocks and out of them, and bytes searched.
"""

from __future__ import annotations

import builtins
import io
import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from landline.engine import receive
from landline.engine.receive import Overrun, ReceiveBuffer

AMPLE = 1 << 20

WORDS = [b"a", b"b", b"aa", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"aba", b"line\n", b"a longer line\r\n"]
FRAGMENTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(b"".join)
SEPARATORS = st.sampled_from([b"a", b"\n", b"aa", b"\r\n", b"aba", b"\n\r\n", b"\r\n\r\n", b"abaa", b"x"])
LIMITS = st.sampled_from([1, 2, 3, 4, 6, 9, 14, 30, AMPLE])
COUNTS = st.integers(0, 12) | st.just(200)


# ---- the oracle ----------------------------------------------------------------------------------


def through(data: bytes, separator: bytes, limit: int) -> bytes | None:
    """What take_until() must give, and take_line() with b"\\n"."""
    end = data.find(separator) + len(separator)
    if separator in data and end <= limit:
        return data[:end]
    if len(data) >= limit:
        raise Overrun
    return None


def sized_line(data: bytes, size: int) -> bytes | None:
    """What readline(size) must give."""
    end = min(size, data.find(b"\n") + 1 or size)
    return data[:end] if end <= len(data) else None


def outcome(function: Any, *arguments: Any) -> Any:
    """The result, or Overrun if that was raised."""
    try:
        return function(*arguments)
    except Overrun:
        return Overrun


class Taking(RuleBasedStateMachine):
    """``left`` is every byte that was fed and not taken."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = ReceiveBuffer()
        self.left = b""
        self.taken = b""
        self.held: list[io.BytesIO] = []

    def took(self, data: bytes) -> None:
        assert type(data) is bytes
        assert data == self.left[: len(data)]
        self.left = self.left[len(data) :]
        self.taken = data

    def got(self, result: Any, expected: Any) -> None:
        assert result == expected
        if isinstance(result, bytes):
            self.took(result)

    @rule(data=FRAGMENTS)
    def feed(self, data: bytes) -> None:
        self.buffer.feed(data)
        self.left += data

    @rule(data=FRAGMENTS)
    def drip(self, data: bytes) -> None:
        for index in range(len(data)):
            self.buffer.feed(data[index : index + 1])
        self.left += data

    @rule()
    def feed_nothing(self) -> None:
        """As a stream does at the peer's end."""
        self.buffer.feed(b"")

    @rule(limit=LIMITS)
    def readline(self, limit: int) -> None:
        line = self.buffer.readline()
        if line:
            self.got(line, through(self.left, b"\n", AMPLE))
        else:
            self.take_line(limit)

    @rule(limit=LIMITS)
    def take_line(self, limit: int) -> None:
        self.got(outcome(self.buffer.take_line, limit), outcome(through, self.left, b"\n", limit))

    @rule(size=st.integers(1, 12))
    def readline_with_a_size(self, size: int) -> None:
        line: bytes | None = self.buffer.readline(size)
        if not line:
            try:
                line = self.buffer.take_until(b"\n", size)
            except Overrun:
                line = self.buffer.take_exactly(size)
        self.got(line, sized_line(self.left, size))

    @rule(limit=LIMITS, holds=st.booleans())
    def next_lines(self, limit: int, holds: bool) -> None:
        block = outcome(self.buffer.next_lines, limit)
        expected = outcome(through, self.left, b"\n", limit)
        if not isinstance(expected, bytes):
            assert block is expected
            return
        assert isinstance(block, io.BytesIO)
        lines = block.getvalue()[block.tell() :]
        assert self.left.startswith(lines)
        assert lines.endswith(b"\n")
        assert max(map(len, lines.splitlines(keepends=True))) <= limit
        assert self.buffer.block_holds(b"\r\n") == (b"\r\n" in lines)
        if holds:
            self.held.append(block)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def next_of_a_held_block(self, data: st.DataObject) -> None:
        """It may have become an old one."""
        block = data.draw(st.sampled_from(self.held))
        line = next(block, b"")
        if line:
            self.got(line, self.left[: len(line)])
            assert line.count(b"\n") == line.endswith(b"\n") == 1

    @rule(separator=SEPARATORS, limit=LIMITS)
    def take_until(self, separator: bytes, limit: int) -> None:
        result = outcome(self.buffer.take_until, separator, limit)
        self.got(result, outcome(through, self.left, separator, limit))

    @rule(count=COUNTS)
    def read_or_unread(self, count: int) -> None:
        """The stream's fast path."""
        data = self.buffer.read(count)
        assert data == self.left[: len(data)]
        if len(data) == count:
            self.took(data)
        else:
            self.buffer.unread(data)

    @rule(count=COUNTS)
    def take_exactly(self, count: int) -> None:
        self.got(self.buffer.take_exactly(count), self.left[:count] if count <= len(self.left) else None)

    @rule(most=COUNTS)
    def take_some(self, most: int) -> None:
        data = self.buffer.take_some(most)
        assert len(data) <= most
        assert bool(data) == bool(most and self.left)
        self.took(data)

    @rule()
    def take_segment(self) -> None:
        segment = self.buffer.take_segment()
        assert bool(segment) == bool(self.left)
        assert re.fullmatch(rb"[^\r\n]*(\r\n|\r|\n)?", segment)
        self.took(segment)

    @rule()
    def take_all(self) -> None:
        self.got(self.buffer.take_all(), self.left)

    @rule()
    def peek(self) -> None:
        data = self.buffer.peek()
        assert type(data) is bytes
        assert bool(data) == bool(self.left)
        assert self.left.startswith(data)

    @rule()
    def unread_what_was_taken(self) -> None:
        self.unread(self.taken)
        self.taken = b""

    @rule(data=FRAGMENTS)
    def unread(self, data: bytes) -> None:
        self.buffer.unread(data)
        self.left = data + self.left

    @rule()
    def clear(self) -> None:
        self.buffer.clear()
        self.left = b""
        assert not any(block.read() for block in self.held)

    @invariant()
    def no_more_and_no_less_is_there(self) -> None:
        assert len(self.buffer) == len(self.left)
        assert len(self.buffer.tail) <= len(self.left)

    def teardown(self) -> None:
        self.take_all()
        assert not any(block.read() for block in self.held)


TestTaking = Taking.TestCase
TestTaking.settings = settings(max_examples=250, stateful_step_count=60)


@given(st.lists(FRAGMENTS | st.sampled_from([b"word", b"x" * 40])), st.sampled_from([5, 20, AMPLE]))
def test_lines_are_those_of_the_whole_however_it_was_cut(fragments: list[bytes], limit: int) -> None:
    buffer, lines = ReceiveBuffer(), []
    for fragment in fragments:
        buffer.feed(fragment)
        while (line := buffer.readline() or outcome(buffer.take_line, limit)) is not None:
            if line is Overrun:
                line = buffer.take_until(b"\n", AMPLE)
                if line is None:
                    break  # longer than the limit, and not whole yet
            lines.append(line)
    lines.append(buffer.take_all())
    whole = b"".join(fragments)
    assert lines == [*re.findall(rb"[^\n]*\n", whole), whole[whole.rfind(b"\n") + 1 :]]


@given(FRAGMENTS)
def test_segments_of_what_came_at_once_end_at_each_line_end_of_any_kind(data: bytes) -> None:
    buffer, segments = ReceiveBuffer(), []
    buffer.feed(data)
    while segment := buffer.take_segment():
        segments.append(segment)
    assert segments == re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", data)


# ---- single clauses ------------------------------------------------------------------------------


def test_a_separator_that_overlaps_itself_is_found_where_it_first_ends() -> None:
    buffer = ReceiveBuffer()
    for drop in (b"a", b"b", b"a", b"b"):
        buffer.feed(drop)
        assert buffer.take_until(b"abaa", AMPLE) is None
    buffer.feed(b"aa")
    assert buffer.take_until(b"abaa", AMPLE) == b"ababaa"


def test_a_limit_counts_the_separator() -> None:
    buffer = ReceiveBuffer()
    buffer.feed(b"12345\r\n")
    with pytest.raises(Overrun):
        buffer.take_until(b"\r\n", 6)
    with pytest.raises(Overrun):
        buffer.take_line(6)
    assert buffer.take_until(b"\r\n", 7) == b"12345\r\n"


def test_lines_before_one_that_is_too_long_are_given_first() -> None:
    buffer = ReceiveBuffer()
    buffer.feed(b"1\n22\ntoo long\n3\n")
    block = buffer.next_lines(4)
    assert block is not None
    assert list(block) == [b"1\n", b"22\n"]
    with pytest.raises(Overrun):
        buffer.next_lines(4)
    assert buffer.take_all() == b"too long\n3\n"


def test_a_block_of_lines_stays_the_block_until_it_is_used_up() -> None:
    """Asking again takes it from nobody's hands and copies nothing."""
    buffer = ReceiveBuffer()
    buffer.feed(b"1\n2\nrest")
    block = buffer.next_lines(30)
    assert block is not None
    assert buffer.take_line(30) == b"1\n"
    assert buffer.next_lines(30) is block
    assert buffer.next_lines(AMPLE) is block


def test_a_smaller_limit_holds_for_a_block_made_with_a_larger_one() -> None:
    buffer = ReceiveBuffer()
    buffer.feed(b"1\ntoo long\n")
    old = buffer.next_lines(AMPLE)
    assert buffer.take_line(4) == b"1\n"
    with pytest.raises(Overrun):
        buffer.take_line(4)
    assert old is not None
    assert old.read() == b""
    assert buffer.take_line(AMPLE) == b"too long\n"


def test_taking_none_of_what_is_there_loses_nothing() -> None:
    """The block is not used up, and there is a tail behind it."""
    buffer = ReceiveBuffer()
    buffer.feed(b"line\nta")
    buffer.next_lines(AMPLE)
    assert buffer.take_some(0) == b""
    assert buffer.take_all() == b"line\nta"


def test_unread_puts_back_what_never_came_from_here() -> None:
    buffer = ReceiveBuffer()
    buffer.feed(b"line\nrest")
    block = buffer.next_lines(AMPLE)
    buffer.unread(b"other ")
    assert block is not None
    assert list(block) == []
    assert buffer.take_line(AMPLE) == b"other line\n"
    assert buffer.take_all() == b"rest"


def test_a_line_that_was_unread_is_found_again_by_a_search_that_had_passed_it() -> None:
    buffer = ReceiveBuffer()
    buffer.feed(b"no line yet")
    assert buffer.take_line(AMPLE) is None
    buffer.unread(b"line\n")
    assert buffer.take_line(AMPLE) == b"line\n"


@pytest.mark.parametrize("take", ["take_all", "clear", "take_exactly", "take_some", "take_segment"])
@pytest.mark.parametrize("search", ["take_line", "take_until"])
def test_what_comes_after_all_was_taken_is_searched_from_its_beginning(take: str, search: str) -> None:
    def searched() -> bytes | None:
        return buffer.take_line(AMPLE) if search == "take_line" else buffer.take_until(b"\n", AMPLE)

    buffer = ReceiveBuffer()
    buffer.feed(b"no line")
    assert searched() is None
    getattr(buffer, take)(*[7] * (take in ("take_exactly", "take_some")))
    assert len(buffer) == 0
    buffer.feed(b"1\nno line")
    assert searched() == b"1\n"


def test_segments_that_were_unread_end_where_they_ended() -> None:
    buffer = ReceiveBuffer()
    buffer.feed(b"a\nb\rc\n")
    segments = [buffer.take_segment() for _ in range(3)]
    buffer.unread(b"".join(segments))
    assert [buffer.take_segment() for _ in range(4)] == [*segments, b""]


def test_readline_and_read_are_the_blocks_own_methods() -> None:
    """What makes a stream's readline() one Python call around one C call."""
    buffer = ReceiveBuffer()
    buffer.feed(b"line\n")
    block = buffer.next_lines(AMPLE)
    assert block is not None
    assert buffer.readline == block.readline
    assert buffer.read == block.read


def test_an_idle_buffer_holds_no_memory_of_its_own() -> None:
    """Idle streams are many; blocks come with data."""
    one, other = ReceiveBuffer(), ReceiveBuffer()
    assert one.read == other.read
    assert one.readline is other.readline


# ---- costs ---------------------------------------------------------------------------------------


class Meter:
    """Counts the bytes that the module copies and searches, by standing in for its bytes types."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.copied = self.searched = 0
        meter = self

        class AnyBytes(type):
            def __instancecheck__(cls, instance: object) -> bool:
                return isinstance(instance, builtins.bytes)

        class Bytes(builtins.bytes, metaclass=AnyBytes):
            def __new__(cls, data: Any = b"") -> Bytes:
                meter.copied += len(data)
                return super().__new__(cls, data)

            def find(self, sub: Any, start: Any = 0, end: Any = None, /) -> int:
                return meter.found(super().find(sub, start, end), start, len(self) if end is None else end, len(self))

        class ByteArray(builtins.bytearray):
            def __init__(self, data: Any = b"") -> None:
                meter.copied += len(data)
                super().__init__(data)

            def __iadd__(self, data: Any, /) -> Any:  # type: ignore[misc]  # the stub has __add__ for other types
                meter.copied += len(data)
                return super().__iadd__(data)

            def find(self, sub: Any, start: Any = 0, end: Any = None, /) -> int:
                return meter.found(super().find(sub, start, end), start, len(self) if end is None else end, len(self))

            def rfind(self, sub: Any, start: Any = 0, end: Any = None, /) -> int:
                found = super().rfind(sub, start, end)
                meter.searched += len(self) - max(found, start)
                return found

        class BytesIO(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                data = super().read(size)
                meter.copied += len(data)
                return data

            def readline(self, size: int | None = -1, /) -> bytes:
                data = super().readline(size)
                meter.copied += len(data)
                return data

        monkeypatch.setattr(receive, "bytes", Bytes, raising=False)
        monkeypatch.setattr(receive, "bytearray", ByteArray, raising=False)
        monkeypatch.setattr(receive, "io", SimpleNamespace(BytesIO=BytesIO, SEEK_END=io.SEEK_END))

    def found(self, index: int, start: int, end: int, size: int) -> int:
        self.searched += (index if index >= 0 else max(start, min(end, size))) - start
        return index

    @property
    def work(self) -> int:
        return self.copied + self.searched


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Meter:
    return Meter(monkeypatch)


SIZE = 20_000
FEW = 8
"""Times that a byte may be copied or searched over its whole way through the buffer."""


def drops(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


def test_a_long_line_that_drips_in_is_searched_and_copied_a_bounded_number_of_times(meter: Meter) -> None:
    buffer = ReceiveBuffer()
    for drop in drops(b"x" * SIZE):
        buffer.feed(drop)
        assert buffer.take_line(AMPLE) is None
    buffer.feed(b"\n")
    assert buffer.take_line(AMPLE) == b"x" * SIZE + b"\n"
    assert meter.work < FEW * SIZE


def test_a_separator_whose_beginnings_drip_in_is_searched_a_bounded_number_of_times(meter: Meter) -> None:
    buffer = ReceiveBuffer()
    data = b"\r\n\rx" * (SIZE // 4)
    for drop in drops(data):
        buffer.feed(drop)
        assert buffer.take_until(b"\r\n\r\n", AMPLE) is None
    buffer.feed(b"\r\n\r\n")
    assert buffer.take_until(b"\r\n\r\n", AMPLE) == data + b"\r\n\r\n"
    assert meter.work < FEW * SIZE


def test_a_count_that_drips_in_is_copied_a_bounded_number_of_times(meter: Meter) -> None:
    buffer = ReceiveBuffer()
    for drop in drops(b"x" * SIZE):
        assert buffer.take_exactly(SIZE) is None
        buffer.feed(drop)
    assert buffer.take_exactly(SIZE) == b"x" * SIZE
    assert meter.work < FEW * SIZE


@pytest.mark.parametrize("piece", [7, 64, SIZE])
def test_many_small_counts_cost_as_much_as_one_large_one(meter: Meter, piece: int) -> None:
    buffer = ReceiveBuffer()
    taken = 0
    for index in range(0, SIZE, piece):
        buffer.feed(b"x" * min(piece, SIZE - index))
        while (frame := buffer.take_exactly(16)) is not None:
            taken += len(frame)
    assert taken == SIZE // 16 * 16
    assert meter.work < FEW * SIZE


def test_a_long_line_taken_in_small_parts_is_copied_a_bounded_number_of_times(meter: Meter) -> None:
    """readline(size) of a stream: each part follows a search in vain."""
    buffer = ReceiveBuffer()
    buffer.feed(b"x" * SIZE)
    while len(buffer) >= 10:
        assert buffer.readline(10) == b""
        with pytest.raises(Overrun):
            buffer.take_until(b"\n", 10)
        assert buffer.take_exactly(10) == b"x" * 10
    assert meter.work < FEW * SIZE


def test_a_line_over_the_limit_that_is_skipped_in_small_parts_is_copied_a_bounded_number_of_times(
    meter: Meter,
) -> None:
    buffer = ReceiveBuffer()
    buffer.feed(b"x" * SIZE)
    while len(buffer) >= 10:
        with pytest.raises(Overrun):
            buffer.next_lines(10)
        assert buffer.take_some(10) == b"x" * 10
    assert meter.work < FEW * SIZE


@pytest.mark.parametrize("line", [b"OK\r", b"OK\n", b"OK\r\n"])
def test_each_segment_is_searched_once(meter: Meter, line: bytes) -> None:
    """An instrument that ends its lines with CR alone must not make each of them a search to the end of all."""
    buffer = ReceiveBuffer()
    buffer.feed(line * (SIZE // len(line)))
    while segment := buffer.take_segment():
        assert segment == line
    assert meter.work < FEW * SIZE


@pytest.mark.parametrize("piece", [1, 7, 1000, SIZE])
def test_lines_cost_the_same_in_pieces_of_every_size(meter: Meter, piece: int) -> None:
    buffer = ReceiveBuffer()
    data = b"a line of 19 bytes\n" * (SIZE // 19)
    lines = 0
    for index in range(0, len(data), piece):
        buffer.feed(data[index : index + piece])
        while buffer.readline() or buffer.take_line(AMPLE):
            lines += 1
    assert lines == SIZE // 19
    assert meter.work < FEW * SIZE


def test_messages_of_a_line_and_a_count_cost_as_much_as_either(meter: Meter) -> None:
    """As in the protocol of redis, or in HTTP's chunks."""
    buffer = ReceiveBuffer()
    message = b"5\r\nhel\no\r\n"
    data = message * (SIZE // len(message))
    for index in range(0, len(data), 1009):
        buffer.feed(data[index : index + 1009])
    for _ in range(SIZE // len(message)):
        assert (buffer.readline() or buffer.take_line(AMPLE)) == b"5\r\n"
        assert buffer.take_exactly(5) == b"hel\no"
        assert buffer.take_until(b"\r\n", AMPLE) == b"\r\n"
    assert len(buffer) == 0
    assert meter.work < FEW * SIZE
