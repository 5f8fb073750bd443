"""start_up_udp_server: datagrams are handled, errors survived, answers come from where was asked, nothing is left."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from children import Child, child
from datagrams import HOST, LOOPBACKS, fails, opened
from datagrams import each_way_fixture as _each_way  # noqa: F401 - a fixture
from server_programs import serve_datagrams_until_a_signal

from landline import ReadTimeout, SocketAddress, SocketCreateError, SocketIOError, StreamClosed
from landline.sync import udp_server as server_module
from landline.sync.udp import UdpSocket
from landline.sync.udp_server import Datagram, UdpServer
from landline.sync.udp_server import start_up_udp_server as start_up
from landline.testing.contract.stage import BRIEF, PATIENCE, Task, until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

each_way = pytest.mark.usefixtures("each_way")

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says where a datagram was sent to")


def echo(datagram: Datagram) -> None:
    datagram.reply(datagram.data)


def asked(server: UdpServer, data: bytes, host: str = HOST) -> bytes:
    """The server's answer, which must come from the address that was asked: the client is connected to it."""
    with opened(host, server.port) as client:
        client.send(data)
        return client.receive()


class Waiting:
    """A handler that tells when it was called, and waits until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.failed: list[BaseException] = []

    def __call__(self, datagram: Datagram) -> None:
        self.begun.release()
        assert self.go.wait(PATIENCE)
        try:
            datagram.reply(b"done")
        except StreamClosed as error:
            self.failed.append(error)
            raise

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self.begun.acquire(timeout=PATIENCE)


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    handler = Waiting()
    yield handler
    handler.go.set()


# ---- serving -------------------------------------------------------------------------------------------


@each_way
@pytest.mark.parametrize("threads", [1, 4])
def test_each_datagram_is_handled_and_answered(threads: int) -> None:
    with start_up(echo, threads=threads) as server:
        assert server.addresses == (SocketAddress(HOST, server.port),)
        with opened(HOST, server.port) as client:
            for number in range(100):
                client.send(b"%d" % number)
                assert client.receive() == b"%d" % number
        until(lambda: server.socket.datagrams_received == server.socket.datagrams_sent == 100)


def test_a_handler_knows_who_sent_what() -> None:
    seen: list[Datagram] = []
    with start_up(seen.append) as server, opened(HOST, server.port) as client:
        client.send(b"it is me")
        until(lambda: seen)
        (datagram,) = seen
        assert (datagram.data, datagram.address, datagram.destination) == (b"it is me", client.local_address, None)
        assert repr(datagram) == f"<Datagram of 8 bytes from {client.local_address}>"
        datagram.reply(b"one")
        datagram.reply(bytearray(b"two"))
        assert [client.receive(), client.receive()] == [b"one", b"two"]


def test_one_thread_handles_datagrams_in_their_order() -> None:
    seen: list[bytes] = []
    with start_up(lambda datagram: seen.append(datagram.data)) as server, opened(HOST, server.port) as client:
        for number in range(50):
            client.send(b"%d" % number)
        until(lambda: len(seen) == 50)
    assert seen == [b"%d" % number for number in range(50)]


def test_so_many_handlers_run_at_once(waiting: Waiting) -> None:
    with start_up(waiting, threads=3, name="three") as server, ExitStack() as clients:
        several = [clients.enter_context(opened(HOST, server.port)) for _ in range(4)]
        for client in several:
            client.send(b"wait for me")
        waiting.wait_for(3)
        assert not waiting.begun.acquire(timeout=BRIEF)
        names = {thread.name for thread in threading.enumerate()}
        assert {"three (1)", "three (2)", "three (3)"} <= names
        waiting.go.set()
        assert [client.receive() for client in several] == [b"done"] * 4


@pytest.mark.parametrize("host", LOOPBACKS.values(), ids=list(LOOPBACKS))
def test_both_families_are_served_at_every_address(host: str) -> None:
    with start_up(echo, local_address=None) as server:
        assert asked(server, b"x", host) == b"x"


def test_localhost_is_one_address() -> None:
    with start_up(echo, ipv6=False) as four, start_up(echo, ipv6=True) as six:
        assert (four.addresses[0].host, six.addresses[0].host) == (HOST, "::1")
        assert asked(four, b"four") == b"four"
        assert asked(six, b"six", "::1") == b"six"


@on_linux
@pytest.mark.parametrize(("local", "ipv6"), [(None, "any"), (None, False), ("0.0.0.0", "any"), (None, "both")])
def test_an_answer_comes_from_the_address_that_was_asked(local: str | None, ipv6: Any) -> None:
    """The kernel would take 127.0.0.1 for all of them, and the clients would hear nothing."""
    seen: list[str | None] = []

    def answer(datagram: Datagram) -> None:
        seen.append(datagram.destination)
        datagram.reply(b"here")

    with start_up(answer, local_address=local, ipv6=ipv6) as server:
        hosts = ["127.0.0.2", "127.0.0.3", HOST] + ["::1"] * (ipv6 is not False and local is None)
        assert [asked(server, b"where are you?", host) for host in hosts] == [b"here"] * len(hosts)
    assert seen == hosts


def test_a_port_is_shared_by_servers_that_say_so() -> None:
    with start_up(echo, reuse_port=True) as one, start_up(echo, one.port, reuse_port=True) as other:
        assert one.port == other.port
        clients = 0
        while not (one.socket.datagrams_received and other.socket.datagrams_received):
            assert asked(one, b"x") == b"x"
            clients += 1
            assert clients < 200  # the kernel chooses by the client's port: each is as likely


# ---- failures ------------------------------------------------------------------------------------------


def test_an_error_in_a_handler_is_logged_with_the_sender_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(datagram: Datagram) -> None:
        if datagram.data == b"fail":
            raise KeyError("what went wrong")
        if datagram.data == b"exit":
            sys.exit("a handler is not the program")
        datagram.reply(b"fine")

    with start_up(fail, name="failing") as server, opened(HOST, server.port) as client:
        for data in (b"fail", b"exit", b"go on"):
            client.send(data)
        assert client.receive() == b"fine"
    assert [record.getMessage() for record in caplog.records] == [
        f"failing: the handler for {client.local_address} failed"
    ] * 2
    assert ["what went wrong" in record.exc_text for record in caplog.records if record.exc_text] == [True, False]


def test_a_datagram_that_is_too_long_is_logged_and_dropped(caplog: pytest.LogCaptureFixture) -> None:
    with start_up(echo, size=10) as server, opened(HOST, server.port) as client:
        client.send(b"x" * 11)
        client.send(b"x" * 10)
        assert client.receive() == b"x" * 10
    (record,) = caplog.records
    assert (record.levelno, record.name) == (logging.WARNING, "landline.server")
    assert f"a datagram of 11 bytes came from {client.local_address}" in record.getMessage()


def test_a_client_that_is_gone_harms_nobody() -> None:
    """What ICMP says of the answers to it is not the next client's business."""
    with start_up(echo) as server:
        for _ in range(3):
            with opened(HOST, server.port) as gone:
                gone.send(b"good bye")
        assert asked(server, b"still there?") == b"still there?"


