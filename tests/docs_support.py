"""Running the documentation: every ``python`` block of a page, in order, in one namespace and one process.

    python tests/docs_support.py PAGE       in a folder with the certificates of certificates_for_pages()

writes what became of it as JSON. Blocks run as they stand. What a page needs around them is said in comments that no
reader sees, each on a line of its own:

    <!-- server: echo at db.example:5432 -->    that name, and behind that port a peer (docs_network.KINDS)
    <!-- signal: SIGTERM -->                    the next block serves until a signal: it gets this one, once it does
    <!-- logs: TLS handshake -->                a server's warning with these words is meant to be
    <!-- unseen                                 lines of Python up to "-->", run like a block

A block with ``title="name.py"`` is also written to that file, for later blocks to import; one called ``test_*.py`` is
run by pytest. A ``text`` block with ``title="output"`` is what the block before it prints; "..." there stands for
something that is different each time, and as a whole line for any number of lines.

A page fails when a block raises, prints something else, leaves a stream to the garbage collector, or has a thread
fail; and when a server of its own logs a warning.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import logging
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["LANGUAGES", "ROOT", "Block", "blocks", "certificates_for_pages", "pages"]

ROOT = Path(__file__).parent.parent
PATIENCE = 40

LANGUAGES = {"python", "text", "console", "ini", "nginx", "haproxy", "lisp"}
"""What a block may be. A block of Python is "python", and runs."""

FENCE = re.compile(r"(?P<indent> *)(?P<ticks>`{3,})(?P<info>[^`]*)$")
COMMENT = re.compile(r"<!-- (?P<key>server|signal|logs|help|readme): (?P<value>.+) -->$")
TITLE = re.compile(r'title="([^"]+)"')

README = {
    1: [("server", "https at example.com:443")],
    2: [("server", "database at db.example:5432")],
    3: [
        ("server", "imap at mail.example:143"),
        ("unseen", "def handler(stream): pass"),
        ("signal", "SIGTERM"),
    ],
}
"""The comments of README.md, which its readers would see: what stands before which block."""


@dataclass(frozen=True)
class Block:
    """A fenced block, with what the comments before it say.

    Attributes:
        line: the number of its first line of code.
        comments: (key, value) in order.
    """

    language: str
    title: str
    line: int
    code: str
    comments: list[tuple[str, str]] = field(default_factory=list)


def pages() -> list[Path]:
    """Every page with words of people: docs/ but for what is made from the code, and the README."""
    return [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name != "manual.md")]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page; the last one may be none, and only carry comments. Raises ValueError where one is open."""
    found: list[Block] = []
    comments: list[tuple[str, str]] = []
    lines = enumerate(page.read_text("utf-8").splitlines(), 1)
    for number, line in lines:
        if line == "<!-- unseen":
            code = list(up_to("-->", lines, page))
            comments.append(("unseen", "\n" * number + "\n".join(code)))
        elif comment := COMMENT.match(line):
            comments.append((comment["key"], comment["value"]))
        elif line.lstrip().startswith("<!--"):
            raise ValueError(f"{page}:{number}: not a comment that is known: {line}")
        elif fence := FENCE.match(line):
            indent = len(fence["indent"])
            code = [each[indent:] for each in up_to(fence["indent"] + fence["ticks"], lines, page)]
            language, _, rest = fence["info"].strip().partition(" ")
            title = TITLE.search(rest)
            if page == ROOT / "README.md" and language == "python":
                comments += README.get(1 + sum(each.language == "python" for each in found), [])
            found.append(Block(language, title[1] if title else "", number + 1, "\n".join(code) + "\n", comments))
            comments = []
    return [*found, Block("", "", 0, "", comments)]


def up_to(end: str, lines: Iterator[tuple[int, str]], page: Path) -> Iterator[str]:
    for _, line in lines:
        if line == end:
            return
        yield line
    raise ValueError(f"{page}: a block is not closed by {end!r}")


def certificates_for_pages(folder: Path) -> None:
    """What the pages' files are called: an authority, a site's certificate and key, a person's."""
    import trustme

    authority = trustme.CA(organization_name="Our own")
    authority.cert_pem.write_to_path(folder / "our-ca.pem")
    comments = [comment for page in pages() for block in blocks(page) for comment in block.comments]
    names = {value.partition(" at ")[2].partition(":")[0] for key, value in comments if key == "server"}
    for name, made in (
        ("site", authority.issue_cert("localhost", "127.0.0.1", *sorted(names))),
        ("me", authority.issue_cert("ann@our.example", common_name="Ann")),
    ):
        (folder / f"{name}.pem").write_bytes(b"".join(each.bytes() for each in made.cert_chain_pems))
        made.private_key_pem.write_to_path(folder / f"{name}.key")
    trustme.CA(organization_name="Somebody").cert_pem.write_to_path(folder / "other-ca.pem")


