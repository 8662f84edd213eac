"""Measure a bundle, detection or attribution: ``python -m tools.evaluate BUNDLE --data D``.

Prints the figures that matter; ``--json`` and ``--report`` write all of them, ``--card`` puts them
into the bundle's ``bundle.yaml`` and ``CARD.md``. ``--full`` adds every coder and packet loss,
which takes some minutes more.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from streamguard.inference.bundle import find_bundle, load_bundle
from tools.bundle_writer import update_document
from tools.command import run
from tools.data import (
    DEFAULT_SPLIT,
    ROLES,
    AudioCache,
    Clip,
    DataError,
    Split,
    chosen_corpus,
    corpus_options,
    read_split,
)
from tools.evaluation import hierarchy_tables, tables
from tools.evaluation.attribution import AttributionReport, evaluate_attribution, find_cuts
from tools.evaluation.behind import HEADS, evaluate_behind
from tools.evaluation.card import card_text
from tools.evaluation.detection import DetectionReport, evaluate_detector
from tools.evaluation.hierarchy import METRIC, Cut
from tools.evaluation.names import Name, Names
from tools.evaluation.plots import draw_attribution, draw_detection
from tools.evaluation.report import Report, Subject, bundle_metrics, markdown, to_json
from tools.scoring import AttributionScorer, DaemonScorer
from tools.train import DEFAULT_CACHE

REPORT_FILE = "report.md"
ALL = "all"
"""In the place of a role: every clip of a corpus."""
MOST_CUT_CLIPS = 1000


@dataclass(frozen=True, slots=True)
class Material:
    """The clips to be measured, and what is known of the others."""

    corpus: str
    role: str
    clips: tuple[Clip, ...]
    cache: AudioCache
    collection: tuple[Clip, ...]
    split: Split
    trained: Mapping[Name, frozenset[str]] | None
    """Training sources of each generator; None where the bundle was trained on something else."""
    cut_clips: tuple[Clip, ...] = ()
    """Where the confidences of the text's rule are found; none: they are those in the bundle's
    metrics for a corpus that trained nothing, and are left out for one that did."""


def gather(options: argparse.Namespace) -> Material:
    """The speech of a role of the corpus. Raises DataError."""
    corpus = chosen_corpus(options)
    split = read_split(options.split)
    chosen = corpus.clips if options.role == ALL else corpus.select(options.role, split)
    clips = tuple(clip for clip in chosen if clip.speech)
    if not clips:
        raise DataError(corpus.root, 0, "--role", options.role, "a role that some speech has")
    own = options.corpus is None or options.trained_here
    # What chooses a threshold is not what it is measured on.
    apart = own and options.role not in (options.cut_on, ALL)
    return Material(
        corpus=(options.corpus or "the collection").partition("=")[0],
        role=options.role,
        clips=clips,
        cache=AudioCache.open(corpus.root, options.cache, corpus.clips),
        collection=corpus.clips,
        split=split,
        trained=trained_generators(corpus.select("train", split)) if own else None,
        cut_clips=_spread(corpus.select(options.cut_on, split)) if apart else (),
    )


def _spread(clips: Sequence[Clip]) -> tuple[Clip, ...]:
    """At most so many spoofs, evenly out of all of them."""
    spoofs = [clip for clip in clips if clip.spoof]
    return tuple(spoofs[:: max(1, -(-len(spoofs) // MOST_CUT_CLIPS))])


def trained_generators(clips: Sequence[Clip]) -> dict[Name, frozenset[str]]:
    """Sources of each generator among training clips."""
    found: dict[Name, set[str]] = {}
    for clip in clips:
        if clip.spoof:
            found.setdefault((clip.technology, clip.generator), set()).add(clip.source_repo)
    return {name: frozenset(sources) for name, sources in found.items()}


def evaluate(bundle: Path, material: Material, target: str, *, full: bool) -> Report:
    """Measure a bundle of either task. Raises BundleError, DataError, EngineError."""
    if load_bundle(bundle).manifest.task == "detection":
        labels = {clip.label for clip in material.clips}
        if len(labels) < 2:
            reason = "both bonafide and spoof: a detector tells them apart"
            raise DataError(Path(material.corpus), 0, "label", labels.pop(), reason)
        known = None
        if material.trained is not None:
            known = frozenset(generator for _, generator in material.trained)
        detector = DaemonScorer(bundle, target)
        try:
            return evaluate_detector(
                detector, material.clips, material.cache, material.collection, known, full=full
            )
        finally:
            detector.close()
    namer = AttributionScorer(bundle, target)
    try:
        return evaluate_attribution(
            namer,
            material.clips,
            material.cache,
            material.collection,
            material.trained,
            full=full,
            found=_cuts(namer, material),
        )
    finally:
        namer.close()


def _cuts(namer: AttributionScorer, material: Material) -> list[Cut]:
    if material.cut_clips:
        return find_cuts(namer, material.cut_clips, material.cache)
    if material.trained is not None:
        # Those in the metrics may have been found on these very clips.
        return []
    return known_cuts(namer.bundle.manifest.metrics)


def known_cuts(metrics: Mapping[str, float]) -> list[Cut]:
    """What an earlier evaluation with ``--card`` found; none if there was none."""
    known = {head: metrics.get(METRIC.format(head=head)) for head in HEADS}
    if set(known.values()) == {None}:
        return []
    return [Cut(head, threshold, 0, 0.0) for head, threshold in known.items()]


def name_behind(
    report: AttributionReport, bundle: Path, detector: str, material: Material, target: str
) -> AttributionReport:
    """The report with what the daemon would say with this detector before the bundle."""
    scorer = DaemonScorer(detector, target, attribution=bundle)
    try:
        names = Names.of(load_bundle(bundle), material.trained)
        rows = evaluate_behind(scorer, material.clips, material.cache, names)
    finally:
        scorer.close()
    return replace(report, detector=scorer.bundle.name, behind=tuple(rows))


def say(report: Report) -> None:
    """The figures that matter."""
    if isinstance(report, DetectionReport):
        print(tables.detection_numbers(report))
        print(tables.durations(report.durations))
    else:
        print(tables.attribution_numbers(report))
        for title, measured in hierarchy_tables.per_class(report):
            print(f"{title}, first windows:\n\n{tables.classes(measured)}")
        print(f"Both levels:\n\n{hierarchy_tables.cuts(report) if report.cuts else ''}")
        print(hierarchy_tables.propagation(report))
        print(f"Unseen speech:\n\n{hierarchy_tables.destinations(report)}")
        if report.behind:
            print(tables.behind(report.behind))


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate a bundle."""
    parser = argparse.ArgumentParser(prog="python -m tools.evaluate", description=__doc__)
    parser.add_argument("bundle", type=Path, help="a folder, or the name of a packaged bundle")
    corpus_options(parser)
    parser.add_argument(
        "--trained-here", action="store_true", help="the bundle was trained on this --corpus"
    )
    parser.add_argument("--split", type=Path, default=DEFAULT_SPLIT)
    parser.add_argument("--role", choices=(*ROLES, ALL), default="validation")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="decoded audio")
    parser.add_argument("--target", default="cpu-fp32", help="engine target")
    parser.add_argument(
        "--detector", help="bundle: name windows as the daemon does behind it, too (attribution)"
    )
    parser.add_argument(
        "--cut-on", choices=ROLES, default="calibration",
        help="clips on which confidence thresholds as in the LAVA text are found (its own: train)",
    )  # fmt: skip
    parser.add_argument("--full", action="store_true", help="coders and packet loss, too")
    parser.add_argument("--json", type=Path, help="write every number here")
    parser.add_argument("--report", type=Path, help="write report.md with pictures to this folder")
    parser.add_argument("--card", action="store_true", help="write metrics and CARD.md")
    options = parser.parse_args(argv)
    if options.card and options.corpus:
        parser.error("--card: tells what trained the bundle, so not with --corpus")
    folder = find_bundle(options.bundle)
    material = gather(options)
    report = evaluate(folder, material, options.target, full=options.full)
    if isinstance(report, AttributionReport) and options.detector:
        report = name_behind(report, folder, options.detector, material, options.target)
    bundle = load_bundle(folder)
    subject = Subject(
        name=bundle.name,
        version=bundle.manifest.version,
        task=bundle.manifest.task,
        bundle_sha256=bundle.sha256,
        target=options.target,
        corpus=material.corpus,
        role=material.role,
    )
    say(report)
    if options.json:
        options.json.write_text(to_json(subject, report), encoding="utf-8")
    if options.report:
        pictures = (
            draw_detection(report, options.report)
            if isinstance(report, DetectionReport)
            else draw_attribution(report, options.report)
        )
        text = markdown(subject, report, pictures)
        (options.report / REPORT_FILE).write_text(text, encoding="utf-8")
    if options.card:
        card = card_text(bundle, subject, report, material.collection, material.split)
        update_document(folder, {"metrics": bundle_metrics(subject, report)}, card)
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
