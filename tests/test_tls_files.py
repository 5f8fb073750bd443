"""Keys, certificates and lists from files: read once, and every mistake told with the file's name."""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from certificates import (
    HOST,
    Certificates,
    Pair,
    matrix,  # noqa: F401 - the fixture `certificates`
)
from conftest import need
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from landline import SocketCreateError
from landline.address import parse_host
from landline.tls.abstract import create_ssl_client_context, create_ssl_server_context
from landline.tls.plan import TlsPlan, client_plan, server_plan

pytestmark = pytest.mark.usefixtures("no_leaks")


def to_good(ssl_ctx: object) -> TlsPlan:
    plan = client_plan(ssl_ctx, parse_host(HOST))
    assert plan is not None
    return plan


def serving(ssl_ctx: object) -> TlsPlan:
    plan = server_plan(ssl_ctx)
    assert plan is not None
    return plan


def trusting(certificates: Certificates) -> TlsPlan:
    return to_good(create_ssl_client_context(openssl_trusted_file=certificates.trusted_file))


# ---- good files ----------------------------------------------------------------------------------


def test_one_file_or_two_by_either_keyword(certificates: Certificates) -> None:
    good = certificates["good"]
    for files in (
        {"cert_file": good.cert_file, "key_file": good.key_file},
        {"cert_file": Path(good.cert_file), "key_file": Path(good.key_file)},
        {"cert_file": good.both_file},
        {"key_file": good.both_file},
    ):
        server = create_ssl_server_context(**files)
        assert Pair(trusting(certificates), serving(server)).shake().client.getpeercert(True) == good.der


def test_encrypted_keys(certificates: Certificates) -> None:
    good = certificates["good"]
    key = good.locked_file("opensesame")
    asked: list[str] = []

    def password(file: str) -> str:
        asked.append(file)
        return "opensesame"

    for unlock in ({"password": "opensesame"}, {"password": b"opensesame"}, {"password_callback": password}):
        server = create_ssl_server_context(cert_file=good.cert_file, key_file=key, **unlock)
        Pair(trusting(certificates), serving(server)).shake()
    assert asked == [key]
    # For a key that needs none the password is not asked for.
    create_ssl_server_context(cert_file=good.both_file, password_callback=password).ssl_context()
    assert asked == [key]


def test_files_are_read_at_the_first_use_and_again_after_reset(certificates: Certificates, tmp_path: Path) -> None:
    """A renewed certificate, by the same context; what has begun goes on with the old one."""
    file = tmp_path / "server.pem"
    server = create_ssl_server_context(cert_file=file)
    with pytest.raises(FileNotFoundError):
        server.ssl_context()
    file.write_bytes(Path(certificates["good"].both_file).read_bytes())
    first = server.ssl_context()
    file.write_bytes(Path(certificates["second"].both_file).read_bytes())
    before = serving(server)
    assert server.ssl_context() is first
    server.reset()
    after = serving(server)
    client = trusting(certificates)
    assert Pair(client, before).shake().client.getpeercert(True) == certificates["good"].der
    assert Pair(client, after).shake().client.getpeercert(True) == certificates["second"].der
    file.unlink()
    assert server.ssl_context() is after.context
    server.reset()
    with pytest.raises(FileNotFoundError):
        server.ssl_context()


