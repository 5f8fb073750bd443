"""Bad input: refused before anything is opened, by an error that names the value, whatever errorp says."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from opening import Listener, Resolver, refusing
from opening import resolver_fixture as _resolver  # noqa: F401 - a fixture

import landline
from landline import Cancel, KeepAlive, SocketCreateError
from landline.sync import open as front_door

# What is wrong, the exception, and what its message tells.
BAD_FOR_BOTH: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"service": 70000}, ValueError, "service=70000 is not allowed"),
    ({"service": "70000"}, ValueError, "service=70000 is not allowed"),
    ({"service": -1}, ValueError, "service=-1 is not allowed"),
    ({"service": ""}, ValueError, "service='' is not allowed"),
    ({"service": None}, TypeError, "service=None is not allowed"),
    ({"service": 80.0}, TypeError, "service=80.0 is not allowed"),
    ({"host": ""}, ValueError, "host='' is not allowed: it must not be empty"),
    ({"host": "localhost:80"}, ValueError, "host='localhost:80' is not allowed: this looks like host:port"),
    ({"host": "local\0host"}, ValueError, r"host='local\x00host' is not allowed"),
    ({"host": "fe80::1%"}, ValueError, "host='fe80::1%' is not allowed: '' is no zone"),
    ({"host": "☕.example"}, ValueError, "host='☕.example' is not allowed: not a name that IDNA 2008 can encode"),
    ({"host": "127.1"}, ValueError, "host='127.1' is not allowed"),
    ({"host": 2**32}, ValueError, "host=4294967296 is not allowed"),
    ({"host": None}, TypeError, "host=None is not allowed"),
    ({"host": b"localhost"}, TypeError, "host=b'localhost' is not allowed"),
    ({"timeout": -1}, ValueError, "timeout=-1.0 is not allowed"),
    ({"timeout": math.nan}, ValueError, "timeout=nan is not allowed"),
    ({"timeout": "5"}, TypeError, "timeout='5' is not allowed"),
    ({"timeout": True}, TypeError, "timeout=True is not allowed"),
    (
        {"local_address": "127.0.0.1", "ipv6": True},
        ValueError,
        "local_address='127.0.0.1' is not allowed with ipv6=True",
    ),
    ({"local_address": "::1", "ipv6": False}, ValueError, "local_address='::1' is not allowed with ipv6=False"),
    ({"local_address": "::1", "ipv6": None}, ValueError, "local_address='::1' is not allowed with ipv6=None"),
    ({"local_address": ""}, ValueError, "local_address='' is not allowed"),
    ({"local_address": 1.5}, TypeError, "local_address=1.5 is not allowed"),
    ({"local_port": 70000}, ValueError, "local_port=70000 is not allowed"),
    ({"local_port": ()}, TypeError, "local_port=() is not allowed"),
    ({"host": "127.0.0.1", "ipv6": True}, ValueError, "host='127.0.0.1' is not allowed with ipv6=True"),
    ({"host": 0x7F000001, "ipv6": True}, ValueError, "host=2130706433 is not allowed with ipv6=True"),
    ({"host": "::1", "ipv6": False}, ValueError, "host='::1' is not allowed with ipv6=False"),
    (
        {"host": "::1", "local_address": "127.0.0.1"},
        ValueError,
        "local_address='127.0.0.1' is not allowed with host='::1': it is an IPv4 address",
    ),
    ({"ipv6": "yes"}, ValueError, "ipv6='yes' is not allowed"),
    ({"ipv6": 6}, ValueError, "ipv6=6 is not allowed"),
    ({"keepalive": "yes"}, TypeError, "keepalive='yes' is not allowed"),
    ({"keepalive": KeepAlive(0, 1, 1)}, ValueError, "KeepAlive idle=0 is not allowed"),
    ({"socket_configure_callback": "call me"}, TypeError, "socket_configure_callback='call me' is not allowed"),
    ({"attempt_delay": 0}, ValueError, "attempt_delay=0 is not allowed"),
    ({"attempt_delay": 2.1}, ValueError, "attempt_delay=2.1 is not allowed"),
    ({"attempt_delay": math.nan}, ValueError, "attempt_delay=nan is not allowed"),
    ({"attempt_delay": None}, ValueError, "attempt_delay=None is not allowed"),
    ({"cancel": "now"}, TypeError, "cancel='now' is not allowed"),
    ({"cancel": Cancel}, TypeError, "cancel=<class 'landline.sync.cancel.Cancel'> is not allowed"),
]

BAD_FOR_STREAMS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"direction": "both"}, ValueError, "direction='both'"),
    ({"direction": None}, ValueError, "direction=None"),
    ({"element_type": int}, ValueError, "element_type=<class 'int'> is not allowed"),
    ({"element_type": "str"}, ValueError, "element_type='str' is not allowed"),
    ({"element_type": str, "encoding": "utf-99"}, ValueError, "encoding='utf-99'"),
    ({"element_type": str, "errors": "whatever"}, ValueError, "errors='whatever'"),
    ({"element_type": str, "newline": "x"}, ValueError, "newline='x'"),
    ({"read_timeout": -0.5}, ValueError, "read_timeout=-0.5 is not allowed"),
    ({"read_timeout": "1"}, TypeError, "read_timeout='1' is not allowed"),
    ({"write_timeout": -0.5}, ValueError, "write_timeout=-0.5 is not allowed"),
    ({"write_timeout": math.nan}, ValueError, "write_timeout=nan is not allowed"),
]

# Wrong only as seen from this machine: these are conditions, which errorp=False returns.
UNKNOWN_HERE: list[tuple[dict[str, Any], str]] = [
    ({"service": "no-such-service"}, "service='no-such-service' is unknown"),
    ({"local_port": "no-such-service"}, "local_port='no-such-service' is unknown"),
    ({"host": "fe80::1%no-such-if"}, "no network interface 'no-such-if' on this machine (host='fe80::1%no-such-if')"),
    ({"local_address": "fe80::1%no-such-if"}, "(local_address='fe80::1%no-such-if')"),
]

FUNCTIONS = [landline.open_tcp_stream, landline.connect_to_tcp_server]


def ids(wrong: object) -> str | None:
    return ascii(wrong) if isinstance(wrong, dict) else None


@pytest.fixture
def _nothing_may_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_door, "connect", lambda *target: pytest.fail("connecting began"))


@pytest.mark.usefixtures("_nothing_may_be_opened")
@pytest.mark.parametrize("errorp", [True, False])
@pytest.mark.parametrize(
    ("function", "wrong", "error", "told"),
    [(function, *bad) for function in FUNCTIONS for bad in BAD_FOR_BOTH]
    + [(landline.open_tcp_stream, *bad) for bad in BAD_FOR_STREAMS],
    ids=ids,
)
def test_a_wrong_argument_is_raised_at_once_and_named(
    function: Callable[..., Any], wrong: dict[str, Any], error: type[Exception], told: str, errorp: bool
) -> None:
    arguments: dict[str, Any] = {"host": "server.example", "service": 80, "errorp": errorp, **wrong}
    with pytest.raises(error) as caught:
        function(**arguments)
    assert told in str(caught.value)
    assert not isinstance(caught.value, landline.SocketError)


@pytest.mark.usefixtures("_nothing_may_be_opened")
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("wrong", "told"), UNKNOWN_HERE, ids=ids)
def test_what_this_machine_does_not_know_is_a_create_error(
    function: Callable[..., Any], wrong: dict[str, Any], told: str
) -> None:
    arguments: dict[str, Any] = {"host": "::1", "service": 80, **wrong}
    with pytest.raises(SocketCreateError) as caught:
        function(**arguments)
    assert told in str(caught.value)
    made, returned = function(**arguments, errorp=False)
    assert made is None
    assert type(returned) is type(caught.value)
    assert str(returned) == str(caught.value)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_host_and_service_alone_are_positional(function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="positional"):
        function("127.0.0.1", 80, 5)
    with pytest.raises(TypeError, match="time_out"):
        function("127.0.0.1", 80, time_out=5)


def test_a_port_of_zero_is_a_port_that_refuses() -> None:
    with pytest.raises(OSError, match=r"could not connect to 127\.0\.0\.1 port 0"):
        landline.open_tcp_stream("127.0.0.1", 0)


@pytest.mark.parametrize("delay", [0.01, 2, 2.0])
def test_the_ends_of_the_range_of_attempt_delays_are_allowed(delay: float) -> None:
    with Listener() as listener:
        landline.open_tcp_stream("127.0.0.1", listener.port, attempt_delay=delay).close()


def test_conditions_of_the_network_are_returned_with_errorp_false(resolver: Resolver) -> None:
    resolver.say("nowhere.example")
    stream, error = landline.open_tcp_stream("nowhere.example", 80, errorp=False)
    assert stream is None
    assert isinstance(error, landline.HostLookupError)
    with refusing() as closed:
        text, refusal = landline.open_tcp_stream("127.0.0.1", closed.port, errorp=False, element_type=str)
    assert text is None
    assert isinstance(refusal, ConnectionRefusedError)
