"""What was measured, as a table for people and as JSON for programs; and on which machine."""

from __future__ import annotations

import json
import os
import platform
import ssl
import statistics
import subprocess
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from .cases import TARGETS, Target
from .harness import Measured

LIBRARIES = ("landline", "uvloop", "trio", "anyio")
LEGEND = """\
spread: half the distance between the quartiles, as a part of the median
x C, x landline: how many times the time (for memory: the bytes) of the C client or C server, of landline
at work: the client's time at work (where servers are measured the server's), and how many times landline's that is;
    both: the same with the other side's added (that is what one core would take that had nothing else to do)
"""
OURS = "landline"


def table(result: Measured) -> str:
    """One case as text; LEGEND says what the columns mean."""
    lines = [
        result.case.title,
        f"{'':30}{'median':>14}{'spread':>8}{'x C':>8}{'x landline':>12}"
        f"{'at work':>14}{'x landline':>12}{'both':>14}{'x landline':>12}",
    ]
    for peer in result.samples:
        shown = result.case.shown(result.median(peer))
        line = f"  {peer:28}{shown:>14}{result.spread(peer):8.0%}"
        line += column(result.time_ratio(peer, result.case.floor), 8) + column(result.time_ratio(peer, OURS), 12)
        for seconds, ratio_of in ((result.work, result.work_ratio), (result.all_work, result.all_work_ratio)):
            if seconds(peer):
                shown = result.case.shown(statistics.median(seconds(peer)))
                line += f"{shown:>14}" + column(ratio_of(peer, OURS), 12)
        lines.append(line.rstrip())
    lines += [f"  {peer:28}failed: {why}" for peer, why in result.failures.items()]
    return "\n".join(lines)


def column(ratio: float | None, width: int) -> str:
    return " " * width if ratio is None else f"{ratio:{width}.2f}"


def verdicts(results: Iterable[Measured]) -> list[dict[str, Any]]:
    """Every target of the cases measured; a value is None where one of its sides is missing.

    Beside it stands what the times at work give, and what C would score: no library can do much better.
    """
    by_name = {result.case.name: result for result in results}
    found = []
    for target in TARGETS:
        if target.case in by_name:
            result = by_name[target.case]
            ratio_of = result.work_ratio if target.at_work else result.time_ratio
            value = target_value(target, ratio_of, target.ours)
            if target.kind == "bytes":
                value = result.median(target.ours) if target.ours in result.samples else None
            found.append(
                {
                    "target": str(target),
                    "value": value,
                    "met": None if value is None else target.met(value),
                    "at_work": target_value(target, result.work_ratio, target.ours),
                    "both_at_work": target_value(target, result.all_work_ratio, target.ours),
                    "c_client": target_value(target, ratio_of, result.case.floor, target.c_peer),
                }
            )
    return found


def verdict_line(verdict: dict[str, Any]) -> str:
    """One line: the target, landline's value and verdict, the values at work, and C's value."""
    value = verdict["value"]
    outcome = "not measured" if value is None else "met" if verdict["met"] else "MISSED"
    shown = "" if value is None else f"{value:.4g}"
    at_work, both, limit = (
        "" if verdict[key] is None else f"{name}: {verdict[key]:.2f}"
        for key, name in (("at_work", "at work"), ("both_at_work", "both"), ("c_client", "C"))
    )
    return f"  {verdict['target']:88}{shown:>9}  {outcome:14}{at_work:16}{both:13}{limit}".rstrip()


def write_json(path: Path, results: Iterable[Measured], settings: dict[str, Any], missing: dict[str, str]) -> None:
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
                        "times_c": result.time_ratio(peer, result.case.floor),
                        "times_landline": result.time_ratio(peer, OURS),
                        "samples": result.amounts(peer),
                        "at_work": result.work(peer),
                        "both_at_work": result.all_work(peer),
                    }
                    for peer in result.samples
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
        "openssl": ssl.OPENSSL_VERSION,
        "libraries": {name: version for name in LIBRARIES if (version := library_version(name))},
    }


def target_value(
    target: Target, ratio_of: Callable[[str, str], float | None], ours: str, peer: str = ""
) -> float | None:
    """The ratio that the target speaks of; None where a side is missing, and for targets in bytes."""
    if target.kind == "speed":
        return ratio_of(peer or target.peer, ours)
    return ratio_of(ours, peer or target.peer)


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


def compiler_version() -> str | None:
    try:
        printed = subprocess.check_output([os.environ.get("CC", "gcc"), "--version"], text=True)
    except OSError:
        return None
    return printed.splitlines()[0]
