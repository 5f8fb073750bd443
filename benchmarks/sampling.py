"""What the peers share: the clock around their work, and how memory and imports are measured."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from time import perf_counter
from typing import AnyStr, Protocol, TypeVar

Line_co = TypeVar("Line_co", bytes, str, covariant=True)


class Lines(Protocol[Line_co]):
    def readline(self) -> Line_co: ...
    def __iter__(self) -> Iterator[Line_co]: ...


def timed(work: Callable[[int], object], count: int) -> float:
    """The seconds that `work(count)` takes, warmed up."""
    work(count // 10 + 1)
    start = perf_counter()
    work(count)
    return perf_counter() - start


async def timed_async(work: Callable[[int], Awaitable[object]], count: int) -> float:
    """The seconds that `await work(count)` takes, warmed up."""
    await work(count // 10 + 1)
    start = perf_counter()
    await work(count)
    return perf_counter() - start


def timed_readline(lines: Lines[AnyStr], line: AnyStr, count: int) -> float:
    """The seconds of `count` calls of readline() on a stream that sends `line` without end."""

    def work(n: int) -> None:
        for _ in range(n):
            lines.readline()

    seconds = timed(work, count)
    expect(line, lines.readline())
    return seconds


def timed_iteration(lines: Lines[AnyStr], line: AnyStr, count: int) -> float:
    """The seconds of `count` steps of a for loop over a stream that sends `line` without end."""

    def work(n: int) -> None:
        for _ in islice(lines, n):
            pass

    seconds = timed(work, count)
    expect(line, lines.readline())
    return seconds


def expect(wanted: object, got: object) -> None:
    """Catches a peer that is fast because its stream has ended or is out of step."""
    if got != wanted:
        raise ValueError(f"expected {wanted!r}, got {got!r}")


def some(size: int) -> int:
    """A count of received bytes; the end of the stream is an error, not an endless loop."""
    if not size:
        raise EOFError("the server closed the connection")
    return size


@contextlib.contextmanager
def traced_memory() -> Iterator[Callable[[], float]]:
    """Yields a function: the bytes that Python allocated in this block and still holds."""

    def held() -> float:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        yield held
    finally:
        tracemalloc.stop()


def import_seconds(statement: str, count: int) -> float:
    """The seconds of `statement` in `count` fresh interpreters, their own start not counted.

    -P keeps the current directory off the path: an installed landline is what users import.
    """
    code = f"from time import perf_counter as now; t = now(); {statement}; print(now() - t)"
    command = [sys.executable, "-P", "-c", code]
    return sum(float(subprocess.check_output(command)) for _ in range(count))
