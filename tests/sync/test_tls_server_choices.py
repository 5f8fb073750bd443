"""TLS servers over real sockets: whom they let in (mutual TLS), and the context they choose by name (SNI)."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from certificates import (
    DAY,
    NOW,
    Certificates,
    Identity,
    matrix,  # noqa: F401 - the fixture `certificates`
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from opening import resolver_fixture as _resolver  # noqa: F401 - a fixture
from tls_opening import (
    LOOPBACK,
    OTHER,
    WRONG,
    Handler,
    Log,
    handler_fixture,  # noqa: F401 - a fixture
    identity_file_fixture,  # noqa: F401 - a fixture
    identity_for,
    is_served,
    log_fixture,  # noqa: F401 - a fixture
    names_fixture,  # noqa: F401 - a fixture
    open_to,
    tls_of,
    trusted_file_fixture,  # noqa: F401 - a fixture
    trusting_fixture,  # noqa: F401 - a fixture
)
from tls_support import BOTH_VERSIONS, HOST, V12, V13, client_context

from landline import (
    Server,
    SocketStream,
    SslCondition,
    SslFailure,
    create_ssl_server_context,
    start_up_server,
)
from landline.testing.contract.stage import until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")


# ---- whose certificate (mutual TLS) ----------------------------------------------------------------------


@contextmanager
def asking(
    verify: Any, handler: Handler, certificates: Certificates, identity_file: str, version: ssl.TLSVersion
) -> Iterator[tuple[Server, Callable[[Identity | None], SocketStream]]]:
    """A server that asks for certificates, and how to open a connection that shows a given one."""

    def configure(context: ssl.SSLContext) -> None:
        context.maximum_version = version

    context = create_ssl_server_context(
        cert_file=identity_file,
        verify_callback=verify,
        openssl_trusted_file=certificates.trusted_file,
        openssl_ctx_configure_callback=configure,
    )
    with start_up_server(handler, ssl_ctx=context) as server:

        def open_as(whom: Identity | None) -> SocketStream:
            client = client_context()
            if whom is not None:
                client.load_cert_chain(whom.both_file)
            return open_to(server, client)

        yield server, open_as


def is_refused(open_as: Callable[[], SocketStream]) -> SslCondition:
    """In TLS 1.2 while it opens; in TLS 1.3 the client learns of it when it reads."""
    with pytest.raises(SslFailure) as caught, open_as() as stream:
        stream.read()
    return caught.value


@BOTH_VERSIONS
@pytest.mark.parametrize("verify", [True, "try", lambda stream: True], ids=["required", "try", "function"])
def test_a_client_is_known_by_its_certificate(
    verify: Any, version: ssl.TLSVersion, handler: Handler, certificates: Certificates, identity_file: str
) -> None:
    with (
        asking(verify, handler, certificates, identity_file, version) as (_, open_as),
        open_as(certificates["client"]) as stream,
    ):
        tls_of(stream)
    (tls,) = handler.seen
    assert tls is not None
    assert tls.certificate is not None
    assert tls.certificate.subject == "Ann"
    assert tls.certificate.der == certificates["client"].der
    assert tls.verify() == (True, "")
    assert (tls.required, tls.checked_name) == (True, None)


@BOTH_VERSIONS
def test_a_client_that_resumes_is_known_too(
    version: ssl.TLSVersion, handler: Handler, certificates: Certificates, identity_file: str
) -> None:
    client = client_context()
    client.load_cert_chain(certificates["client"].both_file)
    with asking(True, handler, certificates, identity_file, version) as (server, _):
        for _ in range(3):
            with open_to(server, client) as stream:
                tls_of(stream)
    assert [tls.session_reused for tls in handler.seen if tls is not None] == [False, False, True]
    assert [tls.chain[:1] for tls in handler.seen if tls is not None] == [(certificates["client"].der,)] * 3


@BOTH_VERSIONS
@pytest.mark.parametrize("verify", [True, lambda stream: True], ids=["required", "function"])
def test_a_client_without_certificate_is_refused(
    verify: Any, version: ssl.TLSVersion, handler: Handler, certificates: Certificates, identity_file: str, log: Log
) -> None:
    with asking(verify, handler, certificates, identity_file, version) as (_, open_as):
        refusal = is_refused(lambda: open_as(None))
        assert "peer did not return a certificate" in log.warning()
    assert version is V12 or "it wants a client certificate: give cert_file and key_file" in str(refusal)
    assert handler.seen == []


@BOTH_VERSIONS
def test_try_lets_clients_without_certificate_in(
    version: ssl.TLSVersion, handler: Handler, certificates: Certificates, identity_file: str
) -> None:
    with asking("try", handler, certificates, identity_file, version) as (_, open_as), open_as(None) as stream:
        tls_of(stream)
    (tls,) = handler.seen
    assert tls is not None
    assert tls.certificate is None
    assert tls.verify() == (False, "the peer showed no certificate")


@BOTH_VERSIONS
@pytest.mark.parametrize("verify", [True, "try", lambda stream: True], ids=["required", "try", "function"])
def test_a_bad_certificate_is_refused_in_every_case(
    verify: Any, version: ssl.TLSVersion, handler: Handler, certificates: Certificates, identity_file: str, log: Log
) -> None:
    leaf, key = certificates.middle.issue(
        common_name="Ann", usage=ExtendedKeyUsageOID.CLIENT_AUTH, begin=NOW - 40 * DAY, end=NOW - DAY
    )
    old = Identity(leaf, key, (certificates.middle.certificate,), certificates.folder / "expired_client")
    with asking(verify, handler, certificates, identity_file, version) as (_, open_as):
        refusal = is_refused(lambda: open_as(old))
        assert "the client's certificate was refused: it expired" in log.warning()
    assert "'certificate expired' (this side's certificate has expired)" in str(refusal)
    assert handler.seen == []


@BOTH_VERSIONS
def test_the_function_decides(
    version: ssl.TLSVersion, handler: Handler, certificates: Certificates, identity_file: str, log: Log
) -> None:
    """It gets the stream that the handler would get, with what is known about the client; false refuses."""
    asked: list[str | None] = []

    def verify(stream: SocketStream) -> bool:
        assert stream.tls is not None
        assert stream.tls.certificate is not None
        asked.append(stream.tls.certificate.subject)
        return asked.count("Ann") == 1

    with asking(verify, handler, certificates, identity_file, version) as (_, open_as):
        with open_as(certificates["client"]) as stream:
            tls_of(stream)
        with open_as(certificates["client"]) as stream:
            assert stream.read() == b""  # it is told properly that this is the end
        assert "verify_callback refused the certificate of 127.0.0.1:" in log.warning()
    assert asked == ["Ann", "Ann"]
    assert len(handler.seen) == 1


def test_a_function_that_raises_is_logged_and_ends_that_client_only(
    handler: Handler, certificates: Certificates, identity_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter([0, 1])

    def verify(stream: SocketStream) -> bool:
        return 1 // next(answers) == 1

    with asking(verify, handler, certificates, identity_file, V13) as (_, open_as):
        with open_as(certificates["client"]) as stream:
            assert stream.read() == b""
        until(lambda: caplog.records)
        (record,) = caplog.records
        assert record.levelname == "ERROR"
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], ZeroDivisionError)
        assert handler.seen == []
        with open_as(certificates["client"]) as stream:
            tls_of(stream)
    assert len(handler.seen) == 1


# ---- which certificate (SNI) -----------------------------------------------------------------------------


@BOTH_VERSIONS
@pytest.mark.usefixtures("names")
def test_the_name_sent_chooses_the_context(
    version: ssl.TLSVersion, handler: Handler, identity_file: str, tmp_path: Path
) -> None:
    """An abstract one, an SSLContext, or None for the server's own; names are asked for in each handshake."""
    abstract = create_ssl_server_context(cert_file=identity_for(OTHER, tmp_path))
    plain = create_ssl_server_context(cert_file=identity_for(WRONG, tmp_path)).ssl_context()
    asked: list[str | None] = []

    def choose(name: str | None) -> Any:
        asked.append(name)
        return {OTHER: abstract, WRONG: plain}.get(name or "")

    own = create_ssl_server_context(cert_file=identity_file, sni_callback=choose)
    with start_up_server(handler, ssl_ctx=own) as server:
        for host in (OTHER, WRONG, HOST, LOOPBACK):
            with open_to(server, client_context(version), host) as stream:
                certificate = tls_of(stream).certificate
                assert certificate is not None
                assert certificate.names[0] == host if host in (OTHER, WRONG) else len(certificate.names) > 1
    assert asked == [OTHER, WRONG, HOST, None]
    assert len(handler.seen) == 4


