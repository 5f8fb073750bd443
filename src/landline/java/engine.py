"""A javax.net.ssl.SSLEngine that behaves like Python's ssl.SSLObject, between the same two MemoryBIOs.

So a session (engine/session.py) takes the one for the other, and all that it is about stays as it is and where it
is: counts, bounds, half close, truncation, and above it clocks, wakeups and locks. A session of Java's own beside it
was rejected: two thirds of it would have been the same.

* *Records* are told apart here, because an SSLEngine wants one whole record at a time; what is behind it stays
  in the MemoryBIO, whose ``pending`` a session relies on.
* *Crossing* to Java costs more than Java's work on a short record: in the ordinary case it is asked nothing twice.
  The memory for it is shared by all connections (it is used for no longer than one call), so an idle one has none.
* *All or nothing.* What is written reaches the MemoryBIO in one piece. Where a signal's handler raises in the middle,
  the engine has sealed what nobody has: it is of no use any more, and says so, for going on would lose data in silence.

Failures are those of the ssl module (failures.py), with Java's exception as their cause.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from errno import EPIPE
from typing import TYPE_CHECKING, Any, NoReturn

from .failures import as_ssl_error

if TYPE_CHECKING:
    import ssl

    from .bridge import Bridge, Memory

__all__ = ["JavaEngine"]

RECORD = 16384
HEADER = 5
LARGEST = HEADER + 0xFFFF
"""What the header of a record can promise. Java judges for itself what it takes."""

ROOM = LARGEST + 2048
"""Of the memory shared with Java: what it calls the largest buffer it may need is half of that."""

FIRST_TYPE, LAST_TYPE = 20, 24
"""Content types of records: what begins otherwise is not TLS, and Java is to say so at once."""

NOT_HANDSHAKING, FINISHED, NEED_TASK, NEED_WRAP, NEED_UNWRAP = range(5)
"""SSLEngineResult.HandshakeStatus, by its ordinal."""

UNDERFLOW, CLOSED = 0, 3
"""SSLEngineResult.Status, the same way."""

NO_CIPHER = "SSL_NULL_WITH_NULL_NULL"
"""What a session of Java's has before there is one."""

LAST_WORDS = 4
"""Records that an engine that has failed may still want to send: it is an alert, perhaps behind an exception."""

SEEN = "landline"
"""What marks a session of Java's that a handshake has come out with: met again, it was resumed."""


