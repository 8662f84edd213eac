from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamguard.demo import synthesis, voices
from streamguard.demo.legs import PACKET_SAMPLES, RATE_HZ, DemoError, DemoLeg, MarkKind, Truth
from streamguard.demo.synthesis import SYNTHESIZERS, installed

needs_a_synthesizer = pytest.mark.skipif(
    not any(shutil.which(s.program) for s in SYNTHESIZERS),
    reason="no speech synthesizer is installed",
)
needs_alsa_sounds = pytest.mark.skipif(
    not voices.ALSA_SOUNDS.is_dir(), reason="the recordings of alsa-utils are not installed"
)


@pytest.fixture(scope="module")
def legs() -> dict[str, DemoLeg]:
    return {leg.name: leg for leg in voices.build_legs()}


@needs_a_synthesizer
@needs_alsa_sounds
@pytest.mark.peer
def test_there_are_four_legs_with_their_truth_and_length(legs: dict[str, DemoLeg]) -> None:
    assert {name: leg.truth for name, leg in legs.items()} == {
        "synthetic": Truth.SYNTHETIC,
        "human": Truth.HUMAN,
        "turns": Truth.TURNS,
        "no-speech": Truth.NO_SPEECH,
    }
    for name, expected_s in (("synthetic", 30), ("human", 40), ("turns", 46), ("no-speech", 25)):
        assert legs[name].duration_s == pytest.approx(expected_s, abs=3.5), name
        assert legs[name].samples.dtype == np.int16
    assert {leg.codec for leg in legs.values()} == {"PCMU", "PCMA"}


@needs_a_synthesizer
@needs_alsa_sounds
@pytest.mark.peer
def test_speech_legs_are_equally_loud_and_not_clipped(legs: dict[str, DemoLeg]) -> None:
    for name in ("synthetic", "human", "turns"):
        samples = legs[name].samples / 32768.0
        assert voices.active_level_dbfs(samples) == pytest.approx(-26.0, abs=0.5), name
        assert np.abs(samples).max() < 0.9, name


@needs_a_synthesizer
@needs_alsa_sounds
@pytest.mark.peer
def test_both_halves_of_the_turning_leg_are_equally_loud(legs: dict[str, DemoLeg]) -> None:
    leg = legs["turns"]
    assert leg.turn_s is not None
    assert leg.turn_s == pytest.approx(24, abs=1.5)
    samples = leg.samples / 32768.0
    turn = round(leg.turn_s * RATE_HZ)
    before = voices.active_level_dbfs(samples[:turn])
    assert before == pytest.approx(voices.active_level_dbfs(samples[turn:]), abs=0.2)


@needs_alsa_sounds
@pytest.mark.peer
def test_the_noise_recording_is_no_human_voice(tmp_path: Path) -> None:
    whole = voices.alsa_speech(10.0, voices.ALSA_SOUNDS)
    for path in voices.ALSA_SOUNDS.glob("*.wav"):
        if path.stem != "Noise":
            shutil.copy(path, tmp_path)
    np.testing.assert_array_equal(voices.alsa_speech(10.0, tmp_path), whole)


def test_missing_recordings_name_the_debian_package(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="alsa-utils"):
        voices.alsa_speech(10.0, tmp_path)


@pytest.mark.parametrize("synthesizer", SYNTHESIZERS, ids=lambda s: str(s.package))
def test_each_synthesizer_speaks(synthesizer: synthesis.Synthesizer) -> None:
    if not synthesizer.is_installed:
        pytest.skip(f"{synthesizer.program} is not installed, or has no voice")
    speech = synthesizer.speak("The door is open.")
    assert 0.5 < len(speech) / RATE_HZ < 4.0
    assert voices.active_level_dbfs(speech) > -40


def test_without_a_synthesizer_the_error_names_debian_packages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(DemoError, match="apt-get install espeak-ng"):
        installed()


