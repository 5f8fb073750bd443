"""What can be set on an open UDP socket: broadcast, and all about multicast. A mixin.

A socket for both families has each option twice, under the names of both; they are always set alike.
"""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

from ..address import HostSpec, SocketAddress
from ..errors import SocketCreateError
from ..report import ConnectionReport
from .udp_conditions import option_failed

if TYPE_CHECKING:
    from .udp_groups import InterfaceSpec

__all__ = ["UdpOptions"]


class UdpOptions:
    """The part of a UdpSocket that is about options."""

    __slots__ = ("_multicast_interface",)

    _both: bool
    _sock: socket.socket
    local_address: SocketAddress
    peer_address: SocketAddress | None
    report: ConnectionReport | None

    def __init__(self) -> None:
        self._multicast_interface: InterfaceSpec | None = None

    def _check_open(self) -> None:
        raise NotImplementedError

    @property
    def broadcast(self) -> bool:
        """Whether it may send to broadcast addresses (SO_BROADCAST). Settable."""
        self._check_open()
        return bool(self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST))

    @broadcast.setter
    def broadcast(self, allowed: bool) -> None:
        self._set(f"setting broadcast={allowed!r}", ((socket.SOL_SOCKET, socket.SO_BROADCAST, int(bool(allowed))),))

    def join_group(
        self, group: HostSpec, interface: InterfaceSpec | None = None, source: HostSpec | None = None
    ) -> None:
        """Receive what is sent to a multicast group, at the port that the socket is bound to.

        On Linux the socket then gets datagrams of the groups that it has joined itself, and not, as is usual there, of
        those that any program has joined. (But not if it shares its port by reuse_port=True: "multicast" is for this.)

        Args:
            group: a numeric address; its zone ("ff02::fb%eth0") stands for the interface.
            interface: by its name, its index or an address of it; None: the system chooses by its routes.
            source: only what this address sends (RFC 4607).

        Raises:
            TypeError, ValueError: a wrong argument.
            SocketCreateError: the system refuses (joined already; no such interface; no route).
        """
        self._change_membership(True, group, interface, source)

    def leave_group(
        self, group: HostSpec, interface: InterfaceSpec | None = None, source: HostSpec | None = None
    ) -> None:
        """The opposite of join_group(), with the same arguments. close() leaves all groups."""
        self._change_membership(False, group, interface, source)

    @property
    def multicast_ttl(self) -> int:
        """How many routers a multicast may pass, 0 to 255 (IPv6: hops); 1, the usual: none. Settable."""
        self._check_open()
        if self._families[0] == socket.AF_INET6:
            return self._sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS)
        return self._sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL)

    @multicast_ttl.setter
    def multicast_ttl(self, hops: int) -> None:
        if isinstance(hops, bool) or not isinstance(hops, int) or not 0 <= hops <= 255:
            raise ValueError(f"multicast_ttl={hops!r} is not allowed: it must be a number from 0 to 255")
        self._set_both(f"setting multicast_ttl={hops}", socket.IP_MULTICAST_TTL, socket.IPV6_MULTICAST_HOPS, hops)

    @property
    def multicast_loopback(self) -> bool:
        """Whether this machine gets the multicasts sent here too, if it has joined the group (usually so).

        Settable. (Windows asks the receiving socket, all others the sending one.)
        """
        self._check_open()
        if self._families[0] == socket.AF_INET6:
            return bool(self._sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP))
        return bool(self._sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP))

    @multicast_loopback.setter
    def multicast_loopback(self, wanted: bool) -> None:
        self._set_both(
            f"setting multicast_loopback={wanted!r}",
            socket.IP_MULTICAST_LOOP, socket.IPV6_MULTICAST_LOOP, int(bool(wanted)),
        )  # fmt: skip

    @property
    def multicast_interface(self) -> InterfaceSpec | None:
        """The interface that multicasts go out by, as it was set; None, the usual: by the routes. Settable.

        By its name, its index or an address of it. An IPv4 address counts for IPv4 only.
        """
        return self._multicast_interface

    @multicast_interface.setter
    def multicast_interface(self, interface: InterfaceSpec | None) -> None:
        from .udp_groups import parse_interface, send_by

        self._check_open()
        chosen = parse_interface(interface, "multicast_interface")
        families = self._families
        if chosen.address is not None:
            if socket.AF_INET not in families:
                raise ValueError(
                    f"multicast_interface={interface!r} is not allowed on an IPv6 socket: give the interface's name, "
                    "its index, or an IPv6 address of it"
                )
            families = (socket.AF_INET,)
        try:
            send_by(self._sock, chosen, families)
        except OSError as error:
            raise option_failed(self, f"setting multicast_interface={interface!r}", error) from error
        self._multicast_interface = interface

    def _change_membership(
        self, join: bool, group: HostSpec, interface: InterfaceSpec | None, source: HostSpec | None
    ) -> None:
        from .udp_groups import change_membership, checked_group, parse_interface

        self._check_open()
        host, sender = checked_group(group, source)
        if host.family not in self._families:
            raise ValueError(f"group={group!r} is not allowed on this socket, which is for {self._for_what}")
        chosen = parse_interface(interface)
        try:
            change_membership(self._sock, join, host, chosen, sender)
        except SocketCreateError:
            raise
        except OSError as error:
            by = "" if interface is None else f" at interface {interface}"
            of = "" if sender is None else f" for {sender.text}"
            doing = f"{'joining' if join else 'leaving'} the group {host.text}{by}{of}"
            raise option_failed(self, doing, error) from error

    def _set_both(self, doing: str, ipv4: int, ipv6: int, value: int) -> None:
        """Set an option that each family has its own name for."""
        ways = {socket.AF_INET: (socket.IPPROTO_IP, ipv4), socket.AF_INET6: (socket.IPPROTO_IPV6, ipv6)}
        self._set(doing, tuple((*ways[family], value) for family in self._families))

    def _set(self, doing: str, options: tuple[tuple[int, int, int], ...]) -> None:
        self._check_open()
        try:
            for level, option, value in options:
                self._sock.setsockopt(level, option, value)
        except OSError as error:
            raise option_failed(self, doing, error) from error

    @property
    def _families(self) -> tuple[socket.AddressFamily, ...]:
        """What it can send to, IPv6 first."""
        if self._sock.family == socket.AF_INET:
            return (socket.AF_INET,)
        return (socket.AF_INET6, socket.AF_INET) if self._both else (socket.AF_INET6,)

    @property
    def _for_what(self) -> str:
        names = {socket.AF_INET6: "IPv6", socket.AF_INET: "IPv4"}
        return " and ".join(names[family] for family in self._families)

    @property
    def _path_limit(self) -> int | None:
        """The longest payload that goes to the connected peer in one packet, as far as the system knows; or None.

        Source: RFC 1191; ip(7) and ipv6(7), IP_MTU and IPV6_MTU.
        """
        if self.peer_address is None or sys.platform != "linux":
            return None
        ipv6 = self.peer_address.family == socket.AF_INET6
        level, option, heads = (socket.IPPROTO_IPV6, 24, 48) if ipv6 else (socket.IPPROTO_IP, 14, 28)
        try:
            return self._sock.getsockopt(level, option) - heads
        except OSError:
            return None
