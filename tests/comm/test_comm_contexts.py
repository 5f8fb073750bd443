"""comm's TLS contexts: made, told whom to verify, given options, keys and parameters; seen in real handshakes.

Source: LispWorks manual, make-ssl-ctx, set-verification-mode, set-ssl-ctx-options, set-ssl-ctx-password-callback,
set-ssl-ctx-dh, read-dhparams, create-ssl-client-context and their neighbours.
"""

from __future__ import annotations

import base64
import inspect
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from certificates import (
    HOST,
    Certificates,
    matrix,  # noqa: F401 - the fixture `certificates`
    pem,
)
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from pairs import connect
from test_tls_files import FFDHE2048

from landline import comm
from landline.testing.contract.stage import PATIENCE, Task

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

mode_of: Any = comm.set_verification_mode
making: Any = comm.make_ssl_ctx
"""They, for arguments that a type checker would refuse."""

EACH_SIDE = pytest.mark.parametrize("side", ["client", "server"])


def client_of(certificates: Certificates, identity: str | None = None) -> ssl.SSLContext:
    """The standard library's, which trusts the matrix; TLS 1.2, where a client hears of a refusal in the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(certificates.trusted_file)
    if identity is not None:
        context.load_cert_chain(certificates[identity].cert_file, certificates[identity].key_file)
    return context


@contextmanager
def shaken(ours: Any, theirs: ssl.SSLContext, side: str) -> Iterator[tuple[comm.SocketStream, ssl.SSLSocket]]:
    """A stream of ``side`` and the standard library's at the other end, after their handshake."""
    handle, far = connect()
    far.settimeout(PATIENCE)

    def shake() -> ssl.SSLSocket:
        try:
            return theirs.wrap_socket(
                far, server_side=side == "client", server_hostname=None if side == "client" else HOST
            )
        except BaseException:
            far.close()
            raise

    shaking: Task[ssl.SSLSocket] = Task(shake)
    try:
        made: Any = comm.create_ssl_socket_stream(handle, ours, errorp=True, ssl_side=side, tlsext_host_name=HOST)
    except BaseException:
        with suppress(OSError):
            shaking.result().close()  # a verify_callback refuses behind the handshake
        raise
    with made as stream, shaking.result() as secured:
        yield stream, secured


# ---- make-ssl-ctx --------------------------------------------------------------------------------------------


def test_make_ssl_ctx_has_the_manuals_defaults() -> None:
    parameters = inspect.signature(comm.make_ssl_ctx).parameters
    assert {name: each.default for name, each in parameters.items()} == {"ssl_ctx": True, "ssl_side": "server"}
    assert comm.make_ssl_ctx().protocol == ssl.PROTOCOL_TLS_SERVER
    assert comm.make_ssl_ctx() is not comm.make_ssl_ctx()


@EACH_SIDE
@pytest.mark.parametrize(
    ("symbol", "lowest"), [(True, 2), ("default", 2), (":V23", 2), ("tls-v1-2", 2), ("tls_v1_3", 3), (":tls-v1-3", 3)]
)
def test_a_symbol_makes_a_context_of_its_lowest_version(side: str, symbol: Any, lowest: int) -> None:
    context = making(ssl_ctx=symbol, ssl_side=side)
    assert isinstance(context, comm.ssl_ctx_pointer)
    assert context.protocol == (ssl.PROTOCOL_TLS_CLIENT if side == "client" else ssl.PROTOCOL_TLS_SERVER)
    assert context.minimum_version == ssl.TLSVersion[f"TLSv1_{lowest}"]
    assert comm.get_verification_mode(context) == (["verify-peer", "fail-if-no-peer-cert"] if side == "client" else [])


def test_a_context_is_the_result_as_it_is_and_other_things_are_refused() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert comm.make_ssl_ctx(ssl_ctx=context) is context
    for dead in ("v2", "v3", "tls-v1", "tls-v1-1", "tls-v1-4"):
        with pytest.raises(ValueError, match=f"{dead}' is not allowed"):
            making(ssl_ctx=dead)
    session = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=HOST)
    for wrong in (None, False, 5, session):
        with pytest.raises(TypeError, match="is not allowed"):
            making(ssl_ctx=wrong)
    with pytest.raises(ValueError, match="ssl_side='peer'"):
        making(ssl_side="peer")
    with pytest.raises(comm.HasNoMeaning, match="ssl_side='both'"):
        making(ssl_side="both")


