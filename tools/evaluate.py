"""Measure a detection bundle: ``python -m tools.evaluate models/cnn_lstm/bundle --data D``.

One window of 3 s per clip (the first that the gate accepts; shorter clips as far as they go), from
the daemon's own front end and scorer. Pooled numbers are partly the recording condition; those of
paired sources, which hold both classes, are the honest ones, and stand beside them always. Writes
``evaluation.json`` where asked, the metrics into ``bundle.yaml``, and ``CARD.md``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tools.bundle_writer import update_document
from tools.card import write_card
from tools.command import run
from tools.data import (
    DEFAULT_SPLIT,
    AudioCache,
    Clip,
    Split,
    data_folder,
    paired_sources,
    read_manifest,
    read_split,
)
from tools.legs import LegRow, judge_legs
from tools.metrics import (
    Interval,
    auc,
    bootstrap_by_source,
    cllr,
    detection_at,
    eer,
    fpr_at,
    min_cllr,
    min_dcf,
)
from tools.scoring import LINES, DaemonScorer, ScoredClip
from tools.train import DEFAULT_CACHE

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

LEAST_PER_CLASS = 5
"""Clips of each class that a source needs for an error rate of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """One calibrated window per clip."""

    clips: tuple[Clip, ...]
    llrs: Floats

    @property
    def spoof(self) -> Bools:
        return np.array([clip.spoof for clip in self.clips], np.bool_)

    def where(self, keep: Sequence[bool]) -> Scores:
        chosen = np.flatnonzero(np.asarray(keep, np.bool_))
        return Scores(tuple(self.clips[i] for i in chosen), self.llrs[chosen])


@dataclass(frozen=True, slots=True)
class Measured:
    """The numbers of one set of windows. Rates as shares, Cllr in bits."""

    bonafide: int
    spoof: int
    sources: int
    eer: Interval
    auc: float
    min_dcf: float
    cllr: float
    min_cllr: float
    detected_at_1pct: float
    """Share of spoofs detected at 1 % false alarms."""
    fpr95: float


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One source over the direct line."""

    source: str
    bonafide: int
    spoof: int
    mean_llr_bonafide: float | None
    mean_llr_spoof: float | None
    eer: float | None
    """None with fewer than five clips of a class."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a card says about one split."""

    measured: dict[str, Measured]
    """``<line>`` and ``<line>, paired sources`` and so on."""
    within_source_eer: dict[str, float]
    """Mean of the EERs inside the paired sources, by line."""
    technologies: dict[str, float]
    """Share of windows with LLR > 0, direct line."""
    sources: tuple[SourceRow, ...]
    accepted: dict[str, float]
    """Share of clips of which the gate let a window speak, by line and class."""
    legs: tuple[LegRow, ...] = ()
    """What the default rule said of pseudo-legs."""


def first_windows(scored: Sequence[ScoredClip]) -> Scores:
    """The first accepted window of each clip that has one."""
    clips, llrs = [], []
    for item in scored:
        for window in item.accepted[:1]:
            if window.llr is None:
                raise ValueError("the bundle is not calibrated; run tools.calibrate first")
            clips.append(item.clip)
            llrs.append(window.llr)
    return Scores(tuple(clips), np.array(llrs, np.float64))


def measure(scores: Scores) -> Measured:
    """All numbers of a set of windows that holds both classes."""
    llrs, spoof = scores.llrs, scores.spoof
    sources = [clip.source_repo for clip in scores.clips]
    return Measured(
        bonafide=int((~spoof).sum()),
        spoof=int(spoof.sum()),
        sources=len(set(sources)),
        eer=bootstrap_by_source(eer, llrs, spoof, sources),
        auc=auc(llrs, spoof),
        min_dcf=min_dcf(llrs, spoof),
        cllr=cllr(llrs, spoof),
        min_cllr=min_cllr(llrs, spoof),
        detected_at_1pct=detection_at(llrs, spoof, 0.01),
        fpr95=fpr_at(llrs, spoof),
    )


