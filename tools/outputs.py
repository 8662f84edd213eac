"""What a network offers the trainer, and what it says of windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """Of a batch of windows; None where a system has no such head."""

    logit: Tensor
    """``[batch]``, positive for spoof."""
    embedding: Tensor | None = None
    """``[batch, size]``."""
    technology: Tensor | None = None
    """``[batch, technologies]`` logits."""
    generator: Tensor | None = None
    """``[batch, generators]`` logits."""
    blocks: Tensor | None = None
    """``[batch, hops]``: a logit of every hop by itself, where the window's is their mean."""


class HopNetwork(Protocol):
    """What a network offers the trainer, beside being a module."""

    def features(self, samples: Tensor, valid: Tensor) -> Tensor:
        """``[batch, hops, frames, bins]``, as the hop graph sees them one hop after another."""

    def activations(self, features: Tensor) -> Tensor:
        """What a hop adds to its windows, ``[batch, hops, size]``; may run in bfloat16."""

    def outputs(self, activations: Tensor, valid: Tensor) -> Outputs:
        """Every head on each window."""

    def eval(self) -> object:
        """For scoring: as of ``nn.Module``."""

    def fit_statistics(self, samples: Tensor, valid: Tensor) -> None:
        """Take what the features are normalised by from training crops."""
