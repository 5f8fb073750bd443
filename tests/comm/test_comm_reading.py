"""comm's functions that read: the end, time limits, what mixes with what.

(All of them together are in test_comm_reading_model.py.)

Sources: ANSI Common Lisp 21.2; LispWorks manual, socket-stream (read-timeout; characters and bytes).
"""

from __future__ import annotations

import socket
from array import array
from collections.abc import Callable
from typing import Any

import pytest
from lisp_pairs import (
    ALL_BYTES,
    BYTE_STREAMS,
    ELEMENT_TYPES,
    arrived,
    near_and_far,
    secure_near_and_far,
)

from landline import LimitOverrun, ReadTimeout, SocketStream, comm
from landline.testing.contract.stage import PATIENCE, Task, until

pytestmark = pytest.mark.usefixtures("quick_leak_checks")

no_leaks = pytest.mark.usefixtures("no_leaks")

BRIEF = 0.02
"""Seconds: a read_timeout that is meant to pass."""

Reading = Callable[..., Any]

AT_THE_END: dict[str, Reading] = {
    "read_char": comm.read_char,
    "read_char_no_hang": comm.read_char_no_hang,
    "read_line": lambda *arguments: comm.read_line(*arguments).line,
    "read_byte": comm.read_byte,
    "peek_char": lambda *arguments: comm.peek_char(None, *arguments),
    "peek_char t": lambda *arguments: comm.peek_char(True, *arguments),
    "peek_char z": lambda *arguments: comm.peek_char("z", *arguments),
}
"""Those that take eof_error_p and eof_value."""

WAITING = {name: read for name, read in AT_THE_END.items() if name != "read_char_no_hang"}

each_function = pytest.mark.parametrize("read", AT_THE_END.values(), ids=list(AT_THE_END))
each_that_waits = pytest.mark.parametrize("read", WAITING.values(), ids=list(WAITING))
each_element_type = pytest.mark.parametrize("kind", ELEMENT_TYPES)


def ended(far: socket.socket, data: bytes = b"") -> None:
    far.sendall(data)
    far.shutdown(socket.SHUT_WR)


# ---- the end -----------------------------------------------------------------------------------------------


@no_leaks
@each_function
def test_the_end_is_an_error_unless_eof_error_p_is_false(read: Reading) -> None:
    with near_and_far(element_type=bytes) as (stream, far):
        ended(far)
        until(stream.input_ready)
        for arguments in ((), (True,), ("yes", "value")):
            with pytest.raises(comm.EndOfFile, match="end of file on <SocketStream") as caught:
                read(stream, *arguments)
            assert isinstance(caught.value, EOFError)
            assert caught.value.stream is stream
            assert caught.value.__cause__ is None
        marker = object()
        assert read(stream, False, marker) is marker
        assert read(stream, None, "eof") == "eof"
        assert read(stream, None) is None


@no_leaks
def test_read_line_says_that_the_newline_is_missing() -> None:
    with near_and_far() as (stream, far):
        ended(far, b"whole\r\n\nhalf")
        assert comm.read_line(stream) == ("whole\r", False)
        assert comm.read_line(stream) == ("", False)
        line, missing_newline_p = comm.read_line(stream)
        assert (line, missing_newline_p) == ("half", True)
        assert comm.read_line(stream, None, "eof") == ("eof", True)


@no_leaks
def test_read_sequence_gives_less_at_the_end_only() -> None:
    with near_and_far() as (stream, far):
        sequence = list("........")
        filling = Task(lambda: comm.read_sequence(sequence, stream, start=2))
        far.sendall(b"ab")
        until(lambda: arrived(stream) == 2)
        filling.blocked()
        ended(far, b"c")
        assert filling.result() == 5
        assert "".join(sequence) == "..abc..."
        assert comm.read_sequence(sequence, stream) == 0
        assert comm.read_sequence(sequence, stream, start=3, end=3) == 3


# ---- a read that times out ends, and loses nothing ---------------------------------------------------------


@no_leaks
@each_that_waits
def test_a_timeout_counts_as_the_end(read: Reading) -> None:
    with near_and_far(element_type=bytes, read_timeout=BRIEF) as (stream, far):
        with pytest.raises(comm.EndOfFile) as caught:
            read(stream)
        assert isinstance(caught.value.__cause__, ReadTimeout)
        assert read(stream, None, "eof") == "eof"
        stream.read_timeout = PATIENCE
        far.sendall(b"z\n")
        assert read(stream, None, "eof") in ("z", ord("z"))


