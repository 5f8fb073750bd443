"""What is said before TLS, protocol by protocol: against peers that follow the protocol documents to the byte, refuse
as those say, say something else, or say it without end. Real servers: tests/peers/test_starttls_servers.py.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from command import PATIENCE, peer
from tls_support import HOST as NAME
from tls_support import client_context, server_context

from landline import SocketStream, SslError, open_tcp_stream
from landline.cli.arguments_connect import STARTTLS
from landline.cli.starttls import LONGEST_LINE, LONGEST_MESSAGE, MOST_LINES, PROTOCOLS, StartTlsRefused, dialogue

pytestmark = pytest.mark.usefixtures("no_leaks")

HOST = "127.0.0.1"

Script = list[bytes | int]
"""What the server does: bytes are sent, or, at odd places, awaited; a number awaits so many bytes."""

# MySQL 8.0's Protocol::HandshakeV10: version 10, its name, thread 8, half a challenge, a NUL, and what it can do.
MYSQL_CAN, MYSQL_CANNOT = 0xFFFF, 0xFFFF & ~0x0800


def mysql_greeting(abilities: int) -> bytes:
    body = b"\x0a8.0.36\0" + struct.pack("<I", 8) + b"12345678\0" + struct.pack("<H", abilities)
    body += struct.pack("<BHHB10x", 255, 2, 0xDFFF, 21) + b"123456789012\0caching_sha2_password\0"
    return len(body).to_bytes(3, "little") + b"\0" + body


MYSQL_SSL_REQUEST = b"\x20\0\0\1" + struct.pack("<IIB23x", 0x8A00, 1 << 24, 45)

# RFC 4511: the request of 4.14.1 in the encoding of 5.1, and answers to it.
LDAP_REQUEST = bytes.fromhex("301d020101 7718 8016") + b"1.3.6.1.4.1.1466.20037"
LDAP_YES = bytes.fromhex("300c020101 7807 0a0100 0400 0400")
LDAP_YES_LONG = bytes.fromhex("308400000028 020101 78840000001f 0a0100 0400 0400 8a16") + b"1.3.6.1.4.1.1466.20037"
LDAP_NO = bytes.fromhex("301d020101 7818 0a0102 0400 0411") + b"no TLS configured"

XMPP_HEAD = (
    b"<?xml version='1.0'?><stream:stream to='peer.example' version='1.0' xml:lang='en' "
    b"xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
)
XMPP_ANSWER = (
    b"<?xml version='1.0'?><stream:stream from='peer.example' id='a>b' version='1.0' "
    b"xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
)
XMPP_FEATURES = (
    b"<stream:features>\n <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"
    b"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms></stream:features>"
)
XMPP_STARTTLS = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
XMPP_PROCEED = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"

EHLO = b"EHLO [127.0.0.1]\r\n"

# (sent by the server, awaited from the client) in turn; an empty one is nothing.
GOOD: dict[str, list[tuple[bytes, bytes]]] = {
    "smtp": [
        (b"220-peer.example ESMTP\r\n220 wait for it\r\n", EHLO),
        (b"250-peer.example\r\n250-8BITMIME\r\n250-starttls\r\n250 HELP\r\n", b"STARTTLS\r\n"),
        (b"220 go ahead\r\n", b""),
    ],
    "imap": [
        (b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n", b"landline STARTTLS\r\n"),
        (b"* CAPABILITY IMAP4rev1\r\nlandline OK begin\r\n", b""),
    ],
    "pop3": [(b"+OK ready <1@peer.example>\r\n", b"STLS\r\n"), (b"+OK begin\r\n", b"")],
    "ftp": [
        (b"120 in a minute\r\n220-hello\r\n no code here\r\n220 ready\r\n", b"AUTH TLS\r\n"),
        (b"234 go ahead\r\n", b""),
    ],
    "postgres": [(b"", bytes.fromhex("00000008 04d2162f")), (b"S", b"")],
    "mysql": [(mysql_greeting(MYSQL_CAN), MYSQL_SSL_REQUEST)],
    "ldap": [(b"", LDAP_REQUEST), (LDAP_YES, b"")],
    "xmpp": [(b"", XMPP_HEAD), (XMPP_ANSWER + XMPP_FEATURES, XMPP_STARTTLS), (XMPP_PROCEED, b"")],
}


def play(connection: socket.socket, script: list[tuple[bytes, bytes]], step: int = 1 << 20) -> None:
    """The server's part, sent in pieces of ``step`` bytes."""
    for sent, awaited in script:
        for at in range(0, len(sent), step):
            connection.sendall(sent[at : at + step])
        got = b""
        while len(got) < len(awaited):
            data = connection.recv(len(awaited) - len(got))
            assert data, f"the client ended after {got!r}, before {awaited!r}"
            got += data
        assert got == awaited


