"""The PROXY protocol: who a connection really comes from, told by the proxy in front in a header of its own.

Version 1 is a line of text, version 2 binary with room for more facts (TLVs). A header is believed only where it comes
from a proxy that is trusted, and it is required there: whether there is one is never guessed from the bytes, or any
client could claim to be anybody. That decision is the caller's; here are only the bytes.

Source: the PROXY protocol, versions 1 and 2 (HAProxy, proxy-protocol.txt), sections 2.1 and 2.2.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Literal

from ..address import SocketAddress

__all__ = ["ProxyHeader", "build_proxy_header", "head_size", "parse_proxy_header"]

SHORTEST = 15
"""b"PROXY UNKNOWN\\r\\n"; the shortest of version 2 is one byte longer."""

LONGEST_LINE = 107
"""Of version 1, with its CR LF: enough for two IPv6 addresses."""

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
HEAD = struct.Struct("!12sBBH")

CRC32C = 0x03  # the type of the TLV that holds a checksum over the whole header
UNIX_PATH = 108

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Endpoint = SocketAddress | str | None


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What a proxy tells.

    Attributes:
        source: where the connection comes from: an address, the path of a Unix socket, or None where the proxy does
            not say (a connection of its own, for instance to see whether the server lives).
        destination: where it went to.
        version: 1 or 2.
        tlvs: other facts as (type, value) (version 2), such as the host name that a client asked for (type 2).
    """

    source: Endpoint = None
    destination: Endpoint = None
    version: Literal[1, 2] = 2
    tlvs: tuple[tuple[int, bytes], ...] = ()


def head_size(data: bytes) -> int | None:
    """How many bytes the header has that begins with ``data`` (at least SHORTEST); None: a line, up to its end.

    Raises:
        ValueError: no header begins like this.
    """
    if data.startswith(b"PROXY "):
        return None
    if data[: len(SIGNATURE)] != SIGNATURE[: len(data)]:
        raise ValueError(f"no PROXY header begins with {data[:SHORTEST]!r}")
    if len(data) < HEAD.size:
        return HEAD.size
    return HEAD.size + int.from_bytes(data[14:16], "big")


def parse_proxy_header(data: bytes) -> ProxyHeader:
    """Read a whole header.

    Raises:
        ValueError: it breaks the protocol; the message says how.
    """
    return _parse_line(data) if data.startswith(b"PROXY ") else _parse_binary(data)


def build_proxy_header(header: ProxyHeader) -> bytes:
    """The bytes of a header.

    Raises:
        ValueError: version 1 cannot say this (a path, TLVs), or the two ends are of different families.
    """
    return _build_line(header) if header.version == 1 else _build_binary(header)


def _parse_line(data: bytes) -> ProxyHeader:
    if not data.endswith(b"\r\n") or len(data) > LONGEST_LINE:
        raise ValueError(f"a PROXY line has at most {LONGEST_LINE} bytes and ends in CR LF, unlike {data[:120]!r}")
    words = data[:-2].split(b" ")
    if words[1:2] == [b"UNKNOWN"]:
        return ProxyHeader(version=1)
    try:
        _, family, source, destination, source_port, destination_port = words
        address = _KINDS[family]
        return ProxyHeader(
            SocketAddress(_plain(address(source.decode("ascii"))), _port(source_port)),
            SocketAddress(_plain(address(destination.decode("ascii"))), _port(destination_port)),
            1,
        )
    except (ValueError, KeyError) as error:
        raise ValueError(f"a PROXY line that says nothing: {data!r}") from error


_KINDS: dict[bytes, type[_Address]] = {b"TCP4": ipaddress.IPv4Address, b"TCP6": ipaddress.IPv6Address}


