"""wait_for_input_streams(), clause by clause: in the clear and over TLS, bytes and text, however a stream waits."""

from __future__ import annotations

import errno
import io
import random
import selectors
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import count
from select import select
from typing import Any, NamedTuple

import pytest
from pairs import (
    WAITS,
    each_way_to_wait,
    needs_signals,
    signals,
    stream_pair,
    tls_pair,
)
from tls_support import BOTH_VERSIONS, HOST, V12, V13, client_context, server_context
from tls_wire import recorded_pair

from landline import (
    SocketCreateError,
    SocketStream,
    SslError,
    SslHandshakeTimeout,
    StreamClosed,
    TextSocketStream,
    WriteTimeout,
    start_up_server,
)
from landline.sync import ready as ready_module
from landline.sync.flow import Flow
from landline.sync.ready import wait_for_input_streams, wait_for_input_streams_returning_first
from landline.sync.udp import UdpSocket
from landline.sync.wait import PolledWaits, Waits
from landline.testing.contract.stage import BRIEF, BROKEN, PATIENCE, Task, standing_still, until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

MakeWaits = Callable[[socket.socket], Waits]

NEVER_SO_SOON = 3600.0
"""Seconds: a wait that ends has been ended."""


class Pair(NamedTuple):
    """The stream that is waited for, as bytes or as text; the bytes under it; and its peer."""

    stream: Any
    under: SocketStream
    peer: SocketStream

    def hear(self, data: bytes) -> None:
        """Have the peer say something."""
        self.peer.write(data)
        self.peer.flush()

    def has_arrived(self) -> None:
        """Wait until something has."""
        assert select([self.under], [], [], PATIENCE)[0]

    def read(self, count: int) -> bytes:
        data = self.stream.read_exactly(count)
        return data if isinstance(data, bytes) else str(data).encode()


KINDS = {
    f"bytes-{way}-{over}": ("bytes", waits, version)
    for way, waits in WAITS.items()
    for over, version in (("plain", None), ("TLS 1.2", V12), ("TLS 1.3", V13))
} | {
    "text-plain": ("text", PolledWaits, None),
    "text-TLS": ("text", PolledWaits, V13),
}


