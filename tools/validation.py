"""What a trainer sees of the validation sources: windows made once, scored after every epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from tools.augment import telephone
from tools.confidence import SCORERS
from tools.crops import Crops, normalised
from tools.data import paired_sources
from tools.labels import NO_LABEL, Labels
from tools.metrics import eer, fpr_at
from tools.outputs import HopNetwork, ReconstructionNetwork

if TYPE_CHECKING:
    import numpy.typing as npt

_HOPS = 6
_BATCH = 64


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """One window per clip as it is and through a telephone line, normalised and ready."""

    channels: Mapping[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]]
    """``[clips, samples]`` and ``[clips, hops]``."""
    spoof: npt.NDArray[np.bool_]
    paired: npt.NDArray[np.bool_]
    technology: npt.NDArray[np.int64]
    generator: npt.NDArray[np.int64]
    featured: bool = False
    """Whether the channels hold features in the place of samples (``tools.bank``)."""

    @classmethod
    def of(cls, crops: Crops, labels: Labels, seed: int) -> Evaluation:
        """The same for every run of a seed."""
        rng = np.random.default_rng(seed)
        wide, valid = crops.take(np.arange(len(crops.clips)), _HOPS, rng)
        narrow = telephone(wide, rng)
        paired = paired_sources(crops.clips)
        return cls(
            channels={"wide": (normalised(wide), valid), "narrow": (normalised(narrow), valid)},
            spoof=crops.spoof,
            paired=np.array([clip.source_repo in paired for clip in crops.clips], np.bool_),
            technology=np.array([labels.technology_of(clip) for clip in crops.clips], np.int64),
            generator=np.array([labels.generator_of(clip) for clip in crops.clips], np.int64),
        )


def detection_errors(
    model: HopNetwork, evaluation: Evaluation, device: torch.device
) -> dict[str, float]:
    """EER over all validation windows and over those of paired sources, per channel."""
    measured = {}
    paired = evaluation.paired
    for channel in evaluation.channels:
        scores = window_scores(model, evaluation, channel, device)["logit"]
        measured[f"eer_{channel}"] = eer(scores, evaluation.spoof)
        measured[f"eer_paired_{channel}"] = eer(scores[paired], evaluation.spoof[paired])
    return measured


def attribution_errors(
    model: HopNetwork, evaluation: Evaluation, device: torch.device
) -> dict[str, float]:
    """Mean error over the classes that the validation sources hold, per head and channel."""
    measured = {}
    for channel in evaluation.channels:
        scores = window_scores(model, evaluation, channel, device)
        for head, truth in (
            ("technology", evaluation.technology),
            ("generator", evaluation.generator),
        ):
            rows = truth != NO_LABEL
            if rows.any():
                wrong = scores[head][rows].argmax(axis=1) != truth[rows]
                classes = np.unique(truth[rows])
                measured[f"{head}_error_{channel}"] = float(
                    np.mean([wrong[truth[rows] == label].mean() for label in classes])
                )
    return measured


def open_set_errors(
    model: HopNetwork, evaluation: Evaluation, device: torch.device, scorers: Sequence[str]
) -> dict[str, float]:
    """Share of spoofs of no listed generator that pass for one where 95 % of the listed do.

    By scorer (``tools.confidence``) and channel. Raises ValueError without clips of both kinds.
    """
    known = evaluation.generator != NO_LABEL
    rows = known | evaluation.spoof
    measured = {}
    for channel in evaluation.channels:
        logits = window_scores(model, evaluation, channel, device)["generator"][rows]
        for scorer in scorers:
            measured[f"fpr95_{scorer}_{channel}"] = fpr_at(SCORERS[scorer](logits), known[rows])
    return measured


def reconstruction_errors(
    model: ReconstructionNetwork, evaluation: Evaluation, device: torch.device
) -> dict[str, float]:
    """Mean loss per channel."""
    model.eval()
    measured = {}
    for channel, (samples, _) in evaluation.channels.items():
        with torch.no_grad():
            losses = [
                model.reconstruction_losses(
                    torch.from_numpy(samples[begin : begin + _BATCH]).to(device)
                )
                for begin in range(0, len(samples), _BATCH)
            ]
        measured[f"reconstruction_{channel}"] = float(torch.cat(losses).mean())
    return measured


def window_scores(
    model: HopNetwork, evaluation: Evaluation, channel: str, device: torch.device
) -> dict[str, npt.NDArray[np.float64]]:
    """Logits of every head that the model has, and its gate, over all clips."""
    samples, valid = evaluation.channels[channel]
    found: dict[str, list[npt.NDArray[np.float64]]] = {}
    model.eval()
    with torch.no_grad():
        for begin in range(0, len(samples), _BATCH):
            rows = slice(begin, begin + _BATCH)
            mask = torch.from_numpy(valid[rows]).to(device)
            features = torch.from_numpy(samples[rows]).to(device)
            if not evaluation.featured:
                features = model.features(features, mask)
            outputs = model.outputs(model.activations(features), mask)
            for head in ("logit", "technology", "generator", "gate"):
                values = getattr(outputs, head)
                if values is not None:
                    found.setdefault(head, []).append(values.double().cpu().numpy())
    return {head: np.concatenate(parts) for head, parts in found.items()}
