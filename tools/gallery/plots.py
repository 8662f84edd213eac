"""Two pictures of the table: what a system costs against what it can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.evaluation.plots import GRID, INK
from tools.gallery.rows import Gallery
from tools.gallery.table import DONE, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 110
_COLOURS = ("#1565c0", "#c62828", "#2e7d32", "#ef6c00", "#6a1b9a", "#00838f", "#5d4037")


@dataclass(frozen=True, slots=True)
class _Point:
    title: str
    group: str
    cost_ms: float
    value: float
    converged: bool


def draw(gallery: Gallery, results: Mapping[str, Result], folder: Path) -> list[str]:
    """Write a picture per task that some row has; returns the names of the files."""
    written = []
    for task, key, label, name in (
        ("detection", "eer", "EER, %, validation sources, direct line", "detection_cost.png"),
        (
            "attribution",
            "technology",
            "technology, balanced accuracy, %, direct line",
            "attribution_cost.png",
        ),
    ):
        points = [
            _Point(
                row.title,
                row.group,
                found["cost"]["cpu_ms_per_hop"],
                100 * found["scores"]["direct"][key],
                found["trained"] is None or found["trained"]["converged"],
            )
            for row in gallery.rows
            if (found := results.get(row.name, {})).get("status") == DONE
            and found["task"] == task
            and found["scores"] is not None
        ]
        if points:
            _scatter(points, label, folder / name)
            written.append(name)
    return written


def _scatter(points: Sequence[_Point], label: str, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 6.0), layout="constrained")
    axes: Axes = figure.subplots()
    groups = list(dict.fromkeys(point.group for point in points))
    for group, colour in zip(groups, _cycle(len(groups)), strict=True):
        for converged, face in ((True, colour), (False, "white")):
            chosen = [p for p in points if p.group == group and p.converged is converged]
            if chosen:
                axes.scatter(
                    [point.cost_ms for point in chosen],
                    [point.value for point in chosen],
                    s=46,
                    facecolors=face,
                    edgecolors=colour,
                    linewidths=1.6,
                    label=group if converged or not _any_converged(points, group) else None,
                    zorder=3,
                )
    axes.set_xscale("log")
    _label(axes, points)
    axes.set_xlabel("processor milliseconds per hop of 0.5 s, one thread, ONNX Runtime fp32 (log)")
    axes.set_ylabel(label)
    axes.set_title(
        "Cost against quality (filled: converged, or as committed; hollow: had not converged)",
        color=INK,
        loc="left",
        fontsize=11,
    )
    axes.grid(color=GRID, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    for which in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        which(_plain)
    figure.legend(frameon=False, fontsize=8, loc="outside lower left", ncols=3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI)


def _plain(value: float, _: object) -> str:
    """1, 2, 3 and 5 of a decade: more would stand on one another."""
    return f"{value:g}" if f"{value:e}"[0] in "1235" else ""


def _label(axes: Axes, points: Sequence[_Point]) -> None:
    """Titles beside the points, alternately on both sides where two points are near."""
    axes.margins(x=0.16, y=0.1)
    axes.figure.canvas.draw()
    taken: list[tuple[float, float, float, float]] = []
    for point in points:
        x, y = axes.transData.transform((point.cost_ms, point.value))
        taken.append((x - 7, y - 7, x + 7, y + 7))
    for point in sorted(points, key=lambda p: (p.cost_ms, p.value)):
        x, y = axes.transData.transform((point.cost_ms, point.value))
        width = 5.2 * len(point.title)
        for dx, dy, align in _PLACES:
            left = x + dx - (width if align == "right" else 0.0)
            box = (left, y + dy - 6, left + width, y + dy + 6)
            inside = axes.bbox.x0 <= box[0] and box[2] <= axes.bbox.x1
            if inside and not any(_overlap(box, other) for other in taken):
                break
        taken.append(box)
        label = axes.annotate(
            point.title,
            (point.cost_ms, point.value),
            xytext=(dx, dy),
            textcoords="offset pixels",
            ha=align,
            va="center",
            fontsize=7,
            color=INK,
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.4} if dy else None,
        )
        label.set_in_layout(False)  # one that hangs over an edge must not shrink the axes


_PLACES: tuple[tuple[float, float, Any], ...] = tuple(
    (dx, dy, align)
    for dy in (0.0, 13.0, -13.0, 26.0, -26.0, 39.0, -39.0)
    for dx, align in ((9.0, "left"), (-9.0, "right"))
)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _any_converged(points: Sequence[_Point], group: str) -> bool:
    return any(point.converged for point in points if point.group == group)


def _cycle(count: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]
