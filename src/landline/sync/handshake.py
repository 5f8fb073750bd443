"""Beginning and ending TLS on a connection: the order in which what is checked when.

    plan       what the session is made from; wrong arguments and bad files surface before anything is opened
    begin()    the session, and the callbacks that configure it
    finish()   the handshake; the name, where OpenSSL has not checked it; the caller's verify_callback

Only then is the transport ``admitted``: before that, it refuses to carry one byte of payload. A handshake that ran
out of time can be gone on with; any other failure is final, and the peer has been told why where it can be.

Sources: LispWorks manual, attach-ssl, detach-ssl, socket-stream-handshake; RFC 8446 6.1.
"""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from ..address import HostSpec, SocketAddress, parse_host
from ..deadline import Deadline
from ..engine.session import Session
from ..errors import LimitOverrun, SocketError, SslError, SslVerificationFailure, StreamClosed
from ..report import HandshakeRecord
from ..tls.choosing import choice_failure
from ..tls.plan import TlsPlan, client_plan, is_for_servers, server_plan
from .conditions import io_failed, read_timed_out, stream_closed
from .tls_conditions import callback_refused, handshake_failed, handshake_timed_out, name_refused
from .tls_transport import TlsTransport
from .transport import Carrier

if TYPE_CHECKING:
    from .cancel import Cancel
    from .channel import Channel

__all__ = ["Limit", "begin", "finish", "go_on", "open_with_tls", "start", "stop", "upgrade_plan"]

MOST_KEPT = 1 << 24
"""Bytes that stop() keeps of what comes before the peer's close_notify: more should be read by whoever wants it."""

PIECE = 65536


class Limit:
    """When a handshake is over time, and how to say so.

    Args:
        until: when it must be done.
        idle: seconds without anything received, the limit where there is no other one.
        name: of what bounds it.
    """

    def __init__(self, until: Deadline, idle: float | None, name: str) -> None:
        self.until = until
        self.idle = idle
        self.name = name

    @classmethod
    def of(
        cls, handshake_timeout: float | None, timeout: float | None, rest: Deadline, read_timeout: float | None
    ) -> Limit:
        """handshake_timeout, else the ``rest`` of ``timeout``, else read_timeout."""
        if handshake_timeout is not None:
            return cls(Deadline.after(handshake_timeout), None, f"within handshake_timeout={handshake_timeout:g} s")
        if rest.at is not None:
            return cls(rest, None, "before the deadline" if timeout is None else f"within timeout={timeout:g} s")
        return cls(rest, read_timeout, "" if read_timeout is None else f"within read_timeout={read_timeout:g} s")


def begin(plain: Carrier, plan: TlsPlan, peer: SocketAddress | None) -> TlsTransport:
    """A session over ``plain``, configured by its callbacks. Raises what these raise."""
    session = Session(
        plan.context,
        server_side=plan.server_side,
        server_hostname=plan.server_hostname,
        session=None if peer is None else plan.session_for(peer),
    )
    plan.configure(session.ssl_object)
    return TlsTransport(plain, session, plan)


def finish(transport: TlsTransport, limit: Limit, stream: object, facts: dict[str, Any], peer: Any) -> bool:
    """The handshake and all that is checked after it; False when the transport was woken.

    Args:
        stream: for the caller's verify_callback.
        facts: operation, address and report of conditions.
        peer: the address under which the session may be resumed, or None.

    Raises:
        SslCondition: by what has happened.
        Exception: what a callback raised.
    """
    session, plan = transport.session, transport.plan
    try:
        done = transport.handshake(limit.until, limit.idle)
    except OSError as error:
        _raise_choice_failure(choice_failure(session.ssl_object), facts)
        raise handshake_failed(error, transport, facts)  # noqa: B904 (it brings its cause)
    if not done:
        if transport.woken:
            return False
        raise handshake_timed_out(limit.name, facts)
    try:
        plan.check_peer(session.ssl_object, facts["address"])
    except SslVerificationFailure as refusal:
        refusal.report = facts["report"]
        transport.refuse(str(refusal))
        raise
    transport.admitted = True
    if plan.verify_callback is not None:
        try:
            if not plan.verify_callback(stream):
                raise callback_refused(facts)
        except BaseException as refusal:
            transport.admitted = False
            transport.refuse(str(refusal))
            raise
    if peer is not None and plan.sessions is not None:
        if session.ssl_object.version() == "TLSv1.3":
            transport.resumable_at = peer
        else:
            plan.remember(peer, session.resumable())
    return True


def upgrade_plan(
    channel: Channel, ssl_ctx: Any, host: HostSpec | None, ssl_side: str | None, **arguments: Any
) -> TlsPlan:
    """The plan for TLS on a live stream. Raises as client_plan() and server_plan() do."""
    if channel.secure:
        raise ValueError("TLS is active on this stream already")
    if ssl_side not in (None, "client", "server"):
        raise ValueError(f"ssl_side={ssl_side!r} is not allowed: it must be 'client', 'server' or None")
    if ssl_side == "server" or (ssl_side is None and is_for_servers(ssl_ctx)):
        del arguments["tlsext_host_name"]
        plan = server_plan(ssl_ctx, **arguments)
    else:
        if host is None:
            asked, peer = channel.report, channel.peer_address
            host = asked.host if asked is not None else peer.host if peer is not None else None
        if host is None:
            raise ValueError("host=None is not allowed: nothing tells whom the certificate must be for")
        plan = client_plan(ssl_ctx, parse_host(host), **arguments)
    if plan is None:
        raise ValueError(f"ssl_ctx={ssl_ctx!r} is not allowed: TLS needs a context")
    return plan


