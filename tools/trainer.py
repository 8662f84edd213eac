"""Fits a hop network: batches, losses, averaging, validation, checkpoints."""

from __future__ import annotations

import copy
import importlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tools.augment.features import SpecAugmentSettings, spec_augment
from tools.batches import Batch, BatchMaker
from tools.labels import Labels
from tools.objective import Objective, Truth
from tools.training import (
    CheckpointError,
    History,
    Recipe,
    load_checkpoint,
    progress_bar,
    save_checkpoint,
    seed_everything,
)
from tools.validation import Evaluation, attribution_errors, detection_errors

_STATISTICS_BATCHES = 8


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """The section ``train`` of a recipe."""

    epochs: int
    crops_per_epoch: int
    batch: int
    hops: tuple[int, int]
    """Length of a crop, drawn evenly for each batch."""
    learning_rate: float
    weight_decay: float
    warmup_epochs: float
    clip_norm: float
    bf16: bool
    patience: int
    """Epochs without a better validation error before the run ends."""
    average: float = 0.0
    """Decay per step of the running average of the weights, which is what is kept; 0 is none."""


class Trainer:
    """One run. State is the model, the optimiser and the epoch; all else follows from the seed."""

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        batches: BatchMaker,
        evaluation: Evaluation,
        labels: Labels,
        device: torch.device,
    ) -> None:
        self.recipe = recipe
        self.settings = TrainSettings(**recipe["train"])
        self._objective = Objective(**recipe["loss"])
        self._masks = SpecAugmentSettings(**recipe.get("spec_augment", {"share": 0.0}))
        self._errors = attribution_errors if task(recipe) == "attribution" else detection_errors
        self._run = run
        self._batches = batches
        self._evaluation = evaluation
        self._labels = labels
        self._device = device
        seed_everything(recipe["seed"])
        self.model: Any = build(recipe, labels).to(device)
        self.averaged: Any = copy.deepcopy(self.model) if self.settings.average else self.model
        self._optimiser = torch.optim.AdamW(
            self.model.parameters(),
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
        )
        self.epoch = 0
        self.best = math.inf
        self._since_best = 0
        self._steps = 0
        self._started = False

    def start_from(self, checkpoint: Path) -> None:
        """Begin with the weights and statistics of another run of the same network."""
        state = load_checkpoint(checkpoint)
        if state["labels"] != self._labels.plain():
            raise CheckpointError(checkpoint, "was trained on other labels")
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["model"])
        self._started = True

    def resume(self) -> None:
        """Continue after the last finished epoch; raises CheckpointError."""
        state = load_checkpoint(self._run / "last.pt", self.recipe)
        self.model.load_state_dict(state["training"])
        self.averaged.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.best, self._steps = state["epoch"], state["best"], state["steps"]
        self._since_best = state["since_best"]

    def fit(self) -> None:
        """Train to the last epoch or until validation has not improved for ``patience`` epochs."""
        self._run.mkdir(parents=True, exist_ok=True)
        history = History(self._run / "history.csv", first_epoch=self.epoch)
        if self.epoch == 0 and not self._started:
            self._fit_statistics()
        while self.epoch < self.settings.epochs and self._since_best <= self.settings.patience:
            began = time.monotonic()
            loss = self._train_epoch()
            measured = self._errors(self.averaged, self._evaluation, self._device)
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
            "labels": self._labels.plain(),
            "epoch": self.epoch,
            "steps": self._steps,
            "model": self.averaged.state_dict(),
            "training": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "best": self.best,
            "since_best": self._since_best,
            "validation": dict(measured),
        }

    def _fit_statistics(self) -> None:
        rng = seed_everything(self.recipe["seed"], 1_000_000)
        made = [self._batches.make(rng) for _ in range(_STATISTICS_BATCHES)]
        hops = min(batch.valid.shape[1] for batch in made)
        # Crops of unequal length are cut to the shortest: statistics need no more.
        cut = min(batch.samples.shape[1] for batch in made)
        samples = torch.from_numpy(np.concatenate([batch.samples[:, :cut] for batch in made]))
        valid = torch.from_numpy(np.concatenate([batch.valid[:, :hops] for batch in made]))
        self.model.fit_statistics(samples.to(self._device), valid.to(self._device))
        self.averaged.load_state_dict(self.model.state_dict())

    def _train_epoch(self) -> float:
        settings = self.settings
        rng = seed_everything(self.recipe["seed"], self.epoch)
        count = max(1, settings.crops_per_epoch // settings.batch)
        self.model.train()
        losses = []
        with progress_bar() as progress:
            bar = progress.add_task(f"epoch {self.epoch + 1}", total=count)
            for step, batch in enumerate(self._batches.epoch(count, rng)):
                self._set_rate(self.epoch + step / count)
                losses.append(self._step(batch))
                progress.advance(bar)
        return float(np.mean(losses))

    def _step(self, batch: Batch) -> float:
        device = self._device
        valid = torch.from_numpy(batch.valid).to(device)
        truth = Truth(
            valid=valid,
            spoof=torch.from_numpy(batch.spoof).float().to(device),
            technology=torch.from_numpy(batch.technology).to(device),
            generator=torch.from_numpy(batch.generator).to(device),
            source=batch.source,
        )
        with torch.no_grad():
            features = self.model.features(torch.from_numpy(batch.samples).to(device), valid)
            if self._masks.share:
                masked = spec_augment(features.flatten(1, 2), self._masks)
                features = masked.reshape(features.shape)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.settings.bf16):
            activations = self.model.activations(features)
        loss = self._objective(self.model.outputs(activations.float(), valid), truth)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self._optimiser.step()
        self._steps += 1
        if self.settings.average:
            self._average()
        return float(loss.detach())

    def _average(self) -> None:
        """Move the kept weights towards the trained ones; faster at first, when these are young."""
        decay = min(self.settings.average, (1 + self._steps) / (10 + self._steps))
        with torch.no_grad():
            pairs = zip(
                self.averaged.state_dict().values(), self.model.state_dict().values(), strict=True
            )
            for kept, new in pairs:
                if kept.is_floating_point():
                    kept.lerp_(new, 1.0 - decay)
                else:
                    kept.copy_(new)

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


def task(recipe: Recipe) -> str:
    """``detection`` or ``attribution``."""
    return str(recipe["task"])


def build(recipe: Recipe, labels: Labels) -> nn.Module:
    """The untrained network of a recipe, from ``models/<system>/network.py``."""
    network = importlib.import_module(f"models.{recipe['system']}.network")
    model: nn.Module = network.build(recipe, labels.plain())
    return model
