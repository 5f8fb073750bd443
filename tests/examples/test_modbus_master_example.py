"""examples/modbus_master.py: against pymodbus' simulator, and against devices that are played by the test."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from example_programs import (
    HOST,
    daemon,
    dead_port,
    failure,
    interrupt,
    peer,
    read_until,
    received_whole,
    run,
    silent,
    started,
)

pytestmark = pytest.mark.usefixtures("no_leaks")

SIMULATOR = Path(__file__).with_name("modbus_simulator.py")


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a simulator whose registers hold 0, 1000, 2000 ... 19000, and whose coils are set every third."""
    log = tmp_path_factory.mktemp("modbus") / "log"
    with daemon(lambda port: [sys.executable, SIMULATOR, port], log) as port:
        yield port


@pytest.mark.parametrize(
    ("kind", "address", "values"),
    [
        ("holding", 10, "10000 11000 12000"),
        ("input", 0, "19000 18000 17000"),
        ("coils", 0, "1 0 0 1 0 0 1 0 0 1"),
        ("discrete", 3, "0 1 0 0 1 0 0 1"),
    ],
)
def test_the_four_kinds_of_values(device: int, kind: str, address: int, values: str) -> None:
    done = run("modbus_master", HOST, "--port", device, "read", kind, address, len(values.split()))
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, values + "\n", b"")


def test_what_was_written_is_read(device: int) -> None:
    done = run("modbus_master", HOST, "--port", device, "write", 3, 17, 65535)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert run("modbus_master", HOST, "--port", device, "read", "holding", 2, 4).stdout == b"2000 17 65535 5000\n"


def test_a_refusal_is_told_in_a_sentence(device: int) -> None:
    done = run("modbus_master", HOST, "--port", device, "read", "holding", 18, 5)
    assert failure(done) == "unit 1 refuses: it has no such address"


def test_a_value_that_no_register_holds_is_not_sent() -> None:
    done = run("modbus_master", HOST, "write", 3, 65536)
    assert done.returncode == 2
    assert done.stderr.endswith(b"65536 is not from 0 to 65535\n")


def test_it_reads_again_and_again_until_ctrl_c(device: int) -> None:
    words = ["--port", device, "read", "holding", 1, 1, "--every", "0.01"]
    with started("modbus_master", HOST, *words) as master:
        assert master.stdout is not None
        assert read_until(master.stdout.fileno(), b"1000\n1000\n1000\n").count(b"\n") >= 3
        assert interrupt(master) == (130, "")


def request(connection: socket.socket) -> bytes:
    """The next request for one register; its number and unit are at the front."""
    data = connection.recv(12, socket.MSG_WAITALL)
    assert len(data) == 12
    return data


def answer(asked: bytes, value: int) -> bytes:
    return asked[:4] + struct.pack("!HBBBH", 5, asked[6], 3, 2, value)


@pytest.mark.parametrize("begun", [0, 7, 9])
def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(begun: int) -> None:
    """Also when it has begun to come in time: as much of it as a head, or more, or less."""

    def serve(connection: socket.socket) -> None:
        first = request(connection)
        late = answer(first, 1)
        connection.sendall(late[:begun])
        second = request(connection)
        connection.sendall(late[begun:] + answer(second, 2))
        with suppress(ConnectionResetError):
            received_whole(connection)

    with peer(serve) as port:
        words = ["--port", port, "--timeout", "0.2", "read", "holding", 1, 1, "--every", "0.01"]
        with started("modbus_master", HOST, *words) as master:
            assert master.stdout is not None
            assert read_until(master.stdout.fileno(), b"\n") == b"2\n"


def test_a_silent_device_is_told_in_a_sentence() -> None:
    with peer(silent) as port:
        told = failure(run("modbus_master", HOST, "--port", port, "--timeout", "0.1", "read", "coils", 0, 1))
    assert f"nothing came from {HOST}:{port} within" in told


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (lambda asked: b"", "the peer ended after 0 bytes, before 7 bytes came"),
        (lambda asked: answer(asked, 1)[:-1], "the peer ended after 3 bytes, before 4 bytes came"),
        (lambda asked: b"HTTP/1.1 400 Bad Request\r\n", "does not speak Modbus"),
        (lambda asked: asked[:4] + b"\xff\xff\1\3", "does not speak Modbus"),
        (lambda asked: asked[:4] + b"\0\5\1\4\2\0\0", "answers function 3 with 4"),
        (lambda asked: asked[:4] + b"\0\7\1\3\4\0\0\0\0", "sends 4 bytes for 1 holding"),
    ],
    ids=["none", "half", "not Modbus", "too long", "another function", "too much"],
)
def test_an_answer_that_is_none(reply: Callable[[bytes], bytes], told: str) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(reply(request(connection)))
        connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            received_whole(connection)

    with peer(serve) as port:
        assert told in failure(run("modbus_master", HOST, "--port", port, "read", "holding", 1, 1))


def test_a_dead_port_is_told_in_a_sentence() -> None:
    with dead_port() as port:
        assert "Connection refused" in failure(run("modbus_master", HOST, "--port", port, "read", "coils", 0, 1))