def _plain(address: _Address) -> str:
    """An IPv4 address in its own notation also where it was mapped, so that lists of addresses know it."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _port(digits: bytes) -> int:
    if not digits.isdigit() or (digits[:1] == b"0" and digits != b"0") or int(digits) > 65535:
        raise ValueError(digits)
    return int(digits)


def _parse_binary(data: bytes) -> ProxyHeader:
    signature, version_and_command, family, length = HEAD.unpack_from(data)
    body = data[HEAD.size :]
    if signature != SIGNATURE or version_and_command >> 4 != 2 or len(body) != length:
        raise ValueError(f"no PROXY header of version 2: {data[:16]!r}")
    command = version_and_command & 0xF
    if command > 1:
        raise ValueError(f"a PROXY header with the unknown command {command}")
    size = _SIZES.get(family >> 4, 0)
    if len(body) < size:
        raise ValueError(f"a PROXY header whose {len(body)} bytes are too few for its addresses")
    tlvs = _parse_tlvs(body[size:])
    for kind, value in tlvs:
        if kind == CRC32C:
            _check(data, value)
    if command == 0 or not size:
        return ProxyHeader(tlvs=tlvs)  # LOCAL: a connection of the proxy's own
    if family >> 4 == 3:
        ends = (body[:UNIX_PATH], body[UNIX_PATH:size])
        source, destination = (one.rstrip(b"\0").decode("utf-8", "surrogateescape") for one in ends)
        return ProxyHeader(source, destination, 2, tlvs)
    half = (size - 4) // 2
    ports = struct.unpack_from("!HH", body, size - 4)
    addresses = [_plain(ipaddress.ip_address(body[at : at + half])) for at in (0, half)]
    return ProxyHeader(SocketAddress(addresses[0], ports[0]), SocketAddress(addresses[1], ports[1]), 2, tlvs)


_SIZES = {1: 12, 2: 36, 3: 2 * UNIX_PATH}


def _parse_tlvs(data: bytes) -> tuple[tuple[int, bytes], ...]:
    tlvs = []
    at = 0
    while at < len(data):
        end = at + 3 + int.from_bytes(data[at + 1 : at + 3], "big")
        if at + 3 > len(data) or end > len(data):
            raise ValueError("a PROXY header whose last TLV is cut off")
        tlvs.append((data[at], data[at + 3 : end]))
        at = end
    return tuple(tlvs)


def _check(data: bytes, value: bytes) -> None:
    # The checksum was made with its own place filled with zeros.
    place = data.rfind(bytes([CRC32C, 0, 4]) + value)
    if len(value) != 4 or _crc32c(data[: place + 3] + bytes(4) + data[place + 7 :]) != int.from_bytes(value, "big"):
        raise ValueError("a PROXY header whose checksum is wrong")


def _crc32c(data: bytes) -> int:
    # RFC 3720 B.4; a header is short, and a table for it would be longer.
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _build_line(header: ProxyHeader) -> bytes:
    if header.tlvs:
        raise ValueError("tlvs are not allowed in version 1 of the PROXY protocol")
    if header.source is None or header.destination is None:
        return b"PROXY UNKNOWN\r\n"
    family, source, destination = _ends(header)
    kind = "TCP4" if family == 4 else "TCP6"
    return f"PROXY {kind} {source[0]} {destination[0]} {source[1]} {destination[1]}\r\n".encode("ascii")


def _build_binary(header: ProxyHeader) -> bytes:
    if any(not 0 <= kind <= 255 for kind, _ in header.tlvs):
        raise ValueError(f"tlvs={header.tlvs!r} are not allowed: a type is one byte")
    tlvs = b"".join(struct.pack("!BH", kind, len(value)) + value for kind, value in header.tlvs)
    if header.source is None or header.destination is None:
        return HEAD.pack(SIGNATURE, 0x20, 0, len(tlvs)) + tlvs
    if isinstance(header.source, str) and isinstance(header.destination, str):
        paths = [one.encode("utf-8", "surrogateescape") for one in (header.source, header.destination)]
        if max(map(len, paths)) > UNIX_PATH:
            raise ValueError(f"a path is not allowed to have more than {UNIX_PATH} bytes")
        family, body = 0x31, b"".join(path.ljust(UNIX_PATH, b"\0") for path in paths)
    else:
        version, source, destination = _ends(header)
        family = 0x11 if version == 4 else 0x21
        body = source[0].packed + destination[0].packed + struct.pack("!HH", source[1], destination[1])
    return HEAD.pack(SIGNATURE, 0x21, family, len(body) + len(tlvs)) + body + tlvs


def _ends(header: ProxyHeader) -> tuple[int, tuple[_Address, int], tuple[_Address, int]]:
    """(4 or 6, source, destination). An IPv4 address beside an IPv6 one goes as a mapped one."""
    if not isinstance(header.source, SocketAddress) or not isinstance(header.destination, SocketAddress):
        raise ValueError(f"{header!r} is not allowed: both ends must be addresses, or both paths (version 2)")
    source, destination = (_without_zone(one) for one in (header.source, header.destination))
    if source.version != destination.version:
        source, destination = (
            ipaddress.IPv6Address(f"::ffff:{one}") if one.version == 4 else one for one in (source, destination)
        )
    return source.version, (source, header.source.port), (destination, header.destination.port)


def _without_zone(address: SocketAddress) -> _Address:
    return ipaddress.ip_address(address.host.partition("%")[0])
