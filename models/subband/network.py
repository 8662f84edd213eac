"""Residual convolutions over whitened linear subbands; detection and attribution from one trunk.

The log energies of linearly spaced bands lose their running mean (the channel), then each cepstral
direction is scaled to unit variance and turned back to bands: what is fine in frequency weighs as
much as the slope of the spectrum. Without this whitening the same network learns several times
more slowly. Convolutions over 2-D maps, squeeze-and-excitation (Hu et al., CVPR 2018), attentive
statistics pooling (Okabe et al., Interspeech 2018) whose sums add up over hops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.cnn_lstm.features import linear_filterbank, whitening
from models.hop import attribution_outputs, hop_and_head, without_running_mean
from models.spectrum import FRAME_SAMPLES, SHIFT_SAMPLES, Power, arranged, hann
from tools.bundle_writer import GraphSpec, TensorSpec
from tools.outputs import Outputs
from tools.section import section

HOP_SAMPLES = 8000
LEFT_CONTEXT = FRAME_SAMPLES - SHIFT_SAMPLES
HOP_FRAMES = HOP_SAMPLES // SHIFT_SAMPLES
_LARGEST_SCORE = 8.0
"""Attention scores are clamped, so that their exponentials add up over hops without a maximum."""
_LEAST_VARIANCE = 1e-4


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The part of the recipe that shapes the network."""

    bands: int = 40
    fft: int = 512
    floor: float = 1e-7
    """Added to band energies before the logarithm."""
    mean_decay: float = 0.9
    """Per hop, of the running mean of the bands: 0.9 remembers about 5 s, 0 only the hop itself."""
    prior_frames: float = 25.0
    """Weight of the training mean in the running mean, in frames."""
    whitening_floor: float = 0.03
    """Added to the deviation of a cepstral direction before dividing by it."""
    stem_stride: int = 2
    """Of the first convolution, over bands."""
    widths: tuple[int, ...] = (16, 24, 48, 96)
    blocks: tuple[int, ...] = (0, 1, 1, 1)
    """Residual blocks behind the convolution of each width."""
    embedding: int = 128
    dropout: float = 0.2

    @property
    def state_size(self) -> int:
        return self.bands + 1


def _convolution(
    inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int]
) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs)
    )


class Bands(nn.Module):
    """Power as ``models.spectrum`` gives it -> ``[batch, n, bands]`` log energies."""

    filterbank: Tensor

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.floor = settings.floor
        bank = torch.from_numpy(arranged(linear_filterbank(settings.bands, settings.fft)))
        self.register_buffer("filterbank", bank, persistent=False)

    def forward(self, power: Tensor) -> Tensor:
        return torch.log(power @ self.filterbank + self.floor)


