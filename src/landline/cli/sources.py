"""Where the bytes that ``landline connect`` sends come from: standard input, lines typed at a terminal, a file.

The descriptor of standard input is used directly. The interpreter, when it exits, waits for the lock of a buffered
reader that is blocked on a terminal.
"""

from __future__ import annotations

import os
import re
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Protocol

from .. import SocketStream
from ..sync.wait import wait_for_sockets
from .hex_dump import HexDump
from .line_editor import LineEditor
from .screen import STDIN, STDOUT, Screen

__all__ = ["FileToSend", "Source", "StandardInput", "TypedLines", "can_edit"]

BLOCK = 1 << 18
"""Bytes per step. Larger ones bring nothing, and pipes hold less than this anyway."""

INPUT_PAUSE = 0.5
"""Seconds without input, after the peer's end, until the input counts as idle. A peer that has ended may still
read (``nc -N -l 9000 </dev/null >copy`` ends first and takes everything), so a file or a pipe that still gives
something goes on being sent; a pipe that is merely open must not keep the command alive. socat waits as long.
At a terminal there is nothing to wait for."""

Busy = Callable[[bool], None]


class Source(Protocol):
    """What is sent.

    Attributes:
        typed: a person gives it, who may leave at any time; a file or a pipe is whole or not.
        patience: seconds that it may pause after the peer's end.
    """

    typed: bool
    patience: float

    def send(self, stream: SocketStream, busy: Busy) -> None:
        """Send everything up to its end; ``busy`` is told when something begins, and has ended, to be under way.

        Raises:
            SocketIOError: the connection failed.
            OSError: the source did; it reads as a sentence.
        """

    def in_use(self) -> AbstractContextManager[object]:
        """Around everything, the opening of the connection too: what is typed by then is not lost, nor shown twice."""


class StandardInput:
    """Standard input as it comes; with ``crlf`` its lines end with CR LF."""

    def __init__(self, *, crlf: bool = False, dump: HexDump | None = None) -> None:
        self.typed = os.isatty(STDIN)
        self.patience = 0.0 if self.typed else INPUT_PAUSE
        self._crlf = crlf
        self._dump = dump
        self._after_cr = False

    def read(self, size: int = BLOCK) -> bytes:
        """What there is; waits only when nothing is. b"" at the end. Raises OSError as a sentence."""
        while True:
            try:
                return os.read(STDIN, size)
            except BlockingIOError:  # another program that shares it has made it non-blocking
                wait_for_sockets([STDIN], (), None)
            except OSError as error:
                raise OSError(f"reading standard input failed: {error.strerror}") from error

    def next_piece(self, size: int = BLOCK) -> bytes:
        """What is to be sent next; b"" at the end."""
        data = self.read(size)
        if self._crlf and data:
            head = b"\n" if self._after_cr and data[:1] == b"\n" else b""
            self._after_cr = data[-1:] == b"\r"
            data = head + re.sub(rb"(?<!\r)\n", b"\r\n", data[len(head) :])
        return data

    def send(self, stream: SocketStream, busy: Busy) -> None:
        while data := self.next_piece():
            busy(True)
            stream.write(data)
            stream.flush()
            if self._dump is not None:
                self._dump.sent(data)
            busy(False)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        yield


def can_edit() -> bool:
    """Standard input and output are a terminal that can do what line editing needs."""
    if not (os.isatty(STDIN) and os.isatty(STDOUT)) or os.environ.get("TERM", "dumb") in ("", "dumb"):
        return False
    try:
        import termios
    except ImportError:
        return False
    return hasattr(termios, "tcsetattr")


class TypedLines(StandardInput):
    """Lines that are edited on ``screen`` before they are sent."""

    def __init__(self, screen: Screen, *, crlf: bool = False, dump: HexDump | None = None) -> None:
        super().__init__(crlf=crlf, dump=dump)
        self._screen = screen
        self._editor = LineEditor(getattr(sys.stdin, "encoding", None) or "utf-8")
        self._finished: list[bytes] = []
        self._first = True

    def read(self, size: int = BLOCK) -> bytes:
        while not self._finished:
            data = super().read(4096)
            if not data:
                return b""
            if self._first:
                # A Ctrl-D that was typed before the terminal was ours: that is what Linux makes of it (n_tty).
                data, self._first = data.replace(b"\0", b"\x04"), False
            for line in self._editor.feed(data):
                if line:
                    self._screen.commit(self._whole())
                self._finished.append(line)
            self._paint()
        return self._finished.pop(0)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        import termios

        before = termios.tcgetattr(STDIN)
        ours = termios.tcgetattr(STDIN)
        ours[3] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)  # ISIG stays: Ctrl-C and Ctrl-Z are the system's
        ours[6][termios.VMIN], ours[6][termios.VTIME] = 1, 0

        def resume(*_: object) -> None:
            termios.tcsetattr(STDIN, termios.TCSADRAIN, ours)
            self._paint()

        former = signal.signal(signal.SIGCONT, resume)
        try:
            termios.tcsetattr(STDIN, termios.TCSADRAIN, ours)
            yield
        except KeyboardInterrupt:
            self._screen.commit(self._whole() + "^C")  # as the system shows it where it echoes
            raise
        finally:
            signal.signal(signal.SIGCONT, former)
            termios.tcsetattr(STDIN, termios.TCSADRAIN, before)

    def _whole(self) -> str:
        return self._editor.view(2 * len(self._editor.text) + 1)[0]

    def _paint(self) -> None:
        line, cursor = self._editor.view(self._screen.room())
        self._screen.paint(line, cursor)


class FileToSend:
    """A file, from an offset to its end.

    Attributes:
        path: as given.
        total: bytes to send; None where only the end will tell (a pipe).

    Raises:
        OSError: it cannot be read, or has no such offset.
    """

    typed = False
    patience = 0.0

    def __init__(self, path: Path, offset: int, dump: HexDump | None = None) -> None:
        self.path = path
        self._dump = dump
        self.total: int | None = None
        try:
            self._file: IO[bytes] = path.open("rb", buffering=0)
        except OSError as error:
            raise OSError(f"{path} cannot be sent: {error.strerror}") from error
        try:
            found = os.fstat(self._file.fileno())
            if stat.S_ISREG(found.st_mode):
                if offset > found.st_size:
                    raise OSError(f"{path} has {found.st_size} bytes, which --offset {offset} is beyond")
                self._file.seek(offset)
                self.total = found.st_size - offset
            elif offset:
                raise OSError(f"{path} is no regular file, and has no --offset")
        except BaseException:
            self._file.close()
            raise

    def send(self, stream: SocketStream, busy: Busy) -> None:
        busy(True)
        if self._dump is None:
            sent = stream.send_file(self._file)
        else:
            sent = 0
            while data := self._file.read(BLOCK):
                stream.write(data)
                stream.flush()
                self._dump.sent(data)
                sent += len(data)
        if self.total is not None and sent < self.total:
            raise OSError(f"{self.path} became shorter while it was sent")
        busy(False)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        yield

    def close(self) -> None:
        self._file.close()
