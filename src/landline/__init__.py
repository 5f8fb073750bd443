"""landline: TCP connections for people who need to trust them.

The public names, nothing else. Each is imported when it is first used, so that ``import landline`` stays
as cheap as ``import socket``.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own constant would cost its import, more than all the rest of this file
if TYPE_CHECKING:
    from typing import Any

    from .address import (
        SocketAddress,
        ip_address_string,
        ipv6_address_scope_id,
        parse_ipv6_address,
        string_ip_address,
    )
    from .engine.proxy import ProxyHeader
    from .errors import (
        ConnectTimeout,
        HostLookupError,
        IncompleteRead,
        LimitOverrun,
        ReadTimeout,
        SocketConnectError,
        SocketCreateError,
        SocketError,
        SocketIOError,
        SslClosed,
        SslCondition,
        SslError,
        SslFailure,
        SslHandshakeTimeout,
        SslVerificationFailure,
        SslVersionOrCipherMismatch,
        StreamClosed,
        WriteTimeout,
    )
    from .java.open import open_tcp_stream_using_java, switch_open_tcp_stream_with_ssl_to_java
    from .options import KeepAlive, detect_dead_peer
    from .report import AttemptRecord, ConnectionReport, HandshakeRecord, LookupRecord
    from .sync.cancel import Cancel
    from .sync.listen import inherited_sockets
    from .sync.lookup import (
        HostEntry,
        ServiceEntry,
        get_default_local_ipv6_address,
        get_host_entry,
        get_ip_default_zone_id,
        get_service_entry,
    )
    from .sync.open import connect_to_tcp_server, open_tcp_stream
    from .sync.ready import wait_for_input_streams, wait_for_input_streams_returning_first
    from .sync.server import Server, start_up_server
    from .sync.stream import SocketStream
    from .sync.text_stream import TextSocketStream
    from .sync.udp import UdpSocket
    from .sync.udp_conditions import DatagramTruncated
    from .sync.udp_open import open_udp_socket
    from .sync.udp_server import Datagram, UdpServer, start_up_udp_server
    from .sync.unix import open_unix_stream, start_up_unix_server
    from .tls.abstract import SslAbstractContext, create_ssl_client_context, create_ssl_server_context
    from .tls.certificate import Certificate
    from .tls.info import TlsInfo, Verification

__version__ = "0.1.0"

_HOMES = {
    "address": (
        "SocketAddress", "ip_address_string", "ipv6_address_scope_id", "parse_ipv6_address", "string_ip_address",
    ),
    "engine.proxy": ("ProxyHeader",),
    "errors": (
        "ConnectTimeout", "HostLookupError", "IncompleteRead", "LimitOverrun", "ReadTimeout", "SocketConnectError",
        "SocketCreateError", "SocketError", "SocketIOError", "SslClosed", "SslCondition", "SslError", "SslFailure",
        "SslHandshakeTimeout", "SslVerificationFailure", "SslVersionOrCipherMismatch", "StreamClosed", "WriteTimeout",
    ),
    "java.open": ("open_tcp_stream_using_java", "switch_open_tcp_stream_with_ssl_to_java"),
    "options": ("KeepAlive", "detect_dead_peer"),
    "report": ("AttemptRecord", "ConnectionReport", "HandshakeRecord", "LookupRecord"),
    "sync.cancel": ("Cancel",),
    "sync.listen": ("inherited_sockets",),
    "sync.lookup": (
        "HostEntry", "ServiceEntry", "get_default_local_ipv6_address", "get_host_entry", "get_ip_default_zone_id",
        "get_service_entry",
    ),
    "sync.open": ("connect_to_tcp_server", "open_tcp_stream"),
    "sync.ready": ("wait_for_input_streams", "wait_for_input_streams_returning_first"),
    "sync.server": ("Server", "start_up_server"),
    "sync.stream": ("SocketStream",),
    "sync.text_stream": ("TextSocketStream",),
    "sync.udp": ("UdpSocket",),
    "sync.udp_conditions": ("DatagramTruncated",),
    "sync.udp_open": ("open_udp_socket",),
    "sync.udp_server": ("Datagram", "UdpServer", "start_up_udp_server"),
    "sync.unix": ("open_unix_stream", "start_up_unix_server"),
    "tls.abstract": ("SslAbstractContext", "create_ssl_client_context", "create_ssl_server_context"),
    "tls.certificate": ("Certificate",),
    "tls.info": ("TlsInfo", "Verification"),
}  # fmt: skip

_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AttemptRecord",
    "Cancel",
    "Certificate",
    "ConnectTimeout",
    "ConnectionReport",
    "Datagram",
    "DatagramTruncated",
    "HandshakeRecord",
    "HostEntry",
    "HostLookupError",
    "IncompleteRead",
    "KeepAlive",
    "LimitOverrun",
    "LookupRecord",
    "ProxyHeader",
    "ReadTimeout",
    "Server",
    "ServiceEntry",
    "SocketAddress",
    "SocketConnectError",
    "SocketCreateError",
    "SocketError",
    "SocketIOError",
    "SocketStream",
    "SslAbstractContext",
    "SslClosed",
    "SslCondition",
    "SslError",
    "SslFailure",
    "SslHandshakeTimeout",
    "SslVerificationFailure",
    "SslVersionOrCipherMismatch",
    "StreamClosed",
    "TextSocketStream",
    "TlsInfo",
    "UdpServer",
    "UdpSocket",
    "Verification",
    "WriteTimeout",
    "connect_to_tcp_server",
    "create_ssl_client_context",
    "create_ssl_server_context",
    "detect_dead_peer",
    "get_default_local_ipv6_address",
    "get_host_entry",
    "get_ip_default_zone_id",
    "get_service_entry",
    "inherited_sockets",
    "ip_address_string",
    "ipv6_address_scope_id",
    "open_tcp_stream",
    "open_tcp_stream_using_java",
    "open_udp_socket",
    "open_unix_stream",
    "parse_ipv6_address",
    "start_up_server",
    "start_up_udp_server",
    "start_up_unix_server",
    "string_ip_address",
    "switch_open_tcp_stream_with_ssl_to_java",
    "wait_for_input_streams",
    "wait_for_input_streams_returning_first",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
