"""comm's servers: one connection at a time, announced, ended from wherever; and nothing left behind.

Source: LispWorks manual, start-up-server, start-up-server-and-mp, server-terminate.
"""

from __future__ import annotations

import inspect
import io
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lisp_pairs import (
    received,
    seen_by,
)
from pages import LOOPBACK

from landline import Server, comm
from landline.testing.contract.stage import PATIENCE, Task, until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

starting: Any = comm.start_up_server
"""It, for arguments that a type checker would refuse."""


@contextmanager
def server(function: Callable[[Any], object], **arguments: Any) -> Iterator[Server]:
    process, condition = starting(function=function, **{"address": LOOPBACK, **arguments})
    assert condition is None
    try:
        yield process
    finally:
        comm.server_terminate(process)


def client(process: Server) -> socket.socket:
    return socket.create_connection((LOOPBACK, process.port), PATIENCE)


def close(handle: socket.socket) -> None:
    handle.close()


def refuses(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((LOOPBACK, port)) != 0


class Announced:
    """What a function as ``announce`` was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any]] = []

    def __call__(self, listener: socket.socket | None, condition: Any) -> None:
        self.calls.append((listener and comm.get_socket_address(listener), condition))


# ---- arguments and results -----------------------------------------------------------------------------------


def test_the_keywords_are_the_manuals() -> None:
    parameters = inspect.signature(comm.start_up_server).parameters
    assert " ".join(parameters) == (
        "function announce service backlog address local_address local_port nodelay keepalive process_name wait "
        "create_stream ipv6 error reuseport"
    )
    assert {each.kind for each in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}


def test_the_results_are_the_process_and_no_condition() -> None:
    started = comm.start_up_server(function=close, address=LOOPBACK)
    process, condition = started
    assert isinstance(process, Server)
    assert (started.process, condition, started.condition) == (process, None, None)
    assert process.name == f"{process.port} server"
    assert process.name in {thread.name for thread in threading.enumerate()}
    assert comm.server_terminate(process) is True
    with server(close, process_name="our server"):
        assert "our server" in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("name", ["service", "local_port"])
def test_service_and_local_port_are_the_same(name: str) -> None:
    with socket.create_server((LOOPBACK, 0)) as free:
        port = free.getsockname()[1]
    for spelled in (port, str(port)):
        with server(close, **{name: spelled}) as process:
            assert process.port == port
            assert process.name == f"{port} server"
    with server(close, service=port, local_port=port):
        pass
    with pytest.raises(ValueError, match="they mean the same"):
        starting(function=close, service=port, local_port=port + 1)


def test_a_service_may_have_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((LOOPBACK, 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(socket, "getservbyname", lambda name, protocol: {("lispworks", "tcp"): port}[name, protocol])
    with server(close, service="lispworks") as process:
        assert (process.port, process.name) == (port, "lispworks server")


@pytest.mark.parametrize("name", ["address", "local_address"])
def test_address_and_local_address_are_the_same(name: str) -> None:
    for where in (0x7F000001, LOOPBACK, "localhost"):
        with server(close, **{"address": None, name: where}) as process:
            assert [address.host for address in process.addresses] == [LOOPBACK]
    with pytest.raises(ValueError, match="they mean the same"):
        starting(function=close, address="127.0.0.1", local_address="127.0.0.2")


def test_no_address_is_everywhere_and_ipv6_chooses_the_family() -> None:
    for ipv6, hosts in (
        ("any", ["0.0.0.0", "::"]),
        (":BOTH", ["0.0.0.0", "::"]),
        ("both", ["0.0.0.0", "::"]),
        (True, ["::"]),
        (None, ["0.0.0.0"]),
        (False, ["0.0.0.0"]),
    ):
        with server(close, address=None, ipv6=ipv6) as process:
            assert [address.host for address in process.addresses] == hosts
    with server(close, address="::1", ipv6=":any") as process:
        assert [address.host for address in process.addresses] == ["::1"]


def test_options_are_those_of_each_connection() -> None:
    options = []

    def look(handle: socket.socket) -> None:
        with handle:
            options.append(
                (
                    bool(handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)),
                    bool(handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)),
                )
            )

    for arguments in ({}, {"nodelay": None, "keepalive": "yes"}):
        with server(look, **arguments) as process, client(process) as sock:
            seen_by(sock)
    assert options == [(True, False), (False, True)]


def test_with_reuseport_several_listen_at_the_same_port() -> None:
    with server(close, reuseport=True) as process:
        with server(close, service=process.port, reuseport=True) as other:
            assert other.port == process.port
        assert starting(function=close, address=LOOPBACK, service=process.port, error=False).condition is not None


def test_start_up_server_and_mp_has_no_reuseport() -> None:
    process, condition = comm.start_up_server_and_mp(function=close, address=LOOPBACK, process_name="mp")
    assert (process is not None and process.name, condition) == ("mp", None)
    comm.server_terminate(process)
    with pytest.raises(TypeError, match="reuseport"):
        comm.start_up_server_and_mp(function=close, address=LOOPBACK, reuseport=False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"function": "close"},
        {"announce": 5},
        {"announce": "a name"},
        {"service": -1},
        {"service": 1.5},
        {"backlog": 0},
        {"backlog": -1},
        {"backlog": "many"},
        {"backlog": True},
        {"ipv6": "neither"},
        {"address": 1.5},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_wrong_argument_is_raised_whatever_error_says(wrong: dict[str, Any]) -> None:
    announced = Announced()
    with pytest.raises((TypeError, ValueError)):
        starting(**{"function": close, "address": LOOPBACK, "announce": announced, "error": False, **wrong})
    assert announced.calls == []


def test_without_a_function_there_is_no_listener_to_serve_with() -> None:
    with pytest.raises(comm.HasNoMeaning, match="there is no Lisp listener"):
        comm.start_up_server()


# ---- a server that cannot start ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wait", "error", "raises"),
    [(False, None, True), (True, None, False), (True, True, True), (False, False, False), (True, False, False)],
)
def test_error_and_wait_decide_whether_a_failure_raises(wait: bool, error: bool | None, raises: bool) -> None:
    announced = Announced()
    with socket.create_server((LOOPBACK, 0)) as taken:
        arguments = {
            "function": close,
            "address": LOOPBACK,
            "service": taken.getsockname()[1],
            "announce": announced,
            "wait": wait,
            "error": error,
        }
        if raises:
            with pytest.raises(comm.socket_create_error, match="could not listen"):
                starting(**arguments)
            assert announced.calls == []
        else:
            process, condition = starting(**arguments)
            assert process is None
            assert isinstance(condition, comm.socket_create_error)
            assert announced.calls == [(None, condition)]


def test_an_unknown_service_is_a_condition() -> None:
    process, condition = starting(function=close, service="no-such-service", error=None, wait=True)
    assert process is None
    assert isinstance(condition, comm.socket_create_error)


# ---- announce ------------------------------------------------------------------------------------------------


def test_announce_is_called_at_the_start_and_at_the_end() -> None:
    announced = Announced()
    with server(close, announce=announced, wait=True) as process:
        assert announced.calls == [((0x7F000001, process.port), None)]
    assert announced.calls[1:] == [(None, None)]


def test_announce_true_is_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with server(close, announce=True) as process:
        assert capsys.readouterr().out == f"listening at 127.0.0.1:{process.port}\n"
    assert capsys.readouterr().out == ""


def test_announce_may_be_a_text_file() -> None:
    file = io.StringIO()
    with server(close, announce=file) as process:
        started = f"listening at 127.0.0.1:{process.port}\n"
        assert file.getvalue() == started
        condition = starting(
            function=close, address=LOOPBACK, service=process.port, announce=file, error=False
        ).condition
        assert file.getvalue() == f"{started}{condition}\n"


@pytest.mark.parametrize("nothing", [None, False])
def test_announce_nil_says_nothing(nothing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with server(close, announce=nothing):
        pass
    assert capsys.readouterr() == ("", "")


def test_an_announce_that_fails_leaves_nothing_behind() -> None:
    def fail(listener: socket.socket, condition: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        starting(function=close, address=LOOPBACK, announce=fail)


# ---- one connection after the other --------------------------------------------------------------------------


def test_nothing_more_is_accepted_until_the_function_returns() -> None:
    entered = threading.Semaphore(0)
    leave = threading.Semaphore(0)

    def serve(handle: socket.socket) -> None:
        with handle:
            entered.release()
            assert leave.acquire(timeout=PATIENCE)
            handle.sendall(b"done")

    with server(serve) as process, client(process) as one, client(process) as two:
        assert entered.acquire(timeout=PATIENCE)
        assert process.input_ready()  # the second client waits in the kernel's queue
        assert process.connections == 1
        assert not entered.acquire(blocking=False)
        leave.release()
        assert seen_by(one) == b"done"
        assert entered.acquire(timeout=PATIENCE)
        assert not process.input_ready()
        leave.release()
        assert seen_by(two) == b"done"


def test_the_function_owns_its_handle_and_may_give_it_away() -> None:
    given: list[socket.socket] = []
    with server(given.append) as process, client(process) as one, client(process) as two:
        until(lambda: len(given) == 2)
        for sock, handle in zip((one, two), given, strict=True):
            assert isinstance(handle, socket.socket)
            assert handle.gettimeout() is None
            handle.sendall(b"hello")
            assert received(sock, 5) == b"hello"
        comm.server_terminate(process)
        for sock, handle in zip((one, two), given, strict=True):
            with handle:
                handle.sendall(b"after")
                assert received(sock, 5) == b"after"


def test_with_create_stream_the_function_gets_a_stream() -> None:
    def serve(stream: comm.SocketStream) -> None:
        assert type(stream) is comm.SocketStream
        with stream:
            comm.write_line(f"{comm.stream_element_type(stream)} {comm.read_line(stream).line}", stream)

    with server(serve, create_stream=True) as process, client(process) as sock:
        sock.sendall(b"you said\n")
        assert seen_by(sock) == b"base-char you said\n"


@pytest.mark.parametrize("create_stream", [False, True])
def test_an_error_in_the_function_is_logged_and_ends_that_connection_only(
    create_stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "landline.server")

    def serve(connection: Any) -> None:
        if connection.fileno() and not caplog.records:
            raise ZeroDivisionError("of the first")
        connection.close()

    with server(serve, create_stream=create_stream) as process:
        for _ in range(2):
            with client(process) as sock:
                assert seen_by(sock) == b""
        (record,) = caplog.records
        assert "failed" in record.getMessage()
        assert "of the first" in str(record.exc_info)


def test_half_an_answer_does_not_look_like_a_whole_one() -> None:
    def fail(stream: comm.SocketStream) -> None:
        comm.write_string("half an answer", stream)
        raise KeyError("a fault of the function's own")

    with (
        server(fail, create_stream=True) as process,
        client(process) as sock,
        sock.makefile("rb") as file,
        pytest.raises(ConnectionResetError),
    ):
        file.read()


def test_a_client_that_has_gone_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "landline.server")
    entered, leave = threading.Semaphore(0), threading.Semaphore(0)

    def serve(stream: comm.SocketStream) -> None:
        entered.release()
        assert leave.acquire(timeout=PATIENCE)
        stream.abort()

    with server(serve, create_stream=True) as process, client(process) as one:
        assert entered.acquire(timeout=PATIENCE)
        with client(process) as gone:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        with client(process) as three:
            leave.release(2)
            assert seen_by(one) == b""
            assert seen_by(three) == b""
    assert {record.levelname for record in caplog.records} <= {"INFO"}


# ---- ending it -----------------------------------------------------------------------------------------------


def test_server_terminate_from_outside_is_true_once() -> None:
    process = starting(function=close, address=LOOPBACK, wait=True).process
    assert comm.server_terminate(process) is True
    assert refuses(process.port)
    assert comm.server_terminate(process) is False
    assert comm.server_terminate(process) is False


def test_server_terminate_ends_a_function_that_waits_for_its_client() -> None:
    ended = threading.Event()

    def serve(handle: socket.socket) -> None:
        with handle:
            assert handle.recv(1) == b""
        ended.set()

    with server(serve) as process, client(process) as sock:
        until(lambda: process.connections == 1)
        assert comm.server_terminate(process) is True
        assert ended.is_set()
        assert seen_by(sock) == b""


def test_server_terminate_inside_the_function_ends_the_server_after_it() -> None:
    results: list[object] = []
    announced = Announced()

    def serve(handle: socket.socket) -> None:
        with handle:
            results.append(comm.server_terminate())
            results.append(comm.server_terminate(None))
            handle.sendall(b"still serving")

    with server(serve, announce=announced) as process:
        with client(process) as sock:
            assert seen_by(sock) == b"still serving"
        assert process.join(PATIENCE)
        assert results == [True, True]
        assert announced.calls[1:] == [(None, None)]
        assert comm.server_terminate(process) is False


def test_server_terminate_with_the_process_inside_the_function_does_not_wait_for_itself() -> None:
    results: list[object] = []

    def serve(handle: socket.socket) -> None:
        with handle:
            results.append(comm.server_terminate(process))
            results.append(comm.server_terminate(process))

    with server(serve) as process, client(process) as sock:
        seen_by(sock)
        assert process.join(PATIENCE)
        assert results == [True, False]


def test_server_terminate_inside_announce_ends_the_server_before_it_serves() -> None:
    results: list[object] = []

    def announce(listener: socket.socket | None, condition: object) -> None:
        if listener is not None:
            results.append(comm.server_terminate())

    process, condition = starting(function=close, address=LOOPBACK, announce=announce)
    assert (condition, results) == (None, [True])
    assert process.join(PATIENCE)
    assert refuses(process.port)
    assert comm.server_terminate(process) is False


def test_server_terminate_inside_the_last_announce_is_of_no_consequence() -> None:
    """It may be the same function: the server is ending anyway."""
    results: list[object] = []

    def announce(listener: socket.socket | None, condition: object) -> None:
        if listener is None:
            results.append(comm.server_terminate())
            results.append(comm.server_terminate(process))

    with server(close, announce=announce) as process:
        pass
    assert process.join(PATIENCE)
    assert results == [True, False]


def test_server_terminate_elsewhere_needs_the_process() -> None:
    with pytest.raises(ValueError, match="needs the process"):
        comm.server_terminate()
    outcomes: list[object] = []

    def serve(handle: socket.socket) -> None:
        with handle:
            outcomes.append(Task(comm.server_terminate).failure(ValueError))

    with server(serve) as process:
        with client(process) as sock:
            seen_by(sock)
        assert "needs the process" in str(outcomes[0])
        assert not process.join(0)
    with pytest.raises(TypeError, match="process=5"):
        comm.server_terminate(5)  # type: ignore[arg-type]


def test_a_server_within_a_servers_function_is_another_one() -> None:
    """The nested server's function ends its own server, in its own thread."""
    inner: list[Server] = []

    def end(handle: socket.socket) -> None:
        with handle:
            comm.server_terminate()

    def serve(handle: socket.socket) -> None:
        with handle:
            process = starting(function=end, address=LOOPBACK).process
            inner.append(process)
            with client(process) as sock:
                seen_by(sock)
            assert process.join(PATIENCE)

    with server(serve) as process:
        with client(process) as sock:
            seen_by(sock)
        until(lambda: process.connections == 0)
        assert not process.join(0)
        assert comm.server_terminate(inner[0]) is False
