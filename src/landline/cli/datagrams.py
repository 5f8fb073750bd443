"""``landline connect --udp``: each read of standard input is a datagram, and those that come are written as they come.

Nothing tells that a peer has ended. So the command ends when its own input has, and nothing has come for a while.
"""

from __future__ import annotations

import sys
from threading import Event, Thread
from time import monotonic
from typing import Literal

from .. import ReadTimeout, SocketError, StreamClosed, UdpSocket, open_udp_socket
from .hex_dump import HexDump
from .screen import Screen
from .sinks import OnScreen, Sink, StandardOutput
from .sources import StandardInput, TypedLines, can_edit

__all__ = ["connect_udp"]

LARGEST_DATAGRAM = 65507
"""Bytes of payload in IPv4: 65535 less two headers (RFC 791, RFC 768). More input at once goes as several."""

LAST_ANSWERS = 1.0
"""Seconds that answers may take after the end of the input, where --read-timeout does not say."""

LOOK = 0.1
"""Seconds between looks whether the input has ended, while nothing comes; and until Ctrl-C is heard at the latest."""


def connect_udp(
    host: str | None,
    service: str | None,
    *,
    timeout: float | None,
    read_timeout: float | None,
    ipv6: bool | Literal["any"],
    local_address: str | None,
    crlf: bool,
    hex_dump: bool,
    tell: bool,
) -> None:
    """Exchange datagrams with a peer until the input has ended and its answers have come.

    Raises:
        SocketError: the peer was not found, or refuses.
        OutputClosed, OSError: standard input or output failed.
    """
    try:
        udp = open_udp_socket(host, service, timeout=timeout, ipv6=ipv6, local_address=local_address)
    except SocketError as error:
        if tell and error.report is not None:
            print(error.report, file=sys.stderr, flush=True)
        raise
    with udp:
        if tell:
            print(udp.report, file=sys.stderr, flush=True)
        screen = Screen() if can_edit() else None
        on_terminal = StandardOutput() if screen is None else OnScreen(screen)
        dump = HexDump(on_terminal.write) if hex_dump else None
        source = StandardInput(crlf=crlf) if screen is None else TypedLines(screen, crlf=crlf)
        try:
            with source.in_use():
                _Datagrams(udp, source, on_terminal, dump).run(read_timeout)
        except BaseException:
            on_terminal.give_up()
            raise


class _Datagrams:
    def __init__(self, udp: UdpSocket, source: StandardInput, sink: Sink, dump: HexDump | None) -> None:
        self._udp = udp
        self._source = source
        self._sink = sink
        self._dump = dump
        self._over = Event()
        self._failure: OSError | None = None

    def run(self, patience: float | None) -> None:
        limit = LAST_ANSWERS if patience is None else patience
        self._udp.read_timeout = LOOK
        Thread(target=self._send_input, name="landline input", daemon=True).start()
        quiet_since = monotonic()
        while True:
            try:
                data = self._udp.receive()
            except ReadTimeout:
                if self._failure is not None:
                    raise self._failure from None
                if not self._over.is_set():
                    if patience is None:
                        quiet_since = monotonic()
                    elif monotonic() - quiet_since >= patience:
                        raise OSError(
                            f"nothing came from {self._udp.peer_address} within --read-timeout {patience:g} seconds"
                        ) from None
                elif monotonic() - quiet_since >= limit:
                    return
                continue
            quiet_since = monotonic()
            if self._dump is not None:
                self._dump.received(data)
            else:
                self._sink.write(data)

    def _send_input(self) -> None:
        try:
            while data := self._source.next_piece(LARGEST_DATAGRAM):
                for at in range(0, len(data), LARGEST_DATAGRAM):
                    self._udp.send(data[at : at + LARGEST_DATAGRAM])
                if self._dump is not None:
                    self._dump.sent(data)
        except StreamClosed:
            pass  # the command is ending
        except OSError as error:
            self._failure = error
        finally:
            self._over.set()
