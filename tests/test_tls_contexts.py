"""What ssl_ctx may be, and the contexts landline makes: trust, strictness, files, callbacks, the server's choice."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from certificates import (
    HOST,
    Certificates,
    Pair,
    matrix,  # noqa: F401 - the fixture `certificates`
)

from landline import SocketCreateError, SslVerificationFailure
from landline.address import parse_host
from landline.tls import contexts
from landline.tls.abstract import create_ssl_client_context, create_ssl_server_context
from landline.tls.names import NOT_GIVEN
from landline.tls.plan import TlsPlan, client_plan, server_plan


def to_good(ssl_ctx: object, **more: Any) -> TlsPlan:
    plan = client_plan(ssl_ctx, parse_host(HOST), **more)
    assert plan is not None
    return plan


def serving(ssl_ctx: object, **more: Any) -> TlsPlan:
    plan = server_plan(ssl_ctx, **more)
    assert plan is not None
    return plan


# ---- what ssl_ctx may be -------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", [None, False])
def test_none_is_no_tls(nothing: object) -> None:
    assert client_plan(nothing, parse_host(HOST)) is None
    assert server_plan(nothing) is None


@pytest.mark.parametrize("name", [True, "default", "v23", "tls-v1-2"])
def test_the_default_has_many_names_and_is_shared(name: object) -> None:
    assert to_good(name).context is to_good(True).context


@pytest.mark.parametrize(("name", "lowest"), [(True, ssl.TLSVersion.TLSv1_2), ("tls-v1-3", ssl.TLSVersion.TLSv1_3)])
def test_the_default_trusts_the_system_and_checks_everything(name: object, lowest: ssl.TLSVersion) -> None:
    context = to_good(name).context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not context.hostname_checks_common_name
    assert context.minimum_version == lowest
    assert context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
    usual = ssl.create_default_context()
    assert context.cert_store_stats() == usual.cert_store_stats()
    assert to_good(name).server_hostname == HOST


def test_the_default_is_built_once_for_an_environment(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = to_good(True).context
    monkeypatch.setenv("SSL_CERT_FILE", certificates.trusted_file)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    now = to_good(True).context
    assert now is not before
    assert now is to_good(True).context
    Pair(to_good(True), certificates["good"].server()).shake()


def test_sslkeylogfile_is_heeded(certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    context = create_ssl_client_context(openssl_trusted_file=certificates.trusted_file)
    Pair(to_good(context), certificates["good"].server()).shake()
    assert "CLIENT_HANDSHAKE_TRAFFIC_SECRET" in log.read_text()
    assert to_good(True).context.keylog_filename == str(log)

    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "missing" / "keys"))
    with pytest.raises(SocketCreateError, match=r"^SSLKEYLOGFILE=.* cannot be written: ") as caught:
        to_good(True)
    assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_macos_and_windows_ask_the_system(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without sessions: truststore wants the whole chain after each handshake, and a resumed one has none."""
    made = type("SSLContext", (ssl.SSLContext,), {"__module__": "truststore._api"})
    monkeypatch.setitem(sys.modules, "truststore", SimpleNamespace(SSLContext=made))
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(contexts, "_defaults", {})
    plan = to_good(True)
    assert type(plan.context) is made
    assert plan.context.cert_store_stats()["x509"] == 0
    assert plan.sessions is None
    assert type(create_ssl_client_context().ssl_context()) is made
    assert type(create_ssl_client_context(openssl_trusted_file="default").ssl_context()) is made
    # It checks the name that is sent, so where that is another one its twin checks none, and we the host.
    other = to_good(True, tlsext_host_name="other.example")
    assert (other.context.check_hostname, other.check_after) == (False, True)
    with pytest.raises(ValueError, match="truststore context of your own"):
        to_good(made(ssl.PROTOCOL_TLS_CLIENT), tlsext_host_name=None)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("v2", "SSL 2.0 is broken"),
        ("v3", "SSL 3.0 is broken"),
        ("tls-v1", "TLS 1.0 is obsolete"),
        ("tls-v1-1", "TLS 1.1 is obsolete"),
        ("tls-v1-4", "there is no such version"),
        ("", "there is no such version"),
    ],
)
def test_broken_versions_are_refused_with_the_reason(value: str, reason: str) -> None:
    def configure(context: ssl.SSLContext) -> None:
        raise AssertionError("not reached")

    for attempt in (
        lambda: to_good(value),
        lambda: to_good(value, ctx_configure_callback=configure),
        lambda: serving(value, ctx_configure_callback=configure),
        lambda: create_ssl_client_context(protocol_version=value),
    ):
        with pytest.raises(ValueError, match=reason) as caught:
            attempt()
        assert "'tls-v1-2' and 'tls-v1-3'" in str(caught.value)


@pytest.mark.parametrize("value", [1, 0, b"default", object(), ["default"]])
def test_other_types_are_type_errors(value: object) -> None:
    with pytest.raises(TypeError, match=r"^ssl_ctx="):
        to_good(value)
    with pytest.raises(TypeError, match=r"^ssl_ctx="):
        serving(value)


