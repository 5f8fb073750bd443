"""Threads that are used again: starting one for each connection costs more than all the rest of accepting it.

A worker that has done its job waits a while for the next one, the latest first: those that are not needed any more
end by themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread

__all__ = ["Workers"]

IDLE = 5.0
"""Seconds that a worker waits for another job."""

Job = Callable[[], object]


class Workers:
    """Runs jobs, each in a thread of its own while it lasts. The jobs handle their exceptions themselves."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = Lock()
        self._idle: list[SimpleQueue[Job | None]] = []
        self._threads: set[Thread] = set()
        self._started = 0
        self._ended = False

    def run(self, job: Job) -> None:
        """Begin with ``job`` at once. Raises RuntimeError when no thread can be started."""
        with self._lock:
            idle = self._idle.pop() if self._idle else None
        if idle is not None:
            idle.put(job)
            return
        jobs: SimpleQueue[Job | None] = SimpleQueue()
        jobs.put(job)
        with self._lock:
            self._started += 1
            thread = Thread(target=self._work, args=(jobs,), name=f"{self._name} #{self._started}", daemon=True)
            self._threads.add(thread)
        try:
            thread.start()
        except BaseException:
            with self._lock:
                self._threads.discard(thread)
            raise

    def end(self, *, wait: bool) -> None:
        """Let idle workers go, and those that are busy when they are done. No job may begin any more."""
        with self._lock:
            self._ended = True
            idle, self._idle = self._idle, []
            threads = list(self._threads) if wait else []
        for jobs in idle:
            jobs.put(None)
        for thread in threads:
            thread.join()

    def _work(self, jobs: SimpleQueue[Job | None]) -> None:
        try:
            while (job := self._next(jobs)) is not None:
                job()
                del job
        finally:
            with self._lock:
                self._threads.discard(current_thread())

    def _next(self, jobs: SimpleQueue[Job | None]) -> Job | None:
        try:
            return jobs.get_nowait()
        except Empty:
            pass
        with self._lock:
            if self._ended:
                return None
            self._idle.append(jobs)
        try:
            return jobs.get(timeout=IDLE)
        except Empty:
            with self._lock:
                if jobs in self._idle:
                    self._idle.remove(jobs)
                    return None
            return jobs.get()  # a job has come in this moment
