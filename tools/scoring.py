"""Scores of clips exactly as the daemon would give them: its front end, its scorer, the bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soxr

from streamguard.audio import g711
from streamguard.audio.frames import RawBlock
from streamguard.audio.frontend import FrontEnd
from streamguard.audio.intake import Intake
from streamguard.audio.settings import GateSettings
from streamguard.clock import HOP_SECONDS, WINDOW_HOPS
from streamguard.events import Audio, Gap, GapReason
from streamguard.inference.attributor import Attributor
from streamguard.inference.bundle import Bundle, find_bundle, load_bundle
from streamguard.inference.engines import open_engine
from streamguard.inference.leg import FrontEndLike, LegState, Slot
from streamguard.inference.network import Network
from streamguard.inference.scorer import Models, Scorer
from streamguard.inference.target import load_target
from streamguard.verdict.calibration import ChannelCalibration, LlrAffine
from streamguard.verdict.rejection import judge_window
from streamguard.verdict.scores import Attribution, Channel, Rejection, WindowScore
from tools.augment import code_clip, to_int16
from tools.data import SAMPLE_RATE_HZ, AudioCache, Clip
from tools.progress import track

if TYPE_CHECKING:
    import numpy.typing as npt

    from streamguard.inference.network import Row

    Int16Array = npt.NDArray[np.int16]
    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

LINES = ("direct", "telephone")
"""How a clip reaches the daemon: 16 kHz as it is, or 8 kHz through G.711."""
LOW_RATE_LINE = "low_rate"
"""8 kHz through a codec of a few kbit/s, one clip after the other through each of them."""
TELEPHONE_HZ = 8000
PACKET_SECONDS = 0.02


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


class DaemonScorer:
    """A bundle behind the daemon's own front end and scorer. Owned by one thread."""

    def __init__(
        self,
        bundle: str | Path,
        target: str = "cpu-fp32",
        *,
        raw: bool = False,
        attribution: str | Path | None = None,
        front_end: Callable[[str, int], FrontEndLike] | None = None,
    ) -> None:
        """``raw``: LLRs are the raw scores, and nothing is uncalibrated or out of distribution.

        ``attribution``: the bundle that names windows which lean to spoof, as in the daemon.
        ``front_end``: makes that of a leg, from its name and the left context; None: the daemon's.
        """
        self.bundle: Bundle = load_bundle(find_bundle(bundle))
        if raw:
            plain = dict.fromkeys(Channel, ChannelCalibration(llr=LlrAffine(1.0, 0.0)))
            precision = load_target(target).precision
            self.bundle = dataclasses.replace(self.bundle, calibrations={precision: plain})
        self._network = Network(self.bundle, open_engine(self.bundle, load_target(target)))
        namer = None
        if attribution is not None:
            second = load_bundle(find_bundle(attribution))
            namer = Network(second, open_engine(second, load_target(target)))
        self._gate = GateSettings()
        self._scorer = Scorer(
            Models(self._network, namer),
            front_end=front_end or self._front_end,
            judge=lambda qualities: judge_window(qualities, self._gate),
        )

    @property
    def precision(self) -> str:
        """Whose calibrations apply."""
        return self._network.precision

    def close(self) -> None:
        self._scorer.close()

    def windows(
        self, samples: Int16Array, rate_hz: int, lost: Bools | None = None, codec: str = ""
    ) -> tuple[WindowScore, ...]:
        """Every window of a leg; the partial one if it is shorter than 3 s.

        ``lost``: which of its 20 ms packets never came; ``codec``: as in SDP.
        """
        return tuple(self.listen(_LEG, blocks(samples, rate_hz, lost, codec)))

    def listen(self, leg: str, heard: Iterable[RawBlock]) -> Iterator[WindowScore]:
        """Windows of the blocks of a leg as they come; whoever stops early ends the leg there."""
        try:
            for block in heard:
                for result in self._scorer.process([block]):
                    if result.score is not None:
                        yield result.score
        except GeneratorExit:
            self._scorer.close_leg(leg)
            raise
        for result in self._scorer.close_leg(leg):
            if result.score is not None:
                yield result.score

    def clips(self, clips: Sequence[Clip], cache: AudioCache, line: str) -> list[ScoredClip]:
        """Score clips over a line, with a progress bar."""
        return [
            ScoredClip(
                clip,
                line,
                self.windows(
                    *over(line, cache.samples(clip), number), codec=codec_of(line, number)
                ),
            )
            for number, clip in enumerate(track(clips, f"scoring, {line}", len(clips)))
        ]

    def _front_end(self, leg: str, left_context: int) -> FrontEnd:
        return FrontEnd(leg, left_context, self._gate)


@dataclass(frozen=True, slots=True, eq=False)
class AttributedWindow:
    """A window of one leg that the gate judged, and what an attribution network says of it."""

    start_s: float
    end_s: float
    channel: Channel
    rejected: Rejection | None
    """By the gate; then there are no logits."""
    outputs: Mapping[str, npt.NDArray[np.float32]]
    """Of the head by name: ``technology_logits``, ``generator_logits``, ``embedding``."""
    said: Attribution
    """The daemon's labels, at the thresholds of the bundle."""


@dataclass(frozen=True, slots=True, eq=False)
class AttributedClip:
    """All windows of one clip over one line."""

    clip: Clip
    line: str
    windows: tuple[AttributedWindow, ...]

    @property
    def accepted(self) -> tuple[AttributedWindow, ...]:
        """Windows that the gate lets speak."""
        return tuple(window for window in self.windows if window.rejected is None)


