"""The pictures of a probe: whatever was found, they are well-formed, harmless, and nothing in them overlaps.

How they look is for people; what can be measured is measured in a real browser: in a page that holds them in frames
of several widths, and tells where its texts have come to lie.
"""

from __future__ import annotations

import html
import io
import json
import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from certificates import (
    Certificates,
    matrix,  # noqa: F401 - the fixture `certificates`
)
from command import run
from conftest import need
from probing import CASES, EVIL, HOST, for_loopback, over_tls, race, serving
from rich.cells import cell_len
from rich.console import Console

from landline.cli.probe import page, palette, svg
from landline.cli.probe.as_json import as_json, as_values
from landline.cli.probe.facts import Measured, Step
from landline.cli.probe.story import Entry, History, Story, shortened, tell
from landline.cli.probe.terminal import Screen
from landline.cli.probe.verdict import Status, judge

EVERY_CASE = pytest.mark.parametrize("case", CASES)


def story(measured: Measured) -> Story:
    return tell(measured, judge(measured, 14), 14)


def entry(measured: Measured) -> Entry:
    told = story(measured)
    statuses = tuple(Status.CRITICAL if index % 9 == 0 else Status.OK for index in range(100))
    history = History(told.target, tuple(0.1 + index % 7 / 50 for index in range(100)), statuses)
    return Entry(told, history, as_values(measured, judge(measured, 14)))


def everything() -> list[Entry]:
    return [entry(made()) for made in CASES.values()]


# ---- the terminal ----------------------------------------------------------------------------------------


def drawn(measured: Measured, width: int, **more: Any) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False, emoji=False, markup=False, **more)
    screen = Screen(console)
    screen.picture(story(measured))
    history = entry(measured).history
    assert history is not None
    screen.history([history])
    return file.getvalue()


@EVERY_CASE
@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(case: str, width: int) -> None:
    lines = drawn(CASES[case](), width).splitlines()
    assert max(map(cell_len, lines)) <= min(width, 120)
    assert not [line for line in lines if line != line.rstrip()]


@EVERY_CASE
def test_bars_stand_in_their_column_and_notes_behind_them(case: str) -> None:
    measured = CASES[case]()
    lines = drawn(measured, 80).splitlines()
    axis = next(index for index, line in enumerate(lines) if re.match(r" +0 ", line))
    begin = lines[axis].index("0")
    rows = lines[axis + 1 : axis + 1 + len(measured.steps)]
    for row, told in zip(rows, story(measured).rows, strict=True):
        bar = re.search("[╺━┄╸✗]+", row)
        assert bar is not None
        assert bar.start() >= begin
        assert row[2 : begin - 2].rstrip() == shortened(told.label, begin - 4)
        assert row[bar.end() :].split() == [*told.took.split(), *told.note.split()] or "…" in row


def test_a_bar_is_where_its_time_is() -> None:
    """On 80 columns the winner begins at 80 % of the axis; the loser has begun near its left end."""
    lines = drawn(race(), 80).splitlines()
    loser = next(line for line in lines if "cancelled" in line)
    winner = next(line for line in lines if line.endswith("connected"))
    handshake = next(line for line in lines if "TLS handshake" in line)
    assert loser.index("┄") < winner.index("━") - 15
    assert handshake.index("━") > winner.index("━")


def test_what_took_no_time_at_the_very_end_has_a_bar_too() -> None:
    steps = (Step("connect", "192.0.2.1", 0.0, 1.0, "done"), Step("tls", "handshake", 1.0, 1.0, "done"))
    lines = drawn(replace(race(), steps=steps, elapsed=1.0), 80).splitlines()
    winner, handshake = (next(line for line in lines if name in line) for name in ("  192.0.2.1 ", "TLS handshake"))
    assert handshake.index("━") == winner.rindex("━")
    root = ElementTree.fromstring(svg.draw([Entry(story(replace(race(), steps=steps)), None, {})]))
    assert [bar for bar in root.iter() if bar.get("class") == "tls" and float(bar.get("width", 0)) >= svg.LEAST_BAR]


@EVERY_CASE
def test_nothing_of_the_peers_reaches_the_terminal_as_a_command(case: str) -> None:
    text = drawn(CASES[case](), 80)
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    colours = drawn(CASES[case](), 80, force_terminal=True, color_system="standard")
    assert re.sub(r"\x1b\[[0-9;]*m", "", colours) == text
    assert as_json(CASES[case](), judge(CASES[case](), 14)).isprintable()