@no_leaks
def test_read_char_no_hang_does_not_end_at_a_timeout() -> None:
    with near_and_far(read_timeout=BRIEF) as (stream, far):
        assert comm.read_char(stream, None, "eof") == "eof"
        assert comm.read_char_no_hang(stream) is None
        far.sendall(b"x")
        until(stream.input_ready)
        assert comm.read_char_no_hang(stream) == "x"


@no_leaks
def test_half_a_line_is_kept_at_a_timeout() -> None:
    """To hand it out with a missing newline is what the letter says; the other half would then be a line."""
    with near_and_far(read_timeout=BRIEF) as (stream, far):
        far.sendall(b"half a ")
        assert comm.read_line(stream, None, "eof") == ("eof", True)
        with pytest.raises(comm.EndOfFile):
            comm.read_line(stream)
        far.sendall(b"line\nnext")
        stream.read_timeout = PATIENCE
        assert comm.read_line(stream) == ("half a line", False)
        stream.read_timeout = BRIEF
        assert comm.read_line(stream, None) == (None, True)
        assert comm.read_char(stream) == "n"


@no_leaks
def test_read_sequence_gives_what_had_come_at_a_timeout_and_goes_on() -> None:
    with near_and_far(read_timeout=BRIEF) as (stream, far):
        buffer = bytearray(b"........")
        far.sendall(b"abc")
        assert comm.read_sequence(buffer, stream, start=1) == 4
        assert buffer == b".abc...."
        assert comm.read_sequence(buffer, stream, start=4) == 4
        far.sendall(b"defghi")
        stream.read_timeout = PATIENCE
        assert comm.read_sequence(buffer, stream, start=4) == 8
        assert buffer == b".abcdefg"
        assert comm.read_char(stream) == "h"


