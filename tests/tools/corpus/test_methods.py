"""Every method of copy-synthesis, on a voice of our own making."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache

import numpy as np
import pytest

from tests.tools.corpus.sounds import voice
from tools.corpus import world
from tools.corpus.copying import at_level
from tools.corpus.likeness import likeness
from tools.corpus.method import Copier
from tools.corpus.methods import METHODS

needs_world = pytest.mark.skipif(
    importlib.util.find_spec("pyworld") is None, reason="pyworld-prebuilt is not installed"
)
EVERY = [
    pytest.param(name, marks=needs_world if name == "world" else ()) for name in sorted(METHODS)
]


@cache
def _copier(name: str) -> Copier:
    heard = [voice(1.2, hz, seed) for seed, hz in enumerate((100.0, 140.0, 210.0))]
    return METHODS[name].prepare(heard, np.random.default_rng(0))


@pytest.mark.parametrize("name", EVERY)
def test_a_copy_is_as_long_and_says_the_same(name: str) -> None:
    speech = voice()
    found = []
    for seed in range(3):
        copy, drawn = _copier(name)(speech, np.random.default_rng(seed))
        assert copy.dtype == np.float32
        assert copy.shape == speech.shape
        assert drawn
        assert not {"of", "distance_db"} & drawn.keys()  # these tell of the pair
        found.append(likeness(at_level(copy, speech), speech))
    assert np.median([one.correlation for one in found]) > 0.75
    assert np.median([one.distance_db for one in found]) < 8.0


@pytest.mark.parametrize("name", EVERY)
def test_a_copy_is_no_recording_of_its_original(name: str) -> None:
    speech = voice()
    copy, _ = _copier(name)(speech, np.random.default_rng(1))
    left = np.sum((at_level(copy, speech) - speech) ** 2) / np.sum(speech**2)
    assert left > 0.01


@pytest.mark.parametrize("name", EVERY)
def test_each_draw_is_another_copy_and_the_same_draw_the_same(name: str) -> None:
    speech = voice(0.7)
    first, drawn = _copier(name)(speech, np.random.default_rng(1))
    again, same = _copier(name)(speech, np.random.default_rng(1))
    other, _ = _copier(name)(speech, np.random.default_rng(2))
    np.testing.assert_array_equal(first, again)
    assert drawn == same
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", EVERY)
def test_silence_and_noise_give_finite_copies(name: str) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 8123).astype(np.float32)
    half = np.concatenate([np.zeros(4000, np.float32), noise])
    for sound in (noise, half):
        copy, _ = _copier(name)(sound, np.random.default_rng(3))
        assert copy.shape == sound.shape
        assert np.isfinite(copy).all()


def test_a_missing_world_vocoder_is_named_before_work_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pyworld", None)
    with pytest.raises(world.WorldMissing, match="pip install pyworld-prebuilt"):
        METHODS["world"].prepare([], np.random.default_rng(0))


def test_noise_of_the_same_level_is_nothing_like_the_speech() -> None:
    speech = voice()
    noise = np.random.default_rng(0).standard_normal(len(speech)).astype(np.float32)
    found = likeness(at_level(noise, speech), speech)
    assert found.correlation < 0.5
    assert found.distance_db > 8.0


def test_a_sound_is_perfectly_like_itself() -> None:
    found = likeness(voice(), voice())
    assert found.correlation == pytest.approx(1.0, abs=1e-6)
    assert found.distance_db == 0.0
