"""A line that is being typed: its text, the cursor, the history. Keys go in, finished lines come out; no terminal here.

Python's readline module was rejected: it cannot be told that something else has been written on its line, and it keeps
the cursor to itself, so that what the peer sends would tear apart what is being typed. Its keys are kept (those that
hands know without thinking); its files are not: a history on disk would keep the passwords of every protocol.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Iterator

__all__ = ["LineEditor", "columns_of"]

MOST_HISTORY = 500
"""Lines. More than anybody goes back through with the arrow keys."""

SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|[^\[O])", re.DOTALL)
"""A key that is more than one character: ECMA-48 5.4 (control sequences), or ESC and a character (Alt)."""

LONGEST_SEQUENCE = 32


class LineEditor:
    """One line at a time.

    Attributes:
        text: of the line.
        cursor: before which character of it; len(text) is the end.
    """

    def __init__(self, encoding: str) -> None:
        self.text = ""
        self.cursor = 0
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
        self._pending = ""  # the beginning of a sequence
        self._literally = False  # after Ctrl-V
        self._history: list[str] = []
        self._at = 0  # in the history; its length is the new line
        self._new = ""  # the new line, while an old one is shown
        self._killed = ""
        self._keys: dict[str, Callable[[], None]] = {
            "\x01": lambda: self._move(0),  # Ctrl-A
            "\x05": lambda: self._move(len(self.text)),  # Ctrl-E
            "\x02": lambda: self._move(self.cursor - 1),  # Ctrl-B
            "\x06": lambda: self._move(self.cursor + 1),  # Ctrl-F
            "\x7f": lambda: self._delete(self.cursor - 1, self.cursor),
            "\x08": lambda: self._delete(self.cursor - 1, self.cursor),
            "\x0b": lambda: self._kill(self.cursor, len(self.text)),  # Ctrl-K
            "\x15": lambda: self._kill(0, self.cursor),  # Ctrl-U
            "\x17": lambda: self._kill(self._word_before(r"\S"), self.cursor),  # Ctrl-W
            "\x19": lambda: self._insert(self._killed),  # Ctrl-Y
            "\x10": lambda: self._recall(-1),  # Ctrl-P
            "\x0e": lambda: self._recall(+1),  # Ctrl-N
            "\x0c": lambda: None,  # Ctrl-L: the line is painted anew after every key
        }
        words: dict[str, Callable[[], None]] = {
            "b": lambda: self._move(self._word_before(r"\w")),
            "f": lambda: self._move(self._word_after()),
            "d": lambda: self._kill(self.cursor, self._word_after()),
            "\x7f": lambda: self._kill(self._word_before(r"\w"), self.cursor),
        }
        self._keys.update({"\x1b" + key: action for key, action in words.items()})
        arrows = {"A": "\x10", "B": "\x0e", "C": "\x06", "D": "\x02", "H": "\x01", "F": "\x05"}
        for key, like in arrows.items():
            self._keys["\x1b[" + key] = self._keys["\x1bO" + key] = self._keys[like]
        for key, like in {"1~": "\x01", "7~": "\x01", "4~": "\x05", "8~": "\x05"}.items():
            self._keys["\x1b[" + key] = self._keys[like]
        self._keys["\x1b[3~"] = lambda: self._delete(self.cursor, self.cursor + 1)
        for modifier in "3", "5":  # Alt and Ctrl, with an arrow key
            self._keys[f"\x1b[1;{modifier}D"] = words["b"]
            self._keys[f"\x1b[1;{modifier}C"] = words["f"]

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take typed bytes; give each finished line as it is to be sent, b"" for the end of the input.

        Enter finishes a line, with a line feed. Ctrl-D at the end of one finishes it without, as a terminal does it;
        on an empty line it is the end. While a line is being given, ``text`` is still that line.
        """
        self._pending += self._decoder.decode(data)
        while self._pending:
            key = self._next_key()
            if not key:
                return
            if self._literally:
                self._literally = False
                self._insert(key)
            elif key == "\x16":  # Ctrl-V
                self._literally = True
            elif key in "\r\n":
                yield self._encoded("\n")
                self._finish()
            elif key == "\x04" and self.cursor == len(self.text):  # Ctrl-D
                yield self._encoded("")
                self._finish()
            elif key == "\x04":
                self._delete(self.cursor, self.cursor + 1)
            elif key in self._keys:
                self._keys[key]()
            elif key == "\t" or key >= " " or "\ud800" <= key <= "\udfff":
                self._insert(key)

    def view(self, width: int) -> tuple[str, int]:
        """What of the line is to be seen in ``width`` columns, and in which of them the cursor stands."""
        shown = [_shown(character) for character in self.text]
        widths = [columns_of(one) for one in shown]
        first = 0
        while sum(widths[first : self.cursor]) > width - 1:
            first += 1
        end, used = first, 0
        while end < len(shown) and used + widths[end] <= width - 1:
            used += widths[end]
            end += 1
        return "".join(shown[first:end]), sum(widths[first : self.cursor])

    def _next_key(self) -> str:
        """The next character or sequence; "" when it is not all there."""
        key = self._pending[0]
        if key == "\x1b" and not self._literally:
            found = SEQUENCE.match(self._pending)
            if found is None and len(self._pending) < LONGEST_SEQUENCE:
                return ""
            key = self._pending if found is None else found[0]
        self._pending = self._pending[len(key) :]
        return key

    def _encoded(self, end: str) -> bytes:
        return (self.text + end).encode(self._encoding, "surrogateescape")

    def _finish(self) -> None:
        if self.text and self._history[-1:] != [self.text]:
            self._history = [*self._history, self.text][-MOST_HISTORY:]
        self._at = len(self._history)
        self.text, self.cursor = "", 0

    def _insert(self, text: str) -> None:
        self.text = self.text[: self.cursor] + text + self.text[self.cursor :]
        self.cursor += len(text)

    def _move(self, to: int) -> None:
        self.cursor = min(max(to, 0), len(self.text))

    def _delete(self, begin: int, end: int) -> None:
        begin = max(begin, 0)
        self.text = self.text[:begin] + self.text[end:]
        self.cursor = begin

    def _kill(self, begin: int, end: int) -> None:
        self._killed = self.text[begin:end]
        self._delete(begin, end)

    def _word_before(self, part: str) -> int:
        """Where the word before the cursor begins; ``part`` is what words are made of."""
        found = re.search(rf"{part}+{_other(part)}*\Z", self.text[: self.cursor])
        return found.start() if found else 0

    def _word_after(self) -> int:
        found = re.compile(r"\W*\w+").match(self.text, self.cursor)
        return found.end() if found else len(self.text)

    def _recall(self, step: int) -> None:
        if self._at == len(self._history):
            self._new = self.text
        self._at = min(max(self._at + step, 0), len(self._history))
        self.text = self._history[self._at] if self._at < len(self._history) else self._new
        self.cursor = len(self.text)


def _other(part: str) -> str:
    return {r"\S": r"\s", r"\w": r"\W"}[part]


def _shown(character: str) -> str:
    """What a terminal may be given for a character of the line."""
    if "\ud800" <= character <= "\udfff":
        return "?"  # a byte that is nothing in the terminal's encoding
    if character < " " or character == "\x7f":
        return "^" + chr(ord(character) ^ 64)
    return character if character.isprintable() or unicodedata.combining(character) else "?"


def columns_of(text: str) -> int:
    """How many columns of a terminal printable text takes. Source: UAX 11; marks take none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(one) in ("Mn", "Me", "Cf") else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )
