"""What a host and a service may be, and what they become: the rules at the top of address.py, one by one."""

from __future__ import annotations

import ipaddress
import pickle
import socket
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landline.address import Host, SocketAddress, parse_host, parse_service, scope_id
from landline.errors import SocketCreateError

LOOPBACK = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), "lo")


# ---- numeric hosts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("１２７.０.０.１", "127.0.0.1"),
        (0x7F000001, "127.0.0.1"),
        (0xC0000201, "192.0.2.1"),
        (0, "0.0.0.0"),
        (0xFFFFFFFF, "255.255.255.255"),
        (ipaddress.IPv4Address("192.0.2.7"), "192.0.2.7"),
        ("::1", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:DB8::00A0", "2001:db8::a0"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        (ipaddress.IPv6Address("2001:db8::1"), "2001:db8::1"),
    ],
)
def test_a_numeric_host_has_one_spelling_and_no_name(host: Any, address: str) -> None:
    parsed = parse_host(host)
    assert (parsed.name, parsed.address) == (None, address)
    assert parsed.family == (socket.AF_INET6 if ":" in address else socket.AF_INET)


def test_an_int_has_its_most_significant_byte_first() -> None:
    assert parse_host(0x01020304).address == "1.2.3.4"


@given(st.ip_addresses())
def test_every_ipaddress_value_is_a_host(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    parsed = parse_host(address).address
    assert parsed is not None
    assert ipaddress.ip_address(parsed) == address
    assert parse_host(str(address)).address == parsed


@pytest.mark.parametrize("host", [-1, 0x1_0000_0000])
def test_an_int_beyond_32_bits_is_refused(host: int) -> None:
    with pytest.raises(ValueError, match=rf"host={host} is not allowed"):
        parse_host(host)


@pytest.mark.parametrize("host", [True, None, 1.5, b"localhost", ("localhost", 80), ipaddress.ip_network("::/0")])
def test_another_type_is_a_type_error_that_shows_it(host: Any) -> None:
    with pytest.raises(TypeError) as caught:
        parse_host(host)
    assert f"host={host!r} is not allowed" in str(caught.value)


@pytest.mark.parametrize(
    "host", ["127.1", "127.0.0.256", "010.0.0.1", "0x7f.0.0.1", "1.2.3.4.5", "2130706433", "a.1", "a.0x1F"]
)
def test_a_last_label_that_is_a_number_makes_an_address_or_an_error_never_a_name(host: str) -> None:
    with pytest.raises(ValueError, match="four decimal parts") as caught:
        parse_host(host)
    assert f"host={host!r}" in str(caught.value)


# ---- zones ---------------------------------------------------------------------------------------


def test_a_zone_is_kept_as_written() -> None:
    parsed = parse_host(f"FE80::0001%{LOOPBACK}")
    assert parsed.address == f"fe80::1%{LOOPBACK}"
    assert parse_host("fe80::1%7").address == "fe80::1%7"


def test_an_ipv6_address_object_keeps_its_scope_id() -> None:
    assert parse_host(ipaddress.IPv6Address(f"fe80::1%{LOOPBACK}")).address == f"fe80::1%{LOOPBACK}"


def test_a_zone_becomes_the_fourth_part_of_the_socket_address() -> None:
    index = socket.if_nametoindex(LOOPBACK)
    assert SocketAddress(f"fe80::1%{LOOPBACK}", 80).sockaddr() == ("fe80::1", 80, 0, index)
    assert SocketAddress("fe80::1%7", 80).sockaddr() == ("fe80::1", 80, 0, 7)
    assert SocketAddress("::1", 80).sockaddr() == ("::1", 80, 0, 0)
    assert SocketAddress("127.0.0.1", 80).sockaddr() == ("127.0.0.1", 80)


def test_a_socket_address_survives_the_way_through_the_system() -> None:
    index = socket.if_nametoindex(LOOPBACK)
    address = SocketAddress.from_sockaddr(("fe80::1", 80, 0, index))
    assert address == SocketAddress(f"fe80::1%{LOOPBACK}", 80)
    assert SocketAddress.from_sockaddr(address.sockaddr()) == address
    assert SocketAddress.from_sockaddr((f"fe80::1%{LOOPBACK}", 80, 0, index)) == address
    unknown = 0x7FFFFFFE
    assert SocketAddress.from_sockaddr(("fe80::1", 80, 0, unknown)).host == f"fe80::1%{unknown}"


@pytest.mark.parametrize(
    "zone", ["no-such-if0", "4294967296", pytest.param("9" * 5000, id="5000 digits"), "é", "\ud800"]
)
def test_a_zone_that_is_no_interface_is_a_create_error_and_a_value_error(zone: str) -> None:
    host = f"fe80::1%{zone}"
    with pytest.raises(SocketCreateError, match="no network interface") as caught:
        parse_host(host)
    assert isinstance(caught.value, ValueError)
    assert f"host={host!r}" in str(caught.value)
    assert caught.value.address == zone
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("host", ["fe80::1%", "fe80::1%a/b", "fe80::1%a%b", "fe80::1%a b", "fe80::1%a\0"])
def test_what_is_no_zone_at_all_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="is no zone") as caught:
        parse_host(host)
    assert f"host={host!r}" in str(caught.value)


