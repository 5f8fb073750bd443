"""Opening against real sockets: which of several addresses wins, how failure reads, and how long it takes."""

from __future__ import annotations

import errno
import pickle
import socket
import struct
import sys
import threading
from contextlib import ExitStack
from typing import Any

import pytest
from opening import NOT_LINUX, UNKNOWN, Listener, Resolver, one_port, refusing, silence, timing
from opening import resolver_fixture as _resolver  # noqa: F401 - a fixture

from landline import (
    Cancel,
    ConnectTimeout,
    HostLookupError,
    SocketAddress,
    SocketConnectError,
    SocketCreateError,
    SocketStream,
    open_tcp_stream,
)
from landline.report import ConnectionReport
from landline.sync import connect as connecting
from landline.sync import resolve
from landline.sync.attempt import second_look
from landline.sync.wait import wait_for_sockets

pytestmark = pytest.mark.usefixtures("no_leaks")

V4, V6 = socket.AF_INET, socket.AF_INET6
SLOTH = 0.5
"""Seconds more than expected that a loaded machine may take, where nothing but the order of size is at stake."""

linux_only = pytest.mark.skipif(NOT_LINUX, reason="the whole of 127.0.0.0/8 is this machine on Linux only")


# A numeric host goes a shorter way, unless another thread may cancel it.
either_way = pytest.mark.parametrize("cancel", [None, Cancel()], ids=["", "with cancel"])


def outcomes(report: ConnectionReport | None) -> list[str]:
    assert report is not None
    return [attempt.outcome for attempt in report.attempts]


# ---- the race ------------------------------------------------------------------------------------------------


def test_rfc_8305_4_ipv6_goes_first_where_both_work(resolver: Resolver) -> None:
    resolver.say("both.example", ["127.0.0.1"], ["::1"])
    with (
        one_port("::1", "127.0.0.1") as port,
        Listener("::1", port=port),
        Listener(port=port),
        open_tcp_stream("both.example", port) as stream,
    ):
        assert stream.peer_address == SocketAddress("::1", port)


@linux_only
def test_a_failure_starts_the_next_attempt_at_once(resolver: Resolver) -> None:
    resolver.say("many.example", ["127.0.0.1", "127.0.0.2", "127.0.0.3"], [])
    with (
        one_port("127.0.0.1", "127.0.0.2", "127.0.0.3") as port,
        Listener("127.0.0.3", port=port),
        timing() as took,
        open_tcp_stream("many.example", port, attempt_delay=2) as stream,
    ):
        assert took.seconds < SLOTH
        assert outcomes(stream.report) == ["failed", "failed", "connected"]


@linux_only
def test_rfc_8305_5_a_silent_address_holds_the_next_one_up_for_the_attempt_delay(resolver: Resolver) -> None:
    resolver.say("many.example", ["127.0.0.1", "127.0.0.2"], [])
    with (
        one_port("127.0.0.1", "127.0.0.2") as port,
        silence(port=port),
        Listener("127.0.0.2", port=port),
        timing() as took,
        open_tcp_stream("many.example", port, attempt_delay=0.1) as stream,
    ):
        assert 0.1 <= took.seconds < 0.1 + SLOTH
        assert outcomes(stream.report) == ["cancelled", "connected"]
        assert stream.peer_address == SocketAddress("127.0.0.2", port)


@linux_only
def test_a_slow_attempt_is_never_given_up_because_the_next_one_starts(resolver: Resolver) -> None:
    resolver.say("slow.example", ["127.0.0.1", "127.0.0.2"], [])
    with one_port("127.0.0.1", "127.0.0.2") as port, silence(port=port) as first, silence("127.0.0.2", port):
        second_started = threading.Event()
        started: list[socket.socket] = []

        def callback(sock: socket.socket) -> None:
            started.append(sock)
            if len(started) == 2:
                second_started.set()

        def make_room() -> None:
            assert second_started.wait(10)
            first.accept()[0].close()  # so that the system answers when it is asked again, after a second

        helper = threading.Thread(target=make_room)
        helper.start()
        with open_tcp_stream(
            "slow.example", port, timeout=20, attempt_delay=0.01, socket_configure_callback=callback
        ) as stream:
            assert stream.peer_address == SocketAddress("127.0.0.1", port)
            assert outcomes(stream.report) == ["connected", "cancelled"]
        helper.join()


