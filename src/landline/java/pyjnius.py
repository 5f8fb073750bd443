"""The way into the JVM over pyjnius: on Android, and where a program has imported jnius before.

It has been tried against OpenJDK only, not on a device.

What it cannot do, compared to jpype: bytes cross in arrays, with a copy more; and nothing looks on while Java decides
about a certificate, so that a refusal has Java's words and not the certificate's facts.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from ..errors import SocketCreateError
from .bridge import PIECE, AtEndOfThread, Memory

__all__ = ["PyjniusBridge"]

_NAMED = re.compile(r"((?:[\w$]+\.)+[\w$]+)(?:: (.*))?", re.DOTALL)
"""The line of a trace that names an exception; behind "Caused by:" another one does."""


class PyjniusBridge:
    """See `Bridge`."""

    def __init__(self) -> None:
        """Raises SocketCreateError."""
        try:
            import jnius
        except Exception as error:
            raise SocketCreateError(
                f"TLS through Java needs the package pyjnius here, and it cannot be imported: {error}",
                operation="start Java",
            ) from error
        self.error: type[Exception] = jnius.JavaException
        self.find: Callable[[str], Any] = jnius.autoclass

        self._detach = jnius.detach
        self._here = threading.local()

    def attach(self) -> None:
        """pyjnius attaches by itself, and leaves the thread attached when it ends; Android ends the program then."""
        try:
            self._here.attached  # noqa: B018 (it is there, or it is not)
        except AttributeError:
            here = threading.current_thread()
            # The main thread, and one that came from Java, are not ours to take off.
            ours = here is not threading.main_thread() and not isinstance(here, threading._DummyThread)
            self._here.attached = AtEndOfThread(self._detach) if ours else None

    def memory(self, size: int, /) -> Memory:
        return _CopiedMemory(self.find("java.nio.ByteBuffer").allocate(size))

    def octets(self, data: bytes, /) -> Any:
        return data

    def data(self, octets: Any, /) -> bytes:
        return bytes(each & 0xFF for each in octets)

    def reader(self, stream: Any, /) -> Callable[[], bytes | None]:
        def read() -> bytes | None:
            octets = bytearray(PIECE)
            count = stream.read(octets)
            return None if count < 0 else bytes(octets[:count])

        return read

    def no_store(self) -> Any:
        return None

    implement = None

    def causes(self, error: Any, /) -> list[tuple[str, str]]:
        found = [(str(error.classname), str(error.innermessage or ""))]
        trace = error.stacktrace or []
        for before, line in pairwise(trace):
            if before.startswith("Caused by:") and (named := _NAMED.fullmatch(line)):
                found.append((named[1], named[2] or ""))
        return found


class _CopiedMemory:
    __slots__ = ("buffer",)

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer

    def put(self, data: bytes | memoryview, /) -> None:
        self.buffer.clear()
        self.buffer.put(bytes(data), 0, len(data))
        self.buffer.flip()

    def take(self) -> bytes:
        size = self.buffer.position()
        taken = bytearray(size)
        self.buffer.flip()
        if size:
            self.buffer.get(taken)
        self.buffer.clear()
        return bytes(taken)
