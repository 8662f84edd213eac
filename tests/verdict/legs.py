"""Legs made from a leg model, and window scores made from legs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from streamguard.verdict.calibration import ChannelCalibration, LegModel, LlrAffine
from streamguard.verdict.scores import Attribution, Channel, Rejection, Verdict, WindowScore
from streamguard.verdict.settings import CusumSettings, VerdictSettings
from streamguard.verdict.voter import Voter

TYPICAL = LegModel(
    bonafide_mean=-1.2, spoof_mean=1.2, between_sd=1.3, within_sd=1.8, correlation_hops=2.0
)
SHARP = LegModel(bonafide_mean=-3.0, spoof_mean=3.0, between_sd=1.0, within_sd=1.5)
NO_CUSUM = CusumSettings(enabled=False)

Hops = npt.NDArray[np.float32]


def calibrations(model: LegModel = TYPICAL) -> dict[Channel, ChannelCalibration]:
    return {Channel.WIDE: ChannelCalibration(LlrAffine(1.0, 0.0), model)}


def white_legs(
    seed: int, legs: int, hops: int, *, spoofed: bool = False, model: LegModel = TYPICAL
) -> Hops:
    """Hop LLRs as the simulation behind the boundaries has them, other seeds."""
    rng = np.random.default_rng(seed)
    out = rng.standard_normal((legs, hops), dtype=np.float32)
    out *= np.float32(math.sqrt(model.hop_variance))
    out += (model.between_sd * rng.standard_normal((legs, 1))).astype(np.float32)
    out += np.float32(model.spoof_mean if spoofed else model.bonafide_mean)
    return out


def correlated_legs(seed: int, legs: int, hops: int, model: LegModel = TYPICAL) -> Hops:
    """Bona fide hop LLRs with first-order correlation and the same variance in the long run."""
    rng = np.random.default_rng(seed)
    rho = (model.correlation_hops - 1) / (model.correlation_hops + 1)
    noise = rng.standard_normal((hops, legs))
    noise[1:] *= math.sqrt(1 - rho**2)
    for now, before in zip(noise[1:], noise[:-1], strict=True):
        now += rho * before
    effect = model.between_sd * rng.standard_normal((legs, 1))
    return (model.bonafide_mean + effect + model.within_sd * noise.T).astype(np.float32)


def window(
    index: int,
    llr: float | None,
    *,
    new_hops: int = 1,
    segment: int = 0,
    rejected: Rejection | None = None,
    channel: Channel = Channel.WIDE,
    net_speech_s: float = 0.5,
    attribution: Attribution | None = None,
) -> WindowScore:
    """The window whose last hop is ``index``."""
    end_s = (index + 1) * 0.5
    return WindowScore(
        leg="leg",
        segment=segment,
        index=index,
        start_s=max(0.0, end_s - 3.0),
        end_s=end_s,
        raw=llr,
        llr=llr,
        rejected=rejected,
        new_hops=new_hops,
        usable_hops=6,
        net_speech_s=net_speech_s,
        channel=channel,
        attribution=attribution,
    )


def windows(hops: Sequence[float] | Hops, *, first: int = 0, segment: int = 0) -> list[WindowScore]:
    """Full windows of a segment whose hop ``first`` is the first, one hop apart."""
    means = np.convolve(np.asarray(hops, dtype=np.float64), np.full(6, 1 / 6), mode="valid")
    return [
        window(
            first + 5 + place,
            llr,
            new_hops=6 if place == 0 else 1,
            net_speech_s=3.0 if place == 0 else 0.5,
            segment=segment,
        )
        for place, llr in enumerate(means.tolist())
    ]


def voter(
    settings: VerdictSettings | None = None, *, model: LegModel = TYPICAL, mixed: bool = False
) -> Voter:
    return Voter(settings or VerdictSettings(), calibrations(model), 0.01, mixed, "leg")


def play(judge: Voter, scores: Sequence[WindowScore]) -> list[Verdict]:
    return [judge.update(score) for score in scores]
