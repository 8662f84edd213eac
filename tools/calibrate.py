"""Calibrate a detection bundle: ``python -m tools.calibrate models/cnn_lstm/bundle --data D``.

On the calibration split, which trained and chose nothing. Every clip goes through the daemon's own
front end and the exported graphs, directly and through a telephone line; what is calibrated belongs
to the channel class that the daemon itself heard.

LLR: logistic regression with equal priors. Leg model: legs are trimmed clips of one source,
speaker, generator and set joined to at most 30 s; a clip without a speaker is a leg of its own. A
join hides the drift of a real call, so the spread within legs is a lower estimate.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import optimize, special
from scipy.stats import chi2

from streamguard.verdict.calibration import Exposure, LegModel, LlrAffine
from streamguard.verdict.scores import Channel
from tools.bundle_writer import update_document
from tools.command import run
from tools.data import (
    DEFAULT_SPLIT,
    SAMPLE_RATE_HZ,
    AudioCache,
    Clip,
    active_span,
    data_folder,
    read_manifest,
    read_split,
)
from tools.progress import track
from tools.scoring import LINES, DaemonScorer, ScoredClip, over
from tools.train import DEFAULT_CACHE

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

LONGEST_LEG_S = 30.0
WINDOW_HOPS = 6
_LEAST_BETWEEN_SD = 0.1
"""No leg model may claim that legs of a class are all alike."""


def source_weights(sources: Sequence[str], spoof: Bools, shares: Floats) -> Floats:
    """Weight per item: half per class; inside a class a source weighs the root of its items.

    ``shares`` is how much of an item each row is (windows of one clip share its weight).
    """
    weights = np.zeros(len(sources))
    names = np.asarray(sources)
    for label in (False, True):
        of_class = spoof == label
        for name in np.unique(names[of_class]):
            rows = of_class & (names == name)
            mass = shares[rows].sum()
            weights[rows] = shares[rows] / mass * math.sqrt(mass)
        weights[of_class] *= 0.5 / weights[of_class].sum()
    return weights


def fit_llr(raw: Floats, spoof: Bools, weights: Floats) -> LlrAffine:
    """Affine map to natural-log likelihood ratios: weighted logistic regression, equal priors."""
    sign = np.where(spoof, 1.0, -1.0)

    def loss(parameters: Floats) -> float:
        llr = parameters[0] * raw + parameters[1]
        return float(np.sum(weights * np.logaddexp(0.0, -sign * llr)))

    def gradient(parameters: Floats) -> Floats:
        llr = parameters[0] * raw + parameters[1]
        slope = -weights * sign * special.expit(-sign * llr)
        return np.array([np.sum(slope * raw), np.sum(slope)])

    found = optimize.minimize(loss, np.array([1.0, 0.0]), jac=gradient, method="BFGS")
    scale, offset = (float(value) for value in found.x)
    if scale <= 0:
        raise ValueError(f"scores do not rise with spoof on the calibration split (scale {scale})")
    return LlrAffine(scale, offset)


@dataclass(frozen=True, slots=True, eq=False)
class Leg:
    """LLRs of the usable hops of one leg, in order."""

    llrs: Floats
    spoof: bool
    source: str


def fit_leg_model(legs: Sequence[Leg]) -> LegModel:
    """Random effect per leg by moments, sources weighted by the root of their legs.

    The spread within legs comes from single hops, its correlation from means of six hops in a row;
    what is left of the spread of leg means is between legs, for each class by itself. Of bona fide
    legs it is the upper end of a one-sided 95 % confidence interval, with a degree of freedom per
    source and not per leg: false alarms hang on it, and few sources of human speech were heard.
    """
    legs = [leg for leg in legs if len(leg.llrs)]
    spoof = np.array([leg.spoof for leg in legs], np.bool_)
    weights = source_weights([leg.source for leg in legs], spoof, np.ones(len(legs)))
    means = np.array([leg.llrs.mean() for leg in legs])
    counts = np.array([len(leg.llrs) for leg in legs])
    within = _within_variance([leg.llrs for leg in legs], weights)
    correlation = _correlation_hops([leg.llrs for leg in legs], weights)
    centre, between = {}, []
    for label in (False, True):
        rows = spoof == label
        share = weights[rows] / weights[rows].sum()
        centre[label] = float(share @ means[rows])
        spread = float(share @ np.square(means[rows] - centre[label]))
        spread /= max(1e-9, 1.0 - float(share @ share))
        left = spread - within * correlation * float(share @ (1.0 / counts[rows]))
        between.append(max(_LEAST_BETWEEN_SD**2, left))
    human_sources = len({leg.source for leg in legs if not leg.spoof})
    return LegModel(
        bonafide_mean=centre[False],
        spoof_mean=centre[True],
        between_sd=math.sqrt(float(np.mean(between))),
        within_sd=math.sqrt(within),
        correlation_hops=correlation,
        bonafide_between_sd=math.sqrt(between[0] * _upper_variance_ratio(human_sources)),
        spoof_between_sd=math.sqrt(between[1]),
    )


def _upper_variance_ratio(groups: int, confidence: float = 0.95) -> float:
    """By how much a variance from so many groups may be too small (chi-squared interval)."""
    freedom = max(1, groups - 1)
    return float(freedom / chi2.ppf(1.0 - confidence, freedom))


def _correlation_hops(series: Sequence[Floats], weights: Floats) -> float:
    """How much more means of six hops in a row vary than means of six independent hops would.

    Both on the same legs, those of at least two such means: others are other sources.
    """
    rows = [row for row, llrs in enumerate(series) if len(llrs) >= 2 * WINDOW_HOPS]
    if not rows:
        return 1.0
    share = weights[rows]
    sixes = _within_variance([_six_means(series[row]) for row in rows], share)
    return max(1.0, WINDOW_HOPS * sixes / _within_variance([series[row] for row in rows], share))


def _within_variance(series: Sequence[Floats], weights: Floats) -> float:
    """Pooled variance around each series' own mean, of those with two values; 1.0 if none has."""
    total = mass = 0.0
    for values, weight in zip(series, weights, strict=True):
        if len(values) > 1:
            total += weight * float(values.var(ddof=1))
            mass += weight
    return max(float(total / mass), 1e-6) if mass else 1.0


