"""Names to addresses, in threads that can be left alone.

getaddrinfo() cannot be interrupted, by anything. What can be done is to call it in a thread and to stop
waiting for that thread. It has to be a daemon: a ThreadPoolExecutor is joined when the interpreter exits, and
a hung resolver has kept processes alive for days that way.

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

import socket
from collections import deque
from collections.abc import Callable
from threading import Lock, Thread, current_thread
from typing import TypeAlias

from ..address import SocketAddress

__all__ = ["Answer", "Lookup", "start_lookup"]

MOST_LOOKUP_THREADS = 64
"""Lookups at once in this process. glibc opens a socket or two for each, and select()-based code of others
breaks past descriptor 1023; 32 names at a time are more than a healthy resolver ever queues."""

Answer: TypeAlias = "list[SocketAddress] | Exception"
Done: TypeAlias = Callable[[Answer], None]


class Lookup:
    """One question to the resolver, and who waits for its answer."""

    __slots__ = ("family", "name", "waiting")

    def __init__(self, name: str, family: int) -> None:
        self.name = name
        self.family = family
        self.waiting: list[Done] = []

    def abandon(self, done: Done) -> None:
        """``done`` will not be called, unless it is being called right now."""
        with _lock:
            if done in self.waiting:
                self.waiting.remove(done)


def start_lookup(name: str, family: int, done: Done) -> Lookup:
    """Ask for the addresses of ``name`` (port 0) in one family; ``done`` gets the answer in another thread.

    Raises RuntimeError where the system gives no thread.
    """
    with _lock:
        lookup = _in_flight.get((name, family))
        if lookup is not None:
            lookup.waiting.append(done)
            return lookup
        lookup = _in_flight[name, family] = Lookup(name, family)
        lookup.waiting.append(done)
        if len(_threads) >= MOST_LOOKUP_THREADS:
            _queue.append(lookup)
            return lookup
        thread = Thread(target=_work, args=(lookup,), name=f"landline lookup of {name}", daemon=True)
        _threads.add(thread)
    try:
        thread.start()
    except BaseException:
        with _lock:
            _threads.discard(thread)
            _in_flight.pop((name, family), None)
        raise
    return lookup


_lock = Lock()
_in_flight: dict[tuple[str, int], Lookup] = {}
_queue: deque[Lookup] = deque()
_threads: set[Thread] = set()


def _work(lookup: Lookup | None) -> None:
    while lookup is not None:
        answer = _ask(lookup.name, lookup.family)
        with _lock:
            _in_flight.pop((lookup.name, lookup.family), None)
            waiting, lookup.waiting = lookup.waiting, []
        for done in waiting:
            done(answer)
        lookup = _next_wanted()


def _next_wanted() -> Lookup | None:
    """The next queued question that somebody still waits for; None ends this thread."""
    with _lock:
        while _queue:
            lookup = _queue.popleft()
            if lookup.waiting:
                return lookup
            _in_flight.pop((lookup.name, lookup.family), None)
        _threads.discard(current_thread())
        return None


def _ask(name: str, family: int) -> Answer:
    try:
        found = socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        return error.with_traceback(None)
    addresses = (SocketAddress.from_sockaddr(sockaddr) for kind, _, _, _, sockaddr in found if kind == family)
    return list(dict.fromkeys(addresses))
