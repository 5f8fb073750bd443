"""Waiting until one of several streams has something to read.

Select and its kin know descriptors, and a descriptor does not know what a stream holds: lines in its buffer, a
record that was decrypted, half a character. So each stream is looked at first, and only then waited for; and what
arrives is looked at too, because ciphertext may be no payload, and a byte no character.

Whoever waits here holds no lock of any stream: other threads write, read and close as they like. What they do is
heard through a *watch* on each stream (Flow.watch()), which ends the poll by one wakeup descriptor for all.

* *close()* and the like end the wait at once: the read would raise at once.
* *A read in another thread* has the stream for itself, and what comes meanwhile is its own. When it has ended, what it
  left over counts. The end of a read that began before the wait cannot be heard (telling would cost every read
  something); it is looked for, a hundred times a second at first, once a second in the end. A read that began later
  tells. It is looked after a little later even then: it may be in the middle of a line.
* *What is pending* is sent, as a read would, and a write meanwhile sends at once.

A selector, made for each call: epoll and kqueue cost a call per stream to begin with, but then an event costs the
same among ten streams and ten thousand, and streams that have something to say, but nothing to read, do not cost the
square of their number. A selector that stays between calls would spare its making; it needs an object that lives,
and a descriptor in it whose number has been given to another connection meanwhile.

Other objects than streams are taken for what their descriptor says, and their input_ready(), if they have one.
Landline's own (servers, UDP sockets) have ``_watch(tell)`` and ``_unwatch(tell)``, and call ``tell()`` when they are
closed; one with several descriptors lists them in ``_descriptors()``.

Source: LispWorks manual, system:wait-for-input-streams and wait-for-input-streams-returning-first.
"""

from __future__ import annotations

import io
import selectors
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial, reduce
from heapq import heappop, heappush
from itertools import count
from operator import or_
from threading import RLock
from time import monotonic
from typing import Any, TypeVar

from ..deadline import Deadline, checked_timeout
from ..errors import SocketCreateError, with_kin
from .flow import Look
from .stream import SocketStream
from .text_stream import TextSocketStream
from .wait import Wakeup

__all__ = ["wait_for_input_streams", "wait_for_input_streams_returning_first"]

LOOK_AGAIN = 0.01
"""Seconds after which a stream that another thread reads is looked at again: longer than it takes to take a line."""

LOOK_AT_LEAST = 0.64
"""Seconds between two looks, as they get rarer: what is left over waits no longer, and a long read costs nothing."""


S = TypeVar("S")


def wait_for_input_streams(streams: Iterable[S], timeout: float | None = None) -> list[S]:
    """Wait until a read of one of ``streams`` would not wait: those of which that is true, in the order given.

    There are bytes (of a text stream: a character; of TLS: payload), or the peer's end, or a failure that the read
    will raise. A stream that is closed, by another thread during the wait too, counts: its read raises StreamClosed. A
    server counts when a connection waits to be accepted, a UDP socket when a datagram has come.

    What is pending in a stream is sent meanwhile, as far as that goes. A stream that another thread is reading does not
    count while it does. The streams' own read_timeout and deadline() do not bound this wait.

    Args:
        streams: SocketStream, TextSocketStream, Server, UdpSocket, or anything else with fileno(), of which only the
            descriptor is looked at, unless it has an input_ready().
        timeout: seconds; 0 does not wait, None waits for as long as it takes.

    Returns:
        One ready stream or more; [] when ``timeout`` has passed.

    Raises:
        TypeError, ValueError: a wrong argument; nothing to wait for, and no ``timeout``.
        io.UnsupportedOperation: a stream is for output only.
        SocketCreateError: this machine has no descriptor left to wait with.

    Source: LispWorks manual, system:wait-for-input-streams.
    """
    listed = list(streams)
    ready = _wait(listed, timeout, first=False)
    return [stream for stream in listed if id(stream) in ready]


def wait_for_input_streams_returning_first(streams: Iterable[S], timeout: float | None = None) -> S | None:
    """The same; the first that is ready in the order given, None when ``timeout`` has passed.

    Whoever stands in front is served first, always: rotate the list where that would let others starve.

    Source: LispWorks manual, system:wait-for-input-streams-returning-first.
    """
    listed = list(streams)
    ready = _wait(listed, timeout, first=True)
    return next((stream for stream in listed if id(stream) in ready), None)


