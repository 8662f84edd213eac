"""Streaming resampling to 16 kHz."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamguard.audio.resample import HalfBand, resampler

from .signals import lines, noise

RATES_HZ = (8_000, 11_025, 16_000, 22_050, 44_100, 48_000)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@settings(max_examples=15)
@given(sizes=st.lists(st.integers(0, 30_000), min_size=1, max_size=6))
def test_the_output_does_not_depend_on_the_chunks_and_is_never_short(
    rate_hz: int, sizes: list[int]
) -> None:
    samples = noise(-20.0, 1.0, sum(sizes) + 1)[: sum(sizes)]
    whole = resampler(rate_hz).process(samples)
    stream = resampler(rate_hz)
    parts = []
    taken = given_out = 0
    for size in sizes:
        parts.append(stream.process(samples[taken : taken + size]))
        taken += size
        given_out += len(parts[-1])
        assert given_out == taken * 16_000 // rate_hz
    assert np.array_equal(np.concatenate(parts), whole)


@settings(max_examples=25)
@given(rate_hz=st.integers(4_000, 192_000), odd=st.integers(1, 977))
def test_any_allowed_rate_delivers_what_is_due(rate_hz: int, odd: int) -> None:
    stream = resampler(rate_hz)
    taken = given_out = 0
    for _ in range(6):
        for size in (odd, rate_hz // 2):
            given_out += len(stream.process(np.zeros(size, dtype=np.float32)))
            taken += size
            assert given_out == taken * 16_000 // rate_hz


@pytest.mark.parametrize("rate_hz", [*RATES_HZ, 4_000, 96_000, 192_000])
def test_the_output_is_the_input_late_by_the_stated_delay(rate_hz: int) -> None:
    stream = resampler(rate_hz)
    out = stream.process(lines((440.0,), 1.5, rate_hz))
    expected = lines((440.0,), 1.5)
    begin = stream.delay
    middle = slice(2000, 10_000)
    assert np.allclose(out[begin:][middle], expected[middle], atol=2e-4)


def test_the_half_band_filter_is_flat_in_the_telephone_band_and_rejects_the_image() -> None:
    impulse = np.zeros(200, dtype=np.float32)
    impulse[50] = 1.0
    response = HalfBand().process(impulse)
    assert int(np.argmax(np.abs(response))) == 100 + HalfBand.delay
    gain_db = 20.0 * np.log10(np.abs(np.fft.rfft(response, 8192)) / 2.0 + 1e-9)
    frequency = np.fft.rfftfreq(8192, 1 / 16_000)
    assert np.abs(gain_db[frequency <= 3_400]).max() < 0.01
    assert gain_db[frequency >= 4_600].max() < -65.0


def test_a_tone_above_the_band_of_48_khz_does_not_fold_down() -> None:
    out = resampler(48_000).process(lines((9_000.0,), 1.0, 48_000))
    assert np.abs(out[4000:]).max() < 1e-4  # past its onset


@pytest.mark.parametrize("rate_hz", [0, 3_999, 192_001])
def test_a_rate_outside_the_limits_is_refused_by_name(rate_hz: int) -> None:
    with pytest.raises(ValueError, match=f"rate {rate_hz} Hz: allowed are 4000 to 192000"):
        resampler(rate_hz)
