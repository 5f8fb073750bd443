"""Which name is sent (SNI), and which one the certificate is checked against.

They are two questions. The check is always about the host asked for; SNI only helps a server to choose.
Python's ssl ties them together in `server_hostname`, and silently checks nothing at all when that is None, so
wherever the two differ the name is checked here, after the handshake and before one byte of data passes.

That check is thirty lines of our own, on names read by certificate.py. The service-identity package was tried
and rejected: it refuses what OpenSSL accepts in the ordinary handshake (a wildcard for an IDNA label; any
certificate with an unrelated malformed entry), and fails with a stray ValueError on a URI entry with a port.
A server must not become untrusted because SNI was left out. Here the rules are OpenSSL's own, as Python sets
them up, and a test holds both against each other.

Sources: LispWorks manual, open-tcp-stream (tlsext-host-name); RFC 6066 3 (SNI); RFC 9525 6 (the check).
"""

from __future__ import annotations

import enum
import ipaddress
from typing import TYPE_CHECKING, Final

from ..address import parse_host

if TYPE_CHECKING:
    from ..address import Host

__all__ = ["NOT_GIVEN", "NotGiven", "check_certificate", "checked_name", "name_matches", "parse_sni", "sni_name"]


class NotGiven(enum.Enum):
    """The type of NOT_GIVEN: None has a meaning of its own (send no name)."""

    NOT_GIVEN = enum.auto()

    def __repr__(self) -> str:
        return "<not given>"


NOT_GIVEN: Final = NotGiven.NOT_GIVEN


def parse_sni(tlsext_host_name: str | bool | NotGiven | None) -> str | bool | NotGiven:
    """Check what is to be sent as SNI; a string comes back as A-labels without a trailing dot, None as False.

    Raises:
        TypeError: neither str, bool nor None.
        ValueError: a string that is no name (a numeric address is never sent: RFC 6066 3).
    """
    if isinstance(tlsext_host_name, str):
        parsed = parse_host(tlsext_host_name, "tlsext_host_name")
        if parsed.name is None:
            raise ValueError(
                f"tlsext_host_name={tlsext_host_name!r} is not allowed: numeric addresses are never sent as SNI"
            )
        return parsed.name
    if tlsext_host_name is None:
        return False
    if isinstance(tlsext_host_name, (bool, NotGiven)):
        return tlsext_host_name
    raise TypeError(
        f"tlsext_host_name={tlsext_host_name!r} is not allowed: it must be a name (str), True, False or None"
    )


def sni_name(
    host: Host,
    tlsext_host_name: str | bool | NotGiven | None = NOT_GIVEN,
    of_context: str | bool | NotGiven | None = NOT_GIVEN,
) -> str | None:
    """The name to send, or None to send none.

    Args:
        host: the host asked for.
        tlsext_host_name: of the call: a string is sent; True sends the host unless it is numeric; None or False
            sends nothing, whatever the context says; not given: what the context says, else as True.
        of_context: the abstract context's own, with the same meanings.

    Raises:
        TypeError, ValueError: as `parse_sni`.
    """
    wanted = parse_sni(tlsext_host_name)
    if wanted is NOT_GIVEN:
        wanted = parse_sni(of_context)
    if isinstance(wanted, str):
        return wanted
    return None if wanted is False else host.name


def checked_name(host: Host) -> str:
    """What the certificate must be for: the A-labels, or the numeric address without its zone."""
    return host.name if host.name is not None else (host.address or "").partition("%")[0]


def check_certificate(der: bytes | None, name: str, *, address: object = None) -> None:
    """Check that a certificate, whose chain has been verified, is for `name`.

    Args:
        der: the peer's own certificate; None (it showed none) is refused.
        name: A-labels, or a numeric address, as `checked_name` gives it.
        address: for the condition.

    Raises:
        SslVerificationFailure: it is for others, or cannot be read. The connection must not be used.
    """
    from .certificate import read_certificate
    from .refusal import WRONG_ADDRESS, WRONG_NAME, refused

    numeric = _address(name)
    code = WRONG_NAME if numeric is None else WRONG_ADDRESS
    if der is None:
        raise refused(code, "the peer showed no certificate", wanted=name, address=address)
    try:
        certificate = read_certificate(der)
    except ValueError as error:
        raise refused(-1, str(error), wanted=name, address=address) from error
    if numeric is None:
        matches = any(name_matches(pattern, name) for pattern in certificate.names)
        reason = f"Hostname mismatch, certificate is not valid for {name!r}."
    else:
        matches = numeric in certificate.addresses
        reason = f"IP address mismatch, certificate is not valid for {name!r}."
    if not matches:
        raise refused(code, reason, wanted=name, chain=(der,), address=address)


def name_matches(pattern: str, name: str) -> bool:
    """Whether a certificate's DNS name is for `name` (RFC 9525 6.3).

    A wildcard is the whole first label, stands for exactly one label, and has two labels at least after it
    ("*.com" is nobody's). As in OpenSSL it does not stand for a label with an underscore.
    """
    pattern, name = pattern.lower(), name.lower()
    if pattern == name:
        return bool(pattern)
    first, _, rest = pattern.partition(".")
    label, _, parent = name.partition(".")
    return (
        first == "*"
        and _is_parent(rest)
        and parent == rest
        and label != ""
        and all(c.isascii() and (c.isalnum() or c == "-") for c in label)
    )


def _is_parent(rest: str) -> bool:
    """Whether a wildcard may stand before it: two labels or more, of the characters host names have."""
    labels = rest.split(".")
    return len(labels) > 1 and all(
        label and label[0] != "-" and label[-1] != "-" and all(c.isascii() and (c.isalnum() or c == "-") for c in label)
        for label in labels
    )


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
