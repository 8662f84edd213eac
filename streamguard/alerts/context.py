"""The facts about a leg that an alert repeats: who, with which models, on which engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from streamguard.clock import LegClock
from streamguard.events import LegRole


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model bundle, named so that it can be found again."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What a model really runs on (effective, not requested)."""

    target: str
    provider: str
    precision: str


@dataclass(frozen=True, slots=True)
class DecisionRule:
    """The voting rule and the numbers that it decides by."""

    name: str
    thresholds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class QualitySnapshot:
    """Reception of a leg at the time of a verdict; None where it does not apply (a microphone)."""

    loss_pct: float | None = None
    jitter_ms: float | None = None
    level_dbfs: float | None = None


@dataclass(frozen=True, slots=True)
class LatencySnapshot:
    """From the last sample of a window to its verdict; None until measured."""

    p50_ms: float | None = None
    p95_ms: float | None = None


@dataclass(frozen=True, slots=True)
class LegContext:
    """One leg as an alert describes it. Replace it when the source learns more (role, codec)."""

    node: str
    source: str
    """Configured name."""
    call: str
    """Opaque: never a number or an address."""
    leg: str
    leg_index: int
    role: LegRole
    codec: str
    clock: LegClock
    detector: ModelFacts
    engine: EngineFacts
    rule: DecisionRule
    calibration: str | None = None
    """Which calibration scored it, e.g. ``fp32/narrow``."""
    attribution: ModelFacts | None = None
    attribution_engine: EngineFacts | None = None
    """Of its own: ``engine: auto`` chooses bundle by bundle."""
