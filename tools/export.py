"""Checkpoint to bundle, of either task: ``python -m tools.export RECIPE --run RUN``.

``models/<system>/network.py`` offers ``build(recipe, labels)`` and ``graphs(model)``. The bundle is
not calibrated yet, so the daemon would reject every window: ``tools.ood`` (if the head gives an
embedding), ``tools.calibrate`` and ``tools.evaluate`` complete it.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from streamguard.verdict.labels import NEVER
from tools.bundle_writer import BundleDraft, GraphSpec, Plain, read_document, write_bundle
from tools.command import run
from tools.trainer import RECONSTRUCTION
from tools.training import CheckpointError, Recipe, load_checkpoint, load_recipe

VERSION = "0.1.0"
"""Of a system whose recipe states none."""
LICENCE = (
    "Apache-2.0 for the network and its weights; trained on research speech of mixed and often "
    "unstated licences, none of which is redistributed (CARD.md lists the sources)"
)


def network_module(system: str) -> ModuleType:
    """``models.<system>.network``."""
    return importlib.import_module(f"models.{system}.network")


def trained_model(state: Mapping[str, Any]) -> torch.nn.Module:
    """The network of a checkpoint, in evaluation mode."""
    network = network_module(state["recipe"]["system"])
    model: torch.nn.Module = network.build(state["recipe"], state["labels"])
    model.load_state_dict(state["model"])
    return model.eval()


def load_system(recipe_file: Path, run_folder: Path) -> tuple[Recipe, torch.nn.Module, Plain]:
    """The recipe, the trained network and its labels; refuses checkpoints of another recipe."""
    recipe = load_recipe(recipe_file)
    state = load_checkpoint(run_folder / "best.pt", recipe)
    return recipe, trained_model(state), state["labels"]


def export(recipe_file: Path, run_folder: Path, out: Path) -> Path:
    """Write the bundle; a head without calibration says nothing."""
    recipe, model, trained = load_system(recipe_file, run_folder)
    return write_system(recipe_file.parent.name, recipe, model, trained, out)


def write_system(
    name: str, recipe: Recipe, model: torch.nn.Module, trained: Plain, out: Path
) -> Path:
    """The bundle of a trained network and the labels that it was trained on."""
    task = recipe["task"]
    if task == RECONSTRUCTION:
        reason = f"task {task}: nothing says a label yet; export what is trained on it"
        raise CheckpointError(out, reason)
    labels = trained if task == "attribution" else None
    draft = BundleDraft(
        name=name,
        version=recipe.get("version", VERSION),
        task=task,
        licence=LICENCE,
        trained_on="public demonstration pages and sample sets of speech; CARD.md lists them",
        calibration={},
        thresholds={"technology": NEVER, "generator": NEVER} if labels else {},
        technology=labels["technology"] if labels else (),
        generator=labels["generator"] if labels else (),
    )
    specs: tuple[GraphSpec, ...] = network_module(recipe["system"]).graphs(model)
    folder = write_bundle(draft, specs, recipe, "Not evaluated yet.\n", out)
    for name, graph in read_document(folder)["graphs"].items():
        size = (folder / graph["file"]).stat().st_size
        print(f"{folder}: {name} {size / 1e6:.2f} MB sha256 {graph['sha256']}")
    return folder


def main(argv: Sequence[str] | None = None) -> int:
    """Export the best checkpoint of a run."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tools.export")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoints")
    parser.add_argument("--out", type=Path, help="default: the folder bundle beside the recipe")
    options = parser.parse_args(argv)
    export(options.recipe, options.run, options.out or options.recipe.parent / "bundle")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
