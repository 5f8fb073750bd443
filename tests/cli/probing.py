"""Servers for the tests of probes, and facts of probes that nobody made."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from certificates import DAY, NOW, Certificates, Identity

from landline.address import SocketAddress
from landline.cli.probe.facts import Agreed, Failure, Keepalive, Measured, Step, TcpFacts, Wanted
from landline.tls.certificate import Certificate

HOST = "127.0.0.1"
PATIENCE = 20.0

EVIL = "\x1b[31mred\x1b]0;title\x07\r\n<script>alert(1)</script>&\u202e\u2028\x00]]>\ud800\"'"
"""What a certificate might call itself."""


# ---- servers -------------------------------------------------------------------------------------------


@contextmanager
def serving(handle: Callable[[socket.socket], None], host: str = HOST, port: int = 0) -> Iterator[int]:
    """A server for any number of connections, one after the other; gives its port."""
    listener = socket.create_server((host, port), reuse_port=False)
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                if not over.is_set():
                    connection.settimeout(PATIENCE)
                    handle(connection)

    thread = threading.Thread(target=serve, name="server")
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        with socket.socket() as last, contextlib.suppress(OSError):  # which ends accept()
            last.connect(listener.getsockname())
        thread.join(PATIENCE)
        listener.close()


def until_the_end(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


def over_tls(context: ssl.SSLContext) -> Callable[[socket.socket], None]:
    """Shake hands, and wait for the client's end."""

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            until_the_end(secure)

    return handle


def smtp(context: ssl.SSLContext | None) -> Callable[[socket.socket], None]:
    """As far as STARTTLS; without ``context`` it is not offered."""

    def handle(connection: socket.socket) -> None:
        connection.sendall(b"220 mail.example ESMTP\r\n")
        connection.recv(1000)
        connection.sendall(b"250-mail.example\r\n250-STARTTLS\r\n250 HELP\r\n" if context else b"250 mail.example\r\n")
        if context is not None and connection.recv(1000):
            connection.sendall(b"220 go on\r\n")
            over_tls(context)(connection)

    return handle


@contextmanager
def silent(host: str, port: int) -> Iterator[None]:
    """An address that never answers: its queue is full, and Linux drops what comes on top."""
    with ExitStack() as opened:
        opened.enter_context(socket.create_server((host, port), backlog=0))
        for _ in range(2):
            filler = opened.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex((host, port))
        yield


def for_loopback(certificates: Certificates, name: str, *names: str, **more: Any) -> Identity:
    """A certificate for 127.0.0.1 and localhost (and ``names``) by the trusted authority."""
    leaf, key = certificates.middle.issue("localhost", HOST, *names, **more)
    path = certificates.folder / f"probe_{name}"
    return Identity(leaf, key, (certificates.middle.certificate,), path)


def expiring(certificates: Certificates, days: float) -> Identity:
    return for_loopback(certificates, f"ends_{days}", begin=NOW - 90 * DAY, end=NOW + timedelta(days=days))


# ---- facts that nobody made ----------------------------------------------------------------------------

AT = datetime(2026, 11, 23, 12, 0, 5, tzinfo=UTC)
TCP = TcpFacts(
    0.0232, 0.0229, 0.004, 1428, 1440, 1500, 0, ("timestamps", "SACK"), "cubic", Keepalive(False, 7200, 75, 9)
)  # fmt: skip


def wanted(host: str = "www.example.org", **more: Any) -> Wanted:
    return Wanted(host, "https", 443, **{"timeout": 10.0, "tls": True, **more})


def made_up(subject: str | None, issuer: str, *names: str, days: float = 60, self_issued: bool = False) -> Certificate:
    return Certificate(
        der=b"no certificate at all",
        subject=subject,
        issuer=issuer,
        names=names,
        addresses=(),
        serial_number=77,
        not_before=AT - timedelta(days=100),
        not_after=AT + timedelta(days=days),
        key_kind="RSA",
        key_bits=2048,
        signature="RSA SHA-256",
        self_issued=self_issued,
    )


