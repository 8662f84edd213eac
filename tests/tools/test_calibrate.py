"""LLRs and leg models from scores whose truth is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.tools.test_crops import CLIP
from tools.calibrate import Leg, fit_leg_model, fit_llr, join_legs, source_weights
from tools.data import AudioCache


def test_each_class_weighs_half_and_sources_by_the_root_of_their_clips() -> None:
    sources = ["a"] * 9 + ["b"] + ["c"] * 4
    spoof = np.array([False] * 10 + [True] * 4)
    weights = source_weights(sources, spoof, np.ones(14))
    assert weights[~spoof].sum() == pytest.approx(0.5)
    assert weights[spoof].sum() == pytest.approx(0.5)
    assert weights[:9].sum() / weights[9] == pytest.approx(3.0)


def test_the_windows_of_one_clip_share_its_weight() -> None:
    spoof = np.array([False, False, False, True])
    weights = source_weights(["a"] * 4, spoof, np.array([0.5, 0.5, 1.0, 1.0]))
    assert weights[0] + weights[1] == pytest.approx(weights[2])


def test_gaussian_scores_get_their_true_ratios() -> None:
    """N(-1, 1) against N(1, 1), seen as raw = 3 x + 2: the LLR is 2 x = 2/3 raw - 4/3."""
    rng = np.random.default_rng(0)
    spoof = np.arange(40000) % 2 == 1
    x = rng.standard_normal(40000) + np.where(spoof, 1.0, -1.0)
    found = fit_llr(3 * x + 2, spoof, np.full(40000, 1 / 40000))
    assert found.scale == pytest.approx(2 / 3, rel=0.05)
    assert found.offset == pytest.approx(-4 / 3, rel=0.05)


def test_the_share_of_spoofs_does_not_move_the_ratios() -> None:
    rng = np.random.default_rng(1)
    spoof = np.arange(40000) % 10 == 0
    x = rng.standard_normal(40000) + np.where(spoof, 1.0, -1.0)
    found = fit_llr(x, spoof, source_weights(["a"] * 40000, spoof, np.ones(40000)))
    assert found.offset == pytest.approx(0.0, abs=0.08)


def test_scores_that_fall_with_spoof_are_refused() -> None:
    spoof = np.arange(100) % 2 == 1
    raw = np.where(spoof, -1.0, 1.0) + np.random.default_rng(0).standard_normal(100)
    with pytest.raises(ValueError, match="do not rise"):
        fit_llr(raw, spoof, np.full(100, 0.01))


def _legs(correlated: bool = False) -> list[Leg]:
    """Class means -1 and 2, between legs sd 1.5, within sd 2."""
    rng = np.random.default_rng(4)
    legs = []
    for number in range(1200):
        spoof = number % 2 == 1
        noise = 2.0 * rng.standard_normal(18)
        if correlated:
            noise = np.repeat(noise[:6], 3)
        mean = (2.0 if spoof else -1.0) + 1.5 * rng.standard_normal()
        legs.append(Leg(mean + noise, spoof, f"source {number % 40}"))
    return legs


def test_the_random_effect_per_leg_is_found_again() -> None:
    model = fit_leg_model(_legs())
    assert model.bonafide_mean == pytest.approx(-1.0, abs=0.2)
    assert model.spoof_mean == pytest.approx(2.0, abs=0.2)
    assert model.between_sd == pytest.approx(1.5, rel=0.1)
    assert model.within_sd == pytest.approx(2.0, rel=0.05)
    assert model.correlation_hops == pytest.approx(1.0, abs=0.1)


def test_hops_that_repeat_each_other_count_once() -> None:
    model = fit_leg_model(_legs(correlated=True))
    assert model.correlation_hops > 2.0
    assert model.within_sd**2 * model.correlation_hops == pytest.approx(12.0, rel=0.3)


def test_legs_that_are_all_alike_still_get_a_spread() -> None:
    rng = np.random.default_rng(0)
    legs = [
        Leg(rng.standard_normal(50) + spoof, bool(spoof), str(number))
        for number in range(30)
        for spoof in (0, 1)
    ]
    assert fit_leg_model(legs).between_sd >= 0.1
    assert math.isfinite(fit_leg_model(legs).between_sd)


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


def test_each_class_has_its_own_spread_and_that_of_few_human_sources_its_upper_bound() -> None:
    """Human legs differ by 0.5, spoofed ones by 1.5; 16 sources each."""
    rng = np.random.default_rng(8)
    legs = [
        Leg(
            rng.normal(rng.normal(1.0, 1.5) if spoof else rng.normal(-1.0, 0.5), 1.0, 24),
            spoof,
            f"{spoof}{number % 16}",
        )
        for spoof in (False, True)
        for number in range(800)
    ]
    model = fit_leg_model(legs)
    assert model.spoof_between_sd == pytest.approx(1.5, rel=0.08)
    # chi-squared, 15 degrees of freedom: sqrt(15 / 7.26) = 1.44
    assert model.bonafide_between_sd == pytest.approx(0.5 * 1.437, rel=0.08)
    pooled = math.sqrt((0.5**2 + 1.5**2) / 2)
    assert model.between_sd == pytest.approx(pooled, rel=0.08)
