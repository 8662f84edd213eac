"""The random effect per leg, from pseudo-legs: trimmed clips of one voice, joined.

No clip of the collection is longer than 5 s, so a leg is made of the clips of one source, speaker,
generator and set; a clip without a speaker is a leg of its own. A join hides the drift of a real
call, so the spread within legs is a lower estimate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm, t

from streamguard.clock import WINDOW_HOPS
from streamguard.verdict.calibration import LegModel, LlrAffine
from streamguard.verdict.scores import WindowScore
from tools.calibration.weights import source_weights
from tools.data import SAMPLE_RATE_HZ, AudioCache, Clip, active_span

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

LONGEST_LEG_S = 30.0
_LEAST_BETWEEN_SD = 0.1
"""No leg model may claim that legs of a class are all alike."""
_LEAST_LONG_LEGS = 8
"""Below that many legs of four windows in a row, nothing is said of their correlation."""
_RATE = 0.01
"""False alarms that the default rule asks for."""
_ENOUGH_LEGS = 20
"""Of a class: then legs shorter than a window, whose scores are of another kind, stay out."""


@dataclass(frozen=True, slots=True, eq=False)
class Leg:
    """LLRs of the accepted windows of one leg, in order."""

    llrs: Floats
    hops: Floats
    """Hops that each window adds, at least one of them above 0."""
    apart: Floats
    """LLRs of windows that share no hop, in order."""
    spoof: bool
    source: str

    @classmethod
    def of(cls, clip: Clip, windows: Sequence[WindowScore], llr: LlrAffine) -> Leg:
        """From what the daemon's scorer gave; at least one window."""
        values, apart, last = [], [], -WINDOW_HOPS
        for window in windows:
            assert window.raw is not None, "only windows that speak are kept"
            values.append(llr.apply(window.raw))
            if window.index >= last + WINDOW_HOPS:
                apart.append(values[-1])
                last = window.index
        hops = np.array([float(window.new_hops) for window in windows])
        return cls(np.array(values), hops, np.array(apart), clip.spoof, clip.source_repo)

    @property
    def mean(self) -> float:
        """As the daemon's evidence: each window counts for the hops that it adds."""
        return float(self.llrs @ self.hops / self.hops.sum())

    @property
    def length(self) -> float:
        """Hops."""
        return float(self.hops.sum())


def fit_leg_model(legs: Sequence[Leg]) -> LegModel:
    """Random effect per leg by moments, sources weighted by the root of their legs.

    What the mean of n hops varies within a leg comes from windows that share no hop: a window's LLR
    need not be the mean of its hops'. Its correlation is that of pairs of them. What is left of the
    spread of leg means is between legs, for each class by itself. That of bona fide legs is widened
    as a prediction interval is, with a degree of freedom per source and not per leg: false alarms
    hang on it, and few sources of human speech were heard.
    """
    legs = _long_enough([leg for leg in legs if leg.length > 0])
    spoof = np.array([leg.spoof for leg in legs], np.bool_)
    weights = source_weights([leg.source for leg in legs], spoof, np.ones(len(legs)))
    means = np.array([leg.mean for leg in legs])
    lengths = np.array([leg.length for leg in legs])
    within = WINDOW_HOPS * _within_variance([leg.apart for leg in legs], weights)
    correlation = _correlation([leg.apart for leg in legs], weights)
    centre, between = {}, []
    for label in (False, True):
        rows = spoof == label
        share = weights[rows] / weights[rows].sum()
        centre[label] = float(share @ means[rows])
        spread = float(share @ np.square(means[rows] - centre[label]))
        spread /= max(1e-9, 1.0 - float(share @ share))
        left = spread - within * correlation * float(share @ (1.0 / lengths[rows]))
        between.append(max(_LEAST_BETWEEN_SD**2, left))
    human_sources = len({leg.source for leg in legs if not leg.spoof})
    return LegModel(
        bonafide_mean=centre[False],
        spoof_mean=centre[True],
        between_sd=math.sqrt(float(np.mean(between))),
        within_sd=math.sqrt(within),
        correlation_hops=correlation,
        bonafide_between_sd=math.sqrt(between[0]) * widening(human_sources),
        spoof_between_sd=math.sqrt(between[1]),
    )


def _long_enough(legs: Sequence[Leg]) -> list[Leg]:
    """Legs of a window or more; of a class that has too few of them, all."""
    kept = []
    for label in (False, True):
        of_class = [leg for leg in legs if leg.spoof == label]
        longer = [leg for leg in of_class if leg.length >= WINDOW_HOPS]
        kept += longer if len(longer) >= _ENOUGH_LEGS else of_class
    return kept


def widening(groups: int) -> float:
    """By how much a deviation from so many groups is too small for the share of a hundredth.

    One value more of a normal sample lies above ``mean + t sqrt(1 + 1/n) sd`` with that share, t of
    Student with n - 1 degrees of freedom: on average over what the sample might have been, the
    default rule then raises what it was asked for, and not more because mean and deviation are
    guesses.
    """
    freedom = max(2, groups - 1)
    quantile = t.ppf(1 - _RATE, freedom) * math.sqrt(1 + 1 / (freedom + 1))
    return float(quantile / norm.ppf(1 - _RATE))


def _correlation(series: Sequence[Floats], weights: Floats) -> float:
    """How much more means of two windows in a row vary than means of two independent ones would.

    Both on the same legs, those of at least two such means: others are other sources.
    """
    rows = [row for row, llrs in enumerate(series) if len(llrs) >= 4]
    if len(rows) < _LEAST_LONG_LEGS:
        return 1.0
    share = weights[rows]
    pairs = _within_variance([_means_of_two(series[row]) for row in rows], share)
    return max(1.0, 2 * pairs / _within_variance([series[row] for row in rows], share))


def _within_variance(series: Sequence[Floats], weights: Floats) -> float:
    """Pooled variance around each series' own mean, of those with two values; 1.0 if none has."""
    total = mass = 0.0
    for values, weight in zip(series, weights, strict=True):
        if len(values) > 1:
            total += weight * float(values.var(ddof=1))
            mass += weight
    return max(float(total / mass), 1e-6) if mass else 1.0


def _means_of_two(llrs: Floats) -> Floats:
    pairs: Floats = llrs[: len(llrs) // 2 * 2].reshape(-1, 2).mean(axis=1)
    return pairs


def join_legs(clips: Sequence[Clip], cache: AudioCache) -> list[tuple[Clip, npt.NDArray[np.int16]]]:
    """Pseudo-legs, each with one of its clips to name it, in the order of the manifest."""
    groups: dict[tuple[str, ...], list[Clip]] = {}
    for clip in clips:
        speaker = clip.speaker or clip.path
        key = (clip.source_repo, speaker, clip.generator, clip.set, clip.label)
        groups.setdefault(key, []).append(clip)
    legs = []
    for members in groups.values():
        pieces = []
        for clip in members:
            start, stop = active_span(cache.samples(clip))
            pieces.append(cache.samples(clip)[start:stop])
        joined = np.concatenate(pieces)[: int(LONGEST_LEG_S * SAMPLE_RATE_HZ)]
        legs.append((members[0], joined))
    return legs
