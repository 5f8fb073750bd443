"""``landline connect``: open, exchange, and end so that nobody is misled about what was sent or received."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .. import SocketError, SocketStream, open_tcp_stream
from ..deadline import Deadline
from ..tls.names import NOT_GIVEN
from . import complain
from .exchange import Exchange
from .hex_dump import HexDump
from .screen import STDERR, STDOUT, Screen
from .sinks import Dumped, FileToReceive, OnScreen, Sink, StandardOutput
from .sources import FileToSend, Source, StandardInput, TypedLines, can_edit

if TYPE_CHECKING:
    from .secure import TlsChoice

__all__ = ["Wanted", "connect"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The options, as given; arguments_connect.py has seen to it that they go together.

    Attributes:
        tls: None for none.
        offset: where in ``send_file`` to begin.
        tell: write the connection's report to standard error, also when there is no connection.
    """

    host: str | None
    service: str | None
    unix: Path | None
    timeout: float | None
    read_timeout: float | None
    ipv6: bool | Literal["any"]
    local_address: str | None
    proxy_protocol: Literal["v1", "v2"] | None
    tls: TlsChoice | None
    crlf: bool
    send_file: Path | None
    offset: int
    receive_file: Path | None
    resume: bool
    hex_dump: bool
    tell: bool


def connect(wanted: Wanted) -> None:
    """Connect a source and a sink with a peer, until it ends.

    Raises what open_tcp_stream() and Exchange.run() raise, and OSError for files. Nothing is left open.
    """
    screen, source, sink = _ends(wanted)
    with contextlib.ExitStack() as opened:
        if isinstance(source, FileToSend):
            opened.callback(source.close)
        try:
            with source.in_use():
                _exchange(wanted, screen, source, sink)
        except BaseException:
            told = sink.give_up()
            if told is not None:
                complain(told)
            raise


def _exchange(wanted: Wanted, screen: Screen | None, source: Source, sink: Sink) -> None:
    stream = _open(wanted)
    exchange = Exchange(stream, source, sink)
    try:
        _tell_head(wanted, stream)
        with _progress(wanted, stream, screen, source):
            exchange.run()
        stream.close()
        sink.finish()
    except BaseException:
        exchange.give_up()
        raise


def _ends(wanted: Wanted) -> tuple[Screen | None, Source, Sink]:
    """Where bytes come from and go to; files are opened now, so that no connection is made in vain."""
    bars = os.isatty(STDERR) and bool(wanted.send_file or wanted.receive_file)
    edits = wanted.send_file is None and can_edit()
    screen = Screen(STDOUT) if os.isatty(STDOUT) and (edits or bars) else None
    on_terminal = StandardOutput() if screen is None else OnScreen(screen)
    dump = HexDump(on_terminal.write) if wanted.hex_dump else None
    source: Source
    if wanted.send_file is not None:
        source = FileToSend(wanted.send_file, wanted.offset, dump)
    elif edits and screen is not None:
        source = TypedLines(screen, crlf=wanted.crlf, dump=dump)
    else:
        source = StandardInput(crlf=wanted.crlf, dump=dump)
    inner: Sink | None = None
    try:
        if wanted.receive_file is not None:
            inner = FileToReceive(wanted.receive_file, wanted.resume)
            if wanted.resume:
                at = inner.begins_at
                _say(f"going on at byte {at} of {wanted.receive_file}; the sender must begin there (--offset {at})")
    except BaseException:
        if isinstance(source, FileToSend):
            source.close()
        raise
    if dump is not None:
        return screen, source, Dumped(dump, inner)
    return screen, source, inner or on_terminal


def _open(wanted: Wanted) -> SocketStream:
    rest = Deadline.after(wanted.timeout)
    tls = wanted.tls
    if tls is not None:
        tls.warn()
    at_once = tls if tls is not None and tls.starttls is None and wanted.unix is None else None
    try:
        if wanted.unix is not None:
            from .. import open_unix_stream

            stream = open_unix_stream(wanted.unix, timeout=wanted.timeout, read_timeout=wanted.read_timeout)
        else:
            assert wanted.host is not None
            assert wanted.service is not None
            stream = open_tcp_stream(
                wanted.host,
                wanted.service,
                timeout=wanted.timeout,
                read_timeout=wanted.read_timeout,
                ipv6=wanted.ipv6,
                local_address=wanted.local_address,
                proxy_protocol=wanted.proxy_protocol,
                ssl_ctx=at_once.context() if at_once is not None else None,
                tlsext_host_name=at_once.server_name if at_once is not None else NOT_GIVEN,
                handshake_timeout=at_once.handshake_limit if at_once is not None and wanted.timeout is None else None,
            )
        if tls is not None and at_once is None:
            try:
                tls.start(stream, wanted.host or tls.sni or "localhost", rest.limit())
            except BaseException:
                stream.abort()
                raise
    except SocketError as error:
        if wanted.tell and error.report is not None:
            _tell(error.report)
        raise
    return stream


def _tell_head(wanted: Wanted, stream: SocketStream) -> None:
    if wanted.tell and stream.report is not None:
        _tell(stream.report)
    if stream.tls is not None and (wanted.tell or os.isatty(STDERR)):
        from .secure import facts

        _tell(facts(stream.tls))


def _progress(
    wanted: Wanted, stream: SocketStream, screen: Screen | None, source: Source
) -> contextlib.AbstractContextManager[object]:
    """A bar while files pass, where somebody can see it."""
    if not os.isatty(STDERR) or not (wanted.send_file or wanted.receive_file):
        return contextlib.nullcontext()
    from .progress import Progress, Transfer

    transfers = []
    if isinstance(source, FileToSend):
        before = stream.bytes_sent
        transfers.append(Transfer("sent", source.path.name, source.total, lambda: stream.bytes_sent - before))
    if wanted.receive_file is not None:
        had = stream.bytes_received
        transfers.append(Transfer("received", wanted.receive_file.name, None, lambda: stream.bytes_received - had))
    return Progress(screen or Screen(STDERR), transfers)


def _tell(what: object) -> None:
    print(what, file=sys.stderr, flush=True)


def _say(what: str) -> None:
    _tell(f"landline: {what}")
