"""Networks over a whole window that say bona fide or spoof: the trainer's view and the daemon's."""

from __future__ import annotations

from torch import Tensor, nn

from streamguard.clock import HOP_SAMPLES, WINDOW_HOPS
from tools.bundle_writer import GraphSpec, TensorSpec
from tools.outputs import Outputs

LEFT_CONTEXT = 0
WINDOW_SAMPLES = WINDOW_HOPS * HOP_SAMPLES


class WindowNetwork(nn.Module):
    """``plane`` and ``embed`` are its own; the window is one hop to the trainer."""

    def __init__(self, embedding: int) -> None:
        super().__init__()
        self.head = nn.Linear(embedding, 1)

    def plane(self, samples: Tensor) -> Tensor:
        """``[batch, 48000]`` -> ``[batch, frames, bins]``, nothing of which is trained."""
        raise NotImplementedError

    def embed(self, plane: Tensor) -> Tensor:
        """``[batch, frames, bins]`` -> ``[batch, embedding]``."""
        raise NotImplementedError

    def features(self, samples: Tensor, valid: Tensor) -> Tensor:
        """``[batch, 48000]`` -> ``[batch, 1, frames, bins]``."""
        del valid  # the daemon lets it hear the pauses of a window too
        return self.plane(samples)[:, None]

    def activations(self, features: Tensor) -> Tensor:
        """``[batch, 1, frames, bins]`` -> ``[batch, 1, embedding]``."""
        return self.embed(features[:, 0])[:, None]

    def outputs(self, activations: Tensor, valid: Tensor) -> Outputs:
        """The logit and, under it, the embedding."""
        del valid
        embedding = activations[:, 0]
        return Outputs(logit=self.head(embedding)[:, 0], embedding=embedding)

    def fit_statistics(self, samples: Tensor, valid: Tensor) -> None:
        """Nothing, unless a network says otherwise."""


class WindowGraph(nn.Module):
    """``samples [batch, 48000]`` -> ``(logit [batch, 1], embedding)``."""

    def __init__(self, network: WindowNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.network.embed(self.network.plane(samples))
        return self.network.head(embedding), embedding


def graphs(network: WindowNetwork) -> tuple[GraphSpec, ...]:
    """What the daemon runs."""
    network = network.eval()
    return (
        GraphSpec(
            name="window_fp32",
            module=WindowGraph(network),
            unit="window",
            inputs=(TensorSpec("samples", (WINDOW_SAMPLES,)),),
            outputs=(
                TensorSpec("logit", (1,), "positive for spoof"),
                TensorSpec("embedding", (network.head.in_features,), "input of the last layer"),
            ),
        ),
    )
