"""The rules of the house, held by reading the sources.

Who may import whom is what keeps the engine pure and the layers exchangeable; a rule that no test
holds is gone within a month. The sources are parsed, never imported, so a rule holds for every
import statement, also one inside a function or for a platform that is not this one. Each rule is
proved below by a small house that breaks it.

Kinds of import: "eager" runs when the module is imported, "late" inside a function, "typing" under
``if TYPE_CHECKING:``. Direction holds for all three; cheapness (what `import landline` loads) only
for eager ones.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Literal

import pytest

PACKAGE = "landline"
SOURCES = Path(__file__).parent.parent / "src" / PACKAGE

# An import goes to a lower level, or stays inside its own part. The lowest parts may use one
# another, without cycles.
LEVELS = {
    "errors": 0,
    "address": 0,
    "options": 0,
    "deadline": 0,
    "report": 0,
    "tls": 1,
    "engine": 1,
    "sync": 2,
    "aio": 2,
    "java": 3,
    "__init__": 4,  # the front door: what stands on it may use it, what stands under it may not
    "comm": 5,
    "cli": 5,
    "testing": 5,
    "__main__": 6,
}

# The engine takes events and gives actions: no socket, clock, thread or file, whatever the name.
ENGINE_AVOIDS = {
    "socket", "_socket", "select", "selectors", "time", "threading", "_thread", "asyncio",
    "concurrent", "multiprocessing", "subprocess", "anyio", "trio",
}  # fmt: skip
ENGINE_CALLS_NOT = {"open", "print", "input"}
ENGINE_SSL = "landline.engine.session"

# Modules slow to import, and the parts that are about them; others import them late, when used.
SLOW = {
    "ssl": {"landline.tls", ENGINE_SSL},
    "asyncio": {"aio", "testing"},
    "anyio": {"aio", "testing"},
    "trio": {"aio", "testing"},
    "idna": set(),
    "truststore": set(),
    "service_identity": set(),
    "typer": {"cli"},
    "rich": {"cli"},
}  # fmt: skip

MOST_LINES = 550  # "about 500", with room for the last docstring
NOT_A_NAME = {"util", "utils", "helper", "helpers", "misc", "common", "manager", "managers"}

IMPORTERS = {"import_module", "__import__"}
COMPUTED = "(computed)"

Kind = Literal["eager", "late", "typing"]


@dataclass(frozen=True)
class Import:
    """One imported name: `target` is absolute; inside the package it ends at the module."""

    line: int
    target: str
    kind: Kind


@dataclass(frozen=True)
class Module:
    """One source file."""

    path: Path
    name: str
    part: str
    lines: int
    tree: ast.Module
    imports: tuple[Import, ...]


# ---- reading -------------------------------------------------------------------------------------


def read_house(root: Path) -> list[Module]:
    """Read every source file under `root`, the folder of the package."""
    paths = sorted(root.rglob("*.py"))
    names = {path: dotted_name(path.relative_to(root)) for path in paths}
    known = frozenset(names.values())
    modules = []
    for path, name in names.items():
        text = path.read_text("utf-8")
        tree = ast.parse(text, str(path))
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        imports = tuple(
            Import(line, to_module(target, known), kind)
            for line, target, kind in found_imports(tree, package, "eager")
        )
        modules.append(Module(path, name, part_of(name), text.count("\n"), tree, imports))
    return modules


def dotted_name(relative: Path) -> str:
    words = [PACKAGE, *relative.with_suffix("").parts]
    return ".".join(words[:-1] if words[-1] == "__init__" else words)


def part_of(name: str) -> str:
    """Return the part of the house a module belongs to: the first word after the package's name."""
    return [*name.split("."), "__init__"][1]


def to_module(target: str, known: frozenset[str]) -> str:
    """Cut a target in the package at its module: landline.errors.X -> landline.errors.

    `known` are the modules that exist; a part of the house is told from a public name even when
    its file does not exist here.
    """
    words = target.split(".")
    if words[0] != PACKAGE:
        return target
    least = 2 if len(words) > 1 and words[1] in LEVELS else 1
    while len(words) > least and ".".join(words) not in known:
        words.pop()
    return ".".join(words)


