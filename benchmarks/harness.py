"""How a number comes about.

Rounds interleave everything: each round takes one sample of every peer in every case, so that a
disturbance from outside (another process, a change of clock speed) falls on all of them, and a slow
minute spoils a round rather than a peer. Within a case each round starts with another peer. Ratios
are taken within a round and their median over the rounds is reported: closer to the truth on a busy
machine than the quotient of two medians. The minimum was rejected: it rewards lucky scheduling
between client and server, which share the core.

A sample is a fresh process. With all peers in one, what one of them left on the heap decided
whether another's 256 KiB buffers were reused or mapped anew each time: asyncio's bulk read took one
or four times its time, depending on which cases had run before. A sample opens its own connection,
works unmeasured for a tenth of its count (buffers and windows grow, code specialises), then
measures. Counts are chosen per peer so that each sample takes about the same time.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .cases import Case
from .peers import Peer
from .wire import Server

STUCK = 60.0
"""Seconds after which a sample is given up."""


@dataclass
class Measured:
    """Seconds (or bytes) per operation: one number per round for each peer of a case."""

    case: Case
    samples: dict[str, list[float]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def median(self, peer: str) -> float:
        return statistics.median(self.samples[peer])

    def spread(self, peer: str) -> float:
        """Half the distance between the quartiles, as a part of the median."""
        if len(self.samples[peer]) < 2:
            return 0.0
        lower, _, upper = statistics.quantiles(self.samples[peer], n=4, method="inclusive")
        return (upper - lower) / 2 / self.median(peer)

    def time_ratio(self, peer: str, other: str) -> float | None:
        """How many times the time of `other` this peer takes; None where one was not measured."""
        if peer not in self.samples or other not in self.samples:
            return None
        pairs = zip(self.samples[peer], self.samples[other], strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)

    @contextlib.contextmanager
    def failing(self, peer: Peer) -> Iterator[None]:
        """A failed sample inside takes the peer out of this case."""
        try:
            yield
        except subprocess.SubprocessError as error:
            self.failures[peer.name] = type(error).__name__
            self.samples.pop(peer.name, None)


def measure(
    server: Server, cases: Sequence[Case], peers: Sequence[Peer], rounds: int, seconds: float
) -> list[Measured]:
    """Measure every case with every peer that has it; a sample takes about `seconds`.

    A peer that fails in a case is left out of that case: it must not cost the others their numbers.
    """
    results = [Measured(case) for case in cases]
    for result in results:
        for peer in (peer for peer in peers if hasattr(peer, result.case.name)):
            progress("trial", result.case, peer)
            with result.failing(peer):
                result.counts[peer.name], _ = sample(
                    server, result.case, peer, result.case.count, seconds
                )
                result.samples[peer.name] = []
    for number in range(rounds):
        for result in results:
            able = [peer for peer in peers if peer.name in result.samples]
            first = number % max(1, len(able))
            for peer in able[first:] + able[:first]:
                progress(f"round {number + 1} of {rounds}", result.case, peer)
                with result.failing(peer):
                    count, taken = sample(
                        server, result.case, peer, result.counts[peer.name], seconds
                    )
                    result.samples[peer.name].append(taken / count)
    progress("done")
    return results


def sample(
    server: Server, case: Case, peer: Peer, count: int | None, seconds: float
) -> tuple[int, float]:
    """What `sample.py` answers, in a process of its own; its errors go to standard error."""
    request = {
        "module": type(peer).__module__,
        "peer": peer.name,
        "case": case.name,
        "server": server._asdict(),
        "count": count,
        "seconds": seconds,
    }
    printed = subprocess.run(
        [sys.executable, "-m", f"{__package__}.sample", json.dumps(request)],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        check=True,
        timeout=STUCK,
    ).stdout
    done, taken = json.loads(printed)
    return done, taken


def progress(stage: str, case: Case | None = None, peer: Peer | None = None) -> None:
    """On a terminal, says what is being measured; a line that the next one overwrites."""
    if sys.stderr.isatty():
        what = f": {case.name}, {peer.name}" if case and peer else ""
        print(f"\r\033[K{stage}{what}", end="" if what else "\n", file=sys.stderr, flush=True)
