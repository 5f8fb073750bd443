"""The conditions of an open stream: what happened, to whom, and what still holds, in one sentence."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from ..engine.session_failure import NotYet
from ..errors import ReadTimeout, SocketError, SocketIOError, StreamClosed, WriteTimeout, with_kin

if TYPE_CHECKING:
    from .flow import Flow

__all__ = ["bare", "io_failed", "passes", "read_timed_out", "stream_closed", "write_timed_out"]

_LACKING = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
"""What this machine lacks for the moment: no failure of the connection."""


def read_timed_out(channel: Flow, limit: float | None) -> ReadTimeout:
    """Nothing came within ``limit`` seconds, or before a deadline."""
    return ReadTimeout(
        f"nothing came from {_peer(channel)} {_which_limit(channel, 'read_timeout', limit)}; "
        "nothing was consumed, and the same call goes on from here",
        **_facts(channel, "receive"),
    )


def write_timed_out(channel: Flow, closing: float | None = None) -> WriteTimeout:
    """The peer took nothing in time: within write_timeout, or when ``closing`` also within so many seconds."""
    if closing is None:
        limit = _which_limit(channel, "write_timeout", channel.write_timeout)
        rest = "kept, and flush() goes on from here"
    else:
        limit = f"in the time that close() has for it ({closing:g} s or write_timeout)"
        rest = "dropped"
    accepted, sent = channel.counts()
    return WriteTimeout(
        f"{_peer(channel)} took no data {limit}; {accepted - sent} of {accepted} bytes are {rest}",
        accepted=accepted,
        sent=sent,
        **_facts(channel, "send"),
    )


def stream_closed(channel: Flow, why: str | None) -> StreamClosed:
    """This side has ended the stream, or the direction asked for."""
    condition = StreamClosed(why or "the output side was shut down on this side", **_facts(channel, "closed"))
    condition.accepted, condition.sent = channel.counts()
    return condition


def io_failed(channel: Flow, operation: str, doing: str, error: OSError) -> SocketError:
    """The connection has failed with ``error``; the condition is of its kind too."""
    if channel.secure and error.errno not in _LACKING:
        from .tls_conditions import connection_failed

        return connection_failed(error, doing, **_facts(channel, operation))
    condition = with_kin(SocketIOError, error)(
        f"{doing} {_peer(channel)} failed: {error.strerror or error}",
        errno=error.errno,
        **_facts(channel, operation),
    )
    condition.__cause__ = error
    return condition


def passes(error: OSError) -> bool:
    """Whether the connection may be as good as before."""
    return error.errno in _LACKING or isinstance(error, NotYet)


def bare(error: OSError) -> OSError:
    """``error``, to be kept: without what it was raised in, whose frames hold whoever keeps it."""
    for each in (error, error.__cause__):
        if each is not None:
            each.__traceback__ = each.__context__ = None
    return error


def _peer(channel: Flow) -> str:
    return str(channel.peer_address) if channel.peer_address else "the peer"


def _facts(channel: Flow, operation: str) -> dict[str, Any]:
    return {"operation": operation, "address": channel.peer_address, "report": channel.report}


def _which_limit(channel: Flow, name: str, value: float | None) -> str:
    if channel.overdue():
        return "before the deadline"
    return f"within {name}={value:g} s" if value else "without waiting"
