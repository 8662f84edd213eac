"""What a source-tracing run knows of what it does not know: ``python -m tools.open_set RUN``.

The report of Khan, Uddin and Malik ("Dual-Branch Gated Fusion for Open-Set Audio Deepfake Source
Tracing") for a run whose recipe has ``train.scorers``: each scorer with its own checkpoint and a
threshold from the development clips (where 95 % of the known ones pass), measured on the clips of
another role whose unknown generators neither training nor development has heard. For a system with
a gate, how it weighs its branches for known and for unknown generators.

One window per clip, as the trainer's validation has it; ``tools.evaluate`` measures the bundle
behind the daemon's front end.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tools.auxiliary import unknown, with_auxiliary
from tools.bank import featured
from tools.command import run
from tools.confidence import SCORERS
from tools.crops import Crops
from tools.data import (
    DEFAULT_SPLIT,
    ROLES,
    AudioCache,
    Corpus,
    DataError,
    Split,
    chosen_corpus,
    corpus_options,
    read_split,
)
from tools.evaluation.tables import number, percent, table
from tools.export import trained_model
from tools.labels import NO_LABEL, Labels
from tools.metrics import OpenSet, classify, fpr_at, open_set, rates
from tools.train import DEFAULT_CACHE
from tools.training import CheckpointError, load_checkpoint
from tools.validation import Evaluation, window_scores

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

ACCEPTED = 0.95
"""Share of the known development windows above the threshold."""
PICTURE = "gate.png"
COLOURS = {"known": "#1565c0", "unknown": "#ef6c00"}


@dataclass(frozen=True, slots=True)
class ScorerRow:
    """One scorer over one line, with the checkpoint that it chose."""

    scorer: str
    line: str
    epoch: int
    development_fpr95: float
    threshold: float
    """Of the development windows; a window below it is of no known generator."""
    accuracy: float
    """Of the known windows, nothing rejected."""
    macro_f1: float
    open_set: OpenSet
    known_accepted: float
    """At the threshold."""
    unknown_accepted: float


@dataclass(frozen=True, slots=True, eq=False)
class GateRow:
    """The weight of the first (deep) branch for one kind of windows, by a scorer's checkpoint.

    Each scorer has its own: the best one of a scorer may be of an epoch when the gate was frozen.
    """

    line: str
    scorer: str
    who: str
    weights: Floats
    """``[windows]``."""


@dataclass(frozen=True, slots=True)
class Tracing:
    """What was measured of a run."""

    role: str
    unknown_generators: tuple[str, ...]
    rows: tuple[ScorerRow, ...]
    gates: tuple[GateRow, ...]


@dataclass(frozen=True, slots=True)
class Material:
    """Development and evaluation windows; no unknown generator is in both, or was trained on."""

    development: Evaluation
    evaluation: Evaluation
    unknown_generators: tuple[str, ...]
    """Of the evaluation."""


def gather(
    corpus: Corpus, split: Split, role: str, state: Mapping[str, Any], cache: Path
) -> Material:
    """The windows of a run's recipe. Raises DataError where known or unknown ones are missing."""
    recipe, labels = state["recipe"], Labels.from_plain(state["labels"])
    train, held = corpus.select("train", split), corpus.select("validation", split)
    if recipe.get("auxiliary_ood"):
        train, held = with_auxiliary(recipe["auxiliary_ood"], corpus, split, labels)
    held = tuple(clip for clip in held if clip.spoof)
    heard = unknown(train, labels) | unknown(held, labels)
    measured = tuple(
        clip
        for clip in corpus.select(role, split)
        if clip.spoof and (labels.generator_of(clip) != NO_LABEL or clip.generator not in heard)
    )
    audio = AudioCache.open(corpus.root, cache, corpus.clips)
    context: int = importlib.import_module(f"models.{recipe['system']}.network").LEFT_CONTEXT
    windows = []
    for name, clips in (("validation", held), (role, measured)):
        made = Evaluation.of(Crops(clips, audio, context), labels, recipe["seed"])
        known = made.generator != NO_LABEL
        if known.all() or not known.any():
            allowed = "clips of listed generators and of others"
            raise DataError(corpus.root, 0, "role", name, allowed)
        windows.append(made)
    return Material(windows[0], windows[1], tuple(sorted(unknown(measured, labels))))


