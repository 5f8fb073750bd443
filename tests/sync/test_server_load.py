"""A server under load: crowds that are idle, that come in a burst, that drip; what is left of those that are gone; a
drain in the midst of it; clients that stop, go on, and are killed.

LANDLINE_FULL=1 runs the full numbers, which takes minutes, and prints the figures.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import NamedTuple

import pytest
from children import Child, child
from conftest import lacking
from listening import refuses
from load_clients import crowd, request, talk
from load_server import serve
from tls_opening import identity_file_fixture  # noqa: F401 (a fixture is used by its name)

FULL = os.environ.get("LANDLINE_FULL") == "1"

pytestmark = [
    pytest.mark.usefixtures("quick_leak_checks", "no_leaks"),
    pytest.mark.skipif(sys.platform != "linux", reason="reads what only Linux tells of a process"),
    pytest.mark.timeout(900 if FULL else 60),
]

IDLE = 10_000 if FULL else 200
ROUNDS = 10_000 if FULL else 200
"""Requests one after the other, of those who are served beside the idle ones."""

BURST = 5_000 if FULL else 1_100
DRIPPING = 500 if FULL else 40
CYCLES = 10_000 if FULL else 210
DRAINS = 10 if FULL else 1
REQUESTS = 1_000 if FULL else 40
"""Answered before the drain begins."""

CLIENTS, AT_ONCE = (4, 25) if FULL else (1, 16)
"""Processes that send requests, and connections of each at once."""

TALKERS = 12 if FULL else 3
EVENTS = 400 if FULL else 16
"""How often a talker is stopped, let go on, or killed."""

WITHIN = 300.0 if FULL else 40.0
"""Seconds for what a whole crowd has to do."""

PROMPTLY = 60.0 if FULL else 20.0
"""Seconds for a server to end all its connections: thousands take some four, and no limit of its own is so short."""

MOST_MEMORY = 64 if FULL else 128
"""KiB that an idle connection may take, its thread and its page tables included. A few take more each: of what is
made in pieces for all of them."""

MOST_MEMORY_TLS = 192 if FULL else 256
"""The same over TLS."""

MOST_GROWTH = 12 * 1024
"""KiB by which memory may grow in CYCLES. A kilobyte left by each, in a full run, is more."""

MOST_OBJECTS = 25
"""Objects, or blocks of memory, by which CYCLES may leave more: it is some five, and each way to come and go is gone
more often."""

LONG = 600
"""Seconds: no test waits that long."""

MANY = 1 << 30
"""Numbers of requests, which no client uses up."""

SEED = 20

in_the_clear_and_over_tls = pytest.mark.parametrize("secure", [False, True], ids=["clear", "tls"])


class Status(NamedTuple):
    """What a server's process is like. ``memory``: KiB, page tables included; ``warnings``, ``errors``: in the log."""

    connections: int
    memory: int
    descriptors: int
    threads: int
    objects: int
    blocks: int
    warnings: int
    errors: int


class Serving:
    """A server in a process of its own. ``before``: what that was like without it."""

    def __init__(self, process: Child, secure: bool) -> None:
        self.process = process
        self._secure = "secure" if secure else ""
        self.before = Status(*map(int, process.said()))
        self.port = int(process.said()[0])

    def status(self) -> Status:
        return Status(*map(int, self.process.ask("status", within=WITHIN)))

    def count(self) -> tuple[int, int]:
        """Connections, and threads."""
        connections, threads = self.process.ask("count", within=WITHIN)
        return int(connections), int(threads)

    def has(self, connections: int) -> None:
        """Wait until it has so many."""
        until_within(lambda: self.count()[0] == connections)

    def rests(self) -> Status:
        """Wait until all clients are gone, and the threads that had them, too; one thread accepts."""
        until_within(lambda: self.count() == (0, self.before.threads + 1))
        return self.status()

    def ends(self) -> dict[str, int]:
        """How often the handlers' streams ended in which way."""
        return numbers(self.process.ask("ends"))

    def complaints(self) -> int:
        """Connections that did not end in order, and those that did not get as far as a handler."""
        return self.status().warnings + sum(count for name, count in self.ends().items() if name != "end")

    def terminate(self, drain: float = 0) -> tuple[float, int]:
        """The seconds it took, and how many handlers were at work."""
        self.process.tell("terminate", drain)
        return self.ended(drain)

    def ended(self, drain: float) -> tuple[float, int]:
        word, of_drain, seconds, at_work = self.process.said(WITHIN)
        assert (word, float(of_drain)) == ("ended", drain)
        return float(seconds), int(at_work)

    def is_gone(self) -> None:
        """Nothing of it is left in the process."""
        until_within(lambda: self.count() == (0, self.before.threads))
        left = self.status()
        assert left.connections == left.errors == 0
        assert (left.descriptors, left.threads) == (self.before.descriptors, self.before.threads)
        assert refuses("127.0.0.1", self.port)

    def crowd(self) -> AbstractContextManager[Child]:
        return child(crowd, self.port, self._secure)

    def talker(self, seed: int) -> AbstractContextManager[Child]:
        return child(talk, self.port, seed, self._secure)

    def requests(self, first: int) -> AbstractContextManager[Child]:
        return child(request, self.port, AT_ONCE, first, self._secure)


