"""Levels: RMS in dBFS, and causal normalisation by the running peak."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]
    BoolArray = npt.NDArray[np.bool_]

FLOOR_DBFS = -120.0
"""The level of digital silence; a logarithm without a floor makes it 0 dBFS or minus infinity."""
BLOCK_SAMPLES = 160
"""10 ms at 16 kHz: the grid on which the gain may change."""
PEAK_MEMORY_BLOCKS = 300
"""3 s, the length of a window: its loudest sample is never forgotten inside it."""
PEAK_FLOOR = 0.01
"""-40 dBFS, so the gain never exceeds 40 dB: speech as quiet as a telephone line delivers still
reaches full scale, comfort noise (about -60 dBFS RMS, peaks at -48) stays well below it."""

_RAMP: FloatArray = (np.arange(1, BLOCK_SAMPLES + 1) / BLOCK_SAMPLES).astype(np.float32)


def rms_dbfs(samples: FloatArray) -> float:
    """RMS level in dB relative to full scale 1.0; -120 for silence and for nothing."""
    if not len(samples):
        return FLOOR_DBFS
    power = float(np.dot(samples, samples)) / len(samples)
    return max(FLOOR_DBFS, 10.0 * math.log10(power)) if power > 0.0 else FLOOR_DBFS


class RunningPeak:
    """Divides by the running peak of the last 3 s, in steps of 10 ms with a linear ramp.

    The gain of a block is 1 / max(floor, peak of the last 300 blocks, itself included). At the edge
    of two blocks it is the smaller of theirs, and linear in between: so no output sample exceeds
    1.0, and nothing clicks. The price is one block of look-ahead, which the caller provides.
    """

    def __init__(self) -> None:
        self._peaks: FloatArray = np.zeros(PEAK_MEMORY_BLOCKS - 1, dtype=np.float32)
        self._edge_gain: np.float32 | None = None

    def process(
        self,
        samples: FloatArray,
        ahead: FloatArray,
        masked: BoolArray | None = None,
    ) -> FloatArray:
        """Normalise ``samples`` (a multiple of 160); ``ahead`` is the block that follows them.

        ``masked`` covers both (``len(samples) + len(ahead)``); masked samples are scaled like the
        others, but do not count as peaks. ``ahead`` comes again as the start of the next call.
        """
        heard = np.abs(np.concatenate((samples, ahead)))
        if masked is not None:
            heard[masked] = 0.0
        new = heard.reshape(-1, BLOCK_SAMPLES).max(axis=1)
        peaks = np.concatenate((self._peaks, new))
        running = _running_maximum(peaks, PEAK_MEMORY_BLOCKS)
        gain = np.float32(1.0) / np.maximum(running, np.float32(PEAK_FLOOR))
        stop = np.minimum(gain[:-1], gain[1:])
        start = np.empty_like(stop)
        start[1:] = stop[:-1]
        start[0] = gain[0] if self._edge_gain is None else self._edge_gain
        blocks = samples.reshape(-1, BLOCK_SAMPLES)
        out: FloatArray = blocks * start[:, None]
        # A peak is remembered for 3 s: in most blocks the gain does not change.
        ramped = np.flatnonzero(stop != start)
        if len(ramped):
            first = start[ramped, None]
            out[ramped] = blocks[ramped] * (first + (stop[ramped, None] - first) * _RAMP)
        self._peaks = peaks[-PEAK_MEMORY_BLOCKS:-1]
        self._edge_gain = stop[-1]
        return out.reshape(-1)


def _running_maximum(values: FloatArray, width: int) -> FloatArray:
    """Maximum of every ``width`` neighbours; few sums for few of them (van Herk, 1992)."""
    count = len(values) - width + 1
    parts = []
    for begin in range(0, count, width):
        # Windows that begin in one stretch of ``width`` all hold its last value and the next first.
        size = min(width, count - begin)
        old = values[begin : begin + width]
        new = values[begin + width : begin + width + size - 1]
        behind = np.maximum.accumulate(old[::-1])[::-1][:size]
        behind[1:] = np.maximum(behind[1:], np.maximum.accumulate(new))
        parts.append(behind)
    return np.concatenate(parts)


def normalise(clip: FloatArray) -> FloatArray:
    """A whole clip (16 kHz) as the live front end would deliver it, without its delay."""
    padding = -len(clip) % BLOCK_SAMPLES
    padded = np.concatenate((clip, np.zeros(padding, dtype=np.float32))).astype(np.float32)
    ahead = np.zeros(BLOCK_SAMPLES, dtype=np.float32)
    return RunningPeak().process(padded, ahead)[: len(clip)]
