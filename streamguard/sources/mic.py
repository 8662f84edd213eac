"""A sound card's input through PortAudio (sounddevice, optional extra ``mic``).

PortAudio calls back on a thread of its own; the callback copies the samples, counts, and returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamguard.clock import Clock
from streamguard.detached import run_detached
from streamguard.errors import MissingExtraError, SourceError
from streamguard.events import Audio, CallStarted, Gap, GapReason, LegStarted, SourceUp
from streamguard.sources.base import Emit, Refusal, SourceStats, new_id
from streamguard.sources.settings import MicSettings

if TYPE_CHECKING:
    import numpy.typing as npt

logger = logging.getLogger(__name__)

BLOCK_S = 0.02
"""Asked of PortAudio per callback."""
QUEUE_BLOCKS = 250
"""5 s between callback and event loop; when it is full the oldest block goes."""

_THREAD = "streamguard-mic"
"""A driver may hang in opening and closing: the process ends without it."""

_portaudio = threading.Lock()
"""PortAudio's opening and closing is not thread-safe."""
_open_streams = 0


@dataclass(frozen=True, slots=True)
class InputDevice:
    """One device that can record."""

    index: int
    name: str
    host_api: str
    channels: int
    default_rate_hz: int
    is_default: bool


def list_devices() -> list[InputDevice]:
    """What can be recorded from, now. Raises MissingExtraError; SourceError if PortAudio fails."""
    sd = _sounddevice()
    with _portaudio:
        _refresh(sd)
        try:
            host_apis = sd.query_hostapis()
            devices = sd.query_devices()
        except sd.PortAudioError as err:
            raise SourceError("sound card", f"cannot list devices: {err}") from err
        default = sd.default.device[0]
    return [
        InputDevice(
            index=index,
            name=str(device["name"]),
            host_api=str(host_apis[device["hostapi"]]["name"]),
            channels=int(device["max_input_channels"]),
            default_rate_hz=round(device["default_samplerate"]),
            is_default=index == default,
        )
        for index, device in enumerate(devices)
        if device["max_input_channels"] > 0
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """What one callback brought."""

    first_sample: int
    samples: npt.NDArray[np.int16]
    received_at: float


class _Capture:
    """Where the callback thread leaves blocks, and the event loop takes them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock
        self._blocks: deque[_Block] = deque(maxlen=QUEUE_BLOCKS)
        self._position = 0
        self._wake_is_due = False
        self._arrived = asyncio.Event()
        self.received = 0
        self.drops: Counter[str] = Counter()
        self.finished = False

    def callback(self, indata: npt.NDArray[np.int16], frames: int, _time: Any, flags: Any) -> None:
        """On PortAudio's thread: nothing here may raise or wait."""
        self.received += 1
        if flags:
            self.drops["overflow" if flags.input_overflow else "other_flag"] += 1
        if len(self._blocks) == QUEUE_BLOCKS:
            self.drops["overload"] += 1  # the deque lets the oldest go
        samples = indata[:, 0].copy()
        samples.flags.writeable = False
        self._blocks.append(_Block(self._position, samples, self._clock.monotonic()))
        self._position += frames
        self._wake()

    def finished_callback(self) -> None:
        """On PortAudio's thread, when the stream is over for whatever reason."""
        self.finished = True
        self._wake()

    async def take(self, timeout_s: float) -> list[_Block]:
        """Blocks as they come; empty when the stream is over. Raises TimeoutError."""
        while not self._blocks:
            if self.finished:
                return []
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
            self._arrived.clear()
        return [self._blocks.popleft() for _ in range(len(self._blocks))]

    def _wake(self) -> None:
        """At most one call waits in the loop, however long the loop is busy."""
        if self._wake_is_due:
            return
        self._wake_is_due = True
        try:
            self._loop.call_soon_threadsafe(self._on_wake)
        except RuntimeError:  # the loop has closed before the stream: nobody is left to wake
            logger.debug("audio after the event loop has closed")

    def _on_wake(self) -> None:
        self._wake_is_due = False
        self._arrived.set()


class MicSource:
    """One call with one leg, from start to stop. Unplugging, and silence of the driver, end it."""

    def __init__(self, settings: MicSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._past_received = 0
        self._past_drops: Counter[str] = Counter()
        self._capture: _Capture | None = None
        self._legs_started = 0
        self._last_audio_at: float | None = None

    @property
    def name(self) -> str:
        return self._settings.name

    def refuse_calls(self, why: Refusal | None) -> None:
        """Nobody calls here."""

    def stats(self) -> SourceStats:
        capture = self._capture
        drops = self._past_drops.copy()
        if capture is not None:
            drops.update(dict(capture.drops))  # copied in one step: its thread goes on counting
        return SourceStats(
            received=self._past_received + (capture.received if capture else 0),
            dropped=dict(drops),
            legs_active=1 if capture else 0,
            legs_started=self._legs_started,
            last_audio_at=self._last_audio_at,
        )

    async def run(self, emit: Emit) -> None:
        """Capture until cancelled; raises SourceError when the device cannot be had or goes."""
        capture = _Capture(asyncio.get_running_loop(), self._clock)
        opening = asyncio.create_task(run_detached(lambda: self._open(capture), _THREAD))
        try:
            stream = await asyncio.shield(opening)
        except asyncio.CancelledError:
            with contextlib.suppress(SourceError, MissingExtraError):
                stream = await opening
                await run_detached(lambda: _close(stream), _THREAD)
            raise
        self._capture = capture
        try:
            await self._run(capture, round(stream.samplerate), emit)
        finally:
            self._capture = None
            self._past_received += capture.received
            self._past_drops += capture.drops
            # Shielded: a stream that is not closed keeps its thread and the device.
            await asyncio.shield(run_detached(lambda: _close(stream), _THREAD))

    async def _run(self, capture: _Capture, rate_hz: int, emit: Emit) -> None:
        settings = self._settings
        now = self._clock.monotonic()
        call, leg = new_id(), new_id()
        self._legs_started += 1
        await emit(SourceUp(self.name, f"{rate_hz} Hz"))
        await emit(CallStarted(self.name, call, now))
        await emit(LegStarted(self.name, call, leg, settings.role, "mic", rate_hz, now))
        position = 0
        while True:
            try:
                blocks = await capture.take(settings.stall_s)
            except TimeoutError as err:
                reason = f"no audio for {settings.stall_s:g} s"
                raise SourceError(self.name, reason) from err
            if not blocks:
                raise SourceError(self.name, "the device has stopped (unplugged?)")
            for block in blocks:
                self._last_audio_at = block.received_at
                missing = block.first_sample - position
                if missing:
                    gap = Gap(leg, position, missing, GapReason.OVERLOAD, block.received_at)
                    await emit(gap)
                position = block.first_sample + len(block.samples)
                await emit(Audio(leg, block.first_sample, block.samples, block.received_at))

    def _open(self, capture: _Capture) -> Any:
        """A running stream. On a thread: opening a device may take a second."""
        global _open_streams  # PortAudio is one per process, and so is the count of its users
        sd = _sounddevice()
        settings = self._settings
        with _portaudio:
            _refresh(sd)
            try:
                stream = sd.InputStream(
                    samplerate=settings.rate_hz,
                    blocksize=round(BLOCK_S * settings.rate_hz),
                    device=settings.device,
                    channels=1,
                    dtype="int16",
                    latency=settings.latency,
                    callback=capture.callback,
                    finished_callback=capture.finished_callback,
                )
            except (sd.PortAudioError, ValueError) as err:
                reason = f"cannot open device {settings.device!r}: {err}"
                raise SourceError(self.name, reason) from err
            try:
                stream.start()
            except sd.PortAudioError as err:
                stream.close()
                raise SourceError(self.name, f"cannot start: {err}") from err
            _open_streams += 1
        return stream


def _close(stream: Any) -> None:
    global _open_streams
    with _portaudio:
        stream.close(ignore_errors=True)
        _open_streams -= 1


def _refresh(sd: Any) -> None:
    """Read the device list anew: PortAudio freezes it when it starts, so that a replugged device
    would never be found. Only while no stream is open, for it would stop them all."""
    if _open_streams == 0:
        # Underscored, yet the way that sounddevice's author gives for this.
        sd._terminate()
        sd._initialize()


def _sounddevice() -> Any:
    """The module, loaded on first use. OSError: the package is there, the C library is not."""
    try:
        import sounddevice
    except ImportError as err:
        raise MissingExtraError("a sound card", "mic") from err
    except OSError as err:
        detail = "and the PortAudio library, Debian: libportaudio2"
        raise MissingExtraError("a sound card", "mic", detail) from err
    return sounddevice
