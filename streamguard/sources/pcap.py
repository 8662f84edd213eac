"""Replay of network captures at any speed, through the same events as live calls."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import BinaryIO

from streamguard.clock import Clock
from streamguard.detached import run_detached
from streamguard.errors import AudioFileError
from streamguard.events import (
    Audio,
    CallEnded,
    CallStarted,
    Gap,
    LegEnded,
    LegStarted,
    SourceDown,
    SourceEvent,
    SourceUp,
    Tone,
)
from streamguard.protocols.call_builder import CallBuilder
from streamguard.protocols.call_legs import CallRules
from streamguard.protocols.pcap import CaptureParser, Frame
from streamguard.sources.base import Emit, Refusal, SourceStats, new_id
from streamguard.sources.pcap_settings import PcapSettings
from streamguard.sources.playlist import check_file, play_all

BLOCK_BYTES = 1 << 18
"""Read and parsed at a time, so that a large capture takes no more memory than a small one."""
TICK_S = 0.05
"""Of the capture: how often time is noticed where no packet comes, as for live RTP."""
CLOCK_STEP_S = 1.0
"""Frames may be out of order by less; what goes back further is a clock that was set."""
CLOCK_LEAP_S = 366 * 86_400.0
"""Nobody captures a silence of a year: a clock that was set, too. Unbounded, times would outgrow
what a float can tell apart."""
LATEST_UTC = 4_102_444_800.0
"""2100: a capture whose clock says more does not know the hour."""
_THREAD = "streamguard-pcap"

_TIMED = (CallStarted, LegStarted, Audio, Gap, Tone, LegEnded, CallEnded)


class PcapSource:
    """Plays the captures of its settings one after the other; each has its own calls.

    What is heard, and when, follows from the times of the capture alone: the same capture gives the
    same events at any speed. The clock only paces: at ``speed``, or not at all with 0; a virtual
    clock and speed 1 play as fast as the consumer takes it, on times that are the same every time.
    """

    def __init__(self, settings: PcapSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._frames = 0
        self._drops: Counter[str] = Counter()
        self._builder: CallBuilder | None = None
        self._legs_started = 0
        """Of the captures before the one that is being played."""
        self._draining = False
        self._last_audio_at: float | None = None

    @property
    def name(self) -> str:
        return self._settings.name

    def stats(self) -> SourceStats:
        builder = self._builder
        return SourceStats(
            received=self._frames,
            dropped={reason: count for reason, count in self._drops.items() if count},
            legs_active=builder.legs_active if builder is not None else 0,
            legs_started=self._legs_started + (builder.legs_started if builder is not None else 0),
            last_audio_at=self._last_audio_at,
        )

    def refuse_calls(self, why: Refusal | None) -> None:
        """While draining no call begins any more; at overload a replay just waits."""
        self._draining = why is Refusal.DRAINING
        if self._builder is not None:
            self._builder.draining = self._draining

    async def run(self, emit: Emit) -> None:
        """Play everything; raises AudioFileError or SourceError when all is played that can be."""
        self._builder = None
        await emit(SourceUp(self.name))
        await play_all(
            self.name,
            self._settings.paths,
            lambda path: self._play(path, emit),
            self._drops,
            loop=self._settings.loop,
        )
        await emit(SourceDown(self.name, "end of capture"))

    async def _play(self, path: Path, emit: Emit) -> None:
        frames_before, drops_before = self._frames, Counter(self._drops)
        capture = await run_detached(lambda: CaptureFile(path), _THREAD, discard=CaptureFile.close)
        try:
            player: _Player | None = None
            async for frames in _blocks(capture):
                if player is None and frames:
                    player = self._player(frames[0], emit)
                if player is not None:
                    await player.play(frames)
                self._frames += len(frames)
        finally:
            capture.close()
        builder, self._builder = self._builder, None
        if player is not None and builder is not None:
            await player.finish()
            self._legs_started += builder.legs_started
        if capture.problem is not None:
            raise AudioFileError(str(path), capture.problem)
        if builder is None or not builder.legs_started:
            reason = _nothing(self._frames - frames_before, self._drops - drops_before)
            raise AudioFileError(str(path), reason)

    def _player(self, first: Frame, emit: Emit) -> _Player:
        settings = self._settings
        rules = CallRules(
            formats=settings.payload_types,
            role=settings.role,
            bare_packets=settings.bare_packets,
            depth_s=settings.jitter_ms / 1000,
            inactivity_s=settings.inactivity_s,
            silence_inactivity_s=settings.silence_inactivity_s,
            max_legs=settings.max_legs,
        )
        utc = first.time_ns / 1e9
        known = utc if 0.0 < utc < LATEST_UTC else None
        self._builder = CallBuilder(self.name, rules, self._drops, new_id, known)
        self._builder.draining = self._draining

        async def note(event: SourceEvent) -> None:
            if isinstance(event, Audio):
                self._last_audio_at = event.received_at
            await emit(event)

        pace = _Pace(self._clock, settings.speed, settings.max_pause_s)
        return _Player(self._builder, pace, note, first.time_ns)


class _Pace:
    """From the time of a capture to the clock of the run."""

    def __init__(self, clock: Clock, speed: float, max_pause_s: float) -> None:
        self._clock = clock
        self._speed = speed
        self._max_pause_s = max_pause_s
        self._start_s = clock.monotonic()
        self._capture_s = 0.0
        self._played_s = 0.0

    async def reach(self, capture_s: float) -> None:
        """Return when this moment of the capture is due."""
        step = capture_s - self._capture_s
        self._capture_s = capture_s
        self._played_s += min(step, self._max_pause_s)
        if self._speed:
            await self._clock.sleep_until(self._start_s + self._played_s / self._speed)
        else:
            await asyncio.sleep(0)  # as fast as possible, yet others get their turn

    def on_run(self, received_at: float) -> float:
        """A moment of the capture that has been reached, on the clock of the run."""
        ago = self._capture_s - received_at
        return self._clock.monotonic() - (ago / self._speed if self._speed else 0.0)


class _Player:
    """Frames of one capture in, events out, each when it is due."""

    def __init__(self, builder: CallBuilder, pace: _Pace, emit: Emit, start_ns: int) -> None:
        self._builder = builder
        self._pace = pace
        self._emit = emit
        self._start_ns = start_ns
        self._now = 0.0
        self._next_tick = TICK_S

    async def play(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            now = self._time_of(frame)
            await self._pass_time(now)
            self._now = now
            events = self._builder.frame(frame, now)
            if events:
                await self._say(events, now)

    def _time_of(self, frame: Frame) -> float:
        """Time only goes on, though interfaces are captured side by side, and clocks are set."""
        now = (frame.time_ns - self._start_ns) / 1e9
        if not -CLOCK_STEP_S <= now - self._now <= CLOCK_LEAP_S:
            self._start_ns -= round((self._now - now) * 1e9)
        return max(self._now, (frame.time_ns - self._start_ns) / 1e9)

    async def finish(self) -> None:
        """The capture is over."""
        await self._say(self._builder.finish(self._now), self._now)

    async def _pass_time(self, now: float) -> None:
        while self._next_tick <= now:
            if not self._builder.legs_active:
                self._next_tick = (math.floor(now / TICK_S) + 1) * TICK_S
                await self._pace.reach(now)
                return
            at = self._next_tick
            self._next_tick += TICK_S
            await self._say(self._builder.tick(at), at)

    async def _say(self, events: Iterable[SourceEvent], at: float) -> None:
        await self._pace.reach(at)
        for event in events:
            if isinstance(event, _TIMED):
                received_at = self._pace.on_run(event.received_at)
                await self._emit(dataclasses.replace(event, received_at=received_at))
            else:
                await self._emit(event)


class CaptureFile:
    """An open capture, read block by block. Blocking."""

    def __init__(self, path: Path) -> None:
        """Raises AudioFileError, saying why the file cannot be read."""
        self._path = path
        check_file(path)
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as err:
            raise AudioFileError(str(path), str(err.strerror).lower()) from err
        self._parser = CaptureParser()
        self._in_use = threading.Lock()
        self._closing = False

    @property
    def problem(self) -> str | None:
        """At the end: why there were no more frames than those."""
        return self._parser.problem

    def read(self) -> list[Frame] | None:
        """Frames of the next block, None at the end. Raises AudioFileError."""
        with self._in_use:
            data = self._read()
        if self._closing:
            self._file.close()
            return None
        if not data:
            self._parser.finish()
            return None
        frames = self._parser.feed(data)
        return None if self.problem is not None and not frames else frames

    def close(self) -> None:
        """At once; a read that was left behind on its thread closes the file when it is back."""
        self._closing = True
        if self._in_use.acquire(blocking=False):
            self._file.close()
            self._in_use.release()

    def _read(self) -> bytes:
        try:
            return self._file.read(BLOCK_BYTES)
        except OSError as err:
            raise AudioFileError(str(self._path), str(err.strerror).lower()) from err


async def _blocks(capture: CaptureFile) -> AsyncIterator[list[Frame]]:
    """Block by block, read beside the event loop: disks and network shares may stall."""
    while (frames := await run_detached(capture.read, _THREAD)) is not None:
        yield frames


def _nothing(frames: int, drops: Counter[str]) -> str:
    """Why nobody was heard, as far as the counters know."""
    counts = ", ".join(f"{reason} {count}" for reason, count in sorted(drops.items()))
    return f"no call found in {frames} frames ({counts or 'nothing like RTP'})"
