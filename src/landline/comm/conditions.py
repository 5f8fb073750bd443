"""The manual's conditions, by its names, and their readers.

They are landline's own: whatever raises one is caught by either name. The manual's ``simple-error`` is OSError here.

Source: LispWorks manual, socket-error and its neighbours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ..errors import (
    SocketConnectError,
    SocketCreateError,
    SocketError,
    SocketIOError,
    SslClosed,
    SslCondition,
    SslError,
    SslFailure,
    SslHandshakeTimeout,
    SslVersionOrCipherMismatch,
)
from ..sync.stream import SocketStream

__all__ = [
    "EndOfFile",
    "about",
    "checked_stream",
    "end_of_file",
    "socket_connect_error",
    "socket_create_error",
    "socket_error",
    "socket_error_code",
    "socket_error_connection",
    "socket_io_error",
    "ssl_closed",
    "ssl_condition",
    "ssl_condition_ssl_code",
    "ssl_error",
    "ssl_failure",
    "ssl_handshake_timeout",
    "ssl_verification_failure",
    "ssl_version_or_cipher_mismatch",
    "ssl_x509_lookup",
]

socket_error = SocketError
socket_create_error = SocketCreateError
socket_connect_error = SocketConnectError
socket_io_error = SocketIOError
ssl_condition = SslCondition
ssl_closed = SslClosed
ssl_error = SslError
ssl_failure = SslFailure
ssl_handshake_timeout = SslHandshakeTimeout
ssl_version_or_cipher_mismatch = SslVersionOrCipherMismatch
if TYPE_CHECKING:
    from ..errors import SslVerificationFailure as ssl_verification_failure


class ssl_x509_lookup(SslCondition):
    """A user's callback refused a certificate while OpenSSL was asking for one (SSL_ERROR_WANT_X509_LOOKUP).

    Differs: Python's ssl has no such callback, so nothing signals it. The name is there to be caught.
    """


class EndOfFile(EOFError):
    """The end of a stream, where a function of Common Lisp's was told to make it an error.

    Attributes:
        stream: the stream.

    When it was the stream's read timeout that was taken for the end, ``__cause__`` is the ReadTimeout.
    """

    stream: SocketStream

    def __init__(self, stream: SocketStream) -> None:
        super().__init__(f"end of file on {stream!r}")
        self.stream = stream


end_of_file = EndOfFile


def socket_error_code(condition: SocketError) -> int | None:
    """The operating system's number of an error (errno), or None.

    Source: LispWorks manual, socket-error.
    """
    return _checked(condition).errno


def socket_error_connection(condition: SocketError) -> SocketStream | None:
    """The stream that it is about; None when the error came before there was one.

    Differs: only what the functions of this module signal knows its stream; what a stream's own methods raise has an
    ``address``.

    Source: LispWorks manual, socket-error.
    """
    return _STREAMS.get(_checked(condition))


def ssl_condition_ssl_code(condition: SslCondition) -> object:
    """What is known beside the type: "closed", "verify-callback", ("verification", number), a reason, or None.

    ("verification", number) holds OpenSSL's X509_V_ERR_ number.

    Differs: a reason of OpenSSL's is text
    ("WRONG_VERSION_NUMBER"), where the manual has OpenSSL's number for it; that number is another one in each version.

    Source: LispWorks manual, ssl-condition.
    """
    if not isinstance(condition, SslCondition):
        raise TypeError(f"condition={condition!r} is not allowed: it must be an ssl_condition")
    code = condition.ssl_code
    if code is None and isinstance(condition, SslClosed):
        return "closed"
    return code.replace("_", "-") if code in ("verify_callback", "sni_callback") else code


def __getattr__(name: str) -> Any:
    # It derives from a class of the ssl module, which is slow to import.
    if name != "ssl_verification_failure":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ..errors import SslVerificationFailure

    return SslVerificationFailure


def checked_stream(stream: object) -> SocketStream:
    """``stream``, if it is one of landline's byte streams. Raises TypeError."""
    if not isinstance(stream, SocketStream):
        raise TypeError(f"stream={stream!r} is not allowed: it must be a socket_stream")
    return stream


class about:
    """``with about(stream):`` conditions remember ``stream`` for socket_error_connection()."""

    __slots__ = ("_stream",)

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, SocketError):
            _STREAMS[error] = self._stream


# Not an attribute of the condition: one that is pickled would have to take its stream along.
_STREAMS: WeakKeyDictionary[SocketError, Any] = WeakKeyDictionary()


def _checked(condition: SocketError) -> SocketError:
    if not isinstance(condition, SocketError):
        raise TypeError(f"condition={condition!r} is not allowed: it must be a socket_error")
    return condition
