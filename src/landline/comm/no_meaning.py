"""What the manual has and Python has no use for: names that say so when they are called.

They are here so that ported code fails where the difference is, with a sentence about it, and not somewhere else.
docs/manual.md is made from this table.

Source: LispWorks manual, chapter COMM; 25.8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from .keywords import has_no_meaning

__all__ = ["NO_MEANING", "functions"]

_FREED = "Python frees what nobody uses; leave the call out"
_SIDE = "a session has its side from the beginning; give ssl_side"
_METHODS = "it is about OpenSSL's C interface; ssl.SSLContext and ssl.SSLObject have methods"

NO_MEANING = {
    "destroy-ssl": _FREED,
    "destroy-ssl-ctx": _FREED,
    "do-rand-seed": "the operating system seeds OpenSSL; leave the call out",
    "release-certificate": _FREED,
    "release-certificates-vector": _FREED,
    "set-ssl-library-path": "Python is built with its OpenSSL",
    "ssl-add-client-ca": _METHODS,
    "ssl-cipher-get-bits": "see stream.tls.cipher_bits",
    "ssl-cipher-get-name": "see stream.tls.cipher",
    "ssl-cipher-get-version": "see SSLObject.cipher()",
    "ssl-connection-read-certificates": "a session's certificates are its context's; give an ssl_abstract_context",
    "ssl-connection-read-dh-params-file": "a session's parameters are its context's; see set_ssl_ctx_dh()",
    "ssl-ctrl": _METHODS,
    "ssl-ctx-add-client-ca": _METHODS,
    "ssl-ctx-add-extra-chain-cert": "the chain stands behind the certificate in cert_file",
    "ssl-ctx-ctrl": _METHODS,
    "ssl-ctx-get-max-cert-list": _METHODS,
    "ssl-ctx-get-mode": _METHODS,
    "ssl-ctx-get-options": "see SSLContext.options",
    "ssl-ctx-get-read-ahead": _METHODS,
    "ssl-new": "landline makes the session; ssl_configure_callback gets it before its handshake",
    "ssl-set-accept-state": _SIDE,
    "ssl-set-connect-state": _SIDE,
    "set-ssl-ctx-cert-cb": "see sni_callback of landline.create_ssl_server_context()",
    "with-noticed-socket-stream": "threads wait by themselves here; leave it out, or see wait_for_input_streams()",
}
"""Functions and macros, by their names in the manual, and what to do instead."""


def functions() -> dict[str, Callable[..., NoReturn]]:
    """A function for each of them, under its name in Python, that raises HasNoMeaning."""
    return {lisp.replace("-", "_"): _function(lisp.replace("-", "_"), why) for lisp, why in NO_MEANING.items()}


def _function(name: str, why: str) -> Callable[..., NoReturn]:
    def refuse(*arguments: object, **more: object) -> NoReturn:
        raise has_no_meaning(f"{name}()", why)

    refuse.__name__ = refuse.__qualname__ = name
    refuse.__module__ = __package__
    refuse.__doc__ = f"Has no meaning here: {why}."
    return refuse
