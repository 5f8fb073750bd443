"""RFC 6724 section 6, rule by rule: which of two destinations is tried first.

The tables hold pairs (destination, the source the system would use for it), the one to be tried first first. That is
what section 10.2 of the RFC does; its examples are here with addresses of our own, as far as the rules they show
need no facts that no portable call gives (home and deprecated addresses, encapsulated transport).
"""

from __future__ import annotations

from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landline.engine.destination import rank

Route: TypeAlias = tuple[str, str | None]

V6 = ("2001:db8:a::80", "2001:db8:a::7")
V4 = ("198.51.100.80", "198.51.100.7")
PRIVATE_V4 = ("10.1.2.3", "10.9.9.9")
TEREDO_SOURCE = "2001:0:1::7"
SIX_TO_FOUR_SOURCE = "2002:c633:6407::7"


def no_route(route: Route) -> Route:
    return route[0], None


@pytest.mark.parametrize(
    ("rule", "first", "second"),
    [
        # rule 1: unusable destinations last
        ("1: no route to IPv6", V4, no_route(V6)),
        ("1: no route to IPv4", V6, no_route(V4)),
        ("1: outweighs rule 2", ("2001:db8:a::80", "fe80::7%eth0"), no_route(V4)),
        ("1: outweighs rule 5", ("2001:db8:a::80", SIX_TO_FOUR_SOURCE), no_route(V4)),
        ("1: outweighs rules 2, 5 and 6 together", ("fd00:1::80", "fe80::7"), no_route(V6)),
        ("1: outweighs rule 6", ("fd00:1::80", "fd00:1::7"), no_route(V6)),
        ("1: among the unusable, rule 6 decides", no_route(V6), no_route(V4)),
        ("1: among the unusable, rule 8 decides", no_route(("fe80::80", None)), no_route(V6)),
        # rule 2: the scope of the destination is that of its source
        ("2, 10.2: IPv4 has a link-local source only", V6, ("198.51.100.80", "169.254.13.7")),
        ("2, 10.2: IPv6 has a link-local source only", V4, ("2001:db8:a::80", "fe80::7")),
        ("2: the same with a zone", V4, ("2001:db8:a::80", "fe80::7%eth0")),
        ("2: outweighs rule 5", ("2001:db8:a::80", SIX_TO_FOUR_SOURCE), ("198.51.100.80", "127.0.0.1")),
        ("2: global multicast, by the scope in its second byte", ("ff0e::1", V6[1]), ("ff02::1", V6[1])),
        ("2: link-local multicast", ("ff02::1", "fe80::7"), ("ff03::1", "fe80::7")),
        ("2: site-local multicast", ("ff05::1", "fec0::7"), ("ff04::1", "fec0::7")),
        ("2: site-local from a global source", V4, ("fec0::80", V6[1])),
        ("2: a private IPv4 address is global", PRIVATE_V4, ("2001:db8:a::80", "fe80::7")),
        # rule 5: the label of the destination is that of its source
        ("5, 10.2: 6to4 to 6to4", ("2002:c633:6450::80", SIX_TO_FOUR_SOURCE), ("2001:db8:a::80", SIX_TO_FOUR_SOURCE)),
        ("5: 6to4 to native, against IPv4", V4, ("2001:db8:a::80", SIX_TO_FOUR_SOURCE)),
        ("5: Teredo to native, against IPv4", V4, ("2001:db8:a::80", TEREDO_SOURCE)),
        ("5: ULA to native, against IPv4", V4, ("2001:db8:a::80", "fd00:1::7")),
        ("5: native to ULA, against IPv4", V4, ("fd00:1::80", V6[1])),
        ("5: ULA to ULA, against ULA to native", ("fd00:1::80", "fd00:1::7"), ("2001:db8:a::80", "fd00:1::7")),
        # rule 6: precedence, the default policy table of section 2.1
        ("6, 10.2: native IPv6, then IPv4", V6, PRIVATE_V4),
        ("6, 10.2: native IPv6, then 6to4", V6, ("2002:c633:6450::80", SIX_TO_FOUR_SOURCE)),
        ("6: IPv4, then 6to4", V4, ("2002:c633:6450::80", SIX_TO_FOUR_SOURCE)),
        ("6: 6to4, then Teredo", ("2002:c633:6450::80", SIX_TO_FOUR_SOURCE), ("2001:0:2::80", TEREDO_SOURCE)),
        ("6: IPv4, then Teredo", V4, ("2001:0:2::80", TEREDO_SOURCE)),
        ("6: Teredo, then ULA", ("2001:0:2::80", TEREDO_SOURCE), ("fd00:1::80", "fd00:1::7")),
        ("6: global IPv6, then ULA", V6, ("fd00:1::80", "fd00:1::7")),
        ("6: IPv4, then ULA", V4, ("fd00:1::80", "fd00:1::7")),
        ("6: ULA, then 6bone", ("fd00:1::80", "fd00:1::7"), ("3ffe::80", "3ffe::7")),
        ("6: ULA, then IPv4-compatible", ("fd00:1::80", "fd00:1::7"), ("::192.0.2.80", "::192.0.2.7")),
        ("6: ULA, then site-local, whose scope is smaller", ("fd00:1::80", "fd00:1::7"), ("fec0::80", "fec0::7")),
        ("6: loopback, IPv6 then IPv4", ("::1", "::1"), ("127.0.0.1", "127.0.0.1")),
        ("6: loopback, then anything", ("::1", "::1"), V6),
        ("6: outweighs rule 8", V6, ("169.254.1.80", "169.254.13.7")),
        # rule 8: the smaller scope
        ("8, 10.2: link-local IPv6, then global", ("fe80::80", "fe80::7"), V6),
        ("8: the same with zones", ("fe80::80%eth0", "fe80::7%eth0"), V6),
        ("8: loopback IPv4, then global", ("127.0.0.1", "127.0.0.1"), V4),
        ("8: link-local IPv4, then global", ("169.254.1.80", "169.254.13.7"), V4),
        ("8: outweighs rule 9", ("fe80:0:0:1::80", "fe80::7"), V6),
        # rule 9: the longer common prefix, of IPv6 addresses
        ("9, 10.2", V6, ("2001:db8:1234::80", "2001:db8:1fff::7")),
        ("9: the last bit of the subnet", ("2001:db8::80", "2001:db8::7"), ("2001:db8::80", "2001:db8:0:1::7")),
        ("9: one bit more", ("2001:db8::80", "2001:db8:0:2::7"), ("2001:db8::80", "2001:db8:0:4::7")),
    ],
)  # fmt: skip
def test_the_first_goes_first(rule: str, first: Route, second: Route) -> None:
    """Each row is named after the rule that decides it; "10.2" marks the RFC's own cases."""
    assert rank(*first) < rank(*second), rule


