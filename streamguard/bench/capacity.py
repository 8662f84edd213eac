"""How many legs are held: found by trying, not by dividing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

CLOSE_ENOUGH = 1.08
"""The search ends when the lowest count that failed is within this factor of the best one."""
MOST_TRIALS = 12
GROWTH = 1.6


async def most_legs(
    holds: Callable[[int], Awaitable[bool]],
    first: int,
    most: int,
    *,
    close_enough: float = CLOSE_ENOUGH,
    most_trials: int = MOST_TRIALS,
    growth: float = GROWTH,
) -> int:
    """The largest count of legs that ``holds`` says yes to, within ``close_enough``; 0 for none.

    A count that fails is tried once more: it may have been somebody else's second on this machine.
    """
    best, worst, legs, trials = 0, most + 1, max(1, min(first, most)), 0
    while trials < most_trials:
        trials += 1
        held = await holds(legs)
        if not held and trials < most_trials:
            trials += 1
            held = await holds(legs)
        if held:
            best = max(best, legs)
        else:
            worst = min(worst, legs)
        if best >= most or worst <= max(best * close_enough, best + 1):
            break
        if worst > most:
            legs = min(most, max(best + 1, int(best * growth)))
        elif not best:
            legs = max(1, int(worst / growth))
        else:
            legs = (best + worst) // 2
    return best