@pytest.fixture(params=KINDS.values(), ids=list(KINDS))
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Every kind of stream."""
    element, waits, version = request.param
    under, peer = stream_pair(waits) if version is None else tls_pair(waits, version)
    assert ready(under) == [], "tickets, which came with the handshake, are out of the way now"
    yield Pair(TextSocketStream(under) if element == "text" else under, under, peer)
    under.abort()
    peer.abort()


@pytest.fixture
def plain() -> Iterator[Pair]:
    """One kind, for what has nothing to do with kinds."""
    under, peer = stream_pair(PolledWaits)
    yield Pair(under, under, peer)
    under.abort()
    peer.abort()


@pytest.fixture
def text() -> Iterator[Pair]:
    under, peer = stream_pair(PolledWaits)
    yield Pair(TextSocketStream(under), under, peer)
    under.abort()
    peer.abort()


def waiting(*streams: Any) -> Task[list[Any]]:
    """A thread that waits already."""
    return Task(lambda: wait_for_input_streams(streams, NEVER_SO_SOON)).blocked()


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The time limits of all polls; it grows."""
    made: list[object] = []

    class Told(selectors.DefaultSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            made.append(timeout)
            return super().select(timeout)

    monkeypatch.setattr(selectors, "DefaultSelector", Told)
    return made


def assert_idle(task: Task[Any], polls: list[object]) -> None:
    """The one thread that waits does not poll again and again."""
    task.blocked()
    before = len(polls)
    task.blocked()
    assert len(polls) - before < 10


def ready(*streams: Any) -> list[Any]:
    return wait_for_input_streams(streams, 0)


# ---- what counts as ready ------------------------------------------------------------------------------


def test_nothing_is_an_empty_list_when_the_timeout_has_passed(pair: Pair) -> None:
    assert wait_for_input_streams([pair.stream], 0) == []
    begun = time.monotonic()
    assert wait_for_input_streams([pair.stream], BRIEF) == []
    assert time.monotonic() - begun >= BRIEF


def test_what_arrives_during_the_wait_ends_it(pair: Pair) -> None:
    task = waiting(pair.stream)
    pair.hear(b"x\n")
    assert task.result() == [pair.stream]
    assert pair.read(2) == b"x\n"


def test_what_has_arrived_before_the_wait_ends_it(pair: Pair) -> None:
    pair.hear(b"x\n")
    pair.has_arrived()
    assert wait_for_input_streams([pair.stream]) == ready(pair.stream) == [pair.stream]
    assert pair.read(2) == b"x\n"
    assert ready(pair.stream) == []


def test_what_is_buffered_counts_although_the_descriptor_does_not_say_so(pair: Pair) -> None:
    pair.hear(b"one\ntwo\n")
    pair.stream.readline()
    assert not select([pair.under], [], [], 0)[0]
    assert wait_for_input_streams([pair.stream]) == ready(pair.stream) == [pair.stream]
    pair.stream.readline()
    assert ready(pair.stream) == []


def test_what_was_put_back_counts(pair: Pair) -> None:
    pair.stream.unread("x" if isinstance(pair.stream, TextSocketStream) else b"x")
    assert wait_for_input_streams([pair.stream]) == [pair.stream]


def test_lines_that_an_iterator_has_not_given_yet_count(pair: Pair) -> None:
    pair.hear(b"one\ntwo\nthree\n")
    lines = iter(pair.stream)
    first = next(lines)
    assert ready(pair.stream) == [pair.stream]
    assert first + next(lines) + next(lines) in (b"one\ntwo\nthree\n", "one\ntwo\nthree\n")
    assert ready(pair.stream) == []


def test_the_peers_end_counts(pair: Pair) -> None:
    task = waiting(pair.stream)
    pair.peer.shutdown("output")
    assert task.result() == [pair.stream]
    assert not pair.stream.read()
    assert wait_for_input_streams([pair.stream]) == [pair.stream], "and goes on to count"


def test_a_failure_counts(pair: Pair) -> None:
    task = waiting(pair.stream)
    pair.peer.abort()
    assert task.result() == [pair.stream]
    for _ in range(2):
        with pytest.raises(BROKEN):
            pair.stream.read(1)
        assert ready(pair.stream) == [pair.stream]


def test_a_failure_that_sending_met_first_counts(pair: Pair) -> None:
    """The kernel tells it once. It is the read that must raise it, and neither the wait nor input_ready()."""
    pair.peer.abort()
    pair.has_arrived()
    pair.stream.write("x" if isinstance(pair.stream, TextSocketStream) else b"x")
    assert wait_for_input_streams([pair.stream]) == [pair.stream]
    assert pair.stream.input_ready()
    with pytest.raises(BROKEN):
        pair.stream.read(1)


# ---- ending on this side -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "abort", "shutdown"])
def test_a_stream_that_another_thread_ends_wakes_the_wait(pair: Pair, how: str) -> None:
    other, peer = stream_pair(PolledWaits)
    with other, peer:
        task = waiting(other, pair.stream)
        {"close": pair.stream.close, "abort": pair.stream.abort, "shutdown": lambda: pair.stream.shutdown("input")}[
            how
        ]()
        assert task.result() == [pair.stream]
    with pytest.raises(StreamClosed):
        pair.stream.read(1)


def test_a_stream_whose_socket_another_thread_detaches_wakes_the_wait(plain: Pair) -> None:
    task = waiting(plain.stream)
    with plain.stream.detach():
        assert task.result() == [plain.stream]


@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_closed_stream_counts(pair: Pair, how: str) -> None:
    {"close": pair.stream.close, "abort": pair.stream.abort}[how]()
    assert wait_for_input_streams([pair.stream]) == ready(pair.stream) == [pair.stream]


def test_closing_wakes_every_wait(plain: Pair) -> None:
    tasks = [waiting(plain.stream) for _ in range(3)]
    plain.stream.close()
    assert [task.result() for task in tasks] == [[plain.stream]] * 3


def test_closing_does_not_wait_for_the_wait(plain: Pair) -> None:
    """It holds no lock of the stream, which is closed, descriptor and all, though the wait cannot go on."""
    started, go_on = threading.Event(), threading.Event()

    class Slow:
        def fileno(self) -> int:
            return plain.peer.fileno()

        def input_ready(self) -> bool:
            started.set()
            return go_on.wait(PATIENCE)

    task = Task(lambda: wait_for_input_streams([plain.stream, Slow()]))
    assert started.wait(PATIENCE)
    plain.stream.close()
    assert plain.under.name == -1
    go_on.set()
    assert plain.stream in task.result()


def test_a_descriptor_is_not_watched_any_more_when_its_number_is_used_again(plain: Pair) -> None:
    """Closed between a look and the poll: the stream counts, whatever its number stands for now."""
    number = plain.stream.fileno()
    seen: list[list[Any]] = []

    class Closing:
        """Closes the stream when it is looked at, which is after the stream was, and opens something else."""

        def fileno(self) -> int:
            return opened[0].fileno()

        def input_ready(self) -> bool:
            if not opened:
                plain.stream.close()
                opened.append(socket.socket())
            return False

    opened: list[socket.socket] = []
    try:
        seen.append(wait_for_input_streams([plain.stream, Closing()], NEVER_SO_SOON))
        assert opened[0].fileno() == number
    finally:
        opened[0].close()
    assert seen == [[plain.stream]]


def test_a_stream_that_is_closed_while_it_is_registered_counts(plain: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    look = Flow.look

    def look_and_close(self: Flow, *arguments: Any) -> Any:
        seen = look(self, *arguments)
        plain.stream.close()
        return seen

    monkeypatch.setattr(Flow, "look", look_and_close)
    assert wait_for_input_streams([plain.stream], NEVER_SO_SOON) == [plain.stream]


def test_select_may_mind_a_descriptor_that_was_closed_just_now(plain: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(selectors.SelectSelector):
        def select(self, timeout: float | None = None) -> Any:
            plain.stream.close()
            raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(selectors, "DefaultSelector", Late)
    assert wait_for_input_streams([plain.stream], NEVER_SO_SOON) == [plain.stream]


def while_waiting(pair: Pair) -> Callable[[], bool]:
    """For signals(): this thread waits for that stream."""
    still = standing_still(threading.get_ident())
    return lambda: bool(pair.under._channel.watchers) and still()


@needs_signals
def test_a_signal_handler_may_close_a_stream_of_the_wait_that_it_interrupts(pair: Pair) -> None:
    with signals(pair.stream.close, when=while_waiting(pair)):
        assert wait_for_input_streams([pair.stream], NEVER_SO_SOON) == [pair.stream]


@needs_signals
def test_signals_neither_end_a_wait_nor_prolong_it(plain: Pair) -> None:
    with signals(lambda: None, when=while_waiting(plain), often=True) as heard:
        while not heard:
            begun = time.monotonic()
            assert wait_for_input_streams([plain.stream], 0.1) == []
            assert 0.1 <= time.monotonic() - begun < PATIENCE


@needs_signals
def test_an_exception_of_a_signal_handler_leaves_nothing_behind(pair: Pair) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with signals(interrupt, when=while_waiting(pair)), pytest.raises(KeyboardInterrupt):
        wait_for_input_streams([pair.stream], NEVER_SO_SOON)
    assert_unwatched(pair)


def assert_unwatched(pair: Pair) -> None:
    """As before the wait: nobody is told anything, and small writes stay here until a flush."""
    channel = pair.under._channel
    assert (channel.watchers, channel._deadlines) == ((), ())
    assert channel.write_room == channel._room
    if not pair.stream.closed:
        pair.under.write(b"x")
        pair.peer.read_timeout = BRIEF
        with pytest.raises(TimeoutError):
            pair.peer.read_exactly(1)
        pair.peer.read_timeout = PATIENCE
        pair.under.flush()
        assert pair.peer.read_exactly(1) == b"x"


# ---- what is to be sent meanwhile ----------------------------------------------------------------------


def test_what_is_pending_is_sent(pair: Pair) -> None:
    pair.under.write(b"question")
    task = waiting(pair.stream)
    assert pair.peer.read_exactly(8) == b"question"
    pair.hear(b"answer")
    assert task.result() == [pair.stream]
    assert_unwatched(pair)


def test_a_poll_sends_what_is_pending_too(pair: Pair) -> None:
    pair.under.write(b"question")
    assert ready(pair.stream) == []
    assert pair.peer.read_exactly(8) == b"question"


def test_all_that_is_pending_is_sent_however_much_it_is(pair: Pair, polls: list[object]) -> None:
    """As the peer takes it: nobody but the wait is there to send it."""
    block = bytes(range(256)) * 32768
    pair.under.write_timeout = 0
    with pytest.raises(WriteTimeout) as caught:
        pair.under.write(block)
    assert caught.value.sent < len(block)
    task = waiting(pair.stream)
    assert pair.peer.read_exactly(len(block)) == block
    assert_idle(task, polls)
    pair.hear(b"answer")
    assert task.result() == [pair.stream]


def test_a_write_of_another_thread_is_sent_at_once(pair: Pair) -> None:
    task = waiting(pair.stream)
    pair.under.write(b"question")
    assert pair.peer.read_exactly(8) == b"question"
    pair.hear(b"answer")
    assert task.result() == [pair.stream]
    assert_unwatched(pair)


def test_a_wait_leaves_an_ended_output_ended(pair: Pair) -> None:
    task = waiting(pair.stream)
    pair.under.shutdown("output")
    pair.hear(b"answer")
    assert task.result() == [pair.stream]
    with pytest.raises(StreamClosed):
        pair.under.write(b"x")


def test_a_wait_leaves_a_closed_stream_closed(pair: Pair) -> None:
    task = waiting(pair.stream)
    pair.under.close()
    assert task.result() == [pair.stream]
    with pytest.raises(StreamClosed):
        pair.under.write(b"x")


def test_several_waits_for_one_stream_end_one_by_one(plain: Pair) -> None:
    """The first that ends takes nothing from the others."""
    other, peer = stream_pair(PolledWaits)
    with other, peer:
        tasks = [waiting(plain.stream), waiting(plain.stream, other)]
        peer.write(b"x")
        peer.flush()
        assert tasks[1].result() == [other]
        plain.under.write(b"question")
        assert plain.peer.read_exactly(8) == b"question", "somebody waits still, so it was sent at once"
        plain.hear(b"answer")
        assert tasks[0].result() == [plain.stream]
    assert_unwatched(plain)


# ---- other threads that read ---------------------------------------------------------------------------


def test_a_stream_that_another_thread_reads_does_not_count_and_what_that_leaves_over_does(pair: Pair) -> None:
    """A read that began before the wait."""
    reading = Task(lambda: pair.read(2)).blocked()
    assert wait_for_input_streams([pair.stream], BRIEF) == []
    task = waiting(pair.stream)
    pair.hear(b"abc")
    assert reading.result() == b"ab"
    assert task.result() == [pair.stream]
    assert pair.read(1) == b"c"


def test_what_a_read_that_began_later_leaves_over_counts(pair: Pair) -> None:
    task = waiting(pair.stream)
    reading = Task(lambda: pair.read(2)).blocked()
    pair.hear(b"abc")
    assert reading.result() == b"ab"
    assert task.result() == [pair.stream]
    assert pair.read(1) == b"c"
    assert_unwatched(pair)


def test_half_of_what_another_thread_reads_is_its_own(pair: Pair) -> None:
    reading = Task(lambda: pair.read(2)).blocked()
    pair.hear(b"a")
    until(lambda: pair.under.bytes_received == 1)
    reading.blocked()
    assert wait_for_input_streams([pair.stream], BRIEF) == ready(pair.stream) == []
    pair.hear(b"b")
    assert reading.result() == b"ab"
    assert ready(pair.stream) == []


def test_another_threads_read_may_take_everything(pair: Pair, polls: list[object]) -> None:
    task = waiting(pair.stream)
    for word in (b"one\n", b"two\n"):
        reading = Task(lambda: pair.read(4)).blocked()
        pair.hear(word)
        assert reading.result() == word
    assert wait_for_input_streams([pair.stream], BRIEF) == []
    assert_idle(task, polls)
    pair.hear(b"more")
    assert task.result() == [pair.stream]


def test_a_wait_does_not_spin_while_another_thread_takes_its_time(plain: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptor is readable, and the lock taken: seldom looked at, and noticed when it is free."""
    looks = counted_looks(monkeypatch)
    task = waiting(plain.stream)
    with plain.under._channel._reading:
        plain.hear(b"x")
        until(lambda: len(looks) >= 6)
    assert task.result() == [plain.stream]
    assert len(looks) < 20, "a poll that does not wait would have looked some thousand times"
    assert looks[5] - looks[2] > 0.05, "and looks get rarer"


def test_who_watches_is_told_what_no_descriptor_tells(plain: Pair) -> None:
    """On every system, whatever else wakes a wait on some of them."""
    channel = plain.under._channel
    heard: list[str] = []

    def tell() -> None:
        heard.append(doing)

    channel.watch(tell)
    plain.hear(b"abc")
    doing = "a read that receives"
    assert plain.under.read_exactly(1) == b"a"
    doing = "a read from the buffer"
    assert plain.under.read_exactly(1) == b"b"
    doing = "another transport"
    channel.replace_transport(channel.transport)
    doing = "the end of the input"
    plain.under.shutdown("input")
    doing = "the end of all"
    plain.under.close()
    assert heard == ["a read that receives", "another transport", "the end of the input", "the end of all"]
    for _ in range(2):
        channel.unwatch(tell)
    channel.tell()
    assert len(heard) == 4


# ---- text ----------------------------------------------------------------------------------------------


def test_half_a_character_does_not_count(text: Pair) -> None:
    for byte in "🖖".encode()[:-1]:
        task = Task(lambda: wait_for_input_streams([text.stream], 10 * BRIEF))
        text.hear(bytes([byte]))
        assert task.result() == []
    task = waiting(text.stream)
    text.hear("🖖".encode()[-1:])
    assert task.result() == [text.stream]
    assert text.stream.read(1) == "🖖"


def test_characters_that_are_decoded_count(text: Pair) -> None:
    text.hear("äöü\n".encode())
    assert text.stream.read(1) == "ä"
    for left in ("ö", "ü", "\n"):
        assert ready(text.stream) == [text.stream]
        assert text.stream.read(1) == left
    assert ready(text.stream) == []


def test_a_line_feed_that_ends_no_line_of_its_own_does_not_count(text: Pair) -> None:
    """The one behind a CR that has ended the line already."""
    text.hear(b"one\r")
    assert wait_for_input_streams([text.stream]) == [text.stream]
    assert text.stream.readline() == "one\n"
    text.hear(b"\n")
    assert wait_for_input_streams([text.stream], 10 * BRIEF) == []
    text.hear(b"two\n")
    assert wait_for_input_streams([text.stream]) == [text.stream]
    assert text.stream.readline() == "two\n"


def test_what_cannot_be_decoded_counts(text: Pair) -> None:
    text.hear(b"\xff\n")
    for _ in range(2):
        assert wait_for_input_streams([text.stream]) == [text.stream]
    with pytest.raises(UnicodeDecodeError):
        text.stream.readline()


def test_a_text_stream_and_its_bytes_may_both_be_waited_for(text: Pair) -> None:
    task = waiting(text.stream, text.under)
    text.hear(b"x")
    assert task.result()
    assert text.stream.read(1) == "x"
    assert ready(text.stream, text.under) == []
    task = waiting(text.under, text.stream)
    text.stream.close()
    assert task.result() == [text.under, text.stream]


# ---- TLS -----------------------------------------------------------------------------------------------


@each_way_to_wait
def test_tickets_do_not_count(waits: MakeWaits) -> None:
    stream, _, bare = recorded_pair(waits, V13, tickets=False)
    with stream, bare:
        task = waiting(stream)
        for piece in (bare.tickets[:50], bare.tickets[50:]):
            bare.sock.sendall(piece)
            until(lambda: not select([stream], [], [], 0)[0])
        task.blocked()
        assert wait_for_input_streams([stream], BRIEF) == []
        bare.say(b"x")
        assert task.result() == [stream]
        assert stream.read_exactly(1) == b"x"


@BOTH_VERSIONS
@each_way_to_wait
def test_a_record_that_is_not_whole_does_not_count(waits: MakeWaits, version: ssl.TLSVersion) -> None:
    stream, under, bare = recorded_pair(waits, version, server_side=True)
    with stream, bare:
        (record,) = bare.sealed(b"x")
        for part in (record[:3], record[3:8], record[8:-1]):
            bare.sock.sendall(part)
            under.has_arrived(len(part))
            assert wait_for_input_streams([stream], BRIEF) == []
        bare.sock.sendall(record[-1:])
        assert wait_for_input_streams([stream]) == [stream]


@BOTH_VERSIONS
@each_way_to_wait
def test_records_that_were_received_with_another_one_count(waits: MakeWaits, version: ssl.TLSVersion) -> None:
    stream, under, bare = recorded_pair(waits, version, server_side=True)
    with stream, bare:
        one, two = bare.sealed(b"one", b"two")
        bare.sock.sendall(one + two)
        under.has_arrived(len(one + two))
        assert wait_for_input_streams([stream]) == [stream]
        assert stream.read_exactly(3) == b"one"
        assert not select([stream], [], [], 0)[0]
        assert wait_for_input_streams([stream]) == ready(stream) == [stream]
        assert stream.read_exactly(3) == b"two"
        assert ready(stream) == []


@BOTH_VERSIONS
@each_way_to_wait
def test_an_end_without_close_notify_counts(waits: MakeWaits, version: ssl.TLSVersion) -> None:
    stream, _, bare = recorded_pair(waits, version, server_side=True)
    with stream, bare:
        task = waiting(stream)
        bare.sock.shutdown(socket.SHUT_WR)
        assert task.result() == ready(stream) == [stream]
        with pytest.raises(SslError):
            stream.read(1)


@BOTH_VERSIONS
@each_way_to_wait
def test_what_is_no_tls_counts(waits: MakeWaits, version: ssl.TLSVersion) -> None:
    stream, _, bare = recorded_pair(waits, version, server_side=True)
    with stream, bare:
        task = waiting(stream)
        bare.sock.sendall(b"this is no record\n")
        assert task.result() == ready(stream) == [stream]
        with pytest.raises(BROKEN):
            stream.read(1)


@each_way_to_wait
def test_a_handshake_that_is_not_done_counts(waits: MakeWaits) -> None:
    """Every read would raise at once."""
    stream, peer = stream_pair(waits)
    with stream, peer:
        with pytest.raises(SslHandshakeTimeout):
            stream.start_tls(client_context(), host=HOST, handshake_timeout=0)
        assert wait_for_input_streams([stream]) == [stream]
        stream.abort()


@each_way_to_wait
def test_what_the_session_has_to_say_is_said_as_soon_as_there_is_room(waits: MakeWaits) -> None:
    """The answer to a change of keys, asked for twice (once, it might wait for payload): while nobody reads."""
    stream, under, bare = recorded_pair(waits, V13, server_side=True)
    with stream, bare:
        task, before = waiting(stream), len(under.handed)
        bare.sock.sendall(bare.key_update() + bare.key_update())
        until(lambda: len(under.handed) > before)
        task.blocked()
        under.room = 0
        bare.sock.sendall(bare.key_update() + bare.key_update())
        bare.say(b"x")
        assert task.result() == [stream]
        assert stream.read_exactly(1) == b"x"
        assert stream._channel.look(False) == "both"
        before, under.room = len(under.handed), None
        assert ready(stream) == []
        assert len(under.handed) > before
        assert stream._channel.look(False) == "input"
        stream.write(b"y")
        stream.flush()
        assert bare.hear(1) == b"y"


@BOTH_VERSIONS
@each_way_to_wait
def test_tls_may_begin_during_the_wait(waits: MakeWaits, version: ssl.TLSVersion) -> None:
    """Nothing of the handshake counts, and payload does."""
    stream, peer = stream_pair(waits)
    with stream, peer:
        task = waiting(stream)

        def serve() -> None:
            peer.start_tls(server_context(version))

        serving = Task(serve)
        stream.start_tls(client_context(version), host=HOST)
        serving.result()
        task.blocked()
        stream.write(b"question")
        assert peer.read_exactly(8) == b"question", "what is written is still sent at once"
        peer.write(b"x")
        peer.flush()
        assert task.result() == [stream]
        assert stream.read_exactly(1) == b"x"


@each_way_to_wait
def test_payload_that_came_with_the_handshakes_end_counts(waits: MakeWaits) -> None:
    stream, peer = stream_pair(waits)
    with stream, peer:
        task = waiting(stream)

        def serve() -> None:
            peer.start_tls(server_context(V12))
            peer.write(b"x")
            peer.flush()

        serving = Task(serve)
        stream.start_tls(client_context(V12), host=HOST)
        assert task.result() == [stream]
        assert stream.read_exactly(1) == b"x"
        serving.result()


# ---- several streams -----------------------------------------------------------------------------------


@pytest.fixture
def several() -> Iterator[list[Pair]]:
    """Streams of all kinds."""
    kinds: list[Callable[[], tuple[SocketStream, SocketStream]]] = [
        lambda: stream_pair(PolledWaits),
        *(partial(stream_pair, waits) for waits in WAITS.values()),
        lambda: tls_pair(PolledWaits, V12),
        lambda: tls_pair(next(reversed(WAITS.values())), V13),
    ]
    made = [kind() for kind in (*kinds, *kinds)]
    assert ready(*(under for under, _ in made)) == []
    half = len(kinds)
    yield [
        Pair(under if number < half else TextSocketStream(under), under, peer)
        for number, (under, peer) in enumerate(made)
    ]
    for under, peer in made:
        under.abort()
        peer.abort()


def test_all_that_are_ready_are_given_in_the_order_of_the_list(several: list[Pair]) -> None:
    """Whether something is buffered, or has arrived only, or has ended."""
    chance = random.Random(5)
    talking = chance.sample(several, len(several) // 2)
    for number, each in enumerate(talking):
        each.hear(b"x\ny\n")
        each.has_arrived()
        if number % 2:
            each.stream.readline()
    for _ in range(5):
        chance.shuffle(several)
        wanted = [each.stream for each in several if each in talking]
        assert wait_for_input_streams([each.stream for each in several]) == wanted
        assert wait_for_input_streams_returning_first([each.stream for each in several]) is wanted[0]


def test_any_of_several_ends_the_wait(several: list[Pair]) -> None:
    for each in several:
        task = waiting(*(one.stream for one in several))
        each.hear(b"x\n")
        assert task.result() == [each.stream]
        each.stream.readline()


def test_a_stream_that_is_listed_twice_is_given_twice(pair: Pair) -> None:
    task = waiting(pair.stream, pair.stream)
    pair.hear(b"x")
    assert task.result() == ready(pair.stream, pair.stream) == [pair.stream, pair.stream]
    pair.read(1)
    task = waiting(pair.stream, pair.stream)
    pair.stream.close()
    assert task.result() == [pair.stream, pair.stream]


def test_the_streams_may_come_from_any_iterable(plain: Pair) -> None:
    plain.hear(b"x")
    plain.has_arrived()
    assert wait_for_input_streams(each for each in [plain.stream]) == [plain.stream]
    assert wait_for_input_streams_returning_first({plain.stream}) is plain.stream


def test_returning_first_gives_none_when_the_timeout_has_passed(plain: Pair) -> None:
    assert wait_for_input_streams_returning_first([plain.stream], 0) is None
    assert wait_for_input_streams_returning_first([plain.stream], BRIEF) is None


def test_returning_first_asks_the_descriptors_before_a_buffer(several: list[Pair]) -> None:
    """What stands in front and has arrived only goes before what is there already."""
    front, back = several[0], several[-1]
    back.hear(b"x\ny\n")
    back.stream.readline()
    assert wait_for_input_streams_returning_first([front.stream, back.stream]) is back.stream
    front.hear(b"x")
    front.has_arrived()
    assert wait_for_input_streams_returning_first([front.stream, back.stream]) is front.stream


def test_returning_first_looks_no_further_than_it_must(several: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    looks = counted_looks(monkeypatch)
    several[2].hear(b"x\ny\n")
    several[2].stream.readline()
    assert wait_for_input_streams_returning_first([each.stream for each in several]) is several[2].stream
    assert len(looks) == 3


def counted_looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When streams are looked at; it grows."""
    looks: list[float] = []
    look = Flow.look

    def counted(self: Flow, *arguments: Any) -> Any:
        looks.append(time.monotonic())
        return look(self, *arguments)

    monkeypatch.setattr(Flow, "look", counted)
    return looks


def test_nothing_that_arrives_is_missed(several: list[Pair]) -> None:
    """Every line of every peer is heard, whatever else happens; a miss would last as long as the wait."""
    lines = 40

    def talk(each: Pair, chance: random.Random) -> None:
        for number in range(lines):
            data = b"line %d of umlauts \xc3\xa4\n" % number
            cut = chance.randrange(len(data))
            each.hear(data[:cut])
            each.hear(data[cut:])
        each.peer.shutdown("output")

    talking = [Task(partial(talk, each, random.Random(number))) for number, each in enumerate(several)]
    heard = dict.fromkeys((each.stream for each in several), 0)
    while heard:
        found = wait_for_input_streams(heard, PATIENCE)
        assert found, "nothing came, and not all has come"
        for stream in found:
            line = stream.readline()
            if line:
                heard[stream] += 1
            else:
                assert heard.pop(stream) == lines
    for task in talking:
        task.result()


# ---- thousands -----------------------------------------------------------------------------------------


@pytest.fixture
def many(request: pytest.FixtureRequest) -> Iterator[list[tuple[SocketStream, socket.socket]]]:
    """Streams over pairs of local sockets, two descriptors each."""
    number: int = request.param
    with ExitStack() as stack:
        stack.enter_context(enough_descriptors(2 * number + 200))
        made = []
        for _ in range(number):
            near, far = socket.socketpair()
            made.append((stack.enter_context(SocketStream(near)), stack.enter_context(far)))
        yield made


@pytest.mark.parametrize("many", [5000], indirect=True)
@pytest.mark.skipif(sys.platform == "win32", reason="select() of Windows takes 512 sockets")
def test_thousands_of_streams(many: list[tuple[SocketStream, socket.socket]]) -> None:
    streams = [stream for stream, _ in many]
    task = waiting(*streams)
    many[4321][1].send(b"x")
    assert task.result() == [streams[4321]]
    for number in (0, 17, 4999):
        many[number][1].send(b"x")
    assert wait_for_input_streams(streams) == [streams[number] for number in (0, 17, 4321, 4999)]
    assert wait_for_input_streams_returning_first(streams) is streams[0]
    for number in (0, 17, 4321, 4999):
        streams[number].read_exactly(1)
    assert ready(*streams) == []
    task = waiting(*streams)
    streams[2500].close()
    assert task.result() == [streams[2500]]


@pytest.mark.parametrize("many", [4000], indirect=True)
@pytest.mark.skipif(sys.platform == "win32", reason="select() of Windows takes 512 sockets")
def test_ten_times_the_streams_cost_ten_times_the_calls(many: list[tuple[SocketStream, socket.socket]]) -> None:
    streams = [stream for stream, _ in many]
    for stream, peer in many[:200]:
        peer.send(b"x\ny\n")
        stream.readline()

    def cost(some: list[SocketStream]) -> int:
        calls = count()
        sys.setprofile(lambda *event: next(calls) and None)
        try:
            assert wait_for_input_streams(some) == some[:200]
        finally:
            sys.setprofile(None)
        return next(calls)

    assert cost(streams) < 20 * cost(streams[:400]), "their square would be a hundred times"


@pytest.mark.parametrize("many", [200], indirect=True)
def test_what_does_not_count_after_all_costs_a_look_at_that_stream_only(
    many: list[tuple[SocketStream, socket.socket]], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = counted_looks(monkeypatch)
    texts = [TextSocketStream(stream) for stream, _ in many]
    task = waiting(*texts)
    assert len(looks) == len(many)
    for stream, peer in many:
        peer.send("ä".encode()[:1])
        until(lambda: stream.bytes_received == 1)  # noqa: B023 (it is asked at once)
    many[99][1].send("ä".encode()[1:])
    assert task.result() == [texts[99]]
    assert len(looks) <= 4 * len(many), "the first look, the half character, a look after it, and little else"


def enough_descriptors(count: int) -> ExitStack:
    """Within the block a process may have so many descriptors."""
    stack = ExitStack()
    with suppress(ImportError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < count:
            wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    return stack


# ---- other things than streams -------------------------------------------------------------------------


def test_a_server_counts_while_a_connection_waits_to_be_accepted() -> None:
    """Which it does while as many are open as may be."""
    with socket.create_server(("127.0.0.1", 0)) as listener, full_server(listener.dup()) as server:
        assert ready(server) == []
        task = waiting(server)
        with socket.create_connection(("127.0.0.1", server.port)):
            assert task.result() == ready(server) == [server]
            accepted, _ = listener.accept()
            accepted.close()
        assert ready(server) == []


def test_a_server_of_several_addresses_is_waited_for_at_all_of_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [sock.getsockname()[1] for sock in (one, two)]
        with full_server(one.dup(), two.dup()) as server:
            for port in ports:
                assert ready(server) == []
                task = waiting(server)
                with socket.create_connection(("127.0.0.1", port)):
                    assert task.result() == [server]
                    accepted, _ = (one if port == ports[0] else two).accept()
                    accepted.close()


@contextmanager
def full_server(*listeners: socket.socket) -> Iterator[Any]:
    """A server that accepts nothing more."""
    go_on = threading.Event()

    def handle(stream: SocketStream) -> None:
        go_on.wait(PATIENCE)

    with start_up_server(handle, listeners, max_connections=1) as server:
        try:
            with socket.create_connection(("127.0.0.1", server.port)):
                until(lambda: server.connections == 1)
                yield server
        finally:
            go_on.set()


def test_a_server_that_another_thread_terminates_wakes_the_wait() -> None:
    with start_up_server(lambda stream: None) as server:
        task = waiting(server)
        server.terminate()
        assert task.result() == ready(server) == [server]


def test_a_udp_socket_counts_when_a_datagram_has_come() -> None:
    with udp() as receiver, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        assert ready(receiver) == []
        task = waiting(receiver)
        sender.sendto(b"x", receiver.local_address)
        assert task.result() == ready(receiver) == [receiver]
        assert receiver.receive() == b"x"
        assert ready(receiver) == []


def test_a_udp_socket_that_another_thread_closes_wakes_the_wait() -> None:
    with udp() as receiver:
        task = waiting(receiver)
        receiver.close()
        assert task.result() == ready(receiver) == [receiver]


def udp() -> UdpSocket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return UdpSocket(sock)


def test_anything_with_a_descriptor_counts_when_that_can_be_read() -> None:
    near, far = socket.socketpair()
    with near, far, socket.create_server(("127.0.0.1", 0)) as listener:
        assert ready(near, listener) == []
        task = waiting(near, listener)
        far.send(b"x")
        assert task.result() == [near]
        with socket.create_connection(listener.getsockname()):
            assert wait_for_input_streams([listener]) == [listener]


@pytest.mark.skipif(sys.platform == "win32", reason="select() of Windows takes sockets only")
def test_a_file_on_a_disk_always_counts() -> None:
    with tempfile.TemporaryFile() as file:
        assert wait_for_input_streams([file]) == ready(file) == [file]


def test_input_ready_has_the_last_word() -> None:
    """Of an object that has it, before its descriptor and after; one that refuses for long is not asked without end."""

    class Asked:
        answers: Iterable[bool] = iter(())
        asked = 0

        def fileno(self) -> int:
            return near.fileno()

        def input_ready(self) -> bool:
            self.asked += 1
            return next(iter(self.answers), False)

    near, far = socket.socketpair()
    with near, far:
        thing = Asked()
        thing.answers = iter([True])
        assert wait_for_input_streams([thing]) == [thing]
        far.send(b"x")
        assert wait_for_input_streams([thing], 0.1) == []
        assert thing.asked < 200
        thing.answers = iter([False, False, True])
        assert wait_for_input_streams([thing]) == [thing]


def test_two_objects_may_share_a_descriptor(plain: Pair) -> None:
    class Shared:
        def fileno(self) -> int:
            return plain.under.fileno()

    shared = Shared()
    task = waiting(plain.stream, shared)
    plain.hear(b"x")
    assert task.result() == [plain.stream, shared]
    assert plain.under.read_exactly(1) == b"x"
    assert ready(shared, plain.stream) == []


# ---- arguments -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", [wait_for_input_streams, wait_for_input_streams_returning_first])
@pytest.mark.parametrize("timeout", [-1, float("nan"), True, "1"])
def test_a_wrong_timeout_is_refused(plain: Pair, wait: Callable[..., object], timeout: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="timeout="):
        wait([plain.stream], timeout)


def test_nothing_to_wait_for_is_refused_where_it_would_last_for_ever() -> None:
    with pytest.raises(ValueError, match="nothing to wait for"):
        wait_for_input_streams([])
    begun = time.monotonic()
    assert wait_for_input_streams([], BRIEF) == []
    assert time.monotonic() - begun >= BRIEF


def test_what_is_no_stream_is_refused(plain: Pair) -> None:
    with pytest.raises(TypeError, match="3 is not allowed"):
        wait_for_input_streams([plain.stream, 3])


def test_what_has_no_descriptor_any_more_is_refused() -> None:
    with socket.socket() as sock:
        sock.close()
        with pytest.raises(ValueError):
            wait_for_input_streams([sock])


def test_a_stream_for_output_only_is_refused() -> None:
    stream, peer = stream_pair(PolledWaits, direction="output")
    with stream, peer, pytest.raises(io.UnsupportedOperation, match="output only"):
        wait_for_input_streams([peer, stream])


def test_a_stream_for_input_only_is_waited_for() -> None:
    stream, peer = stream_pair(PolledWaits, direction="input")
    with stream, peer:
        task = waiting(stream)
        peer.write(b"x")
        peer.flush()
        assert task.result() == [stream]
        with pytest.raises(io.UnsupportedOperation):
            stream.write(b"x")


@pytest.mark.parametrize("what", [(selectors, "DefaultSelector"), (ready_module, "Wakeup")], ids=["selector", "wakeup"])
def test_a_lack_of_descriptors_is_this_machines_fault(
    plain: Pair, monkeypatch: pytest.MonkeyPatch, what: tuple[Any, str]
) -> None:
    def refuse() -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(*what, refuse)
    with pytest.raises(SocketCreateError, match="could not wait for input: Too many open files") as caught:
        wait_for_input_streams([plain.stream])
    assert (caught.value.errno, caught.value.operation) == (errno.EMFILE, "wait")
    monkeypatch.undo()
    assert_unwatched(plain)


def test_the_streams_own_limits_do_not_bound_the_wait(plain: Pair) -> None:
    plain.stream.read_timeout = BRIEF
    with plain.stream.deadline(BRIEF):
        assert wait_for_input_streams([plain.stream], 10 * BRIEF) == []
        task = waiting(plain.stream)
    plain.hear(b"x")
    assert task.result() == [plain.stream]


@pytest.mark.parametrize("kind", ["PollSelector", "SelectSelector"])
def test_systems_without_epoll_and_kqueue_wait_as_well(
    several: list[Pair], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if not hasattr(selectors, kind):
        pytest.skip(f"this system has no {kind}")
    monkeypatch.setattr(selectors, "DefaultSelector", getattr(selectors, kind))
    for each in several:
        assert ready(*(one.stream for one in several)) == []
        task = waiting(*(one.stream for one in several))
        each.hear(b"x\n")
        assert task.result() == [each.stream]
        each.stream.readline()
    task = waiting(*(one.stream for one in several))
    several[3].stream.close()
    assert task.result() == [several[3].stream]
