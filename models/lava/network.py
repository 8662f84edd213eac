"""LAVA: a waveform autoencoder whose encoder carries two gated heads (technology, generator).

Di Pierno, Guarnera, Allegra, Battiato, "Towards Reliable Audio Deepfake Attribution and Model
Recognition" (DFF '25). Two trainings: the autoencoder on spoofed speech without labels (recipe
``autoencoder.yaml``), then the heads on its encoder, all of which but the last convolution stays as
it was learned (``recipe.yaml``). What differs from the text: the last convolution serves both heads
unless ``last_per_head`` asks for one each, and beside the padded network on a whole window there is
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
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.hop import attribution_outputs, hop_and_head
from tools.bundle_writer import GraphSpec, TensorSpec
from tools.outputs import Outputs
from tools.section import section

HOP_SAMPLES = 8000
LEFT_CONTEXT = 108
STRIDE = 16
HOP_FRAMES = HOP_SAMPLES // STRIDE
CHANNELS = (1, 32, 64, 128, 256)
LATENT = CHANNELS[-1]
HIDDEN = 128
KERNEL = 9
HEADS = 2
_TRUNK_STEP = 2 * HOP_FRAMES
"""Frames of the trunk (all layers but the last) that a hop adds; it reads seven before them."""
_TRUNK_FRAMES = _TRUNK_STEP + KERNEL - 2


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The section ``network`` of the recipe of the heads."""

    attention: bool = True
    """False is the ablation: the plain mean of the latent frames."""
    last_per_head: bool = False
    """Whether each head has a last convolution of its own, as in the text, or both share one."""


class Layers(nn.Module):
    """Convolutions of kernel 9 and stride 2, each with its norm and ReLU."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(channels))
        self.convolutions = nn.ModuleList(nn.Conv1d(i, o, KERNEL, stride=2) for i, o in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm1d(o) for _, o in pairs)

    def forward(self, frames: Tensor, *, padded: bool) -> Tensor:
        """``padded``: zeros around each layer (the text); else only frames with true context."""
        for conv, norm in zip(self.convolutions, self.norms, strict=True):
            assert isinstance(conv, nn.Conv1d)
            padding = KERNEL // 2 if padded else 0
            frames = functional.conv1d(frames, conv.weight, conv.bias, stride=2, padding=padding)
            frames = torch.relu(norm(frames))
        return frames

    def fused(self) -> nn.Sequential:
        """The same in evaluation mode without padding, norms folded into the convolutions."""
        layers = nn.Sequential()
        for conv, norm in zip(self.convolutions, self.norms, strict=True):
            assert isinstance(conv, nn.Conv1d)
            assert isinstance(norm, nn.BatchNorm1d)
            layers.append(nn.utils.fusion.fuse_conv_bn_eval(conv.eval(), norm.eval()))
            layers.append(nn.ReLU())
        return layers

    def take(self, other: Layers, first: int = 0) -> None:
        """Copy weights and statistics of another's layers, from its layer ``first`` on."""
        for mine, theirs in ((self.convolutions, other.convolutions), (self.norms, other.norms)):
            mine.load_state_dict(theirs[first : first + len(mine)].state_dict())


class Encoder(Layers):
    """Waveform ``[batch, samples]`` to latent frames ``[batch, 256, frames]``."""

    def __init__(self, channels: Sequence[int] = CHANNELS) -> None:
        super().__init__(channels)

    def forward(self, samples: Tensor, *, padded: bool) -> Tensor:
        return super().forward(samples.unsqueeze(1), padded=padded)


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
    """Reconstructs ``[batch, samples]`` (a multiple of 16) of spoofed speech."""

    def __init__(self, beta: float = 1e-4) -> None:
        """``beta``: where the loss turns from a parabola to a line (Smooth L1)."""
        super().__init__()
        self.beta = beta
        self.encoder = Encoder()
        self.decoder = Decoder()

    def forward(self, samples: Tensor) -> Tensor:
        out: Tensor = self.decoder(self.encoder(samples, padded=True))
        return out

    def reconstruction_losses(self, samples: Tensor) -> Tensor:
        """``[batch]``, of ``[batch, samples]`` of any length."""
        whole = samples[:, samples.shape[1] % STRIDE :]
        losses = functional.smooth_l1_loss(
            self(whole).float(), whole, beta=self.beta, reduction="none"
        )
        return losses.mean(dim=1)


