"""asyncio's server of streams on uvloop."""

from __future__ import annotations

import uvloop

from .asyncio_servers import AsyncioServer


class UvloopServer(AsyncioServer):
    name = "uvloop"
    new_loop = staticmethod(uvloop.new_event_loop)


PEERS = [UvloopServer()]
