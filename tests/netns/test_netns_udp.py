"""UDP over a real wire: multicast, broadcast, ICMP, scope ids, and buffers that fill.

Sockets are opened in the namespaces by this process, and used from here. What looks at names of interfaces runs
`inside` the namespace, for an interface has its name there only.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from namespaces import CLIENT4, CLIENT6, CLIENT_LINK, PEER4, PEER6, PEER_LINK, SERVER4, WIRE, Network, inside, network

from landline import ReadTimeout, SocketAddress, SocketCreateError, SocketIOError, StreamClosed, WriteTimeout
from landline.sync.udp import UdpSocket
from landline.sync.udp_open import open_udp_socket
from landline.sync.udp_server import Datagram, start_up_udp_server
from landline.testing.contract.stage import BRIEF, PATIENCE, Task, expect

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("no_leaks")]

T = TypeVar("T")

GROUP4, OTHER_GROUP4 = "239.192.1.1", "239.192.1.2"  # RFC 2365: for an organization's own use
GROUP6, OTHER_GROUP6 = "ff15::1:1", "ff15::1:2"
SOURCE_GROUP4, SOURCE_GROUP6 = "232.1.1.1", "ff35::1:1"  # RFC 4607
ROUTED = "198.51.100.7"


@pytest.fixture(scope="module", name="net")
def _net() -> Iterator[Network]:
    with network() as made:
        yield made


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


class Ends:
    """Sockets of the client's and of the peer's, closed at the end."""

    def __init__(self, net: Network, stack: ExitStack) -> None:
        self.net = net
        self.stack = stack

    def client(self, *peer: Any, **how: Any) -> UdpSocket:
        return self._opened(self.net.client, *peer, **how)

    def peer(self, *peer: Any, **how: Any) -> UdpSocket:
        return self._opened(self.net.peer, *peer, **how)

    def _opened(self, where: str, *peer: Any, **how: Any) -> UdpSocket:
        how.setdefault("read_timeout", PATIENCE)
        made: UdpSocket = inside(where, partial(open_udp_socket, *peer, **how))
        return self.stack.enter_context(made)

    def at_client(self, do: Callable[[], T]) -> T:
        return inside(self.net.client, do)

    def at_peer(self, do: Callable[[], T]) -> T:
        return inside(self.net.peer, do)


@pytest.fixture(name="ends")
def _ends(net: Network, stack: ExitStack) -> Ends:
    return Ends(net, stack)


def index_of_wire() -> int:
    return socket.if_nametoindex(WIRE)


# ---- multicast -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "interface"),
    [
        (GROUP4, WIRE),
        (GROUP4, index_of_wire),
        (GROUP4, CLIENT4),
        (GROUP6, WIRE),
        (GROUP6, index_of_wire),
        (GROUP6, CLIENT6),
        (GROUP6, f"{CLIENT_LINK}%{WIRE}"),
        (f"ff12::1:1%{WIRE}", None),
    ],
)
@pytest.mark.parametrize("ipv6", ["both", "its own"])
def test_a_group_is_joined_by_an_interface_named_in_any_way_and_left(
    ends: Ends, group: str, interface: Any, ipv6: Any
) -> None:
    ipv6 = ":" in group if ipv6 == "its own" else ipv6
    member, sender = ends.client(ipv6=ipv6), ends.peer(ipv6=":" in group)
    chosen = ends.at_client(interface) if callable(interface) else interface
    ends.at_client(lambda: member.join_group(group, chosen))
    ends.at_peer(lambda: setattr(sender, "multicast_interface", WIRE))
    to = (group.partition("%")[0], member.local_address.port)
    sender.send_to(b"to the group", *to)
    data, address = ends.at_client(member.receive_from)
    assert data == b"to the group"
    assert address.host in (PEER4, SERVER4, PEER6, f"{PEER_LINK}%{WIRE}")
    assert address.port == sender.local_address.port
    ends.at_client(lambda: member.leave_group(group, chosen))
    sender.send_to(b"after it left", *to)
    sender.send_to(b"to itself", CLIENT6 if ":" in group else CLIENT4, member.local_address.port)
    assert ends.at_client(member.receive) == b"to itself"


@pytest.mark.parametrize(("group", "other"), [(GROUP4, OTHER_GROUP4), (GROUP6, OTHER_GROUP6)])
@pytest.mark.parametrize("reuse_port", ["multicast", True])
@pytest.mark.parametrize("ipv6", ["both", "its own"])
def test_a_socket_gets_the_groups_it_has_joined_and_no_others(
    ends: Ends, group: str, other: str, reuse_port: Any, ipv6: Any
) -> None:
    """Linux gives it those of every program of the machine, unless it is told not to.

    With reuse_port=True it is not told so, and nothing may be lost.
    """
    ipv6 = ":" in group if ipv6 == "its own" else ipv6
    for _ in range(8):  # where a datagram went astray, that was by chance
        with ExitStack() as stack:
            round_of = Ends(ends.net, stack)
            member = round_of.client(ipv6=ipv6, reuse_port=reuse_port)
            port = member.local_address.port
            elsewhere = round_of.client(ipv6=ipv6, reuse_port=reuse_port, local_port=port)
            sender = round_of.peer(ipv6=":" in group)
            ends.at_client(partial(member.join_group, group, WIRE))
            ends.at_client(partial(elsewhere.join_group, other, WIRE))
            ends.at_peer(partial(setattr, sender, "multicast_interface", WIRE))
            for where in (other, group):
                sender.send_to(where.encode(), where, port)
            every = [other.encode(), group.encode()]
            for socket_, joined in ((member, group), (elsewhere, other)):
                wanted = [joined.encode()] if reuse_port == "multicast" else every
                assert [ends.at_client(socket_.receive) for _ in wanted] == wanted
                assert not socket_.input_ready()


@pytest.mark.parametrize(
    ("group", "interface", "wanted", "unwanted"),
    [
        (SOURCE_GROUP4, WIRE, PEER4, SERVER4),
        (SOURCE_GROUP4, CLIENT4, PEER4, SERVER4),
        (SOURCE_GROUP6, WIRE, PEER6, PEER_LINK),
        (SOURCE_GROUP6, CLIENT6, PEER6, PEER_LINK),
    ],
)
def test_a_group_is_joined_for_one_source(ends: Ends, group: str, interface: str, wanted: str, unwanted: str) -> None:
    member = ends.client(ipv6=":" in group)
    ends.at_client(lambda: member.join_group(group, interface, source=wanted))
    other = ends.peer(local_address=f"{unwanted}%{WIRE}" if unwanted == PEER_LINK else unwanted)
    sender = ends.peer(local_address=wanted)
    for each, host in ((other, unwanted), (sender, wanted)):
        ends.at_peer(partial(setattr, each, "multicast_interface", WIRE))
        each.send_to(host.encode(), group, member.local_address.port)
    assert member.receive_from() == (wanted.encode(), sender.local_address)
    ends.at_client(lambda: member.leave_group(group, interface, source=wanted))
    sender.send_to(b"after it left", group, member.local_address.port)
    sender.send_to(b"to itself", CLIENT4 if sender.local_address.host == PEER4 else CLIENT6, member.local_address.port)
    assert member.receive() == b"to itself"


def test_one_socket_joins_groups_of_both_families(ends: Ends) -> None:
    member = ends.client(ipv6="both")
    senders = {GROUP4: ends.peer(ipv6=False), GROUP6: ends.peer(ipv6=True)}
    for group, sender in senders.items():
        ends.at_client(partial(member.join_group, group, WIRE))
        ends.at_peer(partial(setattr, sender, "multicast_interface", WIRE))
        sender.send_to(b"x", group, member.local_address.port)
        assert member.receive_from()[1].port == sender.local_address.port


@pytest.mark.parametrize("group", [GROUP4, GROUP6])
@pytest.mark.parametrize("ipv6", ["both", "its own"])
def test_multicasts_loop_back_unless_told_not_to(ends: Ends, group: str, ipv6: Any) -> None:
    both = ends.client(ipv6=":" in group if ipv6 == "its own" else ipv6)
    port = both.local_address.port
    ends.at_client(lambda: setattr(both, "multicast_interface", WIRE))
    ends.at_client(lambda: both.join_group(group, WIRE))
    assert both.multicast_loopback is True
    both.send_to(b"one", group, port)
    assert ends.at_client(both.receive) == b"one"
    both.multicast_loopback = False
    assert both.multicast_loopback is False
    both.send_to(b"two", group, port)
    both.multicast_loopback = True
    both.send_to(b"three", group, port)
    assert ends.at_client(both.receive) == b"three"


@pytest.mark.parametrize("ipv6", ["both", False, True])
def test_a_multicast_may_pass_as_many_routers_as_it_is_given(ends: Ends, ipv6: Any) -> None:
    sender = ends.client(ipv6=ipv6)
    ends.at_client(lambda: setattr(sender, "multicast_interface", WIRE))
    assert sender.multicast_ttl == 1
    sender.multicast_ttl = 7
    assert sender.multicast_ttl == 7
    for group in [GROUP4] * (ipv6 is not True) + [GROUP6] * (ipv6 is not False):
        member = ends.peer(ipv6=":" in group)
        ends.at_peer(partial(member.join_group, group, WIRE))
        level, option = (socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT) if ":" in group else (socket.IPPROTO_IP, 12)
        member._sock.setsockopt(level, option, 1)
        sender.send_to(b"x", group, member.local_address.port)
        member._sock.settimeout(PATIENCE)
        ((_, _, hops),) = member._sock.recvmsg(1, 100)[1]
        assert struct.unpack("@i", hops) == (7,)


def test_multicasts_go_out_by_the_interface_that_is_set(ends: Ends) -> None:
    sender, member = ends.client(ipv6=False), ends.peer(ipv6=False)
    ends.at_peer(lambda: member.join_group(GROUP4, WIRE))
    with expect(SocketIOError) as caught:
        sender.send_to(b"x", GROUP4, member.local_address.port)
    assert caught.error.errno == errno.ENETUNREACH
    for interface in (CLIENT4, WIRE, ends.at_client(index_of_wire)):
        ends.at_client(partial(setattr, sender, "multicast_interface", interface))
        assert sender.multicast_interface == interface
        sender.send_to(b"x", GROUP4, member.local_address.port)
        assert member.receive() == b"x"


def test_the_zone_of_a_group_is_its_interface(ends: Ends) -> None:
    def joined() -> list[str]:
        lines = Path("/proc/thread-self/net/igmp6").read_text("ascii").splitlines()
        return [words[1] for words in map(str.split, lines) if words[2] == "ff120000000000000000000000010001"]

    member = ends.client(ipv6=True)
    for do, zones in ((member.join_group, ["lo"]), (member.leave_group, [])):
        ends.at_client(partial(do, "ff12::1:1%lo"))
        assert ends.at_client(joined) == zones


def test_an_ipv4_address_sets_the_interface_of_ipv4_only(ends: Ends) -> None:
    both = ends.client(ipv6="both")
    ends.at_client(lambda: setattr(both, "multicast_interface", WIRE))
    both.multicast_interface = CLIENT4
    index = both._sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF)
    assert index == ends.at_client(index_of_wire)


def test_without_an_interface_the_routes_decide(ends: Ends, net: Network) -> None:
    member = ends.client(ipv6=False)
    with expect(SocketCreateError) as caught:
        member.join_group(GROUP4)
    assert caught.error.errno == errno.ENODEV
    assert str(caught.error) == f"joining the group {GROUP4} failed: No such device"
    net.ip(f"-n {net.client} route add 224.0.0.0/4 dev {WIRE}")
    try:
        member.join_group(GROUP4)
        sender = ends.peer(ipv6=False)
        ends.at_peer(lambda: setattr(sender, "multicast_interface", WIRE))
        sender.send_to(b"x", GROUP4, member.local_address.port)
        assert member.receive() == b"x"
    finally:
        net.ip(f"-n {net.client} route del 224.0.0.0/4 dev {WIRE}")


def test_what_cannot_be_joined_or_left_is_told(ends: Ends) -> None:
    member = ends.client(ipv6=False)
    ends.at_client(lambda: member.join_group(GROUP4, WIRE))
    for do, group, number in (
        (member.join_group, GROUP4, errno.EADDRINUSE),
        (member.leave_group, OTHER_GROUP4, errno.EADDRNOTAVAIL),
    ):
        with expect(SocketCreateError) as caught:
            ends.at_client(partial(do, group, WIRE))
        assert (caught.error.errno, caught.error.address) == (number, member.local_address)
        assert f"the group {group} at interface {WIRE} failed: " in str(caught.error)


def test_a_server_is_asked_as_a_group_and_answers_as_itself(ends: Ends, stack: ExitStack) -> None:
    asked: list[str | None] = []

    def answer(datagram: Datagram) -> None:
        asked.append(datagram.destination)
        datagram.reply(b"I am here")

    server = stack.enter_context(ends.at_peer(lambda: start_up_udp_server(answer, local_address=None)))
    for group, host in ((GROUP4, PEER4), (GROUP6, PEER6)):
        ends.at_peer(partial(server.socket.join_group, group, WIRE))
        client = ends.client(ipv6=":" in group)
        ends.at_client(partial(setattr, client, "multicast_interface", WIRE))
        client.send_to(b"who is there?", group, server.port)
        data, address = client.receive_from()
        assert data == b"I am here"
        assert address == SocketAddress(host, server.port)
    assert asked == [GROUP4, GROUP6]


# ---- broadcast -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ipv6", ["both", False])
def test_a_broadcast_reaches_a_server_which_answers_as_itself(ends: Ends, stack: ExitStack, ipv6: Any) -> None:
    asked: list[str | None] = []

    def answer(datagram: Datagram) -> None:
        asked.append(datagram.destination)
        datagram.reply(datagram.data)

    server = stack.enter_context(ends.at_peer(lambda: start_up_udp_server(answer, local_address=None, ipv6=ipv6)))
    client = ends.client(ipv6=ipv6)
    with expect(PermissionError):
        client.send_to(b"x", "192.0.2.255", server.port)
    client.broadcast = True
    client.send_to(b"is anybody there?", "192.0.2.255", server.port)
    assert client.receive_from() == (b"is anybody there?", SocketAddress(PEER4, server.port))
    assert asked == ["192.0.2.255"]


# ---- addresses -----------------------------------------------------------------------------------------


def test_an_answer_comes_from_the_address_that_was_asked(ends: Ends, stack: ExitStack) -> None:
    """The kernel would take the peer's first address for the second one too."""
    server = stack.enter_context(
        ends.at_peer(lambda: start_up_udp_server(lambda datagram: datagram.reply(b"me"), local_address=None))
    )
    for host in (PEER4, SERVER4, PEER6, f"{PEER_LINK}%{WIRE}"):
        client = ends.client(host, server.port)
        client.send(b"who are you?")
        assert client.receive() == b"me"


