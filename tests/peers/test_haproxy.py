"""HAProxy in front of our servers: they know the client behind it, by either version of the PROXY header."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
from certificates import matrix  # noqa: F401 - the fixture `certificates`
from proxy_daemons import V4, V6, curl, fetched, haproxy, need_ipv6, wrk
from served import PAGES, Asked, pages
from tls_daemons import (
    BOTH_VERSIONS,
    HOST,
    Parties,
    parties_fixture,  # noqa: F401 - the fixture `parties`
)

from landline import ProxyHeader, SocketAddress, SocketStream, start_up_server, start_up_unix_server
from landline.testing.contract.stage import PATIENCE, Task, until

pytestmark = [
    pytest.mark.usefixtures("no_leaks", "quick_leak_checks"),
    pytest.mark.peer("haproxy"),
]

TRUSTED = [V4, V6]

VERSIONS: dict[str, Literal[1, 2]] = {"send-proxy": 1, "send-proxy-v2": 2}
"""The version of the header that HAProxy sends when it is told so."""

BOTH_HEADERS = pytest.mark.parametrize("sends", list(VERSIONS))

FORWARDS = """
listen front
    bind 127.0.0.1:<v4>
    %s
    server ours <ours> <sends>
"""

ALSO_IPV6 = "bind [::1]:<v6>"

WAITS_FOR_TLS = """
    tcp-request inspect-delay 20s
    tcp-request content accept if { req.ssl_hello_type 1 }
"""
"""HAProxy connects to our server when it has the client's first message: that goes out with the header."""

TERMINATES = """
listen front
    bind 127.0.0.1:<v4> ssl crt <certificate> ca-file <trusted> verify optional alpn http/1.1
    server ours <ours> send-proxy-v2-ssl-cn proxy-v2-options <facts>
"""

CHECKS = """
frontend state
    bind 127.0.0.1:<state>
    mode http
    monitor-uri /
    monitor fail if { nbsrv(ours) lt 1 }
frontend front
    bind 127.0.0.1:<v4>
    default_backend ours
backend ours
    %s
    server ours <ours> <sends> check inter 20ms fastinter 20ms downinter 20ms rise 1 fall 1
"""

ALPN, AUTHORITY, CRC32C, SSL = 0x01, 0x02, 0x03, 0x20
SSL_VERSION, SSL_COMMON_NAME = 0x21, 0x22
"""Types of facts in a header of version 2 (proxy-protocol.txt, 2.2.1 and 2.2.6)."""


class Witness:
    """A handler that tells a client its line, and who the client and the server are; it remembers the headers."""

    def __init__(self) -> None:
        self.headers: list[ProxyHeader | None] = []

    def __call__(self, stream: SocketStream) -> None:
        self.headers.append(stream.proxy_header)
        line = stream.readline()
        stream.write(f"{stream.peer_address} {stream.local_address} ".encode() + line)


def told(port: int, line: bytes, host: str = V4) -> tuple[SocketAddress, SocketAddress, bytes]:
    """A client's own address, that it has connected to, and what it is told for its line."""
    with socket.create_connection((host, port), PATIENCE) as sock:
        sock.sendall(line)
        with sock.makefile("rb") as file:
            answer = file.read()
        ends = SocketAddress.from_sockaddr(sock.getsockname()), SocketAddress.from_sockaddr(sock.getpeername())
        return *ends, answer


# ---- who the client is ---------------------------------------------------------------------------------


@BOTH_HEADERS
@pytest.mark.parametrize("ours", [V4, V6])
def test_clients_of_both_families_are_known(sends: str, ours: str, tmp_path: Path) -> None:
    """Whatever the family is between HAProxy and us."""
    need_ipv6()
    with (
        start_up_server(witness := Witness(), proxy_protocol=TRUSTED, local_address=ours) as server,
        haproxy(tmp_path, FORWARDS % ALSO_IPV6, ours=server.addresses[0], sends=sends) as front,
    ):
        headers = []
        for host, port in ((V4, front["v4"]), (V6, front["v6"]), (V4, front["v4"])):
            own, peer, answer = told(port, b"hello\n", host)
            assert (own.host, peer.host) == (host, host)
            assert answer == f"{own} {peer} hello\n".encode()
            headers.append(ProxyHeader(own, peer, VERSIONS[sends]))
        assert witness.headers == headers


def test_a_client_is_known_behind_a_unix_socket(tmp_path: Path) -> None:
    """Who may connect to it is trusted."""
    with (
        start_up_unix_server(Witness(), tmp_path / "s", proxy_protocol=[]),
        haproxy(tmp_path, FORWARDS % "", ours=f"unix@{tmp_path}/s", sends="send-proxy-v2") as front,
    ):
        own, peer, answer = told(front["v4"], b"hello\n")
        assert answer == f"{own} {peer} hello\n".encode()


