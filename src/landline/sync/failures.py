"""From a report to the condition that tells it: one sentence with every address and reason in it."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ConnectTimeout, HostLookupError, SocketConnectError, SocketCreateError, SocketError, with_kin
from ..report import AttemptRecord, ConnectionReport, milliseconds

__all__ = ["connect_failure", "connect_timeout", "local_address_failure"]

MOST_NAMED = 8
"""Attempts told one by one in a message; the report has them all."""


def connect_failure(report: ConnectionReport, errors: Sequence[Exception]) -> SocketError:
    """The condition for an opening in which everything has failed."""
    attempts = report.attempts
    if not attempts and report.lookups:
        return _lookup_failure(report, errors)
    failures = [attempt.error for attempt in attempts if attempt.error is not None] or list(errors)
    reached = any(attempt.reached_connect for attempt in attempts)
    condition = with_kin(SocketConnectError if reached else SocketCreateError, _common_class(failures))
    doing = "connect to" if reached else "make a socket for"
    error = condition(
        f"could not {doing} {report.host} port {report.port}: {_tried(report) or _reason(failures[0])}",
        operation="connect" if reached else "create",
        address=report.host,
        report=report,
        errno=_common_errno(failures),
    )
    error.__cause__ = failures[0] if len(failures) == 1 else ExceptionGroup("every attempt failed", failures)
    return error


def connect_timeout(report: ConnectionReport, timeout: float | None) -> ConnectTimeout:
    """The condition for an opening whose time is over."""
    unanswered = [lookup for lookup in report.lookups if lookup.ended is None]
    silent = [f"the {lookup.family} lookup of {lookup.name} has not answered" for lookup in unanswered]
    told = "; ".join(part for part in (", ".join(silent), _tried(report)) if part)
    return ConnectTimeout(
        f"could not connect to {report.host} port {report.port} within timeout={timeout:g} s" + (told and f": {told}"),
        operation="connect",
        address=report.host,
        report=report,
    )


def local_address_failure(report: ConnectionReport, local: str, errors: Sequence[Exception]) -> SocketCreateError:
    """The condition for a local address given as a name that has no address."""
    error = SocketCreateError(
        f"the local address {local} was not found: {_reason(errors[0]) if errors else 'the name has no addresses'}",
        operation="lookup",
        address=local,
        report=report,
    )
    error.__cause__ = errors[0] if errors else None
    return error


def _lookup_failure(report: ConnectionReport, errors: Sequence[Exception]) -> HostLookupError:
    # The local address may have been looked up too; that is not what failed.
    failed = [lookup for lookup in report.lookups if lookup.error is not None and lookup.error in errors]
    failures = [lookup.error for lookup in failed]
    reasons = [f"{lookup.family}: {_reason(lookup.error)}" for lookup in failed]
    error = HostLookupError(
        f"could not find {report.host}: {', '.join(reasons) or 'the name has no addresses'}",
        operation="lookup",
        address=report.host,
        report=report,
        errno=_common_errno(failures[:1]),
    )
    error.__cause__ = failures[0] if failures else None
    return error


def _tried(report: ConnectionReport) -> str:
    told = [_fate(attempt) for attempt in report.attempts[:MOST_NAMED]]
    more = len(report.attempts) - len(told)
    return ", ".join(told) + (f" and {more} more" if more else "")


def _fate(attempt: AttemptRecord) -> str:
    took = milliseconds((attempt.ended or attempt.started) - attempt.started)
    if attempt.error is None:
        return f"{attempt.address} had not answered after {took}"
    return f"{attempt.address} failed after {took} ({_reason(attempt.error)})"


def _reason(error: BaseException | None) -> str:
    return str(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _common_class(errors: Sequence[Exception]) -> type[BaseException] | None:
    classes = {type(error) for error in errors}
    return classes.pop() if len(classes) == 1 else None


def _common_errno(errors: Sequence[Exception | None]) -> int | None:
    numbers = {getattr(error, "errno", None) for error in errors}
    return numbers.pop() if len(numbers) == 1 else None
