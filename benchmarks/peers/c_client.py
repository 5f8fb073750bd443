"""The limit: `client.c`, one process per sample, which takes its own time."""

from __future__ import annotations

import subprocess

from benchmarks.wire import Server

from . import Peer


class CClient(Peer):
    name = "C client"

    def round_trip(self, server: Server, count: int) -> float:
        return client_seconds(server, "round_trip", server.echo, count)

    def readline(self, server: Server, count: int) -> float:
        return client_seconds(server, "readline", server.lines, count)

    def frames(self, server: Server, count: int) -> float:
        return client_seconds(server, "frames", server.source, count)

    def until(self, server: Server, count: int) -> float:
        return client_seconds(server, "until", server.crlf_lines, count)

    def bulk_read(self, server: Server, count: int) -> float:
        return client_seconds(server, "bulk_read", server.source, count)

    def bulk_write(self, server: Server, count: int) -> float:
        return client_seconds(server, "bulk_write", server.sink, count)

    def small_writes(self, server: Server, count: int) -> float:
        return client_seconds(server, "small_writes", server.sink, count)

    def connect(self, server: Server, count: int) -> float:
        return client_seconds(server, "connect", server.door, count)


PEERS = [CClient()]


def client_seconds(server: Server, case: str, port: int, count: int) -> float:
    printed = subprocess.check_output([server.client, case, str(port), str(count)])
    return int(printed) / 1e9
