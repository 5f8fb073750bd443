"""PROXY headers of our clients, as HAProxy and nginx read them: both tell whom they take the client for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from certificates import matrix  # noqa: F401 - the fixture `certificates`
from proxy_daemons import V4, V6, Proxy, haproxy, need_ipv6, nginx, speaking
from tls_daemons import (
    BOTH_VERSIONS,
    HOST,
    Parties,
    parties_fixture,  # noqa: F401 - the fixture `parties`
)

from landline import ProxyHeader, SocketAddress, SocketStream, SslCondition, open_tcp_stream, start_up_server
from landline.testing.contract.stage import PATIENCE, expect, until

pytestmark = pytest.mark.usefixtures("no_leaks", "quick_leak_checks")

HAPROXY = """
frontend plain
    mode http
    bind 127.0.0.1:<v4> accept-proxy
    bind [::1]:<v6> accept-proxy
    bind 127.0.0.1:<tls> accept-proxy ssl crt <both>
    http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[dst_port]"\
 hdr authority "%[fc_pp_authority]"
listen onward
    bind 127.0.0.1:<onward> accept-proxy
    server ours <ours> send-proxy-v2
"""

NGINX = """
server {
    listen 127.0.0.1:<v4> proxy_protocol;
    listen [::1]:<v6> proxy_protocol;
    listen 127.0.0.1:<tls> ssl proxy_protocol;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate <certificate>;
    ssl_certificate_key <key>;
    return 200 "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port";
}
"""

FRONTS = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.peer(name)) for name in ("haproxy", "nginx")]
)
BOTH_HEADERS = pytest.mark.parametrize("header", ["v1", "v2"])

CLIENT4, SITE4 = SocketAddress("192.0.2.7", 4711), SocketAddress("198.51.100.1", 443)
CLIENT6, SITE6 = SocketAddress("2001:db8::7", 4711), SocketAddress("2001:db8:1::", 443)


@pytest.fixture
def front(name: str, parties: Parties, tmp_path: Path) -> Iterator[Proxy]:
    """A server that tells the addresses that it was told."""
    identity = parties.server
    if name == "nginx":
        with nginx(tmp_path, NGINX, certificate=identity.cert_file, key=identity.key_file) as proxy:
            yield proxy
    else:
        with (
            start_up_server(whereabouts, proxy_protocol=[V4]) as server,
            haproxy(tmp_path, HAPROXY, both=identity.both_file, ours=server.addresses[0]) as proxy,
        ):
            yield proxy


def whereabouts(stream: SocketStream) -> None:
    stream.write(f"{stream.peer_address} {stream.local_address}\n".encode())


def opened(port: int, header: Any, host: str = V4, **more: Any) -> SocketStream:
    stream: SocketStream = open_tcp_stream(
        host, port, proxy_protocol=header, timeout=PATIENCE, read_timeout=PATIENCE, **more
    )
    return stream


def told(stream: SocketStream) -> tuple[list[str], bytes]:
    """The addresses and ports in the answer, and the host name that the header told of, if any."""
    stream.write(b"GET / HTTP/1.0\r\n\r\n")
    head, _, body = stream.read().partition(b"\r\n\r\n")
    assert head.split()[1] == b"200"
    return body.decode().split(), head.partition(b"authority: ")[2].split(b"\r\n")[0]


def words(source: SocketAddress | None, destination: SocketAddress | None) -> list[str]:
    assert source is not None
    assert destination is not None
    return [source.host, str(source.port), destination.host, str(destination.port)]


@FRONTS
@BOTH_HEADERS
@pytest.mark.parametrize("host", [V4, V6])
def test_a_version_tells_our_end_and_theirs(name: str, header: str, host: str, front: Proxy) -> None:
    need_ipv6()
    with opened(front["v6" if host == V6 else "v4"], header, host) as stream:
        assert told(stream)[0] == words(stream.local_address, stream.peer_address)


@FRONTS
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("client", "site"), [(CLIENT4, SITE4), (CLIENT6, SITE6)], ids=["IPv4", "IPv6"])
def test_a_header_tells_what_it_holds(
    name: str, version: Literal[1, 2], client: SocketAddress, site: SocketAddress, front: Proxy
) -> None:
    """Whatever the family of the connection is. Facts beside the addresses do not hide these."""
    facts = ((2, b"site.example"), (4, bytes(300))) if version == 2 else ()
    with opened(front["v4"], ProxyHeader(client, site, version, facts)) as stream:
        addresses, authority = told(stream)
    assert addresses == words(client, site)
    if name == "haproxy":
        assert authority == (b"site.example" if version == 2 else b"")


@FRONTS
@pytest.mark.parametrize("version", [1, 2])
def test_a_header_that_tells_of_nobody_is_taken(name: str, version: Literal[1, 2], front: Proxy) -> None:
    """UNKNOWN in version 1, LOCAL in 2: HAProxy keeps the connection's own addresses, nginx has none to tell."""
    with opened(front["v4"], ProxyHeader(version=version)) as stream:
        own = words(stream.local_address, stream.peer_address) if name == "haproxy" else []
        assert told(stream)[0] == own


@FRONTS
@BOTH_HEADERS
@BOTH_VERSIONS
def test_tls_begins_behind_the_header(name: str, header: str, version: str, parties: Parties, front: Proxy) -> None:
    context = parties.client_context(openssl_ctx_configure_callback=speaking(version))
    with opened(front["tls"], header, HOST, ipv6=False, ssl_ctx=context) as stream:
        assert stream.tls is not None
        assert stream.tls.version == f"TLSv{version}"
        assert told(stream)[0] == words(stream.local_address, stream.peer_address)


@FRONTS
def test_without_a_header_there_is_no_conversation(name: str, parties: Parties, front: Proxy) -> None:
    """(So the header is what the others owe their answers to.)"""
    with expect(SslCondition):
        opened(front["tls"], None, HOST, ipv6=False, ssl_ctx=parties.client_context())
    if name == "nginx":
        until(lambda: "broken header" in "".join(front.complaints()))


@pytest.mark.parametrize("name", ["haproxy"])
@pytest.mark.peer("haproxy")
@pytest.mark.parametrize("header", ["v1", "v2", ProxyHeader(CLIENT4, SITE4, 1), ProxyHeader(CLIENT6, SITE6, 2)])
def test_what_is_told_goes_all_the_way_to_a_server_of_ours(header: Any, front: Proxy) -> None:
    with opened(front["onward"], header) as stream:
        ends = header if isinstance(header, ProxyHeader) else ProxyHeader(stream.local_address, stream.peer_address)
        assert stream.readline() == f"{ends.source} {ends.destination}\n".encode()
