"""Sockets that are shared or handed over: a port with several processes, systemd's sockets, the caller's own."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from children import child, command, running
from conftest import lacking
from listening import ANY6, V4, V6, has_ipv6_fixture, linux, refuses, serves, whereabouts  # noqa: F401 - a fixture
from opening import one_port
from server_programs import serve_beside, serve_inherited, start_with_sockets

from landline import (
    ProxyHeader,
    SocketAddress,
    SocketCreateError,
    inherited_sockets,
    open_tcp_stream,
    start_up_server,
)
from landline.sync import listen as listen_module
from landline.testing.contract.stage import PATIENCE, until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")


# ---- several processes ---------------------------------------------------------------------------------


@linux
def test_processes_share_a_port_with_reuse_port() -> None:
    with child(serve_beside, 0) as one:
        port = int(one.said()[1])
        with child(serve_beside, port) as other:
            assert int(other.said()[1]) == port
            pids = {b"%d\n" % each.process.pid for each in (one, other)}
            assert {ask(port) for _ in range(200)} == pids  # never all at one of them: the odds are 2 ** -199
            one.end()
            assert {ask(port) for _ in range(20)} == {b"%d\n" % other.process.pid}
            with pytest.raises(SocketCreateError, match="Address already in use"):
                start_up_server(whereabouts, port)
            with start_up_server(whereabouts, port, reuse_port=True) as third:
                assert third.port == port


def ask(port: int) -> bytes:
    with open_tcp_stream(V4, port, read_timeout=PATIENCE) as client:
        return client.readline()


def test_reuse_port_is_refused_where_it_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT", raising=False)
    with pytest.raises(ValueError, match="reuse_port=True is not allowed"):
        start_up_server(whereabouts, reuse_port=True)


# ---- inherited sockets ---------------------------------------------------------------------------------


@linux
def test_sockets_are_inherited_as_systemd_gives_them(tmp_path: Path) -> None:
    with ExitStack() as opened:
        listeners = [opened.enter_context(socket.create_server((V4, 0))) for _ in range(2)]
        with socket.socket(socket.AF_UNIX) as of_path:
            of_path.bind(str(tmp_path / "s"))
            of_path.listen()
            numbers = [sock.fileno() for sock in (*listeners, of_path)]
            words = command(start_with_sockets, ",".join(map(str, numbers)), *command(serve_inherited))
            started = opened.enter_context(running(words, pass_fds=numbers))
            assert started.said() == ["sockets", "3"]
        assert started.said() == ["again", "0"]
        assert started.said() == ["left"]
        assert started.said() == ["inheritable"]
        addresses = [SocketAddress.from_sockaddr(sock.getsockname()) for sock in listeners]
        assert started.said() == ["serving", *map(str, addresses)]
        for address in addresses:
            assert ask(address.port) == b"%d\n" % started.process.pid
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))
            assert client.makefile("rb").readline() == b"%d\n" % started.process.pid


@linux
@pytest.mark.peer("systemd-socket-activate")
def test_systemd_starts_a_server_with_its_socket(need: Any) -> None:
    with one_port(V4) as port:
        pass
    words = [need("systemd-socket-activate"), f"--listen={V4}:{port}", *command(serve_inherited)]
    with running(words) as started, first_client(port) as client:  # it starts the server when the first client comes
        assert started.said() == ["sockets", "1"]
        assert client.makefile("rb").readline() == b"%d\n" % started.process.pid
        assert ask(port) == b"%d\n" % started.process.pid


def first_client(port: int) -> socket.socket:
    """A client of a program that is about to listen."""
    until(lambda: not refuses(V4, port))
    return socket.create_connection((V4, port), PATIENCE)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """That of a process with one socket to inherit: the first number that is free."""
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    return monkeypatch


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LISTEN_PID", "1"),
        ("LISTEN_PID", "x"),
        ("LISTEN_PID", None),
        ("LISTEN_FDS", "0"),
        ("LISTEN_FDS", "-1"),
        ("LISTEN_FDS", "1.0"),
        ("LISTEN_FDS", ""),
        ("LISTEN_FDS", None),
    ],
)
def test_what_is_not_meant_for_this_process_is_not_taken(
    name: str, value: str | None, environment: pytest.MonkeyPatch
) -> None:
    """And the variables are gone, so that no child takes it either."""
    with socket.create_server((V4, 0)) as listener:
        environment.setattr(listen_module, "FIRST_INHERITED", listener.fileno())
        if value is None:
            environment.delenv(name)
        else:
            environment.setenv(name, value)
        assert inherited_sockets() == []
        assert not [name for name in os.environ if name.startswith("LISTEN_")]
        listener.getsockname()  # it is still open


def test_promised_descriptors_that_are_no_sockets_are_told(environment: pytest.MonkeyPatch) -> None:
    """(no_leaks looks: the sockets before them are closed, which this process is not going to use.)"""
    first = 190
    with socket.create_server((V4, 0)) as listener, open(os.devnull) as file:
        for place, number in enumerate((listener.fileno(), file.fileno())):
            os.dup2(number, first + place)
        environment.setattr(listen_module, "FIRST_INHERITED", first)
        environment.setenv("LISTEN_FDS", "2")
        with pytest.raises(SocketCreateError, match=f"LISTEN_FDS=2 promises a socket at descriptor {first + 1}: "):
            inherited_sockets()
        os.close(first + 1)
    environment.setenv("LISTEN_PID", str(os.getpid()))
    environment.setenv("LISTEN_FDS", "999999999")
    with pytest.raises(SocketCreateError, match=f"at descriptor {first}: Bad file descriptor") as caught:
        inherited_sockets()
    assert caught.value.errno == errno.EBADF


# ---- adopted sockets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("several", [lambda one: one, lambda one: [one], lambda one: (one,), lambda one: iter([one])])
def test_a_listening_socket_is_adopted_and_closed_with_the_server(several: Any) -> None:
    sock = socket.create_server((V4, 0))
    with start_up_server(whereabouts, several(sock), local_address="192.0.2.1", ipv6=True) as server:
        assert server.addresses == (SocketAddress.from_sockaddr(sock.getsockname()),)
        assert serves(server, V4)
    assert sock.fileno() == -1


@pytest.mark.usefixtures("has_ipv6")
def test_several_are_served_as_one() -> None:
    sockets = [socket.create_server((V4, 0)), socket.create_server((V6, 0), family=socket.AF_INET6)]
    with start_up_server(whereabouts, sockets) as server:
        for address in server.addresses:
            with open_tcp_stream(address.host, address.port, read_timeout=PATIENCE) as client:
                assert client.readline() == f"{client.local_address} {address}\n".encode()
    assert [sock.fileno() for sock in sockets] == [-1, -1]


@pytest.mark.usefixtures("has_ipv6")
def test_an_ipv4_proxy_is_trusted_at_a_socket_of_both_families() -> None:
    """systemd's sockets are of both, unless told otherwise: an IPv4 client's address is a mapped one there."""
    if not socket.has_dualstack_ipv6():
        lacking("needs sockets of both families")
    sock = socket.create_server((ANY6, 0), family=socket.AF_INET6, dualstack_ipv6=True)
    told = ProxyHeader(SocketAddress("192.0.2.7", 4711), SocketAddress("192.0.2.1", 80), 2)
    with (
        start_up_server(whereabouts, sock, proxy_protocol=["127.0.0.0/8"]) as server,
        open_tcp_stream(V4, server.port, read_timeout=PATIENCE, proxy_protocol=told) as client,
    ):
        assert client.readline() == b"192.0.2.7:4711 192.0.2.1:80\n"


@linux
@pytest.mark.parametrize("how", ["shutdown", "close"])
def test_a_socket_that_somebody_else_ends_is_not_waited_for(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Sockets can be shared with other processes. Accepting would fail again and again, in a loop without a pause."""
    one, other = socket.create_server((V4, 0)), socket.create_server((V4, 0))
    with start_up_server(whereabouts, [one, other]) as server:
        end(one, how)
        if how == "close":  # no poll hears of that by itself
            open_tcp_stream(V4, server.addresses[1].port).close()
        until(lambda: caplog.records)
        with open_tcp_stream(V4, server.addresses[1].port, read_timeout=PATIENCE) as client:
            assert client.readline()
        assert not server.join(0)
        end(other, how)
        if how == "close":
            server._wakeup.set()
        assert server.join(PATIENCE)
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        f"a socket listens no longer: {os.strerror(errno.EINVAL if how == 'shutdown' else errno.EBADF)}"
    ] * 2


