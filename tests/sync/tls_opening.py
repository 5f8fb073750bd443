"""For tests of opening TLS: servers that do their part, and peers that do it badly, slowly, or not at all.

A peer is a function of one connected socket. `peer(...)` gives it the connections of a listener on the loopback
interface, one after the other, in a thread; what goes wrong in it fails the test. `carrying(...)` makes a peer that
speaks TLS out of memory, so that a test decides about every byte of the server's.
"""

from __future__ import annotations

import functools
import logging
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from opening import Listener, Resolver
from tls_support import HOST, authority, client_context, new_client, new_server, of_version, taken

from landline import (
    Server,
    SocketStream,
    SslAbstractContext,
    SslCondition,
    TlsInfo,
    create_ssl_client_context,
    open_tcp_stream,
)
from landline.engine.session import SessionFailed
from landline.testing.contract.stage import PATIENCE, Task, until

LOOPBACK = "127.0.0.1"
OTHER, WRONG = "other.example", "wrong.example"
NAMES = (HOST, OTHER)
"""What the certificate of `serving()` is for, beside the loopback addresses; all lead there (`names`), WRONG too."""

Peer: TypeAlias = Callable[[socket.socket], object]
Carry: TypeAlias = Callable[[socket.socket, bytes], bool]


# ---- who trusts whom -------------------------------------------------------------------------------------


@functools.cache
def identity() -> Any:
    return authority().issue_cert(LOOPBACK, "::1", *NAMES)


def own_der() -> bytes:
    return ssl.PEM_cert_to_DER_cert(identity().cert_chain_pems[0].bytes().decode())


def serving(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """The standard library's context of a server for all of NAMES."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    identity().configure_cert(context)
    return of_version(context, version)


@pytest.fixture(scope="session", name="trusted_file")
def trusted_file_fixture(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The authority that the tests' certificates are from."""
    path = tmp_path_factory.mktemp("trust") / "authority.pem"
    authority().cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(scope="session", name="identity_file")
def identity_file_fixture(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The certificate of `serving()`, with its key."""
    path = tmp_path_factory.mktemp("identity") / "both.pem"
    identity().private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(name="system_trust")
def system_trust_fixture(trusted_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system trusts the tests' authority, and nobody else."""
    monkeypatch.setenv("SSL_CERT_FILE", trusted_file)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))


@pytest.fixture(name="names")
def names_fixture(resolver: Resolver) -> Resolver:
    for name in (*NAMES, WRONG):
        resolver.say(name, [LOOPBACK])
    return resolver


@pytest.fixture(name="trusting")
def trusting_fixture(trusted_file: str) -> SslAbstractContext:
    return create_ssl_client_context(openssl_trusted_file=trusted_file)


def identity_for(name: str, folder: Path) -> str:
    path = folder / f"{name}.pem"
    authority().issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


# ---- opening ---------------------------------------------------------------------------------------------


def to(listener: Listener, ssl_ctx: Any, host: str = LOOPBACK, **more: Any) -> SocketStream:
    stream: SocketStream = open_tcp_stream(host, listener.port, ssl_ctx=ssl_ctx, **more)
    return stream


def tls_of(stream: SocketStream) -> TlsInfo:
    """What `stream.tls` is after a line has gone there and back, and TLS 1.3's tickets with it."""
    stream.write(b"hello\n")
    assert stream.readline() == b"hello\n"
    assert stream.tls is not None
    return stream.tls


# ---- peers -----------------------------------------------------------------------------------------------


@contextmanager
def peer(*behaviours: Peer, host: str = LOOPBACK) -> Iterator[Listener]:
    """A listener whose first connection gets the first behaviour, and so on; each socket is closed after it."""
    with Listener(host) as listener:

        def serve() -> None:
            for behave in behaviours:
                sock, _ = listener.accept()
                with sock:
                    behave(sock)

        task = Task(serve)
        try:
            yield listener
        except BaseException:
            with suppress(OSError):
                listener.sock.shutdown(socket.SHUT_RDWR)  # it may wait for a client that does not come any more
            raise
        task.result()


def shaking(context: ssl.SSLContext, then: Callable[[SocketStream], object] = SocketStream.read) -> Peer:
    """Shake hands as a server, then (as a rule) read to the end."""

    def behave(sock: socket.socket) -> None:
        with SocketStream(sock) as stream:
            stream.start_tls(context, ssl_side="server")
            then(stream)

    return behave


def echoing(context: ssl.SSLContext | None = None) -> Peer:
    """Shake hands as a server, and give one line back."""

    def echo(stream: SocketStream) -> None:
        stream.write(stream.readline())
        stream.read()

    return shaking(context or serving(), echo)


