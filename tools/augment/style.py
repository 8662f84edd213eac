"""Crops exchange what their recording does to the bands: level and spread, not the pattern in them.

MixStyle (Zhou et al., ICLR 2021) on the statistics of each band over time, as it is used against
unseen microphones in acoustic scenes (Freq-MixStyle: Schmid et al., DCASE 2022; Kim et al. 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

_LEAST_DEVIATION = 1e-3
_LARGEST_RATIO = 3.0
"""Of deviations: what hardly moves is not to be blown up, batch norms would remember it."""


@dataclass(frozen=True, slots=True)
class MixStyleSettings:
    """The section ``mix_style`` of a recipe."""

    share: float = 0.0
    """Of the crops; the others keep their own."""
    alpha: float = 0.3
    """Of the beta distribution of the weights: below 1 one of the two crops mostly prevails."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"mix_style.share: {self.share}: from 0 to 1")
        if self.alpha <= 0:
            raise ValueError(f"mix_style.alpha: {self.alpha}: above 0")


def mix_style(
    features: torch.Tensor, valid: torch.Tensor, settings: MixStyleSettings
) -> torch.Tensor:
    """``[batch, frames, bands]`` with means and deviations of the bands mixed with another crop's.

    ``valid`` ``[batch, frames]`` says which frames count; the others stay as they are. The other
    crop is any of the batch, of whichever class: a recording says nothing of the voice on it.
    """
    weights = valid[..., None].to(features.dtype)
    count = weights.sum(dim=1, keepdim=True).clamp(min=1.0)
    mean = (features * weights).sum(dim=1, keepdim=True) / count
    centred = features - mean
    variance = (centred.square() * weights).sum(dim=1, keepdim=True) / count
    deviation = variance.sqrt().clamp(min=_LEAST_DEVIATION)
    own = torch.distributions.Beta(settings.alpha, settings.alpha).sample((len(features), 1, 1))
    own = torch.where(torch.rand(len(features), 1, 1) < settings.share, own, 1.0)
    own = own.to(features)
    other = torch.randperm(len(features), device=features.device)
    mixed_mean = own * mean + (1 - own) * mean[other]
    mixed_deviation = own * deviation + (1 - own) * deviation[other]
    ratio = (mixed_deviation / deviation).clamp(1 / _LARGEST_RATIO, _LARGEST_RATIO)
    return torch.where(valid[..., None], centred * ratio + mixed_mean, features)
