"""nginx and Python's http.server: whole pages, a big file, and chunked answers over one kept connection."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import PATIENCE, read_until, started
from conftest import need
from daemons import daemon

from landline import SocketStream, open_tcp_stream

pytestmark = pytest.mark.usefixtures("no_leaks")

HOST = "127.0.0.1"
PAGE = "<!doctype html>\n<title>landline</title>\n<p>Grüße\r\n".encode()
BIG = 30_000_000
"""Bytes of the big file: more than every buffer on the way."""

CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    default_type text/html;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/site;
        location /included/ {{ ssi on; }}
    }}
}}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a page, a big file, and a page that nginx must send in chunks, as it fills it in."""
    folder = tmp_path / "site"
    (folder / "included").mkdir(parents=True)
    (folder / "index.html").write_bytes(PAGE)
    (folder / "big").write_bytes(random.Random(2).randbytes(BIG))
    (folder / "included" / "index.html").write_text('<!--# echo var="arg_word" -->\n' + "x" * 100_000, "ascii")
    return folder


@pytest.fixture
def nginx(site: Path, tmp_path: Path) -> Iterator[int]:
    """The port of an nginx that serves `site`."""
    program = need("nginx")
    configuration = tmp_path / "nginx.conf"

    def command(port: int) -> list[object]:
        configuration.write_text(CONFIGURATION.format(folder=tmp_path, port=port), "utf-8")
        return [program, "-e", "stderr", "-p", tmp_path, "-c", configuration]

    with daemon(command, tmp_path / "nginx.log") as port:
        yield port


@pytest.fixture
def http_server(site: Path, tmp_path: Path) -> Iterator[int]:
    """The port of a `python -m http.server` that serves `site`."""

    def command(port: int) -> list[object]:
        return [sys.executable, "-m", "http.server", port, "--bind", HOST, "--directory", site]

    with daemon(command, tmp_path / "http.log") as port:
        yield port


def curl(port: int, path: str) -> bytes:
    """The answer, head and body, as curl receives it."""
    words = [need("curl"), "-sS", "-q", "--http1.0", "--raw", "-i", "--noproxy", "*", f"http://{HOST}:{port}{path}"]
    return subprocess.run(words, capture_output=True, check=True, timeout=30).stdout


def request(path: str, version: str = "1.0") -> bytes:
    return f"GET {path} HTTP/{version}\r\nHost: {HOST}\r\nAccept: */*\r\n\r\n".encode("ascii")


def without_date(answer: bytes) -> bytes:
    """An answer without the one line that changes every second."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"date:")]
    return b"\r\n".join([*lines, b"", body])


def head_of(stream: SocketStream) -> dict[bytes, bytes]:
    """The fields of an answer's head, which is taken; it must be of status 200."""
    lines = stream.read_until(b"\r\n\r\n").split(b"\r\n")
    assert lines[0].split()[1] == b"200"
    fields = (line.partition(b":") for line in lines[1:-2])
    return {name.lower(): value.strip() for name, _, value in fields}


def body_of(stream: SocketStream, head: dict[bytes, bytes]) -> bytes:
    """The body that belongs to `head`, of known length or in chunks."""
    if b"content-length" in head:
        return stream.read_exactly(int(head[b"content-length"]))
    assert head[b"transfer-encoding"] == b"chunked"
    chunks = []
    while size := int(stream.read_until(b"\r\n"), 16):
        chunks.append(stream.read_exactly(size))
        assert stream.read_exactly(2) == b"\r\n"
    assert stream.read_until(b"\r\n") == b"\r\n"
    return b"".join(chunks)


# ---- nginx ---------------------------------------------------------------------------------------


@pytest.mark.peer("nginx", "curl")
@pytest.mark.parametrize("path", ["/", "/big", "/missing"])
def test_nginx_answers_as_it_answers_curl(nginx: int, path: str) -> None:
    with open_tcp_stream(HOST, nginx, read_timeout=10) as http:
        http.write(request(path))
        answer = http.read()
        assert http.bytes_received == len(answer)
    assert without_date(answer) == without_date(curl(nginx, path))


@pytest.mark.peer("nginx")
def test_a_big_file_by_count_line_and_block(nginx: int, site: Path) -> None:
    wanted = hashlib.sha256((site / "big").read_bytes()).digest()
    with open_tcp_stream(HOST, nginx, read_timeout=10) as http:
        for _ in range(2):
            http.write(request("/big", "1.1"))
            assert hashlib.sha256(body_of(http, head_of(http))).digest() == wanted
        http.write(request("/big", "1.1"))
        head_of(http)
        digest, missing = hashlib.sha256(), BIG
        while missing:
            piece = http.readline(missing) if missing > BIG // 2 else http.read1(missing)
            digest.update(piece)
            missing -= len(piece)
        assert digest.digest() == wanted
        assert not http.input_ready()


@pytest.mark.peer("nginx")
def test_chunked_answers_over_one_kept_connection(nginx: int) -> None:
    with open_tcp_stream(HOST, nginx, read_timeout=10) as http:
        for word in ("one", "two", "three"):
            http.write(request(f"/included/?word={word}", "1.1"))
            head = head_of(http)
            assert head[b"transfer-encoding"] == b"chunked"
            assert body_of(http, head) == word.encode() + b"\n" + b"x" * 100_000
            http.write(request("/", "1.1"))
            assert body_of(http, head_of(http)) == PAGE


@pytest.mark.peer("nginx")
def test_requests_sent_ahead_are_answered_in_their_order(nginx: int) -> None:
    words = [f"word{number}" for number in range(50)]
    with open_tcp_stream(HOST, nginx, read_timeout=10) as http:
        http.writelines(request(f"/included/?word={word}", "1.1") for word in words)
        for word in words:
            assert body_of(http, head_of(http)).startswith(word.encode() + b"\n")
        http.shutdown("output")
        assert http.read() == b""


@pytest.mark.peer("nginx", "curl")
def test_the_command_fetches_what_curl_fetches(nginx: int) -> None:
    """The input stays open: nginx gives up an answer under way when its client ends (also with `nc -N`)."""
    with started("connect", HOST, nginx) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request("/big"))
        answer = read_until(process.stdout.fileno(), b"(up to its end)")
        assert process.wait(PATIENCE) == 0
    assert without_date(answer) == without_date(curl(nginx, "/big"))


# ---- python -m http.server -----------------------------------------------------------------------


@pytest.mark.peer("curl")
@pytest.mark.parametrize("path", ["/", "/big", "/missing"])
def test_http_server_answers_as_it_answers_curl(http_server: int, path: str) -> None:
    with open_tcp_stream(HOST, http_server, read_timeout=10) as http:
        http.write(request(path))
        answer = http.read()
    assert without_date(answer) == without_date(curl(http_server, path))


def test_the_manuals_example_in_text(http_server: int) -> None:
    """Characters without waiting until the first one comes, then lines."""
    with open_tcp_stream(HOST, http_server, element_type=str, read_timeout=10) as http:
        http.write("GET / HTTP/1.0\r\n\r\n")
        http.flush()
        while (character := http.read_no_hang(1)) is None:
            pass
        http.unread(character)
        lines = list(http)
    assert lines[0] == "HTTP/1.0 200 OK\n"
    assert lines[lines.index("\n") + 1 :] == PAGE.decode().replace("\r\n", "\n").splitlines(keepends=True)
