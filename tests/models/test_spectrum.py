"""The power spectrum against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.spectrum import FRAME_SAMPLES, SHIFT_SAMPLES, Power, arranged, hamming, hann


@pytest.mark.parametrize("window", [hann, hamming])
@pytest.mark.parametrize("fft", [400, 512])
def test_power_is_that_of_numpys_transform_bin_by_bin(window: object, fft: int) -> None:
    assert callable(window)
    frames = 7
    shape = (2, FRAME_SAMPLES + (frames - 1) * SHIFT_SAMPLES)
    samples = np.random.default_rng(0).standard_normal(shape)
    shape_of = window()
    unfolded = np.stack(
        [samples[:, at : at + FRAME_SAMPLES] for at in range(0, frames * SHIFT_SAMPLES, 160)],
        axis=1,
    )
    expected = np.abs(np.fft.rfft(unfolded * shape_of, fft)) ** 2 / np.square(shape_of).sum()
    power = Power(fft, shape_of)(torch.from_numpy(samples.astype(np.float32)))
    by_bin = power @ torch.from_numpy(arranged(np.eye(fft // 2 + 1, dtype=np.float32)))
    np.testing.assert_allclose(by_bin.numpy(), expected, atol=1e-4)


def test_a_bank_counts_every_bin_once() -> None:
    bank = np.random.default_rng(0).random((257, 3)).astype(np.float32)
    rows = arranged(bank)
    assert rows.shape == (260, 3)
    np.testing.assert_allclose(rows.sum(axis=0), bank.sum(axis=0), rtol=1e-5)


@pytest.mark.parametrize("fft", [256, 510])
def test_a_length_that_does_not_split_is_refused(fft: int) -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        Power(fft, hann())
