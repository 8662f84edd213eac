"""The worker: order, bounds, back-pressure, fairness. No test depends on speed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from streamguard.audio.frames import RawBlock
from streamguard.inference.scorer import HopResult, Scorer
from streamguard.inference.settings import InferenceSettings
from streamguard.verdict.scores import Rejection
from tests.inference.makers import (
    PlainFrontEnd,
    block,
    judge,
)
from tests.inference.worker_rig import (
    GatedScorer,
    Results,
    accounted,
    detector,
    real_scorer,
    running,
    until,
)


async def test_results_come_on_the_loop_in_order_from_one_named_thread() -> None:
    results, scorer = Results(), GatedScorer()
    async with running(lambda: scorer, results) as worker:
        for i in range(10):
            await worker.submit(block("a", i))
            await worker.submit(block("b", i))
        await worker.close_leg("a")
        await worker.close_leg("b")
        stats = worker.stats()
    assert results.of("a") == results.of("b") == [*range(10), 999]
    assert scorer.thread == "inference-test"
    assert (stats.submitted, stats.processed, stats.depth) == (20, 20, 0)
    assert sum(size * n for size, n in stats.batch_sizes.items()) == 20
    assert stats.busy_s > 0
    assert scorer.closed


async def test_a_live_leg_that_is_behind_loses_its_oldest_blocks_and_keeps_its_grid() -> None:
    results, scorer = Results(), GatedScorer()
    async with running(lambda: scorer, results) as worker:
        scorer.gate.clear()
        worker.submit_nowait(block("a", 0))
        await until(scorer.entered.is_set)
        for i in range(1, 8):
            worker.submit_nowait(block("a", i))
        stats = worker.stats()
        assert (stats.depth, stats.in_flight, stats.dropped) == (4, 1, {"overload": 3})
        assert accounted(stats)
        scorer.gate.set()
        await worker.close_leg("a")
    assert results.of("a") == [*range(8), 999]
    assert scorer.masked == [("a", 1), ("a", 2), ("a", 3)]


async def test_overload_reaches_the_windows() -> None:
    held = threading.Event()

    class Slow(Scorer):
        def process(
            self, blocks: Sequence[RawBlock], *, shed_attribution: bool = False
        ) -> list[HopResult]:
            if blocks[0].first_sample == 0:
                held.wait(10)
            return super().process(blocks, shed_attribution=shed_attribution)

    results = Results()
    async with running(
        lambda: Slow(detector(), front_end=PlainFrontEnd, judge=judge), results
    ) as worker:
        worker.submit_nowait(block("a", 0))
        await until(lambda: worker.stats().in_flight == 1)
        for i in range(1, 6):
            worker.submit_nowait(block("a", i))
        held.set()
        await until(lambda: worker.stats().depth == 0)
        for i in range(6, 9):
            await worker.submit(block("a", i))
        await worker.close_leg("a")
    said = [r.score.rejected for r in results if r.score is not None]
    assert said == [Rejection.OVERLOAD, Rejection.OVERLOAD, None, None]


async def test_a_file_waits_and_loses_nothing() -> None:
    results, scorer = Results(), GatedScorer()
    async with running(lambda: scorer, results) as worker:
        scorer.gate.clear()

        async def read() -> None:
            for i in range(40):
                await worker.submit(block("file", i))

        reader = asyncio.create_task(read())
        await until(lambda: worker.stats().depth == 4)
        await asyncio.sleep(0.02)
        assert not reader.done()
        assert worker.stats().submitted == worker.stats().in_flight + 4
        scorer.gate.set()
        await reader
        await worker.close_leg("file")
        assert worker.stats().dropped == {}
    assert results.of("file") == [*range(40), 999]


async def test_a_greedy_leg_does_not_hold_up_another() -> None:
    results, scorer = Results(), GatedScorer()
    async with running(lambda: scorer, results) as worker:
        scorer.gate.clear()
        worker.submit_nowait(block("x", 0))
        await until(scorer.entered.is_set)
        for i in range(4):
            worker.submit_nowait(block("greedy", i))
        worker.submit_nowait(block("modest", 0))
        scorer.gate.set()
        await until(lambda: worker.stats().depth == 0 and len(results) == 6)
    assert scorer.batches[1][:2] == [("greedy", 0), ("modest", 0)]


@pytest.mark.parametrize(
    ("late_s", "shed"), [(0.06, [False, True, False, False]), (0.04, [False] * 4)]
)
async def test_attribution_is_shed_only_while_another_live_batch_waits_behind_a_late_one(
    late_s: float, shed: list[bool]
) -> None:
    results, scorer = Results(), GatedScorer()
    settings = InferenceSettings(max_batch=2, max_wait_ms=1.0)
    async with running(lambda: scorer, results, settings, now_s=0.5 + late_s) as worker:
        scorer.gate.clear()
        worker.submit_nowait(block("a", 0))
        await until(scorer.entered.is_set)
        for leg in "abcde":
            worker.submit_nowait(block(leg, 1))
        scorer.gate.set()
        await until(lambda: len(results) == 6)
    assert scorer.batches[1:] == [
        [("a", 1), ("b", 1)],
        [("c", 1), ("d", 1)],
        [("e", 1)],
    ]
    assert scorer.shed == shed


async def test_two_legs_at_once_score_as_each_alone() -> None:
    def llrs(results: Results, leg: str) -> dict[int, float]:
        return {
            r.index: r.score.llr
            for r in results
            if r.leg == leg and r.score is not None and r.score.llr is not None
        }

    async def run(*legs: str) -> Results:
        results = Results()
        async with running(real_scorer, results) as worker:

            async def play(leg: str) -> None:
                for i in range(12):
                    await worker.submit(block(leg, i, level=0.1 * (leg == "a") + 0.01 * i))
                await worker.close_leg(leg)

            async with asyncio.TaskGroup() as group:
                for leg in legs:
                    group.create_task(play(leg))
        return results

    both = await run("a", "b")
    for leg in "ab":
        alone = llrs(await run(leg), leg)
        assert len(alone) == 7
        assert llrs(both, leg) == pytest.approx(alone, abs=1e-4)
