"""Incremental text against the plainest thing: decode everything at once, translate, split.

The bytes come in any fragments, cut in the middle of characters, line ends and byte order marks too. Not only
the lines must be right in the end: each must be given as soon as the bytes for it are there.
"""

from __future__ import annotations

import codecs
import encodings.aliases
import gc
import re
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from landline.engine.text import NEWLINES, TextDecoder, TextEncoder, checked_text_arguments

CHARACTERS = {
    "utf-8": [*"aé€😀"],
    "utf-8-sig": [*"aé€\ufeff"],
    "latin-1": [*"aéÿ"],
    "cp1252": [*"aé€"],
    "utf-16": [*"aé€😀"],
    "utf-16-le": [*"aé\u0a0d\u0d0a😀"],
    "utf-16-be": [*"aé\u0a0d\u0d0a😀"],
    "utf-32": [*"aé€😀"],
    "shift_jis": [*"aｱ日表"],
    "iso2022_jp": [*"a日本表"],
    "euc_jis_2004": ["a", "か", "か\u309a"],
    "utf-7": [*"aé+日"],
}
"""The encodings tried, with characters of all the lengths they have, and some that hold the bytes of CR and LF."""

ENCODINGS = st.sampled_from(sorted(CHARACTERS))
MODES = st.sampled_from(NEWLINES)
LINE_ENDS = ["\n", "\r", "\r\n", "\n\r"]


def texts(encoding: str) -> st.SearchStrategy[str]:
    words = [*CHARACTERS[encoding], *LINE_ENDS, "word", "".join(CHARACTERS[encoding])]
    return st.lists(st.sampled_from(words), max_size=20).map("".join)


@st.composite
def encoded(draw: st.DrawFn) -> tuple[str, bytes]:
    """An encoding, and a text in it."""
    encoding = draw(ENCODINGS)
    return encoding, draw(texts(encoding)).encode(encoding)


@st.composite
def undecodable(draw: st.DrawFn) -> tuple[str, bytes]:
    """An encoding, and bytes that may be no text in it."""
    encoding = draw(st.sampled_from(["utf-8", "ascii", "latin-1", "cp1252", "shift_jis", "utf-16-le", "utf-32-be"]))
    some = [b"a", b"\r", b"\n", b"\xff", b"\xe2", b"\x82", b"\xac", b"\x81", b"\xd8", b"\0", "é€日".encode()]
    return encoding, b"".join(draw(st.lists(st.sampled_from(some) | st.binary(max_size=4), max_size=12)))


