"""The libraries measured, one module each; a module's PEERS lists what it offers.

A peer's methods are named after the cases of `cases.py`; where it has none, it is left out of the
case. A method opens its own connection, does `count` operations inside `timed` and returns what that
took. Methods whose names begin with "tls_" get the other server. Peers that are servers themselves say how they
serve (`load.py`). A module whose library is not installed is left out as a whole.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from benchmarks.sampling import Taken

MODULES = (
    "with_landline",
    "landline_tls",
    "landline_java",
    "c_client",
    "raw_socket",
    "landline_udp",
    "raw_udp",
    "ssl_socket",
    "makefile",
    "asyncio_streams",
    "uvloop_streams",
    "trio_streams",
    "anyio_streams",
    "landline_servers",
    "thread_servers",
    "asyncio_servers",
    "uvloop_servers",
    "c_server",
)


class Peer:
    name: str

    def run(self, method: Callable[[Any, int], Any], server: object, count: int) -> Taken:
        """Call one of this peer's methods; peers with coroutine methods bring their event loop."""
        taken: Taken = method(server, count)
        return taken


def available() -> tuple[list[Peer], dict[str, str]]:
    """The peers that can be imported, and why each other module can not."""
    peers: list[Peer] = []
    missing: dict[str, str] = {}
    for name in MODULES:
        try:
            module = importlib.import_module(f".{name}", __package__)
        except ImportError as error:
            missing[name] = str(error)
        else:
            peers.extend(module.PEERS)
    return peers, missing
