"""Where what the peer sends goes: standard output, a terminal with a line of ours, a file, a hexadecimal dump."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Protocol

from .hex_dump import HexDump
from .screen import STDOUT, Screen, write_all

__all__ = ["Dumped", "FileToReceive", "OnScreen", "Sink", "StandardOutput"]


class Sink(Protocol):
    """What takes received bytes."""

    def write(self, data: bytes) -> None:
        """Raises OutputClosed where nobody wants more, OSError otherwise; it reads as a sentence."""

    def finish(self) -> None:
        """The peer has ended as it should. Raises OSError."""

    def give_up(self) -> str | None:
        """It has not. Gives a sentence to tell, if there is something."""


class StandardOutput:
    """Standard output, as it comes. Python's own buffer would keep back what has come until more comes."""

    def __init__(self) -> None:
        self._last = b""

    def write(self, data: bytes) -> None:
        self._last = data
        write_all(STDOUT, data)

    def finish(self) -> None:
        pass

    def give_up(self) -> str | None:
        if os.isatty(STDOUT) and self._last and not self._last.endswith(b"\n"):
            with contextlib.suppress(OSError):
                os.write(STDOUT, b"\n")  # what is told next, or the prompt, begins a line
        return None


class OnScreen:
    """A terminal that has a line of ours as well."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def write(self, data: bytes) -> None:
        self._screen.show(data)

    def finish(self) -> None:
        pass

    def give_up(self) -> str | None:
        if not self._screen.at_row_start:
            with contextlib.suppress(OSError):
                self._screen.commit("")
        return None


class Dumped:
    """What comes goes to ``inner``, if there is one, and into the dump."""

    def __init__(self, dump: HexDump, inner: Sink | None) -> None:
        self._dump = dump
        self._inner = inner

    def write(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.write(data)
        self._dump.received(data)

    def finish(self) -> None:
        if self._inner is not None:
            self._inner.finish()

    def give_up(self) -> str | None:
        return None if self._inner is None else self._inner.give_up()


class FileToReceive:
    """A file that is ``path`` only when it is complete, and PATH.part before; a device or a pipe is written at once.

    Attributes:
        path: as given.
        begins_at: the byte at which this transfer begins, with ``resume``.

    Raises:
        OSError: it cannot be written, or a part of it is there and nobody has asked to resume.
    """

    def __init__(self, path: Path, resume: bool) -> None:
        self.path = path
        self._part: Path | None = path.with_name(path.name + ".part")
        flags = os.O_WRONLY | os.O_CLOEXEC
        if path.is_dir():
            raise OSError(f"{path} is a directory")
        if path.exists() and not path.is_file():
            self._part = None
        try:
            if self._part is None:
                self._descriptor = os.open(path, flags)
            else:
                flags |= os.O_CREAT | os.O_NOFOLLOW | (os.O_APPEND if resume else os.O_EXCL)
                self._descriptor = os.open(self._part, flags, 0o666)
        except FileExistsError:
            raise OSError(f"{self._part} is there already; go on with it (--resume), or remove it") from None
        except OSError as error:
            raise OSError(f"{self._part or path} cannot be written: {error.strerror}") from error
        self.begins_at = os.fstat(self._descriptor).st_size if self._part is not None else 0

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except OSError as error:
                raise OSError(f"writing {self._part or self.path} failed: {error.strerror}") from error

    def finish(self) -> None:
        try:
            os.close(self._descriptor)
            if self._part is not None:
                self._part.replace(self.path)
        except OSError as error:
            raise OSError(f"writing {self.path} failed: {error.strerror}") from error

    def give_up(self) -> str | None:
        with contextlib.suppress(OSError):
            size = os.fstat(self._descriptor).st_size
            os.close(self._descriptor)
            if self._part is None:
                return None
            if not size:
                self._part.unlink()
                return None
            return f"{size} bytes are in {self._part}; --resume goes on behind them"
        return None
