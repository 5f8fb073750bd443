"""send_file: the kernel's way and the other one give the same bytes, the same counts, and lose nothing."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from pairs import (
    WAITS,
    each_way_to_wait,
    needs_signals,
    signals,
    stream_pair,
    tls_pair,
)
from tls_support import V13

from landline import SocketStream, StreamClosed, WriteTimeout
from landline.sync.wait import Waits
from landline.testing.contract.stage import Task, until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

SIZE = 9_000_001
PAIRS: dict[str, Callable[[Any], tuple[SocketStream, SocketStream]]] = {
    "plain": stream_pair,
    "tls": lambda waits: tls_pair(waits, V13),
}
each_pair = pytest.mark.parametrize("make", PAIRS.values(), ids=list(PAIRS))


@pytest.fixture(scope="module")
def content() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture
def path(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "file"
    path.write_bytes(content)
    return path


def paused(stream: SocketStream, file: IO[bytes]) -> WriteTimeout | None:
    try:
        stream.send_file(file)
    except WriteTimeout as error:
        return error
    return None


@each_pair
@each_way_to_wait
def test_a_file_arrives_behind_what_was_written(
    make: Any, waits: Callable[[socket.socket], Waits], path: Path, content: bytes
) -> None:
    stream, peer = make(waits)
    with stream, peer, path.open("rb") as file:
        reading = Task(peer.read)
        stream.write(b"head")
        assert stream.send_file(file) == SIZE
        assert file.tell() == SIZE
        assert stream.bytes_sent == SIZE + 4
        stream.write(b"tail")
        stream.close()
        assert reading.result() == b"head" + content + b"tail"


@each_pair
@pytest.mark.parametrize(("offset", "count"), [(0, 10), (5, 0), (8_999_990, None), (8_999_990, 100), (SIZE, 5)])
def test_a_part_of_it(make: Any, offset: int, count: int | None, path: Path, content: bytes) -> None:
    stream, peer = make(WAITS["polled"])
    expected = content[offset : None if count is None else offset + count]
    with stream, peer, path.open("rb") as file:
        file.read(100)  # so that the buffered file has read ahead
        assert stream.send_file(file, offset, count) == len(expected)
        assert file.tell() == offset + len(expected)
        stream.close()
        assert peer.read() == expected


def test_without_an_offset_it_begins_where_the_file_stands(path: Path, content: bytes) -> None:
    stream, peer = stream_pair(WAITS["polled"])
    with stream, peer, path.open("rb") as file:
        assert file.read(7) == content[:7]
        assert stream.send_file(file, count=5) == 5
        assert file.read(2) == content[12:14], "and leaves it where it stopped"
        assert peer.read_exactly(5) == content[7:12]


@each_pair
@each_way_to_wait
def test_after_a_timeout_it_goes_on(
    make: Any, waits: Callable[[socket.socket], Waits], path: Path, content: bytes
) -> None:
    """The file stands where the stream has taken over from it, and nothing comes twice."""
    stream, peer = make(waits)
    stream.write_timeout = 0.005
    with stream, peer, path.open("rb") as file:
        timeouts = 0
        reading: Task[bytes] | None = None
        while file.tell() < SIZE or stream._channel.sending.accepted > stream.bytes_sent:
            error = paused(stream, file)
            if error is not None:
                timeouts += 1
                assert error.accepted == file.tell()
                assert error.sent == stream.bytes_sent <= error.accepted
                reading = reading or Task(lambda: peer.read_exactly(SIZE))
        assert timeouts
        assert reading is not None
        assert reading.result() == content
        assert stream.bytes_sent == SIZE


@each_pair
def test_what_is_no_regular_file_is_read(make: Any, content: bytes) -> None:
    stream, peer = make(WAITS["polled"])
    with stream, peer:
        reading = Task(peer.read)
        assert stream.send_file(io.BytesIO(content)) == SIZE
        readable, writable = os.pipe()
        with os.fdopen(readable, "rb") as source:
            with os.fdopen(writable, "wb") as sink:
                sink.write(b"from a pipe")
            with pytest.raises(OSError, match="seek"):
                stream.send_file(source, 0)
            assert stream.send_file(source) == 11
        stream.close()
        assert reading.result() == content + b"from a pipe"


@each_pair
@each_way_to_wait
@pytest.mark.parametrize("end", ["close", "abort"])
def test_another_thread_ends_it(make: Any, waits: Callable[[socket.socket], Waits], end: str, path: Path) -> None:
    stream, peer = make(waits)
    with peer, path.open("rb") as file, io.BytesIO(bytes(64 << 20)) as much:
        sending = Task(lambda: [stream.send_file(each) for each in (file, much)])
        sending.blocked()
        getattr(stream, end)()
        sending.failure(StreamClosed)
        peer.abort()


@each_way_to_wait
def test_a_deadline_ends_it(waits: Callable[[socket.socket], Waits], path: Path) -> None:
    stream, peer = stream_pair(waits)
    with peer, path.open("rb") as file:
        with stream.deadline(0.05), pytest.raises(WriteTimeout, match="deadline"):
            stream.send_file(file)
        assert 0 < file.tell() == stream.bytes_sent < SIZE
        stream.abort()


@needs_signals
@each_way_to_wait
def test_a_signal_handler_that_raises_loses_no_count(
    waits: Callable[[socket.socket], Waits], path: Path, content: bytes
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    stream, peer = stream_pair(waits)
    with stream, peer, path.open("rb") as file:
        with signals(interrupt, when=lambda: stream.bytes_sent > 0), pytest.raises(KeyboardInterrupt):
            stream.send_file(file)
        assert file.tell() == stream.bytes_sent
        reading = Task(lambda: peer.read_exactly(SIZE))
        stream.send_file(file)
        assert reading.result() == content


def test_a_peer_that_is_gone_is_told(path: Path) -> None:
    stream, peer = stream_pair(WAITS["polled"])
    with stream, path.open("rb") as file:
        peer.abort()
        until(stream.input_ready)
        with pytest.raises(ConnectionError):
            [stream.send_file(file, 0) for _ in range(100)]
        stream.abort()


def test_a_file_that_shrinks_is_its_end(path: Path) -> None:
    stream, peer = stream_pair(WAITS["polled"])
    with stream, peer, path.open("rb") as file:
        os.truncate(path, 10)
        assert stream.send_file(file, 0, 100) == 10
        assert stream.send_file(file) == 0


@pytest.mark.parametrize("wrong", [{"offset": -1}, {"count": -1}, {"offset": True}, {"count": 1.5}])
def test_wrong_arguments_are_refused(wrong: dict[str, Any], path: Path) -> None:
    stream, peer = stream_pair(WAITS["polled"])
    with stream, peer, path.open("rb") as file, pytest.raises(ValueError, match=next(iter(wrong))):
        stream.send_file(file, **wrong)


def test_a_text_file_is_refused(path: Path) -> None:
    stream, peer = stream_pair(WAITS["polled"])
    with stream, peer, path.open(encoding="latin-1") as file, pytest.raises(TypeError, match="binary"):
        stream.send_file(file)  # type: ignore[arg-type]


def test_detaching_gives_the_socket_back_as_it_was(path: Path) -> None:
    for waits in WAITS.values():
        stream, peer = stream_pair(waits)
        with peer, path.open("rb") as file:
            stream.send_file(file, 0, 10)
            with stream.detach() as sock:
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16) == bytes(16)
                assert sock.gettimeout() is None
