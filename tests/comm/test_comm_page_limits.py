"""The page of open-tcp-stream, sentence by sentence: read-timeout and write-timeout, as socket-stream's page has them.

A read that timed out has found the end of the stream, says the manual; comm's switch makes it an error instead, and
in either case nothing is lost, which is this library's own promise.

Source: LispWorks manual, open-tcp-stream and socket-stream (read-timeout, write-timeout).
"""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pages import (
    connection,
)

from landline import ReadTimeout, WriteTimeout, comm
from landline.testing.contract.stage import BRIEF, MUCH, PATIENCE, Task, until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

SILENCE = 0.05
"""Seconds: a read_timeout that is meant to pass."""


# ---- read-timeout ----------------------------------------------------------------------------------------


def test_read_timeout_is_none_by_default_and_reads_wait() -> None:
    with connection() as (stream, far):
        assert comm.stream_read_timeout(stream) is None
        reading = Task(lambda: comm.read_char(stream)).blocked()
        far.sendall(b"x")
        assert reading.result() == "x"


READERS: dict[str, Callable[..., Any]] = {
    "read_char": comm.read_char,
    "read_line": lambda stream, *eof: comm.read_line(stream, *eof).line,
    "peek_char": lambda stream, *eof: comm.peek_char(None, stream, *eof),
    "read_byte": comm.read_byte,
}

each_reader = pytest.mark.parametrize("read", READERS.values(), ids=list(READERS))


@each_reader
def test_read_timeout_ends_the_stream(read: Callable[..., Any]) -> None:
    with connection(read_timeout=SILENCE, element_type=bytes) as (stream, _):
        assert comm.stream_read_timeout(stream) == SILENCE
        assert read(stream, False, "the end") == "the end"
        with pytest.raises(comm.end_of_file) as caught:
            read(stream)
        assert caught.value.stream is stream
        assert isinstance(caught.value.__cause__, ReadTimeout)
        assert comm.open_stream_p(stream)


@each_reader
@pytest.mark.parametrize("switched", ["the stream", "its class", "a subclass"])
def test_read_timeout_action_error_signals_it_instead(
    read: Callable[..., Any], switched: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if switched == "its class":
        monkeypatch.setattr(comm.SocketStream, "read_timeout_action", "error")
    with connection(read_timeout=SILENCE, element_type=bytes) as (stream, far):
        if switched == "the stream":
            stream.read_timeout_action = "error"
        elif switched == "a subclass":

            class Strict(comm.SocketStream):
                read_timeout_action = "error"

            handle = comm.replace_socket_stream_socket(stream, None)
            stream = Strict(socket=handle, read_timeout=SILENCE, element_type=bytes)
        with stream:
            with pytest.raises(ReadTimeout):
                read(stream, False, "the end")
            far.sendall(b"\n")
            far.shutdown(socket.SHUT_WR)
            assert read(stream) in ("\n", "", 10)
            stream.read_timeout_action = "end-of-file"
            stream.read()
            assert read(stream, False, "the end") == "the end"


def test_read_timeout_loses_nothing() -> None:
    """What had come when the time was over is there for the next call, all of it."""
    with connection(read_timeout=SILENCE) as (stream, far):
        far.sendall(b"half a ")
        until(lambda: comm.listen(stream))
        assert comm.read_line(stream, None, "eof") == ("eof", True)
        far.sendall(b"line\nand half ")
        stream.read_timeout = PATIENCE
        assert comm.read_line(stream) == ("half a line", False)
        stream.read_timeout = SILENCE
        assert comm.read_line(stream, None, "eof") == ("eof", True)
        far.shutdown(socket.SHUT_WR)
        assert comm.read_line(stream) == ("and half ", True)
        assert comm.read_line(stream, None, "eof") == ("eof", True)


@pytest.mark.parametrize("action", ["end-of-file", "error"])
def test_read_timeout_gives_read_sequence_what_came(action: Any) -> None:
    with connection(read_timeout=SILENCE) as (stream, far):
        stream.read_timeout_action = action
        far.sendall(b"abc")
        until(lambda: comm.listen(stream))
        into = ["-"] * 5
        if action == "error":
            with pytest.raises(ReadTimeout):
                comm.read_sequence(into, stream)
            stream.read_timeout = PATIENCE
            assert comm.read_sequence(into, stream, end=3) == 3
        else:
            assert comm.read_sequence(into, stream) == 3
            stream.read_timeout = PATIENCE
        assert into == ["a", "b", "c", "-", "-"]
        far.sendall(b"de")
        assert comm.read_sequence(into, stream, start=3) == 5
        assert into == ["a", "b", "c", "d", "e"]


def test_read_timeout_is_between_arrivals_and_not_for_the_whole_read() -> None:
    """Twelve pauses, each a tenth of it."""
    with connection(read_timeout=1.0) as (stream, far):
        pause = threading.Event()

        def drip() -> None:
            for _ in range(12):
                pause.wait(0.1)
                far.sendall(b"x")

        dripping = Task(drip)
        assert comm.read_sequence([None] * 12, stream) == 12
        dripping.result()


def test_read_timeout_is_not_for_read_char_no_hang() -> None:
    with connection(read_timeout=PATIENCE) as (stream, far):
        assert comm.read_char_no_hang(stream) is None
        assert not comm.listen(stream)
        far.sendall(b"x")
        until(lambda: comm.listen(stream))
        assert comm.read_char_no_hang(stream) == "x"
        far.shutdown(socket.SHUT_WR)
        until(lambda: comm.read_char_no_hang(stream, False, "eof") == "eof")


# ---- write-timeout ---------------------------------------------------------------------------------------


def test_write_timeout_is_none_by_default_and_writes_wait() -> None:
    text = "x" * (4 * MUCH)
    with connection() as (stream, far):
        assert comm.stream_write_timeout(stream) is None

        def write() -> None:
            comm.write_string(text, stream)
            comm.force_output(stream)

        writing = Task(write).blocked()
        assert len(received(far, len(text))) == len(text)
        writing.result()


def test_write_timeout_is_signalled_and_loses_nothing() -> None:
    data = random.Random(7).randbytes(4 * MUCH)
    with connection(write_timeout=BRIEF) as (stream, far):
        assert comm.stream_write_timeout(stream) == BRIEF
        with pytest.raises(WriteTimeout) as caught:
            comm.write_sequence(data, stream)
        assert comm.socket_error_connection(caught.value) is stream
        assert caught.value.accepted == len(data)
        reading = Task(lambda: received(far, len(data)))
        stream.write_timeout = PATIENCE
        comm.force_output(stream)
        assert hashlib.sha256(reading.result()).digest() == hashlib.sha256(data).digest()


def received(far: socket.socket, count: int) -> bytes:
    got = bytearray()
    while len(got) < count and (more := far.recv(1 << 20)):
        got += more
    return bytes(got)
