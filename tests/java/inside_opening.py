"""open_tcp_stream_using_java() and the switch: with our server, nginx, openssl and a Java server at the other end."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from certificates import Authority, Certificates, Identity
from certificates import matrix as _matrix  # noqa: F401 - the fixture `certificates`
from java_side import (
    LOOPBACK,
    PASSWORD,
    identity_file,
    opened,
    saved,
    trust_file_fixture,
    trust_of,
    unwatched,
    way_fixture,
)
from test_tls_http import facts, nginx
from test_tls_openssl_duplex import both_ways
from tls_daemons import HELLO_REQUEST, RENEGOTIATED, Parties, parties_fixture, s_server
from tls_java import HOST as LOCALHOST
from tls_java import Stage, jvm_fixture, local_fixture, stage_fixture
from tls_opening import Drip, Peer, carrying, echoing, peer, says, shaking, silent
from tls_support import BOTH_VERSIONS, V12, V13, of_version

from landline import (
    Cancel,
    Server,
    SocketCreateError,
    SocketStream,
    SslClosed,
    SslError,
    SslFailure,
    SslHandshakeTimeout,
    SslVerificationFailure,
    SslVersionOrCipherMismatch,
    StreamClosed,
    TextSocketStream,
    WriteTimeout,
    create_ssl_client_context,
    create_ssl_server_context,
    open_tcp_stream,
    open_tcp_stream_using_java,
    start_up_server,
    switch_open_tcp_stream_with_ssl_to_java,
)
from landline.errors import ReadTimeout
from landline.java.bridge import Bridge
from landline.testing.contract.stage import PATIENCE, Task, expect

__all__ = [
    "jvm_fixture", "local_fixture", "nginx", "parties_fixture", "stage_fixture", "trust_file_fixture", "way_fixture",
]  # fmt: skip

pytestmark = pytest.mark.usefixtures("way", "no_leaks")

each_factory = pytest.mark.parametrize("sockets", [False, True], ids=["engine", "socket"])
"""An SSLContext, or a factory of sockets."""


@pytest.fixture(scope="session", name="here")
def here_fixture(certificates: Certificates) -> Identity:
    """A certificate for this machine's loopback interface."""
    leaf, key = certificates.middle.issue(LOOPBACK, LOCALHOST)
    return Identity(leaf, key, (certificates.middle.certificate,), certificates.folder / "here")


@pytest.fixture(name="factory")
def factory_fixture(sockets: bool, certificates: Certificates) -> Any:
    context = unwatched(trust_of(certificates.root.pem))
    return context.getSocketFactory() if sockets else context


def echo(stream: SocketStream) -> None:
    for line in stream:
        stream.write(line)
        stream.flush()


@contextmanager
def serving(context: Any, handler: Callable[[SocketStream], object] = echo) -> Iterator[Server]:
    with start_up_server(handler, local_address=LOOPBACK, ssl_ctx=context, read_timeout=PATIENCE) as server:
        yield server


def with_factory(port: int, factory: Any, **more: Any) -> SocketStream:
    stream: SocketStream = open_tcp_stream_using_java(
        LOOPBACK, port, factory=factory, read_timeout=PATIENCE, write_timeout=PATIENCE, **more
    )
    return stream


def said_back(stream: SocketStream, line: bytes = b"hello\n") -> bool:
    stream.write(line)
    return stream.readline() == line


# ---- what was agreed upon --------------------------------------------------------------------------------


@BOTH_VERSIONS
@each_factory
def test_our_server_and_what_the_stream_knows(
    version: ssl.TLSVersion, factory: Any, here: Identity, certificates: Certificates
) -> None:
    with serving(of_version(here.server(), version)) as server, with_factory(server.port, factory) as stream:
        assert said_back(stream)
        tls = stream.tls
        assert tls is not None
        assert tls.version == f"TLSv1.{2 if version is V12 else 3}"
        assert tls.cipher.startswith("TLS_")
        assert tls.cipher_bits in (128, 256)
        assert (tls.alpn, tls.session_reused, tls.server_side) == (None, False, False)
        assert (tls.sni, tls.checked_name, tls.verify()) == (None, LOOPBACK, (True, ""))
        assert tls.chain == here.chain_der
        assert tls.certificate is not None
        assert tls.certificate.issuer == "Test Intermediate"
        assert stream.report is not None
        assert stream.report.handshake is not None
        assert stream.report.handshake.version == tls.version
    assert stream.tls is tls


