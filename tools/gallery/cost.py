"""What a hop costs: processor time of the daemon's own calls, beside a baseline of the same run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamguard.clock import HOP_SAMPLES, WINDOW_HOPS
from streamguard.inference.bundle import load_bundle
from streamguard.inference.network import Network
from streamguard.inference.ort import OrtEngine
from streamguard.inference.target import load_target
from tools.data import Clip
from tools.export import network_module
from tools.gallery.scores import TARGET
from tools.labels import Labels
from tools.training import load_recipe

_ROUNDS = 25
_HOPS = 6


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one leg, hop after hop: both graphs, a window at every hop, one thread."""

    cpu_ms_per_hop: float
    baseline_ms_per_hop: float

    @property
    def ratio(self) -> float:
        """Cost in baselines."""
        return self.cpu_ms_per_hop / self.baseline_ms_per_hop


def measure_cost(bundle: Path, baseline: Path) -> Cost:
    """The least of some rounds; both bundles take turns, so that a busy machine is fair."""
    networks = [
        Network(loaded, OrtEngine(loaded, load_target(TARGET)))
        for loaded in (load_bundle(bundle), load_bundle(baseline))
    ]
    least = [float("inf")] * 2
    try:
        for turn in range(_ROUNDS + 1):
            for i, network in enumerate(networks):
                spent_ms = _round(network)
                if turn:  # the first one warms up
                    least[i] = min(least[i], spent_ms)
    finally:
        for network in networks:
            network.close()
    return Cost(*least)


def _round(network: Network) -> float:
    """Processor milliseconds per hop of a leg of noise."""
    rng = np.random.default_rng(0)
    audio = (0.1 * rng.standard_normal(network.left_context + HOP_SAMPLES)).astype(np.float32)
    state = network.fresh_state()
    parts: list[dict[str, Any]] = []
    for _ in range(WINDOW_HOPS - 1):
        (output,) = network.hops([audio], [state])
        state = output.state
        parts.append(output.parts)
    began = time.process_time()
    for _ in range(_HOPS):
        (output,) = network.hops([audio], [state])
        state = output.state
        parts = [*parts[-(WINDOW_HOPS - 1) :], output.parts]
        network.windows([parts])
    return 1000.0 * (time.process_time() - began) / _HOPS


def parameters(
    recipe_file: Path, train: Sequence[Clip], changes: Mapping[str, Any] | None = None
) -> int:
    """Trainable numbers of a recipe's network, heads that only train among them."""
    recipe = load_recipe(recipe_file, changes)
    model = network_module(recipe["system"]).build(recipe, Labels.of(train, recipe).plain())
    return sum(weight.numel() for weight in model.parameters())
