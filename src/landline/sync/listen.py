"""Listening sockets: made for addresses of this machine, or inherited from whoever started the process.

One socket per address and family. IPv6 sockets never take IPv4 connections as well (IPV6_V6ONLY), whatever the
system's default is: a client would appear under two addresses, and a second socket for IPv4 could not be bound.

Sources: LispWorks manual, start-up-server (address, ipv6, reuseport); sd_listen_fds(3); RFC 3493 5.3.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from typing import Literal

from ..address import HostSpec, ServiceSpec, SocketAddress, parse_host, parse_service
from ..errors import SocketCreateError, with_kin

__all__ = ["Ipv6", "address_of", "adopt", "inherited_sockets", "listen"]

Ipv6 = bool | Literal["any", "both"] | None

FIRST_INHERITED = 3
"""SD_LISTEN_FDS_START: the descriptors behind standard input, output and error."""

MOST_BACKLOG = 0x7FFFFFFF
"""A C int; the kernel cuts it further."""

SAME_PORT_TRIES = 16
"""How often a port that the system chose for one family is tried for the other; it may be taken there."""


def listen(
    local_address: HostSpec | None, service: ServiceSpec, ipv6: Ipv6, backlog: int, reuse_port: bool
) -> list[socket.socket]:
    """Listening sockets, which do not block. All at one port, the IPv4 ones first.

    Raises:
        TypeError, ValueError: a wrong argument.
        SocketCreateError: an address cannot be listened at. Nothing is left open.
    """
    port = parse_service(service)
    if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
        raise ValueError("reuse_port=True is not allowed: this system has no SO_REUSEPORT")
    hosts, optional = _hosts(local_address, ipv6)
    for tries_left in range(SAME_PORT_TRIES, 0, -1):
        try:
            return _listen_at_all(hosts, port, backlog, reuse_port, optional)
        except OSError:
            # A port of the system's choice may be taken in the other family: it chooses another one then.
            if port or len(hosts) == 1 or tries_left == 1:
                raise
    raise AssertionError


def inherited_sockets() -> list[socket.socket]:
    """The listening sockets that systemd, or another program of its kind, has opened for this process (LISTEN_FDS).

    Give them to start_up_server() in place of a service. [] where there are none. The variables are removed, so
    that child processes do not take the sockets for theirs; a second call finds nothing. (LISTEN_FDNAMES too: read it
    before, where names are to tell the sockets apart.)

    Raises:
        SocketCreateError: LISTEN_FDS promises descriptors that are not sockets.

    Source: sd_listen_fds(3).
    """
    process, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if not count.isdecimal() or process != str(os.getpid()):
        return []
    sockets: list[socket.socket] = []
    descriptor = FIRST_INHERITED
    try:
        for descriptor in range(FIRST_INHERITED, FIRST_INHERITED + int(count)):
            os.set_inheritable(descriptor, False)
            sockets.append(socket.socket(fileno=descriptor))
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise SocketCreateError(
            f"LISTEN_FDS={count} promises a socket at descriptor {descriptor}: {error.strerror or error}",
            operation="listen",
            errno=error.errno,
        ) from error
    return sockets


def address_of(sockaddr: object) -> SocketAddress | None:
    """An end of an accepted connection; None where it is not one of IP.

    At an adopted socket of both families IPv4 clients have mapped addresses; everybody knows them by the others.
    """
    if not isinstance(sockaddr, tuple):
        return None
    address = SocketAddress.from_sockaddr(sockaddr)
    mapped = address.host.startswith("::ffff:") and "." in address.host
    return SocketAddress(address.host.removeprefix("::ffff:"), address.port) if mapped else address


def adopt(service: object) -> list[socket.socket]:
    """Listening sockets of the caller's, one or several, made ready. Raises TypeError, ValueError."""
    if isinstance(service, socket.socket):
        service = [service]
    elif isinstance(service, (bytes, bytearray)) or not isinstance(service, Iterable):
        raise TypeError(_NO_SERVICE.format(service))
    sockets = [_checked(sock) for sock in service]
    if not sockets:
        raise ValueError(f"service={service!r} is not allowed: there is no socket to listen with")
    for sock in sockets:
        sock.setblocking(False)
    return sockets


