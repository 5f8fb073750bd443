"""open_tcp_stream(..., ssl_ctx=...): what it may be, when callbacks are called, and what is known afterwards.

Whom it refuses and how handshakes fail stands in test_tls_refused.py.
"""

from __future__ import annotations

import inspect
import math
import socket
import ssl
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_overloads

import pytest
from opening import resolver_fixture as _resolver  # noqa: F401 - a fixture
from tls_opening import (
    LOOPBACK,
    OTHER,
    WRONG,
    echoing,
    identity_file_fixture,  # noqa: F401 - a fixture
    names_fixture,  # noqa: F401 - a fixture
    own_der,
    peer,
    refused,
    serving,
    shaking,
    system_trust_fixture,  # noqa: F401 - a fixture
    tls_of,
    to,
    trusted_file_fixture,  # noqa: F401 - a fixture
    trusting_fixture,  # noqa: F401 - a fixture
)
from tls_support import BOTH_VERSIONS, HOST, V12, client_context

from landline import (
    SocketCreateError,
    SocketStream,
    SslAbstractContext,
    SslVerificationFailure,
    SslVersionOrCipherMismatch,
    TextSocketStream,
    create_ssl_client_context,
    create_ssl_server_context,
    open_tcp_stream,
)
from landline.sync import open as front_door
from landline.tls.names import NOT_GIVEN

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")


@pytest.fixture
def _nothing_may_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_door, "connect", lambda *target: pytest.fail("connecting began"))


# ---- what ssl_ctx may be ---------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", [None, False])
def test_without_ssl_ctx_no_tls_is_spoken(nothing: Any) -> None:
    heard: list[bytes] = []

    def plain(sock: socket.socket) -> None:
        heard.append(sock.recv(100))

    with peer(plain) as listener, to(listener, nothing) as stream:
        stream.write(b"in the clear")
        assert stream.read() == b""
        assert stream.tls is None
        assert stream.report is not None
        assert stream.report.handshake is None
        assert "TLS" not in str(stream.report)
    assert heard == [b"in the clear"]
    assert stream.tls is None


@pytest.mark.usefixtures("system_trust")
@pytest.mark.parametrize("ssl_ctx", [True, "default", "v23", "tls-v1-2", "tls-v1-3"])
def test_the_default_and_its_versions_trust_the_system(ssl_ctx: bool | str) -> None:
    with peer(echoing()) as listener, to(listener, ssl_ctx) as stream:
        tls = tls_of(stream)
    assert (tls.version, tls.checked_name, tls.verify().ok) == ("TLSv1.3", LOOPBACK, True)


@pytest.mark.usefixtures("system_trust")
def test_the_version_is_the_lowest_that_is_accepted() -> None:
    with peer(*[echoing(serving(V12))] * 4, refused(serving(V12))) as listener:
        for ssl_ctx in (True, "default", "v23", "tls-v1-2"):
            with to(listener, ssl_ctx) as stream:
                assert tls_of(stream).version == "TLSv1.2"
        with pytest.raises(SslVersionOrCipherMismatch):
            to(listener, "tls-v1-3")


