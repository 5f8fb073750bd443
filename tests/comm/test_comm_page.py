"""The page of open-tcp-stream, sentence by sentence: arguments, result, errorp, direction, elements, the example.

Its hosts and sockets are in test_comm_page_sockets.py, its time limits of reading and writing in
test_comm_page_limits.py, its TLS in test_comm_page_tls.py. Each test is named after what its sentence is about.

Source: LispWorks manual, open-tcp-stream; socket-stream, which it refers to.
"""

from __future__ import annotations

import inspect
import math
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, get_overloads

import pytest
from pages import (
    LOOPBACK,
    Listener,
    Resolver,
    connection,
    opening,
    peer,
    refusing,
    silence,
)
from pages import resolver_fixture as _resolver  # noqa: F401 - a fixture

from landline import StreamClosed, comm
from landline.testing.contract.stage import PATIENCE, standing_still, until
from landline.tls.names import NOT_GIVEN

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

KEYWORDS = {
    "direction": "io",
    "element_type": "base-char",
    "errorp": False,
    "read_timeout": None,
    "write_timeout": None,
    "timeout": None,
    "ssl_ctx": None,
    "ctx_configure_callback": None,
    "ssl_configure_callback": None,
    "handshake_timeout": None,
    "tlsext_host_name": NOT_GIVEN,
    "local_address": None,
    "ipv6": "any",
    "local_port": None,
    "nodelay": True,
    "keepalive": False,
}
"""In the page's order, with the page's defaults; what it says of no tlsext-host-name is neither what it says of t
nor what it says of nil."""

SILENCE = 0.05
"""Seconds: a timeout that is meant to pass."""


# ---- the arguments ---------------------------------------------------------------------------------------


def test_hostspec_and_service_come_first() -> None:
    assert positional(comm.open_tcp_stream) == ["hostspec", "service"]


def test_the_keywords_and_their_defaults_are_the_pages() -> None:
    assert [(name, default) for name, default in keywords(comm.open_tcp_stream).items()] == list(KEYWORDS.items())


def test_a_type_checker_is_told_of_the_same_arguments() -> None:
    overloads = get_overloads(comm.open_tcp_stream)
    assert len(overloads) == 2
    for overload in overloads:
        assert positional(overload) == ["hostspec", "service"]
        assert list(keywords(overload)) == list(KEYWORDS)


def test_the_keywords_are_only_that() -> None:
    with pytest.raises(TypeError, match="positional"):
        opening(LOOPBACK, 80, "io")
    with pytest.raises(TypeError, match="'ssl_side'"):
        opening(LOOPBACK, 80, ssl_side="client")


def positional(function: Callable[..., object]) -> list[str]:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [name for name, each in inspect.signature(function).parameters.items() if each.kind is kind]


def keywords(function: Callable[..., object]) -> dict[str, object]:
    found = inspect.signature(function).parameters.items()
    return {name: each.default for name, each in found if each.kind is inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("errorp", [False, True])
@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"hostspec": None}, TypeError),
        ({"hostspec": ""}, ValueError),
        ({"hostspec": 1 << 32}, ValueError),
        ({"service": None}, TypeError),
        ({"service": 80.0}, TypeError),
        ({"service": 65536}, ValueError),
        ({"direction": "both"}, ValueError),
        ({"direction": None}, TypeError),
        ({"element_type": "character"}, ValueError),
        ({"element_type": int}, TypeError),
        ({"element_type": ("unsigned-byte", 16)}, TypeError),
        *(({name: value}, ValueError) for name in ("timeout", "read_timeout", "write_timeout") for value in (0, 0.0)),
        *(
            ({name: value}, ValueError)
            for name in ("timeout", "read_timeout", "write_timeout", "handshake_timeout")
            for value in (-1, math.nan)
        ),
        *(({name: "5"}, TypeError) for name in ("timeout", "read_timeout", "write_timeout", "handshake_timeout")),
        ({"ssl_ctx": 5}, TypeError),
        ({"ctx_configure_callback": "yes"}, TypeError),
        ({"ssl_configure_callback": "yes"}, TypeError),
        ({"tlsext_host_name": 5}, TypeError),
        ({"local_address": 1.5}, TypeError),
        ({"local_port": 80.0}, TypeError),
        ({"ipv6": "both"}, ValueError),
        ({"ipv6": 6}, ValueError),
    ],
)
def test_a_wrong_argument_is_an_error_whatever_errorp_says(
    wrong: dict[str, Any], error: type[Exception], errorp: bool
) -> None:
    """Nothing is connected: the peer hears of nobody."""
    with Listener() as listener:
        arguments = {"hostspec": LOOPBACK, "service": listener.port, "errorp": errorp, **wrong}
        with pytest.raises(error, match="is not allowed") as caught:
            opening(**arguments)
        assert next(iter(wrong)).removesuffix("spec") in str(caught.value)
        listener.sock.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()


