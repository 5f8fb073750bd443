"""Resumption: a session is offered only where a full handshake would have verified the very same things."""

from __future__ import annotations

import gc
import ssl
import threading
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
from certificates import (
    HOST,
    PEER,
    Certificates,
    Pair,
    matrix,  # noqa: F401 - the fixture `certificates`
)

from landline.address import SocketAddress, parse_host
from landline.tls.abstract import SslAbstractContext, create_ssl_client_context
from landline.tls.plan import TlsPlan, client_plan
from landline.tls.sessions import MOST_PER_PEER, SessionCache, sessions_of


def to(ssl_ctx: object, host: str = HOST, **more: Any) -> TlsPlan:
    plan = client_plan(ssl_ctx, parse_host(host), **more)
    assert plan is not None
    return plan


@pytest.fixture
def context(certificates: Certificates) -> SslAbstractContext:
    return create_ssl_client_context(openssl_trusted_file=certificates.trusted_file)


def connect(plan: TlsPlan, server: ssl.SSLContext, peer: SocketAddress = PEER) -> bool:
    """Connect, receive, remember; return whether an earlier session was resumed."""
    pair = Pair(plan, server, peer).shake().receive().remember()
    return bool(pair.client.session_reused)


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name)
def server(request: pytest.FixtureRequest, certificates: Certificates) -> ssl.SSLContext:
    server = certificates["good"].server()
    server.maximum_version = request.param
    return server


def test_the_same_connection_again_resumes(context: SslAbstractContext, server: ssl.SSLContext) -> None:
    assert [connect(to(context), server) for _ in range(4)] == [False, True, True, True]


def test_also_without_sni_and_with_another(context: SslAbstractContext, server: ssl.SSLContext) -> None:
    """A resumed session is checked by us again: its certificate comes out of the session."""
    for sni in (None, "other.example"):
        plan = to(context, tlsext_host_name=sni)
        assert [connect(plan, server) for _ in range(3)] == [False, True, True]


def test_it_is_offered_to_no_other(context: SslAbstractContext, certificates: Certificates) -> None:
    """Same server, same key for tickets: it would resume them all."""
    leaf = certificates["good wildcard"]
    server = leaf.server()
    assert connect(to(context, "a.wild.example"), server) is False
    assert connect(to(context, "b.wild.example"), server) is False
    assert connect(to(context, "a.wild.example", tlsext_host_name=None), server) is False
    assert connect(to(context, "a.wild.example", tlsext_host_name="b.wild.example"), server) is False
    for peer in (SocketAddress("192.0.2.2", 443), SocketAddress("192.0.2.1", 444)):
        assert connect(to(context, "a.wild.example"), server, peer) is False
    another = create_ssl_client_context(openssl_trusted_file=certificates.trusted_file)
    assert connect(to(another, "a.wild.example"), server) is False
    assert connect(to(context, "a.wild.example"), server) is True


def test_a_resumed_session_cannot_carry_trust_to_another_name(
    context: SslAbstractContext, certificates: Certificates
) -> None:
    """OpenSSL does not look at the name again: the cache is what stands between."""
    server = certificates["good"].server()
    connect(to(context), server)
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(to(context, "bad.example"), server)


def test_reset_drops_sessions(context: SslAbstractContext, server: ssl.SSLContext) -> None:
    connect(to(context), server)
    context.reset()
    assert connect(to(context), server) is False


def test_a_context_for_one_call_keeps_none(certificates: Certificates, server: ssl.SSLContext) -> None:
    def trust(made: ssl.SSLContext) -> None:
        made.load_verify_locations(certificates.trusted_file)

    plan = to(True, ctx_configure_callback=trust)
    assert plan.sessions is None
    assert [connect(plan, server) for _ in range(2)] == [False, False]


def test_a_session_is_offered_once(context: SslAbstractContext, server: ssl.SSLContext) -> None:
    """RFC 8446 C.4; and a handshake that failed has used its session up."""
    connect(to(context), server)
    plan = to(context)
    assert plan.session_for(PEER) is not None
    assert plan.session_for(PEER) is None


def test_before_the_ticket_there_is_nothing_to_keep(context: SslAbstractContext, certificates: Certificates) -> None:
    """TLS 1.3: it comes with what is read after the handshake."""
    plan = to(context)
    pair = Pair(plan, certificates["good"].server()).shake().remember()
    assert plan.sessions is not None
    assert len(plan.sessions) == 0
    pair.receive().remember().remember()
    assert len(plan.sessions) == 1


# ---- a user's own context ------------------------------------------------------------------------


def own(certificates: Certificates) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificates.trusted_file)


