"""landline with TLS by Java: the same streams as in landline_tls.py, and another library under them.

Needs landline[java] and a Java runtime. The JVM compiles what it runs often, so each case has some exchanges first.
"""

from __future__ import annotations

import jpype  # noqa: F401 (without it this module is left out)

from benchmarks.sampling import Taken, expect, some, timed
from benchmarks.wire import CHUNK, CHUNK_SIZE, HOST, LIMIT, MESSAGE, TlsServer
from landline import SocketStream, open_tcp_stream_using_java

from . import Peer

WARM = 10_000
"""Exchanges, or a thirtieth as many blocks, before the clock starts."""


class LandlineJava(Peer):
    name = "landline, Java"

    def tls_round_trip(self, server: TlsServer, count: int) -> Taken:
        with opened(server, server.echo) as stream:

            def work(n: int) -> None:
                for _ in range(n):
                    stream.write(MESSAGE)
                    stream.read_exactly(len(MESSAGE))

            work(WARM)
            return timed(work, count)

    def tls_bulk_receive(self, server: TlsServer, count: int) -> Taken:
        buffer = bytearray(CHUNK_SIZE)
        with opened(server, server.source) as stream:

            def work(n: int) -> None:
                left = n * CHUNK_SIZE
                while left > 0:
                    left -= some(stream.readinto(buffer))

            work(WARM // 30)
            return timed(work, count)

    def tls_bulk_send(self, server: TlsServer, count: int) -> Taken:
        with opened(server, server.sink) as stream:

            def work(n: int) -> None:
                for _ in range(n):
                    stream.write(CHUNK)
                stream.flush()

            work(WARM // 30)
            return timed(work, count)


PEERS = [LandlineJava()]


def opened(server: TlsServer, port: int) -> SocketStream:
    stream = open_tcp_stream_using_java(
        HOST, port, trust_store=key_store(server.roots), read_timeout=LIMIT, write_timeout=LIMIT
    )
    expect("TLSv1.3", stream.tls and stream.tls.version)
    return stream


def key_store(roots: str) -> object:
    """A java.security.KeyStore with the certificates of a PEM file."""
    from landline.java.bridge import bridge

    way = bridge()
    store = way.find("java.security.KeyStore").getInstance("PKCS12")
    store.load(None, None)
    reader = way.find("java.security.cert.CertificateFactory").getInstance("X.509")
    with open(roots, "rb") as file:
        stream = way.find("java.io.ByteArrayInputStream")(way.octets(file.read()))
    for number, certificate in enumerate(reader.generateCertificates(stream)):
        store.setCertificateEntry(f"root {number}", certificate)
    return store
