"""The two ways to wait, side by side: one contract (sync/wait.py), held without a stream on top."""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pairs import (
    connect,
    each_way_to_wait,
    needs_signals,
    signals,
)

from landline.sync.stream import SocketStream
from landline.sync.wait import KernelWaits, PolledWaits, Waits, Wakeup, choose_waits, wait_for_sockets
from landline.testing.contract.stage import PATIENCE, Task, until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

MakeWaits = Callable[[socket.socket], Waits]
linux = pytest.mark.skipif(sys.platform != "linux", reason="kernel waits are for Linux")


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = connect()
    with near, far:
        yield near, far


@pytest.fixture
def peer(sockets: tuple[socket.socket, socket.socket]) -> socket.socket:
    return sockets[1]


@pytest.fixture
def made(sockets: tuple[socket.socket, socket.socket], waits: MakeWaits) -> Iterator[Waits]:
    """The strategy under test over one end, closed before its socket."""
    strategy = waits(sockets[0])
    yield strategy
    strategy.close()


def receives(made: Waits) -> dict[str, Callable[[float | None], Any]]:
    """Every way to receive up to ten bytes within a limit: data, or None when nothing came."""

    def limited(limit: float | None, into: bool) -> Any:
        receive, receive_into = made.limited(limit)
        try:
            return receive_into(memoryview(bytearray(10))) if into else receive(10)
        except BlockingIOError:
            return None

    return {
        "receive": lambda limit: made.receive(10, limit),
        "receive_into": lambda limit: made.receive_into(memoryview(bytearray(10)), limit),
        "limited": lambda limit: limited(limit, into=False),
        "limited_into": lambda limit: limited(limit, into=True),
    }


RECEIVES = ("receive", "receive_into", "limited", "limited_into")


BLOCK = bytes(1 << 20)


def fill(made: Waits) -> int:
    """Send until the kernel takes no more: how much it took.

    A little room is not told by poll, so the last word has a send that does not wait. (One byte may still find room.)
    """
    sent = 0
    while count := made.send(BLOCK, 0.1) or made.send(BLOCK, 0):
        sent += count
    return sent


# ---- receiving -----------------------------------------------------------------------------------------


@each_way_to_wait
@pytest.mark.parametrize("how", RECEIVES)
def test_what_has_arrived_is_received_under_any_limit(made: Waits, peer: socket.socket, how: str) -> None:
    for limit in (None, 0, 0.001, PATIENCE):
        peer.sendall(b"12345")
        until(lambda: made.wait(True, False, 0))
        assert bytes(receives(made)[how](limit)) == b"12345"


@each_way_to_wait
@pytest.mark.parametrize("how", RECEIVES)
@pytest.mark.parametrize("limit", [0, 0.001, 0.0101, 0.05])
def test_none_means_that_nothing_came_within_the_limit(made: Waits, how: str, limit: float) -> None:
    begun = time.monotonic()
    assert receives(made)[how](limit) is None
    assert limit <= time.monotonic() - begun < limit + PATIENCE


@each_way_to_wait
def test_a_limit_of_a_tick_is_never_early(made: Waits) -> None:
    """The kernel counts in ticks, of which the first may be almost over."""
    receive, _ = made.limited(0.004)
    for _ in range(20):
        begun = time.monotonic()
        with pytest.raises(BlockingIOError):
            receive(1)
        assert time.monotonic() - begun >= 0.004


@each_way_to_wait
@pytest.mark.parametrize("how", RECEIVES)
@pytest.mark.parametrize("limit", [None, PATIENCE])
def test_a_receive_that_waits_gets_what_comes(made: Waits, peer: socket.socket, how: str, limit: float | None) -> None:
    receiver = Task(lambda: receives(made)[how](limit)).blocked()
    peer.sendall(b"12345")
    assert bytes(receiver.result()) == b"12345"


@each_way_to_wait
@pytest.mark.parametrize("how", RECEIVES)
def test_the_peers_end_is_empty(made: Waits, peer: socket.socket, how: str) -> None:
    peer.shutdown(socket.SHUT_WR)
    for limit in (None, PATIENCE):
        assert len(receives(made)[how](limit)) == 0
    assert made.receive_now(10) == b""


@each_way_to_wait
def test_receive_now_never_waits(made: Waits, peer: socket.socket) -> None:
    assert made.receive_now(10) is None
    peer.sendall(b"12345")
    until(lambda: made.wait(True, False, 0))
    assert made.receive_now(3) == b"123"
    assert made.receive_now(3) == b"45"


class FalseAlarms(socket.socket):
    """A socket that poll calls ready while it is not, as the kernel may (socket(7), poll(2)): three times."""

    alarms = 3

    def _alarm(self) -> None:
        if self.alarms:
            self.alarms -= 1
            raise BlockingIOError


