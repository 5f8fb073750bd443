"""For tests of UDP: sockets that wait in either way, pairs of them, and ports that refuse."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from conftest import lacking
from pairs import WAITS

from landline.errors import SocketCreateError
from landline.sync import udp as udp_module
from landline.sync.udp import UdpSocket
from landline.sync.udp_open import open_udp_socket
from landline.sync.wait import wait_for_sockets
from landline.testing.contract.stage import PATIENCE

HOST = "127.0.0.1"

LOOPBACKS = {"IPv4": HOST, "IPv6": "::1"}


@pytest.fixture(name="each_way", params=WAITS.values(), ids=list(WAITS))
def each_way_fixture(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test once for each strategy of waiting that this system has."""
    monkeypatch.setattr(udp_module, "choose_waits", request.param)


def opened(*peer: Any, **how: Any) -> UdpSocket:
    """A socket that waits PATIENCE seconds, unless told otherwise; the test is skipped where IPv6 is lacking."""
    how.setdefault("read_timeout", PATIENCE)
    try:
        made: UdpSocket = open_udp_socket(*peer, **how)
    except SocketCreateError as error:
        if "::1" in (how.get("local_address"), *peer):
            lacking(f"needs IPv6: {error}")
        raise
    return made


@contextmanager
def pair(host: str = HOST, **how: Any) -> Iterator[tuple[UdpSocket, UdpSocket]]:
    """A socket connected to another one, which is not connected."""
    with opened(local_address=host) as peer, opened(host, peer.local_address.port, **how) as udp:
        yield udp, peer


@contextmanager
def refusing(host: str = HOST) -> Iterator[int]:
    """A port where nobody receives: it is taken by a socket of TCP, and by one of UDP that is connected elsewhere."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as taken:
        taken.bind((host, 0))
        taken.connect((host, taken.getsockname()[1]))  # to itself: it hears nobody else
        yield int(taken.getsockname()[1])


def fails(kind: type[BaseException], do: Callable[[], object], match: str | None = None) -> Any:
    """What ``do`` raises."""
    with pytest.raises(kind, match=match) as caught:
        do()
    return caught.value


def full_buffer(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """While it is set the system's buffers take nothing; a waiting sender looks again when it is cleared."""
    full = threading.Event()

    wait = UdpSocket._wait

    def wait_for_room(udp: UdpSocket, side: Any, limit: float | None) -> bool:
        if side is udp._receiving or not full.is_set():
            return wait(udp, side, limit)
        end = time.monotonic() + (PATIENCE if limit is None else limit)
        wakeup = side.wakeup_fileno()
        while full.is_set() and not wait_for_sockets([wakeup], (), 0.001):
            if time.monotonic() >= end:
                return False
        return True

    begin = UdpSocket._begin

    def begin_with_a_buffer(udp: UdpSocket, *arguments: Any) -> None:
        begin(udp, *arguments)
        send, sendto = udp._send, udp._sendto
        udp._send = partial(unless_full, send)
        udp._sendto = partial(unless_full, sendto)

    def unless_full(send: Callable[..., int], *arguments: Any) -> int:
        if full.is_set():
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return send(*arguments)

    monkeypatch.setattr(UdpSocket, "_wait", wait_for_room)
    monkeypatch.setattr(UdpSocket, "_begin", begin_with_a_buffer)
    return full
