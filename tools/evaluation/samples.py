"""Which windows of which clips a number is about."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamguard.verdict.scores import WindowScore
from tools.data import Clip, paired_sources
from tools.metrics import Rejected
from tools.scoring import ScoredClip

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

Keep = Callable[[Clip], bool]
POOLED = "pooled"
PAIRED = "paired sources"
UNSEEN = "unseen generators"
EXACT = "exact set only"
WIDE = "wide originals"
NO_PROMPTS = "without telephone prompts"


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Calibrated windows, each with its clip, and how many there are besides without a score."""

    clips: tuple[Clip, ...]
    llrs: Floats
    rejected: Rejected
    strangeness: Floats
    """What the head says of the distance to its training data; NaN where it does not."""

    @property
    def spoof(self) -> Bools:
        return np.array([clip.spoof for clip in self.clips], np.bool_)

    @property
    def sources(self) -> list[str]:
        return [clip.source_repo for clip in self.clips]

    @property
    def both(self) -> bool:
        """Whether both classes are in it, so that they can be told apart."""
        return bool(0 < self.spoof.sum() < len(self.clips))


def first_windows(items: Sequence[ScoredClip]) -> Sample:
    """The first accepted window of each clip; a clip without one is rejected."""
    return _sample(items, lambda windows: [w for w in windows if w.rejected is None][:1] or None)


def all_windows(items: Sequence[ScoredClip]) -> Sample:
    """Every window, as ``streamguard analyze --json`` lists them.

    A clip too short for any window has none here, accepted or rejected.
    """
    return _sample(items, lambda windows: windows)


def _sample(
    items: Sequence[ScoredClip],
    choose: Callable[[Sequence[WindowScore]], Sequence[WindowScore] | None],
) -> Sample:
    clips: list[Clip] = []
    llrs: list[float] = []
    strangeness: list[float] = []
    lost: Counter[bool] = Counter()
    for item in items:
        chosen = choose(item.windows)
        if chosen is None:
            lost[item.clip.spoof] += 1
            continue
        for window in chosen:
            if window.rejected is not None or window.llr is None:
                lost[item.clip.spoof] += 1
                continue
            clips.append(item.clip)
            llrs.append(window.llr)
            strangeness.append(math.nan if window.ood is None else window.ood)
    return Sample(
        tuple(clips),
        np.array(llrs, np.float64),
        Rejected(bonafide=lost[False], spoof=lost[True]),
        np.array(strangeness, np.float64),
    )


def groups(
    heard: Sequence[Clip], collection: Iterable[Clip], known_generators: frozenset[str] | None
) -> dict[str, Keep]:
    """The parts of a set of clips that are measured by themselves, by name.

    Parts that are empty, or the whole but for a few clips, are left out. ``known_generators`` are
    those that the bundle was trained on; None if that is not known.
    """
    paired = paired_sources(heard)
    prompts = prompt_source(collection)
    found: dict[str, Keep] = {
        POOLED: lambda clip: True,
        PAIRED: lambda clip: clip.source_repo in paired,
        EXACT: lambda clip: clip.set == "core",
        WIDE: lambda clip: clip.orig_sr > _NARROW_HZ,
        NO_PROMPTS: lambda clip: clip.source_repo != prompts,
    }
    if known_generators is not None:
        found[UNSEEN] = lambda clip: not clip.spoof or clip.generator not in known_generators
    sizes = {name: sum(map(keep, heard)) for name, keep in found.items()}
    return {
        name: keep
        for name, keep in found.items()
        if name == POOLED or 0 < sizes[name] <= len(heard) - _A_FEW
    }


_NARROW_HZ = 8000
_A_FEW = 5


def prompt_source(collection: Iterable[Clip]) -> str | None:
    """The source that alone holds most of the human clips of an 8 kHz original, if there is one.

    Telephone prompts are hundreds of short clips of hardly more than one voice: an error rate in
    narrow band that rests on them says nothing of other voices.
    """
    narrow = Counter(
        clip.source_repo
        for clip in collection
        if clip.label == "bonafide" and clip.orig_sr <= _NARROW_HZ
    )
    if not narrow:
        return None
    source, count = narrow.most_common(1)[0]
    return source if 2 * count > narrow.total() and len(narrow) > 1 else None


def reasons(items: Sequence[ScoredClip]) -> Mapping[str, int]:
    """Clips that were not scored at all, by the reason that most of their windows give."""
    counts: Counter[str] = Counter()
    for item in items:
        if any(window.rejected is None for window in item.windows):
            continue
        why = Counter(str(window.rejected) for window in item.windows)
        counts[why.most_common(1)[0][0] if why else "shorter than a hop"] += 1
    return dict(counts.most_common())
