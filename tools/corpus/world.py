"""Copies by the WORLD vocoder (Morise, Yokomori, Ozawa, 2016), with what systems do to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamguard.errors import StreamguardError
from tools.corpus.method import Copied, Copier, pick
from tools.corpus.spectra import RATE_HZ, Signal, smooth

if TYPE_CHECKING:
    from collections.abc import Sequence


class WorldMissing(StreamguardError):
    """The package pyworld is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "the method world needs a package: pip install pyworld-prebuilt "
            "(or leave world out of --methods)"
        )


def prepare_world(speech: Sequence[Signal], rng: np.random.Generator) -> Copier:
    """The method, if its package is there; raises ``WorldMissing`` before any work is done."""
    try:
        import pyworld  # noqa: F401  # asked for here so that its absence is known early
    except ImportError as err:
        raise WorldMissing from err
    return world


def world(speech: Signal, rng: np.random.Generator) -> Copied:
    """F0, spectral envelope and aperiodicity, perhaps coded, smoothed, quantised; and back."""
    import pyworld

    samples = speech.astype(np.float64)
    period_ms = pick(rng, (5.0, 5.0, 6.0, 8.0, 10.0))
    drawn: dict[str, object] = {"period_ms": period_ms}
    coarse, times = pyworld.dio(samples, RATE_HZ, f0_floor=65.0, frame_period=period_ms)
    f0 = pyworld.stonemask(samples, coarse, times, RATE_HZ)
    envelope = pyworld.cheaptrick(samples, f0, times, RATE_HZ)
    aperiodicity = pyworld.d4c(samples, f0, times, RATE_HZ)
    size = pyworld.get_cheaptrick_fft_size(RATE_HZ)
    if rng.random() < 0.6:
        drawn["cepstrum"] = order = int(rng.integers(24, 61))
        coded = pyworld.code_spectral_envelope(envelope, RATE_HZ, order)
        if rng.random() < 0.5:
            drawn["blur"] = blur = rng.uniform(0.3, 1.5)
            coded = np.ascontiguousarray(smooth(coded, blur, 0), np.float64)
        envelope = pyworld.decode_spectral_envelope(coded, RATE_HZ, size)
    if rng.random() < 0.6:
        bands = pyworld.code_aperiodicity(aperiodicity, RATE_HZ)
        aperiodicity = pyworld.decode_aperiodicity(bands, RATE_HZ, size)
        drawn["aperiodicity"] = "coded"
    if rng.random() < 0.3:
        drawn["f0_step"] = step = rng.uniform(0.1, 0.6)
        voiced = f0 > 0
        semitones = 12 * np.log2(np.where(voiced, f0, 100.0) / 100.0)
        f0 = np.where(voiced, 100.0 * 2 ** (np.round(semitones / step) * step / 12), 0.0)
    copy = pyworld.synthesize(f0, envelope, aperiodicity, RATE_HZ, frame_period=period_ms)
    return np.resize(copy, len(speech)).astype(np.float32), drawn
