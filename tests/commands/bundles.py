"""An attribution model that gives one answer, for tests of what is said about labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the onnx package (extra 'train')")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402  # only after the check above

from tests.inference.makers import attribution_document, write_bundle  # noqa: E402  # same
from tests.inference.onnx_makers import hop_graph  # noqa: E402  # same


def naming_bundle(folder: Path, technology: float, generator: float) -> Path:
    """Every window is ``tts`` by ``alpha``, as sure of each as its logit says (0: not at all)."""
    nodes = [
        helper.make_node("MatMul", ["sums", "nothing_2"], ["two"]),
        helper.make_node("Add", ["two", "technology"], ["technology_logits"]),
        helper.make_node("MatMul", ["sums", "nothing_3"], ["three"]),
        helper.make_node("Mul", ["count", "zero"], ["none"]),
        helper.make_node("Add", ["three", "none"], ["still_three"]),
        helper.make_node("Add", ["still_three", "generator"], ["generator_logits"]),
    ]
    weights = {
        "nothing_2": np.zeros((2, 2), np.float32),
        "nothing_3": np.zeros((2, 3), np.float32),
        "zero": np.zeros(1, np.float32),
        "technology": np.array([technology, 0], np.float32),
        "generator": np.array([generator, 0, 0], np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "naming",
        [_value("sums", 2), _value("count", 1)],
        [_value("technology_logits", 2), _value("generator_logits", 3)],
        [numpy_helper.from_array(x, name) for name, x in weights.items()],
    )
    head = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    document = attribution_document()
    calibration = document["calibration"]["fp32"]
    calibration["narrow"] = calibration["wide"]
    files = {"hop_fp32.onnx": hop_graph(), "head_fp32.onnx": head.SerializeToString()}
    return write_bundle(folder, document, files)


def _value(name: str, row: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", row])
