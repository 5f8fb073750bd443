"""The transport: received bytes come out of it, bytes to send go into it, and it knows how to end.

This is the seam where TLS goes in: a transport that keeps a session between the stream and a plain
transport has this same interface, and nothing above it changes. The hot methods are the wait strategy's own
bound methods, so that the seam costs no call.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable
from typing import Protocol

from .wait import Waits, choose_waits

__all__ = ["PlainTransport", "Transport"]

_LINGER_NOT = struct.pack("@HH" if sys.platform == "win32" else "@ii", 1, 0)

MOST_DISCARDED = 1 << 20
"""How much unread data close() reads away: enough for what a kernel buffers, no feast for a flooding peer."""


class Transport(Protocol):
    """One connection. The methods are those of sync/wait.py's Waits, and the ways to end.

    The owner calls the ending methods when no other thread is inside any method but wake().
    """

    receive: Callable[[int, float | None], bytes | None]
    receive_into: Callable[[memoryview, float | None], int | None]
    send: Callable[[memoryview | bytes, float | None], int]
    wait: Callable[[bool, bool, float | None], bool]
    wake: Callable[[bool, bool], None]

    def fileno(self) -> int:
        """The descriptor; -1 when closed."""

    def shutdown_input(self) -> None:
        """Stop receiving. Raises OSError."""

    def shutdown_output(self) -> None:
        """Tell the peer that nothing more comes. Raises OSError."""

    def close(self) -> None:
        """End in order, after everything was sent. The descriptor is released whatever happens."""

    def abort(self) -> None:
        """End at once: the peer sees a reset. The descriptor is released whatever happens."""

    def detach(self) -> socket.socket:
        """Give up the socket, blocking and without time limits."""


class PlainTransport:
    """TCP (or any stream socket) as it is."""

    __slots__ = ("_socket", "_waits", "receive", "receive_into", "send", "wait", "wake")

    def __init__(self, sock: socket.socket, waits: Waits | None = None) -> None:
        waits = waits or choose_waits(sock)
        self._socket = sock
        self._waits = waits
        self.receive: Callable[[int, float | None], bytes | None] = waits.receive
        self.receive_into: Callable[[memoryview, float | None], int | None] = waits.receive_into
        self.send: Callable[[memoryview | bytes, float | None], int] = waits.send
        self.wait: Callable[[bool, bool, float | None], bool] = waits.wait
        self.wake: Callable[[bool, bool], None] = waits.wake

    def fileno(self) -> int:
        return self._socket.fileno()

    def shutdown_input(self) -> None:
        self._socket.shutdown(socket.SHUT_RD)

    def shutdown_output(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
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
