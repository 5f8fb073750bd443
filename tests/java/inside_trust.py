"""Whom TLS through Java trusts: the matrix of certificates (as in tests/sync/test_tls_refused.py), and names.

What a certificate's chain must be like is the JVM's own business (its security properties); here they are told what
OpenSSL knows by itself. The one case in which the two differ for good is named.
"""

from __future__ import annotations

import socket
import ssl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from certificates import CASES, HOST, Case, Certificates, Identity
from certificates import matrix as _matrix  # noqa: F401 - the fixture `certificates`
from java_side import LOOPBACK, opened, trust_file_fixture, trust_of, trusting, unwatched, way_fixture
from opening import Resolver
from tls_support import BOTH_VERSIONS, of_version

from landline import (
    Server,
    SocketStream,
    SslError,
    SslVerificationFailure,
    open_tcp_stream_using_java,
    start_up_server,
)
from landline.java.bridge import Bridge
from landline.testing.contract.stage import PATIENCE, until

__all__ = ["trust_file_fixture", "way_fixture"]

pytestmark = pytest.mark.usefixtures("way", "no_leaks")

OTHER = "other.example"

DIFFERENT = ("no authority key identifier", "revoked")
"""Java does not mind; Java asks only when it is told to."""

HERE = ("common name only", "wildcard in a label", "wildcard of a top domain")
"""What Java's own check of names accepts."""

BAD = {name: case for name, case in CASES.items() if case.verify_code and name not in DIFFERENT}
GOOD = {name: case for name, case in CASES.items() if not case.verify_code}
REACHABLE = {"192.0.2.7": LOOPBACK, "2001:db8::7": "::1"}


