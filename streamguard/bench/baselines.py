"""What the same work costs elsewhere, timed in the same run: LAVA's two networks on whole windows.

``reference`` is what the LAVA authors run: two separate networks (technology, then generator), each
over the whole 3 s window, in eager PyTorch. ``ort_full_window`` are the same two in ONNX Runtime in
fp32. Weights are random: the cost does not depend on them. Both need torch and a checkout.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from streamguard.bench.timing import StageTimes, measure
from streamguard.clock import HOP_SAMPLES, WINDOW_HOPS
from streamguard.resources import data_root

if TYPE_CHECKING:
    import torch

REFERENCE = "reference"
ORT_FULL_WINDOW = "ort_full_window"
HOW = {
    REFERENCE: "two networks over the whole window, eager PyTorch, one thread",
    ORT_FULL_WINDOW: "the same two networks over the whole window, ONNX Runtime, one thread",
}
CLASSES = (3, 6)
"""Technologies, generators."""
WINDOW_SAMPLES = WINDOW_HOPS * HOP_SAMPLES


@dataclass(frozen=True, slots=True)
class Baseline:
    """One of them as measured, or why it was not."""

    name: str
    times: StageTimes | None
    why_not: str | None = None

    def as_json(self) -> dict[str, Any]:
        if self.times is None:
            return {"why_not_measured": self.why_not}
        how = {"provider": HOW[self.name], "precision": "fp32"}
        stage = self.times.as_json()
        return {
            "requested": how,
            "effective": how,
            "cpu_ms_per_window": stage["cpu_ms"],
            "latency_ms": stage["latency_ms"],
            "stages": {"both_networks": stage},
        }


def measure_baselines(console: Console, seconds: float) -> tuple[Baseline, Baseline]:
    """Both, each for ``seconds``."""
    root = data_root()
    if not (root / "models" / "lava" / "network.py").is_file():
        return _neither("a checkout: models/lava/network.py is not installed")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        import torch

        networks = [_network(classes) for classes in CLASSES]
    except ImportError as err:
        return _neither(f"the extra 'train' ({err})")
    torch.set_num_threads(1)
    window = torch.empty(1, WINDOW_SAMPLES).uniform_(-0.5, 0.5)

    def eager() -> object:
        with torch.inference_mode():
            return [network(window) for network in networks]

    reference = Baseline(REFERENCE, measure(console, "reference (eager PyTorch)", seconds, eager))
    run = _onnx(networks, window.numpy())
    label = "whole windows in ONNX Runtime"
    return reference, Baseline(ORT_FULL_WINDOW, measure(console, label, seconds, run))


def _neither(needs: str) -> tuple[Baseline, Baseline]:
    why_not = f"the baseline needs {needs}"
    return Baseline(REFERENCE, None, why_not), Baseline(ORT_FULL_WINDOW, None, why_not)


def _network(classes: int) -> torch.nn.Module:
    """Encoder, gate and classifier of one head, as the text has them."""
    import torch

    from models.lava.network import LATENT, Classifier, Encoder

    class WholeWindow(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = Encoder()
            self.gate = torch.nn.Conv1d(LATENT, LATENT, 1)
            self.classifier = Classifier(classes)

        def forward(self, samples: torch.Tensor) -> torch.Tensor:
            latent = self.encoder(samples, padded=True)
            gated = latent * torch.sigmoid(self.gate(latent))
            logits: torch.Tensor = self.classifier(gated.mean(dim=2))[1]
            return logits

    return WholeWindow().eval()


def _onnx(
    networks: list[torch.nn.Module], window: np.ndarray[Any, np.dtype[np.float32]]
) -> Callable[[], object]:
    """Sessions with the options of the daemon's own engine."""
    import onnxruntime

    from tools.bundle_writer import GraphSpec, TensorSpec, export_graph

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    sessions = []
    with tempfile.TemporaryDirectory(prefix="streamguard-bench-") as folder:
        for index, network in enumerate(networks):
            file = Path(folder) / f"{index}.onnx"
            spec = GraphSpec(
                name="window_fp32",
                module=network,
                unit="window",
                inputs=(TensorSpec("samples", (WINDOW_SAMPLES,)),),
                outputs=(TensorSpec("logits", (CLASSES[index],)),),
            )
            export_graph(spec, file)
            sessions.append(
                onnxruntime.InferenceSession(
                    file.read_bytes(), options, providers=["CPUExecutionProvider"]
                )
            )
    return lambda: [session.run(None, {"samples": window}) for session in sessions]
