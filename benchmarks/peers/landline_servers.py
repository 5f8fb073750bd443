"""landline's server: with streams that keep time limits, and without; and with the bare sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import landline
from benchmarks.load import Listening, ServingPeer
from benchmarks.wire import HOST, LIMIT, MESSAGE

from .thread_servers import answer

SIZE = len(MESSAGE)


class LandlineServer(ServingPeer):
    name = "landline"
    timeout: float | None = LIMIT

    def serve(self, listening: Listening, once: bool) -> None:
        def handle(stream: landline.SocketStream) -> None:
            while message := stream.read(SIZE):
                stream.write(message)
                if once:
                    break

        serve(handle, listening, read_timeout=self.timeout, write_timeout=self.timeout)


class UntimedServer(LandlineServer):
    name = "landline, no timeout"
    timeout = None


class LandlineSocketServer(ServingPeer):
    name = "landline, sockets"

    def serve(self, listening: Listening, once: bool) -> None:
        def handle(sock: socket.socket) -> None:
            with sock:
                answer(sock, once)

        serve(handle, listening, create_stream=False)


PEERS = [LandlineServer(), UntimedServer(), LandlineSocketServer()]


def serve(handler: Callable[[Any], None], listening: Listening, **settings: Any) -> None:
    with landline.start_up_server(handler, local_address=HOST, **settings) as server:
        listening(server.port)
        server.join()
