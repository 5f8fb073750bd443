"""Where a server listens: families, one port for both, addresses and names, and nothing left open after a failure."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conftest import lacking
from listening import ANY4, ANY6, V4, V6, has_ipv6_fixture, hosts, linux, refuses, serves, whereabouts  # noqa: F401 - a fixture
from opening import UNKNOWN, Listener, bound, one_port

from landline import (
    SocketAddress,
    SocketCreateError,
    start_up_server,
)
from landline.sync import listen as listen_module

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

# ---- families ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("has_ipv6")
@pytest.mark.parametrize("local_address", ["localhost", None])
@pytest.mark.parametrize(
    ("ipv6", "local", "everywhere"),
    [
        ("any", [V4], [ANY4, ANY6]),
        (True, [V6], [ANY6]),
        (False, [V4], [ANY4]),
        (None, [V4], [ANY4]),
        ("both", [V4, V6], [ANY4, ANY6]),
    ],
)
def test_a_family_is_listened_at_where_it_is_asked_for(
    ipv6: Any, local: list[str], everywhere: list[str], local_address: str | None
) -> None:
    expected = everywhere if local_address is None else local
    with start_up_server(whereabouts, local_address=local_address, ipv6=ipv6) as server:
        assert hosts(server) == expected
        for client, served in ((V4, {V4, ANY4}), (V6, {V6, ANY6})):
            if served.isdisjoint(expected):
                assert refuses(client, server.port)
            else:
                assert serves(server, client)


@pytest.mark.usefixtures("has_ipv6")
def test_an_ipv6_socket_never_takes_ipv4_clients() -> None:
    """Or they would appear under two addresses, and a server for IPv4 could not have the port."""
    with start_up_server(whereabouts, local_address=None, ipv6=True) as server:
        assert refuses(V4, server.port)
        with start_up_server(whereabouts, server.port, local_address=None, ipv6=False) as other:
            assert serves(server, V6)
            assert serves(other, V4)


class Lacking(socket.socket):
    """A machine that lacks families."""

    lacks: frozenset[int] = frozenset()

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:  # noqa: A002
        if fileno is None and (socket.AF_INET if family == -1 else family) in self.lacks:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        super().__init__(family, type, proto, fileno)


def lack(monkeypatch: pytest.MonkeyPatch, *families: int) -> None:
    monkeypatch.setattr(Lacking, "lacks", frozenset(families))
    monkeypatch.setattr(socket, "socket", Lacking)


def test_any_is_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    lack(monkeypatch, socket.AF_INET6)
    with start_up_server(whereabouts, local_address=None) as server:
        assert hosts(server) == [ANY4]
        assert serves(server, V4)


@pytest.mark.usefixtures("has_ipv6")
def test_any_is_ipv6_where_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    lack(monkeypatch, socket.AF_INET)
    with start_up_server(whereabouts, local_address=None) as server:
        assert hosts(server) == [ANY6]
        assert serves(server, V6)


@pytest.mark.parametrize("ipv6", ["both", True])
@pytest.mark.parametrize("local_address", ["localhost", None])
def test_a_family_that_is_asked_for_and_lacking_is_an_error(
    ipv6: Any, local_address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lack(monkeypatch, socket.AF_INET6)
    with pytest.raises(SocketCreateError, match=r"could not listen at \[::1?\]:") as caught:
        start_up_server(whereabouts, local_address=local_address, ipv6=ipv6)
    assert caught.value.errno == errno.EAFNOSUPPORT


def test_a_machine_without_a_network_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    lack(monkeypatch, socket.AF_INET, socket.AF_INET6)
    with pytest.raises(SocketCreateError, match="neither IPv4 nor IPv6"):
        start_up_server(whereabouts, local_address=None)


# ---- one port for both families ------------------------------------------------------------------------


@pytest.fixture
def unlucky(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The port that the system has chosen for IPv4 is taken in IPv6, as often as the first number says."""
    taken = [0]
    with ExitStack() as blocking:

        class Unlucky(socket.socket):
            def bind(self, address: Any) -> None:
                if self.family == socket.AF_INET6 and taken[0]:
                    taken[0] -= 1
                    blocker = blocking.enter_context(plain(socket.AF_INET6))
                    blocker.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    blocker.bind(address)
                    blocker.listen()
                    taken.append(address[1])
                super().bind(address)

        plain = socket.socket
        monkeypatch.setattr(socket, "socket", Unlucky)
        yield taken
        monkeypatch.undo()


