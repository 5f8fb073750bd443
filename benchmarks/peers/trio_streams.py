"""trio's SocketStream. It neither buffers nor counts: no lines, no frames; no time limits set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from benchmarks.sampling import Taken, some, taken_by_import, timed_async, traced_memory
from benchmarks.wire import CHUNK, CHUNK_SIZE, HOST, LINE, MESSAGE, Server

from . import Peer


class Trio(Peer):
    name = "trio"

    def run(self, method: Callable[[Any, int], Any], server: object, count: int) -> Taken:
        taken: Taken = trio.run(method, server, count)
        return taken

    async def round_trip(self, server: Server, count: int) -> Taken:
        async with await trio.open_tcp_stream(HOST, server.echo) as stream:

            async def work(n: int) -> None:
                for _ in range(n):
                    await stream.send_all(MESSAGE)
                    if len(await stream.receive_some(len(MESSAGE))) != len(MESSAGE):
                        raise ValueError("the message came in parts")

            return await timed_async(work, count)

    async def bulk_read(self, server: Server, count: int) -> Taken:
        async with await trio.open_tcp_stream(HOST, server.source) as stream:

            async def work(n: int) -> None:
                left = n * CHUNK_SIZE
                while left > 0:
                    left -= some(len(await stream.receive_some(CHUNK_SIZE)))

            return await timed_async(work, count)

    async def bulk_write(self, server: Server, count: int) -> Taken:
        return await taken_by_writes(server, CHUNK, count)

    async def small_writes(self, server: Server, count: int) -> Taken:
        return await taken_by_writes(server, LINE, count)

    async def connect(self, server: Server, count: int) -> Taken:
        async def work(n: int) -> None:
            for _ in range(n):
                await (await trio.open_tcp_stream(HOST, server.door)).aclose()

        return await timed_async(work, count)

    async def memory(self, server: Server, count: int) -> Taken:
        streams = [await trio.open_tcp_stream(HOST, server.echo)]
        with traced_memory() as held:
            streams += [await trio.open_tcp_stream(HOST, server.echo) for _ in range(count)]
            used = held()
        for stream in streams:
            await stream.aclose()
        return Taken(used)

    async def import_time(self, server: Server, count: int) -> Taken:
        return taken_by_import("import trio", count)


PEERS = [Trio()]


async def taken_by_writes(server: Server, data: bytes, count: int) -> Taken:
    async with await trio.open_tcp_stream(HOST, server.sink) as stream:

        async def work(n: int) -> None:
            for _ in range(n):
                await stream.send_all(data)

        return await timed_async(work, count)
