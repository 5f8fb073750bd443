"""How handshakes fail: each condition of TLS, brought about by a peer; what bounds them; and that nothing is left."""

from __future__ import annotations

import gc
import os
import socket
import ssl
import threading
import time
import weakref
from itertools import cycle, islice
from typing import Any

import pytest
from opening import Listener, Resolver, timing
from opening import resolver_fixture as _resolver  # noqa: F401 - a fixture
from pairs import (
    needs_signals,
    signals,
)
from tls_opening import (
    LOOPBACK,
    WRONG,
    Cut,
    Drip,
    Peer,
    carrying,
    echoing,
    every_cut,
    finish,
    hear,
    names_fixture,  # noqa: F401 - a fixture
    peer,
    refused,
    reset,
    says,
    serving,
    shaking,
    silent,
    tls_of,
    to,
    trusted_file_fixture,  # noqa: F401 - a fixture
    trusting_fixture,  # noqa: F401 - a fixture
)
from tls_support import BOTH_VERSIONS, HOST, V12, V13, authority, client_context

from landline import (
    Cancel,
    SocketConnectError,
    SslAbstractContext,
    SslClosed,
    SslCondition,
    SslError,
    SslFailure,
    SslHandshakeTimeout,
    SslVersionOrCipherMismatch,
    StreamClosed,
    create_ssl_client_context,
)
from landline.testing.contract.stage import PATIENCE, PROMPT, Task

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

CLOSE_NOTIFY = b"\x15\x03\x03\x00\x02\x01\x00"


def failing(listener: Listener, ssl_ctx: object, **more: Any) -> SslCondition:
    """The condition of an opening, with the facts that every one has."""
    with pytest.raises(SslCondition) as caught:
        to(listener, ssl_ctx, **more)
    condition = caught.value
    assert (condition.operation, condition.address) == ("handshake", listener.address)
    assert str(listener.address) in str(condition)
    report = condition.report
    assert report is not None
    assert report.winner is not None
    record = report.handshake
    assert record is not None
    assert record.error is not None
    assert record.ended is not None
    assert 0 < record.started <= record.ended == report.elapsed
    assert record.version is None
    first, *_, last = str(report).splitlines()
    assert first.startswith(f"{listener.host} port {listener.port}: connected, but without TLS after ")
    assert "TLS handshake: failed: " in last
    return condition


# ---- the conditions (DESIGN 3) ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "speaks plain HTTP, not TLS; it began with 'HTTP/1.1 400 Bad Request"),
        (b"220 mail.example ESMTP\r\n", "does not speak TLS; it began with '220 mail.example ESMTP"),
        (b"\x1b[2J\x00\xff" * 20, r"does not speak TLS; it began with '\x1b[2J\x00\xff"),
        (b"\x16\x03\x03\x00\x05hello", ""),
        (b"\x16\x03\x03\xff\xff" + bytes(70000), ""),
        (b"\x17\x03\x03\x00\x05hello", ""),
    ],
    ids=["http", "smtp", "garbage", "handshake", "too long", "data"],
)
def test_a_peer_that_speaks_something_else_is_ssl_failure(
    words: bytes, told: str, trusting: SslAbstractContext
) -> None:
    with peer(says(words)) as listener:
        condition = failing(listener, trusting)
    assert type(condition) is SslFailure
    assert told in str(condition)
    assert str(condition).isprintable()
    assert isinstance(condition.__cause__, ssl.SSLError)


def test_a_peer_that_ends_at_once_is_ssl_error(trusting: SslAbstractContext) -> None:
    """Before it has heard anything, and after the ClientHello."""
    with peer(finish, says()) as listener:
        for _ in range(2):
            condition = failing(listener, trusting)
            assert type(condition) is SslError
            assert "the peer ended the connection without close_notify" in str(condition)


def test_a_peer_that_resets_at_once_is_ssl_error(trusting: SslAbstractContext) -> None:
    times = 100
    with peer(*[reset] * times) as listener:
        for _ in range(times):
            # The reset may even come before this side knows that it is connected.
            with pytest.raises((SslError, SocketConnectError)) as caught:
                to(listener, trusting)
            assert isinstance(caught.value, ConnectionError)


def test_a_reset_is_told_with_its_cause(trusting: SslAbstractContext) -> None:
    def hear_and_reset(sock: Any) -> None:
        hear(sock)
        reset(sock)

    with peer(hear_and_reset) as listener:
        condition = failing(listener, trusting)
    assert isinstance(condition, SslError)
    assert isinstance(condition, ConnectionResetError)
    assert isinstance(condition.__cause__, ConnectionResetError)
    assert condition.errno == condition.__cause__.errno


