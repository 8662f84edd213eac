"""fp16 graphs: where half precision goes, and that it changes answers by no more than it must."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from streamguard.inference.bundle import find_bundle, load_bundle
from streamguard.inference.engines import open_engine
from streamguard.inference.target import load_target
from tests.inference.onnx_makers import KERNEL, _model, _value, onnx
from tools.half import add_half
from tools.halving import NotHalvedError, half_nodes, halve

HALF = onnx.TensorProto.FLOAT16
helper = onnx.helper


def front_and_body(*, largest: float = 1.0) -> bytes:
    """Samples -> power -> Log -> cosine transform -> Conv -> Relu -> Conv -> sums."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Unsqueeze", ["samples", "one"], ["channels"]),
        helper.make_node("Conv", ["channels", "bank"], ["bands"], strides=[160]),
        helper.make_node("Mul", ["bands", "bands"], ["power"]),
        helper.make_node("Add", ["power", "floor"], ["floored"]),
        helper.make_node("Log", ["floored"], ["log"]),
        helper.make_node("MatMul", ["cosines", "log"], ["cepstra"]),
        helper.make_node("Conv", ["cepstra", "first"], ["a"], name="body1"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["c"], name="body2"),
        helper.make_node("ReduceSum", ["c", "two"], ["sums"], keepdims=0),
    ]
    weights = {
        "bank": rng.normal(0, 0.1, (8, 1, 400)).astype("f4"),
        "floor": np.float32(1e-9),
        "cosines": rng.normal(0, 0.3, (1, 8, 8)).astype("f4"),
        "first": rng.normal(0, 0.3, (16, 8, 3)).astype("f4"),
        "second": (largest * rng.normal(0, 0.3, (4, 16, 3))).astype("f4"),
        "one": np.array([1]),
        "two": np.array([2]),
    }
    return _model(nodes, [_value("samples", 8000)], [_value("sums", 4)], **weights)


def run(graph: bytes, samples: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> np.ndarray[
    tuple[int, ...], np.dtype[np.float32]
]:  # fmt: skip
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (sums,) = session.run(["sums"], {"samples": samples})
    return sums  # type: ignore[no-any-return]  # onnxruntime is untyped


def test_half_precision_starts_behind_the_front_end() -> None:
    graph = onnx.load_model_from_string(front_and_body()).graph
    assert half_nodes(graph) == {"a", "b", "c"}


def test_inputs_outputs_and_the_weights_of_the_front_end_stay_fp32() -> None:
    model = onnx.load_model_from_string(halve(front_and_body()))
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    kinds = {item.name: item.data_type for item in model.graph.initializer}
    assert kinds["bank"] == kinds["cosines"] == onnx.TensorProto.FLOAT
    assert kinds["first_as_fp16"] == kinds["second_as_fp16"] == HALF
    assert "first" not in kinds


def test_a_quiet_voice_is_heard_as_well_as_a_loud_one() -> None:
    plain, half = front_and_body(), halve(front_and_body())
    speech = np.random.default_rng(2).normal(0, 1, (3, 8000)).astype("f4")
    for level in map(
        np.float32, (0.3, 1e-4)
    ):  # the second one's power is far below the smallest fp16
        a, b = run(plain, level * speech), run(half, level * speech)
        assert np.linalg.norm(a - b) < 3e-3 * np.linalg.norm(a)
        assert np.linalg.norm(a - b) > 0.0  # it is another precision


def test_weights_beyond_the_range_of_fp16_are_refused() -> None:
    with pytest.raises(NotHalvedError, match="second: not finite, or beyond"):
        halve(front_and_body(largest=1e6))


def test_a_graph_with_nothing_to_halve_is_refused() -> None:
    nodes = [helper.make_node("Tanh", ["samples"], ["sums"])]
    with pytest.raises(NotHalvedError, match="no convolution"):
        halve(_model(nodes, [_value("samples", 4)], [_value("sums", 4)]))


def test_the_first_layer_on_a_waveform_stays_fp32() -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["samples", "one"], ["channels"]),
        helper.make_node("Conv", ["channels", "kernel"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "next"], ["c"]),
        helper.make_node("ReduceSum", ["c", "two"], ["sums"], keepdims=0),
    ]
    weights = {"kernel": KERNEL, "next": np.ones((3, 2, 5), np.float32),
               "one": np.array([1]), "two": np.array([2])}  # fmt: skip
    data = _model(nodes, [_value("samples", 900)], [_value("sums", 3)], **weights)
    assert half_nodes(onnx.load_model_from_string(data).graph) == {"c"}


def test_a_bundle_gets_a_graph_that_waits_for_its_calibration(tmp_path: Path) -> None:
    folder = tmp_path / "lava" / "bundle"
    shutil.copytree(find_bundle("lava"), folder)
    assert add_half(folder) == ["hop_fp16"]
    bundle = load_bundle(folder)
    assert bundle.manifest.graphs["hop_fp16"].precision == "fp16"
    assert "fp16" not in bundle.calibrations
    assert "fp32" in bundle.calibrations
    engine, oracle = (open_engine(bundle, load_target(f"cpu-{p}")) for p in ("fp16", "fp32"))
    assert engine.info.precision == "fp16"
    spec = bundle.manifest.graphs["hop_fp16"]
    x = np.random.default_rng(4).normal(0, 0.1, (2, *spec.inputs[0].row)).astype("f4")
    a = engine.run("hop_fp16", {"samples": x})["sums"]
    b = oracle.run("hop_fp32", {"samples": x})["sums"]
    assert 0.0 < np.linalg.norm(a - b) < 2e-3 * np.linalg.norm(b)
    engine.close()
    oracle.close()
