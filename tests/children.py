"""Python in a process of its own, for what one process cannot show: signals, a shared port, ten thousand clients.

A test runs a function of an importable module that way; the two talk in lines, through the child's standard input
and output. The functions live in modules that do not import pytest: a child should be quick to start, and small.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

PATIENCE = 20.0
"""Seconds, as in the stage of the contract: which is not imported, for it takes longer than all else of a child."""

# Importing pytest's helpers must find what the test found.
RUN = "import sys; sys.path[:0] = {path!r}; import {module}; {module}.{function}(*sys.argv[1:])"


def command(function: Callable[..., object], *arguments: object) -> list[str]:
    """The words that run ``function(*arguments)`` in a new interpreter; it gets strings."""
    path = [str(Path(inspect.getfile(function)).parent), str(Path(__file__).parent)]
    code = RUN.format(path=path, module=function.__module__, function=function.__name__)
    return [sys.executable, "-c", code, *map(str, arguments)]


def say(*words: object) -> None:
    """In a child: a line to its parent."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def heard() -> list[str]:
    """In a child: the words of the next line from its parent; [] when the parent has no more to say."""
    return sys.stdin.readline().split()


class Child:
    """A running child. It is killed at the end of the block, if it has not ended by itself."""

    def __init__(self, words: list[str], environment: Mapping[str, str] | None = None, **more: object) -> None:
        pipe = subprocess.PIPE
        merged = None if environment is None else {**os.environ, **environment}
        self.process: subprocess.Popen[str] = subprocess.Popen(
            words, stdin=pipe, stdout=pipe, text=True, bufsize=1, env=merged, **more  # type: ignore[call-overload]
        )  # fmt: skip
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._taking = Thread(target=self._take, name="child's lines", daemon=True)
        self._taking.start()

    def said(self, within: float = PATIENCE) -> list[str]:
        """The words of its next line."""
        try:
            line = self._lines.get(timeout=within)
        except Empty:
            raise AssertionError(f"the child said nothing within {within} s") from None
        if line is None:
            raise AssertionError(f"the child has ended, with status {self.process.wait(PATIENCE)}")
        return line.split()

    def tell(self, *words: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def ask(self, *words: object, within: float = PATIENCE) -> list[str]:
        """Tell it something, and hear the answer."""
        self.tell(*words)
        return self.said(within)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait until it has ended by itself; its exit status."""
        return self.process.wait(PATIENCE)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._taking.join()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def _take(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)


@contextlib.contextmanager
def child(
    function: Callable[..., object], *arguments: object, environment: Mapping[str, str] | None = None
) -> Iterator[Child]:
    """``function(*arguments)`` in a process of its own, for as long as the block lasts."""
    with running(command(function, *arguments), environment) as made:
        yield made


@contextlib.contextmanager
def running(words: list[str], environment: Mapping[str, str] | None = None, **more: object) -> Iterator[Child]:
    """A command that runs a child, for as long as the block lasts."""
    made = Child(words, environment, **more)
    try:
        yield made
    finally:
        made.end()
