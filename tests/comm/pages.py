"""What the tests of comm's page share: connections of comm's, and the peers and names of the tests of opening."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opening import (
    NOT_LINUX,
    WITHIN,
    Listener,
    Resolver,
    one_port,
    refusing,
    resolver_fixture,
    silence,
    timing,
)
from tls_opening import (
    LOOPBACK,
    OTHER,
    WRONG,
    echoing,
    identity_file_fixture,
    names_fixture,
    peer,
    refused,
    says,
    serving,
    shaking,
    silent,
    system_trust_fixture,
    trusted_file_fixture,
)

from landline import comm

__all__ = [
    "LOOPBACK",
    "NOT_LINUX",
    "OTHER",
    "WITHIN",
    "WRONG",
    "Listener",
    "Resolver",
    "condition_of",
    "connection",
    "echoing",
    "identity_file_fixture",
    "names_fixture",
    "one_port",
    "opening",
    "peer",
    "refused",
    "refusing",
    "resolver_fixture",
    "says",
    "serving",
    "shaking",
    "silence",
    "silent",
    "system_trust_fixture",
    "timing",
    "trusted_file_fixture",
]

opening: Any = comm.open_tcp_stream
"""It, for arguments that a type checker would refuse."""


def condition_of(opened: comm.Opened) -> Any:
    """The condition of an opening that failed."""
    assert opened.stream is None
    assert isinstance(opened.condition, comm.socket_error)
    return opened.condition


@contextmanager
def connection(**arguments: Any) -> Iterator[tuple[comm.SocketStream, socket.socket]]:
    """A stream opened with ``arguments``, and the peer's socket."""
    with (
        Listener() as listener,
        opening(LOOPBACK, listener.port, **arguments) as stream,
        listener.accept()[0] as far,
    ):
        yield stream, far
