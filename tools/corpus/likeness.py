"""How much of the speech a copy keeps, in figures: is it intelligible, is it a copy at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tools.corpus.spectra import FLOOR, FloatArray, MelGrid, Signal, smooth

_GRID = MelGrid.make(512, 160, 400, 24, 60.0, 7600.0)
_RANGE_DB = 50.0


@dataclass(frozen=True, slots=True)
class Likeness:
    """Of one copy to its original."""

    distance_db: float
    """Log-spectral distance: root mean square over 24 mel bands and the active frames."""
    correlation: float
    """Of the bands' level over time, mean of the bands that change: 1 for a perfect copy."""


def likeness(copy: Signal, original: Signal) -> Likeness:
    """Of two ``[samples]``, equally long; frames 40 dB below the loudest are left out."""
    ours, theirs = _levels(copy), _levels(original)
    total = theirs.max(axis=1)
    active = total > total.max() - 40.0
    floor = theirs.max() - _RANGE_DB
    ours, theirs = (np.maximum(levels[active], floor) for levels in (ours, theirs))
    distance = float(np.sqrt(np.mean((ours - theirs) ** 2)))
    moved = theirs.std(axis=0) > 3.0
    if moved.any() and len(ours) > 2:
        left, right = (rows[:, moved] - rows[:, moved].mean(axis=0) for rows in (ours, theirs))
        norm = np.sqrt((left**2).sum(axis=0) * (right**2).sum(axis=0)) + 1e-9
        correlation = float(((left * right).sum(axis=0) / norm).mean())
    else:
        correlation = 0.0
    return Likeness(distance, correlation)


def _levels(samples: Signal) -> FloatArray:
    """``[frames, bands]`` in decibels, over about 30 ms: no finer time structure is asked for."""
    power = smooth(_GRID.forward(np.abs(_GRID.stft.forward(samples)) ** 2), 1.0, 0)
    return np.asarray(10 * np.log10(np.maximum(power, FLOOR**2)), np.float32)
