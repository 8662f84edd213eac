"""The transforms under the methods: each against what it must do exactly."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from tests.tools.corpus.sounds import voice
from tools.corpus.lpc import polynomials, predictors, residual, resound
from tools.corpus.pitch import track_pitch
from tools.corpus.quantiser import Mdct, ResidualQuantiser
from tools.corpus.spectra import RATE_HZ, MelGrid, Stft, mel_filters, minimum_phase, smooth


@pytest.mark.parametrize(("size", "hop", "window"), [(512, 128, 512), (1024, 250, 800)])
@pytest.mark.parametrize("length", [4000, 16001])
def test_an_untouched_stft_gives_the_signal_back(
    size: int, hop: int, window: int, length: int
) -> None:
    speech = voice(2.0)[:length]
    stft = Stft(size, hop, window)
    spectra = stft.forward(speech)
    assert spectra.shape == (length // hop + 1, size // 2 + 1)
    np.testing.assert_allclose(stft.inverse(spectra, length), speech, atol=1e-5)


def test_the_peak_of_a_sine_is_its_amplitude_times_the_gain() -> None:
    stft = Stft(512, 128)
    sine = np.sin(2 * np.pi * 1000 * np.arange(8000) / RATE_HZ).astype(np.float32)
    assert np.abs(stft.forward(sine)[30]).max() == pytest.approx(stft.gain, rel=1e-3)


@pytest.mark.parametrize("count", [40, 80, 128])
def test_every_mel_filter_hears_something(count: int) -> None:
    filters = mel_filters(count, 512, 0.0, 8000.0)
    assert (filters.max(axis=1) > 0).all()
    assert filters.max() <= 1.0


def test_both_ways_back_from_mel_keep_the_mel() -> None:
    grid = MelGrid.make(1024, 256, 1024, 80, 0.0, 8000.0)
    magnitude = np.abs(grid.stft.forward(voice()))
    mel = grid.forward(magnitude)
    for found in (grid.pseudo_inverse(mel), grid.non_negative_inverse(mel, 12)):
        assert found.shape == magnitude.shape
        assert (found >= 0).all()
        again = grid.forward(found)
        assert np.sqrt(np.mean((again - mel) ** 2) / np.mean(mel**2)) < 0.1


def test_minimum_phase_keeps_the_magnitude_and_puts_the_energy_first() -> None:
    magnitude = np.abs(np.fft.rfft(signal.lfilter([1], [1, -0.9], np.eye(1, 512)[0])))[None]
    found = minimum_phase(magnitude.astype(np.float32))
    np.testing.assert_allclose(np.abs(found), magnitude, rtol=1e-3)
    impulse = np.fft.irfft(found[0])
    np.testing.assert_allclose(impulse[:5], 0.9 ** np.arange(5), atol=1e-2)


def test_smoothing_keeps_a_constant_and_lowers_a_peak() -> None:
    flat = np.full((20, 3), 2.5, np.float32)
    np.testing.assert_allclose(smooth(flat, 1.5, 0), flat, rtol=1e-5)
    peak = np.zeros((21, 3), np.float32)
    peak[10] = 1.0
    assert smooth(peak, 1.0, 0).max() == pytest.approx(0.4, abs=0.01)
    assert smooth(peak, 0.0, 0) is peak


@pytest.mark.parametrize("hz", [80.0, 150.0, 300.0])
def test_pitch_is_found_and_noise_has_none(hz: float) -> None:
    time_s = np.arange(RATE_HZ) / RATE_HZ
    tone = sum(np.sin(2 * np.pi * k * hz * time_s) / k for k in range(1, 6))
    pitch = track_pitch(np.asarray(0.1 * tone, np.float32), 160)
    assert len(pitch.hz) == 100
    np.testing.assert_allclose(pitch.hz[5:-5], hz, rtol=0.02)
    assert (pitch.strength[5:-5] > 0.9).all()
    noise = np.random.default_rng(0).normal(0, 0.1, RATE_HZ).astype(np.float32)
    assert (track_pitch(noise, 160).strength > 0).mean() < 0.2


def test_a_residual_through_its_own_predictor_is_the_speech() -> None:
    speech = voice(0.5)
    polynomial, _ = predictors(speech, 16, 80, 320)
    again = resound(residual(speech, polynomial, 80), polynomial)
    np.testing.assert_allclose(again[: len(speech)], speech, atol=1e-6)


def test_predictors_are_stable_and_follow_from_their_reflections() -> None:
    polynomial, reflections = predictors(voice(0.5), 20, 80, 400)
    np.testing.assert_allclose(polynomials(reflections), polynomial, atol=1e-9)
    for row in polynomial:
        assert np.abs(np.roots(row)).max() < 1.0


@pytest.mark.parametrize("size", [160, 256])
@pytest.mark.parametrize("length", [1600, 5001])
def test_an_untouched_mdct_gives_the_signal_back(size: int, length: int) -> None:
    speech = voice(1.0)[:length]
    mdct = Mdct(size)
    np.testing.assert_allclose(mdct.inverse(mdct.forward(speech), length), speech, atol=1e-5)


def test_each_stage_of_a_quantiser_comes_closer() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((600, 6)).astype(np.float32)
    quantiser = ResidualQuantiser.learn(vectors, 4, 16, rng)
    errors = [np.mean((quantiser(vectors, stages) - vectors) ** 2) for stages in range(1, 5)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]
    assert quantiser.bits(3) == pytest.approx(12.0)
