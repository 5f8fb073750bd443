"""The way into a Java virtual machine: found and started when it is first used, then shared by all of the process.

One small interface, `Bridge`, so that what stands on it does not care who crosses: here jpype, on Android (and
wherever a program has imported it already) pyjnius.

* *Threads.* jpype attaches a thread to the JVM when it first calls Java, and never lets go: a thousand threads that
  have ended are a thousand Java threads that stay. So attach() does it first, and leaves something in the thread
  that takes it off when it ends.
* *Signals* stay Python's (-Xrs): or Ctrl-C would end the process without KeyboardInterrupt. A JVM that was running
  already is used as it is.
* *Bytes* cross in memory that both sides see (direct ByteBuffers): handing over arrays costs a call per element or,
  at best, a copy more and garbage in the JVM.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ..errors import SocketCreateError

__all__ = ["AtEndOfThread", "Bridge", "Memory", "bridge"]

NEEDS_JPYPE = "TLS through Java needs the package jpype1: pip install 'landline[java]'"
NEEDS_JVM = (
    "TLS through Java needs a Java runtime, 11 or newer, and none was found by JAVA_HOME, on PATH or where the system "
    "keeps them (Debian: apt install default-jre-headless)"
)

PIECE = 1 << 15
"""Bytes asked of a stream at once: more than a record holds."""

LIBRARIES = {"win32": "bin/server/jvm.dll", "darwin": "lib/server/libjvm.dylib"}
LIBRARY = LIBRARIES.get(sys.platform, "lib/server/libjvm.so")
"""Where the JVM is in a Java runtime, since Java 9."""


class Memory(Protocol):
    """Bytes on their way across."""

    buffer: Any
    """The java.nio.ByteBuffer, to be given to Java."""

    def put(self, data: bytes | memoryview, /) -> None:
        """Java will find ``data``, and its end, in the buffer."""

    def take(self) -> bytes:
        """What Java has put into the buffer, which is empty again then."""


class Bridge(Protocol):
    """What is needed of Java. Python's strings, and lists of them, are taken for Java's as they are."""

    error: type[Exception]
    """What an exception of Java's is in Python."""

    def attach(self) -> None:
        """This thread is about to call Java, or to give up objects of Java's."""

    def find(self, name: str, /) -> Any:
        """The class of this name."""

    def memory(self, size: int, /) -> Memory: ...

    def octets(self, data: bytes, /) -> Any:
        """A byte[]."""

    def data(self, octets: Any, /) -> bytes:
        """What a byte[] holds."""

    def reader(self, stream: Any, /) -> Callable[[], bytes | None]:
        """What reads a java.io.InputStream: some bytes; None at its end."""

    def no_store(self) -> Any:
        """No java.security.KeyStore, for a method that could mean something else by None."""

    @property
    def implement(self) -> Callable[[str, Mapping[str, Callable[..., Any]]], Any] | None:
        """From the name of an interface, and a function for each of its methods, to an object; None: impossible."""

    def causes(self, error: Exception, /) -> list[tuple[str, str]]:
        """The class and the text of an exception, of its cause, and so on."""


def bridge() -> Bridge:
    """The one of this process; this thread may cross it now.

    Raises:
        SocketCreateError: there is none. The message says what to install.
    """
    global _bridge  # noqa: PLW0603 (there is one JVM in a process)
    if _bridge is None:
        with _starting:
            if _bridge is None:
                _bridge = _choose()
    _bridge.attach()
    return _bridge


_bridge: Bridge | None = None
_starting = threading.Lock()


def _choose() -> Bridge:
    android = hasattr(sys, "getandroidapilevel") or "ANDROID_ARGUMENT" in os.environ
    if android or ("jnius" in sys.modules and "jpype" not in sys.modules):
        from .pyjnius import PyjniusBridge

        return PyjniusBridge()
    return JpypeBridge()


