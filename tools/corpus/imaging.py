"""Copies whose fine structure was upsampled badly, as the generators of GAN vocoders do.

Transposed convolutions and nearest-neighbour upsampling leave images of the low band above it and
tones at the stride (Pons et al., "Upsampling artifacts in neural audio synthesis", 2021).
"""

from __future__ import annotations

import numpy as np
from scipy import signal

from tools.corpus.lpc import predictors, residual, resound
from tools.corpus.method import Copied, pick
from tools.corpus.spectra import Signal, Stft


def imaging(speech: Signal, rng: np.random.Generator) -> Copied:
    """The excitation, or the spectrogram, at a low rate and interpolated with images."""
    if rng.random() < 0.65:
        return _excitation(speech, rng)
    return _spectrogram(speech, rng)


def _excitation(speech: Signal, rng: np.random.Generator) -> Copied:
    hop = pick(rng, (80, 120, 160))
    order = int(rng.integers(14, 25))
    polynomial, _ = predictors(speech, order, hop, 3 * hop)
    left = residual(speech, polynomial, hop)
    stride = int(rng.integers(2, 6))
    kind = pick(rng, ("nearest", "linear", "transposed"))
    flat = left.ravel()
    low = signal.sosfiltfilt(signal.butter(6, 0.95 / stride, output="sos"), flat)
    slow = low[::stride]
    if kind == "nearest":
        raised = np.repeat(slow, stride)
    elif kind == "linear":
        raised = np.interp(np.arange(len(flat)) / stride, np.arange(len(slow)), slow)
    else:
        # A kernel that the stride does not divide: some outputs get more taps than others.
        taps = 2 * stride + int(rng.integers(1, stride + 1))
        kernel = signal.get_window("hann", taps) * (1 + 0.3 * rng.standard_normal(taps))
        kernel /= kernel.sum() / stride
        raised = signal.upfirdn(kernel, slow, up=stride)[taps // 2 :]
    raised = np.pad(raised, (0, max(0, len(flat) - len(raised))))[: len(flat)]
    kept = rng.uniform(0.0, 0.5)
    noise = rng.uniform(0.0, 0.3)
    excitation = raised + kept * (flat - low)
    gain = np.sqrt(np.mean(left**2, axis=1, keepdims=True) + 1e-12)
    excitation = excitation.reshape(left.shape)
    excitation = excitation + noise * gain * rng.standard_normal(left.shape)
    excitation *= gain / np.sqrt(np.mean(excitation**2, axis=1, keepdims=True) + 1e-12)
    copy = resound(excitation, polynomial)[: len(speech)].astype(np.float32)
    drawn: dict[str, object] = {
        "domain": "excitation",
        "kind": kind,
        "stride": stride,
        "order": order,
        "kept": kept,
        "noise": noise,
    }
    return copy, drawn


def _spectrogram(speech: Signal, rng: np.random.Generator) -> Copied:
    """Magnitudes every few frames only, and held or interpolated between; phases partly kept."""
    stft = Stft(pick(rng, (512, 640, 1024)), pick(rng, (64, 80, 128)))
    spectra = stft.forward(speech)
    stride = int(rng.integers(2, 5))
    kind = pick(rng, ("nearest", "linear"))
    magnitude = np.abs(spectra)
    slow = magnitude[::stride]
    if kind == "nearest":
        raised = np.repeat(slow, stride, axis=0)[: len(magnitude)]
    else:
        place = np.minimum(np.arange(len(magnitude)) / stride, len(slow) - 1)
        lower = np.minimum(place.astype(int), max(0, len(slow) - 2))
        part = (place - lower)[:, None]
        raised = slow[lower] * (1 - part) + slow[np.minimum(lower + 1, len(slow) - 1)] * part
    scrambled = rng.uniform(0.2, 0.7)
    turns = scrambled * rng.uniform(-np.pi, np.pi, magnitude.shape)
    copy = raised * np.exp(1j * (np.angle(spectra) + turns))
    drawn: dict[str, object] = {
        "domain": "spectrogram",
        "kind": kind,
        "stride": stride,
        "fft": stft.size,
        "hop": stft.hop,
        "scrambled": scrambled,
    }
    return stft.inverse(copy.astype(np.complex64), len(speech)), drawn
