"""A server: one thread accepts, each connection's handler runs in a thread of its own.

* The accepting thread does nothing but accept: TLS handshakes and PROXY headers are read where the handler runs, each
  with a time limit, so no client can delay another.
* Accepting pauses when as many connections are open as may be; clients wait in the kernel's queue meanwhile, instead of
  piling up here. Running out of descriptors is survived with a pause, too.
* An error in a handler is logged and ends that connection only: with a reset where something waited to be sent,
  because half an answer must not look like a whole one. Where the client caused it by going away a warning says so.
* Threads are used again (workers.py). More than one process grows out of reuse_port, or inherited sockets.

Rejected: a fixed pool of threads, in which a few slow clients would stop everybody; and one event loop in front of the
handlers, which is another library.

Source: LispWorks manual, start-up-server, start-up-server-and-mp and server-terminate.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from threading import Condition, Thread, current_thread, get_ident
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from ..address import HostSpec, ServiceSpec, SocketAddress
from ..deadline import Deadline, checked_timeout
from ..engine.text import checked_text_arguments
from ..errors import SocketCreateError, SocketError
from ..options import KeepAlive, SocketOptions
from .accepted import OPTIONS_INHERITED, Connection, Service
from .listen import Ipv6, address_of, adopt, listen
from .stream import SocketStream
from .text_stream import TextSocketStream
from .until_signal import DRAIN, HEARD_WITHIN, HURRY_WITHIN, stopped_by_signals
from .wait import Wakeup, wait_for_sockets
from .workers import Workers

if TYPE_CHECKING:
    import ssl
    from typing import Self

    from ..tls.abstract import SslAbstractContext
    from .proxied import Network, TrustedProxies

__all__ = ["Server", "start_up_server"]

log = logging.getLogger("landline.server")

BACKLOG = 4096
"""Connections the kernel holds while the accepting thread is busy or paused: Linux's own upper bound. Those beyond it
try again after a second: 5 000 at once took 3.2 s with a quarter of this, and take one with it."""

MOST_CONNECTIONS = 10_000
"""Connections at once where nothing else is said: each is a thread, and systems bear some 30 000 of these."""

AT_ONCE = 64
"""Connections accepted in a row from one socket, before others have their turn."""

HANDSHAKE_LIMIT = 30.0
"""Seconds for a client's TLS handshake and PROXY header where nothing else is said: ten times what slow ones take."""

LAST_MOMENT = 5.0
"""Seconds in which no handler ends, until those that are left are left alone. The slow end of a thousand threads takes
less from one to the next."""

PAUSE_WITHOUT_DESCRIPTORS = 0.1
"""Seconds between attempts to accept while descriptors are lacking; the waiting client stays in the backlog."""

Handler: TypeAlias = Callable[[SocketStream], object]
TextHandler: TypeAlias = Callable[[TextSocketStream], object]
SocketHandler: TypeAlias = Callable[[socket.socket], object]
Listeners: TypeAlias = socket.socket | Sequence[socket.socket]


