"""`landline connect`, used rightly and wrongly, as a person would: in its own process, at a terminal where that
matters, against peers that answer, stay silent or die.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from command import (
    LANDLINE,
    PATIENCE,
    Terminal,
    dead_port,
    failure,
    interrupt,
    peer,
    read_until,
    received_whole,
    reset,
    run,
    silent_port,
    started,
    wait_until_connecting_to,
    wait_until_delivered,
)

HOST = "127.0.0.1"
QUICKLY = 3.0
"""Seconds for what takes a fraction of one, on a loaded machine: less than any time limit it might wait for."""

LARGE = 24_000_000
"""Bytes: far more than all buffers on the way together."""

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.skipif(sys.platform != "linux", reason="terminals, /proc and silent ports as Linux has them"),
]


# ---- what it is for ------------------------------------------------------------------------------


def test_input_goes_to_the_peer_and_its_answer_to_the_output() -> None:
    """The input's end is told to the peer (half close), which answers only then."""

    def shout(connection: socket.socket) -> None:
        connection.sendall(received_whole(connection).upper())

    with peer(shout) as port:
        done = run("connect", HOST, port, stdin=b"hello\r\n\x00\xff")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"HELLO\r\n\x00\xff", b"")


def test_what_has_come_is_shown_at_once() -> None:
    def ask(connection: socket.socket) -> None:
        connection.sendall(b"login: ")
        name = connection.recv(100)
        connection.sendall(b"welcome, " + name)

    with peer(ask) as port, started("connect", HOST, port) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert read_until(process.stdout.fileno(), b"login: ") == b"login: "
        process.stdin.write(b"me")
        assert read_until(process.stdout.fileno(), b"welcome, me") == b"welcome, me"


def test_large_transfers_stream_both_ways_in_little_memory() -> None:
    data = random.Random(6).randbytes(LARGE)
    peak = 0

    def echo(connection: socket.socket) -> None:
        while block := connection.recv(65536):
            connection.sendall(block)
        nonlocal peak
        status = Path(f"/proc/{process.pid}/status").read_text("ascii")
        peak = int(status.partition("VmHWM:")[2].split()[0])

    with peer(echo) as port, started("connect", HOST, port) as process:
        came, told = process.communicate(data, PATIENCE)
    assert (process.returncode, told) == (0, b"")
    assert hashlib.sha256(came).digest() == hashlib.sha256(data).digest()
    assert peak < 100_000  # kB, the interpreter's own included


def test_a_peer_that_sends_before_it_reads_holds_up_nothing() -> None:
    def talk_first(connection: socket.socket) -> None:
        connection.sendall(bytes(LARGE))
        assert len(received_whole(connection)) == LARGE

    with peer(talk_first) as port:
        done = run("connect", HOST, port, stdin=bytes(LARGE))
    assert (done.returncode, len(done.stdout)) == (0, LARGE)


def test_output_that_nobody_takes_yet_does_not_hold_up_the_input() -> None:
    all_received = threading.Event()

    def talk_and_listen(connection: socket.socket) -> None:
        talk = threading.Thread(target=connection.sendall, args=(bytes(LARGE),))
        talk.start()
        assert len(received_whole(connection)) == LARGE
        all_received.set()
        talk.join()

    with peer(talk_and_listen) as port, started("connect", HOST, port) as process:
        assert process.stdin is not None
        feed = threading.Thread(target=process.stdin.write, args=(bytes(LARGE),))
        feed.start()
        feed.join()
        process.stdin.close()
        assert all_received.wait(PATIENCE)
        assert process.stdout is not None
        assert len(process.stdout.read()) == LARGE
        assert process.wait(PATIENCE) == 0


def test_input_and_output_that_are_non_blocking_are_waited_for() -> None:
    """As left behind by another program that shares them."""

    def echo(connection: socket.socket) -> None:
        connection.sendall(received_whole(connection))

    mine, theirs = socket.socketpair()
    with mine, theirs, peer(echo) as port:
        theirs.setblocking(False)
        words = [*LANDLINE, "connect", HOST, str(port)]
        with subprocess.Popen(words, stdin=theirs.fileno(), stdout=theirs.fileno()) as process:
            theirs.close()
            mine.sendall(bytes(LARGE))
            mine.shutdown(socket.SHUT_WR)
            assert len(received_whole(mine)) == LARGE
            assert process.wait(PATIENCE) == 0


# ---- who ends first ------------------------------------------------------------------------------


