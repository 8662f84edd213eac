"""The table as Markdown, and where it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tools.data import DataError
from tools.gallery.plots import draw
from tools.gallery.rows import Gallery, Row
from tools.gallery.table import markdown, marks, put_between, read_results, write_result

RECIPE = Path("recipe.yaml")
GALLERY = Gallery(
    "subband",
    (
        Row("a", "Alpha", "Group", RECIPE, reported="EER 1 %"),
        Row("b", "Beta", "Group", RECIPE),
        Row("c", "Gamma", "Group", RECIPE),
        Row("d", "Delta", "Group", RECIPE, bundle="subband"),
    ),
)
NUMBERS = {
    "eer": 0.2,
    "eer_low": 0.1,
    "eer_high": 0.3,
    "eer_paired": 0.25,
    "auc": 0.9,
    "min_dcf": 0.8,
}
ATTRIBUTION = {"technology": 0.6, "technology_low": 0.5, "technology_high": 0.7, "generator": 0.4}
COST = {"cpu_ms_per_hop": 1.234, "baseline_ms_per_hop": 2.468, "ratio": 0.5}
TRAINED = {
    "epochs": 4,
    "planned_epochs": 30,
    "crops": 1000,
    "planned_crops": 10000,
    "converged": False,
    "why": "cut short of the recipe",
}


def _done(name: str, task: str, scores: dict[str, float], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "status": "done",
        "task": task,
        "parameters": 12345,
        "cost": COST,
        "trained": TRAINED,
        "scores": {"direct": scores, "telephone": scores},
        **more,
    }


RESULTS = {
    "a": _done("a", "detection", NUMBERS),
    "b": {"name": "b", "status": "failed", "error": "ValueError: no"},
    "d": _done("d", "attribution", ATTRIBUTION, trained=None),
}


def test_a_row_says_what_was_found_what_was_reported_and_that_it_was_cut_short() -> None:
    (line,) = [x for x in markdown(GALLERY, RESULTS).splitlines() if x.startswith("| Alpha")]
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[:4] == ["Alpha", "12,345", "1.23 (0.50 ×)", "20.0 % [10, 30]"]
    assert cells[4:6] == ["25.0 %", "–"]  # no generator of these clips is unseen
    assert cells[-3:] == [
        "4 of 30 (10 % of the crops)",
        "**no**: cut short of the recipe",
        "EER 1 %",
    ]


def test_rows_without_numbers_say_why() -> None:
    text = markdown(GALLERY, RESULTS)
    assert "Beta: failed: ValueError: no." in text
    assert "Gamma: not run yet." in text


def test_an_attributor_has_a_table_of_its_own_and_a_committed_bundle_says_so() -> None:
    text = markdown(GALLERY, RESULTS)
    assert "generator accuracy" in text
    (line,) = [x for x in text.splitlines() if x.startswith("| Delta")]
    assert "as committed" in line


def test_the_table_replaces_what_stood_between_the_marks_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (begin, end), (other, other_end) = marks(), marks("another tool")
    page.write_text(f"Before.\n{begin}\nold\n{end}\nAfter.\n{other}\n{other_end}\n")
    put_between(page, "new")
    put_between(page, "newer")
    put_between(page, "its own", "another tool")
    assert page.read_text() == (
        f"Before.\n{begin}\nnewer\n{end}\nAfter.\n{other}\nits own\n{other_end}\n"
    )


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Prose.\n")
    with pytest.raises(DataError, match="must hold"):
        put_between(page, "new")


def test_results_come_back_in_the_order_of_the_table(tmp_path: Path) -> None:
    for name in ("d", "a"):
        write_result(tmp_path, RESULTS[name])
    assert list(read_results(tmp_path, GALLERY)) == ["a", "d"]
    assert read_results(tmp_path, GALLERY)["a"] == RESULTS["a"]


def test_pictures_are_small_and_drawn_for_the_tasks_that_have_rows(tmp_path: Path) -> None:
    assert draw(GALLERY, RESULTS, tmp_path) == ["detection_cost.png", "attribution_cost.png"]
    assert draw(GALLERY, {"a": RESULTS["a"]}, tmp_path) == ["detection_cost.png"]
    for name in ("detection_cost.png", "attribution_cost.png"):
        assert 5_000 < (tmp_path / name).stat().st_size < 100_000
