"""TLS streams: what has arrived and is no data, and what a stream costs and leaves behind."""

from __future__ import annotations

import gc
import select
import socket
import ssl
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from pairs import (
    WAITS,
    each_way_to_wait,
)
from tls_support import (
    BOTH_VERSIONS,
    V13,
    certificate,
    client_context,
)
from tls_wire import Bare, MakeWaits, bare_pair, recorded_pair, reset

from landline import (
    ReadTimeout,
    SocketError,
    SocketStream,
    SslError,
    TextSocketStream,
    open_tcp_stream,
)
from landline.testing.contract.reading import EVERY, FIRST, LINE, WHOLE, send
from landline.testing.contract.stage import BRIEF, PATIENCE, expect, stall, until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

MARK = b"what nobody in between may read\n"
BOTH_SIDES = pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])


# ---- what has arrived and is no data -------------------------------------------------------------------


@each_way_to_wait
@pytest.mark.parametrize("method", [*WHOLE, *FIRST, "text", "text_iteration", "deadline"])
def test_tickets_are_nothing_to_read(waits: MakeWaits, method: str) -> None:
    """They have arrived and been taken, and still there is nothing yet: reads time out, and later give the data."""
    reads: dict[str, Callable[[SocketStream], Callable[[], object]]] = {
        **WHOLE,
        **FIRST,
        "text": lambda stream: TextSocketStream(stream).readline,
        "text_iteration": lambda stream: iter(TextSocketStream(stream)).__next__,
        "deadline": _in_deadlines,
    }
    stream, under, bare = recorded_pair(waits, V13, tickets=False)
    with stream, bare:
        read = reads[method](stream)
        bare.sock.sendall(bare.tickets)
        under.has_arrived(len(bare.tickets))
        stream.read_timeout = BRIEF
        for _ in range(2):
            with pytest.raises(ReadTimeout):
                read()
        bare.say(LINE)
        stream.read_timeout = PATIENCE
        assert read() in (LINE, LINE.decode())


def _in_deadlines(stream: SocketStream) -> Callable[[], object]:
    def read() -> bytes:
        with stream.deadline(stream.read_timeout):
            return stream.readline()

    return read


@each_way_to_wait
def test_tickets_do_not_make_input_ready(waits: MakeWaits) -> None:
    """Nothing yet, though the descriptor is readable: neither a block nor an end."""
    stream, under, bare = recorded_pair(waits, V13, tickets=False)
    with stream, bare:
        text = TextSocketStream(stream)
        for piece in (bare.tickets[:50], bare.tickets[50:]):
            bare.sock.sendall(piece)
            under.has_arrived(len(piece))
            assert not stream.input_ready()
            assert stream.read_no_hang() is None
            assert text.read_no_hang() is None
            assert not select.select([stream], [], [], 0)[0], "they have been taken"
        assert stream.bytes_received == 0
        bare.say(LINE)
        until(stream.input_ready)
        assert stream.read_no_hang() == LINE


@BOTH_VERSIONS
@each_way_to_wait
def test_a_record_is_nothing_until_it_is_whole(waits: MakeWaits, version: ssl.TLSVersion) -> None:
    """At every point inside it: nothing yet. What had come before it can be read, peeked at and put back meanwhile."""
    stream, under, bare = recorded_pair(waits, version, server_side=True)
    with stream, bare:
        (record,) = bare.sealed(b"whole\n")
        for number, byte in enumerate(record[:-1]):
            bare.sock.sendall(bytes([byte]))
            under.has_arrived(1)
            assert stream.read_no_hang() is None if number % 2 else not stream.input_ready()
        stream.read_timeout = BRIEF
        for name in ("first-read1", "first-peek", "whole-readline", "whole-read_exactly", "whole-iteration"):
            with pytest.raises(ReadTimeout):
                EVERY[name](stream)()
        bare.sock.sendall(record[-1:])
        under.has_arrived(1)
        assert stream.input_ready()
        assert stream.peek() == b"whole\n"
        assert stream.read_exactly(2) == b"wh"
        (record,) = bare.sealed(b"next\n")
        bare.sock.sendall(record[:9])
        assert stream.read_no_hang() == b"ole\n"
        stream.unread(b"hole\n")
        assert stream.input_ready()
        assert stream.readline() == b"hole\n"
        assert stream.read_no_hang() is None
        bare.sock.sendall(record[9:])
        stream.read_timeout = PATIENCE
        assert list(islice(stream, 1)) == [b"next\n"]
        assert stream.bytes_received == len(b"whole\nnext\n")


