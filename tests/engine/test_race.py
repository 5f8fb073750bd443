"""RFC 8305 sections 3 to 5, clause by clause, in virtual time; then the traps that other clients fell into.

Each test is a table: events with their times go in, actions with their times must come out. Between two events the
timer is served as a driver would serve it, at ``wake_at`` and never before. Addresses have names like "6a" and
"4b" (family, then order in the answer), and events name the attempt by its address. What holds for every
race, whatever happens in it, is tried at the end with random events.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landline.address import SocketAddress
from landline.engine import race as engine
from landline.engine.destination import rank
from landline.engine.race import Cancel, Lost, Race, Start, Won

V6, V4 = 6, 4
NEVER = math.inf


class Driver:
    """A driver without sockets: it holds what a driver must hold, and writes down what it is told to do."""

    def __init__(
        self, families: Sequence[int] = (V6, V4), attempt_delay: float = 0.25, ranks: Mapping[str, Any] | None = None
    ) -> None:
        self.race: Race[str] = Race(families, attempt_delay=attempt_delay)
        self.ranks = ranks
        self.numbers: dict[str, int] = {}
        self.names: dict[int, str] = {}
        self.in_flight: list[str] = []
        self.log: list[tuple[Any, ...]] = []

    def event(self, now: float, kind: str, *facts: Any) -> None:
        """One of: answer FAMILY ADDRESS..., no answer FAMILY, fails ADDRESS, connects ADDRESS, tick."""
        match kind:
            case "answer":
                family, *found = facts
                ranks = None if self.ranks is None else [self.ranks[address] for address in found]
                actions = self.race.addresses(family, found, now, ranks)
            case "no answer":
                actions = self.race.lookup_failed(facts[0], OSError(f"no IPv{facts[0]}"), now)
            case "fails":
                if facts[0] in self.in_flight:
                    self.in_flight.remove(facts[0])
                actions = self.race.failed(self.numbers[facts[0]], OSError(facts[0]), now)
            case "connects":
                actions = self.race.connected(self.numbers[facts[0]], now)
            case _:
                assert kind == "tick"
                actions = self.race.tick(now)
        time = round(now, 9)
        for action in actions:
            if isinstance(action, Start):
                assert action.address not in self.numbers
                self.numbers[action.address] = action.attempt
                self.names[action.attempt] = action.address
                self.in_flight.append(action.address)
                self.log.append((time, "start", action.address))
            elif isinstance(action, Cancel):
                self.log.append((time, "cancel", self.names[action.attempt]))
                if self.names[action.attempt] in self.in_flight:
                    self.in_flight.remove(self.names[action.attempt])
            elif isinstance(action, Won):
                self.log.append((time, "won", self.names[action.attempt]))
            else:
                assert isinstance(action, Lost)
                self.log.append((time, "lost", *map(str, action.errors)))

    def until(self, end: float) -> None:
        """Serve the timer up to ``end``, but not what is due at ``end`` itself: news at that moment comes first."""
        while (wake_at := self.race.wake_at) is not None and wake_at < end:
            self.event(wake_at, "tick")
        if self.race.wake_at is not None and end < NEVER:
            before = len(self.log)
            self.event(math.nextafter(end, -NEVER), "tick")
            assert len(self.log) == before, "a tick that is not due must change nothing"


def run(*rows: tuple[Any, ...], until: float = NEVER, **setup: Any) -> list[tuple[Any, ...]]:
    """Play a table of events and return the table of actions."""
    driver = Driver(**setup)
    for now, kind, *facts in rows:
        driver.until(now)
        driver.event(now, kind, *facts)
    driver.until(until)
    return driver.log


# ---- section 3: hostname resolution --------------------------------------------------------------


def test_3_a_first_aaaa_answer_starts_ipv6_at_once() -> None:
    """Section 3: no answer is waited for once IPv6 addresses are there."""
    assert run((0.1, "answer", V6, "6a")) == [(0.1, "start", "6a")]


def test_3_a_first_a_answer_waits_50_ms_for_the_aaaa_answer() -> None:
    """Section 3, Resolution Delay; it begins when the A answer comes, however late that is."""
    assert run((0.0, "answer", V4, "4a")) == [(0.05, "start", "4a")]
    assert run((3.0, "answer", V4, "4a")) == [(3.05, "start", "4a")]


@pytest.mark.parametrize("late", [0.001, 0.03, 0.05])
def test_3_an_aaaa_answer_within_the_resolution_delay_starts_ipv6_at_once(late: float) -> None:
    """Section 3: the rest of the delay is not waited out, and does not start anything later; IPv4 comes second."""
    assert run((0.0, "answer", V4, "4a"), (late, "answer", V6, "6a")) == [
        (late, "start", "6a"),
        (round(late + 0.25, 9), "start", "4a"),
    ]


@pytest.mark.parametrize("negative", [("answer", V6), ("no answer", V6)])
def test_3_a_negative_aaaa_answer_ends_the_resolution_delay(negative: tuple[Any, ...]) -> None:
    """Section 3: nothing is left to wait for, so IPv4 starts at once."""
    assert run((0.0, "answer", V4, "4a"), (0.02, *negative)) == [(0.02, "start", "4a")]


@pytest.mark.parametrize("negative", [("answer", V6), ("no answer", V6)])
def test_3_no_resolution_delay_after_a_negative_aaaa_answer(negative: tuple[Any, ...]) -> None:
    """Section 3: the delay is for an answer that may come; this one has."""
    assert run((0.0, *negative), (0.02, "answer", V4, "4a")) == [(0.02, "start", "4a")]


@pytest.mark.parametrize("negative", [("answer", V4), ("no answer", V4)])
def test_3_a_negative_a_answer_starts_no_resolution_delay(negative: tuple[Any, ...]) -> None:
    """Section 3: the delay belongs to a positive answer; a later AAAA answer starts when it comes."""
    driver = Driver()
    driver.event(0.0, *negative)
    assert driver.race.wake_at is None
    driver.event(0.5, "answer", V6, "6a")
    assert driver.log == [(0.5, "start", "6a")]


def test_3_an_aaaa_answer_after_the_resolution_delay_joins_the_running_race() -> None:
    """Section 3: its addresses come next in turn, at the pace of the race; the IPv4 attempt goes on."""
    assert run((0.0, "answer", V4, "4a", "4b"), (0.06, "answer", V6, "6a", "6b")) == [
        (0.05, "start", "4a"),
        (0.30, "start", "6a"),
        (0.55, "start", "4b"),
        (0.80, "start", "6b"),
    ]


def test_3_an_a_answer_after_the_first_ipv6_attempt_joins_the_running_race() -> None:
    """Section 3: the same the other way round."""
    assert run((0.0, "answer", V6, "6a", "6b"), (0.1, "answer", V4, "4a")) == [
        (0.0, "start", "6a"),
        (0.25, "start", "4a"),
        (0.5, "start", "6b"),
    ]


def test_3_an_aaaa_answer_that_never_comes_holds_nothing_up() -> None:
    """Section 3: IPv4 is tried to its end without it."""
    assert run((0.0, "answer", V4, "4a", "4b"), (0.1, "fails", "4a"), (9.0, "connects", "4b")) == [
        (0.05, "start", "4a"),
        (0.1, "start", "4b"),
        (9.0, "won", "4b"),
    ]


def test_3_answers_after_the_connection_are_ignored() -> None:
    """Sections 3 and 5: new addresses count until a connection is established, not longer."""
    rows = run((0.0, "answer", V6, "6a"), (0.1, "connects", "6a"), (0.2, "answer", V4, "4a"), (0.3, "no answer", V4))
    assert rows == [(0.0, "start", "6a"), (0.1, "won", "6a")]


def test_3_the_preferred_family_is_the_first_one_given() -> None:
    """Section 3, for a caller that prefers IPv4: it is IPv6 then that waits."""
    assert run((0.0, "answer", V6, "6a"), families=(V4, V6)) == [(0.05, "start", "6a")]
    assert run((0.0, "answer", V4, "4a"), families=(V4, V6)) == [(0.0, "start", "4a")]


@pytest.mark.parametrize("family", [V6, V4])
def test_3_one_family_alone_has_nothing_to_wait_for(family: int) -> None:
    """Section 3: the Resolution Delay waits for another family's answer only."""
    assert run((0.0, "answer", family, "a"), families=(family,)) == [(0.0, "start", "a")]


