"""Entries of hosts and services, and this machine's own addresses: the rules of sync/lookup.py, one by one."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Interface, ip_address
from pathlib import Path
from typing import Any

import pytest
from opening import UNKNOWN, WITHIN, wait_until

from landline import HostLookupError, SocketCreateError
from landline.sync import lookup, resolve
from landline.sync.lookup import (
    HostEntry,
    ServiceEntry,
    get_default_local_ipv6_address,
    get_host_entry,
    get_ip_default_zone_id,
    get_service_entry,
)
from landline.testing.contract.stage import Task

pytestmark = pytest.mark.usefixtures("no_leaks")

NOT_NOW = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
NO_SUCH_HOST = socket.herror(1, "Unknown host")
LATER = socket.herror(2, "Host name lookup failure")


class System:
    """Instead of the system's three ways to look a host up: tables, and a gate for each that can be shut."""

    def __init__(self) -> None:
        self.ipv4: dict[str, Any] = {}
        self.ipv6: dict[str, Any] = {}
        self.reverse: dict[str, Any] = {}
        self.calls: list[tuple[str, str]] = []
        self.gates = {kind: threading.Event() for kind in ("ipv4", "ipv6", "reverse")}
        for gate in self.gates.values():
            gate.set()

    def say(
        self,
        name: str,
        ipv4: Sequence[str] | Exception = UNKNOWN,
        ipv6: Sequence[str] | Exception = UNKNOWN,
        *,
        canonical: str | None = None,
        aliases: Sequence[str] = (),
    ) -> None:
        official = canonical or name
        self.ipv4[name] = ipv4 if isinstance(ipv4, Exception) else (official, list(aliases), list(ipv4))
        self.ipv6[name] = (
            ipv6
            if isinstance(ipv6, Exception)
            else [
                (socket.AF_INET6, socket.SOCK_STREAM, 6, official if number == 0 else "", _sockaddr(address))
                for number, address in enumerate(ipv6)
            ]
        )

    def gethostbyname_ex(self, name: str) -> Any:
        return self._answer("ipv4", self.ipv4, name)

    def getaddrinfo(self, name: str, port: object, family: int, kind: int, protocol: int, flags: int) -> Any:
        assert (port, family, flags) == (None, socket.AF_INET6, socket.AI_CANONNAME)
        return self._answer("ipv6", self.ipv6, name)

    def gethostbyaddr(self, address: str) -> Any:
        return self._answer("reverse", self.reverse, address)

    def _answer(self, kind: str, table: dict[str, Any], name: str) -> Any:
        self.calls.append((kind, name))
        self.gates[kind].wait()
        answer = table[name]
        if isinstance(answer, Exception):
            raise answer
        return answer


def _sockaddr(address: str) -> tuple[str, int, int, int]:
    bare, _, zone = address.partition("%")
    return bare, 0, 0, int(zone or 0)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    made = System()
    for name in ("gethostbyname_ex", "getaddrinfo", "gethostbyaddr"):
        monkeypatch.setattr(socket, name, getattr(made, name))
    yield made
    for gate in made.gates.values():
        gate.set()
    wait_until(lambda: not resolve._threads)
    assert (resolve._in_flight, len(resolve._queue)) == ({}, 0)


# ---- hosts by name -------------------------------------------------------------------------------------


def test_an_entry_has_name_aliases_and_the_addresses_of_both_families(system: System) -> None:
    system.say(
        "www.example", ["192.0.2.2", "192.0.2.1"], ["2001:db8::1"], canonical="host.example", aliases=["www.example"]
    )
    entry = get_host_entry("www.example")
    assert entry == HostEntry(
        "host.example",
        ("www.example",),
        (IPv6Address("2001:db8::1"), IPv4Address("192.0.2.2"), IPv4Address("192.0.2.1")),
    )
    assert entry is not None
    assert entry.ipv4_addresses == (IPv4Address("192.0.2.2"), IPv4Address("192.0.2.1"))
    assert entry.ipv6_addresses == (IPv6Address("2001:db8::1"),)