def refused(context: ssl.SSLContext) -> Peer:
    """Shake hands as a server, with a client that will have none of it."""

    def behave(sock: socket.socket) -> None:
        with suppress(SslCondition):
            shaking(context)(sock)

    return behave


def carrying(context: ssl.SSLContext, carry: Carry) -> Peer:
    """Shake hands as a server; ``carry`` gets all that is to be sent, sends what it likes, says whether to go on."""

    def behave(sock: socket.socket) -> None:
        session = new_server(context)
        with suppress(SessionFailed):
            while not session.handshake():
                if not carry(sock, taken(session)) or not (received := hear(sock)):
                    return
                session.feed(received)
            if carry(sock, taken(session)):
                finish(sock)

    return behave


def says(*words: bytes) -> Peer:
    """Hear the ClientHello, say something, and end."""

    def behave(sock: socket.socket) -> None:
        hear(sock)
        for word in words:
            sock.sendall(word)
        finish(sock)

    return behave


def silent(sock: socket.socket) -> None:
    """Take everything, say nothing."""
    while hear(sock):
        pass


def finish(sock: socket.socket) -> None:
    """End with FIN: a socket closed with unread data would reset."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        silent(sock)


def reset(sock: socket.socket) -> None:
    """End with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def hear(sock: socket.socket) -> bytes:
    """What came; b"" at any end."""
    try:
        return sock.recv(65536)
    except ConnectionError:
        return b""


# ---- handshakes, cut and slow ----------------------------------------------------------------------------


class Cut:
    """Carries so many whole records, then so many bytes of the next, and ends the connection."""

    def __init__(self, whole: int, size: int, end: Peer) -> None:
        self._whole, self._size, self._end = whole, size, end

    def __call__(self, sock: socket.socket, data: bytes) -> bool:
        for record in records(data):
            if self._whole == 0:
                sock.sendall(record[: self._size])
                self._end(sock)
                return False
            sock.sendall(record)
            self._whole -= 1
        return True


def every_cut(version: ssl.TLSVersion, every: int = 50) -> list[tuple[int, int]]:
    """Where what a server sends in a handshake can be cut: before each record, inside each, before its last byte."""
    client, server = new_client(client_context(version)), new_server(serving(version))
    sent = b""
    while not client.handshake():
        server.feed(taken(client))
        server.handshake()
        data = taken(server)
        client.feed(data)
        sent += data
    return [
        (number, size)
        for number, record in enumerate(records(sent))
        for size in (*range(0, len(record), every), len(record) - 1)
    ]


def records(data: bytes) -> Iterator[bytes]:
    """The records of TLS that ``data`` is made of."""
    while data:
        size = 5 + int.from_bytes(data[3:5], "big")
        yield data[:size]
        data = data[size:]


class Drip:
    """Carries one byte at a time, with a pause before each."""

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self.count = 0

    def __call__(self, sock: socket.socket, data: bytes) -> bool:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        never = threading.Event()
        try:
            for number in range(len(data)):
                never.wait(self._pause)
                sock.sendall(data[number : number + 1])
                self.count += 1
        except ConnectionError:
            return False
        return True


# ---- servers under test ----------------------------------------------------------------------------------


class Handler:
    """Gives lines back; keeps what it knows of each of its clients."""

    def __init__(self) -> None:
        self.seen: list[TlsInfo | None] = []

    def __call__(self, stream: SocketStream) -> None:
        self.seen.append(stream.tls)
        for line in stream:
            stream.write(line)
            stream.flush()


@pytest.fixture(name="handler")
def handler_fixture() -> Handler:
    return Handler()


def open_to(server: Server, ssl_ctx: Any, host: str = LOOPBACK, **more: Any) -> SocketStream:
    stream: SocketStream = open_tcp_stream(host, server.port, ssl_ctx=ssl_ctx, read_timeout=PATIENCE, **more)
    return stream


def is_served(server: Server, context: Any = None, host: str = LOOPBACK) -> bool:
    """A good client is, whatever others have done."""
    with open_to(server, context or client_context(), host) as stream:
        return tls_of(stream).verify().ok


class Log:
    """What the server has logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "landline.server")
        self._caplog = caplog

    def lines(self) -> list[str]:
        return [record.getMessage() for record in self._caplog.records]

    def warning(self, count: int = 1, level: str = "WARNING") -> str:
        """Of so many lines the last; each a warning, in one line, about a handshake."""
        until(lambda: len(self._caplog.records) >= count)
        assert len(self._caplog.records) == count
        for record in self._caplog.records:
            assert (record.levelname, record.exc_info or None) == (level, None), record.getMessage()
            assert record.getMessage().isprintable()
        return self.lines()[-1]


@pytest.fixture(name="log")
def log_fixture(caplog: pytest.LogCaptureFixture) -> Log:
    return Log(caplog)
