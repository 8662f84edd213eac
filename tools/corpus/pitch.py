"""Fundamental frequency of speech by normalised autocorrelation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft, ndimage, signal

from tools.corpus.spectra import RATE_HZ, Signal

if TYPE_CHECKING:
    import numpy.typing as npt

_STEP = 2
"""Decimation: pitch is searched below 4 kHz."""
_WINDOW_S = 0.04
_RANGE_HZ = (65.0, 420.0)
_VOICED = 0.45
_AS_GOOD = 0.85
"""A lag this near to the best correlation is as good; the shortest such is no octave too low."""


@dataclass(frozen=True, slots=True)
class Pitch:
    """One value per hop of ``hop`` samples."""

    hop: int
    hz: npt.NDArray[np.float32]
    """Continuous through unvoiced parts, so that it can be integrated to a phase."""
    strength: npt.NDArray[np.float32]
    """Height of the autocorrelation peak, 0 to 1; 0 where the hop is not voiced."""

    def hz_per_sample(self, length: int) -> npt.NDArray[np.float64]:
        """``[length]``: interpolated between the centres of the hops."""
        centres = (np.arange(len(self.hz)) + 0.5) * self.hop
        return np.asarray(np.interp(np.arange(length), centres, self.hz), np.float64)


def track_pitch(samples: Signal, hop: int) -> Pitch:
    """Pitch of every hop, by the autocorrelation of 40 ms divided by that of their parts."""
    slow = signal.resample_poly(samples.astype(np.float32), 1, _STEP)
    rate, size = RATE_HZ // _STEP, round(_WINDOW_S * RATE_HZ / _STEP)
    lags = range(int(rate / _RANGE_HZ[1]), int(rate / _RANGE_HZ[0]) + 2)
    count = -(-len(samples) // hop)
    padded = np.pad(slow, (size // 2, size + lags.stop))
    starts = np.minimum(
        (np.arange(count) * hop + hop // 2) // _STEP, len(padded) - size - lags.stop
    )
    wide = sliding_window_view(padded, size + lags.stop)[starts].astype(np.float32)
    wide = wide - wide[:, :size].mean(axis=1, keepdims=True)
    head = wide[:, :size]
    width = fft.next_fast_len(2 * size + lags.stop, real=True)
    product = np.conj(fft.rfft(head, width, axis=1)) * fft.rfft(wide, width, axis=1)
    correlation = fft.irfft(product, width, axis=1)[:, lags.start : lags.stop]
    energy = np.cumsum(np.pad(wide**2, ((0, 0), (1, 0))), axis=1)
    shifted = np.stack([energy[:, lag + size] - energy[:, lag] for lag in lags], axis=1)
    own = energy[:, size][:, None]
    normalised = correlation / np.sqrt(np.maximum(own * shifted, 1e-9))
    best = _shortest(normalised)
    strength = np.clip(normalised[np.arange(count), best], 0, 1)
    hz = rate / (lags.start + _peak(normalised, best))
    loud = own[:, 0] > own.max() * 1e-5
    voiced = ndimage.median_filter(((strength > _VOICED) & loud).astype(np.float32), 5) > 0
    if voiced.any():
        hz = np.interp(np.arange(count), np.flatnonzero(voiced), hz[voiced])
    else:
        hz = np.full(count, 120.0)
    hz = ndimage.median_filter(hz, 5, mode="nearest")
    return Pitch(hop, hz.astype(np.float32), np.where(voiced, strength, 0).astype(np.float32))


def _shortest(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """``[rows]``: the first local maximum about as high as the highest."""
    inner = rows[:, 1:-1]
    summit = (inner >= rows[:, :-2]) & (inner >= rows[:, 2:])
    good = summit & (inner >= _AS_GOOD * inner.max(axis=1, keepdims=True))
    first = np.where(good.any(axis=1), good.argmax(axis=1) + 1, rows.argmax(axis=1))
    return np.asarray(first, np.intp)


def _peak(rows: npt.NDArray[np.float32], best: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """``[rows]``: the top of the parabola through each row's best value and its neighbours."""
    inner = np.clip(best, 1, rows.shape[1] - 2)
    row = np.arange(len(rows))
    left, middle, right = rows[row, inner - 1], rows[row, inner], rows[row, inner + 1]
    bend = left - 2 * middle + right
    offset = np.where(np.abs(bend) > 1e-6, 0.5 * (left - right) / np.where(bend == 0, 1, bend), 0)
    return np.asarray(inner + np.clip(offset, -0.5, 0.5), np.float64)
