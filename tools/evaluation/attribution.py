"""Everything that is measured of an attribution bundle on one set of clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from streamguard.verdict.scores import Attribution, Label
from tools.confidence import energy, maximum_softmax, softmax_energy
from tools.data import AudioCache, Clip
from tools.evaluation.behind import BehindRow
from tools.evaluation.hierarchy import Cut, Hierarchy, cuts, hierarchy
from tools.evaluation.lines import PLAIN, Line, codec_lines, loss_lines
from tools.evaluation.names import Name, Names
from tools.evaluation.samples import groups
from tools.metrics import (
    ClassReport,
    Interval,
    OpenSet,
    classify,
    draw_sources,
    interval,
    open_set,
)
from tools.progress import track
from tools.scoring import AttributedClip, AttributedWindow, AttributionScorer

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

SME = "softmax energy (SME)"
"""The primary score of the text that this is measured after."""


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One true class."""

    label: str
    windows: int
    sources: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class HeadMeasured:
    """One head on the windows whose true class it lists."""

    windows: int
    """That the gate let speak."""
    sources: int
    coverage: float
    """Share of clips (of windows, where all count) that the gate lets speak."""
    accuracy: float
    balanced_accuracy: Interval
    """Mean recall over the classes that occur."""
    balanced_accuracy_rejections_as_errors: float
    """What the gate or a threshold of the bundle rejects counts as wrong."""
    macro_precision: float
    macro_f1: float
    labelled: float
    """Share of the windows that get a label at the thresholds of the bundle."""
    labelled_accuracy: float | None
    """Of those; None for none."""
    classes: tuple[ClassRow, ...]
    labels: tuple[str, ...]
    """Of the confusion."""
    confusion: tuple[tuple[int, ...], ...]
    """``[true, said]``, without thresholds."""


@dataclass(frozen=True, slots=True)
class NamedRow:
    """How much of what may have no right answer is given one, first windows."""

    who: str
    windows: int
    technology: float
    """Share that gets a technology."""
    generator: float


@dataclass(frozen=True, slots=True)
class AttributionLine:
    """One line, direct or telephone."""

    technology: Mapping[str, Mapping[str, HeadMeasured]]
    """Group, then kind of window."""
    generator: Mapping[str, HeadMeasured]
    """By kind of window; listed generators that were learned from other sources."""
    open_set: Mapping[str, Mapping[str, OpenSet]]
    """Listed generators against unknown ones: by how unknown they are, then by score."""
    named: tuple[NamedRow, ...]
    hierarchy: Hierarchy = field(default_factory=Hierarchy)


@dataclass(frozen=True, slots=True)
class AttributionCondition:
    """Another coder, or packet loss: technology of first windows."""

    line: str
    coverage: float
    measured: HeadMeasured | None


@dataclass(frozen=True, slots=True)
class AttributionReport:
    """What ``tools.evaluate`` says of an attribution bundle."""

    clips: int
    """Spoofed."""
    human: int
    lines: Mapping[str, AttributionLine]
    codecs: tuple[AttributionCondition, ...] = ()
    losses: tuple[AttributionCondition, ...] = ()
    detector: str | None = None
    """Behind which the daemon would ask it."""
    behind: tuple[BehindRow, ...] = ()
    cuts: tuple[Cut, ...] = ()
    """Confidences as in the text of LAVA; empty where none were looked for."""


def evaluate_attribution(
    scorer: AttributionScorer,
    clips: Sequence[Clip],
    cache: AudioCache,
    collection: Iterable[Clip],
    trained: Mapping[Name, frozenset[str]] | None,
    *,
    full: bool = False,
    found: Sequence[Cut] = (),
) -> AttributionReport:
    """Name clips over every line and measure. ``full`` adds coders and packet loss.

    ``found``: the confidences of ``find_cuts``.
    """
    names = Names.of(scorer.bundle, trained)
    spoofs = [clip for clip in clips if clip.technology in names.technologies]
    known = None if trained is None else frozenset(generator for _, generator in trained)
    parts = groups(spoofs, collection, known)
    lines = {
        line.name: report_line(play(scorer, clips, cache, line), names, parts, found)
        for line in PLAIN
    }
    return AttributionReport(
        clips=len(spoofs),
        human=sum(not clip.spoof for clip in clips),
        lines=lines,
        codecs=tuple(_conditions(scorer, spoofs, cache, names, codec_lines() if full else ())),
        losses=tuple(_conditions(scorer, spoofs, cache, names, loss_lines() if full else ())),
        cuts=tuple(found),
    )


