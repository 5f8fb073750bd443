"""The stream serves as a file: what takes a file object takes it, both ways."""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import random
import select
import selectors
import shutil
import socket
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pairs import (
    WAITS,
    stream_pair,
)

from landline import ReadTimeout, SocketStream, TextSocketStream
from landline.sync.wait import Waits
from landline.testing.contract.reading import send
from landline.testing.contract.stage import BRIEF, Task

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

Pair = tuple[SocketStream, SocketStream]

BYTES = random.Random(1).randbytes(700_000)


@pytest.fixture(params=WAITS.values(), ids=list(WAITS))
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A stream that waits in either way, and its peer."""
    make: Callable[[socket.socket], Waits] = request.param
    stream, peer = stream_pair(make)
    with stream, peer:
        yield stream, peer


def sends(stream: SocketStream, write: Callable[[], object]) -> Task[None]:
    """Run ``write`` in a thread, then flush and end the output of ``stream``."""

    def run() -> None:
        write()
        stream.shutdown("output")

    return Task(run)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A few files of different sizes."""
    root = tmp_path / "things"
    (root / "deep").mkdir(parents=True)
    (root / "empty").touch()
    (root / "small.txt").write_text("größe\n", "utf-8")
    (root / "deep" / "large").write_bytes(BYTES)
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# ---- archives and compression --------------------------------------------------------------------------


@pytest.mark.parametrize(("write", "read"), [("w|", "r|"), ("w|gz", "r|*")])
def test_tar_streams_both_ways(
    pair: Pair,
    folder: Path,
    tmp_path: Path,
    write: Literal["w|", "w|gz"],
    read: Literal["r|", "r|*"],
) -> None:
    for number, (source, sink) in enumerate((pair, pair[::-1])):

        def pack(source: SocketStream = source) -> None:
            with tarfile.open(fileobj=source, mode=write) as archive:
                archive.add(folder, "things")

        packing = sends(source, pack)
        target = tmp_path / str(number)
        with tarfile.open(fileobj=sink, mode=read) as archive:
            archive.extractall(target, filter="data")
        packing.result()
        assert contents(target / "things") == contents(folder)
        assert set(sink.read()) <= {0}, "tar fills its last block up"


def test_gzip_both_ways(pair: Pair) -> None:
    for source, sink in (pair, pair[::-1]):

        def pack(source: SocketStream = source) -> None:
            with gzip.open(source, "wb") as packed:
                packed.write(BYTES)
                packed.write(b"and more")

        packing = sends(source, pack)
        with gzip.open(sink, "rb") as unpacked:
            assert unpacked.read() == BYTES + b"and more"
        packing.result()


def test_a_zip_archive_is_written_to_a_stream(pair: Pair, folder: Path) -> None:
    stream, peer = pair

    def pack() -> None:
        with zipfile.ZipFile(stream, "w") as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, path.relative_to(folder))

    packing = sends(stream, pack)
    with zipfile.ZipFile(io.BytesIO(peer.read())) as archive:
        assert archive.read("deep/large") == BYTES
        assert archive.testzip() is None
    packing.result()


# ---- copying -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1000, 1 << 20])
def test_copyfileobj_both_ways(pair: Pair, tmp_path: Path, length: int) -> None:
    path = tmp_path / "data"
    path.write_bytes(BYTES)
    for source, sink in (pair, pair[::-1]):
        with path.open("rb") as file:
            sending = sends(source, lambda file=file, source=source: shutil.copyfileobj(file, source, length))  # type: ignore[misc]
            copy = io.BytesIO()
            shutil.copyfileobj(sink, copy, length)
            sending.result()
        assert copy.getvalue() == BYTES


def test_copyfileobj_from_stream_to_stream(pair: Pair) -> None:
    """What a proxy does."""
    stream, peer = pair
    onward, end = stream_pair(WAITS["polled"])
    with onward, end:
        sending = sends(peer, lambda: peer.write(BYTES))
        copying = sends(onward, lambda: shutil.copyfileobj(stream, onward))
        assert end.read() == BYTES
        sending.result()
        copying.result()


# ---- objects -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_one_after_another(pair: Pair, protocol: int) -> None:
    """load() takes its object and no byte more; more follows, and answers go back in between."""
    stream, peer = pair
    objects: list[Any] = [1, "zwei", [3.0, None, {"4": (5,)}], BYTES, bytearray(BYTES), b"x" * 65_535, "日本" * 50_000]

    def answer() -> None:
        for _ in objects:
            pickle.dump(pickle.load(peer), peer, protocol)
            peer.write(b"line\n")
            peer.flush()

    answering = Task(answer)
    for thing in objects:
        pickle.dump(thing, stream, protocol)
        assert pickle.load(stream) == thing
        assert stream.readline() == b"line\n"
    answering.result()


def test_json_lines_both_ways(pair: Pair) -> None:
    stream, peer = pair
    with TextSocketStream(stream) as text, TextSocketStream(peer) as other:
        things: list[Any] = [{"id": number, "name": "ü" * number, "nested": [number] * 3} for number in range(200)]

        def echo() -> None:
            for line in other:
                json.dump(json.loads(line), other, ensure_ascii=False)
                print(file=other)

        echoing = Task(echo)
        for thing in things:
            json.dump(thing, text)
            text.write("\n")
            assert json.loads(text.readline()) == thing
        text.shutdown("output")
        echoing.result()


