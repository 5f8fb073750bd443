"""-4 and -6, which several subcommands have. (Annotations are values here; arguments_connect.py tells why.)"""

from typing import Annotated, Literal

import typer

__all__ = ["OnlyIpv4", "OnlyIpv6", "families"]

OnlyIpv4 = Annotated[bool, typer.Option("--ipv4", "-4", help="Use IPv4 only.")]
OnlyIpv6 = Annotated[bool, typer.Option("--ipv6", "-6", help="Use IPv6 only.")]


def families(only_ipv4: bool, only_ipv6: bool) -> bool | Literal["any"]:
    """What the library calls ``ipv6``. That both exclude each other has been checked."""
    return only_ipv6 if only_ipv4 or only_ipv6 else "any"
