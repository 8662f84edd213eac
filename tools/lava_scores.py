"""What LAVA's exported graphs say of whole clips, and what is calibrated and measured on that.

Everything here is scored hop by hop with the very ONNX graphs of the bundle: one window per clip,
its first six hops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from models.lava.network import HOP_SAMPLES, LEFT_CONTEXT
from streamguard.audio.level import normalise
from streamguard.verdict.scores import Channel
from tools.augment import telephone
from tools.data import Clip
from tools.lava_data import NO_LABEL, Crops, Labels
from tools.progress import track

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

WINDOW_HOPS = 6
MIN_HOPS = 3
"""Shorter clips are left out: the daemon scores full windows."""
NEVER = 1.0
"""Threshold where no confidence is reliable enough: the head abstains."""


class Graphs:
    """The hop and the head graph in ONNX Runtime, one thread."""

    def __init__(self, hop: Path, head: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        self._hop = onnxruntime.InferenceSession(str(hop), options, providers=providers)
        self._head = onnxruntime.InferenceSession(str(head), options, providers=providers)

    def window(self, speech: Floats) -> tuple[Floats, Floats]:
        """Logits of both heads for whole hops of normalised speech, zeros before the first."""
        heard = np.concatenate((np.zeros(LEFT_CONTEXT, np.float32), speech))
        starts = range(0, len(speech), HOP_SAMPLES)
        hops = np.stack([heard[at : at + LEFT_CONTEXT + HOP_SAMPLES] for at in starts])
        sums, count = self._hop.run(["sums", "count"], {"samples": hops})
        total = {"sums": sums.sum(axis=0)[None], "count": count.sum(axis=0)[None]}
        technology, generator = self._head.run(["technology_logits", "generator_logits"], total)
        return technology[0], generator[0]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Class probabilities of one window per clip. Read-only."""

    clips: tuple[Clip, ...]
    technology: Floats
    """``[clips, technologies]``."""
    generator: Floats
    """``[clips, generators]``."""


def score(graphs: Graphs, crops: Crops, clips: Sequence[Clip], channel: Channel) -> Scored:
    """One window per clip of at least ``MIN_HOPS`` hops, as heard through a channel."""
    rng = np.random.default_rng(0)
    used: list[Clip] = []
    technology: list[Floats] = []
    generator: list[Floats] = []
    for clip in track(clips, f"scoring {channel}", len(clips)):
        speech = crops.trimmed(clip)
        hops = min(WINDOW_HOPS, len(speech) // HOP_SAMPLES)
        if hops < MIN_HOPS:
            continue
        speech = speech[: hops * HOP_SAMPLES]
        if channel is Channel.NARROW:
            speech = telephone(speech[None], rng)[0]
        first, second = graphs.window(normalise(speech))
        used.append(clip)
        technology.append(softmax(first))
        generator.append(softmax(second))
    return Scored(tuple(used), np.array(technology), np.array(generator))


def softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One head's probabilities for the clips whose true class it lists."""

    clips: tuple[Clip, ...]
    probability: Floats
    """``[clips, classes]``."""
    truth: Ints

    @property
    def predicted(self) -> Ints:
        return np.asarray(self.probability.argmax(axis=1), np.int64)

    @property
    def confidence(self) -> Floats:
        return np.asarray(self.probability.max(axis=1))

    @property
    def correct(self) -> Bools:
        return np.asarray(self.predicted == self.truth)

    @property
    def strangeness(self) -> Floats:
        """Nonconformity: 1 - probability of the true class."""
        return 1.0 - self.probability[np.arange(len(self.truth)), self.truth]


def judge_technology(scored: Scored, labels: Labels) -> Judged:
    truth = np.array([labels.technology_of(clip) for clip in scored.clips], np.int64)
    return Judged(scored.clips, scored.technology, truth)


def judge_generator(scored: Scored, labels: Labels) -> Judged:
    """Only clips of listed generators; the others have no right answer."""
    truth = np.array([labels.generator_of(clip) for clip in scored.clips], np.int64)
    listed = truth != NO_LABEL
    clips = tuple(clip for clip, keep in zip(scored.clips, listed, strict=True) if keep)
    return Judged(clips, scored.generator[listed], truth[listed])


def join(parts: Sequence[Judged]) -> Judged:
    """Channels pooled."""
    return Judged(
        tuple(clip for part in parts for clip in part.clips),
        np.concatenate([part.probability for part in parts]),
        np.concatenate([part.truth for part in parts]),
    )


def confidence_threshold(judged: Judged, accuracy: float, min_accepted: int) -> float:
    """The text's rejection threshold: the lowest confidence at which those accepted are accurate.

    Confidences sorted in descending order, cut at the last place where the share of right answers
    so far is at least ``accuracy``; a cut that accepts fewer than ``min_accepted`` is not believed,
    and without one the head abstains (``NEVER``).
    """
    order = np.argsort(-judged.confidence, kind="stable")
    right = np.cumsum(judged.correct[order]) / np.arange(1, len(order) + 1)
    believed = np.flatnonzero(right >= accuracy)
    if not len(believed) or believed[-1] + 1 < min_accepted:
        return NEVER
    return float(judged.confidence[order[believed[-1]]])


def conformal_table(strangeness: Floats, size: int) -> list[float]:
    """Sorted nonconformity scores, evenly thinned to at most ``size``."""
    ordered = np.sort(strangeness.astype(np.float64)).clip(0.0, 1.0)
    if len(ordered) > size:
        ordered = ordered[np.round(np.linspace(0, len(ordered) - 1, size)).astype(int)]
    return [round(float(value), 5) for value in ordered]


def exposure(clips: Sequence[Clip]) -> Mapping[str, Any]:
    """On how much a calibration stands, as in a bundle."""
    hours = sum(min(clip.seconds, WINDOW_HOPS * 0.5) for clip in clips) / 3600
    return {
        "clips": len(clips),
        "legs": 0,
        "speakers": len({(clip.source_repo, clip.speaker) for clip in clips if clip.speaker}),
        "sources": len({clip.source_repo for clip in clips}),
        "hours": round(hours, 3),
    }


def balanced_accuracy(judged: Judged) -> float:
    """Mean recall over the classes that occur."""
    correct = judged.correct
    return float(np.mean([correct[judged.truth == kind].mean() for kind in set(judged.truth)]))


def accepted(confidence: Floats, threshold: float) -> Bools:
    """What a threshold lets through; ``NEVER`` lets nothing through."""
    return np.asarray((confidence >= threshold) & (threshold < NEVER))


def p_values(table: Sequence[float], strangeness: Floats) -> Floats:
    """Conformal p-value of each score, as the daemon computes it."""
    at_least = len(table) - np.searchsorted(np.array(table), strangeness, side="left")
    return np.asarray((at_least + 1) / (len(table) + 1), np.float32)