@pytest.mark.parametrize(
    ("why", "one", "other"),
    [
        ("9: the 64 bits of the subnet, no more", ("2001:db8::80", "2001:db8::81"), ("2001:db8::80", "2001:db8::ff00")),
        ("9 is not for IPv4: it would undo round-robin DNS", ("10.0.0.80", "10.0.0.81"), ("203.0.113.80", "10.0.0.81")),
        ("IPv4 inside IPv6 is IPv4", ("::ffff:10.0.0.80", "::ffff:10.0.0.81"), ("203.0.113.80", "10.0.0.81")),
        ("a zone says which link, not how good it is", ("fe80::80%eth0", "fe80::7%eth0"), ("fe80::80%1", "fe80::7")),
    ],
)  # fmt: skip
def test_neither_goes_first(why: str, one: Route, other: Route) -> None:
    """Rule 10: the order stays as the resolver gave it."""
    assert rank(*one) == rank(*other), why


# RFC 6724 section 2.1: an address of each prefix, and its precedence. No two prefixes have one label.
POLICY = {
    "::1": 50,
    "2001:db8::1": 40,
    "192.0.2.1": 35,
    "2002:c633:6401::1": 30,
    "2001:0:1::1": 5,
    "fd00::1": 3,
    "::192.0.2.1": 1,
    "fec0::1": 1,
    "3ffe::1": 1,
}


