"""One probe: connect, upgrade and shake hands as a program would, and keep what was found.

The connection is opened without TLS and then upgraded, whether or not the protocol has a STARTTLS: so an address
of many can be tried alone and its certificate still be checked against the name, and each part has its own
time. The handshake is always a full one (a resumed one shows no certificates, and has nothing verified).

Nothing is sent but what a client sends to get as far; the connection is closed at once.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from ... import SocketCreateError, SocketError, SocketStream, open_tcp_stream
from ...address import Host, parse_host
from ...deadline import Deadline
from ...report import AttemptRecord, ConnectionReport, LookupRecord
from ...sync.failures import connect_failure, connect_timeout
from ...sync.resolve import Answer, start_lookup
from ...tls.abstract import SslAbstractContext, create_ssl_client_context
from ...tls.certificate import Certificate, read_certificate
from ...tls.names import NOT_GIVEN
from ...tls.plan import client_plan
from .facts import LONGEST_MESSAGE, Agreed, Failure, Measured, Phase, Step, Wanted, clean
from .tcp import tcp_facts

if TYPE_CHECKING:
    import ssl

__all__ = ["Trust", "measure", "measure_all_addresses"]

MOST_CERTIFICATES = 12
"""Of a chain that are kept: OpenSSL's own limit is 100, real chains have five at most."""


class Trust:
    """Who is trusted, for any number of probes.

    Raises:
        TypeError, ValueError: ``alpn`` or ``ca`` is not allowed.
    """

    def __init__(self, ca: str | None = None, alpn: tuple[str, ...] = ()) -> None:
        self.context = create_ssl_client_context(openssl_trusted_file=ca, alpn=alpn)

    def prepared(self, wanted: Wanted) -> SslAbstractContext:
        """The context, built now and not in the middle of what is timed, and without sessions to resume.

        For the same reason what TLS needs is imported here.

        Raises:
            SocketCreateError: the file of authorities cannot be used.
        """
        from ...sync import handshake  # noqa: F401
        from .. import starttls  # noqa: F401

        self.context.reset()
        client_plan(self.context, parse_host(wanted.host), tlsext_host_name=wanted.sni or NOT_GIVEN)
        return self.context


def measure(wanted: Wanted, trust: Trust) -> Measured:
    """Probe ``wanted``, its addresses raced as open_tcp_stream() does it.

    Raises:
        TypeError, ValueError: something in ``wanted`` is not allowed.
        KeyboardInterrupt: with nothing left open.
    """
    return _Probe(wanted, trust).run(wanted.host)


def measure_all_addresses(wanted: Wanted, trust: Trust) -> list[tuple[str | None, Callable[[], Measured]]]:
    """Look ``wanted`` up; its addresses, and what probes each of them alone. The time limit holds for each anew.

    One result, without address, where the lookup has failed. Raises as measure() does.
    """
    host = parse_host(wanted.host)
    if host.address is not None:
        return [(host.address, lambda: _Probe(wanted, trust, host.address).run(wanted.host))]
    at = datetime.now(UTC)
    report, addresses = _look_up(host, wanted)
    steps = [_lookup_step(record, over=record.ended is None) for record in report.lookups]
    if not addresses:
        errors = [record.error for record in report.lookups if record.error is not None]
        silent = any(record.ended is None for record in report.lookups)
        condition = connect_timeout(report, wanted.timeout) if silent else connect_failure(report, errors)
        failed = Measured(wanted, at, tuple(steps), report.elapsed or 0.0, failure=_failure(condition, "lookup"))
        return [(None, lambda: failed)]

    def probing(address: str) -> tuple[str, Callable[[], Measured]]:
        return address, lambda: _Probe(wanted, trust, address, steps, report.elapsed or 0.0).run(address)

    return [probing(address) for address in addresses]


