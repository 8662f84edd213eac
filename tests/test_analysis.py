"""Files through the path of live audio: bad ones, odd ones, and any chunking of the same."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile as sf

from streamguard.analysis import analyst
from streamguard.clock import SystemClock, VirtualClock
from streamguard.commands.report import FileReport
from streamguard.config import load_config
from streamguard.errors import AudioFileError
from streamguard.events import (
    Audio,
    CallEnded,
    CallStarted,
    EndReason,
    LegEnded,
    LegRole,
    LegStarted,
)
from streamguard.sources.base import Emit
from streamguard.sources.file import FileSource
from streamguard.sources.settings import FileSettings
from streamguard.verdict.scores import Rejection, State

Samples = npt.NDArray[np.int16] | npt.NDArray[np.float32]


def analysed(config: Path, *files: Path) -> list[FileReport]:
    """The reports of files, by one analyst."""

    async def work() -> list[FileReport]:
        async with analyst(load_config(config)) as models:
            return [(await models.analyse(str(file))).report for file in files]

    return asyncio.run(work())


def refusal(config: Path, file: Path) -> str:
    with pytest.raises(AudioFileError) as caught:
        analysed(config, file)
    assert caught.value.file == str(file)
    return caught.value.reason


@pytest.fixture(scope="module")
def speech(voice: Path) -> npt.NDArray[np.int16]:
    samples, _ = sf.read(voice, dtype="int16")
    return np.asarray(samples)


def written(
    folder: Path, name: str, samples: Samples, rate_hz: int = 16000, subtype: str = "PCM_16"
) -> Path:
    sf.write(folder / name, samples, rate_hz, subtype=subtype)
    return folder / name


# What cannot be analysed


def wav_header(rate_hz: int, channels: int = 1) -> bytes:
    fmt = struct.pack("<HHIIHH", 1, channels, rate_hz, 2 * channels * rate_hz, 2 * channels, 16)
    data = bytes(3200)
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt
    body += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty: 0 bytes"),
        (b"Dear Sir or Madam,\n", "not readable as audio"),
        (bytes(4096), "not readable as audio"),
        (wav_header(16000)[:20], "not readable as audio"),
        (wav_header(0), "its header says 0 Hz or 0 channels"),
        (wav_header(1), "1 Hz; allowed: 4000 to 192000 Hz"),
        (wav_header(384_000), "384000 Hz; allowed: 4000 to 192000 Hz"),
        (wav_header(16000, 100), "100 channels; allowed: 1 to 16"),
    ],
    ids=["empty", "text", "zeros", "header cut", "0 Hz", "1 Hz", "384 kHz", "100 channels"],
)
def test_what_is_no_audio_is_refused_with_its_reason(
    content: bytes, words: str, small_models: Path, tmp_path: Path
) -> None:
    file = tmp_path / "x.wav"
    file.write_bytes(content)
    assert words in refusal(small_models, file)


def test_what_is_no_file_is_refused_with_its_reason(small_models: Path, tmp_path: Path) -> None:
    assert refusal(small_models, tmp_path) == "is a directory"
    assert refusal(small_models, tmp_path / "none.wav") == "no such file"
    assert refusal(small_models, tmp_path / ("n" * 300)) == "file name too long"
    assert refusal(small_models, Path("/dev/zero")) == "not a regular file"


def test_a_file_that_is_not_a_number_from_the_start_is_refused(
    small_models: Path, tmp_path: Path
) -> None:
    nan = np.full(32000, np.nan, np.float32)
    file = written(tmp_path, "nan.wav", nan, subtype="FLOAT")
    assert refusal(small_models, file) == "NaN or infinite sample at 0.000 s"


def test_what_comes_before_a_nan_is_scored_and_the_report_says_so(
    small_models: Path, tmp_path: Path, speech: npt.NDArray[np.int16]
) -> None:
    samples = speech.astype(np.float32) / np.float32(32768)
    samples[72000] = np.nan
    (report,) = analysed(small_models, written(tmp_path, "n.wav", samples, subtype="FLOAT"))
    assert report.error == "NaN or infinite sample at 4.500 s"
    assert report.worst.windows[-1].end_s <= 4.5


def test_a_truncated_file_is_scored_as_far_as_it_goes(
    small_models: Path, tmp_path: Path, voice: Path
) -> None:
    whole = voice.read_bytes()
    file = tmp_path / "cut.wav"
    file.write_bytes(whole[: len(whole) * 3 // 4])
    (report,) = analysed(small_models, file)
    assert report.error is not None
    assert report.error.startswith("truncated: only 4.")
    assert report.worst.windows[-1].end_s == 4.0


def test_a_bad_file_does_not_change_what_is_said_of_the_next(
    small_models: Path, tmp_path: Path, voice: Path
) -> None:
    cut = tmp_path / "cut.wav"
    cut.write_bytes(voice.read_bytes()[:100_000])

    async def work() -> tuple[FileReport, FileReport]:
        async with analyst(load_config(small_models)) as models:
            before = (await models.analyse(str(voice))).report
            with pytest.raises(AudioFileError):
                await models.analyse(str(tmp_path / "none.wav"))
            await models.analyse(str(cut))
            return before, (await models.analyse(str(voice))).report

    before, after = asyncio.run(work())
    assert plain(before) == plain(after)


# What can


@pytest.mark.parametrize("rate_hz", [4000, 8000, 11025, 22050, 44100, 48000, 192000])
def test_any_rate_is_analysed_in_the_time_of_the_file(
    rate_hz: int, small_models: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 3000, 41 * rate_hz // 10).astype(np.int16)
    (report,) = analysed(small_models, written(tmp_path, "x.wav", noise, rate_hz))
    assert report.duration_s == pytest.approx(4.1, abs=1e-3)
    # Where half a second is no whole number of samples, the last hop can come with the next block.
    ends = [3.0, 3.5, 4.0] if rate_hz % 2 == 0 else [3.0, 3.5]
    assert [window.end_s for window in report.worst.windows] == ends


@pytest.mark.parametrize(
    ("name", "rate_hz", "subtype"),
    [
        ("x.flac", 16000, "PCM_16"),
        ("x.ogg", 16000, "VORBIS"),
        ("x.mp3", 16000, "MPEG_LAYER_III"),
        ("x.au", 8000, "ULAW"),
        ("x.wav", 8000, "ALAW"),
        ("x.aiff", 48000, "PCM_24"),
        ("x.wav", 16000, "DOUBLE"),
    ],
)
def test_any_format_of_libsndfile_is_analysed(
    name: str,
    rate_hz: int,
    subtype: str,
    small_models: Path,
    tmp_path: Path,
    speech: npt.NDArray[np.int16],
) -> None:
    samples = np.interp(np.arange(0, 4, 1 / rate_hz), np.arange(0, 6, 1 / 16000), speech)
    file = written(tmp_path, name, (samples / 32768).astype(np.float32), rate_hz, subtype)
    (report,) = analysed(small_models, file)
    assert report.duration_s == pytest.approx(4.0, abs=0.2)
    assert report.worst.verdict.state is State.SPOOF


def test_the_channels_of_a_file_are_legs_of_their_own_and_the_worst_speaks_for_it(
    small_models: Path, tmp_path: Path, speech: npt.NDArray[np.int16]
) -> None:
    both = np.stack([np.zeros_like(speech), speech], axis=1)
    (report,) = analysed(small_models, written(tmp_path, "stereo.wav", both))
    silent, spoken = report.legs
    assert {w.rejected for w in silent.windows} == {Rejection.SILENCE}
    assert silent.verdict.state is State.UNKNOWN
    assert spoken.verdict.state is State.SPOOF
    assert report.worst is spoken


def test_a_leg_alone_and_in_a_pair_is_said_the_same_of(
    small_models: Path, tmp_path: Path, speech: npt.NDArray[np.int16]
) -> None:
    both = np.stack([speech[::-1], speech], axis=1)
    pair, alone = analysed(
        small_models,
        written(tmp_path, "stereo.wav", both),
        written(tmp_path, "mono.wav", speech),
    )
    # To rounding: two legs share a batch, and a matrix of two rows is multiplied in other order.
    one, other = pair.legs[1], alone.legs[0]
    assert [w.llr for w in one.windows] == pytest.approx([w.llr for w in other.windows], abs=1e-5)
    assert [w.rejected for w in one.windows] == [w.rejected for w in other.windows]
    assert one.verdict.llr == pytest.approx(other.verdict.llr, abs=1e-5)
    assert one.verdict.net_speech_s == other.verdict.net_speech_s


def test_silence_is_unknown_never_bona_fide(small_models: Path, tmp_path: Path) -> None:
    file = written(tmp_path, "silence.wav", np.zeros(80000, np.int16))
    (report,) = analysed(small_models, file)
    assert report.worst.verdict.state is State.UNKNOWN
    assert report.worst.verdict.net_speech_s == 0
    assert {w.rejected for w in report.worst.windows} == {Rejection.SILENCE}
    assert {w.llr for w in report.worst.windows} == {None}


def test_a_file_shorter_than_a_window_is_scored_on_its_hops_and_says_so(
    small_models: Path, tmp_path: Path, speech: npt.NDArray[np.int16]
) -> None:
    (report,) = analysed(small_models, written(tmp_path, "short.wav", speech[:36000]))
    (window,) = report.worst.windows
    assert (window.start_s, window.end_s) == (0.0, 2.0)
    assert window.llr is not None
    assert report.notes == (
        "shorter than a window of 3 s: scored on the 2 s in whole hops of 0.5 s that it has",
    )


def test_a_file_shorter_than_a_hop_has_no_window_and_says_so(
    small_models: Path, tmp_path: Path, speech: npt.NDArray[np.int16]
) -> None:
    (report,) = analysed(small_models, written(tmp_path, "click.wav", speech[:7999]))
    assert report.worst.windows == ()
    assert report.worst.verdict.state is State.UNKNOWN
    assert report.notes == ("shorter than a hop of 0.5 s: there is nothing to be scored",)


def test_progress_counts_the_seconds_that_were_played(small_models: Path, voice: Path) -> None:
    told: list[float] = []

    async def work() -> None:
        async with analyst(load_config(small_models)) as models:
            await models.analyse(str(voice), told.append)

    asyncio.run(work())
    assert told == sorted(told)
    assert told[-1] == 6.0


def test_a_long_file_is_read_no_faster_than_it_is_scored(
    small_models: Path, tmp_path: Path
) -> None:
    file = written(tmp_path, "long.flac", np.zeros(300 * 8000, np.int16), 8000)
    ahead: list[float] = []

    async def work() -> FileReport:
        async with analyst(load_config(small_models)) as models:

            def played(seconds: float) -> None:
                ahead.append(seconds - 0.5 * models._worker.stats().processed)

            return (await models.analyse(str(file), played)).report

    assert len(asyncio.run(work()).worst.windows) == 595
    # One block in hand, a queue of four that waits, another four in the batch that is scored.
    assert max(ahead) <= 0.5 * (1 + 4 + 4)


# One path: however the samples come


def plain(report: FileReport) -> tuple[object, ...]:
    """What is said of the one leg, without its random id and when its last packet came."""
    (found,) = report.legs
    windows = [dataclasses.replace(w, leg="", received_at=0.0) for w in found.windows]
    return report.duration_s, dataclasses.replace(found.verdict, leg=""), windows, found.course


class _Packets:
    """In place of :class:`FileSource`: the same samples in packets of the sizes in ``sizes``."""

    samples: Samples
    sizes: tuple[int, ...]

    def __init__(self, settings: FileSettings, clock: VirtualClock, chunk_s: float) -> None:
        self._clock = clock

    async def run(self, emit: Emit) -> None:
        await emit(CallStarted("analyze", "call", 0.0))
        await emit(LegStarted("analyze", "call", "leg", LegRole.UNKNOWN, "file", 16000, 0.0, 0))
        at = 0
        for size in itertools.cycle(self.sizes):
            part = self.samples[at : at + size]
            if not len(part):
                break
            at += len(part)
            await self._clock.sleep_until(at / 16000)
            await emit(Audio("leg", at - len(part), part, at / 16000))
        await emit(LegEnded("leg", EndReason.HANGUP, at / 16000))
        await emit(CallEnded("call", EndReason.HANGUP, at / 16000))


@pytest.mark.parametrize("sizes", [(160,), (1000, 7, 16000), (8000,), (333,), (96000,)])
def test_the_windows_are_the_same_for_any_chunking_of_the_samples(
    sizes: tuple[int, ...],
    small_models: Path,
    voice: Path,
    speech: npt.NDArray[np.int16],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (expected,) = analysed(small_models, voice)
    assert len(expected.worst.windows) == 7
    monkeypatch.setattr(_Packets, "samples", speech, raising=False)
    monkeypatch.setattr(_Packets, "sizes", sizes, raising=False)
    monkeypatch.setattr("streamguard.analysis.FileSource", _Packets)
    (got,) = analysed(small_models, voice)
    assert plain(got) == plain(expected)


def test_a_replay_at_another_speed_gives_the_same_windows(
    small_models: Path, voice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (expected,) = analysed(small_models, voice)

    def quick(settings: FileSettings, clock: VirtualClock, chunk_s: float) -> FileSource:
        # On the real clock, in the packets of a telephone, as fast as they are taken.
        return FileSource(settings.model_copy(update={"speed": 0.0}), SystemClock())

    monkeypatch.setattr("streamguard.analysis.FileSource", quick)
    (got,) = analysed(small_models, voice)
    assert plain(got) == plain(expected)
