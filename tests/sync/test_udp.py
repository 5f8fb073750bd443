"""UdpSocket: datagrams whole or told of, clocks, ICMP refusals, many threads, and an end that wakes them all."""

from __future__ import annotations

import errno
import io
import pickle
import random
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from datagrams import HOST, LOOPBACKS, fails, full_buffer, opened, pair, refusing
from datagrams import each_way_fixture as _each_way  # noqa: F401 - a fixture
from opening import Resolver
from opening import resolver_fixture as _resolver  # noqa: F401 - a fixture
from pairs import needs_signals, signals  # noqa: F401 - a fixture among them

from landline import (
    HostLookupError,
    ReadTimeout,
    SocketAddress,
    SocketConnectError,
    SocketIOError,
    StreamClosed,
    WriteTimeout,
)
from landline.sync import udp as udp_module
from landline.sync.udp import LARGEST_SIZE
from landline.sync.udp_conditions import DatagramTruncated
from landline.sync.wait import PolledWaits
from landline.testing.contract.stage import BRIEF, PATIENCE, Task, until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

each_way = pytest.mark.usefixtures("each_way")

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps ICMP messages for us")


# ---- datagrams -----------------------------------------------------------------------------------------


@each_way
@pytest.mark.parametrize("host", LOOPBACKS.values(), ids=list(LOOPBACKS))
def test_datagrams_keep_their_bounds_and_their_sender(host: str) -> None:
    with pair(host) as (udp, peer):
        for data in (b"one", b"", bytes(1000), b"last"):
            udp.send(data)
            assert peer.receive_from() == (data, udp.local_address)
            peer.send_to(data, *udp.local_address)
            assert udp.receive() == data
            peer.send_to(data, *udp.local_address)
            assert udp.receive_from() == (data, peer.local_address)
            udp.send(data)
            assert peer.receive() == data
        assert (udp.datagrams_sent, udp.bytes_sent) == (8, 2014)
        assert (udp.datagrams_received, udp.bytes_received) == (8, 2014)


@pytest.mark.parametrize(
    "data", [bytearray(b"abc"), memoryview(b"xabc")[1:], b"abc"], ids=lambda data: type(data).__name__
)
def test_whatever_has_bytes_is_sent(data: Any) -> None:
    with pair() as (udp, peer):
        udp.send(data)
        peer.send_to(data, *udp.local_address)
        assert udp.receive() == peer.receive() == b"abc"
        fails(TypeError, lambda: udp.send("text"), "bytes-like")  # type: ignore[arg-type]
        udp.send(data)


def test_a_connected_socket_hears_its_peer_only() -> None:
    with pair() as (udp, peer), opened() as stranger:
        stranger.send_to(b"from a stranger", *udp.local_address)
        peer.send_to(b"from the peer", *udp.local_address)
        assert udp.receive() == b"from the peer"


@pytest.mark.parametrize(("host", "most"), [(HOST, 65507), ("::1", 65527)])
def test_the_largest_datagram_passes_and_a_larger_one_is_told_with_its_size(host: str, most: int) -> None:
    data = random.Random(most).randbytes(most)
    with pair(host) as (udp, peer):
        udp.send(data)
        assert peer.receive() == data
        for send in (partial(udp.send, data + b"x"), partial(peer.send_to, data + b"x", *udp.local_address)):
            error = fails(SocketIOError, send, f"a datagram of {most + 1} bytes for .* is too big: .* {most} bytes are")
            assert (error.errno, error.operation) == (errno.EMSGSIZE, "send")
        udp.send(b"as good as before")
        assert peer.receive() == b"as good as before"
        assert udp.datagrams_sent == 2


@each_way
def test_a_datagram_that_is_too_long_is_never_cut_in_silence() -> None:
    with pair() as (udp, peer):
        for receive, sender in (
            (udp.receive, peer),
            (udp.receive_from, peer),
            (peer.receive, udp),
            (peer.receive_from, udp),
        ):
            other = udp if sender is peer else peer
            for data in (b"0123456789", b"0123", b"next"):
                sender.send_to(data, *other.local_address) if sender is peer else sender.send(data)
            error = fails(
                DatagramTruncated, partial(receive, 4), f"10 bytes came from {sender.local_address}, more than"
            )
            assert (error.data, error.size, error.address) == (b"0123", 10, sender.local_address)
            assert receive(4) in (b"0123", (b"0123", sender.local_address))
            assert receive() in (b"next", (b"next", sender.local_address))
            copy: DatagramTruncated = pickle.loads(pickle.dumps(error))
            assert (copy.data, copy.size, str(copy)) == (error.data, error.size, str(error))
    assert issubclass(DatagramTruncated, SocketIOError)