def test_a_made_context_serves_and_connects(certificates: Certificates) -> None:
    good = certificates["good"]
    serving = making()
    serving.load_cert_chain(good.cert_file, good.key_file)
    with shaken(serving, client_of(certificates), "server") as (stream, secured):
        assert secured.getpeercert(binary_form=True) == good.der
        assert comm.socket_stream_ctx(stream) is serving
    connecting = making(ssl_side="client")
    connecting.load_verify_locations(certificates.trusted_file)
    with shaken(connecting, good.server(), "client") as (stream, _secured):
        assert comm.ssl_connection_verify(stream) == (True, None)
        assert comm.ssl_connection_protocol_version(stream) == "tls-v1-3"


# ---- whom to verify ------------------------------------------------------------------------------------------


NEITHER: list[str] = []
ASKED = ["verify-peer"]
REQUIRED = ["verify-peer", "fail-if-no-peer-cert"]

MODES: list[tuple[Any, list[str], list[str]]] = [
    ("never", NEITHER, NEITHER),
    ("always", ASKED, REQUIRED),
    (":ONCE", ASKED, REQUIRED),
    ([], NEITHER, NEITHER),
    (["verify-peer"], ASKED, REQUIRED),
    ((":verify_peer", "fail-if-no-peer-cert"), REQUIRED, REQUIRED),
    (["verify-peer", "verify-client-once"], ASKED, REQUIRED),
    (["fail-if-no-peer-cert"], NEITHER, NEITHER),
    (0, NEITHER, NEITHER),
    (1, ASKED, REQUIRED),
    (2, NEITHER, NEITHER),
    (3, REQUIRED, REQUIRED),
    (5, ASKED, REQUIRED),
    (7, REQUIRED, REQUIRED),
]


@pytest.mark.parametrize(("mode", "server", "client"), MODES)
def test_modes_and_what_get_verification_mode_says_of_them(mode: Any, server: list[str], client: list[str]) -> None:
    serving, connecting = making(), making(ssl_side="client")
    mode_of(serving, "server", mode)
    assert comm.get_verification_mode(serving) == server
    mode_of(connecting, "client", mode)
    assert comm.get_verification_mode(connecting) == client
    assert connecting.check_hostname == bool(client)
    for context, side, told in ((serving, "server", server), (connecting, "client", client)):
        mode_of(context, side, told)
        assert comm.get_verification_mode(context) == told


def test_a_server_asks_for_certificates_as_its_mode_says(certificates: Certificates) -> None:
    good = certificates["good"]
    bad = "issued by no authority"
    lets_in: dict[str, list[str | None]] = {
        "never": [None, "client", bad],
        "always": [None, "client"],
        "required": ["client"],
    }
    for mode, welcome in lets_in.items():
        serving = making()
        serving.load_cert_chain(good.cert_file, good.key_file)
        serving.load_verify_locations(certificates.trusted_file)
        mode_of(serving, "server", REQUIRED if mode == "required" else mode)
        for identity in (None, "client", bad):
            theirs = client_of(certificates, identity)
            if identity in welcome:
                with shaken(serving, theirs, "server") as (stream, _secured):
                    shown = mode != "never" and identity is not None
                    assert bool(comm.ssl_connection_copy_peer_certificates(stream)) == shown
                    assert comm.ssl_connection_verify(stream)[0] == shown
            else:
                condition = comm.ssl_verification_failure if identity else comm.ssl_failure
                with pytest.raises(condition), shaken(serving, theirs, "server"):
                    pass


@pytest.mark.parametrize("identity", ["good", "expired", "wrong host", "self-signed"])
def test_a_client_takes_servers_as_its_mode_says(identity: str, certificates: Certificates) -> None:
    connecting = making(ssl_side="client")
    connecting.load_verify_locations(certificates.trusted_file)
    for mode in ("always", "never", "always"):
        mode_of(connecting, "client", mode)
        if mode == "never" or identity == "good":
            with shaken(connecting, certificates[identity].server(), "client") as (stream, _secured):
                assert comm.ssl_connection_verify(stream)[0] == (mode == "always")
        else:
            with (
                pytest.raises(comm.ssl_verification_failure),
                shaken(connecting, certificates[identity].server(), "client"),
            ):
                pass


@pytest.mark.parametrize("mode", ["sometimes", 8, -1, ["peer"], [1]])
def test_another_mode_is_refused(mode: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="is not allowed"):
        mode_of(making(), "server", mode)


@pytest.mark.parametrize("mode", [None, True, 1.5, {"verify-peer"}])
def test_a_mode_of_another_type_is_refused(mode: Any) -> None:
    with pytest.raises(TypeError, match="mode="):
        mode_of(making(), "server", mode)