# ---- section 4: sorting --------------------------------------------------------------------------


def test_4_every_address_of_both_families_is_in_the_list() -> None:
    """Section 4: not the first of each family alone; and where one family ends, the other goes on."""
    assert run((0.0, "answer", V4, "4a", "4b", "4c"), (0.0, "answer", V6, "6a")) == [
        (0.0, "start", "6a"),
        (0.25, "start", "4a"),
        (0.5, "start", "4b"),
        (0.75, "start", "4c"),
    ]


def test_4_the_families_take_turns_with_a_first_address_family_count_of_one() -> None:
    """Section 4: the second address is of the other family, and so on."""
    starts = run((0.0, "answer", V4, "4a", "4b", "4c"), (0.0, "answer", V6, "6a", "6b", "6c"))
    assert [name for _, _, name in starts] == ["6a", "4a", "6b", "4b", "6c", "4c"]


def test_4_the_order_is_that_of_rfc_6724_within_a_family_and_between_them() -> None:
    """Section 4: sorted by RFC 6724 first, interleaved second; whichever family holds the best address begins."""
    ranks = {"6a": 5, "6b": 3, "4a": 6, "4b": 2}
    starts = run((0.0, "answer", V4, "4a", "4b"), (0.01, "answer", V6, "6a", "6b"), ranks=ranks)
    assert [name for _, _, name in starts] == ["4b", "6b", "4a", "6a"]


