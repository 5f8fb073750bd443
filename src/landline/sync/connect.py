"""One connection: the race of engine/race.py driven with real sockets, the real clock and one deadline.

Everything happens in the caller's thread but the lookups. The thread sleeps in one poll on all attempts and,
where there can be news from other threads (answers, Cancel), on one wakeup descriptor; a numeric host
needs neither. Whatever ends the opening, KeyboardInterrupt included, leaves through one ``finally`` that
closes every socket but the winner's.

Left out on purpose: a cache of what won last (RFC 8305 section 4 allows it; a stale one is a bug that nobody
finds), and a connect timeout per attempt (the system has one; a shorter one would kill slow paths that work).
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import NamedTuple, TypeAlias

from ..address import Host, SocketAddress
from ..deadline import Deadline
from ..engine import race
from ..engine.destination import Rank, rank
from ..errors import SocketCreateError, StreamClosed
from ..options import SocketOptions
from ..report import AttemptRecord, ConnectionReport, LookupRecord, Outcome
from .cancel import Cancel
from .failures import connect_failure, connect_timeout
from .resolve import Answer, Lookup, start_lookup
from .wait import Wakeup, wait_for_sockets

__all__ = ["Connected", "Target", "connect"]

SocketCallback: TypeAlias = Callable[[socket.socket], object]


class Target(NamedTuple):
    """What to connect to, and how: all of it checked already.

    Attributes:
        families: the families allowed, the preferred one first.
        local: the local host to bind to, or None; a name is looked up within the deadline.
        local_port: the local port; 0 lets the system choose.
    """

    host: Host
    port: int
    families: tuple[int, ...]
    local: Host | None
    local_port: int
    options: SocketOptions
    callback: SocketCallback | None
    attempt_delay: float


class Connected(NamedTuple):
    """A connected socket, non-blocking still, and how it came about."""

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
    opening = _Opening(target, timeout, cancel)
    try:
        return opening.run()
    finally:
        opening.release()


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
        for lookup, done in self.lookups:
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
            raise SocketCreateError(
                f"the local address {local.text!r} was not found: {failures[0] if failures else 'no addresses'}",
                operation="lookup",
                address=local.text,
                report=self.report,
            )
        return tuple(family for family in families if family in self.local_addresses)

    # Lookups

    def _look_up(self, host: Host, family: int) -> None:
        assert host.name is not None
        record = LookupRecord(host.name, "IPv6" if family == socket.AF_INET6 else "IPv4", self._now())
        self.report.lookups.append(record)
        wakeup = self._news()

        def done(answer: Answer) -> None:
            self.answers.append((family, record, answer))
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
        self.report.ignored = self.race.ignored

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
        todo = deque(actions)
        while todo:
            action = todo.popleft()
            if isinstance(action, race.Start):
                todo.extend(self._start(action.attempt, action.address))
            elif isinstance(action, race.Cancel):
                self._close(action.attempt, "cancelled")
            elif isinstance(action, race.Won):
                self.won = self.attempts.pop(action.attempt)
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
            self._prepare(sock, address.family)
            record.reached_connect = True
            status = sock.connect_ex(address.sockaddr())
        except Exception as error:  # noqa: BLE001 - the caller's callback may raise anything
            return self._failed(number, record, error)
        if status in _UNDER_WAY:
            return []
        return self._settled(number, status)

    def _prepare(self, sock: socket.socket, family: int) -> None:
        self.target.options.apply(sock)
        if self.target.callback is not None:
            self.target.callback(sock)
        local = self.local_addresses.get(family)
        if local is not None or self.target.local_port:
            _bind(sock, family, local, self.target.local_port)
        sock.setblocking(False)

    def _settled(self, number: int, status: int) -> list[race.Action[SocketAddress]]:
        attempt = self.attempts[number]
        if status == 0 and _connected_to_itself(attempt.sock):
            # Both ends got the same free port: nobody listens there, and the port would now be taken.
            status = errno.ECONNREFUSED
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
        return Connected(won.sock, local, won.record.address, self.report)

    # Waiting

    def _wait(self, wake_at: float | None) -> None:
        """Until something has happened, ``wake_at`` has come, or the time is over (which raises)."""
        if self.cancel is not None and self.cancel.is_set():
            raise StreamClosed(
                f"connecting to {self.report.host!r} was cancelled",
                operation="connect",
                address=self.report.host,
                report=self.report,
            )
        limit = self.deadline.limit(None if wake_at is None else max(0.0, wake_at - monotonic()))
        filenos = {attempt.sock.fileno(): number for number, attempt in self.attempts.items()}
        reads = [self.wakeup.fileno()] if self.wakeup is not None else []
        ready = wait_for_sockets(reads, filenos, limit)
        if not ready and self.deadline.passed:
            self.report.elapsed = self._now()
            for number in list(self.attempts):
                self._close(number, "timed out")
            raise connect_timeout(self.report, self.timeout)
        if self.wakeup is not None and self.wakeup.fileno() in ready:
            self.wakeup.clear()
        for fileno in ready.intersection(filenos):
            attempt = self.attempts.get(filenos[fileno])
            if attempt is not None and self.won is None:
                status = attempt.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                self._perform(self._settled(filenos[fileno], status))

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


_UNDER_WAY = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR, getattr(errno, "WSAEWOULDBLOCK", errno.EINPROGRESS))


def _bind(sock: socket.socket, family: int, local: SocketAddress | None, port: int) -> None:
    if port:
        # Several attempts may be under way from the one port, and an old connection may linger on it.
        # Windows means something dangerous by the same name.
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    elif hasattr(socket, "IP_BIND_ADDRESS_NO_PORT"):
        # The port is chosen at connect(), when the peer is known: one local address is then not limited to
        # as many connections as it has ports.
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
    anywhere = "::" if family == socket.AF_INET6 else "0.0.0.0"
    sock.bind(SocketAddress(local.host if local is not None else anywhere, port).sockaddr())


def _source_address(address: SocketAddress) -> str | None:
    """The address the system would send from; None when it has no route. Connecting UDP sends nothing."""
    try:
        with socket.socket(address.family, socket.SOCK_DGRAM) as sock:
            sock.connect(address._replace(port=address.port or 9).sockaddr())
            return str(sock.getsockname()[0])
    except OSError:
        return None


def _connected_to_itself(sock: socket.socket) -> bool:
    return bool(sock.getsockname()[:2] == sock.getpeername()[:2])