def test_one_family_that_is_unknown_or_empty_does_not_matter(resolver: Resolver) -> None:
    with Listener() as listener:
        resolver.say("unknown.example", ["127.0.0.1"], UNKNOWN)
        open_tcp_stream("unknown.example", listener.port).close()
        resolver.say("empty.example", ["127.0.0.1"], [])
        open_tcp_stream("empty.example", listener.port).close()


def test_the_same_address_is_tried_once(resolver: Resolver) -> None:
    resolver.say("twice.example", ["127.0.0.1", "127.0.0.1"], [])
    with refusing() as closed, pytest.raises(SocketConnectError) as caught:
        open_tcp_stream("twice.example", closed.port)
    assert caught.value.report is not None
    assert len(caught.value.report.attempts) == 1


@linux_only
def test_a_hostile_number_of_addresses_is_cut_and_the_report_says_so(resolver: Resolver) -> None:
    resolver.say("hostile.example", [f"127.1.{n // 256}.{n % 256}" for n in range(4000)], [])
    with refusing() as closed, pytest.raises(ConnectionRefusedError) as caught:
        open_tcp_stream("hostile.example", closed.port)
    report = caught.value.report  # type: ignore[attr-defined] # it is a SocketConnectError too
    assert len(report.attempts) == 32
    assert report.ignored == 4000 - 32
    assert "3968 more addresses were ignored" in str(report)
    assert str(caught.value).count("Connection refused") == 8
    assert str(caught.value).endswith("and 24 more")


@linux_only
def test_addresses_ignored_in_two_families_are_counted_together(resolver: Resolver) -> None:
    resolver.say("wide.example", [f"127.1.0.{n}" for n in range(30)], [f"2001:db8::{n:x}" for n in range(30)])

    def only_ipv4(sock: socket.socket) -> None:
        if sock.family == V6:
            raise RuntimeError("no IPv6 here")

    with refusing() as closed, pytest.raises(SocketConnectError) as caught:
        open_tcp_stream("wide.example", closed.port, socket_configure_callback=only_ipv4)
    assert caught.value.report is not None
    assert len(caught.value.report.attempts) == 32
    assert caught.value.report.ignored == 28


@either_way
def test_a_connection_to_oneself_is_a_refusal(cancel: Cancel | None) -> None:
    with one_port("127.0.0.1") as port, pytest.raises(ConnectionRefusedError):
        open_tcp_stream("127.0.0.1", port, local_address="127.0.0.1", local_port=port, cancel=cancel)


def test_a_connection_that_is_reset_before_it_is_looked_at_is_a_failed_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait_until_reset(*args: Any) -> set[int]:
        ready = wait_for_sockets(*args)
        peer = listener.accept()[0]
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        return ready

    monkeypatch.setattr(connecting, "wait_for_sockets", wait_until_reset)
    with Listener() as listener, pytest.raises(ConnectionResetError) as caught:
        open_tcp_stream("127.0.0.1", listener.port, cancel=Cancel())
    assert isinstance(caught.value, SocketConnectError)
    with socket.socket() as unconnected:  # the reset may also come after the first look
        assert second_look(unconnected) == errno.ECONNRESET


# ---- failure -------------------------------------------------------------------------------------------------


