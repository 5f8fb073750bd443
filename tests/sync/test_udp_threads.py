"""UdpSocket used by many threads at once, and ended by one of them while the others are inside."""

from __future__ import annotations

import gc
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack, suppress
from functools import partial

import pytest
from datagrams import HOST, fails, full_buffer, opened, pair
from datagrams import each_way_fixture as _each_way  # noqa: F401 - a fixture
from pairs import needs_signals, signals

from landline import StreamClosed
from landline.sync import udp_state
from landline.sync.wait import Wakeup
from landline.testing.contract.stage import BRIEF, PATIENCE, PROMPT, Task

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

each_way = pytest.mark.usefixtures("each_way")

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel refuses that")


# ---- many threads ----------------------------------------------------------------------------------------


@each_way
def test_many_threads_send_and_receive_and_each_datagram_comes_once() -> None:
    each, threads = 200, 4
    with pair() as (udp, peer):
        received: list[bytes] = []

        def receive() -> None:
            while (data := udp.receive()) != b"end":
                received.append(data)
                udp.send(data)

        def send(number: int) -> None:
            for count in range(each):
                peer.send_to(b"%d %d" % (number, count), *udp.local_address)
                echoed.append(peer.receive())

        echoed: list[bytes] = []
        receivers = [Task(receive) for _ in range(threads)]
        for sender in [Task(partial(send, number)) for number in range(threads)]:
            sender.result()
        for _ in range(threads):
            peer.send_to(b"end", *udp.local_address)
        for receiver in receivers:
            receiver.result()
        sent = sorted(b"%d %d" % (number, count) for number in range(threads) for count in range(each))
        assert sorted(received) == sorted(echoed) == sent
        total = each * threads
        assert (udp.datagrams_received, udp.datagrams_sent) == (total + threads, total)
        assert (peer.datagrams_received, peer.datagrams_sent) == (total, total + threads)
        assert udp.bytes_sent == peer.bytes_received == sum(map(len, sent))


def test_nobody_is_inside_after_a_call() -> None:
    with pair() as (udp, peer):
        peer.send_to(b"x", *udp.local_address)
        udp.receive()
        assert (udp._receiving.inside, udp._sending.inside, peer._sending.inside) == ([], [], [])


# ---- the end -----------------------------------------------------------------------------------------------


@each_way
@pytest.mark.parametrize("how", ["connected", "unconnected", "under a deadline", "without a limit", "told of refusals"])
def test_close_wakes_every_thread_that_receives(how: str) -> None:
    with ExitStack() as stack:
        connected = (HOST, 9) if how == "connected" else ()
        limit = None if how == "without a limit" else PATIENCE
        udp = opened(*connected, read_timeout=limit, tell_undelivered=how == "told of refusals")
        stack.callback(udp.close)
        if how == "under a deadline":
            stack.enter_context(udp.deadline(PATIENCE))
        tasks = [Task(receive).blocked() for receive in (udp.receive, udp.receive_from, udp.receive)]
        began = time.monotonic()
        udp.close()
        for task in tasks:
            error = task.failure(StreamClosed)
            assert str(error) == "the socket was closed on this side"
            assert task.ended_at - began < PROMPT


def test_close_wakes_every_thread_that_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    full = full_buffer(monkeypatch)
    with pair() as (udp, _):
        full.set()
        tasks = [Task(partial(udp.send, b"x")).blocked() for _ in range(3)]
        began = time.monotonic()
        udp.close()
        for task in tasks:
            task.failure(StreamClosed)
            assert task.ended_at - began < PROMPT


@each_way
def test_close_from_many_threads_at_once() -> None:
    with pair() as (udp, _):
        receiving = Task(udp.receive).blocked()
        for closing in [Task(udp.close) for _ in range(8)]:
            closing.result()
        receiving.failure(StreamClosed)
        assert udp.closed


