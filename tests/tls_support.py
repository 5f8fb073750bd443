"""Certificates, contexts and pairs of sessions for the tests of TLS in memory."""

from __future__ import annotations

import ctypes
import functools
import ssl
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import Any

import pytest
import trustme

from landline.engine.session import Session, SessionFailed

HOST = "peer.example"
ALPN = ["h2", "http/1.1"]

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
BOTH_VERSIONS = pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])


AUTHORITY = trustme.CA()  # made here, because two threads that ask for it at once would get one each


def authority() -> trustme.CA:
    return AUTHORITY


@functools.cache
def certificate(name: str = HOST) -> trustme.LeafCert:
    return authority().issue_cert(name)


def client_context(version: ssl.TLSVersion | None = None, *, trust: bool = True) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trust:
        authority().configure_trust(context)
    return of_version(context, version)


def server_context(version: ssl.TLSVersion | None = None, *, client_certificate: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate().configure_cert(context)
    if client_certificate:
        authority().configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return of_version(context, version)


def of_version(context: ssl.SSLContext, version: ssl.TLSVersion | None) -> ssl.SSLContext:
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def new_client(context: ssl.SSLContext, *, host: str | None = HOST, session: ssl.SSLSession | None = None) -> Session:
    return Session(context, server_side=False, server_hostname=host, session=session)


def new_server(context: ssl.SSLContext) -> Session:
    return Session(context, server_side=True, server_hostname=None)


def pair(version: ssl.TLSVersion) -> tuple[Session, Session]:
    """Client and server before their handshake."""
    return new_client(client_context(version)), new_server(server_context(version))


def connected(version: ssl.TLSVersion) -> tuple[Session, Session]:
    """Client and server after it; nothing is on its way."""
    client, server = pair(version)
    shake(client, server)
    return client, server


def taken(session: Session) -> bytes:
    """All its ciphertext, by a transport that takes everything."""
    pieces = []
    while piece := session.outgoing():
        pieces.append(bytes(piece))
        session.sent(len(piece))
    return b"".join(pieces)


def move(source: Session, target: Session) -> bytes:
    """Hand everything that waits in ``source`` to ``target``."""
    data = taken(source)
    if data:
        target.feed(data)
    return data


def cut(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """``data`` in pieces of these sizes, then of one byte."""
    for size in chain(sizes, repeat(1)):
        if not data:
            return
        yield data[:size]
        data = data[size:]


def shake(client: Session, server: Session) -> None:
    """The handshake, both to the end; SessionFailed of the one that fails, after its alert was delivered."""
    for _ in range(10):
        for one, other in ((client, server), (server, client)):
            try:
                one.handshake()
            finally:
                move(one, other)
        if client.established and server.established and not (client.has_outgoing or server.has_outgoing):
            return
    raise AssertionError("the handshake does not end")


def everything(session: Session) -> bytes:
    """What can be read without feeding more."""
    pieces = []
    while data := session.read(20000):
        pieces.append(data)
    return b"".join(pieces)


def failing(call: Any, *arguments: Any) -> SessionFailed:
    with pytest.raises(SessionFailed) as caught:
        call(*arguments)
    return caught.value


class OpenSsl:
    """What the standard library does not offer, called in the OpenSSL behind it."""

    KEY_UPDATE_REQUESTED = 1
    FRAGMENTS_OF_512 = 1

    def __init__(self) -> None:
        import _ssl

        self._library = ctypes.CDLL(_ssl.__file__)
        self._library.SSL_get_version.restype = ctypes.c_char_p

    def key_update(self, session: Session) -> None:
        assert self._library.SSL_key_update(self._pointer(session), self.KEY_UPDATE_REQUESTED) == 1
        session.ssl_object.do_handshake()

    def renegotiate(self, session: Session) -> None:
        assert self._library.SSL_renegotiate(self._pointer(session)) == 1
        session.ssl_object.do_handshake()

    def ask_for_short_records(self, session: Session) -> None:
        mode = ctypes.c_uint8(self.FRAGMENTS_OF_512)
        assert self._library.SSL_set_tlsext_max_fragment_length(self._pointer(session), mode) == 1

    def _pointer(self, session: Session) -> ctypes.c_void_p:
        # The C object: its head, a reference to a socket, then the SSL*. Tried before it is used for anything.
        behind: Any = session.ssl_object._sslobj  # type: ignore[attr-defined]
        place = id(behind) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
        pointer = ctypes.c_void_p.from_address(place)
        known = session.ssl_object.version()
        if known is not None:
            assert self._library.SSL_get_version(pointer).decode() == known
        return pointer


@functools.cache
def openssl() -> OpenSsl:
    if sys.platform != "linux" or sys.implementation.name != "cpython":
        pytest.skip("reaches into CPython's ssl module, which is known to work on Linux")
    try:
        return OpenSsl()
    except (ImportError, OSError, AttributeError) as error:
        pytest.skip(f"OpenSSL cannot be called from here: {error}")
