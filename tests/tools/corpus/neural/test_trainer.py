"""Training for a few steps on a few seconds of a voice, and copying with what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tools.corpus.neural.test_networks import SMALL_CODEC, SMALL_VOCODER
from tests.tools.corpus.sounds import voice
from tools.corpus.neural.copier import neural_method
from tools.corpus.neural.trainer import SpectralLoss, Trainer
from tools.training import CheckpointError

pytestmark = pytest.mark.train

NETWORKS: dict[str, dict[str, Any]] = {
    "vocoder": SMALL_VOCODER,
    "codec": {**SMALL_CODEC, "strides": [4, 4, 4]},
}


def _recipe(kind: str, **train: object) -> dict[str, Any]:
    settings = {
        "batch": 2,
        "crop": 4096,
        "learning_rate": 2e-3,
        "steps": 4,
        "adversary_from": 1,
        "adversary_channels": 4,
        "save_every": 2,
    }
    return {"kind": kind, "seed": 3, "network": NETWORKS[kind], "train": settings | train}


def _trainer(recipe: dict[str, Any], run: Path) -> Trainer:
    return Trainer(recipe, run, [voice(1.0, 110, 1), voice(0.8, 190, 2)], torch.device("cpu"))


@pytest.mark.parametrize("kind", ["vocoder", "codec"])
def test_an_interrupted_run_ends_as_one_that_never_was(kind: str, tmp_path: Path) -> None:
    whole = _trainer(_recipe(kind), tmp_path / "whole")
    whole.fit()
    first = _trainer(_recipe(kind), tmp_path / "parts")
    first.fit(until=2)
    second = _trainer(_recipe(kind), tmp_path / "parts")
    second.resume()
    assert second.step == 2
    second.fit()
    for ours, theirs in zip(second.network.parameters(), whole.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    history = (tmp_path / "parts" / "history.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in history] == ["epoch", "2", "4"]


@pytest.mark.parametrize("kind", ["vocoder", "codec"])
def test_training_brings_the_spectra_nearer(kind: str, tmp_path: Path) -> None:
    recipe = _recipe(kind, steps=30, adversary_from=1000, save_every=1000)
    trainer = _trainer(recipe, tmp_path)
    speech = torch.from_numpy(voice())[None]
    loss = SpectralLoss()

    def distance() -> float:
        with torch.no_grad():
            return float(loss(trainer.network.eval()(speech).speech, speech))

    before = distance()
    trainer.fit()
    assert distance() < 0.9 * before


@pytest.mark.parametrize(("kind", "technology"), [("vocoder", "vocoder"), ("codec", "codec")])
def test_a_checkpoint_becomes_a_method_of_copy_synthesis(
    kind: str, technology: str, tmp_path: Path
) -> None:
    trainer = _trainer(_recipe(kind), tmp_path)
    trainer.fit(until=2)
    method = neural_method(trainer.checkpoint)
    assert (method.name, method.technology) == (f"neural_{kind}", technology)
    copier = method.prepare([], np.random.default_rng(0))
    speech = voice(0.7)
    copy, drawn = copier(speech, np.random.default_rng(0))
    assert copy.shape == speech.shape
    assert copy.dtype == np.float32
    assert np.isfinite(copy).all()
    assert drawn["steps"] == 2


def test_another_recipe_does_not_continue_a_run(tmp_path: Path) -> None:
    _trainer(_recipe("vocoder"), tmp_path).fit(until=2)
    with pytest.raises(CheckpointError, match="another recipe"):
        _trainer(_recipe("vocoder", batch=3), tmp_path).resume()


def test_the_spectral_loss_is_zero_for_the_same_speech_only() -> None:
    speech = torch.from_numpy(voice())[None]
    loss = SpectralLoss()
    assert float(loss(speech, speech)) == 0.0
    assert float(loss(0.5 * speech, speech)) > 0.1
