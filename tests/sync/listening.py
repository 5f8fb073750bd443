"""For tests of listening: a handler that tells who is connected to what, and whether somebody listens somewhere."""

from __future__ import annotations

import errno
import socket
import sys

import pytest
from opening import bound

from landline import Server, SocketAddress, SocketStream, open_tcp_stream
from landline.testing.contract.stage import PATIENCE

V4, V6 = "127.0.0.1", "::1"
ANY4, ANY6 = "0.0.0.0", "::"

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads what only Linux tells")


@pytest.fixture(name="has_ipv6")
def has_ipv6_fixture() -> None:
    bound(V6).close()  # lacking, where there is none


def whereabouts(stream: SocketStream) -> None:
    """Says who is connected to what."""
    stream.write(f"{stream.peer_address} {stream.local_address}\n".encode())


def serves(server: Server, host: str) -> bool:
    """Whether a client of this address is, and the server sees it as what it is."""
    with open_tcp_stream(host, server.port, read_timeout=PATIENCE) as client:
        return client.readline() == f"{client.local_address} {client.peer_address}\n".encode()


def refuses(host: str, port: int) -> bool:
    address = SocketAddress(host, port)
    with socket.socket(address.family) as sock:
        return sock.connect_ex(address.sockaddr()) == errno.ECONNREFUSED


def hosts(server: Server) -> list[str]:
    """The addresses it listens at; the port is one."""
    assert {address.port for address in server.addresses} == {server.port}
    return [address.host for address in server.addresses]
