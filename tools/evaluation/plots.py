"""Pictures of an evaluation: light, one idea each, readable without the text around them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from tools.evaluation.attribution import AttributionReport, HeadMeasured
from tools.evaluation.detection import DetectionReport
from tools.legs import VOICES, DurationRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GRID = "#263238", "#e3e8ea"
COLOURS = {"direct": "#1565c0", "telephone": "#ef6c00"}
BONAFIDE, SPOOF = "#2e7d32", "#c62828"
_DET_TICKS = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
_DET_LIMITS = (0.0008, 0.92)
_LLR_LIMIT = 6.0
_DPI = 130


def draw_detection(report: DetectionReport, folder: Path) -> dict[str, str]:
    """Write the pictures; title of each by file name."""
    drawn = {
        "det.png": ("Detection error trade-off", _det(report)),
        "scores.png": ("Scores of both classes", _scores(report)),
        "duration.png": ("Error against net speech", _durations(report.durations)),
        "reliability.png": ("Calibration", _reliability(report)),
        "confusion.png": ("What each technology is called", _technologies(report)),
    }
    return _save(drawn, folder)


def draw_attribution(report: AttributionReport, folder: Path) -> dict[str, str]:
    """Write the pictures; title of each by file name."""
    drawn: dict[str, tuple[str, Figure]] = {}
    for line, part in report.lines.items():
        if pooled := part.technology.get("pooled"):
            figure = _confusion(pooled["first"], f"Technology, {line}")
            drawn[f"technology_{line}.png"] = (f"Technologies, {line}", figure)
        if listed := part.generator.get("first"):
            figure = _confusion(listed, f"Generator, {line}")
            drawn[f"generator_{line}.png"] = (f"Generators, {line}", figure)
    return _save(drawn, folder)


def _save(drawn: Mapping[str, tuple[str, Figure]], folder: Path) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (_, figure) in drawn.items():
        figure.savefig(folder / name, dpi=_DPI)
    return {name: title for name, (title, _) in drawn.items()}


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure  # here: it is slow to import

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, columns)))


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#90a4ae")


def _percent_axis(values: Iterable[float]) -> list[str]:
    return [f"{100 * value:g} %" for value in values]


def _det(report: DetectionReport) -> Figure:
    """Both rates on normal-deviate axes (Martin et al. 1997): normal scores make straight lines."""
    figure, (axes,) = _figure(6.4, 6.2)
    _plain(axes, "Detection error trade-off, first window of each clip")
    low, high = ndtri(_DET_LIMITS)
    axes.plot([low, high], [low, high], color="#b0bec5", linewidth=1.0, linestyle=":")
    for line, part in report.lines.items():
        for points, style, what in ((part.det, "-", "pooled"), (part.det_paired, "--", "paired")):
            if points:
                rates = np.clip(np.array(points), *_DET_LIMITS)
                axes.plot(
                    *ndtri(rates).T,
                    style,
                    color=COLOURS[line],
                    linewidth=1.8,
                    label=f"{line}, {what} sources" if what == "paired" else f"{line}, {what}",
                )
    ticks = ndtri(_DET_TICKS)
    axes.set_xticks(ticks, _percent_axis(_DET_TICKS), rotation=45)
    axes.set_yticks(ticks, _percent_axis(_DET_TICKS))
    axes.set(xlim=(low, high), ylim=(low, high))
    axes.set_xlabel("false alarms", color=INK)
    axes.set_ylabel("missed spoofs", color=INK)
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    return figure


def _scores(report: DetectionReport) -> Figure:
    samples = report.samples or {}
    figure, panels = _figure(9.6, 3.8, len(samples) or 1)
    for axes in panels[1:]:
        axes.sharey(panels[0])
    bins = np.linspace(-_LLR_LIMIT, _LLR_LIMIT, 37)
    for axes, (line, sample) in zip(panels, samples.items(), strict=False):
        _plain(axes, f"{line}: first windows")
        llrs = np.clip(sample.llrs, -_LLR_LIMIT, _LLR_LIMIT)
        for spoof, colour, name in ((False, BONAFIDE, "bona fide"), (True, SPOOF, "spoof")):
            values = llrs[sample.spoof == spoof]
            share = np.full(len(values), 1.0 / max(1, len(values)))
            label = f"{name} ({len(values)})"
            axes.hist(values, bins.tolist(), weights=share, color=colour, alpha=0.35)
            axes.hist(
                values, bins.tolist(), weights=share, histtype="step", color=colour, label=label
            )
        axes.axvline(0.0, color=INK, linewidth=1.0, linestyle=":")
        axes.set_xlabel(f"LLR, positive for spoof; beyond {_LLR_LIMIT:g}: at the edge", color=INK)
        axes.set_ylabel("share of its class", color=INK)
        axes.legend(frameon=False, fontsize=9)
    return figure


def _durations(rows: Sequence[DurationRow]) -> Figure:
    figure, panels = _figure(9.6, 4.2, 2)
    wanted = (("EER", "eer"), ("detected at 1 % false alarms", "detected_at_1pct"))
    for axes, (title, field) in zip(panels, wanted, strict=True):
        _plain(axes, title)
        for line, colour in COLOURS.items():
            for voices, style in ((VOICES[0], "--"), ("all", "-")):
                points = [
                    (row.seconds, getattr(row, field))
                    for row in rows
                    if (row.line, row.voices) == (line, voices) and getattr(row, field)
                ]
                if not points:
                    continue
                seconds = [at for at, _ in points]
                values = np.array([(v.value, v.low, v.high) for _, v in points])
                who = "clips of one speaker" if voices == VOICES[0] else "all legs"
                label = f"{line}, {who}"
                axes.plot(seconds, 100 * values[:, 0], style, marker="o", color=colour, label=label)
                if voices == "all":
                    axes.fill_between(
                        seconds, 100 * values[:, 1], 100 * values[:, 2], color=colour, alpha=0.12
                    )
        axes.set_xscale("log")
        ticks = sorted({row.seconds for row in rows})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_ylim(0, 100 if field == "detected_at_1pct" else None)
        axes.set_xlabel("seconds of net speech; shaded: 95 % over sources, all legs", color=INK)
        axes.set_ylabel("%", color=INK)
    panels[0].set_ylim(0, max(50.0, panels[0].get_ylim()[1]))
    if panels[0].get_legend_handles_labels()[0]:
        panels[0].legend(frameon=False, fontsize=8)
    else:
        panels[0].text(0.5, 0.5, "too few legs", ha="center", transform=panels[0].transAxes)
    return figure


def _reliability(report: DetectionReport) -> Figure:
    figure, (axes,) = _figure(5.6, 5.4)
    _plain(axes, "Calibration: what is said against what is so")
    axes.plot([0, 1], [0, 1], color="#b0bec5", linestyle=":")
    for line, part in report.lines.items():
        bins = part.reliability
        axes.plot(
            [b.said for b in bins], [b.seen for b in bins], color=COLOURS[line], linewidth=1.4
        )
        axes.scatter(
            [b.said for b in bins],
            [b.seen for b in bins],
            [12 + 500 * b.share for b in bins],
            color=COLOURS[line],
            alpha=0.75,
            label=line,
        )
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.set_xlabel("posterior of spoof, prior one half", color=INK)
    axes.set_ylabel("share of spoofs, classes weighed as halves", color=INK)
    legend = axes.legend(
        frameon=False, fontsize=9, loc="upper left", title="area: share of windows"
    )
    legend.get_title().set_fontsize(8)
    return figure


def _technologies(report: DetectionReport) -> Figure:
    figure, panels = _figure(9.6, 3.6, len(report.lines))
    columns = ("bona fide", "spoof", "rejected")
    for axes, (line, part) in zip(panels, report.lines.items(), strict=True):
        table = part.decisions.by_technology
        counts = np.array([table[name] for name in table], np.float64)
        _heat(axes, counts, list(table), columns, f"{line}: first windows at LLR 0")
    return figure


def _confusion(measured: HeadMeasured, title: str) -> Figure:
    counts = np.array(measured.confusion, np.float64)
    rows = np.flatnonzero(counts.sum(axis=1))
    columns = np.flatnonzero(counts.sum(axis=1) + counts.sum(axis=0))
    size = (2.6 + 0.62 * len(columns), 1.9 + 0.42 * len(rows))
    figure, (axes,) = _figure(*size)
    _heat(
        axes,
        counts[np.ix_(rows, columns)],
        [measured.labels[i] for i in rows],
        [measured.labels[i] for i in columns],
        f"{title}: no threshold",
    )
    return figure


def _heat(
    axes: Axes, counts: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str
) -> None:
    """Counts on shades of their share of the row."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            dark = share[row, column] > 0.55
            axes.text(
                column,
                row,
                f"{count:.0f}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if dark else INK,
            )
    wide = max(map(len, columns)) > 4 and len(columns) > 4
    axes.set_xticks(range(len(columns)), columns, rotation=45 if wide else 0)
    if wide:
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")
            label.set_rotation_mode("anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0, labelsize=9, colors=INK)
    axes.set_xlabel("said", color=INK)
    axes.set_ylabel("true", color=INK)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    for side in axes.spines.values():
        side.set_visible(False)
