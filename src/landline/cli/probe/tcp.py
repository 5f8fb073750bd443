"""What the system's TCP knows of a connection: round trips, sizes, keepalive.

Linux tells most of it by TCP_INFO, whose beginning has never changed; other systems tell a few of its facts by
options of their own. What a system does not tell is None.

Sources: Linux, include/uapi/linux/tcp.h (struct tcp_info); tcp(7).
"""

from __future__ import annotations

import socket
import struct
import sys

from .facts import Keepalive, TcpFacts

__all__ = ["tcp_facts"]

NEW_ENOUGH = 152
"""Bytes of struct tcp_info up to tcpi_min_rtt (Linux 4.6)."""

ESTABLISHED = 1
EXTENSIONS = ((1, "timestamps"), (2, "SACK"), (4, "window scaling"), (8, "ECN"))
MICROSECONDS = 1e-6


def tcp_facts(fileno: int) -> TcpFacts:
    """The facts of a connected socket, which stays its owner's."""
    sock = socket.socket(fileno=fileno)
    try:
        told = _told_by_linux(sock) if sys.platform == "linux" else {}
        if "mss" not in told:
            told["mss"] = _option(sock, socket.IPPROTO_TCP, "TCP_MAXSEG")
        return TcpFacts(keepalive=_keepalive(sock), **told)  # type: ignore[arg-type]
    finally:
        sock.detach()


def _told_by_linux(sock: socket.socket) -> dict[str, object]:
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        name = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    except OSError:  # a kernel inside a program (gVisor) may not have them
        return {}
    if len(info) < NEW_ENOUGH:
        return {}
    state, _, _, _, _, options = struct.unpack_from("6B", info)
    if state != ESTABLISHED:  # the peer has ended it, and the kernel has begun to forget
        return {}
    numbers = struct.unpack_from("=24I", info, 8)
    best = struct.unpack_from("=I", info, 148)[0]
    round_trip, variation = numbers[15], numbers[16]
    return {
        "round_trip": round_trip * MICROSECONDS if round_trip else None,
        "round_trip_best": best * MICROSECONDS if 0 < best < 0xFFFFFFFF else None,
        "round_trip_variation": variation * MICROSECONDS if round_trip else None,
        "mss": numbers[2],
        "mss_offered": numbers[18],
        "path_mtu": numbers[13],
        "sent_again": numbers[23],
        "extensions": tuple(name for bit, name in EXTENSIONS if options & bit),
        "congestion": name.partition(b"\0")[0].decode("ascii", "replace"),
    }


def _keepalive(sock: socket.socket) -> Keepalive:
    idle = "TCP_KEEPALIVE" if sys.platform == "darwin" else "TCP_KEEPIDLE"
    return Keepalive(
        bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)),
        *(_option(sock, socket.IPPROTO_TCP, name) for name in (idle, "TCP_KEEPINTVL", "TCP_KEEPCNT")),
    )


def _option(sock: socket.socket, level: int, name: str) -> int | None:
    number = getattr(socket, name, None)
    if number is None:
        return None
    try:
        return sock.getsockopt(level, number)
    except OSError:
        return None
