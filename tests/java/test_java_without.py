"""TLS through Java as far as it goes without a JVM: the switch, wrong arguments, what is missing, what Java says."""

from __future__ import annotations

import os
import ssl
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from certificates import Authority

from landline import (
    SocketCreateError,
    open_tcp_stream,
    open_tcp_stream_using_java,
    switch_open_tcp_stream_with_ssl_to_java,
)
from landline.java import bridge, stores
from landline.java.context import JavaContext, NameCheck
from landline.java.failures import as_ssl_error, verify_code
from landline.java.open import _changes
from landline.sync import open as front_door
from landline.testing.contract.stage import Task

# ---- the switch ------------------------------------------------------------------------------------------


def is_on() -> bool:
    return front_door.tls_elsewhere is not None


@pytest.fixture(autouse=True)
def _off() -> Any:
    yield
    _changes.clear()
    front_door.tls_elsewhere = None


def test_the_switch_stays_as_it_was_put() -> None:
    assert not is_on()
    switch_open_tcp_stream_with_ssl_to_java()
    assert is_on()
    switch_open_tcp_stream_with_ssl_to_java(False)
    assert not is_on()


def test_at_the_end_of_a_block_it_is_as_before() -> None:
    with switch_open_tcp_stream_with_ssl_to_java():
        assert is_on()
        with switch_open_tcp_stream_with_ssl_to_java(False):
            assert not is_on()
        assert is_on()
    assert not is_on()
    switch_open_tcp_stream_with_ssl_to_java()
    with switch_open_tcp_stream_with_ssl_to_java(False):
        assert not is_on()
    assert is_on()


def test_blocks_may_end_in_any_order() -> None:
    first, second = switch_open_tcp_stream_with_ssl_to_java(), switch_open_tcp_stream_with_ssl_to_java()
    with first:
        second.__enter__()
    assert is_on()
    second.__exit__(None, None, None)
    assert not is_on()


def test_put_within_a_block_it_stays_after_it() -> None:
    with switch_open_tcp_stream_with_ssl_to_java():
        switch_open_tcp_stream_with_ssl_to_java(False)
        assert not is_on()
    assert not is_on()


def test_a_switch_is_good_for_one_block() -> None:
    switch = switch_open_tcp_stream_with_ssl_to_java()
    with switch, pytest.raises(RuntimeError, match="make a new one"):
        switch.__enter__()


def test_switching_in_many_threads_ends_where_it_began() -> None:
    gate = threading.Barrier(8)

    def switch() -> None:
        gate.wait(10)
        for number in range(200):
            with switch_open_tcp_stream_with_ssl_to_java(number % 2 == 0):
                pass

    for task in [Task(switch) for _ in range(8)]:
        task.result()
    assert not is_on()


def test_switching_often_keeps_nothing() -> None:
    for number in range(100):
        switch_open_tcp_stream_with_ssl_to_java(number % 2 == 0)
    assert len(_changes) <= 2


def test_without_ssl_ctx_nothing_is_javas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jpype", None)
    with switch_open_tcp_stream_with_ssl_to_java(), pytest.raises(ConnectionRefusedError):
        open_tcp_stream("127.0.0.1", 1)


# ---- what is missing -------------------------------------------------------------------------------------