class _Probe:
    """The state of one probe.

    Args:
        address: the only one to try, or None.
        before: steps that were done for it already, which took ``offset`` seconds.
    """

    def __init__(
        self,
        wanted: Wanted,
        trust: Trust,
        address: str | None = None,
        before: list[Step] | None = None,
        offset: float = 0.0,
    ) -> None:
        self.wanted = wanted
        self.trust = trust
        self.address = address
        self.offset = offset
        self.steps = list(before or ())
        self.found: dict[str, Any] = {}
        self.failure: Failure | None = None

    def run(self, host: str) -> Measured:
        wanted, context = self.wanted, None
        at = datetime.now(UTC)
        self.began = monotonic()
        if wanted.tls:
            try:
                context = self.trust.prepared(wanted)
            except SocketError as condition:
                self.failure = _failure(condition, "local")
        self.began = monotonic()
        self.until = Deadline.after(wanted.timeout)
        if self.failure is None:
            self._connect(host, context)
        elapsed = self.found.pop("elapsed", None) or self._now()
        return Measured(
            wanted, at, tuple(self.steps), elapsed, address=self.address, failure=self.failure, **self.found
        )

    def _connect(self, host: str, context: SslAbstractContext | None) -> None:
        wanted = self.wanted
        try:
            stream = open_tcp_stream(host, wanted.port, timeout=wanted.timeout, ipv6=wanted.ipv6)
        except SocketError as condition:
            if condition.report is not None:
                self._take(condition.report, over=isinstance(condition, TimeoutError))
            local = isinstance(condition, SocketCreateError)
            lookups_only = not any(step.kind == "connect" for step in self.steps)
            self.failure = _failure(condition, "local" if local else "lookup" if lookups_only else "connect")
            return
        try:
            assert stream.report is not None
            self._take(stream.report)
            self.found["elapsed"] = self.steps[-1].ended
            self.found.update(local=stream.local_address, peer=stream.peer_address, tcp=tcp_facts(stream.fileno()))
            if context is not None:
                self._secure(stream, context)
            stream.close()
        except OSError:  # the peer was faster: what there was to find has been found
            pass
        finally:
            stream.abort()

    def _secure(self, stream: SocketStream, context: SslAbstractContext) -> None:
        if self.wanted.starttls is not None:
            from ..starttls import dialogue

            protocol = self.wanted.starttls
            with suppress(_Stopped), self._step("starttls", protocol):
                dialogue(protocol, stream, self.wanted.host, self.until.limit())
            if self.failure is not None:
                return
        held: list[ssl.SSLObject] = []
        with suppress(_Stopped), self._step("tls", "handshake"), stream.deadline(self.until.limit()):
            stream.start_tls(
                context,
                host=self.wanted.host,
                tlsext_host_name=self.wanted.sni or NOT_GIVEN,
                ssl_configure_callback=held.append,
            )
        info = stream.tls
        chain: tuple[bytes, ...] = ()
        if info is not None and self.failure is None:
            chain = info.chain
            self.found["agreed"] = Agreed(
                info.version, info.cipher, info.cipher_bits, info.alpn, info.sni, info.checked_name
            )
            latest = tcp_facts(stream.fileno())
            if latest.round_trip is not None:
                self.found["tcp"] = latest
        elif held:
            from ...engine.session import chain_of

            chain = chain_of(held[0], "get_unverified_chain")
        read = [_read_or_none(der) for der in chain[:MOST_CERTIFICATES]]
        self.found["certificates"] = tuple(one for one in read if one is not None)
        self.found["unread"] = read.count(None)

    def _step(self, kind: Any, what: str) -> _Timed:
        return _Timed(self, kind, what)

    def _take(self, report: ConnectionReport, over: bool = False) -> None:
        """The report's records as steps."""
        self.found["ignored"] = report.ignored
        steps = [_lookup_step(record, over) for record in report.lookups]
        steps += [_attempt_step(record) for record in report.attempts]
        self.steps += [_later(step, self.offset) for step in steps]

    def _now(self) -> float:
        return self.offset + monotonic() - self.began


class _Stopped(Exception):
    """A step has failed, and that is noted."""


class _Timed:
    """Notes a step of a probe, and the failure that ends it (which it turns into _Stopped)."""

    def __init__(self, probe: _Probe, kind: Any, what: str) -> None:
        self.probe, self.kind, self.what = probe, kind, what

    def __enter__(self) -> None:
        self.started = self.probe._now()

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is not None and not isinstance(error, SocketError):
            return
        failure = None if error is None else _failure(error, self.kind)
        outcome = "done" if failure is None else "timed out" if failure.timed_out else "failed"
        step = Step(self.kind, self.what, self.started, self.probe._now(), outcome)  # type: ignore[arg-type]
        if failure is not None:
            step = replace(step, error=failure.message, code=failure.code)
            self.probe.failure = failure
        self.probe.steps.append(step)
        self.probe.found["elapsed"] = step.ended
        if failure is not None:
            raise _Stopped from None


