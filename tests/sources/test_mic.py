"""The microphone: a real PortAudio capture through a private PulseAudio, and what can go wrong."""

from __future__ import annotations

import asyncio
import builtins
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from streamguard.clock import SystemClock
from streamguard.errors import MissingExtraError, SourceError
from streamguard.events import Audio, CallStarted, Gap, GapReason, LegStarted, SourceUp
from streamguard.sources import mic
from streamguard.sources.mic import MicSource, list_devices
from streamguard.sources.settings import MicSettings
from tests.sources.collect import Collector, running, samples_of

RATE_HZ = 16_000


def source_of(**values: Any) -> MicSource:
    settings = MicSettings.model_validate({"name": "desk", "rate_hz": RATE_HZ, **values})
    return MicSource(settings, SystemClock())


# A real sound system.


def skip_without_sound_system() -> None:
    if importlib.util.find_spec("sounddevice") is None:
        pytest.skip("the extra 'mic' is not installed")
    for name in ("pulseaudio", "paplay"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
    if not list(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")):
        pytest.skip("libasound2-plugins is not installed: PortAudio cannot reach PulseAudio")


@pytest.fixture
async def pulse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A PulseAudio of our own, whose default input hears what is played to its default output."""
    skip_without_sound_system()
    socket = tmp_path / "pulse.sock"
    for variable, value in {
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path),
        "PULSE_SERVER": f"unix:{socket}",
        "PULSE_LATENCY_MSEC": "20",
    }.items():
        monkeypatch.setenv(variable, value)
    sink = f"module-null-sink sink_name=quiet rate={RATE_HZ} channels=1 format=s16le"
    daemon = await asyncio.create_subprocess_exec(
        "pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1",
        "--log-level=error",
        "-L", f"module-native-protocol-unix socket={socket} auth-anonymous=1",
        "-L", sink,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(10):
            while not socket.exists():  # noqa: ASYNC110  # a file appears unannounced
                await asyncio.sleep(0.02)
        yield daemon
    finally:
        if daemon.returncode is None:
            daemon.kill()
        await daemon.wait()


@pytest.mark.peer
async def test_what_is_played_is_captured(
    pulse: asyncio.subprocess.Process, tmp_path: Path
) -> None:
    path = tmp_path / "noise.wav"
    played = np.random.default_rng(1).integers(-12_000, 12_000, RATE_HZ // 2).astype(np.int16)
    soundfile.write(path, played, RATE_HZ)
    source = source_of(device="pulse", role="caller")
    async with running(source) as collector:
        await collector.until(lambda: bool(collector.of(Audio)))
        player = await asyncio.create_subprocess_exec("paplay", path)
        assert await player.wait() == 0
        began = len(collector.events)
        await collector.until(lambda: len(collector.events) > began + 20)
        assert source.stats().legs_active == 1
    assert [type(event) for event in collector.events[:3]] == [SourceUp, CallStarted, LegStarted]
    (leg,) = collector.legs()
    assert (leg.codec, leg.rate_hz, leg.role.value) == ("mic", RATE_HZ, "caller")
    heard = samples_of(collector.events, leg.leg)
    window = played[2_000:5_000].astype(np.float64)
    match = np.correlate(heard, window, mode="valid")
    found = heard[int(np.argmax(match)) :][: len(window)]
    assert np.corrcoef(found, window)[0, 1] > 0.99
    stats = source.stats()
    assert (stats.legs_active, stats.legs_started) == (0, 1)
    assert stats.received >= len(collector.of(Audio))


@pytest.mark.peer
async def test_unplugging_is_a_source_error(
    pulse: asyncio.subprocess.Process,
) -> None:
    source = source_of(device="pulse", stall_s=5)
    collector = Collector()
    task = asyncio.create_task(source.run(collector.emit))
    await asyncio.wait(
        {task, asyncio.create_task(collector.until(lambda: bool(collector.of(Audio))))},
        return_when=asyncio.FIRST_COMPLETED,
    )
    pulse.kill()
    with pytest.raises(SourceError, match="source desk: the device has stopped"):
        await task
    assert collector.of(Audio)
    assert source.stats().legs_active == 0


@pytest.mark.peer
async def test_devices_are_listed_with_what_they_offer(pulse: asyncio.subprocess.Process) -> None:
    devices = await asyncio.to_thread(list_devices)
    (device,) = (device for device in devices if device.name == "pulse")
    assert device.host_api == "ALSA"
    assert device.channels >= 1
    assert device.default_rate_hz > 0


@pytest.mark.peer
async def test_a_device_that_does_not_exist_is_a_source_error(
    pulse: asyncio.subprocess.Process,
) -> None:
    with pytest.raises(SourceError, match="no such microphone"):
        await source_of(device="no such microphone").run(Collector().emit)


# A sound system of ours, for what a real one does not do on demand.


class FakeStream:
    """Stands for sounddevice.InputStream; the test plays PortAudio's thread."""

    def __init__(self, **options: Any) -> None:
        self.samplerate = float(options["samplerate"])
        self.callback = options["callback"]
        self.finished_callback = options["finished_callback"]
        self.closed = False

    def start(self) -> None:
        pass

    def close(self, ignore_errors: bool = True) -> None:
        self.closed = True

    def deliver(self, samples: npt.NDArray[np.int16], *, overflow: bool = False) -> None:
        """One callback, on a thread that is not the event loop's."""
        flags = SimpleNamespace(input_overflow=True) if overflow else None
        block = samples.reshape(-1, 1)
        thread = threading.Thread(target=self.callback, args=(block, len(block), None, flags))
        thread.start()
        thread.join()


class FakeSound:
    """Stands for the module sounddevice."""

    class PortAudioError(Exception):
        pass

    def __init__(self) -> None:
        self.streams: list[FakeStream] = []
        self.may_open = threading.Event()
        self.may_open.set()

    def InputStream(self, **options: Any) -> FakeStream:  # sounddevice's name
        self.may_open.wait(5)
        self.streams.append(FakeStream(**options))
        return self.streams[-1]

    def _terminate(self) -> None:
        pass

    def _initialize(self) -> None:
        pass


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> FakeSound:
    fake = FakeSound()
    monkeypatch.setattr(mic, "_sounddevice", lambda: fake)
    return fake


def block(number: int) -> npt.NDArray[np.int16]:
    return np.full(320, number, np.int16)


async def test_blocks_are_copied_and_numbered(sound: FakeSound) -> None:
    async with running(source_of()) as collector:
        buffer = block(1)
        sound.streams[0].deliver(buffer)
        buffer[:] = 99  # PortAudio uses its buffer again
        sound.streams[0].deliver(buffer)
        await collector.until(lambda: len(collector.of(Audio)) == 2)
    (leg,) = collector.legs()
    heard = samples_of(collector.events, leg.leg)
    np.testing.assert_array_equal(heard, np.r_[block(1), block(99)])
    assert sound.streams[0].closed


async def test_a_busy_loop_costs_the_oldest_blocks_and_says_so(
    sound: FakeSound, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of()
    async with running(source) as collector:
        for number in range(mic.QUEUE_BLOCKS + 7):  # the loop gets no turn meanwhile
            sound.streams[0].deliver(block(number))
        await collector.until(lambda: len(collector.of(Audio)) == mic.QUEUE_BLOCKS)
        assert source.stats().dropped == {"overload": 7}
    gaps = [event for event in collector.events if isinstance(event, Gap)]
    assert [(gap.first_sample, gap.count, gap.reason) for gap in gaps] == [
        (0, 7 * 320, GapReason.OVERLOAD)
    ]


async def test_overflow_flags_are_counted(sound: FakeSound) -> None:
    source = source_of()
    async with running(source) as collector:
        sound.streams[0].deliver(block(0), overflow=True)
        await collector.until(lambda: bool(collector.of(Audio)))
        assert source.stats().dropped == {"overflow": 1}
    assert source.stats().dropped == {"overflow": 1}


async def test_a_driver_that_falls_silent_is_a_source_error(sound: FakeSound) -> None:
    with pytest.raises(SourceError, match=r"no audio for 0\.05 s"):
        await source_of(stall_s=0.05).run(Collector().emit)
    assert sound.streams[0].closed


async def test_what_came_before_the_end_is_passed_on(sound: FakeSound) -> None:
    collector = Collector()
    task = asyncio.create_task(source_of().run(collector.emit))
    await collector.until(lambda: bool(collector.legs()))
    sound.streams[0].deliver(block(5))
    sound.streams[0].finished_callback()
    with pytest.raises(SourceError, match="stopped"):
        await task
    assert len(collector.of(Audio)) == 1


async def test_a_device_that_opens_after_the_stop_is_closed_again(sound: FakeSound) -> None:
    sound.may_open.clear()
    task = asyncio.create_task(source_of().run(Collector().emit))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.sleep(0)
    sound.may_open.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [stream.closed for stream in sound.streams] == [True]


async def test_a_driver_that_hangs_in_closing_holds_no_thread_that_is_waited_for(
    sound: FakeSound,
) -> None:
    collector = Collector()
    task = asyncio.create_task(source_of().run(collector.emit))
    await collector.until(lambda: bool(collector.legs()))
    may_close, closing = threading.Event(), []

    def close(ignore_errors: bool = True) -> None:
        closing.append(threading.current_thread())
        may_close.wait(5)

    sound.streams[0].close = close  # type: ignore[method-assign]  # one stream's own
    for _ in range(2):  # asked to stop, then told: what the shutdown does to a task that is stuck
        task.cancel()
        await asyncio.sleep(0.05)
    assert task.cancelled()
    (thread,) = closing
    assert thread.daemon
    may_close.set()
    await asyncio.to_thread(thread.join, 5)


@pytest.mark.parametrize("error", [ImportError("sounddevice"), OSError("PortAudio not found")])
async def test_without_the_package_or_the_library_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "sounddevice":
            raise error
        return real_import(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"streamguard\[mic\]"):
        await source_of().run(Collector().emit)
    with pytest.raises(MissingExtraError, match=r"streamguard\[mic\]"):
        list_devices()


def test_importing_the_sources_loads_no_sound_card() -> None:
    code = (
        "import sys, streamguard.sources.mic, streamguard.sources.rtp, streamguard.sources.file;"
        "sys.exit('sounddevice' in sys.modules or 'torch' in sys.modules)"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
