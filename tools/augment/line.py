"""The 16-bit grid, and a telephone line of G.711 at 8 kHz."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

from streamguard.audio import g711
from streamguard.audio.resample import HalfBand
from tools.augment.settings import RATE_HZ

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]


def telephone(batch: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Through an 8 kHz G.711 line and up again by the daemon's own resampler.

    Half of the clips by either law; the band of the line is drawn, from that of a handset
    (300-3400 Hz) to all that 8 kHz carries. The samples must be a multiple of two.
    """
    count, samples = len(batch), batch.shape[1]
    hz = fft.rfftfreq(samples, 1 / RATE_HZ).astype(np.float32)
    low = rng.uniform(20.0, 300.0, size=(count, 1)).astype(np.float32)
    high = rng.uniform(3300.0, 3900.0, size=(count, 1)).astype(np.float32)
    below = np.clip((low - hz) * np.float32(0.15), 0.0, 40.0)
    above = np.clip((hz - high) * np.float32(0.3), 0.0, 80.0)
    spectrum = fft.rfft(batch, axis=1) * amplitude(-(below + above))
    narrow = fft.irfft(spectrum, samples, axis=1)[:, ::2]
    out = np.empty_like(batch)
    for row, mu_law in enumerate(rng.random(size=count) < 0.5):
        out[row] = HalfBand().process(g711_line(narrow[row], mu_law))
    return out


def g711_line(narrow: FloatArray, mu_law: bool) -> FloatArray:
    """8 kHz samples as the far end of a G.711 line hears them."""
    coded = to_int16(narrow)
    if mu_law:
        return from_int16(g711.decode_ulaw(g711.encode_ulaw(coded)))
    return from_int16(g711.decode_alaw(g711.encode_alaw(coded)))


def amplitude(level_db: FloatArray) -> FloatArray:
    """Decibels to a factor; ``exp`` because numpy's power is ten times slower."""
    return np.asarray(np.exp(level_db * np.float32(np.log(10.0) / 20.0)), np.float32)


def to_int16(samples: npt.NDArray[np.floating]) -> npt.NDArray[np.int16]:
    """Full scale 1.0 to 16 bits, rounded and limited."""
    return np.asarray(np.clip(np.round(samples * 32768.0), -32768, 32767), np.int16)


def from_int16(samples: npt.NDArray[np.int16]) -> FloatArray:
    """16 bits to full scale 1.0."""
    return samples.astype(np.float32) / np.float32(32768.0)


def quantise(samples: FloatArray) -> FloatArray:
    """On the grid of 16-bit audio."""
    return from_int16(to_int16(samples))
