"""ASSERT's SENet34 on the log power spectrum of a whole window: a baseline from the literature.

After Lai, Chen, Villalba and Dehak, "ASSERT: Anti-Spoofing with Squeeze-Excitation and Residual
neTworks", Interspeech 2019, which fuses five systems; this is one of them: ResNet34 of 16 to 128
channels, each residual weighed channel by channel (squeeze and excitation, Hu et al. 2018), a 7 x 7
stem of stride 2, mean over the map. Departures: the map is the daemon's window (298 frames), not
400 frames of a repeated utterance; the bins lose their means over the window; one logit in place of
two classes; it is trained as every system here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.spectrum import Power, arranged, hamming
from models.window import LEFT_CONTEXT, WindowNetwork, graphs
from tools.section import section

__all__ = ["LEFT_CONTEXT", "Senet", "build", "graphs"]


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The part of the recipe that shapes the network."""

    fft: int = 512
    floor: float = 1e-6
    """Added to powers before the logarithm."""
    widths: tuple[int, ...] = (16, 32, 64, 128)
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    """Residual blocks of each width: ResNet34."""
    reduction: int = 16
    """Of the channels inside squeeze and excitation."""


class Residual(nn.Module):
    """Two convolutions, weighed by what their maps hold, beside the identity or a projection."""

    def __init__(self, inputs: int, outputs: int, stride: int, reduction: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        inner = max(1, outputs // reduction)
        self.excitation = nn.Sequential(
            nn.Linear(outputs, inner, bias=False),
            nn.ReLU(),
            nn.Linear(inner, outputs, bias=False),
            nn.Sigmoid(),
        )
        self.beside: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.beside = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, maps: Tensor) -> Tensor:
        new = self.convolutions(maps)
        weights = self.excitation(new.mean(dim=(2, 3)))[:, :, None, None]
        return torch.relu(new * weights + self.beside(maps))


class Senet(WindowNetwork):
    """The whole system."""

    by_frequency: Tensor
    deviation: Tensor

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__(settings.widths[-1])
        self.floor = settings.floor
        self.power = Power(settings.fft, hamming())
        order = arranged(np.eye(settings.fft // 2 + 1, dtype=np.float32))
        self.register_buffer("by_frequency", torch.from_numpy(order), persistent=False)
        self.register_buffer("deviation", torch.ones(()))
        layers: list[nn.Module] = [
            nn.Conv2d(1, settings.widths[0], 7, 2, 3, bias=False),
            nn.BatchNorm2d(settings.widths[0]),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        ]
        inputs = settings.widths[0]
        for outputs, count in zip(settings.widths, settings.blocks, strict=True):
            for block in range(count):
                stride = 2 if outputs != settings.widths[0] and not block else 1
                layers.append(Residual(inputs, outputs, stride, settings.reduction))
                inputs = outputs
        # Half again as fast on a CPU with bfloat16; of no meaning to the values or the export.
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # stub

    def plane(self, samples: Tensor) -> Tensor:
        """``[batch, 298, fft / 2 + 1]``, without the means of the window."""
        return self._centred(samples) / self.deviation

    def embed(self, plane: Tensor) -> Tensor:
        maps = self.layers(plane[:, None].contiguous(memory_format=torch.channels_last))
        embedding: Tensor = maps.mean(dim=(2, 3))
        return embedding

    def fit_statistics(self, samples: Tensor, valid: Tensor) -> None:
        """Take the deviation of the bins from training crops."""
        del valid
        with torch.no_grad():
            self.deviation.copy_(self._centred(samples).std())

    def _centred(self, samples: Tensor) -> Tensor:
        levels = torch.log(self.power(samples) @ self.by_frequency + self.floor)
        return levels - levels.mean(dim=1, keepdim=True)


def build(recipe: Mapping[str, Any], labels: Mapping[str, Any]) -> Senet:
    """The untrained system of a recipe (its section ``network``); it detects, and names nothing."""
    del labels
    network = dict(recipe["network"])
    for key in ("widths", "blocks"):
        network[key] = tuple(network[key])
    return Senet(section(NetworkSettings, "network", network))
