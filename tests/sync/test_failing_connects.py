"""A thousand failing connects of every kind leave no descriptor and no thread.

`no_leaks` looks before and after; nothing is left to the garbage collector. A lookup's thread may end shortly after the
opening that has abandoned it.
"""

from __future__ import annotations

import errno
import gc
import os
import random
import signal
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from opening import Listener, Resolver, alarm, refusing, silence
from opening import resolver_fixture as _resolver  # noqa: F401 - a fixture

from landline import (
    Cancel,
    ConnectTimeout,
    HostLookupError,
    SocketConnectError,
    SocketCreateError,
    SocketError,
    StreamClosed,
    open_tcp_stream,
)
from landline.sync import connect as connecting
from landline.sync.wait import wait_for_sockets

resource = pytest.importorskip("resource", reason="limits of processes are POSIX's")

pytestmark = pytest.mark.usefixtures("no_leaks")

TIMES = 1000


def fail(error: type[BaseException], host: str, port: int | str, times: int = TIMES, **how: Any) -> None:
    for _ in range(times):
        with pytest.raises(error):
            open_tcp_stream(host, port, **how)


# A numeric host goes a shorter way, unless another thread may cancel it.
either_way = pytest.mark.parametrize("cancel", [None, Cancel()], ids=["", "with cancel"])


@either_way
def test_refused(cancel: Cancel | None) -> None:
    with refusing() as closed:
        fail(ConnectionRefusedError, "127.0.0.1", closed.port, cancel=cancel)


def test_refused_by_name(resolver: Resolver) -> None:
    resolver.say("both.example", ["127.0.0.1"], ["::1"])
    with refusing() as closed:
        fail(SocketConnectError, "both.example", closed.port)


@either_way
def test_silent(cancel: Cancel | None) -> None:
    with silence() as silent:
        fail(ConnectTimeout, "127.0.0.1", silent.port, timeout=0.001, cancel=cancel)


