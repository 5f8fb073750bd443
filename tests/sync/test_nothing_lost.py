"""Nothing lost: ten thousand lines in random fragments, timed out again and again; thirty megabytes to a stalling peer.

The pauses are handshakes: at random places, mostly in the middle of a line or of a character, the peer sends no
more until the reader (or writer) has timed out. So every test has its timeouts, on machines of any speed.
"""

from __future__ import annotations

import hashlib
import random
import select
import socket
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import pytest
from pairs import (
    connect,
    each_way_to_wait,
    over,
)

from landline import IncompleteRead, ReadTimeout, SocketStream, TextSocketStream, WriteTimeout
from landline.sync.wait import Waits
from landline.testing.contract.stage import BRIEF, PATIENCE, Task

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

MakeWaits = Callable[[socket.socket], Waits]

COUNT = 10_000
PAUSES = 15

chance = random.Random(8305)
LINES = [bytes(chance.choices(b"abcdefgh \r\t", k=chance.choice((0, 1, 5, 20, 50)))) + b"\n" for _ in range(COUNT)]
TEXT_LINES = ["".join(chance.choices("aä日🙂 ", k=chance.choice((0, 1, 5, 20)))) + "\n" for _ in range(COUNT)]


class Peer:
    """Sends ``data`` in random fragments, and pauses at random places until `pause_over`."""

    def __init__(self, sock: socket.socket, data: bytes) -> None:
        self._sock = sock
        self._data = data
        self._timed_out = Event()
        self.pauses = 0
        self.sending = Task(self._send)

    def pause_over(self) -> None:
        """The reader has timed out."""
        self._timed_out.set()

    def _send(self) -> None:
        here = random.Random(len(self._data))
        cuts = sorted(here.sample(range(1, len(self._data)), PAUSES))
        position = 0
        for cut in [*cuts, len(self._data)]:
            while position < cut:
                size = min(cut - position, here.choice((1, 2, 7, 100, 1500, 20_000)))
                self._sock.sendall(self._data[position : position + size])
                position += size
            if cut < len(self._data):
                self._timed_out.clear()
                assert self._timed_out.wait(PATIENCE), "the reader did not time out"
                self.pauses += 1
        self._sock.shutdown(socket.SHUT_WR)


def everything(peer: Peer, read: Callable[[], Any]) -> Iterator[Any]:
    """What ``read`` gives until it gives nothing more; called again after each timeout."""
    timeouts = 0
    while True:
        try:
            piece = read()
        except ReadTimeout:
            timeouts += 1
            peer.pause_over()
            continue
        except StopIteration:
            break
        if not piece:
            break
        yield piece
    peer.sending.result()
    assert peer.pauses == PAUSES
    assert timeouts >= PAUSES


# ---- bytes ---------------------------------------------------------------------------------------------


def sized_lines(stream: SocketStream) -> Callable[[], bytes]:
    return lambda: stream.readline(60)


def into(stream: SocketStream, once: bool) -> Callable[[], bytes]:
    memory = bytearray(777)

    def read() -> bytes:
        count = stream.readinto1(memory) if once else stream.readinto(memory)
        return bytes(memory[:count])

    return read


def frames(stream: SocketStream) -> Callable[[], bytes]:
    sizes = iter(list(map(len, LINES)))
    size = next(sizes)

    def read() -> bytes:
        nonlocal size
        data = stream.read_exactly(size)
        size = next(sizes, 0)
        return data

    return read


def no_hang(stream: SocketStream) -> Callable[[], bytes]:
    def read() -> bytes:
        data = stream.read_no_hang(100)
        if data is None:
            if not select.select([stream], [], [], BRIEF)[0]:
                raise ReadTimeout("select says so")
            return read()
        return data

    return read


