"""One connection: the race of engine/race.py driven with real sockets, the real clock and one deadline.

Everything happens in the caller's thread but the lookups. The thread sleeps in one poll on all attempts and,
where there can be news from other threads (answers, Cancel), on one wakeup descriptor; a numeric host
needs neither. Whatever ends the opening, KeyboardInterrupt included, leaves through one ``finally`` that
closes every socket but the winner's.

Left out on purpose: a cache of what won last (RFC 8305 section 4 allows it; a stale one is a bug that nobody
finds), and a connect timeout per attempt (the system has one; a shorter one would kill slow paths that work).
"""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import NamedTuple

from ..address import Host, SocketAddress
from ..deadline import Deadline
from ..engine import race
from ..engine.destination import Rank, rank
from ..errors import SocketCreateError, StreamClosed
from ..report import AttemptRecord, ConnectionReport, LookupRecord, Outcome
from .attempt import Target, is_under_way, prepare, second_look
from .cancel import Cancel
from .failures import connect_failure, connect_timeout, local_address_failure
from .resolve import Answer, Lookup, start_lookup
from .wait import Wakeup, wait_for_sockets

__all__ = ["Connected", "connect"]


class Connected(NamedTuple):
    """A connected socket, in whatever blocking mode, and how it came about."""

    sock: socket.socket
    local_address: SocketAddress
    peer_address: SocketAddress
    report: ConnectionReport


def connect(target: Target, timeout: float | None, cancel: Cancel | None) -> Connected:
    """Connect within ``timeout`` seconds over all: lookups and every attempt.

    Raises:
        SocketCreateError, SocketConnectError, HostLookupError, ConnectTimeout: with the report.
        StreamClosed: ``cancel`` was set.

    Nothing is left open after any of them.
    """
    host, local = target.host, target.local
    if host.address is not None and cancel is None and (local is None or local.address is not None) and _INTERRUPTIBLE:
        return _connect_directly(target, SocketAddress(host.address, target.port), timeout)
    opening = _Opening(target, timeout, cancel)
    try:
        return opening.run()
    finally:
        opening.release()


_INTERRUPTIBLE = sys.platform != "win32"  # there Ctrl-C does not end a connect() that blocks


def _connect_directly(target: Target, address: SocketAddress, timeout: float | None) -> Connected:
    """One address, and nothing that other threads could tell: a race of one, for a quarter of a race's cost."""
    record = AttemptRecord(address, 0.0)
    report = ConnectionReport(target.host.text, target.port, attempts=[record])
    sock: socket.socket | None = None
    began = monotonic()
    try:
        sock = socket.socket(address.family, socket.SOCK_STREAM)
        prepare(sock, target, target.local and target.local.address)
        if timeout is not None or target.callback is not None:  # which may have set another limit
            sock.settimeout(timeout)
        record.reached_connect = True
        sock.connect(address.sockaddr())
        local = SocketAddress.from_sockaddr(sock.getsockname())
        if local.port == address.port and (status := second_look(sock)):
            raise OSError(status, os.strerror(status))
    except BaseException as error:
        record.ended = report.elapsed = monotonic() - began
        record.outcome = "cancelled"
        if sock is not None:
            sock.close()
        if timeout is not None and record.reached_connect and _is_over(error):
            record.outcome = "timed out"
            raise connect_timeout(report, timeout) from None
        if isinstance(error, Exception):
            record.outcome = "failed"
            record.error = error.with_traceback(None)
            raise connect_failure(report, (error,)) from error
        raise
    record.ended = report.elapsed = monotonic() - began
    record.outcome = "connected"
    return Connected(sock, local, address, report)


def _is_over(error: BaseException) -> bool:
    """Whether it is Python's own time limit that ended connect(), and not the system's."""
    return isinstance(error, BlockingIOError) or (isinstance(error, TimeoutError) and error.errno is None)


class _Attempt(NamedTuple):
    sock: socket.socket
    record: AttemptRecord


