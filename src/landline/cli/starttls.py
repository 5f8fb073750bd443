"""What is said in the clear before TLS may begin, in each protocol that upgrades a connection (STARTTLS).

    PROTOCOLS["smtp"](stream, "mail.example.org")       on a fresh stream
    stream.start_tls(...)

Each function of PROTOCOLS speaks until the next byte may be the handshake's first, and reads no byte more than the
protocol says: whatever else has come is for start_tls() to find, and to refuse. Nothing that the server said
before TLS is used for anything but to go on; clients ask again afterwards.

What is read is bounded, in bytes here and in time by the stream's clocks (dialogue() sets one). The dialogues take
few liberties: a client that accepts what no protocol allows would only hide from its user that something is odd.

The library has no such thing: a program that speaks SMTP knows how to, and a program that does not needs none.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from typing import NoReturn

from ..errors import IncompleteRead, LimitOverrun, ReadTimeout, SslFailure
from ..sync.stream import SocketStream
from ..tls.refusal import printable

__all__ = ["PROTOCOLS", "StartTlsRefused", "dialogue"]

LONGEST_LINE = 8192
"""Bytes: what IMAP clients and servers allow a line at least (RFC 7162 section 4), far more than SMTP's 512."""

MOST_LINES = 100
"""Of one reply, or of what comes before it: RFC 5321 section 4.5.3.1.10 asks clients to bear that many recipients."""

LONGEST_MESSAGE = 1 << 16
"""Bytes of a binary or XML message: a thousand times what is usual here."""

DIALOGUE_LIMIT = 30.0
"""Seconds for the whole dialogue where the caller sets no limit. Some mail servers let clients wait for 10 s or 20 s
before they greet, because senders of spam do not wait."""

SHOWN = 120
"""Characters of what the server said that a condition quotes."""


class StartTlsRefused(SslFailure):
    """The server does not speak TLS on this connection, or it does not speak the protocol. No TLS has begun."""


def dialogue(protocol: str, stream: SocketStream, host: str, timeout: float | None = None) -> None:
    """Speak ``protocol`` on a fresh stream up to the point where TLS may begin; then stream.start_tls() is due.

    Args:
        protocol: one of PROTOCOLS.
        host: the name of the server, for protocols in which the client tells whom it wants (XMPP).
        timeout: seconds for all of it; DIALOGUE_LIMIT if not given.

    Raises:
        ValueError: an unknown protocol. Nothing was sent.
        StartTlsRefused: the server said no, or something else than the protocol has; it is quoted, or it said nothing.
        SocketIOError: the connection failed.
    """
    speak = PROTOCOLS.get(protocol)
    if speak is None:
        raise ValueError(f"starttls={protocol!r} is not allowed: it must be one of {', '.join(PROTOCOLS)}")
    limit = DIALOGUE_LIMIT if timeout is None else timeout
    came = stream.bytes_received
    try:
        with stream.deadline(limit):
            speak(stream, host)
    except ReadTimeout as timed_out:
        if stream.bytes_received > came:
            what = f"did not go on with {protocol.upper()} within {limit:g} seconds"
        else:
            what = f"said nothing within {limit:g} seconds; perhaps it expects TLS from the first byte (--tls)"
        raise StartTlsRefused(
            f"{_who(stream)} {what}", operation="starttls", address=stream.peer_address, report=stream.report
        ) from timed_out


# ---- mail and files: lines with a code -------------------------------------------------------------


def smtp(stream: SocketStream, host: str) -> None:
    """The greeting, EHLO, STARTTLS. Source: RFC 3207 section 4, RFC 5321 sections 3.1, 4.1.1.1 and 4.1.3."""
    _reply(stream, "220", "an SMTP greeting")
    offers = _reply(stream, "250", "an answer to EHLO", f"EHLO {_own_literal(stream)}")
    if not any(line.strip().upper() == b"STARTTLS" for line in offers):
        names = b", ".join(offers[1:]) or b"nothing"
        raise _refused(stream, "does not offer STARTTLS; it offers", names)
    _reply(stream, "220", "consent to STARTTLS", "STARTTLS")


def ftp(stream: SocketStream, host: str) -> None:
    """The greeting, AUTH TLS. Source: RFC 4217 section 4, RFC 959 sections 4.2 and 5.4 (120: wait for 220)."""
    _reply(stream, "220", "an FTP greeting", skip="120")
    _reply(stream, "234", "consent to AUTH TLS", "AUTH TLS")