@BOTH_VERSIONS
@pytest.mark.parametrize("sockets", [False])
def test_java_resumes_sessions(version: ssl.TLSVersion, factory: Any, here: Identity) -> None:
    with serving(of_version(here.server(), version)) as server:
        for resumed in (False, True, True):
            with with_factory(server.port, factory) as stream:
                assert said_back(stream)
                assert stream.tls is not None
                assert stream.tls.session_reused is resumed
                assert stream.tls.chain == here.chain_der


@each_factory
def test_application_protocols(factory: Any, here: Identity) -> None:
    context = create_ssl_server_context(cert_file=here.cert_file, key_file=here.key_file, alpn=["h2", "http/1.1"])
    with serving(context) as server:
        with with_factory(server.port, factory, alpn=["http/1.1", "h2"]) as stream:
            assert stream.tls is not None
            assert stream.tls.alpn == "h2"
        with with_factory(server.port, factory) as stream:
            assert stream.tls is not None
            assert stream.tls.alpn is None


@pytest.mark.parametrize(
    ("host", "sni", "sent"),
    [
        (LOCALHOST, {}, LOCALHOST),
        (LOCALHOST, {"tlsext_host_name": None}, None),
        (LOCALHOST, {"tlsext_host_name": "other.example"}, "other.example"),
        (LOOPBACK, {}, None),
        (LOOPBACK, {"tlsext_host_name": LOCALHOST}, LOCALHOST),
    ],
)
@each_factory
def test_the_name_that_is_sent(host: str, sni: Any, sent: str | None, factory: Any, here: Identity) -> None:
    names: list[str | None] = []
    context = here.server()
    context.sni_callback = lambda _object, name, _context: names.append(name)
    with serving(context) as server:
        open_tcp_stream_using_java(host, server.port, factory=factory, ipv6=False, **sni).close()
    assert names == [sent]


def test_versions(here: Identity, trust_file: Path) -> None:
    with serving(of_version(here.server(), V12)) as server:
        with opened(server.port, trust_file, ssl_ctx="tls-v1-2") as stream:
            assert stream.tls is not None
            assert stream.tls.version == "TLSv1.2"
        with pytest.raises(SslVersionOrCipherMismatch) as caught:
            opened(server.port, trust_file, ssl_ctx="tls-v1-3")
        assert "protocol version" in str(caught.value)


def test_the_engine_can_be_configured(here: Identity, trust_file: Path) -> None:
    """The one escape hatch: cipher suites, for instance."""
    suite = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"

    def configure(engine: Any) -> None:
        engine.setEnabledCipherSuites([suite])
        engine.setEnabledProtocols(["TLSv1.2"])

    with (
        serving(here.server()) as server,
        opened(server.port, trust_file, ssl_configure_callback=configure) as stream,
    ):
        assert said_back(stream)
        assert stream.tls is not None
        assert (stream.tls.cipher, stream.tls.cipher_bits) == (suite, 128)

    def fail(engine: Any) -> None:
        raise LookupError("no")

    with serving(here.server()) as server, pytest.raises(LookupError, match="no"):
        opened(server.port, trust_file, ssl_configure_callback=fail)


# ---- stores ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PKCS12", "JKS", "JCEKS"])
def test_trust_stores_of_all_kinds(kind: str, here: Identity, certificates: Certificates, tmp_path: Path) -> None:
    store = trust_of(certificates.root.pem, kind=kind)
    file = saved(store, tmp_path / "trust")
    with serving(here.server()) as server:
        for given in ({"trust_store": str(file), "trust_store_password": PASSWORD}, {"trust_store": store}):
            with open_tcp_stream_using_java(LOOPBACK, server.port, **given) as stream:
                assert said_back(stream)


