"""Servers that systemd starts when the first client comes, on the sockets that it has opened."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from children import Child, command, running
from conftest import need
from daemons import free_port
from proxy_daemons import V4, V6, need_ipv6
from served import REST, serve_activated

from landline import SocketStream, open_tcp_stream, open_unix_stream
from landline.testing.contract.stage import PATIENCE, until

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.peer("systemd-socket-activate"),
    pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's"),
]

SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@contextlib.contextmanager
def activated(*sockets: str, names: str) -> Iterator[Child]:
    """systemd's program, which listens there and becomes serve_activated() with the first client."""
    listening = [f"--listen={one}" for one in sockets]
    words = [need("systemd-socket-activate"), *listening, f"--fdname={names}", *command(serve_activated)]
    with running(words) as started:
        yield started


def first_client(port: int) -> SocketStream:
    """Connects as soon as somebody listens."""
    made: list[SocketStream] = []

    def connected() -> bool:
        with contextlib.suppress(ConnectionRefusedError):
            made.append(opened(port))
        return bool(made)

    until(connected)
    return made[0]


def opened(port: int, host: str = V4) -> SocketStream:
    return open_tcp_stream(host, port, timeout=PATIENCE, read_timeout=PATIENCE)


def who(stream: SocketStream) -> list[str]:
    """The client's address as the server knows it, its own, and the number of its process."""
    with stream:
        stream.write(b"who\n")
        return stream.readline().decode().split()


def test_sockets_of_both_kinds_are_served_under_their_names(tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "control"
    with activated(f"{V4}:{port}", str(path), names="web:control") as started:
        first = first_client(port)
        assert started.said() == ["web=AF_INET", "control=AF_UNIX"]
        pid = str(started.process.pid)
        assert who(first) == [str(first.local_address), str(first.peer_address), pid]
        for _ in range(3):
            assert who(open_unix_stream(path, read_timeout=PATIENCE)) == ["None", "None", pid]
            assert who(client := opened(port)) == [str(client.local_address), str(client.peer_address), pid]
        started.signal(signal.SIGTERM)
        assert started.wait() == 0
    assert path.is_socket(), "it is systemd's, which goes on listening there"


def test_a_unix_client_may_be_the_first(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with activated(str(path), f"@{path}", names="file:abstract") as started:
        until(lambda: connects(path))
        assert started.said() == ["file=AF_UNIX", "abstract=AF_UNIX"]
        for name in (str(path), f"\0{path}"):
            assert who(open_unix_stream(name, read_timeout=PATIENCE))[2] == str(started.process.pid)


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


def test_clients_of_both_families_are_known_at_one_socket() -> None:
    """A port without an address is a socket of both: IPv4 clients have addresses of their own kind nevertheless."""
    need_ipv6()
    port = free_port()
    with activated(str(port), names="web") as started:
        first_client(port).close()
        assert started.said() == ["web=AF_INET6"]
        for host in (V4, V6, V4):
            client = opened(port, host)
            assert str(client.local_address).startswith("127.0.0.1:" if host == V4 else "[::1]:")
            assert who(client)[:2] == [str(client.local_address), str(client.peer_address)]


@SIGNALS
def test_a_signal_ends_it_when_the_request_under_way_was_answered(number: signal.Signals) -> None:
    """serve_forever(drain=...): it listens no longer, answers to the end, and leaves with status 0."""
    port = free_port()
    with activated(f"{V4}:{port}", names="web") as started, first_client(port) as client:
        client.write(b"work\n")
        client.flush()
        assert started.said() == ["web=AF_INET"]
        assert started.said() == ["working"]
        started.signal(number)
        until(lambda: refuses(port))
        assert started.process.poll() is None
        client.write(b"go on\n")
        assert client.read() == REST
        assert started.wait() == 0


def refuses(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((V4, port)) != 0
