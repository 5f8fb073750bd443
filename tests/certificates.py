"""Certificates for tests, good and bad, made anew for each run, and handshakes in memory to try them.

    from certificates import matrix             then ask for the fixture `certificates`

One authority with an intermediate one below it is trusted; `CASES` lists what each bad certificate has wrong.
Keys are elliptic (fast to make) but for the weak one. Files are PEM.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from landline.address import SocketAddress
from landline.tls.plan import TlsPlan

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

HOST = "good.example"
"""What every certificate is for that is not wrong about its name."""

PEER = SocketAddress("192.0.2.1", 443)

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


# ---- the matrix ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A certificate, the host a client asks for, and what it has to hear (code 0: all is well)."""

    wanted: str
    verify_code: int = 0
    says: str = ""


CASES = {
    "good": Case(HOST),
    "good wildcard": Case("a.wild.example"),
    "good address": Case("192.0.2.7"),
    "good IPv6 address": Case("2001:db8::7"),
    "good IDNA": Case("faß.example"),
    "expired": Case(HOST, 10, "expired on "),
    "not yet valid": Case(HOST, 9, "is not valid until "),
    "wrong host": Case(HOST, 62, "it is not for 'good.example'"),
    "self-signed": Case(HOST, 18, "signed by itself"),
    "untrusted root": Case(HOST, 19, "ends at the authority 'Nobody's Root'"),
    "missing intermediate": Case(HOST, 20, "send its intermediate certificates"),
    "address without address": Case("192.0.2.7", 64, "it is not for '192.0.2.7'"),
    "common name only": Case(HOST, 62, "only a common name, 'good.example', which no longer counts"),
    "wildcard for two labels": Case("a.b.wild.example", 62, "it is not for 'a.b.wild.example'"),
    "wildcard for its parent": Case("wild.example", 62, "it is not for 'wild.example'"),
    "wildcard in a label": Case("abc.part.example", 62, "it is not for 'abc.part.example'"),
    "wildcard of a top domain": Case("somebody.example", 62, "it is not for 'somebody.example'"),
    "revoked": Case(HOST, 23, "has revoked it"),
    "weak key": Case(HOST, 66, "its key is too weak"),
    "wrong key usage": Case(HOST, 26, "not meant for a TLS server"),
    "expired intermediate": Case(HOST, 10, "the certificate of its authority 'Old Intermediate' expired on "),
    "issued by no authority": Case(HOST, 79, "which is not an authority"),
    "no authority key identifier": Case(HOST, 85, "breaks RFC 5280"),
}


class Certificates:
    """The matrix: `certificates["expired"]` is an Identity; each is made when it is first asked for.

    Attributes:
        folder: of all the files.
        root, middle: the trusted authority, and the one below it that issues.
        trusted_file: the root.
        crl_file: the revocation list of `middle`, with "revoked" on it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = Authority("Test Root")
        self.middle = Authority("Test Intermediate", self.root)
        self.trusted_file = self.write("root.pem", self.root.pem)
        self._made: dict[str, Identity] = {}

    def __getitem__(self, name: str) -> Identity:
        if name not in self._made:
            certificate, key, chain = self._make(name)
            path = self.folder / name.replace(" ", "_")
            self._made[name] = Identity(certificate, key, tuple(chain), path)
        return self._made[name]

    def _make(self, name: str) -> tuple[x509.Certificate, Key, Sequence[x509.Certificate]]:
        middle, chain = self.middle, (self.middle.certificate,)
        match name:
            case "good wildcard" | "wildcard for two labels" | "wildcard for its parent":
                return *middle.issue("*.wild.example"), chain
            case "good address" | "good IPv6 address":
                return *middle.issue("192.0.2.7", "2001:db8::7"), chain
            case "good IDNA":
                return *middle.issue("xn--fa-hia.example"), chain
            case "expired":
                return *middle.issue(HOST, begin=NOW - 40 * DAY, end=NOW - 31 * DAY), chain
            case "not yet valid":
                return *middle.issue(HOST, begin=NOW + 3 * DAY), chain
            case "wrong host":
                return *middle.issue(*(f"h{number}.other.example" for number in range(1500))), chain
            case "self-signed":
                return *Authority(HOST).issue(HOST, own=True), ()
            case "untrusted root":
                other = Authority("Nobody's Root")
                return *other.issue(HOST), (other.certificate,)
            case "missing intermediate":
                return *middle.issue(HOST), ()
            case "address without address":
                return *middle.issue(HOST, "192.0.2.8"), chain
            case "common name only":
                return *middle.issue(common_name=HOST), chain
            case "wildcard in a label":
                return *middle.issue("a*c.part.example"), chain
            case "wildcard of a top domain":
                return *middle.issue("*.example"), chain
            case "weak key":
                return *middle.issue(HOST, key=rsa.generate_private_key(65537, 1024)), chain
            case "wrong key usage":
                return *middle.issue(HOST, usage=ExtendedKeyUsageOID.EMAIL_PROTECTION), chain
            case "expired intermediate":
                old = Authority("Old Intermediate", self.root, end=NOW - DAY)
                return *old.issue(HOST), (old.certificate,)
            case "issued by no authority":
                leaf = Authority("No Authority", self.root, authority=False)
                return *leaf.issue(HOST), (leaf.certificate,)
            case "no authority key identifier":
                return *middle.issue(HOST, key_identifier=False), chain
            case "client":
                return *middle.issue(common_name="Ann", usage=ExtendedKeyUsageOID.CLIENT_AUTH), chain
            case "good" | "second" | "revoked":
                return *middle.issue(HOST), chain
        raise LookupError(name)

    @cached_property
    def crl_file(self) -> str:
        return self.write("crl.pem", self.middle.revoke(self["revoked"].certificate))

    def write(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)


@pytest.fixture(scope="session", name="certificates")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


# ---- making them ---------------------------------------------------------------------------------


class Authority:
    """A certificate authority, below `above` or a root of its own."""

    def __init__(
        self,
        name: str,
        above: Authority | None = None,
        *,
        begin: datetime = NOW - 50 * DAY,
        end: datetime = NOW + 50 * DAY,
        authority: bool = True,
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = above or self
        usage = _key_usage(authority)
        self.certificate = (
            _builder(self.name, signer, self.key, begin, end)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(signer.key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def issue(
        self,
        *names: str,
        common_name: str | None = None,
        begin: datetime = NOW - DAY,
        end: datetime = NOW + 30 * DAY,
        key: Key | None = None,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
        key_identifier: bool = True,
        own: bool = False,
        others: Sequence[x509.GeneralName] = (),
    ) -> tuple[x509.Certificate, Key]:
        """A certificate for `names` (addresses among them) and its key; `own`: one that signs itself."""
        key = self.key if own else key or ec.generate_private_key(ec.SECP256R1())
        subject = self.name if own else _subject(common_name or "somebody")
        builder = (
            _builder(subject, self, key, begin, end, key_identifier)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        alternatives = [*map(_alternative, names), *others]
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return builder.sign(self.key, hashes.SHA256()), key

    def revoke(self, *certificates: x509.Certificate, end: datetime = NOW + DAY) -> bytes:
        """The revocation list with `certificates` on it, as PEM."""
        builder = x509.CertificateRevocationListBuilder(self.name, NOW - DAY, end)
        for one in certificates:
            revoked = x509.RevokedCertificateBuilder(one.serial_number, NOW - DAY).build()
            builder = builder.add_revoked_certificate(revoked)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(identifier, critical=False).add_extension(x509.CRLNumber(1), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


@dataclass(frozen=True)
class Identity:
    """A certificate, its key and what stands above it; as files where asked for."""

    certificate: x509.Certificate
    key: Key
    chain: tuple[x509.Certificate, ...]
    path: Path

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @cached_property
    def chain_der(self) -> tuple[bytes, ...]:
        return tuple(one.public_bytes(Encoding.DER) for one in (self.certificate, *self.chain))

    @cached_property
    def cert_file(self) -> str:
        return self._write(".crt", b"".join(one.public_bytes(Encoding.PEM) for one in (self.certificate, *self.chain)))

    @cached_property
    def key_file(self) -> str:
        return self._write(".key", self.key_pem())

    @cached_property
    def both_file(self) -> str:
        return self._write(".pem", Path(self.cert_file).read_bytes() + self.key_pem())

    def locked_file(self, password: str) -> str:
        return self._write(f".{password}.key", self.key_pem(password))

    def key_pem(self, password: str | None = None) -> bytes:
        return pem(self.key, password)

    def server(self) -> ssl.SSLContext:
        """The standard library's context of a server that shows this certificate, weak as it may be."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        context.load_cert_chain(self.cert_file, self.key_file)
        return context

    def _write(self, ending: str, content: bytes) -> str:
        path = self.path.with_name(self.path.name + ending)
        path.write_bytes(content)
        return str(path)


