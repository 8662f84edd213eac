"""Streaming resampling to 16 kHz: causal, with a stated delay, the same for any chunking.

After ``N`` input samples exactly ``floor(N * 16000 / rate)`` output samples have come out, and
output sample ``n`` is the input at ``(n - delay) / 16000`` seconds.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import soxr

from streamguard.clock import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]

MIN_RATE_HZ = 4_000
MAX_RATE_HZ = 192_000

_HALF_TAPS = 32
"""Input samples that each interpolated sample of the 8 kHz filter looks at."""
_KAISER_BETA = 6.8
"""With 63 taps: 68 dB of image rejection from 4.6 kHz on, flat within 0.01 dB up to 3.4 kHz."""
_SOXR_QUALITY = "HQ"
"""Flat to 7.3 kHz of 8; the quicker settings cut speech at 5.5 kHz or alias. The price is 60 ms
of delay at 44.1 and 48 kHz (0.25 s at 4 kHz), little beside a hop of 500 ms."""
_PROBE_SECONDS = 3


class Resampler(Protocol):
    """From one source rate to 16 kHz."""

    @property
    def delay(self) -> int:
        """Output samples by which the output lags."""

    def process(self, samples: FloatArray) -> FloatArray:
        """All output that is due after these samples."""


def check_rate(rate_hz: int) -> None:
    """Raises ValueError for a rate that cannot be resampled."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise ValueError(f"rate {rate_hz} Hz: allowed are {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")


def resampler(rate_hz: int) -> Resampler:
    """A fresh resampler. Raises ValueError for a rate outside 4,000 to 192,000 Hz."""
    check_rate(rate_hz)
    if rate_hz == SAMPLE_RATE_HZ:
        return Identity()
    if 2 * rate_hz == SAMPLE_RATE_HZ:
        return HalfBand()
    return SoxrResampler(rate_hz)


class Identity:
    """16 kHz stays as it is."""

    delay = 0

    def process(self, samples: FloatArray) -> FloatArray:
        return samples


def _half_band_taps() -> FloatArray:
    """The non-trivial phase of a Kaiser half-band filter, for sums of 1."""
    offsets = np.arange(_HALF_TAPS) - (_HALF_TAPS - 1) / 2
    taps = np.sinc(offsets) * np.kaiser(2 * _HALF_TAPS - 1, _KAISER_BETA)[0::2]
    normed: FloatArray = (taps / taps.sum()).astype(np.float32)
    return normed


class HalfBand:
    """8 to 16 kHz: a linear-phase half-band filter of 63 taps, 31 output samples (1.9 ms) late.

    Every second output is an input sample untouched, every other one the sum over 32 of them.
    """

    delay = _HALF_TAPS - 1
    _taps = _half_band_taps()

    def __init__(self) -> None:
        self._history: FloatArray = np.zeros(_HALF_TAPS - 1, dtype=np.float32)

    def process(self, samples: FloatArray) -> FloatArray:
        heard = np.concatenate((self._history, samples))
        out = np.empty(2 * len(samples), dtype=np.float32)
        if len(samples):
            out[0::2] = np.convolve(heard, self._taps, mode="valid")
            begin = _HALF_TAPS // 2
            out[1::2] = heard[begin : begin + len(samples)]
            self._history = heard[len(samples) :]
        return out


class SoxrResampler:
    """Any other rate, by libsoxr; fed in blocks of 10 ms, whatever the caller's chunks are."""

    def __init__(self, rate_hz: int) -> None:
        self.delay = _soxr_lag(rate_hz)
        self._rate_hz = rate_hz
        self._stream = _soxr_stream(rate_hz)
        self._block = rate_hz // 100
        self._input: FloatArray = np.zeros(0, dtype=np.float32)
        self._output: FloatArray = np.zeros(self.delay, dtype=np.float32)
        self._taken = 0
        self._given = 0

    def process(self, samples: FloatArray) -> FloatArray:
        self._taken += len(samples)
        waiting = np.concatenate((self._input, samples))
        whole = len(waiting) - len(waiting) % self._block
        parts = [self._output]
        parts += [
            self._stream.resample_chunk(waiting[begin : begin + self._block])
            for begin in range(0, whole, self._block)
        ]
        self._input = waiting[whole:]
        ready = np.concatenate(parts)
        due = self._taken * SAMPLE_RATE_HZ // self._rate_hz - self._given
        assert len(ready) >= due, "the probed lag of the resampler is too small"
        self._given += due
        self._output = ready[due:]
        return ready[:due]


def _soxr_stream(rate_hz: int) -> Any:
    return soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality=_SOXR_QUALITY)


@functools.lru_cache(maxsize=64)
def _soxr_lag(rate_hz: int) -> int:
    """The most output samples that libsoxr is ever behind, tried out on silence, and some more.

    It works in blocks of its own, whose size depends on the rate and is not published.
    """
    stream = _soxr_stream(rate_hz)
    block = rate_hz // 100
    silence = np.zeros(block, dtype=np.float32)
    given = worst = 0
    for blocks in range(_PROBE_SECONDS * 100):
        next_due = ((blocks + 1) * block - 1) * SAMPLE_RATE_HZ // rate_hz
        worst = max(worst, next_due - given)
        given += len(stream.resample_chunk(silence))
    return worst + SAMPLE_RATE_HZ // 100