def _six_means(llrs: Floats) -> Floats:
    whole = len(llrs) // WINDOW_HOPS
    means: Floats = llrs[: whole * WINDOW_HOPS].reshape(whole, WINDOW_HOPS).mean(axis=1)
    return means


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


def calibrate(
    scorer: DaemonScorer, clips: Sequence[Clip], cache: AudioCache
) -> dict[Channel, dict[str, Any]]:
    """The calibration of every channel class that was heard, as a bundle holds it."""
    scored = [item for line in LINES for item in scorer.clips(clips, cache, line)]
    affine = {channel: _fit_channel(scored, channel) for channel in (Channel.WIDE, Channel.NARROW)}
    legs: dict[Channel, list[Leg]] = {channel: [] for channel in affine}
    joined = join_legs(clips, cache)
    for line in LINES:
        for number, (clip, samples) in enumerate(track(joined, f"legs, {line}", len(joined))):
            hops = scorer.hops(*over(line, samples, number))
            llr = affine[hops.channel]
            legs[hops.channel].append(
                Leg(llr.scale * hops.logits + llr.offset, clip.spoof, clip.source_repo)
            )
    return {
        channel: {
            "llr": asdict(affine[channel]),
            "leg": asdict(fit_leg_model(legs[channel])),
            "conformal": None,
            "exposure": asdict(_exposure(scored, channel, legs[channel])),
        }
        for channel in affine
    }


def _fit_channel(scored: Sequence[ScoredClip], channel: Channel) -> LlrAffine:
    raw, spoof, sources, shares = [], [], [], []
    for item in scored:
        windows = [window for window in item.accepted if window.channel is channel]
        for window in windows:
            assert window.raw is not None, "accepted windows have a score"
            raw.append(window.raw)
            spoof.append(item.clip.spoof)
            sources.append(item.clip.source_repo)
            shares.append(1.0 / len(windows))
    labels = np.array(spoof, np.bool_)
    weights = source_weights(sources, labels, np.array(shares))
    return fit_llr(np.array(raw), labels, weights)


def _exposure(scored: Sequence[ScoredClip], channel: Channel, legs: Sequence[Leg]) -> Exposure:
    """What was really heard: a clip counts once, a leg if it has two windows' worth of hops."""
    clips = {
        item.clip.path: item.clip
        for item in scored
        if any(window.channel is channel for window in item.accepted)
    }
    heard = list(clips.values())
    return Exposure(
        clips=len(heard),
        legs=sum(len(leg.llrs) >= 2 * WINDOW_HOPS for leg in legs),
        speakers=len({clip.speaker for clip in heard if clip.speaker}),
        sources=len({clip.source_repo for clip in heard}),
        hours=round(sum(clip.seconds for clip in heard) / 3600, 3),
    )


def write_calibration(folder: Path, channels: Mapping[Channel, Mapping[str, Any]]) -> None:
    """Into ``bundle.yaml``, under the precision fp32."""
    named = {channel.value: dict(values) for channel, values in channels.items()}
    update_document(folder, {"calibration": {"fp32": named}})


def main(argv: Sequence[str] | None = None) -> int:
    """Calibrate a bundle in place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, help="folder with manifest.csv ($STREAMGUARD_DATA)")
    parser.add_argument("--split", type=Path, default=DEFAULT_SPLIT)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="decoded audio")
    options = parser.parse_args(argv)
    data = data_folder(options.data)
    clips = read_manifest(data / "manifest.csv")
    cache = AudioCache.open(data, options.cache, clips)
    chosen = [
        clip for clip in read_split(options.split).select(clips, "calibration") if clip.speech
    ]
    scorer = DaemonScorer(options.bundle)
    channels = calibrate(scorer, chosen, cache)
    scorer.close()
    write_calibration(options.bundle, channels)
    for channel, values in channels.items():
        print(f"{channel}: {values}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
