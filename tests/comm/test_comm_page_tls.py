"""The page of open-tcp-stream, sentence by sentence: TLS, on real sockets, and what the server sees of it.

The server is the standard library's context in landline's stream; which name it was sent, OpenSSL tells it. The
client is given as ssl-ctx everything that the page allows: a symbol, a foreign pointer (an ssl.SSLContext), a client
abstract context.

Source: LispWorks manual, open-tcp-stream; 25.8.6.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pages import (
    LOOPBACK,
    OTHER,
    WRONG,
    Listener,
    condition_of,
    echoing,
    identity_file_fixture,  # noqa: F401 - a fixture
    names_fixture,  # noqa: F401 - a fixture
    opening,
    peer,
    refused,
    refusing,
    says,
    serving,
    shaking,
    silent,
    system_trust_fixture,  # noqa: F401 - a fixture
    trusted_file_fixture,  # noqa: F401 - a fixture
)
from pages import resolver_fixture as _resolver  # noqa: F401 - a fixture
from tls_support import HOST, V12, client_context

from landline import SocketStream, comm
from landline.testing.contract.stage import PATIENCE, Task, until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks", "names", "system_trust")

NUMBER = 0x7F000001
OBJECT = ipaddress.IPv6Address("::1")

KINDS: dict[str, Callable[[str], Any]] = {
    "symbol": lambda file: True,
    "foreign pointer": lambda file: client_context(),
    "abstract context": lambda file: comm.create_ssl_client_context(openssl_trusted_file=file),
    "abstract context with a name": lambda file: comm.create_ssl_client_context(
        openssl_trusted_file=file, tlsext_host_name=OTHER
    ),
}
"""What ssl-ctx may be, given the file of the authority to trust."""

each_kind = pytest.mark.parametrize("kind", list(KINDS))


def line_there_and_back(stream: comm.SocketStream) -> None:
    """Over TLS 1.3 the server's tickets come with it, so that nothing is unread at the end."""
    comm.write_line("Grüße", stream)
    assert comm.read_line(stream) == ("Grüße", False)


# ---- ssl-ctx ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [{}, {"ssl_ctx": None}], ids=["default", "None"])
def test_ssl_ctx_nil_is_no_tls(arguments: dict[str, Any]) -> None:
    with Listener() as listener, opening(LOOPBACK, listener.port, **arguments) as stream, listener.accept()[0] as far:
        assert comm.socket_stream_ssl(stream) is None
        assert comm.socket_stream_ssl_side(stream) is None
        comm.write_string("in the clear", stream)
        comm.force_output(stream)
        assert far.recv(100) == b"in the clear"


@each_kind
def test_ssl_ctx_is_a_symbol_a_foreign_pointer_or_a_client_abstract_context(kind: str, trusted_file: str) -> None:
    ssl_ctx = KINDS[kind](trusted_file)
    with peer(*[echoing()] * 2) as listener:
        for _ in range(2):  # it can be used again: closing a stream frees nothing that is not the stream's
            with comm.open_tcp_stream(HOST, listener.port, ssl_ctx=ssl_ctx) as stream:
                line_there_and_back(stream)
                assert isinstance(comm.socket_stream_ssl(stream), comm.ssl_pointer)
                assert comm.ssl_connection_verify(stream) == (True, None)
                assert comm.ssl_connection_protocol_version(stream) == "tls-v1-3"
                if kind == "foreign pointer":
                    assert comm.socket_stream_ctx(stream) is ssl_ctx


@pytest.mark.parametrize("ssl_ctx", [True, "default", ":default", "v23", "tls-v1-2", ":TLS_V1_2", "tls-v1-3"])
def test_ssl_ctx_as_a_symbol_names_the_lowest_version(ssl_ctx: Any) -> None:
    if ssl_ctx == "tls-v1-3":
        with peer(refused(serving(V12))) as listener:
            condition = condition_of(comm.open_tcp_stream(HOST, listener.port, ssl_ctx=ssl_ctx))
        assert isinstance(condition, comm.ssl_version_or_cipher_mismatch)
        return
    with peer(echoing(serving(V12))) as listener, comm.open_tcp_stream(HOST, listener.port, ssl_ctx=ssl_ctx) as stream:
        line_there_and_back(stream)
        assert comm.ssl_connection_protocol_version(stream) == "tls-v1-2"