class JpypeBridge:
    """Over jpype, from version 1.5 on."""

    def __init__(self) -> None:
        """Raises SocketCreateError."""
        try:
            import jpype
            import jpype.nio
        except ImportError as error:
            raise SocketCreateError(NEEDS_JPYPE, operation="start Java") from error
        if not jpype.isJVMStarted():
            self._start(jpype)
        self.error = jpype.JException
        self.find = jpype.JClass
        self._jpype = jpype
        self._thread = jpype.JClass("java.lang.Thread")
        self._octets = jpype.JArray(jpype.JByte)
        self._here = threading.local()

    def _start(self, jpype: Any) -> None:
        try:
            # Java before 17 knows nothing of the second one, and Java after 23 complains without it.
            jpype.startJVM(
                "-Xrs",
                "--enable-native-access=ALL-UNNAMED",
                jvmpath=_library() or jpype.getDefaultJVMPath(),
                ignoreUnrecognized=True,
                interrupt=False,
            )
        except jpype.JVMNotFoundException as error:
            raise SocketCreateError(NEEDS_JVM, operation="start Java") from error
        except (jpype.JVMNotSupportedException, OSError, RuntimeError, ValueError) as error:
            raise SocketCreateError(f"the Java runtime does not start: {error}", operation="start Java") from error

    def attach(self) -> None:
        try:
            self._here.attached  # noqa: B018 (it is there, or it is not)
        except AttributeError:
            self._attach()

    def _attach(self) -> None:
        ours = not self._thread.isAttached()
        if ours:
            self._thread.attachAsDaemon()
        self._here.attached = AtEndOfThread(self._thread.detach) if ours else None

    def memory(self, size: int, /) -> Memory:
        return _DirectMemory(self._jpype.nio.convertToDirectBuffer, size)

    def octets(self, data: bytes, /) -> Any:
        return self._octets(data)

    def data(self, octets: Any, /) -> bytes:
        return bytes(octets)

    def reader(self, stream: Any, /) -> Callable[[], bytes | None]:
        octets = self._octets(PIECE)

        def read() -> bytes | None:
            count = stream.read(octets)
            return None if count < 0 else bytes(octets[:count])

        return read

    def no_store(self) -> Any:
        return self._jpype.JObject(None, self.find("java.security.KeyStore"))

    def implement(self, interface: str, methods: Mapping[str, Callable[..., Any]], /) -> Any:
        overriding = self._jpype.JOverride
        body = {name: overriding(_method(function)) for name, function in methods.items()}
        return self._jpype.JImplements(interface)(type("Implementation", (), body))()

    def causes(self, error: Exception, /) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        cause: Any = error
        while cause is not None and len(found) < MOST_CAUSES:
            found.append((str(cause.getClass().getName()), str(cause.getMessage() or "")))
            cause = cause.getCause()
        return found


MOST_CAUSES = 16
"""Exceptions looked at behind one another: a cause may be its own."""


class _DirectMemory:
    __slots__ = ("_view", "buffer")

    def __init__(self, share: Callable[[bytearray], Any], size: int) -> None:
        memory = bytearray(size)
        self._view = memoryview(memory)
        self.buffer = share(memory)

    def put(self, data: bytes | memoryview, /) -> None:
        size = len(data)
        self._view[:size] = data
        self.buffer.clear()
        self.buffer.limit(size)

    def take(self) -> bytes:
        size = self.buffer.position()
        self.buffer.clear()
        return bytes(self._view[:size])


class AtEndOfThread:
    """Kept in a threading.local: calls a function in this thread when it ends."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function

    def __del__(self) -> None:
        self._function()


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """jpype gives a method its object."""
    return lambda _self, *arguments: function(*arguments)


def _library() -> str | None:
    """The JVM of JAVA_HOME, or else of the java on PATH; None: jpype knows more places."""
    homes = []
    if home := os.environ.get("JAVA_HOME"):
        homes += [Path(home), Path(home, "jre")]
    if program := shutil.which("java"):
        homes.append(Path(program).resolve().parent.parent)
    return next((str(home / LIBRARY) for home in homes if (home / LIBRARY).exists()), None)