def connected(steps: tuple[Step, ...], **more: Any) -> Measured:
    facts = {"local": SocketAddress("198.51.100.7", 53422), "peer": SocketAddress("192.0.2.11", 443), "tcp": TCP}
    return Measured(wanted(), AT, steps, steps[-1].ended or 10.0, **{**facts, **more})


def race() -> Measured:
    """IPv6 that is silent, an address that refuses, a third one that wins; good TLS."""
    steps = (
        Step("lookup", "IPv6", 0, 0.0121, "done", addresses=("2001:db8:85a3::8a2e:370:7334",)),
        Step("lookup", "IPv4", 0.0004, 0.0089, "done", addresses=("192.0.2.10", "192.0.2.11")),
        Step("connect", "2001:db8:85a3::8a2e:370:7334", 0.0123, 0.2952, "cancelled"),
        Step("connect", "192.0.2.10", 0.2625, 0.2741, "failed", "Connection refused", "ECONNREFUSED"),
        Step("connect", "192.0.2.11", 0.2745, 0.2952, "done"),
        Step("tls", "handshake", 0.2957, 0.3421, "done"),
    )
    chain = (
        made_up("www.example.org", "E8", "www.example.org", "example.org"),
        made_up("E8", "Root X1", days=480),
        made_up("Root X1", "Root X1", days=3300, self_issued=True),
    )
    name = "www.example.org"
    return connected(
        steps, agreed=Agreed("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, "h2", name, name), certificates=chain
    )


def crowd() -> Measured:
    """A dozen long addresses, every one of them another disappointment."""
    steps = [Step("lookup", "IPv6", 0, 0.0121, "done", addresses=("2001:db8::1",) * 12)]
    steps.append(Step("lookup", "IPv4", 0.0004, None, "timed out"))
    for index in range(12):
        address, started = f"2001:db8:1234:5678:9abc:def0:1234:{0x5670 + index:x}", 0.0123 + index / 4
        fates = (
            Step("connect", address, started, 10.0, "timed out"),
            Step("connect", address, started, started + 0.2, "failed", "Connection refused", "ECONNREFUSED"),
            Step("connect", address, started, started + 3.07, "failed", "No route to host", "EHOSTUNREACH"),
            Step("connect", address, started, started + 0.1, "failed", "a reason that takes many words", "EPROTO"),
        )
        steps.append(fates[index % 4])
    host = "a-long-name-that-somebody-made-up.department.of.redundancy.example.org"
    failure = Failure("connect", "ConnectTimeout", "could not connect", timed_out=True)
    return Measured(wanted(host), AT, tuple(steps), 10.0, ignored=7, failure=failure)


def hostile() -> Measured:
    """A refused certificate with thirty names, and with texts that no picture must obey."""
    steps = (
        Step("lookup", "IPv6", 0, 0.0121, "failed", "No address associated with hostname", "EAI_NODATA"),
        Step("lookup", "IPv4", 0.0004, 0.0089, "done", addresses=("192.0.2.11",)),
        Step("connect", "192.0.2.11", 0.0145, 0.0352, "done"),
        Step("tls", "handshake", 0.0357, 0.0621, "failed", "refused", "CERTIFICATE_VERIFY_FAILED"),
    )
    names = [f"a-rather-long-name-{index}.department.example.com" for index in range(29)]
    chain = (made_up(EVIL, "日本語の名前" * 40, EVIL, *names, "x" * 250, days=8), made_up("W" * 500, EVIL, days=-20))
    failure = Failure("tls", "SslVerificationFailure", "refused", verify_code=62, verify_message="Hostname mismatch")
    return connected(steps, failure=failure, certificates=chain)


CASES: dict[str, Callable[[], Measured]] = {"race": race, "crowd": crowd, "hostile": hostile}