def trace(folder: Path, material: Material, role: str, device: torch.device) -> Tracing:
    """Measure every scorer's checkpoint of a run folder. Raises CheckpointError."""
    scorers = _scorers(folder)
    rows, gates = [], []
    windows: list[Evaluation] = []
    for scorer in scorers:
        state = load_checkpoint(folder / f"best_{scorer}.pt")
        model: Any = trained_model(state).to(device)
        # Features do not learn, so those of one checkpoint are those of all.
        windows = windows or [
            featured(model, part, device) for part in (material.development, material.evaluation)
        ]
        for line in material.evaluation.channels:
            said = [window_scores(model, part, line, device) for part in windows]
            rows.append(_row(scorer, line, state["epoch"], windows, said))
            if "gate" in said[1]:
                known = windows[1].generator != NO_LABEL
                for who, kind in (("known", known), ("unknown", ~known)):
                    gates.append(GateRow(line, scorer, who, said[1]["gate"][kind, 0]))
    return Tracing(role, material.unknown_generators, tuple(rows), tuple(gates))


def _scorers(folder: Path) -> list[str]:
    """Those of the run's recipe."""
    found = load_checkpoint(folder / "best.pt")["recipe"]["train"].get("scorers", [])
    if not found:
        raise CheckpointError(folder, "its recipe has no train.scorers")
    return list(found)


def _row(
    scorer: str,
    line: str,
    epoch: int,
    windows: Sequence[Evaluation],
    said: Sequence[Mapping[str, Floats]],
) -> ScorerRow:
    confidences = [SCORERS[scorer](part["generator"]) for part in said]
    known = [part.generator != NO_LABEL for part in windows]
    threshold = threshold_at(confidences[0], known[0])
    truth, logits = windows[1].generator, said[1]["generator"]
    best = np.asarray(logits.argmax(axis=1), np.int64)
    found = classify(truth[known[1]], best[known[1]], logits.shape[1])
    accepted = confidences[1] >= threshold
    return ScorerRow(
        scorer=scorer,
        line=line,
        epoch=epoch,
        development_fpr95=fpr_at(confidences[0], known[0]),
        threshold=threshold,
        accuracy=found.accuracy,
        macro_f1=found.macro_f1,
        open_set=open_set(confidences[1], known[1], best == truth),
        known_accepted=float(accepted[known[1]].mean()),
        unknown_accepted=float(accepted[~known[1]].mean()),
    )


def threshold_at(confidence: Floats, known: Bools, accepted: float = ACCEPTED) -> float:
    """The highest at which at least this share of the known is accepted."""
    points = rates(confidence, known)
    return float(points.thresholds[1.0 - points.miss >= accepted].max())


def markdown(tracing: Tracing) -> str:
    """Both tables."""
    text = [
        f"Unknown generators of the role {tracing.role}, heard neither in training nor in "
        f"development: {', '.join(tracing.unknown_generators)}.\n",
        table(
            (
                "line", "scorer", "epoch", "development FPR95", "known + unknown", "ID accuracy",
                "macro F1", "FPR95", "AUROC", "OOD-EER", "EERc", "known accepted",
                "unknown accepted",
            ),
            [_cells(row) for row in tracing.rows],
        ),
    ]  # fmt: skip
    if tracing.gates:
        text.append(
            table(
                (
                    "line",
                    "checkpoint",
                    "generators",
                    "windows",
                    "weight of the deep branch",
                    "deviation",
                ),
                [
                    (
                        gate.line,
                        gate.scorer,
                        gate.who,
                        str(len(gate.weights)),
                        number(float(gate.weights.mean()), 3),
                        number(float(gate.weights.std()), 3),
                    )
                    for gate in tracing.gates
                ],
            )
        )
    return "\n".join(text)


