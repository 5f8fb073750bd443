"""Giving up an opening from another thread."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock

__all__ = ["Cancel"]


class Cancel:
    """Ends the opening of a connection: ``open_tcp_stream(..., cancel=cancel)``, elsewhere ``cancel.set()``.

    The opening then raises StreamClosed within milliseconds, wherever it was (lookup, connect), and leaves
    nothing behind. One object may serve many openings, at once and one after the other; once set it stays set.
    It has no effect on a stream that is open already: close that.
    """

    # The lock is held while listeners are called, so that after _detach() none of them is running any more:
    # a wakeup descriptor must not be closed under a call. It is reentrant for the sake of signal handlers,
    # which run in the middle of anything.

    __slots__ = ("_listeners", "_lock", "_set")

    def __init__(self) -> None:
        self._set = False
        self._lock = RLock()
        self._listeners: list[Callable[[], None]] = []

    def set(self) -> None:
        """From any thread, also from a signal handler."""
        with self._lock:
            self._set = True
            for listener in self._listeners:
                listener()

    def is_set(self) -> bool:
        return self._set

    def _attach(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called when set; whoever attaches looks at is_set() after that."""
        with self._lock:
            self._listeners.append(listener)

    def _detach(self, listener: Callable[[], None]) -> None:
        with self._lock:
            self._listeners.remove(listener)
