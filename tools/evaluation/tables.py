"""What was measured, as Markdown: shared by the report and the card."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from tools.evaluation.attribution import (
    AttributionCondition,
    AttributionLine,
    AttributionReport,
    HeadMeasured,
)
from tools.evaluation.behind import BehindRow
from tools.evaluation.detection import (
    KINDS,
    ConditionRow,
    DetectionReport,
    LineReport,
    Measured,
    SourceRow,
)
from tools.legs import DurationRow, LegRow
from tools.metrics import Interval, OpenSet

NONE = "–"
KIND_NAMES = {"first": "first window", "all": "all windows"}


def percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.1f} %"


def ranged(value: Interval | None) -> str:
    """A share with its interval."""
    if value is None:
        return NONE
    return f"{100 * value.value:.1f} % [{100 * value.low:.0f}, {100 * value.high:.0f}]"


def number(value: float | None, digits: int = 2) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """One Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def detection_numbers(report: DetectionReport) -> str:
    """Error rates with coverage beside them."""
    return table(
        (
            "line",
            "clips",
            "of each",
            "bona fide + spoof (sources)",
            "coverage",
            "EER",
            "EER, rejections as errors",
            "detected at 1 % false alarms",
            "… rejections missed",
            "at 0.1 %",
        ),
        (
            (
                line,
                group,
                KIND_NAMES[kind],
                f"{row.bonafide} + {row.spoof} ({row.sources})",
                percent(row.coverage),
                ranged(row.eer),
                percent(row.eer_rejections_as_errors),
                ranged(row.detected_at_1pct),
                percent(row.detected_at_1pct_rejections_missed),
                ranged(row.detected_at_01pct),
            )
            for line, group, kind, row in measured_rows(report)
        ),
    )


def detection_scores(report: DetectionReport) -> str:
    """What else is said of the same windows."""
    return table(
        (
            "line",
            "clips",
            "of each",
            "AUC",
            "minDCF",
            "Cllr",
            "least Cllr",
            "false alarms at 95 % detected",
        ),
        (
            (
                line,
                group,
                KIND_NAMES[kind],
                number(row.auc, 3),
                number(row.min_dcf, 3),
                number(row.cllr, 3),
                number(row.min_cllr, 3),
                percent(row.fpr95),
            )
            for line, group, kind, row in measured_rows(report)
        ),
    )


def measured_rows(report: DetectionReport) -> Iterable[tuple[str, str, str, Measured]]:
    """(line, group, kind, numbers)."""
    for line, part in report.lines.items():
        for group, kinds in part.measured.items():
            for kind in KINDS:
                yield line, group, kind, kinds[kind]


def within_sources(report: DetectionReport) -> str:
    said = "; ".join(
        f"{line} {percent(part.within_source_eer)}" for line, part in report.lines.items()
    )
    return f"Mean EER inside the sources that have five clips or more of each class: {said}.\n"


def rejections(lines: Mapping[str, LineReport]) -> str:
    said = "; ".join(
        f"{line} " + (", ".join(f"{why} {n}" for why, n in part.rejected_clips.items()) or "none")
        for line, part in lines.items()
    )
    return f"Clips of which no window was accepted: {said}.\n"


def decisions(lines: Mapping[str, LineReport]) -> str:
    """Precision, recall, F1 and confusion at an LLR of 0."""
    rows = []
    for line, part in lines.items():
        said = part.decisions
        for i, name in enumerate(said.classes):
            rows.append(
                (
                    line,
                    name,
                    percent(said.precision[i]),
                    percent(said.recall[i]),
                    number(said.f1[i], 3),
                    str(said.confusion[i][0]),
                    str(said.confusion[i][1]),
                )
            )
        rows.append((line, "macro", NONE, NONE, number(said.macro_f1, 3), "", ""))
    header = ("line", "class", "precision", "recall", "F1", "called bona fide", "called spoof")
    return table(header, rows)


def technologies(lines: Mapping[str, LineReport]) -> str:
    """What each technology is called."""
    return table(
        ("line", "technology", "called bona fide", "called spoof", "rejected", "share spoof"),
        (
            (line, name, str(bonafide), str(spoof), str(lost), percent(_share(spoof, bonafide)))
            for line, part in lines.items()
            for name, (bonafide, spoof, lost) in part.decisions.by_technology.items()
        ),
    )


def _share(part: int, rest: int) -> float | None:
    return part / (part + rest) if part + rest else None


def open_sets(found: Mapping[str, Mapping[str, OpenSet]]) -> str:
    """By line (or line and kind of unknown), then by score."""
    return table(
        ("", "score", "known", "unknown", "AUROC", "FPR95", "OOD-EER", "EERc"),
        (
            (
                where,
                score,
                str(row.known),
                str(row.unknown),
                number(row.auroc, 3),
                percent(row.fpr95),
                percent(row.ood_eer),
                percent(row.eerc),
            )
            for where, scores in found.items()
            for score, row in scores.items()
        ),
    )


def durations(rows: Sequence[DurationRow]) -> str:
    """The error against net speech."""
    return table(
        (
            "line",
            "clips of",
            "net speech",
            "legs: bona fide + spoof (sources)",
            "coverage",
            "EER",
            "EER, rejections as errors",
            "detected at 1 % false alarms",
            "EER of the same legs",
        ),
        (
            (
                row.line,
                row.voices,
                f"{row.seconds:g} s",
                f"{row.bonafide} + {row.spoof} ({row.sources})",
                percent(row.coverage),
                ranged(row.eer),
                percent(row.eer_rejections_as_errors),
                ranged(row.detected_at_1pct),
                percent(row.same_legs_eer),
            )
            for row in rows
        ),
    )


