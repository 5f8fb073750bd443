"""What ``landline serve`` does with a connection: one function for each kind, of the stream alone.

Each returns when the connection is over, or raises the condition that ended it; the server closes the stream.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from threading import Thread
from typing import IO

from .. import ReadTimeout, SocketError, SocketStream, StreamClosed
from ..sync.wait import wait_for_sockets

__all__ = ["discard", "echo", "execute", "send_file_to"]

BLOCK = 1 << 18

LAST_WORDS = 10.0
"""Seconds that a peer has to hang up after it was sent everything. Whoever closes first while something of the peer's
is still on its way makes the system reset the connection, which can destroy the end of what was sent."""

LOOK = 0.25
"""Seconds until a thread that waits for a command notices that the connection is gone."""

TIME_TO_END = 2.0
"""Seconds that a command has after SIGTERM."""


def echo(stream: SocketStream) -> None:
    """Send back what comes, as it comes."""
    while data := stream.read1(BLOCK):
        stream.write(data)
        stream.flush()


def discard(stream: SocketStream) -> None:
    """Read until the peer ends."""
    while stream.read1(BLOCK):
        pass


def send_file_to(stream: SocketStream, path: Path) -> None:
    """Send the file as it is now, then wait until the peer has hung up too, within LAST_WORDS.

    Raises:
        OSError: it cannot be read; the peer sees a reset, not an empty file.
    """
    try:
        with path.open("rb") as file:
            stream.send_file(file)
    except SocketError:
        raise
    except OSError:
        stream.abort()
        raise
    stream.shutdown("output")
    with contextlib.suppress(ReadTimeout), stream.deadline(LAST_WORDS):
        discard(stream)


def execute(stream: SocketStream, command: str) -> None:
    """Run a command of the shell: what comes is its input, its output is sent. Its end is the end; if a signal has
    killed it, the peer sees a reset.

    It runs in a process group of its own, which is ended when the connection breaks.
    """
    peer = str(stream.peer_address) if stream.peer_address is not None else ""
    process = subprocess.Popen(
        command,
        shell=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
        env={**os.environ, "LANDLINE_PEER": peer},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    answers = Thread(target=_send_answers, args=(stream, process), name="landline exec", daemon=True)
    answers.start()
    try:
        with process.stdin as feed:
            _feed(stream, feed, process)
        process.wait()
        answers.join()
    except StreamClosed:
        if stream.closed or not _is_ending(process):
            raise
    finally:
        _end(process)
        answers.join(TIME_TO_END)
        process.stdout.close()


def _is_ending(process: subprocess.Popen[bytes]) -> bool:
    """Its output has ended; give it a moment to follow."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(TIME_TO_END)
    return process.returncode is not None


def _feed(stream: SocketStream, feed: IO[bytes], process: subprocess.Popen[bytes]) -> None:
    os.set_blocking(feed.fileno(), False)
    while data := stream.read1(BLOCK):
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(feed.fileno(), view) :]
            except BlockingIOError:
                if stream.closed:
                    raise StreamClosed("the connection was closed", operation="receive") from None
                wait_for_sockets((), [feed.fileno()], LOOK)
            except BrokenPipeError:  # it wants no more; it may still have something to say
                view = memoryview(b"")


def _send_answers(stream: SocketStream, process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    with contextlib.suppress(SocketError, OSError, ValueError):
        try:
            while data := os.read(process.stdout.fileno(), BLOCK):
                stream.write(data)
                stream.flush()
            if _is_ending(process) and process.returncode < 0:
                stream.abort()  # killed: what it has said is not to be taken for all of it
            stream.shutdown("output")
        finally:
            stream.shutdown("input")  # which wakes whoever still waits for the peer


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in signal.SIGTERM, signal.SIGKILL:
        if process.poll() is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(TIME_TO_END)
