"""Which clips an epoch draws: balanced so that no source, set or technology is the cue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tools.data import Clip
from tools.labels import NO_LABEL, Labels

if TYPE_CHECKING:
    import numpy.typing as npt

    Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Balance:
    """The section ``balance`` of a recipe."""

    source_power: float
    """A source is drawn with its number of clips to this power."""
    core: float
    """Share of crops from the exact set; the same for both classes."""
    technology: Mapping[str, float]
    """Share of each technology among the spoofed crops."""
    pairs: float = 0.0
    """Share of a batch that is drawn source by source, two clips of each class at a time."""
    copies: float = 0.0
    """Share of a batch that is copy-synthesis of training speech."""


def draw_weights(clips: Sequence[Clip], balance: Balance) -> npt.NDArray[np.float64]:
    """Probability of each clip: classes half and half inside each set and, for spoofs, each
    technology as asked; inside these a source weighs its clips to a power.

    Opus leans to spoof in the collection as it is; drawn like this, the set says nothing of the
    class.
    """
    weights = np.zeros(len(clips))
    cells: dict[tuple[str, str, str], dict[str, list[int]]] = {}
    for index, clip in enumerate(clips):
        cell = cells.setdefault((clip.set, clip.label, clip.technology), {})
        cell.setdefault(clip.source_repo, []).append(index)
    for (set_name, label, technology), sources in cells.items():
        share = 0.5 * (balance.core if set_name == "core" else 1.0 - balance.core)
        if label == "spoof":
            present = [t for s, x, t in cells if s == set_name and x == "spoof"]
            total = sum(balance.technology[name] for name in present)
            share *= balance.technology[technology] / total
        mass = sum(len(rows) ** balance.source_power for rows in sources.values())
        for rows in sources.values():
            weights[rows] = share * len(rows) ** balance.source_power / mass / len(rows)
    return np.asarray(weights / weights.sum(), np.float64)


class Draw:
    """Rows at random, each clip with its own probability."""

    def __init__(self, weights: npt.NDArray[np.float64]) -> None:
        self._weights = weights / weights.sum()

    def rows(self, count: int, rng: np.random.Generator) -> Rows:
        return rng.choice(len(self._weights), size=count, p=self._weights)


class PairDraw:
    """Two bona fide and two spoofed clips of one source at a time.

    Inside a source microphone, speaker and processing are alike, so what separates such a four is
    the synthesis. A source is drawn with the root of its rarer class.
    """

    PER_CLASS = 2

    def __init__(self, clips: Sequence[Clip]) -> None:
        sources: dict[str, tuple[list[int], list[int]]] = {}
        for row, clip in enumerate(clips):
            sources.setdefault(clip.source_repo, ([], []))[clip.spoof].append(row)
        self._pairs = [
            (np.array(human), np.array(spoof))
            for human, spoof in sources.values()
            if min(len(human), len(spoof)) >= self.PER_CLASS
        ]
        mass = np.sqrt([min(len(human), len(spoof)) for human, spoof in self._pairs])
        self._weights = mass / mass.sum() if len(mass) else mass

    def rows(self, count: int, rng: np.random.Generator) -> Rows:
        """At most ``count`` rows; none if no source has both classes."""
        groups = count // (2 * self.PER_CLASS) if self._pairs else 0
        chosen = (
            [
                rng.choice(rows, self.PER_CLASS)
                for group in rng.choice(len(self._pairs), groups, p=self._weights)
                for rows in self._pairs[group]
            ]
            if groups
            else []
        )
        return np.concatenate([np.empty(0, np.int64), *chosen]).astype(np.int64)


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
