"""comm's addresses, hosts and services: the manual's own values.

Source: LispWorks manual, 25.3, get-host-entry, get-service-entry, get-socket-address, ip-address-string,
string-ip-address, parse-ipv6-address, ipv6-address.
"""

from __future__ import annotations

import inspect
import socket
from ipaddress import IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lisp_pairs import (
    near_and_far,
)
from pages import LOOPBACK
from pairs import connect
from test_lookup import System, system  # noqa: F401 - the latter is a fixture

from landline import comm
from landline.comm import addresses

pytestmark = pytest.mark.usefixtures("quick_leak_checks")

LISPWORKS = 0xCC47B14B
"""The manual's example: 204.71.177.75."""

LOCAL = 0x7F000001

asking: Any = comm.get_host_entry
"""It, for arguments that a type checker would refuse."""


# ---- values and their text -----------------------------------------------------------------------------------


def test_an_ipv4_address_is_an_integer_its_first_part_first() -> None:
    assert comm.string_ip_address("204.71.177.75") == LISPWORKS
    assert comm.ip_address_string(LISPWORKS) == "204.71.177.75"
    assert comm.string_ip_address("0.0.0.1") == 1
    assert comm.ip_address_string(0) == "0.0.0.0"


@given(st.integers(0, 0xFFFFFFFF))
def test_ipv4_addresses_and_their_text_go_both_ways(number: int) -> None:
    assert comm.string_ip_address(comm.ip_address_string(number)) == number
    assert comm.ip_address_string(number) == ".".join(map(str, number.to_bytes(4, "big")))


@given(st.integers(0, 2**128 - 1))
def test_ipv6_addresses_and_their_text_go_both_ways(number: int) -> None:
    address = IPv6Address(number)
    for text in (comm.ip_address_string(address), comm.ipv6_address_string(address)):
        assert comm.string_ip_address(text) == comm.parse_ipv6_address(text) == address
    assert comm.ipv6_address_string(address) == socket.inet_ntop(socket.AF_INET6, address.packed)


@pytest.mark.parametrize(
    "text", ["", "name", "1.2.3", "1.2.3.256", " 1.2.3.4", "::1 ", "1::2::3", "1.2.3.4:80", "[::1]"]
)
def test_other_text_is_no_address(text: str) -> None:
    assert comm.string_ip_address(text) is None


def test_ipv6_addresses_keep_their_scope_beside_their_text() -> None:
    for text, scope in (("fe80::1", 0), ("fe80::1%3", 3), ("fe80::1%eth0", "eth0"), ("fe80::1%eth0/64", "eth0")):
        address = comm.parse_ipv6_address(text)
        assert address is not None
        assert comm.ipv6_address_p(address)
        assert comm.ipv6_address_scope_id(address) == scope
        assert comm.ipv6_address_string(address) == comm.ip_address_string(address) == "fe80::1"


def test_parse_ipv6_address_takes_a_part_and_trims_it() -> None:
    text = "[ ::ffff:1.2.3.4 ]"
    wanted = IPv6Address("::ffff:102:304")
    assert comm.parse_ipv6_address(text, start=1, end=17) == wanted
    assert comm.parse_ipv6_address(text, start=2, end=16) == wanted
    assert comm.parse_ipv6_address(text) is None
    assert comm.parse_ipv6_address(" ::1\n") == IPv6Address("::1")
    assert comm.parse_ipv6_address(" ::1", trim_whitespace=False) is None
    assert comm.parse_ipv6_address("1.2.3.4") is None


def test_what_is_an_ipv6_address() -> None:
    assert comm.ipv6_address is IPv6Address
    assert comm.ipv6_address_p(comm.string_ip_address("::1"))
    for other in (1, "::1", None, comm.string_ip_address("127.0.0.1")):
        assert comm.ipv6_address_p(other) is False
    for wrong in (LOCAL, "::1", None):
        with pytest.raises(TypeError, match="address="):
            comm.ipv6_address_string(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="address="):
            comm.ipv6_address_scope_id(wrong)  # type: ignore[arg-type]


