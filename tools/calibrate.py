"""Calibrate a bundle in place: ``python -m tools.calibrate models/cnn_lstm/bundle --data D``.

On the calibration split, which trained and chose nothing, in every precision that the bundle has,
for each channel class that the daemon hears: directly, through a telephone line, and through codecs
of a few kbit/s. What is not calibrated, the daemon rejects as ``uncalibrated``.

Detection: likelihood ratios (logistic regression with equal priors), the random effect per leg,
distance from the training data, false alarms of the default rule on human legs. Attribution: what
confidence means, and what is unlike every listed generator.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streamguard.errors import BundleError
from streamguard.inference.bundle import find_bundle, load_bundle
from tools.bundle_writer import read_document, update_document
from tools.calibration import attribution, detection
from tools.calibration.attribution import Promise
from tools.command import run
from tools.data import (
    DEFAULT_SPLIT,
    AudioCache,
    Clip,
    chosen_corpus,
    corpus_options,
    speech_of,
)
from tools.scoring import AttributionScorer, DaemonScorer
from tools.train import DEFAULT_CACHE


def calibrate(
    folder: Path,
    clips: Sequence[Clip],
    cache: AudioCache,
    promise: Promise,
    precision: str | None = None,
) -> dict[str, Any]:
    """What changes in ``bundle.yaml``: ``calibration`` and ``thresholds``, of all precisions.

    With ``precision``, of that one alone: what the others have stays, and so do the thresholds.
    Raises BundleError where no channel class at all can be calibrated.
    """
    manifest = load_bundle(folder).manifest
    bodies = [graph for graph in manifest.graphs.values() if graph.unit != "head"]
    calibration: dict[str, Any] = {}
    thresholds: dict[str, float] = {}
    for one in sorted({graph.precision for graph in bodies} if precision is None else {precision}):
        target = f"cpu-{one}"
        if manifest.task == "detection":
            channels, found = _detection(folder, target, clips, cache)
        else:
            channels, found = _attribution(folder, target, clips, cache, promise)
        calibration[one] = channels
        for name, value in found.items():
            thresholds[name] = min(value, thresholds.get(name, value))
    if not any(calibration.values()):
        reason = "too few clips were heard in each channel class to calibrate any"
        raise BundleError(str(folder), reason)
    if precision is not None:
        document = read_document(folder)
        return {
            "calibration": document["calibration"] | calibration,
            "thresholds": document["thresholds"],
        }
    return {"calibration": calibration, "thresholds": thresholds}


def _detection(
    folder: Path, target: str, clips: Sequence[Clip], cache: AudioCache
) -> tuple[dict[str, Any], dict[str, float]]:
    scorer = DaemonScorer(folder, target, raw=True)
    scores = detection.listen(scorer, clips, cache)
    scorer.close()
    try:
        return detection.calibrate_detector(scores)
    except ValueError as err:
        raise BundleError(str(folder), str(err)) from err


def _attribution(
    folder: Path, target: str, clips: Sequence[Clip], cache: AudioCache, promise: Promise
) -> tuple[dict[str, Any], dict[str, float]]:
    scorer = AttributionScorer(folder, target)
    labels = scorer.bundle.manifest.labels
    said = attribution.listen(scorer, clips, cache)
    scorer.close()
    generators = [(label.technology, label.name) for label in labels.generator]
    channels, thresholds, kept = attribution.calibrate_attribution(
        said, labels.technology, generators, promise
    )
    for name, how in kept.items():
        print(f"{target} {name}: says {how.said} of {how.of} windows, {how.right:.1%} right "
              f"by lines of other sources, lowered by {how.lowered:.2f}")  # fmt: skip
    return channels, thresholds


def _print(changes: Mapping[str, Any]) -> None:
    for precision, channels in changes["calibration"].items():
        for channel, values in channels.items():
            print(f"{precision} {channel}: exposure {values['exposure']}")
            for part in ("llr", "leg", "false_alarms"):
                if values.get(part) is not None:
                    print(f"    {part}: {values[part]}")
    print(f"thresholds: {changes['thresholds']}")


def main(argv: Sequence[str] | None = None) -> int:
    """Calibrate a bundle in place."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tools.calibrate")
    parser.add_argument("bundle", help="folder, or the name of a packaged bundle")
    corpus_options(parser)
    parser.add_argument("--split", type=Path, default=DEFAULT_SPLIT)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="decoded audio")
    parser.add_argument(
        "--technology-promise", type=float, default=Promise().technology,
        help="share of the technologies said that are right, at least (attribution)",
    )  # fmt: skip
    parser.add_argument(
        "--generator-promise", type=float, default=Promise().generator,
        help="the same for generators, with as many windows of unlisted ones as of listed ones",
    )  # fmt: skip
    options = parser.parse_args(argv)
    corpus = chosen_corpus(options)
    cache = AudioCache.open(corpus.root, options.cache, corpus.clips)
    chosen = speech_of(corpus, "calibration", options.split)
    folder = find_bundle(options.bundle)
    promise = Promise(options.technology_promise, options.generator_promise)
    changes = calibrate(folder, chosen, cache, promise)
    update_document(folder, changes)
    _print(changes)
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