def test_after_close_everything_raises_stream_closed_but_the_facts() -> None:
    with pair() as (udp, peer):
        udp.close()
        peer.close()
        udp.close()
    for do in (
        udp.receive, udp.receive_from, peer.receive, peer.receive_from, udp.fileno, udp.input_ready, udp.__enter__,
        partial(udp.send, b"x"), partial(peer.send_to, b"x", HOST, 9), partial(peer.send_to, b"x", "localhost", 9),
        partial(peer.send, b"x"), partial(udp.send_to, b"x", HOST, 9),
        partial(setattr, udp, "read_timeout", 1), partial(setattr, udp, "write_timeout", 1),
        partial(setattr, udp, "broadcast", True), partial(getattr, udp, "broadcast"),
        partial(setattr, udp, "multicast_ttl", 1), partial(getattr, udp, "multicast_ttl"),
        partial(setattr, udp, "multicast_loopback", True), partial(getattr, udp, "multicast_loopback"),
        partial(setattr, udp, "multicast_interface", None),
        partial(udp.join_group, "239.1.2.3"), partial(udp.leave_group, "239.1.2.3"),
    ):  # fmt: skip
        error = fails(StreamClosed, do)
        assert isinstance(error, ValueError)
    assert udp.peer_address == peer.local_address
    assert udp.local_address.port > 0
    assert repr(udp) == f"<UdpSocket {udp.local_address} -> {peer.local_address} closed>"
    assert repr(peer) == f"<UdpSocket {peer.local_address} closed>"


@each_way
@needs_signals
def test_a_signal_handler_may_close_what_it_interrupted() -> None:
    with pair() as (udp, _):
        with signals(udp.close, when=lambda: bool(udp._receiving.inside)) as heard:
            fails(StreamClosed, udp.receive)
        assert heard == [signal.SIGUSR1]


def test_nothing_is_left_when_a_signal_handler_closes_before_the_first_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    with pair() as (udp, _), udp.deadline(PATIENCE):
        monkeypatch.setattr(udp, "_kernel", False)

        def make() -> Wakeup:
            udp.close()
            return Wakeup()

        monkeypatch.setattr(udp_state, "Wakeup", make)
        fails(StreamClosed, udp.receive)


@needs_signals
def test_a_signal_handler_may_close_while_a_close_waits() -> None:
    with pair() as (udp, _):
        somebody = -1  # who has been woken and is slow to leave
        udp._receiving.inside.append(somebody)

        def leave_and_close() -> None:
            udp._receiving.inside.remove(somebody)
            udp.close()

        with signals(leave_and_close, when=lambda: udp.closed and udp._left is not None):
            udp.close()
        assert udp._sock.fileno() == -1


def test_threads_that_begin_to_wait_at_once_share_one_wakeup(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2)

    def make() -> Wakeup:
        with suppress(threading.BrokenBarrierError):
            both.wait(BRIEF)
        return Wakeup()

    monkeypatch.setattr(udp_state, "Wakeup", make)
    side = udp_state.Side()
    tasks = [Task(side.wakeup_fileno) for _ in range(2)]
    assert len({task.result() for task in tasks}) == 1
    assert side.wakeup is not None
    side.wakeup.close()


@each_way
@needs_signals
def test_an_exception_in_a_signal_handler_ends_a_receive_and_leaves_it_usable() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pair() as (udp, peer):
        with signals(interrupt, when=lambda: bool(udp._receiving.inside)):
            fails(KeyboardInterrupt, udp.receive)
        peer.send_to(b"go on", *udp.local_address)
        assert udp.receive() == b"go on"
        assert udp._receiving.inside == []


def test_a_socket_that_is_collected_unclosed_warns_and_leaks_nothing() -> None:
    def forget() -> None:
        opened(local_address=HOST)
        gc.collect()

    with pytest.warns(ResourceWarning, match=r"unclosed <UdpSocket 127\.0\.0\.1:\d+>"):
        forget()


@on_linux
def test_a_shutdown_by_others_is_the_end_and_no_empty_datagram() -> None:
    with opened(local_address=HOST) as udp:
        with suppress(OSError):  # it is reported as not connected, and done
            udp._sock.shutdown(socket.SHUT_RD)
        fails(StreamClosed, udp.receive, "the socket was shut down")