def test_a_size_is_a_number_of_bytes() -> None:
    with pair() as (udp, peer):
        receives: tuple[Callable[[Any], object], ...] = (udp.receive, peer.receive, peer.receive_from)
        for receive in receives:
            fails(ValueError, partial(receive, -1), "size=-1 is not allowed")
            fails(TypeError, partial(receive, 1.5), r"size=1\.5 is not allowed")
        peer.send_to(b"not consumed", *udp.local_address)
        assert udp.receive(LARGEST_SIZE * 2) == b"not consumed"
        udp.send(b"x")
        assert fails(DatagramTruncated, lambda: peer.receive(0)).data == b""


# ---- whom it goes to -----------------------------------------------------------------------------------


def test_send_and_send_to_are_for_one_kind_each() -> None:
    with pair() as (udp, peer):
        for _ in range(2):
            fails(
                io.UnsupportedOperation,
                lambda: peer.send(b"to whom?"),
                r"not connected: send_to\(data, host, service\)",
            )
            fails(io.UnsupportedOperation, lambda: udp.send_to(b"x", HOST, 9), r"connected to .*: send\(data\)")


def test_addresses_are_given_as_everywhere() -> None:
    with opened() as udp, opened(local_address=HOST) as peer:
        port = peer.local_address.port
        for host, service in ((0x7F000001, port), (peer.local_address.ip, str(port)), (HOST, port), (HOST, port)):
            udp.send_to(b"x", host, service)
            assert peer.receive_from() == (b"x", SocketAddress(HOST, udp.local_address.port))


@pytest.mark.parametrize(
    ("ipv6", "host", "service", "message"),
    [
        (False, "::1", 9, "host='::1' is not allowed on this socket, which is for IPv4"),
        (True, HOST, 9, "host='127.0.0.1' is not allowed on this socket, which is for IPv6"),
        (False, HOST, 0, "service=0 is not allowed: nobody receives at port 0"),
        (False, "", 9, "host='' is not allowed"),
        (False, HOST, 65536, "service=65536 is not allowed"),
        (False, HOST, "no-such-service", "service='no-such-service' is unknown"),
    ],
)
def test_a_wrong_address_is_named(ipv6: bool, host: str, service: Any, message: str) -> None:
    with opened(ipv6=ipv6) as udp:
        fails(ValueError, lambda: udp.send_to(b"x", host, service), message)
        assert udp.datagrams_sent == 0


def test_a_name_is_looked_up_for_each_datagram_and_never_kept(resolver: Resolver) -> None:
    with opened(ipv6=False) as udp, opened(local_address=HOST) as peer:
        port = peer.local_address.port
        with opened(local_address="127.0.0.2", local_port=port) as other:
            for there in (peer, other, peer):
                resolver.say("moving.example", [there.local_address.host])
                udp.send_to(b"here?", "moving.example", port)
                assert there.receive() == b"here?"
    assert len(resolver.calls) == 3


def test_a_name_without_a_route_or_an_address_is_told(resolver: Resolver) -> None:
    with opened() as udp:
        resolver.say("nowhere.example")
        fails(HostLookupError, lambda: udp.send_to(b"x", "nowhere.example", 9))
        resolver.say("far.example", [], ["fe80::1"])
        fails(SocketConnectError, lambda: udp.send_to(b"x", "far.example", 9))


def test_a_socket_of_one_family_asks_for_that_one_only(resolver: Resolver) -> None:
    resolver.say("both.example", [HOST], ["::1"])
    with opened(ipv6=False) as udp, opened(local_address=HOST) as peer:
        udp.send_to(b"x", "both.example", peer.local_address.port)
        assert peer.receive() == b"x"
    assert resolver.calls == [("both.example", socket.AF_INET)]


def test_a_lookup_ends_with_write_timeout_or_the_deadline(resolver: Resolver) -> None:
    resolver.hang("dead.example")
    with opened(write_timeout=BRIEF) as udp:
        message = r"no address was found for dead\.example port 9 within write_timeout=0\.005 s; nothing of it was sent"
        error = fails(WriteTimeout, lambda: udp.send_to(b"x", "dead.example", 9), message)
        assert (error.accepted, error.sent) == (0, 0)
        udp.write_timeout = None
        with udp.deadline(BRIEF):
            fails(WriteTimeout, lambda: udp.send_to(b"x", "dead.example", 9), "before the deadline")


def test_close_ends_a_lookup(resolver: Resolver) -> None:
    resolver.hang("dead.example")
    with opened() as udp:
        sending = Task(lambda: udp.send_to(b"x", "dead.example", 9))
        resolver.wait_for_calls(2)
        udp.close()
        error = sending.failure(StreamClosed)
        assert str(error) == "the socket was closed on this side"


# ---- clocks --------------------------------------------------------------------------------------------


