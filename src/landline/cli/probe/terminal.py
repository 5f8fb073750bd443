"""The picture in a terminal, and as plain text where there is none.

Colours only repeat what glyphs and words say, so NO_COLOR and a colour-blind reader lose nothing. Where the output
cannot carry the glyphs (another encoding than UTF-8, the C locale) there are ASCII ones. Widths are counted in cells:
names may be in any script.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from .story import Card, History, Row, State, Story, shortened
from .verdict import Check, Status, milliseconds

__all__ = ["Screen"]

WIDEST = 120
"""Columns: on a wider terminal the eye loses the row between label and note."""

TIME = 8
"""Columns of a duration."""

NAME = len("how to fix it")
"""Columns of the names on the left."""

BAR_AT_LEAST = 8


class Glyphs(NamedTuple):
    """Attributes: states: what a bar of that state is drawn with; left, right: half a cell, where there is one."""

    states: dict[State, str]
    left: str
    right: str
    good: str
    bad: str
    open: str
    rule: str
    levels: str
    dots: str


FINE = Glyphs(
    {"lookup": "━", "won": "━", "lost": "┄", "failed": "━", "silent": "┄", "talk": "━", "tls": "━"},
    "╺", "╸", "✓", "✗", "?", "─", "▁▂▃▄▅▆▇█", "…",
)  # fmt: skip
ASCII = Glyphs(
    {"lookup": "=", "won": "=", "lost": "-", "failed": "x", "silent": ".", "talk": "=", "tls": "#"},
    "", "", "+", "x", "?", "-", "_.-=*#", "...",
)  # fmt: skip

COLOURS: dict[str, str] = {
    "lookup": "cyan", "won": "green", "lost": "bright_black", "failed": "red", "silent": "yellow", "talk": "blue",
    "tls": "magenta", "good": "green", "warning": "yellow", "bad": "red", "plain": "",
}  # fmt: skip
BADGES = {
    Status.OK: "bold green", Status.WARNING: "bold yellow", Status.CRITICAL: "bold red", Status.UNKNOWN: "bold magenta",
}  # fmt: skip


class Screen:
    """Standard output.

    What its methods raise is an OSError: BrokenPipeError when nobody reads any more.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or _Output(highlight=False, emoji=False, markup=False)
        self.width = min(self.console.width, WIDEST)
        self.glyphs = FINE if _takes_glyphs(self.console.encoding) else ASCII

    def picture(self, story: Story) -> None:
        """All of it, with an empty line behind it."""
        parts = [self._headline(story), *self._sentences("how to fix it", story.advice)]
        if story.rows:
            parts += ["", *self._waterfall(story)]
        if story.facts:
            parts += ["", self._pairs(story.facts)]
        if story.cards:
            parts += ["", self._cards(story.cards)]
        if story.checks:
            parts += ["", self._checks(story.checks)]
        parts += self._sentences("note", story.notes)
        self._print(Group(*parts, ""))

    def line(self, story: Story) -> None:
        """One line for a probe that went as the one before."""
        parts = (story.when[11:19], "dim"), " ", self._badge(story.status), f"  {self._shown(story.target)}  "
        text = Text.assemble(*parts, milliseconds(story.elapsed))
        self._print(text)

    def history(self, histories: Iterable[History]) -> None:
        """What many probes come to."""
        for history in histories:
            self._print(Text(self._shown(history.summary())))
            strip = self._strip(history)
            if len(strip) > 1:
                self._print(Padding(strip, (0, 0, 0, 2)))

    def waiting(self, what: str) -> AbstractContextManager[object]:
        """Around a probe: something moves on a terminal meanwhile."""
        if not self.console.is_terminal or self.console.is_dumb_terminal:
            return nullcontext()
        spinner = "dots" if self.glyphs is FINE else "line"
        return self.console.status(Text(self._shown(what)), spinner=spinner)

    def _print(self, what: RenderableType) -> None:
        lines = self.console.render_lines(what, self.console.options.update(width=self.width), pad=False)
        for line in lines:
            while line and not line[-1].text.strip() and not line[-1].control:
                line.pop()
            if line:
                line[-1] = line[-1]._replace(text=line[-1].text.rstrip())
        self.console.print(Segments(segment for line in lines for segment in [*line, Segment.line()]), end="")

    def _shown(self, text: str) -> str:
        """``text`` in what the output's encoding has."""
        encoding = "ascii" if self.glyphs is ASCII else self.console.encoding
        return text.encode(encoding, "replace").decode(encoding)

    # Parts

    def _badge(self, status: Status) -> Text:
        mark = {Status.OK: self.glyphs.good, Status.CRITICAL: self.glyphs.bad}.get(status, "!")
        return Text(f"{mark} {status.name}", BADGES[status])

    def _headline(self, story: Story) -> RenderableType:
        # A grid: a long headline goes on below itself, not below the badge.
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(self._badge(story.status), Text(self._shown(story.headline), "bold"))
        return grid

    def _waterfall(self, story: Story) -> list[RenderableType]:
        rows, space = story.rows, self.width - 2 - 2 - 2 - TIME - 2  # the margin, and what is between the columns
        label = min(max(cell_len(row.label) for row in rows), max(12, space * 2 // 5))
        note = min(max(cell_len(row.note) for row in rows), max(9, space // 4))
        bar = max(BAR_AT_LEAST, space - label - note)
        lines: list[RenderableType] = [self._axis(story, 2 + label + 2, bar)]
        return lines + [
            Text.assemble(
                f"  {self._cell(row.label, label)}  ",
                self._bar(row, story.total, bar),
                (f" {row.took:>{TIME}}  ", "dim" if row.state == "lost" else ""),
                (self._cell(row.note, note), _tone_of(row.state)),
                no_wrap=True,
            )
            for row in rows
        ]

    def _axis(self, story: Story, indent: int, bar: int) -> Text:
        """The labels, each beginning where it belongs; one that would touch its neighbour is left out."""
        line = " " * indent
        last = story.ticks[-1]
        ticks = [(indent + round(tick.at / story.total * (bar - 1)), tick.label) for tick in story.ticks]
        place = min(ticks[-1][0], indent + bar - 1 + TIME - len(last.label))
        for at, label in ticks[:-1]:
            if at >= len(line) + (len(line) > indent) * 2 - (len(line) == indent) and at + len(label) + 2 <= place:
                line = line.ljust(at) + label
        if len(ticks) > 1:
            line = line.ljust(place) + last.label
        return Text(line, "dim", no_wrap=True)

    def _bar(self, row: Row, total: float, width: int) -> Text:
        """At least one cell, to half a cell exactly where glyphs allow it."""
        glyphs, halves = self.glyphs, 2 * width
        begin = min(round(row.started / total * halves), halves - 2)
        end = min(max(round(row.ended / total * halves), begin + 2), halves)
        glyph = glyphs.states[row.state]
        if not glyphs.left or glyph != FINE.states["won"]:
            begin, end = begin // 2 * 2, (end + 1) // 2 * 2
        text = glyphs.left * (begin % 2) + glyph * (end // 2 - (begin + 1) // 2) + glyphs.right * (end % 2)
        before = begin // 2
        if row.state == "failed" and self.glyphs is FINE:
            text = text[:-1] + glyphs.bad
        style = COLOURS[row.state]
        return Text.assemble(" " * before, (text, style), " " * max(0, width - before - len(text)))

    def _pairs(self, pairs: Iterable[tuple[str, str]]) -> RenderableType:
        grid = self._grid()
        for name, text in pairs:
            grid.add_row(name, Text(self._shown(text)))
        return Padding(grid, (0, 0, 0, 2))

    def _cards(self, cards: Iterable[Card]) -> RenderableType:
        grid = self._grid()
        for card in cards:
            title = Text.assemble(
                (self._shown(card.title), "bold"), "  ", (card.validity, COLOURS[card.tone]), overflow="fold"
            )
            lines = (Text(self._shown(line), overflow="fold") for line in card.lines)
            grid.add_row(card.role, Group(title, *lines))
        return Padding(grid, (0, 0, 0, 2))

    def _checks(self, checks: Iterable[Check]) -> RenderableType:
        grid = self._grid()
        for check in checks:
            mark, style = {
                True: (self.glyphs.good, "green"),
                False: (self.glyphs.bad, "bold red"),
                None: (self.glyphs.open, "yellow"),
            }[check.ok]
            grid.add_row(
                Text.assemble((mark, style), f" {check.name}"),
                Text(self._shown(check.text), style if not check.ok else ""),
            )
        return Padding(grid, (0, 0, 0, 2))

    def _sentences(self, title: str, sentences: Iterable[str]) -> list[RenderableType]:
        pairs = [(title if not index else "", text) for index, text in enumerate(sentences)]
        return ["", self._pairs(pairs)] if pairs else []

    def _grid(self) -> Table:
        """Names and texts, the same columns in every part."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True, style="dim", min_width=NAME)
        grid.add_column(overflow="fold")
        return grid

    def _strip(self, history: History) -> Text:
        """A bar for each probe, as high as it took long; the last ones, where there are more than columns."""
        strip, levels = Text(), self.glyphs.levels
        times, statuses = history.times[2 - self.width :], history.statuses[2 - self.width :]
        most = max(times, default=0.0)
        for time, status in zip(times, statuses, strict=True):
            bad = status >= Status.CRITICAL
            level = levels[min(len(levels) - 1, int(time / most * len(levels)))] if most else levels[0]
            strip.append(self.glyphs.bad if bad else level, BADGES[status])
        return strip

    def _cell(self, text: str, width: int) -> str:
        """``text`` in exactly so many cells."""
        text = self._shown(text)
        if cell_len(text) <= width:
            return set_cell_size(text, width)
        return set_cell_size(shortened(text, width, self.glyphs.dots), width)


class _Output(Console):
    def on_broken_pipe(self) -> None:
        """Left to itself rich ends the process, with status 1."""
        raise BrokenPipeError


def _tone_of(state: State) -> str:
    return COLOURS[state] if state in ("failed", "silent", "won") else "dim" if state == "lost" else ""


def _takes_glyphs(encoding: str) -> bool:
    """Python speaks UTF-8 in the C locale, whatever the terminal makes of it: who asked for that locale gets ASCII.

    LC_CTYPE is Python's own doing there (PEP 538), and says nothing.
    """
    category = os.environ.get("LC_CTYPE", "")
    names = (os.environ.get("LC_ALL"), category if category not in _COERCED else "", os.environ.get("LANG"))
    locale = next((name for name in names if name), "")
    return encoding.lower().replace("-", "") == "utf8" and locale not in ("C", "POSIX")


_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")
