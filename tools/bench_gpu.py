"""How many legs one GPU holds, device stage alone: ``python -m tools.bench_gpu``.

For a machine with a GPU, torch, numpy and onnx, and a copy of this repository, whatever else it
lacks. Runs the graphs of a bundle as the target ``torch-cuda`` does (the same TorchGraph: fp16
where tools.halving puts it, captured per batch size): the hop of every leg twice a second, and the
head with both its classifications on every hop. Inputs are on the device: what it takes to make
them and to bring them there is printed beside the result and not part of it.

In the same call it measures what the device can do at most: the bandwidth of a large copy (bytes
read plus bytes written) and the rate of a large fp16 matrix product on random data. The result is
a share of these, and whichever is nearer says what would have to be better.

It has not run on a GPU yet; its logic runs on the CPU in the tests (``--device cpu``, tiny sizes).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import torch

from streamguard.clock import HOP_SAMPLES, HOP_SECONDS
from streamguard.inference.torch_graph import TorchGraph
from tools.halving import half_nodes, halve

if TYPE_CHECKING:
    from torch import Tensor

GOAL_LEGS = 100_000
"""With both attribution heads on every hop."""
MODELS = Path(__file__).resolve().parents[1] / "models"
BATCHES = (64, 256, 512, 1024, 2048)
COPY_BYTES = 4 << 30
MATRIX = 8192
SETS = 4
"""Inputs to rotate among, so that a cache does not answer for the memory."""
WARM_UP = 5


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What the device did in this call when asked for nothing else."""

    copy_gb_s: float
    matrix_tflop_s: float


@dataclass(frozen=True, slots=True)
class Row:
    """One batch size."""

    batch: int
    milliseconds: float
    """Median of a hop batch and its heads."""
    legs: int
    tflop_s: float
    share_of_matrix_rate: float
    feed_gb_s: float
    """Samples that have to reach the device for so many legs."""


def measure(device: str, run: Callable[[], object], repeats: int) -> float:
    """Median seconds; by the device's own events where it has them."""
    for _ in range(WARM_UP if repeats > 1 else 1):
        run()
    times = []
    for _ in range(repeats):
        if device == "cpu":
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
            continue
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # torch's
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1000)
    return statistics.median(times)


def ceilings(device: str, *, copy_bytes: int, matrix: int, repeats: int) -> Ceilings:
    """Copy bandwidth and fp16 matrix rate, on random data: zeros run faster than work does."""
    copied = _copy_seconds(device, copy_bytes, repeats)
    multiplied = _product_seconds(device, matrix, repeats)
    return Ceilings(2 * copy_bytes / copied / 1e9, 2 * matrix**3 / multiplied / 1e12)


def _copy_seconds(device: str, count: int, repeats: int) -> float:
    source = torch.randint(0, 255, (count,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return measure(device, lambda: target.copy_(source), repeats)


def _product_seconds(device: str, size: int, repeats: int) -> float:
    kind = torch.float32 if device == "cpu" else torch.float16
    a, b = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    return measure(device, lambda: a @ b, repeats)


def operations(graph: bytes, batch: int = 1) -> int:
    """Floating-point operations of the convolutions and products of one run.

    LSTMs count, too; what is done element by element does not.
    """
    model = onnx.load_model_from_string(graph)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes = {item.name: tuple(item.dims) for item in model.graph.initializer} | {
        value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
        for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)
    }
    total = 0
    for node in model.graph.node:
        sizes = [shapes.get(name, ()) for name in node.input]
        out = _product(shapes.get(node.output[0], ())) if node.output[0] else 0
        match node.op_type:
            case "Conv":
                total += 2 * out * _product(sizes[1][1:])
            case "Gemm" | "MatMul":
                total += 2 * out * sizes[0][-1]
            case "LSTM":
                steps, rows, width = sizes[0]
                hidden = next(a.i for a in node.attribute if a.name == "hidden_size")
                total += 2 * steps * rows * 4 * hidden * (width + hidden)
    return total


def _product(sizes: Sequence[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result


class Stage:
    """A hop batch, then the head on as many windows, on the device; captured where it can be."""

    def __init__(self, hop: bytes, head: bytes, batch: int, device: str) -> None:
        self._device = device
        layout = device != "cpu"
        self._hop = TorchGraph(hop, device, channels_last=layout)
        self._head = TorchGraph(head, device)
        self._inputs = [_random_inputs(hop, batch, device, seed) for seed in range(SETS)]
        self._graphs: list[torch.cuda.CUDAGraph] = []
        self._turn = 0
        if device != "cpu":
            self._capture()

    def __call__(self) -> None:
        self._turn = (self._turn + 1) % SETS
        if self._graphs:
            self._graphs[self._turn].replay()
        else:
            self.outputs(self._turn)

    def outputs(self, number: int) -> dict[str, Tensor]:
        """Of the head, for one of the input sets. A window's six sums are as many as a hop's."""
        out = self._hop(self._inputs[number])
        return self._head({name: out[name] for name in self._head.inputs})

    def _capture(self) -> None:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's
        with torch.cuda.stream(stream):
            self.outputs(0)
        stream.synchronize()
        for number in range(SETS):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream):
                self.outputs(number)
            self._graphs.append(graph)


def _random_inputs(graph: bytes, batch: int, device: str, seed: int) -> Mapping[str, Tensor]:
    generator = torch.Generator(device).manual_seed(seed)
    model = onnx.load_model_from_string(graph)
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim][1:]
        for value in model.graph.input
    }
    return {
        name: 0.1 * torch.randn(batch, *shape, device=device, generator=generator)
        for name, shape in shapes.items()
    }


