"""A small name server: each question is answered by a table, at once, later or never."""

from __future__ import annotations

import heapq
import socket
import struct
import threading
from collections.abc import Sequence
from itertools import count
from time import monotonic
from typing import Literal, NamedTuple, TypeAlias

from landline.sync.wait import Wakeup, wait_for_sockets

Kind: TypeAlias = Literal["A", "AAAA"]

NEVER = None


class Answer(NamedTuple):
    """Addresses (none at all: the name has no such record), and after how many seconds; None is never."""

    addresses: Sequence[str]
    after: float | None = 0.0


class NameServer:
    """Answers on a UDP socket, from a thread, between __enter__ and __exit__. It owns the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.answered: dict[tuple[str, Kind], float] = {}
        """When an answer was sent last, on the monotonic clock, which all processes share."""
        self._sock = sock
        self._table: dict[tuple[str, Kind], Answer] = {}
        self._wakeup = Wakeup()
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name="name server")

    def say(
        self,
        name: str,
        a: Sequence[str] = (),
        aaaa: Sequence[str] = (),
        *,
        a_after: float | None = 0.0,
        aaaa_after: float | None = 0.0,
    ) -> str:
        """Set what is known of a name, and return it. Names never mentioned do not exist."""
        self._table[name, "A"] = Answer(a, a_after)
        self._table[name, "AAAA"] = Answer(aaaa, aaaa_after)
        return name

    def __enter__(self) -> NameServer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped = True
        self._wakeup.set()
        self._thread.join()
        self._wakeup.close()
        self._sock.close()

    def _serve(self) -> None:
        due: list[tuple[float, int, bytes, tuple[str, int], tuple[str, Kind]]] = []
        numbers = count()
        while not self._stopped:
            limit = max(0.0, due[0][0] - monotonic()) if due else None
            ready = wait_for_sockets([self._sock.fileno(), self._wakeup.fileno()], (), limit)
            if self._sock.fileno() in ready:
                query, asker = self._sock.recvfrom(4096)
                question = _parse(query)
                answer = self._table.get(question)
                if answer is None or answer.after is not NEVER:
                    at = monotonic() + ((answer and answer.after) or 0.0)
                    heapq.heappush(due, (at, next(numbers), _reply(query, question, answer), asker, question))
            while due and due[0][0] <= monotonic():
                _, _, reply, asker, question = heapq.heappop(due)
                self.answered[question] = monotonic()
                self._sock.sendto(reply, asker)


_TYPES: dict[int, Kind] = {1: "A", 28: "AAAA"}
_HEADER = struct.Struct("!6H")  # RFC 1035 4.1.1
_RECORD = struct.Struct("!HHHIH")  # RFC 1035 4.1.3, its name being a pointer


def _parse(query: bytes) -> tuple[str, Kind]:
    """The one question in a query; its end is that of the name's bytes and four more."""
    labels, position = [], _HEADER.size
    while length := query[position]:
        labels.append(query[position + 1 : position + 1 + length].decode("ascii"))
        position += 1 + length
    (kind,) = struct.unpack_from("!H", query, position + 1)
    return ".".join(labels).lower(), _TYPES[kind]


def _reply(query: bytes, question: tuple[str, Kind], answer: Answer | None) -> bytes:
    name, kind = question
    end = _HEADER.size + len(name) + 2 + 4
    code = 3 if answer is None else 0  # NXDOMAIN
    addresses = answer.addresses if answer else ()
    header = _HEADER.pack(struct.unpack_from("!H", query)[0], 0x8180 | code, 1, len(addresses), 0, 0)
    family, number = (socket.AF_INET, 1) if kind == "A" else (socket.AF_INET6, 28)
    packed = [socket.inet_pton(family, address) for address in addresses]
    records = [_RECORD.pack(0xC000 | _HEADER.size, number, 1, 0, len(data)) + data for data in packed]
    return header + query[_HEADER.size : end] + b"".join(records)
