"""For tests of opening: addresses that accept, refuse or keep silent, and a resolver that does as it is told.

All on the loopback interface, and all of it real but the resolver, which stands in for socket.getaddrinfo().
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from time import monotonic
from types import FrameType
from typing import Any, TypeAlias

import pytest
from conftest import lacking

from landline.address import SocketAddress
from landline.sync import resolve

WITHIN = 10.0
"""Seconds that what must happen has for it, on however slow a machine."""

UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")

NOT_LINUX = sys.platform != "linux"


# ---- addresses -----------------------------------------------------------------------------------------


class Listener:
    """A listening socket; the test accepts when it likes."""

    def __init__(self, host: str = "127.0.0.1", backlog: int = 16, port: int = 0) -> None:
        self.sock = bound(host, port)
        self.sock.listen(backlog)
        self.sock.settimeout(WITHIN)
        self.address = SocketAddress.from_sockaddr(self.sock.getsockname())
        self.host, self.port = self.address

    def accept(self) -> tuple[socket.socket, SocketAddress]:
        """The next connection, and where it comes from."""
        sock, sockaddr = self.sock.accept()
        sock.settimeout(WITHIN)
        return sock, SocketAddress.from_sockaddr(sockaddr)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *error: object) -> None:
        self.sock.close()


@contextmanager
def refusing(host: str = "127.0.0.1", port: int = 0) -> Iterator[SocketAddress]:
    """An address that refuses connections: a port that is taken, but not listened on."""
    with bound(host, port) as sock:
        yield SocketAddress.from_sockaddr(sock.getsockname())


@contextmanager
def silence(host: str = "127.0.0.1", port: int = 0) -> Iterator[Listener]:
    """An address that never answers: its queue of connections is full, and the system drops what comes on top."""
    with ExitStack() as kept:
        listener = kept.enter_context(Listener(host, 0, port))
        for _ in range(100):
            sock = kept.enter_context(socket.socket(listener.address.family))
            sock.settimeout(0.05)
            try:
                sock.connect(listener.address.sockaddr())
            except TimeoutError:
                sock.close()  # or it would come in by itself when there is room
                break
        else:
            lacking("needs a system that drops connections when a queue is full")
        yield listener


def bound(host: str, port: int = 0) -> socket.socket:
    sock = socket.socket(SocketAddress(host, port).family)
    try:
        sock.bind(SocketAddress(host, port).sockaddr())
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRNOTAVAIL:
            lacking(f"needs the address {host}")
        raise
    return sock


@contextmanager
def one_port(*hosts: str) -> Iterator[int]:
    """A port number that is free at all of `hosts` (for a name with several addresses)."""
    for _ in range(100):
        with bound(hosts[0]) as sock, suppress(OSError):
            port = int(sock.getsockname()[1])
            for host in hosts[1:]:
                bound(host, port).close()
            break
    else:
        lacking("needs a port that is free at several addresses")
    yield port


# ---- the resolver --------------------------------------------------------------------------------------

Answer: TypeAlias = Sequence[str] | Exception


class Resolver:
    """Instead of socket.getaddrinfo(): a table of answers, each of which can be held back."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.threads: set[int] = set()
        self._table: dict[tuple[str, int], tuple[Answer, threading.Event]] = {}
        self._called = threading.Condition()

    def say(
        self, name: str, ipv4: Answer = UNKNOWN, ipv6: Answer = UNKNOWN, *, held: Sequence[int] = ()
    ) -> threading.Event:
        """Set the answers for a name; those of the families `held` wait until the event returned is set."""
        gate = threading.Event()
        for family, answer in ((socket.AF_INET, ipv4), (socket.AF_INET6, ipv6)):
            open_gate = threading.Event()
            open_gate.set()
            self._table[name, family] = (answer, gate if family in held else open_gate)
        return gate

    def hang(self, name: str) -> threading.Event:
        """Never answer for a name, until the event returned is set; then it is unknown."""
        return self.say(name, held=(socket.AF_INET, socket.AF_INET6))

    def wait_for_calls(self, count: int) -> None:
        """Until getaddrinfo() has been called so often."""
        with self._called:
            assert self._called.wait_for(lambda: len(self.calls) >= count, WITHIN), self.calls

    def getaddrinfo(
        self, host: str, port: Any, family: int = 0, kind: int = 0, proto: int = 0, flags: int = 0
    ) -> list[tuple[int, int, int, str, tuple[Any, ...]]]:
        with self._called:
            self.calls.append((host, family))
            self.threads.add(threading.get_ident())
            self._called.notify_all()
        answer, gate = self._table[host, family]
        gate.wait()
        if isinstance(answer, Exception):
            raise answer
        return [(family, kind, 6, "", SocketAddress(address, port or 0).sockaddr()) for address in answer]

    def release(self) -> None:
        """Let every held answer go, and wait for the lookups to be done."""
        for _, gate in self._table.values():
            gate.set()
        wait_until(lambda: not resolve._threads)
        assert (resolve._in_flight, len(resolve._queue)) == ({}, 0)


@pytest.fixture(name="resolver")
def resolver_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    """The resolver of this test. None of its threads may be left, and it takes the system's word for that."""
    made = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    before = threads_of_this_process()
    yield made
    made.release()
    wait_until(lambda: threads_of_this_process() <= before)


def threads_of_this_process() -> int:
    """How many there are, those unknown to the threading module included; 0 where the system does not tell."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 0


def wait_until(condition: Callable[[], bool]) -> None:
    """For what happens soon in another thread and cannot be waited for: its end, mostly."""
    end = monotonic() + WITHIN
    while not condition():
        assert monotonic() < end, "it did not happen"
        threading.Event().wait(0.001)


# ---- the clock and other threads -------------------------------------------------------------------------


class Took:
    """What `timing()` gives: the seconds from its beginning, to its end once that has come."""

    def __init__(self) -> None:
        self.began = monotonic()
        self.ended: float | None = None

    @property
    def seconds(self) -> float:
        return (self.ended or monotonic()) - self.began


@contextmanager
def timing() -> Iterator[Took]:
    took = Took()
    try:
        yield took
    finally:
        took.ended = monotonic()


@contextmanager
def alarm(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """SIGALRM and the timer that sends it belong to the test; else they are pytest-timeout's."""
    timer = signal.setitimer(signal.ITIMER_REAL, 0)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)


@contextmanager
def in_thread(function: Callable[[], object]) -> Iterator[list[Any]]:
    """Run `function` beside the block; afterwards the list holds what it returned or raised."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as error:  # noqa: BLE001 - it is the outcome
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield outcome
    finally:
        thread.join(WITHIN)
        assert not thread.is_alive()
