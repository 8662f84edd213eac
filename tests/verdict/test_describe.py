"""What ``check`` prints of the rule."""

from __future__ import annotations

import re

import pytest

from streamguard.verdict.calibration import ChannelCalibration, Exposure, FalseAlarms, LegModel
from streamguard.verdict.describe import WARNING, describe_rule
from streamguard.verdict.scores import Channel
from streamguard.verdict.settings import MajoritySettings, SequentialSettings, VerdictSettings
from tests.verdict.legs import NO_CUSUM, TYPICAL, calibrations


def described(settings: VerdictSettings, model: LegModel = TYPICAL) -> str:
    return "\n".join(describe_rule(settings, calibrations(model), prior=0.01))


def test_the_sequential_rule_says_what_raises_and_how_often_it_errs() -> None:
    text = described(VerdictSettings())
    assert re.search(
        r"wide band: raises after at least 3.0 s of net speech at LLR >= 3\.\d\d", text
    )
    false = re.search(r"per 1,000 call-hours .*: (\d+) by level, at most 100 by change", text)
    assert false is not None
    # 20 calls of 3 minutes per hour, just under 1 % of them.
    assert 150 <= int(false[1]) <= 200


def test_a_detector_too_weak_for_the_asked_error_rate_is_said_plainly() -> None:
    assert re.search(
        r"warning: wide band: .* raises only 2\d % of spoofed legs", described(VerdictSettings())
    )
    strong = LegModel(-4.0, 4.0, between_sd=1.0, within_sd=1.0)
    assert WARNING not in described(VerdictSettings(), strong)


def test_a_boundary_that_saturating_evidence_never_reaches_is_flagged() -> None:
    weak = LegModel(-0.1, 0.1, between_sd=1.5, within_sd=1.0)
    rare = VerdictSettings(sequential=SequentialSettings(false_alarm=0.0001))
    assert "the boundary is out of reach" in described(rare, weak)
    assert "the boundary is out of reach" not in described(VerdictSettings())


def test_the_majority_rule_is_said_in_windows_and_in_seconds() -> None:
    votes = MajoritySettings(k=4, n=6, quorum=5, min_votes_s=2.0, window_llr=1.5, clear_k=1)
    text = described(VerdictSettings(rule="majority", majority=votes, cusum=NO_CUSUM))
    assert "needs 4 of the last 6 accepted windows at LLR >= 1.5" in text
    assert "6 windows = up to 5.5 s of speech" in text
    assert "the change detector is off" in text
    assert "at most 0 by change" in text


@pytest.mark.parametrize("rule", ["sequential", "majority"])
def test_a_channel_without_a_leg_model_is_flagged(rule: str) -> None:
    settings = VerdictSettings.model_validate({"rule": rule})
    lines = describe_rule(settings, {Channel.NARROW: ChannelCalibration()}, prior=0.01)
    assert any(line.startswith(f"{WARNING}narrow band: no usable leg model") for line in lines)
    assert any("every leg will stay UNKNOWN" in line for line in lines)


def test_the_exposure_behind_the_numbers_is_stated() -> None:
    seen = Exposure(clips=900, legs=60, speakers=44, sources=19, hours=1.25)
    lines = describe_rule(
        VerdictSettings(), {Channel.WIDE: ChannelCalibration(leg=TYPICAL, exposure=seen)}, 0.01
    )
    assert any("60 legs of 44 speakers (1.2 h, 19 sources)" in line for line in lines)


@pytest.mark.parametrize("rule", ["sequential", "majority"])
def test_what_was_raised_on_human_legs_is_said_with_its_exposure_and_bound(rule: str) -> None:
    seen = FalseAlarms("sequential", 58, 40, 12, 0.4, 1, 2500.0, 11860.0, 0.079, 180.0)
    calibration = ChannelCalibration(leg=TYPICAL, false_alarms=seen)
    settings = VerdictSettings.model_validate({"rule": rule})
    text = "\n".join(describe_rule(settings, {Channel.WIDE: calibration}, 0.01))
    assert (
        "of 58 human legs of the calibration (40 speakers, 12 sources, 0.40 h of net speech) the "
        "default rule raised 1: 2500 per 1,000 call-hours, below 11860 with 95 % confidence"
    ) in text
