"""comm's abstract contexts, and what there is to say of the TLS library itself.

Source: LispWorks manual, create-ssl-client-context, create-ssl-server-context, ssl-abstract-context,
reset-ssl-abstract-context, ensure-ssl, ssl-default-implementation; 25.8.1.
"""

from __future__ import annotations

import inspect
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from certificates import (
    Certificates,
    matrix,  # noqa: F401 - the fixture `certificates`
)
from test_comm_contexts import EACH_SIDE, client_of, shaken

from landline import comm
from landline.tls.names import NOT_GIVEN

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

CREATE: dict[str, Callable[..., comm.ssl_abstract_context]] = {
    "client": comm.create_ssl_client_context,
    "server": comm.create_ssl_server_context,
}

COMMON = [
    "key_file", "cert_file", "password_callback", "password", "protocol_version", "implementation",
    "openssl_ctx_configure_callback", "openssl_ssl_configure_callback", "apple_configure_callback", "verify_callback",
    "openssl_trusted_file", "openssl_trusted_directory", "apple_use_system_trusted", "apple_add_trusted_file",
    "apple_trust_callback", "keychain", "keychain_password", "keychain_reset", "name",
]  # fmt: skip
OF_ONE_SIDE = {
    "client": ["cert_request_callback", "tlsext_host_name"],
    "server": ["dh_file", "client_hello_callback"],
}
APPLES = [name for name in COMMON if name.startswith(("apple", "keychain"))]


@EACH_SIDE
def test_the_keywords_are_the_manuals(side: str) -> None:
    parameters = inspect.signature(CREATE[side]).parameters
    assert list(parameters) == COMMON + OF_ONE_SIDE[side]
    different = {name: each.default for name, each in parameters.items() if each.default is not None}
    assert different == {"protocol_version": True, **({"tlsext_host_name": NOT_GIVEN} if side == "client" else {})}


@EACH_SIDE
@pytest.mark.parametrize("name", APPLES)
def test_what_is_apples_has_no_meaning(side: str, name: str) -> None:
    with pytest.raises(comm.HasNoMeaning, match=f"{name} has no meaning here"):
        CREATE[side](**{name: "anything"})


@pytest.mark.parametrize(("side", "name"), [("client", "cert_request_callback"), ("server", "client_hello_callback")])
def test_callbacks_that_python_does_not_have_have_no_meaning(side: str, name: str) -> None:
    with pytest.raises(comm.HasNoMeaning, match=f"{name} has no meaning here"):
        CREATE[side](**{name: print})


@EACH_SIDE
def test_a_context_has_the_name_it_was_given(side: str, certificates: Certificates) -> None:
    files = {"cert_file": certificates["good"].both_file} if side == "server" else {}
    name = object()
    context = CREATE[side](name=name, implementation=":OPENSSL", protocol_version=":TLS_V1_3", **files)
    assert isinstance(context, comm.ssl_abstract_context)
    assert comm.ssl_abstract_context_name(context) is name
    assert comm.ssl_abstract_context_name(CREATE[side](**files)) is None
    for wrong in (None, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "name"):
        for call in (comm.ssl_abstract_context_name, comm.reset_ssl_abstract_context):
            with pytest.raises(TypeError, match="context="):
                call(wrong)  # type: ignore[arg-type]


