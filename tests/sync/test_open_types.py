"""What a type checker knows of the front door: proved by mypy, which checks this file with the rest of the house.

assert_type() fails there; so does an ignore that is not needed. Everything is executed too, so what is
promised to the checker is what comes back.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, assert_type

import pytest
from opening import Listener, refusing

from landline import SocketError, SocketStream, TextSocketStream, connect_to_tcp_server, open_tcp_stream

if TYPE_CHECKING:
    from typing import TypeAlias

    StreamOrError: TypeAlias = tuple[SocketStream, None] | tuple[None, SocketError]
    TextOrError: TypeAlias = tuple[TextSocketStream, None] | tuple[None, SocketError]
    SocketOrError: TypeAlias = tuple[socket.socket, None] | tuple[None, SocketError]

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_element_type_decides_the_class_of_the_stream() -> None:
    with Listener() as listener:
        port = listener.port
        with assert_type(open_tcp_stream("127.0.0.1", port), SocketStream) as stream:
            assert type(stream) is SocketStream
        with assert_type(open_tcp_stream("127.0.0.1", port, element_type=bytes), SocketStream) as stream:
            assert type(stream) is SocketStream
        with assert_type(open_tcp_stream("127.0.0.1", port, element_type=str, errorp=True), TextSocketStream) as text:
            assert type(text) is TextSocketStream
        with assert_type(connect_to_tcp_server("127.0.0.1", port), socket.socket) as sock:
            assert type(sock) is socket.socket


def test_errorp_false_makes_pairs() -> None:
    with Listener() as listener:
        port = listener.port
        pair = assert_type(open_tcp_stream("127.0.0.1", port, errorp=False), "StreamOrError")
        text_pair = assert_type(open_tcp_stream("127.0.0.1", port, errorp=None, element_type=str), "TextOrError")
        sock_pair = assert_type(connect_to_tcp_server("127.0.0.1", port, errorp=False), "SocketOrError")
    for made, error in (pair, text_pair, sock_pair):
        assert error is None
        assert made is not None
        made.close()


def test_of_a_pair_one_is_none_and_the_checker_knows_the_other() -> None:
    with refusing() as closed:
        stream, error = open_tcp_stream("127.0.0.1", closed.port, errorp=False)
    assert_type(stream, SocketStream | None)
    assert_type(error, SocketError | None)
    assert stream is None
    assert error is not None
    assert_type(error, SocketError)
    assert error.operation == "connect"


def test_what_the_checker_refuses_is_refused() -> None:
    with pytest.raises(ValueError):
        open_tcp_stream("127.0.0.1", 80, direction="both")  # type: ignore[call-overload]
    with pytest.raises(ValueError):
        open_tcp_stream("127.0.0.1", 80, element_type=int)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        open_tcp_stream("127.0.0.1", 80, timeout="5")  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        open_tcp_stream(b"127.0.0.1", 80)  # type: ignore[call-overload]
    with pytest.raises(ValueError):
        open_tcp_stream("127.0.0.1", 80, ipv6="yes")  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        open_tcp_stream("127.0.0.1")  # type: ignore[call-overload]
