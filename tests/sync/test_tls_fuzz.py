"""TLS against whoever wants to break it: handshakes and payload that somebody on the way cuts, swaps, floods, invents.

Each case is a whole connection. An honest peer (a session in memory) speaks, and `Saboteur` changes what it says
before our side gets it. Whatever that is, our side

* ends: every wait of a case is answered at once, and the calls are counted;
* fails, if it fails, with a condition of its own (SocketError, SslCondition), the same dead stream ever after;
* never gives a byte that the peer has not sent, and no end of file before the peer's own last byte;
* never says a byte of payload in the clear, and lets go of everything.

Most cases go through a transport in memory, where a thousand take a second; the rest through sockets, with
open_tcp_stream() and start_up_server(). LANDLINE_FULL=1 runs 100 000 of them. A case is told by its number; what
OpenSSL itself draws by lot differs between two runs, so a failing case also shows what our side got.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from ssl import SSLContext, TLSVersion
from typing import Any

import pytest
import trustme
from pairs import (
    each_way_to_wait,
    tls_pair,
)
from tls_support import (
    BOTH_VERSIONS,
    HOST,
    V12,
    V13,
    authority,
    client_context,
    connected,
    cut,
    new_client,
    new_server,
    server_context,
    taken,
)

from landline import (
    ReadTimeout,
    SocketError,
    SocketStream,
    SslError,
    SslHandshakeTimeout,
    WriteTimeout,
    open_tcp_stream,
    start_up_server,
)
from landline.address import SocketAddress
from landline.engine.session import Session, SessionFailed
from landline.sync.tls_transport import TlsTransport
from landline.sync.wait import Waits, raise_if_blocked
from landline.testing.contract.stage import PATIENCE, Task, until

FULL = os.environ.get("LANDLINE_FULL") == "1"

IN_MEMORY = 24_500 if FULL else 800
"""Cases for each side and version, through memory."""

OVER_SOCKETS = 500 if FULL else 60
"""The same through sockets."""

MOST_CALLS = 150_000
"""Of the transport, in one case: several for every byte there is, where they come one by one."""

pytestmark = [
    pytest.mark.usefixtures("quick_leak_checks", "no_leaks"),
    pytest.mark.timeout(900 if FULL else 60),
]

BOTH_SIDES = pytest.mark.parametrize("side", ["client", "server"])

THEIRS = random.Random(8446).randbytes(40_000).replace(b"\r", b"\n")
OURS = b"what we say to nobody else; " * 50
GREETING = b"a line before TLS\r\n"


# ---- what is done to what the peer says ----------------------------------------------------------------

Way = Callable[[random.Random, bytes], bytes]


def bounds(here: random.Random, data: bytes) -> tuple[int, int]:
    """A short piece of ``data``, as a rule near its beginning, where the structure is."""
    begin = min(int(here.expovariate(1 / 60)) if here.random() < 0.5 else here.randrange(len(data) + 1), len(data))
    return begin, min(len(data), begin + int(here.expovariate(1 / 8)) + 1)


def flipped(here: random.Random, data: bytes) -> bytes:
    at = min(bounds(here, data)[0], len(data) - 1)
    return data[:at] + bytes((data[at] ^ 1 << here.randrange(8),)) + data[at + 1 :]


def overwritten(here: random.Random, data: bytes) -> bytes:
    begin, end = bounds(here, data)
    fill = here.choice((b"\x00", b"\xff", b"\x7f", b"\x80", here.randbytes(1)))
    return data[:begin] + fill * (end - begin) + data[end:]


def removed(here: random.Random, data: bytes) -> bytes:
    begin, end = bounds(here, data)
    return data[:begin] + data[end:]


def inserted(here: random.Random, data: bytes) -> bytes:
    begin, end = bounds(here, data)
    return data[:begin] + here.randbytes(end - begin) + data[begin:]


def doubled(here: random.Random, data: bytes) -> bytes:
    begin, end = bounds(here, data)
    return data[:end] + data[begin:]


def cut_off(here: random.Random, data: bytes) -> bytes:
    return data[: here.randrange(len(data) + 1)]


def invented(here: random.Random, data: bytes) -> bytes:
    return here.randbytes(here.choice((1, 5, 6, 100, 20_000)))


def in_the_clear(here: random.Random, data: bytes) -> bytes:
    text = here.choice(
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"250 injected\r\n", b"GET / HTTP/1.1\r\n", b"\n", b"\0" * 9)
    )
    return here.choice((text, text + data, data + text))


def records(data: bytes) -> list[bytes]:
    """``data`` cut at the ends of its records; whatever follows them is one piece."""
    found = []
    while len(data) >= 5 and len(data) >= (size := 5 + int.from_bytes(data[3:5], "big")):
        found.append(data[:size])
        data = data[size:]
    return [*found, data] if data else found


def reordered(here: random.Random, data: bytes) -> bytes:
    pieces = records(data)
    here.shuffle(pieces)
    return b"".join(pieces)


def a_record_less_or_more(here: random.Random, data: bytes) -> bytes:
    pieces = records(data)
    at = here.randrange(len(pieces))
    pieces[at : at + 1] = pieces[at : at + 1] * here.choice((0, 2, 3, 40))
    return b"".join(pieces)


def a_foreign_record(here: random.Random, data: bytes) -> bytes:
    pieces = records(data)
    pieces.insert(here.randrange(len(pieces) + 1), here.choice(foreign()))
    return b"".join(pieces)


def a_made_up_record(here: random.Random, data: bytes) -> bytes:
    pieces = records(data)
    kind = here.choice((20, 21, 22, 22, 23, 24, here.randrange(256)))
    body = here.choice(
        (
            b"",
            b"\x01",
            bytes((here.choice((1, 2)), here.randrange(120))),  # an alert
            b"\x02\x00",
            b"\x01\x00",  # close_notify
            b"\x00\x00\x00\x00",  # a HelloRequest
            bytes((here.randrange(26),)) + here.choice((b"\0\0\0", b"\xff\xff\xff", b"\0\0\5")) + here.randbytes(5),
            here.randbytes(here.randrange(40)),
        )
    )
    size = here.choice((len(body), len(body), len(body), 0, 16_384, 16_641, 0xFFFF))
    made = bytes((kind, 3, here.choice((1, 3, 3, 4, 0)))) + size.to_bytes(2, "big") + body
    pieces.insert(here.randrange(len(pieces) + 1), made * here.choice((1, 1, 2, 5, 40, 2000)))
    return b"".join(pieces)


def another_head(here: random.Random, data: bytes) -> bytes:
    pieces = [bytearray(piece) for piece in records(data)]
    piece = here.choice(pieces)
    at = here.randrange(min(9, len(piece)))  # the head of the record, and of the message in it
    piece[at] = here.choice((0, 1, 2, 3, 4, 11, 14, 16, 20, 21, 22, 23, 0xFF, here.randrange(256)))
    return b"".join(pieces)


def in_small_records(here: random.Random, data: bytes) -> bytes:
    """What is allowed, where it is not encrypted."""
    pieces = []
    for piece in records(data):
        bodies = cut(piece[5:], [here.randrange(1, 30) for _ in range(here.randrange(40))] + [20_000])
        pieces += [piece[:3] + len(body).to_bytes(2, "big") + body for body in bodies]
    return b"".join(pieces)


WAYS: tuple[Way, ...] = (
    flipped,
    flipped,
    overwritten,
    removed,
    inserted,
    doubled,
    cut_off,
    invented,
    in_the_clear,
    reordered,
    a_record_less_or_more,
    a_foreign_record,
    a_made_up_record,
    another_head,
    another_head,
    in_small_records,
)


@cache
def foreign() -> tuple[bytes, ...]:
    """Records of other connections, of either side and version."""
    found: list[bytes] = []
    for version in (V12, V13):
        client, server = connected(version)
        for one in (client, server):
            one.write(b"of another connection")
            one.close_output()
            found += records(taken(one))
        client, server = new_client(contexts("server", version)[1]), new_server(contexts("client", version)[1])
        for one, other in ((client, server), (server, client), (client, server), (server, client)):
            one.handshake()
            data = taken(one)
            other.feed(data)
            found += records(data)
    return tuple(found)


@cache
def contexts(side: str, version: TLSVersion) -> tuple[SSLContext, SSLContext]:
    """Ours and the peer's. Servers ask for certificates, so that there is more of a handshake to break."""
    client, server = client_context(version), server_context(version, client_certificate=True)
    for context in (client, server):
        certificate_for_both().configure_cert(context)
    return (client, server) if side == "client" else (server, client)


