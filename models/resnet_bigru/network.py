"""ResNet18 and a bidirectional GRU over a mel spectrogram of the whole window, bona fide or spoof.

After "Audio deepfake fraud detection system", part 1: 64 mels, ``n_fft`` 780, hop 195, decibels
with a floor 80 dB below the loudest bin, which makes it ``unit: window``. The network was to come
in part 2; part 1 says no more of it than "a pre-trained ResNet18 model with Bi-GRU". So: ResNet18
as in He et al. (CVPR 2016), in its own words here (no torchvision, no weights from elsewhere), its
maps as a sequence in time, one GRU layer each way (Cho et al. 2014). Departures: one channel and
3 s, the daemon's window (the text takes two channels, padded or cut to 4 s); the width is a
setting, 64 in ResNet18; the spectrogram may be whitened first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.cnn_lstm.features import mel_filterbank, whitening
from models.window import LEFT_CONTEXT, WINDOW_SAMPLES, WindowNetwork, graphs
from tools.section import section

__all__ = ["LEFT_CONTEXT", "ResNetBiGru", "build", "graphs"]

FFT = 780
SHIFT_SAMPLES = FFT // 4
MELS = 64
WINDOW_FRAMES = WINDOW_SAMPLES // SHIFT_SAMPLES + 1
FLOOR_DB = 80.0
"""Below the loudest bin of the window."""
_LEAST_POWER = 1e-10
_BLOCKS = (2, 2, 2, 2)
"""Residual blocks of each width: ResNet18."""


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The part of the recipe that shapes the network."""

    width: int = 64
    """Channels of the first stage, doubled in each of the other three; 64 is ResNet18 (11 million
    weights), 24 has a sixth of them."""
    hidden: int = 128
    """Of the GRU, each way."""
    dropout: float = 0.3
    whitened: bool = False
    """Whether bands lose their means over the window and are whitened, as in models/subband; the
    text gives its pre-trained ResNet18 the decibels as they are."""
    whitening_floor: float = 0.13
    """Decibels, added to the deviation of a cepstral direction before dividing by it."""


class MelDecibels(nn.Module):
    """``[batch, samples]`` -> ``[batch, frames, 64]``: torchaudio's ``MelSpectrogram``, its
    ``AmplitudeToDB(top_db=80)``, and the window's loudest bin at 0 dB.

    Frames are centred, the ends reflected. A window function that is the same from both ends lets
    the Fourier transform be two products of half the size: cosines of what is even about the
    middle of a frame, sines of what is odd. ONNX Runtime takes 2.0 ms for a window, instead of
    3.5 ms for the same as a convolution.
    """

    cosines: Tensor
    sines: Tensor
    filterbank: Tensor

    def __init__(self) -> None:
        super().__init__()
        time, bins = np.arange(FFT // 2 + 1)[:, None], np.arange(FFT // 2 + 1)
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * time / FFT)
        angles = 2 * np.pi / FFT * time * bins
        for name, values in (
            ("cosines", hann * np.cos(angles)),
            ("sines", (hann * np.sin(angles))[1:-1]),
            ("filterbank", mel_filterbank(MELS, FFT)),
        ):
            self.register_buffer(name, torch.from_numpy(np.float32(values)), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        decibels = 10.0 * torch.log10((self.power(samples) @ self.filterbank).clamp(_LEAST_POWER))
        loudest = decibels.amax(dim=(1, 2), keepdim=True)
        return (decibels - loudest).clamp(min=-FLOOR_DB)

    def power(self, samples: Tensor) -> Tensor:
        """``[batch, frames, 391]``."""
        padded = nn.functional.pad(samples[:, None], (FFT // 2, FFT // 2), mode="reflect")[:, 0]
        count = padded.shape[1] // SHIFT_SAMPLES
        blocks = padded[:, : count * SHIFT_SAMPLES].reshape(-1, count, SHIFT_SAMPLES)
        frames = torch.cat([blocks[:, part : count - 3 + part] for part in range(4)], dim=2)
        middle = FFT // 2
        left, right = frames[..., 1:middle], frames[..., middle + 1 :].flip(-1)
        even = torch.cat((frames[..., :1], left + right, frames[..., middle : middle + 1]), dim=-1)
        return (even @ self.cosines).square() + ((left - right) @ self.sines).square()


class BasicBlock(nn.Module):
    """Two convolutions beside the identity, or beside a projection where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.beside: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.beside = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(self.convolutions(maps) + self.beside(maps))


class ResNet18(nn.Module):
    """``[batch, 1, mels, frames]`` -> ``[batch, 8 width, mels / 32, frames / 32]``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(1, width, 7, 2, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        ]
        inputs = width
        for stage, count in enumerate(_BLOCKS):
            outputs = width << stage
            for block in range(count):
                layers.append(BasicBlock(inputs, outputs, 2 if stage and not block else 1))
                inputs = outputs
        # Half again as fast on a CPU with bfloat16; of no meaning to the values or the export.
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # stub

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.layers(maps.contiguous(memory_format=torch.channels_last))
        return out


class ResNetBiGru(WindowNetwork):
    """The whole system."""

    mean: Tensor
    scale: Tensor

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__(2 * settings.hidden)
        self.settings = settings
        self.mel = MelDecibels()
        self.resnet = ResNet18(settings.width)
        size = 8 * settings.width * (MELS // 32)
        self.gru = nn.GRU(size, settings.hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(settings.dropout)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("scale", torch.eye(MELS))

    def plane(self, samples: Tensor) -> Tensor:
        """``[batch, 48000]`` -> ``[batch, 247, 64]`` decibels, normalised or whitened."""
        return self._centred(self.mel(samples)) @ self.scale

    def embed(self, plane: Tensor) -> Tensor:
        """``[batch, 247, 64]`` -> ``[batch, 2 hidden]``: the last state of the GRU each way."""
        maps = self.resnet(plane.transpose(1, 2)[:, None])
        _, last = self.gru(maps.flatten(1, 2).transpose(1, 2))
        embedding: Tensor = self.dropout(torch.cat((last[0], last[1]), dim=1))
        return embedding

    def fit_statistics(self, samples: Tensor, valid: Tensor) -> None:
        """Take mean and deviation of the decibels, or their whitening, from training crops."""
        del valid
        with torch.no_grad():
            decibels = self.mel(samples)
            self.mean.copy_(decibels.mean())
            centred = self._centred(decibels).flatten(0, 1)
            if self.settings.whitened:
                self.scale.copy_(whitening(centred, self.settings.whitening_floor))
            else:
                self.scale.copy_(torch.eye(MELS) / centred.std())

    def _centred(self, decibels: Tensor) -> Tensor:
        if self.settings.whitened:
            return decibels - decibels.mean(dim=1, keepdim=True)
        return decibels - self.mean


def build(recipe: Mapping[str, Any], labels: Mapping[str, Any]) -> ResNetBiGru:
    """The untrained system of a recipe (its section ``network``); it detects, and names nothing."""
    del labels
    return ResNetBiGru(section(NetworkSettings, "network", recipe["network"]))
