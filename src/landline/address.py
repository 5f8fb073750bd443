"""What a host and a service may be: parsed once, used everywhere.

A host is turned into one value with one spelling, and that spelling is what the lookup, the SNI
extension, the certificate check and the logs see. Encoding a name twice, by two rules, is how a connection
ends up verified against another owner's name ('fass.de' for 'faß.de').

* Names: UTS 46 mapping, then IDNA 2008, label by label. Labels that are ASCII already are left alone
  (underscores, hyphens in odd places): DNS carries them and so do certificates.
* Anything whose last label is a number is an address or an error, never a name: '127.1', '0x7f.0.0.1' and
  '010.0.0.1' mean different things to different resolvers, which is how filters are bypassed.
* Nothing here opens a socket. Services and zones are looked up in the system's tables, which are files.

Sources: LispWorks manual 25.3 (hosts and services), RFC 5890-5892, UTS 46, RFC 1123 2.1, RFC 4007 11 (zones).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from .errors import SocketCreateError, with_kin

__all__ = [
    "Host",
    "HostSpec",
    "ServiceSpec",
    "SocketAddress",
    "ip_address_string",
    "ipv6_address_scope_id",
    "parse_host",
    "parse_ipv6_address",
    "parse_service",
    "string_ip_address",
]

HostSpec: TypeAlias = "str | int | ipaddress.IPv4Address | ipaddress.IPv6Address"
ServiceSpec: TypeAlias = "int | str"

LONGEST_LABEL = 63  # RFC 1035 2.3.4
LONGEST_NAME = 253  # RFC 1035 2.3.4: 255 octets on the wire
LARGEST_SCOPE = 0xFFFFFFFF  # RFC 3493 3.3: sin6_scope_id has 32 bits


class SocketAddress(NamedTuple):
    """One end of a connection: a numeric host as text (IPv6 with its %zone, where it has one) and a port."""

    host: str
    port: int

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        return ipaddress.ip_address(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def sockaddr(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """What bind() and connect() take."""
        if ":" not in self.host:
            return (self.host, self.port)
        bare, _, zone = self.host.partition("%")
        return (bare, self.port, 0, scope_id(zone) if zone else 0)

    @classmethod
    def from_sockaddr(cls, sockaddr: tuple[Any, ...]) -> SocketAddress:
        """From what getsockname(), getpeername(), accept() and getaddrinfo() give."""
        if len(sockaddr) == 2:
            return cls._make(sockaddr)
        host, port, _, scope = sockaddr
        zone = f"%{_zone_name(scope)}" if scope and "%" not in host else ""
        return cls(host + zone, port)


class Host(NamedTuple):
    """A parsed host: either a name or a numeric address.

    Attributes:
        text: as the caller wrote it, for messages.
        name: the name in A-labels, lower case, without a trailing dot; None for a numeric host.
        address: the numeric address in its canonical spelling, with %zone; None for a name.
        family: of a numeric host; None for a name.
        rooted: the name was written with a trailing dot: no search domains apply.
    """

    text: str
    name: str | None
    address: str | None
    family: socket.AddressFamily | None = None
    rooted: bool = False


def parse_host(host: HostSpec, what: str = "host") -> Host:
    """Parse a host: a name, a numeric string, an IPv4 integer, or an ipaddress value.

    Args:
        host: an integer has the most significant byte first: 0x7F000001 is 127.0.0.1.
        what: the argument's name, for messages.

    Raises:
        TypeError: another type.
        ValueError: not a host; the message names the value and what is allowed.
        SocketCreateError: the zone names no interface of this machine (also a ValueError).
    """
    if isinstance(host, str):
        return _parse_text(host, what)
    if isinstance(host, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        address = str(host).partition("/")[0]  # of an IPv4Interface or IPv6Interface, which has a prefix too
        return _numeric(address, str(host), what)
    if isinstance(host, int) and not isinstance(host, bool):
        if not 0 <= host <= 0xFFFFFFFF:
            raise ValueError(f"{what}={host} is not allowed: an IPv4 address as an integer is 0 to 0xFFFFFFFF")
        address = str(ipaddress.IPv4Address(host))
        return Host(address, None, address, socket.AF_INET)
    raise TypeError(
        f"{what}={host!r} is not allowed: it must be a name or numeric address (str), "
        "an IPv4 address as int, or an ipaddress.IPv4Address or IPv6Address"
    )


def parse_service(service: ServiceSpec, protocol: str = "tcp", what: str = "service") -> int:
    """The port of a service: an integer from 0 to 65535, a string of digits, or a service name.

    Names are looked up in the system's services file and then in a small table of the common ones, because
    slim containers have no such file.

    Raises:
        TypeError: neither int nor str.
        ValueError: no port number, or an empty name.
        SocketCreateError: an unknown service name (also a ValueError).
    """
    if type(service) is int and 0 <= service <= 0xFFFF:
        return service
    if isinstance(service, bool) or not isinstance(service, (int, str)):
        raise TypeError(f"{what}={service!r} is not allowed: it must be a port number or a service name")
    if isinstance(service, str):
        if not service or "\0" in service:
            raise ValueError(f"{what}={service!r} is not allowed: it must be a port number or a service name")
        if not (service.isascii() and service.isdecimal()):
            return _named_port(service, protocol, what)
        service = int(service) if len(service) <= 10 else 0x10000
    if not 0 <= service <= 0xFFFF:
        raise ValueError(f"{what}={service!r} is not allowed: a port is a number from 0 to 65535")
    return service


def scope_id(zone: str, where: str = "") -> int:
    """The scope id of a zone: a decimal number, or the name of an interface of this machine.

    ``where`` is added to the message: the address that the zone is part of.

    Raises:
        SocketCreateError: no such interface (also a ValueError).
    """
    if zone.isascii() and zone.isdecimal() and len(zone) <= 10 and int(zone) <= LARGEST_SCOPE:
        return int(zone)
    try:
        return socket.if_nametoindex(zone)
    except (OSError, ValueError) as error:
        message = f"there is no network interface {zone!r} on this machine{where}"
        raise with_kin(SocketCreateError, ValueError)(message, operation="address", address=zone) from error


def ip_address_string(address: int | ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """The numeric text of an address: four decimal parts, or IPv6 in its canonical spelling without zone and prefix.

    Args:
        address: an integer is an IPv4 address, its most significant byte first.

    Raises:
        TypeError: another type.
        ValueError: an integer beyond 32 bits.

    Source: LispWorks manual, ip-address-string; RFC 5952.
    """
    if isinstance(address, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        return socket.inet_ntop(socket.AF_INET if address.version == 4 else socket.AF_INET6, address.packed)
    if isinstance(address, int) and not isinstance(address, bool):
        return str(parse_host(address, "address").address)
    raise TypeError(f"address={address!r} is not allowed: it must be an ipaddress value, or an IPv4 address as int")


def string_ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that ``text`` writes: four decimal parts, or what parse_ipv6_address() takes; None for other text.

    No name is looked up, and no white space is passed over.

    Source: LispWorks manual, string-ip-address.
    """
    try:
        return ipaddress.IPv4Address(_checked_text(text))
    except ValueError:
        return parse_ipv6_address(text, trim_whitespace=False)


