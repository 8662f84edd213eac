"""Budgets, convergence, and what makes a row another row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tools.gallery import runs
from tools.gallery.rows import Row, read_gallery
from tools.gallery.runs import (
    Material,
    fit_budget,
    judge_convergence,
    recipe_of,
    row_key,
    train_row,
    validation_errors,
)
from tools.training import Recipe

RECIPE = {"epochs": 30, "crops_per_epoch": 4096, "batch": 64, "warmup_epochs": 1}


@pytest.mark.parametrize(
    ("errors", "cut", "stopped", "converged"),
    [
        ([0.3, 0.25, 0.19, 0.19, 0.19, 0.188], False, False, True),
        ([0.3, 0.25, 0.2, 0.18, 0.16, 0.14], False, False, False),
        ([0.3, 0.25, 0.19, 0.19, 0.19, 0.188], True, False, False),
        ([0.3, 0.2, 0.21, 0.22], True, True, True),
        ([0.2, 0.2, 0.2], False, False, False),
    ],
    ids=["flat", "still falling", "flat but cut short", "out of patience", "too short to tell"],
)
def test_a_run_has_converged_if_more_epochs_would_hardly_help(
    errors: list[float], cut: bool, stopped: bool, converged: bool
) -> None:
    assert judge_convergence(errors, cut=cut, stopped=stopped)[0] is converged


def test_a_loss_is_flat_by_its_own_size() -> None:
    falling = [0.0100, 0.0090, 0.0080, 0.0070, 0.0065, 0.0060]
    assert judge_convergence(falling, cut=False, stopped=False)[0]
    converged, why = judge_convergence(falling, cut=False, stopped=False, loss=True)
    assert not converged
    assert "25.0 % better" in why


def test_a_large_budget_leaves_the_recipe_as_it_is() -> None:
    assert fit_budget(RECIPE, 0.5, 4.0, 1e6) == {
        "epochs": 30,
        "crops_per_epoch": 4096,
        "warmup_epochs": 1.0,
    }


def test_a_budget_cuts_epochs_first() -> None:
    train = fit_budget(RECIPE, 0.5, 4.0, 400.0)
    assert (train["epochs"], train["crops_per_epoch"]) == (11, 4096)


def test_a_small_budget_makes_four_short_epochs_that_fit() -> None:
    train = fit_budget(RECIPE, 0.5, 4.0, 60.0)
    assert train["epochs"] == 4
    assert 4 * (train["crops_per_epoch"] / 64 * 0.5 + 4.0) <= 60.0
    assert train["crops_per_epoch"] % 64 == 0
    assert train["warmup_epochs"] <= 1


def test_even_a_budget_below_one_validation_trains_a_step() -> None:
    assert fit_budget(RECIPE, 0.5, 40.0, 10.0)["crops_per_epoch"] == 64


def test_a_row_is_another_when_anything_it_depends_on_changes(tmp_path: Path) -> None:
    rows = read_gallery().rows
    row = next(row for row in rows if row.changes)
    first = Row("first", "First", "G", row.recipe)
    (tmp_path / "manifest.csv").write_text("path\n")
    (tmp_path / "split.yaml").write_text("sources: {}\n")
    material = Material(tmp_path, tmp_path, tmp_path / "split.yaml", torch.device("cpu"))
    known = [*rows, first]
    keys = {
        row_key(row, material, known),
        row_key(replace(row, changes={}), material, known),
        row_key(replace(row, epochs=3), material, known),
        row_key(replace(row, init="first"), material, known),
        row_key(row, replace(material, budget_minutes=2.0), known),
    }
    (tmp_path / "best.pt").write_bytes(b"weights")
    given = replace(material, given={row.name: tmp_path / "best.pt"})
    keys.add(row_key(row, given, known))
    (tmp_path / "split.yaml").write_text("sources: {a: train}\n")
    keys.add(row_key(row, material, known))
    assert len(keys) == 7
    assert row_key(replace(row, title="Other"), material, known) in keys


def test_the_mean_error_is_over_the_columns_of_validation() -> None:
    row = {"epoch": "0", "loss": "9", "eer_wide": "0.2", "eer_narrow": "0.4", "seconds": "7"}
    assert validation_errors([row]) == [pytest.approx(0.3)]
    assert validation_errors([row], "eer_narrow") == [pytest.approx(0.4)]


class _Trainer:
    """Writes the history of a run that was not worth anything."""

    def __init__(self, run: Path, bank: int) -> None:
        self.run, self.bank = run, bank

    def rehearse(self, steps: int) -> tuple[float, float]:
        return 0.01, 0.1

    def fit(self) -> None:
        lines = ["epoch,loss,fpr95_sme_direct,seconds", *(f"{i},1,0.9,1" for i in range(60))]
        (self.run / "history.csv").write_text("\n".join(lines) + "\n")


def test_a_budget_cuts_a_bank_of_features_and_the_row_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def prepare(recipe: Recipe, data: Path, cache: Path, run: Path, *_: Path, **__: object) -> Any:
        made.append(recipe["train"]["bank"])
        return _Trainer(run, made[-1])

    monkeypatch.setattr(runs, "prepare", prepare)
    row = read_gallery().named("fusion_cores")
    assert recipe_of(row)["train"]["bank"] == 4096
    material = Material(tmp_path, tmp_path, tmp_path / "s", torch.device("cpu"), budget_minutes=0.5)
    trained = train_row(row, material, tmp_path / "run", None)
    assert made == [512, 512]  # rehearsed and trained with the same
    assert trained.epochs == 60
    assert not trained.converged
    assert "a bank of 512 crops for 4,096" in trained.why

    train_row(row, replace(material, budget_minutes=60.0), tmp_path / "other", None)
    assert made[2:] == [4096, 4096]
