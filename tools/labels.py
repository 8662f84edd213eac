"""The classes that a network names, in the order of its logits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tools.data import Clip

NO_LABEL = -100
"""What torch's cross-entropy ignores."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Classes of the technology and the generator head."""

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
        """``NO_LABEL`` for a technology that is not listed."""
        if clip.technology not in self.technology:
            return NO_LABEL
        return self.technology.index(clip.technology)

    def generator_of(self, clip: Clip) -> int:
        """``NO_LABEL`` for a generator that is not listed."""
        key = (clip.technology, clip.generator)
        return self.generator.index(key) if key in self.generator else NO_LABEL