def test_one_family_may_be_asked_for(system: System) -> None:
    system.say("host.example", ["192.0.2.1"], ["2001:db8::1"])
    assert get_host_entry("host.example", ipv6=True) == HostEntry("host.example", (), (IPv6Address("2001:db8::1"),))
    assert system.calls == [("ipv6", "host.example")]
    for no in (False, None):
        assert get_host_entry("host.example", ipv6=no) == HostEntry("host.example", (), (IPv4Address("192.0.2.1"),))


def test_the_canonical_name_is_known_from_ipv6_alone_too(system: System) -> None:
    system.say("www.example", ipv6=["2001:db8::1", "2001:db8::2"], canonical="host.example")
    assert get_host_entry("www.example") == HostEntry(
        "host.example", (), (IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2"))
    )


def test_an_address_is_told_once_and_keeps_its_zone(system: System) -> None:
    index, interface = socket.if_nameindex()[0]
    system.say("link.example", ["192.0.2.1", "192.0.2.1"], [f"fe80::1%{index}"])
    entry = get_host_entry("link.example")
    assert entry is not None
    assert entry.addresses == (IPv6Address(f"fe80::1%{interface}"), IPv4Address("192.0.2.1"))


def test_a_name_is_looked_up_in_its_one_spelling(system: System) -> None:
    system.say("xn--fa-hia.example", ["192.0.2.1"])
    assert get_host_entry("FAß.example", ipv6=False) is not None
    system.say("host.", ["192.0.2.1"])
    assert get_host_entry("host.", ipv6=False) is not None, "a trailing dot means: no search domains"


@pytest.mark.parametrize("error", [UNKNOWN, NO_SUCH_HOST, socket.herror(4, "No address"), []])
def test_an_unknown_name_is_none(system: System, error: Any) -> None:
    system.say("nobody.example", error, UNKNOWN)
    assert get_host_entry("nobody.example") is None


@pytest.mark.parametrize("error", [NOT_NOW, LATER, OSError(24, "Too many open files"), MemoryError()])
def test_what_could_not_be_asked_is_not_unknown(system: System, error: Exception) -> None:
    system.say("host.example", error, UNKNOWN)
    with pytest.raises(HostLookupError, match=r"could not find host\.example: ") as caught:
        get_host_entry("host.example")
    assert caught.value.__cause__ is error
    assert (caught.value.operation, caught.value.address) == ("lookup", "host.example")


def test_what_one_family_gives_is_given_though_the_other_fails(system: System) -> None:
    system.say("host.example", ["192.0.2.1"], NOT_NOW)
    assert get_host_entry("host.example") == HostEntry("host.example", (), (IPv4Address("192.0.2.1"),))


def test_the_families_are_asked_at_once(system: System) -> None:
    system.say("host.example", ["192.0.2.1"], ["2001:db8::1"])
    for gate in ("ipv4", "ipv6"):
        system.gates[gate].clear()
    task = Task(lambda: get_host_entry("host.example"))
    wait_until(lambda: len(system.calls) == 2)
    for gate in ("ipv4", "ipv6"):
        system.gates[gate].set()
    assert task.result() is not None


def test_the_time_limit_holds_whatever_the_resolver_does(system: System) -> None:
    system.say("dead.example")
    for gate in ("ipv4", "ipv6"):
        system.gates[gate].clear()
    begun = time.monotonic()
    with pytest.raises(
        HostLookupError, match=r"could not find dead\.example: no answer within timeout=0\.05 s"
    ) as caught:
        get_host_entry("dead.example", timeout=0.05)
    assert isinstance(caught.value, TimeoutError)
    assert 0.05 <= time.monotonic() - begun < WITHIN
    with pytest.raises(TimeoutError, match="without waiting"):
        get_host_entry("dead.example", timeout=0)
    assert len(system.calls) == 2, "a question that is being asked is joined"


def test_what_came_in_time_is_given(system: System) -> None:
    system.say("half.example", ["192.0.2.1"], ["2001:db8::1"])
    system.gates["ipv6"].clear()
    assert get_host_entry("half.example", timeout=0.2) == HostEntry("half.example", (), (IPv4Address("192.0.2.1"),))


def test_one_family_that_knows_nothing_does_not_make_a_silent_one_unknown(system: System) -> None:
    system.say("half.example", UNKNOWN, ["2001:db8::1"])
    system.gates["ipv6"].clear()
    with pytest.raises(TimeoutError):
        get_host_entry("half.example", timeout=0.05)


def test_numerichost_looks_no_name_up(system: System) -> None:
    assert get_host_entry("host.example", numerichost=True) is None
    assert system.calls == []


def test_a_lack_of_threads_is_this_machines_fault(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(resolve, "start_new_thread", refuse)
    with pytest.raises(SocketCreateError, match=r"no thread to look up 'host\.example'"):
        get_host_entry("host.example")


# ---- hosts by address ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (0xC0000201, "192.0.2.1"),
        (IPv4Address("192.0.2.1"), "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        (IPv6Address("2001:db8::1"), "2001:db8::1"),
        (IPv6Interface("2001:db8::1/64"), "2001:db8::1"),
    ],
)
def test_the_name_of_a_numeric_host_is_looked_up(system: System, host: Any, address: str) -> None:
    system.reverse[address] = ("host.example", ["www.example"], [address])
    assert get_host_entry(host) == HostEntry("host.example", ("www.example",), (ip_address(address),))


def test_a_zone_is_no_part_of_the_question_and_stays_in_the_answer(system: System) -> None:
    _, interface = socket.if_nameindex()[0]
    system.reverse["fe80::1"] = ("link.example", [], ["fe80::1"])
    assert get_host_entry(f"fe80::1%{interface}") == HostEntry(
        "link.example", (), (IPv6Address(f"fe80::1%{interface}"),)
    )


@pytest.mark.parametrize("error", [NO_SUCH_HOST, UNKNOWN])
def test_an_address_without_a_name_has_none(system: System, error: Exception) -> None:
    system.reverse["192.0.2.1"] = error
    assert get_host_entry("192.0.2.1") == HostEntry(None, (), (IPv4Address("192.0.2.1"),))


def test_a_name_that_could_not_be_asked_for_is_not_none(system: System) -> None:
    system.reverse["192.0.2.1"] = LATER
    with pytest.raises(HostLookupError, match=r"could not find 192\.0\.2\.1: Host name lookup failure"):
        get_host_entry("192.0.2.1")


def test_the_time_limit_holds_for_names_of_addresses(system: System) -> None:
    system.reverse["192.0.2.1"] = NO_SUCH_HOST
    system.gates["reverse"].clear()
    with pytest.raises(TimeoutError, match=r"could not find 192\.0\.2\.1"):
        get_host_entry("192.0.2.1", timeout=0.05)


def test_avoid_reverse_lookup_asks_nothing(system: System) -> None:
    entry = get_host_entry("192.0.2.1", avoid_reverse_lookup=True)
    assert entry == HostEntry(None, (), (IPv4Address("192.0.2.1"),))
    assert system.calls == []


def test_an_address_of_another_family_than_asked_for_is_none(system: System) -> None:
    assert get_host_entry("192.0.2.1", ipv6=True) is None
    assert get_host_entry("::1", ipv6=False) is None
    assert system.calls == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"host": ""}, "host=''"),
        ({"host": "http://host/"}, "host='http://host/'"),
        ({"host": 1.0}, r"host=1\.0"),
        ({"host": "host.example", "ipv6": "both"}, "ipv6='both'"),
        ({"host": "host.example", "ipv6": 6}, "ipv6=6"),
        ({"host": "host.example", "timeout": -1}, "timeout=-1"),
        ({"host": "fe80::1%no-such-interface"}, "no-such-interface"),
    ],
)
def test_wrong_arguments_are_named(system: System, arguments: dict[str, Any], named: str) -> None:
    with pytest.raises((TypeError, ValueError), match=named):
        get_host_entry(**arguments)
    assert system.calls == []


