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
    least: int = 0
    """If not 0, a crop gets this many to ``bin_masks`` and to ``frame_masks``, drawn evenly."""


def spec_augment(
    features: torch.Tensor, settings: SpecAugmentSettings, generator: torch.Generator | None = None
) -> torch.Tensor:
    """``[batch, frames, bins]`` with bands and stretches replaced by the mean of their crop.

    After Park et al. 2019, without the time warp. Runs on the device of the features; the
    generator, if given, must live there.
    """
    batch, frames, bins = features.shape
    chosen = _uniform((batch, 1), features, generator) < settings.share
    bin_masks, frame_masks = (
        (masks, settings.least or masks) for masks in (settings.bin_masks, settings.frame_masks)
    )
    masked_bins = _stripes(bins, bin_masks, settings.bins, features, generator)
    masked_frames = _stripes(frames, frame_masks, settings.frames, features, generator)
    masked = (masked_bins & chosen)[:, None, :] | (masked_frames & chosen)[:, :, None]
    mean = features.mean(dim=(1, 2), keepdim=True)
    return torch.where(masked, mean, features)


def _stripes(
    length: int,
    masks: tuple[int, int],
    widest: int,
    features: torch.Tensor,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """``[batch, length]``: whether a place lies in one of the stripes of its crop.

    ``masks`` are the most and the least that a crop gets.
    """
    most, least = masks
    shape = (len(features), most, 1)
    width = (_uniform(shape, features, generator) * (min(widest, length) + 1)).floor()
    begin = (_uniform(shape, features, generator) * (length - width + 1)).floor()
    place = torch.arange(length, device=features.device)
    inside = (place >= begin) & (place < begin + width)
    if least < most:
        count = least + (_uniform((len(features), 1), features, generator) * (most - least + 1))
        inside &= (torch.arange(most, device=features.device) < count.floor())[..., None]
    return inside.any(dim=1)


def _uniform(
    shape: tuple[int, ...], features: torch.Tensor, generator: torch.Generator | None
) -> torch.Tensor:
    return torch.rand(shape, generator=generator, device=features.device)


def draw_hops(rng: np.random.Generator, seconds: tuple[float, float] = (1.0, 6.0)) -> int:
    """Length of a batch's crops in hops of half a second, evenly from a range of seconds."""
    low, high = (round(value / HOP_SECONDS) for value in seconds)
    return int(rng.integers(low, high + 1))
