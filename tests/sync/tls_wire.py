"""The wire under a TLS stream, in the hands of a test: what is on it, how far it got, and where it ends.

* `Bare`: a peer made of a session in memory and a socket. It sends what the test says, when the test says so.
* `Recorded`: a plain transport that keeps a copy of all that it handed to the kernel, and is full when told to be.
* `Wire`: two sockets and whoever is between them: every byte of either direction is kept, as it passed.
* `records`: what the headers of a piece of wire say; AssertionError where it is not TLS.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import pytest
from pairs import connect, over
from tls_support import (
    HOST,
    V12,
    V13,
    client_context,
    everything,
    new_client,
    new_server,
    openssl,
    server_context,
    taken,
)

from landline import SocketAddress, SocketStream, WriteTimeout
from landline.engine.session import MOST_RECORD, Session
from landline.sync.transport import PlainTransport
from landline.sync.wait import Waits
from landline.testing.contract.stage import BRIEF, Task, until

__all__ = [
    "KEY_UPDATE",
    "Bare",
    "MakeWaits",
    "Record",
    "Recorded",
    "Wire",
    "bare_pair",
    "recorded_pair",
    "records",
    "reset",
    "update_keys",
]

MakeWaits = Callable[[socket.socket], Waits]

KEY_UPDATE = 22
"""How long the body of a TLS 1.3 record with a key update is: 5 bytes, their type, the tag."""

CLOSE_NOTIFY = 19
"""The same for an alert."""


# ---- a peer in the test's hand -------------------------------------------------------------------------


class Bare:
    """One end of a TLS connection of which nothing happens by itself.

    Attributes:
        sock: its socket, blocking.
        session: its session.
        received: how many bytes it has taken from the socket.
        tickets: of a TLS 1.3 server, sent after the handshake, and before anything else: where they were to be kept
            back, they are here.
    """

    def __init__(self, sock: socket.socket, session: Session) -> None:
        self.sock = sock
        self.session = session
        self.tickets = b""
        self.received = 0

    @property
    def version(self) -> ssl.TLSVersion:
        return V13 if self.session.ssl_object.version() == "TLSv1.3" else V12

    def shake(self, *, tickets: bool = True) -> None:
        """The handshake. Without ``tickets`` (TLS 1.3) they are kept back."""
        while True:
            done = self.session.handshake()
            made = taken(self.session)
            if done and not tickets and self.session.ssl_object.server_side and self.version is V13:
                self.tickets = made
            elif made:
                self.sock.sendall(made)
            if done:
                return
            self.session.feed(self._received())

    def sealed(self, *payloads: bytes) -> list[bytes]:
        """A record for each payload (16 KiB at most), in order; they must be sent, or the connection is of no use."""
        made = []
        for payload in payloads:
            assert self.session.write(payload) == len(payload)
            made.append(taken(self.session))
        return made

    def say(self, *payloads: bytes) -> None:
        """Send each payload in a record of its own."""
        self.sock.sendall(b"".join(self.sealed(*payloads)))

    def hear(self, count: int) -> bytes:
        """``count`` bytes of payload, and no more may have come."""
        data = everything(self.session)
        while len(data) < count:
            self.session.feed(self._received())
            data += everything(self.session)
        assert len(data) == count
        return data

    def hear_end(self) -> bytes:
        """All payload up to the other side's close_notify."""
        pieces = [everything(self.session)]
        while not self.session.input_closed:
            self.session.feed(self._received())
            pieces.append(everything(self.session))
        return b"".join(pieces)

    def end_of_tcp(self) -> bool:
        """Whether TCP ends here too, in order, and nothing stands before it."""
        return self.sock.recv(1) == b""

    def farewell(self) -> bytes:
        """close_notify, to be sent."""
        self.session.close_output()
        return taken(self.session)

    def key_update(self) -> bytes:
        """A request to change keys, to be sent; this side's have changed already."""
        openssl().key_update(self.session)
        return taken(self.session)

    def abort(self) -> None:
        self.sock.close()

    def __enter__(self) -> Bare:
        return self

    def __exit__(self, *error: object) -> None:
        self.abort()

    def _received(self) -> bytes:
        data = self.sock.recv(1 << 18)
        assert data, "the stream has ended TCP"
        self.received += len(data)
        return data


@contextmanager
def aborting(*ends: SocketStream | Bare) -> Iterator[None]:
    """Abort them all at the end, whatever happened: threads that are still inside are woken by that."""
    try:
        yield
    finally:
        for end in ends:
            end.abort()


def bare_pair(
    waits: MakeWaits, version: ssl.TLSVersion, *, server_side: bool = False, renegotiation: bool = False
) -> tuple[SocketStream, Bare]:
    """A stream over TLS, and its bare peer.

    Args:
        server_side: the stream is the server.
        renegotiation: the stream does what its peer wants of it in TLS 1.2, instead of refusing.
    """
    near, far = _connect()
    stream = over(near, waits)
    return stream, _shaken(stream, far, version, server_side, True, renegotiation)


def recorded_pair(
    waits: MakeWaits,
    version: ssl.TLSVersion,
    *,
    server_side: bool = False,
    tickets: bool = True,
    room: int | None = None,
) -> tuple[SocketStream, Recorded, Bare]:
    """The same, with what is under the stream between them.

    Args:
        tickets: the bare server sends them.
        room: what to set the kernel's buffers to that the stream sends through; Linux takes twice that for each.
    """
    near, far = _connect()
    if room is not None:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    under = Recorded(near, waits(near))
    stream = SocketStream._over(under, peer_address=SocketAddress.from_sockaddr(near.getpeername()))
    return stream, under, _shaken(stream, far, version, server_side, tickets, False)