@pytest.fixture(name="resolver")
def resolver_fixture(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    made = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    return made


def case_of(name: str, certificates: Certificates) -> tuple[Case, Identity]:
    """A case of the matrix; where an address is wanted, one that can be connected to."""
    case, identity = CASES[name], certificates[name]
    if case.wanted not in REACHABLE:
        return case, identity
    wanted = REACHABLE[case.wanted]
    if not case.verify_code:
        leaf, key = certificates.middle.issue(*REACHABLE.values())
        identity = Identity(leaf, key, identity.chain, certificates.folder / f"here_{name.replace(' ', '_')}")
    return replace(case, wanted=wanted, says=case.says.replace(case.wanted, wanted)), identity


@contextmanager
def server_of(
    identity: Identity, version: ssl.TLSVersion | None = None, host: str = LOOPBACK
) -> Iterator[tuple[Server, list[bytes]]]:
    """A server, and what its handlers have heard; each says something after that."""
    heard: list[bytes] = []

    def handler(stream: SocketStream) -> None:
        heard.append(stream.readline())
        stream.write(b"here\n")

    local = host if host in REACHABLE.values() else LOOPBACK
    context = of_version(identity.server(), version)
    with start_up_server(handler, local_address=local, ssl_ctx=context, read_timeout=PATIENCE) as server:
        yield server, heard


def talks(stream: SocketStream) -> bool:
    with stream:
        stream.write(b"hello\n")
        return stream.readline() == b"here\n"


# ---- the matrix ------------------------------------------------------------------------------------------


@BOTH_VERSIONS
@pytest.mark.parametrize("name", BAD)
def test_a_bad_certificate_is_refused_and_its_server_told(
    name: str,
    version: ssl.TLSVersion,
    certificates: Certificates,
    resolver: Resolver,
    trust_file: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever name is sent; the sentence is that of OpenSSL's refusals, and Java's words are in it."""
    case, identity = case_of(name, certificates)
    resolver.say(case.wanted, [LOOPBACK])
    with server_of(identity, version, case.wanted) as (server, heard):
        for more in ({}, {"tlsext_host_name": None}, {"tlsext_host_name": OTHER}):
            with pytest.raises(SslVerificationFailure) as caught:
                opened(server.port, trust_file, case.wanted, **more)
            refusal = caught.value
            assert isinstance(refusal, ssl.SSLCertVerificationError)
            assert refusal.verify_code == case.verify_code, str(refusal)
            assert refusal.ssl_code == ("verification", case.verify_code)
            assert (refusal.operation, refusal.address) == ("handshake", server.addresses[0])
            says = str(refusal)
            assert says.startswith(f"the certificate shown for '{case.wanted}' was refused: ")
            assert case.says in says
            assert "openssl" not in says.lower()
            assert f"to {identity.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC" in says
            assert refusal.report is not None
            assert "connected, but without TLS" in str(refusal.report)
        until(lambda: server.connections == 0)
        # Where it is Java that refuses the server hears an alert; where it is the check here, the end of TLS.
        by_alert = sum("with the alert '" in record.message for record in caplog.records)
        assert heard == [b""] * (3 - by_alert)
        assert (by_alert == 0) == (name in HERE)


@BOTH_VERSIONS
@pytest.mark.parametrize("name", GOOD)
def test_a_good_certificate_is_accepted(
    name: str, version: ssl.TLSVersion, certificates: Certificates, resolver: Resolver, trust_file: Path
) -> None:
    case, identity = case_of(name, certificates)
    resolver.say(case.wanted.replace("faß", "xn--fa-hia"), [LOOPBACK])
    with server_of(identity, version, case.wanted) as (server, heard):
        for more in ({}, {"tlsext_host_name": None}, {"tlsext_host_name": OTHER}):
            stream = opened(server.port, trust_file, case.wanted, **more)
            assert stream.tls is not None
            assert stream.tls.verify() == (True, "")
            assert stream.tls.chain == identity.chain_der
            assert talks(stream)
    assert heard == [b"hello\n"] * 3


def test_what_java_lets_pass_is_left_to_its_policy(
    certificates: Certificates, resolver: Resolver, trust_file: Path
) -> None:
    """A chain that breaks RFC 5280 in a way that only OpenSSL's strictness minds."""
    resolver.say(HOST, [LOOPBACK])
    with server_of(certificates["no authority key identifier"]) as (server, _):
        assert talks(opened(server.port, trust_file, HOST))


def test_a_revoked_certificate_is_refused_by_a_factory_that_asks(
    way: Bridge, certificates: Certificates, resolver: Resolver
) -> None:
    """And a factory's own checks are told in Java's words, with the certificate unknown."""
    resolver.say(HOST, [LOOPBACK])
    find = way.find
    reader = find("java.security.cert.CertificateFactory").getInstance("X.509")
    lists = find("java.util.ArrayList")()
    stream = find("java.io.ByteArrayInputStream")(way.octets(Path(certificates.crl_file).read_bytes()))
    lists.add(reader.generateCRL(stream))
    parameters = find("java.security.cert.PKIXBuilderParameters")(
        trust_of(certificates.root.pem), find("java.security.cert.X509CertSelector")()
    )
    kept = find("java.security.cert.CollectionCertStoreParameters")(lists)
    parameters.addCertStore(find("java.security.cert.CertStore").getInstance("Collection", kept))
    checker = find("java.security.cert.CertPathBuilder").getInstance("PKIX").getRevocationChecker()
    options = find("java.util.HashSet")()
    kinds = find("java.security.cert.PKIXRevocationChecker$Option")
    for option in (kinds.ONLY_END_ENTITY, kinds.PREFER_CRLS, kinds.NO_FALLBACK):
        options.add(option)
    checker.setOptions(options)
    parameters.addCertPathChecker(checker)
    maker = find("javax.net.ssl.TrustManagerFactory").getInstance("PKIX")
    maker.init(find("javax.net.ssl.CertPathTrustManagerParameters")(parameters))
    context = find("javax.net.ssl.SSLContext").getInstance("TLS")
    context.init(None, maker.getTrustManagers(), None)
    with server_of(certificates["revoked"]) as (server, _):
        with pytest.raises(SslVerificationFailure, match="Java says: ") as caught:
            open_tcp_stream_using_java(HOST, server.port, factory=context)
        assert caught.value.verify_code == 23
    with server_of(certificates["good"]) as (server, _):
        assert talks(open_tcp_stream_using_java(HOST, server.port, factory=context))


def test_the_authorities_of_the_jvm_are_trusted_where_no_store_is_given(
    certificates: Certificates, resolver: Resolver
) -> None:
    resolver.say(HOST, [LOOPBACK])
    with (
        server_of(certificates["good"]) as (server, _),
        pytest.raises(SslVerificationFailure, match=r"trust (it|that one) with trust_store="),
    ):
        open_tcp_stream_using_java(HOST, server.port)


def test_the_exception_of_java_is_at_the_end_of_the_causes(
    way: Bridge, certificates: Certificates, resolver: Resolver, trust_file: Path
) -> None:
    resolver.say(HOST, [LOOPBACK])
    with server_of(certificates["expired"]) as (server, _), pytest.raises(SslVerificationFailure) as caught:
        opened(server.port, trust_file, HOST)
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    java = caught.value.__cause__.__cause__
    assert isinstance(java, way.error)
    assert "PKIX path validation failed" in str(java)


# ---- names -----------------------------------------------------------------------------------------------


def wild(certificates: Certificates, *names: str) -> Identity:
    leaf, key = certificates.middle.issue(*names)
    path = certificates.folder / "_".join(names).replace("*", "any")
    return Identity(leaf, key, (certificates.middle.certificate,), path)


@pytest.mark.parametrize(
    ("verify", "pattern", "host", "good"),
    [
        (True, "*.wild.example", "a.wild.example", True),
        (True, "*.wild.example", "a.b.wild.example", False),
        ("strict", "*.wild.example", "a.wild.example", True),
        ("strict", "*.wild.example", "a.b.wild.example", False),
        ("browser-compat", "*.wild.example", "a.wild.example", True),
        ("browser-compat", "*.wild.example", "a.b.wild.example", True),
        ("browser-compat", "*.wild.example", "wild.example", False),
        ("browser-compat", "wild.example", "a.wild.example", False),
        ("browser-compat", "*.example", "a.b.example", False),
        ("browser-compat", "other.example", "a.wild.example", False),
        (OTHER, OTHER, HOST, True),
        (OTHER, HOST, HOST, False),
        (LOOPBACK, LOOPBACK, HOST, True),
        (LOOPBACK, HOST, HOST, False),
        (False, OTHER, HOST, True),
    ],
)
def test_verify_says_whom_the_certificate_must_be_for(
    verify: Any, pattern: str, host: str, good: bool, certificates: Certificates, resolver: Resolver, trust_file: Path
) -> None:
    resolver.say(host, [LOOPBACK])
    with server_of(wild(certificates, pattern)) as (server, _), warnings.catch_warnings():
        warnings.simplefilter("ignore" if verify is False else "error")
        if good:
            stream = opened(server.port, trust_file, host, verify=verify)
            assert stream.tls is not None
            wanted = None if verify is False else verify if verify in (OTHER, LOOPBACK) else host
            assert (stream.tls.checked_name, stream.tls.sni) == (wanted, host)
            assert talks(stream)
        else:
            with pytest.raises(SslVerificationFailure) as caught:
                opened(server.port, trust_file, host, verify=verify)
            assert caught.value.verify_code in (62, 64)


def test_verify_false_warns_and_still_verifies_the_chain(
    certificates: Certificates, resolver: Resolver, trust_file: Path
) -> None:
    resolver.say(HOST, [LOOPBACK])
    with (
        server_of(certificates["self-signed"]) as (server, _),
        pytest.warns(
            UserWarning, match="whoever has a certificate for any name at all can take the place of"
        ) as warned,
        pytest.raises(SslVerificationFailure, match="trust it with trust_store="),
    ):
        open_tcp_stream_using_java(
            HOST, server.port, trust_store=trust_file, trust_store_password="secret", verify=False
        )
    assert warned[0].filename == __file__


@pytest.mark.parametrize("answer", [True, False])
def test_a_hostname_verifier_decides(
    answer: bool, way: Bridge, certificates: Certificates, resolver: Resolver, trust_file: Path
) -> None:
    resolver.say(HOST, [LOOPBACK])
    asked: list[tuple[str, str]] = []

    def verify(host: Any, session: Any) -> bool:
        asked.append((str(host), str(session.getProtocol())))
        return answer

    assert way.implement is not None
    verifier = way.implement("javax.net.ssl.HostnameVerifier", {"verify": verify})
    with server_of(wild(certificates, OTHER)) as (server, _):
        if answer:
            assert talks(opened(server.port, trust_file, HOST, verify=verifier))
        else:
            with pytest.raises(SslVerificationFailure, match="the HostnameVerifier given as verify= refused") as caught:
                opened(server.port, trust_file, HOST, verify=verifier)
            assert caught.value.ssl_code == "verify"
    assert asked == [(HOST, "TLSv1.3")]


def test_a_name_with_an_underscore_is_checked_and_not_sent(
    certificates: Certificates, resolver: Resolver, trust_file: Path
) -> None:
    """Java itself would do neither."""
    host = "a_b.wild.example"
    resolver.say(host, [LOOPBACK])
    for name, good in ((host, True), (OTHER, False)):
        with server_of(wild(certificates, name)) as (server, _):
            if good:
                stream = opened(server.port, trust_file, host)
                assert stream.tls is not None
                assert (stream.tls.sni, stream.tls.checked_name) == (None, host)
                assert talks(stream)
            else:
                with pytest.raises(SslVerificationFailure):
                    opened(server.port, trust_file, host)
            with pytest.raises(ValueError, match="Java sends no name with an underscore"):
                opened(server.port, trust_file, host, tlsext_host_name=host)


def test_a_session_that_was_resumed_has_its_name_checked_again(
    certificates: Certificates, resolver: Resolver, way: Bridge
) -> None:
    """One factory, one server: what verify="other.example" has let in is not good for the host."""
    resolver.say(HOST, [LOOPBACK])
    factory = unwatched(trust_of(certificates.root.pem))
    with server_of(wild(certificates, OTHER)) as (server, _):
        for _ in range(2):
            assert talks(open_tcp_stream_using_java(HOST, server.port, factory=factory, verify=OTHER))
        for sni in (OTHER, HOST):
            with pytest.raises(SslVerificationFailure):
                open_tcp_stream_using_java(HOST, server.port, factory=factory, tlsext_host_name=sni)


def test_no_payload_passes_before_the_peer_was_checked(certificates: Certificates, resolver: Resolver) -> None:
    resolver.say(HOST, [LOOPBACK])
    with server_of(certificates["common name only"]) as (server, heard):
        with pytest.raises(SslVerificationFailure) as caught:
            open_tcp_stream_using_java(HOST, server.port, factory=unwatched(trust_of(certificates.root.pem)))
        assert not isinstance(caught.value, SslError)
        until(lambda: heard == [b""])
    assert trusting().check.rules == "https"
