"""The random effect per leg, from legs whose truth is known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from streamguard.verdict.calibration import LlrAffine
from streamguard.verdict.scores import Channel, WindowScore
from tests.tools.test_crops import CLIP
from tools.calibration.legs import Leg, fit_leg_model, join_legs, widening
from tools.data import AudioCache

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


def windows(raw: Floats) -> list[WindowScore]:
    """A running leg: the first window adds six hops, each later one adds one."""
    return [
        WindowScore(
            "leg", 0, 5 + k, k / 2, (k + 6) / 2, float(value), float(value), None,
            6 if k == 0 else 1, 6, 3.0 if k == 0 else 0.5, Channel.WIDE,
        )
        for k, value in enumerate(raw)
    ]  # fmt: skip


def leg(hops: Floats, spoof: bool, source: str) -> Leg:
    """Windows that are the mean of their six hops."""
    raw = np.convolve(hops, np.full(6, 1 / 6), mode="valid")
    clip = replace(CLIP, label="spoof" if spoof else "bonafide", source_repo=source)
    return Leg.of(clip, windows(raw), LlrAffine(1.0, 0.0))


def some_legs(correlated: bool = False) -> list[Leg]:
    """Class means -1 and 2, between legs sd 1.5, within sd 2; 15 s each."""
    rng = np.random.default_rng(4)
    legs = []
    for number in range(1200):
        spoof = number % 2 == 1
        noise = 2.0 * rng.standard_normal(30)
        if correlated:
            noise = np.repeat(noise[:10:2], 6) * math.sqrt(0.5) + noise * math.sqrt(0.5)
        mean = (2.0 if spoof else -1.0) + 1.5 * rng.standard_normal()
        legs.append(leg(mean + noise, spoof, f"source {number % 40}"))
    return legs


def test_windows_count_as_in_the_daemons_evidence_and_those_apart_share_no_hop() -> None:
    found = leg(np.arange(18.0), spoof=True, source="a")
    assert found.length == 18
    assert found.apart.tolist() == [2.5, 8.5, 14.5]
    assert found.mean == pytest.approx((6 * 2.5 + sum(np.arange(3.5, 15.0))) / 18)


def test_the_llr_of_a_leg_is_that_of_its_windows() -> None:
    found = Leg.of(CLIP, windows(np.array([1.0, 2.0])), LlrAffine(2.0, -1.0))
    assert found.llrs.tolist() == [1.0, 3.0]


def test_the_random_effect_per_leg_is_found_again() -> None:
    model = fit_leg_model(some_legs())
    assert model.bonafide_mean == pytest.approx(-1.0, abs=0.2)
    assert model.spoof_mean == pytest.approx(2.0, abs=0.2)
    assert model.between_sd == pytest.approx(1.5, rel=0.1)
    assert model.hop_variance == pytest.approx(4.0, rel=0.1)


def test_windows_that_repeat_each_other_count_less() -> None:
    assert fit_leg_model(some_legs()).correlation_hops == pytest.approx(1.0, abs=0.1)
    rng = np.random.default_rng(5)
    drifting = [
        leg(np.repeat(rng.standard_normal(3), 12) + number % 2, number % 2 == 1, str(number % 30))
        for number in range(600)
    ]
    assert fit_leg_model(drifting).correlation_hops > 1.3


def test_legs_that_are_all_alike_still_get_a_spread() -> None:
    rng = np.random.default_rng(0)
    legs = [
        leg(rng.standard_normal(50) + spoof, bool(spoof), str(number))
        for number in range(30)
        for spoof in (0, 1)
    ]
    assert fit_leg_model(legs).between_sd >= 0.1
    assert math.isfinite(fit_leg_model(legs).between_sd)


def test_legs_shorter_than_a_window_count_only_where_there_are_few_others() -> None:
    """Their scores are of another kind: here they say the opposite."""
    rng = np.random.default_rng(2)
    long = [leg(rng.normal(3 * (k % 2), 1, 12), k % 2 == 1, str(k)) for k in range(60)]
    scrap = WindowScore("leg", 0, 1, 0.0, 1.0, 9.0, 9.0, None, 2, 2, 1.0, Channel.WIDE)
    short = [Leg.of(CLIP, [scrap], LlrAffine(1.0, 0.0)) for _ in range(30)]
    assert fit_leg_model(long + short).bonafide_mean == pytest.approx(0.0, abs=0.3)
    assert fit_leg_model(long[:9] + short).bonafide_mean > 4


def test_each_class_has_its_own_spread_and_that_of_few_human_sources_is_widened() -> None:
    """Human legs differ by 0.5, spoofed ones by 1.5; 16 sources each."""
    rng = np.random.default_rng(8)
    legs = [
        leg(
            rng.normal(rng.normal(1.0, 1.5) if spoof else rng.normal(-1.0, 0.5), 1.0, 24),
            spoof,
            f"{spoof}{number % 16}",
        )
        for spoof in (False, True)
        for number in range(800)
    ]
    model = fit_leg_model(legs)
    assert model.spoof_between_sd == pytest.approx(1.5, rel=0.08)
    # Student, 15 degrees of freedom: 2.602 * sqrt(17 / 16) / 2.326 = 1.153
    assert model.bonafide_between_sd == pytest.approx(0.5 * 1.153, rel=0.1)
    pooled = math.sqrt((0.5**2 + 1.5**2) / 2)
    assert model.between_sd == pytest.approx(pooled, rel=0.08)


@pytest.mark.parametrize("groups", [4, 12, 40])
def test_a_boundary_from_few_sources_keeps_the_asked_share_of_new_ones(groups: int) -> None:
    """A hundredth, on average over 20,000 calibrations; the plain deviation would miss it."""
    rng = np.random.default_rng(11)
    known, new = rng.standard_normal((20_000, groups)), rng.standard_normal((20_000, 50))
    sds = (new - known.mean(axis=1, keepdims=True)) / known.std(axis=1, ddof=1, keepdims=True)
    assert float(np.mean(sds > 2.326 * widening(groups))) == pytest.approx(0.01, rel=0.1)
    assert float(np.mean(sds > 2.326)) > 0.011


def test_clips_of_one_voice_are_joined_and_others_stay_alone() -> None:
    clips = [
        replace(CLIP, path="1", speaker="anna"),
        replace(CLIP, path="2", speaker="anna"),
        replace(CLIP, path="3", speaker="anna", set="extra"),
        replace(CLIP, path="4"),
        replace(CLIP, path="5"),
        replace(CLIP, path="6", speaker="anna", source_repo="b"),
    ]
    loud = np.full(16000 * len(clips), 5000, np.int16)
    loud[:8000] = 0
    spans = {clip.path: (16000 * n, 16000 * (n + 1)) for n, clip in enumerate(clips)}
    legs = join_legs(clips, AudioCache(loud, spans))
    assert [(clip.path, len(samples)) for clip, samples in legs] == [
        ("1", 24000),
        ("3", 16000),
        ("4", 16000),
        ("5", 16000),
        ("6", 16000),
    ]
