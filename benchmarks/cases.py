"""What is measured, in which units, and what must come out.

A case is a job that every peer does in its own way: the method of the case's name. All of them
return seconds for a number of operations (memory: bytes for a number of streams), so that one
harness serves all; how a number is shown is the case's own business.

Targets compare like with like: a call that obeys a time limit with one that does, iteration
with iteration. "time" is ours divided by theirs, at most; "speed" is the reverse, at least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .wire import CHUNK_SIZE, FILE_SIZE


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    unit: Literal["us", "ms", "/s", "M/s", "GB/s", "bytes"]
    count: int | None = None
    """Operations in a sample where that is fixed; None: as many as fill the time of a sample."""
    size: int = CHUNK_SIZE
    """Bytes of an operation, where they are what counts."""
    worker: Literal["client", "server"] = "client"
    """The side that is measured, and whose time at work is shown."""

    @property
    def tls(self) -> bool:
        """The other end is the server that speaks TLS."""
        return self.name.startswith("tls_")

    @property
    def floor(self) -> str:
        """The peer that is the limit."""
        return f"C {self.worker}"

    def shown(self, value: float) -> str:
        """One operation's seconds (or one stream's bytes) in the unit of this case."""
        match self.unit:
            case "us":
                return f"{value * 1e6:.2f} us"
            case "ms":
                return f"{value * 1e3:.2f} ms"
            case "/s":
                return f"{1 / value:.0f} /s"
            case "M/s":
                return f"{1e-6 / value:.2f} M/s"
            case "GB/s":
                return f"{self.size / value / 1e9:.2f} GB/s"
            case "bytes":
                return f"{value:.0f} bytes"


CASES = (
    Case("round_trip", "round trip: write 64 bytes, read exactly 64", "us"),
    Case("readline", "lines of 80 bytes, readline()", "M/s"),
    Case("iterate", "lines of 80 bytes, iterated", "M/s"),
    Case("text_readline", "lines of 80 characters as str, readline()", "M/s"),
    Case("text_iterate", "lines of 80 characters as str, iterated", "M/s"),
    Case("frames", "frames: read exactly 16 bytes", "M/s"),
    Case("until", "lines of 80 bytes, read until CR LF", "M/s"),
    Case("bulk_read", "bulk read, at most 256 KiB a call", "GB/s"),
    Case("bulk_write", "bulk write, 256 KiB a call", "GB/s"),
    Case("small_writes", "writes of 80 bytes", "M/s"),
    Case("connect", "connect to a numeric host and close", "us"),
    Case("send_file", "a file of 64 MiB sent", "GB/s", size=FILE_SIZE),
    Case("udp_round_trip", "UDP, connected: send 64 bytes, receive 64", "/s"),
    Case("udp_unconnected", "UDP, not connected: send 64 bytes to an address, receive 64 from it", "/s"),
    Case("udp_receive", "UDP, connected: receive 64 bytes, one way", "/s"),
    Case("memory", "Python memory of one idle open stream", "bytes", count=200),
    Case("import_time", "import, in a fresh interpreter", "ms", count=1),
    Case("echo_1", "server: requests of 64 bytes answered, 1 connection", "/s", worker="server"),
    Case("echo_100", "server: requests of 64 bytes answered, 100 connections", "/s", worker="server"),
    Case("visits", "server: accept, answer a request of 64 bytes, close; 50 clients at a time", "/s", worker="server"),
    Case("tls_round_trip", "TLS round trip: write 64 bytes, read exactly 64", "us"),
    Case("tls_bulk_receive", "TLS bulk read, at most 256 KiB a call", "GB/s"),
    Case("tls_bulk_send", "TLS bulk write, 256 KiB a call", "GB/s"),
    Case("tls_send_file", "TLS, a file of 64 MiB sent", "GB/s", size=FILE_SIZE),
    Case("tls_connect", "connect, full TLS handshake (P-256) and close", "/s"),
    Case("tls_connect_rsa", "connect, full TLS handshake (RSA-2048) and close", "/s"),
    Case("tls_resumed", "connect, resumed handshake (P-256), one byte there and back, close", "/s"),
    Case("tls_resumed_rsa", "connect, resumed handshake (RSA-2048), one byte there and back, close", "/s"),
    Case("tls_memory", "Python memory of one idle open TLS stream", "bytes", count=200),
    Case("tls_resident", "resident memory of one idle open TLS stream, OpenSSL's included", "bytes", count=200),
)


@dataclass(frozen=True)
class Target:
    case: str
    kind: Literal["time", "speed", "bytes"]
    limit: float
    peer: str = ""
    ours: str = "landline"
    at_work: bool = False
    """The time at work is what counts, and not the clock."""
    c_peer: str = ""
    """Whom the C client is compared with, where that is not `peer`."""

    def met(self, value: float) -> bool:
        return value >= self.limit if self.kind == "speed" else value <= self.limit

    def __str__(self) -> str:
        if self.kind == "bytes":
            return f"{self.case}: {self.ours} at most {self.limit:g} bytes"
        bound = "at least" if self.kind == "speed" else "at most"
        kind = f"{self.kind} at work" if self.at_work else self.kind
        return f"{self.case}: {kind} of {self.ours} {bound} {self.limit:.2f} x {self.peer}"


SERVED = tuple(case.name for case in CASES if case.worker == "server")

TARGETS = (
    Target("round_trip", "time", 1.10, "C client"),
    Target("round_trip", "time", 0.75, "makefile, timeout"),
    Target("readline", "speed", 1.0, "makefile"),
    Target("readline", "speed", 5.0, "asyncio"),
    Target("iterate", "speed", 1.5, "makefile"),
    Target("text_readline", "speed", 1.0, "makefile"),
    Target("text_iterate", "speed", 1.3, "makefile"),
    Target("bulk_read", "speed", 0.95, "socket"),
    Target("connect", "time", 1.25, "socket", ours="landline, no timeout"),
    Target("connect", "time", 1.25, "socket, timeout"),
    Target("send_file", "speed", 0.95, "socket"),
    *(
        Target(case, "speed", limit, f"{peer}{theirs}", ours=f"landline{ours}", at_work=True)
        for case in SERVED
        for limit, peer in ((1.2, "ThreadingTCPServer"), (0.9, "threads"))
        for ours, theirs in (("", ", timeout"), (", no timeout", ""))
    ),
    *(Target(case, "speed", 0.9, "threads", ours="landline, sockets", at_work=True) for case in SERVED),
    Target("memory", "bytes", 4096),
    Target("import_time", "time", 1.5, "socket"),
    Target("tls_round_trip", "time", 0.95, "SSLSocket, timeout"),
    Target("tls_bulk_receive", "speed", 1.05, "SSLSocket, timeout"),
    Target("tls_bulk_send", "speed", 1.0, "SSLSocket, timeout"),
    Target("tls_connect", "speed", 20, "SSLSocket, new context"),
    Target("tls_connect", "speed", 20, "SSLSocket, new context", ours="landline, default"),
    Target("tls_connect_rsa", "speed", 20, "SSLSocket, new context"),
    Target("tls_resumed", "speed", 1.7, "landline, fresh", c_peer="C client, fresh"),
    Target("tls_resumed_rsa", "speed", 1.7, "landline, fresh", c_peer="C client, fresh"),
    Target("tls_memory", "bytes", 3072),
)
