"""Waiting for a socket: the two strategies behind one small interface.

*Kernel waits.* The socket blocks, and SO_RCVTIMEO is its time limit: one system call per receive, no poll
before it. That halves what a round trip with a timeout costs in Python (socket.settimeout polls first). A
thread blocked in it is woken by shutdown(SHUT_RD), which puts nothing on the wire. Only Linux promises
that, and only the interpreter's own socket class lets us call the kernel directly.

*Polled waits.* The socket does not block; a wait polls it together with a wakeup descriptor. For macOS
(shutdown does not reliably wake recv), Windows (time limits are another type there, Ctrl-C does not
interrupt recv) and replaced socket classes such as gevent's.

Sending never blocks in the kernel in either of them: a blocked send() that a signal interrupts returns a
count, and the exception of the signal's handler would then be raised before anybody can keep that count.

What both promise: ``None`` means that nothing came within the limit; wake() makes every present and
future wait return at once; the limit None means no limit and 0 means do not wait. No method closes
anything: the owner does, when no thread is inside.

One weakness of kernel waits is known: a signal whose Python handler returns normally makes the
interpreter start the wait again with its full limit (PEP 475). Waits under a deadline are polled by the
stream, and are not affected.
"""

from __future__ import annotations

import _socket
import select
import socket
import struct
import sys
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Protocol

__all__ = ["KernelWaits", "PolledWaits", "Waits", "Wakeup", "choose_waits", "wait_for_sockets"]


class Waits(Protocol):
    """How a stream waits for its socket."""

    def receive(self, size: int, limit: float | None) -> bytes | None:
        """Up to ``size`` bytes; b"" at the peer's end or when woken; None when nothing came within ``limit``."""

    def receive_now(self, size: int) -> bytes | None:
        """What has arrived, up to ``size`` bytes, woken or not; None when there is nothing."""

    def receive_into(self, memory: memoryview, limit: float | None) -> int | None:
        """The same as receive(), into ``memory``: the number of bytes, 0 at the end, None when nothing came."""

    def send(self, data: memoryview | bytes, limit: float | None) -> int:
        """Hand over what the kernel takes: how many bytes; 0 when none within ``limit``, or when woken."""

    def wait(self, read: bool, write: bool, limit: float | None) -> bool:
        """Wait until the socket is ready for any of the two; False when it was not within ``limit`` seconds."""

    def wake(self, read: bool, write: bool) -> None:
        """Make waits for reading and/or writing return at once, from now on. From any thread, more than once."""

    def restore(self) -> None:
        """Give the socket back as Python makes them: blocking, without time limits."""

    def close(self) -> None:
        """Release what belongs to the strategy, not the socket."""


