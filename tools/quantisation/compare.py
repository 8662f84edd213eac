"""Are the answers of a precision those of fp32? Measured on sources that made neither."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamguard.inference.schema import AcceptanceDoc, Difference
from streamguard.verdict.scores import Attribution, Label, State, WindowScore
from streamguard.verdict.settings import VerdictSettings
from streamguard.verdict.voter import Voter
from tools.data import AudioCache, Clip
from tools.legs import PseudoLeg, pseudo_legs
from tools.metrics import draw_sources, eer, interval
from tools.progress import track
from tools.scoring import (
    LINES,
    AttributedClip,
    AttributionScorer,
    DaemonScorer,
    ScoredClip,
    over,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]
    Paired = list[tuple[AttributedClip, AttributedClip]]

ALLOWED = 0.005
"""Half a point of an error rate or an accuracy, either way."""
PLAIN, OTHER = "cpu-fp32", "cpu-int8"
_PRIOR = 0.01  # of no influence on states


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Windows that both precisions scored, over one line. Read-only."""

    llr: Floats
    """``[windows, 2]``: fp32 and the other."""
    spoof: Bools
    sources: list[str]


def accept_detector(folder: Path, clips: Sequence[Clip], cache: AudioCache) -> AcceptanceDoc:
    """EER of all windows line by line, LLR of each window, verdicts of pseudo-legs."""
    plain, other = DaemonScorer(folder, PLAIN), DaemonScorer(folder, OTHER)
    legs = pseudo_legs(clips, cache)
    differences: dict[str, Difference] = {}
    apart: list[float] = []
    flips = judged = windows = 0
    for line in LINES:
        pairs = _pairs(plain.clips(clips, cache, line), other.clips(clips, cache, line))
        differences[f"eer_{line}"] = eer_difference(pairs)
        apart += np.abs(pairs.llr[:, 1] - pairs.llr[:, 0]).tolist()
        windows += len(pairs.llr)
        states = [_states(scorer, legs, line) for scorer in (plain, other)]
        flips += sum(one != two for one, two in zip(*states, strict=True))
        judged += len(legs)
    plain.close()
    other.close()
    return _document(
        differences,
        windows,
        clips,
        legs=judged,
        flips=flips,
        median_llr_difference=float(np.median(apart)),
    )


def accept_attributor(folder: Path, clips: Sequence[Clip], cache: AudioCache) -> AcceptanceDoc:
    """Accuracy of both heads on all windows line by line; windows that are named otherwise.

    The technology on clips whose technology has a label, the generator on those whose generator
    has one.
    """
    plain, other = AttributionScorer(folder, PLAIN), AttributionScorer(folder, OTHER)
    labels = plain.bundle.manifest.labels
    generators = [(label.technology, label.name) for label in labels.generator]
    clips = [clip for clip in clips if clip.spoof and clip.technology in labels.technology]
    differences: dict[str, Difference] = {}
    flips = windows = 0
    for line in LINES:
        both = list(
            zip(plain.clips(clips, cache, line), other.clips(clips, cache, line), strict=True)
        )
        for head, truth in (
            ("technology", lambda clip: _place(labels.technology, clip.technology)),
            ("generator", lambda clip: _place(generators, (clip.technology, clip.generator))),
        ):
            right, sources = _right(both, head, truth)
            if sources:
                differences[f"accuracy_{head}_{line}"] = accuracy_difference(right, sources)
        said = [
            (one.said, two.said)
            for a, b in both
            for one, two in zip(a.windows, b.windows, strict=True)
            if one.rejected is None
        ]
        windows += len(said)
        flips += sum(_named(one) != _named(two) for one, two in said)
    plain.close()
    other.close()
    return _document(differences, windows, clips, flips=flips)


