"""Which address first: RFC 6724 section 6, as a sort key.

The system's getaddrinfo sorts by these rules, but only within one answer. landline asks for each family
apart, so that neither waits for the other, and sorts again across the two answers; otherwise a machine
without working IPv6 would try it first every time.

The source address the system would use is found by the driver (a UDP connect sends nothing) and comes in
as text; None means there is no route. Rules 3, 4 and 7 (deprecated and home addresses, native transport)
need facts that no portable call gives, and are left out, as Go and musl leave them out.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

__all__ = ["rank"]

Rank: TypeAlias = tuple[bool, bool, bool, int, int, int]


def rank(destination: str, source: str | None) -> Rank:
    """A sort key for ``destination``: smaller is tried first. Comparable across families.

    Args:
        destination: a numeric address, with or without %zone.
        source: the source address the system would use for it; None when it has none (no route).
    """
    target = _mapped(destination)
    scope = _scope(target)
    precedence, label = _policy(target)
    if source is None:
        return (True, True, True, -precedence, scope, 0)
    origin = _mapped(source)
    return (
        False,  # rule 1: avoid unusable destinations
        scope != _scope(origin),  # rule 2: prefer matching scope
        label != _policy(origin)[1],  # rule 5: prefer matching label
        -precedence,  # rule 6: prefer higher precedence
        scope,  # rule 8: prefer smaller scope
        -_common_prefix(target, origin),  # rule 9: longest matching prefix
    )


# RFC 6724 section 2.1, the default policy table: prefix, precedence, label; the longest prefix decides.
_POLICY = [
    (IPv6Network(prefix), precedence, label)
    for prefix, precedence, label in (
        ("::1/128", 50, 0),
        ("::ffff:0:0/96", 35, 4),
        ("::/96", 1, 3),
        ("2001::/32", 5, 5),
        ("2002::/16", 30, 2),
        ("3ffe::/16", 1, 12),
        ("fec0::/10", 1, 11),
        ("fc00::/7", 3, 13),
        ("::/0", 40, 1),
    )
]

_LINK_LOCAL = 0x2
_SITE_LOCAL = 0x5
_GLOBAL = 0xE


@lru_cache(maxsize=256)
def _mapped(address: str) -> IPv6Address:
    parsed = ip_address(address.partition("%")[0])
    return IPv6Address(f"::ffff:{parsed}") if isinstance(parsed, IPv4Address) else parsed


@lru_cache(maxsize=256)
def _policy(address: IPv6Address) -> tuple[int, int]:
    return next((precedence, label) for prefix, precedence, label in _POLICY if address in prefix)


def _scope(address: IPv6Address) -> int:
    # RFC 6724 section 3.1 (IPv6) and 3.2 (IPv4: loopback and 169.254/16 are link-local, the rest global).
    inner = address.ipv4_mapped
    if inner is not None:
        return _LINK_LOCAL if inner.is_loopback or inner.is_link_local else _GLOBAL
    if address.is_multicast:
        return address.packed[1] & 0x0F
    if address.is_loopback or address.is_link_local:
        return _LINK_LOCAL
    return _SITE_LOCAL if address.is_site_local else _GLOBAL


def _common_prefix(target: IPv6Address, origin: IPv6Address) -> int:
    # Only the 64 bits of the subnet count (RFC 6724 section 2.2). In them all IPv4 addresses are alike, and that is
    # as it should be: IPv4 prefixes say nothing about closeness, and sorting by them defeats round-robin DNS.
    difference = (int(target) ^ int(origin)) >> 64
    return 64 - difference.bit_length()
