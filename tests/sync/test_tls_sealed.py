"""TLS streams: after TLS began no byte leaves in the clear, however the stream ends."""

from __future__ import annotations

import gc
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from tls_support import (
    BOTH_VERSIONS,
    HOST,
    authority,
    client_context,
    of_version,
    server_context,
)
from tls_wire import Wire, closes_in_vain, fails_inside, records

from landline import (
    ReadTimeout,
    SocketError,
    SocketStream,
    SslCondition,
    SslError,
    StreamClosed,
    create_ssl_client_context,
    start_up_server,
)
from landline.testing.contract.reading import send
from landline.testing.contract.stage import BRIEF, PATIENCE, Task, all_that_came, stall, until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

MARK = b"what nobody in between may read\n"
BOTH_SIDES = pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])


# ---- nothing in the clear ------------------------------------------------------------------------------


def _times_out_reading(stream: SocketStream) -> None:
    stream.write(MARK)
    stream.read_timeout = BRIEF
    with pytest.raises(ReadTimeout):
        stream.readline()
    stream.write(MARK)
    stream.close()


def _times_out_writing(stream: SocketStream) -> None:
    stall(stream, MARK * 100_000)
    closes_in_vain(stream)


def _is_not_answered(stream: SocketStream) -> None:
    stream.read_timeout = BRIEF
    with pytest.raises(ReadTimeout):
        stream.stop_tls()
    with pytest.raises(StreamClosed):
        send(stream, MARK)
    with pytest.raises(ValueError, match="TLS is active"):
        stream.detach()
    stream.close()


def _cannot_be_detached(stream: SocketStream) -> None:
    with pytest.raises(ValueError, match="TLS is active"):
        stream.detach()
    stream.close()


def _ends_a_half(direction: Any, abort: bool) -> Callable[[SocketStream], object]:
    def end(stream: SocketStream) -> None:
        stream.shutdown(direction, abort)
        with suppress(StreamClosed):
            send(stream, MARK)
        stream.close()

    return end


QUITTING: dict[str, Callable[[SocketStream], object]] = {
    "close": lambda stream: stream.close(),
    "abort": lambda stream: stream.abort(),
    "output": _ends_a_half("output", False),
    "input": _ends_a_half("input", False),
    "io": _ends_a_half("io", False),
    "output-abort": _ends_a_half("output", True),
    "io-abort": _ends_a_half("io", True),
    "read_timeout": _times_out_reading,
    "write_timeout": _times_out_writing,
    "exception": fails_inside,
    "stop_tls": _is_not_answered,
    "detach": _cannot_be_detached,
}


@BOTH_VERSIONS
@BOTH_SIDES
@pytest.mark.parametrize("ending", QUITTING)
def test_nothing_passes_in_the_clear_however_a_stream_ends(
    version: ssl.TLSVersion, server_side: bool, ending: str
) -> None:
    """Whoever is in between sees records from the first byte to the last, and no payload; a cut may end them."""
    with Wire() as wire:
        stream, peer = SocketStream(wire.near), SocketStream(wire.far)
        client, server = (peer, stream) if server_side else (stream, peer)
        serving = Task(lambda: server.start_tls(server_context(version)))
        client.start_tls(client_context(version), host=HOST)
        serving.result()
        send(peer, MARK)
        assert stream.readline() == MARK
        stream.write(MARK)
        QUITTING[ending](stream)
        stream.abort()
        all_that_came(peer)
        peer.abort()
    assert_sealed(wire)
    if ending in ("close", "output", "io", "input", "exception", "detach", "read_timeout"):
        assert records(wire.sent)[-1].is_alert


@BOTH_VERSIONS
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_nothing_passes_in_the_clear_when_a_stream_is_collected(version: ssl.TLSVersion) -> None:
    with Wire() as wire:
        stream, peer = SocketStream(wire.near), SocketStream(wire.far)
        serving = Task(partial(stream.start_tls, server_context(version)))
        peer.start_tls(client_context(version), host=HOST)
        serving.result()
        stream.write(MARK)
        del stream, serving
        gc.collect()
        assert peer.read() == MARK
        peer.close()
    assert_sealed(wire)


