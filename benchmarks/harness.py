"""How a number comes about.

Rounds interleave everything: each round takes one sample of every peer in every case, so that a
disturbance from outside (another process, a change of clock speed) falls on all of them, and a slow
minute spoils a round rather than a peer. Within a case each round starts with another peer. Ratios
are taken within a round and their median over the rounds is reported: closer to the truth on a busy
machine than the quotient of two medians. The minimum was rejected: it rewards lucky scheduling
between client and server, which share the core.

Where another program works on that core all the time, the clock on the wall says little. So the time
at work stands beside it: the client's, and that of client and server, which is what an idle core would take.

Servers are measured with one client for all of them, `load.c`, on the same core too. What a request costs is the
server's time at work, and the targets are about that. Two cores were tried (`--server-core`) and are no default: with
one connection the clock then tells how long a core takes to wake up; with many, whatever else runs on the server's core
makes the threads of any Python server queue up for the interpreter's lock, or not, and what a request costs differs by
two or three times from one sample to the next.

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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .cases import Case
from .peers import Peer
from .sampling import Taken
from .wire import Server, TlsServer

STUCK = 60.0
"""Seconds after which a sample is given up."""


@dataclass
class Measured:
    """What an operation took: once per round for each peer of a case."""

    case: Case
    samples: dict[str, list[Taken]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def amounts(self, peer: str) -> list[float]:
        return [taken.amount for taken in self.samples[peer]]

    def work(self, peer: str) -> list[float]:
        """Seconds that the side which is measured was at work; [] where they say nothing."""
        return [taken.own for taken in self.samples[peer] if taken.own is not None]

    def all_work(self, peer: str) -> list[float]:
        """The same of both sides."""
        return [taken.both for taken in self.samples[peer] if taken.both is not None]

    def median(self, peer: str) -> float:
        return statistics.median(self.amounts(peer))

    def spread(self, peer: str) -> float:
        """Half the distance between the quartiles, as a part of the median."""
        if len(self.samples[peer]) < 2:
            return 0.0
        lower, _, upper = statistics.quantiles(self.amounts(peer), n=4, method="inclusive")
        return (upper - lower) / 2 / self.median(peer)

    def time_ratio(self, peer: str, other: str) -> float | None:
        """How many times the time of `other` this peer takes; None where one was not measured."""
        return self._ratio(self.amounts, peer, other)

    def work_ratio(self, peer: str, other: str) -> float | None:
        """The same for the time at work of the side which is measured."""
        return self._ratio(self.work, peer, other)

    def all_work_ratio(self, peer: str, other: str) -> float | None:
        """The same for that of both sides."""
        return self._ratio(self.all_work, peer, other)

    def _ratio(self, numbers: Callable[[str], list[float]], peer: str, other: str) -> float | None:
        if peer not in self.samples or other not in self.samples or not numbers(other):
            return None
        pairs = zip(numbers(peer), numbers(other), strict=True)
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
    servers: Sequence[Server | TlsServer], cases: Sequence[Case], peers: Sequence[Peer], rounds: int, seconds: float
) -> list[Measured]:
    """Measure every case with every peer that has it; a sample takes about `seconds`.

    A case for which there is no server is left out.

    A peer that fails in a case is left out of that case: it must not cost the others their numbers.
    """
    by_kind = {isinstance(server, TlsServer): server for server in servers}
    results = [Measured(case) for case in cases if case.tls in by_kind]
    for result in results:
        for peer in (peer for peer in peers if hasattr(peer, result.case.name)):
            progress("trial", result.case, peer)
            with result.failing(peer):
                result.counts[peer.name], _ = sample(
                    by_kind[result.case.tls], result.case, peer, result.case.count, seconds
                )
                result.samples[peer.name] = []
    for number in range(rounds):
        for result in results:
            able = [peer for peer in peers if hasattr(peer, result.case.name) and peer.name in result.samples]
            first = number % max(1, len(able))
            for peer in able[first:] + able[:first]:
                progress(f"round {number + 1} of {rounds}", result.case, peer)
                with result.failing(peer):
                    count, taken = sample(
                        by_kind[result.case.tls], result.case, peer, result.counts[peer.name], seconds
                    )
                    result.samples[peer.name].append(taken.shared_by(count))
    progress("done")
    return results


def sample(server: Server | TlsServer, case: Case, peer: Peer, count: int | None, seconds: float) -> tuple[int, Taken]:
    """What `sample.py` answers, in a process of its own; its errors go to standard error."""
    request = {
        "module": type(peer).__module__,
        "peer": peer.name,
        "case": case.name,
        "server": server._asdict(),
        "tls": case.tls,
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
    done, *taken = json.loads(printed)
    return done, Taken(*taken)


def progress(stage: str, case: Case | None = None, peer: Peer | None = None) -> None:
    """On a terminal, says what is being measured; a line that the next one overwrites."""
    if sys.stderr.isatty():
        what = f": {case.name}, {peer.name}" if case and peer else ""
        print(f"\r\033[K{stage}{what}", end="" if what else "\n", file=sys.stderr, flush=True)
