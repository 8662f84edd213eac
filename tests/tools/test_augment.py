"""Augmentation is blind to the class, and does what it says to the samples."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest

from tools.augment import Augmenter, AugmentSettings, coloured_noise, quantise, telephone

OFF = AugmentSettings(
    gain_db=(0.0, 0.0), room=0.0, eq=0.0, band=0.0, noise=0.0, clip=0.0, telephone=0.0
)


def _speech(count: int, seconds: float = 1.0) -> np.ndarray:
    """Noise bursts with pauses, full scale about 0.3."""
    rng = np.random.default_rng(5)
    samples = rng.standard_normal((count, int(16000 * seconds))).astype(np.float32) * 0.1
    samples[:, 4000:6000] = 0.0
    return samples


def _augmenter(settings: AugmentSettings | None = None) -> Augmenter:
    rng = np.random.default_rng(9)
    hum = rng.standard_normal(40000).astype(np.float32)
    room = np.zeros(4000, np.float32)
    room[[100, 500, 2000]] = 0.5, 0.2, -0.1
    return Augmenter(settings or AugmentSettings(), [hum], [room])


def test_it_takes_no_label() -> None:
    assert list(inspect.signature(Augmenter.__call__).parameters) == ["self", "batch", "rng"]


def test_what_happens_to_a_clip_does_not_depend_on_what_it_is() -> None:
    """The same place in a batch and the same seed give the same filter, room, level and line."""
    batch = _speech(8)
    swapped = batch.copy()
    swapped[0] = 0.2 * np.sin(np.arange(batch.shape[1]) * 0.3)
    one = _augmenter()(batch, np.random.default_rng(3))
    two = _augmenter()(swapped, np.random.default_rng(3))
    np.testing.assert_array_equal(one[1:], two[1:])
    assert not np.array_equal(one[0], two[0])


def test_both_halves_of_a_batch_see_the_same_distribution() -> None:
    """Two classes are rows of one batch: bands, levels and noise must not differ between rows."""
    batch = np.repeat(_speech(1, 0.5), 600, axis=0)
    out = _augmenter()(batch, np.random.default_rng(11))
    level_db = 20 * np.log10(out.std(axis=1))
    power = np.square(np.abs(np.fft.rfft(out, axis=1)))
    high_db = 10 * np.log10(power[:, 2500:].sum(axis=1) / power[:, :2000].sum(axis=1))
    for statistic in (level_db, high_db):
        even, odd = statistic[::2], statistic[1::2]
        spread = statistic.std() * np.sqrt(2 / 300)
        assert abs(even.mean() - odd.mean()) < 3 * spread


def test_nothing_switched_on_changes_only_the_level() -> None:
    batch = _speech(3)
    out = _augmenter(OFF)(batch, np.random.default_rng(0))
    expected = batch / np.abs(batch).max(axis=1, keepdims=True)
    np.testing.assert_allclose(out, expected, atol=1 / 16384)


def test_the_input_is_left_alone_and_the_output_is_on_the_16_bit_grid() -> None:
    batch = _speech(4)
    before = batch.copy()
    out = _augmenter(replace(AugmentSettings(), telephone=0.0))(batch, np.random.default_rng(1))
    np.testing.assert_array_equal(batch, before)
    assert out.dtype == np.float32
    assert out.shape == batch.shape
    np.testing.assert_array_equal(out, quantise(out))
    assert np.abs(out).max() <= 1.0


def test_silence_stays_finite() -> None:
    out = _augmenter()(np.zeros((4, 8240), np.float32), np.random.default_rng(1))
    assert np.isfinite(out).all()


def test_the_peak_is_drawn_from_the_asked_range() -> None:
    settings = replace(OFF, gain_db=(-20.0, -10.0))
    out = _augmenter(settings)(_speech(50), np.random.default_rng(2))
    peak_db = 20 * np.log10(np.abs(out).max(axis=1))
    assert peak_db.min() >= -20.01
    assert peak_db.max() <= -9.99
    assert peak_db.std() > 1.0


def test_noise_comes_at_the_asked_distance() -> None:
    settings = replace(OFF, noise=1.0, snr_db=(20.0, 20.0))
    batch = _speech(20)
    out = _augmenter(settings)(batch, np.random.default_rng(2))
    for clean, noisy in zip(batch, out, strict=True):
        scale = (clean @ noisy) / (clean @ clean)
        rest = noisy - scale * clean
        snr_db = 10 * np.log10(np.square(scale * clean).sum() / np.square(rest).sum())
        assert snr_db == pytest.approx(20.0, abs=1.0)


def test_a_room_rings_on_after_the_sound() -> None:
    settings = replace(OFF, room=1.0, recorded_room=0.0)
    batch = np.zeros((4, 8000), np.float32)
    batch[:, 1000:2000] = _speech(4)[:, :1000]
    out = _augmenter(settings)(batch, np.random.default_rng(2))
    assert np.all(np.abs(out[:, :999]).max(axis=1) < 1e-3)
    assert np.all(np.abs(out[:, 2100:3000]).max(axis=1) > 1e-3)


def test_a_telephone_line_carries_nothing_above_4_khz_and_keeps_the_rest() -> None:
    batch = _speech(6)
    out = telephone(batch, np.random.default_rng(4))
    power = np.square(np.abs(np.fft.rfft(out, axis=1)))
    hz = np.fft.rfftfreq(batch.shape[1], 1 / 16000)
    high, low = power[:, hz > 4600].sum(axis=1), power[:, (hz > 500) & (hz < 3000)].sum(axis=1)
    assert np.all(10 * np.log10(high / low) < -40.0)
    # Up-sampling by the daemon's filter comes 31 samples late.
    correlation = [np.corrcoef(a[:-31], b[31:])[0, 1] for a, b in zip(batch, out, strict=True)]
    assert min(correlation) > 0.6


def test_coloured_noise_falls_as_asked() -> None:
    noise = coloured_noise(np.array([0.0, 2.0]), 160000, np.random.default_rng(0))
    power = np.square(np.abs(np.fft.rfft(noise, axis=1)))
    hz = np.fft.rfftfreq(160000, 1 / 16000)
    octaves = [
        10 * np.log10(power[:, (hz > 4 * f) & (hz < 8 * f)].mean(axis=1)) for f in (100, 800)
    ]
    white, brown = octaves[0] - octaves[1]
    assert white == pytest.approx(0.0, abs=0.5)
    assert brown == pytest.approx(18.0, abs=1.5)
