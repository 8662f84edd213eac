"""CORES: 66 hand-made descriptors of a hop, each librosa's own on frames of this signal.

Khan, Uddin and Malik, "Dual-Branch Gated Fusion for Open-Set Audio Deepfake Source Tracing": 13
MFCC with first and second derivatives (39), chroma (14), zero-crossing rate, RMS, spectral
centroid, bandwidth and roll-off, spectral contrast (7), flatness; means over the frames.

The text names no frames; here they are 64 ms every 25 ms, so that a hop holds 20 whole ones, each
with its true past and none with the future (librosa: ``n_fft=1024, hop_length=400,
center=False``). Means of hops then add up to those of a window. What differs from librosa on a
whole clip:

- Decibels are not cut 80 dB below the clip's loudest frame (``top_db``): mel powers have a floor
  instead, as far below the loudest ones of a leg whose peak is 1.
- Chroma has no tuning of its own (``tuning=0.0``), which librosa estimates from the clip.
- Derivatives need four frames on either side: they are taken on the 12 frames of a hop that have
  them inside it, equal to ``librosa.feature.delta`` there. The edges of a clip, where librosa
  repeats the outermost value, and the eight frames around the joint of two hops do not count.
- At the start of a segment the frames reach into 624 samples of zeros.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.cnn_lstm.features import dct_matrix

if TYPE_CHECKING:
    import numpy.typing as npt

    Matrix = npt.NDArray[np.float32]

SAMPLE_RATE_HZ = 16000
FFT = 1024
SHIFT_SAMPLES = 400
LEFT_CONTEXT = FFT - SHIFT_SAMPLES
MELS = 128
CEPSTRA = 13
CHROMAS = 14
DELTA_WIDTH = 9
ROLLOFF = 0.85
CONTRAST_BANDS = 7
CONTRAST_FROM_HZ = 200.0
CONTRAST_QUANTILE = 0.02
LEAST_MEL_POWER = 1e-5
"""80 dB below the loudest band of speech whose peak is 1 (about 30 dB)."""
LEAST_POWER = 1e-10
"""librosa's ``amin``, of decibels and of flatness."""
_SILENCE = float(np.finfo(np.float32).tiny)
"""Below it librosa does not divide by a norm."""

NAMES = (
    *(f"mfcc {i}" for i in range(CEPSTRA)),
    *(f"mfcc {i} delta" for i in range(CEPSTRA)),
    *(f"mfcc {i} delta 2" for i in range(CEPSTRA)),
    *(f"chroma {i}" for i in range(CHROMAS)),
    "zero-crossing rate",
    "rms",
    "spectral centroid",
    "spectral bandwidth",
    "spectral roll-off",
    *(f"spectral contrast {i}" for i in range(CONTRAST_BANDS)),
    "spectral flatness",
)
SIZE = len(NAMES)


