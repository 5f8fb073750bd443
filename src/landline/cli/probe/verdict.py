"""From what was found to what it means: a status, one line, what was checked, and what to do.

The statuses are those of monitoring plugins, because that is who asks the same question every five minutes.

OpenSSL stops at the first thing that it does not like about a certificate. What can be told of the rest from the
certificates alone (dates, names) is told as well, so that a renewed certificate is not refused for its name next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from ipaddress import ip_address

from ...address import parse_host
from ...engine.race import ATTEMPT_DELAY
from ...tls.certificate import Certificate
from ...tls.names import checked_name, name_matches
from ...tls.refusal import what_and_remedy
from .facts import Failure, Measured, Step, clean

__all__ = ["Check", "Status", "Verdict", "judge", "milliseconds", "named", "number", "worst"]


LONGEST_NAMED = 64
"""Characters of what a certificate is called by: as many as a common name may have (RFC 5280 appendix A.1)."""


class Status(IntEnum):
    """How it went; the value is the exit status."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold of a certificate; ``ok`` is None where nobody can tell."""

    name: str
    ok: bool | None
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a probe means.

    Attributes:
        status: the exit status.
        code: the same for programs, one of the words in as_json.py.
        headline: for people, one line without an end.
        advice: what to do, a sentence each.
        notes: what is odd and no failure, a sentence each.
        checks: of the certificates.
    """

    status: Status
    code: str
    headline: str
    advice: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()


def judge(measured: Measured, warn_days: float, now: datetime | None = None) -> Verdict:
    """The verdict; ``now`` is the time of the probe, unless a test has another."""
    now = now or measured.at
    checks = tuple(_checks(measured, now))
    notes = tuple(_notes(measured))
    if measured.failure is not None:
        code, headline, advice = _failed(measured, measured.failure, now)
        status = Status.UNKNOWN if measured.failure.phase == "local" else Status.CRITICAL
        return Verdict(status, code, headline, tuple(advice), notes, checks)
    status, code, headline, advice = _connected(measured, warn_days, now)
    return Verdict(status, code, headline, tuple(advice), notes, checks)


def worst(statuses: Iterable[Status]) -> Status:
    """Of several: critical before unknown before warning, as monitoring has it."""
    order = (Status.OK, Status.WARNING, Status.UNKNOWN, Status.CRITICAL)
    return max(statuses, key=order.index, default=Status.UNKNOWN)


def milliseconds(seconds: float) -> str:
    """A short time as people read it: "0.31 ms", "23.4 ms", "250 ms", "2.05 s"."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    value = seconds * 1000
    return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def number(count: int, unit: str, plural: str = "s") -> str:
    """ "1 day", "1 497 days": thousands are parted by a space, which no reader takes for a decimal point."""
    return f"{count:,}".replace(",", " ") + f" {unit}{'' if count == 1 else plural}"


def named(certificate: Certificate) -> str:
    """What people call a certificate."""
    names = [certificate.subject, *certificate.names, *map(str, certificate.addresses), certificate.issuer]
    return clean(next((name for name in names if name), "(without a name)"), LONGEST_NAMED)


# ---- connected ---------------------------------------------------------------------------------------


def _connected(measured: Measured, warn_days: float, now: datetime) -> tuple[Status, str, str, list[str]]:
    wanted, winner = measured.wanted, measured.winner
    text = f"{wanted}: connected"
    if winner is not None and winner.ended is not None:
        text += f" to {winner.what}" * (winner.what != wanted.host) + f" after {milliseconds(winner.ended)}"
    agreed = measured.agreed
    if agreed is None:
        return Status.OK, "ok", text, []
    text += f", {agreed.version} after {milliseconds(measured.elapsed)}"
    if wanted.alpn and agreed.alpn is None:
        offered = ", ".join(wanted.alpn)
        return (
            Status.WARNING,
            "alpn-not-agreed",
            f"{text}, but the server takes none of the protocols offered ({offered})",
            [f"Let the server offer {wanted.alpn[0]} (ALPN), or ask for what it speaks with --alpn."],
        )
    first = min(measured.certificates, key=lambda each: each.not_after, default=None)
    if first is None:
        return Status.OK, "ok", text, []
    days = (first.not_after - now).days
    whose = "its certificate" if first is measured.certificates[0] else f"the certificate of {named(first)!r}"
    if (first.not_after - now).total_seconds() < warn_days * 86400:
        return (
            Status.WARNING,
            "certificate-expires-soon",
            f"{wanted}: {whose} expires in {number(days, 'day')}, on {first.not_after:%Y-%m-%d}",
            [f"Renew {whose}: it expires on {first.not_after:%Y-%m-%d %H:%M} UTC. Is its automatic renewal running?"],
        )
    return Status.OK, "ok", f"{text}, {whose} is valid for {number(days, 'more day')}", []


