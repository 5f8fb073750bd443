"""The conditions of TLS: from what a session has met to the condition that tells it, in one sentence.

The only place where it is decided which condition a failure is. Loaded when TLS is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..engine.session import Failure, SessionFailed
from ..errors import (
    SocketError,
    SslClosed,
    SslCondition,
    SslError,
    SslFailure,
    SslHandshakeTimeout,
    SslVerificationFailure,
    SslVersionOrCipherMismatch,
    with_kin,
)
from ..tls.refusal import printable

if TYPE_CHECKING:
    from .tls_transport import TlsTransport

__all__ = ["callback_refused", "connection_failed", "handshake_failed", "handshake_timed_out", "name_refused"]

APPLICATION_VERIFICATION = 50
"""X509_V_ERR_APPLICATION_VERIFICATION: a callback refused."""


def handshake_failed(error: OSError, transport: TlsTransport, facts: dict[str, Any]) -> BaseException:
    """The handshake has failed with ``error``; a callback's own exception is given as it is."""
    if not isinstance(error, SessionFailed):
        return _broke(error, "the TLS handshake with", facts)
    failure = error.failure
    if failure.kind == "local" and error.__cause__ is not None and not _is_ssl(error.__cause__):
        return error.__cause__
    if failure.kind == "verification":
        chain = transport.session.unverified_chain()
        made: SocketError = transport.plan.refusal(failure.verify_code, failure.text, chain, facts["address"])
        made.report = facts["report"]
    else:
        condition = _IN_HANDSHAKE.get(failure.kind, SslFailure)
        made = condition(
            f"the TLS handshake with {_peer(facts)} failed: {_explained(failure)}", ssl_code=_code(failure), **facts
        )
    made.__cause__ = error.__cause__
    return made


def connection_failed(error: OSError, doing: str, **facts: Any) -> SocketError:
    """A connection under TLS has failed with ``error`` after its handshake."""
    if not isinstance(error, SessionFailed):
        return _broke(error, doing, facts)
    failure = error.failure
    condition = SslVerificationFailure if failure.kind == "verification" else _ESTABLISHED.get(failure.kind, SslError)
    if not failure.established and failure.kind != "verification":
        condition = _IN_HANDSHAKE.get(failure.kind, SslFailure)
    text = _explained(failure)
    if failure.kind == "truncated":
        text += "; what has come may not be all"
    made = condition(f"{doing} {_peer(facts)} failed: {text}", ssl_code=_code(failure), **facts)
    made.__cause__ = error.__cause__
    return made


def handshake_timed_out(waited: str, facts: dict[str, Any]) -> SslHandshakeTimeout:
    """The handshake was not done in time; ``waited`` names the limit."""
    return SslHandshakeTimeout(f"the TLS handshake with {_peer(facts)} was not done {waited}", **facts)


def name_refused(what: str, facts: dict[str, Any]) -> SslFailure:
    """A client asked for a name that this server does not serve; ``what`` the callback says of it."""
    return SslFailure(
        f"{_peer(facts)} asked for a name that sni_callback does not know: {printable(what)}",
        ssl_code="sni_callback",
        **facts,
    )


def callback_refused(facts: dict[str, Any]) -> SslVerificationFailure:
    """The certificate is good, and verify_callback does not want it."""
    made = SslVerificationFailure(
        f"verify_callback refused the certificate of {_peer(facts)}", ssl_code="verify_callback", **facts
    )
    made.verify_code, made.verify_message = APPLICATION_VERIFICATION, "refused by verify_callback"
    return made


_IN_HANDSHAKE: dict[str, type[SslCondition]] = {
    "truncated": SslError,
    "closed": SslClosed,
    "mismatch": SslVersionOrCipherMismatch,
    "local": SslError,
}
_ESTABLISHED: dict[str, type[SslCondition]] = {"alert": SslFailure, "mismatch": SslVersionOrCipherMismatch}

# What the other side means by its alert, and who can mend it. The words are those of RFC 8446 6.2.
_ALERTS = {
    "unknown ca": "it does not trust the authority that signed this side's certificate",
    "bad certificate": "it cannot use this side's certificate",
    "certificate required": "it wants a client certificate: give cert_file and key_file",
    "certificate expired": "this side's certificate has expired",
    "certificate revoked": "this side's certificate has been revoked",
    "unrecognized name": "it does not serve the name that was asked for",
    "no application protocol": "it speaks none of the protocols that were offered (ALPN)",
    "certificate unknown": "it does not accept this side's certificate",
}


def _explained(failure: Failure) -> str:
    hint = _ALERTS.get(failure.alert or "")
    return failure.text if hint is None else f"{failure.text} ({hint})"


def _broke(error: OSError, doing: str, facts: dict[str, Any]) -> SocketError:
    made = with_kin(SslError, error)(
        f"{doing} {_peer(facts)} failed: {error.strerror or error}", errno=error.errno, ssl_code=None, **facts
    )
    made.__cause__ = error
    return made


def _code(failure: Failure) -> object:
    return failure.reason or failure.alert


def _is_ssl(error: BaseException) -> bool:
    import ssl

    return isinstance(error, ssl.SSLError)


def _peer(facts: dict[str, Any]) -> str:
    return str(facts["address"]) if facts["address"] else "the peer"
