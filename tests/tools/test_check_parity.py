"""The parity tool: what must agree, what may differ, and what cannot run here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamguard.resources import packaged_targets
from tests.inference.test_auto import int8_document, written
from tools.bundle_writer import add_graph
from tools.check_parity import Line, Parity, main

pytestmark = [pytest.mark.train, pytest.mark.timeout(60)]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Hop and head by hand, and an int8 graph that is the fp32 one again."""
    return written(tmp_path / "bundle", int8_document())


def test_every_engine_is_compared_or_listed_with_the_reason_why_not(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "parity.json"
    assert main([str(bundle), "--windows", "2", "--json", str(report)]) == 0
    lines = {line["form"]: line for line in json.loads(report.read_text())}
    assert lines.keys() == {
        "ONNX, batch of one",
        *(f"engine {target}" for target in packaged_targets()),
    }
    for target in ("cpu-fp32", "cpu-int8"):
        parity = lines[f"engine {target}"]["parity"]
        assert parity["difference"]["logit"] < 1e-4
        assert parity["agreement"] == 1.0
    missing = [line for line in lines.values() if line["parity"] is None]
    assert all(line["missing"] for line in missing)
    printed = capsys.readouterr().out
    assert printed.count("not here: ") == len(missing)


def test_another_network_under_the_name_of_int8_is_seen_but_no_failure(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """How much int8 may change is decided on speech, by tools.quantise."""
    onnx = pytest.importorskip("onnx", reason="needs the onnx package (extra 'train')")
    model = onnx.load(bundle / "hop_fp32.onnx")
    kernel = next(t for t in model.graph.initializer if t.name == "kernel")
    other = -1.5 * onnx.numpy_helper.to_array(kernel)
    kernel.CopyFrom(onnx.numpy_helper.from_array(other, "kernel"))
    add_graph(bundle, "hop_int8", model.SerializeToString(), "hop_fp32", "int8")
    arguments = [str(bundle), "--windows", "2", "--target", "cpu-int8"]
    assert main(arguments) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert "engine cpu-int8: logit" in said
    assert "logit 0;" not in said


@pytest.mark.parametrize(
    ("exact", "worst", "agreement", "fine"),
    [
        (True, 1e-5, 1.0, True),
        (True, 1e-3, 1.0, False),
        (True, 1e-5, 0.9, False),
        (False, 0.3, 0.9, True),
        (False, float("nan"), 1.0, False),
    ],
)
def test_only_float32_forms_must_agree_and_all_must_give_numbers(
    exact: bool, worst: float, agreement: float, fine: bool
) -> None:
    line = Line("bundle", "form", exact, Parity({"logit": worst}, agreement))
    assert line.fine is fine
    assert ("NOT" in str(line)) is not fine


def test_a_bundle_that_cannot_be_read_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "nothing")]) == 1
    assert "bundle.yaml" in capsys.readouterr().err
