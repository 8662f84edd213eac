"""What befalls a crop is drawn from one distribution, whatever the crop is."""

from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest
from scipy import stats

from tools.augment import CODECS, AugmentSettings
from tools.augment.draw import Draw, draw

BUSY = AugmentSettings(
    shift=0.3,
    speed=0.3,
    pitch=0.3,
    converter=0.3,
    requantise=0.3,
    codec=0.4,
    loss=0.3,
    roll=0.3,
    white=0.3,
)


def test_the_draw_sees_the_settings_and_the_number_of_crops_only() -> None:
    assert list(inspect.signature(draw).parameters) == ["settings", "count", "rng"]


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Draw)])
def test_both_classes_draw_every_parameter_from_the_same_distribution(name: str) -> None:
    """Labels as a trainer has them, in every order: random, and sorted, one class first."""
    rng = np.random.default_rng(1234)
    values = getattr(draw(BUSY, 6000, rng), name)
    if values.ndim == 2:
        values = values.sum(axis=1)
    if values.dtype.kind in "US":
        values = np.unique(values, return_inverse=True)[1]
    values = np.where(np.isinf(values.astype(np.float64)), 1e6, values.astype(np.float64))
    for spoof in (rng.random(6000) < 0.5, np.arange(6000) < 3000):
        # One of 46 tests fails at this level once in two thousand runs of a new seed.
        assert stats.ks_2samp(values[spoof], values[~spoof], method="asymp").pvalue > 1e-5


@pytest.mark.parametrize(
    ("shares", "drawn"),
    [
        ("shift", lambda fate: fate.shift_s != 0.0),
        ("speed", lambda fate: fate.speed != 1.0),
        ("pitch", lambda fate: fate.semitones != 0.0),
        ("converter", lambda fate: np.isfinite(fate.converter_hz)),
        ("requantise", lambda fate: fate.step != 0.0),
        ("codec", lambda fate: fate.codec != ""),
        ("loss", lambda fate: fate.loss != 0.0),
        ("roll", lambda fate: fate.roll != 0.0),
        ("white", lambda fate: fate.white != 0.0),
        ("room", lambda fate: fate.room),
        ("noise", lambda fate: np.isfinite(fate.snr_db)),
        ("telephone", lambda fate: fate.telephone),
    ],
)
def test_as_many_crops_as_asked_are_chosen(shares: str, drawn: object) -> None:
    assert callable(drawn)
    share = np.mean(drawn(draw(BUSY, 6000, np.random.default_rng(7))))
    assert share == pytest.approx(getattr(BUSY, shares), abs=0.03)


def test_ranges_are_kept() -> None:
    fate = draw(dataclasses.replace(BUSY, speed=1.0, converter=1.0), 2000, np.random.default_rng(7))
    assert fate.speed.min() >= 0.9
    assert fate.speed.max() <= 1.1
    assert fate.converter_hz.min() >= 3400.0
    assert fate.converter_hz.max() <= 8000.0
    assert fate.converter_db_per_khz.min() >= 20.0
    assert fate.converter_db_per_khz.max() <= 2000.0


def test_codecs_come_by_their_weights_and_all_alike_without() -> None:
    settings = dataclasses.replace(BUSY, codec=1.0, codecs={"gsm": 3.0, "mp3": 1.0, "opus": 0.0})
    names, counts = np.unique(
        draw(settings, 4000, np.random.default_rng(7)).codec, return_counts=True
    )
    assert list(names) == ["gsm", "mp3"]
    assert counts[0] / counts[1] == pytest.approx(3.0, abs=0.3)
    everything = draw(dataclasses.replace(BUSY, codec=1.0), 4000, np.random.default_rng(7)).codec
    assert set(everything) == set(CODECS)


def test_an_unknown_codec_is_named() -> None:
    settings = dataclasses.replace(BUSY, codecs={"evs": 1.0})
    with pytest.raises(ValueError, match=r"augment.codecs: 'evs': one of g711a"):
        draw(settings, 1, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"codec": 1.5}, r"augment.codec: 1.5: a share from 0 to 1"),
        ({"speed_ratio": (1.1, 0.9)}, r"augment.speed_ratio: .*lowest and highest"),
        ({"codecs": {"gsm": -1.0}}, r"augment.codecs: .*not negative"),
    ],
)
def test_impossible_settings_are_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AugmentSettings(**values)  # type: ignore[arg-type] # as a recipe gives them