@either_way
def test_a_refusal_is_a_connect_error_a_refusal_and_a_sentence(cancel: Cancel | None) -> None:
    with refusing() as closed, pytest.raises(SocketConnectError) as caught:
        open_tcp_stream("127.0.0.1", closed.port, cancel=cancel)
    error = caught.value
    assert isinstance(error, ConnectionRefusedError)
    assert error.errno == errno.ECONNREFUSED
    assert str(error).startswith(f"could not connect to 127.0.0.1 port {closed.port}: {closed} failed after ")
    assert str(error).endswith(" ms (Connection refused)")
    assert isinstance(error.__cause__, ConnectionRefusedError)
    assert (error.operation, error.address) == ("connect", "127.0.0.1")
    assert error.report is not None
    assert [attempt.error for attempt in error.report.attempts] == [error.__cause__]
    assert error.report.elapsed is not None
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), str(twin), str(twin.report)) == (type(error), str(error), str(error.report))


@linux_only
def test_where_all_attempts_failed_for_one_reason_the_condition_is_of_its_kin(resolver: Resolver) -> None:
    resolver.say("many.example", ["127.0.0.1", "127.0.0.2"], [])
    with one_port("127.0.0.1", "127.0.0.2") as port, pytest.raises(ConnectionRefusedError) as caught:
        open_tcp_stream("many.example", port)
    assert isinstance(caught.value, SocketConnectError)
    assert caught.value.errno == errno.ECONNREFUSED
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert [type(error) for error in caught.value.__cause__.exceptions] == [ConnectionRefusedError] * 2
    assert f"127.0.0.1:{port} failed" in str(caught.value)
    assert f"127.0.0.2:{port} failed" in str(caught.value)


@linux_only
def test_where_reasons_differ_the_condition_is_of_nobodys_kin(resolver: Resolver) -> None:
    resolver.say("many.example", ["127.0.0.1", "255.255.255.255"], [])
    with refusing() as closed, pytest.raises(SocketConnectError) as caught:
        open_tcp_stream("many.example", closed.port)
    assert type(caught.value) is SocketConnectError
    assert caught.value.errno is None
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert "(Connection refused), 255.255.255.255:" in str(caught.value)


def test_an_unknown_name_is_a_host_lookup_error_and_a_gaierror(resolver: Resolver) -> None:
    resolver.say("nowhere.example")
    with pytest.raises(HostLookupError) as caught:
        open_tcp_stream("nowhere.example", 80)
    error = caught.value
    assert isinstance(error, socket.gaierror)
    assert error.errno == socket.EAI_NONAME
    assert str(error) == (
        "could not find nowhere.example: IPv6: Name or service not known, IPv4: Name or service not known"
    )
    assert error.__cause__ is UNKNOWN
    assert (error.operation, error.address) == ("lookup", "nowhere.example")
    assert error.report is not None
    assert [lookup.error for lookup in error.report.lookups] == [UNKNOWN, UNKNOWN]
    assert pickle.loads(pickle.dumps(error)).errno == socket.EAI_NONAME


def test_a_name_without_addresses_is_a_host_lookup_error(resolver: Resolver) -> None:
    resolver.say("empty.example", [], [])
    with pytest.raises(HostLookupError, match=r"could not find empty\.example: the name has no addresses") as caught:
        open_tcp_stream("empty.example", 80)
    assert caught.value.__cause__ is None


def test_a_local_name_is_not_blamed_for_an_unknown_host(resolver: Resolver) -> None:
    again = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    resolver.say("here.example", ["127.0.0.1"], again)
    resolver.say("nowhere.example")
    with pytest.raises(HostLookupError) as caught:
        open_tcp_stream("nowhere.example", 80, local_address="here.example")
    assert str(caught.value) == "could not find nowhere.example: IPv4: Name or service not known"
    assert caught.value.errno == socket.EAI_NONAME


def test_no_thread_for_the_lookup_is_a_create_error(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    def start_new_thread(*work: object) -> int:
        raise RuntimeError("can't start new thread")

    resolver.say("server.example", ["127.0.0.1"], [])
    with Listener() as listener:
        with monkeypatch.context() as patch:
            patch.setattr(resolve, "start_new_thread", start_new_thread)
            with pytest.raises(SocketCreateError, match="no thread to look up") as caught:
                open_tcp_stream("server.example", listener.port)
        assert isinstance(caught.value.__cause__, RuntimeError)
        open_tcp_stream("server.example", listener.port).close()  # and the name is not blocked from then on


def test_a_stream_that_cannot_be_made_closes_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **facts: Any) -> SocketStream:
        raise MemoryError

    monkeypatch.setattr(SocketStream, "_over", fail)
    with Listener() as listener, pytest.raises(MemoryError):
        open_tcp_stream("127.0.0.1", listener.port)