def parse_ipv6_address(
    text: str, start: int = 0, end: int | None = None, trim_whitespace: bool = True
) -> ipaddress.IPv6Address | None:
    """The IPv6 address that ``text[start:end]`` writes; None for other text. Nothing is looked up.

    Args:
        text: an address in any of its spellings, with ``::`` and a dotted end too; then perhaps ``%`` and its zone (an
            interface's number or name, which need not exist), then perhaps ``/`` and the length of a prefix.
        trim_whitespace: white space around it is passed over.

    Returns:
        With a prefix an ipaddress.IPv6Interface, which is an IPv6Address that keeps it and prints it. It stands for the
        address alone everywhere in landline, but is not equal to it: ipaddress compares the prefix too.

    Source: LispWorks manual, parse-ipv6-address; RFC 4291 2.2 and 2.3; RFC 4007 11.
    """
    text = _checked_text(text)[start:end]
    if trim_whitespace:
        text = text.strip()
    address, slash, _ = text.partition("/")
    if _NOT_IN_NAMES.search(address.partition("%")[2]):
        return None
    try:
        return ipaddress.IPv6Interface(text) if slash else ipaddress.IPv6Address(text)
    except ValueError:
        return None


def ipv6_address_scope_id(address: ipaddress.IPv6Address) -> int | str:
    """The zone of an address: its number, or the name of an interface; 0 for an address without one.

    Source: LispWorks manual, ipv6-address-scope-id; RFC 4007 11.
    """
    if not isinstance(address, ipaddress.IPv6Address):
        raise TypeError(f"address={address!r} is not allowed: it must be an ipaddress.IPv6Address")
    zone = address.scope_id or "0"
    return int(zone) if zone.isascii() and zone.isdecimal() else zone


