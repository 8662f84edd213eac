"""Networks that make speech: a vocoder in the manner of Vocos, and a codec that shares its decoder.

Siuzdak, "Vocos", 2024 (ConvNeXt blocks, inverse Fourier head); Kumar et al., "High-fidelity audio
compression with improved RVQGAN", 2023 (factorised, normalised codes). Audio is float32
``[batch, samples]`` at 16 kHz, full scale 1.0; features are ``[batch, channels, frames]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.corpus.spectra import FLOOR, mel_filters


class Resynthesis(NamedTuple):
    """What a network makes of speech."""

    speech: Tensor
    """As long as its input."""
    penalty: Tensor
    """Of the quantiser: added to the loss; zero for a vocoder."""


class ConvNeXt(nn.Module):
    """A residual block over time: depthwise convolution, then a perceptron for each frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.wide = nn.Linear(channels, 3 * channels)
        self.narrow = nn.Linear(3 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, features: Tensor) -> Tensor:
        inner = self.norm(self.depthwise(features).transpose(1, 2))
        inner = self.scale * self.narrow(functional.gelu(self.wide(inner)))
        mixed: Tensor = features + inner.transpose(1, 2)
        return mixed


class SpectralDecoder(nn.Module):
    """Features to speech: blocks, then magnitude and phase of each frame, then the inverse STFT."""

    def __init__(self, inputs: int, channels: int, depth: int, size: int, hop: int) -> None:
        super().__init__()
        self.size, self.hop = size, hop
        self.embed = nn.Conv1d(inputs, channels, 7, padding=3)
        self.blocks = nn.Sequential(*(ConvNeXt(channels) for _ in range(depth)))
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, size + 2)
        self.register_buffer("window", torch.hann_window(size), persistent=False)

    def forward(self, features: Tensor, length: int) -> Tensor:
        """``[batch, length]``; needs ``length // hop + 1`` frames."""
        frames = self.norm(self.blocks(self.embed(features)).transpose(1, 2))
        log_magnitude, phase = self.head(frames).transpose(1, 2).chunk(2, dim=1)
        # The cap is far above full scale: an untrained head must not overflow.
        magnitude = torch.exp(log_magnitude.clamp(max=8.0))
        spectra = torch.polar(magnitude, phase)
        return torch.istft(
            spectra, self.size, self.hop, window=self.get_buffer("window"), length=length
        )


class Vocoder(nn.Module):
    """Speech from its own mel spectrogram."""

    def __init__(self, mels: int, channels: int, depth: int, size: int, hop: int) -> None:
        super().__init__()
        self.decoder = SpectralDecoder(mels, channels, depth, size, hop)
        filters = torch.from_numpy(mel_filters(mels, size, 0.0, 8000.0))
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, speech: Tensor) -> Resynthesis:
        decoder = self.decoder
        spectra = torch.stft(
            speech,
            decoder.size,
            decoder.hop,
            window=decoder.get_buffer("window"),
            return_complex=True,
        )
        mel = torch.log(self.get_buffer("filters") @ spectra.abs() + FLOOR)
        return Resynthesis(decoder(mel, speech.shape[1]), speech.new_zeros(()))


class ResidualCodes(nn.Module):
    """Residual vector quantisation with straight-through gradients.

    Each stage projects to a few dimensions and looks the direction up: small, normalised codes are
    all used, without tricks. In training the number of stages is drawn, so that every prefix works.
    """

    def __init__(self, channels: int, stages: int, words: int, width: int) -> None:
        super().__init__()
        self.inward = nn.ModuleList(nn.Linear(channels, width) for _ in range(stages))
        self.books = nn.ParameterList(torch.randn(words, width) for _ in range(stages))
        self.outward = nn.ModuleList(nn.Linear(width, channels) for _ in range(stages))

    def forward(self, features: Tensor, stages: int) -> tuple[Tensor, Tensor]:
        """The features after ``stages`` stages, and the penalty."""
        left = features.transpose(1, 2)
        total = torch.zeros_like(left)
        penalty = features.new_zeros(())
        for stage in range(stages):
            small = functional.normalize(self.inward[stage](left), dim=-1)
            words = functional.normalize(self.books[stage], dim=-1)
            found = words[(small @ words.T).argmax(dim=-1)]
            penalty = penalty + functional.mse_loss(found, small.detach())
            penalty = penalty + 0.25 * functional.mse_loss(small, found.detach())
            coded = self.outward[stage](small + (found - small).detach())
            total, left = total + coded, left - coded
        return total.transpose(1, 2), penalty


