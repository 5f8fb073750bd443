"""The connections of ``landline serve``: who is there, and how it is shown: lines, or a table on a terminal.

The table is drawn from what the streams count themselves, a few times a second, whatever their number; a line for each
connection that has ended scrolls away above it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING

from .. import SocketAddress, SocketStream, TlsInfo
from ..tls.refusal import printable
from .output import OutputClosed
from .progress import size_text
from .screen import STDOUT, write_all

if TYPE_CHECKING:
    from rich.console import Group

__all__ = [
    "Connection",
    "Connections",
    "Lines",
    "TableOnTerminal",
    "age_text",
    "counted",
    "display",
    "logging_to",
    "peer_text",
]

ROWS_BESIDE = 6
"""Rows of the terminal that are not for connections: title, head, borders, and what is told last."""

PER_SECOND = 4

LONGEST_LINE = 300
"""Characters of what is told about a connection; paths and conditions can be long."""


@dataclass(eq=False, slots=True)
class Connection:
    """One connection, or one peer that has sent datagrams."""

    peer: str
    stream: SocketStream | None = None
    began: float = field(default_factory=time.monotonic)
    received: int = 0
    sent: int = 0

    @property
    def age(self) -> float:
        return time.monotonic() - self.began

    @property
    def tls(self) -> TlsInfo | None:
        return self.stream.tls if self.stream is not None else None

    def count(self) -> tuple[int, int]:
        """Bytes received and sent, as of now."""
        if self.stream is not None:
            self.received, self.sent = self.stream.bytes_received, self.stream.bytes_sent
        return self.received, self.sent


class Connections:
    """Those that are open, in the order in which they came. Safe for threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._open: dict[int, Connection] = {}
        self.total = 0

    def add(self, connection: Connection) -> None:
        with self._lock:
            self._open[id(connection)] = connection
            self.total += 1

    def remove(self, connection: Connection) -> None:
        with self._lock:
            self._open.pop(id(connection), None)

    def now(self) -> list[Connection]:
        with self._lock:
            return list(self._open.values())


class Lines:
    """Plain lines on standard output, with the time. A reader that has gone away is no reason to stop serving."""

    def say(self, line: str) -> None:
        # Not through Python's buffer, whose last flush would fail too, and make that the exit status.
        with contextlib.suppress(OSError, OutputClosed):
            write_all(STDOUT, f"{line}\n".encode(getattr(sys.stdout, "encoding", None) or "utf-8", "replace"))

    def tell(self, line: str) -> None:
        self.say(f"{datetime.now():%Y-%m-%d %H:%M:%S} {_cleaned(line)}")

    @contextlib.contextmanager
    def shown(self, title: str, connections: Connections) -> Iterator[None]:
        yield


class TableOnTerminal:
    """A live table. Lines appear above it."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False)

    def say(self, line: str) -> None:
        from rich.text import Text

        with contextlib.suppress(OSError, ValueError):
            self._console.print(Text(line), soft_wrap=True)

    def tell(self, line: str) -> None:
        self.say(f"{datetime.now():%H:%M:%S} {_cleaned(line)}")

    @contextlib.contextmanager
    def shown(self, title: str, connections: Connections) -> Iterator[None]:
        from rich.live import Live

        def draw() -> Group:
            return self._drawn(title, connections)

        with Live(console=self._console, get_renderable=draw, refresh_per_second=PER_SECOND, transient=True):
            yield

    def _drawn(self, title: str, connections: Connections) -> Group:
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        there = connections.now()
        room = max(self._console.size.height - ROWS_BESIDE, 1)
        head = Text(f"{title}: {len(there)} open, {connections.total} in all", style="bold", no_wrap=True)
        table = Table(box=box.SIMPLE)
        for name in "peer", "age", "in", "out", "TLS":
            table.add_column(name, justify="left" if name in ("peer", "TLS") else "right", no_wrap=True)
        for connection in there[-room:]:
            received, sent = connection.count()
            tls = connection.tls
            cells = [connection.peer, age_text(connection.age), size_text(received), size_text(sent)]
            table.add_row(*map(Text, cells), Text(tls.version if tls is not None else "-"))
        if len(there) > room:
            table.add_row(Text(f"and {len(there) - room} more"), "", "", "", "")
        return Group(head, table)


def display() -> Lines | TableOnTerminal:
    """A table where there is a terminal that can show one."""
    if os.isatty(STDOUT) and os.environ.get("TERM", "dumb") not in ("", "dumb"):
        return TableOnTerminal()
    return Lines()


class LogLines(logging.Handler):
    """What the library's servers log, as lines among the others."""

    def __init__(self, shown: Lines | TableOnTerminal) -> None:
        super().__init__(logging.WARNING)
        self._shown = shown

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._shown.tell(record.getMessage() + (f": {error!r}" if error is not None else ""))


@contextlib.contextmanager
def logging_to(shown: Lines | TableOnTerminal) -> Iterator[None]:
    log = logging.getLogger("landline.server")
    handler = LogLines(shown)
    log.addHandler(handler)
    before, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = before


def peer_text(address: SocketAddress | None, number: int) -> str:
    """The peer; clients of Unix domain sockets have no address, and are numbered."""
    return str(address) if address is not None else f"client {number}"


def age_text(seconds: float) -> str:
    """ "7 s", "3:05", "2:03:05"."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, seconds = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def counted(number: int, what: str) -> str:
    """ "1 connection", "2 connections"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _cleaned(line: str) -> str:
    """Nothing in it that a terminal or a reader of lines would obey: requests and conditions quote the peer."""
    return printable(line, LONGEST_LINE)[1:-1]
