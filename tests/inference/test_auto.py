"""``engine: auto``: int8 where processor and bundle allow it, bundle by bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamguard.clock import LegClock
from streamguard.config import Config
from streamguard.errors import BundleError, EngineError
from streamguard.events import LegRole, LegStarted
from streamguard.facts import Judging
from streamguard.inference import auto
from streamguard.inference.auto import auto_target, target_for
from streamguard.inference.bundle import load_bundle
from streamguard.inference.pair import PairNames, open_models
from streamguard.inference.processor import instructions, multiplies_int8
from tests.inference.makers import detection_document, write_bundle
from tests.inference.onnx_makers import head_graph, hop_graph

FAST = frozenset({"avx2", "avx512_vnni"})
SLOW = frozenset({"avx2", "avx512f"})
ACCEPTANCE: dict[str, Any] = {
    "accepted": True,
    "differences": {"eer_direct": {"value": 0.001, "low": -0.002, "high": 0.003}},
    "allowed": 0.005,
    "windows": 100,
    "sources": 7,
    "legs": 10,
    "flips": 0,
    "median_llr_difference": 0.02,
}


def int8_document(**acceptance: Any) -> dict[str, Any]:
    """A detector whose int8 graph is the fp32 one again (for choosing, not for speed)."""
    document = detection_document()
    hop = document["graphs"]["hop_fp32"]
    document["graphs"]["hop_int8"] = hop | {"file": "hop_int8.onnx", "precision": "int8"}
    document["calibration"]["int8"] = document["calibration"]["fp32"]
    document["acceptance"] = {"int8": ACCEPTANCE | acceptance}
    return document


def written(folder: Path, document: dict[str, Any]) -> Path:
    files = {"hop_fp32.onnx": hop_graph(), "head_fp32.onnx": head_graph()}
    if "hop_int8" in document["graphs"]:
        files["hop_int8.onnx"] = hop_graph()
    return write_bundle(folder, document, files)


@pytest.mark.parametrize(
    ("cpuinfo", "fast"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse avx2 avx512_vnni\n", True),
        ("processor\t: 0\nflags\t\t: fpu sse avx2 avx_vnni\n", True),
        ("processor\t: 0\nflags\t\t: fpu sse avx2 avx512f\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp\n", True),
        ("processor\t: 0\nFeatures\t: fp asimd i8mm\n", True),
        ("processor\t: 0\nFeatures\t: fp asimd\n", False),
        ("model name: avx512_vnni\n", False),
        ("", False),
    ],
)
def test_integer_dot_products_are_read_from_cpuinfo(cpuinfo: str, fast: bool) -> None:
    assert multiplies_int8(instructions(cpuinfo)) is fast


def test_int8_is_chosen_where_it_is_fast_accepted_and_calibrated(tmp_path: Path) -> None:
    bundle = load_bundle(written(tmp_path / "bundle", int8_document()))
    assert auto_target(bundle, FAST) == "cpu-int8"
    assert auto_target(bundle, SLOW) == "cpu-fp32"


def test_int8_that_was_not_accepted_is_kept_but_not_chosen(tmp_path: Path) -> None:
    bundle = load_bundle(written(tmp_path / "bundle", int8_document(accepted=False)))
    assert auto_target(bundle, FAST) == "cpu-fp32"
    assert target_for("cpu-int8", bundle).precision == "int8"


def test_int8_that_lacks_a_channel_class_of_fp32_is_not_chosen(tmp_path: Path) -> None:
    document = int8_document()
    calibration = document["calibration"]
    calibration["fp32"] = calibration["fp32"] | {"narrow": calibration["fp32"]["wide"]}
    assert auto_target(load_bundle(written(tmp_path / "bundle", document)), FAST) == "cpu-fp32"


def test_an_acceptance_without_its_graph_is_refused(tmp_path: Path) -> None:
    document = detection_document() | {"acceptance": {"int8": ACCEPTANCE}}
    with pytest.raises(BundleError, match=r"acceptance\.int8: there is no such graph"):
        load_bundle(written(tmp_path / "bundle", document))


def test_a_named_engine_is_that_engine_or_an_error(tmp_path: Path) -> None:
    folder = written(tmp_path / "bundle", detection_document())
    with pytest.raises(BundleError, match="none in int8"):
        open_models(PairNames(str(folder), None, "cpu-int8"))
    with pytest.raises(EngineError, match="no-such-engine"):
        open_models(PairNames(str(folder), None, "no-such-engine"))


@pytest.mark.parametrize(("names", "precision"), [(FAST, "int8"), (SLOW, "fp32")])
def test_each_bundle_of_a_pair_has_its_own_precision_and_status_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: frozenset[str], precision: str
) -> None:
    """The second bundle stands for an attributor: only its engine is looked at."""
    monkeypatch.setattr(auto, "own_instructions", lambda: names)
    detector = written(tmp_path / "detector", int8_document())
    other = written(tmp_path / "other", detection_document())
    models = open_models(PairNames(str(detector), str(other), "auto"))
    sources = [{"name": "line", "type": "rtp", "ports": [40000]}]
    config = Config.model_validate({"sources": sources, "engine": "auto"})
    judging = Judging.of(config, models)
    engine = judging.as_json()["engine"]
    assert models.attribution is not None
    assert (models.detector.precision, models.attribution.precision) == (precision, "fp32")
    assert engine["requested"]["target"] == engine["requested"]["precision"] == "auto"
    assert engine["effective"]["target"] == f"cpu-{precision}"
    assert engine["effective"]["precision"] == precision
    assert engine["attribution"]["target"] == "cpu-fp32"
    alerted = judging.context(
        LegStarted("line", "call", "leg", LegRole.CALLER, "PCMU", 8000, 0.0), LegClock(0.0)
    )
    assert alerted.attribution_engine is not None
    assert (alerted.engine.precision, alerted.attribution_engine.precision) == (precision, "fp32")
    models.close()
