"""Pseudo-legs: what is joined, what the rule says of them, how an error falls with duration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from streamguard.verdict.calibration import ChannelCalibration, LegModel, LlrAffine
from streamguard.verdict.scores import Channel, Rejection, WindowScore
from tests.tools.test_crops import CLIP
from tools.data import AudioCache
from tools.legs import (
    DURATIONS_S,
    VOICES,
    HeardLeg,
    PseudoLeg,
    by_duration,
    hear,
    judge_legs,
    pseudo_legs,
)

CALIBRATIONS = {
    Channel.WIDE: ChannelCalibration(llr=LlrAffine(1.0, 0.0), leg=LegModel(-2.0, 2.0, 0.7, 1.0))
}


def window(last_hop: int, llr: float, speech_s: float, hops: int, **more: Any) -> WindowScore:
    values: dict[str, Any] = {
        "leg": "leg",
        "segment": 0,
        "index": last_hop,
        "start_s": 0.0,
        "end_s": (last_hop + 1) / 2,
        "raw": llr,
        "llr": llr,
        "rejected": None,
        "new_hops": hops,
        "usable_hops": 6,
        "net_speech_s": speech_s,
        "channel": Channel.WIDE,
    }
    return WindowScore(**{**values, **more})


def windows(llr: float, seconds: float) -> tuple[WindowScore, ...]:
    """Of a leg that is nothing but speech: 3 s in the first window, 0.5 s in each of the others."""
    return tuple(
        window(k, llr, 3.0 if k == 5 else 0.5, 6 if k == 5 else 1)
        for k in range(5, round(2 * seconds))
    )


def leg(spoof: bool, source: str = "a", voices: str = VOICES[0]) -> PseudoLeg:
    clip = replace(CLIP, label="spoof" if spoof else "bonafide", source_repo=source)
    return PseudoLeg(clip, np.zeros(0, np.int16), voices)


def test_clips_of_one_speaker_are_joined_and_cut_into_legs() -> None:
    rng = np.random.default_rng(2)
    loud = rng.normal(0, 3000, 16000 * 9).astype(np.int16)
    names = {
        "one": ("anna", "core"),
        "two": ("anna", "core"),
        "other set": ("anna", "extra"),
        "nameless": ("", "core"),
    }
    clips = [
        replace(CLIP, path=path, speaker=speaker, set=part)
        for path, (speaker, part) in names.items()
    ]
    spans = {path: (i * 32000, (i + 1) * 32000) for i, path in enumerate(names)}
    legs = pseudo_legs(clips, AudioCache(loud, spans), longest_s=3.0)
    assert [(item.clip.path, len(item.samples) / 16000, item.voices) for item in legs] == [
        ("one", 3.0, VOICES[0]),
        ("one", 1.0, VOICES[0]),
        ("other set", 2.0, VOICES[0]),
        ("nameless", 2.0, VOICES[1]),
    ]


def test_only_legs_with_enough_speech_are_judged() -> None:
    heard = [
        HeardLeg(leg(True), windows(6.0, 8.0), {}),
        HeardLeg(leg(False), windows(-6.0, 8.0), {}),
        HeardLeg(leg(False), (window(3, 6.0, 1.0, 4),), {}),
    ]
    bonafide, spoof = judge_legs(heard, "direct", CALIBRATIONS)
    assert (bonafide.legs, bonafide.raised, bonafide.bonafide) == (1, 0.0, 1.0)
    assert (spoof.legs, spoof.raised, spoof.bonafide) == (1, 1.0, 0.0)
    assert spoof.net_speech_s == pytest.approx(8.0)


def test_the_error_falls_when_later_windows_are_right() -> None:
    """The first window misleads in two legs of each class, what follows does not."""
    heard = []
    for number in range(12):
        spoof = number % 2 == 0
        sign = 1.0 if spoof else -1.0
        first = -sign if number < 4 else sign
        course = (window(5, first, 3.0, 6), *windows(4.0 * sign, 16.0)[1:])
        heard.append(HeardLeg(leg(spoof, f"source {number % 3}"), course, {}))
    rows = {row.seconds: row for row in by_duration(heard, "direct", VOICES[0], CALIBRATIONS)}
    assert rows[3.0].eer is not None
    assert rows[15.0].eer is not None
    assert rows[3.0].eer.value == pytest.approx(1 / 3)
    assert rows[15.0].eer.value == 0.0
    assert (rows[15.0].bonafide, rows[15.0].spoof, rows[15.0].sources) == (6, 6, 3)
    assert rows[3.0].same_legs_eer == rows[3.0].eer.value
    assert rows[15.0].detected_at_1pct is not None
    assert rows[15.0].detected_at_1pct.value == 1.0


def test_short_legs_leave_the_curve_and_few_legs_have_no_rate() -> None:
    heard = [HeardLeg(leg(n % 2 == 0), windows(1.0, 4.0 + 8.0 * (n < 8)), {}) for n in range(12)]
    rows = {row.seconds: row for row in by_duration(heard, "direct", VOICES[0], CALIBRATIONS)}
    assert (rows[3.0].bonafide, rows[3.0].spoof) == (6, 6)
    assert (rows[9.0].bonafide, rows[9.0].spoof, rows[9.0].eer) == (4, 4, None)
    assert (rows[15.0].bonafide, rows[15.0].coverage) == (0, None)


def test_speech_that_the_gate_rejects_lowers_coverage_not_the_count_of_legs() -> None:
    silenced = tuple(
        replace(item, rejected=Rejection.CLIPPED, new_hops=0) for item in windows(1.0, 6.0)
    )
    heard = [HeardLeg(leg(n % 2 == 0), windows(1.0, 6.0), {}) for n in range(10)]
    heard.append(HeardLeg(leg(False), silenced, {}))
    row = next(r for r in by_duration(heard, "direct", "all", CALIBRATIONS) if r.seconds == 6.0)
    assert (row.bonafide, row.spoof) == (5, 5)
    assert row.coverage == pytest.approx(10 / 11)
    assert row.eer is not None
    assert row.eer_rejections_as_errors is not None
    assert row.eer_rejections_as_errors > row.eer.value


def test_durations_shorter_than_a_window_are_legs_cut_off_there() -> None:
    calls: list[int] = []

    class Scorer:
        def windows(self, samples: Any, rate_hz: int, *rest: Any) -> tuple[WindowScore, ...]:
            calls.append(len(samples))
            hops = min(6, len(samples) // (rate_hz // 2))
            return (window(hops - 1, 1.0, 0.4 * hops, hops),)

    item = replace(leg(True), samples=np.zeros(16000 * 5, np.int16))
    (heard,) = hear(cast(Any, Scorer()), [item], "direct")
    # Three hops hold 1.2 s of speech, five hold 2 s.
    assert {s: ws[0].index + 1 for s, ws in heard.prefixes.items()} == {1.0: 3, 2.0: 5}
    assert calls[-1] == 16000 * 5
    assert DURATIONS_S[2] == 3.0
    rows = by_duration([heard] * 5 + [replace(heard, leg=leg(False))] * 5, "d", "all", CALIBRATIONS)
    assert [row.spoof for row in rows] == [5, 5, 0, 0, 0, 0]
    assert rows[0].eer is not None