def wait_for_the_end(connection: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(65536):
            pass


@contextlib.contextmanager
def connected(handle: Callable[[socket.socket], None]) -> Iterator[SocketStream]:
    with peer(handle) as port, open_tcp_stream(HOST, port) as stream:
        yield stream


def refusal(protocol: str, said: bytes, *, then_end: bool = False) -> str:
    """What the client tells when the server says this, from the beginning or in answer to the client's first words."""
    first = GOOD[protocol][0][0]

    def handle(connection: socket.socket) -> None:
        if not first:
            connection.recv(1000)
        connection.sendall(said)
        if not then_end:
            wait_for_the_end(connection)

    with connected(handle) as stream, pytest.raises(StartTlsRefused) as caught:
        dialogue(protocol, stream, NAME, PATIENCE)
    told = str(caught.value)
    assert caught.value.operation == "starttls"
    assert told.startswith(f"{HOST}:"), told
    assert "\n" not in told
    return told.partition(" ")[2]


def test_the_protocols_are_those_that_the_option_names() -> None:
    assert "|".join(PROTOCOLS) == STARTTLS
    assert set(GOOD) == set(PROTOCOLS)


# ---- as the documents have it ------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1 << 20, 1], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_dialogue_ends_where_the_handshake_begins(protocol: str, step: int) -> None:
    """To the byte: the handshake works, and the client has said what the documents say and nothing else."""
    context = server_context()

    def handle(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        play(connection, GOOD[protocol], step)
        with SocketStream(connection.dup(), read_timeout=PATIENCE) as stream:
            stream.start_tls(context, ssl_side="server")
            assert stream.readline() == b"secret\n"

    with connected(handle) as stream:
        dialogue(protocol, stream, NAME, PATIENCE)
        stream.start_tls(client_context(), host=NAME, handshake_timeout=PATIENCE)
        stream.write(b"secret\n")


def test_a_name_in_ehlo_is_an_ipv6_literal_over_ipv6() -> None:
    """RFC 5321 section 4.1.3."""

    def handle(connection: socket.socket) -> None:
        play(connection, [(b"220 ready\r\n", b"EHLO [IPv6:::1]\r\n"), (b"250 STARTTLS\r\n", b"STARTTLS\r\n")])
        connection.sendall(b"220 go\r\n")

    with peer(handle, "::1") as port, open_tcp_stream("::1", port) as stream:
        # A reply of one line has no keyword: its text is the server's name (RFC 5321 section 4.1.1.1), but harmless.
        dialogue("smtp", stream, NAME, PATIENCE)


def test_ldap_lengths_may_take_four_bytes() -> None:
    """RFC 4511 section 5.1 asks for definite lengths, not for short ones (OpenLDAP and Active Directory differ)."""

    def handle(connection: socket.socket) -> None:
        play(connection, [(b"", LDAP_REQUEST), (LDAP_YES_LONG, b"")])
        wait_for_the_end(connection)

    with connected(handle) as stream:
        dialogue("ldap", stream, NAME, PATIENCE)
        assert stream.bytes_received == len(LDAP_YES_LONG)


def test_the_xmpp_domain_is_escaped() -> None:
    def handle(connection: socket.socket) -> None:
        assert b"to='&lt;a&#x27;b&amp;'" in connection.recv(1000)
        connection.sendall(XMPP_ANSWER)

    with connected(handle) as stream, pytest.raises(StartTlsRefused):
        dialogue("xmpp", stream, "<a'b&", PATIENCE)


# ---- words put in before TLS -------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "mysql"])
def test_what_comes_behind_the_consent_is_refused_and_not_read(protocol: str) -> None:
    """The STARTTLS injection: it must not become the server's first words after TLS."""
    injected = b"injected\r\n"

    def handle(connection: socket.socket) -> None:
        *before, (last, _) = GOOD[protocol]
        play(connection, before)
        connection.sendall(last + injected)
        wait_for_the_end(connection)

    with connected(handle) as stream:
        dialogue(protocol, stream, NAME, PATIENCE)
        with pytest.raises(SslError, match="plaintext"):
            stream.start_tls(client_context(), host=NAME)
        assert stream.read_exactly(len(injected)) == injected


# ---- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "said", "told"),
    [
        ("smtp", b"554 no service\r\n", "gave no SMTP greeting; it said '554 no service'"),
        ("smtp", b"SSH-2.0-OpenSSH_9.2\r\n", "gave no SMTP greeting; it said 'SSH-2.0-OpenSSH_9.2'"),
        ("imap", b"* BYE too many of you\r\n", "gave no IMAP greeting; it said '* BYE too many of you'"),
        ("imap", b"* PREAUTH come in\r\n", "has logged us in already, after which IMAP allows no STARTTLS: '* PRE"),
        ("pop3", b"-ERR locked\r\n", "gave no POP3 greeting; it said '-ERR locked'"),
        ("ftp", b"421 too many\r\n", "gave no FTP greeting; it said '421 too many'"),
        ("postgres", b"N", "does not offer TLS: it answered SSLRequest with 'N'"),
        ("postgres", b"Esecret words", "gave no PostgreSQL's answer to SSLRequest; it said 'E'"),
        ("mysql", mysql_greeting(MYSQL_CANNOT), "does not offer TLS; it is MySQL '8.0.36'"),
        ("mysql", b"\x13\0\0\0\xff\x69\x04Host is blocked.", "does not let us in: 'Host is blocked.'"),
        ("mysql", b"220 ready\r\n", "gave no MySQL's handshake; it said '220 '"),
        ("ldap", LDAP_NO, "refuses StartTLS with protocolError (2): 'no TLS configured'"),
        ("ldap", b"HTTP/1.1 400 Bad Request\r\n", "gave no LDAP's answer to StartTLS; it said 'HT'"),
        ("ldap", b"\x30\x84\x7f\xff\xff\xff", "begins an answer of 2147483647 bytes to StartTLS"),
        ("ldap", b"\x30\x03\x02\x01\x01", "gave no LDAP's answer to StartTLS; it said"),
        (
            "xmpp",
            XMPP_ANSWER + b"<stream:error><host-unknown xmlns='urn:x'/></stream:error>",
            "gave no XMPP's features; it said '<stream:error><host-unknown xmlns='urn:x'/></stream:error>'",
        ),
        ("xmpp", XMPP_ANSWER + b"<stream:features><a/></stream:features>", "does not offer STARTTLS; it offers '<str"),
        (
            "xmpp",
            b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>",
            "gave no XMPP's features; it said '<!DOCTYPE a [<!ENTITY b 'c'>'",
        ),
        ("xmpp", XMPP_ANSWER + b"</stream:stream>", "ended the connection before XMPP's features was complete"),
    ],
)
def test_a_refusal_quotes_the_server(protocol: str, said: bytes, told: str) -> None:
    assert refusal(protocol, said).startswith(told)


@pytest.mark.parametrize(
    ("protocol", "last", "told"),
    [
        ("smtp", b"454 TLS not available\r\n", "gave no consent to STARTTLS; it said '454 TLS not available'"),
        ("imap", b"landline BAD unknown command\r\n", "gave no consent to STARTTLS; it said 'landline BAD unknown"),
        ("pop3", b"-ERR what?\r\n", "gave no consent to STLS; it said '-ERR what?'"),
        ("ftp", b"500-what?\r\n500 no\r\n", "gave no consent to AUTH TLS; it said '500 what? / no'"),
        ("xmpp", b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "gave no consent to STARTTLS; it said '<fail"),
    ],
)
def test_a_consent_that_is_refused_is_quoted(protocol: str, last: bytes, told: str) -> None:
    def handle(connection: socket.socket) -> None:
        play(connection, GOOD[protocol][:-1])
        connection.sendall(last)
        wait_for_the_end(connection)

    with connected(handle) as stream, pytest.raises(StartTlsRefused) as caught:
        dialogue(protocol, stream, NAME, PATIENCE)
    assert str(caught.value).partition(" ")[2].startswith(told)


def test_an_smtp_server_without_starttls_tells_what_it_has() -> None:
    def handle(connection: socket.socket) -> None:
        play(connection, [(b"220 ready\r\n", EHLO), (b"250-peer.example\r\n250-SIZE 1\r\n250 HELP\r\n", b"")])
        wait_for_the_end(connection)

    with connected(handle) as stream, pytest.raises(StartTlsRefused, match=r"offers 'SIZE 1, HELP'"):
        dialogue("smtp", stream, NAME, PATIENCE)


def test_what_the_server_says_is_bounded_and_cannot_reach_the_terminal() -> None:
    told = refusal("pop3", b"-ERR \x1b]0;title\x07" + b"x" * 5000 + b"\r\n")
    assert "\x1b" not in told
    assert "-ERR ?]0;title?xxx" in told
    assert len(told) < 200


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_ends_at_once_is_told(protocol: str) -> None:
    assert refusal(protocol, b"", then_end=True).startswith("ended the connection before ")


def test_a_server_that_ends_in_the_middle_is_quoted() -> None:
    assert "before an SMTP greeting was complete; it had said '220 pe'" in refusal("smtp", b"220 pe", then_end=True)


# ---- without end -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "flood"),
    [
        ("smtp", b"220-more\r\n" * (MOST_LINES + 10)),
        ("smtp", b"2" * (LONGEST_LINE + 10)),
        ("imap", b"* OK hello\r\n" + b"* OK news\r\n" * (MOST_LINES + 10)),
        ("xmpp", XMPP_ANSWER + b"<a>" * (LONGEST_MESSAGE // 3 + 10)),
        ("xmpp", b"<" + b"a" * (LONGEST_MESSAGE + 10)),
    ],
)
def test_a_server_that_talks_without_end_is_given_up(protocol: str, flood: bytes) -> None:
    assert refusal(protocol, flood)


def test_a_silent_server_is_given_up_and_may_expect_tls_at_once() -> None:
    with connected(wait_for_the_end) as stream, pytest.raises(StartTlsRefused) as caught:
        dialogue("imap", stream, NAME, 0.1)
    assert "said nothing within 0.1 seconds; perhaps it expects TLS from the first byte (--tls)" in str(caught.value)


def test_a_server_that_falls_silent_is_given_up() -> None:
    def handle(connection: socket.socket) -> None:
        connection.sendall(b"220 hello\r\n")
        wait_for_the_end(connection)

    with (
        connected(handle) as stream,
        pytest.raises(StartTlsRefused, match="did not go on with SMTP within"),
    ):
        dialogue("smtp", stream, NAME, 0.1)


def test_an_unknown_protocol_is_no_protocol() -> None:
    with connected(wait_for_the_end) as stream, pytest.raises(ValueError, match="starttls='gopher' is not allowed"):
        dialogue("gopher", stream, NAME)
