"""Serving in a main thread until a signal says that it is enough: what serve_forever() of every server does.

Source: systemd.kill(5), PEP 475.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

__all__ = ["DRAIN", "HEARD_WITHIN", "HURRY_WITHIN", "stopped_by_signals"]

DRAIN = 10.0
"""Seconds that handlers have to finish after SIGTERM; service managers wait some 30 before they kill."""

HEARD_WITHIN = 0.25
"""Seconds between the looks of serve_forever(). A signal that comes just before a thread begins to wait for a lock does
not end that wait; Python would hear of it at the next one only."""

HURRY_WITHIN = 0.05
"""Seconds until a drain notices that a signal has ended it: no handler of signals can wake a thread that waits."""


@contextmanager
def stopped_by_signals(stop: Callable[[bool], object]) -> Iterator[None]:
    """Inside, SIGTERM and SIGINT (Ctrl-C) call ``stop``, the first time with False, then with True: hurry.

    Their former handlers are back afterwards.

    Raises:
        ValueError: this is not the main thread, where alone signals can be handled.
    """
    if current_thread() is not main_thread():
        raise ValueError("serve_forever() is for the main thread, which handles signals; use join() here")
    signalled = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        # Nothing is raised here: an exception in the middle of a wait would leave its lock in disorder.
        nonlocal signalled
        again, signalled = signalled, True
        stop(again)

    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for number in former:
            signal.signal(number, on_signal)
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
