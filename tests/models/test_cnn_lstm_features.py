"""The five features against torchaudio and against a restatement in numpy and scipy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy import fft, signal
from torch import Tensor

from models.cnn_lstm.features import (
    KINDS,
    Features,
    equal_bands,
    gammatone_filterbank,
    linear_filterbank,
    mel_filterbank,
)
from tests.models.torchaudio_oracle import torchaudio_transforms

if TYPE_CHECKING:
    import numpy.typing as npt

pytestmark = [pytest.mark.train, pytest.mark.timeout(60)]
FLOOR = 1e-6


def _features(kind: str, filters: int = 20, coefficients: int = 20) -> Features:
    return Features(kind, filters, coefficients, 512, FLOOR)


def _samples() -> Tensor:
    """Half a second of noise whose spectrum falls, and a tone."""
    noise = torch.randn(1, 8240, generator=torch.Generator().manual_seed(5)) * 0.1
    tone = torch.sin(torch.arange(8240) * 0.3)
    return noise + 0.05 * torch.cumsum(noise, dim=1) + 0.2 * tone


def _powers() -> npt.NDArray[np.float64]:
    """``[50, 257]``: Hamming windows of 400 samples, each by itself, through scipy."""
    samples = _samples()[0].double().numpy()
    window = signal.get_window("hamming", 400, fftbins=False)
    frames = [samples[160 * n : 160 * n + 400] * window for n in range(50)]
    return np.asarray(np.abs(fft.rfft(np.array(frames), 512)) ** 2 / np.square(window).sum())


def _hertz() -> npt.NDArray[np.float64]:
    return np.linspace(0.0, 8000.0, 257)


def _slopes(corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Triangles by interpolation between the corners, in hertz."""
    return np.stack(
        [np.interp(_hertz(), corners[n : n + 3], (0.0, 1.0, 0.0)) for n in range(20)], axis=1
    )


def _mel_corners() -> npt.NDArray[np.float64]:
    return 700.0 * (10.0 ** (np.linspace(0.0, 2595.0 * np.log10(1 + 8000 / 700), 22) / 2595) - 1)