class FalseInput(FalseAlarms):
    def recv(self, *arguments: Any) -> bytes:
        self._alarm()
        return super().recv(*arguments)

    def recv_into(self, *arguments: Any) -> int:
        self._alarm()
        return super().recv_into(*arguments)


class FalseRoom(FalseAlarms):
    def send(self, *arguments: Any) -> int:
        self._alarm()
        return super().send(*arguments)


@each_way_to_wait
@pytest.mark.parametrize("how", ["receive", "receive_into"])
def test_a_false_alarm_does_not_end_a_receive(waits: MakeWaits, how: str) -> None:
    near, peer = connect()
    with FalseInput(fileno=near.detach()) as sock, peer:
        made = waits(sock)
        peer.sendall(b"12345")
        assert bytes(receives(made)[how](PATIENCE)) == b"12345"
        made.close()


@each_way_to_wait
def test_a_false_alarm_does_not_end_a_send(waits: MakeWaits) -> None:
    near, peer = connect()
    with FalseRoom(fileno=near.detach()) as sock, peer:
        made = waits(sock)
        assert made.send(b"12345", None) == 5
        made.close()


# ---- sending -------------------------------------------------------------------------------------------


@each_way_to_wait
def test_send_takes_what_the_kernel_takes(made: Waits, peer: socket.socket) -> None:
    sent = fill(made)
    begun = time.monotonic()
    assert made.send(BLOCK, 0) == 0
    assert made.send(BLOCK, 0.05) == 0
    assert 0.05 <= time.monotonic() - begun < PATIENCE
    sender = Task(lambda: made.send(BLOCK, PATIENCE)).blocked()
    while sent:
        sent -= len(peer.recv(min(sent, 1 << 20)))
    sent = sender.result()
    assert 0 < sent <= len(BLOCK)
    assert peer.recv(sent, socket.MSG_WAITALL) == BLOCK[:sent]


