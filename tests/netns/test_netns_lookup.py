"""Lookups and default addresses by the system's own resolver and routes, in a network of the test's own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from conftest import need
from namespaces import CLIENT4, CLIENT6, CLIENT_LINK, PEER6, SERVER4, WIRE, WITHIN, Network, network

pytestmark = pytest.mark.netns

PROGRAM = """
import json, socket, sys, time
from landline.errors import SocketError
from landline.sync import lookup

name, arguments, options = json.loads(sys.argv[1])
try:
    result = getattr(lookup, name)(*arguments, **options)
    if isinstance(result, tuple):
        result = [str(part) if part is None or isinstance(part, str) else list(map(str, part)) for part in result]
    elif result is not None and not isinstance(result, int):
        result = str(result)
    print(json.dumps({"result": result, "interfaces": dict(socket.if_nameindex())}))
except SocketError as error:
    print(json.dumps({"error": [kind.__name__ for kind in type(error).__mro__], "message": str(error)}))
"""


@pytest.fixture
def net() -> Iterator[Network]:
    with network() as made:
        yield made


def ask(net: Network, name: str, *arguments: Any, **options: Any) -> dict[str, Any]:
    """What comes of a function of sync/lookup.py in the client's namespace."""
    question = json.dumps([name, arguments, options])
    done = subprocess.run(
        [need("ip"), "netns", "exec", net.client, sys.executable, "-c", PROGRAM, question],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=3 * WITHIN,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def hosts(net: Network, text: str) -> None:
    (Path("/etc/netns") / net.client / "hosts").write_text(text, "ascii")


# ---- hosts ---------------------------------------------------------------------------------------------


def test_a_name_is_found_by_the_name_server(net: Network) -> None:
    name = net.names.say("host.example", ["192.0.2.7", "192.0.2.8"], ["2001:db8::7"])
    result = ask(net, "get_host_entry", name)["result"]
    assert result[:2] == [name, []]
    assert result[2][0] == "2001:db8::7"
    assert sorted(result[2][1:]) == ["192.0.2.7", "192.0.2.8"]


def test_a_name_the_name_server_does_not_know_is_none(net: Network) -> None:
    assert ask(net, "get_host_entry", "nobody.example")["result"] is None


def test_a_name_without_addresses_is_none(net: Network) -> None:
    assert ask(net, "get_host_entry", net.names.say("empty.example"))["result"] is None


def test_a_name_of_one_family_is_found(net: Network) -> None:
    name = net.names.say("six.example", aaaa=["2001:db8::7"])
    assert ask(net, "get_host_entry", name)["result"] == [name, [], ["2001:db8::7"]]
    assert ask(net, "get_host_entry", name, ipv6=False)["result"] is None


def test_a_silent_name_server_is_waited_for_no_longer_than_told(net: Network) -> None:
    """It would be asked for 30 seconds otherwise; and the program ends at once, though the lookup goes on."""
    name = net.names.say("dead.example", a_after=None, aaaa_after=None)
    begun = monotonic()
    told = ask(net, "get_host_entry", name, timeout=0.5)
    assert monotonic() - begun < WITHIN
    assert {"HostLookupError", "TimeoutError", "gaierror"} <= set(told["error"])
    assert told["message"] == "could not find dead.example: no answer within timeout=0.5 s"


def test_what_one_family_has_is_given_when_the_other_is_silent(net: Network) -> None:
    name = net.names.say("half.example", ["192.0.2.7"], aaaa_after=None)
    assert ask(net, "get_host_entry", name, timeout=1)["result"] == [name, [], ["192.0.2.7"]]


def test_a_name_server_that_cannot_be_reached_makes_nobody_unknown(net: Network) -> None:
    net.ip(f"-n {net.client} route add unreachable {SERVER4}/32")
    told = ask(net, "get_host_entry", "host.example")
    assert "HostLookupError" in told["error"]
    assert "could not find host.example" in told["message"]


def test_names_and_aliases_of_the_hosts_file_are_found_both_ways(net: Network) -> None:
    hosts(net, "192.0.2.9 official.example alias.example short\n2001:db8::9 six.example other.example\n")
    for host in ("official.example", "alias.example", "short", "192.0.2.9", 0xC0000209):
        result = ask(net, "get_host_entry", host)["result"]
        assert result == ["official.example", ["alias.example", "short"], ["192.0.2.9"]]
    for host in ("six.example", "2001:db8::9"):
        name, _, addresses = ask(net, "get_host_entry", host)["result"]
        assert (name, addresses) == ("six.example", ["2001:db8::9"])


# ---- default address and zone --------------------------------------------------------------------------


def test_without_a_way_out_the_link_local_address_is_the_default(net: Network) -> None:
    assert ask(net, "get_default_local_ipv6_address")["result"] == f"{CLIENT_LINK}%{WIRE}"
    zone = ask(net, "get_ip_default_zone_id")
    assert zone["interfaces"][str(zone["result"])] == WIRE


def test_the_address_that_the_default_route_leads_from_is_the_default(net: Network) -> None:
    net.ip(f"-n {net.client} route add default via {PEER6} dev {WIRE}")
    assert ask(net, "get_default_local_ipv6_address")["result"] == CLIENT6


def test_the_interface_of_the_default_route_is_the_default_zone(net: Network) -> None:
    """Not the first one, and not the only one: the first has a route, too, and a worse one."""
    net.ip(f"link add second netns {net.client} type veth peer name second netns {net.peer}")
    for name, end in ((net.client, 1), (net.peer, 2)):
        net.ip(f"-n {name} link set second addrgenmode none")
        net.ip(f"-n {name} link set second up")
        net.ip(f"-n {name} address add 2001:db8:2::{end}/64 dev second nodad")
        net.ip(f"-n {name} address add fe80::2:{end}/64 dev second nodad")
    net.ip(f"-n {net.client} route add default via {PEER6} dev {WIRE} metric 5000")
    for metric, wanted, address in ((6000, WIRE, CLIENT6), (4000, "second", "2001:db8:2::1")):
        net.ip(f"-n {net.client} route add default via 2001:db8:2::2 dev second metric {metric}")
        assert ask(net, "get_default_local_ipv6_address")["result"] == address
        zone = ask(net, "get_ip_default_zone_id")
        assert zone["interfaces"][str(zone["result"])] == wanted


def test_a_machine_without_ipv6_has_no_default() -> None:
    with network(ipv6=False) as net:
        assert CLIENT4
        assert ask(net, "get_default_local_ipv6_address")["result"] is None
        assert ask(net, "get_ip_default_zone_id")["result"] is None
