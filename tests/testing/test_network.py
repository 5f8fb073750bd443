"""The simulated network: scenarios with exact times, and the simulation's own promises.

The scenarios are what landline promises of a connection as a whole; the engine's tests prove the clauses one by one.
"""

from __future__ import annotations

import socket
import textwrap
import time
from typing import Any, NoReturn

import pytest

from landline.testing import (
    SimulatedNetwork,
    answers,
    connects,
    fails_to_start,
    lookup_fails,
    never_answers,
    refuses,
    silent,
)
from landline.testing import network as network_module

SIX = "2001:db8::1"
SEVEN = "2001:db8::2"
FOUR = "192.0.2.1"
FIVE = "192.0.2.2"


# ---- scenarios -----------------------------------------------------------------------------------


def test_first_address_silent_second_works() -> None:
    """Connected after one attempt delay and one round trip; nothing of the first attempt is left."""
    network = SimulatedNetwork(ipv6=answers(SIX, SEVEN), fates={SIX: silent(), SEVEN: connects(after=0.03)})
    result = network.connect()
    assert result.events == (
        (0.0, "answer", "IPv6"),
        (0.0, "start", SIX),
        (0.25, "start", SEVEN),
        (0.28, "cancelled", SIX),
        (0.28, "connected", SEVEN),
    )
    assert (result.winner, result.elapsed, result.errors) == (SEVEN, 0.28, ())


def test_both_families_work_ipv6_is_taken() -> None:
    """The usual case, and the usual order of the answers: one round trip, one attempt."""
    network = SimulatedNetwork(
        ipv6=answers(SIX, after=0.012),
        ipv4=answers(FOUR, after=0.01),
        fates={SIX: connects(after=0.02), FOUR: connects(after=0.02)},
    )
    result = network.connect()
    assert (result.winner, result.elapsed, result.starts) == (SIX, 0.032, ((0.012, SIX),))


def test_broken_ipv6_costs_one_attempt_delay() -> None:
    """IPv6 has an address and a route, and swallows everything: the classic that takes others two minutes."""
    network = SimulatedNetwork(
        ipv6=answers(SIX, SEVEN, after=0.01),
        ipv4=answers(FOUR, after=0.01),
        fates={SIX: silent(), SEVEN: silent(), FOUR: connects(after=0.03)},
    )
    assert network.connect().elapsed == 0.29
    assert network.connect().starts == ((0.01, SIX), (0.26, FOUR))


def test_ipv6_refused_costs_one_round_trip() -> None:
    """A refusal is not waited over."""
    network = SimulatedNetwork(
        ipv6=answers(SIX), ipv4=answers(FOUR), fates={SIX: refuses(after=0.03), FOUR: connects(after=0.03)}
    )
    result = network.connect()
    assert (result.winner, result.elapsed) == (FOUR, 0.06)
    assert [type(error) for error in result.errors] == [ConnectionRefusedError]


def test_slow_ipv6_wins_all_the_same() -> None:
    """300 ms of round trip: the IPv4 attempt at 250 ms does not end the first one, which connects before it."""
    network = SimulatedNetwork(
        ipv6=answers(SIX), ipv4=answers(FOUR), fates={SIX: connects(after=0.3), FOUR: connects(after=0.1)}
    )
    result = network.connect()
    assert (result.winner, result.elapsed) == (SIX, 0.3)
    assert result.events[-2:] == ((0.3, "cancelled", FOUR), (0.3, "connected", SIX))


def test_an_aaaa_answer_that_never_comes_costs_the_resolution_delay() -> None:
    """Connected within 50 ms of the A answer and one round trip."""
    network = SimulatedNetwork(ipv6=never_answers(), ipv4=answers(FOUR, after=0.02), fates={FOUR: connects(after=0.03)})
    assert network.connect().elapsed == 0.1


