"""Calibration of a detector: likelihood ratios, legs, distance, expected false alarms.

Every clip goes through the daemon's own front end and the exported graphs over each line; what is
calibrated belongs to the channel class that the daemon itself heard. A window of a low-rate line
counts only as such, and files only as what they are heard as.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import optimize, special

from streamguard.clock import WINDOW_HOPS
from streamguard.verdict.calibration import Exposure, LegModel, LlrAffine
from streamguard.verdict.scores import Channel, WindowScore
from tools.calibration.conformal import choose_alpha, conformal_table, left_out_p_values
from tools.calibration.false_alarms import count_false_alarms
from tools.calibration.legs import Leg, fit_leg_model, join_legs
from tools.calibration.weights import source_weights
from tools.data import AudioCache, Clip
from tools.progress import track
from tools.scoring import LINES, LOW_RATE_LINE, DaemonScorer, codec_of, over

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

ALL_LINES = (*LINES, LOW_RATE_LINE)
LEAST_CLIPS = 40
"""Of each class, for a channel class to be calibrated at all; otherwise it stays uncalibrated."""


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
class Heard:
    """What the daemon made of one clip or leg over one line."""

    clip: Clip
    """It, or one of those that were joined."""
    channel: Channel
    windows: tuple[WindowScore, ...]
    """Those that the gate let speak, in this channel class alone."""

    @property
    def hops(self) -> int:
        """Of accepted speech."""
        return sum(window.new_hops for window in self.windows)


@dataclass(frozen=True, slots=True, eq=False)
class ChannelScores:
    """All that one channel class is calibrated with. Read-only."""

    clips: tuple[Heard, ...]
    legs: tuple[Heard, ...]

    @property
    def enough(self) -> bool:
        """Whether both classes were heard often enough."""
        spoofed = sum(item.clip.spoof for item in self.clips)
        return min(spoofed, len(self.clips) - spoofed) >= LEAST_CLIPS

    @property
    def distinct_legs(self) -> tuple[Heard, ...]:
        """Each leg once, as it was heard longest: a narrow recording is narrow over every line."""
        by_length = sorted(self.legs, key=lambda leg: leg.hops)
        return tuple({leg.clip.path: leg for leg in by_length}.values())

    def without(self, sources: frozenset[str]) -> ChannelScores:
        """Only what others have given."""
        return ChannelScores(
            tuple(item for item in self.clips if item.clip.source_repo not in sources),
            tuple(item for item in self.legs if item.clip.source_repo not in sources),
        )


def listen(
    scorer: DaemonScorer, clips: Sequence[Clip], cache: AudioCache
) -> dict[Channel, ChannelScores]:
    """Every clip and every pseudo-leg over every line, by the channel class it was heard as."""
    joined = join_legs(clips, cache)
    alone = [(clip, cache.samples(clip)) for clip in clips]
    heard: dict[tuple[Channel, bool], list[Heard]] = {}
    for line in ALL_LINES:
        for pieces, legs in ((alone, False), (joined, True)):
            label = f"{'legs' if legs else 'clips'}, {line}"
            for number, (clip, samples) in enumerate(track(pieces, label, len(pieces))):
                windows = scorer.windows(*over(line, samples, number), codec=codec_of(line, number))
                for channel in Channel:
                    own = tuple(w for w in windows if w.channel is channel and w.rejected is None)
                    if own:
                        heard.setdefault((channel, legs), []).append(Heard(clip, channel, own))
    return {
        channel: ChannelScores(
            tuple(heard.get((channel, False), ())), tuple(heard.get((channel, True), ()))
        )
        for channel in Channel
    }


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is read off one channel class."""

    llr: LlrAffine
    leg: LegModel


def fit(scores: ChannelScores) -> Fitted:
    """Likelihood ratios from the windows of clips, the random effect from pseudo-legs."""
    llr = _fit_llr(scores.clips)
    legs = [Leg.of(item.clip, item.windows, llr) for item in scores.legs]
    return Fitted(llr, fit_leg_model(legs))


def calibrate_detector(
    scores: Mapping[Channel, ChannelScores],
) -> tuple[dict[str, Any], dict[str, float]]:
    """``(calibration per channel class, thresholds)`` as a bundle holds them.

    A channel class that was not heard often enough gets none: it will be uncalibrated.
    """
    usable = {channel: part for channel, part in scores.items() if part.enough}
    alarms = count_false_alarms(usable, fit)
    channels: dict[str, Any] = {}
    alphas = []
    for channel, part in usable.items():
        fitted = fit(part)
        table, alpha = _distances(part.clips)
        if alpha is not None:
            alphas.append(alpha)
        channels[channel.value] = {
            "llr": asdict(fitted.llr),
            "leg": asdict(fitted.leg),
            "conformal": None if table is None else {"ood": table},
            "false_alarms": asdict(alarms[channel]) if channel in alarms else None,
            "exposure": asdict(exposure(part)),
        }
    return channels, {"ood": min(alphas)} if alphas else {}


def _fit_llr(clips: Sequence[Heard]) -> LlrAffine:
    raw, spoof, sources, shares = [], [], [], []
    for item in clips:
        for window in item.windows:
            assert window.raw is not None, "only windows that speak are kept"
            raw.append(window.raw)
            spoof.append(item.clip.spoof)
            sources.append(item.clip.source_repo)
            shares.append(1.0 / len(item.windows))
    labels = np.array(spoof, np.bool_)
    return fit_llr(np.array(raw), labels, source_weights(sources, labels, np.array(shares)))


def _distances(clips: Sequence[Heard]) -> tuple[list[float] | None, float | None]:
    """Table of ``ood`` of one window per clip, and its alpha.

    None where the head does not tell, or where new sources would lose too many of their windows.
    """
    fullest = [max(item.windows, key=lambda window: window.usable_hops) for item in clips]
    scores = np.array([np.nan if w.ood is None else w.ood for w in fullest], np.float64)
    sources = [item.clip.source_repo for item in clips]
    if not np.isfinite(scores).all():
        return None, None
    alpha = choose_alpha(left_out_p_values(scores, sources))
    return (None if alpha is None else conformal_table(scores)), alpha


def exposure(part: ChannelScores) -> Exposure:
    """What was really heard: clips and legs count once, legs if of two windows' worth of hops."""
    heard = list({item.clip.path: item.clip for item in part.clips}.values())
    return Exposure(
        clips=len(heard),
        legs=sum(leg.hops >= 2 * WINDOW_HOPS for leg in part.distinct_legs),
        speakers=len({(clip.source_repo, clip.speaker) for clip in heard if clip.speaker}),
        sources=len({clip.source_repo for clip in heard}),
        hours=round(sum(clip.seconds for clip in heard) / 3600, 3),
    )
