"""Incremental text on top of received and sent bytes.

Decoding is done as late as possible: bytes are decoded when somebody takes them as text, not when they
arrive. So a text stream can be left at any line for its bytes (to start TLS, to read a counted body), which
io.TextIOWrapper cannot offer; it decodes ahead by 8 KiB.

What is decoded but not taken yet, the half of a character, and a line end whose second half may still come
are this object's state, and survive every timeout.

Line ends follow ``open()``'s newline argument, with two differences, because the other end is a peer and
not a file: a CR that ends what has arrived ends the line now (an instrument that says "OK\\r" and waits would
otherwise never be heard; a LF that follows later is skipped), and nothing is ever written as os.linesep.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from operator import methodcaller

__all__ = ["TextDecoder", "TextEncoder", "checked_text_arguments"]

NEWLINES = (None, "", "\n", "\r", "\r\n")

_LINE_SAFE = re.compile(r"utf-8|ascii|iso8859-\d+|cp12\d\d|cp437|cp85\d|cp866|koi8-[rtu]|mac-\w+")
"""Encodings without state in which the bytes 0x0A and 0x0D are never part of another character."""


def checked_text_arguments(encoding: str, errors: str, newline: str | None) -> str:
    """The canonical name of ``encoding``.

    Raises:
        TypeError, ValueError: naming the argument that is not allowed.
    """
    for name, value in (("encoding", encoding), ("errors", errors)):
        if not isinstance(value, str):
            raise TypeError(f"{name}={value!r} is not allowed: it must be a str")
    if newline not in NEWLINES:
        raise ValueError(f"newline={newline!r} is not allowed: it must be one of {', '.join(map(repr, NEWLINES))}")
    try:
        codec = codecs.lookup(encoding)
    except (LookupError, ValueError):
        raise ValueError(f"encoding={encoding!r} is not allowed: Python knows no such encoding") from None
    try:
        "".encode(encoding, errors)
        codecs.lookup_error(errors)
    except (LookupError, ValueError) as error:
        raise ValueError(f"encoding={encoding!r}, errors={errors!r} is not allowed: {error}") from None
    return codec.name


class TextDecoder:
    """Bytes in, lines and characters out. The take methods return None where more bytes are needed.

    Attributes:
        line_safe: lines may be cut at the byte level: bytes 0x0A and 0x0D are always line ends.
        decode: decodes a piece of complete characters in one call, without touching this object's state.
        plain_lines: a byte line that ends with LF (and holds no CR, if ends_at_cr) is a text line as it is.
        ends_at_cr: a CR ends a line too.
    """

    __slots__ = (
        "_barren", "_carry", "_decoder", "_encoding", "_length", "_newline", "_pieces", "_skip_line_feed", "_sought",
        "_start", "decode", "ends_at_cr", "line_safe", "plain_lines",
    )  # fmt: skip

    def __init__(self, encoding: str, errors: str, newline: str | None) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)(errors)
        self._encoding = encoding
        self._newline = newline
        self._pieces: list[str] = []
        self._start = 0  # so much of the first piece is taken
        self._length = 0
        self._skip_line_feed = False
        self._sought = "\n"
        self._barren = 0  # so many pieces were searched for it in vain
        self._carry = ""  # and so much of their end may be its beginning
        self.line_safe = _LINE_SAFE.fullmatch(encoding) is not None
        self.ends_at_cr = newline in (None, "")
        self.plain_lines = self.line_safe and newline in (None, "", "\n")
        self.decode: Callable[[bytes], str] = (
            bytes.decode if (encoding, errors) == ("utf-8", "strict") else methodcaller("decode", encoding, errors)
        )

    def __len__(self) -> int:
        """Characters that are decoded and not taken."""
        return self._length

    @property
    def pending(self) -> bool:
        """Characters are decoded, or half decoded, and not taken."""
        return bool(self._pieces) or bool(self._decoder.getstate()[0])

    @property
    def clean(self) -> bool:
        """Nothing is pending or half done: bytes may be taken and decoded elsewhere."""
        return not self._pieces and not self._skip_line_feed and not self._decoder.getstate()[0]

    def feed(self, data: bytes, final: bool = False) -> None:
        """Decode ``data``; ``final`` when the peer has ended.

        Raises:
            UnicodeDecodeError: ``data`` (or, at the end, the half of a character) cannot be decoded. It is
                dropped, except for the half of a character at its end; the exception's ``object`` holds it.
        """
        try:
            text = self._decoder.decode(data, final)
        except UnicodeDecodeError as error:
            self._pass_over(error.object, final)
            raise
        except UnicodeError as error:
            # UTF-16 or UTF-32 without a byte order mark. The codec tells neither where nor what, and starts anew.
            data = self._decoder.getstate()[0] + data
            self._decoder.reset()
            raise UnicodeDecodeError(self._encoding, data, 0, len(data), str(error)) from None
        if self._newline is None and text:
            text = self._translated(text)
        if text:
            self._pieces.append(text)
            self._length += len(text)

    def take_line(self, ended: bool = False) -> str | None:
        """A line with its end; at the peer's end (``ended``) also one without."""
        end = self._find("\n" if self._newline is None else self._newline)
        if end:
            return self._cut(end)
        return self.take_all() or None if ended else None

    def take_until(self, separator: str) -> str | None:
        """Everything through ``separator``."""
        end = self._find(separator)
        return self._cut(end) if end else None

    def take(self, count: int) -> str:
        """Up to ``count`` characters of those that are decoded."""
        if not self._pieces:
            return ""
        if self._start + count > len(self._pieces[0]):
            self._join()
        return self._cut(min(self._start + count, len(self._pieces[0])))

    def take_all(self) -> str:
        """Every character that is decoded."""
        return self.take(self._length)

    def unread(self, text: str) -> None:
        """Put ``text`` back in front of everything else."""
        if not text:
            return
        self._length += len(text)
        self._barren = 0
        start = self._start - len(text)
        if start >= 0 and self._pieces[0].startswith(text, start):
            self._start = start
            return
        if self._start:
            self._pieces[0] = self._pieces[0][self._start :]
            self._start = 0
        self._pieces.insert(0, text)

    def _find(self, sought: str) -> int:
        """The index, in the first piece, behind ``sought`` ("" is any line end); 0 when it is not there.

        What was searched in vain is remembered: otherwise a long line that drips in would be joined and searched
        from its start for every drop.
        """
        if sought != self._sought:
            self._sought, self._barren = sought, 0
        while self._barren < len(self._pieces):
            if self._barren:
                text, start = self._carry + "".join(self._pieces[self._barren :]), 0
            else:
                text, start = self._pieces[0], self._start
            end = _end_of(sought, text, start)
            if end and not self._barren:
                return end
            if end:
                self._join()
                continue
            self._carry = text[max(start, len(text) - (len(sought) or 2) + 1) :]
            self._barren = len(self._pieces) if self._barren else 1
        return 0

    def _cut(self, end: int) -> str:
        """Take the first piece up to the index ``end``."""
        piece = self._pieces[0]
        taken = piece[self._start : end]
        self._length -= len(taken)
        self._start = end
        if end == len(piece):
            del self._pieces[0]
            self._start = 0
            self._join()
        return taken

    def _join(self) -> None:
        """Make all pieces one. Whoever calls this takes the whole first piece, so no character is joined twice."""
        self._barren = 0
        if len(self._pieces) > 1:
            self._pieces[0] = self._pieces[0][self._start :]
            self._pieces = ["".join(self._pieces)]
            self._start = 0

    def _pass_over(self, data: bytes, final: bool) -> None:
        """Drop ``data``, but not what is to be remembered of it: byte order, shift state, half a character, a CR."""
        passing = codecs.getincrementaldecoder(self._encoding)("ignore")
        passing.setstate((b"", self._decoder.getstate()[1]))
        try:
            text = passing.decode(data, final)
        except UnicodeError:
            self._decoder.reset()
            return
        self._decoder.setstate(passing.getstate())
        if self._newline is None and text:
            self._translated(text)

    def _translated(self, text: str) -> str:
        if self._skip_line_feed:
            self._skip_line_feed = False
            if text[0] == "\n":
                text = text[1:]
        if "\r" in text:
            self._skip_line_feed = text[-1] == "\r"
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        return text


