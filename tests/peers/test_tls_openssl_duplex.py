"""Both directions at once against openssl, and what may come between: key updates, renegotiations.

Whatever s_server prints beside data comes before our first byte (it flushes then), but for a line per command.
"""

from __future__ import annotations

import contextlib
import re
import signal
import ssl
import time
from collections.abc import Iterator
from threading import Event

import pytest
from certificates import matrix  # noqa: F401 - the fixture `certificates`
from tls_daemons import (
    BEGIN,
    BIG,
    END,
    HELLO_REQUEST,
    RENEGOTIATED,
    Parties,
    Program,
    accepted,
    digits,
    exchange,
    greet,
    opened,
    parties_fixture,  # noqa: F401 - the fixture `parties`
    s_server,
    send,
    waiting,
)

from landline import SocketStream, StreamClosed, WriteTimeout
from landline.testing.contract.stage import PATIENCE, Task, expect, until

pytestmark = [pytest.mark.usefixtures("no_leaks", "quick_leak_checks"), pytest.mark.peer("openssl")]

UP, DOWN = digits(BIG, seed=1), digits(BIG, seed=2)

PIECES = 8
"""In which a large transfer is typed; with a key update or renegotiation before each."""


# ---- large transfers, with all that may come in between ------------------------------------------


def both_ways(
    stream: SocketStream, peer: Program, command: bytes = b"", begun: bytes = b"", done: bytes = b"", before: int = 0
) -> None:
    """UP and DOWN at once, each whole. Before each piece of DOWN, and in the midst of UP, the ``command`` is typed.

    Args:
        begun: what the peer notes when it has obeyed.
        done: what it notes when our side has answered; and ``before``, how often that was in the first handshake.
    """
    reading = Task(lambda: stream.read_exactly(BIG + len(END)))
    stream.write(BEGIN)
    for number in range(PIECES):
        begin, end = number * BIG // PIECES, (number + 1) * BIG // PIECES
        writing = Task(lambda: send(stream, UP[begin : end - 1]))  # noqa: B023
        if command:
            peer.type(command + b"\n")
            peer.noted(begun, number + 1)
        typing = Task(lambda: peer.type(DOWN[begin:end]))  # noqa: B023
        until(lambda: stream.bytes_received >= end or reading.ended_at)  # noqa: B023
        writing.result()
        assert not reading.ended_at or reading.result()
        typing.result()
        send(stream, UP[end - 1 : end])  # OpenSSL answers a key update with its next record of data
        if command:
            peer.noted(done, before + number + 1)
    send(stream, END)
    peer.type(END)
    assert reading.result() == DOWN + END
    until(lambda: END in peer.out[-200:])
    came = bytes(peer.out).partition(BEGIN)[2].partition(END)[0]
    assert re.sub(rb"SSL_do_handshake -> 1\n|Read BLOCK\n", b"", came) == UP
    assert stream.bytes_sent == len(BEGIN + UP + END)
    assert stream.bytes_received == len(DOWN + END)


def test_20_megabytes_each_way_with_key_updates_by_the_server(parties: Parties) -> None:
    with s_server(parties, "1.3", "-state") as (server, port), opened(port, parties.client_context()) as stream:
        both_ways(stream, server, b"K", b"write server key update", b"read client key update")


def test_20_megabytes_each_way_with_renegotiations_by_the_server(parties: Parties) -> None:
    context = ssl.create_default_context(cafile=parties.trusted_file)
    assert not context.options & ssl.OP_NO_RENEGOTIATION
    with s_server(parties, "1.2", "-state") as (server, port), opened(port, context) as stream:
        both_ways(stream, server, b"r", HELLO_REQUEST, RENEGOTIATED, 1)


def test_20_megabytes_each_way_with_key_updates_by_the_client(parties: Parties) -> None:
    with accepted(parties, "1.3", "-state", commands=True) as (stream, client):
        stream.start_tls(parties.server_context())
        both_ways(stream, client, b"K", b"write client key update", b"read server key update")


def test_20_megabytes_each_way_as_a_server_of_tls_1_2(parties: Parties) -> None:
    with accepted(parties, "1.2") as (stream, client):
        stream.start_tls(parties.server_context())
        both_ways(stream, client)


def test_a_key_update_that_asks_for_none_of_ours(parties: Parties) -> None:
    with s_server(parties, "1.3", "-state") as (server, port), opened(port, parties.client_context()) as stream:
        exchange(stream, server)
        server.type(b"k\n")
        server.noted(b"write server key update")
        exchange(stream, server)
        assert b"read client key update" not in server.err


