"""Addresses to text and back, as the manual's functions have it: nothing is looked up, and bad text is None."""

from __future__ import annotations

import ipaddress
import socket
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landline.address import (
    ip_address_string,
    ipv6_address_scope_id,
    parse_host,
    parse_ipv6_address,
    string_ip_address,
)


@pytest.fixture(autouse=True)
def _nothing_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> Any:
        raise AssertionError(f"looked up: {arguments}")

    for name in ("getaddrinfo", "gethostbyname_ex", "gethostbyaddr", "if_nametoindex", "if_indextoname", "socket"):
        monkeypatch.setattr(socket, name, refuse)


# ---- ip_address_string ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (0x7F000001, "127.0.0.1"),
        (0, "0.0.0.0"),
        (0xFFFFFFFF, "255.255.255.255"),
        (IPv4Address("192.0.2.1"), "192.0.2.1"),
        (IPv4Interface("192.0.2.1/24"), "192.0.2.1"),
        (IPv6Address("2001:DB8:0:0::00A0"), "2001:db8::a0"),
        (IPv6Address("::"), "::"),
        (IPv6Address("::ffff:192.0.2.1"), "::ffff:192.0.2.1"),
        (IPv6Address("fe80::1%eth0"), "fe80::1"),
        (IPv6Interface("fe80::1%eth0/64"), "fe80::1"),
    ],
)
def test_an_address_is_written_without_zone_and_prefix(address: Any, text: str) -> None:
    assert ip_address_string(address) == text


@pytest.mark.parametrize("address", [True, "127.0.0.1", None, b"\x7f\0\0\1", 1.0])
def test_what_is_no_address_is_not_written(address: Any) -> None:
    with pytest.raises(TypeError, match=r"address=.* is not allowed"):
        ip_address_string(address)


@pytest.mark.parametrize("address", [-1, 1 << 32])
def test_an_integer_beyond_32_bits_is_no_ipv4_address(address: int) -> None:
    with pytest.raises(ValueError, match=f"address={address} is not allowed"):
        ip_address_string(address)


# ---- string_ip_address ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1", IPv4Address("127.0.0.1")),
        ("255.255.255.255", IPv4Address("255.255.255.255")),
        ("::1", IPv6Address("::1")),
        ("::ffff:192.0.2.1", IPv6Address("::ffff:192.0.2.1")),
        ("fe80::1%eth0", IPv6Address("fe80::1%eth0")),
        ("2001:db8::1/64", IPv6Interface("2001:db8::1/64")),
    ],
)
def test_a_numeric_text_is_an_address(text: str, address: Any) -> None:
    assert string_ip_address(text) == address
    assert type(string_ip_address(text)) is type(address)


NO_ADDRESSES = [
    "", "localhost", "server.example", "1.2.3", "1.2.3.4.", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "0x7f.0.0.1",
    "2130706433", "1.2.3.4/8", ":", ":::", "1::2::3", "12345::", "g::", "::1%", "::1%a%b", "::1%et h0", "::1%a]",
    "[::1]", "::1/", "::1/129", "::1/-1", "::1/ffff::", "::1/64/64", "::1/64%eth0", "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9", "::1.2.3", "::1.2.3.4:5", "::\0", "http://[::1]/",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_other_text_is_none(text: str) -> None:
    assert string_ip_address(text) is None
    assert parse_ipv6_address(text) is None


@pytest.mark.parametrize("text", [" 127.0.0.1", "127.0.0.1\n", " ::1", "::1 "])
def test_white_space_makes_a_numeric_text_another_text(text: str) -> None:
    assert string_ip_address(text) is None


@pytest.mark.parametrize("function", [string_ip_address, parse_ipv6_address])
@pytest.mark.parametrize("text", [None, 1, b"::1", IPv6Address("::1")])
def test_what_is_no_text_is_refused(function: Any, text: Any) -> None:
    with pytest.raises(TypeError, match=r"text=.* is not allowed"):
        function(text)


@given(st.ip_addresses())
def test_text_and_back_is_the_same(address: Any) -> None:
    assert string_ip_address(ip_address_string(address)) == address
    assert parse_host(ip_address_string(address)).address == ip_address_string(address)


@given(st.text(alphabet="0123456789abcdefABCDEF:.%/ x\n", max_size=20) | st.text(max_size=10))
def test_any_text_is_an_address_or_none(text: str) -> None:
    """And an address only where ipaddress has the same opinion."""
    address = string_ip_address(text)
    assert (address is None) or str(address).partition("/")[0] == str(ipaddress.ip_address(text.partition("/")[0]))


# ---- parse_ipv6_address --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:0DB8::00a0", "2001:db8::a0"),
        ("1::", "1::"),
        ("::", "::"),
        ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
        ("::13.1.68.3", "::13.1.68.3"),
        ("0:0:0:0:0:FFFF:129.144.52.38", "::ffff:129.144.52.38"),
    ],
)
def test_every_spelling_of_an_ipv6_address_is_understood(text: str, canonical: str) -> None:
    address = parse_ipv6_address(text)
    assert address is not None
    assert ip_address_string(address) == canonical


