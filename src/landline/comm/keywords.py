"""Lisp's values in Python: what stands for a keyword, an element type, a generalized boolean.

A keyword is a string, spelled as the manual spells it: ``:base-char`` is "base-char". With its colon, in capitals or
with underscores it is the same one, because people who port code will write it so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from ..deadline import checked_timeout
from ..options import KeepAlive

__all__ = [
    "ElementType",
    "HasNoMeaning",
    "checked_bounds",
    "checked_element_type",
    "checked_fields",
    "checked_positive",
    "checked_ssl_ctx",
    "has_no_meaning",
    "ipv6_of",
    "keepalive_of",
    "keyword",
    "symbol",
]

ElementType: TypeAlias = Literal["base-char", "unsigned-byte", "signed-byte"]

_ELEMENT_TYPES: dict[object, ElementType] = {
    str: "base-char",
    bytes: "unsigned-byte",
    ("unsigned-byte", 8): "unsigned-byte",
    ("signed-byte", 8): "signed-byte",
}


class HasNoMeaning(NotImplementedError):
    """What the manual has and Python has no use for, raised by whoever calls or gives it: never silently nothing.

    The message says why, and what to do instead. docs/manual.md lists all of it.
    """


def has_no_meaning(what: str, why: str) -> HasNoMeaning:
    """The exception to raise for ``what``."""
    return HasNoMeaning(f"{what} has no meaning here: {why}")


def keyword(value: object, what: str, allowed: Sequence[str]) -> str:
    """One of ``allowed``, however it was spelled. Raises TypeError or ValueError, naming ``what``."""
    if not isinstance(value, str):
        raise TypeError(f"{what}={value!r} is not allowed: it must be one of {_listed(allowed)}")
    spelled = symbol(value)
    if spelled not in allowed:
        raise ValueError(f"{what}={value!r} is not allowed: it must be one of {_listed(allowed)}")
    return str(spelled)


def checked_fields(fields: Sequence[str], allowed: Sequence[str]) -> tuple[str, ...]:
    """The keywords in a list of fields. Raises TypeError or ValueError."""
    if isinstance(fields, str):
        raise TypeError(f"fields={fields!r} is not allowed: it must be a list of {_listed(allowed)}")
    return tuple(keyword(field, "fields", allowed) for field in fields)


def checked_element_type(value: object) -> ElementType:
    """ "base-char" (or str), "unsigned-byte" (or bytes), "signed-byte"; also ("unsigned-byte", 8) and its like."""
    try:
        known = _ELEMENT_TYPES.get(tuple(value) if isinstance(value, list) else value)
    except TypeError:
        known = None
    if known is not None:
        return known
    spelled = keyword(value, "element_type", ("base-char", "unsigned-byte", "signed-byte"))
    return spelled  # type: ignore[return-value]


def checked_positive(seconds: float | None, what: str) -> float | None:
    """A positive number of seconds, or None. Raises TypeError or ValueError, naming ``what``."""
    if seconds is not None and checked_timeout(seconds, what) == 0:
        raise ValueError(f"{what}={seconds!r} is not allowed: it must be a positive number of seconds, or None")
    return seconds


def checked_bounds(sequence: Any, start: int, end: int | None) -> tuple[int, int]:
    """``start`` and ``end`` of a sequence; None is its end. Raises ValueError unless they lie within it."""
    size = len(sequence)
    stop = size if end is None else end
    if not 0 <= start <= stop <= size:
        raise ValueError(f"start={start}, end={end} are not allowed: the sequence has {size} elements")
    return start, stop


def symbol(value: Any) -> Any:
    """A keyword that others check, in landline's spelling; whatever is no string as it is."""
    return value.removeprefix(":").lower().replace("_", "-") if isinstance(value, str) else value


def checked_ssl_ctx(ssl_ctx: Any) -> Any:
    """What ssl_ctx may be, a symbol in landline's spelling. HasNoMeaning for a session (the manual's ssl-pointer)."""
    if type(ssl_ctx).__name__ in ("SSLObject", "SSLSocket"):
        raise has_no_meaning("a session as ssl_ctx", "it has a connection of its own; give its context")
    return symbol(ssl_ctx)


def ipv6_of(ipv6: bool | str | None, hostspec: object = "") -> Any:
    """Which families: the argument is about hosts that are strings, others have theirs. Raises ValueError."""
    checked = symbol(ipv6)
    if checked not in (True, False, None, "any", "both"):
        raise ValueError(f"ipv6={ipv6!r} is not allowed: it must be 'any', True (only IPv6), or None (only IPv4)")
    return checked if isinstance(hostspec, str) else "any"


def keepalive_of(keepalive: object) -> bool | KeepAlive:
    """Any truth value, or landline's own KeepAlive."""
    return keepalive if isinstance(keepalive, KeepAlive) else bool(keepalive)


def _listed(allowed: Sequence[str]) -> str:
    return ", ".join(map(repr, allowed))
