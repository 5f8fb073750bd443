"""The two directions of a connection: their buffers, clocks and locks. (How they end: channel.py.)

Streams (bytes, text) are faces on top of a channel; transports (plain, TLS) are below it. Who may do what
at the same time is decided here:

* ``_reading`` and ``_writing`` are held around a receive or a flush, I/O included: one thread at a time per
  direction, the other direction free. They are reentrant, because a signal handler may close the stream
  whose read it interrupted. ``_busy`` tells such a handler, and a close(), what the thread that holds
  ``_writing`` is doing: a "push" waits for nothing, a "flush" may, and so does who is "alone" in both directions.
* ``_state`` guards the send buffer and is never held during I/O; it is reentrant for the same reason.

A forgotten flush: a read that would block sends what is pending first, without blocking on it (the peer may
be waiting for us to read). A thread that writes while another is blocked in a read sends at once, since
nobody else would. Both follow from ``write_room``: how much a write may leave pending, nothing while a
reader waits. The reader lowers it before it looks at what is pending; the writer looks at it and adds in one
step, for between two bytecodes that call nothing no other thread runs.

A wait for several streams (ready.py) is nobody's reader and holds no lock while it waits. It looks at the socket
itself, and *watches* for what the socket does not tell. That costs others nothing while nobody watches: a deadline
that never comes makes reads take the way that keeps deadlines, and there they tell.
"""

from __future__ import annotations

import io
from _thread import RLock  # what threading.RLock() calls; three of them are made for every stream
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from ..address import SocketAddress
from ..deadline import Deadline
from ..engine.receive import ReceiveBuffer
from ..engine.send import JOIN_UP_TO, SendBuffer
from ..errors import SocketError
from ..report import ConnectionReport
from .conditions import bare, io_failed, passes, read_timed_out, stream_closed, write_timed_out
from .transport import Transport

if TYPE_CHECKING:
    from ..engine.proxy import ProxyHeader

__all__ = ["RECEIVE_SIZE", "Direction", "Flow", "Look", "checked_direction"]

Direction = Literal["input", "output", "io"]

Look = Literal["ready", "input", "both", "busy"]
"""A read would not wait; it would wait for input; or meanwhile also to send; another thread is at it."""

RECEIVE_SIZE = 65536
"""Bytes asked for per receive: the size at which lines come fastest (larger blocks leave the caches)."""

SMALL_RECEIVE = 448
"""Bytes asked for while the peer sends less than that at a time. Memory for them comes from Python's own pools
(up to 512 bytes with the object's head); asking for 64 KiB makes a round trip 2% slower."""


