"""stream.tls, the report of a handshake, and resumption: what is known of a TLS connection that was opened."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from opening import resolver_fixture as _resolver  # noqa: F401 - a fixture
from tls_opening import (
    LOOPBACK,
    OTHER,
    echoing,
    names_fixture,  # noqa: F401 - a fixture
    own_der,
    peer,
    serving,
    shaking,
    silent,
    tls_of,
    to,
    trusted_file_fixture,  # noqa: F401 - a fixture
    trusting_fixture,  # noqa: F401 - a fixture
)
from tls_support import BOTH_VERSIONS, HOST, V12, V13, client_context

from landline import (
    SocketAddress,
    SslAbstractContext,
    SslHandshakeTimeout,
    SslVerificationFailure,
    TlsInfo,
    create_ssl_client_context,
    open_tcp_stream,
)
from landline.testing.contract.stage import BRIEF
from landline.tls.names import NOT_GIVEN

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")


@BOTH_VERSIONS
@pytest.mark.usefixtures("names")
def test_stream_tls_tells_everything_also_after_close(version: ssl.TLSVersion, trusted_file: str) -> None:
    context = create_ssl_client_context(openssl_trusted_file=trusted_file, alpn=["h2", "http/1.1"])
    server = serving(version)
    server.set_alpn_protocols(["http/1.1"])
    of_server: list[TlsInfo | None] = []
    with peer(shaking(server, lambda stream: of_server.append(stream.tls))) as listener:
        with to(listener, context, HOST, tlsext_host_name=OTHER) as stream:
            open_one = stream.tls
        tls = stream.tls
    assert tls is not None
    assert open_one is tls
    assert tls.version == {V12: "TLSv1.2", V13: "TLSv1.3"}[version]
    assert tls.cipher.startswith(("ECDHE-ECDSA-", "TLS_"))
    assert tls.cipher_bits in (128, 256)
    assert tls.alpn == "http/1.1"
    assert not tls.session_reused
    assert not tls.server_side
    assert (tls.sni, tls.checked_name) == (OTHER, HOST)
    assert tls.chain[0] == own_der()
    assert tls.required
    assert tls.verify() == (True, "")
    assert tls.certificate == tls.certificates[0]
    assert tls.certificate is not None
    assert {HOST, OTHER} <= set(tls.certificate.names)
    assert str(tls.certificate.addresses[0]) == LOOPBACK
    assert "chain" not in repr(tls)
    (theirs,) = of_server
    assert theirs is not None
    assert (theirs.version, theirs.cipher, theirs.alpn) == (tls.version, tls.cipher, tls.alpn)
    assert (theirs.server_side, theirs.sni, theirs.checked_name, theirs.chain) == (True, None, None, ())
    assert theirs.certificate is None
    assert theirs.verify() == (False, "the peer showed no certificate")


def test_stream_tls_is_none_before_the_handshake_is_done() -> None:
    with peer(silent) as listener, open_tcp_stream(LOOPBACK, listener.port) as stream:
        assert stream.tls is None
        for attempt in (
            lambda: stream.start_tls(client_context(), handshake_timeout=BRIEF),
            lambda: stream.handshake(BRIEF),
        ):
            with pytest.raises(SslHandshakeTimeout):
                attempt()
            assert stream.tls is None
    assert stream.tls is None


# ---- resumption (DESIGN 7) -------------------------------------------------------------------------------


@BOTH_VERSIONS
@pytest.mark.usefixtures("names")
def test_sessions_resume_for_the_same_peer_and_name_in_one_context(version: ssl.TLSVersion, trusted_file: str) -> None:
    """And in no other case, although the server, the same one throughout, would resume them all."""
    server = serving(version)
    one, two = (create_ssl_client_context(openssl_trusted_file=trusted_file) for _ in range(2))
    own = client_context()
    reused = []
    # (context, host, name sent): resumed is what has been there before, in the same line.
    openings: list[tuple[Any, str, Any, bool]] = [
        (one, HOST, NOT_GIVEN, False),
        (one, HOST, NOT_GIVEN, True),
        (one, HOST, NOT_GIVEN, True),
        (one, OTHER, NOT_GIVEN, False),  # another name
        (one, OTHER, HOST, False),  # the first name sent, another one checked
        (one, HOST, OTHER, False),
        (one, HOST, None, False),
        (one, LOOPBACK, NOT_GIVEN, False),
        (one, HOST, NOT_GIVEN, True),
        (two, HOST, NOT_GIVEN, False),  # another context
        (own, HOST, NOT_GIVEN, False),  # one's own begins to keep them at its second use
        (own, HOST, NOT_GIVEN, False),
        (own, HOST, NOT_GIVEN, True),
        (own, OTHER, NOT_GIVEN, False),
    ]
    with peer(*[echoing(server)] * (len(openings) + 1)) as listener, peer(echoing(server)) as elsewhere:
        for context, host, sni, _ in openings:
            with to(listener, context, host, tlsext_host_name=sni) as stream:
                reused.append(tls_of(stream).session_reused)
        with to(elsewhere, one, HOST) as stream:  # another port
            assert not tls_of(stream).session_reused
        one.reset()
        with to(listener, one, HOST) as stream:
            assert not tls_of(stream).session_reused
    assert reused == [expected for *_, expected in openings]


@BOTH_VERSIONS
def test_a_resumed_session_tells_who_the_peer_is(version: ssl.TLSVersion, trusting: SslAbstractContext) -> None:
    with peer(*[echoing(server := serving(version))] * 2) as listener:
        for resumed in (False, True):
            with to(listener, trusting) as stream:
                tls = tls_of(stream)
            assert tls.session_reused is resumed
            assert tls.chain[0] == own_der()
            assert tls.verify().ok
    assert server.session_stats()["hits"] == 1


@BOTH_VERSIONS
def test_a_session_whose_peer_was_refused_is_not_kept(version: ssl.TLSVersion, trusted_file: str) -> None:
    answers = iter([False, True, True])
    context = create_ssl_client_context(openssl_trusted_file=trusted_file, verify_callback=lambda stream: next(answers))
    with peer(*[echoing(server := serving(version))] * 3) as listener:
        with pytest.raises(SslVerificationFailure):
            to(listener, context)
        for resumed in (False, True):
            with to(listener, context) as stream:
                assert tls_of(stream).session_reused is resumed
    assert server.session_stats()["hits"] == 1


def test_addresses_and_report_are_those_of_a_plain_stream_and_more(trusting: SslAbstractContext) -> None:
    with peer(echoing()) as listener, to(listener, trusting) as stream:
        assert stream.peer_address == listener.address
        assert isinstance(stream.local_address, SocketAddress)
        report = stream.report
        assert report is not None
        assert report.winner is not None
        record = report.handshake
    assert record is not None
    assert record.ended is not None
    assert report.winner.ended is not None
    assert 0 < report.winner.ended <= record.started < record.ended == report.elapsed
    assert (record.version, record.error) == ("TLSv1.3", None)
    first, *_, last = str(report).splitlines()
    assert first.startswith(f"{LOOPBACK} port {listener.port}: connected after ")
    assert last.endswith("TLS handshake: TLSv1.3")
