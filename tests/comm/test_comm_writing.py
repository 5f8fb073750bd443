"""comm's functions that write: what mixes with what, where it goes, and how streams are sent, cleared and closed.

Sources: ANSI Common Lisp 21.2; LispWorks manual, socket-stream (characters and bytes), open-tcp-stream (example).
"""

from __future__ import annotations

import io
import sys
from array import array
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from lisp_pairs import (
    ALL_BYTES,
    BYTE_STREAMS,
    ELEMENT_TYPES,
    near_and_far,
    received,
    secure_near_and_far,
    seen_by,
)
from pages import LOOPBACK, refusing

from landline import SocketStream, StreamClosed, WriteTimeout, comm
from landline.engine.session import AHEAD
from landline.testing.contract.stage import BRIEF, MUCH, PATIENCE, Task, stall

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

each_element_type = pytest.mark.parametrize("kind", ELEMENT_TYPES)

LATIN_1 = "".join(map(chr, range(256)))
SIGNED = [*range(128), *range(-128, 0)]

Writing = Callable[[str, Any], object]

WRITERS: dict[str, Writing] = {
    "write_char": lambda text, stream: [comm.write_char(character, stream) for character in text],
    "write_string": comm.write_string,
    "write_sequence of a string": comm.write_sequence,
    "write_sequence of characters": lambda text, stream: comm.write_sequence(list(text), stream),
    "format": lambda text, stream: comm.format_(True if stream is None else stream, "~A", text),
}
each_writer = pytest.mark.parametrize("write", WRITERS.values(), ids=list(WRITERS))

PAIRS: dict[str, Callable[[], AbstractContextManager[Any]]] = {"TCP": near_and_far, "TLS": secure_near_and_far}
plain_and_secure = pytest.mark.parametrize("make", PAIRS.values(), ids=list(PAIRS))


@contextmanager
def nothing_written(kind: str = "base-char") -> Iterator[comm.SocketStream]:
    """A stream whose peer sees nothing of what is tried inside."""
    with near_and_far(element_type=kind) as (stream, far):
        yield stream
        comm.close(stream)
        assert seen_by(far) == b""


# ---- characters and bytes mix ------------------------------------------------------------------------------


@each_writer
@each_element_type
def test_characters_are_latin_1_on_any_stream(kind: str, write: Writing) -> None:
    with near_and_far(element_type=kind) as (stream, far):
        write(LATIN_1, stream)
        comm.force_output(stream)
        assert received(far, 256) == ALL_BYTES


@each_writer
@each_element_type
def test_beyond_latin_1_is_refused_and_nothing_is_written(kind: str, write: Writing) -> None:
    with nothing_written(kind) as stream, pytest.raises(UnicodeEncodeError):
        write("\u0100" if write is WRITERS["write_char"] else "caf\xe9 \u0100", stream)


@each_element_type
@pytest.mark.parametrize(
    ("sequence", "seen"),
    [
        (ALL_BYTES, ALL_BYTES),
        (bytearray(ALL_BYTES), ALL_BYTES),
        (memoryview(ALL_BYTES)[::2], ALL_BYTES[::2]),
        (array("B", ALL_BYTES), ALL_BYTES),
        (array("b", SIGNED), ALL_BYTES),
        (list(range(128)), ALL_BYTES[:128]),
        (("a", 98, "\xff", 0), b"ab\xff\0"),
        ([], b""),
    ],
    ids=["bytes", "bytearray", "memoryview", "array B", "array b", "integers", "mixed", "empty"],
)
def test_write_sequence_takes_bytes_and_characters_on_any_stream(kind: str, sequence: Any, seen: bytes) -> None:
    with near_and_far(element_type=kind) as (stream, far):
        assert comm.write_sequence(sequence, stream) is sequence
        comm.write_char("!", stream)
        comm.force_output(stream)
        assert received(far, len(seen) + 1) == seen + b"!"


