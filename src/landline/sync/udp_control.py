"""What comes beside a datagram, on Linux: where it was sent to, and which of ours came back undelivered.

*Where it was sent to.* A server bound to every address of a machine must answer from the address that it was asked
at: a client drops what comes from another one. The kernel chooses by the route unless it is told.

*What came back.* The kernel tells an unconnected socket nothing of ICMP messages unless it is asked to keep them.
Then it does two things: the next system call on the socket, whatever it is about, fails with the error alone, and
the error queue has the address. Only the queue is of use.

The numbers are those of <linux/in.h>, <linux/in6.h> and <linux/errqueue.h>; Python has names for few of them.

Sources: ip(7), ipv6(7); RFC 3542 section 6; RFC 1122 4.1.3.5.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from typing import Any, TypeAlias

__all__ = [
    "FROM_ICMP",
    "ROOM",
    "Beside",
    "ask_for_destinations",
    "ask_for_undelivered",
    "destination",
    "next_undelivered",
]

Beside: TypeAlias = "list[tuple[int, int, bytes]]"
"""Ancillary data, as sendmsg() takes it."""

ROOM = 256
"""Bytes for what comes beside a datagram: two destinations, or an error with an IPv6 address, and as much again."""


def ask_for_destinations(sock: socket.socket) -> bool:
    """Have the kernel say where each datagram was sent to; False where it cannot."""
    if not _LINUX:
        return False
    sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    return True


def destination(beside: Beside) -> tuple[str | None, Beside]:
    """Where a datagram was sent to, and what to send beside the answer, so that it comes from there.

    An answer to what was sent to a group or as a broadcast comes from an address of the interface.
    """
    found: dict[int, bytes] = {level: data for level, kind, data in beside if (level, kind) in _DESTINATIONS}
    if socket.IPPROTO_IP in found:  # on an IPv6 socket too, and then it knows more
        _, here, sent_to = struct.unpack("@i4s4s", found[socket.IPPROTO_IP])
        answer = struct.pack("@i4s4s", 0, here, bytes(4))  # no interface: the route back may be another one
        return socket.inet_ntop(socket.AF_INET, sent_to), [(socket.IPPROTO_IP, _IP_PKTINFO, answer)]
    if socket.IPPROTO_IPV6 in found:
        packed, index = struct.unpack("@16sI", found[socket.IPPROTO_IPV6])
        address = socket.inet_ntop(socket.AF_INET6, packed)
        if packed[0] == 0xFF:
            return address, []
        link_local = packed[0] == 0xFE and packed[1] & 0xC0 == 0x80
        answer = struct.pack("@16sI", packed, index if link_local else 0)
        return address, [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, answer)]
    return None, []


def ask_for_undelivered(sock: socket.socket) -> bool:
    """Have the kernel keep ICMP messages about what is sent; False where it cannot."""
    if not _LINUX:
        return False
    sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
    return True


def next_undelivered(sock: socket.socket) -> tuple[int, Any] | None:
    """The next ICMP message kept: its errno, and the address of what came back, as the system has it."""
    while True:
        try:
            _, beside, _, sockaddr = sock.recvmsg(0, ROOM, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        for level, kind, data in beside:
            if (level, kind) in _ERRORS:
                number, origin = struct.unpack_from("@IB", data)
                if origin in _ORIGINS:  # what failed here and now was told by the call that sent it
                    return number, sockaddr


FROM_ICMP = frozenset(
    getattr(errno, name)
    for name in (
        "ENETUNREACH", "EHOSTUNREACH", "ENOPROTOOPT", "ECONNREFUSED", "EMSGSIZE", "EOPNOTSUPP", "EHOSTDOWN", "ENONET",
        "EACCES", "EPROTO",
    )
    if hasattr(errno, name)
)  # fmt: skip
"""What the kernel makes of ICMP messages (net/ipv4/icmp.c, net/ipv6/icmp.c)."""

_LINUX = sys.platform == "linux"
_IP_PKTINFO = 8
_IP_RECVERR = 11
_IPV6_RECVERR = 25
_DESTINATIONS = {
    (socket.IPPROTO_IP, _IP_PKTINFO),
    (socket.IPPROTO_IPV6, getattr(socket, "IPV6_PKTINFO", 50)),
}
_ERRORS = {(socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)}
_ORIGINS = (2, 3)  # SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6