def test_json_load_reads_to_the_end(pair: Pair) -> None:
    stream, peer = pair
    thing = {"größe": list(range(1000))}
    sending = sends(peer, lambda: peer.write(json.dumps(thing).encode()))
    assert json.load(stream) == thing
    sending.result()


def test_csv_both_ways(pair: Pair) -> None:
    stream, peer = pair
    rows = [["id", "text"], ["1", 'say "hi"'], ["2", "two\nlines"], ["3", "ümlaut, and comma"], ["4", ""]] * 50
    sink = TextSocketStream(peer, newline="")
    source = TextSocketStream(stream, newline="")
    writing = sends(stream, lambda: csv.writer(source).writerows(rows))
    assert list(csv.reader(sink)) == rows
    writing.result()


def test_print_writes_to_a_text_stream(pair: Pair) -> None:
    stream, peer = pair
    text = TextSocketStream(stream)
    print("one", 2, sep=", ", file=text, flush=True)
    assert peer.readline() == b"one, 2\n"


def test_structures_are_read_by_count(pair: Pair) -> None:
    stream, peer = pair
    frame = struct.Struct("!IH")

    def write() -> None:
        for number in range(2000):
            body = BYTES[number : number + number % 300]
            peer.write(frame.pack(number, len(body)))
            peer.write(body)

    writing = sends(peer, write)
    for number in range(2000):
        index, size = frame.unpack(stream.read_exactly(frame.size))
        assert index == number
        assert stream.read_exactly(size) == BYTES[number : number + number % 300]
    assert stream.read() == b""
    writing.result()


# ---- io on top -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("newline", [None, "", "\n"])
def test_text_io_wrapper_reads_and_writes_over_it(pair: Pair, newline: str | None) -> None:
    stream, peer = pair
    lines = [f"{number}: größe\n" for number in range(5000)]
    with io.TextIOWrapper(stream, "utf-8", newline=newline) as wrapper:
        assert wrapper.name == stream.fileno()
        other = TextSocketStream(peer)
        sending = sends(peer, lambda: other.writelines(lines))
        assert wrapper.readline() == lines[0]
        assert list(wrapper) == lines[1:]
        sending.result()
        wrapper.writelines(lines)
        wrapper.flush()
        assert [other.readline() for _ in lines] == lines
        wrapper.write("unflushed")
    assert stream.closed
    assert other.read() == "unflushed"


def test_buffered_reader_and_writer_over_it(pair: Pair) -> None:
    """Nobody needs them, and they work: the stream serves as a raw file too."""
    stream, peer = pair
    sending = sends(peer, lambda: peer.write(BYTES))
    reader: Any = io.BufferedReader(stream)  # type: ignore[type-var, arg-type, unused-ignore]
    assert reader.read(1000) == BYTES[:1000]
    assert reader.read() == BYTES[1000:]
    sending.result()
    reader.detach()
    writer: Any = io.BufferedWriter(stream)  # type: ignore[type-var, arg-type, unused-ignore]
    writer.write(b"through")
    writer.flush()
    stream.flush()
    assert peer.read_exactly(7) == b"through"
    writer.detach()


# ---- readiness -----------------------------------------------------------------------------------------


def test_select_takes_the_stream(pair: Pair) -> None:
    stream, peer = pair
    assert select.select([stream], [stream], [], 0) == ([], [stream], [])
    send(peer, b"x")
    assert select.select([stream], [], [], None)[0] == [stream]
    assert stream.read_no_hang() == b"x"
    peer.shutdown("output")
    assert select.select([stream], [], [], None)[0] == [stream]
    assert stream.read_no_hang() == b""


def test_selectors_take_many_streams() -> None:
    pairs = [stream_pair(WAITS[name]) for name in WAITS for _ in range(10)]
    with selectors.DefaultSelector() as selector:
        for number, (stream, _) in enumerate(pairs):
            stream.read_timeout = 0
            selector.register(stream, selectors.EVENT_READ, number)
        for number, (_, peer) in enumerate(pairs):
            send(peer, b"%d and half a " % number)
        got = [b""] * len(pairs)
        asked_for_more = False
        while not all(line.endswith(b"\n") for line in got):
            for key, _ in selector.select(None):
                stream = pairs[key.data][0]
                try:
                    got[key.data] = stream.readline()
                except ReadTimeout:
                    assert stream.bytes_received > 0
            if not asked_for_more:
                asked_for_more = True
                for _, peer in pairs:
                    send(peer, b"line\n")
        assert got == [b"%d and half a line\n" % number for number in range(len(pairs))]
    for stream, peer in pairs:
        stream.close()
        peer.close()


def test_what_is_buffered_is_told_by_input_ready_and_not_by_select(pair: Pair) -> None:
    """The trap of every buffered stream, and its cure."""
    stream, peer = pair
    send(peer, b"one\ntwo\n")
    assert stream.readline() == b"one\n"
    assert select.select([stream], [], [], BRIEF)[0] == []
    assert stream.input_ready()
    assert stream.readline() == b"two\n"
    assert not stream.input_ready()
