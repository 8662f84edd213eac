"""Speed moves pitch and tempo together, pitch alone leaves the tempo, shift moves."""

from __future__ import annotations

import numpy as np
import pytest

from tools.augment.tempo import at_pitch, at_speed, fitted, shifted


def _pips(pitch_hz: float = 440.0) -> np.ndarray:
    """A tone with a short pause every quarter of a second."""
    time_s = np.arange(32000) / 16000
    return np.asarray(
        0.3 * np.sin(2 * np.pi * pitch_hz * time_s) * (time_s % 0.25 > 0.05), np.float32
    )


def _peak_hz(clip: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(clip * np.hanning(len(clip)), 1 << 18))
    return float(np.argmax(spectrum)) * 16000 / (1 << 18)


def _onsets(clip: np.ndarray) -> int:
    loud = np.abs(clip[: len(clip) // 160 * 160]).reshape(-1, 160).max(axis=1) > 0.15
    return int(np.count_nonzero(np.diff(loud.astype(int)) == 1))


@pytest.mark.parametrize("ratio", [0.9, 1.0, 1.07, 1.1])
def test_speed_is_the_asked_ratio(ratio: float) -> None:
    out = at_speed(_pips(), ratio)
    assert len(out) == pytest.approx(32000 / ratio, abs=1)
    assert _peak_hz(out) == pytest.approx(440.0 * ratio, rel=0.003)


@pytest.mark.parametrize("semitones", [-2.0, -0.5, 1.0, 2.0])
def test_pitch_moves_and_tempo_stays(semitones: float) -> None:
    clip = _pips()
    out = at_pitch(clip, semitones)
    assert out.shape == clip.shape
    assert out.dtype == np.float32
    assert _peak_hz(out) == pytest.approx(440.0 * 2 ** (semitones / 12), rel=0.01)
    assert _onsets(out) == _onsets(clip)
    assert out[800:-800].std() == pytest.approx(clip[800:-800].std(), rel=0.25)


def test_shift_moves_either_way_and_keeps_the_length() -> None:
    clip = np.arange(1, 6, dtype=np.float32)
    np.testing.assert_array_equal(shifted(clip, 2), [0, 0, 1, 2, 3])
    np.testing.assert_array_equal(shifted(clip, -2), [3, 4, 5, 0, 0])
    np.testing.assert_array_equal(shifted(clip, 0), clip)
    np.testing.assert_array_equal(shifted(clip, 9), np.zeros(5))
    np.testing.assert_array_equal(shifted(clip, -9), np.zeros(5))


def test_fitted_cuts_or_fills() -> None:
    clip = np.ones(4, np.float32)
    np.testing.assert_array_equal(fitted(clip, 2), [1, 1])
    np.testing.assert_array_equal(fitted(clip, 6), [1, 1, 1, 1, 0, 0])
