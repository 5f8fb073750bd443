"""Iterating over lines at the speed of C, by an iterator that survives timeouts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self

__all__ = ["iterate_lines", "read_lines"]


def iterate_lines(next_block: Callable[[], Any]) -> Iterator[Any]:
    """An iterator over the lines of the blocks that ``next_block`` gives.

    ``next_block`` may wait and may raise, and is then simply asked again. It gives an iterable of lines, or one
    line; an empty one ends the iteration.
    """
    return chain.from_iterable(_blocks(_LineSource(next_block)))


def read_lines(lines: Iterable[Any], hint: int | None, unread: Callable[[list[Any]], None]) -> list[Any]:
    """readlines(): every line, or with a ``hint`` no more once so much has come.

    If taking them fails, ``unread`` gets back those that were taken.
    """
    taken: list[Any] = []
    left = hint if hint is not None and hint > 0 else None
    try:
        for line in lines:
            taken.append(line)
            if left is not None and (left := left - len(line)) <= 0:
                break
    except BaseException:
        unread(taken)
        raise
    return taken


class _LineSource:
    """The part of a line iterator that may wait.

    An iterator over lines is a chain of blocks, so that the lines themselves come at C speed. Between two
    blocks the chain asks this object. A generator would be finished by the first timeout, and so would a chain
    whose outer iterator raises; a chain whose inner iterator raises is not, so all waiting is done in here.
    """

    __slots__ = ("_next_block", "block", "ended")

    def __init__(self, next_block: Callable[[], Any]) -> None:
        self._next_block = next_block
        self.block: Iterable[Any] = ()
        self.ended = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        block = self._next_block()
        if isinstance(block, (bytes, str)):
            if block:
                return block
            self.ended = True
        else:
            self.block = block
        raise StopIteration


def _blocks(source: _LineSource) -> Iterator[Iterable[Any]]:
    """The outer iterator of the chain: it only alternates, and never raises."""
    while not source.ended:
        yield source
        yield source.block
