"""OpenBSD's netcat at the other end: of the command, of a server of ours, and of both in a relay."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import LANDLINE, PATIENCE, environment, read_until, run, started
from conftest import need
from daemons import free_port

from landline import SocketStream, start_up_server

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.peer("nc")]

HOST = "127.0.0.1"
DATA = random.Random(3).randbytes(5_000_000)


@contextlib.contextmanager
def listening(*options: str, stdin: int | None, stdout: int | None) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A netcat that listens for one connection, and its port. It says itself when it is ready: a trial would be
    that one connection."""
    port = free_port()
    words = [need("nc"), "-lv", *options, HOST, str(port)]
    with subprocess.Popen(words, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, bufsize=0) as netcat:
        try:
            assert netcat.stderr is not None
            assert b"istening on" in read_until(netcat.stderr.fileno(), b"\n")
            yield netcat, port
        finally:
            netcat.kill()


def echo(stream: SocketStream) -> None:
    while data := stream.read1():
        stream.write(data)
        stream.flush()


def test_the_command_and_a_listening_netcat_exchange_files(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_bytes(DATA[::-1])
    with (
        theirs.open("rb") as source,
        (tmp_path / "copy").open("wb") as copy,
        listening("-N", stdin=source.fileno(), stdout=copy.fileno()) as (netcat, port),
    ):
        done = run("connect", HOST, port, stdin=DATA)
        assert netcat.wait(PATIENCE) == 0
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == DATA[::-1]
    assert (tmp_path / "copy").read_bytes() == DATA


def test_a_netcat_that_only_receives_gets_all_of_it(tmp_path: Path) -> None:
    """Its input ends at once, and with -N so does its side of the connection."""
    with (
        (tmp_path / "copy").open("wb") as copy,
        listening("-N", stdin=subprocess.DEVNULL, stdout=copy.fileno()) as (netcat, port),
    ):
        assert run("connect", HOST, port, stdin=DATA).returncode == 0
        assert netcat.wait(PATIENCE) == 0
    assert (tmp_path / "copy").read_bytes() == DATA


def test_a_conversation_line_by_line() -> None:
    pipe = subprocess.PIPE
    with listening(stdin=pipe, stdout=pipe) as (netcat, port), started("connect", HOST, port) as process:
        assert netcat.stdin is not None
        assert netcat.stdout is not None
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(10):
            process.stdin.write(b"to %d\n" % number)
            assert read_until(netcat.stdout.fileno(), b"\n") == b"to %d\n" % number
            netcat.stdin.write(b"from %d\n" % number)
            assert read_until(process.stdout.fileno(), b"\n") == b"from %d\n" % number


def test_netcat_is_a_client_of_our_server() -> None:
    with start_up_server(echo) as server:
        words = [need("nc"), "-N", HOST, str(server.port)]
        done = subprocess.run(words, input=DATA, capture_output=True, check=True, timeout=PATIENCE)
    assert done.stdout == DATA


def test_the_command_relays_between_netcat_and_our_server(tmp_path: Path) -> None:
    """The classical relay: a listening netcat and a connecting command, joined by a pipe and a fifo."""
    back = tmp_path / "back"
    os.mkfifo(back)
    pipe = subprocess.PIPE
    with start_up_server(echo) as server, contextlib.ExitStack() as ends:
        fifo = os.open(back, os.O_RDWR)  # so that opening either end waits for nobody
        ends.callback(os.close, fifo)
        netcat, port = ends.enter_context(listening("-N", stdin=fifo, stdout=pipe))
        assert netcat.stdout is not None
        words = [*LANDLINE, "connect", HOST, str(server.port)]
        relay = subprocess.Popen(words, stdin=netcat.stdout, stdout=fifo, env=environment({}))
        ends.enter_context(relay)
        ends.callback(relay.kill)
        client = subprocess.Popen([need("nc"), "-N", HOST, str(port)], stdin=pipe, stdout=pipe, bufsize=0)
        ends.enter_context(client)
        ends.callback(client.kill)
        assert client.stdin is not None
        assert client.stdout is not None
        for number in range(10):
            client.stdin.write(b"there and back %d\n" % number)
            assert read_until(client.stdout.fileno(), b"\n") == b"there and back %d\n" % number
