"""`landline connect` sends and receives files: whole or visibly not, resumable, with a progress bar that tells the
truth; and lines typed at a terminal while the peer goes on talking.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command import LANDLINE, PATIENCE, Terminal, environment, failure, interrupt, peer, received_whole, run, started
from conftest import need

HOST = "127.0.0.1"
DATA = random.Random(7).randbytes(3_000_000)
FULL = os.environ.get("LANDLINE_FULL") == "1"

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.skipif(sys.platform != "linux", reason="terminals as Linux has them"),
]


def listen(got: list[bytes]) -> Callable[[socket.socket], None]:
    def handle(connection: socket.socket) -> None:
        got.append(received_whole(connection))

    return handle


def tell(data: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(data)


# ---- sending -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--hex"]])
def test_a_file_is_sent_whole_and_the_answer_is_shown(tmp_path: Path, words: list[str]) -> None:
    def answer(connection: socket.socket) -> None:
        got.append(received_whole(connection))
        connection.sendall(b"thanks\n")

    got: list[bytes] = []
    file = tmp_path / "file"
    data = DATA if not words else DATA[:1000]
    file.write_bytes(data)
    with peer(answer) as port:
        done = run("connect", HOST, port, "--send-file", file, *words, stdin=b"not this")
    assert (done.returncode, done.stderr) == (0, b"")
    assert got == [data]
    assert b"thanks" in done.stdout


def test_an_offset_leaves_out_the_beginning(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    for offset, rest in (4, b"456789"), (10, b""):
        got: list[bytes] = []
        with peer(listen(got)) as port:
            assert run("connect", HOST, port, "--send-file", file, "--offset", offset).returncode == 0
        assert got == [rest]
    told = failure(run("connect", HOST, 1, "--send-file", file, "--offset", 11))
    assert told == f"{file} has 10 bytes, which --offset 11 is beyond"


def test_a_file_that_cannot_be_sent_is_told_before_anything_is_opened(tmp_path: Path) -> None:
    told = failure(run("connect", HOST, 1, "--send-file", tmp_path / "none"))
    assert told == f"{tmp_path}/none cannot be sent: No such file or directory"


def test_a_pipe_can_be_sent(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    feed = threading.Thread(target=pipe.write_bytes, args=(DATA,))
    feed.start()
    with peer(listen(got)) as port:
        assert run("connect", HOST, port, "--send-file", pipe).returncode == 0
    feed.join()
    assert got == [DATA]


def test_control_c_in_the_middle_of_a_file_resets_the_connection(tmp_path: Path) -> None:
    """No peer takes a part for the whole."""
    begun = threading.Event()
    reset = []

    def expect_a_reset(connection: socket.socket) -> None:
        connection.recv(1000)
        begun.set()
        try:
            received_whole(connection)
        except ConnectionResetError:
            reset.append(True)

    file = tmp_path / "file"
    with file.open("wb") as made:
        made.truncate(1 << 40)
    with peer(expect_a_reset) as port, started("connect", HOST, port, "--send-file", file) as process:
        assert begun.wait(PATIENCE)
        assert interrupt(process) == (130, "")
    assert reset


# ---- receiving ---------------------------------------------------------------------------------------


def test_a_file_is_received_whole(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"an older one")
    with peer(tell(DATA)) as port:
        done = run("connect", HOST, port, "--receive-file", file)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert file.read_bytes() == DATA
    assert os.listdir(tmp_path) == ["file"]


def test_what_was_cut_off_is_a_part_and_resume_goes_on_behind_it(tmp_path: Path) -> None:
    file, part = tmp_path / "file", tmp_path / "file.part"
    arrived = threading.Event()

    def cut(connection: socket.socket) -> None:
        connection.sendall(DATA[:1_000_000])
        end = time.monotonic() + PATIENCE
        while not part.exists() or part.stat().st_size < 1_000_000:
            assert time.monotonic() < end
            time.sleep(0.01)
        arrived.set()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with peer(cut) as port:
        done = run("connect", HOST, port, "--receive-file", file)
    assert arrived.is_set()
    told = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert told[0] == f"landline: 1000000 bytes are in {part}; --resume goes on behind them"
    assert "Connection reset by peer" in told[1]
    assert not file.exists()

    told_again = failure(run("connect", HOST, 1, "--receive-file", file))
    assert told_again == f"{part} is there already; go on with it (--resume), or remove it"

    with peer(tell(DATA[1_000_000:])) as port:
        done = run("connect", HOST, port, "--receive-file", file, "--resume")
    assert done.returncode == 0
    assert b"going on at byte 1000000 of " in done.stderr
    assert hashlib.sha256(file.read_bytes()).digest() == hashlib.sha256(DATA).digest()
    assert not part.exists()


def test_where_nothing_came_no_part_is_left(tmp_path: Path) -> None:
    run("connect", HOST, 1, "--receive-file", tmp_path / "file")
    assert os.listdir(tmp_path) == []


def test_a_part_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"mine")
    (tmp_path / "file.part").symlink_to(tmp_path / "precious")
    told = failure(run("connect", HOST, 1, "--receive-file", tmp_path / "file", "--resume"))
    assert "file.part cannot be written: Too many levels of symbolic links" in told


def test_a_device_is_written_at_once() -> None:
    with peer(tell(DATA)) as port:
        assert run("connect", HOST, port, "--receive-file", "/dev/null").returncode == 0


def test_a_full_disk_is_told() -> None:
    def talk(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(DATA)

    with peer(talk) as port:
        told = failure(run("connect", HOST, port, "--receive-file", "/dev/full"))
    assert told == "writing /dev/full failed: No space left on device"


# ---- progress ----------------------------------------------------------------------------------------


def test_the_bar_and_the_summary_tell_what_has_passed(tmp_path: Path) -> None:
    """Half of it is taken, then nothing: the bar stands there, and what the peer says comes above it."""
    half_taken, go_on = threading.Event(), threading.Event()
    size = 64_000_000

    def take_half(connection: socket.socket) -> None:
        left = size // 2
        while left:
            left -= len(connection.recv(min(left, 65536)))
        connection.sendall(b"half of it\n")
        half_taken.set()
        assert go_on.wait(PATIENCE)
        received_whole(connection)

    file = tmp_path / "file"
    with file.open("wb") as made:
        made.truncate(size)
    with peer(take_half) as port, Terminal("connect", HOST, port, "--send-file", file) as terminal:
        assert half_taken.wait(PATIENCE)
        terminal.wait_for(b"half of it\r\n")
        terminal.shown = b""
        terminal.wait_for(b"/64.0 MB")
        found = re.search(rb"(\d+)%.*?([\d.]+)/64.0 MB", terminal.shown)
        assert found is not None
        assert 50 <= int(found[1]) < 75  # the half, and what the system's buffers hold
        assert 32.0 <= float(found[2]) < 48.0
        go_on.set()
        assert terminal.wait() == 0
    assert re.search(rb"sent 64\.0 MB of file in \d+\.\d s, [\d.]+ .?B/s\r\n$", terminal.shown)


@pytest.mark.parametrize(("extra", "plain"), [({"NO_COLOR": "1"}, True), ({}, False)])
def test_the_bar_has_no_colour_with_no_color(tmp_path: Path, extra: dict[str, str], plain: bool) -> None:
    over = threading.Event()

    def wait(connection: socket.socket) -> None:
        connection.recv(1)
        over.wait(PATIENCE)

    file = tmp_path / "file"
    with file.open("wb") as made:
        made.truncate(1 << 40)
    with peer(wait) as port, Terminal("connect", HOST, port, "--send-file", file, **extra) as terminal:
        terminal.wait_for(b"/1.1 TB")
        terminal.type(b"\x03")
        assert terminal.wait() == 130
        over.set()
    assert (re.search(rb"\x1b\[[\d;]*3\dm|38;", terminal.shown) is None) == plain


def test_the_bar_is_ascii_where_the_terminal_is(tmp_path: Path) -> None:
    over = threading.Event()

    def wait(connection: socket.socket) -> None:
        connection.recv(1)
        over.wait(PATIENCE)

    file = tmp_path / "file"
    with file.open("wb") as made:
        made.truncate(1 << 40)
    extra = {"PYTHONIOENCODING": "ascii"}
    with peer(wait) as port, Terminal("connect", HOST, port, "--send-file", file, **extra) as terminal:
        terminal.wait_for(b"/1.1 TB")
        terminal.type(b"\x03")
        assert terminal.wait() == 130
        over.set()
    assert terminal.shown.isascii()


# ---- typing ------------------------------------------------------------------------------------------


def test_lines_are_edited_before_they_are_sent() -> None:
    got: list[bytes] = []

    def take(connection: socket.socket) -> None:
        connection.sendall(b"> ")
        got.append(received_whole(connection))

    with peer(take) as port, Terminal("connect", HOST, port) as terminal:
        terminal.wait_for(b"> ")
        terminal.type(b"ello\x01H\x05!\n\x1b[A\x7f?\nlast\x04\x04")
        assert terminal.wait() == 0
    assert got == [b"Hello!\nHello?\nlast"]


def test_what_was_typed_before_the_command_was_ready_is_not_lost() -> None:
    """Ctrl-D included, which the system keeps as another character when nobody reads lines any more."""
    got: list[bytes] = []
    with peer(listen(got)) as port, Terminal("connect", HOST, port) as terminal:
        terminal.type(b"hello\n\x04")
        assert terminal.wait() == 0
    assert got == [b"hello\n"]


def test_what_the_peer_says_does_not_destroy_the_line_being_typed() -> None:
    typed = threading.Event()
    got: list[bytes] = []

    def interrupt_typing(connection: socket.socket) -> None:
        connection.sendall(b"> ")
        assert typed.wait(PATIENCE)
        connection.sendall(b"news\n> ")
        got.append(connection.recv(100))

    with peer(interrupt_typing) as port, Terminal("connect", HOST, port) as terminal:
        terminal.wait_for(b"> ")
        terminal.type(b"half")
        terminal.wait_for(b"half")
        terminal.shown = b""
        typed.set()
        # Back to where the peer's output ended, the news, and the line again behind it, its cursor at its end.
        terminal.wait_for(b"\x1b8\x1b[Jnews\r\n> \x1b7half\x1b[K\x1b8\x1b[4C")
        terminal.type(b" whole\n")
        assert terminal.wait() == 0
    assert got == [b"half whole\n"]


def test_a_dumb_terminal_gets_no_sequences() -> None:
    def take(connection: socket.socket) -> None:
        connection.sendall(b"> ")
        connection.sendall(connection.recv(100))

    with peer(take) as port, Terminal("connect", HOST, port, TERM="dumb") as terminal:
        terminal.wait_for(b"> ")
        terminal.type(b"hello\n")
        assert terminal.wait() == 0
    assert terminal.shown == b"> hello\r\nhello\r\n"


@pytest.mark.parametrize(("keys", "status"), [(b"\x03", 130), (b"half\x03", 130), (b"\x04", 0)])
def test_the_terminal_is_as_it_was_afterwards(keys: bytes, status: int) -> None:
    """It echoes, and gives lines; while lines are edited it does not."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"> ")
        received_whole(connection)

    with peer(talk) as port, Terminal("connect", HOST, port) as terminal:
        # The screen's side has the same settings; they outlive the command while it is open.
        terminal.wait_for(b"> ")
        assert not termios.tcgetattr(terminal.screen)[3] & termios.ECHO
        terminal.type(keys)
        assert terminal.process.wait(PATIENCE) == status
        local = termios.tcgetattr(terminal.screen)[3]
        assert local & termios.ECHO
        assert local & termios.ICANON


