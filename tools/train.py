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
from tools.auxiliary import with_auxiliary
from tools.batches import BatchMaker, attribution_shares, detection_shares
from tools.command import run
from tools.crops import Crops
from tools.data import (
    DEFAULT_SPLIT,
    AudioCache,
    Clip,
    Corpus,
    chosen_corpus,
    corpus_options,
    open_corpus,
    read_manifest,
    read_split,
)
from tools.draws import Balance
from tools.labels import Labels
from tools.section import RecipeError, section
from tools.trainer import Trainer, TrainSettings, task
from tools.training import CheckpointError, Recipe, load_recipe
from tools.validation import Evaluation

DEFAULT_CACHE = Path.home() / ".cache" / "streamguard" / "train"


def prepare(
    recipe: Recipe,
    data: Path | Corpus,
    cache: Path,
    run: Path,
    split: Path,
    copies: Path | None = None,
    device: torch.device | None = None,
    *,
    held_every: int = 1,
) -> Trainer:
    """Read the collection (a folder with a manifest), or take a corpus, and make a fresh trainer.

    ``copies`` is a folder of copy-synthesis by ``tools.corpus``, whose clips belong to the training
    sources that they were made from. ``held_every``: validate on every n-th validation clip.
    """
    detection = task(recipe) == "detection"
    roles = read_split(split)
    context: int = importlib.import_module(f"models.{recipe['system']}.network").LEFT_CONTEXT
    corpus = data if isinstance(data, Corpus) else open_corpus(str(data))
    audio = AudioCache.open(corpus.root, cache, corpus.clips)
    train = corpus.select("train", roles)
    labels = Labels.of(train, recipe)
    validation = corpus.select("validation", roles)
    auxiliary: str | None = recipe.get("auxiliary_ood")
    if auxiliary:
        train, validation = with_auxiliary(auxiliary, corpus, roles, labels)

    def wanted(clip: Clip) -> bool:
        return clip.speech and (clip.spoof or detection)

    speech = Crops([clip for clip in train if wanted(clip)], audio, context)
    held = [clip for clip in validation if wanted(clip)]
    if held_every > 1:  # of each class alike, wherever they lie in the manifest
        held = sorted(held, key=lambda clip: clip.label)[::held_every]
    copied = None
    if copies is not None:
        made = roles.select(read_manifest(copies / "manifest.csv"), "train")
        copied = Crops(made, AudioCache.open(copies, cache, made), context)
    shares_of = detection_shares if detection else attribution_shares
    shares = shares_of(speech, copied, labels, section(Balance, "balance", recipe.get("balance")))
    recordings = {
        label: [
            audio.samples(clip).astype(np.float32) / np.float32(32768.0)
            for clip in train
            if clip.label == label
        ]
        for label in ("noise", "rir")
    }
    augmenter = Augmenter(
        section(AugmentSettings, "augment", recipe.get("augment")),
        recordings["noise"],
        recordings["rir"],
    )
    settings = section(TrainSettings, "train", recipe.get("train"))
    return Trainer(
        recipe,
        run,
        BatchMaker(shares, augmenter, settings.batch, settings.hops, withhold=bool(auxiliary)),
        Evaluation.of(Crops(held, audio, context), labels, recipe["seed"]),
        labels,
        device or torch.device("cpu"),
        cache,
    )


def best_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def main(argv: Sequence[str] | None = None) -> int:
    """Train, or resume training."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tools.train")
    parser.add_argument("recipe", type=Path)
    corpus_options(parser)
    parser.add_argument("--copies", type=Path, help="copy-synthesis by tools.corpus")
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoints")
    parser.add_argument("--split", type=Path, default=DEFAULT_SPLIT)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="decoded audio")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument(
        "--init",
        type=Path,
        help="checkpoint to begin with: of the same network, or of its pre-training",
    )
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
    try:
        trainer = prepare(
            recipe,
            chosen_corpus(options),
            options.cache,
            options.run,
            options.split,
            options.copies,
            best_device(),
        )
    except RecipeError as err:
        raise CheckpointError(options.recipe, str(err)) from err
    if options.init is not None:
        trainer.start_from(options.init)
    if options.resume:
        trainer.resume()
    trainer.fit()
    print(f"best mean validation error {trainer.best:.4f}: {options.run / 'best.pt'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
