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
    Branch,
    HeadGraph,
    HopGraph,
    Lava,
    NetworkSettings,
    build,
    full_window,
    graphs,
)
from tools.bundle_writer import BundleDraft, read_document, write_bundle
from tools.check_parity import (
    TOLERANCE,
    HopSystem,
    bundle_system,
    compare,
    noise_windows,
    torch_system,
)
from tools.training import load_recipe, recipe_sha256

pytestmark = [pytest.mark.train, pytest.mark.timeout(60)]

WINDOW_HOPS = 6
COMMITTED = Path(__file__).parents[2] / "models" / "lava" / "bundle"


def random_lava(settings: NetworkSettings | None = None) -> Lava:
    """Weights and running statistics that leave no layer trivial."""
    torch.manual_seed(7)
    model = Lava(4, 5, settings)
    shake(model)
    return model.eval()


def shake(model: nn.Module) -> None:
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d):
            nn.init.normal_(norm.weight, 1.0, 0.2)
            nn.init.normal_(norm.bias, 0.1, 0.2)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_(0.0, 0.1)
            norm.running_var.uniform_(0.05, 0.5)


def encode(model: Lava, samples: Tensor, *, padded: bool) -> Tensor:
    """Latent frames of a network whose last convolution serves both heads."""
    (branch,) = model.branches
    assert isinstance(branch, Branch)
    latent: Tensor = branch.last(model.trunk(samples, padded=padded), padded=padded)
    return latent


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
        latent = encode(lava, hop, padded=False)
        same = encode(lava, changed, padded=False)
        other = encode(lava, changed_more, padded=False)
    assert latent.shape == (1, LATENT, HOP_FRAMES)
    assert torch.equal(latent, same)
    assert torch.equal(latent[:, :, :-1], other[:, :, :-1])
    assert not torch.equal(latent[:, :, -1], other[:, :, -1])


def test_hop_frames_lie_three_frames_behind_the_padded_grid_and_differ_at_its_edges_only(
    lava: Lava, signal: Tensor
) -> None:
    with torch.no_grad():
        hops = encode(lava, signal, padded=False)
        padded = encode(lava, signal[:, LEFT_CONTEXT:], padded=True)
    # Frame t of the padded window is frame t + 3 of the hop form, which begins with frame -3.
    difference = (padded[:, :, :-3] - hops[:, :, 3:]).abs().amax(dim=(0, 1))
    assert padded.shape[2] == hops.shape[2] == WINDOW_HOPS * HOP_FRAMES
    assert float(difference[4:].max()) < TOLERANCE
    assert bool((difference[:4] > TOLERANCE).all()), "frames 0-3 see zeros where there was audio"


def test_only_the_last_three_frames_of_a_padded_window_see_zeros_behind_it(
    lava: Lava, signal: Tensor
) -> None:
    with torch.no_grad():
        short = encode(lava, signal[:, : 4 * HOP_SAMPLES], padded=True)
        long = encode(lava, signal[:, : 5 * HOP_SAMPLES], padded=True)[:, :, : 4 * HOP_FRAMES]
    difference = (short - long).abs().amax(dim=(0, 1))
    assert float(difference[:-3].max()) < TOLERANCE
    assert bool((difference[-3:] > TOLERANCE).all())


VARIANTS = [
    NetworkSettings(attention=attention, last_per_head=per_head)
    for attention in (True, False)
    for per_head in (True, False)
]


@pytest.mark.parametrize("settings", VARIANTS)
def test_six_hops_add_up_to_the_whole_window(signal: Tensor, settings: NetworkSettings) -> None:
    model = random_lava(settings)
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
        latent = encode(lava, torch.cat((silence, speech), dim=1), padded=False)
        alone = encode(lava, speech, padded=False)
    assert float(count) == HOP_FRAMES
    # Frame 7 is the first that sees nothing of the 108 zeros (it begins 4 samples into the hop).
    assert float((latent[:, :, 7:-1] - _shift(speech, lava, 4)).abs().max()) < TOLERANCE
    assert alone.shape[2] == HOP_FRAMES - 7
    frames = lava.trunk(torch.cat((silence, speech), dim=1), padded=False)
    gated = lava.gated(frames, padded=False).sum(dim=2)
    torch.testing.assert_close(sums, gated, rtol=1e-4, atol=1e-2)


def _shift(speech: Tensor, model: Lava, samples: int) -> Tensor:
    latent = encode(model, speech[:, samples:], padded=False)
    return latent.detach()[:, :, : HOP_FRAMES - 8]


