"""TextSocketStream, beyond the contract (landline.testing.contract): encodings, line ends, io, mixing with bytes."""

from __future__ import annotations

import codecs
import io
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pairs import (
    connect,
    each_way_to_wait,
    over,
    stream_pair,
)

from landline import LimitOverrun, ReadTimeout, SocketStream, StreamClosed, TextSocketStream
from landline.sync.wait import PolledWaits, Waits
from landline.testing.contract.reading import send
from landline.testing.contract.stage import BRIEF, PATIENCE, Task

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

MakeWaits = Callable[[socket.socket], Waits]
Pair = tuple[SocketStream, SocketStream]

WORDS = "one\ntwo\r\nthree\rfour\n\nfünf\nšest\nсемь\n八\n🖖 nine\r\n\r\nten"


@pytest.fixture
def pair() -> Iterator[Pair]:
    near, far = connect()
    stream, peer = SocketStream(near), SocketStream(far)
    yield stream, peer
    stream.abort()
    peer.abort()


def drip(peer: SocketStream, data: bytes, chance: random.Random) -> None:
    """Send ``data`` in pieces of one to seven bytes, then the end."""
    cuts = [0]
    while cuts[-1] < len(data):
        cuts.append(min(len(data), cuts[-1] + chance.randint(1, 7)))
    for start, end in pairwise(cuts):
        send(peer, data[start:end])
    peer.shutdown("output")


# ---- encodings and line ends ---------------------------------------------------------------------------

ENCODINGS = [
    "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-7", "gb18030", "UTF8", "shift_jis", "iso2022_jp",
    "cp1252", "koi8-r", "latin-1", "ascii", "cp037", "big5",
]  # fmt: skip


def writable_in(text: str, encoding: str) -> str:
    return text.encode(encoding, "ignore").decode(encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n"])
def test_lines_are_those_of_open(pair: Pair, encoding: str, newline: str | None) -> None:
    """As io.TextIOWrapper reads them, for every encoding and newline, whatever the cuts."""
    stream, peer = pair
    text = writable_in(WORDS, encoding)
    data = text.encode(encoding)
    wanted = list(io.TextIOWrapper(io.BytesIO(data), encoding, newline=newline))
    dripping = Task(lambda: drip(peer, data, random.Random(encoding)))
    made = TextSocketStream(stream, encoding, newline=newline)
    got: list[str] = []
    while line := made.readline() if len(got) % 2 else next(made, ""):
        got.append(line)
    assert got == wanted
    dripping.result()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n"])
def test_text_comes_back_as_it_was_written(pair: Pair, encoding: str, newline: str | None) -> None:
    stream, peer = pair
    text = writable_in(WORDS.replace("\r", ""), encoding)
    writer = TextSocketStream(stream, encoding, newline=newline)
    for piece in text.splitlines(keepends=True):
        assert writer.write(piece) == len(piece)
    writer.shutdown("output")
    data = peer.read()
    if newline in ("\r", "\r\n"):
        assert data.decode(encoding) == text.replace("\n", newline)
    assert io.TextIOWrapper(io.BytesIO(data), encoding).read() == text


METHODS = ["feed", "readline", "sized", "read", "no_hang", "iterate", "readlines", "unread"]


@given(st.data())
def test_any_mixture_of_reads_gives_the_text_in_order(data: st.DataObject) -> None:
    """Whatever the methods, the cuts and the timeouts in between: all of the text, in order, once."""
    text = data.draw(st.text(st.characters(codec="utf-8") | st.sampled_from("\r\n\na"), max_size=60))
    newline = data.draw(st.sampled_from([None, "", "\n", "\r\n"]))
    wanted = io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8", newline=newline).read()
    left = text.encode()
    stream, peer = stream_pair(PolledWaits)
    with TextSocketStream(stream, newline=newline) as made, peer:
        made.read_timeout = 0
        lines = iter(made)
        got = ""
        reads: dict[str, Callable[[], str | None]] = {
            "readline": made.readline,
            "sized": lambda: made.readline(3),
            "read": lambda: made.read(2),
            "no_hang": lambda: made.read_no_hang(3),
            "iterate": lambda: next(lines, ""),
            "readlines": lambda: "".join(made.readlines(5)),
        }
        for method in data.draw(st.lists(st.sampled_from(METHODS), max_size=60)):
            if method == "feed":
                size = data.draw(st.integers(1, 20))
                send(peer, left[:size])
                left = left[size:]
            elif method == "unread":
                made.unread(got[-2:])
                got = got[:-2]
            else:
                with suppress(ReadTimeout):
                    got += reads[method]() or ""
            assert wanted.startswith(got)
        send(peer, left)
        peer.shutdown("output")
        made.read_timeout = PATIENCE
        assert got + "".join(lines) == wanted


@pytest.mark.parametrize("errors", ["replace", "ignore", "backslashreplace", "surrogateescape"])
def test_errors_are_those_of_decode(pair: Pair, errors: str) -> None:
    stream, peer = pair
    data = b"good\nbad \xff\xfe end\nhalf \xe6\x97\ncut \xe6\x97"
    dripping = Task(lambda: drip(peer, data, random.Random(2)))
    assert "".join(TextSocketStream(stream, errors=errors)) == data.decode(errors=errors)
    dripping.result()


def test_what_cannot_be_encoded_is_not_accepted(pair: Pair) -> None:
    stream, peer = pair
    text = TextSocketStream(stream, "ascii")
    with pytest.raises(UnicodeEncodeError):
        text.write("grün")
    text.write("green\n")
    text.flush()
    assert peer.readline() == b"green\n"
    assert text.bytes_sent == 6


def test_a_byte_order_mark_is_written_once(pair: Pair) -> None:
    stream, peer = pair
    text = TextSocketStream(stream, "utf-16")
    for word in ("one", "two"):
        text.write(word)
    text.close()
    data = peer.read()
    assert data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    assert data.decode("utf-16") == "onetwo"


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"encoding": "no such"}, ValueError),
        ({"encoding": None}, TypeError),
        ({"errors": "no such"}, ValueError),
        ({"newline": "\t"}, ValueError),
    ],
)
def test_wrong_arguments_are_named(pair: Pair, arguments: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"is not allowed") as caught:
        TextSocketStream(pair[0], **arguments)
    assert repr(next(iter(arguments.values()))) in str(caught.value)


