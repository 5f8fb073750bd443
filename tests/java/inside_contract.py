"""The contract of streams (landline.testing.contract) over TLS through Java.

Every clause once, with its variants, versions and ways to wait in turn; LANDLINE_FULL=1 runs all of them with all.
"""

from __future__ import annotations

import ssl
from functools import partial
from itertools import product

import pytest
from java_side import FULL, java_pair, trusting, trusting_sockets, way_fixture
from pairs import WAITS
from tls_support import V12, V13

from landline.testing.contract import CHECKS, Check

__all__ = ["way_fixture"]

pytestmark = pytest.mark.usefixtures("way", "no_leaks")

WAYS = tuple(product(WAITS, (V13, V12)))

KEEPS_PACE = "both_sides_may_write_more_than_the_buffers_before_they_read"
"""Ends when one side has read all: fails when that is much faster than the other. An SSLSocket is slow at reading."""


def name_of(check: Check) -> str:
    return check.name.partition("-")[0]


def all_or_some(every: int = 1) -> list[tuple[Check, str, ssl.TLSVersion]]:
    """Of each clause one variant, and of these every so many; with LANDLINE_FULL everything."""
    if FULL:
        return [(check, *way) for check in CHECKS for way in WAYS]
    names = list(dict.fromkeys(map(name_of, CHECKS)))
    chosen = []
    for number, name in enumerate(names[::every]):
        variants = [check for check in CHECKS if name_of(check) == name]
        chosen.append((variants[number % len(variants)], *WAYS[number % len(WAYS)]))
    return chosen


@pytest.mark.parametrize(("check", "waits", "version"), all_or_some(), ids=str)
def test_an_engine(check: Check, waits: str, version: ssl.TLSVersion) -> None:
    check(partial(java_pair, WAITS[waits], version, trusting))


@pytest.mark.parametrize(("check", "waits", "version"), all_or_some(4), ids=str)
def test_a_socket_of_a_factory(check: Check, waits: str, version: ssl.TLSVersion) -> None:
    if name_of(check) != KEEPS_PACE:
        check(partial(java_pair, WAITS[waits], version, trusting_sockets))
