"""File replay: pace, channels, formats, and files that cannot be played."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from streamguard.clock import Clock, SystemClock, VirtualClock
from streamguard.errors import AudioFileError, SourceError
from streamguard.events import (
    Audio,
    CallEnded,
    CallStarted,
    EndReason,
    LegEnded,
    LegRole,
    SourceDown,
    SourceEvent,
    SourceUp,
)
from streamguard.sources.file import AudioFile, FileSource
from streamguard.sources.settings import FileSettings
from tests.sources.collect import Collector, samples_of


def noise(seconds: float, rate_hz: int, channels: int = 1) -> npt.NDArray[np.int16]:
    size = (round(seconds * rate_hz), channels)
    return np.random.default_rng(3).integers(-9_000, 9_000, size).astype(np.int16)


def source_of(*paths: Path, clock: Clock | None = None, **values: Any) -> FileSource:
    settings = FileSettings.model_validate({"name": "replay", "paths": paths, **values})
    return FileSource(settings, clock or VirtualClock())


async def replay(*paths: Path, **values: Any) -> Collector:
    collector = Collector()
    await source_of(*paths, **values).run(collector.emit)
    return collector


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "speech.wav"
    soundfile.write(path, noise(1.5, 16_000), 16_000, subtype="PCM_16")
    return path


async def test_a_file_is_one_call_from_start_to_hangup(wav: Path) -> None:
    events = (await replay(wav)).events
    assert [type(event) for event in (*events[:2], *events[-3:])] == [
        SourceUp,
        CallStarted,
        LegEnded,
        CallEnded,
        SourceDown,
    ]
    ended = events[-3]
    assert isinstance(ended, LegEnded)
    assert ended.reason is EndReason.HANGUP


async def test_the_samples_are_those_of_the_file_in_chunks_of_20_ms(wav: Path) -> None:
    collector = await replay(wav)
    (leg,) = collector.legs()
    assert (leg.codec, leg.rate_hz) == ("file", 16_000)
    expected, _ = soundfile.read(wav, dtype="int16")
    np.testing.assert_array_equal(samples_of(collector.events, leg.leg), expected)
    chunks = [e for e in collector.events if isinstance(e, Audio)]
    assert {len(chunk.samples) for chunk in chunks} == {320}
    assert all(chunk.samples.dtype == np.int16 for chunk in chunks)
    assert not any(chunk.samples.flags.writeable for chunk in chunks)


async def test_every_channel_is_a_leg_of_the_same_call(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    data = noise(0.5, 8_000, channels=2)
    soundfile.write(path, data, 8_000)
    collector = await replay(path, channel_roles=["caller", "callee"])
    legs = collector.legs()
    assert [(leg.index, leg.role) for leg in legs] == [(0, LegRole.CALLER), (1, LegRole.CALLEE)]
    assert len({leg.call for leg in legs}) == 1
    for channel, leg in enumerate(legs):
        np.testing.assert_array_equal(samples_of(collector.events, leg.leg), data[:, channel])


async def test_chosen_channels_only_are_played(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    data = noise(0.1, 8_000, channels=3)
    soundfile.write(path, data, 8_000)
    collector = await replay(path, channels=[2], role="mixed")
    (leg,) = collector.legs()
    assert (leg.index, leg.role) == (0, LegRole.MIXED)
    np.testing.assert_array_equal(samples_of(collector.events, leg.leg), data[:, 2])
    with pytest.raises(AudioFileError, match="no channel 3; it has 0 to 2"):
        await replay(path, channels=[3])


@pytest.mark.parametrize(
    ("suffix", "subtype", "rate_hz"),
    [
        ("wav", "ULAW", 8_000),
        ("wav", "ALAW", 8_000),
        ("wav", "PCM_24", 44_100),
        ("wav", "FLOAT", 192_000),
        ("wav", "PCM_U8", 11_025),
        ("flac", "PCM_16", 48_000),
        ("ogg", "VORBIS", 22_050),
        ("aiff", "PCM_16", 96_000),
    ],
)
async def test_any_format_and_rate_is_played_as_libsndfile_decodes_it(
    tmp_path: Path, suffix: str, subtype: str, rate_hz: int
) -> None:
    path = tmp_path / f"speech.{suffix}"
    soundfile.write(path, noise(0.33, rate_hz), rate_hz, subtype=subtype)
    collector = await replay(path)
    (leg,) = collector.legs()
    audio = [event for event in collector.events if isinstance(event, Audio)]
    expected, _ = soundfile.read(path, dtype=audio[0].samples.dtype.name)
    np.testing.assert_array_equal(samples_of(collector.events, leg.leg), expected)
    assert leg.rate_hz == rate_hz


async def test_replay_is_paced_by_the_clock_and_stamped_with_it(wav: Path) -> None:
    for speed in (1.0, 4.0):
        clock = VirtualClock()
        collector = await replay(wav, clock=clock, speed=speed)
        assert clock.monotonic() == pytest.approx(1.5 / speed)
        audio = [event for event in collector.events if isinstance(event, Audio)]
        due = [(e.first_sample + len(e.samples)) / 16_000 / speed for e in audio]
        assert [event.received_at for event in audio] == pytest.approx(due)


async def test_real_time_is_not_outrun(tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, noise(0.2, 8_000), 8_000)
    began = time.monotonic()
    await replay(path, clock=SystemClock())
    assert time.monotonic() - began >= 0.2


async def test_speed_0_waits_for_the_consumer_only(wav: Path) -> None:
    ahead: list[int] = []
    taken = 0

    async def emit(event: SourceEvent) -> None:
        nonlocal taken
        if isinstance(event, Audio):
            ahead.append(event.first_sample // 320 - taken)
            await asyncio.sleep(0)
            taken += 1

    settings = FileSettings(name="replay", paths=(wav,), speed=0)
    await FileSource(settings, SystemClock()).run(emit)
    assert len(ahead) == 75
    assert set(ahead) == {0}


async def test_loop_plays_again_as_a_new_call_until_cancelled(wav: Path) -> None:
    collector = Collector()
    task = asyncio.create_task(source_of(wav, loop=True).run(collector.emit))
    await collector.until(lambda: len(collector.of(CallStarted)) == 3)
    task.cancel()
    await asyncio.wait([task])
    assert len({leg.call for leg in collector.legs()}) == 3


async def test_a_file_is_not_closed_under_a_read_that_nobody_waits_for(
    wav: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, may_go, closed = threading.Event(), threading.Event(), threading.Event()
    events: list[str] = []
    read, close = soundfile.SoundFile.read, soundfile.SoundFile.close

    def slow_read(self: soundfile.SoundFile, *args: Any, **kwargs: Any) -> Any:
        reading.set()
        may_go.wait(5)
        samples = read(self, *args, **kwargs)
        events.append("read")
        return samples

    def noted_close(self: soundfile.SoundFile) -> None:
        if not self.closed:
            events.append("closed")
        close(self)
        closed.set()

    monkeypatch.setattr(soundfile.SoundFile, "read", slow_read)
    monkeypatch.setattr(soundfile.SoundFile, "close", noted_close)
    task = asyncio.create_task(source_of(wav).run(Collector().emit))
    assert await asyncio.to_thread(reading.wait, 5)
    task.cancel()
    await asyncio.wait([task])
    del task
    may_go.set()
    assert await asyncio.to_thread(closed.wait, 5)
    assert events == ["read", "closed"]


def test_a_disk_that_stalls_does_not_hold_the_end_of_the_process(wav: Path) -> None:
    script = """
        import asyncio, sys, threading
        from pathlib import Path
        import soundfile
        from streamguard.clock import SystemClock
        from streamguard.sources.file import FileSource
        from streamguard.sources.settings import FileSettings

        soundfile.SoundFile.read = lambda *args, **kwargs: threading.Event().wait()

        async def ignore(event):
            pass

        async def main():
            source = FileSource(FileSettings(name="f", paths=(Path(sys.argv[1]),)), SystemClock())
            task = asyncio.create_task(source.run(ignore))
            await asyncio.sleep(0.2)
            task.cancel()
            await asyncio.wait([task])

        asyncio.run(main())
    """
    ended = subprocess.run(
        (sys.executable, "-c", textwrap.dedent(script), str(wav)),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=15,
    )
    assert ended.returncode == 0


async def test_counters_tell_what_was_played(wav: Path) -> None:
    source = source_of(wav, wav)
    await source.run(Collector().emit)
    stats = source.stats()
    assert (stats.received, stats.legs_started, stats.legs_active) == (150, 2, 0)
    assert stats.last_audio_at == pytest.approx(3.0)


def broken(kind: str, folder: Path) -> Path:
    """A file that cannot be played, by name."""
    path = folder / f"{kind}.wav"
    good = folder / "good.wav"
    soundfile.write(good, noise(1, 16_000), 16_000)
    data = bytearray(good.read_bytes())
    match kind:
        case "missing":
            pass
        case "empty":
            path.touch()
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "text":
            path.write_text("this is not audio\n" * 50)
        case "no samples":
            soundfile.write(path, noise(0, 16_000), 16_000)
        case "half a header":
            path.write_bytes(data[:30])
        case "0 Hz":
            data[24:28] = struct.pack("<I", 0)
            path.write_bytes(data)
        case "1 Hz":
            data[24:28] = struct.pack("<I", 1)
            path.write_bytes(data)
        case "100 channels":
            soundfile.write(path, noise(0.01, 16_000, channels=100), 16_000)
        case "NaN" | "infinite":
            samples = np.zeros(16_000, np.float32)
            samples[8_000] = np.nan if kind == "NaN" else np.inf
            soundfile.write(path, samples, 16_000, subtype="FLOAT")
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "no such file"),
        ("empty", "empty: 0 bytes"),
        ("directory", "is a directory"),
        ("fifo", "not a regular file"),
        ("text", "not readable as audio"),
        ("no samples", "empty: no samples"),
        ("half a header", "not readable as audio"),
        ("0 Hz", "not readable as audio"),
        ("1 Hz", "1 Hz; allowed: 4000 to 192000 Hz"),
        ("100 channels", "100 channels; allowed: 1 to 16"),
        ("NaN", r"NaN or infinite sample at 0\.500 s"),
        ("infinite", r"NaN or infinite sample at 0\.500 s"),
    ],
)
async def test_a_file_that_cannot_be_played_is_named_with_the_reason(
    tmp_path: Path, kind: str, reason: str
) -> None:
    path = broken(kind, tmp_path)
    with pytest.raises(AudioFileError, match=reason) as caught:
        await replay(path)
    assert caught.value.file == str(path)


async def test_the_other_files_are_still_played(tmp_path: Path, wav: Path) -> None:
    collector = Collector()
    with pytest.raises(AudioFileError, match="text"):
        await source_of(broken("text", tmp_path), wav).run(collector.emit)
    (leg,) = collector.legs()
    assert len(samples_of(collector.events, leg.leg)) == 24_000
    assert collector.of(CallEnded)
    with pytest.raises(SourceError, match=r"(?s)text.*missing"):
        await replay(broken("text", tmp_path), wav, broken("missing", tmp_path))


async def test_loop_ends_with_an_error_when_no_file_can_be_played(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="no such file"):
        await replay(tmp_path / "none.wav", loop=True)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
async def test_of_a_truncated_file_what_is_there_is_played_and_the_rest_is_reported(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"cut.{suffix}"
    soundfile.write(path, noise(10, 16_000), 16_000)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    collector = Collector()
    with pytest.raises(AudioFileError, match=r"truncated|broken after"):
        await source_of(path).run(collector.emit)
    (leg,) = collector.legs()
    played = len(samples_of(collector.events, leg.leg))
    assert 3 * 16_000 < played < 6 * 16_000
    assert collector.of(CallEnded)


@pytest.fixture
def piped_wav(tmp_path: Path, wav: Path) -> Path:
    """As a program leaves it that could not go back to fill in the length."""
    data = bytearray(wav.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    path = tmp_path / "piped.wav"
    path.write_bytes(data)
    return path


async def test_a_wav_written_to_a_pipe_is_not_taken_for_truncated(piped_wav: Path) -> None:
    (leg,) = (await replay(piped_wav)).legs()
    assert leg.rate_hz == 16_000


def test_a_ten_hour_file_is_opened_and_read_without_loading_it(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    seconds = 36_000
    size = seconds * 8_000 * 2
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1,
                         8_000, 16_000, 2, 16, b"data", size)  # fmt: skip
    with path.open("wb") as file:  # sparse: takes no disk
        file.write(header)
        file.truncate(44 + size)
    with AudioFile(path) as audio:
        assert audio.duration_s == seconds
        assert audio.read(16_000).shape == (16_000, 1)
        assert audio.frames_read == 16_000
