"""What comes of a clip over a line."""

from __future__ import annotations

import numpy as np
import pytest

from tools.evaluation.lines import LOSSES, LOW_RATE, PLAIN, Line, loss_lines

RATE = 16000


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.asarray(3000 * np.sin(np.arange(RATE) / 9) + rng.normal(0, 50, RATE), np.int16)


def test_the_direct_line_gives_a_clip_as_it_is(samples: np.ndarray) -> None:
    heard, rate_hz, lost, codec = PLAIN[0].carry(samples, 0)
    assert heard is samples
    assert (rate_hz, lost, codec) == (RATE, None, "")


def test_a_telephone_coder_comes_at_8_khz_under_its_name_in_sdp(samples: np.ndarray) -> None:
    heard, rate_hz, _, codec = Line("gsm", codec="gsm").carry(samples, 0)
    assert (rate_hz, codec, str(heard.dtype)) == (8000, "GSM", "int16")
    assert len(heard) == pytest.approx(8000, abs=1)


def test_a_wide_band_coder_keeps_the_rate(samples: np.ndarray) -> None:
    pytest.importorskip("av", reason="needs PyAV (extra 'codecs')")
    heard, rate_hz, _, codec = Line("g722", codec="g722").carry(samples, 0)
    assert (len(heard), rate_hz, codec) == (RATE, RATE, "G722")


def test_the_mixture_of_low_rate_coders_goes_by_the_number_of_the_clip(
    samples: np.ndarray,
) -> None:
    _, rate_hz, _, codec = LOW_RATE.carry(samples, 0)
    assert (rate_hz, codec) == (8000, "GSM")


def test_a_clip_loses_the_same_packets_every_time_and_about_as_many_as_asked(
    samples: np.ndarray,
) -> None:
    line = Line("lossy", plain="telephone", loss=0.2)
    lost = [line.carry(samples, number)[2] for number in range(40)]
    again = line.carry(samples, 7)[2]
    assert all(packets is not None and len(packets) == 50 for packets in lost)
    assert np.array_equal(again, lost[7])  # type: ignore[arg-type]  # None is excluded above
    assert np.mean(lost) == pytest.approx(0.2, abs=0.04)  # type: ignore[arg-type]  # same


def test_no_loss_is_the_first_of_the_losses() -> None:
    assert [line.loss for line in loss_lines()] == list(LOSSES)
    assert loss_lines()[0].carry(np.zeros(RATE, np.int16), 0)[2] is None