class KernelWaits:
    """The socket blocks; the kernel keeps the time."""

    __slots__ = ("_limit", "_receive", "_send", "_socket")

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(None)
        self._socket = sock
        self._limit: float | None = None
        self._receive = sock.recv
        self._send = sock.send

    def receive(self, size: int, limit: float | None) -> bytes | None:
        if limit == 0:
            return self.receive_now(size)
        if limit != self._limit:
            self._set_limit(limit)
        started = monotonic()
        try:
            return self._receive(size)
        except BlockingIOError:
            # The kernel counts in ticks and may be a few milliseconds early.
            left = started + self._limit - monotonic() if self._limit is not None else 0
            if left > 0 and self.wait(True, False, left):
                return self.receive_now(size)
            return None

    def receive_now(self, size: int) -> bytes | None:
        try:
            return self._receive(size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def receive_into(self, memory: memoryview, limit: float | None) -> int | None:
        if limit != 0:
            if limit != self._limit:
                self._set_limit(limit)
            started = monotonic()
            try:
                return self._socket.recv_into(memory)
            except BlockingIOError:
                left = started + self._limit - monotonic() if self._limit is not None else 0
                if left <= 0 or not self.wait(True, False, left):
                    return None
        try:
            return self._socket.recv_into(memory, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def send(self, data: memoryview | bytes, limit: float | None) -> int:
        try:
            return self._send(data, _SEND_FLAGS)
        except BlockingIOError:
            if limit == 0 or not self.wait(False, True, limit):
                return 0
        return self.send(data, 0)

    def wait(self, read: bool, write: bool, limit: float | None) -> bool:
        fileno = self._socket.fileno()
        return bool(wait_for_sockets([fileno] if read else (), [fileno] if write else (), limit))

    def wake(self, read: bool, write: bool) -> None:
        try:
            if read:
                self._socket.shutdown(socket.SHUT_RD)
            if write:
                self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # not connected any more: nothing can be blocked in it

    def restore(self) -> None:
        if self._limit is not None:
            self._set_limit(None)

    def close(self) -> None:
        pass

    def _set_limit(self, limit: float | None) -> None:
        # 0 would mean "no limit" to the kernel, so a limit is never rounded down to it.
        seconds, micros = divmod(max(1, int((limit or 0) * 1e6)), 1_000_000) if limit is not None else (0, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", seconds, micros))
        self._limit = limit


class PolledWaits:
    """The socket does not block; waits poll it beside a wakeup descriptor."""

    __slots__ = ("_reading", "_socket", "_writing")

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(0)
        self._socket = sock
        self._reading = _Waking()
        self._writing = _Waking()

    def receive(self, size: int, limit: float | None) -> bytes | None:
        ends_at = None
        while not self._reading.woken:
            try:
                return self._socket.recv(size)
            except BlockingIOError:
                ends_at = _end(limit) if ends_at is None else ends_at
                if not self.wait(True, False, _left(ends_at)):
                    return None
        return b""

    def receive_now(self, size: int) -> bytes | None:
        try:
            return self._socket.recv(size)
        except BlockingIOError:
            return None

    def receive_into(self, memory: memoryview, limit: float | None) -> int | None:
        ends_at = None
        while not self._reading.woken:
            try:
                return self._socket.recv_into(memory)
            except BlockingIOError:
                ends_at = _end(limit) if ends_at is None else ends_at
                if not self.wait(True, False, _left(ends_at)):
                    return None
        return 0

    def send(self, data: memoryview | bytes, limit: float | None) -> int:
        ends_at = None
        while not self._writing.woken:
            try:
                return self._socket.send(data)
            except BlockingIOError:
                ends_at = _end(limit) if ends_at is None else ends_at
                if not self.wait(False, True, _left(ends_at)):
                    return 0
        return 0

    def wait(self, read: bool, write: bool, limit: float | None) -> bool:
        fileno = self._socket.fileno()
        waking = [side for side, wanted in ((self._reading, read), (self._writing, write)) if wanted]
        wakeups = [side.fileno() for side in waking] if limit != 0 else []
        if any(side.woken for side in waking):
            return True
        return bool(wait_for_sockets([fileno, *wakeups] if read else wakeups, [fileno] if write else (), limit))

    def wake(self, read: bool, write: bool) -> None:
        if read:
            self._reading.wake()
        if write:
            self._writing.wake()

    def restore(self) -> None:
        self._socket.settimeout(None)

    def close(self) -> None:
        self._reading.close()
        self._writing.close()


class _Waking:
    """Whether one direction has been woken, and the descriptor that says so to a poll.

    The descriptor is made at the first wait, so that an idle stream owns one descriptor and not five. A
    waiter makes it before it looks at the flag, and a waker sets the flag before it looks for the descriptor:
    one of them always sees the other.
    """

    __slots__ = ("_wakeup", "woken")

    def __init__(self) -> None:
        self.woken = False
        self._wakeup: Wakeup | None = None

    def fileno(self) -> int:
        if self._wakeup is None:
            self._wakeup = Wakeup()
        return self._wakeup.fileno()

    def wake(self) -> None:
        self.woken = True
        if self._wakeup is not None:
            self._wakeup.set()

    def close(self) -> None:
        if self._wakeup is not None:
            self._wakeup.close()


def choose_waits(sock: socket.socket) -> Waits:
    """The strategy that fits this socket and this system."""
    if sys.platform == "linux" and _is_plain(sock):
        return KernelWaits(sock)
    return PolledWaits(sock)


class Wakeup:
    """A descriptor that becomes readable when another thread calls set(). A socket pair: Windows polls no pipes."""

    __slots__ = ("_receiver", "_sender")

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)

    def fileno(self) -> int:
        return self._receiver.fileno()

    def set(self) -> None:
        """From any thread, also a signal handler; harmless after close()."""
        try:
            self._sender.send(b"\0")
        except OSError:
            pass  # full: it is readable already; closed: nobody waits any more

    def clear(self) -> None:
        try:
            while self._receiver.recv(4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        self._receiver.close()
        self._sender.close()


def wait_for_sockets(reads: Sequence[int], writes: Iterable[int], limit: float | None) -> set[int]:
    """The descriptors that are ready (or broken), of those to read from and those to write to.

    An empty set means that ``limit`` seconds have passed. Signals with Python handlers do not prolong it.
    """
    poll = getattr(select, "poll", None)  # looked up now: gevent replaces it, Windows has none
    if poll is None:
        return _select(reads, writes, limit)
    poller = poll()
    for fileno in reads:
        poller.register(fileno, select.POLLIN)
    for fileno in writes:
        poller.register(fileno, select.POLLIN | select.POLLOUT if fileno in reads else select.POLLOUT)
    return {fileno for fileno, _ in poller.poll(None if limit is None else limit * 1000)}


def _select(reads: Sequence[int], writes: Iterable[int], limit: float | None) -> set[int]:
    # Windows tells of a failed connect in the third set only.
    writes = list(writes)
    if not reads and not writes:
        raise ValueError("nothing to wait for")
    readable, writable, broken = select.select(reads, writes, writes, limit)
    return {*readable, *writable, *broken}


# A program may have set SIGPIPE back to its deadly default; a peer that is gone must not kill it.
_SEND_FLAGS = getattr(socket, "MSG_DONTWAIT", 0) | getattr(socket, "MSG_NOSIGNAL", 0)


def _is_plain(sock: socket.socket) -> bool:
    # gevent's and other replacements either do not derive from the C class or override its methods.
    return issubclass(type(sock), _socket.socket) and type(sock).recv is _socket.socket.recv


def _end(limit: float | None) -> float | None:
    return None if limit is None else monotonic() + limit


def _left(ends_at: float | None) -> float | None:
    return None if ends_at is None else max(0.0, ends_at - monotonic())
