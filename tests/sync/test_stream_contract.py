"""The contract of streams (landline.testing.contract) over plain TCP and over TLS, for either way to wait."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from functools import partial

import pytest
from pairs import (
    each_way_to_wait,
    stream_pair,
    tls_pair,
)
from tls_support import BOTH_VERSIONS

from landline.sync.wait import Waits
from landline.testing.contract import CHECKS, Check

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")


@each_way_to_wait
@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_plain_tcp(check: Check, waits: Callable[[socket.socket], Waits]) -> None:
    check(partial(stream_pair, waits))


@BOTH_VERSIONS
@each_way_to_wait
@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_tls(check: Check, waits: Callable[[socket.socket], Waits], version: ssl.TLSVersion) -> None:
    check(partial(tls_pair, waits, version))
