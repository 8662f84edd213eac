"""Training crops: the samples of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from streamguard.audio.level import normalise
from tools.data import AudioCache, Clip, active_span

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]
    BoolArray = npt.NDArray[np.bool_]

HOP_SAMPLES = 8000
_QUIET_DB = 25.0
"""A hop this far below the loudest one of its crop is a pause: the daemon's gate keeps it out."""


class Crops:
    """Trimmed clips of at least one hop, to be cropped; read-only."""

    def __init__(self, clips: Sequence[Clip], cache: AudioCache, left_context: int) -> None:
        self._left_context = left_context
        spans = {clip.path: active_span(cache.samples(clip)) for clip in clips}
        self.clips = tuple(
            clip for clip in clips if spans[clip.path][1] - spans[clip.path][0] >= HOP_SAMPLES
        )
        self._audio = [cache.samples(clip) for clip in self.clips]
        self._spans = [spans[clip.path] for clip in self.clips]
        self.spoof: BoolArray = np.array([clip.spoof for clip in self.clips], np.bool_)

    def take(
        self, rows: npt.NDArray[np.int64], hops: int, rng: np.random.Generator
    ) -> tuple[FloatArray, BoolArray]:
        """``[rows, left_context + 8000 hops]`` samples, ``[rows, hops]`` valid hops.

        A crop begins anywhere in its clip; a clip too short for all hops leaves zeros after it.
        """
        context = self._left_context
        batch = np.zeros((len(rows), context + HOP_SAMPLES * hops), np.float32)
        valid = np.zeros((len(rows), hops), np.bool_)
        for place, row in enumerate(rows):
            start, stop = self._spans[row]
            whole = min(hops, (stop - start) // HOP_SAMPLES)
            begin = start + int(rng.integers(stop - start - whole * HOP_SAMPLES + 1))
            end = begin + whole * HOP_SAMPLES
            heard = self._audio[row][max(0, begin - context) : end].astype(np.float32) / 32768.0
            filled = context + whole * HOP_SAMPLES
            batch[place, filled - len(heard) : filled] = heard
            valid[place, :whole] = spoken(batch[place, context:filled])
        return batch, valid


def spoken(samples: FloatArray) -> BoolArray:
    """``[hops]``: whether each hop holds speech rather than a pause. At least one does."""
    level = np.square(samples.reshape(-1, HOP_SAMPLES)).mean(axis=1)
    return np.asarray(level >= level.max() * 10 ** (-_QUIET_DB / 10), np.bool_)


def normalised(batch: FloatArray) -> FloatArray:
    """Each clip divided by its causal running peak, as the daemon's front end does."""
    return np.stack([normalise(clip) for clip in batch])