# ---- of handles and streams ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_leaks")
def test_addresses_of_handles_and_streams_are_pairs() -> None:
    with near_and_far() as (stream, far):
        handle = comm.socket_stream_socket(stream)
        assert handle is not None
        near_port, far_port = far.getpeername()[1], far.getsockname()[1]
        for own in (comm.get_socket_address(handle), comm.socket_stream_address(stream)):
            assert own == (LOCAL, near_port)
        for peer in (
            comm.get_socket_peer_address(handle),
            comm.socket_stream_peer_address(stream),
            comm.socket_connection_peer_address(stream),
        ):
            assert peer == (LOCAL, far_port)
        assert comm.socket_connection_address(stream) == (LOCAL, near_port)
        assert comm.socket_connection_socket(stream) is handle
    assert comm.socket_stream_address(stream) == (LOCAL, near_port)  # also when it is closed
    assert comm.socket_stream_peer_address(stream) == (LOCAL, far_port)
    for read in (comm.get_socket_address, comm.get_socket_peer_address):
        with pytest.raises(comm.socket_io_error, match="closed"):
            read(handle)
        with pytest.raises(TypeError, match="socket=5"):
            read(5)  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_leaks")
def test_ipv6_addresses_are_values() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        assert comm.get_socket_address(listener) == (IPv6Address("::1"), listener.getsockname()[1])
        assert comm.get_socket_peer_address(listener) == (None, None)
        with comm.open_tcp_stream("::1", listener.getsockname()[1]) as stream:
            assert comm.socket_stream_peer_address(stream) == comm.get_socket_address(listener)
            listener.accept()[0].close()


@pytest.mark.usefixtures("no_leaks")
def test_what_has_no_address_of_ip_has_none() -> None:
    one, two = socket.socketpair(socket.AF_UNIX)
    with one, two:
        assert comm.get_socket_address(one) == (None, None)
        with comm.socket_stream(socket=one) as stream:
            assert comm.socket_stream_address(stream) == (None, None)
            assert comm.socket_connection_peer_address(stream) == (None, None)


@pytest.mark.usefixtures("no_leaks")
def test_a_peer_that_has_reset_the_connection_has_no_address() -> None:
    near, far = connect()
    with near:
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()
        with pytest.raises(ConnectionResetError):
            near.recv(1)
        assert comm.get_socket_peer_address(near) == (None, None)
        assert comm.get_socket_address(near)[0] == LOCAL


# ---- hosts ---------------------------------------------------------------------------------------------------


@pytest.fixture(name="known")
def known_fixture(request: pytest.FixtureRequest) -> System:
    """A host with two addresses of each family, one with IPv4 addresses only, and one that there is not."""
    made: System = request.getfixturevalue("system")
    made.say(
        "both.example", ["192.0.2.1", "192.0.2.2"], ["2001:db8::1", "2001:db8::2"], canonical="host", aliases=["alias"]
    )
    made.say("four.example", ["192.0.2.4"])
    made.say("nowhere.example")
    return made


FOUR = [0xC0000201, 0xC0000202]
SIX = [IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")]


@pytest.mark.usefixtures("known")
def test_get_host_entry_gives_a_value_for_each_field() -> None:
    fields = {
        "ipv4-address": FOUR[0],
        "ipv6-address": SIX[0],
        "ipv4-addresses": FOUR,
        "ipv6-addresses": SIX,
        "address": SIX[0],
        "addresses": SIX + FOUR,
        "name": "host",
        "aliases": ["alias"],
    }
    assert asking("both.example") == SIX[0]
    for field, value in fields.items():
        assert asking("both.example", fields=[field]) == value
        assert asking("both.example", fields=(f":{field.upper()}",)) == value
    assert asking("both.example", fields=list(fields)) == tuple(fields.values())
    assert asking("both.example", fields=()) == ()


@pytest.mark.usefixtures("known")
def test_ipv6_chooses_the_families() -> None:
    for ipv6, found in ((True, SIX), (None, FOUR), (False, FOUR)):
        assert asking("both.example", fields=["addresses"], ipv6=ipv6) == found
    assert asking("four.example", fields=["address", "ipv6-address", "ipv6-addresses"]) == (0xC0000204, None, [])


@pytest.mark.usefixtures("known")
def test_v4mapped_stands_in_for_ipv6_addresses() -> None:
    mapped = IPv6Address("::ffff:192.0.2.4")
    assert asking("four.example", ipv6=True, v4mapped=True, fields=["addresses", "ipv6-address"]) == ([mapped], mapped)
    assert asking("both.example", ipv6=True, v4mapped=True, fields=["addresses"]) == SIX
    assert asking("four.example", v4mapped=True) == 0xC0000204


@pytest.mark.usefixtures("known")
def test_addrconfig_leaves_out_what_this_machine_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "get_default_local_ipv6_address", lambda: None)
    assert asking("both.example", addrconfig=True, fields=["addresses"]) == FOUR
    assert len(asking("both.example", fields=["addresses"])) == 4
    monkeypatch.setattr(addresses, "get_default_local_ipv6_address", lambda: SIX[0])
    assert len(asking("both.example", addrconfig=True, fields=["addresses"])) == 4


