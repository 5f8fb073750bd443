"""The picture as SVG: one file without scripts, fonts or anything else from elsewhere; light or dark as the reader is.

An SVG has no lines that wrap, and nobody knows the reader's font. So the width of a text is estimated by that of a
wide common font (DejaVu Sans), and what would be too long is wrapped or cut by that: in a narrower font there is
some room left, and in none does anything overlap. Colours are classes with a colour for each scheme, and not
variables, which many programs that show SVG do not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from unicodedata import east_asian_width
from xml.sax.saxutils import escape, quoteattr

from .palette import DARK, FONT, LIGHT, STATUS_TONES
from .story import Card, Entry, History, Row, Story, shortened
from .verdict import Check, Status

__all__ = ["draw"]

WIDTH = 840
MARGIN = 28
INNER = WIDTH - 2 * MARGIN
ROW = 26
BAR = 12
LEAST_BAR = 3
GAP = 22

MARKS = {True: ("✓", "good"), False: ("✗", "bad"), None: ("?", "warning")}


def draw(entries: Sequence[Entry]) -> str:
    """The picture of all of them, one below the other."""
    sheet = _Sheet()
    for index, entry in enumerate(entries):
        if index:
            sheet.line(MARGIN, sheet.y, WIDTH - MARGIN, sheet.y, "edge")
            sheet.y += GAP + 6
        _story(sheet, entry.story)
        if entry.history is not None:
            _history(sheet, entry.history)
    sheet.y += MARGIN - GAP
    return sheet.text("; ".join(entry.story.headline for entry in entries))


class _Sheet:
    """What has been drawn so far; ``y`` is where to go on."""

    def __init__(self) -> None:
        self.y = float(MARGIN)
        self._parts: list[str] = []

    def write(
        self,
        x: float,
        y: float,
        text: str,
        kind: str = "text",
        size: float = 13,
        *,
        bold: bool = False,
        anchor: str = "",
        behind: str = "",
    ) -> None:
        """One line of text, its base line at ``y``; a smaller, weaker one ``behind`` it."""
        more = ' font-weight="600"' * bold + (f' text-anchor="{anchor}"' if anchor else "")
        more = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" class="{kind}"{more}'
        if behind:
            behind = f'<tspan dx="8" font-size="12" font-weight="400" class="dim">{_safe(behind)}</tspan>'
        self._parts.append(f"<text {more}>{_safe(text)}{behind}</text>")

    def wrapped(
        self, x: float, text: str, most: float, kind: str = "text", size: float = 13, bold: bool = False
    ) -> None:
        """Lines of text; ``y`` goes below them."""
        for line in lines_of(text, most, size, bold):
            self.write(x, self.y + size, line, kind, size, bold=bold)
            self.y += size * 1.45

    def box(self, x: float, y: float, width: float, height: float, kind: str, title: str = "", more: str = "") -> None:
        inside = f"><title>{_safe(title)}</title></rect>" if title else "/>"
        place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        self._parts.append(f'<rect {place} class="{kind}"{more}{inside}')

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        self._parts.append(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" class="line-{kind}"/>')

    def text(self, title: str) -> str:
        height = round(self.y)
        return "\n".join(
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
                f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label={quoteattr(_clean(title))} '
                f'font-family="{FONT}">',
                f"<title>{_safe(title)}</title>",
                f"<style>{_style()}</style>",
                f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="12" class="back"/>',
                *self._parts,
                "</svg>",
                "",
            )
        )


# ---- parts -------------------------------------------------------------------------------------------


def _story(sheet: _Sheet, story: Story) -> None:
    tone = STATUS_TONES[story.status.name]
    pill = width_of(story.status.name, 12, bold=True) + 20
    sheet.box(MARGIN, sheet.y, pill, 22, tone, more=' rx="11"')
    sheet.write(MARGIN + pill / 2, sheet.y + 15.5, story.status.name, "on", 12, bold=True, anchor="middle")
    sheet.write(WIDTH - MARGIN, sheet.y + 15.5, story.when, "dim", 12, anchor="end")
    sheet.y += 34
    sheet.wrapped(MARGIN, story.headline, INNER, size=16, bold=True)
    _sentences(sheet, "How to fix it", story.advice)
    sheet.y += GAP - 8
    if story.rows:
        _waterfall(sheet, story)
    if story.facts:
        _facts(sheet, story.facts)
    for card in story.cards:
        _card(sheet, card)
    if story.cards:
        sheet.y += GAP - 8
    if story.checks:
        _checks(sheet, story.checks)
    if story.notes:
        _sentences(sheet, "Note", story.notes)
        sheet.y += GAP


def _sentences(sheet: _Sheet, title: str, sentences: Iterable[str]) -> None:
    for index, sentence in enumerate(sentences):
        sheet.y += 0 if index else 8
        if not index:
            sheet.write(MARGIN, sheet.y + 13, title, "dim", 13)
        sheet.wrapped(MARGIN + 110, sentence, INNER - 110)


def _waterfall(sheet: _Sheet, story: Story) -> None:
    label = min(max(width_of(row.label, 13) for row in story.rows), 270) + 14
    note = min(max(width_of(row.note, 13) for row in story.rows), 150)
    took = max(width_of(row.took, 12) for row in story.rows) + 14
    left = MARGIN + label
    width = WIDTH - MARGIN - note - 12 - took - left
    top, bottom = sheet.y + 18, sheet.y + 18 + ROW * len(story.rows)
    free = float("-inf")
    for tick in story.ticks:
        x = left + tick.at / story.total * width
        sheet.line(x, top - 2, x, bottom, "grid")
        half = width_of(tick.label, 11) / 2
        if x - half > free + 6:
            sheet.write(x, top - 8, tick.label, "dim", 11, anchor="middle")
            free = x + half
    for index, row in enumerate(story.rows):
        y = top + ROW * index
        sheet.write(MARGIN, y + 17, cut(row.label, label - 14, 13), "dim" if row.state == "lost" else "text")
        _bar(sheet, row, story.total, left, y + (ROW - BAR) / 2, width)
        end = left + width + took
        sheet.write(end, y + 17, row.took, "dim", 12, anchor="end")
        kind = row.state if row.state in ("failed", "silent", "won") else "dim"
        sheet.write(end + 12, y + 17, cut(row.note, note, 13), kind)
    sheet.y = bottom + GAP


def _bar(sheet: _Sheet, row: Row, total: float, left: float, y: float, width: float) -> None:
    start = row.started / total * width
    long = max(LEAST_BAR, (row.ended - row.started) / total * width)
    start = min(start, width - long)
    hollow = row.state in ("lost", "silent")
    more = ' rx="3" stroke-dasharray="4 3"' if hollow else ' rx="3"'
    kind = f"hollow-{row.state}" if hollow else row.state
    title = f"{row.label}: {row.took} {row.note}".replace("  ", " ")
    sheet.box(left + start, y, long, BAR, kind, title, more)
    if row.state == "failed":
        x = left + start + long
        sheet.line(x, y - 4, x, y + BAR + 4, "failed")


def _facts(sheet: _Sheet, facts: Iterable[tuple[str, str]]) -> None:
    for name, text in facts:
        sheet.write(MARGIN, sheet.y + 13, name, "dim")
        sheet.wrapped(MARGIN + 110, text, INNER - 110)
        sheet.y += 3
    sheet.y += GAP - 8


def _card(sheet: _Sheet, card: Card) -> None:
    lines = [line for text in card.lines for line in lines_of(text, INNER - 32, 12)]
    height = 40 + 17 * len(lines)
    sheet.box(MARGIN, sheet.y, INNER, height, "card", more=' rx="8"')
    sheet.box(MARGIN, sheet.y + 8, 4, height - 16, card.tone, more=' rx="2"')
    validity = width_of(card.validity, 13, bold=True)
    title = cut(card.title, INNER - 48 - validity - 92, 14, bold=True)
    sheet.write(MARGIN + 18, sheet.y + 24, title, "text", 14, bold=True, behind=card.role)
    sheet.write(WIDTH - MARGIN - 16, sheet.y + 24, card.validity, card.tone, 13, bold=True, anchor="end")
    for index, line in enumerate(lines):
        sheet.write(MARGIN + 18, sheet.y + 43 + 17 * index, line, "dim", 12)
    sheet.y += height + 8


def _checks(sheet: _Sheet, checks: Iterable[Check]) -> None:
    for check in checks:
        mark, tone = MARKS[check.ok]
        sheet.write(MARGIN, sheet.y + 13, mark, tone, 14, bold=True)
        sheet.write(MARGIN + 24, sheet.y + 13, check.name, "dim")
        sheet.wrapped(MARGIN + 110, check.text, INNER - 110, "text" if check.ok else tone)
        sheet.y += 3
    sheet.y += GAP - 6


def _history(sheet: _Sheet, history: History) -> None:
    sheet.wrapped(MARGIN, history.summary(), INNER, "dim", 12)
    most, step = max(*history.times, 1e-6), min(16.0, INNER / len(history.times))
    sheet.y += 8
    for index, (time, status) in enumerate(zip(history.times, history.statuses, strict=True)):
        height = max(LEAST_BAR, 44 * time / most)
        place = MARGIN + index * step, sheet.y + 44 - height, max(1.0, step - 2), height
        sheet.box(*place, STATUS_TONES[Status(status).name], f"{index + 1}: {status.name}")
    sheet.y += 44 + GAP


# ---- text --------------------------------------------------------------------------------------------


def width_of(text: str, size: float, bold: bool = False) -> float:
    """About how wide a text is, in a wide font."""
    return sum(map(_em, text)) * size * (1.09 if bold else 1.0)


def cut(text: str, most: float, size: float, bold: bool = False) -> str:
    """``text``, or both its ends, in at most so much room."""
    length = len(text)
    while length > 1 and width_of(text, size, bold) > most:
        length -= 1
        text = shortened(text, length)
    return text


def lines_of(text: str, most: float, size: float, bold: bool = False) -> list[str]:
    """``text`` in lines; a word that is longer than a line is broken."""
    lines, line = [], ""
    for word in bound(text).split(" "):
        while width_of(word, size, bold) > most:
            taken = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or width_of(word[:n], size, bold) <= most)
            if line:
                lines.append(line)
                line = ""
            lines.append(word[:taken])
            word = word[taken:]
        joined = f"{line} {word}".strip()
        if line and width_of(joined, size, bold) > most:
            lines.append(line)
            joined = word
        line = joined
    return [*lines, line] if line else lines


def bound(text: str) -> str:
    """``text`` with spaces that do not break between a number and its unit."""
    return _UNIT.sub("\u00a0", text)


_UNIT = re.compile(r"(?<=[0-9]) (?=(?:ms|s|days?|bytes|h|min)\b)")


def _em(character: str) -> float:
    if east_asian_width(character) in "WF":
        return 1.05
    return _EMS.get(character, 0.7 if character.isascii() else 0.85)


# Of DejaVu Sans, rounded up.
_EMS = {
    character: em
    for em, characters in (
        (0.3, "ijlI'J|"),
        (0.34, " .,:;/\\\u00a0"),
        (0.42, 'frt()-[]!`"'),
        (0.6, "csz_xvyk?LF"),
        (0.64, "abdeghnopqu0123456789PTYES$*{}"),
        (0.79, "DGHNOQU"),
        (0.99, "mwMW@%+=<>#~"),
    )
    for character in characters
}


def _safe(text: str) -> str:
    return escape(_clean(text))


def _clean(text: str) -> str:
    """Without what XML 1.0 cannot say at all."""
    return "".join(c if c.isprintable() or c == "\u00a0" else "?" for c in text)


def _style() -> str:
    return _classes(LIGHT) + "@media (prefers-color-scheme: dark){" + _classes(DARK) + "}"


def _classes(colours: dict[str, str]) -> str:
    made = [f".{name}{{fill:{colour}}}" for name, colour in colours.items()]
    made += [f".back,.card{{stroke:{colours['edge']}}}"]
    made += [f".line-{name}{{stroke:{colours[name]};fill:none}}" for name in ("edge", "grid", "failed")]
    made.append(".line-failed{stroke-width:2}")
    made += [f".hollow-{name}{{fill:{colours['back']};stroke:{colours[name]}}}" for name in ("lost", "silent")]
    return "".join(made)
