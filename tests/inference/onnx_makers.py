"""Tiny ONNX graphs made by hand: a convolution over samples, summed; a linear head."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the onnx package (extra 'train')")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402  # only after the check above

from streamguard.clock import HOP_SAMPLES  # noqa: E402  # same
from tests.inference.makers import CONTEXT  # noqa: E402  # same

KERNEL = np.random.default_rng(5).normal(0, 0.3, (2, 1, CONTEXT + 1)).astype(np.float32)
HEAD = np.array([[1.5], [-2.0]], np.float32)


def _value(name: str, *row: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *row])


def _model(nodes: list[Any], inputs: list[Any], outputs: list[Any], **weights: Any) -> bytes:
    stored = [numpy_helper.from_array(np.asarray(x), name) for name, x in weights.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _frames(length: int) -> list[Any]:
    """samples ``[batch, CONTEXT + length]`` to frames ``[batch, 2, length]``."""
    return [
        helper.make_node("Unsqueeze", ["samples", "one"], ["channels"]),
        helper.make_node("Conv", ["channels", "kernel"], ["filtered"]),
        helper.make_node("Tanh", ["filtered"], ["frames"]),
    ]


def hop_graph(*, state: bool = False) -> bytes:
    nodes = _frames(HOP_SAMPLES)
    nodes += [
        helper.make_node("ReduceSum", ["frames", "two"], ["plain"], keepdims=0),
        helper.make_node("ReduceSum", ["samples", "one"], ["level"], keepdims=1),
        helper.make_node("Mul", ["level", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "hop"], ["count"]),
    ]
    inputs = [_value("samples", CONTEXT + HOP_SAMPLES)]
    outputs = [_value("sums", 2), _value("count", 1)]
    if state:
        nodes += [
            helper.make_node("Add", ["plain", "state_in"], ["sums"]),
            helper.make_node("Add", ["state_in", "hundred"], ["state_out"]),
        ]
        inputs.append(_value("state_in", 1))
        outputs.append(_value("state_out", 1))
    else:
        nodes.append(helper.make_node("Identity", ["plain"], ["sums"]))
    weights: dict[str, Any] = {
        "kernel": KERNEL,
        "one": np.array([1]),
        "two": np.array([2]),
        "zero": np.float32(0),
        "hop": np.float32(HOP_SAMPLES),
    }
    if state:
        weights["hundred"] = np.float32(100)
    return _model(nodes, inputs, outputs, **weights)


def head_graph() -> bytes:
    nodes = [
        helper.make_node("Div", ["sums", "count"], ["mean"]),
        helper.make_node("MatMul", ["mean", "head"], ["logit"]),
    ]
    return _model(nodes, [_value("sums", 2), _value("count", 1)], [_value("logit", 1)], head=HEAD)


def window_graph(context: int = 0) -> bytes:
    """The same network over a whole window, behind ``context`` samples (or zeros)."""
    length = 6 * HOP_SAMPLES
    nodes = _frames(length)
    if not context:
        nodes[1] = helper.make_node("Conv", ["channels", "kernel"], ["filtered"], pads=[CONTEXT, 0])
    nodes += [
        helper.make_node("ReduceMean", ["frames", "two"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "head"], ["logit"]),
    ]
    weights = {"kernel": KERNEL, "one": np.array([1]), "two": np.array([2]), "head": HEAD}
    return _model(nodes, [_value("samples", context + length)], [_value("logit", 1)], **weights)


def external_graph() -> bytes:
    """A head whose weights lie in another file."""
    model = onnx.load_model_from_string(head_graph())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    data: bytes = model.SerializeToString()
    return data
