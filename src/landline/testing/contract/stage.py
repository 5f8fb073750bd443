"""What every check stands on: a pair of streams, threads that report back, and waiting for events.

Nothing here knows how a stream is made or what it waits with. No sleep stands for an event: where something has
to have happened, it is waited for (`until`, `Task.blocked`), and PATIENCE bounds every such wait, so that a
broken stream fails a check instead of hanging it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import cleandoc
from threading import Event, Thread
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from ...errors import SocketIOError, SslError

if TYPE_CHECKING:
    from ...sync.stream import SocketStream

__all__ = [
    "BRIEF",
    "BROKEN",
    "MUCH",
    "PATIENCE",
    "PROMPT",
    "Check",
    "Checks",
    "Expected",
    "MakePair",
    "Task",
    "all_that_came",
    "expect",
    "pair",
    "stall",
    "standing_still",
    "until",
]

PATIENCE = 20.0
"""Seconds: what takes longer will never happen. No check depends on how much faster it is."""

BRIEF = 0.005
"""Seconds: a time limit that is meant to pass."""

PROMPT = 0.05
"""Seconds within which a blocked call ends when another thread closes its stream."""

MUCH = 4 << 20
"""Bytes: written until a write times out, this fills any kernel's buffers soon."""

BROKEN = (SocketIOError, SslError)
"""The conditions of a connection that broke, in the clear and over TLS."""

MakePair: TypeAlias = "Callable[[], tuple[SocketStream, SocketStream]]"
"""Makes a fresh connection: the stream that is checked, and its peer.

Both are byte streams as SocketStream describes them (or adapters with its methods), with direction "io" and no
time limits. The peer is used from other threads, and must keep the contract itself.
"""

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


@dataclass(frozen=True)
class Check:
    """One clause of the contract, executable: ``check(make_pair)`` raises AssertionError where it is broken.

    Attributes:
        name: the clause in a few words, fit for a test's name.
        clause: the clause as a sentence.
    """

    name: str
    clause: str
    run: Callable[[MakePair], None]

    def __call__(self, make_pair: MakePair) -> None:
        self.run(make_pair)

    def __str__(self) -> str:
        return self.name


class Checks(list[Check]):
    """A list that functions join: their name becomes the check's, their docstring its clause."""

    def one(self, run: Callable[[MakePair], None]) -> Callable[[MakePair], None]:
        self.append(Check(run.__name__, cleandoc(run.__doc__ or ""), run))
        return run

    def each(self, variants: Iterable[str]) -> Callable[[Callable[[str, MakePair], None]], None]:
        """The same, for a function that takes one of ``variants`` first: a check for each."""

        def add(run: Callable[[str, MakePair], None]) -> None:
            for variant in variants:
                self.append(Check(f"{run.__name__}-{variant}", cleandoc(run.__doc__ or ""), partial(run, variant)))

        return add


@contextmanager
def pair(make_pair: MakePair) -> Iterator[tuple[SocketStream, SocketStream]]:
    """A fresh pair, aborted at the end whatever happened: threads that are still inside are woken by that."""
    stream, peer = make_pair()
    try:
        yield stream, peer
    finally:
        stream.abort()
        peer.abort()


class Task(Generic[T]):
    """A function that runs in a thread of its own."""

    def __init__(self, do: Callable[[], T]) -> None:
        self._do = do
        self._made: list[T] = []
        self._error: BaseException | None = None
        self._ended = Event()
        self.ended_at = 0.0
        self._thread = Thread(target=self._run, name=f"contract: {do}", daemon=True)
        self._thread.start()

    def result(self) -> T:
        """What the function returned; raises what it raised."""
        if not self._ended.wait(PATIENCE):
            raise AssertionError(f"the thread did not end within {PATIENCE} s")
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._made[0]

    def failure(self, kind: type[E]) -> E:
        """The exception that the function raised; AssertionError when it was not of this kind."""
        with expect(kind) as caught:
            self.result()
        return caught.error

    def blocked(self) -> Task[T]:
        """Wait until the thread is inside a call that waits."""
        still = standing_still(self._thread.ident or 0)
        end = time.monotonic() + PATIENCE
        while not still():
            if self._ended.is_set():
                self.result()
                raise AssertionError("the call returned, but it should wait")
            if time.monotonic() > end:
                raise AssertionError(f"the thread was still busy after {PATIENCE} s")
            time.sleep(0.001)
        return self

    def _run(self) -> None:
        try:
            self._made.append(self._do())
        except BaseException as error:  # noqa: BLE001 (it is raised where the result is asked for)
            self._error = error
        finally:
            self.ended_at = time.monotonic()
            self._ended.set()


def standing_still(thread: int) -> Callable[[], bool]:
    """A function that becomes true when the thread of this number stands still, which calls that wait do.

    That is seen from outside: at the same instruction in ten looks in a row, a millisecond apart. A thread that the
    system lets wait for its turn looks the same, so a check may begin a moment too early; it is weaker then, and
    not wrong.
    """
    looks = 0
    place: object = None

    def still() -> bool:
        nonlocal looks, place
        frame = sys._current_frames().get(thread)
        seen = None if frame is None else (id(frame), frame.f_lasti)
        looks = looks + 1 if seen is not None and seen == place else 0
        place = seen
        return looks >= 10

    return still


class Expected(Generic[E]):
    """What `expect` gives.

    Attributes:
        error: the exception, once it was raised.
    """

    error: E

    def __init__(self, kind: type[E]) -> None:
        self._kind = kind

    def __enter__(self) -> Expected[E]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> bool:
        if error is None:
            raise AssertionError(f"{self._kind.__name__} was not raised")
        if not isinstance(error, self._kind):
            return False
        self.error = error
        return True


def expect(kind: type[E]) -> Expected[E]:
    """AssertionError unless what runs inside ``with expect(kind)`` raises an exception of this kind."""
    return Expected(kind)


def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"it did not come true within {PATIENCE} s")
        time.sleep(0.0005)


def all_that_came(peer: SocketStream) -> bytes:
    """Everything up to the end, where the other side has dropped something: over TLS that end is a failure."""
    pieces = []
    try:
        while piece := peer.read1():
            pieces.append(piece)
    except SslError:
        pass
    return b"".join(pieces)


def stall(stream: SocketStream, block: bytes = bytes(MUCH)) -> int:
    """Write until nothing more is taken: how many bytes were written, all of them accepted.

    At least half a block is left to be sent, for a kernel that was short of memory takes some more a moment later.
    The peer must not read meanwhile. The stream's write_timeout is as before afterwards.
    """
    from ...errors import WriteTimeout

    before, stream.write_timeout = stream.write_timeout, BRIEF
    written = 0
    try:
        while True:
            written += len(block)
            try:
                stream.write(block)
            except WriteTimeout:
                if written - stream.bytes_sent >= len(block) // 2:
                    return written
    finally:
        stream.write_timeout = before
