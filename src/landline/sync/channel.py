"""A channel: the two directions of a connection (flow.py), and how they end.

Streams (bytes, text) are faces on top of a channel; transports (plain, TLS) are below it.

Ending from another thread: a flag is set, the transport wakes whoever is blocked, they leave and release
their lock, and the closer then owns both directions. The descriptor is closed only then, because a number
that is reused while a thread is about to use it would send one connection's bytes to another.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from ..engine.send import JOIN_UP_TO
from .conditions import io_failed, stream_closed, write_timed_out
from .flow import Flow
from .transport import Transport

__all__ = ["Channel"]

CLOSE_LIMIT = 5.0
"""Seconds that close() spends on sending what is pending, if write_timeout allows more. Go chose the same."""

_WAITING = ("flush", "alone")


class Channel(Flow):
    """See the top of the file. Methods raise the conditions of errors.py; nothing is lost by any of them."""

    __slots__ = ()

    def shutdown_input(self) -> None:
        """Reads go on until the buffer is empty, then raise StreamClosed."""
        self.check_open()
        if not self._input_shut:
            self._input_shut = self._no_input = True
            self.transport.wake(True, False)
            self.tell()
            with self._reading:
                try:
                    self.transport.shutdown_input()
                except OSError:
                    pass  # both sides have ended, or the connection is broken: nothing comes in any case

    def shutdown_output(self, *, abort: bool) -> None:
        """Send what is pending (or drop it), then tell the peer that nothing more comes."""
        self.check_open()
        if self._output_shut and not self.secure:  # over TLS what is to be told may still be on its way
            return
        if abort:
            self._output_shut = True
            if self._busy in _WAITING:
                self.transport.wake(self._busy == "alone", True)
        elif not self._output_shut:
            if self._output_failure is not None:
                raise self._output_failed()
            if self.direction != "input":
                self.flush()
        with self._writing:
            self._output_shut = True
            self._room = self.write_room = -1
            try:
                told = self.transport.shutdown_output(self.limit(self.write_timeout), abort)
            except OSError as error:
                if not abort:
                    raise io_failed(self, "send", "shutting down the connection to", error) from error
                return
            finally:
                with self._state:  # after it: over TLS what was encrypted is still sent, if it can be
                    self.sending.clear()
            if not told and not abort:
                self.check_open()
                raise write_timed_out(self)

    def drop_output(self) -> None:
        """Forget what is pending, as far as none of it is on its way. ValueError when another thread is writing."""
        self.check_open()
        if not self._writing.acquire(False):
            raise ValueError("another thread is writing to this stream: what it writes cannot be dropped now")
        try:
            with self._state:
                self.sending.clear(keep=self.transport.under_way)
        finally:
            self._writing.release()

    def close(self) -> None:
        """Send what is pending within write_timeout or CLOSE_LIMIT, then release the descriptor whatever happened."""
        if not self._begin_ending("the stream was closed on this side"):
            return
        began = monotonic()
        failure: OSError | None = None
        try:
            if self._pending or self._untold:
                failure = self._send_last()
        finally:
            self._release(max(0.0, CLOSE_LIMIT - (monotonic() - began)))
        if failure is not None:
            try:
                raise failure
            finally:
                failure = None  # or its traceback would hold this frame, and the frame it

    def end_after_failure(self) -> None:
        """Close, but reset where something waits to be sent: half an answer must not look like a whole one."""
        if len(self.sending):
            self.abort()
        else:
            self.close()

    def abort(self) -> None:
        """Drop everything, reset the connection, release the descriptor. Also ends a close() that waits."""
        self._aborted = True
        self._begin_ending("the stream was aborted on this side")
        self._release()

    def detach(self) -> socket.socket:
        """Send what is pending and give up the socket. Received bytes must have been taken."""
        self.check_open()
        if self.secure:
            raise ValueError("TLS is active on this stream: stop_tls() first, for the socket would speak in the clear")
        if not self._output_shut:
            self.flush()
        with self.alone("its socket cannot be detached now"):
            if len(self.received):
                raise ValueError(
                    f"{len(self.received)} received bytes have not been read; "
                    "take them first (read1() or read_no_hang())"
                )
            self._begin_ending("the socket was detached from this stream")
            self._released = True
            return self.transport.detach()

    @contextmanager
    def alone(self, else_what: str) -> Iterator[None]:
        """Own both directions; ValueError when another thread is inside one."""
        if not self._writing.acquire(False):
            raise ValueError(f"another thread is writing to this stream: {else_what}")
        try:
            if not self._reading.acquire(False):
                raise ValueError(f"another thread is reading from this stream: {else_what}")
            try:
                before, self._busy = self._busy, "alone"
                try:
                    self.check_open()  # after ``_busy`` is set, which close() looks at after closing
                    yield
                finally:
                    self._busy = before
            finally:
                self._reading.release()
        finally:
            self._writing.release()

    def replace_transport(self, transport: Transport, *, afresh: bool = False) -> None:
        """Go on over another transport; ``afresh``, also in directions that were shut down. Both must be owned."""
        if afresh:
            self._input_shut = self._output_shut = False
        self.transport = transport
        transport.belongs_to(self._reading, self._writing, self._state, self.sending)
        self._limited, self._limited_into = transport.limited(self._read_timeout)
        self._input_failure = self._output_failure = None
        self._untold = False
        with self._state:
            if self._closed is None:
                self._no_input = self.direction == "output" or self._input_shut
                room = JOIN_UP_TO if self.direction != "input" and not (self._output_shut or self.watchers) else -1
                self.write_room = self._room = room
        self.tell()

    def check_input_open(self) -> None:
        """Raises StreamClosed when this side has shut its input down."""
        if self._input_shut:
            raise stream_closed(self, "the input side was shut down on this side")

    def release_now(self) -> None:
        """Release the descriptor without waiting for anything: for a stream that nobody has any more."""
        if not self._released:
            self._push()
            self._closed = "the stream was collected"
            self._released = True
            self.transport.close(None if self._pending else 0)

    @property
    def closed(self) -> bool:
        return self._closed is not None

    def fileno(self) -> int:
        self.check_open()
        return self.transport.fileno()

    def handle(self) -> socket.socket:
        """The socket, which stays this channel's."""
        self.check_open()
        return self.transport.handle()

    def _begin_ending(self, why: str) -> bool:
        with self._state:
            if self._closed is not None:
                return False
            self._closed = why
            self._no_input = True
            self._room = self.write_room = -1
        self.tell()
        return True

    def _send_last(self) -> OSError | None:
        """What close() does about pending data; the reason if it could not be sent."""
        if not self._reading.acquire(False):
            self.transport.wake(True, False)  # the reader need not wait for this
        else:
            self._reading.release()
        if self._busy in _WAITING:
            return None  # whoever is blocked in a write hears of the end
        self._writing.acquire()  # not for long: at most a push is going on
        try:
            if self._untold:
                return self._output_failed()
            if self._busy is None and self._output_failure is None:
                self._send_all(CLOSE_LIMIT)
        except OSError as error:
            return error
        finally:
            self._writing.release()
        return None

    def _release(self, goodbye: float = 0.0) -> None:
        """Wake everybody, wait until they have left, and close the transport once.

        ``goodbye``: seconds that telling the peer may take.
        """
        if not self._writing.acquire(False):
            if self._aborted or self._busy in _WAITING:  # a push does not wait, and nothing of it need be lost
                self.transport.wake(self._busy == "alone", True)
            self._writing.acquire()
        try:
            if not self._reading.acquire(False):
                self.transport.wake(True, False)
                self._reading.acquire()
            try:
                if self._released:
                    return
                self._released = True
                whole = not self._pending
                if self._pending and self._busy is None:
                    with self._state:
                        self.sending.clear()
                self.received.read()  # uses the block up, in one step, for another thread may be at it
                if self._aborted:
                    self.transport.abort()
                else:
                    limit = self.write_timeout
                    told_within = goodbye if limit is None else min(goodbye, limit)
                    self.transport.close(told_within if whole else None)
            finally:
                self._reading.release()
        finally:
            self._writing.release()
