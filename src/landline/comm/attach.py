"""TLS on a live stream, and what is known of it: attach-ssl, detach-ssl, the handshake, the connection's readers.

The manual's foreign pointers are Python's own objects here: an ssl-ctx-pointer is an ssl.SSLContext, an ssl-pointer an
ssl.SSLObject, an x509-pointer a certificate that has been read.

Source: LispWorks manual, attach-ssl, detach-ssl, socket-stream-handshake, ssl-connection-verify and their neighbours.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, cast

from ..deadline import checked_timeout
from ..errors import ReadTimeout, SslClosed, SslHandshakeTimeout, WriteTimeout
from ..sync.stream import SocketStream
from ..tls.certificate import Certificate, read_certificate
from ..tls.info import TlsInfo
from ..tls.names import NOT_GIVEN, NotGiven
from .conditions import about, checked_stream
from .keywords import checked_ssl_ctx, has_no_meaning, keyword

if TYPE_CHECKING:
    import ssl

    from ..sync.open import SslSpec

__all__ = [
    "attach_ssl",
    "detach_ssl",
    "get_certificate_common_name",
    "get_certificate_data",
    "get_certificate_serial_number",
    "pem_read",
    "socket_stream_ctx",
    "socket_stream_handshake",
    "socket_stream_ssl",
    "socket_stream_ssl_side",
    "ssl_connection_copy_peer_certificates",
    "ssl_connection_get_peer_certificates_data",
    "ssl_connection_implementation",
    "ssl_connection_protocol_version",
    "ssl_connection_ssl_ref",
    "ssl_connection_verify",
]

VERSIONS = {
    "TLSv1.3": "tls-v1-3",
    "TLSv1.2": "tls-v1-2",
    "TLSv1.1": "tls-v1-1",
    "TLSv1": "tls-v1",
    "SSLv3": "v3",
}


def attach_ssl(
    stream: SocketStream,
    *,
    ssl_ctx: SslSpec = True,
    ssl_side: Literal["client", "server"] = "server",
    ctx_configure_callback: Callable[[ssl.SSLContext], object] | None = None,
    ssl_configure_callback: Callable[[ssl.SSLObject], object] | None = None,
    handshake_timeout: float | None = None,
    tlsext_host_name: str | bool | NotGiven | None = NOT_GIVEN,
) -> ssl.SSLObject:
    """Speak TLS on ``stream`` from here on. The handshake is done when this returns; the ssl.SSLObject is the result.

    Args:
        ssl_ctx: as for open_tcp_stream(). A server needs a certificate: a server ssl_abstract_context, an SSLContext,
            or a ctx_configure_callback that loads one.
        ssl_side: "server" or "client".
        handshake_timeout: seconds, or None.
        tlsext_host_name: a client's SNI. Where nothing else tells whom the stream was opened to (it was made from a
            handle), the certificate must be for this name.

    Raises:
        TypeError, ValueError: a wrong argument, or TLS is active already.
        SslHandshakeTimeout: socket_stream_handshake() goes on with it.
        SslCondition: the handshake failed.
        HasNoMeaning: ssl_side="both": a session of Python's has its side from the beginning.

    Differs: the server's certificate is verified.

    Source: LispWorks manual, attach-ssl.
    """
    side = keyword(ssl_side, "ssl_side", ("client", "server", "both"))
    if side == "both":
        raise has_no_meaning("ssl_side='both'", "a session has its side from the beginning; give 'client' or 'server'")
    checked_stream(stream)
    named = tlsext_host_name if isinstance(tlsext_host_name, str) and stream.report is None else None
    with about(stream):
        stream.start_tls(
            checked_ssl_ctx(ssl_ctx),
            host=named,
            ssl_side=cast(Any, side),
            handshake_timeout=handshake_timeout,
            tlsext_host_name=tlsext_host_name,
            ctx_configure_callback=ctx_configure_callback,
            ssl_configure_callback=ssl_configure_callback,
        )
    attached: Any = socket_stream_ssl(stream)
    return attached  # type: ignore[no-any-return]


def detach_ssl(stream: SocketStream, *, retry_count: int | None = 5, retry_timeout: float = 0.1) -> None:
    """End TLS on both sides, and go on in the clear. Without TLS nothing happens.

    Args:
        retry_count: how often, beyond twice, to wait ``retry_timeout`` seconds for the peer's part; None does not
            insist: it is no error then when the peer does not do it.
        retry_timeout: seconds.

    Raises:
        ReadTimeout, WriteTimeout: the peer has not done its part in time.
        SslCondition: the connection failed.

    Differs: a stream whose peer has not done its part stays as it is, sealed, because what still comes is encrypted;
    detach_ssl() again goes on.

    Source: LispWorks manual, detach-ssl.
    """
    if retry_count is not None and (
        isinstance(retry_count, bool) or not isinstance(retry_count, int) or retry_count < 0
    ):
        raise ValueError(f"retry_count={retry_count!r} is not allowed: it must be a whole number, 0 or more, or None")
    each = checked_timeout(retry_timeout, "retry_timeout") or 0.0
    try:
        with about(checked_stream(stream)), stream.deadline((2 + (retry_count or 0)) * each):
            stream.stop_tls()
    except (ReadTimeout, WriteTimeout):
        if retry_count is not None:
            raise


def socket_stream_handshake(stream: SocketStream, timeout: float | None = None) -> bool:
    """Do the handshake, if it is not done. False when it was not within ``timeout`` seconds, or the peer closed TLS.

    Raises:
        ValueError: the stream does not speak TLS.
        SslCondition: it failed otherwise.

    Source: LispWorks manual, socket-stream-handshake.
    """
    try:
        with about(checked_stream(stream)):
            stream.handshake(timeout)
    except (SslHandshakeTimeout, SslClosed):
        return False
    return True


def socket_stream_ssl(stream: SocketStream) -> ssl.SSLObject | None:
    """The session of a stream: to ask, and not to read from or write to. None when it does not speak TLS.

    Source: LispWorks manual, socket-stream-ssl.
    """
    session = _session(stream)
    return None if session is None else session.ssl_object


def socket_stream_ctx(stream: SocketStream) -> ssl.SSLContext | None:
    """The context of a stream's session; None when it does not speak TLS.

    Source: LispWorks manual, socket-stream-ctx.
    """
    session = socket_stream_ssl(stream)
    return None if session is None else session.context


def socket_stream_ssl_side(stream: SocketStream) -> Literal["client", "server"] | None:
    """This side of a stream's session; None when it does not speak TLS.

    Source: LispWorks manual, socket-stream-ssl-side.
    """
    if _session(stream) is None:
        return None
    transport: Any = stream._channel.transport
    return "server" if transport.plan.server_side else "client"


ssl_connection_ssl_ref = socket_stream_ssl


def ssl_connection_verify(connection: SocketStream) -> tuple[bool, int | str | None]:
    """Whether the peer has a chain to a trusted certificate; and if not, why not.

    Differs: where the context does not verify, the reason is text: Python's ssl does not tell OpenSSL's number.

    Raises:
        ValueError: the connection does not speak TLS.

    Source: LispWorks manual, ssl-connection-verify.
    """
    verification = _info(connection).verify()
    return verification.ok, verification.reason or None


def ssl_connection_protocol_version(connection: SocketStream) -> str:
    """ "tls-v1-3", "tls-v1-2", "tls-v1-1", "tls-v1", "v3" or "unknown".

    Raises:
        ValueError: the connection does not speak TLS.

    Source: LispWorks manual, ssl-connection-protocol-version.
    """
    return VERSIONS.get(_info(connection).version, "unknown")


def ssl_connection_implementation(connection: SocketStream) -> str | None:
    """ "openssl", or "java" where a JVM does it; None when the connection does not speak TLS.

    Source: LispWorks manual, ssl-connection-implementation.
    """
    session = socket_stream_ssl(connection)
    if session is None:
        return None
    import ssl

    return "openssl" if isinstance(session, ssl.SSLObject) else "java"


def ssl_connection_copy_peer_certificates(connection: SocketStream) -> list[Certificate]:
    """The peer's certificates, its own first; [] when it sent none. There is nothing to release.

    Raises:
        ValueError: the connection does not speak TLS.

    Source: LispWorks manual, ssl-connection-copy-peer-certificates.
    """
    return list(_info(connection).certificates)


def ssl_connection_get_peer_certificates_data(connection: SocketStream) -> list[dict[str, object]]:
    """What the peer's certificates say, its own first: get_certificate_data() of each; [] when it sent none.

    Source: LispWorks manual, ssl-connection-get-peer-certificates-data.
    """
    return [get_certificate_data(each) for each in ssl_connection_copy_peer_certificates(connection)]


def get_certificate_data(certificate: Certificate) -> dict[str, object]:
    """What a certificate says, by the manual's keywords: "subject-common-name", "serial-number", and more.

    Differs: a dict instead of a list of pairs.

    Source: LispWorks manual, get-certificate-data.
    """
    checked = _certificate(certificate)
    return {
        "subject-common-name": checked.subject,
        "serial-number": checked.serial_number,
        "issuer-common-name": checked.issuer,
        "dns-names": list(checked.names),
        "ip-addresses": list(checked.addresses),
        "not-before": checked.not_before,
        "not-after": checked.not_after,
        "key-kind": checked.key_kind,
        "key-bits": checked.key_bits,
    }


def get_certificate_common_name(certificate: Certificate) -> str | None:
    """The common name of its subject, or None.

    Source: LispWorks manual, get-certificate-common-name.
    """
    return _certificate(certificate).subject


def get_certificate_serial_number(certificate: Certificate) -> int:
    """Its serial number.

    Source: LispWorks manual, get-certificate-serial-number.
    """
    return _certificate(certificate).serial_number


def pem_read(thing: str, file: str | os.PathLike[str]) -> Certificate:
    """The first certificate in a PEM file.

    Args:
        thing: "X509". (For "DHparams" see read_dhparams().)

    Raises:
        OSError: the file cannot be read.
        ValueError: there is no certificate in it, or another ``thing``.

    Source: LispWorks manual, pem-read.
    """
    keyword(thing, "thing", ("x509",))
    import ssl

    with open(file, encoding="ascii", errors="replace") as opened:
        text = opened.read()
    begin = text.find("-----BEGIN CERTIFICATE-----")
    end = text.find("-----END CERTIFICATE-----", begin)
    if begin < 0 or end < 0:
        raise ValueError(f"file={os.fspath(file)!r} is not allowed: there is no certificate in it (PEM)")
    return read_certificate(ssl.PEM_cert_to_DER_cert(text[begin : end + len("-----END CERTIFICATE-----")]))


def _session(stream: SocketStream) -> Any:
    transport: Any = checked_stream(stream)._channel.transport
    return transport.session if transport.secure else None


def _info(connection: SocketStream) -> TlsInfo:
    if _session(connection) is None or connection.tls is None:
        raise ValueError(f"connection={connection!r} is not allowed: it does not speak TLS")
    return connection.tls


def _certificate(certificate: object) -> Certificate:
    if not isinstance(certificate, Certificate):
        raise TypeError(
            f"certificate={certificate!r} is not allowed: it must be what ssl_connection_copy_peer_certificates() gives"
        )
    return certificate
