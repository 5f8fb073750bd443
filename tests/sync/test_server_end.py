"""How a server ends: by signals in a main thread, by whoever terminates it, and what it does not end by."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from types import FrameType
from typing import Any

import pytest
from children import Child, child
from server_programs import serve_until_a_signal

from landline import Server, SocketStream, StreamClosed, open_tcp_stream, start_up_server
from landline.sync import server as server_module
from landline.sync import workers as workers_module
from landline.testing.contract.stage import PATIENCE, Task, standing_still, until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

needs_signals = pytest.mark.skipif(os.name != "posix", reason="needs signals between processes")
EACH_SIGNAL = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
SIGNALS = (signal.SIGTERM, signal.SIGINT)
LONG = 600
"""Seconds: no test waits that long."""


def connect(port: int) -> SocketStream:
    stream: SocketStream = open_tcp_stream("127.0.0.1", port, read_timeout=PATIENCE)
    return stream


def told(port: int, line: bytes) -> SocketStream:
    stream = connect(port)
    stream.write(line)
    stream.flush()
    return stream


def refuses(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def echo(stream: SocketStream) -> None:
    for line in stream:
        stream.write(line)
        stream.flush()


class Staying:
    """A handler that stays until its stream ends, and tells how it did."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.ended: list[type[BaseException] | bytes] = []

    def __call__(self, stream: SocketStream) -> None:
        self.begun.release()
        try:
            self.ended.append(stream.read())
        except BaseException as error:
            self.ended.append(type(error))
            raise

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self.begun.acquire(timeout=PATIENCE)


# ---- serve_forever() -----------------------------------------------------------------------------------


def port_of(process: Child) -> int:
    """Where it listens, when it hears signals."""
    (port,) = process.said()
    return int(port)


def returned(process: Child) -> bool:
    """serve_forever() has returned, the handlers of signals are the former ones, and nothing is left."""
    return process.said() == ["returned", "True", "0"] and process.wait() == 7


@needs_signals
@EACH_SIGNAL
def test_a_signal_lets_handlers_finish(number: signal.Signals) -> None:
    with child(serve_until_a_signal, LONG) as process:
        port = port_of(process)
        with told(port, b"work\n") as client:
            assert process.said() == ["working"]
            process.signal(number)
            until(lambda: refuses(port))
            process.tell("finish")
            assert client.read() == b"done\n" * 100_000
        assert returned(process)


@needs_signals
@pytest.mark.parametrize(("first", "second"), [SIGNALS, SIGNALS[::-1], (signal.SIGTERM, signal.SIGTERM)])
def test_a_second_signal_ends_the_drain(first: signal.Signals, second: signal.Signals) -> None:
    with child(serve_until_a_signal, None) as process:
        port = port_of(process)
        with told(port, b"stay\n") as client:
            assert process.said() == ["staying"]
            process.signal(first)
            until(lambda: refuses(port))
            process.signal(second)
            assert returned(process)
            with pytest.raises(ConnectionResetError):
                client.read()


@needs_signals
def test_the_drain_ends_by_itself() -> None:
    with child(serve_until_a_signal, 0.05) as process, told(port_of(process), b"stay\n") as client:
        assert process.said() == ["staying"]
        process.signal(signal.SIGTERM)
        assert returned(process)
        with pytest.raises(ConnectionResetError):
            client.read()


@needs_signals
def test_a_signal_in_a_handlers_own_drain_ends_nothing_early() -> None:
    """It is the first one: the drain that goes on has been asked for."""
    with child(serve_until_a_signal, LONG) as process:
        port = port_of(process)
        with told(port, b"work\n") as working, told(port, b"stop\n") as stopping:
            assert process.said() == ["working"]
            until(lambda: refuses(port))
            process.signal(signal.SIGTERM)
            process.tell("finish")
            assert working.read() == b"done\n" * 100_000
            assert stopping.read() == b""
        assert returned(process)


