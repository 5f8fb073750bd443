"""What is known about an open TLS connection, as plain values: ``stream.tls``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from .certificate import Certificate, read_certificate

__all__ = ["TlsInfo", "Verification"]


class Verification(NamedTuple):
    """Whether the peer proved who it is.

    Attributes:
        ok: its chain leads to a trusted certificate, and it is for the name that was to be checked, if any.
        reason: why not; "" when it did.
    """

    ok: bool
    reason: str


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """What a handshake agreed upon. It stays as it is when the stream is closed.

    Attributes:
        version: "TLSv1.3" or "TLSv1.2" (a context of your own may allow others).
        cipher: OpenSSL's name of the cipher suite (Java's, where Java does TLS).
        cipher_bits: the strength of its key.
        alpn: the application protocol that was agreed upon; None when there was none.
        session_reused: an earlier session was resumed, without certificates being sent.
        server_side: this side is the server.
        sni: the name that this side sent (a client); None when it sent none.
        checked_name: the name or address that the peer's certificate was checked against; None when it was not.
        chain: the peer's certificates as DER, its own first; () when it showed none. The verified chain where the
            Python in use tells it; on a resumed session there may be only the first.
        required: the context verifies certificates.

    Source: LispWorks manual, ssl-connection-protocol-version, ssl-connection-get-peer-certificates-data.
    """

    version: str
    cipher: str
    cipher_bits: int
    alpn: str | None
    session_reused: bool
    server_side: bool
    sni: str | None
    checked_name: str | None
    chain: tuple[bytes, ...] = field(repr=False)
    required: bool

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """The chain, read. Raises ValueError when one of them is no certificate."""
        return tuple(map(read_certificate, self.chain))

    @property
    def certificate(self) -> Certificate | None:
        """The peer's own certificate, read; None when it showed none. Raises ValueError as `certificates` does."""
        return read_certificate(self.chain[0]) if self.chain else None

    def verify(self) -> Verification:
        """Whether the peer proved who it is. Nothing is computed anew: it is what the handshake has found.

        Python's ssl does not tell what OpenSSL made of a certificate that a context does not require to be good.
        Such a peer counts as unproven.

        Source: LispWorks manual, ssl-connection-verify.
        """
        if not self.chain:
            return Verification(False, "the peer showed no certificate")
        if not self.required:
            return Verification(False, "the context does not verify certificates (verify_mode is CERT_NONE)")
        return Verification(True, "")
