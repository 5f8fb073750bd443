"""A TLS session in memory: ciphertext and payload in, payload and ciphertext out, and exact counts.

SSLSocket mixes TLS with its socket: a write that times out inside a record cannot be resumed, two threads hold
one another up, and shutdown() turns TLS off without a word. Here OpenSSL works between two MemoryBIOs and never
waits, so it can always go on. Whoever drives the session moves the bytes:

    feed(what the transport received)      ->  read(size): payload, None (feed more), b"" (closed properly)
    write(payload)                         ->  outgoing(): ciphertext to hand over; sent(how much of it went)

The session is not locked. Its driver holds one short lock around every call and none around I/O; outgoing()
gives an immutable piece that stays at the front until sent() says so, whatever is added meanwhile.

* *Counts.* Where each write ends in the ciphertext is remembered with its payload; only when the transport takes
  part of it are its records told apart. (One call per record is simpler and 8% slower.)
* *Bounds.* write() encrypts AHEAD bytes at most before they are handed over. What is fed waits in one piece and
  goes to OpenSSL in slices, because a MemoryBIO never gives memory back.
* *Half close.* close_output() sends close_notify, and reading goes on. SSLObject.unwrap() fails for good when it
  finds payload it would have to skip, so everything that was fed is decrypted first.
* *Truncation.* The end of the transport is not told to OpenSSL: what it makes of that depends on its version and
  on an option of the context. An end before close_notify is a failure here, always.
* *Failures* are the session's last word: the same one again from every call. What OpenSSL still wants to say (the
  alert that tells the peer why) is in outgoing(). Plain bytes come out only behind close_notify (leftover()).
* "Want read" is an exception and costs 1.5 us, a tenth of a round trip: read() does not ask OpenSSL when it knows
  that everything has been taken.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

from .session_failure import ALERT, MISMATCH_ALERTS, MISMATCH_REASONS, Failure, Kind, SessionFailed, may_be_tls, not_tls

__all__ = ["AHEAD", "Facts", "Failure", "Kind", "Session", "SessionFailed", "chain_of"]

RECORD = 16384
"""The most payload a record may carry (RFC 8446, 5.1)."""

AHEAD = 8 * RECORD
"""Payload encrypted before it is handed over. Twice that gains nothing, half of it costs 5%."""

MOST_RECORD = RECORD + 2048 + 5
"""The longest record there is (RFC 5246, 6.2.3, with its header): with less in hand OpenSSL may ask for more."""

FEED = 32768
"""Slices in which ciphertext goes to OpenSSL, and so, with MOST_RECORD, what a MemoryBIO grows to."""

MOST_REPLIES = 1 << 20
"""Ciphertext waiting behind outgoing() when a peer keeps making us answer and reads nothing: no honest one needs it."""

FIRST = 64
"""The peer's first bytes kept, to say what it speaks if it is not TLS."""


@dataclass(frozen=True)
class Facts:
    """What was agreed upon. ``cipher``: name, protocol, secret bits. ``chain``: DER, the peer's own certificate first;
    the chain that was verified or, where the context verifies nothing, the one the peer sent."""

    version: str | None
    cipher: tuple[str, str, int] | None
    alpn: str | None
    session_reused: bool
    chain: tuple[bytes, ...]