@cache
def certificate_for_both() -> trustme.LeafCert:
    return authority().issue_cert(HOST, "127.0.0.1")


@dataclass
class Saboteur:
    """Changes one or a few of the peer's flights, or what is seen of them."""

    here: random.Random
    done: list[str] = field(default_factory=list)
    flights: int = 0

    def __post_init__(self) -> None:
        chance = self.here.random()
        self._which = {int(self.here.expovariate(0.9)) for _ in range(1 if chance < 0.8 else 2)}
        if chance < 0.03:
            self._which = set()  # a case in which all is well

    def passes_on(self, data: bytes) -> bytes:
        number, self.flights = self.flights, self.flights + 1
        if number not in self._which:
            return data
        for _ in range(self.here.choice((1, 1, 1, 2, 4))):
            if not data:
                break
            way = self.here.choice(WAYS)
            self.done.append(f"{way.__name__} in flight {number}")
            data = way(self.here, data)
        return data


class Conversation:
    """The honest peer: it says so much of THEIRS, and its close_notify; it keeps what it heard."""

    def __init__(self, session: Session, size: int) -> None:
        self.session = session
        self.heard = b""
        self.whole = False  # everything, as close_notify tells
        self._payload = THEIRS[:size]
        self._over = False

    def hear(self, data: bytes) -> None:
        self.session.feed(data)

    def says(self) -> bytes:
        try:
            if not self._over and self.session.handshake():
                self._converse()
        except SessionFailed:
            self._over = True
        return taken(self.session)

    def _converse(self) -> None:
        if not self.session.output_closed:
            self.session.write(self._payload)
            self.session.close_output()
        while data := self.session.read(100_000):
            self.heard += data
        self.whole = data == b""


