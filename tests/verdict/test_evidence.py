"""Evidence of a leg: saturating, counted once, one witness per leg."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.verdict.calibration import LegModel
from streamguard.verdict.evidence import Evidence, credible
from streamguard.verdict.scores import Channel
from tests.verdict.legs import TYPICAL

NARROW = LegModel(-0.5, 0.5, between_sd=1.0, within_sd=2.0)
MODELS = {Channel.WIDE: TYPICAL, Channel.NARROW: NARROW}


def filled(*parts: tuple[Channel, float, int], horizon: int = 120) -> Evidence:
    evidence = Evidence(MODELS, horizon)
    for channel, llr, hops in parts:
        evidence.add(channel, llr, hops)
    return evidence


def test_no_evidence_favours_nobody() -> None:
    assert filled().llr() == 0.0


def test_evidence_is_the_log_ratio_of_the_densities_of_the_mean() -> None:
    variance = TYPICAL.between_sd**2 + TYPICAL.within_sd**2 * 2 / 9

    def log_density(mean: float) -> float:
        return -((0.7 - mean) ** 2) / (2 * variance)

    expected = log_density(TYPICAL.spoof_mean) - log_density(TYPICAL.bonafide_mean)
    assert filled((Channel.WIDE, 0.7, 9)).llr() == pytest.approx(expected)


def test_evidence_grows_with_the_leg_but_saturates() -> None:
    growth = [filled((Channel.WIDE, 1.2, n), horizon=10**9).llr() for n in (6, 60, 600, 60_000)]
    assert growth == sorted(growth)
    limit = TYPICAL.separation * 1.2 / TYPICAL.between_sd**2
    assert growth[-1] == pytest.approx(limit, rel=1e-3)
    assert growth[-1] < 2 * growth[0]


def test_after_the_horizon_no_weight_is_added() -> None:
    assert filled((Channel.WIDE, 1.2, 120)).llr() == filled((Channel.WIDE, 1.2, 12_000)).llr()


def test_windows_count_by_the_hops_they_add() -> None:
    once = filled((Channel.WIDE, 1.0, 6), (Channel.WIDE, -1.0, 1))
    assert once.llr() == pytest.approx(filled((Channel.WIDE, 5 / 7, 7)).llr())
    assert once.hops == 7
    again = filled((Channel.WIDE, 1.0, 6), (Channel.WIDE, -1.0, 1), (Channel.WIDE, -1.0, 0))
    assert again.llr() == once.llr()


def test_a_second_channel_is_not_a_second_witness() -> None:
    wide = filled((Channel.WIDE, 2.0, 60)).llr()
    narrow = filled((Channel.NARROW, 2.0, 60)).llr()
    both = filled((Channel.WIDE, 2.0, 60), (Channel.NARROW, 2.0, 60)).llr()
    assert min(wide, narrow) <= both <= 1.1 * max(wide, narrow)


def test_splitting_a_leg_over_channels_with_one_model_changes_nothing() -> None:
    same = {Channel.WIDE: TYPICAL, Channel.NARROW: TYPICAL}
    split = Evidence(same, 120)
    split.add(Channel.WIDE, 2.0, 10)
    split.add(Channel.NARROW, -1.0, 20)
    assert split.llr() == pytest.approx(filled((Channel.WIDE, 0.0, 30)).llr())


def test_a_boundary_for_mixed_channels_lies_between_theirs() -> None:
    levels = {Channel.WIDE: 3.0, Channel.NARROW: 1.0}
    assert filled((Channel.WIDE, 0.0, 30)).level(levels) == 3.0
    assert filled((Channel.WIDE, 0.0, 30), (Channel.NARROW, 0.0, 10)).level(levels) == 2.5


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 10**6))
def test_any_credible_window_gives_finite_evidence(llr: float, hops: int) -> None:
    assert math.isfinite(filled((Channel.WIDE, credible(TYPICAL, llr), hops)).llr())


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9))
def test_what_is_credible_keeps_the_order(llr: float, more: float) -> None:
    assert credible(TYPICAL, llr) <= credible(TYPICAL, llr + more)