def test_the_system_itself_is_asked() -> None:
    """For what every machine knows."""
    entry = get_host_entry("localhost", ipv6=False, timeout=WITHIN)
    assert entry is not None
    assert IPv4Address("127.0.0.1") in entry.addresses
    entry = get_host_entry("127.0.0.1", timeout=WITHIN)
    assert entry is not None
    assert entry.addresses == (IPv4Address("127.0.0.1"),)
    wait_until(lambda: not resolve._threads)


# ---- services ------------------------------------------------------------------------------------------

FILE = """\
# network services
tcpmux  1/tcp                # TCP port service multiplexer
http    80/tcp   www web     # WorldWideWeb
http    80/udp
domain  53/udp
domain  53/tcp
ODD     4000/TCP alias
broken
broken  x/tcp
broken  12
\u00fcber 4001/sctp
"""


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The services file of this test, and a system that knows nothing else."""
    path = tmp_path / "services"
    path.write_text(FILE, "utf-8")
    monkeypatch.setattr(lookup, "_SERVICES_FILE", str(path))

    def unknown(*arguments: object) -> Any:
        raise OSError("service/proto not found")

    monkeypatch.setattr(socket, "getservbyname", unknown)
    monkeypatch.setattr(socket, "getservbyport", unknown)
    return path


HTTP = ServiceEntry("http", 80, ("www", "web"), "tcp")


@pytest.mark.usefixtures("services")
@pytest.mark.parametrize(
    ("service", "protocol", "entry"),
    [
        ("http", "tcp", HTTP),
        ("web", "tcp", HTTP),
        (80, "tcp", HTTP),
        ("80", "tcp", HTTP),
        ("http", "udp", ServiceEntry("http", 80, (), "udp")),
        ("http", None, HTTP),
        ("domain", None, ServiceEntry("domain", 53, (), "udp")),
        (53, None, ServiceEntry("domain", 53, (), "udp")),
        (53, "TCP", ServiceEntry("domain", 53, (), "tcp")),
        ("ODD", "tcp", ServiceEntry("ODD", 4000, ("alias",), "tcp")),
        ("über", "sctp", ServiceEntry("über", 4001, (), "sctp")),
        ("HTTP", "tcp", None),
        ("web", "udp", None),
        ("nothing", "tcp", None),
        ("broken", None, None),
        (12, None, None),
        (0, "tcp", None),
        ("ssh", "tcp", None),
    ],
)
def test_a_service_is_found_by_name_alias_or_port(service: Any, protocol: str | None, entry: Any) -> None:
    assert get_service_entry(service, protocol) == entry


def test_the_protocol_is_tcp_unless_told_otherwise(services: Path) -> None:
    assert get_service_entry("domain") == ServiceEntry("domain", 53, (), "tcp")


def test_where_the_file_is_missing_the_common_services_are_known(services: Path) -> None:
    services.unlink()
    assert get_service_entry("www") == get_service_entry(80) == ServiceEntry("http", 80, ("www",), "tcp")
    assert get_service_entry("domain", "udp") == ServiceEntry("domain", 53, (), "udp")
    assert get_service_entry("https", None) == ServiceEntry("https", 443, (), "tcp")
    assert get_service_entry("https", "sctp") is None
    assert get_service_entry("nothing") is None


def test_what_the_system_knows_from_elsewhere_is_found(services: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = {("inhouse", "udp"): 4002, ("in-house", "udp"): 4002}
    names = {(4002, "udp"): "inhouse"}
    monkeypatch.setattr(socket, "getservbyname", _table(ports))
    monkeypatch.setattr(socket, "getservbyport", _table(names))
    assert (
        get_service_entry("inhouse", "udp") == get_service_entry(4002, None) == ServiceEntry("inhouse", 4002, (), "udp")
    )
    assert get_service_entry("in-house", None) == ServiceEntry("inhouse", 4002, ("in-house",), "udp")
    assert get_service_entry("inhouse", "tcp") is None


def _table(known: dict[Any, Any]) -> Callable[..., Any]:
    def ask(*question: Any) -> Any:
        if question not in known:
            raise OSError("service/proto not found")
        return known[question]

    return ask


@pytest.mark.parametrize(
    ("service", "protocol", "named"),
    [
        ("", "tcp", "service=''"),
        ("ht\0tp", "tcp", "service="),
        (-1, "tcp", "service=-1"),
        (65536, "tcp", "service=65536"),
        ("65536", "tcp", "service=65536"),
        (True, "tcp", "service=True"),
        (None, "tcp", "service=None"),
        (80.0, "tcp", r"service=80\.0"),
        ("http", 6, "protocol=6"),
    ],
)
def test_a_wrong_service_is_named(service: Any, protocol: Any, named: str) -> None:
    with pytest.raises((TypeError, ValueError), match=named):
        get_service_entry(service, protocol)


@pytest.mark.skipif(not Path("/etc/services").exists(), reason="needs a services file")
def test_the_systems_own_file_is_read() -> None:
    entry = get_service_entry("domain")
    assert entry is not None
    assert (entry.name, entry.port, entry.protocol) == ("domain", 53, "tcp")


# ---- this machine --------------------------------------------------------------------------------------


def test_the_default_address_is_one_of_this_machine() -> None:
    """Or there is none, as on a machine without IPv6."""
    address = get_default_local_ipv6_address()
    if address is not None:
        assert not address.is_loopback
        scope = socket.if_nametoindex(address.scope_id) if address.scope_id else 0
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind((str(address).partition("%")[0], 0, 0, scope))


def test_the_default_zone_is_an_interface_of_this_machine() -> None:
    zone = get_ip_default_zone_id()
    assert (zone is None) == (get_default_local_ipv6_address() is None)
    if zone is not None:
        assert socket.if_indextoname(zone)


def test_a_machine_without_ipv6_has_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> Any:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    assert get_default_local_ipv6_address() is None
    assert get_ip_default_zone_id() is None


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32", "another"])
def test_a_system_that_does_not_tell_by_which_interface_gives_a_link_local_zone(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    """A stand-in for the system: two interfaces, of which the second leads away."""
    chosen: list[int] = []

    class Socket:
        by = 0

        def __enter__(self) -> Socket:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def setsockopt(self, level: int, option: int, value: bytes) -> None:
            order: Any = "big" if platform == "linux" else sys.byteorder
            assert (level, option) == (socket.IPPROTO_IPV6, {"linux": 76, "darwin": 125, "win32": 31}[platform])
            self.by = int.from_bytes(value, order)
            chosen.append(self.by)

        def connect(self, address: tuple[str, int, int, int]) -> None:
            self.to = address
            if address == lookup.FAR_AWAY and self.by not in (0, 2):
                raise OSError(101, "Network is unreachable")

        def getsockname(self) -> tuple[str, int, int, int]:
            return ("2001:db8::1", 1, 0, 0) if self.to == lookup.FAR_AWAY else (f"fe80::{self.to[3]}", 1, 0, self.to[3])

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(socket, "socket", lambda *kind: Socket())
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "one"), (2, "two")])
    assert get_default_local_ipv6_address() == IPv6Address("2001:db8::1")
    assert get_ip_default_zone_id() == (1 if platform == "another" else 2)
    assert chosen == ([] if platform == "another" else [1, 2])
