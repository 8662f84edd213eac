"""Do all forms of a network say the same: torch, ONNX, hop by hop, whole window?

    python -m tools.check_parity [BUNDLE ...]

compares a bundle's graphs with themselves in different batches, and, where a checkpoint of the run
is given (``--run``), with the torch network, hop by hop and, where its module offers
``full_window(model, samples)``, in one pass. Prints the largest difference of each output and
whether all verdicts agree; exit code 1 where a difference exceeds the tolerance.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import torch

from streamguard.clock import HOP_SAMPLES, WINDOW_HOPS
from streamguard.errors import StreamguardError
from streamguard.inference.bundle import find_bundle, load_bundle
from tools.bundle_writer import GraphSpec
from tools.export import load_system, network_module

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
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
class Parity:
    """How far two forms are apart."""

    difference: Mapping[str, float]
    """Largest absolute difference per output."""
    agreement: float
    """Share of windows for which every logit output names the same class (or sign)."""

    @property
    def worst(self) -> float:
        return max(self.difference.values())


def compare(one: Mapping[str, Floats], other: Mapping[str, Floats]) -> Parity:
    """Outputs of the same windows; raises KeyError if they are named differently."""
    difference = {name: float(np.abs(one[name] - other[name]).max()) for name in one}
    same = np.ones(len(next(iter(one.values()))), np.bool_)
    for name, values in one.items():
        if name.endswith(("logit", "logits")):
            same &= _said(values) == _said(other[name])
    return Parity(difference, float(same.mean()))


def torch_system(specs: Sequence[GraphSpec]) -> HopSystem:
    """The torch modules behind the graphs."""
    hop = next(spec for spec in specs if spec.unit == "hop")
    head = next(spec for spec in specs if spec.unit == "head")
    return HopSystem(
        hop=_torch_run(hop),
        head=_torch_run(head),
        left_context=hop.left_context,
        state={item.source: (item.target, item.shape) for item in hop.state},
    )


def bundle_system(folder: Path, precision: str = "fp32") -> HopSystem:
    """The ONNX graphs of a verified bundle. Raises BundleError."""
    bundle = load_bundle(folder)
    choice = bundle.choose(precision)
    if choice.head is None:
        raise ValueError(f"{folder}: a window graph has no hop form")
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


def check(folder: Path, run: Path | None, windows: int) -> bool:
    """Print the comparisons of one bundle; whether all are within the tolerance.

    ``run`` holds the checkpoint of the network, whose recipe lies beside the bundle's folder.
    """
    onnx = bundle_system(folder)
    signal = noise_windows(windows, onnx.left_context)
    together = onnx.window(signal)
    alone = [onnx.window(row[None]) for row in signal]
    forms = {"ONNX, batch of one": {n: np.concatenate([out[n] for out in alone]) for n in together}}
    if run is not None:
        recipe, model, _ = load_system(folder.parent / "recipe.yaml", run)
        network = network_module(recipe["system"])
        forms["torch, hop by hop"] = torch_system(network.graphs(model)).window(signal)
        if hasattr(network, "full_window"):
            with torch.no_grad():
                whole = network.full_window(model, torch.from_numpy(signal))
            forms["torch, whole window"] = {name: value.numpy() for name, value in whole.items()}
    fine = True
    for form, outputs in forms.items():
        # What tools.ood has put onto the head is no output of the network.
        parity = compare({name: together[name] for name in outputs}, outputs)
        fine &= parity.worst <= TOLERANCE and parity.agreement == 1.0
        numbers = ", ".join(f"{name} {value:.2g}" for name, value in parity.difference.items())
        print(f"{folder}: ONNX against {form}: {numbers}; verdicts agree {parity.agreement:.1%}")
    return fine


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Compare forms of a bundle.", prog="python -m tools.check_parity"
    )
    parser.add_argument("bundle", nargs="+", help="folder, or name of a packaged bundle")
    parser.add_argument("--run", type=Path, help="folder of checkpoints of the bundle's network")
    parser.add_argument("--windows", type=int, default=8)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        results = [
            check(find_bundle(bundle), options.run, options.windows) for bundle in options.bundle
        ]
    except StreamguardError as err:
        print(err, file=sys.stderr)
        return 1
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
