"""One engine target: its stages, its memory, and the legs that it holds."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from streamguard.bench.engine_capacity import EngineCapacity, LoadQuestion, engine_capacity
from streamguard.bench.load import FRONT_END_DELAY_MS
from streamguard.bench.options import BenchOptions
from streamguard.bench.stages import (
    ATTRIBUTION_ENCODER,
    ATTRIBUTION_HEADS,
    ENCODER,
    GATE,
    HEADS,
    MEANING,
    VERDICT,
    GateLoop,
    head_of,
    hop_of,
    measure_stages,
)
from streamguard.bench.timing import StageTimes, measure
from streamguard.clock import HOP_SECONDS, WINDOW_HOPS
from streamguard.demo.report import exact_quantiles
from streamguard.inference.auto import target_for
from streamguard.inference.network import Network
from streamguard.inference.pair import PairNames, open_models
from streamguard.status import rss_mb

SAME_NETWORKS = "lava"
"""The bundle whose two networks are those of the baselines: its ratio is hops against windows."""
SAME_ENCODER = "same_networks_features_encoder"
SAME_HEADS = "same_networks_heads"
BATCH_WAIT = "batch_wait"
_MEMORY_LEGS = 100
_FIRST_LOAD = 0.7
"""Where a search begins: the share of a core that the stages alone would take."""
_SAME_SHARE = 0.25
"""Of the measuring time, for the same networks as the baselines."""


@dataclass(frozen=True, slots=True)
class TargetResult:
    """All that was measured of one target."""

    name: str
    facts: dict[str, Any]
    stages: Mapping[str, StageTimes]
    one_core: EngineCapacity | None
    all_cores: EngineCapacity | None

    @property
    def ways_s(self) -> dict[str, float]:
        """CPU seconds per window, by how much runs on it; ``cascade`` needs a share."""
        detection = self._cpu_s(GATE, ENCODER, HEADS)
        return {
            "detection": detection,
            "attribution": self._cpu_s(SAME_ENCODER, SAME_HEADS),
            "default_pair": detection + self._cpu_s(ATTRIBUTION_ENCODER, ATTRIBUTION_HEADS),
        }

    def cascade_s(self, share: float) -> float:
        """Detection on every window, attribution on ``share`` of them."""
        ways = self.ways_s
        return ways["detection"] + share * (ways["default_pair"] - ways["detection"])

    def _cpu_s(self, *names: str) -> float:
        return sum(self.stages[name].cpu_s for name in names if name in self.stages)

    def as_json(self, share: float) -> dict[str, Any]:
        ways = {**self.ways_s, "cascade": self.cascade_s(share)}
        pair = [s for name, s in self.stages.items() if name in _PER_WINDOW]
        count = min(len(stage.wall_s) for stage in pair)
        quantiles = exact_quantiles([sum(stage.wall_s[i] for stage in pair) for i in range(count)])
        stages = {
            name: {**stage.as_json(), "what": MEANING.get(name, _SAME_MEANING.get(name))}
            for name, stage in self.stages.items()
        }
        loaded = self.one_core.best if self.one_core else None
        if loaded is not None:
            stages[BATCH_WAIT] = {
                "cpu_ms": 0.0,
                "latency_ms": loaded.batch_wait_ms,
                "what": f"with {loaded.legs} legs on one core: for the thread, a batch, the loop",
            }
        return {
            **self.facts,
            # Of a window on which everything runs; the ways of running less are beside it.
            "cpu_ms_per_window": round(1000 * ways["default_pair"], 4),
            "ways_cpu_ms": {way: round(1000 * s, 4) for way, s in ways.items()},
            "latency_ms": quantiles.as_ms() if quantiles else None,
            "realtime_factor": round(ways["cascade"] / HOP_SECONDS, 5),
            "stages": stages,
            "under_load": {
                name: found.as_json() if found else None
                for name, found in (("one_core", self.one_core), ("all_cores", self.all_cores))
            },
        }


_PER_WINDOW = (GATE, ENCODER, HEADS, ATTRIBUTION_ENCODER, ATTRIBUTION_HEADS, VERDICT)
_SAME_MEANING = {
    SAME_ENCODER: "both networks of the baselines as one hop graph",
    SAME_HEADS: "their heads on the sums of six hops",
}


def measure_target(console: Console, options: BenchOptions, engine: str) -> TargetResult:
    """Raises BundleError, EngineError."""
    begin = time.perf_counter()
    models = open_models(options.pair(engine))
    models.warm_up()
    cold_start_s = time.perf_counter() - begin
    try:
        stages = measure_stages(console, models, (1 - _SAME_SHARE) * options.seconds)
        facts = _facts(engine, models.detector, models.attribution)
    finally:
        models.close()
    stages |= _same_networks(console, engine, _SAME_SHARE * options.seconds)
    result = TargetResult(engine, facts, stages, None, None)
    one_core = all_cores = None
    if options.capacity:
        busy = _FIRST_LOAD * HOP_SECONDS / result.cascade_s(options.attributed_share)
        question = LoadQuestion(
            options.pair(engine),
            options.attributed_share,
            options.latency_budget_ms,
            options.trial_s,
            options.search_s,
            first_legs=round(busy),
        )
        one_core = engine_capacity(console, question, one_core=True)
        beyond = dataclasses.replace(question, first_legs=max(1, one_core.legs))
        all_cores = engine_capacity(console, beyond, one_core=False)
    of_load = one_core.mb_per_leg if one_core else None
    facts |= {
        "cold_start_s": round(cold_start_s, 3),
        "mb_per_leg": round(of_load if of_load is not None else _mb_per_front_end(), 3),
        "mb_per_leg_of": "the daemon under load" if of_load is not None else "a front end alone",
    }
    return TargetResult(engine, facts, stages, one_core, all_cores)


def _facts(engine: str, detector: Network, attribution: Network | None) -> dict[str, Any]:
    """Who ran, where: asked and got."""
    info = detector.engine.info
    networks = {"detector": detector, "attribution": attribution}
    return {
        "requested": {
            "provider": info.requested_provider,
            "precision": info.requested_precision,
        },
        "effective": {"provider": info.provider, "precision": info.precision},
        "runtime": info.runtime_version,
        "bundles": {
            name: {
                "name": network.bundle.name,
                "sha256": network.bundle.sha256,
                "precision": network.precision,
            }
            for name, network in networks.items()
            if network is not None
        },
        "threads": target_for(engine, detector.bundle).threads,
        "process_threads": threading.active_count(),
        "hop_phases": "random, one per leg",
        "front_end_delay_ms": round(FRONT_END_DELAY_MS, 2),
    }


def _same_networks(console: Console, engine: str, seconds: float) -> dict[str, StageTimes]:
    """Those of the baselines, by hops, on the target."""
    same = open_models(PairNames(SAME_NETWORKS, None, engine))
    same.warm_up()
    try:
        return {
            SAME_ENCODER: measure(console, SAME_ENCODER, 0.8 * seconds, hop_of(same.detector)),
            SAME_HEADS: measure(console, SAME_HEADS, 0.2 * seconds, head_of(same.detector)),
        }
    finally:
        same.close()


def _mb_per_front_end() -> float:
    """Resident memory that a leg's front end and ring take after a window of audio."""
    before = rss_mb()
    legs = [GateLoop(f"leg{i}", 240) for i in range(_MEMORY_LEGS)]
    for leg in legs:
        for _ in range(WINDOW_HOPS + 2):
            leg()
    return max(0.0, rss_mb() - before) / _MEMORY_LEGS