class Cores(nn.Module):
    """``[batch, 624 + 400 n]`` samples -> ``[batch, 66]``, the means over n frames (n >= 9)."""

    fourier: Tensor
    mel: Tensor
    cosine: Tensor
    chroma: Tensor
    hertz: Tensor
    derivatives: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (
            ("fourier", _fourier()),
            ("mel", mel_filterbank()),
            ("cosine", dct_matrix(MELS, CEPSTRA)),
            ("chroma", chroma_filterbank()),
            ("hertz", np.arange(FFT // 2 + 1) * (SAMPLE_RATE_HZ / FFT)),
            ("derivatives", _derivatives()),
        ):
            self.register_buffer(
                name, torch.from_numpy(values.astype(np.float32)), persistent=False
            )
        self.contrast = _contrast_bands()

    def forward(self, samples: Tensor) -> Tensor:
        return torch.cat([frames.mean(dim=1) for frames in self.frames(samples)], dim=1)

    def frames(self, samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Frame values: cepstra ``[batch, n, 13]``, derivatives ``[batch, n - 8, 26]``, the other
        descriptors ``[batch, n, 27]``."""
        spectrum = functional.conv1d(samples[:, None], self.fourier, stride=SHIFT_SAMPLES)
        squared = spectrum.square().transpose(1, 2)
        real, imaginary = torch.chunk(squared, 2, dim=2)
        power = real + imaginary
        magnitude = power.sqrt()
        cepstra = _decibels(power @ self.mel, LEAST_MEL_POWER) @ self.cosine
        rows = cepstra.transpose(1, 2).flatten(0, 1)[:, None]
        slopes = functional.conv1d(rows, self.derivatives)
        slopes = slopes.reshape(-1, CEPSTRA, *slopes.shape[1:])
        others = (
            _chroma(power @ self.chroma),
            _crossings(samples),
            functional.avg_pool1d(samples.square()[:, None], FFT, SHIFT_SAMPLES)
            .sqrt()
            .transpose(1, 2),
            self._shape(magnitude),
            self._contrast(magnitude),
            _flatness(power),
        )
        return cepstra, slopes.permute(0, 3, 2, 1).flatten(2), torch.cat(others, dim=2)

    def _shape(self, magnitude: Tensor) -> Tensor:
        """Centroid, bandwidth and roll-off, in hertz."""
        total = magnitude.sum(dim=2, keepdim=True)
        share = magnitude / torch.where(total < _SILENCE, 1.0, total)
        centroid = (share @ self.hertz)[..., None]
        bandwidth = (share * (self.hertz - centroid).square()).sum(dim=2, keepdim=True).sqrt()
        energy = magnitude.cumsum(dim=2)
        below = (energy < ROLLOFF * energy[..., -1:]).to(magnitude.dtype)
        rolloff = below.sum(dim=2, keepdim=True) * (SAMPLE_RATE_HZ / FFT)
        return torch.cat((centroid, bandwidth, rolloff), dim=2)

    def _contrast(self, magnitude: Tensor) -> Tensor:
        """Decibels between the loudest and the quietest bins of each octave."""
        found = []
        for first, stop, count in self.contrast:
            band = magnitude[..., first:stop]
            peak, valley = (
                torch.topk(band, count, dim=2, largest=largest).values.mean(dim=2, keepdim=True)
                for largest in (True, False)
            )
            found.append(_decibels(peak, LEAST_POWER) - _decibels(valley, LEAST_POWER))
        return torch.cat(found, dim=2)


def _decibels(power: Tensor, least: float) -> Tensor:
    return 10.0 * torch.log10(power.clamp(min=least))


def _chroma(raw: Tensor) -> Tensor:
    loudest = raw.amax(dim=2, keepdim=True)
    return raw / torch.where(loudest < _SILENCE, 1.0, loudest)


def _crossings(samples: Tensor) -> Tensor:
    """Share of a frame's samples whose sign is not that of the one before, in the same frame."""
    negative = (samples < -LEAST_POWER).to(samples.dtype)
    changes = (negative[:, 1:] - negative[:, :-1]).abs()[:, None]
    means = functional.avg_pool1d(changes, FFT - 1, SHIFT_SAMPLES)
    return means.transpose(1, 2) * ((FFT - 1) / FFT)


def _flatness(power: Tensor) -> Tensor:
    heard = power.clamp(min=LEAST_POWER)
    return heard.log().mean(dim=2, keepdim=True).exp() / heard.mean(dim=2, keepdim=True)


def _fourier() -> Matrix:
    """``[2 (fft / 2 + 1), 1, fft]``: cosines, then sines, under a periodic Hann window."""
    time = np.arange(FFT)
    angles = 2.0 * np.pi / FFT * (np.arange(FFT // 2 + 1)[:, None] * time % FFT)
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * time / FFT)
    basis = np.concatenate((np.cos(angles), np.sin(angles))) * window
    return np.asarray(basis[:, None], np.float32)


def mel_filterbank() -> Matrix:
    """``[fft / 2 + 1, 128]``: Slaney's mel, linear below 1 kHz; triangles of equal area."""
    linear, logarithmic = 200.0 / 3.0, np.log(6.4) / 27.0
    knee = 1000.0 / linear
    highest = knee + np.log(SAMPLE_RATE_HZ / 2 / 1000.0) / logarithmic
    mels = np.linspace(0.0, highest, MELS + 2)
    edges = np.where(mels < knee, mels * linear, 1000.0 * np.exp(logarithmic * (mels - knee)))
    hertz = np.arange(FFT // 2 + 1)[:, None] * (SAMPLE_RATE_HZ / FFT)
    rising = (hertz - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - hertz) / np.diff(edges)[1:]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return np.asarray(triangles * 2.0 / (edges[2:] - edges[:-2]), np.float32)


def chroma_filterbank() -> Matrix:
    """``[fft / 2 + 1, 14]``: Gaussian bumps around 14 pitch classes to the octave (Ellis 2007).

    Classes count from three above that of 440 Hz, as librosa does for 12 of them, where it is C.
    """
    hertz = np.arange(1, FFT) * (SAMPLE_RATE_HZ / FFT)
    place = CHROMAS * np.log2(hertz / (440.0 / 16.0))
    place = np.concatenate(([place[0] - 1.5 * CHROMAS], place))
    width = np.concatenate((np.maximum(np.diff(place), 1.0), [1.0]))
    half = np.round(CHROMAS / 2)
    away = np.remainder(place - np.arange(CHROMAS)[:, None] + half, CHROMAS) - half
    bumps = np.exp(-0.5 * np.square(2.0 * away / width))
    bumps /= np.sqrt(np.square(bumps).sum(axis=0))
    bumps *= np.exp(-0.5 * np.square((place / CHROMAS - 5.0) / 2.0))
    return np.asarray(np.roll(bumps, -3, axis=0)[:, : FFT // 2 + 1].T, np.float32)


def _contrast_bands() -> tuple[tuple[int, int, int], ...]:
    """First bin, the bin behind the last one, and how many are a peak, of each octave."""
    edges = [0.0, *(CONTRAST_FROM_HZ * 2.0**octave for octave in range(CONTRAST_BANDS))]
    bins = FFT // 2 + 1
    bands = []
    for octave in range(CONTRAST_BANDS):
        first = int(np.ceil(edges[octave] * FFT / SAMPLE_RATE_HZ)) - (octave > 0)
        stop = int(np.floor(edges[octave + 1] * FFT / SAMPLE_RATE_HZ)) + 1
        if octave == CONTRAST_BANDS - 1:
            stop = bins
        count = max(1, round(CONTRAST_QUANTILE * (stop - first)))
        # But for the last octave, the highest bin counts only for the number.
        bands.append((first, stop if stop == bins else stop - 1, count))
    return tuple(bands)


def _derivatives() -> Matrix:
    """``[2, 1, 9]``: Savitzky and Golay's, of a line and of a parabola through nine frames."""
    frame = np.arange(DELTA_WIDTH) - DELTA_WIDTH // 2
    first = np.linalg.pinv(np.vander(frame, 2, increasing=True))[1]
    second = 2.0 * np.linalg.pinv(np.vander(frame, 3, increasing=True))[2]
    return np.asarray(np.stack((first, second))[:, None], np.float32)
