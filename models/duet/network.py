"""Two detectors that err apart: the subband network and the LFCC CNN-LSTM, on one spectrum.

Each was trained by itself; the score is a weighted sum of their logits. The CNN-LSTM takes its
cepstra from the subband network's power spectrum (a Hann window instead of its own Hamming window,
which moved its validation error by less than half a point), so that a hop costs one Fourier
transform.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.cnn_lstm import network as cnn_lstm
from models.subband import network as subband
from tools.bundle_writer import GraphSpec, StateSpec, TensorSpec

HOP_SAMPLES = subband.HOP_SAMPLES
LEFT_CONTEXT = subband.LEFT_CONTEXT


class Duet(nn.Module):
    """Both members; ``weight`` is that of the CNN-LSTM's logit beside the subband network's."""

    def __init__(self, first: subband.Subband, second: cnn_lstm.Detector, weight: float) -> None:
        super().__init__()
        if first.settings.fft != second.settings.fft:
            raise ValueError("network.fft: the same for both, since they share the spectrum")
        self.first = first
        self.second = second
        self.weight = weight


def compose(recipe: Mapping[str, Any], members: Sequence[nn.Module]) -> Duet:
    """The system of the recipe's members, in their order: subband, cnn_lstm."""
    first, second = members
    assert isinstance(first, subband.Subband)
    assert isinstance(second, cnn_lstm.Detector)
    return Duet(first, second, float(recipe["weight"])).eval()


class HopGraph(nn.Module):
    """``(samples [batch, 8240], state_in)`` -> ``(sums, count, state_out)``, side by side."""

    def __init__(self, duet: Duet) -> None:
        super().__init__()
        self.power = duet.first.power
        self.first = subband.HopGraph(duet.first)
        self.second = cnn_lstm.HopGraph(duet.second)
        self.states = [duet.first.settings.state_size, duet.second.settings.state_size]

    def forward(self, samples: Tensor, state_in: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        power = self.power(samples)
        first_state, second_state = torch.split(state_in, self.states, dim=1)
        first = self.first.of_power(power, first_state)
        cepstra = self.second.detector.lfcc.of_power(power)
        second = self.second.of_cepstra(cepstra, second_state)
        sums, count, state = (torch.cat(both, dim=1) for both in zip(first, second, strict=True))
        return sums, count, state


class HeadGraph(nn.Module):
    """``(sums, count)`` -> ``(logit [batch, 1], embedding)``; the subband network's embedding."""

    def __init__(self, duet: Duet) -> None:
        super().__init__()
        size = duet.first.settings.embedding
        self.first = subband.HeadGraph(duet.first)
        self.second = cnn_lstm.HeadGraph(duet.second)
        self.sums = [2 * size, cnn_lstm.EMBEDDING]
        self.counts = [size, 1]
        self.weight = duet.weight

    def forward(self, sums: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        first_sums, second_sums = torch.split(sums, self.sums, dim=1)
        first_count, second_count = torch.split(count, self.counts, dim=1)
        logit, embedding = self.first(first_sums, first_count)
        return logit + self.weight * self.second(second_sums, second_count), embedding


def graphs(duet: Duet) -> tuple[GraphSpec, ...]:
    """What the daemon runs."""
    hop, head = HopGraph(duet), HeadGraph(duet)
    state = TensorSpec("state_in", (sum(hop.states),))
    sums = TensorSpec("sums", (sum(head.sums),), "weighted sums of frames and squares; activations")
    count = TensorSpec("count", (sum(head.counts),), "sums of attention weights; blocks")
    size = duet.first.settings.embedding
    return (
        GraphSpec(
            name="hop_fp32",
            module=hop,
            unit="hop",
            left_context=LEFT_CONTEXT,
            inputs=(TensorSpec("samples", (LEFT_CONTEXT + HOP_SAMPLES,)), state),
            outputs=(
                sums,
                count,
                TensorSpec("state_out", state.shape, "running sums of both, and their numbers"),
            ),
            state=(StateSpec("state_in", "state_out", state.shape),),
        ),
        GraphSpec(
            name="head_fp32",
            module=head,
            unit="head",
            inputs=(sums, count),
            outputs=(
                TensorSpec("logit", (1,), "positive for spoof"),
                TensorSpec("embedding", (size,), "dense layer under the subband network's heads"),
            ),
        ),
    )