@BOTH_VERSIONS
def test_mutual_tls(
    version: ssl.TLSVersion, here: Identity, certificates: Certificates, trust_file: Path, tmp_path: Path
) -> None:
    seen: list[str | None] = []

    def who(stream: SocketStream) -> None:
        assert stream.tls is not None
        assert stream.tls.certificate is not None
        seen.append(stream.tls.certificate.subject)
        echo(stream)

    context = here.server()
    context.load_verify_locations(certificates.trusted_file)
    context.verify_mode = ssl.CERT_REQUIRED
    ann = identity_file(certificates["client"], tmp_path / "ann.p12")
    with serving(of_version(context, version), who) as server:
        with opened(server.port, trust_file, key_store=ann, key_store_password=PASSWORD) as stream:
            assert said_back(stream)
        with pytest.raises(SslFailure) as caught, opened(server.port, trust_file) as stream:
            said_back(stream)
        assert "with the alert" in str(caught.value)
    assert seen == ["Ann"]


def test_files_that_are_no_stores_are_told_by_name(
    here: Identity, certificates: Certificates, trust_file: Path, tmp_path: Path
) -> None:
    def attempt(**more: Any) -> SocketCreateError:
        with pytest.raises(SocketCreateError) as caught:
            open_tcp_stream_using_java(LOOPBACK, 9, **more)
        stream, error = open_tcp_stream_using_java(LOOPBACK, 9, errorp=False, **more)
        assert stream is None
        assert str(error) == str(caught.value)
        return caught.value

    missing = attempt(trust_store=tmp_path / "missing.p12")
    assert isinstance(missing, FileNotFoundError)
    assert "trust_store='" in str(missing)
    assert "missing.p12" in str(missing)
    junk = tmp_path / "junk"
    junk.write_bytes(b"0123456789" * 10)
    broken = attempt(key_store=junk, key_store_password="x")
    assert isinstance(broken, ValueError)
    assert "key_store=" in str(broken)
    assert "no key store that Java can read" in str(broken)
    wrong = attempt(trust_store=trust_file, trust_store_password="wrong")
    assert "the password does not open it (give trust_store_password)" in str(wrong)
    assert PASSWORD not in str(wrong)
    ann = identity_file(certificates["client"], tmp_path / "ann.p12")
    assert "the password does not open it" in str(attempt(key_store=ann, key_store_password="wrong"))


def test_a_store_that_was_replaced_is_read_again(here: Identity, certificates: Certificates, tmp_path: Path) -> None:
    file = saved(trust_of(Authority("Nobody's Root").pem), tmp_path / "trust")
    with serving(here.server()) as server:
        with pytest.raises(SslVerificationFailure):
            opened(server.port, file)
        saved(trust_of(certificates.root.pem), file)
        for _ in range(2):
            assert said_back_and_closed(opened(server.port, file))


def said_back_and_closed(stream: SocketStream) -> bool:
    with stream:
        return said_back(stream)


# ---- other people's servers ------------------------------------------------------------------------------


@pytest.mark.peer("nginx")
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_nginx(version: str, nginx: Any, parties: Parties, trust_file: Path, tmp_path: Path) -> None:
    ann = identity_file(parties.ann, tmp_path / "ann.p12")
    for resumed in (".", "r", "r"):
        with opened(
            nginx.port, trust_file, LOCALHOST, ipv6=None, alpn=["http/1.1"], key_store=ann, key_store_password=PASSWORD
        ) as stream:
            assert facts(stream) == [f"TLSv{version}", LOCALHOST, "http/1.1", resumed, "SUCCESS"]


