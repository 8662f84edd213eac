"""One float32 ONNX graph to static int8: nodes chosen by what each of them costs the answer.

Quantise-dequantise pairs around convolutions and matrix products, activations in unsigned bytes,
weights in signed bytes per output channel; ONNX Runtime fuses them to its integer kernels. Signed
graphs are for TensorRT, which takes no other: activations in signed bytes around zero (what is
never negative loses a bit by that), weights and biases that stay float in the file.
"""

from __future__ import annotations

import contextlib
import logging
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from tools.progress import track

if TYPE_CHECKING:
    import numpy.typing as npt

    from streamguard.inference.network import Row

    Floats = npt.NDArray[np.float64]
    Outputs = Mapping[str, npt.NDArray[np.float32]]

OPERATORS = ("Conv", "MatMul", "Gemm")
LEAST_DEPTH = 32
"""Products that are added up to one output: below, the integer kernels wait for their bytes."""
LEAST_PRODUCTS = 500_000
"""Of a node and row: below, int8 gains microseconds, and costs the answer as much as a big one."""
MOST_DAMAGE = 0.1
"""Of the chosen nodes together; an integer convolution of a trained network alone does about a
hundredth."""
MOST_ROWS_HURT = 100
"""By which the damage of nodes is measured; the ranges come from all."""
_BATCH = 8
_SIGNED = {"ActivationSymmetric": True, "AddQDQPairToWeight": True, "QuantizeBias": False}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that would be faster in int8."""

    node: str
    operator: str
    products: int
    """Per row."""
    damage: float
    """Of this node alone quantised: RMS change of the graph's outputs by their deviation."""
    chosen: bool


@dataclass(frozen=True, slots=True)
class Quantised:
    """The int8 graph, and how it came about."""

    data: bytes
    candidates: tuple[Candidate, ...]
    damage: float
    """Of all chosen nodes together."""


def quantise(
    graph: bytes,
    rows: Sequence[Row],
    carried: frozenset[str],
    most_damage: float = MOST_DAMAGE,
    *,
    signed: bool = False,
) -> Quantised:
    """The graph in int8, calibrated on rows of its inputs.

    ``carried``: outputs that are state and no answer. Raises ValueError if no node is worth it.
    """
    with tempfile.TemporaryDirectory() as temporary, _quiet():
        work = _Work(Path(temporary), graph, rows, signed=signed)
        sample = rows[:: math.ceil(len(rows) / MOST_ROWS_HURT)]
        sizes = work.sizes()
        if not sizes:
            raise ValueError("no node is large enough to be faster in int8")
        # The first run measures the range of every tensor, the later ones read it.
        work.quantised(list(sizes))
        plain = _outputs(work.prepared.read_bytes(), sample)
        hurt = {
            node: _damage(plain, _outputs(work.quantised([node]), sample), carried)
            for node in track(sizes, "damage by node", len(sizes))
        }
        chosen = worth_it({node: (sizes[node][1], hurt[node]) for node in sizes}, most_damage)
        if not chosen:
            raise ValueError("every node that would be faster in int8 ruins the answer")
        data = work.quantised([node for node in sizes if node in chosen])
        return Quantised(
            data,
            tuple(Candidate(node, *sizes[node], hurt[node], node in chosen) for node in sizes),
            _damage(plain, _outputs(data, sample), carried),
        )


def worth_it(nodes: Mapping[str, tuple[int, float]], most_damage: float) -> frozenset[str]:
    """Of nodes with their products and damage, those that save most for what they do.

    Errors of rounding are independent: their squares add up, to the square of ``most_damage``.
    """
    chosen: set[str] = set()
    left = most_damage**2
    for node, (_, damage) in sorted(nodes.items(), key=lambda n: n[1][1] ** 2 / n[1][0]):
        if damage**2 <= left:
            chosen.add(node)
            left -= damage**2
    return frozenset(chosen)


class _Work:
    """A prepared graph in a temporary folder, its rows, and the ranges of its tensors."""

    def __init__(self, folder: Path, graph: bytes, rows: Sequence[Row], *, signed: bool) -> None:
        self.folder = folder
        self.signed = signed
        self.rows = rows
        self.prepared = folder / "prepared.onnx"
        source = folder / "source.onnx"
        source.write_bytes(graph)
        quant_pre_process(source, self.prepared, skip_symbolic_shape=True)
        self.model = onnx.load(self.prepared)

    def sizes(self) -> dict[str, tuple[str, int]]:
        """Operator and products a row of the nodes that are worth it, in the graph's order."""
        weights = {w.name: tuple(w.dims) for w in self.model.graph.initializer}
        values = (*self.model.graph.value_info, *self.model.graph.output)
        shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
        found = {}
        for node in self.model.graph.node:
            if node.op_type not in OPERATORS or len(node.input) < 2:
                continue
            weight, out = weights.get(node.input[1]), shapes.get(node.output[0])
            if weight is None or not out or (node.op_type == "MatMul" and len(weight) != 2):
                continue  # the integer product takes no stack of matrices
            turned = any(a.name == "transB" and a.i for a in node.attribute)
            depth = math.prod(weight[1:]) if node.op_type == "Conv" or turned else weight[-2]
            products = depth * math.prod(out[1:])
            if depth >= LEAST_DEPTH and products >= LEAST_PRODUCTS:
                found[node.name] = (node.op_type, products)
        return found

    def quantised(self, nodes: list[str]) -> bytes:
        """With these nodes in int8, and the rectifiers behind them, which then cost nothing."""
        made = {
            name for node in self.model.graph.node if node.name in nodes for name in node.output
        }
        behind = [
            node.name
            for node in self.model.graph.node
            if node.op_type == "Relu" and node.input[0] in made
        ]
        target = self.folder / "int8.onnx"
        quantize_static(
            self.prepared,
            target,
            _Reader(self.rows),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8 if self.signed else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=[*nodes, *behind],
            calibration_cache_path=self.folder / "ranges.json",
            extra_options=_SIGNED if self.signed else {},
        )
        model = onnx.load(target)
        del model.metadata_props[:]
        del model.graph.value_info[:]
        data: bytes = model.SerializeToString(deterministic=True)
        return data


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # the base is untyped
    def __init__(self, rows: Sequence[Row]) -> None:
        self._batches = _batches(rows)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


def _outputs(graph: bytes, rows: Sequence[Row]) -> Outputs:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    parts = [session.run(names, batch) for batch in _batches(rows)]
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}


def _batches(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    for at in range(0, len(rows), _BATCH):
        some = rows[at : at + _BATCH]
        yield {name: np.stack([row[name] for row in some]) for name in some[0]}


def _damage(plain: Outputs, other: Outputs, carried: frozenset[str]) -> float:
    """RMS over the columns of all answers: change by deviation over the rows."""
    shares: list[float] = []
    for name in plain.keys() - carried:
        values = plain[name].reshape(len(plain[name]), -1).astype(np.float64)
        changed = other[name].reshape(values.shape) - values
        deviation = values.std(axis=0)
        moves = deviation > 1e-6 * max(1.0, float(np.abs(values).max()))
        shares += (np.square(changed).mean(axis=0)[moves] / deviation[moves] ** 2).tolist()
    return math.sqrt(float(np.mean(shares))) if shares else 0.0


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """onnxruntime's quantiser writes advice to the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
