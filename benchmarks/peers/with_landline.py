"""landline, with time limits set: its claim is that they cost nothing."""

from __future__ import annotations

import landline
from benchmarks.sampling import (
    Taken,
    expect,
    some,
    taken_by_import,
    timed,
    timed_iteration,
    timed_readline,
    traced_memory,
)
from benchmarks.wire import (
    CHUNK,
    CHUNK_SIZE,
    CRLF_LINE,
    FILE_SIZE,
    FRAME_SIZE,
    HOST,
    LIMIT,
    LINE,
    MESSAGE,
    Server,
)
from landline import SocketStream

from . import Peer


class Landline(Peer):
    name = "landline"

    def round_trip(self, server: Server, count: int) -> Taken:
        with opened(server.echo) as stream:

            def work(n: int) -> None:
                for _ in range(n):
                    stream.write(MESSAGE)
                    stream.read_exactly(len(MESSAGE))

            return timed(work, count)

    def readline(self, server: Server, count: int) -> Taken:
        with opened(server.lines) as stream:
            return timed_readline(stream, LINE, count)

    def iterate(self, server: Server, count: int) -> Taken:
        with opened(server.lines) as stream:
            return timed_iteration(stream, LINE, count)

    def text_readline(self, server: Server, count: int) -> Taken:
        with landline.open_tcp_stream(HOST, server.lines, element_type=str, read_timeout=LIMIT) as stream:
            return timed_readline(stream, LINE.decode(), count)

    def text_iterate(self, server: Server, count: int) -> Taken:
        with landline.open_tcp_stream(HOST, server.lines, element_type=str, read_timeout=LIMIT) as stream:
            return timed_iteration(stream, LINE.decode(), count)

    def frames(self, server: Server, count: int) -> Taken:
        with opened(server.source) as stream:

            def work(n: int) -> None:
                for _ in range(n):
                    stream.read_exactly(FRAME_SIZE)

            return timed(work, count)

    def until(self, server: Server, count: int) -> Taken:
        with opened(server.crlf_lines) as stream:

            def work(n: int) -> None:
                for _ in range(n):
                    stream.read_until(b"\r\n")

            taken = timed(work, count)
            expect(CRLF_LINE, stream.read_until(b"\r\n"))
            return taken

    def bulk_read(self, server: Server, count: int) -> Taken:
        buffer = bytearray(CHUNK_SIZE)
        with opened(server.source) as stream:

            def work(n: int) -> None:
                left = n * CHUNK_SIZE
                while left > 0:
                    left -= some(stream.readinto(buffer))

            return timed(work, count)

    def bulk_write(self, server: Server, count: int) -> Taken:
        with opened(server.sink) as stream:

            def work(n: int) -> None:
                for _ in range(n):
                    stream.write(CHUNK)
                stream.flush()

            return timed(work, count)

    def small_writes(self, server: Server, count: int) -> Taken:
        with opened(server.sink) as stream:

            def work(n: int) -> None:
                for _ in range(n):
                    stream.write(LINE)
                stream.flush()

            return timed(work, count)

    def send_file(self, server: Server, count: int) -> Taken:
        with opened(server.sink) as stream, open(server.file, "rb") as file:

            def work(n: int) -> None:
                for _ in range(n):
                    expect(FILE_SIZE, stream.send_file(file, 0))

            return timed(work, count)

    def connect(self, server: Server, count: int) -> Taken:
        def work(n: int) -> None:
            for _ in range(n):
                landline.open_tcp_stream(HOST, server.door, timeout=LIMIT).close()

        return timed(work, count)

    def memory(self, server: Server, count: int) -> Taken:
        streams = [opened(server.echo)]
        with traced_memory() as held:
            streams += (opened(server.echo) for _ in range(count))
            used = held()
        for stream in streams:
            stream.close()
        return Taken(used)

    def import_time(self, server: Server, count: int) -> Taken:
        return taken_by_import("import landline", count)


class LandlineUnlimited(Peer):
    name = "landline, no timeout"

    def connect(self, server: Server, count: int) -> Taken:
        def work(n: int) -> None:
            for _ in range(n):
                landline.open_tcp_stream(HOST, server.door).close()

        return timed(work, count)


class LandlineFirstUse(Peer):
    """The import and what the first use of the front door loads."""

    name = "landline, first use"

    def import_time(self, server: Server, count: int) -> Taken:
        return taken_by_import("import landline; landline.open_tcp_stream", count)


PEERS = [Landline(), LandlineUnlimited(), LandlineFirstUse()]


def opened(port: int) -> SocketStream:
    return landline.open_tcp_stream(HOST, port, read_timeout=LIMIT, write_timeout=LIMIT)
