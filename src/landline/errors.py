"""The conditions: every way in which the network, or this machine, can disappoint a caller.

The tree follows the manual's (socket-error and below it create, connect, I/O and SSL conditions) and hangs
under OSError, so that code which catches OSError, TimeoutError, ConnectionRefusedError or
ssl.SSLCertVerificationError goes on working when it moves to landline.

* A condition reads as one sentence and carries the parts of it as attributes.
* Errors are sorted by who has to act: SocketCreateError is this machine, SocketConnectError the way to
  the peer, SocketIOError a connection that existed. Wrong arguments are no conditions but TypeError and
  ValueError.
* "Kin": when the operating system's own error was, say, ECONNREFUSED, the condition raised is also a
  ConnectionRefusedError. The combined classes are made on demand; writing out the product by hand was
  rejected, since nobody needs their names.

Source: LispWorks manual, pages of socket-error and ssl-condition; the rest is this library's own.
"""

from __future__ import annotations

import socket
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import ssl

    from .report import ConnectionReport

__all__ = [
    "ConnectTimeout",
    "HostLookupError",
    "IncompleteRead",
    "LimitOverrun",
    "ReadTimeout",
    "SocketConnectError",
    "SocketCreateError",
    "SocketError",
    "SocketIOError",
    "SslClosed",
    "SslCondition",
    "SslError",
    "SslFailure",
    "SslHandshakeTimeout",
    "SslVerificationFailure",
    "SslVersionOrCipherMismatch",
    "StreamClosed",
    "WriteTimeout",
]


class SocketError(OSError):
    """The root of all conditions.

    Attributes:
        operation: what was being done, one word ("connect", "receive", "send", "lookup", ...) or None.
        address: what it was done to: a SocketAddress, a host as text, or None.
        report: the ConnectionReport of the opening, where there is one.
        errno: the operating system's number, where it had one.
    """

    operation: str | None
    address: object
    report: ConnectionReport | None

    def __init__(
        self,
        message: str,
        *,
        operation: str | None = None,
        address: object = None,
        report: ConnectionReport | None = None,
        errno: int | None = None,
    ) -> None:
        if errno is None:
            super().__init__(message)
        else:
            super().__init__(errno, message)
        self.operation = operation
        self.address = address
        self.report = report

    def __str__(self) -> str:
        # OSError would print "[Errno 111] ..." before a text that is a sentence already.
        return str(self.args[-1]) if self.args else type(self).__name__

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (*_parts(type(self)), self.args, self.__dict__.copy())


class SocketCreateError(SocketError):
    """Local work failed before anything was sent: a bad local address, no descriptors, an unknown service."""


class SocketConnectError(SocketError):
    """Connecting failed. ``report`` lists every address tried, when, and why it failed.

    Where all attempts failed for one reason the condition is also that reason's own exception
    (ConnectionRefusedError, TimeoutError, PermissionError, ...).
    """


class HostLookupError(SocketConnectError, socket.gaierror):
    """The name was not found, or no name server answered. ``errno`` is the EAI_ code of getaddrinfo."""


class ConnectTimeout(SocketConnectError, TimeoutError):
    """The time for the whole connect (lookup and every attempt) ran out. Nothing is left open."""


class SocketIOError(SocketError):
    """An established connection failed. But for those kinds that say otherwise it is of no further use: close it."""


class ReadTimeout(SocketIOError, TimeoutError):
    """Nothing, or not enough, came in time. Nothing was consumed: the same call goes on where this one stopped."""


