"""A UDP server: one socket, and threads that each take a datagram and handle it before they take the next.

All of them wait in the kernel, and a datagram wakes one. What comes while all are busy waits in the kernel's buffer,
and is lost when that is full, which is what UDP promises; ``threads`` is how many handlers may be slow at once.

A thread for each datagram was rejected: a flood would start threads without end, and datagrams would be handled in any
order also where one thread after the other could do.

Source: LispWorks manual, start-up-server, for what a server is; RFC 1122 4.1.3.5 for where answers come from.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, RLock, Thread, current_thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..address import HostSpec, ServiceSpec, SocketAddress
from ..deadline import Deadline, checked_timeout
from ..errors import SocketError, SocketIOError, StreamClosed
from .udp import LARGEST_SIZE, UdpSocket, checked_size
from .udp_conditions import DatagramTruncated
from .udp_control import Beside, ask_for_destinations, destination
from .udp_open import open_udp_socket
from .until_signal import DRAIN, HEARD_WITHIN, HURRY_WITHIN, stopped_by_signals

if TYPE_CHECKING:
    from typing import Self

    from _typeshed import ReadableBuffer

__all__ = ["Datagram", "UdpServer", "start_up_udp_server"]

log = logging.getLogger("landline.server")

MOST_THREADS = 1024
"""Threads of one server: more bring nothing but memory used."""

PAUSE_AFTER_FAILURE = 0.1
"""Seconds until the next receive after the system has failed, so that a lasting failure does not fill the log."""

LAST_MOMENT = 1.0
"""Seconds that handlers have to notice that the socket is closed. Nothing can end one that does not look at it."""


class Datagram:
    """What a handler gets.

    Attributes:
        data: the payload.
        address: who sent it.
        destination: where it was sent to, as a numeric host: an address of this machine, a group's, a broadcast
            address. None where that is not known: the server listens at one address only, or the system does not tell.
    """

    __slots__ = ("_beside", "_sockaddr", "_udp", "address", "data", "destination")

    def __init__(
        self, udp: UdpSocket, data: bytes, address: SocketAddress, sockaddr: Any, to: str | None, beside: Beside
    ) -> None:
        self.data = data
        self.address = address
        self.destination = to
        self._udp = udp
        self._sockaddr = sockaddr
        self._beside = beside

    def reply(self, data: ReadableBuffer) -> None:
        """Send a datagram to the sender, from the address that it was asked at. More than one is fine, also later.

        Raises what UdpSocket.send_to() raises.
        """
        self._udp._hand_over(data, self._sockaddr, self.address, self._beside)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.data)} bytes from {self.address}>"


Handler: TypeAlias = Callable[[Datagram], object]


def start_up_udp_server(
    handler: Handler,
    service: ServiceSpec = 0,
    *,
    local_address: HostSpec | None = "localhost",
    ipv6: bool | Literal["any", "both"] | None = "any",
    size: int = LARGEST_SIZE,
    threads: int = 1,
    name: str | None = None,
    reuse_port: bool | Literal["multicast"] = False,
) -> UdpServer:
    """Receive datagrams, and call ``handler(datagram)`` for each; see Datagram.

    Args:
        service: the port, a number or a name; 0 lets the system choose (see UdpServer.port).
        local_address: the address to receive at: "localhost", which is 127.0.0.1 (::1 with ipv6=True), a numeric
            address or a name; None for every address of this machine.
        ipv6: as for open_udp_socket().
        size: the longest datagram taken, in bytes; longer ones are logged and dropped.
        threads: how many handlers may run at once. With one, datagrams are handled in the order in which they came.
        name: of the threads.
        reuse_port: other sockets may share the port, in this process and in others, if they say so too; as for
            open_udp_socket().

    Raises:
        TypeError, ValueError: a wrong argument.
        SocketCreateError: the address cannot be received at.
        HostLookupError: the name of it was not found.
    """
    if not callable(handler):
        raise TypeError(f"handler={handler!r} is not allowed: it must be callable")
    checked_size(size)
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise TypeError(f"threads={threads!r} is not allowed: it must be a whole number")
    if not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"threads={threads!r} is not allowed: it must be from 1 to {MOST_THREADS}")
    if local_address == "localhost":
        local_address = "::1" if ipv6 is True else "127.0.0.1"
    udp = open_udp_socket(local_address=local_address, local_port=service, ipv6=ipv6, reuse_port=reuse_port)
    try:
        return UdpServer(udp, handler, size, threads, name or f"landline UDP server {udp.local_address.port}")
    except BaseException:
        udp.close()
        raise


class UdpServer:
    """A running UDP server. As a context manager it is terminated at the end of the block.

    Attributes:
        socket: the UdpSocket it receives with, for its options (join_group(), broadcast) and counters, and for sending.
            Do not receive from it.
        addresses: where it receives.
        port: the port of them.
    """

    def __init__(self, udp: UdpSocket, handler: Handler, size: int, threads: int, name: str) -> None:
        self.socket = udp
        self.addresses = (udp.local_address,)
        self._handler = handler
        self._size = size
        self._name = name
        self._everywhere = udp.local_address.host in ("::", "0.0.0.0") and ask_for_destinations(udp._sock)
        self._lock = RLock()  # a signal handler may terminate in the middle of anything
        self._stopping = Event()
        self._signalled = self._hurried = False  # a signal has ended the server, another one its drain
        self._handling: set[Thread] = set()
        self._threads = [
            Thread(target=self._serve, name=f"{name} ({number})" if threads > 1 else name, daemon=True)
            for number in range(1, threads + 1)
        ]
        started: list[Thread] = []
        try:
            for thread in self._threads:
                thread.start()
                started.append(thread)
        except BaseException:
            self._threads = started
            self.terminate()
            raise

    @property
    def port(self) -> int:
        return self.socket.local_address.port

    def terminate(self, drain: float = 0.0) -> bool:
        """Stop receiving at once, let running handlers finish within ``drain`` seconds, then close the socket.

        What has come and no handler has begun with is dropped. Handlers that send after that get StreamClosed, and have
        a second left; there is nothing that could end those that still go on then. May be repeated. A handler may
        call it too, and does not wait for itself.

        Returns:
            Whether all handlers (but the calling one) have ended.
        """
        until = Deadline.after(checked_timeout(drain, "drain") or 0.0)
        with self._lock:
            self._stopping.set()  # no handler begins from here on
        others = [thread for thread in self._threads if thread is not current_thread()]
        for thread in others:
            while self._is_handling(thread) and thread.is_alive() and not (until.passed or self._hurried):
                thread.join(until.limit(HURRY_WITHIN))
        self.socket.close()
        until = Deadline.after(LAST_MOMENT)
        for thread in others:
            if self._is_handling(thread):
                thread.join(until.limit())
            if not self._is_handling(thread):
                thread.join()
        left = [thread for thread in others if thread.is_alive()]
        if left:
            log.warning("%s: %d handlers have not ended", self._name, len(left))
        return not left

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the server has ended; False when it still runs after ``timeout`` seconds."""
        until = Deadline.after(checked_timeout(timeout, "timeout"))
        for thread in self._threads:
            if thread is not current_thread():
                thread.join(until.limit())
        return not any(thread.is_alive() for thread in self._threads)

    def serve_forever(self, drain: float = DRAIN) -> None:
        """For a main thread with nothing else to do: return when the server has ended, or was terminated.

        SIGTERM and SIGINT (Ctrl-C) terminate it with ``drain`` seconds for the handlers; a second signal ends the
        drain. Their former handlers are back afterwards.

        Raises:
            ValueError: this is not the main thread, where alone signals can be handled; join() waits as well. Or
                a wrong drain.
        """
        checked_timeout(drain, "drain")
        with stopped_by_signals(self._on_signal):
            while not (self._signalled or self.join(HEARD_WITHIN)):
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

    def _on_signal(self, again: bool) -> None:
        # Flags alone: a lock may be held by what the signal has interrupted.
        self._signalled, self._hurried = True, again

    def _is_handling(self, thread: Thread) -> bool:
        with self._lock:
            return thread in self._handling

    def _serve(self) -> None:
        thread = current_thread()
        while not self._stopping.is_set():
            datagram = self._receive()
            if datagram is None:
                continue
            with self._lock:
                if self._stopping.is_set():
                    return
                self._handling.add(thread)
            try:
                self._handler(datagram)
            except (Exception, SystemExit) as error:
                if not (self._stopping.is_set() and isinstance(error, SocketError)):
                    log.error("%s: the handler for %s failed", self._name, datagram.address, exc_info=True)
            finally:
                with self._lock:
                    self._handling.discard(thread)

    def _receive(self) -> Datagram | None:
        udp = self.socket
        try:
            data, sockaddr, address, beside = udp._receive_for_server(self._size, self._everywhere)
            to, answer = destination(beside) if beside else (None, [])
            return Datagram(udp, data, address, sockaddr, to, answer)
        except DatagramTruncated as condition:
            log.warning("%s: %s; it is dropped", self._name, condition)
        except StreamClosed:
            if not self._stopping.is_set():
                log.error("%s: its socket was closed; the server ends", self._name)
                self._stopping.set()
        except SocketIOError as condition:
            log.error("%s: %s; going on", self._name, condition)
            self._stopping.wait(PAUSE_AFTER_FAILURE)
        return None