def test_a_failing_system_is_logged_and_survived(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [OSError(errno.ENOBUFS, "No buffer space available")] * 2
    receive = UdpSocket._receive_for_server

    def failing(udp: UdpSocket, size: int, beside: bool) -> Any:
        if failures:
            raise SocketIOError("receiving failed") from failures.pop()
        return receive(udp, size, beside)

    monkeypatch.setattr(server_module, "PAUSE_AFTER_FAILURE", BRIEF)
    monkeypatch.setattr(UdpSocket, "_receive_for_server", failing)
    with start_up(echo) as server:
        assert asked(server, b"go on") == b"go on"
    assert ["receiving failed; going on" in record.getMessage() for record in caplog.records] == [True, True]


def test_a_lasting_failure_does_not_fill_the_log_and_terminate_does_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*arguments: Any) -> Any:
        raise SocketIOError("receiving failed")

    monkeypatch.setattr(server_module, "PAUSE_AFTER_FAILURE", 10 * PATIENCE)
    monkeypatch.setattr(UdpSocket, "_receive_for_server", failing)
    with start_up(echo) as server:
        until(lambda: caplog.records)
        assert server.terminate()
    assert len(caplog.records) == 1


def test_an_address_that_cannot_be_received_at_is_a_create_error() -> None:
    with start_up(echo) as server:
        error = fails(SocketCreateError, lambda: start_up(echo, server.port), "Address already in use")
        assert error.address == server.addresses[0]


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"handler": None}, TypeError, "handler=None is not allowed: it must be callable"),
        ({"threads": 0}, ValueError, "threads=0 is not allowed: it must be from 1 to"),
        ({"threads": 1.5}, TypeError, r"threads=1\.5 is not allowed"),
        ({"size": -1}, ValueError, "size=-1 is not allowed"),
        ({"size": None}, TypeError, "size=None is not allowed"),
        ({"service": -1}, ValueError, "local_port=-1 is not allowed"),
        ({"ipv6": "both"}, ValueError, "is not allowed with ipv6='both'"),
        ({"local_address": HOST, "ipv6": True}, ValueError, "it is an IPv4 address"),
    ],
    ids=repr,
)
def test_wrong_arguments_are_named_before_anything_is_opened(
    arguments: dict[str, Any], kind: type[Exception], message: str
) -> None:
    fails(kind, lambda: start_up(**{"handler": echo, **arguments}), message)