def test_4_addresses_of_one_rank_stay_in_the_resolvers_order() -> None:
    """RFC 6724 section 6 rule 10: otherwise leave the order unchanged; the preferred family wins a draw."""
    ranks = dict.fromkeys(["6b", "6a", "4b", "4a"], 7)
    starts = run((0.0, "answer", V4, "4b", "4a"), (0.01, "answer", V6, "6b", "6a"), ranks=ranks)
    assert [name for _, _, name in starts] == ["6b", "4b", "6a", "4a"]


def test_4_a_machine_without_ipv6_tries_ipv4_first() -> None:
    """RFC 6724 rule 1 across two lookups: the AAAA answer is in time, but no route leads there."""
    ranks = {"2001:db8::1": rank("2001:db8::1", None), "192.0.2.1": rank("192.0.2.1", "192.0.2.9")}
    rows = run((0.0, "answer", V4, "192.0.2.1"), (0.01, "answer", V6, "2001:db8::1"), ranks=ranks)
    assert rows == [(0.01, "start", "192.0.2.1"), (0.26, "start", "2001:db8::1")]


def test_4_a_machine_with_both_families_tries_ipv6_first() -> None:
    """RFC 6724 rule 6, the same two answers: precedence 40 against 35."""
    ranks = {"2001:db8::1": rank("2001:db8::1", "2001:db8::9"), "192.0.2.1": rank("192.0.2.1", "192.0.2.9")}
    rows = run((0.0, "answer", V4, "192.0.2.1"), (0.01, "answer", V6, "2001:db8::1"), ranks=ranks)
    assert rows == [(0.01, "start", "2001:db8::1"), (0.26, "start", "192.0.2.1")]


