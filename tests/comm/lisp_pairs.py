"""For tests of comm's functions: a socket stream with initargs of one's own, and the socket at its other end."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import ssl
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pairs import connect
from tls_support import HOST, client_context, server_context

from landline import comm
from landline.testing.contract.stage import PATIENCE, Task

__all__ = [
    "ALL_BYTES",
    "BYTE_STREAMS",
    "ELEMENT_TYPES",
    "arrived",
    "near_and_far",
    "received",
    "secure_near_and_far",
    "seen_by",
    "stream_class",
    "wrapped",
]

ELEMENT_TYPES = ("base-char", "unsigned-byte", "signed-byte")
BYTE_STREAMS = ELEMENT_TYPES[1:]

ALL_BYTES = bytes(range(256))

stream_class: Any = comm.socket_stream
"""It, for initargs that a type checker would refuse."""


@contextmanager
def near_and_far(
    near_class: type[comm.SocketStream] = comm.SocketStream, **initargs: Any
) -> Iterator[tuple[comm.SocketStream, socket.socket]]:
    """A stream on a connected handle, and the socket at the other end. Both are gone afterwards."""
    handle, far = connect()
    far.settimeout(PATIENCE)
    with far:
        stream = near_class(socket=handle, **initargs)
        try:
            yield stream, far
        finally:
            stream.abort()


@contextmanager
def secure_near_and_far(**initargs: Any) -> Iterator[tuple[comm.SocketStream, ssl.SSLSocket]]:
    """The same, speaking TLS: the stream is the client, at the other end is the standard library's."""
    handle, far = connect()
    ours, theirs = client_context(), server_context()
    shaking = Task(lambda: wrapped(far, theirs))
    stream = comm.socket_stream(socket=handle, ssl_ctx=ours, ssl_side="client", tlsext_host_name=HOST, **initargs)
    try:
        with shaking.result() as secured:
            yield stream, secured
    finally:
        stream.abort()


def wrapped(sock: socket.socket, context: ssl.SSLContext | None = None, *, server_side: bool = True) -> ssl.SSLSocket:
    """``sock``, after the standard library's handshake."""
    sock.settimeout(PATIENCE)
    made = context or (server_context() if server_side else client_context())
    try:
        return made.wrap_socket(
            sock, server_side=server_side, server_hostname=None if server_side else HOST, suppress_ragged_eofs=False
        )
    except BaseException:
        sock.close()
        raise


def received(far: socket.socket, count: int) -> bytes:
    """So many bytes, or all there are before the end."""
    data = b""
    while len(data) < count and (more := far.recv(count - len(data))):
        data += more
    return data


def seen_by(far: socket.socket) -> bytes:
    """Everything up to the end, or the reset."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while more := far.recv(1 << 16):
            data += more
    return data


def arrived(stream: comm.SocketStream) -> int:
    """Bytes that the kernel has for a stream, and those that it has taken from it."""
    waiting = fcntl.ioctl(stream.fileno(), termios.FIONREAD, bytes(4))
    return int(struct.unpack("i", waiting)[0]) + stream.bytes_received
