"""The command's work: probe after probe, each told at once, and what they come to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

from .. import complain
from ..output import OutputClosed, writing
from .as_json import as_json, as_values
from .facts import Measured, Wanted
from .measure import Trust, measure, measure_all_addresses
from .story import Entry, History, Story, tell
from .verdict import Status, Verdict, judge, worst

if TYPE_CHECKING:
    from .terminal import Screen

__all__ = ["Options", "probe"]

MOST_KEPT = 100
"""Probes of one target that the pictures tell of."""

BETWEEN = 1.0
"""Seconds from one round to the next where --every does not say."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for, beside the targets.

    Attributes:
        count: rounds; None: one, or without end where ``every`` is given.
        every: seconds from the beginning of one round to that of the next.
        all_addresses: each address alone.
        json: JSON Lines instead of pictures.
        svg, html: files to draw into after each round.
        warn_days: a certificate that ends earlier is a warning.
        ca: the file of authorities to trust instead of the system's.
        alpn: as in Wanted; the context needs it too.
    """

    count: int | None = None
    every: float | None = None
    all_addresses: bool = False
    json: bool = False
    svg: Path | None = None
    html: Path | None = None
    warn_days: float = 14.0
    ca: Path | None = None
    alpn: tuple[str, ...] = ()


def probe(wanted: Callable[[], list[Wanted]], options: Options) -> int:
    """Probe all of ``wanted``, round after round; the exit status, which is that of the worst probe.

    Args:
        wanted: makes the list; what is wrong with it is raised there, and told as any failure of this machine.

    Raises:
        KeyboardInterrupt: what there was has been told.
    """
    session = _Session(options)
    try:
        try:
            session.run(wanted())
        finally:
            session.end()
    except OutputClosed:
        pass
    except (OSError, ValueError, TypeError) as error:
        complain(error)
        return Status.UNKNOWN
    return worst(session.statuses)


class _Session:
    """The state of the command.

    Attributes:
        statuses: those that there were.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.statuses: set[Status] = set()
        self._series: dict[tuple[str, str | None], _Series] = {}
        self._screen: Screen | None = None
        if not options.json:
            from .terminal import Screen  # rich is slow to import, and nobody needs it for JSON

            self._screen = Screen()

    def run(self, targets: list[Wanted]) -> None:
        options = self.options
        trust = Trust(None if options.ca is None else str(options.ca), options.alpn)
        for _ in self._rounds():
            for wanted in targets:
                for address, work in self._works(wanted, trust):
                    self._tell(wanted, address, *self._judged(wanted, work))
            self._draw()

    def end(self) -> None:
        """What several probes come to."""
        many = [series.history() for series in self._series.values() if len(series.told) > 1]
        if self._screen is not None and many:
            with writing():
                self._screen.history(many)

    def _rounds(self) -> Iterator[None]:
        options, begun = self.options, 0
        count = options.count if options.count is not None else 1 if options.every is None else None
        between = BETWEEN if options.every is None else options.every
        next_at = monotonic()
        while count is None or begun < count:
            sleep(max(0.0, next_at - monotonic()))
            next_at = max(next_at + between, monotonic())
            begun += 1
            yield

    def _works(self, wanted: Wanted, trust: Trust) -> Iterator[tuple[str | None, Callable[[], Measured]]]:
        if not self.options.all_addresses:
            yield None, lambda: measure(wanted, trust)
            return
        with self._waiting(wanted):
            works = measure_all_addresses(wanted, trust)
        yield from works

    def _judged(self, wanted: Wanted, work: Callable[[], Measured]) -> tuple[Measured, Verdict]:
        with self._waiting(wanted):
            measured = work()
        return measured, judge(measured, self.options.warn_days)

    def _waiting(self, wanted: Wanted) -> AbstractContextManager[object]:
        return nullcontext() if self._screen is None else self._screen.waiting(f"probing {wanted}")

    def _tell(self, wanted: Wanted, address: str | None, measured: Measured, verdict: Verdict) -> None:
        self.statuses.add(verdict.status)
        series = self._series.setdefault((str(wanted), address), _Series(self.options.warn_days))
        before = series.told[-1][1] if series.told else None
        series.told.append((measured, verdict))
        with writing():
            if self._screen is None:
                print(as_json(measured, verdict), flush=True)
            elif before is not None and before.code == verdict.code:
                self._screen.line(series.story(-1))
            else:
                self._screen.picture(series.story(-1))

    def _draw(self) -> None:
        entries = [series.entry() for series in self._series.values()]
        if self.options.svg is not None:
            from .svg import draw

            _write(self.options.svg, draw(entries))
        if self.options.html is not None:
            from .page import page

            _write(self.options.html, page(entries))


@dataclass(slots=True)
class _Series:
    """The probes of one target, or of one address of it; the last MOST_KEPT of them."""

    warn_days: float
    told: deque[tuple[Measured, Verdict]] = field(default_factory=lambda: deque(maxlen=MOST_KEPT))

    def story(self, index: int) -> Story:
        return tell(*self.told[index], self.warn_days)

    def history(self) -> History:
        times = tuple(measured.elapsed for measured, _ in self.told)
        return History(self.story(-1).target, times, tuple(verdict.status for _, verdict in self.told))

    def entry(self) -> Entry:
        """The latest of the worst probes, and all of them in short."""
        bad = worst(verdict.status for _, verdict in self.told)
        index = max(index for index, (_, verdict) in enumerate(self.told) if verdict.status is bad)
        history = self.history() if len(self.told) > 1 else None
        return Entry(self.story(index), history, as_values(*self.told[index]))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise OSError(f"writing {path} failed: {error.strerror or error}") from error
