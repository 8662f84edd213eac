"""Amplitude responses of microphones and converters, and transfer functions of rooms."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

from tools.augment.settings import RATE_HZ

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]

EQ_KNOTS_HZ = (0, 150, 300, 600, 1000, 1600, 2400, 3300, 4400, 5700, 7000, 8000)
ROOM_SAMPLES = RATE_HZ * 2 // 5
_STOP_DB = 60.0


@functools.lru_cache(maxsize=16)
def _knot_weights(size: int) -> FloatArray:
    """``[knots, bins]``: linear interpolation between the knots, as a matrix."""
    hz = fft.rfftfreq(size, 1 / RATE_HZ)
    rows = [np.interp(hz, EQ_KNOTS_HZ, row) for row in np.eye(len(EQ_KNOTS_HZ))]
    return np.asarray(rows, np.float32)


def curves_db(knots_db: npt.NDArray[np.float64], size: int) -> FloatArray:
    """``[count, bins]`` of a transform of ``size``: smooth curves through the knots."""
    return np.asarray(knots_db.astype(np.float32) @ _knot_weights(size), np.float32)


def low_pass_db(
    corner_hz: npt.NDArray[np.float64], db_per_khz: npt.NDArray[np.float64], size: int
) -> FloatArray:
    """``[count, bins]``: flat up to the corner, falling beyond it, by 60 dB at most."""
    hz = fft.rfftfreq(size, 1 / RATE_HZ).astype(np.float32)
    beyond = hz - corner_hz.astype(np.float32)[:, None]
    beyond *= (db_per_khz / 1000.0).astype(np.float32)[:, None]
    return -np.clip(beyond, 0.0, _STOP_DB, out=beyond)


def simulated_room(
    decay_s: float, direct_db: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Impulse response: the direct sound, then noise that dies away by 60 dB in ``decay_s``."""
    time_s = np.arange(1, ROOM_SAMPLES, dtype=np.float32) / np.float32(RATE_HZ)
    tail = rng.standard_normal(ROOM_SAMPLES - 1, np.float32)
    tail *= np.exp(time_s * np.float32(-6.9 / decay_s))
    tail *= np.float32(10 ** (-direct_db / 20)) / np.sqrt(np.square(tail).sum())
    return np.concatenate((np.ones(1, np.float32), tail))


def direct_first(room: FloatArray) -> FloatArray:
    """A recorded impulse response from its direct sound on, which becomes 1.0."""
    start = int(np.argmax(np.abs(room)))
    return np.asarray(room[start:] / room[start], np.float32)
