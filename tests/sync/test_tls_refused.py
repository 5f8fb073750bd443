"""Whom open_tcp_stream() trusts, over real sockets: the matrix of certificates, and the names it asks for.

The sentences themselves are proved in tests/test_tls_refusals.py, in memory; here it counts that every one of them
arrives, that the server is told and goes on, and that no way of sending names (SNI) makes a bad one good.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from certificates import (
    CASES,
    HOST,
    Case,
    Certificates,
    Identity,
    matrix,  # noqa: F401 - the fixture `certificates`
)
from opening import Resolver, bound
from opening import resolver_fixture as _resolver  # noqa: F401 - a fixture
from tls_opening import LOOPBACK, OTHER
from tls_support import BOTH_VERSIONS, of_version

from landline import (
    Server,
    SocketStream,
    SslAbstractContext,
    SslVerificationFailure,
    create_ssl_client_context,
    open_tcp_stream,
    start_up_server,
)
from landline.testing.contract.stage import PATIENCE, until
from landline.tls.names import NOT_GIVEN

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

SNI = (NOT_GIVEN, None, OTHER)
"""As the host says, suppressed, different."""

REACHABLE = {"192.0.2.7": LOOPBACK, "2001:db8::7": "::1"}
"""The addresses of the matrix, and those that stand for them here."""

BAD = {name: case for name, case in CASES.items() if case.verify_code}
GOOD = {name: case for name, case in CASES.items() if not case.verify_code}


def case_of(name: str, certificates: Certificates) -> tuple[Case, Identity]:
    """A case of the matrix; where an address is wanted, one that can be connected to."""
    case, identity = CASES[name], certificates[name]
    if case.wanted not in REACHABLE:
        return case, identity
    wanted = REACHABLE[case.wanted]
    if not case.verify_code:
        path = certificates.folder / f"loopback_{name.replace(' ', '_')}"
        leaf, key = certificates.middle.issue(*REACHABLE.values())
        identity = Identity(leaf, key, identity.chain, path)
    return replace(case, wanted=wanted, says=case.says.replace(case.wanted, wanted)), identity


def trusting(name: str, certificates: Certificates) -> SslAbstractContext:
    return create_ssl_client_context(
        openssl_trusted_file=certificates.trusted_file,
        crl_file=certificates.crl_file if name == "revoked" else None,
    )


@contextmanager
def server_of(identity: Identity, version: ssl.TLSVersion | None, host: str) -> Iterator[tuple[Server, list[bytes]]]:
    """A server, and what its handlers have heard; each says something after that."""
    heard: list[bytes] = []

    def handler(stream: SocketStream) -> None:
        heard.append(stream.readline())
        stream.write(b"here\n")

    local = host if host in REACHABLE.values() else LOOPBACK
    bound(local).close()  # or there is no such address on this machine
    context = of_version(identity.server(), version)
    with start_up_server(handler, local_address=local, ssl_ctx=context, read_timeout=PATIENCE) as server:
        yield server, heard


def still_serves(server: Server, identity: Identity) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with open_tcp_stream(server.addresses[0].host, server.port, ssl_ctx=context, read_timeout=PATIENCE) as stream:
        stream.write(b"hello\n")
        assert stream.readline() == b"here\n"
        assert stream.tls is not None
        assert stream.tls.chain[0] == identity.der


# ---- the matrix ------------------------------------------------------------------------------------------


@BOTH_VERSIONS
@pytest.mark.parametrize("name", BAD)
def test_a_bad_certificate_is_refused_and_its_server_told(
    name: str, version: ssl.TLSVersion, certificates: Certificates, resolver: Resolver, caplog: Any
) -> None:
    """Whatever name is sent; and no byte of payload reaches it."""
    caplog.set_level(logging.WARNING, "landline.server")
    case, identity = case_of(name, certificates)
    resolver.say(case.wanted, [LOOPBACK])
    context = trusting(name, certificates)
    with server_of(identity, version, case.wanted) as (server, heard):
        for sni in SNI:
            with pytest.raises(SslVerificationFailure) as caught:
                open_tcp_stream(case.wanted, server.port, ssl_ctx=context, tlsext_host_name=sni)
            refusal = caught.value
            assert isinstance(refusal, ssl.SSLCertVerificationError)
            assert refusal.verify_code == case.verify_code
            assert refusal.ssl_code == ("verification", case.verify_code)
            assert refusal.operation == "handshake"
            assert refusal.address == server.addresses[0]
            says = str(refusal)
            assert says.startswith(f"the certificate shown for '{case.wanted}' was refused: ")
            assert case.says in says
            assert "issued by '" in says
            assert f"to {identity.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC" in says
            report = refusal.report
            assert report is not None
            assert report.winner is not None
            assert report.handshake is not None
            assert report.handshake.error is not None
            assert "connected, but without TLS" in str(report)
        until(lambda: server.connections == 0)
        # OpenSSL refuses with an alert, and the server's handshake fails. Only where the name is wrong that OpenSSL was
        # not told of is the server's handshake done, and its handler hears that this is the end.
        by_alert = {62: 1, 64: 2}.get(case.verify_code, 3)
        assert sum("with the alert '" in record.message for record in caplog.records) == by_alert
        assert heard == [b""] * (len(SNI) - by_alert)
        still_serves(server, identity)


@BOTH_VERSIONS
@pytest.mark.parametrize("name", GOOD)
def test_a_good_certificate_is_accepted(
    name: str, version: ssl.TLSVersion, certificates: Certificates, resolver: Resolver
) -> None:
    case, identity = case_of(name, certificates)
    resolver.say(case.wanted.replace("faß", "xn--fa-hia"), [LOOPBACK])
    with server_of(identity, version, case.wanted) as (server, heard):
        for sni in SNI:
            context = trusting(name, certificates)
            with open_tcp_stream(case.wanted, server.port, ssl_ctx=context, tlsext_host_name=sni) as stream:
                stream.write(b"hello\n")
                assert stream.readline() == b"here\n"
                assert stream.tls is not None
                assert stream.tls.verify() == (True, "")
                assert stream.tls.chain[0] == identity.der
    assert heard == [b"hello\n"] * len(SNI)


def test_errorp_false_returns_the_refusal(certificates: Certificates, resolver: Resolver) -> None:
    resolver.say(HOST, [LOOPBACK])
    context = trusting("expired", certificates)
    with server_of(certificates["expired"], None, HOST) as (server, _):
        stream, refusal = open_tcp_stream(HOST, server.port, ssl_ctx=context, errorp=False)
    assert stream is None
    assert isinstance(refusal, SslVerificationFailure)
    ended = certificates["expired"].certificate.not_valid_after_utc
    assert f"it expired on {ended:%Y-%m-%d %H:%M} UTC, 31 days ago; it must be renewed" in str(refusal)


# ---- names (DESIGN 7: one name) --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        LOOPBACK,
        "127.0.0.1.",
        0x7F000001,
        ipaddress.IPv4Address(LOOPBACK),
        "::1",
        "0:0::1",
        ipaddress.IPv6Address("::1"),
    ],
    ids=repr,
)
def test_numeric_hosts_are_checked_as_addresses_and_never_sent(host: Any, certificates: Certificates) -> None:
    _, good = case_of("good address", certificates)
    context = trusting("good", certificates)
    numeric = "::1" if ":" in str(host) else LOOPBACK
    with server_of(good, None, numeric) as (server, _), open_tcp_stream(host, server.port, ssl_ctx=context) as stream:
        assert stream.tls is not None
        assert (stream.tls.sni, stream.tls.checked_name) == (None, numeric)
    with server_of(certificates["good"], None, numeric) as (server, _):
        with pytest.raises(SslVerificationFailure, match=f"it is not for '{numeric}'") as caught:
            open_tcp_stream(host, server.port, ssl_ctx=context)
        assert caught.value.verify_code == 64


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("faß.example", "xn--fa-hia.example"),
        ("FAẞ.Example", "xn--fa-hia.example"),
        ("xn--fa-hia.example", "xn--fa-hia.example"),
        ("faß.example.", "xn--fa-hia.example."),
        ("faß。example", "xn--fa-hia.example"),
    ],
)
def test_a_name_is_encoded_once_and_that_form_used_everywhere(
    host: str, name: str, certificates: Certificates, resolver: Resolver
) -> None:
    """In the lookup (where a trailing dot counts), in SNI and in the check (where it does not)."""
    resolver.say(name, [LOOPBACK])
    sent: list[str | None] = []
    context = certificates["good IDNA"].server()
    context.sni_callback = lambda _object, name, _context: sent.append(name)
    with start_up_server(SocketStream.read, ssl_ctx=context) as server:
        for sni in SNI:
            opened = trusting("good", certificates)
            with open_tcp_stream(host, server.port, ssl_ctx=opened, tlsext_host_name=sni) as stream:
                assert stream.tls is not None
                assert stream.tls.checked_name == "xn--fa-hia.example"
    assert sent == ["xn--fa-hia.example", None, OTHER]


def test_the_other_encoding_of_a_name_is_another_name(certificates: Certificates, resolver: Resolver) -> None:
    """IDNA 2003 made 'fass.example' of it: somebody else's."""
    resolver.say("fass.example", [LOOPBACK])
    with server_of(certificates["good IDNA"], None, HOST) as (server, _):
        for sni in (NOT_GIVEN, None, "faß.example"):
            with pytest.raises(SslVerificationFailure, match=r"it is not for 'fass\.example'"):
                open_tcp_stream(
                    "fass.example", server.port, ssl_ctx=trusting("good", certificates), tlsext_host_name=sni
                )


