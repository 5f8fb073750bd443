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
    except LookupError as error:
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
        "_barren", "_carry", "_decoder", "_newline", "_pieces", "_skip_line_feed", "_sought",
        "decode", "ends_at_cr", "line_safe", "plain_lines",
    )  # fmt: skip

    def __init__(self, encoding: str, errors: str, newline: str | None) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)(errors)
        self._newline = newline
        self._pieces: list[str] = []
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

    @property
    def pending(self) -> bool:
        """Characters are decoded, or half decoded, and not taken."""
        return bool(self._pieces) or bool(self._decoder.getstate()[0])

    @property
    def skips_line_feed(self) -> bool:
        """A LF that comes next belongs to a line that has been taken already."""
        return self._skip_line_feed

    @property
    def clean(self) -> bool:
        """Nothing is pending or half done: bytes may be taken and decoded elsewhere."""
        return not self._pieces and not self._skip_line_feed and not self._decoder.getstate()[0]

    def feed(self, data: bytes, final: bool = False) -> None:
        """Decode ``data``; ``final`` when the peer has ended.

        Raises:
            UnicodeDecodeError: ``data`` (or, at the end, the half of a character) cannot be decoded. It is
                dropped; the exception's ``object`` holds it.
        """
        try:
            text = self._decoder.decode(data, final)
        except UnicodeDecodeError:
            self._decoder.reset()
            raise
        if self._newline is None and text:
            text = self._translated(text)
        if text:
            self._pieces.append(text)

    def take_line(self, ended: bool = False) -> str | None:
        """A line with its end; at the peer's end (``ended``) also one without."""
        sought = "\n" if self._newline is None else self._newline
        if not self._pieces or not (ended or self._may_hold(sought)):
            return None
        text = self._joined()
        end = self._line_end(text, ended)
        if end:
            return self._cut(text, end)
        return self._cut(text, len(text)) if ended else None

    def take_until(self, separator: str) -> str | None:
        """Everything through ``separator``."""
        if not self._may_hold(separator):
            return None
        text = self._joined()
        found = text.find(separator)
        return self._cut(text, found + len(separator)) if found >= 0 else None

    def take(self, count: int) -> str:
        """Up to ``count`` characters of those that are decoded."""
        return self._cut(self._joined(), count) if self._pieces else ""

    def take_all(self) -> str:
        text = self._joined()
        return self._cut(text, len(text))

    def unread(self, text: str) -> None:
        """Put ``text`` back in front of everything else."""
        if text:
            self._pieces.insert(0, text)
            self._search_anew()

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def _may_hold(self, sought: str) -> bool:
        """Whether a join is worth it: ``sought`` ("" is any line end) is in what came since it was last missed.

        Without this a long line that drips in would be joined and searched from its start for every drop.
        """
        if sought != self._sought:
            self._search_anew()
            self._sought = sought
        fresh = self._carry + "".join(self._pieces[self._barren :])
        if sought in fresh if sought else "\n" in fresh or "\r" in fresh:
            return True
        self._barren = len(self._pieces)
        self._carry = fresh[1 - len(sought) :] if len(sought) > 1 else ""
        return False

    def _search_anew(self) -> None:
        self._barren, self._carry = 0, ""

    def _joined(self) -> str:
        text = self._pieces[0] if len(self._pieces) == 1 else "".join(self._pieces)
        self._pieces = [text] if text else []
        self._search_anew()
        return text

    def _cut(self, text: str, end: int) -> str:
        rest = text[end:]
        self._pieces = [rest] if rest else []
        self._search_anew()
        return text[:end]

    def _line_end(self, text: str, ended: bool) -> int:
        """The index behind the first line end; 0 when there is none."""
        if self._newline is None:
            return text.find("\n") + 1
        if self._newline:
            found = text.find(self._newline)
            return found + len(self._newline) if found >= 0 else 0
        match = _ANY_LINE_END.search(text)
        if match is None or (match.group() == "\r" and match.end() == len(text) and not ended):
            return 0  # whether LF follows is not known yet
        return match.end()

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
    """Text in, bytes out; keeps what an encoding has to remember (the byte order mark is written once)."""

    __slots__ = ("_encoder", "_newline")

    def __init__(self, encoding: str, errors: str, newline: str | None) -> None:
        self._encoder = codecs.getincrementalencoder(encoding)(errors)
        self._newline = newline if newline in ("\r", "\r\n") else None

    def encode(self, text: str) -> bytes:
        """The bytes of ``text``. Raises UnicodeEncodeError, and has encoded nothing then."""
        if self._newline is not None:
            text = text.replace("\n", self._newline)
        return self._encoder.encode(text)


_ANY_LINE_END = re.compile(r"\r\n|\r|\n")
