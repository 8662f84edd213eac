"""Weights of several runs become one network, whose batch norms are measured anew."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tools.test_train import _trainer, collection
from tools import average
from tools.average import mean_weights
from tools.training import CheckpointError, load_checkpoint, load_recipe, save_checkpoint

__all__ = ["collection"]
pytestmark = [pytest.mark.train, pytest.mark.timeout(90)]
RECIPE = Path(__file__).parents[2] / "models" / "subband" / "recipe.yaml"


def test_floats_are_averaged_and_counters_are_not() -> None:
    one = {"weight": torch.tensor([1.0, 3.0]), "steps": torch.tensor(4)}
    other = {"weight": torch.tensor([3.0, 5.0]), "steps": torch.tensor(8)}
    mean = mean_weights([one, other])
    assert mean["weight"].tolist() == [2.0, 4.0]
    assert int(mean["steps"]) == 4


def test_the_average_is_a_checkpoint_of_the_recipe_with_statistics_of_its_own(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = []
    for seed in (1, 2):
        trainer = _trainer(collection, tmp_path / str(seed))
        torch.manual_seed(seed)
        for weight in trainer.model.parameters():
            weight.data += 0.05 * torch.randn_like(weight)
        trainer.averaged.load_state_dict(trainer.model.state_dict())
        paths.append(tmp_path / str(seed) / "best.pt")
        save_checkpoint(paths[-1], trainer.state({"eer_wide": seed / 10}))
    out = tmp_path / "mean"
    options = ["--data", str(collection), "--split", str(collection / "split.yaml")]
    options += ["--cache", str(collection / "cache"), "--batches", "2", "--run", str(out)]
    assert average.main([str(RECIPE), *map(str, paths), *options]) == 0
    found = load_checkpoint(out / "best.pt", load_recipe(RECIPE))
    states = [load_checkpoint(path)["model"] for path in paths]
    name = "trunk.maps.2.0.weight"
    torch.testing.assert_close(found["model"][name], (states[0][name] + states[1][name]) / 2)
    variance = found["model"]["trunk.maps.2.1.running_var"]
    assert not torch.allclose(variance, torch.ones_like(variance), atol=0.05)
    assert set(found["validation"]) >= {"eer_wide", "eer_narrow"}
    assert "best.pt: eer_wide 0.1" in capsys.readouterr().out


def test_another_network_cannot_be_averaged(collection: Path, tmp_path: Path) -> None:
    trainer = _trainer(collection, tmp_path)
    state = trainer.state({})
    state["recipe"] = {**state["recipe"], "network": {"bands": 20}}
    save_checkpoint(tmp_path / "other.pt", state)
    with pytest.raises(CheckpointError, match="another network"):
        average.average(trainer, [tmp_path / "other.pt"], 1)
