"""``streamguard bench``: measure, then tell."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from streamguard.bench.baselines import measure_baselines
from streamguard.bench.compare import differences, print_differences, read_report
from streamguard.bench.options import BenchOptions
from streamguard.bench.plot import plot_report
from streamguard.bench.report import Measured, report_of
from streamguard.bench.rtp import FIRST_LEGS, measure_idle, rtp_capacity
from streamguard.bench.rtp_rig import RigQuestion
from streamguard.bench.table import print_report
from streamguard.bench.target import measure_target
from streamguard.console import say_json

_BASELINE_SHARE = 0.4
"""Of the measuring time of a target, for each baseline: it takes a hundred times as long."""
_RTP_SHARE = 0.5
"""Where the search over RTP begins: legs by those that the engine stage held on one core."""


def bench(options: BenchOptions, *, as_json: bool) -> int:
    """Print what a window costs here and how many legs are held; 0 also where a baseline cannot
    run, which is said. Raises BundleError, EngineError, CompareError, DemoError."""
    console = Console(stderr=as_json)
    earlier = read_report(options.compare) if options.compare else None
    report = report_of(options, _measure(console, options))
    if options.plot is not None:
        plot_report(report, options.plot)
    if as_json:
        say_json(report | _compared(earlier, report))
        return 0
    print_report(console, report)
    if earlier is not None and options.compare is not None:
        print_differences(console, earlier, report, options.compare)
    return 0


def _measure(console: Console, options: BenchOptions) -> Measured:
    targets = [measure_target(console, options, engine) for engine in options.engines]
    reference, ort = measure_baselines(console, _BASELINE_SHARE * options.seconds)
    rtp = idle = None
    if options.capacity:
        question = RigQuestion(
            options.pair(options.engines[0]), options.attributed_share, options.latency_budget_ms
        )
        idle = measure_idle(console, question)
        one_core = targets[0].one_core
        rtp = rtp_capacity(
            console,
            question,
            options.trial_s,
            search_s=options.search_s,
            first=max(1, round(_RTP_SHARE * one_core.legs)) if one_core else FIRST_LEGS,
        )
    return Measured(targets, reference, ort, rtp, idle)


def _compared(earlier: dict[str, Any] | None, report: dict[str, Any]) -> dict[str, Any]:
    if earlier is None:
        return {}
    return {"compared": [found.as_json() for found in differences(earlier, report)]}
