"""start_up_server(ssl_ctx=...): who fails its handshake is logged and delays nobody; certificates are renewed.

Clients' certificates and the choice of contexts by name are in test_tls_server_choices.py.
"""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from certificates import (
    matrix,  # noqa: F401 - the fixture `certificates`
)
from opening import resolver_fixture as _resolver  # noqa: F401 - a fixture
from tls_opening import (
    LOOPBACK,
    Drip,
    Handler,
    Log,
    finish,
    handler_fixture,  # noqa: F401 - a fixture
    hear,
    identity_file_fixture,  # noqa: F401 - a fixture
    identity_for,
    is_served,
    log_fixture,  # noqa: F401 - a fixture
    names_fixture,  # noqa: F401 - a fixture
    open_to,
    own_der,
    reset,
    serving,
    tls_of,
    trusted_file_fixture,  # noqa: F401 - a fixture
    trusting_fixture,  # noqa: F401 - a fixture
)
from tls_support import BOTH_VERSIONS, HOST, V12, V13, client_context, new_client, new_server, taken

from landline import (
    Server,
    SocketCreateError,
    SocketStream,
    SslAbstractContext,
    SslCondition,
    SslFailure,
    create_ssl_client_context,
    create_ssl_server_context,
    open_tcp_stream,
    start_up_server,
)
from landline.sync import server as server_module
from landline.testing.contract.stage import PATIENCE, Task, until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")


def raw(server: Server) -> socket.socket:
    return socket.create_connection((LOOPBACK, server.port), PATIENCE)


# ---- serving ---------------------------------------------------------------------------------------------


@BOTH_VERSIONS
@pytest.mark.parametrize("abstract", [True, False])
def test_each_client_is_served_over_tls(
    abstract: bool, version: ssl.TLSVersion, handler: Handler, identity_file: str
) -> None:
    context = create_ssl_server_context(cert_file=identity_file) if abstract else serving()
    client = client_context(version)
    with start_up_server(handler, ssl_ctx=context, read_timeout=3) as server, ExitStack() as opened:
        streams = [opened.enter_context(open_to(server, client)) for _ in range(10)]
        for _ in range(2):
            for stream in streams:
                assert tls_of(stream).version == {V12: "TLSv1.2", V13: "TLSv1.3"}[version]
        for stream in streams:
            stream.shutdown("output")
            assert stream.read() == b""  # ended properly
    assert [tls is not None and tls.server_side for tls in handler.seen] == [True] * 10


def test_the_limits_of_the_stream_are_not_those_of_its_handshake(trusting: SslAbstractContext) -> None:
    seen: list[object] = []

    def look(stream: SocketStream) -> None:
        seen.append((stream.read_timeout, stream.write_timeout))

    with (
        start_up_server(look, ssl_ctx=serving(), read_timeout=3, write_timeout=4, handshake_timeout=60) as server,
        open_to(server, trusting) as stream,
    ):
        assert stream.read() == b""
    assert seen == [(3, 4)]


@BOTH_VERSIONS
def test_clients_resume(version: ssl.TLSVersion, handler: Handler, identity_file: str) -> None:
    context, client = create_ssl_server_context(cert_file=identity_file), client_context(version)
    with start_up_server(handler, ssl_ctx=context) as server:
        reused = []
        for _ in range(4):
            with open_to(server, client) as stream:
                reused.append(tls_of(stream).session_reused)
    assert reused == [False, False, True, True]  # a context of one's own keeps sessions from its second use on
    assert [tls is not None and tls.session_reused for tls in handler.seen] == reused


# ---- who fails -------------------------------------------------------------------------------------------


def test_silent_clients_delay_nobody(handler: Handler) -> None:
    with start_up_server(handler, ssl_ctx=serving(), handshake_timeout=60) as server, ExitStack() as opened:
        for _ in range(20):
            opened.enter_context(raw(server))
        until(lambda: server.connections == 20)
        for _ in range(5):
            assert is_served(server)
        assert server.connections >= 20
        assert len(handler.seen) == 5


def drips(sock: socket.socket) -> None:
    """A ClientHello, far too slowly."""
    Drip(0.004)(sock, hello())


def hello(version: ssl.TLSVersion | None = None) -> bytes:
    client = new_client(client_context(version))
    client.handshake()
    return taken(client)


