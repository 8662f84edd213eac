"""Unknown generators to learn from: which clips are auxiliary out-of-distribution material.

``training``: every training generator that is not listed, but for those that another role holds;
these are left out. ``development``: of a corpus whose training part holds listed generators only
(MLAAD), every second of the unknown development generators; they no longer validate. Either way no
generator that teaches what is unknown is one that it is measured on (the text that asks for such
material selects on the very generators that it takes), and training sees transformed copies only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tools.data import ROLES, Clip, Corpus, Split
from tools.labels import NO_LABEL, Labels

WAYS = ("training", "development")


def with_auxiliary(
    way: str, corpus: Corpus, split: Split, labels: Labels
) -> tuple[tuple[Clip, ...], tuple[Clip, ...]]:
    """Clips to train and to validate on; raises ValueError for a way that does not exist."""
    if way not in WAYS:
        raise ValueError(f"auxiliary_ood: {way!r}: one of " + ", ".join(WAYS))
    train, held = corpus.select("train", split), corpus.select("validation", split)
    others = [role for role in ROLES if role not in ("train", "validation")]
    measured = {name for role in others for name in unknown(corpus.select(role, split), labels)}
    if way == "training":
        measured |= unknown(held, labels)
        return _without(train, measured, labels), held
    taken = set(sorted(unknown(held, labels) - measured)[::2])
    rest = unknown(held, labels) - taken
    learned = tuple(clip for clip in held if clip.generator in taken)
    train = _without(train, measured | rest, labels)
    return (*train, *learned), _without(held, taken, labels)


def unknown(clips: Iterable[Clip], labels: Labels) -> set[str]:
    """Names of the generators of spoofs that are not listed."""
    return {clip.generator for clip in clips if _unlisted(clip, labels)}


def _without(clips: Sequence[Clip], names: set[str], labels: Labels) -> tuple[Clip, ...]:
    return tuple(
        clip for clip in clips if not (_unlisted(clip, labels) and clip.generator in names)
    )


def _unlisted(clip: Clip, labels: Labels) -> bool:
    return clip.spoof and labels.generator_of(clip) == NO_LABEL