def pem(key: Key, password: str | None = None) -> bytes:
    encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def _builder(
    subject: x509.Name,
    signer: Authority,
    key: Key,
    begin: datetime,
    end: datetime,
    key_identifier: bool = True,
) -> x509.CertificateBuilder:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if key_identifier:
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
        builder = builder.add_extension(above, critical=False)
    return builder


def _subject(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


# ---- handshakes in memory ------------------------------------------------------------------------


class Pair:
    """A client as `plan` says and a server, joined in memory.

    Attributes:
        sni: the names the server was sent, None for none.
    """

    def __init__(self, plan: TlsPlan, server: ssl.SSLContext | TlsPlan, peer: SocketAddress = PEER) -> None:
        self.plan, self.peer = plan, peer
        ends = [ssl.MemoryBIO() for _ in range(4)]
        self._ends = ends
        session = plan.session_for(peer)
        self.client = plan.context.wrap_bio(ends[0], ends[1], server_hostname=plan.server_hostname, session=session)
        plan.configure(self.client)
        context = server if isinstance(server, ssl.SSLContext) else server.context
        self.sni: list[str | None] = []
        if isinstance(server, ssl.SSLContext):
            names = self.sni  # not self: ssl hides such a cycle from the collector
            server.sni_callback = lambda _object, name, _context: names.append(name)
        self.server = context.wrap_bio(ends[2], ends[3], server_side=True)
        if isinstance(server, TlsPlan):
            server.configure(self.server)

    def shake(self) -> Pair:
        """The handshake, check_peer() included; raises what the client, else what the server has to say."""
        failed: ssl.SSLError | None = None
        client = server = False
        for _ in range(10):
            if not client:
                client = self._step(self.client, 1, 2)
            try:
                server = server or self._step(self.server, 3, 0)
            except ssl.SSLError as error:  # the client, told by an alert, may know better
                failed, server = error, True
            if client and server:
                break
        if failed:
            raise failed
        assert client
        assert server
        self.plan.check_peer(self.client)
        return self

    def receive(self, data: bytes = b"hello") -> Pair:
        """The server sends, the client reads: its tickets (TLS 1.3) come before."""
        self.server.write(data)
        self._ends[0].write(self._ends[3].read())
        assert self.client.read(len(data)) == data
        return self

    def remember(self) -> Pair:
        self.plan.remember(self.peer, self.client.session)
        return self

    def _step(self, end: ssl.SSLObject, out: int, to: int) -> bool:
        try:
            end.do_handshake()
            return True
        except ssl.SSLWantReadError:
            return False
        finally:
            self._ends[to].write(self._ends[out].read())