@pytest.mark.parametrize("errorp", [False, True])
@pytest.mark.parametrize("ssl_ctx", ["v2", "v3", ":v3", "tls-v1", "TLS_V1", "tls-v1-1", "tls-v2"])
def test_ssl_ctx_as_a_dead_version_is_refused(ssl_ctx: str, errorp: bool) -> None:
    with Listener() as listener, pytest.raises(ValueError, match=r"^ssl_ctx='.*' is not allowed: "):
        opening(HOST, listener.port, ssl_ctx=ssl_ctx, errorp=errorp)


@pytest.mark.parametrize("errorp", [False, True])
def test_ssl_ctx_for_servers_is_refused(errorp: bool, identity_file: str) -> None:
    for ssl_ctx in (comm.create_ssl_server_context(cert_file=identity_file), comm.make_ssl_ctx(), serving()):
        with Listener() as listener, pytest.raises(ValueError, match=r"^ssl_ctx.* is not allowed: "):
            opening(HOST, listener.port, ssl_ctx=ssl_ctx, errorp=errorp)


@each_kind
def test_the_side_is_always_the_clients(kind: str, trusted_file: str) -> None:
    """It begins: the first that the other side hears is a ClientHello."""
    heard: list[bytes] = []

    def listening(sock: socket.socket) -> None:
        heard.append(sock.recv(6, socket.MSG_PEEK | socket.MSG_WAITALL))
        echoing()(sock)

    arguments = {"ssl_ctx": KINDS[kind](trusted_file)}
    with peer(listening) as listener, opening(HOST, listener.port, **arguments) as stream:
        line_there_and_back(stream)
        assert comm.socket_stream_ssl_side(stream) == "client"
    handshake, client_hello = heard[0][0], heard[0][5]
    assert (handshake, client_hello) == (22, 1)
    with pytest.raises(TypeError, match="'ssl_side'"):
        opening(HOST, listener.port, ssl_side="client", **arguments)


# ---- the callbacks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("symbol", [True, "default", "tls-v1-3"])
def test_ctx_configure_callback_gets_the_context_made_for_a_symbol(
    symbol: Any, trusted_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it configures counts: here, whom to trust, where the system trusts nobody."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    made: list[ssl.SSLContext] = []

    def trust(ctx: ssl.SSLContext) -> None:
        made.append(ctx)
        ctx.load_verify_locations(trusted_file)

    with peer(*[echoing()] * 2) as listener:
        for _ in range(2):
            with opening(HOST, listener.port, ssl_ctx=symbol, ctx_configure_callback=trust) as stream:
                line_there_and_back(stream)
                assert comm.socket_stream_ctx(stream) is made[-1]
    first, second = made
    assert isinstance(first, comm.ssl_ctx_pointer)
    assert first is not second


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "symbol"])
def test_ctx_configure_callback_is_not_called_for_a_context_that_was_given(kind: str, trusted_file: str) -> None:
    arguments = {"ssl_ctx": KINDS[kind](trusted_file), "ctx_configure_callback": lambda ctx: pytest.fail("called")}
    with peer(echoing()) as listener, opening(HOST, listener.port, **arguments) as stream:
        line_there_and_back(stream)


@each_kind
def test_ssl_configure_callback_gets_the_session_before_its_handshake(kind: str, trusted_file: str) -> None:
    called: list[tuple[str, Any, object]] = []

    def configure(session: ssl.SSLObject) -> None:
        called.append(("ssl", session, session.version()))

    arguments = {
        "ssl_ctx": KINDS[kind](trusted_file),
        "ctx_configure_callback": lambda ctx: called.append(("ctx", ctx, None)),
        "ssl_configure_callback": configure,
    }
    with peer(echoing()) as listener, opening(HOST, listener.port, **arguments) as stream:
        line_there_and_back(stream)
        assert [which for which, _, _ in called] == (["ctx", "ssl"] if kind == "symbol" else ["ssl"])
        _, session, version = called[-1]
        assert version is None
        assert session.version() == "TLSv1.3"
        assert comm.socket_stream_ssl(stream) is session


def test_callbacks_nil_are_none_and_without_tls_none_is_called() -> None:
    never = lambda given: pytest.fail("called")  # noqa: E731
    with peer(echoing()) as listener:
        nothing = {"ctx_configure_callback": None, "ssl_configure_callback": None}
        with opening(HOST, listener.port, ssl_ctx=True, **nothing) as stream:
            line_there_and_back(stream)
    with Listener() as listener:
        comm.open_tcp_stream(
            HOST, listener.port, ctx_configure_callback=never, ssl_configure_callback=never, errorp=True
        ).close()


