"""The table as Markdown, put between two marks of a page whose prose is written by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.data import DataError
from tools.evaluation.tables import NONE, number, percent, table
from tools.gallery.rows import Gallery, Row

MAKER = "tools.benchmark_models"
ROWS_FOLDER = "rows"
DONE, FAILED = "done", "failed"

Result = Mapping[str, Any]
"""JSON of one row: ``name, key, status``; then ``error`` or ``task, parameters, cost, trained,
scores``."""

_DETECTION = (
    "system", "parameters", "CPU ms per hop", "EER", "paired sources", "unseen generators", "AUC",
    "minDCF", "EER, telephone", "epochs", "converged", "reported in the text, on its data",
)  # fmt: skip
_ATTRIBUTION = (
    "system", "parameters", "CPU ms per hop", "technology, balanced accuracy",
    "generator accuracy", "FPR95", "AUROC", "OOD-EER", "EERc", "technology, telephone", "epochs",
    "converged", "reported in the text, on its data",
)  # fmt: skip


def write_result(folder: Path, result: Result) -> None:
    """One JSON file per row, atomically."""
    path = folder / ROWS_FOLDER / f"{result['name']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_results(folder: Path, gallery: Gallery) -> dict[str, Result]:
    """What there is, by name, in the order of the table."""
    found = {}
    for row in gallery.rows:
        path = folder / ROWS_FOLDER / f"{row.name}.json"
        if path.exists():
            found[row.name] = json.loads(path.read_text(encoding="utf-8"))
    return found


def markdown(gallery: Gallery, results: Mapping[str, Result]) -> str:
    """A table per group and task; rows that failed or were not run say so behind them."""
    parts = []
    for group in dict.fromkeys(row.group for row in gallery.rows):
        rows = [row for row in gallery.rows if row.group == group]
        done = [row for row in rows if results.get(row.name, {}).get("status") == DONE]
        parts.append(f"### {group}\n")
        for task, header, cells in (
            ("detection", _DETECTION, _detection_cells),
            ("attribution", _ATTRIBUTION, _attribution_cells),
        ):
            chosen = [row for row in done if results[row.name]["task"] == task]
            if chosen:
                parts.append(table(header, (cells(row, results[row.name]) for row in chosen)))
        parts += [_remark(row, results.get(row.name)) for row in rows]
    return "\n".join(part for part in parts if part)


def marks(maker: str = MAKER) -> tuple[str, str]:
    """What stands before and behind a part of a page that is not written by hand."""
    return f"<!-- made by {maker}: begin -->", f"<!-- made by {maker}: end -->"


def put_between(page: Path, text: str, maker: str = MAKER) -> None:
    """Replace what stands between the marks. Raises DataError for a page without them."""
    begin, end = marks(maker)
    content = page.read_text(encoding="utf-8")
    if content.count(begin) != 1 or content.count(end) != 1:
        raise DataError(page, 0, "marks", page.name, f"must hold {begin} and {end} once")
    before, rest = content.split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def _remark(row: Row, result: Result | None) -> str:
    if result is None:
        return f"{row.title}: not run yet.\n"
    if result["status"] == FAILED:
        return f"{row.title}: failed: {result['error']}.\n"
    if result["scores"] is None:
        trained = result["trained"]
        return f"{row.title}: epochs {_drawn(trained)} without labels, {trained['why']}.\n"
    return ""


def _detection_cells(row: Row, result: Result) -> Sequence[str]:
    direct, telephone = result["scores"]["direct"], result["scores"]["telephone"]
    return (
        *_head(row, result),
        _ranged(direct, "eer"),
        percent(direct.get("eer_paired")),
        percent(direct.get("eer_unseen")),
        number(direct["auc"], 3),
        number(direct["min_dcf"], 3),
        percent(telephone["eer"]),
        *_tail(row, result),
    )


def _attribution_cells(row: Row, result: Result) -> Sequence[str]:
    direct, telephone = result["scores"]["direct"], result["scores"]["telephone"]
    return (
        *_head(row, result),
        _ranged(direct, "technology"),
        percent(direct.get("generator")),
        percent(direct.get("fpr95")),
        number(direct.get("auroc"), 3),
        percent(direct.get("ood_eer")),
        percent(direct.get("eerc")),
        percent(telephone["technology"]),
        *_tail(row, result),
    )


def _head(row: Row, result: Result) -> Sequence[str]:
    cost = result["cost"]
    return (
        row.title,
        f"{result['parameters']:,}",
        f"{cost['cpu_ms_per_hop']:.2f} ({cost['ratio']:.2f} ×)",
    )


def _tail(row: Row, result: Result) -> Sequence[str]:
    trained = result["trained"]
    if trained is None:
        return ("as committed", NONE, row.reported or NONE)
    said = "yes" if trained["converged"] else "**no**"
    return (_drawn(trained), f"{said}: {trained['why']}", row.reported or NONE)


def _drawn(trained: Mapping[str, Any]) -> str:
    """How much of the recipe's training there was."""
    epochs = f"{trained['epochs']} of {trained['planned_epochs']}"
    share = trained["crops"] / trained["planned_crops"]
    if share >= 1:
        return epochs
    return f"{epochs} ({100 * share:.{0 if share >= 0.01 else 1}f} % of the crops)"


def _ranged(numbers: Mapping[str, float], key: str) -> str:
    low, high = numbers[f"{key}_low"], numbers[f"{key}_high"]
    return f"{percent(numbers[key])} [{100 * low:.0f}, {100 * high:.0f}]"
