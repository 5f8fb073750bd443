"""What a server bounds, hands on and gives back: connections at once, threads, bare sockets, text, socket options."""

from __future__ import annotations

import gc
import socket
import ssl
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tls_support import HOST, client_context, server_context

from landline import (
    KeepAlive,
    Server,
    SocketStream,
    TextSocketStream,
    open_tcp_stream,
    start_up_server,
    start_up_unix_server,
)
from landline.sync import accepted as accepted_module
from landline.sync import server as server_module
from landline.sync import workers as workers_module
from landline.sync.workers import Workers
from landline.testing.contract.stage import PATIENCE, Task, standing_still, until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")


def connect(server: Server, **more: Any) -> SocketStream:
    stream: SocketStream = open_tcp_stream("127.0.0.1", server.port, read_timeout=PATIENCE, **more)
    return stream


def echo(stream: SocketStream) -> None:
    for line in stream:
        stream.write(line)
        stream.flush()


def hears(client: SocketStream, line: bytes) -> bool:
    client.write(line)
    return client.readline() == line


# ---- max_connections -----------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3])
def test_accepting_pauses_at_the_cap_and_goes_on_below_it(most: int) -> None:
    """Clients wait in the kernel's queue meanwhile: nothing that they send is lost."""
    with start_up_server(echo, max_connections=most) as server, ExitStack() as clients:
        served = [clients.enter_context(connect(server)) for _ in range(most)]
        assert all(hears(client, b"served\n") for client in served)
        waiting = [clients.enter_context(connect(server)) for _ in range(5)]
        for client in waiting:
            client.write(b"waiting\n")
            client.flush()
        until(standing_still(server._thread.ident or 0))
        assert server.connections == most
        assert all(hears(client, b"still served\n") for client in served)
        for leaving, next_one in zip([*served, *waiting], waiting, strict=False):
            assert next_one.read_no_hang() is None
            leaving.close()
            assert next_one.readline() == b"waiting\n"
            assert server.connections <= most


def test_the_cap_is_never_exceeded_and_everybody_is_served() -> None:
    lock = threading.Lock()
    now = highest = 0

    def handler(stream: SocketStream) -> None:
        nonlocal now, highest
        with lock:
            now += 1
            highest = max(highest, now)
        echo(stream)
        with lock:
            now -= 1

    def visit() -> None:
        for number in range(10):
            with connect(server) as client:
                assert hears(client, b"%d\n" % number)
                client.shutdown("output")
                assert client.read() == b""

    with start_up_server(handler, max_connections=4) as server:
        for task in [Task(visit) for _ in range(16)]:
            task.result()
    assert highest == 4


def test_silent_handshakes_count() -> None:
    """Otherwise clients that never begin would have a thread each without any bound."""
    with (
        start_up_server(echo, max_connections=2, ssl_ctx=server_context()) as server,
        socket.create_connection(("127.0.0.1", server.port)) as silent,
        open_tcp_stream("127.0.0.1", server.port, read_timeout=PATIENCE) as one,
        open_tcp_stream("127.0.0.1", server.port, read_timeout=PATIENCE) as other,
    ):
        one.start_tls(client_context(), host=HOST)
        assert hears(one, b"one\n")
        assert server.connections == 2
        joining = Task(lambda: other.start_tls(client_context(), host=HOST)).blocked()
        silent.close()
        joining.result()
        assert hears(other, b"other\n")


def test_a_paused_server_ends() -> None:
    server = start_up_server(echo, max_connections=1)
    with connect(server) as client, connect(server):
        assert hears(client, b"x\n")
        until(standing_still(server._thread.ident or 0))
        server.terminate()
    assert server.join(0)


@pytest.mark.parametrize("wrong", [0, -1, True, 1.0, "1", None])
def test_a_cap_is_a_whole_number(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"max_connections=.* is not allowed"):
        start_up_server(echo, max_connections=wrong)


# ---- threads are used again ----------------------------------------------------------------------------


