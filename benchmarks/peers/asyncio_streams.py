"""asyncio's streams, as its documentation uses them: a drain after every write, no time limits."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from ssl import SSLContext, create_default_context
from typing import Any

from benchmarks.sampling import Taken, expect, some, taken_by_import, timed_async, traced_memory
from benchmarks.wire import CHUNK, CHUNK_SIZE, CRLF_LINE, FRAME_SIZE, HOST, LINE, MESSAGE, Server, TlsServer

from . import Peer


class AsyncioStreams(Peer):
    name = "asyncio"
    module = "asyncio"
    new_loop: Callable[[], asyncio.AbstractEventLoop] = staticmethod(asyncio.new_event_loop)

    def run(self, method: Callable[[Any, int], Any], server: object, count: int) -> Taken:
        with asyncio.Runner(loop_factory=self.new_loop) as runner:
            taken: Taken = runner.run(method(server, count))
            return taken

    async def round_trip(self, server: Server, count: int) -> Taken:
        return await taken_by_round_trips(server.echo, None, count)

    async def readline(self, server: Server, count: int) -> Taken:
        async with streams(server.lines) as (reader, _):

            async def work(n: int) -> None:
                for _ in range(n):
                    await reader.readline()

            taken = await timed_async(work, count)
            expect(LINE, await reader.readline())
            return taken

    async def iterate(self, server: Server, count: int) -> Taken:
        async with streams(server.lines) as (reader, _):

            async def work(n: int) -> None:
                async for _ in reader:
                    n -= 1
                    if not n:
                        break

            taken = await timed_async(work, count)
            expect(LINE, await reader.readline())
            return taken

    async def frames(self, server: Server, count: int) -> Taken:
        async with streams(server.source) as (reader, _):

            async def work(n: int) -> None:
                for _ in range(n):
                    await reader.readexactly(FRAME_SIZE)

            return await timed_async(work, count)

    async def until(self, server: Server, count: int) -> Taken:
        async with streams(server.crlf_lines) as (reader, _):

            async def work(n: int) -> None:
                for _ in range(n):
                    await reader.readuntil(b"\r\n")

            taken = await timed_async(work, count)
            expect(CRLF_LINE, await reader.readuntil(b"\r\n"))
            return taken

    async def bulk_read(self, server: Server, count: int) -> Taken:
        return await taken_by_bulk_read(server.source, None, count)

    async def bulk_write(self, server: Server, count: int) -> Taken:
        return await taken_by_writes(server.sink, CHUNK, None, count)

    async def small_writes(self, server: Server, count: int) -> Taken:
        return await taken_by_writes(server.sink, LINE, None, count)

    async def connect(self, server: Server, count: int) -> Taken:
        async def work(n: int) -> None:
            for _ in range(n):
                _, writer = await asyncio.open_connection(HOST, server.door)
                writer.close()
                await writer.wait_closed()

        return await timed_async(work, count)

    async def memory(self, server: Server, count: int) -> Taken:
        pairs = [await asyncio.open_connection(HOST, server.echo)]
        with traced_memory() as held:
            pairs += [await asyncio.open_connection(HOST, server.echo) for _ in range(count)]
            used = held()
        for _, writer in pairs:
            writer.close()
            await writer.wait_closed()
        return Taken(used)

    async def tls_round_trip(self, server: TlsServer, count: int) -> Taken:
        return await taken_by_round_trips(server.echo, new_context(server), count)

    async def tls_bulk_receive(self, server: TlsServer, count: int) -> Taken:
        return await taken_by_bulk_read(server.source, new_context(server), count)

    async def tls_bulk_send(self, server: TlsServer, count: int) -> Taken:
        return await taken_by_writes(server.sink, CHUNK, new_context(server), count)

    async def tls_memory(self, server: TlsServer, count: int) -> Taken:
        context = new_context(server)
        pairs = [await asyncio.open_connection(HOST, server.echo, ssl=context)]
        with traced_memory() as held:
            for _ in range(count):
                reader, writer = await asyncio.open_connection(HOST, server.echo, ssl=context)
                writer.write(MESSAGE)
                expect(MESSAGE, await reader.readexactly(len(MESSAGE)))
                pairs.append((reader, writer))
            used = held()
        for _, writer in pairs:
            writer.transport.abort()
        return Taken(used)

    async def import_time(self, server: Server, count: int) -> Taken:
        return taken_by_import(f"import {self.module}", count)


PEERS = [AsyncioStreams()]


def new_context(server: TlsServer) -> SSLContext:
    return create_default_context(cafile=server.roots)


@contextlib.asynccontextmanager
async def streams(port: int, context: SSLContext | None = None) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """A connection, aborted afterwards: what the server still sends is nobody's concern."""
    reader, writer = await asyncio.open_connection(HOST, port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def taken_by_round_trips(port: int, context: SSLContext | None, count: int) -> Taken:
    async with streams(port, context) as (reader, writer):

        async def work(n: int) -> None:
            for _ in range(n):
                writer.write(MESSAGE)
                await writer.drain()
                await reader.readexactly(len(MESSAGE))

        return await timed_async(work, count)


async def taken_by_bulk_read(port: int, context: SSLContext | None, count: int) -> Taken:
    async with streams(port, context) as (reader, _):

        async def work(n: int) -> None:
            left = n * CHUNK_SIZE
            while left > 0:
                left -= some(len(await reader.read(CHUNK_SIZE)))

        return await timed_async(work, count)


async def taken_by_writes(port: int, data: bytes, context: SSLContext | None, count: int) -> Taken:
    async with streams(port, context) as (_, writer):

        async def work(n: int) -> None:
            for _ in range(n):
                writer.write(data)
                await writer.drain()

        return await timed_async(work, count)
