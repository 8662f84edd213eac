"""How many legs are held: found by trying, not by dividing."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable

CLOSE_ENOUGH = 1.06
"""The search ends when the lowest count that failed is within this factor of the best one."""
MOST_TRIALS = 16
GROWTH = 1.2
LARGEST_GROWTH = 4.0


async def most_legs(
    holds: Callable[[int], Awaitable[bool]],
    first: int,
    most: int,
    *,
    close_enough: float = CLOSE_ENOUGH,
    most_trials: int = MOST_TRIALS,
    seconds: float = math.inf,
    now: Callable[[], float] = time.monotonic,
) -> int:
    """The largest count of legs that ``holds`` says yes to, within ``close_enough``; 0 for none.

    Steps grow until the limit lies between two counts, and are halved from there. A count that
    fails may have been somebody else's second on this machine: the one that would end the search is
    tried once more. No trial begins after ``seconds``: what was held by then is the answer.
    """
    end = now() + seconds
    best, legs, stride = 0, max(1, min(first, most)), GROWTH
    failed: dict[int, int] = {}
    """Count of legs -> how often it failed, of those above the best."""
    for _ in range(most_trials):
        if now() >= end:
            break
        if await holds(legs):
            best = max(best, legs)
            failed = {count: times for count, times in failed.items() if count > best}
        else:
            failed[legs] = failed.get(legs, 0) + 1
        worst = min(failed, default=most + 1)
        if best >= most:
            break
        if failed and worst <= max(best * close_enough, best + 1):
            if failed[worst] > 1:
                break
            legs = worst
        elif best and failed:
            legs = (best + worst) // 2
        else:
            legs = max(1, int(worst / stride)) if failed else int(best * stride) + 1
            legs = min(legs, most)
            stride = min(LARGEST_GROWTH, stride * GROWTH)
    return best
