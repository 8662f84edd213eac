"""A clip comes back from every codec changed, in step, and as long as before."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from tools.augment import (
    CODECS,
    Augmenter,
    AugmentSettings,
    code_clip,
    coloured_noise,
    missing_codecs,
    speex,
)
from tools.augment.line import quantise

NARROW = ("g711a", "g711u", "g726", "gsm", "amr_nb")
SLACK = 1
"""Samples: Opus and Speex are a fraction of one early or late, by mode."""


def _voice(seconds: float = 1.0) -> np.ndarray:
    """A buzz with vowel-like resonances that glide, and a pause."""
    count = int(16000 * seconds)
    phase = np.cumsum(110.0 + 40.0 * np.sin(np.arange(count) * 2 * np.pi / 9000)) / 16000
    buzz = np.diff(np.floor(phase), prepend=0.0) + 0.003 * np.random.default_rng(0).normal(
        size=count
    )
    for resonance in (500.0, 1400.0, 2600.0):
        radius = 0.97
        angle = 2 * np.pi * resonance / 16000
        buzz = signal.lfilter([1.0], [1.0, -2 * radius * np.cos(angle), radius**2], buzz)
    buzz[count // 2 : count * 6 // 10] = 0.0
    return quantise((0.4 * buzz / np.abs(buzz).max()).astype(np.float32))


def _usable(codec: str) -> str:
    if codec in missing_codecs():
        pytest.skip(f"{codec} needs libspeex")
    return codec


@pytest.mark.parametrize("codec", CODECS)
def test_a_clip_comes_back_in_step_and_alike(codec: str) -> None:
    clip = _voice()
    for seed in range(6):
        out = code_clip(clip, _usable(codec), np.random.default_rng(seed))
        assert out.dtype == np.float32
        assert out.shape == clip.shape
        assert np.isfinite(out).all()
        assert not np.array_equal(out, clip)
        likeness = signal.correlate(out, clip, method="fft")
        lag = int(np.argmax(likeness)) - len(clip) + 1
        assert abs(lag) <= SLACK
        norm = np.linalg.norm(out) * np.linalg.norm(clip)
        assert likeness.max() / norm > 0.6


@pytest.mark.parametrize("codec", CODECS)
def test_the_same_seed_gives_the_same_samples(codec: str) -> None:
    clip = _voice(0.5)
    one, two = (code_clip(clip, _usable(codec), np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_drawn_does_not_depend_on_the_samples(codec: str) -> None:
    """Else the generator would be in another state behind a clip of the other class."""
    states = []
    for clip in (_voice(0.5), np.zeros(8000, np.float32)):
        rng = np.random.default_rng(3)
        code_clip(clip, _usable(codec), rng)
        states.append(rng.bit_generator.state)
    assert states[0] == states[1]


@pytest.mark.parametrize("codec", NARROW)
def test_a_telephone_codec_carries_nothing_above_4_khz(codec: str) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    out = code_clip(noise, codec, np.random.default_rng(1))
    power = np.square(np.abs(np.fft.rfft(out)))
    hz = np.fft.rfftfreq(16000, 1 / 16000)
    high, low = power[hz > 4700].sum(), power[(hz > 500) & (hz < 3000)].sum()
    assert 10 * np.log10(high / low) < -40.0


@pytest.mark.parametrize("codec", ["amr_nb", "opus", "mp3", "g726", "speex"])
def test_bit_rates_are_drawn(codec: str) -> None:
    clip = _voice(0.5)
    outs = [code_clip(clip, _usable(codec), np.random.default_rng(seed)) for seed in range(8)]
    assert len({out.tobytes() for out in outs}) >= 3


@pytest.mark.parametrize("codec", CODECS)
def test_silence_and_overload_stay_finite(codec: str) -> None:
    loud = np.sign(coloured_noise(np.zeros(1), 4000, np.random.default_rng(0))[0])
    for clip in (np.zeros(4000, np.float32), loud):
        out = code_clip(clip, _usable(codec), np.random.default_rng(0))
        assert np.isfinite(out).all()
        assert np.abs(out).max() < 2.0


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(ValueError, match="codec 'evs': one of g711a"):
        code_clip(_voice(0.1), "evs", np.random.default_rng(0))


def test_a_recipe_that_needs_speex_is_refused_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ctypes.util.find_library", lambda _: None)
    speex._library.cache_clear()
    try:
        assert missing_codecs() == ("speex",)
        with pytest.raises(speex.SpeexMissingError, match="libspeex1"):
            code_clip(_voice(0.1), "speex", np.random.default_rng(0))
        for codecs in ({}, {"speex": 0.5, "gsm": 0.5}):
            with pytest.raises(ValueError, match=r"augment.codecs: speex not available"):
                Augmenter(AugmentSettings(codec=0.5, codecs=codecs))
        Augmenter(AugmentSettings(codec=0.5, codecs={"gsm": 1.0}))
        Augmenter(AugmentSettings())
    finally:
        speex._library.cache_clear()
