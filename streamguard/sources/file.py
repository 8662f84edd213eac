"""Replay of audio files at any speed, through the same events as a live call."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from streamguard.audio.resample import MAX_RATE_HZ, MIN_RATE_HZ
from streamguard.clock import Clock
from streamguard.detached import run_detached
from streamguard.errors import AudioFileError
from streamguard.events import (
    Audio,
    CallEnded,
    CallStarted,
    EndReason,
    LegEnded,
    LegRole,
    LegStarted,
    SourceDown,
    SourceUp,
)
from streamguard.sources.base import Emit, Refusal, SourceStats, new_id
from streamguard.sources.playlist import check_file, play_all
from streamguard.sources.settings import FileSettings

if TYPE_CHECKING:
    import numpy.typing as npt

    SampleArray = npt.NDArray[np.int16] | npt.NDArray[np.float32]

CHUNK_S = 0.02
"""Of one ``Audio`` event: the packet time of telephony."""
BLOCK_S = 2.0
"""Read from disk at a time, so that a 10-hour file takes no more memory than a short one, and the
hand-over to the reading thread is paid once per 2 s."""
MAX_CHANNELS = 16
_THREAD = "streamguard-file"

_INT16_SUBTYPES = frozenset({"PCM_16", "ULAW", "ALAW", "PCM_S8", "PCM_U8"})
"""Exact in int16; everything else is read as float32."""
_SHORT_DATA = re.compile(r"data : (\d+) \(should be (\d+)\)")
_STREAMED_BYTES = 0x7FFF_0000
"""A WAV written to a pipe claims 2 or 4 GiB, its length being unknown: that is no truncation."""


class AudioFile:
    """An open file, read block by block; use as a context manager. Blocking, except for its end."""

    def __init__(self, path: Path) -> None:
        """Raises AudioFileError, saying why the file cannot be played."""
        self.path = path
        check_file(path)
        try:
            # As bytes: a name need not be text in the encoding of the locale.
            self._file = soundfile.SoundFile(os.fsencode(path))
        except (soundfile.LibsndfileError, OSError) as err:
            raise AudioFileError(str(path), f"not readable as audio ({_reason(err)})") from err
        try:
            self._check_header()
        except AudioFileError:
            self._file.close()
            raise
        self._dtype = "int16" if self._file.subtype in _INT16_SUBTYPES else "float32"
        self._in_use = threading.Lock()
        self.frames_read = 0

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(self, *_: object) -> None:
        # libsndfile must not be closed under a read that was left behind on its thread. That thread
        # has the last reference then, and letting go of it closes the file.
        if self._in_use.acquire(blocking=False):
            self._file.close()
            self._in_use.release()

    @property
    def rate_hz(self) -> int:
        return int(self._file.samplerate)

    @property
    def channels(self) -> int:
        return int(self._file.channels)

    @property
    def duration_s(self) -> float:
        """As the header has it; a truncated file holds less."""
        return int(self._file.frames) / self.rate_hz

    def read(self, frames: int) -> SampleArray:
        """The next ``[frames, channels]``, fewer at the end, none behind it.

        Raises AudioFileError for what cannot be decoded or is not a number.
        """
        try:
            with self._in_use:
                block: SampleArray = self._file.read(frames, dtype=self._dtype, always_2d=True)
        except soundfile.LibsndfileError as err:
            raise self._error(f"broken after {self._read_s:.2f} s ({_reason(err)})") from err
        if block.dtype == np.float32:
            finite = np.isfinite(block).all(axis=1)
            if not finite.all():
                at_s = self._read_s + int(np.argmin(finite)) / self.rate_hz
                raise self._error(f"NaN or infinite sample at {at_s:.3f} s")
        self.frames_read += len(block)
        return block

    def truncation(self) -> AudioFileError | None:
        """At the end: whether there is less than the header says."""
        claim = _SHORT_DATA.search(self._file.extra_info)
        if (
            self.frames_read < self._file.frames
            or (claim and int(claim[2]) < int(claim[1]) < _STREAMED_BYTES)
            or "lacks an end-of-stream bit" in self._file.extra_info  # Ogg
        ):
            return self._error(f"truncated: only {self._read_s:.2f} s are there and were played")
        return None

    @property
    def _read_s(self) -> float:
        return self.frames_read / self.rate_hz

    def _error(self, reason: str) -> AudioFileError:
        return AudioFileError(str(self.path), reason)

    def _check_header(self) -> None:
        if not MIN_RATE_HZ <= self.rate_hz <= MAX_RATE_HZ:
            raise self._error(f"{self.rate_hz} Hz; allowed: {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")
        if self.channels > MAX_CHANNELS:
            raise self._error(f"{self.channels} channels; allowed: 1 to {MAX_CHANNELS}")
        if self._file.frames == 0:
            raise self._error("empty: no samples")


@dataclass(frozen=True, slots=True)
class _Block:
    """What one read gave: samples, and why there will be no more (played first, told after)."""

    samples: SampleArray
    error: AudioFileError | None


class FileSource:
    """Plays the files of its settings one after the other; each is a call, each channel a leg.

    Paced by the clock at ``speed``; with a virtual clock and speed 1 that is as fast as the
    consumer takes it, on times that are the same in every run. Speed 0 does not pace at all and is
    meant for the real clock. ``chunk_s`` is the length of one ``Audio`` event: long ones save work
    where nobody listens in real time.

    A file that cannot be played (to its end) is reported by an AudioFileError after the others have
    been played; with ``loop`` it is logged, and an error only when no file could be played at all.
    """

    def __init__(self, settings: FileSettings, clock: Clock, chunk_s: float = CHUNK_S) -> None:
        self._settings = settings
        self._clock = clock
        self._chunk_s = chunk_s
        self._chunks = 0
        self._legs_active = 0
        self._legs_started = 0
        self._last_audio_at: float | None = None
        self._problems: Counter[str] = Counter()

    @property
    def name(self) -> str:
        return self._settings.name

    def refuse_calls(self, why: Refusal | None) -> None:
        """Nobody calls here."""

    def stats(self) -> SourceStats:
        return SourceStats(
            received=self._chunks,
            dropped=dict(self._problems),
            legs_active=self._legs_active,
            legs_started=self._legs_started,
            last_audio_at=self._last_audio_at,
        )

    async def run(self, emit: Emit) -> None:
        """Play everything; raises AudioFileError or SourceError when all is played that can be."""
        self._legs_active = 0
        await emit(SourceUp(self.name))
        await play_all(
            self.name,
            self._settings.paths,
            lambda path: self._play(path, emit),
            self._problems,
            loop=self._settings.loop,
        )
        await emit(SourceDown(self.name, "end of file"))

    async def _play(self, path: Path, emit: Emit) -> None:
        # On threads of their own: a network share that stalls must not hold the end of the process.
        file = await run_detached(lambda: AudioFile(path), _THREAD, discard=_close)
        with file:
            channels = self._channels(file)
            call = new_id()
            legs = tuple(new_id() for _ in channels)
            await self._start(call, legs, file.rate_hz, emit)
            problem: AudioFileError | None = None
            start_s = self._clock.monotonic()
            position = 0
            async for block in _blocks(file):
                position = await self._emit_block(
                    block.samples[:, channels], legs, position, file.rate_hz, start_s, emit
                )
                problem = block.error
            await self._end(call, legs, emit)
        if problem is not None:
            raise problem

    def _channels(self, file: AudioFile) -> list[int]:
        wanted = self._settings.channels
        if wanted is None:
            return list(range(file.channels))
        missing = [channel for channel in wanted if channel >= file.channels]
        if missing:
            raise AudioFileError(
                str(file.path), f"no channel {missing[0]}; it has 0 to {file.channels - 1}"
            )
        return list(wanted)

    async def _start(self, call: str, legs: tuple[str, ...], rate_hz: int, emit: Emit) -> None:
        now = self._clock.monotonic()
        await emit(CallStarted(self.name, call, now))
        for index, leg in enumerate(legs):
            role = self._role(index)
            self._legs_active += 1
            self._legs_started += 1
            await emit(LegStarted(self.name, call, leg, role, "file", rate_hz, now, index))

    def _role(self, index: int) -> LegRole:
        roles = self._settings.channel_roles
        return roles[index] if index < len(roles) else self._settings.role

    async def _emit_block(
        self,
        samples: SampleArray,
        legs: tuple[str, ...],
        position: int,
        rate_hz: int,
        start_s: float,
        emit: Emit,
    ) -> int:
        """Emit ``[frames, legs]`` in chunks, each when its last sample is due; the new position."""
        columns = np.ascontiguousarray(samples.T)
        columns.flags.writeable = False
        chunk = max(1, round(self._chunk_s * rate_hz))
        for begin in range(0, columns.shape[1], chunk):
            end = min(begin + chunk, columns.shape[1])
            if self._settings.speed:
                due_s = (position + end) / rate_hz / self._settings.speed
                await self._clock.sleep_until(start_s + due_s)
            else:
                await asyncio.sleep(0)  # as fast as possible, yet others get their turn
            now = self._clock.monotonic()
            for leg, column in zip(legs, columns, strict=True):
                await emit(Audio(leg, position + begin, column[begin:end], now))
            self._chunks += 1
            self._last_audio_at = now
        return position + len(samples)

    async def _end(self, call: str, legs: tuple[str, ...], emit: Emit) -> None:
        now = self._clock.monotonic()
        for leg in legs:
            self._legs_active -= 1
            await emit(LegEnded(leg, EndReason.HANGUP, now))
        await emit(CallEnded(call, EndReason.HANGUP, now))


async def _blocks(file: AudioFile) -> AsyncIterator[_Block]:
    """Block by block, read beside the event loop: disks and network shares may stall."""
    frames = round(BLOCK_S * file.rate_hz)
    while True:
        block = await run_detached(lambda: _read(file, frames), _THREAD)
        yield block
        if block.error is not None or len(block.samples) < frames:
            return


def _close(file: AudioFile) -> None:
    with file:
        pass


def _read(file: AudioFile, frames: int) -> _Block:
    try:
        samples = file.read(frames)
        return _Block(samples, file.truncation() if len(samples) < frames else None)
    except AudioFileError as err:
        return _Block(np.zeros((0, file.channels), dtype=np.int16), err)


def _reason(err: Exception) -> str:
    """What libsndfile said, without the file name that the message already has."""
    text = str(err.error_string if isinstance(err, soundfile.LibsndfileError) else err)
    if "SF_INFO struct incomplete" in text:
        return "its header says 0 Hz or 0 channels"
    return text.rstrip(".")
