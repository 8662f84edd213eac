"""How well a bundle does, by ``tools/evaluation``, on hops that were heard once for all bundles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamguard.errors import BundleError
from streamguard.inference.bundle import load_bundle
from streamguard.verdict.scores import WindowScore
from tools.data import AudioCache, Clip, Split
from tools.evaluate import trained_generators
from tools.evaluation.attribution import SME, AttributionLine
from tools.evaluation.attribution import report_line as report_attribution
from tools.evaluation.detection import measure
from tools.evaluation.lines import PLAIN
from tools.evaluation.names import Name, Names
from tools.evaluation.samples import PAIRED, POOLED, UNSEEN, first_windows, groups
from tools.gallery.recordings import Recordings
from tools.progress import track
from tools.scoring import (
    AttributedClip,
    AttributedWindow,
    AttributionScorer,
    DaemonScorer,
    ScoredClip,
)

TARGET = "cpu-fp32"
GROUPS = (POOLED, PAIRED, UNSEEN)

Numbers = dict[str, float | None]
"""Rates and accuracies as shares; None where the clips do not have what it needs."""


@dataclass(frozen=True, slots=True)
class Listening:
    """The clips of a role over every line, and what is known of the others."""

    clips: tuple[Clip, ...]
    recordings: Mapping[str, Recordings]
    collection: tuple[Clip, ...]
    trained: Mapping[Name, frozenset[str]]
    """Training sources of each generator."""

    @classmethod
    def of(
        cls,
        collection: Sequence[Clip],
        audio: AudioCache,
        split: Split,
        folder: Path,
        role: str = "validation",
    ) -> Listening:
        """Hear the clips of a role, or take the recordings that lie in ``folder``."""
        clips = tuple(clip for clip in split.select(collection, role) if clip.speech)
        return cls(
            clips=clips,
            recordings={line.name: Recordings.open(folder, clips, audio, line) for line in PLAIN},
            collection=tuple(collection),
            trained=trained_generators(split.select(collection, "train")),
        )


def score(bundle: Path, listening: Listening) -> dict[str, Numbers]:
    """The numbers of a bundle of either task, by line. Raises BundleError, EngineError."""
    task = load_bundle(bundle).manifest.task
    of_line = _detection if task == "detection" else _attribution
    return {line: of_line(bundle, listening, line) for line in listening.recordings}


def detected(bundle: Path, listening: Listening, line: str) -> list[ScoredClip]:
    """Every clip up to its first accepted window. LLRs are raw logits: no row is calibrated."""
    recordings = listening.recordings[line]
    scorer = DaemonScorer(bundle, TARGET, raw=True, front_end=recordings.leg)
    try:
        return [
            ScoredClip(
                clip, line, _until_accepted(scorer.listen(clip.path, recordings.blocks(clip)))
            )
            for clip in track(listening.clips, f"scoring, {line}", len(listening.clips))
        ]
    finally:
        scorer.close()


def named(
    bundle: Path, listening: Listening, line: str
) -> tuple[AttributionScorer, list[AttributedClip]]:
    """Every clip up to the first window that is named, and by whom (closed)."""
    recordings = listening.recordings[line]
    scorer = AttributionScorer(bundle, TARGET)
    try:
        items = [
            AttributedClip(
                clip,
                line,
                _until_named(scorer.listen(recordings.leg(clip.path), recordings.blocks(clip))),
            )
            for clip in track(listening.clips, f"naming, {line}", len(listening.clips))
        ]
    finally:
        scorer.close()
    return scorer, items


def _until_accepted(windows: Iterable[WindowScore]) -> tuple[WindowScore, ...]:
    found = []
    for window in windows:
        found.append(window)
        if window.rejected is None:
            break
    return tuple(found)


def _until_named(windows: Iterable[AttributedWindow]) -> tuple[AttributedWindow, ...]:
    found = []
    for window in windows:
        found.append(window)
        if window.rejected is None and window.outputs:
            break
    return tuple(found)


def _detection(bundle: Path, listening: Listening, line: str) -> Numbers:
    items = detected(bundle, listening, line)
    known = frozenset(generator for _, generator in listening.trained)
    parts = groups(listening.clips, listening.collection, known)
    numbers: Numbers = {}
    for name in GROUPS:
        keep = parts.get(name)
        sample = first_windows([item for item in items if keep is not None and keep(item.clip)])
        if not sample.both:
            if name == POOLED:
                raise BundleError(str(bundle), f"{line}: of one class no window is accepted")
            continue
        found = measure(sample)
        if name == POOLED:
            numbers.update(
                windows=float(found.bonafide + found.spoof),
                coverage=found.coverage,
                eer_low=found.eer.low,
                eer_high=found.eer.high,
                auc=found.auc,
                min_dcf=found.min_dcf,
            )
        numbers[_KEYS[name]] = found.eer.value
    return numbers


_KEYS = {POOLED: "eer", PAIRED: "eer_paired", UNSEEN: "eer_unseen"}
_WHO = ("never trained on", "not listed")
"""Unknown generators of ``tools.evaluation.names``, by preference."""


def _attribution(bundle: Path, listening: Listening, line: str) -> Numbers:
    scorer, items = named(bundle, listening, line)
    names = Names.of(scorer.bundle, listening.trained)
    report = report_attribution(items, names, {POOLED: lambda clip: True})
    technology = report.technology.get(POOLED)
    if technology is None:
        raise BundleError(str(bundle), f"{line}: no window of its technologies is accepted")
    heads: Numbers = {
        "windows": float(technology["first"].windows),
        "coverage": technology["first"].coverage,
        "technology": technology["first"].balanced_accuracy.value,
        "technology_low": technology["first"].balanced_accuracy.low,
        "technology_high": technology["first"].balanced_accuracy.high,
    }
    if generator := report.generator.get("first"):
        heads["generator"] = generator.accuracy
        heads["generator_windows"] = float(generator.windows)
    return {**heads, **_open_set(report)}


def _open_set(report: AttributionLine) -> Numbers:
    """Known generators against unknown ones by the primary score."""
    for who in _WHO:
        if found := report.open_set.get(who, {}).get(SME):
            return {
                "fpr95": found.fpr95,
                "auroc": found.auroc,
                "ood_eer": found.ood_eer,
                "eerc": found.eerc,
            }
    return {}
