"""UDP sockets, connected and bound.

To connect a datagram socket sends nothing: it fixes the peer, and fails where there is no route. So the race of
connect.py ends with the first address that has one; all the rest of it (both lookups at once, RFC 6724's order, the
time limit, Cancel, the report) is as for streams.

SO_REUSEADDR is not set unless asked for: another program that sets it too can take the port's datagrams away. For
multicasts it is the right one. Linux 6.18 was seen to give a multicast for one socket to any of those that share its
port by SO_REUSEPORT, and besides, that one is for sockets of one user only.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Sequence
from time import monotonic
from typing import Literal, NamedTuple

from ..address import Host, SocketAddress
from ..engine import race
from ..engine.race import ATTEMPT_DELAY
from ..errors import SocketCreateError, with_kin
from ..options import SocketOptions
from ..report import AttemptRecord
from .attempt import SocketCallback, Target
from .cancel import Cancel
from .connect import Connected, _Attempt, _Opening

__all__ = ["Settings", "bind_udp", "connect_udp", "find_route"]


class Settings(NamedTuple):
    """What is set on a new socket, before it is bound."""

    broadcast: bool = False
    reuse_port: bool | Literal["multicast"] = False
    callback: SocketCallback | None = None

    def apply(self, sock: socket.socket) -> None:
        if self.broadcast:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if self.reuse_port == "multicast":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.reuse_port and (self.reuse_port is True or _BOTH_TO_SHARE):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if self.callback is not None:
            self.callback(sock)


def target(host: Host, port: int, families: Sequence[int], local: Host | None = None, local_port: int = 0) -> Target:
    """A Target as connect.py has it."""
    return Target(host, port, tuple(families), local, local_port, SocketOptions(), None, ATTEMPT_DELAY)


def connect_udp(to: Target, settings: Settings, timeout: float | None, cancel: Cancel | None) -> Connected:
    """Connect to the first address that has a route. Raises as connect() does; nothing is left open then."""
    opening = _Connecting(to, settings, timeout, cancel)
    try:
        return opening.run()
    finally:
        opening.release()


def find_route(host: Host, port: int, families: Sequence[int], timeout: float | None, cancel: Cancel) -> SocketAddress:
    """The address of a name that connect_udp() would take."""
    connected = connect_udp(target(host, port, families), Settings(), timeout, cancel)
    connected.sock.close()
    return connected.peer_address


def bind_udp(
    local: Host | None,
    port: int,
    families: Sequence[int],
    both: bool | None,
    settings: Settings,
    timeout: float | None,
    cancel: Cancel | None,
) -> socket.socket:
    """A socket bound to ``local``, or to every address.

    Args:
        families: the preferred one first.
        both: an IPv6 socket is for IPv4 as well; None: where the system can, or else one for IPv4 alone.

    Raises:
        SocketCreateError: it could not be made or bound.
        HostLookupError, ConnectTimeout, StreamClosed: about a name to be looked up first.
    """
    if local is None or local.address is not None:
        hosts = [_every_address(family) if local is None else str(local.address) for family in families]
    else:
        hosts = [address.host for address in _find_local(local, port, families, timeout, cancel)]
    failure: OSError | None = None
    for host in hosts:
        address = SocketAddress(host, port)
        try:
            return _bound(address, both is not False, settings)
        except OSError as error:
            failure = failure or error
            if local is None and (both is not None or not _lacks_ipv6(error)):
                break
        except Exception as error:
            raise _bind_failure(address, error) from error
    assert failure is not None
    raise _bind_failure(SocketAddress(hosts[0], port), failure) from failure


class _Connecting(_Opening):
    """connect.py's race, with datagram sockets."""

    def __init__(self, to: Target, settings: Settings, timeout: float | None, cancel: Cancel | None) -> None:
        super().__init__(to, timeout, cancel)
        self.settings = settings

    def _start(self, number: int, address: SocketAddress) -> list[race.Action[SocketAddress]]:
        record = AttemptRecord(address, self._now())
        self.report.attempts.append(record)
        try:
            sock = socket.socket(address.family, socket.SOCK_DGRAM)
            self.attempts[number] = _Attempt(sock, record)
            self.settings.apply(sock)
            local = self.local_addresses.get(address.family)
            if local is not None or self.target.local_port:
                host = _every_address(address.family) if local is None else local.host
                _bind(sock, SocketAddress(host, self.target.local_port))
            record.reached_connect = True
            sock.connect(address.sockaddr())
        except Exception as error:  # noqa: BLE001 - the caller's callback may raise anything
            return self._failed(number, record, error)
        return self.race.connected(number, monotonic())

    def find_local(self) -> list[SocketAddress]:
        """The addresses of the local host, a name: the first of each family, in the families' order."""
        if self.cancel is not None:
            self._news()
            self.cancel._attach(self._wake)
        return [self.local_addresses[family] for family in self._bind_families()]


def _find_local(
    local: Host, port: int, families: Sequence[int], timeout: float | None, cancel: Cancel | None
) -> list[SocketAddress]:
    opening = _Connecting(target(local, port, families, local), Settings(), timeout, cancel)
    try:
        return opening.find_local()
    finally:
        opening.release()


def _bound(address: SocketAddress, both: bool, settings: Settings) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_DGRAM)
    try:
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both and address.host == "::" else 1)
        settings.apply(sock)
        sock.bind(address.sockaddr())
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(sock: socket.socket, address: SocketAddress) -> None:
    try:
        sock.bind(address.sockaddr())
    except OSError as error:
        raise OSError(error.errno, f"binding to {address}: {error.strerror}") from error


def _bind_failure(address: SocketAddress, error: Exception) -> SocketCreateError:
    reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return with_kin(SocketCreateError, error)(
        f"could not open a UDP socket at {address}: {reason}",
        operation="create",
        address=address,
        errno=getattr(error, "errno", None),
    )


def _every_address(family: int) -> str:
    return "::" if family == socket.AF_INET6 else "0.0.0.0"


_BOTH_TO_SHARE = sys.platform != "linux" and hasattr(socket, "SO_REUSEPORT")  # the BSDs, macOS among them


def _lacks_ipv6(error: OSError) -> bool:
    """Whether it is the family that this machine lacks, and not the port that is taken."""
    return error.errno in _NO_SUCH_FAMILY


_NO_SUCH_FAMILY = {
    getattr(errno, name)
    for name in ("EAFNOSUPPORT", "EPROTONOSUPPORT", "EADDRNOTAVAIL", "ENOPROTOOPT", "WSAEAFNOSUPPORT")
    if hasattr(errno, name)
}
if os.name == "posix":
    _NO_SUCH_FAMILY.add(errno.EINVAL)  # OpenBSD has no sockets for both families