@pytest.mark.peer("openssl")
@pytest.mark.parametrize(
    ("sockets", "version", "interlude"),
    [
        (False, "1.3", (b"K", b"write server key update", b"read client key update")),
        (True, "1.3", (b"K", b"write server key update", b"read client key update")),
        (False, "1.2", (b"r", HELLO_REQUEST, RENEGOTIATED, 1)),
        (True, "1.2", ()),
    ],
    ids=["engine-1.3", "socket-1.3", "engine-1.2", "socket-1.2"],
)
def test_openssl(version: str, interlude: Any, factory: Any, parties: Parties) -> None:
    """20 MB each way, with new keys (1.3) or renegotiations (1.2) on the way."""
    with s_server(parties, version, "-state") as (server, port), with_factory(port, factory) as stream:
        both_ways(stream, server, *interlude)


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_a_java_server(version: str, stage: Stage, trust_file: Path) -> None:
    """In a JVM of its own."""
    with stage.java_server(version) as (java, port):
        java.tell("accept")
        with opened(port, trust_file, LOCALHOST, ipv6=None) as stream:
            java.answer()
            assert stream.tls is not None
            assert (stream.tls.version, stream.tls.sni) == (version, LOCALHOST)
            stream.write(b"from Python")
            stream.flush()
            assert java.read(11) == b"from Python"
            java.write(b"from Java")
            assert stream.read_exactly(9) == b"from Java"
            stream.shutdown("output")
            assert java.read(1) == b""


# ---- ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
@each_factory
def test_half_close(version: ssl.TLSVersion, factory: Any, here: Identity) -> None:
    """We say that nothing more comes, and the answer to all of it still arrives."""

    def answer(stream: SocketStream) -> None:
        stream.write(b"%d" % len(stream.read()))

    with (
        serving(of_version(here.server(), version), answer) as server,
        with_factory(server.port, factory) as stream,
    ):
        stream.write(b"x" * 100_000)
        stream.shutdown("output")
        assert stream.read() == b"100000"


@each_factory
def test_an_end_without_close_notify_is_an_error(factory: Any, here: Identity) -> None:
    def vanish(stream: SocketStream) -> None:
        stream.write(b"part")
        stream.flush()
        plain: Any = stream._channel.transport
        plain._plain.shutdown_output(None, False)
        with suppress(SslError):
            stream.read()

    with peer(shaking(here.server(), vanish)) as listener, with_factory(listener.port, factory) as stream:
        with pytest.raises(SslError, match="without close_notify; what has come may not be all"):
            stream.read()
        assert stream.read_exactly(4) == b"part"
        with pytest.raises(SslError, match="without close_notify"):
            stream.read(1)


@each_factory
def test_in_tls_1_2_a_peer_that_closes_ends_both_directions(factory: Any, here: Identity) -> None:
    """RFC 5246 7.2.1, and Java keeps to it. What the peer has sent can be read nevertheless."""

    def close_output(stream: SocketStream) -> None:
        stream.write(b"all")
        stream.shutdown("output")
        with suppress(SslError):  # not all was sent, so nobody says that it was
            stream.read()

    with (
        peer(shaking(of_version(here.server(), V12), close_output)) as listener,
        with_factory(listener.port, factory) as stream,
    ):
        assert stream.read() == b"all"
        with expect(BrokenPipeError) as caught:
            stream.write(b"x")
            stream.flush()
        assert "which in TLS 1.2 ends both directions" in str(caught.error)


@each_factory
def test_stop_tls_goes_on_in_the_clear(factory: Any, here: Identity) -> None:
    def stop(stream: SocketStream) -> None:
        stream.write(stream.readline())
        stream.stop_tls()
        stream.write(stream.readline())
        stream.flush()
        stream.read()

    with peer(shaking(here.server(), stop)) as listener, with_factory(listener.port, factory) as stream:
        assert said_back(stream)
        stream.stop_tls()
        assert stream.tls is None
        assert said_back(stream, b"in the clear\n")


