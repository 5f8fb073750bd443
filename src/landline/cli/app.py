"""The subcommands: their arguments, their help, and what a failure looks like.

Each imports what it needs when it is called, so that ``landline --help`` is quick and ``landline connect`` does
not pay for the pictures of another subcommand. Values are checked by the library alone: it names the argument
and what is allowed, and two sets of rules would differ some day.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import typer

from . import FAILED, INTERRUPTED, complain, interruptible

__all__ = ["app"]

# Every paragraph is one line: typer breaks lines where they fit, but some of its versions keep ours as well. The
# lines after \b are kept by all of them.
CONNECT = """Connect, and pass bytes both ways.

Standard input goes to the peer, and what the peer sends goes to standard output, as it comes. \
At the end of the input the peer is told so (a half close), and receiving goes on until the peer ends too. \
Some servers (nginx) take a half close for hanging up, and cut a long answer short: for them the input must stay \
open, as it does at a terminal.

When the peer ends first, so does the command. Input that is there by then is still sent.

The exit status is 0, or 1 after a failure, which is told in one line; 2 for wrong usage, and 130 after Ctrl-C. \
After a failure or Ctrl-C in the middle of a file or pipe the connection is reset, so that no peer takes a part \
for the whole.

\b
Examples:
  landline connect www.example.org http
  printf 'PING\\r\\n' | landline connect localhost 6379
  landline connect --timeout 5 --report mail.example.org smtp
  tar c . | landline connect -6 backup.example.org 9000
"""

DEMO = """Show what landline does, on this machine alone and in a few seconds.

A page is fetched from a server inside the demonstration, with the report of the connection; a read that timed \
out in the middle of a line goes on, and nothing is lost; and a port where nobody listens gives a condition that \
tells what was tried. Each part shows the Python code that it runs.

\b
Example:
  landline demo | less
"""

app = typer.Typer(
    name="landline",
    help="TCP connections for people who need to trust them.",
    epilog="'landline COMMAND --help' tells more, with examples.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(help=CONNECT)
def connect(
    host: Annotated[
        str, typer.Argument(metavar="HOST", show_default=False, help="A name, or a numeric IPv4 or IPv6 address.")
    ],
    service: Annotated[
        str, typer.Argument(metavar="SERVICE", show_default=False, help="A port, or a service name such as http.")
    ],
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            show_default=False,
            help="Give up when not connected by then: the lookup and every address together.",
        ),
    ] = None,
    read_timeout: Annotated[
        float | None,
        typer.Option(
            "--read-timeout",
            metavar="SECONDS",
            show_default=False,
            help="Give up when nothing has come from the peer for so long.",
        ),
    ] = None,
    only_ipv4: Annotated[bool, typer.Option("--ipv4", "-4", help="Use IPv4 only.")] = False,
    only_ipv6: Annotated[bool, typer.Option("--ipv6", "-6", help="Use IPv6 only.")] = False,
    local_address: Annotated[
        str | None,
        typer.Option(
            "--local-address",
            metavar="ADDRESS",
            show_default=False,
            help="Connect from this address of this machine.",
        ),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Tell on standard error what was tried, when, and how it ended.")
    ] = False,
) -> None:
    if only_ipv4 and only_ipv6:
        raise typer.BadParameter("-4 and -6 exclude each other.")
    ipv6: bool | Literal["any"] = only_ipv6 if only_ipv4 or only_ipv6 else "any"

    from .connect import connect

    work = partial(
        connect,
        host,
        service,
        timeout=timeout,
        read_timeout=read_timeout,
        ipv6=ipv6,
        local_address=local_address,
        tell=report,
    )
    raise typer.Exit(_status(work))


@app.command(help=DEMO)
def demo() -> None:
    from .demo import demo

    raise typer.Exit(_status(demo))


def _status(work: Callable[[], None]) -> int:
    """The exit status of ``work``, whose failure is told in one line.

    It must not get as far as typer, which ends quietly for every EPIPE: also for that of a connection.
    """
    from .output import OutputClosed

    try:
        with interruptible():
            work()
    except OutputClosed:
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except (OSError, ValueError, TypeError) as error:
        complain(error)
        return FAILED
    return 0
