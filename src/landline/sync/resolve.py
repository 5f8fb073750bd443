"""Names to addresses, in threads that can be left alone.

getaddrinfo() cannot be interrupted, by anything. What can be done is to call it in a thread and to stop
waiting for that thread. It has to be a daemon: a ThreadPoolExecutor is joined when the interpreter exits, and
a hung resolver has kept processes alive for days that way. It is started by the _thread module, in one step: Ctrl-C
in the middle of threading.Thread.start() leaves a thread behind that is listed for ever and never runs.

* Each family is asked apart, so that the answer of one need not wait for the other's; the libc sends two
  queries then. AI_ADDRCONFIG is not set: glibc does not count the loopback interface, so in a container
  with nothing else it would hide 'localhost'. What has no route is sorted last instead
  (engine/destination.py).
* A question that is being asked already is joined, not asked again: a retrying client does not pile up
  threads in front of a dead resolver.
* There is a cap on threads. What comes on top waits for one to be free; whoever waits has a time limit.
* No cache: the system has one, with the right lifetimes.
"""

from __future__ import annotations

import os
import socket
from _thread import start_new_thread
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from threading import Lock
from typing import Any, TypeAlias

from ..address import SocketAddress

__all__ = ["Answer", "Lookup", "start_lookup", "start_question"]

MOST_LOOKUP_THREADS = 64
"""Lookups at once in this process. glibc opens a socket or two for each, and select()-based code of others
breaks past descriptor 1023; 32 names at a time are more than a healthy resolver ever queues."""

Answer: TypeAlias = "list[SocketAddress] | Exception"
Done: TypeAlias = Callable[[Answer], None]


class Lookup:
    """One question to the resolver, and who waits for its answer."""

    __slots__ = ("ask", "key", "waiting")

    def __init__(self, key: Hashable, ask: Callable[[], Any]) -> None:
        self.key = key
        self.ask = ask
        self.waiting: list[Callable[[Any], None]] = []

    def abandon(self, done: Callable[[Any], None]) -> None:
        """``done`` is not being called, and will not be, when this returns."""
        with _lock:
            if done in self.waiting:
                self.waiting.remove(done)


def start_lookup(name: str, family: int, done: Done) -> Lookup:
    """Ask for the addresses of ``name`` (port 0) in one family; ``done`` gets the answer in another thread.

    Raises RuntimeError where the system gives no thread.
    """
    return start_question((name, family), partial(_addresses, name, family), done)


def start_question(key: Hashable, ask: Callable[[], Any], done: Callable[[Any], None]) -> Lookup:
    """Have ``ask()`` called in such a thread, unless the same ``key`` is being asked already.

    ``done`` gets what it returns, or the exception it raises, in that thread, and must not wait for anything. Raises
    RuntimeError where the system gives no thread.
    """
    with _lock:
        lookup = _in_flight.get(key)
        if lookup is None:
            lookup = Lookup(key, ask)
            _begin(lookup)
            # Only what is under way is joined: an interrupted start must not be waited for.
            _in_flight[key] = lookup
        lookup.waiting.append(done)
        return lookup


_lock = Lock()
_in_flight: dict[Hashable, Lookup] = {}
_queue: deque[Lookup] = deque()
_threads: set[Lookup] = set()
"""Those running, each by the question it was started for."""


def _begin(lookup: Lookup) -> None:
    if len(_threads) >= MOST_LOOKUP_THREADS:
        _queue.append(lookup)
        return
    try:
        _threads.add(lookup)
        start_new_thread(_work, (lookup,))
    except BaseException:
        _threads.discard(lookup)
        raise


def _work(first: Lookup) -> None:
    lookup: Lookup | None = first
    while lookup is not None:
        answer = _answer(lookup.ask)
        with _lock:
            _forget(lookup)
            # Within the lock, so that abandon() can promise what it does; done() only leaves a note.
            for done in lookup.waiting:
                done(answer)
            lookup = _next_wanted()
            if lookup is None:
                _threads.discard(first)


def _next_wanted() -> Lookup | None:
    """The next queued question that somebody still waits for."""
    while _queue:
        lookup = _queue.popleft()
        if lookup.waiting:
            return lookup
        _forget(lookup)
    return None


def _forget(lookup: Lookup) -> None:
    if _in_flight.get(lookup.key) is lookup:
        del _in_flight[lookup.key]


def _start_afresh() -> None:
    """In a forked child: none of the threads came along, so no question of the parent's will be answered."""
    global _lock  # noqa: PLW0603 - the parent's may have been held by a thread that is gone
    _lock = Lock()
    _in_flight.clear()
    _queue.clear()
    _threads.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)


def _answer(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        return error.with_traceback(None)


def _addresses(name: str, family: int) -> list[SocketAddress]:
    found = socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)
    addresses = (SocketAddress.from_sockaddr(sockaddr) for kind, _, _, _, sockaddr in found if kind == family)
    return list(dict.fromkeys(addresses))
