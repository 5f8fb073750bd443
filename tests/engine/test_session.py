"""TLS in memory: two sessions whose wire is the test, in TLS 1.2 and 1.3.

Counts have an exact oracle: what a peer can decrypt of the ciphertext that was handed over is what sent() must
have said, no byte more or less.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tls_support import (
    ALPN,
    BOTH_VERSIONS,
    HOST,
    V12,
    V13,
    authority,
    certificate,
    client_context,
    connected,
    cut,
    everything,
    failing,
    move,
    new_client,
    new_server,
    openssl,
    pair,
    server_context,
    shake,
    taken,
)

from landline.engine import session as module
from landline.engine.session import AHEAD, FEED, MOST_REPLIES, RECORD, Session, SessionFailed

VERSIONS = st.sampled_from([V12, V13])
SECRET = b"the secret of the house; " * 40
NOISE = random.Random(7).randbytes(5 * AHEAD)


# ---- the handshake -------------------------------------------------------------------------------


@settings(max_examples=60)
@given(version=VERSIONS, sizes=st.lists(st.integers(1, 4000), max_size=60))
@example(version=V12, sizes=[])
@example(version=V13, sizes=[])
def test_a_handshake_may_arrive_in_any_pieces(version: ssl.TLSVersion, sizes: list[int]) -> None:
    client, server = pair(version)
    while not (client.established and server.established):
        for one, other in ((client, server), (server, client)):
            one.handshake()
            for piece in cut(taken(one), sizes):
                other.feed(piece)
                other.handshake()
    client.write(b"question")
    move(client, server)
    assert server.read(100) == b"question"


@BOTH_VERSIONS
def test_what_was_received_before_tls_began_can_be_its_first_records(version: ssl.TLSVersion) -> None:
    client, server = pair(version)
    client.handshake()
    hello = taken(client)
    server.feed(hello)  # before the first handshake()
    shake(client, server)
    assert server.established


@BOTH_VERSIONS
def test_a_handshake_that_ends_early_is_truncated_wherever_it_ends(version: ssl.TLSVersion) -> None:
    client, server = pair(version)
    client.handshake()
    move(client, server)
    server.handshake()
    flight = taken(server)
    for length in range(0, len(flight) - 1, 13):
        client, _ = pair(version)
        client.handshake()
        client.feed(flight[:length])
        client.feed_end()
        # Of another handshake, and so wrong from some byte on.
        assert failing(client.handshake).failure.kind in ("truncated", "alert", "protocol")
        assert length > 100 or failing(client.handshake).failure.kind == "truncated"


def test_payload_before_the_handshake_is_refused() -> None:
    client, _ = pair(V13)
    for call in (lambda: client.write(SECRET), lambda: client.read(10), lambda: client.read_into(memory(10))):
        with pytest.raises(RuntimeError, match="handshake"):
            call()
    client.handshake()
    with pytest.raises(RuntimeError, match="handshake"):
        client.write(SECRET)
    assert SECRET[:20] not in taken(client)


def test_closing_during_the_handshake_sends_nothing() -> None:
    client, _ = pair(V13)
    client.handshake()
    taken(client)
    client.close_output()
    assert not client.has_outgoing


@BOTH_VERSIONS
def test_facts_tell_what_was_agreed_upon(version: ssl.TLSVersion) -> None:
    ours, theirs = client_context(version), server_context(version)
    ours.set_alpn_protocols(ALPN)
    theirs.set_alpn_protocols(ALPN[1:])
    client, server = new_client(ours), new_server(theirs)
    shake(client, server)
    facts = client.facts()
    assert facts.version == server.facts().version == {V12: "TLSv1.2", V13: "TLSv1.3"}[version]
    assert facts.cipher == client.ssl_object.cipher() == server.facts().cipher
    assert facts.alpn == "http/1.1"
    assert not facts.session_reused
    assert facts.chain == (der(certificate().cert_chain_pems[0].bytes()), der(authority().cert_pem.bytes()))
    assert client.unverified_chain()[0] == facts.chain[0]
    assert server.facts().chain == () == server.unverified_chain()


@BOTH_VERSIONS
def test_client_certificates(version: ssl.TLSVersion) -> None:
    ours = client_context(version)
    certificate("user@peer.example").configure_cert(ours)
    client, server = new_client(ours), new_server(server_context(version, client_certificate=True))
    shake(client, server)
    assert server.facts().chain[0] == der(certificate("user@peer.example").cert_chain_pems[0].bytes())


@BOTH_VERSIONS
def test_a_missing_client_certificate_is_told_by_an_alert(version: ssl.TLSVersion) -> None:
    client, server = new_client(client_context(version)), new_server(server_context(version, client_certificate=True))
    assert failing(shake, client, server).failure.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    # In TLS 1.3 the client's handshake is done by then.
    failure = failing(client.read, 10).failure if client.established else failing(client.handshake).failure
    assert failure.kind == "alert"
    assert failure.established is (version is V13)
    assert failure.alert in ("certificate required", "handshake failure")


@BOTH_VERSIONS
@pytest.mark.parametrize(
    ("trust", "host", "code", "alert"),
    [(False, HOST, 20, "unknown ca"), (True, "other.example", 62, "bad certificate")],
    ids=["authority", "host"],
)
def test_a_refused_certificate_flushes_an_alert(
    version: ssl.TLSVersion, trust: bool, host: str, code: int, alert: str
) -> None:
    client, server = new_client(client_context(version, trust=trust), host=host), new_server(server_context(version))
    failure = failing(shake, client, server).failure
    assert failure.kind == "verification"
    assert failure.verify_code == code
    assert "_ssl.c" not in failure.text
    assert client.unverified_chain()[0] == der(certificate().cert_chain_pems[0].bytes())
    told = failing(server.handshake).failure
    assert (told.kind, told.alert) == ("alert", alert)
    assert failing(client.handshake).failure is failure


def test_a_peer_refused_by_the_caller_gets_no_byte_and_gives_none() -> None:
    client, server = connected(V13)
    server.write(SECRET)
    move(server, client)
    refusal = failing(client.refuse, "the certificate has other names", "NAMES")
    assert (refusal.failure.kind, refusal.failure.reason) == ("verification", "NAMES")
    stays(client, refusal)
    move(client, server)
    assert server.read(10) == b""


def test_versions_that_do_not_meet_are_a_mismatch_on_both_sides() -> None:
    client, server = new_client(client_context(V12)), new_server(server_context(V13))
    assert failing(shake, client, server).failure.kind == "mismatch"
    failure = failing(client.handshake).failure
    assert (failure.kind, failure.alert) == ("mismatch", "protocol version")


def test_ciphers_that_do_not_meet_are_a_mismatch_on_both_sides() -> None:
    ours, theirs = client_context(V12), server_context(V12)
    ours.set_ciphers("ECDHE+AES128+AESGCM")
    theirs.set_ciphers("ECDHE+CHACHA20")
    client, server = new_client(ours), new_server(theirs)
    assert failing(shake, client, server).failure.reason == "NO_SHARED_CIPHER"
    assert failing(client.handshake).failure.kind == "mismatch"


def test_an_exception_in_a_callback_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise LookupError("no such host")

    theirs = server_context(V13)
    theirs.sni_callback = broken
    client, server = new_client(client_context(V13)), new_server(theirs)
    monkeypatch.setattr("sys.unraisablehook", lambda _: None)
    assert failing(shake, client, server).failure.kind == "local"


@pytest.mark.parametrize(
    ("said", "by_client", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n", False, "plain HTTP"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", True, "plain HTTP"),
        (b"CONNECT x:443 HTTP/1.1\r\n\r\n", True, "plain HTTP"),
        (b"220 mail.example ESMTP\x1b[2J\r\n", False, r"'220 mail.example ESMTP\\x1b\[2J"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False, "does not speak TLS"),
        (b"\x16\x02\x01\x00\x10" + bytes(16), False, "does not speak TLS"),
        (b"HTTP", False, "does not speak TLS"),  # and then the end
    ],
)
def test_a_peer_that_does_not_speak_tls_is_quoted(said: bytes, by_client: bool, text: str) -> None:
    session = pair(V13)[by_client]
    if not by_client:
        session.handshake()
    session.feed(said)
    session.feed_end()
    failed = failing(session.handshake)
    assert failed.failure.kind == "not tls"
    assert said.startswith(failed.failure.heard)
    with pytest.raises(SessionFailed, match=text):
        session.check()


@pytest.mark.parametrize(
    ("number", "kind", "alert"),
    [
        (40, "mismatch", "handshake failure"),
        (48, "alert", "unknown ca"),
        (70, "mismatch", "protocol version"),
        (80, "alert", "internal error"),
        (112, "alert", "unrecognized name"),
        (120, "alert", "no application protocol"),
    ],
)
def test_alerts_are_told_in_their_own_words(number: int, kind: str, alert: str) -> None:
    """RFC 8446, 6."""
    client, _ = pair(V13)
    client.handshake()
    client.feed(bytes((21, 3, 3, 0, 2, 2, number)))
    failure = failing(client.handshake).failure
    assert (failure.kind, failure.alert, failure.text) == (kind, alert, f"the peer refuses, with the alert {alert!r}")


def test_a_close_notify_during_the_handshake() -> None:
    client, _ = pair(V13)
    client.handshake()
    client.feed(b"\x15\x03\x03\x00\x02\x01\x00")
    assert failing(client.handshake).failure.kind == "closed"


@BOTH_VERSIONS
def test_sessions_resume(version: ssl.TLSVersion) -> None:
    ours, theirs = client_context(version), server_context(version)
    client, server = new_client(ours), new_server(theirs)
    assert client.resumable() is None
    shake(client, server)
    if version is V13:
        assert client.resumable() is None  # the tickets have come, but nobody has read
    assert client.read(10) is None
    kept = client.resumable()
    assert kept is not None
    again = new_client(ours, session=kept)
    shake(again, new_server(theirs))
    assert again.facts().session_reused
    assert again.facts().version == client.facts().version


def test_a_subclass_of_the_ssl_object_keeps_its_say() -> None:
    class Loud(ssl.SSLObject):
        def read(self, *arguments: Any) -> Any:
            data = super().read(*arguments)
            return data.upper() if isinstance(data, bytes) else data

    ours = client_context(V13)
    ours.sslobject_class = Loud
    client, server = new_client(ours), new_server(server_context(V13))
    shake(client, server)
    server.write(b"quiet")
    move(server, client)
    assert client.read(10) == b"QUIET"


# ---- payload -------------------------------------------------------------------------------------


class Talking(RuleBasedStateMachine):
    """Both sides write, hand over parts, read and close as they like. ``written`` is the oracle."""

    version = V12

    def __init__(self) -> None:
        super().__init__()
        self.sides = connected(self.version)
        self.written = bytearray(), bytearray()
        self.sent = [0, 0]
        self.decrypted = [0, 0]  # of what this side wrote
        self.closed = [False, False]
        self.wire = bytearray(), bytearray()

    @rule(side=st.integers(0, 1), size=st.integers(0, 3) | st.integers(0, 40000) | st.integers(0, 2 * AHEAD))
    def writes(self, side: int, size: int) -> None:
        session, written = self.sides[side], self.written[side]
        start = len(written) % AHEAD
        data = memoryview(NOISE)[start : start + size]
        if self.closed[side]:
            with pytest.raises(ValueError, match="close_output"):
                session.write(data)
            return
        count = session.write(data)
        assert count == size or (count < size and session.unsent > AHEAD - RECORD)
        written += data[:count]

    @rule(side=st.integers(0, 1), size=st.integers(1, 200) | st.integers(1, 100000))
    def hands_over(self, side: int, size: int) -> None:
        session = self.sides[side]
        waits = session.has_outgoing
        piece = session.outgoing()
        assert bool(piece) == waits
        assert bytes(session.outgoing()) == bytes(piece)
        self.wire[side].extend(piece[:size])
        self.sent[side] += session.sent(len(piece[:size]))

    @rule(side=st.integers(0, 1), size=st.integers(1, 60) | st.integers(1, 200000))
    def delivers(self, side: int, size: int) -> None:
        if wire := self.wire[side]:
            self.sides[1 - side].feed(bytes(wire[:size]))
            del wire[:size]

    @rule(side=st.integers(0, 1), size=st.integers(1, 20) | st.integers(1, 70000), into=st.booleans())
    def is_read(self, side: int, size: int, into: bool) -> None:
        """By the other side."""
        reader, target = self.sides[1 - side], memory(size)
        data: bytes | memoryview | None
        if into:
            count = reader.read_into(target)
            data = None if count is None else target[:count]
        else:
            data = reader.read(size)
        if data is not None:
            assert len(data) <= size
            self.was_read(side, bytes(data))

    @rule(side=st.integers(0, 1))
    def is_read_to_the_end(self, side: int) -> None:
        """The counts: what was handed over in whole records is what can be decrypted."""
        self.delivers(side, 1 << 30)
        self.was_read(side, everything(self.sides[1 - side]))
        assert self.decrypted[side] == self.sent[side]

    def was_read(self, side: int, data: bytes) -> None:
        position = self.decrypted[side]
        assert self.written[side][position : position + len(data)] == data
        self.decrypted[side] += len(data)
        if self.sides[1 - side].input_closed:
            assert self.closed[side]

    @precondition(lambda self: self.version is V13)
    @rule(side=st.integers(0, 1))
    def updates_keys(self, side: int) -> None:
        if not self.closed[side]:
            openssl().key_update(self.sides[side])

    @rule(side=st.integers(0, 1))
    def closes(self, side: int) -> None:
        self.sides[side].close_output()
        self.closed[side] = True

    @invariant()
    def counts_agree(self) -> None:
        for side, session in enumerate(self.sides):
            assert session.unsent == len(self.written[side]) - self.sent[side]
            assert session.unsent <= AHEAD

    def teardown(self) -> None:
        for side, session in enumerate(self.sides):
            while session.has_outgoing:
                self.hands_over(side, 1 << 30)
            self.is_read_to_the_end(side)
            assert self.decrypted[side] == len(self.written[side])
            assert self.sides[1 - side].read(1) == (b"" if self.closed[side] else None)


class Talking13(Talking):
    version = V13


TestTalking12 = Talking.TestCase
TestTalking13 = Talking13.TestCase
TestTalking12.settings = TestTalking13.settings = settings(max_examples=60, stateful_step_count=40)


@BOTH_VERSIONS
def test_a_write_is_bounded_and_goes_on(version: ssl.TLSVersion) -> None:
    client, server = connected(version)
    got, position = b"", 0
    while position < len(NOISE):
        count = client.write(memoryview(NOISE)[position:])
        assert 0 < count <= AHEAD
        assert client.write(NOISE) == 0
        position += count
        move(client, server)
        got += everything(server)
    assert got == NOISE


@BOTH_VERSIONS
def test_counts_of_a_write_that_is_handed_over_byte_by_byte(version: ssl.TLSVersion) -> None:
    client, server = connected(version)
    sizes = [100, 3 * RECORD + 5, 1, 2 * RECORD, RECORD]
    for size in sizes:
        assert client.write(NOISE[:size]) == size
    told = []
    while piece := client.outgoing():
        server.feed(bytes(piece[:1]))
        if payload := client.sent(1):
            told.append(payload)
            assert len(everything(server)) == payload
    assert told == [100, RECORD, RECORD, RECORD, 5, 1, RECORD, RECORD, RECORD]


@BOTH_VERSIONS
def test_short_records_count_by_the_write(version: ssl.TLSVersion) -> None:
    """Never more than the peer can decrypt, and everything in the end."""
    client, server = pair(version)
    openssl().ask_for_short_records(client)
    shake(client, server)
    server.write(NOISE[: 3 * RECORD])
    assert len(server.outgoing()) > 90 * 530
    sent = got = 0
    while piece := server.outgoing():
        client.feed(bytes(piece[:1000]))
        sent += server.sent(min(1000, len(piece)))
        got += len(everything(client))
        assert sent <= got
    assert sent == got == 3 * RECORD


@BOTH_VERSIONS
def test_one_large_piece_holds_many_records(version: ssl.TLSVersion) -> None:
    client, server = connected(version)
    wire, position = b"", 0
    while position < len(NOISE):
        position += client.write(NOISE[position:])
        wire += taken(client)
    assert len(wire) > 4 * FEED
    server.feed(wire)
    assert server.read(100_000) == NOISE[:100_000]
    target = memory(300_000)
    assert server.read_into(target) == 300_000
    assert target == NOISE[100_000:400_000]
    assert everything(server) == NOISE[400_000:]


@BOTH_VERSIONS
def test_nothing_leaves_in_the_clear(version: ssl.TLSVersion) -> None:
    client, server = pair(version)
    wire = b""
    while not (client.established and server.established):
        for one, other in ((client, server), (server, client)):
            one.handshake()
            wire += move(one, other)
    for _ in range(3):
        client.write(SECRET)
        server.write(SECRET)
        wire += move(client, server) + move(server, client)
    client.close_output()
    server.write(SECRET)
    wire += move(server, client) + move(client, server)
    with pytest.raises(ValueError, match="close_output"):
        client.write(SECRET)
    assert everything(client) == SECRET * 4
    assert everything(server) == SECRET * 3
    server.close_output()
    wire += taken(client) + taken(server)
    for start in range(len(SECRET) - 8):
        assert SECRET[start : start + 8] not in wire


@BOTH_VERSIONS
def test_an_interrupted_write_counts_and_an_interrupted_read_breaks(version: ssl.TLSVersion) -> None:
    """A signal's handler raises as soon as OpenSSL returns."""
    client, server = connected(version)

    def interrupted(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            call(*arguments)
            raise KeyboardInterrupt

        return called

    usual, client._write = client._write, interrupted(client._write)
    with pytest.raises(KeyboardInterrupt):
        client.write(b"once")
    client._write = usual
    assert client.unsent == 4
    client.write(b", and only once")
    move(client, server)
    assert server.read(100) == b"once, and only once"
    server._read = interrupted(server._read)
    client.write(b"lost")
    move(client, server)
    with pytest.raises(KeyboardInterrupt):
        server.read(100)
    assert failing(server.read, 100).failure.kind == "local"


# ---- the end -------------------------------------------------------------------------------------


@BOTH_VERSIONS
@pytest.mark.parametrize("closer", [0, 1], ids=["client", "server"])
def test_half_close(version: ssl.TLSVersion, closer: int) -> None:
    sides = connected(version)
    one, other = sides[closer], sides[1 - closer]
    one.write(b"last words")
    one.close_output()
    one.close_output()
    assert taken_and_read(one, other) == b"last words"
    assert other.read(10) == b""
    assert other.input_closed
    for _ in range(3):
        other.write(NOISE[:AHEAD])
        assert taken_and_read(other, one) == NOISE[:AHEAD]
    assert one.read(10) is None
    other.close_output()
    assert taken_and_read(other, one) == b""
    assert one.read(10) == b"" == one.read(10)


@BOTH_VERSIONS
@pytest.mark.parametrize("held_back", [0, 1, 500, 20000])
def test_closing_with_unread_data_loses_none(version: ssl.TLSVersion, held_back: int) -> None:
    """SSLObject.unwrap() would kill the session: application data after close notify."""
    client, server = connected(version)
    server.write(NOISE[:AHEAD])
    wire = taken(server)
    client.feed(wire[: len(wire) - held_back])
    assert client.read(10) == NOISE[:10]
    client.close_output()
    client.feed(wire[len(wire) - held_back :])
    server.write(b"more")
    move(server, client)
    assert everything(client) == NOISE[10:AHEAD] + b"more"
    move(client, server)
    assert server.read(10) == b""


@BOTH_VERSIONS
def test_closing_when_the_peer_has_closed_unread(version: ssl.TLSVersion) -> None:
    client, server = connected(version)
    server.write(b"bye")
    server.close_output()
    move(server, client)
    client.feed(b"plain")
    client.close_output()
    assert (client.read(10), client.read(10)) == (b"bye", b"")
    assert client.leftover() == b"plain"
    move(client, server)
    assert server.read(10) == b""


@BOTH_VERSIONS
def test_what_stands_behind_close_notify_is_left_over(version: ssl.TLSVersion) -> None:
    client, server = connected(version)
    client.close_output()
    move(client, server)
    assert server.read(10) == b""
    with pytest.raises(ValueError, match="not closed"):
        client.leftover()
    server.write(NOISE[:50000])
    server.close_output()
    client.feed(taken(server) + b"250 OK, in the clear\r\n" + NOISE[:100])
    client.feed(NOISE[100:90000])
    assert everything(client) == NOISE[:50000]
    client.feed(NOISE[90000:90001])
    assert client.read(10) == b""
    assert client.leftover() == b"250 OK, in the clear\r\n" + NOISE[:90001]
    assert client.leftover() == b""


@BOTH_VERSIONS
@pytest.mark.parametrize("lenient", [False, True], ids=["usual", "OP_IGNORE_UNEXPECTED_EOF"])
def test_truncation_is_found_at_every_byte(version: ssl.TLSVersion, lenient: bool) -> None:
    """Of the close_notify too, and whatever the context makes of it."""
    ours, theirs = client_context(version), server_context(version)
    ours.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0) * lenient
    length = present = 0
    while True:
        client, server = new_client(ours), new_server(theirs)
        shake(client, server)
        for word in (b"one", b"two and a half", b"three"):
            server.write(word)
        server.close_output()
        wire = taken(server)
        client.feed(wire[:length])
        client.feed_end()
        data, failed = read_to_failure(client, 4)
        assert len(data) >= present
        present = len(data)
        assert data == b"onetwo and a halfthree"[:present]
        assert present in (0, 3, 17, 22)
        if length == len(wire):
            break
        assert failed is not None
        assert failed.failure.kind == "truncated"
        stays(client, failed)
        length += 1
    assert (present, failed) == (22, None)
    assert client.read(1) == b""