@each_way
def test_read_timeout_is_a_limit_that_can_be_set_and_consumes_nothing() -> None:
    with pair(read_timeout=BRIEF) as (udp, peer):
        peer.read_timeout = BRIEF
        for sock, where in ((udp, f"from {peer.local_address}"), (peer, f"to {peer.local_address}")):
            began = time.monotonic()
            error = fails(ReadTimeout, sock.receive, f"no datagram came {where} within read_timeout=0.005 s; nothing")
            assert time.monotonic() - began >= BRIEF
            assert (error.operation, isinstance(error, TimeoutError)) == ("receive", True)
            sock.read_timeout = PATIENCE
            assert sock.read_timeout == PATIENCE
        receiving = Task(udp.receive).blocked()
        peer.send_to(b"late", *udp.local_address)
        assert receiving.result() == b"late"


@each_way
def test_read_timeout_0_does_not_wait() -> None:
    with pair(read_timeout=0) as (udp, peer):
        fails(ReadTimeout, udp.receive, "without waiting")
        peer.send_to(b"there", *udp.local_address)
        until(udp.input_ready)
        assert udp.receive() == b"there"
        fails(ReadTimeout, udp.receive_from)
        udp.read_timeout = None
        receiving = Task(udp.receive).blocked()
        peer.send_to(b"no limit", *udp.local_address)
        assert receiving.result() == b"no limit"


def test_wrong_limits_are_named_and_change_nothing() -> None:
    with pair(read_timeout=1, write_timeout=2) as (udp, _):
        for wrong in (-1, float("nan")):
            for name in ("read_timeout", "write_timeout"):
                fails(ValueError, partial(setattr, udp, name, wrong), f"{name}=")
            fails(ValueError, partial(udp.deadline, wrong), "seconds=")
        fails(TypeError, lambda: setattr(udp, "read_timeout", True))
        assert (udp.read_timeout, udp.write_timeout) == (1, 2)


@each_way
def test_a_deadline_bounds_waits_and_floods_and_is_told() -> None:
    with pair() as (udp, peer):
        with udp.deadline(BRIEF):
            fails(ReadTimeout, udp.receive, "before the deadline")
            peer.send_to(b"there already", *udp.local_address)
            until(udp.input_ready)
            fails(ReadTimeout, udp.receive, "before the deadline")
            fails(WriteTimeout, lambda: udp.send(b"x"), "before the deadline; nothing of it was sent")
        assert udp.receive() == b"there already"
        with udp.deadline(PATIENCE), udp.deadline(None), udp.deadline(BRIEF):
            fails(ReadTimeout, udp.receive)
        with udp.deadline(PATIENCE):
            receiving = Task(udp.receive).blocked()
            peer.send_to(b"within it", *udp.local_address)
            assert receiving.result() == b"within it"


@pytest.mark.parametrize("connected", [True, False])
def test_a_full_buffer_is_waited_for_within_write_timeout(monkeypatch: pytest.MonkeyPatch, connected: bool) -> None:
    """(Over loopback a buffer never fills; with a real one: tests/netns.)"""
    full = full_buffer(monkeypatch)
    with pair(write_timeout=BRIEF) as (udp, peer):
        peer.write_timeout = BRIEF
        send: Callable[[], None] = (
            partial(udp.send, b"x") if connected else partial(peer.send_to, b"x", *udp.local_address)
        )
        sender, receiver = (udp, peer) if connected else (peer, udp)
        full.set()
        message = f"took no datagram for {receiver.local_address} within write_timeout=0.005 s; nothing of it was sent"
        fails(WriteTimeout, send, message)
        sender.write_timeout = 0
        fails(WriteTimeout, send, "without waiting")
        sender.write_timeout = PATIENCE
        sending = Task(send).blocked()
        full.clear()
        sending.result()
        assert receiver.receive() == b"x"
        assert sender.datagrams_sent == 1


# ---- refusals --------------------------------------------------------------------------------------------


@each_way
@pytest.mark.parametrize("host", LOOPBACKS.values(), ids=list(LOOPBACKS))
def test_a_refusal_is_told_by_the_next_receive(host: str) -> None:
    with refusing(host) as port, opened(host, port) as udp:
        for _ in range(2):
            udp.send(b"anybody?")
            error = fails(SocketIOError, udp.receive, "refused a datagram: nobody receives there$")
            assert (error.errno, error.address) == (errno.ECONNREFUSED, SocketAddress(host, port))
            assert isinstance(error, ConnectionRefusedError)


@each_way
def test_a_refusal_wakes_a_receive_that_waits() -> None:
    with refusing() as port, opened(HOST, port) as udp:
        receiving = Task(udp.receive).blocked()
        udp.send(b"anybody?")
        assert isinstance(receiving.failure(SocketIOError), ConnectionRefusedError)


