"""Labels as ``streamguard analyze --json`` gives them: only where a detector leans to spoof."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from streamguard.verdict.scores import Attribution, Label, WindowScore
from tools.data import AudioCache, Clip
from tools.evaluation.lines import PLAIN, Line
from tools.evaluation.names import Names
from tools.metrics import Interval, draw_sources, interval
from tools.progress import track
from tools.scoring import DaemonScorer, ScoredClip

HEADS = ("technology", "generator")


@dataclass(frozen=True, slots=True)
class BehindRow:
    """One head behind a detector, on clips whose true class it lists."""

    line: str
    head: str
    what: str
    """``windows`` that the gate and the detector accept, or ``clips`` by their most frequent
    label."""
    count: int
    labelled: float
    """Share with a label: neither held back by the detector nor by a threshold."""
    accuracy: float | None
    """Of those with one."""
    balanced_accuracy: Interval | None
    """Of those with one: mean recall over the classes that occur among them."""
    balanced_accuracy_rejections_as_errors: float
    human_labelled: float | None
    """Share of windows (clips) of human speech that gets a label; None for none."""


def evaluate_behind(
    scorer: DaemonScorer, clips: Sequence[Clip], cache: AudioCache, names: Names
) -> list[BehindRow]:
    """Rows of both heads over every line; ``scorer`` has a detector and an attribution bundle."""
    rows: list[BehindRow] = []
    for line in PLAIN:
        scored = _play(scorer, clips, cache, line)
        for head, listed in zip(HEADS, (_technology(names), names.elsewhere), strict=True):
            for what, say in (("windows", _windows), ("clips", _clip)):
                rows += _row(line.name, head, what, scored, listed, say)
    return rows


def _play(
    scorer: DaemonScorer, clips: Sequence[Clip], cache: AudioCache, line: Line
) -> list[ScoredClip]:
    return [
        ScoredClip(clip, line.name, scorer.windows(*line.carry(cache.samples(clip), number)))
        for number, clip in enumerate(track(clips, f"pair, {line.name}", len(clips)))
    ]


def _technology(names: Names) -> Callable[[Clip], bool]:
    return lambda clip: clip.technology in names.technologies


def _row(
    line: str,
    head: str,
    what: str,
    scored: Sequence[ScoredClip],
    listed: Callable[[Clip], bool],
    say: Callable[[Sequence[WindowScore], str], list[str | None]],
) -> Iterable[BehindRow]:
    """The row, or none where no clip has a class that the head lists."""
    said: list[str | None] = []
    truth: list[str] = []
    sources: list[str] = []
    human: list[bool] = []
    for item in scored:
        found = say(item.windows, head)
        if listed(item.clip):
            said += found
            truth += [getattr(item.clip, head)] * len(found)
            sources += [item.clip.source_repo] * len(found)
        elif not item.clip.spoof:
            human += [label is not None for label in found]
    if not said:
        return
    true = np.array(truth, np.str_)
    labelled = np.array([label is not None for label in said], np.bool_)
    right = np.array([label == name for label, name in zip(said, truth, strict=True)], np.bool_)
    rows = np.flatnonzero(labelled)
    draws = [
        _balanced(right[rows[drawn]], true[rows[drawn]])
        for drawn in (draw_sources([sources[row] for row in rows]) if len(rows) else ())
    ]
    yield BehindRow(
        line=line,
        head=head,
        what=what,
        count=len(said),
        labelled=float(labelled.mean()),
        accuracy=float(right[rows].mean()) if len(rows) else None,
        balanced_accuracy=interval(_balanced(right[rows], true[rows]), draws) if draws else None,
        balanced_accuracy_rejections_as_errors=_balanced(right, true),
        human_labelled=float(np.mean(human)) if human else None,
    )


def _balanced(right: np.ndarray, true: np.ndarray) -> float:
    return float(np.mean([right[true == name].mean() for name in np.unique(true)]))


def _label(attribution: Attribution | None, head: str) -> str | None:
    outcome = getattr(attribution, head, None)
    return outcome.label if isinstance(outcome, Label) else None


def _windows(windows: Sequence[WindowScore], head: str) -> list[str | None]:
    return [_label(window.attribution, head) for window in windows if window.rejected is None]


def _clip(windows: Sequence[WindowScore], head: str) -> list[str | None]:
    labels = Counter(label for label in _windows(windows, head) if label is not None)
    return [labels.most_common(1)[0][0] if labels else None]
