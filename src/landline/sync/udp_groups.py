"""Multicast: groups joined and left, by which interface, for whole groups and for single sources.

Interfaces are named as people know them (a name, an index, an address of it); what the systems take differs by
family and by age:

* IPv4 takes an interface as its address or, newer, as its index, in one structure; IPv6 an index only.
* For single sources IPv4 has an old structure with the interface's address, whose order of members differs between
  systems; RFC 3678 has one with an index for both families, whose numbers differ between systems.

Left out: blocking single sources of a group (a filter of one's own does it), and full filter lists.

Sources: RFC 3493 5.2; RFC 3678 4.1 and 5.1; ip(7), ipv6(7).
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
import sys
from typing import NamedTuple, TypeAlias

from ..address import Host, HostSpec, parse_host, scope_id

__all__ = ["Interface", "InterfaceSpec", "change_membership", "checked_group", "parse_interface", "send_by"]

InterfaceSpec: TypeAlias = "str | int | ipaddress.IPv4Address | ipaddress.IPv6Address"


class Interface(NamedTuple):
    """An interface, for the system to choose by: its number, or an IPv4 address of it. Neither: as it likes."""

    number: int = 0
    address: str | None = None


def parse_interface(value: InterfaceSpec | None, what: str = "interface") -> Interface:
    """An interface from its name, its index, or one of its addresses; None leaves the choice to the system.

    Raises:
        TypeError, ValueError: nothing of the kind.
        SocketCreateError: there is no such interface (also a ValueError).
    """
    if value is None:
        return Interface()
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 < value <= 0x7FFFFFFF:
            raise ValueError(f"{what}={value!r} is not allowed: an interface's index is 1 or more")
        return Interface(value)
    if isinstance(value, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        value = str(value)
    if not isinstance(value, str):
        raise TypeError(f"{what}={value!r} is not allowed: it must be an interface's name, index or address, or None")
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return Interface(scope_id(value, f" ({what}={value!r})"))
    if isinstance(address, ipaddress.IPv4Address):
        return Interface(0, str(address))
    if address.scope_id is not None:
        return Interface(scope_id(address.scope_id, f" ({what}={value!r})"))
    return Interface(_index_of(address, what))


def checked_group(group: HostSpec, source: HostSpec | None) -> tuple[Host, Host | None]:
    """A group, and the one source that is wanted in it.

    Raises TypeError, ValueError, and SocketCreateError for an unknown zone.
    """
    host = parse_host(group, "group")
    if host.address is None or not ipaddress.ip_address(host.address).is_multicast:
        raise ValueError(
            f"group={group!r} is not allowed: it must be a numeric multicast address (224.0.0.0/4 or ff00::/8)"
        )
    if source is None:
        return host, None
    sender = parse_host(source, "source")
    if sender.family != host.family:
        raise ValueError(f"source={source!r} is not allowed with group={group!r}: it must be an address of its family")
    return host, sender


def change_membership(sock: socket.socket, join: bool, group: Host, interface: Interface, source: Host | None) -> None:
    """Join or leave. Raises OSError; ValueError when an IPv6 group is to be joined by an IPv4 address."""
    assert group.address is not None
    bare, _, zone = group.address.partition("%")
    if zone and interface == Interface():
        interface = Interface(scope_id(zone))
    packed = socket.inet_pton(group.family or socket.AF_INET, bare)
    if group.family == socket.AF_INET6 and interface.address is not None:
        raise ValueError(
            f"interface={interface.address!r} is not allowed with an IPv6 group: give the interface's name, its "
            "index, or an IPv6 address of it"
        )
    if join:
        _only_what_is_joined(sock)
    if source is not None:
        _change_source(sock, join, bare, interface, source.address or "")
    elif group.family == socket.AF_INET6:
        option = socket.IPV6_JOIN_GROUP if join else socket.IPV6_LEAVE_GROUP
        sock.setsockopt(socket.IPPROTO_IPV6, option, packed + struct.pack("@I", interface.number))
    else:
        option = socket.IP_ADD_MEMBERSHIP if join else socket.IP_DROP_MEMBERSHIP
        sock.setsockopt(socket.IPPROTO_IP, option, packed + _ipv4_interface(interface))


def send_by(sock: socket.socket, interface: Interface, families: tuple[int, ...]) -> None:
    """Have multicasts go out by an interface. Raises OSError."""
    if socket.AF_INET6 in families:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, struct.pack("@I", interface.number))
    if socket.AF_INET in families:
        value = _ipv4_interface(interface)
        if os.name == "posix":
            value = bytes(4) + value
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, value)


class _Numbers(NamedTuple):
    """What a system calls things, and how it lays them out.

    Attributes:
        join, leave: MCAST_JOIN_SOURCE_GROUP and MCAST_LEAVE_SOURCE_GROUP.
        add, drop: IP_ADD_SOURCE_MEMBERSHIP and IP_DROP_SOURCE_MEMBERSHIP.
        interface_first: whether the interface stands before the source in their structure.
        gap: bytes between an index and the address after it.
        length_first: addresses begin with their length.
    """

    join: int
    leave: int
    add: int
    drop: int
    interface_first: bool
    gap: int
    length_first: bool


_SYSTEMS = {
    "linux": _Numbers(46, 47, 39, 40, True, struct.calcsize("@P") - 4, False),
    "darwin": _Numbers(82, 83, 70, 71, False, 0, True),
    "win32": _Numbers(45, 46, 15, 16, False, 4, False),
}


def _change_source(sock: socket.socket, join: bool, group: str, interface: Interface, source: str) -> None:
    numbers = _SYSTEMS.get(sys.platform)
    if numbers is None:
        raise OSError(errno.ENOPROTOOPT, "how this system joins a group for one source is not known")
    if interface.address is not None:
        parts = [interface.address, source] if numbers.interface_first else [source, interface.address]
        value = b"".join(socket.inet_aton(part) for part in (group, *parts))
        sock.setsockopt(socket.IPPROTO_IP, numbers.add if join else numbers.drop, value)
        return
    addresses = b"".join(_storage(part, numbers.length_first) for part in (group, source))
    value = struct.pack("@I", interface.number) + bytes(numbers.gap) + addresses
    level = socket.IPPROTO_IPV6 if ":" in group else socket.IPPROTO_IP
    sock.setsockopt(level, numbers.join if join else numbers.leave, value)


def _storage(address: str, length_first: bool) -> bytes:
    """An address as a struct sockaddr_storage."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address.partition("%")[0])
    rest = bytes(2) + (bytes(4) + packed + bytes(4) if family == socket.AF_INET6 else packed + bytes(8))
    head = bytes((len(rest) + 2, family)) if length_first else struct.pack("@H", family)
    return (head + rest).ljust(128, b"\0")


