"""The page of open-tcp-stream, sentence by sentence: where to, from where, how long, and the options of the socket.

What there is to see is looked at from the peer's side, or read back from the socket. Names are answered by a table;
everything else is the loopback interface.

Source: LispWorks manual, open-tcp-stream; 25.3.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from functools import partial
from typing import Any

import pytest
from pages import (
    LOOPBACK,
    NOT_LINUX,
    WITHIN,
    Listener,
    Resolver,
    condition_of,
    connection,
    one_port,
    opening,
    refusing,
    silence,
    timing,
)
from pages import resolver_fixture as _resolver  # noqa: F401 - a fixture

from landline import HostLookupError, comm
from landline.testing.contract.stage import Task

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

V4, V6 = socket.AF_INET, socket.AF_INET6
LOOPBACK6 = "::1"
BOTH = "both.example"
NUMBER = 0x7F000001
OBJECT = ipaddress.IPv6Address(LOOPBACK6)

linux_only = pytest.mark.skipif(NOT_LINUX, reason="the whole of 127.0.0.0/8 is this machine on Linux only")


@pytest.fixture(name="named")
def named_fixture(resolver: Resolver) -> Resolver:
    """A host of each family, and one of both."""
    resolver.say("four.example", ipv4=[LOOPBACK])
    resolver.say("six.example", ipv6=[LOOPBACK6])
    resolver.say(BOTH, [LOOPBACK], [LOOPBACK6])
    return resolver


def the_service_has(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's table of services knows "page", and nothing else."""

    def look_up(name: str, protocol: str) -> int:
        if (name, protocol) != ("page", "tcp"):
            raise OSError("service/proto not found")
        return port

    monkeypatch.setattr(socket, "getservbyname", look_up)


# ---- hostspec and service --------------------------------------------------------------------------------


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize(
    ("hostspec", "at"),
    [
        pytest.param(NUMBER, LOOPBACK, id="integer"),
        pytest.param(LOOPBACK, LOOPBACK, id="IPv4 string"),
        pytest.param(LOOPBACK6, LOOPBACK6, id="IPv6 string"),
        pytest.param("0:0:0:0:0:0:0:1", LOOPBACK6, id="IPv6 string, long"),
        pytest.param(OBJECT, LOOPBACK6, id="ipv6-address"),
        pytest.param(comm.parse_ipv6_address(LOOPBACK6), LOOPBACK6, id="parse_ipv6_address()"),
        pytest.param(comm.string_ip_address(LOOPBACK), LOOPBACK, id="string_ip_address()"),
        pytest.param("four.example", LOOPBACK, id="name"),
        pytest.param("SIX.example", LOOPBACK6, id="name in capitals"),
    ],
)
def test_hostspec_is_an_integer_a_string_or_an_ipv6_address(hostspec: Any, at: str) -> None:
    with Listener(at) as listener, comm.open_tcp_stream(hostspec, listener.port) as stream, listener.accept()[0]:
        expected = comm.string_ip_address(at), listener.port
        assert comm.socket_stream_peer_address(stream) == expected
        assert comm.get_socket_peer_address(handle_of(stream)) == expected


@linux_only
def test_hostspec_as_an_integer_has_its_most_significant_byte_first() -> None:
    with Listener("127.0.0.2") as listener, comm.open_tcp_stream(0x7F000002, listener.port), listener.accept()[0]:
        pass


@pytest.mark.parametrize("as_text", [False, True])
def test_service_is_a_fixnum_or_digits(as_text: bool) -> None:
    with Listener() as listener:
        service = str(listener.port) if as_text else listener.port
        with comm.open_tcp_stream(LOOPBACK, service) as stream, listener.accept()[0]:
            assert comm.socket_stream_peer_address(stream) == (NUMBER, listener.port)


def test_service_is_a_name_of_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    with Listener() as listener:
        the_service_has(listener.port, monkeypatch)
        with comm.open_tcp_stream(LOOPBACK, "page"), listener.accept()[0]:
            pass
    condition = condition_of(comm.open_tcp_stream(LOOPBACK, "another"))
    assert isinstance(condition, comm.socket_create_error)
    assert "another" in str(condition)


# ---- timeout ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("errorp", [False, True])
def test_timeout_is_the_longest_that_a_silent_host_is_waited_for(errorp: bool) -> None:
    with silence() as listener, timing() as took:
        if errorp:
            with pytest.raises(comm.socket_connect_error) as caught:
                opening(LOOPBACK, listener.port, timeout=0.2, errorp=True)
            condition: object = caught.value
        else:
            condition = condition_of(comm.open_tcp_stream(LOOPBACK, listener.port, timeout=0.2))
    assert isinstance(condition, TimeoutError)
    assert 0.2 <= took.seconds < WITHIN