def test_nothing_is_left_of_a_server_that_gets_no_threads(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def refuse(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    fails(RuntimeError, lambda: start_up(echo, threads=3))
    assert not any(thread.is_alive() for thread in started)
    assert caplog.records == []


# ---- the end -------------------------------------------------------------------------------------------


@each_way
@pytest.mark.parametrize("threads", [1, 4])
def test_terminate_ends_an_idle_server_at_once(threads: int) -> None:
    server = start_up(echo, threads=threads)
    began = time.monotonic()
    assert server.terminate()
    assert time.monotonic() - began < 1
    assert server.join(0)
    assert server.socket.closed
    assert server.terminate()


def test_handlers_finish_and_answer_within_the_drain(waiting: Waiting) -> None:
    with start_up(waiting, threads=2) as server, opened(HOST, server.port) as client:
        client.send(b"one")
        client.send(b"two")
        waiting.wait_for(2)
        ending = Task(lambda: server.terminate(PATIENCE)).blocked()
        client.send(b"too late")
        waiting.go.set()
        assert ending.result() is True
        assert [client.receive(), client.receive()] == [b"done", b"done"]
        assert not waiting.begun.acquire(timeout=BRIEF)


def test_after_the_drain_handlers_cannot_answer_and_that_is_not_logged(
    waiting: Waiting, caplog: pytest.LogCaptureFixture
) -> None:
    with start_up(waiting) as server, opened(HOST, server.port) as client:
        client.send(b"x")
        waiting.wait_for(1)
        ending = Task(lambda: server.terminate(BRIEF))
        until(lambda: server.socket.closed)
        waiting.go.set()
        assert ending.result() is True
    assert [type(error) for error in waiting.failed] == [StreamClosed]
    assert caplog.records == []


def test_a_handler_that_goes_on_for_ever_is_left_and_told(
    monkeypatch: pytest.MonkeyPatch, waiting: Waiting, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "LAST_MOMENT", BRIEF)
    server = start_up(waiting, threads=2)
    with opened(HOST, server.port) as client:
        client.send(b"x")
        waiting.wait_for(1)
    assert server.terminate() is False
    assert server.join(BRIEF) is False
    assert "1 handlers have not ended" in caplog.text
    waiting.go.set()
    assert server.join(PATIENCE) is True


def test_a_handler_may_terminate_the_server() -> None:
    results: list[bool] = []
    with start_up(lambda _: results.append(server.terminate(PATIENCE)), threads=3) as server:
        with opened(HOST, server.port) as client:
            client.send(b"stop")
        assert server.join(PATIENCE)
    assert results == [True]


def test_what_came_and_was_not_begun_is_dropped(waiting: Waiting) -> None:
    with start_up(waiting) as server, opened(HOST, server.port, read_timeout=BRIEF) as client:
        for _ in range(3):
            client.send(b"x")
        waiting.wait_for(1)
        ending = Task(lambda: server.terminate(PATIENCE)).blocked()
        waiting.go.set()
        ending.result()
        assert client.receive() == b"done"
        fails((ReadTimeout, ConnectionRefusedError), client.receive)  # type: ignore[arg-type]
    assert not waiting.begun.acquire(timeout=BRIEF)


def test_a_datagram_that_was_received_when_the_server_ended_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Datagram] = []
    receive = UdpServer._receive

    def receive_at_the_end(server: UdpServer) -> Datagram | None:
        datagram = receive(server)
        server._stopping.set()
        return datagram

    monkeypatch.setattr(UdpServer, "_receive", receive_at_the_end)
    with start_up(seen.append) as server, opened(HOST, server.port) as client:
        client.send(b"x")
        assert server.join(PATIENCE)
    assert (seen, server.socket.datagrams_received) == ([], 1)


def test_a_socket_closed_by_hand_ends_the_server_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with start_up(echo, threads=2, name="mine") as server:
        server.socket.close()
        assert server.join(PATIENCE)
    assert "mine: its socket was closed; the server ends" in caplog.text


def test_many_servers_come_and_go() -> None:
    for _ in range(50):
        with start_up(echo, local_address=None, threads=2) as server:
            assert asked(server, b"x") == b"x"


def test_no_handler_begins_after_terminate_has_returned() -> None:
    seen: list[float] = []
    server = start_up(lambda _: seen.append(time.monotonic()), threads=4)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        flooding = threading.Event()

        def flood() -> None:
            while not flooding.is_set():
                client.sendto(b"x", (HOST, server.port))

        task = Task(flood)
        until(lambda: len(seen) > 100)
        assert server.terminate()
        ended = time.monotonic()
        flooding.set()
        task.result()
    assert max(seen) < ended


def test_the_server_s_socket_has_the_options() -> None:
    with start_up(echo, local_address=None) as server:
        server.socket.broadcast = True
        assert server.socket.broadcast
        set_ttl = partial(setattr, server.socket, "multicast_ttl")
        set_ttl(3)
        assert server.socket.multicast_ttl == 3


# ---- until a signal ------------------------------------------------------------------------------------

needs_signals = pytest.mark.skipif(os.name != "posix", reason="needs signals between processes")


def staying(process: Child) -> None:
    """Have it begin with a datagram whose handler stays."""
    (port,) = process.said()
    with opened(HOST, int(port)) as client:
        client.send(b"stay")
    assert process.said() == ["staying"]


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_handlers_finish(number: signal.Signals) -> None:
    with child(serve_datagrams_until_a_signal, 600) as process:
        staying(process)
        process.signal(number)
        process.tell("finish")
        assert process.said() == ["finished"]
        assert process.said() == ["returned", "True"]
        assert process.wait() == 0


@needs_signals
def test_a_second_signal_ends_the_drain() -> None:
    with child(serve_datagrams_until_a_signal, 600) as process:
        staying(process)
        process.signal(signal.SIGTERM)
        process.signal(signal.SIGINT)
        assert process.said() == ["returned", "True"]


@needs_signals
def test_without_anything_to_finish_a_signal_ends_it_at_once() -> None:
    with child(serve_datagrams_until_a_signal, 600) as process:
        assert len(process.said()) == 1
        process.signal(signal.SIGTERM)
        assert process.said() == ["returned", "True"]


def test_serve_forever_returns_when_somebody_else_ends_it_and_is_for_the_main_thread() -> None:
    with start_up(echo) as server:
        with pytest.raises(ValueError, match="main thread"):
            Task(server.serve_forever).result()
        ending = Task(server.terminate)
        server.serve_forever()
        assert ending.result()