def test_4_ranks_must_be_as_many_as_addresses() -> None:
    """A driver's fault; the lookup still counts as unanswered."""
    race: Race[str] = Race([V6])
    with pytest.raises(ValueError, match=r"longer|shorter"):
        race.addresses(V6, ["6a", "6b"], 0.0, [1])
    assert race.addresses(V6, ["6a", "6b"], 0.0, [1, 2]) == [Start(1, "6a")]


# ---- section 5: connection attempts --------------------------------------------------------------


def test_5_attempts_start_one_at_a_time_250_ms_apart() -> None:
    """Section 5, Connection Attempt Delay, the recommended value."""
    assert run((0.0, "answer", V6, "6a", "6b", "6c")) == [
        (0.0, "start", "6a"),
        (0.25, "start", "6b"),
        (0.5, "start", "6c"),
    ]


@pytest.mark.parametrize("delay", [0.01, 0.1, 2, 2.0])
def test_5_the_attempt_delay_is_the_callers_within_its_bounds(delay: float) -> None:
    """Section 5: from the 10 ms that must hold to the 2 s that are recommended, both included."""
    assert run((0.0, "answer", V6, "6a", "6b"), attempt_delay=delay) == [(0.0, "start", "6a"), (delay, "start", "6b")]


def test_5_a_new_attempt_does_not_touch_the_ones_before_it() -> None:
    """Section 5; Node's trap: a slow attempt is never given up, and the slowest may win after all others failed."""
    assert run((0.0, "answer", V6, "6a", "6b"), (0.3, "fails", "6b"), (600.0, "connects", "6a")) == [
        (0.0, "start", "6a"),
        (0.25, "start", "6b"),
        (600.0, "won", "6a"),
    ]


def test_5_success_cancels_every_other_attempt_and_ignores_what_is_untried() -> None:
    """Section 5: losers are cancelled before the winner is named, failed ones are over already, no start follows."""
    assert run((0.0, "answer", V6, "6a", "6b", "6c", "6d", "6e"), (0.3, "fails", "6b"), (0.56, "connects", "6c")) == [
        (0.0, "start", "6a"),
        (0.25, "start", "6b"),
        (0.3, "start", "6c"),
        (0.55, "start", "6d"),
        (0.56, "cancel", "6a"),
        (0.56, "cancel", "6d"),
        (0.56, "won", "6c"),
    ]


def test_5_a_late_timer_starts_one_attempt_and_counts_from_then() -> None:
    """Section 5: attempts are not made simultaneously, even where the driver slept through two of them."""
    driver = Driver()
    driver.event(0.0, "answer", V6, "6a", "6b", "6c")
    driver.event(0.9, "tick")
    driver.until(NEVER)
    assert driver.log == [(0.0, "start", "6a"), (0.9, "start", "6b"), (1.15, "start", "6c")]


def test_5_addresses_that_come_after_the_list_ran_dry_keep_the_pace() -> None:
    """Section 5: 250 ms since the last start have to pass, and when they have passed already, nothing is waited for."""
    assert run((0.0, "answer", V6, "6a"), (0.1, "answer", V4, "4a")) == [(0.0, "start", "6a"), (0.25, "start", "4a")]
    assert run((0.0, "answer", V6, "6a"), (0.4, "answer", V4, "4a", "4b")) == [
        (0.0, "start", "6a"),
        (0.4, "start", "4a"),
        (0.65, "start", "4b"),
    ]


def test_5_the_race_is_lost_when_all_lookups_answered_and_all_attempts_failed() -> None:
    """Section 5, the end of the list; errors of lookups and attempts in the order in which they came."""
    assert run(
        (0.0, "answer", V4, "4a", "4b"),
        (0.07, "fails", "4a"),
        (0.08, "no answer", V6),
        (0.09, "fails", "4b"),
    ) == [
        (0.05, "start", "4a"),
        (0.07, "start", "4b"),
        (0.09, "lost", "4a", "no IPv6", "4b"),
    ]


