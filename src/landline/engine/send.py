"""Accepted bytes that are not sent yet, with exact counts.

What a caller hands over is accepted whole, at once and for good; how much of it has been passed on is
counted to the byte. That is what makes a write timeout a pause: the condition can tell both numbers, and
the rest is still here when flush() is called.

Small pieces are joined in a bytearray, because one send() of a header and a small body beats two, and
beats sendmsg() and MSG_MORE. Large pieces are not copied: they wait as views of the caller's memory until
the call that brought them returns (own()), and only what is left by then is copied.
"""

from __future__ import annotations

__all__ = ["SendBuffer"]

JOIN_UP_TO = 65536
"""Small pieces are joined up to this size; a larger piece follows without being copied."""


class SendBuffer:
    """Payload on its way out. The owner guards it with a lock; nothing here waits.

    Attributes:
        small: pieces joined so far, behind everything queued. A caller that holds the lock may append to it.
        queue: what goes before ``small``, in order.
        sent: payload bytes passed on since the beginning.
    """

    __slots__ = ("_dropped", "queue", "sent", "small")

    def __init__(self) -> None:
        self.small = bytearray()
        self.queue: list[memoryview] = []
        self.sent = 0
        self._dropped = 0

    def __len__(self) -> int:
        return len(self.small) + sum(map(len, self.queue))

    @property
    def accepted(self) -> int:
        """Payload bytes taken over since the beginning, dropped ones included."""
        return self.sent + self._dropped + len(self)

    def accept(self, data: memoryview) -> None:
        """Take over ``data`` (a view of bytes). Mutable memory must not change until own() or until it is sent."""
        room = JOIN_UP_TO - len(self.small)
        if len(data) <= room:
            self.small += data
            return
        if self.small:
            self.small += data[:room]
            data = data[room:]
        self._freeze()
        self.queue.append(data)

    def next(self) -> memoryview | None:
        """The piece to send next; None when everything is sent. It stays the next one until advance()."""
        if not self.queue:
            self._freeze()
        return self.queue[0] if self.queue else None

    def advance(self, count: int) -> memoryview | None:
        """``count`` bytes of the piece that next() gave have been passed on. Returns the piece to send next."""
        self.sent += count
        piece = self.queue[0]
        if count == len(piece):
            del self.queue[0]
            return self.next()
        self.queue[0] = piece[count:]
        return self.queue[0]

    def own(self) -> None:
        """Copy what is left of memory that belongs to callers."""
        self.queue = [piece if type(piece.obj) is bytes else memoryview(bytes(piece)) for piece in self.queue]

    def clear(self) -> None:
        """Drop what is not sent."""
        self._dropped += len(self)
        self.small = bytearray()
        self.queue = []

    def _freeze(self) -> None:
        if self.small:
            self.queue.append(memoryview(self.small))
            self.small = bytearray()
