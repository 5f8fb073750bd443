"""A server: one thread accepts, each connection's handler runs in a thread of its own.

Enough for tests, demonstrations and small services. The accepting thread does nothing but accept, so that no
client can delay another. Running out of descriptors is survived with a pause; an error in a handler is
logged and ends that connection only.

Source: LispWorks manual, start-up-server and server-terminate.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable
from functools import partial
from threading import Lock, Thread, current_thread
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias

from ..address import HostSpec, ServiceSpec, SocketAddress, parse_host, parse_service
from ..deadline import Deadline, checked_timeout
from ..errors import SocketCreateError, SocketError, with_kin
from .stream import SocketStream
from .wait import Wakeup, wait_for_sockets

if TYPE_CHECKING:
    import ssl
    from typing import Self

    from ..tls.abstract import SslAbstractContext

__all__ = ["Server", "start_up_server"]

log = logging.getLogger("landline.server")

BACKLOG = 128
"""Connections the kernel holds while the accepting thread is busy; the kernel has its own upper bound."""

PAUSE_WITHOUT_DESCRIPTORS = 0.1
"""Seconds between attempts to accept while descriptors are lacking; the waiting client stays in the backlog."""

HANDSHAKE_LIMIT = 30.0
"""Seconds for a client's TLS handshake where nothing else is said: ten times what the slowest honest ones take."""

Handler: TypeAlias = Callable[[SocketStream], object]
Secure: TypeAlias = Callable[[SocketStream], object]


def start_up_server(
    handler: Handler,
    service: ServiceSpec = 0,
    *,
    local_address: HostSpec | None = "127.0.0.1",
    backlog: int = BACKLOG,
    read_timeout: float | None = None,
    write_timeout: float | None = None,
    ssl_ctx: ssl.SSLContext | SslAbstractContext | None = None,
    handshake_timeout: float | None = None,
    name: str | None = None,
) -> Server:
    """Listen, and call ``handler(stream)`` in a new thread for each connection; the stream is closed after it.

    With ``ssl_ctx`` the stream speaks TLS: the thread shakes hands first, and a client that fails to is logged and
    never reaches the handler. Nobody else waits for it.

    Args:
        service: the port, a number or a name; 0 lets the system choose (see Server.port).
        local_address: the numeric address to listen at; None for every IPv4 address of this machine.
        backlog: connections that may wait to be accepted.
        read_timeout, write_timeout: those of every stream, in seconds.
        ssl_ctx: what create_ssl_server_context() gives (its reset() takes effect with the next connection), or an
            ssl.SSLContext for servers; None: no TLS.
        handshake_timeout: seconds each client has for the TLS handshake; None is HANDSHAKE_LIMIT.
        name: of the threads.

    Raises:
        TypeError, ValueError: a wrong argument.
        SocketCreateError: the address cannot be listened at, or a file of the context cannot be used.

    Source: LispWorks manual, start-up-server.
    """
    host = parse_host("0.0.0.0" if local_address is None else local_address, "local_address")
    if host.address is None:
        raise ValueError(f"local_address={local_address!r} is not allowed: it must be a numeric address")
    wanted = SocketAddress(host.address, parse_service(service))
    limits = (checked_timeout(read_timeout, "read_timeout"), checked_timeout(write_timeout, "write_timeout"))
    secure: Secure | None = None
    handshake_timeout = checked_timeout(handshake_timeout, "handshake_timeout")
    if ssl_ctx is not None:
        from ..tls.plan import server_plan

        server_plan(ssl_ctx)  # which reads its files, and complains, now
        secure = partial(
            SocketStream.start_tls,
            ssl_ctx=ssl_ctx,
            ssl_side="server",
            handshake_timeout=HANDSHAKE_LIMIT if handshake_timeout is None else handshake_timeout,
        )
    listener = _listen(wanted, backlog)
    try:
        return Server(
            listener, handler, secure, limits, name or f"landline server {wanted.port or listener.getsockname()[1]}"
        )
    except BaseException:
        listener.close()
        raise