def test_integers_are_those_of_the_element_type() -> None:
    for kind, good, wrong in (("base-char", 255, -1), ("unsigned-byte", 255, -1), ("signed-byte", -128, 128)):
        with near_and_far(element_type=kind) as (stream, far):
            for beyond in (wrong, 256, -129):
                with pytest.raises(ValueError, match=f"{beyond} is no byte from"):
                    comm.write_sequence([good, beyond], stream)
            comm.write_sequence([good], stream)
            comm.close(stream)
            assert seen_by(far) == bytes([good & 0xFF])


@pytest.mark.parametrize("sequence", [[1.5], [None], ["ab"], [b"a"], [True], array("i", [1]), ["a", ""]])
def test_what_is_neither_byte_nor_character_is_refused_and_nothing_is_written(sequence: Any) -> None:
    with nothing_written() as stream, pytest.raises(TypeError, match="sequence is not allowed"):
        comm.write_sequence(sequence, stream)


def test_write_byte_is_for_streams_of_bytes_only() -> None:
    with near_and_far() as (stream, far), SocketStream(far.dup()) as landlines:
        for each in (stream, landlines):
            with pytest.raises(TypeError, match="needs a stream of bytes"):
                comm.write_byte(65, each)
        comm.close(stream)
        assert seen_by(far) == b""


@pytest.mark.parametrize("kind", BYTE_STREAMS)
def test_write_byte_takes_integers_signed_ones_on_signed_byte(kind: str) -> None:
    with near_and_far(element_type=kind) as (stream, far):
        for number in SIGNED if kind == "signed-byte" else range(256):
            assert comm.write_byte(number, stream) == number
        for wrong in (256, -129, 128 if kind == "signed-byte" else -1):
            with pytest.raises(ValueError, match="byte is not allowed"):
                comm.write_byte(wrong, stream)
        for other in ("a", b"a", 1.0, True, None):
            with pytest.raises(TypeError, match="byte is not allowed"):
                comm.write_byte(other, stream)  # type: ignore[arg-type]
        comm.close(stream)
        assert seen_by(far) == ALL_BYTES


@each_element_type
def test_pythons_own_write_takes_characters_as_well(kind: str) -> None:
    with near_and_far(element_type=kind) as (stream, far):
        assert stream.write("\xe9") == 1
        assert stream.write(b"\xe8") == 1
        with pytest.raises(UnicodeEncodeError):
            stream.write("a\u0100")
        stream.close()
        assert seen_by(far) == b"\xe9\xe8"


# ---- each function -----------------------------------------------------------------------------------------


def test_results_newlines_and_bounds() -> None:
    with near_and_far() as (stream, far):
        text = "0123456789"
        assert comm.write_char("<", stream) == "<"
        assert comm.write_string(text, stream, start=2, end=4) is text
        assert comm.write_line(text, stream, start=8) is text
        assert comm.write_line("", stream) == ""
        assert comm.terpri(stream) is None  # type: ignore[func-returns-value]
        assert comm.write_sequence(text, stream, start=1, end=1) is text
        assert comm.write_sequence(list(text), stream, start=4, end=None) == list(text)
        assert comm.format_(stream, "~D~%", 42) is None
        comm.close(stream)
        assert seen_by(far) == b"<2389\n\n\n45678942\n"


@pytest.mark.parametrize(("start", "end"), [(-1, None), (0, 4), (3, 2), (4, None), (0, -1)])
def test_bounds_must_lie_within(start: int, end: int | None) -> None:
    with nothing_written() as stream:
        for write in (comm.write_string, comm.write_line, comm.write_sequence):
            with pytest.raises(ValueError, match="3 elements"):
                write("abc", stream, start=start, end=end)
        with pytest.raises(ValueError, match="3 elements"):
            comm.write_sequence([1, 2, 3], stream, start=start, end=end)


def test_what_is_no_string_is_refused() -> None:
    with nothing_written() as stream:
        for wrong in (b"a", 97, None, "ab", ""):
            with pytest.raises(TypeError, match="character="):
                comm.write_char(wrong, stream)  # type: ignore[arg-type]
        for write in (comm.write_string, comm.write_line):
            with pytest.raises(TypeError, match="string="):
                write(b"bytes", stream)  # type: ignore[arg-type]


