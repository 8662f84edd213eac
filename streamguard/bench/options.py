"""What the bench was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from streamguard.inference.pair import DEFAULT_ATTRIBUTION, DEFAULT_DETECTOR, PairNames

DEFAULT_TARGET = "cpu-fp32"
LATENCY_BUDGET_MS = 150.0
ATTRIBUTED_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Of one run; the defaults take about three minutes."""

    detector: str = DEFAULT_DETECTOR
    attribution: str | None = DEFAULT_ATTRIBUTION
    """None: detection alone."""
    engines: tuple[str, ...] = (DEFAULT_TARGET,)
    seconds: float = 12.0
    """Measuring time of the stages of one target."""
    trial_s: float = 2.5
    """Length of one count of legs in a search for capacity, once each has a full window."""
    search_s: float = 30.0
    """No trial of a search begins later: what was held by then is the answer."""
    latency_budget_ms: float = LATENCY_BUDGET_MS
    """For the 99th percentile from the last sample of a hop to its verdict."""
    attributed_share: float = ATTRIBUTED_SHARE
    """Legs whose every window leans to spoof, so that attribution runs on it."""
    capacity: bool = True
    """Whether legs are counted under load: the longer part of the run."""
    compare: Path | None = None
    plot: Path | None = None

    def pair(self, engine: str) -> PairNames:
        return PairNames(self.detector, self.attribution, engine)
