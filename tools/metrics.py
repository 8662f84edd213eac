"""How well scores separate and how well they are calibrated.

Scores are higher for spoof; labels are True for spoof. Rates follow the standard definitions:
``miss`` is the share of spoofs below the threshold, ``false alarm`` the share of bona fide at or
above it. All functions raise ValueError when a class is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """Operating points from "call everything spoof" to "call nothing spoof"."""

    thresholds: Floats
    """Ascending; spoof is called at or above; the last is infinity."""
    miss: Floats
    false_alarm: Floats


def rates(scores: Floats, spoof: Bools) -> Rates:
    """Miss and false-alarm rates at every distinct threshold."""
    bonafide, spoofed = _classes(scores, spoof)
    thresholds = np.append(np.unique(scores), np.inf)
    miss = np.searchsorted(spoofed, thresholds) / len(spoofed)
    false_alarm = 1.0 - np.searchsorted(bonafide, thresholds) / len(bonafide)
    return Rates(thresholds, miss, false_alarm)


def eer(scores: Floats, spoof: Bools) -> float:
    """Equal error rate: where the piecewise linear ROC crosses miss = false alarm."""
    points = rates(scores, spoof)
    gap = points.miss - points.false_alarm
    after = int(np.argmax(gap >= 0.0))
    if gap[after] == 0.0:
        return float(points.miss[after])
    before = after - 1
    share = gap[before] / (gap[before] - gap[after])
    return float(points.miss[before] + share * (points.miss[after] - points.miss[before]))


def auc(scores: Floats, spoof: Bools) -> float:
    """Probability that a spoof scores above a bona fide, ties counted half."""
    bonafide, spoofed = _classes(scores, spoof)
    below = np.searchsorted(bonafide, spoofed, side="left")
    not_above = np.searchsorted(bonafide, spoofed, side="right")
    return float((below + not_above).mean() / 2 / len(bonafide))


def min_dcf(
    scores: Floats,
    spoof: Bools,
    prior: float = 0.05,
    cost_miss: float = 1.0,
    cost_false_alarm: float = 10.0,
) -> float:
    """Least detection cost over all thresholds, 1.0 for a system that says nothing (NIST)."""
    points = rates(scores, spoof)
    cost = cost_miss * prior * points.miss
    cost = cost + cost_false_alarm * (1.0 - prior) * points.false_alarm
    default = min(cost_miss * prior, cost_false_alarm * (1.0 - prior))
    return float(cost.min() / default)


def cllr(llrs: Floats, spoof: Bools) -> float:
    """Cost of log-likelihood ratios in bits (Brümmer and du Preez 2006); 1.0 for llr = 0."""
    bonafide, spoofed = _classes(llrs, spoof)
    return float(
        (np.logaddexp(0.0, -spoofed).mean() + np.logaddexp(0.0, bonafide).mean()) / 2 / np.log(2)
    )


def min_cllr(scores: Floats, spoof: Bools) -> float:
    """Cllr after the best monotone calibration (pool adjacent violators)."""
    bonafide, spoofed = _classes(scores, spoof)
    values, index = np.unique(scores, return_inverse=True)
    positives = np.bincount(index, weights=spoof.astype(np.float64), minlength=len(values))
    totals = np.bincount(index, minlength=len(values)).astype(np.float64)
    posterior = _isotonic(positives / totals, totals)[index]
    with np.errstate(divide="ignore"):
        llrs = np.log(posterior) - np.log1p(-posterior) - np.log(len(spoofed) / len(bonafide))
    return cllr(llrs, spoof)


def _isotonic(values: Floats, weights: Floats) -> Floats:
    """Weighted least-squares non-decreasing fit."""
    level: list[float] = []
    weight: list[float] = []
    length: list[int] = []
    for value, mass in zip(values, weights, strict=True):
        level.append(float(value))
        weight.append(float(mass))
        length.append(1)
        while len(level) > 1 and level[-2] >= level[-1]:
            total = weight[-2] + weight[-1]
            level[-2] = (level[-2] * weight[-2] + level[-1] * weight[-1]) / total
            weight[-2] = total
            length[-2] += length[-1]
            del level[-1], weight[-1], length[-1]
    return np.repeat(np.asarray(level), length)


def detection_at(scores: Floats, spoof: Bools, false_alarm: float) -> float:
    """Share of spoofs detected at the best threshold with at most this false-alarm rate."""
    points = rates(scores, spoof)
    return float(1.0 - points.miss[points.false_alarm <= false_alarm].min())


def fpr_at(scores: Floats, spoof: Bools, detection: float = 0.95) -> float:
    """False-alarm rate where at least this share of spoofs is detected (FPR95)."""
    points = rates(scores, spoof)
    return float(points.false_alarm[1.0 - points.miss >= detection].min())


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def bootstrap_by_source(
    metric: Callable[[Floats, Bools], float],
    scores: Floats,
    spoof: Bools,
    sources: Sequence[str],
    resamples: int = 300,
    seed: int = 0,
) -> Interval:
    """Percentile interval from whole sources drawn anew: clips of one source are not independent.

    Draws that miss a class are drawn again.
    """
    rng = np.random.default_rng(seed)
    names = sorted(set(sources))
    held = np.asarray(sources)
    rows = {name: np.flatnonzero(held == name) for name in names}
    _classes(scores, spoof)
    found: list[float] = []
    while len(found) < resamples:
        drawn = np.concatenate([rows[names[i]] for i in rng.integers(len(names), size=len(names))])
        if 0 < spoof[drawn].sum() < len(drawn):
            found.append(metric(scores[drawn], spoof[drawn]))
    low, high = np.quantile(found, (0.025, 0.975))
    return Interval(metric(scores, spoof), float(low), float(high))


def _classes(scores: Floats, spoof: Bools) -> tuple[Floats, Floats]:
    """Sorted scores of bona fide and of spoofs."""
    bonafide, spoofed = np.sort(scores[~spoof]), np.sort(scores[spoof])
    if not len(bonafide) or not len(spoofed):
        raise ValueError("both classes must be present")
    if np.isnan(scores).any():
        raise ValueError("scores must not be NaN")
    return bonafide, spoofed