# ---- failures: the next attempt at once ----------------------------------------------------------


def test_failure_starts_the_next_attempt_at_once_and_the_delay_counts_from_there() -> None:
    """Twisted's trap: a fast refusal costs nothing. The old timer is void."""
    assert run((0.0, "answer", V6, "6a", "6b", "6c"), (0.02, "fails", "6a")) == [
        (0.0, "start", "6a"),
        (0.02, "start", "6b"),
        (0.27, "start", "6c"),
    ]


def test_failure_starts_the_next_attempt_whatever_else_is_in_flight() -> None:
    """Ruby's and curl's trap: 6a may still come, yet the failure of 4a (and then of 6a) starts the next one."""
    assert run(
        (0.0, "answer", V4, "4a", "4b"),
        (0.0, "answer", V6, "6a", "6b"),
        (0.26, "fails", "4a"),
        (0.27, "fails", "6a"),
    ) == [
        (0.0, "start", "6a"),
        (0.25, "start", "4a"),
        (0.26, "start", "6b"),
        (0.27, "start", "4b"),
    ]


def test_failure_with_nothing_left_to_start_lets_the_next_address_start_when_it_comes() -> None:
    """The failure of 4b was answered by no start: 6a begins on arrival, not at 0.55; and that one only."""
    assert run((0.0, "answer", V4, "4a", "4b"), (0.32, "fails", "4b"), (0.4, "answer", V6, "6a", "6b")) == [
        (0.05, "start", "4a"),
        (0.3, "start", "4b"),
        (0.4, "start", "6a"),
        (0.65, "start", "6b"),
    ]


def test_failure_of_everything_known_waits_for_the_other_answer() -> None:
    """robur's trap, from both sides: one family at its end does not end the race, the other starts when it comes."""
    assert run((0.0, "answer", V6, "6a"), (0.01, "fails", "6a"), (0.02, "answer", V4, "4a")) == [
        (0.0, "start", "6a"),
        (0.02, "start", "4a"),
    ]
    assert run((0.0, "answer", V4, "4a"), (0.06, "fails", "4a"), (5.0, "answer", V6, "6a")) == [
        (0.05, "start", "4a"),
        (5.0, "start", "6a"),
    ]
    assert run((0.0, "answer", V4, "4a"), (0.06, "fails", "4a"), (5.0, "no answer", V6)) == [
        (0.05, "start", "4a"),
        (5.0, "lost", "4a", "no IPv6"),
    ]


def test_failure_of_the_aaaa_lookup_does_not_end_a_race_that_ipv4_runs() -> None:
    """robur's trap to the letter: A came, its attempt is under way, AAAA fails, IPv4 wins."""
    assert run((0.0, "answer", V4, "4a"), (0.1, "no answer", V6), (0.2, "connects", "4a")) == [
        (0.05, "start", "4a"),
        (0.2, "won", "4a"),
    ]


def test_failure_inside_the_start_itself_is_that_attempts_failure() -> None:
    """hyper's trap: socket(), bind() or connect() raising at once abandons one address, not the list."""
    names = [f"6{number:02}" for number in range(10)]
    rows: list[tuple[Any, ...]] = [(0.0, "answer", V6, *names), (0.0, "no answer", V4)]
    rows += [(0.0, "fails", name) for name in names]
    assert run(*rows) == [*((0.0, "start", name) for name in names), (0.0, "lost", "no IPv4", *names)]


# ---- other traps ---------------------------------------------------------------------------------


