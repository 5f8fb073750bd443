"""The manual's socket-stream: landline's SocketStream with an element type, a handle, and initargs.

It *is* landline's stream, so everything that takes one takes it, and its own methods are Python's: they read and
write bytes (write() takes characters as well), and raise ReadTimeout. Common Lisp's functions (reading.py, writing.py)
are functions beside it, as they are in Lisp, and mix characters and bytes on any stream.

A text stream under it was rejected: it decodes ahead, and then bytes could not be read behind characters. Latin-1
needs no decoder; each byte is a character.

Source: LispWorks manual, socket-stream, socket-stream-shutdown, replace-socket-stream-socket, create-ssl-socket-stream.
"""

from __future__ import annotations

import socket as sockets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..address import SocketAddress
from ..errors import SocketError, SocketIOError, StreamClosed, with_kin
from ..sync.stream import SocketStream as BaseStream
from ..tls.names import NOT_GIVEN, NotGiven
from .conditions import about, checked_stream
from .keywords import ElementType, checked_element_type, checked_positive, keyword

if TYPE_CHECKING:
    import ssl
    from typing import Self

    from _typeshed import ReadableBuffer

    from ..sync.flow import Direction
    from ..sync.open import SslSpec
    from ..sync.transport import Transport

__all__ = [
    "Opened",
    "SocketStream",
    "close_socket_handle",
    "create_ssl_socket_stream",
    "replace_socket_stream_socket",
    "set_socket_stream_socket",
    "socket_stream",
    "socket_stream_shutdown",
    "socket_stream_socket",
    "stream_read_timeout",
    "stream_write_timeout",
]

DIRECTIONS = ("input", "output", "io")

SslSide = Literal["client", "server"]


