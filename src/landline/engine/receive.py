"""Received bytes that nobody has taken yet: by lines, counts and separators.

Taking is the hot path, so most of it is not Python. What is buffered has two parts, in this order:

* the *block*, an io.BytesIO that is being read off its front. ``buffer.read`` and ``buffer.readline`` are
  that object's own C methods, so that a stream's readline() is one Python call around one C call;
* the *tail*, bytes behind the block.

A block is made either of complete lines only (then ``buffer.readline`` may be used without looking: it
returns a whole line, or b"" when the block is used up), or of arbitrary bytes for counted reads (then
``buffer.readline`` always says b"", and take_line() sorts things out). The caller's rule is the same for both:

    line = buffer.readline() or <the slow way: take_line(), receive more, again>

Costs: every byte is copied a bounded number of times, whatever the sizes of the pieces it arrives in; the
tail remembers how far it was searched, so a long line that drips in is not searched from its start again. An
Overrun that the block alone can tell moves nothing: a long line may be taken in small parts, each after a
search in vain.

A deque of chunks (asyncio keeps one bytearray, anyio too) was tried: lines then cost a find and a slice
each in Python, five times slower than BytesIO.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

__all__ = ["Overrun", "ReceiveBuffer"]


class Overrun(Exception):
    """The limit was reached without finding what was searched. Nothing was consumed."""


class ReceiveBuffer:
    """Bytes in the order they came. The methods return None where more bytes are needed, and consume nothing then.

    Attributes:
        read: takes up to n bytes of the block (fewer does not mean that there are no more).
        tail: what is behind the block; all there is once the block is used up.
        readline: takes a complete line of the block, or part of one when given a size; b"" when a block of lines
            is used up, and always for a block of another kind.
    """

    __slots__ = ("_block", "_data", "_limit", "_line_feed", "_searched", "_separator", "read", "readline", "tail")

    read: Callable[..., bytes]
    readline: Callable[..., bytes]
    tail: bytes | bytearray
    _limit: float  # the longest line that the block may hold; infinite for a block that is not one of lines
    _line_feed: int  # the index of the next one in the block, its length when there is none, -1 when not known

    def __init__(self) -> None:
        self.tail = b""
        self._searched = 0
        self._separator = b"\n"
        self._drop_block()

    def __len__(self) -> int:
        return len(self._data) - self._block.tell() + len(self.tail)

    def feed(self, data: bytes) -> None:
        """Bytes have come."""
        if not self.tail:
            self.tail = data
            self._searched = 0
            return
        if isinstance(self.tail, bytes):
            self.tail = bytearray(self.tail)
        self.tail += data

    def unread(self, data: bytes) -> None:
        """Put ``data`` back in front of everything else."""
        position = self._block.tell()
        if len(data) <= position and self._data[position - len(data) : position] == data:
            self._block.seek(position - len(data))
            self._line_feed = -1
        else:
            self.tail = b"".join((data, self._block.read(), self.tail))
            self._searched = 0
            self._drop_block()

    def clear(self) -> None:
        """Forget everything. Iterators over a block end."""
        self._block.seek(0, io.SEEK_END)
        self.tail = b""
        self._drop_block()

    def next_lines(self, limit: int) -> io.BytesIO | None:
        """Make the block one of complete lines, each at most ``limit`` bytes long, and return it.

        Returns None when there is no complete line yet. The caller may take lines from the block itself or
        through ``readline``: it is the same object.

        Raises:
            Overrun: the first line is longer than the limit.
        """
        position = self._block.tell()
        untaken = len(self._data) - position
        if untaken:
            if self._limit <= limit:
                return self._block
            if untaken >= limit and self._data.find(b"\n", position, position + limit) < 0:
                raise Overrun
        self._gather()
        tail = self.tail
        start = self._searched if self._separator == b"\n" else 0
        end = tail.rfind(b"\n", start) + 1
        if end > limit:
            end = _whole_lines(tail, limit)
        elif not end and len(tail) < limit:
            self._separator, self._searched = b"\n", len(tail)
            return None
        if not end:
            raise Overrun
        self._set_block(self._take_tail(end))
        self._limit = limit
        self.readline = self._block.readline
        return self._block

    def block_holds(self, data: bytes) -> bool:
        """Whether the untaken part of the block contains ``data``."""
        return self._data.find(data, self._block.tell()) >= 0

    def take_line(self, limit: int) -> bytes | None:
        """A line with its b"\\n". Raises Overrun when it is longer than ``limit`` bytes."""
        block = self.next_lines(limit)
        return None if block is None else block.readline()

    def take_until(self, separator: bytes, limit: int) -> bytes | None:
        """Everything through the next ``separator``. Raises Overrun when that is more than ``limit`` bytes."""
        position = self._block.tell()
        found = self._data.find(separator, position, position + limit)
        if found >= 0:
            return self.read(found + len(separator) - position)
        if len(self._data) - position >= limit:
            raise Overrun
        self._gather()
        tail = self.tail
        found = tail.find(separator, self._searched if self._separator == separator else 0, limit)
        if found >= 0:
            self._tail_to_block()
            return self.read(found + len(separator))
        if len(tail) >= limit:
            raise Overrun
        # The separator's first bytes may be there already.
        self._separator, self._searched = separator, max(0, len(tail) - len(separator) + 1)
        return None

    def take_exactly(self, count: int) -> bytes | None:
        """``count`` bytes, or None when there are fewer."""
        if len(self) < count:
            return None
        head = self.read(count)
        if len(head) == count:
            return head
        self._tail_to_block()
        return head + self.read(count - len(head))

    def take_some(self, most: int) -> bytes:
        """Up to ``most`` of the bytes that are there; b"" only when there are none, or none are wanted."""
        head = self.read(most)
        if head or not most or not self.tail:
            return head
        self._tail_to_block()
        return self.read(most)

    def take_segment(self) -> bytes:
        """Bytes through the first CR, LF or CR LF; all of a stretch that has none; b"" when there is nothing."""
        if self._block.tell() == len(self._data):
            self._tail_to_block()
        data, start = self._data, self._block.tell()
        line_feed = self._line_feed
        if line_feed < start:
            # Looked up once, or a block full of CRs would be searched to its end for each of them.
            found = data.find(b"\n", start)
            self._line_feed = line_feed = found if found >= 0 else len(data)
        end = line_feed + 1
        carriage_return = data.find(b"\r", start, end)
        if carriage_return >= 0 and carriage_return + 1 != line_feed:
            end = carriage_return + 1
        return self.read(end - start)

    def take_all(self) -> bytes:
        """Every byte that is there."""
        self._gather()
        taken, self.tail = bytes(self.tail), b""
        return taken

    def peek(self) -> bytes:
        """The bytes at the front, without taking them; b"" only when there are none."""
        return self._data[self._block.tell() :] or bytes(self.tail)

    def _gather(self) -> None:
        """Make everything tail."""
        if self._block.tell() < len(self._data):
            self.tail = b"".join((self._block.read(), self.tail))
            self._searched = 0
        self._drop_block()

    def _tail_to_block(self) -> None:
        """Make the tail a block for counted reads, which are C calls then. The block must be used up."""
        tail, self.tail = self.tail, b""
        self._set_block(bytes(tail))
        self._limit = math.inf
        self.readline = _no_line

    def _take_tail(self, count: int) -> bytes:
        tail = self.tail
        self._searched = 0
        if isinstance(tail, bytes):
            self.tail = tail[count:]
            return tail[:count]
        with memoryview(tail) as view:
            taken = bytes(view[:count])
        del tail[:count]
        return taken

    def _set_block(self, data: bytes) -> None:
        self._block = io.BytesIO(data)
        self._data = data
        self._line_feed = -1
        self.read = self._block.read

    def _drop_block(self) -> None:
        self._block = _NOTHING
        self._data = b""
        self.read = _NOTHING.read
        self.readline = _no_line


_NOTHING = io.BytesIO()


def _no_line(size: int | None = -1, /) -> bytes:
    return b""


def _whole_lines(data: bytes | bytearray, limit: int) -> int:
    """The end of the last line of ``data`` before which every line is within ``limit``."""
    end = 0
    while (found := data.find(b"\n", end, end + limit)) >= 0:
        end = found + 1
    return end
