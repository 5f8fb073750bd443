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
    """Payload on its way out, in the order in which it was accepted. Nothing here waits.

    Any thread may accept; one at a time takes from the front. Appending to ``small`` is one atomic step, for
    which no lock is needed, whatever else is going on; the owner guards everything that changes ``large``. Every
    large piece knows how much came before it, and so its place among the small ones.

    Attributes:
        small: small pieces, joined. The same object for ever and never exported, so that it can always grow.
        large: the other pieces, each with its position: how many bytes had been accepted before it. Small ones
            behind them are joined too (in bytearrays), or each line of a backlog would become a send() of its own.
        sent: payload bytes passed on since the beginning.
    """

    __slots__ = ("_dropped", "_large_size", "large", "sent", "small")

    def __init__(self) -> None:
        self.small = bytearray()
        self.large: list[tuple[int, memoryview | bytearray]] = []
        self.sent = 0
        self._dropped = 0
        self._large_size = 0

    def __len__(self) -> int:
        return len(self.small) + self._large_size

    @property
    def accepted(self) -> int:
        """Payload bytes taken over since the beginning, dropped ones included."""
        # No call between reading ``sent`` and ``small``: whoever changes both must not come between.
        return self.sent + self._dropped + len(self.small) + self._large_size

    def accept(self, data: memoryview) -> None:
        """Take over ``data`` (a view of bytes). Mutable memory must not change until own() or until it is sent."""
        if len(self.small) + len(data) <= JOIN_UP_TO:
            self.small += data
            return
        if not self.large or len(data) > JOIN_UP_TO:
            self.large.append((self.accepted, data))
        elif (joint := self._joint(len(data))) is not None:
            joint += data
        else:
            self.large.append((self.accepted, bytearray(data)))
        self._large_size += len(data)

    def next(self) -> memoryview | bytes | None:
        """The piece to send next, the beginning of a large one joined to small ones; None when everything is sent."""
        if not self.large:
            return bytes(self.small) or None
        position, data = self.large[0]
        joined = position - self.sent - self._dropped
        if joined:
            return b"".join((self.small[:joined], data[: max(0, JOIN_UP_TO - joined)]))
        return bytes(data) if isinstance(data, bytearray) else data

    def advance(self, count: int) -> None:
        """``count`` bytes of the piece that next() gave have been passed on."""
        joined = count
        if self.large:
            position, data = self.large[0]
            joined = min(count, position - self.sent - self._dropped)
            taken = count - joined
            if taken:
                self.large[:1] = [(position + taken, data[taken:])] if taken < len(data) else []
                self._large_size -= taken
        self.sent += count
        del self.small[:joined]

    def own(self) -> None:
        """Copy what is left of memory that belongs to callers, and let go of it: they may change its size too."""
        for index, (position, data) in enumerate(self.large):
            if isinstance(data, memoryview) and type(data.obj) is not bytes:
                self.large[index] = (position, memoryview(bytes(data)))
                data.release()

    def clear(self, keep: int = 0) -> None:
        """Drop what is not sent, but for the first ``keep`` bytes of it."""
        kept = self._front(keep) if keep else b""
        self._dropped += len(self) - len(kept)
        self.small.clear()
        self.small += kept
        self.large = []
        self._large_size = 0

    def _front(self, size: int) -> bytes:
        """The first ``size`` bytes."""
        front = bytearray()
        begin, taken = self.sent + self._dropped, 0
        for position, data in self.large:
            before = taken + position - begin - len(front)  # of the small ones, those in front of this piece
            front += self.small[taken:before]
            front += data
            taken = before
        front += self.small[taken:]
        return bytes(front[:size])

    def _joint(self, size: int) -> bytearray | None:
        """The last piece, if so many bytes may be joined to it: it is ours, and nothing was accepted behind it."""
        position, last = self.large[-1]
        if isinstance(last, bytearray) and len(last) + size <= JOIN_UP_TO and position + len(last) == self.accepted:
            return last
        return None