@no_leaks
@each_that_waits
@pytest.mark.parametrize("where", ["stream", "subclass", "every stream"])
def test_read_timeout_action_error_raises_instead(read: Reading, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Strict(comm.SocketStream):
        read_timeout_action = "error" if where == "subclass" else comm.SocketStream.read_timeout_action

    with near_and_far(Strict, element_type=bytes, read_timeout=BRIEF) as (stream, far):
        if where == "stream":
            stream.read_timeout_action = "error"
        if where == "every stream":
            monkeypatch.setattr(comm.SocketStream, "read_timeout_action", "error")
            monkeypatch.delattr(Strict, "read_timeout_action")
        with pytest.raises(ReadTimeout):
            read(stream, None, "eof")
        far.sendall(b"z\n")
        assert read(stream, None, "eof") in ("z", ord("z"))


@no_leaks
def test_read_sequence_has_taken_nothing_when_its_timeout_is_an_error() -> None:
    with near_and_far(read_timeout=BRIEF) as (stream, far):
        stream.read_timeout_action = "error"
        far.sendall(b"abc")
        for sequence in ([None] * 5, bytearray(5)):
            with pytest.raises(ReadTimeout):
                comm.read_sequence(sequence, stream)
        far.sendall(b"de")
        whole = [None] * 5
        assert comm.read_sequence(whole, stream) == 5
        assert whole == list("abcde")


@no_leaks
def test_another_read_timeout_action_is_refused() -> None:
    with near_and_far(read_timeout=BRIEF) as (stream, _far):
        stream.read_timeout_action = "ignore"  # type: ignore[assignment]
        with pytest.raises(ValueError, match="read_timeout_action='ignore' is not allowed"):
            comm.read_char(stream)


@no_leaks
def test_a_line_beyond_the_limit_is_an_error_and_stays() -> None:
    with near_and_far() as (stream, far):
        stream.line_limit = 4
        far.sendall(b"abcdefg\n")
        with pytest.raises(LimitOverrun) as caught:
            comm.read_line(stream, None)
        assert comm.socket_error_connection(caught.value) is stream
        stream.line_limit = 100
        assert comm.read_line(stream).line == "abcdefg"


# ---- characters and bytes mix ------------------------------------------------------------------------------


@no_leaks
@each_element_type
def test_a_character_is_the_byte_with_its_code(kind: str) -> None:
    """code-char and char-code, whatever the element type."""
    with near_and_far(element_type=kind) as (stream, far):
        far.sendall(ALL_BYTES)
        for code in range(256):
            peeked = comm.peek_char(None, stream)
            read = comm.read_char if code % 2 else comm.read_char_no_hang
            assert peeked == read(stream) == chr(code)


@no_leaks
@each_element_type
def test_lines_are_of_characters_on_any_stream(kind: str) -> None:
    with near_and_far(element_type=kind) as (stream, far):
        far.sendall(ALL_BYTES + b"\n")
        assert comm.read_line(stream) == ("".join(map(chr, range(10))), False)
        assert comm.read_line(stream) == ("".join(map(chr, range(11, 256))), False)


LIST_OF: dict[str, Any] = {
    "base-char": [chr(code) for code in range(256)],
    "unsigned-byte": list(range(256)),
    "signed-byte": [*range(128), *range(-128, 0)],
}


@no_leaks
@each_element_type
def test_read_sequence_fills_a_list_with_the_streams_elements(kind: str) -> None:
    with near_and_far(element_type=kind) as (stream, far):
        far.sendall(ALL_BYTES)
        sequence: list[Any] = [None] * 256
        assert comm.read_sequence(sequence, stream) == 256
        assert sequence == LIST_OF[kind]


@no_leaks
@each_element_type
@pytest.mark.parametrize(
    ("sequence", "filled"),
    [
        (bytearray(256), bytearray(ALL_BYTES)),
        (memoryview(bytearray(256)), memoryview(ALL_BYTES)),
        (array("B", bytes(256)), array("B", ALL_BYTES)),
        (array("b", bytes(256)), array("b", LIST_OF["signed-byte"])),
        (memoryview(array("b", bytes(256))), memoryview(array("b", LIST_OF["signed-byte"]))),
    ],
    ids=["bytearray", "memoryview", "array B", "array b", "memoryview b"],
)
def test_read_sequence_fills_buffers_with_bytes_from_any_stream(kind: str, sequence: Any, filled: Any) -> None:
    with near_and_far(element_type=kind) as (stream, far):
        far.sendall(ALL_BYTES)
        assert comm.read_sequence(sequence, stream) == 256
        assert sequence == filled


@no_leaks
def test_read_byte_is_for_streams_of_bytes_only() -> None:
    with near_and_far() as (stream, far), SocketStream(far.dup()) as landlines:
        far.sendall(b"x")
        for each in (stream, landlines):
            with pytest.raises(TypeError, match="needs a stream of bytes"):
                comm.read_byte(each)
        assert comm.read_char(stream) == "x"


@no_leaks
@pytest.mark.parametrize("kind", BYTE_STREAMS)
def test_read_byte_gives_integers_signed_ones_of_signed_byte(kind: str) -> None:
    with near_and_far(element_type=kind) as (stream, far):
        far.sendall(ALL_BYTES)
        assert [comm.read_byte(stream) for _ in range(256)] == LIST_OF[kind]


@no_leaks
def test_a_plain_stream_of_landlines_is_one_of_characters() -> None:
    with near_and_far() as (stream, far), SocketStream(far.dup()) as landlines:
        comm.write_line("caf\xe9", stream)
        comm.force_output(stream)
        landlines.read_timeout = PATIENCE
        assert comm.stream_element_type(landlines) == "base-char"
        assert comm.read_line(landlines).line == "caf\xe9"


@no_leaks
@each_element_type
def test_stream_element_type(kind: str) -> None:
    with near_and_far(element_type=kind) as (stream, _far):
        assert comm.stream_element_type(stream) == kind


# ---- looking ahead -----------------------------------------------------------------------------------------


@no_leaks
def test_peek_char_passes_over_what_its_type_says() -> None:
    with near_and_far() as (stream, far):
        far.sendall(b" \t\n\r\f x yz\xff\n")
        assert comm.peek_char(None, stream) == " "
        assert comm.peek_char(False, stream) == " "
        assert comm.peek_char(True, stream) == "x"
        assert comm.peek_char(True, stream) == "x"
        assert comm.peek_char("x", stream) == "x"
        assert comm.peek_char("z", stream) == "z"
        assert comm.peek_char("\xff", stream) == "\xff"
        assert comm.peek_char("\n", stream) == "\n"
        assert comm.read_line(stream) == ("", False)


@no_leaks
@pytest.mark.parametrize("peek_type", ["", "ab", b"a", 1, 0, 1.0, ("a",)])
def test_another_peek_type_is_refused_and_takes_nothing(peek_type: Any) -> None:
    with near_and_far(read_timeout=BRIEF) as (stream, far):
        far.sendall(b"x")
        with pytest.raises(TypeError, match="peek_type="):
            comm.peek_char(peek_type, stream)
        assert comm.read_char(stream) == "x"


@no_leaks
def test_listen_tells_a_character_from_nothing_and_from_the_end() -> None:
    with near_and_far() as (stream, far):
        assert comm.listen(stream) is False
        far.sendall(b"x")
        until(lambda: comm.listen(stream))
        assert comm.listen(stream) is True
        assert comm.read_char(stream) == "x"
        assert comm.listen(stream) is False
        ended(far)
        until(stream.input_ready)
        assert comm.listen(stream) is False


@no_leaks
def test_over_tls_listen_is_about_characters_and_not_about_records() -> None:
    """The tickets that TLS 1.3 sends behind the handshake make the descriptor readable, and nothing else."""
    with secure_near_and_far() as (stream, far):
        until(lambda: arrived_sealed(stream))
        assert comm.listen(stream) is False
        assert comm.read_char_no_hang(stream) is None
        far.sendall(b"x")
        until(lambda: comm.listen(stream))
        assert comm.read_char_no_hang(stream) == "x"


def arrived_sealed(stream: comm.SocketStream) -> bool:
    return arrived(stream) > stream.bytes_received


@no_leaks
def test_unread_char_may_be_repeated_and_the_last_is_read_first() -> None:
    with near_and_far(element_type=bytes) as (stream, far):
        ended(far, b"d")
        for character in "cba":
            comm.unread_char(character, stream)
        comm.unread_char("\xff", stream)
        assert comm.read_byte(stream) == 255
        sequence = [None] * 5
        assert comm.read_sequence(sequence, stream) == 4
        comm.unread_char("e", stream)
        assert comm.read_line(stream) == ("e", True)


@no_leaks
def test_what_cannot_be_unread_is_refused() -> None:
    with near_and_far(read_timeout=BRIEF) as (stream, _far):
        for wrong in ("", "ab", b"a", 97, None):
            with pytest.raises(TypeError, match="character="):
                comm.unread_char(wrong, stream)  # type: ignore[arg-type]
        with pytest.raises(UnicodeEncodeError):
            comm.unread_char("\u0100", stream)
        assert comm.read_char(stream, None, "eof") == "eof"


@no_leaks
def test_clear_input_forgets_what_has_come() -> None:
    with near_and_far() as (stream, far):
        far.sendall(bytes(100_000))
        comm.unread_char("x", stream)
        until(lambda: arrived(stream) == 100_000)
        comm.clear_input(stream)
        assert not comm.listen(stream)
        ended(far, b"new")
        assert comm.read_line(stream) == ("new", True)
        comm.clear_input(stream)


# ---- wrong arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [None, True, 5, "stream"])
def test_only_socket_streams_are_read(stream: Any) -> None:
    calls: list[Callable[[], object]] = [
        *(lambda read=read: read(stream) for read in AT_THE_END.values()),
        lambda: comm.listen(stream),
        lambda: comm.clear_input(stream),
        lambda: comm.unread_char("x", stream),
        lambda: comm.read_sequence([None], stream),
        lambda: comm.stream_element_type(stream),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="must be a socket_stream"):
            call()


@no_leaks
@pytest.mark.parametrize(
    "sequence",
    [
        "text",
        b"bytes",
        (1, 2),
        array("i", [0, 0]),
        memoryview(b"read only"),
        memoryview(array("H", [0, 0])),
    ],
    ids=["str", "bytes", "tuple", "array i", "read only", "memoryview H"],
)
def test_a_sequence_that_cannot_be_filled_is_refused_and_nothing_is_taken(sequence: Any) -> None:
    with near_and_far(read_timeout=PATIENCE) as (stream, far):
        far.sendall(b"abc\n")
        until(stream.input_ready)
        with pytest.raises(TypeError, match=r"sequence is not allowed"):
            comm.read_sequence(sequence, stream)
        assert comm.read_line(stream).line == "abc"


@no_leaks
@pytest.mark.parametrize(("start", "end"), [(-1, None), (0, 6), (4, 3), (6, None), (0, -1)])
def test_bounds_must_lie_within_the_sequence(start: int, end: int | None) -> None:
    with near_and_far() as (stream, _far), pytest.raises(ValueError, match="5 elements"):
        comm.read_sequence(bytearray(5), stream, start=start, end=end)
