"""The standard library's threaded servers: socketserver's, and one made by hand of threads and sockets.

socketserver is as its documentation has it but for two settings, both in its favour: its queue has room for all
clients, and it keeps no list of its threads.
"""

from __future__ import annotations

import socket
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

from benchmarks.load import Listening, ServingPeer
from benchmarks.wire import HOST, LIMIT, MESSAGE

BACKLOG = 1024
SIZE = len(MESSAGE)


class SocketServer(ServingPeer):
    name = "ThreadingTCPServer"
    timeout: float | None = None

    def serve(self, listening: Listening, once: bool) -> None:
        class Handler(StreamRequestHandler):
            timeout = self.timeout

            def handle(self) -> None:
                while message := self.rfile.read(SIZE):
                    self.wfile.write(message)
                    if once:
                        break

        class Server(ThreadingTCPServer):
            request_queue_size = BACKLOG
            daemon_threads = True

        with Server((HOST, 0), Handler) as server:
            listening(server.server_address[1])
            server.serve_forever()


class TimedSocketServer(SocketServer):
    name = "ThreadingTCPServer, timeout"
    timeout = LIMIT


class RawThreads(ServingPeer):
    name = "threads"
    timeout: float | None = None

    def serve(self, listening: Listening, once: bool) -> None:
        def handle(sock: socket.socket) -> None:
            with sock:
                sock.settimeout(self.timeout)
                answer(sock, once)

        with socket.create_server((HOST, 0), backlog=BACKLOG) as listener:
            listening(listener.getsockname()[1])
            while True:
                sock, _ = listener.accept()
                Thread(target=handle, args=(sock,), daemon=True).start()


class TimedRawThreads(RawThreads):
    name = "threads, timeout"
    timeout = LIMIT


PEERS = [SocketServer(), TimedSocketServer(), RawThreads(), TimedRawThreads()]


def answer(sock: socket.socket, once: bool) -> None:
    """The fewest calls that do the job."""
    while message := sock.recv(SIZE):
        sock.sendall(message)
        if once:
            break
