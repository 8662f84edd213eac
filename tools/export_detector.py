"""Checkpoint to bundle: ``python -m tools.export_detector models/cnn_lstm/recipe.yaml --run R``.

The bundle is not calibrated yet; ``tools.calibrate`` and ``tools.evaluate`` complete it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tools.bundle_writer import BundleDraft, write_bundle
from tools.command import run
from tools.export import network_module, trained_model
from tools.training import load_checkpoint, load_recipe

VERSION = "0.1.0"
LICENCE = "Apache-2.0 (weights; trained on research data of mixed licences, see CARD.md)"


def export(recipe_file: Path, checkpoint: Path, folder: Path) -> Path:
    """Write the bundle; refuses a checkpoint that another recipe has made."""
    recipe = load_recipe(recipe_file)
    state = load_checkpoint(checkpoint, recipe)
    draft = BundleDraft(
        name=recipe["system"],
        version=VERSION,
        task="detection",
        licence=LICENCE,
        trained_on="public demonstration pages and sample sets of speech; CARD.md lists them",
        calibration={},
    )
    system = recipe["system"]
    graphs = network_module(system).graphs(trained_model(system, state))
    return write_bundle(draft, graphs, recipe, "Not evaluated yet.\n", folder)


def main(argv: Sequence[str] | None = None) -> int:
    """Export the best checkpoint of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoints")
    parser.add_argument("--out", type=Path, help="default: the folder bundle beside the recipe")
    options = parser.parse_args(argv)
    out = options.out or options.recipe.parent / "bundle"
    print(export(options.recipe, options.run / "best.pt", out))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
