"""Real servers for one test: started on a free port, ready when they accept a connection, stopped whatever happens."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

READY_WITHIN = 15.0
"""Seconds a server has until it accepts connections."""

STOPPED_WITHIN = 5.0
"""Seconds a server has to end after SIGTERM, until it is killed."""

ATTEMPTS = 3
"""A port that was free may be taken a moment later by somebody else: the server then ends at once, and is started
again on another one."""


@contextlib.contextmanager
def daemon(command: Callable[[int], Sequence[object]], log: Path) -> Iterator[int]:
    """Run the server of `command(port)`, what it says going to `log`; gives the port."""
    for attempt in range(1, ATTEMPTS + 1):
        port = free_port()
        with log.open("wb") as output:
            words = [str(word) for word in command(port)]
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        with process:
            try:
                if ready(process, port):
                    yield port
                    return
            finally:
                stop(process)
        assert attempt < ATTEMPTS, f"{words[0]} does not accept connections; it said: {log.read_text('utf-8')}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def ready(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the server accepts connections; False when it has ended, or takes too long."""
    end = time.monotonic() + READY_WITHIN
    while process.poll() is None and time.monotonic() < end:
        with socket.socket() as trial:
            # A socket may connect to itself while nobody listens: both ends get the same free port.
            if trial.connect_ex(("127.0.0.1", port)) == 0 and trial.getsockname() != trial.getpeername():
                return True
        time.sleep(0.02)
    return False


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOPPED_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