@pytest.fixture(name="no_bridge")
def no_bridge_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not used Java."""
    monkeypatch.setattr(bridge, "_bridge", None)
    for name in ("jnius", "jpype", "jpype.nio"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("no_bridge")
def test_without_jpype_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jpype", None)
    with pytest.raises(SocketCreateError, match=r"pip install 'landline\[java\]'") as caught:
        open_tcp_stream_using_java("127.0.0.1", 1)
    assert isinstance(caught.value.__cause__, ImportError)
    stream, error = open_tcp_stream_using_java("127.0.0.1", 1, errorp=False)
    assert stream is None
    assert "jpype1" in str(error)
    with switch_open_tcp_stream_with_ssl_to_java(), pytest.raises(SocketCreateError, match="jpype1"):
        open_tcp_stream("127.0.0.1", 1, ssl_ctx=True)


class NoJvm(ValueError):
    pass


@pytest.mark.usefixtures("no_bridge")
@pytest.mark.parametrize(
    ("error", "says"),
    [(NoJvm("none"), "apt install default-jre-headless"), (OSError("broken"), "does not start: broken")],
)
def test_without_a_jvm_too(error: Exception, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object, **__: object) -> str:
        raise error

    jpype: Any = ModuleType("jpype")
    jpype.nio = ModuleType("jpype.nio")
    jpype.isJVMStarted = lambda: False
    jpype.getDefaultJVMPath = jpype.startJVM = fail
    jpype.JVMNotFoundException = NoJvm
    jpype.JVMNotSupportedException = KeyError
    monkeypatch.setitem(sys.modules, "jpype", jpype)
    monkeypatch.setitem(sys.modules, "jpype.nio", jpype.nio)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(SocketCreateError, match=says) as caught:
        open_tcp_stream_using_java("127.0.0.1", 1)
    assert caught.value.operation == "start Java"


def test_the_jvm_is_that_of_java_home_or_else_of_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def runtime(name: str) -> Path:
        home = tmp_path / name
        (home / bridge.LIBRARY).parent.mkdir(parents=True)
        (home / bridge.LIBRARY).write_bytes(b"")
        (home / "bin").mkdir(exist_ok=True)
        (home / "bin" / "java").write_text("#!/bin/sh\n")
        (home / "bin" / "java").chmod(0o755)
        return home

    one, other = runtime("one"), runtime("other")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "java").symlink_to(other / "bin" / "java")
    monkeypatch.setenv("PATH", str(tmp_path / "links"))
    monkeypatch.setenv("JAVA_HOME", str(one))
    assert bridge._library() == str(one / bridge.LIBRARY)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    assert bridge._library() == str(other / bridge.LIBRARY)
    monkeypatch.delenv("JAVA_HOME")
    assert bridge._library() == str(other / bridge.LIBRARY)
    monkeypatch.setenv("PATH", os.devnull)
    assert bridge._library() is None


# ---- wrong arguments -------------------------------------------------------------------------------------


class Java:
    """Something that has a method of Java's."""

    def verify(self) -> None: ...

    def createSSLEngine(self) -> None: ...


@pytest.mark.parametrize(
    ("more", "error", "says"),
    [
        ({"verify": None}, TypeError, "verify=None is not allowed: it must be True, False, 'strict'"),
        ({"verify": 1}, TypeError, "verify=1 is not allowed"),
        ({"verify": "no name"}, ValueError, "verify='no name' is not allowed"),
        ({"factory": object()}, TypeError, "factory=.* is not allowed: it must be an SSLContext or SSLSocketFactory"),
        ({"factory": Java(), "trust_store": "x"}, ValueError, "not allowed with a factory"),
        ({"factory": Java(), "key_store_password": "x"}, ValueError, "not allowed with a factory"),
        ({"ssl_ctx": None}, TypeError, "ssl_ctx=None is not allowed where TLS goes through Java"),
        ({"ssl_ctx": "tls-v1"}, ValueError, "TLS 1.0 is obsolete"),
        ({"alpn": "h2"}, TypeError, "alpn='h2' is not allowed: it must be a list"),
        ({"alpn": [b"h2"]}, TypeError, "it must be a list of protocol names"),
        ({"alpn": [""]}, ValueError, "has 1 to 255 bytes"),
        ({"ctx_configure_callback": id}, ValueError, "ctx_configure_callback is not allowed where TLS goes through"),
        ({"ssl_configure_callback": 1}, TypeError, "it must be a function"),
        ({"unheard_of": 1}, TypeError, "unheard_of"),
        ({"timeout": -1}, ValueError, "timeout"),
    ],
)
def test_wrong_arguments_are_told_at_once(more: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        open_tcp_stream_using_java("127.0.0.1", 1, errorp=False, **more)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ((None, "x"), ValueError, "key_store_password is not allowed without key_store"),
        ((None, None, None, "x"), ValueError, "trust_store_password is not allowed without trust_store"),
        ((7,), TypeError, "key_store=7 is not allowed: it must be a path or a java.security.KeyStore"),
        (("x", b"secret"), TypeError, "key_store_password is not allowed: it must be a string"),
    ],
)
def test_stores_that_cannot_be_meant(
    given: Any, error: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "bridge", lambda: None)
    with pytest.raises(error, match=says):
        stores.context_of(*given)


