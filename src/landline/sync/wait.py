"""Waiting for a socket: the two strategies behind one small interface.

*Kernel waits.* The socket blocks, and SO_RCVTIMEO holds the limit that stays (read_timeout): one system call
per receive, made by the socket's own C method, no poll before it (socket.settimeout polls first). A
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
interpreter start the wait again with its full limit (PEP 475). Waits under a deadline are polled, and are
not affected.
"""

from __future__ import annotations

import _socket
import os
import select
import socket
import struct
import sys
from _thread import RLock
from collections.abc import Callable, Collection, Sequence
from time import monotonic
from typing import Protocol, TypeVar

__all__ = ["KernelWaits", "PolledWaits", "Waits", "Wakeup", "choose_waits", "raise_if_blocked", "wait_for_sockets"]


R = TypeVar("R", bytes, memoryview)

LONGEST_TICK = 0.01
"""Seconds: the tick of a Linux kernel with the slowest clock there is (HZ=100)."""


class Waits(Protocol):
    """How a stream waits for its socket."""

    def limited(self, limit: float | None) -> tuple[Callable[[int], bytes], Callable[[memoryview], memoryview]]:
        """Receive, and receive into memory, under one limit that stays: the fastest way this strategy has.

        They raise BlockingIOError when nothing came within the limit. The next call of limited() ends their
        use.
        """

    def receive(self, size: int, limit: float | None) -> bytes | None:
        """Up to ``size`` bytes; b"" at the peer's end or when woken; None when nothing came within ``limit``."""

    def receive_into(self, memory: memoryview, limit: float | None) -> memoryview | None:
        """The same, into ``memory``: the part that was filled, empty at the end, None when nothing came."""

    def receive_now(self, size: int) -> bytes | None:
        """What has arrived, up to ``size`` bytes, woken or not; None when there is nothing."""

    def send(self, data: memoryview | bytes, limit: float | None) -> int:
        """Hand over what the kernel takes: how many bytes; 0 when none within ``limit``, or when woken."""

    def send_now(self, data: memoryview | bytes) -> int:
        """Hand over what the kernel takes without waiting, woken or not."""

    def send_file(self, file: int, count: int, limit: float | None) -> int | None:
        """Hand over up to ``count`` bytes from where the open file stands, which moves on by as many (Linux).

        How many; 0 at the end of the file; None when none went within ``limit``, or when woken.
        """

    def wait(self, read: bool, write: bool, limit: float | None) -> bool:
        """Wait until the socket is ready for any of the two; False when it was not within ``limit`` seconds."""

    def wake(self, read: bool, write: bool) -> None:
        """Make waits for reading and/or writing return at once, from now on. From any thread, more than once."""

    def restore(self) -> None:
        """Give the socket back as Python makes them: blocking, without time limits."""

    def close(self) -> None:
        """Release what belongs to the strategy, not the socket."""


class PolledWaits:
    """The socket does not block; waits poll it beside a wakeup descriptor."""

    __slots__ = ("_reading", "_socket", "_writing")

    _timeout: float | None = 0
    _flags = 0

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(self._timeout)
        self._socket = sock
        self._reading = _Waking()
        self._writing = _Waking()

    def limited(self, limit: float | None) -> tuple[Callable[[int], bytes], Callable[[memoryview], memoryview]]:
        return (
            lambda size: raise_if_blocked(self.receive(size, limit)),
            lambda memory: raise_if_blocked(self.receive_into(memory, limit)),
        )

    def receive(self, size: int, limit: float | None) -> bytes | None:
        ends_at = None
        while not self._reading.woken:
            try:
                return self._socket.recv(size, self._flags)
            except BlockingIOError:
                ends_at = _end(limit) if ends_at is None else ends_at
                if limit == 0 or not self.wait(True, False, _left(ends_at)):
                    return None
        return b""

    def receive_into(self, memory: memoryview, limit: float | None) -> memoryview | None:
        ends_at = None
        while not self._reading.woken:
            try:
                return memory[: self._socket.recv_into(memory, 0, self._flags)]
            except BlockingIOError:
                ends_at = _end(limit) if ends_at is None else ends_at
                if limit == 0 or not self.wait(True, False, _left(ends_at)):
                    return None
        return memory[:0]

    def receive_now(self, size: int) -> bytes | None:
        try:
            return self._socket.recv(size, self._flags)
        except BlockingIOError:
            return None

    def send(self, data: memoryview | bytes, limit: float | None) -> int:
        ends_at = None
        while not self._writing.woken:
            try:
                return self._socket.send(data, _SEND_FLAGS)
            except BlockingIOError:
                ends_at = _end(limit) if ends_at is None else ends_at
                if limit == 0 or not self.wait(False, True, _left(ends_at)):
                    return 0
        return 0

    def send_now(self, data: memoryview | bytes) -> int:
        try:
            return self._socket.send(data, _SEND_FLAGS)
        except BlockingIOError:
            return 0

    def send_file(self, file: int, count: int, limit: float | None) -> int | None:
        ends_at = None
        while not self._writing.woken:
            try:
                return os.sendfile(self._socket.fileno(), file, None, count)
            except BlockingIOError:
                ends_at = _end(limit) if ends_at is None else ends_at
                if limit == 0 or not self.wait(False, True, _left(ends_at)):
                    return None
        return None

    def wait(self, read: bool, write: bool, limit: float | None) -> bool:
        fileno = self._socket.fileno()
        wakeups = self._wakeups(read, write) if limit != 0 else []
        if (read and self._reading.woken) or (write and self._writing.woken):
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

    def _wakeups(self, read: bool, write: bool) -> list[int]:
        return [side.fileno() for side, wanted in ((self._reading, read), (self._writing, write)) if wanted]


