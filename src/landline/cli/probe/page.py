"""The picture as a page: one HTML file without scripts or anything from elsewhere, light or dark as the reader is.

It must be readable on a phone, so the bars are boxes of the page and not an SVG inside it, which would only shrink:
on a narrow screen a row's words stand above its bar. A policy in the page itself forbids the browser to fetch or
run anything, whatever a certificate's names might try. The values of each probe are in it as JSON, folded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from .palette import DARK, FONT, LIGHT, MONO, STATUS_TONES
from .story import Card, Entry, History, Row, Story
from .svg import MARKS, bound, width_of

__all__ = ["page"]


def page(entries: Sequence[Entry]) -> str:
    """The whole file."""
    title = ", ".join(dict.fromkeys(entry.story.target for entry in entries))[:200] or "nothing"
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{escape(title)}: landline probe</title>",
            f"<style>{_style()}</style>",
            "<main>",
            *([_overview(entries)] if len(entries) > 1 else []),
            *(part for number, entry in enumerate(entries) for part in _entry(entry, number)),
            "</main>",
            "</html>",
            "",
        )
    )


def _overview(entries: Sequence[Entry]) -> str:
    rows = "".join(
        f'<li><a href="#p{number}">{_pill(entry.story)} <span>{escape(entry.story.headline)}</span></a></li>'
        for number, entry in enumerate(entries)
    )
    return f'<nav><ul class="overview">{rows}</ul></nav>'


def _entry(entry: Entry, number: int) -> Iterator[str]:
    story = entry.story
    yield f'<article id="p{number}">'
    yield f'<p class="head">{_pill(story)}<time>{escape(story.when)}</time></p>'
    yield f"<h1>{escape(bound(story.headline))}</h1>"
    yield from _sentences("How to fix it", story.advice, "advice")
    if story.rows:
        yield from _waterfall(story)
    if story.facts:
        facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in story.facts)
        yield f'<dl class="facts">{facts}</dl>'
    if story.cards:
        yield '<ol class="cards">' + "".join(map(_card, story.cards)) + "</ol>"
    if story.checks:
        checks = []
        for check in story.checks:
            mark, tone = MARKS[check.ok]
            text = escape(check.text)
            said = f'<span class="{tone}">{text}</span>' if not check.ok else text
            checks.append(f'<dt><b class="{tone}">{mark}</b> {escape(check.name)}</dt><dd>{said}</dd>')
        yield f'<dl class="facts">{"".join(checks)}</dl>'
    yield from _sentences("Note", story.notes, "note")
    if entry.history is not None:
        yield _history(entry.history)
    values = json.dumps(entry.values, indent=2)
    yield f"<details><summary>All values, as JSON</summary><pre>{escape(values)}</pre></details>"
    yield "</article>"


def _pill(story: Story) -> str:
    return f'<b class="pill {STATUS_TONES[story.status.name]}-back">{story.status.name}</b>'


def _sentences(title: str, sentences: Iterable[str], kind: str) -> Iterator[str]:
    items = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    if items:
        yield f'<section class="{kind}"><h2>{title}</h2>{items}</section>'


def _waterfall(story: Story) -> Iterator[str]:
    ticks = []
    for index, tick in enumerate(story.ticks):
        # On a narrow screen only the first and every second one; the last must not hang over the edge.
        kinds = ["wide"] * (index > 0 and (len(story.ticks) - 1 - index) % 2 == 1)
        kinds += ["last"] * (tick.at > 0.95 * story.total)
        kind = f' class="{" ".join(kinds)}"' if kinds else ""
        ticks.append(f'<i{kind} style="left:{_percent(tick.at, story.total)}%">{escape(tick.label)}</i>')
    longest = max(width_of(row.label, 1) for row in story.rows)
    yield f'<div class="fall" style="--label:{longest + 0.5:.1f}em">'
    yield f'<div class="row axis"><span class="label"></span><span class="track">{"".join(ticks)}</span></div>'
    grid = "".join(f'<i style="left:{_percent(tick.at, story.total)}%"></i>' for tick in story.ticks)
    for row in story.rows:
        yield _row(row, story.total, grid)
    yield "</div>"


def _row(row: Row, total: float, grid: str) -> str:
    left = min(_percent(row.started, total), 99.5)
    width = min(_percent(row.ended - row.started, total), 100 - left)
    tone = row.state if row.state in ("failed", "silent", "won") else "dim"
    return (
        f'<div class="row"><span class="label">{escape(row.label)}</span>'
        f'<span class="track">{grid}<b class="bar {row.state}-bar" style="left:{left}%;width:{width:.2f}%"></b></span>'
        f'<span class="took">{escape(row.took)}</span><span class="said {tone}">{escape(row.note)}</span></div>'
    )


def _card(card: Card) -> str:
    lines = "".join(f"<p>{escape(line)}</p>" for line in card.lines)
    return (
        f'<li class="{card.tone}-edge"><p class="title"><strong>{escape(card.title)}</strong> '
        f'<span class="dim">{card.role}</span> <b class="{card.tone}">{escape(card.validity)}</b></p>{lines}</li>'
    )


def _history(history: History) -> str:
    most = max(*history.times, 1e-6)
    bars = "".join(
        f'<i class="{STATUS_TONES[status.name]}-back" style="height:{max(4, round(100 * time / most))}%" '
        f'title="{index}: {status.name}"></i>'
        for index, (time, status) in enumerate(zip(history.times, history.statuses, strict=True), 1)
    )
    return f'<section class="history"><h2>{escape(history.summary())}</h2><div class="strip">{bars}</div></section>'


def _percent(time: float, total: float) -> float:
    return round(100 * time / total, 2)


def _style() -> str:
    names = [name for name in LIGHT if name not in ("back", "card", "edge", "grid", "on")]
    classes = "".join(
        f".{name}{{color:var(--{name})}}.{name}-back,.{name}-bar{{background:var(--{name})}}"
        f".{name}-edge{{border-left-color:var(--{name})!important}}"
        for name in names
    )
    return (
        f":root{{{_variables(LIGHT)}}}@media (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}"
        + classes
        + _LAYOUT.replace("FONT", FONT).replace("MONO", MONO)
    )


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


_LAYOUT = """
*{box-sizing:border-box;margin:0;padding:0}
body{font:15px/1.5 FONT;background:var(--back);color:var(--text)}
main{max-width:960px;margin:0 auto;padding:24px 16px 48px}
article+article{border-top:1px solid var(--edge);margin-top:36px;padding-top:32px}
h1{font-size:1.25rem;line-height:1.35;margin:10px 0 18px;overflow-wrap:anywhere}
h2{font-size:.85rem;color:var(--dim);font-weight:600}
.head{display:flex;justify-content:space-between;align-items:center;gap:12px}
time{color:var(--dim);font-size:.85rem}
.pill{color:var(--on);border-radius:99px;padding:2px 11px;font-size:.78rem;letter-spacing:.03em}
.advice{background:var(--card);border:1px solid var(--edge);border-radius:8px;padding:10px 14px;margin-bottom:20px}
.advice,.note,dd,.cards p{overflow-wrap:anywhere}
.fall{margin:6px 0 22px}
.row{display:grid;grid-template-columns:minmax(110px,var(--label)) 1fr 76px minmax(86px,150px);gap:0 12px;
  align-items:center;min-height:28px}
