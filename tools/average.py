"""Average the weights of runs that began with the same weights: ``python -m tools.average``.

    python -m tools.average models/subband/recipe.yaml A/best.pt B/best.pt --data D --run R

Runs of one beginning that saw other crops, or were trained a little differently, mostly end in one
valley, and the middle of it errs less on unheard sources than each of them (Wortsman et al., "Model
soups", ICML 2022; Ramé et al., "Diverse weight averaging", NeurIPS 2022), at the cost of one.
``R/best.pt`` is a checkpoint of the recipe; its validation error is printed, with that of each run.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tools.command import run
from tools.data import DEFAULT_SPLIT, chosen_corpus, corpus_options
from tools.progress import track
from tools.train import DEFAULT_CACHE, prepare
from tools.training import (
    CheckpointError,
    load_checkpoint,
    load_recipe,
    save_checkpoint,
    seed_everything,
)

if TYPE_CHECKING:
    from tools.trainer import Trainer

_STATISTICS_SEED = 3_000_000
_BATCHES = 64


def mean_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Of every floating tensor the mean; of a counter the first one's. All have the same keys."""
    return {
        name: torch.stack([state[name] for state in states]).mean(dim=0)
        if first.is_floating_point()
        else first.clone()
        for name, first in states[0].items()
    }


def measure_statistics(trainer: Trainer, batches: int) -> None:
    """Give every batch norm of ``trainer.averaged`` the statistics of so many training batches.

    Those of the runs belong to other weights.
    """
    model = trainer.averaged
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean of all batches
    rng = seed_everything(trainer.recipe["seed"], _STATISTICS_SEED)
    model.train()
    with torch.no_grad():
        for batch in track(trainer.batches.epoch(batches, rng), "batch norms", batches):
            valid = torch.from_numpy(batch.valid)
            features = model.features(torch.from_numpy(batch.samples), valid)
            model.outputs(model.activations(features).float(), valid)
    model.eval()


def average(trainer: Trainer, checkpoints: Sequence[Path], batches: int) -> dict[str, float]:
    """Put the average into ``trainer.averaged``; its validation. Raises CheckpointError."""
    own = trainer.state({})
    states = [_read(path, own) for path in checkpoints]
    trainer.averaged.load_state_dict(mean_weights(states))
    measure_statistics(trainer, batches)
    trainer.model.load_state_dict(trainer.averaged.state_dict())
    return trainer.measure()


def _read(path: Path, own: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The weights of a run of the network and the labels of ``own``, a checkpoint's state."""
    state = load_checkpoint(path)
    for part in ("system", "task", "network"):
        if state["recipe"].get(part) != own["recipe"].get(part):
            raise CheckpointError(path, f"its recipe has another {part}")
    if state["labels"] != own["labels"]:
        raise CheckpointError(path, "was trained on other labels")
    validation = state["validation"]
    if validation:
        print(f"{path}: {_text(validation)}")
    weights: Mapping[str, Tensor] = state["model"]
    return weights


def _text(validation: Mapping[str, float]) -> str:
    mean = float(np.mean(list(validation.values())))
    return (
        " ".join(f"{key} {value:.4g}" for key, value in validation.items()) + f"; mean {mean:.4f}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Average checkpoints."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tools.average")
    parser.add_argument("recipe", type=Path, help="that the average is a checkpoint of")
    parser.add_argument("checkpoints", type=Path, nargs="+")
    corpus_options(parser)
    parser.add_argument("--run", type=Path, required=True, help="folder for best.pt")
    parser.add_argument("--split", type=Path, default=DEFAULT_SPLIT)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="decoded audio")
    parser.add_argument("--batches", type=int, default=_BATCHES, help="for the batch norms")
    options = parser.parse_args(argv)
    trainer = prepare(
        load_recipe(options.recipe), chosen_corpus(options), options.cache, options.run,
        options.split, device=torch.device("cpu"),
    )  # fmt: skip
    validation = average(trainer, options.checkpoints, options.batches)
    made_of = {"averaged": [str(path) for path in options.checkpoints]}
    save_checkpoint(options.run / "best.pt", trainer.state(validation) | made_of)
    print(f"{options.run / 'best.pt'}: {_text(validation)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
