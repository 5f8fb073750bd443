"""start_up_server: connections are handled, errors survived, and nothing is left when it ends."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from landline import Server, SocketAddress, SocketCreateError, SocketStream, StreamClosed, open_tcp_stream
from landline import start_up_server as start_up
from landline.sync import server as server_module
from landline.sync.listen import listen
from landline.testing.contract.stage import PATIENCE, Task, until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")


def echo(stream: SocketStream) -> None:
    for line in stream:
        stream.write(line)
        stream.flush()


def connect(server: Server, **more: Any) -> SocketStream:
    stream: SocketStream = open_tcp_stream("127.0.0.1", server.port, read_timeout=PATIENCE, **more)
    return stream


def hears(client: SocketStream, line: bytes) -> bool:
    client.write(line)
    return client.readline() == line


class Waiting:
    """A handler that tells when it was called, and waits until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()

    def __call__(self, stream: SocketStream) -> None:
        self.begun.release()
        assert self.go.wait(PATIENCE)
        stream.write(b"done")

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self.begun.acquire(timeout=PATIENCE)


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    handler = Waiting()
    yield handler
    handler.go.set()


# ---- serving -------------------------------------------------------------------------------------------


def test_each_connection_is_handled_in_a_thread_of_its_own() -> None:
    with start_up(echo) as server, ExitStack() as clients:
        assert server.addresses == (SocketAddress("127.0.0.1", server.port),)
        several = [clients.enter_context(connect(server)) for _ in range(20)]
        for _ in range(3):
            for number, client in enumerate(several):
                assert hears(client, b"%d\n" % number)


def test_the_stream_is_closed_after_its_handler() -> None:
    def answer(stream: SocketStream) -> None:
        stream.write(b"not flushed")

    with start_up(answer) as server, connect(server) as client:
        assert client.read() == b"not flushed"


def test_the_limits_are_those_of_every_stream() -> None:
    seen: list[tuple[float | None, float | None]] = []

    def look(stream: SocketStream) -> None:
        seen.append((stream.read_timeout, stream.write_timeout))

    with start_up(look, read_timeout=3, write_timeout=4) as server, connect(server) as client:
        assert client.read() == b""
    assert seen == [(3, 4)]


def test_connections_are_counted(waiting: Waiting) -> None:
    with start_up(waiting) as server:
        assert server.connections == 0
        with connect(server) as one, connect(server) as other:
            waiting.wait_for(2)
            assert server.connections == 2
            waiting.go.set()
            assert one.read() == other.read() == b"done"
            until(lambda: server.connections == 0)


def test_a_handler_may_keep_the_socket() -> None:
    kept: list[socket.socket] = []

    with start_up(lambda stream: kept.append(stream.detach())) as server, connect(server) as client:
        until(lambda: kept and server.connections == 0)
        with kept[0]:
            kept[0].sendall(b"later")
            assert client.read_exactly(5) == b"later"


def test_ipv6_is_served() -> None:
    try:
        server = start_up(echo, local_address="::1")
    except SocketCreateError as error:
        pytest.skip(str(error))
    with server, open_tcp_stream("::1", server.port, read_timeout=PATIENCE) as client:
        assert hears(client, b"six\n")


def test_an_address_of_none_is_every_ipv4_address() -> None:
    with start_up(echo, local_address=None) as server, connect(server) as client:
        assert server.addresses[0].host == "0.0.0.0"
        assert hears(client, b"any\n")


# ---- failures ------------------------------------------------------------------------------------------


def test_an_error_in_a_handler_is_logged_and_ends_that_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    def fail(stream: SocketStream) -> None:
        if stream.readline() == b"fail\n":
            raise KeyError("what went wrong")
        stream.write(b"fine")

    with start_up(fail) as server, connect(server) as bad, connect(server) as good:
        bad.write(b"fail\n")
        assert bad.read() == b""
        until(lambda: caplog.records)
        good.write(b"go on\n")
        assert good.read() == b"fine"
        with connect(server) as later:
            later.write(b"go on\n")
            assert later.read() == b"fine"
    (record,) = caplog.records
    assert record.name == "landline.server"
    assert record.levelno == logging.ERROR
    assert str(bad.local_address) in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)


