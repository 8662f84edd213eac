"""The LAVA network: hop form against whole window, in torch and in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from models.lava.network import (
    HEADS,
    HOP_FRAMES,
    HOP_SAMPLES,
    KERNEL,
    LATENT,
    LEFT_CONTEXT,
    Autoencoder,
    HeadGraph,
    HopGraph,
    Lava,
    full_window,
    graphs,
)
from tools.bundle_writer import BundleDraft, read_document, write_bundle
from tools.check_parity import TOLERANCE, bundle_system, compare, noise_windows, torch_system
from tools.training import load_recipe, recipe_sha256

pytestmark = [pytest.mark.train, pytest.mark.timeout(60)]
torch.set_num_threads(1)

WINDOW_HOPS = 6
COMMITTED = Path(__file__).parents[2] / "models" / "lava" / "bundle"


def random_lava(*, attention: bool = True) -> Lava:
    """Weights and running statistics that leave no layer trivial."""
    torch.manual_seed(7)
    model = Lava(4, 5, attention=attention)
    for norm in model.encoder.norms:
        assert isinstance(norm, nn.BatchNorm1d)
        nn.init.normal_(norm.weight, 1.0, 0.2)
        nn.init.normal_(norm.bias, 0.1, 0.2)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_(0.0, 0.1)
        norm.running_var.uniform_(0.05, 0.5)
    return model.eval()


@pytest.fixture(scope="module")
def lava() -> Lava:
    return random_lava()


@pytest.fixture(scope="module")
def signal() -> Tensor:
    return torch.from_numpy(noise_windows(3, LEFT_CONTEXT))


def test_a_hop_with_its_context_gives_its_500_frames_and_uses_all_but_three_samples(
    lava: Lava, signal: Tensor
) -> None:
    hop = signal[:1, : LEFT_CONTEXT + HOP_SAMPLES]
    changed = hop.clone()
    changed[:, -3:] += 0.5
    # Frame 499 covers samples 7876 to 7996 of the hop.
    changed_more = hop.clone()
    changed_more[:, -4] += 0.5
    with torch.no_grad():
        latent = lava.encoder(hop, padded=False)
        same = lava.encoder(changed, padded=False)
        other = lava.encoder(changed_more, padded=False)
    assert latent.shape == (1, LATENT, HOP_FRAMES)
    assert torch.equal(latent, same)
    assert torch.equal(latent[:, :, :-1], other[:, :, :-1])
    assert not torch.equal(latent[:, :, -1], other[:, :, -1])


def test_hop_frames_lie_three_frames_behind_the_padded_grid_and_differ_at_its_edges_only(
    lava: Lava, signal: Tensor
) -> None:
    with torch.no_grad():
        hops = lava.encoder(signal, padded=False)
        padded = lava.encoder(signal[:, LEFT_CONTEXT:], padded=True)
    # Frame t of the padded window is frame t + 3 of the hop form, which begins with frame -3.
    difference = (padded[:, :, :-3] - hops[:, :, 3:]).abs().amax(dim=(0, 1))
    assert padded.shape[2] == hops.shape[2] == WINDOW_HOPS * HOP_FRAMES
    assert float(difference[4:].max()) < TOLERANCE
    assert bool((difference[:4] > TOLERANCE).all()), "frames 0-3 see zeros where there was audio"


def test_only_the_last_three_frames_of_a_padded_window_see_zeros_behind_it(
    lava: Lava, signal: Tensor
) -> None:
    with torch.no_grad():
        short = lava.encoder(signal[:, : 4 * HOP_SAMPLES], padded=True)
        long = lava.encoder(signal[:, : 5 * HOP_SAMPLES], padded=True)[:, :, : 4 * HOP_FRAMES]
    difference = (short - long).abs().amax(dim=(0, 1))
    assert float(difference[:-3].max()) < TOLERANCE
    assert bool((difference[-3:] > TOLERANCE).all())


@pytest.mark.parametrize("attention", [True, False])
def test_six_hops_add_up_to_the_whole_window(signal: Tensor, attention: bool) -> None:
    model = random_lava(attention=attention)
    hops = torch_system(graphs(model)).window(signal.numpy())
    with torch.no_grad():
        whole = {name: value.numpy() for name, value in full_window(model, signal).items()}
    parity = compare(hops, whole)
    assert parity.worst < TOLERANCE
    assert parity.agreement == 1.0
    assert min(float(np.abs(value).max()) for value in whole.values()) > 1e-3, "not trivially equal"


def test_the_first_hop_of_a_segment_hears_zeros_before_it(lava: Lava, signal: Tensor) -> None:
    hop = HopGraph(lava)
    speech = signal[:1, LEFT_CONTEXT : LEFT_CONTEXT + HOP_SAMPLES]
    silence = torch.zeros(1, LEFT_CONTEXT)
    with torch.no_grad():
        sums, count = hop(torch.cat((silence, speech), dim=1))
        latent = lava.encoder(torch.cat((silence, speech), dim=1), padded=False)
        alone = lava.encoder(speech, padded=False)
    assert float(count) == HOP_FRAMES
    # Frame 7 is the first that sees nothing of the 108 zeros (it begins 4 samples into the hop).
    assert float((latent[:, :, 7:-1] - _shift(speech, lava, 4)).abs().max()) < TOLERANCE
    assert alone.shape[2] == HOP_FRAMES - 7
    torch.testing.assert_close(sums, lava.gated(latent).sum(dim=2), rtol=1e-4, atol=1e-2)


def _shift(speech: Tensor, model: Lava, samples: int) -> Tensor:
    latent: Tensor = model.encoder(speech[:, samples:], padded=False)
    return latent.detach()[:, :, : HOP_FRAMES - 8]


def test_without_attention_the_sums_are_plain_sums_of_the_latent(signal: Tensor) -> None:
    model = random_lava(attention=False)
    samples = signal[:, : LEFT_CONTEXT + HOP_SAMPLES]
    with torch.no_grad():
        sums, _ = HopGraph(model)(samples)
        latent = model.encoder(samples, padded=False).sum(dim=2)
    torch.testing.assert_close(sums, latent.repeat(1, HEADS), rtol=1e-4, atol=1e-2)


def test_a_head_without_any_frames_gives_finite_numbers(lava: Lava) -> None:
    outputs = HeadGraph(lava)(torch.zeros(2, HEADS * LATENT), torch.zeros(2, 1))
    assert all(bool(torch.isfinite(output).all()) for output in outputs)


def test_training_the_heads_leaves_the_frozen_layers_and_their_statistics_alone(
    signal: Tensor,
) -> None:
    model = random_lava().train()
    model.encoder.train_only_the_last_layer()
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    optimiser = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=1.0)
    technology, generator, _ = model(signal[:, : LEFT_CONTEXT + HOP_SAMPLES])
    (technology.square().sum() + generator.square().sum()).backward()
    optimiser.step()
    changed = {
        name
        for name, value in model.encoder.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed
    assert all(name.startswith(("convolutions.3", "norms.3")) for name in changed)


def test_the_autoencoder_gives_back_a_waveform_of_the_same_length() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        output = Autoencoder().eval()(torch.randn(2, 1600))
    assert output.shape == (2, 1600)
    assert float(output.abs().max()) <= 1.0


@pytest.fixture(scope="module")
def written(lava: Lava, tmp_path_factory: pytest.TempPathFactory) -> Path:
    draft = BundleDraft(
        name="lava",
        version="0",
        task="attribution",
        licence="none",
        trained_on="nothing: random weights",
        calibration={},
        technology=("codec", "tts", "vc", "vocoder"),
        generator=[{"name": f"g{index}", "technology": "tts"} for index in range(5)],
        thresholds={"technology": 0.5, "generator": 0.5},
    )
    folder = tmp_path_factory.mktemp("lava") / "bundle"
    return write_bundle(draft, graphs(lava), {"system": "lava"}, "# Card\n", folder)


def test_onnx_hops_add_up_to_the_whole_window_in_torch(
    written: Path, lava: Lava, signal: Tensor
) -> None:
    onnx_hops = bundle_system(written).window(signal.numpy())
    with torch.no_grad():
        whole = {name: value.numpy() for name, value in full_window(lava, signal).items()}
    parity = compare(onnx_hops, whole)
    assert parity.worst < TOLERANCE
    assert parity.agreement == 1.0


def test_onnx_scores_a_window_alike_alone_and_in_a_batch(written: Path, signal: Tensor) -> None:
    system = bundle_system(written)
    together = system.window(signal.numpy())
    alone = [system.window(row[None]) for row in signal.numpy()]
    joined = {name: np.concatenate([out[name] for out in alone]) for name in together}
    assert compare(together, joined).worst < TOLERANCE


needs_bundle = pytest.mark.skipif(
    not (COMMITTED / "bundle.yaml").exists(), reason="models/lava/bundle is not there"
)


@needs_bundle
def test_the_committed_hops_add_up_to_the_whole_window_of_their_own_weights(
    signal: Tensor,
) -> None:
    whole_latent, sums_of = _network_of_graph(COMMITTED / "hop_fp32.onnx")
    hop = bundle_system(COMMITTED).hop
    samples = signal.numpy()
    total = np.zeros((len(samples), HEADS * LATENT), np.float32)
    for index in range(WINDOW_HOPS):
        at = index * HOP_SAMPLES
        out = hop({"samples": samples[:, at : at + LEFT_CONTEXT + HOP_SAMPLES]})
        assert bool((out["count"] == HOP_FRAMES).all())
        total += out["sums"]
    frames = WINDOW_HOPS * HOP_FRAMES
    with torch.no_grad():
        whole = sums_of(whole_latent(signal, 0)).numpy()
        padded = whole_latent(signal[:, LEFT_CONTEXT:], KERNEL // 2)
        unpadded = whole_latent(signal, 0)
    assert float(np.abs(total - whole).max() / frames) < TOLERANCE
    assert float((padded[:, :, 4:-3] - unpadded[:, :, 7:]).abs().max()) < TOLERANCE


@needs_bundle
def test_the_committed_bundle_was_made_with_the_recipe_beside_it() -> None:
    recipe = load_recipe(COMMITTED.parent / "recipe.yaml")
    assert read_document(COMMITTED)["made_with"]["recipe_sha256"] == recipe_sha256(recipe)


def _network_of_graph(
    file: Path,
) -> tuple[Callable[[Tensor, int], Tensor], Callable[[Tensor], Tensor]]:
    """The encoder (any length, any padding) and the gated sums, rebuilt from an ONNX hop graph."""
    model = onnx.load(file)
    values = {
        tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
        for tensor in model.graph.initializer
    }
    layers = [
        (values[node.input[1]], values[node.input[2]])
        for node in model.graph.node
        if node.op_type == "Conv"
    ]
    *convolutions, (gate, gate_bias) = layers
    assert [tuple(weight.shape[1:]) for weight, _ in convolutions] == [
        (1, 9),
        (32, 9),
        (64, 9),
        (128, 9),
    ]

    def latent(samples: Tensor, padding: int) -> Tensor:
        out = samples.unsqueeze(1)
        for weight, bias in convolutions:
            out = torch.relu(nn.functional.conv1d(out, weight, bias, stride=2, padding=padding))
        return out

    def sums(frames: Tensor) -> Tensor:
        gates = torch.sigmoid(nn.functional.conv1d(frames, gate, gate_bias))
        return (frames.repeat(1, HEADS, 1) * gates).sum(dim=2)

    return latent, sums
