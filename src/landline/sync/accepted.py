"""What becomes of one accepted connection: its options, PROXY header and TLS, then its handler, then its end.

All of it but the options happens in the connection's own thread, so that no client can delay another.

Source: LispWorks manual, start-up-server.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..address import SocketAddress
from ..errors import SocketIOError, SslCondition, StreamClosed
from ..options import SocketOptions
from .listen import address_of
from .stream import SocketStream
from .text_stream import TextSocketStream
from .transport import PlainTransport

if TYPE_CHECKING:
    from .proxied import TrustedProxies

__all__ = ["OPTIONS_INHERITED", "Connection", "Service"]

OPTIONS_INHERITED = sys.platform == "linux"
"""Accepted sockets have the options of the one that listens: no system call for each."""


class Service(NamedTuple):
    """What is done for each connection."""

    handler: Callable[[Any], object]
    options: SocketOptions
    read_timeout: float | None
    write_timeout: float | None
    secure: Callable[..., object] | None
    as_text: Callable[[SocketStream], TextSocketStream] | None
    create_stream: bool
    proxies: TrustedProxies | None
    handshake_limit: float


class Connection:
    """One accepted connection, as a stream or as the bare socket."""

    __slots__ = ("_peer", "_socket", "_stream", "thread")

    def __init__(self, sock: socket.socket, peer: SocketAddress | None, service: Service) -> None:
        self.thread = 0
        self._peer = peer
        self._socket = sock
        self._stream: SocketStream | None = None
        if not OPTIONS_INHERITED and peer is not None:
            service.options.apply(sock)
        if not service.create_stream:
            sock.setblocking(True)
            return
        own = sock.getsockname()
        self._stream = stream = SocketStream._over(
            PlainTransport(sock),
            peer_address=peer,
            local_address=address_of(own),
        )
        if service.read_timeout is not None:
            stream.read_timeout = service.read_timeout
        stream.write_timeout = service.write_timeout

    def serve(self, service: Service, refused: Callable[[Connection, Exception], object]) -> None:
        stream = self._stream
        if stream is None:
            try:
                service.handler(self._socket)
            except BaseException:
                self._socket.close()
                raise
            return
        with stream:
            try:
                proxied = service.proxies is not None and self._peer in service.proxies
                if proxied:
                    self._read_proxy_header(stream, service.handshake_limit)
                if service.secure is not None:
                    service.secure(stream, leftover="tls" if proxied else "refuse")
            except Exception as error:  # noqa: BLE001 (a callback's too: the handler is not to blame)
                refused(self, error)
                return
            try:
                service.handler(stream if service.as_text is None else service.as_text(stream))
            except Exception:  # sys.exit() is an end that somebody has chosen
                stream._channel.end_after_failure()
                raise

    def _read_proxy_header(self, stream: SocketStream, limit: float) -> None:
        from .proxied import read_header

        with stream.deadline(limit):
            header = read_header(stream)
        channel = stream._channel
        channel.proxy_header = header
        if isinstance(header.source, SocketAddress) and isinstance(header.destination, SocketAddress):
            self._peer = channel.peer_address = header.source
            channel.local_address = header.destination

    def caused(self, error: BaseException) -> bool:
        """The client did, who has gone, fallen silent or sent too much: no fault of the handler's."""
        return (
            isinstance(error, (SocketIOError, SslCondition))
            and not isinstance(error, StreamClosed)
            and error.address is not None
            and error.address == self._peer
        )

    def abort(self) -> None:
        if self._stream is not None:
            self._stream.abort()
            return
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # its handler has closed it

    def __str__(self) -> str:
        return str(self._peer) if self._peer is not None else "a client"
