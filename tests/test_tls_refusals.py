"""Why a certificate was refused: the matrix of bad certificates, each with its sentence; and the reader behind it."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from certificates import (
    CASES,
    DAY,
    HOST,
    NOW,
    Certificates,
    Pair,
    matrix,  # noqa: F401 - the fixture `certificates`
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from landline import SslVerificationFailure
from landline.address import parse_host
from landline.tls.abstract import create_ssl_client_context, create_ssl_server_context
from landline.tls.certificate import Certificate, read_certificate
from landline.tls.plan import client_plan, server_plan
from landline.tls.refusal import explain_refusal, printable

BAD = {name: case for name, case in CASES.items() if case.verify_code}


# ---- the matrix ----------------------------------------------------------------------------------


def refuse(case: str, certificates: Certificates) -> SslVerificationFailure:
    """Connect with the trust a user would give, and return the condition that has to come."""
    context = create_ssl_client_context(
        openssl_trusted_file=certificates.trusted_file,
        crl_file=certificates.crl_file if case == "revoked" else None,
    )
    plan = client_plan(context, parse_host(CASES[case].wanted))
    assert plan is not None
    identity = certificates[case]
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        Pair(plan, identity.server()).shake()
    error = caught.value
    return plan.refusal(error.verify_code, error.verify_message, identity.chain_der)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_certificate_is_refused_with_a_reason(name: str, certificates: Certificates) -> None:
    condition = refuse(name, certificates)
    assert condition.verify_code == BAD[name].verify_code
    assert condition.ssl_code == ("verification", BAD[name].verify_code)
    assert isinstance(condition, ssl.SSLCertVerificationError)
    message = str(condition)
    assert BAD[name].says in message
    assert message.startswith(f"the certificate shown for '{BAD[name].wanted}' was refused: ")
    assert "issued by " in message
    assert f"{certificates[name].certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC" in message
    assert len(message) < 700
    assert message.isprintable()


def test_a_certificate_not_on_the_list_is_accepted(certificates: Certificates) -> None:
    """crl_file= turns the check of the peer's own certificate on, and no more."""
    context = create_ssl_client_context(openssl_trusted_file=certificates.trusted_file, crl_file=certificates.crl_file)
    plan = client_plan(context, parse_host(HOST))
    assert plan is not None
    Pair(plan, certificates["good"].server()).shake()


@pytest.mark.parametrize(
    ("code", "says"), [(3, "no revocation list of its issuer"), (12, "is out of date; fetch a new one")]
)
def test_a_list_that_does_not_serve_is_told(code: int, says: str, certificates: Certificates) -> None:
    crl = certificates.root.revoke() if code == 3 else certificates.middle.revoke(end=NOW - timedelta(hours=1))
    context = create_ssl_client_context(
        openssl_trusted_file=certificates.trusted_file, crl_file=certificates.write(f"crl{code}.pem", crl)
    )
    plan = client_plan(context, parse_host(HOST))
    assert plan is not None
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        Pair(plan, certificates["good"].server()).shake()
    assert caught.value.verify_code == code
    assert says in str(plan.refusal(code, "", certificates["good"].chain_der))


def test_a_clients_certificate_is_told_apart(certificates: Certificates) -> None:
    """Server side: nobody's name was wanted."""
    identity = certificates["expired"]
    server = create_ssl_server_context(
        cert_file=certificates["good"].both_file, verify_callback=True, openssl_trusted_file=certificates.trusted_file
    )
    plan = server_plan(server)
    assert plan is not None
    message = str(plan.refusal(10, "certificate has expired", identity.chain_der))
    assert message.startswith("the client's certificate was refused: it expired on ")


def test_without_any_root_the_remedy_is_another(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slim container without ca-certificates."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent/file")
    monkeypatch.setenv("SSL_CERT_DIR", "/nonexistent/directory")
    plan = client_plan(True, parse_host(HOST))
    assert plan is not None
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        Pair(plan, certificates["missing intermediate"].server()).shake()
    message = str(plan.refusal(caught.value.verify_code, caught.value.verify_message, ()))
    assert "no trusted root certificate was found on this machine; install the system's" in message