def eer_difference(pairs: Pairs, resamples: int = 300) -> Difference:
    """EER of the other less that of fp32, with the interval of whole sources drawn anew."""

    def apart(rows: Ints | slice) -> float:
        llr, spoof = pairs.llr[rows], pairs.spoof[rows]
        return eer(llr[:, 1], spoof) - eer(llr[:, 0], spoof)

    draws = draw_sources(pairs.sources, resamples, both=pairs.spoof)
    return _difference(apart(slice(None)), [apart(rows) for rows in draws])


def accuracy_difference(right: Bools, sources: Sequence[str], resamples: int = 300) -> Difference:
    """The same of accuracies; ``right`` ``[windows, 2]``: whether fp32 and the other were."""
    change = right[:, 1].astype(np.float64) - right[:, 0]
    draws = [float(change[rows].mean()) for rows in draw_sources(sources, resamples)]
    return _difference(float(change.mean()), draws)


def _difference(value: float, draws: Sequence[float]) -> Difference:
    found = interval(value, draws)
    return Difference(*(round(number, 6) for number in (found.value, found.low, found.high)))


def _document(
    differences: dict[str, Difference],
    windows: int,
    clips: Sequence[Clip],
    *,
    legs: int = 0,
    flips: int,
    median_llr_difference: float | None = None,
) -> AcceptanceDoc:
    inside = (-ALLOWED <= d.low and d.high <= ALLOWED for d in differences.values())
    return AcceptanceDoc(
        # Where nothing could be compared, nothing is known to be the same.
        accepted=bool(differences) and all(inside),
        differences=differences,
        allowed=ALLOWED,
        windows=windows,
        sources=len({clip.source_repo for clip in clips}),
        legs=legs,
        flips=flips,
        median_llr_difference=median_llr_difference,
    )


def _pairs(plain: Sequence[ScoredClip], other: Sequence[ScoredClip]) -> Pairs:
    llr, spoof, sources = [], [], []
    for one, two in zip(plain, other, strict=True):
        for a, b in zip(one.windows, two.windows, strict=True):
            if a.llr is not None and b.llr is not None:
                llr.append((a.llr, b.llr))
                spoof.append(one.clip.spoof)
                sources.append(one.clip.source_repo)
    return Pairs(np.array(llr, np.float64), np.array(spoof, np.bool_), sources)


def _states(
    scorer: DaemonScorer, legs: Sequence[PseudoLeg], line: str
) -> list[tuple[bool, bool, State]]:
    """Of each leg: whether it was ever SPOOF or BONAFIDE, and what it was at its end."""
    calibrations = scorer.bundle.calibrations[scorer.precision]
    found = []
    for number, leg in enumerate(track(legs, f"legs, {line}", len(legs))):
        windows: tuple[WindowScore, ...] = scorer.windows(*over(line, leg.samples, number))
        voter = Voter(VerdictSettings(), calibrations, _PRIOR, False, "leg")
        states = [voter.update(window).state for window in windows]
        last = states[-1] if states else State.UNKNOWN
        found.append((State.SPOOF in states, State.BONAFIDE in states, last))
    return found


def _right(both: Paired, head: str, truth: Callable[[Clip], int | None]) -> tuple[Bools, list[str]]:
    """``[windows, 2]`` whether each was right, and the sources of the windows."""
    right, sources = [], []
    for one, two in both:
        place = truth(one.clip)
        if place is None:
            continue
        for a, b in zip(one.accepted, two.accepted, strict=True):
            name = f"{head}_logits"
            right.append([int(w.outputs[name].argmax()) == place for w in (a, b)])
            sources.append(one.clip.source_repo)
    return np.array(right, np.bool_), sources


def _named(said: Attribution) -> tuple[str | None, ...]:
    """Both labels, or why there is none."""
    return tuple(
        answer.label if isinstance(answer, Label) else answer
        for answer in (said.technology, said.generator)
    )


def _place(labels: Sequence[object], label: object) -> int | None:
    return labels.index(label) if label in labels else None
