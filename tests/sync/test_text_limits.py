"""Text lines where limits, line ends and undecodable bytes meet."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from landline import LimitOverrun, SocketStream, TextSocketStream


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, SocketStream]]:
    ours, theirs = socket.socketpair()
    with theirs, SocketStream(ours, read_timeout=0) as stream:
        yield theirs, stream


def test_a_carriage_return_ends_a_line_within_the_limit(ends: tuple[socket.socket, SocketStream]) -> None:
    peer, stream = ends
    text = TextSocketStream(stream)
    text.line_limit = 10
    peer.sendall(b"OK\rOK\rOK\rOK\rOK\r")
    assert [text.readline() for _ in range(5)] == ["OK\n"] * 5


@pytest.mark.parametrize(("encoding", "newline"), [("utf-8", "\r\n"), ("utf-16-le", None), ("utf-8", None)])
def test_the_line_limit_holds_for_a_line_that_arrives_whole(
    ends: tuple[socket.socket, SocketStream], encoding: str, newline: str | None
) -> None:
    peer, stream = ends
    text = TextSocketStream(stream, encoding, newline=newline)
    text.line_limit = 20
    line = "x" * 50 + (newline or "\n")
    peer.sendall(line.encode(encoding))
    for _ in range(2):
        with pytest.raises(LimitOverrun):
            text.readline()
    text.line_limit = 1000
    assert text.readline() == line


def test_an_undecodable_line_is_refused_whole_and_not_merged_with_the_next(
    ends: tuple[socket.socket, SocketStream],
) -> None:
    peer, stream = ends
    text = TextSocketStream(stream)
    peer.sendall(b"abc")
    with pytest.raises(TimeoutError):
        text.readline()
    peer.sendall(b"\xff def\nnext\n")
    with pytest.raises(UnicodeDecodeError) as caught:
        text.readline()
    assert caught.value.object == b"abc\xff def\n"
    assert text.readline() == "next\n"


def test_input_ready_leaves_what_cannot_be_decoded_to_the_read(ends: tuple[socket.socket, SocketStream]) -> None:
    peer, stream = ends
    text = TextSocketStream(stream)
    peer.sendall(b"\xff\n")
    assert text.input_ready()
    assert text.input_ready()
    with pytest.raises(UnicodeDecodeError):
        text.readline()


@pytest.mark.parametrize("limit", [0, -1, True, 1.5])
def test_a_limit_is_a_positive_whole_number(ends: tuple[socket.socket, SocketStream], limit: int) -> None:
    _, stream = ends
    with pytest.raises(ValueError, match="limit="):
        stream.read_until(b"\n", limit)
    with pytest.raises(ValueError, match="limit="):
        TextSocketStream(stream).read_until("\n", limit)