# ---- what it returns -------------------------------------------------------------------------------------


def test_a_connection_is_a_socket_stream_and_no_condition() -> None:
    with Listener() as listener:
        opened = comm.open_tcp_stream(LOOPBACK, listener.port)
        stream, condition = opened
        assert (opened.stream, opened.condition) == (stream, condition)
        assert isinstance(stream, comm.socket_stream)
        assert condition is None
        with listener.accept()[0] as far:
            assert comm.write_string("Grüße", stream) == "Grüße"
            comm.force_output(stream)
            assert far.recv(100) == "Grüße".encode("latin-1")
        assert comm.close(stream)


def test_with_enters_the_stream_of_the_result_and_closes_it() -> None:
    with Listener() as listener:
        opened = comm.open_tcp_stream(LOOPBACK, listener.port)
        with opened as stream:
            assert stream is opened.stream
            assert comm.open_stream_p(stream)
        assert not comm.open_stream_p(stream)


def test_with_raises_the_condition_of_the_result() -> None:
    with refusing() as closed:
        opened = comm.open_tcp_stream(LOOPBACK, closed.port)
    assert opened.stream is None
    for entering in (opened.__enter__, comm.with_open_stream(opened).__enter__):
        with pytest.raises(comm.socket_connect_error) as caught:
            entering()
        assert caught.value is opened.condition


# ---- errorp ----------------------------------------------------------------------------------------------


@contextmanager
def a_dead_port(resolver: Resolver) -> Iterator[dict[str, Any]]:
    with refusing() as closed:
        yield {"hostspec": LOOPBACK, "service": closed.port}


@contextmanager
def a_silent_host(resolver: Resolver) -> Iterator[dict[str, Any]]:
    with silence() as listener:
        yield {"hostspec": LOOPBACK, "service": listener.port, "timeout": SILENCE}


@contextmanager
def an_unknown_name(resolver: Resolver) -> Iterator[dict[str, Any]]:
    resolver.say("unknown.example")
    yield {"hostspec": "unknown.example", "service": 80}


@contextmanager
def a_slow_lookup(resolver: Resolver) -> Iterator[dict[str, Any]]:
    resolver.hang("slow.example")
    yield {"hostspec": "slow.example", "service": 80, "timeout": SILENCE}


@contextmanager
def an_unknown_service(resolver: Resolver) -> Iterator[dict[str, Any]]:
    yield {"hostspec": LOOPBACK, "service": "no-such-service"}


@contextmanager
def a_foreign_local_address(resolver: Resolver) -> Iterator[dict[str, Any]]:
    with Listener() as listener:
        yield {"hostspec": LOOPBACK, "service": listener.port, "local_address": "192.0.2.1"}


FAILURES = [
    (a_dead_port, comm.socket_connect_error, ConnectionRefusedError),
    (a_silent_host, comm.socket_connect_error, TimeoutError),
    (an_unknown_name, comm.socket_connect_error, socket.gaierror),
    (a_slow_lookup, comm.socket_connect_error, TimeoutError),
    (an_unknown_service, comm.socket_create_error, ValueError),
    (a_foreign_local_address, comm.socket_create_error, OSError),
]

each_failure = pytest.mark.parametrize(
    ("failing", "kind", "kin"), FAILURES, ids=[failing.__name__ for failing, _, _ in FAILURES]
)


