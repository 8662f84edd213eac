"""The default detector: two networks on one spectrum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from models.cnn_lstm import network as cnn_lstm
from models.duet.network import LEFT_CONTEXT, compose, graphs
from models.subband import network as subband
from streamguard.inference.bundle import load_bundle
from tools.bundle_writer import read_document
from tools.check_parity import TOLERANCE, bundle_system, compare, main, noise_windows, torch_system
from tools.export import export, network_module
from tools.training import Recipe, load_recipe, recipe_sha256, save_checkpoint

pytestmark = [pytest.mark.train, pytest.mark.timeout(60)]
MODELS = Path(__file__).parents[2] / "models"
NAMES = ("subband", "cnn_lstm")
LABELS = {"technology": ["tts"], "generator": []}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """More only wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _recipe(name: str) -> Recipe:
    return load_recipe(MODELS / name / "recipe.yaml")


def _members() -> list[torch.nn.Module]:
    members = []
    for seed, name in enumerate(NAMES):
        torch.manual_seed(seed)
        members.append(network_module(name).build(_recipe(name), LABELS).eval())
    return members


def test_the_score_is_the_weighted_sum_of_both_members() -> None:
    first, second = _members()
    signal = noise_windows(2, LEFT_CONTEXT)
    alone = [
        torch_system(network_module(name).graphs(member)).window(signal)["logit"]
        for name, member in zip(NAMES, (first, second), strict=True)
    ]
    without, single, double = (
        torch_system(graphs(compose({"weight": weight}, (first, second)))).window(signal)["logit"]
        for weight in (0.0, 1.0, 2.0)
    )
    assert without == pytest.approx(alone[0], abs=1e-5)
    assert double - single == pytest.approx(single - without, abs=1e-5)
    # Its cepstra are those of another window function than it hears alone.
    assert single - without == pytest.approx(alone[1], abs=0.1)
    assert np.abs(single - without).min() > 0


def test_members_that_disagree_on_the_spectrum_are_refused() -> None:
    first, second = _members()
    assert isinstance(first, subband.Subband)
    assert isinstance(second, cnn_lstm.Detector)
    first.settings = replace(first.settings, fft=1024)
    with pytest.raises(ValueError, match=r"network\.fft"):
        compose({"weight": 1.0}, (first, second))


def test_two_runs_become_a_bundle_that_says_the_same(tmp_path: Path) -> None:
    for name, member in zip(NAMES, _members(), strict=True):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text(yaml.safe_dump(_recipe(name)))
        state = {"recipe": _recipe(name), "labels": LABELS, "model": member.state_dict()}
        save_checkpoint(tmp_path / "runs" / name / "best.pt", state)
    file = tmp_path / "duet" / "recipe.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(_recipe("duet")))
    out = export(file, tmp_path / "runs", file.parent / "bundle")
    assert load_bundle(out).manifest.name == "duet"
    assert main([str(out), "--run", str(tmp_path / "runs"), "--windows", "2"]) == 0


def test_the_committed_bundle_is_of_the_committed_recipe() -> None:
    folder = MODELS / "duet" / "bundle"
    assert read_document(folder)["made_with"]["recipe_sha256"] == recipe_sha256(_recipe("duet"))
    weights = sum(
        (folder / graph.file).stat().st_size
        for graph in load_bundle(folder).manifest.graphs.values()
        if graph.precision == "fp32"
    )
    assert weights < 4 * 5_000_000  # bytes of at most five million
    system = bundle_system(folder)
    signal = noise_windows(2, LEFT_CONTEXT)
    together = system.window(signal)
    alone = [system.window(row[None]) for row in signal]
    apart = {name: np.concatenate([out[name] for out in alone]) for name in together}
    # A squared distance is a large number: its error is relative.
    np.testing.assert_allclose(apart.pop("ood"), together.pop("ood"), rtol=1e-5)
    parity = compare(together, apart)
    assert parity.worst <= TOLERANCE
    assert parity.agreement == 1.0