# ---- the sentence --------------------------------------------------------------------------------


def test_the_peer_cannot_paint_on_the_terminal(certificates: Certificates) -> None:
    evil = "\x1b[2J\r\nok\u202e\x07" + "x" * 300
    leaf, _ = certificates.middle.issue(common_name="\x1b]0;title\x07")
    message = explain_refusal(
        62, evil, wanted=HOST, chain=[leaf.public_bytes(Encoding.DER)], now=datetime(2030, 1, 1, tzinfo=UTC)
    )
    assert message.isprintable()
    assert "'?]0;title?'" in message
    message = explain_refusal(999, evil)
    assert message.isprintable()
    assert len(message) < 400


def test_text_of_the_peer_is_bounded() -> None:
    assert printable("x" * 1000) == "'" + "x" * 77 + "...'"
    assert printable("a\nb\0c\u2066d") == "'a?b?c?d'"


def test_many_names_are_counted(certificates: Certificates) -> None:
    message = explain_refusal(62, "", wanted=HOST, chain=certificates["wrong host"].chain_der)
    assert "'h0.other.example', 'h1.other.example', 'h2.other.example' and 1 497 more" in message


def test_garbage_in_the_chain_is_left_out() -> None:
    message = explain_refusal(10, "certificate has expired", wanted=HOST, chain=[b"", b"\x30\x80", b"x" * 100])
    assert message.startswith("the certificate shown for 'good.example' was refused: it expired; ")


def test_dates_are_compared_with_now(certificates: Certificates) -> None:
    der = certificates["expired"].chain_der
    message = explain_refusal(10, "", wanted=HOST, chain=der, now=NOW - 31 * DAY + timedelta(minutes=5))
    assert ", 5 minutes ago; " in message
    assert "31 days ago" in explain_refusal(10, "", wanted=HOST, chain=der, now=NOW)


@pytest.mark.parametrize("code", range(-1, 110))
def test_each_code_has_a_sentence(code: int, certificates: Certificates) -> None:
    for chain in ((), certificates["good"].chain_der):
        message = explain_refusal(code, "some words", wanted=HOST, chain=chain)
        assert message.startswith("the certificate shown for 'good.example' was refused: ")
        assert "{" not in message
        assert "None" not in message


# ---- certificates as plain values ----------------------------------------------------------------


def test_the_reader_reads_what_cryptography_reads(certificates: Certificates) -> None:
    for name in CASES:
        identity = certificates[name]
        for one in (identity.certificate, *identity.chain, certificates.root.certificate):
            compare(read_certificate(one.public_bytes(Encoding.DER)), one)


def compare(read: Certificate, one: x509.Certificate) -> None:
    try:
        names = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    assert read.names == tuple(names.get_values_for_type(x509.DNSName))
    assert read.addresses == tuple(names.get_values_for_type(x509.IPAddress))
    assert read.subject == one.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert read.issuer == one.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert read.serial_number == one.serial_number
    assert (read.not_before, read.not_after) == (one.not_valid_before_utc, one.not_valid_after_utc)
    assert read.sha256 == one.fingerprint(hashes.SHA256()).hex()
    assert read.self_issued is (one.subject == one.issuer)
    assert read.signature == "ECDSA SHA-256"
    assert read.der == one.public_bytes(Encoding.DER)


def make(
    key: Any = None,
    *,
    subject: x509.Name | None = None,
    begin: datetime = NOW,
    end: datetime = NOW + DAY,
    signer: Any = None,
    digest: Any = None,
) -> bytes:
    if signer is None:
        signer, digest = ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()
    key = signer if key is None else key
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]) if subject is None else subject
    builder = x509.CertificateBuilder(name, name, key.public_key(), 77, begin, end)
    made: bytes = builder.sign(signer, digest).public_bytes(Encoding.DER)
    return made


