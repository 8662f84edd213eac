"""Train a detector: ``python -m tools.train models/cnn_lstm/recipe.yaml --data D --run R``.

A system is a folder of ``models/`` with a ``recipe.yaml`` and a ``network.py`` that offers
``build(recipe)`` and ``graphs(model)``. The run folder gets ``last.pt`` (to resume from),
``best.pt`` (best mean validation EER) and ``history.csv``. Selection sees validation sources only.
"""

from __future__ import annotations

import argparse
import importlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from tools.augment import Augmenter, AugmentSettings, telephone
from tools.command import run
from tools.crops import Balance, Crops, draw_weights, normalised
from tools.data import (
    DEFAULT_SPLIT,
    AudioCache,
    data_folder,
    paired_sources,
    read_manifest,
    read_split,
)
from tools.metrics import eer
from tools.training import (
    History,
    Recipe,
    load_checkpoint,
    load_recipe,
    progress_bar,
    save_checkpoint,
    seed_everything,
)

if TYPE_CHECKING:
    import numpy.typing as npt

DEFAULT_CACHE = Path.home() / ".cache" / "streamguard" / "train"
_STATISTICS_CLIPS = 512
_EVALUATION_HOPS = 6
_EVALUATION_BATCH = 64


class DetectorModel(Protocol):
    """What a detector's network offers the trainer, beside being a module."""

    def features(self, samples: Tensor, valid: Tensor) -> Tensor: ...
    def activations(self, features: Tensor) -> Tensor: ...
    def logit(self, activations: Tensor) -> Tensor: ...
    def fit_statistics(self, samples: Tensor, valid: Tensor) -> None: ...


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """The section ``train`` of a recipe."""

    epochs: int
    crops_per_epoch: int
    batch: int
    hops: tuple[int, int]
    learning_rate: float
    weight_decay: float
    warmup_epochs: int
    label_smoothing: float
    block_loss: float
    clip_norm: float
    bf16: bool
    patience: int


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Validation windows, normalised and ready: ``[clips, samples]`` and ``[clips, hops]``."""

    channels: Mapping[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]]
    spoof: npt.NDArray[np.bool_]
    paired: npt.NDArray[np.bool_]


class Trainer:
    """One run. State is the model, the optimiser and the epoch; all else follows from the seed."""

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        train: Crops,
        evaluation: Evaluation,
        augmenter: Augmenter,
    ) -> None:
        self.recipe = recipe
        self.settings = TrainSettings(**recipe["train"])
        self._run = run
        self._train = train
        self._evaluation = evaluation
        self._augmenter = augmenter
        self._weights = draw_weights(train.clips, Balance(**recipe["balance"]))
        seed_everything(recipe["seed"])
        self.model: Any = build(recipe)
        self._optimiser = torch.optim.AdamW(
            self.model.parameters(),
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
        )
        self.epoch = 0
        self.best = math.inf
        self._since_best = 0

    def resume(self) -> None:
        """Continue after the last finished epoch; raises CheckpointError."""
        state = load_checkpoint(self._run / "last.pt", self.recipe)
        self.model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.best = state["epoch"], state["best"]
        self._since_best = state["since_best"]

    def fit(self) -> None:
        """Train to the last epoch or until validation has not improved for ``patience`` epochs."""
        self._run.mkdir(parents=True, exist_ok=True)
        history = History(self._run / "history.csv", first_epoch=self.epoch)
        if self.epoch == 0:
            self._fit_statistics()
        while self.epoch < self.settings.epochs and self._since_best <= self.settings.patience:
            began = time.monotonic()
            loss = self._train_epoch()
            measured = validate(self.model, self._evaluation)
            # All columns, so that no one of them (a few hundred clips) decides alone.
            error = float(np.mean(list(measured.values())))
            self._since_best = 0 if error < self.best else self._since_best + 1
            self.epoch += 1
            best = error < self.best
            self.best = min(error, self.best)
            state = self._state(measured)
            row = {"loss": loss, **measured, "seconds": time.monotonic() - began}
            # last.pt comes last: whatever is interrupted before it is done again by a resumed run.
            if best:
                save_checkpoint(self._run / "best.pt", state)
            history.add(self.epoch - 1, row)
            save_checkpoint(self._run / "last.pt", state)
            texts = " ".join(f"{key} {value:.4g}" for key, value in row.items())
            print(f"epoch {self.epoch}/{self.settings.epochs}: {texts}", flush=True)

    def _state(self, measured: Mapping[str, float]) -> dict[str, Any]:
        return {
            "recipe": self.recipe,
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "best": self.best,
            "since_best": self._since_best,
            "validation": dict(measured),
        }

    def _fit_statistics(self) -> None:
        rng = seed_everything(self.recipe["seed"], 1_000_000)
        rows = rng.choice(len(self._train.clips), size=_STATISTICS_CLIPS, p=self._weights)
        samples, valid = self._train.take(rows, self.settings.hops[1], rng)
        batch = normalised(self._augmenter(samples, rng))
        self.model.fit_statistics(torch.from_numpy(batch), torch.from_numpy(valid))

    def _train_epoch(self) -> float:
        settings = self.settings
        rng = seed_everything(self.recipe["seed"], self.epoch)
        rows = rng.choice(len(self._train.clips), size=settings.crops_per_epoch, p=self._weights)
        batches = np.array_split(rows, max(1, len(rows) // settings.batch))
        self.model.train()
        losses = []
        with progress_bar() as progress:
            task = progress.add_task(f"epoch {self.epoch + 1}", total=len(batches))
            for step, chosen in enumerate(batches):
                self._set_rate(self.epoch + step / len(batches))
                losses.append(self._step(chosen, rng))
                progress.advance(task)
        return float(np.mean(losses))

    def _step(self, rows: npt.NDArray[np.int64], rng: np.random.Generator) -> float:
        settings = self.settings
        hops = int(rng.integers(settings.hops[0], settings.hops[1] + 1))
        samples, valid_hops = self._train.take(rows, hops, rng)
        batch = torch.from_numpy(normalised(self._augmenter(samples, rng)))
        valid = torch.from_numpy(valid_hops)
        with torch.no_grad():
            features = self.model.features(batch, valid)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
            activations = self.model.activations(features)
        logits = self.model.logit(activations.float())
        truth = torch.from_numpy(self._train.spoof[rows]).float()
        target = truth * (1 - settings.label_smoothing) + settings.label_smoothing / 2
        loss = nn.functional.binary_cross_entropy_with_logits(window_mean(logits, valid), target)
        blocks = nn.functional.binary_cross_entropy_with_logits(
            logits, target[:, None].expand_as(logits), reduction="none"
        )
        loss = loss + settings.block_loss * window_mean(blocks, valid).mean()
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
        nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        self._optimiser.step()
        return float(loss.detach())

    def _set_rate(self, epoch: float) -> None:
        """Linear warm-up, then half a cosine to zero."""
        settings = self.settings
        if epoch < settings.warmup_epochs:
            factor = (epoch + 0.05) / settings.warmup_epochs
        else:
            done = (epoch - settings.warmup_epochs) / (settings.epochs - settings.warmup_epochs)
            factor = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        for group in self._optimiser.param_groups:
            group["lr"] = settings.learning_rate * min(1.0, factor)


def build(recipe: Recipe) -> nn.Module:
    """The untrained network of a recipe, from ``models/<system>/network.py``."""
    network = importlib.import_module(f"models.{recipe['system']}.network")
    model: nn.Module = network.build(recipe)
    return model


def window_mean(values: Tensor, valid: Tensor) -> Tensor:
    """``[batch, hops]`` -> ``[batch]``, over the valid hops."""
    weight = valid.to(values.dtype)
    return (values * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)


def window_scores(
    model: DetectorModel, samples: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Raw window scores ``[clips]`` of a model in evaluation mode."""
    scores = []
    with torch.no_grad():
        for begin in range(0, len(samples), _EVALUATION_BATCH):
            rows = slice(begin, begin + _EVALUATION_BATCH)
            mask = torch.from_numpy(valid[rows])
            activations = model.activations(model.features(torch.from_numpy(samples[rows]), mask))
            scores.append(window_mean(model.logit(activations), mask).double().numpy())
    return np.concatenate(scores)