class Codec(nn.Module):
    """Strided convolutions on the waveform, residual codes, and the vocoder's decoder."""

    def __init__(
        self,
        channels: int,
        depth: int,
        size: int,
        strides: tuple[int, ...],
        stages: int,
        words: int,
        width: int,
    ) -> None:
        super().__init__()
        self.hop = int(torch.tensor(strides).prod())
        self.stages = stages
        layers: list[nn.Module] = []
        before = 1
        for index, stride in enumerate(strides):
            after = channels // 2 ** (len(strides) - 1 - index)
            layers += [nn.Conv1d(before, after, 2 * stride, stride, padding=stride), nn.GELU()]
            before = after
        self.encoder = nn.Sequential(*layers, ConvNeXt(channels), ConvNeXt(channels))
        self.codes = ResidualCodes(channels, stages, words, width)
        self.decoder = SpectralDecoder(channels, channels, depth, size, self.hop)

    def forward(self, speech: Tensor, stages: int | None = None) -> Resynthesis:
        """``stages``: how many of the stages to keep; all if None, drawn in training."""
        if stages is None:
            stages = int(torch.randint(1, self.stages + 1, ())) if self.training else self.stages
        length = speech.shape[1]
        wanted = length // self.hop + 1
        padded = functional.pad(speech, (0, wanted * self.hop - length))
        features = self.encoder(padded[:, None])[..., :wanted]
        coded, penalty = self.codes(features, stages)
        return Resynthesis(self.decoder(coded, length), penalty)


class Discriminator(nn.Module):
    """Real or made, from complex spectra of three resolutions: one small network for each."""

    def __init__(self, channels: int = 16, sizes: tuple[int, ...] = (1024, 512, 256)) -> None:
        super().__init__()
        self.sizes = sizes
        self.networks = nn.ModuleList(nn.ModuleList(_layers(channels)) for _ in sizes)

    def forward(self, speech: Tensor) -> list[list[Tensor]]:
        """For each resolution the features of every layer; the last one is the judgement."""
        judged: list[list[Tensor]] = []
        for size, network in zip(self.sizes, self.networks, strict=True):
            window = torch.hann_window(size, device=speech.device)
            spectra = torch.stft(speech, size, size // 4, window=window, return_complex=True)
            assert isinstance(network, nn.ModuleList)
            features = torch.view_as_real(spectra).permute(0, 3, 1, 2)
            seen: list[Tensor] = []
            for layer in network:
                features = layer(features)
                seen.append(features)
            judged.append(seen)
        return judged


def _layers(channels: int) -> list[nn.Module]:
    """Convolutions over frequency and time; strides shrink the frequency axis."""

    def block(before: int, after: int) -> nn.Module:
        convolution = nn.Conv2d(before, after, (5, 3), (2, 1), padding=(2, 1))
        return nn.Sequential(nn.utils.parametrizations.weight_norm(convolution), nn.LeakyReLU(0.2))

    last = nn.utils.parametrizations.weight_norm(nn.Conv2d(2 * channels, 1, 3, padding=1))
    return [
        block(2, channels),
        block(channels, 2 * channels),
        block(2 * channels, 2 * channels),
        last,
    ]


def build(recipe: Mapping[str, object]) -> Vocoder | Codec:
    """The network of a recipe's section ``network``; raises ``TypeError`` for unknown keys."""
    network = recipe["network"]
    assert isinstance(network, dict)
    if recipe["kind"] == "vocoder":
        return Vocoder(**network)
    return Codec(**{**network, "strides": tuple(network["strides"])})