def say_goodbye(connection: socket.socket) -> None:
    connection.sendall(b"goodbye\n")


def test_a_peer_that_ends_first_ends_the_command_at_a_terminal() -> None:
    with peer(say_goodbye) as port, Terminal("connect", HOST, port) as terminal:
        terminal.wait_for(b"goodbye")
        began = time.monotonic()
        assert terminal.wait() == 0
        assert time.monotonic() - began < QUICKLY
        assert terminal.shown == b"goodbye\r\n"


def test_a_peer_that_ends_first_ends_the_command_though_a_pipe_is_open() -> None:
    with peer(say_goodbye) as port, started("connect", HOST, port) as process:
        assert process.stdout is not None
        assert process.stdout.read() == b"goodbye\n"
        assert process.wait(QUICKLY) == 0


@pytest.mark.parametrize("pause", [0.0, 0.1])
def test_a_peer_that_ends_first_and_still_reads_gets_all_of_the_input(pause: float) -> None:
    """`nc -N -l 9000 </dev/null >copy` ends its side at once; a pipe may deliver slowly."""
    received = b""
    ended = threading.Event()

    def end_and_read(connection: socket.socket) -> None:
        connection.shutdown(socket.SHUT_WR)
        ended.set()
        nonlocal received
        received = received_whole(connection)

    with peer(end_and_read) as port, started("connect", HOST, port) as process:
        assert process.stdin is not None
        assert ended.wait(PATIENCE)
        for _ in range(8):
            process.stdin.write(bytes(LARGE // 8))
            threading.Event().wait(pause)
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
    assert len(received) == LARGE


def test_control_d_at_a_terminal_is_the_end_of_the_input() -> None:
    def answer_at_the_end(connection: socket.socket) -> None:
        connection.sendall(b"? ")
        connection.sendall(received_whole(connection).upper())

    with peer(answer_at_the_end) as port, Terminal("connect", HOST, port) as terminal:
        terminal.wait_for(b"? ")
        terminal.type(b"hello\n\x04")
        assert terminal.wait() == 0
        assert terminal.shown.endswith(b"HELLO\r\n")


def test_a_closed_output_ends_quietly() -> None:
    def talk_on(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"line\n" * 1000)

    with peer(talk_on) as port:
        line = f"{shlex.join(LANDLINE)} connect {HOST} {port} </dev/null | head -1; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, check=False, timeout=PATIENCE)
    assert (done.stdout, done.stderr) == (b"line\n0\n", b"")


def test_an_output_that_was_never_open_is_not_the_connection() -> None:
    """Descriptor 1 is free then, and the socket must not get it."""

    def listen(connection: socket.socket) -> None:
        connection.sendall(b"not for the peer")
        assert received_whole(connection) == b"for the peer"

    with peer(listen) as port:
        line = f"printf 'for the peer' | {shlex.join(LANDLINE)} connect {HOST} {port} >&-"
        subprocess.run(["bash", "-c", line], check=True, timeout=PATIENCE)


def test_a_full_disk_is_told() -> None:
    with peer(say_goodbye) as port, open("/dev/full", "wb") as full:
        for words in ["connect", HOST, str(port)], ["demo"], ["--help"]:
            done = subprocess.run(
                [*LANDLINE, *words], stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, check=False
            )
            assert "No space left on device" in failure(done), words


# ---- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("localhost:80", "80"), "host='localhost:80' is not allowed: this looks like host:port"),
        (("http://localhost", "80"), "this is a URL"),
        (("", "80"), "host='' is not allowed"),
        (("localhost", "70000"), "a port is a number from 0 to 65535"),
        (("localhost", "no-such-service"), "service='no-such-service' is unknown"),
        (("no-such-host.invalid", "80"), "could not find no-such-host.invalid"),
        ((HOST, "80", "-6"), "host='127.0.0.1' is not allowed with ipv6=True"),
        (("::1", "80", "-4"), "host='::1' is not allowed"),
        ((HOST, "80", "--timeout=-1"), "timeout=-1.0 is not allowed"),
        ((HOST, "80", "--read-timeout=nan"), "read_timeout=nan is not allowed"),
        ((HOST, "80", "--local-address=203.0.113.1"), "Cannot assign requested address"),
        ((HOST, "80", "--local-address=::1"), "local_address='::1' is not allowed"),
    ],
)
def test_a_bad_argument_is_one_line_that_names_it(arguments: tuple[str, ...], told: str) -> None:
    assert told in failure(run("connect", *arguments))


