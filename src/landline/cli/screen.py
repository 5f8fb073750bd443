"""A terminal with a line of ours at the end of what the peer says: the line being typed, or a progress bar.

What the peer sends is written where the last of it ended, as if our line were not there: the cursor's place is kept by
the terminal (DECSC, DECRC), our line is painted behind it and removed before more comes. It must fit into the rest of
that row, because a place that scrolls away is lost; where too little is left, or a sequence of the peer's has moved
the cursor somewhere, our line has a row of its own.

While our line is empty, nothing but the peer's bytes is written.
"""

from __future__ import annotations

import os
import re
from threading import Lock

from ..sync.wait import wait_for_sockets
from .line_editor import columns_of
from .output import writing

__all__ = ["STDERR", "STDIN", "STDOUT", "Screen", "write_all"]

STDIN, STDOUT, STDERR = 0, 1, 2

KEEP, BACK, CLEAR_BELOW, CLEAR_RIGHT = "\x1b7", "\x1b8", "\x1b[J", "\x1b[K"

LEAST_ROOM = 24
"""Columns that a line needs at the end of a row, to be worth painting there."""

LONGEST_TAIL = 4096
"""Bytes of the peer's last row that are looked at; nobody's terminal is as wide."""

HARMLESS = re.compile(r"\x1b\[[0-9;]*m|\x07")  # colours, the bell: nothing moves


class Screen:
    """The terminal behind a descriptor. Safe for threads."""

    def __init__(self, descriptor: int = STDOUT) -> None:
        self._descriptor = descriptor
        self._lock = Lock()
        self._tail = b""  # of the peer's last row
        self._line, self._cursor = "", 0
        self._painted = False
        self._own_row = False

    @property
    def at_row_start(self) -> bool:
        """Nothing stands in the cursor's row."""
        return not self._painted and not self._tail

    def room(self) -> int:
        """Columns that paint() may use."""
        with self._lock:
            return self._room()[1]

    def show(self, data: bytes) -> None:
        """What the peer has sent."""
        with self._lock:
            erased = self._erased()
            self._tail = (self._tail + data)[-LONGEST_TAIL:].rpartition(b"\n")[2]
            self._own_row = self._own_row and b"\n" not in data
            write_all(self._descriptor, erased + data + self._repainted())

    def paint(self, line: str, cursor: int | None = None) -> None:
        """Our line, at most room() columns of it; ``cursor`` is the column in it where the cursor is to be."""
        with self._lock:
            erased = self._erased()
            self._line, self._cursor = line, cursor or 0
            write_all(self._descriptor, erased + self._repainted())

    def commit(self, line: str) -> None:
        """Our line, in its final form, becomes a part of what was said; a new row begins."""
        with self._lock:
            erased = self._erased()
            self._line, self._tail, self._own_row = "", b"", False
            write_all(self._descriptor, erased + line.encode(_encoding(), "replace") + b"\n")

    def _room(self) -> tuple[bool, int]:
        """Whether our line needs a row of its own, and its columns."""
        try:
            width = os.get_terminal_size(self._descriptor).columns or 80
        except OSError:
            width = 80
        if self._own_row:
            return False, width
        used = _columns(self._tail)
        left = width - used if used is not None else 0
        return (False, left) if left >= min(LEAST_ROOM, width) else (True, width)

    def _erased(self) -> bytes:
        if not self._painted:
            return b""
        self._painted = False
        return (BACK + CLEAR_BELOW).encode()

    def _repainted(self) -> bytes:
        if not self._line:
            return b""
        new_row, _ = self._room()
        begin = ""
        if new_row:
            begin, self._own_row, self._tail = "\r\n", True, b""
        self._painted = True
        there = f"\x1b[{self._cursor}C" if self._cursor else ""
        return (begin + KEEP + self._line + CLEAR_RIGHT + BACK + there).encode(_encoding(), "replace")


def _columns(tail: bytes) -> int | None:
    """The columns that the peer's last row takes; None where that cannot be said."""
    text = HARMLESS.sub("", tail.decode(_encoding(), "replace")).rpartition("\r")[2]
    if len(tail) >= LONGEST_TAIL or not text.replace("\t", "").isprintable():
        return None
    return columns_of(text.expandtabs(8))


def _encoding() -> str:
    import sys

    return getattr(sys.stdout, "encoding", None) or "utf-8"


def write_all(descriptor: int, data: bytes) -> None:
    """Write to a standard descriptor, which another program that shares it may have made non-blocking.

    Raises:
        OutputClosed, OSError: see output.writing().
    """
    view = memoryview(data)
    while view:
        with writing():
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                wait_for_sockets((), [descriptor], None)
