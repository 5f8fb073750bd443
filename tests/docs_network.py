"""The network that the documentation's examples see: names that exist nowhere else, and servers behind them.

An example says ``open_tcp_stream("db.example", 5432)``, because that is what a reader would write. It runs unchanged:

* A name that a page announces has addresses in 127.0.0.0/8, of its own. Every other name is unknown, and every address
  outside this machine is unreachable: no example can reach the internet.
* Ports are redirected. A server of a page that asks for port 7000 gets a free one, and whoever connects to 7000 here
  comes out there; so pages can run at once, without root, beside whatever this machine serves.

Everything else is real: sockets, the kernel's TCP, TLS, threads. It is for Linux, where all of 127.0.0.0/8 is loopback,
and it changes the socket module of the process that it is in, which is one that runs a single page and ends.
"""

from __future__ import annotations

import _socket
import errno
import functools
import ipaddress
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import landline

__all__ = ["KINDS", "Network"]

Handler = Callable[[landline.SocketStream], object]


class Network:
    """Names, addresses and ports as the pages see them."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}
        self._behind: dict[tuple[str, int], int] = {}  # (address, port as a page writes it): the port in truth
        self._own: dict[int, int] = {}  # the same, of servers of the page's own
        self._kept: list[object] = []
        self._given = 0

    def add(self, kind: str, host: str, port: int) -> None:
        """Another address for ``host``; behind ``port`` of it is what KINDS says."""
        self._given += 1
        address = f"127.0.{1 + self._given // 250}.{1 + self._given % 250}"
        self._names.setdefault(host, []).append(address)
        self._behind[address, port] = KINDS[kind](self, address)

    def keep(self, thing: object) -> None:
        self._kept.append(thing)

    def install(self) -> None:
        """Change the socket module of this process."""
        plain_bind, plain_connect = socket.socket.bind, socket.socket.connect
        plain_connect_ex = socket.socket.connect_ex
        plain_sendto: Callable[..., int] = socket.socket.sendto
        plain_getaddrinfo = socket.getaddrinfo

        def getaddrinfo(host: Any, port: Any, family: int = 0, *more: Any, **named: Any) -> Any:
            addresses = ["127.0.0.1"] if host == "localhost" else self._names.get(host)
            if addresses is None:
                if host is not None and not is_numeric(host):
                    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
                return plain_getaddrinfo(host, port, family, *more, **named)
            if family == socket.AF_INET6:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            found = [plain_getaddrinfo(each, port, family, *more, **named) for each in addresses]
            return [one for each in found for one in each]

        def bind(sock: socket.socket, address: Any) -> None:
            wanted = address[1] if isinstance(address, tuple) else 0
            if wanted:
                address = (address[0], self._own.get(wanted, 0), *address[2:])
            plain_bind(sock, address)
            if wanted:
                self._own[wanted] = sock.getsockname()[1]

        def connect(sock: socket.socket, address: Any) -> None:
            plain_connect(sock, self._in_truth(address))

        def connect_ex(sock: socket.socket, address: Any) -> int:
            try:
                return plain_connect_ex(sock, self._in_truth(address))
            except OSError as error:
                return error.errno or errno.ENETUNREACH

        def sendto(sock: socket.socket, data: Any, *more: Any) -> int:
            return plain_sendto(sock, data, *more[:-1], self._in_truth(more[-1]))

        replaced: Any = socket
        replaced.getaddrinfo = getaddrinfo
        for function in (bind, connect, connect_ex, sendto):
            setattr(replaced.socket, function.__name__, function)

    def _in_truth(self, address: Any) -> Any:
        """Where a page comes out that goes to ``address``. Raises OSError for the rest of the world."""
        if not isinstance(address, tuple):
            return address
        host, port, *more = address
        there = ipaddress.ip_address(host.partition("%")[0])
        if not (there.is_loopback or there.is_multicast or there.is_unspecified):
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
        if any(host in addresses for addresses in self._names.values()):
            port = self._behind.get((host, port)) or refused(self, host)
        else:
            port = self._own.get(port, port)
        return host, port, *more


def is_numeric(host: Any) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


# ---- what may be behind a port -------------------------------------------------------------------


def serves(handler: Handler, **how: Any) -> Callable[[Network, str], int]:
    def start(network: Network, address: str) -> int:
        @functools.wraps(handler)
        def until_it_leaves(stream: landline.SocketStream) -> None:
            with suppress(OSError, EOFError):
                handler(stream)

        server = landline.start_up_server(until_it_leaves, local_address=address, name="the page's peer", **how)
        network.keep(server)
        return server.port

    return start


def secured(handler: Handler) -> Callable[[Network, str], int]:
    def start(network: Network, address: str) -> int:
        return serves(handler, ssl_ctx=site())(network, address)  # whose files are not there before a page runs

    return start


def site(**more: Any) -> landline.SslAbstractContext:
    return landline.create_ssl_server_context(cert_file="site.pem", key_file="site.key", **more)


def refused(network: Network, address: str) -> int:
    """A port that is taken, and at which nobody listens."""
    sock = socket.socket()
    sock.bind((address, 0))
    network.keep(sock)
    return int(sock.getsockname()[1])


def silent(network: Network, address: str) -> int:
    """A port whose queue is full, so that the kernel answers nobody."""
    sock = socket.socket()
    sock.bind((address, 0))
    sock.listen(0)
    network.keep(sock)
    for _ in range(2):
        filler = socket.socket()
        filler.setblocking(False)
        _socket.socket.connect_ex(filler, sock.getsockname())  # not redirected
        network.keep(filler)
    return int(sock.getsockname()[1])


def echo(stream: landline.SocketStream) -> None:
    while data := stream.read1():
        stream.write(data)
        stream.flush()


def http(stream: landline.SocketStream) -> None:
    path = stream.readline().split()[1]
    while stream.readline().strip():
        pass
    if path == b"/drip":
        stream.write(b"HTTP/1.0 200 OK\r\n\r\n")
        while True:
            stream.write(b".")
            stream.flush()
            time.sleep(0.02)
    stream.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello\n")


def halves(stream: landline.SocketStream) -> None:
    """Answers each line with another one, in two parts and not soon."""
    while stream.readline():
        stream.write(b"half a ")
        stream.flush()
        time.sleep(0.15)
        stream.write(b"line\n")
        stream.flush()


def mute(stream: landline.SocketStream) -> None:
    while stream.read1():
        pass


def late(stream: landline.SocketStream) -> None:
    """Lets a client wait with what it writes, and then takes it all."""
    time.sleep(0.5)
    stream.write(b"%d\n" % len(stream.read()))


def breaks(stream: landline.SocketStream) -> None:
    """Goes away in the middle of an answer; over TLS without close_notify."""
    stream.readline()
    stream.write(b"half an ")
    stream.flush()
    sock = socket.fromfd(stream.fileno(), socket.AF_INET, socket.SOCK_STREAM)
    sock.shutdown(socket.SHUT_WR)
    sock.close()
    time.sleep(0.2)


def database(stream: landline.SocketStream) -> None:
    stream.read1()
    stream.write(b"hello" + b"name\0")
    for _ in range(100):
        stream.write(b"reply\n")
        stream.flush()
        time.sleep(0.02)


def imap(stream: landline.SocketStream) -> None:
    stream.write(b"* OK ready\r\n")
    while line := stream.readline():
        tag, command = line.split()[:2]
        stream.write(tag + b" OK done\r\n")
        if command == b"STARTTLS":
            stream.start_tls(site(alpn=["imap"]))
        if command == b"LOGOUT":
            break


def smtp(stream: landline.SocketStream) -> None:
    stream.write(b"220 mail.example ESMTP\r\n")
    while line := stream.readline():
        command = line.split()[0].upper()
        if command == b"EHLO":
            stream.write(b"250-mail.example\r\n" + (b"" if stream.tls else b"250-STARTTLS\r\n") + b"250 8BITMIME\r\n")
        elif command == b"STARTTLS":
            stream.write(b"220 go ahead\r\n")
            stream.start_tls(site())
        else:
            stream.write(b"221 bye\r\n" if command == b"QUIT" else b"250 fine\r\n")
            if command == b"QUIT":
                break


def injected(stream: landline.SocketStream) -> None:
    """What somebody in between does to STARTTLS."""
    stream.write(b"220 mail.example ESMTP\r\n")
    stream.readline()
    stream.write(b"220 go ahead\r\n250 take this for mine\r\n")
    stream.flush()
    mute(stream)


KINDS: dict[str, Callable[[Network, str], int]] = {
    "breaks": serves(breaks),
    "breaks over TLS": secured(breaks),
    "database": serves(database),
    "echo": serves(echo),
    "echo over TLS": secured(echo),
    "halves": serves(halves),
    "http": serves(http),
    "https": secured(http),
    "imap": serves(imap),
    "injected": serves(injected),
    "late": serves(late),
    "mute": serves(mute),
    "refused": refused,
    "silent": silent,
    "smtp": serves(smtp),
}
