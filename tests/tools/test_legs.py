"""Verdicts over pseudo-legs: what is counted, and of which legs."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from streamguard.verdict.calibration import ChannelCalibration, LegModel, LlrAffine
from streamguard.verdict.scores import Channel, WindowScore
from tests.tools.test_crops import CLIP
from tools.legs import judge_legs

CALIBRATION = ChannelCalibration(llr=LlrAffine(1.0, 0.0), leg=LegModel(-2.0, 2.0, 0.7, 1.0))


class FakeScorer:
    """Says that it is one: loud clips are spoof, quiet ones bona fide, short ones too short."""

    bundle = SimpleNamespace(calibrations={"fp32": {Channel.WIDE: CALIBRATION}})

    def windows(self, samples: Any, *rest: Any) -> list[WindowScore]:
        llr = 6.0 if np.abs(samples).max() > 1000 else -6.0
        hops = len(samples) // 8000
        return [
            WindowScore("leg", 0, k, 0.0, (k + 1) / 2, llr, llr, None, 6 if k == 5 else 1, 6,
                        3.0 if k == 5 else 0.5, Channel.WIDE)
            for k in range(5, hops)
        ]  # fmt: skip


def test_legs_are_counted_by_class_and_only_those_that_can_be_judged() -> None:
    rng = np.random.default_rng(2)
    voices = {
        "human": rng.normal(0, 200, 16000 * 8).clip(-900, 900).astype(np.int16),
        "spoof": rng.normal(0, 8000, 16000 * 8).astype(np.int16),
        "short": rng.normal(0, 200, 16000 * 2).clip(-900, 900).astype(np.int16),
    }
    clips = [
        replace(CLIP, path=name, speaker=name, label="spoof" if name == "spoof" else "bonafide")
        for name in voices
    ]
    cache = SimpleNamespace(samples=lambda clip: voices[clip.path])
    rows = judge_legs(cast(Any, FakeScorer()), clips, cast(Any, cache))
    assert {(row.line, row.spoof, row.legs) for row in rows} == {
        (line, spoof, 1) for line in ("direct", "telephone") for spoof in (False, True)
    }
    for row in rows:
        assert (row.raised, row.bonafide) == ((1.0, 0.0) if row.spoof else (0.0, 1.0))
