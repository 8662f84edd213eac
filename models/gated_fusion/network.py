"""Dual-branch gated fusion: a frozen deep latent beside CORES, weighed by a gate on both.

Khan, Uddin and Malik, "Dual-Branch Gated Fusion for Open-Set Audio Deepfake Source Tracing". The
deep branch is LAVA's latent by default, which adds up over hops; ``ssl: xlsr53`` is the text's own,
over whole windows. Sizes that the text's copy lost are those that give its 897 K parameters: a gate
of 128 hidden units, and a BatchNorm behind both layers of a projection. Beside the text there is a
linear head for the technology on the fused embedding.

Both branches are means over the hops that hold speech, so what a hop adds is 66 means of CORES and
one latent mean; nothing in them is learned here. A hop sees 624 samples before it (zeros at the
start of a segment), of which LAVA reads the last 108.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from models.gated_fusion import cores
from models.gated_fusion.cores import SIZE, Cores
from models.gated_fusion.deep import LavaLatent, Xlsr53
from models.hop import attribution_outputs, hop_and_head
from models.lava import network as lava
from tools.bundle_writer import GraphSpec, TensorSpec
from tools.outputs import Outputs
from tools.section import section

LEFT_CONTEXT = cores.LEFT_CONTEXT
HOP_SAMPLES = 8000
WINDOW_HOPS = 6
HIDDEN = 512
EMBEDDING = 256
GATE_HIDDEN = 128
FUSIONS = ("gated", "concatenation", "deep", "cores")
SSL = ("xlsr53",)
_LEAST_DEVIATION = 1e-3
"""Of a feature, by which it is divided."""


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The section ``network`` of the recipe."""

    fusion: str = "gated"
    """``gated``; or an ablation: ``concatenation`` of both branches before one projection, ``deep``
    or ``cores`` alone."""
    dropout: float = 0.3
    gate_dropout: float = 0.1
    frozen_gate_epochs: int = 10
    """Both branches weigh one half until then."""
    ssl: str | None = None
    """``xlsr53`` in the place of LAVA's latent."""
    ssl_weights: str | None = None
    """File of the weights of ``ssl``."""

    def __post_init__(self) -> None:
        if self.fusion not in FUSIONS:
            raise ValueError(f"network.fusion: {self.fusion!r}: one of " + ", ".join(FUSIONS))
        if self.ssl is not None and self.ssl not in SSL:
            raise ValueError(f"network.ssl: {self.ssl!r}: null or one of " + ", ".join(SSL))


class Projection(nn.Sequential):
    """Features of a branch to the 256 dimensions that all share."""

    def __init__(self, size: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(size, HIDDEN),
            nn.BatchNorm1d(HIDDEN),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(HIDDEN, EMBEDDING),
            nn.BatchNorm1d(EMBEDDING),
        )