def validate(model: Any, evaluation: Evaluation) -> dict[str, float]:
    """EER over all validation windows and over those of paired sources, per channel."""
    model.eval()
    measured = {}
    for channel, (samples, valid) in evaluation.channels.items():
        scores = window_scores(model, samples, valid)
        paired = evaluation.paired
        measured[f"eer_{channel}"] = eer(scores, evaluation.spoof)
        measured[f"eer_paired_{channel}"] = eer(scores[paired], evaluation.spoof[paired])
    return measured


def prepare_evaluation(crops: Crops, seed: int) -> Evaluation:
    """One window per clip, as it is and through a telephone line; the same for every run."""
    rng = np.random.default_rng(seed)
    wide, valid = crops.take(np.arange(len(crops.clips)), _EVALUATION_HOPS, rng)
    narrow = telephone(wide, rng)
    paired = paired_sources(crops.clips)
    return Evaluation(
        channels={"wide": (normalised(wide), valid), "narrow": (normalised(narrow), valid)},
        spoof=crops.spoof,
        paired=np.array([clip.source_repo in paired for clip in crops.clips], np.bool_),
    )


def prepare(recipe: Recipe, data: Path, cache: Path, run: Path, split: Path) -> Trainer:
    """Read the collection and make a fresh trainer."""
    clips = read_manifest(data / "manifest.csv")
    audio = AudioCache.open(data, cache, clips)
    roles = read_split(split)
    network = importlib.import_module(f"models.{recipe['system']}.network")
    train = roles.select(clips, "train")
    speech = [clip for clip in train if clip.speech]
    held = [clip for clip in roles.select(clips, "validation") if clip.speech]
    recordings = {
        label: [
            audio.samples(clip).astype(np.float32) / np.float32(32768.0)
            for clip in train
            if clip.label == label
        ]
        for label in ("noise", "rir")
    }
    return Trainer(
        recipe,
        run,
        Crops(speech, audio, network.LEFT_CONTEXT),
        prepare_evaluation(Crops(held, audio, network.LEFT_CONTEXT), recipe["seed"]),
        Augmenter(AugmentSettings(**recipe["augment"]), recordings["noise"], recordings["rir"]),
    )


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that all command lines of the detector share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, help="folder with manifest.csv ($STREAMGUARD_DATA)")
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoints")
    parser.add_argument("--split", type=Path, default=DEFAULT_SPLIT)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="decoded audio")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train, or resume training."""
    parser = arguments(__doc__)
    parser.add_argument("--resume", action="store_true", help="continue from last.pt")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change a value of the recipe for this run",
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    overrides = {
        key: yaml.safe_load(value) for key, value in (i.split("=", 1) for i in options.set)
    }
    recipe = load_recipe(options.recipe, overrides)
    data = data_folder(options.data)
    trainer = prepare(recipe, data, options.cache, options.run, options.split)
    if options.resume:
        trainer.resume()
    trainer.fit()
    print(f"best mean validation EER {trainer.best:.4f}: {options.run / 'best.pt'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