def test_a_context_of_the_other_side_is_refused(certificates: Certificates) -> None:
    client = create_ssl_client_context(name="mine")
    server = create_ssl_server_context(cert_file=certificates["good"].both_file)
    with pytest.raises(ValueError, match="for servers; use create_ssl_client_context"):
        to_good(server)
    with pytest.raises(ValueError, match=r"SslAbstractContext client 'mine'"):
        serving(client)
    with pytest.raises(ValueError, match="PROTOCOL_TLS_SERVER"):
        to_good(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    with pytest.raises(ValueError, match="PROTOCOL_TLS_CLIENT"):
        serving(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def test_a_server_needs_a_certificate(certificates: Certificates) -> None:
    with pytest.raises(ValueError, match="a server needs a certificate"):
        serving(True)
    with pytest.raises(ValueError, match="a server needs a certificate"):
        create_ssl_server_context()
    good = certificates["good"]
    plan = serving(True, ctx_configure_callback=lambda context: context.load_cert_chain(good.cert_file, good.key_file))
    Pair(to_good(create_ssl_client_context(openssl_trusted_file=certificates.trusted_file)), plan).shake()
    assert plan.context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert plan.context.options & ssl.OP_NO_RENEGOTIATION


# ---- callbacks (manual 25.8.6, attach-ssl) -------------------------------------------------------


def test_the_ctx_callback_gets_a_context_made_for_this_call() -> None:
    seen: list[ssl.SSLContext] = []
    plans = [to_good(True, ctx_configure_callback=seen.append) for _ in range(2)]
    assert [plan.context for plan in plans] == seen
    assert len({*map(id, seen), id(to_good(True).context)}) == 3
    assert plans[0].sessions is None
    assert seen[0].check_hostname


def test_what_the_ctx_callback_does_counts(certificates: Certificates) -> None:
    def trust(context: ssl.SSLContext) -> None:
        context.load_verify_locations(certificates.trusted_file)

    def trust_anybody(context: ssl.SSLContext) -> None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

    server = certificates["wrong host"].server()
    Pair(to_good(True, ctx_configure_callback=trust_anybody), server).shake()
    for sni in (NOT_GIVEN, None, "h1.other.example"):
        with pytest.raises(ssl.SSLCertVerificationError):
            Pair(to_good(True, ctx_configure_callback=trust, tlsext_host_name=sni), server).shake()
        Pair(
            to_good("tls-v1-3", ctx_configure_callback=trust, tlsext_host_name=sni), certificates["good"].server()
        ).shake()


def test_the_ctx_callback_is_not_for_contexts_of_others(certificates: Certificates) -> None:
    def configure(context: ssl.SSLContext) -> None:
        raise AssertionError("not to be called")

    to_good(ssl.create_default_context(), ctx_configure_callback=configure)
    to_good(create_ssl_client_context(), ctx_configure_callback=configure)
    server = create_ssl_server_context(cert_file=certificates["good"].both_file)
    serving(server, ctx_configure_callback=configure)
    serving(server.ssl_context(), ctx_configure_callback=configure)


def test_the_context_is_configured_before_the_session_and_the_contexts_own_come_first(
    certificates: Certificates,
) -> None:
    said: list[str] = []

    def say(what: str) -> Callable[[object], None]:
        return lambda _: said.append(what)

    Pair(
        to_good(True, ctx_configure_callback=say("ctx"), ssl_configure_callback=say("ssl")),
        certificates["good"].server(),
    )
    assert said == ["ctx", "ssl"]
    said.clear()
    context = create_ssl_client_context(
        openssl_ctx_configure_callback=say("own ctx"), openssl_ssl_configure_callback=say("own ssl")
    )
    for _ in range(2):
        Pair(to_good(context, ssl_configure_callback=say("ssl")), certificates["good"].server())
    assert said == ["own ctx", "own ssl", "ssl", "own ssl", "ssl"]


def test_a_callback_that_raises_is_heard(certificates: Certificates) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError("by the callback")

    with pytest.raises(ZeroDivisionError):
        to_good(True, ctx_configure_callback=fail)
    with pytest.raises(ZeroDivisionError):
        create_ssl_client_context(openssl_ctx_configure_callback=fail).ssl_context()
    with pytest.raises(ZeroDivisionError):
        Pair(to_good(True, ssl_configure_callback=fail), certificates["good"].server())


def test_the_ssl_callback_gets_the_session_before_its_handshake(certificates: Certificates) -> None:
    seen: list[ssl.SSLObject] = []
    plan = to_good(True, ssl_configure_callback=seen.append)
    pair = Pair(plan, certificates["good"].server())
    assert seen == [pair.client]
    assert seen[0].version() is None


def test_the_verify_callback_is_handed_on(certificates: Certificates) -> None:
    def ask(stream: object) -> bool:
        return True

    assert to_good(create_ssl_client_context(verify_callback=ask)).verify_callback is ask
    assert to_good(create_ssl_client_context(verify_callback=True)).verify_callback is None
    server = create_ssl_server_context(
        cert_file=certificates["good"].both_file,
        verify_callback=ask,
        openssl_trusted_file=certificates.trusted_file,
    )
    assert serving(server).verify_callback is ask


@pytest.mark.parametrize(
    "what",
    [
        "verify_callback",
        "password_callback",
        "openssl_ctx_configure_callback",
        "openssl_ssl_configure_callback",
        "sni_callback",
    ],
)
def test_a_callback_must_be_a_function(what: str) -> None:
    with pytest.raises(TypeError, match=f"^{what}='yes'"):
        create_ssl_server_context(cert_file="x", **{what: "yes"})  # type: ignore[arg-type]
    if what == "password_callback":
        for name in ("ctx_configure_callback", "ssl_configure_callback"):
            with pytest.raises(TypeError, match=f"^{name}='yes'"):
                to_good(None, **{name: "yes"})


# ---- what else a description says ----------------------------------------------------------------


def test_alpn(certificates: Certificates) -> None:
    client = create_ssl_client_context(openssl_trusted_file=certificates.trusted_file, alpn=["h2", b"http/1.1"])
    server = create_ssl_server_context(cert_file=certificates["good"].both_file, alpn=("http/1.1",))
    pair = Pair(to_good(client), serving(server)).shake()
    assert pair.client.selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize("alpn", [[""], ["x" * 256], ["é"], [b"\xff"]])
def test_alpn_names_are_checked_at_once(alpn: list[str | bytes]) -> None:
    with pytest.raises(ValueError, match=r"^alpn="):
        create_ssl_client_context(alpn=alpn)
    with pytest.raises(TypeError, match=r"^alpn='h2'"):
        create_ssl_client_context(alpn="h2")


def test_ciphers(certificates: Certificates) -> None:
    name = "ECDHE-ECDSA-AES256-GCM-SHA384"
    client = create_ssl_client_context(openssl_trusted_file=certificates.trusted_file, ciphers=name)
    server = certificates["good"].server()
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    cipher = Pair(to_good(client), server).shake().client.cipher()
    assert cipher is not None
    assert cipher[0] == name
    with pytest.raises(ValueError, match=r"^ciphers='ROT13' is not allowed: OpenSSL knows none of them"):
        create_ssl_client_context(ciphers="ROT13")


def test_the_lowest_version(certificates: Certificates) -> None:
    server = certificates["good"].server()
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    trusted = certificates.trusted_file
    Pair(to_good(create_ssl_client_context(openssl_trusted_file=trusted)), server).shake()
    client = create_ssl_client_context(openssl_trusted_file=trusted, protocol_version="tls-v1-3")
    with pytest.raises(ssl.SSLError):
        Pair(to_good(client), server).shake()


def test_a_strange_argument_is_refused_at_once() -> None:
    for wrong, error in (
        ({"key_file": 5}, TypeError),
        ({"cert_file": b"x"}, TypeError),
        ({"cert_file": ""}, ValueError),
        ({"cert_file": "a\0b"}, ValueError),
        ({"password": 5}, TypeError),
        ({"password": "a", "password_callback": str}, ValueError),
        ({"ciphers": 5}, TypeError),
        ({"tlsext_host_name": "1.2.3.4"}, ValueError),
    ):
        with pytest.raises(error, match=r"not allowed"):
            create_ssl_client_context(**wrong)


def test_a_password_is_never_shown() -> None:
    context = create_ssl_client_context(password="secret", name="n")
    assert "secret" not in repr(context) + repr(vars(context))
    with pytest.raises(TypeError) as caught:
        create_ssl_client_context(password=["secret"])  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)


def test_trust_is_only_what_was_named(certificates: Certificates, tmp_path: Path) -> None:
    context = create_ssl_client_context(openssl_trusted_file=certificates.trusted_file).ssl_context()
    assert context.cert_store_stats()["x509"] == 1
    assert create_ssl_client_context().ssl_context().cert_store_stats() == to_good(True).context.cert_store_stats()


# ---- the twin that checks no names ---------------------------------------------------------------


def test_the_twin_is_as_strict_and_made_once(certificates: Certificates) -> None:
    for ssl_ctx in (True, create_ssl_client_context(openssl_trusted_file=certificates.trusted_file)):
        plan = to_good(ssl_ctx)
        others = [to_good(ssl_ctx, tlsext_host_name=f"{number}.example") for number in range(2)]
        assert others[0].context is others[1].context is not plan.context
        twin = others[0].context
        assert not twin.check_hostname
        assert plan.context.check_hostname
        assert twin.verify_mode is plan.context.verify_mode
        assert twin.verify_flags == plan.context.verify_flags
        assert twin.cert_store_stats() == plan.context.cert_store_stats()
        assert others[0].sessions is not plan.sessions


def test_the_twin_refuses_what_is_not_trusted(certificates: Certificates) -> None:
    plan = to_good(
        create_ssl_client_context(openssl_trusted_file=certificates.trusted_file), tlsext_host_name="other.example"
    )
    for name in ("untrusted root", "expired"):
        with pytest.raises(ssl.SSLCertVerificationError):
            Pair(plan, certificates[name].server()).shake()
    with pytest.raises(SslVerificationFailure):
        Pair(plan, certificates["wrong host"].server()).shake()