@each_factory
def test_timeouts_keep_what_there_is(factory: Any, here: Identity) -> None:
    go = socket.socketpair()
    with go[0], go[1]:

        def drip(stream: SocketStream) -> None:
            stream.write(b"half ")
            stream.flush()
            go[1].recv(1)
            stream.write(b"line\n")
            stream.flush()
            go[1].recv(1)
            stream.read()

        with peer(shaking(here.server(), drip)) as listener, with_factory(listener.port, factory) as stream:
            stream.read_timeout = 0.05
            with expect(ReadTimeout):
                stream.readline()
            stream.read_timeout = PATIENCE
            go[0].send(b"1")
            assert stream.readline() == b"half line\n"
            stream.write_timeout = 0.05
            with expect(WriteTimeout) as caught:
                while True:
                    stream.write(bytes(1 << 20))
            stream.write_timeout = PATIENCE
            assert caught.error.sent < caught.error.accepted
            go[0].send(b"2")
            stream.flush()
            assert stream.bytes_sent == caught.error.accepted


@pytest.mark.parametrize(
    ("behaviour", "condition", "match"),
    [
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), SslFailure, "speaks plain HTTP, not TLS"),
        (says(b"220 mail ready\r\n"), SslFailure, "does not speak TLS; it began with '220 mail"),
        (says(), SslError, "without close_notify"),
        (says(bytes.fromhex("15030300020228")), SslVersionOrCipherMismatch, "the alert 'handshake failure'"),
        (
            says(bytes.fromhex("15030300020270")),
            SslFailure,
            "the alert 'unrecognized name' .it does not serve the name",
        ),
        (says(bytes.fromhex("15030300020100")), SslClosed, "closed TLS in the middle of the handshake"),
        (says(bytes.fromhex("1603030004020000ff") + bytes(64)), SslFailure, "Java says: "),
        (says(bytes.fromhex("160303ffff") + bytes(70000)), SslFailure, "Java says: "),
    ],
    ids=["HTTP", "SMTP", "nothing", "mismatch", "name", "closed", "junk", "too long"],
)
def test_peers_that_speak_something_else(
    behaviour: Peer, condition: type[Exception], match: str, here: Identity
) -> None:
    factory = unwatched(trust_of())
    with peer(behaviour) as listener, pytest.raises(condition, match=match) as caught:
        with_factory(listener.port, factory)
    assert type(caught.value).__name__ == condition.__name__
    with peer(behaviour) as listener, pytest.raises(condition, match=match):
        with_factory(listener.port, factory.getSocketFactory())


@each_factory
def test_a_handshake_has_its_time(factory: Any) -> None:
    with peer(silent) as listener, pytest.raises(SslHandshakeTimeout, match=r"within handshake_timeout=0\.05 s"):
        with_factory(listener.port, factory, handshake_timeout=0.05)


@each_factory
def test_cancel_ends_a_handshake(factory: Any) -> None:
    cancel = Cancel()
    with peer(silent) as listener:
        opening = Task(lambda: with_factory(listener.port, factory, cancel=cancel)).blocked()
        cancel.set()
        assert "was cancelled" in str(opening.failure(StreamClosed))


@each_factory
def test_a_flight_that_comes_byte_by_byte(factory: Any, here: Identity) -> None:
    drip = Drip(0)
    with peer(carrying(here.server(), drip)) as listener:
        stream = with_factory(listener.port, factory)
        with suppress(SslError):
            stream.close()
    assert drip.count > 500


def test_start_tls_over_a_stream_that_is_there(here: Identity, certificates: Certificates) -> None:
    """STARTTLS: the context that stands behind open_tcp_stream_using_java() goes where any ssl_ctx does."""
    from landline.java.context import JavaContext, MadeContext

    made = MadeContext(unwatched(trust_of(certificates.root.pem)), None)
    with peer(echoing(here.server())) as listener, open_tcp_stream(LOOPBACK, listener.port) as stream:
        stream.start_tls(JavaContext(lambda: made))  # type: ignore[arg-type]
        assert said_back(stream)


# ---- keywords --------------------------------------------------------------------------------------------


