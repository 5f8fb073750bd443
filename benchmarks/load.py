"""Peers that are servers: each is started in a process of its own (`serve.py`), and `load.c` is its client."""

from __future__ import annotations

import sys
from collections.abc import Callable

from .peers import Peer
from .sampling import Taken, taken_by_program
from .server import running
from .wire import SERVER_PID, Server

Listening = Callable[[int], None]


class ServingPeer(Peer):
    """Has all the cases of servers, if it can serve."""

    def serve(self, listening: Listening, once: bool) -> None:
        """Answer every message of 64 bytes with the same on HOST, for ever; with ``once`` close after the first one.

        ``listening`` wants to know the port.
        """
        raise NotImplementedError

    def echo_1(self, server: Server, count: int) -> Taken:
        return self._loaded(server, "echo_1", count)

    def echo_100(self, server: Server, count: int) -> Taken:
        return self._loaded(server, "echo_100", count)

    def visits(self, server: Server, count: int) -> Taken:
        return self._loaded(server, "visits", count, "once")

    def _loaded(self, server: Server, case: str, count: int, *once: str) -> Taken:
        command = (sys.executable, "-m", f"{__package__}.serve", type(self).__module__, self.name, *once)
        with running(server.core, *command) as served:
            return taken_by_load(server, served["pid"], case, served["port"], count)


def taken_by_load(server: Server, pid: int, case: str, port: int, count: int) -> Taken:
    """What `count` requests to that port take; `pid` is the process that answers."""
    return taken_by_program(server.load, case, str(port), str(count), **{SERVER_PID: str(pid)})
