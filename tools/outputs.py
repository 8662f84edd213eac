"""What a network in training says of windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