@BOTH_VERSIONS
@each_way_to_wait
def test_text_goes_on_over_characters_and_lines_that_records_divide(waits: MakeWaits, version: ssl.TLSVersion) -> None:
    """A record may hold half a character, half a line end, or nothing but the rest of one."""
    stream, bare = bare_pair(waits, version)
    data = "täglich 日本 🙂\r\nnext\n".encode()
    with TextSocketStream(stream) as text, bare:
        for at in range(len(data)):
            bare.say(data[at : at + 1])
            if at % 4 == 0 and b"\r" not in data[: at + 1]:
                text.read_timeout = BRIEF
                with pytest.raises(ReadTimeout):
                    text.readline()
        text.read_timeout = PATIENCE
        assert text.readline() == "täglich 日本 🙂\n"
        assert next(text) == "next\n"
        bare.say("日".encode()[:2])
        until(lambda: text.read_no_hang() is None and stream.bytes_received == len(data) + 2)
        bare.say("日".encode()[2:] + b"x")
        until(text.input_ready)
        assert text.read_no_hang() == "日x"
        bare.say("cut off 日".encode()[:-1])
        bare.sock.shutdown(socket.SHUT_WR)
        for _ in range(2):
            with pytest.raises(SslError):
                text.readline()
        assert text.read_no_hang() == "cut off "
        with pytest.raises(SslError):
            text.read()


# ---- memory --------------------------------------------------------------------------------------------

SERVER = """
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
listener = socket.create_server(("127.0.0.1", 0), backlog=50)
print(listener.getsockname()[1], flush=True)
held = []
while True:
    held.append(context.wrap_socket(listener.accept()[0], server_side=True))
"""


@pytest.fixture
def idle_server(tmp_path: Path) -> Iterator[int]:
    """The port of a server in another process, whose memory is not counted here."""
    file = tmp_path / "server.pem"
    certificate("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(file)
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(file)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        yield int(process.stdout.readline())
        process.kill()
        process.wait()


@BOTH_VERSIONS
def test_an_idle_stream_costs_little(version: ssl.TLSVersion, idle_server: int) -> None:
    """Of Python's memory, the plain stream included; what OpenSSL takes for itself Python does not see."""
    context = client_context(version)

    def opened() -> SocketStream:
        return open_tcp_stream("127.0.0.1", idle_server, ssl_ctx=context, read_timeout=PATIENCE)

    opened().close()  # whatever is imported or cached once
    tracemalloc.start()
    try:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        streams = [opened() for _ in range(200)]
        for stream in streams:
            assert stream.read_no_hang() is None
        gc.collect()
        cost = (tracemalloc.get_traced_memory()[0] - before) / len(streams)
    finally:
        tracemalloc.stop()
    for stream in streams:
        stream.close()
    assert cost <= 3700


def _reads(stream: SocketStream, bare: Bare) -> None:
    bare.say(LINE)
    assert stream.readline() == LINE
    send(stream, LINE)


def _waits(stream: SocketStream, bare: Bare) -> None:
    stream.read_timeout = BRIEF
    with expect(ReadTimeout):
        stream.readline()


def _ends(stream: SocketStream, bare: Bare) -> None:
    bare.sock.sendall(bare.farewell())
    assert stream.read() == b""


def _is_cut_off(stream: SocketStream, bare: Bare) -> None:
    bare.sock.shutdown(socket.SHUT_WR)
    with expect(SslError):
        stream.readline()


def _is_reset(stream: SocketStream, bare: Bare) -> None:
    reset(bare.sock)
    with expect(SslError):
        stream.readline()


def _is_damaged(stream: SocketStream, bare: Bare) -> None:
    bare.sock.sendall(bytes(100))
    with expect(SslError):
        stream.readline()


def _cannot_send(stream: SocketStream, bare: Bare) -> None:
    reset(bare.sock)
    with expect(SslError):
        stall(stream)


USES: dict[str, Callable[[SocketStream, Bare], object]] = {
    "nothing": lambda stream, bare: None,
    "tls": lambda stream, bare: stream.tls,
    "data": _reads,
    "half_close": lambda stream, bare: stream.shutdown("output"),
    "read_timeout": _waits,
    "write_timeout": lambda stream, bare: stall(stream),
    "end": _ends,
    "truncation": _is_cut_off,
    "reset": _is_reset,
    "damage": _is_damaged,
    "send": _cannot_send,
}


@BOTH_VERSIONS
@pytest.mark.parametrize("ending", ["close", "abort"])
@pytest.mark.parametrize("use", USES)
def test_a_closed_stream_is_freed_at_once(version: ssl.TLSVersion, use: str, ending: str) -> None:
    """No cycle holds it, whatever it met: its memory, and OpenSSL's behind it, does not wait for the collector."""
    for waits in WAITS.values():
        stream, bare = bare_pair(waits, version)
        gc.disable()
        try:
            transport: Any = stream._channel.transport
            left = [weakref.ref(stream), weakref.ref(transport.session.ssl_object)]
            del transport
            USES[use](stream, bare)
            stream.write_timeout = 0
            with suppress(SocketError):
                getattr(stream, ending)()
            del stream
            assert [each() for each in left] == [None, None]
        finally:
            gc.enable()
            bare.sock.close()
