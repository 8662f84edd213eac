"""The trainer on a tiny collection: it learns, resumes exactly, and selects on validation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tools import train, trainer, training
from tools.train import prepare
from tools.trainer import Trainer
from tools.training import CheckpointError, load_checkpoint, load_recipe

pytestmark = [pytest.mark.train, pytest.mark.timeout(90)]
MODELS = Path(__file__).parents[2] / "models"
SMALL = {
    "train.epochs": 2,
    "train.crops_per_epoch": 16,
    "train.batch": 8,
    "train.hops": [1, 2],
    "train.warmup_epochs": 0,
    "train.bf16": False,
}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise against tones, in two training sources and a validation source."""
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    rows = ["path,set,label,technology,generator,source_repo,speaker,language,orig_sr,seconds,"]
    rows[0] += "detail,sha256"
    for number in range(24):
        spoof = number % 2 == 1
        samples = rng.standard_normal(20000) * 0.1
        if spoof:
            samples = 0.3 * np.sin(np.arange(20000) * rng.uniform(0.1, 0.5))
        soundfile.write(folder / f"{number}.wav", samples, 16000)
        kind = "spoof,tts,vits" if spoof else "bonafide,human,human"
        source = ("one", "two", "held")[number % 6 // 2]
        rows.append(f"{number}.wav,core,{kind},{source},,en,16000,1.25,,{number}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    (folder / "split.yaml").write_text(
        "schema: streamguard.split/1\nsources: {one: train, two: train, held: validation}\n"
    )
    return folder


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(trainer, "_STATISTICS_BATCHES", 2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _trainer(collection: Path, run: Path, system: str = "subband") -> Trainer:
    recipe = load_recipe(MODELS / system / "recipe.yaml", SMALL)
    recipe["augment"]["codec"] = 0.0
    return prepare(recipe, collection, collection / "cache", run, collection / "split.yaml")


@pytest.mark.parametrize("system", ["subband", "cnn_lstm"])
def test_a_resumed_run_equals_one_that_was_never_interrupted(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    whole = _trainer(collection, tmp_path / "whole", system)
    whole.fit()
    first = _trainer(collection, tmp_path / "parts", system)

    def power_cut(path: Path, state: dict[str, Any]) -> None:
        if state["epoch"] == 2 and path.name == "last.pt":
            raise KeyboardInterrupt
        training.save_checkpoint(path, state)

    with monkeypatch.context() as patch:
        patch.setattr("tools.trainer.save_checkpoint", power_cut)
        with pytest.raises(KeyboardInterrupt):
            first.fit()
    second = _trainer(collection, tmp_path / "parts", system)
    second.resume()
    assert second.epoch == 1
    second.fit()
    for name, expected in whole.model.state_dict().items():
        torch.testing.assert_close(second.model.state_dict()[name], expected, msg=name)
    for name, expected in whole.averaged.state_dict().items():
        torch.testing.assert_close(second.averaged.state_dict()[name], expected, msg=name)
    rows = (tmp_path / "parts" / "history.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1"]

    best = load_checkpoint(tmp_path / "whole" / "best.pt", whole.recipe)
    lines, groups = ("wide", "narrow"), ("eer", "eer_paired")
    assert set(best["validation"]) == {f"{group}_{line}" for group in groups for line in lines}
    assert np.mean(list(best["validation"].values())) == pytest.approx(whole.best)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_change_of_the_recipe_needs_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.main(["recipe.yaml", "--run", "run", "--set", "train.epochs"])
    assert "SECTION.KEY=VALUE" in capsys.readouterr().err


def test_the_command_names_the_recipe_and_the_key_that_it_does_not_know(
    collection: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    text = (MODELS / "subband" / "recipe.yaml").read_text("utf-8")
    recipe.write_text(text.replace("  bands: 40 ", "  band: 40 "), "utf-8")
    options = ["--data", str(collection), "--split", str(collection / "split.yaml")]
    options += ["--cache", str(collection / "cache"), "--run", str(tmp_path / "run")]
    with pytest.raises(CheckpointError, match=r"recipe\.yaml: network\.band: no such key; one of"):
        train.main([str(recipe), *options])


def test_a_run_of_another_recipe_is_not_resumed(collection: Path, tmp_path: Path) -> None:
    trainer = _trainer(collection, tmp_path)
    training.save_checkpoint(tmp_path / "last.pt", {"recipe": {**trainer.recipe, "seed": 99}})
    with pytest.raises(CheckpointError, match="another recipe"):
        trainer.resume()


def test_attribution_trains_on_spoofed_speech_and_is_selected_by_its_mean_error_over_classes(
    collection: Path, tmp_path: Path
) -> None:
    trainer = _trainer(collection, tmp_path, "subband_attribution")
    trainer.fit()
    state = load_checkpoint(tmp_path / "best.pt", trainer.recipe)
    assert set(state["validation"]) == {"technology_error_wide", "technology_error_narrow"}
    assert state["labels"]["technology"] == ["codec", "tts", "vc", "vocoder"]
    assert state["labels"]["generator"] == [], "vits is in two sources, but in too few clips"


def test_heads_are_trained_on_an_encoder_that_was_trained_without_labels(
    collection: Path, tmp_path: Path
) -> None:
    def lava(recipe: str, run: str) -> Trainer:
        loaded = load_recipe(MODELS / "lava" / recipe, SMALL)
        loaded["augment"]["codec"] = 0.0
        return prepare(
            loaded, collection, collection / "cache", tmp_path / run, collection / "split.yaml"
        )

    first = lava("autoencoder.yaml", "first")
    assert all(clip.spoof for share in first.batches._shares for clip in share.pool.crops.clips)
    first.fit()
    learned = load_checkpoint(tmp_path / "first" / "best.pt", first.recipe)
    assert set(learned["validation"]) == {"reconstruction_wide", "reconstruction_narrow"}
    assert first.best == pytest.approx(np.mean(list(learned["validation"].values())))

    with pytest.raises(CheckpointError, match=r"autoencoder\.yaml: --init"):
        lava("recipe.yaml", "second").fit()
    second = lava("recipe.yaml", "second")
    second.start_from(tmp_path / "first" / "best.pt")
    second.fit()
    heads = load_checkpoint(tmp_path / "second" / "last.pt", second.recipe)["model"]
    for layer, same in (("trunk.convolutions.2.weight", True), ("branches.0.last", False)):
        name = "encoder.convolutions.2.weight" if same else "encoder.convolutions.3.weight"
        mine = heads[layer if same else f"{layer}.convolutions.0.weight"]
        assert torch.equal(mine, learned["model"][name]) is same


def test_heads_of_another_system_do_not_begin_with_it(collection: Path, tmp_path: Path) -> None:
    recipe = load_recipe(MODELS / "lava" / "autoencoder.yaml")
    training.save_checkpoint(tmp_path / "best.pt", {"recipe": recipe, "model": {}})
    with pytest.raises(CheckpointError, match="another system"):
        _trainer(collection, tmp_path).start_from(tmp_path / "best.pt")


def test_a_network_over_whole_windows_trains_on_crops_of_six_hops(
    collection: Path, tmp_path: Path
) -> None:
    changes = {**SMALL, "train.hops": [6, 6], "train.epochs": 1, "network.width": 4}
    recipe = load_recipe(MODELS / "resnet_bigru" / "recipe.yaml", changes)
    recipe["augment"]["codec"] = 0.0
    split = collection / "split.yaml"
    made = prepare(recipe, collection, collection / "cache", tmp_path, split)
    before = made.model.head.weight.detach().clone()
    made.fit()
    assert not torch.equal(made.model.head.weight, before)
    assert not torch.equal(made.model.scale, torch.eye(64)), "of the training crops"
    state = load_checkpoint(tmp_path / "best.pt", recipe)
    assert all(0.0 <= error <= 1.0 for error in state["validation"].values())


def test_copies_join_the_batches_in_the_share_that_the_recipe_asks(
    collection: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(MODELS / "subband" / "recipe.yaml", {**SMALL, "balance.copies": 0.5})
    recipe["augment"]["codec"] = 0.0
    copies = tmp_path / "copies"
    copies.mkdir()
    rows = (collection / "manifest.csv").read_text().splitlines()
    copied = [row.replace("spoof,tts,vits", "spoof,vocoder,world") for row in rows if "vits" in row]
    (copies / "manifest.csv").write_text("\n".join([rows[0], *copied]) + "\n")
    for row in copied:
        name = row.split(",")[0]
        (copies / name).write_bytes((collection / name).read_bytes())
    split = collection / "split.yaml"
    made = prepare(recipe, collection, collection / "cache", tmp_path / "run", split, copies)
    batch = made.batches.make(np.random.default_rng(0))
    vocoder = recipe["labels"]["technology"].index("vocoder")
    assert int((batch.technology == vocoder).sum()) == recipe["train"]["batch"] // 2
    assert set(batch.source) <= {"one", "two"}
