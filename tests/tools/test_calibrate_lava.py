"""Calibrating and describing LAVA on made-up scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from streamguard.verdict.scores import Channel
from tools.calibrate_lava import CHANNELS, Findings, calibrate, measure, reconstruction
from tools.data import Clip
from tools.lava_card import card_text
from tools.lava_data import Labels
from tools.lava_scores import NEVER, Scored, judge_generator, judge_technology
from tools.train_lava import RECIPE
from tools.training import Recipe, load_recipe

if TYPE_CHECKING:
    import numpy.typing as npt

pytestmark = pytest.mark.train

LABELS = Labels(("codec", "tts"), (("codec", "dac"), ("tts", "vits")))


def clip(technology: str, generator: str, number: int) -> Clip:
    return Clip(
        path=f"{number}.flac",
        set="core",
        label="spoof",
        technology=technology,
        generator=generator,
        source_repo=f"source{number % 3}",
        speaker="",
        language="en",
        orig_sr=16000,
        seconds=2.0,
        detail="",
        sha256="",
    )


def scored(sure_of_truth: float) -> Scored:
    """Forty clips, half of them codec; every fourth is of a generator that is not listed.

    The generator head is right half of the time, with the same confidence.
    """
    clips = []
    technology: list[npt.NDArray[np.float32]] = []
    generator: list[npt.NDArray[np.float32]] = []
    for number in range(40):
        kind = number % 2
        name = ("dac", "vits")[kind] if number % 4 else "other"
        clips.append(clip(LABELS.technology[kind], name, number))
        right = np.full(2, 1 - sure_of_truth, np.float32)
        right[kind] = sure_of_truth
        technology.append(right)
        generator.append(right if number % 8 < 4 else right[::-1])
    return Scored(tuple(clips), np.array(technology), np.array(generator))


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe(RECIPE, {"calibration.min_accepted": 5})


def test_a_reliable_head_gets_a_threshold_and_an_unreliable_one_abstains(recipe: Recipe) -> None:
    channels, thresholds = calibrate(recipe, dict.fromkeys(CHANNELS, scored(0.75)), LABELS)
    assert thresholds["technology"] == pytest.approx(0.75)
    assert thresholds["generator"] == NEVER
    assert set(channels) == {"wide", "narrow"}
    wide = channels["wide"]
    assert wide["llr"] is None
    assert wide["conformal"]["technology"] == pytest.approx([0.25] * 40)
    assert len(wide["conformal"]["generator"]) == 30, "clips of other generators have no truth"
    assert wide["exposure"]["clips"] == 40
    assert wide["exposure"]["sources"] == 3
    assert wide["exposure"]["hours"] == pytest.approx(40 * 2 / 3600, abs=1e-3)


def test_the_best_epoch_of_the_autoencoder_is_reported(tmp_path: Path) -> None:
    history = tmp_path / "autoencoder.csv"
    history.write_text(
        "epoch,validation_loss,loss_of_silence\n0,0.3,0.1\n1,0.02,0.1\n2,0.05,0.1\n",
        encoding="utf-8",
    )
    assert reconstruction(history) == (0.02, 0.1)


def findings(recipe: Recipe) -> Findings:
    part = scored(0.75)
    channels, thresholds = calibrate(recipe, dict.fromkeys(CHANNELS, part), LABELS)
    technology, generator = judge_technology(part, LABELS), judge_generator(part, LABELS)
    metrics = {
        "technology_balanced_accuracy_train": 0.5,
        "generator_balanced_accuracy_train": 0.25,
    }
    for channel in CHANNELS:
        tables = channels[str(channel)]["conformal"]
        metrics |= measure(channel, technology, generator, thresholds, tables)
        metrics |= {f"human_named_technology_{channel}": 0.125}
        metrics |= {f"human_named_generator_{channel}": 0.0}
    return Findings(
        labels=LABELS,
        calibration=channels,
        thresholds=thresholds,
        metrics=metrics,
        technology=dict.fromkeys(CHANNELS, technology),
        generator=dict.fromkeys(CHANNELS, generator),
        reconstruction=(0.02, 0.1),
        train_sources=["lab/one"],
        validation_sources=["lab/two"],
        calibration_sources=["lab/three"],
    )


def test_accuracy_coverage_and_their_windows_are_measured_per_channel(recipe: Recipe) -> None:
    metrics: dict[str, Any] = dict(findings(recipe).metrics)
    assert metrics["technology_accuracy_wide"] == 1.0
    assert metrics["technology_coverage_narrow"] == 1.0
    assert metrics["generator_windows_wide"] == 30
    assert metrics["generator_accuracy_wide"] == pytest.approx(0.5, abs=0.1)
    assert metrics["generator_coverage_wide"] == 0.0
    assert "generator_accepted_accuracy_wide" not in metrics


def test_the_card_shows_numbers_confusions_and_sources_and_says_who_abstains(
    recipe: Recipe,
) -> None:
    text = card_text(findings(recipe), recipe)
    assert "| technology: balanced accuracy | 100.0% | 100.0% |" in text
    assert "| generator: accuracy of the accepted | none accepted | none accepted |" in text
    assert "generator none is reliable: this head abstains" in text
    assert "| genuine human speech given a technology | 12.5% | 12.5% |" in text
    assert "genuine human speech given a generator" not in text, "silence is no merit"
    assert "is 50.0% for technology and 25.0% for the generator" in text
    assert "do not tune here" in text
    for source in ("lab/one", "lab/two", "lab/three"):
        assert source in text
    rows = [line for line in text.splitlines() if line.startswith("| **codec**")]
    assert rows == ["| **codec** | 20 | 0 |"] * len(CHANNELS)
    assert "Smooth L1 0.0200; an output of zeros would cost 0.1000" in text
    assert Channel.LOW_RATE not in text, "what is not measured has no column"
