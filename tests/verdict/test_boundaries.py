"""The boundaries keep what was asked, for legs of five seconds and of an hour."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from streamguard.verdict.boundaries import (
    LIFE_HOPS,
    crossing_share,
    find_boundaries,
    level_for,
    mean_for,
    running_mean,
)
from streamguard.verdict.calibration import LegModel
from streamguard.verdict.evidence import Evidence
from streamguard.verdict.scores import Channel
from tests.verdict.legs import SHARP, TYPICAL, Hops, correlated_legs, white_legs

FIRST, HORIZON = 6, 120
LENGTHS = (10, 120, 1200, LIFE_HOPS)  # 5 s, 1 min, 10 min, 1 h


def llrs(hops: Hops, model: LegModel) -> Hops:
    """Leg LLR at every look, ``[legs, looks]``."""
    weight = np.minimum(np.arange(1, hops.shape[1] + 1), HORIZON)
    variance = model.between_sd**2 + model.hop_variance / weight
    middle = (model.spoof_mean + model.bonafide_mean) / 2
    scale = (model.separation / variance).astype(np.float32)
    out = (running_mean(hops) - np.float32(middle)) * scale
    return out[:, FIRST - 1 :].astype(np.float32)


def allowed(rate: float, legs: int) -> float:
    """The asked rate plus three standard errors of counting it in so many legs."""
    return rate + 3 * math.sqrt(rate * (1 - rate) / legs)


@pytest.mark.parametrize("rate", [0.1, 0.01])
def test_false_alarms_per_leg_stay_what_was_asked_for_from_five_seconds_to_an_hour(
    rate: float,
) -> None:
    level = level_for(TYPICAL, rate, FIRST, HORIZON)
    batches = 6
    crossed = np.concatenate(
        [
            np.maximum.accumulate(llrs(white_legs(seed, 400, LIFE_HOPS), TYPICAL), axis=1)[
                :, [length - FIRST for length in LENGTHS]
            ]
            >= level
            for seed in range(batches)
        ]
    )
    shares = crossed.mean(axis=0)
    assert (shares <= allowed(rate, 400 * batches)).all(), shares
    # The boundary is the smallest that does: over the hour it is used up, not just kept.
    assert shares[-1] >= rate - 3 * math.sqrt(rate * (1 - rate) / (400 * batches)), shares


def test_noise_correlated_from_hop_to_hop_gives_no_more_false_alarms() -> None:
    level = level_for(TYPICAL, 0.05, FIRST, HORIZON)
    highest = llrs(correlated_legs(11, 3000, 1200), TYPICAL).max(axis=1)
    assert np.mean(highest >= level) <= allowed(0.05, 3000)


def test_adding_up_windows_as_if_independent_would_break_the_promise() -> None:
    """The contrast: the sum of window LLRs against Wald's boundary for the same error rates."""
    legs = white_legs(12, 1000, 1200)
    wald = math.log((1 - 0.1) / 0.01)
    naive = np.cumsum(legs, axis=1)[:, FIRST - 1 :]
    assert (naive >= wald).any(axis=1).mean() > 0.15
    ours = llrs(legs, TYPICAL) >= level_for(TYPICAL, 0.01, FIRST, HORIZON)
    assert ours.any(axis=1).mean() <= allowed(0.01, len(legs))


def test_spoofed_legs_called_bona_fide_stay_what_was_asked_for() -> None:
    found = find_boundaries(
        TYPICAL,
        false_alarm=0.01,
        miss=0.1,
        first_look_hops=FIRST,
        horizon_hops=HORIZON,
        suspect_llr=1.0,
        clear_llr=0.0,
    )
    legs = llrs(white_legs(13, 2000, 1200, spoofed=True), TYPICAL)
    assert (legs <= found.accept_llr).any(axis=1).mean() <= allowed(0.1, len(legs))


def test_the_stated_detection_rate_is_the_one_that_simulated_legs_have() -> None:
    level = level_for(TYPICAL, 0.01, FIRST, HORIZON)
    curve = dict(crossing_share(TYPICAL, level, FIRST, HORIZON, spoofed=True))
    hops = max(length for length in curve if length <= HORIZON)
    legs = llrs(white_legs(14, 4000, hops, spoofed=True), TYPICAL)
    assert (legs >= level).any(axis=1).mean() == pytest.approx(curve[hops], abs=0.025)


def test_the_running_mean_is_what_evidence_holds_after_each_window() -> None:
    hops = white_legs(15, 1, 40)
    total = np.cumsum(hops[0], dtype=np.float64)
    evidence = Evidence({Channel.WIDE: TYPICAL}, HORIZON)
    for last in range(5, 40):
        mean = (total[last] - (total[last - 6] if last > 5 else 0.0)) / 6
        evidence.add(Channel.WIDE, float(mean), 6 if last == 5 else 1)
        assert evidence.llr() == pytest.approx(llrs(hops, TYPICAL)[0, last - 5], abs=1e-4)


