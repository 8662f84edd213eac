"""The change detector: how often it errs, what it finds, and where."""

from __future__ import annotations

import math

import numpy as np
import pytest

from streamguard.verdict.cusum import Change, ChangeDetector, ChangeModel, threshold_for
from tests.verdict.legs import TYPICAL, correlated_legs, white_legs

MODEL = ChangeModel(shift=TYPICAL.separation, hop_variance=TYPICAL.hop_variance, baseline_hops=20)


def watch(
    detector: ChangeDetector, hops: np.ndarray[tuple[int], np.dtype[np.float32]]
) -> tuple[int, Change | None]:
    """(hop of the alarm, the change), or the length and None."""
    means = np.convolve(hops.astype(np.float64), np.full(6, 1 / 6), mode="valid").tolist()
    for place, llr in enumerate(means):
        change = detector.update(llr, 1 if place else 6)
        if change is not None:
            return place + 5, change
    return len(hops), None


@pytest.mark.parametrize(("hours", "legs_per_hour"), [(60, 1), (120, 20)])
def test_false_alarms_per_call_hour_stay_what_was_asked_for_in_long_and_short_calls(
    hours: int, legs_per_hour: int
) -> None:
    rate = 0.5
    threshold = threshold_for(MODEL, rate)
    legs = white_legs(21, hours * legs_per_hour, 7200 // legs_per_hour)
    alarms = sum(watch(ChangeDetector(MODEL, threshold), leg)[1] is not None for leg in legs)
    assert alarms <= hours * rate + 3 * math.sqrt(hours * rate)


def test_correlated_noise_gives_no_more_alarms() -> None:
    threshold = threshold_for(MODEL, 0.5)
    legs = correlated_legs(22, 240, 1800)  # 60 hours
    alarms = sum(watch(ChangeDetector(MODEL, threshold), leg)[1] is not None for leg in legs)
    assert alarms <= 30 + 3 * math.sqrt(30)


def test_the_simulated_threshold_is_about_that_of_the_detector_itself() -> None:
    """An hourly rate that happens often enough to be counted from below, too."""
    threshold = threshold_for(MODEL, 2.0)
    legs = white_legs(23, 60, 7200)
    share = np.mean([watch(ChangeDetector(MODEL, threshold), leg)[1] is not None for leg in legs])
    assert 1 - math.exp(-2.0) - 0.3 <= share <= 1 - math.exp(-2.0) + 0.15


def test_a_change_is_found_and_its_place_too() -> None:
    threshold = threshold_for(MODEL, 0.1)
    legs = white_legs(24, 200, 240)
    legs[:, 120:] += TYPICAL.separation
    found = [watch(ChangeDetector(MODEL, threshold), leg) for leg in legs]
    after = [(hop, change) for hop, change in found if change is not None and hop >= 120]
    assert len(after) >= 0.9 * len(legs)
    begins = [hop + 1 - change.windows for hop, change in after]
    assert 120 <= float(np.median(begins)) <= 126
    assert float(np.median([hop for hop, _ in after])) <= 120 + 40


def test_the_leg_s_own_level_does_not_matter() -> None:
    threshold = threshold_for(MODEL, 0.1)
    leg = white_legs(25, 1, 200)[0]
    leg[100:] += 3.0
    alarms = {watch(ChangeDetector(MODEL, threshold), leg + level)[0] for level in (-8, 0, 8)}
    assert len(alarms) == 1


def test_only_the_direction_that_is_watched_alarms() -> None:
    threshold = threshold_for(MODEL, 0.1)
    leg = np.r_[np.full(60, 2.0), np.full(60, -2.0)].astype(np.float32)
    assert watch(ChangeDetector(MODEL, threshold), leg)[1] is None
    hop, change = watch(ChangeDetector(MODEL, threshold, downwards=True), leg)
    assert change is not None
    assert 60 < hop < 90
    assert change.baseline_sum / change.baseline_hops == pytest.approx(2.0, abs=0.2)


def test_a_window_that_adds_no_hop_changes_nothing() -> None:
    detector = ChangeDetector(MODEL, threshold_for(MODEL, 0.1))
    for _ in range(60):
        assert detector.update(-1.0, 1) is None
    assert all(detector.update(50.0, 0) is None for _ in range(100))


def test_a_longer_baseline_can_be_surer() -> None:
    assert MODEL.llr(2.4, 1000, 20) < MODEL.llr(2.4, 1000, 60) < MODEL.llr(2.4, 1000, 10_000)


def test_rarer_alarms_need_a_higher_threshold() -> None:
    rates = (10.0, 1.0, 0.2, 0.1, 0.01, 0.001)
    thresholds = [threshold_for(MODEL, rate) for rate in rates]
    assert thresholds == sorted(thresholds)
    assert len(set(thresholds)) == len(rates)