.row .label{overflow-wrap:anywhere;line-height:1.2}
.took{text-align:right;color:var(--dim);font-size:.85rem;font-variant-numeric:tabular-nums}
.said{overflow-wrap:anywhere;line-height:1.2}
.track{position:relative;min-height:28px;align-self:stretch}
.track i{position:absolute;top:0;bottom:0;border-left:1px solid var(--grid)}
.axis .track i{border:0;font:.75rem FONT;color:var(--dim);transform:translateX(-50%);white-space:nowrap;top:8px}
.axis .track .last{transform:translateX(-100%)}
.bar{position:absolute;top:50%;height:12px;margin-top:-6px;min-width:3px;border-radius:3px}
.lost-bar,.silent-bar{background:var(--back);border:1.5px dashed var(--lost)}
.silent-bar{border-color:var(--silent)}
.failed-bar{border-right:3px solid var(--text)}
.facts{display:grid;grid-template-columns:110px 1fr;gap:3px 12px;margin-bottom:22px}
.facts dt{color:var(--dim)}
.cards{list-style:none;margin-bottom:22px}
.cards li{background:var(--card);border:1px solid var(--edge);border-left:4px solid;border-radius:8px;
  padding:9px 14px;margin-bottom:8px}
.cards p{color:var(--dim);font-size:.88rem}
.cards .title{display:flex;flex-wrap:wrap;gap:0 8px;color:var(--text);font-size:1rem;align-items:baseline}
.title strong{overflow-wrap:anywhere;min-width:0}
.title b{margin-left:auto;font-size:.9rem}
.title .dim{font-size:.85rem}
.strip{display:flex;align-items:flex-end;gap:2px;height:56px;margin-top:8px;overflow:hidden}
.strip i{flex:0 1 14px;min-width:1px;border-radius:2px 2px 0 0}
.note,.history{margin-bottom:20px}
.overview{list-style:none;margin-bottom:36px}
.overview a{display:flex;gap:12px;align-items:baseline;color:inherit;text-decoration:none;padding:4px 0}
.overview a:hover span{text-decoration:underline}
.overview .pill{min-width:92px;text-align:center}
.overview span{overflow-wrap:anywhere}
details{color:var(--dim);font-size:.85rem}
summary{cursor:pointer}
pre{font:.8rem/1.45 MONO;background:var(--card);border:1px solid var(--edge);border-radius:8px;padding:12px;
  margin-top:8px;white-space:pre-wrap;overflow-wrap:anywhere}
@media (max-width:640px){
.row{grid-template-columns:1fr auto auto;gap:0 10px;padding-top:4px}
.axis .label{display:none}
.row .track{grid-row:2;grid-column:1/4;min-height:18px}
.axis .track{min-height:24px}
.facts{grid-template-columns:1fr;gap:0}
.facts dd{margin-bottom:8px}
.title b{margin-left:0;flex-basis:100%}
.wide{display:none}
.head{flex-wrap:wrap}
}
"""