def report(scored: dict[str, Sequence[ScoredClip]], known_generators: frozenset[str]) -> Report:
    """From the scored clips of every line; ``known_generators`` are those of the training split."""
    measured: dict[str, Measured] = {}
    within: dict[str, float] = {}
    accepted: dict[str, float] = {}
    for line, items in scored.items():
        scores = first_windows(items)
        paired = paired_sources(item.clip for item in items)
        groups = {
            line: scores,
            f"{line}, paired sources": scores.where(
                [clip.source_repo in paired for clip in scores.clips]
            ),
            f"{line}, unseen generators": scores.where(
                [not clip.spoof or clip.generator not in known_generators for clip in scores.clips]
            ),
            f"{line}, exact set only": scores.where([clip.set == "core" for clip in scores.clips]),
        }
        measured |= {
            name: measure(group)
            for name, group in groups.items()
            if 0 < group.spoof.sum() < len(group.clips)
        }
        rows = [row.eer for row in by_source(scores) if row.eer is not None]
        within[line] = float(np.mean(rows)) if rows else float("nan")
        for label in ("bonafide", "spoof"):
            of_class = [item for item in items if item.clip.label == label]
            share = sum(bool(item.accepted) for item in of_class) / max(1, len(of_class))
            accepted[f"{line}, {label}"] = share
    direct = first_windows(scored["direct"])
    return Report(
        measured=measured,
        within_source_eer=within,
        technologies=by_technology(direct),
        sources=tuple(by_source(direct)),
        accepted=accepted,
    )


def by_source(scores: Scores) -> list[SourceRow]:
    """A row per source, by name."""
    rows = []
    for source in sorted({clip.source_repo for clip in scores.clips}):
        part = scores.where([clip.source_repo == source for clip in scores.clips])
        spoof = part.spoof
        counts = int((~spoof).sum()), int(spoof.sum())
        rows.append(
            SourceRow(
                source=source,
                bonafide=counts[0],
                spoof=counts[1],
                mean_llr_bonafide=float(part.llrs[~spoof].mean()) if counts[0] else None,
                mean_llr_spoof=float(part.llrs[spoof].mean()) if counts[1] else None,
                eer=eer(part.llrs, spoof) if min(counts) >= LEAST_PER_CLASS else None,
            )
        )
    return rows


def by_technology(scores: Scores) -> dict[str, float]:
    """Share of the windows of each technology with LLR > 0: false alarms for ``human``."""
    names = np.array([clip.technology for clip in scores.clips])
    return {str(name): float((scores.llrs[names == name] > 0).mean()) for name in np.unique(names)}


def bundle_metrics(result: Report) -> dict[str, float]:
    """The few numbers that travel in ``bundle.yaml``."""
    numbers = {}
    for name, values in result.measured.items():
        key = name.replace(", ", "_").replace(" ", "_")
        numbers[f"validation_{key}_eer"] = round(values.eer.value, 4)
        numbers[f"validation_{key}_cllr"] = round(values.cllr, 4)
    return numbers


def trained_generators(clips: Sequence[Clip], split: Split) -> frozenset[str]:
    return frozenset(clip.generator for clip in split.select(clips, "train") if clip.spoof)


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate a bundle on a split and write its card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, help="folder with manifest.csv ($STREAMGUARD_DATA)")
    parser.add_argument("--split", type=Path, default=DEFAULT_SPLIT)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="decoded audio")
    parser.add_argument("--json", type=Path, help="also write every number here")
    options = parser.parse_args(argv)
    data = data_folder(options.data)
    clips = read_manifest(data / "manifest.csv")
    cache = AudioCache.open(data, options.cache, clips)
    split = read_split(options.split)
    held = [clip for clip in split.select(clips, "validation") if clip.speech]
    scorer = DaemonScorer(options.bundle)
    result = report(
        {line: scorer.clips(held, cache, line) for line in LINES}, trained_generators(clips, split)
    )
    result = dataclasses.replace(result, legs=tuple(judge_legs(scorer, held, cache)))
    scorer.close()
    if options.json:
        options.json.write_text(
            json.dumps(result, default=plain, indent=1) + "\n", encoding="utf-8"
        )
    card = write_card(options.bundle, result, clips, split)
    update_document(options.bundle, {"metrics": bundle_metrics(result)}, card)
    for name, values in result.measured.items():
        print(f"{name}: EER {values.eer.value:.3f} AUC {values.auc:.3f} Cllr {values.cllr:.3f}")
    return 0


def plain(value: object) -> object:
    """What ``json.dumps`` asks of a dataclass."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


if __name__ == "__main__":
    raise SystemExit(run(main))
