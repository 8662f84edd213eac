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
    gate: Tensor | None = None
    """``[batch, branches]``: how a system of several branches weighs them; sums of 1."""


class HopNetwork(Protocol):
    """What a network offers the trainer, beside being a module.

    A network over whole windows (``unit: window``) takes the window for one hop: its
    ``LEFT_CONTEXT`` is 0, its recipe draws crops of six hops (``train.hops: [6, 6]``), its
    ``features`` and ``activations`` have one entry per window, and ``valid`` is none of its
    business: the daemon, too, lets it hear the pauses of a window.
    """

    def features(self, samples: Tensor, valid: Tensor) -> Tensor:
        """``[batch, hops, frames, bins]``, as the hop graph sees them one hop after another."""

    def activations(self, features: Tensor) -> Tensor:
        """What a hop adds to its windows, ``[batch, hops, size]``; may run in bfloat16."""

    def outputs(self, activations: Tensor, valid: Tensor) -> Outputs:
        """Every head on each window."""

    def eval(self) -> object:
        """For scoring: as of ``nn.Module``."""

    # A network may also offer ``fit_statistics(samples, valid)``, if its features are normalised by
    # something taken from training crops, ``start_epoch(epoch)``, if what learns changes over a
    # run, and ``take_pretrained(state)``, if its recipe begins with the weights of another.


class ReconstructionNetwork(Protocol):
    """What a network of task ``reconstruction`` offers, beside being a module.

    The network that is trained next, on labels, takes its weights by ``take_pretrained(state)``.
    """

    def reconstruction_losses(self, samples: Tensor) -> Tensor:
        """``[batch]``: how far each of ``[batch, samples]`` is from what is made of it."""

    def eval(self) -> object:
        """For validation: as of ``nn.Module``."""
