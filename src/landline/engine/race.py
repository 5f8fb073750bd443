"""Happy Eyeballs, version 2 (RFC 8305, sections 3 to 5), as a state machine with explicit time.

Events go in (an answer came, an attempt failed or connected, time passed), actions come out (start this,
cancel those, won, lost). There is no clock and no socket here, so that every clause can be proved in
virtual time, and so that threads, asyncio and trio can drive the same race.

What others got wrong, and what holds here:

* A slow attempt is never given up because the next one starts. It may still win; only winning, losing or
  the caller's own time limit ends it.
* A failure starts the next attempt at once, whatever else is in flight; where there is none to start, the next
  address that comes need not wait. The RFC says nothing of failures; its 10 ms between two starts are
  taken as the lower bound of the delay, for a failure is an answer and no load that has to be spread.
* There is one winner. An attempt that connects after another has won is answered with Cancel, so that its
  driver closes it.
* One family's answer (or failure) never ends the race while the other family's answer is still to come, nor do
  one family's addresses use up the attempts that the other one will need.
* Addresses are opaque. Their order inside a family is the resolver's unless ranks are given
  (engine/destination.py makes them); ranks also decide which family goes first.

A driver calls the event methods with the time of its own clock, performs the actions returned in order,
and calls tick() when ``wake_at`` has come.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

__all__ = ["Action", "Cancel", "Lost", "Race", "Start", "Won", "checked_attempt_delay"]

A = TypeVar("A", bound=Hashable)

RESOLUTION_DELAY = 0.050
"""RFC 8305 section 3: how long a first A answer waits for the AAAA answer (seconds)."""

ATTEMPT_DELAY = 0.250
"""RFC 8305 section 5: Connection Attempt Delay, the recommended value (seconds)."""

SHORTEST_ATTEMPT_DELAY = 0.010
"""RFC 8305 section 5: it must not be under 10 ms. (100 ms are recommended; who asks for less knows the network.)"""

LONGEST_ATTEMPT_DELAY = 2.0
"""RFC 8305 section 5: the recommended upper bound."""

MOST_IN_FLIGHT = 6
"""Attempts at once, as curl has it: enough to get past five dead addresses, no burst at a name's servers."""

MOST_ADDRESSES = 32
"""Addresses tried for one name: a hostile or broken zone with thousands must not turn us into a scanner."""

MOST_WHILE_AWAITING = MOST_ADDRESSES // 2
"""Of these, the most that are tried before every lookup has answered. On a machine without IPv6 any number of IPv6
addresses fails within a millisecond, and the IPv4 answer that comes a moment later must still find room."""


class Start(NamedTuple, Generic[A]):
    """Begin connecting to ``address``; later events name it by ``attempt``."""

    attempt: int
    address: A


class Cancel(NamedTuple):
    """Close this attempt: another one won, or the race is over. It may be closed already."""

    attempt: int


class Won(NamedTuple):
    """This attempt is the connection. Nothing follows."""

    attempt: int


class Lost(NamedTuple):
    """Every lookup has answered and every attempt has failed. Nothing follows.

    ``errors`` holds lookup and attempt errors in the order they happened; it can be empty, when the
    lookups answered without addresses.
    """

    errors: tuple[Exception, ...]


Action: TypeAlias = "Start[A] | Cancel | Won | Lost"


def checked_attempt_delay(attempt_delay: float) -> None:
    """Raises ValueError unless it is a number in range. A value that is no number (None) gets the same sentence."""
    number = isinstance(attempt_delay, (int, float))
    if not number or not SHORTEST_ATTEMPT_DELAY <= attempt_delay <= LONGEST_ATTEMPT_DELAY:
        raise ValueError(
            f"attempt_delay={attempt_delay!r} is not allowed: it must be from {SHORTEST_ATTEMPT_DELAY} "
            f"to {LONGEST_ATTEMPT_DELAY} seconds (RFC 8305 section 5)"
        )


