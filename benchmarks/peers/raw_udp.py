"""Datagrams by the socket module: the fewest calls that do the job."""

from __future__ import annotations

import socket
from functools import partial

from benchmarks.sampling import Taken, timed, timed_bursts
from benchmarks.wire import HOST, LIMIT, MESSAGE, Server

from . import Peer

SIZE = 2048
"""Bytes asked for, which is room enough for what comes here."""


class RawUdp(Peer):
    name = "socket"
    timeout: float | None = None

    def udp_round_trip(self, server: Server, count: int) -> Taken:
        with opened(self.timeout) as sock:
            sock.connect((HOST, server.udp_echo))

            def work(n: int) -> None:
                for _ in range(n):
                    sock.send(MESSAGE)
                    sock.recv(SIZE)

            return timed(work, count)

    def udp_unconnected(self, server: Server, count: int) -> Taken:
        address = HOST, server.udp_echo
        with opened(self.timeout) as sock:

            def work(n: int) -> None:
                for _ in range(n):
                    sock.sendto(MESSAGE, address)
                    sock.recvfrom(SIZE)

            return timed(work, count)

    def udp_receive(self, server: Server, count: int) -> Taken:
        with opened(self.timeout) as sock:
            sock.connect((HOST, server.udp_source))
            return timed_bursts(sock.send, partial(sock.recv, SIZE), count)


class TimedUdp(RawUdp):
    name = "socket, timeout"
    timeout = LIMIT


PEERS = [RawUdp(), TimedUdp()]


def opened(timeout: float | None) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(timeout)
    return sock