@pytest.mark.usefixtures("has_ipv6")
@pytest.mark.parametrize("local_address", ["localhost", None])
def test_a_port_that_is_taken_in_the_other_family_is_chosen_anew(unlucky: list[int], local_address: str | None) -> None:
    unlucky[0] = 5
    with start_up_server(whereabouts, local_address=local_address, ipv6="both") as server:
        assert len(hosts(server)) == 2
        assert len(unlucky) == 6
        assert server.port not in unlucky
        assert serves(server, V4)
        assert serves(server, V6)


@pytest.mark.usefixtures("has_ipv6")
def test_choosing_ports_ends(unlucky: list[int]) -> None:
    unlucky[0] = 1000
    with pytest.raises(SocketCreateError, match=r"could not listen at \[::1\]") as caught:
        start_up_server(whereabouts, ipv6="both")
    assert caught.value.errno == errno.EADDRINUSE
    assert len(unlucky) == 1 + listen_module.SAME_PORT_TRIES
    assert refuses(V4, unlucky[-1])


@pytest.mark.usefixtures("has_ipv6")
@pytest.mark.parametrize(("taken", "free"), [(V4, V6), (V6, V4)])
@pytest.mark.parametrize("local_address", ["localhost", None])
def test_a_port_that_is_taken_in_one_family_is_an_error(taken: str, free: str, local_address: str | None) -> None:
    with one_port(taken, free) as port, Listener(taken, port=port):
        with pytest.raises(SocketCreateError, match=f":{port}: Address already in use") as caught:
            start_up_server(whereabouts, port, local_address=local_address, ipv6="both")
        assert caught.value.errno == errno.EADDRINUSE
        assert isinstance(caught.value.address, SocketAddress)
        assert (":" in caught.value.address.host) == (taken == V6)
        assert refuses(free, port)


@pytest.mark.usefixtures("has_ipv6")
@pytest.mark.parametrize("method", ["setsockopt", "bind", "listen", "setblocking"])
@pytest.mark.parametrize("which", [1, 2])
def test_a_failure_leaves_nothing_open(method: str, which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """(no_leaks looks.) Whichever step fails, for the first family or the second."""
    made: list[socket.socket] = []

    class Failing(socket.socket):
        def __init__(self, *how: Any, **more: Any) -> None:
            super().__init__(*how, **more)
            made.append(self)

    def fail(self: socket.socket, *arguments: object) -> Any:
        if len(made) == which:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return getattr(super(Failing, self), method)(*arguments)

    setattr(Failing, method, fail)
    with monkeypatch.context() as patched, one_port(V4, V6) as port:
        patched.setattr(socket, "socket", Failing)
        with pytest.raises(SocketCreateError, match=r"could not listen at .*: Permission denied") as caught:
            start_up_server(whereabouts, port, ipv6="both")
    assert isinstance(caught.value, PermissionError)
    assert len(made) == which
    assert all(sock.fileno() == -1 for sock in made)


# ---- addresses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("local_address", "host"),
    [
        (V4, V4),
        ("127.0.0.2", "127.0.0.2"),
        (0x7F000003, "127.0.0.3"),
        (ipaddress.IPv4Address("127.0.0.4"), "127.0.0.4"),
        (V6, V6),
        (ipaddress.IPv6Address(V6), V6),
    ],
)
def test_an_address_is_listened_at_as_it_is(local_address: Any, host: str) -> None:
    bound(host).close()  # lacking, where this machine has no such address
    with start_up_server(whereabouts, local_address=local_address) as server:
        assert hosts(server) == [host]
        assert serves(server, host)
        if host not in (V4, V6):
            assert refuses(V4, server.port)


@linux
def test_an_address_keeps_its_zone() -> None:
    zoned = link_local()
    with start_up_server(whereabouts, local_address=zoned) as server:
        assert hosts(server) == [zoned]
        assert serves(server, zoned)


def link_local() -> str:
    """A link-local address of this machine that can be used."""
    for line in Path("/proc/net/if_inet6").read_text("ascii").splitlines():
        digits, _, _, scope, _, name = line.split()
        if scope == "20":
            address = f"{ipaddress.IPv6Address(bytes.fromhex(digits))}%{name}"
            with socket.socket(socket.AF_INET6) as trial:
                if trial.connect_ex(SocketAddress(address, 1).sockaddr()) != errno.ENETUNREACH:
                    return address
    lacking("needs a link-local IPv6 address")


@pytest.mark.parametrize(
    ("local_address", "ipv6"), [(V4, True), (V6, False), (V6, None), (V4, "both"), (V6, "both"), (0x7F000001, True)]
)
def test_an_address_of_the_wrong_family_is_refused(local_address: Any, ipv6: Any) -> None:
    with pytest.raises(ValueError, match=f"local_address={local_address!r} is not allowed with ipv6={ipv6!r}"):
        start_up_server(whereabouts, local_address=local_address, ipv6=ipv6)