def find_cuts(scorer: AttributionScorer, clips: Sequence[Clip], cache: AudioCache) -> list[Cut]:
    """Confidences as in the text, on first windows of these clips over the direct line."""
    heard = Heard.of(play(scorer, clips, cache, PLAIN[0]), first=True)
    return cuts(heard.clips, heard.windows, Names.of(scorer.bundle, None))


def play(
    scorer: AttributionScorer, clips: Sequence[Clip], cache: AudioCache, line: Line
) -> list[AttributedClip]:
    """Every clip over a line, with a progress bar."""
    return [
        AttributedClip(clip, line.name, scorer.windows(*line.carry(cache.samples(clip), number)))
        for number, clip in enumerate(track(clips, f"naming, {line.name}", len(clips)))
    ]


def _conditions(
    scorer: AttributionScorer,
    clips: Sequence[Clip],
    cache: AudioCache,
    names: Names,
    lines: Sequence[Line],
) -> list[AttributionCondition]:
    rows = []
    for line in lines:
        heard = Heard.of(play(scorer, clips, cache, line), first=True)
        measured = technology(heard, names) if heard.windows else None
        rows.append(AttributionCondition(line.name, heard.coverage, measured))
    return rows


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """Windows that the gate let speak, each with its clip, and the clips of the others."""

    clips: tuple[Clip, ...]
    windows: tuple[AttributedWindow, ...]
    rejected: tuple[Clip, ...]

    @classmethod
    def of(cls, items: Sequence[AttributedClip], *, first: bool) -> Heard:
        """The first accepted window of each clip, or every window."""
        clips, windows, rejected = [], [], []
        for item in items:
            named = [window for window in item.accepted if window.outputs]
            chosen = named[:1] if first else named
            windows += chosen
            clips += [item.clip] * len(chosen)
            missing = not named if first else len(item.windows) - len(named)
            rejected += [item.clip] * int(missing)
        return cls(tuple(clips), tuple(windows), tuple(rejected))

    @property
    def coverage(self) -> float:
        """Share with a window."""
        return len(self.clips) / max(1, len(self.clips) + len(self.rejected))

    def where(self, keep: Callable[[Clip], bool]) -> Heard:
        rows = [i for i, clip in enumerate(self.clips) if keep(clip)]
        return Heard(
            tuple(self.clips[i] for i in rows),
            tuple(self.windows[i] for i in rows),
            tuple(clip for clip in self.rejected if keep(clip)),
        )

    def logits(self, head: str) -> Floats:
        """``[windows, classes]``."""
        return np.array([window.outputs[f"{head}_logits"] for window in self.windows], np.float64)


def report_line(
    items: Sequence[AttributedClip],
    names: Names,
    parts: Mapping[str, Callable[[Clip], bool]],
    found: Sequence[Cut] = (),
) -> AttributionLine:
    """Everything that is said of the clips named over one line."""
    heard = {"first": Heard.of(items, first=True), "all": Heard.of(items, first=False)}
    spoofs = {
        kind: part.where(lambda clip: clip.technology in names.technologies)
        for kind, part in heard.items()
    }
    listed = {kind: part.where(names.elsewhere) for kind, part in spoofs.items()}
    by_group = {
        name: {kind: technology(part.where(keep), names) for kind, part in spoofs.items()}
        for name, keep in parts.items()
        if spoofs["first"].where(keep).windows
    }
    return AttributionLine(
        technology=by_group,
        generator={kind: generator(part, names) for kind, part in listed.items() if part.windows},
        open_set={
            who: _open_sets(spoofs["first"], names, keep) for who, keep in names.unknown().items()
        },
        named=tuple(_named(heard["first"], names)),
        hierarchy=hierarchy(heard["first"].clips, heard["first"].windows, names, found),
    )


def technology(heard: Heard, names: Names) -> HeadMeasured:
    """The first head on spoofed windows."""
    return _measure(
        heard,
        names.technologies,
        lambda clip: names.technologies.index(clip.technology),
        heard.logits("technology"),
        lambda said: said.technology,
    )


def generator(heard: Heard, names: Names) -> HeadMeasured:
    """The second head on windows of listed generators, among all that are listed."""
    labels = [name for _, name in names.generators]
    counts = Counter(labels)
    return _measure(
        heard,
        [name if counts[name] == 1 else f"{kind}/{name}" for kind, name in names.generators],
        lambda clip: names.generators.index((clip.technology, clip.generator)),
        heard.logits("generator"),
        lambda said: said.generator,
        said_as=labels,
    )