@needs_signals
def test_a_signal_is_heard_however_early_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes while the main thread is about to wait has nothing to interrupt yet (some 5 of 100 do)."""
    monkeypatch.setattr(server_module, "HEARD_WITHIN", 0.01)
    before = signal.getsignal(signal.SIGTERM)

    def signal_at_once(server: Server, delay: int) -> bool:
        while signal.getsignal(signal.SIGTERM) is before:
            pass
        for _ in range(delay):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        heard = server.join(PATIENCE)
        server.terminate()
        return heard

    for number in range(80):
        server = start_up_server(echo)
        signalling = Task(partial(signal_at_once, server, number % 20 * 10))
        server.serve_forever()
        assert signalling.result()


@pytest.fixture
def own_handlers() -> Iterator[list[int]]:
    """Handlers of signals that must be back; any of them being called is a failure."""
    called: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        called.append(number)

    before = [signal.signal(number, handler) for number in SIGNALS]
    yield called
    for number, former in zip(SIGNALS, before, strict=True):
        assert signal.getsignal(number) is handler
        signal.signal(number, former)
    assert called == []


@pytest.mark.usefixtures("own_handlers")
@pytest.mark.parametrize("who", ["a handler", "another thread"])
def test_serve_forever_returns_when_somebody_terminates(who: str) -> None:
    def stop(stream: SocketStream) -> None:
        stream.readline()
        server.terminate()

    server = start_up_server(stop)
    with connect(server.port) as client, ExitStack() as threads:
        if who == "a handler":
            client.write(b"stop\n")
            client.flush()
        else:
            until(lambda: server.connections)
            threads.callback(Task(server.terminate).result)
        server.serve_forever(0)
        assert server.join(0)
        assert server.connections == 0


@pytest.mark.usefixtures("own_handlers")
@pytest.mark.parametrize("step", [1, 2])
def test_an_error_in_the_middle_leaves_the_former_handlers(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, say, after the handler of the first signal was set and before that of the second."""
    set_handler, steps = signal.signal, iter(range(1, 100))

    def interrupted(number: Any, handler: Any) -> Any:
        former = set_handler(number, handler)
        if next(steps) == step:
            raise KeyboardInterrupt
        return former

    with start_up_server(echo) as server:
        monkeypatch.setattr(signal, "signal", interrupted)
        with pytest.raises(KeyboardInterrupt):
            server.serve_forever()
        assert not server.join(0)


def test_a_terminated_server_serves_no_more() -> None:
    server = start_up_server(echo)
    server.terminate()
    server.serve_forever()


def test_serve_forever_is_for_the_main_thread() -> None:
    with start_up_server(echo) as server:
        error = Task(server.serve_forever).failure(ValueError)
        assert "main thread" in str(error)
        assert not server.join(0)


@pytest.mark.parametrize("drain", [-1, float("nan"), "1", True])
def test_a_wrong_drain_is_told_before_anything_is_served(drain: Any) -> None:
    with start_up_server(echo) as server:
        with pytest.raises((TypeError, ValueError), match="drain"):
            server.serve_forever(drain)
        assert not server.join(0)


FILES = {sys.modules[module].__file__ for module in (Server.__module__, workers_module.__name__, "threading")}


@needs_signals
def test_a_second_signal_may_come_at_any_instant_of_the_drain(own_handlers: list[int]) -> None:
    """At every line of the server's code, and of the locks under it: never an error, a hang, or anything left."""
    step = 0
    sent = True
    while sent:
        step += 1
        staying = Staying()
        server = start_up_server(staying)
        with connect(server.port), connect(server.port) as leaving:
            staying.wait_for(2)
            leaving.close()  # one worker is idle, one busy
            until(lambda server=server: len(server._workers._idle) == 1)  # type: ignore[misc]
            server._stop()  # as the first signal does
            sent = signalled(lambda server=server: server.serve_forever(0.001), step)  # type: ignore[misc]
        assert server.connections == 0
    assert step > 50
    own_handlers.clear()  # signals that came when these were back


