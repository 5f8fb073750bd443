"""Standard output that fails: what the subcommands make of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
        raise OutputClosed from None
    except OSError as error:
        raise OSError(f"writing to standard output failed: {error.strerror or error}") from error
