"""What every picture of a probe tells, in the same words: terminal.py, svg.py and page.py only lay it out.

All times of the rows are seconds from the beginning of the probe, and so are those of the axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import floor, log10
from typing import Any, Literal

from ...tls.certificate import Certificate
from .facts import Measured, Step, TcpFacts, clean
from .verdict import LONGEST_NAMED, Check, Status, Verdict, milliseconds, named, number, short

__all__ = ["Card", "Entry", "History", "Row", "Story", "Tick", "shortened", "tell"]

State = Literal["lookup", "won", "lost", "failed", "silent", "talk", "tls"]
Tone = Literal["good", "warning", "bad", "plain"]

NAMES_SHOWN = 6
"""Of a certificate: enough to see whose it is."""

LEAST_ELAPSED = 1e-6
"""Seconds; nothing is divided by 0."""


@dataclass(frozen=True, slots=True)
class Row:
    """One bar. ``took`` and ``note`` stand behind it."""

    label: str
    state: State
    started: float
    ended: float
    took: str
    note: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of the axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Card:
    """A certificate: its part in the chain, what it is called, how long it is good for (with a tone), and lines."""

    role: str
    title: str
    validity: str
    tone: Tone
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Story:
    """Attributes: total: seconds that the axis stands for; facts: (name, text) each; the others as they are called."""

    status: Status
    headline: str
    target: str
    when: str
    elapsed: float
    total: float
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    facts: tuple[tuple[str, str], ...]
    cards: tuple[Card, ...]
    checks: tuple[Check, ...]
    advice: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class History:
    """Several probes of one thing, the oldest first; the total time of each, and how it went."""

    target: str
    times: tuple[float, ...]
    statuses: tuple[Status, ...]

    def summary(self) -> str:
        """One line: how many, how they went, and the least, the middle and the most time that the good ones took."""
        counts = [f"{self.statuses.count(status)} {status.name}" for status in Status if status in self.statuses]
        text = f"{self.target}: {number(len(self.statuses), 'probe')}, {', '.join(counts)}"
        good = sorted(time for time, status in zip(self.times, self.statuses, strict=True) if status <= Status.WARNING)
        if good:
            three = (good[0], good[len(good) // 2], good[-1])
            text += f"; {' / '.join(map(milliseconds, three))} (least, median, most)"
        return text


@dataclass(frozen=True, slots=True)
class Entry:
    """What a file shows of one target: a probe, the history where there were several, the values as in as_json.py."""

    story: Story
    history: History | None
    values: dict[str, Any]


def tell(measured: Measured, verdict: Verdict, warn_days: float) -> Story:
    """The story of one probe."""
    total = max(measured.elapsed, *(step.ended or 0.0 for step in measured.steps), LEAST_ELAPSED)
    found = any(step.addresses for step in measured.steps)
    target = str(measured.wanted)
    if measured.address is not None and measured.address != measured.wanted.host:
        target += f" at {measured.address}"
    return Story(
        verdict.status,
        verdict.headline,
        target,
        f"{measured.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        measured.elapsed,
        total,
        tuple(_row(step, total, found) for step in measured.steps),
        tuple(_ticks(total)),
        tuple(_facts(measured)),
        tuple(_card(each, index == 0, measured.at, warn_days) for index, each in enumerate(measured.certificates)),
        verdict.checks,
        verdict.advice,
        verdict.notes,
    )


def shortened(text: str, most: int, dots: str = "…") -> str:
    """``text`` in at most so many characters; its middle goes, since both ends of a name or address tell more."""
    if len(text) <= most:
        return text
    kept = max(0, most - len(dots))
    return text[: (kept + 1) // 2] + dots + text[len(text) - kept // 2 :]


# ---- the rows ----------------------------------------------------------------------------------------


def _row(step: Step, total: float, found: bool) -> Row:
    if found and step.kind == "lookup" and step.code in _NO_ADDRESS:
        step = replace(step, outcome="done")  # a name without IPv6 is nothing that has failed
    took = "" if step.took is None else milliseconds(step.took)
    ended = total if step.ended is None else step.ended
    label = {
        "lookup": f"{step.what} lookup",
        "connect": step.what,
        "starttls": f"STARTTLS ({step.what})",
        "tls": "TLS handshake",
    }[step.kind]
    return Row(clean(label), _state(step), step.started, ended, took, _note(step))


_NO_ADDRESS = ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY")


def _state(step: Step) -> State:
    if step.outcome == "failed":
        return "failed"
    if step.outcome == "timed out":
        return "silent"
    if step.outcome == "cancelled":
        return "lost"
    states: dict[str, State] = {"lookup": "lookup", "connect": "won", "starttls": "talk", "tls": "tls"}
    return states[step.kind]


def _note(step: Step) -> str:
    if step.outcome == "done":
        if step.kind == "lookup":
            return "no address" if not step.addresses else number(len(step.addresses), "address", "es")
        return {"connect": "connected", "starttls": "ready for TLS", "tls": "secure"}[step.kind]
    if step.outcome == "failed" and step.kind in ("starttls", "tls"):
        return "failed"
    return short(step)


def _ticks(total: float) -> Iterator[Tick]:
    """Four to ten round numbers on the axis; the unit stands at the last one."""
    rough = total / 5
    power = 10 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    unit, scale = ("s", 1.0) if total >= 1 else ("ms", 1e3)
    places = max(0, -floor(log10(step * scale) + 1e-9))
    count = floor(total / step + 1e-9)
    for index in range(count + 1):
        label = f"{index * step * scale:.{places}f}" if index else "0"
        yield Tick(index * step, f"{label} {unit}" if index == count else label)


# ---- facts -------------------------------------------------------------------------------------------


def _facts(measured: Measured) -> Iterator[tuple[str, str]]:
    agreed, tcp = measured.agreed, measured.tcp
    if measured.peer is not None:
        yield "connection", f"{measured.peer}" + (f" from {measured.local}" if measured.local is not None else "")
    if agreed is not None:
        yield "TLS", f"{agreed.version}, {agreed.cipher} ({agreed.cipher_bits} bits)"
        if agreed.alpn is not None or measured.wanted.alpn:
            yield "ALPN", clean(agreed.alpn or "none agreed")
        if agreed.sni is not None and agreed.sni != agreed.checked_name:
            yield "name sent", f"{agreed.sni}; the certificate must be for {agreed.checked_name}"
    if tcp is not None:
        yield "round trip", _round_trip(tcp, measured)
        yield "packets", _packets(tcp)
        yield "keepalive", _keepalive(tcp)


def _round_trip(tcp: TcpFacts, measured: Measured) -> str:
    parts = []
    if tcp.round_trip is not None:
        parts.append(f"{milliseconds(tcp.round_trip)} on average")
    if tcp.round_trip_best is not None:
        parts.append(f"{milliseconds(tcp.round_trip_best)} at best")
    winner = measured.winner
    if winner is not None and winner.took is not None:
        parts.append(f"connecting took {milliseconds(winner.took)}")
    return ", ".join(parts) or "not known here"


def _packets(tcp: TcpFacts) -> str:
    parts = []
    if tcp.path_mtu is not None:
        parts.append(f"MTU of the path {tcp.path_mtu}")
    if tcp.mss is not None:
        parts.append(f"MSS {tcp.mss} bytes")
    if tcp.sent_again is not None:
        parts.append(f"{tcp.sent_again or 'none'} sent again")
    if tcp.extensions is not None:
        parts.append(" and ".join([", ".join(tcp.extensions[:-1]), *tcp.extensions[-1:]][not tcp.extensions[:-1] :]))
    return ", ".join(part for part in parts if part) or "not known here"


def _keepalive(tcp: TcpFacts) -> str:
    keepalive = tcp.keepalive
    if keepalive is None:
        return "not known here"
    text = "on" if keepalive.on else "off"
    if keepalive.idle is None or keepalive.interval is None or keepalive.count is None:
        return f"{text}; its times are not known here"
    times = f"after {_span(keepalive.idle)}, then every {_span(keepalive.interval)}, {keepalive.count} times"
    return f"{text}: {times}" if keepalive.on else f"{text}; where it is on: {times}"


def _span(seconds: int) -> str:
    if seconds % 3600 == 0:
        return f"{seconds // 3600} h"
    return f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"


# ---- certificates ------------------------------------------------------------------------------------


def _card(each: Certificate, leaf: bool, at: datetime, warn_days: float) -> Card:
    left, tone = each.not_after - at, "good"
    if each.not_before > at:
        validity, tone = f"not valid before {each.not_before:%Y-%m-%d}", "bad"
    elif left.total_seconds() < 0:
        validity, tone = f"expired {number((at - each.not_after).days, 'day')} ago, on {each.not_after:%Y-%m-%d}", "bad"
    else:
        validity = f"{number(left.days, 'day')} left, until {each.not_after:%Y-%m-%d}"
        tone = "warning" if left.total_seconds() < warn_days * 86400 else tone
    role = "certificate" if leaf else "root" if each.self_issued else "authority"
    sized = each.key_kind.startswith("E") or each.key_bits is None  # "EC P-256" has its size in its name
    key = each.key_kind if sized else f"{each.key_kind} {each.key_bits}"
    by = "itself" if each.self_issued else clean(each.issuer or "an unnamed authority", LONGEST_NAMED)
    lines = [f"{key} key, signed by {by} with {each.signature}"]
    if leaf:
        lines.insert(0, _names([*each.names, *map(str, each.addresses)]))
    return Card(role, named(each), validity, tone, tuple(lines))  # type: ignore[arg-type]


def _names(names: list[str]) -> str:
    if not names:
        return "for no host"
    text = "for " + ", ".join(map(clean, names[:NAMES_SHOWN]))
    more = len(names) - NAMES_SHOWN
    return f"{text} and {number(more, 'more', '')}" if more > 0 else text
