"""The picture of a report: CPU per window by stage, beside the baselines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamguard.bench.stages import (
    ATTRIBUTION_ENCODER,
    ATTRIBUTION_HEADS,
    ENCODER,
    GATE,
    HEADS,
    INGEST,
    VERDICT,
)
from streamguard.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    INGEST: "#90a4ae",
    GATE: "#4fc3f7",
    ENCODER: "#1565c0",
    HEADS: "#5e35b1",
    ATTRIBUTION_ENCODER: "#ef6c00",
    ATTRIBUTION_HEADS: "#ffb74d",
    VERDICT: "#2e7d32",
}
_BASELINE_COLOUR = "#616161"
_BASELINES = {
    "reference": "two networks, whole window,\neager PyTorch",
    "ort_full_window": "the same in ONNX Runtime",
}
_DPI = 120


def plot_report(report: Mapping[str, Any], path: Path) -> None:
    """Write the picture. Raises MissingExtraError."""
    try:
        from matplotlib.figure import Figure
    except ImportError as err:
        raise MissingExtraError("bench --plot", "plot") from err
    share = report["cascade_share"]
    targets = {n: t for n, t in report["targets"].items() if n != "reference"}
    baselines = _baselines(report)
    figure = Figure(figsize=(10, 2.4 + 1.3 * len(targets) + 0.6 * len(baselines)))
    figure.set_layout_engine("constrained")
    heights = [2 * len(targets), 2 * len(targets) + len(baselines)]
    stages, whole = figure.subplots(2, height_ratios=heights)
    rows: dict[str, float] = {}
    for name, target in targets.items():
        for text, attributed in (
            ("both networks,\nevery window", 1.0),
            (f"attribution on\n{100 * share:.0f} % of windows", share),
        ):
            label = f"{name}: {text}"
            rows[label] = _bar(stages, len(rows), target["stages"], attributed)
    stages.set_yticks(range(len(rows)), list(rows))
    stages.set_title(f"{report['machine']['processor']}, {report['machine']['cores']} cores")
    stages.set_xlabel("CPU ms per window, by stage")
    handles, names = stages.get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=4)
    rows |= {_BASELINES[n]: baseline["cpu_ms_per_window"] for n, baseline in baselines.items()}
    whole.barh(
        range(len(rows)),
        list(rows.values()),
        color=["#1565c0"] * (len(rows) - len(baselines)) + [_BASELINE_COLOUR] * len(baselines),
    )
    for row, ms in enumerate(rows.values()):
        whole.annotate(
            f"{ms:.2f} ms", (ms, row), xytext=(4, 0), textcoords="offset points", va="center"
        )
    whole.set_yticks(range(len(rows)), list(rows))
    whole.margins(x=0.12)
    whole.set_xlabel("CPU ms per window; per leg, one arrives every 500 ms")
    for axes in (stages, whole):
        axes.invert_yaxis()
    figure.savefig(path, dpi=_DPI)


def _baselines(report: Mapping[str, Any]) -> dict[str, Any]:
    found = {"reference": report["targets"]["reference"], **report["baselines"]}
    return {name: baseline for name, baseline in found.items() if "stages" in baseline}


def _bar(axes: Axes, row: int, stages: Mapping[str, Any], attributed: float) -> float:
    """Stages end to end; returns their sum."""
    begin = 0.0
    for stage, colour in COLOURS.items():
        if stage not in stages:
            continue
        is_attribution = stage in (ATTRIBUTION_ENCODER, ATTRIBUTION_HEADS)
        ms = stages[stage]["cpu_ms"] * (attributed if is_attribution else 1.0)
        axes.barh(row, ms, left=begin, color=colour, label=stage.replace("_", " "))
        begin += ms
    return begin