def imap(stream: SocketStream, host: str) -> None:
    """The greeting, STARTTLS. Source: RFC 9051 sections 6.2.1 and 7.1."""
    greeting = _line(stream, "an IMAP greeting")
    if greeting[:9].upper() == b"* PREAUTH":
        raise _refused(stream, "has logged us in already, after which IMAP allows no STARTTLS:", greeting)
    if greeting[:5].upper() not in (b"* OK", b"* OK "):
        raise _unexpected(stream, "an IMAP greeting", greeting)
    _say(stream, "landline STARTTLS")
    line = b""
    for _ in range(MOST_LINES):
        line = _line(stream, "consent to STARTTLS")
        words = line.split(None, 2)
        if words[:1] == [b"*"]:
            continue  # news, which a server may tell whenever it answers
        if len(words) > 1 and words[0] == b"landline" and words[1].upper() == b"OK":
            return
        raise _unexpected(stream, "consent to STARTTLS", line)
    raise _refused(stream, f"said {MOST_LINES} lines and no answer to STARTTLS, the last", line)


def pop3(stream: SocketStream, host: str) -> None:
    """The greeting, STLS. Source: RFC 2595 section 4, RFC 1939 section 3."""
    for wanted, command in (("a POP3 greeting", None), ("consent to STLS", "STLS")):
        if command is not None:
            _say(stream, command)
        line = _line(stream, wanted)
        if line[:3] != b"+OK":
            raise _unexpected(stream, wanted, line)


# ---- data bases and directories: binary messages -----------------------------------------------------

SSL_REQUEST = struct.pack("!II", 8, 80877103)


def postgres(stream: SocketStream, host: str) -> None:
    """SSLRequest, which is answered by one byte. Source: PostgreSQL's manual, 55.2.10 and 55.7 (SSLRequest)."""
    stream.write(SSL_REQUEST)
    answer = _exactly(stream, 1, "PostgreSQL's answer to SSLRequest")
    if answer == b"N":
        raise _refused(stream, "does not offer TLS: it answered SSLRequest with", answer)
    if answer != b"S":  # after "E" comes a text, which is not to be shown: nobody has vouched for it (ibid.)
        raise _unexpected(stream, "PostgreSQL's answer to SSLRequest", answer)


CLIENT_PROTOCOL_41, CLIENT_SSL, CLIENT_SECURE_CONNECTION = 0x200, 0x800, 0x8000
MYSQL_VERSION, MYSQL_ERROR = 10, 0xFF
MYSQL_LARGEST_PACKET = 1 << 24
MYSQL_UTF8MB4 = 45


def mysql(stream: SocketStream, host: str) -> None:
    """The server's handshake packet, SSLRequest. Source: MySQL's client/server protocol, Protocol::HandshakeV10,
    Protocol::SSLRequest, ERR_Packet and "Protocol Basics" (packets); MariaDB's is the same up to here.
    """
    wanted = "MySQL's handshake"
    head = _exactly(stream, 4, wanted)
    size, number = int.from_bytes(head[:3], "little"), head[3]
    if number or not 0 < size <= LONGEST_MESSAGE:
        raise _unexpected(stream, wanted, head)
    body = _exactly(stream, size, wanted)
    if body[0] == MYSQL_ERROR:
        raise _refused(stream, "does not let us in:", body[3:])
    # Behind the version's name and its NUL: a thread's number (4), a half of the challenge (8) and a NUL.
    version, _, rest = body[1:].partition(b"\0")
    abilities = rest[13:15]
    if body[0] != MYSQL_VERSION or len(abilities) != 2:
        raise _unexpected(stream, wanted, head + body)
    if not int.from_bytes(abilities, "little") & CLIENT_SSL:
        raise _refused(stream, "does not offer TLS; it is MySQL", version)
    ours = CLIENT_PROTOCOL_41 | CLIENT_SSL | CLIENT_SECURE_CONNECTION
    request = struct.pack("<IIB23x", ours, MYSQL_LARGEST_PACKET, MYSQL_UTF8MB4)
    stream.write(len(request).to_bytes(3, "little") + b"\1" + request)
    stream.flush()


LDAP_STARTTLS = b"1.3.6.1.4.1.1466.20037"
SEQUENCE, INTEGER, OCTET_STRING, ENUMERATED = 0x30, 0x02, 0x04, 0x0A
EXTENDED_REQUEST, REQUEST_NAME, EXTENDED_RESPONSE = 0x77, 0x80, 0x78
LDAP_RESULTS = {1: "operationsError", 2: "protocolError", 10: "referral", 51: "busy", 52: "unavailable"}


