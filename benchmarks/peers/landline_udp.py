"""landline's datagrams, with time limits set."""

from __future__ import annotations

import landline
from benchmarks.sampling import Taken, timed, timed_bursts
from benchmarks.wire import HOST, LIMIT, MESSAGE, Server
from landline import UdpSocket

from . import Peer


class LandlineUdp(Peer):
    name = "landline"

    def udp_round_trip(self, server: Server, count: int) -> Taken:
        with connected(server.udp_echo) as udp:

            def work(n: int) -> None:
                for _ in range(n):
                    udp.send(MESSAGE)
                    udp.receive()

            return timed(work, count)

    def udp_unconnected(self, server: Server, count: int) -> Taken:
        with landline.open_udp_socket(local_address=HOST, read_timeout=LIMIT, write_timeout=LIMIT) as udp:

            def work(n: int) -> None:
                for _ in range(n):
                    udp.send_to(MESSAGE, HOST, server.udp_echo)
                    udp.receive_from()

            return timed(work, count)

    def udp_receive(self, server: Server, count: int) -> Taken:
        with connected(server.udp_source) as udp:
            return timed_bursts(udp.send, udp.receive, count)


PEERS = [LandlineUdp()]


def connected(port: int) -> UdpSocket:
    return landline.open_udp_socket(HOST, port, read_timeout=LIMIT, write_timeout=LIMIT)
