"""The subcommands, and what a failure of one looks like.

The arguments and the help of a subcommand are in a file of their own, ``arguments_NAME.py``: ``HELP``, and a function
that takes the arguments, checks which of them go together, and returns the work to do. Those files import nothing
but typer; the work's own module is imported when the subcommand is called, so that ``landline --help`` is
quick and ``landline connect`` does not pay for the pictures of another subcommand. Values are checked by the
library alone: it names the argument and what is allowed, and two sets of rules would differ some day.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer
from typer.core import TyperCommand

from . import FAILED, INTERRUPTED, Work, arguments_connect, arguments_probe, arguments_serve, complain, interruptible

__all__ = ["app"]

P = ParamSpec("P")

DEMO = """Show what landline does, on this machine, in a few seconds.

A page is fetched from a server inside the demonstration, with the report of the connection; a silent address is \
passed; a read that timed out in the middle of a line goes on, and nothing is lost; TLS refuses a stranger and says \
why; and a port where nobody listens gives a condition that tells what was tried. Each part shows the Python code \
that it runs.

\b
Example:
  landline demo | less
"""

app = typer.Typer(
    name="landline",
    help="TCP connections for people who need to trust them.",
    epilog="'landline COMMAND --help' tells more, with examples.",
    no_args_is_help=True,
    # Help is plain text: what typer makes of it with rich takes longer to import than all the rest together.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def demo() -> Work:
    from .demo import demo

    return demo


def _add(prepare: Callable[P, Work], text: str, kind: type[TyperCommand] | None = None) -> None:
    """Add a subcommand: ``prepare`` has its name and its arguments, and returns its work."""

    @wraps(prepare)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        raise typer.Exit(_status(prepare(*args, **kwargs)))

    app.command(help=text, cls=kind)(command)


def _status(work: Work) -> int:
    """The exit status of ``work``, whose failure is told in one line.

    It must not get as far as typer, which ends quietly for every EPIPE: also for that of a connection.
    """
    from .output import OutputClosed

    try:
        with interruptible():
            return work() or 0
    except OutputClosed:
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except (OSError, ValueError, TypeError) as error:
        complain(_as_options(str(error)))
        return FAILED


OPTIONS = {
    "openssl_trusted_file=": "--ca ",
    "openssl_trusted_directory=": "--ca ",
    "cert_file=": "--cert ",
    "key_file=": "--key ",
    "tlsext_host_name=": "--sni ",
    "alpn=": "--alpn ",
}
"""What the library's arguments are called on the command line, where that cannot be guessed."""


def _as_options(message: str) -> str:
    for argument, option in OPTIONS.items():
        message = message.replace(argument, option)
    return message


_add(arguments_connect.connect, arguments_connect.HELP)
_add(demo, DEMO)
_add(arguments_probe.probe, arguments_probe.HELP, arguments_probe.ProbeCommand)
_add(arguments_serve.serve, arguments_serve.HELP)
