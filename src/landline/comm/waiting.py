"""Waiting for several streams, with the manual's arguments.

Source: LispWorks manual, system:wait-for-input-streams and system:wait-for-input-streams-returning-first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..deadline import Deadline, checked_timeout
from ..sync import ready

__all__ = ["wait_for_input_streams", "wait_for_input_streams_returning_first"]

LOOK_EVERY = 0.1
"""Seconds between two calls of a wait_function: it has no descriptor to wait for."""


def wait_for_input_streams(
    streams: Iterable[Any],
    *,
    wait_function: Callable[[], object] | None = None,
    wait_reason: object = None,
    timeout: float | None = None,
) -> list[Any]:
    """Those of ``streams`` that have input, in their order; waits until there is one. [] when ``timeout`` has passed.

    Args:
        streams: as for landline.wait_for_input_streams().
        wait_function: called now and then; a true result ends the wait.
        wait_reason: for the eyes of LispWorks' process browser; it changes nothing.
        timeout: seconds; 0 does not wait, None is no limit.

    Source: LispWorks manual, system:wait-for-input-streams.
    """
    listed = list(streams)
    for limit in _waits(wait_function, timeout):
        found = ready.wait_for_input_streams(listed, limit)
        if found:
            return found
    return []


def wait_for_input_streams_returning_first(
    streams: Iterable[Any],
    *,
    wait_function: Callable[[], object] | None = None,
    wait_reason: object = None,
    timeout: float | None = None,
) -> Any:
    """The same; the first of ``streams`` that has input, or None.

    Source: LispWorks manual, system:wait-for-input-streams-returning-first.
    """
    listed = list(streams)
    for limit in _waits(wait_function, timeout):
        found = ready.wait_for_input_streams_returning_first(listed, limit)
        if found is not None:
            return found
    return None


def _waits(wait_function: Callable[[], object] | None, timeout: float | None) -> Iterator[float | None]:
    """The time limits of one wait after the other, until the time is over or ``wait_function`` says so."""
    until = Deadline.after(checked_timeout(timeout, "timeout"))
    if wait_function is None:
        yield timeout
        return
    while not wait_function():
        yield until.limit(LOOK_EVERY)
        if until.passed:
            return