# ---- a file --------------------------------------------------------------------------------------------


def test_a_text_stream_is_a_text_file(pair: Pair) -> None:
    stream, _ = pair
    text = TextSocketStream(stream, "latin-1", errors="replace")
    assert isinstance(text, io.TextIOBase)
    assert text.readable()
    assert text.writable()
    assert not text.seekable()
    assert not text.isatty()
    assert text.buffer is stream
    assert (text.encoding, text.errors) == ("iso8859-1", "replace") or text.encoding == "latin-1"
    assert text.fileno() == stream.fileno()
    assert (text.local_address, text.peer_address) == (stream.local_address, stream.peer_address)
    assert "TextSocketStream" in repr(text)


@each_way_to_wait
def test_directions_hold_for_text(waits: MakeWaits) -> None:
    for direction in ("input", "output"):
        stream, peer = stream_pair(waits, direction=direction)
        with TextSocketStream(stream) as text, peer:
            send(peer, b"x\n")
            reads: list[Callable[[], object]] = [
                text.readline, text.read, lambda: text.read(1), lambda: list(text), lambda: next(text),
                lambda: text.read_until("x"), text.read_no_hang, text.input_ready, lambda: text.unread("x"),
            ]  # fmt: skip
            writes: list[Callable[[], object]] = [lambda: text.write("x"), lambda: text.writelines(["x"])]
            for call in reads if direction == "output" else writes:
                with pytest.raises(io.UnsupportedOperation):
                    call()


def test_closing_the_text_stream_closes_the_byte_stream(pair: Pair) -> None:
    stream, peer = pair
    with TextSocketStream(stream) as text:
        text.write("ende")
    assert stream.closed
    assert text.closed
    assert peer.read() == b"ende"


def test_an_unclosed_text_stream_warns_once() -> None:
    near, far = connect()
    text = TextSocketStream(SocketStream(near))
    with SocketStream(far) as peer:
        with pytest.warns(ResourceWarning, match="unclosed <SocketStream") as caught:
            del text
        assert len(caught) == 1
        assert peer.read() == b""


