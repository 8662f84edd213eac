"""Muon: momentum whose matrices are made orthogonal, with AdamW for everything that is no matrix.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; scaled as by Liu et
al., "Muon is scalable for LLM training", 2025, so that one learning rate serves both. A kernel of a
convolution counts as a matrix of its output channels, which ``torch.optim.Muon`` does not offer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import overload

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_MOMENTUM = 0.95
_SCALE = 0.2
"""Root mean square of an update, about that of AdamW."""


class Muon(torch.optim.Optimizer):
    """The matrices of a network; see ``muon_and_adamw`` for the whole of one."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every matrix that has a gradient."""
        if closure is not None:
            raise ValueError("no closure: a step uses the gradients that are there")
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                momentum = state.setdefault("momentum", torch.zeros_like(matrix))
                momentum.lerp_(matrix.grad, 1.0 - _MOMENTUM)
                update = matrix.grad.lerp(momentum, _MOMENTUM).flatten(1)
                scale = _SCALE * max(update.shape) ** 0.5
                matrix.mul_(1.0 - group["lr"] * group["weight_decay"])
                matrix.add_(orthogonal(update).view_as(matrix), alpha=-group["lr"] * scale)
        return None


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest orthogonal matrix, roughly: singular values end between 0.7 and 1.2."""
    first, third, fifth = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    turned: Tensor = matrix.T if tall else matrix
    turned = turned / (turned.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        gram = turned @ turned.T
        turned = first * turned + (third * gram + fifth * gram @ gram) @ turned
    return turned.T if tall else turned


def muon_and_adamw(
    network: nn.Module, lr: float, weight_decay: float
) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for hidden matrices and kernels, AdamW for the rest: vectors, and what ends in a logit.

    A matrix with a single row or column is a vector. The last layers are those named ``logit``,
    ``technology`` and ``generator``, as the heads of every system here.
    """
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, weights in network.named_parameters():
        vector = weights.ndim < 2 or 1 in (weights.shape[0], weights[0].numel())
        last = any(part in ("logit", "technology", "generator") for part in name.split("."))
        (others if vector or last else matrices).append(weights)
    return (
        Muon(matrices, lr, weight_decay),
        torch.optim.AdamW(others, lr=lr, weight_decay=weight_decay),
    )
