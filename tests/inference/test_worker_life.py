"""The worker: starting, failing, stopping, changing models. No test depends on speed."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from streamguard.errors import BundleError, EngineError
from streamguard.inference.scorer import HopResult, Models
from streamguard.inference.settings import InferenceSettings
from streamguard.inference.worker import InferenceWorker
from tests.inference.makers import (
    block,
)
from tests.inference.worker_rig import (
    SETTINGS,
    GatedScorer,
    Results,
    accounted,
    detector,
    real_scorer,
    running,
    until,
)


async def test_it_is_ready_only_after_the_warm_up() -> None:
    loading = threading.Event()

    def make() -> GatedScorer:
        assert loading.wait(10)
        return scorer

    scorer = GatedScorer()
    worker = InferenceWorker(make, Results().take, SETTINGS)
    start = asyncio.create_task(worker.start())
    await asyncio.sleep(0.02)
    assert not start.done()
    loading.set()
    await start
    assert scorer.warm
    assert await worker.stop(5.0)


async def test_what_loading_raises_start_raises() -> None:
    def make() -> GatedScorer:
        raise BundleError("tiny/bundle.yaml", "task: magic")

    worker = InferenceWorker(make, Results().take, SETTINGS, name="inference-test")
    with pytest.raises(BundleError, match="magic"):
        await worker.start()
    assert "inference-test" not in {thread.name for thread in threading.enumerate()}


async def test_an_exception_in_the_thread_reaches_the_owner_and_everybody_who_waits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    results, scorer = Results(), GatedScorer()
    async with running(lambda: scorer, results) as worker:
        owner = asyncio.create_task(worker.wait())
        scorer.gate.clear()
        scorer.error = EngineError("test", "the graph broke")
        for i in range(3):
            await worker.submit(block("a", i))
        closing = asyncio.create_task(worker.close_leg("a"))
        await asyncio.sleep(0)
        scorer.gate.set()
        with pytest.raises(EngineError, match="the graph broke"):
            await owner
        await closing
        with pytest.raises(EngineError, match="has died"):
            await worker.submit(block("b", 0))
        with pytest.raises(EngineError, match="has died"):
            worker.submit_nowait(block("b", 0))
        assert worker.stats().dropped == {"failed": 3}
    assert "inference has died" in caplog.text
    assert scorer.closed


async def test_an_exception_in_the_callback_reaches_the_owner(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(result: HopResult) -> None:
        raise ValueError(f"cannot take hop {result.index}")

    scorer = GatedScorer()
    worker = InferenceWorker(lambda: scorer, broken, SETTINGS)
    await worker.start()
    await worker.submit(block("a", 0))
    with pytest.raises(ValueError, match="cannot take hop 0"):
        await worker.wait()
    assert await worker.stop(5.0)
    assert "inference has died" in caplog.text


async def test_stopping_drains_what_waits() -> None:
    results, scorer = Results(), GatedScorer()
    worker = InferenceWorker(lambda: scorer, results.take, SETTINGS)
    await worker.start()
    for i in range(4):
        worker.submit_nowait(block("a", i))
    assert await worker.stop(5.0)
    await worker.wait()
    assert results.of("a") == [0, 1, 2, 3]
    worker.submit_nowait(block("a", 4))
    assert worker.stats().dropped == {"shutdown": 1}
    assert accounted(worker.stats())


async def test_stopping_can_abandon_what_waits_and_counts_it() -> None:
    results, scorer = Results(), GatedScorer()
    worker = InferenceWorker(lambda: scorer, results.take, SETTINGS)
    await worker.start()
    scorer.gate.clear()
    worker.submit_nowait(block("a", 0))
    await until(scorer.entered.is_set)
    for i in range(1, 4):
        worker.submit_nowait(block("a", i))
    stop = asyncio.create_task(worker.stop(5.0, drain=False))
    await asyncio.sleep(0)
    scorer.gate.set()
    assert await stop
    assert results.of("a") == [0]
    assert worker.stats().dropped == {"shutdown": 3}
    assert accounted(worker.stats())


async def test_a_stuck_thread_does_not_hold_up_the_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scorer = GatedScorer()
    worker = InferenceWorker(lambda: scorer, Results().take, SETTINGS, name="stuck")
    await worker.start()
    scorer.gate.clear()
    worker.submit_nowait(block("a", 0))
    await until(scorer.entered.is_set)
    assert not await worker.stop(0.05)
    assert "the thread stuck did not end" in caplog.text
    scorer.gate.set()
    await until(lambda: "stuck" not in {thread.name for thread in threading.enumerate()})


async def test_a_slow_event_loop_holds_the_thread_and_not_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamguard.inference.worker.MAX_UNDELIVERED", 2)
    scorer, taken = GatedScorer(), asyncio.Event()

    async def slow(result: HopResult) -> None:
        await taken.wait()

    settings = InferenceSettings(max_batch=1, max_wait_ms=0.0)
    worker = InferenceWorker(lambda: scorer, slow, settings)
    await worker.start()
    for i in range(4):
        worker.submit_nowait(block("a", i))
    await until(lambda: worker.stats().undelivered == 2)
    await asyncio.sleep(0.02)
    assert (worker.stats().undelivered, worker.stats().depth) == (2, 2)
    taken.set()
    await until(lambda: worker.stats().processed == 4)
    assert await worker.stop(5.0)


async def test_models_are_replaced_while_running_and_kept_if_the_new_ones_are_bad() -> None:
    results = Results()
    async with running(real_scorer, results) as worker:
        for i in range(7):
            await worker.submit(block("a", i))

        def bad() -> Models:
            raise BundleError("tiny/bundle.yaml", "wrong hash")

        with pytest.raises(BundleError, match="wrong hash"):
            await worker.replace_models(bad)
        await worker.submit(block("a", 7))
        await until(lambda: len(results.of("a")) == 8)
        await worker.replace_models(detector)
        for i in range(8, 15):
            await worker.submit(block("a", i))
        await worker.close_leg("a")
    scored = [r.index for r in results if r.score is not None]
    assert scored == [5, 6, 7, 13, 14]


async def test_a_leg_that_was_never_heard_is_closed_at_once() -> None:
    async with running(GatedScorer, Results()) as worker:
        await worker.close_leg("nobody")


async def test_a_leg_that_is_being_closed_takes_no_more_audio() -> None:
    results, scorer = Results(), GatedScorer()
    async with running(lambda: scorer, results) as worker:
        scorer.gate.clear()
        worker.submit_nowait(block("a", 0))
        closing = asyncio.create_task(worker.close_leg("a"))
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="being closed"):
            worker.submit_nowait(block("a", 1))
        scorer.gate.set()
        await closing


async def test_closing_legs_does_not_wait_for_others_to_fill_a_batch() -> None:
    results = Results()
    settings = InferenceSettings(max_wait_ms=250.0, queue_hops_total=512)
    async with running(GatedScorer, results, settings) as worker:
        legs = [f"leg{i}" for i in range(300)]
        for leg in legs:
            worker.submit_nowait(block(leg, 0, seed=0))
        await until(lambda: worker.stats().processed == len(legs))
        # One after the other, 250 ms each would outlast the test's timeout.
        for leg in legs[:100]:
            await worker.close_leg(leg)
        await asyncio.gather(*(worker.close_leg(leg) for leg in legs[100:]))
    assert sum(result.index == 999 for result in results) == len(legs)


async def test_a_leg_is_closed_soon_after_a_long_stall() -> None:
    results, scorer = Results(), GatedScorer()
    async with running(lambda: scorer, results) as worker:
        scorer.gate.clear()
        worker.submit_nowait(block("a", 0))
        await until(scorer.entered.is_set)
        for i in range(1, 600):
            worker.submit_nowait(block("a", i, seed=0))
        scorer.gate.set()
        await worker.close_leg("a")
    assert scorer.masked == []
    assert results.of("a")[-2:] == [599, 999]
    assert len(results) < 10


async def test_the_stats_say_since_when_a_batch_is_in_flight() -> None:
    results, scorer = Results(), GatedScorer()
    async with running(lambda: scorer, results) as worker:
        assert worker.stats().busy_since is None
        scorer.gate.clear()
        before = time.monotonic()
        worker.submit_nowait(block("a", 0))
        await until(scorer.entered.is_set)
        since = worker.stats().busy_since
        assert since is not None
        assert before <= since <= time.monotonic()
        worker.submit_nowait(block("a", 1))
        assert worker.stats().busy_since == since, "stuck on the same batch"
        scorer.gate.set()
        await until(lambda: worker.stats().processed == 2)
        assert worker.stats().busy_since is None


async def test_a_worker_that_died_is_not_busy() -> None:
    results, scorer = Results(), GatedScorer()
    scorer.error = EngineError("test", "the graph broke")
    async with running(lambda: scorer, results) as worker:
        worker.submit_nowait(block("a", 0))
        with pytest.raises(EngineError):
            await worker.wait()
        assert worker.stats().busy_since is None
