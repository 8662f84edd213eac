"""What a bundle can say, and what it was taught."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from streamguard.inference.bundle import Bundle
from tools.data import Clip

Name = tuple[str, str]
"""Technology and generator."""


@dataclass(frozen=True, slots=True)
class Names:
    """The classes of a bundle in the order of its logits, and what trained it."""

    technologies: tuple[str, ...]
    generators: tuple[Name, ...]
    trained: Mapping[Name, frozenset[str]] | None
    """Training sources of each generator; None if they are not known."""

    @classmethod
    def of(cls, bundle: Bundle, trained: Mapping[Name, frozenset[str]] | None) -> Names:
        """Those of an attribution bundle."""
        labels = bundle.manifest.labels
        generators = tuple((entry.technology, entry.name) for entry in labels.generator)
        return cls(labels.technology, generators, trained)

    def elsewhere(self, clip: Clip) -> bool:
        """Whether the clip's generator is listed and was learned from other sources than this."""
        name = (clip.technology, clip.generator)
        if name not in self.generators:
            return False
        if self.trained is None:
            return True
        return bool(self.trained.get(name, frozenset()) - {clip.source_repo})

    def unknown(self) -> dict[str, Callable[[Clip], bool]]:
        """Spoofs whose generator has no right answer, by how unknown it is."""
        trained = self.trained
        found: dict[str, Callable[[Clip], bool]] = {}
        if trained is not None:
            found["never trained on"] = lambda clip: (
                clip.spoof and (clip.technology, clip.generator) not in trained
            )
        found["not listed"] = lambda clip: (
            clip.spoof and (clip.technology, clip.generator) not in self.generators
        )
        return found
