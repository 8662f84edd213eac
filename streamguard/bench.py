"""``streamguard bench``: CPU time and latency per window and stage, against a baseline in the run.

The code measured is the code of the daemon: front end, networks and heads as the scorer calls them.
The baseline ``reference`` is what the LAVA authors run: two separate networks (technology, then
generator), each over the whole 3 s window, in eager PyTorch. It needs torch and a checkout.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from streamguard import __version__
from streamguard.audio.frames import RawBlock
from streamguard.audio.frontend import FrontEnd
from streamguard.audio.settings import GateSettings
from streamguard.clock import HOP_SAMPLES, HOP_SECONDS, SAMPLE_RATE_HZ, WINDOW_HOPS
from streamguard.console import say_json
from streamguard.demo.report import exact_quantiles
from streamguard.inference.network import Network
from streamguard.inference.pair import (
    DEFAULT_ATTRIBUTION,
    DEFAULT_DETECTOR,
    PairNames,
    open_models,
)
from streamguard.resources import data_root
from streamguard.status import rss_mb

TARGET = "cpu-fp32"
SOURCE_RATE_HZ = 8000
WARM_UP = 5
MEMORY_LEGS = 100
SAME_NETWORKS = "lava"
"""The bundle whose two networks are those of the baseline: its ratio is hops against windows."""
CASCADE_SHARE = 0.1
"""Windows that lean to spoof and are attributed, in the ratio called cascade."""


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Of one stage, per window: CPU seconds of the process and wall seconds, as measured."""

    cpu_s: float
    wall_s: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        quantiles = exact_quantiles(self.wall_s)
        return {
            "cpu_ms": round(1000 * self.cpu_s, 4),
            "latency_ms": quantiles.as_ms() if quantiles else None,
        }


def bench(*, as_json: bool, seconds: float) -> int:
    """Print what one window costs here; 0 also where the baseline cannot run, which is said."""
    console = Console(stderr=as_json)
    stages, facts = _measure_target(console, seconds)
    reference, why_not = _measure_reference(console, seconds)
    report = _report(stages, facts, reference, why_not)
    if as_json:
        say_json(report)
    else:
        _print(console, report)
    return 0