def _checked_text(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"text={text!r} is not allowed: it must be a str")
    return text


# What a slim container, which has no services file, is asked for most.
_COMMON_SERVICES = {
    "echo": 7, "discard": 9, "daytime": 13, "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "time": 37,
    "domain": 53, "gopher": 70, "finger": 79, "http": 80, "www": 80, "pop3": 110, "nntp": 119, "ntp": 123,
    "imap": 143, "imap2": 143, "snmp": 161, "irc": 194, "ldap": 389, "https": 443, "submissions": 465,
    "smtps": 465, "syslog": 514, "rtsp": 554, "submission": 587, "ldaps": 636, "domain-s": 853, "rsync": 873,
    "ftps": 990, "telnets": 992, "imaps": 993, "pop3s": 995, "socks": 1080, "mqtt": 1883, "nfs": 2049,
    "mysql": 3306, "postgresql": 5432, "amqp": 5672, "redis": 6379, "ircs-u": 6697, "http-alt": 8080,
    "secure-mqtt": 8883,
}  # fmt: skip

_NOT_IN_NAMES = re.compile(r"[\x00-\x20\x7f/:?#\[\]@%\\<>\"^`{|}]")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")


@lru_cache(maxsize=256)  # programs connect to the same few hosts again and again; errors are not kept
def _parse_text(text: str, what: str) -> Host:
    if not text:
        raise ValueError(f"{what}='' is not allowed: it must not be empty")
    if ":" in text:
        return _numeric(text, text, what)
    name = _a_labels(text, what)
    rooted = name.endswith(".") and len(name) > 1
    if rooted:
        name = name[:-1]
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        return _numeric(name, text, what)
    _check_name(name, text, what)
    return Host(text, name, None, rooted=rooted)


def _numeric(address: str, text: str, what: str) -> Host:
    bare, percent, zone = address.partition("%")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    try:
        packed = socket.inet_pton(family, bare)
    except (OSError, ValueError):
        raise ValueError(f"{what}={text!r} is not allowed: {_what_is_wrong(text)}") from None
    canonical = socket.inet_ntop(family, packed)
    if percent:
        if not zone or _NOT_IN_NAMES.search(zone):
            raise ValueError(f"{what}={text!r} is not allowed: {zone!r} is no zone (an interface's name or number)")
        scope_id(zone, f" ({what}={text!r})")
        canonical = f"{canonical}%{zone}"
    return Host(text, None, canonical, family)


def _what_is_wrong(text: str) -> str:
    if "://" in text:
        return "this is a URL; give its host alone"
    if text.startswith("["):
        return "an IPv6 address is written without brackets here, and the port is given as the service"
    if text.count(":") == 1:
        return "this looks like host:port; give the port as the service"
    if ":" in text:
        return "not a numeric IPv6 address"
    return "an IPv4 address has four decimal parts from 0 to 255, without leading zeros"


def _a_labels(text: str, what: str) -> str:
    if text.isascii():
        return text.lower()
    import idna

    try:
        mapped = idna.uts46_remap(text, std3_rules=False, transitional=False)
        labels = [label if label.isascii() else idna.alabel(label).decode() for label in mapped.split(".")]
    except UnicodeError as error:
        raise ValueError(f"{what}={text!r} is not allowed: not a name that IDNA 2008 can encode ({error})") from error
    return ".".join(labels).lower()


def _check_name(name: str, text: str, what: str) -> None:
    bad = _NOT_IN_NAMES.search(name)
    if bad:
        raise ValueError(f"{what}={text!r} is not allowed: a name has no {bad.group()!r} in it")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"{what}={text!r} is not allowed: a name has at most {LONGEST_NAME} characters")
    for label in name.split("."):
        if not 0 < len(label) <= LONGEST_LABEL:
            raise ValueError(
                f"{what}={text!r} is not allowed: every part of a name has 1 to {LONGEST_LABEL} characters"
            )


def _named_port(service: str, protocol: str, what: str) -> int:
    try:
        return socket.getservbyname(service, protocol)
    except (OSError, UnicodeError) as error:
        if service.lower() in _COMMON_SERVICES:
            return _COMMON_SERVICES[service.lower()]
        message = (
            f"{what}={service!r} is unknown: neither this machine's services file nor landline knows it; "
            "give the port number"
        )
        raise with_kin(SocketCreateError, ValueError)(message, operation="service", address=service) from error


def _zone_name(scope: int) -> str:
    try:
        return socket.if_indextoname(scope)
    except OSError:
        return str(scope)