def signalled(call: Callable[[], object], step: int) -> bool:
    """Call, with two signals at the given step of it from terminate() on; False when it has fewer steps."""
    left = step
    on = False

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left, on
        if frame.f_code.co_filename not in FILES or frame.f_code.co_name == "on_signal":
            return None
        on |= frame.f_code.co_name == "terminate"
        left -= on
        if on and left == 0:
            for number in SIGNALS:
                signal.raise_signal(number)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return left <= 0


# ---- terminate() and join() ----------------------------------------------------------------------------


def test_terminate_may_be_repeated_by_anybody() -> None:
    staying = Staying()
    server = start_up_server(staying)
    with connect(server.port), connect(server.port):
        staying.wait_for(2)
        for task in [Task(lambda: server.terminate(0.01)) for _ in range(5)]:
            task.result()
    assert staying.ended == [StreamClosed, StreamClosed]
    for _ in range(3):
        server.terminate()


def test_a_shorter_drain_overtakes_a_longer_one() -> None:
    staying = Staying()
    server = start_up_server(staying)
    with connect(server.port):
        staying.wait_for(1)
        patient = Task(lambda: server.terminate(LONG)).blocked()
        server.terminate()
        patient.result()


@pytest.mark.parametrize("drain", [None, float("inf"), 1e9])
def test_a_drain_without_end_lets_handlers_take_their_time(drain: float | None) -> None:
    staying = Staying()
    server = start_up_server(staying)
    with connect(server.port) as client:
        staying.wait_for(1)
        ending = Task(lambda: server.terminate(drain)).blocked()
        until(lambda: refuses(server.port))
        client.write(b"late, and in time")
        client.shutdown("output")
        assert client.read() == b""
        ending.result()
    assert staying.ended == [b"late, and in time"]


def test_handlers_that_terminate_do_not_wait_for_themselves() -> None:
    """Whatever their drain: all of them at once, beside the main thread and a handler that does not."""
    together = threading.Barrier(4)
    begun = threading.Event()

    def stop(stream: SocketStream) -> None:
        if stream.readline() == b"stay\n":
            begun.set()
            stream.read()
        together.wait(PATIENCE)
        server.terminate(0.01)
        server.terminate(0.01)

    server = start_up_server(stop)
    with ExitStack() as clients:
        clients.enter_context(told(server.port, b"stay\n"))
        assert begun.wait(PATIENCE)
        for _ in range(3):
            clients.enter_context(told(server.port, b"stop\n"))
        together.wait(PATIENCE)
        server.terminate(LONG)
    assert server.connections == 0
    assert server.join(0)


def test_a_handler_that_terminates_is_waited_for_by_no_other() -> None:
    """Also when the other one has begun to wait for it: they may have more to do with each other."""
    together, afterwards = threading.Barrier(2), threading.Barrier(2)
    first = threading.Event()

    def stop(stream: SocketStream) -> None:
        if together.wait(PATIENCE) == 0:
            first.set()
        else:
            assert first.wait(PATIENCE)
            until(lambda: server._terminating)
            until(standing_still(next(iter(server._terminating)).thread))
        server.terminate()
        afterwards.wait(PATIENCE)

    server = start_up_server(stop)
    with connect(server.port), connect(server.port):
        assert server.join(PATIENCE)
        server.terminate(None)
    assert not afterwards.broken


def test_join_waits_for_the_end_of_accepting() -> None:
    staying = Staying()
    server = start_up_server(staying)
    with connect(server.port):
        staying.wait_for(1)
        assert not server.join(0)
        assert not server.join(0.001)
        joining = Task(server.join).blocked()
        ending = Task(lambda: server.terminate(None)).blocked()
        assert joining.result()
        assert server.connections == 1, "the drain goes on"
        server.terminate()
        ending.result()
    assert server.join()


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1"])
def test_a_wrong_timeout_of_join_is_named(timeout: Any) -> None:
    with start_up_server(echo) as server, pytest.raises((TypeError, ValueError), match="timeout"):
        server.join(timeout)


