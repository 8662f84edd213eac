"""What a bundle knows of its own scores: LLR, random effect per leg, conformal p-values."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field


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
    room and speaker add does not average out. Legs of synthetic voices may differ more among each
    other (by generator) than legs of human ones: each class may state its own ``between_sd``.
    """

    bonafide_mean: float
    spoof_mean: float
    between_sd: float
    within_sd: float
    """Of one hop's worth of evidence."""
    correlation_hops: float = 1.0
    """How many successive hops carry the information of one independent hop; at least 1."""
    bonafide_between_sd: float | None = None
    """Of bona fide legs; None is ``between_sd``."""
    spoof_between_sd: float | None = None
    """Of spoofed legs; None is ``between_sd``."""

    def class_between_sd(self, *, spoofed: bool) -> float:
        """How much the legs of one class differ."""
        own = self.spoof_between_sd if spoofed else self.bonafide_between_sd
        return self.between_sd if own is None else own

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
        spreads = [self.between_sd, *(self.class_between_sd(spoofed=s) for s in (False, True))]
        return (
            all(map(math.isfinite, (self.separation, self.hop_variance, *spreads)))
            and self.separation > 0
            and min(spreads) >= 0
            and min(spreads) ** 2 + self.hop_variance > 0
        )

    @property
    def middle(self) -> float:
        """Halfway between the class means."""
        return (self.spoof_mean + self.bonafide_mean) / 2

    def variance(self, hops: float) -> float:
        """Of the mean of so many hops of one leg, around its class mean, classes taken together."""
        return self.between_sd**2 + self.hop_variance / hops

    def llr(self, mean: float, hops: float) -> float:
        """Evidence of a leg with this mean of so many hops: rises with it, bounded in ``hops``.

        The log ratio of two normal densities. Where spoofed legs differ more than bona fide ones
        it is a parabola, and left of its lowest point (a mean so low that only the wider class
        could give it) the lowest value holds: more spoof-like windows are never milder evidence.
        """
        square, slope, constant = self.parabola(hops)
        x = mean - self.middle
        if square > 0:
            x = max(x, -slope / (2 * square))
        return square * x * x + slope * x + constant

    def parabola(self, hops: float) -> tuple[float, float, float]:
        """Coefficients of the LLR in ``mean - middle``: of its square (>= 0), of itself, and alone.

        Spoofed legs count as at least as different as bona fide ones: otherwise the highest means
        of all would speak against spoof.
        """
        noise = self.hop_variance / hops
        bonafide = self.class_between_sd(spoofed=False) ** 2 + noise
        spoof = max(bonafide, self.class_between_sd(spoofed=True) ** 2 + noise)
        difference = 1 / bonafide - 1 / spoof
        return (
            difference / 2,
            self.separation / 2 * (1 / bonafide + 1 / spoof),
            math.log(bonafide / spoof) / 2 + self.separation**2 / 8 * difference,
        )


@dataclass(frozen=True, slots=True)
class Exposure:
    """On how much data a calibration stands."""

    clips: int = 0
    legs: int = 0
    speakers: int = 0
    sources: int = 0
    hours: float = 0.0


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """What the default rule raised on human pseudo-legs of the calibration sources.

    Cross-fitted: no leg was judged by numbers that its own source has settled. It is an
    extrapolation all the same: its exposure is far below a thousand call-hours.
    """

    rule: str
    legs: int
    """Bona fide, with enough net speech to be judged."""
    speakers: int
    sources: int
    hours: float
    """Net speech of these legs."""
    raised: int
    """Of these legs, ever SPOOF."""
    per_1000_call_hours: float
    """Raised legs per 1,000 hours of their net speech."""
    upper_95: float
    """Of that rate: one-sided 95 % bound (Poisson), as if legs were independent."""
    leg_share_upper_95: float
    """Of the share of legs raised: one-sided 95 % bound (Clopper and Pearson 1934)."""
    modelled: float
    """Per 1,000 call-hours of legs of three minutes, from the leg model: the rule's own promise."""


@dataclass(frozen=True, slots=True)
class ConformalTable:
    """Sorted scores of held-out clips, higher is stranger (split conformal, Vovk et al. 2005)."""

    scores: tuple[float, ...]

    def p_value(self, score: float) -> float:
        """Share of held-out scores at least as strange, in (0, 1]; small is strange.

        The strangest of all for a score that is no number.
        """
        if math.isnan(score):
            return 1 / (len(self.scores) + 1)
        at_least = len(self.scores) - bisect.bisect_left(self.scores, score)
        return (at_least + 1) / (len(self.scores) + 1)


@dataclass(frozen=True, slots=True)
class Reliability:
    """How often a label said with so much confidence was right: a rising line between points."""

    confidence: tuple[float, ...]
    """Rising, 0 to 1."""
    right: tuple[float, ...]
    """Never falling, 0 to 1; as many."""

    def at(self, confidence: float) -> float:
        """The share of right answers; level beyond the first and the last point."""
        place = bisect.bisect_left(self.confidence, confidence)
        if place == 0:
            return self.right[0]
        if place == len(self.confidence):
            return self.right[-1]
        x0, x1 = self.confidence[place - 1 : place + 1]
        y0, y1 = self.right[place - 1 : place + 1]
        return y0 + (y1 - y0) * (confidence - x0) / (x1 - x0)


@dataclass(frozen=True, slots=True)
class Answers:
    """What the softmax confidence of one head means on sources that it was not trained on."""

    temperature: float = 1.0
    """Logits are divided by it (Guo et al. 2017)."""
    common: Reliability | None = None
    """Of every label that has no line of its own; None takes the softmax at its word."""
    labels: Mapping[str, Reliability] = field(default_factory=dict)
    """By what was said."""

    def confidence(self, label: str, softmax: float) -> float:
        """Calibrated: the share of right answers to be expected."""
        line = self.labels.get(label, self.common)
        return softmax if line is None else line.at(softmax)


@dataclass(frozen=True, slots=True)
class ChannelCalibration:
    """Everything calibrated for one precision and one channel class."""

    llr: LlrAffine | None = None
    """None for attribution."""
    leg: LegModel | None = None
    """None for attribution."""
    technology: ConformalTable | None = None
    """Of 1 - probability of the true label."""
    generator: ConformalTable | None = None
    ood: ConformalTable | None = None
    """Of the head's output ``ood``; None: it has none, and nothing is rejected by it."""
    generator_ood: ConformalTable | None = None
    """Of the same, on clips of listed generators."""
    generator_sme: ConformalTable | None = None
    """Of the softmax energy of the generator logits, on clips of listed generators."""
    technology_answers: Answers = Answers()
    generator_answers: Answers = Answers()
    false_alarms: FalseAlarms | None = None
    exposure: Exposure = Exposure()