@pytest.mark.parametrize("arguments", [(), ("localhost",), ("localhost", "80", "-4", "-6"), ("localhost", "80", "-x")])
def test_wrong_usage_is_told_with_status_2(arguments: tuple[str, ...]) -> None:
    done = run("connect", *arguments)
    assert done.returncode == 2
    assert b"Usage: landline connect" in done.stderr or b"-m landline connect" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_dead_port_is_told() -> None:
    with dead_port() as port:
        told = failure(run("connect", HOST, port))
    assert told.startswith(f"could not connect to {HOST} port {port}: ")
    assert "Connection refused" in told


def test_a_silent_peer_is_given_up_after_the_timeout() -> None:
    with silent_port() as port:
        began = time.monotonic()
        told = failure(run("connect", HOST, port, "--timeout", "0.3"))
        assert 0.3 < time.monotonic() - began < 0.3 + QUICKLY
    assert "within timeout=0.3 s" in told


def test_a_lookup_without_answer_is_given_up_after_the_timeout(tmp_path: Path) -> None:
    path = hanging_lookups(tmp_path)
    told = failure(run("connect", "example.org", 80, "--timeout", "0.3", PYTHONPATH=path))
    assert "has not answered" in told


def test_a_peer_that_falls_silent_is_given_up_after_the_read_timeout() -> None:
    gone = threading.Event()

    def say_half_and_wait(connection: socket.socket) -> None:
        connection.sendall(b"half a li")
        gone.wait(PATIENCE)

    with peer(say_half_and_wait) as port:
        done = run("connect", HOST, port, "--read-timeout", "0.3")
        gone.set()
    assert done.stdout == b"half a li"
    assert failure(done) == f"nothing came from {HOST}:{port} within --read-timeout 0.3 seconds"


def test_a_peer_that_dies_is_told_after_what_it_said() -> None:
    shown = threading.Event()

    def die(connection: socket.socket) -> None:
        connection.sendall(b"half a li")
        assert shown.wait(PATIENCE)
        reset(connection)

    with peer(die) as port, Terminal("connect", HOST, port) as terminal:
        terminal.wait_for(b"half a li")
        shown.set()
        assert terminal.wait() == 1
    told = terminal.shown.decode().split("\r\n")
    assert told[0] == "half a li"
    assert told[1].startswith("landline: receiving from ")
    assert "Connection reset by peer" in "".join(told)


def test_a_peer_that_dies_under_an_upload_is_told() -> None:
    def die(connection: socket.socket) -> None:
        connection.recv(1000)
        reset(connection)

    with peer(die) as port:
        told = failure(run("connect", HOST, port, stdin=bytes(LARGE)))
    assert "Connection reset by peer" in told or "Broken pipe" in told


def test_what_the_peer_said_before_it_refused_the_rest_is_shown() -> None:
    """A server answers 413 and closes under the upload, while nobody takes the output yet: more than a pipe holds."""
    answer = random.Random(4).randbytes(120_000)

    def refuse(connection: socket.socket) -> None:
        for part in answer[:80_000], answer[80_000:]:
            connection.sendall(part)
            wait_until_delivered(connection)
        connection.recv(1000)

    with open("/dev/zero", "rb") as endless, contextlib.ExitStack() as processes:
        with peer(refuse) as port:
            words, pipe = [*LANDLINE, "connect", HOST, str(port)], subprocess.PIPE
            process = processes.enter_context(subprocess.Popen(words, stdin=endless, stdout=pipe, stderr=pipe))
        came, told = process.communicate(timeout=PATIENCE)
    assert came == answer
    assert process.returncode == 1
    assert b"Broken pipe" in told or b"Connection reset by peer" in told


def test_an_input_that_cannot_be_read_is_told_and_the_peer_sees_a_reset(tmp_path: Path) -> None:
    def expect_a_reset(connection: socket.socket) -> None:
        with pytest.raises(ConnectionResetError):
            connection.recv(100)

    with peer(expect_a_reset) as port, (tmp_path / "only to be written").open("wb") as file:
        done = subprocess.run(
            [*LANDLINE, "connect", HOST, str(port)], stdin=file, capture_output=True, check=False, timeout=PATIENCE
        )
    assert failure(done) == "reading standard input failed: Bad file descriptor"


# ---- Ctrl-C --------------------------------------------------------------------------------------


