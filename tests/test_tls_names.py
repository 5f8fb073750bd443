"""Which name is sent as SNI and which one is checked: the seed page's rules and RFC 9525, on the wire in memory."""

from __future__ import annotations

import ssl
from ipaddress import ip_address

import pytest
from certificates import (
    CASES,
    HOST,
    Certificates,
    Pair,
    matrix,  # noqa: F401 - the fixture `certificates`
    pem,
)
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import example, given, settings
from hypothesis import strategies as st

from landline import SslVerificationFailure
from landline.address import HostSpec, parse_host
from landline.tls.abstract import SslAbstractContext, create_ssl_client_context
from landline.tls.names import (
    NOT_GIVEN,
    NotGiven,
    check_certificate,
    checked_name,
    name_matches,
    parse_sni,
    sni_name,
)
from landline.tls.plan import TlsPlan, client_plan

Sni = str | bool | NotGiven | None


def plan_for(ssl_ctx: object, host: HostSpec, tlsext_host_name: Sni = NOT_GIVEN) -> TlsPlan:
    plan = client_plan(ssl_ctx, parse_host(host), tlsext_host_name=tlsext_host_name)
    assert plan is not None
    return plan


@pytest.fixture
def trusting(certificates: Certificates) -> SslAbstractContext:
    return create_ssl_client_context(openssl_trusted_file=certificates.trusted_file)


def own_context(certificates: Certificates, *, names: bool = True) -> ssl.SSLContext:
    """A user's own SSLContext."""
    context = ssl.create_default_context(cafile=certificates.trusted_file)
    context.check_hostname = names
    return context


# ---- what is sent (manual, open-tcp-stream: tlsext-host-name) ------------------------------------


@pytest.mark.parametrize(
    ("host", "of_call", "of_context", "sent"),
    [
        ("good.example", NOT_GIVEN, NOT_GIVEN, "good.example"),
        ("good.example", True, NOT_GIVEN, "good.example"),
        ("good.example", None, NOT_GIVEN, None),
        ("good.example", False, NOT_GIVEN, None),
        ("good.example", "other.example", NOT_GIVEN, "other.example"),
        ("good.example", NOT_GIVEN, "context.example", "context.example"),
        ("good.example", True, "context.example", "good.example"),
        ("good.example", None, "context.example", None),
        ("good.example", False, "context.example", None),
        ("good.example", "other.example", "context.example", "other.example"),
        ("good.example", NOT_GIVEN, None, None),
        ("good.example", NOT_GIVEN, False, None),
        ("good.example", NOT_GIVEN, True, "good.example"),
        ("192.0.2.7", NOT_GIVEN, NOT_GIVEN, None),
        ("192.0.2.7", True, NOT_GIVEN, None),
        ("192.0.2.7", "other.example", NOT_GIVEN, "other.example"),
        ("192.0.2.7", NOT_GIVEN, "context.example", "context.example"),
        ("192.0.2.7", NOT_GIVEN, True, None),
        ("192.0.2.7.", NOT_GIVEN, NOT_GIVEN, None),
        ("2001:db8::7", True, NOT_GIVEN, None),
        ("fe80::1%1", True, NOT_GIVEN, None),
        (0xC0000207, True, NOT_GIVEN, None),
        (ip_address("192.0.2.7"), True, NOT_GIVEN, None),
        (ip_address("2001:db8::7"), NOT_GIVEN, NOT_GIVEN, None),
        ("Good.Example.", NOT_GIVEN, NOT_GIVEN, "good.example"),
        ("faß.example", NOT_GIVEN, NOT_GIVEN, "xn--fa-hia.example"),
        ("good.example", "FAẞ.example.", NOT_GIVEN, "xn--fa-hia.example"),
        ("a_b.-c-.example", NOT_GIVEN, NOT_GIVEN, "a_b.-c-.example"),
    ],
)
def test_sni_follows_the_manual(
    host: HostSpec, of_call: Sni, of_context: Sni, sent: str | None, certificates: Certificates
) -> None:
    """On the wire too; nobody is verified here, so that only the sending counts."""
    assert sni_name(parse_host(host), of_call, of_context) == sent

    def trust_anybody(context: ssl.SSLContext) -> None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

    context = create_ssl_client_context(
        tlsext_host_name=of_context,
        openssl_trusted_file=certificates.trusted_file,
        openssl_ctx_configure_callback=trust_anybody,
    )
    plan = plan_for(context, host, of_call)
    assert Pair(plan, certificates["good"].server()).shake().sni == [sent]
    assert plan.checked_name is None


@pytest.mark.parametrize("numeric", ["192.0.2.7", "2001:db8::7", "192.0.2.7.", "1.2.3"])
def test_a_numeric_address_is_never_sent(numeric: str) -> None:
    with pytest.raises(ValueError, match=r"^tlsext_host_name="):
        parse_sni(numeric)


@pytest.mark.parametrize("bad", ["", "a b", "good.example:443", "https://good.example", "a..b", "x" * 64])
def test_sni_must_be_a_name(bad: str) -> None:
    with pytest.raises(ValueError, match=r"^tlsext_host_name="):
        parse_sni(bad)


