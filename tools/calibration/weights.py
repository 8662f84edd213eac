"""How much each window counts: classes alike, and no source the bulk of its class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


def source_weights(
    sources: Sequence[str], classes: npt.NDArray[np.generic], shares: Floats
) -> Floats:
    """Weight per item, 1 in all: classes alike; inside one a source weighs the root of its items.

    ``shares`` is how much of an item each row is (windows of one clip share its weight).
    """
    weights = np.zeros(len(sources))
    names = np.asarray(sources)
    kinds = np.unique(classes)
    for kind in kinds:
        of_class = classes == kind
        for name in np.unique(names[of_class]):
            rows = of_class & (names == name)
            mass = shares[rows].sum()
            weights[rows] = shares[rows] / mass * math.sqrt(mass)
        weights[of_class] /= weights[of_class].sum() * len(kinds)
    return weights
