"""Unix domain sockets: streams to a path, and servers on one. Conditions, timeouts and streams as over TCP.

A path outlives the server that made it. One that is killed leaves a file behind to which nobody answers: such a stale
file is replaced, while a living server's is never touched. The new socket is made under another name, with its rights
set, and renamed into place, so that no client meets a socket that does not listen, or is open to the wrong people.

A name that begins with a NUL is abstract (Linux): it has no file, and vanishes with its server.

Source: unix(7).
"""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, TypeAlias, overload

from ..deadline import checked_timeout
from ..engine.text import checked_text_arguments
from ..errors import ConnectTimeout, SocketConnectError, SocketCreateError, SocketError, with_kin
from .flow import Direction, checked_direction
from .server import BACKLOG, Server, start_up_server
from .stream import SocketStream
from .text_stream import TextSocketStream
from .transport import PlainTransport

__all__ = ["PathSpec", "open_unix_stream", "start_up_unix_server"]

PathSpec: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

LONGEST_PATH = 107 if sys.platform == "linux" else 103
"""Bytes: sun_path, less the NUL at its end."""


@overload
def open_unix_stream(
    path: PathSpec,
    *,
    direction: Direction = ...,
    element_type: type[bytes] = ...,
    encoding: str = ...,
    errors: str = ...,
    newline: str | None = ...,
    errorp: Literal[True] = ...,
    timeout: float | None = ...,
    read_timeout: float | None = ...,
    write_timeout: float | None = ...,
    socket_configure_callback: Callable[[socket.socket], object] | None = ...,
) -> SocketStream: ...


@overload
def open_unix_stream(
    path: PathSpec,
    *,
    direction: Direction = ...,
    element_type: type[str],
    encoding: str = ...,
    errors: str = ...,
    newline: str | None = ...,
    errorp: Literal[True] = ...,
    timeout: float | None = ...,
    read_timeout: float | None = ...,
    write_timeout: float | None = ...,
    socket_configure_callback: Callable[[socket.socket], object] | None = ...,
) -> TextSocketStream: ...


@overload
def open_unix_stream(
    path: PathSpec,
    *,
    direction: Direction = ...,
    element_type: type[bytes] | type[str] = ...,
    encoding: str = ...,
    errors: str = ...,
    newline: str | None = ...,
    errorp: Literal[False] | None,
    timeout: float | None = ...,
    read_timeout: float | None = ...,
    write_timeout: float | None = ...,
    socket_configure_callback: Callable[[socket.socket], object] | None = ...,
) -> tuple[Any, None] | tuple[None, SocketError]: ...


def open_unix_stream(
    path: PathSpec,
    *,
    direction: Direction = "io",
    element_type: type[bytes] | type[str] = bytes,
    encoding: str = "utf-8",
    errors: str = "strict",
    newline: str | None = None,
    errorp: bool | None = True,
    timeout: float | None = None,
    read_timeout: float | None = None,
    write_timeout: float | None = None,
    socket_configure_callback: Callable[[socket.socket], object] | None = None,
) -> Any:
    """Connect to a server's Unix domain socket and return a stream.

    Args:
        path: of the socket; a name that begins with a NUL is abstract.
        timeout: seconds for connecting, which waits while the server's queue is full.

    The other arguments are those of open_tcp_stream().

    Raises:
        TypeError, ValueError: a wrong argument.
        SocketConnectError: nobody is there, or it is not allowed; also FileNotFoundError, ConnectionRefusedError and
            the like.
        ConnectTimeout: the time was over.
        SocketCreateError: this system has no Unix domain sockets, or no descriptor to spare.

    After any of them nothing is left open.
    """
    address = _checked(path)
    checked_direction(direction)
    if element_type not in (bytes, str):
        raise ValueError(f"element_type={element_type!r} is not allowed: it must be bytes or str")
    if element_type is str:
        checked_text_arguments(encoding, errors, newline)
    read_timeout = checked_timeout(read_timeout, "read_timeout")
    write_timeout = checked_timeout(write_timeout, "write_timeout")
    timeout = checked_timeout(timeout, "timeout")
    try:
        sock = _connect(address, timeout, socket_configure_callback)
    except SocketError as condition:
        if errorp:
            raise
        return None, condition
    try:
        stream = SocketStream._over(PlainTransport(sock), direction=direction)
        if read_timeout is not None:
            stream.read_timeout = read_timeout
        stream.write_timeout = write_timeout
        made = stream if element_type is bytes else TextSocketStream(stream, encoding, errors, newline)
    except BaseException:
        sock.close()
        raise
    return made if errorp else (made, None)