def test_only_ipv6_addresses_have_zones() -> None:
    with pytest.raises(ValueError, match=r"host='127\.0\.0\.1%lo' is not allowed"):
        parse_host("127.0.0.1%lo")


def test_a_scope_id_is_a_number_of_32_bits() -> None:
    assert scope_id("4294967295") == 0xFFFFFFFF
    assert scope_id(LOOPBACK) == socket.if_nametoindex(LOOPBACK)


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost", "localhost"),
        ("WWW.Example.COM", "www.example.com"),
        ("faß.de", "xn--fa-hia.de"),  # IDNA 2003 makes it fass.de: another owner
        ("FASS.de", "fass.de"),
        ("straße.example", "xn--strae-oqa.example"),
        ("Bücher.example", "xn--bcher-kva.example"),
        ("βόλος.com", "xn--nxasmm1c.com"),  # the final sigma, kept by IDNA 2008
        ("نامه‌ای.com", "xn--mgba3gch31f060k.com"),  # the zero width non-joiner, likewise
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),  # an ideographic full stop is a dot
        ("ｅｘａｍｐｌｅ.com", "example.com"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("_sip._tcp.example.com", "_sip._tcp.example.com"),
        ("-odd-.ex--ample.com", "-odd-.ex--ample.com"),
        ("a_ü.example", None),
        ("a." * 126 + "b", "a." * 126 + "b"),
        ("x" * 63, "x" * 63),
        ("1e5", "1e5"),
        ("1.example", "1.example"),
    ],
)
def test_names_are_encoded_once_by_uts_46_and_idna_2008(host: str, name: str | None) -> None:
    if name is None:
        with pytest.raises(ValueError, match="IDNA 2008"):
            parse_host(host)
        return
    assert parse_host(host) == Host(host, name, None)
    assert parse_host(name).name == name


def test_a_trailing_dot_is_remembered_apart_from_the_name() -> None:
    assert parse_host("example.com.") == Host("example.com.", "example.com", None, rooted=True)
    assert not parse_host("example.com").rooted


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("", "must not be empty"),
        ("localhost:80", "looks like host:port; give the port as the service"),
        ("[::1]", "without brackets"),
        ("[::1]:80", "without brackets"),
        ("http://example.com/", "this is a URL; give its host alone"),
        ("1:2:3", "not a numeric IPv6 address"),
        (":", "looks like host:port"),
        ("host\0name", r"no '\x00' in it"),
        ("example.com\n", r"no '\n' in it"),
        ("two words", "no ' ' in it"),
        ("user@example.com", "no '@' in it"),
        ("example.com/path", "no '/' in it"),
        ("a／b", "no '/' in it"),  # a full-width solidus, mapped to a plain one
        ("☕.example", "IDNA 2008"),
        ("\ud800.example", "IDNA 2008"),
        ("ü\0", "IDNA 2008"),
        ("\u00ad", "1 to 63 characters"),  # a soft hyphen, mapped to nothing
        (".", "1 to 63 characters"),
        ("a..b", "1 to 63 characters"),
        (".example.com", "1 to 63 characters"),
        ("x" * 64, "1 to 63 characters"),
        ("a." * 127 + "b", "at most 253 characters"),
        ("ä" * 64, "IDNA 2008"),
    ],
)
def test_what_is_no_host_is_refused_by_name_and_reason(host: str, told: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_host(host)
    assert str(caught.value).startswith(f"host={host!r} is not allowed")
    assert told in str(caught.value)
    with pytest.raises(ValueError, match=r"^local_address="):
        parse_host(host, "local_address")


@given(st.text())
def test_any_text_is_a_host_or_a_value_error(text: str) -> None:
    try:
        parsed = parse_host(text)
    except ValueError:
        return
    assert parsed.text == text
    assert (parsed.name is None) != (parsed.address is None)
    if parsed.name is not None:
        assert parsed.name.isascii()
        assert parsed.name == parsed.name.lower()
        assert not parsed.name.endswith(".")
        assert parse_host(parsed.name).name == parsed.name


def test_idna_is_not_imported_for_names_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "idna", None)
    assert parse_host("example.com").name == "example.com"
    with pytest.raises(ImportError):
        parse_host("niemand-größer.example")  # a name nobody has parsed before: parsed hosts are kept


