"""What goes over the wire, and where: all that a peer needs to know. Cheap to import, as every
sample begins with it.
"""

from __future__ import annotations

from typing import NamedTuple

HOST = "127.0.0.1"
LIMIT = 5.0
"""Seconds: the time limit wherever one is set; it never expires."""
MESSAGE = b"x" * 64
FRAME_SIZE = 16
LINE = b"x" * 79 + b"\n"
CRLF_LINE = b"x" * 78 + b"\r\n"
CHUNK_SIZE = 256 * 1024
CHUNK = b"x" * CHUNK_SIZE
"""Not zeros: fresh zeros are one page of memory mapped many times, and that page stays cached."""


class Server(NamedTuple):
    """The ports of `server.c` on HOST, by service, and the path of the compiled `client.c`."""

    echo: int
    lines: int
    crlf_lines: int
    source: int
    sink: int
    door: int
    client: str
