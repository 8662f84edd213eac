"""What legs say in a bench: vowels that the gate takes for speech, and silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamguard.audio.g711 import encode_ulaw

if TYPE_CHECKING:
    import numpy.typing as npt

RATE_HZ = 8_000
VOICE_S = 12.0
_FORMANTS_HZ = ((500.0, 1500.0, 2500.0), (300.0, 2200.0, 2900.0), (700.0, 1200.0, 2600.0))


def voice(seconds: float = VOICE_S) -> npt.NDArray[np.int16]:
    """Vowels on a gliding pitch, four syllables a second, at 8 kHz."""
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    pitch_hz = 120.0 + 15.0 * np.sin(2 * np.pi * 0.4 * time_s) + 8.0 * np.sin(2 * np.pi * time_s)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    vowel = (4 * time_s).astype(np.int64) % len(_FORMANTS_HZ)
    out = np.zeros(len(time_s))
    for harmonic in range(1, 28):
        at_hz = harmonic * pitch_hz
        gain = np.zeros(len(time_s))
        for index, formants in enumerate(_FORMANTS_HZ):
            shape = sum(1.0 / (1.0 + ((at_hz - f) / 90.0) ** 2) for f in formants) + 0.01
            gain += np.where(vowel == index, shape, 0.0)
        out += gain / harmonic**0.5 * np.sin(harmonic * phase)
    syllables = np.clip(1.3 * np.sin(np.pi * 4 * time_s) ** 2, 0.0, 1.0)
    pauses = np.where(time_s % 3.0 < 2.6, 1.0, 0.0)
    noise = 0.002 * np.random.default_rng(3).standard_normal(len(time_s))
    wave = 0.35 * out / np.abs(out).max() * syllables * pauses + noise
    said: npt.NDArray[np.int16] = (32_767 * wave).astype(np.int16)
    return said


def voice_ulaw(seconds: float = VOICE_S) -> bytes:
    """The same as PCMU."""
    return encode_ulaw(voice(seconds))


def silence_ulaw(seconds: float = VOICE_S) -> bytes:
    """Digital silence as PCMU: what a muted telephone sends."""
    return encode_ulaw(np.zeros(round(seconds * RATE_HZ), dtype=np.int16))
