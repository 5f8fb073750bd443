"""A server's choice of context by the name that the client sent.

Python's ssl prints an exception of such a callback to stderr and goes on to a bare alert; here it is kept with
the session, so that whoever drives the handshake can raise it.

What OpenSSL takes over from the chosen context is certificate, key, trusted authorities and ALPN. It does
*not* take over whether a client must show a certificate, nor the lowest version: a context that asks for
client certificates, chosen by one that does not, would let everybody in. That choice is an error.

Sources: RFC 6066 3; LispWorks manual, create-ssl-server-context (client-hello-callback).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

    from .abstract import SniCallback

__all__ = ["choice_failure", "choose_by"]

_ATTRIBUTE = "_landline_failure"


def choice_failure(ssl_object: ssl.SSLObject) -> BaseException | None:
    """What the SNI callback raised in this session's handshake, if anything; given once."""
    found: BaseException | None = vars(ssl_object).pop(_ATTRIBUTE, None)
    return found


def choose_by(callback: SniCallback) -> Callable[[ssl.SSLObject, str | None, ssl.SSLContext], int | None]:
    """The callback that SSLContext.sni_callback wants: sets the session's context, gives an alert or None."""

    def choose(ssl_object: ssl.SSLObject, name: str | None, base: ssl.SSLContext) -> int | None:
        import ssl

        try:
            chosen = _as_context(callback(name))
            if chosen is not None:
                _check_no_stricter(chosen, base)
                ssl_object.context = chosen
        except BaseException as error:  # noqa: BLE001 - ssl would print it; kept for whoever drives the handshake
            vars(ssl_object)[_ATTRIBUTE] = error
            if isinstance(error, LookupError):
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        return None

    return choose


def _as_context(chosen: object) -> ssl.SSLContext | None:
    import ssl

    from .abstract import SslAbstractContext

    if chosen is None or isinstance(chosen, ssl.SSLContext):
        return chosen
    if isinstance(chosen, SslAbstractContext) and chosen.server_side:
        return chosen.ssl_context()
    raise TypeError(f"sni_callback gave {chosen!r}: it must give a server context, an SSLContext or None")


def _check_no_stricter(chosen: ssl.SSLContext, base: ssl.SSLContext) -> None:
    if chosen.verify_mode > base.verify_mode:
        raise ValueError(
            "sni_callback chose a context that asks for client certificates, which the first context does not: "
            "OpenSSL would not ask; give the first context the same verify_callback"
        )
    if chosen.minimum_version > base.minimum_version:
        raise ValueError(
            "sni_callback chose a context with a later lowest version than the first one has: OpenSSL would not "
            "apply it; give the first context the same protocol_version"
        )
