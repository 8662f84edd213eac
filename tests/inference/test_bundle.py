"""Bundles: what is refused, and how it is said."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.errors import BundleError
from streamguard.inference.bundle import MAX_MANIFEST_BYTES, find_bundle, load_bundle
from streamguard.inference.onnx_scan import NotOnnxError, has_external_data
from streamguard.inference.plain import PlainDataError, parse_plain
from streamguard.verdict.scores import Channel
from tests.inference.makers import attribution_document, detection_document, write_bundle

# The smallest message with a graph in it (ModelProto field 7): enough for loading, not for running.
STUB = bytes([0x3A, 0x00])
FILES = {"hop_fp32.onnx": STUB, "head_fp32.onnx": STUB + bytes([0x08, 0x0A])}
Edit = Callable[[dict[str, Any]], object]


def test_a_good_bundle_loads_with_its_calibration(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "tiny", detection_document(state=True), FILES)
    bundle = load_bundle(folder)
    calibration = bundle.calibration("fp32", Channel.WIDE)
    assert calibration is not None
    assert calibration.llr is not None
    assert calibration.llr.apply(1.0) == 2.5
    assert calibration.exposure.hours == 0.5
    assert bundle.calibration("fp32", Channel.NARROW) is None
    assert bundle.calibration("int8", Channel.WIDE) is None
    assert bundle.manifest.graphs["hop_fp32"].state[0].source == "state_in"
    assert bundle.sha256 == hashlib.sha256((folder / "bundle.yaml").read_bytes()).hexdigest()
    choice = bundle.choose("fp32")
    assert (choice.body, choice.head) == ("hop_fp32", "head_fp32")


def test_an_attribution_bundle_loads_with_its_conformal_tables(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path, attribution_document(), FILES))
    calibration = bundle.calibration("fp32", Channel.WIDE)
    assert calibration is not None
    assert calibration.technology is not None
    assert calibration.technology.p_value(0.0) == 1.0
    assert [g.name for g in bundle.manifest.labels.generator] == ["alpha", "beta", "gamma"]


def test_what_confidence_means_is_read_with_the_tables(tmp_path: Path) -> None:
    document = attribution_document()
    document["graphs"]["head_fp32"]["outputs"].append(
        {"name": "ood", "dtype": "float32", "shape": ["batch", 1], "meaning": "distance"}
    )
    wide = document["calibration"]["fp32"]["wide"]
    wide["conformal"] |= {"ood": [1.0, 2.0], "generator_ood": [1.5], "generator_sme": [-1.2]}
    wide["answers"] = {"technology": {"temperature": 2.0, "labels": {"tts": LINE}}}
    document["thresholds"] |= {"ood": 0.01, "generator_ood": 0.1}
    calibration = load_bundle(write_bundle(tmp_path, document, FILES)).calibration(
        "fp32", Channel.WIDE
    )
    assert calibration is not None
    assert calibration.ood is not None
    assert calibration.ood.scores == (1.0, 2.0)
    assert calibration.generator_sme is not None
    assert calibration.technology_answers.temperature == 2.0
    assert calibration.technology_answers.confidence("tts", 0.9) == 0.8
    assert calibration.generator_answers.confidence("alpha", 0.9) == 0.9


def test_a_detector_may_say_how_far_a_window_is(tmp_path: Path) -> None:
    document = detection_document()
    document["graphs"]["head_fp32"]["outputs"] += [
        {"name": "embedding", "dtype": "float32", "shape": ["batch", 32]},
        {"name": "ood", "dtype": "float32", "shape": ["batch", 1]},
    ]
    wide = document["calibration"]["fp32"]["wide"]
    wide["conformal"] = {"ood": [-3.0, 20.0]}
    wide["false_alarms"] = {
        "rule": "sequential", "legs": 60, "speakers": 40, "sources": 10, "hours": 0.4,
        "raised": 1, "per_1000_call_hours": 2500.0, "upper_95": 11860.0,
        "leg_share_upper_95": 0.077, "modelled": 150.0,
    }  # fmt: skip
    document["thresholds"] = {"ood": 0.01}
    calibration = load_bundle(write_bundle(tmp_path, document, FILES)).calibration(
        "fp32", Channel.WIDE
    )
    assert calibration is not None
    assert calibration.ood is not None
    assert calibration.false_alarms is not None
    assert calibration.false_alarms.raised == 1


def test_a_loaded_bundle_cannot_be_changed(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path, detection_document(), FILES))
    with pytest.raises(TypeError):
        bundle.manifest.graphs["x"] = bundle.manifest.graphs["hop_fp32"]  # type: ignore[index]  # the test


def test_another_precision_is_refused_and_what_there_is_is_named(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path, detection_document(), FILES))
    with pytest.raises(BundleError, match="none in int8; it has fp32"):
        bundle.choose("int8")


def test_an_int8_hop_takes_an_fp32_head(tmp_path: Path) -> None:
    document = detection_document()
    document["graphs"]["hop_int8"] = document["graphs"]["hop_fp32"] | {
        "file": "hop_int8.onnx",
        "precision": "int8",
    }
    files = FILES | {"hop_int8.onnx": STUB + bytes([0x08, 0x09])}
    choice = load_bundle(write_bundle(tmp_path, document, files)).choose("int8")
    assert (choice.body, choice.head) == ("hop_int8", "head_fp32")


def test_a_wrong_hash_names_the_file_and_both_hashes(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, detection_document(), FILES)
    (folder / "hop_fp32.onnx").write_bytes(b"other")
    expected, actual = hashlib.sha256(STUB).hexdigest(), hashlib.sha256(b"other").hexdigest()
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    assert all(part in str(caught.value) for part in ("hop_fp32.onnx", expected, actual))


def test_a_graph_changed_after_loading_is_caught_when_it_is_read(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path, detection_document(), FILES))
    (tmp_path / "hop_fp32.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match="sha256"):
        bundle.read_graph("hop_fp32")


def test_a_missing_graph_file_is_named(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, detection_document(), FILES)
    (folder / "head_fp32.onnx").unlink()
    with pytest.raises(BundleError, match=r"head_fp32\.onnx: there is no such file"):
        load_bundle(folder)


def test_a_graph_that_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, detection_document(), FILES | {"hop_fp32.onnx": b"PK\x03\x04"})
    with pytest.raises(BundleError, match=r"hop_fp32\.onnx.*not an ONNX model"):
        load_bundle(folder)


def _set(*path: str, to: Any) -> Edit:
    def edit(document: dict[str, Any]) -> None:
        at: Any = document
        for part in path[:-1]:
            at = at[int(part) if part.isdigit() else part]
        at[path[-1]] = to

    return edit


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_set("colour", to="red"), "colour"),
        (_set("graphs", "hop_fp32", "colour", to="red"), "graphs.hop_fp32.colour"),
        (
            _set("calibration", "fp32", "wide", "llr", "colour", to=1.0),
            "calibration.fp32.wide.llr.colour",
        ),
        (_set("calibration", "fp32", "broad", to={}), "calibration.fp32.broad"),
        (_set("schema", to="streamguard.bundle/2"), "schema"),
        (_set("task", to="magic"), "task"),
        (_set("hop_samples", to=4000), "hop_samples: 4000"),
        (_set("hop_samples", to="8000"), "hop_samples"),
        (_set("hop_samples", to=True), "hop_samples"),
        (_set("graphs", "hop_fp32", "file", to="../hop.onnx"), "graphs.hop_fp32.file"),
        (_set("graphs", "hop_fp32", "file", to="/etc/passwd"), "graphs.hop_fp32.file"),
        (_set("graphs", "hop_fp32", "file", to="a/hop.onnx"), "graphs.hop_fp32.file"),
        (_set("graphs", "hop_fp32", "file", to=".hidden.onnx"), "graphs.hop_fp32.file"),
        (_set("graphs", "hop_fp32", "sha256", to="abc"), "graphs.hop_fp32.sha256"),
        (_set("graphs", "hop_fp32", "left_context", to=17), "inputs.samples.shape"),
        (_set("graphs", "hop_fp32", "left_context", to=-1), "graphs.hop_fp32.left_context"),
        (_set("graphs", "head_fp32", "left_context", to=4), "graphs.head_fp32.left_context"),
        (_set("graphs", "hop_fp32", "unit", to="window"), "graphs.hop_fp32.inputs.samples"),
        (
            _set("graphs", "hop_fp32", "state", to=[{"in": "a", "out": "b", "shape": [1]}]),
            "graphs.hop_fp32.state: a: no such tensor",
        ),
        (
            _set("graphs", "head_fp32", "outputs", "0", "name", to="score"),
            "graphs.head_fp32.outputs: logit is missing",
        ),
        (
            _set("graphs", "head_fp32", "outputs", "0", "shape", to=["batch", 2]),
            "graphs.head_fp32.outputs.logit.shape",
        ),
        (
            _set("graphs", "head_fp32", "outputs", "0", "shape", to=[1, "batch"]),
            "batch first",
        ),
        (
            _set("graphs", "head_fp32", "inputs", "0", "shape", to=["batch", 3]),
            "the inputs of its head",
        ),
        (
            _set("graphs", "hop_fp32", "outputs", "0", "dtype", to="float16"),
            "graphs.hop_fp32.outputs.0.dtype",
        ),
        (_set("labels", "technology", to=["tts"]), "labels: must be empty"),
        (_set("thresholds", "technology", to=0.5), "thresholds: detection has none but ood"),
        (_set("thresholds", "generator_ood", to=0.1), "thresholds: detection has none but ood"),
        (_set("thresholds", "ood", to=0.0), "thresholds.ood"),
        (_set("thresholds", "ood", to=0.6), "thresholds.ood"),
        (
            _set("calibration", "fp32", "wide", "conformal", to={"ood": [1.0, 2.0]}),
            "calibration.fp32.wide.conformal: ood: the graphs have no such output",
        ),
        (
            _set("calibration", "fp32", "wide", "conformal", to={"technology": [0.5]}),
            "conformal: detection has none but ood",
        ),
        (
            _set("calibration", "fp32", "wide", "answers", to={}),
            "answers: must be null for detection",
        ),
        (
            _set("calibration", "fp32", "wide", "false_alarms", to={"rule": "sequential"}),
            "calibration.fp32.wide.false_alarms.legs",
        ),
        (_set("calibration", "fp32", "wide", "llr", to=None), "calibration.fp32.wide.llr"),
        (_set("calibration", "fp32", "wide", "llr", "scale", to=-1.0), "llr.scale"),
        (_set("calibration", "fp32", "wide", "llr", "scale", to=float("nan")), "bundle.yaml"),
        (_set("calibration", "fp32", "wide", "leg", "spoof_mean", to=-2.0), "leg.spoof_mean"),
        (_set("calibration", "fp32", "wide", "leg", "within_sd", to=0.0), "leg"),
        (_set("calibration", "fp32", "wide", "exposure", "clips", to=-1), "exposure"),
        (_set("normalisation", to="window_peak"), "window_peak needs unit window"),
        (_set("metrics", "eer", to="good"), "metrics.eer"),
        (_set("licence", to=""), "licence"),
    ],
)
def test_a_detection_bundle_that_does_not_fit_is_refused(
    tmp_path: Path, edit: Edit, says: str
) -> None:
    document = detection_document()
    edit(document)
    write_bundle(tmp_path, document, FILES)
    with pytest.raises(BundleError) as caught:
        load_bundle(tmp_path)
    assert says in str(caught.value)
    assert str(tmp_path / "bundle.yaml") in str(caught.value)


LINE = {"confidence": [0.3, 0.9], "right": [0.4, 0.8]}


def _answers(head: str, values: dict[str, Any]) -> Edit:
    return _set("calibration", "fp32", "wide", "answers", to={head: values})


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_set("labels", "generator", "0", "technology", to="magic"), "alpha: magic"),
        (_set("labels", "generator", "0", "name", to="beta"), "labels.generator: a label"),
        (_set("labels", "technology", to=["tts"]), "technology_logits.shape"),
        (_set("thresholds", "technology", to=None), "thresholds"),
        (_set("thresholds", "technology", to=1.5), "thresholds.technology"),
        (
            _set("calibration", "fp32", "wide", "conformal", "technology", to=[0.5, 0.1]),
            "conformal.technology: must be sorted",
        ),
        (_set("calibration", "fp32", "wide", "conformal", to=None), "conformal"),
        (
            _set("calibration", "fp32", "wide", "conformal", "generator_sme", to=[2.0, 1.0]),
            "conformal.generator_sme: must be sorted",
        ),
        (
            _set("calibration", "fp32", "wide", "conformal", "generator_ood", to=[1.0]),
            "ood: the graphs have no such output",
        ),
        (
            _answers("technology", {"labels": {"magic": LINE}}),
            "answers.technology.labels.magic: no such label",
        ),
        (_answers("generator", {"temperature": 0.0}), "answers.generator.temperature"),
        (_answers("generator", {"common": LINE | {"right": [0.5]}}), "as long as each other"),
        (_answers("generator", {"common": LINE | {"right": [0.5, 1.5]}}), "between 0 and 1"),
        (_answers("generator", {"common": LINE | {"right": [0.5, 0.4]}}), "right must not fall"),
        (
            _answers("technology", {"labels": {"tts": LINE | {"confidence": [0.5, 0.5]}}}),
            "answers.technology.tts: confidence must rise",
        ),
        (
            _set("calibration", "fp32", "wide", "llr", to={"scale": 1.0, "offset": 0.0}),
            "must be null for attribution",
        ),
    ],
)
def test_an_attribution_bundle_that_does_not_fit_is_refused(
    tmp_path: Path, edit: Edit, says: str
) -> None:
    document = attribution_document()
    edit(document)
    write_bundle(tmp_path, document, FILES)
    with pytest.raises(BundleError) as caught:
        load_bundle(tmp_path)
    assert says in str(caught.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    document = detection_document()
    document["hop_samples"] = 4000
    document["window_hops"] = 5
    write_bundle(tmp_path, document, FILES)
    with pytest.raises(BundleError, match=r"hop_samples: 4000.*window_hops: 5"):
        load_bundle(tmp_path)


def test_an_oversized_manifest_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "bundle.yaml").open("wb") as stream:
        stream.truncate(MAX_MANIFEST_BYTES + 1)
    with pytest.raises(BundleError, match="at most"):
        load_bundle(tmp_path)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"bundle\.yaml"):
        find_bundle(tmp_path)
    with pytest.raises(BundleError, match="packaged bundles by name"):
        find_bundle("no_such_model")


def test_a_bundle_is_found_by_its_path(tmp_path: Path) -> None:
    write_bundle(tmp_path / "mine", detection_document(), FILES)
    assert find_bundle(str(tmp_path / "mine")) == tmp_path / "mine"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2", "a: given twice"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("[" * 40 + "]" * 40, "nested"),
        ("1: a", "keys must be text"),
        ("a: !!python/object/apply:os.system [ls]", "not YAML"),
        ("a: [", "not YAML"),
        ("a: 2026-99-99", "not YAML"),
    ],
)
def test_yaml_that_is_more_than_plain_data_is_refused(text: str, says: str) -> None:
    with pytest.raises(PlainDataError, match=says):
        parse_plain(text.encode())


@given(st.binary(max_size=200))
def test_no_bytes_make_the_yaml_reader_fail_in_another_way(data: bytes) -> None:
    try:
        parse_plain(data)
    except PlainDataError:
        pass


@given(st.binary(max_size=200))
def test_no_bytes_make_the_onnx_scan_fail_in_another_way(data: bytes) -> None:
    try:
        has_external_data(data)
    except NotOnnxError:
        pass


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_a_manifest_of_any_bytes_is_refused_as_a_bundle(head: bytes, tail: bytes) -> None:
    from streamguard.inference.bundle import _parse

    with pytest.raises(BundleError):
        _parse(Path("bundle.yaml"), head + b"\nschema: streamguard.bundle/1\n" + tail)
