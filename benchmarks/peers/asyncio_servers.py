"""asyncio's server of streams, as its documentation uses it: a drain after every write, no time limits."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from collections.abc import Callable

from benchmarks.load import Listening, ServingPeer
from benchmarks.wire import HOST, MESSAGE

BACKLOG = 1024
SIZE = len(MESSAGE)


class AsyncioServer(ServingPeer):
    name = "asyncio"
    new_loop: Callable[[], asyncio.AbstractEventLoop] = staticmethod(asyncio.new_event_loop)

    def serve(self, listening: Listening, once: bool) -> None:
        async def handle(reader: StreamReader, writer: StreamWriter) -> None:
            with contextlib.suppress(IncompleteReadError, ConnectionError):
                while True:
                    writer.write(await reader.readexactly(SIZE))
                    await writer.drain()
                    if once:
                        break
            writer.close()

        async def run() -> None:
            server = await asyncio.start_server(handle, HOST, 0, backlog=BACKLOG)
            listening(server.sockets[0].getsockname()[1])
            await server.serve_forever()

        with asyncio.Runner(loop_factory=self.new_loop) as runner:
            runner.run(run())


PEERS = [AsyncioServer()]
