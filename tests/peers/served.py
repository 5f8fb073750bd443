"""What servers of ours do in tests with real peers; in processes of their own too (children.py), without pytest."""

from __future__ import annotations

import hashlib
import os
import random
import signal

from children import heard, say

from landline import SocketStream, inherited_sockets, start_up_server
from landline.testing.contract.stage import PATIENCE, until

LARGE = random.Random(4).randbytes(1 << 20)
PAGES = {b"/small": b"a small page\r\n", b"/large": LARGE, b"/unmeasured": LARGE, b"/empty": b""}

REST = b"the rest of it\n" * 100_000
"""An answer that is more than the buffers on its way hold."""


def pages(stream: SocketStream) -> None:
    """HTTP/1.0: one request, and one answer. That to a POST tells what has come."""
    line, *lines = stream.read_until(b"\r\n\r\n")[:-4].split(b"\r\n")
    method, target, _ = line.split(b" ")
    path = target.partition(b"?")[0]
    fields = {name.lower(): value.strip() for name, _, value in (one.partition(b":") for one in lines)}
    status, body = b"200 OK", PAGES.get(path)
    if method == b"POST":
        body = fingerprint(stream.read_exactly(int(fields[b"content-length"])))
    elif body is None:
        status, body = b"404 Not Found", b"no such page\n"
    length = b"" if path == b"/unmeasured" else b"Content-Length: %d\r\n" % len(body)
    stream.write(b"HTTP/1.0 %s\r\nContent-Type: text/plain\r\n%s\r\n" % (status, length))
    if method != b"HEAD":
        stream.write(body)


class Asked:
    """pages() as a handler that counts."""

    def __init__(self) -> None:
        self._each: list[None] = []

    def __call__(self, stream: SocketStream) -> None:
        self._each.append(None)  # a number would need a lock
        pages(stream)

    @property
    def times(self) -> int:
        return len(self._each)


def fingerprint(data: bytes) -> bytes:
    return b"%d %s\n" % (len(data), hashlib.sha256(data).hexdigest().encode())


def serve_pages_beside(port: str) -> None:
    """Share a port with other processes. Says how many requests it had, when asked."""
    asked = Asked()

    with start_up_server(asked, int(port), reuse_port=True) as server:
        say(server.port)
        while heard():
            say(asked.times)


def serve_activated() -> None:
    """Serve on the sockets that systemd has opened, until a signal.

    A line "who" is answered with the addresses as they appear here; "work" with REST, after another line. Whoever is
    told that it works may send a signal: it is heard by then.
    """
    names = os.environ["LISTEN_FDNAMES"].split(":")
    sockets = inherited_sockets()

    def handler(stream: SocketStream) -> None:
        match stream.readline():
            case b"who\n":
                stream.write(f"{stream.peer_address} {stream.local_address} {os.getpid()}\n".encode())
            case b"work\n":
                until(lambda: signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL)
                say("working")
                stream.readline()
                stream.write(REST)

    say(*(f"{name}={sock.family.name}" for name, sock in zip(names, sockets, strict=True)))
    start_up_server(handler, sockets).serve_forever(drain=PATIENCE)
