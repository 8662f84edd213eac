"""What the daemon's default rule says of whole legs: the measure that an operator lives with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamguard.verdict.scores import State
from streamguard.verdict.settings import VerdictSettings
from streamguard.verdict.voter import Voter
from tools.calibrate import join_legs
from tools.data import AudioCache, Clip
from tools.progress import track
from tools.scoring import LINES, DaemonScorer, over

_PRIOR = 0.01  # of no influence on states


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


def judge_legs(scorer: DaemonScorer, clips: Sequence[Clip], cache: AudioCache) -> list[LegRow]:
    """Join clips to pseudo-legs as calibration does; the voter judges each, window by window."""
    settings = VerdictSettings()
    calibrations = scorer.bundle.calibrations["fp32"]
    joined = join_legs(clips, cache)
    rows = []
    for line in LINES:
        said: dict[bool, list[tuple[float, bool, bool]]] = {False: [], True: []}
        for number, (clip, samples) in enumerate(track(joined, f"verdicts, {line}", len(joined))):
            voter = Voter(settings, calibrations, _PRIOR, False, "leg")
            states = {
                voter.update(window).state
                for window in scorer.windows(*over(line, samples, number))
            }
            net_speech_s = voter.verdict.net_speech_s
            if net_speech_s >= settings.sequential.min_net_speech_s:
                said[clip.spoof].append(
                    (net_speech_s, State.SPOOF in states, State.BONAFIDE in states)
                )
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
