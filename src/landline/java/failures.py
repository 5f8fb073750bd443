"""What Java says of a failure, as the ssl module would say it: so that everybody above hears one language.

Java tells most by text, and by which exception caused which. What it says is kept: in the message where it says more
than a number does, and whole as the condition's ``__cause__``, one below it.

Texts are those of OpenJDK 11 to 25. On another TLS of Java's (Android's, Bouncy Castle's) what is not recognised is
told in that one's words, as SslFailure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..tls.certificate import read_certificate
from ..tls.refusal import WRONG_ADDRESS, WRONG_NAME

if TYPE_CHECKING:
    import ssl

__all__ = ["UNKNOWN_CODE", "as_ssl_error", "verify_code"]

UNKNOWN_CODE = 1
"""X509_V_ERR_UNSPECIFIED: what Java says is all there is."""

Causes = Sequence[tuple[str, str]]

_ALERT = re.compile(r"(?:\([a-z_]+\) )?Received fatal alert: (\w+)")
_PREFIX = re.compile(r"\((\w+)\) ")
"""Since Java 19 a text begins with the alert that goes with it."""

_MISMATCHES = (
    ("protocol version", "UNSUPPORTED_PROTOCOL"),
    ("No appropriate protocol", "NO_PROTOCOLS_AVAILABLE"),
    ("cipher suite", "WRONG_CIPHER_RETURNED"),
    ("ciphersuite", "WRONG_CIPHER_RETURNED"),
)
"""What this side says when it does not agree with the other, and OpenSSL's name for it."""

_UNTRUSTED = (
    "unable to find valid certification path", "does not chain with any of the trust anchors",
    "No trusted certificate found", "Trust anchor for certification path not found",
)  # fmt: skip
_SAYS = (
    ("CertificateExpiredException", 10),
    ("CertificateNotYetValidException", 9),
    ("CertificateRevokedException", 23),
    ("has been revoked", 23),
    ("check failed on keysize limits", 66),
    ("Algorithm constraints check failed", 68),
    ("Extended key usage does not permit", 26),
    ("not a CA certificate", 79),
    ("CA key usage check failed", 79),
    ("matching IP address", WRONG_ADDRESS),
    ("No subject alternative", WRONG_NAME),
    ("No name matching", WRONG_NAME),
    ("Illegal given domain name", WRONG_NAME),
)
"""A class or words that tell what is wrong with a certificate: OpenSSL's code for it."""


def as_ssl_error(causes: Causes, refused: Sequence[bytes], established: bool) -> ssl.SSLError:
    """The error that OpenSSL would have given.

    Args:
        causes: an exception of Java's, its cause, and so on: class and text.
        refused: the chain that was being verified, as DER.
        established: after the handshake.
    """
    import ssl

    text = causes[0][1] or causes[0][0]
    if told := _ALERT.search(text):
        return ssl.SSLError(ssl.SSL_ERROR_SSL, f"tlsv1 alert {told[1].replace('_', ' ')}")
    if any("java.security.cert." in kind or ".validator." in kind or "Cert" in kind for kind, _ in causes):
        error = ssl.SSLCertVerificationError(ssl.SSL_ERROR_SSL, text)
        error.verify_code, error.verify_message = verify_code(causes, refused), _innermost(causes)
        return error
    if "Received close_notify during handshake" in text:
        return ssl.SSLZeroReturnError(ssl.SSL_ERROR_ZERO_RETURN, text)
    failure = ssl.SSLError(ssl.SSL_ERROR_SSL, "Java says: " + text.replace("] ", "]: "))
    if not established:
        failure.reason = next((reason for words, reason in _MISMATCHES if words in text), None)  # type: ignore[assignment]
    return failure


def verify_code(causes: Causes, refused: Sequence[bytes]) -> int:
    """OpenSSL's number for what is wrong with a certificate; UNKNOWN_CODE where Java's words do not tell."""
    for sign, code in _SAYS:
        if any(sign in kind or sign in text for kind, text in causes):
            return code
    if any(sign in text for sign in _UNTRUSTED for _, text in causes):
        return _untrusted(refused)
    return UNKNOWN_CODE


def _untrusted(refused: Sequence[bytes]) -> int:
    """Java finds no way to a certificate that it trusts, and does not say where it ends."""
    try:
        chain = [read_certificate(each) for each in refused]
    except ValueError:
        return UNKNOWN_CODE
    if not chain or not chain[-1].self_issued:
        return 20
    return 18 if len(chain) == 1 else 19


def _innermost(causes: Causes) -> str:
    """What lies at the bottom, without the names of classes in front."""
    texts = [text for _, text in causes if text]
    text = texts[-1] if texts else causes[-1][0]
    return _PREFIX.sub("", re.sub(r"^(?:[\w$]+\.)+[\w$]+: ", "", text))
