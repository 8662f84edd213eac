"""All that was measured as one JSON object: a public contract."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamguard.bench.baselines import Baseline
from streamguard.bench.machine import machine, start_up_s, versions
from streamguard.bench.options import BenchOptions
from streamguard.bench.rtp import Idle, RtpCapacity
from streamguard.bench.target import TargetResult
from streamguard.clock import HOP_SECONDS, SAMPLE_RATE_HZ, WINDOW_HOPS

WAYS = ("detection", "attribution", "cascade", "default_pair")
"""``attribution``: the same two networks as the baselines; ``default_pair``: both chosen networks
on every window; ``cascade``: detection on every window, attribution on the stated share."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything of one run."""

    targets: Sequence[TargetResult]
    reference: Baseline
    ort_full_window: Baseline
    rtp: RtpCapacity | None
    idle: Idle | None


def report_of(options: BenchOptions, measured: Measured) -> dict[str, Any]:
    share = options.attributed_share
    targets = {target.name: target.as_json(share) for target in measured.targets}
    targets["reference"] = measured.reference.as_json()
    return {
        "machine": machine(),
        "versions": versions(),
        "hop_s": HOP_SECONDS,
        "window_s": WINDOW_HOPS * HOP_SECONDS,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "cascade_share": share,
        "start_up_s": start_up_s(),
        "capacity": _capacity(options, measured),
        "idle": measured.idle.as_json() if measured.idle else None,
        "targets": targets,
        "baselines": {measured.ort_full_window.name: measured.ort_full_window.as_json()},
        "ratios": _ratios(measured.targets, measured.reference, share),
        "ratios_to_ort_full_window": _ratios(measured.targets, measured.ort_full_window, share),
    }


def _ratios(
    targets: Sequence[TargetResult], baseline: Baseline, share: float
) -> dict[str, dict[str, float]]:
    """By how much the baseline's CPU time per window is that of a target, per way."""
    ratios: dict[str, dict[str, float]] = {way: {} for way in WAYS}
    if baseline.times is None:
        return ratios
    for target in targets:
        ways: Mapping[str, float] = {**target.ways_s, "cascade": target.cascade_s(share)}
        for way in WAYS:
            ratios[way][target.name] = round(baseline.times.cpu_s / ways[way], 2)
    return ratios


def _capacity(options: BenchOptions, measured: Measured) -> dict[str, Any]:
    """Of the first target; those of the others stand with them."""
    first = measured.targets[0]
    found: dict[str, Any] = {
        "engine_legs": first.all_cores.legs if first.all_cores else None,
        "engine_legs_one_core": first.one_core.legs if first.one_core else None,
        "rtp_legs": None,
        "budget_ms": options.latency_budget_ms,
        "cores": os.cpu_count(),
    }
    if measured.rtp is not None:
        best = measured.rtp.best
        found["rtp_legs"] = best.legs if best else 0
        found["rtp"] = measured.rtp.as_json()
    if not options.capacity:
        found["why_not_measured"] = "it was not asked for (--no-capacity)"
    return found