class SocketStream(BaseStream):
    """A buffered stream on a socket. All arguments are keywords, the manual's initargs.

    Args:
        socket: the handle, a connected socket.socket, which the stream owns from then on; None makes a stream
            that is closed until set_socket_stream_socket() gives it one.
        direction: "input", "output" or "io".
        element_type: "base-char" (or str): Latin-1 characters; "unsigned-byte" (or bytes); "signed-byte".
        read_timeout, write_timeout: positive seconds without progress, or None.
        ssl_ctx, ssl_side, ctx_configure_callback, ssl_configure_callback, handshake_timeout, tlsext_host_name: as for
            attach_ssl(), which is called when ssl_ctx is not None.

    Attributes:
        read_timeout_action: what the functions of this module make of a read that timed out. "end-of-file", as the
            manual says: the function finds the end of the stream, although more may come. "error": ReadTimeout. In
            either case nothing is lost, and the next call goes on. Set it on one stream, on a subclass, or on
            SocketStream itself for all. (Python's own methods always raise ReadTimeout.)

    Raises:
        TypeError, ValueError: a wrong argument; the handle is still the caller's.
        SocketIOError: the handle is not connected; it is still the caller's.
        SslCondition: TLS could not be begun. The handle has been closed.

    Source: LispWorks manual, socket-stream.
    """

    read_timeout_action: Literal["end-of-file", "error"] = "end-of-file"

    def __init__(
        self,
        *,
        socket: sockets.socket | None = None,
        direction: Literal["input", "output", "io"] = "io",
        element_type: object = "base-char",
        read_timeout: float | None = None,
        write_timeout: float | None = None,
        ssl_ctx: SslSpec = None,
        ssl_side: SslSide = "server",
        ctx_configure_callback: Callable[[ssl.SSLContext], object] | None = None,
        ssl_configure_callback: Callable[[ssl.SSLObject], object] | None = None,
        handshake_timeout: float | None = None,
        tlsext_host_name: str | bool | NotGiven | None = NOT_GIVEN,
    ) -> None:
        way = keyword(direction, "direction", DIRECTIONS)
        self.element_type = checked_element_type(element_type)
        self._initargs: dict[str, Any] = {
            "direction": way,
            "read_timeout": checked_positive(read_timeout, "read_timeout"),
            "write_timeout": checked_positive(write_timeout, "write_timeout"),
        }
        if socket is None:
            if ssl_ctx is not None:
                raise ValueError("ssl_ctx is not allowed without socket: there is nothing to speak TLS over")
            return
        self._take(socket)
        if ssl_ctx is not None:
            from .attach import attach_ssl

            try:
                attach_ssl(
                    self,
                    ssl_ctx=ssl_ctx,
                    ssl_side=ssl_side,
                    ctx_configure_callback=ctx_configure_callback,
                    ssl_configure_callback=ssl_configure_callback,
                    handshake_timeout=handshake_timeout,
                    tlsext_host_name=tlsext_host_name,
                )
            except BaseException as error:
                if isinstance(error, SocketError) or self._channel.secure:
                    self.abort()
                else:  # nothing was begun: an argument is wrong
                    self._give_up()
                raise

    element_type: ElementType
    _line_limit: int | None = None

    @classmethod
    def _opened(cls, element_type: ElementType, transport: Transport, *, direction: Direction, **facts: Any) -> Self:
        """A stream over a transport, for open_tcp_stream()."""
        self = cls._over(transport, direction=direction, **facts)
        self.element_type = element_type
        self._initargs = {"direction": direction}
        return self

    def write(self, data: ReadableBuffer | str, /) -> int:
        """As landline's own; characters are written as Latin-1. Raises UnicodeEncodeError for those beyond it."""
        return super().write(data.encode("latin-1") if isinstance(data, str) else data)

    # Without a socket

    @property
    def closed(self) -> bool:
        return not self._has_socket or super().closed

    def close(self) -> None:
        if self._has_socket:
            super().close()

    def abort(self) -> None:
        if self._has_socket:
            super().abort()

    def __del__(self) -> None:
        if self._has_socket:
            super().__del__()

    def __repr__(self) -> str:
        return super().__repr__() if self._has_socket else f"<{type(self).__name__} without socket>"

    def __getattr__(self, name: str) -> Any:
        if name in BaseStream.__slots__:
            raise StreamClosed("this stream has no socket", operation=None)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    @property
    def _has_socket(self) -> bool:
        try:
            return object.__getattribute__(self, "_channel") is not None
        except AttributeError:
            return False

    def _take(self, handle: sockets.socket) -> None:
        super().__init__(_checked_handle(handle), **self._initargs)
        if self._line_limit is not None:
            self.line_limit = self._line_limit

    def _give_up(self) -> sockets.socket | None:
        """The handle, which nobody owns then; the stream has none. Raises as detach()."""
        if not self._has_socket or super().closed:
            return None
        self._initargs.update(read_timeout=self.read_timeout, write_timeout=self.write_timeout)
        self._line_limit = self.line_limit
        handle = self.detach()
        del self._channel
        return handle


socket_stream = SocketStream


class Opened(NamedTuple):
    """What opening with errorp=False gives: the stream and None, or None and the condition.

    ``with`` enters the stream, or raises the condition.
    """

    stream: SocketStream | None
    condition: SocketError | None

    def __enter__(self) -> SocketStream:
        if self.stream is None:
            assert self.condition is not None
            raise self.condition
        return self.stream.__enter__()

    def __exit__(self, *error: Any) -> None:
        assert self.stream is not None
        self.stream.__exit__(*error)


def socket_stream_socket(stream: SocketStream) -> sockets.socket | None:
    """The handle of a stream, which stays the stream's: to look at, and not to read from, write to or close.

    None when it has none. Differs: to set it, see set_socket_stream_socket().

    Source: LispWorks manual, socket-stream.
    """
    return None if checked_stream(stream).closed else stream._channel.handle()


def set_socket_stream_socket(stream: SocketStream, handle: sockets.socket | None) -> sockets.socket | None:
    """Go on with another handle; the old one is closed. The manual's (setf socket-stream-socket).

    Raises as replace_socket_stream_socket(). Returns the new handle.

    Source: LispWorks manual, socket-stream.
    """
    old = replace_socket_stream_socket(stream, handle)
    if old is not None and old is not handle:
        old.close()
    return handle


