"""A batch of crops through drawn recording conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

from tools.augment import filters, loss, tempo
from tools.augment.codecs import code_clip, missing_codecs
from tools.augment.draw import BAND_DB_PER_KHZ, Draw, draw
from tools.augment.line import amplitude, quantise, telephone
from tools.augment.noise import coloured_noise
from tools.augment.settings import RATE_HZ, AugmentSettings
from tools.augment.withheld import transformed

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]


class Augmenter:
    """Applies ``AugmentSettings``; holds the recorded noises and impulse responses, read-only.

    Raises ValueError for a codec that the settings ask for and this machine lacks: a recipe must
    not mean something else on another machine.
    """

    def __init__(
        self,
        settings: AugmentSettings,
        noises: Sequence[FloatArray] = (),
        rooms: Sequence[FloatArray] = (),
    ) -> None:
        self._settings = settings
        self._noises = tuple(noise for noise in noises if np.any(noise))
        self._rooms = tuple(filters.direct_first(room) for room in rooms if np.any(room))
        wanted = settings.codecs or dict.fromkeys(missing_codecs(), 1.0)
        missing = [name for name in missing_codecs() if wanted.get(name, 0.0) > 0.0]
        if settings.codec > 0.0 and missing:
            raise ValueError(
                f"augment.codecs: {', '.join(missing)} not available here (Debian: libspeex1); "
                "install it or give it the weight 0"
            )

    def __call__(
        self,
        batch: FloatArray,
        rng: np.random.Generator,
        samples: int | None = None,
        *,
        originals: bool = True,
    ) -> FloatArray:
        """A new batch, ``[batch, samples]``; as long as the old one if ``samples`` is not given.

        Without ``originals`` nothing but transformed copies comes out: where only the gain was
        drawn, a crop shares the fate of another. Raises ValueError if no crop was given any other
        fate.

        What the batch has beyond ``samples`` serves speed and shift, which else leave silence at
        the end. On the 16-bit grid that a source delivers, but for what came over a codec or a
        telephone line: that is resampled behind the grid, as in the daemon.
        """
        fate = draw(self._settings, len(batch), rng)
        if not originals:
            fate = transformed(fate, rng)
        return self.apply(batch, fate, rng, samples)

    def apply(
        self, batch: FloatArray, fate: Draw, rng: np.random.Generator, samples: int | None = None
    ) -> FloatArray:
        """The batch through what was drawn; ``rng`` gives noises and room tails their samples."""
        out = _in_time(batch, fate, samples or batch.shape[1])
        out = self._filtered(out, fate, rng)
        self._add_noise(out, fate, rng)
        out /= np.maximum(np.abs(out).max(axis=1, keepdims=True), 1e-6)
        out *= amplitude(fate.overdrive_db[:, None].astype(np.float32))
        np.clip(out, -1.0, 1.0, out=out)
        out *= amplitude(fate.gain_db[:, None].astype(np.float32))
        for row in np.flatnonzero(fate.white):
            out[row] += np.float32(fate.white[row]) * rng.standard_normal(out.shape[1], np.float32)
        _requantise(out, fate, rng)
        out = quantise(out)
        for row in np.flatnonzero(fate.codec != ""):
            out[row] = code_clip(out[row], str(fate.codec[row]), rng)
        for row in np.flatnonzero(fate.loss):
            packets = -(-out.shape[1] // loss.PACKET_SAMPLES)
            lost = loss.lost_packets(packets, fate.loss[row], fate.burst_packets[row], rng)
            out[row] = loss.concealed(out[row], lost, str(fate.concealment[row]), rng)
        lines = np.flatnonzero(fate.telephone)
        if len(lines):
            out[lines] = telephone(out[lines], rng)
        return out

    def _filtered(self, batch: FloatArray, fate: Draw, rng: np.random.Generator) -> FloatArray:
        """Microphone, converter and room in one transform."""
        samples = batch.shape[1]
        size = fft.next_fast_len(samples + filters.ROOM_SAMPLES, real=True)
        spectrum = fft.rfft(batch, size, axis=1)
        level_db = filters.curves_db(fate.eq_db, size)
        for corner_hz, slope in (
            (fate.band_hz, np.full(len(fate), BAND_DB_PER_KHZ)),
            (fate.converter_hz, fate.converter_db_per_khz),
        ):
            rows = np.flatnonzero(np.isfinite(corner_hz))
            level_db[rows] += filters.low_pass_db(corner_hz[rows], slope[rows], size)
        spectrum *= amplitude(level_db)
        rows = np.flatnonzero(fate.room)
        responses = np.zeros((len(rows), filters.ROOM_SAMPLES), np.float32)
        for place, row in enumerate(rows):
            if self._rooms and fate.recorded_room[row]:
                room = self._rooms[rng.integers(len(self._rooms))][: filters.ROOM_SAMPLES]
                responses[place, : len(room)] = room
            else:
                responses[place] = filters.simulated_room(
                    fate.reverberation_s[row], fate.direct_db[row], rng
                )
        spectrum[rows] *= fft.rfft(responses, size, axis=1)
        # A copy: the samples behind the crop would make every later step stride over them.
        return np.ascontiguousarray(fft.irfft(spectrum, size, axis=1)[:, :samples], np.float32)

    def _add_noise(self, batch: FloatArray, fate: Draw, rng: np.random.Generator) -> None:
        """In place, at the level that the speech asks for."""
        samples = batch.shape[1]
        noisy = np.isfinite(fate.snr_db)
        recorded = fate.recorded_noise & bool(self._noises)
        rows = np.flatnonzero(noisy & ~recorded)
        noise = np.zeros((len(batch), samples), np.float32)
        noise[rows] = coloured_noise(fate.noise_slope[rows], samples, rng)
        for row in np.flatnonzero(recorded):
            recording = self._noises[rng.integers(len(self._noises))]
            start = rng.integers(max(1, len(recording) - samples))
            noise[row] = np.resize(recording[start : start + samples], samples)
        speech = np.square(batch).mean(axis=1)
        level = np.maximum(np.square(noise).mean(axis=1), 1e-12)
        scale = np.sqrt(speech / level * 10 ** (-fate.snr_db / 10))
        noise *= scale[:, None].astype(np.float32)
        batch += noise


def _in_time(batch: FloatArray, fate: Draw, samples: int) -> FloatArray:
    """Speed, pitch and place, and the length that the caller wants; a copy."""
    out = np.empty((len(batch), samples), np.float32)
    for row, clip in enumerate(batch):
        heard = clip
        if fate.speed[row] != 1.0:
            heard = tempo.at_speed(heard, fate.speed[row])
        if fate.semitones[row] != 0.0:
            heard = tempo.at_pitch(heard, fate.semitones[row])
        if fate.shift_s[row] != 0.0:
            heard = tempo.shifted(heard, round(fate.shift_s[row] * RATE_HZ))
        out[row] = tempo.fitted(heard, samples)
        if fate.roll[row] != 0.0:
            out[row] = np.roll(out[row], int(fate.roll[row] * samples))
    return out


def _requantise(batch: FloatArray, fate: Draw, rng: np.random.Generator) -> None:
    """In place: onto a coarser grid, with triangular dither of two steps or without."""
    for row in np.flatnonzero(fate.step):
        step = np.float32(fate.step[row])
        dither = rng.random((2, batch.shape[1]), np.float32).sum(axis=0) - 1.0
        batch[row] = np.round(batch[row] / step + dither * fate.dither[row]) * step
