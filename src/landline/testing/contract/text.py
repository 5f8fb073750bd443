"""What text promises on top: half characters and half lines survive every timeout."""

from __future__ import annotations

from collections.abc import Callable

from ...errors import IncompleteRead, LimitOverrun, ReadTimeout, StreamClosed, WriteTimeout
from ...sync.text_stream import TextSocketStream
from .reading import pause, send
from .stage import BRIEF, PATIENCE, Checks, MakePair, Task, expect, pair, stall, until
from .writing import answer, resume

__all__ = ["CHECKS"]

CHECKS = Checks()

LINE = "naïve 日本 🙂\n"
NEXT = "ümlaut\n"

Read = Callable[[], str]

WHOLE: dict[str, Callable[[TextSocketStream], Read]] = {
    "readline": lambda text: text.readline,
    "readline_sized": lambda text: lambda: text.readline(1000),
    "read": lambda text: lambda: text.read(len(LINE)),
    "read_exactly": lambda text: lambda: text.read_exactly(len(LINE)),
    "read_until": lambda text: lambda: text.read_until("🙂\n"),
    "iteration": lambda text: iter(text).__next__,
    "next": lambda text: lambda: next(text),
}
"""Ways to read LINE that wait until all of it has come."""

TO_THE_END: dict[str, Callable[[TextSocketStream], Read]] = {
    "read": lambda text: text.read,
    "readlines": lambda text: lambda: "".join(text.readlines()),
    "read_sized": lambda text: lambda: text.read(1 << 20),
}


@CHECKS.each(WHOLE)
def text_after_a_read_timeout_is_whole(method: str, make_pair: MakePair) -> None:
    """After ReadTimeout, at every byte of every character, the same call gives the whole line or count."""
    data = LINE.encode()
    with pair(make_pair) as (stream, peer), TextSocketStream(stream) as text:
        read = WHOLE[method](text)
        text.read_timeout = BRIEF
        for count in range(1, len(data)):
            send(peer, data[count - 1 : count])
            pause(stream, count, read)
        send(peer, data[-1:] + NEXT.encode())
        text.read_timeout = PATIENCE
        assert read() == LINE
        assert text.readline() == NEXT
        assert text.bytes_received == len(data) + len(NEXT.encode())


@CHECKS.each(TO_THE_END)
def text_after_a_read_timeout_reads_to_the_end(method: str, make_pair: MakePair) -> None:
    """Reading to the peer's end that times out has taken nothing, complete lines and half characters included."""
    data = (LINE + NEXT + LINE).encode()
    with pair(make_pair) as (stream, peer), TextSocketStream(stream) as text:
        read = TO_THE_END[method](text)
        text.read_timeout = BRIEF
        sent = 0
        for piece in (data[:3], data[3:10], data[10:25], data[25:40], data[40:]):
            send(peer, piece)
            sent += len(piece)
            pause(stream, sent, read)
        peer.shutdown("output")
        text.read_timeout = PATIENCE
        assert read() == LINE + NEXT + LINE
        assert read() == ""


@CHECKS.one
def text_read_no_hang_never_waits(make_pair: MakePair) -> None:
    """None while not even one character is whole; "" at the peer's end."""
    with pair(make_pair) as (stream, peer), TextSocketStream(stream) as text:
        assert text.read_no_hang() is None
        send(peer, "日".encode()[:2])
        until(stream.input_ready)
        assert text.read_no_hang() is None
        assert not text.input_ready()
        send(peer, "日".encode()[2:] + "本語".encode())
        until(text.input_ready)
        assert text.read_no_hang(2) == "日本"
        assert text.read_no_hang() == "語"
        assert text.read_no_hang() is None
        peer.shutdown("output")
        until(text.input_ready)
        assert text.read_no_hang() == text.read_no_hang() == ""