@each_way_to_wait
def test_send_to_a_peer_that_is_gone_raises(made: Waits, peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    until(lambda: made.wait(True, False, 0))
    with pytest.raises(ConnectionError):
        made.send(b"x", None)


@linux
def test_a_deadly_sigpipe_does_not_kill() -> None:
    code = (
        "import signal, socket\n"
        "from landline.sync.wait import KernelWaits\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "near, far = socket.socketpair()\n"
        "far.close()\n"
        "try:\n    KernelWaits(near).send(b'x', None)\n"
        "except BrokenPipeError:\n    raise SystemExit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 7


# ---- readiness -----------------------------------------------------------------------------------------


@each_way_to_wait
def test_wait_tells_readiness_for_either(made: Waits, peer: socket.socket) -> None:
    assert not made.wait(True, False, 0)
    assert not made.wait(True, False, 0.001)
    assert made.wait(False, True, 0)
    assert made.wait(True, True, None)
    fill(made)
    assert not made.wait(True, True, 0.001)
    peer.sendall(b"1")
    assert made.wait(True, True, PATIENCE)
    assert made.wait(True, False, PATIENCE)


@each_way_to_wait
@needs_signals
def test_signals_do_not_prolong_a_poll(made: Waits) -> None:
    with signals(lambda: None, when=lambda: True, often=True) as heard:
        begun = time.monotonic()
        assert made.receive(10, 0.1) is None
        assert 0.1 <= time.monotonic() - begun < 5
    assert len(heard) > 3


# ---- waking --------------------------------------------------------------------------------------------


@each_way_to_wait
@pytest.mark.parametrize("how", RECEIVES)
@pytest.mark.parametrize("limit", [None, PATIENCE])
def test_wake_ends_receives_now_and_later(made: Waits, how: str, limit: float | None) -> None:
    receiver = Task(lambda: receives(made)[how](limit)).blocked()
    made.wake(True, False)
    assert len(receiver.result()) == 0
    assert len(receives(made)[how](limit)) == 0
    made.wake(True, False)
    assert made.send(b"x", None) == 1, "writing is not concerned"


@each_way_to_wait
def test_wake_ends_sends_now_and_later(made: Waits) -> None:
    def send() -> int:
        try:
            return made.send(BLOCK, None)
        except BrokenPipeError:
            return 0  # how the kernel says it

    fill(made)
    sender = Task(send).blocked()
    made.wake(False, True)
    assert sender.result() == 0
    assert send() == 0
    made.wake(False, True)


@each_way_to_wait
@pytest.mark.parametrize(("read", "write"), [(True, False), (False, True), (True, True)])
def test_wake_ends_waits(made: Waits, read: bool, write: bool) -> None:
    fill(made)
    waiter = Task(lambda: made.wait(read, write, None)).blocked()
    made.wake(read, write)
    assert waiter.result()
    assert made.wait(read, write, None)


@each_way_to_wait
def test_after_a_wake_what_has_arrived_is_still_there(made: Waits, peer: socket.socket) -> None:
    peer.sendall(b"12345")
    until(lambda: made.wait(True, False, 0))
    made.wake(True, False)
    assert made.receive_now(10) == b"12345"


@each_way_to_wait
def test_a_broken_connection_can_be_woken(made: Waits, peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    until(lambda: made.wait(True, False, 0))
    made.wake(True, True)


# ---- sockets -------------------------------------------------------------------------------------------


@each_way_to_wait
def test_restore_gives_the_socket_back_as_python_makes_them(
    made: Waits, sockets: tuple[socket.socket, socket.socket]
) -> None:
    near, peer = sockets
    receives(made)["limited"](0.001)
    made.receive(1, 0.001)
    made.restore()
    assert near.gettimeout() is None
    if sys.platform == "linux":
        assert near.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16) == bytes(16)
        assert near.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16) == bytes(16)
    receiver = Task(lambda: near.recv(10)).blocked()
    peer.sendall(b"12345")
    assert receiver.result() == b"12345"


@each_way_to_wait
def test_an_idle_strategy_owns_no_descriptors(made: Waits, peer: socket.socket) -> None:
    before = len(os.listdir("/dev/fd"))
    made.receive_now(1)
    made.receive(1, 0)
    made.wait(True, True, 0)
    peer.sendall(b"1")
    until(lambda: made.wait(True, False, 0))
    made.receive(1, None)
    assert len(os.listdir("/dev/fd")) == before


class Overriding(socket.socket):
    """As green threads replace the socket class: a subclass whose recv is another."""

    def recv(self, *arguments: Any) -> bytes:
        return super().recv(*arguments)


class Deriving(socket.socket):
    """A subclass that changes nothing that matters here."""


class Wrapping:
    """As gevent replaces it: no subclass at all."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


@pytest.mark.parametrize(
    ("kind", "chosen"), [(socket.socket, KernelWaits), (Deriving, KernelWaits), (Overriding, PolledWaits)]
)
@linux
def test_the_interpreters_own_sockets_wait_in_the_kernel(kind: type[socket.socket], chosen: type[Waits]) -> None:
    near, peer = connect()
    with kind(fileno=near.detach()) as sock, peer:
        assert type(choose_waits(sock)) is chosen


@pytest.mark.parametrize("replace", [lambda sock: Overriding(fileno=sock.detach()), Wrapping])
def test_replaced_sockets_are_polled(replace: Callable[[socket.socket], Any]) -> None:
    near, far = connect()
    stream, peer = SocketStream(replace(near)), SocketStream(far, read_timeout=PATIENCE)
    with stream, peer:
        assert stream._channel.transport._waits.__class__ is PolledWaits  # type: ignore[attr-defined]
        reader = Task(stream.readline).blocked()
        stream.write(b"request\n")
        assert peer.readline() == b"request\n"
        peer.write(b"answer\n")
        peer.flush()
        assert reader.result() == b"answer\n"


@linux
def test_other_systems_poll(monkeypatch: pytest.MonkeyPatch, sockets: tuple[socket.socket, socket.socket]) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert type(choose_waits(sockets[0])) is PolledWaits


# ---- wakeups and polls ---------------------------------------------------------------------------------


@pytest.fixture(params=["poll", "select"])
def wait(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., set[int]]:
    """wait_for_sockets() with and without poll(), which Windows lacks."""
    if request.param == "select":
        monkeypatch.delattr(select, "poll", raising=False)
    return wait_for_sockets


def test_the_ready_descriptors_are_told(wait: Callable[..., set[int]]) -> None:
    near, far = socket.socketpair()
    with near, far:
        one, other = near.fileno(), far.fileno()
        assert wait([one, other], [], 0) == set()
        assert wait([one], [one, other], None) == {one, other}
        near.send(b"1")
        assert wait([one, other], [], PATIENCE) == {other}
        begun = time.monotonic()
        assert wait([one], [], 0.02) == set()
        assert time.monotonic() - begun >= 0.02
        near.close()
        assert wait([other], [], PATIENCE) == {other}


def test_a_wakeup_wakes_once_set_until_cleared(wait: Callable[..., set[int]]) -> None:
    wakeup = Wakeup()
    waiter = Task(lambda: wait([wakeup.fileno()], [], None)).blocked()
    wakeup.set()
    assert waiter.result() == {wakeup.fileno()}
    for _ in range(100_000):
        wakeup.set()  # more than fits
    assert wait([wakeup.fileno()], [], None)
    wakeup.clear()
    assert not wait([wakeup.fileno()], [], 0)
    wakeup.close()
    wakeup.set()


def test_polled_waits_without_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "poll", raising=False)
    near, peer = connect()
    with near, peer:
        made = PolledWaits(near)
        assert made.receive(1, 0.001) is None
        receiver = Task(lambda: made.receive(10, None)).blocked()
        peer.sendall(b"12345")
        assert receiver.result() == b"12345"
        receiver = Task(lambda: made.receive(10, PATIENCE)).blocked()
        made.wake(True, False)
        assert receiver.result() == b""
        made.close()
