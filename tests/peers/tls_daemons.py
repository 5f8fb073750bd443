"""openssl's s_server and s_client at the other end: started, listened to, typed to, and stopped whatever happens.

Both obey letters at the beginning of what they read from their standard input at once, and throw away what is
behind them in the same piece. So a command is typed alone, after what was typed before has been seen to arrive.
Data for such a peer is made of digits, which no version of openssl takes for a command.

With ``-state`` they say on their standard error, unbuffered, each step of a handshake or a key update, our answers
included: that is what tests wait for.
"""

from __future__ import annotations

import contextlib
import fcntl
import random
import socket
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from certificates import Authority, Certificates, Identity
from conftest import need
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from landline import SocketStream, create_ssl_client_context, create_ssl_server_context, open_tcp_stream
from landline.testing.contract.stage import PATIENCE, Task, until
from landline.tls.abstract import SslAbstractContext

HOST = "localhost"
ADDRESS = "127.0.0.1"

OPTIONS = {"1.2": "-tls1_2", "1.3": "-tls1_3"}
"""How openssl is told which version to speak."""

BOTH_VERSIONS = pytest.mark.parametrize("version", list(OPTIONS))

BIG = 20_000_000
"""Bytes of a large transfer: more than every buffer on the way."""

BEGIN, END = b"<<begin>>", b"<<end>>"
"""Around a large transfer."""

HELLO_REQUEST, RENEGOTIATED = b"write hello request", b"SSLv3/TLS read finished"
"""What s_server notes with ``-state`` of a renegotiation; the latter also of the first handshake."""


def digits(count: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(count).translate(bytes(48 + number % 10 for number in range(256)))


# ---- who proves what -----------------------------------------------------------------------------


class Parties:
    """Certificates for a conversation on this machine, and contexts of ours that know them.

    Attributes:
        trusted_file: the authority that both sides trust.
        server: a certificate for HOST and ADDRESS.
        second: one for second.example.
        ann, eve: clients'; eve's authority is trusted by nobody.
    """

    def __init__(self, certificates: Certificates) -> None:
        self.trusted_file = certificates.trusted_file
        leaf, key = certificates.middle.issue(HOST, ADDRESS)
        self.server = Identity(leaf, key, (certificates.middle.certificate,), certificates.folder / HOST)
        leaf, key = certificates.root.issue("second.example")  # s_server can show nothing above its second one
        self.second = Identity(leaf, key, (), certificates.folder / "second")
        self.ann = certificates["client"]
        other = Authority("Another Authority")
        leaf, key = other.issue(common_name="Eve", usage=ExtendedKeyUsageOID.CLIENT_AUTH)
        self.eve = Identity(leaf, key, (other.certificate,), certificates.folder / "eve")

    def client_context(self, identity: Identity | None = None, **more: Any) -> SslAbstractContext:
        return create_ssl_client_context(openssl_trusted_file=self.trusted_file, **_files(identity), **more)

    def server_context(self, identity: Identity | None = None, **more: Any) -> SslAbstractContext:
        if more.get("verify_callback"):
            more["openssl_trusted_file"] = self.trusted_file
        return create_ssl_server_context(**_files(identity or self.server), **more)


def _files(identity: Identity | None) -> dict[str, Any]:
    return {} if identity is None else {"cert_file": identity.cert_file, "key_file": identity.key_file}


@pytest.fixture(scope="session", name="parties")
def parties_fixture(certificates: Certificates) -> Parties:
    return Parties(certificates)


def shown(identity: Identity) -> tuple[str, ...]:
    """The options with which openssl shows a certificate and what stands above it."""
    above = identity.path.with_suffix(".above")
    above.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in identity.chain))
    return ("-cert", identity.cert_file, "-cert_chain", str(above), "-key", identity.key_file)


def opened(port: int, ssl_ctx: Any, host: Any = HOST, **more: Any) -> SocketStream:
    """A stream of ours to somebody on this machine."""
    stream: SocketStream = open_tcp_stream(
        host, port, ssl_ctx=ssl_ctx, ipv6=None, timeout=PATIENCE, read_timeout=PATIENCE, write_timeout=PATIENCE, **more
    )
    return stream


def greet(stream: SocketStream, server: Program) -> None:
    """From here on s_server prints nothing but what we write."""
    send(stream, BEGIN)
    server.said(BEGIN)


def send(stream: SocketStream, data: bytes) -> None:
    stream.write(data)
    stream.flush()


def exchange(stream: SocketStream, peer: Program) -> None:
    """A line each way, which makes a session of TLS 1.3 resumable: its tickets come before data."""
    send(stream, b"ours\n")
    peer.said(b"ours\n")
    peer.type(b"22222\n")
    assert stream.readline() == b"22222\n"


