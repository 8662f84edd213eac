"""The export command: a run folder in, a bundle out, or a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models.lava.network import build, graphs
from streamguard.errors import BundleError
from streamguard.inference.bundle import load_bundle
from tools.bundle_writer import dump_yaml, export_graph, sha256_of
from tools.check_parity import bundle_system, compare, main, noise_windows
from tools.export import ExportError, export, read_fragment
from tools.training import CheckpointError, load_recipe, save_checkpoint

pytestmark = [pytest.mark.train, pytest.mark.timeout(60)]
torch.set_num_threads(1)

RECIPE = load_recipe(Path(__file__).parents[2] / "models" / "lava" / "recipe.yaml")
LABELS: dict[str, list[Any]] = {
    "technology": ["codec", "tts"],
    "generator": [{"name": "dac", "technology": "codec"}],
}
FRAGMENT: dict[str, Any] = {
    "name": "lava",
    "version": "0",
    "task": "attribution",
    "licence": "none",
    "trained_on": "nothing",
    "calibration": {},
    "thresholds": {"technology": 0.5, "generator": 0.5},
    "metrics": {"technology_accuracy_wide": 0.25},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with untrained heads, calibrated (so to speak) on their own graphs."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    model = build(RECIPE, LABELS)
    state = {"recipe": RECIPE, "labels": LABELS, "model": model.state_dict()}
    save_checkpoint(folder / "heads.pt", state)
    hashes = {}
    for spec in graphs(model):
        export_graph(spec, folder / "graph.onnx")
        hashes[spec.name] = sha256_of(folder / "graph.onnx")
    text = dump_yaml({**FRAGMENT, "graphs": hashes})
    (folder / "fragment.yaml").write_text(text, encoding="utf-8")
    (folder / "CARD.md").write_text("# Card\n", encoding="utf-8")
    return folder


def test_a_run_becomes_a_bundle_whose_forms_all_agree(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The parity check finds the network by the name of the folder above the bundle.
    out = tmp_path / "lava" / "bundle"
    checkpoint = run / "heads.pt"
    export("lava", checkpoint, run / "fragment.yaml", run / "CARD.md", out)
    loaded = load_bundle(out)
    assert loaded.manifest.labels.technology == ("codec", "tts")
    assert loaded.manifest.metrics["technology_accuracy_wide"] == 0.25
    assert main([str(out), "--checkpoint", str(checkpoint), "--windows", "2"]) == 0
    printed = capsys.readouterr().out
    assert "torch, whole window" in printed
    assert "verdicts agree 100.0%" in printed
    left = bundle_system(out).window(noise_windows(2, 108))
    assert compare(left, left).worst == 0.0


def test_a_fragment_of_other_graphs_is_refused(run: Path, tmp_path: Path) -> None:
    fragment = tmp_path / "fragment.yaml"
    other = {**FRAGMENT, "graphs": {"hop_fp32": "0" * 64, "head_fp32": "0" * 64}}
    fragment.write_text(dump_yaml(other), encoding="utf-8")
    with pytest.raises(BundleError, match="another graph"):
        export("lava", run / "heads.pt", fragment, run / "CARD.md", tmp_path / "bundle")


def test_a_fragment_names_what_it_lacks_and_what_nobody_knows(tmp_path: Path) -> None:
    fragment = tmp_path / "fragment.yaml"
    fragment.write_text("name: lava\nsurprise: 1\n", encoding="utf-8")
    with pytest.raises(ExportError, match=r"missing keys .*'graphs'.*unknown keys \['surprise'\]"):
        read_fragment(fragment)


def test_without_a_checkpoint_there_is_nothing_to_export(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        export(
            "lava", tmp_path / "none.pt", run / "fragment.yaml", run / "CARD.md", tmp_path / "out"
        )