@BOTH_HEADERS
@pytest.mark.parametrize("trusted", [[], ["192.0.2.0/24", "::1"]])
def test_a_proxy_that_is_not_trusted_tells_nothing(sends: str, trusted: list[str], tmp_path: Path) -> None:
    """Its header is what its client might have written: data."""
    with (
        start_up_server(witness := Witness(), proxy_protocol=trusted) as server,
        haproxy(tmp_path, FORWARDS % "", ours=server.addresses[0], sends=sends) as front,
    ):
        own, peer, answer = told(front["v4"], b"hello\n")
        if VERSIONS[sends] == 1:
            line = f"PROXY TCP4 {own.host} {peer.host} {own.port} {peer.port}\r\n".encode()
        else:
            line = b"\r\n"
        assert answer.endswith(b" " + line)
        assert not answer.startswith(str(own).encode())
        assert answer.split()[1] == str(server.addresses[0]).encode()
        assert witness.headers == [None]


def test_a_trusted_proxy_that_sends_no_header_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        start_up_server(witness := Witness(), proxy_protocol=TRUSTED) as server,
        haproxy(tmp_path, FORWARDS % "", ours=server.addresses[0], sends="") as front,
    ):
        *_, answer = told(front["v4"], b"GET / HTTP/1.0\r\n\r\n")
        assert (answer, witness.headers) == (b"", [])
        until(lambda: caplog.records)
        assert "sent no PROXY header" in caplog.records[0].getMessage()


@pytest.mark.peer("wrk")
def test_load_behind_headers_is_answered_without_an_error(tmp_path: Path) -> None:
    with (
        start_up_server(asked := Asked(), proxy_protocol=TRUSTED) as server,
        haproxy(tmp_path, FORWARDS % "", ours=server.addresses[0], sends="send-proxy-v2") as front,
    ):
        assert wrk(f"http://{V4}:{front['v4']}/small") <= asked.times


# ---- TLS -----------------------------------------------------------------------------------------------


def client(port: int, parties: Parties, *options: object) -> tuple[SocketAddress, bytes]:
    """curl's own address, and what it gets over TLS."""
    ends = "\n%{local_ip} %{local_port}"
    url = f"https://{HOST}:{port}/small"
    body, _, end = fetched(url, "-4", "--cacert", parties.trusted_file, "-w", ends, *options).rpartition(b"\n")
    host, number = end.decode().split()
    return SocketAddress(host, int(number)), body


def of_version(version: str) -> tuple[str, ...]:
    return (f"--tlsv{version}", "--tls-max", version)


@pytest.mark.peer("curl")
@BOTH_HEADERS
@BOTH_VERSIONS
def test_tls_goes_through_haproxy_behind_the_header(sends: str, version: str, parties: Parties, tmp_path: Path) -> None:
    seen: list[tuple[SocketAddress | None, int, str]] = []

    def handler(stream: SocketStream) -> None:
        assert stream.proxy_header is not None
        assert stream.tls is not None
        seen.append((stream.peer_address, stream.proxy_header.version, stream.tls.version))
        pages(stream)

    with (
        start_up_server(handler, proxy_protocol=TRUSTED, ssl_ctx=parties.server_context()) as server,
        haproxy(tmp_path, FORWARDS % "", ours=server.addresses[0], sends=sends) as front,
    ):
        for _ in range(2):
            own, body = client(front["v4"], parties, *of_version(version))
            assert body == PAGES[b"/small"]
            assert seen.pop() == (own, VERSIONS[sends], f"TLSv{version}")


@pytest.mark.peer("curl")
@pytest.mark.skipif(sys.platform != "linux", reason="reads what only Linux tells")
@BOTH_HEADERS
@BOTH_VERSIONS
def test_header_and_client_hello_are_received_in_one_piece(
    sends: str, version: str, parties: Parties, tmp_path: Path
) -> None:
    """Nobody accepts until both have come."""
    asked = Asked()
    listener = socket.create_server((V4, 0))
    address = SocketAddress.from_sockaddr(listener.getsockname())
    with contextlib.closing(listener), haproxy(tmp_path, FORWARDS % WAITS_FOR_TLS, ours=address, sends=sends) as front:
        getting = Task(lambda: client(front["v4"], parties, *of_version(version)))
        until(lambda: waiting_at(address.port) > 200)
        with start_up_server(asked, listener, proxy_protocol=TRUSTED, ssl_ctx=parties.server_context()):
            assert getting.result()[1] == PAGES[b"/small"]
    assert asked.times == 1


def waiting_at(port: int) -> int:
    """Bytes that have come over a connection to this port, and that nobody has received."""
    lines = Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]
    fields = [line.split() for line in lines]
    queues = [queues for _, own, _, state, queues, *_ in fields if own.endswith(f":{port:04X}") and state == "01"]
    return max((int(one.partition(":")[2], 16) for one in queues), default=0)


@pytest.mark.peer("curl")
def test_a_header_that_is_not_believed_is_no_tls(
    parties: Parties, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        start_up_server(asked := Asked(), proxy_protocol=[], ssl_ctx=parties.server_context()) as server,
        haproxy(tmp_path, FORWARDS % "", ours=server.addresses[0], sends="send-proxy") as front,
    ):
        assert curl(f"https://{HOST}:{front['v4']}/", "-4", "--cacert", parties.trusted_file).returncode == 35
        until(lambda: caplog.records)
        assert asked.times == 0
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("WARNING", None)