def _restated(kind: str) -> npt.NDArray[np.float64]:
    powers = _powers()
    if kind == "spectrogram":
        # Twenty bands of 12.85 bins: bins cut in twenty equal parts and the parts averaged.
        parts = np.repeat(powers, 20, axis=1).reshape(50, 20, 257)
        return np.asarray(np.log(parts.mean(axis=2) + FLOOR))
    if kind == "gfcc":
        ends = 21.4 * np.log10(1 + 0.00437 * np.array([50.0, 8000.0]))
        erb_rate = np.linspace(ends[0], ends[1], 20)
        centres = (10 ** (erb_rate / 21.4) - 1) / 0.00437
        widths = 1.019 * 24.7 * (0.00437 * centres + 1)
        responses = 1 / (1 + 1j * (_hertz()[:, None] - centres) / widths) ** 4
        magnitude = np.sqrt(powers @ np.abs(responses) ** 2 + FLOOR)
        return np.asarray(fft.dct(np.cbrt(magnitude), type=2, norm="ortho"))
    corners = np.linspace(0, 8000, 22) if kind == "lfcc" else _mel_corners()
    bands = np.log(powers @ _slopes(corners) + FLOOR)
    return bands if kind == "fbank" else np.asarray(fft.dct(bands, type=2, norm="ortho"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_feature_is_what_numpy_and_scipy_say(kind: str) -> None:
    found = _features(kind)(_samples())[0].numpy()
    assert found.shape == (50, 20)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, _restated(kind), atol=2e-3, rtol=0)


def _torchaudio_spectrum() -> dict[str, Any]:
    """Of its transforms, so that their spectrum is ours; frame n begins at sample 160 n."""
    return {
        "n_fft": 512,
        "win_length": 400,
        "hop_length": 160,
        "window_fn": torch.hamming_window,
        "wkwargs": {"periodic": False},
        "center": False,
        "normalized": "window",
    }


def _torchaudio_input() -> Tensor:
    """It centres a window of 400 in a frame of 512: 56 samples on either side are not heard."""
    return torch.nn.functional.pad(_samples(), (56, 56))


def test_lfcc_are_those_of_torchaudio() -> None:
    transform = torchaudio_transforms().LFCC(
        16000, n_filter=20, n_lfcc=20, log_lf=True, speckwargs=_torchaudio_spectrum()
    )
    expected = transform(_torchaudio_input()).transpose(1, 2)
    torch.testing.assert_close(_features("lfcc")(_samples()), expected, atol=2e-3, rtol=0)


def test_mfcc_and_filter_banks_are_those_of_torchaudio() -> None:
    mel = {**_torchaudio_spectrum(), "n_mels": 20, "mel_scale": "htk", "norm": None}
    transform = torchaudio_transforms().MFCC(16000, n_mfcc=20, log_mels=True, melkwargs=mel)
    expected = transform(_torchaudio_input()).transpose(1, 2)
    torch.testing.assert_close(_features("mfcc")(_samples()), expected, atol=2e-3, rtol=0)
    energies = transform.MelSpectrogram(_torchaudio_input()).transpose(1, 2)
    torch.testing.assert_close(
        _features("fbank")(_samples()), torch.log(energies + FLOOR), atol=2e-3, rtol=0
    )


def test_gammatone_responses_are_those_of_the_filters_that_they_stand_for() -> None:
    """scipy's impulse responses (Slaney's design), on a grid much finer than 512 points."""
    bank = gammatone_filterbank(20, 512)
    hertz = np.linspace(50.0, 8000.0, 200_000)
    rate = np.log1p(4.37e-3 * hertz)
    for number in (4, 10, 15):  # neither so low that it is narrower than a bin, nor at Nyquist
        centre = np.interp(rate[0] + (rate[-1] - rate[0]) * number / 19, rate, hertz)
        b, a = signal.gammatone(centre, "fir", order=4, numtaps=4096, fs=16000)
        _, response = signal.freqz(b, a, worN=257, include_nyquist=True)
        power = np.abs(response) ** 2
        np.testing.assert_allclose(bank[:, number], power / power.max(), atol=0.03)


def test_the_filters_are_triangles_that_add_up_to_one_between_their_first_and_last_peak() -> None:
    for bank in (linear_filterbank(20, 512), mel_filterbank(20, 512)):
        peaks = bank.argmax(axis=0)
        np.testing.assert_allclose(bank[peaks[0] + 1 : peaks[-1]].sum(axis=1), 1.0, atol=1e-5)


def test_filters_are_spread_as_their_scale_says() -> None:
    """Half of the mel and gammatone filters sit in the lowest quarter of the linear ones' range."""
    peaks = {
        bank: bank(20, 512).argmax(axis=0) / 256 * 8000.0
        for bank in (linear_filterbank, mel_filterbank, gammatone_filterbank)
    }
    for found in peaks.values():
        assert np.all(np.diff(found) > 0)
    assert 3800 < np.median(peaks[linear_filterbank]) < 4200
    assert np.median(peaks[mel_filterbank]) < 2200
    assert np.median(peaks[gammatone_filterbank]) < 2200


def test_as_many_bands_as_bins_are_the_spectrum_itself() -> None:
    np.testing.assert_array_equal(equal_bands(257, 512), np.eye(257, dtype=np.float32))
    np.testing.assert_allclose(equal_bands(64, 512).sum(axis=0), 1.0, rtol=1e-6)


def test_fewer_coefficients_are_the_first_ones() -> None:
    few, all_of_them = (_features("mfcc", coefficients=n)(_samples()) for n in (7, 20))
    torch.testing.assert_close(few, all_of_them[..., :7])


def test_filters_too_narrow_for_the_spectrum_are_refused() -> None:
    with pytest.raises(ValueError, match=r"network\.filters: 120"):
        _features("fbank", filters=120)
