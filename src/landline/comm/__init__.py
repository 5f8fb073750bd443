"""The manual to the letter: the names, defaults and return values of LispWorks' COMM package.

    from landline import comm

    with comm.open_tcp_stream("www.example.org", 80) as http:
        comm.format_(http, "GET / HTTP/1.0~C~C~C~C", "\\r", "\\n", "\\r", "\\n")
        comm.force_output(http)
        ...

For programs that come from Lisp; who begins in Python is better served by landline itself, on which all of this stands:

* Names are the manual's in snake_case; classes and conditions have landline's spelling too (``SocketStream``).
* A keyword is a string: ``:base-char`` is "base-char". nil is None or False, t is True, multiple values are a tuple.
* What differs from the manual says so in its docstring ("Differs: ..."); what has no meaning here raises HasNoMeaning.
  docs/manual.md lists every symbol.
* The read-timeout rule: a stream that times out while it is read *ends*, for the functions here. One switch,
  ``SocketStream.read_timeout_action``, makes it an error instead. Nothing is lost either way.

Source: LispWorks manual, chapter COMM and guide chapter 25.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import (
    SocketConnectError,
    SocketCreateError,
    SocketError,
    SocketIOError,
    SslClosed,
    SslCondition,
    SslError,
    SslFailure,
    SslHandshakeTimeout,
    SslVersionOrCipherMismatch,
)
from ..tls.certificate import Certificate
from . import conditions, no_meaning
from .addresses import (
    get_default_local_ipv6_address,
    get_host_entry,
    get_ip_default_zone_id,
    get_service_entry,
    get_socket_address,
    get_socket_peer_address,
    ip_address_string,
    ipv6_address,
    ipv6_address_p,
    ipv6_address_scope_id,
    ipv6_address_string,
    parse_ipv6_address,
    socket_connection_address,
    socket_connection_peer_address,
    socket_connection_socket,
    socket_stream_address,
    socket_stream_peer_address,
    string_ip_address,
)
from .attach import (
    attach_ssl,
    detach_ssl,
    get_certificate_common_name,
    get_certificate_data,
    get_certificate_serial_number,
    pem_read,
    socket_stream_ctx,
    socket_stream_handshake,
    socket_stream_ssl,
    socket_stream_ssl_side,
    ssl_connection_copy_peer_certificates,
    ssl_connection_get_peer_certificates_data,
    ssl_connection_implementation,
    ssl_connection_protocol_version,
    ssl_connection_ssl_ref,
    ssl_connection_verify,
)
from .conditions import (
    EndOfFile,
    end_of_file,
    socket_connect_error,
    socket_create_error,
    socket_error,
    socket_error_code,
    socket_error_connection,
    socket_io_error,
    ssl_closed,
    ssl_condition,
    ssl_condition_ssl_code,
    ssl_error,
    ssl_failure,
    ssl_handshake_timeout,
    ssl_version_or_cipher_mismatch,
    ssl_x509_lookup,
)
from .connect import (
    connect_to_tcp_server,
    open_tcp_stream,
    open_tcp_stream_using_java,
    switch_open_tcp_stream_with_ssl_to_java,
)
from .contexts import (
    create_ssl_client_context,
    create_ssl_server_context,
    ensure_ssl,
    get_verification_mode,
    make_ssl_ctx,
    openssl_version,
    read_dhparams,
    reset_ssl_abstract_context,
    set_ssl_ctx_dh,
    set_ssl_ctx_options,
    set_ssl_ctx_password_callback,
    set_ssl_default_implementation,
    set_verification_mode,
    ssl_abstract_context,
    ssl_abstract_context_name,
    ssl_default_implementation,
    ssl_implementation_available_p,
)
from .keywords import HasNoMeaning
from .reading import (
    Line,
    clear_input,
    listen,
    peek_char,
    read_byte,
    read_char,
    read_char_no_hang,
    read_line,
    read_sequence,
    stream_element_type,
    unread_char,
)
from .servers import Started, server_terminate, start_up_server, start_up_server_and_mp
from .socket_stream import (
    Opened,
    SocketStream,
    close_socket_handle,
    create_ssl_socket_stream,
    replace_socket_stream_socket,
    set_socket_stream_socket,
    socket_stream,
    socket_stream_shutdown,
    socket_stream_socket,
    stream_read_timeout,
    stream_write_timeout,
)
from .waiting import wait_for_input_streams, wait_for_input_streams_returning_first
from .writing import (
    clear_output,
    close,
    finish_output,
    force_output,
    format_,
    open_stream_p,
    terpri,
    with_open_stream,
    write_byte,
    write_char,
    write_line,
    write_sequence,
    write_string,
)

if TYPE_CHECKING:
    from ssl import SSLContext as ssl_ctx_pointer
    from ssl import SSLObject as ssl_pointer

    from ..errors import SslVerificationFailure
    from ..errors import SslVerificationFailure as ssl_verification_failure

__all__ = [
    "EndOfFile",
    "HasNoMeaning",
    "Line",
    "Opened",
    "SocketConnectError",
    "SocketCreateError",
    "SocketError",
    "SocketIOError",
    "SocketStream",
    "SslClosed",
    "SslCondition",
    "SslError",
    "SslFailure",
    "SslHandshakeTimeout",
    "SslVerificationFailure",
    "SslVersionOrCipherMismatch",
    "Started",
    "attach_ssl",
    "clear_input",
    "clear_output",
    "close",
    "close_socket_handle",
    "connect_to_tcp_server",
    "create_ssl_client_context",
    "create_ssl_server_context",
    "create_ssl_socket_stream",
    "destroy_ssl",
    "destroy_ssl_ctx",
    "detach_ssl",
    "do_rand_seed",
    "end_of_file",
    "ensure_ssl",
    "finish_output",
    "force_output",
    "format_",
    "get_certificate_common_name",
    "get_certificate_data",
    "get_certificate_serial_number",
    "get_default_local_ipv6_address",
    "get_host_entry",
    "get_ip_default_zone_id",
    "get_service_entry",
    "get_socket_address",
    "get_socket_peer_address",
    "get_verification_mode",
    "ip_address_string",
    "ipv6_address",
    "ipv6_address_p",
    "ipv6_address_scope_id",
    "ipv6_address_string",
    "listen",
    "make_ssl_ctx",
    "open_stream_p",
    "open_tcp_stream",
    "open_tcp_stream_using_java",
    "openssl_version",
    "parse_ipv6_address",
    "peek_char",
    "pem_read",
    "read_byte",
    "read_char",
    "read_char_no_hang",
    "read_dhparams",
    "read_line",
    "read_sequence",
    "release_certificate",
    "release_certificates_vector",
    "replace_socket_stream_socket",
    "reset_ssl_abstract_context",
    "server_terminate",
    "set_socket_stream_socket",
    "set_ssl_ctx_cert_cb",
    "set_ssl_ctx_dh",
    "set_ssl_ctx_options",
    "set_ssl_ctx_password_callback",
    "set_ssl_default_implementation",
    "set_ssl_library_path",
    "set_verification_mode",
    "socket_connect_error",
    "socket_connection_address",
    "socket_connection_peer_address",
    "socket_connection_socket",
    "socket_create_error",
    "socket_error",
    "socket_error_code",
    "socket_error_connection",
    "socket_io_error",
    "socket_stream",
    "socket_stream_address",
    "socket_stream_ctx",
    "socket_stream_handshake",
    "socket_stream_peer_address",
    "socket_stream_shutdown",
    "socket_stream_socket",
    "socket_stream_ssl",
    "socket_stream_ssl_side",
    "ssl_abstract_context",
    "ssl_abstract_context_name",
    "ssl_add_client_ca",
    "ssl_cipher_get_bits",
    "ssl_cipher_get_name",
    "ssl_cipher_get_version",
    "ssl_closed",
    "ssl_condition",
    "ssl_condition_ssl_code",
    "ssl_connection_copy_peer_certificates",
    "ssl_connection_get_peer_certificates_data",
    "ssl_connection_implementation",
    "ssl_connection_protocol_version",
    "ssl_connection_read_certificates",
    "ssl_connection_read_dh_params_file",
    "ssl_connection_ssl_ref",
    "ssl_connection_verify",
    "ssl_ctrl",
    "ssl_ctx_add_client_ca",
    "ssl_ctx_add_extra_chain_cert",
    "ssl_ctx_ctrl",
    "ssl_ctx_get_max_cert_list",
    "ssl_ctx_get_mode",
    "ssl_ctx_get_options",
    "ssl_ctx_get_read_ahead",
    "ssl_ctx_pointer",
    "ssl_default_implementation",
    "ssl_error",
    "ssl_failure",
    "ssl_handshake_timeout",
    "ssl_implementation_available_p",
    "ssl_new",
    "ssl_pointer",
    "ssl_set_accept_state",
    "ssl_set_connect_state",
    "ssl_verification_failure",
    "ssl_version_or_cipher_mismatch",
    "ssl_x509_lookup",
    "start_up_server",
    "start_up_server_and_mp",
    "stream_element_type",
    "stream_read_timeout",
    "stream_write_timeout",
    "string_ip_address",
    "switch_open_tcp_stream_with_ssl_to_java",
    "terpri",
    "unread_char",
    "wait_for_input_streams",
    "wait_for_input_streams_returning_first",
    "with_noticed_socket_stream",
    "with_open_stream",
    "write_byte",
    "write_char",
    "write_line",
    "write_sequence",
    "write_string",
    "x509_pointer",
]

x509_pointer = Certificate

globals().update(no_meaning.functions())

_OF_SSL = {"ssl_ctx_pointer": "SSLContext", "ssl_pointer": "SSLObject"}


def __getattr__(name: str) -> Any:
    # These are classes of the ssl module, which is slow to import.
    if name in ("ssl_verification_failure", "SslVerificationFailure"):
        return conditions.ssl_verification_failure
    if name in _OF_SSL:
        import ssl

        return getattr(ssl, _OF_SSL[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
