"""A network in virtual time: which address would landline connect to, and when?

Whether a client copes with a dead IPv6, a slow resolver or three silent servers can hardly be tried on a real
network, and a test that waits for real timeouts is slow and flaky. Here the resolver and every address are
given a fate; the race that connects real streams (engine/race.py) is run against them, and the clock jumps
from event to event. The result is exact, the same every time, and there in microseconds::

    network = SimulatedNetwork(
        ipv6=answers("2001:db8::1", after=0.010),
        ipv4=answers("192.0.2.1", after=0.020),
        fates={"2001:db8::1": silent(), "192.0.2.1": connects(after=0.030)},
    )
    result = network.connect()
    assert result.winner == "192.0.2.1"
    assert result.starts == ((0.010, "2001:db8::1"), (0.260, "192.0.2.1"))
    assert result.elapsed == 0.290

Times are seconds. No socket is opened and no clock is read. What is simulated is the choice of the address, not
the system's TCP: a silent address stays silent for ever, where a system would give up after minutes.
"""

from __future__ import annotations

import errno
import heapq
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Literal, NamedTuple, TypeAlias

from ..engine.destination import rank
from ..engine.race import ATTEMPT_DELAY, Action, Cancel, Race, Start, Won

__all__ = [
    "Answer",
    "Event",
    "Fate",
    "Result",
    "SimulatedNetwork",
    "answers",
    "connects",
    "fails_to_start",
    "lookup_fails",
    "never_answers",
    "refuses",
    "silent",
]

What: TypeAlias = Literal["answer", "lookup failed", "start", "connected", "failed", "cancelled", "lost", "timed out"]


class Answer(NamedTuple):
    """What the resolver says of one family: made by answers(), lookup_fails(), never_answers()."""

    after: float | None
    addresses: tuple[str, ...] = ()
    error: Exception | None = None


def answers(*addresses: str, after: float = 0.0) -> Answer:
    """These addresses, in this order, ``after`` seconds from the beginning; none at all is an answer too."""
    return Answer(_seconds(after), addresses)


def lookup_fails(error: Exception | None = None, *, after: float = 0.0) -> Answer:
    """The lookup fails; with an OSError unless ``error`` is given."""
    return Answer(_seconds(after), (), error or OSError("the simulated lookup failed"))


def never_answers() -> Answer:
    """The resolver stays silent."""
    return Answer(None)


class Fate(NamedTuple):
    """What becomes of an attempt at one address: made by connects(), refuses(), silent(), fails_to_start()."""

    after: float | None
    error: Exception | None = None
    begins: bool = True


def connects(*, after: float = 0.0) -> Fate:
    """Connected ``after`` seconds from the start of the attempt: a round trip."""
    return Fate(_seconds(after))


def refuses(error: Exception | None = None, *, after: float = 0.0) -> Fate:
    """The attempt fails ``after`` seconds from its start; with a ConnectionRefusedError unless ``error`` is given."""
    return Fate(_seconds(after), error or OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)))


def silent() -> Fate:
    """Nothing ever comes back."""
    return Fate(None)


def fails_to_start(error: Exception | None = None) -> Fate:
    """socket(), bind() or connect() itself raises: "network is unreachable" unless ``error`` is given."""
    return Fate(0.0, error or OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH)), begins=False)


class Event(NamedTuple):
    """Something that happened; equal to the plain tuple (time, what, about).

    Attributes:
        time: seconds from the beginning, to the microsecond.
        about: the address; for the events of lookups "IPv6" or "IPv4"; for the end of the race "".
    """

    time: float
    what: What
    about: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """How it went. ``str(result)`` is a time line.

    Attributes:
        winner: the address connected to; None when there is none.
        elapsed: seconds until connected, lost or timed out; None where it would wait for ever.
        errors: every failure, in order, of lookups and attempts.
        ignored: addresses that landline does not try because the name has too many.
    """

    winner: str | None
    elapsed: float | None
    events: tuple[Event, ...]
    errors: tuple[Exception, ...]
    ignored: int

    @property
    def starts(self) -> tuple[tuple[float, str], ...]:
        """When an attempt at which address began."""
        return tuple((event.time, event.about) for event in self.events if event.what == "start")

    def __str__(self) -> str:
        return "\n".join(f"{event.time:9.3f}  {event.what} {event.about}".rstrip() for event in self.events)