# ---- where it goes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("standard", [None, True])
def test_without_a_stream_it_goes_to_standard_output(
    standard: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for write in WRITERS.values():
        write("\u0100", standard)
    comm.write_line("line", standard)
    comm.terpri(standard)
    comm.write_sequence([72, "i", 256], standard)
    comm.write_sequence(b"bytes", standard)
    for send in (comm.force_output, comm.finish_output):
        send(standard)
    comm.clear_output(standard)
    assert capsys.readouterr().out == "\u0100" * len(WRITERS) + "line\n\nHi\u0100bytes"

    replaced = io.StringIO()
    monkeypatch.setattr(sys, "stdout", replaced)
    comm.write_string("here")
    assert replaced.getvalue() == "here"


def test_pythons_text_files_are_written_to() -> None:
    file = io.StringIO()
    for write in WRITERS.values():
        write("\u0100", file)
    comm.write_line("line", file)
    comm.terpri(file)
    comm.write_sequence([72, "i"], file)
    assert comm.format_(file, "~5D", 1) is None
    comm.force_output(file)
    comm.clear_output(file)  # type: ignore[arg-type]
    assert file.getvalue() == "\u0100" * len(WRITERS) + "line\n\nHi    1"
    assert comm.open_stream_p(file)
    assert comm.close(file) is True
    assert not comm.open_stream_p(file)


def test_finish_output_of_a_buffered_text_file_flushes_it() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, "utf-8")
    comm.write_string("text", file)
    assert raw.getvalue() == b""
    comm.finish_output(file)
    assert raw.getvalue() == b"text"


