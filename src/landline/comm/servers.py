"""The manual's server: one thread that accepts a connection, calls a function with it, and only then accepts the next.

The function owns what it gets, a handle or a stream, and usually gives it to another thread. landline's own
start_up_server() has a thread for each connection, a cap, draining and TLS; this is for programs that come from Lisp.
It stands on that one, with a cap of one connection.

Source: LispWorks manual, start-up-server, start-up-server-and-mp, server-terminate.
"""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, local
from typing import Any, Literal, NamedTuple

from ..address import HostSpec, ServiceSpec, SocketAddress, parse_service
from ..errors import SocketError
from ..sync.listen import listen
from ..sync.server import BACKLOG, Server
from ..sync.server import start_up_server as serve
from .keywords import has_no_meaning, ipv6_of, keepalive_of
from .socket_stream import SocketStream

__all__ = ["Started", "server_terminate", "start_up_server", "start_up_server_and_mp"]

log = logging.getLogger("landline.server")

Announce = Callable[[socket.socket | None, SocketError | None], object]


class Started(NamedTuple):
    """What start_up_server() gives: the process and None, or None and the condition.

    Attributes:
        process: a landline.Server; end it with server_terminate().
        condition: why it could not start.
    """

    process: Server | None
    condition: SocketError | None


def start_up_server(
    *,
    function: Callable[[Any], object] | None = None,
    announce: Announce | Any = None,
    service: ServiceSpec | None = None,
    backlog: int | None = None,
    address: HostSpec | None = None,
    local_address: HostSpec | None = None,
    local_port: ServiceSpec | None = None,
    nodelay: object = True,
    keepalive: object = False,
    process_name: str | None = None,
    wait: object = False,
    create_stream: object = False,
    ipv6: bool | Literal["any", "both"] | None = "any",
    error: object = None,
    reuseport: object = False,
) -> Started:
    """Listen, and call ``function`` with each new connection, one after the other.

    Args:
        function: gets the handle (a socket.socket, blocking), or with a true ``create_stream`` a socket_stream. It owns
            it; nothing more is accepted until it returns.
        announce: None; True (standard output) or a text file: a line when the server begins. Or a function of two
            arguments, called with the listening socket and None; with None and the condition when the server could
            not start and ``error`` is false; with None and None when it has ended.
        service, local_port: the port; two names for the same. None or 0: the system chooses.
        backlog: connections that may wait; None: as many as landline.start_up_server() lets wait.
        address, local_address: where to listen; two names for the same. None: everywhere.
        nodelay, keepalive: of each connection.
        process_name: of the thread; "<service> server" if not given.
        wait: changes nothing but the default of ``error``: this returns when the server listens, or has failed to.
        ipv6: "any": what there is; True: IPv6; None or False: IPv4; "both": both, or fail.
        error: true raises the condition when the server cannot start; false gives it as the second result. Not given:
            true unless ``wait`` is.
        reuseport: others may listen at the same port.

    Raises:
        TypeError, ValueError: a wrong argument.
        SocketCreateError: the server could not start, and ``error`` is true.
        HasNoMeaning: no ``function``: there is no Lisp listener to serve a connection with.

    Source: LispWorks manual, start-up-server.
    """
    if function is None:
        raise has_no_meaning("start_up_server() without function", "there is no Lisp listener for clients to talk to")
    if not callable(function):
        raise TypeError(f"function={function!r} is not allowed: it must be a function of one argument")
    if backlog is not None and (isinstance(backlog, bool) or not isinstance(backlog, int) or backlog < 1):
        raise ValueError(f"backlog={backlog!r} is not allowed: it must be a whole number, 1 or more, or None")
    tell = _announcer(announce)
    where = _one_of("address", address, "local_address", local_address)
    port = _one_of("service", service, "local_port", local_port)
    port = 0 if port is None else port
    raising = not wait if error is None else bool(error)
    family = ipv6_of(ipv6)
    own = _Own(function, bool(create_stream))

    def told(sock: socket.socket | None, condition: SocketError | None) -> None:
        with own.current():
            tell(sock, condition)

    try:
        parse_service(port)
        listeners = listen(where, port, family, BACKLOG if backlog is None else backlog, bool(reuseport))
    except SocketError as condition:
        if raising:
            raise
        told(None, condition)
        return Started(None, condition)
    try:
        told(listeners[0], None)
        process = own.process = serve(
            own.serve,
            listeners,
            create_stream=False,
            max_connections=1,
            nodelay=nodelay,
            keepalive=keepalive_of(keepalive),
            name=process_name or f"{service or local_port or listeners[0].getsockname()[1]} server",
            on_end=lambda: told(None, None),
        )
    except BaseException:
        for sock in listeners:
            sock.close()
        raise
    if own.ends:  # announce() or the first connection's function wanted it, before there was a process to end
        process.terminate(drain=None)
    return Started(process, None)