class _Opening:
    """The state of one call of connect()."""

    def __init__(self, target: Target, timeout: float | None, cancel: Cancel | None) -> None:
        self.target = target
        self.timeout = timeout
        self.cancel = cancel
        self.began = monotonic()
        self.deadline = Deadline(None if timeout is None else self.began + timeout)
        self.report = ConnectionReport(target.host.text, target.port)
        self.attempts: dict[int, _Attempt] = {}
        self.won: _Attempt | None = None
        self.wakeup: Wakeup | None = None
        self.answers: deque[tuple[int, LookupRecord, Answer]] = deque()
        self.lookups: list[tuple[Lookup, Callable[[Answer], None]]] = []
        self.local_addresses: dict[int, SocketAddress] = {}

    def run(self) -> Connected:
        if self.cancel is not None:
            self._news()
            self.cancel._attach(self._wake)
            self._check_cancel()
        families = self._bind_families()
        self.race: race.Race[SocketAddress] = race.Race(families, attempt_delay=self.target.attempt_delay)
        host = self.target.host
        if host.address is not None:
            family = families[0]
            address = SocketAddress(host.address, self.target.port)
            self._perform(self.race.addresses(family, [address], monotonic()))
        else:
            for family in families:
                self._look_up(host, family)
        while self.won is None:
            self._wait(self.race.wake_at)
            while self.answers and self.won is None:
                self._answered(*self.answers.popleft())
            if self.won is None:
                self._perform(self.race.tick(monotonic()))
        return self._connected(self.won)

    def release(self) -> None:
        """Close every attempt but the winner's, and let go of the lookups. Nothing is left after that."""
        if self.report.elapsed is None:
            self.report.elapsed = self._now()
        for number in list(self.attempts):
            self._close(number, "timed out" if self.deadline.passed else "cancelled")
        while self.lookups:
            lookup, done = self.lookups.pop()
            lookup.abandon(done)
        if self.cancel is not None and self.wakeup is not None:
            self.cancel._detach(self._wake)
        if self.wakeup is not None:
            self.wakeup.close()

    def _bind_families(self) -> tuple[int, ...]:
        """The families to race, after the local address has had its say."""
        families, local = self.target.families, self.target.local
        if local is None:
            return families
        if local.address is not None:
            self.local_addresses = {family: SocketAddress(local.address, 0) for family in families}
            return families
        for family in families:
            self._look_up(local, family)
        failures: list[Exception] = []
        for _ in families:
            while not self.answers:
                self._wait(None)
            family, record, answer = self.answers.popleft()
            self._record(record, answer)
            if isinstance(answer, Exception):
                failures.append(answer)
            elif answer:
                self.local_addresses[family] = answer[0]
        if not self.local_addresses:
            raise local_address_failure(self.report, local.text, failures)
        return tuple(family for family in families if family in self.local_addresses)

    # Lookups

    def _look_up(self, host: Host, family: int) -> None:
        assert host.name is not None
        wakeup, answers = self._news(), self.answers  # not self: a cycle would outlive the call
        record = LookupRecord(host.name, "IPv6" if family == socket.AF_INET6 else "IPv4", self._now())
        self.report.lookups.append(record)

        def done(answer: Answer) -> None:
            answers.append((family, record, answer))
            wakeup.set()

        try:
            lookup = start_lookup(host.name + "." * host.rooted, family, done)
        except RuntimeError as error:
            message = f"no thread to look up {host.text!r} in: {error}"
            raise SocketCreateError(message, operation="lookup", address=host.text, report=self.report) from error
        self.lookups.append((lookup, done))

    def _answered(self, family: int, record: LookupRecord, answer: Answer) -> None:
        self._record(record, answer)
        now = monotonic()
        if isinstance(answer, Exception):
            self._perform(self.race.lookup_failed(family, answer, now))
            return
        addresses = [SocketAddress(address.host, self.target.port) for address in answer]
        ranks = self._ranks(addresses) if len(self.target.families) > 1 else None
        self._perform(self.race.addresses(family, addresses, now, ranks))

    def _record(self, record: LookupRecord, answer: Answer) -> None:
        record.ended = self._now()
        if isinstance(answer, Exception):
            record.error = answer
        else:
            record.addresses = tuple(address.host for address in answer)

    def _ranks(self, addresses: list[SocketAddress]) -> list[Rank] | None:
        """One rank for a whole family: inside it the resolver has sorted already, by the system's own policy."""
        if not addresses:
            return None
        local = self.local_addresses.get(addresses[0].family)
        source = local.host if local is not None else _source_address(addresses[0])
        return [rank(addresses[0].host, source)] * len(addresses)

    # Attempts

    def _perform(self, actions: Iterable[race.Action[SocketAddress]]) -> None:
        self.report.ignored = self.race.ignored
        todo = deque(actions)
        while todo:
            action = todo.popleft()
            if isinstance(action, race.Start):
                todo.extend(self._start(action.attempt, action.address))
            elif isinstance(action, race.Cancel):
                self._close(action.attempt, "cancelled")
            elif isinstance(action, race.Won):
                self.won = self.attempts[action.attempt]
                self._end(self.won.record, "connected")
            else:
                self.report.elapsed = self._now()
                raise connect_failure(self.report, action.errors)

    def _start(self, number: int, address: SocketAddress) -> list[race.Action[SocketAddress]]:
        record = AttemptRecord(address, self._now())
        self.report.attempts.append(record)
        try:
            sock = socket.socket(address.family, socket.SOCK_STREAM)
            self.attempts[number] = _Attempt(sock, record)
            local = self.local_addresses.get(address.family)
            prepare(sock, self.target, local and local.host)
            sock.setblocking(False)
            record.reached_connect = True
            status = sock.connect_ex(address.sockaddr())
        except Exception as error:  # noqa: BLE001 - the caller's callback may raise anything
            return self._failed(number, record, error)
        if is_under_way(status):
            return []
        return self._settled(number, status)

    def _settled(self, number: int, status: int) -> list[race.Action[SocketAddress]]:
        attempt = self.attempts[number]
        status = status or second_look(attempt.sock)
        if status:
            return self._failed(number, attempt.record, OSError(status, os.strerror(status)))
        return self.race.connected(number, monotonic())

    def _failed(self, number: int, record: AttemptRecord, error: Exception) -> list[race.Action[SocketAddress]]:
        record.error = error.with_traceback(None)
        self._close(number, "failed")
        self._end(record, "failed")
        return self.race.failed(number, error, monotonic())

    def _close(self, number: int, outcome: Outcome) -> None:
        attempt = self.attempts.pop(number, None)
        if attempt is not None:
            attempt.sock.close()
            self._end(attempt.record, outcome)

    def _end(self, record: AttemptRecord, outcome: Outcome) -> None:
        record.ended = self._now()
        record.outcome = outcome

    def _connected(self, won: _Attempt) -> Connected:
        self.report.elapsed = self._now()
        local = SocketAddress.from_sockaddr(won.sock.getsockname())
        self.attempts.clear()  # the losers are closed, and the winner is the caller's from here on
        return Connected(won.sock, local, won.record.address, self.report)

    # Waiting

    def _wait(self, wake_at: float | None) -> None:
        """Until something has happened, ``wake_at`` has come, or the time is over (which raises)."""
        self._check_cancel()
        limit = self.deadline.limit(None if wake_at is None else max(0.0, wake_at - monotonic()))
        filenos = [attempt.sock.fileno() for attempt in self.attempts.values()]
        reads = [self.wakeup.fileno()] if self.wakeup is not None else []
        ready = wait_for_sockets(reads, filenos, limit)
        if not ready and self.deadline.passed:
            self.report.elapsed = self._now()
            for number in list(self.attempts):
                self._close(number, "timed out")
            raise connect_timeout(self.report, self.timeout)
        if self.wakeup is not None and self.wakeup.fileno() in ready:
            self.wakeup.clear()
        news = [
            (attempt.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), number)
            for number, attempt in self.attempts.items()
            if attempt.sock.fileno() in ready
        ]
        for status, number in sorted(news):  # success first, then the earlier attempt
            if self.won is None:
                self._perform(self._settled(number, status))

    def _check_cancel(self) -> None:
        if self.cancel is not None and self.cancel.is_set():
            raise StreamClosed(
                f"connecting to {self.report.host} port {self.report.port} was cancelled",
                operation="connect",
                address=self.report.host,
                report=self.report,
            )

    def _news(self) -> Wakeup:
        """The wakeup, made when there can be news from another thread."""
        if self.wakeup is None:
            try:
                self.wakeup = Wakeup()
            except OSError as error:
                raise connect_failure(self.report, (error,)) from error
        return self.wakeup

    def _wake(self) -> None:
        if self.wakeup is not None:
            self.wakeup.set()

    def _now(self) -> float:
        return monotonic() - self.began


def _source_address(address: SocketAddress) -> str | None:
    """The address the system would send from; None when it has no route. Connecting UDP sends nothing."""
    try:
        with socket.socket(address.family, socket.SOCK_DGRAM) as sock:
            sock.connect(address._replace(port=address.port or 9).sockaddr())
            return str(sock.getsockname()[0])
    except OSError:
        return None
