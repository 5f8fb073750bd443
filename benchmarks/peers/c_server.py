"""The limit for servers: `server.c`, a thread per connection."""

from __future__ import annotations

from benchmarks.load import taken_by_load
from benchmarks.sampling import Taken
from benchmarks.wire import Server

from . import Peer


class CServer(Peer):
    name = "C server"

    def echo_1(self, server: Server, count: int) -> Taken:
        return taken_by_load(server, server.pid, "echo_1", server.echo, count)

    def echo_100(self, server: Server, count: int) -> Taken:
        return taken_by_load(server, server.pid, "echo_100", server.echo, count)

    def visits(self, server: Server, count: int) -> Taken:
        return taken_by_load(server, server.pid, "visits", server.once, count)


PEERS = [CServer()]
