"""The search for a count of legs: close to the truth, and not thrown by one bad second."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamguard.bench.capacity import most_legs


@given(st.integers(1, 4_000), st.integers(1, 4_000))
async def test_what_is_found_is_held_and_close_to_the_limit(limit: int, first: int) -> None:
    async def holds(legs: int) -> bool:
        return legs <= limit

    found = await most_legs(holds, first, 4_000, most_trials=60)
    assert found <= limit
    assert limit <= max(1.08 * found, found + 1)


async def test_nothing_is_found_where_not_even_one_leg_is_held() -> None:
    async def holds(legs: int) -> bool:
        return False

    assert await most_legs(holds, 64, 100, most_trials=60) == 0


async def test_no_more_is_tried_than_there_may_be() -> None:
    tried: list[int] = []

    async def holds(legs: int) -> bool:
        tried.append(legs)
        return True

    assert await most_legs(holds, 3, 50) == 50
    assert max(tried) == 50


async def test_one_bad_second_does_not_end_the_search() -> None:
    tried: list[int] = []

    async def holds(legs: int) -> bool:
        tried.append(legs)
        return legs <= 100 and len(tried) != 1

    found = await most_legs(holds, 90, 1_000, most_trials=60)
    assert tried[:2] == [90, 90]
    assert 93 <= found <= 100


async def test_a_search_is_over_after_so_many_trials() -> None:
    tried: list[int] = []

    async def holds(legs: int) -> bool:
        tried.append(legs)
        return legs <= 517

    await most_legs(holds, 1, 4_000, most_trials=5)
    assert len(tried) == 5
