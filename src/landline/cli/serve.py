"""``landline serve``: a server in front of one of the services, until a signal ends it.

The certificate that --tls makes is for this machine's own names and lives as long as the server: its key never
leaves memory (but for the moment in which ssl reads it from a file), the authority's key is forgotten at once.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Literal

from .. import ReadTimeout, Server, SocketError, SocketStream, start_up_server
from ..sync.until_signal import stopped_by_signals
from .connections import (
    Connection,
    Connections,
    Lines,
    TableOnTerminal,
    age_text,
    counted,
    display,
    logging_to,
    peer_text,
)
from .progress import size_text

if TYPE_CHECKING:
    import ssl

    from .. import Datagram, SslAbstractContext

__all__ = ["Service", "serve"]

MOST_PEERS = 1000
"""Peers of a UDP server that are remembered; the one that was silent the longest is forgotten first."""

LOOK = 0.2
"""Seconds until a signal is heard, at the latest, by what only tells about it."""

NEEDS_TRUSTME = "--tls without --cert needs trustme to make a certificate; install it with: pip install trustme"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The options, as given; arguments_serve.py has seen to it that they go together.

    Attributes:
        kind: "echo", "discard", "file", "exec" or "http".
        argument: its path or command.
    """

    kind: str
    argument: str
    service: str | None
    local_address: str | None
    ipv6: bool | Literal["any"]
    udp: bool
    unix: Path | None
    tls: bool
    cert: Path | None
    key: Path | None
    max_connections: int | None
    read_timeout: float | None
    drain: float