class Server:
    """A running server. As a context manager it is terminated at the end of the block.

    Attributes:
        addresses: where it listens.
        port: the port of the first of them.
    """

    def __init__(
        self,
        listener: socket.socket,
        handler: Handler,
        secure: Secure | None,
        limits: tuple[float | None, float | None],
        name: str,
    ) -> None:
        self._listener = listener
        self._handler = handler
        self._secure = secure
        self._limits = limits
        self._name = name
        self._wakeup = Wakeup()
        self._lock = Lock()
        self._stopping = False
        self._handlers: dict[Thread, SocketStream] = {}
        self._terminating: set[Thread] = set()  # handlers that have called terminate()
        self.addresses = (SocketAddress.from_sockaddr(listener.getsockname()),)
        self._thread = Thread(target=self._accept_all, name=name, daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._wakeup.close()
            raise

    @property
    def port(self) -> int:
        return self.addresses[0].port

    @property
    def connections(self) -> int:
        """How many connections are being handled now."""
        with self._lock:
            return len(self._handlers)

    def terminate(self, drain: float = 0.0) -> None:
        """Stop accepting at once, let handlers finish within ``drain`` seconds, then abort what is left.

        Returns when every thread has ended. May be repeated. A handler may call it too, and does not wait for
        itself, nor for other handlers that have called it: they would wait for each other.
        """
        until = Deadline.after(checked_timeout(drain, "drain") or 0.0)
        self._stopping = True
        self._wakeup.set()
        if current_thread() is not self._thread:
            self._thread.join()
        with self._lock:
            handlers = dict(self._handlers)
            if current_thread() in handlers:
                self._terminating.add(current_thread())
                handlers = {thread: handlers[thread] for thread in handlers.keys() - self._terminating}
        for thread in handlers:
            thread.join(until.limit())
        for thread, stream in handlers.items():
            if thread.is_alive():
                stream.abort()
        for thread in handlers:
            thread.join()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the server no longer accepts; False when it still does after ``timeout`` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.terminate()

    def _accept_all(self) -> None:
        try:
            while not self._stopping:
                wait_for_sockets([self._listener.fileno(), self._wakeup.fileno()], (), None)
                if not self._stopping:
                    self._accept()
        finally:
            self._listener.close()
            self._wakeup.close()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                log.error("%s: cannot accept: %s; trying again", self._name, error.strerror)
                self._pause(PAUSE_WITHOUT_DESCRIPTORS)
            return  # everything else (ECONNABORTED, EAGAIN, EPERM of a firewall) is about that one client
        try:
            stream = SocketStream(sock, read_timeout=self._limits[0], write_timeout=self._limits[1])
        except OSError:
            sock.close()  # the client is gone already
            return
        thread = Thread(target=self._handle, args=(stream,), name=f"{self._name}: {stream.peer_address}", daemon=True)
        with self._lock:
            self._handlers[thread] = stream
        try:
            thread.start()
        except RuntimeError as error:
            log.error("%s: no thread for %s: %s", self._name, stream.peer_address, error)
            self._forget(thread)
            stream.abort()

    def _handle(self, stream: SocketStream) -> None:
        try:
            with stream:
                if self._secure is None or self._is_secured(stream):
                    self._handler(stream)
        except Exception as error:
            if not (self._stopping and isinstance(error, SocketError)):
                log.error("%s: the handler for %s failed", self._name, stream.peer_address, exc_info=True)
        finally:
            self._forget(current_thread())

    def _is_secured(self, stream: SocketStream) -> bool:
        assert self._secure is not None
        try:
            self._secure(stream)
        except SocketError as condition:
            if not self._stopping:
                log.warning("%s: %s", self._name, condition)
            return False
        return True

    def _forget(self, thread: Thread) -> None:
        with self._lock:
            self._handlers.pop(thread, None)

    def _pause(self, seconds: float) -> None:
        ends_at = monotonic() + seconds
        while not self._stopping and (left := ends_at - monotonic()) > 0:
            wait_for_sockets([self._wakeup.fileno()], (), left)


def _listen(address: SocketAddress, backlog: int) -> socket.socket:
    try:
        listener = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address.sockaddr())
            listener.listen(backlog)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        message = f"could not listen at {address}: {error.strerror or error}"
        raise with_kin(SocketCreateError, error)(
            message, operation="listen", address=address, errno=error.errno
        ) from error
    return listener
