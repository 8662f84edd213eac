"""Attribution as a hierarchy: a technology first, then a generator among those of that technology.

After Di Pierno et al. (DFF '25): confidences below which a level is silent (section 3.6), what
errors of the first level do to the second (5.3), and what becomes of speech that has no right
answer (5.4). The daemon's own rule stands beside the one of the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamguard.verdict.labels import softmax
from streamguard.verdict.scores import Label
from tools.data import Clip
from tools.evaluation.names import Names
from tools.scoring import AttributedWindow

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

LEAST_RIGHT = 0.85
"""Share of right answers among the accepted that the text asks for."""
LEAST_ACCEPTED = 20
"""Windows below which such a share is not believed; the text names no number."""
SILENT = -1
"""In the place of a label: rejected, or not asked."""
ALL_LABELS = "every label"
TEXT_RULE = "confidence as in the text"
BUNDLE_RULE = "thresholds of the bundle"
METRIC = "confidence_at_85pct_{head}"
"""Name of a cut among the metrics of ``bundle.yaml``."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The softmax confidence from which a head is believed."""

    head: str
    threshold: float | None
    """None: no confidence is right often enough, so the head is silent."""
    windows: int
    """That it was found on."""
    accepted: float
    """Share of them that reach it."""


@dataclass(frozen=True, slots=True)
class PropagationRow:
    """Windows as they pass both levels under one rule."""

    rule: str
    spoofed: int
    human: int
    technology_right: int
    technology_wrong: int
    human_named: int
    """Human speech with a technology: there is no right one."""
    forwarded: int
    """Windows whose technology has listed generators: they reach the second level."""
    generator_right: int
    generator_wrong: int
    """Another generator of the right technology, where the true one is listed."""
    passed_on: int
    """A generator for a window whose technology was wrong already."""
    unlisted: int
    """A generator where the technology is right and the true one is not listed."""
    human_generator: int
    """A generator for human speech."""

    @property
    def technology_error(self) -> float:
        """Of all windows, human ones with any technology among the errors."""
        return (self.technology_wrong + self.human_named) / max(1, self.spoofed + self.human)

    @property
    def generator_error(self) -> float | None:
        """Of those that are given a generator; None for none."""
        wrong = self.generator_wrong + self.passed_on + self.unlisted + self.human_generator
        named = wrong + self.generator_right
        return wrong / named if named else None