# ---- in memory -----------------------------------------------------------------------------------------


class Wire:
    """A transport that never waits: the peer answers at once, and where it has nothing to say, that is the end."""

    secure = False
    under_way = 0

    def __init__(self, here: random.Random, peer: Conversation, saboteur: Saboteur, pieces: int) -> None:
        self._here = here
        self._peer = peer
        self._saboteur = saboteur
        self._pieces = pieces
        self._pauses = here.choice((0, 0, 3))
        self._breaks_at = here.randrange(60) if here.random() < 0.1 else None
        self._broken: OSError | None = None
        self._calls = 0
        self._coming = b""
        self.given = b""
        self.heard = b""
        self.released = False

    def belongs_to(self, *locks: Any) -> None:
        pass

    def limited(self, limit: float | None, /) -> tuple[Callable[[int], bytes], Callable[[memoryview], memoryview]]:
        return (
            lambda size: raise_if_blocked(self.receive(size, limit)),
            lambda memory: raise_if_blocked(self.receive_into(memory, limit)),
        )

    def receive(self, size: int, limit: float | None, /) -> bytes | None:
        if self._counts():
            return b""
        if limit is not None and self._pauses and self._here.random() < 0.2:
            self._pauses -= 1
            return None
        if not self._coming and (said := self._peer.says()):
            self._coming = self._saboteur.passes_on(said)
        size = min(size, self._pieces)
        data, self._coming = self._coming[:size], self._coming[size:]
        self.given += data
        return data

    def receive_into(self, memory: memoryview, limit: float | None, /) -> memoryview | None:
        data = self.receive(len(memory), limit)
        if data is None:
            return None
        memory[: len(data)] = data
        return memory[: len(data)]

    def send(self, data: memoryview | bytes, limit: float | None, /) -> int | None:
        if self._counts():
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        if limit is not None and self._pauses and self._here.random() < 0.2:
            self._pauses -= 1
            return 0
        taken = bytes(data[: self._here.choice((len(data), self._pieces))])
        self.heard += taken
        self._peer.hear(taken)
        return len(taken)

    def wait(self, read: bool, write: bool, limit: float | None, /) -> bool:
        self._counts()
        return True

    def ready(self) -> bool:
        return True

    def wake(self, read: bool, write: bool, /) -> None:
        pass

    def fileno(self) -> int:
        return -1

    def shutdown_input(self) -> None:
        pass

    def shutdown_output(self, limit: float | None, abort: bool, /) -> bool:
        return True

    def close(self, goodbye: float | None, /) -> None:
        assert not self.released
        self.released = True

    def abort(self) -> None:
        self.close(None)

    def handle(self) -> socket.socket:
        raise AssertionError("there is no socket")

    def detach(self) -> socket.socket:
        raise NotImplementedError

    def _counts(self) -> bool:
        """Whether the connection has broken; that is told once, by a failure."""
        assert not self.released, "used after it was closed"
        self._calls += 1
        assert self._calls < MOST_CALLS, "it does not end"
        if self._breaks_at is None or self._calls <= self._breaks_at:
            return False
        if self._broken is None:
            self._broken = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
            raise self._broken
        return True