def hanging_lookups(folder: Path) -> str:
    """A folder for PYTHONPATH that makes every lookup hang, and tells by a file that one has begun."""
    (folder / "sitecustomize.py").write_text(
        "import pathlib, socket, time\n"
        "def hang(*arguments):\n"
        f"    pathlib.Path({str(folder)!r}, 'asked').touch()\n"
        "    time.sleep(600)\n"
        "socket.getaddrinfo = hang\n",
        "utf-8",
    )
    return str(folder)


def test_control_c_ends_a_lookup(tmp_path: Path) -> None:
    with started("connect", "example.org", 80, PYTHONPATH=hanging_lookups(tmp_path)) as process:
        end = time.monotonic() + PATIENCE
        while not (tmp_path / "asked").exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        began = time.monotonic()
        assert interrupt(process) == (130, "")
        assert time.monotonic() - began < QUICKLY


def test_control_c_ends_connecting() -> None:
    with silent_port() as port, started("connect", HOST, port) as process:
        wait_until_connecting_to(port)
        assert interrupt(process) == (130, "")


def test_control_c_under_an_upload_resets_the_connection() -> None:
    """A proper end would tell the peer that this was all."""
    under_way, over = threading.Event(), threading.Event()

    def take_a_part(connection: socket.socket) -> None:
        connection.recv(1000)
        under_way.set()
        assert over.wait(PATIENCE)
        with pytest.raises(ConnectionResetError):
            received_whole(connection)

    with peer(take_a_part) as port, open("/dev/zero", "rb") as endless:
        words = [*LANDLINE, "connect", HOST, str(port)]
        with subprocess.Popen(words, stdin=endless, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            assert under_way.wait(PATIENCE)
            assert interrupt(process) == (130, "")
            over.set()


def test_control_c_ends_a_transfer_that_stands_still_both_ways() -> None:
    """The peer does not read, nobody reads the output: both threads are blocked in writing."""

    def send_only(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(bytes(65536))

    with peer(send_only) as port, open("/dev/zero", "rb") as endless:
        words = [*LANDLINE, "connect", HOST, str(port)]
        pipe = subprocess.PIPE
        with subprocess.Popen(words, stdin=endless, stdout=pipe, stderr=pipe) as process:
            assert process.stdout is not None
            process.stdout.read(1)
            process.send_signal(signal.SIGINT)
            assert process.wait(QUICKLY) == 130
            assert process.stderr is not None
            assert process.stderr.read() == b""


def test_control_c_typed_at_a_terminal_ends_an_idle_connection_properly() -> None:
    def ask(connection: socket.socket) -> None:
        connection.sendall(b"login: ")
        assert connection.recv(100) == b""

    with peer(ask) as port, Terminal("connect", HOST, port) as terminal:
        terminal.wait_for(b"login: ")
        terminal.type(b"\x03")
        assert terminal.wait() == 130
        assert terminal.shown == b"login: ^C\r\n"


# ---- options -------------------------------------------------------------------------------------


def test_the_report_is_told_on_standard_error() -> None:
    with peer(say_goodbye) as port:
        done = run("connect", HOST, port, "--report")
    assert (done.returncode, done.stdout) == (0, b"goodbye\n")
    told = done.stderr.decode().splitlines()
    assert told[0].startswith(f"{HOST} port {port}: connected after ")
    assert told[1].endswith(f"connect {HOST}:{port}: connected")


def test_the_report_of_a_failure_comes_before_its_line() -> None:
    with dead_port() as port:
        done = run("connect", HOST, port, "--report")
    told = done.stderr.decode().splitlines()
    assert told[0].startswith(f"{HOST} port {port}: not connected after ")
    assert told[1].endswith(": failed: Connection refused")
    assert told[2].startswith("landline: could not connect")
    assert (done.returncode, len(told)) == (1, 3)


def test_the_local_address_is_what_the_peer_sees() -> None:
    def tell_address(connection: socket.socket) -> None:
        connection.sendall(connection.getpeername()[0].encode())

    with peer(tell_address) as port:
        assert run("connect", HOST, port, "--local-address", "127.0.0.77").stdout == b"127.0.0.77"


def test_minus_4_and_minus_6_choose_the_family() -> None:
    with peer(say_goodbye) as port:
        assert run("connect", "localhost", port, "-4").stdout == b"goodbye\n"
    with peer(say_goodbye, "::1") as port:
        assert run("connect", "::1", port, "-6").stdout == b"goodbye\n"
