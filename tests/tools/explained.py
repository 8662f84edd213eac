"""Networks of chance whose windows are explained quickly: how it looks needs no better."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.cnn_lstm.network import build
from tools.explanation import saliency
from tools.training import load_recipe, save_checkpoint

RECIPE = Path(__file__).parents[2] / "models" / "cnn_lstm" / "comparison.yaml"


@pytest.fixture
def quick_saliency(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few samples, one network of random weights, one thread."""
    monkeypatch.setattr(saliency, "SHAP_SAMPLES", 4)
    monkeypatch.setattr(saliency, "ROUGH_SAMPLES", 2)
    monkeypatch.setattr(saliency, "RANDOM_SEEDS", (1,))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run_of_chance(folder: Path, kind: str) -> Path:
    """A run of the CNN-LSTM on these features, with weights of chance."""
    recipe = load_recipe(RECIPE, {"network.features": kind})
    torch.manual_seed(0)
    labels: dict[str, list[str]] = {"technology": [], "generator": []}
    state = {"recipe": recipe, "labels": labels, "model": build(recipe, labels).state_dict()}
    save_checkpoint(folder / kind / "best.pt", state)
    return folder / kind
