"""The model card of LAVA: classes, numbers on sources never seen, limits, sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from streamguard.verdict.scores import Channel
from tools.lava_scores import NEVER

if TYPE_CHECKING:
    from tools.calibrate_lava import Findings
    from tools.lava_scores import Judged


def card_text(findings: Findings, recipe: Mapping[str, Any]) -> str:
    """``CARD.md``."""
    labels = findings.labels
    listed = ", ".join(f"{name} ({kind})" for kind, name in labels.generator)
    sections = [
        f"# LAVA {recipe['version']}: which technology, which generator",
        "Layered attribution of speech that is already suspected to be synthetic, after Di Pierno, "
        "Guarnera, Allegra and Battiato (DFF '25). It has no bona fide class and must not be read "
        "as a detector. Trained by `tools.train_lava`, calibrated by `tools.calibrate_lava`.",
        "**A first honest pair of heads, trained within minutes on two cores: do not tune here.** "
        "The last epoch is taken. How long to train was settled after a shorter run's figures on "
        "these validation sources had been seen; nothing else was chosen by them.",
        "## Classes",
        f"Technology: {', '.join(labels.technology)}. Generator: {listed}. A generator is listed "
        f"if at least {recipe['labels']['generator_min_sources']} training sources hold at least "
        f"{recipe['labels']['generator_min_clips']} clips of it; any other generator has no right "
        "answer here and should be rejected.",
        "## What it does on sources it never saw",
        "One window of at most 3 s per clip, hop by hop, with the ONNX graphs of this folder. "
        "*wide* is the recording as it is, *narrow* the same through 8 kHz G.711. Chance is "
        f"{1 / len(labels.technology):.0%} for technology and {1 / len(labels.generator):.0%} for "
        "the generator. Coverage is the share whose confidence reaches the threshold.",
        _numbers(findings),
        _thresholds(findings),
        "On clips that it was trained on (one in six, wide, not augmented) the balanced accuracy "
        f"is {findings.metrics['technology_balanced_accuracy_train']:.1%} for technology and "
        f"{findings.metrics['generator_balanced_accuracy_train']:.1%} for the generator. Where "
        "that is hardly more than on sources never seen, the heads are undertrained: the budget "
        "of the recipe ends long before they fit what they are shown.",
        "Conformal tables hold at most "
        f"{recipe['calibration']['table_size']} nonconformity scores per channel class; *conformal "
        "cover* above is the share of true labels kept at a significance of 10 % (90 % if "
        "validation sources were exchangeable with calibration sources, which sources never are).",
        *(
            _confusion(f"{head}, {channel}", judged, names)
            for head, parts, names in (
                ("Technology", findings.technology, labels.technology),
                ("Generator", findings.generator, [name for _, name in labels.generator]),
            )
            for channel, judged in parts.items()
        ),
        "The autoencoder, on training clips held back from it: Smooth L1 "
        f"{findings.reconstruction[0]:.4f}; an output of zeros would cost "
        f"{findings.reconstruction[1]:.4f}.",
        "## Where it differs from the text",
        _differences(recipe),
        "## Limits",
        "Demonstration pages of research systems, mostly read English, clips of at most 5 s; most "
        "generators occur in one source only, so that a source and its generator are one thing to "
        "a network; generators newer than the collection are unknown to it. Not measured: "
        "channels other than wide band and G.711, languages one by one, adversaries.",
        "## Sources",
        _sources("Trained on", findings.train_sources),
        _sources("Calibrated on", findings.calibration_sources),
        _sources("Measured on", findings.validation_sources),
        "Noises and impulse responses of the training sources augment; nothing of the speech is "
        "redistributed with the weights.",
    ]
    return "\n\n".join(sections) + "\n"


def _numbers(findings: Findings) -> str:
    metrics = findings.metrics
    rows = (
        ("technology: windows", "technology_windows", "{:.0f}"),
        ("technology: balanced accuracy", "technology_balanced_accuracy", "{:.1%}"),
        ("technology: accuracy", "technology_accuracy", "{:.1%}"),
        ("technology: coverage", "technology_coverage", "{:.1%}"),
        ("technology: accuracy of the accepted", "technology_accepted_accuracy", "{:.1%}"),
        ("technology: conformal cover", "technology_conformal_cover_90", "{:.1%}"),
        ("generator: windows of listed generators", "generator_windows", "{:.0f}"),
        ("generator: balanced accuracy", "generator_balanced_accuracy", "{:.1%}"),
        ("generator: accuracy", "generator_accuracy", "{:.1%}"),
        ("generator: coverage", "generator_coverage", "{:.1%}"),
        ("generator: accuracy of the accepted", "generator_accepted_accuracy", "{:.1%}"),
        ("generator: conformal cover", "generator_conformal_cover_90", "{:.1%}"),
    )
    # What is never said of anybody is no merit: only a head that speaks gets these rows.
    named = (
        ("unlisted generators given a name", "unlisted_named_generator", "generator"),
        ("genuine human speech given a technology", "human_named_technology", "technology"),
        ("genuine human speech given a generator", "human_named_generator", "generator"),
    )
    spoken = [
        (label, key, "{:.1%}") for label, key, head in named if findings.thresholds[head] < NEVER
    ]
    body = [
        [label] + [_shown(metrics, f"{key}_{channel}", form) for channel in _CHANNELS]
        for label, key, form in (*rows, *spoken)
    ]
    return _table(["", *_CHANNELS], body)


_CHANNELS = (str(Channel.WIDE), str(Channel.NARROW))


def _shown(metrics: Mapping[str, float], key: str, form: str) -> str:
    return form.format(metrics[key]) if key in metrics else "none accepted"


def _thresholds(findings: Findings) -> str:
    said = "; ".join(
        f"{head} {'none is reliable: this head abstains' if value >= NEVER else f'{value:.3f}'}"
        for head, value in findings.thresholds.items()
    )
    return (
        f"Confidence thresholds: {said}. They are the text's rule (confidences sorted, cut where "
        "the accuracy of the accepted is at least 85 %), but on *calibration* sources, wide and "
        "narrow together: the daemon hears sources that were in no training set, and what a head "
        "is sure of on its own training clips says nothing of those."
    )


def _confusion(title: str, judged: Judged, names: Sequence[str]) -> str:
    """Rows are true classes that occur, columns every class that occurs or was said."""
    kinds = sorted({*judged.truth.tolist(), *judged.predicted.tolist()})
    rows = [
        [f"**{names[true]}**"]
        + [str(int(np.sum((judged.truth == true) & (judged.predicted == said)))) for said in kinds]
        for true in sorted(set(judged.truth.tolist()))
    ]
    header = ["true \\ said", *(names[kind] for kind in kinds)]
    return f"### {title}: confusion, windows, without threshold\n\n" + _table(header, rows)


def _differences(recipe: Mapping[str, Any]) -> str:
    heads, stage_one = recipe["heads"], recipe["autoencoder"]
    return "\n".join(
        f"- {item}"
        for item in (
            "Technologies instead of corpora as classes of the first head; listed generators of "
            "all technologies instead of six codecs of one corpus.",
            "One trunk for both heads: its last convolution is trained for both at once, so that a "
            "hop costs one pass. The text trains it per task.",
            "Level by the causal running peak instead of the peak of the window.",
            "No padding: every frame sees true audio (zeros before the start of a segment).",
            f"Crops of {stage_one['crop_seconds']} s and {heads['crop_seconds']} s, "
            f"{stage_one['epochs'] * stage_one['steps_per_epoch']} and "
            f"{heads['epochs'] * heads['steps_per_epoch']} steps at most; one-cycle learning rate, "
            f"at most {stage_one['learning_rate']:g} and {heads['learning_rate']:g}.",
            "Equalisation, rooms, noise, band limits and G.711 on all classes alike.",
            "Thresholds from calibration sources; conformal tables beside them.",
        )
    )


def _sources(title: str, sources: Iterable[str]) -> str:
    return f"{title}: " + ", ".join(sources) + "."


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
