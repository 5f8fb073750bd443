"""comm's bare handles: connect_to_tcp_server and close_socket_handle; and waiting for input on many streams.

Source: LispWorks manual, connect-to-tcp-server, close-socket-handle, system:wait-for-input-streams.
"""

from __future__ import annotations

import inspect
import socket
from collections.abc import Callable
from typing import Any

import pytest
from lisp_pairs import (
    near_and_far,
    seen_by,
)
from pages import LOOPBACK, Listener, refusing

from landline import comm
from landline.testing.contract.stage import BRIEF, Task

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

connecting: Any = comm.connect_to_tcp_server
"""It, for arguments that a type checker would refuse."""

WAITS: dict[str, Callable[..., Any]] = {
    "all": comm.wait_for_input_streams,
    "first": lambda *arguments, **more: [
        found for found in [comm.wait_for_input_streams_returning_first(*arguments, **more)] if found is not None
    ],
}
each_wait = pytest.mark.parametrize("wait", WAITS.values(), ids=list(WAITS))


# ---- handles -----------------------------------------------------------------------------------------------


def test_connect_to_tcp_server_gives_a_handle_that_is_the_callers() -> None:
    with Listener() as listener:
        handle = comm.connect_to_tcp_server(LOOPBACK, listener.port, local_address="127.0.0.9", keepalive=True)
        assert handle is not None
        far, (host, _port) = listener.accept()
        with far, handle:
            assert (host, handle.gettimeout()) == ("127.0.0.9", None)
            assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            with comm.socket_stream(socket=handle) as stream:
                comm.write_char("x", stream)
            assert seen_by(far) == b"x"


def test_connect_to_tcp_server_raises_unless_errorp_is_false() -> None:
    assert inspect.signature(comm.connect_to_tcp_server).parameters["errorp"].default is True
    with refusing() as address:
        with pytest.raises(comm.socket_connect_error) as caught:
            comm.connect_to_tcp_server(*address)
        assert isinstance(caught.value, ConnectionRefusedError)
        assert comm.connect_to_tcp_server(*address, errorp=None) is None
        for wrong in ({"timeout": 0}, {"ipv6": "both"}, {"local_port": 70000}):
            with pytest.raises((TypeError, ValueError)):
                connecting(*address, errorp=False, **wrong)


def test_close_socket_handle_closes_a_handle() -> None:
    with socket.socket() as handle:
        comm.close_socket_handle(handle)
        assert handle.fileno() < 0
    with pytest.raises(TypeError, match="handle=5"):
        comm.close_socket_handle(5)  # type: ignore[arg-type]


# ---- waiting for input on streams --------------------------------------------------------------------------


@each_wait
def test_waiting_gives_the_streams_that_have_input_in_their_order(wait: Callable[..., Any]) -> None:
    with near_and_far() as (one, _far_one), near_and_far() as (two, far_two), near_and_far() as (three, far_three):
        streams = [one, two, three]
        assert wait(streams, timeout=0) == []
        assert wait(streams, timeout=BRIEF, wait_reason="nobody cares") == []
        waiting = Task(lambda: wait(streams)).blocked()
        far_three.sendall(b"x")
        assert waiting.result() == [three]
        far_two.close()
        assert wait([two]) == [two]
        comm.unread_char("x", one)
        assert wait(streams) == (streams if wait is comm.wait_for_input_streams else [one])


@each_wait
def test_a_true_wait_function_ends_the_wait(wait: Callable[..., Any]) -> None:
    with near_and_far() as (stream, far):
        answers = iter([None, 0, True])
        assert wait([stream], wait_function=lambda: next(answers)) == []
        assert next(answers, "asked three times") == "asked three times"
        assert wait([stream], wait_function=lambda: False, timeout=BRIEF) == []
        waiting = Task(lambda: wait([stream], wait_function=lambda: False)).blocked()
        far.sendall(b"x")
        assert waiting.result() == [stream]
