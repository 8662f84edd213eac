"""What recording conditions alone give away: ``python -m tools.check_leak RECIPE --data D``.

Two probes that cannot know synthesis guess the class of clips from sources they have not seen: one
gets the pauses only, the other the long-term spectrum only (mean and deviation of each log-mel
band). Both are logistic regressions on training sources, scored on validation sources. What they
find is what a detector could learn instead of artefacts; chance is an AUC of 0.5.

Each is asked four times: about clips as they are published; behind trimming and level
normalisation; behind the recipe's augmentation, too; and, trained on augmented clips, about clips
as a daemon hears them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tools.augment import Augmenter, AugmentSettings
from tools.augment.line import from_int16
from tools.command import run
from tools.crops import normalised
from tools.data import (
    DEFAULT_SPLIT,
    SAMPLE_RATE_HZ,
    AudioCache,
    Clip,
    active_span,
    data_folder,
    paired_sources,
    read_manifest,
    read_split,
)
from tools.draws import Balance, draw_weights
from tools.metrics import Interval, auc, bootstrap_by_source
from tools.progress import track
from tools.section import section
from tools.train import DEFAULT_CACHE
from tools.training import load_recipe

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]
    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]
    IntArray = npt.NDArray[np.int16]

_FRAME, _STEP, _FFT = 400, 160, 512
_BANDS = 40
_FLOOR = 1e-9
_PAUSE_DB = 30.0
"""A frame this far below the loudest one is no speech."""
_MIN_PAUSE_FRAMES = 10
_CROP_SAMPLES = 3 * SAMPLE_RATE_HZ
_BATCH = 32
_STRENGTH = 0.01
"""Of the regression, small: 80 features, a few dozen sources."""
PROBES = ("pauses", "spectrum", "spectrum, mean removed")


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What one probe may see of clips; a row of NaN where there is nothing to see."""

    features: Floats
    spoof: Bools
    sources: tuple[str, ...]
    weights: Floats

    @property
    def seen(self) -> Bools:
        return np.asarray(np.isfinite(self.features).all(axis=1))


@dataclass(frozen=True, slots=True)
class Finding:
    """How well one probe guesses under one condition."""

    probe: str
    condition: str
    pooled: Interval
    paired: Interval | None
    clips: int
    coverage: float
    """Share of the validation clips that have what the probe looks at."""


def mel_weights() -> FloatArray:
    """``[bins, bands]``: triangles, evenly spaced on the mel scale from 0 to 8 kHz."""
    mel = np.linspace(0.0, 2595.0 * np.log10(1.0 + 8000.0 / 700.0), _BANDS + 2)
    edges = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    hz = fft.rfftfreq(_FFT, 1 / SAMPLE_RATE_HZ)[:, None]
    rising = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)), np.float32)


_MEL = mel_weights()


