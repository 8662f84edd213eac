"""How well scores separate and how well they are calibrated.

Scores are higher for spoof; labels are True for spoof. Rates follow the standard definitions:
``miss`` is the share of spoofs below the threshold, ``false alarm`` the share of bona fide at or
above it. All functions of two classes raise ValueError when a class is missing.

The tandem cost (min t-DCF, Kinnunen et al. 2020) is left out: it needs the scores of a speaker
verification system on the same trials, which no corpus that is loaded here comes with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """Operating points from "call everything spoof" to "call nothing spoof"."""

    thresholds: Floats
    """Ascending; spoof is called at or above; the last is infinity."""
    miss: Floats
    false_alarm: Floats


@dataclass(frozen=True, slots=True)
class Rejected:
    """Items without a score, by class."""

    bonafide: int = 0
    spoof: int = 0


def rates(scores: Floats, spoof: Bools, rejected: Rejected = Rejected()) -> Rates:
    """Miss and false-alarm rates at every distinct threshold.

    What was rejected counts as an error at every threshold: a spoof as missed, bona fide as a false
    alarm.
    """
    bonafide, spoofed = _classes(scores, spoof)
    thresholds = np.append(np.unique(scores), np.inf)
    missed = np.searchsorted(spoofed, thresholds) + rejected.spoof
    alarms = len(bonafide) - np.searchsorted(bonafide, thresholds) + rejected.bonafide
    return Rates(
        thresholds,
        missed / (len(spoofed) + rejected.spoof),
        alarms / (len(bonafide) + rejected.bonafide),
    )


def eer(scores: Floats, spoof: Bools, rejected: Rejected = Rejected()) -> float:
    """Equal error rate: where the piecewise linear ROC crosses miss = false alarm.

    With ``rejected``, that of the rates that count rejections as errors.
    """
    return eer_of(rates(scores, spoof, rejected))


def eer_of(points: Rates) -> float:
    """Equal error rate of rates that are known already."""
    return _crossing(points.miss, points.false_alarm)


def _crossing(miss: Floats, false_alarm: Floats) -> float:
    """Where two piecewise linear rates meet; ``miss`` rises from below ``false_alarm`` to above."""
    gap = miss - false_alarm
    after = int(np.argmax(gap >= 0.0))
    if gap[after] == 0.0:
        return float(miss[after])
    before = after - 1
    share = gap[before] / (gap[before] - gap[after])
    return float(miss[before] + share * (miss[after] - miss[before]))


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
    return detection_of(rates(scores, spoof), false_alarm)


def detection_of(points: Rates, false_alarm: float) -> float:
    """The same, of rates that are known already."""
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
    _classes(scores, spoof)
    return interval(
        metric(scores, spoof),
        [
            metric(scores[drawn], spoof[drawn])
            for drawn in draw_sources(sources, resamples, seed, both=spoof)
        ],
    )


def draw_sources(
    sources: Sequence[str], draws: int = 300, seed: int = 0, both: Bools | None = None
) -> Iterator[Ints]:
    """Rows of as many sources as there are, drawn with replacement (cluster bootstrap).

    With ``both``, only draws in which it is neither all true nor all false; raises ValueError if
    it is so to begin with.
    """
    rng = np.random.default_rng(seed)
    names, place = np.unique(np.asarray(sources), return_inverse=True)
    if both is not None and not 0 < both.sum() < len(both):
        raise ValueError("both classes must be present")
    order = np.argsort(place, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(place))[:-1])
    given = 0
    while given < draws:
        drawn = np.concatenate([rows[i] for i in rng.integers(len(names), size=len(names))])
        if both is None or 0 < both[drawn].sum() < len(drawn):
            given += 1
            yield drawn


def interval(value: float, draws: Sequence[float]) -> Interval:
    """A value with the 2.5th and 97.5th percentile of its draws."""
    low, high = np.quantile(draws, (0.025, 0.975))
    return Interval(value, float(low), float(high))


@dataclass(frozen=True, slots=True)
class Reliability:
    """One bin of windows with similar posteriors, for a reliability diagram."""

    said: float
    """Mean posterior of spoof, prior one half."""
    seen: float
    """Share of spoofs among them, each class weighed as a half."""
    share: float
    """Of the weight of all windows."""


def reliability(llrs: Floats, spoof: Bools, bins: int = 10) -> list[Reliability]:
    """What posteriors say against what is so, in equal bins of the posterior; empty ones left out.

    Classes are weighed to halves, so that the prior of the collection plays no part (DeGroot and
    Fienberg 1983; prior one half, as calibration has it).
    """
    _classes(llrs, spoof)
    posterior = 1.0 / (1.0 + np.exp(-np.clip(llrs, -700.0, 700.0)))
    weight = np.where(spoof, 0.5 / spoof.sum(), 0.5 / (~spoof).sum())
    place = np.minimum((posterior * bins).astype(np.int64), bins - 1)
    mass = np.bincount(place, weights=weight, minlength=bins)
    said = np.bincount(place, weights=weight * posterior, minlength=bins)
    seen = np.bincount(place, weights=weight * spoof, minlength=bins)
    return [
        Reliability(float(said[i] / mass[i]), float(seen[i] / mass[i]), float(mass[i]))
        for i in np.flatnonzero(mass)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class ClassReport:
    """Decisions among classes. Undefined ratios are 0, as nothing was got right there."""

    confusion: Ints
    """``[true, said]`` counts."""
    precision: Floats
    recall: Floats
    f1: Floats

    @property
    def occurring(self) -> Bools:
        """Classes that have a true item: the others have no recall."""
        return np.asarray(self.confusion.sum(axis=1) > 0)

    @property
    def accuracy(self) -> float:
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that occur."""
        return float(self.recall[self.occurring].mean())

    @property
    def macro_precision(self) -> float:
        """Over the classes that occur, like the other means."""
        return float(self.precision[self.occurring].mean())

    @property
    def macro_f1(self) -> float:
        return float(self.f1[self.occurring].mean())


