"""What happened when a connection was opened: every lookup and every attempt, when, and how it ended.

A report is kept with the stream and carried by the condition when opening fails. "Last error", "first
error" and "a bag of errors" each leave the reader guessing which address was slow; a time line does not.
Times are seconds from the beginning of the call, so that they can be read at a glance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .address import SocketAddress

__all__ = ["AttemptRecord", "ConnectionReport", "HandshakeRecord", "LookupRecord", "Outcome"]

Outcome = Literal["under way", "connected", "failed", "cancelled", "timed out"]


@dataclass(slots=True)
class LookupRecord:
    """One question to the resolver.

    Attributes:
        name: the name asked for.
        family: "IPv4" or "IPv6".
        started, ended: seconds since the beginning of the call; ended is None while no answer has come.
        addresses: the numeric addresses of the answer.
        error: why there is none.
    """

    name: str
    family: str
    started: float
    ended: float | None = None
    addresses: tuple[str, ...] = ()
    error: Exception | None = None


@dataclass(slots=True)
class AttemptRecord:
    """One attempt to connect.

    Attributes:
        address: where to.
        started, ended: seconds since the beginning of the call; ended is None while it is under way.
        outcome: "connected", "failed", "cancelled" (another attempt won, or the caller gave up),
            "timed out" (the caller's time was over), "under way".
        error: why it failed.
        reached_connect: False where socket(), bind() or the callback failed before anything was sent.
    """

    address: SocketAddress
    started: float
    ended: float | None = None
    outcome: Outcome = "under way"
    error: Exception | None = None
    reached_connect: bool = False


@dataclass(slots=True)
class HandshakeRecord:
    """The TLS handshake.

    Attributes:
        started, ended: seconds since the beginning of the call; ended is None while it is under way.
        version: the version that was agreed upon.
        error: why it failed.
    """

    started: float
    ended: float | None = None
    version: str | None = None
    error: Exception | None = None


@dataclass(slots=True)
class ConnectionReport:
    """What was tried to open one connection. ``str(report)`` is a small time line.

    Attributes:
        host: the host as asked for.
        port: the port it was asked for at.
        lookups, attempts: in the order they began.
        elapsed: seconds from the beginning of the call to its end; None while it goes on.
        ignored: addresses dropped because the name had more than landline tries.
        handshake: of TLS; None where it was not begun.
    """

    host: str
    port: int
    lookups: list[LookupRecord] = field(default_factory=list)
    attempts: list[AttemptRecord] = field(default_factory=list)
    elapsed: float | None = None
    ignored: int = 0
    handshake: HandshakeRecord | None = None

    @property
    def winner(self) -> AttemptRecord | None:
        """The attempt that became the connection."""
        return next((attempt for attempt in self.attempts if attempt.outcome == "connected"), None)

    def __str__(self) -> str:
        title = f"{self.host} port {self.port}"
        if self.elapsed is not None:
            title += f": {self._end()} after {milliseconds(self.elapsed)}"
        rows = [self._lookup_row(lookup) for lookup in self.lookups]
        rows += [self._attempt_row(attempt) for attempt in self.attempts]
        if self.ignored:
            rows.append(f"  {self.ignored} more addresses were ignored")
        if self.handshake is not None:
            rows.append(self._handshake_row(self.handshake))
        return "\n".join([title, *rows])

    def _end(self) -> str:
        if self.winner is None:
            return "not connected"
        return "connected, but without TLS" if self.handshake and self.handshake.error else "connected"

    def _lookup_row(self, lookup: LookupRecord) -> str:
        if lookup.error is not None:
            end = f"failed: {_reason(lookup.error)}"
        elif lookup.ended is None:
            end = "no answer"
        else:
            end = ", ".join(lookup.addresses) or "no addresses"
        return _row(lookup.started, lookup.ended, f"lookup {lookup.family} {lookup.name}: {end}")

    def _handshake_row(self, handshake: HandshakeRecord) -> str:
        end = f"failed: {_reason(handshake.error)}" if handshake.error is not None else handshake.version or "under way"
        return _row(handshake.started, handshake.ended, f"TLS handshake: {end}")

    def _attempt_row(self, attempt: AttemptRecord) -> str:
        end = f"failed: {_reason(attempt.error)}" if attempt.error is not None else attempt.outcome
        return _row(attempt.started, attempt.ended, f"connect {attempt.address}: {end}")


def milliseconds(seconds: float) -> str:
    """A short time as people read it: "0.3 ms", "250 ms", "2.0 s"."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"


def _row(started: float, ended: float | None, text: str) -> str:
    end = "" if ended is None else milliseconds(ended)
    return f"  {milliseconds(started):>8} .. {end:<8}  {text}"


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or str(error) or type(error).__name__)
