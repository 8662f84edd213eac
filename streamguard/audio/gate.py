"""What is on a hop: speech, silence, tones, music, clipping, loss. Measured on raw 16 kHz samples.

Two spectra per hop do all the work: 20 ms frames every 10 ms for speech activity (energy over a
tracked noise floor, and a voiced sound near by: spectral flatness after Gray and Markel, 1974), and
62.5 ms frames for lines that stay where they are (tones), and for spectra that do (music; with the
low-energy-frame ratio of Scheirer and Slaney, 1997).
"""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from streamguard.audio.frames import HopQuality, Mask
from streamguard.audio.level import FLOOR_DBFS, rms_dbfs
from streamguard.clock import HOP_SAMPLES
from streamguard.verdict.scores import Rejection

if TYPE_CHECKING:
    import numpy.typing as npt

    from streamguard.audio.settings import GateSettings

    FloatArray = npt.NDArray[np.float32]
    ComplexArray = npt.NDArray[np.complex64]
    BoolArray = npt.NDArray[np.bool_]
    MaskArray = npt.NDArray[np.uint8]

FRAMES = 50
"""10 ms frames of a hop."""
_FRAME = HOP_SAMPLES // FRAMES
_FFT = 512
"""31.25 Hz per bin."""
_SPEECH_BINS = slice(10, 110)
"""312 to 3406 Hz: the telephone band."""
_BAND = 100
"""Bins of it."""
_HIGH_BINS = slice(135, 244)
"""4.2 to 7.6 kHz: what a telephone line does not carry."""
_VOICED_FLATNESS = 0.16
"""More than four of five loud frames of speech are below (in noise of 10 dB less, still half);
white noise is at 0.57, and of brown noise hardly any frame is below, let alone four of five."""
_VOICED_OF_FIVE = 4
"""A voice lasts; noise is flat in places, one frame at a time."""
_HANGOVER = 10
"""Frames by which a voiced sound carries unvoiced neighbours: consonants last about 100 ms."""
_NOISE_MEMORY = 6
"""Hops over which the noise floor is the smallest one heard: fluent speech pauses within 3 s."""

_LONG_FRAMES = 8
_LONG = HOP_SAMPLES // _LONG_FRAMES
_LONG_FFT = 1024
_HZ_PER_BIN = 15.625
_LINE_BINS = 3
"""A line of the Hann window, and one that lies between bins."""
_LOWEST_TONE_BIN = 21
"""328 Hz: dial tones start at 350, and a hummed fundamental is mostly below."""
_TONE_PURITY = 0.9
_TONE_FLOOR = 10.0 ** (-55.0 / 10.0)
_DTMF_LOW_HZ = np.array([697.0, 770.0, 852.0, 941.0])
_DTMF_HIGH_HZ = np.array([1209.0, 1336.0, 1477.0, 1633.0])
_DTMF_TOLERANCE_HZ = 14.0
"""Half a bin and 1 % (Q.24 accepts 1.5 %)."""

_MUSIC_FLOOR = 1e-6
_MUSIC_BINS = slice(16, 218)
"""250 to 3400 Hz."""
_MUSIC_MEMORY = 10
"""Hops: 5 s."""
_MUSIC_LEAST = 5
"""Hops without which nothing is said: a word or two of speech can be as steady as music."""
_PITCHED_FLATNESS = 0.24
"""Music has half its loud frames below, drums included; noise is no music."""
_STEADY = 0.9
"""Cosine of two magnitude spectra 125 ms apart. A held note is above; fluent speech rarely is."""