@pytest.mark.parametrize("before", [b"", b"4444\n"], ids=["at once", "after payload"])
def test_payload_that_comes_within_a_renegotiation_does_not_stop_a_writer(before: bytes, parties: Parties) -> None:
    """RFC 5246, 7.4.1.1: the server sends on until it has our ClientHello, and we may be writing already."""
    with renegotiating(parties, before) as (stream, server):
        server.type(b"5555\n")
        writing = Task(lambda: send(stream, b"written meanwhile")).blocked()
        server.process.send_signal(signal.SIGCONT)
        writing.result()
        assert stream.readline() == b"5555\n"
        server.said(b"written meanwhile")
        server.noted(RENEGOTIATED, 2)
        exchange(stream, server)


def test_renegotiations_while_one_thread_reads_and_another_writes(parties: Parties) -> None:
    """Whichever of the two receives the server's part, ours goes out. Often, as that is decided by chance."""
    context = ssl.create_default_context(cafile=parties.trusted_file)
    with s_server(parties, "1.2", "-state") as (server, port), opened(port, context) as stream:
        greet(stream, server)
        enough = Event()
        reading = Task(stream.readline)
        writing = Task(lambda: write_until(stream, enough))
        for number in range(50):
            server.type(b"r\n")
            server.noted(RENEGOTIATED, number + 2)
        enough.set()
        written = writing.result()
        server.said(b"~", written)
        server.type(b"5555\n")
        assert reading.result() == b"5555\n"


def write_until(stream: SocketStream, enough: Event) -> int:
    """Write a byte at a time; how many they were."""
    count = 0
    while not enough.is_set():
        send(stream, b"~")
        count += 1
    return count


@pytest.mark.parametrize("also_read", [False, True], ids=["writing", "reading and writing"])
def test_a_write_that_a_renegotiation_holds_up_times_out_and_goes_on(also_read: bool, parties: Parties) -> None:
    with renegotiating(parties) as (stream, server):
        reading = Task(stream.readline).blocked() if also_read else None
        stream.write_timeout = 0.05
        with expect(WriteTimeout) as caught:
            send(stream, b"written meanwhile")
        assert caught.error.accepted - caught.error.sent == len(b"written meanwhile")
        server.process.send_signal(signal.SIGCONT)
        stream.write_timeout = PATIENCE
        stream.flush()
        server.said(b"written meanwhile")
        server.type(b"5555\n")
        assert (reading.result() if reading else stream.readline()) == b"5555\n"


@pytest.mark.parametrize("also_read", [False, True], ids=["writing", "reading and writing"])
def test_closing_wakes_a_write_that_a_renegotiation_holds_up(also_read: bool, parties: Parties) -> None:
    with renegotiating(parties) as (stream, _):
        reading = Task(stream.readline).blocked() if also_read else None
        writing = Task(lambda: send(stream, b"never sent"))
        until(lambda: stream._channel._busy == "flush")  # it is inside, and cannot get any further
        began = time.monotonic()
        stream.close()
        assert time.monotonic() - began < PATIENCE / 4
        writing.failure(StreamClosed)
        if reading:
            reading.failure(StreamClosed)


def test_our_output_may_end_within_a_renegotiation(parties: Parties) -> None:
    """Half close does not take away what the server still sends."""
    with renegotiating(parties) as (stream, server):
        server.type(b"5555\n")
        ending = Task(lambda: stream.shutdown("output"))
        server.process.send_signal(signal.SIGCONT)
        ending.result()
        assert stream.read() == b"5555\n"


@contextlib.contextmanager
def renegotiating(parties: Parties, payload: bytes = b"") -> Iterator[tuple[SocketStream, Program]]:
    """The server has sent its HelloRequest, then ``payload``, and stands still; our side has answered.

    When it goes on, what was typed meanwhile is sent before our ClientHello is looked at.
    """
    context = ssl.create_default_context(cafile=parties.trusted_file)
    with s_server(parties, "1.2", "-state") as (server, port), opened(port, context) as stream:
        greet(stream, server)
        server.type(b"r\n")
        server.noted(HELLO_REQUEST)
        until(lambda: waiting(stream))
        request = waiting(stream)
        server.type(payload)
        until(lambda: waiting(stream) > request or not payload)
        server.process.send_signal(signal.SIGSTOP)
        assert stream.input_ready() == bool(payload)
        assert stream.read_no_hang() == (payload or None)
        yield stream, server
