"""The front door for datagrams: open_udp_socket().

As in open.py: wrong arguments raise before anything is opened, whatever ``errorp`` says; what the network or this
machine refuses is a condition.

Source: LispWorks manual, create-async-io-state-and-udp-socket and -and-connected-udp-socket.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Literal, overload

from ..address import Host, HostSpec, ServiceSpec, parse_host, parse_service
from ..deadline import checked_timeout
from ..errors import SocketCreateError, SocketError, with_kin
from .cancel import Cancel
from .udp import UdpSocket
from .udp_connect import Settings, bind_udp, connect_udp, target
from .udp_control import ask_for_undelivered

__all__ = ["open_udp_socket"]


@overload
def open_udp_socket(
    host: HostSpec | None = ...,
    service: ServiceSpec | None = ...,
    *,
    local_address: HostSpec | None = ...,
    local_port: ServiceSpec | None = ...,
    ipv6: bool | Literal["any", "both"] | None = ...,
    errorp: Literal[True] = ...,
    timeout: float | None = ...,
    read_timeout: float | None = ...,
    write_timeout: float | None = ...,
    broadcast: bool = ...,
    reuse_port: bool | Literal["multicast"] = ...,
    tell_undelivered: bool = ...,
    socket_configure_callback: Callable[[socket.socket], object] | None = ...,
    cancel: Cancel | None = ...,
) -> UdpSocket: ...


@overload
def open_udp_socket(
    host: HostSpec | None = ...,
    service: ServiceSpec | None = ...,
    *,
    local_address: HostSpec | None = ...,
    local_port: ServiceSpec | None = ...,
    ipv6: bool | Literal["any", "both"] | None = ...,
    errorp: Literal[False] | None,
    timeout: float | None = ...,
    read_timeout: float | None = ...,
    write_timeout: float | None = ...,
    broadcast: bool = ...,
    reuse_port: bool | Literal["multicast"] = ...,
    tell_undelivered: bool = ...,
    socket_configure_callback: Callable[[socket.socket], object] | None = ...,
    cancel: Cancel | None = ...,
) -> tuple[UdpSocket, None] | tuple[None, SocketError]: ...


def open_udp_socket(
    host: HostSpec | None = None,
    service: ServiceSpec | None = None,
    *,
    local_address: HostSpec | None = None,
    local_port: ServiceSpec | None = None,
    ipv6: bool | Literal["any", "both"] | None = "any",
    errorp: bool | None = True,
    timeout: float | None = None,
    read_timeout: float | None = None,
    write_timeout: float | None = None,
    broadcast: bool = False,
    reuse_port: bool | Literal["multicast"] = False,
    tell_undelivered: bool = False,
    socket_configure_callback: Callable[[socket.socket], object] | None = None,
    cancel: Cancel | None = None,
) -> Any:
    """A UDP socket: with ``host`` and ``service`` connected to that peer, without them open to everybody.

    A connected socket gets datagrams of its peer only, and is told when the peer refuses (ICMP). Nothing is sent to
    connect it: of a name's addresses the first one is taken that there is a route to (RFC 6724's order).

    Args:
        host, service: the peer, given as for open_tcp_stream(); both or neither.
        local_address, local_port: what to bind to, given likewise; None lets the system choose. An unconnected socket
            is always bound: to every address where none is given.
        ipv6: connected: "any" for both families, True for IPv6 only, False or None for IPv4 only. Unconnected: "both"
            for a socket of both families, "any" for the same where the system can and an IPv4 one elsewhere.
            Addresses of IPv4 look like IPv4 on it.
        errorp: False returns (socket, None) or (None, condition) instead of raising conditions.
        timeout: seconds for the names to be looked up; None: as long as it takes.
        read_timeout, write_timeout: of the socket, in seconds; None is no limit, 0 does not wait.
        broadcast: sending to broadcast addresses is allowed.
        reuse_port: other sockets may be bound to the same port, if they say so too. True: the system deals datagrams
            out among them (SO_REUSEPORT). "multicast": each gets the multicasts of the groups that it has joined, other
            datagrams go to one of them (SO_REUSEADDR).
        tell_undelivered: on an unconnected socket, the next receive after an ICMP message raises SocketIOError, with
            the ``address`` that could not be reached (also ConnectionRefusedError, where that refused). Not by itself,
            because anybody whom the socket answers could make it raise. Only Linux says whom it is about; elsewhere
            this changes nothing.
        socket_configure_callback: called with the socket before it is bound and connected; what it raises is a
            failure to open it.
        cancel: ends the lookup from another thread, with StreamClosed.

    Raises:
        TypeError, ValueError: a wrong argument, named; also with errorp=False. Nothing was opened.
        SocketCreateError: local work failed: an unknown service, a port that is taken, no descriptors.
        HostLookupError: a name was not found.
        SocketConnectError: there is no route to any of the addresses.
        ConnectTimeout: the lookup took too long.
        StreamClosed: ``cancel`` was set.

    After any of them nothing is left open.

    Source: LispWorks manual, create-async-io-state-and-udp-socket, -and-connected-udp-socket; RFC 1122 4.1.
    """
    timeout = checked_timeout(timeout, "timeout")
    read_timeout = checked_timeout(read_timeout, "read_timeout")
    write_timeout = checked_timeout(write_timeout, "write_timeout")
    if (host is None) != (service is None):
        raise ValueError(
            f"host={host!r} is not allowed with service={service!r}: a connected socket has both, an unconnected one "
            "neither (its own port is local_port)"
        )
    if socket_configure_callback is not None and not callable(socket_configure_callback):
        raise TypeError(
            f"socket_configure_callback={socket_configure_callback!r} is not allowed: it must be callable, or None"
        )
    if cancel is not None and not isinstance(cancel, Cancel):
        raise TypeError(f"cancel={cancel!r} is not allowed: it must be a Cancel, or None")
    if reuse_port not in (True, False, "multicast"):
        raise ValueError(f"reuse_port={reuse_port!r} is not allowed: it must be True, False or 'multicast'")
    if reuse_port is True and not hasattr(socket, "SO_REUSEPORT"):
        raise ValueError("reuse_port=True is not allowed: this system has no SO_REUSEPORT")
    settings = Settings(bool(broadcast), reuse_port, socket_configure_callback)
    try:
        local = None if local_address is None else parse_host(local_address, "local_address")
        port = 0 if local_port is None else parse_service(local_port, "udp", "local_port")
        report = None
        if host is None or service is None:
            families = _families_to_bind(ipv6, local, local_address)
            both = None if ipv6 == "any" else ipv6 == "both"
            sock = bind_udp(local, port, families, both, settings, timeout, cancel)
        else:
            peer = parse_host(host)
            families = _families_to_connect(ipv6, peer, host, local, local_address)
            peer_port = parse_service(service, "udp")
            if not peer_port:
                raise ValueError(f"service={service!r} is not allowed: nobody receives at port 0")
            sock, _, _, report = connect_udp(target(peer, peer_port, families, local, port), settings, timeout, cancel)
        made = _made(sock, report, tell_undelivered, read_timeout, write_timeout)
    except SocketError as condition:
        if errorp:
            raise
        return None, condition
    return made if errorp else (made, None)


def _made(
    sock: socket.socket, report: Any, tell_undelivered: bool, read_timeout: float | None, write_timeout: float | None
) -> UdpSocket:
    try:
        tells = bool(tell_undelivered) and report is None and ask_for_undelivered(sock)
        made = UdpSocket._over(sock, report, tells)
        made.read_timeout = read_timeout
        made.write_timeout = write_timeout
    except OSError as error:
        sock.close()
        raise with_kin(SocketCreateError, error)(
            f"could not open a UDP socket: {error.strerror or error}", operation="create", errno=error.errno
        ) from error
    except BaseException:
        sock.close()
        raise
    return made


def _families_to_connect(
    ipv6: object, peer: Host, host: object, local: Host | None, local_address: object
) -> tuple[int, ...]:
    if ipv6 == "both":
        raise ValueError(
            f"ipv6='both' is not allowed with host={host!r}: only an unconnected socket can be of both families"
        )
    families = _families(ipv6)
    if peer.family is not None:
        families = _restricted(families, peer.family, "host", host, f"ipv6={ipv6!r}")
    if local is not None and local.family is not None:
        against = f"host={host!r}" if peer.family is not None else f"ipv6={ipv6!r}"
        families = _restricted(families, local.family, "local_address", local_address, against)
    return families


def _families_to_bind(ipv6: object, local: Host | None, local_address: object) -> tuple[int, ...]:
    if ipv6 == "both":
        if local is not None and local.address != "::":
            raise ValueError(
                f"local_address={local_address!r} is not allowed with ipv6='both': only every address ('::', or None) "
                "is of both families"
            )
        return (socket.AF_INET6,)
    families = _families(ipv6)
    if local is not None and local.family is not None:
        families = _restricted(families, local.family, "local_address", local_address, f"ipv6={ipv6!r}")
    return families


def _families(ipv6: object) -> tuple[int, ...]:
    if ipv6 == "any":
        return (socket.AF_INET6, socket.AF_INET)
    if ipv6 is True:
        return (socket.AF_INET6,)
    if ipv6 is False or ipv6 is None:
        return (socket.AF_INET,)
    raise ValueError(
        f"ipv6={ipv6!r} is not allowed: it must be 'any', 'both' (unconnected), True (only IPv6), "
        "or False or None (only IPv4)"
    )


def _restricted(families: tuple[int, ...], family: int, what: str, value: object, against: str) -> tuple[int, ...]:
    """``families``, less those that a numeric host rules out."""
    if family in families:
        return (family,)
    kind = "IPv6" if family == socket.AF_INET6 else "IPv4"
    raise ValueError(f"{what}={value!r} is not allowed with {against}: it is an {kind} address")
