"""From what `ssl_ctx` may be to all that a handshake needs; made before anything is opened.

    plan = client_plan(ssl_ctx, host, ...)      None: no TLS; wrong arguments and bad files raise here
    obj = plan.context.wrap_bio(..., server_side=plan.server_side, server_hostname=plan.server_hostname,
                                session=plan.session_for(peer))
    plan.configure(obj)
    ... the handshake (refused: plan.refusal()); then, before one byte of data passes:
    plan.check_peer(obj)
    ... plan.verify_callback is asked, with the stream ...
    plan.remember(peer, obj.session)            when all that went well: in TLS 1.2 at once, in 1.3 when data has come

A user's own SSLContext is used as it is. Where it checks names and SNI is suppressed, the name is checked
after the handshake. Where SNI is another name, Python's ssl has OpenSSL check *that* name, and nothing in it can say
otherwise without altering the context; so such a certificate must be for both names. (An abstract context
has no such limit.)

Sources: LispWorks manual 25.8.6, attach-ssl (the order of callbacks) and open-tcp-stream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from .abstract import SslAbstractContext
from .contexts import (
    BuiltContext,
    bare_server_context,
    default_context,
    is_truststore,
    lowest_version,
    new_default_context,
)
from .names import NOT_GIVEN, NotGiven, check_certificate, checked_name, parse_sni, sni_name
from .refusal import WRONG_ADDRESS, WRONG_NAME, refused
from .sessions import SessionCache, sessions_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Hashable, Sequence

    from ..address import Host, SocketAddress
    from ..errors import SslVerificationFailure

__all__ = ["SslSpec", "TlsPlan", "client_plan", "is_for_servers", "server_plan"]

SslSpec = "bool | str | ssl.SSLContext | SslAbstractContext | None"
CtxCallback = Callable[["ssl.SSLContext"], object]
SslCallback = Callable[["ssl.SSLObject"], object]


@dataclass(frozen=True, slots=True, eq=False)
class TlsPlan:
    """All that one handshake needs.

    Attributes:
        context: what the session is made from.
        server_side: this side is the server.
        server_hostname: what wrap_bio() gets.
        sni: the name that is sent; None for none.
        checked_name: the name or address the certificate must be for; None where the context checks none.
        check_after: the name (or that address) is to be checked by `check_peer`: OpenSSL does not.
        verify_callback: to be called with the stream after `check_peer`; a false answer refuses. Or None.
        ssl_configure_callbacks: called by `configure`, in this order.
        sessions: where sessions to resume are kept; None where they are not.
        strictness: how strictly the context verified when the plan was made; its owner may change that.
    """

    context: ssl.SSLContext
    server_side: bool = False
    server_hostname: str | None = None
    sni: str | None = None
    checked_name: str | None = None
    check_after: bool = False
    verify_callback: Callable[[Any], object] | None = None
    ssl_configure_callbacks: tuple[SslCallback, ...] = ()
    sessions: SessionCache | None = None
    strictness: tuple[int, ...] = ()

    def session_for(self, peer: SocketAddress) -> ssl.SSLSession | None:
        """A session to resume with `peer`; None when there is none. It is offered this once."""
        return None if self.sessions is None else self.sessions.take(self._key(peer))

    def configure(self, ssl_object: ssl.SSLObject) -> None:
        """Call the callbacks for a session that was just made: the abstract context's, then the call's.

        Raises:
            Exception: whatever one of them raises.
        """
        for callback in self.ssl_configure_callbacks:
            callback(ssl_object)

    def check_peer(self, ssl_object: ssl.SSLObject, address: object = None) -> None:
        """After the handshake: check the name where OpenSSL has not. No data may pass before.

        Raises:
            SslVerificationFailure: the certificate is for others.
        """
        if self.check_after:
            assert self.checked_name is not None
            check_certificate(ssl_object.getpeercert(binary_form=True), self.checked_name, address=address)

    def refusal(
        self, code: int, reason: str, chain: Sequence[bytes] = (), address: object = None
    ) -> SslVerificationFailure:
        """The condition for a handshake in which OpenSSL refused the peer's certificate.

        Args:
            code, reason: ``verify_code`` and ``verify_message`` of ssl.SSLCertVerificationError.
            chain: what the peer sent, as DER, its own certificate first; as much as is known.
            address: for the condition.
        """
        wanted = self.checked_name
        if code in (WRONG_NAME, WRONG_ADDRESS) and self.check_after:
            wanted = self.sni  # a user's context: OpenSSL checks the name sent, and we the host afterwards
        return refused(
            code,
            reason,
            wanted=wanted,
            chain=chain,
            server_side=self.server_side,
            context=self.context,
            address=address,
        )

    def remember(self, peer: SocketAddress, session: ssl.SSLSession | None) -> None:
        """Keep a session, to resume it at a later opening; what cannot be resumed (yet) is left alone.

        Only for sessions whose peer was checked, `verify_callback` included: on resumption nothing of it
        that OpenSSL does is done again.
        """
        if self.sessions is not None and self.strictness == _strictness(self.context):
            self.sessions.put(self._key(peer), session)

    def _key(self, peer: SocketAddress) -> Hashable:
        """Whatever decides what a full handshake would verify."""
        return peer.host, peer.port, self.sni, self.checked_name, self.check_after, self.strictness


def client_plan(
    ssl_ctx: Any,
    host: Host,
    *,
    tlsext_host_name: str | bool | NotGiven | None = NOT_GIVEN,
    ctx_configure_callback: CtxCallback | None = None,
    ssl_configure_callback: SslCallback | None = None,
) -> TlsPlan | None:
    """The plan for connecting to `host`; None when `ssl_ctx` is None (or False): no TLS.

    Args:
        ssl_ctx: None; True or "default" (the system's trust, TLS 1.2 or later, names checked); "tls-v1-2" or
            "tls-v1-3" (the same, the lowest version accepted); "v23", the manual's name of the default; an
            ssl.SSLContext, used as it is; an SslAbstractContext for clients; or what has a client_plan() of its
            own: TLS that is not OpenSSL's (java/context.py).
        host: the host asked for; the certificate is checked against it.
        tlsext_host_name: as `sni_name` says.
        ctx_configure_callback: called with the context made for this call; it is shared with no other then. Not
            called for an SSLContext or SslAbstractContext.
        ssl_configure_callback: called with the SSLObject, after the abstract context's own.

    Raises:
        TypeError, ValueError: an argument is not allowed.
        SocketCreateError: a file of an abstract context (or SSLKEYLOGFILE) cannot be used.
        Exception: whatever a callback raises.
    """
    _check_callbacks(ctx_configure_callback, ssl_configure_callback)
    parse_sni(tlsext_host_name)
    if ssl_ctx is None or ssl_ctx is False:
        return None
    if (plan_of := getattr(ssl_ctx, "client_plan", None)) is not None:
        elsewhere: TlsPlan = plan_of(
            host,
            tlsext_host_name=tlsext_host_name,
            ctx_configure_callback=ctx_configure_callback,
            ssl_configure_callback=ssl_configure_callback,
        )
        return elsewhere
    import ssl

    if isinstance(ssl_ctx, SslAbstractContext):
        if ssl_ctx.server_side:
            raise ValueError(f"ssl_ctx={ssl_ctx!r} is not allowed: it is for servers; use create_ssl_client_context")
        sni = sni_name(host, tlsext_host_name, ssl_ctx.tlsext_host_name)
        callbacks = _both(ssl_ctx.ssl_configure_callback, ssl_configure_callback)
        return _ours(ssl_ctx.built(), host, sni, callbacks, ssl_ctx.verify_callback)
    sni = sni_name(host, tlsext_host_name)
    callbacks = _both(None, ssl_configure_callback)
    if isinstance(ssl_ctx, ssl.SSLContext):
        return _theirs(ssl_ctx, host, sni, callbacks)
    if ctx_configure_callback is None:
        return _ours(default_context(ssl_ctx), host, sni, callbacks)
    version, configure = lowest_version(ssl_ctx), ctx_configure_callback
    made = new_default_context(version)
    configure(made)
    return _for_one_call(made, host, sni, callbacks)


def server_plan(
    ssl_ctx: Any,
    *,
    ctx_configure_callback: CtxCallback | None = None,
    ssl_configure_callback: SslCallback | None = None,
) -> TlsPlan | None:
    """The plan for serving; None when `ssl_ctx` is None (or False): no TLS.

    Make it once for a listening port that keeps its context, or for each connection, to follow reset().

    Args:
        ssl_ctx: an SslAbstractContext for servers; an ssl.SSLContext, used as it is; or, only together with
            `ctx_configure_callback` (which has to load a certificate), True or a version as for clients.

    Raises:
        TypeError, ValueError, SocketCreateError, Exception: as `client_plan`.
    """
    _check_callbacks(ctx_configure_callback, ssl_configure_callback)
    if ssl_ctx is None or ssl_ctx is False:
        return None
    import ssl

    if isinstance(ssl_ctx, SslAbstractContext):
        if not ssl_ctx.server_side:
            raise ValueError(f"ssl_ctx={ssl_ctx!r} is not allowed: it is for clients; use create_ssl_server_context")
        return TlsPlan(
            ssl_ctx.ssl_context(),
            server_side=True,
            verify_callback=ssl_ctx.verify_callback,
            ssl_configure_callbacks=_both(ssl_ctx.ssl_configure_callback, ssl_configure_callback),
        )
    callbacks = _both(None, ssl_configure_callback)
    if isinstance(ssl_ctx, ssl.SSLContext):
        if ssl_ctx.protocol == ssl.PROTOCOL_TLS_CLIENT:
            raise ValueError("ssl_ctx is not allowed: it was made with PROTOCOL_TLS_CLIENT, and this is a server")
        return TlsPlan(ssl_ctx, server_side=True, ssl_configure_callbacks=callbacks)
    version = lowest_version(ssl_ctx)
    if ctx_configure_callback is None:
        raise ValueError(
            f"ssl_ctx={ssl_ctx!r} is not allowed: a server needs a certificate; "
            "use create_ssl_server_context(cert_file=..., key_file=...)"
        )
    context = bare_server_context(version)
    ctx_configure_callback(context)
    return TlsPlan(context, server_side=True, ssl_configure_callbacks=callbacks)


def is_for_servers(ssl_ctx: object) -> bool:
    """Whether `ssl_ctx` can only be meant for serving."""
    if isinstance(ssl_ctx, SslAbstractContext):
        return ssl_ctx.server_side
    import ssl

    return isinstance(ssl_ctx, ssl.SSLContext) and ssl_ctx.protocol == ssl.PROTOCOL_TLS_SERVER


def _ours(
    built: BuiltContext,
    host: Host,
    sni: str | None,
    callbacks: tuple[SslCallback, ...],
    verify_callback: Callable[[Any], object] | None = None,
) -> TlsPlan:
    """A context of landline's own, shared: where SNI is another name its twin is used."""
    name, after = _tied(built.context, host, sni)
    if after and built.context.check_hostname:
        built = built.nameless()
    hostname = sni if after or name is None else name
    return TlsPlan(
        built.context,
        server_hostname=hostname,
        sni=sni,
        checked_name=name,
        check_after=after,
        verify_callback=verify_callback,
        ssl_configure_callbacks=callbacks,
        sessions=built.sessions,
        strictness=_strictness(built.context),
    )


def _for_one_call(context: ssl.SSLContext, host: Host, sni: str | None, callbacks: tuple[SslCallback, ...]) -> TlsPlan:
    """A context made for this call: nobody else has it, so it can be told to leave the name to us."""
    name, after = _tied(context, host, sni)
    if after:
        context.check_hostname = False
    hostname = sni if after or name is None else name
    return TlsPlan(
        context,
        server_hostname=hostname,
        sni=sni,
        checked_name=name,
        check_after=after,
        ssl_configure_callbacks=callbacks,
    )


def _theirs(context: ssl.SSLContext, host: Host, sni: str | None, callbacks: tuple[SslCallback, ...]) -> TlsPlan:
    """A user's context: never altered."""
    import ssl

    if context.protocol == ssl.PROTOCOL_TLS_SERVER:
        raise ValueError("ssl_ctx is not allowed: it was made with PROTOCOL_TLS_SERVER, and this is a client")
    name, after = _tied(context, host, sni)
    if after and is_truststore(context):
        raise ValueError(
            "tlsext_host_name is not allowed to differ from the host with a truststore context of your own, which "
            "checks the name that is sent; use create_ssl_client_context"
        )
    return TlsPlan(
        context,
        server_hostname=sni if after or name is None else name,
        sni=sni,
        checked_name=name,
        check_after=after,
        ssl_configure_callbacks=callbacks,
        sessions=sessions_of(context),
        strictness=_strictness(context),
    )


def _tied(context: ssl.SSLContext, host: Host, sni: str | None) -> tuple[str | None, bool]:
    """(the name to check, None where the context checks none; whether OpenSSL cannot check it)."""
    if not context.check_hostname:
        return None, False
    name = checked_name(host)
    return name, sni != host.name


def _strictness(context: ssl.SSLContext) -> tuple[int, ...]:
    return _shared(context.verify_mode, context.verify_flags)


@cache
def _shared(*strictness: int) -> tuple[int, ...]:
    """One tuple for all streams that have the same."""
    return strictness


def _both(first: SslCallback | None, second: SslCallback | None) -> tuple[SslCallback, ...]:
    return tuple(one for one in (first, second) if one is not None)


def _check_callbacks(ctx_configure_callback: object, ssl_configure_callback: object) -> None:
    for what, callback in (
        ("ctx_configure_callback", ctx_configure_callback),
        ("ssl_configure_callback", ssl_configure_callback),
    ):
        if callback is not None and not callable(callback):
            raise TypeError(f"{what}={callback!r} is not allowed: it must be a function or None")