# ---- services ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "port"),
    [(0, 0), (80, 80), (65535, 65535), ("80", 80), ("0", 0), ("00080", 80), ("http", 80), ("https", 443)],
)
def test_a_service_is_a_port_digits_or_a_name(service: int | str, port: int) -> None:
    assert parse_service(service) == port


@pytest.mark.parametrize("service", [-1, 65536, 70000, "65536", "70000", pytest.param("9" * 5000, id="5000 digits")])
def test_a_port_beyond_16_bits_is_refused(service: int | str) -> None:
    with pytest.raises(ValueError, match="a port is a number from 0 to 65535") as caught:
        parse_service(service)
    assert str(caught.value).startswith("service=")
    if len(str(service)) < 10:
        assert f"service={int(service)!r}" in str(caught.value)


@pytest.mark.parametrize("service", [None, True, 80.0, b"http"])
def test_a_service_of_another_type_is_a_type_error_that_shows_it(service: Any) -> None:
    with pytest.raises(TypeError) as caught:
        parse_service(service)
    assert f"service={service!r} is not allowed" in str(caught.value)


@pytest.mark.parametrize("service", ["", "\0", "http\0"])
def test_what_is_no_service_name_is_refused(service: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_service(service, what="local_port")
    assert f"local_port={service!r} is not allowed" in str(caught.value)


@pytest.mark.parametrize("service", ["no-such-service", "-1", "80 ", "٨٠", "\ud800", "http/tcp"])
def test_an_unknown_service_is_a_create_error_and_a_value_error_that_names_it(service: str) -> None:
    with pytest.raises(SocketCreateError) as caught:
        parse_service(service)
    assert isinstance(caught.value, ValueError)
    assert f"service={service!r} is unknown" in str(caught.value)
    assert (caught.value.operation, caught.value.address) == ("service", service)
    assert caught.value.__cause__ is not None


@pytest.fixture
def no_services_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def getservbyname(name: str, protocol: str = "tcp") -> int:
        raise OSError("service/proto not found")

    monkeypatch.setattr(socket, "getservbyname", getservbyname)


@pytest.mark.usefixtures("no_services_file")
@pytest.mark.parametrize(
    ("service", "port"),
    [("http", 80), ("HTTP", 80), ("https", 443), ("smtp", 25), ("submission", 587), ("imaps", 993), ("redis", 6379)],
)
def test_without_a_services_file_the_common_names_are_known(service: str, port: int) -> None:
    assert parse_service(service) == port


@pytest.mark.usefixtures("no_services_file")
def test_without_a_services_file_an_uncommon_name_is_unknown() -> None:
    with pytest.raises(SocketCreateError, match="'gopherd' is unknown"):
        parse_service("gopherd")


def test_the_fallback_agrees_with_this_machines_services_file() -> None:
    from landline.address import _COMMON_SERVICES

    known: dict[str, int] = {}
    for name in _COMMON_SERVICES:
        try:
            known[name] = socket.getservbyname(name, "tcp")
        except OSError:
            continue
    assert known == {name: _COMMON_SERVICES[name] for name in known}


def test_the_services_file_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getservbyname", lambda name, protocol: 8000)
    assert parse_service("http") == 8000


# ---- socket addresses ----------------------------------------------------------------------------


def test_a_socket_address_reads_as_people_write_it() -> None:
    assert str(SocketAddress("127.0.0.1", 80)) == "127.0.0.1:80"
    assert str(SocketAddress("fe80::1%eth0", 80)) == "[fe80::1%eth0]:80"


def test_a_socket_address_is_a_plain_value() -> None:
    address = SocketAddress("fe80::1%eth0", 80)
    host, port = address
    assert (host, port) == ("fe80::1%eth0", 80)
    assert address.family == socket.AF_INET6
    assert address.ip == ipaddress.IPv6Address("fe80::1%eth0")
    assert SocketAddress("127.0.0.1", 80).ip == ipaddress.IPv4Address("127.0.0.1")
    assert pickle.loads(pickle.dumps(address)) == address
    assert {address: 1}[SocketAddress("fe80::1%eth0", 80)] == 1