# ---- failed ------------------------------------------------------------------------------------------


def _failed(measured: Measured, failure: Failure, now: datetime) -> tuple[str, str, list[str]]:
    wanted = measured.wanted
    if failure.phase == "local":
        message = failure.message.replace("openssl_trusted_file=", "--ca ")  # what the library calls it
        return "local", message, ["This is about this machine or this command line; nothing was sent."]
    if failure.phase == "lookup":
        return _lookup_failed(measured, failure)
    if failure.phase == "connect":
        return _connect_failed(measured, failure)
    if failure.verify_code is not None:
        what, remedy = what_and_remedy(
            failure.verify_code,
            failure.verify_message,
            checked_name(parse_host(wanted.host)),
            list(measured.certificates),
            "server",
            now,
        )
        # What that says of keywords is for programs; here there is an option.
        remedy = _REMEDIES.get(failure.verify_code, remedy)
        code = _VERIFICATION.get(failure.verify_code, "certificate-refused")
        return code, f"{wanted}: the certificate was refused: {clean(what, 300)}", [_sentence(clean(remedy, 300))]
    if failure.phase == "starttls":
        code = "timed-out" if failure.timed_out else "starttls-failed"
        advice = f"Does the server speak {wanted.starttls} on this port, and has it a certificate configured?"
        if failure.timed_out:
            advice = "It may expect TLS from the first byte: try --tls. Or raise --timeout: some servers greet late."
        return code, f"{wanted}: no STARTTLS: {failure.message}", [advice]
    return _tls_failed(measured, failure)


_VERIFICATION = {
    9: "certificate-not-yet-valid",
    10: "certificate-expired",
    62: "certificate-wrong-name",
    64: "certificate-wrong-name",
    **dict.fromkeys((2, 18, 19, 20, 21, 27), "certificate-not-trusted"),
}
_TRUST_IT = "If you know that authority, trust it with --ca FILE; otherwise the server needs a public certificate."
_REMEDIES = {
    18: "If you know that certificate, trust it with --ca FILE; otherwise the server needs one of an authority.",
    19: _TRUST_IT,
    **dict.fromkeys(
        (2, 20, 21, 27),
        "Let the server send its intermediate certificates too (its 'full chain' file); or, if it is an authority "
        "that you know, trust it with --ca FILE.",
    ),
    **dict.fromkeys(range(80, 95), "Have the certificate issued anew, by an authority that keeps to RFC 5280."),
}


def _lookup_failed(measured: Measured, failure: Failure) -> tuple[str, str, list[str]]:
    wanted = measured.wanted
    host = clean(wanted.host)
    if failure.timed_out:
        return (
            "timed-out",
            f"{wanted}: no name server answered within {wanted.timeout:g} s",
            ["Look at this machine's name servers (/etc/resolv.conf) and at the way to them."],
        )
    codes = {step.code for step in measured.steps if step.kind == "lookup"}
    if "EAI_AGAIN" in codes:
        advice = "No name server could say: look at this machine's name servers (/etc/resolv.conf), and try again."
    elif wanted.ipv6 != "any":
        advice = f"Is the name right, and has it addresses of that family? Try without {'-6' if wanted.ipv6 else '-4'}."
    else:
        advice = f"Is the name right? 'getent ahosts {host}' asks the same resolver."
    reasons = dict.fromkeys(step.error for step in measured.steps if step.kind == "lookup" and step.error)
    return "lookup-failed", f"{wanted}: not found ({', '.join(map(str, reasons)) or 'no addresses'})", [advice]