@CHECKS.one
def text_lines_and_counts_mix(make_pair: MakePair) -> None:
    """Whatever order the methods are called in, each goes on where the one before stopped; so do bytes at a line."""
    with pair(make_pair) as (stream, peer), TextSocketStream(stream) as text:
        send(peer, "öne\ntwö\nthrée\nföur;five\nsix\nseven\neight\nnine\nten\nraw \xff\n".encode("latin-1").replace(
            b"\xf6", "ö".encode()).replace(b"\xe9", "é".encode()) + "elevén\nlast".encode())  # fmt: skip
        peer.shutdown("output")
        lines = iter(text)
        assert text.readline() == "öne\n"
        assert next(lines) == "twö\n"
        assert text.read(4) == "thré"
        assert next(lines) == "e\n"
        assert text.read_until(";") == "föur;"
        assert text.read_exactly(2) == "fi"
        assert text.readline(1) == "v"
        assert next(lines) == "e\n"
        line = next(lines)
        text.unread(line)
        assert next(lines) == line == "six\n"
        assert text.readline(3) == "sev"
        assert next(lines) == "en\n"
        assert text.readlines(1) == ["eight\n"]
        assert next(text) == "nine\n"
        assert next(lines) == "ten\n"
        assert text.buffer.readline() == b"raw \xff\n"
        assert next(lines) == "elevén\n"
        assert list(lines) == ["last"]
        assert text.readline() == ""


@CHECKS.each(("readline", "iteration", "read", "readlines"))
def text_line_ends_are_translated(method: str, make_pair: MakePair) -> None:
    """With newline=None CR, LF and CR LF end a line, wherever the bytes were cut; a CR at once."""
    with pair(make_pair) as (stream, peer), TextSocketStream(stream) as text:
        send(peer, b"OK\r")
        assert text.readline() == "OK\n", "an instrument that says OK and CR, and waits, is heard"
        send(peer, b"\none\rtwo\r\nthree\n\r\r\nfour")
        peer.shutdown("output")
        wanted = ["one\n", "two\n", "three\n", "\n", "\n", "four"]
        reads: dict[str, Callable[[], list[str]]] = {
            "readline": lambda: list(iter(text.readline, "")),
            "iteration": lambda: list(text),
            "read": lambda: text.read().splitlines(keepends=True),
            "readlines": text.readlines,
        }
        assert reads[method]() == wanted


@CHECKS.one
def text_limits_consume_nothing(make_pair: MakePair) -> None:
    """line_limit and read_until's limit raise LimitOverrun; afterwards everything can still be read."""
    with pair(make_pair) as (stream, peer), TextSocketStream(stream) as text:
        send(peer, "ä".encode() * 20 + b"\n" + NEXT.encode())
        text.line_limit = 10
        for read in (text.readline, iter(text).__next__, text.readlines, lambda: text.read_until("\n")):
            with expect(LimitOverrun):
                read()
        assert text.read_until("\n", 21) == "ä" * 20 + "\n"
        text.line_limit = 100
        assert text.readline() == NEXT


@CHECKS.one
def text_that_cannot_be_decoded_is_told_once(make_pair: MakePair) -> None:
    """UnicodeDecodeError holds the bytes, which are consumed; reading goes on behind them."""
    with pair(make_pair) as (stream, peer), TextSocketStream(stream) as text:
        send(peer, b"good\nbad \xff line\n" + NEXT.encode())
        lines = iter(text)
        assert next(lines) == "good\n"
        with expect(UnicodeDecodeError) as caught:
            next(lines)
        assert caught.error.object == b"bad \xff line\n"
        assert next(lines) == NEXT
        send(peer, b"half \xe6\x97")
        peer.shutdown("output")
        with expect(UnicodeDecodeError):
            text.readline()
        assert text.readline() == "half "
        assert text.readline() == ""


@CHECKS.one
def text_ends_short(make_pair: MakePair) -> None:
    """At the peer's end counts and separators raise IncompleteRead with the text there was."""
    reads: list[Callable[[TextSocketStream], str]] = [
        lambda text: text.read_exactly(9),
        lambda text: text.read_until(";"),
    ]
    for read in reads:
        with pair(make_pair) as (stream, peer), TextSocketStream(stream) as text:
            send(peer, "größer".encode())
            peer.shutdown("output")
            with expect(IncompleteRead) as caught:
                read(text)
            assert caught.error.partial == "größer"