def _measure(console: Console, name: str, seconds: float, run: Callable[[], object]) -> StageTimes:
    for _ in range(WARM_UP):
        run()
    started = time.perf_counter()
    run()
    rounds = max(10, round(seconds / max(time.perf_counter() - started, 1e-5)))
    walls: list[float] = []
    cpu = time.process_time()
    bar = track(
        range(rounds),
        name.ljust(28),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    for _ in bar:
        begin = time.perf_counter()
        run()
        walls.append(time.perf_counter() - begin)
    return StageTimes((time.process_time() - cpu) / rounds, tuple(walls))


def _speech_like(hops: int) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Noise with the rhythm of syllables: the cost does not depend on what is said."""
    rng = np.random.default_rng(7)
    count = hops * round(SOURCE_RATE_HZ * HOP_SECONDS)
    rhythm = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * np.arange(count) / SOURCE_RATE_HZ)
    return (3000 * rhythm * rng.standard_normal(count)).astype(np.int16)


class _FrontEndLoop:
    """Feeds one leg's front end, a hop per call."""

    def __init__(self, leg: str, left_context: int) -> None:
        self._front_end = FrontEnd(leg, left_context, GateSettings())
        self._samples = _speech_like(20)
        self._block = round(SOURCE_RATE_HZ * HOP_SECONDS)
        self._leg = leg
        self._next = 0

    def __call__(self) -> object:
        at = self._next * self._block % len(self._samples)
        block = RawBlock(
            leg=self._leg,
            segment=0,
            first_sample=self._next * self._block,
            samples=self._samples[at : at + self._block],
            rate_hz=SOURCE_RATE_HZ,
            spans=(),
            received_at=0.0,
        )
        self._next += 1
        return self._front_end.process(block)


def _hop_of(network: Network) -> Callable[[], object]:
    rng = np.random.default_rng(11)
    samples = rng.uniform(-0.5, 0.5, network.left_context + HOP_SAMPLES).astype(np.float32)
    state = network.fresh_state()
    return lambda: network.hops([samples], [state])


def _head_of(network: Network) -> Callable[[], object]:
    rng = np.random.default_rng(12)
    samples = rng.uniform(-0.5, 0.5, network.left_context + HOP_SAMPLES).astype(np.float32)
    parts = network.hops([samples], [network.fresh_state()])[0].parts
    return lambda: network.windows([[parts] * WINDOW_HOPS])


def _measure_target(
    console: Console, seconds: float
) -> tuple[dict[str, StageTimes], dict[str, Any]]:
    begin = time.perf_counter()
    models = open_models(PairNames(DEFAULT_DETECTOR, DEFAULT_ATTRIBUTION, TARGET))
    models.warm_up()
    cold_start_s = time.perf_counter() - begin
    same = open_models(PairNames(SAME_NETWORKS, None, TARGET))
    same.warm_up()
    share = seconds / 7
    try:
        stages = {"front_end": _measure(console, "front end", share, _FrontEndLoop("bench", 240))}
        networks = {
            "detector": models.detector,
            "attribution": models.attribution,
            "same_networks": same.detector,
        }
        for name, network in networks.items():
            assert network is not None, "all were named above"
            for unit, run in (("hop", _hop_of(network)), ("head", _head_of(network))):
                stage = f"{name}_{unit}"
                stages[stage] = _measure(console, f"{TARGET} {stage}", share, run)
        info = models.detector.engine.info
        facts = {
            "requested": {
                "provider": info.requested_provider,
                "precision": info.requested_precision,
            },
            "effective": {"provider": info.provider, "precision": info.precision},
            "bundles": {
                name: {"name": network.bundle.name, "sha256": network.bundle.sha256}
                for name, network in networks.items()
                if network is not None
            },
            "threads": 1,
            "cold_start_s": round(cold_start_s, 3),
            "mb_per_leg": round(_mb_per_leg(), 3),
        }
    finally:
        models.close()
        same.close()
    return stages, facts


def _mb_per_leg() -> float:
    """Resident memory that a leg's front end and ring take after a window of audio."""
    before = rss_mb()
    legs = [_FrontEndLoop(f"leg{i}", 240) for i in range(MEMORY_LEGS)]
    for leg in legs:
        for _ in range(WINDOW_HOPS + 2):
            leg()
    return max(0.0, rss_mb() - before) / MEMORY_LEGS


def _measure_reference(console: Console, seconds: float) -> tuple[StageTimes | None, str | None]:
    """Both networks over one 3 s window; None and why where they cannot run."""
    root = data_root()
    if not (root / "models" / "lava" / "network.py").is_file():
        return None, "the baseline needs a checkout: models/lava/network.py is not installed"
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        import torch

        from models.lava.network import LATENT, Classifier, Encoder
    except ImportError as err:
        return None, f"the baseline needs the extra 'train' ({err})"
    torch.set_num_threads(1)

    def network(classes: int) -> Callable[[torch.Tensor], torch.Tensor]:
        encoder = Encoder().eval()
        gate = torch.nn.Conv1d(LATENT, LATENT, 1).eval()
        classifier = Classifier(classes).eval()

        def run(samples: torch.Tensor) -> torch.Tensor:
            latent = encoder(samples, padded=True)
            logits: torch.Tensor = classifier((latent * torch.sigmoid(gate(latent))).mean(dim=2))[1]
            return logits

        return run

    technology, generator = network(3), network(6)
    window = torch.empty(1, WINDOW_HOPS * HOP_SAMPLES).uniform_(-0.5, 0.5)

    def both() -> object:
        with torch.inference_mode():
            return technology(window), generator(window)

    return _measure(console, "reference (eager PyTorch)", seconds, both), None


def _sum_cpu(stages: Mapping[str, StageTimes], names: Sequence[str]) -> float:
    return sum(stages[name].cpu_s for name in names)


def _report(
    stages: Mapping[str, StageTimes],
    facts: dict[str, Any],
    reference: StageTimes | None,
    why_not: str | None,
) -> dict[str, Any]:
    detection_s = _sum_cpu(stages, ("front_end", "detector_hop", "detector_head"))
    attribution_s = _sum_cpu(stages, ("attribution_hop", "attribution_head"))
    ways = {
        "detection": detection_s,
        "attribution": _sum_cpu(stages, ("same_networks_hop", "same_networks_head")),
        "cascade": detection_s + CASCADE_SHARE * attribution_s,
        "default_pair": detection_s + attribution_s,
    }
    pair = [stage for name, stage in stages.items() if not name.startswith("same_networks")]
    count = min(len(stage.wall_s) for stage in pair)
    total = [sum(stage.wall_s[i] for stage in pair) for i in range(count)]
    quantiles = exact_quantiles(total)
    targets: dict[str, Any] = {
        TARGET: {
            **facts,
            # Of a window on which everything runs; the ways of running less are beside it.
            "cpu_ms_per_window": round(1000 * ways["default_pair"], 4),
            "ways_cpu_ms": {way: round(1000 * s, 4) for way, s in ways.items()},
            "latency_ms": quantiles.as_ms() if quantiles else None,
            "stages": {name: stage.as_json() for name, stage in stages.items()},
        },
        "reference": {"why_not_measured": why_not},
    }
    ratios: dict[str, Any] = {way: {} for way in ways}
    if reference is not None:
        targets["reference"] = {
            "requested": {"provider": "eager PyTorch, one thread", "precision": "fp32"},
            "effective": {"provider": "eager PyTorch, one thread", "precision": "fp32"},
            "cpu_ms_per_window": round(1000 * reference.cpu_s, 4),
            "latency_ms": reference.as_json()["latency_ms"],
            "stages": {"both_networks": reference.as_json()},
        }
        ratios = {way: {TARGET: round(reference.cpu_s / s, 2)} for way, s in ways.items()}
    return {
        "machine": machine(),
        "versions": versions(),
        "hop_s": HOP_SECONDS,
        "window_s": WINDOW_HOPS * HOP_SECONDS,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "cascade_share": CASCADE_SHARE,
        "start_up_s": _start_up_s(),
        "capacity": {
            "engine_legs": None,
            "rtp_legs": None,
            "budget_ms": 1000 * HOP_SECONDS,
            "cores": os.cpu_count(),
            "why_not_measured": "not measured yet",
        },
        "targets": targets,
        "ratios": ratios,
    }


def _start_up_s() -> dict[str, float]:
    """What a fresh interpreter takes beyond its own start: best of five."""

    def best(code: str) -> float:
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)  # noqa: S603  # our own interpreter
            times.append(time.perf_counter() - begin)
        return min(times)

    bare = best("pass")
    show_help = "from streamguard.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    return {
        "import": round(max(0.0, best("import streamguard") - bare), 4),
        "help": round(best(show_help) - bare, 4),
    }


