"""The networks and features that the text compares: hop by hop, and torch against ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from models.cnn_lstm.network import (
    HOP_SAMPLES,
    LEFT_CONTEXT,
    Detector,
    HopGraph,
    NetworkSettings,
    build,
    graphs,
)
from tools.bundle_writer import export_graph
from tools.check_parity import noise_windows
from tools.training import Recipe, load_recipe

pytestmark = [pytest.mark.train, pytest.mark.timeout(60)]
SYSTEM = Path(__file__).parents[2] / "models" / "cnn_lstm"

NETWORKS: dict[str, dict[str, Any]] = {
    "CNN-LSTM": {},
    "CNN": {"recurrent": "none"},
    "LSTM": {"convolutions": False},
    "Bi-LSTM": {"convolutions": False, "recurrent": "bilstm"},
    "GRU": {"convolutions": False, "recurrent": "gru"},
    "CNN-Bi-LSTM": {"recurrent": "bilstm"},
    "CNN-GRU": {"recurrent": "gru"},
}
# Every cell and every feature that test_cnn_lstm does not export, in as few exports as that takes.
EXPORTED: tuple[dict[str, Any], ...] = (
    {"features": "mfcc", "recurrent": "none"},
    {"features": "gfcc", "convolutions": False},
    {"features": "fbank", "convolutions": False, "recurrent": "bilstm"},
    {"features": "spectrogram", "filters": 64, "recurrent": "gru"},
)


def _recipe(**network: Any) -> Recipe:
    changes = {f"network.{key}": value for key, value in network.items()}
    return load_recipe(SYSTEM / "comparison.yaml", changes)


def _detector(**network: Any) -> Detector:
    """Random weights, statistics of the noise that it will hear."""
    torch.manual_seed(3)
    detector = build(_recipe(**network), {})
    detector.fit_statistics(_samples(4), torch.ones(4, 6, dtype=torch.bool))
    with torch.no_grad():
        for buffer in (b for n, b in detector.named_buffers() if n.endswith("running_var")):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return detector.eval()


def _samples(windows: int) -> Tensor:
    return torch.from_numpy(noise_windows(windows, LEFT_CONTEXT))


def test_the_comparison_as_it_stands_is_the_recipe_value_for_value() -> None:
    recipe, compared = load_recipe(SYSTEM / "recipe.yaml"), _recipe()
    assert build(compared, {}).settings == build(recipe, {}).settings
    network = compared.pop("network")
    assert network | recipe.pop("network") == network
    assert compared == recipe


def test_the_network_of_the_text_keeps_the_names_of_its_checkpoints() -> None:
    names = set(_detector().state_dict())
    assert {"mean", "deviation", "head.weight", "blocks.convolutions.0.weight"} <= names
    assert {"blocks.lstm_64.weight_ih_l0", "blocks.lstm_128.bias_hh_l0"} <= names
    assert "blocks.dense.2.weight" in names
    assert len(names) == 30


@pytest.mark.parametrize("name", NETWORKS)
def test_hop_by_hop_every_network_equals_the_whole_clip(name: str) -> None:
    detector, samples = _detector(**NETWORKS[name]), _samples(2)
    valid = torch.ones(2, 6, dtype=torch.bool)
    with torch.no_grad():
        whole = detector.activations(detector.features(samples, valid))
        graph, state = HopGraph(detector), torch.zeros(2, detector.settings.state_size)
        for hop in range(6):
            begin = hop * HOP_SAMPLES
            piece = samples[:, begin : begin + LEFT_CONTEXT + HOP_SAMPLES]
            sums, _, state = graph(piece, state)
            torch.testing.assert_close(sums, whole[:, hop], atol=1e-4, rtol=0)
    assert float(whole.std()) > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_hears_the_first_and_the_last_frame_of_a_block(name: str) -> None:
    detector = _detector(**NETWORKS[name])
    block = torch.randn(1, 50, 20, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = detector.blocks(block)
        # Pooling leaves out the last two frames of fifty where there are convolutions.
        for frame in (0, 47):
            changed = block.clone()
            changed[:, frame] += 3.0
            assert bool((detector.blocks(changed) != before).any())


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "changes", EXPORTED, ids=lambda changes: "-".join(map(str, changes.values()))
)
def test_onnx_gives_what_torch_gives_of_every_variant(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    detector = _detector(**changes)
    hop = graphs(detector)[0]
    export_graph(hop, tmp_path / "hop.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "hop.onnx")
    for batch in (1, 3):
        samples = _samples(batch)[:, : LEFT_CONTEXT + HOP_SAMPLES]
        state = torch.rand(batch, detector.settings.state_size) * 50
        with torch.no_grad():
            expected = hop.module(samples, state)
        found = session.run(None, {"samples": samples.numpy(), "state_in": state.numpy()})
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(other, one.numpy(), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": "cqcc"}, r"network\.features: 'cqcc': one of lfcc, mfcc"),
        ({"recurrent": "rnn"}, r"network\.recurrent: 'rnn': one of lstm, bilstm, gru, none"),
        ({"recurrent": "none", "convolutions": False}, r"network\.convolutions: false"),
    ],
)
def test_a_variant_that_there_is_not_is_refused_by_name(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkSettings(**changes)
