"""An SSLSocket of a factory that has no SSLEngine to give, made to behave like one that works in memory.

It wants a socket under it, which it reads and writes itself. It gets one end of a connection on the loopback
interface, and finds there exactly what a session feeds, record by record; what it writes there is collected before
anybody goes on. So nothing above notices, and connecting, clocks, wakeups and counts stay what they are.

Nothing is waited for but what is under way already:

* *In:* a record is handed to the socket only whole, and read only when all of it has arrived (available()). Where
  it holds no payload (a ticket), the read runs into the shortest time limit there is: 1 ms.
* *Out:* Java itself writes a MARK behind whatever the SSLSocket may have written. No record begins with it, so all
  before it is all there is.

What it lacks: sessions do not resume (Java keeps them by the port that it sees), and a peer that renegotiates
(TLS 1.2) while we write ends the connection.

Rejected: threads that carry bytes to and fro. Each connection would need two, no time limit would be exact any more,
and nobody could say what had been sent. And letting the factory connect: one address at a time, and no descriptor.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from errno import ECONNABORTED, EPIPE
from time import sleep
from typing import TYPE_CHECKING, Any

from .engine import JavaEngine

if TYPE_CHECKING:
    import ssl

    from .bridge import Bridge

__all__ = ["SocketEngine"]

LOOPBACK = "127.0.0.1"

MARK = b"\0"
"""What no record begins with: it would be its content type (RFC 8446, 5.1)."""

SHORTEST = 1
"""Milliseconds: of 0 Java makes no limit."""

ARRIVING = 0.0001
"""Seconds between two looks whether what was sent has arrived next door, if it has not at once."""

PIECE = 1 << 16

LONGEST = 5 + 16384 + 2048
"""Of a record that is handed in whole (RFC 5246, 6.2.3): Java refuses a longer one when it sees its head."""

FULL = 16384 - 17
"""Payload written at once: one record for all that is known of Java, which pads those of TLS 1.3."""


class SocketEngine(JavaEngine):
    """See `JavaEngine`; ``java`` is the SSLSocket."""

    def __init__(
        self,
        bridge: Bridge,
        factory: Any,
        peer: tuple[str, int],
        context: Any,
        bios: tuple[ssl.MemoryBIO, ssl.MemoryBIO],
    ) -> None:
        """Raises OSError when there is no descriptor to be had, and what Java throws."""
        self._near, self._raw = _connected(bridge)
        super().__init__(bridge, factory.createSocket(self._raw, *peer, False), context, *bios)
        self._arrived = self._raw.getInputStream().available
        self._mark = self._raw.getOutputStream()
        self._marked = bridge.octets(MARK)
        self.full_record = FULL
        self._read: Any = None
        self._sink: Any = None

    def do_handshake(self) -> None:
        self._enter()
        while True:
            try:
                self.java.startHandshake()
                break
            except self._bridge.error as error:
                if not self._is_timeout(error):
                    self._fail(error)
            self._collect()
            self._hand_in(self._record())
        self._read = self._bridge.reader(self.java.getInputStream())
        self._sink = self.java.getOutputStream()
        self._collect()
        self._shaken()
        self._inside = False

    def write(self, data: bytes | memoryview) -> int:
        self._enter()
        if self.java.isOutputShutdown():
            self._inside = False
            raise BrokenPipeError(EPIPE, "the peer has closed TLS, which in TLS 1.2 ends both directions")
        sealed = []
        for begin in range(0, len(data), FULL):
            self._call(self._sink.write, self._bridge.octets(bytes(data[begin : begin + FULL])))
            sealed.append(self._written())
        self._outgoing.write(b"".join(sealed))
        self._inside = False
        return len(data)

    def unwrap(self) -> None:
        self._enter()
        if not self.java.isOutputShutdown():
            self._call(self.java.shutdownOutput)
            self._collect()
        self._leave_unless_ended()

    def close(self) -> None:
        """Give up what it has of descriptors. Nothing is sent any more."""
        self._near.close()
        try:
            self._bridge.attach()
            self._raw.close()
        except RuntimeError:
            pass  # at the end of the program: there is no JVM any more

    # Behind it

    def _unwrap(self) -> bytes:
        self._hand_in(self._record())
        try:
            data: bytes | None = self._read()
        except self._bridge.error as error:
            if not self._is_timeout(error):
                self._fail(error)
            data = b""
        self._collect()
        if data is None:
            self._ended = True
            self._leave(self._closed_properly)
        return data

    def _hand_in(self, record: bytes) -> None:
        record = record[:LONGEST]
        self._near.sendall(record)
        while self._beside(self._arrived) < len(record):
            sleep(ARRIVING)

    def _collect(self) -> None:
        self._outgoing.write(self._written())

    def _written(self) -> bytes:
        """What Java has written to its socket."""
        self._beside(self._mark.write, self._marked)
        taken = b""
        while not self._is_all(taken):
            if not (more := self._near.recv(PIECE)):
                raise ConnectionAbortedError(ECONNABORTED, "the connection to Java's socket was closed")
            taken += more
        return taken[:-1]

    def _beside(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call what has to do with the socket below, and with nobody's TLS."""
        try:
            return method(*arguments)
        except self._bridge.error as error:
            raise ConnectionAbortedError(ECONNABORTED, f"Java's socket does not work: {error}") from error

    def _is_all(self, taken: bytes) -> bool:
        """Whether the mark stands where another record would begin."""
        at = 0
        while at < len(taken):
            if taken[at : at + 1] == MARK:
                return True
            at += 5 + int.from_bytes(taken[at + 3 : at + 5], "big")
        return False

    def _last_words(self) -> None:
        self._collect()

    def _is_timeout(self, error: Exception) -> bool:
        return self._bridge.causes(error)[0][0] == "java.net.SocketTimeoutException"


def _connected(bridge: Bridge) -> tuple[socket.socket, Any]:
    """Two ends of a connection, the second one Java's."""
    with socket.create_server((LOOPBACK, 0), backlog=8) as listener:
        far = bridge.find("java.net.Socket")(LOOPBACK, listener.getsockname()[1])
        far.setSoTimeout(SHORTEST)
        far.setTcpNoDelay(True)
        while True:  # somebody else may have come first
            near, address = listener.accept()
            if address == (LOOPBACK, far.getLocalPort()):
                near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return near, far
            near.close()
