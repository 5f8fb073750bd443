"""How far a transfer is: a bar on a terminal while files pass, and a line when they have.

What is counted is what the system has taken over or given, not what was read from a file. The bar is rich's, drawn
into the one line that the screen has for us; rich's own display would be torn apart by what the peer says.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Sequence
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from ..tls.refusal import printable
from .output import OutputClosed
from .screen import Screen

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Progress", "Transfer", "size_text"]

EVERY = 0.1
"""Seconds between two looks."""

AT_FIRST = 0.3
"""Seconds until the bar appears: what is over sooner needs none."""


class Transfer(NamedTuple):
    """One direction.

    Attributes:
        done: "sent" or "received".
        name: of the file.
        total: bytes; None where only the end will tell.
        passed: gives the bytes that have passed.
    """

    done: str
    name: str
    total: int | None
    passed: Callable[[], int]


class Progress:
    """The bar, as a context manager. Of several transfers the first that goes on is shown."""

    def __init__(self, screen: Screen, transfers: Sequence[Transfer]) -> None:
        self._screen = screen
        self._transfers = transfers
        self._began = time.monotonic()
        self._over = Event()
        self._thread = Thread(target=self._draw, name="landline progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        seconds = max(time.monotonic() - self._began, 1e-6)
        with contextlib.suppress(OSError, OutputClosed):
            self._screen.paint("")
            for transfer in self._transfers:
                self._screen.commit(summary(transfer, seconds))

    def _draw(self) -> None:
        with contextlib.suppress(OSError, OutputClosed):
            if self._over.wait(AT_FIRST):
                return
            bar = _Bar(self._transfers, self._began)
            while not self._over.wait(EVERY):
                self._screen.paint(bar.drawn(self._screen.room()))


def summary(transfer: Transfer, seconds: float) -> str:
    """ "sent 1.1 GB of disk.img in 0.9 s, 1.2 GB/s"; both numbers where it is not all."""
    count = transfer.passed()
    what = size_text(count)
    if transfer.total is not None and count != transfer.total:
        what += f" ({count} bytes) of {size_text(transfer.total)}"
    return f"{transfer.done} {what} of {_plain(transfer.name)} in {seconds:.1f} s, {size_text(count / seconds)}/s"


def size_text(count: float) -> str:
    """Bytes as people read them, in powers of 1000 as disks and networks are measured."""
    for unit in "bytes", "kB", "MB", "GB", "TB":
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"


def _plain(name: str) -> str:
    return printable(name, 40)[1:-1]


class _Bar:
    """rich's columns, in one row of text."""

    def __init__(self, transfers: Sequence[Transfer], began: float) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._transfers = transfers
        self._buffer = _LikeStandardOutput()
        self._console = Console(file=self._buffer, force_terminal=True, highlight=False)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
        )
        self._progress = Progress(*columns, console=self._console, auto_refresh=False, expand=True)
        self._tasks = [self._progress.add_task(_plain(one.name), total=one.total) for one in transfers]

    def drawn(self, width: int) -> str:
        counts = [one.passed() for one in self._transfers]
        for task, count in zip(self._tasks, counts, strict=True):
            self._progress.update(task, completed=count)
        going_on = [
            number for number, one in enumerate(self._transfers) if one.total is None or counts[number] < one.total
        ]
        shown = going_on[0] if going_on else 0
        self._console.width = max(width - 1, 10)
        self._buffer.seek(0)
        self._buffer.truncate()
        table = self._progress.make_tasks_table([self._progress.tasks[shown]])
        self._console.print(table, end="", soft_wrap=False)
        return self._buffer.getvalue().split("\n", 1)[0]


class _LikeStandardOutput(io.StringIO):
    """Text for a terminal with standard output's encoding: rich draws what that can show."""

    @property
    def encoding(self) -> str:  # type: ignore[override] # io has it as an attribute; StringIO's is None
        import sys

        return getattr(sys.stdout, "encoding", None) or "utf-8"
