"""asyncio's streams on uvloop."""

from __future__ import annotations

import uvloop

from .asyncio_streams import AsyncioStreams


class UvloopStreams(AsyncioStreams):
    name = "uvloop"
    module = "uvloop"
    new_loop = staticmethod(uvloop.new_event_loop)


PEERS = [UvloopStreams()]
