"""socat, curl and nginx at Unix domain sockets of ours, and our streams at socat's: paths and abstract names."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import need
from proxy_daemons import V4, fetched, nginx
from served import LARGE, PAGES, fingerprint, pages
from tls_daemons import Program, program, send

from landline import (
    SocketConnectError,
    SocketCreateError,
    SocketStream,
    open_unix_stream,
    start_up_unix_server,
)
from landline.testing.contract.stage import PATIENCE, Task, until

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.peer("socat"),
    pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix domain sockets"),
]

LISTENING = b" N listening on "

linux = pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")

KINDS = pytest.mark.parametrize("kind", ["UNIX", pytest.param("ABSTRACT", marks=linux)])


@pytest.fixture
def name(kind: str, tmp_path: Path) -> str:
    """Of a socket, as our functions take it."""
    return f"\0landline-{tmp_path}" if kind == "ABSTRACT" else f"{tmp_path}/socket"


def to_socat(kind: str, verb: str, name: str) -> str:
    return f"{kind}-{verb}:{name.removeprefix(chr(0))}"


@contextlib.contextmanager
def listening(address: str, answer: str = "PIPE") -> Iterator[Program]:
    """A socat for one client, which gets back what it sends."""
    with program(need("socat"), "-d", "-d", address, answer) as socat:
        socat.noted(LISTENING)
        yield socat


def opened(name: str | Path) -> SocketStream:
    return open_unix_stream(name, timeout=PATIENCE, read_timeout=PATIENCE, write_timeout=PATIENCE)


def echo(stream: SocketStream) -> None:
    for line in stream:
        stream.write(line)
        stream.flush()


# ---- socat's client, our server ------------------------------------------------------------------------


@KINDS
def test_socat_is_answered_by_our_server(kind: str, name: str) -> None:
    with (
        start_up_unix_server(echo, name) as server,
        program(need("socat"), "-", to_socat(kind, "CONNECT", name)) as one,
    ):
        for number in range(3):
            one.type(b"line %d\n" % number)
            one.said(b"line %d\n" % number)
        with program(need("socat"), "-", to_socat(kind, "CONNECT", name)) as other:
            other.type(b"beside\n")
            other.said(b"beside\n")
            assert server.connections == 2
        until(lambda: server.connections == 1)
        one.end_input()
        assert one.wait() == 0
        until(lambda: server.connections == 0)


@KINDS
def test_socat_sends_much_and_half_closes(kind: str, name: str) -> None:
    """Our answer goes out when its end has come: to a client that has only stopped to send."""

    def handler(stream: SocketStream) -> None:
        stream.write(stream.read()[::-1])

    words = ("-t", f"{PATIENCE:.0f}", "-", to_socat(kind, "CONNECT", name))
    with start_up_unix_server(handler, name), program(need("socat"), *words) as socat:

        def type_all() -> None:
            socat.type(LARGE)
            socat.end_input()

        typing = Task(type_all)
        assert socat.wait() == 0
        typing.result()
        assert socat.out == LARGE[::-1]


@pytest.mark.peer("curl", "nginx")
def test_pages_are_served_to_curl_and_nginx(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    upstream = "server { listen 127.0.0.1:<front>; location / { proxy_pass http://unix:<path>; } }"
    (tmp_path / "posted").write_bytes(LARGE)
    with start_up_unix_server(pages, path), nginx(tmp_path, upstream, path=path) as proxy:
        for url, options in (("http://localhost", ("--unix-socket", path)), (f"http://{V4}:{proxy['front']}", ())):
            for page, content in PAGES.items():
                assert fetched(url + page.decode(), *options) == content
            posted = fetched(url, *options, "-H", "Expect:", "--data-binary", f"@{tmp_path}/posted")
            assert posted == fingerprint(LARGE)
        assert proxy.complaints() == []


# ---- socat's server, our client ------------------------------------------------------------------------


@KINDS
def test_our_stream_is_answered_by_socat(kind: str, name: str) -> None:
    """Both ways at once. (Not by PIPE: socat may wait for itself when more is under way than its pipe holds.)"""
    with listening(to_socat(kind, "LISTEN", name), "EXEC:cat"), opened(name) as stream:
        for number in range(3):
            stream.write(b"line %d\n" % number)
            assert stream.readline() == b"line %d\n" % number
        writing = Task(lambda: send(stream, LARGE))
        assert stream.read_exactly(len(LARGE)) == LARGE
        writing.result()
        stream.shutdown("output")
        assert stream.read() == b""


@KINDS
def test_our_half_close_reaches_socat_and_its_answer_us(kind: str, name: str) -> None:
    with listening(to_socat(kind, "LISTEN", name), "SYSTEM:sort -r") as socat, opened(name) as stream:
        stream.write(b"".join(b"%06d\n" % number for number in range(50_000)))
        stream.shutdown("output")
        assert stream.read() == b"".join(b"%06d\n" % number for number in reversed(range(50_000)))
        assert socat.wait() == 0


@KINDS
def test_socat_that_is_killed_is_gone(kind: str, name: str) -> None:
    """Its connection ends; and nobody listens any more, which a file that is left does not hide."""
    with listening(to_socat(kind, "LISTEN", name)) as socat, opened(name) as stream:
        stream.write(b"there\n")
        assert stream.readline() == b"there\n"
        socat.kill()
        assert stream.read() == b""
    with pytest.raises(SocketConnectError) as caught:
        opened(name)
    assert isinstance(caught.value, ConnectionRefusedError)


# ---- a place that is taken, or only looks so -----------------------------------------------------------


def killed(path: Path) -> None:
    """A socat has listened there, and left its file."""
    with listening(f"UNIX-LISTEN:{path}") as socat:
        socat.kill()
    assert path.is_socket()


def test_the_stale_file_of_a_socat_that_was_killed_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    killed(path)
    before = path.stat().st_ino
    with start_up_unix_server(echo, path), program(need("socat"), "-", f"UNIX-CONNECT:{path}") as socat:
        assert path.stat().st_ino != before
        socat.type(b"fresh\n")
        socat.said(b"fresh\n")
    assert os.listdir(tmp_path) == []


@KINDS
def test_a_socat_that_listens_is_not_replaced(kind: str, name: str) -> None:
    """(It takes one client, and is still there for it.)"""
    with listening(to_socat(kind, "LISTEN", name) + ",fork"):
        with pytest.raises(SocketCreateError, match=r"in use"):
            start_up_unix_server(echo, name)
        with opened(name) as stream:
            stream.write(b"still here\n")
            assert stream.readline() == b"still here\n"


@KINDS
def test_socat_may_listen_where_our_server_did(kind: str, name: str) -> None:
    """Nothing is left in its way."""
    with start_up_unix_server(echo, name), opened(name) as stream:
        stream.write(b"ours\n")
        assert stream.readline() == b"ours\n"
    with listening(to_socat(kind, "LISTEN", name)), opened(name) as stream:
        stream.write(b"socat's\n")
        assert stream.readline() == b"socat's\n"
