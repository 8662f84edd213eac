"""RawNet2 on the waveform of a whole window: a baseline from the literature.

After Tak, Patino, Todisco, Nautsch, Evans and Larcher, "End-to-end anti-spoofing with RawNet2",
ICASSP 2021, their first system: fixed sinc filters on the mel scale (Ravanelli and Bengio 2018),
six residual blocks, each scaled channel by channel (feature map scaling), three GRU layers, one
dense layer. Departures: 3 s, the daemon's window (the text takes 4 s); one logit in place of two
classes; it is trained as every system here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.window import LEFT_CONTEXT, WindowNetwork, graphs
from tools.section import section

__all__ = ["LEFT_CONTEXT", "RawNet2", "build", "graphs"]

SAMPLE_RATE_HZ = 16000
_POOL = 3


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The part of the recipe that shapes the network."""

    filters: int = 20
    taps: int = 1025
    """Of each sinc filter."""
    channels: tuple[int, ...] = (20, 20, 128, 128, 128, 128)
    """Of the residual blocks."""
    hidden: int = 1024
    """Of each GRU layer."""
    layers: int = 3
    dense: int = 1024


def sinc_filters(filters: int, taps: int) -> Tensor:
    """``[filters, 1, taps]``: band-passes side by side, edges evenly spaced in mel, Hamming window.

    Edges as the authors take them: the first ``filters + 1`` of ``filters + 3`` from 0 Hz to
    Nyquist, so that the highest two bands of the scale are not heard.
    """
    highest = 2595.0 * np.log10(1.0 + SAMPLE_RATE_HZ / 2 / 700.0)
    mel = np.linspace(0.0, highest, filters + 3)[: filters + 1]
    edges = 2.0 * 700.0 * (10.0 ** (mel / 2595.0) - 1.0) / SAMPLE_RATE_HZ
    time = np.arange(taps) - (taps - 1) / 2
    low_passes = edges[:, None] * np.sinc(edges[:, None] * time)
    bands = np.diff(low_passes, axis=0) * np.hamming(taps)
    return torch.from_numpy(bands.astype(np.float32)[:, None])


class Block(nn.Module):
    """Two convolutions beside the identity or a projection, pooled, then scaled by channel."""

    def __init__(self, inputs: int, outputs: int, *, first: bool) -> None:
        super().__init__()
        before: list[nn.Module] = [] if first else [nn.BatchNorm1d(inputs), nn.LeakyReLU(0.3)]
        self.convolutions = nn.Sequential(
            *before,
            nn.Conv1d(inputs, outputs, 3, padding=1),
            nn.BatchNorm1d(outputs),
            nn.LeakyReLU(0.3),
            nn.Conv1d(outputs, outputs, 3, padding=1),
        )
        self.beside = nn.Identity() if inputs == outputs else nn.Conv1d(inputs, outputs, 1)
        self.pool = nn.MaxPool1d(_POOL)
        self.scale = nn.Sequential(nn.Linear(outputs, outputs), nn.Sigmoid())

    def forward(self, maps: Tensor) -> Tensor:
        new = self.pool(self.convolutions(maps) + self.beside(maps))
        scale = self.scale(new.mean(dim=2))[:, :, None]
        scaled: Tensor = new * scale + scale
        return scaled


class RawNet2(WindowNetwork):
    """The whole system."""

    sinc: Tensor

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__(settings.dense)
        filters = sinc_filters(settings.filters, settings.taps)
        self.register_buffer("sinc", filters, persistent=False)
        self.first = nn.Sequential(nn.BatchNorm1d(settings.filters), nn.SELU())
        widths = (settings.filters, *settings.channels)
        self.blocks = nn.Sequential(
            *(
                Block(inputs, outputs, first=not number)
                for number, (inputs, outputs) in enumerate(pairwise(widths))
            )
        )
        self.last = nn.Sequential(nn.BatchNorm1d(widths[-1]), nn.SELU())
        self.gru = nn.GRU(widths[-1], settings.hidden, settings.layers, batch_first=True)
        self.dense = nn.Linear(settings.hidden, settings.dense)

    def plane(self, samples: Tensor) -> Tensor:
        """``[batch, 15658, filters]``: what the filters let through, rectified and pooled."""
        bands = nn.functional.conv1d(samples[:, None], self.sinc)
        return nn.functional.max_pool1d(bands.abs(), _POOL).transpose(1, 2)

    def embed(self, plane: Tensor) -> Tensor:
        maps = self.last(self.blocks(self.first(plane.transpose(1, 2))))
        states, _ = self.gru(maps.transpose(1, 2))
        embedding: Tensor = self.dense(states[:, -1])
        return embedding


def build(recipe: Mapping[str, Any], labels: Mapping[str, Any]) -> RawNet2:
    """The untrained system of a recipe (its section ``network``); it detects, and names nothing."""
    del labels
    network = dict(recipe["network"])
    network["channels"] = tuple(network["channels"])
    return RawNet2(section(NetworkSettings, "network", network))