class Flow:
    """See the top of the file. Methods raise the conditions of errors.py; nothing is lost by any of them."""

    __slots__ = (
        "_aborted", "_busy", "_closed", "_deadlines", "_input_failure", "_input_shut", "_limited",
        "_limited_into", "_no_input", "_output_failure", "_output_shut", "_read_timeout", "_reading",
        "_released", "_room", "_state", "_untold", "_writing", "bytes_received", "direction", "local_address",
        "peer_address", "proxy_header", "receive_size", "received", "report", "sending", "transport",
        "watchers", "write_room", "write_timeout",
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
        self.transport = transport
        self.peer_address = peer_address
        self.local_address = local_address
        self.report = report
        self.direction: Direction = direction
        self.proxy_header: ProxyHeader | None = None
        self.received = ReceiveBuffer()
        self.sending = SendBuffer()
        self.bytes_received = 0
        self.receive_size = SMALL_RECEIVE
        self._read_timeout: float | None = None
        self._limited, self._limited_into = transport.limited(None)
        self.write_timeout: float | None = None
        self.write_room = self._room = JOIN_UP_TO if direction != "input" else -1
        self._deadlines: tuple[Deadline, ...] = ()
        self.watchers: tuple[Callable[[], object], ...] = ()
        self._state = RLock()
        self._reading = RLock()
        self._writing = RLock()
        transport.belongs_to(self._reading, self._writing, self._state, self.sending)
        self._busy: Literal["push", "flush", "alone"] | None = None
        self._no_input = direction == "output"  # for whatever reason; _no_more() knows which
        self._closed: str | None = None
        self._input_shut = self._output_shut = self._aborted = self._released = False
        self._input_failure: OSError | None = None
        self._output_failure: OSError | None = None
        self._untold = False  # the output failure came up in a read, and nobody has heard of it

    # Reading

    def fill(self) -> bool:
        """Receive something into ``received``; False at the peer's end."""
        data = self.receive(self.receive_size)
        self.received.feed(data)
        if self._closed is not None:
            raise stream_closed(self, self._closed)
        return bool(data)

    def receive(self, what: Any, into: bool = False, overdue: bool = False) -> Any:
        """Up to ``what`` bytes, as bytes, past the buffer, which must be empty; b"" at the peer's end.

        With ``into``, into the memory ``what``, and the result is the part of it that was filled. One method does
        both: a call less on the way of every received byte. With ``overdue``, a deadline that has passed does not
        matter.

        Raises ReadTimeout, StreamClosed, SocketIOError.
        """
        if not self._reading.acquire(False) and not _acquire(self._reading, self.limit(self._read_timeout)):
            raise read_timed_out(self, self._read_timeout)
        try:
            self.write_room = -1
            if self._no_input:
                return self._no_more()
            sending = self.sending
            if ((sending.small or sending.large) and not self._push()) or self._deadlines:
                data = self._receive_and_push(what, into, overdue)
            else:
                limited = self._limited_into if into else self._limited
                data = limited(what)
            size = len(data)
            if size:
                self.bytes_received += size
                self.receive_size = RECEIVE_SIZE if size >= SMALL_RECEIVE else SMALL_RECEIVE
                return data
            self._input_over(None if self.transport.secure else self._output_failure)
            return self._no_more()
        except BlockingIOError:
            raise read_timed_out(self, self._read_timeout) from None
        except OSError as error:
            if isinstance(error, SocketError):
                raise
            if passes(error) and self._closed is None:
                raise io_failed(self, "receive", "receiving from", error) from error
            self._input_over(error)
            return self._no_more()
        finally:
            self.write_room = self._room
            self._reading.release()

    def receive_now(self, size: int) -> bytes | None:
        """What has arrived, up to ``size`` bytes; b"" at the peer's end, None when there is nothing yet."""
        if not self._reading.acquire(False):
            return None  # what comes now is the other thread's
        try:
            if not self.input_ready():
                return None
            data: bytes = self.receive(size, overdue=True)
            return data
        finally:
            self._reading.release()

    def input_ready(self) -> bool:
        """A read would not block: bytes are there, or the end, or a failure."""
        self.check_open()
        if len(self.received) or self._no_input:
            return True
        self._push()
        if not self._reading.acquire(False):
            return False  # what comes now is the other thread's
        try:
            return self.transport.ready()
        finally:
            self._reading.release()

    def look(self, arrived: bool, exactly: Callable[[bool], bool] | None = None) -> Look:
        """What a read would find, for a wait that watches the socket itself; what is pending is sent meanwhile.

        Args:
            arrived: something has come at the socket. Otherwise a plain one is not asked.
            exactly: whether a read would give something, told whether there are bytes, or an end (text).
        """
        if self._no_input:
            return "ready"
        if not self._reading.acquire(False):
            return "busy"
        try:
            transport: Any = self.transport
            there = len(self.received) or ((arrived or transport.secure) and transport.ready())
            if there if exactly is None else exactly(bool(there)):
                return "ready"
            all_sent = self._push() and not (transport.secure and transport.has_answer())
            return "input" if all_sent else "both"
        finally:
            self._reading.release()

    def watch(self, tell: Callable[[], object]) -> None:
        """Have ``tell`` called when a look may find something that the socket does not tell, until unwatch().

        That is when this side ends the input, when the transport is replaced, and when another thread has received,
        whose read may leave something over. Meanwhile writes leave nothing pending, as beside a reader.
        """
        with self._state:
            self._set_watchers((*self.watchers, tell))
        self._room = self.write_room = -1

    def unwatch(self, tell: Callable[[], object]) -> None:
        """The end of watch(). Without one nothing happens."""
        with self._state:
            self._set_watchers(tuple(each for each in self.watchers if each is not tell))
        room = JOIN_UP_TO if self.direction != "input" else -1
        self._room = room
        if self._reading.acquire(False):  # or else the reader puts it there when it leaves
            self.write_room = room
            self._reading.release()
        # Who ends the output says so before taking the room away: one of the two sees the other.
        if self.watchers or self._closed is not None or self._output_shut or self._output_failure is not None:
            self._room = self.write_room = -1

    def tell(self) -> None:
        """A look may find something now."""
        for tell in self.watchers:
            tell()

    def _set_watchers(self, watchers: tuple[Callable[[], object], ...]) -> None:
        deadlines = tuple(each for each in self._deadlines if each is not _WATCHED)
        self.watchers = watchers
        self._deadlines = (*deadlines, _WATCHED) if watchers else deadlines

    @property
    def secure(self) -> bool:
        """TLS is active."""
        return self.transport.secure

    def check_open(self) -> None:
        if self._closed is not None:
            raise stream_closed(self, self._closed)

    def check_readable(self) -> None:
        """Raises when this stream is not for reading at all; what ended its input is told by the reads.

        Also asked after taking from ``received`` in more than one step: another thread that closed meanwhile has
        used the block up, so what was taken may be torn. And what was put there since is used up now.
        """
        if self._closed is not None:
            self.received.read()
            raise stream_closed(self, self._closed)
        if self.direction == "output":
            raise io.UnsupportedOperation("this stream is for output only (direction='output')")

    def _receive_and_push(self, what: Any, into: bool, overdue: bool) -> Any:
        """Receive, and meanwhile send what is pending, blocking on neither alone. Keeps deadlines."""
        until = Deadline.after(self.limit(self._read_timeout))
        receive: Callable[[Any, float], Any] = self.transport.receive_into if into else self.transport.receive
        while True:
            all_sent = self._push()
            if self._deadlines and self.overdue() and not overdue:
                raise BlockingIOError
            data = receive(what, 0)
            if data is not None:
                self.tell()
                return data
            if until.passed or not self.transport.wait(True, not all_sent, until.limit()):
                raise BlockingIOError

    def _input_over(self, failure: OSError | None) -> None:
        """Nothing more comes. The kernel tells of a failure once, so what a send has heard counts here too.

        EPIPE does not: where a send gets that, the peer's end has come.
        """
        if self._closed is None and not self._input_shut:
            self._no_input = True
            if not isinstance(failure, BrokenPipeError):
                self._input_failure = failure and bare(failure)

    def _no_more(self) -> bytes:
        """What a read gets that cannot receive: the condition, or b"" at the peer's end."""
        self.check_readable()
        if self._input_failure is not None:
            raise io_failed(self, "receive", "receiving from", self._input_failure)
        if self._input_shut:
            raise stream_closed(self, "the input side was shut down on this side")
        return b""

    # Writing

    def check_writable(self) -> None:
        """Raises when nothing more can be accepted."""
        self.check_open()
        if self.direction == "input":
            raise io.UnsupportedOperation("this stream is for input only (direction='input')")
        if self._output_shut:
            raise stream_closed(self, self._closed)
        if self._output_failure is not None:
            raise self._output_failed()

    def accept(self, data: memoryview) -> None:
        """Take over ``data``, however much it is."""
        self.check_writable()
        with self._state:
            self.sending.accept(data)

    def write(self, data: memoryview) -> None:
        """Take over ``data``, and send if that is more than may be left pending.

        WriteTimeout and StreamClosed tell how far that went. A view of mutable memory is lent to the buffer only
        while nobody else can send from it, and is released.
        """
        small = self.sending.small
        if len(small) + len(data) <= self.write_room:
            small += data
            return
        mutable = type(data.obj) is not bytes
        alone = self._writing.acquire(False)
        lent = alone and self._busy is None
        try:
            self.accept(data if lent or not mutable else memoryview(bytes(data)))
            self.flush()
        finally:
            if mutable:
                if lent:
                    with self._state:
                        self.sending.own()
                data.release()
            if alone:
                self._writing.release()

    @property
    def _pending(self) -> bool:
        return bool(self.sending.small or self.sending.large)

    def flush(self) -> None:
        """Send everything that is pending."""
        self.check_open()
        if not self._pending and self._busy is None:
            return
        self.check_writable()
        limit = self.limit(self.write_timeout)
        if not self._writing.acquire(False) and not _acquire(self._writing, limit):
            raise write_timed_out(self)
        try:
            # Or else a signal handler has interrupted the sending, which goes on after it.
            if self._busy in (None, "alone"):
                self._send_all(None)
        finally:
            self._writing.release()

    def _send_all(self, closing: float | None) -> None:
        """Send what is pending, ``_writing`` held; ``closing``: for close(), which waits so many seconds at most."""
        until = None if closing is None else Deadline.after(closing)
        before, self._busy = self._busy, "flush"
        try:
            while (piece := self.sending.next()) is not None:
                if until is None:
                    self.check_writable()  # after ``_busy`` is set, which close() looks at after closing
                    if self._deadlines and self.overdue():
                        raise write_timed_out(self)
                limit = self.limit(self.write_timeout)
                sent = self.transport.send(piece, limit if until is None else until.limit(limit))
                if sent is None:
                    continue
                if not sent:
                    if self._aborted or until is None:
                        self.check_writable()
                    raise write_timed_out(self, closing)
                with self._state:
                    self.sending.advance(sent)
        except OSError as error:
            if isinstance(error, SocketError):
                raise
            raise self._send_failed(error, self._closed is not None and until is None) from error
        finally:
            self._busy = before

    def _send_failed(self, error: OSError, closed: bool) -> SocketError:
        if self._aborted or self._output_shut or closed:
            return stream_closed(self, self._closed)
        self._output_over(error, untold=False)
        return io_failed(self, "send", "sending to", error)

    @contextmanager
    def sending_directly(self) -> Iterator[None]:
        """For sending past the buffer: flush, and own the output meanwhile; OSErrors become conditions."""
        self.flush()
        if not _acquire(self._writing, self.limit(self.write_timeout)):
            raise write_timed_out(self)
        before, self._busy = self._busy, "flush"
        try:
            yield
        except OSError as error:
            if isinstance(error, SocketError):
                raise
            raise self._send_failed(error, self._closed is not None) from error
        finally:
            self._busy = before
            self._writing.release()

    def sent_directly(self, count: int) -> None:
        """``count`` bytes were sent past the buffer."""
        with self._state:
            self.sending.sent += count

    def _push(self) -> bool:
        """Send what is pending as far as that goes without waiting; True when a reader need not care for the rest."""
        if not self._writing.acquire(False):
            return True  # a writer is at it
        if self._busy is not None or self._output_failure is not None:
            self._writing.release()
            return True
        self._busy = "push"
        sending = self.sending
        try:
            small = sending.small
            if small and not sending.large:  # a request that goes out whole: advance() and its lock, shortened
                send = self.transport.send
                sent = send(bytes(small), 0)
                if sent:
                    sending.sent += sent
                    del small[:sent]
                if not small:
                    return True
            while (piece := sending.next()) is not None:
                sent = self.transport.send(piece, 0)
                if sent:
                    with self._state:
                        sending.advance(sent)
                elif sent is not None:
                    return False
            return True
        except OSError as error:
            # What the peer has sent is still to be read; the next write, or close(), tells of this.
            self._output_over(error, untold=True)
            return True
        finally:
            self._busy = None
            self._writing.release()

    def _output_over(self, error: OSError, *, untold: bool) -> None:
        if not passes(error):
            self._output_failure = bare(error)
            self._untold = untold
            self._room = self.write_room = -1

    def _output_failed(self) -> SocketError:
        """The failure to send, which is told by this."""
        assert self._output_failure is not None
        self._untold = False
        return io_failed(self, "send", "sending to", self._output_failure)

    def counts(self) -> tuple[int, int]:
        """Payload bytes accepted and sent since the stream opened."""
        with self._state:
            return self.sending.accepted, self.sending.sent

    # Clocks

    @property
    def read_timeout(self) -> float | None:
        return self._read_timeout

    @read_timeout.setter
    def read_timeout(self, seconds: float | None) -> None:
        self.check_open()
        self._read_timeout = seconds
        self._limited, self._limited_into = self.transport.limited(seconds)

    def push_deadline(self, deadline: Deadline) -> None:
        with self._state:
            self._deadlines = (*self._deadlines, deadline)

    def pop_deadline(self, deadline: Deadline) -> None:
        with self._state:
            self._deadlines = tuple(each for each in self._deadlines if each is not deadline)

    def limit(self, idle: float | None) -> float | None:
        """How long a wait may last: ``idle`` seconds, or until the first deadline."""
        for deadline in self._deadlines:
            idle = deadline.limit(idle)
        return idle

    def overdue(self) -> bool:
        return any(deadline.passed for deadline in self._deadlines)


_WATCHED = Deadline(None)
"""Among the deadlines of a flow that somebody watches."""


def _acquire(lock: Any, limit: float | None) -> bool:
    return bool(lock.acquire(timeout=-1 if limit is None else limit))


def checked_direction(direction: object) -> None:
    """Raises ValueError unless ``direction`` is one of the three."""
    if direction not in ("input", "output", "io"):
        raise ValueError(f"direction={direction!r} is not allowed: it must be 'input', 'output' or 'io'")
