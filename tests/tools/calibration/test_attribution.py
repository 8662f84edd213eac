"""What confidence means, and what a head must keep silent about."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from streamguard.verdict.labels import GENERATOR_OOD_ALPHA
from streamguard.verdict.scores import Channel
from tests.tools.test_crops import CLIP
from tools.calibration.attribution import (
    SILENT,
    UNLISTED,
    Head,
    Promise,
    Said,
    answers,
    calibrate_attribution,
    fit_answers,
    fit_temperature,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

TECHNOLOGIES = ("tts", "vc")
GENERATORS = (("tts", "alpha"), ("tts", "beta"), ("vc", "gamma"))


def made_up(count: int, sharpness: float, *, ood: bool = True, seed: int = 0) -> Said:
    """Windows of ten sources; logits lean to the truth, by more the sharper.

    Every fourth window is of a generator without a label: its logits lean nowhere, and it is far
    from what was trained on.
    """
    rng = np.random.default_rng(seed)
    generator = np.arange(count) % 4
    technology = (generator == 2).astype(np.int64)
    names = ["alpha", "beta", "gamma", "other"]
    truth = np.where(generator == 3, UNLISTED, generator)
    logits = rng.normal(0, 1, (count, 3))
    listed = truth != UNLISTED
    logits[np.flatnonzero(listed), truth[listed]] += sharpness
    kinds = rng.normal(0, 1, (count, 2))
    kinds[np.arange(count), technology] += sharpness
    clips = tuple(
        replace(
            CLIP, path=str(number), label="spoof", technology=TECHNOLOGIES[technology[number]],
            generator=names[generator[number]], source_repo=f"source {(number // 4) % 10}",
        )
        for number in range(count)
    )  # fmt: skip
    far = rng.normal(0, 1, count) + np.where(listed, 0.0, 6.0)
    return Said(clips, kinds, logits, far if ood else None, technology, truth)


def head_of(said: Said) -> Head:
    return Head.technology(said)


def test_logits_that_are_twice_too_sure_are_halved() -> None:
    rng = np.random.default_rng(3)
    honest = rng.normal(0, 2, (20000, 4))
    p = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    truth = (p.cumsum(axis=1) > rng.random((20000, 1))).argmax(axis=1)
    weights = np.full(20000, 1 / 20000)
    assert fit_temperature(2 * honest, truth, weights) == pytest.approx(2.0, rel=0.05)
    assert fit_temperature(honest, truth, weights) == pytest.approx(1.0, rel=0.05)


def test_confidence_is_the_share_of_right_answers() -> None:
    said = made_up(4000, 1.5)
    fitted = fit_answers(head_of(said), TECHNOLOGIES)
    fresh = made_up(4000, 1.5, seed=9)
    label, share = head_of(fresh).best(fitted.temperature)
    confidence = np.array(
        [fitted.confidence(TECHNOLOGIES[k], p) for k, p in zip(label, share, strict=True)]
    )
    correct = label == fresh.technology_truth
    for low, high in ((0.5, 0.75), (0.75, 0.9), (0.9, 1.0)):
        rows = (confidence >= low) & (confidence < high)
        assert rows.sum() > 100
        assert correct[rows].mean() == pytest.approx(confidence[rows].mean(), abs=0.07)


def test_lines_rise_and_have_few_points() -> None:
    fitted = fit_answers(head_of(made_up(2000, 1.0)), TECHNOLOGIES)
    assert fitted.common is not None
    for line in (fitted.common, *fitted.labels.values()):
        assert list(line.confidence) == sorted(set(line.confidence))
        assert list(line.right) == sorted(line.right)
        assert len(line.confidence) <= 12
    assert set(fitted.labels) == set(TECHNOLOGIES)


def test_a_promise_is_kept_on_sources_that_the_line_has_not_seen() -> None:
    fitted, kept = answers(head_of(made_up(800, 1.5)), TECHNOLOGIES, 0.8)
    assert kept.right >= 0.8
    assert kept.said >= 100
    assert fitted is not SILENT


def test_a_head_that_guesses_is_silent() -> None:
    fitted, kept = answers(head_of(made_up(800, 0.0)), TECHNOLOGIES, 0.8)
    assert fitted is SILENT
    assert kept.said == 0
    assert fitted.confidence("tts", 0.99) == 0.0


def test_a_single_source_promises_nothing() -> None:
    said = made_up(800, 3.0)
    one = replace(said, clips=tuple(replace(clip, source_repo="one") for clip in said.clips))
    assert answers(head_of(one), TECHNOLOGIES, 0.5)[0] is SILENT


def test_sources_that_contradict_each_other_promise_nothing() -> None:
    """Right in half of the sources, wrong in the others, always with the same confidence."""
    said = made_up(800, 3.0)
    odd = np.array([int(clip.source_repo.split()[1]) % 2 == 1 for clip in said.clips])
    logits = said.technology.copy()
    logits[odd] = logits[odd][:, ::-1]
    fitted, _ = answers(head_of(replace(said, technology=logits)), TECHNOLOGIES, 0.8)
    assert fitted is SILENT


def test_a_channel_gets_tables_lines_and_thresholds() -> None:
    channels, thresholds, kept = calibrate_attribution(
        {Channel.WIDE: made_up(800, 3.0)}, TECHNOLOGIES, GENERATORS, Promise(0.8, 0.7)
    )
    wide = channels["wide"]
    assert {name: len(table) for name, table in wide["conformal"].items()} == {
        "technology": 200, "generator": 200, "ood": 200, "generator_ood": 200,
        "generator_sme": 200,
    }  # fmt: skip
    assert thresholds == {
        "technology": 0.8, "generator": 0.7, "generator_ood": GENERATOR_OOD_ALPHA, "ood": 0.005,
    }  # fmt: skip
    assert set(kept) == {"technology_wide", "generator_wide"}
    assert all(how.right >= 0.7 for how in kept.values())
    assert wide["exposure"]["sources"] == 10


def test_unlisted_generators_that_look_like_listed_ones_count_as_wrong() -> None:
    """With the distance they are rejected before; without it half of what is named is wrong."""
    with_it = made_up(800, 3.0)
    sure = with_it.generator.copy()
    unlisted = with_it.generator_truth == UNLISTED
    sure[unlisted, 0] += 6.0
    confusing = replace(with_it, generator=sure)
    _, _, near = calibrate_attribution(
        {Channel.WIDE: confusing}, TECHNOLOGIES, GENERATORS, Promise(0.8, 0.8)
    )
    _, _, blind = calibrate_attribution(
        {Channel.WIDE: replace(confusing, ood=None)}, TECHNOLOGIES, GENERATORS, Promise(0.8, 0.8)
    )
    assert near["generator_wide"].said > blind["generator_wide"].said
    assert near["generator_wide"].right >= 0.8


def test_a_channel_that_was_hardly_heard_stays_uncalibrated() -> None:
    channels, _, _ = calibrate_attribution(
        {Channel.LOW_RATE: made_up(16, 3.0)}, TECHNOLOGIES, GENERATORS, Promise()
    )
    assert channels == {}


def test_a_silent_head_is_written_down_as_one() -> None:
    channels, _, kept = calibrate_attribution(
        {Channel.WIDE: made_up(400, 0.0)}, TECHNOLOGIES, GENERATORS, Promise(0.9, 0.9)
    )
    silent = {"temperature": 1.0, "common": {"confidence": (0.5,), "right": (0.0,)}, "labels": {}}
    assert channels["wide"]["answers"] == {"technology": silent, "generator": silent}
    assert [how.said for how in kept.values()] == [0, 0]
