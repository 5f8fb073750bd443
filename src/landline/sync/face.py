"""What byte and text streams have in common: clocks, facts and ends, all of them the channel's.

A mixin over one attribute, ``_channel``. It has no state of its own.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from ..address import SocketAddress
from ..deadline import Deadline, checked_timeout
from ..report import ConnectionReport
from .channel import Channel
from .flow import Direction, checked_direction

if TYPE_CHECKING:
    from typing import Self

__all__ = ["StreamDeadline", "StreamFace"]


class StreamFace:
    """The part of a stream that does not depend on what its elements are."""

    __slots__ = ()

    _channel: Channel

    # Clocks

    def deadline(self, seconds: float | None) -> StreamDeadline:
        """``with stream.deadline(seconds):`` bounds everything inside, a peer that drips included.

        It belongs to the stream, and so to every call that any thread begins inside it; the earliest of nested
        deadlines wins. When it has passed, whatever would receive raises ReadTimeout and whatever would send
        WriteTimeout, also if it need not wait, or a peer that floods us would never be left; and nothing is lost.
        """
        return StreamDeadline(self._channel, checked_timeout(seconds, "seconds"))

    @property
    def read_timeout(self) -> float | None:
        """Seconds without anything received before ReadTimeout; None is no limit, 0 does not wait."""
        return self._channel.read_timeout

    @read_timeout.setter
    def read_timeout(self, seconds: float | None) -> None:
        self._channel.read_timeout = checked_timeout(seconds, "read_timeout")

    @property
    def write_timeout(self) -> float | None:
        """Seconds without anything sent before WriteTimeout; None is no limit, 0 does not wait."""
        return self._channel.write_timeout

    @write_timeout.setter
    def write_timeout(self, seconds: float | None) -> None:
        self._channel.write_timeout = checked_timeout(seconds, "write_timeout")

    # Facts

    @property
    def local_address(self) -> SocketAddress | None:
        """This end's address and port, also after close()."""
        return self._channel.local_address

    @property
    def peer_address(self) -> SocketAddress | None:
        """The peer's address and port, also after close()."""
        return self._channel.peer_address

    @property
    def report(self) -> ConnectionReport | None:
        """What was tried to open this connection; None when landline did not open it."""
        return self._channel.report

    @property
    def bytes_received(self) -> int:
        """Payload bytes received since the stream opened, those not read yet included."""
        return self._channel.bytes_received

    @property
    def bytes_sent(self) -> int:
        """Payload bytes handed to the operating system since the stream opened."""
        return self._channel.sending.sent

    @property
    def direction(self) -> Direction:
        return self._channel.direction

    # Ending

    def shutdown(self, direction: Direction, abort: bool = False) -> None:
        """End one direction, or both, of the connection. The descriptor stays: close() as well.

        Args:
            direction: "input": what is buffered can still be read, then reads raise StreamClosed.
                "output": what is pending is sent first, the peer sees the end, and reading goes on.
            abort: drop what is buffered, in both directions, instead (for "output" and "io"; not while another
                thread reads).

        Raises:
            WriteTimeout: not everything could be sent; nothing was shut down.

        Source: LispWorks manual, socket-stream-shutdown.
        """
        checked_direction(direction)
        if direction != "input":
            if abort:
                self._drop_input()
            self._channel.shutdown_output(abort=abort)
        if direction != "output":
            self._channel.shutdown_input()

    def close(self) -> None:
        """Send what is pending (within write_timeout, at most 5 s), then release the descriptor in any case.

        A thread that is blocked in a read gets StreamClosed. So does one that is blocked in a write, and the
        rest of its data is dropped: it would have had to wait for it too.

        Raises:
            WriteTimeout, SocketIOError: not everything could be sent. The stream is closed nevertheless.
        """
        self._channel.close()

    def abort(self) -> None:
        """Drop everything at once and reset the connection. Blocked threads get StreamClosed. Never raises."""
        self._channel.abort()

    def __enter__(self) -> Self:
        self._channel.check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _drop_input(self) -> None:
        """Forget what was received and not read."""
        self._channel.check_open()
        self._channel.received.clear()

    @property
    def closed(self) -> bool:
        return self._channel.closed

    @property
    def name(self) -> int:
        """The descriptor, -1 when closed: what files without a path are called (io.TextIOWrapper asks)."""
        return -1 if self._channel.closed else self._channel.fileno()

    def fileno(self) -> int:
        """The socket's descriptor, for select() and the like. Do not read from or write to it."""
        return self._channel.fileno()

    def readable(self) -> bool:
        self._channel.check_open()
        return self._channel.direction != "output"

    def writable(self) -> bool:
        self._channel.check_open()
        return self._channel.direction != "input"

    def seekable(self) -> bool:
        self._channel.check_open()
        return False

    def isatty(self) -> bool:
        self._channel.check_open()
        return False


class StreamDeadline:
    """What stream.deadline() gives: enter it to start the clock. It may be entered again, also inside itself."""

    __slots__ = ("_channel", "_entered", "_seconds")

    def __init__(self, channel: Channel, seconds: float | None) -> None:
        self._channel = channel
        self._seconds = seconds
        self._entered: list[Deadline] = []

    def __enter__(self) -> Self:
        deadline = Deadline.after(self._seconds)
        self._entered.append(deadline)
        self._channel.push_deadline(deadline)
        return self

    def __exit__(self, *error: object) -> None:
        self._channel.pop_deadline(self._entered.pop())