def test_a_client_that_resets_is_survived(caplog: pytest.LogCaptureFixture) -> None:
    with start_up(echo) as server:
        for _ in range(20):
            connect(server).abort()
        until(lambda: server.connections == 0)
        with connect(server) as client:
            assert hears(client, b"still here\n")
    for record in caplog.records:
        assert record.levelname == "WARNING"
        assert record.exc_info is None
        assert "127.0.0.1" in record.getMessage()


@pytest.mark.parametrize("error", [KeyError("a fault of its own"), ConnectionResetError("of another connection")])
def test_a_handler_that_fails_before_it_has_answered_just_ends(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(stream: SocketStream) -> None:
        stream.readline()
        raise error

    with start_up(fail) as server, connect(server) as client:
        client.write(b"a request\n")
        assert client.read() == b""
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info is not None


class Failing:
    """A listener whose next accepts fail."""

    def __init__(self, listener: socket.socket, number: int, times: int) -> None:
        self._listener = listener
        self._number = number
        self.left = times

    def accept(self) -> Any:
        if self.left:
            self.left -= 1
            raise OSError(self._number, "what accept() says")
        return self._listener.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
def test_a_lack_of_descriptors_is_survived_with_a_pause(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "PAUSE_WITHOUT_DESCRIPTORS", 0.01)
    monkeypatch.setattr(server_module, "listen", lambda *how: [Failing(one, number, 3) for one in listen(*how)])
    begun = time.monotonic()
    with start_up(echo) as server, connect(server) as client:
        assert hears(client, b"at last\n")
    assert time.monotonic() - begun >= 3 * 0.01
    assert len([record for record in caplog.records if "cannot accept" in record.getMessage()]) == 3


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPERM, errno.EAGAIN, errno.EPROTO])
def test_a_connection_that_fails_in_accept_is_not_the_servers_end(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "listen", lambda *how: [Failing(one, number, 3) for one in listen(*how)])
    with start_up(echo) as server, connect(server) as client:
        assert hears(client, b"next\n")
    assert not caplog.records


def test_a_lack_of_descriptors_in_earnest(caplog: pytest.LogCaptureFixture) -> None:
    resource = pytest.importorskip("resource")
    with start_up(echo) as server, connect(server) as first:
        assert hears(first, b"before\n")
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        second = socket.socket()
        try:
            with second:
                # No number above those in use may be given out any more, and none below is free.
                fillers = ExitStack()
                with fillers:
                    highest = fillers.enter_context(socket.socket()).fileno()
                    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
                    second.connect(("127.0.0.1", server.port))
                    until(lambda: caplog.records)
                    assert hears(first, b"during\n")
                second.sendall(b"after\n")
                second.settimeout(PATIENCE)
                assert second.recv(10) == b"after\n"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert "cannot accept" in caplog.records[0].getMessage()


def test_a_lack_of_threads_ends_that_connection_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = threading.Thread.start
    refuse = threading.Event()

    def lacking(thread: threading.Thread) -> None:
        if refuse.is_set() and "#" in thread.name:
            refuse.clear()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", lacking)
    with start_up(echo) as server:
        refuse.set()
        with socket.create_connection(("127.0.0.1", server.port)) as refused, pytest.raises(ConnectionResetError):
            refused.recv(1)
        assert server.connections == 0
        with connect(server) as client:
            assert hears(client, b"next\n")
    assert "no thread" in caplog.records[0].getMessage()


def test_a_server_that_gets_no_thread_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", lacking)
    with pytest.raises(RuntimeError):
        start_up(echo)


def test_an_address_that_cannot_be_listened_at_is_named() -> None:
    with start_up(echo) as server:
        with pytest.raises(SocketCreateError, match=str(server.addresses[0])) as caught:
            start_up(echo, server.port)
        assert caught.value.errno == errno.EADDRINUSE
    with pytest.raises(SocketCreateError):
        start_up(echo, local_address="192.0.2.1")


@pytest.mark.parametrize(
    "wrong",
    [{"service": 70000}, {"local_address": "not a name"}, {"read_timeout": -1}, {"write_timeout": "1"}],
)
def test_wrong_arguments_are_named_before_anything_is_opened(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=str(next(iter(wrong.values())))):
        start_up(echo, **wrong)