CONTEXT_FUNCTIONS: dict[str, Callable[[Any], object]] = {
    "set_verification_mode": lambda ctx: mode_of(ctx, "server", "always"),
    "get_verification_mode": comm.get_verification_mode,
    "set_ssl_ctx_options": lambda ctx: comm.set_ssl_ctx_options(ctx, no_ticket=True),
    "set_ssl_ctx_password_callback": lambda ctx: comm.set_ssl_ctx_password_callback(ctx, password="x"),
    "set_ssl_ctx_dh": lambda ctx: comm.set_ssl_ctx_dh(ctx, filename="x"),
}


@pytest.mark.parametrize("call", CONTEXT_FUNCTIONS.values(), ids=list(CONTEXT_FUNCTIONS))
def test_a_session_has_no_settings_of_its_own(call: Callable[[Any], object]) -> None:
    session = making(ssl_side="client").wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=HOST)
    with pytest.raises(comm.HasNoMeaning, match="a session"):
        call(session)
    for wrong in (None, "default", comm.create_ssl_client_context()):
        with pytest.raises(TypeError, match="ctx="):
            call(wrong)


def test_set_verification_mode_refuses_other_sides_and_has_no_callback() -> None:
    for wrong in ("both", "peer"):
        with pytest.raises(ValueError, match="ssl_side="):
            mode_of(making(), wrong, "always")
    with pytest.raises(comm.HasNoMeaning, match="callback has no meaning"):
        mode_of(making(), "server", "always", lambda *_: True)


# ---- options -------------------------------------------------------------------------------------------------


def test_options_are_switched_on_and_off_by_name() -> None:
    context = making()
    before = context.options
    comm.set_ssl_ctx_options(context)
    assert context.options == before
    for name, option in (
        ("no_ticket", ssl.OP_NO_TICKET),
        ("no_compression", ssl.OP_NO_COMPRESSION),
        ("cipher_server_preference", ssl.OP_CIPHER_SERVER_PREFERENCE),
        ("all", ssl.OP_ALL),
    ):
        for wanted in (True, False, True):
            comm.set_ssl_ctx_options(context, **{name: wanted})
            assert context.options & option == (option if wanted else 0)
    comm.set_ssl_ctx_options(context, no_ticket=False, no_compression=True)
    assert not context.options & ssl.OP_NO_TICKET
    assert context.options & ssl.OP_NO_COMPRESSION


def test_an_unknown_option_changes_nothing() -> None:
    context = making()
    before = context.options
    with pytest.raises(ValueError, match=r"'no_such' is not allowed: there are .*no_ticket"):
        comm.set_ssl_ctx_options(context, no_ticket=True, no_such=True)
    assert context.options == before


def test_an_option_is_seen_by_the_peer(certificates: Certificates) -> None:
    good = certificates["good"]
    for no_ticket in (False, True):
        serving = making()
        serving.load_cert_chain(good.cert_file, good.key_file)
        comm.set_ssl_ctx_options(serving, no_ticket=no_ticket)
        with shaken(serving, client_of(certificates), "server") as (_stream, secured):
            assert secured.session is not None
            assert secured.session.has_ticket is not no_ticket


# ---- encrypted keys ------------------------------------------------------------------------------------------


def test_the_password_of_encrypted_keys_is_asked_for(certificates: Certificates) -> None:
    good = certificates["good"]
    asked: list[tuple[int, bool]] = []

    def callback(longest: int, writing: bool) -> str:
        asked.append((longest, writing))
        return "secret"

    context = making()
    comm.set_ssl_ctx_password_callback(context, callback=callback)
    context.load_cert_chain(good.cert_file, good.locked_file("secret"))
    context.load_cert_chain(certfile=good.cert_file, keyfile=good.locked_file("secret"))
    assert asked == [(1024, False)] * 2
    context.load_cert_chain(good.cert_file, good.key_file)
    context.load_cert_chain(good.both_file)
    context.load_cert_chain(good.cert_file, good.locked_file("other"), "other")
    assert len(asked) == 2
    with pytest.raises(ssl.SSLError):
        context.load_cert_chain(good.cert_file, good.locked_file("other"))
    with shaken(context, client_of(certificates), "server"):
        pass


def test_a_constant_password_and_a_later_one(certificates: Certificates) -> None:
    good, context, untouched = certificates["good"], making(), making()
    comm.set_ssl_ctx_password_callback(context, password="first")
    comm.set_ssl_ctx_password_callback(context, password="second")
    context.load_cert_chain(good.cert_file, good.locked_file("second"))
    with pytest.raises(ssl.SSLError):
        context.load_cert_chain(good.cert_file, good.locked_file("first"))
    comm.set_ssl_ctx_password_callback(context, callback=lambda *_: b"first")
    context.load_cert_chain(good.cert_file, good.locked_file("first"))
    assert "load_cert_chain" not in vars(untouched)


