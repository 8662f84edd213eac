"""A voice for the tests: pulses through two moving formants, syllables with pauses between."""

from __future__ import annotations

import numpy as np
from scipy import signal

from tools.corpus.spectra import RATE_HZ, Signal


def voice(seconds: float = 1.2, hz: float = 120.0, seed: int = 0) -> Signal:
    """Speech enough for pitch trackers and likeness: voiced, unvoiced and silent parts."""
    rng = np.random.default_rng(seed)
    count = round(seconds * RATE_HZ)
    time_s = np.arange(count) / RATE_HZ
    cycles = np.cumsum(hz * (1 + 0.1 * np.sin(2 * np.pi * 1.5 * time_s)) / RATE_HZ)
    pulses = (np.diff(np.floor(cycles), prepend=0) > 0).astype(float)
    out = np.zeros(count)
    block = RATE_HZ // 5
    for index, start in enumerate(range(0, count, block)):
        source = pulses[start : start + block] * 8 + 0.02 * rng.standard_normal(
            len(pulses[start : start + block])
        )
        if index % 3 == 2:
            source = 0.3 * rng.standard_normal(len(source))
        for formant in (500.0 + 150 * (index % 4), 1500.0 + 300 * (index % 3)):
            a = np.poly(0.97 * np.exp(np.array([1j, -1j]) * 2 * np.pi * formant / RATE_HZ)).real
            source = signal.lfilter([1.0], a, source)
        envelope = np.hanning(len(source)) ** 0.5
        out[start : start + block] = source * envelope
    out += 1e-4 * rng.standard_normal(count)
    return np.asarray(0.5 * out / np.abs(out).max(), np.float32)
