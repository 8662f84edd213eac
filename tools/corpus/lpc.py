"""Copies by linear prediction: all-pole vocal tracts with excitations of several kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft, signal

from tools.corpus.method import Copied, log_uniform, pick
from tools.corpus.pitch import Pitch, track_pitch
from tools.corpus.spectra import RATE_HZ, Signal, frame_count

if TYPE_CHECKING:
    import numpy.typing as npt

    Matrix = npt.NDArray[np.float64]


def predictors(speech: Signal, order: int, hop: int, window: int) -> tuple[Matrix, Matrix]:
    """``[hops, order + 1]`` polynomials A(z) beginning with 1; ``[hops, order]`` reflections.

    Autocorrelation method, with a floor 50 dB below the signal and a 40 Hz lag window, so that
    every all-pole filter 1/A is stable.
    """
    count = frame_count(len(speech), hop)
    half = window // 2
    padded = np.pad(speech.astype(np.float64), (half, window + hop))
    frames = sliding_window_view(padded, window)[hop // 2 :: hop][:count] * np.hamming(window)
    size = fft.next_fast_len(window + order + 1, real=True)
    power = np.abs(fft.rfft(frames, size, axis=1)) ** 2
    lags = fft.irfft(power, size, axis=1)[:, : order + 1]
    lags *= np.exp(-0.5 * (2 * np.pi * 40 / RATE_HZ * np.arange(order + 1)) ** 2)
    lags[:, 0] = lags[:, 0] * (1 + 1e-5) + 1e-9
    reflections = np.empty((count, order))
    polynomial = np.zeros((count, order + 1))
    polynomial[:, 0] = 1
    error = lags[:, 0].copy()
    for step in range(1, order + 1):
        missed = np.einsum("ij,ij->i", polynomial[:, :step], lags[:, step:0:-1])
        reflection = -missed / error
        reflections[:, step - 1] = reflection
        polynomial[:, 1 : step + 1] += reflection[:, None] * polynomial[:, step - 1 :: -1][:, :step]
        error *= 1 - reflection**2
    return polynomial, reflections


def polynomials(reflections: Matrix) -> Matrix:
    """A(z) of reflection coefficients: the step-up recursion."""
    count, order = reflections.shape
    polynomial = np.zeros((count, order + 1))
    polynomial[:, 0] = 1
    for step in range(1, order + 1):
        polynomial[:, 1 : step + 1] += (
            reflections[:, step - 1, None] * polynomial[:, step - 1 :: -1][:, :step]
        )
    return polynomial


def residual(speech: Signal, polynomial: Matrix, hop: int) -> Matrix:
    """``[hops, hop]``: what prediction leaves, hop by hop."""
    count, taps = polynomial.shape
    padded = np.zeros(count * hop + taps - 1)
    padded[taps - 1 : taps - 1 + len(speech)] = speech
    history = sliding_window_view(padded, taps).reshape(count, hop, taps)
    return np.asarray(np.einsum("fnk,fk->fn", history, polynomial[:, ::-1]), np.float64)


def resound(excitation: Matrix, polynomial: Matrix) -> npt.NDArray[np.float64]:
    """``[samples]``: the excitation ``[hops, hop]`` through 1/A; its memory runs on across hops."""
    order = polynomial.shape[1] - 1
    out = np.zeros(order + excitation.size)
    hop = excitation.shape[1]
    for index, (row, taps) in enumerate(zip(excitation, polynomial, strict=True)):
        start = order + index * hop
        memory = signal.lfiltic([1.0], taps, out[start - 1 : start - order - 1 : -1])
        if index == 0:
            memory = np.zeros(order)
        out[start : start + hop], _ = signal.lfilter([1.0], taps, row, zi=memory)
    return out[order:]


def lpc(speech: Signal, rng: np.random.Generator) -> Copied:
    """An LPC vocoder: pulses and noise, mixed excitation, or a coarse residual."""
    hop = pick(rng, (80, 80, 120, 160, 180))
    order = int(rng.integers(10, 25))
    window = max(2 * hop, int(rng.integers(240, 513)))
    polynomial, reflections = predictors(speech, order, hop, window)
    drawn: dict[str, object] = {"order": order, "hop": hop, "window": window}
    left = residual(speech, polynomial, hop)
    if rng.random() < 0.5:
        drawn["levels"] = levels = int(log_uniform(rng, 16, 128))
        # Uniform in the arc sine: finest near ±1, where the spectrum is most sensitive.
        angles = np.round(np.arcsin(reflections) * levels / np.pi) * np.pi / levels
        polynomial = polynomials(np.clip(np.sin(angles), -0.995, 0.995))
    kind = pick(rng, ("pulse", "mixed", "mixed", "coarse residual", "spectral fold"))
    drawn["excitation"] = kind
    gain = np.sqrt(np.mean(left**2, axis=1, keepdims=True) + 1e-12)
    if kind == "coarse residual":
        drawn["bits"] = bits = rng.uniform(1.0, 2.5)
        scale = gain * (2.5 / 2**bits) * 2
        excitation = scale * np.round(left / scale + rng.uniform(-0.1, 0.1))
    elif kind == "spectral fold":
        drawn["fold"] = fold = int(rng.integers(2, 7))
        flat = left.ravel()
        kept = signal.sosfiltfilt(signal.butter(8, 0.9 / fold, output="sos"), flat)
        held = np.zeros_like(flat)
        held[::fold] = kept[::fold] * fold
        excitation = held.reshape(left.shape)
        excitation *= gain / np.sqrt(np.mean(excitation**2, axis=1, keepdims=True) + 1e-12)
    else:
        pitch = track_pitch(speech, hop)
        mixing = rng.uniform(1000.0, 4000.0) if kind == "mixed" else RATE_HZ / 2
        drawn["voiced_to_hz"] = mixing
        excitation = _voice(pitch, left.shape, mixing, rng) * gain
    return resound(excitation, polynomial)[: len(speech)].astype(np.float32), drawn


def _voice(
    pitch: Pitch, shape: tuple[int, ...], voiced_to_hz: float, rng: np.random.Generator
) -> Matrix:
    """``[hops, hop]`` of unit power: noise, and below a frequency pulses as far as it is voiced."""
    length = shape[0] * shape[1]
    cycles = np.cumsum(pitch.hz_per_sample(length) / RATE_HZ)
    pulses = np.zeros(length)
    at = np.flatnonzero(np.diff(np.floor(cycles), prepend=0) > 0)
    pulses[at] = np.sqrt(np.diff(at, append=length).clip(1, 300))
    spread = int(rng.integers(0, 65))
    if spread > 8:  # a pulse spread by an all-pass sounds less like a buzzer
        dispersion = np.exp(1j * np.cumsum(rng.uniform(-0.6, 0.6, spread // 2 + 1)))
        dispersion[0] = dispersion[-1] = 1.0
        pulses = signal.oaconvolve(pulses, fft.irfft(dispersion, (len(dispersion) - 1) * 2))[
            :length
        ]
    noise = rng.standard_normal(length)
    if voiced_to_hz < RATE_HZ / 2:
        low = signal.butter(4, voiced_to_hz, output="sos", fs=RATE_HZ)
        high = signal.butter(4, voiced_to_hz, "highpass", output="sos", fs=RATE_HZ)
        voiced = signal.sosfilt(low, pulses) + signal.sosfilt(high, noise)
    else:
        voiced = pulses
    share = np.clip((pitch.strength - 0.3) / 0.5, 0, 1)[:, None]
    mixed = np.sqrt(share) * voiced.reshape(shape) + np.sqrt(1 - share) * noise.reshape(shape)
    return np.asarray(mixed, np.float64)
