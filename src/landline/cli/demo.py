"""``landline demo``: what the library does, on this machine alone and in a few seconds.

Each part is a function of snippets.py, shown from its source and then run, so that what is shown cannot
differ from what happens. Only bold and dim are used, which every background can show, and nothing but ASCII.
"""

from __future__ import annotations

import inspect
import socket
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from .. import SocketStream, start_up_server
from . import snippets
from .output import writing

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
    console = _Output(highlight=False)
    with start_up_server(_serve_page) as server:
        title = "1. The manual's example fetches a page; then the connection's report"
        _show(console, title, snippets.fetch, server.port)
    with start_up_server(_serve_half_a_line) as server:
        title = "2. A read that timed out in the middle of a line goes on; nothing is lost"
        _show(console, title, snippets.read_on, server.port)
    with _dead_port() as port:
        title = "3. Where nobody listens, the condition tells what was tried"
        _show(console, title, snippets.meet_nobody, port)


class _Output(Console):
    def on_broken_pipe(self) -> None:
        """Left to itself rich ends the process, with status 1."""
        raise BrokenPipeError


@writing()
def _show(console: Console, title: str, part: Callable[[int], None], port: int) -> None:
    console.print(title, style="bold")
    for line in textwrap.dedent(inspect.getsource(part).partition("\n")[2]).splitlines():
        console.print(Text.assemble((BAR, "dim"), line), soft_wrap=True)
    console.print()
    part(port)
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


@contextmanager
def _dead_port() -> Iterator[int]:
    """A port of the loopback interface that is taken, so that nobody else begins to listen there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