def test_timeout_is_for_the_lookup_too(resolver: Resolver) -> None:
    resolver.hang("slow.example")
    condition = condition_of(comm.open_tcp_stream("slow.example", 80, timeout=0.05))
    assert isinstance(condition, comm.socket_connect_error)
    assert isinstance(condition, TimeoutError)


def test_timeout_nil_waits_until_connecting_succeeds_or_fails(resolver: Resolver) -> None:
    gate = resolver.say("slow.example", ipv4=[LOOPBACK], held=[V4, V6])
    with Listener() as listener, refusing() as closed:
        succeeding = Task(partial(comm.open_tcp_stream, "slow.example", listener.port)).blocked()
        failing = Task(partial(comm.open_tcp_stream, "slow.example", closed.port)).blocked()
        gate.set()
        assert isinstance(condition_of(failing.result()), ConnectionRefusedError)
        with succeeding.result(), listener.accept()[0]:
            pass


def test_timeout_is_not_for_reads_after_the_connection_is_made() -> None:
    with connection(timeout=0.05) as (stream, far):
        assert comm.stream_read_timeout(stream) is None
        reading = Task(lambda: comm.read_char(stream)).blocked()
        threading.Event().wait(0.1)
        far.sendall(b"x")
        assert reading.result() == "x"


def test_timeout_does_not_wait_when_the_attempt_has_failed() -> None:
    with refusing() as closed, timing() as took:
        condition = condition_of(comm.open_tcp_stream(LOOPBACK, closed.port, timeout=3600))
    assert isinstance(condition, ConnectionRefusedError)
    assert took.seconds < WITHIN


# ---- local-address and local-port ------------------------------------------------------------------------


def test_local_address_and_port_nil_leave_the_choice_to_the_system() -> None:
    with Listener() as listener:
        ports = set()
        for arguments in ({}, {"local_address": None, "local_port": None}):
            with opening(LOOPBACK, listener.port, **arguments) as stream:
                far, came_from = listener.accept()
                far.close()
                assert comm.socket_stream_address(stream) == (NUMBER, came_from.port)
                assert came_from.host == LOOPBACK
                ports.add(came_from.port)
        assert 0 not in ports


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize(
    ("local_address", "comes_from"),
    [
        pytest.param(0x7F000002, "127.0.0.2", id="integer", marks=linux_only),
        pytest.param("127.0.0.3", "127.0.0.3", id="IPv4 string", marks=linux_only),
        pytest.param(LOOPBACK6, LOOPBACK6, id="IPv6 string"),
        pytest.param(OBJECT, LOOPBACK6, id="ipv6-address"),
        pytest.param("four.example", LOOPBACK, id="name"),
    ],
)
def test_local_address_is_what_the_peer_sees(local_address: Any, comes_from: str) -> None:
    """As for hostspec; where it is of one family, so is the connection."""
    with (
        one_port(LOOPBACK6, LOOPBACK) as port,
        Listener(LOOPBACK6 if ":" in comes_from else LOOPBACK, port=port) as listener,
        comm.open_tcp_stream(BOTH, port, local_address=local_address) as stream,
    ):
        far, source = listener.accept()
        far.close()
        assert source.host == comes_from
        assert comm.socket_stream_address(stream) == (comm.string_ip_address(comes_from), source.port)


