"""A report for people: what was measured, beside what there is time for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from streamguard.bench.rtp import rtp_lines

QUANTILES = ("p50", "p95", "p99")
_BASELINES = {
    "reference": "reference: both networks, whole window, eager PyTorch",
    "ort_full_window": "the same in ONNX Runtime",
}


def print_report(console: Console, report: Mapping[str, Any]) -> None:
    _print_machine(console, report)
    for name, target in report["targets"].items():
        if name != "reference":
            _print_target(console, report, name, target)
    _print_baselines(console, report)
    _print_capacity(console, report)
    start = report["start_up_s"]
    console.print(
        f"import streamguard: {1000 * start['import']:.0f} ms; "
        f"streamguard --help: {1000 * start['help']:.0f} ms (beyond the interpreter's own start)",
        highlight=False,
    )


def _print_machine(console: Console, report: Mapping[str, Any]) -> None:
    facts = report["machine"]
    console.print(
        f"{facts['processor']}, {facts['cores']} cores"
        f" ({', '.join(facts['instructions']) or 'no vector extensions known'}); "
        f"GPU: {', '.join(facts['gpus']) or 'none'}; load average {facts['load_average']}; "
        f"allowed on cores {', '.join(map(str, facts['pinned_to']))}",
        highlight=False,
    )
    console.print(
        ", ".join(f"{name} {version}" for name, version in report["versions"].items()),
        highlight=False,
    )


def _print_target(
    console: Console, report: Mapping[str, Any], name: str, target: Mapping[str, Any]
) -> None:
    asked, got = target["requested"], target["effective"]
    bundles = ", ".join(
        f"{role} {bundle['name']} ({bundle['precision']}, {bundle['sha256'][:12]})"
        for role, bundle in target["bundles"].items()
    )
    console.print(
        f"\n[bold]{name}[/]: asked for {asked['provider']} {asked['precision']}, got "
        f"{got['provider']} {got['precision']}; {bundles}; {target['threads']} inference thread",
        highlight=False,
    )
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("stage", "CPU ms", *(f"{q} ms" for q in QUANTILES)):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage, times in target["stages"].items():
        ms = times["latency_ms"]
        walls = (f"{ms[q]:.3f}" for q in QUANTILES) if ms else ("-",) * 3
        table.add_row(stage.replace("_", " "), f"{times['cpu_ms']:.3f}", *walls)
    console.print(table)
    for way, ms in target["ways_cpu_ms"].items():
        ratio = report["ratios"][way].get(name)
        versus = f", 1/{ratio:.1f} of the reference" if ratio else ""
        console.print(
            f"{way.replace('_', ' ')}: {ms:.2f} ms CPU per window; one arrives every "
            f"{1000 * report['hop_s']:.0f} ms{versus}",
            highlight=False,
        )
    console.print(
        f"real-time factor of the cascade {target['realtime_factor']:.4f}; "
        f"{target['mb_per_leg']:.2f} MB per leg ({target['mb_per_leg_of']}); "
        f"cold start {target['cold_start_s']:.2f} s; samples lag by "
        f"{target['front_end_delay_ms']:.1f} ms (resampler, level), not counted below",
        highlight=False,
    )
    for where, found in target["under_load"].items():
        if found is not None:
            console.print(_load_line(where, found, report), highlight=False)


def _load_line(where: str, found: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """One search: the count that was held, beside the budget; or why none was."""
    budget = f"budget {report['capacity']['budget_ms']:.0f} ms"
    best = found["best"] or found["first_failed"]
    if best is None:
        return f"{where.replace('_', ' ')}: no legs held ({budget})"
    latency = best["latency_ms"]
    p99 = f"{latency['p99']:.0f} ms" if latency else "-"
    return (
        f"{where.replace('_', ' ')}: {found['legs']} live legs at random phases, verdict p99 "
        f"{p99} ({budget}), {100 * best['attributed_share']:.0f} % of windows attributed, "
        f"batches of {best['batch_size']:.1f}, {best['cores_used']:.2f} cores used, "
        f"{best['hops_dropped']} hops dropped{_too_many(found)}"
    )


def _too_many(found: Mapping[str, Any]) -> str:
    """How far above the answer the lowest count is that failed."""
    failed = found["first_failed"]
    return f"; {failed['legs']} were too many" if failed and found["best"] else ""


def _print_baselines(console: Console, report: Mapping[str, Any]) -> None:
    console.print()
    found = {"reference": report["targets"]["reference"], **report["baselines"]}
    for name, baseline in found.items():
        label = _BASELINES[name]
        if "stages" not in baseline:
            console.print(f"{label}: not measured: {baseline['why_not_measured']}")
            continue
        ms = baseline["latency_ms"]
        console.print(
            f"{label}: {baseline['cpu_ms_per_window']:.2f} ms CPU per window, "
            f"p50 {ms['p50']:.1f} ms, p99 {ms['p99']:.1f} ms",
            highlight=False,
        )
    for way, ratios in report["ratios_to_ort_full_window"].items():
        for target, ratio in ratios.items():
            console.print(
                f"{way.replace('_', ' ')} on {target}: 1/{ratio:.1f} of whole windows in "
                "ONNX Runtime",
                highlight=False,
            )


def _print_capacity(console: Console, report: Mapping[str, Any]) -> None:
    capacity = report["capacity"]
    if "why_not_measured" in capacity:
        console.print(f"capacity in legs: {capacity['why_not_measured']}")
    for line in rtp_lines(capacity["rtp"]) if "rtp" in capacity else ():
        console.print(line, highlight=False)
    idle = report["idle"]
    if idle is not None:
        console.print(
            f"idle: {100 * idle['cpu_share_without_legs']:.2f} % of a core without legs, "
            f"{100 * idle['cpu_share_with_silent_legs']:.1f} % with {idle['silent_legs']} legs "
            "that send silence over RTP",
            highlight=False,
        )