@CHECKS.one
def text_after_a_write_timeout_flush_resumes(make_pair: MakePair) -> None:
    """write() returns characters; WriteTimeout counts bytes, and flush() goes on in the middle of a character."""
    with pair(make_pair) as (stream, peer), TextSocketStream(stream) as text:
        block = "🙂é" * 300_000
        text.write_timeout = BRIEF
        written = 0
        with expect(WriteTimeout) as caught:
            while True:
                written += 1
                assert text.write(block) == len(block)
        assert caught.error.accepted == written * len(block.encode())
        assert caught.error.sent == text.bytes_sent
        collecting = Task(lambda: peer.read_exactly(caught.error.accepted))
        resume(stream)
        assert collecting.result().decode() == block * written


@CHECKS.one
def text_is_buffered_and_pushed_as_bytes_are(make_pair: MakePair) -> None:
    """Small writes wait for flush() or for a read that would wait."""
    with pair(make_pair) as (stream, peer), TextSocketStream(stream) as text:
        assert text.write("grüß") == 4
        text.writelines(["e", "\n"])
        assert text.bytes_sent == 0
        answering = Task(lambda: answer(peer, len("grüße\n".encode())))
        assert text.readline() == "answer\n"
        answering.result()
        with expect(TypeError):
            text.write(b"bytes")  # type: ignore[arg-type]


@CHECKS.one
def text_after_the_end_raises_stream_closed(make_pair: MakePair) -> None:
    """After close() every operation raises StreamClosed, half read lines included."""
    operations: list[Callable[[TextSocketStream], object]] = [
        *(lambda text, read=read: read(text)() for read in (*WHOLE.values(), *TO_THE_END.values())),
        lambda text: text.read(0),
        lambda text: text.read_exactly(0),
        lambda text: text.readline(0),
        lambda text: text.read_no_hang(),
        lambda text: text.unread("x"),
        lambda text: text.input_ready(),
        lambda text: text.write("x"),
        lambda text: text.write(""),
        lambda text: text.writelines(["x"]),
        lambda text: text.flush(),
        lambda text: text.shutdown("output"),
        lambda text: text.readable(),
        lambda text: text.__enter__(),
    ]
    with pair(make_pair) as (stream, peer):
        text = TextSocketStream(stream)
        send(peer, LINE.encode() + NEXT.encode() + b"half")
        assert text.readline() == LINE
        lines = iter(text)
        text.close()
        assert text.closed
        for operation in operations:
            with expect(StreamClosed):
                operation(text)
        with expect(StreamClosed):
            next(lines)


@CHECKS.one
def closing_text_wakes_and_sends(make_pair: MakePair) -> None:
    """close() sends what is pending and wakes a blocked read; stalled, it raises WriteTimeout and is closed."""
    with pair(make_pair) as (stream, peer):
        text = TextSocketStream(stream)
        reader = Task(text.readline).blocked()
        text.write("ende")
        text.close()
        reader.failure(StreamClosed)
        assert peer.read() == b"ende"
    with pair(make_pair) as (stream, peer):
        text = TextSocketStream(stream)
        stall(stream)
        text.write_timeout = BRIEF
        with expect(WriteTimeout):
            text.close()
        assert text.closed


@CHECKS.each(("output", "io"))
def an_aborting_shutdown_drops_decoded_text(direction: str, make_pair: MakePair) -> None:
    """What was received and decoded, but not taken, is forgotten as well."""
    with pair(make_pair) as (stream, peer), TextSocketStream(stream) as text:
        send(peer, b"half a line")
        text.read_timeout = BRIEF
        pause(stream, 11, lambda: text.read(100))
        text.shutdown(direction, abort=True)  # type: ignore[arg-type]
        with expect(ReadTimeout if direction == "output" else StreamClosed):
            text.read(1)


@CHECKS.one
def text_detaches_its_bytes(make_pair: MakePair) -> None:
    """detach() gives the byte stream, unless characters were decoded that nobody has read."""
    with pair(make_pair) as (stream, peer):
        text = TextSocketStream(stream)
        send(peer, b"one\ntwo\nthree")
        assert text.readline() == "one\n"
        assert text.readline(1) == "t"
        with expect(ValueError):
            text.detach()
        assert text.readline() == "wo\n"
        assert text.detach() is stream
        with expect(ValueError):
            text.readline()
        assert stream.read_exactly(5) == b"three"