@pytest.mark.peer("curl")
@BOTH_VERSIONS
@pytest.mark.parametrize("facts", ["authority", "authority,crc32c"])
def test_what_haproxy_knows_of_a_clients_tls_is_told(
    version: str, facts: str, parties: Parties, tmp_path: Path
) -> None:
    """HAProxy ends TLS, and tells what it was like; its checksum is one that we find right."""
    headers: list[ProxyHeader | None] = []

    def handler(stream: SocketStream) -> None:
        headers.append(stream.proxy_header)
        pages(stream)

    files = {"certificate": parties.server.both_file, "trusted": parties.trusted_file}
    with (
        start_up_server(handler, proxy_protocol=TRUSTED) as server,
        haproxy(tmp_path, TERMINATES, ours=server.addresses[0], facts=facts, **files) as front,
    ):
        certificate = ("--cert", parties.ann.cert_file, "--key", parties.ann.key_file)
        for options, name in (((), None), (certificate, b"Ann")):
            own, body = client(front["v4"], parties, *of_version(version), *options)
            assert body == PAGES[b"/small"]
            header = headers.pop()
            assert header is not None
            assert (header.source, header.destination) == (own, SocketAddress(V4, front["v4"]))
            tlvs = dict(header.tlvs)
            assert (tlvs[ALPN], tlvs[AUTHORITY]) == (b"http/1.1", HOST.encode())
            assert (CRC32C in tlvs) is ("crc32c" in facts)
            assert tlvs[SSL][1:5] == bytes(4), "the verdict on the client's certificate"
            inner = dict(facts_in(tlvs[SSL][5:]))
            assert inner[SSL_VERSION] == f"TLSv{version}".encode()
            assert inner.get(SSL_COMMON_NAME) == name


def facts_in(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value, again and again: those inside another fact's value."""
    while data:
        end = 3 + int.from_bytes(data[1:3], "big")
        yield data[0], data[3:end]
        data = data[end:]


# ---- health checks -------------------------------------------------------------------------------------


@contextlib.contextmanager
def not_yet_listening() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((V4, 0))
        yield sock


def is_up(port: int) -> bool:
    """Whether HAProxy takes our server for alive."""
    *_, answer = told(port, b"GET / HTTP/1.0\r\n\r\n")
    status = answer.split()[1]
    assert status in (b"200", b"503")
    return status == b"200"


@BOTH_HEADERS
def test_a_health_check_is_answered_as_haproxys_own_connection(sends: str, tmp_path: Path) -> None:
    """HAProxy calls it LOCAL, in version 2: there is no client behind it. Version 1 tells HAProxy's own address."""
    seen: list[tuple[SocketAddress | None, SocketAddress | None, ProxyHeader | None]] = []

    def handler(stream: SocketStream) -> None:
        seen.append((stream.peer_address, stream.local_address, stream.proxy_header))
        pages(stream)

    with not_yet_listening() as sock:
        ours = SocketAddress.from_sockaddr(sock.getsockname())
        with haproxy(tmp_path, CHECKS % "option httpchk GET /small", ours=ours, sends=sends) as front:
            until(lambda: not is_up(front["state"]))
            sock.listen()
            with start_up_server(handler, sock, proxy_protocol=TRUSTED):
                until(lambda: is_up(front["state"]))
                until(lambda: len(seen) >= 3)
                checks = seen[:3]
                own, peer, answer = told(front["v4"], b"GET /small HTTP/1.0\r\n\r\n")
                assert answer.endswith(PAGES[b"/small"])
                assert (own, peer, ProxyHeader(own, peer, VERSIONS[sends])) in seen
                assert is_up(front["state"])
            until(lambda: not is_up(front["state"]))
    for who, to, header in checks:
        assert who is not None
        assert (who.host, to) == (V4, ours)
        assert header == (ProxyHeader() if VERSIONS[sends] == 2 else ProxyHeader(who, to, 1))


def logged(count: int, caplog: pytest.LogCaptureFixture) -> bool:
    return len(caplog.records) >= count


@pytest.mark.peer("curl")
@BOTH_HEADERS
def test_a_health_check_that_only_connects_does_no_harm(
    sends: str, parties: Parties, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It sends its header and is gone: with TLS no handler hears of it, and clients are served meanwhile."""
    with (
        start_up_server(asked := Asked(), proxy_protocol=TRUSTED, ssl_ctx=parties.server_context()) as server,
        haproxy(tmp_path, CHECKS % "", ours=server.addresses[0], sends=sends) as front,
    ):
        for served in range(1, 6):
            until(partial(logged, 2 * served, caplog))
            assert client(front["v4"], parties)[1] == PAGES[b"/small"]
            assert asked.times == served
            assert is_up(front["state"])
        until(lambda: server.connections == 0)
    assert {(record.levelname, record.exc_info) for record in caplog.records} == {("WARNING", None)}
