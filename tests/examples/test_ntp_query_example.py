"""examples/ntp_query.py: against chronyd, and against servers that are played by the test."""

from __future__ import annotations

import contextlib
import re
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import TypeAlias

import pytest
from conftest import need
from example_programs import HOST, PATIENCE, failure, run, taken_udp_port

pytestmark = pytest.mark.usefixtures("no_leaks")

UNIX = 2_208_988_800
YEAR = 365.2425 * 86400

Answer: TypeAlias = Callable[[bytes], Iterable[bytes]]


def stamp(seconds: float) -> bytes:
    """An NTP timestamp; the era is not in it."""
    return struct.pack("!Q", int((seconds + UNIX) * 2**32) % 2**64)


def answer(request: bytes, offset: float = 0.0, *, first: int = 0o44, stratum: int = 2, origin: bytes = b"") -> bytes:
    """What a server sends whose clock is ahead by ``offset`` seconds."""
    now = stamp(time.time() + offset)
    return bytes([first, stratum, 3, 0xE9]) + bytes(8) + b"RATE" + now + (origin or request[40:48]) + now + now


@contextlib.contextmanager
def server(*answers: Answer) -> Iterator[int]:
    """The port of one that answers so many requests, and no more."""
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            for each in answers:
                request, client = sock.recvfrom(1000)
                assert len(request) == 48
                assert request[:40] == bytes([0o43]) + bytes(39)  # version 4, mode 3; nothing else is told
                for data in each(request):
                    sock.sendto(data, client)
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            failures.append(error)

    with taken_udp_port() as (port, sock):
        thread = Thread(target=serve)
        thread.start()
        try:
            yield port
        finally:
            thread.join()
    if failures:
        raise failures[0]


def measured(port: int, *options: object) -> tuple[float, float, str]:
    """By how much the clock is behind, how sure that is, and the rest of what is told."""
    done = run("ntp_query", HOST, "--port", port, "--pause", 0, *options)
    assert (done.returncode, done.stderr) == (0, b"")
    found = re.fullmatch(
        rf"{HOST}:{port} \(stratum (\d+)\): this clock is ([\d.]+) s (behind|ahead), \+/- ([\d.]+) s; (.*)\n",
        done.stdout.decode(),
    )
    assert found, done.stdout
    offset = float(found[2]) * (1 if found[3] == "behind" else -1)
    return offset, float(found[4]), f"stratum {found[1]}, {found[5]}"


@pytest.fixture
def chronyd(tmp_path: Path) -> Iterator[int]:
    """The port of a chronyd that serves this machine's own time, and leaves its clock alone."""
    with taken_udp_port() as (port, _):
        pass
    lines = [
        f"port {port}", f"bindaddress {HOST}", f"allow {HOST}", "local stratum 3", "cmdport 0", "bindcmdaddress /",
        f"pidfile {tmp_path / 'pid'}",
    ]  # fmt: skip
    words = [need("chronyd"), "-d", "-x", "-U", *lines]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            yield port
        finally:
            process.terminate()
            process.communicate()


def test_chronyd_on_this_machine_has_the_same_time(chronyd: int) -> None:
    end = time.monotonic() + PATIENCE
    while True:  # it takes a moment until it listens
        with contextlib.suppress(AssertionError):
            offset, error, rest = measured(chronyd, "--timeout", 1)
            break
        assert time.monotonic() < end
    assert rest == "stratum 3, 0 of 4 lost"
    assert abs(offset) <= error + 0.001


@pytest.mark.parametrize("ahead", [1000.0, 15 * YEAR, -15 * YEAR])
def test_a_clock_that_is_wrong_also_beyond_the_era(ahead: float) -> None:
    """RFC 5905 section 6: the numbers begin again in 2036, and a difference is that of the nearest eras."""
    with server(lambda request: [answer(request, ahead)]) as port:
        offset, error, rest = measured(port, "--count", 1)
    assert abs(offset - ahead) <= error + 0.001
    assert rest == "stratum 2, 0 of 1 lost"


def test_of_several_answers_the_quickest_counts() -> None:
    def slowly(request: bytes) -> list[bytes]:
        time.sleep(0.1)  # on the way there, which makes the clock seem to be 0.05 s behind
        return [answer(request)]

    with server(slowly, lambda request: [answer(request)], slowly) as port:
        offset, error, _ = measured(port, "--count", 3)
    assert abs(offset) <= error + 0.001
    assert error < 0.05


def test_a_question_that_is_lost_is_asked_again() -> None:
    with server(lambda request: [], lambda request: [answer(request)]) as port:
        assert measured(port, "--count", 2, "--timeout", 0.2)[2] == "stratum 2, 1 of 2 lost"


def test_answers_that_are_not_ours_are_passed_over() -> None:
    def answers(request: bytes) -> list[bytes]:
        return [
            b"",
            answer(request)[:47],
            answer(request, 500, origin=b"somebody"),
            answer(request, 500, first=0o43),
            answer(request, 7),
        ]

    with server(answers) as port:
        assert round(measured(port, "--count", 1)[0]) == 7


def test_answers_that_are_not_ours_do_not_prolong_the_wait() -> None:
    """Not even when they never stop."""
    over = Event()

    def flood(request: bytes) -> Iterator[bytes]:
        while not over.wait(0.01):
            yield answer(request, origin=b"somebody")

    with server(flood) as port:
        try:
            told = failure(run("ntp_query", HOST, "--port", port, "--count", 1, "--timeout", 0.3))
        finally:
            over.set()
    assert told == f"{HOST}:{port} has not answered any of 1 questions"


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (lambda request: [answer(request, stratum=0)], "does not want to tell the time: RATE"),
        (lambda request: [answer(request, first=0o344)], "does not know the time itself"),
        (lambda request: [answer(request, stratum=16)], "does not know the time itself"),
    ],
    ids=["kiss of death", "unsynchronized", "stratum 16"],
)
def test_a_server_without_the_time_is_told_in_a_sentence(reply: Answer, told: str) -> None:
    with server(reply) as port:
        assert failure(run("ntp_query", HOST, "--port", port)) == f"{HOST}:{port} {told}"


def test_a_silent_server_is_told_in_a_sentence() -> None:
    with taken_udp_port() as (port, _):
        told = failure(run("ntp_query", HOST, "--port", port, "--count", 2, "--timeout", 0.1, "--pause", 0))
    assert told == f"{HOST}:{port} has not answered any of 2 questions"


def test_a_dead_port_is_told_in_a_sentence() -> None:
    with taken_udp_port() as (port, sock):
        sock.close()
        told = failure(run("ntp_query", HOST, "--port", port))
    assert told == f"{HOST}:{port} refused a datagram: nobody receives there"
