"""A JVM at the other end: one for all tests of a module, told by each of them what its TLS sockets are to do.

`java/TlsPeer.java` says how it is told. It runs from its source, which any Java since 11 does that has its
compiler module (Debian's smallest package, without the development kit, has it): about a second, once.
"""

from __future__ import annotations

import gc
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from certificates import Certificates, Identity
from conftest import lacking, need
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from landline import (
    SocketStream,
    SslAbstractContext,
    create_ssl_client_context,
    create_ssl_server_context,
    open_tcp_stream,
)
from landline.testing.contract.stage import PATIENCE
from landline.tls.info import TlsInfo

HOST = "localhost"
ADDRESS = "127.0.0.1"

VERSIONS = ("TLSv1.2", "TLSv1.3")

PASSWORD = "secret"
"""Of the key stores; the Java program knows it."""

PROGRAM = Path(__file__).with_name("java") / "TlsPeer.java"


class JavaFailed(Exception):
    """What Java was told to do ended with a Java exception.

    Attributes:
        kind: its class, without the package.
        why: what it says, then what its causes say.
    """

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(f"{kind}: {why}")
        self.kind = kind
        self.why = why


class JavaPeer:
    """One server or client in the JVM. A context manager: at its end the peer is gone, with its connections."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((ADDRESS, port), PATIENCE)
        self._lines = self._socket.makefile("r", encoding="utf-8", newline="\n")

    def __enter__(self) -> JavaPeer:
        return self

    def __exit__(self, *error: object) -> None:
        self._lines.close()
        self._socket.close()

    def tell(self, *order: object) -> None:
        """Have something done. Orders queue up; each has an answer."""
        self._socket.sendall("\t".join(map(str, order)).encode() + b"\n")

    def answer(self) -> dict[str, str]:
        """What became of the first order that was not answered yet. Raises JavaFailed."""
        line = self._lines.readline()
        assert line, "the JVM has gone"
        result, *fields = line.rstrip("\n").split("\t")
        said = dict(field.split("=", 1) for field in fields)
        if result != "ok":
            raise JavaFailed(said["kind"], said["why"])
        return said

    def ask(self, *order: object) -> dict[str, str]:
        """Have something done, and wait for what becomes of it."""
        self.tell(*order)
        return self.answer()

    def failure(self) -> JavaFailed:
        """As answer(), where a failure is expected."""
        with pytest.raises(JavaFailed) as caught:
            self.answer()
        return caught.value

    def refusal(self) -> str:
        """The alert that a client got of a server that refuses it. The answers to its orders to connect and to read:
        in TLS 1.3 the handshake may be over for it by then."""
        try:
            self.answer()
        except JavaFailed as failed:
            self.failure()
            why = failed.why
        else:
            why = self.failure().why
        return why.partition("Received fatal alert: ")[2] or why

    def write(self, data: bytes, *pieces: int) -> None:
        """Have it written, in pieces of these sizes, again and again; without any, in one."""
        self.ask("write", data.hex(), *pieces)

    def read(self, most: int) -> bytes:
        """So many bytes, or fewer: then its end of file has come."""
        said = self.ask("read", most)
        data = bytes.fromhex(said["data"])
        assert (said["end"] == "true") == (len(data) < most)
        return data


class Jvm:
    """A running Java virtual machine."""

    def __init__(self, port: int, folder: Path) -> None:
        self._port = port
        self._folder = folder

    @contextmanager
    def server(self, identity: Identity, **options: object) -> Iterator[tuple[JavaPeer, int]]:
        """A server that shows this certificate, and its port; TlsPeer.java says what the options are."""
        with JavaPeer(self._port) as peer:
            yield peer, int(peer.ask("server", *self._words(identity, options))["port"])

    @contextmanager
    def client(self, trust: str, identity: Identity | None = None, **options: object) -> Iterator[JavaPeer]:
        """A client that trusts this authority, or these."""
        with JavaPeer(self._port) as peer:
            peer.ask("client", f"trust={trust}", *self._words(identity, options))
            yield peer

    def _words(self, identity: Identity | None, options: dict[str, object]) -> list[str]:
        words = [f"{name}={value}" for name, value in options.items()]
        if identity is not None:
            words.append(f"key={key_store(identity, self._folder)}")
        return words


def key_store(identity: Identity, folder: Path) -> Path:
    """Key, certificate and chain as Java wants them: a PKCS12 file."""
    path = folder / (identity.path.name + ".p12")
    if not path.exists():
        locked = BestAvailableEncryption(PASSWORD.encode())
        whole = pkcs12.serialize_key_and_certificates(
            b"own", identity.key, identity.certificate, identity.chain, locked
        )
        path.write_bytes(whole)
    return path


# ---- a connection, seen from both ends ----------------------------------------------------------------


class Meeting(NamedTuple):
    """A connection after its handshake: our end, Java's, and what Java says of the handshake."""

    stream: SocketStream
    java: JavaPeer
    seen: dict[str, str]


