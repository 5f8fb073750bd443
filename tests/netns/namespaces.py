"""A network of one's own: a client and a peer in namespaces, one wire between them, and a name server at its end.

Only the kernel's own TCP and the system's own resolver will do for what is proved here; nothing outside the two
namespaces is ever talked to. Sockets of the peer are made in its namespace and served by the test process itself
(a socket stays where it was made); the client is a program that `ip netns exec` runs in its own, because glibc reads
/etc/resolv.conf, and only there that can be a file of ours.

A *silent* address is one whose hardware address nobody has: packets go out on the wire and no answer comes,
neither a refusal nor "no such host".
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from conftest import lacking, need
from nameserver import NameServer

T = TypeVar("T")

WITHIN = 10.0
"""Seconds that what must happen has for it, on however slow a machine."""

WIRE = "wire"
CLIENT4, PEER4, SERVER4 = "192.0.2.1", "192.0.2.130", "192.0.2.53"  # RFC 5737 and 3849: addresses for documentation
CLIENT6, PEER6 = "2001:db8::1", "2001:db8::130"
CLIENT_LINK, PEER_LINK = "fe80::1", "fe80::130"
NOBODY = "02:00:00:00:00:99"

CLIENT_PROGRAM = Path(__file__).with_name("client.py")


class Network:
    """See the top of the file.

    Attributes:
        client, peer: the names of the namespaces.
        names: the NameServer that the client asks.
    """

    def __init__(self, stack: ExitStack, *, ipv6: bool) -> None:
        self._ip = need("ip")
        number = next(_numbers)
        self.client = f"landline-{os.getpid()}-{number}-client"
        self.peer = f"landline-{os.getpid()}-{number}-peer"
        for name in (self.client, self.peer):
            stack.callback(self._delete, name)
            self.ip(f"netns add {name}")
        self.ip(f"link add {WIRE} netns {self.client} type veth peer name {WIRE} netns {self.peer}")
        for name, addresses in (
            (self.client, (f"{CLIENT4}/24", f"{CLIENT6}/64", f"{CLIENT_LINK}/64")),
            (self.peer, (f"{PEER4}/24", f"{SERVER4}/24", f"{PEER6}/64", f"{PEER_LINK}/64")),
        ):
            self.ip(f"-n {name} link set {WIRE} addrgenmode none")
            self.ip(f"-n {name} link set lo up")
            self.ip(f"-n {name} link set {WIRE} up")
            for address in addresses:
                if ":" not in address:
                    self.ip(f"-n {name} address add {address} dev {WIRE}")
                elif ipv6:
                    self.ip(f"-n {name} address add {address} dev {WIRE} nodad")
        self._configure_the_client(stack)
        self.names = stack.enter_context(NameServer(self.bound(SERVER4, 53, socket.SOCK_DGRAM)))

    def ip(self, words: str) -> None:
        """Run ip(8)."""
        done = subprocess.run([self._ip, *words.split()], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise OSError(f"`ip {words}` does not work here: {done.stderr.strip()}")

    def silence(self, *addresses: str) -> None:
        """Make these addresses silent."""
        for address in addresses:
            self.ip(f"-n {self.client} neighbor replace {address} lladdr {NOBODY} dev {WIRE} nud permanent")

    def cut(self) -> None:
        """Take the peer's end of the wire down."""
        self.ip(f"-n {self.peer} link set {WIRE} down")

    # The peer

    def bound(self, host: str, port: int = 0, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket of the peer's."""
        address: tuple[Any, ...] = (host, port)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def make() -> socket.socket:
            sock = socket.socket(family, kind)
            try:
                scope = socket.if_nametoindex(WIRE) if host.startswith("fe80:") else 0
                sock.bind((*address, 0, scope) if family == socket.AF_INET6 else address)
            except BaseException:
                sock.close()
                raise
            return sock

        return inside(self.peer, make)

    @contextmanager
    def listening(self, host: str = PEER4, port: int = 0) -> Iterator[tuple[socket.socket, int]]:
        """A listening socket of the peer's, and its port."""
        with self.bound(host, port) as sock:
            sock.listen()
            sock.settimeout(WITHIN)
            yield sock, int(sock.getsockname()[1])

    # The client

    def open(self, host: str, service: int, **how: Any) -> dict[str, Any]:
        """What comes of open_tcp_stream() in the client's namespace; see client.py."""
        with self.start(host, service, **how) as client:
            output, _ = client.communicate(timeout=3 * WITHIN)
        assert client.returncode == 0
        result: dict[str, Any] = json.loads(output)
        return result

    @contextmanager
    def start(self, host: str, service: int, then: str = "close", **how: Any) -> Iterator[subprocess.Popen[str]]:
        """The same, under way."""
        command = [self._ip, "netns", "exec", self.client, sys.executable, str(CLIENT_PROGRAM)]
        with subprocess.Popen(
            [*command, json.dumps([host, service, then, how])], stdout=subprocess.PIPE, text=True
        ) as made:
            try:
                yield made
            finally:
                made.kill()

    def _configure_the_client(self, stack: ExitStack) -> None:
        # `ip netns exec` puts these in the place of the machine's own, for the program it runs alone.
        directory = Path("/etc/netns") / self.client
        with suppress(FileExistsError):
            directory.parent.mkdir()
            stack.callback(_remove_if_empty, directory.parent)
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        directory.mkdir()
        for file, text in (
            ("resolv.conf", f"nameserver {SERVER4}\noptions timeout:30 attempts:1\n"),
            ("hosts", "127.0.0.1 localhost\n::1 localhost\n"),
            ("nsswitch.conf", "hosts: files dns\n"),
            ("gai.conf", ""),
        ):
            if Path("/etc", file).exists():
                (directory / file).write_text(text, "ascii")

    def _delete(self, name: str) -> None:
        subprocess.run([self._ip, "netns", "delete", name], capture_output=True, check=False)


@contextmanager
def network(*, ipv6: bool = True) -> Iterator[Network]:
    """A network, gone afterwards, whatever happened. Without `ipv6` there is no IPv6 address on the wire."""
    with ExitStack() as stack:
        try:
            made = Network(stack, ipv6=ipv6)
        except OSError as error:
            lacking(str(error))
        yield made


def inside(name: str, function: Callable[[], T]) -> T:
    """Run `function` in a network namespace: in a thread of its own, so that no other one moves there."""
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with open(f"/run/netns/{name}", "rb") as namespace:
                if _libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised below, in the thread that asked
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


CLONE_NEWNET = 0x40000000  # linux/sched.h

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)


def _remove_if_empty(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()
