"""``landline connect``: open, exchange, and end so that nobody is misled about what was sent."""

from __future__ import annotations

import sys
from typing import Literal

from .. import SocketError, open_tcp_stream
from .exchange import Exchange

__all__ = ["connect"]


def connect(
    host: str,
    service: str,
    *,
    timeout: float | None,
    read_timeout: float | None,
    ipv6: bool | Literal["any"],
    local_address: str | None,
    tell: bool,
) -> None:
    """Connect standard input and output with a peer, until it ends.

    Args:
        tell: write the connection's report to standard error, also when there is no connection.
        The others are those of open_tcp_stream().

    Raises what open_tcp_stream() and Exchange.run() raise. Nothing is left open.
    """
    try:
        stream = open_tcp_stream(
            host, service, timeout=timeout, read_timeout=read_timeout, ipv6=ipv6, local_address=local_address
        )
    except SocketError as error:
        if tell and error.report is not None:
            _tell(error.report)
        raise
    exchange = Exchange(stream)
    try:
        if tell:
            _tell(stream.report)
        exchange.run()
        stream.close()
    except BaseException:
        exchange.give_up()
        raise


def _tell(report: object) -> None:
    print(report, file=sys.stderr, flush=True)
