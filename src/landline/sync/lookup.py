"""What the system knows of hosts, services and this machine's own addresses, for people and logs.

Whoever wants to connect needs none of this: every function that connects or binds looks names up itself, tries all
addresses, and in a better order.

* *Hosts* are asked for in threads that can be left alone (resolve.py), so a time limit holds whatever the resolver
  does. Each family is asked apart. Of aliases the system tells with IPv4 addresses only (gethostbyname); getaddrinfo
  has no place for them.
* *Unknown* is an answer, None. That nobody could be asked is none, and raises: the two are confused too often.
* *Services* stand in a file, which is read for their aliases; the C library tells one name and one number.
* *This machine's IPv6 address* is the one that it would send from. To connect a UDP socket sends nothing and has the
  system choose. Lists of interfaces and routes were rejected: each system has another one.

Sources: LispWorks manual, get-host-entry, get-service-entry, get-default-local-ipv6-address, get-ip-default-zone-id;
RFC 6724 (the choice of a source address), RFC 4007 6 (default zones).
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Literal, NamedTuple, TypeAlias

from ..address import (
    _COMMON_SERVICES,
    Host,
    HostSpec,
    ServiceSpec,
    SocketAddress,
    _zone_name,
    parse_host,
    parse_service,
)
from ..deadline import Deadline, checked_timeout
from ..errors import HostLookupError, SocketCreateError, with_kin
from .resolve import Lookup, start_question

__all__ = [
    "HostEntry",
    "IPAddress",
    "ServiceEntry",
    "get_default_local_ipv6_address",
    "get_host_entry",
    "get_ip_default_zone_id",
    "get_service_entry",
]

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class HostEntry(NamedTuple):
    """What is known of a host.

    Attributes:
        name: its canonical name; None for an address that has no name, or whose name was not asked for.
        aliases: its other names, as far as the system tells them.
        addresses: IPv6 first, in each family in the system's order. IPv6 addresses keep their zone.
    """

    name: str | None
    aliases: tuple[str, ...]
    addresses: tuple[IPAddress, ...]

    @property
    def ipv4_addresses(self) -> tuple[ipaddress.IPv4Address, ...]:
        return tuple(each for each in self.addresses if isinstance(each, ipaddress.IPv4Address))

    @property
    def ipv6_addresses(self) -> tuple[ipaddress.IPv6Address, ...]:
        return tuple(each for each in self.addresses if isinstance(each, ipaddress.IPv6Address))


class ServiceEntry(NamedTuple):
    """What is known of a service.

    Attributes:
        name: its official name.
        port: its port number.
        aliases: its other names.
        protocol: "tcp" or "udp", as a rule.
    """

    name: str
    port: int
    aliases: tuple[str, ...]
    protocol: str


def get_host_entry(
    host: HostSpec,
    *,
    ipv6: bool | Literal["any"] | None = "any",
    numerichost: bool = False,
    avoid_reverse_lookup: bool = False,
    timeout: float | None = None,
) -> HostEntry | None:
    """Name, aliases and addresses of a host; None when it is unknown.

    What was found is given even where the other family's lookup failed, or did not answer in time.

    Args:
        host: a name; or a numeric host, whose name is looked up.
        ipv6: "any": both families; True: IPv6 addresses only; False or None: IPv4 addresses only.
        numerichost: names are not looked up, and are unknown.
        avoid_reverse_lookup: the name of a numeric host is not looked up.
        timeout: seconds for the lookups; None is as long as the system takes.

    Raises:
        TypeError, ValueError: a wrong argument.
        HostLookupError: it could not be found out; also a TimeoutError when ``timeout`` has passed.
        SocketCreateError: the zone names no interface of this machine, or there is no thread to ask in.

    Source: LispWorks manual, get-host-entry.
    """
    parsed = parse_host(host)
    families = _families(ipv6)
    until = Deadline.after(checked_timeout(timeout, "timeout"))
    if parsed.address is None:
        return None if numerichost else _named(parsed, families, until, timeout)
    if parsed.family not in families:
        return None
    names = None if avoid_reverse_lookup else _names_of(parsed, until, timeout)
    name, aliases = (None, ()) if names is None else (names.name, names.aliases)
    return HostEntry(name, aliases, (ipaddress.ip_address(parsed.address),))


def get_service_entry(service: ServiceSpec, protocol: str | None = "tcp") -> ServiceEntry | None:
    """Name, port, aliases and protocol of a service; None when it is unknown.

    Args:
        service: its name or an alias, or its port as a number or digits.
        protocol: "tcp", "udp", or another that the system knows; None: the first entry of any.

    Raises:
        TypeError, ValueError: a wrong argument.

    Where the system's file does not have it, the system is asked otherwise. Slim containers have no such file, but
    landline has a small table of the common services.

    Source: LispWorks manual, get-service-entry; services(5).
    """
    if protocol is not None:
        if not isinstance(protocol, str):
            raise TypeError(f"protocol={protocol!r} is not allowed: it must be a str or None")
        protocol = protocol.lower()
    wanted: str | int = service
    if not isinstance(service, str) or (service.isascii() and service.isdecimal()):
        wanted = parse_service(service)
    elif not service or "\0" in service:
        raise ValueError(f"service={service!r} is not allowed: it must be a port number or a service name")
    for entry in _services(wanted, protocol):
        if protocol in (None, entry.protocol) and wanted in (entry.port, entry.name, *entry.aliases):
            return entry
    return None


def get_default_local_ipv6_address() -> ipaddress.IPv6Address | None:
    """The IPv6 address that this machine sends from to far away; None when it has none.

    Where no route leads there it is the link-local address, with its zone, of the first interface that has one.
    Nothing is sent.

    Source: LispWorks manual, get-default-local-ipv6-address; RFC 6724.
    """
    here = _source(FAR_AWAY)
    if here is not None:
        return here
    return next((address for _, address in _link_local_addresses()), None)


def get_ip_default_zone_id() -> int | None:
    """The index of the interface that leads far away over IPv6, to be the zone where none is given.

    Where no route leads there, or the system does not tell by which interface, it is that of the first interface with a
    link-local address; None where there is none. Nothing is sent.

    Source: LispWorks manual, get-ip-default-zone-id; RFC 4007 6.
    """
    here = _source(FAR_AWAY)
    if here is not None:
        for index, _ in _interfaces():
            if _source(FAR_AWAY, by=index) == here:
                return index
    return next((index for index, _ in _link_local_addresses()), None)


# Hosts


FAR_AWAY = ("2001:500:2f::f", 9, 0, 0)
"""An address that only the default route leads to (of a root name server; the port discards). Nothing is sent to it."""

_UNKNOWN = {
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
} | {1, 4, 11001, 11004}  # HOST_NOT_FOUND and NO_DATA of <netdb.h>, and Windows' own
"""That there is no such name or address, or nothing of the family asked for."""


class _Found(NamedTuple):
    """One answer of the system."""

    name: str | None
    aliases: tuple[str, ...]
    addresses: tuple[IPAddress, ...]


def _named(host: Host, families: Sequence[int], until: Deadline, timeout: float | None) -> HostEntry | None:
    assert host.name is not None
    name = host.name + "." * host.rooted
    ways: dict[int, Callable[[str], _Found]] = {socket.AF_INET: _by_name, socket.AF_INET6: _by_name_ipv6}
    answers = _ask({("entry", name, family): partial(ways[family], name) for family in families}, host, until)
    found = [answer for answer in answers if isinstance(answer, _Found)]
    if not any(each.addresses for each in found):
        _raise_unless_unknown(host, answers, len(families), timeout)
        return None
    addresses = dict.fromkeys(address for each in found for address in each.addresses)
    return HostEntry(
        next((each.name for each in found if each.name), host.name),
        tuple(dict.fromkeys(alias for each in found for alias in each.aliases)),
        tuple(sorted(addresses, key=lambda address: -address.version)),
    )


def _names_of(host: Host, until: Deadline, timeout: float | None) -> _Found | None:
    bare = str(host.address).partition("%")[0]
    answers = _ask({("entry", bare): partial(_by_address, bare)}, host, until)
    if answers and isinstance(answers[0], _Found):
        return answers[0]
    _raise_unless_unknown(host, answers, 1, timeout)
    return None


def _ask(questions: dict[Any, Callable[[], _Found]], host: Host, until: Deadline) -> list[Any]:
    """What came in time."""
    came: SimpleQueue[Any] = SimpleQueue()
    asked: list[Lookup] = []
    answers: list[Any] = []
    try:
        for key, ask in questions.items():
            asked.append(start_question(key, ask, came.put))
        while len(answers) < len(questions):
            answers.append(came.get(timeout=until.limit()))
    except Empty:
        pass
    except RuntimeError as error:
        message = f"no thread to look up {host.text!r} in: {error}"
        raise SocketCreateError(message, operation="lookup", address=host.text) from error
    finally:
        for question in asked:
            question.abandon(came.put)
    return answers


def _raise_unless_unknown(host: Host, answers: list[Any], asked: int, timeout: float | None) -> None:
    failures = [each for each in answers if isinstance(each, Exception) and not _is_unknown(each)]
    silent = len(answers) < asked
    if not failures and not silent:
        return
    reasons = [str(getattr(each, "strerror", None) or str(each) or type(each).__name__) for each in failures]
    if silent:
        reasons.append("without waiting" if timeout == 0 else f"no answer within timeout={timeout:g} s")
    error = with_kin(HostLookupError, TimeoutError if silent else None)(
        f"could not find {host.text}: {', '.join(dict.fromkeys(reasons))}",
        operation="lookup",
        address=host.text,
        errno=getattr(failures[0], "errno", None) if failures else None,
    )
    raise error from (failures[0] if failures else None)


def _is_unknown(error: Exception) -> bool:
    return isinstance(error, (socket.gaierror, socket.herror)) and error.errno in _UNKNOWN


def _by_name(name: str) -> _Found:
    canonical, aliases, addresses = socket.gethostbyname_ex(name)
    return _Found(canonical, tuple(aliases), tuple(map(ipaddress.IPv4Address, addresses)))


def _by_name_ipv6(name: str) -> _Found:
    found = socket.getaddrinfo(name, None, socket.AF_INET6, socket.SOCK_STREAM, 0, socket.AI_CANONNAME)
    addresses = tuple(
        SocketAddress.from_sockaddr(sockaddr).ip for kind, _, _, _, sockaddr in found if kind == socket.AF_INET6
    )
    return _Found(next((canonical for _, _, _, canonical, _ in found if canonical), None), (), addresses)


def _by_address(address: str) -> _Found:
    name, aliases, _ = socket.gethostbyaddr(address)
    return _Found(name, tuple(aliases), ())


def _families(ipv6: object) -> tuple[socket.AddressFamily, ...]:
    if ipv6 == "any":
        return (socket.AF_INET, socket.AF_INET6)
    if ipv6 is True:
        return (socket.AF_INET6,)
    if ipv6 is False or ipv6 is None:
        return (socket.AF_INET,)
    raise ValueError(f"ipv6={ipv6!r} is not allowed: it must be 'any', True (only IPv6), or False or None (only IPv4)")


# Services


_SERVICES_FILE = (
    os.path.join(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "drivers", "etc", "services")
    if sys.platform == "win32"
    else "/etc/services"
)


def _services(wanted: str | int, protocol: str | None) -> Iterator[ServiceEntry]:
    there_is_a_file = False
    for entry in _listed_services():
        there_is_a_file = True
        yield entry
    yield from _services_of_system(wanted, protocol)
    if not there_is_a_file and protocol in (None, "tcp", "udp"):
        yield from _common_services(protocol or "tcp")


def _listed_services() -> Iterator[ServiceEntry]:
    """The entries of the services file, in its order."""
    try:
        with open(_SERVICES_FILE, encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
    except OSError:
        return
    for line in lines:
        words = line.partition("#")[0].split()
        number, _, protocol = words[1].partition("/") if len(words) > 1 else ("", "", "")
        if number.isascii() and number.isdecimal() and protocol:
            yield ServiceEntry(words[0], int(number), tuple(words[2:]), protocol.lower())


def _services_of_system(wanted: str | int, protocol: str | None) -> Iterator[ServiceEntry]:
    """What the system knows from elsewhere (NIS, LDAP)."""
    for each in ("tcp", "udp") if protocol is None else (protocol,):
        try:
            port = wanted if isinstance(wanted, int) else socket.getservbyname(wanted, each)
            name = socket.getservbyport(port, each)
        except (OSError, UnicodeError):
            continue
        yield ServiceEntry(name, port, () if wanted in (name, port) else (str(wanted),), each)


def _common_services(protocol: str) -> Iterator[ServiceEntry]:
    for port in dict.fromkeys(_COMMON_SERVICES.values()):
        name, *aliases = (each for each, its_port in _COMMON_SERVICES.items() if its_port == port)
        yield ServiceEntry(name, port, tuple(aliases), protocol)


# This machine


_BY_INTERFACE = {"linux": (76, "big"), "darwin": (125, sys.byteorder), "win32": (31, sys.byteorder)}
"""The option that has an IPv6 socket send by one interface, and how its index is laid out: IPV6_UNICAST_IF (Linux,
Windows) and IPV6_BOUND_IF (macOS), for which Python has no names."""


def _source(sockaddr: tuple[str, int, int, int], by: int = 0) -> ipaddress.IPv6Address | None:
    """The address that the system would send from to ``sockaddr``, by one interface if given; None: no way there."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            if by:
                option, order = _BY_INTERFACE[sys.platform]
                sock.setsockopt(socket.IPPROTO_IPV6, option, by.to_bytes(4, order))
            sock.connect(sockaddr)
            here = SocketAddress.from_sockaddr(sock.getsockname()).ip
    except (OSError, KeyError):
        return None
    assert isinstance(here, ipaddress.IPv6Address)
    return None if here.is_loopback or here.is_unspecified else here


def _link_local_addresses() -> Iterator[tuple[int, ipaddress.IPv6Address]]:
    """Interfaces with a link-local address: what each sends from to its neighbours."""
    for index, _ in _interfaces():
        address = _source(("ff02::1", 9, 0, index))
        if address is not None and address.is_link_local:
            if not address.scope_id:
                address = ipaddress.IPv6Address(f"{address}%{_zone_name(index)}")
            yield index, address


def _interfaces() -> list[tuple[int, str]]:
    try:
        return socket.if_nameindex()
    except OSError:
        return []