def until_within(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < end, f"it did not come true within {WITHIN} s"
        time.sleep(0.02)


def numbers(words: list[str]) -> dict[str, int]:
    return {name: int(count) for name, _, count in (word.partition("=") for word in words)}


@pytest.fixture(name="serving")
def serving_fixture(identity_file: str) -> Callable[..., AbstractContextManager[Serving]]:
    """Start a server: serving("echo", secure)."""

    @contextmanager
    def start(handler: str, secure: bool = False) -> Iterator[Serving]:
        idle = "" if FULL else "0.2"
        with child(serve, handler, IDLE + BURST, idle, identity_file if secure else "") as process:
            yield Serving(process, secure)

    return start


Start = Callable[..., AbstractContextManager[Serving]]


@pytest.fixture(name="many_descriptors")
def many_descriptors_fixture() -> Iterator[None]:
    """Processes that are started may have enough of them for each crowd."""
    wanted = IDLE + BURST + 1000
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = former[1]
    try:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted, hard if hard == resource.RLIM_INFINITY else max(hard, wanted))
        )
    except (ValueError, OSError):
        lacking(f"needs the right to {wanted} descriptors in a process; {hard} are allowed")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, former)


@pytest.fixture(name="tell")
def tell_fixture(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a figure, in a full run."""

    def print_it(line: str) -> None:
        if FULL:
            with capsys.disabled():
                sys.stdout.write(f"\n    {line}\n")

    return print_it


Tell = Callable[[str], None]


# ---- crowds ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("many_descriptors")
@in_the_clear_and_over_tls
def test_idle_connections_cost_little_and_nobody_beside_them_notices(serving: Start, secure: bool, tell: Tell) -> None:
    """And the server ends promptly with all of them."""
    with serving("echo", secure) as server, server.crowd() as idle, server.crowd() as beside:
        beside.ask("open", 8)
        alone = beside.ask("rounds", ROUNDS, within=WITHIN)
        before = server.status()
        idle.ask("open", IDLE, within=WITHIN)
        server.has(IDLE + 8)
        fresh = server.status()
        crowded = beside.ask("rounds", ROUNDS, within=WITHIN)
        idle.ask("echo", within=WITHIN)
        used = server.status()
        assert int(alone[0]) == int(crowded[0]) == ROUNDS
        assert (used.descriptors, used.threads) == (before.descriptors + IDLE, before.threads + IDLE)
        each = [(status.memory - before.memory) / IDLE for status in (fresh, used)]
        tell(f"memory of an idle connection: {each[0]:.1f} KiB when new, {each[1]:.1f} KiB after a line")
        tell(f"requests beside {IDLE} idle connections: {latencies(crowded)}; without: {latencies(alone)}")
        assert 0 < max(each) < (MOST_MEMORY_TLS if secure else MOST_MEMORY)
        seconds, _ = server.terminate()
        tell(f"end of {IDLE} connections: {seconds:.2f} s")
        assert seconds < PROMPTLY
        server.is_gone()
        assert ended_by_abort(idle) == IDLE


def ended_by_abort(clients: Child) -> int:
    """How many of them, which must be all: none may take a part for the whole."""
    ends = numbers(clients.ask("ends", within=WITHIN))
    assert set(ends) <= {"ConnectionResetError", "SSLEOFError"}  # which the standard library makes of it over TLS
    return sum(ends.values())


def latencies(words: list[str]) -> str:
    median, most, worst = (float(word) * 1e6 for word in words[1:])
    return f"median {median:.0f} us, 99% under {most:.0f} us, all under {worst:.0f} us"


@pytest.mark.usefixtures("many_descriptors")
def test_a_burst_of_connects_loses_nobody(serving: Start, tell: Tell) -> None:
    """With the default backlog, which is shorter."""
    with serving("echo") as server, server.crowd() as clients:
        count, connected = clients.ask("burst", BURST, within=WITHIN)
        echoed = clients.ask("echo", within=WITHIN)[1]
        assert int(count) == BURST
        server.has(BURST)
        tell(f"burst of {BURST}: connected in {float(connected):.2f} s, all answered {float(echoed):.2f} s later")
        clients.ask("leave", within=WITHIN)
        assert server.rests().errors == 0
        assert server.ends() == {"end": BURST}


@pytest.mark.parametrize(
    ("secure", "what"), [(False, "line"), (True, "line"), (True, "handshake")], ids=["clear", "tls", "handshake"]
)
def test_clients_that_drip_delay_nobody(serving: Start, secure: bool, what: str, tell: Tell) -> None:
    """Nor are they cut off themselves."""
    with serving("echo", secure) as server, server.crowd() as slow, server.crowd() as others:
        slow.ask("slow", DRIPPING, what, within=WITHIN)
        others.ask("open", 4)
        found = ""
        for _ in range(5):
            slow.ask("drip", within=WITHIN)
            found = latencies(others.ask("rounds", ROUNDS // 10, within=WITHIN))
            others.ask("visits", 10, within=WITHIN)
        server.has(DRIPPING + 4)
        tell(f"requests beside {DRIPPING} that drip: {found}")
        slow.ask("rest", within=WITHIN)
        others.ask("leave")
        left = server.rests()
        assert (left.warnings, left.errors) == (0, 0)
        assert server.ends() == {"end": DRIPPING + 4 + 50}


@in_the_clear_and_over_tls
def test_connections_that_come_and_go_in_every_way_leave_nothing(serving: Start, secure: bool, tell: Tell) -> None:
    with serving("echo", secure) as server, server.crowd() as clients:
        clients.ask("cycles", 70, within=WITHIN)
        before = server.rests()
        seconds = clients.ask("cycles", CYCLES, within=WITHIN)[1]
        after = server.rests()
        tell(f"{CYCLES / float(seconds):.0f} connections a second; {growth(before, after)}")
        assert_nothing_left(before, after)
        assert set(server.ends()) == {"end", "SslError" if secure else "SocketIOError"}
        assert (after.warnings > 0) == secure, "of handshakes"


def growth(before: Status, after: Status) -> str:
    more = [new - old for old, new in zip(before, after, strict=True)]
    return f"more by {more[1]} KiB, {more[2]} descriptors, {more[3]} threads, {more[4]} objects, {more[5]} blocks"


def assert_nothing_left(before: Status, after: Status) -> None:
    assert (after.descriptors, after.threads) == (before.descriptors, before.threads)
    assert max(after.objects - before.objects, after.blocks - before.blocks) < MOST_OBJECTS, growth(before, after)
    assert after.memory - before.memory < MOST_GROWTH, growth(before, after)
    assert after.errors == 0


# ---- a drain in the midst of it --------------------------------------------------------------------------


@pytest.mark.parametrize("drain", [WITHIN, 0], ids=["drain", "none"])
@in_the_clear_and_over_tls
def test_a_drain_under_load_cuts_nothing_off(serving: Start, secure: bool, drain: float, tell: Tell) -> None:
    """A request whose handler has begun is answered whole, if that is done in time; everything is gone after it.

    Without a drain everything is gone, too.
    """
    drains: list[tuple[float, int, int]] = []
    for _ in range(DRAINS):
        with serving("answer", secure) as server, ExitStack() as stack:
            clients = [stack.enter_context(server.requests(first)) for first in range(0, CLIENTS * MANY, MANY)]
            assert all(client.said(WITHIN) == ["working"] for client in clients)
            until_within(lambda server=server: len(server.process.ask("answered")) > REQUESTS)  # type: ignore[misc]
            seconds, at_work = server.terminate(drain)
            server.is_gone()
            begun, *answered = server.process.ask("answered")
            done, cut = ([one for client in clients for one in spoken(client, word)] for word in ("done", "cut"))
            drains.append((seconds, at_work, len(done)))
            assert at_work > 0
            if drain:
                assert cut == []
                assert int(begun) == len(answered)
                assert set(done) == set(answered)
            else:
                assert set(done) <= set(answered)
    longest, busy, total = max(drains)[0], [each[1] for each in drains], sum(each[2] for each in drains)
    tell(
        f"{DRAINS} times terminate({drain:.0f}) with {min(busy)} to {max(busy)} handlers at work: "
        f"at most {longest:.2f} s; {total} requests answered"
    )


def spoken(client: Child, word: str) -> list[str]:
    first, *words = client.said(WITHIN)
    assert first == word
    return words


@in_the_clear_and_over_tls
def test_what_outlasts_the_drain_is_aborted(serving: Start, secure: bool, tell: Tell) -> None:
    """Handlers that wait to read, and that wait to write; those that end meanwhile are not."""
    with (
        serving("echo", secure) as server,
        server.crowd() as staying,
        server.crowd() as flooding,
        server.crowd() as finishing,
    ):
        staying.ask("open", 20)
        flooding.ask("flood", 4)
        finishing.ask("slow", 10, "line")
        finishing.ask("drip")
        server.has(34)
        server.process.tell("terminate", LONG)
        until_within(lambda: refuses("127.0.0.1", server.port))
        staying.ask("echo")
        finishing.ask("rest")
        server.has(24)
        server.process.tell("terminate", 0.2)
        took = {float(drain): float(seconds) for _, drain, seconds, _ in (server.process.said() for _ in range(2))}
        tell(f"terminate(0.2) with 24 handlers that stay: {took[0.2]:.3f} s")
        assert 0.2 <= took[0.2] < PROMPTLY
        server.is_gone()
        ends = server.ends()
        assert ends["StreamClosed"] == 24
        assert set(ends) == {"StreamClosed", "end"}
        assert (ended_by_abort(staying), ended_by_abort(flooding)) == (20, 4)


# ---- clients that stop, go on, and are killed ------------------------------------------------------------


@in_the_clear_and_over_tls
def test_clients_that_are_stopped_or_killed_harm_nobody_else(serving: Start, secure: bool, tell: Tell) -> None:
    """Others are served all the time, and those who were stopped go on as if nothing had been."""
    chance = random.Random(SEED)
    kills = 0
    with serving("echo", secure) as server, server.crowd() as witness, ExitStack() as stack:
        witness.ask("cycles", 70)
        before = server.rests()
        complaints = server.complaints()
        witness.ask("open", 4)

        def talking(seed: int) -> Child:
            talker = stack.enter_context(server.talker(seed))
            assert talker.said(WITHIN) == ["talking"]
            return talker

        talkers = [talking(number) for number in range(TALKERS)]
        for number in range(TALKERS, TALKERS + EVENTS):
            which = chance.randrange(TALKERS)
            event = chance.choices((signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL), (3, 2, 1))[0]
            talkers[which].signal(event)
            if event == signal.SIGKILL:
                kills += 1
                talkers[which] = talking(number)
            witness.ask("rounds", 20, within=WITHIN)
        for talker in talkers:
            talker.signal(signal.SIGCONT)
        heard = [finished(talker) for talker in talkers]
        witness.ask("leave")
        after = server.rests()
        connections, size = (sum(column) for column in zip(*heard, strict=True))
        complaints = server.complaints() - complaints
        tell(
            f"{kills} clients killed, {TALKERS} at a time, {complaints} of them in the midst of it; {connections} "
            f"connections of the others, {size / 1e6:.0f} MB given back; {growth(before, after)}"
        )
        assert_nothing_left(before, after)
        assert complaints <= kills, "nobody else has reason to"
        assert kills


def finished(talker: Child) -> tuple[int, int]:
    """Its connections, and the bytes that came back."""
    talker.tell("finish")
    word, connections, size = talker.said(WITHIN)
    assert word == "finished"
    return int(connections), int(size)
