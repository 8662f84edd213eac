"""LAVA: a waveform autoencoder whose encoder carries two gated heads (technology, generator).

Di Pierno, Guarnera, Allegra, Battiato, "Towards Reliable Audio Deepfake Attribution and Model
Recognition" (DFF '25). What differs from the text: one trunk serves both heads (its last
convolution is trained for both at once), and beside the padded network on a whole window there is
the hop form.

Alignment of the hop form. Four convolutions of kernel 9 and stride 2 see 121 samples and step by
16. Without padding, 108 + 8000 samples give 500 frames; frame ``j`` is centred on sample
``16 j - 48`` of the hop, on the grid of the padded network (frame ``t`` is centred on sample
``16 t``). Six hops are frames -3 to 2996 of a padded window of 3000 frames; frames 0-3 and
2997-2999 of the padded network see its zeros and agree with nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.bundle_writer import GraphSpec, TensorSpec

HOP_SAMPLES = 8000
LEFT_CONTEXT = 108
STRIDE = 16
HOP_FRAMES = HOP_SAMPLES // STRIDE
CHANNELS = (1, 32, 64, 128, 256)
LATENT = CHANNELS[-1]
HIDDEN = 128
KERNEL = 9
HEADS = 2


class Encoder(nn.Module):
    """Waveform ``[batch, samples]`` to latent frames ``[batch, 256, frames]``."""

    def __init__(self) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(CHANNELS))
        self.convolutions = nn.ModuleList(nn.Conv1d(i, o, KERNEL, stride=2) for i, o in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm1d(o) for _, o in pairs)

    def forward(self, samples: Tensor, *, padded: bool) -> Tensor:
        """``padded``: zeros around each layer (the text); else only frames with true context."""
        frames = self.frozen(samples, padded=padded)
        return self.last(frames, padded=padded)

    def frozen(self, samples: Tensor, *, padded: bool) -> Tensor:
        """All but the last layer: what the heads leave as the autoencoder learned it."""
        frames = samples.unsqueeze(1)
        for layer in range(len(self.norms) - 1):
            frames = self._layer(layer, frames, padded)
        return frames

    def last(self, frames: Tensor, *, padded: bool) -> Tensor:
        return self._layer(len(self.norms) - 1, frames, padded)

    def train_only_the_last_layer(self) -> None:
        """Freeze weights *and* running statistics of the others (they drift otherwise)."""
        self.requires_grad_(False)
        self.eval()
        for module in (self.convolutions[-1], self.norms[-1]):
            module.requires_grad_(True)
            module.train()

    def _layer(self, layer: int, frames: Tensor, padded: bool) -> Tensor:
        conv = self.convolutions[layer]
        assert isinstance(conv, nn.Conv1d)
        padding = KERNEL // 2 if padded else 0
        out = functional.conv1d(frames, conv.weight, conv.bias, stride=2, padding=padding)
        return torch.relu(self.norms[layer](out))


class Decoder(nn.Module):
    """Mirror of the encoder: latent frames back to a waveform in (-1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, o in itertools.pairwise(reversed(CHANNELS)):
            layers.append(
                nn.ConvTranspose1d(i, o, KERNEL, stride=2, padding=KERNEL // 2, output_padding=1)
            )
            layers += [nn.BatchNorm1d(o), nn.ReLU()] if o != 1 else [nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, latent: Tensor) -> Tensor:
        out: Tensor = self.layers(latent).squeeze(1)
        return out


class Autoencoder(nn.Module):
    """Stage one: reconstructs ``[batch, samples]`` (a multiple of 16) of spoofed speech."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()

    def forward(self, samples: Tensor) -> Tensor:
        out: Tensor = self.decoder(self.encoder(samples, padded=True))
        return out


class Classifier(nn.Module):
    """Mean of gated frames ``[batch, 256]`` to (hidden ``[batch, 128]``, logits)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(LATENT, HIDDEN)
        self.logits = nn.Linear(HIDDEN, classes)

    def forward(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.relu(self.hidden(mean))
        return hidden, self.logits(hidden)


class Lava(nn.Module):
    """Encoder, one attention gate per head, two classifiers."""

    def __init__(self, technologies: int, generators: int, *, attention: bool = True) -> None:
        super().__init__()
        self.encoder = Encoder()
        # The two 1x1 gates are one convolution: the same numbers, one larger matrix product.
        self.gate = nn.Conv1d(LATENT, HEADS * LATENT, 1) if attention else None
        self.technology = Classifier(technologies)
        self.generator = Classifier(generators)

    def forward(self, samples: Tensor, *, padded: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """``[batch, samples]`` to (technology logits, generator logits, embedding)."""
        gated = self.gated(self.encoder(samples, padded=padded))
        return self.classify(gated.mean(dim=2))

    def gated(self, latent: Tensor) -> Tensor:
        """``[batch, 256, frames]`` to ``[batch, 512, frames]``: z * sigmoid(conv(z)), per head."""
        both = latent.repeat(1, HEADS, 1)
        return both if self.gate is None else both * torch.sigmoid(self.gate(latent))

    def classify(self, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        technology_mean, generator_mean = mean.chunk(HEADS, dim=1)
        technology_hidden, technology = self.technology(technology_mean)
        generator_hidden, generator = self.generator(generator_mean)
        return technology, generator, torch.cat((technology_hidden, generator_hidden), dim=1)


class HopGraph(nn.Module):
    """``samples [batch, 108 + 8000]`` to ``sums [batch, 512]`` and ``count [batch, 1]``.

    At the start of a segment the 108 samples before it are zeros.
    """

    def __init__(self, model: Lava) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for conv, norm in zip(model.encoder.convolutions, model.encoder.norms, strict=True):
            assert isinstance(conv, nn.Conv1d)
            assert isinstance(norm, nn.BatchNorm1d)
            self.layers.append(nn.utils.fusion.fuse_conv_bn_eval(conv.eval(), norm.eval()))
            self.layers.append(nn.ReLU())
        self.gate = model.gate

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        latent = self.layers(samples.unsqueeze(1))
        if self.gate is None:
            sums = latent.sum(dim=2).repeat(1, HEADS)
        else:
            # Per head, so that no copy of the latent is made.
            gates = torch.sigmoid(self.gate(latent)).chunk(HEADS, dim=1)
            sums = torch.cat([(latent * gate).sum(dim=2) for gate in gates], dim=1)
        count = torch.full_like(samples[:, :1], float(HOP_FRAMES))
        return sums, count


class HeadGraph(nn.Module):
    """Sums and counts of a window's hops to both logits and the embedding."""

    def __init__(self, model: Lava) -> None:
        super().__init__()
        self.model = model

    def forward(self, sums: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.model.classify(sums / count.clamp(min=1.0))


def build(recipe: Mapping[str, Any], labels: Mapping[str, Sequence[Any]]) -> Lava:
    """The network of a recipe and the label lists that were made from its training data."""
    return Lava(
        len(labels["technology"]),
        len(labels["generator"]),
        attention=bool(recipe["network"]["attention"]),
    )


def full_window(model: Lava, samples: Tensor) -> dict[str, Tensor]:
    """Head outputs of one pass over ``[batch, 108 + 8000 hops]``: what the hops must add up to."""
    technology, generator, embedding = model(samples, padded=False)
    return {
        "technology_logits": technology,
        "generator_logits": generator,
        "embedding": embedding,
    }


def graphs(model: Lava) -> tuple[GraphSpec, ...]:
    """What the daemon runs."""
    model = model.eval()
    sums = TensorSpec("sums", (HEADS * LATENT,), "gated latent frames, summed, per head")
    count = TensorSpec("count", (1,), "latent frames in the sums")
    return (
        GraphSpec(
            name="hop_fp32",
            module=HopGraph(model),
            unit="hop",
            left_context=LEFT_CONTEXT,
            inputs=(TensorSpec("samples", (LEFT_CONTEXT + HOP_SAMPLES,)),),
            outputs=(sums, count),
        ),
        GraphSpec(
            name="head_fp32",
            module=HeadGraph(model),
            unit="head",
            inputs=(sums, count),
            outputs=(
                TensorSpec(
                    "technology_logits",
                    (model.technology.logits.out_features,),
                    "labels.technology",
                ),
                TensorSpec(
                    "generator_logits", (model.generator.logits.out_features,), "labels.generator"
                ),
                TensorSpec("embedding", (2 * HIDDEN,), "hidden layers of both heads"),
            ),
        ),
    )