def test_sni_of_another_type_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"tlsext_host_name=b'good\.example'"):
        parse_sni(b"good.example")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("Good.Example.", "good.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("fe80::1%1", "fe80::1"),
        ("192.0.2.7.", "192.0.2.7"),
        (0x7F000001, "127.0.0.1"),
        ("2001:DB8:0::7", "2001:db8::7"),
    ],
)
def test_the_checked_name_has_one_spelling_and_no_zone(host: HostSpec, name: str) -> None:
    assert checked_name(parse_host(host)) == name


# ---- what is checked: always the host asked for --------------------------------------------------

SNI = [NOT_GIVEN, True, None, False, "other.example"]


@pytest.mark.parametrize("sni", SNI)
@pytest.mark.parametrize("case", [name for name, case in CASES.items() if case.verify_code == 0])
def test_a_good_certificate_is_accepted_whatever_is_sent(
    case: str, sni: Sni, certificates: Certificates, trusting: SslAbstractContext
) -> None:
    plan = plan_for(trusting, CASES[case].wanted, sni)
    pair = Pair(plan, certificates[case].server()).shake()
    assert plan.checked_name == checked_name(parse_host(CASES[case].wanted))
    assert pair.sni == [plan.sni]


@pytest.mark.parametrize("sni", [*SNI, HOST, "h1.other.example"])
@pytest.mark.parametrize(
    "case", [name for name, case in CASES.items() if case.verify_code in (62, 64) and "wrong" not in name]
)
def test_a_certificate_for_others_is_refused_whatever_is_sent(
    case: str, sni: Sni, certificates: Certificates, trusting: SslAbstractContext
) -> None:
    pair = Pair(plan_for(trusting, CASES[case].wanted, sni), certificates[case].server())
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        pair.shake()
    assert caught.value.verify_code == CASES[case].verify_code


def test_sni_does_not_change_whom_we_trust(certificates: Certificates, trusting: SslAbstractContext) -> None:
    """The name sent is one the certificate is for; the host asked for is not."""
    pair = Pair(plan_for(trusting, HOST, "h1.other.example"), certificates["wrong host"].server())
    with pytest.raises(SslVerificationFailure, match=r"it is not for 'good\.example'"):
        pair.shake()


@pytest.mark.parametrize(("sni", "after"), [(NOT_GIVEN, False), (True, False), (HOST, False), (None, True)])
def test_openssl_checks_the_name_where_it_can(sni: Sni, after: bool, trusting: SslAbstractContext) -> None:
    """Then the peer gets an alert that says why; after the handshake it is too late for one."""
    plan = plan_for(trusting, HOST, sni)
    assert plan.check_after is after
    assert plan.server_hostname == (None if after else HOST)


@pytest.mark.parametrize("sni", [NOT_GIVEN, None])
def test_openssl_checks_an_address(sni: Sni, certificates: Certificates, trusting: SslAbstractContext) -> None:
    plan = plan_for(trusting, "192.0.2.7", sni)
    assert (plan.server_hostname, plan.check_after) == ("192.0.2.7", False)
    assert Pair(plan, certificates["good address"].server()).shake().sni == [None]


# ---- a user's own context ------------------------------------------------------------------------


@pytest.mark.parametrize("sni", [NOT_GIVEN, True, None, False, HOST])
def test_a_users_context_is_not_altered(sni: Sni, certificates: Certificates) -> None:
    context = own_context(certificates)
    before = (context.check_hostname, context.verify_mode, context.verify_flags, context.options)
    plan = plan_for(context, HOST, sni)
    assert plan.context is context
    Pair(plan, certificates["good"].server()).shake()
    assert (context.check_hostname, context.verify_mode, context.verify_flags, context.options) == before


def test_without_sni_a_users_context_still_checks_the_host(certificates: Certificates) -> None:
    """wrap_bio(server_hostname=None) skips the check without a word."""
    context = own_context(certificates)
    plan = plan_for(context, HOST, None)
    with pytest.raises(SslVerificationFailure, match=r"it is not for 'good\.example'"):
        Pair(plan, certificates["wrong host"].server()).shake()


def test_with_another_sni_a_users_context_needs_both_names(certificates: Certificates) -> None:
    context = own_context(certificates)
    one, key = certificates.middle.issue(HOST, "other.example")
    both = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    chain = one.public_bytes(Encoding.PEM) + certificates.middle.pem
    both.load_cert_chain(certificates.write("both.pem", chain + pem(key)))
    assert Pair(plan_for(context, HOST, "other.example"), both).shake().sni == ["other.example"]

    plan = plan_for(context, HOST, "other.example")
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        Pair(plan, certificates["good"].server()).shake()
    refusal = plan.refusal(caught.value.verify_code, caught.value.verify_message, certificates["good"].chain_der)
    assert "it is not for 'other.example'" in str(refusal)
    with pytest.raises(SslVerificationFailure, match=r"it is not for 'good\.example'"):
        Pair(plan_for(context, HOST, "h1.other.example"), certificates["wrong host"].server()).shake()