def test_an_exception_of_the_password_callback_passes(certificates: Certificates) -> None:
    context = making()
    comm.set_ssl_ctx_password_callback(context, callback=lambda *_: 1 // 0)  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        context.load_cert_chain(certificates["good"].cert_file, certificates["good"].locked_file("x"))


@pytest.mark.parametrize("wrong", [{}, {"callback": str, "password": "x"}, {"callback": "x"}])
def test_exactly_one_of_callback_and_password_is_given(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match="callback"):
        comm.set_ssl_ctx_password_callback(making(), **wrong)


# ---- Diffie-Hellman ------------------------------------------------------------------------------------------


@pytest.fixture(name="dh_file")
def dh_file_fixture(certificates: Certificates) -> str:
    number = b"\x02\x82\x01\x01\x00" + bytes.fromhex(FFDHE2048) + b"\x02\x01\x02"
    body = base64.encodebytes(b"\x30\x82" + len(number).to_bytes(2, "big") + number).decode()
    return certificates.write(
        "group.pem", f"-----BEGIN DH PARAMETERS-----\n{body}-----END DH PARAMETERS-----\n".encode()
    )


def test_read_dhparams_reads_a_file_of_parameters(certificates: Certificates, dh_file: str, tmp_path: Path) -> None:
    read = comm.read_dhparams(dh_file)
    assert read is not None
    assert read == comm.read_dhparams(Path(dh_file), force=True)
    assert read.filename == dh_file
    for wrong, error in ((certificates["good"].cert_file, ssl.SSLError), (tmp_path / "none", FileNotFoundError)):
        with pytest.raises(error):
            comm.read_dhparams(wrong)
        assert comm.read_dhparams(wrong, errorp=None) is None
    for secret in ({"pass_phrase": "x"}, {"callback": str}):
        with pytest.raises(comm.HasNoMeaning, match="never encrypted"):
            comm.read_dhparams(dh_file, **secret)
        for given in ({"filename": dh_file}, {"filename_list": [dh_file]}, {"dh": read}):
            with pytest.raises(comm.HasNoMeaning, match="never encrypted"):
                comm.set_ssl_ctx_dh(making(), **given, **secret)


def test_set_ssl_ctx_dh_takes_the_first_that_is_given(certificates: Certificates, dh_file: str) -> None:
    good, read, asked = certificates["good"].cert_file, comm.read_dhparams(dh_file), []

    def func(is_export: bool, length: int) -> Any:
        asked.append((is_export, length))
        return read

    context = making()
    assert comm.set_ssl_ctx_dh(context) is False
    assert comm.set_ssl_ctx_dh(context, func=lambda *_: None, filename_list=[]) is False
    assert comm.set_ssl_ctx_dh(context, filename_list=["none", good]) is False
    assert comm.set_ssl_ctx_dh(context, dh=read, filename="none", func=func, filename_list=["none"]) is True
    assert comm.set_ssl_ctx_dh(context, filename=Path(dh_file), func=func, filename_list=["none"]) is True
    assert asked == []
    assert comm.set_ssl_ctx_dh(context, func=func, filename_list=["none"]) is True
    assert asked == [(False, 2048)]
    assert comm.set_ssl_ctx_dh(context, filename_list=["none", good, dh_file]) is True
    for wrong, error in (({"filename": good}, ssl.SSLError), ({"dh": dh_file}, TypeError)):
        with pytest.raises(error):
            comm.set_ssl_ctx_dh(context, **wrong)  # type: ignore[arg-type]


def test_diffie_hellman_works_with_the_parameters_and_not_without(
    certificates: Certificates, dh_file: str, tmp_path: Path
) -> None:
    leaf, key = certificates.middle.issue(HOST, key=rsa.generate_private_key(65537, 2048))
    both = tmp_path / "rsa.pem"
    chain = (leaf, certificates.middle.certificate)
    both.write_bytes(pem(key) + b"".join(one.public_bytes(Encoding.PEM) for one in chain))
    theirs = client_of(certificates)
    theirs.set_ciphers("DHE-RSA-AES128-GCM-SHA256")
    serving = making()
    serving.load_cert_chain(both)
    serving.set_ciphers("DHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256")
    with pytest.raises(comm.ssl_version_or_cipher_mismatch), shaken(serving, theirs, "server"):
        pass
    assert comm.set_ssl_ctx_dh(serving, filename=dh_file)
    with shaken(serving, theirs, "server") as (_stream, secured):
        assert secured.cipher() == ("DHE-RSA-AES128-GCM-SHA256", "TLSv1.2", 128)
    described = comm.create_ssl_server_context(
        cert_file=both,
        dh_file=dh_file,
        openssl_ctx_configure_callback=lambda made: made.set_ciphers("DHE-RSA-AES128-GCM-SHA256"),
    )
    with shaken(described, theirs, "server"):
        pass
