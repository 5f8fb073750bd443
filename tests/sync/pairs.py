"""Connections for tests: two sockets over loopback TCP, and streams over them for either way to wait."""

from __future__ import annotations

import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tls_support import HOST, client_context, server_context

from landline.address import SocketAddress
from landline.sync.stream import SocketStream
from landline.sync.transport import PlainTransport
from landline.sync.wait import KernelWaits, PolledWaits, Waits
from landline.testing.contract.stage import Task

WAITS: dict[str, Callable[[socket.socket], Waits]] = {"polled": PolledWaits}
if sys.platform == "linux":
    WAITS["kernel"] = KernelWaits

needs_signals = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs pthread_kill()")

each_way_to_wait = pytest.mark.parametrize("waits", WAITS.values(), ids=list(WAITS))
"""Run a test with ``waits``, once for each strategy that this system has."""


def connect() -> tuple[socket.socket, socket.socket]:
    """Two connected TCP sockets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    return near, far


def over(sock: socket.socket, waits: Callable[[socket.socket], Waits], **more: Any) -> SocketStream:
    """A stream over ``sock`` that waits in the given way."""
    return SocketStream._over(
        PlainTransport(sock, waits(sock)),
        peer_address=SocketAddress.from_sockaddr(sock.getpeername()),
        local_address=SocketAddress.from_sockaddr(sock.getsockname()),
        **more,
    )


def tls_pair(
    waits: Callable[[socket.socket], Waits], version: ssl.TLSVersion, server_side: bool = False
) -> tuple[SocketStream, SocketStream]:
    """Two streams after their handshake; the first waits in the given way, and may be the server."""
    stream, peer = stream_pair(waits)
    client, server = (peer, stream) if server_side else (stream, peer)
    of_server, of_client = server_context(version), client_context(version)
    serving = Task(lambda: server.start_tls(of_server))
    client.start_tls(of_client, host=HOST)
    serving.result()
    return stream, peer


def stream_pair(waits: Callable[[socket.socket], Waits], **more: Any) -> tuple[SocketStream, SocketStream]:
    """A stream that waits in the given way, and its peer."""
    near, far = connect()
    return over(near, waits, **more), SocketStream(far)


@contextmanager
def signals(handler: Callable[[], object], *, when: Callable[[], bool], often: bool = False) -> Iterator[list[int]]:
    """Run ``handler`` in this thread, the main one, as soon as ``when`` holds: once, or ``often``.

    ``when`` is asked by another thread. The list that is given grows with every signal handled.
    """
    heard: list[int] = []
    main, enough = threading.get_ident(), threading.Event()

    def handle(number: int, frame: object) -> None:
        heard.append(number)
        handler()

    def send() -> None:
        while not enough.wait(0.001):
            if when():
                signal.pthread_kill(main, signal.SIGUSR1)
                if not often:
                    return
                enough.wait(0.005)

    before = signal.signal(signal.SIGUSR1, handle)
    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    try:
        yield heard
    finally:
        enough.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)