def test_without_attention_the_sums_are_plain_sums_of_the_latent(signal: Tensor) -> None:
    model = random_lava(NetworkSettings(attention=False))
    samples = signal[:, : LEFT_CONTEXT + HOP_SAMPLES]
    with torch.no_grad():
        sums, _ = HopGraph(model)(samples)
        latent = encode(model, samples, padded=False).sum(dim=2)
    torch.testing.assert_close(sums, latent.repeat(1, HEADS), rtol=1e-4, atol=1e-2)


def test_a_head_without_any_frames_gives_finite_numbers(lava: Lava) -> None:
    outputs = HeadGraph(lava)(torch.zeros(2, HEADS * LATENT), torch.zeros(2, 1))
    assert all(bool(torch.isfinite(output).all()) for output in outputs)


@pytest.mark.parametrize("settings", VARIANTS)
def test_the_trainer_sees_the_network_that_the_daemon_runs(
    signal: Tensor, settings: NetworkSettings
) -> None:
    model = random_lava(settings)
    valid = torch.ones(len(signal), WINDOW_HOPS, dtype=torch.bool)
    with torch.no_grad():
        said = model.outputs(model.activations(model.features(signal, valid)), valid)
        whole = full_window(model, signal)
    for name in ("technology", "generator"):
        trained = getattr(said, name)
        assert float((trained - whole[f"{name}_logits"]).abs().max()) < TOLERANCE


def test_a_pause_says_nothing_in_training(lava: Lava, signal: Tensor) -> None:
    valid = torch.ones(len(signal), WINDOW_HOPS, dtype=torch.bool)
    valid[:, -1] = False
    with torch.no_grad():
        features = lava.features(signal, valid)
        said = lava.outputs(lava.activations(features), valid)
        shorter = full_window(lava, signal[:, :-HOP_SAMPLES])
    assert said.technology is not None
    assert float((said.technology - shorter["technology_logits"]).abs().max()) < TOLERANCE


@pytest.mark.parametrize("settings", VARIANTS)
def test_training_the_heads_leaves_the_frozen_layers_and_their_statistics_alone(
    signal: Tensor, settings: NetworkSettings
) -> None:
    model = random_lava(settings).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    technology, generator, _ = model(signal[:, : LEFT_CONTEXT + HOP_SAMPLES])
    (technology.square().sum() + generator.square().sum()).backward()
    optimiser.step()
    same = {name for name, v in model.state_dict().items() if torch.equal(v, before[name])}
    assert same == {name for name in before if name.startswith("trunk.")}


@pytest.mark.parametrize("settings", VARIANTS)
def test_the_heads_begin_with_the_encoder_that_the_autoencoder_has_learned(
    signal: Tensor, settings: NetworkSettings
) -> None:
    learned = Autoencoder()
    shake(learned)
    model = random_lava(settings)
    model.take_pretrained(learned.state_dict())
    samples = signal[:, : LEFT_CONTEXT + HOP_SAMPLES]
    learned.eval()
    with torch.no_grad():
        latent = learned.encoder(samples, padded=False)
        frames = model.trunk(samples, padded=False)
        for branch in model.branches:
            assert isinstance(branch, Branch)
            assert torch.equal(branch.last(frames, padded=False), latent)


def test_the_recipes_build_the_networks_that_they_name() -> None:
    folder = COMMITTED.parent
    labels = {"technology": ["codec", "tts"], "generator": []}
    assert isinstance(build(load_recipe(folder / "autoencoder.yaml"), labels), Autoencoder)
    recipe = load_recipe(folder / "recipe.yaml", {"network.last_per_head": True})
    heads = build(recipe, labels)
    assert isinstance(heads, Lava)
    assert len(heads.branches) == HEADS
    assert (folder / recipe["pretrained"]).is_file()


def test_what_the_autoencoder_gives_back_exactly_costs_nothing() -> None:
    class Echo(Autoencoder):
        def forward(self, samples: Tensor) -> Tensor:
            return samples

    samples = torch.randn(3, LEFT_CONTEXT + 1600)
    assert Echo().reconstruction_losses(samples).tolist() == [0.0] * 3
    losses = Autoencoder(beta=1e-4).reconstruction_losses(samples)
    assert losses.shape == (3,)
    assert bool((losses > 0).all())


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
    system = bundle_system(COMMITTED)
    assert isinstance(system, HopSystem)
    hop = system.hop
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
