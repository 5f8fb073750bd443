"""For tests of TLS through Java: the JVM, stores for it, and streams with Java at the near end.

A JVM in the process of the whole suite would be in the way of other tests: it opens descriptors, and starts and ends
threads, when it likes. So what needs one is in files called inside_*.py, which test_java.py runs in a process of their
own. Each may be given to pytest by its name as well.
"""

from __future__ import annotations

import gc
import os
import socket
import ssl
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("sync", "peers")]

from certificates import Certificates, Identity
from conftest import need
from pairs import stream_pair
from tls_support import HOST, authority, server_context

from landline import SocketStream, open_tcp_stream_using_java
from landline.java.bridge import Bridge, JpypeBridge, bridge
from landline.java.context import JavaContext, MadeContext
from landline.java.stores import context_of
from landline.sync.wait import PolledWaits, Waits
from landline.testing.contract.stage import PATIENCE, Task

FULL = os.environ.get("LANDLINE_FULL") == "1"
LOOPBACK = "127.0.0.1"
PASSWORD = "secret"

WEAK = "RSA keySize < 2048"
"""What OpenSSL minds by itself, and Java only when it is told to."""

# Quick to start, with one thread to collect garbage, and nothing that opens a file now and then.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:+UseSerialGC -XX:-UseContainerSupport -XX:-UsePerfData -Xmx256m")


# ---- stores ----------------------------------------------------------------------------------------------


def trust_of(*pems: bytes, kind: str = "PKCS12") -> Any:
    """A java.security.KeyStore with these authorities (PEM)."""
    way = bridge()
    store = way.find("java.security.KeyStore").getInstance(kind)
    store.load(None, None)
    reader = way.find("java.security.cert.CertificateFactory").getInstance("X.509")
    for number, pem in enumerate(pems):
        stream = way.find("java.io.ByteArrayInputStream")(way.octets(pem))
        store.setCertificateEntry(f"authority {number}", reader.generateCertificate(stream))
    return store


def saved(store: Any, path: Path, password: str = PASSWORD) -> Path:
    """The file of a java.security.KeyStore."""
    way = bridge()
    out = way.find("java.io.ByteArrayOutputStream")()
    store.store(out, password)
    path.write_bytes(way.data(out.toByteArray()))
    return path


def identity_file(identity: Identity, path: Path, password: str = PASSWORD) -> Path:
    """Key, certificate and chain as PKCS12."""
    locked = BestAvailableEncryption(password.encode())
    path.write_bytes(
        pkcs12.serialize_key_and_certificates(b"own", identity.key, identity.certificate, identity.chain, locked)
    )
    return path


@pytest.fixture(scope="session", name="trust_file")
def trust_file_fixture(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that trusts the authority of the matrix of certificates."""
    return saved(trust_of(certificates.root.pem), tmp_path_factory.mktemp("stores") / "trust.p12")


# ---- streams ---------------------------------------------------------------------------------------------


@cache
def trusting() -> JavaContext:
    """A context that trusts the authority of tls_support."""
    made = context_of(trust_store=trust_of(authority().cert_pem.bytes()))
    return JavaContext(lambda: made)


@cache
def trusting_sockets() -> JavaContext:
    """The same, by an SSLSocketFactory."""
    made = unwatched(trust_of(authority().cert_pem.bytes()))
    return JavaContext(lambda: MadeContext(made.getSocketFactory(), None))


def unwatched(trusted: Any) -> Any:
    """A javax.net.ssl.SSLContext as a caller makes it."""
    way = bridge()
    factory = way.find("javax.net.ssl.TrustManagerFactory")
    maker = factory.getInstance(factory.getDefaultAlgorithm())
    maker.init(trusted)
    context = way.find("javax.net.ssl.SSLContext").getInstance("TLS")
    context.init(None, maker.getTrustManagers(), None)
    return context


def java_pair(
    waits: Callable[[socket.socket], Waits],
    version: ssl.TLSVersion | None = None,
    context: Callable[[], JavaContext] = trusting,
) -> tuple[SocketStream, SocketStream]:
    """Two streams after their handshake: a client through Java that waits in the given way, and OpenSSL's server."""
    stream, peer = stream_pair(waits)
    of_server = server_context(version)
    serving = Task(lambda: peer.start_tls(of_server))
    stream.start_tls(context(), host=HOST)  # type: ignore[arg-type]
    serving.result()
    return stream, peer


def opened(port: int, trust_file: Path, host: Any = LOOPBACK, **more: Any) -> SocketStream:
    stream: SocketStream = open_tcp_stream_using_java(
        host, port, trust_store=trust_file, trust_store_password=PASSWORD,
        timeout=PATIENCE, read_timeout=PATIENCE, write_timeout=PATIENCE, **more,
    )  # fmt: skip
    return stream


# ---- the JVM ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", name="way")
def way_fixture() -> Bridge:
    """The JVM, which has opened by now what it will keep open."""
    need("java")
    way = bridge()
    assert isinstance(way, JpypeBridge)
    security, name = way.find("java.security.Security"), "jdk.certpath.disabledAlgorithms"
    policy = str(security.getProperty(name))
    if WEAK not in policy:
        security.setProperty(name, f"{policy}, {WEAK}")  # looked at once, by the first handshake
    for context in (trusting, trusting_sockets):
        for each in java_pair(PolledWaits, context=context):
            each.close()
    gc.collect()
    gc.freeze()  # `no_leaks` collects for each test: let it look at what is new only
    return way