def workers_of(server: Server) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"{server.name} #")]


def idle_in(workers: Workers) -> int:
    return len(workers._idle)


def test_a_thread_serves_one_connection_after_the_other() -> None:
    used: Counter[str] = Counter()

    def handler(stream: SocketStream) -> None:
        used[threading.current_thread().name] += 1

    with start_up_server(handler, name="again") as server:
        for _ in range(50):
            with connect(server) as client:
                assert client.read() == b""
            until(lambda: idle_in(server._workers) == 1)
    assert used == {"again #1": 50}


def test_idle_threads_end_and_others_are_started_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "IDLE", 0.01)
    with start_up_server(echo) as server, ExitStack() as opened:
        for _ in range(2):
            clients = [connect(server) for _ in range(5)]
            assert all(hears(client, b"x\n") for client in clients)
            assert len(workers_of(server)) == 5
            for client in clients:
                opened.enter_context(client).close()
            until(lambda: not workers_of(server))
            assert idle_in(server._workers) == 0


def test_a_job_that_comes_just_as_a_thread_ends_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """The moments in which a worker's waiting is over, and a job is on its way to it, meet again and again."""
    monkeypatch.setattr(workers_module, "IDLE", 0.0002)
    workers = Workers("short of time")
    done = threading.Semaphore(0)
    never = threading.Event()
    for number in range(2000):
        workers.run(done.release)
        assert done.acquire(timeout=PATIENCE)
        never.wait(0.0001 * (number % 4))
    workers.end(wait=True)


def test_the_thread_that_became_idle_last_is_used_first() -> None:
    """The others are not needed, and come to their end."""
    workers = Workers("w")
    gates = [threading.Event() for _ in range(3)]
    for gate in gates:
        workers.run(gate.wait)
    for count, gate in enumerate(gates, 1):
        gate.set()
        until(lambda count=count: idle_in(workers) == count)  # type: ignore[misc]
    ran_in: list[str] = []
    for _ in range(5):
        workers.run(lambda: ran_in.append(threading.current_thread().name))
        until(lambda: idle_in(workers) == 3)
    assert ran_in == ["w #3"] * 5
    workers.end(wait=True)


def test_an_idle_thread_keeps_nothing_of_its_last_job() -> None:
    class Thing:
        pass

    thing = Thing()
    known = weakref.ref(thing)
    workers = Workers("w")
    workers.run(lambda thing=thing: None)  # type: ignore[misc]
    del thing
    until(lambda: idle_in(workers) == 1)
    gc.collect()
    assert known() is None
    workers.end(wait=True)


def test_workers_end_when_they_are_done() -> None:
    workers = Workers("w")
    gate = threading.Event()
    workers.run(gate.wait)
    workers.end(wait=False)
    ending = Task(lambda: workers.end(wait=True)).blocked()
    gate.set()
    ending.result()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("w #")]


# ---- create_stream=False -------------------------------------------------------------------------------


@pytest.fixture
def default_timeout() -> Iterator[None]:
    socket.setdefaulttimeout(0.01)
    yield
    socket.setdefaulttimeout(None)


@pytest.mark.usefixtures("default_timeout")
def test_a_bare_socket_blocks_and_is_the_handlers() -> None:
    """Whatever the program's default is; and it is not closed when the handler returns."""
    kept: list[socket.socket] = []
    with start_up_server(kept.append, create_stream=False) as server, connect(server) as client:
        until(lambda: kept and server.connections == 0)
        with kept[0] as sock:
            assert type(sock) is socket.socket
            assert sock.gettimeout() is None
            client.write(b"to the keeper")
            client.flush()
            assert sock.recv(100) == b"to the keeper"
            server.terminate()
            sock.sendall(b"and back")
        assert client.read() == b"and back"


