"""comm's TLS on live streams: attach-ssl, detach-ssl, the handshake, and what the readers tell of a connection.

The peers are the standard library's, and openssl's own programs.

Source: LispWorks manual, attach-ssl, detach-ssl, socket-stream-handshake, ssl-connection-verify and their neighbours.
"""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from certificates import (
    Certificates,
    matrix,  # noqa: F401 - the fixture `certificates`
)
from lisp_pairs import (
    near_and_far,
    received,
    secure_near_and_far,
    wrapped,
)
from pairs import connect
from tls_support import BOTH_VERSIONS, HOST, certificate, client_context, server_context

from landline import ReadTimeout, StreamClosed, TextSocketStream, comm
from landline.testing.contract.stage import PATIENCE, Task

sys.path.append(str(Path(__file__).parents[1] / "peers"))

from tls_daemons import (
    OPTIONS,
    Parties,
    parties_fixture,  # noqa: F401 - the fixture `parties`
    s_client,
    s_server,
)

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

CLOSE_NOTIFY = bytes.fromhex("15 0303 0002 0100")
"""In the clear, as it is before a session has keys."""

attaching: Any = comm.attach_ssl
detaching: Any = comm.detach_ssl
"""They, for arguments that a type checker would refuse."""

ABOUT_TLS: dict[str, Callable[[comm.SocketStream], object]] = {
    "verify": comm.ssl_connection_verify,
    "protocol_version": comm.ssl_connection_protocol_version,
    "copy_peer_certificates": comm.ssl_connection_copy_peer_certificates,
    "get_peer_certificates_data": comm.ssl_connection_get_peer_certificates_data,
}
WHETHER_TLS: dict[str, Callable[[comm.SocketStream], object]] = {
    "ssl": comm.socket_stream_ssl,
    "ssl_ref": comm.ssl_connection_ssl_ref,
    "ctx": comm.socket_stream_ctx,
    "ssl_side": comm.socket_stream_ssl_side,
    "implementation": comm.ssl_connection_implementation,
}


def attached(stream: comm.SocketStream, **arguments: Any) -> ssl.SSLObject:
    made: ssl.SSLObject = attaching(stream, **{"ssl_side": "client", "tlsext_host_name": HOST, **arguments})
    return made


# ---- attaching -----------------------------------------------------------------------------------------------


@BOTH_VERSIONS
def test_attach_ssl_goes_on_under_tls_and_gives_the_session(version: ssl.TLSVersion) -> None:
    """STARTTLS: what is pending goes out in the clear first."""
    ours, theirs = client_context(version), server_context(version)
    with near_and_far() as (stream, far):
        comm.write_line("STARTTLS", stream)
        shaking = Task(lambda: (received(far, 9), wrapped(far, theirs)))
        session = attached(stream, ssl_ctx=ours)
        said, secured = shaking.result()
        with secured:
            assert said == b"STARTTLS\n"
            assert isinstance(session, comm.ssl_pointer)
            assert isinstance(comm.socket_stream_ctx(stream), comm.ssl_ctx_pointer)
            assert session is comm.socket_stream_ssl(stream) is comm.ssl_connection_ssl_ref(stream)
            assert comm.socket_stream_ctx(stream) is ours
            assert comm.socket_stream_ssl_side(stream) == "client"
            assert comm.ssl_connection_implementation(stream) == "openssl"
            assert comm.ssl_connection_protocol_version(stream) == f"tls-v1-{str(version.name)[-1]}"
            assert session.version() == secured.version()
            secured.sendall(b"caf\xe9\n")
            assert comm.read_line(stream).line == "caf\xe9"
            comm.write_line("\xff", stream)
            comm.close(stream)
            assert received(secured, 100) == b"\xff\n"  # and then the proper end of TLS


def test_attach_ssl_is_a_server_unless_ssl_side_says_otherwise() -> None:
    """The context that is made for a symbol has no certificate: the callback brings one, before the session is made."""
    order: list[object] = []

    def configure(context: ssl.SSLContext) -> None:
        order.append(context)
        certificate().configure_cert(context)

    for symbol in (True, "default", ":TLS-V1-2", "tls_v1_3"):
        order.clear()
        theirs = client_context()
        with near_and_far() as (stream, far):
            shaking = Task(partial(wrapped, far, theirs, server_side=False))
            session = attaching(
                stream, ssl_ctx=symbol, ctx_configure_callback=configure, ssl_configure_callback=order.append
            )
            with shaking.result():
                assert order == [comm.socket_stream_ctx(stream), session]
                assert comm.socket_stream_ssl_side(stream) == "server"


