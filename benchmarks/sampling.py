"""What the peers share: the clocks around their work, and how memory and imports are measured."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from pathlib import Path
from time import clock_gettime, perf_counter, process_time
from typing import AnyStr, NamedTuple, Protocol, TypeVar

from .wire import BURST, MESSAGE, SERVER_PID, TlsServer

Line_co = TypeVar("Line_co", bytes, str, covariant=True)


WARM = 20
"""Connections made before memory is looked at: what the first ones allocate serves the others too."""


class Taken(NamedTuple):
    """What a number of operations took.

    Attributes:
        amount: seconds by the clock on the wall; or bytes.
        own, both: seconds that the side which is measured (`Case.worker`) and both sides were at work, the system on
            their behalf included; None where that says nothing. Other programs on the machine show in it much less.
    """

    amount: float
    own: float | None = None
    both: float | None = None

    def shared_by(self, count: int) -> Taken:
        """What one of `count` operations took."""
        own, both = (None if each is None else each / count for each in self[1:])
        return Taken(self.amount / count, own, both)


class Clock:
    def __init__(self) -> None:
        self._start = self._now()

    def taken(self) -> Taken:
        wall, client, server = (now - start for now, start in zip(self._now(), self._start, strict=True))
        return Taken(wall, client, client + server)

    def _now(self) -> tuple[float, float, float]:
        return perf_counter(), process_time(), clock_gettime(cpu_clock(int(os.environ[SERVER_PID])))


def cpu_clock(pid: int) -> int:
    """The clock of a process's time at work, as clock_getcpuclockid(3) makes it."""
    return (~pid << 3) | 2


class Lines(Protocol[Line_co]):
    def readline(self) -> Line_co: ...
    def __iter__(self) -> Iterator[Line_co]: ...


def timed(work: Callable[[int], object], count: int) -> Taken:
    """What `work(count)` takes, warmed up."""
    work(count // 10 + 1)
    clock = Clock()
    work(count)
    return clock.taken()


async def timed_async(work: Callable[[int], Awaitable[object]], count: int) -> Taken:
    """What `await work(count)` takes, warmed up."""
    await work(count // 10 + 1)
    clock = Clock()
    await work(count)
    return clock.taken()


def timed_bursts(ask: Callable[[bytes], object], receive: Callable[[], object], count: int) -> Taken:
    """What `count` receives take of a socket to `udp_source`, asked for burst by burst: so none is lost."""

    def work(n: int) -> None:
        for received in range(0, n, BURST):
            ask(MESSAGE)
            for _ in range(min(BURST, n - received)):
                receive()

    return timed(work, count)


def taken_by_program(*command: str, **environment: str) -> Taken:
    """What a C program says that it took."""
    printed = subprocess.check_output(command, env=os.environ | environment)
    return Taken(*(int(number) / 1e9 for number in printed.split()))


def timed_readline(lines: Lines[AnyStr], line: AnyStr, count: int) -> Taken:
    """What `count` calls of readline() take on a stream that sends `line` without end."""

    def work(n: int) -> None:
        for _ in range(n):
            lines.readline()

    taken = timed(work, count)
    expect(line, lines.readline())
    return taken


def timed_iteration(lines: Lines[AnyStr], line: AnyStr, count: int) -> Taken:
    """What `count` steps of a for loop over a stream that sends `line` without end take."""

    def work(n: int) -> None:
        for _ in islice(lines, n):
            pass

    taken = timed(work, count)
    expect(line, lines.readline())
    return taken


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


def taken_by_import(statement: str, count: int) -> Taken:
    """The seconds of `statement` in `count` fresh interpreters, their own start not counted.

    -P keeps the current directory off the path: an installed landline is what users import.
    """
    code = f"from time import perf_counter as now; t = now(); {statement}; print(now() - t)"
    command = [sys.executable, "-P", "-c", code]
    return Taken(sum(float(subprocess.check_output(command)) for _ in range(count)))


def trust_all_roots(server: TlsServer) -> None:
    """From now on the system's trust, for this process, is what it is and the benchmark's certificates too."""
    if not server.all_roots:
        raise FileNotFoundError("this system has no roots, so loading them cannot be measured")
    os.environ["SSL_CERT_FILE"] = server.all_roots


def resident_growth(add: Callable[[], object], count: int) -> Taken:
    """The bytes by which `count` calls of `add` make this process grow, what the first few need not counted."""
    for _ in range(WARM):
        add()
    gc.collect()
    before = resident_bytes()
    for _ in range(count):
        add()
    return Taken(resident_bytes() - before)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
