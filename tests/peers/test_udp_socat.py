"""socat at the other end: it receives and answers datagrams, sends them, joins groups, and goes away."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from command import read_until
from conftest import need

from landline.sync.udp import UdpSocket
from landline.sync.udp_open import open_udp_socket
from landline.sync.udp_server import start_up_udp_server
from landline.testing.contract.stage import PATIENCE

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.peer("socat"),
    pytest.mark.skipif(sys.platform != "linux", reason="the loopback interface of other systems has one address only"),
]

HOST = "127.0.0.1"
GROUP = "239.192.1.1"

READY = (b" N receiving on ", b" N listening on ")


def free_port(host: str = HOST) -> int:
    """A port that was free for UDP a moment ago."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def answering(address: str) -> Iterator[subprocess.Popen[bytes]]:
    """A socat that sends each datagram back; ready when it says so. Ended with the processes that it has started."""
    words = [need("socat"), "-d", "-d", address, "PIPE"]
    quiet, pipe = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(words, stdin=quiet, stderr=pipe, bufsize=0, start_new_session=True) as process:
        try:
            assert process.stderr is not None
            told = b""
            while not any(line in told for line in READY):
                told = read_until(process.stderr.fileno(), b"\n")
                assert told, "socat ended"
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def sending(address: str) -> Iterator[subprocess.Popen[bytes]]:
    """A socat that sends what it reads and writes what it receives."""
    words = [need("socat"), "STDIO", address]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[bytes], line: bytes) -> bytes:
    """What comes back for a line."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line)
    return read_until(process.stdout.fileno(), b"\n")


def opened(*peer: object, **how: object) -> UdpSocket:
    made: UdpSocket = open_udp_socket(*peer, read_timeout=PATIENCE, **how)  # type: ignore[call-overload]
    return made


@pytest.mark.parametrize(("host", "kind"), [(HOST, "UDP4-RECVFROM"), ("::1", "UDP6-RECVFROM")])
@pytest.mark.parametrize("size", [1, 1400, 8000])
def test_socat_answers_a_connected_and_an_unconnected_socket(host: str, kind: str, size: int) -> None:
    port = free_port(host)
    bind = f"[{host}]" if ":" in host else host
    with answering(f"{kind}:{port},bind={bind},fork"), opened(host, port) as udp, opened() as both:
        for number in range(5):
            data = bytes([number]) * size
            udp.send(data)
            assert udp.receive() == data
            both.send_to(data, host, port)
            assert both.receive_from() == (data, udp.peer_address)


@pytest.mark.parametrize(("local_address", "to"), [("localhost", HOST), (None, "127.0.0.2"), (None, "[::1]")])
def test_socat_is_answered_by_our_server_from_where_it_asked(local_address: str | None, to: str) -> None:
    """socat connects its socket, and hears nobody else."""
    kind = "UDP6" if to.startswith("[") else "UDP4"
    with (
        start_up_udp_server(
            lambda datagram: datagram.reply(datagram.data.upper()), local_address=local_address
        ) as server,
        sending(f"{kind}:{to}:{server.port}") as process,
    ):
        for number in range(5):
            assert said(process, b"question %d\n" % number) == b"QUESTION %d\n" % number


def test_socat_in_a_group_is_reached_by_a_multicast() -> None:
    port = free_port()
    member = f"UDP4-RECVFROM:{port},ip-add-membership={GROUP}:{HOST},fork"
    with answering(member), opened(local_address=HOST) as udp:
        udp.multicast_interface = HOST
        udp.send_to(b"who is in the group?", GROUP, port)
        data, address = udp.receive_from()
        assert (data, address) == (b"who is in the group?", (HOST, port))


def test_a_multicast_of_socat_s_reaches_who_has_joined() -> None:
    with opened(ipv6=False) as udp:
        udp.join_group(GROUP, HOST)
        to = f"UDP4-DATAGRAM:{GROUP}:{udp.local_address.port},bind={HOST},ip-multicast-if={HOST}"
        with sending(to) as process:
            assert process.stdin is not None
            process.stdin.write(b"to all\n")
            data, address = udp.receive_from()
            assert (data, address.host) == (b"to all\n", HOST)


def test_socat_is_reached_by_a_broadcast() -> None:
    port = free_port()
    with answering(f"UDP4-RECVFROM:{port},fork"), opened(ipv6=False, broadcast=True) as udp:
        udp.send_to(b"anybody?", "127.255.255.255", port)
        assert udp.receive_from() == (b"anybody?", (HOST, port))


def test_a_peer_that_was_killed_refuses_and_one_that_comes_back_is_heard() -> None:
    port = free_port()
    address = f"UDP4-LISTEN:{port},bind={HOST}"  # one process, so that its end is the socket's
    with opened(HOST, port) as udp:
        for _ in range(2):
            with answering(address) as process:
                udp.send(b"there?")
                assert udp.receive() == b"there?"
                process.kill()
                process.wait(PATIENCE)
            udp.send(b"there?")
            with pytest.raises(ConnectionRefusedError):
                udp.receive()