def test_a_context_of_ones_own_is_not_configured_and_its_session_is() -> None:
    order: list[object] = []
    ours, theirs = client_context(), server_context()
    with near_and_far() as (stream, far):
        shaking = Task(lambda: wrapped(far, theirs))
        session = attached(
            stream, ssl_ctx=ours, ctx_configure_callback=order.append, ssl_configure_callback=order.append
        )
        with shaking.result():
            assert order == [session]


def test_tlsext_host_name_is_sent_and_checked_where_only_a_handle_was_given() -> None:
    names: list[str | None] = []
    theirs = server_context()
    theirs.sni_callback = lambda _session, name, _context: names.append(name)
    for wanted, code in ((HOST, None), ("wrong.example", 62)):
        ours = client_context()
        with near_and_far() as (stream, far):
            shaking = Task(partial(wrapped, far, theirs))
            if code is None:
                attached(stream, ssl_ctx=ours, tlsext_host_name=wanted)
                shaking.result().close()
            else:
                with pytest.raises(comm.ssl_verification_failure) as caught:
                    attached(stream, ssl_ctx=ours, tlsext_host_name=wanted)
                assert comm.ssl_condition_ssl_code(caught.value) == ("verification", code)
                assert comm.socket_error_connection(caught.value) is stream
                shaking.failure(ssl.SSLError)
    assert names == [HOST, "wrong.example"]


def test_without_a_name_the_peers_address_is_checked() -> None:
    ours, theirs = client_context(), server_context()
    with near_and_far() as (stream, far):
        shaking = Task(lambda: wrapped(far, theirs))
        with pytest.raises(comm.ssl_verification_failure, match=r"127\.0\.0\.1"):
            attaching(stream, ssl_ctx=ours, ssl_side="client")
        shaking.failure(ssl.SSLError)


def test_wrong_arguments_change_nothing() -> None:
    with near_and_far() as (stream, far):
        for wrong in (
            {"ssl_side": "peer"},
            {"ssl_ctx": "v3"},
            {"ssl_ctx": "tls-v1"},
            {"ssl_ctx": None},
            {"ssl_ctx": 5},
            {"ssl_side": "server"},
            {"ssl_side": "server", "ssl_ctx": client_context()},
            {"handshake_timeout": -1},
            {"ctx_configure_callback": 5},
            {"tlsext_host_name": 5},
        ):
            with pytest.raises((TypeError, ValueError)):
                attached(stream, **wrong)
        with pytest.raises(comm.HasNoMeaning, match="a session has its side from the beginning"):
            attaching(stream, ssl_side="both")
        far.sendall(b"clear\n")
        assert comm.read_line(stream).line == "clear"
        with TextSocketStream(_another(stream)) as text:
            for call in (attaching, comm.detach_ssl, comm.socket_stream_handshake, *WHETHER_TLS.values()):
                with pytest.raises(TypeError, match="must be a socket_stream"):
                    call(text)
            assert text.tls is None


def _another(stream: comm.SocketStream) -> Any:
    from landline import SocketStream

    handle = comm.socket_stream_socket(stream)
    assert handle is not None
    return SocketStream(handle.dup())


def test_tls_cannot_be_attached_twice_nor_behind_unread_plaintext() -> None:
    with secure_near_and_far() as (stream, _secured), pytest.raises(ValueError, match="active on this stream already"):
        attached(stream, ssl_ctx=client_context())
    with near_and_far() as (stream, far):
        far.sendall(b"220 ready\r\ninjected")
        assert comm.read_line(stream).line == "220 ready\r"
        with pytest.raises(comm.ssl_error, match="plaintext before TLS"):
            attached(stream, ssl_ctx=client_context())
        assert comm.socket_stream_ssl(stream) is None


# ---- the handshake -------------------------------------------------------------------------------------------


def test_a_handshake_that_is_not_done_in_time_goes_on() -> None:
    ours, theirs = client_context(), server_context()
    with near_and_far() as (stream, far):
        with pytest.raises(comm.ssl_handshake_timeout) as caught:
            attached(stream, ssl_ctx=ours, handshake_timeout=0.01)
        assert isinstance(caught.value, TimeoutError)
        assert comm.socket_stream_handshake(stream, 0.01) is False
        for about in ABOUT_TLS.values():
            with pytest.raises(ValueError, match="does not speak TLS"):
                about(stream)
        shaking = Task(lambda: wrapped(far, theirs))
        assert comm.socket_stream_handshake(stream, PATIENCE) is True
        assert comm.socket_stream_handshake(stream) is True
        with shaking.result() as secured:
            secured.sendall(b"x")
            assert comm.read_char(stream) == "x"


def test_a_handshake_that_the_peer_ends_properly_is_false() -> None:
    with near_and_far() as (stream, far):
        with pytest.raises(comm.ssl_handshake_timeout):
            attached(stream, ssl_ctx=client_context(), handshake_timeout=0.01)
        far.sendall(CLOSE_NOTIFY)
        assert comm.socket_stream_handshake(stream) is False
        with pytest.raises(comm.ssl_closed) as caught:
            comm.read_char(stream)
        assert comm.ssl_condition_ssl_code(caught.value) == "closed"