def read_all(here: random.Random, stream: SocketStream, got: bytearray) -> None:
    """Everything until the end, into ``got``, with methods drawn by lot."""
    memory = bytearray(777)
    while True:
        size = here.choice((1, 50, 5000))
        try:
            match here.randrange(6):
                case 0:
                    data: bytes | None = stream.readline()
                case 1:
                    data = stream.read(size)
                case 2:
                    data = bytes(memory[: stream.readinto(memory)])
                case 3:
                    data = stream.read_no_hang() if stream.input_ready() else stream.read1()
                case 4:
                    data = stream.peek() and stream.read1(size)
                case _:
                    data = stream.read1()
        except ReadTimeout:
            continue
        if data:
            got += data
        elif data is not None:
            return


def use(here: random.Random, stream: SocketStream, start: Callable[[], object], size: int, got: bytearray) -> None:
    """A connection from its upgrade to the end of the ``size`` bytes that the peer has to say."""
    call = start
    while True:
        try:
            call()
            break
        except SslHandshakeTimeout:
            assert stream.tls is None
            call = partial(stream.handshake, PATIENCE)
    assert stream.tls is not None
    stream.read_timeout = here.choice((None, PATIENCE, 0))
    stream.write_timeout = here.choice((None, PATIENCE))
    sends: list[Callable[[], object]] = [partial(stream.write, OURS), *[stream.flush] * 5]
    for send in sends:
        try:
            send()
        except WriteTimeout:
            pass
    if here.random() < 0.8:
        read_all(here, stream, got)
        return
    while True:
        try:
            stream.stop_tls()
            break
        except (ReadTimeout, WriteTimeout):
            pass
    # Behind it anything may come, in the clear; in front of it there is everything.
    got += stream.read_exactly(size)


def stays_dead(stream: SocketStream, size: int, got: bytearray) -> None:
    """After a failure nothing but failures, or what had been received before."""
    for call in (stream.read1, stream.handshake, stream.flush, stream.stop_tls, stream.read1, stream.input_ready):
        try:
            more = call()
        except SocketError:
            continue
        if isinstance(more, bytes):
            got += more
            assert more or len(got) == size, "a silent end"


def case(side: str, version: TLSVersion, number: int) -> str:
    """One connection in memory; how it ended."""
    here = random.Random(f"{side} {version} {number}")
    ours, theirs = contexts(side, version)
    pieces = here.choices((1 << 18, 1000, 60, 7, 1), (80, 15, 3, 1, 1))[0]
    size = here.choice((0, 10, 1000, 20_000, 40_000) if pieces >= 1000 else (0, 10, 300))
    peer = Conversation(new_server(theirs) if side == "client" else new_client(theirs), size)
    saboteur = Saboteur(here)
    wire = Wire(here, peer, saboteur, pieces)
    stream = SocketStream._over(wire, peer_address=SocketAddress("192.0.2.1", 443))
    start = partial(stream.start_tls, ours, host=HOST, handshake_timeout=here.choice((None, PATIENCE)))
    got, ended = bytearray(), "whole"
    try:
        try:
            if side == "server" and here.random() < 0.2:
                stream.unread(GREETING + saboteur.passes_on(peer.says()))
                assert stream.readline() == GREETING
                start = partial(start, leftover="tls")
            use(here, stream, start, size, got)
            assert len(got) == size, "a silent end"
        except SocketError as error:
            ended = type(error).__name__
            stays_dead(stream, size, got)
        try:
            here.choice((stream.close, stream.close, stream.abort))()
        except SocketError:
            pass
        assert wire.released
        assert got == THEIRS[:size][: len(got)]
        assert OURS.startswith(peer.heard)
        assert OURS[:25] not in wire.heard
    except BaseException as error:
        stream.abort()
        told = f"case {number} of the {side}, {version.name}, {', '.join(saboteur.done)}: {error!r}"
        raise AssertionError(f"{told}; our side got {wire.given.hex()}") from error
    return ended


def sessions() -> int:
    """How many there are in this process."""
    gc.collect()
    return sum(isinstance(one, (Session, TlsTransport)) for one in gc.get_objects())


@BOTH_VERSIONS
@BOTH_SIDES
def test_in_memory(side: str, version: TLSVersion) -> None:
    foreign()
    before = sessions()
    ended = Counter(case(side, version, number) for number in range(IN_MEMORY))
    assert ended["whole"] > IN_MEMORY / 50, ended
    assert ended["SslError"] > IN_MEMORY / 50, ended
    assert ended["SslFailure"] > IN_MEMORY / 50, ended
    assert sessions() == before


