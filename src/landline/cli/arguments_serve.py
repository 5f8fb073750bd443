"""The arguments and the help of ``landline serve``. (Annotations are values here; arguments_connect.py tells why.)"""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from . import Work
from .families import OnlyIpv4, OnlyIpv6, families

__all__ = ["HELP", "serve"]

HELP = """Serve connections: an echo, a file, a command, a directory.

It listens at this machine's loopback address, unless --local-address says otherwise, and at a port that the system \
chooses, unless SERVICE is given. Where it listens, and how to connect, is the first that it tells.

At a terminal a table shows the connections; otherwise each begin and end is a line on standard output.

With --tls and no --cert the certificate is made for this run by an authority that ends with it. The authority's own \
certificate is written to a file, and the 'landline connect' line that trusts it is told. This needs trustme \
(pip install trustme).

With --exec the command (of the shell) runs once for each connection: what comes is its standard input, and its \
standard output goes to the peer, whose address is in LANDLINE_PEER. Whoever can connect can talk to it.

With --http regular files below the directory are served to GET and HEAD, and lists of directories that have no \
index.html. Symbolic links are not followed, and names that begin with a dot are not there (but .well-known).

SIGTERM or Ctrl-C ends it: nothing is accepted any more, connections have --drain seconds to end, then they are \
reset. A second Ctrl-C resets them at once.

The exit status is 0 after SIGTERM or Ctrl-C, 1 when it could not serve, which is told in one line, 2 for wrong usage.

\b
Examples:
  landline serve --echo 7000
  landline serve --echo --tls
  landline serve --http . 8000
  landline serve --http public --tls --cert host.pem --local-address '*' 443
  landline serve --exec 'tr a-z A-Z' --max-connections 10
  landline serve --file motd.txt --unix /run/motd.sock
  landline serve --discard --udp 9000
"""


def serve(
    service: Annotated[
        str | None,
        typer.Argument(metavar="SERVICE", show_default=False, help="A port, or a service name; else any free port."),
    ] = None,
    echo: Annotated[bool, typer.Option("--echo", help="Send back what comes.")] = False,
    discard: Annotated[bool, typer.Option("--discard", help="Throw away what comes.")] = False,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="PATH", show_default=False, help="Send this file to everybody."),
    ] = None,
    command: Annotated[
        str | None,
        typer.Option("--exec", metavar="CMD", show_default=False, help="Run a command for each connection."),
    ] = None,
    http: Annotated[
        Path | None, typer.Option("--http", metavar="DIR", show_default=False, help="Serve a directory over HTTP.")
    ] = None,
    local_address: Annotated[
        str | None,
        typer.Option(
            "--local-address",
            metavar="ADDRESS",
            show_default=False,
            help="Listen at this address of this machine; '*' is all of them.",
        ),
    ] = None,
    only_ipv4: OnlyIpv4 = False,
    only_ipv6: OnlyIpv6 = False,
    udp: Annotated[bool, typer.Option("--udp", help="Datagrams (--echo and --discard).")] = False,
    unix: Annotated[
        Path | None,
        typer.Option("--unix", metavar="PATH", show_default=False, help="A Unix domain socket, instead of SERVICE."),
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Speak TLS.")] = False,
    cert: Annotated[
        Path | None,
        typer.Option("--cert", metavar="FILE", show_default=False, help="Our certificate, PEM, its chain behind it."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", show_default=False, help="The key of --cert, if it is not in that file."),
    ] = None,
    max_connections: Annotated[
        int | None,
        typer.Option(
            "--max-connections",
            metavar="NUMBER",
            show_default=False,
            help="So many at once; others wait until there is room.",
        ),
    ] = None,
    read_timeout: Annotated[
        float | None,
        typer.Option(
            "--read-timeout",
            metavar="SECONDS",
            show_default=False,
            help="End connections from which nothing has come for so long.",
        ),
    ] = None,
    drain: Annotated[
        float, typer.Option("--drain", metavar="SECONDS", help="What connections have to end in, after a signal.")
    ] = 10.0,
) -> Work:
    kinds = {
        "--echo": echo or None,
        "--discard": discard or None,
        "--file": file,
        "--exec": command,
        "--http": http,
    }
    chosen = [name for name, value in kinds.items() if value is not None]
    if len(chosen) != 1:
        given = f"{' and '.join(chosen)} were" if chosen else "none was"
        raise typer.BadParameter(f"exactly one of {', '.join(kinds)} is needed; {given} given.")
    there = {
        "SERVICE": service is not None,
        "--local-address": local_address is not None,
        "-4": only_ipv4,
        "-6": only_ipv6,
        "--udp": udp,
        "--unix": unix is not None,
        "--tls": tls,
        "--max-connections": max_connections is not None,
        "--read-timeout": read_timeout is not None,
        **dict.fromkeys(chosen, True),
    }
    for one, other in EXCLUDE:
        if there.get(one) and there.get(other):
            raise typer.BadParameter(f"{one} and {other} exclude each other.")
    if key is not None and cert is None:
        raise typer.BadParameter("--key needs --cert.")
    if cert is not None and not tls:
        raise typer.BadParameter("--cert needs --tls.")
    ipv6 = families(only_ipv4, only_ipv6)

    from .serve import Service, serve

    return partial(
        serve,
        Service(
            kind=chosen[0].removeprefix("--"),
            argument=str(file or command or http or ""),
            service=service,
            local_address=local_address,
            ipv6=ipv6,
            udp=udp,
            unix=unix,
            tls=tls,
            cert=cert,
            key=key,
            max_connections=max_connections,
            read_timeout=read_timeout,
            drain=drain,
        ),
    )


EXCLUDE = (
    ("-4", "-6"),
    *(("--unix", other) for other in ("SERVICE", "--local-address", "-4", "-6", "--udp")),
    *(("--udp", other) for other in ("--tls", "--max-connections", "--read-timeout", "--file", "--exec", "--http")),
)