def test_a_handshake_that_fails_otherwise_is_signalled() -> None:
    with near_and_far() as (stream, far):
        with pytest.raises(ValueError, match="TLS is not active"):
            comm.socket_stream_handshake(stream)
        with pytest.raises(comm.ssl_handshake_timeout):
            attached(stream, ssl_ctx=client_context(), handshake_timeout=0.01)
        far.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(comm.ssl_failure) as caught:
            comm.socket_stream_handshake(stream)
        assert comm.socket_error_connection(caught.value) is stream


# ---- detaching -----------------------------------------------------------------------------------------------


@BOTH_VERSIONS
def test_detach_ssl_goes_on_in_the_clear_and_tls_can_be_attached_again(version: ssl.TLSVersion) -> None:
    ours, theirs = client_context(version), server_context(version)
    with near_and_far() as (stream, far):
        comm.detach_ssl(stream)  # without TLS nothing happens
        plain = far.dup()
        plain.settimeout(PATIENCE)
        with plain:
            for word in (b"one", b"two"):
                shaking = Task(partial(wrapped, plain.dup(), theirs))
                attached(stream, ssl_ctx=ours)
                with shaking.result() as secured:
                    comm.write_string("sealed", stream)
                    ending = Task(lambda: comm.detach_ssl(stream, retry_timeout=PATIENCE))
                    assert received(secured, 6) == b"sealed"
                    secured.unwrap().close()
                    ending.result()
                assert all(whether(stream) is None for whether in WHETHER_TLS.values())
                comm.write_string(word.decode(), stream)
                comm.force_output(stream)
                assert received(plain, 3) == word
                plain.sendall(word + b"\n")
                assert comm.read_line(stream).line == word.decode()


def test_a_peer_that_does_not_do_its_part_is_an_error_unless_retry_count_is_nil() -> None:
    with secure_near_and_far() as (stream, secured):
        comm.detach_ssl(stream, retry_count=None, retry_timeout=0.01)
        with pytest.raises(ReadTimeout) as caught:
            comm.detach_ssl(stream, retry_count=1, retry_timeout=0.01)
        assert comm.socket_error_connection(caught.value) is stream
        assert comm.socket_stream_ssl_side(stream) == "client"  # what still comes is sealed
        plain = secured.unwrap()
        with plain:
            comm.detach_ssl(stream, retry_timeout=PATIENCE)
            assert comm.socket_stream_ssl_side(stream) is None
            plain.sendall(b"clear\n")
            assert comm.read_line(stream).line == "clear"


def test_detach_ssl_refuses_wrong_arguments() -> None:
    with secure_near_and_far() as (stream, _secured):
        for wrong in ({"retry_count": -1}, {"retry_count": 1.5}, {"retry_count": True}, {"retry_timeout": -1}):
            with pytest.raises(ValueError, match="is not allowed"):
                detaching(stream, **wrong)
        assert comm.socket_stream_ssl_side(stream) == "client"
    with pytest.raises(StreamClosed):
        comm.detach_ssl(stream)


# ---- what is known of the connection ---------------------------------------------------------------------------


def test_a_stream_without_tls_has_none_of_it() -> None:
    with near_and_far() as (stream, _far):
        assert [whether(stream) for whether in WHETHER_TLS.values()] == [None] * len(WHETHER_TLS)
        for about in ABOUT_TLS.values():
            with pytest.raises(ValueError, match="it does not speak TLS"):
                about(stream)
    for call in (*ABOUT_TLS.values(), *WHETHER_TLS.values(), comm.detach_ssl, comm.socket_stream_handshake):
        with pytest.raises(TypeError, match="must be a socket_stream"):
            call(5)  # type: ignore[arg-type]


def test_ssl_connection_verify_says_why_not() -> None:
    with secure_near_and_far() as (stream, _secured):
        assert comm.ssl_connection_verify(stream) == (True, None)
    careless = client_context()
    comm.set_verification_mode(careless, "client", "never")
    handle, far = connect()
    theirs = server_context()
    shaking = Task(lambda: wrapped(far, theirs))
    with comm.socket_stream(socket=handle, ssl_ctx=careless, ssl_side="client") as stream, shaking.result():
        ok, reason = comm.ssl_connection_verify(stream)
        assert not ok
        assert "does not verify" in str(reason)
    handle, far = connect()
    ours, trusting = server_context(), client_context()
    shaking = Task(lambda: wrapped(far, trusting, server_side=False))
    with comm.socket_stream(socket=handle, ssl_ctx=ours) as stream, shaking.result():
        assert comm.ssl_connection_verify(stream) == (False, "the peer showed no certificate")
        assert comm.ssl_connection_copy_peer_certificates(stream) == []
        assert comm.ssl_connection_get_peer_certificates_data(stream) == []


