"""Both directions in hexadecimal, for eyes: sixteen bytes a row, within 80 columns, '>' is ours and '<' the peer's.

A row is never held back to be filled: what has come is shown, and offsets count on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock

__all__ = ["HexDump"]

ROW = 16


class HexDump:
    """Writes rows with ``write``; each direction has its offsets. Safe for threads."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._lock = Lock()
        self._offsets = {">": 0, "<": 0}

    def sent(self, data: bytes) -> None:
        self._show(">", data)

    def received(self, data: bytes) -> None:
        self._show("<", data)

    def _show(self, mark: str, data: bytes) -> None:
        with self._lock:
            begin = self._offsets[mark]
            self._offsets[mark] += len(data)
            self._write("".join(_rows(mark, begin, data)).encode("ascii"))


def _rows(mark: str, begin: int, data: bytes) -> Iterator[str]:
    for at in range(0, len(data) or 1, ROW):
        row = data[at : at + ROW]
        halves = "  ".join(row[half : half + ROW // 2].hex(" ") for half in (0, ROW // 2))
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{mark} {begin + at:06x}  {halves:<48}  |{text}|\n"
