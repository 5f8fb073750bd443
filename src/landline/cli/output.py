"""Standard output that fails: what the subcommands make of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..errors import SocketError

__all__ = ["OutputClosed", "writing"]


class OutputClosed(Exception):
    """Nobody reads standard output any more (``| head -1``), which is no failure: the command ends quietly."""


@contextmanager
def writing() -> Iterator[None]:
    """Around what writes to standard output, and perhaps to sockets, whose conditions pass through.

    Raises:
        OutputClosed: see there.
        OSError: standard output failed otherwise (a full disk); it reads as a sentence.
    """
    try:
        yield
    except SocketError:
        raise
    except BrokenPipeError:
        _abandon()
        raise OutputClosed from None
    except OSError as error:
        raise OSError(f"writing to standard output failed: {error.strerror or error}") from error


def _abandon() -> None:
    """What Python still holds back for standard output would fail once more, and be told, when the process exits."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, sys.stdout.fileno())
        finally:
            os.close(null)