def test_verify_callback_of_an_abstract_context_gets_the_stream_that_is_returned(trusted_file: str) -> None:
    asked: list[Any] = []

    def verify(stream: Any) -> bool:
        asked.append(stream)
        return comm.ssl_connection_verify(stream)[0]

    context = comm.create_ssl_client_context(openssl_trusted_file=trusted_file, verify_callback=verify)
    with peer(echoing()) as listener, comm.open_tcp_stream(HOST, listener.port, ssl_ctx=context) as stream:
        line_there_and_back(stream)
        assert asked == [stream]
        assert asked[0] is stream


# ---- conditions ------------------------------------------------------------------------------------------


def what_comes_of(errorp: bool, *arguments: Any, **more: Any) -> Any:
    """The condition of an opening that fails, either way."""
    if not errorp:
        return condition_of(opening(*arguments, errorp=False, **more))
    with pytest.raises(comm.socket_error) as caught:
        opening(*arguments, errorp=True, **more)
    return caught.value


each_errorp = pytest.mark.parametrize("errorp", [False, True])


@each_errorp
@each_kind
def test_ssl_failure_is_for_a_peer_that_speaks_no_tls(kind: str, errorp: bool, trusted_file: str) -> None:
    with peer(says(b"HTTP/1.0 400 Bad Request\r\n\r\n")) as listener:
        condition = what_comes_of(errorp, HOST, listener.port, ssl_ctx=KINDS[kind](trusted_file))
    assert type(condition) is comm.ssl_failure
    assert comm.socket_error_connection(condition) is None


@each_errorp
def test_ssl_failure_is_for_a_peer_that_agrees_to_no_version(errorp: bool) -> None:
    with peer(refused(serving(V12))) as listener:
        condition = what_comes_of(errorp, HOST, listener.port, ssl_ctx="tls-v1-3")
    assert isinstance(condition, comm.ssl_failure)
    assert isinstance(condition, comm.ssl_version_or_cipher_mismatch)


@each_errorp
@each_kind
def test_ssl_verification_failure_is_for_a_certificate_for_others(kind: str, errorp: bool, trusted_file: str) -> None:
    with peer(refused(serving())) as listener:
        condition = what_comes_of(errorp, WRONG, listener.port, ssl_ctx=KINDS[kind](trusted_file))
    assert isinstance(condition, comm.ssl_verification_failure)
    assert isinstance(condition, comm.ssl_condition)
    assert comm.ssl_condition_ssl_code(condition) == ("verification", 62)  # X509_V_ERR_HOSTNAME_MISMATCH


