"""The socket module by hand: the fewest calls that do the job.

TCP_NODELAY is set, as landline, asyncio, trio and anyio set it; without it the kernel would join
small writes for this peer alone. Connecting is left as `create_connection` does it.
"""

from __future__ import annotations

import os
import socket

from benchmarks.sampling import Taken, expect, some, taken_by_import, timed, traced_memory
from benchmarks.wire import CHUNK, CHUNK_SIZE, FILE_SIZE, FRAME_SIZE, HOST, LIMIT, LINE, MESSAGE, Server

from . import Peer


class TimedSocket(Peer):
    """What a socket with a timeout can do as well as one without."""

    name = "socket, timeout"
    timeout: float | None = LIMIT

    def round_trip(self, server: Server, count: int) -> Taken:
        with dialled(server.echo, self.timeout) as sock:

            def work(n: int) -> None:
                for _ in range(n):
                    sock.sendall(MESSAGE)
                    if len(sock.recv(len(MESSAGE))) != len(MESSAGE):
                        raise ValueError("the message came in parts")

            return timed(work, count)

    def bulk_read(self, server: Server, count: int) -> Taken:
        buffer = bytearray(CHUNK_SIZE)
        with dialled(server.source, self.timeout) as sock:

            def work(n: int) -> None:
                left = n * CHUNK_SIZE
                while left > 0:
                    left -= some(sock.recv_into(buffer))

            return timed(work, count)

    def bulk_write(self, server: Server, count: int) -> Taken:
        with dialled(server.sink, self.timeout) as sock:

            def work(n: int) -> None:
                for _ in range(n):
                    sock.sendall(CHUNK)

            return timed(work, count)

    def connect(self, server: Server, count: int) -> Taken:
        def work(n: int) -> None:
            for _ in range(n):
                socket.create_connection((HOST, server.door), self.timeout).close()

        return timed(work, count)


class SocketSendfile(Peer):
    """The socket's own method, which polls between the system's calls."""

    name = "socket.sendfile"

    def send_file(self, server: Server, count: int) -> Taken:
        with dialled(server.sink, LIMIT) as sock, open(server.file, "rb") as file:

            def work(n: int) -> None:
                for _ in range(n):
                    expect(FILE_SIZE, sock.sendfile(file))

            return timed(work, count)


class RawSocket(TimedSocket):
    name = "socket"
    timeout = None

    def frames(self, server: Server, count: int) -> Taken:
        with dialled(server.source) as sock:

            def work(n: int) -> None:
                for _ in range(n):
                    sock.recv(FRAME_SIZE, socket.MSG_WAITALL)

            return timed(work, count)

    def small_writes(self, server: Server, count: int) -> Taken:
        with dialled(server.sink) as sock:

            def work(n: int) -> None:
                for _ in range(n):
                    sock.sendall(LINE)

            return timed(work, count)

    def send_file(self, server: Server, count: int) -> Taken:
        with dialled(server.sink) as sock, open(server.file, "rb") as file:

            def work(n: int) -> None:
                for _ in range(n):
                    offset = 0
                    while sent := os.sendfile(sock.fileno(), file.fileno(), offset, FILE_SIZE - offset):
                        offset += sent

            return timed(work, count)

    def memory(self, server: Server, count: int) -> Taken:
        sockets = [dialled(server.echo)]
        with traced_memory() as held:
            sockets += (dialled(server.echo) for _ in range(count))
            used = held()
        for sock in sockets:
            sock.close()
        return Taken(used)

    def import_time(self, server: Server, count: int) -> Taken:
        return taken_by_import("import socket", count)


PEERS = [RawSocket(), TimedSocket(), SocketSendfile()]


def dialled(port: int, timeout: float | None = None) -> socket.socket:
    sock = socket.create_connection((HOST, port), timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