@pytest.mark.parametrize("ssl_ctx", [True, "tls-v1-3"])
def test_the_default_trusts_nobody_but_the_system(
    ssl_ctx: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with peer(refused(serving())) as listener, pytest.raises(SslVerificationFailure, match="no trusted root"):
        to(listener, ssl_ctx)


@pytest.mark.usefixtures("_nothing_may_be_opened")
@pytest.mark.parametrize("errorp", [True, False])
@pytest.mark.parametrize(
    ("version", "reason"),
    [("v2", "SSL 2.0 is broken"), ("v3", "SSL 3.0 is broken"), ("tls-v1", "TLS 1.0 is obsolete")],
)
def test_broken_versions_are_refused_with_the_reason(version: str, reason: str, errorp: Any) -> None:
    with pytest.raises(ValueError, match=f"^ssl_ctx='{version}' is not allowed: {reason}.*'tls-v1-2' and 'tls-v1-3'"):
        open_tcp_stream(HOST, 443, ssl_ctx=version, errorp=errorp)


@pytest.mark.usefixtures("names")
def test_an_ssl_context_is_used_as_it_is_and_never_altered() -> None:
    """Whatever is asked for beside it, and also when it refuses."""
    context = client_context()
    before = everything_about(context)
    asked = [(HOST, NOT_GIVEN), (HOST, None), (HOST, OTHER), (LOOPBACK, NOT_GIVEN)]
    used: list[ssl.SSLContext] = []
    with peer(*[shaking(serving())] * len(asked), refused(serving())) as listener:
        for host, sni in asked:
            see = lambda ssl_object: used.append(ssl_object.context)  # noqa: E731
            with to(listener, context, host, tlsext_host_name=sni, ssl_configure_callback=see) as stream:
                assert stream.tls is not None
                assert stream.tls.checked_name == host
        with pytest.raises(SslVerificationFailure):
            to(listener, context, WRONG)
    assert used == [context] * len(asked)
    assert everything_about(context) == before


def everything_about(context: ssl.SSLContext) -> list[object]:
    names = [
        "check_hostname", "hostname_checks_common_name", "keylog_filename", "maximum_version", "minimum_version",
        "options", "post_handshake_auth", "protocol", "sni_callback", "verify_flags", "verify_mode",
    ]  # fmt: skip
    facts: list[object] = [getattr(context, name) for name in names]
    return [*facts, context.cert_store_stats(), [cipher["name"] for cipher in context.get_ciphers()]]


@pytest.mark.parametrize("verifies", [True, False])
def test_what_an_ssl_context_verifies_is_its_owners_choice(verifies: bool) -> None:
    """No names, or nothing at all; `stream.tls` tells which."""
    context = client_context(trust=verifies)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE
    with peer(echoing()) as listener, to(listener, context) as stream:
        tls = tls_of(stream)
    assert (tls.checked_name, tls.required) == (None, verifies)
    assert tls.certificate is not None
    ok, reason = tls.verify()
    assert (ok, "CERT_NONE" in reason) == (verifies, not verifies)


@BOTH_VERSIONS
def test_an_abstract_context_serves_many_openings(version: ssl.TLSVersion, trusting: SslAbstractContext) -> None:
    with peer(*[echoing(serving(version))] * 3) as listener:
        for _ in range(2):
            with to(listener, trusting) as stream:
                assert tls_of(stream).checked_name == LOOPBACK
        trusting.reset()
        with to(listener, trusting) as stream:
            assert not tls_of(stream).session_reused  # what the old context knew is gone


@pytest.mark.usefixtures("_nothing_may_be_opened")
@pytest.mark.parametrize("errorp", [True, False])
def test_a_context_for_servers_is_refused(errorp: Any, identity_file: str) -> None:
    with pytest.raises(ValueError, match="it is for servers; use create_ssl_client_context"):
        open_tcp_stream(HOST, 443, ssl_ctx=create_ssl_server_context(cert_file=identity_file), errorp=errorp)
    with pytest.raises(ValueError, match="PROTOCOL_TLS_SERVER"):
        open_tcp_stream(HOST, 443, ssl_ctx=serving(), errorp=errorp)


def test_text_and_one_direction_go_over_tls_too(trusting: SslAbstractContext) -> None:
    with peer(echoing(), shaking(serving(), lambda stream: stream.write(b"only this\n"))) as listener:
        with open_tcp_stream(LOOPBACK, listener.port, ssl_ctx=trusting, element_type=str) as text:
            assert isinstance(text, TextSocketStream)
            text.write("grüß dich\n")
            assert text.readline() == "grüß dich\n"
            assert text.tls is not None
        with to(listener, trusting, direction="input") as stream:
            assert stream.read() == b"only this\n"


# ---- arguments -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_nothing_may_be_opened")
@pytest.mark.parametrize("errorp", [True, False])
@pytest.mark.parametrize("ssl_ctx", [None, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        ({"ssl_ctx": 1}, TypeError, "ssl_ctx=1 is not allowed"),
        ({"ssl_ctx": b"default"}, TypeError, "ssl_ctx=b'default' is not allowed"),
        ({"ssl_ctx": ssl.SSLContext}, TypeError, "ssl_ctx=<class 'ssl.SSLContext'> is not allowed"),
        ({"ssl_ctx": ""}, ValueError, "ssl_ctx='' is not allowed: there is no such version"),
        ({"ctx_configure_callback": "yes"}, TypeError, "ctx_configure_callback='yes' is not allowed"),
        ({"ssl_configure_callback": 5}, TypeError, "ssl_configure_callback=5 is not allowed"),
        ({"handshake_timeout": -1}, ValueError, "handshake_timeout=-1.0 is not allowed"),
        ({"handshake_timeout": math.nan}, ValueError, "handshake_timeout=nan is not allowed"),
        ({"handshake_timeout": "1"}, TypeError, "handshake_timeout='1' is not allowed"),
        ({"handshake_timeout": True}, TypeError, "handshake_timeout=True is not allowed"),
        ({"tlsext_host_name": 5}, TypeError, "tlsext_host_name=5 is not allowed"),
        ({"tlsext_host_name": b"peer.example"}, TypeError, "tlsext_host_name=b'peer.example' is not allowed"),
        ({"tlsext_host_name": ""}, ValueError, "tlsext_host_name='' is not allowed"),
        ({"tlsext_host_name": "192.0.2.1"}, ValueError, "numeric addresses are never sent as SNI"),
    ],
)
def test_a_wrong_argument_is_raised_before_anything_is_opened(
    wrong: dict[str, Any], error: type[Exception], told: str, ssl_ctx: Any, errorp: bool
) -> None:
    arguments: dict[str, Any] = {"ssl_ctx": ssl_ctx, "errorp": errorp, **wrong}
    with pytest.raises(error) as caught:
        open_tcp_stream(HOST, 443, **arguments)
    assert told in str(caught.value)


@pytest.mark.usefixtures("_nothing_may_be_opened")
@pytest.mark.parametrize(
    ("files", "blamed", "kind"),
    [
        ({"cert_file": "missing"}, "cert_file", FileNotFoundError),
        ({"openssl_trusted_file": "empty"}, "openssl_trusted_file", ValueError),
        ({"cert_file": "good", "key_file": "missing"}, "key_file", FileNotFoundError),
    ],
)
def test_a_bad_file_is_a_create_error_that_names_it(
    files: dict[str, str], blamed: str, kind: type[Exception], identity_file: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "good").symlink_to(identity_file)
    paths: dict[str, Any] = {what: str(tmp_path / name) for what, name in files.items()}
    context = create_ssl_client_context(**paths)
    with pytest.raises(SocketCreateError) as caught:
        open_tcp_stream(HOST, 443, ssl_ctx=context)
    assert isinstance(caught.value, kind)
    assert caught.value.operation == "tls"
    assert f"{blamed}={paths[blamed]!r}: " in str(caught.value)
    stream, returned = open_tcp_stream(HOST, 443, ssl_ctx=context, errorp=False)
    assert stream is None
    assert type(returned) is type(caught.value)
    assert str(returned) == str(caught.value)


def test_the_arguments_are_those_of_the_design() -> None:
    """By name only, with their defaults; and every overload takes every argument, with the same type."""
    signature = inspect.signature(open_tcp_stream)
    added = {
        "ssl_ctx": (None, "SslSpec"),
        "ctx_configure_callback": (None, "CtxCallback | None"),
        "ssl_configure_callback": (None, "SslCallback | None"),
        "handshake_timeout": (None, "float | None"),
        "tlsext_host_name": (NOT_GIVEN, "str | bool | NotGiven | None"),
    }
    for name, (default, annotation) in added.items():
        parameter = signature.parameters[name]
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default is default
        assert parameter.annotation == annotation
    overloads = [inspect.signature(one) for one in get_overloads(open_tcp_stream)]
    assert len(overloads) == 4
    for overload in overloads:
        assert list(overload.parameters) == list(signature.parameters)
        assert {name: overload.parameters[name].annotation for name in added} == {
            name: annotation for name, (_, annotation) in added.items()
        }
    assert front_door.SslSpec == "bool | str | ssl.SSLContext | SslAbstractContext | None"


# ---- callbacks (manual, 25.8.6 and attach-ssl) -----------------------------------------------------------


class Said:
    """Callbacks that write down when they were called, and with what."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.given: list[Any] = []

    def __call__(self, what: str, answer: object = None) -> Callable[[Any], object]:
        def callback(argument: Any) -> object:
            self.order.append(what)
            self.given.append(argument)
            return answer

        return callback


@pytest.mark.usefixtures("system_trust")
@pytest.mark.parametrize("ssl_ctx", [True, "tls-v1-3"])
def test_a_context_made_for_the_call_is_configured_before_its_session(ssl_ctx: Any) -> None:
    said = Said()
    versions: list[str | None] = []

    def of_session(ssl_object: ssl.SSLObject) -> None:
        versions.append(ssl_object.version())
        said("ssl")(ssl_object)

    with peer(*[echoing()] * 2) as listener:
        for _ in range(2):
            with to(listener, ssl_ctx, ctx_configure_callback=said("ctx"), ssl_configure_callback=of_session) as stream:
                assert not tls_of(stream).session_reused
    assert said.order == ["ctx", "ssl"] * 2
    assert versions == [None, None]  # before the handshake
    first, session, second, _ = said.given
    assert isinstance(first, ssl.SSLContext)
    assert first is not second
    assert session.context is first
    assert session.version() == "TLSv1.3"  # it is the one that was used then


@pytest.mark.usefixtures("system_trust")
def test_what_the_context_callback_configures_counts() -> None:
    server = serving()
    server.set_alpn_protocols(["two"])

    def configure(context: ssl.SSLContext) -> None:
        context.set_alpn_protocols(["one", "two"])

    with peer(echoing(server)) as listener, to(listener, True, ctx_configure_callback=configure) as stream:
        assert tls_of(stream).alpn == "two"


@pytest.mark.usefixtures("names")
def test_the_order_of_all_callbacks_and_who_calls_which(trusted_file: str) -> None:
    """A context of the caller's own is not configured by the call; the abstract one has its own callbacks, first."""
    said = Said()
    abstract = create_ssl_client_context(
        openssl_trusted_file=trusted_file,
        openssl_ctx_configure_callback=said("own ctx"),
        openssl_ssl_configure_callback=said("own ssl"),
        verify_callback=said("verify", True),
    )
    more = {"ctx_configure_callback": said("ctx"), "ssl_configure_callback": said("ssl")}
    with peer(*[shaking(serving())] * 3) as listener:
        to(listener, abstract, HOST, **more).close()
        assert said.order == ["own ctx", "own ssl", "ssl", "verify"]
        to(listener, abstract, HOST, **more).close()
        assert said.order[4:] == ["own ssl", "ssl", "verify"]
        to(listener, client_context(), HOST, **more).close()
        assert said.order[7:] == ["ssl"]


FAILING = ["ctx", "own ctx", "own ssl", "ssl", "verify"]


def opening_with(failing: str, callback: Callable[[Any], object], trusted_file: str) -> dict[str, Any]:
    """The arguments of an opening whose callback `failing` is the one given."""
    of_context = {
        "own ctx": "openssl_ctx_configure_callback",
        "own ssl": "openssl_ssl_configure_callback",
        "verify": "verify_callback",
    }
    if failing in of_context:
        more: dict[str, Any] = {of_context[failing]: callback}
        return {"ssl_ctx": create_ssl_client_context(openssl_trusted_file=trusted_file, **more)}
    return {"ssl_ctx": True, f"{failing}_configure_callback": callback}


@pytest.mark.usefixtures("system_trust")
@pytest.mark.parametrize("errorp", [True, False])
@pytest.mark.parametrize("failing", FAILING)
@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt, ConnectionRefusedError])
def test_a_callback_that_raises_fails_the_open_with_its_own_exception(
    failing: str, kind: type[BaseException], errorp: bool, trusted_file: str
) -> None:
    """Also with errorp=False, for it is not news from the network; and nothing is left open."""
    mine = kind("by the callback")

    def fail(_: object) -> None:
        raise mine

    arguments = opening_with(failing, fail, trusted_file)
    early = failing in ("ctx", "own ctx")
    with peer(*[] if early else [refused(serving())]) as listener:
        with pytest.raises(kind) as caught:
            to(listener, errorp=errorp, **arguments)
        assert caught.value is mine
        if early:  # before anything was opened
            listener.sock.settimeout(0)
            with pytest.raises(BlockingIOError):
                listener.accept()