class Race(Generic[A]):
    """One race for one connection.

    Args:
        families: the families whose lookups will answer, the preferred one first.
        attempt_delay: seconds between the starts of two attempts, from 0.01 to 2. There is no value for "none"
            or "never": elsewhere None and 0 have come to mean either.

    Raises:
        ValueError: attempt_delay is no number of that range.
    """

    def __init__(self, families: Sequence[int], *, attempt_delay: float = ATTEMPT_DELAY) -> None:
        checked_attempt_delay(attempt_delay)
        self._delay = attempt_delay
        self._families = list(families)
        self._awaited = set(families)
        self._untried: dict[int, list[tuple[Any, A]]] = {family: [] for family in families}
        self._known: set[A] = set()
        self._in_flight: dict[int, A] = {}
        self._errors: list[Exception] = []
        self._started = 0
        self._last_family: int | None = None
        self._next_start: float | None = None
        self._winner: int | None = None
        self._over = False

    @property
    def ignored(self) -> int:
        """Addresses that are never tried because there are too many."""
        return max(0, len(self._known) - MOST_ADDRESSES)

    @property
    def wake_at(self) -> float | None:
        """When tick() is due; None when only an event can move the race on."""
        return self._next_start if self._may_start() else None

    def addresses(
        self, family: int, addresses: Sequence[A], now: float, ranks: Sequence[Any] | None = None
    ) -> list[Action[A]]:
        """The lookup of ``family`` has answered; an empty list is an answer too.

        Args:
            ranks: one sortable value per address, the smallest tried first (RFC 6724), comparable across families;
                all alike if omitted. Give them for every family or for none.

        Raises:
            ValueError: not as many ranks as addresses.
        """
        if family not in self._awaited or self._over:
            return []
        if ranks is None:
            ranks = [0] * len(addresses)
        ranked = sorted(zip(ranks, addresses, strict=True), key=lambda pair: pair[0])
        self._awaited.discard(family)
        for rank, address in ranked:
            if address not in self._known:
                self._known.add(address)
                self._untried[family].append((rank, address))
        return self._answered(now)

    def lookup_failed(self, family: int, error: Exception, now: float) -> list[Action[A]]:
        """The lookup of ``family`` has failed: there will be no addresses of it."""
        if family not in self._awaited or self._over:
            return []
        self._awaited.discard(family)
        self._errors.append(error)
        return self._answered(now)

    def failed(self, attempt: int, error: Exception, now: float) -> list[Action[A]]:
        """An attempt has failed, perhaps before it began (socket(), bind()). Late news of a loser changes nothing.

        Raises:
            ValueError: there is no such attempt, or it has failed before: a fault of the driver.
        """
        if self._over:
            return []
        self._land(attempt)
        self._errors.append(error)
        self._next_start = now
        return self._start(now) or self._verdict()

    def connected(self, attempt: int, now: float) -> list[Action[A]]:
        """An attempt has connected: the first one wins, any later one is answered with Cancel.

        Raises:
            ValueError: there is no such attempt, or it has failed before: a fault of the driver.
        """
        del now  # every event carries its time; this one's does not change what follows
        if self._over:
            return [] if attempt == self._winner else [Cancel(attempt)]
        self._land(attempt)
        self._over = True
        self._winner = attempt
        losers = [Cancel(loser) for loser in self._in_flight]
        self._in_flight.clear()
        return [*losers, Won(attempt)]

    def tick(self, now: float) -> list[Action[A]]:
        """Time has passed. Harmless when nothing is due yet."""
        due = self.wake_at
        return self._start(now) if due is not None and now >= due else []

    def _answered(self, now: float) -> list[Action[A]]:
        if self._started:
            # Sections 3 and 5: addresses that come while the race runs join the list, and the pace stays as it is.
            return self.tick(now) or self._verdict()
        if self._families[0] in self._awaited and self._may_start():
            # Section 3: the other family's answer came first.
            if self._next_start is None:
                self._next_start = now + RESOLUTION_DELAY
            return []
        return self._start(now) or self._verdict()

    def _start(self, now: float) -> list[Action[A]]:
        if not self._may_start():
            return []
        family = self._next_family()
        _, address = self._untried[family].pop(0)
        self._started += 1
        attempt = self._started
        self._in_flight[attempt] = address
        self._last_family = family
        self._next_start = now + self._delay
        return [Start(attempt, address)]

    def _land(self, attempt: int) -> None:
        if attempt not in self._in_flight:
            raise ValueError(f"attempt {attempt} is not in flight")
        del self._in_flight[attempt]

    def _may_start(self) -> bool:
        most = MOST_WHILE_AWAITING if self._awaited else MOST_ADDRESSES
        return (
            not self._over
            and len(self._in_flight) < MOST_IN_FLIGHT
            and self._started < most
            and any(self._untried.values())
        )

    def _next_family(self) -> int:
        waiting = [family for family in self._families if self._untried[family]]
        if self._last_family is None:
            return min(waiting, key=lambda family: self._untried[family][0][0])
        # Section 4, First Address Family Count 1: the families take turns while both have addresses.
        return next((family for family in waiting if family != self._last_family), waiting[0])

    def _verdict(self) -> list[Action[A]]:
        if self._awaited or self._in_flight or self._may_start():
            return []
        self._over = True
        return [Lost(tuple(self._errors))]
