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
    energy: float = 0.0
    """Squared hinge on the energy of the generator logits (Liu et al., NeurIPS 2020)."""
    energy_known: float = -8.0
    """Of listed generators: below this nothing is asked of them."""
    energy_unknown: float = -3.0
    """Of spoofs without a listed generator: above this nothing is asked of them."""
    gate_diversity: float = 0.0
    """Rewards a divergence between the mean gates of known and of unknown spoofs."""
    gate_entropy: float = 0.0
    """Rewards the entropy of each window's gate."""

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
        known = truth.generator != NO_LABEL
        unknown = (truth.spoof > 0) & ~known
        if self.energy and outputs.generator is not None:
            energies = -torch.logsumexp(outputs.generator, dim=1)
            above = nn.functional.relu(energies - self.energy_known).square()
            below = nn.functional.relu(self.energy_unknown - energies).square()
            total = total + self.energy * (_mean(above, known) + _mean(below, unknown))
        if outputs.gate is not None:
            if self.gate_diversity and bool(known.any()) and bool(unknown.any()):
                total = total - self.gate_diversity * gate_divergence(outputs.gate, known, unknown)
            if self.gate_entropy:
                total = total - self.gate_entropy * torch.special.entr(outputs.gate).sum(1).mean()
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


def gate_divergence(gate: Tensor, known: Tensor, unknown: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the mean gate of the unknown from that of the known."""
    expected, other = gate[known].mean(dim=0), gate[unknown].mean(dim=0)
    return (expected * (expected / other).log()).sum()


def _mean(values: Tensor, rows: Tensor) -> Tensor:
    """Over these rows; 0 without any."""
    return values[rows].mean() if bool(rows.any()) else values.new_zeros(())


def window_mean(values: Tensor, valid: Tensor) -> Tensor:
    """``[batch, hops]`` -> ``[batch]``, over the valid hops."""
    weight = valid.to(values.dtype)
    return (values * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)


def _binary(logit: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(logit, target, weight)