@pytest.mark.parametrize(
    ("names", "sni", "refused_for"),
    [
        ((HOST,), None, None),
        ((OTHER,), None, HOST),  # ssl would check nothing here: server_hostname is None
        ((HOST, OTHER), OTHER, None),
        ((OTHER,), OTHER, HOST),  # ssl would check the name that is sent
        ((HOST,), OTHER, OTHER),  # and does: nothing can stop it without altering the context
    ],
)
def test_a_context_of_ones_own_cannot_be_talked_out_of_the_host_by_sni(
    names: tuple[str, ...], sni: Any, refused_for: str | None, certificates: Certificates, resolver: Resolver
) -> None:
    resolver.say(HOST, [LOOPBACK])
    middle = certificates.middle
    leaf, key = middle.issue(*names)
    identity = Identity(leaf, key, (middle.certificate,), certificates.folder / f"sni_{'_'.join(names)}_{sni}")
    own = ssl.create_default_context(cafile=certificates.trusted_file)
    with server_of(identity, None, HOST) as (server, _):
        if refused_for is None:
            open_tcp_stream(HOST, server.port, ssl_ctx=own, tlsext_host_name=sni).close()
        else:
            with pytest.raises(SslVerificationFailure, match=f"it is not for '{refused_for}'"):
                open_tcp_stream(HOST, server.port, ssl_ctx=own, tlsext_host_name=sni)
    assert own.check_hostname


@pytest.mark.parametrize("sni", SNI, ids=["as the host", "none", "another"])
@pytest.mark.parametrize("made", ["shared", "for the call", "abstract"])
def test_in_a_context_of_landlines_the_host_alone_is_checked(
    made: str, sni: Any, certificates: Certificates, resolver: Resolver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate for the host need not be for the name sent; one for the name sent alone is worth nothing."""
    resolver.say(HOST, [LOOPBACK])
    monkeypatch.setenv("SSL_CERT_FILE", certificates.trusted_file)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    more: dict[str, Any] = {"ssl_ctx": trusting("good", certificates) if made == "abstract" else True}
    if made == "for the call":
        more["ctx_configure_callback"] = id
    middle = certificates.middle
    leaf, key = middle.issue(OTHER)
    of_other = Identity(leaf, key, (middle.certificate,), tmp_path / "of_other")
    with server_of(certificates["good"], None, HOST) as (server, _):
        open_tcp_stream(HOST, server.port, tlsext_host_name=sni, **more).close()
    with (
        server_of(of_other, None, HOST) as (server, _),
        pytest.raises(SslVerificationFailure, match=f"it is not for '{HOST}'"),
    ):
        open_tcp_stream(HOST, server.port, tlsext_host_name=sni, **more)