def start_up_server(
    handler: Callable[[Any], object],
    service: ServiceSpec | Listeners = 0,
    *,
    local_address: HostSpec | None = "localhost",
    backlog: int = BACKLOG,
    ipv6: Ipv6 = "any",
    reuse_port: bool = False,
    ssl_ctx: ssl.SSLContext | SslAbstractContext | None = None,
    read_timeout: float | None = None,
    write_timeout: float | None = None,
    element_type: type[bytes] | type[str] = bytes,
    encoding: str = "utf-8",
    errors: str = "strict",
    newline: str | None = None,
    create_stream: bool = True,
    max_connections: int = MOST_CONNECTIONS,
    handshake_timeout: float | None = None,
    proxy_protocol: Iterable[Network] | None = None,
    nodelay: object = True,
    keepalive: bool | KeepAlive | None = False,
    name: str | None = None,
    on_end: Callable[[], object] | None = None,
) -> Server:
    """Listen, and call ``handler(stream)`` in a thread for each connection; the stream is closed after it.

    With ``ssl_ctx`` the stream speaks TLS: the thread shakes hands first, and a client that fails to is logged and
    never reaches the handler. Nobody else waits for it.

    Args:
        service: the port, a number or a name; 0 lets the system choose (see Server.port). Or one or several sockets
            that listen already (inherited_sockets()), which the server owns from then on; what says where to listen
            is not used then.
        local_address: the address to listen at, numeric or a name; "localhost" is this machine's loopback (127.0.0.1;
            with ipv6=True ::1, with "both" the two), None all addresses.
        backlog: connections that may wait to be accepted.
        ipv6: "any": what there is; True: IPv6 only; False or None: IPv4 only; "both": both, or fail.
        reuse_port: other processes may listen at the same port, and share its connections (SO_REUSEPORT).
        ssl_ctx: what create_ssl_server_context() gives (its reset() takes effect with the next connection), or an
            ssl.SSLContext for servers; None: no TLS.
        read_timeout, write_timeout: those of every stream, in seconds.
        element_type: bytes gives the handler a SocketStream, str a TextSocketStream with ``encoding``, ``errors`` and
            ``newline``.
        create_stream: False calls ``handler(sock)`` with the accepted socket, blocking, which the handler owns.
        max_connections: at once; accepting pauses at that many.
        handshake_timeout: seconds each client has for the TLS handshake, and for a PROXY header before it; None is
            HANDSHAKE_LIMIT.
        proxy_protocol: networks of proxies (HAProxy, nginx, load balancers) whose connections must begin with a PROXY
            header, version 1 or 2: the stream's peer_address and local_address are then those that it tells. Other
            clients are taken as they are.
        nodelay, keepalive: of every connection, as for open_tcp_stream().
        name: of the threads, and in the log ("landline.server").
        on_end: called by the accepting thread when the server has stopped to listen.

    Raises:
        TypeError, ValueError: a wrong argument.
        SocketCreateError: the address cannot be listened at, or a file of the context cannot be used.

    Source: LispWorks manual, start-up-server.
    """
    if not callable(handler):
        raise TypeError(f"handler={handler!r} is not allowed: it must be a function of one argument")
    if on_end is not None and not callable(on_end):
        raise TypeError(f"on_end={on_end!r} is not allowed: it must be a function without arguments, or None")
    if element_type not in (bytes, str):
        raise ValueError(f"element_type={element_type!r} is not allowed: it must be bytes or str")
    if element_type is str:
        checked_text_arguments(encoding, errors, newline)
    if not create_stream and (ssl_ctx is not None or element_type is str):
        raise ValueError("create_stream=False is not allowed with ssl_ctx or element_type=str: a socket has neither")
    for what, number in (("max_connections", max_connections), ("backlog", backlog)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{what}={number!r} is not allowed: it must be a whole number, 1 or more")
    options = SocketOptions.checked(nodelay, keepalive)
    limit = checked_timeout(handshake_timeout, "handshake_timeout")
    secure: Callable[..., object] | None = None
    if ssl_ctx is not None:
        from ..tls.plan import server_plan

        if server_plan(ssl_ctx) is not None:  # which reads its files, and complains, now
            secure = partial(
                SocketStream.start_tls,
                ssl_ctx=ssl_ctx,
                ssl_side="server",
                handshake_timeout=HANDSHAKE_LIMIT if limit is None else limit,
            )
    proxies: TrustedProxies | None = None
    if proxy_protocol is not None:
        from .proxied import TrustedProxies

        if not create_stream:
            raise ValueError("create_stream=False is not allowed with proxy_protocol: a header is read by a stream")
        proxies = TrustedProxies(proxy_protocol)
    service_ = Service(
        handler,
        options,
        checked_timeout(read_timeout, "read_timeout"),
        checked_timeout(write_timeout, "write_timeout"),
        secure,
        partial(TextSocketStream, encoding=encoding, errors=errors, newline=newline) if element_type is str else None,
        create_stream,
        proxies,
        HANDSHAKE_LIMIT if limit is None else limit,
    )
    listeners: list[socket.socket]
    if isinstance(service, (int, str)):
        listeners = listen(local_address, service, ipv6, backlog, reuse_port)
    else:
        listeners = adopt(service)
    try:
        return Server(listeners, service_, max_connections, name, on_end)
    except BaseException:
        for sock in listeners:
            sock.close()
        raise


class Server:
    """A running server. As a context manager it is terminated at the end of the block.

    Attributes:
        addresses: where it listens; () for sockets without addresses of IP.
        name: of its threads, and in the log.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        service: Service,
        most: int,
        name: str | None,
        on_end: Callable[[], object] | None,
    ) -> None:
        self._listeners = listeners
        self._service = service
        self._most = most
        self._on_end = on_end
        bound = [sock.getsockname() for sock in listeners]
        self.addresses = tuple(SocketAddress.from_sockaddr(one) for one in bound if isinstance(one, tuple))
        self.name = name or f"landline server {self.addresses[0].port if self.addresses else bound[0]}"
        if OPTIONS_INHERITED:
            for sock in listeners:
                if sock.family != getattr(socket, "AF_UNIX", None):
                    service.options.apply(sock)
        self._wakeup = Wakeup()
        self._changed = Condition()
        self._stopping = False
        self._watchers: tuple[Callable[[], object], ...] = ()
        self._hurried = False  # a signal has ended the drain
        self._connections: set[Connection] = set()
        self._terminating: set[Connection] = set()  # whose handlers have called terminate()
        self._workers = Workers(self.name)
        self._thread = Thread(target=self._accept_all, name=self.name, daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._wakeup.close()
            raise

    @property
    def port(self) -> int:
        """The port of the first address."""
        return self.addresses[0].port

    @property
    def connections(self) -> int:
        """How many connections are being handled now, handshakes included."""
        return len(self._connections)

    def input_ready(self) -> bool:
        """A connection waits to be accepted, which it does while accepting pauses; or the server was terminated.

        Source: LispWorks manual, system:wait-for-input-streams.
        """
        return self._stopping or bool(wait_for_sockets(self._descriptors(), (), 0))

    def terminate(self, drain: float | None = 0.0) -> None:
        """Stop accepting at once, let handlers finish within ``drain`` seconds, then abort what is left.

        None lets them take their time. Returns when every thread has ended; but a handler that is busy with something
        else than its stream does not notice, and nothing can end it: it is left alone after LAST_MOMENT, with an error
        in the log. May be repeated. A handler may call it too, and does not wait for itself, nor for other handlers
        that have called it: they would wait for each other.

        Source: LispWorks manual, server-terminate.
        """
        until = Deadline.after(checked_timeout(drain, "drain"))
        self._stop()
        if current_thread() is not self._thread:
            self._thread.join()
        with self._changed:
            own = {one for one in self._connections if one.thread == get_ident()}
            self._terminating |= own
            self._changed.notify_all()  # those who wait for this handler no longer need to
            while self._others(own) and not (until.passed or self._hurried):
                self._changed.wait(until.limit(HURRY_WITHIN))
            left = list(self._others(own))
        for connection in left:
            connection.abort()
        deaf = self._wait_for_the_last(own)
        self._workers.end(wait=not own and not deaf)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the server no longer accepts; False when it still does after ``timeout`` seconds."""
        self._thread.join(checked_timeout(timeout, "timeout"))
        return not self._thread.is_alive()

    def serve_forever(self, drain: float | None = DRAIN) -> None:
        """For a main thread with nothing else to do: return when the server was terminated, by whomever.

        SIGTERM and SIGINT (Ctrl-C) terminate it with ``drain`` seconds for the handlers; a second signal ends the
        drain. Their former handlers are back afterwards.

        Raises:
            ValueError: this is not the main thread, where alone signals can be handled; join() waits as well. Or
                a wrong drain.
        """
        checked_timeout(drain, "drain")
        with stopped_by_signals(self._on_signal):
            while not self.join(HEARD_WITHIN):
                pass
            self.terminate(drain)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.terminate()

    def __repr__(self) -> str:
        where = ", ".join(map(str, self.addresses)) or self.name
        return f"<Server {where}{' terminated' if self._stopping else ''}>"

    # Accepting

    def _on_signal(self, again: bool) -> None:
        self._hurried = again
        self._stop()

    def _stop(self) -> None:
        self._stopping = True
        self._wakeup.set()

    def _descriptors(self) -> list[int]:
        # These three are what ready.py asks for.
        return [sock.fileno() for sock in self._listeners]

    def _watch(self, tell: Callable[[], object]) -> None:
        with self._changed:
            self._watchers = (*self._watchers, tell)

    def _unwatch(self, tell: Callable[[], object]) -> None:
        with self._changed:
            self._watchers = tuple(each for each in self._watchers if each is not tell)

    def _accept_all(self) -> None:
        wakeup = self._wakeup.fileno()
        listening = {sock.fileno(): sock for sock in self._listeners}
        try:
            while listening and not self._stopping:
                full = len(self._connections) >= self._most
                ready = wait_for_sockets([wakeup] if full else [wakeup, *listening], (), None)
                if wakeup in ready:
                    self._wakeup.clear()
                for descriptor in ready - {wakeup}:
                    if not self._accept_some(listening[descriptor]):
                        del listening[descriptor]
        finally:
            for sock in self._listeners:
                sock.close()
            self._wakeup.close()
            for tell in self._watchers:
                tell()
            if self._on_end is not None:
                self._on_end()

    def _accept_some(self, listener: socket.socket) -> bool:
        """False when it no longer listens, which somebody else's shutdown() or close() does to shared sockets."""
        for _ in range(AT_ONCE):
            if self._stopping or len(self._connections) >= self._most:
                break
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    log.error("%s: cannot accept: %s; trying again", self.name, error.strerror)
                    self._pause(PAUSE_WITHOUT_DESCRIPTORS)
                    break
                if error.errno in (errno.EBADF, errno.EINVAL, errno.ENOTSOCK):
                    log.error("%s: a socket listens no longer: %s", self.name, error.strerror)
                    return False
                continue  # everything else (ECONNABORTED, EPERM of a firewall) is about that one client
            self._begin(sock, address_of(address))
        return True

    def _begin(self, sock: socket.socket, peer: SocketAddress | None) -> None:
        try:
            connection = Connection(sock, peer, self._service)
        except OSError:
            sock.close()  # the client is gone already
            return
        with self._changed:
            self._connections.add(connection)
        try:
            self._workers.run(partial(self._handle, connection))
        except RuntimeError as error:
            log.error("%s: no thread for %s: %s", self.name, connection, error)
            self._forget(connection)
            connection.abort()
            sock.close()

    def _handle(self, connection: Connection) -> None:
        connection.thread = get_ident()
        try:
            connection.serve(self._service, self._refused)
        except BaseException as error:
            if self._stopping and isinstance(error, (SocketError, ConnectionError)):
                pass
            elif connection.caused(error):
                log.warning("%s: %s", self.name, error)
            else:
                log.error("%s: the handler for %s failed", self.name, connection, exc_info=True)
        finally:
            self._forget(connection)

    def _refused(self, connection: Connection, error: Exception) -> None:
        """The connection did not get as far as its handler."""
        if self._stopping and isinstance(error, SocketError):
            return
        if isinstance(error, SocketError) and not isinstance(error, SocketCreateError):
            log.warning("%s: %s", self.name, error)
        else:
            known = isinstance(error, SocketError)  # a file of the context, as a rule; else a callback's own
            log.error("%s: %s could not be served: %s", self.name, connection, error, exc_info=not known)

    def _forget(self, connection: Connection) -> None:
        with self._changed:
            full = len(self._connections) >= self._most
            self._connections.discard(connection)
            self._terminating.discard(connection)
            if full:  # set when there is room, and not before: the accepting thread looks without the lock
                self._wakeup.set()
            if self._stopping and len(self._connections) == len(self._terminating):  # nobody waits for fewer to go
                self._changed.notify_all()

    def _wait_for_the_last(self, own: set[Connection]) -> bool:
        """Whether a handler has not noticed that its connection was aborted."""
        until, before = Deadline.after(LAST_MOMENT), 0
        with self._changed:
            while (others := self._others(own)) and not until.passed:
                if len(others) != before:
                    until, before = Deadline.after(LAST_MOMENT), len(others)
                self._changed.wait(until.limit(HURRY_WITHIN))
            deaf = list(others)
        for connection in deaf:
            log.error("%s: the handler for %s does not end; it is left alone", self.name, connection)
        return bool(deaf)

    def _others(self, own: set[Connection]) -> set[Connection]:
        return self._connections - self._terminating if own else self._connections

    def _pause(self, seconds: float) -> None:
        ends_at = monotonic() + seconds
        while not self._stopping and (left := ends_at - monotonic()) > 0:
            if wait_for_sockets([self._wakeup.fileno()], (), left):
                self._wakeup.clear()