def test_an_aaaa_lookup_that_fails_late_does_not_stop_ipv4() -> None:
    """The A answer came first, its attempt is refused, the next one is slow, AAAA fails meanwhile."""
    network = SimulatedNetwork(
        ipv6=lookup_fails(after=0.2),
        ipv4=answers(FOUR, FIVE),
        fates={FOUR: refuses(after=0.05), FIVE: connects(after=0.4)},
    )
    result = network.connect()
    assert (result.winner, result.elapsed) == (FIVE, 0.5)
    assert [event.what for event in result.events] == [
        "answer",
        "start",
        "failed",
        "start",
        "lookup failed",
        "connected",
    ]


def test_a_machine_without_ipv6_goes_to_ipv4_at_once() -> None:
    """RFC 6724: the AAAA answer is in time, but no route leads there."""
    fates = {SIX: silent(), FOUR: connects(after=0.03)}
    network = SimulatedNetwork(ipv6=answers(SIX, after=0.01), ipv4=answers(FOUR), fates=fates, local_ipv6=None)
    result = network.connect()
    assert (result.starts, result.elapsed) == (((0.01, FOUR),), 0.04)


def test_a_machine_without_ipv6_waits_for_the_a_answer() -> None:
    """The AAAA answer comes first: its addresses fail at once, and that is not the end."""
    fates = {SIX: silent(), SEVEN: silent(), FOUR: connects(after=0.03)}
    network = SimulatedNetwork(ipv6=answers(SIX, SEVEN), ipv4=answers(FOUR, after=0.02), fates=fates, local_ipv6=None)
    result = network.connect()
    assert result.starts == ((0.0, SIX), (0.0, SEVEN), (0.02, FOUR))
    assert result.elapsed == 0.05


def test_a_machine_with_loopback_only_reaches_itself() -> None:
    """Loopback and the links need no address of the machine's own."""
    fates = {"::1": refuses(), "127.0.0.1": connects()}
    network = SimulatedNetwork(
        ipv6=answers("::1"), ipv4=answers("127.0.0.1"), fates=fates, local_ipv6=None, local_ipv4=None
    )
    result = network.connect()
    assert (result.starts, result.winner) == (((0.0, "::1"), (0.0, "127.0.0.1")), "127.0.0.1")


def test_a_link_local_address_keeps_its_zone() -> None:
    """The same address on two links is two addresses, and goes before a global one (RFC 6724 rule 8)."""
    fates = {"fe80::1%eth0": silent(), "fe80::1%eth1": connects(after=0.001), FOUR: silent()}
    network = SimulatedNetwork(
        ipv6=answers("fe80::1%eth0", "fe80::1%eth1", after=0.01), ipv4=answers(FOUR), fates=fates
    )
    result = network.connect()
    assert result.starts == ((0.01, "fe80::1%eth0"), (0.26, FOUR), (0.51, "fe80::1%eth1"))
    assert result.winner == "fe80::1%eth1"


def test_three_silent_addresses_of_each_family_with_a_timeout() -> None:
    """All six are tried, in turns, and the time limit ends all of them."""
    six = [f"2001:db8::{number}" for number in (1, 2, 3)]
    four = [f"192.0.2.{number}" for number in (1, 2, 3)]
    fates = {address: silent() for address in six + four}
    result = SimulatedNetwork(ipv6=answers(*six), ipv4=answers(*four), fates=fates).connect(timeout=2)
    assert [address for _, address in result.starts] == [six[0], four[0], six[1], four[1], six[2], four[2]]
    assert [when for when, _ in result.starts] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]
    assert [event.what for event in result.events[-7:]] == ["cancelled"] * 6 + ["timed out"]
    assert (result.winner, result.elapsed) == (None, 2.0)


def test_a_resolver_that_never_answers_with_a_timeout() -> None:
    """The limit holds for the lookups too."""
    result = SimulatedNetwork(ipv6=never_answers(), ipv4=never_answers(), fates={}).connect(timeout=1)
    assert (result.events, result.elapsed) == (((1.0, "timed out", ""),), 1.0)