def ldap(stream: SocketStream, host: str) -> None:
    """The extended request StartTLS. Source: RFC 4511 sections 4.1.9, 4.12, 4.14 and 5.1."""
    wanted = "LDAP's answer to StartTLS"
    name = _element(EXTENDED_REQUEST, _element(REQUEST_NAME, LDAP_STARTTLS))
    stream.write(_element(SEQUENCE, _element(INTEGER, b"\1") + name))
    head = _exactly(stream, 2, wanted)
    if head[0] != SEQUENCE:
        raise _unexpected(stream, wanted, head)
    size, more = head[1], 0
    if size & 0x80:
        more = size & 0x7F
        if not 1 <= more <= 4:
            raise _unexpected(stream, wanted, head)
        size = int.from_bytes(_exactly(stream, more, wanted), "big")
    if size > LONGEST_MESSAGE:
        raise _refused(stream, f"begins an answer of {size} bytes to StartTLS:", head)
    body = _exactly(stream, size, wanted)
    try:
        _, rest = _taken(body, INTEGER)
        response, _ = _taken(rest, EXTENDED_RESPONSE)
        result, rest = _taken(response, ENUMERATED)
        _, rest = _taken(rest, OCTET_STRING)  # matchedDN
        text, _ = _taken(rest, OCTET_STRING)
    except ValueError:
        raise _unexpected(stream, wanted, head + body) from None
    code = int.from_bytes(result, "big")
    if code:
        raise _refused(stream, f"refuses StartTLS with {LDAP_RESULTS.get(code, 'result')} ({code}):", text)


def _element(tag: int, content: bytes) -> bytes:
    """An element of BER; ours are all short."""
    return bytes([tag, len(content)]) + content


