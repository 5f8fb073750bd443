"""comm's socket_stream: its initargs, its handle, half closes; and create_ssl_socket_stream.

Source: LispWorks manual, socket-stream, replace-socket-stream-socket, socket-stream-shutdown, create-ssl-socket-stream.
"""

from __future__ import annotations

import gc
import inspect
import io
import socket
import ssl
from typing import Any

import pytest
from lisp_pairs import (
    near_and_far,
    received,
    secure_near_and_far,
    seen_by,
    stream_class,
    wrapped,
)
from pairs import connect
from tls_support import HOST, client_context, server_context

from landline import SocketStream, StreamClosed, comm
from landline.testing.contract.stage import PATIENCE, Task
from landline.tls.names import NOT_GIVEN

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

making: Any = comm.create_ssl_socket_stream
"""It, for arguments that a type checker would refuse."""


# ---- initargs ----------------------------------------------------------------------------------------------


def test_the_initargs_and_their_defaults_are_the_manuals() -> None:
    assert {name: each.default for name, each in inspect.signature(comm.socket_stream).parameters.items()} == {
        "socket": None,
        "direction": "io",
        "element_type": "base-char",
        "read_timeout": None,
        "write_timeout": None,
        "ssl_ctx": None,
        "ssl_side": "server",
        "ctx_configure_callback": None,
        "ssl_configure_callback": None,
        "handshake_timeout": None,
        "tlsext_host_name": NOT_GIVEN,
    }
    with pytest.raises(TypeError):
        stream_class(None)


def test_it_is_landlines_stream_by_both_names() -> None:
    assert comm.socket_stream is comm.SocketStream
    with near_and_far() as (stream, far):
        assert isinstance(stream, SocketStream)
        assert isinstance(stream, io.BufferedIOBase)
        far.sendall(b"line\nrest")
        assert stream.readline() == b"line\n"
        assert stream.read_exactly(4) == b"rest"


def test_the_facts_are_those_of_the_handle_and_the_initargs() -> None:
    with near_and_far(direction=":INPUT", element_type="signed_byte", read_timeout=3, write_timeout=0.5) as (
        stream,
        far,
    ):
        assert (stream.direction, comm.stream_element_type(stream)) == ("input", "signed-byte")
        assert (comm.stream_read_timeout(stream), comm.stream_write_timeout(stream)) == (3, 0.5)
        assert comm.socket_stream_address(stream) == (0x7F000001, far.getpeername()[1])
        assert comm.socket_stream_peer_address(stream) == (0x7F000001, far.getsockname()[1])
        handle = comm.socket_stream_socket(stream)
        assert handle is not None
        assert handle.fileno() == stream.fileno()
        assert comm.socket_connection_socket(stream) is handle
        stream.read_timeout = None
        assert comm.stream_read_timeout(stream) is None
    assert comm.socket_stream_socket(stream) is None
    assert comm.socket_stream_address(stream) == (0x7F000001, far_port_of(stream))


def far_port_of(stream: comm.SocketStream) -> int:
    assert stream.local_address is not None
    return stream.local_address.port


@pytest.mark.parametrize(
    ("spelled", "element_type"),
    [
        (str, "base-char"),
        ("base-char", "base-char"),
        (":BASE-CHAR", "base-char"),
        (bytes, "unsigned-byte"),
        ("unsigned_byte", "unsigned-byte"),
        (("unsigned-byte", 8), "unsigned-byte"),
        (["signed-byte", 8], "signed-byte"),
        (":signed-byte", "signed-byte"),
    ],
)
def test_element_types_have_several_spellings(spelled: Any, element_type: str) -> None:
    with near_and_far(element_type=spelled) as (stream, _far):
        assert comm.stream_element_type(stream) == element_type


def test_a_direction_is_the_only_one() -> None:
    with near_and_far(direction="input") as (stream, far):
        with pytest.raises(io.UnsupportedOperation):
            comm.write_char("x", stream)
        far.sendall(b"x")
        assert comm.read_char(stream) == "x"
    with near_and_far(direction="output") as (stream, far):
        with pytest.raises(io.UnsupportedOperation):
            comm.read_char(stream)
        comm.write_char("x", stream)
        comm.force_output(stream)
        assert received(far, 1) == b"x"