def peeking(stream: SocketStream) -> Callable[[], bytes]:
    def read() -> bytes:
        seen = stream.peek()
        assert stream.read(len(seen) // 2 + 1 if seen else 0) == seen[: len(seen) // 2 + 1]
        return seen[: len(seen) // 2 + 1]

    return read


def putting_back(stream: SocketStream) -> Callable[[], bytes]:
    def read() -> bytes:
        line = stream.readline()
        stream.unread(line)
        assert stream.read(len(line)) == line
        return line

    return read


def mixed(stream: SocketStream) -> Callable[[], bytes]:
    here = random.Random(5)
    ways: list[Callable[[], bytes]] = [
        stream.readline,
        sized_lines(stream),
        into(stream, once=True),
        putting_back(stream),
        stream.read1,
        lambda: stream.read(30),
        lambda: stream.read_until(b"\n"),
        iter(stream).__next__,
        lambda: b"".join(stream.readlines(100)),
    ]
    way = here.choice(ways)

    def read() -> bytes:
        nonlocal way
        try:
            data = way()
        except IncompleteRead as end:
            data = end.partial  # type: ignore[assignment]
        except ReadTimeout:
            way = here.choice(ways)  # no need to go on with the same method
            raise
        way = here.choice(ways)
        return data

    return read


BY_LINE: dict[str, Callable[[SocketStream], Callable[[], bytes]]] = {
    "readline": lambda stream: stream.readline,
    "readline_sized": sized_lines,
    "iteration": lambda stream: iter(stream).__next__,
    "next": lambda stream: stream.__next__,
    "read_until": lambda stream: lambda: stream.read_until(b"\n") if stream.peek() else b"",
    "read_exactly": frames,
    "putting_back": putting_back,
}

BY_PIECE: dict[str, Callable[[SocketStream], Callable[[], bytes]]] = {
    "read": lambda stream: lambda: stream.read(3333),
    "read_all": lambda stream: stream.read,
    "read_large": lambda stream: lambda: stream.read(1 << 20),
    "read1": lambda stream: stream.read1,
    "read1_sized": lambda stream: lambda: stream.read1(100),
    "readinto": lambda stream: into(stream, once=False),
    "readinto1": lambda stream: into(stream, once=True),
    "readlines": lambda stream: lambda: b"".join(stream.readlines()),
    "readlines_hint": lambda stream: lambda: b"".join(stream.readlines(5000)),
    "read_no_hang": no_hang,
    "peek": peeking,
    "mixed": mixed,
}


@each_way_to_wait
@pytest.mark.parametrize("method", [*BY_LINE, *BY_PIECE])
def test_ten_thousand_lines(waits: MakeWaits, method: str) -> None:
    near, far = connect()
    with over(near, waits) as stream, far:
        stream.read_timeout = 0.001
        peer = Peer(far, b"".join(LINES))
        if method in BY_LINE:
            assert list(everything(peer, BY_LINE[method](stream))) == LINES
        else:
            assert b"".join(everything(peer, BY_PIECE[method](stream))) == b"".join(LINES)
        assert stream.bytes_received == sum(map(len, LINES))


@each_way_to_wait
@pytest.mark.parametrize("method", ["readline", "iteration", "read_exactly", "read_until"])
def test_ten_thousand_lines_under_deadlines(waits: MakeWaits, method: str) -> None:
    """The other clock loses nothing either."""
    near, far = connect()
    with over(near, waits) as stream, far:
        peer = Peer(far, b"".join(LINES))
        read = BY_LINE[method](stream)

        def within() -> bytes:
            with stream.deadline(0.002):
                return read()

        assert list(everything(peer, within)) == LINES


@each_way_to_wait
@pytest.mark.parametrize("method", ["readline", "iteration", "mixed"])
def test_ten_thousand_lines_while_writing(waits: MakeWaits, method: str) -> None:
    """Requests that are written in between, and never flushed, change nothing, and arrive."""
    near, far = connect()
    with over(near, waits) as stream, far:
        stream.read_timeout = 0.001
        peer = Peer(far, b"".join(LINES))
        read = {**BY_LINE, **BY_PIECE}[method](stream)
        received = []
        for piece in everything(peer, read):
            received.append(piece)
            stream.write(b"%d\n" % len(piece))
        assert b"".join(received) == b"".join(LINES)
        stream.close()
        with far.makefile("rb") as answers:
            assert answers.read() == b"".join(b"%d\n" % len(piece) for piece in received)


# ---- text ----------------------------------------------------------------------------------------------


def text_frames(text: TextSocketStream) -> Callable[[], str]:
    sizes = iter(list(map(len, TEXT_LINES)))
    size = next(sizes)

    def read() -> str:
        nonlocal size
        data = text.read_exactly(size)
        size = next(sizes, 0)
        return data

    return read


def text_no_hang(text: TextSocketStream) -> Callable[[], str]:
    def read() -> str:
        data = text.read_no_hang(100)
        if data is None:
            if not select.select([text], [], [], BRIEF)[0]:
                raise ReadTimeout("select says so")
            return read()
        return data

    return read


def text_until(text: TextSocketStream) -> Callable[[], str]:
    def read() -> str:
        try:
            return text.read_until("\n")
        except IncompleteRead as end:
            return str(end.partial)

    return read


TEXT_BY_LINE: dict[str, Callable[[TextSocketStream], Callable[[], str]]] = {
    "readline": lambda text: text.readline,
    "readline_sized": lambda text: lambda: text.readline(60),
    "iteration": lambda text: iter(text).__next__,
    "next": lambda text: text.__next__,
    "read_until": text_until,
    "read_exactly": text_frames,
}

TEXT_BY_PIECE: dict[str, Callable[[TextSocketStream], Callable[[], str]]] = {
    "read": lambda text: lambda: text.read(777),
    "read_all": lambda text: text.read,
    "readlines": lambda text: lambda: "".join(text.readlines()),
    "readlines_hint": lambda text: lambda: "".join(text.readlines(5000)),
    "read_no_hang": text_no_hang,
}


@each_way_to_wait
@pytest.mark.parametrize(
    ("method", "newline"),
    [*((method, None) for method in (*TEXT_BY_LINE, *TEXT_BY_PIECE)), ("readline", "\n"), ("iteration", "\n")],
)
def test_ten_thousand_lines_of_text(waits: MakeWaits, method: str, newline: str | None) -> None:
    near, far = connect()
    with TextSocketStream(over(near, waits), newline=newline) as text, far:
        text.read_timeout = 0.001
        peer = Peer(far, "".join(TEXT_LINES).encode())
        if method in TEXT_BY_LINE:
            assert list(everything(peer, TEXT_BY_LINE[method](text))) == TEXT_LINES
        else:
            assert "".join(everything(peer, TEXT_BY_PIECE[method](text))) == "".join(TEXT_LINES)


@each_way_to_wait
@pytest.mark.parametrize("encoding", ["utf-16", "shift_jis"])
def test_ten_thousand_lines_in_other_encodings(waits: MakeWaits, encoding: str) -> None:
    lines = [line.encode(encoding, "ignore").decode(encoding) for line in TEXT_LINES]
    near, far = connect()
    with TextSocketStream(over(near, waits), encoding) as text, far:
        text.read_timeout = 0.001
        peer = Peer(far, "".join(lines).encode(encoding))
        assert list(everything(peer, text.readline)) == lines


# ---- thirty megabytes ----------------------------------------------------------------------------------

SIZE = 30_000_000


class StallingPeer:
    """Reads some megabytes whenever it is told to, and nothing in between; at the end everything."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._go = Event()
        self._end = Event()
        self.digest = hashlib.sha256()
        self.count = 0
        self.reading = Task(self._read)

    def read_some(self) -> None:
        self._go.set()

    def read_all(self) -> None:
        self._end.set()
        self._go.set()

    def _read(self) -> None:
        here = random.Random(7)
        while True:
            assert self._go.wait(PATIENCE), "nobody timed out"
            if not self._end.is_set():
                self._go.clear()
            left = here.randint(1, 3_000_000)
            while left > 0:
                if not self._end.is_set() and not select.select([self._sock], [], [], BRIEF)[0]:
                    break
                data = self._sock.recv(min(left, 1 << 20))
                if not data:
                    return
                left -= len(data)
                self.count += len(data)
                self.digest.update(data)


@pytest.fixture(scope="module")
def data() -> bytes:
    """Thirty megabytes of which no part looks like another, and which are characters too."""
    return b"".join(b"%07d," % number for number in range(SIZE // 8))


@each_way_to_wait
@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview", "writelines", "pieces", "text"])
def test_thirty_megabytes_to_a_stalling_peer(waits: MakeWaits, kind: str, data: bytes) -> None:
    """Resumed by flush() after every WriteTimeout, they arrive once and whole; both counts are exact throughout."""
    mutable = bytearray(data)
    near, far = connect()
    stream = over(near, waits)
    with far:
        peer = StallingPeer(far)
        stream.write_timeout = BRIEF
        writes: dict[str, Callable[[], object]] = {
            "bytes": lambda: stream.write(data),
            "bytearray": lambda: stream.write(mutable),
            "memoryview": lambda: stream.write(memoryview(mutable)),
            "writelines": lambda: stream.writelines(data[at : at + 99_999] for at in range(0, len(data), 99_999)),
            "text": lambda: TextSocketStream(stream).write(data.decode()),
        }
        timeouts = 0
        if kind == "pieces":
            for at in range(0, len(data), 99_999):
                try:
                    stream.write(data[at : at + 99_999])
                except WriteTimeout as timeout:
                    timeouts += 1
                    assert_counts(timeout, min(len(data), at + 99_999), stream.bytes_sent)
                    peer.read_some()
        else:
            with pytest.raises(WriteTimeout) as caught:
                writes[kind]()
            timeouts += 1
            assert_counts(caught.value, len(data), stream.bytes_sent)
            mutable[:] = bytes(SIZE)
        while True:
            peer.read_some()
            try:
                stream.flush()
                break
            except WriteTimeout as timeout:
                timeouts += 1
                assert_counts(timeout, len(data), stream.bytes_sent)
        assert timeouts > 3
        assert stream.bytes_sent == len(data)
        stream.close()
        peer.read_all()
        peer.reading.result()
        assert peer.count == len(data)
        assert peer.digest.digest() == hashlib.sha256(data).digest()


def assert_counts(timeout: WriteTimeout, accepted: int, sent: int) -> None:
    assert timeout.accepted == accepted
    assert timeout.sent == sent