def log_mel(clip: FloatArray) -> FloatArray:
    """``[frames, bands]``, natural logarithm of the power; at least one frame."""
    padded = np.pad(clip, (0, max(0, _FRAME - len(clip))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_STEP]
    spectrum = fft.rfft(frames * np.hanning(_FRAME).astype(np.float32), _FFT, axis=1)
    return np.asarray(np.log(np.square(np.abs(spectrum)) @ _MEL + _FLOOR), np.float32)


def pauses(clip: FloatArray) -> Bools:
    """``[frames]`` of ``log_mel``: which hold no speech."""
    padded = np.pad(clip, (0, max(0, _FRAME - len(clip))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_STEP]
    power = np.square(frames).mean(axis=1)
    return np.asarray(power <= power.max() * 10 ** (-_PAUSE_DB / 10), np.bool_)


def look(probe: str, bands: FloatArray, silent: Bools) -> Floats:
    """The features of a probe; NaN where a clip has no pauses for it."""
    if probe == "spectrum":
        return np.concatenate((bands.mean(axis=0), bands.std(axis=0)), dtype=np.float64)
    if probe == "spectrum, mean removed":
        return np.asarray(bands.std(axis=0), np.float64)
    # How much silence there is, and where: before, after, in all.
    loud = np.flatnonzero(~silent)
    shape = (silent.mean(), loud[0] / 100.0, (len(silent) - 1 - loud[-1]) / 100.0)
    if silent.sum() < _MIN_PAUSE_FRAMES:
        return np.full(2 * _BANDS + len(shape), np.nan)
    quiet = bands[silent]
    return np.concatenate((quiet.mean(axis=0), quiet.std(axis=0), shape), dtype=np.float64)


def published(clips: Sequence[IntArray]) -> list[dict[str, Floats]]:
    """The features of every probe, of clips as they are."""
    return [_looks(clip, pauses(clip)) for clip in map(from_int16, clips)]


def behind_front_end(
    clips: Sequence[IntArray], augmenter: Augmenter | None, rng: np.random.Generator
) -> list[dict[str, Floats]]:
    """The same behind trimming, a crop of 3 s, augmentation if any, and level normalisation.

    Where the pauses are is known from before the augmentation: noise must not hide them.
    """
    found: list[dict[str, Floats]] = []
    for begin in range(0, len(clips), _BATCH):
        part = clips[begin : begin + _BATCH]
        batch = np.zeros((len(part), _CROP_SAMPLES), np.float32)
        lengths = []
        for row, clip in enumerate(part):
            start, stop = active_span(clip)
            first = start + int(rng.integers(max(1, stop - start - _CROP_SAMPLES + 1)))
            crop = from_int16(clip[first : min(stop, first + _CROP_SAMPLES)])
            batch[row, : len(crop)] = crop
            lengths.append(len(crop))
        silent = [pauses(crop[:length]) for crop, length in zip(batch, lengths, strict=True)]
        heard = normalised(augmenter(batch, rng) if augmenter else batch)
        found += [
            _looks(crop[:length], places)
            for crop, length, places in zip(heard, lengths, silent, strict=True)
        ]
    return found


def _looks(clip: FloatArray, silent: Bools) -> dict[str, Floats]:
    bands = log_mel(clip)
    return {probe: look(probe, bands, silent) for probe in PROBES}


def guess(train: Heard, test: Heard) -> Floats:
    """Scores of the clips of ``test`` that can be seen, higher for spoof."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=2000))
    weights = train.weights[train.seen] / train.weights[train.seen].mean()
    model.fit(
        train.features[train.seen],
        train.spoof[train.seen],
        logisticregression__sample_weight=weights,
    )
    return np.asarray(model.decision_function(test.features[test.seen]), np.float64)


def measure(
    probe: str, condition: str, train: Heard, test: Heard, paired: frozenset[str]
) -> Finding:
    """AUC on unseen sources with 95 % intervals from sources drawn anew."""
    scores = guess(train, test)
    spoof = test.spoof[test.seen]
    sources = [name for name, seen in zip(test.sources, test.seen, strict=True) if seen]
    rows = np.array([name in paired for name in sources], np.bool_)
    both = rows.any() and 0 < spoof[rows].sum() < rows.sum()
    return Finding(
        probe=probe,
        condition=condition,
        pooled=bootstrap_by_source(auc, scores, spoof, sources),
        paired=bootstrap_by_source(
            auc, scores[rows], spoof[rows], [name for name in sources if name in paired]
        )
        if both
        else None,
        clips=len(spoof),
        coverage=float(test.seen.mean()),
    )


def findings(
    train: Sequence[Clip],
    held: Sequence[Clip],
    audio: AudioCache,
    augmenter: Augmenter,
    balance: Balance,
    seed: int,
) -> list[Finding]:
    """Every probe under every condition."""
    looks: dict[str, dict[str, list[dict[str, Floats]]]] = {}
    groups = {"train": train, "held": held}
    for role, clips in track(groups.items(), "looking", 2):
        samples = [audio.samples(clip) for clip in clips]
        looks[role] = {
            "as published": published(samples),
            "trimmed, normalised": behind_front_end(samples, None, np.random.default_rng(seed)),
            "augmented": behind_front_end(samples, augmenter, np.random.default_rng(seed + 1)),
        }
    # Trained under augmentation, used without: what of the condition is left for the daemon.
    conditions = [(name, name, name) for name in looks["train"]]
    conditions.append(("augmented in training only", "augmented", "trimmed, normalised"))
    weights = draw_weights(train, balance)

    def heard(role: str, condition: str, probe: str) -> Heard:
        clips = groups[role]
        return Heard(
            features=np.stack([seen[probe] for seen in looks[role][condition]]),
            spoof=np.array([clip.spoof for clip in clips], np.bool_),
            sources=tuple(clip.source_repo for clip in clips),
            weights=weights if role == "train" else np.ones(len(clips)),
        )

    paired = paired_sources(held)
    return [
        measure(probe, name, heard("train", known, probe), heard("held", asked, probe), paired)
        for probe in PROBES
        for name, known, asked in conditions
    ]


def table(found: Sequence[Finding]) -> str:
    """Markdown; an AUC whose interval does not hold 0.5 leaks."""
    lines = [
        "| probe | condition | AUC pooled | AUC paired | clips | coverage | better than chance |",
        "|---|---|---|---|---|---|---|",
    ]
    for finding in found:
        leaks = [
            name
            for name, value in (("pooled", finding.pooled), ("paired", finding.paired))
            if value is not None and value.low > 0.5
        ]
        lines.append(
            f"| {finding.probe} | {finding.condition} | {_text(finding.pooled)} "
            f"| {_text(finding.paired)} | {finding.clips} | {finding.coverage:.0%} "
            f"| {', '.join(leaks) or 'no'} |"
        )
    return "\n".join(lines)


def _text(value: Interval | None) -> str:
    if value is None:
        return "–"
    return f"{value.value:.3f} ({value.low:.3f}–{value.high:.3f})"


def settled(settings: AugmentSettings) -> AugmentSettings:
    """Without what moves time: the pauses must stay where they were found."""
    return replace(settings, speed=0.0, pitch=0.0, shift=0.0)


def _some(clips: Sequence[Clip], most: int | None, rng: np.random.Generator) -> list[Clip]:
    speech = [clip for clip in clips if clip.speech]
    if most is None or len(speech) <= most:
        return speech
    return [speech[row] for row in np.sort(rng.choice(len(speech), most, replace=False))]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tools.check_leak")
    parser.add_argument("recipe", type=Path, help="its augment and balance are put to the test")
    parser.add_argument("--data", type=Path, help="folder with manifest.csv ($STREAMGUARD_DATA)")
    parser.add_argument("--split", type=Path, default=DEFAULT_SPLIT)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="decoded audio")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clips", type=int, help="at most so many of either role, at random")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args(argv)
    recipe = load_recipe(options.recipe)
    data, split = data_folder(options.data), read_split(options.split)
    clips = read_manifest(data / "manifest.csv")
    audio = AudioCache.open(data, options.cache, clips)
    train = split.select(clips, "train")
    recordings: Mapping[str, list[FloatArray]] = {
        label: [from_int16(audio.samples(clip)) for clip in train if clip.label == label]
        for label in ("noise", "rir")
    }
    settings = settled(section(AugmentSettings, "augment", recipe.get("augment")))
    rng = np.random.default_rng(options.seed)
    found = findings(
        _some(train, options.clips, rng),
        _some(split.select(clips, "validation"), options.clips, rng),
        audio,
        Augmenter(settings, recordings["noise"], recordings["rir"]),
        section(Balance, "balance", recipe.get("balance")),
        options.seed,
    )
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps([asdict(finding) for finding in found], indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