@pytest.mark.parametrize(
    "wrong",
    [
        {"direction": "both"},
        {"direction": None},
        {"element_type": "character"},
        {"element_type": int},
        {"element_type": ("unsigned-byte", 16)},
        {"element_type": {}},
        {"read_timeout": 0},
        {"read_timeout": -1},
        {"write_timeout": "1"},
        {"ssl_ctx": "v3"},
        {"ssl_ctx": 5},
        {"ssl_ctx": "default", "ssl_side": "peer"},
        {"ssl_ctx": "default", "ssl_side": "client", "handshake_timeout": -1},
        {"ssl_ctx": "default", "ssl_side": "client", "ssl_configure_callback": 5},
        {"ssl_ctx": "default", "ssl_side": "both"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_wrong_argument_is_refused_and_the_handle_is_still_the_callers(wrong: dict[str, Any]) -> None:
    handle, far = connect()
    with handle, far:
        with pytest.raises((TypeError, ValueError, comm.HasNoMeaning)):
            stream_class(socket=handle, **wrong)
        assert handle.gettimeout() is None
        handle.sendall(b"as it was")
        assert received(far, 9) == b"as it was"


def test_a_handle_must_be_a_connected_socket() -> None:
    with socket.socket() as handle:
        with pytest.raises(comm.socket_io_error, match="of no use for a stream"):
            stream_class(socket=handle)
        assert handle.fileno() >= 0
    for wrong in (handle.fileno(), "socket", object()):
        with pytest.raises(TypeError, match="socket="):
            stream_class(socket=wrong)
    with pytest.raises(comm.SocketIOError):
        stream_class(socket=handle)


def test_a_stream_that_is_forgotten_releases_its_handle_and_warns() -> None:
    handle, far = connect()
    stream = stream_class(socket=handle)
    with far:
        kept = [stream]
        del stream
        with pytest.warns(ResourceWarning, match="unclosed <SocketStream"):
            kept.clear()
        gc.collect()
    assert handle.fileno() < 0


# ---- without a handle --------------------------------------------------------------------------------------


def test_without_a_handle_a_stream_is_closed_until_it_gets_one() -> None:
    stream = comm.socket_stream(read_timeout=PATIENCE, element_type=bytes)
    assert "without socket" in repr(stream)
    assert not comm.open_stream_p(stream)
    assert comm.socket_stream_socket(stream) is None
    for use in (comm.read_char, comm.listen, comm.force_output, comm.socket_stream_address, comm.socket_stream_ssl):
        with pytest.raises(StreamClosed, match="has no socket"):
            use(stream)
    with pytest.raises(StreamClosed):
        comm.write_char("x", stream)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = stream.nonsense
    assert comm.close(stream) is False
    stream.abort()
    assert comm.replace_socket_stream_socket(stream, None) is None

    handle, far = connect()
    with far:
        assert comm.set_socket_stream_socket(stream, handle) is handle
        far.sendall(b"\xff")
        assert comm.read_byte(stream) == 255
        assert stream.read_timeout == PATIENCE
        assert comm.close(stream) is True


def test_tls_needs_a_handle() -> None:
    with pytest.raises(ValueError, match="ssl_ctx is not allowed without socket"):
        comm.socket_stream(ssl_ctx=True)


# ---- TLS ---------------------------------------------------------------------------------------------------


def test_a_stream_with_ssl_ctx_is_a_server_unless_ssl_side_says_otherwise() -> None:
    handle, far = connect()
    ours, theirs = server_context(), client_context()
    shaking = Task(lambda: wrapped(far, theirs, server_side=False))
    with comm.socket_stream(socket=handle, ssl_ctx=ours) as stream, shaking.result() as secured:
        assert comm.socket_stream_ssl_side(stream) == "server"
        comm.write_line("sealed", stream)
        comm.force_output(stream)
        assert received(secured, 7) == b"sealed\n"
    with secure_near_and_far() as (stream, secured):
        assert comm.socket_stream_ssl_side(stream) == "client"
        secured.sendall(b"line\n")
        assert comm.read_line(stream).line == "line"


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_failure_of_tls_closes_the_handle(side: str) -> None:
    handle, far = connect()
    context = client_context() if side == "client" else server_context()
    with far:
        far.sendall(b"220 not TLS at all\r\n")
        with pytest.raises(comm.ssl_failure):
            stream_class(socket=handle, ssl_ctx=context, ssl_side=side, tlsext_host_name=HOST)
        assert handle.fileno() < 0


def test_an_exception_of_a_callback_passes() -> None:
    def fail(_session: ssl.SSLObject) -> None:
        raise ZeroDivisionError

    handle, far = connect()
    with handle, far, pytest.raises(ZeroDivisionError):
        stream_class(socket=handle, ssl_ctx=client_context(), ssl_side="client", ssl_configure_callback=fail)


# ---- create_ssl_socket_stream ------------------------------------------------------------------------------


class Named(comm.SocketStream):
    def __init__(self, *, label: str = "", **initargs: Any) -> None:
        super().__init__(**initargs)
        self.label = label


@pytest.mark.parametrize("errorp", [False, True, None, "yes"])
def test_create_ssl_socket_stream_makes_the_class_with_the_initargs(errorp: object) -> None:
    handle, far = connect()
    ours, theirs = server_context(), client_context()
    shaking = Task(lambda: wrapped(far, theirs, server_side=False))
    made = making(handle, ours, errorp=errorp, stream_class=Named, label="x", element_type=bytes, read_timeout=5)
    if not errorp:
        made, condition = made
        assert condition is None
    with made, shaking.result():
        assert type(made) is Named
        assert (made.label, made.read_timeout, comm.stream_element_type(made)) == ("x", 5, "unsigned-byte")
        assert comm.socket_stream_ssl_side(made) == "server"
    assert handle.fileno() < 0


def test_create_ssl_socket_stream_without_ssl_ctx_gives_a_plain_one() -> None:
    handle, far = connect()
    with far:
        stream, condition = making(handle, None)
        with stream:
            assert condition is None
            assert comm.socket_stream_ssl_side(stream) is None
            assert type(stream) is comm.SocketStream


def test_create_ssl_socket_stream_gives_or_raises_the_condition_and_closes_the_handle() -> None:
    for errorp in (False, True):
        handle, far = connect()
        with far:
            far.sendall(b"not TLS\r\n")
            if errorp:
                with pytest.raises(comm.ssl_failure):
                    making(handle, server_context(), errorp=errorp)
            else:
                stream, condition = pair = making(handle, server_context())
                assert stream is None
                assert isinstance(condition, comm.ssl_failure)
                with pytest.raises(comm.ssl_failure):
                    pair.__enter__()
            assert handle.fileno() < 0
    unconnected = socket.socket()
    stream, condition = making(unconnected, None)
    assert (stream, type(condition).__name__, unconnected.fileno()) == (None, "SocketIOError", -1)


@pytest.mark.parametrize(
    "wrong",
    [{"stream_class": SocketStream}, {"stream_class": "socket_stream"}, {"unknown": 1}, {"direction": "up"}],
    ids=str,
)
def test_a_wrong_argument_of_create_ssl_socket_stream_is_raised_and_the_handle_closed(wrong: dict[str, Any]) -> None:
    handle, far = connect()
    with far:
        with pytest.raises((TypeError, ValueError)):
            making(handle, None, **wrong)
        assert handle.fileno() < 0
    with pytest.raises(TypeError, match="socket=5"):
        making(5, None)


# ---- another handle ----------------------------------------------------------------------------------------


def test_replace_gives_the_old_handle_back_and_goes_on_with_the_new_one() -> None:
    with near_and_far(element_type=bytes, read_timeout=3, write_timeout=4) as (stream, far):
        stream.read_timeout, stream.line_limit = PATIENCE, 100
        handle = comm.socket_stream_socket(stream)
        comm.write_string("pending", stream)
        other, other_far = connect()
        with other_far:
            old = comm.replace_socket_stream_socket(stream, other)
            assert old is handle
            assert old is not None
            assert received(far, 7) == b"pending"
            comm.write_string("new", stream)
            comm.force_output(stream)
            assert received(other_far, 3) == b"new"
            other_far.sendall(b"answer\n")
            assert comm.read_line(stream).line == "answer"
            assert comm.socket_stream_socket(stream) is other
            assert comm.socket_stream_peer_address(stream)[1] == other_far.getsockname()[1]
            assert (stream.read_timeout, stream.write_timeout, stream.line_limit) == (PATIENCE, 4, 100)
            with old:
                assert old.gettimeout() is None
                old.sendall(b"!")
                assert received(far, 1) == b"!"
            stream.close()
        assert other.fileno() < 0


def test_replace_with_nil_keeps_the_handle_from_being_closed() -> None:
    with near_and_far() as (stream, far):
        handle = comm.replace_socket_stream_socket(stream, None)
        assert handle is not None
        with handle:
            assert not comm.open_stream_p(stream)
            assert comm.close(stream) is False
            with pytest.raises(StreamClosed):
                comm.write_string("x", stream)
            assert comm.set_socket_stream_socket(stream, handle) is handle
            comm.write_string("again", stream)
            comm.close(stream)
            assert seen_by(far) == b"again"


def test_set_closes_the_old_handle() -> None:
    with near_and_far() as (stream, far):
        old = comm.socket_stream_socket(stream)
        assert old is not None
        other, other_far = connect()
        with other_far:
            assert comm.set_socket_stream_socket(stream, other) is other
            assert old.fileno() < 0
            assert far.recv(1) == b""
            assert comm.set_socket_stream_socket(stream, None) is None
            assert other.fileno() < 0
            assert not comm.open_stream_p(stream)


def test_to_set_the_same_handle_changes_nothing() -> None:
    with near_and_far() as (stream, far):
        handle = comm.socket_stream_socket(stream)
        assert comm.set_socket_stream_socket(stream, handle) is handle
        comm.write_string("still open", stream)
        comm.force_output(stream)
        assert received(far, 10) == b"still open"


def test_a_shut_direction_is_open_again_on_the_new_handle() -> None:
    with near_and_far() as (stream, _far):
        comm.socket_stream_shutdown(stream, "output")
        other, other_far = connect()
        with other_far:
            comm.set_socket_stream_socket(stream, other)
            comm.write_char("x", stream)
            comm.close(stream)
            assert seen_by(other_far) == b"x"


def test_unread_input_is_not_taken_for_another_peers() -> None:
    with near_and_far() as (stream, far):
        far.sendall(b"ab")
        assert comm.read_char(stream) == "a"
        comm.unread_char("a", stream)
        for replace in (comm.replace_socket_stream_socket, comm.set_socket_stream_socket):
            with pytest.raises(ValueError, match="have not been read"):
                replace(stream, None)
        assert comm.read_char(stream) + comm.read_char(stream) == "ab"


def test_a_handle_cannot_be_replaced_under_tls_nor_under_a_reader() -> None:
    with secure_near_and_far() as (stream, secured):
        with pytest.raises(ValueError, match="TLS is active"):
            comm.replace_socket_stream_socket(stream, None)
        secured.sendall(b"x")
        assert comm.read_char(stream) == "x"
    with near_and_far() as (stream, far):
        reading = Task(lambda: comm.read_char(stream)).blocked()
        with pytest.raises(ValueError, match="another thread is reading"):
            comm.replace_socket_stream_socket(stream, None)
        far.sendall(b"y")
        assert reading.result() == "y"


def test_a_handle_that_is_of_no_use_is_refused_and_nothing_changes() -> None:
    with near_and_far() as (stream, far), socket.socket() as unconnected:
        handle = comm.socket_stream_socket(stream)
        with pytest.raises(comm.socket_io_error):
            comm.replace_socket_stream_socket(stream, unconnected)
        with pytest.raises(TypeError, match="socket=5"):
            comm.replace_socket_stream_socket(stream, 5)  # type: ignore[arg-type]
        assert comm.socket_stream_socket(stream) is handle
        with SocketStream(far.dup()) as landlines, pytest.raises(TypeError, match=r"must be a comm\.socket_stream"):
            comm.replace_socket_stream_socket(landlines, None)  # type: ignore[arg-type]


# ---- half closes -------------------------------------------------------------------------------------------


def test_shutdown_output_sends_what_is_pending_and_reading_goes_on() -> None:
    with near_and_far() as (stream, far):
        comm.write_string("pending", stream)
        comm.socket_stream_shutdown(stream, "output")
        assert seen_by(far) == b"pending"
        far.sendall(b"answer\n")
        assert comm.read_line(stream).line == "answer"
        with pytest.raises(StreamClosed) as caught:
            comm.write_char("x", stream)
        assert comm.socket_error_connection(caught.value) is stream
        assert comm.open_stream_p(stream)


def test_shutdown_input_leaves_the_buffer_to_be_read() -> None:
    with near_and_far() as (stream, far):
        far.sendall(b"ab")
        assert comm.peek_char(None, stream) == "a"
        comm.socket_stream_shutdown(stream, ":INPUT")  # type: ignore[arg-type]
        assert comm.read_char(stream) + comm.read_char(stream) == "ab"
        with pytest.raises(StreamClosed):
            comm.read_char(stream, None)
        comm.write_char("x", stream)
        comm.socket_stream_shutdown(stream, "io")
        assert seen_by(far) == b"x"


def test_shutdown_with_abort_drops_what_is_buffered() -> None:
    with near_and_far() as (stream, far):
        far.sendall(b"ab")
        assert comm.read_char(stream) == "a"
        comm.write_string("dropped", stream)
        comm.socket_stream_shutdown(stream, "io", abort="yes")
        assert seen_by(far) == b""
        with pytest.raises(StreamClosed):
            comm.read_char(stream, None)


def test_shutdown_takes_no_other_direction() -> None:
    with near_and_far() as (stream, _far), pytest.raises(ValueError, match="direction='both' is not allowed"):
        comm.socket_stream_shutdown(stream, "both")  # type: ignore[arg-type]