@EVERY_CASE
def test_ascii_is_enough(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    assert drawn(CASES[case](), 80).isascii()


def test_the_advice_comes_first_and_the_rest_is_there() -> None:
    text = drawn(CASES["hostile"](), 100)
    assert text.index("how to fix it") < text.index("TLS handshake") < text.index("certificate    ")
    words = " ".join(text.split())
    for part in (
        "and 25 more",
        "expired 20 days ago",
        "8 days left",
        "MTU of the path 1500, MSS 1428",
        "? trust",
        "✗ name",
    ):
        assert part in words
    assert "100 probes, 88 OK, 12 CRITICAL" in words


# ---- files -----------------------------------------------------------------------------------------------


def test_the_svg_is_well_formed_and_self_contained() -> None:
    text = svg.draw(everything())
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    kinds = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert kinds == {"svg", "title", "style", "rect", "path", "text", "tspan"}
    assert_self_contained(text.replace('xmlns="http://www.w3.org/2000/svg"', ""))
    assert "prefers-color-scheme: dark" in text
    assert [element for element in root.iter() if element.text and "<script>" in element.text]  # as a text


def test_the_page_is_self_contained_and_runs_nothing() -> None:
    text = page.page(everything())
    found: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            found.append((tag, dict(attributes)))

    Reader().feed(text)
    assert not {tag for tag, _ in found} & {"script", "img", "link", "iframe", "object", "svg", "base", "form"}
    assert not [name for _, attributes in found for name in attributes if name.startswith("on") or name == "src"]
    assert {attributes["href"] for tag, attributes in found if tag == "a"} == {"#p0", "#p1", "#p2"}
    policy = [attributes["content"] for _, attributes in found if attributes.get("http-equiv")]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert_self_contained(text)


def test_every_text_is_escaped_wherever_it_stands() -> None:
    """Most are clean when they come; no picture relies on it."""
    evil = "</title></style><b onclick='x'>&\"\x01"
    told = replace(
        story(race()), headline=evil, target=evil, when=evil, facts=((evil, evil),), advice=(evil,), notes=(evil,)
    )
    told = replace(told, rows=(replace(told.rows[0], label=evil, took=evil, note=evil),))
    told = replace(told, cards=(replace(told.cards[0], title=evil, validity=evil, lines=(evil,)),))
    told = replace(
        told, checks=(replace(told.checks[0], name=evil, text=evil), replace(told.checks[0], ok=False, text=evil))
    )
    entries = [Entry(told, History(evil, (1.0, 2.0), (Status.OK, Status.OK)), {evil: evil})] * 2
    drawing = ElementTree.fromstring(svg.draw(entries))
    assert not [element for element in drawing.iter() if element.tag.endswith("}b")]
    text = page.page(entries)
    assert "<b onclick" not in text
    assert text.count("</style>") == text.count("</title>") == 1


def assert_self_contained(text: str) -> None:
    assert not re.search(r"url\(|@import|https?:|//[a-z]", text)
    assert EVIL not in text
    assert "<script" not in text
    assert not [c for c in text if not c.isprintable() and c not in "\n\u00a0"]


def test_text_on_every_ground_has_enough_contrast() -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1, on the background and on cards; what stands on a pill too."""
    for colours in (palette.LIGHT, palette.DARK):
        for name in ("text", "dim", "won", "failed", "silent", "good", "warning", "bad"):
            assert contrast(colours[name], colours["back"]) >= 4.5, name
            assert contrast(colours[name], colours["card"]) >= 4.5, name
        for tone in palette.STATUS_TONES.values():
            assert contrast(colours["on"], colours[tone]) >= 4.5, tone


def contrast(one: str, other: str) -> float:
    light = []
    for colour in (one, other):
        parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(light) + 0.05) / (min(light) + 0.05)


def test_the_command_writes_both_files(certificates: Certificates, tmp_path: Path) -> None:
    drawing, site = tmp_path / "a.svg", tmp_path / "a.html"
    with serving(over_tls(for_loopback(certificates, "good").server())) as port:
        done = run(
            "probe", HOST, port, HOST, port + 0, "--tls", "--ca", certificates.trusted_file, "--count", 2,
            "--every", 0.05, "--svg", drawing, "--html", site, "--json",
        )  # fmt: skip
    assert done.returncode == 0
    assert ElementTree.fromstring(drawing.read_text("utf-8")).tag.endswith("svg")
    text = site.read_text("utf-8")
    assert "4 probes, 4 OK" in text
    values = json.loads(html.unescape(text[text.index("<pre>") + 5 : text.index("</pre>")]))
    assert values["code"] == "ok"


# ---- a real browser --------------------------------------------------------------------------------------

FRAMES = (360, 640, 800, 1200)

# Texts are the ranges of text nodes: each must be inside its frame, and cover no other one.
MEASURE = """
function texts(root, view) {
  const found = [], walk = root.ownerDocument.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode;
    if (!node.data.trim() || node.parentElement.closest('style, svg > title, rect > title, details pre')) continue;
    const range = node.ownerDocument.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) if (box.width && box.height) found.push([box, node.data.slice(0, 40)]);
  }
  return found;
}
function faults(root, width, what) {
  const boxes = texts(root), told = [];
  for (const [box, text] of boxes)
    if (box.left < -0.5 || box.right > width + 0.5) told.push(`${what}: outside: ${text} ${box.left} ${box.right}`);
  for (let i = 0; i < boxes.length; i++) for (let j = 0; j < i; j++) {
    const [a, s] = boxes[i], [b, t] = boxes[j];
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (across > 1 && down > 0.4 * Math.min(a.height, b.height)) told.push(`${what}: overlap: ${s} | ${t}`);
  }
  if (boxes.length < 20) told.push(`${what}: only ${boxes.length} texts`);
  return told;
}
addEventListener('load', () => {
  let told = [], grounds = new Set();
  for (const frame of document.querySelectorAll('iframe')) {
    const inside = frame.contentDocument, width = frame.clientWidth;
    told = told.concat(faults(inside.body || inside.documentElement, width, frame.title));
    if (inside.documentElement.scrollWidth > width) told.push(`${frame.title}: scrolls to the side`);
    grounds.add(getComputedStyle(inside.body.querySelector('svg .back') || inside.body)
      [inside.body.querySelector('svg .back') ? 'fill' : 'backgroundColor']);
  }
  document.getElementById('told').textContent = JSON.stringify({faults: told, grounds: [...grounds]});
});
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser_nothing_overlaps_and_nothing_is_cut_off(scheme: str, tmp_path: Path) -> None:
    """The page on a phone and wider screens, and the drawing, with every case in them."""
    chromium = need("chromium")
    frames = [(page.page(everything()), width) for width in FRAMES]
    frames.append((f"<!doctype html><body style='margin:0'>{svg.draw(everything())}", svg.WIDTH))
    parts = [
        f'<iframe title="{index} at {width}" style="border:0;width:{width}px;height:600px" '
        f'srcdoc="{html.escape(text)}"></iframe>'
        for index, (text, width) in enumerate(frames)
    ]
    harness = tmp_path / "harness.html"
    harness.write_text(
        f'<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        f'<pre id="told"></pre>{"".join(parts)}<script>{MEASURE}</script>',
        "utf-8",
    )
    told = in_browser(chromium, harness, tmp_path / "profile", scheme)
    assert told["faults"] == []
    colour = (palette.DARK if scheme == "dark" else palette.LIGHT)["back"]
    assert told["grounds"] == ["rgb({}, {}, {})".format(*(int(colour[index : index + 2], 16) for index in (1, 3, 5)))]


def in_browser(chromium: str, file: Path, profile: Path, scheme: str) -> dict[str, Any]:
    """What the page has written into its element "told"."""
    words = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
        "--window-size=1400,1000", f"--user-data-dir={profile}", "--dump-dom", file.as_uri(),
    ]  # fmt: skip
    words.insert(1, f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}")
    done = subprocess.run(words, capture_output=True, check=False, timeout=50)
    found = re.search(r'<pre id="told">(.*?)</pre>', done.stdout.decode("utf-8"), re.DOTALL)
    assert found is not None, done.stderr[-2000:]
    assert found[1], "the page's script has not run"
    told: dict[str, Any] = json.loads(html.unescape(found[1]))
    return told