def serve(wanted: Service) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        SocketError: it cannot listen there.
        OSError, ValueError: a file, a certificate or another argument is no good.
    """
    if wanted.drain < 0 or wanted.drain != wanted.drain:
        raise ValueError(f"--drain {wanted.drain:g} is not allowed: it must be 0 or more seconds")
    shown = display()
    with logging_to(shown), contextlib.ExitStack() as opened:
        if wanted.udp:
            _serve_datagrams(wanted, shown)
            return
        connections = Connections()
        handler = partial(_handle, _handler(wanted, shown), connections, shown)
        how: dict[str, Any] = {"read_timeout": wanted.read_timeout}
        if wanted.max_connections is not None:
            how["max_connections"] = wanted.max_connections
        trust: list[str] = []
        if wanted.tls:
            how["ssl_ctx"], trust = _context(wanted, opened)
        # serve_forever() handles signals, but whoever reads where the server listens may send one before that.
        signals = _Signals()
        opened.enter_context(stopped_by_signals(signals))
        server = _started(wanted, handler, how)
        opened.callback(server.terminate)
        where = _where(server, wanted)
        shown.say(f"listening at {where} ({_what(wanted)})")
        for line in _hints(wanted, server, trust):
            shown.say(line)
        with shown.shown(f"{where} ({_what(wanted)})", connections):
            while not (signals.first or server.join(LOOK)):
                pass
            _drain(server, wanted.drain, signals, shown)
        shown.say(f"ended; {counted(connections.total, 'connection')} in all")


def _started(wanted: Service, handler: Callable[[SocketStream], object], how: dict[str, Any]) -> Server:
    if wanted.unix is not None:
        from .. import start_up_unix_server

        return start_up_unix_server(handler, wanted.unix, **how)
    return start_up_server(handler, wanted.service or 0, local_address=_local_address(wanted), ipv6=wanted.ipv6, **how)


def _local_address(wanted: Service) -> str | None:
    if wanted.local_address == "*":
        return None
    return wanted.local_address or "localhost"


def _handler(wanted: Service, shown: Lines | TableOnTerminal) -> Callable[[SocketStream, str], object]:
    """What is done with a stream of a peer. What the service needs is looked at now."""
    from . import services

    match wanted.kind:
        case "echo":
            return lambda stream, peer: services.echo(stream)
        case "discard":
            return lambda stream, peer: services.discard(stream)
        case "exec":
            return lambda stream, peer: services.execute(stream, wanted.argument)
    path = Path(wanted.argument)
    if wanted.kind == "file":
        try:
            path.open("rb").close()
        except OSError as error:
            raise OSError(f"{path} cannot be served: {error.strerror}") from error
        return lambda stream, peer: services.send_file_to(stream, path)
    if not path.is_dir():
        raise NotADirectoryError(f"{path} cannot be served: it is no directory")
    from .http_files import serve_files

    return lambda stream, peer: serve_files(stream, path, lambda line: shown.tell(f"{peer} {line}"))


def _handle(
    service: Callable[[SocketStream, str], object],
    connections: Connections,
    shown: Lines | TableOnTerminal,
    stream: SocketStream,
) -> None:
    connection = Connection("", stream)
    connections.add(connection)
    connection.peer = peer = peer_text(stream.peer_address, connections.total)
    if isinstance(shown, Lines):
        shown.tell(f"{peer} connected{_over(connection)}")
    end = "ended"
    try:
        service(stream, peer)
        stream.close()
    except ReadTimeout:
        end = f"given up: nothing came for {stream.read_timeout:g} s"
    except SocketError as error:
        end = f"broken off: {error}"
    except OSError as error:
        end = f"not served: {error.strerror or error}"
    finally:
        connections.remove(connection)
        received, sent = connection.count()
        how = f"{size_text(received)} in, {size_text(sent)} out, {age_text(connection.age)}"
        shown.tell(f"{peer} {end}; {how}")


def _over(connection: Connection) -> str:
    tls = connection.tls
    if tls is None:
        return ""
    return f", {tls.version}" + (f", {tls.alpn}" if tls.alpn is not None else "")


# ---- what is told ------------------------------------------------------------------------------------


def _where(server: Server, wanted: Service) -> str:
    return str(wanted.unix) if wanted.unix is not None else ", ".join(map(str, server.addresses))


def _what(wanted: Service) -> str:
    what = wanted.kind if not wanted.argument else f"{wanted.kind} {wanted.argument}"
    return f"{what}, TLS" if wanted.tls else what


def _hints(wanted: Service, server: Server, trust: list[str]) -> Iterator[str]:
    if wanted.unix is not None:
        place = f"--unix {quote(str(wanted.unix))}"
        trust = [*trust, "--sni", "localhost"] if wanted.tls else trust
    else:
        place = f"{_name(wanted, server)} {server.port}"
    secure = ["--tls", *trust] if wanted.tls else []
    yield "connect with: " + " ".join(["landline connect", *secure, place])
    if wanted.kind == "http" and wanted.unix is None:
        host = _name(wanted, server)
        url = f"http{'s' if wanted.tls else ''}://{f'[{host}]' if ':' in host else host}:{server.port}/"
        yield f"look at:      {url}" + (f"   (curl --cacert {trust[1]} {url})" if trust else "")


def _name(wanted: Service, server: Server) -> str:
    """A name of this server that its certificate has, for clients on this machine."""
    if wanted.local_address in (None, "*", "localhost"):
        return "localhost" if wanted.ipv6 is not True else "::1"
    return server.addresses[0].host


def _drain(server: Server, drain: float, signals: _Signals, shown: Lines | TableOnTerminal) -> None:
    """Let connections end. (Server.serve_forever() does it too, but tells nobody when it begins.)"""
    ending = Thread(target=server.terminate, args=(drain,), name="landline drain")
    ending.start()
    server.join()
    left = server.connections
    if left and drain:
        shown.tell(f"ending: {counted(left, 'connection')} may take {drain:g} s to end; a second Ctrl-C ends at once")
    while ending.is_alive():
        if signals.second:
            server.terminate()
        ending.join(LOOK)


# ---- TLS ---------------------------------------------------------------------------------------------


def _context(wanted: Service, opened: contextlib.ExitStack) -> tuple[SslAbstractContext, list[str]]:
    """The context, and the words that a client needs to trust it."""
    from .. import create_ssl_server_context
    from .secure import ask_for_password

    alpn = ["http/1.1"] if wanted.kind == "http" else []
    if wanted.cert is not None:
        context = create_ssl_server_context(
            cert_file=wanted.cert, key_file=wanted.key, password_callback=ask_for_password, alpn=alpn
        )
        return context, []
    try:
        import trustme
    except ImportError:
        raise OSError(NEEDS_TRUSTME) from None
    authority = trustme.CA(organization_name="landline serve")
    leaf = authority.issue_cert(*_own_names(wanted), common_name=None)

    def configure(made: ssl.SSLContext) -> None:
        leaf.configure_cert(made)

    handle, name = tempfile.mkstemp(prefix="landline-ca-", suffix=".pem")
    opened.callback(_remove, name)
    with os.fdopen(handle, "wb") as file:
        file.write(authority.cert_pem.bytes())
    context = create_ssl_server_context(openssl_ctx_configure_callback=configure, alpn=alpn)
    context.ssl_context()  # which reads the key, now and once
    return context, ["--ca", quote(name)]


def _own_names(wanted: Service) -> list[str]:
    names = ["localhost", "127.0.0.1", "::1"]
    with contextlib.suppress(OSError):
        names.append(socket.gethostname())
    given = wanted.local_address
    if given not in (None, "*"):
        names.append(str(given).partition("%")[0])
    return [name for name in dict.fromkeys(names) if name.isascii()]


def _remove(name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name)


# ---- datagrams ---------------------------------------------------------------------------------------


def _serve_datagrams(wanted: Service, shown: Lines | TableOnTerminal) -> None:
    from .. import start_up_udp_server

    connections = Connections()
    peers: OrderedDict[object, Connection] = OrderedDict()
    lock = Lock()

    def handle(datagram: Datagram) -> None:
        with lock:
            peer = peers.get(datagram.address)
            if peer is None:
                peer = peers[datagram.address] = Connection(str(datagram.address))
                connections.add(peer)
                if len(peers) > MOST_PEERS:
                    connections.remove(peers.popitem(last=False)[1])
                if isinstance(shown, Lines):
                    shown.tell(f"{peer.peer} has sent its first datagram")
            peers.move_to_end(datagram.address)
            peer.received += len(datagram.data)
        if wanted.kind == "echo":
            datagram.reply(datagram.data)
            peer.sent += len(datagram.data)

    signals = _Signals()
    with (
        stopped_by_signals(signals),
        start_up_udp_server(
            handle, wanted.service or 0, local_address=_local_address(wanted), ipv6=wanted.ipv6
        ) as server,
    ):
        host = server.addresses[0].host if wanted.local_address not in (None, "*") else "localhost"
        where = f"{server.addresses[0]}, UDP"
        shown.say(f"listening at {where} ({_what(wanted)})")
        shown.say(f"connect with: landline connect --udp {host} {server.port}")
        with shown.shown(f"{where} ({_what(wanted)})", connections):
            while not (signals.first or server.join(LOOK)):
                pass
        server.terminate(wanted.drain)
        udp = server.socket
        shown.say(
            f"ended; {counted(udp.datagrams_received, 'datagram')} from {counted(connections.total, 'peer')}, "
            f"{size_text(udp.bytes_received)} in, {size_text(udp.bytes_sent)} out"
        )


class _Signals:
    """Whether there was a SIGTERM or SIGINT, and another one. Flags alone: a signal may interrupt what holds a lock."""

    def __init__(self) -> None:
        self.first = self.second = False

    def __call__(self, again: bool) -> None:
        self.first, self.second = True, again
