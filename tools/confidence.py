"""How sure a classifier is that a window is of a class it knows, from its logits alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from streamguard.verdict.labels import sme, softmax

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


def softmax_energy(logits: Floats) -> Floats:
    """Klein et al. 2025: energy with probabilities in the place of logits."""
    return -np.array([sme(row) for row in logits], np.float64)


def maximum_softmax(logits: Floats) -> Floats:
    """Hendrycks and Gimpel 2017."""
    return np.asarray(softmax(logits).max(axis=1), np.float64)


def energy(logits: Floats) -> Floats:
    """Liu et al. 2020."""
    return np.asarray(special.logsumexp(logits, axis=1), np.float64)


SCORERS: Mapping[str, Callable[[Floats], Floats]] = {
    "sme": softmax_energy,
    "msp": maximum_softmax,
    "energy": energy,
}
"""``[windows, classes]`` logits to ``[windows]`` confidences, higher for what is known."""
