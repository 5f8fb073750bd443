"""Two clocks, one piece of arithmetic.

An *idle limit* (``read_timeout``, ``write_timeout``) bounds the time without progress; a *deadline* is a
point in time that bounds everything before it, a peer that drips one byte a second included. Whoever is
about to wait asks for the smaller of the two.

Everywhere in landline: None is "no limit", 0 is "do not wait", and a limit is never negative and never NaN.
"None or 0 means something else here" is a trap that several libraries have fallen into.
"""

from __future__ import annotations

import math
from time import monotonic

__all__ = ["Deadline", "checked_timeout"]

LONGEST = 0x7FFFFFFF // 1000
"""Seconds, almost 25 days: poll() counts milliseconds in a C int. A longer limit is no limit."""


def checked_timeout(value: float | None, name: str) -> float | None:
    """``value`` as a limit in seconds; None when there is no limit (infinity, or more than `LONGEST`, is none).

    Raises:
        TypeError: not a number (True and False are refused too: a flag in the wrong place).
        ValueError: negative or NaN. The message names the argument and its value.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(type(value), "__float__"):
        raise TypeError(f"{name}={value!r} is not allowed: it must be a number of seconds or None")
    value = float(value)
    if math.isnan(value) or value < 0:
        raise ValueError(f"{name}={value!r} is not allowed: it must be a number of seconds, 0 or more, or None")
    return value if value <= LONGEST else None


class Deadline:
    """A point in time by which something has to be done, or none at all.

    Attributes:
        at: the time on the monotonic clock in seconds; None when there is no deadline.
    """

    __slots__ = ("at",)

    def __init__(self, at: float | None) -> None:
        self.at = at

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """The deadline ``seconds`` from now; None makes one that never comes."""
        return cls(None if seconds is None else monotonic() + seconds)

    @property
    def passed(self) -> bool:
        return self.at is not None and monotonic() >= self.at

    def limit(self, idle: float | None = None) -> float | None:
        """How long a wait that begins now may last: the smaller of ``idle`` and what is left (never below 0)."""
        if self.at is None:
            return idle
        left = max(0.0, self.at - monotonic())
        return left if idle is None or left < idle else idle

    def sooner(self, other: Deadline | None) -> Deadline:
        """Whichever of the two comes first."""
        if other is None or other.at is None:
            return self
        return other if self.at is None or other.at < self.at else self