@pytest.mark.parametrize("behave", [hear, drips], ids=["silent", "dripping"])
@pytest.mark.parametrize("given", [True, False])
def test_each_handshake_has_a_limit_and_its_end_a_line_in_the_log(
    behave: Callable[[socket.socket], object],
    given: bool,
    handler: Handler,
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = {"handshake_timeout": 0.05} if given else {}
    if not given:
        monkeypatch.setattr(server_module, "HANDSHAKE_LIMIT", 0.05)
    with start_up_server(handler, ssl_ctx=serving(), name="mine", **limit) as server, raw(server) as client:  # type: ignore[arg-type]
        behave(client)
        assert hear(client) == b""
        where = "{}:{}".format(*client.getsockname())
        line = log.warning()
        assert line == f"mine: the TLS handshake with {where} was not done within handshake_timeout=0.05 s"
        assert is_served(server)
    assert len(handler.seen) == 1


def says(data: bytes) -> Callable[[socket.socket], None]:
    def behave(sock: socket.socket) -> None:
        sock.sendall(data)
        finish(sock)

    return behave


def close_tls(sock: socket.socket) -> None:
    sock.sendall(hello(V12))
    hear(sock)
    says(b"\x15\x03\x03\x00\x02\x01\x00")(sock)


@pytest.mark.parametrize(
    ("behave", "told"),
    [
        (says(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "the peer speaks plain HTTP, not TLS; it began with 'GET / "),
        (says(b"EHLO \x1b[2J\r\n"), r"the peer does not speak TLS; it began with 'EHLO \x1b[2J"),
        (says(b"\x16\x03\x01\x00\x05hello"), "failed: "),
        (says(b""), "the peer ended the connection without close_notify"),
        (close_tls, "the peer closed TLS in the middle of the handshake"),
    ],
    ids=["http", "smtp", "garbage", "nothing", "close_notify"],
)
def test_whoever_fails_is_logged_and_never_reaches_the_handler(
    behave: Callable[[socket.socket], object], told: str, handler: Handler, log: Log
) -> None:
    with start_up_server(handler, ssl_ctx=serving(), name="mine") as server:
        with raw(server) as client:
            behave(client)
            where = "{}:{}".format(*client.getsockname())
        line = log.warning()
        assert line.startswith(f"mine: the TLS handshake with {where} failed: ")
        assert told in line
        until(lambda: server.connections == 0)
        assert handler.seen == []
        assert is_served(server)


def test_a_client_with_nothing_in_common_is_logged(handler: Handler, log: Log) -> None:
    with start_up_server(handler, ssl_ctx=serving(V13)) as server:
        with pytest.raises(SslFailure):
            open_to(server, client_context(V12))
        assert "failed: unsupported protocol" in log.warning()
    assert handler.seen == []


@BOTH_VERSIONS
@pytest.mark.parametrize("end", [finish, reset])
def test_clients_cut_anywhere_are_logged_and_gone(
    version: ssl.TLSVersion, end: Callable[[socket.socket], object], handler: Handler, log: Log
) -> None:
    """After every 50th byte that a client sends in its handshake, and before the last one."""
    length = len(of_client(client_context(version), serving(version)))
    cuts = [*range(0, length, 50), length - 1]
    assert len(cuts) > 5
    context = client_context(version)
    with start_up_server(handler, ssl_ctx=serving(version)) as server:
        for cut in cuts:
            with raw(server) as sock:
                send_part(sock, context, cut)
                until(lambda: server.connections == 1)  # accepted: a reset before that is nobody's handshake
                end(sock)
                until(lambda: server.connections == 0)
        log.warning(len(cuts))
        assert all("the TLS handshake with 127.0.0.1:" in line for line in log.lines())
        assert handler.seen == []
        assert is_served(server)


def of_client(client_side: ssl.SSLContext, server_side: ssl.SSLContext) -> bytes:
    """All that a client sends in its handshake."""
    client, server = new_client(client_side), new_server(server_side)
    sent = b""
    while not server.handshake():
        client.feed(taken(server))
        client.handshake()
        data = taken(client)
        server.feed(data)
        sent += data
    return sent


def send_part(sock: socket.socket, context: ssl.SSLContext, count: int) -> None:
    """So many bytes of a handshake."""
    client = new_client(context)
    while True:
        client.handshake()
        data = taken(client)[:count]
        sock.sendall(data)
        count -= len(data)
        if not count:
            return
        client.feed(hear(sock))


# ---- renewal ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [False, True], ids=["own", "chosen by name"])
@pytest.mark.usefixtures("names")
def test_reset_takes_a_renewed_certificate_for_the_next_connection(
    chosen: bool, handler: Handler, identity_file: str, tmp_path: Path
) -> None:
    """Connections that exist go on; before reset() nothing is read again."""
    path = tmp_path / "current.pem"
    shutil.copy(identity_file, path)
    context = create_ssl_server_context(cert_file=path)
    front = create_ssl_server_context(cert_file=identity_file, sni_callback=lambda name: context) if chosen else context
    with start_up_server(handler, ssl_ctx=front) as server, open_to(server, client_context(), HOST) as existing:
        assert tls_of(existing).chain[0] == own_der()
        shutil.copy(identity_for(HOST, tmp_path), path)
        with open_to(server, client_context(), HOST) as stream:
            assert tls_of(stream).chain[0] == own_der()
        context.reset()
        with open_to(server, client_context(), HOST) as stream:
            assert tls_of(stream).chain[0] != own_der()
        assert tls_of(existing).chain[0] == own_der()


def test_a_file_that_is_bad_after_reset_ends_clients_until_it_is_mended(
    handler: Handler, identity_file: str, tmp_path: Path, log: Log
) -> None:
    path = tmp_path / "current.pem"
    shutil.copy(identity_file, path)
    context = create_ssl_server_context(cert_file=path)
    with start_up_server(handler, ssl_ctx=context) as server:
        path.write_text("")
        context.reset()
        for count in (1, 2):
            with pytest.raises(SslCondition):
                open_to(server, client_context())
            assert f"cert_file={str(path)!r}: it is empty" in log.warning(count, "ERROR")
        shutil.copy(identity_file, path)
        assert is_served(server)


# ---- beginning and ending --------------------------------------------------------------------------------


@pytest.mark.parametrize("drain", [0, 0.05])
def test_terminate_does_not_wait_for_handshakes(drain: float, handler: Handler, log: Log) -> None:
    """Beyond the drain that all connections have; and what it ends is not told as a failure of the clients'."""
    with ExitStack() as opened:
        server = start_up_server(handler, ssl_ctx=serving(), handshake_timeout=60)
        clients = [opened.enter_context(raw(server)) for _ in range(10)]
        for client in clients[5:]:
            client.sendall(b"\x16\x03\x01")
        until(lambda: server.connections == 10)
        ending = Task(lambda: server.terminate(drain))
        ending.result()
        assert server.connections == 0
        for client in clients:
            assert hear(client) == b""
    assert handler.seen == []
    assert log.lines() == []


def start_with(**arguments: Any) -> Any:
    return start_up_server(lambda stream: pytest.fail("called"), **arguments)


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        ({"ssl_ctx": True}, ValueError, "a server needs a certificate; use create_ssl_server_context"),
        ({"ssl_ctx": "tls-v1-3"}, ValueError, "a server needs a certificate"),
        ({"ssl_ctx": "v3"}, ValueError, "SSL 3.0 is broken"),
        ({"ssl_ctx": 1}, TypeError, "ssl_ctx=1 is not allowed"),
        ({"ssl_ctx": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}, ValueError, "PROTOCOL_TLS_CLIENT, and this is a server"),
        ({"ssl_ctx": create_ssl_client_context()}, ValueError, "it is for clients; use create_ssl_server_context"),
        ({"handshake_timeout": -1}, ValueError, "handshake_timeout=-1.0 is not allowed"),
        ({"handshake_timeout": "1"}, TypeError, "handshake_timeout='1' is not allowed"),
    ],
)
def test_a_wrong_argument_is_told_at_the_start(wrong: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error) as caught:
        start_with(**wrong)
    assert told in str(caught.value)


def test_a_bad_file_is_told_at_the_start(tmp_path: Path) -> None:
    context = create_ssl_server_context(cert_file=tmp_path / "missing.pem")
    with pytest.raises(SocketCreateError, match=r"^cert_file=.*missing\.pem") as caught:
        start_with(ssl_ctx=context)
    assert isinstance(caught.value, FileNotFoundError)


def test_false_is_no_tls_as_none_is(handler: Handler, log: Log) -> None:
    """As for open_tcp_stream(): refused at the start, or served in the clear; not one by one, in the log."""
    not_allowed: Any = False
    try:
        server = start_up_server(handler, ssl_ctx=not_allowed)
    except (TypeError, ValueError):
        return
    with server, open_tcp_stream(LOOPBACK, server.port, read_timeout=PATIENCE) as stream:
        stream.write(b"in the clear\n")
        assert stream.readline() == b"in the clear\n"
    assert log.lines() == []