@BOTH_VERSIONS
@pytest.mark.parametrize("reads", [False, True], ids=["unread", "read"])
def test_nothing_passes_in_the_clear_when_a_handler_raises(
    version: ssl.TLSVersion, reads: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What was sent has a proper end. What waits to be sent is dropped, and the end is a truncation."""

    def handler(stream: SocketStream) -> None:
        stream.write(MARK)
        if reads:
            stream.readline()
        raise KeyError("in the handler")

    with start_up_server(handler, ssl_ctx=server_context(version)) as server:
        with Wire(server.port) as wire, SocketStream(wire.near) as client:
            client.start_tls(client_context(version), host=HOST)
            send(client, MARK)
            if reads:
                assert client.read() == MARK
            else:
                with pytest.raises(SslError):
                    client.read()
        until(lambda: not server.connections)
    assert "KeyError" in caplog.text
    assert_sealed(wire)
    assert records(wire.answered)[-1].is_alert == reads


def assert_sealed(wire: Wire) -> None:
    for direction in (wire.sent, wire.answered):
        assert records(direction, cut=True)
        assert MARK[:10] not in direction


def _refuses(*_: object) -> bool:
    return False


def _raises(*_: object) -> bool:
    raise KeyError("in the callback")


def _silent(peer: SocketStream) -> None:
    assert peer.read_exactly(5)[0] == 22


def _speaks_http(peer: SocketStream) -> None:
    send(peer, b"HTTP/1.0 400 Bad Request\r\n\r\nspeak up\r\n")


def _asking(callback: Callable[[Any], object]) -> Callable[[ssl.TLSVersion], Any]:
    return lambda version: create_ssl_client_context(
        verify_callback=callback,
        openssl_ctx_configure_callback=lambda context: authority().configure_trust(of_version(context, version)),
    )


FAILING: dict[str, tuple[Callable[[ssl.TLSVersion], Any], str, Callable[[SocketStream], object] | None]] = {
    "authority": (lambda version: client_context(version, trust=False), HOST, None),
    "host": (client_context, "other.example", None),
    "callback-refuses": (_asking(_refuses), HOST, None),
    "callback-raises": (_asking(_raises), HOST, None),
    "silence": (client_context, HOST, _silent),
    "http": (client_context, HOST, _speaks_http),
    "end": (client_context, HOST, lambda peer: peer.close()),
}


@BOTH_VERSIONS
@pytest.mark.parametrize("reason", FAILING)
def test_nothing_passes_in_the_clear_after_a_handshake_that_failed(version: ssl.TLSVersion, reason: str) -> None:
    """Whatever the owner of the stream goes on to do with it."""
    make_context, host, act = FAILING[reason]
    with Wire() as wire:
        stream, peer = SocketStream(wire.near), SocketStream(wire.far)
        acting = Task(lambda: act(peer) if act else peer.start_tls(server_context(version)))
        with pytest.raises((SslCondition, KeyError)):
            stream.start_tls(make_context(version), host=host, handshake_timeout=BRIEF if act is _silent else PATIENCE)
        insist(stream)
        with suppress(SocketError):
            acting.result()
        peer.abort()
    assert records(wire.sent, cut=True)
    assert MARK[:10] not in wire.sent
    assert len(wire.sent) < 4000, "what else may be sealed in it?"


@BOTH_VERSIONS
def test_nothing_passes_in_the_clear_when_a_server_refuses_its_client(version: ssl.TLSVersion) -> None:
    with Wire() as wire:
        client, stream = SocketStream(wire.near), SocketStream(wire.far)
        connecting = Task(lambda: client.start_tls(client_context(version), host=HOST))
        with pytest.raises(SslCondition):
            stream.start_tls(server_context(version, client_certificate=True))
        insist(stream)
        with suppress(SocketError):
            connecting.result()
            insist(client)
        client.abort()
    assert_sealed(wire)


def insist(stream: SocketStream) -> None:
    """Try everything that would send."""
    stream.read_timeout = stream.write_timeout = BRIEF
    tries: list[Callable[[], object]] = [
        lambda: stream.write(MARK),
        stream.flush,
        lambda: stream.write(MARK * 10_000),
        stream.readline,
        stream.input_ready,
        stream.read_no_hang,
        stream.stop_tls,
        lambda: stream.shutdown("output"),
        lambda: stream.shutdown("io", abort=True),
        stream.close,
    ]
    for each in tries:
        with suppress(SocketError):
            each()