@BOTH_VERSIONS
def test_truncated_after_closing_what_was_drained_is_still_read(version: ssl.TLSVersion) -> None:
    client, server = connected(version)
    server.write(b"all there is")
    move(server, client)
    client.feed_end()
    client.close_output()
    assert client.read(100) == b"all there is"
    assert failing(client.read, 100).failure.kind == "truncated"
    move(client, server)
    assert server.read(1) == b""


# ---- hostile bytes -------------------------------------------------------------------------------


def read_to_failure(session: Session, size: int) -> tuple[bytes, SessionFailed | None]:
    """Payload, and what ended it: a failure, or None (more is needed, or the proper end)."""
    data = bytearray()
    try:
        while piece := session.read(size):
            data += piece
    except SessionFailed as failed:
        return bytes(data), failed
    return bytes(data), None


def finished(session: Session) -> SessionFailed | None:
    """Go on with the handshake, and end the transport if it is not done then: how it failed."""
    try:
        if not session.handshake():
            session.feed_end()
            session.handshake()
    except SessionFailed as failed:
        return failed
    return None


def stays(session: Session, failed: SessionFailed) -> None:
    """A failed session gives the same failure for ever."""
    calls: list[Callable[[], object]] = [
        lambda: session.read(1),
        lambda: session.read_into(memory(1)),
        lambda: session.write(b"x"),
        session.handshake,
        session.close_output,
        session.check,
    ]
    for _ in range(2):
        for call in calls:
            assert failing(call).failure is failed.failure
        session.feed(b"anything")


