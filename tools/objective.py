"""What a network is trained for: losses on a batch of windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tools.labels import NO_LABEL
from tools.outputs import Outputs


@dataclass(frozen=True, slots=True)
class Objective:
    """The section ``loss`` of a recipe: weights of the terms."""

    detection: float = 1.0
    """Cross-entropy of bona fide against spoof, each class half of it whatever the batch holds."""
    label_smoothing: float = 0.05
    blocks: float = 0.0
    """The same on single hops, for systems whose window is the mean of their logits."""
    pairs: float = 0.0
    """Softplus of 1 minus the score difference of every spoof and bona fide clip of one source: the
    recording condition is the same on both sides and cannot lower it."""
    technology: float = 0.0
    generator: float = 0.0
    class_smoothing: float = 0.1

    def __call__(self, outputs: Outputs, truth: Truth) -> Tensor:
        """The weighted sum; terms whose head or label is missing add nothing."""
        total = outputs.logit.new_zeros(())
        if self.detection:
            target = truth.spoof * (1 - self.label_smoothing) + self.label_smoothing / 2
            weight = class_weights(truth.spoof)
            total = total + self.detection * _binary(outputs.logit, target, weight)
            if self.blocks and outputs.blocks is not None:
                blocks = nn.functional.binary_cross_entropy_with_logits(
                    outputs.blocks, target[:, None].expand_as(outputs.blocks), reduction="none"
                )
                total = total + self.blocks * (weight * window_mean(blocks, truth.valid)).mean()
        if self.pairs:
            total = total + self.pairs * pair_loss(outputs.logit, truth)
        for share, logits, labels in (
            (self.technology, outputs.technology, truth.technology),
            (self.generator, outputs.generator, truth.generator),
        ):
            if share and logits is not None and bool((labels != NO_LABEL).any()):
                total = total + share * nn.functional.cross_entropy(
                    logits, labels, ignore_index=NO_LABEL, label_smoothing=self.class_smoothing
                )
        return total


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Labels of a batch as tensors on the network's device."""

    valid: Tensor
    spoof: Tensor
    """``[batch]`` float, 1 for spoof."""
    technology: Tensor
    generator: Tensor
    source: Sequence[str]


def class_weights(spoof: Tensor) -> Tensor:
    """``[batch]``: each class weighs half of the batch; all alike where there is only one."""
    share = spoof.mean()
    if not 0.0 < float(share) < 1.0:
        return torch.ones_like(spoof)
    return torch.where(spoof > 0, 0.5 / share, 0.5 / (1.0 - share))


def pair_loss(logit: Tensor, truth: Truth) -> Tensor:
    """Mean over the (spoof, bona fide) pairs of one source in the batch; 0 without any."""
    names = {name: number for number, name in enumerate(sorted(set(truth.source)))}
    source = torch.tensor([names[name] for name in truth.source], device=logit.device)
    pairs = (source[:, None] == source) & (truth.spoof[:, None] > 0) & (truth.spoof == 0)
    if not bool(pairs.any()):
        return logit.new_zeros(())
    return nn.functional.softplus(1.0 - (logit[:, None] - logit)[pairs]).mean()


def window_mean(values: Tensor, valid: Tensor) -> Tensor:
    """``[batch, hops]`` -> ``[batch]``, over the valid hops."""
    weight = valid.to(values.dtype)
    return (values * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)


def _binary(logit: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(logit, target, weight)