def _cells(row: ScorerRow) -> tuple[str, ...]:
    measured = row.open_set
    return (
        row.line,
        row.scorer,
        str(row.epoch),
        percent(row.development_fpr95),
        f"{measured.known} + {measured.unknown}",
        percent(row.accuracy),
        percent(row.macro_f1),
        percent(measured.fpr95),
        number(measured.auroc, 3),
        percent(measured.ood_eer),
        percent(measured.eerc),
        percent(row.known_accepted),
        percent(row.unknown_accepted),
    )


def plain(tracing: Tracing) -> dict[str, Any]:
    """Every number, for JSON."""
    return {
        "role": tracing.role,
        "unknown_generators": list(tracing.unknown_generators),
        "scorers": [asdict(row) for row in tracing.rows],
        "gates": [
            {
                "line": gate.line,
                "scorer": gate.scorer,
                "generators": gate.who,
                "windows": len(gate.weights),
                "deep_mean": float(gate.weights.mean()),
                "deep_deviation": float(gate.weights.std()),
            }
            for gate in tracing.gates
        ],
    }


def draw_gates(gates: Sequence[GateRow]) -> Figure:
    """How often each weight is given, known against unknown: lines across, checkpoints down."""
    from matplotlib.figure import Figure  # here: it is slow to import

    lines = list(dict.fromkeys(gate.line for gate in gates))
    scorers = list(dict.fromkeys(gate.scorer for gate in gates))
    figure = Figure(figsize=(4.6 * len(lines), 2.8 * len(scorers)), layout="constrained")
    panels = figure.subplots(len(scorers), len(lines), sharey=True, squeeze=False)
    bins = np.linspace(0.0, 1.0, 41)
    for axes, (scorer, line) in zip(panels.flat, itertools.product(scorers, lines), strict=True):
        for gate in gates:
            if (gate.scorer, gate.line) == (scorer, line):
                share = np.full(len(gate.weights), 1.0 / len(gate.weights))
                axes.hist(
                    gate.weights, bins, weights=share, alpha=0.55,
                    color=COLOURS[gate.who], label=f"{gate.who} generators",
                )  # fmt: skip
                axes.axvline(float(gate.weights.mean()), color=COLOURS[gate.who], linewidth=1.2)
        axes.set_title(f"{line}, {scorer}", loc="left", fontsize=11, fontweight="bold")
        axes.legend(frameon=False, fontsize=9)
    for axes in panels[-1]:
        axes.set_xlabel("weight of the deep branch (the rest is that of CORES)")
    for axes in panels[:, 0]:
        axes.set_ylabel("share of the windows")
    return figure


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a run."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tools.open_set")
    parser.add_argument("run", type=Path, help="folder of checkpoints")
    corpus_options(parser)
    parser.add_argument("--split", type=Path, default=DEFAULT_SPLIT)
    parser.add_argument(
        "--role", choices=ROLES, help="measured clips (test; calibration, if there are none)"
    )
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="decoded audio")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--json", type=Path, help="write every number here")
    parser.add_argument("--report", type=Path, help="write report.md with a picture to this folder")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    corpus, split = chosen_corpus(options), read_split(options.split)
    role = options.role or ("test" if corpus.select("test", split) else "calibration")
    state = load_checkpoint(options.run / "best.pt")
    material = gather(corpus, split, role, state, options.cache)
    tracing = trace(options.run, material, role, torch.device("cpu"))
    print(markdown(tracing))
    if options.json:
        options.json.write_text(json.dumps(plain(tracing), indent=1) + "\n", encoding="utf-8")
    if options.report:
        options.report.mkdir(parents=True, exist_ok=True)
        text = markdown(tracing)
        if tracing.gates:
            draw_gates(tracing.gates).savefig(options.report / PICTURE, dpi=130)
            text += f"\n![weights of the gate]({PICTURE})\n"
        (options.report / "report.md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
