"""Labels behind a detector, from windows of our own making."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from streamguard.verdict.scores import Attribution, Label, Rejection, WindowScore
from tests.tools.evaluation.makers import spoof, window
from tests.tools.test_crops import CLIP
from tools.data import Clip
from tools.evaluation.behind import BehindRow, evaluate_behind
from tools.evaluation.names import Names

NAMES = Names(("codec", "tts"), (("codec", "dac"), ("tts", "vits")), None)


def says(technology: str | None, generator: str | None = None) -> WindowScore:
    """A window that leans to spoof, with these labels."""
    labels = [
        Rejection.LOW_CONFIDENCE if n is None else Label(n, 0.5) for n in (technology, generator)
    ]
    return window(1.0, attribution=Attribution(*labels))


_STEP = 4000
"""A clip is this often its number: a telephone line leaves that as it is, nearly."""


class Pair:
    """Says of clip ``n`` what it was told to."""

    def __init__(self, said: list[tuple[WindowScore, ...]]) -> None:
        self._said = said

    def windows(self, samples: Any, *rest: Any) -> tuple[WindowScore, ...]:
        return self._said[round(float(np.median(samples)) / _STEP)]


class Cache:
    def __init__(self, clips: list[Clip]) -> None:
        self._numbers = {clip.path: number for number, clip in enumerate(clips)}

    def samples(self, clip: Clip) -> np.ndarray:
        return np.full(16000, _STEP * self._numbers[clip.path], np.int16)


def rows(said: dict[Clip, tuple[WindowScore, ...]]) -> dict[tuple[str, str], BehindRow]:
    clips = list(said)
    pair = Pair(list(said.values()))
    found = evaluate_behind(cast(Any, pair), clips, cast(Any, Cache(clips)), NAMES)
    return {(row.head, row.what): row for row in found if row.line == "direct"}


def test_windows_that_the_detector_holds_back_are_not_labelled_and_count_as_errors() -> None:
    found = rows(
        {
            spoof("codec", "dac"): (says("codec", "dac"), window(-1.0), says("tts")),
            spoof("tts", "vits"): (says("tts", "vits"), window(9.0, Rejection.TONE)),
            spoof("tts", "new"): (says(None),),
            CLIP: (says("tts"), window(-3.0), window(-3.0), window(-3.0)),
        }
    )
    technology = found["technology", "windows"]
    assert technology.count == 5  # without the one that the gate rejects
    assert technology.labelled == pytest.approx(3 / 5)
    assert technology.accuracy == pytest.approx(2 / 3)
    assert technology.balanced_accuracy is not None
    assert technology.balanced_accuracy.value == pytest.approx((1 / 2 + 1) / 2)
    assert technology.balanced_accuracy_rejections_as_errors == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert technology.human_labelled == pytest.approx(1 / 4)
    generator = found["generator", "windows"]
    assert (generator.count, generator.accuracy) == (4, 1.0)
    assert generator.human_labelled == 0.0


def test_a_clip_has_the_most_frequent_label_of_its_windows() -> None:
    found = rows(
        {
            spoof("codec", "dac"): (says("tts"), says("codec"), says("codec")),
            spoof("tts", "vits"): (window(-1.0),),
        }
    )
    clips = found["technology", "clips"]
    assert (clips.count, clips.labelled, clips.accuracy) == (2, 0.5, 1.0)
    assert clips.balanced_accuracy_rejections_as_errors == pytest.approx(0.5)
    assert clips.human_labelled is None


def test_a_pair_that_never_names_anything_has_no_accuracy() -> None:
    found = rows({spoof("tts", "vits"): (window(-1.0),)})
    assert (found["generator", "windows"].labelled, found["generator", "windows"].accuracy) == (
        0,
        None,
    )
    assert found["generator", "windows"].balanced_accuracy is None