class KernelWaits(PolledWaits):
    """The socket blocks; the kernel keeps the time of the limit that stays, poll that of all others.

    Whoever waits to write is woken as in polled waits: shutdown(SHUT_WR) would do, but it sends FIN, and the
    peer of an aborted stream would take a part for the whole.
    """

    __slots__ = ("_kernel_limit", "_sends_files")

    _timeout = None
    _flags = getattr(socket, "MSG_DONTWAIT", 0)

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._kernel_limit: float | None = None
        self._sends_files = False

    def limited(self, limit: float | None) -> tuple[Callable[[int], bytes], Callable[[memoryview], memoryview]]:
        if limit == 0:
            return super().limited(limit)
        if limit != self._kernel_limit:
            self._set_kernel_limit(limit)
        return self._socket.recv, self._receive_into

    def wake(self, read: bool, write: bool) -> None:
        super().wake(read, write)
        if read:
            try:
                self._socket.shutdown(socket.SHUT_RD)
            except OSError:
                pass  # not connected any more: nothing can be blocked in it

    def send_file(self, file: int, count: int, limit: float | None) -> int | None:
        # There is no flag that keeps this one from blocking, so the kernel is told not to block for long. What is
        # sent otherwise never blocks, and does not notice.
        if not self._sends_files:
            self._set_limit(socket.SO_SNDTIMEO, LONGEST_TICK)
            self._sends_files = True
        return super().send_file(file, count, limit)

    def restore(self) -> None:
        if self._kernel_limit is not None:
            self._set_kernel_limit(None)
        if self._sends_files:
            self._set_limit(socket.SO_SNDTIMEO, 0)

    def _receive_into(self, memory: memoryview) -> memoryview:
        return memory[: self._socket.recv_into(memory)]

    def _wakeups(self, read: bool, write: bool) -> list[int]:
        return super()._wakeups(False, write)

    def _set_kernel_limit(self, limit: float | None) -> None:
        # The kernel counts in ticks, and the first one may be almost over: without one more it would be early.
        # Zero would mean "no limit" to it.
        self._set_limit(socket.SO_RCVTIMEO, 0 if limit is None else limit + LONGEST_TICK)
        self._kernel_limit = limit

    def _set_limit(self, option: int, seconds: float) -> None:
        value = struct.pack("@ll", *divmod(int(seconds * 1e6), 1_000_000))
        self._socket.setsockopt(socket.SOL_SOCKET, option, value)


_making = RLock()


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
            with _making:  # two threads may wait for the same direction: one to send, one to answer over TLS
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
        self._receiver, self._sender = _socket_pair()
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


# In one step where the system can: Ctrl-C in the middle of Python's own socketpair() leaves descriptors open.
_socket_pair: Callable[[], tuple[_socket.socket, _socket.socket]] = getattr(_socket, "socketpair", socket.socketpair)


def raise_if_blocked(result: R | None) -> R:
    """``result``, or BlockingIOError where it is None: from the one convention to the other."""
    if result is None:
        raise BlockingIOError
    return result


def wait_for_sockets(reads: Sequence[int], writes: Collection[int], limit: float | None) -> set[int]:
    """The descriptors that are ready (or broken), of those to read from and those to write to.

    An empty set means that ``limit`` seconds have passed. Signals with Python handlers do not prolong it. A socket
    that such a handler has closed (-1) counts as broken.
    """
    if -1 in reads or -1 in writes:
        return {-1}
    poll = getattr(select, "poll", None)  # looked up now: gevent replaces it, Windows has none
    if poll is None:
        return _select(reads, writes, limit)
    poller = poll()
    for fileno in reads:
        poller.register(fileno, select.POLLIN)
    for fileno in writes:
        poller.register(fileno, select.POLLIN | select.POLLOUT if fileno in reads else select.POLLOUT)
    return {fileno for fileno, _ in poller.poll(None if limit is None else limit * 1000)}


def _select(reads: Sequence[int], writes: Collection[int], limit: float | None) -> set[int]:
    # Windows tells of a failed connect in the third set only.
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