# ---- the rate ----------------------------------------------------------------------------------------


@pytest.mark.skipif(not FULL, reason="1 GiB, several times: LANDLINE_FULL=1")
@pytest.mark.timeout(300)
def test_a_gibibyte_is_sent_as_fast_as_socat_does_it(tmp_path: Path) -> None:
    """Measured where it arrives, from the first byte to the last; the best of several, one beside the other."""
    file = tmp_path / "gibibyte"
    with file.open("wb") as made:
        for _ in range(64):
            made.write(bytes(1 << 24))

    def rate(words: list[str]) -> float:
        with socket.create_server((HOST, 0)) as listener:
            listener.settimeout(PATIENCE)
            words = [word.replace("PORT", str(listener.getsockname()[1])) for word in words]
            with subprocess.Popen(words, stdin=subprocess.DEVNULL, env=environment({})) as process:
                connection, _ = listener.accept()
                with connection:
                    buffer = bytearray(1 << 18)
                    total = connection.recv_into(buffer)
                    began = time.perf_counter()
                    while count := connection.recv_into(buffer):
                        total += count
                    seconds = time.perf_counter() - began
                assert process.wait(PATIENCE) == 0
            assert total == 1 << 30
            return total / seconds

    ours = [*LANDLINE, "connect", "--send-file", str(file), HOST, "PORT"]
    theirs = [need("socat"), "-u", f"OPEN:{file}", f"TCP:{HOST}:PORT"]
    rates = [(rate(ours), rate(theirs)) for _ in range(5)]
    landline, socat = (max(column) for column in zip(*rates, strict=True))
    assert landline > 0.9 * socat, f"landline {landline / 1e6:.0f} MB/s, socat {socat / 1e6:.0f} MB/s"
