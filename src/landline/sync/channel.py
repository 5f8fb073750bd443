"""The two directions of a connection: their buffers, clocks and locks, and how they end.

Streams (bytes, text) are faces on top of a channel; transports (plain, TLS) are below it. Who may do what
at the same time is decided here:

* ``_reading`` and ``_writing`` are held around a receive or a flush, I/O included: one thread at a time per
  direction, the other direction free. They are reentrant, because a signal handler may close the stream
  whose read it interrupted.
* ``_state`` guards the send buffer and is never held during I/O.

Ending from another thread: a flag is set, the transport wakes whoever is blocked, they leave and release
their lock, and the closer then owns both directions. The descriptor is closed only then, because a number
that is reused while a thread is about to use it would send one connection's bytes to another.

A forgotten flush: a read that would block sends what is pending first, without blocking on it (the peer may
be waiting for us to read). A thread that writes while another is blocked in a read sends at once, since
nobody else would. Both follow from ``write_room``: how much a write may leave pending, nothing while a
reader waits. The reader lowers it before it looks at what is pending, the writer looks at it after adding.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, RLock
from typing import Any, Literal, TypeVar

from ..address import SocketAddress
from ..deadline import Deadline
from ..engine.receive import ReceiveBuffer
from ..engine.send import JOIN_UP_TO, SendBuffer
from ..errors import ReadTimeout, SocketIOError, StreamClosed, WriteTimeout, with_kin
from ..report import ConnectionReport
from .transport import Transport

__all__ = ["Channel", "Direction", "checked_direction"]

Direction = Literal["input", "output", "io"]

W = TypeVar("W")
R = TypeVar("R", bytes, int)

RECEIVE_SIZE = 65536
"""Bytes asked for per receive: the size at which lines come fastest (larger blocks leave the caches)."""

CLOSE_LIMIT = 5.0
"""Seconds that close() spends on sending what is pending, if write_timeout allows more. Go chose the same."""


class Channel:
    """See the top of the file. Methods raise the conditions of errors.py; nothing is lost by any of them."""

    __slots__ = (
        "_aborted", "_closed", "_deadlines", "_ended", "_flushing", "_input_failure", "_input_shut",
        "_output_failure", "_output_shut", "_reader_waits", "_reading", "_released", "_room", "_state",
        "_transport", "_untold", "_writing",
        "bytes_received", "direction", "local_address", "peer_address", "read_timeout", "received", "report", "sending",
        "write_room", "write_timeout",
    )  # fmt: skip

    def __init__(
        self,
        transport: Transport,
        *,
        peer_address: SocketAddress | None,
        local_address: SocketAddress | None,
        report: ConnectionReport | None,
        direction: Direction,
    ) -> None:
        self._transport = transport
        self.peer_address = peer_address
        self.local_address = local_address
        self.report = report
        self.direction: Direction = direction
        self.received = ReceiveBuffer()
        self.sending = SendBuffer()
        self.bytes_received = 0
        self.read_timeout: float | None = None
        self.write_timeout: float | None = None
        self.write_room = self._room = JOIN_UP_TO if direction != "input" else -1
        self._deadlines: tuple[Deadline, ...] = ()
        self._state = Lock()
        self._reading = RLock()
        self._writing = RLock()
        self._reader_waits = False
        self._flushing = False
        self._ended = False
        self._closed: str | None = None
        self._aborted = self._released = False
        self._input_shut = self._output_shut = False
        self._input_failure: OSError | None = None
        self._output_failure: OSError | None = None
        self._untold = False  # the output failure came up in a read, and nobody has heard of it

    # Reading

    def fill(self) -> bool:
        """Receive something into ``received``; False at the peer's end."""
        data = self.receive(RECEIVE_SIZE)
        self.received.feed(data)
        return bool(data)

    def receive(self, size: int) -> bytes:
        """Up to ``size`` bytes past the buffer, which must be empty; b"" at the peer's end.

        Raises ReadTimeout, StreamClosed, SocketIOError.
        """
        data = self._receive(self._transport.receive, size, self.read_timeout, b"")
        if data is None:
            raise self._read_timeout()
        self.bytes_received += len(data)
        return data

    def receive_into(self, memory: memoryview) -> int:
        """The same, into ``memory``; 0 at the peer's end."""
        count = self._receive(self._transport.receive_into, memory, self.read_timeout, 0)
        if count is None:
            raise self._read_timeout()
        self.bytes_received += count
        return count

    def receive_now(self, size: int) -> bytes | None:
        """What has arrived, up to ``size`` bytes; b"" at the peer's end, None when there is nothing yet."""
        data = self._receive(self._transport.receive, size, 0, b"")
        if data is not None:
            self.bytes_received += len(data)
        return data

    def input_ready(self) -> bool:
        """A read would not block: bytes are there, or the end, or a failure."""
        self.check_open()
        if len(self.received) or self._ended or self._input_shut or self._input_failure:
            return True
        self._push()
        return self._transport.wait(True, False, 0)

    def check_open(self) -> None:
        if self._closed is not None:
            raise self._stream_closed()

    def _receive(
        self, receive: Callable[[W, float | None], R | None], what: W, limit: float | None, end: R
    ) -> R | None:
        if not self._reading.acquire(blocking=False) and not _acquire(self._reading, self._limit(limit)):
            return None
        try:
            self._reader_waits = True
            self.write_room = -1
            if self._ended or self._closed is not None or self._input_shut or self._input_failure is not None:
                return self._no_more(end)
            try:
                sending = self.sending
                if self._deadlines or ((sending.small or sending.queue) and not self._push()):
                    data = self._receive_and_push(receive, what, Deadline.after(self._limit(limit)))
                else:
                    data = receive(what, limit)
            except OSError as error:
                if self._closed is None:
                    self._input_failure = error
                return self._no_more(end)
            if data or data is None:
                return data
            if self._closed is None and not self._input_shut:
                self._ended = True
            return self._no_more(end)
        finally:
            self._reader_waits = False
            self.write_room = self._room
            self._reading.release()

    def _receive_and_push(self, receive: Callable[[W, float | None], R | None], what: W, until: Deadline) -> R | None:
        """Receive, and meanwhile send what is pending, blocking on neither alone."""
        while True:
            all_sent = self._push()
            data = receive(what, 0 if self._deadlines or not all_sent else until.limit())
            if data is not None or until.passed:
                return data
            if not self._transport.wait(True, not all_sent, until.limit()):
                return None

    def _no_more(self, end: R) -> R:
        """What a read gets that cannot receive: the condition, or ``end`` at the peer's end."""
        self.check_open()
        if self._input_failure is not None:
            raise self._failed("receive", "receiving from", self._input_failure)
        if self._input_shut:
            raise StreamClosed("the input side was shut down on this side", **self._facts("receive"))
        return end

    def _read_timeout(self) -> ReadTimeout:
        return ReadTimeout(
            f"nothing came from {self._peer()} {self._which_limit('read_timeout', self.read_timeout)}; "
            "nothing was consumed, and the same call goes on from here",
            **self._facts("receive"),
        )

    # Writing

    def check_writable(self) -> None:
        """Raises when nothing more can be accepted."""
        self.check_open()
        if self._output_shut:
            raise StreamClosed("the output side was shut down on this side", **self._facts("send"))
        if self._output_failure is not None:
            self._untold = False
            raise self._failed("send", "sending to", self._output_failure)

    def accept_small(self, data: bytes) -> bool:
        """Take over ``data`` without sending, if that is allowed now."""
        with self._state:
            small = self.sending.small
            if len(small) + len(data) > self.write_room:
                return False
            small += data
            return True

    def accept(self, data: memoryview) -> None:
        """Take over ``data``, however much it is."""
        self.check_writable()
        with self._state:
            self.sending.accept(data)

    def write(self, data: memoryview) -> None:
        """Take over ``data`` and send. WriteTimeout and StreamClosed tell how far that went."""
        self.accept(data)
        try:
            self.flush()
        finally:
            with self._state:
                self.sending.own()

    def flush(self) -> None:
        """Send everything that is pending."""
        self.check_open()
        if not self.sending.small and not self.sending.queue and not self._flushing:
            return
        self.check_writable()
        limit = self._limit(self.write_timeout)
        if not self._writing.acquire(blocking=False) and not _acquire(self._writing, limit):
            raise self._write_timeout()
        try:
            self._send_all(None)
        finally:
            self._writing.release()

    def _send_all(self, until: Deadline | None) -> None:
        """Send what is pending, ``_writing`` held; close() gives the time ``until`` which it waits for that."""
        self._flushing = True
        try:
            with self._state:
                piece = self.sending.next()
            while piece is not None:
                limit = self._limit(self.write_timeout)
                sent = self._send(piece, limit if until is None else until.limit(limit))
                if not sent:
                    if self._aborted or until is None:
                        self.check_writable()
                    raise self._write_timeout()
                with self._state:
                    piece = self.sending.advance(sent)
        except OSError as error:
            if isinstance(error, SocketIOError):
                raise
            if self._aborted or self._output_shut or (self._closed is not None and until is None):
                raise self._stream_closed() from error
            self._output_failed(error, untold=False)
            raise self._failed("send", "sending to", error) from error
        finally:
            self._flushing = False

    def _send(self, piece: memoryview, limit: float | None) -> int:
        if not self._deadlines:
            return self._transport.send(piece, limit)
        # Under a deadline the wait is polled: signals must not prolong it.
        return self._transport.send(piece, 0) or (
            self._transport.send(piece, 0) if self._transport.wait(False, True, limit) else 0
        )

    def _push(self) -> bool:
        """Send what is pending as far as that goes without waiting; True when a reader need not care for the rest."""
        if not self._writing.acquire(blocking=False):
            return True  # a writer is at it
        try:
            if self._flushing or self._output_failure is not None:
                return True
            with self._state:
                piece = self.sending.next()
            while piece is not None:
                sent = self._transport.send(piece, 0)
                if not sent:
                    return False
                with self._state:
                    piece = self.sending.advance(sent)
            return True
        except OSError as error:
            # What the peer has sent is still to be read; the next write, or close(), tells of this.
            self._output_failed(error, untold=True)
            return True
        finally:
            self._writing.release()

    def _output_failed(self, error: OSError, *, untold: bool) -> None:
        self._output_failure = error
        self._untold = untold
        self._room = self.write_room = -1

    def _write_timeout(self) -> WriteTimeout:
        with self._state:
            accepted, sent = self.sending.accepted, self.sending.sent
        return WriteTimeout(
            f"{self._peer()} took no data {self._which_limit('write_timeout', self.write_timeout)}; "
            f"{accepted - sent} of {accepted} bytes are kept, and flush() goes on from here",
            accepted=accepted,
            sent=sent,
            **self._facts("send"),
        )

    # Clocks

    def push_deadline(self, deadline: Deadline) -> None:
        with self._state:
            self._deadlines = (*self._deadlines, deadline)

    def pop_deadline(self, deadline: Deadline) -> None:
        with self._state:
            self._deadlines = tuple(each for each in self._deadlines if each is not deadline)

    def _limit(self, idle: float | None) -> float | None:
        for deadline in self._deadlines:
            idle = deadline.limit(idle)
        return idle

    def _which_limit(self, name: str, value: float | None) -> str:
        if any(deadline.passed for deadline in self._deadlines):
            return "before the deadline"
        return f"within {name}={value:g} s" if value else "without waiting"

    # Ending

    def shutdown_input(self) -> None:
        """Reads go on until the buffer is empty, then raise StreamClosed."""
        self.check_open()
        if not self._input_shut:
            self._input_shut = True
            self._transport.wake(True, False)
            with self._reading:
                self._ending(self._transport.shutdown_input, "receive")

    def shutdown_output(self, *, abort: bool) -> None:
        """Send what is pending (or drop it), then tell the peer that nothing more comes."""
        self.check_open()
        if self._output_shut:
            return
        if abort:
            self._output_shut = True
            self._transport.wake(False, True)
        elif self._output_failure is None:
            self.flush()
        with self._writing:
            self._output_shut = True
            self._room = self.write_room = -1
            with self._state:
                self.sending.clear()
            self._ending(self._transport.shutdown_output, "send")

    def close(self) -> None:
        """Send what is pending within write_timeout or CLOSE_LIMIT, then release the descriptor whatever happened."""
        if not self._begin_ending("the stream was closed on this side"):
            return
        failure: OSError | None = None
        try:
            if self._writing.acquire(blocking=False):
                try:
                    if self._untold and self._output_failure is not None:
                        failure = self._failed("send", "sending to", self._output_failure)
                    elif not self._flushing and not self._output_shut and self._output_failure is None:
                        self._send_all(Deadline.after(CLOSE_LIMIT))
                except OSError as error:
                    failure = error
                finally:
                    self._writing.release()
        finally:
            self._release()
        if failure is not None:
            raise failure

    def abort(self) -> None:
        """Drop everything, reset the connection, release the descriptor. Also ends a close() that waits."""
        self._aborted = True
        self._begin_ending("the stream was aborted on this side")
        self._release()

    def detach(self) -> socket.socket:
        """Send what is pending and give up the socket. Received bytes must have been taken."""
        self.check_open()
        if not self._output_shut:
            self.flush()
        if not self._writing.acquire(blocking=False):
            raise ValueError("another thread is writing to this stream: its socket cannot be detached now")
        try:
            if not self._reading.acquire(blocking=False):
                raise ValueError("another thread is reading from this stream: its socket cannot be detached now")
            try:
                if len(self.received):
                    raise ValueError(
                        f"{len(self.received)} received bytes have not been read; "
                        "take them first (read1() or read_no_hang())"
                    )
                self._begin_ending("the socket was detached from this stream")
                self._released = True
                return self._transport.detach()
            finally:
                self._reading.release()
        finally:
            self._writing.release()

    def release_now(self) -> None:
        """Release the descriptor without waiting for anything: for a stream that nobody has any more."""
        if not self._released:
            self._push()
            self._closed = "the stream was collected"
            self._released = True
            self._transport.close()

    @property
    def closed(self) -> bool:
        return self._closed is not None

    def fileno(self) -> int:
        self.check_open()
        return self._transport.fileno()

    def _begin_ending(self, why: str) -> bool:
        with self._state:
            if self._closed is not None:
                return False
            self._closed = why
            self._room = self.write_room = -1
        if self._reader_waits:
            self._transport.wake(True, False)
        return True

    def _release(self) -> None:
        """Wake everybody, wait until they have left, and close the transport once."""
        with self._woken(self._writing, read=False), self._woken(self._reading, read=True):
            if self._released:
                return
            self._released = True
            with self._state:
                self.sending.clear()
            self.received.clear()
            if self._aborted:
                self._transport.abort()
            else:
                self._transport.close()

    @contextmanager
    def _woken(self, lock: Any, *, read: bool) -> Iterator[None]:
        """Hold ``lock``, waking the thread that holds it."""
        if not lock.acquire(blocking=False):
            self._transport.wake(read, not read)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _ending(self, end: Any, operation: str) -> None:
        try:
            end()
        except OSError as error:
            raise self._failed(operation, "shutting down the connection to", error) from error

    # Conditions

    def _peer(self) -> str:
        return str(self.peer_address) if self.peer_address else "the peer"

    def _facts(self, operation: str) -> dict[str, Any]:
        return {"operation": operation, "address": self.peer_address, "report": self.report}

    def _stream_closed(self) -> StreamClosed:
        condition = StreamClosed(self._closed or "closed", **self._facts("closed"))
        with self._state:
            condition.accepted, condition.sent = self.sending.accepted, self.sending.sent
        return condition

    def _failed(self, operation: str, doing: str, error: OSError) -> SocketIOError:
        condition = with_kin(SocketIOError, error)(
            f"{doing} {self._peer()} failed: {error.strerror or error}", errno=error.errno, **self._facts(operation)
        )
        condition.__cause__ = error
        return condition


def _acquire(lock: Any, limit: float | None) -> bool:
    return bool(lock.acquire(timeout=-1 if limit is None else limit))


def checked_direction(direction: object) -> None:
    """Raises ValueError unless ``direction`` is one of the three."""
    if direction not in ("input", "output", "io"):
        raise ValueError(f"direction={direction!r} is not allowed: it must be 'input', 'output' or 'io'")