def _measure(
    heard: Heard,
    labels: Sequence[str],
    truth_of: Callable[[Clip], int],
    logits: Floats,
    pick: Callable[[Attribution], object],
    said_as: Sequence[str] | None = None,
) -> HeadMeasured:
    truth = np.array([truth_of(clip) for clip in heard.clips], np.int64)
    best = np.asarray(logits.argmax(axis=1), np.int64)
    sources = np.array([clip.source_repo for clip in heard.clips], np.str_)
    found = classify(truth, best, len(labels))
    shown = said_as or labels
    outcomes = [pick(window.said) for window in heard.windows]
    labelled = np.array([isinstance(outcome, Label) for outcome in outcomes], np.bool_)
    right = np.array(
        [
            isinstance(outcome, Label) and outcome.label == shown[kind]
            for outcome, kind in zip(outcomes, truth, strict=True)
        ],
        np.bool_,
    )
    draws = [
        classify(truth[drawn], best[drawn], len(labels)).balanced_accuracy
        for drawn in draw_sources(sources.tolist())
    ]
    everyone = np.concatenate((truth, np.array([truth_of(c) for c in heard.rejected], np.int64)))
    strict = np.concatenate((right, np.zeros(len(heard.rejected), np.bool_)))
    return HeadMeasured(
        windows=len(truth),
        sources=len(set(sources.tolist())),
        coverage=heard.coverage,
        accuracy=found.accuracy,
        balanced_accuracy=interval(found.balanced_accuracy, draws),
        balanced_accuracy_rejections_as_errors=float(
            np.mean([strict[everyone == kind].mean() for kind in np.unique(everyone)])
        ),
        macro_precision=found.macro_precision,
        macro_f1=found.macro_f1,
        labelled=float(labelled.mean()),
        labelled_accuracy=float(right[labelled].mean()) if labelled.any() else None,
        classes=tuple(_rows(found, truth, sources, labels)),
        labels=tuple(labels),
        confusion=tuple(tuple(row) for row in found.confusion.tolist()),
    )


def _rows(
    found: ClassReport, truth: Ints, sources: npt.NDArray[np.str_], labels: Sequence[str]
) -> Iterable[ClassRow]:
    for kind in np.flatnonzero(found.occurring).tolist():
        here = truth == kind
        yield ClassRow(
            label=labels[kind],
            windows=int(here.sum()),
            sources=len(set(sources[here].tolist())),
            precision=float(found.precision[kind]),
            recall=float(found.recall[kind]),
            f1=float(found.f1[kind]),
        )


def _open_sets(heard: Heard, names: Names, unknown: Callable[[Clip], bool]) -> dict[str, OpenSet]:
    """Listed generators that were learned from other sources, against unknown ones, by score."""
    part = heard.where(lambda clip: names.elsewhere(clip) or unknown(clip))
    known = np.array([not unknown(clip) for clip in part.clips], np.bool_)
    if known.all() or not known.any():
        return {}
    logits = part.logits("generator")
    truth = [
        names.generators.index((clip.technology, clip.generator)) if listed else -1
        for clip, listed in zip(part.clips, known, strict=True)
    ]
    right = np.asarray(logits.argmax(axis=1) == np.array(truth))
    scores: dict[str, Floats] = {
        SME: softmax_energy(logits),
        "maximum softmax (MSP)": maximum_softmax(logits),
        "energy": energy(logits),
    }
    if all("ood" in window.outputs for window in part.windows):
        scores["nearness"] = -np.array([float(window.outputs["ood"][0]) for window in part.windows])
    return {name: open_set(values, known, right) for name, values in scores.items()}


def _named(heard: Heard, names: Names) -> Iterable[NamedRow]:
    """Who is named at the thresholds of the bundle, rightly or not."""
    kinds: dict[str, Callable[[Clip], bool]] = {
        "human speech": lambda clip: not clip.spoof,
        "listed generators": names.elsewhere,
        **{f"generators {who}": keep for who, keep in names.unknown().items()},
    }
    for who, keep in kinds.items():
        part = heard.where(keep)
        if part.windows:
            yield NamedRow(
                who=who,
                windows=len(part.windows),
                technology=_share(window.said.technology for window in part.windows),
                generator=_share(window.said.generator for window in part.windows),
            )


def _share(outcomes: Iterable[object]) -> float:
    return float(np.mean([isinstance(outcome, Label) for outcome in outcomes]))
