"""What every test may lean on: real programs, network namespaces, and a check for leaks.

A test that lacks something of its machine is skipped and says what it lacks, so that the suite runs
anywhere; in CI (``CI=true``) the same lack is a failure, so that a test cannot fall silent there
for good. Each program stands in ``programs.txt`` with its Debian package; CI installs from the same
file, so no test can need what CI lacks.

Importable by name: ``from conftest import need``.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import settings

# A deadline per example would make a loaded machine fail; pytest-timeout already bounds each test.
settings.register_profile("landline", parent=settings.default, deadline=None)
settings.load_profile("landline")

IN_CI = os.environ.get("CI") == "true"

THREADS_END_WITHIN = 5.0
"""Seconds a test's threads have to end after the test itself did."""


# ---- what the machine must have ------------------------------------------------------------------


def need(program: str) -> str:
    """Return the path of `program`; without it skip the test, or fail it in CI."""
    if program not in PACKAGES:
        raise LookupError(f"{program!r} is not in tests/programs.txt, so CI would not have it")
    # Servers and network tools are often outside an ordinary user's PATH.
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    return shutil.which(program, path=path) or lacking(
        f"needs the program {program!r} (Debian: {PACKAGES[program]})"
    )


def lacking(reason: str) -> NoReturn:
    """Skip the running test for something its machine lacks, or fail it in CI."""
    if IN_CI:
        pytest.fail(f"{reason}; CI must have it", pytrace=False)
    pytest.skip(reason)


def read_programs(file: Path) -> dict[str, str]:
    """Return {program: its Debian packages}."""
    lines = (line.partition("#")[0].split() for line in file.read_text("utf-8").splitlines())
    return {words[0]: " ".join(words[1:]) for words in lines if words}


PACKAGES = read_programs(Path(__file__).with_name("programs.txt"))


@functools.cache
def netns_problem() -> str | None:
    """Tell why network namespaces cannot be made here; None when they can.

    Being root and having ``ip`` is not enough (containers drop rights), so one is made for trial.
    """
    if sys.platform != "linux":
        return f"network namespaces exist on Linux, not on {sys.platform}"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not capable_of_network_administration():
        return "network namespaces need CAP_NET_ADMIN"
    ip = need("ip")
    name = f"landline-trial-{os.getpid()}"
    trial = subprocess.run([ip, "netns", "add", name], capture_output=True, text=True, check=False)
    # Also after a failure, which may have left a file of that name.
    subprocess.run([ip, "netns", "delete", name], capture_output=True, check=False)
    if trial.returncode != 0:
        return f"`ip netns add` does not work here: {trial.stderr.strip()}"
    return None


def capable_of_network_administration() -> bool:
    """Whether this process has CAP_NET_ADMIN (12 in linux/capability.h); True where none tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text("ascii").splitlines():
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> 12 & 1)
    return True


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("peer"):
        for program in mark.args:
            need(program)
    if item.get_closest_marker("netns") and (problem := netns_problem()):
        lacking(problem)


@pytest.fixture(name="need")
def _need() -> Callable[[str], str]:
    """`need` for tests that prefer a fixture to an import."""
    return need


# ---- what a test must not leave behind -----------------------------------------------------------


def pytest_collection_finish(session: pytest.Session) -> None:
    """`no_leaks` collects garbage for every test: thousands of collected tests are not to be looked at each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fail the test when it, or a fixture of its own, leaves a descriptor open or a thread running.

    Fixtures shared with other tests (of a module, of the session) do not count.
    """
    with leaving_nothing():
        yield


@pytest.fixture(autouse=True)
def _no_leaks_goes_first(request: pytest.FixtureRequest) -> None:
    """Set `no_leaks` up before a test's other fixtures, so that it is torn down after them.

    The test may name it anywhere: an autouse fixture comes first within its scope.
    """
    if "no_leaks" in request.fixturenames:
        request.getfixturevalue("no_leaks")


@pytest.fixture(scope="module")
def quick_leak_checks() -> None:
    """`no_leaks` collects garbage for every test; with this, what was there before the module is not looked at."""
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def leaving_nothing() -> Iterator[None]:
    """Raise AssertionError when what runs inside leaves a descriptor open or a thread running.

    Threads get `THREADS_END_WITHIN` seconds to end. What the garbage collector would have to close
    counts as left: closing is explicit here.
    """
    gc.collect()  # what earlier tests left to the collector is not this one's doing
    threads = set(threading.enumerate())
    descriptors = open_descriptors()
    yield
    end = time.monotonic() + THREADS_END_WITHIN
    left = []
    for thread in set(threading.enumerate()) - threads - {threading.current_thread()}:
        thread.join(max(0.0, end - time.monotonic()))
        if thread.is_alive():
            left.append(f"thread {thread.name!r}{' (daemon)' if thread.daemon else ''}")
    for number, identity in open_descriptors().items():
        if descriptors.get(number) != identity:
            left.append(f"descriptor {number}: {describe_descriptor(number)}")
    if left:
        raise AssertionError("left behind: " + ", ".join(left))


def open_descriptors() -> dict[int, tuple[int, int, int]]:
    """Return {number: identity} of this process's open descriptors.

    The identity is the file's type, device and inode, so a number that was closed and given to
    another file differs. Where no directory lists descriptors, the first numbers are tried one by
    one: the system always takes the lowest free one.
    """
    numbers: list[int] | range = range(4096)
    for directory in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            numbers = [int(name) for name in os.listdir(directory)]
            break
    found = {}
    for number in numbers:
        try:
            status = os.fstat(number)
        except OSError:
            continue  # closed, or the one the listing itself used
        found[number] = (stat.S_IFMT(status.st_mode), status.st_dev, status.st_ino)
    return found


def describe_descriptor(number: int) -> str:
    """Say what a descriptor is, as far as the system tells."""
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return stat.filemode(os.fstat(number).st_mode)
