"""Common Lisp's functions that read, for socket streams.

Characters and bytes mix: a character is the byte with its code (Latin-1), whatever the stream's element type. Only
read_byte() insists on a stream of bytes. Where these functions find the end of the stream they signal EndOfFile, or
give ``eof_value`` if ``eof_error_p`` is false. A read that timed out counts as the end too, unless the stream's
``read_timeout_action`` says otherwise; nothing is lost, and the next call finds what came meanwhile. A line that is
not complete by then is kept for the next call as well: to hand out half of one is how a timeout loses data.

Source: LispWorks manual, socket-stream (read-timeout, mixing); ANSI Common Lisp 21.2.
"""

from __future__ import annotations

from array import array
from collections.abc import MutableSequence
from typing import Any, NamedTuple, TypeVar

from ..errors import ReadTimeout
from ..sync.stream import SocketStream
from .conditions import EndOfFile, about, checked_stream
from .keywords import checked_bounds

__all__ = [
    "Line",
    "clear_input",
    "element_type_of",
    "listen",
    "peek_char",
    "read_byte",
    "read_char",
    "read_char_no_hang",
    "read_line",
    "read_sequence",
    "stream_element_type",
    "unread_char",
]

T = TypeVar("T")

WHITE_SPACE = b"\t\n\f\r \x7f"
"""What peek_char() passes over: ANSI Common Lisp, figure 2-7."""

MOST_PIECES = 1024
"""Pieces of 64 KiB that clear_input() forgets: more than has come when it begins, and an end with a peer that
floods."""


class Line(NamedTuple):
    """What read_line() gives.

    Attributes:
        line: its characters, without the newline; or the eof_value.
        missing_newline_p: no newline was behind it, because the stream ended.
    """

    line: Any
    missing_newline_p: bool


def read_char(
    stream: SocketStream, eof_error_p: object = True, eof_value: Any = None, recursive_p: object = None
) -> Any:
    """The next character; waits until there is one. ``recursive_p`` changes nothing.

    Raises:
        EndOfFile: there is none, and ``eof_error_p`` is true.
        SocketIOError, SslCondition: the connection failed.

    Source: ANSI Common Lisp, read-char.
    """
    data = _read_one(stream)
    return data.decode("latin-1") if isinstance(data, bytes) else _end(stream, eof_error_p, eof_value, data)


def read_char_no_hang(
    stream: SocketStream, eof_error_p: object = True, eof_value: Any = None, recursive_p: object = None
) -> Any:
    """The next character if it has come; None if not; at the end as read_char().

    Source: ANSI Common Lisp, read-char-no-hang.
    """
    with about(checked_stream(stream)):
        data = stream.read_no_hang(1)
    if data is None:
        return None
    return data.decode("latin-1") if data else _end(stream, eof_error_p, eof_value)


def unread_char(character: str, stream: SocketStream) -> None:
    """Put ``character`` back: it is read next. Several may be put back, the last one is read first.

    Source: ANSI Common Lisp, unread-char.
    """
    if not isinstance(character, str) or len(character) != 1:
        raise TypeError(f"character={character!r} is not allowed: it must be a str of one character")
    with about(checked_stream(stream)):
        stream.unread(character.encode("latin-1"))


def peek_char(
    peek_type: str | bool | None,
    stream: SocketStream,
    eof_error_p: object = True,
    eof_value: Any = None,
    recursive_p: object = None,
) -> Any:
    """The next character, which is left to be read.

    Args:
        peek_type: None or False: the next one; True: white space is passed over first; a character: everything
            before it is.

    Source: ANSI Common Lisp, peek-char.
    """
    if not (peek_type is None or isinstance(peek_type, bool) or (isinstance(peek_type, str) and len(peek_type) == 1)):
        raise TypeError(f"peek_type={peek_type!r} is not allowed: it must be None, True or a character")
    while True:
        data = _read_one(stream)
        if not isinstance(data, bytes):
            return _end(stream, eof_error_p, eof_value, data)
        character = data.decode("latin-1")
        passed_over = data in WHITE_SPACE if peek_type is True else bool(peek_type) and character != peek_type
        if not passed_over:
            stream.unread(data)
            return character


def listen(stream: SocketStream) -> bool:
    """A character has come, and can be read without waiting. False at the end of the stream.

    Source: ANSI Common Lisp, listen.
    """
    with about(checked_stream(stream)):
        data = stream.read_no_hang(1)
        if data:
            stream.unread(data)
    return bool(data)


