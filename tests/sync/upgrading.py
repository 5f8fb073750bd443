"""Peers for tests of start_tls() and stop_tls().

The stream under test talks to a `Peer`: a session in memory whose ciphertext goes through a socket as the test
wants it, in one packet with something else, late, or never. It keeps what it heard, and that decides whether a
byte went out in the clear.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from pairs import (
    connect,
    over,
)
from tls_support import (
    HOST,
    client_context,
    new_client,
    new_server,
    server_context,
    taken,
)

from landline import (
    SocketStream,
    SslHandshakeTimeout,
)
from landline.engine.session import Session
from landline.sync.transport import PlainTransport
from landline.sync.wait import KernelWaits, Waits
from landline.testing.contract.stage import BRIEF, PATIENCE, expect

MakeWaits = Callable[[socket.socket], Waits]

SECRET = b"what must not be seen on the wire"
LINE = b"STARTTLS\r\n"
READY = b"220 ready\r\n"

EITHER_SIDE = pytest.mark.parametrize("side", ["client", "server"])


class Peer:
    """The other end, by hand. ``heard`` is everything that came over the wire."""

    def __init__(self, sock: socket.socket, session: Session) -> None:
        sock.settimeout(PATIENCE)
        self.sock = sock
        self.session = session
        self.heard = bytearray()

    def hear(self) -> None:
        data = self.sock.recv(65536)
        self.heard += data
        self.session.feed(data) if data else self.session.feed_end()

    def hear_line(self, line: bytes) -> None:
        """Exactly this, in the clear; what comes behind it stays in the socket."""
        while len(self.heard) < len(line):
            data = self.sock.recv(len(line) - len(self.heard))
            assert data, bytes(self.heard)
            self.heard += data
        assert self.heard == line

    def hear_all(self) -> bytes:
        """Everything there is until the end, whatever it is."""
        try:
            while data := self.sock.recv(65536):
                self.heard += data
        except ConnectionResetError:
            pass
        return bytes(self.heard)

    def flight(self) -> bytes:
        """What the session has to say next in its handshake, waiting for the other side as long as it takes."""
        while True:
            self.session.handshake()
            if data := taken(self.session):
                return data
            self.hear()

    def send(self, data: bytes = b"") -> None:
        """What waits in the session, or ``data``."""
        self.sock.sendall(data or taken(self.session))

    def shake(self) -> None:
        """The whole handshake, or what is left of it."""
        while not self.session.handshake():
            self.send()
            self.hear()
        self.send()

    def say(self, payload: bytes) -> None:
        self.session.write(payload)
        self.send()

    def read(self, count: int) -> bytes:
        payload = b""
        while len(payload) < count:
            piece = self.session.read(count - len(payload))
            if piece is None:
                self.hear()
            else:
                assert piece, payload
                payload += piece
        return payload


class Wire(PlainTransport):
    """A transport that takes nothing while it is ``full``."""

    full = False

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._sending = self.send
        self.send = lambda data, limit: 0 if self.full else self._sending(data, limit)


def both(side: str, version: ssl.TLSVersion | None = None) -> tuple[dict[str, Any], Session]:
    """Arguments of start_tls() for this side, and the session on the other one."""
    if side == "client":
        return {"ssl_ctx": client_context(version), "host": HOST}, new_server(server_context(version))
    return {"ssl_ctx": server_context(version)}, new_client(client_context(version))


@contextmanager
def meeting(
    side: str, version: ssl.TLSVersion | None = None, waits: MakeWaits = KernelWaits, **more: Any
) -> Iterator[tuple[SocketStream, Peer, Callable[..., SocketStream]]]:
    """A plain stream, its peer, and start_tls() of the stream with what it needs."""
    arguments, session = both(side, version)
    near, far = connect()
    stream = over(near, waits, **more)
    try:
        with far:
            yield stream, Peer(far, session), partial(stream.start_tls, **arguments)
    finally:
        stream.abort()


def paused(start: Callable[..., SocketStream]) -> None:
    """A handshake that was not done in time, for the peer has said nothing."""
    with expect(SslHandshakeTimeout):
        start(handshake_timeout=BRIEF)
