"""Copies through a mel spectrogram: what acoustic models predict, without a neural vocoder."""

from __future__ import annotations

import numpy as np

from tools.corpus.method import Copied, log_uniform, pick
from tools.corpus.spectra import (
    FLOOR,
    ComplexArray,
    FloatArray,
    MelGrid,
    Signal,
    Stft,
    minimum_phase,
    smooth,
)


def draw_grid(rng: np.random.Generator) -> MelGrid:
    """A random mel analysis between the coarsest and the finest in use."""
    size = pick(rng, (512, 1024, 1024, 2048))
    window = round(size * pick(rng, (1.0, 1.0, 0.78, 0.625)) / 2) * 2
    hop = int(rng.integers(min(128, window // 4), min(320, window // 3) + 1))
    if rng.random() < 0.5:
        hop = window // 4 if window <= 1280 else 256
    count = pick(rng, (40, 64, 80, 80, 80, 96, 100, 128))
    low_hz = pick(rng, (0.0, 0.0, 20.0, 50.0, 80.0))
    high_hz = pick(rng, (8000.0, 8000.0, 8000.0, 7600.0))
    return MelGrid.make(size, hop, window, count, low_hz, high_hz)


def describe_grid(grid: MelGrid) -> dict[str, object]:
    return {
        "fft": grid.stft.size,
        "window": grid.stft.window,
        "hop": grid.stft.hop,
        "mels": len(grid.filters),
        "high_hz": grid.high_hz,
    }


def griffin_lim(speech: Signal, rng: np.random.Generator) -> Copied:
    """Mel and back, phase by the fast Griffin-Lim algorithm (Perraudin et al., 2013)."""
    grid = draw_grid(rng)
    spectra = grid.stft.forward(speech)
    magnitude, drawn = through_mel(grid, np.abs(spectra), rng)
    iterations = round(log_uniform(rng, 4, 40))
    momentum = pick(rng, (0.0, 0.5, 0.9, 0.99))
    phase = _random_phase(rng, magnitude.shape) * pick(rng, (0.0, 1.0, 1.0))
    found = rebuild_phase(grid.stft, magnitude, phase, iterations, momentum, len(speech))
    drawn |= {"iterations": iterations, "momentum": momentum, **describe_grid(grid)}
    return found, drawn


def mel_phase(speech: Signal, rng: np.random.Generator) -> Copied:
    """Mel and back, with a phase that comes in one step: part of the original, coarse, or none."""
    grid = draw_grid(rng)
    spectra = grid.stft.forward(speech)
    magnitude, drawn = through_mel(grid, np.abs(spectra), rng)
    original = np.angle(spectra)
    kind = pick(rng, ("partial", "coarse", "integrated", "minimum"))
    drawn |= {"phase": kind, **describe_grid(grid)}
    if kind == "partial":
        share = rng.uniform(0.3, 0.9)
        drawn["kept"] = share
        phase = original + (1 - share) * _random_phase(rng, original.shape)
    elif kind == "coarse":
        levels = int(rng.integers(3, 9))
        drawn["levels"] = levels
        phase = np.round(original * levels / (2 * np.pi)) * (2 * np.pi / levels)
    elif kind == "integrated":
        # Right within each bin from frame to frame, wrong from bin to bin: a phase vocoder's sound.
        drift = rng.uniform(0.02, 0.4)
        drawn["drift"] = drift
        first = _random_phase(rng, (1, original.shape[1]))
        steps = np.diff(original, axis=0, prepend=first)
        phase = np.cumsum(steps + drift * rng.standard_normal(steps.shape, np.float32), axis=0)
    else:
        # The excitation keeps its phase, the vocal tract takes the one its magnitude implies.
        drawn["noise"] = noise = rng.uniform(0.0, 0.6)
        excitation = original - np.angle(minimum_phase(np.abs(spectra)))
        phase = excitation + np.angle(minimum_phase(magnitude))
        phase += noise * rng.standard_normal(phase.shape, np.float32)
    return grid.stft.inverse(_polar(magnitude, phase), len(speech)), drawn


def through_mel(
    grid: MelGrid, magnitude: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, dict[str, object]]:
    """``[frames, bins]`` after mel, some blur as acoustic models leave it, and the way back."""
    log_mel = np.log(grid.forward(magnitude) + FLOOR)
    drawn: dict[str, object] = {}
    if rng.random() < 0.5:
        drawn["blur_time"] = in_time = rng.uniform(0.3, 1.2)
        drawn["blur_mel"] = in_mel = rng.uniform(0.3, 1.0)
        log_mel = smooth(smooth(log_mel, in_time, 0), in_mel, 1)
    if rng.random() < 0.2:
        drawn["step_db"] = step_db = rng.uniform(0.5, 3.0)
        step = step_db / 20 * np.log(10)
        log_mel = np.round(log_mel / step) * step
    mel = np.exp(log_mel).astype(np.float32)
    if rng.random() < 0.5:
        drawn["inverse"] = "pseudo"
        return grid.pseudo_inverse(mel), drawn
    drawn["inverse"] = "nnls"
    return grid.non_negative_inverse(mel, int(rng.integers(3, 12))), drawn


def rebuild_phase(
    stft: Stft,
    magnitude: FloatArray,
    phase: FloatArray,
    iterations: int,
    momentum: float,
    length: int,
) -> Signal:
    """The signal of these magnitudes after so many rounds of consistency."""
    spectra = _polar(magnitude, phase)
    previous = np.zeros_like(spectra)
    for _ in range(iterations):
        consistent = stft.forward(stft.inverse(spectra, length))
        pushed = consistent + momentum * (consistent - previous)
        previous = consistent
        turned = pushed / np.maximum(np.abs(pushed), np.float32(1e-12))
        spectra = np.asarray(magnitude * turned, np.complex64)
    return stft.inverse(spectra, length)


def _polar(magnitude: FloatArray, phase: FloatArray) -> ComplexArray:
    return np.asarray(magnitude * np.exp(1j * phase.astype(np.float32)), np.complex64)


def _random_phase(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    return np.asarray(rng.uniform(-np.pi, np.pi, shape), np.float32)
