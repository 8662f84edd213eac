"""The daemon's own observer, which also remembers every latency of a while."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from streamguard.clock import Clock
from streamguard.inference.scorer import HopResult
from streamguard.monitor import Leg
from streamguard.observe import Observation
from streamguard.telemetry.metrics import Metrics
from streamguard.verdict.scores import Rejection


@dataclass(slots=True)
class Heard:
    """What came of the audio since :meth:`Recording.take` was called last."""

    latencies_s: list[float] = field(default_factory=list)
    """Per window, from the last sample of its last hop to its verdict."""
    waits_s: list[float] = field(default_factory=list)
    """What of it was no work on the hop's batch."""
    rejected: int = 0
    overload: int = 0
    """Windows rejected because a hop of theirs was dropped or late."""
    lost_s: float = 0.0
    """Audio that never came."""


class Recording(Observation):
    """Remembers while ``is_on``."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        super().__init__(metrics, clock)
        self.is_on = False
        self._heard = Heard()

    def take(self) -> Heard:
        """What was heard since the last call; begin anew."""
        heard, self._heard = self._heard, Heard()
        return heard

    def lost(self, source: str, seconds: float) -> None:
        super().lost(source, seconds)
        if self.is_on:
            self._heard.lost_s += seconds

    def result(self, leg: Leg, result: HopResult, latency_s: float) -> None:
        super().result(leg, result, latency_s)
        if not self.is_on or result.score is None:
            return
        now_s = time.monotonic() - result.received_at
        stages = result.stages
        work_s = stages.front_end + stages.detector + stages.head + stages.attribution
        heard = self._heard
        heard.latencies_s.append(now_s)
        heard.waits_s.append(max(0.0, now_s - work_s))
        heard.rejected += result.score.rejected is not None
        heard.overload += result.score.rejected is Rejection.OVERLOAD
