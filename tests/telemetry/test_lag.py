from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from streamguard.telemetry.lag import sample_loop_lag


async def test_a_blocked_loop_is_reported_and_later_forgotten() -> None:
    reported: list[float] = []
    task = asyncio.create_task(sample_loop_lag(reported.append, interval_s=0.01, memory_s=0.05))
    await asyncio.sleep(0.03)
    time.sleep(0.2)  # noqa: ASYNC251  # blocking the loop is what is tested
    await asyncio.sleep(0.02)
    assert max(reported) > 0.15
    worst = max(reported)
    while reported[-1] >= worst:  # noqa: ASYNC110  # the reports are what is waited for
        await asyncio.sleep(0.01)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