def found_imports(node: ast.AST, package: str, kind: Kind) -> Iterator[tuple[int, str, Kind]]:
    """Yield (line, absolute dotted target, kind) for every import below `node`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((child.lineno, alias.name, kind) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = absolute(package, "." * child.level + (child.module or ""))
            yield from ((child.lineno, f"{base}.{alias.name}", kind) for alias in child.names)
        elif isinstance(child, ast.If) and is_type_checking(child.test):
            for statement in child.body:
                yield from found_imports(ast.Module([statement], []), package, "typing")
            for statement in child.orelse:
                yield from found_imports(ast.Module([statement], []), package, kind)
        else:
            if isinstance(child, ast.Call) and name_of(child.func) in IMPORTERS:
                yield child.lineno, absolute(package, constant_of(child)), kind
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            deeper: Kind = "late" if inside and kind == "eager" else kind
            yield from found_imports(child, package, deeper)


def absolute(package: str, target: str) -> str:
    """Make a target with leading dots absolute."""
    name = target.lstrip(".")
    level = len(target) - len(name)
    if not level:
        return name
    base = package.split(".")
    base = base[: len(base) - level + 1]
    return ".".join([*base, name] if name else base)


def is_type_checking(test: ast.expr) -> bool:
    return name_of(test) == "TYPE_CHECKING"


def name_of(node: ast.expr) -> str:
    """Return the last word of a dotted expression: `a.b.c` -> "c"."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def constant_of(call: ast.Call) -> str:
    """The text of a call's first argument; COMPUTED when it is not a plain string."""
    first = call.args[0] if call.args else None
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        return first.value
    return COMPUTED


# ---- judging -------------------------------------------------------------------------------------


def violations(root: Path) -> list[str]:
    """Return one sentence for each broken rule in the package at `root`."""
    modules = read_house(root)
    found = []
    if not (root / "py.typed").exists():
        found.append("py.typed is missing: type checkers would ignore the annotations")
    for module in modules:
        place = str(module.path.relative_to(root.parent))
        found += (f"{place}: {what}" for what in judged_file(module))
        found += (f"{place}:{line}: {what}" for line, what in judged_imports(module))
        if module.part == "engine":
            found += (f"{place}:{line}: {what}" for line, what in judged_calls(module))
    return found + cycles(modules)


def judged_file(module: Module) -> Iterator[str]:
    if module.part not in LEVELS:
        yield f"{module.part!r} is a new part of the house: give it its level in LEVELS"
    if module.lines > MOST_LINES:
        yield f"{module.lines} lines; a file holds {MOST_LINES} at most"
    for word in module.name.lower().replace(".", "_").split("_"):
        if word in NOT_A_NAME:
            yield f"a file called {word!r} says nothing about its job"


def judged_imports(module: Module) -> Iterator[tuple[int, str]]:
    for found in module.imports:
        top = found.target.partition(".")[0]
        other = part_of(found.target)
        if found.target == COMPUTED and module.part != "__init__":
            yield found.line, "imports a computed name, which no rule can see"
        if top == PACKAGE and not may_import(module.part, other):
            yield found.line, f"{module.part} may not import {other} ({found.target})"
        if module.part == "engine" and top in ENGINE_AVOIDS:
            yield found.line, f"the engine may not import {top}"
        if module.part == "engine" and top == "ssl" and module.name != ENGINE_SSL:
            yield found.line, f"in the engine only {ENGINE_SSL} may import ssl"
        owners = SLOW.get(top, {module.part})
        if found.kind == "eager" and not owners & {module.part, module.name}:
            yield found.line, f"{top} is slow to import: import it inside the function that uses it"


def may_import(part: str, other: str) -> bool:
    if part == other:
        return True
    level, below = LEVELS.get(part, 0), LEVELS.get(other, 0)
    return below < level or below == level == 0