class Classifier(nn.Module):
    """Mean of gated frames ``[batch, 256]`` to (hidden ``[batch, 128]``, logits)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(LATENT, HIDDEN)
        self.logits = nn.Linear(HIDDEN, classes)

    def forward(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.relu(self.hidden(mean))
        return hidden, self.logits(hidden)


class Branch(nn.Module):
    """The last convolution and the attention gates of one head, or of both."""

    def __init__(self, heads: int, *, attention: bool) -> None:
        super().__init__()
        self.heads = heads
        self.last = Layers(CHANNELS[-2:])
        # The 1x1 gates of several heads are one convolution: the same numbers, one larger product.
        self.gate = nn.Conv1d(LATENT, heads * LATENT, 1) if attention else None

    def forward(self, frames: Tensor, *, padded: bool) -> Tensor:
        """Frames of the trunk to ``[batch, heads * 256, frames]``: z * sigmoid(conv(z))."""
        latent: Tensor = self.last(frames, padded=padded)
        repeated = latent.repeat(1, self.heads, 1)
        return repeated if self.gate is None else repeated * torch.sigmoid(self.gate(latent))


class Lava(nn.Module):
    """The encoder, its last layer in one branch for both heads or in one each, two classifiers."""

    def __init__(
        self, technologies: int, generators: int, settings: NetworkSettings | None = None
    ) -> None:
        super().__init__()
        settings = settings or NetworkSettings()
        self.trunk = Encoder(CHANNELS[:-1]).requires_grad_(False)
        heads = [1] * HEADS if settings.last_per_head else [HEADS]
        self.branches = nn.ModuleList(Branch(n, attention=settings.attention) for n in heads)
        self.technology = Classifier(technologies)
        self.generator = Classifier(generators)

    def train(self, mode: bool = True) -> Self:
        """The trunk is frozen with its running statistics, which drift otherwise."""
        super().train(mode)
        self.trunk.eval()
        return self

    def take_pretrained(self, state: Mapping[str, Tensor]) -> None:
        """Begin with the encoder of a trained autoencoder, given by its weights."""
        autoencoder = Autoencoder()
        autoencoder.load_state_dict(dict(state))
        self.trunk.take(autoencoder.encoder)
        for branch in self.branches:
            assert isinstance(branch, Branch)
            branch.last.take(autoencoder.encoder, first=len(self.trunk.norms))

    def forward(self, samples: Tensor, *, padded: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """``[batch, samples]`` to (technology logits, generator logits, embedding)."""
        gated = self.gated(self.trunk(samples, padded=padded), padded=padded)
        return self.classify(gated.mean(dim=2))

    def gated(self, frames: Tensor, *, padded: bool) -> Tensor:
        """Frames of the trunk to ``[batch, 512, frames]``, both heads."""
        return torch.cat([branch(frames, padded=padded) for branch in self.branches], dim=1)

    def classify(self, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        technology_mean, generator_mean = mean.chunk(HEADS, dim=1)
        technology_hidden, technology = self.technology(technology_mean)
        generator_hidden, generator = self.generator(generator_mean)
        return technology, generator, torch.cat((technology_hidden, generator_hidden), dim=1)

    def features(self, samples: Tensor, valid: Tensor) -> Tensor:
        """What the frozen trunk makes of each hop: ``[batch, hops, 1007, 128]``."""
        frames: Tensor = self.trunk(samples, padded=False)
        return frames.unfold(2, _TRUNK_FRAMES, _TRUNK_STEP).permute(0, 2, 3, 1)

    def activations(self, features: Tensor) -> Tensor:
        """``[batch, hops, 1007, 128]`` to the gated frames summed, ``[batch, hops, 512]``."""
        frames = features.flatten(0, 1).transpose(1, 2)
        sums = self.gated(frames, padded=False).float().sum(dim=2)
        return sums.reshape(*features.shape[:2], -1)

    def outputs(self, activations: Tensor, valid: Tensor) -> Outputs:
        """Both heads on the valid hops of each window; it detects nothing, so that logit is 0."""
        weight = valid[..., None].to(activations.dtype)
        mean = (activations * weight).sum(dim=1) / (HOP_FRAMES * weight.sum(dim=1).clamp(min=1.0))
        technology, generator, embedding = self.classify(mean)
        nothing = technology.new_zeros(len(technology))
        return Outputs(
            logit=nothing, technology=technology, generator=generator, embedding=embedding
        )


class HopGraph(nn.Module):
    """``samples [batch, 108 + 8000]`` to ``sums [batch, 512]`` and ``count [batch, 1]``.

    At the start of a segment the 108 samples before it are zeros.
    """

    def __init__(self, model: Lava) -> None:
        super().__init__()
        self.trunk = model.trunk.fused()
        self.branches = nn.ModuleList(_BranchSums(branch) for branch in model.branches)

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        frames = self.trunk(samples.unsqueeze(1))
        sums = [part for branch in self.branches for part in branch(frames)]
        count = torch.full_like(samples[:, :1], float(HOP_FRAMES))
        return torch.cat(sums, dim=1), count


class _BranchSums(nn.Module):
    """A branch's sums over the frames, one tensor per head: no copy of the latent is made."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        assert isinstance(branch, Branch)
        self.heads = branch.heads
        self.last = branch.last.fused()
        self.gate = branch.gate

    def forward(self, frames: Tensor) -> list[Tensor]:
        latent = self.last(frames)
        if self.gate is None:
            return [latent.sum(dim=2)] * self.heads
        gates = torch.sigmoid(self.gate(latent)).chunk(self.heads, dim=1)
        return [(latent * gate).sum(dim=2) for gate in gates]


class HeadGraph(nn.Module):
    """Sums and counts of a window's hops to both logits and the embedding."""

    def __init__(self, model: Lava) -> None:
        super().__init__()
        self.model = model

    def forward(self, sums: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.model.classify(sums / count.clamp(min=1.0))


def build(recipe: Mapping[str, Any], labels: Mapping[str, Sequence[Any]]) -> Lava | Autoencoder:
    """The network of a recipe and the label lists that were made from its training data."""
    if recipe["task"] == "reconstruction":
        return Autoencoder(**recipe["network"])
    return Lava(
        len(labels["technology"]),
        # No head is without a class: a collection with no listed generator can still be learned.
        max(1, len(labels["generator"])),
        section(NetworkSettings, "network", recipe["network"]),
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
    technology, generator = model.technology.logits, model.generator.logits
    return hop_and_head(
        HopGraph(model),
        HeadGraph(model),
        LEFT_CONTEXT,
        sums=TensorSpec("sums", (HEADS * LATENT,), "gated latent frames, summed, per head"),
        count=TensorSpec("count", (1,), "latent frames in the sums"),
        outputs=(
            *attribution_outputs(technology.out_features, generator.out_features),
            TensorSpec("embedding", (2 * HIDDEN,), "hidden layers of both heads"),
        ),
    )
