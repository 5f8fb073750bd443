"""Abstract contexts: everything needed to speak TLS, described once, used for any number of connections.

The description is checked when it is made. Its files are read when it is first used, and again only after
reset(): so a renewed certificate is taken over without a new object being handed around, and a program may give
up its right to read the key. What the files gave is kept in the SSLContext; no copy of a key stays in Python.

Of the manual's keywords those for Apple's implementation have no meaning here and are not accepted; alpn,
ciphers, crl_file and sni_callback are this library's own. What they do not cover is done by
openssl_ctx_configure_callback, which gets the SSLContext.

Source: LispWorks manual, create-ssl-client-context, create-ssl-server-context, reset-ssl-abstract-context.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal

from . import files
from .contexts import (
    BuiltContext,
    bare_client_context,
    bare_server_context,
    load_system_trust,
    lowest_version,
)
from .names import NOT_GIVEN, NotGiven, parse_sni

if TYPE_CHECKING:
    import ssl

__all__ = ["SslAbstractContext", "create_ssl_client_context", "create_ssl_server_context"]

LONGEST_ALPN = 255  # RFC 7301 3.1: one byte says how long a protocol's name is

PathSpec = str | os.PathLike[str]
PasswordCallback = Callable[[str], str | bytes]
VerifyCallback = bool | Literal["try"] | Callable[[Any], object]
SniCallback = Callable[[str | None], "SslAbstractContext | ssl.SSLContext | None"]


def create_ssl_client_context(
    *,
    key_file: PathSpec | None = None,
    cert_file: PathSpec | None = None,
    password: str | bytes | None = None,
    password_callback: PasswordCallback | None = None,
    protocol_version: str | bool = True,
    verify_callback: VerifyCallback | None = None,
    openssl_trusted_file: PathSpec | None = None,
    openssl_trusted_directory: PathSpec | None = None,
    openssl_ctx_configure_callback: Callable[[ssl.SSLContext], object] | None = None,
    openssl_ssl_configure_callback: Callable[[ssl.SSLObject], object] | None = None,
    tlsext_host_name: str | bool | NotGiven | None = NOT_GIVEN,
    alpn: Sequence[str | bytes] = (),
    ciphers: str | None = None,
    crl_file: PathSpec | None = None,
    name: object = None,
) -> SslAbstractContext:
    """Describe what a client needs to speak TLS. Reads no file yet.

    The server's certificate is always required and its name checked; to do otherwise, say so in
    `openssl_ctx_configure_callback`.

    Args:
        key_file, cert_file: PEM, the client's own key and certificate (its chain behind it); one may hold both.
        password: of an encrypted key.
        password_callback: called with the key's file name, gives the password.
        protocol_version: the lowest accepted: True, "default", "v23" or "tls-v1-2", or "tls-v1-3".
        verify_callback: None, True or "try": the normal verification. A function: called with the stream after
            the normal verification passed; a false answer refuses.
        openssl_trusted_file, openssl_trusted_directory: PEM file, or directory with hashed names, of the only
            authorities to trust; "default" stands for the system's. Neither: the system's trust.
        openssl_ctx_configure_callback: called with the SSLContext when it has been built, which is at the first
            use, after a reset, and once more when SNI has to differ from the checked name.
        openssl_ssl_configure_callback: called with the SSLObject of every session, before its handshake.
        tlsext_host_name: the name to send where the call does not say: a string, True (the host), None or
            False (none).
        alpn: application protocols, the preferred one first.
        ciphers: OpenSSL's cipher list, for TLS 1.2.
        crl_file: PEM revocation lists; the server's own certificate must be covered by one, and not be on it.
        name: anything, to tell contexts apart.

    Raises:
        TypeError, ValueError: an argument is not allowed.
    """
    recipe = _Recipe(
        server_side=False,
        key_file=_path(key_file, "key_file"),
        cert_file=_path(cert_file, "cert_file"),
        password=password,
        password_callback=password_callback,
        version=lowest_version(protocol_version, "protocol_version"),
        verify=_verify(verify_callback),
        trusted_file=_path(openssl_trusted_file, "openssl_trusted_file"),
        trusted_directory=_path(openssl_trusted_directory, "openssl_trusted_directory"),
        configure=openssl_ctx_configure_callback,
        alpn=_alpn(alpn),
        ciphers=ciphers,
        crl_file=_path(crl_file, "crl_file"),
    )
    return SslAbstractContext(recipe, name, openssl_ssl_configure_callback, parse_sni(tlsext_host_name))


def create_ssl_server_context(
    *,
    key_file: PathSpec | None = None,
    cert_file: PathSpec | None = None,
    password: str | bytes | None = None,
    password_callback: PasswordCallback | None = None,
    protocol_version: str | bool = True,
    verify_callback: VerifyCallback | None = None,
    openssl_trusted_file: PathSpec | None = None,
    openssl_trusted_directory: PathSpec | None = None,
    openssl_ctx_configure_callback: Callable[[ssl.SSLContext], object] | None = None,
    openssl_ssl_configure_callback: Callable[[ssl.SSLObject], object] | None = None,
    dh_file: PathSpec | None = None,
    sni_callback: SniCallback | None = None,
    alpn: Sequence[str | bytes] = (),
    ciphers: str | None = None,
    crl_file: PathSpec | None = None,
    name: object = None,
) -> SslAbstractContext:
    """Describe what a server needs to speak TLS. Reads no file yet; `SslAbstractContext.ssl_context` does.

    Args as for `create_ssl_client_context`, but for these:
        verify_callback: None or False: clients are asked for no certificate. True: each must show one that a
            trusted authority signed. "try": it may show none, a bad one is refused. A function: as True, then
            called with the stream; a false answer refuses.
        openssl_trusted_file, openssl_trusted_directory: the authorities that sign clients' certificates; one of
            them is needed with verify_callback.
        dh_file: PEM Diffie-Hellman parameters, for TLS 1.2.
        sni_callback: called in the handshake with the name the client sent (A-labels, or None); gives the server
            context (abstract or SSLContext) to go on with, or None for this one. LookupError refuses the
            name (alert unrecognized_name). The chosen context gives certificate, key, trusted authorities and
            ALPN; whether clients must show certificates stays as here, so one that asks for more is refused.

    Raises:
        TypeError, ValueError: an argument is not allowed.
    """
    verify = _verify(verify_callback)
    trusts = openssl_trusted_file is not None or openssl_trusted_directory is not None
    if key_file is None and cert_file is None and openssl_ctx_configure_callback is None and sni_callback is None:
        raise ValueError("cert_file=None is not allowed: a server needs a certificate and its key")
    if verify and not trusts and openssl_ctx_configure_callback is None:
        raise ValueError(
            f"verify_callback={verify_callback!r} needs openssl_trusted_file or openssl_trusted_directory: "
            "whose clients are trusted? ('default' would be everyone whom the system's roots certify)"
        )
    _callable(sni_callback, "sni_callback")
    recipe = _Recipe(
        server_side=True,
        key_file=_path(key_file, "key_file"),
        cert_file=_path(cert_file, "cert_file"),
        password=password,
        password_callback=password_callback,
        version=lowest_version(protocol_version, "protocol_version"),
        verify=verify,
        trusted_file=_path(openssl_trusted_file, "openssl_trusted_file"),
        trusted_directory=_path(openssl_trusted_directory, "openssl_trusted_directory"),
        configure=openssl_ctx_configure_callback,
        alpn=_alpn(alpn),
        ciphers=ciphers,
        crl_file=_path(crl_file, "crl_file"),
        dh_file=_path(dh_file, "dh_file"),
        sni_callback=sni_callback,
    )
    return SslAbstractContext(recipe, name, openssl_ssl_configure_callback, NOT_GIVEN)


class SslAbstractContext:
    """What `create_ssl_client_context` and `create_ssl_server_context` make; give it as ``ssl_ctx``.

    Safe for threads. Attributes:
        name: as given; None by default.
        server_side: made for servers.
        tlsext_host_name: the context's own name to send (a client's).
        verify_callback: the function to ask after the handshake, or None.
        ssl_configure_callback: called with each SSLObject, or None.
    """

    def __init__(
        self,
        recipe: _Recipe,
        name: object,
        ssl_configure_callback: Callable[[ssl.SSLObject], object] | None,
        tlsext_host_name: str | bool | NotGiven,
    ) -> None:
        _callable(ssl_configure_callback, "openssl_ssl_configure_callback")
        self.name = name
        self.server_side = recipe.server_side
        self.tlsext_host_name = tlsext_host_name
        self.verify_callback = recipe.verify if callable(recipe.verify) else None
        self.ssl_configure_callback = ssl_configure_callback
        self._recipe = recipe
        self._lock = RLock()  # a callback may come back here
        self._built: BuiltContext | None = None

    def __repr__(self) -> str:
        side = "server" if self.server_side else "client"
        return f"<SslAbstractContext {side}{'' if self.name is None else f' {self.name!r}'}>"

    def ssl_context(self) -> ssl.SSLContext:
        """The SSLContext, built (and its files read) at the first call.

        A server may call it before it opens its port, to learn of bad files then.

        Raises:
            SocketCreateError: a file cannot be read, or is not what it should be; the message names it. The next
                call tries again.
            Exception: whatever openssl_ctx_configure_callback or password_callback raises.
        """
        return self.built().context

    def reset(self) -> None:
        """Forget what was read; the next use reads the files again. Sessions to resume are dropped with it.

        Connections that exist, and opens under way, go on with what they have.
        """
        with self._lock:
            self._built = None

    def built(self) -> BuiltContext:
        """For landline's own use: the SSLContext with its sessions."""
        with self._lock:
            if self._built is None:
                self._built = BuiltContext(self._recipe.build)
            return self._built


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recipe:
    """The arguments, checked."""

    server_side: bool
    key_file: str | None
    cert_file: str | None
    password: str | bytes | None = field(repr=False)
    password_callback: PasswordCallback | None
    version: ssl.TLSVersion
    verify: VerifyCallback | None
    trusted_file: str | None
    trusted_directory: str | None
    configure: Callable[[ssl.SSLContext], object] | None
    alpn: tuple[str, ...]
    ciphers: str | None
    crl_file: str | None
    dh_file: str | None = None
    sni_callback: SniCallback | None = None

    def __post_init__(self) -> None:
        _callable(self.password_callback, "password_callback")
        _callable(self.configure, "openssl_ctx_configure_callback")
        if self.password is not None and not isinstance(self.password, (str, bytes)):
            raise TypeError("password is not allowed: it must be str or bytes")  # never shown
        if self.password is not None and self.password_callback is not None:
            raise ValueError("password and password_callback are not allowed together: give one")
        if self.ciphers is not None:
            _check_ciphers(self.ciphers)

    def build(self) -> ssl.SSLContext:
        import ssl

        if self.server_side:
            context = bare_server_context(self.version)
            if self.verify:
                context.verify_mode = ssl.CERT_OPTIONAL if self.verify == "try" else ssl.CERT_REQUIRED
            files.load_trusted(context, self.trusted_file, self.trusted_directory)
        else:
            ours = self.trusted_file is None and self.trusted_directory is None
            system = ours or "default" in (self.trusted_file, self.trusted_directory)
            context = bare_client_context(self.version, system_trust=system)
            if ours:
                load_system_trust(context)
            else:
                files.load_trusted(context, self.trusted_file, self.trusted_directory)
        files.load_own_certificate(context, self.cert_file, self.key_file, self.password, self.password_callback)
        if self.crl_file is not None:
            files.load_revoked(context, self.crl_file)
        if self.dh_file is not None:
            files.load_dh(context, self.dh_file)
        if self.ciphers is not None:
            context.set_ciphers(self.ciphers)
        if self.alpn:
            context.set_alpn_protocols(list(self.alpn))
        if self.sni_callback is not None:
            from .choosing import choose_by

            context.sni_callback = choose_by(self.sni_callback)
        if self.configure is not None:
            self.configure(context)
        return context


