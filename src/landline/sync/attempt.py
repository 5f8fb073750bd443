"""One attempt: a socket made ready, its connect() begun, and a second look when it says that it is connected."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from ..address import Host, SocketAddress
from ..options import SocketOptions

__all__ = ["SocketCallback", "Target", "is_under_way", "prepare", "second_look"]

SocketCallback: TypeAlias = Callable[[socket.socket], object]


class Target(NamedTuple):
    """What to connect to, and how: all of it checked already.

    Attributes:
        families: the families allowed, the preferred one first.
        local: the local host to bind to, or None; a name is looked up within the deadline.
        local_port: the local port; 0 lets the system choose.
    """

    host: Host
    port: int
    families: tuple[int, ...]
    local: Host | None
    local_port: int
    options: SocketOptions
    callback: SocketCallback | None
    attempt_delay: float


def prepare(sock: socket.socket, target: Target, local: str | None) -> None:
    """Options, the caller's callback, the local address: everything before connect(). Raises what they raise."""
    target.options.apply(sock)
    if target.callback is not None:
        target.callback(sock)
    if local is not None or target.local_port:
        _bind(sock, local, target.local_port)


def is_under_way(status: int) -> bool:
    """Whether connect_ex() means that the connection is being made."""
    return status in _UNDER_WAY


def second_look(sock: socket.socket) -> int:
    """0, or what is wrong with a socket that says it is connected."""
    try:
        itself = sock.getsockname()[:2] == sock.getpeername()[:2]
    except OSError:
        return errno.ECONNRESET  # the peer has taken it back already
    # Both ends got the same free port: nobody listens there, and the port would now be taken.
    return errno.ECONNREFUSED if itself else 0


# On POSIX EWOULDBLOCK is a failure (no local port is free); Windows means "under way" by its own one.
_UNDER_WAY = (errno.EINPROGRESS, errno.EINTR, getattr(errno, "WSAEWOULDBLOCK", errno.EINPROGRESS))


def _bind(sock: socket.socket, local: str | None, port: int) -> None:
    if port:
        # Several attempts may be under way from the one port, and an old connection may linger on it.
        # Windows means something dangerous by the same name.
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    elif hasattr(socket, "IP_BIND_ADDRESS_NO_PORT"):
        # The port is chosen at connect(), when the peer is known: one local address is then not limited to
        # as many connections as it has ports.
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
    address = SocketAddress(local or ("::" if sock.family == socket.AF_INET6 else "0.0.0.0"), port)
    try:
        sock.bind(address.sockaddr())
    except OSError as error:
        raise OSError(error.errno, f"binding to {address}: {error.strerror}") from error
