"""What was measured, as a table for people and as JSON for programs; and on which machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from .cases import TARGETS, Target
from .harness import Measured

LIBRARIES = ("landline", "uvloop", "trio", "anyio")
LEGEND = """\
spread: half the distance between the quartiles, as a part of the median
x C, x landline: how many times the time (for memory: the bytes) of the C client, of landline
"""
FLOOR, OURS = "C client", "landline"


def table(result: Measured) -> str:
    """One case as text; LEGEND says what the columns mean."""
    lines = [
        result.case.title,
        f"{'':22}{'median':>14}{'spread':>8}{'x C':>9}{'x landline':>12}",
    ]
    for peer in result.samples:
        against = "".join(
            f"{ratio:{width}.2f}" if (ratio := result.time_ratio(peer, other)) else " " * width
            for other, width in ((FLOOR, 9), (OURS, 12))
        )
        shown = result.case.shown(result.median(peer))
        lines.append(f"  {peer:20}{shown:>14}{result.spread(peer):8.0%}{against}".rstrip())
    lines += [f"  {peer:20}failed: {why}" for peer, why in result.failures.items()]
    return "\n".join(lines)


def verdicts(results: Iterable[Measured]) -> list[dict[str, Any]]:
    """Every target of the cases measured; a value is None where one of its sides is missing.

    What the C client would score stands beside it: no library can do much better.
    """
    by_name = {result.case.name: result for result in results}
    found = []
    for target in TARGETS:
        if target.case in by_name:
            result = by_name[target.case]
            value = target_value(target, result, target.ours)
            found.append(
                {
                    "target": str(target),
                    "value": value,
                    "met": None if value is None else target.met(value),
                    "c_client": target_value(target, result, FLOOR),
                }
            )
    return found


def verdict_line(verdict: dict[str, Any]) -> str:
    """One line: the target, landline's value and verdict, and the C client's value."""
    value, limit = verdict["value"], verdict["c_client"]
    outcome = "not measured" if value is None else "met" if verdict["met"] else "MISSED"
    shown = "" if value is None else f"{value:.4g}"
    beside = "" if limit is None else f"{FLOOR}: {limit:.2f}"
    return f"  {verdict['target']:68}{shown:>9}  {outcome:14}{beside}".rstrip()


def write_json(
    path: Path, results: Iterable[Measured], settings: dict[str, Any], missing: dict[str, str]
) -> None:
    results = list(results)
    document = {
        "machine": machine(),
        "settings": settings,
        "not_measured": missing,
        "targets": verdicts(results),
        "cases": {
            result.case.name: {
                "title": result.case.title,
                "sample_unit": "bytes" if result.case.unit == "bytes" else "seconds",
                "peers": {
                    peer: {
                        "median": result.median(peer),
                        "shown": result.case.shown(result.median(peer)),
                        "spread": result.spread(peer),
                        "times_c": result.time_ratio(peer, FLOOR),
                        "times_landline": result.time_ratio(peer, OURS),
                        "samples": samples,
                    }
                    for peer, samples in result.samples.items()
                },
                "failures": result.failures,
            }
            for result in results
        },
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def machine() -> dict[str, Any]:
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": compiler_version(),
        "libraries": {name: version for name in LIBRARIES if (version := library_version(name))},
    }


def target_value(target: Target, result: Measured, ours: str) -> float | None:
    if target.kind == "bytes":
        return result.median(ours) if ours in result.samples else None
    if target.kind == "speed":
        return result.time_ratio(target.peer, ours)
    return result.time_ratio(ours, target.peer)


def library_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def compiler_version() -> str:
    printed = subprocess.check_output([os.environ.get("CC", "gcc"), "--version"], text=True)
    return printed.splitlines()[0]