def secrets(file: Path) -> set[str]:
    """The lines of a key log."""
    found = {line for line in file.read_text("ascii").splitlines() if not line.startswith("#")}
    assert found
    return found


def waiting(stream: SocketStream) -> int:
    """Bytes of ciphertext that the kernel has for us."""
    return int.from_bytes(fcntl.ioctl(stream.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)


# ---- openssl -------------------------------------------------------------------------------------


class Program:
    """A program with a pipe at each of its three ends; what it says is taken as it comes.

    Attributes:
        out, err: what it has said so far.
    """

    def __init__(self, *words: object, folder: Path | None = None) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([*map(str, words)], stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, cwd=folder)
        self.out, self.err = bytearray(), bytearray()
        ends = (self.process.stdout, self.out), (self.process.stderr, self.err)
        self._taking = [Task(_taker(pipe, into)) for pipe, into in ends]

    def type(self, data: bytes) -> None:
        """Hand it to its standard input, all of it."""
        assert self.process.stdin is not None
        view = memoryview(data)
        while view:
            view = view[self.process.stdin.write(view) :]

    def end_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def said(self, wanted: bytes, count: int = 1) -> None:
        """Wait until it has said this so often on its standard output."""
        self._wait_for(wanted, count, self.out)

    def noted(self, wanted: bytes, count: int = 1) -> None:
        """Wait until it has said this so often on its standard error."""
        self._wait_for(wanted, count, self.err)

    def wait(self) -> int:
        """Wait until it has ended, and all that it has said is there; its exit status."""
        status = self.process.wait(PATIENCE)
        for each in self._taking:
            each.result()
        return status

    def kill(self) -> None:
        """At once, and without a word of TLS to the peer."""
        self.process.kill()

    def _wait_for(self, wanted: bytes, count: int, where: bytearray) -> None:
        until(lambda: where.count(wanted) >= count or all(each.ended_at for each in self._taking))
        assert where.count(wanted) >= count, f"{wanted!r} was said {where.count(wanted)} times; {self.told()}"

    def told(self) -> str:
        return f"out: {bytes(self.out[-4000:])!r}, err: {bytes(self.err[-4000:])!r}"


def _taker(pipe: IO[bytes] | None, into: bytearray) -> Callable[[], None]:
    assert pipe is not None

    def take() -> None:
        while data := pipe.read(1 << 16):
            into.extend(data)

    return take


@contextlib.contextmanager
def program(*words: object, folder: Path | None = None) -> Iterator[Program]:
    """Run a program for as long as the block lasts."""
    made = Program(*words, folder=folder)
    with made.process:
        try:
            yield made
        finally:
            made.kill()
            made.wait()


@contextlib.contextmanager
def s_server(
    parties: Parties, version: str, *options: object, folder: Path | None = None
) -> Iterator[tuple[Program, int]]:
    """`openssl s_server`, and the port where it listens (it says so itself: no trial takes its first connection)."""
    words = ("s_server", "-accept", f"{ADDRESS}:0", *shown(parties.server), OPTIONS[version], *options)
    with program(need("openssl"), *words, folder=folder) as server:
        until(lambda: b"\n" in server.out.partition(b"ACCEPT ")[2] or server.process.poll() is not None)
        address = server.out.partition(b"ACCEPT ")[2].partition(b"\n")[0]
        assert address, server.told()
        yield server, int(address.rpartition(b":")[2])


@contextlib.contextmanager
def s_client(parties: Parties, port: int, *options: object, commands: bool = False) -> Iterator[Program]:
    """`openssl s_client`, connected to us. What it receives, and nothing else, is in its ``out``.

    With ``commands`` it obeys letters, and the end of its input ends the connection; else neither.
    """
    trust = ("-CAfile", parties.trusted_file, "-verify_hostname", HOST, "-verify_return_error")
    mode = "-brief" if commands else "-quiet"
    words = ("s_client", "-connect", f"{ADDRESS}:{port}", mode, *trust, *options)
    with program(need("openssl"), *words) as client:
        yield client


@contextlib.contextmanager
def accepted(
    parties: Parties, version: str, *options: object, commands: bool = False
) -> Iterator[tuple[SocketStream, Program]]:
    """An s_client that has just connected: our side of the connection, still in the clear, and the program."""
    with (
        socket.create_server((ADDRESS, 0)) as listener,
        s_client(parties, listener.getsockname()[1], OPTIONS[version], *options, commands=commands) as client,
    ):
        listener.settimeout(PATIENCE)
        stream = SocketStream(listener.accept()[0], read_timeout=PATIENCE, write_timeout=PATIENCE)
        try:
            yield stream, client
        finally:
            stream.abort()
