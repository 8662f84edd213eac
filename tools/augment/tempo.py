"""Time: speed, pitch and place. What is not there is silent; what runs over is cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import soxr

from tools.augment.settings import RATE_HZ

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]

_GRAIN = RATE_HZ * 3 // 100
"""30 ms, overlapping by half: three periods of a low voice."""
_SEARCH = RATE_HZ // 100
"""10 ms, one period of a voice of 100 Hz, either way."""


def fitted(clip: FloatArray, samples: int) -> FloatArray:
    """A clip of this length: cut, or with zeros after it."""
    out = np.zeros(samples, np.float32)
    kept = min(samples, len(clip))
    out[:kept] = clip[:kept]
    return out


def shifted(clip: FloatArray, samples: int) -> FloatArray:
    """The clip that much later (negative: earlier), as long as before."""
    out = np.zeros_like(clip)
    if samples >= 0:
        out[samples:] = clip[: max(0, len(clip) - samples)]
    else:
        out[:samples] = clip[-samples:]
    return out


def at_speed(clip: FloatArray, ratio: float) -> FloatArray:
    """``len(clip) / ratio`` samples: faster and higher above 1, as a tape would be."""
    return np.asarray(soxr.resample(clip, RATE_HZ * ratio, RATE_HZ), np.float32)


def at_pitch(clip: FloatArray, semitones: float) -> FloatArray:
    """As long as before: stretched by overlapping grains, then played at another speed.

    In the time domain (WSOLA, Verhelst and Roelands 1993), because a phase vocoder would leave on
    human speech the very traces that a detector of vocoders looks for.
    """
    ratio = 2.0 ** (semitones / 12.0)
    return fitted(at_speed(_stretched(clip, ratio), ratio), len(clip))


def _stretched(clip: FloatArray, ratio: float) -> FloatArray:
    """``ratio`` times as long at the same pitch."""
    step = _GRAIN // 2
    window = np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_GRAIN) / _GRAIN), np.float32)
    count = int(len(clip) * ratio) // step + 1
    padded = np.concatenate((np.zeros(_SEARCH, np.float32), clip, np.zeros(3 * _GRAIN, np.float32)))
    out = np.zeros(count * step + _GRAIN, np.float32)
    last = len(padded) - _GRAIN - 2 * _SEARCH
    follows = _SEARCH
    for grain in range(count):
        centre = min(int(grain * step / ratio), last)
        # Of the grains around this place, the one most like what would have come next.
        wanted = padded[min(follows, last) :][:_GRAIN]
        candidates = padded[centre : centre + _GRAIN + 2 * _SEARCH]
        likeness = np.correlate(candidates[::2], wanted[::2], mode="valid")
        begin = centre + 2 * int(np.argmax(likeness)) if grain else _SEARCH
        shape = window if grain else np.maximum(window, np.arange(_GRAIN) < step)
        out[grain * step : grain * step + _GRAIN] += shape * padded[begin : begin + _GRAIN]
        follows = begin + step
    return out[: int(len(clip) * ratio)]