@each_failure
@pytest.mark.parametrize("errorp", [{}, {"errorp": None}, {"errorp": False}], ids=["default", "None", "False"])
def test_errorp_nil_returns_no_stream_and_the_condition(
    failing: Any, kind: type[Exception], kin: type[Exception], errorp: dict[str, Any], resolver: Resolver
) -> None:
    with failing(resolver) as arguments:
        stream, condition = opening(**arguments, **errorp)
    assert stream is None
    assert isinstance(condition, kind)
    assert isinstance(condition, kin)
    assert isinstance(condition, comm.socket_error)
    assert comm.socket_error_connection(condition) is None


@each_failure
def test_errorp_true_signals_the_condition(
    failing: Any, kind: type[Exception], kin: type[Exception], resolver: Resolver
) -> None:
    with failing(resolver) as arguments, pytest.raises(kind) as caught:
        opening(**arguments, errorp=True)
    assert isinstance(caught.value, kin)


def test_errorp_true_returns_the_stream_alone() -> None:
    with Listener() as listener:
        stream = comm.open_tcp_stream(LOOPBACK, listener.port, errorp=True)
        assert isinstance(stream, comm.socket_stream)
        assert comm.close(stream)


# ---- direction -------------------------------------------------------------------------------------------


def test_direction_io_is_the_default_and_goes_both_ways() -> None:
    for arguments in ({}, {"direction": "io"}, {"direction": ":IO"}):
        with connection(**arguments) as (stream, far):
            assert stream.direction == "io"
            far.sendall(b"?")
            assert comm.read_char(stream) == "?"
            comm.write_char("!", stream)
            comm.force_output(stream)
            assert far.recv(10) == b"!"


def test_direction_input_refuses_output() -> None:
    with connection(direction="input") as (stream, far):
        for write in (comm.write_char, comm.write_string, comm.write_line, comm.write_sequence):
            with pytest.raises(ValueError, match="direction"):
                write("x", stream)
        far.sendall(b"news")
        far.shutdown(socket.SHUT_WR)
        assert comm.read_line(stream) == ("news", True)
    assert far.fileno() == -1


def test_direction_output_refuses_input() -> None:
    with connection(direction="output") as (stream, far):
        far.sendall(b"news")
        for read in (comm.read_char, comm.read_char_no_hang, comm.read_line, comm.listen):
            with pytest.raises(ValueError, match="direction"):
                read(stream)
        comm.write_string("told", stream)
        comm.force_output(stream)
        assert far.recv(10) == b"told"


# ---- element-type ----------------------------------------------------------------------------------------


ALL = bytes(range(256))

BASE_CHAR: list[Any] = ["base-char", ":base-char", "BASE-CHAR", str]
UNSIGNED: list[Any] = ["unsigned-byte", ("unsigned-byte", 8), ["unsigned-byte", 8], ":UNSIGNED-BYTE", bytes]
SIGNED: list[Any] = ["signed-byte", ("signed-byte", 8)]


@pytest.mark.parametrize("arguments", [{}, *({"element_type": each} for each in BASE_CHAR)], ids=str)
def test_element_type_is_base_char_by_default_and_characters_are_latin_1(arguments: dict[str, Any]) -> None:
    with connection(**arguments) as (stream, far):
        assert comm.stream_element_type(stream) == "base-char"
        far.sendall(ALL)
        into: list[Any] = [None] * 255
        assert (comm.read_char(stream), comm.read_sequence(into, stream)) == ("\0", 255)
        assert into == [chr(code) for code in range(1, 256)]
        comm.write_string(ALL.decode("latin-1"), stream)
        comm.force_output(stream)
        assert far.recv(1000) == ALL
        with pytest.raises(TypeError, match="read_byte"):
            comm.read_byte(stream)
        with pytest.raises(TypeError, match="write_byte"):
            comm.write_byte(1, stream)
        with pytest.raises(UnicodeEncodeError):
            comm.write_char("€", stream)


@pytest.mark.parametrize(
    ("element_type", "is_called", "high"),
    [(each, "unsigned-byte", 255) for each in UNSIGNED] + [(each, "signed-byte", -1) for each in SIGNED],
    ids=str,
)
def test_element_type_of_bytes_makes_integers(element_type: Any, is_called: str, high: int) -> None:
    with connection(element_type=element_type) as (stream, far):
        assert comm.stream_element_type(stream) == is_called
        far.sendall(b"\x00\xff\x7f\xff")
        into: list[Any] = [None, None]
        assert (comm.read_byte(stream), comm.read_byte(stream)) == (0, high)
        assert (comm.read_sequence(into, stream), into) == (2, [127, high])
        assert comm.write_byte(high, stream) == high
        comm.write_sequence([1, high], stream)
        comm.force_output(stream)
        assert far.recv(10) == b"\xff\x01\xff"