def _wait(streams: list[Any], timeout: float | None, *, first: bool) -> set[int]:
    """The ids of those that are ready; of the first one alone, and perhaps others."""
    timeout = checked_timeout(timeout, "timeout")
    if not streams and timeout is None:
        raise ValueError("streams is empty and timeout=None: there is nothing to wait for")
    distinct = {id(stream): stream for stream in streams}
    listed = [_listed(stream) for stream in distinct.values()]
    until = Deadline.after(timeout)
    try:
        wait = _Wait(listed, waits=not until.passed)
    except OSError as error:
        message = f"could not wait for input: {error.strerror or error}"
        raise with_kin(SocketCreateError, error)(message, operation="wait", errno=error.errno) from error
    try:
        wait.run(until, first)
    finally:
        wait.end()
    return {id(each.stream) for each in listed if each.ready}


class _Listed:
    """One of the streams: an object with a descriptor, or several, of which nothing else is known.

    Attributes:
        ready: what it was waited for has come.
        filenos, wants: what is registered for it, if anything, and for which events.
        pause, due: when it is looked at again while another thread reads it: after how many seconds, and when.
        news: it has called, and was not looked at since.
    """

    __slots__ = ("due", "filenos", "news", "pause", "ready", "stream", "wants", "watching")

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.ready = self.news = False
        self.filenos: list[int] | None = None
        self.wants = 0
        self.pause = self.due = 0.0
        self.watching: Callable[[], object] | None = None

    def descriptors(self) -> list[int]:
        several = getattr(self.stream, "_descriptors", None)
        return [self.stream.fileno()] if several is None else several()

    def look(self, arrived: bool) -> Look:
        """As Flow.look()."""
        ask = getattr(self.stream, "input_ready", None)
        if ask is None:
            return "ready" if arrived else "input"
        if ask():
            return "ready"
        # The descriptor may go on saying otherwise: whoever took what came may not have taken all of it.
        return "busy" if arrived else "input"

    def called(self) -> bool:
        """It has news; True when they can be looked at now."""
        return True

    def watch(self, tell: Callable[[], object]) -> None:
        watch = getattr(self.stream, "_watch", None)
        if watch is not None:
            self.watching = tell
            watch(tell)

    def unwatch(self) -> None:
        if self.watching is not None:
            self.stream._unwatch(self.watching)


class _ListedStream(_Listed):
    """A stream of landline's."""

    __slots__ = ("channel",)

    def __init__(self, stream: SocketStream | TextSocketStream) -> None:
        super().__init__(stream)
        self.channel: Any = stream._channel
        if not self.channel.closed:
            self.channel.check_readable()

    def descriptors(self) -> list[int]:
        return [self.channel.fileno()]

    def look(self, arrived: bool) -> Look:
        look: Look = self.channel.look(arrived)
        return look

    def called(self) -> bool:
        return bool(self.channel.closed)

    def watch(self, tell: Callable[[], object]) -> None:
        self.watching = tell
        self.channel.watch(tell)

    def unwatch(self) -> None:
        if self.watching is not None:
            self.channel.unwatch(self.watching)


class _ListedText(_ListedStream):
    """A stream whose bytes are not what is waited for."""

    __slots__ = ()

    def look(self, arrived: bool) -> Look:
        look: Look = self.channel.look(arrived, self._exactly)
        return look

    def _exactly(self, there: bool) -> bool:
        return bool(self.stream._decoder) or (there and self.stream.input_ready())


def _listed(stream: Any) -> _Listed:
    if isinstance(stream, TextSocketStream):
        return _ListedText(stream)
    if isinstance(stream, SocketStream):
        return _ListedStream(stream)
    if not hasattr(stream, "fileno") and not hasattr(stream, "_descriptors"):
        raise TypeError(f"streams: {stream!r} is not allowed: it must be a stream, or have fileno()")
    return _Listed(stream)


_READ, _BOTH = selectors.EVENT_READ, selectors.EVENT_READ | selectors.EVENT_WRITE