def test_a_dropped_text_stream_leaves_a_byte_stream_that_is_held(pair: Pair) -> None:
    stream, peer = pair
    text = TextSocketStream(stream)
    send(peer, b"one\ntwo\n")
    assert text.readline() == "one\n"
    del text
    assert stream.readline() == b"two\n"


# ---- bytes in between ----------------------------------------------------------------------------------


@pytest.mark.parametrize("newline", [None, "\n", "\r\n", ""])
def test_after_a_line_the_bytes_go_on(pair: Pair, newline: str | None) -> None:
    """A header in text, a counted body in bytes, text again: nothing was decoded ahead."""
    stream, peer = pair
    text = TextSocketStream(stream, newline=newline)
    send(peer, b"length: 5\r\n\r\n\xff\r\n\xfe\x00next\r\n")
    header = text.readline()
    assert header.strip() == "length: 5"
    assert text.readline().strip() == ""
    body = text.buffer.read_exactly(5)
    if newline is None and body.startswith(b"\n"):
        pytest.fail("the line feed of the line end was left to the bytes")
    assert body == b"\xff\r\n\xfe\x00"
    assert text.readline().strip() == "next"


def test_after_a_separator_the_bytes_go_on(pair: Pair) -> None:
    stream, peer = pair
    text = TextSocketStream(stream)
    send(peer, "größe=3\n".encode() + b"\xff\xff\xffende\n")
    assert text.read_until("\n") == "größe=3\n"
    assert stream.read_exactly(3) == b"\xff\xff\xff"
    assert text.readline() == "ende\n"


@each_way_to_wait
def test_a_long_line_that_drips_in_is_read_in_linear_time(waits: MakeWaits) -> None:
    """One that was searched from its start for every piece would take 600 times as long."""
    near, far = connect()
    with TextSocketStream(over(near, waits)) as text, far:
        text.line_limit = 8 << 20
        text.read_timeout = 0
        half = "ä" * 1000
        for _ in range(600):
            far.sendall(half.encode())
            with pytest.raises(ReadTimeout):
                text.readline()
        far.sendall(b"\n")
        text.read_timeout = PATIENCE
        assert text.readline() == half * 600 + "\n"


@each_way_to_wait
def test_a_text_line_is_bounded_in_bytes_or_characters(waits: MakeWaits) -> None:
    for newline in (None, "\r\n"):
        stream, peer = stream_pair(waits)
        with TextSocketStream(stream, newline=newline) as text, peer:
            text.line_limit = 100
            text.read_timeout = BRIEF
            send(peer, b"x" * 150)
            for _ in range(3):
                with pytest.raises(LimitOverrun):
                    text.readline()
            assert text.read(150) == "x" * 150
            with pytest.raises(ReadTimeout):
                text.readline()


@each_way_to_wait
def test_text_read_and_written_by_two_threads(waits: MakeWaits) -> None:
    stream, peer_stream = stream_pair(waits)
    with TextSocketStream(stream) as text, TextSocketStream(peer_stream) as peer:
        lines = [f"{number} ünd {'x' * (number % 200)}\n" for number in range(3000)]

        def write(end: TextSocketStream) -> None:
            for line in lines:
                end.write(line)
            end.flush()

        writers = [Task(lambda end=end: write(end)) for end in (text, peer)]  # type: ignore[misc]
        readers = [Task(lambda end=end: [end.readline() for _ in lines]) for end in (text, peer)]  # type: ignore[misc]
        for writer in writers:
            writer.result()
        for reader in readers:
            assert reader.result() == lines


@each_way_to_wait
def test_close_wakes_a_text_read(waits: MakeWaits) -> None:
    for read in (lambda text: text.readline(), lambda text: text.read(5), lambda text: next(iter(text))):
        stream, peer = stream_pair(waits)
        with peer:
            text = TextSocketStream(stream)
            send(peer, "hälf".encode()[:3])
            reader = Task(lambda read=read, text=text: read(text)).blocked()  # type: ignore[misc]
            text.close()
            reader.failure(StreamClosed)