def test_verify_is_read_once() -> None:
    assert NameCheck.parse(True) == NameCheck.parse("strict") == NameCheck("https")
    assert NameCheck.parse(False) == NameCheck("none")
    assert NameCheck.parse("faß.example.").name == "xn--fa-hia.example"
    assert NameCheck.parse("fe80::1%lo").name == "fe80::1"
    verifier = Java()
    assert NameCheck.parse(verifier) == NameCheck("verifier", verifier=verifier)


@pytest.mark.parametrize("what", ["ctx_configure_callback", "ssl_configure_callback"])
def test_callbacks_for_openssl_have_nothing_to_configure(what: str) -> None:
    def never() -> Any:
        raise AssertionError

    from landline.address import parse_host

    with pytest.raises(ValueError, match=f"{what} is not allowed where TLS goes through Java"):
        JavaContext(never).client_plan(parse_host("peer.example"), **{what: id})  # type: ignore[arg-type]


# ---- what Java says --------------------------------------------------------------------------------------

HANDSHAKE = "javax.net.ssl.SSLHandshakeException"


@pytest.mark.parametrize(
    ("causes", "kind", "says", "reason"),
    [
        ([(HANDSHAKE, "Received fatal alert: handshake_failure")], ssl.SSLError, "tlsv1 alert handshake failure", None),
        ([(HANDSHAKE, "(unknown_ca) Received fatal alert: unknown_ca")], ssl.SSLError, "tlsv1 alert unknown ca", None),
        ([(HANDSHAKE, "Received close_notify during handshake")], ssl.SSLZeroReturnError, "close_notify", None),
        (
            [(HANDSHAKE, "The server selected protocol version TLS11 is not accepted by client preferences [TLS13]")],
            ssl.SSLError, "Java says: The server selected", "UNSUPPORTED_PROTOCOL",
        ),
        (
            [(HANDSHAKE, "No appropriate protocol (protocol is disabled or cipher suites are inappropriate)")],
            ssl.SSLError, "Java says: No appropriate", "NO_PROTOCOLS_AVAILABLE",
        ),
        ([("java.lang.NullPointerException", "")], ssl.SSLError, "Java says: java.lang.NullPointerException", None),
    ],
)  # fmt: skip
def test_javas_words_become_openssls_errors(
    causes: Any, kind: type[ssl.SSLError], says: str, reason: str | None
) -> None:
    error = as_ssl_error(causes, (), False)
    assert type(error) is kind
    assert says in str(error)
    assert getattr(error, "reason", None) == reason


VALIDATION = ("sun.security.validator.ValidatorException", "PKIX path validation failed: ...")
BUILDING = ("sun.security.provider.certpath.SunCertPathBuilderException",
            "unable to find valid certification path to requested target")  # fmt: skip


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (("java.security.cert.CertificateExpiredException", "NotAfter: ..."), 10),
        (("java.security.cert.CertificateNotYetValidException", "NotBefore: ..."), 9),
        (("java.security.cert.CertificateRevokedException", "Certificate has been revoked"), 23),
        (("java.security.cert.CertPathValidatorException", "Algorithm constraints check failed on keysize limits"), 66),
        (("java.security.cert.CertPathValidatorException", "Algorithm constraints check failed on MD5"), 68),
        (("java.security.cert.CertPathValidatorException", "something quite new"), 1),
        (("java.security.cert.CertificateException", "No subject alternative names matching IP address ::1 found"), 64),
        (("java.security.cert.CertificateException", "No subject alternative DNS name matching x found."), 62),
    ],
)
def test_javas_refusals_have_openssls_codes(cause: tuple[str, str], code: int) -> None:
    causes = [(HANDSHAKE, "(certificate_unknown) PKIX path validation failed"), VALIDATION, cause]
    error = as_ssl_error(causes, (), False)
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert (error.verify_code, error.verify_message) == (code, cause[1])


def test_where_a_chain_ends_is_read_from_it() -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    root = Authority("Root")
    leaf, _ = root.issue("peer.example")
    own, _ = Authority("peer.example").issue("peer.example", own=True)
    der = [each.public_bytes(Encoding.DER) for each in (leaf, root.certificate, own)]
    causes = [(HANDSHAKE, ""), BUILDING]
    assert verify_code(causes, der[2:]) == 18
    assert verify_code(causes, der[:2]) == 19
    assert verify_code(causes, der[:1]) == 20
    assert verify_code(causes, ()) == 20
    assert verify_code(causes, [b"no certificate"]) == 1
