"""What networks that run hop by hop share: a causal mean, and how they declare their graphs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from streamguard.clock import HOP_SAMPLES
from tools.bundle_writer import GraphSpec, StateSpec, TensorSpec


def without_running_mean(
    frames: Tensor, state: Tensor, mean: Tensor, decay: float, prior_frames: float
) -> tuple[Tensor, Tensor]:
    """Remove the running mean, this hop included: ``(centred, new state)``.

    ``frames`` ``[batch, n, width]``; the state ``[batch, width + 1]`` is the decayed sum of frames
    and their decayed count, zeros at first. ``mean`` ``[width]``, of the training speech, weighs as
    much as ``prior_frames`` frames.
    """
    sums = state[:, :-1] * decay + frames.sum(dim=1)
    count = state[:, -1:] * decay + float(frames.shape[1])
    running = (sums + prior_frames * mean) / (count + prior_frames)
    return frames - running[:, None], torch.cat((sums, count), dim=1)


def attribution_outputs(technologies: int, generators: int) -> tuple[TensorSpec, TensorSpec]:
    """The two answers of an attributor's head."""
    return (
        TensorSpec("technology_logits", (technologies,), "labels.technology"),
        TensorSpec("generator_logits", (generators,), "labels.generator"),
    )


def hop_and_head(
    hop: nn.Module,
    head: nn.Module,
    left_context: int,
    sums: TensorSpec,
    count: TensorSpec,
    outputs: tuple[TensorSpec, ...],
    state_out: TensorSpec | None = None,
) -> tuple[GraphSpec, GraphSpec]:
    """A hop graph whose ``sums`` and ``count`` add up to what the head graph takes.

    With ``state_out`` the hop graph takes a ``state_in`` of the same shape, too.
    """
    inputs = [TensorSpec("samples", (left_context + HOP_SAMPLES,))]
    made = [sums, count]
    state: tuple[StateSpec, ...] = ()
    if state_out is not None:
        inputs.append(TensorSpec("state_in", state_out.shape))
        made.append(state_out)
        state = (StateSpec("state_in", state_out.name, state_out.shape),)
    return (
        GraphSpec(
            name="hop_fp32",
            module=hop,
            unit="hop",
            left_context=left_context,
            inputs=tuple(inputs),
            outputs=tuple(made),
            state=state,
        ),
        GraphSpec(
            name="head_fp32", module=head, unit="head", inputs=(sums, count), outputs=outputs
        ),
    )
