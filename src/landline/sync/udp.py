"""UdpSocket: datagrams, with the clocks, conditions and ends of a stream.

* A datagram is always received whole, whatever size the caller has asked for (none is longer than 64 KiB, and to ask
  for as much costs nothing that can be measured). So one that is too long is known on every system, and its length
  too; MSG_TRUNC, which tells that on Linux alone, is not needed.
* The kernel gives each datagram whole, to one thread, so threads need not take turns. Each notes that it is inside, and
  the descriptor is released when nobody is any more: a number that is used again while a thread is about to use it
  would send one socket's datagrams by another. (A lock per direction, as streams have it, was slower: with several
  receiving threads every datagram woke two of them.)
* On Linux the kernel keeps the time of read_timeout (wait.py): one system call per datagram.

close() from another thread: shutdown(SHUT_RD), which wakes who is blocked in a stream, does so for datagrams too (on a
socket that is not connected Linux does it, and reports ENOTCONN).

Two lines that call nothing are one step for other threads; between them no other thread runs. Counters rest on that.
"""

from __future__ import annotations

import io
import socket
import warnings
from _thread import RLock, get_ident
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from ..address import Host, HostSpec, ServiceSpec, SocketAddress, parse_host, parse_service
from ..deadline import Deadline, checked_timeout
from ..errors import ConnectTimeout, SocketError, StreamClosed
from ..report import ConnectionReport
from .cancel import Cancel
from .face import StreamDeadline
from .udp_conditions import (
    not_delivered,
    receive_failed,
    receive_timed_out,
    send_failed,
    send_timed_out,
    socket_closed,
    truncated,
)
from .udp_control import FROM_ICMP, ROOM, Beside, next_undelivered
from .udp_options import UdpOptions
from .udp_state import Clocks, Side
from .wait import KernelWaits, Waits, choose_waits, wait_for_sockets

if TYPE_CHECKING:
    from typing import Self

    from _typeshed import ReadableBuffer

    from .channel import Channel

__all__ = ["LARGEST_SIZE", "UdpSocket", "checked_size"]

LARGEST_SIZE = 65535
"""Bytes: no datagram of IPv4 or IPv6 has more (but RFC 2675's jumbograms, which nobody sends)."""

MOST_TRIES = 3
"""How often a datagram is sent again when the error was about another one, sent before it."""

R = TypeVar("R")