class Residual(nn.Module):
    """Two convolutions whose output each channel weighs by what the whole map holds."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels, (3, 3), (1, 1))
        self.second = _convolution(channels, channels, (3, 3), (1, 1))
        self.gate = nn.Sequential(
            nn.Linear(channels, channels // 4),
            nn.ReLU(),
            nn.Linear(channels // 4, channels),
            nn.Sigmoid(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        new = self.second(torch.relu(self.first(maps)))
        gate = self.gate(new.mean(dim=(2, 3)))
        return torch.relu(maps + new * gate[:, :, None, None])


class Trunk(nn.Module):
    """``[batch, frames, bands]`` whitened bands -> ``[batch, 3 embedding]`` sums of one hop."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            _convolution(
                1, settings.widths[0], (3, 2 * settings.stem_stride + 1), (1, settings.stem_stride)
            ),
            nn.ReLU(),
        ]
        bands = -(-settings.bands // settings.stem_stride)
        for inputs, outputs, count in zip(
            settings.widths, settings.widths[1:], settings.blocks[1:], strict=False
        ):
            layers += [_convolution(inputs, outputs, (3, 3), (2, 2)), nn.ReLU()]
            layers += [Residual(outputs) for _ in range(count)]
            bands = -(-bands // 2)
        # Half again as fast on a CPU with bfloat16; of no meaning to the values or the export.
        self.maps = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # stub
        size = settings.embedding
        self.frames = nn.Sequential(
            nn.Conv1d(settings.widths[-1] * bands, size, 1, bias=False),
            nn.BatchNorm1d(size),
            nn.ReLU(),
        )
        self.attention = nn.Sequential(nn.Conv1d(size, 32, 1), nn.Tanh(), nn.Conv1d(32, size, 1))

    def forward(self, bands: Tensor) -> Tensor:
        maps = self.maps(bands[:, None].contiguous(memory_format=torch.channels_last))
        frames = self.frames(maps.permute(0, 1, 3, 2).flatten(1, 2))
        scores = self.attention(frames).float().clamp(-_LARGEST_SCORE, _LARGEST_SCORE)
        weights, values = torch.exp(scores), frames.float()
        weighted = weights * values
        return torch.cat(
            [part.sum(dim=-1) for part in (weights, weighted, weighted * values)], dim=1
        )


class Heads(nn.Module):
    """Sums of a window ``[batch, 3 embedding]`` -> embedding and the logits of every head."""

    def __init__(self, settings: NetworkSettings, technologies: int, generators: int) -> None:
        super().__init__()
        size = settings.embedding
        self.dropout = nn.Dropout(settings.dropout)
        self.dense = nn.Sequential(nn.BatchNorm1d(2 * size), nn.Linear(2 * size, size), nn.ReLU())
        self.logit = nn.Linear(size, 1)
        self.technology = nn.Linear(size, technologies)
        self.generator = nn.Linear(size, generators)

    def embedding(self, sums: Tensor) -> Tensor:
        """Weighted mean and deviation over the frames, then one dense layer."""
        weights, first, second = sums.chunk(3, dim=-1)
        weights = weights.clamp(min=1e-6)
        mean = first / weights
        deviation = (second / weights - mean.square()).clamp(min=_LEAST_VARIANCE).sqrt()
        embedding: Tensor = self.dense(self.dropout(torch.cat((mean, deviation), dim=-1)))
        return embedding


class Subband(nn.Module):
    """The whole system; the daemon's graphs are views of it (``HopGraph``, ``HeadGraph``)."""

    mean: Tensor
    whitening: Tensor

    def __init__(
        self, settings: NetworkSettings, task: str, technologies: int, generators: int
    ) -> None:
        super().__init__()
        self.task = task
        self.settings = settings
        self.power = Power(settings.fft, hann())
        self.bands = Bands(settings)
        self.trunk = Trunk(settings)
        self.heads = Heads(settings, technologies, generators)
        self.register_buffer("mean", torch.zeros(settings.bands))
        self.register_buffer("whitening", torch.eye(settings.bands))

    def normalise(self, bands: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Whiten and remove the running mean, this hop included: ``(normalised, new state)``.

        The state is the decayed sum of frames and their decayed count, zeros at first.
        """
        decay, prior_frames = self.settings.mean_decay, self.settings.prior_frames
        centred, new_state = without_running_mean(bands, state, self.mean, decay, prior_frames)
        return centred @ self.whitening, new_state

    def features(self, samples: Tensor, valid: Tensor) -> Tensor:
        """Whitened bands of every hop of clips, as the hop graph sees them one after another.

        ``samples`` ``[batch, 240 + 8000 hops]``, ``valid`` ``[batch, hops]`` (bool): a hop that is
        not valid changes no state. Returns ``[batch, hops, 50, bands]``.
        """
        bands = self.bands(self.power(samples)).unflatten(1, (valid.shape[1], HOP_FRAMES))
        state = samples.new_zeros(len(samples), self.settings.state_size)
        hops = []
        for hop in range(valid.shape[1]):
            normalised, new_state = self.normalise(bands[:, hop], state)
            state = torch.where(valid[:, hop, None], new_state, state)
            hops.append(normalised)
        return torch.stack(hops, dim=1)

    def activations(self, features: Tensor) -> Tensor:
        """``[batch, hops, 50, bands]`` -> ``[batch, hops, 3 embedding]``."""
        sums: Tensor = self.trunk(features.flatten(0, 1))
        return sums.reshape(*features.shape[:2], -1)

    def outputs(self, activations: Tensor, valid: Tensor) -> Outputs:
        """Every head on the valid hops of each window."""
        embedding = self.heads.embedding((activations * valid[..., None]).sum(dim=1))
        return Outputs(
            logit=self.heads.logit(embedding)[:, 0],
            technology=self.heads.technology(embedding),
            generator=self.heads.generator(embedding),
            embedding=embedding,
        )

    def fit_statistics(self, samples: Tensor, valid: Tensor) -> None:
        """Take the mean of the bands and the whitening from training clips (valid hops only)."""
        settings = self.settings
        with torch.no_grad():
            bands = self.bands(self.power(samples)).unflatten(1, (valid.shape[1], HOP_FRAMES))
            self.mean.copy_(bands[valid].mean(dim=(0, 1)))
            self.whitening.copy_(torch.eye(settings.bands))
            centred = self.features(samples, valid)[valid].flatten(0, 1)
            self.whitening.copy_(whitening(centred, settings.whitening_floor))


def build(recipe: Mapping[str, Any], labels: Mapping[str, Sequence[Any]]) -> Subband:
    """The untrained system of a recipe and the label lists of its training data."""
    network = dict(recipe["network"])
    for key in ("widths", "blocks"):
        network[key] = tuple(network[key])
    return Subband(
        section(NetworkSettings, "network", network),
        recipe["task"],
        len(labels["technology"]),
        max(1, len(labels["generator"])),
    )


class HopGraph(nn.Module):
    """``(samples [batch, 8240], state_in)`` -> ``(sums, count, state_out)``."""

    def __init__(self, system: Subband) -> None:
        super().__init__()
        self.system = system

    def forward(self, samples: Tensor, state_in: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        size = self.system.settings.embedding
        bands = self.system.bands(self.system.power(samples))
        normalised, state_out = self.system.normalise(bands, state_in)
        weights, moments = torch.split(self.system.trunk(normalised), [size, 2 * size], dim=1)
        return moments, weights, state_out


class StatelessHopGraph(nn.Module):
    """``samples [batch, 8240]`` -> ``(sums, count)``, for a mean that remembers no earlier hop."""

    def __init__(self, system: Subband) -> None:
        super().__init__()
        self.hop = HopGraph(system)
        self.size = system.settings.state_size

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        nothing = torch.zeros_like(samples[:, : self.size])
        sums, count, _ = self.hop(samples, nothing)
        return sums, count


class HeadGraph(nn.Module):
    """``(sums, count)`` -> the logits of the task and the embedding."""

    def __init__(self, system: Subband) -> None:
        super().__init__()
        self.task = system.task
        self.heads = system.heads

    def forward(self, sums: Tensor, count: Tensor) -> tuple[Tensor, ...]:
        embedding = self.heads.embedding(torch.cat((count, sums), dim=1))
        if self.task == "detection":
            return self.heads.logit(embedding), embedding
        return self.heads.technology(embedding), self.heads.generator(embedding), embedding


def full_window(system: Subband, samples: Tensor) -> dict[str, Tensor]:
    """Head outputs by the way of the trainer on ``[batch, 240 + 8000 hops]``, all hops valid."""
    valid = torch.ones(len(samples), (samples.shape[1] - LEFT_CONTEXT) // HOP_SAMPLES).bool()
    said = system.outputs(system.activations(system.features(samples, valid)), valid)
    assert said.technology is not None, "built with every head"
    assert said.generator is not None, "built with every head"
    assert said.embedding is not None, "built with every head"
    if system.task == "detection":
        return {"logit": said.logit[:, None], "embedding": said.embedding}
    return {
        "technology_logits": said.technology,
        "generator_logits": said.generator,
        "embedding": said.embedding,
    }


def graphs(system: Subband) -> tuple[GraphSpec, ...]:
    """What the daemon runs: the heads of the recipe's task."""
    system = system.eval()
    size = system.settings.embedding
    heads = system.heads
    outputs: tuple[TensorSpec, ...] = (TensorSpec("logit", (1,), "positive for spoof"),)
    if system.task != "detection":
        outputs = attribution_outputs(heads.technology.out_features, heads.generator.out_features)
    hop: nn.Module = StatelessHopGraph(system)
    state_out = None
    if system.settings.mean_decay:
        hop = HopGraph(system)
        meaning = "running sum of the bands, and their number"
        state_out = TensorSpec("state_out", (system.settings.state_size,), meaning)
    return hop_and_head(
        hop,
        HeadGraph(system),
        LEFT_CONTEXT,
        sums=TensorSpec("sums", (2 * size,), "weighted sums of frames and of their squares"),
        count=TensorSpec("count", (size,), "sums of the attention weights"),
        outputs=(*outputs, TensorSpec("embedding", (size,), "dense layer under the heads")),
        state_out=state_out,
    )
