"""CNN-LSTM detector, bona fide versus spoof, one 50-frame block per hop, and what it is set beside.

After Cheng et al., "Explainable AI for forensic speech authentication within cognitive and
computational neuroscience", Front. Neurosci. 19 (2025): 50 x 20 LFCC blocks, two convolutions,
pool, dropout, a third convolution, pool, batch normalisation, LSTM 64, LSTM 128, dense 256, two
classes. At a 10 ms shift a block is exactly one hop. Departures: convolutions are padded, LSTMs
keep their tanh (a ReLU LSTM has no bound and no ONNX kernel worth having), feature means are
removed by a causal running mean that the leg keeps as state.

The text's controlled comparisons are settings: ``recurrent`` and ``convolutions`` for its networks
(CNN, LSTM, Bi-LSTM, GRU, CNN-LSTM), ``features`` for its five features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.cnn_lstm.features import KINDS, Features
from models.hop import hop_and_head, without_running_mean
from models.spectrum import FRAME_SAMPLES, SHIFT_SAMPLES
from tools.bundle_writer import GraphSpec, TensorSpec
from tools.objective import window_mean
from tools.outputs import Outputs
from tools.section import section

HOP_SAMPLES = 8000
LEFT_CONTEXT = FRAME_SAMPLES - SHIFT_SAMPLES
BLOCK_FRAMES = HOP_SAMPLES // SHIFT_SAMPLES
EMBEDDING = 256
RECURRENT = ("lstm", "bilstm", "gru", "none")


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The part of the recipe that shapes the network."""

    filters: int = 20
    coefficients: int = 20
    fft: int = 512
    floor: float = 1e-6
    """Added to filter energies before the logarithm: about 70 dB below full-scale speech."""
    mean_decay: float = 0.9
    """Per hop, of the running mean of the features: a memory of about 5 s."""
    prior_frames: float = 25.0
    """Weight of the training mean in the running mean, in frames; steadies the first hop."""
    dropout: float = 0.2
    """The text's 0.5 learns too slowly under this much augmentation."""
    features: str = "lfcc"
    """``lfcc | mfcc | gfcc | fbank | spectrogram``; the last two have ``filters`` columns."""
    recurrent: str = "lstm"
    """``lstm | bilstm | gru | none``; of none, the dense layer sees the whole block."""
    convolutions: bool = True
    """Without them the recurrent layers read the features themselves."""

    def __post_init__(self) -> None:
        for key, value, allowed in (
            ("features", self.features, tuple(KINDS)),
            ("recurrent", self.recurrent, RECURRENT),
        ):
            if value not in allowed:
                raise ValueError(f"network.{key}: {value!r}: one of {', '.join(allowed)}")
        if self.recurrent == "none" and not self.convolutions:
            raise ValueError("network.convolutions: false: nothing is left with recurrent none")

    @property
    def width(self) -> int:
        """Columns of a block."""
        return self.coefficients if KINDS[self.features].cepstral else self.filters

    @property
    def state_size(self) -> int:
        return self.width + 1


