"""Makes recording conditions uninformative: rooms, microphones, noise, levels, telephone lines.

Nothing here sees a label: both classes go through the same distribution, always (the recording
condition otherwise *is* the label). Batches are float32 ``[batch, samples]`` at 16 kHz, full scale
1.0; all randomness comes from the generator that the caller passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

from streamguard.audio import g711
from streamguard.audio.resample import HalfBand

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]
    ComplexArray = npt.NDArray[np.complex64]

RATE_HZ = 16000
_EQ_KNOTS_HZ = (0, 150, 300, 600, 1000, 1600, 2400, 3300, 4400, 5700, 7000, 8000)
_ROOM_SAMPLES = RATE_HZ * 2 // 5


@dataclass(frozen=True, slots=True)
class AugmentSettings:
    """Probabilities and ranges; the section ``augment`` of a recipe."""

    gain_db: tuple[float, float] = (-30.0, 0.0)
    """Of the loudest sample, relative to full scale."""
    room: float = 0.3
    """Share of clips that are put into a room."""
    recorded_room: float = 0.2
    """Share of those whose room is a recorded impulse response, not a simulated one."""
    reverberation_s: tuple[float, float] = (0.1, 0.7)
    """Simulated decay time to -60 dB."""
    direct_db: tuple[float, float] = (0.0, 15.0)
    """Simulated energy of the direct sound over the reverberation."""
    eq: float = 0.9
    eq_sigma_db: float = 5.0
    band: float = 0.3
    """Share with a low-pass between 3.4 and 8 kHz."""
    noise: float = 0.6
    recorded_noise: float = 0.3
    """Share of the noisy ones whose noise is a recording, not coloured noise."""
    snr_db: tuple[float, float] = (5.0, 40.0)
    clip: float = 0.05
    """Share overdriven by up to 10 dB."""
    telephone: float = 0.5
    """Share sent through an 8 kHz G.711 line."""


class Augmenter:
    """Applies ``AugmentSettings``; holds the recorded noises and impulse responses, read-only."""

    def __init__(
        self,
        settings: AugmentSettings,
        noises: Sequence[FloatArray] = (),
        rooms: Sequence[FloatArray] = (),
    ) -> None:
        self._settings = settings
        self._noises = tuple(noise for noise in noises if np.any(noise))
        self._rooms = tuple(_direct_first(room) for room in rooms if np.any(room))

    def __call__(self, batch: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A new batch of the same shape.

        On the 16-bit grid that a source delivers, but for what a telephone line brought: that is
        resampled behind the grid, as in the daemon.
        """
        settings = self._settings
        count, samples = len(batch), batch.shape[1]
        size = fft.next_fast_len(samples + _ROOM_SAMPLES, real=True)
        spectrum = fft.rfft(batch, size, axis=1)
        spectrum *= self._filters(count, size, rng)
        spectrum *= self._rooms_spectrum(count, size, rng)
        out = fft.irfft(spectrum, size, axis=1)[:, :samples].astype(np.float32)
        out += self._noise(out, rng)
        out /= np.maximum(np.abs(out).max(axis=1, keepdims=True), 1e-6)
        overdriven = rng.random((count, 1)) < settings.clip
        out *= np.where(overdriven, 10 ** (rng.uniform(0, 10, (count, 1)) / 20), 1.0)
        np.clip(out, -1.0, 1.0, out=out)
        out *= 10 ** (rng.uniform(*settings.gain_db, (count, 1)) / 20)
        out = quantise(out)
        lines = np.flatnonzero(rng.random(count) < settings.telephone)
        if len(lines):
            out[lines] = telephone(out[lines], rng)
        return out

    def _filters(self, count: int, size: int, rng: np.random.Generator) -> FloatArray:
        """``[count, bins]`` amplitude: microphone curve times low-pass."""
        settings = self._settings
        hz = fft.rfftfreq(size, 1 / RATE_HZ)
        knots = rng.normal(0.0, settings.eq_sigma_db, (count, len(_EQ_KNOTS_HZ)))
        knots *= rng.random((count, 1)) < settings.eq
        corner = rng.uniform(3400.0, 8000.0, size=count)
        corner[rng.random(count) >= settings.band] = np.inf
        gain_db = np.stack([np.interp(hz, _EQ_KNOTS_HZ, row) for row in knots])
        # 60 dB per 500 Hz beyond the corner: steep, as codecs and converters are.
        gain_db -= np.clip((hz - corner[:, None]) * 0.12, 0.0, 60.0)
        return np.asarray(10.0 ** (gain_db / 20.0), np.float32)

    def _rooms_spectrum(self, count: int, size: int, rng: np.random.Generator) -> ComplexArray:
        """``[count, bins]``: transfer functions; ones for clips that are in no room."""
        settings = self._settings
        responses = np.zeros((count, _ROOM_SAMPLES), np.float32)
        responses[:, 0] = 1.0
        time_s = np.arange(1, _ROOM_SAMPLES) / RATE_HZ
        for row in np.flatnonzero(rng.random(count) < settings.room):
            if self._rooms and rng.random() < settings.recorded_room:
                room = self._rooms[rng.integers(len(self._rooms))][:_ROOM_SAMPLES]
                responses[row, : len(room)] = room
                continue
            decay = np.exp(-6.9 * time_s / rng.uniform(*settings.reverberation_s))
            tail = rng.standard_normal(_ROOM_SAMPLES - 1, np.float32) * decay
            direct = 10 ** (-rng.uniform(*settings.direct_db) / 20)
            responses[row, 1:] = tail * direct / np.sqrt(np.square(tail).sum())
        return np.asarray(fft.rfft(responses, size, axis=1), np.complex64)

    def _noise(self, batch: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Noise for every clip of the batch, zero where it gets none."""
        settings = self._settings
        count, samples = len(batch), batch.shape[1]
        noise = coloured_noise(rng.uniform(0.0, 2.0, size=count), samples, rng)
        if self._noises:
            for row in np.flatnonzero(rng.random(count) < settings.recorded_noise):
                recording = self._noises[rng.integers(len(self._noises))]
                start = rng.integers(max(1, len(recording) - samples))
                noise[row] = np.resize(recording[start : start + samples], samples)
        snr_db = rng.uniform(*settings.snr_db, size=count)
        snr_db[rng.random(count) >= settings.noise] = np.inf
        speech = np.square(batch).mean(axis=1)
        level = np.maximum(np.square(noise).mean(axis=1), 1e-12)
        scale = np.sqrt(speech / level * 10 ** (-snr_db / 10))
        return np.asarray(noise * scale[:, None], np.float32)


def coloured_noise(
    slope: npt.NDArray[np.float64], samples: int, rng: np.random.Generator
) -> FloatArray:
    """``[len(slope), samples]``: noise whose power falls as ``1 / f**slope``."""
    size = fft.next_fast_len(samples, real=True)
    bins = size // 2 + 1
    white = rng.standard_normal((len(slope), bins, 2), np.float32).view(np.complex64)[..., 0]
    hz = np.maximum(fft.rfftfreq(size, 1 / RATE_HZ), 20.0)
    white *= np.asarray(hz ** (-slope[:, None] / 2), np.float32)
    return np.asarray(fft.irfft(white, size, axis=1)[:, :samples], np.float32)


def telephone(batch: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Through an 8 kHz G.711 line and up again by the daemon's own resampler.

    Half of the clips by either law; the band of the line is drawn, from that of a handset
    (300-3400 Hz) to all that 8 kHz carries. The samples must be a multiple of two.
    """
    count, samples = len(batch), batch.shape[1]
    hz = fft.rfftfreq(samples, 1 / RATE_HZ)
    low = rng.uniform(20.0, 300.0, size=count)
    high = rng.uniform(3300.0, 3900.0, size=count)
    below = np.clip((low[:, None] - hz) * 0.15, 0.0, 40.0)
    above = np.clip((hz - high[:, None]) * 0.3, 0.0, 80.0)
    spectrum = fft.rfft(batch, axis=1) * np.asarray(10 ** (-(below + above) / 20), np.float32)
    narrow = fft.irfft(spectrum, samples, axis=1)[:, ::2]
    coded = to_int16(narrow)
    out = np.empty_like(batch)
    for row, mu_law in enumerate(rng.random(size=count) < 0.5):
        if mu_law:
            heard = g711.decode_ulaw(g711.encode_ulaw(coded[row]))
        else:
            heard = g711.decode_alaw(g711.encode_alaw(coded[row]))
        out[row] = HalfBand().process(heard.astype(np.float32) / np.float32(32768.0))
    return out


def to_int16(samples: npt.NDArray[np.floating]) -> npt.NDArray[np.int16]:
    """Full scale 1.0 to 16 bits, rounded and limited."""
    return np.asarray(np.clip(np.round(samples * 32768.0), -32768, 32767), np.int16)


def quantise(samples: FloatArray) -> FloatArray:
    """On the grid of 16-bit audio."""
    return to_int16(samples).astype(np.float32) / np.float32(32768.0)


def _direct_first(room: FloatArray) -> FloatArray:
    """An impulse response from its direct sound on, which becomes 1.0."""
    start = int(np.argmax(np.abs(room)))
    return np.asarray(room[start:] / room[start], np.float32)