class _Wait:
    """One wait. Only _hear() is called by other threads."""

    def __init__(self, listed: list[_Listed], *, waits: bool) -> None:
        self._listed = listed
        self._any_ready = False
        self._at: dict[int, list[_Listed]] = {}  # by descriptor, which some may share
        self._again: list[tuple[float, int, _Listed]] = []  # a heap, by when they are due
        self._order = count()
        self._news: deque[_Listed] = deque()
        self._wakeup: Wakeup | None = None
        self._wakeup_lock = RLock()
        self._selector = selectors.DefaultSelector()
        try:
            if waits:  # made before any stream is looked at: one that is closed then might lend it its number
                self._wakeup = Wakeup()
                self._selector.register(self._wakeup, _READ)
        except BaseException:
            self._selector.close()
            raise

    def run(self, until: Deadline, first: bool) -> None:
        """Look, wait and look until something is ready, or the time is over."""
        if self._wakeup is not None:
            for each in self._listed:
                each.watch(partial(self._hear, each))
        for each in self._listed:
            self._look(each, arrived=False)
            if first and self._any_ready:
                break
        while True:
            self._attend()
            last = self._any_ready or until.passed
            for key, events in self._poll(0 if last else until.limit(self._next_look())):
                if isinstance(key.fileobj, Wakeup):
                    key.fileobj.clear()
                    continue
                for each in key.data:
                    if each.wants & events:
                        self._look(each, arrived=bool(events & _READ))
            if last or self._any_ready:
                return

    def end(self) -> None:
        """Whatever happened. Nobody is inside the wakeup's set() when it is closed."""
        self._selector.close()
        for each in self._listed:
            each.unwatch()
        with self._wakeup_lock:
            wakeup, self._wakeup = self._wakeup, None
            if wakeup is not None:
                wakeup.close()

    # News from other threads

    def _hear(self, each: _Listed) -> None:
        if each.news:
            return
        each.news = True
        self._news.append(each)
        with self._wakeup_lock:
            if self._wakeup is not None:
                self._wakeup.set()

    def _attend(self) -> None:
        """Look at what has called, and at what is due."""
        while self._news:
            each = self._news.popleft()
            each.news = False
            if each.called():
                self._look(each, arrived=False)
            else:
                self._look_later(each, LOOK_AGAIN)
        while self._again and self._again[0][0] <= monotonic():
            due, _, each = heappop(self._again)
            if due == each.due:
                self._look(each, arrived=False)

    def _look_later(self, each: _Listed, pause: float) -> None:
        each.pause = pause
        each.due = monotonic() + pause
        heappush(self._again, (each.due, next(self._order), each))

    def _next_look(self) -> float | None:
        return max(0.0, self._again[0][0] - monotonic()) if self._again else None

    # Looking

    def _look(self, each: _Listed, arrived: bool) -> None:
        look = _look(each, arrived)
        if look == "ready":
            each.ready = self._any_ready = True
        elif look == "busy":
            if arrived:
                self._want(each, 0)  # or the poll would not wait while the other thread takes its time
                self._look_later(each, LOOK_AGAIN)
            else:
                self._want(each, each.wants if each.pause else _READ)
                self._look_later(each, min(LOOK_AT_LEAST, 2 * each.pause or LOOK_AGAIN))
        else:
            each.pause = each.due = 0.0
            self._want(each, _READ if look == "input" else _BOTH)

    def _want(self, each: _Listed, wants: int) -> None:
        """Have the selector watch for these events."""
        if wants == each.wants:
            return
        try:
            if each.filenos is None:
                each.filenos = each.descriptors()
                for fileno in each.filenos:
                    self._at.setdefault(fileno, []).append(each)
            befores = [_union(self._at[fileno]) for fileno in each.filenos]
            each.wants = wants
            for fileno, before in zip(each.filenos, befores, strict=True):
                self._register(fileno, before, self._at[fileno])
        except PermissionError:
            each.ready = self._any_ready = True  # epoll takes no files on disks, which are always ready
        except (OSError, ValueError):
            if _look(each, arrived=False) != "ready":
                raise
            each.ready = self._any_ready = True

    def _register(self, fileno: int, before: int, here: list[_Listed]) -> None:
        after = _union(here)
        if not before:
            self._selector.register(fileno, after, here)
        elif not after:
            self._selector.unregister(fileno)
        elif after != before:
            self._selector.modify(fileno, after, here)

    def _poll(self, limit: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self._selector.get_map():
            return []
        try:
            return self._selector.select(limit)
        except OSError:  # select() minds a descriptor that was closed just now
            for each in self._listed:
                if _look(each, arrived=False) == "ready":
                    each.ready = self._any_ready = True
            if not self._any_ready:
                raise
            return []


def _look(each: _Listed, arrived: bool) -> Look:
    try:
        return each.look(arrived)
    except io.UnsupportedOperation:
        raise
    except OSError:
        return "ready"  # the read will tell of it


def _union(listed: list[_Listed]) -> int:
    return reduce(or_, (each.wants for each in listed))
