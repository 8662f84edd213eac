"""Augmentation is blind to the class, and does what it says to the samples."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from tools.augment import (
    CODECS,
    Augmenter,
    AugmentSettings,
    coloured_noise,
    missing_codecs,
    quantise,
    telephone,
)
from tools.augment.__main__ import main as cost_table
from tools.augment.draw import draw

OFF = AugmentSettings(
    gain_db=(0.0, 0.0), room=0.0, eq=0.0, band=0.0, noise=0.0, clip=0.0, telephone=0.0
)

BUSY = AugmentSettings(
    shift=0.5,
    speed=0.5,
    pitch=0.5,
    converter=0.5,
    requantise=0.5,
    codec=0.5,
    codecs={"g711a": 1, "g722": 1, "g726": 1, "gsm": 1, "amr_nb": 1, "opus": 1, "mp3": 1},
    loss=0.5,
    roll=0.5,
    white=0.5,
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
    parameters = list(inspect.signature(Augmenter.__call__).parameters)
    assert parameters == ["self", "batch", "rng", "samples", "originals"]


@pytest.mark.parametrize("settings", [AugmentSettings(), BUSY])
def test_what_happens_to_a_clip_does_not_depend_on_what_it_is(settings: AugmentSettings) -> None:
    """The same place in a batch and the same seed give the same filter, room, level and line."""
    batch = _speech(8)
    swapped = batch.copy()
    swapped[0] = 0.2 * np.sin(np.arange(batch.shape[1]) * 0.3)
    one = _augmenter(settings)(batch, np.random.default_rng(3))
    two = _augmenter(settings)(swapped, np.random.default_rng(3))
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


def test_everything_together_is_the_same_under_a_seed_and_finite() -> None:
    batch = _speech(24)
    one = _augmenter(BUSY)(batch, np.random.default_rng(8))
    two = _augmenter(BUSY)(batch, np.random.default_rng(8))
    np.testing.assert_array_equal(one, two)
    assert one.dtype == np.float32
    assert one.shape == batch.shape
    assert np.isfinite(one).all()
    assert not np.array_equal(one, _augmenter(BUSY)(batch, np.random.default_rng(9)))


def test_a_longer_batch_feeds_speed_so_that_the_end_is_not_silent() -> None:
    settings = replace(OFF, speed=1.0, speed_ratio=(1.1, 1.1))
    batch = _speech(4, 1.2)
    short = _augmenter(settings)(batch[:, :16000], np.random.default_rng(1))
    spared = _augmenter(settings)(batch, np.random.default_rng(1), samples=16000)
    assert short.shape == spared.shape == (4, 16000)
    assert np.all(short[:, 14700:] == 0.0)
    assert np.all(spared[:, 14700:].std(axis=1) > 0.01)


def test_a_converter_takes_away_what_is_above_its_corner_and_nothing_below() -> None:
    settings = replace(
        OFF, converter=1.0, converter_hz=(5000.0, 5000.0), converter_db_per_khz=(2000.0, 2000.0)
    )
    batch = np.random.default_rng(2).standard_normal((4, 16000)).astype(np.float32)
    out = _augmenter(settings)(batch, np.random.default_rng(1))
    hz = np.fft.rfftfreq(16000, 1 / 16000)
    window = np.hanning(16000)
    ratio = np.abs(np.fft.rfft(out * window)) / np.abs(np.fft.rfft(batch * window))
    kept = np.median(ratio[:, (hz > 100) & (hz < 4900)], axis=1)
    gone = np.median(ratio[:, hz > 5100], axis=1)
    assert np.all(20 * np.log10(gone / kept) < -50.0)


def test_a_coarser_grid_has_as_many_steps_as_its_bits() -> None:
    settings = replace(OFF, requantise=1.0, requantise_bits=(8.0, 8.0))
    out = _augmenter(settings)(_speech(8), np.random.default_rng(3))
    steps = out * 128
    np.testing.assert_allclose(steps, np.round(steps), atol=5e-3)  # 1.0 is 32767 / 32768
    dithered = np.array([np.any(row[4500:5500]) for row in out])
    assert dithered.any()
    assert not dithered.all()


def test_a_recipe_of_the_first_version_never_gets_the_later_transforms() -> None:
    fate = draw(AugmentSettings(), 500, np.random.default_rng(0))
    assert not np.any(fate.shift_s)
    assert np.all(fate.speed == 1.0)
    assert not np.any(fate.semitones)
    assert np.all(np.isinf(fate.converter_hz))
    assert not np.any(fate.step)
    assert not np.any(fate.codec != "")
    assert not np.any(fate.loss)
    assert not np.any(fate.roll)
    assert not np.any(fate.white)


def test_what_is_never_asked_for_draws_nothing() -> None:
    """The seeds of earlier recipes keep their meaning."""
    ends = []
    for settings in (AugmentSettings(), AugmentSettings(roll=1.0), AugmentSettings(white=1.0)):
        rng = np.random.default_rng(4)
        fate = draw(settings, 50, rng)
        ends.append((rng.random(), fate.telephone.tolist(), fate.gain_db.tolist()))
    assert ends[0][1:] == ends[1][1:] == ends[2][1:]
    assert len({end[0] for end in ends}) == 2, "the first drew less than both others"


def test_rolling_moves_the_end_of_a_crop_to_its_start() -> None:
    settings = replace(OFF, roll=1.0, roll_share=(0.25, 0.25))
    batch = _speech(2)
    out, still = (_augmenter(each)(batch, np.random.default_rng(1)) for each in (settings, OFF))
    # The filter stage may round to the next of 65,536 steps.
    np.testing.assert_allclose(out[:, 4000:], still[:, :-4000], atol=4e-5)
    np.testing.assert_allclose(out[:, :4000], still[:, -4000:], atol=4e-5)


def test_white_noise_has_a_level_of_its_own_however_loud_the_speech() -> None:
    settings = replace(OFF, white=1.0, white_level=(0.02, 0.02), gain_db=(-40.0, 0.0))
    batch = _speech(30)
    out = _augmenter(settings)(batch, np.random.default_rng(2))
    pauses = out[:, 4200:5800].std(axis=1)
    np.testing.assert_allclose(pauses, 0.02, rtol=0.1)
    assert out.std(axis=1).max() > 2 * out.std(axis=1).min()


RECIPES = sorted(
    path
    for path in (Path(__file__).parents[2] / "models").glob("*/recipe.yaml")
    if "augment" in yaml.safe_load(path.read_text())  # the others are made of trained systems
)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parent.name)
def test_the_recipes_of_the_models_are_understood(recipe: Path) -> None:
    section = yaml.safe_load(recipe.read_text())["augment"]
    fate = draw(AugmentSettings(**section), 50, np.random.default_rng(0))
    assert len(fate) == 50
    assert np.any(fate.telephone)


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


def test_the_cost_table_names_every_codec_of_this_machine(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cost_table(["--batch", "4", "--seconds", "0.3", "--repeats", "1"]) == 0
    out = capsys.readouterr().out
    assert "packet loss" in out
    for codec in set(CODECS) - set(missing_codecs()):
        assert f"codec {codec}, one crop" in out
