"""anyio on asyncio, its default; lines and frames by its buffered stream; no time limits set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

from benchmarks.sampling import Taken, expect, some, taken_by_import, timed_async, traced_memory
from benchmarks.wire import CHUNK, CHUNK_SIZE, FRAME_SIZE, HOST, LINE, MESSAGE, Server

from . import Peer

LINE_LIMIT = 64 * 1024


class Anyio(Peer):
    name = "anyio"

    def run(self, method: Callable[[Any, int], Any], server: object, count: int) -> Taken:
        taken: Taken = anyio.run(method, server, count)
        return taken

    async def round_trip(self, server: Server, count: int) -> Taken:
        async with await anyio.connect_tcp(HOST, server.echo) as stream:
            buffered = BufferedByteReceiveStream(stream)

            async def work(n: int) -> None:
                for _ in range(n):
                    await stream.send(MESSAGE)
                    await buffered.receive_exactly(len(MESSAGE))

            return await timed_async(work, count)

    async def readline(self, server: Server, count: int) -> Taken:
        return await taken_by_receive_until(server.lines, b"\n", count)

    async def until(self, server: Server, count: int) -> Taken:
        return await taken_by_receive_until(server.crlf_lines, b"\r\n", count)

    async def frames(self, server: Server, count: int) -> Taken:
        async with await anyio.connect_tcp(HOST, server.source) as stream:
            buffered = BufferedByteReceiveStream(stream)

            async def work(n: int) -> None:
                for _ in range(n):
                    await buffered.receive_exactly(FRAME_SIZE)

            return await timed_async(work, count)

    async def bulk_read(self, server: Server, count: int) -> Taken:
        async with await anyio.connect_tcp(HOST, server.source) as stream:

            async def work(n: int) -> None:
                left = n * CHUNK_SIZE
                while left > 0:
                    left -= some(len(await stream.receive(CHUNK_SIZE)))

            return await timed_async(work, count)

    async def bulk_write(self, server: Server, count: int) -> Taken:
        return await taken_by_writes(server, CHUNK, count)

    async def small_writes(self, server: Server, count: int) -> Taken:
        return await taken_by_writes(server, LINE, count)

    async def connect(self, server: Server, count: int) -> Taken:
        async def work(n: int) -> None:
            for _ in range(n):
                await (await anyio.connect_tcp(HOST, server.door)).aclose()

        return await timed_async(work, count)

    async def memory(self, server: Server, count: int) -> Taken:
        streams = [await anyio.connect_tcp(HOST, server.echo)]
        with traced_memory() as held:
            streams += [await anyio.connect_tcp(HOST, server.echo) for _ in range(count)]
            used = held()
        for stream in streams:
            await stream.aclose()
        return Taken(used)

    async def import_time(self, server: Server, count: int) -> Taken:
        return taken_by_import("import anyio", count)


PEERS = [Anyio()]


async def taken_by_receive_until(port: int, ending: bytes, count: int) -> Taken:
    async with await anyio.connect_tcp(HOST, port) as stream:
        buffered = BufferedByteReceiveStream(stream)

        async def work(n: int) -> None:
            for _ in range(n):
                await buffered.receive_until(ending, LINE_LIMIT)

        taken = await timed_async(work, count)
        expect(len(LINE) - len(ending), len(await buffered.receive_until(ending, LINE_LIMIT)))
        return taken


async def taken_by_writes(server: Server, data: bytes, count: int) -> Taken:
    async with await anyio.connect_tcp(HOST, server.sink) as stream:

        async def work(n: int) -> None:
            for _ in range(n):
                await stream.send(data)

        return await timed_async(work, count)
