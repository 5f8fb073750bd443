"""`ssl.SSLSocket` by hand: the standard library's TLS, with the fewest calls that do the job.

TCP_NODELAY is set for what lasts, as for the plain sockets; connecting is left as the documentation does it,
and closing too: without close_notify.
"""

from __future__ import annotations

import socket
import ssl

from benchmarks.sampling import Taken, expect, resident_growth, some, timed, traced_memory, trust_all_roots
from benchmarks.wire import CHUNK, CHUNK_SIZE, FILE_SIZE, HOST, LIMIT, MESSAGE, TlsServer

from . import Peer
from .raw_socket import dialled


class TimedSslSocket(Peer):
    """With a timeout, as landline's claims are made against it, and one context for all connections."""

    name = "SSLSocket, timeout"
    timeout: float | None = LIMIT

    def tls_round_trip(self, server: TlsServer, count: int) -> Taken:
        with secured(server.echo, new_context(server), self.timeout) as sock:

            def work(n: int) -> None:
                for _ in range(n):
                    sock.sendall(MESSAGE)
                    if len(sock.recv(len(MESSAGE))) != len(MESSAGE):
                        raise ValueError("the message came in parts")

            return timed(work, count)

    def tls_bulk_receive(self, server: TlsServer, count: int) -> Taken:
        buffer = bytearray(CHUNK_SIZE)
        with secured(server.source, new_context(server), self.timeout) as sock:

            def work(n: int) -> None:
                left = n * CHUNK_SIZE
                while left > 0:
                    left -= some(sock.recv_into(buffer))

            return timed(work, count)

    def tls_bulk_send(self, server: TlsServer, count: int) -> Taken:
        with secured(server.sink, new_context(server), self.timeout) as sock:

            def work(n: int) -> None:
                for _ in range(n):
                    sock.sendall(CHUNK)

            return timed(work, count)

    def tls_send_file(self, server: TlsServer, count: int) -> Taken:
        """By large pieces, as many lines as sendfile() would be."""
        with secured(server.sink, new_context(server), self.timeout) as sock, open(server.file, "rb") as file:

            def work(n: int) -> None:
                for _ in range(n):
                    file.seek(0)
                    while piece := file.read(CHUNK_SIZE):
                        sock.sendall(piece)

            return timed(work, count)

    def tls_connect(self, server: TlsServer, count: int) -> Taken:
        return self._connections(server, server.door, count)

    def tls_connect_rsa(self, server: TlsServer, count: int) -> Taken:
        return self._connections(server, server.rsa_door, count)

    def tls_resumed(self, server: TlsServer, count: int) -> Taken:
        return self._visits(server, server.door, count)

    def tls_resumed_rsa(self, server: TlsServer, count: int) -> Taken:
        return self._visits(server, server.rsa_door, count)

    def tls_memory(self, server: TlsServer, count: int) -> Taken:
        context = new_context(server)
        sockets = [used(server, context)]
        with traced_memory() as held:
            sockets += (used(server, context) for _ in range(count))
            taken = Taken(held())
        for sock in sockets:
            sock.close()
        return taken

    def tls_resident(self, server: TlsServer, count: int) -> Taken:
        context = new_context(server)
        sockets: list[ssl.SSLSocket] = []
        taken = resident_growth(lambda: sockets.append(used(server, context)), count)
        for sock in sockets:
            sock.close()
        return taken

    def _connections(self, server: TlsServer, port: int, count: int) -> Taken:
        context = new_context(server)

        def work(n: int) -> None:
            for _ in range(n):
                sock = socket.create_connection((HOST, port), self.timeout)
                context.wrap_socket(sock, server_hostname=HOST).close()

        return timed(work, count)

    def _visits(self, server: TlsServer, port: int, count: int) -> Taken:
        context = new_context(server)
        latest: ssl.SSLSession | None = None

        def work(n: int) -> None:
            nonlocal latest
            for _ in range(n):
                with secured(port, context, self.timeout, latest) as sock:
                    expect(latest is not None, sock.session_reused)
                    sock.sendall(b"x")
                    expect(b"x", sock.recv(1))
                    latest = sock.session

        return timed(work, count)


class SslSocket(Peer):
    """Without a timeout: what keeping one costs."""

    name = "SSLSocket"
    timeout = None

    tls_round_trip = TimedSslSocket.tls_round_trip
    tls_bulk_receive = TimedSslSocket.tls_bulk_receive
    tls_bulk_send = TimedSslSocket.tls_bulk_send
    tls_send_file = TimedSslSocket.tls_send_file


class SslSendfile(Peer):
    """The method of that name, which over TLS reads and sends 8 KiB at a time."""

    name = "SSLSocket.sendfile"

    def tls_send_file(self, server: TlsServer, count: int) -> Taken:
        with secured(server.sink, new_context(server), LIMIT) as sock, open(server.file, "rb") as file:

            def work(n: int) -> None:
                for _ in range(n):
                    file.seek(0)
                    expect(FILE_SIZE, sock.sendfile(file))

            return timed(work, count)


class NewContexts(Peer):
    """`create_default_context()` for each connection, as most programs do it."""

    name = "SSLSocket, new context"

    def tls_connect(self, server: TlsServer, count: int) -> Taken:
        return self._connections(server, server.door, count)

    def tls_connect_rsa(self, server: TlsServer, count: int) -> Taken:
        return self._connections(server, server.rsa_door, count)

    def _connections(self, server: TlsServer, port: int, count: int) -> Taken:
        trust_all_roots(server)

        def work(n: int) -> None:
            for _ in range(n):
                context = ssl.create_default_context()
                sock = socket.create_connection((HOST, port), LIMIT)
                context.wrap_socket(sock, server_hostname=HOST).close()

        return timed(work, count)


class SslMakefile(Peer):
    name = "SSLSocket, makefile"

    def tls_round_trip(self, server: TlsServer, count: int) -> Taken:
        with secured(server.echo, new_context(server), LIMIT) as sock, sock.makefile("rwb") as file:

            def work(n: int) -> None:
                for _ in range(n):
                    file.write(MESSAGE)
                    file.flush()
                    file.read(len(MESSAGE))

            return timed(work, count)


PEERS = [TimedSslSocket(), SslSocket(), SslSendfile(), NewContexts(), SslMakefile()]


def new_context(server: TlsServer) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=server.roots)


def secured(
    port: int, context: ssl.SSLContext, timeout: float | None, session: ssl.SSLSession | None = None
) -> ssl.SSLSocket:
    sock = context.wrap_socket(dialled(port, timeout), server_hostname=HOST, session=session)
    expect("TLSv1.3", sock.version())
    return sock


def used(server: TlsServer, context: ssl.SSLContext) -> ssl.SSLSocket:
    """A connection after a first exchange: what comes behind the handshake has been read."""
    sock = secured(server.echo, context, LIMIT)
    sock.sendall(MESSAGE)
    expect(MESSAGE, sock.recv(len(MESSAGE)))
    return sock