_WINDOW: FloatArray = np.hanning(2 * _FRAME + 2)[1:-1].astype(np.float32)
_LONG_WINDOW: FloatArray = np.hanning(_LONG + 2)[1:-1].astype(np.float32)
_POWER_SCALE = np.float32(2.0 / (_FFT * float(np.sum(_WINDOW**2))))
_LONG_POWER_SCALE = np.float32(2.0 / (_LONG_FFT * float(np.sum(_LONG_WINDOW**2))))
_TINY = np.float32(1e-12)
_FULL_SCALE = np.float32(0.98)
"""Mu-law ends at 0.980, A-law at 0.984."""
_INAUDIBLE = 0.99 * min(_TONE_FLOOR, _MUSIC_FLOOR) ** 0.5
"""Peak of a hop that is below both floors, whatever it is: no frame has more power than that."""
_SILENCE: ComplexArray = np.zeros((FRAMES, _FFT // 2 + 1), dtype=np.complex64)
_LONG_SILENCE: FloatArray = np.zeros(
    (_LONG_FRAMES, _LONG_FFT // 2 + 1 + _LINE_BINS), dtype=np.float32
)
_ALL_HEARD: BoolArray = np.ones(FRAMES, dtype=np.bool_)
_LONG_OF_FRAME = np.arange(FRAMES) * _LONG_FRAMES // FRAMES
"""Which 62.5 ms frame a 10 ms frame is in."""
_LONG_ROWS = np.arange(_LONG_FRAMES)[:, None]
_AROUND_LINE = np.arange(-_LINE_BINS, _LINE_BINS + 1)
_NONE: BoolArray = np.zeros(FRAMES, dtype=np.bool_)
_FIVE = np.ones(5, dtype=np.float32)
_NEAR = np.ones(2 * _HANGOVER + 1, dtype=np.float32)
_NOT_HEARD = Mask.LOST | Mask.DTX | Mask.HOLD | Mask.OVERLOAD | Mask.TONE


def hop_fault(quality: HopQuality, settings: GateSettings) -> Rejection | None:
    """Why a hop may not be used, the gravest reason first; None if it may."""
    speech = quality.speech_fraction >= settings.min_speech_fraction
    if quality.lost_fraction > settings.max_lost_fraction:
        return Rejection.PACKET_LOSS
    if quality.tone_fraction > settings.max_tone_fraction:
        return Rejection.TONE
    if quality.announcement:
        return Rejection.ANNOUNCEMENT
    if quality.clipped_fraction > settings.max_clipped_fraction:
        return Rejection.CLIPPED
    if not speech and quality.level_dbfs < settings.silence_dbfs:
        return Rejection.SILENCE
    if quality.music_likelihood > settings.max_music_likelihood:
        return Rejection.MUSIC
    return None if speech else Rejection.NON_SPEECH


class Gate:
    """Measures the hops of one talk segment in order; keeps a few seconds of memory."""

    def __init__(self, settings: GateSettings) -> None:
        self._settings = settings
        self._tail: FloatArray = np.zeros(_FRAME, dtype=np.float32)
        self._noise_db: deque[float] = deque(maxlen=_NOISE_MEMORY)
        self._tones = _ToneFinder()
        self._music = _MusicMeter()

    def measure(self, samples: FloatArray, mask: MaskArray | None = None) -> HopQuality:
        """``samples`` ``[8000]`` at 16 kHz, not normalised; ``mask`` per sample, None if clean."""
        lost = signalled = 0.0
        heard = _ALL_HEARD
        present = samples
        if mask is not None:
            tone = (mask & Mask.TONE) != 0
            signalled = float(np.mean(tone))
            lost = float(np.mean(((mask & (Mask.LOST | Mask.OVERLOAD)) != 0) & ~tone))
            missing = (mask & _NOT_HEARD) != 0
            heard = ~missing.reshape(FRAMES, _FRAME).any(axis=1)
            present = samples[~missing]

        peak = float(np.abs(samples).max())
        spectra = self._spectra(samples) if peak or self._tail.any() else _SILENCE
        band = _power(spectra[:, _SPEECH_BINS], _POWER_SCALE)
        energy = band.sum(axis=1)
        is_audible = peak > _INAUDIBLE or energy[0] > _MUSIC_FLOOR
        long_power = _long_spectra(samples) if is_audible else _LONG_SILENCE
        tones = self._tones.find(long_power)
        other = heard
        if tones.any():
            other = heard & ~tones[_LONG_OF_FRAME]
        band += _TINY
        flatness = np.exp(np.log(band, out=band).sum(axis=1) / _BAND) / (energy / _BAND + _TINY)
        active = self._active(energy, flatness, heard) & other
        count = int(np.count_nonzero(active))
        highband_db = None
        if count:
            high = spectra[active, _HIGH_BINS]
            power = float(_POWER_SCALE) * float(np.vdot(high, high).real) + float(_TINY)
            highband_db = 10.0 * float(np.log10(power / float(energy[active].sum())))
        return HopQuality(
            level_dbfs=rms_dbfs(present),
            speech_fraction=count / FRAMES,
            clipped_fraction=_clipped_fraction(present) if peak >= _FULL_SCALE else 0.0,
            lost_fraction=lost,
            tone_fraction=min(1.0, signalled + np.count_nonzero(heard & ~other) / FRAMES),
            # A signal tone is steady, too: it must not pass for music once the speech begins.
            music_likelihood=self._music.likelihood(long_power, energy, flatness, other),
            highband_db=highband_db,
            active_frames=count,
        )

    def _spectra(self, samples: FloatArray) -> ComplexArray:
        """Spectra ``[50, 257]`` of 20 ms frames that end with each 10 ms of the hop."""
        blocks = np.concatenate((self._tail, samples))
        self._tail = samples[-_FRAME:].copy()
        # A view in which each frame begins in the middle of the one before.
        frames: FloatArray = np.ndarray(
            (FRAMES, 2 * _FRAME), np.float32, blocks, 0, (_FRAME * blocks.itemsize, blocks.itemsize)
        )
        np.multiply(frames, _WINDOW, out=_scratch.frames[:, : 2 * _FRAME])
        return _rfft(_scratch.frames, _scratch.spectra)

    def _active(self, energy: FloatArray, flatness: FloatArray, heard: BoolArray) -> BoolArray:
        """Which frames are speech: above the noise, with a voiced sound no further than 100 ms."""
        level_db = 10.0 * np.log10(energy + _TINY)
        known = level_db[heard]
        if len(known):
            rank = len(known) // 10
            known.partition(rank)
            self._noise_db.append(float(known[rank]))
        noise_db = min(self._noise_db, default=FLOOR_DBFS)
        threshold = max(noise_db + self._settings.noise_margin_db, self._settings.active_floor_dbfs)
        loud: BoolArray = (level_db > threshold) & heard
        voiced = loud & (flatness < _VOICED_FLATNESS)
        if np.count_nonzero(voiced) < _VOICED_OF_FIVE:
            return _NONE
        voiced &= np.convolve(voiced, _FIVE, mode="same") >= _VOICED_OF_FIVE
        loud &= np.convolve(voiced, _NEAR, mode="same") > 0.5
        return loud


class _ToneFinder:
    """Frames whose power is in one or two lines that stay for 190 ms, or that are a DTMF pair."""

    def __init__(self) -> None:
        self._before: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())

    def find(self, power: FloatArray) -> BoolArray:
        """``power`` ``[8, 516]`` to one flag per 62.5 ms frame."""
        lines: list[tuple[int, ...]] = [()] * len(power)
        total = power[:, 4:].sum(axis=1)
        peaks = power.argmax(axis=1)
        likely = (peaks >= _LOWEST_TONE_BIN) & (total >= _TONE_FLOOR)
        if likely.any():
            carried = power[_LONG_ROWS, peaks[:, None] + _AROUND_LINE].sum(axis=1)
            likely &= carried >= 0.3 * total
            for i in likely.nonzero()[0].tolist():
                lines[i] = _lines(power[i], int(peaks[i]), float(carried[i]), float(total[i]))
        history = [*self._before, *lines]
        self._before = (history[-2], history[-1])
        found = np.zeros(len(lines), dtype=np.bool_)
        if not any(lines):
            return found
        for i, (oldest, older, now) in enumerate(zip(history, history[1:], lines, strict=False)):
            if _is_dtmf(now):
                found[i] = True
            elif now and older and oldest and _same(now, older) and _same(older, oldest):
                found[max(0, i - 2) : i + 1] = True
        return found


def _lines(row: FloatArray, peak: int, carried: float, total: float) -> tuple[int, ...]:
    """Bins of the one or two lines that carry the frame, ascending; empty if there are none.

    ``carried``: by the line at ``peak``.
    """
    if carried >= _TONE_PURITY * total:
        return (peak,)
    rest = row.copy()
    rest[peak - _LINE_BINS : peak + _LINE_BINS + 1] = 0.0
    second = int(rest.argmax())
    if second < _LOWEST_TONE_BIN:
        return ()
    carried += float(rest[second - _LINE_BINS : second + _LINE_BINS + 1].sum())
    if carried < _TONE_PURITY * total:
        return ()
    return (min(peak, second), max(peak, second))


def _is_dtmf(lines: tuple[int, ...]) -> bool:
    if len(lines) != 2:
        return False
    low, high = (line * _HZ_PER_BIN for line in lines)
    return bool(
        np.abs(_DTMF_LOW_HZ - low).min() <= _DTMF_TOLERANCE_HZ
        and np.abs(_DTMF_HIGH_HZ - high).min() <= _DTMF_TOLERANCE_HZ
    )


def _same(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether the lines have stayed within a bin (beating pairs may show as one line or two)."""
    return all(min(abs(a - b) for b in other) <= 1 for a in one) or all(
        min(abs(a - b) for b in one) <= 1 for a in other
    )


class _MusicMeter:
    """Music by what it does over 5 s: notes are held, or it never pauses for breath."""

    def __init__(self) -> None:
        self._spectra: FloatArray = np.zeros((0, 202), dtype=np.float32)
        self._steady: deque[tuple[int, int]] = deque(maxlen=_MUSIC_MEMORY)
        self._energy: deque[FloatArray] = deque(maxlen=_MUSIC_MEMORY)
        self._tonal: deque[float] = deque(maxlen=_MUSIC_MEMORY)

    def likelihood(
        self, power: FloatArray, energy: FloatArray, flatness: FloatArray, heard: BoolArray
    ) -> float:
        """Take in a hop; 0 until 3 s have been heard, and for noise without pitch."""
        mean = energy.sum() / np.float32(FRAMES)
        if mean < _MUSIC_FLOOR or np.count_nonzero(heard) < FRAMES:
            self._spectra = self._spectra[:0]
            return self._judge()
        spectra = np.concatenate((self._spectra, np.sqrt(power[:, _MUSIC_BINS])))
        self._spectra = spectra[-2:]
        size = np.sqrt(np.einsum("ij,ij->i", spectra, spectra))
        cosine = np.einsum("ij,ij->i", spectra[:-2], spectra[2:]) / (size[:-2] * size[2:] + _TINY)
        loud = size > 0.15 * size.max()
        counted = loud[:-2] & loud[2:]
        steady = int(np.count_nonzero((cosine > _STEADY) & counted))
        self._steady.append((steady, int(np.count_nonzero(counted))))
        self._energy.append(energy)
        strong = energy > 0.1 * mean
        tonal = int(np.count_nonzero((flatness < _PITCHED_FLATNESS) & strong))
        self._tonal.append(tonal / max(1, int(np.count_nonzero(strong))))
        return self._judge()

    def _judge(self) -> float:
        if len(self._energy) < _MUSIC_LEAST or sum(self._tonal) < 0.5 * len(self._tonal):
            return 0.0
        steady = sum(s for s, _ in self._steady) / max(1, sum(n for _, n in self._steady))
        energy = np.concatenate(self._energy)
        low = int(np.count_nonzero(energy < 0.5 * (energy.sum() / len(energy)))) / len(energy)
        # Of 500 clips of speech, 1 % are steadier than 0.15 or have fewer low frames than 0.31.
        evidence = max(25.0 * (steady - 0.35), 30.0 * (0.2 - low))
        return 1.0 / (1.0 + math.exp(-evidence))


class _Scratch(threading.local):
    """Of each thread, not of each leg: they stay in its caches. Zeros pad the frames."""

    def __init__(self) -> None:
        self.frames: FloatArray = np.zeros((FRAMES, _FFT), dtype=np.float32)
        self.spectra: ComplexArray = np.empty((FRAMES, _FFT // 2 + 1), dtype=np.complex64)
        self.long_frames: FloatArray = np.zeros((_LONG_FRAMES, _LONG_FFT), dtype=np.float32)
        self.long_spectra: ComplexArray = np.empty(
            (_LONG_FRAMES, _LONG_FFT // 2 + 1), dtype=np.complex64
        )


_scratch = _Scratch()


def _long_spectra(samples: FloatArray) -> FloatArray:
    """Power spectra ``[8, 516]`` of 62.5 ms frames, end to end; the last line has its zeros."""
    frames = samples.reshape(_LONG_FRAMES, _LONG)
    np.multiply(frames, _LONG_WINDOW, out=_scratch.long_frames[:, :_LONG])
    spectra = _rfft(_scratch.long_frames, _scratch.long_spectra)
    power: FloatArray = np.zeros((_LONG_FRAMES, spectra.shape[1] + _LINE_BINS), dtype=np.float32)
    power[:, :-_LINE_BINS] = _power(spectra, _LONG_POWER_SCALE)
    return power


def _rfft(frames: FloatArray, out: ComplexArray) -> ComplexArray:
    """In single precision, into memory that is there."""
    np.fft.rfft(frames, out=out)  # type: ignore[arg-type]  # the stubs know only double precision
    return out


def _power(spectrum: ComplexArray, scale: np.float32) -> FloatArray:
    """Bins whose sum is the mean square of the frame."""
    power: FloatArray = spectrum.real**2
    power += spectrum.imag**2
    power *= scale
    return power


def _clipped_fraction(samples: FloatArray) -> float:
    """Share of samples at full scale."""
    return float(np.count_nonzero(np.abs(samples) >= _FULL_SCALE)) / max(1, len(samples))
