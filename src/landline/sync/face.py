"""What byte and text streams have in common: clocks, facts and ends, all of them the channel's.

A mixin over one attribute, ``_channel``. It has no state of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from ..address import HostSpec, SocketAddress
from ..deadline import Deadline, checked_timeout
from ..report import ConnectionReport
from ..tls.names import NOT_GIVEN, NotGiven
from .channel import Channel
from .flow import Direction, checked_direction

if TYPE_CHECKING:
    import ssl
    from typing import Self

    from ..engine.proxy import ProxyHeader
    from ..tls.abstract import SslAbstractContext
    from ..tls.info import TlsInfo

__all__ = ["StreamDeadline", "StreamFace"]


class StreamFace:
    """The part of a stream that does not depend on what its elements are."""

    __slots__ = ()

    _channel: Channel

    # Clocks

    def deadline(self, seconds: float | None) -> StreamDeadline:
        """``with stream.deadline(seconds):`` bounds everything inside, a peer that drips included.

        It belongs to the stream, and so to every call that any thread begins inside it; the earliest of nested
        deadlines wins. When it has passed, whatever would receive raises ReadTimeout and whatever would send
        WriteTimeout, also if it need not wait, or a peer that floods us would never be left; and nothing is lost.
        """
        return StreamDeadline(self._channel, checked_timeout(seconds, "seconds"))

    @property
    def read_timeout(self) -> float | None:
        """Seconds without anything received before ReadTimeout; None is no limit, 0 does not wait."""
        return self._channel.read_timeout

    @read_timeout.setter
    def read_timeout(self, seconds: float | None) -> None:
        self._channel.read_timeout = checked_timeout(seconds, "read_timeout")

    @property
    def write_timeout(self) -> float | None:
        """Seconds without anything sent before WriteTimeout; None is no limit, 0 does not wait."""
        return self._channel.write_timeout

    @write_timeout.setter
    def write_timeout(self, seconds: float | None) -> None:
        self._channel.write_timeout = checked_timeout(seconds, "write_timeout")

    # Facts

    @property
    def local_address(self) -> SocketAddress | None:
        """This end's address and port, also after close()."""
        return self._channel.local_address

    @property
    def peer_address(self) -> SocketAddress | None:
        """The peer's address and port, also after close()."""
        return self._channel.peer_address

    @property
    def proxy_header(self) -> ProxyHeader | None:
        """What a trusted proxy told about this connection (a server's proxy_protocol); peer_address is its source."""
        return self._channel.proxy_header

    @property
    def report(self) -> ConnectionReport | None:
        """What was tried to open this connection; None when landline did not open it."""
        return self._channel.report

    @property
    def bytes_received(self) -> int:
        """Payload bytes received since the stream opened, those not read yet included."""
        return self._channel.bytes_received

    @property
    def bytes_sent(self) -> int:
        """Payload bytes handed to the operating system since the stream opened."""
        return self._channel.sending.sent

    @property
    def direction(self) -> Direction:
        return self._channel.direction

    # TLS

    @property
    def tls(self) -> TlsInfo | None:
        """What the TLS handshake agreed upon (version, cipher, ALPN, certificates), also after close().

        None when the stream does not speak TLS, or while the handshake is not done.
        """
        transport: Any = self._channel.transport
        return transport.info if transport.secure else None

    def start_tls(
        self,
        ssl_ctx: bool | str | ssl.SSLContext | SslAbstractContext = True,
        *,
        host: HostSpec | None = None,
        ssl_side: Literal["client", "server"] | None = None,
        handshake_timeout: float | None = None,
        tlsext_host_name: str | bool | NotGiven | None = NOT_GIVEN,
        ctx_configure_callback: Callable[[ssl.SSLContext], object] | None = None,
        ssl_configure_callback: Callable[[ssl.SSLObject], object] | None = None,
        leftover: Literal["refuse", "tls"] = "refuse",
    ) -> Self:
        """Speak TLS from here on (STARTTLS): what is pending is sent first, then both sides shake hands.

        Args:
            ssl_ctx: as for open_tcp_stream(); for a server, what create_ssl_server_context() gives, or an SSLContext.
            host: whom the peer's certificate must be for; the host that was asked for when the stream was opened, or
                else the peer's numeric address.
            ssl_side: "client" or "server"; where it is not given, "server" if ssl_ctx was made for servers.
            handshake_timeout: seconds for the handshake; None leaves it to the stream's deadline, or else its
                read_timeout.
            tlsext_host_name, ctx_configure_callback, ssl_configure_callback: as for open_tcp_stream().
            leftover: what becomes of bytes that were received and not read. The peer should have sent none: whoever
                is in between may have put them there, to be taken for the peer's words after TLS has begun. "refuse"
                raises SslError; "tls" takes them for the beginning of TLS (servers, behind a PROXY header).

        Raises:
            TypeError, ValueError: a wrong argument; TLS is active already; another thread is inside. Nothing changed.
            SslError: there is leftover plaintext; nothing changed, and it can still be read.
            SslHandshakeTimeout: not done in time; handshake() goes on with it. No payload passes before.
            SslCondition: the handshake failed; the stream is of no further use and should be closed.

        Returns:
            The stream itself.

        Source: LispWorks manual, attach-ssl.
        """
        from .handshake import start, upgrade_plan

        self._channel.check_open()
        if leftover not in ("refuse", "tls"):
            raise ValueError(f"leftover={leftover!r} is not allowed: it must be 'refuse' or 'tls'")
        limit = checked_timeout(handshake_timeout, "handshake_timeout")
        plan = upgrade_plan(
            self._channel,
            ssl_ctx,
            host,
            ssl_side,
            tlsext_host_name=tlsext_host_name,
            ctx_configure_callback=ctx_configure_callback,
            ssl_configure_callback=ssl_configure_callback,
        )
        start(self._channel, self, plan, limit, leftover, self._decoded())
        return self

    def handshake(self, timeout: float | None = None) -> None:
        """Go on with a handshake that was not done in time; nothing happens when it is done already.

        Args:
            timeout: seconds; None leaves it to the stream's deadline, or else its read_timeout.

        Raises:
            ValueError: TLS is not active, or another thread is inside.
            SslHandshakeTimeout: still not done; call again.
            SslCondition: it failed.

        Source: LispWorks manual, socket-stream-handshake.
        """
        from .handshake import go_on

        go_on(self._channel, self, checked_timeout(timeout, "timeout"))

    def stop_tls(self) -> Self:
        """End TLS on both sides, and go on in the clear: the connection stays. Without TLS nothing happens.

        What is pending is sent, then close_notify; then whatever the peer sends before its own close_notify is
        received, within read_timeout. It stays in front of what comes in the clear, so nothing is lost; but read
        first what must have come through TLS, for nothing marks where that ended.

        Raises:
            ReadTimeout, WriteTimeout: the peer has not done its part in time; stop_tls() again goes on.
            LimitOverrun: the peer sends on and on; read, and stop again.
            SslError: the peer ended the connection instead.
            ValueError: another thread is inside.

        Returns:
            The stream itself.

        Source: LispWorks manual, detach-ssl; RFC 8446 section 6.1.
        """
        self._channel.check_open()
        if self._channel.secure:
            from .handshake import stop

            stop(self._channel)
        return self

    # Ending

    def shutdown(self, direction: Direction, abort: bool = False) -> None:
        """End one direction, or both, of the connection. The descriptor stays: close() as well.

        Args:
            direction: "input": what is buffered can still be read, then reads raise StreamClosed.
                "output": what is pending is sent first, the peer sees the end, and reading goes on.
            abort: drop what is buffered, in both directions, instead (for "output" and "io"; not while another
                thread reads).

        Raises:
            WriteTimeout: not everything could be sent; nothing was shut down. (Over TLS, where only its own end was
                left to be sent, nothing more can be written, and shutdown() again goes on.)

        Over TLS the peer is told by close_notify, and the connection under it stays as it is.

        Source: LispWorks manual, socket-stream-shutdown.
        """
        checked_direction(direction)
        if direction != "input":
            if abort:
                self._drop_input()
            self._channel.shutdown_output(abort=abort)
        if direction != "output":
            self._channel.shutdown_input()

    def close(self) -> None:
        """Send what is pending (within write_timeout, at most 5 s), then release the descriptor in any case.

        A thread that is blocked in a read gets StreamClosed. So does one that is blocked in a write, and the
        rest of its data is dropped: it would have had to wait for it too.

        The end of a ``with`` block is this as well, also after an exception in it, as with files: where half a message
        must not look like a whole one abort() says so.

        Raises:
            WriteTimeout, SocketIOError: not everything could be sent. The stream is closed nevertheless.
        """
        self._channel.close()

    def abort(self) -> None:
        """Drop everything at once and reset the connection. Blocked threads get StreamClosed. Never raises."""
        self._channel.abort()

    def __enter__(self) -> Self:
        self._channel.check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _decoded(self) -> int:
        """How many characters were decoded and not read."""
        return 0

    def _drop_input(self) -> None:
        """Forget what was received and not read."""
        self._channel.check_open()
        self._channel.received.clear()

    @property
    def closed(self) -> bool:
        return self._channel.closed

    @property
    def name(self) -> int:
        """The descriptor, -1 when closed: what files without a path are called (io.TextIOWrapper asks)."""
        return -1 if self._channel.closed else self._channel.fileno()

    def fileno(self) -> int:
        """The socket's descriptor, for select() and the like. Do not read from or write to it."""
        return self._channel.fileno()

    def readable(self) -> bool:
        self._channel.check_open()
        return self._channel.direction != "output"

    def writable(self) -> bool:
        self._channel.check_open()
        return self._channel.direction != "input"

    def seekable(self) -> bool:
        self._channel.check_open()
        return False

    def isatty(self) -> bool:
        self._channel.check_open()
        return False


class StreamDeadline:
    """What stream.deadline() gives: enter it to start the clock. It may be entered again, also inside itself."""

    __slots__ = ("_channel", "_entered", "_seconds")

    def __init__(self, channel: Channel, seconds: float | None) -> None:
        self._channel = channel
        self._seconds = seconds
        self._entered: list[Deadline] = []

    def __enter__(self) -> Self:
        deadline = Deadline.after(self._seconds)
        self._entered.append(deadline)
        self._channel.push_deadline(deadline)
        return self

    def __exit__(self, *error: object) -> None:
        self._channel.pop_deadline(self._entered.pop())