# ---- in the child --------------------------------------------------------------------------------


class Run:
    """One page on its way."""

    def __init__(self, page: Path) -> None:
        from docs_network import Network

        self.page = page
        self.network = Network()
        self.problems: list[str] = []
        self.ran: list[int] = []
        self.compared: list[int] = []
        self.module = ModuleType("__main__")
        self.printed = ""
        self.logs: list[str] = []

    def run(self) -> None:
        sys.modules["__main__"] = self.module
        sys.path.insert(0, os.getcwd())
        self.network.install()
        threading.excepthook = lambda failed: self.fails(f"a thread failed: {failed.exc_value!r}")
        sys.unraisablehook = lambda failed: self.fails(f"left behind: {failed.exc_value!r}")
        warnings.simplefilter("error")
        logging.getLogger("landline").addHandler(Complaints(self))
        for block in blocks(self.page):
            for key, value in block.comments:
                self.obey(key, value)
            if block.language == "python":
                self.printed = self.execute(block)
                self.ran.append(block.line)
            elif block.language == "text" and block.title == "output":
                if not matches(block.code, self.printed):
                    self.fails(f"line {block.line}: the output is not that, but\n{self.printed}")
                self.compared.append(block.line)
            if self.problems:
                break

    def fails(self, why: str) -> None:
        self.problems.append(why)

    def obey(self, key: str, value: str) -> None:
        if key == "server":
            kind, _, where = value.partition(" at ")
            host, _, port = where.rpartition(":")
            self.network.add(kind, host, int(port))
        elif key == "signal":
            number = signal.Signals[value]
            threading.Thread(target=send_when_handled, args=(number,), daemon=True).start()
        elif key == "logs":
            self.logs.append(value)
        elif key == "unseen":
            self.execute(Block("python", "", 1, value))

    def execute(self, block: Block) -> str:
        """Run a block; what it has printed."""
        with contextlib.redirect_stdout(io.StringIO()) as out:
            try:
                if block.title.endswith(".py"):
                    Path(block.title).write_text(block.code, "utf-8")
                if block.title.startswith("test_"):
                    passed = tested(block.title)
                    if not passed:
                        self.fails(f"pytest is not satisfied: {out.getvalue()}")
                else:
                    code = "\n" * (block.line - 1) + block.code  # a traceback tells the line of the page
                    exec(compile(code, str(self.page), "exec"), self.module.__dict__)
            except BaseException:  # noqa: BLE001 (whatever it is, it is reported)
                self.fails(traceback.format_exc())
        return out.getvalue()


def tested(file: str) -> bool:
    import pytest

    return pytest.main(["-q", "-p", "no:cacheprovider", "-W", "error", "-c", os.devnull, file]) == 0


class Complaints(logging.Handler):
    def __init__(self, run: Run) -> None:
        super().__init__(logging.WARNING)
        self.run = run

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if "the page's peer" not in text and not any(words in text for words in self.run.logs):
            self.run.fails(f"logged: {text}")


def send_when_handled(number: signal.Signals) -> None:
    while signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
        time.sleep(0.001)
    os.kill(os.getpid(), number)


def matches(wanted: str, printed: str) -> bool:
    pattern = re.sub(r"(\\ )+", " +", re.escape(wanted.rstrip()))  # columns of numbers are not always as wide
    pattern = re.sub(r"(?m)^\\\.\\\.\\\.(\\\n|$)", r"(?s:.*?)\1", pattern).replace(r"\.\.\.", r".*?")
    return re.fullmatch(pattern, printed.replace("\r\n", "\n").rstrip()) is not None


def main() -> None:
    faulthandler.register(signal.SIGALRM, chain=True)  # no thread of its own: a page may fork
    signal.alarm(PATIENCE)
    run = Run(Path(sys.argv[1]))
    try:
        run.run()
    except BaseException:  # noqa: BLE001 (the parent has to hear of it)
        run.fails(traceback.format_exc())
    told: dict[str, Any] = {"ran": run.ran, "compared": run.compared, "problems": run.problems}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    os._exit(0)  # a page's streams may be open at its end, like a reader's


if __name__ == "__main__":
    main()
