"""`landline serve --http`: what is answered, and above all what is not."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import PATIENCE, received_whole
from conftest import need

from landline import start_up_server
from landline.cli.http_files import LONGEST_LINE, MOST_HEADERS, serve_files

HOST = "127.0.0.1"

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_text("secret", "utf-8")
    made = tmp_path / "root"
    made.mkdir()
    (made / "a.txt").write_text("plain", "utf-8")
    (made / "page.html").write_text("<p>", "utf-8")
    (made / "archive.tar.gz").write_bytes(b"\x1f\x8b" + bytes(1_000_000))
    (made / "no_suffix").write_bytes(b"\0")
    (made / "data.json").write_text("{}", "utf-8")
    (made / "sub").mkdir()
    (made / "sub" / "index.html").write_text("<h1>sub</h1>", "utf-8")
    (made / "plain").mkdir()
    (made / "plain" / '<b> &"ü:\n.txt').write_text("odd", "utf-8")
    (made / ".git").mkdir()
    (made / ".git" / "config").write_text("hidden", "utf-8")
    (made / ".well-known").mkdir()
    (made / ".well-known" / "security.txt").write_text("known", "utf-8")
    (made / "link").symlink_to("a.txt")
    (made / "escape").symlink_to("../outside")
    (made / "up").symlink_to("..")
    os.mkfifo(made / "fifo")
    return made


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def port(root: Path, told: list[str]) -> Iterator[int]:
    with start_up_server(lambda stream: serve_files(stream, root, told.append)) as server:
        yield server.port


def fetch(port: int, target: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def raw(port: int, request: bytes) -> bytes:
    """Everything that is answered until the server ends the connection."""
    with socket.create_connection((HOST, port), PATIENCE) as client:
        client.sendall(request)
        data = b""
        while more := client.recv(65536):
            data += more
        return data


# ---- what is there -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "kind", "body"),
    [
        ("/a.txt", "text/plain; charset=utf-8", b"plain"),
        ("/a.txt?query#part", "text/plain; charset=utf-8", b"plain"),
        ("/%61.txt", "text/plain; charset=utf-8", b"plain"),
        ("http://localhost/a.txt", "text/plain; charset=utf-8", b"plain"),
        ("/page.html", "text/html; charset=utf-8", b"<p>"),
        ("/data.json", "application/json", b"{}"),
        ("/no_suffix", "application/octet-stream", b"\0"),
        ("/archive.tar.gz", "application/gzip", b"\x1f\x8b" + bytes(1_000_000)),
        ("/sub/", "text/html; charset=utf-8", b"<h1>sub</h1>"),
        ("/.well-known/security.txt", "text/plain; charset=utf-8", b"known"),
    ],
)
def test_a_file_comes_with_its_type_and_length(port: int, target: str, kind: str, body: bytes) -> None:
    status, headers, got = fetch(port, target)
    assert (status, got) == (200, body)
    assert headers["Content-Type"] == kind
    assert headers["Content-Length"] == str(len(body))
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Content-Encoding" not in headers
    assert {"Date", "Last-Modified"} <= set(headers)


@pytest.mark.parametrize("target", ["/a.txt", "/plain/", "/none"])
def test_head_is_get_without_the_body(port: int, target: str) -> None:
    """RFC 9110 section 9.3.2."""
    status, headers, body = fetch(port, target, "HEAD")
    status_of_get, headers_of_get, _ = fetch(port, target)
    for each in headers, headers_of_get:
        del each["Date"]
    assert (status, headers, body) == (status_of_get, headers_of_get, b"")
    # And nothing behind it on the wire.
    assert raw(port, f"HEAD {target} HTTP/1.0\r\n\r\n".encode()).endswith(b"\r\n\r\n")


def test_a_directory_is_listed_where_it_has_no_index(port: int) -> None:
    status, _, body = fetch(port, "/")
    assert status == 200
    text = body.decode()
    assert '<a href="./sub/">sub/</a>' in text
    assert '<a href="./a.txt">a.txt</a>' in text
    for hidden in ".git", "link", "escape", "fifo":
        assert hidden not in text.replace("/.well-known", "")


def test_names_in_a_listing_are_text_and_their_links_work(port: int) -> None:
    _, _, body = fetch(port, "/plain/")
    text = body.decode()
    assert "&lt;b&gt; &amp;&quot;ü:" in text
    assert "<b>" not in text
    link = text.partition("txt</a>")[0].rpartition('href="./')[2].partition('"')[0]
    assert fetch(port, f"/plain/{link}")[2] == b"odd"


def test_a_directory_without_its_slash_is_sent_there(port: int) -> None:
    status, headers, _ = fetch(port, "/sub")
    assert (status, headers["Location"]) == (301, "/sub/")


def test_a_connection_serves_several_requests(port: int, told: list[str]) -> None:
    one = b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answers = raw(port, one + b"\r\n" + one + last)
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert answers.count(b"HTTP/1.1 404 Not Found") == 1
    assert told == ["'GET /a.txt HTTP/1.1' 200", "'GET /a.txt HTTP/1.1' 200", "'GET /none HTTP/1.1' 404"]


def test_curl_is_content(port: int, root: Path) -> None:
    done = subprocess.run(
        [need("curl"), "-sSf", f"http://{HOST}:{port}/archive.tar.gz"],
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )
    assert done.stdout == (root / "archive.tar.gz").read_bytes()


# ---- what is not -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "/../outside", "/sub/../../outside", "/%2e%2e/outside", "/..%2foutside", "/sub/..", "/.", "/%2e/a.txt",
        "/%2Fetc/passwd", "/a.txt%00.html", "//etc/passwd", "/sub//index.html", "/escape", "/up/outside", "/link",
        "/up", "/fifo", "/.git/config", "/.git/", "/none", "/a.txt/", "/a.txt/b", "/\\..\\outside", "/sub/%5c..",
        "/" + "a" * 300, "etc/passwd", "file:///etc/passwd", "*",
    ],
)  # fmt: skip
def test_nothing_outside_hidden_linked_or_odd_can_be_reached(port: int, target: str) -> None:
    answer = raw(port, f"GET {target} HTTP/1.0\r\n\r\n".encode())
    assert answer.split(b" ")[1] in (b"400", b"404"), answer
    assert b"secret" not in answer
    assert b"hidden" not in answer


def test_no_target_leads_to_another_host(port: int) -> None:
    """A redirect to //host/ would be one."""
    for target in "//evil.example/sub", "/%2fevil.example", "/\\evil.example":
        assert b"Location" not in raw(port, f"GET {target} HTTP/1.0\r\n\r\n".encode())