@settings(max_examples=150)
@given(version=VERSIONS, data=st.data())
def test_damaged_records_give_no_wrong_payload(version: ssl.TLSVersion, data: st.DataObject) -> None:
    client, server = connected(version)
    for size in (10, 20000, 300):
        server.write(NOISE[:size])
    wire = bytearray(taken(server))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, 60) | st.integers(0, len(wire) - 1))
        match data.draw(st.sampled_from(["change", "drop", "insert", "repeat"])):
            case "change":
                wire[place] ^= data.draw(st.integers(1, 255))
            case "drop":
                del wire[place : place + data.draw(st.integers(1, 40))]
            case "insert":
                wire[place:place] = data.draw(st.binary(min_size=1, max_size=40))
            case "repeat":
                wire[place:place] = wire[place : place + data.draw(st.integers(1, 400))]
    for piece in cut(bytes(wire), [*data.draw(st.lists(st.integers(1, 9000), max_size=5)), 1 << 20]):
        client.feed(piece)
    read, failed = read_to_failure(client, 5000)
    assert (NOISE[:10] + NOISE[:20000] + NOISE[:300]).startswith(read)
    if failed is not None:
        assert failed.failure.established
        assert failed.failure.kind in ("protocol", "alert")
        assert client.has_outgoing  # the alert
        stays(client, failed)