class WriteTimeout(SocketIOError, TimeoutError):
    """Not everything could be sent in time. The rest is kept: flush() goes on where this call stopped.

    Attributes:
        accepted: payload bytes taken over from the caller since the stream opened; never write them again.
        sent: payload bytes handed to the operating system since the stream opened.
    """

    accepted: int
    sent: int

    def __init__(self, message: str, *, accepted: int, sent: int, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.accepted = accepted
        self.sent = sent


class StreamClosed(SocketIOError, ValueError):
    """This side closed the stream, perhaps from another thread. (A ValueError too, as io expects of closed files.)

    Attributes:
        accepted, sent: as in WriteTimeout, when it was a stream that was closed; the difference was dropped.
    """

    accepted: int | None = None
    sent: int | None = None


class LimitOverrun(SocketIOError):
    """No line end or separator within the limit. Nothing was consumed: raise the limit, or read otherwise.

    Attributes:
        limit: the limit in force, in bytes (characters on a text stream).
    """

    limit: int

    def __init__(self, message: str, *, limit: int, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.limit = limit


class SslCondition(SocketError):
    """Something about TLS.

    Attributes:
        ssl_code: the TLS library's own code, the name of the callback that refused, or None.
    """

    ssl_code: object

    def __init__(self, message: str, *, ssl_code: object = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.ssl_code = ssl_code


class SslClosed(SslCondition):
    """The peer closed TLS properly, where more was to be exchanged."""


class SslError(SslCondition):
    """The transport under TLS broke, or the peer vanished without close_notify (truncation)."""


class SslFailure(SslCondition):
    """The two sides do not agree, or the other side does not speak TLS."""


class SslVersionOrCipherMismatch(SslFailure):
    """No common protocol version or cipher."""


class SslHandshakeTimeout(SslCondition, TimeoutError):
    """The handshake was not done in time."""


class IncompleteRead(EOFError):
    """The peer ended before what was asked for was complete. ``partial`` has been consumed.

    Attributes:
        partial: what there was (bytes, or str on a text stream).
        expected: how many bytes or characters were asked for; None when a separator was searched.
    """

    partial: bytes | str
    expected: int | None

    def __init__(self, partial: bytes | str, expected: int | None) -> None:
        super().__init__(partial, expected)
        self.partial = partial
        self.expected = expected

    def __str__(self) -> str:
        unit = "characters" if isinstance(self.partial, str) else "bytes"
        wanted = "the separator" if self.expected is None else f"{self.expected} {unit}"
        return f"the peer ended after {len(self.partial)} {unit}, before {wanted} came"


if TYPE_CHECKING:

    class SslVerificationFailure(SslCondition, ssl.SSLCertVerificationError):
        """The certificate was refused. Also an ssl.SSLCertVerificationError."""


def __getattr__(name: str) -> Any:
    # SslVerificationFailure derives from a class of the ssl module, whose import costs more than all
    # of landline: it is made when somebody first asks for it.
    if name != "SslVerificationFailure":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import ssl

    made = type(
        name,
        (SslCondition, ssl.SSLCertVerificationError),
        {
            "__module__": __name__,
            "__doc__": "The certificate was refused. Also an ssl.SSLCertVerificationError.",
        },
    )
    globals()[name] = made
    return made


Condition = TypeVar("Condition", bound=SocketError)


def with_kin(condition: type[Condition], error: BaseException | type[BaseException] | None) -> type[Condition]:
    """The class to raise: ``condition`` itself, or ``condition`` that is also the class of ``error``.

    Only the specific classes count (ConnectionResetError, PermissionError, ValueError, ...): OSError itself
    says nothing more, and BlockingIOError would be a lie about a condition.
    """
    kin = error if isinstance(error, type) else type(error)
    specific = issubclass(kin, OSError) and kin.__module__ == "builtins" and kin not in (OSError, BlockingIOError)
    if issubclass(condition, kin) or not (specific or kin is ValueError):
        return condition
    combined: type[Condition] = _combined((condition, kin))
    return combined


@cache
def _combined(parts: tuple[Any, Any]) -> Any:
    condition, kin = parts
    facts = {"__module__": condition.__module__, "__doc__": condition.__doc__, "_parts": parts}
    return type(condition.__name__, (condition, kin), facts)


def _parts(made: type[SocketError]) -> tuple[type[SocketError], type[BaseException] | None]:
    parts: tuple[type[SocketError], type[BaseException] | None] = made.__dict__.get("_parts", (made, None))
    return parts


def _unpickle(
    condition: type[SocketError], kin: type[BaseException] | None, args: tuple[Any, ...], facts: dict[str, Any]
) -> SocketError:
    made: type[SocketError] = condition if kin is None else _combined((condition, kin))
    error = made.__new__(made, *args)
    OSError.__init__(error, *args)
    error.__dict__.update(facts)
    return error
