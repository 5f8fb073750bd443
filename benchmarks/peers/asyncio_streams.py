"""asyncio's streams, as its documentation uses them: a drain after every write, no time limits."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from typing import Any

from benchmarks.sampling import expect, import_seconds, some, timed_async, traced_memory
from benchmarks.wire import CHUNK, CHUNK_SIZE, CRLF_LINE, FRAME_SIZE, HOST, LINE, MESSAGE, Server

from . import Peer


class AsyncioStreams(Peer):
    name = "asyncio"
    module = "asyncio"
    new_loop: Callable[[], asyncio.AbstractEventLoop] = staticmethod(asyncio.new_event_loop)

    def run(self, method: Callable[[Server, int], Any], server: Server, count: int) -> float:
        with asyncio.Runner(loop_factory=self.new_loop) as runner:
            seconds: float = runner.run(method(server, count))
            return seconds

    async def round_trip(self, server: Server, count: int) -> float:
        async with streams(server.echo) as (reader, writer):

            async def work(n: int) -> None:
                for _ in range(n):
                    writer.write(MESSAGE)
                    await writer.drain()
                    await reader.readexactly(len(MESSAGE))

            return await timed_async(work, count)

    async def readline(self, server: Server, count: int) -> float:
        async with streams(server.lines) as (reader, _):

            async def work(n: int) -> None:
                for _ in range(n):
                    await reader.readline()

            seconds = await timed_async(work, count)
            expect(LINE, await reader.readline())
            return seconds

    async def iterate(self, server: Server, count: int) -> float:
        async with streams(server.lines) as (reader, _):

            async def work(n: int) -> None:
                async for _ in reader:
                    n -= 1
                    if not n:
                        break

            seconds = await timed_async(work, count)
            expect(LINE, await reader.readline())
            return seconds

    async def frames(self, server: Server, count: int) -> float:
        async with streams(server.source) as (reader, _):

            async def work(n: int) -> None:
                for _ in range(n):
                    await reader.readexactly(FRAME_SIZE)

            return await timed_async(work, count)

    async def until(self, server: Server, count: int) -> float:
        async with streams(server.crlf_lines) as (reader, _):

            async def work(n: int) -> None:
                for _ in range(n):
                    await reader.readuntil(b"\r\n")

            seconds = await timed_async(work, count)
            expect(CRLF_LINE, await reader.readuntil(b"\r\n"))
            return seconds

    async def bulk_read(self, server: Server, count: int) -> float:
        async with streams(server.source) as (reader, _):

            async def work(n: int) -> None:
                left = n * CHUNK_SIZE
                while left > 0:
                    left -= some(len(await reader.read(CHUNK_SIZE)))

            return await timed_async(work, count)

    async def bulk_write(self, server: Server, count: int) -> float:
        return await seconds_of_writes(server, CHUNK, count)

    async def small_writes(self, server: Server, count: int) -> float:
        return await seconds_of_writes(server, LINE, count)

    async def connect(self, server: Server, count: int) -> float:
        async def work(n: int) -> None:
            for _ in range(n):
                _, writer = await asyncio.open_connection(HOST, server.door)
                writer.close()
                await writer.wait_closed()

        return await timed_async(work, count)

    async def memory(self, server: Server, count: int) -> float:
        pairs = [await asyncio.open_connection(HOST, server.echo)]
        with traced_memory() as held:
            pairs += [await asyncio.open_connection(HOST, server.echo) for _ in range(count)]
            used = held()
        for _, writer in pairs:
            writer.close()
            await writer.wait_closed()
        return used

    async def import_time(self, server: Server, count: int) -> float:
        return import_seconds(f"import {self.module}", count)


PEERS = [AsyncioStreams()]


@contextlib.asynccontextmanager
async def streams(port: int) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """A connection, aborted afterwards: what the server still sends is nobody's concern."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def seconds_of_writes(server: Server, data: bytes, count: int) -> float:
    async with streams(server.sink) as (_, writer):

        async def work(n: int) -> None:
            for _ in range(n):
                writer.write(data)
                await writer.drain()

        return await timed_async(work, count)
