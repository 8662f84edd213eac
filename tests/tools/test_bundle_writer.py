"""Bundles as they are written: deterministic, anonymous, atomic, and what the daemon accepts."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import onnx
import pytest
import torch
import yaml
from torch import Tensor, nn

from streamguard.errors import BundleError
from streamguard.inference.bundle import load_bundle
from streamguard.verdict.scores import Channel
from tools.bundle_writer import (
    BundleDraft,
    GraphSpec,
    StateSpec,
    TensorSpec,
    dump_yaml,
    export_graph,
    merge_calibration,
    read_document,
    sha256_of,
    update_document,
    write_bundle,
)

pytestmark = [pytest.mark.train, pytest.mark.timeout(60)]
torch.set_num_threads(1)

CALIBRATION = {
    "llr": {"scale": 1.5, "offset": -0.25},
    "leg": {
        "bonafide_mean": -1.0,
        "spoof_mean": 1.0,
        "between_sd": 1.0,
        "within_sd": 1.5,
        "correlation_hops": 1.0,
    },
    "conformal": None,
    "exposure": {"clips": 3, "legs": 1, "speakers": 1, "sources": 1, "hours": 0.1},
}
DRAFT = BundleDraft(
    name="tiny",
    version="1",
    task="detection",
    licence="none",
    trained_on="nothing",
    calibration={"fp32": {"wide": CALIBRATION}},
    metrics={"eer": 0.5},
)
RECIPE = {"system": "tiny", "seed": 1}


class TinyHop(nn.Module):
    """Sums the absolute samples in four channels, and counts hops in its state."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.weight = nn.Parameter(torch.randn(4))

    def forward(self, samples: Tensor, state_in: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        total = samples.abs().sum(dim=1, keepdim=True)
        return total * self.weight, torch.ones_like(total), state_in + 1.0


class TinyHead(nn.Module):
    def forward(self, sums: Tensor, count: Tensor) -> Tensor:
        return (sums / count.clamp(min=1.0)).sum(dim=1, keepdim=True)


def tiny_graphs() -> tuple[GraphSpec, ...]:
    sums, count = TensorSpec("sums", (4,), "weighted level"), TensorSpec("count", (1,), "hops")
    return (
        GraphSpec(
            name="hop_fp32",
            module=TinyHop(),
            unit="hop",
            left_context=16,
            inputs=(TensorSpec("samples", (8016,)), TensorSpec("state_in", (2,))),
            outputs=(sums, count, TensorSpec("state_out", (2,), "hops so far")),
            state=(StateSpec("state_in", "state_out", (2,)),),
        ),
        GraphSpec(
            name="head_fp32",
            module=TinyHead(),
            unit="head",
            inputs=(sums, count),
            outputs=(TensorSpec("logit", (1,), "positive for spoof"),),
        ),
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "bundle"
    return write_bundle(DRAFT, tiny_graphs(), RECIPE, "# Tiny\n", folder)


def test_what_is_written_is_what_the_daemon_reads(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    assert loaded.choose("fp32").body == "hop_fp32"
    hop = loaded.manifest.graphs["hop_fp32"]
    assert (hop.left_context, hop.unit, hop.precision) == (16, "hop", "fp32")
    assert [(state.source, state.target, state.shape) for state in hop.state] == [
        ("state_in", "state_out", (2,))
    ]
    calibration = loaded.calibration("fp32", Channel.WIDE)
    assert calibration is not None
    assert calibration.llr is not None
    assert calibration.llr.apply(1.0) == 1.25
    assert (bundle / "CARD.md").read_text(encoding="utf-8") == "# Tiny\n"
    assert {"torch", "onnx", "recipe_sha256"} <= set(loaded.manifest.made_with)


def test_graphs_name_no_folder_of_this_machine(bundle: Path) -> None:
    root = os.fsencode(Path(__file__).parents[2])
    for file in bundle.glob("*.onnx"):
        content = file.read_bytes()
        assert root not in content
        assert b"stack_trace" not in content
        assert onnx.load(file).opset_import[0].version == 18


def test_exporting_the_same_network_again_gives_the_same_bytes(
    bundle: Path, tmp_path: Path
) -> None:
    hop = tiny_graphs()[0]
    export_graph(hop, tmp_path / "again.onnx")
    assert sha256_of(tmp_path / "again.onnx") == sha256_of(bundle / "hop_fp32.onnx")


def test_a_refused_bundle_leaves_the_old_one_untouched(bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    broken = dataclasses.replace(DRAFT, calibration={"fp32": {"wide": {"llr": None}}})
    with pytest.raises(BundleError, match="calibration"):
        write_bundle(broken, tiny_graphs(), RECIPE, "# New\n", folder)
    assert (folder / "CARD.md").read_text(encoding="utf-8") == "# Tiny\n"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_new_calibration_leaves_the_graphs_as_they_are(bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    narrow = merge_calibration(DRAFT.calibration, {"fp32": {"narrow": CALIBRATION}})
    update_document(folder, {"calibration": narrow, "metrics": {"eer": 0.25}}, card="# New\n")
    loaded = load_bundle(folder)
    assert loaded.calibration("fp32", Channel.NARROW) is not None
    assert loaded.manifest.metrics["eer"] == 0.25
    assert (folder / "CARD.md").read_text(encoding="utf-8") == "# New\n"
    assert sha256_of(folder / "hop_fp32.onnx") == sha256_of(bundle / "hop_fp32.onnx")


def test_an_update_of_an_unknown_key_is_refused(bundle: Path) -> None:
    before = read_document(bundle)
    with pytest.raises(ValueError, match="calibratoin"):
        update_document(bundle, {"calibratoin": {}})
    assert read_document(bundle) == before


def test_a_channel_calibrated_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fp32\.wide"):
        merge_calibration(DRAFT.calibration, DRAFT.calibration)


def test_yaml_keeps_order_and_puts_long_lists_on_few_lines() -> None:
    text = dump_yaml({"b": 1, "a": {"scores": [0.5] * 40, "nested": [{"x": 1}, {"x": 2}]}})
    assert yaml.safe_load(text) == {
        "b": 1,
        "a": {"scores": [0.5] * 40, "nested": [{"x": 1}, {"x": 2}]},
    }
    assert text.index("b:") < text.index("a:")
    assert len(text.splitlines()) < 12