@dataclass(frozen=True)
class Stage:
    """What all tests start from: the JVM, and certificates that both sides trust."""

    jvm: Jvm
    certificates: Certificates
    local: Identity

    def client(self, identity: Identity | None = None, **more: Any) -> SslAbstractContext:
        """A context for our client, which trusts the tests' authority."""
        return create_ssl_client_context(
            openssl_trusted_file=self.certificates.trusted_file, **_files(identity), **more
        )

    def server(self, identity: Identity | None = None, **more: Any) -> SslAbstractContext:
        """A context for our server."""
        return create_ssl_server_context(**_files(identity or self.local), **more)

    def java_server(self, version: str | None = None, **options: object) -> Any:
        return self.jvm.server(self.local, **_versions(version), **options)

    def java_client(self, version: str | None = None, identity: Identity | None = None, **options: object) -> Any:
        return self.jvm.client(self.certificates.trusted_file, identity, **_versions(version), **options)

    @contextmanager
    def meet(self, java_is: str, version: str, *, told: Any = None, **options: Any) -> Iterator[Meeting]:
        """A connection to or from Java; ``told`` configures our context."""
        if java_is == "server":
            context = self.client(openssl_ctx_configure_callback=told)
            with self.java_server(version, **options) as (java, port):
                java.tell("accept")
                with until_the_end(opened(port, context)) as stream:
                    yield Meeting(stream, java, java.answer())
        else:
            context = self.server(openssl_ctx_configure_callback=told)
            with self.java_client(version, **options) as java, accepted(java) as stream:
                stream.start_tls(context, ssl_side="server")
                yield Meeting(stream, java, java.answer())


def opened(port: int, context: SslAbstractContext, **more: Any) -> SocketStream:
    """Our client's end of a new connection to Java."""
    stream: SocketStream = open_tcp_stream(
        HOST, port, ssl_ctx=context, ipv6=False, timeout=PATIENCE, read_timeout=PATIENCE, write_timeout=PATIENCE, **more
    )
    return stream


@contextmanager
def accepted(java: JavaPeer, name: str = HOST) -> Iterator[SocketStream]:
    """Our server's end of a connection that Java opens, before the handshake."""
    with socket.create_server((ADDRESS, 0)) as listener:
        listener.settimeout(PATIENCE)
        java.tell("connect", listener.getsockname()[1], name)
        sock, _ = listener.accept()
    with until_the_end(SocketStream(sock, read_timeout=PATIENCE, write_timeout=PATIENCE)) as stream:
        yield stream


@contextmanager
def until_the_end(stream: SocketStream) -> Iterator[SocketStream]:
    """The stream, gone at the end in whatever state the test has left it."""
    try:
        yield stream
    finally:
        stream.abort()


def known(stream: SocketStream) -> TlsInfo:
    assert stream.tls is not None
    return stream.tls


def _files(identity: Identity | None) -> dict[str, Any]:
    return {} if identity is None else {"cert_file": identity.cert_file, "key_file": identity.key_file}


def _versions(version: str | None) -> dict[str, Any]:
    return {} if version is None else {"versions": version}


class Wire:
    """What OpenSSL tells about records and messages, which the public part of ssl does not."""

    def __init__(self) -> None:
        self.lengths: list[int] = []  # of the records with payload that came
        self.key_updates = {"read": 0, "write": 0}

    def __call__(self, context: ssl.SSLContext) -> None:
        context._msg_callback = self._hear  # type: ignore[attr-defined]

    def _hear(self, _object: object, direction: str, _version: object, content: int, message: int, data: bytes) -> None:
        application_data, header, handshake, key_update = 23, 0x100, 22, 24
        if content == header and direction == "read" and data[0] == application_data:
            self.lengths.append(int.from_bytes(data[3:5], "big"))
        elif content == handshake and message == key_update:
            self.key_updates[direction] += 1


# ---- fixtures --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", name="jvm")
def jvm_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jvm]:
    java, folder = need("java"), tmp_path_factory.mktemp("java")
    with (folder / "said").open("w+b") as said:
        command = [java, "-XX:+UseSerialGC", str(PROGRAM)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said)
        with process:
            try:
                assert process.stdout is not None
                port = process.stdout.readline()
                if not port:
                    said.seek(0)
                    _complain(java, said.read().decode(errors="replace"))
                gc.collect()
                gc.freeze()  # `no_leaks` collects for each test: let it look at what is new only
                yield Jvm(int(port), folder)
            finally:
                process.kill()


def _complain(java: str, said: str) -> None:
    """It did not start: because it cannot run a source file, or because this one is wrong."""
    modules = subprocess.run([java, "--list-modules"], capture_output=True, text=True, check=False).stdout
    if "jdk.compiler" not in modules:
        lacking(f"needs Java 11 or newer with its compiler; {java} says: {said.strip() or 'nothing'}")
    pytest.fail(f"{PROGRAM.name} does not run: {said}")


@pytest.fixture(scope="session", name="local")
def local_fixture(certificates: Certificates) -> Identity:
    """A certificate for this machine's loopback interface, signed as all good ones are."""
    certificate, key = certificates.middle.issue(HOST, ADDRESS)
    return Identity(certificate, key, (certificates.middle.certificate,), certificates.folder / HOST)


@pytest.fixture(name="stage")
def stage_fixture(jvm: Jvm, certificates: Certificates, local: Identity) -> Stage:
    return Stage(jvm, certificates, local)