def test_text_and_errorp(here: Identity, trust_file: Path) -> None:
    with serving(here.server()) as server:
        stream, error = open_tcp_stream_using_java(
            LOOPBACK, server.port, trust_store=trust_file, trust_store_password=PASSWORD,
            element_type=str, encoding="utf-8", errorp=False,
        )  # fmt: skip
        assert error is None
        assert isinstance(stream, TextSocketStream)
        with stream:
            stream.write("grüß dich\n")
            assert stream.readline() == "grüß dich\n"
        nobody, error = open_tcp_stream_using_java(LOOPBACK, server.port, errorp=False)
        assert nobody is None
        assert isinstance(error, SslVerificationFailure)


# ---- the switch ------------------------------------------------------------------------------------------


@pytest.fixture(name="jvm_trust")
def jvm_trust_fixture(way: Bridge, certificates: Certificates, tmp_path: Path) -> Iterator[None]:
    """The JVM trusts the tests' authority by its configuration."""
    from landline.java import stores

    system = way.find("java.lang.System")
    given = {"": str(saved(trust_of(certificates.root.pem), tmp_path / "jvm")), "Password": PASSWORD}
    for name, value in given.items():
        system.setProperty(f"javax.net.ssl.trustStore{name}", value)
    stores._kept.clear()
    yield
    for name in given:
        system.clearProperty(f"javax.net.ssl.trustStore{name}")
    stores._kept.clear()


@pytest.mark.usefixtures("jvm_trust")
def test_the_switch_has_open_tcp_stream_use_java(here: Identity) -> None:
    with serving(here.server()) as server:
        with switch_open_tcp_stream_with_ssl_to_java():
            for ssl_ctx in (True, "default", "tls-v1-3"):
                with open_tcp_stream(LOOPBACK, server.port, ssl_ctx=ssl_ctx) as stream:
                    assert said_back(stream)
                    assert stream.tls is not None
                    assert stream.tls.cipher == "TLS_AES_256_GCM_SHA384"
                    assert type(stream._channel.transport.session.ssl_object).__name__ == "JavaEngine"  # type: ignore[attr-defined]
            with pytest.raises(TypeError, match="whom to trust is said by open_tcp_stream_using_java"):
                open_tcp_stream(LOOPBACK, server.port, ssl_ctx=ssl.create_default_context())
            with pytest.raises(TypeError, match="whom to trust is said by open_tcp_stream_using_java"):
                open_tcp_stream(LOOPBACK, server.port, ssl_ctx=create_ssl_client_context())
            with pytest.raises(ValueError, match="ssl_configure_callback is not allowed where TLS goes through Java"):
                open_tcp_stream(LOOPBACK, server.port, ssl_ctx=True, ssl_configure_callback=id)
        with pytest.raises(SslVerificationFailure, match="openssl_trusted_file="):
            open_tcp_stream(LOOPBACK, server.port, ssl_ctx=True)


def test_a_factory_that_cannot_be_used_is_told(way: Bridge) -> None:
    unready = way.find("javax.net.ssl.SSLContext").getInstance("TLS")
    with peer(silent) as listener, pytest.raises(SocketCreateError, match="Java makes no TLS engine of this"):
        with_factory(listener.port, unready)


@each_factory
def test_what_interrupts_the_engine_in_the_middle_ends_tls_and_loses_nothing_in_silence(
    factory: Any, here: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal's handler that raises between two steps of ours: nothing of it counts as sent, and nothing goes on."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with serving(here.server()) as server, with_factory(server.port, factory) as stream:
        assert said_back(stream)
        sent = stream.bytes_sent
        transport: Any = stream._channel.transport
        outgoing = Mock(wraps=transport.session.outgoing_bio, write=stop)
        with monkeypatch.context() as patch, expect(KeyboardInterrupt):
            patch.setattr(transport.session.ssl_object, "_outgoing", outgoing)
            stream.write(b"x" * 100_000)
            stream.flush()
        assert stream.bytes_sent == sent
        with pytest.raises(SslError, match="a signal's handler has interrupted the Java engine"):
            stream.flush()
