"""The transport: received bytes come out of it, bytes to send go into it, and it knows how to end.

This is the seam where TLS goes in (tls_transport.py): a session between the stream and a plain transport has
this same interface, and nothing above it changes. The hottest ways through it are function
objects (limited(), send), so that the seam costs no call there.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, Protocol

from ..engine.send import SendBuffer
from .wait import Waits, choose_waits

__all__ = ["MOST_DISCARDED", "Carrier", "PlainTransport", "Transport"]

_LINGER_NOT = struct.pack("@HH" if sys.platform == "win32" else "@ii", 1, 0)

MOST_DISCARDED = 1 << 20
"""How much unread data close() reads away: enough for what a kernel buffers, no feast for a flooding peer."""


class Transport(Protocol):
    """One connection: waiting for it, as in sync/wait.py's Waits, and the ways to end it.

    The owner calls the ending methods when no other thread is inside any method but wake(). A transport that is
    ``secure`` tells the peer's end from a connection that broke.
    """

    @property
    def secure(self) -> bool: ...

    def belongs_to(self, reading: Any, writing: Any, state: Any, sending: SendBuffer, /) -> None:
        """The owner's locks: held around every receive, around every send, and never around I/O. All reentrant.

        And what it has to send, guarded by the last of them.
        """

    def limited(self, limit: float | None, /) -> tuple[Callable[[int], bytes], Callable[[memoryview], memoryview]]: ...

    def receive(self, size: int, limit: float | None, /) -> bytes | None: ...

    def receive_into(self, memory: memoryview, limit: float | None, /) -> memoryview | None: ...

    def send(self, data: memoryview | bytes, limit: float | None, /) -> int | None:
        """As Waits.send(); None when something went out, but no byte of ``data`` is known to be out whole: once more.

        What is left of ``data`` must be the beginning of what the next call gets.
        """

    def wait(self, read: bool, write: bool, limit: float | None, /) -> bool: ...

    def ready(self) -> bool:
        """A receive would not wait: bytes are there, the end, or a failure."""

    def wake(self, read: bool, write: bool, /) -> None: ...

    def fileno(self) -> int:
        """The descriptor; -1 when closed."""

    def handle(self) -> socket.socket:
        """The socket, which stays the transport's."""

    @property
    def under_way(self) -> int:
        """Bytes at the front of what is to be sent that cannot be taken back: they are encrypted already."""

    def shutdown_input(self) -> None:
        """Stop receiving. Raises OSError."""

    def shutdown_output(self, limit: float | None, abort: bool, /) -> bool:
        """Tell the peer that nothing more comes; False when that was not possible within ``limit``. Raises OSError.

        ``abort``: without waiting, and in some way in any case.
        """

    def close(self, goodbye: float | None, /) -> None:
        """End in order. The descriptor is released whatever happens.

        ``goodbye``: seconds that it may take to tell the peer that this is all; None when it is not all.
        """

    def abort(self) -> None:
        """End at once: the peer sees a reset. The descriptor is released whatever happens."""

    def detach(self) -> socket.socket:
        """Give up the socket, blocking and without time limits."""


class Carrier(Transport, Protocol):
    """A transport that can have a TLS session over it."""

    def send_now(self, data: memoryview | bytes, /) -> int:
        """Hand over what can be without waiting, woken or not."""


class PlainTransport:
    """TCP (or any stream socket) as it is."""

    secure = False
    under_way = 0

    __slots__ = ("_socket", "_waits", "send")

    def __init__(self, sock: socket.socket, waits: Waits | None = None) -> None:
        self._socket = sock
        self._waits = waits or choose_waits(sock)
        self.send = self._waits.send  # the one that is called for every request: a call less

    def belongs_to(self, reading: Any, writing: Any, state: Any, sending: SendBuffer, /) -> None:
        pass  # who receives never sends here

    def limited(self, limit: float | None, /) -> tuple[Callable[[int], bytes], Callable[[memoryview], memoryview]]:
        return self._waits.limited(limit)

    def receive(self, size: int, limit: float | None, /) -> bytes | None:
        return self._waits.receive(size, limit)

    def receive_into(self, memory: memoryview, limit: float | None, /) -> memoryview | None:
        return self._waits.receive_into(memory, limit)

    def send_file(self, file: int, count: int, limit: float | None, /) -> int | None:
        """As Waits.send_file(); only here, for what is sent over TLS must be encrypted first."""
        return self._waits.send_file(file, count, limit)

    def send_now(self, data: memoryview | bytes, /) -> int:
        return self._waits.send_now(data)

    def wait(self, read: bool, write: bool, limit: float | None, /) -> bool:
        return self._waits.wait(read, write, limit)

    def ready(self) -> bool:
        return self._waits.wait(True, False, 0)

    def wake(self, read: bool, write: bool, /) -> None:
        self._waits.wake(read, write)

    def fileno(self) -> int:
        return self._socket.fileno()

    def handle(self) -> socket.socket:
        return self._socket

    def shutdown_input(self) -> None:
        self._socket.shutdown(socket.SHUT_RD)

    def shutdown_output(self, limit: float | None, abort: bool, /) -> bool:
        self._socket.shutdown(socket.SHUT_WR)
        return True

    def close(self, goodbye: float | None, /) -> None:
        # A socket closed with unread data sends a reset, which destroys what is still on its way to the
        # peer: read away first what has arrived.
        try:
            left = MOST_DISCARDED
            while left > 0 and (data := self._waits.receive_now(65536)):
                left -= len(data)
        except OSError:
            pass  # the connection is broken, and there is nothing to save
        finally:
            self._release()

    def abort(self) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        except OSError:
            pass  # broken already
        finally:
            self._release()

    def detach(self) -> socket.socket:
        self._waits.restore()
        self._waits.close()
        return self._socket

    def _release(self) -> None:
        self._waits.close()
        self._socket.close()
