"""What LAVA trains on: label lists, class-balanced draws, normalised crops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from streamguard.audio.level import normalise
from tools.augment import Augmenter, AugmentSettings
from tools.data import SAMPLE_RATE_HZ, AudioCache, Clip, Split, active_span

if TYPE_CHECKING:
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]

_GRID = 800


class Crops:
    """Random crops of trimmed clips through augmentation and the daemon's normalisation."""

    def __init__(
        self, cache: AudioCache, front_end: Mapping[str, Any], augment: Augmenter | None = None
    ) -> None:
        self._cache = cache
        self._trim_db = float(front_end["trim_db"])
        self._run_in = round(front_end["run_in_seconds"] * SAMPLE_RATE_HZ)
        self._augment = augment
        self._spans: dict[str, tuple[int, int]] = {}

    def batch(self, clips: Sequence[Clip], samples: int, rng: np.random.Generator) -> Samples:
        """``[len(clips), samples]``, each normalised with what was heard before the crop."""
        # A round number: Fourier transforms of arbitrary lengths are slow.
        heard = -(-(samples + self._run_in) // _GRID) * _GRID
        crops = np.stack([self._crop(clip, heard, rng) for clip in clips])
        if self._augment is not None:
            crops = self._augment(crops, rng)
        return np.stack([normalise(crop)[-samples:] for crop in crops])

    def trimmed(self, clip: Clip) -> Samples:
        """A clip without the silence at its ends, full scale 1."""
        whole = self._cache.samples(clip)
        if clip.path not in self._spans:
            self._spans[clip.path] = active_span(whole, self._trim_db)
        start, stop = self._spans[clip.path]
        return whole[start:stop].astype(np.float32) / np.float32(32768.0)

    def _crop(self, clip: Clip, wanted: int, rng: np.random.Generator) -> Samples:
        speech = self.trimmed(clip)
        if len(speech) < wanted:
            # Repeated, not padded with zeros: how long a clip is says who made it.
            speech = np.tile(speech, -(-wanted // len(speech)))
        start = int(rng.integers(len(speech) - wanted + 1))
        return speech[start : start + wanted]


def make_crops(
    cache: AudioCache, recipe: Mapping[str, Any], clips: Sequence[Clip], split: Split
) -> Crops:
    """Crops augmented as the recipe says, with the noises and rooms of training sources."""
    plain = Crops(cache, recipe["front_end"])
    train = split.select(clips, "train")
    augment = Augmenter(
        AugmentSettings(**recipe["augment"]),
        noises=[plain.trimmed(clip) for clip in train if clip.label == "noise"],
        rooms=[plain.trimmed(clip) for clip in train if clip.label == "rir"],
    )
    return Crops(cache, recipe["front_end"], augment)