@pytest.mark.usefixtures("names")
def test_a_name_may_be_refused(handler: Handler, identity_file: str, log: Log) -> None:
    """That is a client's mistake, and no failure of the server's: a line in the log, no traceback."""

    def choose(name: str | None) -> None:
        if name != HOST:
            raise LookupError(name)

    context = create_ssl_server_context(cert_file=identity_file, sni_callback=choose)
    with start_up_server(handler, ssl_ctx=context, name="mine") as server:
        with pytest.raises(SslFailure, match=r"'unrecognized name' \(it does not serve the name"):
            open_to(server, client_context(), OTHER)
        line = log.warning()
        assert line.startswith("mine: ")
        assert OTHER in line
        assert is_served(server, client_context(), HOST)
    assert len(handler.seen) == 1


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize(
    ("gives", "kind"), [(lambda: 1 / 0, ZeroDivisionError), (lambda: "context", TypeError)], ids=["raises", "nonsense"]
)
def test_a_choice_that_fails_is_logged_and_ends_that_client_only(
    gives: Callable[[], Any], kind: type[Exception], handler: Handler, identity_file: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    context = create_ssl_server_context(
        cert_file=identity_file, sni_callback=lambda name: gives() if name == OTHER else None
    )
    with start_up_server(handler, ssl_ctx=context) as server:
        with pytest.raises(SslFailure, match="'internal error'"):
            open_to(server, client_context(), OTHER)
        until(lambda: caplog.records)
        (record,) = caplog.records
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], kind)
        assert handler.seen == []
        assert is_served(server, client_context(), HOST)