def test_a_server_tells_where_it_is_and_that_it_has_ended() -> None:
    with start_up_server(echo) as server:
        assert repr(server) == f"<Server 127.0.0.1:{server.port}>"
    assert repr(server) == f"<Server 127.0.0.1:{server.port} terminated>"


# ---- what a handler raises -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StreamClosed("x", operation=""), KeyError("x")]
)
def test_nothing_that_a_handler_raises_ends_more_than_its_connection(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even what would end a program: sys.exit() in a thread is about that thread. The thread is used again."""
    ran_in: list[str] = []

    def fail(stream: SocketStream) -> None:
        ran_in.append(threading.current_thread().name)
        if stream.readline() == b"fail\n":
            stream.write(b"going")
            raise error
        stream.write(b"fine")

    with start_up_server(fail) as server:
        with told(server.port, b"fail\n") as client:
            if isinstance(error, Exception):
                with pytest.raises(ConnectionResetError):  # or half an answer would look like a whole one
                    client.read()
            else:
                assert client.read() == b"going"
        until(lambda: len(server._workers._idle) == 1)
        with told(server.port, b"go on\n") as client:
            assert client.read() == b"fine"
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert len(set(ran_in)) == 1


def test_a_failure_in_the_drain_that_is_no_end_of_a_connection_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    staying = Staying()

    def fail(stream: SocketStream) -> None:
        try:
            staying(stream)
        finally:
            raise KeyError("a fault of its own")

    server = start_up_server(fail)
    with connect(server.port):
        staying.wait_for(1)
        server.terminate()
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [KeyError]


# ---- on_end --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["the main thread", "a handler"])
def test_on_end_is_called_once_when_nobody_listens_any_more(by: str) -> None:
    """Handlers may still be at work: what belongs to the place where it listened can be removed, or taken over."""
    ended: list[tuple[bool, bool, int]] = []

    def on_end() -> None:
        ended.append((threading.current_thread() is server._thread, refuses(server.port), server.connections))

    def handler(stream: SocketStream) -> None:
        if stream.readline() == b"stop\n":
            server.terminate()

    server = start_up_server(handler, on_end=on_end)
    with connect(server.port), connect(server.port) as client:
        until(lambda: server.connections == 2)
        if by == "a handler":
            client.write(b"stop\n")
            assert client.read() == b""
        server.terminate()
        server.terminate()
    assert ended == [(True, True, 2)]


def test_on_end_may_terminate_the_server() -> None:
    def on_end() -> None:
        server.terminate()

    server = start_up_server(echo, on_end=on_end)
    with connect(server.port):
        until(lambda: server.connections)
        server.terminate(LONG)
    assert server.connections == 0


def test_on_end_is_not_called_for_a_server_that_never_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", lacking)
    called: list[None] = []
    with pytest.raises(RuntimeError, match="can't start"):
        start_up_server(echo, on_end=lambda: called.append(None))
    assert not called


def test_a_handler_that_is_busy_elsewhere_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It waits for something else than its stream, and nothing can end it: it is named, and left alone."""
    monkeypatch.setattr(server_module, "LAST_MOMENT", 0.1)
    let_go = threading.Event()

    def deaf(stream: SocketStream) -> None:
        let_go.wait(PATIENCE)

    server = start_up_server(deaf)
    with connect(server.port) as client:
        until(lambda: server.connections == 1)
        server.terminate()
        with pytest.raises(ConnectionResetError):
            client.read()
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        f"the handler for {client.local_address} does not end; it is left alone"
    ]
    let_go.set()
    until(lambda: server.connections == 0)
