"""Trains a row with the one trainer, within a budget if there is one, and says how far it came."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tools.bundle_writer import sha256_of
from tools.export import trained_model, write_system
from tools.gallery.rows import Row
from tools.section import section
from tools.train import prepare
from tools.trainer import RECONSTRUCTION, TrainSettings
from tools.training import Recipe, load_checkpoint, load_recipe, recipe_sha256

FLAT = 0.005
"""Improvement of the mean validation error (a share) that is none."""
FLAT_LOSS = 0.01
"""The same of a loss, as a share of it."""
_FEWEST_EPOCHS = 4
"""Of a budget: fewer say nothing of convergence."""
_HELD_EVERY = 4
"""With a budget every so many validation clips judge an epoch: half of it would go there else."""
_REHEARSED_STEPS = 6
_BANK_PER_MINUTE = 1024
"""Crops of a budget's bank of features, whatever the machine: rows share it."""
_PLAN = "plan.json"
_BEFOREHAND = "trained beforehand"


@dataclass(frozen=True, slots=True)
class Material:
    """What every row is trained on, and where."""

    data: Path
    cache: Path
    split: Path
    device: torch.device
    budget_minutes: float | None = None
    """Of processor time on a CPU, of the clock on a GPU; None for the recipe's epochs."""
    given: Mapping[str, Path] = field(default_factory=dict)
    """Checkpoints of rows that were trained beforehand; without ``history.csv`` beside one nobody
    knows whether it had converged."""


@dataclass(frozen=True, slots=True)
class Trained:
    """How a row was trained."""

    epochs: int
    planned_epochs: int
    """Of the recipe, or of the row."""
    crops: int
    """Drawn over all epochs."""
    planned_crops: int
    best_epoch: int
    converged: bool
    why: str
    seconds: float
    """Of the clock, over all epochs with their validation."""
    device: str


def recipe_of(row: Row) -> Recipe:
    """The recipe with the row's changes. Raises CheckpointError."""
    changes = dict(row.changes)
    if row.epochs is not None:
        changes["train.epochs"] = row.epochs
    return load_recipe(row.recipe, changes)


def row_key(row: Row, material: Material, rows: Sequence[Row]) -> str:
    """Hash of all that a result depends on: recipe with changes, split, data, budget, beginning."""
    if row.name in material.given:
        return sha256_of(material.given[row.name])[:16]
    parts: dict[str, Any] = {
        "recipe": recipe_sha256(recipe_of(row)),
        "split": sha256_of(material.split),
        "manifest": sha256_of(material.data / "manifest.csv"),
        "budget": material.budget_minutes,
    }
    if row.init is not None:
        first = next(other for other in rows if other.name == row.init)
        parts["init"] = row_key(first, material, rows)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def train_row(row: Row, material: Material, run: Path, init: Path | None) -> Trained:
    """Train, or go on from the last finished epoch. Raises CheckpointError, DataError."""
    wanted = recipe_of(row)
    recipe = _planned(row, wanted, material, run, init)
    trainer = prepare(
        recipe,
        material.data,
        material.cache,
        run,
        material.split,
        device=material.device,
        held_every=_HELD_EVERY if material.budget_minutes else 1,
    )
    if (run / "last.pt").exists():
        trainer.resume()
    elif init is not None:
        trainer.start_from(init)
    trainer.fit()
    return _summary(run, recipe, wanted, _device_name(material.device))


def trained_before(row: Row, checkpoint: Path) -> Trained:
    """The same of a run that lies there finished, held against the row's recipe as well.

    Raises CheckpointError.
    """
    state = load_checkpoint(checkpoint)
    recipe = state["recipe"]
    if not (checkpoint.parent / "history.csv").is_file():
        wanted = recipe_of(row)
        return Trained(
            epochs=state["epoch"],
            planned_epochs=wanted["train"]["epochs"],
            crops=state["epoch"] * recipe["train"]["crops_per_epoch"],
            planned_crops=_crops(wanted),
            best_epoch=state["epoch"],
            converged=False,
            why="trained beforehand, and how it went was not kept",
            seconds=0.0,
            device=_BEFOREHAND,
        )
    return _summary(checkpoint.parent, recipe, recipe_of(row), _BEFOREHAND)


def _summary(run: Path, recipe: Recipe, wanted: Recipe, device: str) -> Trained:
    rows = read_history(run / "history.csv")
    errors = validation_errors(
        rows, section(TrainSettings, "train", recipe.get("train")).kept["best"]
    )
    bank, planned_bank = _bank(recipe), _bank(wanted)
    converged, why = judge_convergence(
        errors,
        cut=_crops(recipe) < _crops(wanted) or bank < planned_bank,
        stopped=len(rows) < recipe["train"]["epochs"],
        loss=recipe["task"] == RECONSTRUCTION,
    )
    if bank < planned_bank:
        why += f", a bank of {bank:,} crops for {planned_bank:,}"
    return Trained(
        epochs=len(rows),
        planned_epochs=wanted["train"]["epochs"],
        crops=len(rows) * recipe["train"]["crops_per_epoch"],
        planned_crops=_crops(wanted),
        best_epoch=1 + min(range(len(errors)), key=errors.__getitem__),
        converged=converged,
        why=why,
        seconds=sum(float(entry["seconds"]) for entry in rows),
        device=device,
    )


