"""The page itself: open-tcp-stream, with its own defaults and its own result; and its neighbours.

Source: LispWorks manual, open-tcp-stream, connect-to-tcp-server, 25.3 and 25.8.6.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

from ..address import HostSpec, ServiceSpec, parse_host
from ..errors import SocketError
from ..java.open import open_tcp_stream_using_java, switch_open_tcp_stream_with_ssl_to_java
from ..sync.open import connect_to_tcp_server as connect
from ..sync.open import opened
from ..tls.names import NOT_GIVEN, NotGiven
from .keywords import checked_element_type, checked_positive, checked_ssl_ctx, ipv6_of, keepalive_of, keyword
from .socket_stream import DIRECTIONS, Opened, SocketStream

if TYPE_CHECKING:
    import ssl

    from ..sync.open import SslSpec

__all__ = [
    "connect_to_tcp_server",
    "open_tcp_stream",
    "open_tcp_stream_using_java",
    "switch_open_tcp_stream_with_ssl_to_java",
]


@overload
def open_tcp_stream(
    hostspec: HostSpec,
    service: ServiceSpec,
    *,
    direction: Literal["input", "output", "io"] = ...,
    element_type: object = ...,
    errorp: Literal[False] | None = ...,
    read_timeout: float | None = ...,
    write_timeout: float | None = ...,
    timeout: float | None = ...,
    ssl_ctx: SslSpec = ...,
    ctx_configure_callback: Callable[[ssl.SSLContext], object] | None = ...,
    ssl_configure_callback: Callable[[ssl.SSLObject], object] | None = ...,
    handshake_timeout: float | None = ...,
    tlsext_host_name: str | bool | NotGiven | None = ...,
    local_address: HostSpec | None = ...,
    ipv6: bool | Literal["any"] | None = ...,
    local_port: ServiceSpec | None = ...,
    nodelay: object = ...,
    keepalive: object = ...,
) -> Opened: ...


@overload
def open_tcp_stream(
    hostspec: HostSpec,
    service: ServiceSpec,
    *,
    direction: Literal["input", "output", "io"] = ...,
    element_type: object = ...,
    errorp: Literal[True],
    read_timeout: float | None = ...,
    write_timeout: float | None = ...,
    timeout: float | None = ...,
    ssl_ctx: SslSpec = ...,
    ctx_configure_callback: Callable[[ssl.SSLContext], object] | None = ...,
    ssl_configure_callback: Callable[[ssl.SSLObject], object] | None = ...,
    handshake_timeout: float | None = ...,
    tlsext_host_name: str | bool | NotGiven | None = ...,
    local_address: HostSpec | None = ...,
    ipv6: bool | Literal["any"] | None = ...,
    local_port: ServiceSpec | None = ...,
    nodelay: object = ...,
    keepalive: object = ...,
) -> SocketStream: ...


def open_tcp_stream(
    hostspec: HostSpec,
    service: ServiceSpec,
    *,
    direction: Literal["input", "output", "io"] = "io",
    element_type: object = "base-char",
    errorp: object = False,
    read_timeout: float | None = None,
    write_timeout: float | None = None,
    timeout: float | None = None,
    ssl_ctx: SslSpec = None,
    ctx_configure_callback: Callable[[ssl.SSLContext], object] | None = None,
    ssl_configure_callback: Callable[[ssl.SSLObject], object] | None = None,
    handshake_timeout: float | None = None,
    tlsext_host_name: str | bool | NotGiven | None = NOT_GIVEN,
    local_address: HostSpec | None = None,
    ipv6: bool | Literal["any"] | None = "any",
    local_port: ServiceSpec | None = None,
    nodelay: object = True,
    keepalive: object = False,
) -> Opened | SocketStream:
    """Connect to a server: a stream and None, or None and the condition; with a true ``errorp`` the stream alone.

    Args:
        hostspec: a name, a numeric address, an IPv4 address as an integer, or an ipv6_address.
        service: a port, or the name of a service.
        direction: "input", "output" or "io".
        element_type: "base-char" or str; "unsigned-byte" or bytes; "signed-byte".
        errorp: true raises conditions instead.
        read_timeout, write_timeout: of the stream: positive seconds without progress, or None.
        timeout: positive seconds for connecting, the lookup included, or None.
        ssl_ctx: None for no TLS; True, "default", "v23", "tls-v1-2" or "tls-v1-3"; an ssl.SSLContext (the manual's
            foreign pointer); a client ssl_abstract_context.
        ctx_configure_callback: called with the SSLContext that is made for a symbol.
        ssl_configure_callback: called with the ssl.SSLObject.
        handshake_timeout: seconds for the TLS handshake, or None.
        tlsext_host_name: the name to send (SNI); True: the host, unless it is numeric; None or False: none. Not given:
            the abstract context's own, or else as True.
        local_address, local_port: what to bind to; None: the system chooses.
        ipv6: "any": either family; True: IPv6; None or False: IPv4.
        nodelay, keepalive: true sets TCP_NODELAY, SO_KEEPALIVE.

    Raises:
        TypeError, ValueError: a wrong argument, whatever ``errorp`` says.
        SocketError: with ``errorp``: what landline.open_tcp_stream() raises.

    Differs: with TLS the server's certificate is verified, and SSL 2 and 3, TLS 1.0 and 1.1 are refused; ``timeout``
    holds for the handshake too, where ``handshake_timeout`` does not; a write that times out raises WriteTimeout; a
    numeric string of the family that ``ipv6`` excludes is a wrong argument.

    Source: LispWorks manual, open-tcp-stream.
    """
    way: Any = keyword(direction, "direction", DIRECTIONS)
    kind = checked_element_type(element_type)
    for what, seconds in (("read_timeout", read_timeout), ("write_timeout", write_timeout), ("timeout", timeout)):
        checked_positive(seconds, what)
    try:
        parse_host(hostspec, "hostspec")
        stream: SocketStream = opened(
            partial(SocketStream._opened, kind),
            hostspec,
            service,
            direction=way,
            timeout=timeout,
            read_timeout=read_timeout,
            write_timeout=write_timeout,
            ssl_ctx=checked_ssl_ctx(ssl_ctx),
            ctx_configure_callback=ctx_configure_callback,
            ssl_configure_callback=ssl_configure_callback,
            handshake_timeout=handshake_timeout,
            tlsext_host_name=tlsext_host_name,
            local_address=local_address,
            local_port=local_port,
            ipv6=ipv6_of(ipv6, hostspec),
            nodelay=nodelay,
            keepalive=keepalive_of(keepalive),
        )
    except SocketError as condition:
        if errorp:
            raise
        return Opened(None, condition)
    return stream if errorp else Opened(stream, None)


def connect_to_tcp_server(
    hostspec: HostSpec,
    service: ServiceSpec,
    *,
    errorp: object = True,
    timeout: float | None = None,
    local_address: HostSpec | None = None,
    local_port: ServiceSpec | None = None,
    keepalive: object = False,
    nodelay: object = True,
    ipv6: bool | Literal["any"] | None = "any",
) -> socket.socket | None:
    """Connect to a server: the handle, a socket.socket, which is the caller's. With a false ``errorp`` failure gives
    None.

    Args and exceptions as for open_tcp_stream().

    Source: LispWorks manual, connect-to-tcp-server.
    """
    checked_positive(timeout, "timeout")
    try:
        parse_host(hostspec, "hostspec")
        return connect(
            hostspec,
            service,
            timeout=timeout,
            local_address=local_address,
            local_port=local_port,
            ipv6=ipv6_of(ipv6, hostspec),
            nodelay=nodelay,
            keepalive=keepalive_of(keepalive),
        )
    except SocketError:
        if errorp:
            raise
        return None