@BOTH_VERSIONS
def test_a_peer_that_closes_tls_in_the_middle_is_ssl_closed(version: ssl.TLSVersion) -> None:

    def close(sock: socket.socket) -> None:
        sock.sendall(CLOSE_NOTIFY)
        finish(sock)

    with peer(says(CLOSE_NOTIFY), carrying(serving(V12), Cut(1, 0, close))) as listener:
        for context in (client_context(version), client_context(V12)):
            condition = failing(listener, context)
            assert type(condition) is SslClosed
            assert "closed TLS in the middle of the handshake" in str(condition)


def mismatches() -> dict[str, tuple[ssl.SSLContext, ssl.SSLContext]]:
    """(client, server) that have nothing in common; who notices differs."""
    rsa, old = client_context(V12), serving(V12)
    rsa.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")  # and the server's key is not RSA
    old.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    other = client_context(V12)
    other.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    return {
        "client later": (client_context(V13), serving(V12)),
        "server later": (client_context(V12), serving(V13)),
        "kind of key": (rsa, serving(V12)),
        "ciphers": (other, old),
    }


@pytest.mark.parametrize("kind", mismatches())
def test_nothing_in_common_is_a_mismatch_on_both_sides(kind: str) -> None:
    client, server = mismatches()[kind]
    seen: list[SslCondition] = []

    def serve(sock: Any) -> None:
        with pytest.raises(SslVersionOrCipherMismatch) as caught:
            shaking(server)(sock)
        seen.append(caught.value)

    with peer(serve) as listener:
        condition = failing(listener, client)
    assert type(condition) is SslVersionOrCipherMismatch
    assert isinstance(condition.ssl_code, str)
    (other,) = seen
    assert isinstance(other.ssl_code, str)


def test_a_server_that_wants_a_certificate_is_no_mismatch() -> None:
    """In TLS 1.2 its alert is the same as where there is nothing in common: "handshake failure"."""
    server = serving(V12)
    server.verify_mode = ssl.CERT_REQUIRED
    authority().configure_trust(server)
    with peer(refused(server)) as listener:
        condition = failing(listener, client_context(V12))
    assert type(condition) is SslFailure
    assert "the peer refuses, with the alert 'handshake failure'" in str(condition)


# ---- time ------------------------------------------------------------------------------------------------

LIMITS: list[dict[str, Any]] = [
    {"handshake_timeout": 0.05},
    {"timeout": 0.05},
    {"read_timeout": 0.05},
    {"handshake_timeout": 0.05, "timeout": 60, "read_timeout": 60},
    {"timeout": 0.05, "read_timeout": 60},
]


def said_of(limits: dict[str, Any]) -> str:
    return "{}={:g} s".format(*next(iter(limits.items())))


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("host", [LOOPBACK, HOST])
@pytest.mark.usefixtures("names")
def test_a_silent_peer_is_a_handshake_timeout_in_time(
    limits: dict[str, Any], host: str, trusting: SslAbstractContext
) -> None:
    with peer(silent) as listener, timing() as took, pytest.raises(SslHandshakeTimeout) as caught:
        to(listener, trusting, host, **limits)
    assert isinstance(caught.value, TimeoutError)
    assert str(caught.value) == (f"the TLS handshake with {listener.address} was not done within {said_of(limits)}")
    assert 0.04 < took.seconds < PATIENCE / 4


@pytest.mark.parametrize("limits", [limits for limits in LIMITS if limits.get("read_timeout") != 0.05], ids=str)
@BOTH_VERSIONS
def test_a_dripping_peer_is_a_handshake_timeout_in_time(limits: dict[str, Any], version: ssl.TLSVersion) -> None:
    """It sends something all the time, and would need several seconds."""
    drip = Drip(0.004)
    with peer(carrying(serving(version), drip)) as listener, timing() as took:
        condition = failing(listener, client_context(version), **limits)
    assert isinstance(condition, SslHandshakeTimeout)
    assert isinstance(condition, TimeoutError)
    assert said_of(limits) in str(condition)
    assert 0.04 < took.seconds < PATIENCE / 4
    assert drip.count > 1


@BOTH_VERSIONS
def test_read_timeout_bounds_each_wait_and_not_their_sum(version: ssl.TLSVersion) -> None:
    """DESIGN 4.2: an idle limit. A peer that makes progress is not cut off by it; one that stops is."""
    drip = Drip(0)

    def half(sock: Any, data: bytes) -> bool:
        drip(sock, data[:100])
        silent(sock)
        return False

    with peer(carrying(serving(version), drip), carrying(serving(version), half)) as listener:
        to(listener, client_context(version), read_timeout=PATIENCE).close()
        condition = failing(listener, client_context(version), read_timeout=0.05)
    assert type(condition) is SslHandshakeTimeout
    assert "within read_timeout=0.05 s" in str(condition)


