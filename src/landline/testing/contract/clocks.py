"""What the two clocks promise to readers: an idle limit, and deadlines over everything. (For writers: writing.py.)"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from threading import Event
from typing import Any

from ...errors import ReadTimeout
from .reading import EVERY, LINE, NEXT, arrived, send
from .stage import BRIEF, PATIENCE, Checks, MakePair, Task, expect, pair

__all__ = ["CHECKS"]

CHECKS = Checks()


@CHECKS.each(EVERY)
def read_timeout_zero_does_not_wait(method: str, make_pair: MakePair) -> None:
    """read_timeout=0 takes what has arrived, and raises ReadTimeout instead of waiting."""
    with pair(make_pair) as (stream, peer):
        stream.read_timeout = 0
        read = EVERY[method](stream)
        begun = time.monotonic()
        with expect(ReadTimeout):
            read()
        assert time.monotonic() - begun < PATIENCE / 2
        send(peer, LINE)
        arrived(stream)
        if method.startswith("end"):
            with expect(ReadTimeout):
                read()
            assert stream.read_exactly(len(LINE)) == LINE
        else:
            assert read() == LINE


@CHECKS.each(EVERY)
def a_read_waits_no_less_than_its_limit(method: str, make_pair: MakePair) -> None:
    """ReadTimeout, which is a TimeoutError, comes when read_timeout seconds have passed, and not before."""
    with pair(make_pair) as (stream, _):
        for limit in (0.001, 0.0201):
            stream.read_timeout = limit
            begun = time.monotonic()
            with expect(TimeoutError):
                EVERY[method](stream)()
            assert limit <= time.monotonic() - begun < limit + PATIENCE


@CHECKS.one
def none_is_no_limit(make_pair: MakePair) -> None:
    """read_timeout=None waits as long as it takes, also after there was a limit."""
    with pair(make_pair) as (stream, peer):
        stream.read_timeout = BRIEF
        with expect(ReadTimeout):
            stream.readline()
        stream.read_timeout = None
        reader = Task(stream.readline).blocked()
        send(peer, LINE)
        assert reader.result() == LINE


@CHECKS.one
def limits_are_checked_when_set(make_pair: MakePair) -> None:
    """Negative and NaN limits are a ValueError, what is no number a TypeError, and neither changes anything."""
    with pair(make_pair) as (stream, _):
        stream.read_timeout = stream.write_timeout = 7.5
        wrong: Any
        for wrong in (-1, -0.001, math.nan, "1", True):
            kind = ValueError if isinstance(wrong, (int, float)) and wrong is not True else TypeError
            with expect(kind) as caught:
                stream.read_timeout = wrong
            assert repr(wrong) in str(caught.error) or repr(float(wrong)) in str(caught.error)
            with expect(kind):
                stream.write_timeout = wrong
            with expect(kind):
                stream.deadline(wrong)
        assert stream.read_timeout == stream.write_timeout == 7.5


@CHECKS.one
def an_idle_limit_allows_a_slow_peer(make_pair: MakePair) -> None:
    """read_timeout is time without progress: a peer that drips is read for longer than the limit."""
    with pair(make_pair) as (stream, peer):
        drops, limit, last_drop = 60, 0.2, [time.monotonic()]

        def drip() -> None:
            for _ in range(drops):
                time.sleep(0.01)
                last_drop[0] = time.monotonic()
                send(peer, b".")

        stream.read_timeout = limit
        dripping = Task(drip)
        begun = time.monotonic()
        data = None
        while data is None:
            try:
                data = stream.read_exactly(drops)
            except ReadTimeout:
                # On a machine that was busy elsewhere the peer itself may have paused for so long.
                assert time.monotonic() - last_drop[0] >= limit * 0.9, "it was not idle for the limit"
        assert data == b"." * drops
        assert time.monotonic() - begun > 2 * limit
        dripping.result()


@CHECKS.each(("read_exactly", "read", "readline", "read_until", "iteration", "readinto", "readlines"))
def a_deadline_ends_a_dripping_peer(method: str, make_pair: MakePair) -> None:
    """``with stream.deadline(s)`` bounds everything inside it, a peer that drips without an end included."""
    with pair(make_pair) as (stream, peer):
        enough, drops = Event(), [0]

        def drip() -> None:
            while not enough.wait(0.002):
                send(peer, b".")
                drops[0] += 1

        dripping = Task(drip)
        reads: dict[str, Callable[[], object]] = {
            "read_exactly": lambda: stream.read_exactly(1 << 20),
            "read": stream.read,
            "readline": stream.readline,
            "read_until": lambda: stream.read_until(b"!"),
            "iteration": iter(stream).__next__,
            "readinto": lambda: stream.readinto(bytearray(1 << 20)),
            "readlines": stream.readlines,
        }
        stream.read_timeout = PATIENCE
        begun = time.monotonic()
        with stream.deadline(0.06), expect(ReadTimeout):
            reads[method]()
        assert 0.06 <= time.monotonic() - begun < PATIENCE
        enough.set()
        dripping.result()
        assert drops[0] > 0
        assert stream.read_exactly(drops[0]) == b"." * drops[0]


@CHECKS.one
def a_passed_deadline_ends_reads_though_input_waits(make_pair: MakePair) -> None:
    """A peer whose input is always there already (a flood) does not carry reads past the deadline either."""
    with pair(make_pair) as (stream, peer):
        send(peer, LINE)
        arrived(stream)
        with stream.deadline(0):
            for _ in range(3):
                with expect(ReadTimeout):
                    stream.read_exactly(len(LINE))
            assert stream.read_no_hang(2) == LINE[:2]
            assert stream.read_exactly(len(LINE) - 2) == LINE[2:]


@CHECKS.one
def the_earliest_of_nested_deadlines_wins(make_pair: MakePair) -> None:
    """Deadlines nest; the earliest holds, whichever is inside, and ends with its block."""
    with pair(make_pair) as (stream, peer):
        for outer, inner in ((0.03, PATIENCE), (PATIENCE, 0.03)):
            with stream.deadline(outer), stream.deadline(inner), expect(ReadTimeout):
                stream.readline()
        with stream.deadline(0.03):
            with stream.deadline(None):
                pass
            with expect(ReadTimeout):
                stream.readline()
        with stream.deadline(PATIENCE):
            with stream.deadline(0), expect(ReadTimeout):
                stream.readline()
            send(peer, LINE)
            assert stream.readline() == LINE
        reader = Task(stream.readline).blocked()
        send(peer, NEXT)
        assert reader.result() == NEXT


@CHECKS.one
def one_deadline_object_may_be_entered_again(make_pair: MakePair) -> None:
    """Each ``with`` starts the clock anew and takes away its own deadline, also inside another of the same object."""
    with pair(make_pair) as (stream, peer):
        deadline = stream.deadline(0.02)
        for _ in range(2):
            with deadline, expect(ReadTimeout):
                stream.readline()
        with deadline, deadline:
            pass
        reader = Task(stream.readline).blocked()
        time.sleep(0.03)
        send(peer, LINE)
        assert reader.result() == LINE


@CHECKS.one
def a_deadline_belongs_to_every_thread(make_pair: MakePair) -> None:
    """deadline() belongs to the stream: a read that another thread begins inside it ends with it."""
    with pair(make_pair) as (stream, _):
        with stream.deadline(0.05):
            Task(stream.readline).failure(ReadTimeout)
        Task(stream.readline).blocked()


@CHECKS.one
def an_idle_limit_holds_inside_a_longer_deadline(make_pair: MakePair) -> None:
    """Whichever clock ends first ends the read."""
    with pair(make_pair) as (stream, _):
        stream.read_timeout = 0.02
        begun = time.monotonic()
        with stream.deadline(PATIENCE), expect(ReadTimeout):
            stream.readline()
        assert time.monotonic() - begun < PATIENCE / 2
