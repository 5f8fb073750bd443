"""The contract of streams (landline.testing.contract) over plain TCP, for either way to wait."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial

import pytest
from pairs import each_way_to_wait, quick_leak_checks, stream_pair  # noqa: F401 (a fixture is used by its name)

from landline.sync.wait import Waits
from landline.testing.contract import CHECKS, Check

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")


@each_way_to_wait
@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_plain_tcp(check: Check, waits: Callable[[socket.socket], Waits]) -> None:
    check(partial(stream_pair, waits))