class TextEncoder:
    """Text in, bytes out; keeps what an encoding has to remember (the byte order mark is written once).

    What comes out is complete: no character is held back in case that the next one combines with it, and a shift
    state ends with the text it began in. Otherwise flush() would not send all, nor close() end properly.
    """

    __slots__ = ("_encoder", "_newline", "_stateless")

    def __init__(self, encoding: str, errors: str, newline: str | None) -> None:
        self._encoder = codecs.getincrementalencoder(encoding)(errors)
        self._newline = newline or "\n"
        self._stateless: Callable[[str], bytes] | None = None
        if _LINE_SAFE.fullmatch(encoding):
            self._stateless = str.encode if (encoding, errors) == ("utf-8", "strict") else self._encoder.encode

    @property
    def encode(self) -> Callable[[str], bytes]:
        """What gives the bytes of a text. It raises UnicodeEncodeError, and has encoded nothing then."""
        return self._stateless if self._stateless is not None and self._newline == "\n" else self._encode

    def _encode(self, text: str) -> bytes:
        if self._newline != "\n":
            text = text.replace("\n", self._newline)
        if self._stateless is not None:
            return self._stateless(text)
        state = self._encoder.getstate()
        try:
            return self._encoder.encode(text, True)
        except UnicodeError:
            self._encoder.setstate(state)
            raise


def _end_of(sought: str, text: str, start: int) -> int:
    """The index behind the first ``sought`` ("" is any line end) in ``text``; 0 when it is not there."""
    if sought:
        found = text.find(sought, start)
        return found + len(sought) if found >= 0 else 0
    match = _ANY_LINE_END.search(text, start)
    if match is None or (match.group() == "\r" and match.end() == len(text)):
        return 0  # whether LF follows is not known yet
    return match.end()


_ANY_LINE_END = re.compile(r"\r\n|\r|\n")