def judge_convergence(
    errors: Sequence[float], *, cut: bool, stopped: bool, loss: bool = False
) -> tuple[bool, str]:
    """Whether more epochs would hardly have helped, and why we say so.

    ``errors``: mean validation error by epoch; ``cut``: fewer crops were drawn than the recipe
    says; ``stopped``: the patience of the recipe was used up; ``loss``: errors are no rates. A run
    that was cut has not converged even if it is flat: its learning rate went to zero early.
    """
    if stopped:
        return True, "no better epoch within the patience of the recipe"
    if cut:
        return False, "cut short of the recipe"
    tail = max(3, len(errors) // 3)
    if len(errors) < 2 * tail:
        return False, f"{len(errors)} epochs are too few to tell"
    gain = min(errors[:-tail]) - min(errors[-tail:])
    if loss:
        gain /= min(errors[:-tail])
    if gain < (FLAT_LOSS if loss else FLAT):
        return True, f"validation flat over the last {tail} epochs"
    unit = "%" if loss else "points"
    return False, f"still {100 * gain:.1f} {unit} better over the last {tail} epochs"


def read_history(path: Path) -> list[dict[str, str]]:
    """Rows of ``history.csv``."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def validation_errors(rows: Sequence[Mapping[str, str]], column: str = "") -> list[float]:
    """Mean over the columns of validation that the trainer selects by: those that begin so."""
    return [
        _mean(
            [
                float(value)
                for key, value in row.items()
                if key not in _NOT_VALIDATION and key.startswith(column)
            ]
        )
        for row in rows
    ]


def export_row(name: str, checkpoint: Path, out: Path) -> Path | None:
    """The bundle of a checkpoint, not calibrated; None for one that learned no labels."""
    state = load_checkpoint(checkpoint)
    recipe = state["recipe"]
    if recipe["task"] == RECONSTRUCTION:
        return None
    return write_system(name, recipe, trained_model(state), state["labels"], out)


_NOT_VALIDATION = frozenset(("epoch", "loss", "seconds"))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _crops(recipe: Recipe) -> int:
    return int(recipe["train"]["epochs"] * recipe["train"]["crops_per_epoch"])


def _bank(recipe: Recipe) -> int:
    return int(recipe["train"].get("bank", 0))


def _planned(row: Row, recipe: Recipe, material: Material, run: Path, init: Path | None) -> Recipe:
    """The recipe with as many epochs as the budget has room for; the plan is kept in the run."""
    if material.budget_minutes is None:
        return recipe
    plan = run / _PLAN
    if bank := _bank(recipe):  # to fill it costs more than the training does
        smaller = max(recipe["train"]["batch"], round(_BANK_PER_MINUTE * material.budget_minutes))
        recipe = {**recipe, "train": {**recipe["train"], "bank": min(bank, smaller)}}
    if not plan.exists():
        with tempfile.TemporaryDirectory() as scratch:
            trainer = prepare(
                recipe,
                material.data,
                material.cache,
                Path(scratch),
                material.split,
                device=material.device,
                held_every=_HELD_EVERY,
            )
            if init is not None:
                trainer.start_from(init)
            step_s, validation_s = trainer.rehearse(_REHEARSED_STEPS)
        run.mkdir(parents=True, exist_ok=True)
        train = fit_budget(recipe["train"], step_s, validation_s, 60.0 * material.budget_minutes)
        plan.write_text(json.dumps(train), encoding="utf-8")
    return {**recipe, "train": {**recipe["train"], **json.loads(plan.read_text("utf-8"))}}


def fit_budget(
    train: Mapping[str, Any], step_s: float, validation_s: float, budget_s: float
) -> dict[str, Any]:
    """``epochs``, ``crops_per_epoch`` and ``warmup_epochs`` that take about so long.

    Fewer epochs of the recipe's size; where there is no room for four of these, four smaller ones.
    The schedule of the learning rate runs to its end all the same.
    """
    batch, crops = int(train["batch"]), int(train["crops_per_epoch"])
    epoch_s = crops / batch * step_s + validation_s
    epochs = min(int(train["epochs"]), int(budget_s / epoch_s))
    fewest = min(_FEWEST_EPOCHS, int(train["epochs"]))
    if epochs < fewest:
        epochs = fewest
        steps = max(1, math.floor((budget_s / epochs - validation_s) / step_s))
        crops = min(crops, steps * batch)
    warmup = min(float(train["warmup_epochs"]), epochs / 4)
    return {"epochs": epochs, "crops_per_epoch": crops, "warmup_epochs": warmup}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, one thread"