def test_two_winners_the_second_is_told_to_close() -> None:
    """aiohappyeyeballs#143, cpython#131728: both connected before the driver looked; one of them must not leak."""
    driver = Driver()
    driver.event(0.0, "answer", V6, "6a", "6b")
    driver.event(0.25, "tick")
    driver.event(0.3, "connects", "6b")
    driver.event(0.3, "connects", "6a")
    won = [(0.0, "start", "6a"), (0.25, "start", "6b"), (0.3, "cancel", "6a"), (0.3, "won", "6b")]
    assert driver.log == [*won, (0.3, "cancel", "6a")]
    driver.event(0.3, "connects", "6b")
    assert driver.log == [*won, (0.3, "cancel", "6a")], "the winner is not told to close, even if named again"


def test_late_news_of_cancelled_attempts_changes_nothing() -> None:
    """mozilla/happy-eyeballs: it may be under way already when the cancellation is decided."""
    driver = Driver()
    driver.event(0.0, "answer", V6, "6a", "6b", "6c")
    driver.event(0.25, "tick")
    driver.event(0.3, "connects", "6b")
    before = list(driver.log)
    for kind, *facts in [("fails", "6a"), ("tick",), ("answer", V4, "4a"), ("no answer", V4)]:
        driver.event(9.0, str(kind), *facts)
    assert driver.log == before
    assert driver.race.wake_at is None


def test_late_news_after_a_lost_race_changes_nothing_but_closes_what_connects() -> None:
    """A driver may learn late; a connection that nobody waits for is closed."""
    driver = Driver([V6])
    driver.event(0.0, "answer", V6, "6a")
    driver.event(0.1, "fails", "6a")
    for kind, *facts in [("fails", "6a"), ("tick",), ("answer", V6, "6b"), ("no answer", V6), ("connects", "6a")]:
        driver.event(1.0, str(kind), *facts)
    assert driver.log == [(0.0, "start", "6a"), (0.1, "lost", "6a"), (1.0, "cancel", "6a")]


@pytest.mark.parametrize("event", ["failed", "connected"])
def test_news_of_an_attempt_that_is_not_in_flight_is_the_drivers_fault(event: str) -> None:
    """Neither number 7, which never began, nor 1, which has failed: counting either would end the race too early."""
    race: Race[str] = Race([V6])
    race.addresses(V6, ["6a", "6b"], 0.0)
    race.failed(1, OSError(), 0.1)
    for attempt in (7, 1):
        with pytest.raises(ValueError, match=f"attempt {attempt} is not in flight"):
            race.failed(attempt, OSError(), 0.2) if event == "failed" else race.connected(attempt, 0.2)
    assert race.connected(2, 0.3) == [Won(2)]


def test_a_lost_race_may_have_no_errors() -> None:
    """cpython#135836, aiohappyeyeballs#93: both lookups answered, with nothing. The reporter gets an empty tuple."""
    assert run((0.0, "answer", V4), (0.1, "answer", V6)) == [(0.1, "lost")]
    assert run((0.0, "no answer", V4), (0.1, "answer", V6)) == [(0.1, "lost", "no IPv4")]


@pytest.mark.parametrize("delay", [None, 0, -1, 0.0099, 2.001, NEVER, math.nan, "0.25"])
def test_a_delay_that_is_none_or_out_of_range_is_refused(delay: Any) -> None:
    """trio documents None as serial and means 250 ms; aiohappyeyeballs takes 0 for serial. Here both are errors."""
    with pytest.raises(ValueError, match=r"0\.01 to 2\.0 seconds") as caught:
        Race([V6, V4], attempt_delay=delay)
    assert f"attempt_delay={delay!r} " in str(caught.value)


def test_at_most_six_attempts_are_in_flight() -> None:
    """The seventh waits for a failure, not for a timer; then the pace goes on as before."""
    names = [f"6{letter}" for letter in "abcdefghi"]
    first_six = [(round(0.25 * number, 9), "start", name) for number, name in enumerate(names[:6])]
    driver = Driver([V6])
    driver.event(0.0, "answer", V6, *names)
    driver.until(NEVER)
    assert driver.log == first_six
    assert driver.race.wake_at is None
    driver.event(60.0, "tick")
    driver.event(75.0, "fails", "6c")
    assert driver.log == [*first_six, (75.0, "start", "6g")]
    assert driver.race.wake_at is None


