"""SocketStream: a connection that reads and writes like a Python file, and pauses where others break.

It is an io.BufferedIOBase, so whatever takes a binary file takes it. Three things differ from a file object
that socket.makefile() gives:

* The buffer is ours and outlives every timeout. A method that cannot finish consumes nothing.
* A read that would block first sends what is pending; close() sends it, within a bound.
* Another thread may write, close or abort while one reads.

(Attributes that hold C functions are fetched first and called then: "self.x(...)" would look for a method.)

The fast paths are one Python call around one C call: readline() takes the next line of the receive buffer's
block and read_exactly() reads from it; both come back to this file only when that gives too little.
"""

from __future__ import annotations

import io
import socket
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any

from ..address import SocketAddress
from ..deadline import checked_timeout
from ..engine.receive import Overrun
from ..errors import IncompleteRead, LimitOverrun, WriteTimeout
from ..report import ConnectionReport
from .channel import Channel
from .face import StreamFace
from .flow import RECEIVE_SIZE, Direction, checked_direction
from .lines import iterate_lines, read_lines
from .transport import PlainTransport, Transport

if TYPE_CHECKING:
    from typing import Self

    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["SocketStream", "checked_limit"]

LINE_LIMIT = 1 << 20
"""The longest line readline() takes unless told otherwise: 16 times what h11, node or nginx allow a header."""

LARGEST_RECEIVE = 1 << 18
"""Counted reads ask for no more than this at once; larger receives bring nothing and cost memory."""