@dataclass(frozen=True, slots=True)
class DestinationRow:
    """What speech that the bundle was not trained on is called."""

    who: str
    rule: str
    windows: int
    rejected: int
    said: Mapping[str, int]
    """By technology."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """First windows over one line."""

    propagation: tuple[PropagationRow, ...] = ()
    destinations: tuple[DestinationRow, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """Both levels of some windows under one rule: an index, or ``SILENT``. Read-only."""

    technology: Ints
    generator: Ints


def cut(head: str, confidence: Floats, right: Bools) -> Cut:
    """Confidences from the highest down to where the share of right ones falls below 85 %."""
    order = np.argsort(-confidence, kind="stable")
    sorted_down = confidence[order]
    count = np.arange(1, len(order) + 1)
    share = np.cumsum(right[order]) / count
    # Windows of one confidence are accepted together.
    ends = np.append(sorted_down[1:] < sorted_down[:-1], True)[: len(order)]
    fine = np.flatnonzero(ends & (share >= LEAST_RIGHT) & (count >= LEAST_ACCEPTED))
    if not len(fine):
        return Cut(head, None, len(order), 0.0)
    last = int(fine[-1])
    return Cut(head, float(sorted_down[last]), len(order), (last + 1) / len(order))


def cuts(clips: Sequence[Clip], windows: Sequence[AttributedWindow], names: Names) -> list[Cut]:
    """Of both heads, on spoofed windows: the second on listed generators of the right technology.

    The text finds them on its training set. What a head is sure of on clips that it has learned
    says little of others, so whoever calls this has better clips.
    """
    rows = [row for row, clip in enumerate(clips) if clip.technology in names.technologies]
    if not rows:
        return []
    technology, generator, first, second = _confidences([windows[row] for row in rows], names)
    true_technology, true_generator = _truth([clips[row] for row in rows], names)
    right = technology == true_technology
    asked = right & (true_generator != SILENT)
    return [
        cut("technology", first, right),
        cut("generator", second[asked], (generator == true_generator)[asked]),
    ]


def hierarchy(
    clips: Sequence[Clip],
    windows: Sequence[AttributedWindow],
    names: Names,
    found: Sequence[Cut] = (),
) -> Hierarchy:
    """One window of each clip. Without ``found`` the rule of the text is left out."""
    if not clips:
        return Hierarchy()
    rules = {ALL_LABELS: _every(windows, names)}
    if found:
        rules[TEXT_RULE] = _above(windows, names, {c.head: c.threshold for c in found})
    rules[BUNDLE_RULE] = _of_bundle(windows, names)
    return Hierarchy(
        tuple(_propagation(rule, levels, clips, names) for rule, levels in rules.items()),
        tuple(_destinations(rules, clips, names)),
    )


def _confidences(
    windows: Sequence[AttributedWindow], names: Names
) -> tuple[Ints, Ints, Floats, Floats]:
    """Most probable technology, most probable generator of it, and the softmax of each."""
    first = softmax(np.array([w.outputs["technology_logits"] for w in windows], np.float64))
    second = softmax(np.array([w.outputs["generator_logits"] for w in windows], np.float64))
    members = np.array(
        [[kind == label for kind, _ in names.generators] for label in names.technologies]
    )
    technology = np.asarray(first.argmax(axis=1), np.int64)
    allowed = members[technology]
    second = np.where(allowed, second, -1.0)
    generator = np.where(allowed.any(axis=1), second.argmax(axis=1), SILENT)
    return technology, generator, first.max(axis=1), second.max(axis=1)


def _every(windows: Sequence[AttributedWindow], names: Names) -> Levels:
    technology, generator, _, _ = _confidences(windows, names)
    return Levels(technology, generator)


def _above(
    windows: Sequence[AttributedWindow], names: Names, least: Mapping[str, float | None]
) -> Levels:
    """The rule of the text; a head without a threshold is silent."""
    technology, generator, first, second = _confidences(windows, names)

    def reaches(head: str, confidence: Floats) -> Bools:
        threshold = least.get(head)
        return np.asarray(confidence >= (np.inf if threshold is None else threshold))

    said = reaches("technology", first)
    both = said & reaches("generator", second)
    return Levels(np.where(said, technology, SILENT), np.where(both, generator, SILENT))


def _of_bundle(windows: Sequence[AttributedWindow], names: Names) -> Levels:
    technology, generator = [], []
    for window in windows:
        first, second = window.said.technology, window.said.generator
        label = first.label if isinstance(first, Label) else None
        named = (label or "", second.label if isinstance(second, Label) else "")
        technology.append(SILENT if label is None else names.technologies.index(label))
        generator.append(names.generators.index(named) if named in names.generators else SILENT)
    return Levels(np.array(technology, np.int64), np.array(generator, np.int64))


def _truth(clips: Sequence[Clip], names: Names) -> tuple[Ints, Ints]:
    """``SILENT`` where no label is right."""
    technologies = {name: index for index, name in enumerate(names.technologies)}
    generators = {name: index for index, name in enumerate(names.generators)}
    return (
        np.array([technologies.get(clip.technology, SILENT) for clip in clips], np.int64),
        np.array(
            [generators.get((clip.technology, clip.generator), SILENT) for clip in clips], np.int64
        ),
    )


def _propagation(rule: str, levels: Levels, clips: Sequence[Clip], names: Names) -> PropagationRow:
    """Human speech and spoofs of listed technologies; others have no place in the count."""
    true_technology, true_generator = _truth(clips, names)
    spoofed = true_technology != SILENT
    human = np.array([not clip.spoof for clip in clips], np.bool_)
    said = levels.technology != SILENT
    right = spoofed & (levels.technology == true_technology)
    wrong = spoofed & said & ~right
    has_generators = np.isin(
        np.array(names.technologies), np.array([kind for kind, _ in names.generators])
    )
    named = levels.generator != SILENT
    listed = true_generator != SILENT

    def number(rows: Bools) -> int:
        return int(rows.sum())

    return PropagationRow(
        rule=rule,
        spoofed=number(spoofed),
        human=number(human),
        technology_right=number(right),
        technology_wrong=number(wrong),
        human_named=number(human & said),
        forwarded=number((spoofed | human) & said & has_generators[levels.technology]),
        generator_right=number(right & named & (levels.generator == true_generator)),
        generator_wrong=number(right & named & listed & (levels.generator != true_generator)),
        passed_on=number(wrong & named),
        unlisted=number(right & named & ~listed),
        human_generator=number(human & named),
    )


def _destinations(
    rules: Mapping[str, Levels], clips: Sequence[Clip], names: Names
) -> Iterable[DestinationRow]:
    """Spoofs that the bundle was not trained on, all and by technology, and human speech.

    Of another corpus that is all of its spoofs; of the collection, those of generators that occur
    in no training source.
    """
    trained = names.trained
    unseen = np.array(
        [
            clip.spoof and (trained is None or (clip.technology, clip.generator) not in trained)
            for clip in clips
        ],
        np.bool_,
    )
    kinds = np.array([clip.technology for clip in clips], np.str_)
    groups = {"unseen spoofs": unseen}
    groups |= {f"unseen {kind}": unseen & (kinds == kind) for kind in np.unique(kinds[unseen])}
    groups["human speech"] = np.array([not clip.spoof for clip in clips], np.bool_)
    for who, rows in groups.items():
        if not rows.any():
            continue
        for rule, levels in rules.items():
            said = levels.technology[rows]
            yield DestinationRow(
                who=who,
                rule=rule,
                windows=len(said),
                rejected=int((said == SILENT).sum()),
                said={
                    label: int((said == index).sum())
                    for index, label in enumerate(names.technologies)
                },
            )
