"""Fits a network: batches, losses, averaging, validation, checkpoints."""

from __future__ import annotations

import copy
import importlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tools.augment.features import SpecAugmentSettings, spec_augment
from tools.bank import Bank, fill
from tools.batches import Batch, BatchMaker
from tools.confidence import SCORERS
from tools.labels import Labels
from tools.muon import muon_and_adamw
from tools.objective import Objective, Truth
from tools.section import section
from tools.training import (
    CheckpointError,
    History,
    Recipe,
    load_checkpoint,
    progress_bar,
    save_checkpoint,
    seed_everything,
)
from tools.validation import (
    Evaluation,
    attribution_errors,
    detection_errors,
    open_set_errors,
    reconstruction_errors,
)

RECONSTRUCTION = "reconstruction"
"""Task of a recipe that trains without labels: what a network of the same system begins with."""
_ERRORS: Mapping[str, Callable[[Any, Evaluation, torch.device], dict[str, float]]] = {
    "detection": detection_errors,
    "attribution": attribution_errors,
    RECONSTRUCTION: reconstruction_errors,
}
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
    optimiser: str = "adamw"
    """``adamw`` or ``muon`` (tools/muon.py)."""
    average: float = 0.0
    """Decay per step of the running average of the weights, which is what is kept; 0 is none."""
    bank: int = 0
    """Crops whose features are computed once (``tools.bank``), for a network whose features do not
    learn; 0 is fresh crops in every epoch."""
    scorers: tuple[str, ...] = ()
    """Of ``tools.confidence``: each keeps ``best_<scorer>.pt`` by its share of unknown generators
    that pass for known ones (FPR95), and the first one's is ``best.pt``."""

    def __post_init__(self) -> None:
        for scorer in self.scorers:
            if scorer not in SCORERS:
                raise ValueError(f"train.scorers: {scorer!r}: one of " + ", ".join(SCORERS))

    @property
    def kept(self) -> dict[str, str]:
        """Checkpoint, and the beginning of the columns whose mean chooses it."""
        columns = {f"best_{scorer}": f"fpr95_{scorer}_" for scorer in self.scorers}
        # All columns, so that no one of them (a few hundred clips) decides alone.
        return {"best": next(iter(columns.values()), ""), **columns}


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
        cache: Path | None = None,
    ) -> None:
        """``cache``: folder of feature banks, that of the run if there is none."""
        self.recipe = recipe
        self.settings = section(TrainSettings, "train", recipe.get("train"))
        self._objective = section(Objective, "loss", recipe.get("loss"))
        self._masks = section(
            SpecAugmentSettings, "spec_augment", recipe.get("spec_augment", {"share": 0.0})
        )
        self._errors = _ERRORS[task(recipe)]
        self._run = run
        self.batches = batches
        self._bank: Bank | None = None
        self._cache = cache or run
        self._evaluation = evaluation
        self._labels = labels
        self._device = device
        seed_everything(recipe["seed"])
        self.model: Any = build(recipe, labels).to(device)
        self.averaged: Any = copy.deepcopy(self.model) if self.settings.average else self.model
        self._optimisers = optimisers(self.model, self.settings)
        self.epoch = 0
        self._least = dict.fromkeys(self.settings.kept, math.inf)
        self._since_best = 0
        self._steps = 0
        self._started = False
        self._pretrained = False

    @property
    def best(self) -> float:
        """Least validation error, of those that choose ``best.pt``."""
        return self._least["best"]

    def start_from(self, checkpoint: Path) -> None:
        """Begin with another run of the same network, or with what its recipe is ``pretrained`` by.

        Raises CheckpointError.
        """
        state = load_checkpoint(checkpoint)
        learned, own = (_kind(recipe) for recipe in (state["recipe"], self.recipe))
        if learned != own:
            if "pretrained" not in self.recipe:
                raise CheckpointError(checkpoint, "was trained for another system")
            self.model.take_pretrained(state["model"])
            self.averaged.load_state_dict(self.model.state_dict())
            self._pretrained = True
            return
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
        for optimiser, kept in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        self.epoch, self._steps = state["epoch"], state["steps"]
        self._least = state["least"]
        self._since_best = state["since_best"]

    def fit(self) -> None:
        """Train to the last epoch or until validation has not improved for ``patience`` epochs."""
        self._run.mkdir(parents=True, exist_ok=True)
        history = History(self._run / "history.csv", first_epoch=self.epoch)
        if self.epoch == 0 and not self._started:
            self._begin()
        self._fill_bank()
        while self.epoch < self.settings.epochs and self._since_best <= self.settings.patience:
            began = time.monotonic()
            loss = self._train_epoch()
            measured = self.measure()
            errors = {
                name: float(np.mean([v for key, v in measured.items() if key.startswith(columns)]))
                for name, columns in self.settings.kept.items()
            }
            better = [name for name, error in errors.items() if error < self._least[name]]
            self._least |= {name: errors[name] for name in better}
            self._since_best = 0 if "best" in better else self._since_best + 1
            self.epoch += 1
            state = self.state(measured)
            row = {"loss": loss, **measured, "seconds": time.monotonic() - began}
            # last.pt comes last: whatever is interrupted before it is done again by a resumed run.
            for name in better:
                save_checkpoint(self._run / f"{name}.pt", state)
            history.add(self.epoch - 1, row)
            save_checkpoint(self._run / "last.pt", state)
            texts = " ".join(f"{key} {value:.4g}" for key, value in row.items())
            print(f"epoch {self.epoch}/{self.settings.epochs}: {texts}", flush=True)

    def rehearse(self, steps: int) -> tuple[float, float]:
        """Seconds of a training step and of a validation: what a budget is planned with.

        Processor time on a CPU, so that a busy machine changes nothing. The weights are spoilt.
        """
        clock = time.process_time if self._device.type == "cpu" else time.monotonic
        self.settings = replace(self.settings, crops_per_epoch=steps * self.settings.batch)
        self._fill_bank()
        began = clock()
        self._train_epoch()
        trained = clock()
        self.measure()
        return (trained - began) / steps, clock() - trained

    def state(self, measured: Mapping[str, float]) -> dict[str, Any]:
        return {
            "recipe": self.recipe,
            "labels": self._labels.plain(),
            "epoch": self.epoch,
            "steps": self._steps,
            "model": self.averaged.state_dict(),
            "training": self.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
            "least": self._least,
            "since_best": self._since_best,
            "validation": dict(measured),
        }

    def _begin(self) -> None:
        """Statistics of the features, from training crops, where nothing was learned before."""
        if "pretrained" in self.recipe and not self._pretrained:
            raise CheckpointError(
                self._run,
                f"its recipe begins with a run of {self.recipe['pretrained']}: --init its best.pt",
            )
        if not hasattr(self.model, "fit_statistics"):
            return
        rng = seed_everything(self.recipe["seed"], 1_000_000)
        made = [self.batches.make(rng) for _ in range(_STATISTICS_BATCHES)]
        hops = min(batch.valid.shape[1] for batch in made)
        # Crops of unequal length are cut to the shortest: statistics need no more.
        cut = min(batch.samples.shape[1] for batch in made)
        samples = torch.from_numpy(np.concatenate([batch.samples[:, :cut] for batch in made]))
        valid = torch.from_numpy(np.concatenate([batch.valid[:, :hops] for batch in made]))
        self.model.fit_statistics(samples.to(self._device), valid.to(self._device))
        self.averaged.load_state_dict(self.model.state_dict())

    def _fill_bank(self) -> None:
        """Once, when the frozen weights are known: by another run, or by this one resumed."""
        if self.settings.bank and self._bank is None:
            self._bank, self._evaluation = fill(
                self.averaged,
                self.batches,
                self._evaluation,
                self.settings.bank,
                seed_everything(self.recipe["seed"], 2_000_000),
                self._device,
                self._cache,
            )

    def measure(self) -> dict[str, float]:
        """Every column of the validation."""
        measured = self._errors(self.averaged, self._evaluation, self._device)
        if self.settings.scorers:
            measured |= open_set_errors(
                self.averaged, self._evaluation, self._device, self.settings.scorers
            )
        return measured

    def _train_epoch(self) -> float:
        settings = self.settings
        rng = seed_everything(self.recipe["seed"], self.epoch)
        count = max(1, settings.crops_per_epoch // settings.batch)
        if hasattr(self.model, "start_epoch"):
            self.model.start_epoch(self.epoch)
        self.model.train()
        source = self._bank or self.batches
        losses = []
        with progress_bar() as progress:
            bar = progress.add_task(f"epoch {self.epoch + 1}", total=count)
            for step, batch in enumerate(source.epoch(count, rng)):
                self._set_rate(self.epoch + step / count)
                losses.append(self._step(batch))
                progress.advance(bar)
        return float(np.mean(losses))

    def _step(self, batch: Batch) -> float:
        loss = self._loss(batch)
        self.model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        for optimiser in self._optimisers:
            optimiser.step()
        self._steps += 1
        if self.settings.average:
            self._average()
        return float(loss.detach())

    def _loss(self, batch: Batch) -> torch.Tensor:
        device = self._device
        if task(self.recipe) == RECONSTRUCTION:
            with torch.autocast(device.type, torch.bfloat16, enabled=self.settings.bf16):
                losses = self.model.reconstruction_losses(
                    torch.from_numpy(batch.samples).to(device)
                )
            mean: torch.Tensor = losses.mean()
            return mean
        valid = torch.from_numpy(batch.valid).to(device)
        truth = Truth(
            valid=valid,
            spoof=torch.from_numpy(batch.spoof).float().to(device),
            technology=torch.from_numpy(batch.technology).to(device),
            generator=torch.from_numpy(batch.generator).to(device),
            source=batch.source,
        )
        with torch.no_grad():
            features = torch.from_numpy(batch.samples).to(device)
            if self._bank is None:
                features = self.model.features(features, valid)
            if self._masks.share:
                masked = spec_augment(features.flatten(1, 2), self._masks)
                features = masked.reshape(features.shape)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.settings.bf16):
            activations = self.model.activations(features)
        return self._objective(self.model.outputs(activations.float(), valid), truth)

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
        for group in (group for each in self._optimisers for group in each.param_groups):
            group["lr"] = settings.learning_rate * min(1.0, factor)


def _kind(recipe: Recipe) -> tuple[object, object]:
    """System, and what it was trained for."""
    return recipe.get("system"), recipe.get("task")


def task(recipe: Recipe) -> str:
    """``detection``, ``attribution`` or ``reconstruction``."""
    return str(recipe["task"])


def build(recipe: Recipe, labels: Labels) -> nn.Module:
    """The untrained network of a recipe, from ``models/<system>/network.py``."""
    network = importlib.import_module(f"models.{recipe['system']}.network")
    model: nn.Module = network.build(recipe, labels.plain())
    return model


def optimisers(model: nn.Module, settings: TrainSettings) -> tuple[torch.optim.Optimizer, ...]:
    """Of the recipe's choice; raises ValueError for a name that is none."""
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimiser == "muon":
        return muon_and_adamw(model, rate, decay)
    if settings.optimiser != "adamw":
        raise ValueError(f"train.optimiser: {settings.optimiser}: adamw or muon")
    return (torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay),)
