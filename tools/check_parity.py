"""Do all forms of a network say the same: torch, ONNX, int8, hop by hop, whole window, each engine?

    python -m tools.check_parity BUNDLE ... [--run RUN] [--json FILE]

compares a bundle's fp32 graphs with themselves in different batches, with the daemon's engines of
every packaged target (one that cannot run here is listed with the reason) and, where a checkpoint
of the run is given (``--run``), with the torch modules behind the graphs (hop by hop, if they are
of that unit) and, where the network's module offers ``full_window(model, samples)``, in one pass.
Prints the largest difference of each output and the share of verdicts that agree; exit code 1 where
a difference of float32 forms exceeds the tolerance. What int8 and fp16 may change is measured on
speech, by ``tools.quantise``; here they only have to give numbers.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import torch

from streamguard.clock import HOP_SAMPLES, WINDOW_HOPS
from streamguard.errors import StreamguardError
from streamguard.inference.bundle import find_bundle, load_bundle
from streamguard.inference.engines import open_engine
from streamguard.inference.network import Network
from streamguard.inference.target import load_target
from streamguard.resources import packaged_targets
from tools.bundle_writer import GraphSpec
from tools.export import load_system, network_module

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    from streamguard.inference.network import Row

    Tensors = dict[str, Floats]
    Run = Callable[[Mapping[str, Floats]], Tensors]

TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class HopSystem:
    """One form of a hop system: run the hop graph, run the head, and what the hop graph needs."""

    hop: Run
    head: Run
    left_context: int
    state: Mapping[str, tuple[str, tuple[int, ...]]]
    """state input -> (state output, shape)."""

    def window(self, samples: Floats) -> Tensors:
        """Head outputs for ``[batch, left_context + hops * 8000]``, hop after hop."""
        hops = (samples.shape[1] - self.left_context) // HOP_SAMPLES
        carried = {
            name: np.zeros((len(samples), *shape), np.float32)
            for name, (_, shape) in self.state.items()
        }
        totals: Tensors = {}
        for hop in range(hops):
            at = hop * HOP_SAMPLES
            piece = samples[:, at : at + self.left_context + HOP_SAMPLES]
            out = self.hop({"samples": piece, **carried})
            carried = {name: out.pop(target) for name, (target, _) in self.state.items()}
            totals = {name: totals[name] + out[name] if totals else out[name] for name in out}
        return self.head(totals)


@dataclass(frozen=True, slots=True)
class WindowSystem:
    """One form of a system whose only graph takes the whole window."""

    graph: Run
    left_context: int = 0

    def window(self, samples: Floats) -> Tensors:
        """Outputs for ``[batch, 48000]``."""
        return self.graph({"samples": samples})


@dataclass(frozen=True, slots=True)
class Parity:
    """How far two forms are apart."""

    difference: Mapping[str, float]
    """Largest absolute difference per output; of ``ood``, which has no scale, relative to it."""
    agreement: float
    """Share of windows for which every logit output names the same class (or sign)."""

    @property
    def worst(self) -> float:
        return max(self.difference.values())


def compare(one: Mapping[str, Floats], other: Mapping[str, Floats]) -> Parity:
    """Outputs of the same windows; raises KeyError if they are named differently."""
    difference = {}
    for name, values in one.items():
        apart = np.abs(values - other[name])
        if name == "ood":
            apart /= np.maximum(1.0, np.abs(values))
        difference[name] = float(apart.max())
    same = np.ones(len(next(iter(one.values()))), np.bool_)
    for name, values in one.items():
        if name.endswith(("logit", "logits")):
            same &= _said(values) == _said(other[name])
    return Parity(difference, float(same.mean()))


def torch_system(specs: Sequence[GraphSpec]) -> HopSystem | WindowSystem:
    """The torch modules behind the graphs."""
    if specs[0].unit == "window":
        return WindowSystem(_torch_run(specs[0]))
    hop = next(spec for spec in specs if spec.unit == "hop")
    head = next(spec for spec in specs if spec.unit == "head")
    return HopSystem(
        hop=_torch_run(hop),
        head=_torch_run(head),
        left_context=hop.left_context,
        state={item.source: (item.target, item.shape) for item in hop.state},
    )


def bundle_system(folder: Path, precision: str = "fp32") -> HopSystem | WindowSystem:
    """The ONNX graphs of a verified bundle. Raises BundleError."""
    bundle = load_bundle(folder)
    choice = bundle.choose(precision)
    if choice.head is None:
        return WindowSystem(_onnx_run(bundle.read_graph(choice.body)))
    hop = bundle.manifest.graphs[choice.body]
    return HopSystem(
        hop=_onnx_run(bundle.read_graph(choice.body)),
        head=_onnx_run(bundle.read_graph(choice.head)),
        left_context=hop.left_context,
        state={item.source: (item.target, item.shape) for item in hop.state},
    )


def noise_windows(windows: int, left_context: int) -> Floats:
    """Noise with a speech-like slope and level, in ``[-1, 1]``: parity needs no speech."""
    rng = np.random.default_rng(0)
    shape = (windows, left_context + WINDOW_HOPS * HOP_SAMPLES)
    signal = np.cumsum(rng.standard_normal(shape), axis=1)
    signal -= np.apply_along_axis(lambda row: np.convolve(row, np.ones(64) / 64, "same"), 1, signal)
    return np.asarray(signal / np.abs(signal).max(axis=1, keepdims=True), np.float32)


def _torch_run(spec: GraphSpec) -> Run:
    def run(inputs: Mapping[str, Floats]) -> Tensors:
        with torch.no_grad():
            out = spec.module(*(torch.from_numpy(inputs[tensor.name]) for tensor in spec.inputs))
        values = out if isinstance(out, tuple) else (out,)
        return {
            tensor.name: value.numpy() for tensor, value in zip(spec.outputs, values, strict=True)
        }

    return run


def _onnx_run(graph: bytes) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Mapping[str, Floats]) -> Tensors:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return run


def _said(logits: Floats) -> npt.NDArray[np.int64]:
    if logits.shape[1] == 1:
        return (logits[:, 0] > 0).astype(np.int64)
    return np.asarray(logits.argmax(axis=1), np.int64)


def engine_outputs(folder: Path, target: str, samples: Floats) -> Tensors:
    """The same windows by the daemon's own engine of a packaged target.

    Raises StreamguardError where it cannot run here.
    """
    bundle = load_bundle(folder)
    network = Network(bundle, open_engine(bundle, load_target(target)))
    try:
        parts: list[list[Row]] = [[] for _ in samples]
        states = [network.fresh_state() for _ in samples]
        for hop in range(WINDOW_HOPS):
            at = hop * HOP_SAMPLES
            piece = samples[:, at : at + network.left_context + HOP_SAMPLES]
            for row, output in enumerate(network.hops(list(piece), states)):
                parts[row].append(output.parts)
                states[row] = output.state
        rows = network.windows(parts)
    finally:
        network.close()
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


@dataclass(frozen=True, slots=True)
class Line:
    """One form of a bundle beside its fp32 ONNX graphs."""

    bundle: str
    form: str
    exact: bool
    """Whether it must agree within the tolerance: lower precisions need not, and are accepted by
    ``tools.quantise`` on speech."""
    parity: Parity | None
    """None where this form cannot run here."""
    missing: str = ""
    """Why not."""

    @property
    def fine(self) -> bool:
        if self.parity is None:
            return True
        if not self.exact:
            return math.isfinite(self.parity.worst)
        return self.parity.worst <= TOLERANCE and self.parity.agreement == 1.0

    def __str__(self) -> str:
        if self.parity is None:
            return f"{self.bundle}: {self.form}: not here: {self.missing}"
        parity = self.parity
        numbers = ", ".join(f"{name} {value:.2g}" for name, value in parity.difference.items())
        verdict = "" if self.fine else "; NOT within the tolerance"
        return (
            f"{self.bundle}: ONNX against {self.form}: {numbers}; "
            f"verdicts agree {parity.agreement:.1%}{verdict}"
        )


def check(folder: Path, run: Path | None, windows: int, targets: Sequence[str]) -> Iterator[Line]:
    """Every form of one bundle against its ONNX graphs in fp32, on the same windows.

    ``run`` holds the checkpoint of the network, whose recipe lies beside the bundle's folder.
    Raises StreamguardError.
    """
    onnx = bundle_system(folder)
    signal = noise_windows(windows, onnx.left_context)
    together = onnx.window(signal)

    def line(form: str, outputs: Mapping[str, Floats], *, exact: bool = True) -> Line:
        # What tools.ood has put onto the head is no output of the network.
        parity = compare({name: together[name] for name in outputs}, outputs)
        return Line(str(folder), form, exact, parity)

    alone = [onnx.window(row[None]) for row in signal]
    yield line(
        "ONNX, batch of one", {n: np.concatenate([out[n] for out in alone]) for n in together}
    )
    if run is not None:
        recipe, model, _ = load_system(folder.parent / "recipe.yaml", run)
        network = network_module(recipe["system"])
        yield line("torch, graph by graph", torch_system(network.graphs(model)).window(signal))
        if hasattr(network, "full_window"):
            # A window graph has no past; the trainer's way begins with one of silence.
            past = np.zeros((windows, network.LEFT_CONTEXT - onnx.left_context), np.float32)
            heard = np.concatenate((past, signal), axis=1)
            with torch.no_grad():
                whole = network.full_window(model, torch.from_numpy(heard))
            yield line("torch, whole window", {n: value.numpy() for n, value in whole.items()})
    for target in targets:
        exact = load_target(target).precision == "fp32"
        try:
            outputs = engine_outputs(folder, target, signal)
        except StreamguardError as err:
            yield Line(str(folder), f"engine {target}", exact, None, str(err))
        else:
            yield line(f"engine {target}", outputs, exact=exact)


def as_json(lines: Sequence[Line]) -> str:
    """All lines as a list of objects; ``fine`` is whether the line passes."""
    return json.dumps([{**asdict(line), "fine": line.fine} for line in lines], indent=2) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Compare forms of a bundle.", prog="python -m tools.check_parity"
    )
    parser.add_argument("bundle", nargs="+", help="folder, or name of a packaged bundle")
    parser.add_argument("--run", type=Path, help="folder of checkpoints of the bundle's network")
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument(
        "--target", action="append", help="engine target, may be repeated (default: all packaged)"
    )
    parser.add_argument("--json", type=Path, help="write every number here")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    targets = options.target or packaged_targets()
    lines: list[Line] = []
    try:
        for bundle in options.bundle:
            for line in check(find_bundle(bundle), options.run, options.windows, targets):
                print(line)
                lines.append(line)
    except StreamguardError as err:
        print(err, file=sys.stderr)
        return 1
    if options.json:
        options.json.write_text(as_json(lines), encoding="utf-8")
    return 0 if all(line.fine for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
