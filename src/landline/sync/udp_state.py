"""What a UdpSocket knows of the threads that use it: who is inside, and which deadlines are in force."""

from __future__ import annotations

from _thread import RLock, get_ident

from ..deadline import Deadline
from .wait import Wakeup

__all__ = ["Clocks", "Side"]


class Side:
    """One direction: who is inside, and what wakes those of them who poll. (The one of wait.py is for one thread.)"""

    __slots__ = ("inside", "wakeup")

    def __init__(self) -> None:
        self.inside: list[int] = []
        self.wakeup: Wakeup | None = None

    def has_others(self) -> bool:
        """Another thread is inside. (This one may be: a signal handler closes what it has interrupted.)"""
        return any(thread != get_ident() for thread in tuple(self.inside))

    def wakeup_fileno(self) -> int:
        if self.wakeup is None:
            with _making:
                if self.wakeup is None:
                    self.wakeup = Wakeup()
        return self.wakeup.fileno()

    def close(self) -> None:
        if self.wakeup is not None:
            self.wakeup.close()


class Clocks:
    """The deadlines in force: for StreamDeadline, what a channel is to it otherwise."""

    __slots__ = ("_state", "deadlines")

    def __init__(self) -> None:
        self._state = RLock()
        self.deadlines: tuple[Deadline, ...] = ()

    def push_deadline(self, deadline: Deadline) -> None:
        with self._state:
            self.deadlines = (*self.deadlines, deadline)

    def pop_deadline(self, deadline: Deadline) -> None:
        with self._state:
            self.deadlines = tuple(each for each in self.deadlines if each is not deadline)

    def limit(self, idle: float | None) -> float | None:
        for deadline in self.deadlines:
            idle = deadline.limit(idle)
        return idle

    def overdue(self) -> bool:
        return any(deadline.passed for deadline in self.deadlines)


_making = RLock()
"""Held while a wakeup is made, which is soon done."""
