"""The search for a count of legs: close to the truth, cheap, and not thrown by one bad second."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamguard.bench.capacity import CLOSE_ENOUGH, most_legs

TRIAL_S = 4.0


class Machine:
    """Holds ``limit`` legs, but for the trials in ``bad``; its clock runs while it is tried."""

    def __init__(self, limit: int, bad: frozenset[int] = frozenset()) -> None:
        self.limit = limit
        self.bad = bad
        self.tried: list[int] = []

    async def holds(self, legs: int) -> bool:
        self.tried.append(legs)
        return legs <= self.limit and len(self.tried) not in self.bad

    def now(self) -> float:
        return TRIAL_S * len(self.tried)


@given(st.integers(1, 4_000), st.integers(1, 4_000))
async def test_what_is_found_is_held_and_close_to_the_limit(limit: int, first: int) -> None:
    machine = Machine(limit)
    found = await most_legs(machine.holds, first, 4_000, most_trials=60)
    assert found in machine.tried
    assert found <= limit
    assert limit <= max(CLOSE_ENOUGH * found, found + 1)


@given(st.integers(50, 2_000), st.floats(0.7, 1.4))
async def test_from_a_fair_estimate_a_few_trials_are_enough(limit: int, estimate: float) -> None:
    machine = Machine(limit)
    found = await most_legs(machine.holds, round(limit * estimate), 4_000)
    assert limit <= max(CLOSE_ENOUGH * found, found + 1)
    assert len(machine.tried) <= 9


async def test_nothing_is_found_where_not_even_one_leg_is_held() -> None:
    assert await most_legs(Machine(0).holds, 64, 100, most_trials=60) == 0


async def test_no_more_is_tried_than_there_may_be() -> None:
    machine = Machine(1_000)
    assert await most_legs(machine.holds, 3, 50, most_trials=60) == 50
    assert max(machine.tried) == 50


@given(st.integers(1, 8))
async def test_one_bad_second_costs_a_trial_and_no_legs(when: int) -> None:
    machine = Machine(100, frozenset({when}))
    found = await most_legs(machine.holds, 90, 1_000, most_trials=60)
    assert found <= 100 <= CLOSE_ENOUGH * found


async def test_the_count_that_ends_the_search_has_failed_twice() -> None:
    machine = Machine(100)
    found = await most_legs(machine.holds, 90, 1_000)
    ended_by = min(legs for legs in machine.tried if legs > found)
    assert machine.tried.count(ended_by) == 2


async def test_a_search_is_over_after_so_many_trials() -> None:
    machine = Machine(517)
    await most_legs(machine.holds, 1, 4_000, most_trials=5)
    assert len(machine.tried) == 5


async def test_no_trial_begins_when_the_time_is_over_and_what_was_held_by_then_counts() -> None:
    machine = Machine(517)
    found = await most_legs(machine.holds, 400, 4_000, seconds=2.5 * TRIAL_S, now=machine.now)
    assert machine.tried == [400, 481, 693]
    assert found == 481