def replace_socket_stream_socket(stream: SocketStream, handle: sockets.socket | None) -> sockets.socket | None:
    """Go on with another handle, and give back the old one, which is the caller's then: blocking, without time limits.

    What was written is sent over the old handle first. Differs: what was received over it must have been read, and
    TLS have ended, or it would be taken for the other peer's words.

    Args:
        handle: a connected socket.socket; None leaves the stream without one (to close it and keep the socket).

    Raises:
        TypeError, ValueError: a wrong argument, received bytes have not been read, TLS is active, or another thread
            is inside. Nothing has changed.
        SocketIOError: the new handle is not connected, or what was written could not be sent. Nothing has changed.

    Source: LispWorks manual, replace-socket-stream-socket.
    """
    if not isinstance(stream, SocketStream):
        raise TypeError(f"stream={stream!r} is not allowed: it must be a comm.socket_stream")
    if handle is not None:
        _checked_handle(handle)
    with about(stream):
        old = stream._give_up()
    if handle is not None:
        stream._take(handle)
    return old


def create_ssl_socket_stream(
    socket: sockets.socket,
    ssl_ctx: SslSpec,
    *,
    errorp: object = False,
    stream_class: type[SocketStream] = SocketStream,
    **initargs: Any,
) -> Opened | SocketStream:
    """A stream on an accepted handle, with TLS unless ssl_ctx is None. It owns the handle, which a failure closes.

    Args:
        errorp: false gives (stream, None) or (None, condition); true gives the stream, or raises the condition.
        stream_class: socket_stream or a subclass.
        initargs: those of socket_stream; ssl_side is "server" where it is not given.

    Raises:
        TypeError, ValueError: a wrong argument.

    Source: LispWorks manual, create-ssl-socket-stream.
    """
    if not isinstance(socket, sockets.socket):
        raise TypeError(f"socket={socket!r} is not allowed: a handle is a connected socket.socket")
    try:
        if not (isinstance(stream_class, type) and issubclass(stream_class, SocketStream)):
            raise TypeError(f"stream_class={stream_class!r} is not allowed: it must be socket_stream or a subclass")
        stream = stream_class(socket=socket, ssl_ctx=ssl_ctx, **initargs)
    except SocketError as condition:
        socket.close()
        if errorp:
            raise
        return Opened(None, condition)
    except BaseException:
        socket.close()
        raise
    return stream if errorp else Opened(stream, None)


def socket_stream_shutdown(
    stream: BaseStream, direction: Literal["input", "output", "io"], *, abort: object = False
) -> None:
    """End one direction, or both. The descriptor stays: close() as well. As landline's shutdown().

    Source: LispWorks manual, socket-stream-shutdown.
    """
    way: Any = keyword(direction, "direction", DIRECTIONS)
    with about(stream):
        stream.shutdown(way, abort=bool(abort))


def close_socket_handle(handle: sockets.socket) -> None:
    """Close a handle that no stream owns.

    Source: LispWorks manual, close-socket-handle.
    """
    if not isinstance(handle, sockets.socket):
        raise TypeError(f"handle={handle!r} is not allowed: it must be a socket.socket")
    handle.close()


def stream_read_timeout(stream: BaseStream) -> float | None:
    """The read timeout of a stream, in seconds. It is set by assigning ``stream.read_timeout``.

    Source: LispWorks manual, stream:stream-read-timeout.
    """
    return stream.read_timeout


def stream_write_timeout(stream: BaseStream) -> float | None:
    """The write timeout of a stream, in seconds. It is set by assigning ``stream.write_timeout``.

    Source: LispWorks manual, stream:stream-write-timeout.
    """
    return stream.write_timeout


def address_pair(address: SocketAddress | None) -> tuple[Any, int | None]:
    """An address as the manual has it: an integer or an IPv6Address, and a port; None, None where there is none."""
    if address is None:
        return None, None
    ip = address.ip
    return (int(ip) if ip.version == 4 else ip), address.port


def _checked_handle(handle: object) -> sockets.socket:
    if not isinstance(handle, sockets.socket):
        raise TypeError(f"socket={handle!r} is not allowed: a handle is a connected socket.socket")
    try:
        handle.getpeername()
    except OSError as error:  # also when the peer of an accepted connection is gone already
        raise with_kin(SocketIOError, error)(
            f"the socket is of no use for a stream: {error.strerror or error}", operation="open", errno=error.errno
        ) from error
    return handle