# ---- over sockets --------------------------------------------------------------------------------------


def attack(here: random.Random, sock: socket.socket, session: Session, size: int) -> Conversation:
    """The peer over a socket. Behind a flight that was changed comes the end, so nobody waits for anybody."""
    peer, saboteur = Conversation(session, size), Saboteur(here)
    sock.settimeout(PATIENCE)
    try:
        while not saboteur.done:
            while not saboteur.done and (said := peer.says()):
                for piece in cut(saboteur.passes_on(said), [*here.choices((1, 6, 900), k=here.randrange(9)), 1 << 20]):
                    sock.sendall(piece)
            if not saboteur.done:
                data = sock.recv(65536)
                if not data:
                    return peer
                peer.hear(data)
        if here.random() < 0.3:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
            return peer
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass
    except TimeoutError:
        raise
    except OSError:
        pass  # our side has had enough
    return peer


def converse(stream: SocketStream, size: int, got: bytearray) -> None:
    """What our side does. (Over sockets a timeout would mean that it hangs.)"""
    stream.write(OURS)
    while data := stream.read1():
        got += data
    assert len(got) == size, "a silent end"


@BOTH_VERSIONS
def test_clients_over_sockets(version: TLSVersion) -> None:
    ours, theirs = contexts("client", version)
    size = 20_000
    foreign()

    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve() -> None:
        with listener:
            for number in range(OVER_SOCKETS):
                sock, _ = listener.accept()
                with sock:
                    peer = attack(random.Random(f"{version} {number}"), sock, new_server(theirs), size)
                assert OURS.startswith(peer.heard)

    serving = Task(serve)
    whole = 0
    for _ in range(OVER_SOCKETS):
        got = bytearray()
        try:
            with open_tcp_stream("127.0.0.1", port, ssl_ctx=ours, timeout=PATIENCE, read_timeout=PATIENCE) as stream:
                converse(stream, size, got)
            whole += 1
        except SocketError as error:
            hangs = isinstance(error, TimeoutError)
        else:
            hangs = False
        assert not hangs
        assert got == THEIRS[: len(got)]
    serving.result()
    assert 0 < whole < OVER_SOCKETS


@BOTH_VERSIONS
def test_servers_over_sockets(version: TLSVersion, caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = contexts("server", version)
    size = 20_000
    ended: Counter[str] = Counter()
    foreign()

    def serve(stream: SocketStream) -> None:
        got = bytearray()
        try:
            converse(stream, size, got)
            ended["whole"] += 1
        except SocketError as error:
            ended["timeout" if isinstance(error, TimeoutError) else "failed"] += 1
        assert got == THEIRS[: len(got)]

    with start_up_server(serve, ssl_ctx=ours, handshake_timeout=PATIENCE, read_timeout=PATIENCE) as server:
        for number in range(OVER_SOCKETS + 1):
            here = random.Random(f"{version} {number}")
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                peer = attack(here, sock, new_client(theirs), size)
            assert OURS.startswith(peer.heard)
        until(lambda: not server.connections)
        assert ended["failed"] > 0
        assert not ended["timeout"]
        ended.clear()
        with open_tcp_stream("127.0.0.1", server.port, ssl_ctx=theirs, read_timeout=PATIENCE) as client:
            client.write(THEIRS[:size])
            client.shutdown("output")
            assert client.read() == OURS
        until(lambda: not server.connections)
    assert ended == {"whole": 1}
    for record in caplog.records:  # of the server: whom it did not let in, and what became of the others
        assert "was not done" not in record.getMessage()
        if record.levelno >= logging.ERROR:
            assert record.exc_info is not None
            assert isinstance(record.exc_info[1], SocketError), record.exc_info


# ---- what it has found ---------------------------------------------------------------------------------


@each_way_to_wait
@BOTH_VERSIONS
def test_a_reset_is_a_condition_for_who_asks_first_too(
    waits: Callable[[socket.socket], Waits], version: TLSVersion
) -> None:
    stream, peer = tls_pair(waits, version)
    try:
        peer.abort()
        until(stream.input_ready)
        for _ in range(3):
            assert stream.input_ready()
            for read in (stream.read_no_hang, stream.read1):
                with pytest.raises(SslError) as caught:
                    read()
                assert isinstance(caught.value, ConnectionResetError)
    finally:
        stream.abort()
