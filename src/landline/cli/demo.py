"""``landline demo``: what the library does, on this machine alone and in a few seconds.

Each part is a function of snippets.py, shown from its source and then run, so that what is shown cannot
differ from what happens. Only bold and dim are used, which every background can show, and nothing but ASCII.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import socket
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from .. import SocketStream, start_up_server
from . import snippets
from .output import writing

if TYPE_CHECKING:
    import ssl

__all__ = ["demo"]

REPLY_AFTER = 0.9
"""Seconds: long enough for some dots, short enough to sit through."""

PAGE = (
    "<!doctype html>",
    "<title>landline</title>",
    "<p>This page came over the loopback interface.</p>",
)

BAR = "| "


def demo() -> None:
    """Show every part on standard output.

    Raises:
        SocketError: this machine's loopback interface does not work.
        OutputClosed, OSError: standard output does not.
    """
    logging.getLogger("landline.server").addHandler(logging.NullHandler())  # a refusal is part of the show
    console = _Output(highlight=False)
    with start_up_server(_serve_page) as server:
        title = "1. The manual's example fetches a page; then the connection's report"
        _show(console, title, snippets.fetch, server.port)
    with start_up_server(_greet, local_address="127.0.0.1") as server, _two_addresses(server.port):
        title = "2. A name whose first address is silent: the second one wins, 250 ms later"
        _show(console, title, snippets.race, server.port)
    with start_up_server(_serve_half_a_line) as server:
        title = "3. A read that timed out in the middle of a line goes on; nothing is lost"
        _show(console, title, snippets.read_on, server.port)
    with _throw_away_certificate() as (context, ca_file), start_up_server(_greet, ssl_ctx=context) as server:
        title = "4. TLS: a stranger is refused, and why is told; a trusted authority helps"
        _show(console, title, snippets.trust, server.port, ca_file)
    with _dead_port() as port:
        title = "5. Where nobody listens, the condition tells what was tried"
        _show(console, title, snippets.meet_nobody, port)


class _Output(Console):
    def on_broken_pipe(self) -> None:
        """Left to itself rich ends the process, with status 1."""
        raise BrokenPipeError


@writing()
def _show(console: Console, title: str, part: Callable[..., None], *arguments: int | str) -> None:
    console.print(title, style="bold")
    for line in textwrap.dedent(inspect.getsource(part).partition("\n")[2]).splitlines():
        console.print(Text.assemble((BAR, "dim"), line), soft_wrap=True)
    console.print()
    part(*arguments)
    console.print()


def _serve_page(stream: SocketStream) -> None:
    stream.read_until(b"\r\n\r\n")
    time.sleep(REPLY_AFTER)
    body = "".join(f"{line}\r\n" for line in PAGE)
    head = f"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n"
    stream.write((head + body).encode("ascii"))


def _serve_half_a_line(stream: SocketStream) -> None:
    stream.write(b"the first half of a line, ")
    stream.readline()  # which sends it, and waits until the client has had enough
    stream.write(b"and the second half\n")


def _greet(stream: SocketStream) -> None:
    stream.write(b"Welcome!\n")


@contextmanager
def _two_addresses(port: int) -> Iterator[None]:
    """A name whose first address is silent and whose second one is served at ``port``.

    Silent is a listener that has as many connections waiting as it takes: the system drops what comes then.
    """
    family, address = _second_address()
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family))
        listener.bind((address, port))
        listener.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket(family))
            waiting.setblocking(False)
            waiting.connect_ex((address, port))
        real = socket.getaddrinfo

        def answer(host: Any, service: Any, asked: int = 0, *more: Any, **others: Any) -> Any:
            if host != "two-addresses.example":
                return real(host, service, asked, *more, **others)
            known = [(family, address), (socket.AF_INET, "127.0.0.1")]
            wanted = [(each, text) for each, text in known if asked in (each, socket.AF_UNSPEC)]
            if not wanted:
                raise socket.gaierror(socket.EAI_NONAME, "this name has no such address")
            return [(each, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (text, service)) for each, text in wanted]

        stack.enter_context(_in_place_of_getaddrinfo(answer))
        yield


def _second_address() -> tuple[socket.AddressFamily, str]:
    """An address of the loopback interface that is not 127.0.0.1; not every system has IPv6, or all of 127/8."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as trial:
        trial.bind(("::1", 0))
        return socket.AF_INET6, "::1"
    return socket.AF_INET, "127.0.0.2"


@contextmanager
def _in_place_of_getaddrinfo(answer: Any) -> Iterator[None]:
    real, socket.getaddrinfo = socket.getaddrinfo, answer
    try:
        yield
    finally:
        socket.getaddrinfo = real


@contextmanager
def _throw_away_certificate() -> Iterator[tuple[ssl.SSLContext, str]]:
    """A server's context with a certificate for localhost; and the file of the authority that has signed it."""
    import ssl

    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with authority.cert_pem.tempfile() as ca_file:
        yield context, ca_file


@contextmanager
def _dead_port() -> Iterator[int]:
    """A port of the loopback interface that is taken, so that nobody else begins to listen there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
