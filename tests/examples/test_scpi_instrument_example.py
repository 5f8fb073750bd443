"""examples/scpi_instrument.py, with an instrument that is played by the test."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from example_programs import HOST, dead_port, failure, peer, run, silent

pytestmark = pytest.mark.usefixtures("no_leaks")

WAVE = random.Random(488).randbytes(300_000)
NO_ERROR = b'0,"No error"\n'


def block(data: bytes) -> bytes:
    size = str(len(data)).encode()
    return b"#%d%b%b" % (len(size), size, data)


def instrument(answers: Mapping[bytes, bytes], *errors: bytes) -> Callable[[socket.socket], None]:
    """One that knows these queries; every other command goes into its list of errors."""
    complaints = list(errors)

    def serve(connection: socket.socket) -> None:
        with connection.makefile("rb") as commands:
            for command in commands:
                if command == b"SYST:ERR?\n":
                    connection.sendall(complaints.pop(0) if complaints else NO_ERROR)
                elif command[:-1] in answers:
                    connection.sendall(answers[command[:-1]])
                else:
                    complaints.append(b'-113,"Undefined header"\n')

    return serve


def test_lines_and_numbers_of_other_bases() -> None:
    answers = {b"*IDN?": b"LANDLINE,TEST,0,1.0\r\n", b"STAT?": b"#H1F\n", b"VOLT?": b"+1.5E+00\n", b"VOLT 2": b""}
    with peer(instrument(answers)) as port:
        done = run("scpi_instrument", HOST, "VOLT 2", *(name.decode() for name in answers), "--port", port)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines() == [b"LANDLINE,TEST,0,1.0", b"#H1F", b"+1.5E+00"]


def test_a_block_is_saved_byte_for_byte_and_the_next_answer_is_read_behind_it(tmp_path: Path) -> None:
    answers = {b"CURV?": block(WAVE) + b"\n", b"*OPC?": b"1\n"}
    with peer(instrument(answers)) as port:
        done = run("scpi_instrument", HOST, "CURV?", "*OPC?", "--port", port, "--save", tmp_path / "wave")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"a block of 300000 bytes\n1\n", b"")
    assert (tmp_path / "wave").read_bytes() == WAVE


def test_what_the_instrument_complains_about_is_told() -> None:
    with peer(instrument({}, b'-222,"Data out of range"\n')) as port:
        told = failure(run("scpi_instrument", HOST, "NONSENSE 1", "--port", port))
    assert told == f'{HOST}:{port} complains: -222,"Data out of range"; -113,"Undefined header"'


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"#0" + WAVE, "a block of unknown length, which has no end on a socket"),
        (b"#9999999999", "announces a block of b'999999999' bytes"),
        (b"#3a00", "announces a block of b'a00' bytes"),
        (block(WAVE)[:-1], "the peer ended after 299999 bytes, before 300000 bytes came"),
        (block(WAVE), "ended the connection in the middle of an answer"),
        (b"half a li", "ended the connection in the middle of an answer"),
        (b"", "ended the connection in the middle of an answer"),
    ],
)
def test_an_answer_that_is_not_whole_or_no_answer(answer: bytes, told: str) -> None:
    def serve(connection: socket.socket) -> None:
        with connection.makefile("rb") as commands:
            assert commands.readline() == b"CURV?\n"
        with suppress(OSError):
            connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        with suppress(OSError):
            connection.recv(1)  # until the program has gone

    with peer(serve) as port:
        assert told in failure(run("scpi_instrument", HOST, "CURV?", "--port", port))


def test_a_silent_instrument_is_told_in_a_sentence() -> None:
    with peer(silent) as port:
        told = failure(run("scpi_instrument", HOST, "*IDN?", "--port", port, "--timeout", "0.1"))
    assert f"nothing came from {HOST}:{port} within" in told


def test_a_block_that_drips_is_bounded_by_the_deadline() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(block(WAVE)[:8])
        with suppress(OSError):
            while True:
                connection.sendall(b".")
                time.sleep(0.01)

    with peer(serve) as port:
        failure(run("scpi_instrument", HOST, "CURV?", "--port", port, "--deadline", "0.3"))


def test_a_dead_port_is_told_in_a_sentence() -> None:
    with dead_port() as port:
        assert "Connection refused" in failure(run("scpi_instrument", HOST, "*IDN?", "--port", port))
