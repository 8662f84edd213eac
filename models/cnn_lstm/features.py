"""Five spectral features of 25 ms frames every 10 ms, as torch modules that export to ONNX.

Each is the power spectrum of a frame, a bank of filters, a compression and, for the cepstra, a
cosine transform; they differ in the bank and the compression only:

- ``lfcc``: triangles equally spaced in hertz, logarithm, cosine transform.
- ``mfcc``: triangles equally spaced in mel (HTK's formula), logarithm, cosine transform.
- ``gfcc``: gammatone filters equally spaced in ERB rate, cubic root of the magnitude, cosine
  transform; after Shao, Jin, Wang and Srinivasan, "An auditory-based feature for robust speech
  recognition", ICASSP 2009, with the filters' frequency responses in place of the filters.
- ``fbank``: the mel triangles, logarithm.
- ``spectrogram``: bands of equal width that do not overlap, logarithm; as many bands as the
  spectrum has bins give the spectrum itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from models.spectrum import Power, arranged, hamming

if TYPE_CHECKING:
    import numpy.typing as npt

    Matrix = npt.NDArray[np.float32]

SAMPLE_RATE_HZ = 16000


def linear_filterbank(filters: int, fft: int) -> Matrix:
    """``[fft // 2 + 1, filters]``: triangles with equally spaced corners from 0 Hz to Nyquist."""
    return _triangles(np.linspace(0.0, fft / 2, filters + 2), fft)


def mel_filterbank(filters: int, fft: int) -> Matrix:
    """``[fft // 2 + 1, filters]``: triangles with corners equally spaced in mel, 0 to Nyquist.

    HTK's mel, 2595 log10(1 + f / 700); peaks of one, edges straight in hertz.
    """
    highest = 2595.0 * np.log10(1.0 + SAMPLE_RATE_HZ / 2 / 700.0)
    hertz = 700.0 * (10.0 ** (np.linspace(0.0, highest, filters + 2) / 2595.0) - 1.0)
    return _triangles(hertz * fft / SAMPLE_RATE_HZ, fft)


def gammatone_filterbank(filters: int, fft: int) -> Matrix:
    """``[fft // 2 + 1, filters]``: power responses of fourth-order gammatone filters, peaks of one.

    Centres equally spaced in ERB rate from 50 Hz to Nyquist; |H|^2 = (1 + ((f - fc) / b)^2)^-4,
    b = 1.019 ERB(fc) (Patterson et al. 1992), ERB(f) = 24.7 (1 + 4.37 f / 1000) (Glasberg and
    Moore 1990).
    """
    lowest, highest = (np.log1p(4.37e-3 * hertz) for hertz in (50.0, SAMPLE_RATE_HZ / 2))
    centres = np.expm1(np.linspace(lowest, highest, filters)) / 4.37e-3
    bandwidths = 1.019 * 24.7 * (1.0 + 4.37e-3 * centres)
    hertz = np.arange(fft // 2 + 1) * SAMPLE_RATE_HZ / fft
    response = (1.0 + ((hertz[:, None] - centres) / bandwidths) ** 2) ** -4
    return np.asarray(response, np.float32)


def equal_bands(filters: int, fft: int) -> Matrix:
    """``[fft // 2 + 1, filters]``: means over bands of equal width; a bin may lie in two."""
    bins = np.arange(fft // 2 + 1)
    edges = np.linspace(-0.5, fft / 2 + 0.5, filters + 1)
    inside = np.minimum(bins[:, None] + 0.5, edges[1:]) - np.maximum(
        bins[:, None] - 0.5, edges[:-1]
    )
    return np.asarray(np.maximum(0.0, inside) / np.diff(edges), np.float32)


def dct_matrix(filters: int, coefficients: int) -> Matrix:
    """``[filters, coefficients]``: orthonormal DCT-II."""
    angles = np.pi / filters * (np.arange(filters)[:, None] + 0.5) * np.arange(coefficients)
    matrix = np.cos(angles) * math.sqrt(2.0 / filters)
    matrix[:, 0] /= math.sqrt(2.0)
    return np.asarray(matrix, np.float32)


def whitening(centred: Tensor, floor: float) -> Tensor:
    """``[bands, bands]`` float64: what brings bands without their means, ``[frames, bands]``, to
    about one variance in every cepstral direction, and back to bands.

    ``floor`` is added to each deviation, in the unit of the bands.
    """
    bands = centred.shape[1]
    dct = torch.from_numpy(dct_matrix(bands, bands)).to(centred.device, torch.float64)
    deviation = (centred.double() @ dct).square().mean(dim=0).sqrt()
    return dct @ torch.diag(1.0 / (deviation + floor)) @ dct.T


@dataclass(frozen=True, slots=True)
class Kind:
    """What tells a feature from the others."""

    bank: Callable[[int, int], Matrix]
    cepstral: bool
    root: bool = False
    """Cubic root of the magnitude in place of the logarithm."""


KINDS: Mapping[str, Kind] = {
    "lfcc": Kind(linear_filterbank, cepstral=True),
    "mfcc": Kind(mel_filterbank, cepstral=True),
    "gfcc": Kind(gammatone_filterbank, cepstral=True, root=True),
    "fbank": Kind(mel_filterbank, cepstral=False),
    "spectrogram": Kind(equal_bands, cepstral=False),
}


class Features(nn.Module):
    """``[batch, 240 + 160 n]`` samples -> ``[batch, n, width]``, of one kind.

    ``width`` is ``coefficients`` for cepstra, else ``filters``; the power spectrum comes from
    ``models.spectrum``. ``floor`` is added to the energies before they are compressed.
    """

    filterbank: Tensor
    dct: Tensor | None

    def __init__(self, kind: str, filters: int, coefficients: int, fft: int, floor: float) -> None:
        super().__init__()
        self.kind = KINDS[kind]
        self.floor = floor
        self.power = Power(fft, hamming())
        bank = self.kind.bank(filters, fft)
        if not bool(bank.any(axis=0).all()):
            raise ValueError(f"network.filters: {filters}: a filter holds no bin of {fft} points")
        self.register_buffer("filterbank", torch.from_numpy(arranged(bank)), persistent=False)
        dct = torch.from_numpy(dct_matrix(filters, coefficients)) if self.kind.cepstral else None
        self.register_buffer("dct", dct, persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        energies = self.power(samples) @ self.filterbank + self.floor
        # The root of a power that is the cubic root of the magnitude.
        compressed = energies.pow(1.0 / 6.0) if self.kind.root else torch.log(energies)
        return compressed if self.dct is None else compressed @ self.dct


def _triangles(corners: npt.NDArray[np.float64], fft: int) -> Matrix:
    """``[fft // 2 + 1, len(corners) - 2]``: from corner to corner, in bins; peaks of one."""
    bins = np.arange(fft // 2 + 1)
    rising = (bins[:, None] - corners[None, :-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[None, 2:] - bins[:, None]) / (corners[2:] - corners[1:-1])
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)), np.float32)
