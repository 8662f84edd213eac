"""What every trainer shares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tools import training
from tools.training import CheckpointError, History, load_checkpoint, load_recipe, save_checkpoint

pytestmark = pytest.mark.train
RECIPE = {"system": "toy", "seed": 1, "train": {"epochs": 2, "rates": [0.1, 0.2]}}


def test_a_checkpoint_comes_back_with_tensors_recipe_and_optimiser(tmp_path: Path) -> None:
    layer = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    path = tmp_path / "run" / "last.pt"
    save_checkpoint(
        path,
        {
            "recipe": RECIPE,
            "epoch": 3,
            "model": layer.state_dict(),
            "optimiser": optimiser.state_dict(),
        },
    )
    state = load_checkpoint(path, RECIPE)
    assert state["recipe"] == RECIPE
    assert state["epoch"] == 3
    torch.testing.assert_close(state["model"]["weight"], layer.weight.detach())
    torch.testing.assert_close(
        state["optimiser"]["state"][0]["exp_avg"], optimiser.state_dict()["state"][0]["exp_avg"]
    )


def test_an_interrupted_write_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})

    def torn(state: object, stream: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path)["epoch"] == 1


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"recipe": RECIPE})
    with pytest.raises(CheckpointError, match="another recipe"):
        load_checkpoint(path, {**RECIPE, "seed": 2})


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_what_is_no_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"bad\.pt"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="no such"):
        load_checkpoint(tmp_path / "gone.pt")


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"model": Path("x")}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "evil.pt")


def test_seeding_depends_on_every_part_and_on_nothing_else() -> None:
    def draw(*parts: int) -> tuple[float, float]:
        rng = training.seed_everything(*parts)
        return float(rng.random()), float(torch.rand(()))

    assert draw(1, 2) == draw(1, 2)
    assert draw(1, 2)[0] != draw(1, 3)[0]
    assert draw(1, 2)[1] != draw(2, 2)[1]


def test_a_recipe_can_be_changed_only_where_it_has_a_key(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("system: toy\ntrain:\n  epochs: 5\n", encoding="utf-8")
    assert load_recipe(path, {"train.epochs": 1})["train"]["epochs"] == 1
    with pytest.raises(CheckpointError, match=r"train\.epoch "):
        load_recipe(path, {"train.epoch": 1})
    with pytest.raises(CheckpointError, match=r"system\.name "):
        load_recipe(path, {"system.name": 1})
    path.write_text("- 1", encoding="utf-8")
    with pytest.raises(CheckpointError, match="mapping"):
        load_recipe(path)


def test_a_recipe_that_extends_another_is_that_one_with_its_own_values(tmp_path: Path) -> None:
    base, path = tmp_path / "recipe.yaml", tmp_path / "variant.yaml"
    base.write_text("system: toy\nseed: 1\ntrain: {epochs: 5, batch: 8}\n", encoding="utf-8")
    path.write_text(
        "extends: recipe.yaml\nseed: 2\ntrain: {epochs: 1, rate: 0.5}\n", encoding="utf-8"
    )
    expected = {"system": "toy", "seed": 2, "train": {"epochs": 1, "batch": 8, "rate": 0.5}}
    assert load_recipe(path) == expected
    assert load_recipe(path, {"train.rate": 1})["train"]["rate"] == 1
    base.write_text("extends: recipe.yaml\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"variant\.yaml: extends"):
        load_recipe(path)
    base.unlink()
    with pytest.raises(CheckpointError, match=r"recipe\.yaml: not a readable recipe"):
        load_recipe(path)


def test_the_hash_of_a_recipe_is_that_of_its_values() -> None:
    shuffled = {key: RECIPE[key] for key in reversed(RECIPE)}
    assert training.recipe_sha256(RECIPE) == training.recipe_sha256(shuffled)
    assert training.recipe_sha256(RECIPE) != training.recipe_sha256({**RECIPE, "seed": 2})


def test_a_resumed_history_drops_the_rows_that_it_repeats(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    history = History(path)
    for epoch in range(3):
        history.add(epoch, {"loss": np.float64(epoch).item()})
    resumed = History(path, first_epoch=2)
    resumed.add(2, {"loss": 9.0, "eer": 0.25})
    assert path.read_text().splitlines() == ["epoch,loss,eer", "0,0,", "1,1,", "2,9,0.25"]