def many(family: int, number: int) -> list[str]:
    return [f"{family}:{position}" for position in range(number)]


def refused_as_they_start(driver: Driver) -> list[str]:
    """Refuse every attempt until none is in flight any more; return all addresses tried so far."""
    while driver.in_flight:
        driver.event(1.0, "fails", driver.in_flight[0])
    return list(driver.numbers)


def test_at_most_32_addresses_are_tried_and_the_rest_is_counted() -> None:
    """cpython#106283: 4095 A records must not make a scanner of the client."""
    driver = Driver()
    driver.event(0.0, "no answer", V6)
    driver.event(0.0, "answer", V4, *many(V4, 4095), *many(V4, 4095))
    assert driver.race.ignored == 4095 - 32
    assert refused_as_they_start(driver) == many(V4, 32)
    assert driver.log[-1][1] == "lost"


def test_at_most_32_addresses_are_tried_over_both_families_half_of_each() -> None:
    """The cap is on the name, and the families take turns up to it."""
    driver = Driver()
    driver.event(0.0, "answer", V4, *many(V4, 40))
    driver.event(0.0, "answer", V6, *many(V6, 40))
    assert driver.race.ignored == 48
    tried = refused_as_they_start(driver)
    assert sorted(tried) == sorted(many(V4, 16) + many(V6, 16))
    assert driver.log[-1][1] == "lost"


def test_one_familys_flood_leaves_room_for_the_other_familys_late_answer() -> None:
    """A machine without IPv6 fails 40 addresses in no time; the A answer a moment later must still be tried."""
    driver = Driver()
    driver.event(0.0, "answer", V6, *many(V6, 40))
    assert refused_as_they_start(driver) == many(V6, 16)
    assert driver.race.wake_at is None, "the rest waits for the A answer"
    driver.event(1.0, "answer", V4, "4a")
    assert driver.log[-1] == (1.0, "start", "4a")
    driver.event(1.1, "connects", "4a")
    assert driver.log[-1] == (1.1, "won", "4a")


def test_one_familys_flood_goes_on_when_the_other_family_has_nothing() -> None:
    """What was held back is tried after all, up to 32."""
    driver = Driver()
    driver.event(0.0, "answer", V6, *many(V6, 40))
    refused_as_they_start(driver)
    driver.event(1.0, "no answer", V4)
    assert refused_as_they_start(driver) == many(V6, 32)
    assert driver.race.ignored == 8
    assert driver.log[-1][1] == "lost"


def test_duplicate_addresses_are_tried_once() -> None:
    """Inside one answer and between two; and they are not counted as ignored."""
    rows = run((0.0, "answer", V6, "a", "a", "b"), (0.0, "answer", V4, "b", "c", "a"))
    assert [name for _, _, name in rows] == ["a", "c", "b"]
    driver = Driver([V6])
    driver.event(0.0, "answer", V6, *["a"] * 100)
    assert driver.race.ignored == 0


def test_a_second_answer_of_one_family_is_ignored() -> None:
    """A lookup answers once; what a confused driver adds changes nothing."""
    assert run((0.0, "answer", V6, "6a"), (0.1, "answer", V6, "6b"), (0.2, "no answer", V6)) == [(0.0, "start", "6a")]


def test_addresses_that_differ_in_their_scope_are_different() -> None:
    """anyio's trap: fe80::1 is another machine on each link. The address goes out as it came in."""
    links = [SocketAddress("fe80::1%eth0", 80), SocketAddress("fe80::1%eth1", 80), SocketAddress("fe80::1%eth0", 80)]
    race: Race[SocketAddress] = Race([V6])
    assert race.addresses(V6, links, 0.0) == [Start(1, links[0])]
    assert race.tick(0.25) == [Start(2, links[1])]
    assert race.wake_at is None