def _taken(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the element that ``data`` begins with, which must have this tag; and what is behind it."""
    if len(data) < 2 or data[0] != tag:
        raise ValueError(f"no element {tag:#x}")
    at, size = 2, data[1]
    if size & 0x80:
        at += size & 0x7F
        size = int.from_bytes(data[2:at], "big")
    if len(data) < at + size:
        raise ValueError(f"the element {tag:#x} is cut off")
    return data[at : at + size], data[at + size :]


# ---- XMPP --------------------------------------------------------------------------------------------

XMPP_STREAM, XMPP_TLS = "http://etherx.jabber.org/streams", "urn:ietf:params:xml:ns:xmpp-tls"


def xmpp(stream: SocketStream, host: str) -> None:
    """The stream's head, its features, <starttls/>. Source: RFC 6120 sections 4.3.2, 4.7, 5.4 and 11.1 (no DTDs)."""
    from html import escape

    _say(
        stream,
        f"<?xml version='1.0'?><stream:stream to='{escape(host)}' version='1.0' xml:lang='en' "
        f"xmlns='jabber:client' xmlns:stream='{XMPP_STREAM}'>",
    )
    reader = _Xml(stream)
    features = reader.next_element("XMPP's features")
    if features[0] != f"{XMPP_STREAM} features":
        raise _unexpected(stream, "XMPP's features", reader.last)
    if f"{XMPP_TLS} starttls" not in features:
        raise _refused(stream, "does not offer STARTTLS; it offers", reader.last)
    _say(stream, f"<starttls xmlns='{XMPP_TLS}'/>")
    answer = reader.next_element("consent to STARTTLS")
    if answer[0] != f"{XMPP_TLS} proceed":
        raise _unexpected(stream, "consent to STARTTLS", reader.last)


class _Xml:
    """The elements directly below the stream's own, one by one; expat sees each byte when it is needed, and no other.

    Attributes:
        last: the text of the last element.
    """

    def __init__(self, stream: SocketStream) -> None:
        from xml.parsers import expat

        self._stream = stream
        self._error = expat.ExpatError
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartElementHandler = self._begin
        self._parser.EndElementHandler = self._end
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._depth = 0
        self._names: list[str] = []
        self._over = False
        self.last = b""

    def next_element(self, wanted: str) -> list[str]:
        """The names of the next element and of those in it, as "namespace name"."""
        self._names, self._over, self.last = [], False, b""
        size = 0
        while not self._over:
            # An element ends with this character, so what is read ends with the element.
            try:
                piece = self._stream.read_until(b">", LONGEST_MESSAGE - size)
            except IncompleteRead as cut:
                raise _ended(self._stream, wanted, self.last + _bytes(cut)) from None
            except LimitOverrun:
                raise _refused(self._stream, f"sent {LONGEST_MESSAGE} bytes without {wanted}:", self.last) from None
            size += len(piece)
            outside = self._depth == 0
            self.last += piece
            try:
                self._parser.Parse(piece, False)
            except (self._error, _HasDoctype):
                raise _unexpected(self._stream, wanted, self.last) from None
            if outside and self._depth:
                self.last = b""  # the stream's own head is not what is quoted
            if size >= LONGEST_MESSAGE and not self._over:
                raise _refused(self._stream, f"sent {LONGEST_MESSAGE} bytes without {wanted}:", self.last)
        if not self._names:
            raise _ended(self._stream, wanted, self.last)
        return self._names

    def _begin(self, name: str, attributes: object) -> None:
        self._depth += 1
        if self._depth > 1:
            self._names.append(name)

    def _end(self, name: str) -> None:
        self._depth -= 1
        self._over = self._depth <= 1

    def _refuse(self, *declaration: object) -> NoReturn:
        raise _HasDoctype


class _HasDoctype(Exception):
    """A DTD, which XMPP forbids: entities that grow."""


# ---- what they share -----------------------------------------------------------------------------------


def _reply(
    stream: SocketStream, code: str, wanted: str, command: str | None = None, skip: str | None = None
) -> list[bytes]:
    """Say ``command``; the texts of the reply, which must have this code. One with the code ``skip`` may come first.

    A reply has lines "250-text", and "250 text" as its last (RFC 5321 section 4.2.1). FTP allows lines without
    a code in between (RFC 959 section 4.2).
    """
    if command is not None:
        _say(stream, command)
    texts: list[bytes] = []
    began = line = b""
    for _ in range(MOST_LINES):
        line = _line(stream, wanted)
        head = line[:3]
        began = began or head
        if not began.isdigit() or (not texts and line[3:4] not in (b" ", b"-", b"")):
            raise _unexpected(stream, wanted, line)
        texts.append(line[4:] if head == began else line)
        if head == began and line[3:4] != b"-":
            if skip is not None and head.decode("ascii") == skip:
                began, texts = b"", []
                continue
            if head.decode("ascii") != code:
                raise _unexpected(stream, wanted, head + b" " + b" / ".join(texts))
            return texts
    raise _refused(stream, f"said {MOST_LINES} lines and no end of {wanted}, the last", line)


def _say(stream: SocketStream, command: str) -> None:
    # What comes next is a read, which sends this first.
    stream.write(command.encode("utf-8") + (b"" if command.endswith(">") else b"\r\n"))


def _line(stream: SocketStream, wanted: str) -> bytes:
    """A line without its end."""
    try:
        return stream.read_until(b"\n", LONGEST_LINE).rstrip(b"\r\n")
    except LimitOverrun:
        raise _unexpected(stream, wanted, stream.peek()) from None
    except IncompleteRead as cut:
        raise _ended(stream, wanted, _bytes(cut)) from None


def _exactly(stream: SocketStream, count: int, wanted: str) -> bytes:
    try:
        return stream.read_exactly(count)
    except IncompleteRead as cut:
        raise _ended(stream, wanted, _bytes(cut)) from None


def _bytes(cut: IncompleteRead) -> bytes:
    return cut.partial if isinstance(cut.partial, bytes) else b""


def _own_literal(stream: SocketStream) -> str:
    """This end's address as EHLO tells it: a client without a name of its own in the DNS says that."""
    if stream.local_address is None:
        return "[127.0.0.1]"
    address = ipaddress.ip_address(stream.local_address.host.partition("%")[0])
    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"


def _unexpected(stream: SocketStream, wanted: str, said: bytes) -> StartTlsRefused:
    return _refused(stream, f"gave no {wanted.removeprefix('an ').removeprefix('a ')}; it said", said)


def _ended(stream: SocketStream, wanted: str, said: bytes) -> StartTlsRefused:
    if said:
        return _refused(stream, f"ended the connection before {wanted} was complete; it had said", said)
    return _made(stream, f"ended the connection before {wanted} came")


def _refused(stream: SocketStream, what: str, said: bytes) -> StartTlsRefused:
    return _made(stream, f"{what} {printable(said.decode('utf-8', 'replace'), SHOWN)}")


def _made(stream: SocketStream, what: str) -> StartTlsRefused:
    return StartTlsRefused(
        f"{_who(stream)} {what}", operation="starttls", address=stream.peer_address, report=stream.report
    )


def _who(stream: SocketStream) -> str:
    return str(stream.peer_address or "the server")


PROTOCOLS: dict[str, Callable[[SocketStream, str], None]] = {
    "smtp": smtp,
    "imap": imap,
    "pop3": pop3,
    "ftp": ftp,
    "postgres": postgres,
    "mysql": mysql,
    "ldap": ldap,
    "xmpp": xmpp,
}
