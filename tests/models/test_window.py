"""The baselines over whole windows: as the trainer, ONNX and the daemon's loader see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import signal
from torch import Tensor

from models.rawnet2.network import sinc_filters
from models.window import WINDOW_SAMPLES, WindowGraph, WindowNetwork
from tools.bundle_writer import BundleDraft, write_bundle
from tools.check_parity import TOLERANCE, bundle_system, compare, noise_windows, torch_system
from tools.export import network_module
from tools.training import Recipe, load_recipe

pytestmark = [pytest.mark.train, pytest.mark.timeout(60)]
MODELS = Path(__file__).parents[2] / "models"
SMALL: dict[str, dict[str, Any]] = {
    "assert_se": {"network.blocks": [1, 1, 1, 1], "network.widths": [4, 8, 16, 16]},
    "rawnet2": {"network.hidden": 16, "network.layers": 2, "network.dense": 8},
}
PARAMETERS = {"assert_se": (1.2e6, 1.5e6), "rawnet2": (17e6, 19e6)}
PLANES = {"assert_se": (298, 257), "rawnet2": (15658, 20)}


def _recipe(system: str) -> Recipe:
    return load_recipe(MODELS / system / "recipe.yaml", SMALL[system])


def _network(system: str) -> WindowNetwork:
    torch.manual_seed(4)
    network: WindowNetwork = network_module(system).build(_recipe(system), {})
    network.fit_statistics(_samples(2), torch.ones(2, 6, dtype=torch.bool))
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            if name.endswith("running_var"):
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    return network.eval()


def _samples(windows: int) -> Tensor:
    return torch.from_numpy(noise_windows(windows, 0))


@pytest.mark.parametrize("system", SMALL)
def test_the_recipe_builds_the_network_of_the_text(system: str) -> None:
    recipe = load_recipe(MODELS / system / "recipe.yaml")
    count = sum(weight.numel() for weight in network_module(system).build(recipe, {}).parameters())
    least, most = PARAMETERS[system]
    assert least < count < most
    assert recipe["train"]["hops"] == [6, 6]


@pytest.mark.parametrize("system", SMALL)
def test_the_trainers_way_and_the_daemons_graph_say_the_same(system: str) -> None:
    network, samples = _network(system), _samples(3)
    valid = torch.tensor([[True] * 6, [True] * 6, [True, False, False, False, False, False]])
    with torch.no_grad():
        features = network.features(samples, valid)
        assert features.shape == (3, 1, *PLANES[system])
        said = network.outputs(network.activations(features), valid)
        logit, embedding = WindowGraph(network)(samples)
    torch.testing.assert_close(said.logit, logit[:, 0])
    torch.testing.assert_close(said.embedding, embedding)
    assert float(logit.std()) > 0


@pytest.mark.parametrize("system", SMALL)
def test_all_weights_are_trained(system: str) -> None:
    network = _network(system).train()
    valid = torch.ones(2, 6, dtype=torch.bool)
    said = network.outputs(network.activations(network.features(_samples(2), valid)), valid)
    said.logit.sum().backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("system", SMALL)
def test_the_bundle_says_what_torch_says(system: str, tmp_path: Path) -> None:
    specs = network_module(system).graphs(_network(system))
    draft = BundleDraft(
        name=system,
        version="0",
        task="detection",
        licence="none",
        trained_on="nothing",
        calibration={},
    )
    folder = write_bundle(draft, specs, _recipe(system), "", tmp_path / "bundle")
    windows = noise_windows(3, 0)
    together = bundle_system(folder).window(windows)
    assert compare(torch_system(specs).window(windows), together).worst < TOLERANCE
    alone = bundle_system(folder).window(windows[:1])
    assert compare(alone, {name: value[:1] for name, value in together.items()}).worst < TOLERANCE


def test_assert_hears_no_gain() -> None:
    network, samples = _network("assert_se"), _samples(1) * 1000.0  # far above the floor
    with torch.no_grad():
        torch.testing.assert_close(
            network.plane(samples * 0.5), network.plane(samples), atol=2e-3, rtol=0
        )


def test_sinc_filters_let_their_band_through_and_nothing_else() -> None:
    filters = sinc_filters(20, 1025)[:, 0].double().numpy()
    hertz, first = signal.freqz(filters[10], worN=4096, fs=16000)
    centre = hertz[np.abs(first).argmax()]
    gains = {n: np.abs(signal.freqz(filters[n], worN=4096)[1]) for n in (9, 10, 11)}
    at = np.abs(hertz - centre).argmin()
    assert gains[10][at] == pytest.approx(1.0, abs=0.05)
    assert gains[9][at] < 0.01
    assert gains[11][at] < 0.01


def test_a_window_has_three_seconds() -> None:
    assert WINDOW_SAMPLES == 48000