def test_a_bare_socket_is_closed_when_its_handler_fails(caplog: pytest.LogCaptureFixture) -> None:
    def fail(sock: socket.socket) -> None:
        sock.sendall(b"so far")
        raise KeyError("what went wrong")

    with start_up_server(fail, create_stream=False) as server, connect(server) as client:
        assert client.read() == b"so far"
        until(lambda: caplog.records)
        assert str(client.local_address) in caplog.records[0].getMessage()


def test_terminate_ends_bare_sockets_without_a_word_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Reading ends, writing fails; handlers that let that through are not to blame."""
    begun = threading.Semaphore(0)

    def read(sock: socket.socket) -> None:
        with sock:
            begun.release()
            assert sock.recv(1) == b""

    def write(sock: socket.socket) -> None:
        with sock:
            begun.release()
            while True:
                sock.sendall(bytes(100_000))

    for handler in (read, write):
        server = start_up_server(handler, create_stream=False)
        with connect(server), connect(server):
            for _ in range(2):
                assert begun.acquire(timeout=PATIENCE)
            server.terminate(drain=0.01)
            assert server.connections == 0
    assert not caplog.records


def test_a_bare_socket_has_the_time_of_the_drain() -> None:
    begun, go = threading.Event(), threading.Event()

    def answer(sock: socket.socket) -> None:
        with sock:
            begun.set()
            assert go.wait(PATIENCE)
            sock.sendall(b"done")

    server = start_up_server(answer, create_stream=False)
    with connect(server) as client:
        assert begun.wait(PATIENCE)
        terminating = Task(lambda: server.terminate(drain=PATIENCE)).blocked()
        go.set()
        terminating.result()
        assert client.read() == b"done"


def test_a_bare_socket_that_gets_no_thread_is_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """(A socket left to the collector would be a warning, which is an error here.)"""

    def lacking(workers: Workers, job: object) -> None:
        raise RuntimeError("can't start new thread")

    called: list[socket.socket] = []
    with start_up_server(called.append, create_stream=False) as server:
        with monkeypatch.context() as patched:
            patched.setattr(Workers, "run", lacking)
            with connect(server) as refused:
                assert refused.read() == b""
        gc.collect()
        assert server.connections == 0
        assert "no thread" in caplog.records[0].getMessage()
        with connect(server):
            until(lambda: called)
        called[0].close()


@pytest.mark.parametrize("more", [{"ssl_ctx": server_context()}, {"element_type": str}, {"proxy_protocol": []}])
def test_a_bare_socket_has_nothing_that_streams_have(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="create_stream=False is not allowed"):
        start_up_server(print, create_stream=False, **more)


# ---- element_type=str ----------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True])
def test_text_is_served(secure: bool) -> None:
    """And what its handler has not flushed arrives."""
    seen: list[tuple[type, float | None]] = []

    def handler(stream: TextSocketStream) -> None:
        seen.append((type(stream), stream.read_timeout))
        for line in stream:
            stream.write(line.upper())

    context = server_context() if secure else None
    how: dict[str, Any] = {"read_timeout": PATIENCE, "ssl_ctx": context}
    with start_up_server(handler, element_type=str, **how) as server, connect(server) as client:
        if secure:
            client.start_tls(client_context(), host=HOST)
        client.write("grüß\ndich".encode())
        client.shutdown("output")
        assert client.read() == "GRÜSS\nDICH".encode()
    assert seen == [(TextSocketStream, PATIENCE)]


def test_encoding_errors_and_newline_are_those_of_every_stream() -> None:
    def handler(stream: TextSocketStream) -> None:
        stream.write(repr(stream.readline()) + "\n")

    how: dict[str, Any] = {"encoding": "ascii", "errors": "backslashreplace", "newline": "\r\n"}
    with start_up_server(handler, element_type=str, **how) as server, connect(server) as client:
        client.write(b"a\nb\xff\r\n")
        assert client.read() == rb"'a\nb\\xff\r\n'" + b"\r\n"


def test_text_that_cannot_be_decoded_ends_that_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    def handler(stream: TextSocketStream) -> None:
        stream.write(stream.readline())

    with start_up_server(handler, element_type=str) as server:
        with connect(server) as client:
            client.write(b"\xff\n")
            assert client.read() == b""
        with connect(server) as client:
            assert hears(client, b"fine\n")
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [UnicodeDecodeError]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"element_type": int}, ValueError),
        ({"element_type": "str"}, ValueError),
        ({"encoding": "no-such"}, ValueError),
        ({"encoding": 8}, TypeError),
        ({"errors": "no-such"}, ValueError),
        ({"newline": "\t"}, ValueError),
    ],
)
def test_what_makes_no_text_is_told_at_the_start(wrong: dict[str, Any], error: type[Exception]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(error) as caught:
        start_up_server(echo, **{"element_type": str, **wrong})
    assert f"{name}={value!r} is not allowed" in str(caught.value)


# ---- options of accepted sockets -----------------------------------------------------------------------

KEEPALIVE = KeepAlive(70, 7, 3, user_timeout=95)


@pytest.fixture(params=[True, False], ids=["inherited", "set one by one"])
def each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options come to accepted sockets by way of the listening one where the system does that, or are set."""
    if request.param and not accepted_module.OPTIONS_INHERITED:
        pytest.skip("only Linux is known to hand options on")
    for module in (accepted_module, server_module):
        monkeypatch.setattr(module, "OPTIONS_INHERITED", request.param)


