"""Training of the vocoder and the codec: spectral losses first, then a discriminator as well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tools.corpus.neural.networks import Discriminator, build
from tools.corpus.spectra import FLOOR, Signal, mel_filters
from tools.training import (
    History,
    load_checkpoint,
    progress_bar,
    save_checkpoint,
    seed_everything,
)

_RESOLUTIONS = ((256, 20), (512, 40), (1024, 80), (2048, 120))
"""FFT size and mel bands of each term of the spectral loss."""
_SPECTRAL, _FEATURES, _PENALTY = 15.0, 2.0, 1.0
"""Weights beside the adversarial loss, which has 1."""


class SpectralLoss(torch.nn.Module):
    """Distance of log-mel spectra at several resolutions (as in Kumar et al., 2023)."""

    def __init__(self) -> None:
        super().__init__()
        for size, mels in _RESOLUTIONS:
            filters = torch.from_numpy(mel_filters(mels, size, 0.0, 8000.0))
            self.register_buffer(f"filters_{size}", filters, persistent=False)

    def forward(self, made: Tensor, speech: Tensor) -> Tensor:
        """Mean over resolutions of the mean absolute difference, in nepers."""
        terms = []
        for size, _ in _RESOLUTIONS:
            window = torch.hann_window(size, device=speech.device)
            filters = self.get_buffer(f"filters_{size}")
            logs = [
                torch.log(
                    filters
                    @ torch.stft(audio, size, size // 4, window=window, return_complex=True)
                    .abs()
                    .clamp(min=FLOOR)
                    + FLOOR
                )
                for audio in (made, speech)
            ]
            terms.append(functional.l1_loss(logs[0], logs[1]))
        return torch.stack(terms).mean()


class Trainer:
    """One run: a folder with ``last.pt`` and ``history.csv``.

    Steps are seeded one by one: a resumed run equals one that was never interrupted.
    """

    def __init__(
        self, recipe: dict[str, Any], run: Path, speech: Sequence[Signal], device: torch.device
    ) -> None:
        settings = recipe["train"]
        self.recipe, self.run, self.device, self.step = recipe, run, device, 0
        self._speech = [clip for clip in speech if len(clip) >= settings["crop"]]
        if not self._speech:
            raise ValueError(f"no clip is as long as a crop ({settings['crop']} samples)")
        seed_everything(recipe["seed"])
        self.network = build(recipe).to(device)
        self.adversary = Discriminator(settings["adversary_channels"]).to(device)
        rate, betas = settings["learning_rate"], (0.8, 0.9)
        self._optimiser = torch.optim.AdamW(self.network.parameters(), rate, betas)
        self._adversary_optimiser = torch.optim.AdamW(self.adversary.parameters(), rate, betas)
        self._spectral = SpectralLoss().to(device)

    @property
    def checkpoint(self) -> Path:
        """Where the run stands."""
        return self.run / "last.pt"

    def resume(self) -> None:
        """Continue from ``last.pt``; raises ``CheckpointError``, also for another recipe."""
        state = load_checkpoint(self.checkpoint, self.recipe)
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.adversary.load_state_dict(state["adversary"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._adversary_optimiser.load_state_dict(state["adversary_optimiser"])

    def fit(self, until: int | None = None) -> None:
        """Train to step ``until``, or to the end of the recipe; saves as it goes."""
        settings = self.recipe["train"]
        last = min(until or settings["steps"], settings["steps"])
        self.run.mkdir(parents=True, exist_ok=True)
        # Rows are named after the step that they end with: the last one stays.
        history = History(self.run / "history.csv", self.step + 1 if self.step else 0)
        with progress_bar() as progress:
            task = progress.add_task(self.recipe["kind"], total=last, completed=self.step)
            while self.step < last:
                losses = self._train_step()
                self.step += 1
                if self.step % settings["save_every"] == 0 or self.step == last:
                    history.add(self.step, losses)
                    self._save()
                progress.update(task, advance=1)

    def _train_step(self) -> dict[str, float]:
        settings = self.recipe["train"]
        rng = seed_everything(self.recipe["seed"], self.step)
        share = self.step / settings["steps"]
        for optimiser in (self._optimiser, self._adversary_optimiser):
            for group in optimiser.param_groups:
                group["lr"] = settings["learning_rate"] * 0.5 * (1 + math.cos(math.pi * share))
        speech = self._crops(rng)
        self.network.train()
        made, penalty = self.network(speech)
        losses = {"spectral": self._spectral(made, speech), "penalty": penalty}
        total = _SPECTRAL * losses["spectral"] + _PENALTY * penalty
        if self.step >= settings["adversary_from"]:
            losses["adversary"] = self._train_adversary(made.detach(), speech)
            fooled, features = self._judge(made, speech)
            losses |= {"fooled": fooled, "features": features}
            total = total + fooled + _FEATURES * features
        self._optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimiser.step()
        return {name: float(value.detach()) for name, value in losses.items()}

    def _train_adversary(self, made: Tensor, speech: Tensor) -> Tensor:
        loss = torch.stack(
            [
                functional.relu(1 - real[-1]).mean() + functional.relu(1 + fake[-1]).mean()
                for real, fake in zip(self.adversary(speech), self.adversary(made), strict=True)
            ]
        ).mean()
        self._adversary_optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._adversary_optimiser.step()
        return loss

    def _judge(self, made: Tensor, speech: Tensor) -> tuple[Tensor, Tensor]:
        """How far the adversary is not fooled, and the distance of its features."""
        with torch.no_grad():
            wanted = self.adversary(speech)
        fooled, features = [], []
        for real, fake in zip(wanted, self.adversary(made), strict=True):
            fooled.append(functional.relu(1 - fake[-1]).mean())
            features += [
                functional.l1_loss(ours, theirs) / theirs.abs().mean().clamp(min=1e-3)
                for ours, theirs in zip(fake[:-1], real[:-1], strict=True)
            ]
        return torch.stack(fooled).mean(), torch.stack(features).mean()

    def _crops(self, rng: np.random.Generator) -> Tensor:
        """``[batch, crop]`` at a random level: a telephone's talkers are not equally loud."""
        settings = self.recipe["train"]
        size = settings["crop"]
        batch = np.empty((settings["batch"], size), np.float32)
        for row in batch:
            clip = self._speech[int(rng.integers(len(self._speech)))]
            start = int(rng.integers(len(clip) - size + 1))
            row[:] = clip[start : start + size]
            row *= 10 ** (rng.uniform(-20, 0) / 20) / max(float(np.abs(row).max()), 1e-3)
        return torch.from_numpy(batch).to(self.device)

    def _save(self) -> None:
        save_checkpoint(
            self.checkpoint,
            {
                "recipe": self.recipe,
                "step": self.step,
                "network": self.network.state_dict(),
                "adversary": self.adversary.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "adversary_optimiser": self._adversary_optimiser.state_dict(),
            },
        )
