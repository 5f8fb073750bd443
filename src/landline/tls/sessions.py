"""TLS sessions kept for resumption: who may be offered which.

A resumed session skips the certificate: OpenSSL neither verifies the chain nor compares the name again. So a
session is offered only where the full handshake would have asked the very same questions: to the same peer
address, under the same SNI, with the same name checked and the same strictness, in the same context.

A session keeps its context alive, so a table beside the contexts would never let go of them. Sessions of
landline's own contexts live beside these; those of a user's SSLContext in an attribute of it, from its second
use on: contexts made for a single connection never become part of a cycle that only the collector can free.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

__all__ = ["SessionCache", "sessions_of"]

MOST_PEERS = 128  # of one context; a session with its certificates takes some 10 KB
MOST_PER_PEER = 4  # what a client that opens a few connections at once can use


class SessionCache:
    """The sessions of one SSLContext. Safe for threads; the least used keys go first.

    A session is handed out once (RFC 8446 C.4: tickets used twice tell an onlooker that both are one client), and
    a handshake that fails has used it up. For each key a few are kept, so that connections opened at once can
    all resume.
    """

    def __init__(self, most: int = MOST_PEERS) -> None:
        self._sessions: OrderedDict[Hashable, list[ssl.SSLSession]] = OrderedDict()
        self._most = most
        self._lock = Lock()

    def __len__(self) -> int:
        return sum(map(len, self._sessions.values()))

    def take(self, key: Hashable) -> ssl.SSLSession | None:
        """The latest session kept under `key` that is still valid, or None. It is kept no longer."""
        now = time.time()
        with self._lock:
            kept = self._sessions.pop(key, None)
            while kept:
                session = kept.pop()
                if session.time + session.timeout > now:
                    if kept:
                        self._sessions[key] = kept
                    return session
        return None

    def put(self, key: Hashable, session: ssl.SSLSession | None) -> None:
        """Keep `session`, unless it cannot be resumed (in TLS 1.3 not before the server's ticket came) or is there."""
        if session is None or not (session.has_ticket or session.id):
            return
        with self._lock:
            kept = self._sessions.setdefault(key, [])
            self._sessions.move_to_end(key)
            if all(session.id != other.id for other in kept):
                kept.append(session)
                del kept[:-MOST_PER_PEER]
            if len(self._sessions) > self._most:
                self._sessions.popitem(last=False)


_ATTRIBUTE = "_landline_sessions"


def sessions_of(context: ssl.SSLContext) -> SessionCache | None:
    """The cache of a user's own context; None at its first use, and where it cannot have one."""
    import ssl

    if context.options & ssl.OP_NO_TICKET:  # the owner's wish
        return None
    if type(context).__module__.partition(".")[0] == "truststore":
        return None  # it asks the system about the chain after each handshake; a resumed session brings none
    try:
        facts = vars(context)
        if _ATTRIBUTE not in facts:
            facts[_ATTRIBUTE] = None
            return None
        found = facts[_ATTRIBUTE]
        if found is None:
            found = facts[_ATTRIBUTE] = SessionCache()
    except TypeError:  # a subclass without attributes
        return None
    made: SessionCache = found
    return made
