"""Training LAVA: resumable, early-stopped, and both stages on a collection of noise."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tools.bundle_writer import sha256_of
from tools.data import AudioCache, Clip
from tools.lava_data import Crops
from tools.train_lava import (
    RECIPE,
    Stage,
    autoencoder_stage,
    fit,
    heads_stage,
    load_lava,
    split_file,
)
from tools.training import (
    CheckpointError,
    Recipe,
    load_checkpoint,
    load_recipe,
    save_checkpoint,
)

pytestmark = [pytest.mark.train, pytest.mark.timeout(60)]
torch.set_num_threads(1)

SMALL = {
    "train_precision": "fp32",
    "autoencoder.crop_seconds": 0.05,
    "autoencoder.batch": 4,
    "autoencoder.steps_per_epoch": 2,
    "autoencoder.epochs": 3,
    "autoencoder.patience": 3,
    "heads.crop_seconds": 0.1,
    "heads.batch": 8,
    "heads.steps_per_epoch": 2,
    "heads.epochs": 1,
    "labels.generator_min_clips": 2,
}


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe(RECIPE, SMALL)


class Interrupt(Exception):
    """Stands for the power switch."""


def line_stage(
    recipe: Recipe,
    *,
    keep: str = "best",
    judged: Callable[[int], float] = lambda epoch: 1.0 / (epoch + 1),
    fail_at: int | None = None,
) -> Stage:
    """Fits a line; ``judged`` is the validation loss by number of validations so far."""
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    calls = {"loss": 0, "validate": 0}

    def loss(rng: np.random.Generator) -> Tensor:
        calls["loss"] += 1
        if calls["loss"] == fail_at:
            raise Interrupt
        x = torch.from_numpy(rng.random((8, 1), np.float32))
        error: Tensor = model(x) - 2 * x
        return error.square().mean()

    def validate() -> dict[str, float]:
        calls["validate"] += 1
        return {"validation_loss": judged(calls["validate"] - 1)}

    return Stage("autoencoder", recipe, model, lambda: None, loss, validate, keep, {})


def weights(path: Path) -> dict[str, Tensor]:
    model: dict[str, Tensor] = load_checkpoint(path)["model"]
    return model


def test_a_resumed_run_ends_like_one_that_was_never_interrupted(
    recipe: Recipe, tmp_path: Path
) -> None:
    straight = fit(line_stage(recipe), tmp_path / "straight")
    with pytest.raises(Interrupt):
        fit(line_stage(recipe, fail_at=4), tmp_path / "resumed")
    judged_once: Callable[[int], float] = lambda epoch: 1.0 / (epoch + 2)  # noqa: E731  # one line
    resumed = fit(line_stage(recipe, judged=judged_once), tmp_path / "resumed")
    for name, value in weights(straight).items():
        assert torch.equal(weights(resumed)[name], value)
    with (tmp_path / "resumed" / "autoencoder.csv").open(newline="") as stream:
        assert [row["epoch"] for row in csv.DictReader(stream)] == ["0", "1", "2"]


def test_a_run_cut_right_after_an_epoch_was_kept_misses_no_row_of_its_history(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_cut(path: Path, state: dict[str, Any]) -> None:
        save_checkpoint(path, state)
        if path.name == "autoencoder-last.pt":
            raise Interrupt

    with monkeypatch.context() as patch:
        patch.setattr("tools.train_lava.save_checkpoint", power_cut)
        with pytest.raises(Interrupt):
            fit(line_stage(recipe), tmp_path)
    fit(line_stage(recipe), tmp_path)
    with (tmp_path / "autoencoder.csv").open(newline="") as stream:
        assert [row["epoch"] for row in csv.DictReader(stream)] == ["0", "1", "2"]


def test_training_stops_when_validation_stays_bad_and_keeps_the_best(
    recipe: Recipe, tmp_path: Path
) -> None:
    recipe["autoencoder"] |= {"epochs": 20, "patience": 2}
    stage = line_stage(recipe, judged=lambda epoch: 1.0 if epoch == 1 else 2.0)
    best = load_checkpoint(fit(stage, tmp_path))
    assert best["epoch"] == 1
    assert load_checkpoint(tmp_path / "autoencoder-last.pt")["epoch"] == 3


def test_the_last_epoch_is_kept_where_nothing_may_be_chosen_by_validation(
    recipe: Recipe, tmp_path: Path
) -> None:
    stage = line_stage(recipe, keep="last", judged=float)
    assert load_checkpoint(fit(stage, tmp_path))["epoch"] == 2


def test_a_run_of_another_recipe_is_not_resumed(recipe: Recipe, tmp_path: Path) -> None:
    fit(line_stage(recipe), tmp_path)
    recipe["autoencoder"]["learning_rate"] = 0.5
    with pytest.raises(CheckpointError, match="another recipe"):
        fit(line_stage(recipe), tmp_path)


def noise_collection() -> tuple[list[Clip], AudioCache]:
    """Two sources of two technologies with one listed generator each; two clips of each."""
    rng = np.random.default_rng(0)
    clips = [
        Clip(
            path=f"core/{source}/{technology}-{number}.flac",
            set="core",
            label="spoof",
            technology=technology,
            generator=f"{technology}_maker",
            source_repo=source,
            speaker="",
            language="en",
            orig_sr=16000,
            seconds=0.5,
            detail="",
            sha256="",
        )
        for technology in ("codec", "tts", "vc", "vocoder")
        for source in ("one", "two")
        for number in range(2)
    ]
    spans = {clip.path: (at * 8000, at * 8000 + 8000) for at, clip in enumerate(clips)}
    samples = (rng.standard_normal(8000 * len(clips)) * 3000).astype(np.int16)
    return clips, AudioCache(samples, spans)


def test_both_stages_train_and_the_heads_stand_on_the_frozen_autoencoder(
    recipe: Recipe, tmp_path: Path
) -> None:
    clips, cache = noise_collection()
    crops = Crops(cache, recipe["front_end"])
    autoencoder = fit(autoencoder_stage(recipe, clips, crops), tmp_path)
    heads = fit(heads_stage(recipe, clips, clips, crops, autoencoder), tmp_path)
    model, labels, kept = load_lava(heads)
    assert kept == recipe
    assert labels.technology == ("codec", "tts", "vc", "vocoder")
    assert len(labels.generator) == 4
    assert load_checkpoint(heads)["split_sha256"] == sha256_of(split_file(recipe))
    learned = load_checkpoint(autoencoder)["model"]
    assert torch.equal(
        model.encoder.state_dict()["convolutions.2.weight"],
        learned["encoder.convolutions.2.weight"],
    )


def test_heads_refuse_an_autoencoder_of_another_recipe(recipe: Recipe, tmp_path: Path) -> None:
    clips, cache = noise_collection()
    crops = Crops(cache, recipe["front_end"])
    autoencoder = fit(autoencoder_stage(recipe, clips, crops), tmp_path)
    recipe["front_end"] = {**recipe["front_end"], "trim_db": 20.0}
    with pytest.raises(CheckpointError, match="front_end"):
        heads_stage(recipe, clips, clips, crops, autoencoder)