def test_fewer_false_alarms_need_a_higher_boundary() -> None:
    levels = [level_for(TYPICAL, rate, FIRST, HORIZON) for rate in (0.2, 0.05, 0.01, 0.001)]
    assert levels == sorted(levels)
    assert len(set(levels)) == 4


def test_a_boundary_is_never_below_suspect_nor_acceptance_above_clear() -> None:
    found = find_boundaries(
        SHARP,  # where a bona fide leg hardly ever comes near 0
        false_alarm=0.3,
        miss=0.3,
        first_look_hops=FIRST,
        horizon_hops=HORIZON,
        suspect_llr=2.0,
        clear_llr=-1.0,
    )
    assert found.raise_llr == 2.0
    assert found.accept_llr <= -1.0


@pytest.mark.parametrize(("between_sd", "within_sd"), [(0.0, 2.0), (2.0, 0.0), (0.01, 0.01)])
def test_models_without_one_of_the_variances_still_have_boundaries(
    between_sd: float, within_sd: float
) -> None:
    model = LegModel(-1.0, 1.0, between_sd, within_sd)
    assert math.isfinite(level_for(model, 0.01, FIRST, HORIZON))


UNEQUAL = LegModel(
    bonafide_mean=-0.6,
    spoof_mean=0.9,
    between_sd=1.2,
    within_sd=1.5,
    bonafide_between_sd=0.6,
    spoof_between_sd=1.6,
)
"""As real detectors give it: synthetic voices differ among each other more than human ones."""
WIDE_HUMAN = replace(UNEQUAL, bonafide_between_sd=1.6, spoof_between_sd=0.6)


@pytest.mark.parametrize("model", [UNEQUAL, WIDE_HUMAN, TYPICAL])
@pytest.mark.parametrize("hops", [6, 60, 6000])
def test_the_mean_for_a_level_is_the_inverse_of_the_llr(model: LegModel, hops: int) -> None:
    for level in (-1.0, 0.0, 0.5, 1.5):
        mean = mean_for(model, level, hops)
        if math.isfinite(mean):
            assert model.llr(mean, hops) == pytest.approx(level, abs=1e-6)
        else:
            assert model.llr(-1e3, hops) > level


@pytest.mark.parametrize("model", [UNEQUAL, WIDE_HUMAN])
def test_a_higher_mean_is_never_milder_evidence_whatever_the_spreads(model: LegModel) -> None:
    llrs = [model.llr(float(mean), 60) for mean in np.linspace(-20, 20, 400)]
    assert all(one <= other + 1e-12 for one, other in pairwise(llrs))


def test_between_the_class_means_the_llr_is_the_log_ratio_of_the_densities() -> None:
    def density(mean: float, centre: float, between: float) -> float:
        variance = between**2 + 1.5**2 / 40
        return math.exp(-((mean - centre) ** 2) / 2 / variance) / math.sqrt(variance)

    expected = math.log(density(0.3, 0.9, 1.6) / density(0.3, -0.6, 0.6))
    assert UNEQUAL.llr(0.3, 40) == pytest.approx(expected)


@pytest.mark.parametrize("model", [UNEQUAL, WIDE_HUMAN])
def test_asked_rates_hold_for_classes_of_different_spread(model: LegModel) -> None:
    """Counted on legs drawn here, independently of the simulation that found the boundaries."""
    found = find_boundaries(
        model,
        false_alarm=0.02,
        miss=0.1,
        first_look_hops=6,
        horizon_hops=120,
        suspect_llr=0.0,
        clear_llr=0.0,
    )
    rng = np.random.default_rng(91)
    shares = {}
    for spoofed in (False, True):
        count, hops = 20_000, 360
        noise = rng.standard_normal((count, hops)).astype(np.float32) * model.within_sd
        effect = model.class_between_sd(spoofed=spoofed) * rng.standard_normal((count, 1))
        centre = model.spoof_mean if spoofed else model.bonafide_mean
        means = running_mean((noise + effect + centre).astype(np.float32))[:, 5:]
        raised = np.zeros(count, np.bool_)
        accepted = np.zeros(count, np.bool_)
        for look in range(means.shape[1]):
            hops_heard = min(look + 6, 120)
            raised |= means[:, look] >= mean_for(model, found.raise_llr, hops_heard)
            accepted |= means[:, look] <= mean_for(model, found.accept_llr, hops_heard)
        shares[spoofed] = (raised.mean(), accepted.mean())
    assert shares[False][0] <= 0.0215
    assert shares[True][1] <= 0.105
    if model is UNEQUAL:
        assert shares[False][0] > 0.012
        assert shares[True][0] > 5 * shares[False][0]
