"""Whether a window may speak, and if not, why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamguard.audio.frames import HopQuality
from streamguard.audio.settings import GateSettings
from streamguard.verdict.calibration import ConformalTable
from streamguard.verdict.rejection import PRECEDENCE, is_strange, judge_window, net_speech_s
from streamguard.verdict.scores import Rejection

SETTINGS = GateSettings()
SPEECH = HopQuality(
    level_dbfs=-25.0,
    speech_fraction=0.6,
    clipped_fraction=0.0,
    lost_fraction=0.0,
    tone_fraction=0.0,
    music_likelihood=0.0,
    highband_db=-30.0,
    active_frames=30,
)
QUIET = replace(SPEECH, level_dbfs=-80.0, speech_fraction=0.0, active_frames=0)
NOISE = replace(QUIET, level_dbfs=-30.0)
LOST = replace(SPEECH, lost_fraction=0.4)
TONE = replace(SPEECH, tone_fraction=0.4)
CLIPPED = replace(SPEECH, clipped_fraction=0.05)
MUSIC = replace(SPEECH, music_likelihood=0.95)
PROMPT = replace(SPEECH, announcement=True)


def test_six_hops_of_speech_are_evidence() -> None:
    assert judge_window([SPEECH] * 6, SETTINGS) is None


@pytest.mark.parametrize(
    ("hop", "reason"),
    [
        (QUIET, Rejection.SILENCE),
        (NOISE, Rejection.NON_SPEECH),
        (LOST, Rejection.PACKET_LOSS),
        (TONE, Rejection.TONE),
        (CLIPPED, Rejection.CLIPPED),
        (MUSIC, Rejection.MUSIC),
        (PROMPT, Rejection.ANNOUNCEMENT),
    ],
)
def test_a_window_of_one_fault_is_rejected_for_it(hop: HopQuality, reason: Rejection) -> None:
    assert judge_window([hop] * 6, SETTINGS) is reason


def test_a_hop_dropped_by_overload_rejects_whatever_the_others_are() -> None:
    assert judge_window([SPEECH] * 5 + [None], SETTINGS) is Rejection.OVERLOAD
    assert judge_window([LOST] * 5 + [None], SETTINGS) is Rejection.OVERLOAD


@pytest.mark.parametrize("bad", [QUIET, NOISE, LOST, TONE, CLIPPED])
def test_bad_hops_do_not_spoil_a_window_with_enough_speech_beside_them(bad: HopQuality) -> None:
    assert judge_window([bad, bad, SPEECH, SPEECH, SPEECH, SPEECH], SETTINGS) is None


def test_speech_in_hops_that_may_not_be_used_does_not_count() -> None:
    assert judge_window([LOST] * 3 + [SPEECH] * 3, SETTINGS) is Rejection.PACKET_LOSS


def test_the_net_speech_needed_is_exactly_the_configured_one() -> None:
    some = replace(SPEECH, speech_fraction=0.34, active_frames=17)
    assert judge_window([some] * 6, GateSettings(min_net_speech_s=1.02)) is None
    assert judge_window([some] * 6, GateSettings(min_net_speech_s=1.03)) is Rejection.NON_SPEECH


def test_of_several_faults_the_first_in_precedence_that_a_third_has_is_named() -> None:
    window = [LOST, LOST, TONE, TONE, QUIET, QUIET]
    assert judge_window(window, SETTINGS) is Rejection.PACKET_LOSS
    assert judge_window([LOST, TONE, TONE, QUIET, QUIET, QUIET], SETTINGS) is Rejection.TONE
    assert judge_window([LOST, TONE, QUIET, QUIET, QUIET, QUIET], SETTINGS) is Rejection.SILENCE


def test_faults_that_nobody_shares_are_too_little_speech() -> None:
    window = [LOST, TONE, CLIPPED, QUIET, NOISE, SPEECH]
    assert judge_window(window, SETTINGS) is Rejection.NON_SPEECH


def test_music_in_the_newest_hop_holds_for_the_whole_window() -> None:
    assert judge_window([SPEECH] * 5 + [MUSIC], SETTINGS) is Rejection.MUSIC
    assert judge_window([MUSIC] + [SPEECH] * 5, SETTINGS) is None


def test_a_shorter_window_needs_proportionally_less_speech() -> None:
    some = replace(SPEECH, speech_fraction=0.4, active_frames=20)
    assert judge_window([some], SETTINGS) is None
    assert judge_window([some, QUIET], SETTINGS) is Rejection.SILENCE


def test_no_hops_are_no_evidence() -> None:
    assert judge_window([], SETTINGS) is Rejection.NON_SPEECH


def test_net_speech_is_counted_in_seconds() -> None:
    assert net_speech_s(SPEECH) == pytest.approx(0.3)


def test_every_reason_that_a_hop_can_have_is_in_the_precedence() -> None:
    assert len(set(PRECEDENCE)) == len(PRECEDENCE) == 7


def test_a_score_that_few_held_out_windows_reach_is_strange() -> None:
    table = ConformalTable(tuple(float(i) for i in range(99)))
    assert is_strange(98.5, table, 0.02)
    assert not is_strange(98.5, table, 0.01), "one in a hundred is what alpha allows"
    assert not is_strange(97.0, table, 0.02)


def test_without_a_score_or_a_table_nothing_is_strange() -> None:
    assert not is_strange(None, ConformalTable((0.0,)), 0.9)
    assert not is_strange(1e9, None, 0.9)