@pytest.mark.usefixtures("system_trust")
@pytest.mark.parametrize("failing", FAILING)
def test_the_traceback_leads_to_the_line_of_the_callback_that_raised(failing: str, trusted_file: str) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    served = [] if "ctx" in failing else [refused(serving())]
    with peer(*served) as listener, pytest.raises(ZeroDivisionError) as caught:
        to(listener, **opening_with(failing, fail, trusted_file))
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "fail"


@BOTH_VERSIONS
@pytest.mark.parametrize("element_type", [bytes, str])
def test_the_verify_callback_gets_the_stream_that_is_returned(
    version: ssl.TLSVersion, element_type: Any, trusted_file: str
) -> None:
    """After the normal verification, with all that is known about the peer."""
    seen: list[Any] = []

    def verify(stream: SocketStream) -> bool:
        assert stream.tls is not None
        assert stream.tls.certificate is not None
        seen.extend((stream, stream.tls.certificate.der, stream.tls.verify().ok, stream.peer_address))
        return True

    context = create_ssl_client_context(openssl_trusted_file=trusted_file, verify_callback=verify)
    with peer(echoing(serving(version))) as listener, to(listener, context, element_type=element_type) as stream:
        assert seen == [stream, own_der(), True, listener.address]
        assert seen[0] is stream


