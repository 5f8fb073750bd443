"""PROXY headers on connections: read by a server from proxies that it trusts, sent by a client that is one.

A server reads exactly the header: what comes behind it in the same packet stays in the stream, for the handler or
for TLS. A connection from anybody else is taken as it is, header or not, so that nobody can claim to be another.

Source: the PROXY protocol (HAProxy, proxy-protocol.txt), sections 2 and 4.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from ..address import SocketAddress
from ..engine.proxy import LONGEST_LINE, SHORTEST, ProxyHeader, build_proxy_header, head_size, parse_proxy_header
from ..errors import IncompleteRead, LimitOverrun, SocketIOError

if TYPE_CHECKING:
    from .stream import SocketStream
    from .transport import Transport

__all__ = ["Network", "ProxySpec", "TrustedProxies", "header_to_send", "read_header", "send_header"]

Network = str | ipaddress.IPv4Network | ipaddress.IPv6Network | ipaddress.IPv4Address | ipaddress.IPv6Address
ProxySpec = Literal["v1", "v2"] | ProxyHeader | None


class TrustedProxies:
    """Networks whose PROXY headers are believed. Clients of Unix sockets are trusted: the file's rights decide.

    Raises:
        TypeError, ValueError: not networks.
    """

    def __init__(self, networks: Iterable[Network]) -> None:
        if isinstance(networks, (str, bytes, bool)) or not isinstance(networks, Iterable):
            raise TypeError(
                f"proxy_protocol={networks!r} is not allowed: it must be a list of the networks to trust, such as "
                "['127.0.0.1', '10.0.0.0/8']"
            )
        self._networks = []
        for one in networks:
            try:
                self._networks.append(ipaddress.ip_network(one))
            except ValueError as error:
                raise ValueError(f"proxy_protocol={one!r} is not allowed: {error}") from None

    def __contains__(self, peer: SocketAddress | None) -> bool:
        if peer is None:
            return True
        address = ipaddress.ip_address(peer.host.partition("%")[0])
        return any(address in network for network in self._networks if network.version == address.version)


def read_header(stream: SocketStream) -> ProxyHeader:
    """Read the header that ``stream`` begins with, and no byte more. The stream's clocks bound it.

    Raises:
        SocketIOError: there is none, or it breaks the protocol.
        IncompleteRead, ReadTimeout: it did not come whole.
    """
    try:
        data = stream.read_exactly(SHORTEST)
        while (size := head_size(data)) is not None and len(data) < size:
            data += stream.read_exactly(size - len(data))
        if size is None and not data.endswith(b"\n"):
            data += stream.read_until(b"\n", LONGEST_LINE - len(data))
        return parse_proxy_header(data)
    except (ValueError, LimitOverrun) as error:
        if isinstance(error, SocketIOError) and not isinstance(error, LimitOverrun):
            raise
        what = str(error)
    except IncompleteRead as error:
        what = str(error)
    raise SocketIOError(
        f"{stream.peer_address or 'the proxy'} sent no PROXY header: {what}",
        operation="proxy",
        address=stream.peer_address,
    )


def send_header(proxy_protocol: ProxySpec, transport: Transport, own: SocketAddress, peer: SocketAddress) -> None:
    """Begin a fresh connection with its header. Raises SocketIOError."""
    header = header_to_send(proxy_protocol, own, peer)
    try:
        sent = transport.send(header, 0)
    except OSError as error:
        raise _unsent(peer, error.strerror or str(error)) from error
    if sent != len(header):
        raise _unsent(peer, "the socket took only a part of it")


def _unsent(peer: SocketAddress, why: str) -> SocketIOError:
    return SocketIOError(f"{peer} was not sent its PROXY header: {why}", operation="proxy", address=peer)


def header_to_send(proxy_protocol: ProxySpec, own: SocketAddress, peer: SocketAddress) -> bytes:
    """The header that a client begins with. Raises ValueError, TypeError."""
    if isinstance(proxy_protocol, ProxyHeader):
        return build_proxy_header(proxy_protocol)
    if proxy_protocol not in ("v1", "v2"):
        raise ValueError(f"proxy_protocol={proxy_protocol!r} is not allowed: it must be 'v1', 'v2' or a ProxyHeader")
    return build_proxy_header(ProxyHeader(own, peer, 1 if proxy_protocol == "v1" else 2))