def read_line(
    stream: SocketStream, eof_error_p: object = True, eof_value: Any = None, recursive_p: object = None
) -> Line:
    """The next line, up to a newline (LF; a CR before it belongs to the line), and whether the newline is missing.

    Raises:
        EndOfFile: nothing is left, and ``eof_error_p`` is true.
        LimitOverrun: no newline within the stream's ``line_limit``; nothing was consumed.
        SocketIOError, SslCondition: the connection failed.

    Differs: at a read timeout an incomplete line is kept for the next call, and not given with a missing newline.

    Source: ANSI Common Lisp, read-line.
    """
    try:
        with about(checked_stream(stream)):
            data = stream.readline()
    except ReadTimeout as timeout:
        return Line(_end(stream, eof_error_p, eof_value, _taken_for_the_end(stream, timeout)), True)
    if data.endswith(b"\n"):
        return Line(data[:-1].decode("latin-1"), False)
    return Line(data.decode("latin-1") if data else _end(stream, eof_error_p, eof_value), True)


def read_sequence(
    sequence: MutableSequence[Any], stream: SocketStream, *, start: int = 0, end: int | None = None
) -> int:
    """Fill ``sequence`` from ``start`` to ``end``. Returns the index behind the last element that was read.

    That is less than ``end`` at the end of the stream only, or when a read timed out: what had come by then is in the
    sequence.

    Args:
        sequence: a list gets the stream's elements, characters or integers; a bytearray, memoryview of bytes or
            array("B") gets bytes and an array("b") signed ones, from any stream.

    Source: ANSI Common Lisp, read-sequence.
    """
    start, end = checked_bounds(sequence, start, end)
    if isinstance(sequence, list):
        data = bytearray(end - start)
        count = _read_into(memoryview(data), stream)
        sequence[start : start + count] = _elements(bytes(data[:count]), element_type_of(stream))
        return start + count
    if not isinstance(sequence, (bytearray, memoryview, array)):
        raise TypeError(
            f"sequence is not allowed: a {type(sequence).__name__} cannot be filled (a list or bytearray can)"
        )
    with memoryview(sequence) as view:
        if view.readonly or view.itemsize != 1:
            raise TypeError("sequence is not allowed: it must have bytes, and be open to change")
        with view.cast("B") as octets:
            return start + _read_into(octets[start:end], stream)


def read_byte(stream: SocketStream, eof_error_p: object = True, eof_value: Any = None) -> Any:
    """The next byte of a stream of bytes, as an integer; a negative one too if it is of "signed-byte".

    Raises:
        TypeError: the stream is one of characters.
        EndOfFile, SocketIOError, SslCondition: as read_char().

    Source: ANSI Common Lisp, read-byte; LispWorks manual, socket-stream.
    """
    kind = element_type_of(stream)
    if kind == "base-char":
        raise TypeError(f"read_byte() needs a stream of bytes, and this is one of characters: {stream!r}")
    data = _read_one(stream)
    if not isinstance(data, bytes):
        return _end(stream, eof_error_p, eof_value, data)
    return int.from_bytes(data, "big", signed=kind == "signed-byte")


def clear_input(stream: SocketStream) -> None:
    """Forget what has come and was not read.

    Source: ANSI Common Lisp, clear-input.
    """
    with about(checked_stream(stream)):
        for _ in range(MOST_PIECES):
            if not stream.read_no_hang():
                break


def stream_element_type(stream: SocketStream) -> str:
    """ "base-char", "unsigned-byte" or "signed-byte".

    Source: ANSI Common Lisp, stream-element-type.
    """
    return element_type_of(stream)


def element_type_of(stream: object) -> str:
    """The element type; "base-char" for landline's own byte streams, which have none. Raises TypeError."""
    return str(getattr(checked_stream(stream), "element_type", "base-char"))


def _read_one(stream: SocketStream) -> bytes | ReadTimeout | None:
    """A byte; None at the end, or the timeout that counts as one."""
    try:
        with about(checked_stream(stream)):
            return stream.read(1) or None
    except ReadTimeout as timeout:
        return _taken_for_the_end(stream, timeout)


def _read_into(view: memoryview, stream: SocketStream) -> int:
    count = 0
    try:
        with about(checked_stream(stream)):
            while count < len(view) and (more := stream.readinto1(view[count:])):
                count += more
    except ReadTimeout as timeout:
        try:
            _taken_for_the_end(stream, timeout)
        except ReadTimeout:
            stream.unread(view[:count])
            raise
    return count


def _taken_for_the_end(stream: SocketStream, timeout: ReadTimeout) -> ReadTimeout:
    """``timeout``, unless it is to be signalled."""
    action = getattr(stream, "read_timeout_action", "end-of-file")
    if action == "error":
        raise timeout
    if action != "end-of-file":
        raise ValueError(f"read_timeout_action={action!r} is not allowed: it must be 'end-of-file' or 'error'")
    return timeout


def _end(stream: SocketStream, eof_error_p: object, eof_value: T, timeout: ReadTimeout | None = None) -> T:
    if eof_error_p:
        raise EndOfFile(stream) from timeout
    return eof_value


def _elements(data: bytes, kind: str) -> list[Any]:
    if kind == "base-char":
        return list(data.decode("latin-1"))
    return list(data) if kind == "unsigned-byte" else array("b", data).tolist()
