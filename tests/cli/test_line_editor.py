"""The line being typed, and the screen that shows it: keys in, lines and bytes out, without a terminal."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landline.cli.line_editor import LineEditor, columns_of
from landline.cli.screen import LEAST_ROOM, Screen

UP, DOWN, RIGHT, LEFT = b"\x1b[A", b"\x1b[B", b"\x1b[C", b"\x1b[D"
ALT_B, ALT_F, ALT_D = b"\x1bb", b"\x1bf", b"\x1bd"


def typed(*keys: bytes, encoding: str = "utf-8") -> LineEditor:
    editor = LineEditor(encoding)
    for key in keys:
        assert list(editor.feed(key)) == []
    return editor


@pytest.mark.parametrize(
    ("keys", "text", "cursor"),
    [
        ([b"abc"], "abc", 3),
        ([b"abc", LEFT, LEFT, b"X"], "aXbc", 2),
        ([b"abc\x01X"], "Xabc", 1),
        ([b"abc\x01\x05X"], "abcX", 4),
        ([b"abc", LEFT, b"\x7f"], "ac", 1),
        ([b"abc\x01\x04"], "bc", 0),
        ([b"abc\x01\x1b[3~"], "bc", 0),
        ([b"abc\x01\x7f"], "abc", 0),
        ([b"abc", RIGHT, LEFT], "abc", 2),
        ([b"one two\x17"], "one ", 4),
        ([b"one two  \x17\x17"], "", 0),
        ([b"one two\x15"], "", 0),
        ([b"one two", ALT_B, b"\x0b"], "one ", 4),
        ([b"one two", ALT_B, ALT_B, ALT_D, b"\x05\x19"], " twoone", 7),
        ([b"one two\x01", ALT_F], "one two", 3),
        ([b"\x1b[H", b"a", b"\x1b[1~b", b"\x1bOHc"], "cba", 1),
        (["wörld".encode(), LEFT, LEFT, LEFT, b"\x7f"], "wrld", 1),
        ([b"w\xc3", b"\xb6"], "wö", 2),
        ([b"a\x1b", b"[", b"D", b"b"], "ba", 1),
        ([b"a\x1b[99;99zb"], "ab", 2),
        ([b"\x16\x03"], "\x03", 1),
        ([b"\x16\x1b"], "\x1b", 1),
        ([b"a\x07\x1db"], "ab", 2),
    ],
)
def test_keys_edit_the_line(keys: list[bytes], text: str, cursor: int) -> None:
    editor = typed(*keys)
    assert (editor.text, editor.cursor) == (text, cursor)


def test_enter_finishes_a_line_and_a_paste_finishes_several() -> None:
    editor = LineEditor("utf-8")
    assert list(editor.feed(b"one\ntwo\rthr")) == [b"one\n", b"two\n"]
    assert list(editor.feed(b"ee\n\n")) == [b"three\n", b"\n"]


def test_while_a_line_is_given_its_text_is_still_there() -> None:
    editor = LineEditor("utf-8")
    assert [(line, editor.text) for line in editor.feed(b"one\ntwo\n")] == [(b"one\n", "one"), (b"two\n", "two")]


def test_control_d_sends_what_there_is_and_ends_an_empty_line() -> None:
    editor = LineEditor("utf-8")
    assert list(editor.feed(b"abc\x04")) == [b"abc"]
    assert list(editor.feed(b"\x04")) == [b""]


def test_the_history_goes_back_and_forth_and_keeps_the_new_line() -> None:
    editor = LineEditor("utf-8")
    assert len(list(editor.feed(b"one\ntwo\ntwo\n\n"))) == 4
    seen = []
    for key in (b"new", UP, UP, UP, DOWN, DOWN, DOWN):
        assert list(editor.feed(key)) == []
        seen.append(editor.text)
    assert seen == ["new", "two", "one", "one", "two", "new", "new"]
    assert list(editor.feed(UP + UP + b"!\n")) == [b"one!\n"]


def test_bytes_that_are_no_characters_are_sent_as_they_came() -> None:
    editor = LineEditor("utf-8")
    assert list(editor.feed(b"\xff\xe9x\n")) == [b"\xff\xe9x\n"]
    editor = LineEditor("iso8859-1")
    assert list(editor.feed(b"\xe9\n")) == [b"\xe9\n"]


@given(st.lists(st.binary(max_size=6) | st.sampled_from([UP, DOWN, LEFT, RIGHT, ALT_B, ALT_D, b"\x17", b"\x19"])))
def test_any_keys_leave_a_line_that_can_be_seen(keys: list[bytes]) -> None:
    editor = LineEditor("utf-8")
    for key in keys:
        list(editor.feed(key))
        assert 0 <= editor.cursor <= len(editor.text)
        shown, cursor = editor.view(20)
        assert columns_of(shown) <= 20
        assert 0 <= cursor <= 20
        assert all(one.isprintable() or columns_of(one) == 0 for one in shown)


def test_what_is_seen_follows_the_cursor() -> None:
    editor = typed(b"0123456789" * 3)
    assert editor.view(11) == ("0123456789", 10)
    list(editor.feed(b"\x01"))
    assert editor.view(11) == ("0123456789", 0)
    wide = typed("日本".encode(), b"\x03")
    assert wide.view(20) == ("日本", 4)
    assert typed(b"a\x16\x03").view(20) == ("a^C", 3)


# ---- the screen --------------------------------------------------------------------------------------


class Terminal:
    """What a Screen writes, obeyed as far as it goes: rows of text, and the cursor."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, width: int = 40) -> None:
        self.raw = b""
        self.reader, writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.screen = Screen(writer)
        self.writer = writer
        monkeypatch.setattr(os, "get_terminal_size", lambda descriptor: os.terminal_size((width, 24)))

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)

    def read(self) -> bytes:
        with contextlib.suppress(BlockingIOError):
            self.raw += os.read(self.reader, 1 << 20)
        return self.raw

    def rows(self) -> tuple[list[str], tuple[int, int]]:
        self.read()
        rows, row, column, kept = [""], 0, 0, (0, 0)
        for token in re.findall(r"\x1b[78]|\x1b\[\d*[A-Za-z]|[\s\S]", self.raw.decode()):
            match token:
                case "\x1b7":
                    kept = row, column
                case "\x1b8":
                    row, column = kept
                case "\x1b[K" | "\x1b[J":
                    rows[row] = rows[row][:column]
                    if token == "\x1b[J":
                        del rows[row + 1 :]
                case "\n":  # as a terminal has it that adds the carriage return
                    row, column = row + 1, 0
                    rows += [""] * (row + 1 - len(rows))
                case "\r":
                    column = 0
                case _ if token.startswith("\x1b["):
                    assert token.endswith("C"), token
                    column += int(token[2:-1])
                case _:
                    rows[row] = rows[row][:column].ljust(column) + token + rows[row][column + 1 :]
                    column += 1
        return rows, (row, column)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    made = Terminal(monkeypatch)
    yield made
    made.close()


