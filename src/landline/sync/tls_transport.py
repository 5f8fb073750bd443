"""The TLS transport: a session in memory between a stream and the transport that carries its ciphertext.

Why it is a transport: nothing above the seam changes. What a caller sees as "receive" and "send" is here a loop
around a session (engine/session.py), which never waits, and a plain transport, which does.

Locks, all of them the stream's own (belongs_to()):

* Whoever receives holds ``_reading``, and whoever sends holds ``_writing``, with I/O and all. So what is received
  goes to the session in order, and what was sent is the sender's business alone.
* ``_lock`` is short, around every call of the session that may touch OpenSSL, and never around I/O.

A reader may have something to send: the answer to a key update, an alert. It never waits for that. If somebody is
sending, or the socket is full, the reader waits for both, to receive and to send, whatever comes first. So a
blocked writer never blocks a reader, nor the other way round.

Payload that a reader's answer has pushed out (it stands in the ciphertext before the answer) is taken off the front of
what the stream has to send.

Source: RFC 8446 (5.1 records, 4.6 messages after the handshake, 6.1 close_notify).
"""

from __future__ import annotations

import socket
from _thread import RLock
from collections.abc import Callable
from time import sleep
from typing import Any, NoReturn

from ..address import SocketAddress
from ..deadline import Deadline
from ..engine.send import SendBuffer
from ..engine.session import Facts, Session, SessionFailed
from ..engine.session_failure import NotYet
from ..tls.info import TlsInfo
from ..tls.plan import TlsPlan
from .conditions import bare, passes
from .transport import MOST_DISCARDED, Carrier
from .wait import raise_if_blocked

__all__ = ["TlsTransport"]

BULK = 1 << 18
"""Ciphertext asked for per receive while the peer sends much: one system call for sixteen full records."""

SMALL = 448
"""The same while it sends less than that at a time, as in sync/flow.py."""

FLIGHT = 1 << 14
"""The same in the handshake: a flight with its certificates fits."""

LINGER = 1.0
"""Seconds that a server waits for the end of a client that it has refused: the rest of a flight comes sooner."""

MEANWHILE = 0.001
"""Seconds between two looks of a writer that a renegotiation holds up: for what has come, and whether to give up."""