def test_a_users_context_resumes_from_its_second_use_on(certificates: Certificates, server: ssl.SSLContext) -> None:
    mine = own(certificates)
    assert [connect(to(mine), server) for _ in range(4)] == [False, False, True, True]


def test_what_its_owner_changes_is_asked_anew(certificates: Certificates) -> None:
    """A session of the time when nobody was verified must not stand in for a verification."""
    mine, server = own(certificates), certificates["good"].server()
    mine.check_hostname = False
    mine.verify_mode = ssl.CERT_NONE
    for _ in range(3):
        connect(to(mine), server)
    mine.verify_mode = ssl.CERT_REQUIRED
    assert connect(to(mine), server) is False
    mine.check_hostname = True
    assert connect(to(mine), server) is False
    mine.verify_flags ^= ssl.VERIFY_X509_STRICT
    assert connect(to(mine), server) is False
    assert connect(to(mine), server) is True


def test_a_change_before_the_ticket_comes_counts_too(certificates: Certificates) -> None:
    """Nobody was verified; the ticket is there when everybody is to be."""
    mine, server = own(certificates), certificates["good"].server()
    mine.check_hostname = False
    mine.verify_mode = ssl.CERT_NONE
    connect(to(mine), server)
    plan = to(mine)
    pair = Pair(plan, server).shake().receive()
    mine.verify_mode = ssl.CERT_REQUIRED
    pair.remember()
    assert plan.sessions is not None
    assert len(plan.sessions) == 0
    assert connect(to(mine), server) is False


def test_its_owner_may_want_none(certificates: Certificates) -> None:
    mine = own(certificates)
    mine.options |= ssl.OP_NO_TICKET
    assert sessions_of(mine) is sessions_of(mine) is None


def test_a_context_for_one_connection_is_freed_at_once(certificates: Certificates) -> None:
    """A session holds its context: kept by it, only the collector would free both, with all their roots."""
    mine = own(certificates)
    connect(to(mine), certificates["good"].server())
    gc.collect()
    gc.disable()
    try:
        gone = weakref.ref(mine)
        del mine
        assert gone() is None
    finally:
        gc.enable()


def test_a_context_used_often_can_be_freed(certificates: Certificates) -> None:
    mine, server = own(certificates), certificates["good"].server()
    for _ in range(3):
        connect(to(mine), server)
    gone = weakref.ref(mine)
    del mine
    gc.collect()
    assert gone() is None


# ---- the cache itself ----------------------------------------------------------------------------


def fake(number: int, *, time: int = 1 << 40, has_ticket: bool = True) -> Any:
    return SimpleNamespace(id=number.to_bytes(4, "big"), time=time, timeout=60, has_ticket=has_ticket)


def test_the_cache_is_bounded() -> None:
    cache = SessionCache(most=3)
    for number in range(5):
        cache.put(number, fake(number))
    assert len(cache) == 3
    assert cache.take(0) is cache.take(1) is None
    assert cache.take(4).id == fake(4).id  # type: ignore[union-attr]
    for number in range(10):
        cache.put("one", fake(number))
    taken = [cache.take("one") for _ in range(MOST_PER_PEER + 1)]
    assert [session and session.id for session in taken] == [*(fake(n).id for n in (9, 8, 7, 6)), None]


def test_the_least_used_goes_first() -> None:
    cache = SessionCache(most=2)
    cache.put("a", fake(1))
    cache.put("b", fake(2))
    cache.put("a", fake(3))
    cache.put("c", fake(4))
    assert cache.take("b") is None
    assert cache.take("a") is not None


def test_what_has_expired_is_not_offered() -> None:
    cache = SessionCache()
    cache.put("a", fake(1, time=0))
    assert cache.take("a") is None
    assert len(cache) == 0


def test_what_cannot_be_resumed_is_not_kept() -> None:
    cache = SessionCache()
    cache.put("a", None)
    cache.put("a", SimpleNamespace(id=b"", has_ticket=False))  # type: ignore[arg-type]
    assert len(cache) == 0
    cache.put("a", fake(1, has_ticket=False))  # TLS 1.2: the server keeps it, under this number
    assert len(cache) == 1


def test_threads_may_use_it_together() -> None:
    cache = SessionCache(most=7)
    taken: list[bytes] = []
    failed: list[BaseException] = []

    def work(start: int) -> None:
        try:
            for number in range(start, start + 2000):
                cache.put(number % 7, fake(number))
                session = cache.take((number + 3) % 7)
                if session is not None:
                    taken.append(session.id)
        except BaseException as error:  # noqa: BLE001 - told by the assertion
            failed.append(error)

    threads = [threading.Thread(target=work, args=(10_000 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failed == []
    assert len(taken) == len(set(taken)) > 0