def judged_calls(module: Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(module.tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in ENGINE_CALLS_NOT:
                yield node.lineno, f"the engine may not call {name}()"


def cycles(modules: list[Module]) -> list[str]:
    """Return a sentence for the first cycle of eager imports, if there is one."""
    graph = {
        module.name: {
            found.target
            for found in module.imports
            if found.kind == "eager" and found.target != module.name
        }
        for module in modules
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return ["a cycle of imports: " + " <- ".join(error.args[1])]
    return []


# ---- the house as it stands ----------------------------------------------------------------------


def test_the_house_keeps_its_rules() -> None:
    assert violations(SOURCES) == []


def test_the_house_was_seen() -> None:
    """An empty or misplaced folder would keep every rule."""
    assert f"{PACKAGE}" in {module.name for module in read_house(SOURCES)}


def test_importing_landline_loads_nothing_slow() -> None:
    """In a fresh process, counting only what the import itself loaded."""
    code = (
        "import sys, json; before = set(sys.modules); import landline;"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    loaded = json.loads(done.stdout)
    assert PACKAGE in loaded
    assert {name for name in loaded if name.split(".")[0] in SLOW} == set()


# ---- the rules can fail --------------------------------------------------------------------------

SOUND = {
    "py.typed": "",
    "__init__.py": "from landline.sync.connect import connect\n",
    "__main__.py": "from landline.cli import main\n",
    "errors.py": """
from __future__ import annotations
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import ssl
    from .report import Report
else:
    import socket
""",
    "report.py": "import time\nfrom landline import errors\n",
    "address.py": "import socket\ndef encode(name):\n    import idna\n",
    "tls.py": "import ssl\nfrom .errors import SslError\n",
    "engine/__init__.py": "",
    "engine/race.py": "from ..errors import SocketError\nfrom landline.engine import session\n",
    "engine/session.py": "import ssl\n",
    "sync/__init__.py": "",
    "sync/connect.py": """
import select, socket, threading, time
from landline.engine import race
from . import wait
""",
    "sync/wait.py": "def later():\n    from .connect import connect\n",
    "cli/__init__.py": "import typer\nfrom landline import connect, sync\n",
}


def build(folder: Path, files: dict[str, str]) -> Path:
    root = folder / PACKAGE
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    return root


def test_a_sound_house_breaks_no_rule(tmp_path: Path) -> None:
    assert violations(build(tmp_path, SOUND)) == []


TYPING = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "
LATE = "def f():\n    "


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("errors.py", "from landline.sync import wait", "errors may not import sync"),
        ("errors.py", "import landline.engine.race", "errors may not import engine"),
        ("errors.py", "from . import cli", "errors may not import cli"),
        ("errors.py", "import landline", "errors may not import __init__"),
        ("errors.py", "from landline import connect", "errors may not import __init__"),
        ("errors.py", TYPING + "from .sync import wait", "errors may not import sync"),
        ("tls.py", "from .engine.session import Session", "tls may not import engine"),
        ("engine/race.py", "from landline import tls", "engine may not import tls"),
        ("engine/race.py", "from ..sync.connect import connect", "engine may not import sync"),
        ("sync/wait.py", "from landline import connect", "sync may not import __init__"),
        ("sync/wait.py", "from landline.aio import stream", "sync may not import aio"),
        ("sync/wait.py", LATE + "from ..aio import stream", "sync may not import aio"),
        ("sync/wait.py", "__import__('landline.aio')", "sync may not import aio"),
        ("sync/wait.py", "importlib.import_module('landline.cli')", "sync may not import cli"),
        ("sync/wait.py", "import_module('..cli', __package__)", "sync may not import cli"),
        ("sync/wait.py", "import_module(name)", "computed name"),
        ("aio/stream.py", "from ..sync import connect", "aio may not import sync"),
        ("comm.py", "from landline.cli import main", "comm may not import cli"),
        ("__init__.py", "import landline.cli", "__init__ may not import cli"),
        ("engine/race.py", "import socket", "engine may not import socket"),
        ("engine/race.py", "from time import monotonic", "engine may not import time"),
        ("engine/race.py", "import threading as t", "engine may not import threading"),
        ("engine/race.py", LATE + "import select", "engine may not import select"),
        ("engine/race.py", "from selectors import EVENT_READ", "engine may not import selectors"),
        ("engine/race.py", "import asyncio.events", "engine may not import asyncio"),
        ("engine/race.py", TYPING + "import socket", "engine may not import socket"),
        ("engine/race.py", "import ssl", "only landline.engine.session may import ssl"),
        ("engine/race.py", LATE + "import ssl", "only landline.engine.session may import ssl"),
        ("engine/session.py", "import socket", "engine may not import socket"),
        ("engine/race.py", LATE + "open('/etc/hosts')", "engine may not call open()"),
        ("errors.py", "import ssl", "ssl is slow to import"),
        ("errors.py", "class C:\n    from ssl import SSLError", "ssl is slow to import"),
        ("address.py", "try:\n    import idna\nfinally:\n    pass", "idna is slow to import"),
        ("sync/wait.py", "import anyio", "anyio is slow to import"),
        ("sync/wait.py", "from typer import echo", "typer is slow to import"),
        ("address.py", "#\n" * MOST_LINES + "#\n", f"{MOST_LINES + 1} lines"),
        ("utils.py", "", "a file called 'utils'"),
        ("sync/manager.py", "", "a file called 'manager'"),
        ("sync/socket_utils.py", "", "a file called 'utils'"),
        ("proxy.py", "", "'proxy' is a new part of the house"),
        ("errors.py", "from . import report", "a cycle of imports"),
    ],
)
def test_a_broken_rule_is_found(tmp_path: Path, file: str, text: str, complaint: str) -> None:
    found = violations(build(tmp_path, {**SOUND, file: text}))
    assert any(complaint in sentence for sentence in found), found
    assert any(Path(file).name in sentence or "cycle" in sentence for sentence in found), found


def test_a_missing_marker_file_is_found(tmp_path: Path) -> None:
    files = {name: text for name, text in SOUND.items() if name != "py.typed"}
    assert violations(build(tmp_path, files)) == [
        "py.typed is missing: type checkers would ignore the annotations"
    ]