def test_a_server_asked_at_its_link_local_address_by_a_global_one_answers_from_there(
    ends: Ends, stack: ExitStack
) -> None:
    server = stack.enter_context(
        ends.at_peer(lambda: start_up_udp_server(lambda datagram: datagram.reply(b"me"), local_address=None))
    )
    client = ends.client(local_address=CLIENT6)
    ends.at_client(lambda: client.send_to(b"who are you?", f"{PEER_LINK}%{WIRE}", server.port))
    assert ends.at_client(client.receive_from) == (b"me", SocketAddress(f"{PEER_LINK}%{WIRE}", server.port))


@pytest.mark.parametrize("ipv6", [True, "both"])
def test_scope_ids_survive(ends: Ends, ipv6: Any) -> None:
    peer = ends.peer(ipv6=ipv6)
    there = SocketAddress(f"{PEER_LINK}%{WIRE}", peer.local_address.port)
    client, open_client = ends.client(*there), ends.client(ipv6=ipv6)
    assert client.peer_address == there
    assert client.local_address == SocketAddress(f"{CLIENT_LINK}%{WIRE}", client.local_address.port)
    ends.at_client(lambda: open_client.send_to(b"there", *there))
    for end in (open_client, client):
        if end is client:
            client.send(b"there")
        data, address = ends.at_peer(peer.receive_from)
        assert (data, address) == (b"there", SocketAddress(f"{CLIENT_LINK}%{WIRE}", end.local_address.port))
        ends.at_peer(partial(peer.send_to, b"back", *address))
        assert ends.at_client(end.receive_from) == (b"back", there)