def classify(truth: Ints, said: Ints, classes: int) -> ClassReport:
    """Precision, recall and F1 per class from class numbers; raises ValueError for no items."""
    if not len(truth):
        raise ValueError("there is nothing to be classified")
    confusion = np.bincount(truth * classes + said, minlength=classes * classes)
    confusion = confusion.reshape(classes, classes)
    right = np.diag(confusion).astype(np.float64)
    precision = right / np.maximum(confusion.sum(axis=0), 1)
    recall = right / np.maximum(confusion.sum(axis=1), 1)
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros(classes), where=total > 0)
    return ClassReport(confusion, precision, recall, f1)


@dataclass(frozen=True, slots=True)
class OpenSet:
    """How well a confidence tells what is known (in the training set) from what is not."""

    known: int
    unknown: int
    auroc: float
    fpr95: float
    """Share of the unknown accepted where 95 % of the known are."""
    ood_eer: float
    """Where as many of the unknown are accepted as of the known rejected."""
    eerc: float
    """The same where a known item counts as right only if it is accepted and rightly classified
    (Klein et al., Interspeech 2025, who call it EERc; lower is better)."""


def open_set(confidence: Floats, known: Bools, right: Bools) -> OpenSet:
    """Measures of open-set recognition; ``right`` is read for the known only."""
    return OpenSet(
        known=int(known.sum()),
        unknown=int((~known).sum()),
        auroc=auc(confidence, known),
        fpr95=fpr_at(confidence, known),
        ood_eer=eer(confidence, known),
        eerc=eerc(confidence, known, right),
    )


def eerc(confidence: Floats, known: Bools, right: Bools) -> float:
    """Equal error rate of classification and rejection together.

    A known item is missed if it is rejected or wrongly classified, an unknown one is a false alarm
    if it is accepted: a system that accepts all has its classification error as misses.
    """
    unknown, _ = _classes(confidence, known)
    sure = np.sort(confidence[known & right])
    thresholds = np.append(np.unique(confidence), np.inf)
    misses = 1.0 - (len(sure) - np.searchsorted(sure, thresholds)) / known.sum()
    false_alarm = 1.0 - np.searchsorted(unknown, thresholds) / len(unknown)
    return _crossing(misses, false_alarm)


def _classes(scores: Floats, spoof: Bools) -> tuple[Floats, Floats]:
    """Sorted scores of bona fide and of spoofs."""
    bonafide, spoofed = np.sort(scores[~spoof]), np.sort(scores[spoof])
    if not len(bonafide) or not len(spoofed):
        raise ValueError("both classes must be present")
    if np.isnan(scores).any():
        raise ValueError("scores must not be NaN")
    return bonafide, spoofed