class Blocks(nn.Module):
    """``[batch, 50, width]`` normalised features -> ``[batch, 256]`` dense activations."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        frames, columns = BLOCK_FRAMES, settings.width
        self.convolutions: nn.Sequential | None = None
        if settings.convolutions:
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
            frames, columns = frames // 4, 64 * (columns // 4)
        summary = frames * columns
        self.recurrent = settings.recurrent
        if settings.recurrent != "none":
            cell = nn.GRU if settings.recurrent == "gru" else nn.LSTM
            both = settings.recurrent == "bilstm"
            # Named as in the checkpoints of the text's own network, whatever their cells are.
            self.lstm_64 = cell(columns, 64, batch_first=True, bidirectional=both)
            self.lstm_128 = cell(64 << both, 128, batch_first=True, bidirectional=both)
            summary = 128 << both
        self.dense = nn.Sequential(
            # Dropout behind the normalisation: before it, the statistics kept for inference would
            # be those of another distribution (Li et al. 2019, "variance shift").
            nn.BatchNorm1d(summary),
            nn.Dropout(settings.dropout),
            nn.Linear(summary, EMBEDDING),
            nn.ReLU(),
        )

    def forward(self, features: Tensor) -> Tensor:
        sequence = features
        if self.convolutions is not None:
            maps = self.convolutions(features[:, None])
            sequence = maps.permute(0, 2, 1, 3).flatten(2)
        activations: Tensor = self.dense(self.summary(sequence))
        return activations

    def summary(self, sequence: Tensor) -> Tensor:
        """``[batch, frames, columns]`` -> ``[batch, size]``: what each direction ends with."""
        if self.recurrent == "none":
            return sequence.flatten(1)
        hidden, _ = self.lstm_64(sequence)
        hidden, _ = self.lstm_128(hidden)
        if self.recurrent == "bilstm":
            forward, backward = hidden.chunk(2, dim=2)
            return torch.cat((forward[:, -1], backward[:, 0]), dim=1)
        last: Tensor = hidden[:, -1]
        return last


class Detector(nn.Module):
    """The whole system; the daemon's graphs are views of it (``HopGraph``, ``HeadGraph``)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        self.extractor = Features(
            settings.features,
            settings.filters,
            settings.coefficients,
            settings.fft,
            settings.floor,
        )
        self.blocks = Blocks(settings)
        self.head = nn.Linear(EMBEDDING, 2)
        self.register_buffer("mean", torch.zeros(settings.width))
        self.register_buffer("deviation", torch.ones(settings.width))

    def normalise(self, features: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Remove the running mean, this block included; returns ``(normalised, new state)``.

        The state is the decayed sum of frames and their decayed count, zeros at first.
        """
        decay, prior_frames = self.settings.mean_decay, self.settings.prior_frames
        centred, new_state = without_running_mean(features, state, self.mean, decay, prior_frames)
        return centred / self.deviation, new_state

    def features(self, samples: Tensor, valid: Tensor) -> Tensor:
        """Normalised features of every hop of clips, as the hop graph sees them one by one.

        ``samples`` ``[batch, 240 + 8000 hops]``, ``valid`` ``[batch, hops]`` (bool): a hop that is
        not valid changes no state. Returns ``[batch, hops, 50, width]``.
        """
        features = self.extractor(samples).unflatten(1, (valid.shape[1], BLOCK_FRAMES))
        state = samples.new_zeros(len(samples), self.settings.state_size)
        blocks = []
        for hop in range(valid.shape[1]):
            normalised, new_state = self.normalise(features[:, hop], state)
            state = torch.where(valid[:, hop, None], new_state, state)
            blocks.append(normalised)
        return torch.stack(blocks, dim=1)

    def activations(self, features: Tensor) -> Tensor:
        """``[batch, hops, 50, width]`` -> ``[batch, hops, 256]``."""
        activations: Tensor = self.blocks(features.flatten(0, 1))
        return activations.reshape(*features.shape[:2], EMBEDDING)

    def outputs(self, activations: Tensor, valid: Tensor) -> Outputs:
        """The window's logit is the mean of those of its valid hops."""
        blocks = self.logit(activations)
        return Outputs(logit=window_mean(blocks, valid), blocks=blocks)

    def fit_statistics(self, samples: Tensor, valid: Tensor) -> None:
        """Take mean and deviation of the features from training clips (valid hops only)."""
        with torch.no_grad():
            features = self.extractor(samples).unflatten(1, (valid.shape[1], BLOCK_FRAMES))[valid]
            self.mean.copy_(features.mean(dim=(0, 1)))
            self.deviation.copy_(features.std(dim=(0, 1)).clamp(min=1e-3))

    def logit(self, activations: Tensor) -> Tensor:
        """``[..., 256]`` -> ``[...]``, positive for spoof."""
        classes = self.head(activations)
        difference: Tensor = classes[..., 1] - classes[..., 0]
        return difference


def build(recipe: Mapping[str, Any], labels: Mapping[str, Any]) -> Detector:
    """The untrained system of a recipe (its section ``network``); it detects, and names nothing."""
    del labels
    return Detector(section(NetworkSettings, "network", recipe["network"]))


class HopGraph(nn.Module):
    """``(samples [batch, 8240], state_in [batch, width + 1])`` -> ``(sums, count, state_out)``."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, samples: Tensor, state_in: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.detector.extractor(samples)
        normalised, state_out = self.detector.normalise(features, state_in)
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
    meaning = f"running sum of the {detector.settings.features.upper()}, and their number"
    return hop_and_head(
        HopGraph(detector),
        HeadGraph(detector),
        LEFT_CONTEXT,
        sums=TensorSpec("sums", (EMBEDDING,), "dense activations of the block"),
        count=TensorSpec("count", (1,), "blocks in the sums"),
        outputs=(TensorSpec("logit", (1,), "positive for spoof"),),
        state_out=TensorSpec("state_out", (detector.settings.state_size,), meaning),
    )