@EACH_SIDE
@pytest.mark.parametrize(
    "wrong",
    [
        {"implementation": "apple"},
        {"implementation": "java"},
        {"implementation": "other"},
        {"implementation": 5},
        {"protocol_version": "v3"},
        {"protocol_version": None},
        {"verify_callback": "always"},
        {"verify_callback": 5},
        {"password": "x", "password_callback": str},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_wrong_argument_is_refused(side: str, wrong: dict[str, Any], certificates: Certificates) -> None:
    files = {"cert_file": certificates["good"].both_file} if side == "server" else {}
    with pytest.raises((TypeError, ValueError)):
        CREATE[side](**files, **wrong)


def test_a_client_context_is_as_described(certificates: Certificates) -> None:
    order: list[object] = []
    seen: list[object] = []
    ann = certificates["client"]
    theirs = certificates["good"].server()
    theirs.load_verify_locations(certificates.trusted_file)
    theirs.verify_mode = ssl.CERT_REQUIRED

    def verify(stream: comm.SocketStream) -> bool:
        seen.append(comm.ssl_connection_verify(stream))
        return len(seen) == 1

    ours = comm.create_ssl_client_context(
        cert_file=ann.cert_file,
        key_file=ann.locked_file("secret"),
        password="secret",
        openssl_trusted_file=certificates.trusted_file,
        openssl_ctx_configure_callback=order.append,
        openssl_ssl_configure_callback=order.append,
        verify_callback=verify,
    )
    assert order == []  # no file is read yet
    with shaken(ours, theirs, "client") as (stream, secured):
        assert order == [comm.socket_stream_ctx(stream), comm.socket_stream_ssl(stream)]
        assert secured.getpeercert(binary_form=True) == ann.der
    with pytest.raises(comm.ssl_verification_failure) as caught, shaken(ours, theirs, "client"):
        pass
    assert comm.ssl_condition_ssl_code(caught.value) == "verify-callback"
    assert seen == [(True, None)] * 2


def test_a_server_context_is_as_described(certificates: Certificates) -> None:
    good = certificates["good"]
    keys: list[str] = []

    def password(file: str) -> str:
        keys.append(file)
        return "secret"

    ours = comm.create_ssl_server_context(
        cert_file=good.cert_file,
        key_file=good.locked_file("secret"),
        password_callback=password,
        verify_callback=":TRY",  # type: ignore[arg-type]
        openssl_trusted_file=certificates.trusted_file,
    )
    for identity in (None, "client"):
        with shaken(ours, client_of(certificates, identity), "server") as (stream, secured):
            assert secured.getpeercert(binary_form=True) == good.der
            assert comm.ssl_connection_verify(stream)[0] is bool(identity)
    assert keys == [good.locked_file("secret")]
    with (
        pytest.raises(comm.ssl_verification_failure),
        shaken(ours, client_of(certificates, "issued by no authority"), "server"),
    ):
        pass


def test_default_stands_for_the_systems_trust(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificates.trusted_file)
    monkeypatch.setenv("SSL_CERT_DIR", str(certificates.folder / "none"))
    for trust in ({}, {"openssl_trusted_file": "default"}, {"openssl_trusted_file": ":DEFAULT"}):
        with shaken(CREATE["client"](**trust), certificates["good"].server(), "client") as (stream, _secured):
            assert comm.ssl_connection_verify(stream) == (True, None)


def test_files_are_read_once_and_again_after_a_reset(certificates: Certificates, tmp_path: Path) -> None:
    file = tmp_path / "both.pem"
    ours = comm.create_ssl_server_context(cert_file=file)
    for step, (written, shown) in enumerate((("good", "good"), ("second", "good"), ("second", "second"))):
        file.write_bytes(Path(certificates[written].both_file).read_bytes())
        if step == 2:
            comm.reset_ssl_abstract_context(ours)
        with shaken(ours, client_of(certificates), "server") as (_stream, secured):
            assert secured.getpeercert(binary_form=True) == certificates[shown].der


# ---- the library ---------------------------------------------------------------------------------------------


def test_ensure_ssl_loads_the_library_that_python_has() -> None:
    for arguments in ({}, {"already_done": True}, {"implementation": "openssl"}, {"implementation": None}):
        comm.ensure_ssl(**arguments)
    assert "ssl" in sys.modules
    with pytest.raises(comm.HasNoMeaning, match="library_path"):
        comm.ensure_ssl(library_path="/usr/lib/libssl.so")
    with pytest.raises(ValueError, match="must be 'openssl'"):
        comm.ensure_ssl(implementation="apple")
    assert comm.openssl_version() == ssl.OPENSSL_VERSION


def test_the_default_implementation_is_openssl(monkeypatch: pytest.MonkeyPatch) -> None:
    assert comm.ssl_default_implementation() == "openssl"
    assert comm.set_ssl_default_implementation(":openssl") == "openssl"
    for other in ("apple", "java"):
        with pytest.raises(ValueError, match="must be 'openssl'"):
            comm.set_ssl_default_implementation(other)
    assert comm.ssl_default_implementation() == "openssl"
    assert comm.ssl_implementation_available_p(":OPENSSL") is True
    assert comm.ssl_implementation_available_p("apple") is False
    from landline.comm import contexts

    for found in (None, object()):
        monkeypatch.setattr(contexts, "find_spec", lambda name, found=found: found if name == "jpype" else object())
        assert comm.ssl_implementation_available_p("java") is (found is not None)
    with pytest.raises(ValueError, match="implementation='other'"):
        comm.ssl_implementation_available_p("other")
