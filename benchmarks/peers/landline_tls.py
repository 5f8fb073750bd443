"""landline over TLS, with time limits set."""

from __future__ import annotations

import ssl
from typing import Literal

import landline
from benchmarks.sampling import Taken, expect, resident_growth, some, timed, traced_memory, trust_all_roots
from benchmarks.wire import CHUNK, CHUNK_SIZE, FILE_SIZE, HOST, LIMIT, MESSAGE, TlsServer
from landline import SocketStream

from . import Peer

FIRST_USES = 3
"""A context that belongs to its user gets a place for sessions at its second use; then one must come."""


class LandlineTls(Peer):
    name = "landline"

    def tls_round_trip(self, server: TlsServer, count: int) -> Taken:
        with opened(server.echo, new_context(server)) as stream:

            def work(n: int) -> None:
                for _ in range(n):
                    stream.write(MESSAGE)
                    stream.read_exactly(len(MESSAGE))

            return timed(work, count)

    def tls_bulk_receive(self, server: TlsServer, count: int) -> Taken:
        buffer = bytearray(CHUNK_SIZE)
        with opened(server.source, new_context(server)) as stream:

            def work(n: int) -> None:
                left = n * CHUNK_SIZE
                while left > 0:
                    left -= some(stream.readinto(buffer))

            return timed(work, count)

    def tls_bulk_send(self, server: TlsServer, count: int) -> Taken:
        with opened(server.sink, new_context(server)) as stream:

            def work(n: int) -> None:
                for _ in range(n):
                    stream.write(CHUNK)
                stream.flush()

            return timed(work, count)

    def tls_send_file(self, server: TlsServer, count: int) -> Taken:
        with opened(server.sink, new_context(server)) as stream, open(server.file, "rb") as file:

            def work(n: int) -> None:
                for _ in range(n):
                    expect(FILE_SIZE, stream.send_file(file, 0))

            return timed(work, count)

    def tls_connect(self, server: TlsServer, count: int) -> Taken:
        return taken_by_connections(server.door, new_context(server), count)

    def tls_connect_rsa(self, server: TlsServer, count: int) -> Taken:
        return taken_by_connections(server.rsa_door, new_context(server), count)

    def tls_resumed(self, server: TlsServer, count: int) -> Taken:
        return taken_by_visits(server.door, new_context(server), count, resumed=True)

    def tls_resumed_rsa(self, server: TlsServer, count: int) -> Taken:
        return taken_by_visits(server.rsa_door, new_context(server), count, resumed=True)

    def tls_memory(self, server: TlsServer, count: int) -> Taken:
        context = without_sessions(server)  # a full handshake leaves more to remember
        streams = [used(server, context)]
        with traced_memory() as held:
            streams += (used(server, context) for _ in range(count))
            taken = Taken(held())
        for stream in streams:
            stream.close()
        return taken

    def tls_resident(self, server: TlsServer, count: int) -> Taken:
        context = without_sessions(server)
        streams: list[SocketStream] = []
        taken = resident_growth(lambda: streams.append(used(server, context)), count)
        for stream in streams:
            stream.close()
        return taken


class LandlineDefault(Peer):
    """With the system's trust, which is loaded once: what stands against `create_default_context()`."""

    name = "landline, default"

    def tls_connect(self, server: TlsServer, count: int) -> Taken:
        trust_all_roots(server)
        return taken_by_connections(server.door, True, count)

    def tls_connect_rsa(self, server: TlsServer, count: int) -> Taken:
        trust_all_roots(server)
        return taken_by_connections(server.rsa_door, True, count)


class LandlineFresh(Peer):
    """What `tls_resumed` is compared with: the same, each time with a full handshake."""

    name = "landline, fresh"

    def tls_resumed(self, server: TlsServer, count: int) -> Taken:
        return taken_by_visits(server.door, without_sessions(server), count, resumed=False)

    def tls_resumed_rsa(self, server: TlsServer, count: int) -> Taken:
        return taken_by_visits(server.rsa_door, without_sessions(server), count, resumed=False)


PEERS = [LandlineTls(), LandlineDefault(), LandlineFresh()]


def new_context(server: TlsServer) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=server.roots)


def without_sessions(server: TlsServer) -> ssl.SSLContext:
    context = new_context(server)
    context.options |= ssl.OP_NO_TICKET
    return context


def opened(port: int, context: ssl.SSLContext) -> SocketStream:
    stream = landline.open_tcp_stream(HOST, port, ssl_ctx=context, read_timeout=LIMIT, write_timeout=LIMIT)
    expect("TLSv1.3", stream.tls and stream.tls.version)
    return stream


def used(server: TlsServer, context: ssl.SSLContext) -> SocketStream:
    """A stream after a first exchange: what comes behind the handshake has been read."""
    stream = opened(server.echo, context)
    stream.write(MESSAGE)
    expect(MESSAGE, stream.read_exactly(len(MESSAGE)))
    return stream


def taken_by_connections(port: int, ssl_ctx: ssl.SSLContext | Literal[True], count: int) -> Taken:
    def work(n: int) -> None:
        for _ in range(n):
            landline.open_tcp_stream(HOST, port, ssl_ctx=ssl_ctx, timeout=LIMIT).close()

    return timed(work, count)


def taken_by_visits(port: int, context: ssl.SSLContext, count: int, *, resumed: bool) -> Taken:
    """What `count` connections with an exchange of a byte take."""

    def visit() -> bool:
        with landline.open_tcp_stream(
            HOST, port, ssl_ctx=context, timeout=LIMIT, read_timeout=LIMIT, write_timeout=LIMIT
        ) as stream:
            stream.write(b"x")
            expect(b"x", stream.read_exactly(1))
            assert stream.tls is not None
            return stream.tls.session_reused

    def work(n: int) -> None:
        for _ in range(n):
            expect(resumed, visit())

    for _ in range(FIRST_USES):
        visit()
    return timed(work, count)