def _connect_failed(measured: Measured, failure: Failure) -> tuple[str, str, list[str]]:
    wanted = measured.wanted
    attempts = [step for step in measured.steps if step.kind == "connect"]
    # What was still under way when the time was over has had no answer either.
    codes = Counter("ETIMEDOUT" if step.outcome != "failed" else step.code or "" for step in attempts)
    words = Counter("no answer" if step.outcome != "failed" else short(step) for step in attempts)
    advice = [_CONNECT[code][1].format(port=wanted.port) for code in codes if code in _CONNECT]
    code = _CONNECT.get(next(iter(codes)), ("connect-failed",))[0] if len(codes) == 1 else "connect-failed"
    within = f" within {wanted.timeout:g} s" if failure.timed_out and wanted.timeout is not None else ""
    if len(attempts) == 1:
        return code, f"{wanted}: not connected to {attempts[0].what}{within}: {next(iter(words))}", advice
    said = ", ".join(f"{word} ({count})" for word, count in words.items()) if len(words) > 1 else next(iter(words))
    return code, f"{wanted}: not connected to any of {len(attempts)} addresses{within}: {said}", advice


_NO_ROUTE = (
    "unreachable",
    "There is no way to it from here: look at this machine's routes ('ip route get ADDRESS'). Without IPv6 here, -4 "
    "leaves it out.",
)
_CONNECT = {
    "ECONNREFUSED": (
        "refused",
        "Nothing listens on port {port} there, or a firewall refuses: is the service running, and on this address?",
    ),
    "ENETUNREACH": _NO_ROUTE,
    "EHOSTUNREACH": ("unreachable", "The host does not answer on its own network, or a router on the way refuses."),
    "ETIMEDOUT": (
        "timed-out",
        "Nothing came back: a firewall may drop what is sent, the host may be down, or the address an old one.",
    ),
    "ECONNRESET": ("reset", "Something answered and hung up at once: a proxy without a server behind it, perhaps."),
    "EACCES": ("not-permitted", "This machine's own firewall or policy forbids it."),
    "EPERM": ("not-permitted", "This machine's own firewall or policy forbids it."),
}

STARTTLS_PORTS = {
    21: "ftp", 25: "smtp", 110: "pop3", 143: "imap", 389: "ldap", 587: "smtp", 3306: "mysql", 5222: "xmpp",
    5432: "postgres",
}  # fmt: skip
TLS_PORTS = frozenset((443, 465, 563, 636, 853, 989, 990, 992, 993, 995, 5223, 5671, 6514, 6697, 8443, 8883))


def _tls_failed(measured: Measured, failure: Failure) -> tuple[str, str, list[str]]:
    wanted = measured.wanted
    protocol = STARTTLS_PORTS.get(wanted.port)
    upgrade = f"--starttls {protocol or 'PROTOCOL'}"
    if failure.timed_out:
        headline = f"{wanted}: connected, but no TLS handshake within {wanted.timeout:g} s"
        return (
            "timed-out",
            headline,
            [f"Is there TLS on this port? If not, try {upgrade}; if so, it may be overloaded."],
        )
    headline = f"{wanted}: connected, but no TLS: {failure.message.rpartition(' failed: ')[2]}"
    if "TLS; it began with" in failure.message:
        return "not-tls", headline, [f"This port does not begin with TLS: leave --tls out, or try {upgrade}."]
    if failure.condition == "SslVersionOrCipherMismatch":
        advice = "The server allows only versions or ciphers that are no longer safe, or too new ones: renew its setup."
        return "tls-mismatch", headline, [advice]
    if failure.condition in ("SslError", "SslClosed"):
        return "tls-failed", headline, [f"It hung up in the middle: is there TLS on this port? If not, try {upgrade}."]
    return "tls-failed", headline, ["The server's log should say more."]


