"""`socket.makefile` with its default buffer: the standard library's buffered stream."""

from __future__ import annotations

from io import BufferedRWPair
from socket import socket

from benchmarks.sampling import Taken, timed, timed_iteration, timed_readline, traced_memory
from benchmarks.wire import CHUNK, CHUNK_SIZE, CRLF_LINE, FRAME_SIZE, LIMIT, LINE, MESSAGE, Server

from . import Peer
from .raw_socket import dialled


class TimedMakefile(Peer):
    """Over a socket with a timeout; for the round trip only, the case that is about time limits."""

    name = "makefile, timeout"
    timeout: float | None = LIMIT

    def round_trip(self, server: Server, count: int) -> Taken:
        with dialled(server.echo, self.timeout) as sock, sock.makefile("rwb") as file:

            def work(n: int) -> None:
                for _ in range(n):
                    file.write(MESSAGE)
                    file.flush()
                    file.read(len(MESSAGE))

            return timed(work, count)


class Makefile(TimedMakefile):
    name = "makefile"
    timeout = None

    def readline(self, server: Server, count: int) -> Taken:
        with dialled(server.lines) as sock, sock.makefile("rb") as file:
            return timed_readline(file, LINE, count)

    def iterate(self, server: Server, count: int) -> Taken:
        with dialled(server.lines) as sock, sock.makefile("rb") as file:
            return timed_iteration(file, LINE, count)

    def text_readline(self, server: Server, count: int) -> Taken:
        with dialled(server.lines) as sock, sock.makefile("r", encoding="utf-8") as file:
            return timed_readline(file, LINE.decode(), count)

    def text_iterate(self, server: Server, count: int) -> Taken:
        with dialled(server.lines) as sock, sock.makefile("r", encoding="utf-8") as file:
            return timed_iteration(file, LINE.decode(), count)

    def frames(self, server: Server, count: int) -> Taken:
        with dialled(server.source) as sock, sock.makefile("rb") as file:

            def work(n: int) -> None:
                for _ in range(n):
                    file.read(FRAME_SIZE)

            return timed(work, count)

    def until(self, server: Server, count: int) -> Taken:
        with dialled(server.crlf_lines) as sock, sock.makefile("rb") as file:
            return timed_readline(file, CRLF_LINE, count)

    def bulk_read(self, server: Server, count: int) -> Taken:
        buffer = bytearray(CHUNK_SIZE)
        with dialled(server.source) as sock, sock.makefile("rb") as file:

            def work(n: int) -> None:
                for _ in range(n):
                    file.readinto(buffer)

            return timed(work, count)

    def bulk_write(self, server: Server, count: int) -> Taken:
        with dialled(server.sink) as sock, sock.makefile("wb") as file:

            def work(n: int) -> None:
                for _ in range(n):
                    file.write(CHUNK)
                file.flush()

            return timed(work, count)

    def small_writes(self, server: Server, count: int) -> Taken:
        with dialled(server.sink) as sock, sock.makefile("wb") as file:

            def work(n: int) -> None:
                for _ in range(n):
                    file.write(LINE)
                file.flush()

            return timed(work, count)

    def memory(self, server: Server, count: int) -> Taken:
        def opened() -> tuple[socket, BufferedRWPair]:
            sock = dialled(server.echo)
            return sock, sock.makefile("rwb")

        pairs = [opened()]
        with traced_memory() as held:
            pairs += (opened() for _ in range(count))
            used = held()
        for sock, file in pairs:
            sock.close()
            file.close()
        return Taken(used)


PEERS = [Makefile(), TimedMakefile()]