@BOTH_VERSIONS
@pytest.mark.parametrize("answer", [False, None, 0])
def test_a_verify_callback_refuses(version: ssl.TLSVersion, answer: object, trusted_file: str) -> None:
    """Nothing of what it has written goes out, and the peer is told that this is the end."""
    heard: list[bytes] = []

    def verify(stream: SocketStream) -> object:
        stream.write(b"a secret")
        return answer

    context = create_ssl_client_context(openssl_trusted_file=trusted_file, verify_callback=verify)
    with peer(*[shaking(serving(version), lambda stream: heard.append(stream.read()))] * 2) as listener:
        with pytest.raises(SslVerificationFailure) as caught:
            to(listener, context)
        stream, returned = open_tcp_stream(LOOPBACK, listener.port, ssl_ctx=context, errorp=False)
    refusal = caught.value
    assert refusal.ssl_code == "verify_callback"
    assert isinstance(refusal, ssl.SSLCertVerificationError)
    assert str(refusal) == f"verify_callback refused the certificate of {listener.address}"
    assert (refusal.operation, refusal.address) == ("handshake", listener.address)
    assert refusal.report is not None
    assert refusal.report.handshake is not None
    assert refusal.report.handshake.error is not None
    assert stream is None
    assert (type(returned), str(returned)) == (type(refusal), str(refusal))
    assert heard == [b"", b""]


@pytest.mark.usefixtures("names")
def test_the_verify_callback_is_not_asked_about_a_bad_certificate(trusted_file: str) -> None:
    said = Said()
    context = create_ssl_client_context(openssl_trusted_file=trusted_file, verify_callback=said("verify", True))
    with peer(refused(serving())) as listener, pytest.raises(SslVerificationFailure, match=f"it is not for '{WRONG}'"):
        to(listener, context, WRONG)
    assert said.order == []
