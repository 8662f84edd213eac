"""Coloured noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

from tools.augment.settings import RATE_HZ

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]


def coloured_noise(
    slope: npt.NDArray[np.float64], samples: int, rng: np.random.Generator
) -> FloatArray:
    """``[len(slope), samples]``: noise whose power falls as ``1 / f**slope``."""
    size = fft.next_fast_len(samples, real=True)
    bins = size // 2 + 1
    white = rng.standard_normal((len(slope), bins, 2), np.float32).view(np.complex64)[..., 0]
    octaves = np.log(np.maximum(fft.rfftfreq(size, 1 / RATE_HZ), 20.0)).astype(np.float32)
    white *= np.exp(octaves * (-slope[:, None] / 2).astype(np.float32))
    return np.asarray(fft.irfft(white, size, axis=1)[:, :samples], np.float32)
