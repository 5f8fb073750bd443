"""Why a certificate was refused, in one sentence that a person can act on.

OpenSSL says "certificate verify failed: unable to get local issuer certificate (_ssl.c:1006)". What helps is:
which host was wanted, what the certificate is for, until when, who issued it, and what to do now. Everything
the peer wrote is shortened and stripped of control characters first, so that a certificate can neither flood
a log nor repaint a terminal.

Codes are those of OpenSSL's x509_vfy.h, the same from 1.1.1 to 3.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from .certificate import Certificate, read_certificate

if TYPE_CHECKING:
    import ssl

    from ..errors import SslVerificationFailure

__all__ = ["explain_refusal", "printable", "refused", "what_and_remedy"]

NAMES_SHOWN = 3  # enough to recognise a certificate by
LONGEST_SHOWN = 80  # characters of one text of the peer's; a full name of 253 is still recognisable by these
WRONG_NAME, WRONG_ADDRESS = 62, 64  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


def refused(
    code: int,
    reason: str,
    *,
    wanted: str | None = None,
    chain: Sequence[bytes] = (),
    server_side: bool = False,
    context: ssl.SSLContext | None = None,
    address: object = None,
) -> SslVerificationFailure:
    """The condition for a refused certificate; arguments as for `explain_refusal`.

    Its ``ssl_code`` is ("verification", code), as the manual's (:verification more-info); ``verify_code`` and
    ``verify_message`` are those of ssl.SSLCertVerificationError.
    """
    from ..errors import SslVerificationFailure

    message = explain_refusal(code, reason, wanted=wanted, chain=chain, server_side=server_side, context=context)
    made = SslVerificationFailure(
        message, ssl_code=("verification", code), operation="handshake", address=wanted if address is None else address
    )
    made.verify_code, made.verify_message = code, reason
    return made


def explain_refusal(
    code: int,
    reason: str,
    *,
    wanted: str | None = None,
    chain: Sequence[bytes] = (),
    server_side: bool = False,
    context: ssl.SSLContext | None = None,
    now: datetime | None = None,
) -> str:
    """One sentence: whose certificate, what is wrong with it, what to do, and the certificate's own facts.

    Args:
        code: OpenSSL's verify code (``verify_code`` of the exception).
        reason: OpenSSL's own words for it (``verify_message``), used where the code has no better ones.
        wanted: the name or address the certificate was checked against; None where none was.
        chain: the certificates the peer sent, its own first, as DER; unreadable ones are left out.
        server_side: this side is the server, so the certificate is a client's.
        context: the context it was verified in, to notice that it knows no root at all.
        now: the time to compare with (aware); the clock's by default.
    """
    now = now or datetime.now(UTC)
    read = [one for one in map(_read_or_none, chain) if one is not None]
    whose = "the client's certificate" if server_side else "the peer's certificate"
    if wanted is not None:
        whose = f"the certificate shown for {wanted!r}"
    what, remedy = what_and_remedy(code, reason, wanted, read, "client" if server_side else "server", now)
    if code in _ISSUER_UNKNOWN and context is not None and _knows_no_root(context):
        what = "no trusted root certificate was found on this machine"
        remedy = "install the system's (Debian: ca-certificates), or name a file with SSL_CERT_FILE"
    facts = f" (it is {_facts(read[0])})" if read else ""
    return f"{whose} was refused: {what}; {remedy}{facts}"


def printable(text: str, limit: int = LONGEST_SHOWN) -> str:
    """Text of the peer's, quoted, at most `limit` characters, with nothing in it that a terminal would obey."""
    shown = text if len(text) <= limit else text[: limit - 3] + "..."
    return "'" + "".join(c if c.isprintable() else "?" for c in shown) + "'"


_EXPIRED, _NOT_YET_VALID, _SELF_SIGNED, _UNKNOWN_ROOT = 10, 9, 18, 19
_ISSUER_UNKNOWN = (2, 20, 21, 27)
_BREAKS_RFC_5280 = range(80, 95)  # what VERIFY_X509_STRICT adds

_PLAIN = {
    3: ("no revocation list of its issuer{issuer} was given", "add that issuer's list to crl_file="),
    11: ("the revocation list of its issuer{issuer} is not valid yet", "check the list, and this machine's clock"),
    12: (
        "the revocation list of its issuer{issuer} is out of date",
        "fetch a new one into crl_file= and call reset() on the context",
    ),
    23: ("its issuer{issuer} has revoked it", "do not use this {side} until it shows a new certificate"),
    26: ("it is not meant for a TLS {side}", "the {side} needs a certificate whose extended key usage says so"),
    66: ("its key is too weak", "the {side} needs a certificate with a key of 2048 bits RSA, 256 bits EC, or more"),
    67: ("the key of an authority in its chain is too weak", "the {side} needs a certificate of another authority"),
    68: (
        "an authority in its chain signs with a digest that is no longer safe",
        "the {side} needs a newly issued certificate",
    ),
    79: (
        "it was issued by{issuer}, which is not an authority",
        "the {side} needs a certificate of a certificate authority",
    ),
}


