"""The power spectrum of 25 ms frames every 10 ms: what the front ends of the networks share.

A quarter of the multiplications of the plain Fourier matrix (Cooley and Tukey 1965, radix 4, the
twiddle factors within the matrices), and still nothing but reshapes and matrix products, which
ONNX Runtime does fast; its DFT operator it does not.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Matrix = npt.NDArray[np.float32]

FRAME_SAMPLES = 400
SHIFT_SAMPLES = 160
_RADIX = 4
_CHUNK = math.gcd(FRAME_SAMPLES, SHIFT_SAMPLES) // _RADIX
"""Samples of a phase by which frames are put together: a frame is 5 chunks, a shift 2."""


def hann() -> Floats:
    """Symmetric, without the zeros at its ends."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(FRAME_SAMPLES) + 0.5) / FRAME_SAMPLES)


def hamming() -> Floats:
    """As of Matlab and of most speech toolkits."""
    return 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(FRAME_SAMPLES) / (FRAME_SAMPLES - 1))


def arranged(bank: Matrix) -> Matrix:
    """Filters ``[fft / 2 + 1, m]`` by frequency, for the order in which :class:`Power` has bins.

    Three bins appear twice there; their second rows are zeros. Returns ``[fft / 2 + 4, m]``.
    """
    quarter = (len(bank) - 1) // 4
    first = np.arange(quarter + 1)
    bins = np.concatenate((first, 4 * quarter - first, 2 * quarter + first, 2 * quarter - first))
    rows = bank[bins]
    _, once = np.unique(bins, return_index=True)
    rows[np.setdiff1d(np.arange(len(bins)), once)] = 0.0
    return rows


class Power(nn.Module):
    """``[batch, 240 + 160 n]`` samples -> ``[batch, n, fft / 2 + 4]`` power, see ``arranged``.

    Normalised by the window's energy, so that a floor is a level and not a convention. Raises
    ValueError for an ``fft`` that is shorter than a frame or no multiple of 8.
    """

    fourier: Tensor

    def __init__(self, fft: int, window: Floats) -> None:
        super().__init__()
        if fft < FRAME_SAMPLES or fft % (2 * _RADIX):
            raise ValueError(f"network.fft: {fft}: a multiple of 8, at least {FRAME_SAMPLES}")
        self.bins = fft // (2 * _RADIX) + 1
        time = np.arange(FRAME_SAMPLES).reshape(-1, _RADIX).T
        angles = 2 * np.pi / fft * time[:, :, None] * np.arange(self.bins)
        basis = np.concatenate((np.cos(angles), -np.sin(angles)), axis=2)
        basis *= (window / math.sqrt(float(np.square(window).sum())))[time][:, :, None]
        # [4 phases, 100 samples, real parts and imaginary parts]
        self.register_buffer(
            "fourier", torch.from_numpy(basis.astype(np.float32)), persistent=False
        )

    def forward(self, samples: Tensor) -> Tensor:
        batch, length = samples.shape
        shift, overlap = SHIFT_SAMPLES // _RADIX // _CHUNK, FRAME_SAMPLES // _RADIX // _CHUNK
        chunks = length // _RADIX // _CHUNK
        last = chunks - overlap
        phases = samples.reshape(batch, chunks * _CHUNK, _RADIX).transpose(1, 2)
        pieces = phases.reshape(batch, _RADIX, chunks, _CHUNK)
        # Unfolding by a convolution costs as much as the transform.
        frames = torch.cat([pieces[:, :, i : i + last + 1 : shift] for i in range(overlap)], dim=3)
        even, odd = torch.split(frames @ self.fourier, 2, dim=1)
        both, apart = even + odd, even - odd
        real, imaginary = torch.split(apart[:, 1], self.bins, dim=2)
        turned = torch.cat((imaginary, -real), dim=2)
        spectrum = torch.stack(
            (
                both[:, 0] + both[:, 1],
                both[:, 0] - both[:, 1],
                apart[:, 0] + turned,
                apart[:, 0] - turned,
            ),
            dim=2,
        )
        squares = spectrum.square()
        return (squares[..., : self.bins] + squares[..., self.bins :]).flatten(2)
