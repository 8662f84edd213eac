"""Quantiles of latency per stage, in bounded memory."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Final

_LOWEST_S: Final = 1e-4
_BUCKETS_PER_OCTAVE: Final = 16
_OCTAVES: Final = 20
_COUNT: Final = _OCTAVES * _BUCKETS_PER_OCTAVE + 1
"""Buckets from 0.1 ms to 105 s, each 4.4 % wide, so a quantile is off by at most 2.2 %."""


class Stage(enum.StrEnum):
    """The values of the label ``stage``. All but the last begin where the one before ends."""

    QUEUE = "queue"
    """What a window waited: for its batch, and for the event loop to take its result."""
    FRONT_END = "front_end"
    """Resampling, level, gate."""
    DETECTION = "detection"
    ATTRIBUTION = "attribution"
    VERDICT = "verdict"
    """From the arrival of a window's last sample to its verdict: what a user waits for."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Latency in seconds; ``count`` observations stand behind it."""

    count: int
    p50: float
    p95: float
    p99: float

    def as_ms(self) -> dict[str, float]:
        """``{"p50": ..., "p95": ..., "p99": ...}`` in milliseconds, as payloads carry them."""
        return {
            "p50": round(self.p50 * 1000, 3),
            "p95": round(self.p95 * 1000, 3),
            "p99": round(self.p99 * 1000, 3),
        }


class QuantileTracker:
    """Quantiles over the last ``window`` to ``2 * window`` observations.

    Logarithmic buckets in two generations: when the younger is full the older is forgotten, so an
    incident of last week doesn't colour today's p99, and memory never grows. Not thread-safe.
    """

    __slots__ = ("_new", "_new_count", "_old", "_old_count", "_window")

    def __init__(self, window: int = 2000) -> None:
        if window < 1:
            raise ValueError(f"window is {window}; must be at least 1")
        self._window = window
        self._new = [0] * _COUNT
        self._old = [0] * _COUNT
        self._new_count = 0
        self._old_count = 0

    def add(self, seconds: float) -> None:
        """Count one observation; a negative one (two clocks disagree) counts as the lowest."""
        if self._new_count >= self._window:
            self._old, self._old_count = self._new, self._new_count
            self._new, self._new_count = [0] * _COUNT, 0
        self._new[_bucket(seconds)] += 1
        self._new_count += 1

    def quantiles(self) -> Quantiles | None:
        """None before the first observation."""
        count = self._new_count + self._old_count
        if not count:
            return None
        return Quantiles(count, *(self._at(math.ceil(q * count)) for q in (0.50, 0.95, 0.99)))

    def _at(self, rank: int) -> float:
        seen = 0
        for index in range(_COUNT):
            seen += self._new[index] + self._old[index]
            if seen >= rank:
                return _value(index)
        raise AssertionError("rank lies beyond the observations")


class LatencyBook:
    """One tracker per stage, made when the stage is first seen."""

    def __init__(self, window: int = 2000) -> None:
        self._window = window
        self._trackers: dict[Stage, QuantileTracker] = {}

    def add(self, stage: Stage, seconds: float) -> None:
        tracker = self._trackers.get(stage)
        if tracker is None:
            tracker = self._trackers[stage] = QuantileTracker(self._window)
        tracker.add(seconds)

    def quantiles(self, stage: Stage) -> Quantiles | None:
        tracker = self._trackers.get(stage)
        return tracker.quantiles() if tracker else None

    def as_ms(self) -> dict[str, dict[str, float]]:
        """Every stage seen so far, for ``/status``."""
        result = {}
        for stage, tracker in self._trackers.items():
            quantiles = tracker.quantiles()
            if quantiles is not None:
                result[stage.value] = quantiles.as_ms()
        return result


def _bucket(seconds: float) -> int:
    if not seconds > _LOWEST_S:  # a NaN too
        return 0
    octaves = min(math.log2(seconds / _LOWEST_S), float(_OCTAVES))
    return min(_COUNT - 1, 1 + int(octaves * _BUCKETS_PER_OCTAVE))


def _value(index: int) -> float:
    """The geometric middle of a bucket."""
    if index == 0:
        return _LOWEST_S
    return float(_LOWEST_S * 2 ** ((index - 0.5) / _BUCKETS_PER_OCTAVE))