class TlsTransport:
    """A `Transport` over another one. The handshake() comes first.

    Attributes:
        plan: what the session was made from.
        session: for facts and callbacks; whoever else calls it does so between handshake() and the first stream.
        admitted: the peer was checked, and payload may pass; whoever sets it decides that.
        woken: a wait was ended by wake(), for reading or for writing.
        resumable_at: the peer under whose address the session is kept for resumption, by the read that first gives
            payload: tickets have come by then. None: no more.
    """

    secure = True

    __slots__ = (
        "_ask", "_broken", "_buffer", "_ended", "_handing", "_info", "_limit", "_lock", "_output_ended",
        "_plain", "_plain_receive", "_reading", "_unanswered", "_writing", "admitted", "plan", "resumable_at",
        "session", "woken",
    )  # fmt: skip

    def __init__(self, plain: Carrier, session: Session, plan: TlsPlan) -> None:
        self._plain = plain
        self.session = session
        self.plan = plan
        self.admitted = False
        self.resumable_at: SocketAddress | None = None
        self._limit: float | None = None
        self._plain_receive: Any = None  # until it is admitted
        self.belongs_to(RLock(), RLock(), RLock(), SendBuffer())
        self._handing = False  # a signal handler has interrupted whoever sends, in the same thread
        self._unanswered = False
        self._info: TlsInfo | None = None
        self._broken: OSError | None = None  # which the system tells once; for reads, where they did not hear it
        self._ask = SMALL
        self.woken = self._ended = self._output_ended = False

    # The handshake

    def handshake(self, until: Deadline, idle: float | None = None) -> bool:
        """Go on with the handshake until it is done; False when it was not in time, or when woken.

        Args:
            until: when it must be done.
            idle: seconds without anything received before it is given up, if that is sooner.

        Raises:
            SessionFailed, OSError.
        """
        if self._broken is not None:
            raise self._broken
        received = False
        while True:
            try:
                with self._lock:
                    done = self.session.handshake()
            except SessionFailed:
                self._answer()  # the alert that tells the peer why
                raise
            while self.session.has_outgoing:
                if not self._hand_over(until.limit()):
                    return False
            if done:
                return True
            if received and until.passed:
                return False
            try:
                data = self._plain.receive(FLIGHT, until.limit(idle))
            except OSError as error:
                if not passes(error):
                    self._broken = bare(error)
                raise
            if data is None or not self._feed(data):
                return False
            received = True

    def feed(self, data: bytes) -> None:
        """Ciphertext that somebody else has received, before the handshake."""
        with self._lock:
            self.session.feed(data)

    def refuse(self, text: str) -> None:
        """The peer is not the one that was wanted: no byte passes any more, and it is told so if that is possible."""
        try:
            with self._lock:
                self.session.refuse(text)
        except SessionFailed:
            self._answer()

    def refuse_payload(self, *_: object) -> NoReturn:
        """What every way to send or receive comes to before the transport is admitted. Raises why."""
        self.session.check()
        if self._broken is not None:
            raise self._broken
        raise NotYet

    @property
    def info(self) -> TlsInfo | None:
        """What the handshake agreed upon; None before."""
        if self._info is None and self.admitted:
            with self._lock:
                self._info = _info(self.session.facts(), self.plan)
        return self._info

    # Receiving

    def belongs_to(self, reading: Any, writing: Any, state: Any, sending: SendBuffer, /) -> None:
        self._reading, self._writing, self._lock, self._buffer = reading, writing, state, sending

    def limited(self, limit: float | None, /) -> tuple[Callable[[int], bytes], Callable[[memoryview], memoryview]]:
        if not self.admitted:
            return self.refuse_payload, self.refuse_payload
        self._limit = limit
        self._plain_receive = self._plain.limited(limit)[0]
        return self._receive_limited, self._receive_into_limited

    def _receive_limited(self, size: int) -> bytes:
        session = self.session
        try:
            data = None
            if not (session.dry and session.normal):
                with self._lock:
                    data = session.read(size)
            while data is None:
                if (self._unanswered or session.outgoing_bio.pending) and not self._answer():
                    return raise_if_blocked(self.receive(size, self._limit))
                received = self._plain_receive(self._ask)
                if received:
                    self._ask = BULK if len(received) >= SMALL else SMALL
                    with self._lock:
                        data = session.feed_and_read(received, size)
                elif self._at_end():
                    with self._lock:
                        data = session.read(size)
                else:
                    return b""
        except SessionFailed:
            self._answer()  # the alert that tells the peer why
            raise
        if self.resumable_at is not None:
            self._remember()
        return data

    def _receive_into_limited(self, memory: memoryview) -> memoryview:
        # Large by nature: the few calls more do not show.
        return raise_if_blocked(self.receive_into(memory, self._limit))

    def receive(self, size: int, limit: float | None, /) -> bytes | None:
        data: bytes | int | None = self._receive(self.session.read, size, limit)
        return b"" if data == 0 else data  # type: ignore[return-value]

    def receive_into(self, memory: memoryview, limit: float | None, /) -> memoryview | None:
        count = self._receive(self.session.read_into, memory, limit)
        return None if count is None else memory[:count]

    def ready(self) -> bool:
        while True:
            with self._lock:
                if not self.admitted or self.session.input_ready():
                    return True
            if self.has_answer():
                self._answer()
            try:
                data = self._plain.receive(BULK, 0)
            except OSError as error:
                self._broken = bare(error)
                return True
            if data is None:
                return False
            try:
                if not self._feed(data):
                    return True
            except OSError:
                return True

    # Sending

    def send(self, data: memoryview | bytes, limit: float | None, /) -> int | None:
        if self._handing:
            return 0
        if not self.admitted:
            self.refuse_payload()
        self._handing = True
        try:
            with self._lock:
                chunk = self.session.seal(data)
            if not chunk:
                until = Deadline.after(limit)
                while not chunk:
                    if not self._renegotiate(until):
                        return 0
                    with self._lock:
                        chunk = self.session.seal(data)
            count = self._plain.send(chunk, limit)
            return (self.session.sent(count) or None) if count else count
        except SessionFailed:
            self._handing = False
            self._answer()  # the alert that tells the peer why
            raise
        except OSError as error:
            self._send_failed(error)
            raise
        finally:
            self._handing = False

    # Both

    def wait(self, read: bool, write: bool, limit: float | None, /) -> bool:
        return self._plain.wait(read, write or (read and self.has_answer()), limit)

    def wake(self, read: bool, write: bool, /) -> None:
        self.woken = True
        self._ended |= read
        self._output_ended |= write
        self._plain.wake(read, write)

    def has_answer(self) -> bool:
        """The session itself has something to say, which is not handed over yet."""
        return bool(self._unanswered or self.session.outgoing_bio.pending)

    def fileno(self) -> int:
        return self._plain.fileno()

    def handle(self) -> socket.socket:
        return self._plain.handle()

    @property
    def under_way(self) -> int:
        return self.session.unsent

    # Ending

    def shutdown_input(self) -> None:
        self._plain.shutdown_input()

    def shutdown_output(self, limit: float | None, abort: bool, /) -> bool:
        # close_notify, and no FIN: the TCP connection stays, and the peer answers on it. Where it cannot be told, FIN
        # says that something is missing.
        until = Deadline.after(0 if abort else limit)
        while True:
            with self._lock:
                if self.session.close_output():
                    break
            if not self._hand_over(until.limit()) or not self._renegotiate(until):
                return False
        told = self._hand_over(0 if abort else limit)
        if abort and not told:
            self._plain.shutdown_output(0, True)
        return told

    def close(self, goodbye: float | None, /) -> None:
        try:
            if goodbye is not None and self.session.established:
                self.shutdown_output(goodbye, False)
        except OSError:
            pass  # the session or the connection is broken, and there is nobody to tell
        finally:
            try:
                if self.plan.server_side and not self.admitted and self.session.failed:
                    self._linger()
            finally:
                self._plain.close(goodbye)
                self._release()

    def abort(self) -> None:
        self._plain.abort()
        self._release()

    def detach(self) -> socket.socket:
        raise ValueError("TLS is active on this stream: stop_tls() first")

    def reclaim(self) -> tuple[Carrier, bytes]:
        """After both close_notify: the transport below, and what it has received behind TLS."""
        with self._lock:
            behind = self.session.leftover()
        self._release()
        return self._plain, behind

    # Behind it

    def _receive(self, read: Callable[[Any], Any], what: Any, limit: float | None) -> Any:
        """What ``read`` gives, 0 when woken, None when nothing came in time."""
        if not self.admitted:
            self.refuse_payload()
        until = Deadline.after(limit)
        fed = False
        while True:
            try:
                with self._lock:
                    data = read(what)
            except SessionFailed:
                self._answer()  # the alert that tells the peer why
                raise
            if data is not None:
                if self.resumable_at is not None:
                    self._remember()
                return data
            if fed and until.passed:
                return None
            wait = until.limit()
            if self.has_answer() and not self._answer():
                if not self._plain.wait(True, True, wait):
                    return None
                wait = 0
            received = self._plain.receive(self._ask, wait)
            if received is not None and not self._feed(received):
                return 0
            fed = received is not None
            if received is None and (limit == 0 or until.passed or wait != 0):
                return None

    def _release(self) -> None:
        """What TLS of another library than OpenSSL has of the system."""
        if (close := getattr(self.session.ssl_object, "close", None)) is not None:
            with self._lock:
                close()

    def _linger(self) -> None:
        """A client that was refused is to hear why: what it still sends must not be answered by a reset."""
        until = Deadline.after(LINGER)
        left = MOST_DISCARDED
        try:
            self._plain.shutdown_output(0, True)
            while left > 0 and (data := self._plain.receive(FLIGHT, until.limit())):
                left -= len(data)
        except OSError:
            pass  # it is gone

    def _feed(self, data: bytes) -> bool:
        """Ciphertext that was received, or the end of it; False when that is because of wake()."""
        if not data:
            return self._at_end()
        self._ask = BULK if len(data) >= SMALL else SMALL
        with self._lock:
            self.session.feed(data)
        return True

    def _at_end(self) -> bool:
        """Nothing more comes from below; False when that is because of wake()."""
        if self._ended:
            return False
        if self._broken is not None:
            raise self._broken
        with self._lock:
            self.session.feed_end()
        return True

    def _remember(self) -> None:
        peer, self.resumable_at = self.resumable_at, None
        if peer is not None:
            with self._lock:
                self.plan.remember(peer, self.session.resumable())

    def _send_failed(self, error: OSError) -> None:
        if not isinstance(error, BrokenPipeError) and not passes(error):  # EPIPE: the end is still to come
            self._broken = bare(error)

    def _answer(self) -> bool:
        """Hand over what the session itself has to say, without waiting; False when that has to be tried again."""
        if not self._writing.acquire(False):
            return False
        try:
            return self._handing or self._hand_over(0)
        except OSError:
            return True  # the next receive tells what is wrong with the connection
        finally:
            self._writing.release()

    def _hand_over(self, limit: float | None) -> bool:
        """Hand over all there is; False when the socket takes no more within ``limit``."""
        self._handing = True
        try:
            while True:
                with self._lock:
                    chunk = self.session.outgoing()
                if not chunk:
                    self._unanswered = False
                    return True
                count = self._plain.send(chunk, limit)
                if not count and self._output_ended:
                    count = self._plain.send_now(chunk)
                if not count:
                    self._unanswered = True
                    return False
                if moved := self.session.sent(count):
                    with self._lock:
                        self._buffer.advance(moved)
        except OSError as error:
            self._send_failed(error)
            raise
        finally:
            self._handing = False

    def _renegotiate(self, until: Deadline) -> bool:
        """Nothing can be sent before the peer's renegotiation (TLS 1.2) went on: receive for it; False: given up."""
        if until.passed or self._output_ended:
            return False
        if not self._reading.acquire(False):
            sleep(MEANWHILE)  # a reader is at it, and leaves to us what is to be answered
            return True
        try:
            # In short pieces: nobody wakes a writer out of a wait for something to receive.
            if self._plain.wait(True, False, until.limit(MEANWHILE)):
                data = self._plain.receive(SMALL, 0)
                return data is None or self._feed(data)
            return True
        finally:
            self._reading.release()


def _info(facts: Facts, plan: TlsPlan) -> TlsInfo:
    name, _, bits = facts.cipher or ("", "", 0)
    return TlsInfo(
        version=facts.version or "",
        cipher=name,
        cipher_bits=bits,
        alpn=facts.alpn,
        session_reused=facts.session_reused,
        server_side=plan.server_side,
        sni=plan.sni,
        checked_name=plan.checked_name,
        chain=facts.chain,
        required=plan.context.verify_mode != 0,
    )
