"""What a bundle knows of its own scores: LLR, random effect per leg, conformal p-values."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LlrAffine:
    """Raw score to natural-log likelihood ratio (logistic calibration, Brümmer 2006)."""

    scale: float
    offset: float

    def apply(self, raw: float) -> float:
        return self.scale * raw + self.offset


@dataclass(frozen=True, slots=True)
class LegModel:
    """Random effect per leg on the scale of the window LLR.

    The mean of ``n`` hops' worth of windows of one leg is normal around the class mean with the
    variance ``between_sd**2 + within_sd**2 * correlation_hops / n``: what the leg's microphone,
    room and speaker add does not average out.
    """

    bonafide_mean: float
    spoof_mean: float
    between_sd: float
    within_sd: float
    """Of one hop's worth of evidence."""
    correlation_hops: float = 1.0
    """How many successive hops carry the information of one independent hop; at least 1."""

    @property
    def separation(self) -> float:
        """Distance of the class means."""
        return self.spoof_mean - self.bonafide_mean

    @property
    def hop_variance(self) -> float:
        """What one hop adds to the variance of a sum over a long leg."""
        return self.within_sd**2 * max(self.correlation_hops, 1.0)

    @property
    def tells_apart(self) -> bool:
        """Whether evidence can be computed from it at all."""
        numbers = (self.separation, self.between_sd, self.hop_variance)
        return (
            all(map(math.isfinite, numbers))
            and self.separation > 0
            and self.between_sd >= 0
            and self.between_sd**2 + self.hop_variance > 0
        )

    def variance(self, hops: float) -> float:
        """Of the mean of so many hops of one leg, around its class mean."""
        return self.between_sd**2 + self.hop_variance / hops

    def llr(self, mean: float, hops: float) -> float:
        """Evidence of a leg with this mean of so many hops: linear in it, bounded in ``hops``."""
        middle = (self.spoof_mean + self.bonafide_mean) / 2
        return self.separation * (mean - middle) / self.variance(hops)


@dataclass(frozen=True, slots=True)
class Exposure:
    """On how much data a calibration stands."""

    clips: int = 0
    legs: int = 0
    speakers: int = 0
    sources: int = 0
    hours: float = 0.0


@dataclass(frozen=True, slots=True)
class ConformalTable:
    """Sorted nonconformity scores of held-out clips (split conformal, Vovk et al. 2005)."""

    scores: tuple[float, ...]

    def p_value(self, nonconformity: float) -> float:
        """Share of held-out scores at least as strange, in (0, 1]; small is strange."""
        at_least = len(self.scores) - bisect.bisect_left(self.scores, nonconformity)
        return (at_least + 1) / (len(self.scores) + 1)


@dataclass(frozen=True, slots=True)
class ChannelCalibration:
    """Everything calibrated for one precision and one channel class."""

    llr: LlrAffine | None = None
    """None for attribution."""
    leg: LegModel | None = None
    """None for attribution."""
    technology: ConformalTable | None = None
    generator: ConformalTable | None = None
    exposure: Exposure = Exposure()
