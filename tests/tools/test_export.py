"""The export command: a checkpoint in, an uncalibrated bundle out, or a reason."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from models.lava.network import build
from streamguard.inference.bundle import load_bundle
from streamguard.verdict.scores import Channel
from tools.check_parity import bundle_system, compare, main, noise_windows
from tools.export import export
from tools.training import CheckpointError, load_recipe, save_checkpoint

pytestmark = [pytest.mark.train, pytest.mark.timeout(60)]
torch.set_num_threads(1)

FILE = Path(__file__).parents[2] / "models" / "lava" / "recipe.yaml"
RECIPE = load_recipe(FILE)
LABELS: dict[str, list[Any]] = {
    "technology": ["codec", "tts"],
    "generator": [{"name": "dac", "technology": "codec"}],
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of untrained heads."""
    file = tmp_path_factory.mktemp("run") / "best.pt"
    torch.manual_seed(0)
    model = build(RECIPE, LABELS)
    save_checkpoint(file, {"recipe": RECIPE, "labels": LABELS, "model": model.state_dict()})
    return file


def test_a_checkpoint_becomes_a_bundle_whose_forms_all_agree(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lava" / "bundle"
    out.parent.mkdir()
    recipe = shutil.copy(FILE, out.parent)
    export(Path(recipe), checkpoint.parent, out)
    loaded = load_bundle(out)
    assert loaded.manifest.labels.technology == ("codec", "tts")
    assert loaded.calibration("fp32", Channel.WIDE) is None
    assert (loaded.manifest.thresholds.technology, loaded.manifest.thresholds.generator) == (1, 1)
    assert main([str(out), "--run", str(checkpoint.parent), "--windows", "2"]) == 0
    printed = capsys.readouterr().out
    assert "torch, whole window" in printed
    assert "verdicts agree 100.0%" in printed
    left = bundle_system(out).window(noise_windows(2, 108))
    assert compare(left, left).worst == 0.0


def test_a_pretraining_is_no_bundle(tmp_path: Path) -> None:
    file = FILE.parent / "autoencoder.yaml"
    recipe = load_recipe(file)
    model = build(recipe, LABELS)
    state = {"recipe": recipe, "labels": LABELS, "model": model.state_dict()}
    save_checkpoint(tmp_path / "best.pt", state)
    with pytest.raises(CheckpointError, match="export what is trained on it"):
        export(file, tmp_path, tmp_path / "out")


def test_without_a_checkpoint_there_is_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        export(FILE, tmp_path / "none", tmp_path / "out")