def test_a_users_context_that_checks_no_names_checks_none(certificates: Certificates) -> None:
    plan = plan_for(own_context(certificates, names=False), HOST)
    assert (plan.checked_name, plan.check_after) == (None, False)
    Pair(plan, certificates["wrong host"].server()).shake()


# ---- check_certificate: RFC 9525 -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("a.example", "a.example", True),
        ("A.EXAMPLE", "a.example", True),
        ("a.example", "b.example", False),
        ("a.example.", "a.example", False),
        ("*.w.example", "a.w.example", True),
        ("*.W.example", "a.w.EXAMPLE", True),
        ("*.w.example", "xn--fa-hia.w.example", True),
        ("*.w.example", "w.example", False),
        ("*.w.example", "a.b.w.example", False),
        ("*.w.example", "a_b.w.example", False),
        ("*.example", "a.example", False),
        ("*.", "a.", False),
        ("*", "localhost", False),
        ("a*.w.example", "ab.w.example", False),
        ("*a.w.example", "ba.w.example", False),
        ("a.*.example", "a.w.example", False),
        ("*.*.example", "a.w.example", False),
        ("*.w..example", "a.w..example", False),
        ("xn--*.w.example", "xn--fa-hia.w.example", False),
        ("a_b.example", "a_b.example", True),
        ("a.example\0.evil.example", "a.example", False),
        ("", "", False),
        ("192.0.2.7", "192.0.2.8", False),
    ],
)
def test_wildcards(pattern: str, name: str, matches: bool) -> None:
    assert name_matches(pattern, name) is matches


LABELS = st.sampled_from(["a", "b", "w", "xn--fa-hia", "a-b", "a_b", "-a", "*", "a*", "example", "1"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)


@settings(max_examples=150)
@given(patterns=st.lists(NAMES, min_size=1, max_size=2), name=NAMES, same=st.booleans())
@example(patterns=["*.w.example"], name="xn--fa-hia.w.example", same=False)
@example(patterns=["*.w-.example"], name="a.w-.example", same=False)
@example(patterns=["*.a_b.example"], name="a.a_b.example", same=False)
def test_the_check_is_the_one_openssl_makes(
    certificates: Certificates, patterns: list[str], name: str, same: bool
) -> None:
    """One certificate, asked both ways: what a server is trusted for must not hang on whether SNI is sent."""
    if same:
        name = patterns[0].replace("*", "a")
    try:
        host = parse_host(name)
    except ValueError:
        return
    if host.name is None:
        return
    leaf, key = certificates.middle.issue(*patterns, key=certificates["good"].key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    chain = leaf.public_bytes(Encoding.PEM) + certificates.middle.pem
    server.load_cert_chain(certificates.write("asked.pem", chain + pem(key)))
    context = ssl.create_default_context(cafile=certificates.trusted_file)
    context.hostname_checks_common_name = False
    answers = []
    for sni in (True, None):
        try:
            Pair(plan_for(context, name, sni), server).shake()
        except ssl.SSLCertVerificationError as error:
            answers.append(error.verify_code)
        else:
            answers.append(0)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("name", ["192.0.2.7", "2001:db8::7", "2001:DB8:0:0::7"])
def test_an_address_is_checked_as_an_address(name: str, certificates: Certificates) -> None:
    check_certificate(certificates["good address"].der, name)
    with pytest.raises(SslVerificationFailure) as caught:
        check_certificate(certificates["good"].der, name)
    assert caught.value.verify_code == 64
    assert caught.value.ssl_code == ("verification", 64)


def test_an_address_written_as_a_name_does_not_count(certificates: Certificates) -> None:
    """RFC 9525 6.5: only an iPAddress entry names an address."""
    leaf, _ = certificates.middle.issue(HOST, others=[x509.DNSName("192.0.2.7")])
    with pytest.raises(SslVerificationFailure, match=r"not for '192\.0\.2\.7'"):
        check_certificate(leaf.public_bytes(Encoding.DER), "192.0.2.7")


def test_entries_of_other_kinds_do_no_harm(certificates: Certificates) -> None:
    others = [
        x509.UniformResourceIdentifier("https://good.example:443/"),
        x509.RFC822Name("ann@good.example"),
        x509.DirectoryName(certificates.root.name),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4")),
        x509.OtherName(x509.ObjectIdentifier("1.2.3.4"), b"\x0c\x03abc"),
    ]
    leaf, _ = certificates.middle.issue("*x.good.example", HOST, others=others)
    der = leaf.public_bytes(Encoding.DER)
    check_certificate(der, HOST)
    with pytest.raises(SslVerificationFailure):
        check_certificate(der, "ann.good.example")


def test_no_certificate_is_refused() -> None:
    with pytest.raises(SslVerificationFailure) as caught:
        check_certificate(None, HOST, address="somewhere")
    assert caught.value.address == "somewhere"


@pytest.mark.parametrize("der", [b"", b"\x30", b"\x30\x00", b"\x30\x03\x02\x01\x01", b"nonsense"])
def test_an_unreadable_certificate_is_refused(der: bytes) -> None:
    with pytest.raises(SslVerificationFailure, match="not a certificate"):
        check_certificate(der, HOST)
