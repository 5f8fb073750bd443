"""Opening against real sockets: what a connection is, where it starts from, and with what options."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from typing import Any

import pytest
from opening import NOT_LINUX, UNKNOWN, Listener, Resolver, one_port, refusing, silence, timing
from opening import resolver_fixture as _resolver  # noqa: F401 - a fixture

from landline import (
    Cancel,
    ConnectTimeout,
    KeepAlive,
    SocketAddress,
    SocketConnectError,
    SocketCreateError,
    SocketStream,
    connect_to_tcp_server,
    detect_dead_peer,
    open_tcp_stream,
)
from landline.sync import connect as connecting
from landline.sync import resolve

pytestmark = pytest.mark.usefixtures("no_leaks")

V4, V6 = socket.AF_INET, socket.AF_INET6
# A numeric host goes a shorter way, unless another thread may cancel it.
either_way = pytest.mark.parametrize("cancel", [None, Cancel()], ids=["", "with cancel"])

linux_only = pytest.mark.skipif(NOT_LINUX, reason="the whole of 127.0.0.0/8 is this machine on Linux only")


# ---- connected -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", 0x7F000001, "１２７.0.0.1"])
@pytest.mark.parametrize("digits", [False, True])
def test_a_numeric_host_is_connected(host: Any, digits: bool) -> None:
    with (
        Listener() as listener,
        open_tcp_stream(host, str(listener.port) if digits else listener.port) as stream,
        listener.accept()[0] as peer,
    ):
        assert stream.peer_address == listener.address
        assert stream.local_address == SocketAddress.from_sockaddr(peer.getpeername())
        stream.write(b"hello")
        stream.flush()
        assert peer.recv(100) == b"hello"


def test_an_ipv6_host_is_connected() -> None:
    with Listener("::1") as listener, open_tcp_stream("0::1", listener.port) as stream, listener.accept()[0]:
        assert stream.peer_address == SocketAddress("::1", listener.port)


def test_a_name_is_connected_and_the_report_tells_how(resolver: Resolver) -> None:
    resolver.say("server.example", ipv4=["127.0.0.1"])
    with Listener() as listener, open_tcp_stream("Server.Example", listener.port) as stream, listener.accept()[0]:
        report = stream.report
    assert report is not None
    assert (report.host, report.port) == ("Server.Example", listener.port)
    assert [(lookup.name, lookup.family) for lookup in report.lookups] == [
        ("server.example", "IPv6"),
        ("server.example", "IPv4"),
    ]
    assert [lookup.addresses for lookup in report.lookups] == [(), ("127.0.0.1",)]
    assert report.winner is report.attempts[0]
    assert report.winner.address == listener.address
    assert report.elapsed is not None
    assert 0 <= report.winner.started <= (report.winner.ended or -1) <= report.elapsed


def test_a_trailing_dot_goes_to_the_resolver_and_no_further(resolver: Resolver) -> None:
    resolver.say("server.example.", ipv4=["127.0.0.1"])
    with Listener() as listener, open_tcp_stream("server.example.", listener.port) as stream:
        assert stream.report is not None
        assert stream.report.lookups[0].name == "server.example"


def test_a_numeric_host_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", lambda thread: pytest.fail("a thread was started"))
    monkeypatch.setattr(resolve, "start_new_thread", lambda *work: pytest.fail("a thread was started"))
    monkeypatch.setattr(connecting, "Wakeup", lambda: pytest.fail("a wakeup descriptor was made"))
    with Listener() as listener, refusing() as closed:
        open_tcp_stream("127.0.0.1", listener.port).close()
        open_tcp_stream("127.0.0.1", listener.port, local_address="127.0.0.1").close()
        with pytest.raises(ConnectionRefusedError):
            open_tcp_stream("127.0.0.1", closed.port)


def test_connect_to_tcp_server_gives_a_plain_blocking_socket() -> None:
    with (
        Listener() as listener,
        connect_to_tcp_server("127.0.0.1", listener.port) as sock,
        listener.accept()[0] as peer,
    ):
        assert type(sock) is socket.socket
        assert sock.gettimeout() is None
        assert os.get_blocking(sock.fileno())
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16) == struct.pack("@ll", 0, 0)
        peer.sendall(b"x")
        assert sock.recv(1) == b"x"


def test_a_socket_from_connect_to_tcp_server_becomes_a_stream_later() -> None:
    with Listener() as listener:
        sock = connect_to_tcp_server("127.0.0.1", listener.port)
        with SocketStream(sock) as stream, listener.accept()[0] as peer:
            peer.sendall(b"line\n")
            assert stream.readline() == b"line\n"


def test_errorp_false_gives_the_stream_or_socket_and_none() -> None:
    with Listener() as listener:
        stream, error = open_tcp_stream("127.0.0.1", listener.port, errorp=False)
        sock, sock_error = connect_to_tcp_server("127.0.0.1", listener.port, errorp=None)
        assert (error, sock_error) == (None, None)
        assert stream is not None
        assert sock is not None
        stream.close()
        sock.close()


def test_errorp_false_gives_none_and_the_condition() -> None:
    with refusing() as closed:
        stream, error = open_tcp_stream("127.0.0.1", closed.port, errorp=False)
        sock, sock_error = connect_to_tcp_server("127.0.0.1", closed.port, errorp=None)
    assert (stream, sock) == (None, None)
    assert isinstance(error, SocketConnectError)
    assert isinstance(sock_error, SocketConnectError)
    assert isinstance(error, ConnectionRefusedError)


# ---- options -------------------------------------------------------------------------------------------


def option(sock: socket.socket, name: str) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))


@pytest.mark.skipif(NOT_LINUX, reason="names and units of these options are Linux's")
@pytest.mark.parametrize(
    ("keepalive", "clocks"),
    [(KeepAlive(60, 10, 5), (60, 10, 5, 0)), (detect_dead_peer(60), (30, 10, 3, 59500))],
)
def test_keepalive_can_be_read_back_from_the_socket(keepalive: KeepAlive, clocks: tuple[int, ...]) -> None:
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    with (
        Listener() as listener,
        open_tcp_stream("127.0.0.1", listener.port, keepalive=keepalive) as stream,
        socket.socket(fileno=os.dup(stream.fileno())) as sock,
    ):
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert tuple(option(sock, name) for name in names) == clocks


@pytest.mark.parametrize("value", [True, False])
def test_nodelay_and_keepalive_are_what_was_asked_for(value: bool) -> None:
    with Listener() as listener:
        with connect_to_tcp_server("127.0.0.1", listener.port, nodelay=value, keepalive=value) as sock:
            assert bool(option(sock, "TCP_NODELAY")) is value
            assert bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is value
        with connect_to_tcp_server("127.0.0.1", listener.port) as sock:
            assert option(sock, "TCP_NODELAY")
            assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


# ---- the callback --------------------------------------------------------------------------------------


def test_the_callback_gets_each_socket_before_it_is_bound_and_connected(resolver: Resolver) -> None:
    seen: list[tuple[int, bool, bool]] = []
    sockets: list[socket.socket] = []

    def callback(sock: socket.socket) -> None:
        bound = sock.getsockname()[1] != 0 or sock.getsockname()[0] not in ("0.0.0.0", "::")
        try:
            sock.getpeername()
        except OSError:
            connected = False
        else:
            connected = True
        seen.append((sock.family, bound, connected))
        sockets.append(sock)

    with one_port("::1", "127.0.0.1") as port, Listener(port=port) as listener:
        resolver.say("both.example", ["127.0.0.1"], ["::1"])
        resolver.say("here.example", ["127.0.0.1"], ["::1"])
        with open_tcp_stream("both.example", port, local_address="here.example", socket_configure_callback=callback):
            listener.accept()[0].close()
    assert seen == [(V6, False, False), (V4, False, False)]
    assert sockets[0] is not sockets[1]


def test_the_callback_has_the_last_word_on_options() -> None:
    def callback(sock: socket.socket) -> None:
        assert option(sock, "TCP_NODELAY")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        sock.settimeout(5)  # of no effect: landline waits in its own way

    with (
        Listener() as listener,
        connect_to_tcp_server("127.0.0.1", listener.port, socket_configure_callback=callback) as sock,
    ):
        assert not option(sock, "TCP_NODELAY")
        assert sock.gettimeout() is None


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("no such device"),
        PermissionError(errno.EPERM, "not for you"),
        ValueError("odd"),
        TimeoutError("of its own"),
        BlockingIOError(errno.EAGAIN, "try again"),
    ],
)
@pytest.mark.parametrize("timeout", [None, 5])
@either_way
def test_a_callback_that_raises_is_a_create_error_with_its_cause(
    error: Exception, timeout: float | None, cancel: Cancel | None
) -> None:
    def callback(sock: socket.socket) -> None:
        raise error

    with Listener() as listener:
        with pytest.raises(SocketCreateError) as caught:
            open_tcp_stream(
                "127.0.0.1", listener.port, socket_configure_callback=callback, timeout=timeout, cancel=cancel
            )
        condition = caught.value
        assert condition.__cause__ is error
        assert isinstance(condition, type(error)) is not isinstance(error, (RuntimeError, BlockingIOError))
        assert condition.operation == "create"
        assert condition.report is not None
        assert [attempt.reached_connect for attempt in condition.report.attempts] == [False]
        reason = getattr(error, "strerror", None) or str(error)
        assert f"could not make a socket for 127.0.0.1 port {listener.port}: " in str(condition)
        assert f"({reason})" in str(condition)
        stream, returned = open_tcp_stream("127.0.0.1", listener.port, socket_configure_callback=callback, errorp=False)
        assert stream is None
        assert type(returned) is type(condition)


@pytest.mark.parametrize("limit", [0, 0.01, None])
@either_way
def test_a_limit_that_the_callback_sets_is_of_no_effect(limit: float | None, cancel: Cancel | None) -> None:
    with silence() as silent, timing() as took, pytest.raises(ConnectTimeout, match=r"within timeout=0\.1 s"):
        open_tcp_stream(
            "127.0.0.1",
            silent.port,
            socket_configure_callback=lambda sock: sock.settimeout(limit),
            timeout=0.1,
            cancel=cancel,
        )
    assert took.seconds >= 0.1


def test_what_the_callback_raises_is_the_failure_of_that_attempt_alone(resolver: Resolver) -> None:
    def callback(sock: socket.socket) -> None:
        if sock.family == V6:
            raise RuntimeError("not this one")

    resolver.say("both.example", ["127.0.0.1"], ["::1"])
    with (
        Listener() as listener,
        open_tcp_stream("both.example", listener.port, socket_configure_callback=callback) as stream,
    ):
        assert stream.report is not None
        assert [attempt.outcome for attempt in stream.report.attempts] == ["failed", "connected"]
    with refusing() as closed, pytest.raises(SocketConnectError) as caught:
        open_tcp_stream("both.example", closed.port, socket_configure_callback=callback)
    assert not isinstance(caught.value, ConnectionRefusedError)
    assert "(not this one)" in str(caught.value)
    assert "(Connection refused)" in str(caught.value)


def test_a_callback_may_be_interrupted() -> None:
    def callback(sock: socket.socket) -> None:
        raise KeyboardInterrupt

    with Listener() as listener, pytest.raises(KeyboardInterrupt):
        open_tcp_stream("127.0.0.1", listener.port, socket_configure_callback=callback)


def test_a_callback_that_closes_its_socket_is_a_failed_attempt() -> None:
    with Listener() as listener, pytest.raises(SocketCreateError, match="Bad file descriptor"):
        open_tcp_stream("127.0.0.1", listener.port, socket_configure_callback=socket.socket.close)


# ---- the local end ---------------------------------------------------------------------------------------


@linux_only
@pytest.mark.parametrize("local", ["127.0.0.2", 0x7F000002])
@either_way
def test_the_peer_sees_the_local_address(local: Any, cancel: Cancel | None) -> None:
    with (
        Listener() as listener,
        open_tcp_stream("127.0.0.1", listener.port, local_address=local, cancel=cancel) as stream,
    ):
        sock, seen = listener.accept()
        sock.close()
        assert seen.host == "127.0.0.2"
        assert stream.local_address == seen


@pytest.mark.parametrize("digits", [False, True])
def test_the_peer_sees_the_local_port(digits: bool) -> None:
    with Listener() as listener, one_port("127.0.0.1") as port:
        local_port = str(port) if digits else port
        with open_tcp_stream("127.0.0.1", listener.port, local_port=local_port) as stream:
            sock, seen = listener.accept()
            sock.close()
            assert seen.port == port
            assert stream.local_address == seen


def test_the_local_port_may_be_a_service_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with Listener() as listener, one_port("127.0.0.1") as port:
        monkeypatch.setattr(socket, "getservbyname", lambda name, protocol: {"mine": port}[name])
        with open_tcp_stream("127.0.0.1", listener.port, local_port="mine") as stream:
            assert stream.local_address == SocketAddress("127.0.0.1", port)


def test_a_local_port_serves_attempts_in_both_families_at_once(resolver: Resolver) -> None:
    resolver.say("both.example", ["127.0.0.1"], ["::1"])
    with (
        one_port("::1", "127.0.0.1") as port,
        one_port("::1", "127.0.0.1") as local,
        silence("::1", port),
        Listener(port=port) as listener,
        open_tcp_stream("both.example", port, local_port=local, attempt_delay=0.01),
    ):
        sock, seen = listener.accept()
        sock.close()
    assert seen == SocketAddress("127.0.0.1", local)


@linux_only
def test_a_local_port_can_be_used_again_at_once() -> None:
    with Listener() as listener, one_port("127.0.0.1") as port:
        for host in ("127.0.0.1", "127.0.0.1"):
            with Listener("127.0.0.1") as other, open_tcp_stream(host, other.port, local_port=port):
                other.accept()[0].close()
        open_tcp_stream("127.0.0.1", listener.port, local_port=port).close()


def test_a_numeric_local_address_restricts_the_race_to_its_family(resolver: Resolver) -> None:
    resolver.say("both.example", ["127.0.0.1"], ["::1"])
    with one_port("::1", "127.0.0.1") as port, Listener("::1", port=port), Listener(port=port):
        with open_tcp_stream("both.example", port, local_address="127.0.0.1") as stream:
            assert stream.peer_address == SocketAddress("127.0.0.1", port)
        assert resolver.calls == [("both.example", V4)]
        with open_tcp_stream("both.example", port, local_address="::1") as stream:
            assert stream.peer_address == SocketAddress("::1", port)


def test_a_local_name_of_one_family_restricts_the_race_to_it(resolver: Resolver) -> None:
    resolver.say("both.example", ["127.0.0.1"], ["::1"])
    resolver.say("here.example", ["127.0.0.1"], [])
    with (
        one_port("::1", "127.0.0.1") as port,
        Listener("::1", port=port),
        Listener(port=port),
        open_tcp_stream("both.example", port, local_address="here.example") as stream,
    ):
        assert stream.peer_address == SocketAddress("127.0.0.1", port)
    assert ("both.example", V6) not in resolver.calls


@linux_only
def test_a_local_name_of_both_families_gives_each_attempt_its_own(resolver: Resolver) -> None:
    resolver.say("both.example", ["127.0.0.1"], ["::1"])
    resolver.say("here.example", ["127.0.0.3"], ["::1"])
    with (
        one_port("::1", "127.0.0.1") as port,
        Listener(port=port) as listener,
        open_tcp_stream("both.example", port, local_address="here.example") as stream,
    ):
        sock, seen = listener.accept()
        sock.close()
        assert seen.host == "127.0.0.3"
        assert stream.report is not None
        assert [attempt.address.family for attempt in stream.report.attempts] == [V6, V4]


@either_way
def test_a_bad_local_address_is_a_create_error_that_names_it(cancel: Cancel | None) -> None:
    with Listener() as listener, pytest.raises(SocketCreateError) as caught:
        open_tcp_stream("127.0.0.1", listener.port, local_address="192.0.2.1", cancel=cancel)
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert "binding to 192.0.2.1:0: Cannot assign requested address" in str(caught.value)
    assert "[Errno" not in str(caught.value)
    assert caught.value.operation == "create"


def test_a_local_port_that_is_taken_is_a_create_error_that_names_it() -> None:
    with Listener() as listener, Listener() as other, pytest.raises(SocketCreateError) as caught:
        open_tcp_stream("127.0.0.1", listener.port, local_address="127.0.0.1", local_port=other.port)
    assert caught.value.errno == errno.EADDRINUSE
    assert f"binding to {other.address}" in str(caught.value)


def test_an_unknown_local_name_is_a_create_error_with_its_cause(resolver: Resolver) -> None:
    resolver.say("nowhere.example")
    with Listener() as listener, pytest.raises(SocketCreateError) as caught:
        open_tcp_stream("127.0.0.1", listener.port, local_address="nowhere.example")
    assert str(caught.value) == "the local address nowhere.example was not found: Name or service not known"
    assert caught.value.__cause__ is UNKNOWN
    assert caught.value.report is not None
    assert (caught.value.operation, caught.value.address) == ("lookup", "nowhere.example")


def test_a_local_name_with_addresses_of_the_other_family_only_is_a_create_error(resolver: Resolver) -> None:
    resolver.say("here.example", [], ["::1"])
    with (
        Listener() as listener,
        pytest.raises(SocketCreateError, match=r"here\.example was not found: the name has no"),
    ):
        open_tcp_stream("127.0.0.1", listener.port, local_address="here.example")


# ---- families ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ipv6", "asked"), [("any", {V4, V6}), (True, {V6}), (False, {V4}), (None, {V4})], ids=str)
def test_ipv6_says_which_families_are_looked_up(resolver: Resolver, ipv6: Any, asked: set[int]) -> None:
    resolver.say("both.example", ["127.0.0.1"], ["::1"])
    with (
        one_port("::1", "127.0.0.1") as port,
        Listener("::1", port=port),
        Listener(port=port),
        open_tcp_stream("both.example", port, ipv6=ipv6) as stream,
    ):
        assert stream.peer_address is not None
        assert stream.peer_address.host == ("::1" if V6 in asked else "127.0.0.1")
    resolver.release()
    assert {family for _, family in resolver.calls} == asked


def test_ipv6_true_takes_a_numeric_ipv6_host() -> None:
    with Listener("::1") as listener:
        open_tcp_stream("::1", listener.port, ipv6=True).close()
