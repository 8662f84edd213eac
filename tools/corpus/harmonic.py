"""Copies by harmonics plus noise (Stylianou, 2001): sinusoids at multiples of F0, shaped noise."""

from __future__ import annotations

import numpy as np

from tools.corpus.method import Copied, pick
from tools.corpus.pitch import track_pitch
from tools.corpus.spectra import FLOOR, RATE_HZ, Signal, Stft, smooth


def harmonic_noise(speech: Signal, rng: np.random.Generator) -> Copied:
    """Amplitudes of harmonics from the spectrum, phases made anew; noise above and between."""
    hop = pick(rng, (80, 100, 128, 160))
    size = pick(rng, (512, 768, 1024))
    smallest = Stft(size, hop)
    spectra = smallest.forward(speech)
    magnitude = np.abs(spectra)
    pitch = track_pitch(speech, hop)
    border_hz = rng.uniform(2500.0, 7500.0)
    blur = pick(rng, (0.0, 0.0, 0.5, 1.0))
    drawn: dict[str, object] = {"hop": hop, "fft": size, "border_hz": border_hz, "blur": blur}
    frames = min(len(pitch.hz), len(magnitude))
    magnitude = smooth(magnitude[:frames], blur, 0)
    f0, strength = pitch.hz[:frames], pitch.strength[:frames]
    border = border_hz * np.clip((strength - 0.25) / 0.5, 0, 1)

    length = len(speech)
    times = np.arange(frames) * hop
    phase = 2 * np.pi * np.cumsum(pitch.hz_per_sample(length)) / RATE_HZ
    offsets = rng.uniform(-np.pi, np.pi, 200) * pick(rng, (0.0, 0.3, 1.0))
    drawn["phase_spread"] = float(np.ptp(offsets))
    out = np.zeros(length, np.float32)
    rows = np.arange(frames)
    for number in range(1, int(7900 / max(float(f0.min()), 65.0)) + 1):
        hz = number * f0
        place = np.clip(hz * size / RATE_HZ, 0, size // 2 - 1)
        lower = place.astype(int)
        part = place - lower
        height = magnitude[rows, lower] * (1 - part) + magnitude[rows, lower + 1] * part
        height = height / smallest.gain * np.clip((border - hz) / 400 + 0.5, 0, 1)
        height[hz > RATE_HZ / 2 - 100] = 0
        if not height.any():
            continue
        level = np.interp(np.arange(length), times, height).astype(np.float32)
        out += level * np.cos((number * phase + offsets[number - 1]) % (2 * np.pi)).astype(
            np.float32
        )

    envelope = smooth(np.log(np.maximum(magnitude, FLOOR)), 120.0 * size / RATE_HZ, 1)
    bins = np.arange(size // 2 + 1) * RATE_HZ / size
    share = np.clip((bins[None, :] - border[:, None]) / 400 + 0.5, 0, 1)
    floor = rng.uniform(0.02, 0.15)
    noise = np.exp(envelope) * np.maximum(share, floor) * _rayleigh(envelope.shape, rng)
    turned = noise * np.exp(1j * rng.uniform(-np.pi, np.pi, noise.shape))
    return out + smallest.inverse(turned.astype(np.complex64), length), drawn


def _rayleigh(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Magnitudes of a complex Gaussian; the factor makes their geometric mean 1."""
    return np.asarray(rng.rayleigh(size=shape) * np.exp(-0.058), np.float32)
