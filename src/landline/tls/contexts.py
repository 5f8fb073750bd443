"""The SSLContexts that landline makes: who is trusted, from which version on, and how strictly.

A context is built once and shared, because loading the system's roots takes some 45 ms, a hundred times a
connection. On macOS and Windows the system itself is asked (truststore); on Linux that package would load
all roots anew for each connection, so OpenSSL's default paths are used there.

All Python versions get what 3.13 made the default (VERIFY_X509_STRICT and PARTIAL_CHAIN), so that a program does not
begin to refuse a server on the day its Python is updated.

Each context has a twin that leaves the name to us, made when it is first needed: Python's ssl can send one
name and check another only in a context that checks none. Switching check_hostname off and on around the
making of a session was rejected: whoever else holds the context would run unchecked for a moment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

from ..errors import SocketCreateError, with_kin
from .sessions import SessionCache

if TYPE_CHECKING:
    import ssl

__all__ = ["BuiltContext", "bare_client_context", "bare_server_context", "default_context", "lowest_version"]

_ALLOWED = "allowed are True, 'default', 'v23' (all three: TLS 1.2 or later), 'tls-v1-2' and 'tls-v1-3'"
_BROKEN = "is broken and switched off everywhere"
_REFUSED = {
    "v2": f"SSL 2.0 {_BROKEN} (RFC 6176)",
    "v3": f"SSL 3.0 {_BROKEN} (RFC 7568)",
    "tls-v1": "TLS 1.0 is obsolete (RFC 8996)",
    "tls-v1-1": "TLS 1.1 is obsolete (RFC 8996)",
}


def lowest_version(protocol: object, what: str = "ssl_ctx") -> ssl.TLSVersion:
    """The lowest TLS version accepted: True, "default", "v23" and "tls-v1-2" are TLS 1.2, "tls-v1-3" is TLS 1.3.

    Raises:
        TypeError: neither True nor str.
        ValueError: another string; the message says why, and what is allowed.
    """
    import ssl

    if protocol is True or protocol in ("default", "v23", "tls-v1-2"):
        return ssl.TLSVersion.TLSv1_2
    if protocol == "tls-v1-3":
        return ssl.TLSVersion.TLSv1_3
    if not isinstance(protocol, str):
        raise TypeError(f"{what}={protocol!r} is not allowed; {_ALLOWED}")
    raise ValueError(
        f"{what}={protocol!r} is not allowed: {_REFUSED.get(protocol, 'there is no such version')}; {_ALLOWED}"
    )


class BuiltContext:
    """An SSLContext of landline's own, its sessions, and (when asked for) its twin that checks no names.

    Attributes:
        context: the SSLContext.
        sessions: its sessions; None where none may be kept.
    """

    def __init__(self, build: Callable[[], ssl.SSLContext], *, keep_sessions: bool = True) -> None:
        self._build = build
        self._keep = keep_sessions
        self._lock = Lock()
        self._nameless: BuiltContext | None = None
        self.context = build()
        # truststore asks the system about the chain after each handshake; a resumed session brings none.
        self.sessions = SessionCache() if keep_sessions and not is_truststore(self.context) else None

    def nameless(self) -> BuiltContext:
        """The twin: the same trust and strictness, but check_hostname off. What it connects to is checked by us."""
        with self._lock:
            if self._nameless is None:
                twin = BuiltContext(self._build, keep_sessions=self._keep)
                twin.context.check_hostname = False
                self._nameless = twin
            return self._nameless


def default_context(protocol: object = True) -> BuiltContext:
    """The shared client context with the system's trust, for the lowest version that `protocol` says.

    Built at the first call. It is built anew when the environment says something else about roots or keys
    (SSL_CERT_FILE, SSL_CERT_DIR, SSLKEYLOGFILE).

    Raises:
        TypeError, ValueError: as `lowest_version`.
        SocketCreateError: SSLKEYLOGFILE cannot be written.
    """
    version = lowest_version(protocol)
    surroundings = tuple(map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")))
    with _lock:
        known, built = _defaults.get(version, (None, None))
        if built is None or known != surroundings:
            built = BuiltContext(lambda: new_default_context(version))
            _defaults[version] = surroundings, built
        return built


def new_default_context(version: ssl.TLSVersion) -> ssl.SSLContext:
    """A fresh client context with the system's trust, shared with nobody."""
    context = bare_client_context(version, system_trust=True)
    load_system_trust(context)
    return context


def bare_client_context(version: ssl.TLSVersion, *, system_trust: bool) -> ssl.SSLContext:
    """A client context that trusts nobody yet: certificates required, names checked.

    With `system_trust` on macOS and Windows one that asks the system.
    """
    import ssl

    context: ssl.SSLContext
    if system_trust and (sys.platform == "darwin" or sys.platform == "win32"):
        import truststore

        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ssl.HAS_NEVER_CHECK_COMMON_NAME:
        context.hostname_checks_common_name = False
    _harden(context, version)
    return context


def bare_server_context(version: ssl.TLSVersion) -> ssl.SSLContext:
    """A server context without certificate; it asks clients for none."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION  # a client could make the server work at its will
    _harden(context, version)
    return context


def load_system_trust(context: ssl.SSLContext) -> None:
    """Trust the system's roots: nothing to load where the system itself is asked."""
    if not is_truststore(context):
        context.load_default_certs()


def is_truststore(context: ssl.SSLContext) -> bool:
    return type(context).__module__.partition(".")[0] == "truststore"


_lock = Lock()
_defaults: dict[ssl.TLSVersion, tuple[tuple[str | None, ...], BuiltContext]] = {}


def _harden(context: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    import ssl

    if context.minimum_version < version:  # the system's own policy may ask for more
        context.minimum_version = version
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    keylog = os.environ.get("SSLKEYLOGFILE")
    if keylog and not sys.flags.ignore_environment:
        try:
            context.keylog_filename = keylog
        except OSError as error:
            message = f"SSLKEYLOGFILE={keylog!r} cannot be written: {error.strerror or error}"
            raise with_kin(SocketCreateError, error)(
                message, operation="tls", address=keylog, errno=error.errno
            ) from error
