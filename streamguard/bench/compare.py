"""This run beside an earlier one: what became cheaper, what dearer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from streamguard.errors import StreamguardError

MAX_BYTES = 16 << 20


class CompareError(StreamguardError):
    """The earlier report cannot be read."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure, then and now."""

    name: str
    before: float
    now: float

    @property
    def factor(self) -> float | None:
        """Now by then; None where then was nothing."""
        return self.now / self.before if self.before else None

    def as_json(self) -> dict[str, float | str | None]:
        factor = self.factor
        return {
            "name": self.name,
            "before": self.before,
            "now": self.now,
            "factor": round(factor, 4) if factor is not None else None,
        }


def read_report(path: Path) -> dict[str, Any]:
    """What ``bench --json`` wrote. Raises CompareError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as err:
        raise CompareError(path, f"cannot be read: {err.strerror}") from err
    if len(data) > MAX_BYTES:
        raise CompareError(path, f"more than {MAX_BYTES} bytes")
    try:
        report = json.loads(data)
    except ValueError as err:
        raise CompareError(path, f"is not JSON: {err}") from err
    if not isinstance(report, dict) or not {"targets", "capacity", "machine"} <= report.keys():
        raise CompareError(path, "is not a report of `streamguard bench --json`")
    return report


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Figures that both have: CPU per window, stages, ratios and legs."""
    then, there = _figures(before), _figures(now)
    return [Difference(name, then[name], there[name]) for name in there if name in then]


def print_differences(
    console: Console, before: Mapping[str, Any], now: Mapping[str, Any], path: Path
) -> None:
    console.print(f"\nbeside {path}", highlight=False)
    if _where(before) != _where(now):
        console.print(
            f"[bold]another machine or version[/]: then {_where(before)}, now {_where(now)}",
            highlight=False,
        )
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("figure", "then", "now", "now/then"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for found in differences(before, now):
        factor = "-" if found.factor is None else f"{found.factor:.2f}"
        table.add_row(found.name, f"{found.before:.3f}", f"{found.now:.3f}", factor)
    console.print(table)


def _where(report: Mapping[str, Any]) -> str:
    machine, versions = report["machine"], report.get("versions", {})
    processor = f"{machine.get('processor')} x {machine.get('cores')}"
    return ", ".join([processor, *(f"{k} {v}" for k, v in sorted(versions.items()))])


def _figures(report: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, Any] = {}
    for name, target in report["targets"].items():
        if "stages" not in target:
            continue
        found[f"{name}: CPU ms per window"] = target["cpu_ms_per_window"]
        for stage, times in target["stages"].items():
            found[f"{name}: {stage}: CPU ms"] = times["cpu_ms"]
    for way, ratios in report.get("ratios", {}).items():
        for name, ratio in ratios.items():
            found[f"{name}: reference / {way}"] = ratio
    capacity = report["capacity"]
    for key in ("engine_legs_one_core", "engine_legs", "rtp_legs"):
        found[f"capacity: {key}"] = capacity.get(key)
    return {name: float(x) for name, x in found.items() if isinstance(x, int | float)}
