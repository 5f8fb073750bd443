"""comm.format_: its directives against the tables of the standard, and against Python's own arithmetic.

Source: ANSI Common Lisp 22.3 (the numbers below are its sections).
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landline import comm


def formatted(control_string: str, *arguments: Any) -> str:
    text = comm.format_(None, control_string, *arguments)
    assert text is not None
    return text


TABLE: list[tuple[str, tuple[Any, ...], str]] = [
    # 22.3.1.1 ~C
    ("~C", ("A",), "A"),
    ("~c~C", ("\r", "\n"), "\r\n"),
    ("~C", (" ",), " "),
    ("~:C~:C~:C", (" ", "a", "\n"), "SpaceaNewline"),
    ("~:C ~:C ~:C ~:C ~:C", ("\t", "\r", "\f", "\b", "\x7f"), "Tab Return Page Backspace Rubout"),
    ("~@C~@C", ("A", " "), "#\\A#\\Space"),
    # 22.3.1.2 ~%, 22.3.1.3 ~&, 22.3.1.5 ~~
    ("a~%b", (), "a\nb"),
    ("~3%", (), "\n\n\n"),
    ("~0%", (), ""),
    ("a~&b", (), "a\nb"),
    ("a~%~&b", (), "a\nb"),
    ("a~3&b", (), "a\n\n\nb"),
    ("a~%~3&b", (), "a\n\n\nb"),
    ("a~0&b", (), "ab"),
    ("~A~&b", ("a\n",), "a\nb"),
    ("~~", (), "~"),
    ("~5~", (), "~~~~~"),
    # 22.3.2.2 ~D, 22.3.2.3 ~B, 22.3.2.4 ~O, 22.3.2.5 ~X
    ("~D", (5,), "5"),
    ("~d", (-5,), "-5"),
    ("~@D", (5,), "+5"),
    ("~@D", (0,), "+0"),
    ("~@D", (-5,), "-5"),
    ("~5D", (42,), "   42"),
    ("~5D", (-42,), "  -42"),
    ("~5,'0D", (42,), "00042"),
    ("~5,'*@D", (42,), "**+42"),
    ("~2D", (12345,), "12345"),
    ("~:D", (1234567,), "1,234,567"),
    ("~:D", (-123456,), "-123,456"),
    ("~:D", (123,), "123"),
    ("~:@D", (1000,), "+1,000"),
    ("~@:D", (1000,), "+1,000"),
    ("~12:D", (1234567,), "   1,234,567"),
    ("~,,' :D", (1234567,), "1 234 567"),
    ("~,,'.,4:D", (1234567890,), "12.3456.7890"),
    ("~,,'|,2:D", (0xFFFF,), "6|55|35"),
    ("~14,' ,' ,4:B", (0xFACE,), "1111 1010 1100 1110"),
    ("~19,'0,' ,4:B", (3333,), "000001101 0000 0101"),  # padchars are not grouped
    ("~3,,,2:X", (0xC0FFEE,), "C0,FF,EE"),
    ("~,,' ,2:X", (0xC0FFEE,), "C0 FF EE"),
    ("~B ~O ~X", (5, 8, 255), "101 10 FF"),
    ("~8,'0X", (0xBEEF,), "0000BEEF"),
    ("~X", (-255,), "-FF"),
    ("~D", ("word",), "word"),
    ("~D", (1.5,), "1.5"),
    ("~X", (None,), "NIL"),
    ("~D", (10**30,), "1" + "0" * 30),
    # 22.3.4.1 ~A
    ("~A", ("text",), "text"),
    ("~a ~A ~A", (12, 1.5, "\u0100"), "12 1.5 \u0100"),
    ("~A ~A ~A ~A", (None, False, True, []), "NIL NIL T NIL"),
    ("~:A ~:A ~:A ~:A", (None, False, [], ()), "() () () ()"),
    ("~:A ~:A", ("NIL", True), "NIL T"),
    ("~A", ([1, "two", [None, True]],), "(1 two (NIL T))"),
    ("~6A|", ("abc",), "abc   |"),
    ("~6@A|", ("abc",), "   abc|"),
    ("~2A|", ("abc",), "abc|"),
    ("~,,2A|", ("abc",), "abc  |"),
    ("~6,,2A|", ("abc",), "abc   |"),
    ("~4,,2A|", ("abc",), "abc  |"),
    ("~6,4A|", ("abc",), "abc    |"),
    ("~8,4A|", ("abc",), "abc        |"),
    ("~6,,,'*A|", ("abc",), "abc***|"),
    ("~6,,,'~@A|", ("abc",), "~~~abc|"),
    ("~6,3,1,'.@A|", ("abc",), "....abc|"),
    ("~6,,,',A|", ("abc",), "abc,,,|"),
    ("~5:A|", (None,), "()   |"),
    # 22.3.4.2 ~S
    ("~S", ("text",), '"text"'),
    ("~s", ('say "a\\b"',), '"say \\"a\\\\b\\""'),
    ("~S ~S", (12, None), "12 NIL"),
    ("~:S", (None,), "()"),
    ("~S", (["a", 1],), '("a" 1)'),
    ("~8S|", ("abc",), '"abc"   |'),
    ("~8@S|", ("abc",), '   "abc"|'),
    # 22.3.7.1 ~*
    ("~A~*~A", (1, 2, 3), "13"),
    ("~2*~A", (1, 2, 3), "3"),
    ("~0*~A", (1,), "1"),
    # 22.3.9.3 tilde newline
    ("a~\n   b", (), "ab"),
    ("a~\n \t b~\nc", (), "abc"),
    ("a~:\n  b", (), "a  b"),
    ("a~@\n  b", (), "a\nb"),
    ("a~\n\n b", (), "a\n b"),
    # 22.3 parameters
    ("~vD", (5, 42), "   42"),
    ("~V,VD", (5, "0", 42), "00042"),
    ("~vA|", (None, "abc"), "abc|"),
    ("~#D", (42,), "42"),
    ("~#D~A~A", (4, 5, 6), "  456"),
    ("~A~#%", (1, 2, 3), "1\n\n"),
    ("~v%", (2,), "\n\n"),
    ("~+5D", (42,), "   42"),
    ("~A", (1, 2, 3), "1"),
    ("no directive", (), "no directive"),
    ("", (1,), ""),
]


@pytest.mark.parametrize(("control_string", "arguments", "text"), TABLE)
def test_a_directive_does_what_the_standard_says(control_string: str, arguments: tuple[Any, ...], text: str) -> None:
    assert formatted(control_string, *arguments) == text


@pytest.mark.parametrize(
    "control_string",
    [
        "~R", "~P", "~F", "~E", "~G", "~$", "~W", "~_", "~I", "~/f/", "~T", "~<~>", "~?", "~(~)", "~[~]", "~{~}", "~^",
        "~;", "~|", "~!", "~5", "~:*", "~@*", "~1:*",
    ],
)  # fmt: skip
def test_what_there_is_not_is_refused_by_name(control_string: str) -> None:
    with pytest.raises(ValueError, match=r"there is no ~.* here, only ~A ~S"):
        formatted(control_string, 1, 2, 3)


@pytest.mark.parametrize("control_string", ["~", "text~", "~10,", "~'", "~:", "~v"])
def test_half_a_directive_is_refused(control_string: str) -> None:
    with pytest.raises(ValueError, match=r"control_string=.* is not allowed"):
        formatted(control_string)


@pytest.mark.parametrize("control_string", ["~A", "~A~D", "~*", "~2*", "~vD", "~C", "~X"])
def test_too_few_arguments_are_refused(control_string: str) -> None:
    with pytest.raises(ValueError, match="no argument is left for ~"):
        formatted(control_string, *([1] * (control_string in ("~A~D", "~2*", "~vD"))))


@pytest.mark.parametrize("argument", [65, "", "ab", None, b"a"])
def test_c_takes_a_character(argument: Any) -> None:
    with pytest.raises(TypeError, match="~C needs a character"):
        formatted("~C", argument)


@pytest.mark.parametrize("control_string", [b"~A", None, 5])
def test_the_control_string_is_a_string(control_string: Any) -> None:
    with pytest.raises(TypeError, match="control_string="):
        formatted(control_string)


@pytest.mark.parametrize(
    "control_string", ["~10,0A", "~10,-1A", "~10,0S", "~,,,0:D", "~,,,-3:X", "~'xA", "~'xD", "~,5D", "~,,5:D", "~'x%"]
)
def test_a_parameter_that_makes_no_sense_is_refused(control_string: str) -> None:
    """Steps of no width would never reach any."""
    with pytest.raises((TypeError, ValueError), match="~"):
        formatted(control_string, 12345)


NUMBERS = st.integers() | st.integers(-10, 10) | st.integers(-(10**40), 10**40)
PADS = st.characters(codec="latin-1", exclude_characters="\n")


@given(NUMBERS, st.integers(0, 60), PADS, st.booleans(), st.booleans())
def test_integers_are_pythons_padded_grouped_and_signed(
    number: int, width: int, pad: str, grouped: bool, signed: bool
) -> None:
    python = f"{number:{'+' if signed else ''}{',' if grouped else ''}}"
    flags = ":" * grouped + "@" * signed
    assert formatted(f"~{width},'{pad}{flags}D", number) == python.rjust(width, pad)
    assert formatted(f"~v,v{flags}D", width, pad, number) == python.rjust(width, pad)


@given(NUMBERS, st.integers(0, 60), st.sampled_from("BOX"))
def test_other_bases_are_pythons(number: int, width: int, base: str) -> None:
    assert formatted(f"~{width}{base}", number) == f"{number:{base.lower()}}".upper().rjust(width)
    assert int(formatted(f"~,,'_,4:{base}", number).replace("_", ""), {"B": 2, "O": 8, "X": 16}[base]) == number


@given(NUMBERS, st.integers(1, 9))
def test_groups_are_of_the_size_asked_for(number: int, size: int) -> None:
    first, *groups = formatted(f"~,,,{size}:D", abs(number)).split(",")
    assert 1 <= len(first) <= size
    assert {len(group) for group in groups} <= {size}
    assert first + "".join(groups) == str(abs(number))


@given(st.text(max_size=20), st.integers(0, 40), st.integers(1, 7), st.integers(0, 7), PADS, st.booleans())
def test_columns_are_as_the_standard_computes_them(
    text: str, width: int, step: int, least: int, pad: str, left: bool
) -> None:
    """minpad copies of padchar, then colinc at a time until there are at least mincol columns."""
    made = formatted(f"~{width},{step},{least},'{pad}{'@' * left}A", text)
    padding = made.removesuffix(text) if left else made.removeprefix(text)
    assert made == (padding + text if left else text + padding)
    assert set(padding) <= {pad}
    more, rest = divmod(len(padding) - least, step)
    assert rest == 0
    assert more == max(0, -(-(width - len(text) - least) // step))


@given(st.text(max_size=30))
def test_s_can_be_read_back(text: str) -> None:
    made = formatted("~S", text)
    assert made[0] == made[-1] == '"'
    read, characters = [], iter(made[1:-1])
    for character in characters:
        assert character != '"'
        read.append(next(characters) if character == "\\" else character)
    assert "".join(read) == text


@given(st.text(st.characters(exclude_characters="~"), max_size=30), st.text(max_size=30))
def test_everything_but_directives_stands_as_it_is(text: str, argument: str) -> None:
    assert formatted(f"{text}~A{text}~~", argument) == f"{text}{argument}{text}~"
