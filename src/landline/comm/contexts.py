"""What TLS is configured with: abstract contexts, contexts (the manual's ssl-ctx-pointer), the library itself.

A context is an ssl.SSLContext, with all of Python's methods; the functions here are the manual's names for some of
them. Safe defaults beat the letter: certificates are verified, and dead versions of the protocol are refused.

Source: LispWorks manual, create-ssl-client-context, make-ssl-ctx, set-verification-mode and their neighbours; 25.8.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..tls import abstract
from ..tls.abstract import PasswordCallback, PathSpec, SslAbstractContext, VerifyCallback
from ..tls.contexts import bare_server_context, lowest_version, new_default_context
from ..tls.names import NOT_GIVEN, NotGiven
from .keywords import has_no_meaning, keyword, symbol

if TYPE_CHECKING:
    import ssl

__all__ = [
    "create_ssl_client_context",
    "create_ssl_server_context",
    "ensure_ssl",
    "get_verification_mode",
    "make_ssl_ctx",
    "openssl_version",
    "read_dhparams",
    "reset_ssl_abstract_context",
    "set_ssl_ctx_dh",
    "set_ssl_ctx_options",
    "set_ssl_ctx_password_callback",
    "set_ssl_default_implementation",
    "set_verification_mode",
    "ssl_abstract_context",
    "ssl_abstract_context_name",
    "ssl_default_implementation",
    "ssl_implementation_available_p",
]

ssl_abstract_context = SslAbstractContext

IMPLEMENTATIONS = ("openssl", "apple", "java")

LONGEST_PASSWORD = 1024
"""PEM_BUFSIZE: what OpenSSL tells a password callback."""

_APPLE = (
    "it is about Apple's Security Framework; this is OpenSSL on every system (macOS' own roots are trusted by default)"
)


def create_ssl_client_context(
    *,
    key_file: PathSpec | None = None,
    cert_file: PathSpec | None = None,
    password_callback: PasswordCallback | None = None,
    password: str | None = None,
    protocol_version: str | bool = True,
    implementation: str | None = None,
    openssl_ctx_configure_callback: Callable[[ssl.SSLContext], object] | None = None,
    openssl_ssl_configure_callback: Callable[[ssl.SSLObject], object] | None = None,
    apple_configure_callback: object = None,
    verify_callback: VerifyCallback | None = None,
    openssl_trusted_file: PathSpec | None = None,
    openssl_trusted_directory: PathSpec | None = None,
    apple_use_system_trusted: object = None,
    apple_add_trusted_file: object = None,
    apple_trust_callback: object = None,
    keychain: object = None,
    keychain_password: object = None,
    keychain_reset: object = None,
    name: object = None,
    cert_request_callback: object = None,
    tlsext_host_name: str | bool | NotGiven | None = NOT_GIVEN,
) -> SslAbstractContext:
    """Describe what a client needs to speak TLS, for ssl_ctx. The arguments are landline.create_ssl_client_context()'s.

    Raises:
        TypeError, ValueError: an argument is not allowed.
        HasNoMeaning: one about Apple's implementation; cert_request_callback.

    Differs: the server's certificate is always verified, by the system's roots where nothing else is said.

    Source: LispWorks manual, create-ssl-client-context.
    """
    _of_openssl(implementation, **{name_: value for name_, value in locals().items() if _is_apple(name_)})
    if cert_request_callback is not None:
        raise has_no_meaning("cert_request_callback", "a client's certificate is the one of cert_file")
    return abstract.create_ssl_client_context(
        key_file=key_file,
        cert_file=cert_file,
        password=password,
        password_callback=password_callback,
        protocol_version=symbol(protocol_version),
        verify_callback=_verify(verify_callback),
        openssl_trusted_file=_path(openssl_trusted_file),
        openssl_trusted_directory=_path(openssl_trusted_directory),
        openssl_ctx_configure_callback=openssl_ctx_configure_callback,
        openssl_ssl_configure_callback=openssl_ssl_configure_callback,
        tlsext_host_name=tlsext_host_name,
        name=name,
    )


def create_ssl_server_context(
    *,
    key_file: PathSpec | None = None,
    cert_file: PathSpec | None = None,
    password_callback: PasswordCallback | None = None,
    password: str | None = None,
    protocol_version: str | bool = True,
    implementation: str | None = None,
    openssl_ctx_configure_callback: Callable[[ssl.SSLContext], object] | None = None,
    openssl_ssl_configure_callback: Callable[[ssl.SSLObject], object] | None = None,
    apple_configure_callback: object = None,
    verify_callback: VerifyCallback | None = None,
    openssl_trusted_file: PathSpec | None = None,
    openssl_trusted_directory: PathSpec | None = None,
    apple_use_system_trusted: object = None,
    apple_add_trusted_file: object = None,
    apple_trust_callback: object = None,
    keychain: object = None,
    keychain_password: object = None,
    keychain_reset: object = None,
    name: object = None,
    dh_file: PathSpec | None = None,
    client_hello_callback: object = None,
) -> SslAbstractContext:
    """Describe what a server needs to speak TLS, for ssl_ctx. The arguments are landline.create_ssl_server_context()'s.

    Raises:
        TypeError, ValueError: an argument is not allowed.
        HasNoMeaning: one about Apple's implementation; client_hello_callback (landline has sni_callback for it).

    Source: LispWorks manual, create-ssl-server-context.
    """
    _of_openssl(implementation, **{name_: value for name_, value in locals().items() if _is_apple(name_)})
    if client_hello_callback is not None:
        raise has_no_meaning("client_hello_callback", "use landline.create_ssl_server_context(sni_callback=...)")
    return abstract.create_ssl_server_context(
        key_file=key_file,
        cert_file=cert_file,
        password=password,
        password_callback=password_callback,
        protocol_version=symbol(protocol_version),
        verify_callback=_verify(verify_callback),
        openssl_trusted_file=_path(openssl_trusted_file),
        openssl_trusted_directory=_path(openssl_trusted_directory),
        openssl_ctx_configure_callback=openssl_ctx_configure_callback,
        openssl_ssl_configure_callback=openssl_ssl_configure_callback,
        dh_file=dh_file,
        name=name,
    )


def ssl_abstract_context_name(context: SslAbstractContext) -> object:
    """The name it was given.

    Source: LispWorks manual, ssl-abstract-context.
    """
    return _abstract(context).name


def reset_ssl_abstract_context(context: SslAbstractContext) -> None:
    """Forget what its files gave: the next connection reads them again.

    Source: LispWorks manual, reset-ssl-abstract-context.
    """
    _abstract(context).reset()


def make_ssl_ctx(
    *, ssl_ctx: bool | str | ssl.SSLContext = True, ssl_side: Literal["client", "server"] = "server"
) -> ssl.SSLContext:
    """A context of one's own, for ssl_ctx. A client's trusts the system's roots; a server's has no certificate yet.

    Args:
        ssl_ctx: True, "default", "v23" or "tls-v1-2": TLS 1.2 or later; "tls-v1-3"; an ssl.SSLContext is the result as
            it is.

    Raises:
        TypeError, ValueError: a wrong argument; "v2", "v3" and "tls-v1" are refused.

    Source: LispWorks manual, make-ssl-ctx.
    """
    side = keyword(ssl_side, "ssl_side", ("client", "server", "both"))
    if side == "both":
        raise has_no_meaning("ssl_side='both'", "a context of Python's has its side; give 'client' or 'server'")
    import ssl

    if isinstance(ssl_ctx, ssl.SSLContext):
        return ssl_ctx
    version = lowest_version(symbol(ssl_ctx))
    return bare_server_context(version) if side == "server" else new_default_context(version)


def set_verification_mode(
    ctx: ssl.SSLContext,
    ssl_side: Literal["client", "server"],
    mode: int | str | Sequence[str],
    callback: object = None,
) -> None:
    """Say how a context verifies the peer's certificate.

    Args:
        ctx: an ssl.SSLContext.
        ssl_side: "client" or "server".
        mode: "always": a client must be shown a good certificate for the name; a server asks for one, and what it is
            shown must be good. "once": the same. "never": a client takes any server, whoever it is; a server asks for
            none. Or a list of "verify-peer", "fail-if-no-peer-cert" and "verify-client-once"; or OpenSSL's number for
            it.

    Raises:
        TypeError, ValueError: a wrong argument.
        HasNoMeaning: a session instead of a context; a ``callback`` (a foreign function: see verify_callback of
            create_ssl_client_context() and create_ssl_server_context()).

    Source: LispWorks manual, set-verification-mode.
    """
    context = _context(ctx)
    side = keyword(ssl_side, "ssl_side", ("client", "server"))
    if callback is not None:
        raise has_no_meaning("callback", "Python's ssl has no such hook; see verify_callback of the abstract contexts")
    peer, required = _mode(mode, side)
    import ssl

    if peer and side == "client":
        context.verify_mode = ssl.CERT_REQUIRED
        context.check_hostname = True
    elif peer:
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE


def get_verification_mode(ctx: ssl.SSLContext) -> list[str]:
    """How a context verifies, as a list for set_verification_mode(); [] is "never".

    Source: LispWorks manual, get-verification-mode.
    """
    import ssl

    modes = {ssl.CERT_NONE: [], ssl.CERT_OPTIONAL: ["verify-peer"]}
    return modes.get(_context(ctx).verify_mode, ["verify-peer", "fail-if-no-peer-cert"])


def set_ssl_ctx_options(ctx: ssl.SSLContext, **options: bool) -> None:
    """Switch options of OpenSSL's on and off, by their names: ``set_ssl_ctx_options(ctx, no_ticket=True)``.

    Raises:
        ValueError: Python's ssl has no such option; the message lists those that there are.

    Source: LispWorks manual, set-ssl-ctx-options; SSL_CTX_set_options(3).
    """
    import ssl

    context = _context(ctx)
    known = {name.removeprefix("OP_").lower(): value for name, value in vars(ssl).items() if name.startswith("OP_")}
    for name in options:
        if name not in known:
            raise ValueError(f"the option {name!r} is not allowed: there are {', '.join(sorted(known))}")
    for name, wanted in options.items():
        context.options = context.options | known[name] if wanted else context.options & ~known[name]


def set_ssl_ctx_password_callback(
    ctx: ssl.SSLContext, *, callback: Callable[[int, bool], str | bytes] | None = None, password: str | None = None
) -> None:
    """The password of encrypted keys that ``ctx.load_cert_chain()`` loads from now on, where it gets none itself.

    Args:
        callback: called with the greatest length and False (the key is read, not written); gives the password.
        password: the same for every key.

    Raises:
        TypeError, ValueError: neither of them, or both.

    Source: LispWorks manual, set-ssl-ctx-password-callback.
    """
    context = _context(ctx)
    if (callback is None) == (password is None):
        raise ValueError("exactly one of callback and password must be given")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback={callback!r} is not allowed: it must be a function of two arguments")

    def asked() -> str | bytes:
        return str(password) if callback is None else callback(LONGEST_PASSWORD, False)

    plain: Any = type(context).load_cert_chain

    def load_cert_chain(self: ssl.SSLContext, certfile: Any, keyfile: Any = None, password: Any = None) -> None:
        plain(self, certfile, keyfile, asked if password is None else password)

    context.load_cert_chain = MethodType(load_cert_chain, context)  # type: ignore[method-assign]


class DhParameters(NamedTuple):
    """Diffie-Hellman parameters that read_dhparams() found in a file."""

    filename: str


def read_dhparams(
    filename: PathSpec,
    *,
    pass_phrase: object = None,
    callback: object = None,
    errorp: object = True,
    force: object = False,
) -> DhParameters | None:
    """Diffie-Hellman parameters for set_ssl_ctx_dh(), from a PEM file. With a false ``errorp`` None if there are none.

    Raises:
        OSError, ssl.SSLError: the file cannot be read, or holds none.
        HasNoMeaning: pass_phrase, callback: such a file is not encrypted.

    Source: LispWorks manual, read-dhparams.
    """
    _of_no_secret(pass_phrase, callback)
    import ssl

    name = os.fspath(filename)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_dh_params(name)
    except OSError:  # ssl.SSLError is one
        if errorp:
            raise
        return None
    return DhParameters(name)


def set_ssl_ctx_dh(
    ctx: ssl.SSLContext,
    *,
    dh: DhParameters | None = None,
    filename: PathSpec | None = None,
    func: Callable[[bool, int], DhParameters | None] | None = None,
    filename_list: Sequence[PathSpec] | None = None,
    pass_phrase: object = None,
    callback: object = None,
) -> bool:
    """The Diffie-Hellman parameters of a server's context, for TLS 1.2: the first that is given of the arguments.

    Args:
        dh: what read_dhparams() gives.
        filename: a PEM file.
        func: called with False and 2048, gives what read_dhparams() gives.
        filename_list: PEM files, of which the first that can be used is.

    Returns:
        Whether there were any.

    Raises:
        TypeError: a wrong argument.
        OSError, HasNoMeaning: as read_dhparams().

    Source: LispWorks manual, set-ssl-ctx-dh.
    """
    context = _context(ctx)
    _of_no_secret(pass_phrase, callback)
    if not isinstance(dh, (DhParameters, type(None))):
        raise TypeError(f"dh={dh!r} is not allowed: it must be what read_dhparams() gives")
    found = dh
    if found is None and filename is not None:
        found = read_dhparams(filename)
    if found is None and func is not None:
        found = func(False, 2048)
    if found is None:
        usable = (read_dhparams(each, errorp=False) for each in filename_list or ())
        found = next((each for each in usable if each is not None), None)
    if found is None:
        return False
    context.load_dh_params(found.filename)
    return True


def ensure_ssl(*, library_path: object = None, already_done: object = False, implementation: str | None = None) -> None:
    """Load the TLS library, if it is not loaded. Every function here does so by itself.

    Raises:
        HasNoMeaning: library_path: Python is built with its OpenSSL.

    Source: LispWorks manual, ensure-ssl.
    """
    if library_path is not None:
        raise has_no_meaning("library_path", "Python is built with its OpenSSL")
    _of_openssl(implementation)
    import ssl  # noqa: F401


def openssl_version() -> str:
    """The version of OpenSSL, as it tells it.

    Source: LispWorks manual, openssl-version.
    """
    import ssl

    return ssl.OPENSSL_VERSION


def ssl_default_implementation() -> str:
    """The implementation that connections use: "openssl".

    Source: LispWorks manual, ssl-default-implementation.
    """
    return "openssl"


def set_ssl_default_implementation(implementation: str) -> str:
    """Choose the default implementation. The manual's (setf ssl-default-implementation).

    Raises:
        ValueError: it is not available here, or not by default.

    Source: LispWorks manual, ssl-default-implementation.
    """
    _of_openssl(implementation)
    return "openssl"


def ssl_implementation_available_p(implementation: str) -> bool:
    """Whether connections can use it: "openssl" yes, "apple" no, "java" where jpype1 is installed.

    Source: LispWorks manual, ssl-implementation-available-p.
    """
    chosen = keyword(implementation, "implementation", IMPLEMENTATIONS)
    return chosen == "openssl" or (chosen == "java" and find_spec("jpype") is not None)


def _of_no_secret(pass_phrase: object, callback: object) -> None:
    if pass_phrase is not None or callback is not None:
        raise has_no_meaning("pass_phrase or callback", "Diffie-Hellman parameters are public, and never encrypted")


def _of_openssl(implementation: str | None, **apple: object) -> None:
    if implementation is not None and keyword(implementation, "implementation", IMPLEMENTATIONS) != "openssl":
        raise ValueError(f"implementation={implementation!r} is not allowed: it must be 'openssl', the only one here")
    for name, value in apple.items():
        if value is not None:
            raise has_no_meaning(name, _APPLE)


def _is_apple(name: str) -> bool:
    return name.startswith(("apple_", "keychain"))


def _verify(verify_callback: Any) -> Any:
    return (
        keyword(verify_callback, "verify_callback", ("try",)) if isinstance(verify_callback, str) else verify_callback
    )


def _path(path: Any) -> Any:
    return "default" if path in (":default", ":DEFAULT") else path


def _abstract(context: object) -> SslAbstractContext:
    if not isinstance(context, SslAbstractContext):
        raise TypeError(f"context={context!r} is not allowed: it must be an ssl_abstract_context")
    return context


def _context(ctx: object) -> ssl.SSLContext:
    import ssl

    if isinstance(ctx, (ssl.SSLObject, ssl.SSLSocket)):
        raise has_no_meaning("a session (ssl-pointer)", "in Python its context has this setting; give ctx.context")
    if not isinstance(ctx, ssl.SSLContext):
        raise TypeError(f"ctx={ctx!r} is not allowed: it must be an ssl.SSLContext")
    return ctx


def _mode(mode: int | str | Sequence[str], side: str) -> tuple[bool, bool]:
    """(whether the peer is verified, whether it must show a certificate)."""
    if isinstance(mode, bool) or not isinstance(mode, (int, str, list, tuple)):
        raise TypeError(f"mode={mode!r} is not allowed: it must be 'never', 'always', 'once', a list, or a number")
    if isinstance(mode, int):
        if not 0 <= mode < 8:
            raise ValueError(f"mode={mode} is not allowed: it must be a sum of 1 (peer), 2 (fail if none), 4 (once)")
        return bool(mode & 1), bool(mode & 2)
    if isinstance(mode, str):
        return keyword(mode, "mode", ("never", "always", "once")) != "never", False
    words = [keyword(each, "mode", ("verify-peer", "fail-if-no-peer-cert", "verify-client-once")) for each in mode]
    return "verify-peer" in words, "fail-if-no-peer-cert" in words
