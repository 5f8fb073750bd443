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


FILE_SIZE = 64 << 20
BURST = 100
"""Datagrams that `udp_source` answers one with: a default receive buffer has room for twice as many."""

SERVER_PID = "LANDLINE_BENCH_SERVER"
"""The environment variable that tells a sample, and a C client, whose work counts beside its own."""
FILE = "LANDLINE_BENCH_FILE"
"""The same for a file of FILE_SIZE bytes, for who sends one."""


class Server(NamedTuple):
    """The ports of `server.c` on HOST, by service, its process, and the paths of `client.c` and `load.c`, compiled.

    Servers run on `core`, those of the peers too. `file` is what is sent by those who send a file.
    """

    pid: int
    core: int
    file: str
    echo: int
    once: int
    lines: int
    crlf_lines: int
    source: int
    sink: int
    door: int
    udp_echo: int
    udp_source: int
    client: str
    load: str


class TlsServer(NamedTuple):
    """The same of `tls_server.c` and `tls_client.c`.

    Their certificates are elliptic but for `rsa_door`. `roots` is a file with the authorities behind them,
    `all_roots` one with the system's roots before these, for SSL_CERT_FILE ("" where the system has none).
    `openssl` is the version that the C programs use.
    """

    pid: int
    file: str
    echo: int
    source: int
    sink: int
    door: int
    rsa_door: int
    client: str
    roots: str
    all_roots: str
    openssl: str
