"""The hierarchy of an attribution bundle as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from tools.evaluation import tables
from tools.evaluation.attribution import AttributionReport, HeadMeasured

CUT_HOW = """\
As in the text: softmax confidences sorted, cut where the share of right ones above falls below
85 %; on windows of sources that neither trained the bundle nor are measured here, because what a
head is sure of on its own training clips says little of others. A head without a cut is silent."""

PROPAGATION_HOW = """\
Spoofs and human speech, none kept out by a detector. The second level is asked for a generator of
the technology that the first has said. Errors of the first level count human speech with any
technology among them; errors of the second are of all that are given a generator."""


def per_class(report: AttributionReport) -> Iterable[tuple[str, HeadMeasured]]:
    """(title, numbers) of each head over each line, first windows."""
    for line, part in report.lines.items():
        heads = {"Technology": part.technology.get("pooled", {}), "Generator": part.generator}
        for head, kinds in heads.items():
            if measured := kinds.get("first"):
                yield f"{head}, {line}", measured


def cuts(report: AttributionReport) -> str:
    return tables.table(
        ("head", "confidence of the text's rule", "windows it was found on", "accepted of them"),
        (
            (
                found.head,
                "none: silent" if found.threshold is None else f"{found.threshold:.3f}",
                str(found.windows) if found.windows else tables.NONE,
                tables.percent(found.accepted) if found.windows else tables.NONE,
            )
            for found in report.cuts
        ),
    )


def propagation(report: AttributionReport) -> str:
    """How errors of the first level reach the second."""
    return tables.table(
        (
            "line",
            "rule",
            "spoofed + human",
            "technology right",
            "wrong",
            "human speech named",
            "errors of the first level",
            "reach the second",
            "generator right",
            "wrong",
            "technology was wrong",
            "generator not listed",
            "human speech",
            "errors of the second level",
        ),
        (
            (
                line,
                row.rule,
                f"{row.spoofed} + {row.human}",
                str(row.technology_right),
                str(row.technology_wrong),
                str(row.human_named),
                tables.percent(row.technology_error),
                str(row.forwarded),
                str(row.generator_right),
                str(row.generator_wrong),
                str(row.passed_on),
                str(row.unlisted),
                str(row.human_generator),
                tables.percent(row.generator_error),
            )
            for line, part in report.lines.items()
            for row in part.hierarchy.propagation
        ),
    )


def destinations(report: AttributionReport) -> str:
    """What speech of no trained generator is called."""
    rows = [
        (line, row) for line, part in report.lines.items() for row in part.hierarchy.destinations
    ]
    labels = list(rows[0][1].said) if rows else []
    return tables.table(
        ("line", "what", "rule", "windows", "rejected", *labels),
        (
            (
                line,
                row.who,
                row.rule,
                str(row.windows),
                _share(row.rejected, row.windows),
                *(_share(row.said[label], row.windows) for label in labels),
            )
            for line, row in rows
        ),
    )


def _share(part: int, whole: int) -> str:
    return tables.percent(part / whole)