@pytest.mark.parametrize(
    ("key", "kind", "bits"),
    [
        (rsa.generate_private_key(65537, 1024), "RSA", 1024),
        (ec.generate_private_key(ec.SECP256R1()), "EC P-256", 256),
        (ec.generate_private_key(ec.SECP384R1()), "EC P-384", 384),
        (ec.generate_private_key(ec.SECP521R1()), "EC P-521", 521),
        (ec.generate_private_key(ec.SECP256K1()), "EC secp256k1", 256),
        (ec.generate_private_key(ec.BrainpoolP256R1()), "EC 1.3.36.3.3.2.8.1.1.7", None),
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519", 256),
        (ed448.Ed448PrivateKey.generate(), "Ed448", 456),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_kinds_of_keys(key: object, kind: str, bits: int | None) -> None:
    read = read_certificate(make(key))
    assert (read.key_kind, read.key_bits) == (kind, bits)


@pytest.mark.parametrize(
    ("signer", "digest", "signature"),
    [
        (rsa.generate_private_key(65537, 2048), hashes.SHA256(), "RSA SHA-256"),
        (rsa.generate_private_key(65537, 2048), hashes.SHA512(), "RSA SHA-512"),
        (ec.generate_private_key(ec.SECP384R1()), hashes.SHA384(), "ECDSA SHA-384"),
        (ec.generate_private_key(ec.SECP384R1()), hashes.SHA224(), "1.2.840.10045.4.3.1"),
        (ed25519.Ed25519PrivateKey.generate(), None, "Ed25519"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_kinds_of_signatures(signer: object, digest: object, signature: str) -> None:
    assert read_certificate(make(signer=signer, digest=digest)).signature == signature


def test_names_in_any_of_their_encodings() -> None:
    for encoding in (x509.name._ASN1Type.UTF8String, x509.name._ASN1Type.BMPString):
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Zoë", _type=encoding)])
        assert read_certificate(make(subject=name)).subject == "Zoë"
    company = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Company")])
    read = read_certificate(make(subject=company))
    assert (read.subject, read.issuer) == (None, "Company")
    empty = read_certificate(make(subject=x509.Name([])))
    assert (empty.subject, empty.issuer) == (None, None)


@pytest.mark.parametrize("year", [1950, 1999, 2000, 2049, 2050, 9999])
def test_dates_of_either_kind(year: int) -> None:
    """RFC 5280 4.1.2.5: two digits of a year until 2049, four from 2050."""
    begin = datetime(max(year, 1950), 1, 2, 3, 4, 5, tzinfo=UTC)
    read = read_certificate(make(begin=begin, end=begin))
    assert read.not_before == read.not_after == begin


def test_every_cut_is_noticed() -> None:
    der = make()
    for length in range(len(der)):
        with pytest.raises(ValueError, match="not a certificate"):
            read_certificate(der[:length])
    with pytest.raises(ValueError, match="something follows"):
        read_certificate(der + b"\0")


def test_alternative_names_there_twice_are_refused(certificates: Certificates) -> None:
    """Which of them would count? OpenSSL takes neither."""
    leaf, _ = certificates.middle.issue(HOST)
    der = leaf.public_bytes(Encoding.DER)
    # Turn the extended key usage (2.5.29.37) into a second subjectAltName (2.5.29.17).
    assert der.count(b"\x06\x03\x55\x1d\x25") == 1
    with pytest.raises(ValueError, match="there twice"):
        read_certificate(der.replace(b"\x06\x03\x55\x1d\x25", b"\x06\x03\x55\x1d\x11"))


@settings(max_examples=300)
@given(st.data())
def test_damaged_certificates_raise_value_error_or_read(certificates: Certificates, data: st.DataObject) -> None:
    der = bytearray(certificates["good address"].der)
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = read_certificate(bytes(der))
    except ValueError:
        return
    assert read.not_before.tzinfo is UTC
    explain_refusal(10, "", wanted=HOST, chain=[bytes(der)])
    printable(read.subject or "")


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_random_bytes_raise_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a certificate"):
        read_certificate(data)


def test_the_fields_are_in_order(certificates: Certificates) -> None:
    chain = [read_certificate(der) for der in certificates["good"].chain_der]
    assert all(lower.issuer == upper.subject for lower, upper in pairwise(chain))
    assert "der" not in repr(chain[0])
