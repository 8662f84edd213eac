"""The report of one evaluation in Markdown, and its numbers as JSON and in ``bundle.yaml``."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from tools.evaluation import hierarchy_tables, tables
from tools.evaluation.attribution import SME, AttributionReport
from tools.evaluation.detection import DetectionReport
from tools.evaluation.hierarchy import METRIC

Report = DetectionReport | AttributionReport


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """What was measured on what."""

    name: str
    version: str
    task: str
    bundle_sha256: str
    target: str
    """Engine target."""
    corpus: str
    role: str
    """Of the split, or subset of a corpus; ``all``."""


_HOW = """\
Scored through the daemon's own front end, gate and scorer, as `streamguard analyze` does. *Direct*:
16 kHz; *telephone*: 8 kHz through G.711, both laws. *First window*: one per clip, the first that
the gate accepts; *all windows*: every one that `analyze --json` lists, so that long clips count
more. Coverage is the share of clips, or of windows, with a score. Brackets: 95 % of draws of whole
sources (cluster bootstrap)."""

_DETECTION_HOW = """\
"Rejections as errors": a rejected spoof is missed at every threshold, rejected bona fide speech a
false alarm at every threshold. At 0.1 % (1 %) of false alarms with fewer than 1,000 (100) bona fide
windows, none at all is allowed. minDCF: prior of spoof 0.05, false alarms ten times as dear as
misses (ASVspoof 5 has the dear error the other way round: not to be compared).
Paired sources hold both classes: there the recording condition says nothing of the label, so these
are the honest numbers; the pooled ones are partly the recording condition. Min t-DCF is left out:
no scores of a speaker verification system come with the clips."""

_DURATION_HOW = """\
Pseudo-legs: trimmed clips of one source, speaker, generator, set and label, joined to at most 22 s;
**joins hide the drift of a real call**. A leg is judged by the daemon's evidence (mean LLR under
the random-effect model of a leg) at the first window with so much accepted speech; 1 and 2 s are
legs cut off there. Rows *one speaker* hold clips of a named speaker only; rows *all* add clips
without a name joined by source, which mix voices and so err on the bright side. *Same legs*: only
those that last to the longest duration with a rate, so that a curve compares equals."""

_OPEN_HOW = """\
Known against unknown by a confidence. FPR95: unknown accepted where 95 % of the known are. EERc
(Klein et al., Interspeech 2025): a known item counts as right only if accepted and rightly
classified."""


def markdown(subject: Subject, report: Report, pictures: Mapping[str, str]) -> str:
    """The whole report; ``pictures`` are titles by file name."""
    head = [
        f"# {subject.name} {subject.version} on {subject.corpus}, {subject.role}\n",
        f"{subject.task}; bundle `{subject.bundle_sha256[:16]}…`; engine `{subject.target}`.\n",
        _HOW + "\n",
    ]
    body = detection(report) if isinstance(report, DetectionReport) else attribution(report)
    shown = [f"![{title}]({name})\n" for name, title in pictures.items()]
    return "\n".join([*head, *body, *(["## Pictures\n", *shown] if shown else [])])


def detection(report: DetectionReport) -> list[str]:
    """Sections of a detector."""
    parts = [
        "## Windows\n",
        _DETECTION_HOW + "\n",
        tables.detection_numbers(report),
        tables.detection_scores(report),
        tables.within_sources(report),
        tables.rejections(report.lines),
        f"Telephone prompts of hardly more than one voice: {report.prompts or 'none'} among these "
        "clips.\n",
        "## Decisions at an LLR of 0, first windows\n",
        tables.decisions(report.lines),
        tables.technologies(report.lines),
    ]
    if any(part.open_set for part in report.lines.values()):
        parts += [
            "## Human speech and known generators against unseen ones\n",
            _OPEN_HOW + "\n",
            tables.open_sets({line: part.open_set for line, part in report.lines.items()}),
        ]
    parts += [
        "## By duration\n",
        _DURATION_HOW + "\n",
        tables.durations(report.durations),
        "## Legs, by the default rule\n",
        "Pseudo-legs with enough net speech, judged window by window as the daemon does. What is "
        "neither raised nor bona fide ends as UNKNOWN or SUSPECT.\n",
        tables.legs(report.legs),
    ]
    if report.codecs:
        parts += ["## Through coders, first windows\n", tables.conditions(report.codecs)]
    if report.losses:
        parts += [
            "## With packet loss, first windows\n",
            "G.711 in packets of 20 ms, lost in bursts of two on average; the gate rejects hops "
            "that lost more than a tenth.\n",
            tables.conditions(report.losses),
        ]
    return [*parts, "## Per source, direct line, first windows\n", tables.sources(report.sources)]


def attribution(report: AttributionReport) -> list[str]:
    """Sections of an attribution bundle."""
    parts = [
        "## Labels\n",
        "Spoofed speech only; every window is asked about, whatever a detector says of it. The "
        "generator is measured on listed generators that training sources other than the clip's "
        "own hold, among all that are listed.\n",
        tables.attribution_numbers(report),
        "## Who is named at the thresholds of the bundle\n",
        tables.named(report.lines),
        "## Listed generators against unknown ones, first windows\n",
        _OPEN_HOW + "\n",
        tables.open_sets(
            {
                f"{line}, {who}": scores
                for line, part in report.lines.items()
                for who, scores in part.open_set.items()
            }
        ),
    ]
    if report.behind:
        parts += [
            f"## As the daemon names them, behind the detector {report.detector}\n",
            "Labels as `analyze --json` has them: a window is asked about only where the detector "
            "accepts it and leans to spoof. A clip has the most frequent label of its windows.\n",
            tables.behind(report.behind),
        ]
    for title, measured in hierarchy_tables.per_class(report):
        parts += [
            f"## {title}: classes and confusion, first windows\n",
            tables.classes(measured),
            tables.confusion(measured),
        ]
    parts += ["## Both levels, first windows\n", hierarchy_tables.PROPAGATION_HOW + "\n"]
    if report.cuts:
        parts += [hierarchy_tables.CUT_HOW + "\n", hierarchy_tables.cuts(report)]
    parts += [
        hierarchy_tables.propagation(report),
        "## What unseen speech is called, first windows\n",
        hierarchy_tables.destinations(report),
    ]
    if report.codecs:
        parts += ["## Through coders\n", tables.attribution_conditions(report.codecs)]
    if report.losses:
        parts += ["## With packet loss\n", tables.attribution_conditions(report.losses)]
    return parts


def to_json(subject: Subject, report: Report) -> str:
    """Every number; not-a-number is null."""
    content = {"schema": "streamguard.evaluation/1", **_plain(subject), **_plain(report)}
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


_NOT_IN_JSON = frozenset({"samples"})


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.name not in _NOT_IN_JSON
        }
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def bundle_metrics(subject: Subject, report: Report) -> dict[str, float]:
    """The few numbers that travel in ``bundle.yaml``."""
    numbers: dict[str, float] = {}
    if isinstance(report, DetectionReport):
        for line, group, kind, row in tables.measured_rows(report):
            key = _key(subject.role, line, *([] if group == "pooled" else [group]))
            key += "" if kind == "first" else "_all_windows"
            numbers[f"{key}_eer"] = row.eer.value
            numbers[f"{key}_coverage"] = row.coverage
            if kind == "first":
                numbers[f"{key}_cllr"] = row.cllr
        for duration in report.durations:
            if duration.voices == "all" and duration.eer is not None:
                key = _key(subject.role, duration.line, f"{duration.seconds:g}s")
                numbers[f"{key}_eer"] = duration.eer.value
    else:
        for line, part in report.lines.items():
            for head, kinds in (
                ("technology", part.technology.get("pooled", {})),
                ("generator", part.generator),
            ):
                if measured := kinds.get("first"):
                    key = _key(subject.role, line, head)
                    numbers[f"{key}_balanced_accuracy"] = measured.balanced_accuracy.value
                    numbers[f"{key}_accuracy"] = measured.accuracy
                    numbers[f"{key}_labelled"] = measured.labelled
            for who, scores in part.open_set.items():
                for score, found in scores.items():
                    if score == SME:
                        numbers[f"{_key(subject.role, line, who)}_fpr95"] = found.fpr95
        for cut in report.cuts:
            if cut.threshold is not None:
                numbers[METRIC.format(head=cut.head)] = cut.threshold
    return {name: round(value, 4) for name, value in numbers.items()}


def _key(*parts: str) -> str:
    return "_".join(part.replace(", ", "_").replace(" ", "_") for part in parts)
