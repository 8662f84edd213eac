"""Live legs that the engine stage holds within a latency budget, on one core and on all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from streamguard.bench.capacity import most_legs
from streamguard.bench.load import LoadRig, LoadTrial, running
from streamguard.inference.pair import PairNames
from streamguard.process import loop_factory
from streamguard.status import rss_mb

MOST_LEGS = 4_000


@dataclass(frozen=True, slots=True)
class EngineCapacity:
    """What a search found."""

    legs: int
    cores: int
    """That the daemon was held to."""
    best: LoadTrial | None
    first_failed: LoadTrial | None
    bare_mb: float
    """Resident memory of the warm daemon before its first leg."""
    trials: int

    @property
    def mb_per_leg(self) -> float | None:
        """Resident memory of the daemon per live leg; None where no trial was held."""
        if self.best is None:
            return None
        return max(0.0, self.best.rss_mb - self.bare_mb) / self.best.legs

    def as_json(self) -> dict[str, Any]:
        return {
            "legs": self.legs,
            "cores": self.cores,
            "best": self.best.as_json() if self.best else None,
            "first_failed": self.first_failed.as_json() if self.first_failed else None,
            "trials": self.trials,
        }


@dataclass(frozen=True, slots=True)
class LoadQuestion:
    """What is asked of a pair."""

    pair: PairNames
    share: float
    budget_ms: float
    trial_s: float
    search_s: float
    first_legs: int
    """Where the search begins; what it finds does not depend on it."""


def engine_capacity(console: Console, question: LoadQuestion, *, one_core: bool) -> EngineCapacity:
    """Search; raises what starting the daemon raises."""
    with _held_to(1 if one_core else None) as cores:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_search(console, question, cores))


async def _search(console: Console, question: LoadQuestion, cores: int) -> EngineCapacity:
    trials: list[LoadTrial] = []
    async with running(question.pair, question.share, MOST_LEGS) as rig:
        bare_mb = rss_mb()

        async def holds(legs: int) -> bool:
            trial = await _trial(console, rig, legs, question.trial_s, cores)
            trials.append(trial)
            return trial.holds(question.budget_ms)

        legs = await most_legs(holds, question.first_legs, MOST_LEGS, seconds=question.search_s)
    held = [t for t in trials if t.legs == legs and t.holds(question.budget_ms)]
    failed = [t for t in trials if t.legs > legs]
    return EngineCapacity(
        legs=legs,
        cores=cores,
        best=held[-1] if held else None,
        first_failed=min(failed, key=lambda trial: trial.legs, default=None),
        bare_mb=bare_mb,
        trials=len(trials),
    )


async def _trial(
    console: Console, rig: LoadRig, legs: int, seconds: float, cores: int
) -> LoadTrial:
    with console.status(f"{legs} live legs on {cores} core{'s' if cores > 1 else ''}"):
        return await rig.trial(legs, seconds)


@contextmanager
def _held_to(cores: int | None) -> Iterator[int]:
    """Threads that start inside run on so many cores, the last ones of those that we may use."""
    before = os.sched_getaffinity(0)
    if cores is None:
        yield len(before)
        return
    os.sched_setaffinity(0, sorted(before)[-cores:])
    try:
        yield cores
    finally:
        os.sched_setaffinity(0, before)
