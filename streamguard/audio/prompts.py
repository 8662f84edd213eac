"""Prompts that an operator knows: recognised on a leg by their acoustic fingerprint, hop by hop.

After Haitsma and Kalker, "A highly robust audio fingerprinting system" (ISMIR 2002): a frame of
32 bits, each the sign of how the difference of two neighbouring bands changed since the frame
before. Here on 4 kHz (what every telephone codec keeps), 40 frames a hop. A look-up of whole frames
proposes places in the book, the bits of the hop decide; so the cost of a hop does not grow with the
book. A voice that says the same text in another take is another prompt.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamguard.clock import HOP_SAMPLES, SAMPLE_RATE_HZ
from streamguard.errors import AudioFileError

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]
    CodeArray = npt.NDArray[np.uint32]
    BoolArray = npt.NDArray[np.bool_]
    IntArray = npt.NDArray[np.int64]

MAX_BOOK_S = 600.0
"""Of all prompts together: bounds the memory, and the chance that speech looks like one of them."""

FRAMES = 40
"""Of a hop: one every 12.5 ms."""
_RATE_HZ = 4_000
_DECIMATION = SAMPLE_RATE_HZ // _RATE_HZ
_STEP = HOP_SAMPLES // _DECIMATION // FRAMES
_FRAME = 1_024
"""256 ms: so long that a shift of half a step, which nobody can align, changes few bits."""
_BANDS = 33
_LOWEST_HZ, _HIGHEST_HZ = 300.0, 1_700.0
_TAPS = 65

_WEAK_BITS = 3
"""Least certain bits of a frame that the look-up also tries the other way."""
_CANDIDATES = 8
"""Places in the book that are compared bit by bit, of those that most frames propose."""
_LEAST_FRAMES = 20
"""Active frames of a prompt in a hop, without which nothing is decided."""
FIRST_ERRORS = 0.2
"""Share of wrong bits below which a hop is a prompt. Chance is 0.5; a prompt over G.711 has 0.045
(median), and 0.07 in one of ten hops. With a book of 10 minutes 3 of 6,957 hops of other speech
were below (single hops: harmless), and 99.8 % of those of prompts."""
NEXT_ERRORS = 0.32
"""The same for a hop that follows on where the last one was found: not one of thousands of places
is asked for, but one."""


class PromptBook:
    """The fingerprints of all prompts; read-only, shared by all legs."""

    def __init__(self, clips: Sequence[FloatArray]) -> None:
        """``clips`` are mono at 16 kHz, full scale 1.0, :data:`MAX_BOOK_S` at most in all."""
        codes: list[CodeArray] = []
        active: list[BoolArray] = []
        ends: list[int] = []
        for clip in clips:
            printed, levels = _print_clip(clip)
            loud = np.quantile(levels, 0.95) if len(levels) else 0.0
            codes.append(printed)
            active.append(levels > 1e-3 * loud)
            ends += [sum(len(one) for one in codes)] * len(printed)
        self.codes: CodeArray = np.concatenate(codes) if codes else np.zeros(0, np.uint32)
        self.active: BoolArray = np.concatenate(active) if active else np.zeros(0, np.bool_)
        self.ends: IntArray = np.array(ends, dtype=np.int64)
        """For each frame, where its prompt ends."""
        self._order = np.flatnonzero(self.active)[
            np.argsort(self.codes[self.active], kind="stable")
        ]
        self._sorted = self.codes[self._order]

    @classmethod
    def open(cls, paths: Sequence[Path]) -> PromptBook:
        """Of audio files. Raises AudioFileError for what cannot be read, or is too much."""
        clips = []
        total_s = 0.0
        for path in paths:
            clip = _read(path)
            total_s += len(clip) / SAMPLE_RATE_HZ
            if total_s > MAX_BOOK_S:
                raise AudioFileError(str(path), f"prompts of more than {MAX_BOOK_S:.0f} s in all")
            clips.append(clip)
        return cls(clips)

    def places(self, codes: CodeArray) -> IntArray:
        """Where a hop of these frames may begin, most proposed first; ``codes`` ``[40, n]``."""
        first = np.searchsorted(self._sorted, codes, side="left")
        last = np.minimum(np.searchsorted(self._sorted, codes, side="right"), first + 4)
        proposed: list[npt.NDArray[np.int64]] = []
        for nth in range(4):
            frame, variant = np.nonzero(first + nth < last)
            proposed.append(self._order[first[frame, variant] + nth] - frame)
        places, counts = np.unique(np.concatenate(proposed), return_counts=True)
        best: IntArray = places[np.argsort(-counts, kind="stable")[:_CANDIDATES]]
        return best

    def errors(self, codes: CodeArray, place: int) -> tuple[float, int]:
        """Share of wrong bits against the book from ``place`` on, and frames that were compared."""
        begin, end = max(0, place), min(place + len(codes), len(self.codes))
        if begin >= end:
            return 1.0, 0
        end = min(end, int(self.ends[begin]))
        active = self.active[begin:end]
        wrong = np.bitwise_count(codes[begin - place : end - place] ^ self.codes[begin:end])
        count = int(np.count_nonzero(active))
        return (float(wrong[active].sum()) / (32 * count), count) if count else (1.0, 0)


class PromptListener:
    """Follows one talk segment through the book."""

    def __init__(self, book: PromptBook) -> None:
        self._book = book
        self._printer = _Printer()
        self._place: int | None = None
        """Where in the book the next hop begins, if the last one was found."""

    def hear(self, samples: FloatArray) -> bool:
        """Whether this hop (``[8000]`` at 16 kHz) is a prompt."""
        codes, weak, _ = self._printer.process(samples)
        place = self._follow(codes)
        if place is None:
            place = self._find(codes, weak)
        self._place = None if place is None else place + FRAMES
        return place is not None

    def _follow(self, codes: CodeArray) -> int | None:
        """One frame to either side: two clocks are never the same."""
        if self._place is None:
            return None
        if self._place >= len(self._book.codes) or self._place >= self._book.ends[self._place - 1]:
            return None
        tried = [(*self._book.errors(codes, self._place + slip), slip) for slip in (0, -1, 1)]
        errors, count, slip = min(tried)
        if count < _LEAST_FRAMES:
            # A pause of the prompt, which says nothing of what is heard instead of it.
            return self._place if self._goes_on() else None
        return self._place + slip if errors < NEXT_ERRORS else None

    def _goes_on(self) -> bool:
        """Whether the prompt has more to say after this hop."""
        assert self._place is not None
        return self._place + FRAMES < int(self._book.ends[self._place])

    def _find(self, codes: CodeArray, weak: CodeArray) -> int | None:
        variants = np.concatenate((codes[:, None], codes[:, None] ^ weak), axis=1)
        for place in self._book.places(variants):
            errors, count = self._book.errors(codes, int(place))
            if count >= _LEAST_FRAMES and errors < FIRST_ERRORS:
                return int(place)
        return None


class _Printer:
    """Frames of a stream, 40 a hop."""

    def __init__(self) -> None:
        self._tail: FloatArray = np.zeros(_TAPS - 1, dtype=np.float32)
        self._past: FloatArray = np.zeros(_FRAME - _STEP, dtype=np.float32)
        self._before: FloatArray = np.zeros((1, _BANDS - 1), dtype=np.float32)

    def process(self, samples: FloatArray) -> tuple[CodeArray, CodeArray, FloatArray]:
        """Codes ``[40]``, masks of weak bits ``[40, 7]`` to be tried, and energies ``[40]``."""
        wide = np.concatenate((self._tail, samples))
        self._tail = wide[len(wide) - _TAPS + 1 :]
        windows = np.lib.stride_tricks.sliding_window_view(wide, _TAPS)[::_DECIMATION]
        past = np.concatenate((self._past, windows @ _LOW_PASS))
        self._past = past[len(past) - _FRAME + _STEP :]
        frames = np.lib.stride_tricks.sliding_window_view(past, _FRAME)[::_STEP]
        spectrum = np.fft.rfft(frames * _WINDOW)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        bands = power @ _TO_BANDS
        slopes = bands[:, :-1] - bands[:, 1:]
        changes = np.diff(np.concatenate((self._before, slopes)), axis=0)
        self._before = slopes[-1:]
        codes: CodeArray = np.packbits(changes > 0, axis=1, bitorder="little").view("<u4")[:, 0]
        certainty = np.abs(changes) / (bands[:, :-1] + bands[:, 1:] + np.float32(1e-20))
        weakest = np.argpartition(certainty, _WEAK_BITS, axis=1)[:, :_WEAK_BITS]
        single = np.left_shift(np.uint32(1), weakest.astype(np.uint32))
        return codes, (single @ _SUBSETS).astype(np.uint32), bands.sum(axis=1)


def _print_clip(clip: FloatArray) -> tuple[CodeArray, FloatArray]:
    printer = _Printer()
    padded = np.concatenate((clip, np.zeros(-len(clip) % HOP_SAMPLES, dtype=np.float32)))
    printed = [
        printer.process(padded[at : at + HOP_SAMPLES]) for at in range(0, len(padded), HOP_SAMPLES)
    ]
    if not printed:
        return np.zeros(0, np.uint32), np.zeros(0, np.float32)
    return np.concatenate([p[0] for p in printed]), np.concatenate([p[2] for p in printed])


def _read(path: Path) -> FloatArray:
    import soundfile
    import soxr

    try:
        samples, rate_hz = soundfile.read(os.fsencode(path), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as err:
        raise AudioFileError(str(path), f"not readable as audio ({err})") from err
    mono = samples.mean(axis=1)
    if not len(mono) or not np.isfinite(mono).all():
        raise AudioFileError(str(path), "a prompt needs samples, all of them finite")
    resampled: FloatArray = soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ).astype(np.float32)
    return resampled


def _low_pass() -> FloatArray:
    """Windowed sinc, 1.8 kHz: what is folded back lies above the highest band."""
    at = np.arange(_TAPS) - _TAPS // 2
    taps = np.sinc(2 * 1_800.0 / SAMPLE_RATE_HZ * at) * np.hamming(_TAPS)
    low_pass: FloatArray = (taps / taps.sum()).astype(np.float32)
    return low_pass


def _to_bands() -> FloatArray:
    """``[513, 33]``: which bins are in which of the bands, equally wide in pitch."""
    edges = np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, _BANDS + 1)
    bins_hz = np.arange(_FRAME // 2 + 1) * _RATE_HZ / _FRAME
    inside = (bins_hz[:, None] >= edges[:-1]) & (bins_hz[:, None] < edges[1:])
    matrix: FloatArray = inside.astype(np.float32)
    return matrix


_LOW_PASS = _low_pass()
_TO_BANDS = _to_bands()
_WINDOW: FloatArray = np.hanning(_FRAME).astype(np.float32)
_SUBSETS: npt.NDArray[np.uint32] = np.array(
    [[n >> bit & 1 for n in range(1, 1 << _WEAK_BITS)] for bit in range(_WEAK_BITS)],
    dtype=np.uint32,
)
"""Every choice of weak bits but none: ``[3, 7]``."""
