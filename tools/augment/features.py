"""What is done to features, not samples, and how long a crop is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from streamguard.clock import HOP_SECONDS

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class SpecAugmentSettings:
    """The section ``spec_augment`` of a recipe; widths are drawn evenly from 0 to these."""

    share: float = 0.5
    """Of the crops; the others stay whole."""
    bin_masks: int = 2
    bins: int = 8
    frame_masks: int = 2
    frames: int = 20


def spec_augment(
    features: torch.Tensor, settings: SpecAugmentSettings, generator: torch.Generator | None = None
) -> torch.Tensor:
    """``[batch, frames, bins]`` with bands and stretches replaced by the mean of their crop.

    After Park et al. 2019, without the time warp. Runs on the device of the features; the
    generator, if given, must live there.
    """
    batch, frames, bins = features.shape
    chosen = _uniform((batch, 1), features, generator) < settings.share
    masked_bins = _stripes(bins, settings.bin_masks, settings.bins, features, generator)
    masked_frames = _stripes(frames, settings.frame_masks, settings.frames, features, generator)
    masked = (masked_bins & chosen)[:, None, :] | (masked_frames & chosen)[:, :, None]
    mean = features.mean(dim=(1, 2), keepdim=True)
    return torch.where(masked, mean, features)


def _stripes(
    length: int,
    masks: int,
    widest: int,
    features: torch.Tensor,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """``[batch, length]``: whether a place lies in one of the stripes of its crop."""
    shape = (len(features), masks, 1)
    width = (_uniform(shape, features, generator) * (min(widest, length) + 1)).floor()
    begin = (_uniform(shape, features, generator) * (length - width + 1)).floor()
    place = torch.arange(length, device=features.device)
    return ((place >= begin) & (place < begin + width)).any(dim=1)


def _uniform(
    shape: tuple[int, ...], features: torch.Tensor, generator: torch.Generator | None
) -> torch.Tensor:
    return torch.rand(shape, generator=generator, device=features.device)


def draw_hops(rng: np.random.Generator, seconds: tuple[float, float] = (1.0, 6.0)) -> int:
    """Length of a batch's crops in hops of half a second, evenly from a range of seconds."""
    low, high = (round(value / HOP_SECONDS) for value in seconds)
    return int(rng.integers(low, high + 1))
