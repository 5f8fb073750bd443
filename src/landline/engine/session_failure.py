"""How a TLS session fails: what its driver is told, and how that is read from what OpenSSL and the peer have said."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "ALERT",
    "MISMATCH_ALERTS",
    "MISMATCH_REASONS",
    "Failure",
    "Kind",
    "NotYet",
    "SessionFailed",
    "may_be_tls",
    "not_tls",
]

Kind = Literal["truncated", "closed", "verification", "mismatch", "not tls", "alert", "protocol", "local"]


@dataclass(frozen=True)
class Failure:
    """How a session ended.

    * "truncated": the transport ended without close_notify.
    * "closed": the peer sent close_notify in the middle of the handshake.
    * "verification": this side refuses the peer's certificate; ``verify_code`` is the X509_V_ERR_ number or 0.
    * "mismatch": no common version or cipher, as seen from here, or as the peer's ``alert`` says.
    * "not tls": the peer does not speak TLS; ``heard`` is how it began.
    * "alert": any other fatal ``alert`` of the peer, in words ("unknown ca").
    * "protocol": what came is not what TLS allows: a damaged record, for instance.
    * "local": an exception on this side that is not OpenSSL's (a callback's, a signal handler's).

    ``text`` is for a message, ``reason`` is OpenSSL's name for it (or None); ``established``: after the handshake.
    """

    kind: Kind
    text: str
    reason: str | None = None
    established: bool = False
    alert: str | None = None
    verify_code: int = 0
    heard: bytes = b""


class SessionFailed(OSError):
    """The session failed, now or earlier; ``failure`` says how, ``__cause__`` is the exception behind it.

    An OSError without a number: whoever drives a session treats it as a connection that broke.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class NotYet(SessionFailed):
    """The handshake is not done. Nothing has failed by that: it can be gone on with."""

    def __init__(self) -> None:
        super().__init__(Failure("local", "the TLS handshake is not done (handshake() goes on with it)"))


# For some alerts CPython has no name, and OpenSSL 3.2 words them differently.
ALERT = re.compile(r"(?:(?:sslv3|tlsv13?|ssl/tls) alert|tlsv13?) (.+)", re.IGNORECASE)
MISMATCH_ALERTS = {"handshake failure", "protocol version", "insufficient security", "inappropriate fallback"}
MISMATCH_REASONS = {
    "INAPPROPRIATE_FALLBACK", "NO_CIPHERS_AVAILABLE", "NO_PROTOCOLS_AVAILABLE", "NO_SHARED_CIPHER", "NO_SHARED_GROUPS",
    "NO_SUITABLE_GROUPS", "NO_SUITABLE_KEY_SHARE", "UNKNOWN_CIPHER_RETURNED", "UNSUPPORTED_PROTOCOL",
    "UNSUPPORTED_SSL_VERSION", "VERSION_TOO_HIGH", "VERSION_TOO_LOW", "WRONG_CIPHER_RETURNED", "WRONG_SSL_VERSION",
}  # fmt: skip


def may_be_tls(first: bytes) -> bool:
    """Whether a peer's first bytes can be the head of a record, or of a ClientHello in the form of SSL 2."""
    if first[:1] and 20 <= first[0] <= 24:
        return first[1:2] in (b"", b"\x03")
    return not first or (first[0] >= 0x80 and first[2:3] in (b"", b"\x01"))


def not_tls(first: bytes, reason: str | None) -> Failure:
    """The failure of a handshake with a peer that began with ``first``."""
    speaks = "speaks plain HTTP, not TLS" if first.startswith(_HTTP) else "does not speak TLS"
    return Failure("not tls", f"the peer {speaks}; it began with {str(first)[1:]}", reason, heard=first)


_HTTP = (b"HTTP/", b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"PATCH ", b"TRACE ")