# ---- time ----------------------------------------------------------------------------------------------------


@either_way
def test_the_timeout_ends_a_silent_connect_and_names_what_was_tried(cancel: Cancel | None) -> None:
    with silence() as silent, timing() as took, pytest.raises(ConnectTimeout) as caught:
        open_tcp_stream("127.0.0.1", silent.port, timeout=0.2, cancel=cancel)
    assert 0.2 <= took.seconds < 0.2 + SLOTH
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert str(error).startswith(f"could not connect to 127.0.0.1 port {silent.port} within timeout=0.2 s: ")
    assert f"{silent.address} had not answered after 2" in str(error)
    assert error.report is not None
    assert outcomes(error.report) == ["timed out"]
    assert error.report.elapsed is not None
    assert 0.2 <= error.report.elapsed <= took.seconds


def test_one_timeout_covers_lookup_and_attempts_together(resolver: Resolver) -> None:
    resolver.say("half.example", ["127.0.0.1"], held=[V6])
    with silence() as silent, timing() as took, pytest.raises(ConnectTimeout) as caught:
        open_tcp_stream("half.example", silent.port, timeout=0.3)
    assert 0.3 <= took.seconds < 0.3 + SLOTH
    assert "the IPv6 lookup of half.example has not answered" in str(caught.value)
    assert f"{silent.address} had not answered" in str(caught.value)


def test_a_lookup_that_hangs_obeys_the_timeout(resolver: Resolver) -> None:
    resolver.hang("slow.example")
    with timing() as took, pytest.raises(ConnectTimeout) as caught:
        open_tcp_stream("slow.example", 80, timeout=0.2)
    assert 0.2 <= took.seconds < 0.2 + SLOTH
    assert str(caught.value) == (
        "could not connect to slow.example port 80 within timeout=0.2 s: "
        "the IPv6 lookup of slow.example has not answered, the IPv4 lookup of slow.example has not answered"
    )


def test_the_lookup_of_a_local_name_obeys_the_timeout(resolver: Resolver) -> None:
    resolver.hang("here.example")
    with Listener() as listener, timing() as took, pytest.raises(ConnectTimeout, match=r"lookup of here\.example"):
        open_tcp_stream("127.0.0.1", listener.port, local_address="here.example", timeout=0.2)
    assert 0.2 <= took.seconds < 0.2 + SLOTH


@either_way
def test_a_timeout_of_zero_does_not_wait(cancel: Cancel | None) -> None:
    with silence() as silent, timing() as took, pytest.raises(ConnectTimeout, match=r"within timeout=0 s"):
        open_tcp_stream("127.0.0.1", silent.port, timeout=0, cancel=cancel)
    assert took.seconds < SLOTH


@pytest.mark.parametrize("timeout", [None, float("inf"), 1e12, sys.maxsize])
def test_a_timeout_too_long_to_count_is_none(timeout: float | None) -> None:
    with Listener() as listener:
        open_tcp_stream(
            "127.0.0.1", listener.port, timeout=timeout, read_timeout=timeout, write_timeout=timeout
        ).close()


@linux_only
def test_every_silent_address_is_tried_within_the_timeout(resolver: Resolver) -> None:
    hosts = [f"127.0.0.{n}" for n in range(1, 5)]
    resolver.say("silent.example", hosts, [])
    with one_port(*hosts) as port, ExitStack() as stack:
        for host in hosts:
            stack.enter_context(silence(host, port))
        with pytest.raises(ConnectTimeout) as caught:
            open_tcp_stream("silent.example", port, timeout=0.5, attempt_delay=0.05)
        assert [host for host in hosts if f"{host}:{port} had not answered" in str(caught.value)] == hosts
