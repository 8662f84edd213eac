"""Packets are lost as often as asked, and concealed as receivers do."""

from __future__ import annotations

import numpy as np
import pytest

from tools.augment.loss import CONCEALMENTS, PACKET_SAMPLES, concealed, lost_packets


def _tone(seconds: float = 1.0) -> np.ndarray:
    return np.asarray(0.3 * np.sin(np.arange(int(16000 * seconds)) * 2 * np.pi / 80), np.float32)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("burst", [1.0, 4.0])
def test_the_share_is_reached(share: float, burst: float) -> None:
    lost = lost_packets(40000, share, burst, np.random.default_rng(1))
    assert lost.mean() == pytest.approx(share, rel=0.15)


def test_bursts_are_as_long_as_asked_and_random_loss_has_none() -> None:
    def mean_burst(burst: float) -> float:
        lost = lost_packets(60000, 0.1, burst, np.random.default_rng(2))
        return float(lost.sum() / np.count_nonzero(np.diff(lost.astype(int)) == 1))

    assert mean_burst(4.0) == pytest.approx(4.0, rel=0.1)
    assert mean_burst(1.0) == pytest.approx(1.0 / 0.9, rel=0.05)


@pytest.mark.parametrize("concealment", CONCEALMENTS)
def test_what_arrived_is_untouched_but_for_the_seam(concealment: str) -> None:
    clip = _tone()
    before = clip.copy()
    lost = np.zeros(50, np.bool_)
    lost[[10, 11, 30]] = True
    out = concealed(clip, lost, concealment, np.random.default_rng(0))
    np.testing.assert_array_equal(clip, before)
    touched = np.repeat(lost, PACKET_SAMPLES)
    seam = np.roll(touched, 40) & ~touched
    np.testing.assert_array_equal(out[~touched & ~seam], clip[~touched & ~seam])
    assert not np.array_equal(out[touched], clip[touched])


def test_zero_is_silent_and_noise_is_20_db_down() -> None:
    clip, lost = _tone(), np.arange(50) == 20
    hole = np.repeat(lost, PACKET_SAMPLES)
    assert not np.any(concealed(clip, lost, "zero", np.random.default_rng(0))[hole])
    noise = concealed(clip, lost, "noise", np.random.default_rng(0))[hole]
    assert 20 * np.log10(noise.std() / clip.std()) == pytest.approx(-20.0, abs=1.5)


def test_repetition_goes_on_in_pitch_and_fades_in_60_ms() -> None:
    clip, lost = _tone(), (np.arange(50) >= 20) & (np.arange(50) < 30)
    out = concealed(clip, lost, "repeat", np.random.default_rng(0))
    begin = 20 * PACKET_SAMPLES
    first, third = out[begin : begin + 160], out[begin + 640 : begin + 960]
    assert np.corrcoef(first, clip[begin : begin + 160])[0, 1] > 0.98
    assert 0.0 < third.std() < 0.4 * clip.std()
    assert not np.any(out[begin + 960 : begin + 10 * PACKET_SAMPLES])


@pytest.mark.parametrize("concealment", CONCEALMENTS)
def test_a_clip_that_begins_or_ends_with_loss_stays_finite(concealment: str) -> None:
    clip = _tone(0.05)
    for lost in ([True, False, False], [False, False, True], [True, True, True]):
        out = concealed(clip, np.array(lost), concealment, np.random.default_rng(0))
        assert out.shape == clip.shape
        assert np.isfinite(out).all()
