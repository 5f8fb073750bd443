"""A peer that vanishes without a word is noticed: detect_dead_peer(), with the wire cut for real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
from namespaces import PEER4, PEER6, Network, network

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("no_leaks")]

SECONDS = 3


@pytest.fixture
def net() -> Iterator[Network]:
    with network() as made:
        yield made


def cut_off(net: Network, host: str, then: str) -> tuple[dict[str, Any], float]:
    """What came of a stream whose wire was cut, and how many seconds after that."""
    with (
        net.listening(host) as (listener, port),
        net.start(host, port, then, dead_peer=SECONDS) as client,
        listener.accept()[0],
    ):
        assert client.stdout is not None
        assert client.stdout.readline() == "connected\n"
        net.cut()
        began = monotonic()
        result = json.loads(client.stdout.readline())
    return result, result["failed"] - began


@pytest.mark.parametrize("host", [PEER4, PEER6])
def test_a_blocked_read_ends_with_an_io_error(net: Network, host: str) -> None:
    result, seconds = cut_off(net, host, "read")
    assert "SocketIOError" in result["error"]
    assert "ReadTimeout" not in result["error"]
    assert 2 < seconds < SECONDS + 1, result


def test_a_blocked_write_ends_with_an_io_error(net: Network) -> None:
    result, seconds = cut_off(net, PEER4, "write")
    assert "SocketIOError" in result["error"]
    assert "WriteTimeout" not in result["error"]
    assert seconds < SECONDS + 1, result
