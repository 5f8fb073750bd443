"""Both directions of a TLS stream at once: what flows, what waits, what is counted, and that nobody waits for ever.

Pauses are handshakes between the threads, so every run has its timeouts, on machines of any speed: a reader stops
at given places until the writer has timed out, and a writer until the reader has. The kernel's buffers are kept
smaller than the way between two such places.

LANDLINE_FULL=1 sends 1 GiB each way instead of 64 MiB.
"""

from __future__ import annotations

import hashlib
import os
import random
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from statistics import median
from threading import Event
from typing import Any

import pytest
from pairs import (
    connect,
    each_way_to_wait,
    over,
    tls_pair,
)
from tls_support import BOTH_VERSIONS, HOST, V12, V13, client_context, everything, openssl, server_context, taken
from tls_wire import KEY_UPDATE, Bare, MakeWaits, Recorded, aborting, bare_pair, recorded_pair, records, update_keys

from landline import ReadTimeout, SocketError, SocketStream, SslError, StreamClosed, WriteTimeout
from landline.testing.contract.reading import LINE, LONG, send
from landline.testing.contract.stage import BRIEF, PATIENCE, PROMPT, Task, stall, until
from landline.testing.contract.writing import PATTERN

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

FULL = os.environ.get("LANDLINE_FULL") == "1"
EACH_WAY = 1 << 30 if FULL else 1 << 26
STOPS = 128 if FULL else 8
ROOM = 1 << 19
"""What the kernel's buffers are set to. Linux takes twice that, and there are two of them: 2 MiB."""

NOISE = random.Random(8446).randbytes((1 << 20) + 7)

KEYS_CHANGE = sys.platform == "linux" and sys.implementation.name == "cpython"
"""Where tests can make OpenSSL ask for new keys (tls_support.OpenSsl)."""

needs_key_updates = pytest.mark.skipif(not KEYS_CHANGE, reason="reaches into CPython's ssl module, known on Linux")


# ---- everything at once --------------------------------------------------------------------------------


