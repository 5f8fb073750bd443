"""The send buffer against a list of what was written, and a wire that takes as much as it likes.

The machine does what streams do: it accepts, appends to ``small`` past accept(), sends pieces in parts,
copies what callers own, drops the rest; and between next() and advance(), while a piece is on its way,
what another thread may do. Callers change their memory as soon as it is theirs again.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from landline.engine import send
from landline.engine.send import JOIN_UP_TO, SendBuffer

JOINED = 16
"""JOIN_UP_TO for the machine, so that short data reach every branch."""

SIZES = st.integers(0, 3) | st.integers(0, 3 * JOINED)
MEMORY: list[Callable[[bytes], bytes | bytearray]] = [bytes, bytearray]


def drained(buffer: SendBuffer) -> list[bytes]:
    """The pieces of a wire that takes everything."""
    pieces = []
    while (piece := buffer.next()) is not None:
        pieces.append(bytes(piece))
        buffer.advance(len(piece))
    return pieces


class Sending(RuleBasedStateMachine):
    """``written`` is the oracle: what was accepted and not dropped, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(send, "JOIN_UP_TO", JOINED)
        self.buffer = SendBuffer()
        self.small = self.buffer.small
        self.written = b""
        self.wire = b""
        self.dropped = 0
        self.kept = 0
        self.lent: list[bytearray] = []

    def made(self, size: int) -> bytes:
        """``size`` bytes that differ from those before and after them."""
        start = len(self.written) + self.dropped
        return bytes((start + index) % 251 for index in range(size))

    def accepts(self, size: int, memory: Callable[[bytes], bytes | bytearray]) -> None:
        data = memory(self.made(size))
        self.written += data
        self.buffer.accept(memoryview(data))
        if isinstance(data, bytearray):
            self.lent.append(data)

    def appends(self, size: int) -> None:
        data = self.made(min(size, JOINED - len(self.small)))
        self.written += data
        self.small += data

    def owns(self) -> None:
        self.buffer.own()
        for memory in self.lent:
            memory[:] = b"?" * len(memory)
        self.lent.clear()

    @rule(size=SIZES, memory=st.sampled_from(MEMORY))
    def accept(self, size: int, memory: Callable[[bytes], bytes | bytearray]) -> None:
        self.accepts(size, memory)

    @rule(size=st.integers(0, JOINED))
    def append_to_small(self, size: int) -> None:
        """What a stream's write() does, at any time."""
        self.appends(size)

    @rule()
    def own(self) -> None:
        self.owns()

    @rule(size=SIZES, memory=st.sampled_from(MEMORY))
    def write(self, size: int, memory: Callable[[bytes], bytes | bytearray]) -> None:
        """Accept, send a part, and give the caller's memory back."""
        self.accepts(size, memory)
        self.sends(size // 2, [])
        self.owns()

    @rule(
        count=SIZES,
        meanwhile=st.lists(st.tuples(st.sampled_from(["append", "accept", "own", "look"]), SIZES), max_size=3),
    )
    def send(self, count: int, meanwhile: list[tuple[str, int]]) -> None:
        self.sends(count, meanwhile)

    def sends(self, count: int, meanwhile: list[tuple[str, int]]) -> None:
        piece = self.buffer.next()
        if piece is None:
            assert self.wire == self.written
            return
        assert len(piece)
        data = bytes(piece)
        for doing, size in meanwhile:
            match doing:
                case "append":
                    self.appends(size)
                case "accept":
                    self.accepts(size, bytes)
                case "own":
                    self.buffer.own()
                case "look":
                    assert self.buffer.accepted == len(self.written) + self.dropped
        count = min(count, len(data))
        self.wire += data[:count]
        self.buffer.advance(count)

    @rule()
    def clear(self) -> None:
        self.clears(0)
        assert self.buffer.next() is None

    @rule(keep=SIZES)
    def clear_but_for_its_beginning(self, keep: int) -> None:
        """What TLS has encrypted already stays: it cannot be taken back."""
        self.clears(keep)

    def clears(self, keep: int) -> None:
        self.buffer.clear(keep)
        self.kept = max(self.kept, keep)
        before = len(self.written)
        self.written = self.written[: len(self.wire) + keep]
        self.dropped += before - len(self.written)

    @invariant()
    def the_wire_has_what_was_written_from_the_beginning(self) -> None:
        assert self.written.startswith(self.wire)

    @invariant()
    def the_counts_are_exact(self) -> None:
        assert self.buffer.sent == len(self.wire)
        assert self.buffer.accepted == len(self.written) + self.dropped
        assert len(self.buffer) == len(self.written) - len(self.wire)

    @invariant()
    def small_is_the_same_object_for_ever(self) -> None:
        assert self.buffer.small is self.small
        assert len(self.small) <= max(JOINED, self.kept)

    def teardown(self) -> None:
        self.owns()
        self.wire += b"".join(drained(self.buffer))
        self.patch.undo()
        assert self.wire == self.written
        assert not self.buffer.large
        assert not self.small


TestSending = Sending.TestCase
TestSending.settings = settings(max_examples=200, stateful_step_count=40)


@given(st.lists(st.integers(0, 5000), max_size=50))
def test_small_pieces_are_joined_up_to_the_bound(sizes: list[int]) -> None:
    buffer = SendBuffer()
    for size in sizes:
        buffer.accept(memoryview(bytes(size)))
    assert len(buffer.next() or b"") == min(sum(sizes), JOIN_UP_TO)


@pytest.mark.parametrize("size", [1, 100, JOIN_UP_TO // 2])
def test_small_pieces_behind_a_large_one_are_joined_too(size: int) -> None:
    """A write timeout in the middle of writelines(): the lines after it must not become a send() each."""
    buffer = SendBuffer()
    buffer.accept(memoryview(bytes(2 * JOIN_UP_TO)))
    lines = [bytes([index % 251]) * size for index in range(8 * JOIN_UP_TO // size)]
    for line in lines:
        buffer.accept(memoryview(line))
    pieces = drained(buffer)
    assert b"".join(pieces) == bytes(2 * JOIN_UP_TO) + b"".join(lines)
    assert len(pieces) <= 1 + 8 + 1


def test_a_header_and_the_beginning_of_its_body_go_out_in_one_piece() -> None:
    buffer = SendBuffer()
    buffer.accept(memoryview(b"header"))
    buffer.accept(memoryview(b"body" * JOIN_UP_TO))
    pieces = drained(buffer)
    assert [len(piece) for piece in pieces] == [JOIN_UP_TO, 4 * JOIN_UP_TO + 6 - JOIN_UP_TO]
    assert b"".join(pieces) == b"header" + b"body" * JOIN_UP_TO


def test_a_large_piece_is_not_copied() -> None:
    buffer = SendBuffer()
    body = bytes(JOIN_UP_TO + 1)
    buffer.accept(memoryview(body))
    buffer.own()
    piece = buffer.next()
    assert isinstance(piece, memoryview)
    assert piece.obj is body
    buffer.advance(1)
    piece = buffer.next()
    assert isinstance(piece, memoryview)
    assert piece.obj is body
    assert len(piece) == JOIN_UP_TO


@pytest.mark.parametrize("size", [1, JOIN_UP_TO, JOIN_UP_TO + 1])
def test_memory_that_was_owned_is_free_to_change_and_to_grow(size: int) -> None:
    """A bytearray that is exported anywhere cannot be resized."""
    buffer = SendBuffer()
    memory = bytearray(b"x" * size)
    with memoryview(memory) as view:
        buffer.accept(view[:])
        buffer.own()
    memory[:] = b"changed" * size
    assert b"".join(drained(buffer)) == b"x" * size


def test_memory_that_only_looks_immutable_is_copied_too() -> None:
    buffer = SendBuffer()
    memory = bytearray(b"x" * (JOIN_UP_TO + 1))
    buffer.accept(memoryview(memory).toreadonly())
    buffer.own()
    memory[:] = b"y" * len(memory)
    assert b"".join(drained(buffer)) == b"x" * (JOIN_UP_TO + 1)


def test_small_writes_after_a_large_one_that_is_not_sent_yet_go_behind_it() -> None:
    """A write timeout leaves a large piece half sent; writing goes on."""
    buffer = SendBuffer()
    body = b"L" * (JOIN_UP_TO + 1)
    buffer.accept(memoryview(body))
    buffer.advance(len(buffer.next() or b"") // 2)
    buffer.small += b"small"
    buffer.accept(memoryview(b"er"))
    assert b"".join(drained(buffer)) == body[len(body) // 2 :] + b"smaller"


def test_a_small_write_while_a_joined_piece_is_on_its_way_is_neither_lost_nor_put_into_it() -> None:
    buffer = SendBuffer()
    body = b"L" * (2 * JOIN_UP_TO)
    buffer.accept(memoryview(b"header"))
    buffer.accept(memoryview(body))
    piece = bytes(buffer.next() or b"")
    buffer.small += b"other thread"
    buffer.advance(len(piece))
    assert piece + b"".join(drained(buffer)) == b"header" + body + b"other thread"


def test_small_may_be_over_the_bound_when_two_threads_have_looked_at_its_size_at_once() -> None:
    buffer = SendBuffer()
    buffer.small += b"x" * (JOIN_UP_TO + 10)
    buffer.accept(memoryview(b"large" * 10))
    assert drained(buffer) == [b"x" * (JOIN_UP_TO + 10), b"large" * 10]


def test_small_can_grow_while_a_piece_is_on_its_way() -> None:
    """Were it exported, appending would raise BufferError in whoever writes."""
    buffer = SendBuffer()
    buffer.small += b"first"
    with memoryview(buffer.next() or b"") as piece:
        buffer.small += b" second"
        buffer.advance(len(piece))
    assert drained(buffer) == [b" second"]


def test_what_was_dropped_counts_as_accepted_and_not_as_sent() -> None:
    buffer = SendBuffer()
    buffer.accept(memoryview(b"sent, dropped"))
    buffer.accept(memoryview(bytes(JOIN_UP_TO)))
    buffer.advance(6)
    buffer.clear()
    buffer.accept(memoryview(b"late"))
    assert (buffer.accepted, buffer.sent, len(buffer)) == (13 + JOIN_UP_TO + 4, 6, 4)
    assert drained(buffer) == [b"late"]


def test_what_is_kept_when_the_rest_is_dropped_comes_from_every_piece_in_order() -> None:
    buffer = SendBuffer()
    large = bytes(index % 251 for index in range(JOIN_UP_TO + 1))
    for data in (b"sent, small", large, b"behind", large, b"last"):
        buffer.accept(memoryview(data))
    whole = b"sent, small" + large + b"behind" + large + b"last"
    buffer.advance(6)
    keep = len(whole) - 6 - 4
    buffer.clear(keep)
    assert (len(buffer), buffer.accepted, buffer.sent) == (keep, len(whole), 6)
    buffer.accept(memoryview(b"new"))
    assert b"".join(drained(buffer)) == whole[6 : 6 + keep] + b"new"