def _ipv4_interface(interface: Interface) -> bytes:
    if os.name == "posix":
        return socket.inet_aton(interface.address or "0.0.0.0") + struct.pack("@i", interface.number)
    # Windows takes an index in the place of an address of the network 0.
    return socket.inet_aton(interface.address) if interface.address else struct.pack("!I", interface.number)


def _only_what_is_joined(sock: socket.socket) -> None:
    """Linux gives a socket the datagrams of every group that any program has joined, unless told not to.

    It is told to where the port is shared by SO_REUSEPORT: one member of a group might get nothing otherwise
    (udp_connect.py), and too much is better than that.
    """
    if sys.platform == "linux":
        every = int(bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)))
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, every)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, every)


_IP_MULTICAST_ALL = 49
_IPV6_MULTICAST_ALL = 29


def _index_of(address: ipaddress.IPv6Address, what: str) -> int:
    """The interface that has an IPv6 address; only Linux says so in a file."""
    try:
        with open("/proc/thread-self/net/if_inet6", encoding="ascii") as table:
            for packed, index, *_ in map(str.split, table):
                if packed == address.packed.hex():
                    return int(index, 16)
    except OSError:
        pass
    raise ValueError(f"{what}={str(address)!r} is not allowed: no interface is known by it; give its name or index")
