"""Levels and the running-peak normalisation."""

from __future__ import annotations

import numpy as np
import pytest

from streamguard.audio.level import (
    PEAK_FLOOR,
    RunningPeak,
    _running_maximum,
    normalise,
    rms_dbfs,
)

from .signals import lines, noise


def test_silence_is_at_the_floor_and_not_at_full_scale() -> None:
    assert rms_dbfs(np.zeros(100, dtype=np.float32)) == -120.0
    assert rms_dbfs(np.zeros(0, dtype=np.float32)) == -120.0
    assert rms_dbfs(np.full(100, 1e-9, dtype=np.float32)) == -120.0


def test_a_sine_is_three_decibels_below_its_peak() -> None:
    assert rms_dbfs(lines((1000.0,), 1.0)) == pytest.approx(-23.01, abs=0.01)


def test_the_output_never_exceeds_full_scale_even_at_a_sudden_start() -> None:
    clip = np.concatenate((noise(-60.0, 0.503), lines((300.0,), 0.5), noise(-10.0, 1.0)))
    assert np.abs(normalise(clip)).max() <= 1.0 + 1e-6


def test_steady_sound_comes_out_at_full_scale_whatever_its_level() -> None:
    loud = normalise(lines((400.0,), 4.0))
    quiet = normalise(np.float32(0.2) * lines((400.0,), 4.0))
    assert np.abs(loud).max() == pytest.approx(1.0, abs=1e-3)
    assert np.allclose(loud, quiet, atol=1e-5)


def test_the_gain_has_a_ceiling() -> None:
    clip = np.full(16_000, PEAK_FLOOR / 10, dtype=np.float32)
    assert np.abs(normalise(clip)).max() == pytest.approx(0.1, abs=1e-6)


def test_a_peak_is_forgotten_after_three_seconds_and_not_before() -> None:
    clip = np.full(16_000 * 4, 0.1, dtype=np.float32)
    clip[800] = 1.0
    out = normalise(clip)
    assert out[800 + 16_000 * 29 // 10] == pytest.approx(0.1, abs=1e-6)
    assert out[800 + 16_000 * 31 // 10] == pytest.approx(1.0, abs=1e-6)


def test_the_gain_never_jumps() -> None:
    clip = np.full(16_000 * 4, 0.02, dtype=np.float32)
    clip[24_000:24_100] = 0.9
    gain = normalise(clip) / clip
    # The steepest ramp there is: from 1 / 0.02 down to 1 / 0.9 in 10 ms.
    assert np.abs(np.diff(gain)).max() <= (1 / 0.02 - 1 / 0.9) / 160 * 1.01


def test_masked_samples_do_not_count_as_peaks() -> None:
    clip = np.full(16_160, 0.1, dtype=np.float32)
    clip[1000:2000] = 1.0
    masked = np.zeros(16_160, dtype=np.bool_)
    masked[1000:2000] = True
    out = RunningPeak().process(clip[:16_000], clip[16_000:], masked)
    assert out[500] == pytest.approx(1.0, abs=1e-6)
    assert out[2500] == pytest.approx(1.0, abs=1e-6)


def test_hop_by_hop_equals_all_at_once() -> None:
    clip = noise(-30.0, 6.01) * np.linspace(0.1, 1.0, 96_160, dtype=np.float32)
    whole = RunningPeak().process(clip[:96_000], clip[96_000:])
    stepwise = RunningPeak()
    hops = [
        stepwise.process(clip[k : k + 8000], clip[k + 8000 : k + 8160])
        for k in range(0, 96_000, 8000)
    ]
    assert np.array_equal(np.concatenate(hops), whole)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 50])
def test_the_running_maximum_is_that_of_every_stretch(count: int) -> None:
    values = np.random.default_rng(count).random(count + 7, dtype=np.float32)
    expected = np.lib.stride_tricks.sliding_window_view(values, 8).max(axis=1)
    assert np.array_equal(_running_maximum(values, 8), expected)