@pytest.mark.parametrize("kind", ["fixnum", "digits", "name"])
def test_local_port_is_what_the_peer_sees(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Listener() as listener, one_port(LOOPBACK) as free:
        the_service_has(free, monkeypatch)
        local_port: Any = {"fixnum": free, "digits": str(free), "name": "page"}[kind]
        with comm.open_tcp_stream(LOOPBACK, listener.port, local_port=local_port) as stream:
            far, source = listener.accept()
            far.close()
            assert source.port == free
            assert comm.socket_stream_address(stream) == (NUMBER, free)


def test_local_port_that_is_taken_is_a_condition() -> None:
    with Listener() as listener, refusing() as taken:
        condition = condition_of(comm.open_tcp_stream(LOOPBACK, listener.port, local_port=taken.port))
    assert isinstance(condition, comm.socket_create_error)
    assert comm.socket_error_code(condition) is not None


# ---- ipv6 ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ipv6", "there", "seen"),
    [
        ("any", LOOPBACK, V4),
        ("any", LOOPBACK6, V6),
        (":any", LOOPBACK6, V6),
        (True, LOOPBACK6, V6),
        (False, LOOPBACK, V4),
        (None, LOOPBACK, V4),
    ],
)
def test_ipv6_says_which_addresses_of_a_name_are_used(ipv6: Any, there: str, seen: int, named: Resolver) -> None:
    with (
        one_port(LOOPBACK6, LOOPBACK) as port,
        Listener(there, port=port) as listener,
        comm.open_tcp_stream(BOTH, port, ipv6=ipv6) as stream,
        listener.accept()[0] as far,
    ):
        assert far.family == handle_of(stream).family == seen
    asked = {family for _, family in named.calls}
    # With "any" the second lookup may be given up before it has begun, for the first has won.
    assert asked <= {V4, V6} if isinstance(ipv6, str) else asked == {seen}
    assert seen in asked


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize(("ipv6", "there"), [(True, LOOPBACK), (False, LOOPBACK6), (None, LOOPBACK6)])
def test_ipv6_other_than_any_never_uses_the_other_family(ipv6: Any, there: str) -> None:
    """Not although that one would work: it is never tried."""
    with one_port(LOOPBACK6, LOOPBACK) as port, Listener(there, port=port) as listener:
        assert isinstance(condition_of(comm.open_tcp_stream(BOTH, port, ipv6=ipv6)), ConnectionRefusedError)
        listener.sock.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize(("ipv6", "name"), [(True, "four.example"), (False, "six.example"), (None, "six.example")])
def test_ipv6_other_than_any_fails_with_a_name_of_the_other_family(ipv6: Any, name: str) -> None:
    condition = condition_of(comm.open_tcp_stream(name, 80, ipv6=ipv6))
    assert isinstance(condition, comm.socket_connect_error)
    assert isinstance(condition, HostLookupError)


@pytest.mark.parametrize(
    ("hostspec", "at", "ipv6"),
    [
        pytest.param(NUMBER, LOOPBACK, True, id="integer"),
        pytest.param(OBJECT, LOOPBACK6, None, id="ipv6-address"),
        pytest.param(OBJECT, LOOPBACK6, False, id="ipv6-address, False"),
    ],
)
def test_ipv6_says_nothing_when_hostspec_is_no_string(hostspec: Any, at: str, ipv6: bool | None) -> None:
    """The page has it for strings only: an integer is an IPv4 address, an ipv6-address is one of IPv6."""
    with Listener(at) as listener, comm.open_tcp_stream(hostspec, listener.port, ipv6=ipv6), listener.accept()[0]:
        pass


@pytest.mark.parametrize(("hostspec", "ipv6"), [(LOOPBACK, True), (LOOPBACK6, False), (LOOPBACK6, None)])
def test_ipv6_holds_for_numeric_strings_too(hostspec: str, ipv6: Any) -> None:
    """They contradict each other, which no network can mend: a wrong argument."""
    with Listener(hostspec) as listener, pytest.raises(ValueError, match=r"is not allowed with ipv6="):
        comm.open_tcp_stream(hostspec, listener.port, ipv6=ipv6)


# ---- nodelay and keepalive -------------------------------------------------------------------------------

TRUE: list[Any] = [True, 1, "yes", 0.5, [None]]
FALSE: list[Any] = [False, None, 0, "", []]
OPTIONS = {
    "nodelay": (socket.IPPROTO_TCP, socket.TCP_NODELAY),
    "keepalive": (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
}


def test_nodelay_is_set_by_default_and_keepalive_is_not() -> None:
    with connection() as (stream, _):
        assert is_set(stream, "nodelay")
        assert not is_set(stream, "keepalive")


@pytest.mark.parametrize("option", list(OPTIONS))
@pytest.mark.parametrize(("value", "wanted"), [(each, True) for each in TRUE] + [(each, False) for each in FALSE])
def test_nodelay_and_keepalive_are_generalized_booleans(option: str, value: Any, wanted: bool) -> None:
    other = "keepalive" if option == "nodelay" else "nodelay"
    with connection(**{option: value}) as (stream, _):
        assert is_set(stream, option) is wanted
        assert is_set(stream, other) is (other == "nodelay")


def is_set(stream: comm.SocketStream, option: str) -> bool:
    return bool(handle_of(stream).getsockopt(*OPTIONS[option]))


def handle_of(stream: comm.SocketStream) -> socket.socket:
    handle = comm.socket_stream_socket(stream)
    assert handle is not None
    return handle
