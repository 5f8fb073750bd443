"""The arguments and the help of ``landline connect``: which of them go together, and what an absent one means.

Annotations are values here, not text: typer would evaluate each of them twice, which ``landline --help`` can feel.
"""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from . import Work
from .families import OnlyIpv4, OnlyIpv6, families

__all__ = ["HELP", "STARTTLS", "connect"]

STARTTLS = "smtp|imap|pop3|ftp|postgres|mysql|ldap|xmpp"

# Every paragraph is one line: typer breaks lines where they fit, but some of its versions keep ours as well. The
# lines after \b are kept by all of them.
HELP = """Connect, and pass bytes both ways.

Standard input goes to the peer, and what the peer sends goes to standard output, as it comes. \
At the end of the input the peer is told so (a half close), and receiving goes on until the peer ends too. \
Some servers (nginx) take a half close for hanging up, and cut a long answer short: for them the input must stay \
open, as it does at a terminal.

When the peer ends first, so does the command. Input that is there by then is still sent.

At a terminal lines are edited before they are sent, with the arrow keys and a history; what the peer sends meanwhile \
appears above. The history ends with the command: it may hold passwords. Ctrl-D on an empty line ends the input.

With --tls the peer must prove to be HOST. With --starttls the connection begins in the clear, as the protocol has it, \
and nothing of yours is sent before TLS is there. What was agreed upon is told at a terminal, and with --report.

With --udp each read of the standard input is one datagram (at a terminal each line), and the datagrams that come are \
written one after the other. The command ends when the input has ended and nothing has come for --read-timeout seconds \
(then 1 if not given).

A file that is received is FILE.part until the peer has ended properly. If that fails, --resume goes on behind what is \
there: it tells at which byte, and the sender must begin there, with --offset if it is landline. Nothing in the \
connection itself tells where to begin.

The exit status is 0, or 1 after a failure, which is told in one line; 2 for wrong usage, and 130 after Ctrl-C. \
After a failure or Ctrl-C in the middle of a file or pipe the connection is reset, so that no peer takes a part \
for the whole.

\b
Examples:
  landline connect www.example.org http
  landline connect --tls --alpn h2,http/1.1 www.example.org https
  landline connect --starttls smtp --crlf mail.example.org 25
  printf 'PING\\r\\n' | landline connect localhost 6379
  landline connect --timeout 5 --report mail.example.org smtp
  tar c . | landline connect -6 backup.example.org 9000
  landline connect --send-file disk.img backup.example.org 9000
  landline connect --receive-file disk.img --resume backup.example.org 9000
  printf x | landline connect --udp --hex localhost 9000
  landline connect --unix /run/app.sock
"""


