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
from tools.training import Recipe, load_checkpoint, load_recipe

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


def _checkpoint(folder: Path) -> Path:
    """What ``tools.train`` keeps, or ``tools.train_lava``, whose last stage is the heads."""
    heads = folder / "heads.pt"
    return heads if heads.exists() else folder / "best.pt"


def load_system(recipe_file: Path, run_folder: Path) -> tuple[Recipe, torch.nn.Module, Plain]:
    """The recipe, the trained network and its labels; refuses checkpoints of another recipe.

    A recipe with ``members`` is made of the systems that it names, which lie beside its own folder;
    the run folder then holds a run of each.
    """
    recipe = load_recipe(recipe_file)
    if "members" not in recipe:
        state = load_checkpoint(_checkpoint(run_folder), recipe)
        return recipe, trained_model(state), state["labels"]
    members = [
        load_system(recipe_file.parents[1] / name / recipe_file.name, run_folder / name)[1]
        for name in recipe["members"]
    ]
    return recipe, network_module(recipe["system"]).compose(recipe, members), {}


def export(recipe_file: Path, run_folder: Path, out: Path) -> Path:
    """Write the bundle; a head without calibration says nothing."""
    recipe, model, trained = load_system(recipe_file, run_folder)
    task = recipe.get("task", "attribution")  # LAVA's recipe is older than this key
    labels = trained if task == "attribution" else None
    draft = BundleDraft(
        name=recipe_file.parent.name,
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
