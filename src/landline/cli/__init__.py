"""The ``landline`` command: how it begins and how it ends.

This file imports nothing but light modules of the standard library, because it has two promises to keep before
anything else is there: a missing extra is told in one line, and Ctrl-C gives no traceback from here on.

Ctrl-C ends the process on the spot while there is nothing to tidy up, which is before and after a subcommand's
work: a KeyboardInterrupt in the middle of an import, or of the interpreter's own exit, is told by a traceback
that nobody can catch. Only the work itself gets the exception.

The exit status is 0, 1 for a failure, 2 for wrong usage, and 130 after Ctrl-C, as shells count it. Dying by the
signal itself was rejected: a program that runs the command would be told a number that depends on its language.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import NoReturn

__all__ = ["main"]

FAILED = 1
INTERRUPTED = 130
"""128 and the number of SIGINT."""

Work = Callable[[], int | None]
"""What a subcommand does, once its arguments are there; it may return an exit status of its own."""


def main() -> NoReturn:
    """Run the command on ``sys.argv``, and exit."""
    status: str | int | None
    try:
        # Not where SIGINT is ignored already, as it is for a shell script's background jobs.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _leave)
        _occupy_standard_descriptors()
        status = _run()
    except SystemExit as ending:
        status = ending.code
    except KeyboardInterrupt:
        status = INTERRUPTED
    except OSError as error:  # from typer's own writing; subcommands keep theirs
        complain(error.strerror or error)
        status = FAILED
    sys.exit(status)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Inside, Ctrl-C raises KeyboardInterrupt, for work that has something to tidy up."""
    ours = signal.getsignal(signal.SIGINT) is _leave
    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, _leave)


def complain(message: object) -> None:
    """One line on standard error, whatever the message holds."""
    with contextlib.suppress(OSError):
        print("landline:", " ".join(str(message).split("\n")), file=sys.stderr, flush=True)


def _run() -> int:
    try:
        if find_spec("rich") is None:  # not every subcommand needs it, so it is not imported here
            raise ModuleNotFoundError("No module named 'rich'")
        from .app import app
    except ImportError as error:
        if (error.name or "").partition(".")[0] == __package__.partition(".")[0]:
            raise
        complain(f"the command needs typer and rich ({error}); install them with: pip install 'landline[cli]'")
        return FAILED
    app()
    return 0


def _leave(*_: object) -> NoReturn:
    os._exit(INTERRUPTED)


def _occupy_standard_descriptors() -> None:
    """Put the null device where a standard descriptor is closed (``landline ... >&-``).

    The connection's socket would get that number otherwise, and what is meant for standard output would go
    back to the peer. (Python has None for such a stream, and print() to None goes to standard output.)
    """
    for number, name, mode in (0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"):
        try:
            os.fstat(number)
        except OSError:
            # open() takes the lowest free number, which is this one.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - it stays open
