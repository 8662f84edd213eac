"""Clips through the daemon's own path, with the committed detector."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from streamguard.verdict.scores import Channel
from tools.scoring import DaemonScorer, over

BUNDLE = Path(__file__).parents[2] / "models" / "cnn_lstm" / "bundle"


@pytest.fixture(scope="module")
def scorer() -> Iterator[DaemonScorer]:
    if not (BUNDLE / "bundle.yaml").exists():
        pytest.skip("models/cnn_lstm/bundle is not there")
    scorer = DaemonScorer(BUNDLE)
    yield scorer
    scorer.close()


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    """5 s that the gate takes for speech: a buzz with changing pitch and formants, in syllables."""
    rng = np.random.default_rng(2)
    time = np.arange(5 * 16000) / 16000
    pitch = 120 + 20 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / 16000
    formant = 700 + 400 * np.sin(2 * np.pi * 2.3 * time)
    buzz = sum(
        np.sin(k * phase) * np.exp(-(((k * pitch - formant) / 500) ** 2)) + 0.1 * np.sin(k * phase)
        for k in range(1, 25)
    )
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * time) + 0.4, 0, 1)
    samples = 2500 * syllables * buzz + rng.normal(0, 20, len(time))
    return np.asarray(samples, np.int16)


def test_a_window_is_the_mean_of_its_usable_hops(scorer: DaemonScorer, voice: np.ndarray) -> None:
    windows = scorer.windows(voice, 16000)
    hops = scorer.hops(voice, 16000)
    assert len(windows) == 5
    assert len(hops.logits) == 10
    for first, window in enumerate(windows):
        assert window.usable_hops == 6
        assert window.raw == pytest.approx(hops.logits[first : first + 6].mean(), abs=1e-4)


def test_a_short_clip_gets_its_partial_window(scorer: DaemonScorer, voice: np.ndarray) -> None:
    (window,) = scorer.windows(voice[:20000], 16000)
    assert window.usable_hops == 2
    assert window.raw is not None


def test_clips_do_not_hear_of_each_other(scorer: DaemonScorer, voice: np.ndarray) -> None:
    before = scorer.windows(voice, 16000)
    scorer.windows(voice[::-1].copy(), 16000)
    after = scorer.windows(voice, 16000)
    assert [window.raw for window in before] == [window.raw for window in after]


def test_a_telephone_line_is_heard_as_narrow_and_both_laws_occur(
    scorer: DaemonScorer, voice: np.ndarray
) -> None:
    mu_law, rate = over("telephone", voice, 0)
    a_law, _ = over("telephone", voice, 1)
    assert rate == 8000
    assert len(mu_law) == len(voice) // 2
    assert not np.array_equal(mu_law, a_law)
    assert scorer.hops(mu_law, rate).channel is Channel.NARROW
    assert scorer.hops(*over("direct", voice)).channel in (Channel.WIDE, Channel.NARROW)


def test_silence_has_no_usable_hop(scorer: DaemonScorer) -> None:
    assert len(scorer.hops(np.zeros(48000, np.int16), 16000).logits) == 0
