"""What every trainer shares: recipes, seeds, atomic checkpoints, history, progress."""

from __future__ import annotations

import csv
import hashlib
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from streamguard.errors import StreamguardError
from tools.progress import progress_bar, track

__all__ = [
    "CheckpointError",
    "History",
    "Recipe",
    "load_checkpoint",
    "load_recipe",
    "progress_bar",
    "recipe_sha256",
    "save_checkpoint",
    "seed_everything",
    "track",
]

Recipe = dict[str, Any]
"""As written in ``recipe.yaml``: plain values only, so that it travels in a checkpoint."""


class CheckpointError(StreamguardError):
    """A checkpoint cannot be read, or belongs to another recipe."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


def load_recipe(path: Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe; ``overrides`` maps ``section.key`` to a value and must name existing keys.

    A recipe that ``extends`` a file beside it is that one with its own values in place or on top;
    what results is a recipe like any other.
    """
    recipe = _read_recipe(path)
    if "extends" in recipe:
        own, recipe = recipe, _read_recipe(path.parent / str(recipe["extends"]))
        for section, values in own.items():
            if section == "extends":
                continue
            both = isinstance(values, dict) and isinstance(recipe.get(section), dict)
            recipe[section] = {**recipe[section], **values} if both else values
        if "extends" in recipe:
            raise CheckpointError(path, "extends: a recipe that extends none itself")
    for dotted, value in (overrides or {}).items():
        *sections, key = dotted.split(".")
        place = recipe
        for section in sections:
            place = place.get(section, {}) if isinstance(place, dict) else {}
        if not isinstance(place, dict) or key not in place:
            raise CheckpointError(path, f"no key {dotted} to override")
        place[key] = value
    return recipe


def _read_recipe(path: Path) -> Recipe:
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as err:
        raise CheckpointError(path, f"not a readable recipe ({err})") from err
    if not isinstance(recipe, dict):
        raise CheckpointError(path, "a recipe is a mapping of sections")
    return recipe


def recipe_sha256(recipe: Recipe) -> str:
    """Hash of the recipe's values, independent of comments and key order."""
    return hashlib.sha256(yaml.safe_dump(recipe, sort_keys=True).encode()).hexdigest()


def seed_everything(*parts: int) -> np.random.Generator:
    """Seed Python, numpy and torch from the parts (seed, epoch, ...); returns a numpy generator.

    Seeding anew at every epoch makes a resumed run equal to one that was never interrupted.
    """
    sequence = np.random.SeedSequence(parts)
    low, high = (int(word) for word in sequence.generate_state(2))
    random.seed(low)
    np.random.seed(low)
    torch.manual_seed(low << 31 ^ high)
    return np.random.default_rng(sequence)


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values atomically: ``*.tmp`` beside it, flushed, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as stream:
        torch.save(dict(state), stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def load_checkpoint(path: Path, recipe: Recipe | None = None) -> dict[str, Any]:
    """Read a checkpoint without unpickling code; with ``recipe``, refuse one of another recipe."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as err:
        raise CheckpointError(path, "no such checkpoint") from err
    except Exception as err:  # torch raises a dozen kinds for bytes that are no checkpoint
        raise CheckpointError(path, f"not a checkpoint ({type(err).__name__})") from err
    if not isinstance(state, dict):
        raise CheckpointError(path, "a checkpoint is a mapping")
    if recipe is not None and recipe_sha256(state.get("recipe", {})) != recipe_sha256(recipe):
        raise CheckpointError(path, "was made with another recipe; choose another run folder")
    return state


class History:
    """One CSV row per epoch; rows of epochs that a resumed run repeats are dropped."""

    def __init__(self, path: Path, first_epoch: int = 0) -> None:
        self._path = path
        self._rows: list[dict[str, str]] = []
        if path.exists() and first_epoch:
            with path.open(newline="", encoding="utf-8") as stream:
                self._rows = [
                    row for row in csv.DictReader(stream) if int(row["epoch"]) < first_epoch
                ]

    def add(self, epoch: int, values: Mapping[str, float | int | str]) -> None:
        """Append a row and rewrite the file atomically."""
        row = {"epoch": str(epoch)}
        for key, value in values.items():
            row[key] = f"{value:.6g}" if isinstance(value, float) else str(value)
        self._rows.append(row)
        names = list(dict.fromkeys(name for entry in self._rows for name in entry))
        temporary = self._path.with_name(self._path.name + ".tmp")
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, names)
            writer.writeheader()
            writer.writerows(self._rows)
        temporary.replace(self._path)
