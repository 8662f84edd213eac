"""A bundle gets its int8 graph, or stays as it was; on small graphs of our own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from streamguard.errors import BundleError
from streamguard.inference.bundle import load_bundle
from streamguard.inference.schema import AcceptanceDoc, Difference
from tests.e2e.bundles import opinionated_bundle
from tests.inference.test_auto import int8_document, written
from tests.tools.clips import speaking_collection
from tools import quantise
from tools.bundle_writer import add_graph, dump_yaml, read_document
from tools.data import AudioCache, read_manifest
from tools.quantisation.compare import accept_attributor, accept_detector
from tools.quantisation.graph import Candidate, Quantised
from tools.quantisation.rows import service_rows

pytestmark = [pytest.mark.train, pytest.mark.timeout(60)]
FOUND = AcceptanceDoc(
    accepted=True,
    differences={"eer_direct": Difference(0.001, -0.002, 0.003)},
    allowed=0.005,
    windows=100,
    sources=2,
    legs=4,
    flips=1,
    median_llr_difference=0.02,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = speaking_collection(tmp_path_factory.mktemp("speech"))
    sources = {"one": "train", "two": "calibration", "held": "validation"}
    split = {"schema": "streamguard.split/1", "sources": sources}
    (folder / "split.yaml").write_text(yaml.safe_dump(split))
    return folder


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    """One that leans to spoof, the louder the more."""
    return opinionated_bundle(tmp_path / "models" / "detector", 1.0, 20.0)


def twin(folder: Path) -> Path:
    """The detector with its own graph again, called int8, calibrated alike."""
    data = (folder / "hop.onnx").read_bytes()
    add_graph(folder, "hop_int8", data, "hop_fp32", "int8")
    document = read_document(folder)
    document["calibration"]["int8"] = document["calibration"]["fp32"]
    (folder / "bundle.yaml").write_text(dump_yaml(document))
    return folder


def run_tool(
    detector: Path, data: Path, monkeypatch: pytest.MonkeyPatch, found: AcceptanceDoc, *more: str
) -> int:
    """The tool around a declared stand-in for its three long steps."""
    graph = (detector / "hop.onnx").read_bytes()
    made = Quantised(graph, (Candidate("conv", "Conv", 10**6, 0.01, True),), 0.02)

    def calibrated(folder: Path, clips: Any, cache: Any, promise: Any, precision: str) -> Any:
        assert {clip.source_repo for clip in clips} == {"two"}
        document = read_document(folder)
        fp32 = document["calibration"]["fp32"]
        calibration = {"fp32": fp32, precision: fp32}
        return {"calibration": calibration, "thresholds": document["thresholds"]}

    def accepted(folder: Path, clips: Any, cache: Any) -> AcceptanceDoc:
        assert load_bundle(folder).choose("int8").body == "hop_int8"
        assert {clip.source_repo for clip in clips} == {"held"}
        return found

    def quantised(*_: Any, signed: bool) -> Quantised:
        assert signed == ("--signed" in more)
        return made

    monkeypatch.setattr(quantise, "quantise", quantised)
    monkeypatch.setattr(quantise, "calibrate", calibrated)
    monkeypatch.setattr(quantise, "accept_detector", accepted)
    options = ["--data", str(data), "--split", str(data / "split.yaml")]
    return quantise.main([str(detector), *options, "--cache", str(data / "cache"), *more])


def test_an_accepted_int8_graph_is_written_with_its_figures(
    detector: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_tool(detector, data, monkeypatch, FOUND) == 0
    bundle = load_bundle(detector)
    assert bundle.accepts("int8")
    assert bundle.manifest.acceptance["int8"] == FOUND
    said = capsys.readouterr().out
    assert "conv (Conv, 1,000,000 products): damage 0.0100, int8" in said
    assert "eer_direct: +0.10 points, 95 % [-0.20, +0.30]" in said
    assert "verdicts that differ: 1 of 4 pseudo-legs" in said
    assert [path.name for path in detector.parent.iterdir()] == ["detector"]


def test_a_signed_graph_is_asked_for(
    detector: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_tool(detector, data, monkeypatch, FOUND, "--signed") == 0


def test_one_that_is_not_accepted_leaves_the_bundle_as_it_was(
    detector: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in detector.iterdir()}
    assert run_tool(detector, data, monkeypatch, replace(FOUND, accepted=False)) == 1
    assert {path.name: path.read_bytes() for path in detector.iterdir()} == before


def test_with_keep_its_figures_are_written_but_it_is_not_enabled(
    detector: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_tool(detector, data, monkeypatch, replace(FOUND, accepted=False), "--keep") == 0
    bundle = load_bundle(detector)
    assert bundle.choose("int8").body == "hop_int8"
    assert not bundle.accepts("int8")


def test_a_bundle_without_calibration_is_refused(detector: Path, data: Path) -> None:
    document = read_document(detector) | {"calibration": {}}
    (detector / "bundle.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(BundleError, match="calibrate the bundle first"):
        quantise.main([str(detector), "--data", str(data)])


def test_another_graph_of_a_precision_takes_its_calibration_and_acceptance_away(
    tmp_path: Path,
) -> None:
    folder = written(tmp_path / "bundle", int8_document())
    add_graph(folder, "hop_int8", (folder / "hop_fp32.onnx").read_bytes(), "hop_fp32", "int8")
    document = read_document(folder)
    assert document["calibration"].keys() == {"fp32"}
    assert document["acceptance"] == {}


def test_the_rows_are_those_of_the_first_window_of_speech_of_each_clip(
    detector: Path, data: Path
) -> None:
    clips = read_manifest(data / "manifest.csv")[:3]
    rows = service_rows(load_bundle(detector), clips, AudioCache.open(data, data / "cache", clips))
    assert 6 < len(rows) <= 18
    assert {row["samples"].shape for row in rows} == {(8000,)}
    assert all(0 < np.abs(row["samples"]).max() <= 1.0 for row in rows)


def test_a_twin_of_the_fp32_graph_differs_in_nothing(detector: Path, data: Path) -> None:
    clips = [c for c in read_manifest(data / "manifest.csv") if c.source_repo == "held"]
    found = accept_detector(twin(detector), clips, AudioCache.open(data, data / "cache", clips))
    assert found.accepted
    assert found.differences.keys() == {"eer_direct", "eer_telephone"}
    assert {d.high for d in found.differences.values()} == {0.0}
    assert (found.flips, found.median_llr_difference, found.sources) == (0, 0.0, 1)
    assert found.legs >= 4
    assert found.windows >= 2 * len(clips)


def test_an_attributor_is_compared_by_the_accuracy_of_both_heads(
    small_models: Path, tmp_path: Path, data: Path
) -> None:
    clips = [c for c in read_manifest(data / "manifest.csv") if c.source_repo == "held"]
    source = Path(yaml.safe_load(small_models.read_text())["attribution"])
    folder = tmp_path / "attribution"
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    body = load_bundle(folder).choose("fp32").body
    file_name = read_document(folder)["graphs"][body]["file"]
    add_graph(folder, "hop_int8", (folder / file_name).read_bytes(), body, "int8")
    document = read_document(folder)
    document["calibration"]["int8"] = document["calibration"]["fp32"]
    technology = document["labels"]["technology"][0]
    generator = document["labels"]["generator"][0]["name"]
    (folder / "bundle.yaml").write_text(dump_yaml(document))
    named = [replace(c, technology=technology, generator=generator) for c in clips if c.spoof]
    found = accept_attributor(folder, named, AudioCache.open(data, data / "cache", clips))
    assert found.accepted
    assert {name.rpartition("_")[0] for name in found.differences} == {
        "accuracy_technology",
        "accuracy_generator",
    }
    assert found.flips == 0
    assert found.median_llr_difference is None
    nothing = accept_attributor(folder, [], AudioCache.open(data, data / "cache", clips))
    assert not nothing.accepted, "nothing was compared"
