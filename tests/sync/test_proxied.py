"""PROXY headers on connections: believed from trusted proxies only, read to the byte, before TLS."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
from tls_support import BOTH_VERSIONS, HOST, client_context, server_context

from landline import ProxyHeader, SocketAddress, SocketStream, open_tcp_stream, start_up_server
from landline.engine.proxy import build_proxy_header
from landline.sync.proxied import TrustedProxies
from landline.testing.contract.stage import PATIENCE, until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

CLIENT, SITE = SocketAddress("192.0.2.7", 4711), SocketAddress("198.51.100.1", 443)
TOLD = ProxyHeader(CLIENT, SITE, 2, ((2, b"site.example"),))


def tell(stream: SocketStream) -> None:
    """Says who the stream takes the client for, and the line that it got."""
    line = stream.readline()
    stream.write(f"{stream.peer_address} {stream.local_address} ".encode() + line)


def test_both_ends_are_those_that_the_proxy_tells() -> None:
    seen: list[ProxyHeader | None] = []

    def handler(stream: SocketStream) -> None:
        seen.append(stream.proxy_header)
        tell(stream)

    with start_up_server(handler, proxy_protocol=["127.0.0.0/8"]) as server:
        for header in (TOLD, ProxyHeader(CLIENT, SITE, 1)):
            with open_tcp_stream("127.0.0.1", server.port, proxy_protocol=header, read_timeout=PATIENCE) as stream:
                stream.write(b"hello\n")
                assert stream.readline() == f"{CLIENT} {SITE} hello\n".encode()
                assert stream.bytes_sent == 6, "the header is no payload"
    assert seen == [TOLD, ProxyHeader(CLIENT, SITE, 1)]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_version_tells_this_end_and_the_server(version: Any) -> None:
    with (
        start_up_server(tell, proxy_protocol=["127.0.0.1"]) as server,
        open_tcp_stream("127.0.0.1", server.port, proxy_protocol=version, read_timeout=PATIENCE) as stream,
    ):
        stream.write(b"\n")
        assert stream.readline() == f"{stream.local_address} {stream.peer_address} \n".encode()


def test_a_proxys_own_connection_keeps_its_addresses() -> None:
    with (
        start_up_server(tell, proxy_protocol=["127.0.0.1"]) as server,
        open_tcp_stream("127.0.0.1", server.port, proxy_protocol=ProxyHeader(), read_timeout=PATIENCE) as stream,
    ):
        stream.write(b"\n")
        assert stream.readline() == f"{stream.local_address} {stream.peer_address} \n".encode()


def test_others_are_not_believed() -> None:
    """A header of a client that is no trusted proxy is data like any other."""
    with (
        start_up_server(tell, proxy_protocol=["192.0.2.0/24", "2001:db8::/32"]) as server,
        open_tcp_stream("127.0.0.1", server.port, proxy_protocol="v1", read_timeout=PATIENCE) as stream,
    ):
        assert stream.readline().startswith(f"{stream.local_address} {stream.peer_address} PROXY TCP4".encode())


@pytest.mark.parametrize("start", [b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01" + bytes(20), b"PROXY " + b"x" * 200])
def test_a_trusted_proxy_without_a_header_is_refused_and_logged(start: bytes, caplog: pytest.LogCaptureFixture) -> None:
    called: list[object] = []
    with start_up_server(called.append, proxy_protocol=["127.0.0.1"]) as server:
        with open_tcp_stream("127.0.0.1", server.port, read_timeout=PATIENCE) as stream:
            stream.write(start)
            assert stream.read() == b""
        until(lambda: caplog.records)
        assert "sent no PROXY header" in caplog.records[0].getMessage()
        assert str(stream.local_address) in caplog.records[0].getMessage()
    assert not called


def test_a_silent_proxy_has_its_time_limit(caplog: pytest.LogCaptureFixture) -> None:
    called: list[object] = []
    with start_up_server(called.append, proxy_protocol=["127.0.0.1"], handshake_timeout=0.05) as server:
        with open_tcp_stream("127.0.0.1", server.port, read_timeout=PATIENCE) as stream:
            stream.write(b"PROXY TCP4 ")
            assert stream.read() == b""
        until(lambda: caplog.records)
    assert not called


@pytest.mark.parametrize("end", range(0, 50, 7))
def test_a_header_may_come_in_pieces(end: int) -> None:
    data = build_proxy_header(TOLD) + b"line\n"
    with (
        start_up_server(tell, proxy_protocol=["127.0.0.1"]) as server,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock,
    ):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in (data[:end], data[end:]):
            sock.sendall(piece)
        assert sock.makefile("rb").readline() == f"{CLIENT} {SITE} line\n".encode()


@BOTH_VERSIONS
def test_tls_begins_behind_the_header_also_in_the_same_packet(version: ssl.TLSVersion) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(version).wrap_bio(incoming, outgoing, server_hostname=HOST)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with (
        start_up_server(tell, proxy_protocol=["127.0.0.1"], ssl_ctx=server_context(version)) as server,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock,
    ):
        sock.sendall(build_proxy_header(TOLD) + outgoing.read())
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
        client.write(b"secret\n")
        sock.sendall(outgoing.read())
        answer = b""
        while not answer.endswith(b"\n"):
            incoming.write(sock.recv(65536))
            try:
                answer += client.read(65536)
            except ssl.SSLWantReadError:
                continue
        assert answer == f"{CLIENT} {SITE} secret\n".encode()


def test_our_client_sends_it_before_tls() -> None:
    with (
        start_up_server(tell, proxy_protocol=["127.0.0.1"], ssl_ctx=server_context()) as server,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock,
    ):
        sock.sendall(build_proxy_header(TOLD))
        with SocketStream(sock, read_timeout=PATIENCE) as stream:
            stream.start_tls(client_context(), host=HOST)
            stream.write(b"x\n")
            assert stream.readline() == f"{CLIENT} {SITE} x\n".encode()


@pytest.mark.parametrize("wrong", ["127.0.0.1", True, ["nobody"], ["10.0.0.1/8"], 7])
def test_wrong_networks_are_refused(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="proxy_protocol="):
        start_up_server(tell, proxy_protocol=wrong)


@pytest.mark.parametrize("wrong", ["v3", True, 1, ProxyHeader("/a", "/b", 1)])
def test_a_wrong_header_is_refused_before_anything_is_opened(wrong: Any) -> None:
    with pytest.raises(ValueError, match="not allowed"):
        open_tcp_stream("127.0.0.1", 1, proxy_protocol=wrong)


def test_trust_is_by_network_and_zones_do_not_matter() -> None:
    trusted = TrustedProxies(["10.0.0.0/8", "fe80::/64"])
    assert SocketAddress("10.1.2.3", 1) in trusted
    assert SocketAddress("fe80::1%eth0", 1) in trusted
    assert SocketAddress("11.0.0.1", 1) not in trusted
    assert SocketAddress("2001:db8::1", 1) not in trusted
    assert None in trusted, "clients of a Unix socket"