@settings(max_examples=150)
@given(version=VERSIONS, garbage=st.binary(max_size=200), head=st.sampled_from([b"", b"\x16\x03\x03", b"\x15\x03\x03"]))
def test_garbage_in_the_handshake(version: ssl.TLSVersion, garbage: bytes, head: bytes) -> None:
    for session in pair(version):
        session.feed(head + garbage)
        failed = finished(session)
        assert failed is not None
        assert not failed.failure.established
        stays(session, failed)


@settings(max_examples=100)
@given(version=VERSIONS, places=st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 255)), min_size=1, max_size=3))
def test_a_damaged_handshake(version: ssl.TLSVersion, places: list[tuple[int, int]]) -> None:
    client, server = pair(version)
    client.handshake()
    move(client, server)
    server.handshake()
    flight = bytearray(taken(server))
    for place, change in places:
        flight[place % len(flight)] ^= change
    client.feed(bytes(flight))
    if (failed := finished(client)) is not None:
        stays(client, failed)


# ---- what OpenSSL does on its own ----------------------------------------------------------------


def test_a_key_update_is_answered_and_does_not_disturb_the_counts() -> None:
    client, server = connected(V13)
    openssl().key_update(server)
    move(server, client)
    assert client.read(10) is None
    size = 3 * RECORD
    client.write(NOISE[:size])
    assert client.outgoing()[3:5] == (22).to_bytes(2, "big")  # the answer goes first: a short record
    told = []
    while piece := client.outgoing():
        server.feed(bytes(piece[:4000]))
        if payload := client.sent(min(4000, len(piece))):
            told.append(payload)
            assert len(everything(server)) == payload
    assert told == [RECORD] * 3