class Session:
    """One side of one TLS connection. See the top of the file; all methods may raise SessionFailed.

    Attributes:
        ssl_object: for callbacks that configure it before the handshake; reading and writing is done here.
        established: the handshake is done.
        unsent: payload bytes that were encrypted and are not handed over in whole records yet.
        output_closed: close_output() was called, and writing is over.
        input_closed: the peer's close_notify came; set when read() first gives b"".
        outgoing_bio: whose ``pending`` says more cheaply than has_outgoing whether a read has made an answer.
        dry, normal: for a short way around read(), which gives None while both hold: OpenSSL has nothing to give
            before more is fed; and that is all that a read would find.
    """

    __slots__ = (
        "_chunk", "_ended", "_failure", "_first", "_handed", "_incoming", "_marks", "_may_renegotiate", "_produced",
        "_read", "_ready", "_rest", "_write", "dry", "established", "input_closed", "normal", "outgoing_bio",
        "output_closed", "ssl_object", "unsent",
    )  # fmt: skip

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """``session`` is one to resume, of the same context (clients only). Raises ValueError, ssl.SSLError."""
        self._incoming = ssl.MemoryBIO()
        self.outgoing_bio = ssl.MemoryBIO()
        self.ssl_object = context.wrap_bio(self._incoming, self.outgoing_bio, server_side, server_hostname, session)
        self._read: Callable[..., Any] = _too_early
        self._write: Callable[[memoryview | bytes], int] = _too_early
        self.established = self.output_closed = self.input_closed = self._ended = False
        self._failure: tuple[Failure, BaseException | None] | None = None
        self._first = b""  # what the peer said first, until the handshake is done
        self._rest: memoryview | bytes = b""  # fed, and not given to OpenSSL yet
        self._ready: memoryview | bytes = b""  # decrypted before anybody asked
        self.dry = True
        self.normal = False
        self._may_renegotiate = False
        self._chunk = b""  # ciphertext on its way, whole records
        self._marks: list[tuple[int, int]] = []  # (where a write ends in all the ciphertext, its payload), not yet out
        self._produced = 0  # ciphertext taken out of the MemoryBIO since the beginning, the chunk included
        self._handed = 0  # ciphertext handed over since the beginning
        self.unsent = 0

    # The handshake

    def handshake(self) -> bool:
        """Go on with the handshake. True: it is done. False: feed more. Hand over outgoing() in every case."""
        self.check()
        while not self.established:
            try:
                self.ssl_object.do_handshake()
            except ssl.SSLWantReadError:
                if self._slice():
                    continue
                if self._ended:
                    self._fail(ssl.SSLEOFError())
                return False
            except ssl.SSLError as error:
                self._fail(error)
            known = type(self.ssl_object)  # which only passes on to an object behind it, unless it is a subclass
            usual = known.read is ssl.SSLObject.read and known.write is ssl.SSLObject.write
            direct: Any = (usual and getattr(self.ssl_object, "_sslobj", None)) or self.ssl_object
            self._read, self._write = direct.read, direct.write
            self._first = b""
            self.dry = False
            self.normal = not self._ended
            lasting = (
                self.ssl_object.version() == "TLSv1.3" or self.ssl_object.context.options & ssl.OP_NO_RENEGOTIATION
            )
            self._may_renegotiate = not lasting
            self.established = True
        return True

    def refuse(self, text: str, reason: str | None = None) -> None:
        """Raises SessionFailed: the peer is not the one that was wanted. No byte passes any more.

        OpenSSL does not know why, and the standard library can send no alert of ours: the peer gets a close_notify.
        """
        self.close_output()
        self._ready = b""
        self._fail(None, Failure("verification", text, reason, self.established))

    # Receiving

    def feed(self, data: bytes) -> None:
        """The transport received ``data``. Never raises: what is wrong with it is told by the next call."""
        if self.normal:
            self.dry = False
        elif self._failure is not None:
            return
        elif not self.established:
            self._first += data[: max(0, FIRST - len(self._first))]
        if self._rest or len(data) > FEED or self.input_closed:
            self._rest = memoryview(b"".join((self._rest, data)) if self._rest else data)
        else:
            self._incoming.write(data)
        if self.outgoing_bio.pending > MOST_REPLIES:
            self._set(ssl.SSLError(ssl.SSL_ERROR_SSL, "the peer demands answers and does not read them"))

    def feed_end(self) -> None:
        """The transport is at its end."""
        self._ended = True
        self.normal = False

    def read(self, size: int) -> bytes | None:
        """Up to ``size`` (at least 1) bytes, of several records; None: feed more; b"": the peer closed properly.

        On None hand over outgoing() before waiting for more: the peer may be waiting for an answer.
        """
        data: bytes | None = None if self.dry else self._record(size)
        if data is None:
            return None if self.normal else self._unusual(size)
        return data if self.dry or len(data) == size else self._more(data, size)

    def feed_and_read(self, data: bytes, size: int) -> bytes | None:
        """The two in one: half as long for a record that comes alone and whole."""
        if not (self.dry and self.normal) or len(data) > FEED:
            self.feed(data)
            return self.read(size)
        self._incoming.write(data)
        most = min(size, RECORD)  # what OpenSSL gives at once: memory for more would be taken and given back
        try:
            got: bytes = self._read(most)
        except ssl.SSLWantReadError:
            return None
        except BaseException as error:
            if not self._met(error):
                raise
            return self._unusual(size)
        if len(got) == most or self._incoming.pending:
            self.dry = False
        if not got:
            self._met(ssl.SSLZeroReturnError())
            return b""
        return got if self.dry or len(got) == size else self._more(got, size)

    def read_into(self, memory: memoryview) -> int | None:
        """The same, into ``memory`` (of bytes, not empty): how much of it was filled; None: feed more; 0: closed."""
        size = len(memory)
        got = 0
        while got < size and not self.dry and (count := self._record(size - got, memory[got:])):
            got += count
        if got or self.normal:
            return got or None
        if data := self._unusual(size):
            memory[: len(data)] = data
        return None if data is None else len(data)

    def input_ready(self) -> bool:
        """Whether read() would give something without more being fed: payload, the end, or a failure."""
        if self.normal:
            self._decrypt()
        return not self.normal

    def leftover(self) -> bytes:
        """What came behind the peer's close_notify: not TLS any more. Only after read() gave b""."""
        if not self.input_closed:
            raise ValueError("the peer has not closed TLS yet")
        rest = self._incoming.read() + self._rest
        self._rest = b""
        return rest

    # Sending

    def seal(self, data: memoryview | bytes) -> memoryview | bytes:
        """write() what of ``data`` was not written yet (all but its first ``unsent`` bytes), then outgoing()."""
        ahead = self.unsent
        if len(data) > ahead:
            self.write(data[ahead:] if ahead else data)
        if self._chunk:
            return self.outgoing()
        self._chunk = chunk = self.outgoing_bio.read()
        self._produced += len(chunk)
        return chunk

    def write(self, data: memoryview | bytes) -> int:
        """Encrypt ``data`` as far as AHEAD allows: how much, from its front. Never write that again.

        Fewer than all: hand over outgoing() first. If that is not it (``unsent`` is 0), the peer has begun a
        renegotiation (TLS 1.2, contexts without OP_NO_RENEGOTIATION), which goes on with feed() and read().
        """
        if self._failure is not None or self.output_closed:
            self.check()
            raise ValueError("close_output() was called: nothing more can be written")
        size = len(data)
        if size > AHEAD - self.unsent:
            size = (AHEAD - self.unsent) // RECORD * RECORD
            data = data[:size]
        if not size:
            return 0
        if self._may_renegotiate and not self.dry:
            self._decrypt()  # a write that meets payload in the middle of a renegotiation fails for good
            self.check()
        before = self.outgoing_bio.pending
        try:
            self._write(data)
        except ssl.SSLWantReadError:
            size = 0
        except ssl.SSLError as error:
            size = 0
            self._fail(error)
        finally:  # also when a signal's handler raised, after the records were made
            if size and (after := self.outgoing_bio.pending) > before:
                self._marks.append((self._produced + after, size))
                self.unsent += size
        return size

    def close_output(self) -> bool:
        """Queue close_notify (nothing, during the handshake). Writing is over, and reading goes on.

        False: a renegotiation is going on, and must be over first; as with write(), feed() and call again.
        """
        self.check()
        closed, self.output_closed = self.output_closed, True
        if closed or not self.established:
            return True
        self._decrypt()
        self.check()
        try:
            self.ssl_object.unwrap()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            if error.reason == "SHUTDOWN_WHILE_IN_INIT":
                self.output_closed = False
                return False
            self._fail(error)
        return True

    def outgoing(self) -> memoryview | bytes:
        """Ciphertext to hand over next; b"" when there is none. The same again, or its rest, until sent()."""
        chunk = self._chunk
        if not chunk:
            self._chunk = chunk = self.outgoing_bio.read()
            self._produced += len(chunk)
            return chunk
        left = self._produced - self._handed
        return memoryview(chunk)[-left:] if left < len(chunk) else chunk

    @property
    def has_outgoing(self) -> bool:
        return bool(self._chunk or self.outgoing_bio.pending)

    def sent(self, count: int) -> int:
        """``count`` bytes of outgoing() were handed over: how many payload bytes are now out in whole records."""
        self._handed += count
        if self._handed < self._produced:
            self._tell_records_apart()
        else:
            self._chunk = b""
            if len(self._marks) == 1 and self._marks[0][0] <= self._handed:
                self._marks.clear()
                payload, self.unsent = self.unsent, 0
                return payload
        whole = payload = 0
        for end, size in self._marks:
            if end > self._handed:
                break
            whole += 1
            payload += size
        del self._marks[:whole]
        self.unsent -= payload
        return payload

    # What is known about it

    def check(self) -> None:
        """Raises SessionFailed if the session has failed."""
        if self._failure is not None:
            failure, error = self._failure
            raise SessionFailed(failure) from (error and error.with_traceback(None))

    @property
    def failed(self) -> bool:
        return self._failure is not None

    def facts(self) -> Facts:
        """What the handshake agreed upon."""
        known = self.ssl_object
        try:
            leaf = known.getpeercert(binary_form=True)
        except ValueError:  # asked only after the session had failed
            leaf = None
        chain: tuple[bytes, ...] = ()
        if leaf is not None:  # the lists are of no use without it; and are empty in a resumed session
            chain = chain_of(known, "get_verified_chain") or chain_of(known, "get_unverified_chain") or (leaf,)
        return Facts(
            version=known.version(),
            cipher=known.cipher(),
            alpn=known.selected_alpn_protocol(),
            session_reused=bool(known.session_reused),
            chain=chain,
        )

    def unverified_chain(self) -> tuple[bytes, ...]:
        """The certificates the peer sent, DER, its own first; also after their verification failed. () if none."""
        return chain_of(self.ssl_object, "get_unverified_chain")

    def resumable(self) -> ssl.SSLSession | None:
        """What another connection to the peer may resume, once. None: nothing yet (in TLS 1.3 it comes with reads)."""
        session = self.ssl_object.session if self.established else None
        usable = session and (session.has_ticket or (session.id and self.ssl_object.version() != "TLSv1.3"))
        return session if usable else None

    # Behind it

    def _record(self, size: int, memory: memoryview | None = None) -> Any:
        """Bytes of a record, or their number in ``memory``; None when there are none (_unusual() tells why)."""
        size = min(size, RECORD)
        while True:
            if self._rest and self._incoming.pending < MOST_RECORD:
                self._slice()
            try:
                data = self._read(size) if memory is None else self._read(size, memory)
            except ssl.SSLWantReadError:
                if self._slice():
                    continue
                self.dry = True
                return None
            except BaseException as error:
                if not self._met(error):
                    raise
                return None
            if not data:
                self._met(ssl.SSLZeroReturnError())
                return None
            # A short answer means that there is no more of this record.
            if (len(data) if memory is None else data) < size and not self._rest and not self._incoming.pending:
                self.dry = True
            return data

    def _more(self, data: bytes, size: int) -> bytes:
        """``data``, and as much from the records behind it as is there, up to ``size``."""
        pieces, got = [data], len(data)
        while got < size and not self.dry and (another := self._record(size - got)):
            pieces.append(another)
            got += len(another)
        return b"".join(pieces)

    def _met(self, error: BaseException) -> bool:
        """OpenSSL gave ``error`` instead of payload, the end or a failure; False when it is not OpenSSL's to give."""
        if isinstance(error, ssl.SSLZeroReturnError):
            self.input_closed = self.dry = True
            self.normal = False
        elif isinstance(error, ssl.SSLError):
            self._set(error)
        else:
            # Of a signal's handler, as a rule. A record may have been lost with it, and nobody can tell.
            self._set(None, Failure("local", f"{type(error).__name__} interrupted reading", established=True))
            return False
        return True

    def _decrypt(self) -> None:
        """Decrypt all that was fed, to be given by the next reads."""
        pieces = [self._ready]
        if self._ready:
            self._go_on()
        while not self.dry and (data := self._record(RECORD)):
            pieces.append(data)
        if ready := b"".join(pieces):
            self._ready = memoryview(ready)
            self.dry, self.normal = True, False

    def _go_on(self) -> None:
        """What was decrypted in advance is gone: reads are OpenSSL's again."""
        self.dry = self.input_closed or self._failure is not None
        self.normal = not (self.dry or self._ended)

    def _slice(self) -> bool:
        """Give OpenSSL the next slice of what was fed; False when there is none."""
        if rest := self._rest:
            self._incoming.write(rest[:FEED])
            self._rest = rest[FEED:]
        return bool(rest)

    def _unusual(self, size: int) -> bytes | None:
        """What a read gets when OpenSSL gives nothing and that is not for lack of ciphertext alone."""
        if self._ready:
            data = bytes(self._ready[:size])
            self._ready = self._ready[size:]
            if not self._ready:
                self._go_on()
            return data
        self.check()
        if self.input_closed:
            return b""
        if not self.established:
            _too_early()
        if self._ended:
            self._fail(ssl.SSLEOFError())
        return None

    def _tell_records_apart(self) -> None:
        """Part of the chunk was handed over: make a mark for each record of the write that was cut in two.

        Other records may stand before those of the write (a key update). Where its own are not full (a peer
        may ask for short ones) it is left in one piece, and counts when all of it is out.
        """
        cut = next((index for index, (end, _) in enumerate(self._marks) if end > self._handed), None)
        full = getattr(self.ssl_object, "full_record", RECORD)  # Java leaves room for padding
        if cut is None or self._marks[cut][1] <= full:
            return
        chunk, begin = self._chunk, self._produced - len(self._chunk)
        end, size = self._marks[cut]
        ends = [0]
        while ends[-1] < end - begin:
            at = ends[-1]
            ends.append(at + 5 + int.from_bytes(chunk[at + 3 : at + 5], "big"))
        ends = ends[-1 - -(-size // full) :]
        lengths = {after - before for before, after in pairwise(ends[:-1])}
        if len(lengths) == 1 and lengths.pop() > full:
            payloads = [full] * (len(ends) - 2)
            payloads.append(size - sum(payloads))
            self._marks[cut : cut + 1] = [(begin + after, each) for after, each in zip(ends[1:], payloads, strict=True)]

    def _set(self, error: BaseException | None, failure: Failure | None = None) -> None:
        if error is not None:  # what it was raised in has frames, which hold this session
            error.__traceback__ = error.__context__ = None
        self._failure = failure or self._judged(error), error
        self.dry, self.normal = True, False

    def _fail(self, error: BaseException | None, failure: Failure | None = None) -> None:
        self._set(error, failure)
        self.check()

    def _judged(self, error: BaseException | None) -> Failure:
        reason: str | None = getattr(error, "reason", None)
        if not self.established and not may_be_tls(self._first):
            return not_tls(self._first, reason)
        # What OpenSSL says, without the brackets and the place in CPython's source.
        text = str(error).rpartition("] ")[2].partition(" (_ssl.c:")[0]
        told = ALERT.fullmatch(text)
        kind: Kind = "protocol"
        alert, code = None, 0
        match error:
            case ssl.SSLCertVerificationError():
                kind, code = "verification", getattr(error, "verify_code", 0)
                text = getattr(error, "verify_message", "") or text
            case ssl.SSLEOFError():
                kind, text = "truncated", "the peer ended the connection without close_notify"
            case ssl.SSLZeroReturnError():
                kind, text = "closed", "the peer closed TLS in the middle of the handshake"
            case _ if told is not None:
                alert = told[1]
                # A handshake failure is about ciphers (or groups) only until one has been chosen.
                chosen = self.established or self.ssl_object.cipher() is not None
                kind = "mismatch" if alert in MISMATCH_ALERTS and not chosen else "alert"
                text = f"the peer refuses, with the alert {alert!r}"
            case _ if reason in MISMATCH_REASONS:
                kind = "mismatch"
            case _ if reason == "CALLBACK_FAILED":
                kind = "local"
        return Failure(kind, text, reason, self.established, alert, code)


def _too_early(*_: object) -> NoReturn:
    raise RuntimeError("handshake() must be done first")


def chain_of(known: ssl.SSLObject, which: str) -> tuple[bytes, ...]:
    """A chain of certificates in DER; () if there is none.

    Through the private twin of the method, which all versions have; the public one (3.13) fails where there are none.
    """
    method = getattr(getattr(known, "_sslobj", None), which, None) or getattr(known, which, None)
    found: list[Any] = (method and method()) or []
    return tuple(
        each if isinstance(each, bytes) else ssl.PEM_cert_to_DER_cert(each.public_bytes())
        for each in found
        if each is not None
    )