def test_a_refusal_is_told_by_the_next_send_which_sends_nothing() -> None:
    with refusing() as port, opened(HOST, port) as udp:
        udp.send(b"anybody?")
        until(udp.input_ready)
        error = fails(SocketIOError, lambda: udp.send(b"again"), "refused a datagram: .*; this one was not sent")
        assert error.operation == "send"
        assert isinstance(error, ConnectionRefusedError)
        assert udp.datagrams_sent == 1


def test_after_a_refusal_the_socket_is_as_good_as_before() -> None:
    with opened(local_address=HOST) as peer:
        address = peer.local_address
    with opened(*address) as udp:
        udp.send(b"too early")
        fails(SocketIOError, udp.receive)
        with opened(local_address=HOST, local_port=address.port) as peer:
            udp.send(b"now")
            assert peer.receive_from() == (b"now", udp.local_address)
            peer.send_to(b"yes", *udp.local_address)
            assert udp.receive() == b"yes"


def test_an_unconnected_socket_is_told_of_no_refusal_unless_it_asks() -> None:
    """Or anybody whom a server answers could make it raise."""
    with refusing() as port, opened(read_timeout=BRIEF) as udp:
        udp.send_to(b"anybody?", HOST, port)
        fails(ReadTimeout, udp.receive)
        udp.send_to(b"anybody?", HOST, port)


@on_linux
@each_way
@pytest.mark.parametrize("ipv6", ["both", False, True])
def test_an_unconnected_socket_that_asks_is_told_whom_it_could_not_reach(ipv6: Any) -> None:
    host = "::1" if ipv6 is True else HOST
    with (
        refusing(host) as first,
        refusing(host) as second,
        opened(ipv6=ipv6, tell_undelivered=True) as udp,
        opened(local_address=host) as peer,
    ):
        for port in (first, second, peer.local_address.port, first):
            udp.send_to(b"anybody?", host, port)  # and none of them fails because of an earlier one
        for port in (first, second, first):
            error = fails(SocketIOError, udp.receive_from)
            assert error.address == SocketAddress(host, port)
            assert str(error) == f"{error.address} refused a datagram: nobody receives there"
            assert isinstance(error, ConnectionRefusedError)
        assert peer.receive() == b"anybody?"
        peer.send_to(b"I am", host, udp.local_address.port)
        assert udp.receive_from() == (b"I am", peer.local_address)
        receiving = Task(udp.receive).blocked()
        udp.send_to(b"anybody?", host, first)
        assert receiving.failure(SocketIOError).address == SocketAddress(host, first)
        udp.read_timeout = BRIEF
        fails(ReadTimeout, udp.receive)


@on_linux
def test_what_fails_here_and_now_is_told_once_also_where_refusals_are_told() -> None:
    with opened(ipv6=False, tell_undelivered=True, read_timeout=BRIEF) as udp:
        fails(SocketIOError, lambda: udp.send_to(bytes(65508), HOST, 9), "too big")
        fails(PermissionError, lambda: udp.send_to(b"x", "255.255.255.255", 9), "needs broadcast=True")
        fails(ReadTimeout, udp.receive)


def test_where_refusals_have_no_address_an_unconnected_socket_does_not_hear_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Windows: recvfrom() fails with WSAECONNRESET."""
    monkeypatch.setattr(udp_module, "choose_waits", PolledWaits)
    with pair() as (udp, peer):
        real, resets = peer._recvfrom, [ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")] * 2

        def recvfrom(*arguments: Any) -> Any:
            if resets:
                raise resets.pop()
            return real(*arguments)

        monkeypatch.setattr(peer, "_recvfrom", recvfrom)
        udp.send(b"still here")
        assert peer.receive() == b"still here"

        monkeypatch.setattr(udp, "_recv", partial(recvfrom))
        resets.append(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))
        assert isinstance(fails(SocketIOError, udp.receive), ConnectionRefusedError)


# ---- facts and options -------------------------------------------------------------------------------------


def test_input_ready_tells_what_would_not_wait() -> None:
    with pair() as (udp, peer), refusing() as port, opened(HOST, port) as refused:
        assert not udp.input_ready()
        peer.send_to(b"", *udp.local_address)
        until(udp.input_ready)
        assert udp.receive() == b""
        assert not udp.input_ready()
        refused.send(b"x")
        until(refused.input_ready)
        fails(SocketIOError, refused.receive)


def test_broadcast_is_an_option_and_its_lack_is_told() -> None:
    with opened(ipv6=False) as udp:
        assert not udp.broadcast
        error = fails(SocketIOError, lambda: udp.send_to(b"x", "255.255.255.255", 9), "needs broadcast=True")
        assert isinstance(error, PermissionError)
        udp.broadcast = True
        assert udp.broadcast
        udp.broadcast = False
        assert not udp.broadcast


def test_the_waits_are_the_kernel_s_where_it_keeps_time() -> None:
    with pair(read_timeout=PATIENCE) as (udp, _):
        assert udp._direct == (sys.platform == "linux")