@pytest.mark.parametrize("nil", [None, False])
def test_format_to_nil_gives_the_text(nil: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert comm.format_(nil, "~A~%", "\u0100") == "\u0100\n"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("stream", [5, "stream", b"", object()])
def test_another_destination_is_refused(stream: Any) -> None:
    calls: list[Callable[[], object]] = [
        *(lambda write=write: write("a", stream) for write in WRITERS.values()),
        lambda: comm.write_line("a", stream),
        lambda: comm.terpri(stream),
        lambda: comm.write_byte(1, stream),
        lambda: comm.force_output(stream),
        lambda: comm.clear_output(stream),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="stream="):
            call()


# ---- sending, and forgetting -------------------------------------------------------------------------------


@plain_and_secure
@pytest.mark.parametrize("send", [comm.force_output, comm.finish_output])
def test_what_was_written_is_sent_when_it_is_asked_for(
    make: Callable[[], AbstractContextManager[Any]], send: Callable[[Any], None]
) -> None:
    with make() as (stream, far):
        before = stream.bytes_sent
        comm.write_string("buffered", stream)
        assert stream.bytes_sent == before
        send(stream)
        assert stream.bytes_sent == before + 8
        assert received(far, 8) == b"buffered"


@plain_and_secure
def test_force_output_goes_on_after_a_timeout(make: Callable[[], AbstractContextManager[Any]]) -> None:
    with make() as (stream, far):
        written = stall(stream)
        stream.write_timeout = BRIEF
        with pytest.raises(WriteTimeout) as caught:
            comm.force_output(stream)
        stream.write_timeout = PATIENCE
        reading = Task(lambda: received(far, written))
        comm.finish_output(stream)
        assert reading.result() == bytes(written)
        assert comm.socket_error_connection(caught.value) is stream


@plain_and_secure
def test_clear_output_forgets_what_has_not_been_sent(make: Callable[[], AbstractContextManager[Any]]) -> None:
    with make() as (stream, far):
        for _ in range(2):
            comm.write_string("forgotten", stream)
            comm.clear_output(stream)
        comm.clear_output(stream)
        comm.write_string("sent", stream)
        comm.close(stream)
        assert seen_by(far) == b"sent"
        assert stream.bytes_sent == 4


@plain_and_secure
def test_clear_output_leaves_what_is_on_its_way_to_a_peer_that_does_not_read(
    make: Callable[[], AbstractContextManager[Any]],
) -> None:
    """Over TLS a record that was begun must be ended: the stream goes on as if the rest had never been written."""
    block = bytes(index % 251 for index in range(MUCH))
    with make() as (stream, far):
        written = stall(stream, block) + MUCH
        stream.write_timeout = BRIEF
        with pytest.raises(WriteTimeout):
            stream.write(block)
        sent = stream.bytes_sent
        comm.clear_output(stream)
        comm.write_string("and the end", stream)
        stream.write_timeout = PATIENCE
        reading = Task(lambda: seen_by(far))
        comm.close(stream)
        seen = reading.result()
        assert seen.endswith(b"and the end")
        kept = seen.removesuffix(b"and the end")
        assert (block * (written // MUCH)).startswith(kept)
        assert sent <= len(kept) < written
        assert len(kept) - sent <= (AHEAD if make is secure_near_and_far else 0)
        assert stream.bytes_sent == len(seen)


def test_clear_output_does_not_come_between_another_threads_write() -> None:
    with near_and_far() as (stream, far):
        writing = Task(lambda: comm.write_string("x" * MUCH * 4, stream)).blocked()
        with pytest.raises(ValueError, match="another thread is writing"):
            comm.clear_output(stream)
        reading = Task(lambda: received(far, MUCH * 4))
        writing.result()
        comm.force_output(stream)
        assert len(reading.result()) == MUCH * 4


# ---- closing -----------------------------------------------------------------------------------------------


@plain_and_secure
def test_close_sends_what_was_written(make: Callable[[], AbstractContextManager[Any]]) -> None:
    with make() as (stream, far):
        comm.write_string("the end", stream)
        assert comm.open_stream_p(stream)
        assert comm.close(stream) is True
        assert not comm.open_stream_p(stream)
        assert comm.close(stream) is False
        assert received(far, 100) == b"the end"
        with pytest.raises(StreamClosed) as caught:
            comm.write_char("x", stream)
        assert comm.socket_error_connection(caught.value) is stream


def test_close_with_abort_drops_it_and_resets() -> None:
    with near_and_far() as (stream, far):
        comm.write_string("dropped", stream)
        assert comm.close(stream, abort=True) is True
        assert comm.close(stream, abort=True) is False
        with pytest.raises(ConnectionResetError):
            far.recv(1)


def test_with_open_stream_closes_and_sends_everything() -> None:
    with near_and_far() as (stream, far):
        with comm.with_open_stream(stream) as http:
            assert http is stream
            comm.write_string("everything", http)
        assert not comm.open_stream_p(stream)
        assert received(far, 100) == b"everything"


def test_with_open_stream_resets_after_an_exception() -> None:
    def serve(stream: comm.SocketStream) -> None:
        with comm.with_open_stream(stream):
            comm.write_string("half an answer", stream)
            raise LookupError

    with near_and_far() as (stream, far):
        with pytest.raises(LookupError):
            serve(stream)
        assert not comm.open_stream_p(stream)
        with pytest.raises(ConnectionResetError):
            far.recv(1)


def test_with_open_stream_raises_the_condition_of_a_pair_that_failed() -> None:
    with refusing() as address:
        pair = comm.open_tcp_stream(LOOPBACK, address.port)
    with pytest.raises(comm.socket_connect_error) as caught:
        comm.with_open_stream(pair).__enter__()
    assert caught.value is pair.condition


def test_with_open_stream_takes_the_stream_of_a_pair() -> None:
    with near_and_far() as (stream, _far):
        with comm.with_open_stream(comm.Opened(stream, None)) as http:
            assert http is stream
        assert not comm.open_stream_p(stream)


def test_with_open_stream_says_when_not_everything_could_be_sent() -> None:
    def serve(stream: comm.SocketStream) -> None:
        with comm.with_open_stream(stream):
            stall(stream)
            stream.write_timeout = BRIEF

    with near_and_far() as (stream, _far):
        with pytest.raises(WriteTimeout):
            serve(stream)
        assert not comm.open_stream_p(stream)
