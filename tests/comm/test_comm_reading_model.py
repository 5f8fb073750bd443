"""comm's functions that read, in any order and however it comes, against a model.

The model knows what has been sent and not read. Where it has too little for a function, the stream's time limit of 0
passes at once, and that counts as the end; so every run knows what every call has to give.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lisp_pairs import (
    ELEMENT_TYPES,
    arrived,
    near_and_far,
)

from landline import comm
from landline.testing.contract.stage import until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

END = object()

FEW = st.sampled_from([b"\n", b" ", b"a", b"\xff", b"\r\n"]) | st.binary(max_size=40)

STEPS = st.one_of(
    st.tuples(st.just("send"), FEW),
    st.tuples(st.sampled_from(["read_char", "read_char_no_hang", "read_byte", "read_line", "listen"])),
    st.tuples(st.just("peek_char"), st.sampled_from([None, True, "a", "\xff"])),
    st.tuples(st.just("unread_char"), st.integers(0, 255)),
    st.tuples(st.just("read_sequence"), st.integers(0, 30)),
    st.tuples(st.sampled_from(["clear_input", "end"])),
)


class Model:
    """What is to be read, as a list of bytes would give it."""

    def __init__(self, kind: str) -> None:
        self.left = b""
        self.ended = False
        self._kind = kind

    def take(self, count: int) -> bytes:
        taken, self.left = self.left[:count], self.left[count:]
        return taken

    def expect(self, doing: str, what: Any) -> Any:
        match doing:
            case "read_char":
                return self.take(1).decode("latin-1") or END
            case "read_char_no_hang":
                return self.take(1).decode("latin-1") or (END if self.ended else None)
            case "read_byte":
                return int.from_bytes(data, signed=self._kind == "signed-byte") if (data := self.take(1)) else END
            case "peek_char":
                while self.left and not (
                    what is None or (what is True and self.left[:1] not in b" \t\n\f\r\x7f")
                    or self.left[:1].decode("latin-1") == what
                ):  # fmt: skip
                    self.take(1)
                return self.left[:1].decode("latin-1") or END
            case "read_line":
                line, newline, _ = self.left.partition(b"\n")
                if not newline and not (self.ended and line):
                    return (END, True)
                self.take(len(line) + len(newline))
                return (line.decode("latin-1"), not newline)
            case "read_sequence":
                return self.take(what)
            case "listen":
                return bool(self.left)
            case "unread_char":
                self.left = bytes([what]) + self.left
            case "clear_input":
                self.left = b""
        return None


@settings(max_examples=150)
@given(st.sampled_from(ELEMENT_TYPES), st.lists(STEPS, max_size=40))
def test_in_any_order_and_however_it_comes_the_functions_agree_with_a_model(
    kind: str, steps: list[tuple[Any, ...]]
) -> None:
    with near_and_far(element_type=kind) as (stream, far):
        stream.read_timeout = 0
        model, sent = Model(kind), 0
        for doing, *more in steps:
            what: Any = more[0] if more else None
            if doing == "read_byte" and kind == "base-char":
                continue
            if doing in ("send", "end"):
                if model.ended:
                    continue
                if doing == "end":
                    far.shutdown(socket.SHUT_WR)
                    model.ended = True
                    until(stream.input_ready)
                    continue
                far.sendall(what)
                model.left += what
                sent += len(what)
                wait_for(stream, sent)
                continue
            assert done(stream, doing, what) == model.expect(doing, what), (doing, what)


def wait_for(stream: comm.SocketStream, count: int) -> None:
    until(lambda: arrived(stream) == count)


def done(stream: comm.SocketStream, doing: str, what: Any) -> Any:
    match doing:
        case "read_line":
            return tuple(comm.read_line(stream, None, END))
        case "peek_char":
            return comm.peek_char(what, stream, None, END)
        case "unread_char":
            return comm.unread_char(chr(what), stream)
        case "read_sequence":
            sequence = bytearray(what)
            return bytes(sequence[: comm.read_sequence(sequence, stream)])
        case "listen" | "clear_input":
            return getattr(comm, doing)(stream)
        case _:
            return getattr(comm, doing)(stream, None, END)