class SocketStream(StreamFace, io.BufferedIOBase):
    """A byte stream over a connected socket.

    Made by open_tcp_stream() and by servers; from a connected stream socket of one's own it is made
    directly, and owns the socket from then on.

    Args:
        sock: a connected stream socket.
        direction: "input" (no writing), "output" (no reading) or "io".
        read_timeout, write_timeout: seconds without progress before ReadTimeout or WriteTimeout; None is no
            limit, 0 does not wait. Settable attributes.

    Attributes:
        line_limit: the longest line, in bytes, that readline() takes without a size (1 MiB). Settable.

    After ReadTimeout nothing was consumed and the same call goes on; after WriteTimeout everything was
    accepted and flush() goes on; after close() or abort() every operation raises StreamClosed, which is also
    a ValueError. Any other SocketIOError means that the connection is over.

    Source: LispWorks manual, socket-stream.
    """

    __slots__ = ("_channel", "_lines", "_received", "_small", "line_limit")

    def __init__(
        self,
        sock: socket.socket,
        *,
        direction: Direction = "io",
        read_timeout: float | None = None,
        write_timeout: float | None = None,
    ) -> None:
        checked_direction(direction)
        read_timeout = checked_timeout(read_timeout, "read_timeout")
        write_timeout = checked_timeout(write_timeout, "write_timeout")
        self._begin(PlainTransport(sock), direction, _address(sock.getpeername), _address(sock.getsockname), None)
        self._channel.read_timeout = read_timeout
        self._channel.write_timeout = write_timeout

    @classmethod
    def _over(
        cls,
        transport: Transport,
        *,
        direction: Direction = "io",
        peer_address: SocketAddress | None = None,
        local_address: SocketAddress | None = None,
        report: ConnectionReport | None = None,
    ) -> Self:
        """A stream over a transport, for whoever has made the connection (open_tcp_stream, servers)."""
        self = cls.__new__(cls)
        self._begin(transport, direction, peer_address, local_address, report)
        return self

    def _begin(
        self,
        transport: Transport,
        direction: Direction,
        peer_address: SocketAddress | None,
        local_address: SocketAddress | None,
        report: ConnectionReport | None,
    ) -> None:
        self.line_limit = LINE_LIMIT
        self._channel = Channel(
            transport,
            peer_address=peer_address,
            local_address=local_address,
            report=report,
            direction=direction,
        )
        self._received = self._channel.received
        self._lines: Iterator[bytes] = iter(())
        self._small = self._channel.sending.small

    # Reading

    def readline(self, size: int | None = None, /) -> bytes:
        """A line with its b"\\n"; without it at the peer's end; b"" when nothing is left.

        Args:
            size: at most so many bytes of it, as io has it. Without a size, line_limit is the bound.

        Raises:
            ReadTimeout, LimitOverrun: nothing was consumed.
            SocketIOError: the connection failed.
        """
        if size is None:
            try:
                return next(self._lines)
            except StopIteration:
                return self._read_line()
        return self._read_sized_line(size)

    def read_exactly(self, count: int, /) -> bytes:
        """``count`` bytes.

        Raises:
            ReadTimeout: nothing was consumed.
            IncompleteRead: the peer ended before; its ``partial`` has been consumed.
            SocketIOError: the connection failed.
        """
        read = self._received.read
        data = read(count)
        if len(data) != count:
            data = self._read_counted(count, data)
            if len(data) != count:
                raise IncompleteRead(data, count)
        return data

    def read(self, size: int | None = -1, /) -> bytes:
        """``size`` bytes, fewer only at the peer's end; everything up to the peer's end without a size."""
        if size is None or size < 0:
            while self._channel.fill():
                pass
            return self._taken(self._received.take_all())
        data = self._received.read(size)
        if len(data) == size and size:
            return data
        return self._read_counted(size, data)

    def read1(self, size: int = -1, /) -> bytes:
        """What is there, up to ``size`` bytes; waits only when nothing is. b"" at the peer's end."""
        most = size if size >= 0 else LARGEST_RECEIVE
        if most and not len(self._received):
            if most >= RECEIVE_SIZE:
                received: bytes = self._channel.receive(min(most, LARGEST_RECEIVE))
                return received
            self._channel.fill()
        return self._taken(self._received.take_some(most))

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill ``buffer``; returns how many bytes, fewer than its size only at the peer's end.

        After ReadTimeout nothing was consumed: what had come goes back into the stream's own buffer.
        """
        return self._read_into(buffer, once=False)

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        """What is there, into ``buffer``; waits only when nothing is. Returns the number of bytes, 0 at the end."""
        return self._read_into(buffer, once=True)

    def read_until(self, separator: bytes, limit: int | None = None) -> bytes:
        """Everything through the next ``separator``, which is included.

        Args:
            limit: the most bytes this may be, separator included; line_limit if not given.

        Raises:
            ReadTimeout, LimitOverrun: nothing was consumed.
            IncompleteRead: the peer ended before; its ``partial`` has been consumed, ``expected`` is None.
        """
        if not isinstance(separator, (bytes, bytearray)) or not separator:
            raise ValueError(f"separator={separator!r} is not allowed: it must be bytes, at least one")
        limit = self.line_limit if limit is None else checked_limit(limit)
        separator = bytes(separator)
        while True:
            try:
                data = self._received.take_until(separator, limit)
            except Overrun:
                raise self._overrun(f"no separator {separator!r}", limit) from None
            if data is not None:
                return self._taken(data)
            if not self._channel.fill():
                raise IncompleteRead(self._taken(self._received.take_all()), None)

    def read_no_hang(self, size: int = -1, /) -> bytes | None:
        """What has arrived, up to ``size`` bytes, without waiting. None: nothing yet. b"": the peer has ended.

        Source: LispWorks manual, read-char-no-hang in open-tcp-stream's example.
        """
        self._channel.check_readable()
        if size == 0:
            return b"" if self._received else None
        if not len(self._received):
            data = self._channel.receive_now(RECEIVE_SIZE)
            if not data:
                return data
            self._received.feed(data)
        return self._taken(self._received.take_some(size if size > 0 else len(self._received)))

    def peek(self, size: int = 0, /) -> bytes:
        """Bytes at the front, without taking them; waits only when none are there. b"" at the peer's end."""
        if not len(self._received):
            self._channel.fill()
        return self._taken(self._received.peek())

    def unread(self, data: ReadableBuffer, /) -> None:
        """Put ``data`` back: the next read gives it first."""
        self._received.unread(bytes(_view(data)))
        self._channel.check_readable()

    def input_ready(self) -> bool:
        """A read would give something without waiting: bytes, the peer's end, or a failure."""
        self._channel.check_readable()
        return self._channel.input_ready()

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """All lines up to the peer's end; with a ``hint``, no more once so many bytes have come."""
        return read_lines(self, hint, lambda lines: self._put_back(b"".join(lines)))

    def __iter__(self) -> Iterator[bytes]:
        """Lines up to the peer's end. After a timeout the same iterator goes on."""
        return iterate_lines(self._next_block)

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def _read_line(self) -> bytes:
        block = self._next_block()
        if isinstance(block, bytes):
            return block
        # Whenever the buffer puts another block in the place of this one, it uses this one up first.
        self._lines = block
        return next(block, b"") or self._read_line()

    def _next_block(self) -> io.BytesIO | bytes:
        """A block with at least one line; at the peer's end what is left instead."""
        while True:
            try:
                block = self._received.next_lines(self.line_limit)
            except Overrun:
                raise self._overrun("no line end", self.line_limit) from None
            if block is not None:
                self._channel.check_readable()
                return block
            if not self._channel.fill():
                return self._taken(self._received.take_all())

    def _read_sized_line(self, size: int) -> bytes:
        self._channel.check_readable()
        if size <= 0:
            return self.readline() if size else b""
        while True:
            try:
                line = self._received.take_until(b"\n", size)
            except Overrun:
                line = self._received.take_exactly(size)
            if line is not None:
                return self._taken(line)
            if not self._channel.fill():
                return self._taken(self._received.take_all())

    def _read_counted(self, count: int, head: bytes) -> bytes:
        """``count`` bytes, fewer at the peer's end; ``head`` has been taken from the block."""
        received = self._received
        if head or count <= 0:
            received.unread(head)
            if count < 0:
                raise ValueError(f"count={count} is not allowed: it must be 0 or more")
        elif not received.tail:
            # A reply that comes alone and whole is passed on as it came.
            data: bytes = self._channel.receive(self._channel.receive_size)
            if len(data) == count:
                return data
            received.feed(data)
        while count - len(received) < RECEIVE_SIZE:
            whole = received.take_exactly(count)
            if whole is not None:
                return self._taken(whole)
            if not self._channel.fill():
                return self._taken(received.take_all())
        return self._read_much(count)

    def _read_much(self, count: int) -> bytes:
        # Past the buffer, piece by piece: joined once, instead of copied into a growing buffer.
        pieces = [self._received.take_all()]
        missing = count - len(pieces[0])
        try:
            while missing > 0:
                piece = self._channel.receive(min(missing, LARGEST_RECEIVE))
                if not piece:
                    break
                pieces.append(piece)
                missing -= len(piece)
        except BaseException:
            self._put_back(b"".join(pieces))
            raise
        return b"".join(pieces)

    def _read_into(self, buffer: WriteableBuffer, *, once: bool) -> int:
        view = memoryview(buffer).cast("B")
        if view.readonly:
            raise TypeError("the buffer is read-only: nothing can be read into it")
        head = self._received.take_some(len(view)) if len(self._received) else b""
        count = len(head)
        view[:count] = head
        try:
            while count < len(view) and not (once and count):
                received = 0 if len(self._received) else len(self._channel.receive(view[count:], into=True))
                if received:
                    count += received
                    continue
                more = self._received.take_some(len(view) - count)
                if not more:
                    break
                view[count : count + len(more)] = more
                count += len(more)
        except BaseException:
            self._put_back(bytes(view[:count]))
            raise
        self._channel.check_readable()
        return count

    def _taken(self, data: bytes) -> bytes:
        """``data``, which was taken in several steps, if nobody has closed the stream meanwhile."""
        self._channel.check_readable()
        return data

    def _put_back(self, data: bytes) -> None:
        """After a call that failed: what it had taken is as if it had not been."""
        self._received.unread(data)
        if self._channel.closed:
            self._received.read()

    def _overrun(self, what: str, limit: int) -> LimitOverrun:
        self._channel.check_readable()
        return LimitOverrun(
            f"{what} within {limit} bytes; nothing was consumed",
            limit=limit,
            operation="receive",
            address=self.peer_address,
            report=self.report,
        )

    # Writing

    def write(self, data: ReadableBuffer, /) -> int:
        """Take over all of ``data``, and send when more than 64 KiB are pending. Returns its length in bytes.

        Raises:
            WriteTimeout: all of it was accepted; flush() goes on sending. Do not write it again.
            SocketIOError: the connection failed.
        """
        if type(data) is bytes:
            small = self._small
            if len(small) + len(data) <= self._channel.write_room:
                small += data
                return len(data)
        view = _view(data)
        size = len(view)
        self._channel.write(view)
        return size

    def writelines(self, lines: Iterable[ReadableBuffer], /) -> None:
        """Take over all of ``lines``, whatever happens; raises what write() raises, when all are taken over."""
        timeout: WriteTimeout | None = None
        for line in lines:
            if timeout is not None:
                self._channel.accept(memoryview(bytes(_view(line))))
                continue
            try:
                self.write(line)
            except WriteTimeout as error:
                timeout = error
        if timeout is not None:
            timeout.accepted, timeout.sent = self._channel.sending.accepted, self._channel.sending.sent
            raise timeout

    def flush(self) -> None:
        """Send what is pending. Raises as write() does; after WriteTimeout, flush() again goes on."""
        self._channel.flush()

    def send_file(self, file: IO[bytes], offset: int | None = None, count: int | None = None) -> int:
        """Send a file that is open for reading in binary mode. Returns how many bytes were taken from it.

        Plain TCP on Linux leaves the work to the kernel (sendfile); otherwise the file is read piece by piece.

        Args:
            offset: where in the file to begin; None: where it stands.
            count: the most bytes to send; None: up to the end of the file.

        Raises:
            WriteTimeout: no progress. The file stands where the stream has taken over from it (``accepted`` has grown
                by as much): send_file(file) again goes on, and so does flush() for what was taken over.
            SocketIOError: the connection failed. The file stands likewise.
            ValueError, TypeError: a wrong argument, or a file in text mode.
        """
        from .send_file import send_file

        return send_file(self._channel, file, offset, count)

    # Ending

    def detach(self) -> socket.socket:  # type: ignore[override]
        """Send what is pending, and give the socket away: blocking, without time limits, owned by the caller.

        Raises:
            ValueError: received bytes have not been read, or another thread is inside. Nothing has changed.
        """
        return self._channel.detach()

    def __del__(self) -> None:
        channel = getattr(self, "_channel", None)
        if channel is not None and not channel.closed:
            try:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            finally:
                channel.release_now()

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<{type(self).__name__} {self.local_address} -> {self.peer_address} {self._channel.direction}{state}>"


def checked_limit(limit: int) -> int:
    """``limit``, a number of bytes or characters. Raises ValueError unless it is 1 or more."""
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ValueError(f"limit={limit!r} is not allowed: it must be a whole number, 1 or more")
    return limit


def _view(data: ReadableBuffer) -> memoryview:
    if isinstance(data, str):
        raise TypeError("a bytes-like object is required, not str (open with element_type=str to write text)")
    view = memoryview(data)
    return view if view.format == "B" and view.ndim == 1 and view.contiguous else memoryview(view.tobytes())


def _address(name: Callable[[], Any]) -> SocketAddress | None:
    address = name()
    return SocketAddress.from_sockaddr(address) if isinstance(address, tuple) else None