def cut(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """The ways to cut ``data``; single bytes among them."""
    places = st.just(list(range(1, len(data)))) | st.lists(st.integers(0, len(data)), max_size=6)
    return places.map(lambda places: [data[start:end] for start, end in pairwise([0, *sorted(places), len(data)])])


# ---- the oracle ----------------------------------------------------------------------------------


def translated(text: str, newline: str | None) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if newline is None else text


def line_end(newline: str | None) -> str:
    return "(?:\r\n|\r|\n)" if newline == "" else newline or "\n"


def split(text: str, newline: str | None) -> list[str]:
    """The lines of a whole text, with their ends."""
    return re.findall(f".*?{line_end(newline)}|.+", translated(text, newline), re.DOTALL)


def whole_lines(text: str, newline: str | None) -> list[str]:
    """The lines that are known to be whole when only ``text`` has come."""
    lines = split(text, newline)
    waits = newline == "" and text.endswith("\r")  # for a LF
    if lines and (waits or not re.search(f"{line_end(newline)}\\Z", lines[-1])):
        lines.pop()
    return lines


def lines_so_far(decoder: TextDecoder, *, ended: bool = False) -> list[str]:
    lines = []
    while (line := decoder.take_line(ended)) is not None:
        lines.append(line)
    return lines


def check_lines(encoding: str, errors: str, newline: str | None, data: bytes, pieces: list[bytes]) -> None:
    decoder = TextDecoder(codecs.lookup(encoding).name, errors, newline)
    reference = codecs.getincrementaldecoder(encoding)(errors)
    text, lines = "", []
    for piece in pieces:
        decoder.feed(piece)
        text += reference.decode(piece)
        lines += lines_so_far(decoder)
        assert lines == whole_lines(text, newline)
        assert len(decoder) == len(translated(text, newline)) - sum(map(len, lines))
    decoder.feed(b"", final=True)
    lines += lines_so_far(decoder, ended=True)
    assert lines == split(data.decode(encoding, errors), newline)
    assert not decoder.pending


# ---- lines ---------------------------------------------------------------------------------------


@given(encoded(), MODES, st.data())
@settings(max_examples=400)
def test_lines_are_those_of_the_whole_text_and_come_as_soon_as_they_can(
    text: tuple[str, bytes], newline: str | None, data: st.DataObject
) -> None:
    check_lines(text[0], "strict", newline, text[1], data.draw(cut(text[1])))


@given(undecodable(), st.sampled_from(["replace", "ignore", "surrogateescape"]), MODES, st.data())
@settings(max_examples=400)
def test_lines_of_what_cannot_be_decoded_are_those_of_the_whole_too(
    text: tuple[str, bytes], errors: str, newline: str | None, data: st.DataObject
) -> None:
    encoding, whole = text
    try:
        whole.decode(encoding, errors)
    except UnicodeDecodeError:
        return  # surrogateescape cannot stand for bytes below 128
    check_lines(encoding, errors, newline, whole, data.draw(cut(whole)))


@given(undecodable(), st.sampled_from(["strict", "replace", "ignore", "surrogateescape"]), MODES)
def test_a_byte_line_decoded_alone_is_a_text_line_where_plain_lines_says_so(
    text: tuple[str, bytes], errors: str, newline: str | None
) -> None:
    """The fast path of a text stream: what it skips must make no difference."""
    encoding, whole = text
    decoder = TextDecoder(codecs.lookup(encoding).name, errors, newline)
    if not decoder.plain_lines:
        return
    whole = (whole.replace(b"\r", b"") if decoder.ends_at_cr else whole) + b"\n"
    try:
        lines = split(whole.decode(encoding, errors), newline)
    except UnicodeDecodeError:
        return
    assert [decoder.decode(line) for line in re.findall(rb"[^\n]*\n", whole)] == lines


def test_the_encodings_said_to_be_line_safe_keep_line_ends_to_themselves() -> None:
    """Every byte of them but UTF-8's is one character; LF and CR are theirs and no other's."""
    safe = 0
    for alias in sorted(set(encodings.aliases.aliases.values())):
        try:
            encoding = checked_text_arguments(alias, "strict", None)
        except ValueError:
            continue  # no text encoding, or not one of this system
        if not TextDecoder(encoding, "strict", None).line_safe:
            continue
        safe += 1
        for byte in range(128 if encoding == "utf-8" else 256):
            text = bytes([byte]).decode(encoding, "replace")
            assert len(text) == 1
            assert (text in "\r\n") == (byte in b"\r\n")
    assert safe > 30


def test_a_cr_that_ends_what_has_arrived_ends_the_line_at_once_and_a_lf_after_it_is_skipped() -> None:
    """An instrument says OK and CR, and waits."""
    decoder = TextDecoder("utf-8", "strict", None)
    decoder.feed(b"OK\r")
    assert decoder.take_line() == "OK\n"
    assert (decoder.pending, decoder.clean) == (False, False)
    decoder.feed(b"\n")
    assert decoder.take_line() is None
    assert (decoder.pending, decoder.clean) == (False, True)
    decoder.feed(b"\n\rnext")
    assert lines_so_far(decoder) == ["\n", "\n"]


def test_with_newline_empty_a_cr_waits_for_what_follows_or_for_the_end() -> None:
    decoder = TextDecoder("utf-8", "strict", "")
    decoder.feed(b"OK\r")
    assert decoder.take_line() is None
    decoder.feed(b"\n1\r")
    assert decoder.take_line() == "OK\r\n"
    assert decoder.take_line() is None
    decoder.feed(b"2\r")
    assert decoder.take_line() == "1\r"
    assert decoder.take_line() is None
    decoder.feed(b"", final=True)
    assert decoder.take_line(ended=True) == "2\r"
    assert decoder.take_line(ended=True) is None


# ---- every way of taking -------------------------------------------------------------------------


class Taking(RuleBasedStateMachine):
    """``left`` is every character that has come and was not taken."""

    @initialize(encoding=ENCODINGS, newline=MODES)
    def begin(self, encoding: str, newline: str | None) -> None:
        self.encoding = encoding
        self.newline = newline
        self.decoder = TextDecoder(codecs.lookup(encoding).name, "strict", newline)
        self.reference = codecs.getincrementaldecoder(encoding)()
        self.encoder = codecs.getincrementalencoder(encoding)()
        self.coming = b""
        self.text = ""
        self.left = ""
        self.taken = ""

    def took(self, result: str | None, expected: str | None) -> None:
        assert result == expected
        if result is not None:
            self.left = self.left[len(result) :]
            self.taken = result

    def feed(self, size: int) -> None:
        piece, self.coming = self.coming[:size], self.coming[size:]
        before = translated(self.text, self.newline)
        self.text += self.reference.decode(piece)
        self.left += translated(self.text, self.newline)[len(before) :]
        self.decoder.feed(piece)

    @rule(data=st.data())
    def the_peer_sends(self, data: st.DataObject) -> None:
        self.coming += self.encoder.encode(data.draw(texts(self.encoding)))

    @rule(size=st.integers(1, 20))
    def something_arrives(self, size: int) -> None:
        self.feed(size)

    @rule(size=st.integers(1, 20))
    def something_drips_in(self, size: int) -> None:
        for _ in range(size):
            self.feed(1)

    @rule()
    def take_line(self) -> None:
        found = re.match(f".*?{line_end(self.newline)}", self.left, re.DOTALL)
        whole = found and not (self.newline == "" and found.end() == len(self.left) and self.left[-1] == "\r")
        self.took(self.decoder.take_line(), found.group() if found and whole else None)

    @rule(separator=st.sampled_from(["a", "aa", "\n", "\r\n", "\r\n\r", "word\n", "a\na"]))
    def take_until(self, separator: str) -> None:
        end = self.left.find(separator)
        self.took(self.decoder.take_until(separator), self.left[: end + len(separator)] if end >= 0 else None)

    @rule(count=st.integers(0, 9) | st.just(1000))
    def take(self, count: int) -> None:
        self.took(self.decoder.take(count), self.left[:count])

    @rule()
    def take_all(self) -> None:
        self.took(self.decoder.take_all(), self.left)

    @rule()
    def unread_what_was_taken(self) -> None:
        self.unread(self.taken)
        self.taken = ""

    @rule(text=st.sampled_from(["a", "\n", "\r", "word", "other\nline"]))
    def unread(self, text: str) -> None:
        self.decoder.unread(text)
        self.left = text + self.left

    @invariant()
    def no_more_and_no_less_is_there(self) -> None:
        half = bool(self.reference.getstate()[0])
        skips = self.newline is None and self.text.endswith("\r")
        assert len(self.decoder) == len(self.left)
        assert self.decoder.pending == (bool(self.left) or half)
        assert self.decoder.clean == (not self.left and not half and not skips)

    def teardown(self) -> None:
        self.coming += self.encoder.encode("", True)
        self.feed(len(self.coming))
        self.decoder.feed(b"", final=True)
        lines = lines_so_far(self.decoder, ended=True)
        assert lines == re.findall(f".*?{line_end(self.newline)}|.+", self.left, re.DOTALL)


TestTaking = Taking.TestCase
TestTaking.settings = settings(max_examples=200, stateful_step_count=40)


# ---- what cannot be decoded ----------------------------------------------------------------------


def test_the_half_of_a_character_at_the_peers_end_cannot_be_decoded_and_what_is_before_it_stays() -> None:
    decoder = TextDecoder("utf-8", "strict", None)
    decoder.feed(b"last \xe2\x82")
    assert decoder.pending
    with pytest.raises(UnicodeDecodeError) as caught:
        decoder.feed(b"", final=True)
    assert caught.value.object == b"\xe2\x82"
    decoder.feed(b"", final=True)
    assert decoder.take_line(ended=True) == "last "
    assert decoder.clean


def test_what_cannot_be_decoded_is_dropped_and_held_by_the_exception() -> None:
    decoder = TextDecoder("utf-8", "strict", None)
    decoder.feed(b"before \xe2\x82")
    with pytest.raises(UnicodeDecodeError) as caught:
        decoder.feed(b"\xff bad\n")
    assert caught.value.object == b"\xe2\x82\xff bad\n"
    decoder.feed("€ after\n".encode())
    assert decoder.take_line() == "before € after\n"


@pytest.mark.parametrize("encoding", ["utf-8", "shift_jis", "utf-16-le"])
def test_the_half_of_a_character_behind_what_was_dropped_is_still_completed(encoding: str) -> None:
    bad, character = {"utf-16-le": b"\x00\xdc"}.get(encoding, b"\xff"), "日".encode(encoding)
    decoder = TextDecoder(codecs.lookup(encoding).name, "strict", None)
    with pytest.raises(UnicodeDecodeError):
        decoder.feed(bad + character[:1])
    assert decoder.pending
    decoder.feed(character[1:] + "\n".encode(encoding))
    assert decoder.take_line() == "日\n"


@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("mark", ["with what was dropped", "before it"])
def test_the_byte_order_survives_what_cannot_be_decoded(order: str, mark: str) -> None:
    decoder = TextDecoder("utf-16", "strict", None)
    first = "\ufeff".encode(f"utf-16-{order}")
    if mark == "before it":
        decoder.feed(first)
        first = b""
    with pytest.raises(UnicodeDecodeError):
        decoder.feed(first + "bad".encode(f"utf-16-{order}") + {"le": b"\x00\xdc", "be": b"\xdc\x00"}[order])
    decoder.feed("good\n".encode(f"utf-16-{order}"))
    assert decoder.take_line() == "good\n"


def test_a_byte_order_mark_that_came_is_not_looked_for_again_after_what_cannot_be_decoded() -> None:
    decoder = TextDecoder("utf-8-sig", "strict", None)
    with pytest.raises(UnicodeDecodeError):
        decoder.feed(codecs.BOM_UTF8 + b"\xff")
    decoder.feed("\ufeffno mark\n".encode())
    assert decoder.take_line() == "\ufeffno mark\n"


def test_a_lf_is_skipped_exactly_once_also_around_what_cannot_be_decoded() -> None:
    decoder = TextDecoder("utf-8", "strict", None)
    with pytest.raises(UnicodeDecodeError):
        decoder.feed(b"\xff\r")
    decoder.feed(b"\n1\r")
    with pytest.raises(UnicodeDecodeError):
        decoder.feed(b"\n\xff")
    decoder.feed(b"\n2\n")
    assert lines_so_far(decoder) == ["1\n", "\n", "2\n"]


def test_the_shift_state_is_that_behind_what_cannot_be_decoded() -> None:
    decoder = TextDecoder("iso2022_jp", "strict", None)
    decoder.feed("日".encode("iso2022_jp")[:-3])  # without the return to ASCII
    with pytest.raises(UnicodeDecodeError):
        decoder.feed(b"F|\xff\x1b(B")
    decoder.feed(b"ascii\n")
    assert decoder.take_line() == "日ascii\n"


@pytest.mark.parametrize(("encoding", "size"), [("utf-16", 2), ("utf-32", 4)])
@pytest.mark.parametrize("drips", [False, True])
def test_without_a_byte_order_mark_nothing_can_be_decoded_and_the_exception_says_and_holds_that(
    encoding: str, size: int, drips: bool
) -> None:
    decoder = TextDecoder(encoding, "strict", None)
    unmarked = "ab".encode(f"{encoding}-le")
    held = b""
    while unmarked:
        piece, unmarked = (unmarked[:1], unmarked[1:]) if drips else (unmarked, b"")
        held += piece
        if len(held) < size:
            decoder.feed(piece)
            continue
        with pytest.raises(UnicodeDecodeError) as caught:
            decoder.feed(piece)
        assert caught.value.object == held
        held = b""
    decoder.feed("good\n".encode(encoding))
    assert decoder.take_line() == "good\n"


# ---- costs ---------------------------------------------------------------------------------------


def assert_linear(work: Callable[[int], None], size: int) -> None:
    """Four times the data takes about four times the time; were it quadratic, sixteen times."""

    def cost(size: int) -> float:
        start = time.process_time()
        work(size)
        return time.process_time() - start

    gc.collect()
    for _ in range(3):
        if min(cost(4 * size) for _ in range(2)) < 10 * min(cost(size) for _ in range(3)):
            return
    pytest.fail("four times the data took more than ten times the time")


@pytest.mark.parametrize("newline", NEWLINES)
def test_a_long_line_that_drips_in_is_linear_work(newline: str | None) -> None:
    def drip(size: int) -> None:
        decoder = TextDecoder("utf-8", "strict", newline)
        for _ in range(size):
            decoder.feed(b"x")
            assert decoder.take_line() is None
            assert len(decoder)
        decoder.feed(b"\r\n")
        assert len(decoder.take_line() or "") > size

    assert_linear(drip, 6_000)


def test_a_separator_that_drips_in_is_linear_work() -> None:
    def drip(size: int) -> None:
        decoder = TextDecoder("utf-8", "strict", "\n")
        for _ in range(size):
            decoder.feed(b"a")
            assert decoder.take_until("ab") is None
        decoder.feed(b"b")
        assert len(decoder.take_until("ab") or "") == size + 1

    assert_linear(drip, 6_000)


@pytest.mark.parametrize("count", [None, 1, 7])
def test_many_small_takes_of_much_text_are_linear_work(count: int | None) -> None:
    """UTF-16 is decoded as it comes: a whole receive of lines at once."""

    def take(size: int) -> None:
        decoder = TextDecoder("utf-16", "strict", None)
        decoder.feed(("é" * 6 + "\n").encode("utf-16") + ("é" * 6 + "\n").encode("utf-16-le") * size)
        for _ in range(size):
            assert decoder.take_line() if count is None else decoder.take(count)

    assert_linear(take, 20_000)


def test_characters_that_dripped_in_taken_one_by_one_are_linear_work() -> None:
    def take(size: int) -> None:
        decoder = TextDecoder("latin-1", "strict", "\n")
        for _ in range(size):
            decoder.feed(b"x")
        for _ in range(size):
            assert decoder.take_line() is None
            assert decoder.take(1)

    assert_linear(take, 20_000)


def test_characters_looked_at_and_put_back_are_linear_work() -> None:
    def look(size: int) -> None:
        decoder = TextDecoder("utf-16-le", "strict", None)
        decoder.feed("é".encode("utf-16-le") * 8 * size)
        for _ in range(size):
            decoder.unread(decoder.take(1))
            decoder.take(8)

    assert_linear(look, 20_000)


# ---- encoding ------------------------------------------------------------------------------------


@given(st.data(), ENCODINGS, MODES)
@settings(max_examples=300)
def test_what_was_encoded_so_far_decodes_to_what_was_written_so_far(
    data: st.DataObject, encoding: str, newline: str | None
) -> None:
    """Nothing is held back for the next write, and there is one byte order mark at most."""
    encoder = TextEncoder(codecs.lookup(encoding).name, "strict", newline)
    written, sent = "", b""
    for text in data.draw(st.lists(texts(encoding), max_size=5)):
        sent += encoder.encode(text)
        written += text.replace("\n", newline) if newline else text
        assert sent.decode(encoding) == written


@given(st.data(), st.sampled_from(sorted(set(CHARACTERS) - {"utf-7"})), MODES)
@settings(max_examples=300)
def test_a_text_that_cannot_be_encoded_leaves_no_trace(data: st.DataObject, encoding: str, newline: str | None) -> None:
    """(UTF-7 encodes everything.)"""
    encoder, twin = (TextEncoder(codecs.lookup(encoding).name, "strict", newline) for _ in range(2))
    for text in data.draw(st.lists(texts(encoding), max_size=4)):
        with pytest.raises(UnicodeEncodeError):
            encoder.encode(text + "\ud800")
        assert encoder.encode(text) == twin.encode(text)


@pytest.mark.parametrize(("newline", "sent"), [(None, "\n"), ("", "\n"), ("\n", "\n"), ("\r", "\r"), ("\r\n", "\r\n")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_a_line_feed_is_written_as_newline_and_never_as_the_systems(
    newline: str | None, sent: str, encoding: str
) -> None:
    encode = TextEncoder(encoding, "strict", newline).encode
    assert encode("a\nb\r") == f"a{sent}b\r".encode(encoding)


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-16", codecs.BOM_UTF16), ("utf-32", codecs.BOM_UTF32), ("utf-8-sig", codecs.BOM_UTF8)],
)
def test_the_byte_order_mark_is_written_once(encoding: str, mark: bytes) -> None:
    encode = TextEncoder(encoding, "strict", None).encode
    assert encode("a").startswith(mark)
    assert mark not in encode("a") + encode("")


@pytest.mark.parametrize("errors", ["replace", "ignore", "surrogateescape", "xmlcharrefreplace"])
@pytest.mark.parametrize("encoding", ["utf-8", "iso8859-1", "shift_jis"])
def test_the_errors_argument_is_that_of_encode(encoding: str, errors: str) -> None:
    text = "a\udcff"
    try:
        expected = text.encode(encoding, errors)
    except UnicodeEncodeError:
        return
    assert TextEncoder(encoding, errors, None).encode(text) == expected


# ---- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "name"), [("UTF8", "utf-8"), ("latin-1", "iso8859-1"), ("Shift_JIS", "shift_jis"), ("U8", "utf-8")]
)
def test_an_encoding_is_known_by_its_canonical_name(encoding: str, name: str) -> None:
    assert checked_text_arguments(encoding, "strict", None) == name


@pytest.mark.parametrize(
    ("arguments", "kind", "named"),
    [
        (("klingon", "strict", None), ValueError, "encoding='klingon'"),
        (("", "strict", None), ValueError, "encoding=''"),
        (("utf\0", "strict", None), ValueError, "encoding='utf"),
        (("hex", "strict", None), ValueError, "encoding='hex'"),
        (("undefined", "strict", None), ValueError, "encoding='undefined'"),
        (("utf-8", "shrug", None), ValueError, "errors='shrug'"),
        (("utf-8", "a\0b", None), ValueError, "errors='a"),
        (("utf-8", "strict", "\n\r"), ValueError, "newline="),
        (("utf-8", "strict", 0), ValueError, "newline=0"),
        ((b"utf-8", "strict", None), TypeError, "encoding=b'utf-8'"),
        (("utf-8", None, None), TypeError, "errors=None"),
    ],
)
def test_a_wrong_argument_is_named(arguments: tuple[str, str, str | None], kind: type[Exception], named: str) -> None:
    with pytest.raises(kind, match=re.escape(named)):
        checked_text_arguments(*arguments)