@pytest.mark.parametrize("address", POLICY)
def test_the_default_policy_table(address: str) -> None:
    """RFC 6724 section 2.1, in the places that rules 6 and 5 have in a rank."""
    assert rank(address, address)[3] == -POLICY[address]
    assert [source for source in POLICY if not rank(address, source)[2]] == [address]


MACHINES: dict[str, tuple[dict[str, str | None], list[str]]] = {
    "both families": (
        {"2001:db8:a::80": "2001:db8:9::7", "fd00:1::80": "2001:db8:9::7", "198.51.100.80": "10.0.0.7"},
        ["2001:db8:a::80", "198.51.100.80", "fd00:1::80"],
    ),
    "IPv4 only": (
        {"2001:db8:a::80": None, "fd00:1::80": None, "198.51.100.80": "10.0.0.7"},
        ["198.51.100.80", "2001:db8:a::80", "fd00:1::80"],
    ),
    "IPv6 only": (
        {"2001:db8:a::80": "2001:db8:9::7", "fd00:1::80": "2001:db8:9::7", "198.51.100.80": None},
        ["2001:db8:a::80", "fd00:1::80", "198.51.100.80"],
    ),
    "IPv4, and ULA inside the site": (
        {"2001:db8:a::80": None, "fd00:1::80": "fd00:1::7", "198.51.100.80": "10.0.0.7"},
        ["198.51.100.80", "fd00:1::80", "2001:db8:a::80"],
    ),
    "IPv4, and a default route by 6to4": (
        {"2001:db8:a::80": SIX_TO_FOUR_SOURCE, "fd00:1::80": SIX_TO_FOUR_SOURCE, "198.51.100.80": "10.0.0.7"},
        ["198.51.100.80", "2001:db8:a::80", "fd00:1::80"],
    ),
    "IPv4, and a default route by Teredo": (
        {"2001:db8:a::80": TEREDO_SOURCE, "fd00:1::80": TEREDO_SOURCE, "198.51.100.80": "10.0.0.7"},
        ["198.51.100.80", "2001:db8:a::80", "fd00:1::80"],
    ),
    "IPv4, and IPv6 on the link alone": (
        {"2001:db8:a::80": "fe80::7%eth0", "fe80::80%eth0": "fe80::7%eth0", "198.51.100.80": "10.0.0.7"},
        ["fe80::80%eth0", "198.51.100.80", "2001:db8:a::80"],
    ),
    "nothing but loopback": (
        {"2001:db8:a::80": None, "198.51.100.80": None, "::1": "::1", "127.0.0.1": "127.0.0.1"},
        ["::1", "127.0.0.1", "2001:db8:a::80", "198.51.100.80"],
    ),
    "loopback without IPv6": (
        {"::1": None, "127.0.0.1": "127.0.0.1"},
        ["127.0.0.1", "::1"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES)
def test_the_order_on_a_machine_that_has(machine: str) -> None:
    """Whole lists, whatever order the two lookups bring them in."""
    sources, expected = MACHINES[machine]
    for given_order in (list(sources), list(reversed(sources))):
        assert sorted(given_order, key=lambda address: rank(address, sources[address])) == expected


numeric = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@given(st.lists(st.tuples(numeric, st.none() | numeric), min_size=2, max_size=6))
def test_any_ranks_can_be_sorted_and_the_unusable_come_last(routes: list[Route]) -> None:
    """Families, scopes and missing routes mixed: every rank has one shape, and rule 1 stands above the rest."""
    usable = [source is not None for _, source in sorted(routes, key=lambda route: rank(*route))]
    assert usable == sorted(usable, reverse=True)