def test_a_third_family_does_not_prolong_the_resolution_delay() -> None:
    """The engine counts no families: the first answer begins the delay, later ones leave it."""
    rows = run((0.0, "answer", V4, "4a"), (0.04, "answer", 1, "1a"), families=(V6, V4, 1))
    assert rows == [(0.05, "start", "4a"), (0.3, "start", "1a")]


# ---- what holds in every race --------------------------------------------------------------------

names = st.integers(0, 45).map(str)
steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.001, 0.03, 0.05, 0.1, 0.25, 0.4, 1.0]),
        st.sampled_from(["answer", "answer", "no answer", *["fails"] * 4, "connects", "tick"]),
        st.integers(0, 5),
        st.lists(names, max_size=45),
    ),
    max_size=40,
)


class Judge(Driver):
    """A driver that checks the promises after every event."""

    def __init__(self, **setup: Any) -> None:
        super().__init__(**setup)
        self.offered: dict[str, None] = {}
        self.answered: set[int] = set()
        self.last_start: float | None = None
        self.free_starts = 0
        self.over = False

    def event(self, now: float, kind: str, *facts: Any) -> None:
        if kind in ("answer", "no answer") and not self.over and facts[0] not in self.answered:
            self.answered.add(facts[0])
            self.offered |= dict.fromkeys(facts[1:])
        before = len(self.log)
        super().event(now, kind, *facts)
        if kind == "fails":
            self.free_starts = 1
        for _, what, *about in self.log[before:]:
            assert not self.over, "nothing follows the end"
            if what == "start":
                paced = self.last_start is None or now - self.last_start >= self.race._delay - 1e-9
                assert paced or self.free_starts, "two starts too close, and no failure between them"
                self.last_start, self.free_starts = now, 0
                assert len(self.in_flight) <= engine.MOST_IN_FLIGHT
            elif what == "cancel":
                assert about[0] not in self.in_flight
            elif what == "won":
                assert self.in_flight == about, "every other attempt is cancelled before"
                self.over = True
            else:
                assert self.in_flight == []
                assert self.answered == {V6, V4}
                assert len(self.numbers) == min(len(self.offered), engine.MOST_ADDRESSES), "an address was starved"
                self.over = True
        assert set(self.numbers) <= set(self.offered)
        assert self.race.ignored == max(0, len(self.offered) - engine.MOST_ADDRESSES)
        if self.race.wake_at is None:
            assert self.race.tick(now + 1e6) == [], "no timer is set, yet time changes something"
        else:
            assert not self.over
            assert self.race.wake_at >= now, "what is due has been done"
            assert self.race.tick(math.nextafter(self.race.wake_at, -NEVER)) == [], "the timer is set too late"


@settings(max_examples=500)
@given(steps=steps, delay=st.sampled_from([0.01, 0.25, 2.0]))
def test_every_race_keeps_its_promises(steps: list[tuple[float, str, int, list[str]]], delay: float) -> None:
    """Random events in random order, then an end to everything that is open."""
    judge = Judge(attempt_delay=delay)
    now = 0.0
    for pause, kind, number, found in steps:
        now += pause
        judge.until(now)
        if kind == "answer":
            judge.event(now, kind, V6 if number % 2 else V4, *found)
        elif kind == "no answer":
            judge.event(now, kind, V6 if number % 2 else V4)
        elif kind == "tick":
            judge.event(now, kind)
        elif judge.in_flight:
            judge.event(now, kind, judge.in_flight[number % len(judge.in_flight)])
    for family in (V6, V4):
        judge.event(now, "no answer", family)
    while judge.in_flight:
        judge.until(now)
        judge.event(now, "fails", judge.in_flight[0])
    assert judge.over
    assert [row[1] for row in judge.log].count("won") + [row[1] for row in judge.log].count("lost") == 1
