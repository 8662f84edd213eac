"""LFCC CNN-LSTM detector, bona fide versus spoof, one 50-frame block per hop.

After Cheng et al., "Explainable AI for forensic speech authentication within cognitive and
computational neuroscience", Front. Neurosci. 19 (2025): 50 x 20 LFCC blocks, two convolutions,
pool, dropout, a third convolution, pool, batch normalisation, LSTM 64, LSTM 128, dense 256, two
classes. At a 10 ms shift a block is exactly one hop. Departures: convolutions are padded, LSTMs
keep their tanh (a ReLU LSTM has no bound and no ONNX kernel worth having), cepstral means are
removed by a causal running mean that the leg keeps as state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tools.bundle_writer import GraphSpec, StateSpec, TensorSpec
from tools.objective import window_mean
from tools.outputs import Outputs

SAMPLE_RATE_HZ = 16000
HOP_SAMPLES = 8000
FRAME_SAMPLES = 400
SHIFT_SAMPLES = 160
LEFT_CONTEXT = FRAME_SAMPLES - SHIFT_SAMPLES
BLOCK_FRAMES = HOP_SAMPLES // SHIFT_SAMPLES
EMBEDDING = 256


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The part of the recipe that shapes the network."""

    filters: int = 20
    coefficients: int = 20
    fft: int = 512
    floor: float = 1e-6
    """Added to filter energies before the logarithm: about 70 dB below full-scale speech."""
    mean_decay: float = 0.9
    """Per hop, of the running cepstral mean: a memory of about 5 s."""
    prior_frames: float = 25.0
    """Weight of the training mean in the running mean, in frames; steadies the first hop."""
    dropout: float = 0.2
    """The text's 0.5 learns too slowly under this much augmentation."""

    @property
    def state_size(self) -> int:
        return self.coefficients + 1


def linear_filterbank(filters: int, fft: int) -> npt.NDArray[np.float32]:
    """``[fft // 2 + 1, filters]``: triangles with equally spaced corners from 0 Hz to Nyquist."""
    bins = np.arange(fft // 2 + 1)
    corners = np.linspace(0.0, fft / 2, filters + 2)
    rising = (bins[:, None] - corners[None, :-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[None, 2:] - bins[:, None]) / (corners[2:] - corners[1:-1])
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)), np.float32)


def dct_matrix(filters: int, coefficients: int) -> npt.NDArray[np.float32]:
    """``[filters, coefficients]``: orthonormal DCT-II."""
    angles = np.pi / filters * (np.arange(filters)[:, None] + 0.5) * np.arange(coefficients)
    matrix = np.cos(angles) * math.sqrt(2.0 / filters)
    matrix[:, 0] /= math.sqrt(2.0)
    return np.asarray(matrix, np.float32)