class SimulatedNetwork:
    """A resolver and the addresses it knows.

    Args:
        ipv6, ipv4: what the lookup of each family brings; None: that family is not asked for (ipv6=False or
            ipv6=True of open_tcp_stream).
        fates: what becomes of an attempt at each address.
        local_ipv6, local_ipv4: this machine's own address, which decides what is tried first (RFC 6724); None: it
            has none of that family, and every attempt there fails at once, but on its own links.

    Raises:
        ValueError: no family is asked for; an answer has an address of the other family, or one without a fate.
    """

    def __init__(
        self,
        *,
        ipv6: Answer | None = None,
        ipv4: Answer | None = None,
        fates: Mapping[str, Fate],
        local_ipv6: str | None = "2001:db8::ffff",
        local_ipv4: str | None = "192.0.2.254",
    ) -> None:
        self.lookups = {family: answer for family, answer in ((6, ipv6), (4, ipv4)) if answer is not None}
        self.fates = dict(fates)
        self.local = {6: local_ipv6, 4: local_ipv4}
        if not self.lookups:
            raise ValueError("no lookup: give ipv6 or ipv4 or both")
        for family, answer in self.lookups.items():
            for address in answer.addresses:
                if ip_address(address).version != family:
                    raise ValueError(f"{address!r} is no IPv{family} address")
                if address not in self.fates:
                    raise ValueError(f"{address!r} has no fate: add it to fates")

    def connect(self, *, attempt_delay: float = ATTEMPT_DELAY, timeout: float | None = None) -> Result:
        """One connection, from its beginning at time 0 to its end. It leaves the network as it was.

        Args:
            attempt_delay: as in open_tcp_stream().
            timeout: seconds for the whole of it, lookups included; None: no limit.

        Raises:
            ValueError: attempt_delay out of range, or a negative timeout.
        """
        return _Connecting(self, attempt_delay, None if timeout is None else _seconds(timeout)).run()


class _Connecting:
    def __init__(self, network: SimulatedNetwork, attempt_delay: float, limit: float | None) -> None:
        self.network = network
        self.limit = limit
        self.race: Race[str] = Race(tuple(network.lookups), attempt_delay=attempt_delay)
        self.now = 0.0
        self.to_come: list[tuple[float, int, Callable[[], None]]] = []
        self.begun = 0
        self.attempts: dict[int, str] = {}
        self.events: list[Event] = []
        self.errors: list[Exception] = []
        self.winner: str | None = None
        self.elapsed: float | None = None

    def run(self) -> Result:
        for family, answer in self.network.lookups.items():
            self.later(answer.after, partial(self.answered, family, answer))
        while self.elapsed is None:
            wake_at, event_at = self.race.wake_at, self.to_come[0][0] if self.to_come else None
            times = [time for time in (event_at, wake_at, self.limit) if time is not None]
            if not times:
                break  # nothing will ever happen
            self.now = min(times)
            # At one moment, the network's news comes before the timer and the timer before the limit.
            if event_at == self.now:
                heapq.heappop(self.to_come)[2]()
            elif wake_at == self.now:
                self.perform(self.race.tick(self.now))
            else:
                for attempt in list(self.attempts):
                    self.note("cancelled", self.attempts.pop(attempt))
                self.end("timed out")
        return Result(self.winner, self.elapsed, tuple(self.events), tuple(self.errors), self.race.ignored)

    def later(self, after: float | None, event: Callable[[], None]) -> None:
        if after is not None:
            self.begun += 1  # of two events at one moment, the one that began first comes first
            heapq.heappush(self.to_come, (self.now + after, self.begun, event))

    def answered(self, family: int, answer: Answer) -> None:
        if answer.error is not None:
            self.errors.append(answer.error)
            self.note("lookup failed", f"IPv{family}")
            self.perform(self.race.lookup_failed(family, answer.error, self.now))
            return
        self.note("answer", f"IPv{family}")
        # One rank for the family, as sync/connect.py has it: the resolver has sorted inside it.
        ranks = [rank(address, self.source(address)) for address in answer.addresses[:1]] * len(answer.addresses)
        self.perform(self.race.addresses(family, answer.addresses, self.now, ranks))

    def source(self, address: str) -> str | None:
        parsed = ip_address(address)
        return address if parsed.is_loopback or parsed.is_link_local else self.network.local[parsed.version]

    def perform(self, actions: list[Action[str]]) -> None:
        for action in actions:
            if isinstance(action, Start):
                self.start(action.attempt, action.address)
            elif isinstance(action, Cancel):
                self.note("cancelled", self.attempts.pop(action.attempt))
            elif isinstance(action, Won):
                self.winner = self.attempts.pop(action.attempt)
                self.end("connected", self.winner)
            else:
                self.end("lost")

    def start(self, attempt: int, address: str) -> None:
        self.note("start", address)
        self.attempts[attempt] = address
        after, error, begins = self.network.fates[address] if self.source(address) else fails_to_start()
        if error is None:
            self.later(after, lambda: self.perform(self.race.connected(attempt, self.now)))
        elif begins:
            self.later(after, partial(self.failed, attempt, error))
        else:
            self.failed(attempt, error)

    def failed(self, attempt: int, error: Exception) -> None:
        self.errors.append(error)
        self.note("failed", self.attempts.pop(attempt))
        self.perform(self.race.failed(attempt, error, self.now))

    def end(self, what: What, about: str = "") -> None:
        assert not self.attempts, "the race has left an attempt open"
        self.note(what, about)
        self.elapsed = self.events[-1].time

    def note(self, what: What, about: str = "") -> None:
        self.events.append(Event(round(self.now, 6), what, about))


def _seconds(time: float) -> float:
    if not 0 <= time < float("inf"):
        raise ValueError(f"{time!r} is not allowed: a time is a number of seconds, not negative")
    return time
