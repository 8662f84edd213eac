"""Recordings through the very path of live audio, with a virtual clock, as fast as possible."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from streamguard.alerts.context import LatencySnapshot, LegContext, QualitySnapshot
from streamguard.audio.frontend import ChannelTracker
from streamguard.clock import HOP_SECONDS, WINDOW_HOPS, VirtualClock
from streamguard.commands.plot import Envelope
from streamguard.commands.report import FileReport, LegReport
from streamguard.config import Config
from streamguard.errors import AudioFileError
from streamguard.events import Audio, EndReason, Gap, LegStarted, MediaChanged, SourceEvent
from streamguard.facts import Judging
from streamguard.inference.pair import open_models
from streamguard.inference.scorer import HopResult, Models, Scorer
from streamguard.inference.worker import InferenceWorker
from streamguard.monitor import Leg, Monitor
from streamguard.protocols.pcap import is_capture
from streamguard.scoring import make_scorer, pair_names
from streamguard.sources.base import Emit
from streamguard.sources.file import FileSource
from streamguard.sources.pcap import PcapSource
from streamguard.sources.pcap_settings import PcapSettings
from streamguard.sources.settings import FileSettings
from streamguard.verdict.scores import State, Verdict, WindowScore

WINDOW_SECONDS = WINDOW_HOPS * HOP_SECONDS

Progress = Callable[[float], None]
"""Told the seconds of audio that have been played so far."""


@dataclasses.dataclass(frozen=True, slots=True)
class Analysis:
    """One analysed file, and what a picture of it needs besides."""

    report: FileReport
    envelope: Envelope
    """Of the leg that speaks for the file; empty unless asked for."""
    rate_hz: int


@dataclasses.dataclass(slots=True)
class _Channel:
    """What became of one channel of the file."""

    started: LegStarted
    verdict: Verdict
    rate_hz: int
    samples: int = 0
    """In this rate."""
    before_s: float = 0.0
    """What was played in other rates."""
    windows: dict[int, WindowScore] = dataclasses.field(default_factory=dict)
    course: list[tuple[float, State, float]] = dataclasses.field(default_factory=list)
    envelope: Envelope = dataclasses.field(default_factory=Envelope)

    @property
    def played_s(self) -> float:
        return self.before_s + self.samples / self.rate_hz


class _Collector:
    """The monitor's sink and observer: keeps what the daemon would publish and count."""

    def __init__(self, prior: float) -> None:
        self.channels: dict[str, _Channel] = {}
        self._prior = prior

    def heard(self, event: SourceEvent, *, envelope: bool) -> float:
        """Note an event of the source; the seconds played so far."""
        match event:
            case LegStarted():
                verdict = Verdict(event.leg, State.UNKNOWN, 0.0, self._prior, 0.0, 0)
                self.channels[event.leg] = _Channel(event, verdict, event.rate_hz)
            case MediaChanged():
                channel = self.channels[event.leg]
                channel.before_s, channel.samples = channel.played_s, 0
                channel.rate_hz = event.rate_hz
            case Gap():
                self.channels[event.leg].samples += event.count
            case Audio():
                channel = self.channels[event.leg]
                channel.samples += len(event.samples)
                if envelope:
                    scale = 32768.0 if event.samples.dtype == np.int16 else 1.0
                    channel.envelope.add(event.samples.astype(np.float32) / scale)
                return channel.played_s
            case _:
                pass
        return 0.0

    async def verdict(
        self,
        context: LegContext,
        verdict: Verdict,
        quality: QualitySnapshot,
        latency: LatencySnapshot,
    ) -> None:
        channel = self.channels[context.leg]
        channel.verdict = verdict
        channel.course.append((verdict.offset_s, verdict.state, verdict.llr))

    async def leg_ended(self, leg: str, reason: EndReason) -> None:
        """Nothing to close: a file raises no alerts."""

    def source(self, name: str, *, up: bool, reason: str) -> None:
        """A file is no source whose health anybody watches."""

    def calls(self, source: str, active: int) -> None:
        """Same."""

    def audio(self, source: str, utc: float) -> None:
        """Same."""

    def finished(self, leg: Leg) -> None:
        """The file's end is told by its results."""

    def lost(self, source: str, seconds: float) -> None:
        """Same."""

    def result(self, leg: Leg, result: HopResult, latency_s: float) -> None:
        windows = self.channels[result.leg].windows
        if result.score is not None:
            windows[result.index] = result.score
        elif result.late is not None and result.index in windows:
            windows[result.index] = dataclasses.replace(
                windows[result.index], attribution=result.late
            )


class Playing(Protocol):
    """What can be listened to: a source without its accounts."""

    async def run(self, emit: Emit) -> None: ...