def machine() -> dict[str, Any]:
    """Where the figures of a report come from."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Of what decides how fast it is."""
    import onnxruntime

    found = {
        "streamguard": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
    torch = sys.modules.get("torch")
    return found | ({"torch": str(torch.__version__)} if torch else {})


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _print(console: Console, report: Mapping[str, Any]) -> None:
    facts = report["machine"]
    console.print(
        f"{facts['processor']}, {facts['cores']} cores; "
        + ", ".join(f"{name} {version}" for name, version in report["versions"].items()),
        highlight=False,
    )
    target = report["targets"][TARGET]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("stage", "CPU ms", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    rows = dict(target["stages"])
    reference = report["targets"]["reference"]
    if "stages" in reference:
        rows["reference: both networks, whole window"] = reference["stages"]["both_networks"]
    for name, stage in rows.items():
        ms = stage["latency_ms"]
        table.add_row(
            name, f"{stage['cpu_ms']:.3f}", *(f"{ms[q]:.3f}" for q in ("p50", "p95", "p99"))
        )
    console.print(table)
    budget = 1000 * report["hop_s"]
    for way, ms in target["ways_cpu_ms"].items():
        ratio = report["ratios"][way].get(TARGET)
        versus = f", 1/{ratio:.1f} of the reference" if ratio else ""
        console.print(
            f"{way.replace('_', ' ')}: {ms:.2f} ms CPU per window; one arrives every "
            f"{budget:.0f} ms{versus}",
            highlight=False,
        )
    if "stages" not in reference:
        console.print(f"reference not measured: {reference['why_not_measured']}")
    console.print(f"capacity in legs: {report['capacity']['why_not_measured']}")
    start = report["start_up_s"]
    console.print(
        f"import streamguard: {1000 * start['import']:.0f} ms; "
        f"streamguard --help: {1000 * start['help']:.0f} ms (beyond the interpreter's own start)",
        highlight=False,
    )
    console.print(
        f"{target['mb_per_leg']:.2f} MB per leg; cold start {target['cold_start_s']:.2f} s; "
        f"asked for {target['requested']['provider']}, got {target['effective']['provider']}",
        highlight=False,
    )
