"""What one probe has found, as plain values: measured once (measure.py), judged (verdict.py), drawn four ways.

No value here knows how it will be shown. All text of the peer's, and all messages that may quote it, has been
bounded and cleaned by ``clean`` when it was put here, so no picture can forget to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from ...address import SocketAddress
from ...tls.certificate import Certificate

__all__ = ["Agreed", "Failure", "Keepalive", "Measured", "Phase", "Step", "TcpFacts", "Wanted", "clean"]

Phase = Literal["lookup", "connect", "starttls", "tls", "local"]

LONGEST = 120
"""Characters of one text of the peer's that are shown: more than most names have, and it still fits in two lines."""

LONGEST_MESSAGE = 600
"""Characters of a message: a condition that names eight addresses fits."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One thing to probe, and how.

    Attributes:
        host, service: as they were asked for.
        port: that of the service.
        ipv6: as for open_tcp_stream().
        timeout: seconds for all of it: lookup, attempts, STARTTLS and TLS.
        tls: speak TLS.
        starttls: the protocol in which TLS is asked for; None for TLS from the first byte, or no TLS.
        sni: the name to send; None for the host.
        alpn: the application protocols to offer.
    """

    host: str
    service: str
    port: int
    ipv6: bool | Literal["any"] = "any"
    timeout: float | None = None
    tls: bool = False
    starttls: str | None = None
    sni: str | None = None
    alpn: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{clean(self.host)} port {self.port}"


@dataclass(frozen=True, slots=True)
class Step:
    """Something that took time.

    Attributes:
        kind: a lookup; an attempt to connect; the talk before STARTTLS; the TLS handshake.
        what: "IPv6" or "IPv4"; the address without its port; the protocol; "handshake".
        started, ended: seconds since the probe began; ended is None for what had no answer.
        outcome: "done"; "failed"; "cancelled" (another attempt won); "timed out" (the probe's time was over).
        error: why it failed, in words.
        code: the same for programs: "ECONNREFUSED", "EAI_NONAME"; None where there is none.
        addresses: the answer of a lookup.
    """

    kind: Literal["lookup", "connect", "starttls", "tls"]
    what: str
    started: float
    ended: float | None
    outcome: Literal["done", "failed", "cancelled", "timed out"]
    error: str | None = None
    code: str | None = None
    addresses: tuple[str, ...] = ()

    @property
    def took(self) -> float | None:
        return None if self.ended is None else self.ended - self.started


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no connection, or no TLS that can be trusted.

    Attributes:
        phase: where it happened; "local" is this machine, before anything was sent.
        condition: the name of the condition's class.
        message: the condition's own sentence.
        code: the system's name of it, OpenSSL's reason, or the peer's alert; None where there is none.
        verify_code, verify_message: OpenSSL's, of a refused certificate.
        timed_out: the probe's time was over.
    """

    phase: Phase
    condition: str
    message: str
    code: str | None = None
    verify_code: int | None = None
    verify_message: str = ""
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Agreed:
    """What the handshake agreed upon: as in stream.tls."""

    version: str
    cipher: str
    cipher_bits: int
    alpn: str | None
    sni: str | None
    checked_name: str | None


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Attributes: on; idle, interval: seconds, and count: those that hold once it is on. None: not known here."""

    on: bool
    idle: int | None
    interval: int | None
    count: int | None


@dataclass(frozen=True, slots=True)
class TcpFacts:
    """What the system knows of the connection. None everywhere: not known here.

    Attributes:
        round_trip, round_trip_best, round_trip_variation: seconds, as the system's TCP measures them.
        mss: bytes of data in a segment to the peer; mss_offered: what this side has offered to take.
        path_mtu: bytes of the largest packet on the way there.
        sent_again: segments sent more than once.
        extensions: of TCP, that both sides use.
        congestion: the algorithm in charge.
        keepalive: SO_KEEPALIVE and its times.
    """

    round_trip: float | None = None
    round_trip_best: float | None = None
    round_trip_variation: float | None = None
    mss: int | None = None
    mss_offered: int | None = None
    path_mtu: int | None = None
    sent_again: int | None = None
    extensions: tuple[str, ...] | None = None
    congestion: str | None = None
    keepalive: Keepalive | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """One probe.

    Attributes:
        wanted: what was asked for.
        at: when it began.
        address: the one address that was to be tried; None where all were raced.
        steps: in the order in which they began.
        elapsed: seconds from the beginning to its end.
        ignored: addresses that were not tried because there are so many.
        local, peer: both ends, where there was a connection.
        failure: what ended it; None where all went well.
        agreed: None without TLS.
        certificates: the verified chain, the server's own first; after a refusal what the server sent.
        unread: certificates that could not be read.
        tcp: None where there was no connection.
    """

    wanted: Wanted
    at: datetime
    steps: tuple[Step, ...]
    elapsed: float
    address: str | None = None
    ignored: int = 0
    local: SocketAddress | None = None
    peer: SocketAddress | None = None
    failure: Failure | None = None
    agreed: Agreed | None = None
    certificates: tuple[Certificate, ...] = field(default=(), repr=False)
    unread: int = 0
    tcp: TcpFacts | None = None

    @property
    def winner(self) -> Step | None:
        """The attempt that became the connection."""
        return next((step for step in self.steps if step.kind == "connect" and step.outcome == "done"), None)

    def last(self, kind: str) -> Step | None:
        """The last step of a kind."""
        return next((step for step in reversed(self.steps) if step.kind == kind), None)


def clean(text: str, limit: int = LONGEST) -> str:
    """Text of somebody else's in one line of at most ``limit`` characters, with nothing a terminal would obey.

    Nor anything that turns the direction of what follows: such characters are not printable to Python either.
    """
    shown = text if len(text) <= limit else text[: limit - 3] + "..."
    return "".join(c if c.isprintable() else "?" for c in shown)