def legs(rows: Sequence[LegRow]) -> str:
    """The default rule on whole pseudo-legs."""
    return table(
        ("line", "legs", "judged", "median net speech", "ever SPOOF", "ever BONAFIDE"),
        (
            (
                row.line,
                "spoof" if row.spoof else "bona fide",
                str(row.legs),
                f"{row.net_speech_s:.1f} s",
                f"{percent(row.raised)} ({round(row.raised * row.legs)})",
                percent(row.bonafide),
            )
            for row in rows
        ),
    )


def conditions(rows: Sequence[ConditionRow]) -> str:
    """Coders, or packet loss."""
    return table(
        (
            "line",
            "coverage",
            "EER",
            "EER, rejections as errors",
            "detected at 1 % false alarms",
            "… rejections missed",
            "Cllr",
        ),
        (
            (row.line, percent(row.coverage), *([NONE] * 5))
            if (part := row.measured) is None
            else (
                row.line,
                percent(row.coverage),
                ranged(part.eer),
                percent(part.eer_rejections_as_errors),
                ranged(part.detected_at_1pct),
                percent(part.detected_at_1pct_rejections_missed),
                number(part.cllr, 3),
            )
            for row in rows
        ),
    )


def sources(rows: Sequence[SourceRow]) -> str:
    """Each source by itself."""
    return table(
        ("source", "bona fide", "spoof", "rejected", "mean LLR bona fide", "of spoof", "EER"),
        (
            (
                row.source,
                str(row.bonafide),
                str(row.spoof),
                str(row.rejected),
                number(row.mean_llr_bonafide),
                number(row.mean_llr_spoof),
                percent(row.eer),
            )
            for row in rows
        ),
    )


def attribution_numbers(report: AttributionReport) -> str:
    """Both heads, with coverage beside every accuracy."""

    def rows(line: str, part: AttributionLine) -> Iterable[tuple[str, str, str, HeadMeasured]]:
        for group, kinds in part.technology.items():
            for kind, row in kinds.items():
                yield line, f"technology, {group}", kind, row
        for kind, row in part.generator.items():
            yield line, "generator, listed ones", kind, row

    return table(
        (
            "line",
            "head and clips",
            "of each",
            "windows (sources)",
            "coverage",
            "balanced accuracy",
            "accuracy",
            "macro F1",
            "labelled at the thresholds",
            "accuracy of those",
            "balanced accuracy, rejections as errors",
        ),
        (
            (
                line,
                head,
                KIND_NAMES[kind],
                f"{row.windows} ({row.sources})",
                percent(row.coverage),
                ranged(row.balanced_accuracy),
                percent(row.accuracy),
                number(row.macro_f1, 3),
                percent(row.labelled),
                percent(row.labelled_accuracy),
                percent(row.balanced_accuracy_rejections_as_errors),
            )
            for name, part in report.lines.items()
            for line, head, kind, row in rows(name, part)
        ),
    )


def classes(measured: HeadMeasured) -> str:
    """Precision, recall and F1 of each class."""
    return table(
        ("class", "windows (sources)", "precision", "recall", "F1"),
        (
            (
                row.label,
                f"{row.windows} ({row.sources})",
                percent(row.precision),
                percent(row.recall),
                number(row.f1, 3),
            )
            for row in measured.classes
        ),
    )


def confusion(measured: HeadMeasured) -> str:
    """Rows are true classes that occur, columns every class that occurs or was said."""
    said = [i for i in range(len(measured.labels)) if any(row[i] for row in measured.confusion)]
    occurring = [i for i, row in enumerate(measured.confusion) if any(row)]
    columns = sorted({*said, *occurring})
    return table(
        ("true \\ said", *(measured.labels[i] for i in columns)),
        (
            (f"**{measured.labels[i]}**", *(str(measured.confusion[i][j]) for j in columns))
            for i in occurring
        ),
    )


def named(lines: Mapping[str, AttributionLine]) -> str:
    """Who gets a name at the thresholds of the bundle."""
    return table(
        ("line", "who", "windows", "named a technology", "named a generator"),
        (
            (line, row.who, str(row.windows), percent(row.technology), percent(row.generator))
            for line, part in lines.items()
            for row in part.named
        ),
    )


def behind(rows: Sequence[BehindRow]) -> str:
    """Labels as `analyze --json` gives them."""
    return table(
        (
            "line",
            "head",
            "of",
            "labelled",
            "accuracy of those",
            "balanced accuracy of those",
            "balanced accuracy, no label as error",
            "human speech labelled",
        ),
        (
            (
                row.line,
                row.head,
                f"{row.count} {row.what}",
                percent(row.labelled),
                percent(row.accuracy),
                ranged(row.balanced_accuracy),
                percent(row.balanced_accuracy_rejections_as_errors),
                percent(row.human_labelled),
            )
            for row in rows
        ),
    )


def attribution_conditions(rows: Sequence[AttributionCondition]) -> str:
    """Coders, or packet loss."""
    cells: Sequence[Callable[[HeadMeasured], str]] = (
        lambda part: ranged(part.balanced_accuracy),
        lambda part: percent(part.labelled),
        lambda part: percent(part.balanced_accuracy_rejections_as_errors),
    )
    return table(
        (
            "line",
            "coverage",
            "technology: balanced accuracy",
            "labelled at the threshold",
            "balanced accuracy, rejections as errors",
        ),
        (
            (
                row.line,
                percent(row.coverage),
                *(NONE if row.measured is None else cell(row.measured) for cell in cells),
            )
            for row in rows
        ),
    )