# ---- ICMP ----------------------------------------------------------------------------------------------


def test_a_refusal_comes_over_the_wire(ends: Ends) -> None:
    for host in (PEER4, PEER6):
        client = ends.client(host, 9)
        client.send(b"anybody?")
        with expect(ConnectionRefusedError):
            client.receive()


def test_whom_an_unconnected_socket_could_not_reach_is_told(ends: Ends, net: Network) -> None:
    """A port that refuses, and a router that knows no way on."""
    ends.at_peer(lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1", "ascii"))
    net.ip(f"-n {net.peer} route add unreachable {ROUTED}/32")
    net.ip(f"-n {net.client} route add {ROUTED}/32 via {PEER4}")
    try:
        client = ends.client(tell_undelivered=True)
        for host, number, message in (
            (PEER6, errno.ECONNREFUSED, f"[{PEER6}]:9 refused a datagram: nobody receives there"),
            (ROUTED, errno.EHOSTUNREACH, f"a datagram for {ROUTED}:9 could not be delivered: No route to host"),
            (PEER4, errno.ECONNREFUSED, f"{PEER4}:9 refused a datagram: nobody receives there"),
        ):
            client.send_to(b"anybody?", host, 9)
            with expect(SocketIOError) as caught:
                client.receive()
            assert (caught.error.errno, caught.error.address) == (number, SocketAddress(host, 9))
            assert str(caught.error) == message
    finally:
        net.ip(f"-n {net.client} route del {ROUTED}/32")
        net.ip(f"-n {net.peer} route del unreachable {ROUTED}/32")


def test_a_datagram_too_big_for_the_way_is_told_with_what_fits(ends: Ends) -> None:
    def never_in_pieces(sock: socket.socket) -> None:
        ipv6 = sock.family == socket.AF_INET6
        ip_mtu_discover, ipv6_mtu_discover, do = 10, 23, 2
        sock.setsockopt(socket.IPPROTO_IP, ip_mtu_discover, do)
        if ipv6:
            sock.setsockopt(socket.IPPROTO_IPV6, ipv6_mtu_discover, do)

    for host, fits in ((PEER4, 1472), (PEER6, 1452)):
        client = ends.client(host, 9, socket_configure_callback=never_in_pieces)
        with expect(SocketIOError) as caught:
            client.send(bytes(fits + 1))
        assert caught.error.errno == errno.EMSGSIZE
        assert str(caught.error).endswith(f"is too big: {fits} bytes are the limit on the way there")
        client.send(bytes(fits))
    client = ends.client(socket_configure_callback=never_in_pieces)
    with expect(SocketIOError) as caught:
        client.send_to(bytes(2000), PEER4, 9)
    assert str(caught.error) == (
        f"a datagram of 2000 bytes for {PEER4}:9 is too big: less is the limit on the way there"
    )


# ---- a full buffer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("connected", [True, False])
def test_a_full_buffer_is_waited_for_within_write_timeout_and_close_ends_that(ends: Ends, connected: bool) -> None:
    """Datagrams for a host that does not answer ARP wait in the sender's buffer."""
    nobody = ("192.0.2.77" if connected else "192.0.2.78", 9)

    def small(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)

    client = ends.client(*nobody * connected, socket_configure_callback=small, write_timeout=BRIEF)
    send: Callable[[], None] = (
        partial(client.send, bytes(1000)) if connected else partial(client.send_to, bytes(1000), *nobody)
    )
    with expect(WriteTimeout) as caught:
        for _ in range(100):
            send()
    message = (
        f"the system took no datagram for {SocketAddress(*nobody)} within write_timeout=0.005 s; nothing of it was sent"
    )
    assert str(caught.error) == message
    assert client.datagrams_sent > 0
    client.write_timeout = None
    sending = Task(send).blocked()
    client.close()
    sending.failure(StreamClosed)


def test_nothing_comes_from_a_silent_host(ends: Ends, net: Network) -> None:
    net.silence("192.0.2.2")
    client = ends.client("192.0.2.2", 9, read_timeout=BRIEF)
    client.send(b"anybody?")
    with expect(ReadTimeout):
        client.receive()