def test_a_failing_synthesizer_says_what_it_said() -> None:
    broken = synthesis.Synthesizer("shell", "sh", "none", ("-c", "echo no voice >&2; exit 3"))
    with pytest.raises(DemoError, match="status 3: no voice"):
        broken.speak("x")
    absent = synthesis.Synthesizer("absent", "/no/such/program", "none", ())
    with pytest.raises(DemoError, match="absent failed"):
        absent.speak("x")


def test_a_synthesizer_without_a_voice_is_not_taken_for_one(tmp_path: Path) -> None:
    """Festival without a voice ends with status 0 and an empty file."""
    mute = synthesis.Synthesizer("mute", "sh", "none", ("-c", "true > '{wav}'"))
    with pytest.raises(DemoError, match="mute wrote no speech"):
        mute.speak("x")
    folder = str(tmp_path).removeprefix("/")
    voiceless = synthesis.Synthesizer("mute", "sh", "none", (), voices=f"{folder}/*/*")
    assert not voiceless.is_installed
    (tmp_path / "english" / "kal").mkdir(parents=True)
    assert voiceless.is_installed


def test_no_speech_carries_the_digits_in_band_and_as_events() -> None:
    samples, marks = voices.no_speech()
    assert len(samples) % PACKET_SAMPLES == 0
    assert [mark.kind for mark in marks].count(MarkKind.EVENT) == 10
    assert marks[0].kind is MarkKind.COMFORT_NOISE
    for mark in marks:
        assert mark.start % PACKET_SAMPLES == mark.count % PACKET_SAMPLES == 0
        assert not samples[mark.start : mark.start + mark.count].any()
    ends = [mark.start + mark.count for mark in marks]
    assert all(end <= mark.start for end, mark in zip(ends, marks[1:], strict=False))
    assert ends[-1] <= len(samples)
    five = samples[9 * RATE_HZ + 5 * 1600 :][:800]
    spectrum = np.abs(np.fft.rfft(five))
    assert set(np.argsort(spectrum)[-2:] * 10) == {770, 1340}  # 10 Hz bins: 770 and 1336 Hz


def test_active_level_does_not_count_pauses() -> None:
    rng = np.random.default_rng(1)
    speech = rng.normal(0, 0.1, RATE_HZ)
    paused = np.concatenate([speech, np.zeros(3 * RATE_HZ), speech])
    assert voices.active_level_dbfs(paused) == pytest.approx(-20.0, abs=0.2)


def test_silence_has_no_active_level() -> None:
    with pytest.raises(DemoError, match="silent"):
        voices.active_level_dbfs(np.zeros(RATE_HZ))


@needs_a_synthesizer
@pytest.mark.peer
def test_a_recording_of_ones_own_takes_the_place_of_the_human_voice(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    path = tmp_path / "me.wav"
    soundfile.write(path, rng.normal(0, 0.1, (16000 * 4, 2)), 16000)
    human, note = voices.own_recording(path)
    assert len(human) == 4 * RATE_HZ
    human_leg = voices.build_legs(human, note)[1]
    assert human_leg.note == "the recording me.wav"
    assert human_leg.duration_s == pytest.approx(40, abs=0.1)


@pytest.mark.parametrize("content", [b"", b"not audio at all", b"RIFF\x00\x00\x00\x00WAVE"])
def test_a_recording_that_is_no_audio_is_an_error_that_names_it(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "me.wav"
    path.write_bytes(content)
    with pytest.raises(DemoError, match=r"me\.wav"):
        voices.own_recording(path)


def test_ones_own_voice_comes_from_the_microphone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def rec(frames: int, **options: object) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        asked.update(options, frames=frames)
        return np.full((frames, 1), 0.5, np.float32)

    fake = types.SimpleNamespace(rec=rec, PortAudioError=RuntimeError)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    samples, note = voices.own_voice(2.0, "headset")
    assert samples.shape == (2 * RATE_HZ,)
    assert samples[0] == 0.5
    assert (asked["device"], asked["samplerate"], asked["blocking"]) == ("headset", RATE_HZ, True)
    assert "microphone" in note


def test_without_portaudio_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)  # makes the import fail
    with pytest.raises(DemoError, match=r"apt-get install libportaudio2; \S+ -m pip install"):
        voices.own_voice(1.0)