def start_up_unix_server(
    handler: Callable[[Any], object],
    path: PathSpec,
    *,
    mode: int | None = None,
    backlog: int = BACKLOG,
    **how: Any,
) -> Server:
    """start_up_server() on a path. The file is removed when the server ends, if it is still its own.

    Args:
        path: where to listen; a stale socket there is replaced. A name that begins with a NUL is abstract.
        mode: the rights of the file (0o600, say); None leaves them to the umask. Who may write may connect.
        how: the other keywords of start_up_server() that do not say where to listen.

    Raises:
        TypeError, ValueError: a wrong argument.
        SocketCreateError: a server listens there already, there is a file that is no socket, or it is not allowed.
    """
    address = _checked(path)
    abstract = address[:1] == b"\0"
    if mode is not None and (abstract or isinstance(mode, bool) or not isinstance(mode, int) or mode & ~0o777):
        raise ValueError(f"mode={mode!r} is not allowed: it must be rights of a file, as 0o600, or None")
    try:
        listener, end = _listen_abstract(address, backlog) if abstract else _listen(address, mode, backlog)
    except OSError as error:
        if isinstance(error, SocketError):
            raise
        raise with_kin(SocketCreateError, error)(
            f"could not listen at {_shown(address)}: {error.strerror or error}",
            operation="listen",
            address=_shown(address),
            errno=error.errno,
        ) from error
    try:
        how.setdefault("name", f"landline server {_shown(address)}")
        return start_up_server(handler, listener, backlog=backlog, on_end=end, **how)
    except BaseException:
        listener.close()
        end()
        raise


def _connect(
    address: bytes, timeout: float | None, callback: Callable[[socket.socket], object] | None
) -> socket.socket:
    sock = _socket()
    try:
        if callback is not None:
            callback(sock)
        sock.settimeout(timeout)
        sock.connect(address)
    except BaseException as error:
        sock.close()
        if timeout is not None and isinstance(error, (TimeoutError, BlockingIOError)):
            raise ConnectTimeout(
                f"could not connect to {_shown(address)} within timeout={timeout:g} s: its queue is full",
                operation="connect",
                address=_shown(address),
            ) from None
        if isinstance(error, OSError):
            raise with_kin(SocketConnectError, error)(
                f"could not connect to {_shown(address)}: {error.strerror or error}",
                operation="connect",
                address=_shown(address),
                errno=error.errno,
            ) from error
        raise
    return sock


def _listen(address: bytes, mode: int | None, backlog: int) -> tuple[socket.socket, Callable[[], None]]:
    fresh = address + b"." + str(os.getpid()).encode()
    if len(fresh) > LONGEST_PATH:
        fresh = os.path.join(os.path.dirname(address), b"." + str(os.getpid()).encode())
    _check_free(address)
    listener = _socket()
    try:
        with suppress(FileNotFoundError):  # of a process that had our number, and was killed right here
            os.unlink(fresh)
        listener.bind(fresh)
        try:
            if mode is not None:
                os.chmod(fresh, mode)
            listener.listen(backlog)
            own = os.lstat(fresh)
            os.rename(fresh, address)
        except BaseException:
            os.unlink(fresh)
            raise
    except BaseException:
        listener.close()
        raise

    def remove() -> None:
        try:
            found = os.lstat(address)
            if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino):
                os.unlink(address)
        except OSError:
            pass  # somebody else has removed it, or may and we may not

    return listener, remove


def _listen_abstract(address: bytes, backlog: int) -> tuple[socket.socket, Callable[[], None]]:
    listener = _socket()
    try:
        listener.bind(address)
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener, lambda: None


def _check_free(address: bytes) -> None:
    """Raises SocketCreateError unless nothing is at the path, or a socket to which nobody answers."""
    try:
        found = os.lstat(address)
    except FileNotFoundError:
        return
    what = "is a file and no socket"
    if stat.S_ISSOCK(found.st_mode):
        with _socket() as probe:
            probe.setblocking(False)
            try:
                probe.connect(address)
            except (ConnectionRefusedError, FileNotFoundError):
                return
            except BlockingIOError:
                pass  # a living server whose queue is full
        what = "is in use: a server listens there"
    raise with_kin(SocketCreateError, FileExistsError)(
        f"could not listen at {_shown(address)}: it {what}", operation="listen", address=_shown(address)
    )


def _socket() -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise SocketCreateError("this system's Python has no Unix domain sockets", operation="create")
    try:
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise with_kin(SocketCreateError, error)(
            f"could not make a Unix domain socket: {error.strerror or error}", operation="create", errno=error.errno
        ) from error


def _checked(path: PathSpec) -> bytes:
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"path={path!r} is not allowed: it must be a path (str, bytes or pathlib.Path)")
    address = os.fsencode(path)
    abstract = address[:1] == b"\0"
    if not address or b"\0" in address[1:] or address == b"\0":
        raise ValueError(f"path={path!r} is not allowed: no socket has such a name")
    if abstract and sys.platform != "linux":
        raise ValueError(f"path={path!r} is not allowed: only Linux has abstract names")
    if len(address) > LONGEST_PATH:
        raise ValueError(f"path={path!r} is not allowed: it has {len(address)} bytes, and may have {LONGEST_PATH}")
    return address


def _shown(address: bytes) -> str:
    return os.fsdecode(address).replace("\0", "@", 1)
