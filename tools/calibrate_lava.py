"""Calibrate and measure trained LAVA heads: thresholds, conformal tables, metrics, the card.

    python -m tools.calibrate_lava --data DIR --run runs/lava
    python -m tools.export lava --run runs/lava

Thresholds and tables come from the calibration sources; the numbers of the card from the validation
sources, which nothing was trained on or chosen by. Writes ``fragment.yaml`` and ``CARD.md``.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.lava.network import graphs
from streamguard.errors import StreamguardError
from streamguard.verdict.scores import Channel
from tools.bundle_writer import dump_yaml, export_graph, sha256_of
from tools.data import (
    AudioCache,
    DataError,
    data_folder,
    read_manifest,
    read_split,
)
from tools.lava_card import card_text
from tools.lava_data import Crops, Labels
from tools.lava_scores import (
    Graphs,
    Judged,
    Scored,
    accepted,
    balanced_accuracy,
    confidence_threshold,
    conformal_table,
    exposure,
    join,
    judge_generator,
    judge_technology,
    p_values,
    score,
)
from tools.train_lava import load_lava, split_file
from tools.training import load_checkpoint

CHANNELS = (Channel.WIDE, Channel.NARROW)
TRAIN_STRIDE = 6
"""Every sixth training clip tells whether the heads have fitted what they were shown."""
LICENCE = (
    "Apache-2.0 for the network and its weights; trained on research speech of mixed and often "
    "unstated licences, none of which is redistributed"
)


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """All that the fragment and the card say."""

    labels: Labels
    calibration: Mapping[str, Any]
    """Per channel class, as in ``bundle.yaml``."""
    thresholds: Mapping[str, float]
    metrics: Mapping[str, float]
    technology: Mapping[Channel, Judged]
    """Validation sources."""
    generator: Mapping[Channel, Judged]
    reconstruction: tuple[float, float]
    """Smooth L1 of the autoencoder on held-back clips, and of saying silence."""
    train_sources: Sequence[str]
    validation_sources: Sequence[str]
    calibration_sources: Sequence[str]


def calibrate(
    recipe: Mapping[str, Any], scored: Mapping[Channel, Scored], labels: Labels
) -> tuple[dict[str, Any], dict[str, float]]:
    """``(calibration per channel, thresholds)`` from calibration sources."""
    rule = recipe["calibration"]
    technology = {channel: judge_technology(part, labels) for channel, part in scored.items()}
    generator = {channel: judge_generator(part, labels) for channel, part in scored.items()}
    channels = {
        str(channel): {
            "llr": None,
            "leg": None,
            "conformal": {
                "technology": conformal_table(technology[channel].strangeness, rule["table_size"]),
                "generator": conformal_table(generator[channel].strangeness, rule["table_size"]),
            },
            "exposure": exposure(part.clips),
        }
        for channel, part in scored.items()
    }
    thresholds = {
        head: confidence_threshold(
            join(list(judged.values())), rule["accepted_accuracy"], rule["min_accepted"]
        )
        for head, judged in (("technology", technology), ("generator", generator))
    }
    return channels, thresholds


def measure(
    channel: Channel,
    technology: Judged,
    generator: Judged,
    thresholds: Mapping[str, float],
    tables: Mapping[str, Sequence[float]],
) -> dict[str, float]:
    """Metrics of both heads on one channel class, named as in the bundle."""
    found: dict[str, float] = {}
    for head, judged in (("technology", technology), ("generator", generator)):
        take = accepted(judged.confidence, thresholds[head])
        values = {
            "windows": float(len(judged.truth)),
            "accuracy": float(judged.correct.mean()),
            "balanced_accuracy": balanced_accuracy(judged),
            "coverage": float(take.mean()),
            "conformal_cover_90": float((p_values(tables[head], judged.strangeness) > 0.1).mean()),
        }
        if take.any():
            values["accepted_accuracy"] = float(judged.correct[take].mean())
        found |= {f"{head}_{name}_{channel}": round(value, 4) for name, value in values.items()}
    return found


def _findings(run: Path, data: Path, cache_folder: Path) -> Findings:
    checkpoint = run / "heads.pt"
    model, labels, recipe = load_lava(checkpoint)
    file = split_file(recipe)
    if load_checkpoint(checkpoint)["split_sha256"] != sha256_of(file):
        raise DataError(file, 0, "sha256", "changed", "the split that the training used")
    for spec in graphs(model):
        export_graph(spec, run / f"{spec.name}.onnx")
    runner = Graphs(run / "hop_fp32.onnx", run / "head_fp32.onnx")
    clips = read_manifest(data / "manifest.csv")
    split = read_split(file)
    crops = Crops(AudioCache.open(data, cache_folder, clips), recipe["front_end"])
    spoofs = {
        role: [clip for clip in split.select(clips, role) if clip.spoof]
        for role in ("train", "validation", "calibration")
    }
    humans = [clip for clip in split.select(clips, "validation") if clip.label == "bonafide"]
    held = {c: score(runner, crops, spoofs["calibration"], c) for c in CHANNELS}
    calibration, thresholds = calibrate(recipe, held, labels)
    seen = score(runner, crops, spoofs["train"][::TRAIN_STRIDE], Channel.WIDE)
    metrics = {
        "technology_balanced_accuracy_train": balanced_accuracy(judge_technology(seen, labels)),
        "generator_balanced_accuracy_train": balanced_accuracy(judge_generator(seen, labels)),
    }
    metrics = {name: round(value, 4) for name, value in metrics.items()}
    technology: dict[Channel, Judged] = {}
    generator: dict[Channel, Judged] = {}
    for channel in CHANNELS:
        scored = score(runner, crops, spoofs["validation"], channel)
        technology[channel] = judge_technology(scored, labels)
        generator[channel] = judge_generator(scored, labels)
        tables = calibration[str(channel)]["conformal"]
        metrics |= measure(channel, technology[channel], generator[channel], thresholds, tables)
        genuine = score(runner, crops, humans, channel)
        unlisted = scored.generator[
            [(c.technology, c.generator) not in labels.generator for c in scored.clips]
        ]
        for name, probability, head in (
            ("human_named_technology", genuine.technology, "technology"),
            ("human_named_generator", genuine.generator, "generator"),
            ("unlisted_named_generator", unlisted, "generator"),
        ):
            named = accepted(probability.max(axis=1), thresholds[head]).mean()
            metrics[f"{name}_{channel}"] = round(float(named), 4)
    return Findings(
        labels=labels,
        calibration=calibration,
        thresholds=thresholds,
        metrics=metrics,
        technology=technology,
        generator=generator,
        reconstruction=reconstruction(run / "autoencoder.csv"),
        train_sources=sorted({clip.source_repo for clip in spoofs["train"]}),
        validation_sources=sorted({clip.source_repo for clip in spoofs["validation"]}),
        calibration_sources=sorted({clip.source_repo for clip in spoofs["calibration"]}),
    )


def reconstruction(history: Path) -> tuple[float, float]:
    """Validation loss of the best epoch of the autoencoder, and the loss of silence beside it."""
    with history.open(newline="", encoding="utf-8") as stream:
        rows = [
            (float(row["validation_loss"]), float(row["loss_of_silence"]))
            for row in csv.DictReader(stream)
        ]
    return min(rows)


def fragment(findings: Findings, recipe: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """What ``tools.export`` adds to the graphs; the hashes say which graphs were calibrated."""
    return {
        "name": "lava",
        "version": recipe["version"],
        "task": "attribution",
        "licence": LICENCE,
        "trained_on": (
            f"Spoofed speech of {len(findings.train_sources)} public sources (listed in CARD.md), "
            "16 kHz, half of it through G.711; research data, not redistributed"
        ),
        "calibration": {"fp32": findings.calibration},
        "thresholds": findings.thresholds,
        "metrics": findings.metrics,
        "graphs": {path.stem: sha256_of(path) for path in sorted(run.glob("*_fp32.onnx"))},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Calibrate LAVA.", prog="python -m tools.calibrate_lava"
    )
    parser.add_argument("--data", type=Path, help="folder with manifest.csv ($STREAMGUARD_DATA)")
    parser.add_argument("--run", type=Path, default=Path("runs/lava"), help="run folder")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="decoded audio")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        findings = _findings(options.run, data_folder(options.data), options.cache)
        recipe = load_checkpoint(options.run / "heads.pt")["recipe"]
    except StreamguardError as err:
        print(err, file=sys.stderr)
        return 1
    whole = fragment(findings, recipe, options.run)
    (options.run / "fragment.yaml").write_text(dump_yaml(whole), encoding="utf-8")
    (options.run / "CARD.md").write_text(card_text(findings, recipe), encoding="utf-8")
    for name, value in findings.metrics.items():
        print(f"{name:44} {value:.4g}")
    print("thresholds", {name: round(value, 4) for name, value in findings.thresholds.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
