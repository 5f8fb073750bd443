"""Crowds of clients of a server under load, in processes of their own (children.py), which obey lines.

They are plain sockets, so that no fault of the library can hide in both ends.
"""

from __future__ import annotations

import errno
import random
import select
import selectors
import socket
import ssl
import statistics
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from children import heard, say
from load_server import ANSWER

PATIENCE = 60.0
"""Seconds: a crowd is slower than one client."""

AT_ONCE = 50
"""Clients that speak at the same time where all of a crowd have to."""

LINE = b"this line takes its time to come\n"
"""What those say who drip."""

LONG_LINE = b"." * 999 + b"\n"

SMALL_BUFFER = 16384
"""Bytes that a client's socket receives ahead: the server soon waits for such a client to read."""

T = TypeVar("T")


def crowd(port: str, secure: str = "") -> None:
    """Many connections, which do as they are told; each command is answered when all of them have done it."""
    place = ("127.0.0.1", int(port))
    context = trusting() if secure else None
    held: list[socket.socket] = []
    slow: list[Slow] = []
    while words := heard():
        begun = time.monotonic()
        match words:
            case ["open", number]:  # so many more
                held += [joined(place, context) for _ in range(int(number))]
                say(len(held))
            case ["burst", number]:  # the same, all at one moment
                held += burst(place, int(number))
                say(len(held), time.monotonic() - begun)
            case ["echo"]:  # each has a line of its own given back
                for some in blocks(held):
                    echo(some)
                say(len(held), time.monotonic() - begun)
            case ["rounds", number]:  # so many requests, one after the other, over all in turn
                times = sorted(roundtrip(held[one % len(held)], one) for one in range(int(number)))
                say(len(times), statistics.median(times), times[int(len(times) * 0.99)], times[-1])
            case ["visits", number]:  # so many that come, have a line given back, and go
                for one in range(int(number)):
                    with joined(place, context) as sock:
                        roundtrip(sock, one)
                        leave(sock)
                say(number, time.monotonic() - begun)
            case ["cycles", number]:  # so many that come and go, in every way there is
                for one in range(int(number)):
                    cycle(place, context, one)
                say(number, time.monotonic() - begun)
            case ["flood", number]:  # so many more that write, and do not read, until nothing more goes
                held += [flooding(place, context) for _ in range(int(number))]
                say(len(held))
            case ["slow", number, what]:  # so many that are slow with their line, or with their handshake
                slow += [Slow(place, context, what == "handshake") for _ in range(int(number))]
                say(len(slow))
            case ["drip"]:  # each of these sends its next byte
                for one_slow in slow:
                    one_slow.drip()
                say(len(slow))
            case ["rest"]:  # each sends the rest, has its line given back, and goes
                for one_slow in slow:
                    one_slow.rest()
                say(len(slow), time.monotonic() - begun)
                slow.clear()
            case ["leave"]:
                for sock in held:
                    with sock:
                        leave(sock)
                held.clear()
                say(0)
            case ["ends"]:  # how the server ends each of them
                ends = Counter(end_of(sock) for sock in held)
                say(*(f"{name}={count}" for name, count in ends.items()))
            case _:
                raise ValueError(words)


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def joined(place: tuple[str, int], context: ssl.SSLContext | None, receive_buffer: int = 0) -> socket.socket:
    sock = socket.socket()
    sock.settimeout(PATIENCE)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect(place)
    # An end without close_notify must not pass for an orderly one.
    return sock if context is None else context.wrap_socket(sock, suppress_ragged_eofs=False)


def burst(place: tuple[str, int], count: int) -> list[socket.socket]:
    """So many connections under way before the first one is looked at."""
    made = [socket.socket() for _ in range(count)]
    with selectors.DefaultSelector() as selector:
        for sock in made:
            sock.setblocking(False)
            assert sock.connect_ex(place) in (0, errno.EINPROGRESS)
            selector.register(sock, selectors.EVENT_WRITE)
        end = time.monotonic() + PATIENCE
        while selector.get_map():
            assert time.monotonic() < end, f"{len(selector.get_map())} are not connected"
            for key, _ in selector.select(1.0):
                selector.unregister(key.fileobj)
    for sock in made:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        sock.settimeout(PATIENCE)
    return made


def blocks(held: Sequence[socket.socket]) -> Iterator[list[tuple[int, socket.socket]]]:
    for start in range(0, len(held), AT_ONCE):
        yield list(enumerate(held[start : start + AT_ONCE], start))


def echo(some: Sequence[tuple[int, socket.socket]]) -> None:
    for number, sock in some:
        sock.sendall(b"line %d\n" % number)
    for number, sock in some:
        hear(sock, b"line %d\n" % number)


def roundtrip(sock: socket.socket, number: int) -> float:
    begun = time.monotonic()
    echo([(number, sock)])
    return time.monotonic() - begun


def hear(sock: socket.socket, expected: bytes) -> None:
    """Exactly this must come next."""
    data = b""
    while len(data) < len(expected):
        more = sock.recv(len(expected) - len(data))
        assert more, f"the connection has ended after {data!r}"
        data += more
    assert data == expected


def leave(sock: socket.socket) -> None:
    """As a client should: the server finds no fault in it."""
    if isinstance(sock, ssl.SSLSocket):
        sock.unwrap()
    else:
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""


def flooding(place: tuple[str, int], context: ssl.SSLContext | None) -> socket.socket:
    sock = joined(place, context, SMALL_BUFFER)
    sock.settimeout(0.1)
    try:
        while True:
            sock.send(LONG_LINE * 16)
    except TimeoutError:
        return sock


