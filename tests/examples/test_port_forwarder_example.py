"""examples/port_forwarder.py: between plain sockets, socat, and a server that reads PROXY headers."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from threading import Event

import pytest
from conftest import need
from example_programs import (
    HOST,
    PATIENCE,
    dead_port,
    failure,
    interrupt,
    listening,
    peer,
    port_of,
    port_told_by,
    read_until,
    received_whole,
    reset,
    run,
    started,
)

from landline import SocketStream, start_up_server

pytestmark = pytest.mark.usefixtures("no_leaks")

MUCH = os.urandom(3_000_000)


@contextlib.contextmanager
def forwarding(port: int, *options: object) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The program, and where it listens."""
    with started("port_forwarder", 0, HOST, port, *options) as program:
        yield program, port_told_by(program, "stderr")


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection((HOST, port), PATIENCE) as connection:
        connection.settimeout(PATIENCE)
        yield connection


def told(program: subprocess.Popen[bytes], wanted: str) -> str:
    """The next line on its standard error, in which this must be."""
    assert program.stderr is not None
    line = read_until(program.stderr.fileno(), b"\n").decode()
    assert wanted in line
    return line


def test_an_answer_that_waits_for_the_end_of_the_question_is_whole_and_counted() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(received_whole(connection)[::-1])

    with peer(serve) as port, forwarding(port) as (program, entry), connected(entry) as client:
        own = client.getsockname()[1]
        client.sendall(MUCH)
        client.shutdown(socket.SHUT_WR)
        assert received_whole(client) == MUCH[::-1]
        line = told(program, f"sent {len(MUCH)} bytes and was sent {len(MUCH)}, in ")
        assert line.startswith(f"{HOST}:{own} sent ")


def test_a_server_that_ends_first_can_still_be_talked_to() -> None:
    got: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"this is all from here\n")
        connection.shutdown(socket.SHUT_WR)
        got.append(received_whole(connection))

    with peer(serve) as port, forwarding(port) as (program, entry), connected(entry) as client:
        assert received_whole(client) == b"this is all from here\n"
        client.sendall(MUCH)
        client.shutdown(socket.SHUT_WR)
        told(program, f"sent {len(MUCH)} bytes and was sent 22, in ")
    assert got == [MUCH]


def test_both_ways_at_once_and_several_connections() -> None:
    """socat as the server, for each connection a process that gives back what comes."""
    socat = [need("socat"), "-d", "-d", f"TCP-LISTEN:0,bind={HOST},fork", "PIPE"]
    with subprocess.Popen(socat, stderr=subprocess.PIPE) as server:
        try:
            assert server.stderr is not None
            found = re.search(rb"listening on .*:(\d+)\n", read_until(server.stderr.fileno(), b"\n"))
            assert found
            with forwarding(int(found[1])) as (_, entry), contextlib.ExitStack() as opened:
                clients = [opened.enter_context(connected(entry)) for _ in range(20)]
                for number, client in enumerate(clients):
                    client.sendall(b"client %d\n" % number)
                for number, client in reversed(list(enumerate(clients))):
                    assert client.recv(100) == b"client %d\n" % number
        finally:
            server.terminate()
            server.communicate()


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_proxy_header_names_the_client(version: str) -> None:
    met: list[tuple[object, object]] = []

    def handler(stream: SocketStream) -> None:
        met.append((stream.peer_address, stream.local_address))
        stream.write(stream.readline())

    with (
        start_up_server(handler, proxy_protocol=[HOST]) as server,
        forwarding(server.port, "--proxy-protocol", version) as (_, entry),
        connected(entry) as client,
    ):
        client.sendall(b"hello\n")
        assert received_whole(client) == b"hello\n"
        assert met == [(client.getsockname(), (HOST, entry))]


def test_the_header_of_version_1_is_a_line() -> None:
    with (
        listening() as listener,
        forwarding(port_of(listener), "--proxy-protocol", "v1") as (_, entry),
        connected(entry) as client,
    ):
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines:
            assert lines.readline() == b"PROXY TCP4 %b %b %d %d\r\n" % (
                HOST.encode(), HOST.encode(), client.getsockname()[1], entry,
            )  # fmt: skip


def test_a_reset_on_one_side_is_a_reset_on_the_other() -> None:
    asked = Event()

    def serve(connection: socket.socket) -> None:
        connection.recv(1)
        reset(connection)
        asked.set()

    with peer(serve) as port, forwarding(port) as (program, entry), connected(entry) as client:
        client.sendall(b"question")
        assert asked.wait(PATIENCE)
        with pytest.raises(ConnectionResetError):
            received_whole(client)
        told(program, " broke: ")


def test_a_server_that_is_not_there_is_a_reset_and_told_in_a_sentence() -> None:
    with dead_port() as port, forwarding(port) as (program, entry):
        # It may come so soon that connecting tells of it.
        with pytest.raises(ConnectionResetError), connected(entry) as client:
            received_whole(client)
        told(program, "could not be forwarded: could not connect to")


@pytest.mark.parametrize("ended", [False, True])
def test_ctrl_c_ends_it_while_a_connection_is_silent(ended: bool) -> None:
    """Also one whose client has said that it is done, so that only the server could end it."""
    with (
        listening() as listener,
        forwarding(port_of(listener), "--drain", "0.1") as (program, entry),
        connected(entry) as client,
    ):
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(PATIENCE)
            client.sendall(b"question")
            assert connection.recv(8, socket.MSG_WAITALL) == b"question"
            if ended:
                client.shutdown(socket.SHUT_WR)
                assert connection.recv(1) == b""
            status, said = interrupt(program)
            assert status == 0
            assert f"{HOST}:{client.getsockname()[1]} sent 8 bytes and was sent 0, in " in said
            assert "Traceback" not in said


def test_a_port_that_is_taken_is_told_in_a_sentence() -> None:
    with listening() as listener:
        assert "Address already in use" in failure(run("port_forwarder", port_of(listener), HOST, 80))
