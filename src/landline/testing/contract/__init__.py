"""The contract of a stream, as executable checks that any implementation can be run against.

A check takes a function that makes a fresh connection, and uses nothing of it but the methods that SocketStream
documents. So the same checks hold for every way to wait, to encrypt and to schedule; a program that has a stream
of its own (through a proxy, over a serial line) can run them too::

    from landline.testing.contract import CHECKS

    def make_pair():
        left, right = socket.socketpair(...)   # or a listener and a connection to it
        return SocketStream(left), SocketStream(right)

    @pytest.mark.parametrize("check", CHECKS, ids=str)
    def test_contract(check):
        check(make_pair)

The first stream is the one that is checked; the second is its peer, and is used from other threads. Both belong to
the check, which closes them. A clause that is broken raises AssertionError; each check gives up after a while
(`PATIENCE`), so that a stream that hangs fails, and does not hang the tests.

What a check proves is its ``clause``; together they are the promises that the documentation of the streams makes.
What is the system's (descriptors, socket options, signals) is not here.
"""

from __future__ import annotations

from . import clocks, ending, reading, text, writing
from .stage import PATIENCE, Check, MakePair

__all__ = ["CHECKS", "PATIENCE", "Check", "MakePair"]

CHECKS: tuple[Check, ...] = (*reading.CHECKS, *clocks.CHECKS, *writing.CHECKS, *ending.CHECKS, *text.CHECKS)
"""Every check, in an order that tells most when several fail: reading, clocks, writing, ending, text."""