@pytest.mark.parametrize(("element_type", "wrong"), [("unsigned-byte", [-1, 256]), ("signed-byte", [-129, 128])])
def test_element_type_bounds_what_is_written(element_type: str, wrong: list[int]) -> None:
    with connection(element_type=element_type) as (stream, far):
        for byte in wrong:
            with pytest.raises(ValueError, match="is not allowed"):
                comm.write_byte(byte, stream)
    assert far.fileno() == -1


@pytest.mark.parametrize("element_type", ["base-char", "unsigned-byte", "signed-byte"])
def test_characters_and_bytes_mix_whatever_the_element_type(element_type: str) -> None:
    with connection(element_type=element_type) as (stream, far):
        far.sendall(b"a line\n\xe9\x01\x02rest")
        assert comm.read_line(stream) == ("a line", False)
        assert comm.read_char(stream) == "é"
        two = bytearray(2)
        assert (comm.read_sequence(two, stream), bytes(two)) == (2, b"\x01\x02")
        assert comm.peek_char(None, stream) == "r"
        comm.write_string("é", stream)
        comm.write_sequence(b"\x80", stream)
        comm.write_sequence(["x", 7], stream)
        comm.force_output(stream)
        assert far.recv(10) == b"\xe9\x80x\x07"


# ---- the example -----------------------------------------------------------------------------------------

PAGE = "HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<p>Grüße</p>\nthe last line, without a newline"


def retrieve_the_root_page(port: int, sleep: Callable[[], object]) -> None:
    """The page's example, form by form."""
    with comm.with_open_stream(comm.open_tcp_stream(LOOPBACK, port)) as http:
        comm.format_(http, "GET / HTTP/1.0~C~C~C~C", chr(13), chr(10), chr(13), chr(10))
        comm.force_output(http)
        comm.write_string("Waiting to reply...")
        while not (ch := comm.read_char_no_hang(http, None, "eof")):
            comm.write_char(".")
            sleep()
        if ch != "eof":
            comm.unread_char(ch, http)
        comm.terpri()
        while (line := comm.read_line(http, None, None).line) is not None:
            comm.write_line(line)


def test_the_example_prints_dots_while_it_waits_and_then_all_of_a_page_that_pauses(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The peer begins after three dots, and pauses in the middle of a line until the example waits for the rest."""
    slept: list[None] = []
    enough, moment = threading.Event(), threading.Event()
    waits = standing_still(threading.get_ident())
    requests: list[bytes] = []

    def sleep() -> None:
        slept.append(None)
        if len(slept) >= 3:
            enough.set()
        moment.wait(0.001)

    def answer(sock: socket.socket) -> None:
        requests.append(sock.recv(100))
        assert enough.wait(PATIENCE)
        sock.sendall(PAGE.encode("latin-1")[:60])
        until(waits)
        sock.sendall(PAGE.encode("latin-1")[60:])

    with peer(answer) as listener:
        retrieve_the_root_page(listener.port, sleep)
    assert requests == [b"GET / HTTP/1.0\r\n\r\n"]
    waited, _, page = capsys.readouterr().out.partition("\n")
    assert waited == "Waiting to reply..." + "." * len(slept)
    assert page == PAGE + "\n"


def test_the_example_ends_with_a_server_that_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with peer(lambda sock: sock.recv(100)) as listener:
        retrieve_the_root_page(listener.port, lambda: threading.Event().wait(0.001))
    waited, newline, page = capsys.readouterr().out.partition("\n")
    assert (waited.rstrip("."), newline, page) == ("Waiting to reply", "\n", "")


def test_the_example_closes_its_stream_and_signals_what_kept_it_from_opening() -> None:
    with refusing() as closed, pytest.raises(comm.socket_connect_error):
        retrieve_the_root_page(closed.port, lambda: None)
    with Listener() as listener:
        with comm.with_open_stream(comm.open_tcp_stream(LOOPBACK, listener.port)) as stream:
            pass
        with pytest.raises(StreamClosed):
            comm.read_char(stream)
