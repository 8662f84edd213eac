"""Whole legs made of short clips: what the default rule says of them, and how an error falls with
duration.

A pseudo-leg is trimmed clips of one source, speaker, generator, set and label, joined. Joins hide
the drift of a real call: microphone, room and voice change less over a pseudo-leg than over a call
of the same length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamguard.clock import HOP_SECONDS, WINDOW_HOPS
from streamguard.verdict.calibration import ChannelCalibration
from streamguard.verdict.scores import Channel, State, WindowScore
from streamguard.verdict.settings import CusumSettings, VerdictSettings
from streamguard.verdict.voter import Voter
from tools.data import SAMPLE_RATE_HZ, AudioCache, Clip, active_span
from tools.metrics import Interval, Rejected, bootstrap_by_source, detection_at, eer
from tools.progress import track
from tools.scoring import DaemonScorer, over

if TYPE_CHECKING:
    import numpy.typing as npt

    Int16Array = npt.NDArray[np.int16]
    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

DURATIONS_S = (1.0, 2.0, 3.0, 6.0, 9.0, 15.0)
"""Of net speech."""
LONGEST_LEG_S = 22.0
"""Of trimmed clips: enough for 15 s of net speech, short enough for several legs of one voice."""
LEAST_LEGS = 5
"""Of each class for an error rate."""
VOICES = ("one speaker", "one source")
"""What a leg is made of: clips of one named speaker, or those of one source without a name, which
may be several voices and are no leg in the strict sense."""
_PRIOR = 0.01  # of no influence on states and LLRs
_BARE = VerdictSettings(cusum=CusumSettings(enabled=False))
"""Evidence alone: the change detector looks for a second voice, and a pseudo-leg has none."""
_EPSILON_S = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class PseudoLeg:
    """Samples at 16 kHz, with one of its clips to name it."""

    clip: Clip
    samples: Int16Array
    voices: str
    """One of ``VOICES``."""


@dataclass(frozen=True, slots=True, eq=False)
class HeardLeg:
    """What the scorer made of a leg over one line."""

    leg: PseudoLeg
    windows: tuple[WindowScore, ...]
    prefixes: Mapping[float, tuple[WindowScore, ...]]
    """The leg cut off where it has so many seconds, for durations shorter than a window."""


@dataclass(frozen=True, slots=True)
class LegRow:
    """Pseudo-legs of one class over one line, judged by the default rule."""

    line: str
    spoof: bool
    legs: int
    """With enough net speech to be judged."""
    net_speech_s: float
    """Median."""
    raised: float
    """Share that was ever SPOOF."""
    bonafide: float
    """Share that was ever BONAFIDE."""


@dataclass(frozen=True, slots=True)
class DurationRow:
    """Evidence of legs after so much net speech, over one line."""

    line: str
    voices: str
    seconds: float
    bonafide: int
    """Legs that have it."""
    spoof: int
    sources: int
    coverage: float | None
    """Share of the legs with so much speech of which so much was accepted; None for no leg."""
    eer: Interval | None
    """None with fewer than five legs of a class."""
    eer_rejections_as_errors: float | None
    detected_at_1pct: Interval | None
    same_legs_eer: float | None
    """Of the legs that last to the longest duration with an error rate: a curve of equals."""


def pseudo_legs(
    clips: Sequence[Clip], cache: AudioCache, longest_s: float = LONGEST_LEG_S
) -> list[PseudoLeg]:
    """Clips joined to legs of at most ``longest_s``, several of one voice where it lasts."""
    members: dict[tuple[str, ...], list[Clip]] = {}
    for clip in clips:
        key = (clip.source_repo, clip.speaker, clip.generator, clip.set, clip.label)
        members.setdefault(key, []).append(clip)
    longest = int(longest_s * SAMPLE_RATE_HZ)
    legs = []
    for found in members.values():
        pieces = []
        for clip in found:
            start, stop = active_span(cache.samples(clip))
            pieces.append(cache.samples(clip)[start:stop])
        whole = np.concatenate(pieces)
        voices = VOICES[0] if found[0].speaker else VOICES[1]
        legs += [
            PseudoLeg(found[0], whole[first : first + longest], voices)
            for first in range(0, len(whole), longest)
        ]
    return legs


def hear(scorer: DaemonScorer, legs: Sequence[PseudoLeg], line: str) -> list[HeardLeg]:
    """Score legs over a line, with a progress bar."""
    heard = []
    for number, leg in enumerate(track(legs, f"legs, {line}", len(legs))):
        samples, rate_hz = over(line, leg.samples, number)
        hop = round(HOP_SECONDS * rate_hz)
        prefixes = {}
        for seconds in DURATIONS_S:
            # A window has less speech than it lasts: the cut comes where there is enough of it.
            for hops in range(round(seconds / HOP_SECONDS), WINDOW_HOPS):
                windows = scorer.windows(samples[: hops * hop], rate_hz)
                if sum(w.net_speech_s for w in windows) >= seconds - _EPSILON_S:
                    prefixes[seconds] = windows
                    break
        heard.append(HeardLeg(leg, scorer.windows(samples, rate_hz), prefixes))
    return heard


def judge_legs(
    heard: Sequence[HeardLeg], line: str, calibrations: Mapping[Channel, ChannelCalibration]
) -> list[LegRow]:
    """The default rule on every leg, window by window, as the daemon does."""
    settings = VerdictSettings()
    said: dict[bool, list[tuple[float, bool, bool]]] = {False: [], True: []}
    for item in heard:
        voter = Voter(settings, calibrations, _PRIOR, False, "leg")
        states = {voter.update(window).state for window in item.windows}
        net_speech_s = voter.verdict.net_speech_s
        if net_speech_s >= settings.sequential.min_net_speech_s:
            said[item.leg.clip.spoof].append(
                (net_speech_s, State.SPOOF in states, State.BONAFIDE in states)
            )
    rows = []
    for spoof, legs in said.items():
        if legs:
            seconds, raised, bonafide = np.array(legs, np.float64).T
            rows.append(
                LegRow(
                    line,
                    spoof,
                    len(legs),
                    float(np.median(seconds)),
                    float(raised.mean()),
                    float(bonafide.mean()),
                )
            )
    return rows


def by_duration(
    heard: Sequence[HeardLeg],
    line: str,
    voices: str,
    calibrations: Mapping[Channel, ChannelCalibration],
) -> list[DurationRow]:
    """How well the evidence of a leg tells, after each of ``DURATIONS_S``.

    The evidence is the daemon's (mean LLR of the leg under its random-effect model); a leg is
    judged at the first window with which it has so much accepted speech.
    """
    courses = [_course(item, calibrations) for item in heard]
    evidence = np.array([llrs for llrs, _ in courses], np.float64).reshape(-1, len(DURATIONS_S))
    spoken = np.array([has for _, has in courses], np.bool_).reshape(-1, len(DURATIONS_S))
    spoof = np.array([item.leg.clip.spoof for item in heard], np.bool_)
    sources = np.array([item.leg.clip.source_repo for item in heard], np.str_)
    reached = ~np.isnan(evidence)
    told = [i for i in range(len(DURATIONS_S)) if _enough(spoof[reached[:, i]])]
    rows = []
    for i, seconds in enumerate(DURATIONS_S):
        here = reached[:, i]
        lost = spoken[:, i] & ~here
        row = _Judged(evidence[here, i], spoof[here], sources[here].tolist())
        same = here & reached[:, told[-1]] if told else here
        rejected = Rejected(int((lost & ~spoof).sum()), int((lost & spoof).sum()))
        rows.append(
            DurationRow(
                line=line,
                voices=voices,
                seconds=seconds,
                bonafide=int((~row.spoof).sum()),
                spoof=int(row.spoof.sum()),
                sources=len(set(row.sources)),
                coverage=float(here.sum() / (here | lost).sum()) if (here | lost).any() else None,
                eer=row.interval(eer) if i in told else None,
                eer_rejections_as_errors=(
                    eer(row.llrs, row.spoof, rejected) if i in told else None
                ),
                detected_at_1pct=(
                    row.interval(lambda llrs, spoof: detection_at(llrs, spoof, 0.01))
                    if i in told
                    else None
                ),
                same_legs_eer=eer(evidence[same, i], spoof[same]) if i in told else None,
            )
        )
    return rows


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """Evidence of the legs that last so long."""

    llrs: Floats
    spoof: Bools
    sources: Sequence[str]

    def interval(self, metric: Callable[[Floats, Bools], float]) -> Interval:
        return bootstrap_by_source(metric, self.llrs, self.spoof, self.sources)


def _enough(spoof: Bools) -> bool:
    return min(int(spoof.sum()), int((~spoof).sum())) >= LEAST_LEGS


def _course(
    item: HeardLeg, calibrations: Mapping[Channel, ChannelCalibration]
) -> tuple[list[float], list[bool]]:
    """At each of ``DURATIONS_S``: the evidence, NaN where so much speech was never accepted, and
    whether so much was spoken at all."""
    spoken_s = sum(window.net_speech_s for window in item.windows)
    spoken = [spoken_s >= seconds - _EPSILON_S for seconds in DURATIONS_S]
    whole = _evidence(item.windows, calibrations)
    llrs = []
    for seconds in DURATIONS_S:
        cut = item.prefixes.get(seconds)
        course = whole if cut is None else _evidence(cut, calibrations)
        llrs.append(
            next((llr for heard_s, llr in course if heard_s >= seconds - _EPSILON_S), math.nan)
        )
    return llrs, spoken


def _evidence(
    windows: Sequence[WindowScore], calibrations: Mapping[Channel, ChannelCalibration]
) -> list[tuple[float, float]]:
    """Accepted net speech and the evidence of the leg after each window."""
    voter = Voter(_BARE, calibrations, _PRIOR, False, "leg")
    verdicts = [voter.update(window) for window in windows]
    return [(verdict.net_speech_s, verdict.llr) for verdict in verdicts]
