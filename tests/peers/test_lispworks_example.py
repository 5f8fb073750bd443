"""examples/lispworks_http.py, the example of the manual's page, as a program of its own: against nginx, and against a
peer that pauses in the middle of its page."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest
from command import PATIENCE, read_until
from conftest import need
from daemons import daemon
from test_http import CONFIGURATION, HOST, PAGE

from landline import SocketStream, start_up_server

pytestmark = pytest.mark.usefixtures("no_leaks")

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "lispworks_http.py"


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[int]:
    """The port of an nginx that serves one page."""
    program = need("nginx")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_bytes(PAGE)
    configuration = tmp_path / "nginx.conf"

    def command(port: int) -> list[object]:
        configuration.write_text(CONFIGURATION.format(folder=tmp_path, port=port), "utf-8")
        return [program, "-e", "stderr", "-p", tmp_path, "-c", configuration]

    with daemon(command, tmp_path / "nginx.log") as port:
        yield port


@contextmanager
def started(port: int) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-u", str(EXAMPLE), HOST, str(port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, bufsize=0) as program:
        try:
            yield program
        finally:
            program.kill()


def run(port: int) -> list[str]:
    """The lines that it prints. Its characters are Latin-1, one for each byte."""
    words = [sys.executable, str(EXAMPLE), HOST, str(port)]
    done = subprocess.run(words, capture_output=True, timeout=PATIENCE, check=True, env={"PYTHONIOENCODING": "latin-1"})
    assert done.stderr == b""
    return done.stdout.decode("latin-1").split("\n")


def test_it_prints_the_page_of_nginx(nginx: int) -> None:
    first, *lines = run(nginx)
    assert first.rstrip(".") == "Waiting to reply"
    assert lines[0] == "HTTP/1.1 200 OK\r"
    head_ends = lines.index("\r")
    assert f"Content-Length: {len(PAGE)}\r" in lines[:head_ends]
    assert "\n".join(lines[head_ends + 1 :]) == PAGE.decode("latin-1")


def test_it_prints_all_of_a_page_whose_server_pauses_in_the_middle() -> None:
    go_on = Event()

    def serve(stream: SocketStream) -> None:
        stream.read_until(b"\r\n\r\n")
        stream.write(b"HTTP/1.0 200 OK\r\n\r\nthe first half of a li")
        stream.flush()
        assert go_on.wait(PATIENCE)
        stream.write(b"ne\nand the last one, without an end")

    with start_up_server(serve) as server, started(server.port) as program:
        assert program.stdout is not None
        shown = read_until(program.stdout.fileno(), b"200 OK\r\n\r\n")
        go_on.set()
        shown += program.stdout.read()
        assert program.wait(PATIENCE) == 0
    assert shown.endswith(b"\r\n\r\nthe first half of a line\nand the last one, without an end\n")


def test_it_waits_with_dots() -> None:
    asked, answer = Event(), Event()

    def serve(stream: SocketStream) -> None:
        stream.read_until(b"\r\n\r\n")
        asked.set()
        assert answer.wait(PATIENCE)
        stream.write(b"page\n")

    with (
        start_up_server(serve) as server,
        started(server.port) as program,
    ):
        assert program.stdout is not None
        assert asked.wait(PATIENCE)
        shown = read_until(program.stdout.fileno(), b"Waiting to reply.....")
        answer.set()
        shown += program.stdout.read()
        assert program.wait(PATIENCE) == 0
    assert shown.strip(b".").endswith(b".\npage\n")


def test_a_server_that_is_not_there_is_told() -> None:
    with start_up_server(lambda stream: None) as server:
        port = server.port
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), HOST, str(port)], capture_output=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith(b"(Connection refused)")
