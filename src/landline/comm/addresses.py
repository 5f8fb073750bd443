"""Addresses, hosts and services with the manual's own values: IPv4 addresses are integers, IPv6 ones ipaddress values.

Source: LispWorks manual, get-host-entry, get-service-entry, get-socket-address, ip-address-string and their neighbours.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

from .. import address
from ..address import (
    HostSpec,
    ServiceSpec,
    SocketAddress,
    ip_address_string,
    ipv6_address_scope_id,
    parse_ipv6_address,
)
from ..errors import SocketIOError, with_kin
from ..sync import lookup
from ..sync.lookup import HostEntry, ServiceEntry, get_default_local_ipv6_address, get_ip_default_zone_id
from ..sync.stream import SocketStream
from .keywords import checked_fields
from .socket_stream import address_pair

__all__ = [
    "get_default_local_ipv6_address",
    "get_host_entry",
    "get_ip_default_zone_id",
    "get_service_entry",
    "get_socket_address",
    "get_socket_peer_address",
    "ip_address_string",
    "ipv6_address",
    "ipv6_address_p",
    "ipv6_address_scope_id",
    "ipv6_address_string",
    "parse_ipv6_address",
    "socket_connection_address",
    "socket_connection_peer_address",
    "socket_connection_socket",
    "socket_stream_address",
    "socket_stream_peer_address",
    "string_ip_address",
]

Address: TypeAlias = int | ipaddress.IPv6Address

ipv6_address = ipaddress.IPv6Address


def ipv6_address_p(object: object) -> bool:  # noqa: A002 (the manual's name)
    """Whether it is an ipv6_address.

    Source: LispWorks manual, ipv6-address.
    """
    return isinstance(object, ipaddress.IPv6Address)


def ipv6_address_string(address: ipaddress.IPv6Address) -> str:
    """Its text, without scope id.

    Source: LispWorks manual, ipv6-address-string.
    """
    if not ipv6_address_p(address):
        raise TypeError(f"address={address!r} is not allowed: it must be an ipv6_address")
    return ip_address_string(address)


def string_ip_address(string: str) -> Address | None:
    """The address that ``string`` writes: an integer for four decimal parts, an ipv6_address, or None.

    Source: LispWorks manual, string-ip-address.
    """
    found = address.string_ip_address(string)
    return None if found is None else _valued(found)


def get_host_entry(
    host: HostSpec,
    *,
    fields: Sequence[str] = ("address",),
    ipv6: bool | Literal["any"] | None = "any",
    v4mapped: object = False,
    addrconfig: object = False,
    numerichost: object = False,
    avoid_reverse_lookup: object = False,
) -> Any:
    """What is known of a host: one value for each field; None when it is unknown.

    One field gives its value, several a tuple of them (the manual's multiple values).

    Args:
        host: a name or an address.
        fields: of "address", "ipv6-address", "ipv4-address", "addresses", "ipv6-addresses", "ipv4-addresses", "name"
            and "aliases". An address that there is not is None.
        ipv6: "any": both families; True: IPv6; None or False: IPv4.
        v4mapped: where there are no IPv6 addresses, the IPv4 ones as IPv6 addresses (with ipv6=True).
        addrconfig: only families of which this machine has an address.
        numerichost: no name is looked up.
        avoid_reverse_lookup: the name of an address is not looked up.

    Raises:
        TypeError, ValueError: a wrong argument.
        HostLookupError: it could not be found out.

    Source: LispWorks manual, get-host-entry.
    """
    wanted = checked_fields(fields, tuple(_HOST_FIELDS))
    family: Any = _configured(ipv6) if addrconfig else ipv6
    reverse = not avoid_reverse_lookup and bool({"name", "aliases"} & set(wanted))
    facts: dict[str, bool] = {"numerichost": bool(numerichost), "avoid_reverse_lookup": not reverse}
    entry = lookup.get_host_entry(host, ipv6=family, **facts)
    if v4mapped and ipv6 is True and (entry is None or not entry.addresses):
        entry = lookup.get_host_entry(host, ipv6=False, **facts)
        if entry is not None:
            mapped = (ipaddress.IPv6Address(f"::ffff:{each}") for each in entry.ipv4_addresses)
            entry = entry._replace(addresses=tuple(mapped))
    return None if entry is None else _values([_HOST_FIELDS[field](entry) for field in wanted])


def get_service_entry(service: ServiceSpec, protocol: str | None = None, *, fields: Sequence[str] | None = None) -> Any:
    """What is known of a service: one value for each field, as get_host_entry(); None when it is unknown.

    Args:
        service: a port, or a name or alias.
        protocol: "tcp", "udp", or None for the first that has it.
        fields: of "name", "port", "aliases" and "protocol"; not given: the name of a port, the port of a name.

    Source: LispWorks manual, get-service-entry.
    """
    if fields is None:
        fields = ("name",) if isinstance(service, int) else ("port",)
    wanted = checked_fields(fields, tuple(_SERVICE_FIELDS))
    entry = lookup.get_service_entry(service, protocol)
    return None if entry is None else _values([_SERVICE_FIELDS[field](entry) for field in wanted])


def get_socket_address(socket: socket.socket) -> tuple[Address | None, int | None]:
    """The local address and port of a handle; None, None where it has none.

    Source: LispWorks manual, get-socket-address.
    """
    return _pair(socket, "getsockname")


def get_socket_peer_address(socket: socket.socket) -> tuple[Address | None, int | None]:
    """The peer's address and port of a handle; None, None when it is not connected.

    Source: LispWorks manual, get-socket-peer-address.
    """
    return _pair(socket, "getpeername")


def socket_stream_address(stream: SocketStream) -> tuple[Address | None, int | None]:
    """The local address and port of a stream, also when it is closed.

    Source: LispWorks manual, socket-stream-address.
    """
    return address_pair(stream.local_address)


def socket_stream_peer_address(stream: SocketStream) -> tuple[Address | None, int | None]:
    """The peer's address and port of a stream, also when it is closed.

    Source: LispWorks manual, socket-stream-peer-address.
    """
    return address_pair(stream.peer_address)


socket_connection_address = socket_stream_address
socket_connection_peer_address = socket_stream_peer_address


def socket_connection_socket(stream: SocketStream) -> socket.socket | None:
    """The handle of a stream.

    Source: LispWorks manual, socket-stream.
    """
    from .socket_stream import socket_stream_socket

    return socket_stream_socket(stream)  # type: ignore[arg-type]


_HOST_FIELDS: dict[str, Callable[[HostEntry], Any]] = {
    "address": lambda entry: _first(entry.addresses),
    "ipv6-address": lambda entry: _first(entry.ipv6_addresses),
    "ipv4-address": lambda entry: _first(entry.ipv4_addresses),
    "addresses": lambda entry: [_valued(each) for each in entry.addresses],
    "ipv6-addresses": lambda entry: list(entry.ipv6_addresses),
    "ipv4-addresses": lambda entry: [int(each) for each in entry.ipv4_addresses],
    "name": lambda entry: entry.name,
    "aliases": lambda entry: list(entry.aliases),
}

_SERVICE_FIELDS: dict[str, Callable[[ServiceEntry], Any]] = {
    "name": lambda entry: entry.name,
    "port": lambda entry: entry.port,
    "aliases": lambda entry: list(entry.aliases),
    "protocol": lambda entry: entry.protocol,
}


def _values(found: list[Any]) -> Any:
    return found[0] if len(found) == 1 else tuple(found)


def _first(addresses: Sequence[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> Address | None:
    return _valued(addresses[0]) if addresses else None


def _valued(found: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Address:
    return int(found) if isinstance(found, ipaddress.IPv4Address) else found


def _configured(ipv6: bool | Literal["any"] | None) -> bool | Literal["any"] | None:
    """``ipv6`` without IPv6 where this machine has no address of it."""
    return False if ipv6 == "any" and get_default_local_ipv6_address() is None else ipv6


def _pair(handle: socket.socket, ask: Literal["getsockname", "getpeername"]) -> tuple[Address | None, int | None]:
    if not isinstance(handle, socket.socket):
        raise TypeError(f"socket={handle!r} is not allowed: a handle is a socket.socket")
    if handle.fileno() < 0:
        raise with_kin(SocketIOError, ValueError)("the socket is closed", operation=ask)
    try:
        name = getattr(handle, ask)()
    except OSError:
        return None, None  # it is not connected, or is no longer
    return address_pair(SocketAddress.from_sockaddr(name) if isinstance(name, tuple) else None)
