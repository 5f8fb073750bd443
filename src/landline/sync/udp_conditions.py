"""The conditions of a UDP socket: what became of a datagram, and of whose, in one sentence.

A datagram is not a connection: what befalls one of them is told, and the socket is as good as before. Only
StreamClosed is the end.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

from ..address import SocketAddress
from ..errors import ReadTimeout, SocketCreateError, SocketIOError, StreamClosed, WriteTimeout, with_kin

if TYPE_CHECKING:
    from .udp import UdpSocket
    from .udp_options import UdpOptions

__all__ = [
    "DatagramTruncated",
    "not_delivered",
    "option_failed",
    "receive_failed",
    "receive_timed_out",
    "send_failed",
    "send_timed_out",
    "socket_closed",
    "truncated",
]

LARGEST_IPV4 = 65507  # RFC 791: 65535 octets, less 20 of its header and 8 of UDP's
LARGEST_IPV6 = 65527  # RFC 8200: 65535 octets beside its header, less 8 of UDP's


class DatagramTruncated(SocketIOError):
    """A datagram was longer than the size asked for, and was cut. The next call gives the next datagram.

    Attributes:
        data: what fitted.
        size: how long the datagram was, in bytes.
        address: who sent it.
    """

    data: bytes
    size: int

    def __init__(self, message: str, *, data: bytes, size: int, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.data = data
        self.size = size


def truncated(udp: UdpSocket, data: bytes, size: int, sender: SocketAddress | None) -> DatagramTruncated:
    """``data`` is longer than ``size``."""
    return DatagramTruncated(
        f"a datagram of {len(data)} bytes came from {sender}, more than the size={size} asked for; the rest is dropped",
        data=data[:size],
        size=len(data),
        **_facts(udp, "receive", sender),
    )


def receive_timed_out(udp: UdpSocket, limit: float | None) -> ReadTimeout:
    """No datagram came within ``limit`` seconds, or before a deadline."""
    where = f"from {udp.peer_address}" if udp.peer_address is not None else f"to {udp.local_address}"
    return ReadTimeout(
        f"no datagram came {where} {_which_limit(udp, 'read_timeout', limit)}; "
        "nothing was consumed, and the same call goes on from here",
        **_facts(udp, "receive", udp.peer_address),
    )


def send_timed_out(udp: UdpSocket, address: object, why: str = "the system took no datagram for") -> WriteTimeout:
    """The datagram was not sent within write_timeout, or before a deadline."""
    limit = _which_limit(udp, "write_timeout", udp.write_timeout)
    return WriteTimeout(
        f"{why} {address} {limit}; nothing of it was sent",
        accepted=udp.bytes_sent,
        sent=udp.bytes_sent,
        **_facts(udp, "send", address),
    )


def socket_closed(udp: UdpSocket, why: str) -> StreamClosed:
    """This side has closed the socket."""
    return StreamClosed(why, **_facts(udp, "closed", udp.peer_address))


def receive_failed(udp: UdpSocket, error: OSError) -> SocketIOError:
    """The system's ``error`` instead of a datagram."""
    if _is_refusal(error) and udp.peer_address is not None:
        return not_delivered(udp, errno.ECONNREFUSED, udp.peer_address)
    return _told(udp, "receive", f"receiving at {udp.local_address} failed: {error.strerror or error}", error, None)


def send_failed(udp: UdpSocket, error: OSError, data: Any, address: SocketAddress | None) -> SocketIOError:
    """The system's ``error`` about sending ``data``, which was not sent."""
    if _is_refusal(error) and address is not None:
        condition = not_delivered(udp, errno.ECONNREFUSED, address, "; this one was not sent")
        condition.operation = "send"
        return condition
    reason = f"sending to {address} failed: {error.strerror or error}"
    if error.errno == errno.EMSGSIZE:
        reason = _too_big(udp, memoryview(data).nbytes, address)
    elif isinstance(error, PermissionError) and not udp.broadcast:
        reason += " (to a broadcast address it needs broadcast=True)"
    return _told(udp, "send", reason, error, address)


def not_delivered(udp: UdpSocket, number: int, address: SocketAddress, then: str = "") -> SocketIOError:
    """An ICMP message has come back for what was sent to ``address`` earlier."""
    error = OSError(number, "")
    if isinstance(error, ConnectionRefusedError):
        message = f"{address} refused a datagram: nobody receives there{then}"
    else:
        message = f"a datagram for {address} could not be delivered: {_words(number)}{then}"
    return _told(udp, "receive", message, error, address)


def option_failed(udp: UdpOptions, doing: str, error: OSError) -> SocketCreateError:
    """The system refuses an option."""
    return with_kin(SocketCreateError, error)(
        f"{doing} failed: {error.strerror or error}", errno=error.errno, **_facts(udp, "option", udp.local_address)
    )


def _too_big(udp: UdpSocket, size: int, address: SocketAddress | None) -> str:
    family = socket.AF_INET if address is None else address.family
    most, name = (LARGEST_IPV6, "IPv6") if family == socket.AF_INET6 else (LARGEST_IPV4, "IPv4")
    if size > most:
        return f"a datagram of {size} bytes for {address} is too big: over {name} {most} bytes are the limit"
    fits = udp._path_limit
    limit = "less is the limit on the way there" if fits is None else f"{fits} bytes are the limit on the way there"
    return f"a datagram of {size} bytes for {address} is too big: {limit}"


def _is_refusal(error: OSError) -> bool:
    return isinstance(error, (ConnectionRefusedError, ConnectionResetError))  # Windows calls it a reset


def _told(udp: UdpSocket, operation: str, message: str, error: OSError, address: object) -> SocketIOError:
    return with_kin(SocketIOError, error)(message, errno=error.errno, **_facts(udp, operation, address))


def _facts(udp: UdpOptions, operation: str, address: object) -> dict[str, Any]:
    return {"operation": operation, "address": address, "report": udp.report}


def _which_limit(udp: UdpSocket, name: str, value: float | None) -> str:
    if udp._clocks.overdue():
        return "before the deadline"
    return f"within {name}={value:g} s" if value else "without waiting"


def _words(number: int) -> str:
    return os.strerror(number)
