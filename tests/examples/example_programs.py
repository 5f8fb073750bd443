"""The programs in examples/ as a person runs them, each in a process of its own, and the peers they meet.

Most of what command.py does for the `landline` command serves here too: peers made of plain sockets, ports that are
dead or silent, waiting within PATIENCE. What lies beside the tests with real peers, and the examples as
modules, are found by the path below.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / "peers"), str(Path(__file__).parents[2] / "examples")]

import trustme
from command import (
    PATIENCE,
    dead_port,
    environment,
    interrupt,
    peer,
    read_until,
    received_whole,
    reset,
)
from daemons import daemon

__all__ = [
    "HOST",
    "PATIENCE",
    "Authority",
    "Conversation",
    "Identity",
    "daemon",
    "dead_port",
    "failure",
    "interrupt",
    "listening",
    "peer",
    "port_of",
    "port_told_by",
    "read_until",
    "received_whole",
    "reset",
    "run",
    "silent",
    "started",
    "taken_udp_port",
    "until_it_waits",
]

EXAMPLES = Path(__file__).parents[2] / "examples"

HOST = "127.0.0.1"


# ---- the programs ----------------------------------------------------------------------------------


def words(name: str, arguments: tuple[object, ...]) -> list[str]:
    # As a user's own program: warnings are shown, so that a stream left open would be seen on standard error.
    return [sys.executable, "-X", "utf8", "-W", "default", str(EXAMPLES / f"{name}.py"), *map(str, arguments)]


def run(name: str, *arguments: object, stdin: bytes = b"", **extra: str) -> subprocess.CompletedProcess[bytes]:
    """Run an example to its end; `extra` goes to its environment."""
    return subprocess.run(
        words(name, arguments),
        input=stdin,
        capture_output=True,
        check=False,
        timeout=PATIENCE,
        env=environment(extra),
    )


@contextlib.contextmanager
def started(name: str, *arguments: object, **extra: str) -> Iterator[subprocess.Popen[bytes]]:
    """An example running, with a pipe at each of its three ends."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        words(name, arguments), stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, env=environment(extra)
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def failure(done: subprocess.CompletedProcess[bytes]) -> str:
    """The one sentence that a failed example has told on standard error."""
    told = done.stderr.decode()
    assert done.returncode == 1, told
    assert told.count("\n") == 1, told
    assert told.endswith("\n"), told
    assert not told.startswith("["), told  # an OSError that nobody has made a sentence of
    return told[:-1]


def port_told_by(process: subprocess.Popen[bytes], descriptor: str = "stdout") -> int:
    """The port in the first line that a server of the examples tells."""
    told = getattr(process, descriptor)
    line = read_until(told.fileno(), b"\n")
    addresses = [word for word in line.decode().replace(",", " ").split() if word.startswith(f"{HOST}:")]
    assert len(addresses) == 1, line
    return int(addresses[0].rpartition(":")[2])


def until_it_waits(process: subprocess.Popen[bytes]) -> None:
    """Until it stands still, which programs do that wait: asleep in ten looks in a row.

    A Ctrl-C in the moment in which bytes are handed to the kernel may have them sent once more, which the README tells.
    """
    end = time.monotonic() + PATIENCE
    looks = 0
    while looks < 10:
        assert time.monotonic() < end, "the program is still busy"
        state = Path(f"/proc/{process.pid}/stat").read_text("ascii").rpartition(") ")[2][0]
        looks = looks + 1 if state == "S" else 0
        time.sleep(0.002)


# ---- their peers -----------------------------------------------------------------------------------


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    """A socket that listens, for a test that plays the server itself."""
    with socket.create_server((HOST, 0)) as listener:
        listener.settimeout(PATIENCE)
        yield listener


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


class Conversation:
    """A test's end of a connection in lines."""

    def __init__(self, connection: socket.socket, line_end: str = "\r\n") -> None:
        connection.settimeout(PATIENCE)
        self.connection = connection
        self._line_end = line_end
        self._lines = connection.makefile("r", encoding="utf-8", newline=line_end)

    @classmethod
    def accepted(cls, listener: socket.socket) -> Conversation:
        return cls(listener.accept()[0])

    def hear(self) -> str:
        """The next line, without its end; "" after the last."""
        line = self._lines.readline()
        assert not line or line.endswith(self._line_end), line
        return line.removesuffix(self._line_end)

    def say(self, *lines: str) -> None:
        self.connection.sendall("".join(line + self._line_end for line in lines).encode())

    def reset(self) -> None:
        """End as a program does that dies with unread data."""
        self._lines.close()  # which holds the descriptor too
        reset(self.connection)

    def close(self) -> None:
        self._lines.close()
        self.connection.close()

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def silent(connection: socket.socket) -> None:
    """What a peer does that takes everything and says nothing."""
    received_whole(connection)


@contextlib.contextmanager
def taken_udp_port() -> Iterator[tuple[int, socket.socket]]:
    """A port of a plain datagram socket, and that socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        sock.settimeout(PATIENCE)
        yield sock.getsockname()[1], sock


# ---- whom they trust -------------------------------------------------------------------------------


class Identity:
    """A certificate with its key, in files and as contexts of Python's ssl."""

    def __init__(self, authority: trustme.CA, ca_file: Path, folder: Path, name: str) -> None:
        self.authority, self.ca_file = authority, ca_file
        self._leaf = authority.issue_cert(name)
        self.cert_file, self.key_file = folder / f"{name}.pem", folder / f"{name}.key"
        self.cert_file.write_bytes(b"".join(blob.bytes() for blob in self._leaf.cert_chain_pems))
        self.key_file.write_bytes(self._leaf.private_key_pem.bytes())

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._leaf.configure_cert(context)
        return context

    def client_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._leaf.configure_cert(context)
        self.authority.configure_trust(context)
        return context


class Authority:
    """One that signs, with its file."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._authority = trustme.CA()
        self._folder = folder
        self.file = folder / f"{name}.pem"
        self._authority.cert_pem.write_to_path(str(self.file))

    def issue(self, name: str) -> Identity:
        return Identity(self._authority, self.file, self._folder, name)