def test_silent_by_name(resolver: Resolver) -> None:
    resolver.say("many.example", [f"127.0.0.{n}" for n in range(1, 5)], [])
    with silence("0.0.0.0") as silent:
        fail(ConnectTimeout, "many.example", silent.port, timeout=0.02, attempt_delay=0.01, times=TIMES // 10)
        fail(ConnectTimeout, "many.example", silent.port, timeout=0.001)


def test_unknown_host(resolver: Resolver) -> None:
    resolver.say("nowhere.example")
    fail(HostLookupError, "nowhere.example", 80)


def test_a_resolver_that_never_answers(resolver: Resolver) -> None:
    resolver.hang("dead.example")
    fail(ConnectTimeout, "dead.example", 80, timeout=0.001)


@either_way
def test_bad_local_address(cancel: Cancel | None) -> None:
    fail(SocketCreateError, "127.0.0.1", 80, local_address="192.0.2.1", cancel=cancel)


def test_unknown_local_address(resolver: Resolver) -> None:
    resolver.say("nowhere.example")
    fail(SocketCreateError, "127.0.0.1", 80, local_address="nowhere.example")


@either_way
def test_a_callback_that_raises(cancel: Cancel | None) -> None:
    def callback(sock: socket.socket) -> None:
        raise RuntimeError

    fail(SocketCreateError, "127.0.0.1", 80, socket_configure_callback=callback, cancel=cancel)


def test_bad_arguments() -> None:
    fail(ValueError, "127.0.0.1", 70000)
    fail(SocketCreateError, "127.0.0.1", "no-such-service", times=TIMES // 10)


# ---- cancelled -----------------------------------------------------------------------------------------


def test_cancelled(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    cancel = Cancel()

    def wait(*args: Any) -> set[int]:
        cancel.set()
        return wait_for_sockets(*args)

    monkeypatch.setattr(connecting, "wait_for_sockets", wait)
    resolver.hang("dead.example")
    with silence() as silent:
        for _ in range(TIMES):
            for host in ("127.0.0.1", "dead.example"):
                cancel = Cancel()
                with pytest.raises(StreamClosed):
                    open_tcp_stream(host, silent.port, cancel=cancel)
                assert cancel._listeners == []
        fail(StreamClosed, "127.0.0.1", silent.port, cancel=cancel)


# ---- interrupted ---------------------------------------------------------------------------------------


def interrupt(number: int, frame: FrameType | None) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise KeyboardInterrupt


def soon(sock: socket.socket | None = None) -> None:
    """Interrupt in a moment, and again until it is noticed: a system call that begins meanwhile does not notice."""
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.02)


@either_way
def test_interrupted_while_it_connects(cancel: Cancel | None) -> None:
    with silence() as silent, alarm(interrupt):
        fail(KeyboardInterrupt, "127.0.0.1", silent.port, cancel=cancel, socket_configure_callback=soon)


def test_interrupted_while_it_connects_by_name(resolver: Resolver) -> None:
    resolver.say("v4.example", ["127.0.0.1"], [])
    with silence() as silent, alarm(interrupt):
        fail(KeyboardInterrupt, "v4.example", silent.port, socket_configure_callback=soon)


def test_interrupted_while_it_looks_up(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(*args: Any) -> set[int]:
        soon()
        return wait_for_sockets(*args)

    monkeypatch.setattr(connecting, "wait_for_sockets", wait)
    resolver.hang("dead.example")
    with alarm(interrupt):
        fail(KeyboardInterrupt, "dead.example", 80)


@pytest.mark.parametrize("host", ["127.0.0.1", "both.example"])
def test_interrupted_at_any_moment(resolver: Resolver, host: str) -> None:
    # Between its making and the next bytecode nothing but its reference count owns a socket. So this test, alone of
    # all, lets sockets close themselves.
    def interrupt_the_opening(number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code is open_tcp_stream.__code__:
                raise KeyboardInterrupt
            frame = frame.f_back

    resolver.say("both.example", ["127.0.0.1"], ["::1"])
    interrupted = 0
    chance = random.Random(8305)
    gc.disable()  # or it is somebody's gc.callbacks that are interrupted
    try:
        with warnings.catch_warnings(), Listener(backlog=2 * TIMES) as listener, alarm(interrupt_the_opening):
            warnings.simplefilter("ignore", ResourceWarning)
            for _ in range(TIMES):
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 5e-4))
                try:
                    open_tcp_stream(host, listener.port).close()
                except KeyboardInterrupt:
                    interrupted += 1
    finally:
        gc.enable()
    assert interrupted > TIMES // 100


# ---- out of descriptors -----------------------------------------------------------------------------------


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """This process can open `count` more descriptors inside."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    spare = os.open(os.devnull, os.O_RDONLY)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 64, limits[1]))
        while True:
            try:
                taken.append(os.dup(spare))
            except OSError:
                break
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in (spare, *taken):
            os.close(descriptor)


@pytest.mark.parametrize("host", ["127.0.0.1", "both.example"])
@either_way
def test_out_of_descriptors(resolver: Resolver, host: str, cancel: Cancel | None) -> None:
    resolver.say("both.example", ["127.0.0.1"], ["::1"])
    with Listener() as listener, descriptors_left(0):
        fail(SocketCreateError, host, listener.port, cancel=cancel)
        error = open_tcp_stream(host, listener.port, cancel=cancel, errorp=False)[1]
    assert error is not None
    assert error.errno == errno.EMFILE
    assert "Too many open files" in str(error)
    assert error.operation == "create"


@pytest.mark.parametrize("left", range(5))
@pytest.mark.parametrize("host", ["127.0.0.1", "both.example"])
@pytest.mark.parametrize("local", [None, "127.0.0.1", "both.example"])
def test_nearly_out_of_descriptors(resolver: Resolver, left: int, host: str, local: str | None) -> None:
    resolver.say("both.example", ["127.0.0.1"], ["::1"])
    with Listener(backlog=128) as listener:
        for _ in range(50):
            with descriptors_left(left):
                stream, error = open_tcp_stream(host, listener.port, local_address=local, errorp=False)
            if stream is not None:
                stream.close()
            else:
                assert isinstance(error, SocketError)
                assert "Too many open files" in str(error)