def connect(
    host: Annotated[
        str | None,
        typer.Argument(metavar="HOST", show_default=False, help="A name, or a numeric IPv4 or IPv6 address."),
    ] = None,
    service: Annotated[
        str | None,
        typer.Argument(metavar="SERVICE", show_default=False, help="A port, or a service name such as http."),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            show_default=False,
            help="Give up when not connected by then: the lookup, every address, and TLS together.",
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
    only_ipv4: OnlyIpv4 = False,
    only_ipv6: OnlyIpv6 = False,
    local_address: Annotated[
        str | None,
        typer.Option(
            "--local-address",
            metavar="ADDRESS",
            show_default=False,
            help="Connect from this address of this machine.",
        ),
    ] = None,
    udp: Annotated[bool, typer.Option("--udp", help="Datagrams instead of a connection.")] = False,
    unix: Annotated[
        Path | None,
        typer.Option(
            "--unix", metavar="PATH", show_default=False, help="A Unix domain socket, instead of HOST and SERVICE."
        ),
    ] = None,
    proxy_protocol: Annotated[
        str | None,
        typer.Option(
            "--proxy-protocol",
            metavar="v1|v2",
            show_default=False,
            help="Begin with a PROXY header that tells this end's address. The server must expect it.",
        ),
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Speak TLS.")] = False,
    starttls: Annotated[
        str | None,
        typer.Option(
            "--starttls",
            metavar=STARTTLS,
            show_default=False,
            help="Speak TLS after what this protocol says in the clear.",
        ),
    ] = None,
    alpn: Annotated[
        str | None,
        typer.Option(
            "--alpn",
            metavar="NAME,...",
            show_default=False,
            help="Application protocols to offer in TLS, the preferred one first.",
        ),
    ] = None,
    cert: Annotated[
        Path | None,
        typer.Option(
            "--cert", metavar="FILE", show_default=False, help="Our own certificate, PEM, its chain behind it."
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", show_default=False, help="The key of --cert, if it is not in that file."),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            "--ca",
            metavar="FILE",
            show_default=False,
            help="The only authorities to trust, PEM, instead of the system's; or a directory of them.",
        ),
    ] = None,
    sni: Annotated[
        str | None,
        typer.Option(
            "--sni",
            metavar="NAME",
            show_default=False,
            help="The server name to ask for, if it is not HOST; '' for none. The certificate must be for HOST all "
            "the same.",
        ),
    ] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Speak TLS with anybody. Never send a secret that way.")
    ] = False,
    crlf: Annotated[
        bool, typer.Option("--crlf", help="End the lines of standard input with CR LF, as most text protocols do.")
    ] = False,
    send_file: Annotated[
        Path | None,
        typer.Option("--send-file", metavar="FILE", show_default=False, help="Send this instead of standard input."),
    ] = None,
    offset: Annotated[
        int | None,
        typer.Option(
            "--offset", metavar="BYTES", show_default=False, help="Leave out so many bytes of --send-file's beginning."
        ),
    ] = None,
    receive_file: Annotated[
        Path | None,
        typer.Option(
            "--receive-file",
            metavar="FILE",
            show_default=False,
            help="Write what comes to this file instead of standard output.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the FILE.part of --receive-file.")] = False,
    hex_dump: Annotated[
        bool, typer.Option("--hex", help="Show both directions in hexadecimal on standard output, '>' is ours.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Tell on standard error what was tried, when, and how it ended.")
    ] = False,
) -> Work:
    given = {
        "HOST": host is not None,
        "SERVICE": service is not None,
        "-4": only_ipv4,
        "-6": only_ipv6,
        "--local-address": local_address is not None,
        "--udp": udp,
        "--unix": unix is not None,
        "--proxy-protocol": proxy_protocol is not None,
        "--tls": tls,
        "--starttls": starttls is not None,
        "--alpn": alpn is not None,
        "--cert": cert is not None,
        "--key": key is not None,
        "--ca": ca is not None,
        "--sni": sni is not None,
        "--no-verify": no_verify,
        "--crlf": crlf,
        "--send-file": send_file is not None,
        "--offset": offset is not None,
        "--receive-file": receive_file is not None,
        "--resume": resume,
        "--timeout": timeout is not None,
    }
    _check_together({name for name, there in given.items() if there})
    if starttls is not None and starttls not in STARTTLS.split("|"):
        raise typer.BadParameter(f"{starttls!r} is not one of {STARTTLS.replace('|', ', ')}.", param_hint="--starttls")
    if proxy_protocol not in (None, "v1", "v2"):
        raise typer.BadParameter(f"{proxy_protocol!r} is neither v1 nor v2.", param_hint="--proxy-protocol")
    if offset is not None and offset < 0:
        raise typer.BadParameter("a number of bytes is 0 or more.", param_hint="--offset")
    ipv6 = families(only_ipv4, only_ipv6)
    header: Any = proxy_protocol  # one of the two
    kinds: dict[str, Any] = {"crlf": crlf, "hex_dump": hex_dump, "tell": report, "read_timeout": read_timeout}
    if udp:
        from .datagrams import connect_udp

        return partial(connect_udp, host, service, timeout=timeout, ipv6=ipv6, local_address=local_address, **kinds)

    from .connect import Wanted, connect

    choice = None
    if tls or starttls is not None:
        from .secure import TlsChoice

        names = () if alpn is None else tuple(name.strip() for name in alpn.split(","))
        choice = TlsChoice(starttls=starttls, alpn=names, cert=cert, key=key, ca=ca, sni=sni, verify=not no_verify)
    wanted = Wanted(
        host=host,
        service=service,
        unix=unix,
        timeout=timeout,
        ipv6=ipv6,
        local_address=local_address,
        proxy_protocol=header,
        tls=choice,
        send_file=send_file,
        offset=offset or 0,
        receive_file=receive_file,
        resume=resume,
        **kinds,
    )
    return partial(connect, wanted)


OVER_TLS = ("--alpn", "--cert", "--key", "--ca", "--sni", "--no-verify")

EXCLUDE = (
    ("-4", "-6"),
    ("--tls", "--starttls"),
    ("--ca", "--no-verify"),
    ("--send-file", "--crlf"),
    *(("--unix", other) for other in ("HOST", "SERVICE", "-4", "-6", "--local-address", "--udp", "--proxy-protocol")),
    *(("--udp", other) for other in ("--tls", "--starttls", "--proxy-protocol", "--send-file", "--receive-file")),
)

NEEDS = (("--key", "--cert"), ("--offset", "--send-file"), ("--resume", "--receive-file"))


def _check_together(given: set[str]) -> None:
    """Raise what typer tells as wrong usage, unless these may be given together."""
    for one, other in EXCLUDE:
        if one in given and other in given:
            raise typer.BadParameter(f"{one} and {other} exclude each other.")
    if "--unix" not in given:
        for name in "HOST", "SERVICE":
            if name not in given:
                raise typer.BadParameter("missing; or --unix, with neither HOST nor SERVICE.", param_hint=name)
    if not given & {"--tls", "--starttls"}:
        for name in OVER_TLS:
            if name in given:
                raise typer.BadParameter(f"{name} needs --tls or --starttls.")
    elif "--unix" in given and "--sni" not in given and "--no-verify" not in given:
        raise typer.BadParameter("TLS over --unix needs --sni NAME, whom the certificate must be for (or --no-verify).")
    for one, other in NEEDS:
        if one in given and other not in given:
            raise typer.BadParameter(f"{one} needs {other}.")