def _look_up(host: Host, wanted: Wanted) -> tuple[ConnectionReport, list[str]]:
    """Ask for all families at once; the addresses that came in time, IPv6 first."""
    assert host.name is not None
    families: list[int] = [socket.AF_INET6] if wanted.ipv6 else []
    families += [socket.AF_INET] if wanted.ipv6 is not True else []
    report = ConnectionReport(host.text, wanted.port)
    began, until = monotonic(), Deadline.after(wanted.timeout)
    news: SimpleQueue[tuple[int, Answer]] = SimpleQueue()
    records: dict[int, LookupRecord] = {}
    waiting = []
    found: dict[int, list[str]] = {}
    try:
        for family in families:
            records[family] = LookupRecord(host.name, "IPv6" if family == socket.AF_INET6 else "IPv4", 0.0)
            report.lookups.append(records[family])

            def done(answer: Answer, family: int = family) -> None:
                news.put((family, answer))

            waiting.append((start_lookup(host.name + "." * host.rooted, family, done), done))
        for _ in families:
            family, answer = news.get(timeout=until.limit())
            records[family].ended = monotonic() - began
            if isinstance(answer, Exception):
                records[family].error = answer
            else:
                records[family].addresses = tuple(address.host for address in answer)
                found[family] = [address.host for address in answer]
    except Empty:
        pass
    finally:
        for lookup, done in waiting:
            lookup.abandon(done)
    report.elapsed = monotonic() - began
    return report, [address for family in families for address in found.get(family, ())]


def _lookup_step(record: LookupRecord, over: bool = False) -> Step:
    error = record.error
    outcome: Any = "failed" if error is not None else "done" if record.ended is not None else "timed out"
    if record.ended is None and not over:
        outcome = "cancelled"  # the other family's addresses have won
    return Step(
        "lookup",
        record.family,
        record.started,
        record.ended,
        outcome,
        error=None if error is None else _reason(error),
        code=None if error is None else _code(error),
        addresses=record.addresses,
    )


def _attempt_step(record: AttemptRecord) -> Step:
    error = record.error
    outcome: Any = {"connected": "done", "under way": "cancelled"}.get(record.outcome, record.outcome)
    return Step(
        "connect",
        record.address.host,
        record.started,
        record.ended,
        outcome,
        error=None if error is None else _reason(error),
        code=None if error is None else _code(error),
    )


def _later(step: Step, offset: float) -> Step:
    ended = None if step.ended is None else step.ended + offset
    return replace(step, started=step.started + offset, ended=ended)


def _failure(condition: BaseException, phase: Phase) -> Failure:
    verify_code = getattr(condition, "verify_code", None)
    return Failure(
        phase,
        type(condition).__name__,
        clean(str(condition), LONGEST_MESSAGE),
        code=_code(condition),
        verify_code=verify_code,
        verify_message=clean(str(getattr(condition, "verify_message", ""))),
        timed_out=isinstance(condition, TimeoutError) or isinstance(condition.__cause__, TimeoutError),
    )


def _code(error: BaseException) -> str | None:
    """The system's name of an error, else OpenSSL's or the alert's."""
    number = getattr(error, "errno", None)
    if isinstance(error, socket.gaierror):
        names = (name for name in dir(socket) if name.startswith("EAI_") and getattr(socket, name) == number)
        return next(names, None)
    if isinstance(number, int) and number in errno.errorcode:
        return errno.errorcode[number]
    ssl_code = getattr(error, "ssl_code", None)
    return clean(ssl_code) if isinstance(ssl_code, str) else None


def _reason(error: BaseException) -> str:
    return clean(str(getattr(error, "strerror", None) or str(error) or type(error).__name__))


def _read_or_none(der: bytes) -> Certificate | None:
    try:
        return read_certificate(der)
    except ValueError:
        return None
