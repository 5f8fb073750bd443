"""The documentation is true: every Python block of every page runs and prints what it says; the site builds strictly.

How a page is run, and what the comments in it mean, stands in docs_support.py; the network it sees in docs_network.py.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import lacking
from docs_support import LANGUAGES, ROOT, blocks, certificates_for_pages, matches, pages

only_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="the network of the pages needs 127.0.0.0/8, and OpenSSL's own trust"
)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    certificates_for_pages(folder)
    return folder


def run_page(page: Path, certificates: Path, folder: Path) -> dict[str, Any]:
    """What docs_support.py tells of a page that it has run in a folder of its own."""
    shutil.copytree(certificates, folder, dirs_exist_ok=True)
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "docs_support.py"), str(page)],
        cwd=folder,
        env={**os.environ, "SSL_CERT_FILE": str(folder / "our-ca.pem"), "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    try:
        told: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        pytest.fail(f"{page} did not come to its end:\n{done.stdout}\n{done.stderr}")
    return told


# ---- the pages -----------------------------------------------------------------------------------


@only_linux
@pytest.mark.parametrize("page", [page for page in pages() if "```python" in page.read_text("utf-8")], ids=name_of)
def test_every_python_block_of_a_page_runs_and_prints_what_it_says(
    page: Path, certificates: Path, tmp_path: Path
) -> None:
    told = run_page(page, certificates, tmp_path)
    assert not told["problems"], "\n".join(told["problems"])
    # Counted by other means than the ones that found them: none is left out in silence.
    lines = [line.strip() for line in page.read_text("utf-8").splitlines()]
    assert len(told["ran"]) == sum(line.startswith("```python") for line in lines)
    assert len(told["compared"]) == sum(line == '```text title="output"' for line in lines)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_python_is_called_python(page: Path) -> None:
    """A block under another name, or none, would not run."""
    for block in blocks(page)[:-1]:
        assert block.language in LANGUAGES | ({""} if page.name == "README.md" else set()), f"{page}:{block.line}"
        if block.language != "python":
            assert not re.search(r"^(import|from) landline|^with |^def ", block.code, re.MULTILINE), (
                f"{page}:{block.line}"
            )


@only_linux
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('```python\nprint(1)\n```\n\n```text title="output"\n2\n```\n', "the output is not that"),
        ("```python\n1 / 0\n```\n", "ZeroDivisionError"),
        ("```python\nimport threading\nthreading.Thread(target=int, args='x').start()\n```\n", "a thread failed"),
        (
            "<!-- server: echo at a.example:7 -->\n```python\nimport landline\n"
            "landline.open_tcp_stream('a.example', 7)\n```\n",
            "left behind",
        ),
        ("```python\nimport landline\nlandline.open_tcp_stream('192.0.2.1', 7)\n```\n", "Network is unreachable"),
        ("```python\nimport landline\nlandline.open_tcp_stream('pypi.org', 443)\n```\n", "HostLookupError"),
        ('```python title="test_x.py"\ndef test_it():\n    assert False\n```\n', "pytest is not satisfied"),
        ("<!-- sever: echo -->\n```python\n```\n", "not a comment that is known"),
    ],
    ids=["output", "error", "thread", "unclosed", "internet", "name", "pytest", "comment"],
)
def test_a_page_that_is_wrong_fails(text: str, problem: str, certificates: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, "utf-8")
    assert problem in "\n".join(run_page(page, certificates, tmp_path)["problems"])


def test_three_dots_stand_for_what_is_different_each_time() -> None:
    assert matches("after ... ms\n", "after 3.5 ms\n")
    assert not matches("after ... ms\n", "after 3.5\nms\n")
    assert matches("one\n...\nlast\n", "one\ntwo\nthree\nlast\n")
    assert not matches("one\n", "one\ntwo\n")


# ---- the site ------------------------------------------------------------------------------------


def build(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Build the site. (With --quiet nothing would be strict: warnings are counted where they are written.)"""
    if importlib.util.find_spec("material") is None or importlib.util.find_spec("mkdocs") is None:
        lacking("needs mkdocs-material: pip install '.[docs]'")
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder), *more],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Fetched(HTMLParser):
    """What a browser fetches by itself when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += filter(None, [given.get("src"), given.get("srcset")])
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.addresses += filter(None, [given.get("href")])


def test_the_site_is_built_strictly_and_whole(site: Path) -> None:
    """Strictly: a link to nowhere, or a page that no menu leads to, is an error (mkdocs.yml)."""
    for page in pages():
        if page.name != "README.md":
            there = page.relative_to(ROOT / "docs").with_suffix("")
            there = there.parent if there.name == "index" else there
            assert (site / there / "index.html").exists(), page


@pytest.mark.parametrize(
    ("link", "problem"),
    [("nowhere.md", "not found among documentation files"), ("index.md#nowhere", "there is no such anchor")],
    ids=["page", "anchor"],
)
def test_a_link_to_nowhere_is_an_error(link: str, problem: str, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text(f"# Here\n\n[there]({link})\n", "utf-8")
    text = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[0]
    text = text.replace("docs_dir: docs", f"docs_dir: {docs}").replace("hooks: [scripts/reference.py]", "")
    (tmp_path / "mkdocs.yml").write_text(text, "utf-8")
    done = build(tmp_path / "site", "--config-file", str(tmp_path / "mkdocs.yml"))
    assert done.returncode != 0
    assert problem in done.stdout + done.stderr


def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    seen = 0
    for page in site.rglob("*.html"):
        found = Fetched()
        found.feed(page.read_text("utf-8"))
        seen += len(found.addresses)
        assert [each for each in found.addresses if re.match(r"(https?:)?//", each)] == [], page
    assert seen
    for sheet in site.rglob("*.css"):
        text = re.sub(r"data:[^)]*", "", sheet.read_text("utf-8"))
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", text), sheet


def test_the_reference_has_every_public_name(site: Path) -> None:
    import landline
    import landline.comm
    import landline.testing

    for module in (landline, landline.comm, landline.testing):
        text = "".join(page.read_text("utf-8") for page in (site / "reference").rglob("*.html"))
        missing = [name for name in module.__all__ if f'id="{module.__name__}.{name}"' not in text]
        assert missing == [], module


def test_the_benchmarks_are_those_of_the_readme(site: Path) -> None:
    readme = (ROOT / "README.md").read_text("utf-8").partition("## Measured")[2].partition("## ")[0]
    numbers = re.findall(r"\d+\.\d+", readme)
    assert len(numbers) > 30
    text = (site / "benchmarks" / "index.html").read_text("utf-8")
    assert [number for number in numbers if number not in text] == []