class AttributionScorer:
    """An attribution bundle behind the daemon's front end and :class:`Attributor`.

    Every window is asked about, whatever a detector would say of it. Owned by one thread.
    """

    def __init__(self, bundle: str | Path, target: str = "cpu-fp32") -> None:
        self.bundle: Bundle = load_bundle(find_bundle(bundle))
        self._network = _Overheard(self.bundle, open_engine(self.bundle, load_target(target)))
        self._attributor = Attributor(self._network)
        self._gate = GateSettings()

    def close(self) -> None:
        self._network.close()

    def windows(
        self, samples: Int16Array, rate_hz: int, lost: Bools | None = None, codec: str = ""
    ) -> tuple[AttributedWindow, ...]:
        """Every window of a leg; the partial one if it is shorter than 3 s."""
        front_end = FrontEnd(_LEG, self._network.left_context, self._gate)
        return tuple(self.listen(front_end, blocks(samples, rate_hz, lost, codec)))

    def listen(
        self, front_end: FrontEndLike, heard: Iterable[RawBlock]
    ) -> Iterator[AttributedWindow]:
        """Windows of the blocks of a leg as they come; whoever stops early ends the leg there."""
        leg = LegState(_LEG, front_end)
        try:
            for block in heard:
                for arrival in leg.hear(block):
                    hop = arrival.hop
                    if hop.segment != leg.segment:
                        leg.start_segment(hop.segment)
                    leg.channel = arrival.channel
                    leg.add(Slot(hop.index, hop.quality, hop.usable, None))
                    if len(leg.slots) == WINDOW_HOPS:
                        yield self._window(leg, tuple(leg.slots))
                        leg.had_window = True
            for draft in leg.rest():
                yield self._window(leg, draft.window)
        finally:
            self._attributor.forget(_LEG)

    def clips(self, clips: Sequence[Clip], cache: AudioCache, line: str) -> list[AttributedClip]:
        """Score clips over a line, with a progress bar."""
        return [
            AttributedClip(
                clip,
                line,
                self.windows(
                    *over(line, cache.samples(clip), number), codec=codec_of(line, number)
                ),
            )
            for number, clip in enumerate(track(clips, f"naming, {line}", len(clips)))
        ]

    def _window(self, leg: LegState, window: tuple[Slot, ...]) -> AttributedWindow:
        last = window[-1].index
        score = WindowScore(
            leg=_LEG,
            segment=leg.segment,
            index=last,
            start_s=window[0].index * HOP_SECONDS,
            end_s=(last + 1) * HOP_SECONDS,
            raw=None,
            llr=None,
            rejected=judge_window([slot.quality for slot in window], self._gate),
            new_hops=0,
            usable_hops=sum(slot.usable for slot in window),
            net_speech_s=0.0,
            channel=leg.channel,
        )
        outputs: Row = {}
        said = Attribution()
        if score.rejected is None:
            self._attributor.ask(leg, score, window)
            for done in self._attributor.run({_LEG: WINDOW_HOPS}):
                outputs, said = self._network.heard[0], done.attribution
        return AttributedWindow(
            score.start_s, score.end_s, score.channel, score.rejected, outputs, said
        )


class _Overheard(Network):
    """Keeps what it last said."""

    heard: Sequence[Row] = ()

    def windows(self, windows: Sequence[Sequence[Row]]) -> list[Row]:
        self.heard = super().windows(windows)
        return self.heard


_LEG = "clip"


_LOW_RATE = (("GSM", "gsm"), ("AMR", "amr_nb"), ("OPUS", "opus"), ("SPEEX", "speex"))
"""Names in SDP and in ``tools.augment``."""


def codec_of(line: str, number: int = 0) -> str:
    """What SDP would call the codec of a line; the daemon hears the others for itself."""
    return _LOW_RATE[number % len(_LOW_RATE)][0] if line == LOW_RATE_LINE else ""


def over(line: str, samples: Int16Array, number: int = 0) -> tuple[Int16Array, int]:
    """Samples and rate as the line delivers them; even numbers get mu-law, odd ones A-law."""
    if line == "direct":
        return samples, SAMPLE_RATE_HZ
    if line == LOW_RATE_LINE:
        _, codec = _LOW_RATE[number % len(_LOW_RATE)]
        rng = np.random.default_rng(number)
        coded = code_clip(samples.astype(np.float32) / np.float32(32768.0), codec, rng)
        return to_int16(soxr.resample(coded, SAMPLE_RATE_HZ, TELEPHONE_HZ)), TELEPHONE_HZ
    narrow = soxr.resample(samples, SAMPLE_RATE_HZ, TELEPHONE_HZ)
    if number % 2:
        return g711.decode_alaw(g711.encode_alaw(narrow)), TELEPHONE_HZ
    return g711.decode_ulaw(g711.encode_ulaw(narrow)), TELEPHONE_HZ


def blocks(
    samples: Int16Array, rate_hz: int, lost: Bools | None = None, codec: str = ""
) -> Iterator[RawBlock]:
    """What the daemon's intake makes of one leg: whole half seconds; the rest at the end is no hop.

    ``lost``: which of its 20 ms packets never came.
    """
    intake = Intake(_LEG, rate_hz, codec)
    if lost is None:
        yield from intake.audio(Audio(_LEG, 0, samples, 0.0))
        return
    size = round(PACKET_SECONDS * rate_hz)
    for number, first in enumerate(range(0, len(samples), size)):
        packet = samples[first : first + size]
        if lost[number]:
            yield from intake.gap(Gap(_LEG, first, len(packet), GapReason.LOST, 0.0))
        else:
            yield from intake.audio(Audio(_LEG, first, packet, 0.0))
