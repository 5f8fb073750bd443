"""The limit: `client.c` and `tls_client.c`, one process per sample, which takes its own time."""

from __future__ import annotations

import subprocess

from benchmarks.sampling import Taken, taken_by_program
from benchmarks.wire import Server, TlsServer

from . import Peer


class CClient(Peer):
    name = "C client"

    def round_trip(self, server: Server, count: int) -> Taken:
        return taken_by_client(server, "round_trip", server.echo, count)

    def readline(self, server: Server, count: int) -> Taken:
        return taken_by_client(server, "readline", server.lines, count)

    def frames(self, server: Server, count: int) -> Taken:
        return taken_by_client(server, "frames", server.source, count)

    def until(self, server: Server, count: int) -> Taken:
        return taken_by_client(server, "until", server.crlf_lines, count)

    def bulk_read(self, server: Server, count: int) -> Taken:
        return taken_by_client(server, "bulk_read", server.source, count)

    def bulk_write(self, server: Server, count: int) -> Taken:
        return taken_by_client(server, "bulk_write", server.sink, count)

    def small_writes(self, server: Server, count: int) -> Taken:
        return taken_by_client(server, "small_writes", server.sink, count)

    def connect(self, server: Server, count: int) -> Taken:
        return taken_by_client(server, "connect", server.door, count)

    def send_file(self, server: Server, count: int) -> Taken:
        return taken_by_client(server, "send_file", server.sink, count)

    def udp_round_trip(self, server: Server, count: int) -> Taken:
        return taken_by_client(server, "udp_round_trip", server.udp_echo, count)

    def udp_unconnected(self, server: Server, count: int) -> Taken:
        return taken_by_client(server, "udp_unconnected", server.udp_echo, count)

    def udp_receive(self, server: Server, count: int) -> Taken:
        return taken_by_client(server, "udp_receive", server.udp_source, count)

    def tls_round_trip(self, server: TlsServer, count: int) -> Taken:
        return taken_by_tls_client(server, "round_trip", server.echo, count)

    def tls_bulk_receive(self, server: TlsServer, count: int) -> Taken:
        return taken_by_tls_client(server, "bulk_receive", server.source, count)

    def tls_bulk_send(self, server: TlsServer, count: int) -> Taken:
        return taken_by_tls_client(server, "bulk_send", server.sink, count)

    def tls_send_file(self, server: TlsServer, count: int) -> Taken:
        return taken_by_tls_client(server, "send_file", server.sink, count)

    def tls_connect(self, server: TlsServer, count: int) -> Taken:
        return taken_by_tls_client(server, "connect", server.door, count)

    def tls_connect_rsa(self, server: TlsServer, count: int) -> Taken:
        return taken_by_tls_client(server, "connect", server.rsa_door, count)

    def tls_resumed(self, server: TlsServer, count: int) -> Taken:
        return taken_by_tls_client(server, "resumed", server.door, count)

    def tls_resumed_rsa(self, server: TlsServer, count: int) -> Taken:
        return taken_by_tls_client(server, "resumed", server.rsa_door, count)

    def tls_resident(self, server: TlsServer, count: int) -> Taken:
        command = [server.client, "resident", str(server.echo), str(count), server.roots]
        return Taken(int(subprocess.check_output(command)))


class CFresh(Peer):
    """What `tls_resumed` is compared with: the same, each time with a full handshake."""

    name = "C client, fresh"

    def tls_resumed(self, server: TlsServer, count: int) -> Taken:
        return taken_by_tls_client(server, "fresh", server.door, count)

    def tls_resumed_rsa(self, server: TlsServer, count: int) -> Taken:
        return taken_by_tls_client(server, "fresh", server.rsa_door, count)


PEERS = [CClient(), CFresh()]


def taken_by_client(server: Server, case: str, port: int, count: int) -> Taken:
    return taken_by_program(server.client, case, str(port), str(count))


def taken_by_tls_client(server: TlsServer, case: str, port: int, count: int) -> Taken:
    return taken_by_program(server.client, case, str(port), str(count), server.roots)