class Lfcc(nn.Module):
    """Linear-frequency cepstral coefficients; the power spectrum is two matrix products.

    ``[batch, 240 + 160 n]`` samples -> ``[batch, n, coefficients]``.
    """

    fourier: Tensor
    filterbank: Tensor
    dct: Tensor

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.floor = settings.floor
        self.bins = settings.fft // 2 + 1
        time = np.arange(FRAME_SAMPLES)
        window = 0.54 - 0.46 * np.cos(2 * np.pi * time / (FRAME_SAMPLES - 1))
        angles = 2 * np.pi / settings.fft * time[:, None] * np.arange(self.bins)
        basis = np.concatenate((np.cos(angles), np.sin(angles)), axis=1) * window[:, None]
        # Normalised by the window's energy, so that the floor is a level and not a convention.
        basis /= math.sqrt(float(np.square(window).sum()))
        kernel = torch.from_numpy(basis.T.astype(np.float32)[:, None, :].copy())
        self.register_buffer("fourier", kernel, persistent=False)
        bank = torch.from_numpy(linear_filterbank(settings.filters, settings.fft))
        self.register_buffer("filterbank", bank, persistent=False)
        dct = torch.from_numpy(dct_matrix(settings.filters, settings.coefficients))
        self.register_buffer("dct", dct, persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        spectrum = nn.functional.conv1d(samples[:, None, :], self.fourier, stride=SHIFT_SAMPLES)
        squared = spectrum.square().transpose(1, 2)
        return self.of_power(squared[..., : self.bins] + squared[..., self.bins :])

    def of_power(self, power: Tensor) -> Tensor:
        """``[batch, n, fft / 2 + 1]`` power spectra -> ``[batch, n, coefficients]``."""
        return torch.log(power @ self.filterbank + self.floor) @ self.dct


class Blocks(nn.Module):
    """``[batch, 50, coefficients]`` normalised LFCC -> ``[batch, 256]`` dense activations."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(settings.dropout),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(64),
        )
        # Half again as fast on a CPU with bfloat16; of no meaning to the values or the export.
        self.convolutions.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # stub
        self.lstm_64 = nn.LSTM(64 * (settings.coefficients // 4), 64, batch_first=True)
        self.lstm_128 = nn.LSTM(64, 128, batch_first=True)
        self.dense = nn.Sequential(
            # Dropout behind the normalisation: before it, the statistics kept for inference would
            # be those of another distribution (Li et al. 2019, "variance shift").
            nn.BatchNorm1d(128),
            nn.Dropout(settings.dropout),
            nn.Linear(128, EMBEDDING),
            nn.ReLU(),
        )

    def forward(self, cepstra: Tensor) -> Tensor:
        maps = self.convolutions(cepstra[:, None])
        sequence = maps.permute(0, 2, 1, 3).flatten(2)
        hidden, _ = self.lstm_64(sequence)
        hidden, _ = self.lstm_128(hidden)
        activations: Tensor = self.dense(hidden[:, -1])
        return activations


class Detector(nn.Module):
    """The whole system; the daemon's graphs are views of it (``HopGraph``, ``HeadGraph``)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        self.lfcc = Lfcc(settings)
        self.blocks = Blocks(settings)
        self.head = nn.Linear(EMBEDDING, 2)
        self.register_buffer("mean", torch.zeros(settings.coefficients))
        self.register_buffer("deviation", torch.ones(settings.coefficients))

    def normalise(self, cepstra: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Remove the running mean, this block included; returns ``(normalised, new state)``.

        The state is the decayed sum of frames and their decayed count, zeros at first.
        """
        sums = state[:, :-1] * self.settings.mean_decay + cepstra.sum(dim=1)
        count = state[:, -1:] * self.settings.mean_decay + float(BLOCK_FRAMES)
        prior = self.settings.prior_frames
        mean = (sums + prior * self.mean) / (count + prior)
        normalised = (cepstra - mean[:, None]) / self.deviation
        return normalised, torch.cat((sums, count), dim=1)

    def features(self, samples: Tensor, valid: Tensor) -> Tensor:
        """Normalised LFCC of every hop of clips, as the hop graph sees them one after another.

        ``samples`` ``[batch, 240 + 8000 hops]``, ``valid`` ``[batch, hops]`` (bool): a hop that is
        not valid changes no state. Returns ``[batch, hops, 50, coefficients]``.
        """
        cepstra = self.lfcc(samples).unflatten(1, (valid.shape[1], BLOCK_FRAMES))
        state = samples.new_zeros(len(samples), self.settings.state_size)
        blocks = []
        for hop in range(valid.shape[1]):
            normalised, new_state = self.normalise(cepstra[:, hop], state)
            state = torch.where(valid[:, hop, None], new_state, state)
            blocks.append(normalised)
        return torch.stack(blocks, dim=1)

    def activations(self, features: Tensor) -> Tensor:
        """``[batch, hops, 50, coefficients]`` -> ``[batch, hops, 256]``."""
        activations: Tensor = self.blocks(features.flatten(0, 1))
        return activations.reshape(*features.shape[:2], EMBEDDING)

    def outputs(self, activations: Tensor, valid: Tensor) -> Outputs:
        """The window's logit is the mean of those of its valid hops."""
        blocks = self.logit(activations)
        return Outputs(logit=window_mean(blocks, valid), blocks=blocks)

    def fit_statistics(self, samples: Tensor, valid: Tensor) -> None:
        """Take mean and deviation of the coefficients from training clips (valid hops only)."""
        with torch.no_grad():
            cepstra = self.lfcc(samples).unflatten(1, (valid.shape[1], BLOCK_FRAMES))[valid]
            self.mean.copy_(cepstra.mean(dim=(0, 1)))
            self.deviation.copy_(cepstra.std(dim=(0, 1)).clamp(min=1e-3))

    def logit(self, activations: Tensor) -> Tensor:
        """``[..., 256]`` -> ``[...]``, positive for spoof."""
        classes = self.head(activations)
        difference: Tensor = classes[..., 1] - classes[..., 0]
        return difference


def build(recipe: Mapping[str, Any], labels: Mapping[str, Any]) -> Detector:
    """The untrained system of a recipe (its section ``network``); it detects, and names nothing."""
    del labels
    return Detector(NetworkSettings(**recipe["network"]))


class HopGraph(nn.Module):
    """``(samples [batch, 8240], state_in [batch, 21])`` -> ``(sums, count, state_out)``."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, samples: Tensor, state_in: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.of_cepstra(self.detector.lfcc(samples), state_in)

    def of_cepstra(self, cepstra: Tensor, state_in: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same from the features."""
        normalised, state_out = self.detector.normalise(cepstra, state_in)
        sums = self.detector.blocks(normalised)
        return sums, torch.ones_like(state_in[:, :1]), state_out


class HeadGraph(nn.Module):
    """``(sums [batch, 256], count [batch, 1])`` -> ``logit [batch, 1]``."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, sums: Tensor, count: Tensor) -> Tensor:
        return self.detector.logit(sums / torch.clamp(count, min=1.0))[:, None]


def graphs(detector: Detector) -> tuple[GraphSpec, ...]:
    """What the daemon runs."""
    detector = detector.eval()
    state = TensorSpec("state_in", (detector.settings.state_size,))
    sums = TensorSpec("sums", (EMBEDDING,), "dense activations of the block")
    count = TensorSpec("count", (1,), "blocks in the sums")
    return (
        GraphSpec(
            name="hop_fp32",
            module=HopGraph(detector),
            unit="hop",
            left_context=LEFT_CONTEXT,
            inputs=(TensorSpec("samples", (LEFT_CONTEXT + HOP_SAMPLES,)), state),
            outputs=(
                sums,
                count,
                TensorSpec("state_out", state.shape, "running sum of the LFCC, and their number"),
            ),
            state=(StateSpec("state_in", "state_out", state.shape),),
        ),
        GraphSpec(
            name="head_fp32",
            module=HeadGraph(detector),
            unit="head",
            inputs=(sums, count),
            outputs=(TensorSpec("logit", (1,), "positive for spoof"),),
        ),
    )
