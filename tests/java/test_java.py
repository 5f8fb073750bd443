"""TLS through Java, with a JVM: the files inside_*.py, in processes of their own (java_side.py says why)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import need

HERE = Path(__file__).parent

GROUPS = (("inside_contract.py",), ("inside_trust.py", "inside_opening.py", "inside_life.py"))
"""Two of about the same size: as many as the processors that there are at least."""

LIMIT = 1500 if os.environ.get("LANDLINE_FULL") == "1" else 300
"""Seconds for one of them."""

Running = dict[tuple[str, ...], subprocess.Popen[str]]


@pytest.fixture(scope="module", name="running")
def running_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    need("java")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    started: Running = {}
    try:
        for group in GROUPS:
            folder = tmp_path_factory.mktemp("inside")
            started[group] = subprocess.Popen(
                [*words, f"--basetemp={folder / 'base'}", *(str(HERE / name) for name in group)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=HERE.parents[1],
            )
        yield started
    finally:
        for process in started.values():
            with process:
                process.kill()


def test_every_file_is_run() -> None:
    assert sorted(name for group in GROUPS for name in group) == sorted(file.name for file in HERE.glob("inside_*.py"))


@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize("group", GROUPS, ids=" ".join)
def test_with_a_jvm(group: tuple[str, ...], running: Running) -> None:
    said, _ = running[group].communicate()
    assert running[group].returncode == 0, said
