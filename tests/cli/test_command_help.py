"""What a person reads before anything runs: help, completion, the manual page; and how long that takes."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import LANDLINE, PATIENCE, environment, run
from conftest import need

from landline import __version__
from landline.cli.man import manual_page

COMMANDS = ["connect", "demo", "probe", "serve"]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help_has_examples(command: str) -> None:
    told = run(command, "--help").stdout.decode()
    assert "Example" in told
    assert f"  landline {command}" in told


@pytest.mark.parametrize("command", ["connect", "probe", "serve"])
def test_each_help_documents_the_exit_status(command: str) -> None:
    told = " ".join(run(command, "--help").stdout.decode().split())
    assert re.search(r"[Ee]xit status", told)


def test_help_is_plain_text_of_80_columns_whatever_the_terminal_says() -> None:
    environments: tuple[tuple[str, dict[str, str]], ...] = (
        ("--help", {"FORCE_COLOR": "1"}),
        ("connect --help", {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}),
        ("serve --help", {"COLUMNS": "200"}),
    )
    for line, extra in environments:
        for environ in {}, extra:
            words = [*LANDLINE, *line.split()]
            done = subprocess.run(words, capture_output=True, check=False, env=environment(environ), timeout=PATIENCE)
            assert (done.returncode, done.stderr) == (0, b"")
            assert b"\x1b" not in done.stdout
            assert done.stdout.isascii()
            assert max(map(len, done.stdout.splitlines())) <= 80, line


def test_every_command_is_in_the_overview_with_a_whole_sentence() -> None:
    told = run("--help").stdout.decode()
    for command in "connect", "demo", "serve":
        line = re.search(rf"^  {command} +(.*)$", told, re.MULTILINE)
        assert line is not None
        assert line[1].endswith(".")
        assert not line[1].endswith("...")


def cpu(words: list[str]) -> float:
    """Seconds of CPU that a process takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=environment({}), timeout=PATIENCE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_starts_in_little_more_than_typer_and_rich_take() -> None:
    """At most 1.3 times what importing them takes; CPU time, the least of several, one beside the other."""
    ours, theirs = [*LANDLINE, "--help"], [sys.executable, "-c", "import typer, rich"]
    times: list[tuple[float, float]] = []
    for _ in range(30):  # a busy machine may spoil some
        times.append((cpu(ours), cpu(theirs)))
        landline, imports = (min(column) for column in zip(*times, strict=True))
        if len(times) >= 3 and landline <= 1.3 * imports:
            return
    pytest.fail(f"of CPU seconds, help and the imports took {times}")


# ---- completion --------------------------------------------------------------------------------------


def test_bash_completes_commands_and_options() -> None:
    for line, wanted in ("landline co", "connect"), ("landline connect --start", "--starttls"):
        asked = {"_LANDLINE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        script = shutil.which("landline", path=str(Path(sys.executable).parent))
        assert script is not None
        done = subprocess.run([script], capture_output=True, env=environment(asked), timeout=PATIENCE, check=False)
        assert done.stdout.decode().split() == [wanted]


def test_the_completion_can_be_shown() -> None:
    done = run("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0
    assert b"complete -o default -F" in done.stdout


# ---- the manual page ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("man") / "landline.1"
    made.write_text(manual_page(__version__), "ascii")
    return made


def test_groff_formats_the_page_without_a_word_of_warning(page: Path) -> None:
    done = subprocess.run(
        [need("groff"), "-man", "-Tascii", "-P-c", "-ww", page], capture_output=True, check=True, timeout=PATIENCE
    )
    assert done.stderr == b""
    text = re.sub(rb".\x08", b"", done.stdout).decode()
    for wanted in "NAME", "SYNOPSIS", "LANDLINE CONNECT", "LANDLINE SERVE", "EXIT STATUS", "ENVIRONMENT":
        assert f"\n{wanted}\n" in text
    assert "printf 'PING\\r\\n' | landline connect localhost 6379\n" in text
    assert "landline serve --http public --tls --cert host.pem --local-address '*' 443\n" in text


def test_mandoc_finds_nothing_but_the_missing_date(page: Path) -> None:
    done = subprocess.run(
        [need("mandoc"), "-T", "lint", "-W", "warning", page], capture_output=True, check=False, timeout=PATIENCE
    )
    complaints = [line for line in done.stdout.decode().splitlines() if "missing date" not in line]
    assert complaints == []


def test_the_page_tells_every_option(page: Path) -> None:
    text = page.read_text("ascii").replace("\\-", "-")
    for command in COMMANDS:
        for option in re.findall(r"^  (?:-\w, )?(--[\w-]+)", run(command, "--help").stdout.decode(), re.MULTILINE):
            assert f"\\fB{option}\\fR" in text, option


def test_the_page_is_the_same_each_time() -> None:
    words = [sys.executable, "-m", "landline.cli.man"]
    pages = {
        subprocess.run(words, capture_output=True, check=True, env={**os.environ, **extra}, timeout=PATIENCE).stdout
        for extra in ({"COLUMNS": "40"}, {"COLUMNS": "200", "PYTHONHASHSEED": "7"})
    }
    assert len(pages) == 1