def test_handshake_timeout_does_not_count_for_timeout(trusting: SslAbstractContext) -> None:
    """With both given, the time for the opening may be over before the handshake begins, and that is a long one."""
    timeout = 0.3

    def late(ssl_object: ssl.SSLObject) -> None:
        time.sleep(timeout * 1.1)

    def slowly(sock: socket.socket, data: bytes) -> bool:
        time.sleep(0.05)
        sock.sendall(data)
        return True

    with peer(carrying(serving(), slowly), silent) as listener:
        more: dict[str, Any] = {"timeout": timeout, "ssl_configure_callback": late}
        to(listener, trusting, handshake_timeout=PATIENCE, **more).close()
        assert said_of({"timeout": timeout}) in str(failing(listener, trusting, **more))


def test_timeout_does_not_count_for_handshake_timeout(resolver: Resolver, trusting: SslAbstractContext) -> None:
    """The clock of the handshake begins with the handshake, however long the lookup took."""
    limit = 0.4
    gate = resolver.say(HOST, [LOOPBACK], held=[socket.AF_INET, socket.AF_INET6])
    with peer(shaking(serving())) as listener:
        opening = Task(lambda: to(listener, trusting, HOST, handshake_timeout=limit))
        resolver.wait_for_calls(1)
        time.sleep(limit * 1.1)
        gate.set()
        opening.result().close()


def test_a_limit_that_has_passed_when_the_handshake_begins_is_a_handshake_timeout() -> None:
    with peer(silent, silent, silent) as listener:
        for limits in ({"handshake_timeout": 0}, {"read_timeout": 0}, {"handshake_timeout": 0.0, "timeout": 60}):
            assert isinstance(failing(listener, client_context(), **limits), SslHandshakeTimeout)


# ---- cut -------------------------------------------------------------------------------------------------


@BOTH_VERSIONS
@pytest.mark.parametrize("end", [finish, reset])
def test_a_handshake_cut_anywhere_is_ssl_error(version: ssl.TLSVersion, end: Peer) -> None:
    """After every record, after every 50th byte, and before the last one."""
    cuts = every_cut(version)
    assert len(cuts) > 20
    context, server = client_context(version), serving(version)
    with peer(*[carrying(server, Cut(whole, size, end)) for whole, size in cuts]) as listener:
        for _ in cuts:
            condition = failing(listener, context)
            assert isinstance(condition, SslError)
            if end is finish:
                assert "the peer ended the connection without close_notify" in str(condition)


# ---- given up --------------------------------------------------------------------------------------------


def cancelled(listener: Listener, heard: threading.Semaphore) -> tuple[float, StreamClosed]:
    """Cancel an opening in its handshake: the seconds it takes to end, and how."""
    cancel = Cancel()
    opening = Task(lambda: to(listener, client_context(), cancel=cancel))
    assert heard.acquire(timeout=PATIENCE)
    opening.blocked()
    began = time.monotonic()
    cancel.set()
    condition = opening.failure(StreamClosed)
    assert cancel._listeners == []
    return opening.ended_at - began, condition


def test_cancel_ends_a_handshake_within_50_ms() -> None:
    heard = threading.Semaphore(0)

    def hears(sock: socket.socket) -> None:
        hear(sock)
        heard.release()
        silent(sock)

    with peer(*[hears] * 5) as listener:
        outcomes = [cancelled(listener, heard) for _ in range(5)]
    assert min(seconds for seconds, _ in outcomes) < PROMPT
    _, condition = outcomes[0]
    assert "was cancelled" in str(condition)
    assert condition.address == listener.address
    report = condition.report
    assert report is not None
    assert report.handshake is not None
    assert report.handshake.ended == report.elapsed is not None
    first, *_, last = str(report).splitlines()
    assert "connected, but without TLS after" in first
    assert "under way" not in last


@pytest.mark.parametrize("when", ["ssl_configure_callback", "verify_callback"])
def test_cancel_in_a_callback_ends_the_opening_too(when: str, trusted_file: str) -> None:
    """The stream has not been given to anybody: whoever cancels must not be given one that was woken for good."""
    cancel = Cancel()

    def give_up(_: object) -> bool:
        cancel.set()
        return True

    more: dict[str, Any] = {when: give_up}
    context = create_ssl_client_context(
        openssl_trusted_file=trusted_file, **(more if when == "verify_callback" else {})
    )
    with peer(refused(serving())) as listener, pytest.raises(StreamClosed, match="was cancelled"):
        to(listener, context, cancel=cancel, **({} if when == "verify_callback" else more))


