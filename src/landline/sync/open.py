"""The front door: open_tcp_stream() and connect_to_tcp_server().

All arguments are checked first, before anything is opened: wrong ones raise TypeError or ValueError whatever
``errorp`` says, because they are mistakes in the program and not news from the network.

Source: LispWorks manual, open-tcp-stream, connect-to-tcp-server and 25.3 (hosts and services).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from ..address import HostSpec, ServiceSpec, SocketAddress, parse_host, parse_service
from ..deadline import Deadline, checked_timeout
from ..engine.race import ATTEMPT_DELAY, checked_attempt_delay
from ..engine.text import checked_text_arguments
from ..errors import SocketError
from ..options import KeepAlive, SocketOptions
from ..tls.names import NOT_GIVEN, NotGiven
from .attempt import Target
from .cancel import Cancel
from .connect import connect
from .flow import Direction, checked_direction
from .stream import SocketStream
from .text_stream import TextSocketStream
from .transport import PlainTransport

if TYPE_CHECKING:
    import ssl

    from ..tls.abstract import SslAbstractContext
    from .proxied import ProxySpec

__all__ = ["connect_to_tcp_server", "open_tcp_stream", "opened"]

SslSpec: TypeAlias = "bool | str | ssl.SSLContext | SslAbstractContext | None"
CtxCallback: TypeAlias = "Callable[[ssl.SSLContext], object]"
SslCallback: TypeAlias = "Callable[[ssl.SSLObject], object]"

tls_elsewhere: Callable[[Any], Any] | None = None
"""From ssl_ctx to what stands for it while TLS is switched to another library than OpenSSL (java/switch.py)."""


@overload
def open_tcp_stream(
    host: HostSpec,
    service: ServiceSpec,
    *,
    direction: Direction = ...,
    element_type: type[bytes] = ...,
    encoding: str = ...,
    errors: str = ...,
    newline: str | None = ...,
    errorp: Literal[True] = ...,
    timeout: float | None = ...,
    read_timeout: float | None = ...,
    write_timeout: float | None = ...,
    ssl_ctx: SslSpec = ...,
    ctx_configure_callback: CtxCallback | None = ...,
    ssl_configure_callback: SslCallback | None = ...,
    handshake_timeout: float | None = ...,
    tlsext_host_name: str | bool | NotGiven | None = ...,
    local_address: HostSpec | None = ...,
    local_port: ServiceSpec | None = ...,
    ipv6: bool | Literal["any"] | None = ...,
    nodelay: object = ...,
    keepalive: bool | KeepAlive | None = ...,
    socket_configure_callback: Callable[[socket.socket], object] | None = ...,
    proxy_protocol: ProxySpec = ...,
    attempt_delay: float = ...,
    cancel: Cancel | None = ...,
) -> SocketStream: ...


@overload
def open_tcp_stream(
    host: HostSpec,
    service: ServiceSpec,
    *,
    direction: Direction = ...,
    element_type: type[str],
    encoding: str = ...,
    errors: str = ...,
    newline: str | None = ...,
    errorp: Literal[True] = ...,
    timeout: float | None = ...,
    read_timeout: float | None = ...,
    write_timeout: float | None = ...,
    ssl_ctx: SslSpec = ...,
    ctx_configure_callback: CtxCallback | None = ...,
    ssl_configure_callback: SslCallback | None = ...,
    handshake_timeout: float | None = ...,
    tlsext_host_name: str | bool | NotGiven | None = ...,
    local_address: HostSpec | None = ...,
    local_port: ServiceSpec | None = ...,
    ipv6: bool | Literal["any"] | None = ...,
    nodelay: object = ...,
    keepalive: bool | KeepAlive | None = ...,
    socket_configure_callback: Callable[[socket.socket], object] | None = ...,
    proxy_protocol: ProxySpec = ...,
    attempt_delay: float = ...,
    cancel: Cancel | None = ...,
) -> TextSocketStream: ...


@overload
def open_tcp_stream(
    host: HostSpec,
    service: ServiceSpec,
    *,
    direction: Direction = ...,
    element_type: type[bytes] = ...,
    encoding: str = ...,
    errors: str = ...,
    newline: str | None = ...,
    errorp: Literal[False] | None,
    timeout: float | None = ...,
    read_timeout: float | None = ...,
    write_timeout: float | None = ...,
    ssl_ctx: SslSpec = ...,
    ctx_configure_callback: CtxCallback | None = ...,
    ssl_configure_callback: SslCallback | None = ...,
    handshake_timeout: float | None = ...,
    tlsext_host_name: str | bool | NotGiven | None = ...,
    local_address: HostSpec | None = ...,
    local_port: ServiceSpec | None = ...,
    ipv6: bool | Literal["any"] | None = ...,
    nodelay: object = ...,
    keepalive: bool | KeepAlive | None = ...,
    socket_configure_callback: Callable[[socket.socket], object] | None = ...,
    proxy_protocol: ProxySpec = ...,
    attempt_delay: float = ...,
    cancel: Cancel | None = ...,
) -> tuple[SocketStream, None] | tuple[None, SocketError]: ...


@overload
def open_tcp_stream(
    host: HostSpec,
    service: ServiceSpec,
    *,
    direction: Direction = ...,
    element_type: type[str],
    encoding: str = ...,
    errors: str = ...,
    newline: str | None = ...,
    errorp: Literal[False] | None,
    timeout: float | None = ...,
    read_timeout: float | None = ...,
    write_timeout: float | None = ...,
    ssl_ctx: SslSpec = ...,
    ctx_configure_callback: CtxCallback | None = ...,
    ssl_configure_callback: SslCallback | None = ...,
    handshake_timeout: float | None = ...,
    tlsext_host_name: str | bool | NotGiven | None = ...,
    local_address: HostSpec | None = ...,
    local_port: ServiceSpec | None = ...,
    ipv6: bool | Literal["any"] | None = ...,
    nodelay: object = ...,
    keepalive: bool | KeepAlive | None = ...,
    socket_configure_callback: Callable[[socket.socket], object] | None = ...,
    proxy_protocol: ProxySpec = ...,
    attempt_delay: float = ...,
    cancel: Cancel | None = ...,
) -> tuple[TextSocketStream, None] | tuple[None, SocketError]: ...


def open_tcp_stream(
    host: HostSpec,
    service: ServiceSpec,
    *,
    direction: Direction = "io",
    element_type: type[bytes] | type[str] = bytes,
    encoding: str = "utf-8",
    errors: str = "strict",
    newline: str | None = None,
    errorp: bool | None = True,
    timeout: float | None = None,
    read_timeout: float | None = None,
    write_timeout: float | None = None,
    ssl_ctx: SslSpec = None,
    ctx_configure_callback: CtxCallback | None = None,
    ssl_configure_callback: SslCallback | None = None,
    handshake_timeout: float | None = None,
    tlsext_host_name: str | bool | NotGiven | None = NOT_GIVEN,
    local_address: HostSpec | None = None,
    local_port: ServiceSpec | None = None,
    ipv6: bool | Literal["any"] | None = "any",
    nodelay: object = True,
    keepalive: bool | KeepAlive | None = False,
    socket_configure_callback: Callable[[socket.socket], object] | None = None,
    proxy_protocol: ProxySpec = None,
    attempt_delay: float = ATTEMPT_DELAY,
    cancel: Cancel | None = None,
) -> Any:
    """Connect to a server and return a stream.

    The fastest working address wins (RFC 8305): names are looked up in both families at once, and the next
    address is tried when one has failed or has not answered for ``attempt_delay`` seconds. With ``ssl_ctx`` the
    stream speaks TLS, and the peer has proved who it is before this returns.

    Args:
        host: a name, a numeric address ("192.0.2.1", "fe80::1%eth0"), an IPv4 address as int (most significant
            byte first), or an ipaddress value. With TLS, whom the peer's certificate must be for.
        service: a port, a string of digits, or a service name ("http").
        direction: "input", "output" or "io": what the stream allows.
        element_type: bytes gives a SocketStream, str a TextSocketStream with ``encoding``, ``errors`` and
            ``newline``, which are as for open().
        errorp: False returns (stream, None) or (None, condition) instead of raising conditions.
        timeout: seconds for the whole opening: the lookup, every attempt and TLS. None: as long as it takes.
        read_timeout, write_timeout: the stream's idle limits in seconds; None is no limit, 0 does not wait.
        ssl_ctx: None or False: no TLS. True or "default": TLS 1.2 or later, the system's trust, names checked;
            "tls-v1-2" and "tls-v1-3" say which version is the lowest. An ssl.SSLContext is used as it is; or what
            create_ssl_client_context() gives.
        ctx_configure_callback: called with the SSLContext that is made for this call, which is then shared with no
            other; not for a context of your own.
        ssl_configure_callback: called with the ssl.SSLObject before its handshake.
        handshake_timeout: seconds for the TLS handshake, which then does not count for ``timeout``. Where neither is
            given read_timeout bounds each wait in it.
        tlsext_host_name: the name sent to the server (SNI): a string; True for the host unless it is numeric; None or
            False for none. Not given: the context's own, or else as True. Whom we trust does not depend on it.
        local_address, local_port: what to bind to, given like host and service; None lets the system choose.
            A local address of one family restricts the race to it.
        ipv6: "any" for both families, True for IPv6 only, False or None for IPv4 only.
        nodelay: TCP_NODELAY.
        keepalive: SO_KEEPALIVE: True, KeepAlive(idle, interval, count), or detect_dead_peer(seconds).
        socket_configure_callback: called with each socket before it is bound and connected; what it raises
            is that attempt's failure.
        proxy_protocol: "v1" or "v2" begins with a PROXY header, before TLS, that tells this end's address and the
            server's; a ProxyHeader tells what it holds (for a proxy). The server must expect it.
        attempt_delay: seconds between attempts, from 0.01 to 2.
        cancel: ends the opening from another thread, with StreamClosed.

    Raises:
        TypeError, ValueError: a wrong argument, named; also with errorp=False. Nothing was opened.
        SocketCreateError: local work failed: an unknown service, a bad local address, no descriptors, a file of the
            TLS context.
        HostLookupError: the name was not found.
        SocketConnectError: every attempt failed; also ConnectionRefusedError and the like, where all
            attempts failed for that one reason.
        ConnectTimeout: the time was over.
        SslVerificationFailure: the peer is not whom we asked for.
        SslFailure, SslVersionOrCipherMismatch: the peer speaks no TLS, or none that we agree on, or refuses us.
        SslHandshakeTimeout: it did not do its part in time.
        SslError, SslClosed: it went away in the middle of the handshake.
        StreamClosed: ``cancel`` was set.

    After any of them nothing is left open. KeyboardInterrupt, and what a callback raises, end the opening as cleanly.

    Source: LispWorks manual, open-tcp-stream; RFC 8305 sections 3 to 5.
    """
    return opened(SocketStream._over, **locals())


def opened(
    over: Callable[..., SocketStream],
    /,
    host: HostSpec,
    service: ServiceSpec,
    *,
    direction: Direction = "io",
    element_type: type[bytes] | type[str] = bytes,
    encoding: str = "utf-8",
    errors: str = "strict",
    newline: str | None = None,
    errorp: bool | None = True,
    timeout: float | None = None,
    read_timeout: float | None = None,
    write_timeout: float | None = None,
    ssl_ctx: SslSpec = None,
    ctx_configure_callback: CtxCallback | None = None,
    ssl_configure_callback: SslCallback | None = None,
    handshake_timeout: float | None = None,
    tlsext_host_name: str | bool | NotGiven | None = NOT_GIVEN,
    local_address: HostSpec | None = None,
    local_port: ServiceSpec | None = None,
    ipv6: bool | Literal["any"] | None = "any",
    nodelay: object = True,
    keepalive: bool | KeepAlive | None = False,
    socket_configure_callback: Callable[[socket.socket], object] | None = None,
    proxy_protocol: ProxySpec = None,
    attempt_delay: float = ATTEMPT_DELAY,
    cancel: Cancel | None = None,
) -> Any:
    """open_tcp_stream(), whose stream ``over`` makes of a transport and what else SocketStream._over() takes."""
    checked_direction(direction)
    if element_type not in (bytes, str):
        raise ValueError(f"element_type={element_type!r} is not allowed: it must be bytes or str")
    if element_type is str:
        checked_text_arguments(encoding, errors, newline)
    read_timeout = checked_timeout(read_timeout, "read_timeout")
    write_timeout = checked_timeout(write_timeout, "write_timeout")
    timeout = checked_timeout(timeout, "timeout")
    handshake_timeout = checked_timeout(handshake_timeout, "handshake_timeout")
    rest = Deadline.after(timeout)

    try:
        target = _checked_target(
            cancel, host, service,
            local_address, local_port, ipv6, nodelay, keepalive, socket_configure_callback, attempt_delay,
        )  # fmt: skip
        if proxy_protocol is not None:
            from .proxied import header_to_send

            header_to_send(proxy_protocol, _ANY, _ANY)  # which checks it
        plan = None
        if not (
            ssl_ctx is None
            and tlsext_host_name is NOT_GIVEN
            and ctx_configure_callback is None
            and ssl_configure_callback is None
        ):
            from ..tls.plan import client_plan

            if tls_elsewhere is not None:
                ssl_ctx = tls_elsewhere(ssl_ctx)
            plan = client_plan(
                ssl_ctx,
                target.host,
                tlsext_host_name=tlsext_host_name,
                ctx_configure_callback=ctx_configure_callback,
                ssl_configure_callback=ssl_configure_callback,
            )
        connected = connect(target, timeout, cancel)
        transport: Any = PlainTransport(connected.sock)
        stream: SocketStream | None = None
        try:
            if proxy_protocol is not None:
                from .proxied import send_header

                send_header(proxy_protocol, transport, connected.local_address, connected.peer_address)
            if plan is not None:
                from .handshake import begin

                transport = begin(transport, plan, connected.peer_address)
            stream = over(
                transport,
                direction=direction,
                peer_address=connected.peer_address,
                local_address=connected.local_address,
                report=connected.report,
            )
            if read_timeout is not None:
                stream.read_timeout = read_timeout
            stream._channel.write_timeout = write_timeout
            made = stream if element_type is bytes else TextSocketStream(stream, encoding, errors, newline)
            if plan is not None:
                from .handshake import Limit, open_with_tls

                limit = Limit.of(handshake_timeout, timeout, rest, read_timeout)
                open_with_tls(stream._channel, transport, made, limit, cancel)
        except BaseException:
            if stream is None:
                transport.close(None)
            else:
                with suppress(OSError):
                    stream.close()
            raise
    except SocketError as condition:
        if errorp:
            raise
        return None, condition
    return made if errorp else (made, None)


@overload
def connect_to_tcp_server(
    host: HostSpec,
    service: ServiceSpec,
    *,
    errorp: Literal[True] = ...,
    timeout: float | None = ...,
    local_address: HostSpec | None = ...,
    local_port: ServiceSpec | None = ...,
    ipv6: bool | Literal["any"] | None = ...,
    nodelay: object = ...,
    keepalive: bool | KeepAlive | None = ...,
    socket_configure_callback: Callable[[socket.socket], object] | None = ...,
    attempt_delay: float = ...,
    cancel: Cancel | None = ...,
) -> socket.socket: ...


@overload
def connect_to_tcp_server(
    host: HostSpec,
    service: ServiceSpec,
    *,
    errorp: Literal[False] | None,
    timeout: float | None = ...,
    local_address: HostSpec | None = ...,
    local_port: ServiceSpec | None = ...,
    ipv6: bool | Literal["any"] | None = ...,
    nodelay: object = ...,
    keepalive: bool | KeepAlive | None = ...,
    socket_configure_callback: Callable[[socket.socket], object] | None = ...,
    attempt_delay: float = ...,
    cancel: Cancel | None = ...,
) -> tuple[socket.socket, None] | tuple[None, SocketError]: ...


def connect_to_tcp_server(
    host: HostSpec,
    service: ServiceSpec,
    *,
    errorp: bool | None = True,
    timeout: float | None = None,
    local_address: HostSpec | None = None,
    local_port: ServiceSpec | None = None,
    ipv6: bool | Literal["any"] | None = "any",
    nodelay: object = True,
    keepalive: bool | KeepAlive | None = False,
    socket_configure_callback: Callable[[socket.socket], object] | None = None,
    attempt_delay: float = ATTEMPT_DELAY,
    cancel: Cancel | None = None,
) -> Any:
    """Connect as open_tcp_stream() does, and return the connected socket: blocking, without time limits.

    Arguments, errors and what holds after them are those of open_tcp_stream(). SocketStream(sock) makes a
    stream of it later.

    Source: LispWorks manual, connect-to-tcp-server.
    """
    timeout = checked_timeout(timeout, "timeout")
    try:
        target = _checked_target(
            cancel, host, service,
            local_address, local_port, ipv6, nodelay, keepalive, socket_configure_callback, attempt_delay,
        )  # fmt: skip
        sock = connect(target, timeout, cancel).sock
    except SocketError as condition:
        if errorp:
            raise
        return None, condition
    sock.settimeout(None)
    return sock if errorp else (sock, None)


_ANY = SocketAddress("::", 0)


def _checked_target(cancel: Cancel | None, *where_and_how: Any) -> Target:
    if cancel is not None and not isinstance(cancel, Cancel):
        raise TypeError(f"cancel={cancel!r} is not allowed: it must be a Cancel, or None")
    return _target(*where_and_how)


def _target(
    host: HostSpec,
    service: ServiceSpec,
    local_address: HostSpec | None,
    local_port: ServiceSpec | None,
    ipv6: bool | Literal["any"] | None,
    nodelay: object,
    keepalive: bool | KeepAlive | None,
    callback: Callable[[socket.socket], object] | None,
    attempt_delay: float,
) -> Target:
    if callback is not None and not callable(callback):
        raise TypeError(f"socket_configure_callback={callback!r} is not allowed: it must be callable, or None")
    if attempt_delay != ATTEMPT_DELAY:
        checked_attempt_delay(attempt_delay)
    parsed = parse_host(host)
    local = None if local_address is None else parse_host(local_address, "local_address")
    families = _families(ipv6)
    if parsed.family is not None:
        families = _restricted(families, parsed.family, "host", host, f"ipv6={ipv6!r}")
    if local is not None and local.family is not None:
        against = f"host={host!r}" if parsed.family is not None else f"ipv6={ipv6!r}"
        families = _restricted(families, local.family, "local_address", local_address, against)
    return Target(
        parsed,
        parse_service(service),
        families,
        local,
        0 if local_port is None else parse_service(local_port, what="local_port"),
        SocketOptions.checked(nodelay, keepalive),
        callback,
        attempt_delay,
    )


def _families(ipv6: object) -> tuple[int, ...]:
    if ipv6 == "any":
        return (socket.AF_INET6, socket.AF_INET)
    if ipv6 is True:
        return (socket.AF_INET6,)
    if ipv6 is False or ipv6 is None:
        return (socket.AF_INET,)
    raise ValueError(f"ipv6={ipv6!r} is not allowed: it must be 'any', True (only IPv6), or False or None (only IPv4)")


def _restricted(families: tuple[int, ...], family: int, what: str, value: object, against: str) -> tuple[int, ...]:
    """``families``, less those that a numeric host rules out."""
    if family in families:
        return (family,)
    kind = "IPv6" if family == socket.AF_INET6 else "IPv4"
    raise ValueError(f"{what}={value!r} is not allowed with {against}: it is an {kind} address")
