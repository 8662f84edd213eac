"""Train a system: ``python -m tools.train models/subband/recipe.yaml --data D --run R``.

A system is a folder of ``models/`` with a recipe and a ``network.py`` that offers
``LEFT_CONTEXT``, ``build(recipe, labels)`` and ``graphs(model)``. The run folder gets ``last.pt``
(to resume from), ``best.pt`` (least mean validation error) and ``history.csv``. Selection sees
validation sources only. Uses a GPU where there is one.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import yaml

from tools.augment import Augmenter, AugmentSettings
from tools.batches import BatchMaker, attribution_shares, detection_shares
from tools.command import run
from tools.crops import Crops
from tools.data import (
    DEFAULT_SPLIT,
    AudioCache,
    Clip,
    data_folder,
    read_manifest,
    read_split,
)
from tools.draws import Balance
from tools.labels import Labels
from tools.trainer import Trainer, task
from tools.training import Recipe, load_recipe
from tools.validation import Evaluation

DEFAULT_CACHE = Path.home() / ".cache" / "streamguard" / "train"


def prepare(
    recipe: Recipe,
    data: Path,
    cache: Path,
    run: Path,
    split: Path,
    copies: Path | None = None,
    device: torch.device | None = None,
) -> Trainer:
    """Read the collection and make a fresh trainer.

    ``copies`` is a folder of copy-synthesis by ``tools.corpus``, whose clips belong to the training
    sources that they were made from.
    """
    attribution = task(recipe) == "attribution"
    roles = read_split(split)
    context: int = importlib.import_module(f"models.{recipe['system']}.network").LEFT_CONTEXT
    clips = read_manifest(data / "manifest.csv")
    audio = AudioCache.open(data, cache, clips)
    train = roles.select(clips, "train")
    labels = Labels.of(train, recipe)

    def wanted(clip: Clip) -> bool:
        return clip.speech and (clip.spoof or not attribution)

    speech = Crops([clip for clip in train if wanted(clip)], audio, context)
    held = [clip for clip in roles.select(clips, "validation") if wanted(clip)]
    copied = None
    if copies is not None:
        made = roles.select(read_manifest(copies / "manifest.csv"), "train")
        copied = Crops(made, AudioCache.open(copies, cache, made), context)
    shares_of = attribution_shares if attribution else detection_shares
    shares = shares_of(speech, copied, labels, Balance(**recipe["balance"]))
    recordings = {
        label: [
            audio.samples(clip).astype(np.float32) / np.float32(32768.0)
            for clip in train
            if clip.label == label
        ]
        for label in ("noise", "rir")
    }
    augmenter = Augmenter(
        AugmentSettings(**recipe["augment"]), recordings["noise"], recordings["rir"]
    )
    settings = recipe["train"]
    return Trainer(
        recipe,
        run,
        BatchMaker(shares, augmenter, settings["batch"], tuple(settings["hops"])),
        Evaluation.of(Crops(held, audio, context), labels, recipe["seed"]),
        labels,
        device or torch.device("cpu"),
    )


def best_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def main(argv: Sequence[str] | None = None) -> int:
    """Train, or resume training."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tools.train")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, help="folder with manifest.csv ($STREAMGUARD_DATA)")
    parser.add_argument("--copies", type=Path, help="copy-synthesis by tools.corpus")
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoints")
    parser.add_argument("--split", type=Path, default=DEFAULT_SPLIT)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="decoded audio")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--init", type=Path, help="checkpoint to begin with, of the same network")
    parser.add_argument("--resume", action="store_true", help="continue from last.pt")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change a value of the recipe for this run",
    )
    options = parser.parse_args(argv)
    for change in options.set:
        if "=" not in change:
            parser.error(f"--set: {change}: SECTION.KEY=VALUE")
    torch.set_num_threads(options.threads)
    overrides = {
        key: yaml.safe_load(value) for key, value in (i.split("=", 1) for i in options.set)
    }
    recipe = load_recipe(options.recipe, overrides)
    trainer = prepare(
        recipe,
        data_folder(options.data),
        options.cache,
        options.run,
        options.split,
        options.copies,
        best_device(),
    )
    if options.init is not None:
        trainer.start_from(options.init)
    if options.resume:
        trainer.resume()
    trainer.fit()
    print(f"best mean validation error {trainer.best:.4f}: {options.run / 'best.pt'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