def test_the_peers_certificates_are_told_its_own_first(certificates: Certificates) -> None:
    identity = certificates["good"]
    ours = comm.create_ssl_client_context(openssl_trusted_file=certificates.trusted_file)
    theirs = identity.server()
    handle, far = connect()
    shaking = Task(lambda: wrapped(far, theirs))
    stream = comm.socket_stream(socket=handle, ssl_ctx=ours, ssl_side="client", tlsext_host_name="good.example")
    with stream, shaking.result():
        copied = comm.ssl_connection_copy_peer_certificates(stream)
    assert copied == comm.ssl_connection_copy_peer_certificates(stream)  # also when it is closed
    assert comm.ssl_connection_protocol_version(stream) == "tls-v1-3"
    assert isinstance(copied[0], comm.x509_pointer)
    assert copied[0].der == identity.der
    number = identity.certificate.serial_number
    assert comm.get_certificate_common_name(copied[0]) == "somebody"
    assert comm.get_certificate_serial_number(copied[0]) == number
    data = comm.ssl_connection_get_peer_certificates_data(stream)
    assert data == [comm.get_certificate_data(each) for each in copied]
    assert (data[0]["subject-common-name"], data[0]["serial-number"]) == ("somebody", number)
    assert (data[0]["issuer-common-name"], data[0]["dns-names"]) == ("Test Intermediate", ["good.example"])
    assert (data[0]["key-kind"], data[0]["key-bits"], data[0]["ip-addresses"]) == ("EC P-256", 256, [])
    assert data[0]["not-before"] == identity.certificate.not_valid_before_utc
    assert data[0]["not-after"] == identity.certificate.not_valid_after_utc
    for read in (comm.get_certificate_data, comm.get_certificate_common_name, comm.get_certificate_serial_number):
        with pytest.raises(TypeError, match="certificate="):
            read(identity.der)  # type: ignore[arg-type]


def test_pem_read_reads_the_first_certificate(certificates: Certificates, tmp_path: Path) -> None:
    identity = certificates["good"]
    for thing in ("X509", ":x509"):
        assert comm.pem_read(thing, identity.both_file).der == identity.der
        assert comm.pem_read(thing, Path(identity.cert_file)).der == identity.der
    with pytest.raises(ValueError, match="there is no certificate in it"):
        comm.pem_read("X509", identity.key_file)
    with pytest.raises(ValueError, match="thing='DHparams' is not allowed"):
        comm.pem_read("DHparams", identity.cert_file)
    with pytest.raises(FileNotFoundError):
        comm.pem_read("X509", tmp_path / "missing.pem")
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nnot base64!\n-----END CERTIFICATE-----\n")
    with pytest.raises(ValueError):
        comm.pem_read("X509", broken)


# ---- openssl -------------------------------------------------------------------------------------------------


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("version", list(OPTIONS))
def test_openssl_serves_a_stream_of_lisps(version: str, parties: Parties) -> None:
    with s_server(parties, version) as (program, port):
        opened = comm.open_tcp_stream(
            "localhost",
            port,
            ipv6=None,
            timeout=PATIENCE,
            read_timeout=PATIENCE,
            ssl_ctx=comm.create_ssl_client_context(openssl_trusted_file=parties.trusted_file),
        )
        with opened as stream:
            assert comm.ssl_connection_protocol_version(stream) == f"tls-v{version.replace('.', '-')}"
            assert comm.ssl_connection_verify(stream) == (True, None)
            leaf = comm.ssl_connection_copy_peer_certificates(stream)[0]
            assert leaf.der == parties.server.der
            comm.format_(stream, "12345~%")
            comm.force_output(stream)
            program.said(b"12345\n")
            program.type(b"67890\n")
            assert comm.read_line(stream) == ("67890", False)


@pytest.mark.peer("openssl")
def test_openssl_is_served_and_ends_tls_properly(parties: Parties) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        with s_client(parties, listener.getsockname()[1], commands=True) as program:
            handle, _ = listener.accept()
            context = comm.create_ssl_server_context(
                cert_file=parties.server.cert_file, key_file=parties.server.key_file
            )
            made = comm.create_ssl_socket_stream(handle, context, errorp=True, read_timeout=PATIENCE)
            assert isinstance(made, comm.SocketStream)
            with comm.with_open_stream(made) as stream:
                program.type(b"12345\n")
                assert comm.read_line(stream) == ("12345", False)
                comm.write_line("67890", stream)
                comm.force_output(stream)
                program.said(b"67890\n")
                program.end_input()
                assert comm.read_line(stream, None, "eof") == ("eof", True)
            assert program.wait() == 0
    assert not comm.open_stream_p(made)