# ---- ending --------------------------------------------------------------------------------------------


def test_terminate_aborts_what_is_left() -> None:
    failures: list[BaseException] = []
    begun = threading.Semaphore(0)

    def wait(stream: SocketStream) -> None:
        begun.release()
        try:
            stream.readline()
        except BaseException as error:
            failures.append(error)
            raise

    server = start_up(wait)
    with connect(server) as one, connect(server) as other:
        for _ in range(2):
            assert begun.acquire(timeout=PATIENCE)
        started = time.monotonic()
        server.terminate()
        assert time.monotonic() - started < PATIENCE / 2
        assert [type(failure) for failure in failures] == [StreamClosed, StreamClosed]
        for client in (one, other):
            with pytest.raises(ConnectionResetError):
                client.read()
    assert server.connections == 0
    server.terminate()


def test_what_terminate_ends_is_not_logged_as_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    with start_up(echo) as server, connect(server) as client:
        assert hears(client, b"x\n")
        server.terminate()
    assert not caplog.records


def test_terminate_lets_handlers_finish_within_drain(waiting: Waiting) -> None:
    server = start_up(waiting)
    with connect(server) as client:
        waiting.wait_for(1)
        terminating = Task(lambda: server.terminate(drain=PATIENCE)).blocked()
        waiting.go.set()
        terminating.result()
        assert client.read() == b"done"


def test_drain_is_one_bound_for_all() -> None:
    begun = threading.Semaphore(0)

    def wait(stream: SocketStream) -> None:
        begun.release()
        stream.read()

    server = start_up(wait)
    with ExitStack() as clients:
        for _ in range(5):
            clients.enter_context(connect(server))
            assert begun.acquire(timeout=PATIENCE)
        started = time.monotonic()
        server.terminate(drain=0.1)
        assert 0.1 <= time.monotonic() - started < 0.1 + PATIENCE / 2


@pytest.mark.parametrize("drain", [-1, float("nan"), "1"])
def test_a_wrong_drain_terminates_nothing(drain: Any) -> None:
    with start_up(echo) as server:
        with pytest.raises((TypeError, ValueError), match="drain"):
            server.terminate(drain)
        with connect(server) as client:
            assert hears(client, b"still here\n")


def test_accepting_ends_at_once() -> None:
    server = start_up(echo)
    assert not server.join(0.001)
    server.terminate()
    assert server.join(PATIENCE)
    with socket.socket() as late, pytest.raises(ConnectionRefusedError):
        late.connect(("127.0.0.1", server.port))
    with start_up(echo, server.port) as again, connect(again) as client:
        assert hears(client, b"the port is free again\n")


def test_a_handler_may_terminate_its_server() -> None:
    def stop(stream: SocketStream) -> None:
        if stream.readline() == b"stop\n":
            server.terminate()
            stream.write(b"stopped")

    server = start_up(stop)
    with connect(server) as idle, connect(server) as client:
        until(lambda: server.connections == 2)
        client.write(b"stop\n")
        assert client.read() == b"stopped"
        with pytest.raises(ConnectionResetError):
            idle.read()
    server.terminate()


def test_several_may_terminate_at_once() -> None:
    """Handlers and others, all together: none waits for one that waits for it."""
    together = threading.Barrier(4)

    def stop(stream: SocketStream) -> None:
        together.wait(PATIENCE)
        server.terminate(drain=0.01)

    server = start_up(stop)
    with connect(server), connect(server), connect(server):
        together.wait(PATIENCE)
        Task(server.terminate).result()
    assert server.connections == 0


def test_a_with_statement_leaves_no_thread_and_no_descriptor() -> None:
    """(no_leaks looks.) Also when clients are connected, waiting to be accepted, or just coming."""
    enough = threading.Event()
    server = start_up(echo)

    def knock() -> None:
        while not enough.is_set():
            with socket.socket() as sock:
                sock.settimeout(0.1)
                if sock.connect_ex(("127.0.0.1", server.port)):
                    return

    with server:
        knocking = [Task(knock) for _ in range(3)]
        until(lambda: server.connections)
    enough.set()
    for each in knocking:
        each.result()
