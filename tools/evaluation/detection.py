"""Everything that is measured of a detection bundle on one set of clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from streamguard.errors import BundleError
from tools.data import TECHNOLOGIES, AudioCache, Clip, paired_sources
from tools.evaluation.lines import PLAIN, Line, codec_lines, loss_lines
from tools.evaluation.samples import (
    Sample,
    all_windows,
    first_windows,
    groups,
    prompt_source,
    reasons,
)
from tools.legs import VOICES, DurationRow, LegRow, by_duration, hear, judge_legs, pseudo_legs
from tools.metrics import (
    Interval,
    OpenSet,
    Rates,
    Reliability,
    auc,
    classify,
    cllr,
    detection_of,
    draw_sources,
    eer,
    eer_of,
    fpr_at,
    interval,
    min_cllr,
    min_dcf,
    open_set,
    rates,
    reliability,
)
from tools.progress import track
from tools.scoring import DaemonScorer, ScoredClip

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

LEAST_PER_CLASS = 5
"""Clips of each class that a source needs for an error rate of its own."""
KINDS = ("first", "all")
"""Of a clip: its first accepted window, or every one as ``analyze --json`` lists them."""
DET_POINTS = 200


@dataclass(frozen=True, slots=True)
class Measured:
    """The numbers of one set of windows. Rates as shares, Cllr in bits."""

    bonafide: int
    """Scored."""
    spoof: int
    sources: int
    coverage: float
    """Share of clips (of windows, where all of them count) with a score, both classes together."""
    coverage_bonafide: float
    coverage_spoof: float
    eer: Interval
    eer_rejections_as_errors: float
    """A rejected spoof is missed, rejected bona fide speech a false alarm."""
    auc: float
    min_dcf: float
    cllr: float
    min_cllr: float
    detected_at_1pct: Interval
    """Share of spoofs detected at 1 % false alarms."""
    detected_at_1pct_rejections_missed: float
    detected_at_01pct: Interval
    """At 0.1 %; with fewer than 1,000 bona fide windows that is at none at all."""
    fpr95: float
    """False alarms where 95 % of spoofs are detected."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One source over the direct line, first windows."""

    source: str
    bonafide: int
    """Scored."""
    spoof: int
    rejected: int
    """Clips of either class."""
    mean_llr_bonafide: float | None
    mean_llr_spoof: float | None
    eer: float | None
    """None with fewer than five clips of a class."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """First windows called spoof where the LLR is above 0, as equal priors and costs have it."""

    classes: tuple[str, str]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    f1: tuple[float, ...]
    macro_f1: float
    confusion: tuple[tuple[int, ...], ...]
    """``[true, said]``."""
    by_technology: Mapping[str, tuple[int, int, int]]
    """Called bona fide, called spoof, rejected."""


@dataclass(frozen=True, slots=True)
class LineReport:
    """One line, direct or telephone."""

    measured: Mapping[str, Mapping[str, Measured]]
    """Group, then kind of window."""
    within_source_eer: float | None
    """Mean of the EERs inside sources with five clips or more of each class."""
    decisions: Decisions
    rejected_clips: Mapping[str, int]
    """Clips without any accepted window, by reason."""
    open_set: Mapping[str, OpenSet]
    """How well a confidence tells human speech and known generators from unseen ones: ``certainty``
    is the distance of the LLR from 0, ``nearness`` what the head says of its training data. Empty
    where no generator is unseen, or nothing is known of the training."""
    reliability: tuple[Reliability, ...]
    det: tuple[tuple[float, float], ...]
    """(false alarm, miss) of pooled first windows, thinned."""
    det_paired: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class ConditionRow:
    """Another coder, or packet loss: first windows of all clips."""

    line: str
    coverage: float
    measured: Measured | None
    """None where nothing was accepted of one class: a channel that is not calibrated, say."""


@dataclass(frozen=True, slots=True)
class DetectionReport:
    """What ``tools.evaluate`` says of a detector."""

    clips: int
    prompts: str | None
    """The source of the telephone prompts, if the corpus has one and these clips hold any of it."""
    lines: Mapping[str, LineReport]
    sources: tuple[SourceRow, ...]
    durations: tuple[DurationRow, ...]
    legs: tuple[LegRow, ...]
    codecs: tuple[ConditionRow, ...] = ()
    losses: tuple[ConditionRow, ...] = ()
    samples: Mapping[str, Sample] | None = None
    """First windows by line, for pictures; not part of the JSON."""


def evaluate_detector(
    scorer: DaemonScorer,
    clips: Sequence[Clip],
    cache: AudioCache,
    collection: Iterable[Clip],
    known_generators: frozenset[str] | None,
    *,
    full: bool = False,
) -> DetectionReport:
    """Score clips over every line and measure. ``full`` adds coders and packet loss.

    Raises BundleError for a bundle that is not calibrated or accepts nothing.
    """
    calibrations = scorer.bundle.calibrations.get(scorer.precision)
    if calibrations is None:
        raise BundleError(str(scorer.bundle.folder), "not calibrated; run tools.calibrate first")
    scored = {line.name: play(scorer, clips, cache, line) for line in PLAIN}
    for name, items in scored.items():
        if not first_windows(items).both:
            reason = f"{name}: of one class no window is accepted; is this channel calibrated?"
            raise BundleError(str(scorer.bundle.folder), reason)
    parts = groups(clips, collection, known_generators)
    lines = {name: report_line(items, parts, known_generators) for name, items in scored.items()}
    prompts = prompt_source(collection)
    legs = pseudo_legs(clips, cache)
    durations: list[DurationRow] = []
    judged: list[LegRow] = []
    for line in PLAIN:
        heard = hear(scorer, legs, line.name)
        named = [item for item in heard if item.leg.voices == VOICES[0]]
        durations += by_duration(named, line.name, VOICES[0], calibrations)
        durations += by_duration(heard, line.name, "all", calibrations)
        judged += judge_legs(heard, line.name, calibrations)
    return DetectionReport(
        clips=len(clips),
        prompts=prompts if any(clip.source_repo == prompts for clip in clips) else None,
        lines=lines,
        sources=tuple(by_source(scored[PLAIN[0].name])),
        durations=tuple(durations),
        legs=tuple(judged),
        codecs=tuple(_conditions(scorer, clips, cache, codec_lines() if full else ())),
        losses=tuple(_conditions(scorer, clips, cache, loss_lines() if full else ())),
        samples={name: first_windows(items) for name, items in scored.items()},
    )


def play(
    scorer: DaemonScorer, clips: Sequence[Clip], cache: AudioCache, line: Line
) -> list[ScoredClip]:
    """Every clip over a line, with a progress bar."""
    return [
        ScoredClip(clip, line.name, scorer.windows(*line.carry(cache.samples(clip), number)))
        for number, clip in enumerate(track(clips, f"scoring, {line.name}", len(clips)))
    ]


def _conditions(
    scorer: DaemonScorer, clips: Sequence[Clip], cache: AudioCache, lines: Sequence[Line]
) -> list[ConditionRow]:
    rows = []
    for line in lines:
        sample = first_windows(play(scorer, clips, cache, line))
        coverage = len(sample.clips) / max(1, len(clips))
        rows.append(ConditionRow(line.name, coverage, measure(sample) if sample.both else None))
    return rows


def report_line(
    items: Sequence[ScoredClip],
    parts: Mapping[str, Callable[[Clip], bool]],
    known_generators: frozenset[str] | None,
) -> LineReport:
    """Everything that is said of the clips scored over one line."""
    measured: dict[str, dict[str, Measured]] = {}
    for name, keep in parts.items():
        chosen = [item for item in items if keep(item.clip)]
        samples = {"first": first_windows(chosen), "all": all_windows(chosen)}
        if samples["first"].both:
            measured[name] = {kind: measure(part) for kind, part in samples.items()}
    first = first_windows(items)
    rows = [row.eer for row in by_source(items) if row.eer is not None]
    paired = _paired(first)
    return LineReport(
        measured=measured,
        within_source_eer=float(np.mean(rows)) if rows else None,
        decisions=decide(items),
        rejected_clips=reasons(items),
        open_set=_open_set(first, known_generators),
        reliability=tuple(reliability(first.llrs, first.spoof)),
        det=det(rates(first.llrs, first.spoof)),
        det_paired=det(rates(paired.llrs, paired.spoof)) if paired.both else (),
    )


def measure(sample: Sample) -> Measured:
    """All numbers of a sample that holds both classes."""
    llrs, spoof, rejected = sample.llrs, sample.spoof, sample.rejected
    counts = int((~spoof).sum()), int(spoof.sum())
    draws: list[tuple[float, float, float]] = []
    for drawn in draw_sources(sample.sources, both=spoof):
        points = rates(llrs[drawn], spoof[drawn])
        draws.append((eer_of(points), detection_of(points, 0.01), detection_of(points, 0.001)))
    points = rates(llrs, spoof)
    errors, at_1pct, at_01pct = (list(column) for column in zip(*draws, strict=True))
    detected = detection_of(points, 0.01)
    coverage_spoof = counts[1] / (counts[1] + rejected.spoof)
    return Measured(
        bonafide=counts[0],
        spoof=counts[1],
        sources=len(set(sample.sources)),
        coverage=sum(counts) / (sum(counts) + rejected.bonafide + rejected.spoof),
        coverage_bonafide=counts[0] / (counts[0] + rejected.bonafide),
        coverage_spoof=coverage_spoof,
        eer=interval(eer_of(points), errors),
        eer_rejections_as_errors=eer(llrs, spoof, rejected),
        auc=auc(llrs, spoof),
        min_dcf=min_dcf(llrs, spoof),
        cllr=cllr(llrs, spoof),
        min_cllr=min_cllr(llrs, spoof),
        detected_at_1pct=interval(detected, at_1pct),
        detected_at_1pct_rejections_missed=detected * coverage_spoof,
        detected_at_01pct=interval(detection_of(points, 0.001), at_01pct),
        fpr95=fpr_at(llrs, spoof),
    )


def by_source(items: Sequence[ScoredClip]) -> list[SourceRow]:
    """A row per source, by name."""
    rows = []
    for source in sorted({item.clip.source_repo for item in items}):
        sample = first_windows([item for item in items if item.clip.source_repo == source])
        bonafide, spoofed = sample.llrs[~sample.spoof], sample.llrs[sample.spoof]
        enough = min(len(bonafide), len(spoofed)) >= LEAST_PER_CLASS
        rows.append(
            SourceRow(
                source=source,
                bonafide=len(bonafide),
                spoof=len(spoofed),
                rejected=sample.rejected.bonafide + sample.rejected.spoof,
                mean_llr_bonafide=float(bonafide.mean()) if len(bonafide) else None,
                mean_llr_spoof=float(spoofed.mean()) if len(spoofed) else None,
                eer=eer(sample.llrs, sample.spoof) if enough else None,
            )
        )
    return rows


def decide(items: Sequence[ScoredClip]) -> Decisions:
    """First windows at an LLR of 0; what was rejected stands beside."""
    first = first_windows(items)
    said = first.llrs > 0.0
    found = classify(first.spoof.astype(np.int64), said.astype(np.int64), 2)
    called = {clip.path: bool(spoof) for clip, spoof in zip(first.clips, said, strict=True)}
    table = {name: [0, 0, 0] for name in TECHNOLOGIES}
    for item in items:
        table[item.clip.technology][int(called.get(item.clip.path, 2))] += 1
    return Decisions(
        classes=("bona fide", "spoof"),
        precision=tuple(found.precision.tolist()),
        recall=tuple(found.recall.tolist()),
        f1=tuple(found.f1.tolist()),
        macro_f1=found.macro_f1,
        confusion=tuple(tuple(row) for row in found.confusion.tolist()),
        by_technology={name: (row[0], row[1], row[2]) for name, row in table.items() if sum(row)},
    )


def det(points: Rates) -> tuple[tuple[float, float], ...]:
    """(false alarm, miss), at most ``DET_POINTS`` of them."""
    count = len(points.thresholds)
    rows = np.unique(np.linspace(0, count - 1, min(count, DET_POINTS)).round().astype(np.int64))
    return tuple(
        (round(float(points.false_alarm[i]), 6), round(float(points.miss[i]), 6)) for i in rows
    )


def _paired(sample: Sample) -> Sample:
    """Windows of sources that hold both classes."""
    both = paired_sources(sample.clips)
    rows = np.flatnonzero([clip.source_repo in both for clip in sample.clips])
    return replace(
        sample,
        clips=tuple(sample.clips[i] for i in rows),
        llrs=sample.llrs[rows],
        strangeness=sample.strangeness[rows],
    )


def _open_set(sample: Sample, known_generators: frozenset[str] | None) -> dict[str, OpenSet]:
    if known_generators is None:
        return {}
    known = np.array(
        [not clip.spoof or clip.generator in known_generators for clip in sample.clips], np.bool_
    )
    if known.all() or not known.any():
        return {}
    right = (sample.llrs > 0.0) == sample.spoof
    found = {"certainty": open_set(np.abs(sample.llrs), known, right)}
    if not np.isnan(sample.strangeness).any():
        found["nearness"] = open_set(-sample.strangeness, known, right)
    return found
