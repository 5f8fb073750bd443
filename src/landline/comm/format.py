"""Common Lisp's format, as far as protocols and logs use it.

``~A`` as people read it; ``~S`` as Lisp reads it; ``~D ~B ~O ~X`` integers; ``~C`` a character; ``~%`` a newline,
``~&`` one unless a line has just begun, ``~~`` a tilde, ``~`` before a newline passes over it and the indentation
behind it; ``~*`` skips an argument. Parameters are those of the standard: a width (``~10A``, ``~8,'0X``), a number of
repetitions (``~2%``), ``v`` and ``#`` for them; ``@`` pads on the left or writes a plus sign, ``:`` groups digits.

Loops, conditions and justification are Python's business here, and refused by name.

Source: ANSI Common Lisp 22.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

__all__ = ["formatted"]

_DIRECTIVE = re.compile(
    r"~(?P<parameters>(?:(?:[+-]?\d+|'.|[vV#])?,)*(?:[+-]?\d+|'.|[vV#])?)(?P<flags>[:@]{0,2})(?P<kind>.)", re.DOTALL
)
_PARAMETER = re.compile(r"[+-]?\d+|'.|[vV#]|(?=,|$)", re.DOTALL)

_SUPPORTED = "~A ~S ~D ~B ~O ~X ~C ~% ~& ~~ ~* ~newline"

_NAMES = {" ": "Space", "\n": "Newline", "\t": "Tab", "\r": "Return", "\f": "Page", "\b": "Backspace", "\x7f": "Rubout"}


class _Directive(NamedTuple):
    text: str
    parameters: list[Any]
    colon: bool
    at: bool

    def number(self, index: int, default: int, least: int | None = None) -> int:
        given = self._given(index, default)
        if isinstance(given, bool) or not isinstance(given, int):
            raise TypeError(f"{self.text} is not allowed: its parameter {given!r} must be a number")
        if least is not None and given < least:
            raise ValueError(f"{self.text} is not allowed: its parameter {given} must be {least} or more")
        return given

    def character(self, index: int, default: str) -> str:
        given = self._given(index, default)
        if not isinstance(given, str) or len(given) != 1:
            raise TypeError(f"{self.text} is not allowed: its parameter {given!r} must be a character")
        return given

    def _given(self, index: int, default: Any) -> Any:
        given = self.parameters[index] if index < len(self.parameters) else None
        return default if given is None else given


def formatted(control_string: str, arguments: Sequence[Any]) -> str:
    """The text that ``control_string`` makes of ``arguments``. More of these than it uses are allowed, as in Lisp.

    Raises:
        TypeError: no str, or an argument of the wrong type.
        ValueError: a directive that there is not, or too few arguments.
    """
    if not isinstance(control_string, str):
        raise TypeError(f"control_string={control_string!r} is not allowed: it must be a str")
    left = list(arguments)

    def take(what: str) -> Any:
        if not left:
            raise ValueError(f"control_string={control_string!r} is not allowed: no argument is left for {what}")
        return left.pop(0)

    made: list[str] = []
    position = 0
    while (tilde := control_string.find("~", position)) >= 0:
        made.append(control_string[position:tilde])
        found = _DIRECTIVE.match(control_string, tilde)
        if found is None:
            raise ValueError(f"control_string={control_string!r} is not allowed: it ends in the middle of a directive")
        position = found.end()
        kind = found["kind"].upper()
        what = found.group()
        parameters = [_parameter(text, take, left, what) for text in _parameters(found["parameters"])]
        directive = _Directive(what, parameters, ":" in found["flags"], "@" in found["flags"])
        match kind:
            case "%" | "~":
                made.append(("\n" if kind == "%" else "~") * directive.number(0, 1))
            case "&":
                begun = any(made) and not "".join(made).endswith("\n")
                count = directive.number(0, 1)
                made.append("\n" * (count if begun or not count else count - 1))
            case "\n":
                made.append("\n" if directive.at else "")
                if not directive.colon:
                    while position < len(control_string) and control_string[position] in " \t\f\r":
                        position += 1
            case "*" if not found["flags"]:
                for _ in range(directive.number(0, 1)):
                    take(what)
            case _ if kind in _OF_ARGUMENT:
                made.append(_OF_ARGUMENT[kind](take(what), directive))
            case _:
                raise ValueError(
                    f"control_string={control_string!r} is not allowed: there is no {what} here, only {_SUPPORTED}"
                )
    made.append(control_string[position:])
    return "".join(made)


def _parameters(text: str) -> list[str]:
    if not text:
        return []
    found, position = [], 0
    while True:
        parameter = _PARAMETER.match(text, position)
        assert parameter is not None  # _DIRECTIVE has matched it
        found.append(parameter.group())
        position = parameter.end() + 1
        if position > len(text):
            return found


def _parameter(text: str, take: Callable[[str], Any], left: Sequence[Any], what: str) -> Any:
    if text in ("v", "V"):
        return take(what)
    if text == "#":
        return len(left)
    if text.startswith("'"):
        return text[1]
    return int(text) if text else None


def _padded(text: str, directive: _Directive) -> str:
    width, step, least = directive.number(0, 0), directive.number(1, 1, least=1), directive.number(2, 0)
    pad = directive.character(3, " ")
    padding = pad * least
    while len(text) + len(padding) < width:
        padding += pad * step
    return padding + text if directive.at else text + padding


def _aesthetic(value: Any, directive: _Directive) -> str:
    return _padded("()" if directive.colon and _is_nil(value) else _printed(value, escaped=False), directive)


def _standard(value: Any, directive: _Directive) -> str:
    return _padded("()" if directive.colon and _is_nil(value) else _printed(value, escaped=True), directive)


def _character(value: Any, directive: _Directive) -> str:
    if not isinstance(value, str) or len(value) != 1:
        raise TypeError(f"{directive.text} needs a character, not {value!r}")
    if directive.at:
        return "#\\" + _NAMES.get(value, value)
    return _NAMES.get(value, value) if directive.colon else value


def _integer(base: str) -> Callable[[Any, _Directive], str]:
    def write(value: Any, directive: _Directive) -> str:
        width = directive.number(0, 0)
        if isinstance(value, bool) or not isinstance(value, int):
            return _printed(value, escaped=False).ljust(width)  # as ~A, the standard says
        digits = format(abs(value), base).upper()
        if directive.colon:
            comma, group = directive.character(2, ","), directive.number(3, 3, least=1)
            first = len(digits) % group
            groups = [digits[:first]] if first else []
            digits = comma.join(groups + [digits[at : at + group] for at in range(first, len(digits), group)])
        sign = "-" if value < 0 else "+" if directive.at else ""
        return (sign + digits).rjust(width, directive.character(1, " "))

    return write


_OF_ARGUMENT: dict[str, Callable[[Any, _Directive], str]] = {
    "A": _aesthetic,
    "S": _standard,
    "C": _character,
    "D": _integer("d"),
    "B": _integer("b"),
    "O": _integer("o"),
    "X": _integer("x"),
}


def _printed(value: Any, *, escaped: bool) -> str:
    """As Lisp prints it: None and False are NIL, True is T, a list has parentheses."""
    if _is_nil(value):
        return "NIL"
    if value is True:
        return "T"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' if escaped else value
    if isinstance(value, (list, tuple)):
        return "(" + " ".join(_printed(each, escaped=escaped) for each in value) + ")"
    return str(value)


def _is_nil(value: Any) -> bool:
    return value is None or value is False or (isinstance(value, (list, tuple)) and not value)