def test_a_directory_that_becomes_a_link_meanwhile_is_not_followed(port: int, root: Path) -> None:
    """The race that a look before the open would lose: a name is now one thing and now the other."""
    over = threading.Event()
    real, link, name = root / "real", root / "outward", root / "flips"
    real.mkdir()
    (real / "outside").write_text("inside", "utf-8")
    link.symlink_to(root.parent)

    def flip() -> None:
        while not over.is_set():
            real.rename(name)
            name.rename(real)
            link.rename(name)
            name.rename(link)

    flipping = threading.Thread(target=flip)
    flipping.start()
    try:
        answers = {fetch(port, "/flips/outside")[2] for _ in range(150)}
    finally:
        over.set()
        flipping.join()
    assert b"secret" not in answers


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab", 405),
        (b"DELETE /a.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
        (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"GET /a.txt HTTP/1.1\r\n\r\n", 400),
        (b"GET /a.txt HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET /a.txt HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n", 400),
        (b"GET /a.txt HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET /a.txt HTTP/2.0\r\n\r\n", 505),
        (b"GET /a.txt\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET /" + b"a" * LONGEST_LINE + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (MOST_HEADERS + 1), 431),
        (b"GET / HTTP/1.1\r\na: " + b"b" * LONGEST_LINE, 431),
    ],
)
def test_a_bad_request_is_refused_and_ends_the_connection(port: int, request_: bytes, status: int) -> None:
    answer = raw(port, request_)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"\r\nConnection: close\r\n" in answer
    assert (b"\r\nAllow: GET, HEAD\r\n" in answer) == (status in (405, 501))


def test_a_file_that_becomes_shorter_is_visibly_cut_off(root: Path) -> None:
    """The length was promised: only the end of the connection tells that this was not all."""
    size = 200_000_000
    with (root / "large").open("wb") as made:
        made.truncate(size)
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(start_up_server(lambda stream: serve_files(stream, root)))
        client = opened.enter_context(socket.create_connection((HOST, server.port), PATIENCE))
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        os.truncate(root / "large", 0)
        with pytest.raises(ConnectionResetError):
            received_whole(client)
