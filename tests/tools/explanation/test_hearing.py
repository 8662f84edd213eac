"""A file is heard as the daemon hears it, and its speech is what the gate takes for speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from streamguard.audio.frontend import FrontEnd
from streamguard.audio.settings import GateSettings
from streamguard.errors import AudioFileError
from tests.tools.clips import buzz
from tools.explanation.hearing import ExplanationError, hear
from tools.scoring import blocks


@pytest.mark.parametrize("rate_hz", [16000, 8000, 44100])
def test_frames_of_speech_are_those_that_the_gate_counted(tmp_path: Path, rate_hz: int) -> None:
    samples = np.concatenate((buzz(3.0), np.zeros(16000, np.int16), buzz(2.0)))
    file = tmp_path / "voice.wav"
    soundfile.write(file, soxr.resample(samples, 16000, rate_hz), rate_hz)
    heard = hear(file, 240)
    front_end = FrontEnd("leg", 240, GateSettings())
    hops = [hop for block in blocks(heard.source, rate_hz) for hop in front_end.process(block)]
    counted = [hop.quality.active_frames for hop in hops]
    assert heard.speech.reshape(-1, 50).sum(axis=1).tolist() == counted
    assert 0 < sum(counted) < 50 * len(counted)
    assert heard.usable.tolist() == [hop.usable for hop in hops]
    assert heard.delay_s == front_end.delay / 16000
    np.testing.assert_array_equal(heard.samples[-8000:], hops[-1].samples)
    assert len(heard.samples) == 240 + 8000 * heard.hops


def test_a_window_lies_around_the_time_that_was_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "voice.wav"
    soundfile.write(file, buzz(6.0), 16000)
    heard = hear(file, 240)
    assert heard.window_at(0.0) == range(6)
    assert heard.window_at(3.0) == range(3, 9)
    assert heard.window_at(6.0) == range(6, 12)
    with pytest.raises(ExplanationError, match="0 to 6 seconds"):
        heard.window_at(6.1)


def test_a_file_that_is_no_audio_or_too_short_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "short.wav", np.zeros(100), 16000)
    for name in ("text.wav", "short.wav", "missing.wav"):
        with pytest.raises(AudioFileError, match=name):
            hear(tmp_path / name, 240)
