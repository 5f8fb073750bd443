"""Common Lisp's functions that write, to socket streams and to Python's own text files.

The stream comes last, and where it is None (or True) standard output is meant, as in Lisp. On a socket characters
are Latin-1, whatever the stream's element type, and integers bytes; only write_byte() insists on a stream of bytes.
What cannot be written raises before anything is.

Source: LispWorks manual, socket-stream (mixing), open-tcp-stream (example); ANSI Common Lisp 21.2.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from ..errors import SocketError
from ..sync.stream import SocketStream
from .conditions import about
from .format import formatted
from .keywords import checked_bounds
from .reading import element_type_of
from .socket_stream import Opened

__all__ = [
    "clear_output",
    "close",
    "finish_output",
    "force_output",
    "format_",
    "open_stream_p",
    "terpri",
    "with_open_stream",
    "write_byte",
    "write_char",
    "write_line",
    "write_sequence",
    "write_string",
]

Destination: TypeAlias = Any
"""A socket stream, a text file of Python's, or None or True: standard output."""


def write_char(character: str, stream: Destination = None) -> str:
    """Write one character, which is also the result.

    Source: ANSI Common Lisp, write-char.
    """
    if not isinstance(character, str) or len(character) != 1:
        raise TypeError(f"character={character!r} is not allowed: it must be a str of one character")
    _write(character, stream)
    return character


def write_string(string: str, stream: Destination = None, *, start: int = 0, end: int | None = None) -> str:
    """Write ``string``, or the part of it from ``start`` to ``end``. Returns ``string``.

    Source: ANSI Common Lisp, write-string.
    """
    _write(_part(string, start, end), stream)
    return string


def write_line(string: str, stream: Destination = None, *, start: int = 0, end: int | None = None) -> str:
    """The same, and a newline (LF).

    Source: ANSI Common Lisp, write-line.
    """
    _write(_part(string, start, end) + "\n", stream)
    return string


def terpri(stream: Destination = None) -> None:
    """Write a newline (LF).

    Source: ANSI Common Lisp, terpri.
    """
    _write("\n", stream)


def write_byte(byte: int, stream: SocketStream) -> int:
    """Write one byte to a stream of bytes; on one of "signed-byte" from -128 to 127. Returns it.

    Raises:
        TypeError, ValueError: the stream is one of characters; ``byte`` is none.

    Source: ANSI Common Lisp, write-byte; LispWorks manual, socket-stream.
    """
    kind = element_type_of(stream)
    if kind == "base-char":
        raise TypeError(f"write_byte() needs a stream of bytes, and this is one of characters: {stream!r}")
    data = _octets([byte], kind, "byte")
    with about(stream):
        stream.write(data)
    return byte


def write_sequence(
    sequence: Sequence[Any], stream: Destination = None, *, start: int = 0, end: int | None = None
) -> Sequence[Any]:
    """Write the elements of ``sequence``: a str, bytes, or a list of characters and integers. Returns ``sequence``.

    Source: ANSI Common Lisp, write-sequence.
    """
    if isinstance(sequence, str):
        return write_string(sequence, stream, start=start, end=end)
    start, end = checked_bounds(sequence, start, end)
    if not isinstance(stream, SocketStream):
        _write("".join(map(_character, sequence[start:end])), stream)
        return sequence
    if isinstance(sequence, (bytes, bytearray, memoryview, array)):
        with memoryview(sequence) as view:
            if view.itemsize != 1:
                raise TypeError("sequence is not allowed: its elements are not bytes")
            data = bytes(view[start:end])
    else:
        data = _octets(sequence[start:end], element_type_of(stream), "sequence")
    with about(stream):
        stream.write(data)
    return sequence


def format_(destination: Destination, control_string: str, *arguments: Any) -> str | None:
    """Write ``arguments`` as ``control_string`` says (format.py has its directives).

    Args:
        destination: None (or False) gives the text as the result; True is standard output; a stream.

    Source: ANSI Common Lisp, format. (The name has an underscore because Python has a format of its own.)
    """
    text = formatted(control_string, arguments)
    if destination is None or destination is False:
        return text
    _write(text, destination)
    return None


def force_output(stream: Destination = None) -> None:
    """Send what was written.

    Raises:
        WriteTimeout: not all of it could be sent in time; force_output() again goes on.

    Source: ANSI Common Lisp, force-output.
    """
    destination = _destination(stream)
    if isinstance(destination, SocketStream):
        with about(destination):
            destination.flush()
    else:
        destination.flush()


finish_output = force_output


def clear_output(stream: SocketStream) -> None:
    """Forget what was written and has not been sent. Over TLS what is encrypted already is sent nevertheless.

    Raises:
        ValueError: another thread is writing.

    Source: ANSI Common Lisp, clear-output.
    """
    destination = _destination(stream)
    if isinstance(destination, SocketStream):
        with about(destination):
            destination._channel.drop_output()


def close(stream: Any, *, abort: object = False) -> bool:
    """Send what was written, and close. With ``abort`` drop it, and reset the connection. True if it was open.

    Source: ANSI Common Lisp, close.
    """
    was_open = not stream.closed
    if not isinstance(stream, SocketStream):
        stream.close()
    elif abort:
        stream.abort()
    else:
        with about(stream):
            stream.close()
    return was_open


def open_stream_p(stream: Any) -> bool:
    """Nobody has closed it.

    Source: ANSI Common Lisp, open-stream-p.
    """
    return not stream.closed


@contextmanager
def with_open_stream(stream: SocketStream | Opened) -> Iterator[Any]:
    """``with with_open_stream(open_tcp_stream(...)) as http:`` closes at the end; with ``abort`` after an exception.

    Raises:
        SocketError: opening has failed; also, where there is no exception already, what close() raises.

    Source: ANSI Common Lisp, with-open-stream.
    """
    if isinstance(stream, Opened):
        if stream.stream is None:
            assert isinstance(stream.condition, SocketError)
            raise stream.condition
        stream = stream.stream
    try:
        yield stream
    except BaseException:
        close(stream, abort=True)
        raise
    close(stream)


def _destination(stream: Destination) -> Any:
    if stream is None or stream is True:
        return sys.stdout
    if isinstance(stream, SocketStream) or callable(getattr(stream, "write", None)):
        return stream
    raise TypeError(f"stream={stream!r} is not allowed: it must be a socket_stream, a text file, or None")


def _write(text: str, stream: Destination) -> None:
    destination = _destination(stream)
    if not isinstance(destination, SocketStream):
        destination.write(text)
        return
    with about(destination):
        destination.write(text.encode("latin-1"))


def _part(string: str, start: int, end: int | None) -> str:
    if not isinstance(string, str):
        raise TypeError(f"string={string!r} is not allowed: it must be a str")
    start, end = checked_bounds(string, start, end)
    return string[start:end]


def _octets(elements: Sequence[Any], kind: str, what: str) -> bytes:
    least, most = (-128, 127) if kind == "signed-byte" else (0, 255)
    made = bytearray()
    for element in elements:
        if isinstance(element, str) and len(element) == 1 and what != "byte":
            made += element.encode("latin-1")
        elif isinstance(element, bool) or not isinstance(element, int):
            raise TypeError(f"{what} is not allowed: {element!r} is no byte")
        elif not least <= element <= most:
            raise ValueError(f"{what} is not allowed: {element} is no byte from {least} to {most}")
        else:
            made.append(element & 0xFF)
    return bytes(made)


def _character(element: Any) -> str:
    return element if isinstance(element, str) else chr(element)