class UdpSocket(UdpOptions):
    """A datagram socket, connected to one peer or not.

    Made by open_udp_socket() and by UDP servers; from a datagram socket of one's own (bound or connected) it is made
    directly, and owns it from then on.

    Args:
        sock: a datagram socket, IPv4 or IPv6.
        read_timeout, write_timeout: seconds before ReadTimeout or WriteTimeout; None is no limit, 0 does not wait.
            Settable attributes.

    Attributes:
        local_address: where it is bound; also after close(). ("::" of a socket for both families is every address.)
        peer_address: the peer that it is connected to, or None; also after close().
        report: what was tried to open it; None for an unconnected one, and where landline did not open it.
        datagrams_sent, bytes_sent, datagrams_received, bytes_received: payload, since it was opened.

    Any number of threads may send and receive at the same time. No failure but StreamClosed is the end of it: after
    a timeout, a datagram too long or an ICMP refusal the socket is as good as before.

    Source: LispWorks manual, create-async-io-state-and-udp-socket, -receive-message, -send-message(-to-address).
    """

    __slots__ = (
        "__weakref__", "_both", "_clocks", "_closed", "_direct", "_kernel", "_last", "_left", "_lookups",
        "_read_timeout", "_receiving", "_recv", "_recvfrom", "_released", "_send", "_sending",
        "_sendto", "_sock", "_state", "_tells", "_waits", "_watchers", "_write_timeout", "bytes_received", "bytes_sent",
        "datagrams_received", "datagrams_sent", "local_address", "peer_address", "report",
    )  # fmt: skip

    def __init__(
        self,
        sock: socket.socket,
        *,
        read_timeout: float | None = None,
        write_timeout: float | None = None,
    ) -> None:
        read_timeout = checked_timeout(read_timeout, "read_timeout")
        write_timeout = checked_timeout(write_timeout, "write_timeout")
        if sock.type != socket.SOCK_DGRAM or sock.family not in (socket.AF_INET, socket.AF_INET6):
            raise ValueError(f"sock={sock!r} is not allowed: it must be a datagram socket of IPv4 or IPv6")
        self._begin(sock, None, False)
        self.read_timeout = read_timeout
        self.write_timeout = write_timeout

    @classmethod
    def _over(cls, sock: socket.socket, report: ConnectionReport | None = None, tells: bool = False) -> Self:
        """For open_udp_socket(). ``tells``: ICMP messages are kept for it (udp_control.py)."""
        self = cls.__new__(cls)
        self._begin(sock, report, tells)
        return self

    def _begin(self, sock: socket.socket, report: ConnectionReport | None, tells: bool) -> None:
        self._both = sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        self.local_address = self._address(sock.getsockname())
        self.peer_address: SocketAddress | None = None
        with suppress(OSError):
            self.peer_address = self._address(sock.getpeername())
            self._both = self._both and ":" not in self.peer_address.host
        self.report = report
        self.datagrams_sent = self.bytes_sent = self.datagrams_received = self.bytes_received = 0
        self._tells = tells
        self._clocks = Clocks()
        self._lookups = Cancel()
        super().__init__()
        self._state = RLock()
        self._receiving, self._sending = Side(), Side()
        self._left: Event | None = None
        self._closed: str | None = None
        self._watchers: tuple[Callable[[], object], ...] = ()
        self._released = False
        self._read_timeout: float | None = None
        self._write_timeout: float | None = None
        self._sock = sock
        self._recv = sock.recv
        self._recvfrom = sock.recvfrom
        self._send = sock.send
        self._sendto = sock.sendto
        self._last: tuple[object, object, Any, SocketAddress] = (object(), None, None, self.local_address)
        self._waits: Waits = choose_waits(sock)
        self._kernel = isinstance(self._waits, KernelWaits)
        self._direct = self._kernel and not tells

    # Receiving

    def receive(self, size: int = LARGEST_SIZE) -> bytes:
        """The next datagram's payload, b"" for an empty one.

        Args:
            size: in bytes; a longer datagram raises DatagramTruncated.

        Raises:
            ReadTimeout: none came in time.
            DatagramTruncated: what fitted is its ``data``; the datagram is consumed.
            SocketIOError: an earlier datagram was refused (also a ConnectionRefusedError) or not delivered, as ICMP
                says; or the system has failed. The next call goes on.
            StreamClosed: this side has closed the socket.
        """
        if self.peer_address is None:
            return self.receive_from(size)[0]
        if size != LARGEST_SIZE:
            checked_size(size)
        data: bytes = self._receive(self._recv)
        if len(data) > size:
            raise truncated(self, data, size, self.peer_address)
        return data

    def receive_from(self, size: int = LARGEST_SIZE) -> tuple[bytes, SocketAddress]:
        """The next datagram's payload, and who sent it. As receive() otherwise."""
        if self.peer_address is not None:
            return self.receive(size), self.peer_address
        if size != LARGEST_SIZE:
            checked_size(size)
        data, sockaddr = self._receive(self._recvfrom)
        sender = self._address(sockaddr)
        if len(data) > size:
            raise truncated(self, data, size, sender)
        return data, sender

    def _receive_for_server(self, size: int, beside: bool) -> tuple[bytes, Any, SocketAddress, Beside]:
        """The same with the sender as the system has it and, if wanted, what came beside the datagram."""
        taken = self._receive(self._receive_beside if beside else self._recvfrom)
        data, sockaddr = taken[0], taken[-1]
        sender = self._address(sockaddr)
        if len(data) > size:
            raise truncated(self, data, size, sender)
        return data, sockaddr, sender, taken[1] if beside else []

    def _receive_beside(self, size: int, flags: int = 0) -> tuple[bytes, Beside, int, Any]:
        return self._sock.recvmsg(size, ROOM, flags)

    def input_ready(self) -> bool:
        """A receive would not wait: there is a datagram, or a refusal to be told of."""
        self._check_open()
        return bool(wait_for_sockets([self._sock.fileno()], (), 0))

    def _receive(self, take: Callable[..., Any]) -> Any:
        """What ``take`` gives: the payload, or a tuple that begins with it."""
        inside, me = self._receiving.inside, get_ident()
        try:
            inside.append(me)  # the first in here: no signal handler comes between
            if self._closed is not None:  # after that, for close() looks after closing who is inside
                raise socket_closed(self, self._closed)
            if self._direct and not self._clocks.deadlines:
                taken = take(LARGEST_SIZE)
            else:
                taken = self._receive_polled(take)
            data = taken if taken.__class__ is bytes else taken[0]
            size = len(data)
            if not size and (self._closed is not None or taken[-1:] == (None,)):
                raise socket_closed(self, self._closed or "the socket was shut down")
            self.datagrams_received += 1
            self.bytes_received += size
            return taken
        except BlockingIOError:
            raise receive_timed_out(self, self._read_timeout) from None
        except OSError as error:
            if isinstance(error, SocketError):
                raise
            if self._closed is not None:
                raise socket_closed(self, self._closed) from error
            raise receive_failed(self, error) from error
        finally:
            inside.remove(me)
            if self._left is not None:
                self._left.set()

    def _receive_polled(self, take: Callable[..., R]) -> R:
        """Wait by polling: for a deadline, for ICMP messages, and where the kernel keeps no time."""
        until: Deadline | None = None
        while True:
            if self._closed is not None:
                raise socket_closed(self, self._closed)
            if self._clocks.overdue():
                raise BlockingIOError
            try:
                return take(LARGEST_SIZE, _NOW)
            except BlockingIOError:
                pass
            except ConnectionResetError:
                if self.peer_address is not None:
                    raise
                continue  # Windows: something was refused, and it does not say what
            except OSError as error:
                if not self._tells or error.errno not in FROM_ICMP:
                    raise
            if self._tells:
                self._tell_undelivered()
            if until is None:
                until = Deadline.after(self._clocks.limit(self._read_timeout))
            limit = until.limit()
            if limit == 0 or not self._wait(self._receiving, limit):
                raise BlockingIOError

    def _tell_undelivered(self) -> None:
        """Raise the condition for the next ICMP message, if there is one."""
        message = next_undelivered(self._sock)
        if message is not None:
            number, sockaddr = message
            raise not_delivered(self, number, self._address(sockaddr))

    # Sending

    def send(self, data: ReadableBuffer) -> None:
        """Send one datagram to the peer that the socket is connected to.

        Raises:
            WriteTimeout: the system's buffer was full for too long. Nothing was sent: send it again.
            SocketIOError: not sent. Too big: errno EMSGSIZE, and the message names the limit. Refused (also a
                ConnectionRefusedError): that was an *earlier* datagram, and this one was not sent either.
            StreamClosed: this side has closed the socket.
            io.UnsupportedOperation: the socket is not connected.
        """
        if self.peer_address is None:
            self._refuse("not connected: send_to(data, host, service)")
        self._hand_over(data, None, self.peer_address)

    def send_to(self, data: ReadableBuffer, host: HostSpec, service: ServiceSpec) -> None:
        """Send one datagram to somebody: ``send_to(data, *address)`` for what receive_from() gave.

        A name is looked up for each datagram, within write_timeout, and the first of its addresses that has a route is
        taken (RFC 6724's order). For many datagrams look at an answer's address, or connect the socket.

        Raises:
            HostLookupError, SocketConnectError: the name was not found, or none of its addresses has a route.
            TypeError, ValueError: a wrong argument, or an address of a family that the socket is not for.
            io.UnsupportedOperation: the socket is connected.

        and what send() raises, of which a refusal is never told here.
        """
        last = self._last
        if host == last[0] and service == last[1]:
            self._hand_over(data, last[2], last[3])
            return
        if self.peer_address is not None:
            self._refuse(f"connected to {self.peer_address}: send(data)")
        parsed = parse_host(host)
        port = parse_service(service, "udp")
        if not port:
            raise ValueError(f"service={service!r} is not allowed: nobody receives at port 0")
        if parsed.address is None:
            address = self._found(parsed, port)
            sockaddr = self._sockaddr(address)
        else:
            address = SocketAddress(parsed.address, port)
            sockaddr = self._sockaddr(address)
            if "%" not in parsed.address:  # what a zone's name stands for may change
                self._last = (host, service, sockaddr, address)
        self._hand_over(data, sockaddr, address)

    def _hand_over(
        self, data: ReadableBuffer, sockaddr: Any, address: SocketAddress, beside: Beside | None = None
    ) -> None:
        inside, me = self._sending.inside, get_ident()
        until: Deadline | None = None
        sent = 0
        tries = 1
        try:
            inside.append(me)
            while True:
                if self._closed is not None:
                    raise socket_closed(self, self._closed)
                if self._clocks.deadlines and self._clocks.overdue():
                    raise send_timed_out(self, address)
                try:
                    if sockaddr is None:
                        sent = self._send(data, _NOW)
                    elif beside:
                        sent = self._sock.sendmsg([data], beside, _NOW, sockaddr)
                    else:
                        sent = self._sendto(data, _NOW, sockaddr)
                    break
                except BlockingIOError:
                    if until is None:
                        until = Deadline.after(self._clocks.limit(self._write_timeout))
                    limit = until.limit()
                    if limit == 0 or not self._wait(self._sending, limit):
                        raise send_timed_out(self, address) from None
                except OSError:
                    if not self._tells or tries == MOST_TRIES:
                        raise
                    tries += 1  # it may be about an earlier datagram, and receives tell that
            self.datagrams_sent += 1
            self.bytes_sent += sent
        except OSError as error:
            if isinstance(error, SocketError):
                raise
            if self._closed is not None:
                raise socket_closed(self, self._closed) from error
            raise send_failed(self, error, data, address) from error
        finally:
            inside.remove(me)
            if self._left is not None:
                self._left.set()

    def _found(self, host: Host, port: int) -> SocketAddress:
        from .udp_connect import find_route

        self._check_open()
        try:
            return find_route(host, port, self._families, self._clocks.limit(self._write_timeout), self._lookups)
        except StreamClosed:
            raise socket_closed(self, self._closed or "the socket was closed on this side") from None
        except ConnectTimeout as error:
            raise send_timed_out(self, f"{host.text} port {port}", "no address was found for") from error

    # Clocks

    def deadline(self, seconds: float | None) -> StreamDeadline:
        """``with udp.deadline(seconds):`` bounds everything inside, however much comes; as a stream's deadline().

        When it has passed every receive raises ReadTimeout and every send WriteTimeout. The earliest of nested ones
        wins, for every thread that uses the socket.
        """
        return StreamDeadline(cast("Channel", self._clocks), checked_timeout(seconds, "seconds"))

    @property
    def read_timeout(self) -> float | None:
        """Seconds without a datagram before ReadTimeout; None is no limit, 0 does not wait."""
        return self._read_timeout

    @read_timeout.setter
    def read_timeout(self, seconds: float | None) -> None:
        self._check_open()
        seconds = checked_timeout(seconds, "read_timeout")
        self._waits.limited(seconds)
        self._read_timeout = seconds
        self._direct = self._kernel and seconds != 0 and not self._tells

    @property
    def write_timeout(self) -> float | None:
        """Seconds for one datagram before WriteTimeout, looking a name up included; None is no limit."""
        return self._write_timeout

    @write_timeout.setter
    def write_timeout(self, seconds: float | None) -> None:
        self._check_open()
        self._write_timeout = checked_timeout(seconds, "write_timeout")

    # Addresses

    def _address(self, sockaddr: Any) -> SocketAddress:
        """An address as people write it: without the ::ffff: that IPv4 has on a socket for both families."""
        host = sockaddr[0]
        if self._both and host.startswith("::ffff:") and "." in host:
            host = host[7:]
        elif len(sockaddr) > 2 and sockaddr[3]:
            return SocketAddress.from_sockaddr(sockaddr)
        return _new(SocketAddress, (host, sockaddr[1]))

    def _sockaddr(self, address: SocketAddress) -> Any:
        """The same as this socket's system calls want it."""
        ipv6 = ":" in address.host
        if ipv6 == (self._sock.family == socket.AF_INET6):
            return address.sockaddr()
        if not ipv6 and self._both:
            return (f"::ffff:{address.host}", address.port, 0, 0)
        raise ValueError(f"host={address.host!r} is not allowed on this socket, which is for {self._for_what}")

    # Ending

    def close(self) -> None:
        """Release the descriptor. Threads that are blocked in it get StreamClosed within milliseconds."""
        with self._state:
            if self._left is None:
                self._left = Event()
            self._closed = "the socket was closed on this side"
            for tell in self._watchers:
                tell()
            self._lookups.set()
            while True:
                self._left.clear()
                blocked = [side for side in (self._receiving, self._sending) if side.has_others()]
                if not blocked:
                    break
                for side in blocked:
                    self._wake(side)
                self._left.wait()
            if not self._released:
                self._released = True
                self._release()
            self._left.set()  # for a close() that this one has interrupted

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        return self._closed is not None

    def fileno(self) -> int:
        """The socket's descriptor, for select() and the like. Do not receive from or send by it."""
        self._check_open()
        return self._sock.fileno()

    def __del__(self) -> None:
        if not getattr(self, "_released", True):
            try:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            finally:
                self._released = True
                self._release()

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        peer = "" if self.peer_address is None else f" -> {self.peer_address}"
        return f"<{type(self).__name__} {self.local_address}{peer}{state}>"

    def _wait(self, side: Side, limit: float | None) -> bool:
        """Poll until the socket is ready for the side, or closed; False when ``limit`` seconds have passed."""
        receiving = side is self._receiving
        wakeups = [] if receiving and self._kernel else [side.wakeup_fileno()]
        if self._closed is not None:  # after that, as _wake() has it the other way
            if self._released:  # by a signal handler that came in between
                side.close()
            return True
        here = [self._sock.fileno()]
        return bool(wait_for_sockets(here + wakeups if receiving else wakeups, () if receiving else here, limit))

    def _wake(self, side: Side) -> None:
        """End the side's waits, after closing."""
        if side.wakeup is not None:
            side.wakeup.set()
        if side is self._receiving:
            self._waits.wake(True, False)

    def _release(self) -> None:
        for side in (self._receiving, self._sending):
            side.close()
        self._waits.close()
        self._sock.close()

    def _watch(self, tell: Callable[[], object]) -> None:
        """Have ``tell`` called by close(): for ready.py, which holds no lock while it waits."""
        with self._state:
            self._watchers = (*self._watchers, tell)

    def _unwatch(self, tell: Callable[[], object]) -> None:
        with self._state:
            self._watchers = tuple(each for each in self._watchers if each is not tell)

    def _check_open(self) -> None:
        if self._closed is not None:
            raise socket_closed(self, self._closed)

    def _refuse(self, why: str) -> NoReturn:
        self._check_open()
        raise io.UnsupportedOperation(f"this socket is {why}")


def checked_size(size: int) -> int:
    """``size``, a number of bytes. Raises TypeError or ValueError."""
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"size={size!r} is not allowed: it must be a whole number of bytes")
    if size < 0:
        raise ValueError(f"size={size!r} is not allowed: it must be 0 or more bytes")
    return size


# A send never blocks in the kernel (wait.py says why); nor does a receive whose time is kept by polling.
_NOW = getattr(socket, "MSG_DONTWAIT", 0)


_new = tuple.__new__  # half the cost of calling the class, for every datagram