class Talk:
    """One direction between two streams, its writer and its reader in a thread each.

    The reader stops STOPS - 1 times, until the writer has timed out; in between the writer stops as often, until the
    reader has. Keys change all the time, if ``keys`` says so.
    """

    def __init__(self, source: SocketStream, target: SocketStream, seed: int, keys: bool) -> None:
        self._source, self._target, self._seed, self._keys = source, target, seed, keys
        self.write_timeouts = self.read_timeouts = self.key_updates = 0
        self.written, self.read = hashlib.blake2b(), hashlib.blake2b()
        self.threads = [Task(self._write), Task(self._read)]

    def _write(self) -> None:
        here = random.Random(self._seed)
        stops = [EACH_WAY * stop // STOPS + EACH_WAY // STOPS // 2 for stop in range(1, STOPS)]
        position = number = 0
        while position < EACH_WAY:
            size = min(here.choice((1, 100, 16384, 16385, 100_000, 300_000)), EACH_WAY - position)
            start = here.randrange(len(NOISE) - size)
            data = (number.to_bytes(8, "big") + NOISE[start : start + size])[:size]
            self.written.update(data)
            self._until_sent(partial(self._source.write, bytearray(data) if number % 5 == 1 else data))
            position += size
            number += 1
            if self._keys and number % 10 == 0:
                update_keys(self._source)
                self.key_updates += 1
            if stops and position >= stops[0]:
                del stops[0]
                self._until_sent(self._source.flush)
                before = self.read_timeouts
                until(lambda: self.read_timeouts > before)  # noqa: B023 (it is asked at once)
        self._until_sent(self._source.flush)

    def _until_sent(self, send: Callable[[], object]) -> None:
        while True:
            try:
                send()
                return
            except WriteTimeout:
                self.write_timeouts += 1
                send = self._source.flush

    def _until_read(self, read: Callable[[], bytes]) -> bytes:
        while True:
            try:
                return read()
            except ReadTimeout:
                self.read_timeouts += 1

    def _read(self) -> None:
        here = random.Random(self._seed + 1)
        stops = [EACH_WAY * stop // STOPS for stop in range(1, STOPS)]
        memory = bytearray(50_000)
        position = 0
        while position < EACH_WAY:
            way, size = here.choice(("exactly", "read1", "into")), here.choice((1, 1000, 40_000, 500_000))
            size = min(size, EACH_WAY - position)
            ways: dict[str, Callable[[], bytes]] = {
                "exactly": partial(self._target.read_exactly, size),
                "read1": partial(self._target.read1, size),
                "into": lambda: bytes(memory[: self._target.readinto1(memory)]),
            }
            data = self._until_read(ways[way])
            self.read.update(data)
            position += len(data)
            if stops and position >= stops[0]:
                del stops[0]
                before = self.write_timeouts
                until(lambda: self.write_timeouts > before)  # noqa: B023 (it is asked at once)


@BOTH_VERSIONS
@each_way_to_wait
@pytest.mark.timeout(1800 if FULL else 60)
def test_both_ways_at_once_byte_for_byte(waits: MakeWaits, version: ssl.TLSVersion) -> None:
    """One reader and one writer at each end, new keys and timeouts in between, each call repeated or flushed."""
    ends = narrow_pair(waits, version)
    for end in ends:
        end.read_timeout = end.write_timeout = BRIEF
    keys = version is V13 and KEYS_CHANGE
    talks = [Talk(ends[0], ends[1], 1, keys), Talk(ends[1], ends[0], 3, keys)]
    for talk in talks:
        for thread in talk.threads:
            thread._thread.join(EACH_WAY / 1e6)
            thread.result()
    for talk in talks:
        assert talk.read.digest() == talk.written.digest()
        assert talk.read_timeouts >= STOPS - 1
        assert talk.write_timeouts >= STOPS - 1
        assert talk.key_updates > 10 or not keys
    for end in ends:
        assert end.bytes_sent == end.bytes_received == EACH_WAY
        end.read_timeout = end.write_timeout = PATIENCE
        end.shutdown("output")
    for end in ends:
        assert end.read() == b""
        end.close()


def narrow_pair(waits: MakeWaits, version: ssl.TLSVersion) -> tuple[SocketStream, SocketStream]:
    """Two streams that wait in the same way, over sockets with little room."""
    socks = connect()
    for sock in socks:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
    client, server = (over(sock, waits) for sock in socks)
    serving = Task(partial(server.start_tls, server_context(version)))
    client.start_tls(client_context(version), host=HOST)
    serving.result()
    return client, server


# ---- thirty megabytes ----------------------------------------------------------------------------------

SIZE = 30_000_000


class Drain:
    """A peer that reads a little now and then, and knows exactly what it could have read.

    What was handed to the kernel is decrypted from its copy, whatever of it has arrived yet: that is what the stream
    must have counted.
    """

    def __init__(self, under: Recorded, bare: Bare) -> None:
        self._under, self._bare = under, bare
        self._here = random.Random(5)
        self._decrypted = self._arrived = self._begin = bare.received
        self.payload = 0
        self.digest = hashlib.sha256()
        self._wire = hashlib.sha256()

    def could_have(self) -> int:
        """Payload bytes in the whole records that the kernel has taken."""
        self._bare.session.feed(bytes(self._under.handed[self._decrypted :]))
        self._decrypted = len(self._under.handed)
        data = everything(self._bare.session)
        self.digest.update(data)
        self.payload += len(data)
        return self.payload

    def take_some(self) -> None:
        """Make room, of any size, for the stream to go on."""
        self._take(self._here.randint(1, len(self._under.handed) - self._arrived))

    def take_what_is_there(self) -> int:
        """Make as much room as there is; could_have()."""
        self._take(len(self._under.handed) - self._arrived)
        return self.could_have()

    def take_all(self) -> None:
        """At the end: what arrived is what was handed over."""
        self._take(len(self._under.handed) - self._arrived)
        assert self._wire.digest() == hashlib.sha256(self._under.handed[self._begin :]).digest()

    def _take(self, size: int) -> None:
        while size:
            data = self._bare.sock.recv(min(size, 1 << 20))
            assert data
            self._wire.update(data)
            self._arrived += len(data)
            size -= len(data)


@pytest.fixture(scope="module")
def data() -> bytes:
    """Thirty megabytes of which no part looks like another."""
    return random.Random(5246).randbytes(SIZE)


@BOTH_VERSIONS
@each_way_to_wait
@pytest.mark.parametrize("kind", ["whole", "pieces"])
def test_thirty_megabytes_that_time_out_again_and_again_arrive_whole(
    waits: MakeWaits, version: ssl.TLSVersion, kind: str, data: bytes
) -> None:
    """Resumed by flush(), under new keys too; both counts of every WriteTimeout are exact."""
    stream, under, bare = recorded_pair(waits, version, server_side=True, room=1 << 17)
    with aborting(stream, bare):
        drain = Drain(under, bare)
        stream.write_timeout = 0.001
        accepted = timeouts = 0

        def until_sent(send: Callable[[], object]) -> None:
            nonlocal timeouts
            while True:
                try:
                    send()
                    return
                except WriteTimeout as timeout:
                    counts = timeout.accepted, timeout.sent
                timeouts += 1
                assert counts == (accepted, drain.could_have())
                assert stream.bytes_sent == counts[1] < accepted
                drain.take_some()
                if version is V13 and KEYS_CHANGE and timeouts % 10 == 1:
                    bare.sock.sendall(bare.key_update())
                    assert stream.read_no_hang() is None
                    assert stream.bytes_sent == drain.could_have()
                send = stream.flush

        size = 99_999 if kind == "pieces" else SIZE
        for start in range(0, SIZE, size):
            piece = data[start : start + size]
            accepted += len(piece)
            until_sent(partial(stream.write, bytearray(piece) if start % 2 == 0 else piece))
        until_sent(stream.flush)
        assert timeouts > 20
        assert stream.bytes_sent == drain.could_have() == SIZE
        assert drain.digest.digest() == hashlib.sha256(data).digest()
        drain.take_all()


# ---- a reader that must answer -------------------------------------------------------------------------


DEMANDS = pytest.mark.parametrize(
    "version", [V12, pytest.param(V13, marks=needs_key_updates)], ids=["renegotiation", "key update"]
)


def demand(bare: Bare) -> None:
    """Send what OpenSSL answers on its own: a renegotiation, which is refused by an alert, or a key update.

    Asked once for new keys it answers in front of its next record of payload, as RFC 8446 4.6.3 allows; asked twice
    it answers the first time at once.
    """
    if bare.version is V12:
        openssl().renegotiate(bare.session)
        bare.sock.sendall(taken(bare.session))
    else:
        bare.sock.sendall(bare.key_update() + bare.key_update())


def has_answered(wire: bytes | bytearray) -> bool:
    """Whether one of the records is such an answer."""
    return any(record.kind == 21 or record.length == KEY_UPDATE for record in records(wire, cut=True))


@DEMANDS
@each_way_to_wait
@pytest.mark.parametrize("how", ["unlimited", "limited", "deadline", "ready", "no hang"])
def test_a_reader_answers_at_once(waits: MakeWaits, version: ssl.TLSVersion, how: str) -> None:
    """Though it has nothing to send itself, and gets nothing to read."""
    stream, under, bare = recorded_pair(waits, version)
    with aborting(stream, bare):
        stream.read_timeout = PATIENCE if how == "limited" else None

        def read() -> bytes:
            if how == "ready":
                until(stream.input_ready)
            while how == "no hang":
                if data := stream.read_no_hang():
                    return data
            with stream.deadline(PATIENCE if how == "deadline" else None):
                return stream.readline()

        reader = Task(read) if how in ("ready", "no hang") else Task(read).blocked()
        for _ in range(3):
            before = len(under.handed)
            demand(bare)
            until(lambda: has_answered(under.handed[before:]))  # noqa: B023 (it is asked at once)
        bare.say(LINE)
        assert reader.result() == LINE


@needs_key_updates
@each_way_to_wait
def test_a_reader_reads_and_answers_while_a_writer_is_blocked(waits: MakeWaits) -> None:
    """The writer takes the answers along; everything arrives, and neither has waited for the other."""
    stream, under, bare = recorded_pair(waits, V13)
    with aborting(stream, bare):
        before = len(under.handed)
        written = stall(stream, PATTERN) + len(PATTERN)
        writer = Task(partial(stream.write, PATTERN)).blocked()
        for number in range(5):
            demand(bare)
            bare.say(b"%d\n" % number)
            assert stream.readline() == b"%d\n" % number
        reader = Task(stream.readline).blocked()
        demand(bare)
        assert not has_answered(under.handed[before:])
        assert bare.hear(written) == PATTERN * (written // len(PATTERN))
        writer.result()
        until(lambda: has_answered(under.handed[before:]))
        bare.say(LINE)
        assert reader.result() == LINE


@needs_key_updates
@each_way_to_wait
def test_a_reader_whose_answer_finds_no_room_waits_for_both(waits: MakeWaits) -> None:
    """A writer has given up, nobody flushes: what it left and the answer behind it go out as soon as the peer reads."""
    stream, under, bare = recorded_pair(waits, V13)
    with aborting(stream, bare):
        before = len(under.handed)
        written = stall(stream, PATTERN)
        demand(bare)
        reader = Task(stream.readline).blocked()
        assert bare.hear(written) == PATTERN * (written // len(PATTERN))
        until(lambda: has_answered(under.handed[before:]))
        bare.say(LINE)
        assert reader.result() == LINE
        assert stream.bytes_sent == written


@needs_key_updates
@each_way_to_wait
def test_payload_that_a_readers_answer_pushes_out_is_counted(waits: MakeWaits) -> None:
    """A writer times out beside a blocked reader, whose answer takes along what was sealed already."""
    stream, under, bare = recorded_pair(waits, V13)
    with aborting(stream, bare):
        drain = Drain(under, bare)
        reader = Task(stream.readline).blocked()
        written = stall(stream, PATTERN)
        before = drain.take_what_is_there()
        assert stream.bytes_sent == before < written
        demand(bare)
        until(lambda: drain.could_have() > before)
        until(lambda: stream.bytes_sent == drain.could_have())
        flushing = Task(stream.flush)
        until(lambda: drain.take_what_is_there() == written)
        flushing.result()
        assert stream.bytes_sent == written
        bare.say(LINE)
        assert reader.result() == LINE


# ---- nobody waits for ever -----------------------------------------------------------------------------


@BOTH_VERSIONS
@each_way_to_wait
@pytest.mark.parametrize("keys", [False, True], ids=["", "new keys"])
def test_both_sides_may_write_a_lot_first_and_read_later(waits: MakeWaits, version: ssl.TLSVersion, keys: bool) -> None:
    """One thread each, every call under a limit that passes again and again: reads send what the writes have left."""
    if keys and (version is V12 or not KEYS_CHANGE):
        return
    count = 3 * len(PATTERN)

    def talk(end: SocketStream) -> str:
        end.read_timeout = end.write_timeout = BRIEF
        for _ in range(3):
            with suppress(WriteTimeout):
                end.write(PATTERN)
            if keys:
                update_keys(end)
        digest, missing = hashlib.sha256(), count
        while missing:
            with suppress(ReadTimeout):
                data = end.read1(min(missing, 100_000))
                digest.update(data)
                missing -= len(data)
        while True:
            with suppress(WriteTimeout):
                end.flush()
                return digest.hexdigest()

    ends = narrow_pair(waits, version)
    talks = [Task(partial(talk, end)) for end in ends]
    for each in talks:
        assert each.result() == hashlib.sha256(PATTERN * 3).hexdigest()
    for end in ends:
        assert end.bytes_sent == count
        end.close()


@BOTH_VERSIONS
@each_way_to_wait
def test_a_blocked_writer_leaves_the_reader_alone(waits: MakeWaits, version: ssl.TLSVersion) -> None:
    """At both ends: each reads all that the other has to say while its own writer waits; then the writers go on."""
    stream, peer = narrow_pair(waits, version)
    with aborting(stream, peer):
        written = stall(stream, PATTERN) + len(PATTERN)
        writer = Task(partial(stream.write, PATTERN)).blocked()
        answering = Task(partial(send, peer, PATTERN))
        assert stream.read_exactly(len(PATTERN)) == PATTERN
        answering.result()
        reader = Task(stream.readline).blocked()
        assert peer.read_exactly(written)[-len(PATTERN) :] == PATTERN
        writer.result()
        send(peer, LINE)
        assert reader.result() == LINE


# ---- renegotiation -------------------------------------------------------------------------------------

STUCK = 4.0
"""Seconds: the write_timeout of a writer that must not need one, so that a failure fails, and does not hang."""

beside_a_reader = pytest.mark.parametrize("reads", [True, False], ids=["reader", "writer alone"])


@each_way_to_wait
@beside_a_reader
def test_a_renegotiation_suspends_writing_and_loses_nothing(waits: MakeWaits, reads: bool) -> None:
    """TLS 1.2: whoever receives goes on with it, the reader or the writer itself; the rest of the write follows."""
    for _ in range(10):
        stream, bare = bare_pair(waits, V12, renegotiation=True)
        with aborting(stream, bare):
            stream.write_timeout = STUCK
            bare.sock.settimeout(2 * STUCK)
            demand(bare)
            reader = Task(stream.readline).blocked() if reads else None
            writer = Task(partial(send, stream, LONG))
            came = b""
            while len(came) < len(LONG):
                bare.session.feed(bare.sock.recv(1 << 18))
                came += everything(bare.session)
                bare.sock.sendall(taken(bare.session))
            assert came == LONG
            writer.result()
            bare.say(LINE)
            assert (reader.result() if reader else stream.readline()) == LINE


@each_way_to_wait
@beside_a_reader
def test_a_renegotiation_that_gets_nowhere_times_a_write_out(waits: MakeWaits, reads: bool) -> None:
    """A pause as any other: when the peer goes on, flush() does."""
    stream, bare = bare_pair(waits, V12, renegotiation=True)
    with aborting(stream, bare):
        demand(bare)
        assert stream.read_no_hang() is None
        reader = Task(stream.readline).blocked() if reads else None
        stream.write_timeout = BRIEF
        for number in range(1, 4):
            writing = Task(partial(send, stream, LINE))
            error = writing.failure(WriteTimeout)
            assert (error.accepted, error.sent) == (number * len(LINE), 0)
        stream.write_timeout = STUCK
        bare.sock.settimeout(2 * STUCK)
        flushing = Task(stream.flush)
        came = b""
        while len(came) < 3 * len(LINE):
            bare.session.feed(bare.sock.recv(1 << 18))
            came += everything(bare.session)
            bare.sock.sendall(taken(bare.session))
        flushing.result()
        bare.say(LINE)
        assert (reader.result() if reader else stream.readline()) == LINE


@each_way_to_wait
@beside_a_reader
@pytest.mark.parametrize("ending", ["close", "abort"])
def test_a_write_that_waits_for_a_renegotiation_is_woken(waits: MakeWaits, reads: bool, ending: str) -> None:
    stream, bare = bare_pair(waits, V12, renegotiation=True)
    with aborting(stream, bare):
        demand(bare)
        assert stream.read_no_hang() is None
        tasks: list[Task[Any]] = [Task(stream.readline).blocked()] if reads else []
        stream.write_timeout = STUCK
        tasks.append(Task(partial(send, stream, LINE)).blocked())
        begun = time.monotonic()
        ended = Task(getattr(stream, ending))
        for task in tasks:
            task.failure(StreamClosed)
            assert task.ended_at - begun < STUCK / 2
        with suppress(WriteTimeout):  # of a close() that came before the writer, and waited itself
            ended.result()


# ---- ended at any moment -------------------------------------------------------------------------------

ROUNDS = 6


@pytest.fixture(params=["usual", "hasty"])
def turns(request: pytest.FixtureRequest) -> Iterator[str]:
    """How long a thread keeps its turn; "hasty" is a thousandth of the usual."""
    before = sys.getswitchinterval()
    if request.param == "hasty":
        sys.setswitchinterval(5e-6)
    yield request.param
    sys.setswitchinterval(before)


@BOTH_VERSIONS
@each_way_to_wait
@pytest.mark.usefixtures("turns")
@pytest.mark.parametrize("ending", ["close", "abort"])
@pytest.mark.parametrize("peer_talks", [False, True], ids=["listening peer", "talking peer"])
def test_a_stream_may_be_ended_at_any_moment(
    waits: MakeWaits, version: ssl.TLSVersion, ending: str, peer_talks: bool
) -> None:
    """Reader and writer get StreamClosed within milliseconds; the peer gets a part that is as long as the count says,
    and sees an end only behind the whole."""
    here = random.Random(ending + version.name)
    took = []
    for _ in range(ROUNDS):
        stream, peer = tls_pair(waits, version, server_side=here.random() < 0.5)
        sizes = here.choices((1, 300, 5000, 100_000, 1_000_000), k=4)
        keys = version is V13 and KEYS_CHANGE and peer_talks  # which answers, as a talking one
        writer, reader = Task(partial(write_on, stream, sizes, keys)), Task(partial(read_on, stream))
        listening, over = Task(partial(count_all, peer)), Event()
        talking = Task(partial(talk_on, peer, over)) if peer_talks else None
        moment = here.choice((0, 1, 1000, 50_000, 1_000_000, 3_000_000))
        until(lambda: stream.bytes_sent >= moment)  # noqa: B023 (it is asked at once)
        begun = time.monotonic()
        with suppress(StreamClosed):
            getattr(stream, ending)()
        accepted = writer.failure(StreamClosed).accepted
        reader.failure(StreamClosed)
        took.append(max(writer.ended_at, reader.ended_at) - begun)
        count, whole = listening.result()
        over.set()
        if talking is not None:
            talking.result()
        peer.abort()
        assert count <= stream.bytes_sent
        assert not whole or count == accepted, "an end of file behind a part"
        if ending == "close" and not peer_talks:  # else RST drops what the kernel has not delivered
            assert count == stream.bytes_sent
    assert median(took) <= PROMPT
    assert max(took) <= PATIENCE / 4


@BOTH_VERSIONS
@each_way_to_wait
def test_a_write_that_is_done_is_whole_though_another_thread_closes_meanwhile(
    waits: MakeWaits, version: ssl.TLSVersion
) -> None:
    """Nothing was dropped: neither the writer nor the closer hears of a failure, and the peer sees the end."""
    stream, under, bare = recorded_pair(waits, version)
    with aborting(stream, bare):
        pass_on, closing = under.send, []

        def meanwhile(data: memoryview | bytes, limit: float | None) -> int:
            under.send = pass_on
            count = pass_on(data, limit)
            closing.append(Task(stream.close).blocked())
            return count

        under.send = meanwhile
        send(stream, LINE)
        closing[0].result()
        assert bare.hear_end() == LINE


def write_on(stream: SocketStream, sizes: list[int], keys: bool) -> None:
    position = 0
    while True:
        for size in sizes:
            start = position % len(NOISE)
            data = NOISE[start : start + size]
            stream.write(data)
            position += len(data)
        stream.flush()
        if keys:
            with suppress(SocketError):
                update_keys(stream)


def read_on(stream: SocketStream) -> None:
    while stream.readline() == LINE:
        pass


def talk_on(peer: SocketStream, over: Event) -> None:
    with suppress(SocketError):
        while not over.is_set():
            send(peer, LINE)


def count_all(peer: SocketStream) -> tuple[int, bool]:
    """How much came, and whether the end of file stood behind it."""
    count = 0
    try:
        while data := peer.read1():
            start = count % len(NOISE)
            assert (NOISE + NOISE)[start : start + len(data)] == data
            count += len(data)
    except SslError:
        return count, False
    return count, True