def start_up_server_and_mp(**arguments: Any) -> Started:
    """As start_up_server(), but for ``reuseport``, which it does not have. Threads need not be started here.

    Source: LispWorks manual, start-up-server-and-mp.
    """
    if "reuseport" in arguments:
        raise TypeError("start_up_server_and_mp() got an unexpected keyword argument 'reuseport'")
    return start_up_server(**arguments)


def server_terminate(process: Server | None = None) -> bool:
    """End a server. True if it was active; False if it had ended already.

    Without ``process``, only inside the server's own function or announce: True, and it ends after that has returned.
    What its function has given to others is left alone.

    Source: LispWorks manual, server-terminate.
    """
    if process is None:
        own = getattr(_current, "own", None)
        if own is None:
            raise ValueError("server_terminate() needs the process: this is not a server's own function")
        own.ends = True
        return True
    if not isinstance(process, Server):
        raise TypeError(f"process={process!r} is not allowed: it must be what start_up_server() has given")
    if process._thread is current_thread():
        return False  # its announce, which is told that it has ended
    was_active = not process.join(0)
    process.terminate()
    return was_active


_current = local()
"""``own``: the server whose function this thread is calling."""


class _Own:
    """A server's own side: what calls its function, and learns that it should end."""

    def __init__(self, function: Callable[[Any], object], create_stream: bool) -> None:
        self._function = function
        self._create_stream = create_stream
        self.ends = False
        self.process: Server | None = None

    def serve(self, handle: socket.socket) -> None:
        try:
            connection = SocketStream(socket=handle) if self._create_stream else handle
        except SocketError as error:
            log.info("a client was gone before it was served: %s", error)
            handle.close()
            return
        try:
            with self.current():
                self._function(connection)
        except BaseException:
            if isinstance(connection, SocketStream) and not connection.closed:
                connection._channel.end_after_failure()
            else:
                connection.close()
            raise
        finally:
            if self.ends and self.process is not None:
                self.process.terminate()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Inside, this is the server whose function the thread is calling."""
        before, _current.own = getattr(_current, "own", None), self
        try:
            yield
        finally:
            _current.own = before


def _announcer(announce: Any) -> Announce:
    if announce is None or announce is False:
        return lambda sock, condition: None
    if callable(announce) and not hasattr(announce, "write"):
        function: Announce = announce
        return function
    file = sys.stdout if announce is True else announce
    if not callable(getattr(file, "write", None)):
        raise TypeError(f"announce={announce!r} is not allowed: it must be True, a text file, a function, or None")

    def write(sock: socket.socket | None, condition: SocketError | None) -> None:
        if sock is not None:
            file.write(f"listening at {SocketAddress.from_sockaddr(sock.getsockname())}\n")
        elif condition is not None:
            file.write(f"{condition}\n")

    return write


def _one_of(name: str, value: Any, other_name: str, other: Any) -> Any:
    """Two names for the same argument."""
    if value is not None and other is not None and value != other:
        raise ValueError(f"{name}={value!r} and {other_name}={other!r} are not allowed together: they mean the same")
    return other if value is None else value