def test_threads_share_one_reading(certificates: Certificates) -> None:
    built: list[ssl.SSLContext] = []
    context = create_ssl_client_context(
        openssl_trusted_file=certificates.trusted_file, openssl_ctx_configure_callback=built.append
    )
    start, got = threading.Barrier(8), []

    def use() -> None:
        start.wait(10)
        got.append(context.ssl_context())

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert got == built * 8
    assert len(built) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_read_once(certificates: Certificates, tmp_path: Path) -> None:
    """`--key <(decrypt key)`: a second reading would wait forever."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(certificates["good"].key_pem(),))
    writer.start()
    create_ssl_server_context(cert_file=certificates["good"].cert_file, key_file=pipe).ssl_context()
    writer.join(10)


# ---- bad files -----------------------------------------------------------------------------------


@pytest.fixture
def bad(certificates: Certificates, tmp_path: Path) -> Callable[[str], str]:
    """Files by what is wrong with them."""
    good = certificates["good"]

    def make(what: str) -> str:
        path = tmp_path / what.replace(" ", "_")
        contents = {
            "empty": b" \n",
            "prose": b"Dear Sir or Madam,",
            "DER certificate": good.der,
            "DER key": good.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
            "broken certificate": b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "broken key": b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n",
            "broken list": b"-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n",
        }
        if what == "directory":
            path.mkdir()
        elif what in contents:
            path.write_bytes(contents[what])
        else:
            assert what == "missing"
        return str(path)

    return make


CERTIFICATE_WRONG = {
    "missing": "it cannot be read: No such file or directory",
    "directory": "it cannot be read: Is a directory",
    "empty": "it is empty",
    "prose": "there is no certificate in it",
    "DER certificate": "it is DER, not PEM; convert it: openssl x509 -inform der -in ",
    "broken certificate": "OpenSSL cannot use it",
}
KEY_WRONG = {
    "missing": "it cannot be read: No such file or directory",
    "directory": "it cannot be read: Is a directory",
    "empty": "it is empty",
    "prose": "there is no key in it",
    "DER key": "it is DER, not PEM; convert it: openssl pkey -inform der -in ",
    "broken key": "OpenSSL cannot use it",
}
LIST_WRONG = {
    "missing": "it cannot be read: No such file or directory",
    "empty": "it is empty",
    "prose": "there is no revocation list in it",
    "broken list": "OpenSSL cannot use it",
}
DH_WRONG = {
    "missing": "it cannot be read: No such file or directory",
    "empty": "it is empty",
    "prose": "there is no DH parameters in it",
}


@pytest.mark.parametrize(
    ("keyword", "what", "says"),
    [
        (keyword, what, says)
        for keyword, wrongs in (
            ("cert_file", CERTIFICATE_WRONG),
            ("key_file", KEY_WRONG),
            ("openssl_trusted_file", CERTIFICATE_WRONG),
            ("crl_file", LIST_WRONG),
            ("dh_file", DH_WRONG),
        )
        for what, says in wrongs.items()
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(
    keyword: str, what: str, says: str, bad: Callable[[str], str], certificates: Certificates
) -> None:
    good = certificates["good"]
    path = bad(what)
    more: dict[str, Any] = {"cert_file": good.cert_file, "key_file": good.key_file, keyword: path}
    context = create_ssl_server_context(**more)
    for _ in range(2):  # a failure is not remembered
        with pytest.raises(SocketCreateError) as caught:
            context.ssl_context()
        condition = caught.value
        message = str(condition)
        assert path in message
        assert says in message
        if "broken" not in what:
            assert message.startswith(f"{keyword}={path!r}: ")
        if what == "missing":
            assert isinstance(condition, FileNotFoundError)
            assert condition.errno == 2
        elif what == "directory":
            assert isinstance(condition, (IsADirectoryError, ValueError))
        else:
            assert isinstance(condition, ValueError)
        assert condition.operation == "tls"


def test_a_directory_cannot_be_the_trusted_file(tmp_path: Path) -> None:
    with pytest.raises(SocketCreateError, match=r"^openssl_trusted_file="):
        create_ssl_client_context(openssl_trusted_file=tmp_path).ssl_context()
    with pytest.raises(FileNotFoundError, match=r"^openssl_trusted_directory="):
        create_ssl_client_context(openssl_trusted_directory=tmp_path / "missing").ssl_context()


def test_an_encrypted_key_without_password_is_an_error_and_no_prompt(certificates: Certificates) -> None:
    good = certificates["good"]
    key = good.locked_file("opensesame")
    context = create_ssl_server_context(cert_file=good.cert_file, key_file=key)
    with pytest.raises(SocketCreateError, match="its key is encrypted: give password= or password_callback=") as caught:
        context.ssl_context()
    assert str(caught.value).startswith(f"key_file={key!r}: ")


def test_a_wrong_password(certificates: Certificates) -> None:
    good = certificates["good"]
    key = good.locked_file("opensesame")
    for unlock in ({"password": "sesame"}, {"password_callback": lambda file: "sesame"}, {"password": ""}):
        context = create_ssl_server_context(cert_file=good.cert_file, key_file=key, **unlock)
        with pytest.raises(SocketCreateError, match=f"^key_file={key!r}: the password does not open its key"):
            context.ssl_context()


def test_a_password_callback_that_raises_is_heard(certificates: Certificates) -> None:
    good = certificates["good"]

    def fail(file: str) -> str:
        raise LookupError("no keyring")

    context = create_ssl_server_context(
        cert_file=good.cert_file, key_file=good.locked_file("opensesame"), password_callback=fail
    )
    with pytest.raises(LookupError, match="no keyring"):
        context.ssl_context()


def test_key_and_certificate_of_different_pairs(certificates: Certificates) -> None:
    good, other = certificates["good"], certificates["second"]
    context = create_ssl_server_context(cert_file=good.cert_file, key_file=other.key_file)
    with pytest.raises(SocketCreateError, match="its key does not belong to the certificate in") as caught:
        context.ssl_context()
    assert str(caught.value).startswith(f"key_file={other.key_file!r}: ")


def test_a_certificate_without_its_key(certificates: Certificates) -> None:
    file = certificates["good"].cert_file
    with pytest.raises(SocketCreateError, match=f"^cert_file={file!r}: there is no key in it"):
        create_ssl_client_context(cert_file=file).ssl_context()
    key = certificates["good"].key_file
    with pytest.raises(SocketCreateError, match=f"^key_file={key!r}: there is no certificate in it"):
        create_ssl_client_context(key_file=key).ssl_context()


def test_a_key_too_weak_is_told(certificates: Certificates) -> None:
    """OpenSSL's security level; which one is in force is the system's choice."""
    context = create_ssl_server_context(cert_file=certificates["weak key"].both_file)
    if ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).security_level < 2:
        context.ssl_context()
        return
    with pytest.raises(SocketCreateError, match="ee key too small"):
        context.ssl_context()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_one_may_not_read(certificates: Certificates, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(certificates["good"].key_pem())
    file.chmod(0)
    with pytest.raises(PermissionError, match=r"^key_file="):
        create_ssl_server_context(cert_file=certificates["good"].cert_file, key_file=file).ssl_context()


# ---- who is trusted ------------------------------------------------------------------------------


def test_a_directory_of_trusted_authorities(certificates: Certificates, tmp_path: Path) -> None:
    with pytest.raises(SocketCreateError, match=f"^openssl_trusted_directory='{tmp_path}': .*openssl rehash"):
        create_ssl_client_context(openssl_trusted_directory=tmp_path).ssl_context()
    (tmp_path / "root.pem").write_bytes(certificates.root.pem)
    subprocess.run([need("openssl"), "rehash", str(tmp_path)], check=True)
    context = create_ssl_client_context(openssl_trusted_directory=tmp_path)
    Pair(to_good(context), certificates["good"].server()).shake()


def test_default_stands_for_the_systems_file_or_directory(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificates.trusted_file)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    other = certificates.write("other.pem", certificates.middle.pem)
    for directory in (None, "default"):
        if directory is None:
            context = create_ssl_client_context(openssl_trusted_file="default")
            assert context.ssl_context().cert_store_stats()["x509"] == 1
        else:
            context = create_ssl_client_context(openssl_trusted_file="default", openssl_trusted_directory=directory)
        Pair(to_good(context), certificates["good"].server()).shake()
    with pytest.raises(SocketCreateError, match="no default directory of trusted roots"):
        create_ssl_client_context(openssl_trusted_file=other, openssl_trusted_directory="default").ssl_context()


def test_dh_parameters(certificates: Certificates) -> None:
    """The 2048-bit group of RFC 7919 A.1, for TLS 1.2."""
    number = b"\x02\x82\x01\x01\x00" + bytes.fromhex(FFDHE2048) + b"\x02\x01\x02"
    der = b"\x30\x82" + len(number).to_bytes(2, "big") + number
    body = base64.encodebytes(der).decode()
    pem = f"-----BEGIN DH PARAMETERS-----\n{body}-----END DH PARAMETERS-----\n"
    file = certificates.write("dh.pem", pem.encode())
    server = create_ssl_server_context(
        cert_file=certificates["good"].both_file, dh_file=file, ciphers="DHE+AESGCM:@SECLEVEL=1"
    )
    assert server.ssl_context().minimum_version == ssl.TLSVersion.TLSv1_2


FFDHE2048 = (
    "FFFFFFFFFFFFFFFF ADF85458A2BB4A9A AFDC5620273D3CF1 D8B9C583CE2D3695 A9E13641146433FB CC939DCE249B3EF9"
    "7D2FE363630C75D8 F681B202AEC4617A D3DF1ED5D5FD6561 2433F51F5F066ED0 856365553DED1AF3 B557135E7F57C935"
    "984F0C70E0E68B77 E2A689DAF3EFE872 1DF158A136ADE735 30ACCA4F483A797A BC0AB182B324FB61 D108A94BB2C8E3FB"
    "B96ADAB760D7F468 1D4F42A3DE394DF4 AE56EDE76372BB19 0B07A7C8EE0A6D70 9E02FCE1CDF7E2EC C03404CD28342F61"
    "9172FE9CE98583FF 8E4F1232EEF28183 C3FE3B1B4C6FAD73 3BB5FCBC2EC22005 C58EF1837D1683B2 C6F34A26C1B2EFFA"
    "886B423861285C97 FFFFFFFFFFFFFFFF"
)
