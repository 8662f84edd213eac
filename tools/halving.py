"""An fp32 ONNX graph in mixed precision: which nodes may be fp16, and the casts around them.

The types are in the graph, node by node, so that onnxruntime, TensorRT (strongly typed) and torch
mean the same by fp16. Half precision goes where the arithmetic is: convolutions, products and LSTMs
behind the front end, and what stands between two of them. The front end stays fp32 (a spectrum
spans more than fp16's five decades, and its logarithm would keep three digits), and so do the sums
that a window adds up, the state, inputs and outputs.

Needs onnx and numpy only: tools.bench_gpu runs where there is little else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from streamguard.errors import StreamguardError

HEAVY = frozenset({"Conv", "Gemm", "LSTM", "MatMul"})
"""Matrix units run these in fp16, and add up in fp32."""
BETWEEN = frozenset({"Add", "Concat", "MaxPool", "Mul", "Relu", "Reshape", "Sigmoid", "Slice",
                     "Split", "Transpose", "Unsqueeze"})  # fmt: skip
"""Safe in fp16 behind a heavy node; anything else is cheap, or needs range or digits."""
LARGEST = 65504.0


class NotHalvedError(StreamguardError):
    """The graph cannot be had in fp16 without a change of its answers."""


def halve(data: bytes) -> bytes:
    """An fp32 model with fp16 where :func:`half_nodes` says. Raises NotHalvedError."""
    model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(data), strict_mode=True)
    graph = model.graph
    chosen = half_nodes(graph)
    if not chosen:
        raise NotHalvedError("no convolution, product or LSTM behind its front end")
    writer = _Writer(graph)
    nodes = [
        node for old in graph.node for node in writer.rewrite(old, half=old.output[0] in chosen)
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(writer.constants.values())
    _drop_unused(graph)
    # The types of values between nodes have changed: whoever loads the model infers them again.
    del graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    halved: bytes = model.SerializeToString(deterministic=True)
    return halved


def half_nodes(graph: onnx.GraphProto) -> set[str]:
    """Each node that may run in fp16, by its first output.

    Behind the front end means: a Log before it if the graph has one, and no Log after it. The first
    heavy node of a graph without a Log reads the waveform and stays fp32 too: it is a small part of
    the work, and a quiet voice has no digits to lose.
    """
    producer = {name: node for node in graph.node for name in node.output}
    to_log = _ancestors(producer, [n for n in graph.node if n.op_type == "Log"])
    first = next((n.output[0] for n in graph.node if n.op_type in HEAVY), None)
    behind_front: set[str] = set()
    behind_heavy: set[str] = set()
    chosen: set[str] = set()
    for node in graph.node:
        inputs = set(node.input)
        passes_front = node.op_type == "Log" or (not to_log and node.output[0] == first)
        if passes_front or inputs & behind_front:
            behind_front.update(node.output)
        if node.output[0] in to_log or passes_front or not inputs & behind_front:
            continue
        weighty = node.op_type in ("Conv", "LSTM") or (
            node.op_type in HEAVY and bool(inputs & behind_heavy)
        )
        if weighty or inputs & behind_heavy:
            # A product straight behind the logarithm is the front end's cosine transform.
            behind_heavy.update(node.output)
        if weighty or (node.op_type in BETWEEN and inputs & behind_heavy):
            chosen.add(node.output[0])
    return _without_islands(graph, producer, chosen) if chosen else chosen


def _without_islands(
    graph: onnx.GraphProto, producer: dict[str, onnx.NodeProto], chosen: set[str]
) -> set[str]:
    """Light nodes that no fp16 node feeds would only add casts."""
    for node in graph.node:
        if node.output[0] in chosen and node.op_type not in HEAVY:
            feeders = [producer[name] for name in node.input if name in producer]
            if not any(feeder.output[0] in chosen for feeder in feeders):
                chosen.discard(node.output[0])
    return chosen


def _ancestors(producer: dict[str, onnx.NodeProto], nodes: Sequence[onnx.NodeProto]) -> set[str]:
    found: set[str] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node.output[0] not in found:
            found.add(node.output[0])
            stack += [producer[name] for name in node.input if name in producer]
    return found


class _Writer:
    """Rewrites nodes in order, with a cast wherever a value is wanted in its other type."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._weights = {item.name: item for item in graph.initializer}
        self._floats = {
            value.name
            for value in (*graph.value_info, *graph.input, *graph.output)
            if value.type.tensor_type.elem_type == TensorProto.FLOAT
        } | {n for n, item in self._weights.items() if item.data_type == TensorProto.FLOAT}
        self._outputs = {value.name for value in graph.output}
        self._half: set[str] = set()
        self._done: set[str] = set()
        self.constants: dict[str, onnx.TensorProto] = {}

    def rewrite(self, node: onnx.NodeProto, *, half: bool) -> Iterator[onnx.NodeProto]:
        """The node behind the casts of its inputs."""
        casts: list[onnx.NodeProto] = []
        for i, name in enumerate(node.input):
            if name and name in self._floats and half != (name in self._half):
                node.input[i] = self._other(name, half, casts)
        yield from casts
        yield node
        if not half:
            return
        for i, name in enumerate(node.output):
            if name in self._outputs:  # the caller is promised float32
                node.output[i] = f"{name}_as_fp16"
                yield _cast(node.output[i], name, TensorProto.FLOAT)
            elif name in self._floats:
                self._half.add(name)

    def _other(self, name: str, half: bool, casts: list[onnx.NodeProto]) -> str:
        """The name of the same value in the other type."""
        other = f"{name}_as_fp16" if half else f"{name}_as_fp32"
        if name in self._weights:
            self.constants.setdefault(other, self._weight(name, other))
        elif other not in self._done:
            to = TensorProto.FLOAT16 if half else TensorProto.FLOAT
            casts.append(_cast(name, other, to))
        self._done.add(other)
        return other

    def _weight(self, name: str, other: str) -> onnx.TensorProto:
        values = numpy_helper.to_array(self._weights[name])
        if not np.isfinite(values).all() or np.abs(values).max(initial=0.0) > LARGEST:
            raise NotHalvedError(f"{name}: not finite, or beyond fp16's {LARGEST:g}")
        return numpy_helper.from_array(values.astype(np.float16), other)


def _cast(name: str, other: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [other], f"cast_{name}_{other}", to=to)


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [item for item in graph.initializer if item.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
