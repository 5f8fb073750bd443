"""TLS as the command line has it: the context that the options describe, and what was agreed upon, in a line."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from .. import SocketStream, SslAbstractContext, TlsInfo, create_ssl_client_context
from ..tls.names import NOT_GIVEN, NotGiven
from ..tls.refusal import printable
from .screen import STDERR
from .starttls import dialogue

if TYPE_CHECKING:
    import ssl

__all__ = ["TlsChoice", "ask_for_password", "facts"]

NOBODY_KNOWS = (
    "WARNING: --no-verify: nobody knows who is at the other end. Whoever is in between can read and change everything."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsChoice:
    """The options about TLS, as given; ``sni`` "" sends no name."""

    starttls: str | None
    alpn: tuple[str, ...]
    cert: Path | None
    key: Path | None
    ca: Path | None
    sni: str | None
    verify: bool

    handshake_limit: ClassVar[float] = 30.0
    """Seconds where --timeout bounds nothing: a server that does not speak TLS may just wait, too."""

    @property
    def server_name(self) -> str | NotGiven | None:
        """As open_tcp_stream() takes it for ``tlsext_host_name``."""
        return NOT_GIVEN if self.sni is None else self.sni or None

    def context(self) -> SslAbstractContext:
        """Raises ValueError, TypeError. Its files are read at the first use."""
        directory = self.ca is not None and self.ca.is_dir()
        return create_ssl_client_context(
            cert_file=self.cert,
            key_file=self.key,
            password_callback=None if self.cert is None else ask_for_password,
            openssl_trusted_file=None if directory else self.ca,
            openssl_trusted_directory=self.ca if directory else None,
            alpn=self.alpn,
            openssl_ctx_configure_callback=None if self.verify else _trust_anybody,
        )

    def warn(self) -> None:
        """Say loudly that the peer is not verified, if that is so."""
        if self.verify:
            return
        loud = os.isatty(STDERR) and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
        begin, end = ("\x1b[1;31m", "\x1b[0m") if loud else ("", "")
        print(f"{begin}landline: {NOBODY_KNOWS}{end}", file=sys.stderr, flush=True)

    def start(self, stream: SocketStream, host: str, timeout: float | None) -> None:
        """TLS on an open connection: behind what a protocol says first, or over a Unix domain socket."""
        if self.starttls is not None:
            dialogue(self.starttls, stream, self.sni or host, timeout)
        limit = self.handshake_limit if timeout is None else timeout
        stream.start_tls(self.context(), host=host, tlsext_host_name=self.server_name, handshake_timeout=limit)


def facts(tls: TlsInfo, today: datetime | None = None) -> str:
    """What a handshake agreed upon, in a line."""
    parts = [tls.version, tls.cipher]
    if tls.alpn is not None:
        parts.append(printable(tls.alpn).strip("'"))
    if tls.session_reused:
        parts.append("resumed")
    verified = "verified" if tls.verify().ok else "NOT VERIFIED"
    try:
        certificate = tls.certificate
    except ValueError:
        certificate = None
    if certificate is None:
        return f"{', '.join(parts)}; {verified}"
    names = [*certificate.names, *map(str, certificate.addresses)] or [certificate.subject or "nobody"]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    days = (certificate.not_after - (today or datetime.now(UTC))).days
    end = f"until {certificate.not_after:%Y-%m-%d} ({days} {'day' if days == 1 else 'days'})"
    name = tls.checked_name if tls.checked_name in names else names[0]
    issuer = printable(certificate.issuer or "nobody")
    return f"{', '.join(parts)}; {verified}: {printable(name)}{more}, by {issuer}, {end}"


def _trust_anybody(context: ssl.SSLContext) -> None:
    import ssl

    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE


def ask_for_password(file: str) -> str:
    """The password of an encrypted key; asked at the terminal itself, since standard input is for the peer."""
    from getpass import getpass

    try:
        with open("/dev/tty", "r+b", buffering=0):
            pass
    except OSError:
        raise ValueError(f"the key in {file} is encrypted, and there is no terminal to ask for its password") from None
    return getpass(f"Password of {file}: ")