def open_with_tls(
    channel: Channel, transport: TlsTransport, stream: object, limit: Limit, cancel: Cancel | None
) -> None:
    """The handshake of a stream that is being opened; ``cancel`` ends it from another thread."""
    report = channel.report
    assert report is not None
    began = monotonic()
    record = report.handshake = HandshakeRecord(report.elapsed or 0.0)
    try:
        _shake_hands(channel, transport, stream, limit, cancel)
    except BaseException as error:
        # Not the exception itself: with its traceback and its report it would be part of a cycle.
        record.error = Exception(_told(error))
        raise
    finally:
        report.elapsed = record.ended = record.started + monotonic() - began
        if transport.session.established:
            record.version = transport.session.ssl_object.version()
    channel.replace_transport(transport)


def _shake_hands(
    channel: Channel, transport: TlsTransport, stream: object, limit: Limit, cancel: Cancel | None
) -> None:
    if cancel is None:
        finish(transport, limit, stream, _facts(channel), channel.peer_address)
        return
    wake = partial(transport.wake, True, True)
    cancel._attach(wake)
    try:
        if not cancel.is_set():
            finish(transport, limit, stream, _facts(channel), channel.peer_address)
    finally:
        cancel._detach(wake)
    if cancel.is_set():  # at whatever moment: what was woken once is of no use any more
        raise StreamClosed(f"the opening of a connection to {channel.peer_address} was cancelled", **_facts(channel))


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, SocketError) else f"{type(error).__name__}: {error}"


def start(
    channel: Channel, stream: object, plan: TlsPlan, handshake_timeout: float | None, leftover: str, held: int
) -> None:
    """TLS on a live stream. ``held``: characters that were decoded and not read."""
    if channel.direction != "input":
        channel.check_writable()
    with channel.alone("TLS cannot be started now"):
        channel.check_input_open()
        if channel.direction != "input":
            channel.flush()
        waiting = len(channel.received) + held
        if waiting and (held or leftover == "refuse"):
            raise SslError(
                f"plaintext before TLS: {waiting} bytes from {channel.peer_address or 'the peer'} were received and "
                "not read; they may have been injected, so TLS was not started (read them first, if they belong here)",
                ssl_code="leftover",
                **_facts(channel),
            )
        transport = begin(cast(Carrier, channel.transport), plan, channel.peer_address)
        if waiting:
            transport.feed(channel.received.take_all())
            channel.bytes_received -= waiting
        channel.replace_transport(transport)
        channel.check_open()  # after it was replaced: who closes looks at it after closing
        channel.check_input_open()
        _finish(channel, transport, stream, handshake_timeout)


def go_on(channel: Channel, stream: object, handshake_timeout: float | None) -> None:
    """Go on with a handshake that was not done in time."""
    channel.check_open()
    transport = channel.transport
    if not isinstance(transport, TlsTransport):
        raise ValueError("TLS is not active on this stream: start_tls() first")
    if not transport.admitted:
        with channel.alone("the handshake cannot go on now"):
            _finish(channel, transport, stream, handshake_timeout)


def stop(channel: Channel) -> None:
    """End TLS on both sides, and go on in the clear. What a timeout interrupts goes on with the next call."""
    channel.check_open()
    transport = channel.transport
    if not isinstance(transport, TlsTransport):
        return
    with channel.alone("TLS cannot be stopped now"):
        if not transport.admitted:
            try:
                transport.refuse_payload()
            except OSError as error:
                raise io_failed(channel, "send", "stopping TLS with", error) from error
        channel.shutdown_output(abort=False)
        while (data := _receive(channel, transport)) != b"":
            channel.received.feed(data)
            channel.bytes_received += len(data)
            if len(channel.received) > MOST_KEPT:
                raise LimitOverrun(
                    f"the peer sends on: {len(channel.received)} bytes wait to be read before TLS can end; nothing was "
                    "lost (read them, and stop again)",
                    limit=MOST_KEPT,
                    **_facts(channel),
                )
        plain, behind = transport.reclaim()
        channel.replace_transport(plain, afresh=True)
        channel.check_open()
        if behind:
            channel.received.feed(behind)
            channel.bytes_received += len(behind)


def _raise_choice_failure(error: BaseException | None, facts: dict[str, Any]) -> None:
    """Raise what a server's sni_callback has raised, if it has; a name that it does not know is the client's fault."""
    try:
        if isinstance(error, LookupError):
            raise name_refused(str(error), facts) from error
        if error is not None:
            raise error
    finally:
        del error  # or its traceback would hold it


def _finish(channel: Channel, transport: TlsTransport, stream: object, handshake_timeout: float | None) -> None:
    rest = Deadline.after(channel.limit(None))
    limit = Limit.of(handshake_timeout, None, rest, channel.read_timeout)
    if limit.until.sooner(rest) is not limit.until:
        limit = Limit(rest, None, "before the deadline")
    if not finish(transport, limit, stream, _facts(channel), channel.peer_address):
        channel.check_open()
        raise stream_closed(channel, "a direction was shut down while TLS was being started")
    channel.check_open()
    channel.replace_transport(transport)


def _receive(channel: Channel, transport: TlsTransport) -> bytes:
    try:
        data = transport.receive(PIECE, channel.limit(channel.read_timeout))
    except OSError as error:
        raise io_failed(channel, "receive", "receiving from", error) from error
    if data is None:
        raise read_timed_out(channel, channel.read_timeout)
    if not data and not transport.session.input_closed:
        channel.check_open()
        channel.check_input_open()
    return data


def _facts(channel: Channel) -> dict[str, Any]:
    return {"operation": "handshake", "address": channel.peer_address, "report": channel.report}
