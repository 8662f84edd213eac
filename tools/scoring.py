"""Scores of clips exactly as the daemon would give them: its front end, its scorer, the bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soxr

from streamguard.audio import g711
from streamguard.audio.frames import RawBlock
from streamguard.audio.frontend import FrontEnd
from streamguard.audio.settings import GateSettings
from streamguard.inference.bundle import Bundle, find_bundle, load_bundle
from streamguard.inference.network import Network
from streamguard.inference.ort import OrtEngine
from streamguard.inference.scorer import Models, Scorer
from streamguard.inference.target import load_target
from streamguard.verdict.rejection import judge_window
from streamguard.verdict.scores import Channel, Rejection, WindowScore
from tools.data import SAMPLE_RATE_HZ, AudioCache, Clip
from tools.progress import track

if TYPE_CHECKING:
    import numpy.typing as npt

    Int16Array = npt.NDArray[np.int16]

LINES = ("direct", "telephone")
"""How a clip reaches the daemon: 16 kHz as it is, or 8 kHz through G.711."""
TELEPHONE_HZ = 8000


@dataclass(frozen=True, slots=True, eq=False)
class ScoredClip:
    """All windows of one clip over one line."""

    clip: Clip
    line: str
    windows: tuple[WindowScore, ...]

    @property
    def accepted(self) -> tuple[WindowScore, ...]:
        """Windows that the gate lets speak, whether they could be calibrated or not."""
        return tuple(
            window
            for window in self.windows
            if window.raw is not None and window.rejected in (None, Rejection.UNCALIBRATED)
        )


@dataclass(frozen=True, slots=True, eq=False)
class HopLogits:
    """Raw scores of the usable hops of one leg, in order, and what channel it was heard as."""

    logits: npt.NDArray[np.float64]
    channel: Channel


class DaemonScorer:
    """A bundle behind the daemon's own front end and scorer. Owned by one thread."""

    def __init__(self, bundle: str | Path, target: str = "cpu-fp32") -> None:
        self.bundle: Bundle = load_bundle(find_bundle(bundle))
        self._network = Network(self.bundle, OrtEngine(self.bundle, load_target(target)))
        self._gate = GateSettings()
        self._scorer = Scorer(
            Models(self._network),
            front_end=self._front_end,
            judge=lambda qualities: judge_window(qualities, self._gate),
        )

    def close(self) -> None:
        self._scorer.close()

    def windows(self, samples: Int16Array, rate_hz: int) -> tuple[WindowScore, ...]:
        """Every window of a leg; the partial one if it is shorter than 3 s."""
        results = [
            result
            for block in _blocks(samples, rate_hz)
            for result in self._scorer.process([block])
        ]
        results += self._scorer.close_leg(_LEG)
        return tuple(result.score for result in results if result.score is not None)

    def hops(self, samples: Int16Array, rate_hz: int) -> HopLogits:
        """The head on each usable hop alone: a window's raw score is the mean of its hops'."""
        front_end = self._front_end(_LEG, self._network.left_context)
        state = self._network.fresh_state()
        parts = []
        for block in _blocks(samples, rate_hz):
            for hop in front_end.process(block):
                if not hop.usable:
                    continue
                heard = np.concatenate((hop.context, hop.samples))
                (output,) = self._network.hops([heard], [state])
                state = output.state
                parts.append([output.parts])
        logits = [float(row["logit"][0]) for row in self._network.windows(parts)]
        return HopLogits(np.asarray(logits, np.float64), front_end.channel)

    def clips(self, clips: Sequence[Clip], cache: AudioCache, line: str) -> list[ScoredClip]:
        """Score clips over a line, with a progress bar."""
        return [
            ScoredClip(clip, line, self.windows(*over(line, cache.samples(clip), number)))
            for number, clip in enumerate(track(clips, f"scoring, {line}", len(clips)))
        ]

    def _front_end(self, leg: str, left_context: int) -> FrontEnd:
        return FrontEnd(leg, left_context, self._gate)


_LEG = "clip"


def over(line: str, samples: Int16Array, number: int = 0) -> tuple[Int16Array, int]:
    """Samples and rate as the line delivers them; even numbers get mu-law, odd ones A-law."""
    if line == "direct":
        return samples, SAMPLE_RATE_HZ
    narrow = soxr.resample(samples, SAMPLE_RATE_HZ, TELEPHONE_HZ)
    if number % 2:
        return g711.decode_alaw(g711.encode_alaw(narrow)), TELEPHONE_HZ
    return g711.decode_ulaw(g711.encode_ulaw(narrow)), TELEPHONE_HZ


def _blocks(samples: Int16Array, rate_hz: int) -> Iterator[RawBlock]:
    """Whole half seconds; what is left at the end is no hop."""
    size = rate_hz // 2
    for first in range(0, len(samples) - size + 1, size):
        yield RawBlock(
            leg=_LEG,
            segment=0,
            first_sample=first,
            samples=samples[first : first + size],
            rate_hz=rate_hz,
            spans=(),
            received_at=0.0,
        )