def options_of(sock: socket.socket) -> tuple[bool, ...]:
    nodelay = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
    return nodelay, sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0


def clocks_of(sock: socket.socket) -> list[int]:
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    return [sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names if hasattr(socket, name)]


def accepted(look: Callable[[socket.socket], Any], service: Any = 0, **how: Any) -> Any:
    """What a handler finds out about its socket."""
    found: list[Any] = []

    def handler(sock: socket.socket) -> None:
        with sock:
            found.append(look(sock))

    with start_up_server(handler, service, create_stream=False, **how) as server, connect(server) as client:
        assert client.read() == b""
    return found[0]


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("adopted", [False, True])
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, (True, False)),
        ({"nodelay": False}, (False, False)),
        ({"nodelay": None, "keepalive": True}, (False, True)),
        ({"keepalive": KEEPALIVE}, (True, True)),
    ],
)
def test_options_are_those_of_every_connection(how: dict[str, Any], expected: tuple[bool, bool], adopted: bool) -> None:
    service = socket.create_server(("127.0.0.1", 0)) if adopted else 0
    assert accepted(options_of, service, **how) == expected


@pytest.mark.usefixtures("each_way")
def test_the_clocks_of_keepalive_reach_every_connection() -> None:
    expected = [70, 7, 3, 95_000]
    found = accepted(clocks_of, keepalive=KEEPALIVE)
    assert found == expected[: len(found)]


@pytest.mark.usefixtures("each_way")
@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix domain sockets")
def test_options_of_tcp_do_not_disturb_a_unix_server(tmp_path: Path) -> None:
    with start_up_unix_server(echo, tmp_path / "s", keepalive=KEEPALIVE), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
        client.sendall(b"x\n")
        assert client.makefile("rb").readline() == b"x\n"


def test_a_wrong_keepalive_is_told_at_the_start() -> None:
    with pytest.raises(TypeError, match="keepalive='on' is not allowed"):
        start_up_server(echo, keepalive="on")  # type: ignore[arg-type]


def test_tls_does_not_change_the_options() -> None:
    """TLS over a bare context: the handler's stream has its socket's options."""
    found: list[tuple[bool, ...]] = []

    def handler(stream: SocketStream) -> None:
        with socket.socket(fileno=socket.dup(stream.fileno())) as sock:
            found.append(options_of(sock))

    context: ssl.SSLContext = server_context()
    with start_up_server(handler, ssl_ctx=context, keepalive=True, nodelay=False) as server, connect(server) as client:
        client.start_tls(client_context(), host=HOST)
        assert client.read() == b""
    assert found == [(False, True)]
