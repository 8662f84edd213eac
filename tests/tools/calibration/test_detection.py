"""Calibration of a detector, from scores whose truth is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from streamguard.inference.schema import CalibrationDoc
from streamguard.verdict.scores import Channel, WindowScore
from tests.tools.calibration.test_legs import windows
from tests.tools.test_crops import CLIP
from tools.calibration.detection import (
    ChannelScores,
    Heard,
    calibrate_detector,
    exposure,
    fit,
    fit_llr,
)
from tools.calibration.false_alarms import count_false_alarms, source_folds, summary
from tools.calibration.weights import source_weights


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


def channel(clips: int, *, ood: bool = True, apart: float = 4.0) -> ChannelScores:
    """Clips of 5 s and as many legs of 15 s, half of them spoofed, of 12 sources."""
    rng = np.random.default_rng(7)

    def heard(number: int, hops: int) -> Heard:
        spoof = number % 2 == 1
        raw = rng.normal(apart * (spoof - 0.5), 0.7) + rng.normal(0, 0.5, hops - 5)
        said: list[WindowScore] = [
            replace(window, ood=float(rng.standard_normal()) if ood else None)
            for window in windows(raw)
        ]
        clip = replace(
            CLIP,
            path=str(number),
            label="spoof" if spoof else "bonafide",
            speaker=f"voice {number % 30}",
            source_repo=f"source {number % 12}",
        )
        return Heard(clip, Channel.WIDE, tuple(said))

    return ChannelScores(
        tuple(heard(number, 10) for number in range(clips)),
        tuple(heard(number, 30) for number in range(clips)),
    )


def test_a_channel_gets_all_that_a_bundle_holds() -> None:
    channels, thresholds = calibrate_detector({Channel.WIDE: channel(240)})
    wide = channels["wide"]
    assert {"llr", "leg", "conformal", "false_alarms", "exposure"} == set(wide)
    assert wide.keys() <= set(CalibrationDoc.__dataclass_fields__)
    assert len(wide["conformal"]["ood"]) == 200
    assert thresholds == {"ood": 0.005}
    assert wide["exposure"] == {
        "clips": 240, "legs": 240, "speakers": 60, "sources": 12,
        "hours": pytest.approx(240 * CLIP.seconds / 3600, abs=1e-3),
    }  # fmt: skip
    alarms = wide["false_alarms"]
    assert alarms["legs"] == 120
    assert alarms["sources"] == 6
    assert alarms["hours"] == pytest.approx(120 * 15 / 3600, rel=0.01)
    assert alarms["raised"] <= 4, "about 1 % is asked of the rule"
    assert alarms["per_1000_call_hours"] < alarms["upper_95"]


def test_a_network_without_a_distance_gets_no_table() -> None:
    channels, thresholds = calibrate_detector({Channel.WIDE: channel(240, ood=False)})
    assert channels["wide"]["conformal"] is None
    assert thresholds == {}


def test_a_distance_that_new_sources_would_not_pass_rejects_nothing() -> None:
    """Each source lies farther out than the one before; one in twelve is beyond all others."""
    part = channel(240)
    clips = tuple(
        replace(
            item,
            windows=tuple(
                replace(w, ood=10.0 * int(item.clip.source_repo.split()[1])) for w in item.windows
            ),
        )
        for item in part.clips
    )
    channels, thresholds = calibrate_detector({Channel.WIDE: ChannelScores(clips, part.legs)})
    assert channels["wide"]["conformal"] is None
    assert thresholds == {}


def test_a_channel_that_was_hardly_heard_stays_uncalibrated() -> None:
    scores = {Channel.WIDE: channel(240), Channel.LOW_RATE: channel(60)}
    assert set(calibrate_detector(scores)[0]) == {"wide"}


def test_the_leg_model_is_on_the_scale_of_the_llr() -> None:
    fitted = fit(channel(240))
    assert fitted.leg.separation == pytest.approx(4.0 * fitted.llr.scale, rel=0.15)


def test_folds_of_sources_share_out_the_human_legs_and_no_source_is_in_two() -> None:
    part = channel(240)
    folds = source_folds(part)
    assert len(frozenset().union(*folds)) == sum(len(fold) for fold in folds) == 6
    counts = [
        sum(leg.clip.source_repo in fold and not leg.clip.spoof for leg in part.legs)
        for fold in folds
    ]
    assert max(counts) - min(counts) <= 20
    held_out = part.without(folds[0])
    assert {item.clip.source_repo for item in held_out.clips}.isdisjoint(folds[0])


def test_bounds_of_false_alarms_are_those_of_counts() -> None:
    """No alarm in an hour: 3.0 an hour at most, with 95 % confidence (the rule of three)."""
    legs = [(heard, 36.0, False) for heard in channel(200).legs if not heard.clip.spoof]
    none = summary("sequential", legs, 12.0)
    assert (none.raised, none.hours, none.per_1000_call_hours) == (0, 1.0, 0.0)
    assert none.upper_95 == pytest.approx(-1000 * math.log(0.05), abs=0.1)
    assert none.leg_share_upper_95 == pytest.approx(1 - 0.05 ** (1 / 100), abs=1e-4)
    assert none.modelled == 12.0
    one = summary("sequential", [(legs[0][0], 36.0, True), *legs[1:]], 12.0)
    assert one.per_1000_call_hours == 1000.0
    assert one.upper_95 == pytest.approx(4744, abs=1)
    all_raised = summary("sequential", [(legs[0][0], 36.0, True)], 12.0)
    assert all_raised.leg_share_upper_95 == 1.0


def test_exposure_counts_each_clip_once() -> None:
    part = channel(100)
    twice = ChannelScores(part.clips * 2, part.legs)
    assert exposure(twice) == exposure(part)


def test_a_leg_that_is_narrow_over_two_lines_is_one_leg_of_exposure() -> None:
    part = channel(240)
    shorter = tuple(replace(leg, windows=leg.windows[:3]) for leg in part.legs)
    twice = ChannelScores(part.clips, part.legs + shorter)
    assert exposure(twice) == exposure(part)
    assert {leg.hops for leg in twice.distinct_legs} == {30}
    once, again = (count_false_alarms({Channel.WIDE: p}, fit)[Channel.WIDE] for p in (part, twice))
    assert (again.legs, again.hours) == (once.legs, once.hours)


def test_no_leg_is_judged_by_numbers_that_its_own_source_has_settled() -> None:
    """All human speech is of one source: without it nothing is left to judge by."""
    part = channel(240)

    def of_one_source(items: tuple[Heard, ...]) -> tuple[Heard, ...]:
        return tuple(
            item if item.clip.spoof else replace(item, clip=replace(item.clip, source_repo="one"))
            for item in items
        )

    part = ChannelScores(of_one_source(part.clips), of_one_source(part.legs))
    assert count_false_alarms({Channel.WIDE: part}, fit) == {}
    channels, _ = calibrate_detector({Channel.WIDE: part})
    assert channels["wide"]["false_alarms"] is None