class TestNames:
    """A name stands for its addresses on this machine."""

    NAME = "me.example"

    TABLE: ClassVar = {
        NAME: [V6, "127.0.0.2", V4],
        "four.example": [V4],
        "twice.example": [V4, V4],
        "away.example": ["192.0.2.1"],
    }

    @pytest.fixture(autouse=True)
    def _names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def look_up(name: str, *how: object, **more: object) -> list[Any]:
            if name not in self.TABLE:
                raise UNKNOWN
            found = [SocketAddress(host, 0) for host in self.TABLE[name]]
            return [(one.family, socket.SOCK_STREAM, 6, "", one.sockaddr()) for one in found]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    @pytest.mark.usefixtures("has_ipv6")
    @pytest.mark.parametrize(
        ("ipv6", "expected"),
        [
            ("any", ["127.0.0.2", V4, V6]),
            ("both", ["127.0.0.2", V4, V6]),
            (True, [V6]),
            (False, ["127.0.0.2", V4]),
        ],
    )
    def test_all_its_addresses_are_listened_at_with_one_port(self, ipv6: Any, expected: list[str]) -> None:
        with start_up_server(whereabouts, local_address=self.NAME, ipv6=ipv6) as server:
            assert hosts(server) == expected
            for host in expected:
                assert serves(server, host)

    def test_an_address_that_comes_twice_is_one(self) -> None:
        with start_up_server(whereabouts, local_address="twice.example") as server:
            assert hosts(server) == [V4]

    def test_an_unknown_name_is_told(self) -> None:
        with pytest.raises(SocketCreateError, match=r"nobody\.example was not found") as caught:
            start_up_server(whereabouts, local_address="nobody.example")
        assert (caught.value.operation, caught.value.address) == ("lookup", "nobody.example")

    @pytest.mark.parametrize("ipv6", [True, "both"])
    def test_a_name_without_the_family_that_is_asked_for_is_told(self, ipv6: Any) -> None:
        with pytest.raises(SocketCreateError, match=r"four\.example") as caught:
            start_up_server(whereabouts, local_address="four.example", ipv6=ipv6)
        assert repr(ipv6) in str(caught.value)

    def test_somebody_elses_name_is_told_with_its_address(self) -> None:
        with pytest.raises(SocketCreateError, match=r"could not listen at 192\.0\.2\.1:0") as caught:
            start_up_server(whereabouts, local_address="away.example")
        assert caught.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize("as_text", [False, True])
def test_a_port_is_a_number_or_its_digits(as_text: bool) -> None:
    with one_port(V4) as port:
        pass
    with start_up_server(whereabouts, str(port) if as_text else port) as server:
        assert server.port == port
        assert serves(server, V4)


def test_an_unknown_service_is_named() -> None:
    with pytest.raises(SocketCreateError, match="service='no-such' is unknown"):
        start_up_server(whereabouts, "no-such")


# ---- backlog -------------------------------------------------------------------------------------------


@linux
@pytest.mark.parametrize("backlog", [1, 77, None, 1 << 40])
def test_the_backlog_is_the_kernels_up_to_its_own_bound(backlog: int | None) -> None:
    more = {} if backlog is None else {"backlog": backlog}
    with start_up_server(whereabouts, **more) as server:  # type: ignore[arg-type]
        info = server._listeners[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
        (most,) = struct.unpack_from("@I", info, 28)  # tcpi_sacked, which of a listening socket is its backlog
        kernels = int(Path("/proc/sys/net/core/somaxconn").read_text("ascii"))
        assert most == min(backlog or 4096, kernels)
        assert serves(server, V4)


# ---- wrong arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"ipv6": "four"}, ValueError),
        ({"ipv6": 1}, ValueError),
        ({"ipv6": 0}, ValueError),
        ({"ipv6": []}, ValueError),
        ({"backlog": 0}, ValueError),
        ({"backlog": True}, ValueError),
        ({"backlog": 2.0}, ValueError),
        ({"backlog": None}, ValueError),
        ({"local_address": ""}, ValueError),
        ({"local_address": b"localhost"}, TypeError),
        ({"local_address": True}, TypeError),
        ({"handler": None}, TypeError),
        ({"handler": "echo"}, TypeError),
        ({"on_end": 5}, TypeError),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_opened(wrong: dict[str, Any], error: type[Exception]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(error) as caught:
        start_up_server(**{"handler": whereabouts, **wrong})
    assert f"{name}={value!r} is not allowed" in str(caught.value)
