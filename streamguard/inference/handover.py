"""What the event loop and the inference thread hand to each other, and what they share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from streamguard.audio.frames import RawBlock
from streamguard.errors import StreamguardError
from streamguard.inference.lanes import Lanes
from streamguard.inference.scorer import HopResult, Models
from streamguard.verdict.scores import Rejection


class ScorerLike(Protocol):
    """What the thread asks of :class:`streamguard.inference.scorer.Scorer`."""

    @property
    def counts(self) -> Mapping[str, int]: ...
    @property
    def attribution_counts(self) -> Mapping[str, int]: ...
    def process(
        self, blocks: Sequence[RawBlock], *, shed_attribution: bool = False
    ) -> list[HopResult]: ...
    def close_leg(self, leg: str, *, shed_attribution: bool = False) -> list[HopResult]: ...
    def replace_models(self, models: Models) -> None: ...
    def warm_up(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """A snapshot; ``submitted == processed + sum(dropped) + depth + in_flight``."""

    submitted: int
    processed: int
    dropped: Mapping[str, int]
    """Blocks by reason: ``overload``, ``shutdown``, ``failed``."""
    depth: int
    """Blocks that wait."""
    in_flight: int
    undelivered: int
    """Results that the event loop has not taken yet."""
    batches: int
    backlogs: int
    """Late batches behind which a whole further batch of live audio waited."""
    late: int
    """Windows of live legs that came after their deadline and were not used."""
    batch_sizes: Mapping[int, int]
    """Blocks per batch -> batches."""
    busy_s: float
    """Seconds that the thread spent in the scorer, on batches that are done."""
    busy_since: float | None
    """``time.monotonic`` when the batch in flight was begun; None where there is none."""
    scorer: Mapping[str, int]
    attribution: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the thread hands to the event loop: results, then futures that they complete."""

    results: tuple[HopResult, ...] = ()
    ended: tuple[str, ...] = ()
    """Legs that have no more results."""
    swapped: asyncio.Future[None] | None = None
    error: StreamguardError | None = None
    """Why a swap did not happen."""


@dataclass(frozen=True, slots=True, eq=False)
class Swap:
    make_models: Callable[[], Models]
    done: asyncio.Future[None]


@dataclass(slots=True)
class Shared:
    """What both threads touch, under the condition's lock only."""

    lanes: Lanes
    swap: Swap | None = None
    swapping: bool = False
    stopping: bool = False
    abandoning: bool = False
    in_flight: int = 0
    processed: int = 0
    undelivered: int = 0
    batches: int = 0
    backlogs: int = 0
    late: int = 0
    batch_sizes: Counter[int] = field(default_factory=Counter)
    busy_s: float = 0.0
    busy_since: float | None = None
    scorer_counts: Mapping[str, int] = field(default_factory=dict)
    attribution_counts: Mapping[str, int] = field(default_factory=dict)


def rejected(result: HopResult) -> HopResult:
    """The same, as a window that abstains for overload."""
    assert result.score is not None
    score = replace(result.score, rejected=Rejection.OVERLOAD, new_hops=0, attribution=None)
    return replace(result, score=score)


def settle(future: asyncio.Future[None], error: BaseException | None = None) -> None:
    """Say that it is done, or what went wrong; nothing if that was said already."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        future.exception()  # an owner that was cancelled meanwhile never asks: that is no error
