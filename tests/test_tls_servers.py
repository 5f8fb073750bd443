"""TLS servers: which clients they let in, and which certificate they choose by the name a client sends."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from certificates import (
    HOST,
    Certificates,
    Pair,
    matrix,  # noqa: F401 - the fixture `certificates`
)

from landline.address import parse_host
from landline.tls.abstract import create_ssl_client_context, create_ssl_server_context
from landline.tls.choosing import choice_failure
from landline.tls.plan import TlsPlan, client_plan, server_plan


def to_good(ssl_ctx: object) -> TlsPlan:
    plan = client_plan(ssl_ctx, parse_host(HOST))
    assert plan is not None
    return plan


def serving(ssl_ctx: object) -> TlsPlan:
    plan = server_plan(ssl_ctx)
    assert plan is not None
    return plan


# ---- whose certificate: mutual TLS (manual: verify-callback) -------------------------------------


def test_clients_show_certificates_as_the_server_asks(certificates: Certificates) -> None:
    good, ann = certificates["good"], certificates["client"]
    trusted = certificates.trusted_file
    named = to_good(create_ssl_client_context(openssl_trusted_file=trusted, cert_file=ann.both_file))
    unnamed = to_good(create_ssl_client_context(openssl_trusted_file=trusted))
    bad = to_good(create_ssl_client_context(openssl_trusted_file=trusted, cert_file=certificates["expired"].both_file))

    def server(verify: Any) -> TlsPlan:
        return serving(
            create_ssl_server_context(
                cert_file=good.both_file,
                verify_callback=verify,
                openssl_trusted_file=None if verify is None else trusted,
            )
        )

    for verify in (True, "try", lambda stream: True):
        pair = Pair(named, server(verify)).shake()
        assert pair.server.getpeercert(binary_form=True) == ann.der
        with pytest.raises(ssl.SSLCertVerificationError):
            Pair(bad, server(verify)).shake()
    for lenient in (None, "try"):
        assert Pair(unnamed, server(lenient)).shake().server.getpeercert(binary_form=True) is None
    for verify in (True, lambda stream: True):
        with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
            Pair(unnamed, server(verify)).shake()
    assert Pair(bad, server(None)).shake().server.getpeercert(binary_form=True) is None


@pytest.mark.parametrize("verify", [True, "try", bool])
def test_a_server_says_whose_clients_it_trusts(verify: Any) -> None:
    with pytest.raises(ValueError, match="whose clients are trusted"):
        create_ssl_server_context(cert_file="x", verify_callback=verify)


# ---- a server's choice by SNI --------------------------------------------------------------------


def choose(certificates: Certificates, callback: Any, **more: Any) -> tuple[TlsPlan, TlsPlan]:
    """(client, server): the server has a certificate for others until `callback` chooses."""
    server = create_ssl_server_context(
        cert_file=certificates["wrong host"].both_file, sni_callback=callback, alpn=["base"], **more
    )
    client = create_ssl_client_context(openssl_trusted_file=certificates.trusted_file, alpn=["base", "chosen"])
    return to_good(client), serving(server)


@pytest.mark.parametrize("abstract", [True, False])
def test_a_server_chooses_by_name(abstract: bool, certificates: Certificates) -> None:
    chosen = create_ssl_server_context(cert_file=certificates["good"].both_file, alpn=["chosen"])
    asked: list[str | None] = []

    def by_name(name: str | None) -> object:
        asked.append(name)
        return chosen if abstract else chosen.ssl_context()

    client, server = choose(certificates, by_name)
    pair = Pair(client, server).shake()
    assert asked == [HOST]
    assert pair.client.getpeercert(binary_form=True) == certificates["good"].der
    assert pair.client.selected_alpn_protocol() == "chosen"
    assert choice_failure(pair.server) is None


def test_a_server_may_keep_its_own(certificates: Certificates) -> None:
    client, server = choose(certificates, lambda name: None)
    with pytest.raises(ssl.SSLCertVerificationError):
        Pair(client, server).shake()


@pytest.mark.parametrize(
    ("gives", "error"),
    [(lambda name: {}[name], KeyError), (lambda name: 1 / 0, ZeroDivisionError), (lambda name: "x", TypeError)],
)
def test_a_choice_that_fails_is_kept_for_the_driver(
    gives: Any, error: type[Exception], certificates: Certificates, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = Pair(*choose(certificates, gives))
    alert = "UNRECOGNIZED_NAME" if error is KeyError else "INTERNAL_ERROR"
    with pytest.raises(ssl.SSLError, match=alert):
        pair.shake()
    assert isinstance(choice_failure(pair.server), error)
    assert choice_failure(pair.server) is None
    assert capsys.readouterr().err == ""


def test_a_choice_cannot_ask_clients_for_more(certificates: Certificates) -> None:
    """OpenSSL would go on without asking: everybody would be let in."""
    good = certificates["good"].both_file
    strict = create_ssl_server_context(
        cert_file=good, verify_callback=True, openssl_trusted_file=certificates.trusted_file
    )
    later = create_ssl_server_context(cert_file=good, protocol_version="tls-v1-3")
    for chosen, says in ((strict, "client certificates"), (later, "later lowest version")):
        pair = Pair(*choose(certificates, lambda name, chosen=chosen: chosen))
        with pytest.raises(ssl.SSLError):
            pair.shake()
        failure = choice_failure(pair.server)
        assert isinstance(failure, ValueError)
        assert says in str(failure)
