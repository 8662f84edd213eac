"""Short-time spectra, mel filters and frames: what the methods of copy-synthesis share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft, signal

Signal = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float32]
ComplexArray = npt.NDArray[np.complex64]

RATE_HZ = 16000
FLOOR = 1e-5
"""Amplitude below which a magnitude says nothing: under the 16-bit grid."""


class Stft:
    """A short-time Fourier transform and its least-squares inverse; frame i is centred on i hops.

    Frames are ``[frames, size // 2 + 1]``. The window is a periodic Hann of ``window`` samples.
    """

    def __init__(self, size: int, hop: int, window: int | None = None) -> None:
        self.size, self.hop = size, hop
        self.window = window or size
        hann = signal.get_window("hann", self.window)
        padding = size - self.window
        self._taper = np.pad(hann, (padding // 2, padding - padding // 2)).astype(np.float32)

    @property
    def gain(self) -> float:
        """The magnitude that a sine of amplitude 1 has at its peak."""
        return float(self._taper.sum()) / 2

    def forward(self, samples: Signal) -> ComplexArray:
        """Spectra of ``len(samples) // hop + 1`` frames."""
        half = self.size // 2
        padded = np.pad(samples.astype(np.float32), (half, half + self.hop))
        frames = sliding_window_view(padded, self.size)[:: self.hop][: len(samples) // self.hop + 1]
        return np.asarray(fft.rfft(frames * self._taper, axis=1), np.complex64)

    def inverse(self, spectra: ComplexArray, length: int) -> Signal:
        """The signal of ``length`` samples whose spectra are nearest (Griffin and Lim, 1984)."""
        frames = fft.irfft(spectra, self.size, axis=1).astype(np.float32) * self._taper
        total = self.hop * (len(frames) - 1) + self.size
        out, weight = np.zeros((2, max(total, length + self.size)), np.float32)
        squared = self._taper**2
        for index, frame in enumerate(frames):
            start = index * self.hop
            out[start : start + self.size] += frame
            weight[start : start + self.size] += squared
        half = slice(self.size // 2, self.size // 2 + length)
        return np.asarray(out[half] / np.maximum(weight[half], 1e-3), np.float32)


def mel_filters(count: int, size: int, low_hz: float, high_hz: float) -> FloatArray:
    """``[count, size // 2 + 1]`` triangles of equal height 1, evenly spaced in mel (HTK formula).

    A triangle narrower than a bin still reaches the bin nearest to its centre.
    """
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (low_hz, high_hz))
    edges = np.linspace(low, high, count + 2)
    hz = 700 * (10 ** (edges / 2595) - 1)
    bins = fft.rfftfreq(size, 1 / RATE_HZ)
    lower, centre, upper = hz[:-2, None], hz[1:-1, None], hz[2:, None]
    rising, falling = (bins - lower) / (centre - lower), (upper - bins) / (upper - centre)
    filters = np.maximum(0.0, np.minimum(rising, falling))
    empty = np.flatnonzero(filters.sum(axis=1) == 0)
    filters[empty, np.abs(bins - hz[1:-1][empty, None]).argmin(axis=1)] = 1.0
    return np.asarray(filters, np.float32)


@dataclass(frozen=True, slots=True)
class MelGrid:
    """A mel analysis as an acoustic model would be trained on, and the way back from it."""

    stft: Stft
    filters: FloatArray
    high_hz: float

    @classmethod
    def make(
        cls, size: int, hop: int, window: int, count: int, low_hz: float, high_hz: float
    ) -> MelGrid:
        return cls(Stft(size, hop, window), mel_filters(count, size, low_hz, high_hz), high_hz)

    def forward(self, magnitude: FloatArray) -> FloatArray:
        """``[frames, mels]`` of ``[frames, bins]``, both linear amplitudes."""
        return np.asarray(magnitude @ self.filters.T, np.float32)

    def pseudo_inverse(self, mel: FloatArray) -> FloatArray:
        """``[frames, bins]`` by the clipped Moore-Penrose inverse.

        Its cut-off keeps mel bands that share their only bin from being told apart by huge weights.
        """
        return np.asarray(np.maximum(mel @ np.linalg.pinv(self.filters, 0.05).T, 0), np.float32)

    def non_negative_inverse(self, mel: FloatArray, iterations: int) -> FloatArray:
        """``[frames, bins]`` by multiplicative updates of non-negative least squares."""
        gram = self.filters.T @ self.filters
        wanted = mel @ self.filters
        found = np.maximum(self.pseudo_inverse(mel), FLOOR)
        for _ in range(iterations):
            found *= wanted / np.maximum(found @ gram, FLOOR)
        return found


def frame_count(samples: int, hop: int) -> int:
    """Hops that a signal fills, the last one perhaps in part."""
    return -(-samples // hop)


def minimum_phase(magnitude: FloatArray) -> ComplexArray:
    """The minimum-phase spectra of ``[frames, bins]`` magnitudes, by folding the cepstrum."""
    size = 2 * (magnitude.shape[1] - 1)
    cepstrum = fft.irfft(np.log(np.maximum(magnitude, FLOOR)), size, axis=1)
    cepstrum[:, 1 : size // 2] *= 2
    cepstrum[:, size // 2 + 1 :] = 0
    return np.asarray(np.exp(fft.rfft(cepstrum, axis=1)), np.complex64)


def smooth(values: FloatArray, sigma: float, axis: int) -> FloatArray:
    """Gaussian smoothing along an axis; ``sigma`` in steps, none at zero."""
    if sigma <= 0:
        return values
    reach = max(1, round(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).astype(np.float32)
    shape = [1, 1]
    shape[axis] = len(kernel)
    padding = [(0, 0), (0, 0)]
    padding[axis] = (reach, reach)
    padded = np.pad(values, padding, mode="edge")
    kernel = (kernel / kernel.sum()).reshape(shape)
    return np.asarray(signal.oaconvolve(padded, kernel, mode="valid", axes=axis), np.float32)