def test_renegotiation_is_refused_where_the_context_says_so() -> None:
    ours = client_context(V12)
    ours.options |= ssl.OP_NO_RENEGOTIATION
    client, server = new_client(ours), new_server(server_context(V12))
    shake(client, server)
    openssl().renegotiate(server)
    move(server, client)
    assert client.read(10) is None
    assert client.has_outgoing
    assert client.write(b"undisturbed") == 11


def test_renegotiation_otherwise_suspends_writing() -> None:
    client, server = connected(V12)
    openssl().renegotiate(server)
    move(server, client)
    assert client.read(10) is None
    assert client.write(b"later") == 0 == client.unsent
    for _ in range(3):
        move(client, server)
        assert server.read(10) is None
        move(server, client)
        assert client.read(10) is None
    assert client.write(b"now") == 3
    move(client, server)
    assert server.read(10) == b"now"


def test_a_peer_that_demands_answers_and_reads_none_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REPLIES", 2000)
    assert MOST_REPLIES > AHEAD * 2
    ours = client_context(V12)
    ours.options |= ssl.OP_NO_RENEGOTIATION
    client, server = new_client(ours), new_server(server_context(V12))
    shake(client, server)

    def flood() -> None:
        for _ in range(200):
            openssl().renegotiate(server)
            move(server, client)
            client.read(10)

    failed = failing(flood)
    assert failed.failure.kind == "protocol"
    stays(client, failed)


def taken_and_read(source: Session, target: Session) -> bytes:
    move(source, target)
    return everything(target)


def memory(size: int) -> memoryview:
    return memoryview(bytearray(size))


def der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode())
