"""Calls beside the event loop that do not hold the end of the process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading

import pytest

from streamguard.detached import run_detached


async def test_the_caller_gets_the_result_or_the_error() -> None:
    assert await run_detached(lambda: 7, "test") == 7
    with pytest.raises(ZeroDivisionError):
        await run_detached(lambda: 1 // 0, "test")


async def test_a_result_that_nobody_waits_for_is_discarded() -> None:
    may_go, discarded = threading.Event(), threading.Event()
    found: list[int] = []

    def call() -> int:
        may_go.wait(5)
        return 7

    def discard(value: int) -> None:
        found.append(value)
        discarded.set()

    task = asyncio.create_task(run_detached(call, "test", discard))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert found == []
    may_go.set()
    assert await asyncio.to_thread(discarded.wait, 5)
    assert found == [7]


async def test_a_result_that_comes_together_with_the_cancellation_is_discarded() -> None:
    finished, discarded = threading.Event(), threading.Event()
    task = asyncio.create_task(run_detached(finished.set, "test", lambda _: discarded.set()))
    await asyncio.sleep(0)
    finished.wait(5)  # blocks the loop on purpose: the result is there, and nobody has seen it
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(discarded.wait, 5)


def test_a_call_that_hangs_does_not_hold_the_end_of_the_process() -> None:
    script = """
        import asyncio, threading
        from streamguard.detached import run_detached

        async def main():
            task = asyncio.create_task(run_detached(threading.Event().wait, "hangs"))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.wait([task])

        asyncio.run(main())
    """
    ended = subprocess.run((sys.executable, "-c", textwrap.dedent(script)), timeout=15)
    assert ended.returncode == 0