def bench(
    hop: bytes, head: bytes, device: str, batches: Sequence[int], repeats: int, top: Ceilings
) -> list[Row]:
    """One row per batch size."""
    work = operations(hop) + operations(head)
    samples = next(iter(_random_inputs(hop, 1, "cpu", 0).values())).shape[1]
    rows = []
    for batch in batches:
        seconds = measure(device, Stage(hop, head, batch, device), repeats)
        hops_s = batch / seconds
        rate = hops_s * work / 1e12
        legs = int(hops_s * HOP_SECONDS)
        rows.append(
            Row(
                batch=batch,
                milliseconds=1000 * seconds,
                legs=legs,
                tflop_s=rate,
                share_of_matrix_rate=rate / top.matrix_tflop_s,
                feed_gb_s=legs / HOP_SECONDS * samples * 4 / 1e9,
            )
        )
    return rows


def _load(bundle: str, precision: str) -> tuple[bytes, bytes, str]:
    """Hop and head of a bundle in a checkout, and what was done to the hop."""
    folder = MODELS / bundle / "bundle"
    head = (folder / "head_fp32.onnx").read_bytes()
    hop = (folder / "hop_fp32.onnx").read_bytes()
    if precision == "fp32":
        return hop, head, "fp32"
    chosen = half_nodes(onnx.load_model_from_string(hop).graph)
    return halve(hop), head, f"fp16 in {len(chosen)} nodes, fp32 in the front end and the head"


def _print(
    bundle: str, how: str, device: str, work: int, top: Ceilings, rows: Sequence[Row]
) -> None:
    name = "the CPU" if device == "cpu" else torch.cuda.get_device_name(device)
    print(f"{bundle} ({how}) on {name}, torch {torch.__version__}: {work / 1e6:.0f} MFLOP per hop")
    print(
        f"ceilings: copy {top.copy_gb_s:.0f} GB/s, matrix product {top.matrix_tflop_s:.1f} TFLOP/s"
    )
    print("batch       ms     legs  TFLOP/s  of the matrix rate   to feed it")
    for row in rows:
        print(
            f"{row.batch:5d} {row.milliseconds:8.3f} {row.legs:8d} {row.tflop_s:8.2f}"
            f" {row.share_of_matrix_rate:19.1%} {row.feed_gb_s:7.2f} GB/s"
        )
    best = max(rows, key=lambda row: row.legs)
    needed = GOAL_LEGS / HOP_SECONDS * work / 1e12
    print(
        f"best: {best.legs} legs, {best.legs / GOAL_LEGS:.2f} of the goal of {GOAL_LEGS}, which "
        f"is {needed:.0f} TFLOP/s or {needed / top.matrix_tflop_s:.0%} of the matrix rate"
    )
    print(
        f"to feed {best.legs} legs: {best.legs * 50} packets/s of 20 ms, decoded, resampled and "
        f"levelled by the host, and {best.feed_gb_s:.2f} GB/s of float32 samples to the device "
        f"(half with the left context kept there, a quarter as int16)"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Legs per GPU, device stage alone.", prog="python -m tools.bench_gpu"
    )
    parser.add_argument("--bundle", default="lava", help="a folder of models/ with a hop graph")
    parser.add_argument("--precision", choices=["fp16", "fp32"], default="fp16")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu")
    parser.add_argument("--batch", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--copy-bytes", type=int, default=COPY_BYTES)
    parser.add_argument("--matrix", type=int, default=MATRIX)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    options = parser.parse_args(arguments)
    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device (--device cpu runs the logic, not the claim)")
    hop, head, how = _load(options.bundle, options.precision)
    # fp32 means fp32: the front end takes logarithms of what tf32 would have rounded.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    top = ceilings(
        options.device,
        copy_bytes=options.copy_bytes,
        matrix=options.matrix,
        repeats=options.repeats,
    )
    rows = bench(hop, head, options.device, options.batch, options.repeats, top)
    work = operations(hop) + operations(head)
    _print(options.bundle, how, options.device, work, top, rows)
    if options.json:
        report: dict[str, Any] = {
            "bundle": options.bundle,
            "precision": how,
            "device": options.device,
            "torch": str(torch.__version__),
            "hop_samples": HOP_SAMPLES,
            "flop_per_hop": work,
            "ceilings": asdict(top),
            "rows": [asdict(row) for row in rows],
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
