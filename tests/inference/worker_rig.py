"""Workers, scorers and callbacks that a test can hold and break."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from streamguard.audio.frames import Mask, RawBlock
from streamguard.inference.handover import ScorerLike, WorkerStats
from streamguard.inference.network import Network
from streamguard.inference.scorer import HopResult, Models, Scorer
from streamguard.inference.settings import InferenceSettings
from streamguard.inference.worker import InferenceWorker
from tests.inference.makers import (
    NumpyEngine,
    PlainFrontEnd,
    bundle_of,
    detection_document,
    judge,
)

SETTINGS = InferenceSettings(queue_hops_per_leg=4, queue_hops_total=32, max_wait_ms=1.0)


def detector() -> Models:
    return Models(Network(bundle_of(detection_document(state=True)), NumpyEngine(state=True)))


def real_scorer() -> Scorer:
    return Scorer(detector(), front_end=PlainFrontEnd, judge=judge)


class GatedScorer:
    """Answers each block with a bare result; a test holds and breaks it."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.counts: Mapping[str, int] = {}
        self.attribution_counts: Mapping[str, int] = {}
        self.batches: list[list[tuple[str, int]]] = []
        self.shed: list[bool] = []
        self.masked: list[tuple[str, int]] = []
        self.error: Exception | None = None
        self.warm = False
        self.closed = False
        self.thread = ""

    def process(
        self, blocks: Sequence[RawBlock], *, shed_attribution: bool = False
    ) -> list[HopResult]:
        self.entered.set()
        assert self.gate.wait(10), "the test never opened the gate"
        if self.error is not None:
            raise self.error
        self.thread = threading.current_thread().name
        self.shed.append(shed_attribution)
        hops = [(b.leg, b.first_sample // 8000) for b in blocks]
        self.batches.append(hops)
        self.masked += [
            (b.leg, b.first_sample // 8000)
            for b in blocks
            if any(span.mask & Mask.OVERLOAD for span in b.spans)
        ]
        return [HopResult(leg, 0, index, None, None) for leg, index in hops]

    def close_leg(self, leg: str, *, shed_attribution: bool = False) -> list[HopResult]:
        return [HopResult(leg, 0, 999, None, None)]

    def replace_models(self, models: Models) -> None:
        raise AssertionError("not used")

    def warm_up(self) -> None:
        self.warm = True

    def close(self) -> None:
        self.closed = True


class Results(list[HopResult]):
    async def take(self, result: HopResult) -> None:
        self.append(result)

    def of(self, leg: str) -> list[int]:
        return [result.index for result in self if result.leg == leg]


@asynccontextmanager
async def running(
    make_scorer: Callable[[], ScorerLike],
    results: Results,
    settings: InferenceSettings = SETTINGS,
    now_s: float = 0.0,
) -> AsyncIterator[InferenceWorker]:
    """``now_s``: by the clock of the blocks, on which hop ``n`` has come after ``n / 2`` s."""
    worker = InferenceWorker(
        make_scorer, results.take, settings, name="inference-test", now=lambda: now_s
    )
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop(5.0, drain=False)
    assert "inference-test" not in {thread.name for thread in threading.enumerate()}
    assert accounted(worker.stats())


def accounted(stats: WorkerStats) -> bool:
    known = stats.processed + sum(stats.dropped.values()) + stats.depth + stats.in_flight
    return stats.submitted == known


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop and the thread work until something is so (the test's timeout is the limit)."""
    while not condition():  # noqa: ASYNC110  # what is awaited happens in a thread
        await asyncio.sleep(0.002)