class JavaEngine:
    """What a session uses of an ssl.SSLObject; see there. Client side.

    Attributes:
        context: where it was made; with ``verify_mode`` and ``options`` as an SSLContext has them.
        java: the SSLEngine, to be configured before the handshake.
        session: None; Java itself keeps sessions and resumes them.
        session_reused: a session was resumed (one that landline has seen before).
        full_record: how much payload Java puts into a record when there is enough.
    """

    session = None

    def __init__(
        self, bridge: Bridge, java: Any, context: Any, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
    ) -> None:
        import ssl

        self.context = context
        self.java = java
        self.session_reused = False
        self.full_record = RECORD
        self._bridge = bridge
        self._incoming, self._outgoing = incoming, outgoing
        self._want_read = ssl.SSLWantReadError
        self._closed_properly = ssl.SSLZeroReturnError
        self._begun = self._done = self._ended = self._inside = self._renegotiating = False
        self._part = b""  # of a record
        self._plain: bytes | memoryview = b""  # of a record that was longer than what was asked for

    # What an SSLObject does

    def do_handshake(self) -> None:
        self._enter()
        if not self._begun:
            self._begun = True
            self._call(self.java.beginHandshake)
        while (status := self._status()) not in (NOT_HANDSHAKING, FINISHED):
            if not self._own_part(status):
                self._unwrap()
        self._shaken()
        self._inside = False

    def read(self, size: int, memory: memoryview | None = None) -> Any:
        """Up to ``size`` bytes of one record; with ``memory`` they go there, and their number is given."""
        data = self._plain
        if not data:
            if self._ended:
                raise self._closed_properly
            self._enter()
            while not data:
                data = self._unwrap()
            self._inside = False
        if len(data) > size:
            data = memoryview(data)
            data, self._plain = data[:size], data[size:]
        else:
            self._plain = b""
        if memory is None:
            return data if isinstance(data, bytes) else bytes(data)
        memory[: len(data)] = data
        return len(data)

    def write(self, data: bytes | memoryview) -> int:
        """All of ``data``; SSLWantReadError while the peer renegotiates (TLS 1.2)."""
        if self._renegotiating:
            raise self._want_read
        self._enter()
        bridge = self._bridge
        sealed = []
        size, done = len(data), 0
        plain, cipher = _desks.pop() if _desks else _desk(bridge)
        wrap = self.java.wrap
        while done < size:
            piece = data[done : done + RECORD] if done or size > RECORD else data
            plain.put(piece)
            try:
                result = wrap(plain.buffer, cipher.buffer)
            except bridge.error as error:
                self._fail(error)
            count = result.bytesConsumed()
            if 0 < count < len(piece):
                self.full_record = int(count)
            done += count
            sealed.append(record := cipher.take())
            if not (count or record):
                self._cannot_write()
        _desks.append((plain, cipher))
        self._outgoing.write(sealed[0] if len(sealed) == 1 else b"".join(sealed))
        self._inside = False
        return size

    def unwrap(self) -> None:
        """Send close_notify; SSLWantReadError when the peer's own has not come yet."""
        if self._renegotiating:
            import ssl

            error = ssl.SSLError(ssl.SSL_ERROR_SSL, "a renegotiation is going on")
            error.reason = "SHUTDOWN_WHILE_IN_INIT"  # which has a session try again
            raise error
        self._enter()
        self._call(self.java.closeOutbound)
        while not self.java.isOutboundDone() and self._wrap():
            pass
        self._leave_unless_ended()

    # What an SSLObject knows

    def version(self) -> str | None:
        self._bridge.attach()
        return str(self.java.getSession().getProtocol()) if self._done else None

    def cipher(self) -> tuple[str, str, int] | None:
        """As the IANA calls it; in the handshake as soon as it was chosen."""
        self._bridge.attach()
        session = self.java.getSession() if self._done else self.java.getHandshakeSession()
        name = "" if session is None else str(session.getCipherSuite())
        return None if name in ("", NO_CIPHER) else (name, str(session.getProtocol()), _bits(name))

    def selected_alpn_protocol(self) -> str | None:
        self._bridge.attach()
        return str(self.java.getApplicationProtocol() or "") or None

    def getpeercert(self, binary_form: bool = True) -> bytes | None:
        return next(iter(self.get_unverified_chain()), None)

    def get_unverified_chain(self) -> list[bytes]:
        """The certificates the peer sent, DER; after a refusal those that were refused, where they are known."""
        if not self._done:
            return list(self.context.refused)
        self._bridge.attach()
        try:
            chain = self.java.getSession().getPeerCertificates()
        except self._bridge.error:  # there are none
            return []
        return [self._bridge.data(each.getEncoded()) for each in chain]

    # Behind it

    def __del__(self) -> None:
        try:
            self._bridge.attach()  # this thread gives up objects of Java's
        except RuntimeError:
            pass  # at the end of the program: there is no JVM any more

    def _enter(self) -> None:
        self._bridge.attach()
        if self._inside:
            import ssl

            raise ssl.SSLError(ssl.SSL_ERROR_SSL, "a signal's handler has interrupted the Java engine")
        self._inside = True

    def _unwrap(self) -> bytes:
        """What the next record holds, b"" when that is not payload; leaves at the end and when there is no record."""
        record = self._record()
        cipher, plain = _desks.pop() if _desks else _desk(self._bridge)
        cipher.put(record)
        try:
            result = self.java.unwrap(cipher.buffer, plain.buffer)
        except self._bridge.error as error:
            self._fail(error)
        if result.bytesProduced():
            data = plain.take()
            _desks.append((cipher, plain))
            return data
        _desks.append((cipher, plain))
        status = int(result.getStatus().ordinal())
        if status == UNDERFLOW:
            self._part = record
            self._leave(self._want_read)
        if status == CLOSED:
            self._end()
        if self._done:
            while self._own_part(status := self._status()):
                pass
            self._renegotiating = status == NEED_UNWRAP and not self.java.isOutboundDone()
        return b""

    def _record(self) -> bytes:
        """The next record; SSLWantReadError when it is not whole."""
        part = self._part or self._incoming.read(HEADER)
        if len(part) < HEADER:
            part += self._incoming.read(HEADER - len(part))
        if len(part) >= HEADER:
            size = HEADER + (part[3] << 8 | part[4])
            if not FIRST_TYPE <= part[0] <= LAST_TYPE:
                size = min(len(part) + self._incoming.pending, LARGEST)
            if len(part) < size:
                part += self._incoming.read(size - len(part))
            if len(part) == size:
                self._part = b""
                return part
        self._part = part
        self._leave(self._want_read)

    def _own_part(self, status: int) -> bool:
        """Do what the engine wants done before it goes on; False when that is nothing, or to hear the peer."""
        if status == NEED_TASK:
            while (task := self.java.getDelegatedTask()) is not None:
                self.context.watched(task.run)
        elif status == NEED_WRAP:
            return self._wrap()
        return status == NEED_TASK

    def _wrap(self) -> bool:
        """Let the engine say what it wants to say of itself; False when that is nothing."""
        plain, cipher = _desks.pop() if _desks else _desk(self._bridge)
        plain.put(b"")
        try:
            self.java.wrap(plain.buffer, cipher.buffer)
        except self._bridge.error as error:
            self._fail(error)
        piece = cipher.take()
        _desks.append((plain, cipher))
        self._outgoing.write(piece)
        return bool(piece)

    def _status(self) -> int:
        return int(self.java.getHandshakeStatus().ordinal())

    def _cannot_write(self) -> None:
        """wrap() took nothing and gave nothing."""
        status = self._status()
        if status == NEED_TASK:
            self._own_part(status)
        else:
            self._inside = False
            # As where a connection is closed: what has come can still be read.
            raise BrokenPipeError(EPIPE, "the peer has closed TLS, which in TLS 1.2 ends both directions")

    def _end(self) -> NoReturn:
        """The peer's close_notify came. (In TLS 1.2 Java answers it at once, and writing is over.)"""
        self._ended = True
        if self.version() != "TLSv1.3" and self._status() == NEED_WRAP:
            self._wrap()
        self._leave(self._closed_properly)

    def _call(self, method: Callable[..., object], *arguments: Any) -> None:
        try:
            method(*arguments)
        except self._bridge.error as error:
            self._fail(error)

    def _shaken(self) -> None:
        """The handshake is done, perhaps once more."""
        if not self._done:
            session = self.java.getSession()
            if session.getCipherSuite() == NO_CIPHER:
                self._leave(self._closed_properly)
            self._done = True
            self.session_reused = session.getValue(SEEN) is not None
            session.putValue(SEEN, SEEN)

    def _fail(self, error: Exception) -> NoReturn:
        """Java has thrown ``error``: let it tell the peer, then raise it as the ssl module would."""
        self._last_words()
        self._inside = False
        causes = self._bridge.causes(error)
        raise as_ssl_error(causes, self.context.refused, self._done) from error.with_traceback(None)

    def _last_words(self) -> None:
        for _ in range(LAST_WORDS):
            if self._status() != NEED_WRAP:
                return
            plain, cipher = _desk(self._bridge)
            plain.put(b"")
            try:
                self.java.wrap(plain.buffer, cipher.buffer)
            except self._bridge.error:
                continue
            self._outgoing.write(cipher.take())

    def _leave_unless_ended(self) -> None:
        self._inside = False
        if not self._ended:
            raise self._want_read

    def _leave(self, error: type[Exception]) -> NoReturn:
        self._inside = False
        raise error


def _desk(bridge: Bridge) -> tuple[Memory, Memory]:
    return bridge.memory(ROOM), bridge.memory(ROOM)


_desks: list[tuple[Memory, Memory]] = []
"""Pairs of buffers that nobody uses at the moment: as many as there have been threads inside at once."""


def _bits(suite: str) -> int:
    """The strength of a cipher suite's key, by its name; 0 where it does not tell."""
    if "CHACHA20" in suite:
        return 256
    found = re.search(r"_(?:AES|ARIA|CAMELLIA)_(\d+)_", suite)
    return int(found[1]) if found else 0
