"""The verdict on a leg, window by window."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamguard.verdict.calibration import ChannelCalibration, LegModel
from streamguard.verdict.scores import (
    Attribution,
    Channel,
    Label,
    Rejection,
    State,
    Verdict,
    WindowScore,
)
from streamguard.verdict.settings import CusumSettings, SequentialSettings, VerdictSettings
from streamguard.verdict.voter import Voter
from tests.verdict.legs import (
    NO_CUSUM,
    SHARP,
    calibrations,
    play,
    voter,
    white_legs,
    window,
    windows,
)

LEVEL_ONLY = VerdictSettings(cusum=NO_CUSUM)
AT_ONCE = VerdictSettings(cusum=NO_CUSUM, min_dwell_s=0.0)
RANK = [State.BONAFIDE, State.UNKNOWN, State.SUSPECT, State.SPOOF]


def states(verdicts: list[Verdict]) -> list[State]:
    return [verdict.state for verdict in verdicts]


def evidence_of(verdict: Verdict) -> Verdict:
    """The verdict without what merely counts windows."""
    return dataclasses.replace(verdict, windows_rejected={}, windows_scored=0, offset_s=0.0)


def test_too_little_speech_is_unknown_never_bona_fide() -> None:
    slow = VerdictSettings(sequential=SequentialSettings(min_net_speech_s=6.0))
    seen = states(play(voter(slow, model=SHARP), windows([-5.0] * 20)))
    assert seen[:6] == [State.UNKNOWN] * 6  # 3.0 to 5.5 s
    assert seen[6] is State.BONAFIDE


def test_an_all_rejected_leg_stays_unknown_and_counts_why() -> None:
    judge = voter()
    for index in range(5, 205):
        why = Rejection.SILENCE if index % 4 else Rejection.TONE
        verdict = judge.update(window(index, 8.0, rejected=why))
    assert verdict.state is State.UNKNOWN
    assert verdict.llr == 0.0
    assert verdict.net_speech_s == 0.0
    assert verdict.windows_scored == 0
    assert verdict.windows_rejected == {Rejection.SILENCE: 150, Rejection.TONE: 50}
    assert verdict.p_spoof == pytest.approx(0.01)
    assert verdict.offset_s == 102.5


def test_a_synthetic_leg_raises_and_says_with_which_windows() -> None:
    verdict = play(voter(LEVEL_ONLY), windows([3.0] * 20 + [6.0] * 6 + [3.0] * 20))[-1]
    assert verdict.state is State.SPOOF
    assert not verdict.changed
    assert verdict.p_spoof == pytest.approx(1 / (1 + 99 * math.exp(-verdict.llr)))
    assert verdict.evidence[0] == (10.0, 13.0)
    assert verdict.net_speech_s == 23.0


def test_a_human_leg_is_bona_fide_with_the_windows_that_say_so() -> None:
    verdict = play(voter(LEVEL_ONLY), windows([-1.5] * 20 + [-6.0] * 6 + [-1.5] * 20))[-1]
    assert verdict.state is State.BONAFIDE
    assert verdict.evidence[0] == (10.0, 13.0)


def test_audio_that_cannot_tell_stays_unknown_however_long() -> None:
    verdict = play(voter(LEVEL_ONLY), windows([0.0] * 1000))[-1]
    assert verdict.state is State.UNKNOWN
    assert verdict.evidence == ()


def test_the_same_hops_twice_change_nothing() -> None:
    scores = windows(white_legs(31, 1, 60, spoofed=True)[0])
    once = play(voter(), scores)[-1]
    judge = voter()
    for score in scores:
        judge.update(score)
        judge.update(score)  # the same window again
    assert judge.update(scores[0]) == once
    # Another window that claims hops which lie before the last accepted one.
    claims = window(scores[-1].index, 9.0, new_hops=6)
    assert judge.update(claims) == once
    # A later window all of whose new hops were unusable.
    nothing_new = window(scores[-1].index + 1, 9.0, new_hops=0)
    assert evidence_of(judge.update(nothing_new)) == evidence_of(once)


def test_a_channel_without_calibration_abstains() -> None:
    verdict = voter().update(window(5, 9.0, new_hops=6, channel=Channel.NARROW))
    assert verdict.windows_rejected == {Rejection.UNCALIBRATED: 1}
    useless = {Channel.WIDE: ChannelCalibration(leg=dataclasses.replace(SHARP, spoof_mean=-3.0))}
    verdict = Voter(VerdictSettings(), useless, 0.01, False, "leg").update(window(5, 9.0))
    assert verdict.windows_rejected == {Rejection.UNCALIBRATED: 1}


@pytest.mark.parametrize("llr", [None, math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_abstains(llr: float | None) -> None:
    assert voter().update(window(5, llr)).windows_rejected == {Rejection.UNCALIBRATED: 1}


def test_spoof_is_kept_until_the_clear_level_and_the_dwell_time() -> None:
    judge = voter(LEVEL_ONLY)
    raised = [i for i, s in enumerate(states(play(judge, windows([5.0] * 12)))) if s is State.SPOOF]
    assert raised
    falling = play(judge, windows([-5.0] * 40, first=12))
    left = states(falling).index(State.BONAFIDE) if State.BONAFIDE in states(falling) else None
    assert left is not None
    before = falling[: next(i for i, s in enumerate(states(falling)) if s is not State.SPOOF)]
    # Down to the clear level it stays SPOOF, also where a new leg would not even be suspect.
    assert min(verdict.llr for verdict in before) < 1.0
    assert all(verdict.llr > 0.0 for verdict in before)


def test_a_raised_leg_is_not_cleared_before_its_dwell_time() -> None:
    patient = VerdictSettings(cusum=NO_CUSUM, min_dwell_s=30.0)
    judge = voter(patient, model=SHARP)
    verdicts = play(judge, windows([6.0] * 8)) + play(judge, windows([-9.0] * 100, first=8))
    spoof = [verdict.offset_s for verdict in verdicts if verdict.state is State.SPOOF]
    assert 30.0 <= spoof[-1] + 0.5 - spoof[0] <= 31.0
    assert verdicts[-1].state is State.BONAFIDE


def human_then_synthetic(seed: int, before: int = 60, after: int = 80) -> list[WindowScore]:
    leg = white_legs(seed, 1, before + after)[0]
    leg[before:] += 2.4
    return windows(leg)


def test_a_voice_that_turns_synthetic_in_mid_call_raises_through_the_change() -> None:
    """Typical parameters; most legs, soon after the change, and said to be a change."""
    raised, delays, begins = 0, [], []
    for seed in range(100, 160):
        verdicts = play(voter(), human_then_synthetic(seed))
        first = next((v for v in verdicts if v.state is State.SPOOF), None)
        if first is not None and first.changed:
            raised += 1
            delays.append(first.offset_s - 30.0)
            assert first.llr > 0
            begins.append(min(start_s for start_s, _ in first.evidence))
    assert raised >= 45
    assert 5.0 < float(np.median(delays)) < 20.0
    assert float(np.median(begins)) >= 25.0  # the evidence is that after the change


def test_without_the_change_detector_the_same_legs_mostly_pass() -> None:
    legs = [play(voter(LEVEL_ONLY), human_then_synthetic(seed)) for seed in range(100, 160)]
    assert sum(State.SPOOF in states(verdicts) for verdicts in legs) < 15


def test_a_voice_that_changes_back_clears() -> None:
    leg = np.r_[np.full(60, -1.5), np.full(60, 3.0), np.full(80, -1.5)].astype(np.float32)
    verdicts = play(voter(), windows(leg))
    spoof = [verdict.offset_s for verdict in verdicts if verdict.state is State.SPOOF]
    assert 30.0 < spoof[0] < 45.0
    assert 60.0 < spoof[-1] < 75.0
    assert verdicts[-1].state is State.BONAFIDE
    assert not verdicts[-1].changed


def test_a_change_raises_under_the_majority_rule_too() -> None:
    leg = np.r_[np.full(60, -3.0), np.full(60, 1.0)].astype(np.float32)  # below its votes
    verdicts = play(voter(VerdictSettings(rule="majority")), windows(leg))
    assert verdicts[-1].state is State.SPOOF
    assert verdicts[-1].changed


def test_a_change_of_the_channel_is_not_a_change_of_the_voice() -> None:
    """A narrow-band score of a human voice may be as high as a wide-band one of a synthetic one."""
    narrow = LegModel(bonafide_mean=2.0, spoof_mean=4.0, between_sd=1.3, within_sd=1.8)
    both = {**calibrations(), Channel.NARROW: ChannelCalibration(leg=narrow)}
    human = [
        dataclasses.replace(score, channel=Channel.WIDE if score.end_s <= 30 else Channel.NARROW)
        for score in windows(np.r_[np.full(60, -1.5), np.full(80, 2.0)].astype(np.float32))
    ]
    verdicts = play(Voter(VerdictSettings(), both, 0.01, False, "leg"), human)
    assert State.SPOOF not in states(verdicts)
    assert verdicts[-1].state is State.BONAFIDE


def test_a_change_between_two_bona_fide_levels_does_not_raise() -> None:
    leg = np.r_[np.full(60, -6.0), np.full(120, -3.0)].astype(np.float32)
    assert State.SPOOF not in states(play(voter(), windows(leg)))


def test_actual_legs_through_the_voter_keep_the_asked_false_alarms() -> None:
    rate, legs = 0.1, 300
    asked = VerdictSettings(sequential=SequentialSettings(false_alarm=rate), cusum=NO_CUSUM)
    false = sum(
        State.SPOOF in states(play(voter(asked), windows(leg))) for leg in white_legs(32, legs, 120)
    )
    assert false <= legs * rate + 3 * math.sqrt(legs * rate * (1 - rate))


def test_a_new_segment_is_not_spliced_to_the_old_one() -> None:
    judge = voter(LEVEL_ONLY)
    assert play(judge, windows([-3.0] * 60))[-1].state is State.BONAFIDE
    after = judge.update(window(70, -3.0, new_hops=1, segment=1))
    assert after.state is State.UNKNOWN  # half a second of a voice not heard before
    alone = play(voter(LEVEL_ONLY), windows([3.0] * 30, segment=1, first=80))[-1]
    assert play(judge, windows([3.0] * 30, segment=2, first=80))[-1].llr == alone.llr


def test_a_new_segment_does_not_clear_an_alert_before_it_is_judged() -> None:
    judge = voter(LEVEL_ONLY, model=SHARP)
    assert play(judge, windows([3.0] * 20))[-1].state is State.SPOOF
    assert judge.update(window(25, -3.0, segment=1)).state is State.SPOOF
    assert play(judge, windows([-3.0] * 20, segment=1, first=26))[-1].state is State.BONAFIDE


def scraps(llr: float, count: int, *, hops: int = 5, first: int = 0) -> list[WindowScore]:
    """The partial windows of segments of ``hops`` hops each, with half a second between them."""
    return [
        window(
            first + (hops + 1) * (number + 1) - 2,
            llr,
            new_hops=hops,
            net_speech_s=hops / 2,
            segment=number,
        )
        for number in range(count)
    ]


def test_a_sender_that_always_begins_anew_is_judged_all_the_same() -> None:
    """2.5 s of speech, another SSRC, and again: each by itself is too short to be judged."""
    seen = play(voter(LEVEL_ONLY, model=SHARP), scraps(9.0, 400))
    assert seen[0].state is State.UNKNOWN
    assert [verdict.state for verdict in seen[1:]] == [State.SPOOF] * 399
    # Two are enough to be judged, more are evidence: a few of them say what two cannot.
    faint = play(voter(LEVEL_ONLY), scraps(2.5, 400))
    assert faint[1].state is State.SUSPECT
    assert faint[-1].state is State.SPOOF
    human = play(voter(LEVEL_ONLY), scraps(-1.5, 400))
    assert human[-1].state is State.BONAFIDE


def test_on_a_mixed_line_short_segments_are_not_joined() -> None:
    """They are of whoever speaks."""
    assert set(states(play(voter(LEVEL_ONLY, mixed=True), scraps(9.0, 400)))) == {State.UNKNOWN}


@pytest.mark.parametrize(("before", "after"), [(-3.0, 3.0), (3.0, -3.0)])
def test_a_segment_long_enough_to_be_judged_is_judged_without_the_short_ones_before(
    before: float, after: float
) -> None:
    label = Attribution(Label("tts", 0.5))
    judge = voter(LEVEL_ONLY)
    play(judge, scraps(before, 40))
    first, *others = windows([after] * 40, segment=40, first=300)
    almost = dataclasses.replace(first, net_speech_s=2.75)
    judge.update(almost)  # still one of the scraps
    judge.attribute(almost.index, label)  # comes late, and is not lost with them
    verdict = play(judge, others)[-1]
    alone = voter(LEVEL_ONLY)
    alone.update(dataclasses.replace(almost, attribution=label))
    by_itself = play(alone, others)[-1]
    assert (verdict.state, verdict.llr) == (by_itself.state, by_itself.llr)
    assert (verdict.attribution, verdict.evidence) == (by_itself.attribution, by_itself.evidence)


def test_short_segments_after_one_that_was_judged_do_not_dilute_it_nor_are_they_diluted() -> None:
    judge = voter(LEVEL_ONLY)
    assert play(judge, windows([-3.0] * 120))[-1].state is State.BONAFIDE
    later = play(
        judge, [dataclasses.replace(s, segment=s.segment + 1) for s in (scraps(3.0, 60, first=130))]
    )
    assert later[-1].llr == play(voter(LEVEL_ONLY), scraps(3.0, 60))[-1].llr
    assert later[-1].state is State.SPOOF


def test_what_is_found_in_short_segments_counts_until_a_long_one_has_cleared_it() -> None:
    judge = voter(LEVEL_ONLY, model=SHARP)
    assert play(judge, scraps(9.0, 4))[-1].state is State.SPOOF
    seen = play(judge, windows([-3.0] * 30, segment=4, first=40))
    assert seen[-1].state is State.BONAFIDE


def test_only_evidence_clears_and_a_voice_that_begins_anew_is_none() -> None:
    judge = voter(AT_ONCE, model=SHARP)
    assert not judge.verdict.clear  # its LLR is 0, but nothing has been heard
    assert not any(verdict.clear for verdict in play(judge, windows([3.0] * 20)))
    assert not judge.update(window(25, -3.0, segment=1)).clear
    assert play(judge, windows([-3.0] * 20, segment=1, first=26))[-1].clear


def test_a_leg_that_falls_from_spoof_to_the_clear_level_is_clear_before_it_is_bona_fide() -> None:
    judge = voter(AT_ONCE)
    play(judge, windows([5.0] * 12))
    falling = play(judge, windows([-5.0] * 40, first=12))
    left = next(verdict for verdict in falling if verdict.state is not State.SPOOF)
    assert left.state is State.UNKNOWN
    assert left.clear
    assert left.llr <= 0.0
    assert all(v.clear == (v.state in (State.UNKNOWN, State.BONAFIDE)) for v in falling)


def test_rejected_windows_of_a_new_segment_change_nothing() -> None:
    judge = voter(LEVEL_ONLY)
    play(judge, windows([-3.0] * 60))
    assert judge.update(window(70, None, segment=1, rejected=Rejection.TONE)).state is (
        State.BONAFIDE
    )


def test_on_a_mixed_line_the_worst_talk_segment_counts_for_a_while() -> None:
    judge = voter(VerdictSettings(cusum=NO_CUSUM, mixed_hold_s=20.0), model=SHARP, mixed=True)
    assert play(judge, windows([3.0] * 20))[-1].state is State.SPOOF
    later = play(judge, windows([-3.0] * 80, first=30))  # 10 s to 15 s: a pause
    spoof = [verdict.offset_s for verdict in later if verdict.state is State.SPOOF]
    assert spoof[-1] == 30.0
    assert later[-1].state is State.BONAFIDE


def test_on_a_mixed_line_a_short_pause_is_the_same_talk_segment() -> None:
    judge = voter(LEVEL_ONLY, mixed=True)
    play(judge, windows([-3.0] * 20))
    near = judge.update(window(25, -3.0))
    far = judge.update(window(32, -3.0))
    assert (near.state, far.state) == (State.BONAFIDE, State.UNKNOWN)


def test_a_pause_on_a_line_of_one_voice_is_only_a_pause() -> None:
    judge = voter(LEVEL_ONLY)
    play(judge, windows([-3.0] * 20))
    assert judge.update(window(200, -3.0)).state is State.BONAFIDE


def test_labels_are_those_of_the_suspicious_windows_early_or_late() -> None:
    label = Attribution(Label("tts", 1.0), Label("vits", 1.0))  # twice which is no more
    scores = windows([3.0] * 30)
    judge = voter(LEVEL_ONLY)
    assert play(judge, scores)[-1].attribution == Attribution()
    assert judge.attribute(scores[3].index, label).attribution == label
    other = Attribution(Label("vc", 0.5))
    assert judge.attribute(scores[3].index, other).attribution == label  # it has its labels
    early = play(voter(LEVEL_ONLY), [dataclasses.replace(s, attribution=label) for s in scores])
    assert early[-1].attribution == label
    human = [dataclasses.replace(score, attribution=label) for score in windows([-3.0] * 30)]
    assert play(voter(LEVEL_ONLY), human)[-1].attribution == Attribution()


def test_after_a_change_only_labels_since_the_change_count() -> None:
    old, new = Attribution(Label("vc", 1.0)), Attribution(Label("tts", 1.0))
    scores = [
        dataclasses.replace(score, attribution=old if score.end_s <= 30 else new)
        for score in windows(np.r_[np.full(60, -1.5), np.full(60, 3.0)].astype(np.float32))
    ]
    assert play(voter(), scores)[-1].attribution == new


@pytest.mark.parametrize("prior", [0.0, 1.0, -1.0, math.nan])
def test_a_prior_that_is_no_probability_is_refused(prior: float) -> None:
    with pytest.raises(ValueError, match="prior"):
        Voter(VerdictSettings(), calibrations(), prior, False, "leg")


LLRS = st.lists(st.floats(-12, 12), min_size=1, max_size=60)


@settings(max_examples=60)
@given(
    LLRS,
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from(list(Rejection))), max_size=30),
    st.booleans(),
)
def test_the_verdict_does_not_depend_on_where_rejected_windows_lie(
    llrs: list[float], rejected: list[tuple[int, Rejection]], mixed: bool
) -> None:
    # Accepted windows two hops apart leave room for a rejected one after each.
    accepted = [window(5 + 2 * i, llr, new_hops=6 if i == 0 else 2) for i, llr in enumerate(llrs)]
    extra = {place: why for place, why in rejected if place < len(llrs)}
    judge, plain = voter(mixed=mixed), voter(mixed=mixed)
    for place, score in enumerate(accepted):
        expected = plain.update(score)
        assert evidence_of(judge.update(score)) == evidence_of(expected)
        if place in extra:
            judge.update(window(score.index + 1, 99.0, rejected=extra[place], segment=place))


@settings(max_examples=60)
@given(LLRS, st.floats(0, 10))
def test_more_evidence_for_spoof_never_makes_the_verdict_milder(
    llrs: list[float], more: float
) -> None:
    low, high = voter(AT_ONCE), voter(AT_ONCE)
    for index, llr in enumerate(llrs):
        mild = low.update(window(5 + index, llr, new_hops=1 if index else 6))
        harsh = high.update(window(5 + index, llr + more, new_hops=1 if index else 6))
        assert harsh.llr >= mild.llr
        assert RANK.index(harsh.state) >= RANK.index(mild.state)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.floats()),
            st.integers(-3, 100),
            st.integers(0, 3),
            st.floats(0, 1e6),
            st.sampled_from([*Channel]),
        ),
        max_size=80,
    ),
    st.booleans(),
)
def test_whatever_comes_in_the_verdict_is_finite_and_well_formed(
    scores: list[tuple[float | None, int, int, float, Channel]], mixed: bool
) -> None:
    both = {**calibrations(), Channel.NARROW: ChannelCalibration(leg=SHARP)}
    eager = VerdictSettings(cusum=CusumSettings(baseline_s=3.0), min_dwell_s=0.0)
    judge = Voter(eager, both, 0.01, mixed, "leg")
    for index, (llr, new_hops, segment, speech_s, channel) in enumerate(scores):
        verdict = judge.update(
            window(
                index,
                llr,
                new_hops=new_hops,
                segment=segment,
                net_speech_s=speech_s,
                channel=channel,
            )
        )
        assert math.isfinite(verdict.llr)
        assert 0 <= verdict.p_spoof <= 1
        assert 0 <= verdict.net_speech_s <= (index + 1) * 0.5
        assert len(verdict.evidence) <= 8
        assert verdict.windows_scored + sum(verdict.windows_rejected.values()) == index + 1
