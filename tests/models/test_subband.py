"""The subband network: whitening, hop by hop against whole windows, ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from models.subband.network import (
    HOP_FRAMES,
    HOP_SAMPLES,
    LEFT_CONTEXT,
    Subband,
    build,
    full_window,
    graphs,
)
from streamguard.inference.bundle import load_bundle
from tools.bundle_writer import read_document
from tools.check_parity import (
    TOLERANCE,
    bundle_system,
    compare,
    main,
    noise_windows,
    torch_system,
)
from tools.export import export
from tools.training import Recipe, load_recipe, recipe_sha256, save_checkpoint

pytestmark = [pytest.mark.train, pytest.mark.timeout(60)]
MODELS = Path(__file__).parents[2] / "models"
LABELS: dict[str, list[Any]] = {
    "technology": ["codec", "tts"],
    "generator": [{"name": "dac", "technology": "codec"}, {"name": "vits", "technology": "tts"}],
}


def _recipe(system: str = "subband") -> Recipe:
    return load_recipe(MODELS / system / "recipe.yaml")


def _system(seed: int = 0, system: str = "subband") -> Subband:
    """Statistics that leave no part trivial."""
    torch.manual_seed(seed)
    network = build(_recipe(system), LABELS)
    samples = _samples(8, 3)
    network.fit_statistics(samples, torch.ones(8, 3, dtype=torch.bool))
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            if name.endswith("running_var"):
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    return network.eval()


def _samples(batch: int, hops: int) -> Tensor:
    shape = (batch, LEFT_CONTEXT + hops * HOP_SAMPLES)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(11)) * 0.1
    return torch.cumsum(noise, dim=1) * 0.01 + noise * 0.1


def test_whitened_features_have_unit_variance_in_every_cepstral_direction() -> None:
    system = _system()
    valid = torch.ones(8, 3, dtype=torch.bool)
    features = system.features(_samples(8, 3), valid).flatten(0, 2).double()
    raw = system.bands(system.power(_samples(8, 3))).flatten(0, 1)
    angles = np.pi / 40 * (np.arange(40)[:, None] + 0.5) * np.arange(40)
    dct = torch.from_numpy(np.cos(angles) * np.sqrt(2 / 40))
    deviation = (features @ dct).square().mean(dim=0).sqrt()[1:]
    # The floor that is added keeps the smallest directions below one.
    assert float(deviation.max()) < 1.0
    assert float(deviation.min()) > 0.5
    before = (raw.double() @ dct).std(dim=0)[1:]
    assert float(before.max() / before.min()) > 2 * float(deviation.max() / deviation.min())


def test_a_gain_or_a_fixed_filter_is_forgotten_by_the_running_mean() -> None:
    """The first hop still leans on the training mean; later ones less and less."""
    system = _system()
    samples = _samples(1, 8)
    valid = torch.ones(1, 8, dtype=torch.bool)
    louder = system.features(samples * 10, valid) - system.features(samples, valid)
    offsets = louder.abs().mean(dim=(0, 2, 3))
    assert bool((offsets.diff() < 0).all())


def test_a_hop_that_holds_no_speech_changes_nothing() -> None:
    system = _system()
    samples = _samples(1, 3)
    valid = torch.tensor([[True, False, True]])
    other = samples.clone()
    other[:, LEFT_CONTEXT + HOP_SAMPLES : LEFT_CONTEXT + 2 * HOP_SAMPLES - LEFT_CONTEXT] = 0.3
    left, right = (
        system.outputs(system.activations(system.features(x, valid)), valid)
        for x in (samples, other)
    )
    torch.testing.assert_close(left.logit, right.logit)


@pytest.mark.parametrize("task", ["detection", "attribution"])
def test_hop_by_hop_equals_whole_windows(task: str) -> None:
    system = _system()
    system.task = task
    samples = _samples(2, 6)
    with torch.no_grad():
        expected = full_window(system, samples)
    hop_by_hop = torch_system(graphs(system)).window(samples.numpy())
    assert list(hop_by_hop) == list(expected)
    for name, value in hop_by_hop.items():
        torch.testing.assert_close(torch.from_numpy(value), expected[name], atol=1e-5, rtol=1e-4)


def test_a_run_becomes_a_bundle_that_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "subband" / "recipe.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(_recipe()))
    state = {"recipe": _recipe(), "labels": LABELS, "model": _system().state_dict()}
    save_checkpoint(tmp_path / "run" / "best.pt", state)
    out = export(file, tmp_path / "run", file.parent / "bundle")
    assert load_bundle(out).manifest.name == "subband"
    assert main([str(out), "--run", str(tmp_path / "run"), "--windows", "2"]) == 0


def test_the_committed_attributor_is_of_the_committed_recipe() -> None:
    folder = MODELS / "subband_attribution" / "bundle"
    recipe = _recipe("subband_attribution")
    assert read_document(folder)["made_with"]["recipe_sha256"] == recipe_sha256(recipe)
    manifest = load_bundle(folder).manifest
    assert manifest.task == recipe["task"]
    parameters = sum((folder / graph.file).stat().st_size for graph in manifest.graphs.values())
    assert parameters < 4 * 5_000_000  # bytes of at most five million fp32 weights
    onnx = bundle_system(folder)
    signal = noise_windows(2, LEFT_CONTEXT)
    together = onnx.window(signal)
    alone = [onnx.window(row[None]) for row in signal]
    apart = {name: np.concatenate([out[name] for out in alone]) for name in together}
    # A squared distance is a large number: its error is relative.
    np.testing.assert_allclose(apart.pop("ood"), together.pop("ood"), rtol=1e-5)
    assert compare(together, apart).worst <= TOLERANCE


def test_the_frames_of_a_hop_are_those_of_half_a_second() -> None:
    system = _system()
    assert system.power(_samples(1, 1)).shape == (1, HOP_FRAMES, 260)
