"""The `landline` command as a person runs it: in a process of its own, through pipes or at a terminal.

And the other end of its connections: plain sockets, so that a fault of the library cannot hide itself.
Everything waits within `PATIENCE`, and everything that was started is stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

PATIENCE = 20.0
"""Seconds until a test gives up on something that should take far less."""

LANDLINE = (sys.executable, "-m", "landline")

# Makes standard input the controlling terminal, so that a typed Ctrl-C becomes a signal.
AT_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


# ---- the command ---------------------------------------------------------------------------------


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what would change how output looks."""
    unwanted = ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TERMINAL_WIDTH", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {**kept, "TERM": "xterm", **extra}


def run(*arguments: object, stdin: bytes = b"", **extra: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end on `stdin`; `extra` goes to its environment."""
    words = [*LANDLINE, *map(str, arguments)]
    return subprocess.run(
        words, input=stdin, capture_output=True, check=False, timeout=PATIENCE, env=environment(extra)
    )


def failure(done: subprocess.CompletedProcess[bytes]) -> str:
    """The one line that a failed command has told."""
    told = done.stderr.decode()
    assert done.returncode == 1, told
    assert told.startswith("landline: "), told
    assert told.count("\n") == 1, told
    assert told.endswith("\n"), told
    return told.removeprefix("landline: ")[:-1]


@contextlib.contextmanager
def started(*arguments: object, **extra: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command running, with a pipe at each of its three ends."""
    pipe = subprocess.PIPE
    words = [*LANDLINE, *map(str, arguments)]
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, env=environment(extra)) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(descriptor: int, wanted: bytes, seen: bytes = b"") -> bytes:
    """What comes from `descriptor`, until `wanted` is in it; after its end, what there was."""
    end = time.monotonic() + PATIENCE
    while wanted not in seen:
        left = max(0.0, end - time.monotonic())
        assert select.select([descriptor], [], [], left)[0], f"{wanted!r} did not come; there was {seen!r}"
        try:
            data = os.read(descriptor, 65536)
        except OSError:  # a terminal whose other side is closed
            data = b""
        if not data:
            break
        seen += data
    return seen


def interrupt(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Send what Ctrl-C sends; return the exit status and standard error."""
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=PATIENCE)
    return process.returncode, told.decode()


class Terminal:
    """The command at a terminal of 80 columns. `shown` is what has appeared on it."""

    def __init__(self, *arguments: object, **extra: str) -> None:
        self.shown = b""
        self.screen, inside = pty.openpty()
        try:
            words = [sys.executable, "-c", AT_TERMINAL, *LANDLINE, *map(str, arguments)]
            self.process = subprocess.Popen(
                words, stdin=inside, stdout=inside, stderr=inside, start_new_session=True, env=environment(extra)
            )
        finally:
            os.close(inside)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.screen)

    def type(self, keys: bytes) -> None:
        os.write(self.screen, keys)

    def wait_for(self, wanted: bytes) -> None:
        self.shown = read_until(self.screen, wanted, self.shown)
        assert wanted in self.shown, self.shown

    def wait(self) -> int:
        """Until the command has ended; its exit status."""
        self.shown = read_until(self.screen, b"(this never comes)", self.shown)
        return self.process.wait(PATIENCE)


# ---- the other end -------------------------------------------------------------------------------


@contextlib.contextmanager
def peer(handle: Callable[[socket.socket], None], host: str = "127.0.0.1") -> Iterator[int]:
    """A server for one connection, handled in a thread; gives its port. What `handle` raises, this raises."""
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(PATIENCE)
                handle(connection)
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            failures.append(error)

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        listener.settimeout(PATIENCE)
        thread = threading.Thread(target=serve, name="peer")
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join()
    if failures:
        raise failures[0]


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port whose connections are never answered: Linux drops what comes when the backlog is full."""
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port: int = listener.getsockname()[1]
        for _ in range(2):
            filler = opened.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port


@contextlib.contextmanager
def dead_port() -> Iterator[int]:
    """A port where nobody listens, taken so that nobody can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def wait_until_connecting_to(port: int) -> None:
    """Until a connection to `port`, beside those of silent_port(), is under way."""
    wanted = f":{port:04X} 02"  # the peer's port and the state SYN_SENT
    end = time.monotonic() + PATIENCE
    while Path("/proc/net/tcp").read_text("ascii").count(wanted) < 2:
        assert time.monotonic() < end, "the command does not connect"
        time.sleep(0.01)


def wait_until_delivered(connection: socket.socket) -> None:
    """Until the other side's system has everything that was sent."""
    end = time.monotonic() + PATIENCE
    while fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)) != bytes(4):
        assert time.monotonic() < end, "what was sent is not taken"
        time.sleep(0.01)


def received_whole(connection: socket.socket) -> bytes:
    """Everything up to the end of what the command sends."""
    with connection.makefile("rb") as file:
        return file.read()


def reset(connection: socket.socket) -> None:
    """End as a program does that dies with unread data."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
    connection.close()
