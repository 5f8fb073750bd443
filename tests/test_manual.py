"""docs/manual.md says of every symbol what has become of it, and cannot drift from the code."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from landline import comm
from landline.comm.no_meaning import NO_MEANING

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def manual() -> ModuleType:
    spec = importlib.util.spec_from_file_location("manual_script", ROOT / "scripts" / "manual.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_code_says(manual: ModuleType) -> None:
    assert (ROOT / "docs" / "manual.md").read_text("utf-8") == manual.page(), "run scripts/manual.py"


def test_a_changed_function_is_noticed(manual: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_line(stream: object, *, other: int = 3) -> None:
        """Something else."""

    monkeypatch.setattr(comm, "read_line", read_line)
    assert (ROOT / "docs" / "manual.md").read_text("utf-8") != manual.page()


def test_a_symbol_that_nothing_is_said_of_is_noticed(manual: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(comm, "attach_ssl")
    with pytest.raises(LookupError, match="attach-ssl"):
        manual.page()


def test_every_name_of_comm_stands_in_the_page(manual: ModuleType) -> None:
    """Landline's own spelling of a class counts as the manual's; so do the tuples that functions give."""
    told = {row.here.strip("`").partition("(")[0] for _, found in manual.rows() for row in found}
    same = {id(getattr(comm, name)) for name in told if name}
    results = {"HasNoMeaning", "Line", "Opened", "Started"}
    left = [name for name in comm.__all__ if name not in told | results and id(getattr(comm, name)) not in same]
    assert left == []


def test_every_name_without_meaning_stands_in_the_page(manual: ModuleType) -> None:
    told = {row.symbol for _, found in manual.rows() for row in found if row.status == "no meaning"}
    assert set(NO_MEANING) <= told


def test_all_that_is_promised_can_be_imported() -> None:
    assert sorted(comm.__all__) == sorted(set(comm.__all__))
    for name in comm.__all__:
        assert getattr(comm, name) is not None