def test_an_ipv4_address_is_no_ipv6_address() -> None:
    assert parse_ipv6_address("127.0.0.1") is None


@pytest.mark.parametrize("text", ["  ::1", "::1\t\n", "\r\n ::1 "])
def test_white_space_around_it_is_passed_over_unless_told_not_to(text: str) -> None:
    assert parse_ipv6_address(text) == IPv6Address("::1")
    assert parse_ipv6_address(text, trim_whitespace=False) is None


def test_a_part_of_the_text_may_be_meant() -> None:
    text = "address [2001:db8::1]:80"
    assert parse_ipv6_address(text, 9, 20) == IPv6Address("2001:db8::1")
    assert parse_ipv6_address(text, 9, text.index("]")) == IPv6Address("2001:db8::1")
    assert parse_ipv6_address(text, 9) is None
    assert parse_ipv6_address("x ::1 ", 1) == IPv6Address("::1")
    assert parse_ipv6_address("::1", end=2) == IPv6Address("::")


def test_a_zone_is_kept_whether_there_is_such_an_interface_or_not() -> None:
    address = parse_ipv6_address("fe80::1%no-such-interface")
    assert str(address) == "fe80::1%no-such-interface"


def test_a_prefix_is_kept_and_printed_and_otherwise_without_effect() -> None:
    address = parse_ipv6_address("2001:db8::1/64")
    assert isinstance(address, IPv6Address)
    assert str(address) == "2001:db8::1/64"
    assert ip_address_string(address) == "2001:db8::1"
    assert parse_host(address) == parse_host("2001:db8::1")._replace(text="2001:db8::1/64")


def test_a_prefix_may_follow_a_zone() -> None:
    address = parse_ipv6_address("fe80::1%7/64")
    assert isinstance(address, IPv6Address)
    assert str(address) == "fe80::1%7/64"
    assert ipv6_address_scope_id(address) == 7
    assert parse_host(address).address == "fe80::1%7"


def test_an_ipv4_address_with_a_prefix_is_a_host_too() -> None:
    assert parse_host(IPv4Interface("192.0.2.1/24")).address == "192.0.2.1"


# ---- ipv6_address_scope_id -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "scope"),
    [("fe80::1%4", 4), ("fe80::1%0", 0), ("fe80::1%eth0", "eth0"), ("fe80::1%4a", "4a"), ("fe80::1", 0), ("::1", 0)],
)
def test_a_zone_is_a_number_or_a_name_and_0_without_one(text: str, scope: int | str) -> None:
    address = parse_ipv6_address(text)
    assert address is not None
    assert ipv6_address_scope_id(address) == scope


@pytest.mark.parametrize("address", ["fe80::1%4", IPv4Address("192.0.2.1"), 1])
def test_only_ipv6_addresses_have_zones(address: Any) -> None:
    with pytest.raises(TypeError, match="IPv6Address"):
        ipv6_address_scope_id(address)