def end_of(sock: socket.socket) -> str:
    sock.settimeout(PATIENCE)
    try:
        while sock.recv(65536):
            pass
    except OSError as error:
        return type(error).__name__
    return "end"


WAYS = 7


def cycle(place: tuple[str, int], context: ssl.SSLContext | None, number: int) -> None:
    """Come and go: at once, after half a handshake, with an answer, in the middle of a line; with FIN or RST."""
    way = number % WAYS
    early = context is not None and way in (1, 2)
    with joined(place, None if early else context) as sock:
        if context is not None and early:
            sock.sendall(InMemory(context).sealed()[:100])
        elif way == 3:
            roundtrip(sock, number)
        elif way >= 4:
            sock.sendall(b"half a li")
        if way in (2, 5):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
        elif way == 6 and isinstance(sock, ssl.SSLSocket):
            with suppress(ssl.SSLError):  # it cannot end one direction and read on, but it says close_notify
                sock.unwrap()
        elif way == 6:
            sock.shutdown(socket.SHUT_WR)
            hear(sock, b"half a li")
            assert sock.recv(1) == b""


class InMemory:
    """A client's TLS whose bytes somebody else carries."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self.incoming, self.outgoing)
        with suppress(ssl.SSLWantReadError):
            self.session.do_handshake()

    def sealed(self) -> bytes:
        return self.outgoing.read()

    def over(self, sock: socket.socket, call: Callable[[], T]) -> T:
        while True:
            try:
                return call()
            except ssl.SSLWantReadError:
                pass
            finally:
                sock.sendall(self.sealed())
            self.incoming.write(sock.recv(65536))


class Slow:
    """Says one byte at a time: of its line, or of the first words of its handshake."""

    def __init__(self, place: tuple[str, int], context: ssl.SSLContext | None, in_handshake: bool) -> None:
        self._tls = InMemory(context) if context is not None and in_handshake else None
        self._sock = joined(place, None if in_handshake else context)
        self._left = LINE if self._tls is None else self._tls.sealed()

    def drip(self) -> None:
        assert len(self._left) > 1, "it never says all of it"
        self._sock.sendall(self._left[:1])
        self._left = self._left[1:]

    def rest(self) -> None:
        tls = self._tls
        with self._sock as sock:
            sock.sendall(self._left)
            if tls is None:
                hear(sock, LINE)
                leave(sock)
            else:
                tls.over(sock, tls.session.do_handshake)
                tls.over(sock, lambda: tls.session.write(LINE))
                assert tls.over(sock, tls.session.read) == LINE
                tls.over(sock, tls.session.unwrap)


# ---- requests, and talkers -------------------------------------------------------------------------------


def request(port: str, at_once: str, first: str, secure: str = "") -> None:
    """Request after request, some at once, each over a connection of its own, until the server takes no more.

    Says ``working``; at the end ``done`` and the numbers of all requests that were answered whole, then ``cut`` and
    what came of others that were answered in part. The numbers are ``first`` and those that follow.
    """
    place = ("127.0.0.1", int(port))
    context = trusting() if secure else None
    lock = threading.Lock()
    done: list[int] = []
    cut: list[str] = []

    def work(number: int) -> None:
        while True:
            answer, end = b"", "end"
            try:
                with joined(place, context) as sock:
                    sock.sendall(b"%d\n" % number)
                    while data := sock.recv(1 << 16):
                        answer += data
            except OSError as error:  # ssl.SSLError is one
                end = type(error).__name__
            with lock:
                if (answer, end) == (b"%d\n" % number + bytes(ANSWER), "end"):
                    done.append(number)
                elif answer:
                    cut.append(f"{number}:{len(answer)}:{end}")
            if end != "end" or not answer:
                return
            number += int(at_once)

    working = [threading.Thread(target=work, args=(int(first) + number,)) for number in range(int(at_once))]
    for thread in working:
        thread.start()
    say("working")
    for thread in working:
        thread.join()
    say("done", *done)
    say("cut", *cut)


def talk(port: str, seed: str, secure: str = "") -> None:
    """Talk over one connection after the other until a line tells it to finish: whatever it says must come back.

    Says ``talking`` when it does; at the end how many connections it had, and how many bytes came back.
    """
    place = ("127.0.0.1", int(port))
    context = trusting() if secure else None
    chance = random.Random(int(seed))
    finish = threading.Event()

    def obey() -> None:
        heard()
        finish.set()

    threading.Thread(target=obey, daemon=True).start()
    connections = size = 0
    while not finish.is_set():
        with joined(place, context, SMALL_BUFFER) as sock:
            sock.setblocking(False)
            for _ in range(chance.randint(1, 4)):
                size += exchange(sock, chance)
            sock.settimeout(PATIENCE)
            leave(sock)
        if not connections:
            say("talking")
        connections += 1
    say("finished", connections, size)


def exchange(sock: socket.socket, chance: random.Random) -> int:
    """Say more than all buffers hold, as fast as the server takes it, and hear all of it. How many bytes."""
    lines = (chance.randbytes(chance.randint(1, 20_000)).replace(b"\n", b"") + b"\n" for _ in range(20))
    text = b"".join(lines)
    said = back = 0
    with memoryview(text) as view:
        while back < len(text):
            if said < len(text) and (count := unless_blocked(partial(sock.send, view[said : said + 65536]))):
                said += count
            elif (data := unless_blocked(partial(sock.recv, 65536))) is None:
                select.select([sock], [sock] if said < len(text) else [], [], PATIENCE)
            else:
                assert data, f"the connection has ended after {back} of {len(text)} bytes"
                assert data == view[back : back + len(data)], "other bytes came back"
                back += len(data)
    return len(text)


def unless_blocked(call: Callable[[], T]) -> T | None:
    try:
        return call()
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return None
