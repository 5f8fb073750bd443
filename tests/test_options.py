"""Socket options as values, read back from real sockets with getsockopt()."""

from __future__ import annotations

import math
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from landline import KeepAlive, detect_dead_peer
from landline.options import SocketOptions

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="names and units of these options are Linux's")


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket() as made:
        yield made


def clocks(sock: socket.socket) -> tuple[bool, int, int, int, int]:
    """SO_KEEPALIVE, idle, interval, count, user timeout in milliseconds."""
    tcp = socket.IPPROTO_TCP
    return (
        bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)),
        sock.getsockopt(tcp, socket.TCP_KEEPIDLE),
        sock.getsockopt(tcp, socket.TCP_KEEPINTVL),
        sock.getsockopt(tcp, socket.TCP_KEEPCNT),
        sock.getsockopt(tcp, socket.TCP_USER_TIMEOUT),
    )


# ---- applied ---------------------------------------------------------------------------------------


def test_by_default_nodelay_is_on_and_keepalive_off(sock: socket.socket) -> None:
    SocketOptions().apply(sock)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize("nodelay", [False, None, 0, ""])
def test_nodelay_takes_any_truth_value(sock: socket.socket, nodelay: object) -> None:
    SocketOptions.checked(nodelay, False).apply(sock)
    assert not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_keepalive_true_leaves_the_clocks_to_the_system(sock: socket.socket) -> None:
    with socket.socket() as untouched:
        SocketOptions.checked(True, True).apply(sock)
        if sys.platform == "linux":
            assert clocks(sock) == (True, *clocks(untouched)[1:])
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize("keepalive", [None, 0, False])
def test_keepalive_none_is_off(keepalive: Any) -> None:
    assert SocketOptions.checked(True, keepalive).keepalive is False


@LINUX
def test_keepalive_sets_idle_interval_and_count(sock: socket.socket) -> None:
    SocketOptions.checked(True, KeepAlive(60, 10, 5)).apply(sock)
    assert clocks(sock) == (True, 60, 10, 5, 0)


@LINUX
def test_keepalive_sets_the_user_timeout_in_milliseconds(sock: socket.socket) -> None:
    SocketOptions.checked(True, KeepAlive(idle=1, interval=2, count=3, user_timeout=4.5)).apply(sock)
    assert clocks(sock) == (True, 1, 2, 3, 4500)


@LINUX
def test_the_largest_values_are_taken_by_the_kernel(sock: socket.socket) -> None:
    SocketOptions.checked(True, KeepAlive(32767, 32767, 127, 86400 * 24)).apply(sock)
    assert clocks(sock) == (True, 32767, 32767, 127, 86400 * 24 * 1000)


# ---- dead peers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [2, 2.9, 3, 4, 5, 6, 7, 10, 30, 60, 300, 32767])
def test_detect_dead_peer_gives_up_within_its_seconds(seconds: float) -> None:
    keepalive = detect_dead_peer(seconds)
    last_probe_answered_by = keepalive.idle + keepalive.interval * keepalive.count
    assert last_probe_answered_by == int(seconds)
    # At the verdict the kernel asks whether user_timeout has passed since the peer was last heard. The tick
    # before must not count yet, and a clock that is a little early must not put it off.
    assert keepalive.user_timeout is not None
    assert last_probe_answered_by - keepalive.interval < keepalive.user_timeout < last_probe_answered_by
    SocketOptions.checked(True, keepalive)


@LINUX
def test_detect_dead_peer_is_one_value_for_all_four_clocks(sock: socket.socket) -> None:
    SocketOptions.checked(True, detect_dead_peer(60)).apply(sock)
    assert clocks(sock) == (True, 30, 10, 3, 59500)


def test_ten_minutes_of_detection_keep_a_forgetful_load_balancer_awake() -> None:
    assert detect_dead_peer(600).idle < 350


@pytest.mark.parametrize("seconds", [1.9, 0, -1, 32768, math.nan, math.inf])
def test_detect_dead_peer_refuses_seconds_out_of_range(seconds: float) -> None:
    with pytest.raises(ValueError) as caught:
        detect_dead_peer(seconds)
    assert f"seconds={seconds!r} is not allowed" in str(caught.value)


@pytest.mark.parametrize("seconds", [None, True, "3"])
def test_detect_dead_peer_refuses_what_is_no_number(seconds: Any) -> None:
    with pytest.raises(TypeError) as caught:
        detect_dead_peer(seconds)
    assert f"seconds={seconds!r} is not allowed" in str(caught.value)


# ---- refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keepalive", "told"),
    [
        (KeepAlive(0, 1, 1), "KeepAlive idle=0 "),
        (KeepAlive(1, -1, 1), "KeepAlive interval=-1 "),
        (KeepAlive(1, 1, 128), "KeepAlive count=128 "),
        (KeepAlive(32768, 1, 1), "KeepAlive idle=32768 "),
        (KeepAlive(1, 1, 1, 0), "KeepAlive user_timeout=0 "),
        (KeepAlive(1, 1, 1, -2.5), "KeepAlive user_timeout=-2.5 "),
        (KeepAlive(1, 1, 1, math.nan), "KeepAlive user_timeout=nan "),
        (KeepAlive(1, 1, 1, math.inf), "KeepAlive user_timeout=inf "),
    ],
)
def test_a_clock_out_of_range_is_a_value_error_that_names_it(keepalive: KeepAlive, told: str) -> None:
    with pytest.raises(ValueError) as caught:
        SocketOptions.checked(True, keepalive)
    assert told in str(caught.value)


def keep_alive(*clocks: Any) -> KeepAlive:
    return KeepAlive(*clocks)


@pytest.mark.parametrize(
    ("keepalive", "told"),
    [
        (keep_alive(1.5, 1, 1), "KeepAlive idle=1.5 "),
        (keep_alive(1, True, 1), "KeepAlive interval=True "),
        (keep_alive(1, 1, "3"), "KeepAlive count='3' "),
        (keep_alive(1, 1, 1, "9"), "KeepAlive user_timeout='9' "),
        (keep_alive(1, 1, 1, True), "KeepAlive user_timeout=True "),
        ("yes", "keepalive='yes' "),
        ((60, 10, 5), "keepalive=(60, 10, 5) "),
        (60.0, "keepalive=60.0 "),
    ],
)
def test_a_clock_of_another_type_is_a_type_error_that_names_it(keepalive: Any, told: str) -> None:
    with pytest.raises(TypeError) as caught:
        SocketOptions.checked(True, keepalive)
    assert told in str(caught.value)


def test_keepalive_is_a_value() -> None:
    assert KeepAlive(1, 2, 3) == KeepAlive(idle=1, interval=2, count=3, user_timeout=None)
    assert len({KeepAlive(1, 2, 3), KeepAlive(1, 2, 3)}) == 1
