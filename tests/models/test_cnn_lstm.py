"""The LFCC CNN-LSTM: hop by hop against whole clips, torch against ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor

from models.cnn_lstm.network import (
    HOP_SAMPLES,
    LEFT_CONTEXT,
    Detector,
    HeadGraph,
    HopGraph,
    NetworkSettings,
    build,
    graphs,
)
from tools.bundle_writer import export_graph, read_document
from tools.objective import window_mean
from tools.training import load_recipe, recipe_sha256

pytestmark = [pytest.mark.train, pytest.mark.timeout(60)]
SYSTEM = Path(__file__).parents[2] / "models" / "cnn_lstm"


def _detector() -> Detector:
    """Weights and statistics that leave no part trivial."""
    torch.manual_seed(3)
    detector = Detector(NetworkSettings())
    with torch.no_grad():
        detector.mean.copy_(torch.randn(20))
        detector.deviation.copy_(torch.rand(20) + 0.5)
        for buffer in (b for n, b in detector.named_buffers() if n.endswith("running_var")):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return detector.eval()


def _samples(batch: int, hops: int) -> Tensor:
    generator = torch.Generator().manual_seed(11)
    return torch.randn(batch, LEFT_CONTEXT + hops * HOP_SAMPLES, generator=generator) * 0.1


def test_hop_by_hop_equals_the_whole_clip() -> None:
    detector, samples = _detector(), _samples(2, 6)
    valid = torch.ones(2, 6, dtype=torch.bool)
    valid[1, 2] = False
    with torch.no_grad():
        whole = detector.activations(detector.features(samples, valid))
        hop_graph = HopGraph(detector)
        state = torch.zeros(2, 21)
        for hop in range(6):
            begin = hop * HOP_SAMPLES
            piece = samples[:, begin : begin + LEFT_CONTEXT + HOP_SAMPLES]
            sums, count, new_state = hop_graph(piece, state)
            torch.testing.assert_close(sums, whole[:, hop], atol=1e-4, rtol=0)
            torch.testing.assert_close(count, torch.ones(2, 1))
            # The daemon does not run a hop that the gate refuses.
            state = torch.where(valid[:, hop, None], new_state, state)


def test_the_head_on_sums_is_the_mean_of_the_hops_logits() -> None:
    detector, samples = _detector(), _samples(2, 6)
    valid = torch.ones(2, 6, dtype=torch.bool)
    valid[0, 4:] = False
    with torch.no_grad():
        activations = detector.activations(detector.features(samples, valid))
        expected = window_mean(detector.logit(activations), valid)
        weight = valid[:, :, None].float()
        sums, count = (activations * weight).sum(dim=1), weight.sum(dim=1)
        found = HeadGraph(detector)(sums, count)[:, 0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_running_mean_removes_a_constant_filter() -> None:
    """A microphone adds a constant to every cepstrum; with a long history nothing of it is left."""
    detector = _detector()
    cepstra = torch.randn(1, 50, 20, generator=torch.Generator().manual_seed(1))
    states = []
    for offset in (0.0, 4.0):
        state = torch.zeros(1, 21)
        for _ in range(60):
            normalised, state = detector.normalise(cepstra + offset, state)
        states.append(normalised)
    drift = (states[1] - states[0]).abs().max()
    without = 4.0 / detector.deviation.min()
    assert drift < 0.06 * without


def test_statistics_come_from_valid_hops_only() -> None:
    detector, samples = _detector(), _samples(4, 2)
    samples[:, LEFT_CONTEXT + HOP_SAMPLES :] *= 1e-3
    valid = torch.tensor([[True, False]] * 4)
    detector.fit_statistics(samples, valid)
    with torch.no_grad():
        cepstra = detector.extractor(samples[:, : LEFT_CONTEXT + HOP_SAMPLES])
    torch.testing.assert_close(detector.mean, cepstra.mean(dim=(0, 1)), atol=1e-4, rtol=0)


def test_the_recipe_builds_the_network() -> None:
    detector = build(load_recipe(SYSTEM / "recipe.yaml"), {})
    assert sum(weight.numel() for weight in detector.parameters()) < 300_000


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_onnx_gives_what_torch_gives_for_any_batch(tmp_path: Path) -> None:
    detector = _detector()
    spec = graphs(detector)[0]
    export_graph(spec, tmp_path / "hop.onnx")
    hop = onnxruntime.InferenceSession(tmp_path / "hop.onnx")
    for batch in (1, 3):
        samples = _samples(batch, 1)
        state = torch.rand(batch, 21, generator=torch.Generator().manual_seed(2)) * 50
        with torch.no_grad():
            expected = spec.module(samples, state)
        found = hop.run(None, {"samples": samples.numpy(), "state_in": state.numpy()})
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(other, one.numpy(), atol=1e-4, rtol=1e-5)


@pytest.fixture(scope="module")
def committed() -> Path:
    folder = SYSTEM / "bundle"
    if not (folder / "bundle.yaml").exists():
        pytest.skip("models/cnn_lstm/bundle is not there")
    return folder


def test_the_committed_graphs_equal_the_torch_network_with_their_weights(committed: Path) -> None:
    detector = _imported(committed)
    hop = onnxruntime.InferenceSession(committed / "hop_fp32.onnx")
    head = onnxruntime.InferenceSession(committed / "head_fp32.onnx")
    samples, state = _samples(2, 6), np.zeros((2, 21), np.float32)
    total, counts = np.zeros((2, 256), np.float32), np.zeros((2, 1), np.float32)
    for index in range(6):
        begin = index * HOP_SAMPLES
        piece = samples[:, begin : begin + LEFT_CONTEXT + HOP_SAMPLES].numpy()
        sums, count, state = hop.run(None, {"samples": piece, "state_in": state})
        total, counts = total + sums, counts + count
    (logit,) = head.run(None, {"sums": total, "count": counts})
    valid = torch.ones(2, 6, dtype=torch.bool)
    with torch.no_grad():
        activations = detector.activations(detector.features(samples, valid))
        expected = window_mean(detector.logit(activations), valid)
    np.testing.assert_allclose(total / 6, activations.mean(dim=1).numpy(), atol=1e-4)
    np.testing.assert_allclose(logit[:, 0], expected.numpy(), atol=1e-4)


def test_the_committed_bundle_was_made_with_the_recipe_beside_it(committed: Path) -> None:
    recipe = load_recipe(SYSTEM / "recipe.yaml")
    assert read_document(committed)["made_with"]["recipe_sha256"] == recipe_sha256(recipe)


def _imported(bundle: Path) -> Detector:
    """The torch network with the weights of a bundle's graphs."""
    detector = build(load_recipe(SYSTEM / "recipe.yaml"), {})
    hop = onnx.load(bundle / "hop_fp32.onnx").graph
    head = onnx.load(bundle / "head_fp32.onnx").graph
    weights = {
        initializer.name.removeprefix("detector."): torch.from_numpy(
            numpy_helper.to_array(initializer).copy()
        )
        for initializer in (*hop.initializer, *head.initializer)
    }
    names = {tensor.name for tensor in hop.initializer}
    for layer, node in zip(
        ("lstm_64", "lstm_128"), (n for n in hop.node if n.op_type == "LSTM"), strict=True
    ):
        # ONNX keeps both biases in one tensor, gates in the order i o f c; torch has i f g o.
        for bias, part in zip(("ih", "hh"), weights[node.input[3]][0].chunk(2), strict=True):
            i, o, f, g = part.chunk(4)
            weights[f"blocks.{layer}.bias_{bias}_l0"] = torch.cat((i, f, g, o))
    # The exporter folded the prior's weight into the mean.
    (prior,) = (name for name in names if name.startswith("mul_"))
    weights["mean"] = weights[prior] / detector.settings.prior_frames
    wanted = detector.state_dict()
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    detector.load_state_dict(
        {name: wanted[name] if name in counters else weights[name] for name in wanted}
    )
    return detector.eval()