def _checked(sock: object) -> socket.socket:
    if not isinstance(sock, socket.socket):
        raise TypeError(_NO_SERVICE.format(sock))
    # SOCK_STREAM may carry flags; and not every system tells whether a socket listens.
    accepts = getattr(socket, "SO_ACCEPTCONN", None)
    try:
        listens = sock.type & 0xF == socket.SOCK_STREAM and (
            accepts is None or sock.getsockopt(socket.SOL_SOCKET, accepts) != 0
        )
    except OSError:
        listens = False  # it is closed
    if not listens:
        raise ValueError(f"service={sock!r} is not allowed: it does not listen for connections")
    return sock


def _hosts(local_address: HostSpec | None, ipv6: Ipv6) -> tuple[list[tuple[int, str]], bool]:
    """(family, numeric address) to listen at; and whether families that this machine lacks are left out."""
    families = _families(ipv6)
    if local_address is None:
        return [(family, "0.0.0.0" if family == socket.AF_INET else "::") for family in families], ipv6 == "any"
    if local_address == "localhost":
        loopback = [(family, "127.0.0.1" if family == socket.AF_INET else "::1") for family in families]
        return loopback[:1] if ipv6 == "any" else loopback, False
    host = parse_host(local_address, "local_address")
    if host.address is not None:
        if host.family not in families or ipv6 == "both":
            raise ValueError(f"local_address={local_address!r} is not allowed with ipv6={ipv6!r}")
        return [(host.family, host.address)], False
    try:
        found = socket.getaddrinfo(host.name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SocketCreateError(
            f"the local address {host.text} was not found: {error.strerror or error}",
            operation="lookup",
            address=host.text,
        ) from error
    hosts = [(family, SocketAddress.from_sockaddr(address).host) for family, *_, address in found if family in families]
    if not hosts or (ipv6 == "both" and len({family for family, _ in hosts}) < len(families)):
        raise SocketCreateError(
            f"the local address {host.text} has not what ipv6={ipv6!r} asks for", operation="lookup", address=host.text
        )
    return sorted(dict.fromkeys(hosts), key=lambda one: families.index(one[0])), False


def _families(ipv6: Ipv6) -> list[int]:
    if ipv6 in ("any", "both"):
        return [socket.AF_INET, socket.AF_INET6]
    if ipv6 is True:
        return [socket.AF_INET6]
    if ipv6 is False or ipv6 is None:
        return [socket.AF_INET]
    raise ValueError(f"ipv6={ipv6!r} is not allowed: it must be 'any', 'both', True (only IPv6), or False (only IPv4)")


def _listen_at_all(
    hosts: Sequence[tuple[int, str]], port: int, backlog: int, reuse_port: bool, optional: bool
) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for family, host in hosts:
            if sockets and not port:
                port = sockets[0].getsockname()[1]
            try:
                sockets.append(_listen_at(family, SocketAddress(host, port), backlog, reuse_port))
            except SocketCreateError:
                if not (optional and not _has(family)):
                    raise
        if not sockets:
            raise SocketCreateError("this machine has neither IPv4 nor IPv6", operation="listen")
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _listen_at(family: int, address: SocketAddress, backlog: int, reuse_port: bool) -> socket.socket:
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":  # on Windows the same name lets others take the port over
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address.sockaddr())
            sock.listen(min(backlog, MOST_BACKLOG))
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise with_kin(SocketCreateError, error)(
            f"could not listen at {address}: {error.strerror or error}",
            operation="listen",
            address=address,
            errno=error.errno,
        ) from error
    return sock


def _has(family: int) -> bool:
    """Whether this machine has an address of the family: one to bind to."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    except OSError:
        return False
    return True


_NO_SERVICE = "service={!r} is not allowed: it must be a port, a service name, or listening sockets"
