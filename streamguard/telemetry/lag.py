"""How late the event loop is: everything that shares it is at least as late."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

INTERVAL_S: Final = 0.5
MEMORY_S: Final = 15.0
"""The usual scrape interval: a spike between two scrapes is still seen by the second."""


async def sample_loop_lag(
    report: Callable[[float], object],
    interval_s: float = INTERVAL_S,
    memory_s: float = MEMORY_S,
) -> None:
    """Report the worst lag of the last ``memory_s``, in seconds, until cancelled."""
    loop = asyncio.get_running_loop()
    lags: deque[float] = deque(maxlen=max(1, round(memory_s / interval_s)))
    while True:
        due = loop.time() + interval_s
        await asyncio.sleep(interval_s)
        lags.append(max(0.0, loop.time() - due))
        report(max(lags))