def what_and_remedy(
    code: int, reason: str, wanted: str | None, chain: list[Certificate], side: str, now: datetime
) -> tuple[str, str]:
    """What is wrong with a chain that OpenSSL has refused, and what to do about it; ``side`` has shown it."""
    leaf = chain[0] if chain else None
    named = bool(chain and chain[-1].issuer)  # on a server OpenSSL keeps no chain that it has refused
    issuer = printable(chain[-1].issuer or "") if named else "an authority"
    if code in (WRONG_NAME, WRONG_ADDRESS):
        return _wrong_name(wanted, leaf, side)
    if code == _EXPIRED:
        old = next((one for one in chain if one.not_after < now), None)
        when = f" on {_day(old.not_after)}, {_ago(now - old.not_after)} ago" if old else ""
        return (
            f"{_which(old, leaf)} expired{when}",
            f"it must be renewed, unless this machine's clock ({_day(now)}) is wrong",
        )
    if code == _NOT_YET_VALID:
        new = next((one for one in chain if one.not_before > now), None)
        when = f" until {_day(new.not_before)}" if new else ""
        return f"{_which(new, leaf)} is not valid{when}", f"check this machine's clock ({_day(now)}), then the {side}'s"
    if code == _SELF_SIGNED:
        return "it is signed by itself, not by an authority", "if you know it, trust it with openssl_trusted_file="
    if code == _UNKNOWN_ROOT:
        return (
            f"its chain ends at {'the authority ' if named else ''}{issuer}, which is not trusted here",
            "if you know it (a company's own, or an inspecting proxy's), trust it with openssl_trusted_file=",
        )
    if code in _ISSUER_UNKNOWN:
        return (
            f"its chain ends at {issuer}, which is not known here",
            f"let the {side} send its intermediate certificates too, or trust that one with openssl_trusted_file=",
        )
    if code in _PLAIN:
        what, remedy = _PLAIN[code]
        issuer = f" {printable(leaf.issuer)}" if leaf and leaf.issuer else " somebody" if code == 79 else ""
        return what.format(issuer=issuer, side=side), remedy.format(issuer=issuer, side=side)
    words = printable(reason, 200)
    if code in _BREAKS_RFC_5280:
        return (
            f"a certificate in its chain breaks RFC 5280, OpenSSL says {words}",
            "have it issued anew; meanwhile openssl_ctx_configure_callback= may clear ssl.VERIFY_X509_STRICT",
        )
    return f"OpenSSL says {words}", f"see verify code {code} in OpenSSL's X509_STORE_CTX_get_error"


def _wrong_name(wanted: str | None, leaf: Certificate | None, side: str) -> tuple[str, str]:
    if leaf is None:
        return "it is for another name", f"the {side} needs a certificate for {wanted!r}"
    shown = [*leaf.names, *map(str, leaf.addresses)]
    if not shown:
        common = f" (only a common name, {printable(leaf.subject)}, which no longer counts)" if leaf.subject else ""
        return f"it names no host{common}", f"it must have {wanted!r} among its subject alternative names"
    return f"it is not for {wanted!r}", f"use a name it is for, or give the {side} a certificate for {wanted!r}"


def _which(one: Certificate | None, leaf: Certificate | None) -> str:
    if one is None or one is leaf:
        return "it"
    return f"the certificate of its authority {printable(one.subject or '')}"


def _facts(leaf: Certificate) -> str:
    shown = [*leaf.names, *map(str, leaf.addresses)]
    whom = "for " + ", ".join(map(printable, shown[:NAMES_SHOWN])) if shown else "for no host"
    if not shown and leaf.subject:
        whom = f"called {printable(leaf.subject)}"
    if len(shown) > NAMES_SHOWN:
        # A space parts thousands: a comma or a full stop means different things to different readers.
        whom += f" and {len(shown) - NAMES_SHOWN:,} more".replace(",", " ")
    by = f"issued by {printable(leaf.issuer)}" if leaf.issuer else "of an unnamed issuer"
    return f"{whom}, {by}, valid {_day(leaf.not_before)} to {_day(leaf.not_after)}"


def _day(when: datetime) -> str:
    return f"{when.year:04}-{when:%m-%d %H:%M} UTC"


def _ago(span: timedelta) -> str:
    number, unit = (span.days, "day") if span.days else (span.seconds // 60, "minute")
    return f"{number} {unit}{'' if number == 1 else 's'}"


def _read_or_none(der: bytes) -> Certificate | None:
    try:
        return read_certificate(der)
    except ValueError:
        return None


def _knows_no_root(context: ssl.SSLContext) -> bool:
    """Whether there is no root in the context, nor in the directories where OpenSSL would look for one later."""
    import os
    import ssl

    try:
        if context.cert_store_stats()["x509"]:
            return False
    except NotImplementedError:  # truststore asks the system
        return False
    directory = ssl.get_default_verify_paths().capath
    try:
        return not (directory and os.listdir(directory))
    except OSError:
        return True