def test_everything_refused_is_lost_with_every_error() -> None:
    """Lookups and attempts, in order; a failure inside connect() itself is one of them."""
    down, no, gone = OSError("down"), ConnectionRefusedError("no"), socket.gaierror("gone")
    network = SimulatedNetwork(
        ipv6=answers(SIX, SEVEN),
        ipv4=lookup_fails(gone, after=0.001),
        fates={SIX: fails_to_start(down), SEVEN: refuses(no, after=0.01)},
    )
    result = network.connect()
    assert (result.winner, result.elapsed, result.errors) == (None, 0.01, (down, gone, no))
    assert result.events[-1] == (0.01, "lost", "")


def test_the_attempt_delay_is_the_callers() -> None:
    """The same network, another pace."""
    network = SimulatedNetwork(ipv4=answers(FOUR, FIVE), fates={FOUR: silent(), FIVE: connects(after=0.01)})
    assert network.connect(attempt_delay=0.1).elapsed == 0.11
    with pytest.raises(ValueError, match="attempt_delay=0 is not allowed"):
        network.connect(attempt_delay=0)


def test_4095_addresses_are_32_attempts() -> None:
    """The rest is counted."""
    addresses = [f"10.0.{number >> 8}.{number & 255}" for number in range(4095)]
    fates = {address: refuses(after=0.01) for address in addresses}
    result = SimulatedNetwork(ipv4=answers(*addresses), fates=fates).connect()
    assert (len(result.starts), result.ignored, result.elapsed) == (32, 4063, 0.32)


# ---- the simulation itself -----------------------------------------------------------------------