class Gate(nn.Sequential):
    """Both embeddings side by side to the logits of two weights; even until it has learned."""

    def __init__(self, dropout: float) -> None:
        last = nn.Linear(GATE_HIDDEN, 2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        super().__init__(
            nn.Linear(2 * EMBEDDING, GATE_HIDDEN), nn.ReLU(), nn.Dropout(dropout), last
        )


class GatedFusion(nn.Module):
    """The whole system; the daemon's graphs are views of it.

    Features of a hop or window are the means of the deep branch, then those of CORES.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, settings: NetworkSettings, technologies: int, generators: int) -> None:
        super().__init__()
        self.settings = settings
        self.cores = Cores()
        self.deep: LavaLatent | Xlsr53 = (
            LavaLatent() if settings.ssl is None else Xlsr53(settings.ssl_weights)
        )
        whole = self.deep.size + SIZE
        first = self.deep.size if settings.fusion == "cores" else 0
        last = self.deep.size if settings.fusion == "deep" else whole
        self.used = slice(first, last)
        """Those features of a window that the fusion reads."""
        self.parts = [self.deep.size, SIZE] if settings.fusion == "gated" else [last - first]
        self.branches = nn.ModuleList(Projection(size, settings.dropout) for size in self.parts)
        self.gate = Gate(settings.gate_dropout) if settings.fusion == "gated" else None
        self.generator = nn.Linear(EMBEDDING, generators)
        self.technology = nn.Linear(EMBEDDING, technologies)
        self.register_buffer("mean", torch.zeros(whole))
        self.register_buffer("deviation", torch.ones(whole))

    def train(self, mode: bool = True) -> Self:
        """The deep branch keeps its running statistics."""
        super().train(mode)
        self.deep.eval()
        return self

    def take_pretrained(self, state: Mapping[str, Tensor]) -> None:
        """Begin with the encoder of a LAVA run, given by its weights. Raises DeepWeightsError."""
        if isinstance(self.deep, LavaLatent):
            self.deep.take_pretrained(state)

    def start_epoch(self, epoch: int) -> None:
        """The gate learns after the branches have."""
        if self.gate is not None:
            self.gate.requires_grad_(epoch >= self.settings.frozen_gate_epochs)

    def features(self, samples: Tensor, valid: Tensor) -> Tensor:
        """``[batch, 624 + 8000 hops]`` -> ``[batch, hops, deep + 66]``, as the graphs make them.

        XLSR-53 hears the whole of the crop, the pauses too, and says the same of each hop.
        """
        count = valid.shape[1]
        if isinstance(self.deep, Xlsr53):
            # The window graph has no past.
            samples = torch.cat((torch.zeros_like(samples[:, :LEFT_CONTEXT]),
                                 samples[:, LEFT_CONTEXT:]), dim=1)  # fmt: skip
        hops = samples.unfold(1, LEFT_CONTEXT + HOP_SAMPLES, HOP_SAMPLES).flatten(0, 1)
        if isinstance(self.deep, Xlsr53):
            deep = self.deep(samples[:, LEFT_CONTEXT:])[:, None].expand(-1, count, -1)
        else:
            deep = self.deep(hops[:, LEFT_CONTEXT - lava.LEFT_CONTEXT :]).unflatten(0, (-1, count))
        return torch.cat((deep, self.cores(hops).unflatten(0, (-1, count))), dim=2)

    def fit_statistics(self, samples: Tensor, valid: Tensor) -> None:
        """Mean and deviation of the features, from training crops (valid hops only)."""
        with torch.no_grad():
            features = self.features(samples, valid)[valid]
            self.mean.copy_(features.mean(dim=0))
            self.deviation.copy_(features.std(dim=0).clamp(min=_LEAST_DEVIATION))

    def activations(self, features: Tensor) -> Tensor:
        """The features themselves: means add up."""
        return features

    def outputs(self, activations: Tensor, valid: Tensor) -> Outputs:
        """Of the valid hops of each window; nothing is detected, so that logit is 0."""
        weight = valid[..., None].to(activations.dtype)
        mean = (activations * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)
        embedding, gate = self.fuse(mean[:, self.used])
        return Outputs(
            logit=mean.new_zeros(len(mean)),
            embedding=embedding,
            technology=self.technology(embedding),
            generator=self.generator(embedding),
            gate=gate,
        )

    def fuse(self, mean: Tensor) -> tuple[Tensor, Tensor | None]:
        """The used features of windows -> embedding ``[batch, 256]``, weights of deep and CORES."""
        features = (mean - self.mean[self.used]) / self.deviation[self.used]
        parts = torch.split(features, self.parts, dim=1)
        said = [branch(part) for branch, part in zip(self.branches, parts, strict=True)]
        if self.gate is None:
            embedding: Tensor = said[0]
            return embedding, None
        weights = self.gate(torch.cat(said, dim=1)).softmax(dim=1)
        return weights[:, :1] * said[0] + weights[:, 1:] * said[1], weights


def build(recipe: Mapping[str, Any], labels: Mapping[str, Sequence[Any]]) -> GatedFusion:
    """The untrained system of a recipe and the label lists of its training data."""
    return GatedFusion(
        section(NetworkSettings, "network", recipe["network"]),
        len(labels["technology"]),
        max(1, len(labels["generator"])),
    )


class HopGraph(nn.Module):
    """``samples [batch, 8624]`` -> ``sums`` (the means that are used) and ``count``."""

    def __init__(self, system: GatedFusion) -> None:
        super().__init__()
        assert isinstance(system.deep, LavaLatent), "XLSR-53 has a window graph"
        fusion = system.settings.fusion
        self.encoder = None if fusion == "cores" else system.deep.encoder.fused()
        self.cores = None if fusion == "deep" else system.cores

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        means = []
        if self.encoder is not None:
            heard = samples[:, None, LEFT_CONTEXT - lava.LEFT_CONTEXT :]
            means.append(self.encoder(heard).mean(dim=2))
        if self.cores is not None:
            means.append(self.cores(samples))
        return torch.cat(means, dim=1), torch.ones_like(samples[:, :1])


class HeadGraph(nn.Module):
    """Sums and counts of a window's hops to both logits and the embedding."""

    def __init__(self, system: GatedFusion) -> None:
        super().__init__()
        self.system = system

    def forward(self, sums: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        embedding, _ = self.system.fuse(sums / count.clamp(min=1.0))
        return self.system.technology(embedding), self.system.generator(embedding), embedding


class WindowGraph(nn.Module):
    """``samples [batch, 48000]`` to both logits and the embedding, with XLSR-53 inside."""

    def __init__(self, system: GatedFusion) -> None:
        super().__init__()
        assert isinstance(system.deep, Xlsr53)
        self.system = system
        self.ssl = system.deep.model()

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # All hops count, pauses too: a window graph is not told which they are.
        past = torch.zeros_like(samples[:, :LEFT_CONTEXT])
        valid = torch.ones_like(samples[:, :WINDOW_HOPS])
        features = self.system.features(torch.cat((past, samples), dim=1), valid)
        embedding, _ = self.system.fuse(features.mean(dim=1)[:, self.system.used])
        return self.system.technology(embedding), self.system.generator(embedding), embedding


def full_window(system: GatedFusion, samples: Tensor) -> dict[str, Tensor]:
    """Head outputs by the way of the trainer on ``[batch, 624 + 8000 hops]``, all hops valid."""
    valid = torch.ones(len(samples), (samples.shape[1] - LEFT_CONTEXT) // HOP_SAMPLES).bool()
    said = system.outputs(system.activations(system.features(samples, valid)), valid)
    assert said.technology is not None, "built with every head"
    assert said.generator is not None, "built with every head"
    assert said.embedding is not None, "built with every head"
    return {
        "technology_logits": said.technology,
        "generator_logits": said.generator,
        "embedding": said.embedding,
    }


def graphs(system: GatedFusion) -> tuple[GraphSpec, ...]:
    """What the daemon runs."""
    system = system.eval()
    outputs = (
        *attribution_outputs(system.technology.out_features, system.generator.out_features),
        TensorSpec("embedding", (EMBEDDING,), "both branches, weighed"),
    )
    if isinstance(system.deep, Xlsr53):
        return (
            GraphSpec(
                name="window_fp32",
                module=WindowGraph(system),
                unit="window",
                inputs=(TensorSpec("samples", (WINDOW_HOPS * HOP_SAMPLES,)),),
                outputs=outputs,
            ),
        )
    return hop_and_head(
        HopGraph(system),
        HeadGraph(system),
        LEFT_CONTEXT,
        sums=TensorSpec("sums", (sum(system.parts),), "means of the latent and of CORES"),
        count=TensorSpec("count", (1,), "hops in the sums"),
        outputs=outputs,
    )