def _path(path: PathSpec | None, what: str) -> str | None:
    if path is None:
        return None
    made = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(made, str):
        raise TypeError(f"{what}={path!r} is not allowed: it must be a path (str or pathlib.Path) or None")
    if not made or "\0" in made:
        raise ValueError(f"{what}={path!r} is not allowed: no file has such a name")
    return made


def _verify(verify_callback: VerifyCallback | None) -> VerifyCallback | None:
    if verify_callback is None or verify_callback in (True, False, "try") or callable(verify_callback):
        return verify_callback
    raise TypeError(f"verify_callback={verify_callback!r} is not allowed: it must be None, True, 'try' or a function")


def _callable(callback: object, what: str) -> None:
    if callback is not None and not callable(callback):
        raise TypeError(f"{what}={callback!r} is not allowed: it must be a function or None")


def _alpn(protocols: Sequence[str | bytes]) -> tuple[str, ...]:
    if isinstance(protocols, (str, bytes)):
        raise TypeError(f"alpn={protocols!r} is not allowed: it must be a list of protocols")
    made = []
    for one in protocols:
        try:
            text = one.decode("ascii") if isinstance(one, bytes) else str(one)
            length = len(text.encode("ascii"))
        except UnicodeError:
            raise ValueError(f"alpn={protocols!r} is not allowed: a protocol's name is ASCII") from None
        if not 0 < length <= LONGEST_ALPN:
            raise ValueError(f"alpn={protocols!r} is not allowed: a protocol's name has 1 to {LONGEST_ALPN} characters")
        made.append(text)
    return tuple(made)


def _check_ciphers(ciphers: str) -> None:
    import ssl

    if not isinstance(ciphers, str):
        raise TypeError(f"ciphers={ciphers!r} is not allowed: it must be str (OpenSSL's cipher list) or None")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers(ciphers)
    except ssl.SSLError as error:
        raise ValueError(f"ciphers={ciphers!r} is not allowed: OpenSSL knows none of them") from error
