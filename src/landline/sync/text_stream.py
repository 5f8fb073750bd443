"""TextSocketStream: characters and lines over a SocketStream.

Decoding happens as late as possible (engine/text.py), so ``stream.buffer`` can be used for bytes after any
complete line, and a timeout finds every half character still there.

The fast path maps the decoder over the byte stream's own block of lines, in C, line by line as they are
taken. It is open when a byte line is a text line as it is: an encoding that keeps LF and CR to themselves,
nothing half decoded, and no CR in the block, which is looked at once per block. An iterator keeps such a map
over the block; before anything else is decoded, the block is taken from under it, so that it comes back here.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

from ..engine.receive import Overrun
from ..engine.text import TextDecoder, TextEncoder, checked_text_arguments
from ..errors import IncompleteRead
from .channel import Channel
from .face import StreamFace
from .lines import iterate_lines, read_lines
from .stream import SocketStream, checked_limit

__all__ = ["TextSocketStream"]


class TextSocketStream(StreamFace, io.TextIOBase):
    """A text stream over a SocketStream, which stays reachable as ``buffer``.

    Args:
        stream: the byte stream; closing this one closes it.
        encoding, errors: as for open().
        newline: as for open(), but for two things: with None a CR ends a line at once, a LF that follows is
            skipped; and nothing is ever written as os.linesep, so None writes what it is given.

    Timeouts, deadlines, closing, counters and conditions are those of the byte stream; counts in
    WriteTimeout are bytes. ``line_limit`` is in bytes, or characters where a line had to be decoded first.
    """

    __slots__ = (
        "_buffer", "_decode", "_decoder", "_encode", "_encoding", "_errors", "_iterated", "_lines", "_received",
    )  # fmt: skip

    def __init__(
        self, stream: SocketStream, encoding: str = "utf-8", errors: str = "strict", newline: str | None = None
    ) -> None:
        name = checked_text_arguments(encoding, errors, newline)
        self._buffer: SocketStream | None = stream
        self._encoding = encoding
        self._errors = errors
        self._decoder = TextDecoder(name, errors, newline)
        self._encode = TextEncoder(name, errors, newline).encode
        self._decode = self._decoder.decode
        self._received = stream._received
        self._lines: Iterator[str] = _NO_LINES
        self._iterated = False  # an iterator may have a map over the block

    # Reading

    def readline(self, size: int | None = None, /) -> str:  # type: ignore[override]
        """A line with its end ("\\n" unless ``newline`` says otherwise); "" when nothing is left.

        Raises:
            ReadTimeout, LimitOverrun: nothing was consumed.
            UnicodeDecodeError: the line cannot be decoded; its ``object`` holds the bytes, which are consumed.
        """
        if size is None:
            try:
                return next(self._lines)
            except StopIteration:
                return self._read_line()
        return self._read_sized_line(size)

    def read(self, size: int | None = -1, /) -> str:
        """``size`` characters, fewer only at the peer's end; everything up to it without a size."""
        self._begin_slow()
        decoder = self._decoder
        everything = size is None or size < 0
        while everything or len(decoder) < (size or 0):
            data = self._received.take_all() if everything else self._received.take_some((size or 0) - len(decoder))
            self._channel.check_readable()
            if data:
                decoder.feed(data)
            elif not self._channel.fill():
                decoder.feed(b"", final=True)
                break
        return decoder.take_all() if everything else decoder.take(size or 0)

    def read_exactly(self, count: int, /) -> str:
        """``count`` characters. Raises as SocketStream.read_exactly() does."""
        if count < 0:
            raise ValueError(f"count={count} is not allowed: it must be 0 or more")
        text = self.read(count)
        if len(text) < count:
            raise IncompleteRead(text, count)
        return text

    def read_until(self, separator: str, limit: int | None = None) -> str:
        """Everything through the next ``separator``, after line ends are translated. Raises as for bytes."""
        self._begin_slow()
        if not isinstance(separator, str) or not separator:
            raise ValueError(f"separator={separator!r} is not allowed: it must be a str, at least one character")
        limit = self.line_limit if limit is None else checked_limit(limit)
        while (text := self._decoder.take_until(separator)) is None:
            if len(self._decoder) >= limit:
                raise self.buffer._overrun(f"no separator {separator!r}", limit)
            if not self._feed_segment():
                raise IncompleteRead(self._decoder.take_all(), None)
        if len(text) > limit:
            self._decoder.unread(text)
            raise self.buffer._overrun(f"no separator {separator!r}", limit)
        return text

    def read_no_hang(self, size: int = -1, /) -> str | None:
        """What has arrived, up to ``size`` characters, without waiting. None: nothing yet. "": the peer has ended."""
        self._begin_slow()
        decoder = self._decoder
        if size == 0:
            return "" if len(decoder) else None
        data: bytes | None = None
        while not len(decoder) or (len(self._received) and not 0 <= size <= len(decoder)):
            data = self.buffer.read_no_hang(size if size < 0 else size - len(decoder))
            if data is None:
                break
            decoder.feed(data, final=not data)
            if not data:
                break
        text = decoder.take_all() if size < 0 else decoder.take(size)
        return text if text or data == b"" else None

    def unread(self, text: str, /) -> None:
        """Put ``text`` back: the next read gives it first."""
        self._begin_slow()
        if not isinstance(text, str):
            raise TypeError(f"a str is required, not {type(text).__name__}")
        self._decoder.unread(text)

    def input_ready(self) -> bool:
        """A character, the peer's end or a failure could be read without waiting."""
        self._begin_slow()
        if len(self._decoder) or not self.buffer.input_ready():
            return bool(len(self._decoder))
        try:
            text = self.read_no_hang(1)
        except OSError:
            return True
        except UnicodeDecodeError as error:
            self._received.unread(error.object)  # the read that is to come will tell of it
            return True
        if text:
            self._decoder.unread(text)
        return text is not None

    def readlines(self, hint: int | None = -1, /) -> list[str]:  # type: ignore[override]
        """All lines up to the peer's end; with a ``hint``, no more once so many characters have come."""
        return read_lines(self, hint, self._put_back)

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]
        """Lines up to the peer's end. After a timeout the same iterator goes on."""
        return iterate_lines(self._next_block)

    def __next__(self) -> str:  # type: ignore[override]
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def _read_line(self) -> str:
        block = self._plain_block()
        if block is not None:
            self._lines = map(self._decode, block)
            return next(self._lines, "") or self._read_line()
        return self._read_decoded_line()

    def _next_block(self) -> Any:
        """For an iterator: decoded lines, or one line (at the peer's end "")."""
        block = self._plain_block()
        if block is None:
            return self._read_decoded_line()
        self._iterated = True
        return map(self._decode, block)

    def _plain_block(self) -> io.BytesIO | None:
        """A block whose byte lines are text lines as they are; None when the next line is not in such a block."""
        self._lines = _NO_LINES
        self._channel.check_readable()
        decoder = self._decoder
        if not decoder.plain_lines:
            return None
        received = self._received
        searched = 0
        while decoder.clean:
            try:
                block = received.next_lines(self.line_limit)
            except Overrun:
                if decoder.ends_at_cr:
                    return None  # a CR may end the line in time
                raise self.buffer._overrun("no line end", self.line_limit) from None
            if block is not None:
                self._channel.check_readable()
                return None if decoder.ends_at_cr and received.block_holds(b"\r") else block
            # A line that is not whole stays bytes while it can, so that one which cannot be decoded is refused as
            # a whole, and not merged with the next.
            if decoder.ends_at_cr and received.tail.find(b"\r", searched) >= 0:
                break
            searched = len(received.tail)
            if not self._channel.fill():
                break
        return None

    def _read_decoded_line(self) -> str:
        limit = self.line_limit
        while (line := self._decoder.take_line()) is None:
            if len(self._decoder) >= limit:
                raise self.buffer._overrun("no line end", limit)
            if not self._feed_segment():
                line = self._decoder.take_line(ended=True) or ""
                break
        if len(line) > limit:
            self._decoder.unread(line)
            raise self.buffer._overrun("no line end", limit)
        return line

    def _read_sized_line(self, size: int) -> str:
        if size < 0:
            return self.readline()
        self._begin_slow()
        while (line := self._decoder.take_line()) is None:
            if len(self._decoder) >= size or not self._feed_segment():
                return self._decoder.take(size)
        self._decoder.unread(line[size:])
        return line[:size]

    def _feed_segment(self) -> bool:
        """Decode a little more, up to a line end where that can be seen in the bytes. False at the peer's end."""
        if not len(self._received) and not self._channel.fill():
            self._decoder.feed(b"", final=True)
            return False
        data = self._received.take_segment() if self._decoder.line_safe else self._received.take_all()
        self._channel.check_readable()
        self._decoder.feed(data)
        return True

    def _put_back(self, lines: list[str]) -> None:
        if not self.closed:
            self.unread("".join(lines))

    def _begin_slow(self) -> None:
        """What every way that may leave decoded text behind starts with."""
        self._lines = _NO_LINES
        self._channel.check_readable()
        if self._iterated:
            self._iterated = False
            self._received.unread(self._received.take_all())

    # Writing

    def write(self, text: str, /) -> int:
        """Take over all of ``text``. Returns its length in characters; raises as SocketStream.write() does.

        Raises:
            UnicodeEncodeError: nothing was taken over.
        """
        if not isinstance(text, str):
            raise TypeError(f"a str is required, not {type(text).__name__} (write bytes to stream.buffer)")
        self.buffer.write(self._encode(text))
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:  # type: ignore[override]
        """Take over all of ``lines``, whatever happens."""
        self.buffer.writelines(map(self._encode, lines))

    def flush(self) -> None:
        """Send what is pending. Raises as SocketStream.flush() does."""
        self.buffer.flush()

    # The byte stream

    @property
    def _channel(self) -> Channel:  # type: ignore[override]
        return self.buffer._channel

    @property
    def buffer(self) -> SocketStream:
        """The byte stream. Characters decoded but not taken (half a line that was read by count) stay here."""
        if self._buffer is None:
            raise ValueError("the byte stream was detached from this text stream")
        return self._buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        return self._errors

    @property
    def line_limit(self) -> int:
        return self.buffer.line_limit

    @line_limit.setter
    def line_limit(self, limit: int) -> None:
        self.buffer.line_limit = limit

    def close(self) -> None:
        """As SocketStream.close()."""
        if self._buffer is not None:
            self._buffer.close()

    def detach(self) -> SocketStream:  # type: ignore[override]
        """Give the byte stream away, as io.TextIOBase has it. (Its own detach() gives the socket.)

        Raises:
            ValueError: characters are decoded but not read. Nothing has changed.
        """
        stream = self.buffer
        if self._decoder.pending:
            raise ValueError("characters have been decoded but not read; read them first")
        self._buffer = None
        self._lines = _NO_LINES
        return stream

    def _decoded(self) -> int:
        if self._channel.direction == "output":
            return 0
        self._begin_slow()
        return len(self._decoder) or self._decoder.pending

    def _drop_input(self) -> None:
        super()._drop_input()
        self._decoder.take_all()

    def __del__(self) -> None:
        """Nothing: the byte stream warns when it is collected unclosed."""

    @property
    def closed(self) -> bool:
        return self._buffer is not None and self._buffer.closed

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._encoding} over {self._buffer!r}>"


_NO_LINES: Iterator[str] = iter(())