def short(step: Step) -> str:
    """How a step has ended, in a word or two."""
    if step.outcome == "failed":
        return _SHORT.get(step.code or "", step.error or "failed")
    return {"timed out": "no answer", "cancelled": "cancelled"}.get(step.outcome, "done")


_SHORT = {
    "ECONNREFUSED": "refused",
    "ENETUNREACH": "no route",
    "EHOSTUNREACH": "no route",
    "ETIMEDOUT": "no answer",
    "ECONNRESET": "reset",
    "EACCES": "not permitted",
    "EPERM": "not permitted",
    "EAI_NONAME": "not found",
    "EAI_NODATA": "no address",
    "EAI_ADDRFAMILY": "no address",
    "EAI_AGAIN": "no answer",
    "EAI_FAIL": "failed",
}


# ---- beside the verdict ------------------------------------------------------------------------------


def _notes(measured: Measured) -> Iterable[str]:
    wanted, winner = measured.wanted, measured.winner
    if measured.ignored:
        yield f"{number(measured.ignored, 'more address', 'es')} of the name were not tried."
    if winner is not None:
        for step in measured.steps:
            if step.kind == "connect" and step.outcome == "failed":
                yield f"{step.what} does not work ({short(step)}); who tries it first loses time."
            if step.kind == "connect" and step.outcome == "cancelled" and (step.took or 0.0) >= ATTEMPT_DELAY:
                yield (
                    f"{step.what} had not answered after {milliseconds(step.took or 0.0)}, when another address won; "
                    "who tries no other waits for it."
                )
    if measured.unread:
        yield f"{number(measured.unread, 'certificate')} of the chain could not be read."
    if winner is not None and not wanted.tls and wanted.port in TLS_PORTS:
        yield f"Port {wanted.port} usually speaks TLS: --tls looks at its certificate too."


def _checks(measured: Measured, now: datetime) -> Iterable[Check]:
    certificates, failure = measured.certificates, measured.failure
    refused = failure.verify_code if failure is not None and failure.phase == "tls" else None
    if not certificates or (measured.agreed is None and refused is None):
        return
    yield _trust(certificates, refused)
    yield _dates(certificates, now)
    yield _name(certificates[0], measured.wanted.host)
    if refused is not None and refused not in _VERIFICATION:
        assert failure is not None
        yield Check("rules", False, f"OpenSSL says: {failure.verify_message}")


def _trust(certificates: tuple[Certificate, ...], refused: int | None) -> Check:
    top = certificates[-1]
    if refused is None:
        return Check("trust", True, f"the chain leads to {named(top)!r}, which is trusted here")
    if _VERIFICATION.get(refused) == "certificate-not-trusted":
        whom = "is signed by itself" if refused == 18 else f"ends at {clean(top.issuer or named(top), LONGEST_NAMED)!r}"
        return Check("trust", False, f"the chain {whom}, which is not trusted here")
    return Check("trust", None, "not known: the verification ended at another failure")


def _dates(certificates: tuple[Certificate, ...], now: datetime) -> Check:
    for each in certificates:
        if each.not_after < now:
            days = number((now - each.not_after).days, "day")
            return Check("dates", False, f"{named(each)!r} expired on {each.not_after:%Y-%m-%d}, {days} ago")
        if each.not_before > now:
            return Check("dates", False, f"{named(each)!r} is not valid before {each.not_before:%Y-%m-%d}")
    return Check("dates", True, f"{number(len(certificates), 'certificate')} valid at the time of the probe")


def _name(leaf: Certificate, host: str) -> Check:
    name = checked_name(parse_host(host))
    if parse_host(host).address is not None:
        matches = ip_address(name) in leaf.addresses
    else:
        matches = any(name_matches(pattern, name) for pattern in leaf.names)
    return Check("name", matches, f"the certificate is {'' if matches else 'not '}for {clean(name)!r}")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