@each_errorp
def test_ssl_verification_failure_is_for_a_certificate_that_nobody_trusted_has_signed(
    errorp: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with peer(refused(serving())) as listener:
        condition = what_comes_of(errorp, HOST, listener.port, ssl_ctx=True)
    assert isinstance(condition, comm.ssl_verification_failure)


@each_errorp
def test_ssl_verification_failure_is_for_a_callback_that_returned_nil(errorp: bool, trusted_file: str) -> None:
    context = comm.create_ssl_client_context(openssl_trusted_file=trusted_file, verify_callback=lambda stream: None)
    with peer(refused(serving())) as listener:
        condition = what_comes_of(errorp, HOST, listener.port, ssl_ctx=context)
    assert isinstance(condition, comm.ssl_verification_failure)
    assert comm.ssl_condition_ssl_code(condition) == "verify-callback"


@each_errorp
def test_socket_connect_error_is_for_a_failure_to_connect_with_tls_too(errorp: bool) -> None:
    with refusing() as closed:
        condition = what_comes_of(errorp, HOST, closed.port, ssl_ctx=True)
    assert isinstance(condition, comm.socket_connect_error)
    assert not isinstance(condition, comm.ssl_condition)


# ---- time limits -----------------------------------------------------------------------------------------


@each_errorp
@pytest.mark.parametrize("limit", ["handshake_timeout", "timeout"])
def test_handshake_timeout_ends_a_handshake_and_so_does_timeout_without_it(limit: str, errorp: bool) -> None:
    with peer(silent) as listener:
        condition = what_comes_of(errorp, HOST, listener.port, ssl_ctx=True, **{limit: 0.2})
    assert isinstance(condition, comm.ssl_handshake_timeout)
    assert isinstance(condition, TimeoutError)


@pytest.mark.parametrize("limits", [{}, {"timeout": 0.2, "handshake_timeout": PATIENCE}], ids=["none", "its own"])
def test_handshake_timeout_nil_waits_and_its_own_is_apart_from_timeout(limits: dict[str, Any]) -> None:
    begin, connected = threading.Event(), threading.Event()

    def slow(sock: socket.socket) -> None:
        connected.set()
        assert begin.wait(PATIENCE)
        echoing()(sock)

    with peer(slow) as listener:
        attempt = Task(partial(opening, LOOPBACK, listener.port, ssl_ctx=True, **limits))
        assert connected.wait(PATIENCE)
        attempt.blocked()
        if limits:
            threading.Event().wait(1.5 * limits["timeout"])
        begin.set()
        with attempt.result() as stream:
            assert comm.stream_read_timeout(stream) is None
            line_there_and_back(stream)


def test_read_timeout_ends_a_stream_with_tls_and_loses_nothing() -> None:
    on, told = threading.Event(), threading.Event()

    def in_pieces(stream: SocketStream) -> None:
        stream.write(b"half a ")
        stream.flush()
        told.set()
        assert on.wait(PATIENCE)
        stream.write(b"line\n")
        stream.flush()
        stream.read()

    with (
        peer(shaking(serving(), in_pieces)) as listener,
        comm.open_tcp_stream(HOST, listener.port, ssl_ctx=True) as stream,
    ):
        assert told.wait(PATIENCE)
        until(lambda: comm.listen(stream))
        stream.read_timeout = 0.05
        assert comm.read_line(stream, None, "eof") == ("eof", True)
        on.set()
        stream.read_timeout = PATIENCE
        assert comm.read_line(stream) == ("half a line", False)


# ---- tlsext-host-name ------------------------------------------------------------------------------------

NOT_SUPPLIED: dict[str, Any] = {}
HOSTS: dict[str, Any] = {
    "name": HOST,
    "IPv4 string": LOOPBACK,
    "IPv6 string": "::1",
    "integer": NUMBER,
    "object": OBJECT,
}

each_host = pytest.mark.parametrize("host", list(HOSTS))


def name_seen(kind: str, trusted_file: str, host: str, arguments: dict[str, Any]) -> str | None:
    """The name that the server was sent."""
    seen: list[str | None] = []
    context = serving()
    context.sni_callback = lambda session, name, of: seen.append(name)
    hostspec = HOSTS[host]
    at = "::1" if host in ("IPv6 string", "object") else LOOPBACK
    with (
        peer(echoing(context), host=at) as listener,
        opening(hostspec, listener.port, ssl_ctx=KINDS[kind](trusted_file), **arguments) as stream,
    ):
        line_there_and_back(stream)
    (name,) = seen
    return name


@each_kind
@each_host
def test_tlsext_host_name_a_string_is_what_the_server_is_sent(kind: str, host: str, trusted_file: str) -> None:
    """Whatever the host is; the context's own name, where it has one, is another here."""
    name = HOST if kind == "abstract context with a name" else OTHER
    assert name_seen(kind, trusted_file, host, {"tlsext_host_name": name}) == name


@each_kind
@each_host
def test_tlsext_host_name_t_sends_a_hostspec_that_is_no_numeric_address(
    kind: str, host: str, trusted_file: str
) -> None:
    expected = HOST if host == "name" else None
    assert name_seen(kind, trusted_file, host, {"tlsext_host_name": True}) == expected


@each_kind
@pytest.mark.parametrize("nil", [None, False])
def test_tlsext_host_name_nil_sends_none(kind: str, nil: Any, trusted_file: str) -> None:
    assert name_seen(kind, trusted_file, "name", {"tlsext_host_name": nil}) is None


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "abstract context with a name"])
@each_host
def test_tlsext_host_name_not_supplied_sends_a_hostspec_that_is_no_numeric_address(
    kind: str, host: str, trusted_file: str
) -> None:
    """Whatever ssl-ctx is, unless it is an abstract context with a name of its own."""
    expected = HOST if host == "name" else None
    assert name_seen(kind, trusted_file, host, NOT_SUPPLIED) == expected


@each_host
def test_tlsext_host_name_not_supplied_leaves_it_to_an_abstract_context_with_a_name(
    host: str, trusted_file: str
) -> None:
    assert name_seen("abstract context with a name", trusted_file, host, NOT_SUPPLIED) == OTHER


def test_tlsext_host_name_decides_nothing_about_whom_to_trust(trusted_file: str) -> None:
    """The certificate must be for the host, also when it is for the name that was sent."""
    for made in KINDS.values():
        with peer(refused(serving())) as listener:
            arguments = {"ssl_ctx": made(trusted_file), "tlsext_host_name": HOST}
            condition = condition_of(opening(WRONG, listener.port, **arguments))
        assert isinstance(condition, comm.ssl_verification_failure)
