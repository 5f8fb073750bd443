"""Sending a file: by the kernel alone where it can, else piece by piece through the stream.

The kernel's way (Linux's sendfile, plain TCP, a regular file) moves the position of the open file itself, and that is
what is believed: a signal handler that raises may take the count of a system call with it, but not the position.
Elsewhere the file is read and written as any other data. Both leave the file where the stream has taken over from
it, so that calling again goes on.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import IO, TYPE_CHECKING, Any

from .conditions import write_timed_out
from .transport import PlainTransport

if TYPE_CHECKING:
    from .channel import Channel

__all__ = ["send_file"]

AT_ONCE = 1 << 20
"""Bytes per system call, or per read: the full rate (with half as many it is 5% less), and soon over when another
thread closes."""


def send_file(channel: Channel, file: IO[bytes], offset: int | None, count: int | None) -> int:
    """What SocketStream.send_file() does."""
    for name, value in (("offset", offset), ("count", count)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise ValueError(f"{name}={value!r} is not allowed: it must be a whole number, 0 or more, or None")
    channel.check_writable()
    if offset is not None:
        file.seek(offset)
    descriptor = _regular(file)
    transport = channel.transport
    if descriptor is None or not isinstance(transport, PlainTransport) or sys.platform != "linux":
        return _by_reading(channel, file, count)
    start = file.tell()
    file.seek(0, os.SEEK_END)  # which makes a buffered file forget what it has read ahead
    os.lseek(descriptor, start, os.SEEK_SET)
    try:
        _by_the_kernel(channel, transport, descriptor, count)
    finally:
        end = os.lseek(descriptor, 0, os.SEEK_CUR)
        file.seek(0, os.SEEK_END)
        file.seek(end)
    return end - start


def _by_the_kernel(channel: Channel, transport: PlainTransport, descriptor: int, count: int | None) -> None:
    with channel.sending_directly():
        while count is None or count > 0:
            channel.check_writable()
            if channel.overdue():
                raise write_timed_out(channel)
            before = os.lseek(descriptor, 0, os.SEEK_CUR)
            moved = 0
            try:
                sent = transport.send_file(
                    descriptor, AT_ONCE if count is None else min(count, AT_ONCE), channel.limit(channel.write_timeout)
                )
            finally:
                moved = os.lseek(descriptor, 0, os.SEEK_CUR) - before
                channel.sent_directly(moved)
            if sent is None:
                channel.check_writable()
                raise write_timed_out(channel)
            if not moved:
                break  # the end of the file
            if count is not None:
                count -= moved


def _by_reading(channel: Channel, file: IO[bytes], count: int | None) -> int:
    total = 0
    while count is None or total < count:
        piece: Any = file.read(AT_ONCE if count is None else min(count - total, AT_ONCE))
        if isinstance(piece, str):
            raise TypeError(f"file={file!r} is not allowed: it must be opened in binary mode")
        if not piece:
            break
        total += len(piece)
        channel.write(memoryview(piece))
    channel.flush()
    return total


def _regular(file: IO[bytes]) -> int | None:
    """The descriptor of a regular file; None for everything else that can be read."""
    try:
        descriptor = file.fileno()
    except (AttributeError, OSError):
        return None
    binary = not hasattr(file, "encoding")
    return descriptor if binary and stat.S_ISREG(os.fstat(descriptor).st_mode) else None