def test_cancel_after_the_opening_leaves_the_stream_alone(trusting: SslAbstractContext) -> None:
    cancel = Cancel()
    with peer(echoing()) as listener, to(listener, trusting, cancel=cancel) as stream:
        cancel.set()
        assert tls_of(stream).verify().ok


@needs_signals
@pytest.mark.parametrize("limits", [{}, {"handshake_timeout": 60}, {"read_timeout": 60}], ids=str)
def test_ctrl_c_in_the_handshake_closes_everything(limits: dict[str, Any]) -> None:
    heard = threading.Event()

    def hears(sock: socket.socket) -> None:
        hear(sock)
        heard.set()
        silent(sock)  # which ends when the other side is closed

    def interrupt() -> None:
        raise KeyboardInterrupt

    with peer(hears) as listener, signals(interrupt, when=heard.is_set), pytest.raises(KeyboardInterrupt):
        to(listener, client_context(), **limits)


# ---- a thousand ------------------------------------------------------------------------------------------


class Mine(Exception):
    """Raised by callbacks. (To what is built in there is no weak reference.)"""


def failures(version: ssl.TLSVersion, trusted_file: str) -> list[tuple[Peer, Any, dict[str, Any]]]:
    """(peer, ssl_ctx, arguments) of every kind."""

    def fail(_: object) -> None:
        raise Mine

    server, trusting = serving(version), client_context(version)
    refusing = create_ssl_client_context(openssl_trusted_file=trusted_file, verify_callback=lambda stream: False)
    raising = create_ssl_client_context(openssl_trusted_file=trusted_file, verify_callback=fail)
    other = V13 if version is V12 else V12
    return [
        (finish, trusting, {}),
        (reset, trusting, {}),
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), trusting, {}),
        (says(b"\x16\x03\x03\x00\x05hello"), trusting, {}),
        (says(CLOSE_NOTIFY), trusting, {}),
        (silent, trusting, {"handshake_timeout": 0}),
        (silent, trusting, {"timeout": 0.001}),
        (refused(server), client_context(version, trust=False), {}),
        (refused(server), trusting, {"host": WRONG}),
        (refused(server), trusting, {"host": WRONG, "tlsext_host_name": None}),
        (refused(serving(other)), trusting, {}),
        (refused(server), refusing, {}),
        (refused(server), raising, {}),
        (refused(server), trusting, {"ssl_configure_callback": fail}),
        (carrying(server, Cut(1, 30, finish)), trusting, {}),
        (carrying(server, Cut(2, 30, reset)), trusting, {}),
    ]


def test_a_thousand_failing_handshakes_leave_nothing_behind(names: Resolver, trusted_file: str) -> None:
    """No descriptor and no thread (`no_leaks`), no object, and no memory of OpenSSL's."""
    kinds = [*failures(V12, trusted_file), *failures(V13, trusted_file)]
    many = list(islice(cycle(kinds), 1000))
    warm_up = list(islice(cycle(kinds), 3 * len(kinds)))

    def fail(mix: list[tuple[Peer, Any, dict[str, Any]]]) -> tuple[int, int]:
        with peer(*[behave for behave, _, _ in mix]) as listener:
            for _, context, more in mix:
                with pytest.raises((OSError, Mine)):
                    to(listener, context, **more)
        names.calls.clear()
        gc.collect()
        return len(gc.get_objects()), resident()

    objects, memory = fail(warm_up)
    after, memory_after = fail(many)
    assert after - objects < 100
    assert memory_after - memory < 8 << 20


def resident() -> int:
    """Bytes of memory that this process has; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@pytest.mark.usefixtures("names")
def test_a_failed_handshake_is_freed_without_the_collector(trusted_file: str) -> None:
    """As a failed connect is: nothing in it refers to itself, its report included."""
    left: list[weakref.ref[BaseException]] = []
    kinds = failures(V13, trusted_file)
    with peer(*[behave for behave, _, _ in kinds]) as listener:
        gc.disable()
        try:
            for _, context, more in kinds:
                try:
                    to(listener, context, **more)
                except (OSError, Mine) as error:
                    left.append(weakref.ref(error))
            alive = [repr(one()) for one in left if one() is not None]
        finally:
            gc.enable()
    assert len(left) == len(kinds)
    assert alive == []
