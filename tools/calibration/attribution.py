"""Calibration of an attribution network: what its confidence means, and what it does not know.

One window per spoofed clip and channel class, the longest. Confidence is the share of right answers
to be expected: softmax at a fitted temperature, then a rising line per label that is said often
enough. What the bundle promises (``thresholds``: a label is said only if at least such a share of
those said are right) must hold for sources that the line was not drawn with, or the head abstains
in that channel class.

A singleton conformal set was the other candidate for the answer rule. It was not taken: conformal
sets bound how often the true label is missed over all windows, not over those with one label left,
and where few sets are singletons these may well be wrong more often than right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import optimize
from sklearn.isotonic import IsotonicRegression

from streamguard.verdict.calibration import Answers, Exposure, Reliability
from streamguard.verdict.labels import GENERATOR_OOD_ALPHA, sme, softmax
from streamguard.verdict.scores import Channel
from tools.calibration.conformal import (
    choose_alpha,
    conformal_table,
    left_out_p_values,
    p_values,
)
from tools.calibration.weights import source_weights
from tools.data import AudioCache, Clip
from tools.scoring import LINES, LOW_RATE_LINE, AttributedWindow, AttributionScorer

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

UNLISTED = -1
"""Class of a generator that has no label."""
SILENT = Answers(common=Reliability((0.5,), (0.0,)))
"""A head whose confidence means nothing in this channel class."""
LEAST_SAID = 20
"""Accepted windows below which their share of right ones is not believed."""
LEAST_SOURCES = 3
"""That they must come from."""
_BLOCK = 25
"""Windows per point of a line before neighbours are pooled."""
_MOST_BLOCKS = 12
_PRIOR_WINDOWS = 2.0
"""By which a point leans to the share of right answers of all."""
_STEPS = np.arange(0.0, 0.41, 0.01)
"""How much a line may be lowered to keep its promise."""


@dataclass(frozen=True, slots=True)
class Promise:
    """Share of the labels said that are right, chosen by whoever makes the bundle."""

    technology: float = 0.7
    generator: float = 0.6


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """One window per clip of one channel class. Read-only."""

    clips: tuple[Clip, ...]
    technology: Floats
    """``[clips, technologies]`` logits."""
    generator: Floats
    """``[clips, generators]`` logits."""
    ood: Floats | None
    """``[clips]``."""
    technology_truth: Ints
    generator_truth: Ints
    """``UNLISTED`` where the generator has no label."""

    @property
    def sources(self) -> list[str]:
        return [clip.source_repo for clip in self.clips]


@dataclass(frozen=True, slots=True)
class Kept:
    """How a promise fares on sources that the line was not drawn with."""

    said: int
    """Windows with a label."""
    of: int
    right: float
    """Weighted share of those said; nan if none is."""
    lowered: float
    """By how much the line was lowered for it."""


def listen(
    scorer: AttributionScorer, clips: Sequence[Clip], cache: AudioCache
) -> dict[Channel, Said]:
    """Spoofed clips over every line, by the channel class they were heard as.

    Clips of a technology that has no label are left out.
    """
    labels = scorer.bundle.manifest.labels
    clips = [clip for clip in clips if clip.spoof and clip.technology in labels.technology]
    generators = [(label.technology, label.name) for label in labels.generator]
    heard: dict[Channel, list[tuple[Clip, AttributedWindow]]] = {}
    for line in (*LINES, LOW_RATE_LINE):
        for item in scorer.clips(clips, cache, line):
            for channel in Channel:
                own = [window for window in item.accepted if window.channel is channel]
                if own:
                    longest = max(own, key=lambda window: window.end_s - window.start_s)
                    heard.setdefault(channel, []).append((item.clip, longest))
    return {
        channel: _said(found, labels.technology, generators) for channel, found in heard.items()
    }


def _said(
    found: Sequence[tuple[Clip, AttributedWindow]],
    technologies: Sequence[str],
    generators: Sequence[tuple[str, str]],
) -> Said:
    clips = tuple(clip for clip, _ in found)
    outputs = [window.outputs for _, window in found]

    def stacked(name: str) -> Floats:
        return np.stack([row[name] for row in outputs]).astype(np.float64)

    keys = [(clip.technology, clip.generator) for clip in clips]
    return Said(
        clips=clips,
        technology=stacked("technology_logits"),
        generator=stacked("generator_logits"),
        ood=stacked("ood")[:, 0] if "ood" in outputs[0] else None,
        technology_truth=np.array([technologies.index(clip.technology) for clip in clips]),
        generator_truth=np.array(
            [generators.index(key) if key in generators else UNLISTED for key in keys]
        ),
    )


def calibrate_attribution(
    said: Mapping[Channel, Said],
    technologies: Sequence[str],
    generators: Sequence[tuple[str, str]],
    promise: Promise,
) -> tuple[dict[str, Any], dict[str, float], dict[str, Kept]]:
    """``(calibration per channel class, thresholds, how each promise fares)``.

    ``generators``: (technology, name) in the order of the logits.
    """
    members = np.array([[kind == other for kind, _ in generators] for other in technologies])
    names = [name for _, name in generators]
    channels: dict[str, Any] = {}
    kept: dict[str, Kept] = {}
    alphas = []
    for channel, part in said.items():
        listed = part.generator_truth != UNLISTED
        if len(part.clips) < LEAST_SAID or not listed.any():
            continue
        tables = _tables(part, listed)
        if part.ood is not None:
            alpha = choose_alpha(left_out_p_values(part.ood, part.sources))
            if alpha is None:
                del tables["ood"]
            else:
                alphas.append(alpha)
        technology, kept[f"technology_{channel}"] = answers(
            Head.technology(part), technologies, promise.technology
        )
        known = _known(part, tables)
        generator, kept[f"generator_{channel}"] = answers(
            Head.generator(part, members, known), names, promise.generator
        )
        tables |= {
            "technology": _strangeness(part.technology, part.technology_truth, technology),
            "generator": _strangeness(
                part.generator[listed], part.generator_truth[listed], generator
            ),
        }
        channels[channel.value] = {
            "llr": None,
            "leg": None,
            "conformal": tables,
            "answers": {"technology": asdict(technology), "generator": asdict(generator)},
            "exposure": asdict(_exposure(part.clips)),
        }
    thresholds = {
        "technology": promise.technology,
        "generator": promise.generator,
        "generator_ood": GENERATOR_OOD_ALPHA,
    }
    return channels, thresholds | ({"ood": min(alphas)} if alphas else {}), kept


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """The windows that one head would speak on. Read-only."""

    logits: Floats
    allowed: Bools
    """``[windows, labels]``: those that may be said of each window."""
    truth: Ints
    """``UNLISTED`` where no label is right."""
    asked: Bools
    """Windows that are not out of distribution for this head."""
    sources: Sequence[str]
    weights: Floats

    @classmethod
    def technology(cls, part: Said) -> Head:
        logits, truth = part.technology, part.technology_truth
        return cls(
            logits,
            np.ones(logits.shape, np.bool_),
            truth,
            np.ones(len(truth), np.bool_),
            part.sources,
            source_weights(part.sources, truth, np.ones(len(truth))),
        )

    @classmethod
    def generator(cls, part: Said, members: Bools, known: Bools) -> Head:
        """Generators of the technology that is said; as many unlisted windows as listed ones."""
        truth = part.generator_truth
        weights = source_weights(part.sources, truth, np.ones(len(truth)))
        for rows in (truth == UNLISTED, truth != UNLISTED):
            if rows.any():
                weights[rows] *= 0.5 / weights[rows].sum()
        return cls(
            part.generator,
            members[part.technology.argmax(axis=1)],
            truth,
            known & members[part.technology.argmax(axis=1)].any(axis=1),
            part.sources,
            weights,
        )

    def best(self, temperature: float) -> tuple[Ints, Floats]:
        """Label and softmax of the most probable one that may be said."""
        p = np.where(self.allowed, softmax(self.logits, temperature), -1.0)
        return p.argmax(axis=1), p.max(axis=1).clip(0.0, 1.0)

    def where(self, rows: Bools) -> Head:
        names = np.asarray(self.sources)
        return Head(
            self.logits[rows],
            self.allowed[rows],
            self.truth[rows],
            self.asked[rows],
            names[rows].tolist(),
            self.weights[rows],
        )


def answers(head: Head, names: Sequence[str], promise: float) -> tuple[Answers, Kept]:
    """What the head's confidence means, lowered until other sources keep the promise.

    Each source is judged by lines of all others; if no lowering is enough, the head is silent.
    """
    confidence = np.zeros(len(head.truth))
    sources = np.asarray(head.sources)
    if not _enough(head.asked, sources):
        return SILENT, Kept(0, len(head.truth), float("nan"), 0.0)
    said = np.zeros(len(head.truth), np.int64)
    for source in np.unique(sources):
        own = sources == source
        fitted = fit_answers(head.where(~own), names)
        said[own], share = head.where(own).best(fitted.temperature)
        confidence[own] = [
            fitted.confidence(names[label], float(p))
            for label, p in zip(said[own], share, strict=True)
        ]
    correct = said == head.truth
    for lowered in _STEPS:
        spoken = head.asked & (confidence - lowered >= promise)
        if not _enough(spoken, sources):
            break
        mass = head.weights[spoken]
        right = float(mass @ correct[spoken] / mass.sum())
        if right >= promise:
            kept = Kept(int(spoken.sum()), len(spoken), right, float(lowered))
            return _lowered(fit_answers(head, names), float(lowered)), kept
    return SILENT, Kept(0, len(head.truth), float("nan"), 0.0)


def _enough(rows: Bools, sources: npt.NDArray[np.str_]) -> bool:
    """Whether a share of right answers among these windows is to be believed."""
    return bool(rows.sum() >= LEAST_SAID and len(set(sources[rows])) >= LEAST_SOURCES)


def fit_answers(head: Head, names: Sequence[str]) -> Answers:
    """Temperature by likelihood, then lines: one for all, and one per label said often enough."""
    temperature = fit_temperature(head.logits, head.truth, head.weights)
    said, share = head.best(temperature)
    correct = said == head.truth
    asked = head.asked
    overall = float(head.weights[asked] @ correct[asked] / max(head.weights[asked].sum(), 1e-12))
    sources = np.asarray(head.sources)
    labels = {}
    for label, name in enumerate(names):
        rows = asked & (said == label)
        if rows.sum() >= 2 * _BLOCK and len(set(sources[rows])) >= LEAST_SOURCES:
            labels[name] = _reliability(share[rows], correct[rows], head.weights[rows], overall)
    common = _reliability(share[asked], correct[asked], head.weights[asked], overall)
    return Answers(temperature=temperature, common=common, labels=labels)


def fit_temperature(logits: Floats, truth: Ints, weights: Floats) -> float:
    """By which logits are divided so that the true label is most likely (Guo et al. 2017)."""
    listed = truth != UNLISTED
    x, y, w = logits[listed], truth[listed], weights[listed]

    def loss(log_temperature: float) -> float:
        p = softmax(x, float(np.exp(log_temperature)))[np.arange(len(y)), y]
        return -float(w @ np.log(np.maximum(p, 1e-12)))

    found = optimize.minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(f"{np.exp(found.x):.6g}")


def _reliability(share: Floats, correct: Bools, weights: Floats, overall: float) -> Reliability:
    """A rising line through blocks of about as many windows each (isotonic regression)."""
    order = np.argsort(share, kind="stable")
    blocks = np.array_split(order, int(np.clip(len(order) // _BLOCK, 1, _MOST_BLOCKS)))
    at, right, mass = [], [], []
    for rows in blocks:
        w = weights[rows]
        effective = float(w.sum() ** 2 / np.square(w).sum())
        observed = float(w @ correct[rows] / w.sum())
        at.append(float(w @ share[rows] / w.sum()))
        right.append(
            (observed * effective + _PRIOR_WINDOWS * overall) / (effective + _PRIOR_WINDOWS)
        )
        mass.append(float(w.sum()))
    rising = IsotonicRegression(y_min=0.0, y_max=1.0).fit_transform(at, right, sample_weight=mass)
    line: dict[float, float] = {}
    for x, y in zip(at, rising, strict=True):
        line.setdefault(round(x, 5), round(float(y), 5))
    return Reliability(tuple(line), tuple(line.values()))


def _lowered(fitted: Answers, by: float) -> Answers:
    def lower(line: Reliability) -> Reliability:
        return Reliability(line.confidence, tuple(round(max(0.0, y - by), 5) for y in line.right))

    assert fitted.common is not None, "fit_answers draws one"
    return Answers(
        fitted.temperature,
        lower(fitted.common),
        {name: lower(line) for name, line in fitted.labels.items()},
    )


def _tables(part: Said, listed: Bools) -> dict[str, list[float]]:
    energy = np.array([sme(row) for row in part.generator[listed]])
    tables = {"generator_sme": conformal_table(energy)}
    if part.ood is not None:
        tables["ood"] = conformal_table(part.ood)
        tables["generator_ood"] = conformal_table(part.ood[listed])
    return tables


def _known(part: Said, tables: Mapping[str, Sequence[float]]) -> Bools:
    """Windows whose generator the daemon would not call out of distribution."""
    scores = [p_values(tables["generator_sme"], np.array([sme(row) for row in part.generator]))]
    if part.ood is not None:
        scores.append(p_values(tables["generator_ood"], part.ood))
    return np.asarray(len(scores) * np.min(scores, axis=0) >= GENERATOR_OOD_ALPHA)


def _strangeness(logits: Floats, truth: Ints, fitted: Answers) -> list[float]:
    p = softmax(logits, fitted.temperature)[np.arange(len(truth)), truth]
    return conformal_table((1.0 - p).clip(0.0, 1.0))


def _exposure(clips: Sequence[Clip]) -> Exposure:
    return Exposure(
        clips=len({clip.path for clip in clips}),
        legs=0,
        speakers=len({(clip.source_repo, clip.speaker) for clip in clips if clip.speaker}),
        sources=len({clip.source_repo for clip in clips}),
        hours=round(sum(clip.seconds for clip in clips) / 3600, 3),
    )
