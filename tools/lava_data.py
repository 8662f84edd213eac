"""What LAVA trains on: label lists, class-balanced draws, normalised crops."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamguard.audio.level import normalise
from tools.augment import Augmenter, AugmentSettings
from tools.data import SAMPLE_RATE_HZ, AudioCache, Clip, Split, active_span

if TYPE_CHECKING:
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]

NO_LABEL = -100
"""What torch's cross-entropy ignores."""
_GRID = 800


@dataclass(frozen=True, slots=True)
class Labels:
    """Classes of both heads, in the order of their logits."""

    technology: tuple[str, ...]
    generator: tuple[tuple[str, str], ...]
    """(technology, name)."""

    @classmethod
    def of(cls, train: Iterable[Clip], recipe: Mapping[str, Any]) -> Labels:
        """The recipe's technologies, and the generators that several training sources hold."""
        rule = recipe["labels"]
        clips: dict[tuple[str, str], list[Clip]] = defaultdict(list)
        for clip in train:
            if clip.spoof and clip.generator not in rule["generator_exclude"]:
                clips[clip.technology, clip.generator].append(clip)
        listed = [
            key
            for key, found in clips.items()
            if len(found) >= rule["generator_min_clips"]
            and len({clip.source_repo for clip in found}) >= rule["generator_min_sources"]
        ]
        return cls(tuple(rule["technology"]), tuple(sorted(listed)))

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Labels:
        generators = tuple((entry["technology"], entry["name"]) for entry in plain["generator"])
        return cls(tuple(plain["technology"]), generators)

    def plain(self) -> dict[str, Any]:
        """As in a bundle's ``labels``."""
        return {
            "technology": list(self.technology),
            "generator": [{"name": name, "technology": kind} for kind, name in self.generator],
        }

    def technology_of(self, clip: Clip) -> int:
        return self.technology.index(clip.technology)

    def generator_of(self, clip: Clip) -> int:
        """``NO_LABEL`` for a generator that is not listed."""
        key = (clip.technology, clip.generator)
        return self.generator.index(key) if key in self.generator else NO_LABEL


class BalancedDraw:
    """Draws clips so that no technology, generator, source or set is the bulk.

    First half of a batch: technology, then source, then clip, each uniformly. Second half: listed
    generator, then source, then clip; without listed generators it is like the first. Within a
    source, core and extra clips (whose codec is a cue) are drawn with equal chance where it has
    both.
    """

    def __init__(self, clips: Sequence[Clip], labels: Labels) -> None:
        self._technology = _tree(clips, lambda clip: clip.technology)
        listed = [clip for clip in clips if labels.generator_of(clip) != NO_LABEL]
        self._generator = _tree(listed, lambda clip: f"{clip.technology}/{clip.generator}")

    def draw(self, count: int, rng: np.random.Generator) -> list[Clip]:
        half = count // 2 if self._generator else count
        trees = [self._technology] * half + [self._generator] * (count - half)
        return [self._one(tree, rng) for tree in trees]

    @staticmethod
    def _one(tree: _Tree, rng: np.random.Generator) -> Clip:
        sources = tree[int(rng.integers(len(tree)))]
        sets = sources[int(rng.integers(len(sources)))]
        clips = sets[int(rng.integers(len(sets)))]
        return clips[int(rng.integers(len(clips)))]


_Tree = list[list[list[list[Clip]]]]
"""Class, source, set, clips."""


def _tree(clips: Iterable[Clip], key: Callable[[Clip], str]) -> _Tree:
    grouped: dict[str, dict[str, dict[str, list[Clip]]]] = {}
    for clip in clips:
        sources = grouped.setdefault(key(clip), {})
        sources.setdefault(clip.source_repo, {}).setdefault(clip.set, []).append(clip)
    return [
        [list(sets.values()) for _, sets in sorted(sources.items())]
        for _, sources in sorted(grouped.items())
    ]


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
