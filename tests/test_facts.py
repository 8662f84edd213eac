"""What alerts say of the rule: the rates asked for, and the levels that decide."""

from __future__ import annotations

import math

import pytest

from streamguard.facts import rule_of
from streamguard.verdict.calibration import ChannelCalibration
from streamguard.verdict.rulebook import Rulebook
from streamguard.verdict.scores import Channel
from streamguard.verdict.settings import CusumSettings, VerdictSettings
from tests.verdict.legs import SHARP, TYPICAL

CALIBRATIONS = {
    Channel.WIDE: ChannelCalibration(leg=TYPICAL),
    Channel.NARROW: ChannelCalibration(leg=SHARP),
    Channel.LOW_RATE: ChannelCalibration(),
}
ASKED = {"false_alarm", "miss", "min_net_speech_s", "horizon_net_speech_s"}


def test_the_sequential_rule_says_its_levels_per_calibrated_channel() -> None:
    book = Rulebook.make(VerdictSettings(suspect_llr=1.25, clear_llr=-0.25), CALIBRATIONS)
    rule = rule_of(book)
    assert rule.name == "sequential"
    assert rule.thresholds.keys() == ASKED | {
        *("suspect_llr", "clear_llr", "raise_llr_wide", "raise_llr_narrow"),
        *("accept_llr_wide", "accept_llr_narrow", "change_llr_wide", "change_llr_narrow"),
    }
    assert all(math.isfinite(number) for number in rule.thresholds.values())
    said = rule.thresholds
    assert (said["suspect_llr"], said["clear_llr"]) == (1.25, -0.25)
    for channel in (Channel.WIDE, Channel.NARROW):
        assert said[f"raise_llr_{channel.value}"] == book.raise_llr[channel]
        assert said[f"accept_llr_{channel.value}"] == book.accept_llr[channel]
        assert said[f"change_llr_{channel.value}"] == book.thresholds[channel]


@pytest.mark.parametrize("changes", [True, False])
def test_the_majority_rule_says_no_level_that_it_does_not_use(changes: bool) -> None:
    settings = VerdictSettings(rule="majority", cusum=CusumSettings(enabled=changes))
    rule = rule_of(Rulebook.make(settings, {Channel.WIDE: CALIBRATIONS[Channel.WIDE]}))
    assert rule.name == "majority"
    assert rule.thresholds.keys() == {
        *("k", "n", "quorum", "min_votes_s", "window_llr", "clear_k"),
        *("min_net_speech_s", "clear_llr"),
        *(("change_llr_wide",) if changes else ()),
    }
