"""The encoder of a committed bundle is the one that rows then begin with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.gated_fusion.deep import LavaLatent
from models.lava.network import LEFT_CONTEXT
from streamguard.clock import HOP_SAMPLES
from tests.tools.clips import speaking_collection
from tools.gallery.encoder import autoencoder, main, read_encoder
from tools.training import CheckpointError, load_checkpoint

pytestmark = [pytest.mark.train, pytest.mark.timeout(120)]
MODELS = Path(__file__).parents[3] / "models"


@pytest.fixture(params=["gated_fusion", "lava"])
def bundle(request: pytest.FixtureRequest) -> Path:
    folder = MODELS / str(request.param) / "bundle"
    if not (folder / "bundle.yaml").exists():
        pytest.skip(f"models/{request.param}/bundle is not there")
    return folder


def _hops(count: int) -> torch.Tensor:
    rng = np.random.default_rng(7)
    return torch.from_numpy(
        rng.uniform(-0.5, 0.5, (count, LEFT_CONTEXT + HOP_SAMPLES)).astype(np.float32)
    )


def test_folded_layers_come_back_with_norms_that_change_nothing(bundle: Path) -> None:
    layers = read_encoder(bundle)
    model = autoencoder(layers, _hops(4))
    other = _hops(5)[4:]
    frames = other[:, None]
    for weight, bias in layers:
        frames = torch.relu(functional.conv1d(frames, weight, bias, stride=2))
    scale = float(frames.abs().max())
    assert scale > 0.1
    with torch.no_grad():
        assert torch.allclose(model.encoder(other, padded=False), frames, atol=1e-5 * scale)
        # Heads train the last layer with the statistics of a batch: those must be near its own.
        model.encoder.norms[-1].train()
        trained = model.encoder(_hops(4), padded=False)
        model.encoder.norms[-1].eval()
        kept = model.encoder(_hops(4), padded=False)
    assert torch.allclose(trained, kept, atol=0.02 * scale)


def test_the_checkpoint_is_taken_by_what_begins_with_an_autoencoder(
    tmp_path: Path, bundle: Path
) -> None:
    data, out = speaking_collection(tmp_path), tmp_path / "encoder.pt"
    words = [str(bundle), "--data", str(data), "--split", str(data / "split.yaml")]
    words += ["--cache", str(tmp_path / "cache"), "--crops", "31200", "--out", str(out)]
    assert main(words) == 0
    state = load_checkpoint(out)
    assert state["recipe"]["task"] == "reconstruction"
    assert state["recipe"]["train"]["crops_per_epoch"] == 31200
    latent = LavaLatent()
    latent.take_pretrained(state["model"])
    weight, _ = read_encoder(bundle)[0]
    taken = latent.encoder.convolutions[0].weight
    assert isinstance(taken, torch.Tensor)
    assert torch.equal(taken, weight)


def test_a_bundle_of_another_system_is_refused() -> None:
    folder = MODELS / "subband" / "bundle"
    if not (folder / "bundle.yaml").exists():
        pytest.skip("models/subband/bundle is not there")
    with pytest.raises(CheckpointError, match="gated_fusion or lava"):
        read_encoder(folder)
