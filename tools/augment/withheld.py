"""Batches without originals: every crop of them is transformed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from tools.augment.draw import Draw

if TYPE_CHECKING:
    import numpy.typing as npt

    Bools = npt.NDArray[np.bool_]


def altered(fate: Draw) -> Bools:
    """``[count]``: whether more is drawn for a crop than its gain and its place in time."""
    return np.asarray(
        (fate.speed != 1.0)
        | (fate.semitones != 0.0)
        | (fate.eq_db != 0.0).any(axis=1)
        | np.isfinite(fate.band_hz)
        | np.isfinite(fate.converter_hz)
        | fate.room
        | np.isfinite(fate.snr_db)
        | (fate.overdrive_db > 0.0)
        | (fate.white > 0.0)
        | (fate.step > 0.0)
        | (fate.codec != "")
        | (fate.loss > 0.0)
        | fate.telephone
    )


def transformed(fate: Draw, rng: np.random.Generator) -> Draw:
    """The same, but that crops that nothing was drawn for share another's fate.

    Raises ValueError if nothing was drawn for any crop.
    """
    changed = altered(fate)
    bare = np.flatnonzero(~changed)
    if not len(bare):
        return fate
    if not changed.any():
        raise ValueError("augment: transforms no crop: with auxiliary_ood originals are withheld")
    order = np.arange(len(fate))
    order[bare] = rng.choice(np.flatnonzero(changed), len(bare))
    return Draw(
        **{field.name: getattr(fate, field.name)[order] for field in dataclasses.fields(Draw)}
    )