def test_without_a_line_only_the_peers_bytes_are_written(terminal: Terminal) -> None:
    terminal.screen.show(b"hello\nlogin: ")
    terminal.screen.paint("")
    terminal.screen.show(b"\x1b[31mred\n")
    assert terminal.read() == b"hello\nlogin: \x1b[31mred\n"


def test_a_line_stands_behind_what_the_peer_said_and_moves_on_with_it(terminal: Terminal) -> None:
    terminal.screen.show(b"login: ")
    terminal.screen.paint("joe", 1)
    assert terminal.rows() == (["login: joe"], (0, 8))
    terminal.screen.show(b"(wait)\nnow: ")
    assert terminal.rows() == (["login: (wait)", "now: joe"], (1, 6))
    terminal.screen.paint("joel", 4)
    terminal.screen.commit("joel")
    terminal.screen.show(b"hi\n")
    assert terminal.rows() == (["login: (wait)", "now: joel", "hi", ""], (3, 0))


def test_where_too_little_room_is_left_the_line_has_a_row_of_its_own(terminal: Terminal) -> None:
    said = b"x" * (40 - LEAST_ROOM + 1)
    terminal.screen.show(said)
    assert terminal.screen.room() == 40
    terminal.screen.paint("joe", 3)
    assert terminal.rows() == ([said.decode(), "joe"], (1, 3))
    terminal.screen.show(b"more\nend\n")
    assert terminal.rows() == ([said.decode(), "more", "end", "joe"], (3, 3))


def test_where_the_peer_moved_the_cursor_the_line_has_a_row_of_its_own(terminal: Terminal) -> None:
    terminal.screen.show(b"a\x1b[5C")
    terminal.screen.paint("joe", 0)
    assert terminal.rows() == (["a", "joe"], (1, 0))
