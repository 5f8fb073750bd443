"""open_udp_socket: which address, which family, what is refused, and that nothing is left of a failure."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from functools import partial
from typing import Any

import pytest
from datagrams import HOST, LOOPBACKS, fails, opened, pair
from opening import Resolver, in_thread
from opening import resolver_fixture as _resolver  # noqa: F401 - a fixture

from landline import (
    Cancel,
    ConnectTimeout,
    HostLookupError,
    SocketAddress,
    SocketConnectError,
    SocketCreateError,
    StreamClosed,
)
from landline.sync.udp import UdpSocket
from landline.sync.udp_open import open_udp_socket

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

V4, V6 = socket.AF_INET, socket.AF_INET6

NO_ROUTE = "fe80::1"
"""A link-local address without its zone: no system has a route to it."""


# ---- connected -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", LOOPBACKS.values(), ids=list(LOOPBACKS))
def test_a_connected_socket_has_both_addresses_and_a_report(host: str) -> None:
    with pair(host) as (udp, peer):
        assert udp.peer_address == peer.local_address
        assert udp.local_address.host == host
        assert udp.local_address.port > 0
        assert udp.report is not None
        assert udp.report.winner is not None
        assert udp.report.winner.address == peer.local_address
        assert peer.peer_address is None
        assert udp._families == peer._families == ((V6,) if ":" in host else (V4,))


def test_a_name_is_looked_up_in_both_families_and_ipv6_is_first(resolver: Resolver) -> None:
    resolver.say("both.example", [HOST], ["::1"])
    with opened(local_address="::1") as peer, opened("both.example", peer.local_address.port) as udp:
        assert udp.peer_address == peer.local_address
    resolver.wait_for_calls(2)
    assert sorted(resolver.calls) == sorted([("both.example", V4), ("both.example", V6)])


def test_an_address_without_a_route_is_passed_over_across_families(resolver: Resolver) -> None:
    resolver.say("half.example", [HOST], [NO_ROUTE])
    with opened("half.example", 9) as udp:
        assert udp.peer_address == SocketAddress(HOST, 9)


def test_an_address_without_a_route_is_passed_over_within_a_family(resolver: Resolver) -> None:
    resolver.say("two.example", [], [NO_ROUTE, "::1"])
    with opened(local_address="::1"), opened("two.example", 9) as udp:
        assert udp.peer_address == SocketAddress("::1", 9)
        assert udp.report is not None
        assert [attempt.outcome for attempt in udp.report.attempts] == ["failed", "connected"]


def test_no_route_to_any_address_is_a_connect_error_that_names_it() -> None:
    error = fails(
        SocketConnectError, lambda: opened(NO_ROUTE, 9), r"could not connect to fe80::1 port 9: \[fe80::1\]:9"
    )
    assert error.report.attempts[0].outcome == "failed"


def test_an_unknown_name_is_a_lookup_error(resolver: Resolver) -> None:
    resolver.say("nowhere.example")
    fails(HostLookupError, lambda: opened("nowhere.example", 9), r"could not find nowhere\.example")


def test_a_lookup_that_never_answers_ends_with_the_timeout(resolver: Resolver) -> None:
    resolver.hang("dead.example")
    fails(ConnectTimeout, lambda: opened("dead.example", 9, timeout=0.01), r"the IPv6 lookup of dead\.example")


def test_cancel_ends_a_lookup(resolver: Resolver) -> None:
    resolver.hang("dead.example")
    cancel = Cancel()
    with in_thread(lambda: opened("dead.example", 9, cancel=cancel)) as outcome:
        resolver.wait_for_calls(2)
        cancel.set()
    assert isinstance(outcome[0], StreamClosed)


@pytest.mark.parametrize(("ipv6", "wanted"), [("any", "::1"), (True, "::1"), (False, HOST), (None, HOST)], ids=repr)
def test_ipv6_says_which_families(resolver: Resolver, ipv6: Any, wanted: str) -> None:
    resolver.say("both.example", [HOST], ["::1"])
    with opened(local_address="::1"), opened("both.example", 9, ipv6=ipv6) as udp:
        assert udp.peer_address == SocketAddress(wanted, 9)


def test_a_local_address_and_port_are_bound(resolver: Resolver) -> None:
    resolver.say("here.example", [HOST])
    with opened(local_address=HOST) as free:
        port = free.local_address.port
    with opened(HOST, 9, local_address="here.example", local_port=port) as udp:
        assert udp.local_address == SocketAddress(HOST, port)
    with opened("127.0.0.1", 9, local_port=str(port)) as udp:
        assert udp.local_address == SocketAddress(HOST, port)


def test_a_local_address_of_one_family_restricts_the_race_to_it(resolver: Resolver) -> None:
    resolver.say("both.example", [HOST], ["::1"])
    with opened("both.example", 9, local_address=HOST) as udp:
        assert udp.peer_address == SocketAddress(HOST, 9)


def test_a_service_is_looked_up_for_udp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getservbyname", lambda name, protocol: {("odd", "udp"): 4711}[name, protocol])
    with opened(HOST, "odd") as udp:
        assert udp.peer_address == SocketAddress(HOST, 4711)


def test_a_broadcast_address_is_connected_to_if_that_is_allowed() -> None:
    error = fails(SocketConnectError, lambda: opened("255.255.255.255", 9))
    assert isinstance(error, PermissionError)
    with opened("255.255.255.255", 9, broadcast=True) as udp:
        assert udp.broadcast


# ---- unconnected ---------------------------------------------------------------------------------------


def test_an_unconnected_socket_is_for_both_families_and_ipv4_looks_like_ipv4() -> None:
    with opened() as udp, opened(local_address=HOST) as four, opened(local_address="::1") as six:
        assert udp.local_address == SocketAddress("::", udp.local_address.port)
        for peer in (four, six):
            peer.send_to(b"to", peer.local_address.host, udp.local_address.port)
            assert udp.receive_from() == (b"to", peer.local_address)
            udp.send_to(b"fro", *peer.local_address)
            assert peer.receive_from()[1].host == peer.local_address.host


@pytest.mark.parametrize(
    ("how", "host"),
    [
        ({"ipv6": "both"}, "::"),
        ({"ipv6": "both", "local_address": "::"}, "::"),
        ({"ipv6": True}, "::"),
        ({"ipv6": True, "local_address": "::"}, "::"),
        ({"ipv6": False}, "0.0.0.0"),
        ({"ipv6": None}, "0.0.0.0"),
        ({"local_address": "::1"}, "::1"),
        ({"local_address": "0.0.0.0"}, "0.0.0.0"),
    ],
    ids=repr,
)
def test_what_is_bound(how: dict[str, Any], host: str) -> None:
    with opened(**how) as udp:
        assert udp.local_address.host == host
        assert (udp._families == (V6, V4)) == (host == "::" and how["ipv6"] == "both")


def test_a_machine_without_ipv6_gets_an_ipv4_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    lack_ipv6(monkeypatch)
    with opened() as udp:
        assert udp.local_address.host == "0.0.0.0"


def test_both_families_asked_for_are_not_half_given(monkeypatch: pytest.MonkeyPatch) -> None:
    lack_ipv6(monkeypatch)
    error = fails(SocketCreateError, lambda: opened(ipv6="both"), r"could not open a UDP socket at \[::\]:0: ")
    assert error.errno == errno.EAFNOSUPPORT


def test_a_port_that_is_taken_is_an_error_and_no_reason_for_ipv4_alone() -> None:
    with opened(ipv6=True) as taken:
        port = taken.local_address.port
        error = fails(SocketCreateError, lambda: opened(local_port=port), rf"at \[::\]:{port}: Address already in use")
    assert (error.errno, error.address, error.operation) == (errno.EADDRINUSE, SocketAddress("::", port), "create")


def test_a_local_name_is_looked_up(resolver: Resolver) -> None:
    resolver.say("here.example", [HOST], [NO_ROUTE])
    with opened(local_address="here.example") as udp:
        assert udp.local_address.host == HOST
    with opened(local_address="here.example", ipv6=False, cancel=Cancel()) as udp:
        assert udp.local_address.host == HOST
    resolver.say("nowhere.example")
    fails(SocketCreateError, lambda: opened(local_address="nowhere.example"), r"nowhere\.example was not found")
    resolver.hang("dead.example")
    fails(ConnectTimeout, lambda: opened(local_address="dead.example", timeout=0.01))
    cancel = Cancel()
    cancel.set()
    fails(StreamClosed, lambda: opened(local_address="dead.example", cancel=cancel))


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="needs SO_REUSEPORT")
def test_a_port_is_shared_only_by_those_who_say_so() -> None:
    with opened(local_address=HOST, reuse_port=True) as udp:
        where = {"local_address": HOST, "local_port": udp.local_address.port}
        with opened(**where, reuse_port=True) as other:
            assert other.local_address == udp.local_address
        fails(SocketCreateError, lambda: opened(**where))


def test_a_port_is_shared_for_multicasts_by_those_who_say_so() -> None:
    with opened(local_address=HOST, reuse_port="multicast") as udp:
        where = {"local_address": HOST, "local_port": udp.local_address.port}
        with opened(**where, reuse_port="multicast") as other:
            assert other.local_address == udp.local_address
        fails(SocketCreateError, lambda: opened(**where))


# ---- both ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", [(), (HOST, 9)], ids=["unconnected", "connected"])
def test_the_callback_gets_each_socket_before_it_is_bound(peer: tuple[Any, ...]) -> None:
    seen: list[tuple[Any, ...]] = []

    def configure(sock: socket.socket) -> None:
        seen.append(sock.getsockname())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.settimeout(1)

    with opened(*peer, ipv6=False, local_address=HOST, socket_configure_callback=configure, read_timeout=None) as udp:
        assert seen == [("0.0.0.0", 0)]
        assert udp._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 65536


@pytest.mark.parametrize("peer", [(), (HOST, 9)], ids=["unconnected", "connected"])
def test_what_the_callback_raises_is_the_failure(peer: tuple[Any, ...]) -> None:
    def fail(sock: socket.socket) -> None:
        raise KeyError("not like this")

    error = fails(SocketCreateError, lambda: opened(*peer, socket_configure_callback=fail), "not like this")
    assert isinstance(error.__cause__, KeyError)


def test_errorp_false_returns_the_condition_and_raises_for_wrong_arguments() -> None:
    udp, none = open_udp_socket(errorp=False)
    assert udp is not None
    assert none is None
    with udp:
        nothing, error = open_udp_socket(local_port=udp.local_address.port, errorp=False)
        assert nothing is None
        assert isinstance(error, SocketCreateError)
    assert isinstance(open_udp_socket(HOST, "no-such-service", errorp=None)[1], SocketCreateError)
    fails(ValueError, lambda: open_udp_socket(ipv6=4, errorp=False))  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("peer", "how", "kind", "message"),
    [
        ((HOST,), {}, ValueError, r"host='127\.0\.0\.1' is not allowed with service=None: a connected socket has both"),
        ((None, 9), {}, ValueError, "host=None is not allowed with service=9"),
        ((HOST, 0), {}, ValueError, "service=0 is not allowed: nobody receives at port 0"),
        (("", 9), {}, ValueError, "host='' is not allowed"),
        ((1.5, 9), {}, TypeError, "host=1.5 is not allowed"),
        ((HOST, 65536), {}, ValueError, "service=65536 is not allowed"),
        ((HOST, 9), {"ipv6": "both"}, ValueError, "ipv6='both' is not allowed with host="),
        ((HOST, 9), {"ipv6": True}, ValueError, "host='127.0.0.1' is not allowed with ipv6=True: it is an IPv4"),
        ((HOST, 9), {"ipv6": "some"}, ValueError, "ipv6='some' is not allowed: it must be 'any', 'both'"),
        ((HOST, 9), {"local_address": "::1"}, ValueError, "local_address='::1' is not allowed with host="),
        ((), {"local_address": HOST, "ipv6": "both"}, ValueError, "not allowed with ipv6='both'"),
        ((), {"local_address": HOST, "ipv6": True}, ValueError, "it is an IPv4 address"),
        ((), {"local_port": -1}, ValueError, "local_port=-1 is not allowed"),
        ((), {"timeout": -1}, ValueError, r"timeout=-1\.0 is not allowed"),
        ((), {"read_timeout": float("nan")}, ValueError, "read_timeout=nan is not allowed"),
        ((), {"write_timeout": "1"}, TypeError, "write_timeout='1' is not allowed"),
        ((), {"reuse_port": "always"}, ValueError, "it must be True, False or 'multicast'"),
        ((), {"cancel": 1}, TypeError, "cancel=1 is not allowed"),
        ((), {"socket_configure_callback": 1}, TypeError, "socket_configure_callback=1 is not allowed"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_opened(
    monkeypatch: pytest.MonkeyPatch, peer: tuple[Any, ...], how: dict[str, Any], kind: type[Exception], message: str
) -> None:
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("a socket was made"))
    fails(kind, lambda: open_udp_socket(*peer, **how), message)


def test_a_system_that_cannot_share_ports_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT", raising=False)
    fails(ValueError, lambda: open_udp_socket(reuse_port=True), "reuse_port=True is not allowed")


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_nothing_is_left_when_the_last_step_fails(monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]) -> None:
    def fail(sock: socket.socket) -> bool:
        raise kind(errno.ENOMEM, "no memory")

    monkeypatch.setattr("landline.sync.udp_open.ask_for_undelivered", fail)
    wanted = SocketCreateError if kind is OSError else kind
    fails(wanted, lambda: opened(tell_undelivered=True), "no memory")


def test_a_socket_of_one_s_own_is_taken_over() -> None:
    with socket.socket(V4, socket.SOCK_DGRAM) as sock, opened(local_address=HOST) as peer:
        sock.connect(peer.local_address.sockaddr())
        with UdpSocket(sock, read_timeout=0, write_timeout=1) as udp:
            assert (udp.peer_address, udp.read_timeout, udp.write_timeout) == (peer.local_address, 0, 1)
            assert udp.report is None
        assert sock.fileno() == -1


def test_a_socket_of_another_kind_is_not_taken_over() -> None:
    with socket.socket() as sock:
        fails(ValueError, lambda: UdpSocket(sock), "it must be a datagram socket of IPv4 or IPv6")
        assert sock.fileno() >= 0


def test_importing_the_streams_does_not_import_this() -> None:
    code = "import landline, sys; landline.open_tcp_stream; sys.exit('landline.sync.udp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def lack_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(real: Any, family: int, kind: int) -> socket.socket:
        if family == V6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        made: socket.socket = real(family, kind)
        return made

    monkeypatch.setattr(socket, "socket", partial(make, socket.socket))