def _connect() -> tuple[socket.socket, socket.socket]:
    """Two sockets that send at once, however little: a test would wait 40 ms for each exception."""
    near, far = connect()
    for sock in (near, far):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


def _shaken(
    stream: SocketStream,
    far: socket.socket,
    version: ssl.TLSVersion,
    server_side: bool,
    tickets: bool,
    renegotiation: bool,
) -> Bare:
    of_client, of_server = client_context(version), server_context(version)
    if not renegotiation:
        (of_server if server_side else of_client).options |= ssl.OP_NO_RENEGOTIATION
    if server_side:
        bare = Bare(far, new_client(of_client))
        shaking = Task(partial(stream.start_tls, of_server))
    else:
        bare = Bare(far, new_server(of_server))
        shaking = Task(partial(stream.start_tls, of_client, host=HOST))
    bare.shake(tickets=tickets)
    shaking.result()
    return bare


class Recorded(PlainTransport):
    """A plain transport that remembers.

    Attributes:
        handed: every byte that the kernel took.
        room: how many more bytes may go; None: as many as the kernel takes.
    """

    def __init__(self, sock: socket.socket, waits: Waits) -> None:
        super().__init__(sock, waits)
        self.handed = bytearray()
        self.room: int | None = None
        self._pass_on = self.send
        self.send = self._remember

    def has_arrived(self, count: int) -> None:
        """Wait until so many bytes (or the end) are there to be received."""
        flags = socket.MSG_PEEK | getattr(socket, "MSG_DONTWAIT", 0)

        def there() -> bool:
            with suppress(BlockingIOError):
                return len(self._socket.recv(count, flags)) in (count, 0)
            return False

        until(there)

    def _remember(self, data: memoryview | bytes, limit: float | None) -> int:
        if self.room is not None:
            data = data[: self.room]
            if not data:
                return 0
        count = self._pass_on(data, limit)
        self.handed += data[:count]
        if self.room is not None:
            self.room -= count
        return count


def update_keys(stream: SocketStream) -> None:
    """Ask the stream's peer for new keys, as soon as something is sent or received."""
    transport: Any = stream._channel.transport
    with transport._lock:
        openssl().key_update(transport.session)


def reset(sock: socket.socket) -> None:
    """End a connection by RST. What was sent before has arrived, on loopback."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
    sock.close()


# ---- between two ends ----------------------------------------------------------------------------------


class Wire:
    """A connection from ``near`` to ``far`` (or to a port of this machine), seen from its middle.

    Attributes:
        near, far: the ends; their owner closes them. ``far`` is None where the wire leads to a port.
        sent, answered: all bytes that came from ``near``, and from the other end.
    """

    def __init__(self, port: int | None = None) -> None:
        self.near, self._left = _connect()
        self.far: Any = None
        if port is None:
            self._right, self.far = _connect()
        else:
            self._right = socket.create_connection(("127.0.0.1", port))
        self.sent, self.answered = bytearray(), bytearray()
        self._passing = [
            Task(lambda: self._pass_on(self._left, self._right, self.sent)),
            Task(lambda: self._pass_on(self._right, self._left, self.answered)),
        ]

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *error: object) -> None:
        """Both ends must have ended; what they said last is passed on."""
        for task in self._passing:
            task.result()
        self._left.close()
        self._right.close()

    def _pass_on(self, source: socket.socket, target: socket.socket, record: bytearray) -> None:
        try:
            while data := source.recv(1 << 16):
                record += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            # One end was reset: the other one hears of an end, and the thread beside this one too.
            for sock in (source, target):
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


class Record(NamedTuple):
    """The head of a record: its type (RFC 8446, 5.1) and how long its body is."""

    kind: int
    length: int

    @property
    def is_alert(self) -> bool:
        """An alert, as far as can be told: in TLS 1.3 by its length."""
        return self.kind == 21 or (self.kind == 23 and self.length == CLOSE_NOTIFY)


def records(wire: bytes | bytearray, *, cut: bool = False) -> list[Record]:
    """The records of one direction, from its beginning. ``cut``: the last one may lack something."""
    found, at = [], 0
    while at < len(wire):
        head = bytes(wire[at : at + 5])
        assert 20 <= head[0] <= 23, f"not TLS at byte {at}: {bytes(wire[at : at + 40])!r}"
        assert head[1:2] in (b"\x03", b""), f"not TLS at byte {at}: {bytes(wire[at : at + 40])!r}"
        assert head[2:3] in (b"\x01", b"\x02", b"\x03", b"")
        length = int.from_bytes(head[3:5], "big")
        assert length <= MOST_RECORD
        whole = len(head) == 5 and at + 5 + length <= len(wire)
        assert whole or cut, "the last record is not whole"
        if whole:
            found.append(Record(head[0], length))
        at += 5 + length
    return found


def closes_in_vain(stream: SocketStream) -> None:
    stream.write_timeout = BRIEF
    with pytest.raises(WriteTimeout):
        stream.close()


def fails_inside(stream: SocketStream) -> None:
    with pytest.raises(KeyError), stream:
        raise KeyError
