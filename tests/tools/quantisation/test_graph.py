"""Which nodes become int8, and what that does to the answer; on a small graph of our own."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tools.quantisation import graph as quantisation
from tools.quantisation.graph import quantise, worth_it

if TYPE_CHECKING:
    from streamguard.inference.network import Row

pytestmark = [pytest.mark.train, pytest.mark.timeout(60)]
BINS, FRAMES, BANDS, WIDTH = 256, 50, 40, 64


def _value(name: str, *row: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *row])


@pytest.fixture(scope="module")
def small() -> bytes:
    """Powers of a huge range, a filterbank, a logarithm, a convolution, a small product."""
    rng = np.random.default_rng(0)
    weights = {
        "frames": np.array([-1, FRAMES, BINS]),
        "bank": rng.random((BINS, BANDS)).astype(np.float32),
        "floor": np.float32(1e-7),
        "kernel": (rng.standard_normal((WIDTH, BANDS, 5)) / 10).astype(np.float32),
        "last": np.array([2]),
        "mix": rng.standard_normal((WIDTH, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Reshape", ["samples", "frames"], ["unfolded"], "unfold"),
        helper.make_node("Mul", ["unfolded", "unfolded"], ["power"], "square"),
        helper.make_node("MatMul", ["power", "bank"], ["energies"], "filter"),
        helper.make_node("Add", ["energies", "floor"], ["floored"], "add"),
        helper.make_node("Log", ["floored"], ["bands"], "log"),
        helper.make_node("Transpose", ["bands"], ["maps"], "turn", perm=[0, 2, 1]),
        helper.make_node("Conv", ["maps", "kernel"], ["convolved"], "convolve", pads=[2, 2]),
        helper.make_node("Relu", ["convolved"], ["rectified"], "rectify"),
        helper.make_node("ReduceSum", ["rectified", "last"], ["total"], "sum", keepdims=0),
        helper.make_node("MatMul", ["total", "mix"], ["sums"], "mix_up"),
        helper.make_node("Identity", ["total"], ["state_out"], "carry"),
    ]
    stored = [numpy_helper.from_array(np.asarray(x), name) for name, x in weights.items()]
    outputs = [_value("sums", 4), _value("state_out", WIDTH)]
    graph = helper.make_graph(nodes, "small", [_value("samples", BINS * FRAMES)], outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def rows(count: int) -> list[Row]:
    """Levels spread over 80 dB, as speech and its pauses."""
    rng = np.random.default_rng(1)
    level = 10.0 ** rng.uniform(-4, 0, (count, FRAMES, 1))
    noise = rng.standard_normal((count, FRAMES, BINS)) * level
    return [{"samples": row.reshape(-1).astype(np.float32)} for row in noise]


def test_a_deep_convolution_becomes_int8_and_what_reads_powers_stays_float(
    small: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    made = quantise(small, rows(40), frozenset({"state_out"}))
    filtering, convolution = made.candidates
    assert (filtering.node, convolution.node) == ("filter", "convolve")
    assert not filtering.chosen
    assert convolution.chosen
    assert convolution.products == WIDTH * FRAMES * BANDS * 5
    assert 0 < made.damage < quantisation.MOST_DAMAGE < filtering.damage
    assert not caplog.records
    model = onnx.load_from_string(made.data)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    assert stored["kernel_quantized"].data_type == TensorProto.INT8
    assert list(stored["kernel_scale"].dims) == [WIDTH], "a scale per output channel"
    assert {"bank", "mix"} <= stored.keys(), "as they were, in float32"
    assert "Relu" not in Counter(node.op_type for node in model.graph.node), "the bytes end at 0"


def test_a_signed_graph_is_symmetric_throughout_as_tensorrt_wants_it(small: bytes) -> None:
    made = quantise(small, rows(40), frozenset({"state_out"}), signed=True)
    assert [one.node for one in made.candidates if one.chosen] == ["convolve"]
    assert 0 < made.damage < quantisation.MOST_DAMAGE
    model = onnx.load_from_string(made.data)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    pairs = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert {node.op_type for node in pairs} == {"QuantizeLinear", "DequantizeLinear"}
    for node in pairs:
        zero = stored[node.input[2]]
        assert zero.data_type == TensorProto.INT8
        assert not numpy_helper.to_array(zero).any()
    assert stored["kernel"].data_type == TensorProto.FLOAT, "its bytes come from a pair, too"


def test_the_same_rows_give_the_same_bytes(small: bytes) -> None:
    one, two = (quantise(small, rows(16), frozenset({"state_out"})) for _ in range(2))
    assert one.data == two.data


def test_a_graph_whose_nodes_are_all_small_is_refused(
    small: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantisation, "LEAST_PRODUCTS", 10**9)
    with pytest.raises(ValueError, match="no node is large enough"):
        quantise(small, rows(8), frozenset())


def test_a_graph_that_int8_would_ruin_is_refused(small: bytes) -> None:
    with pytest.raises(ValueError, match="ruins the answer"):
        quantise(small, rows(8), frozenset({"state_out"}), most_damage=0.0)


def test_nodes_are_chosen_by_what_they_save_for_their_share_of_the_damage() -> None:
    nodes = {"large": (1000, 0.03), "poor": (10, 0.03), "good": (500, 0.01), "ruin": (9999, 2.0)}
    assert worth_it(nodes, 0.1) == {"large", "poor", "good"}
    assert worth_it(nodes, 0.035) == {"large", "good"}
    assert worth_it(nodes, 0.02) == {"good"}
    assert worth_it(nodes, 0.001) == frozenset()
