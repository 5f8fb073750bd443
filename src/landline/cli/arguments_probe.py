"""The arguments and the help of ``landline probe``."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from .families import OnlyIpv4, OnlyIpv6, families

if TYPE_CHECKING:
    from .probe.facts import Wanted

__all__ = ["HELP", "ProbeCommand", "probe"]

WRONG_USAGE, UNKNOWN = 2, 3

# Every paragraph is one line: typer breaks lines where they fit, but some of its versions keep ours as well. The
# lines after \b are kept by all of them.
HELP = """Show what happens when somebody connects: every lookup, every attempt, TLS and its certificates.

Several targets are given as HOST SERVICE HOST SERVICE. Nothing is sent but what it takes to connect, and the \
connection is closed at once. With --tls or --starttls the certificate is checked as every client of landline \
does it; what fails is shown with the certificates themselves, and with what can be done about it.

The exit status is for monitoring, that of the worst probe: 0 when all is well; 1, a warning, when a certificate \
expires within --warn-days, or no protocol of --alpn was agreed upon; 2, critical, when there is no connection, or no \
TLS that can be trusted; 3, unknown, when this machine or wrong usage kept it from finding out. It is 130 after Ctrl-C.

\b
Examples:
  landline probe www.example.org https --tls
  landline probe mail.example.org submission --starttls smtp --warn-days 21
  landline probe www.example.org https --tls --all-addresses
  landline probe db1 5432 db2 5432 --every 10 --html status.html
  landline probe www.example.org https --tls --json | jq '.certificates[0].days_left'
"""


class ProbeCommand(TyperCommand):
    """Wrong usage is "unknown" for monitoring; the 2 of other commands would be "critical"."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().make_context(*args, **kwargs)
        except Exception as error:
            _make_unknown(error)
            raise

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            _make_unknown(error)
            raise


def probe(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="HOST SERVICE",
            show_default=False,
            help="A name or a numeric address, and a port or a service name such as https; as often as wanted.",
        ),
    ],
    tls: Annotated[bool, typer.Option("--tls", help="Speak TLS from the first byte.")] = False,
    starttls: Annotated[
        str | None,
        typer.Option(
            "--starttls",
            metavar="PROTOCOL",
            show_default=False,
            help="Ask for TLS as smtp, imap, pop3, ftp, postgres, mysql, ldap or xmpp do it.",
        ),
    ] = None,
    only_ipv4: OnlyIpv4 = False,
    only_ipv6: OnlyIpv6 = False,
    all_addresses: Annotated[
        bool, typer.Option("--all-addresses", help="Probe each address of the name alone, one after another.")
    ] = False,
    timeout: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", help="For the whole of one probe: lookup, attempts and TLS."),
    ] = 10.0,
    warn_days: Annotated[
        float,
        typer.Option("--warn-days", metavar="DAYS", help="Warn of a certificate that expires within so many days."),
    ] = 14.0,
    sni: Annotated[
        str | None,
        typer.Option(
            "--sni",
            metavar="NAME",
            show_default=False,
            help="Send this name to the server. The certificate must be for HOST all the same.",
        ),
    ] = None,
    alpn: Annotated[
        str | None,
        typer.Option(
            "--alpn",
            metavar="NAMES",
            show_default=False,
            help="Offer these application protocols, such as h2,http/1.1.",
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            "--ca", metavar="FILE", show_default=False, help="Trust the authorities in this PEM file, and no others."
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("--count", metavar="N", show_default=False, help="Probe so often (a second apart, or --every)."),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(
            "--every",
            metavar="SECONDS",
            show_default=False,
            help="Probe again after so long; without end, if --count does not say how often.",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="A JSON object for each probe, each in one line, instead of pictures.")
    ] = False,
    svg: Annotated[
        Path | None,
        typer.Option("--svg", metavar="FILE", show_default=False, help="Draw into this file too, after each round."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", show_default=False, help="Make this page too, after each round."),
    ] = None,
) -> Callable[[], int]:
    if only_ipv4 and only_ipv6:
        raise typer.BadParameter("-4 and -6 exclude each other.")
    if len(targets) % 2:
        raise typer.BadParameter(f"{targets[-1]!r} is left over: targets are given as HOST SERVICE [HOST SERVICE ...].")
    if tls and starttls is not None:
        raise typer.BadParameter("--tls and --starttls exclude each other.")
    secure = tls or starttls is not None
    for name, given in (("--sni", sni), ("--alpn", alpn), ("--ca", ca)):
        if given is not None and not secure:
            raise typer.BadParameter(f"{name} needs --tls or --starttls.")
    for name, seconds in (("--timeout", timeout), ("--every", every), ("--warn-days", warn_days)):
        if seconds is not None and not (0 < seconds < math.inf or (name == "--warn-days" and seconds == 0)):
            raise typer.BadParameter(f"{name} must be a number greater than 0.")
    if count is not None and count < 1:
        raise typer.BadParameter("--count must be 1 or more.")
    if starttls is not None:
        from .starttls import PROTOCOLS

        if starttls not in PROTOCOLS:
            raise typer.BadParameter(f"--starttls must be one of {', '.join(PROTOCOLS)}, not {starttls!r}.")
    ipv6 = families(only_ipv4, only_ipv6)
    protocols = tuple(name.strip() for name in alpn.split(",")) if alpn is not None else ()

    from .probe.run import Options, probe

    wanted = partial(_wanted, targets, ipv6, timeout, secure, starttls, sni, protocols)
    options = Options(count, every, all_addresses, json, svg, html, warn_days, ca, protocols)
    return partial(probe, wanted, options)


def _wanted(
    targets: list[str],
    ipv6: bool | Literal["any"],
    timeout: float,
    tls: bool,
    starttls: str | None,
    sni: str | None,
    alpn: tuple[str, ...],
) -> list[Wanted]:
    from ..address import parse_host, parse_service
    from .probe.facts import Wanted

    made = []
    for host, service in zip(targets[::2], targets[1::2], strict=True):
        parse_host(host)
        made.append(Wanted(host, service, parse_service(service), ipv6, timeout, tls, starttls, sni, alpn))
    return made


def _make_unknown(error: Exception) -> None:
    if getattr(error, "exit_code", None) == WRONG_USAGE and not isinstance(error, typer.Exit):
        error.exit_code = UNKNOWN  # type: ignore[attr-defined]
