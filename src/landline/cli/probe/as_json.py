"""``landline probe --json``: one object for each probe, each in a line of its own (JSON Lines).

The output of a single probe is thus one JSON document, and that of many can be read while it grows. What follows
is a promise: fields are added, never renamed, and never change their meaning while "schema" is 1. Times are seconds
as numbers, dates are ISO 8601 in UTC ("2026-10-30T11:22:33Z"), sizes are bytes; what is not known is null. Text of
the peer's is bounded and has its control characters replaced by "?".

    schema          1
    status          "ok", "warning", "critical" or "unknown"
    exit_status     0, 1, 2 or 3: what the command would exit with after this probe alone
    code            "ok", "certificate-expires-soon", "alpn-not-agreed"; "lookup-failed", "refused", "unreachable",
                    "timed-out", "reset", "not-permitted", "connect-failed"; "starttls-failed"; "not-tls",
                    "tls-mismatch", "tls-failed"; "certificate-expired", "certificate-not-yet-valid",
                    "certificate-wrong-name", "certificate-not-trusted", "certificate-refused"; "local". More may come.
    headline        the verdict, one line for people
    advice, notes   lists of sentences for people
    at              when the probe began
    host, service   what was probed, as it was asked for
    port            its number
    address         the one address that was to be tried (--all-addresses), else null
    elapsed         from the beginning to the end
    peer, local     {"address", "port"} of the connection's ends, or null
    steps           in the order in which they began, each {
        kind        "lookup", "connect", "starttls" or "tls"
        what        "IPv6" or "IPv4"; an address; a protocol; "handshake"
        started, ended, took
                    from the beginning of the probe; ended and took are null where no answer came
        outcome     "done", "failed", "cancelled" (another attempt won) or "timed out"
        error, code why it failed, for people and for programs ("ECONNREFUSED"), or null
        addresses } of a lookup, else []
    ignored         how many addresses were not tried, because there are so many
    failure         null, or {"phase", "condition", "message", "code", "verify_code", "timed_out"}: the phase is
                    "lookup", "connect", "starttls", "tls" or "local"; the condition is a class of landline's
    tls             null, or {"version", "cipher", "cipher_bits", "alpn", "sni", "checked_name"}
    certificates    the verified chain, the server's own first, or what was sent, where it was refused; each {
        subject, issuer, names, addresses, serial (hexadecimal), not_before, not_after, days_left (a number, negative
        after the end), key, key_bits, signature, sha256, self_issued }
    checks          {"name": "trust" | "dates" | "name" | "rules", "ok": true | false | null, "text"}, for each
    tcp             null, or {"connect", "round_trip", "round_trip_best", "round_trip_variation", "mss", "mss_offered",
                    "path_mtu", "sent_again", "extensions", "congestion",
                    "keepalive": {"on", "idle", "interval", "count"}}; connect is the time that the winning
                    attempt took: a round trip, as every system can measure it
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from ...address import SocketAddress
from ...tls.certificate import Certificate
from .facts import Measured, Step, clean
from .verdict import Verdict

__all__ = ["as_json", "as_values"]

SCHEMA = 1


def as_json(measured: Measured, verdict: Verdict) -> str:
    """One line, in ASCII: it survives every terminal and pipe."""
    return json.dumps(as_values(measured, verdict))


def as_values(measured: Measured, verdict: Verdict) -> dict[str, Any]:
    """What json.dumps() takes, as the schema above says."""
    wanted = measured.wanted
    return {
        "schema": SCHEMA,
        "status": verdict.status.name.lower(),
        "exit_status": int(verdict.status),
        "code": verdict.code,
        "headline": verdict.headline,
        "advice": list(verdict.advice),
        "notes": list(verdict.notes),
        "at": _date(measured.at),
        "host": clean(wanted.host),
        "service": clean(wanted.service),
        "port": wanted.port,
        "address": measured.address,
        "elapsed": _seconds(measured.elapsed),
        "peer": _end(measured.peer),
        "local": _end(measured.local),
        "steps": [_step(step) for step in measured.steps],
        "ignored": measured.ignored,
        "failure": _failure(measured),
        "tls": None if measured.agreed is None else asdict(measured.agreed),
        "certificates": [_certificate(each, measured.at) for each in measured.certificates],
        "checks": [asdict(check) for check in verdict.checks],
        "tcp": _tcp(measured),
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "kind": step.kind,
        "what": step.what,
        "started": _seconds(step.started),
        "ended": _seconds(step.ended),
        "took": _seconds(step.took),
        "outcome": step.outcome,
        "error": step.error,
        "code": step.code,
        "addresses": list(step.addresses),
    }


def _failure(measured: Measured) -> dict[str, Any] | None:
    if measured.failure is None:
        return None
    values = asdict(measured.failure)
    del values["verify_message"]  # it is in the message, in better words
    return values


def _certificate(each: Certificate, at: datetime) -> dict[str, Any]:
    return {
        "subject": None if each.subject is None else clean(each.subject),
        "issuer": None if each.issuer is None else clean(each.issuer),
        "names": [clean(name, 253) for name in each.names],
        "addresses": list(map(str, each.addresses)),
        "serial": f"{each.serial_number:x}",
        "not_before": _date(each.not_before),
        "not_after": _date(each.not_after),
        "days_left": round((each.not_after - at).total_seconds() / 86400, 3),
        "key": each.key_kind,
        "key_bits": each.key_bits,
        "signature": each.signature,
        "sha256": each.sha256,
        "self_issued": each.self_issued,
    }


def _tcp(measured: Measured) -> dict[str, Any] | None:
    if measured.tcp is None:
        return None
    winner = measured.winner
    values = {"connect": None if winner is None else _seconds(winner.took), **asdict(measured.tcp)}
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}


def _end(address: SocketAddress | None) -> dict[str, Any] | None:
    return None if address is None else {"address": address.host, "port": address.port}


def _seconds(time: float | None) -> float | None:
    return None if time is None else round(time, 6)


def _date(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