@pytest.mark.usefixtures("known")
def test_an_unknown_host_is_nil() -> None:
    assert asking("nowhere.example") is None
    assert asking("nowhere.example", ipv6=True, v4mapped=True) is None
    assert asking("nowhere.example", numerichost=True, fields=["name", "address"]) is None


def test_a_numeric_host_is_known_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object, **__: object) -> None:
        raise AssertionError("somebody was asked")

    for name in ("getaddrinfo", "getnameinfo", "gethostbyaddr", "gethostbyname_ex"):
        monkeypatch.setattr(socket, name, ask)
    for host in ("204.71.177.75", LISPWORKS):
        assert asking(host) == LISPWORKS
        assert asking(host, fields=["ipv4-addresses", "ipv6-addresses"]) == ([LISPWORKS], [])
    assert asking("2001:db8::1") == SIX[0] == asking(SIX[0])
    assert asking(LISPWORKS, fields=["name", "aliases"], avoid_reverse_lookup=True) == (None, [])


@pytest.mark.usefixtures("no_leaks")
def test_the_name_of_an_address_is_looked_up_when_it_is_asked_for(known: System) -> None:
    known.reverse[LOOPBACK] = ("localhost", ["loop"], [LOOPBACK])
    assert asking(LOOPBACK) == LOCAL
    assert known.calls == []
    assert asking(LOOPBACK, fields=["name", "address", "aliases"]) == ("localhost", LOCAL, ["loop"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"fields": "address"},
        {"fields": ["port"]},
        {"fields": [5]},
        {"host": None},
        {"host": -1},
        {"host": ""},
        {"ipv6": "both"},
    ],
    ids=str,
)
def test_wrong_arguments_about_hosts_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        asking(**{"host": "127.0.0.1", **wrong})


def test_the_keywords_of_get_host_entry_are_the_manuals() -> None:
    parameters = inspect.signature(comm.get_host_entry).parameters
    assert " ".join(parameters) == "host fields ipv6 v4mapped addrconfig numerichost avoid_reverse_lookup"


def test_the_machines_own_ipv6_address_is_one_or_nil() -> None:
    found = comm.get_default_local_ipv6_address()
    assert found is None or comm.ipv6_address_p(found)
    zone = comm.get_ip_default_zone_id()
    assert zone is None or isinstance(zone, (int, str))


# ---- services ------------------------------------------------------------------------------------------------


def test_get_service_entry_gives_the_other_of_name_and_port() -> None:
    assert comm.get_service_entry("https") == 443
    assert comm.get_service_entry(443, "tcp") == "https"
    assert comm.get_service_entry("443") in ("https", 443)
    assert comm.get_service_entry("https", "tcp", fields=["name", "port", "protocol"]) == ("https", 443, "tcp")
    assert comm.get_service_entry("https", "tcp", fields=(":PORT",)) == 443
    assert isinstance(comm.get_service_entry("https", "tcp", fields=["aliases"]), list)
    assert comm.get_service_entry("no-such-service", "tcp") is None
    assert comm.get_service_entry(4, "tcp", fields=["name", "port"]) is None


@pytest.mark.parametrize("wrong", [{"fields": "port"}, {"fields": ["address"]}, {"service": None}, {"service": 70000}])
def test_wrong_arguments_about_services_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        comm.get_service_entry(**{"service": "http", **wrong})