def test_no_clock_is_read_and_no_socket_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the documentation promises, and why such a test is fast."""

    def forbidden(*_: Any) -> NoReturn:
        raise AssertionError("the simulation reached for the real world")

    for module, names in ((time, ("time", "monotonic", "perf_counter", "sleep")), (socket, ("socket", "getaddrinfo"))):
        for name in names:
            monkeypatch.setattr(module, name, forbidden)
    network = SimulatedNetwork(ipv6=answers(SIX, after=3600), fates={SIX: connects(after=3600)})
    assert network.connect().elapsed == 7200


def test_what_would_wait_for_ever_ends_without_a_time() -> None:
    """Nothing is to come and no limit is set: the simulation says so instead of hanging."""
    result = SimulatedNetwork(ipv6=never_answers(), ipv4=answers(FOUR), fates={FOUR: silent()}).connect()
    assert (result.winner, result.elapsed) == (None, None)
    assert result.events == ((0.0, "answer", "IPv4"), (0.05, "start", FOUR))


def test_at_one_moment_news_comes_before_the_timer_and_the_timer_before_the_limit() -> None:
    """So that a result is the same every time."""
    network = SimulatedNetwork(ipv4=answers(FOUR, FIVE), fates={FOUR: connects(after=0.25), FIVE: connects()})
    assert network.connect(timeout=0.25).starts == ((0.0, FOUR),)
    assert network.connect(timeout=0.25).winner == FOUR
    network = SimulatedNetwork(ipv4=answers(FOUR, FIVE), fates={FOUR: silent(), FIVE: connects()})
    assert network.connect(timeout=0.25).winner == FIVE
    network = SimulatedNetwork(ipv4=answers(FOUR, FIVE), fates={FOUR: silent(), FIVE: connects(after=0.001)})
    assert network.connect(timeout=0.25).winner is None


def test_of_two_that_connect_at_one_moment_the_first_started_wins() -> None:
    """There is one winner, and the other one is closed."""
    network = SimulatedNetwork(ipv4=answers(FOUR, FIVE), fates={FOUR: connects(after=0.5), FIVE: connects(after=0.25)})
    assert network.connect().events[-2:] == ((0.5, "cancelled", FIVE), (0.5, "connected", FOUR))


def test_every_attempt_ends_exactly_once() -> None:
    """Whatever was started has failed, connected or been cancelled by the end; nothing is left open."""
    fates = {SIX: refuses(after=0.3), SEVEN: silent(), FOUR: connects(after=0.4), FIVE: fails_to_start()}
    network = SimulatedNetwork(ipv6=answers(SIX, SEVEN), ipv4=answers(FIVE, FOUR), fates=fates)
    for timeout in (None, 0.6, 0.26, 0.1, 0):
        result = network.connect(timeout=timeout)
        ends = [event.about for event in result.events if event.what in ("failed", "connected", "cancelled")]
        assert sorted(ends) == sorted(address for _, address in result.starts)


def test_an_attempt_that_fails_to_start_fails_before_anything_else_happens() -> None:
    """Inside the start itself; a refusal without delay comes after what is due at that moment already."""
    network = SimulatedNetwork(ipv6=answers(SIX), ipv4=lookup_fails(), fates={SIX: fails_to_start()})
    assert [event.what for event in network.connect().events] == ["answer", "start", "failed", "lookup failed", "lost"]
    network = SimulatedNetwork(ipv6=answers(SIX), ipv4=lookup_fails(), fates={SIX: refuses()})
    assert [event.what for event in network.connect().events] == ["answer", "start", "lookup failed", "failed", "lost"]
    assert network.connect().elapsed == 0.0


def test_times_are_told_to_the_microsecond() -> None:
    """So that sums of decimal fractions compare as they read."""
    network = SimulatedNetwork(ipv6=answers(SIX, after=0.1), fates={SIX: connects(after=0.2)})
    assert network.connect().elapsed == 0.3
    network = SimulatedNetwork(ipv6=answers(SIX), fates={SIX: connects(after=1 / 3)})
    assert network.connect().elapsed == 0.333333


def test_a_network_can_be_used_again() -> None:
    """Connecting changes nothing in it."""
    network = SimulatedNetwork(ipv6=answers(SIX), fates={SIX: connects(after=0.1)})
    assert network.connect() == network.connect()


def test_a_result_prints_as_a_time_line() -> None:
    """For the message of a failed assertion."""
    network = SimulatedNetwork(ipv6=answers(), ipv4=answers(FOUR), fates={FOUR: refuses(after=0.0304)})
    assert str(network.connect()).splitlines() == [
        "    0.000  answer IPv6",
        "    0.000  answer IPv4",
        "    0.000  start 192.0.2.1",
        "    0.030  failed 192.0.2.1",
        "    0.030  lost",
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: SimulatedNetwork(fates={}), "no lookup"),
        (lambda: SimulatedNetwork(ipv6=answers(SIX), fates={}), f"'{SIX}' has no fate"),
        (lambda: SimulatedNetwork(ipv6=answers(FOUR), fates={FOUR: silent()}), f"'{FOUR}' is no IPv6 address"),
        (lambda: SimulatedNetwork(ipv4=answers(SIX), fates={SIX: silent()}), f"'{SIX}' is no IPv4 address"),
        (lambda: answers(SIX, after=-1), "-1 is not allowed"),
        (lambda: connects(after=float("nan")), "nan is not allowed"),
        (lambda: refuses(after=float("inf")), "inf is not allowed"),
        (lambda: lookup_fails(after=-0.5), "-0.5 is not allowed"),
        (lambda: SimulatedNetwork(ipv6=answers(), fates={}).connect(timeout=-2), "-2 is not allowed"),
    ],
)
def test_a_network_that_cannot_be_is_refused(wrong: Any, message: str) -> None:
    """With the value in the message, when it is described and not when it is run."""
    with pytest.raises(ValueError) as caught:
        wrong()
    assert message in str(caught.value)


def test_the_example_of_the_documentation_is_true() -> None:
    """Its assertions are run as they stand there."""
    _, _, after = str(network_module.__doc__).partition("::\n\n")
    example = textwrap.dedent("\n".join(line for line in after.splitlines() if not line or line.startswith("    ")))
    assert example.count("assert ") == 3
    exec(example, dict(vars(network_module)))
