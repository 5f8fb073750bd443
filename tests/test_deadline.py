"""Two clocks, one piece of arithmetic: what a limit may be, and which of two comes first."""

from __future__ import annotations

import math
import select
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from landline import deadline
from landline.deadline import LONGEST, Deadline, checked_timeout


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, as a list of one number that a test sets."""
    now = [1000.0]
    monkeypatch.setattr(deadline, "monotonic", lambda: now[0])
    return now


# ---- what a limit may be -------------------------------------------------------------------------------


def test_none_is_no_limit_and_zero_does_not_wait() -> None:
    assert checked_timeout(None, "timeout") is None
    assert checked_timeout(0, "timeout") == 0.0
    assert checked_timeout(-0.0, "timeout") == 0.0


@pytest.mark.parametrize("value", [1, 0.5, Decimal("2.5"), Fraction(1, 2)])
def test_any_number_of_seconds_is_a_limit(value: Any) -> None:
    limit = checked_timeout(value, "timeout")
    assert limit == float(value)
    assert type(limit) is float


@pytest.mark.parametrize("value", [math.inf, LONGEST + 1, 2**63, 1e300])
def test_a_limit_longer_than_the_system_can_count_is_none(value: float) -> None:
    assert checked_timeout(value, "timeout") is None


@pytest.mark.skipif(not hasattr(select, "poll"), reason="needs poll()")
def test_the_longest_limit_is_one_that_poll_takes() -> None:
    ready = select.poll()
    with open("/dev/null", "rb") as always_ready:
        ready.register(always_ready)
        assert ready.poll(LONGEST * 1000)
        with pytest.raises(OverflowError):
            ready.poll((LONGEST + 1) * 1000)
    assert checked_timeout(LONGEST, "timeout") == LONGEST


@pytest.mark.parametrize("value", [-1, -1e-9, math.nan, -math.inf])
def test_a_negative_limit_and_nan_are_value_errors_that_name_them(value: float) -> None:
    with pytest.raises(ValueError) as caught:
        checked_timeout(value, "read_timeout")
    assert f"read_timeout={float(value)!r} is not allowed" in str(caught.value)


@pytest.mark.parametrize("value", ["1", True, False, b"1", [1], 1j])
def test_what_is_no_number_is_a_type_error_that_names_it(value: Any) -> None:
    with pytest.raises(TypeError) as caught:
        checked_timeout(value, "timeout")
    assert f"timeout={value!r} is not allowed" in str(caught.value)


# ---- which comes first -----------------------------------------------------------------------------------


def test_a_wait_lasts_as_long_as_the_smaller_of_idle_limit_and_what_is_left(clock: list[float]) -> None:
    until = Deadline.after(10)
    assert until.at == 1010
    assert until.limit() == 10
    assert until.limit(3) == 3
    assert until.limit(0) == 0
    clock[0] = 1008
    assert until.limit(3) == 2
    assert until.limit(None) == 2
    assert not until.passed


def test_what_is_left_is_never_below_zero(clock: list[float]) -> None:
    until = Deadline.after(1)
    clock[0] = 1001
    assert until.passed
    clock[0] = 2000
    assert until.limit() == 0
    assert until.limit(5) == 0


def test_no_deadline_never_comes(clock: list[float]) -> None:
    never = Deadline.after(None)
    clock[0] = 1e9
    assert never.at is None
    assert not never.passed
    assert never.limit() is None
    assert never.limit(4) == 4


def test_a_deadline_of_zero_seconds_has_passed_at_once(clock: list[float]) -> None:
    assert Deadline.after(0).passed
    assert Deadline.after(0).limit() == 0


def test_the_sooner_of_two_deadlines_wins() -> None:
    early, late, never = Deadline(1.0), Deadline(2.0), Deadline(None)
    assert early.sooner(late) is early
    assert late.sooner(early) is early
    assert early.sooner(never) is early
    assert never.sooner(early) is early
    assert early.sooner(None) is early
    assert never.sooner(None) is never
    assert never.sooner(never) is never