def end(sock: socket.socket, how: str) -> None:
    if how == "shutdown":
        sock.shutdown(socket.SHUT_RDWR)
    else:
        sock.close()


# ---- what is no listening socket -----------------------------------------------------------------------


@pytest.mark.parametrize("service", [None, 1.5, b"80", [80], ["http"], object(), True])
def test_what_is_no_service_is_named(service: Any) -> None:
    with pytest.raises(TypeError, match=r"service=.* is not allowed"):
        start_up_server(whereabouts, service)


def test_no_socket_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match=r"service=\[\] is not allowed"):
        start_up_server(whereabouts, [])


@pytest.mark.parametrize("kind", ["udp", "not listening", "connected", "closed"])
def test_a_socket_that_does_not_listen_is_refused_and_stays_the_callers(kind: str) -> None:
    with ExitStack() as opened:
        good = opened.enter_context(socket.create_server((V4, 0)))
        bad = opened.enter_context(socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM))
        if kind == "connected":
            bad.connect(good.getsockname())
        elif kind == "closed":
            bad.close()
        with pytest.raises(ValueError, match="it does not listen for connections"):
            start_up_server(whereabouts, [good, bad])
        assert good.gettimeout() is None
        with socket.create_connection(good.getsockname()):
            good.accept()[0].close()
