"""Socket options as values, applied in one place.

There are few on purpose. What is asked for daily is a keyword (nodelay, keepalive); everything else goes
through ``socket_configure_callback``, which gets each socket before it is bound and connected.

The names of the keepalive clocks differ: macOS calls Linux's TCP_KEEPIDLE TCP_KEEPALIVE, and the limit for
unacknowledged data is TCP_USER_TIMEOUT on Linux and TCP_RXT_CONNDROPTIME on macOS. Where a system has no
clock of a kind, the others are set and that one keeps the system's own value.

Sources: LispWorks manual, open-tcp-stream (nodelay, keepalive); RFC 1122 4.2.3.6; RFC 5482.
"""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["KeepAlive", "SocketOptions", "detect_dead_peer"]

SHORTEST_DETECTION = 2  # one second of silence, one second for the answer to one probe


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """When an idle connection is probed, and when it is given up (SO_KEEPALIVE and its clocks).

    Attributes:
        idle: seconds without data before the first probe.
        interval: seconds between probes.
        count: unanswered probes before the connection is reset.
        user_timeout: seconds that sent data may stay unacknowledged before the connection is reset; None
            leaves that to the system (on Linux about 15 minutes).

    Raises (when the options are made): TypeError and ValueError naming what is out of range.
    """

    idle: int
    interval: int
    count: int
    user_timeout: float | None = None


def detect_dead_peer(seconds: float) -> KeepAlive:
    """Have a vanished peer noticed within ``seconds`` (2 or more), whether data is under way or not.

    Sets the keepalive clocks so that silence is noticed, and the limit for unacknowledged data so that a
    blocked write is. A load balancer that forgets idle connections (350 s and 120 s are usual) is kept awake
    as a side effect.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"seconds={seconds!r} is not allowed: it must be a number of seconds")
    if not SHORTEST_DETECTION <= seconds <= _LONGEST:
        raise ValueError(f"seconds={seconds!r} is not allowed: it must be from {SHORTEST_DETECTION} to {_LONGEST}")
    whole = int(seconds)
    interval = max(1, whole // 6)
    count = 3 if whole > 3 * interval else 1
    # Half a second less than the last probe's time: the kernel compares when a probe is due, and a tick of
    # its clock must not push the verdict to the probe after.
    return KeepAlive(whole - interval * count, interval, count, user_timeout=whole - 0.5)


class SocketOptions(NamedTuple):
    """The options every TCP socket of landline gets."""

    nodelay: bool = True
    keepalive: bool | KeepAlive = False

    @classmethod
    def checked(cls, nodelay: object, keepalive: object) -> SocketOptions:
        """From a caller's arguments; nodelay is any truth value, as in the manual.

        Raises:
            TypeError, ValueError: keepalive is neither a truth value nor a KeepAlive in range.
        """
        if keepalive is False:
            return _NODELAY if nodelay else _NOTHING
        if isinstance(keepalive, KeepAlive):
            _check_keepalive(keepalive)
            return cls(bool(nodelay), keepalive)
        if keepalive is None or isinstance(keepalive, (bool, int)):
            return cls(bool(nodelay), bool(keepalive))
        raise TypeError(
            f"keepalive={keepalive!r} is not allowed: it must be True, False, "
            "KeepAlive(idle, interval, count) or detect_dead_peer(seconds)"
        )

    def apply(self, sock: socket.socket) -> None:
        """Set the options. Raises OSError where the system refuses one it knows."""
        if self.nodelay:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.keepalive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if isinstance(self.keepalive, KeepAlive):
                _set_clocks(sock, self.keepalive)


_NODELAY = SocketOptions(nodelay=True)
_NOTHING = SocketOptions(nodelay=False)

_LONGEST = 32767  # the kernel's largest idle time and interval, in seconds
_MOST_PROBES = 127


def _check_keepalive(value: KeepAlive) -> None:
    for name, number, most in (
        ("idle", value.idle, _LONGEST),
        ("interval", value.interval, _LONGEST),
        ("count", value.count, _MOST_PROBES),
    ):
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"KeepAlive {name}={number!r} is not allowed: it must be a whole number")
        if not 1 <= number <= most:
            raise ValueError(f"KeepAlive {name}={number!r} is not allowed: it must be from 1 to {most}")
    limit = value.user_timeout
    if isinstance(limit, bool) or not isinstance(limit, (int, float, type(None))):
        raise TypeError(f"KeepAlive user_timeout={limit!r} is not allowed: it must be a number of seconds, or None")
    if limit is not None and not 0 < limit <= 86400 * 24:
        raise ValueError(f"KeepAlive user_timeout={limit!r} is not allowed: it must be seconds, more than 0, or None")


def _set_clocks(sock: socket.socket, value: KeepAlive) -> None:
    idle = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)
    for option, number in (
        (idle, value.idle),
        (getattr(socket, "TCP_KEEPINTVL", None), value.interval),
        (getattr(socket, "TCP_KEEPCNT", None), value.count),
    ):
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, number)
    if value.user_timeout is None:
        return
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(value.user_timeout * 1000)))
    elif sys.platform == "darwin":
        rxt_conndroptime = 0x80  # <netinet/tcp.h>; the socket module has no name for it
        sock.setsockopt(socket.IPPROTO_TCP, rxt_conndroptime, max(1, int(value.user_timeout)))