class Analyst:
    """Scores files one after the other with one pair of models. Use :func:`analyst` to get one."""

    def __init__(self, config: Config, worker: InferenceWorker, judging: Judging) -> None:
        self.judging = judging
        self._config = config
        self._worker = worker
        self._monitor: Monitor | None = None

    async def on_result(self, result: HopResult) -> None:
        if self._monitor is not None:
            await self._monitor.on_result(result)

    async def analyse(
        self, file: str, progress: Progress | None = None, *, envelope: bool = False
    ) -> Analysis:
        """Score one file. Raises AudioFileError where there was nothing to be scored.

        A file that breaks off after some windows gives their report, which says why.
        """
        clock = VirtualClock()
        captured = await asyncio.to_thread(_is_capture, Path(file))
        source = _source(Path(file), clock, captured=captured)
        return await self.listen(
            file, source, clock, progress, envelope=envelope, captured=captured
        )

    async def listen(
        self,
        name: str,
        source: Playing,
        clock: VirtualClock,
        progress: Progress | None = None,
        *,
        envelope: bool = False,
        captured: bool = False,
    ) -> Analysis:
        """The same for anything that plays on a virtual clock."""
        collector = _Collector(self._config.prior)
        monitor = self._monitor = Monitor(
            inference=self._worker,
            sink=collector,
            clock=clock,
            make_voter=self.judging.voter,
            make_context=self.judging.context,
            observer=collector,
        )

        async def emit(event: SourceEvent) -> None:
            seconds = collector.heard(event, envelope=envelope)
            if progress is not None and seconds:
                progress(seconds)
            await monitor.emit(event, live=False)

        error: str | None = None
        try:
            await source.run(emit)
        except AudioFileError as err:
            if not any(channel.windows for channel in collector.channels.values()):
                raise
            error = err.reason
        finally:
            await monitor.end_all(EndReason.SHUTDOWN)
            self._monitor = None
        channels = list(collector.channels.values())
        report = _report(name, channels, error, captured=captured)
        worst = channels[report.worst.index]
        return Analysis(report, worst.envelope, worst.started.rate_hz)


def _is_capture(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_capture(file.read(4))
    except OSError:
        return False  # the source says why


def _source(path: Path, clock: VirtualClock, *, captured: bool) -> FileSource | PcapSource:
    """Speed 1 of a virtual clock: times are those of the recording, and nobody waits."""
    if captured:
        return PcapSource(PcapSettings(name="analyze", paths=(path,), speed=1.0), clock)
    settings = FileSettings(name="analyze", paths=(path,), speed=1.0)
    return FileSource(settings, clock, HOP_SECONDS)


def _report(
    file: str, channels: list[_Channel], error: str | None, *, captured: bool
) -> FileReport:
    duration_s = max(c.played_s for c in channels)
    notes = []
    if duration_s < HOP_SECONDS:
        notes.append(f"shorter than a hop of {HOP_SECONDS:g} s: there is nothing to be scored")
    elif duration_s < WINDOW_SECONDS:
        hops = int(duration_s / HOP_SECONDS)
        notes.append(
            f"shorter than a window of {WINDOW_SECONDS:g} s: scored on the "
            f"{hops * HOP_SECONDS:g} s in whole hops of {HOP_SECONDS:g} s that it has"
        )
    return FileReport(
        file=file,
        duration_s=duration_s,
        legs=_legs(channels, captured=captured),
        notes=tuple(notes),
        error=error,
    )


def _legs(channels: list[_Channel], *, captured: bool) -> tuple[LegReport, ...]:
    legs = [_leg(index, channel) for index, channel in enumerate(channels)]
    if captured:
        calls = list(dict.fromkeys(channel.started.call for channel in channels))
        legs = [
            dataclasses.replace(
                leg,
                call=calls.index(channel.started.call),
                role=channel.started.role.value,
                codec=channel.started.codec,
            )
            for leg, channel in zip(legs, channels, strict=True)
        ]
    return tuple(legs)


def _leg(index: int, channel: _Channel) -> LegReport:
    windows = tuple(channel.windows[k] for k in sorted(channel.windows))
    unheard = ChannelTracker(channel.started.rate_hz).channel
    return LegReport(
        index=index,
        verdict=channel.verdict,
        windows=windows,
        channel=(windows[-1].channel if windows else unheard).value,
        course=tuple(channel.course),
    )


@asynccontextmanager
async def analyst(config: Config) -> AsyncIterator[Analyst]:
    """Load the models of a configuration; their thread ends with the block."""
    models: list[Models] = []

    def scorer() -> Scorer:
        models.append(open_models(pair_names(config)))
        return make_scorer(models[0], config.gate, config.inference)

    holder: list[Analyst] = []
    worker = InferenceWorker(scorer, lambda result: holder[0].on_result(result), config.inference)
    await worker.start()
    holder.append(Analyst(config, worker, Judging.of(config, models[0])))
    try:
        yield holder[0]
    finally:
        await worker.stop(5.0, drain=False)
