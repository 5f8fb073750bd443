"""The `landline` command as a whole: its help, what it needs and imports, and `landline demo`."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import LANDLINE, PATIENCE, Terminal, dead_port, environment, failure, run

pytestmark = pytest.mark.usefixtures("no_leaks")

# ---- the command ---------------------------------------------------------------------------------


def test_the_script_and_the_module_are_one_command() -> None:
    script = shutil.which("landline", path=str(Path(sys.executable).parent))
    assert script, "landline is installed without its script"
    told = subprocess.run([script, "--help"], capture_output=True, check=True, env=environment({})).stdout.splitlines()
    assert told[0].strip() == b"Usage: landline [OPTIONS] COMMAND [ARGS]..."
    assert told[2:] == run("--help").stdout.splitlines()[2:]


def test_help_fits_80_columns_and_shows_an_example() -> None:
    for words, example in [
        (("--help",), "COMMAND --help"),
        (("connect", "--help"), "landline connect --timeout 5 --report mail.example.org smtp"),
        (("demo", "-h"), "landline demo | less"),
    ]:
        done = run(*words)
        assert (done.returncode, done.stderr) == (0, b"")
        shown = done.stdout.decode()
        assert example in shown
        assert max(map(len, shown.splitlines())) <= 80


# ---- what it imports -----------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", ["typer", "rich"])
def test_without_its_extra_it_says_what_to_install(hidden: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules[{hidden!r}] = None\n", "utf-8")
    told = failure(run("connect", "localhost", "80", PYTHONPATH=str(tmp_path)))
    assert hidden in told
    assert told.endswith("pip install 'landline[cli]'")


def test_a_subcommand_imports_only_what_it_needs(tmp_path: Path) -> None:
    anyway = loaded_by(tmp_path, "-c", "import typer")
    with dead_port() as port:
        loaded = loaded_by(tmp_path, *LANDLINE[1:], "connect", "127.0.0.1", str(port)) - anyway
    assert "landline.sync.open" in loaded
    assert not loaded & {"landline.cli.demo", "landline.sync.server", "rich", "rich.console", "asyncio", "ssl", "idna"}
    loaded = loaded_by(tmp_path, *LANDLINE[1:], "--help") - anyway
    assert not loaded & {"landline.sync.open", "landline.sync.stream", "landline.cli.demo"}


def loaded_by(folder: Path, *arguments: str) -> set[str]:
    """The modules that are there when a run of Python ends."""
    (folder / "sitecustomize.py").write_text(
        "import atexit, sys\n"
        "def tell():\n"
        f"    with open({str(folder / 'loaded')!r}, 'w') as file:\n"
        "        file.write(' '.join(sys.modules))\n"
        "atexit.register(tell)\n",
        "utf-8",
    )
    words = [sys.executable, *arguments]
    subprocess.run(
        words, capture_output=True, check=False, timeout=PATIENCE, env=environment({"PYTHONPATH": str(folder)})
    )
    return set((folder / "loaded").read_text("utf-8").split())


# ---- the demonstration ---------------------------------------------------------------------------


def test_the_demonstration_shows_everything_and_is_plain_in_a_pipe() -> None:
    began = time.monotonic()
    done = run("demo", PYTHONIOENCODING="ascii")
    assert time.monotonic() - began < 10
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode("ascii")
    assert "\x1b" not in shown
    assert 'open_tcp_stream("localhost", port' in shown  # the code,
    assert "\nWaiting to reply....." in shown  # its dots,
    assert "\n<p>This page came over the loopback interface.</p>\n" in shown  # the page,
    assert ": connected after " in shown  # and the report
    assert "\nReadTimeout: nothing came" in shown
    assert "the first half of a line, and the second half" in shown
    assert "\nSocketConnectError: could not connect to localhost port" in shown
    assert ": failed: Connection refused" in shown
    assert re.search(r"lookup IPv. two-addresses.example: ", shown)
    assert re.search(r"connect \S+: cancelled\n.* connect 127.0.0.1:\d+: connected\n", shown)  # the race
    assert "\nSslVerificationFailure: the certificate shown for 'localhost' was\nrefused" in shown
    assert "\nTlsInfo(version='TLSv1.3'" in shown


def test_the_demonstration_is_readable_at_a_terminal() -> None:
    with Terminal("demo") as terminal:
        assert terminal.wait() == 0
    shown = terminal.shown.decode("ascii")
    assert "\x1b[1m1. The manual's example" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert max(map(len, plain.splitlines())) <= 80


def test_the_demonstration_stops_quietly_when_nobody_reads() -> None:
    line = f"{shlex.join(LANDLINE)} demo | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=False, timeout=PATIENCE)
    assert done.stderr == b""
    assert done.stdout.endswith(b"\n0\n")


def test_control_c_in_the_demonstration() -> None:
    with Terminal("demo") as terminal:
        terminal.wait_for(b"Waiting to reply...")
        terminal.type(b"\x03")
        assert terminal.wait() == 130
        assert b"Traceback" not in terminal.shown
