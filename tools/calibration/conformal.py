"""Split-conformal tables: sorted scores of held-out clips, thinned without losing their promise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

TABLE_SIZE = 200
"""The daemon reads them as YAML when it starts; p-values down to 1 in 201 are fine enough."""
ALPHA = 0.005
"""Share of windows that may be called out of distribution: the least that a table can tell. Twice
as much cost a leg its verdict and told unseen generators apart no better than chance."""
COVERAGE = 0.97
"""Of windows of sources that are not in the table: the gate takes its own share besides."""


def conformal_table(scores: Floats, size: int = TABLE_SIZE) -> list[float]:
    """At most ``size`` of the scores, sorted, so that p-values from them stay valid.

    The j-th from the top is an order statistic high enough that a new exchangeable score exceeds it
    with a probability of at most (j + 1) / (size + 1), which is the p-value it then gets.
    """
    ordered = np.sort(np.asarray(scores, np.float64))
    count = len(ordered)
    if count > size:
        from_top = np.arange(1, size + 1) * (count + 1) // (size + 1) - 1
        ordered = ordered[count - 1 - from_top][::-1]
    return [float(f"{value:.6g}") for value in ordered]


def p_values(table: Sequence[float], scores: Floats) -> Floats:
    """Conformal p-value of each score, as the daemon computes it."""
    at_least = len(table) - np.searchsorted(np.asarray(table), scores, side="left")
    return np.asarray((at_least + 1) / (len(table) + 1), np.float64)


def left_out_p_values(scores: Floats, sources: Sequence[str]) -> Floats:
    """P-value of each score by a table of all other sources: what a new source would get.

    Those of one source are exchangeable with each other, not with another source's, so this and not
    the promise of the table says how many windows a new source loses.
    """
    names = np.asarray(sources)
    found = np.ones(len(scores))
    for name in np.unique(names):
        own = names == name
        if not own.all():
            found[own] = p_values(conformal_table(scores[~own]), scores[own])
    return found


def choose_alpha(left_out: Floats) -> float | None:
    """``ALPHA`` if it leaves new sources their coverage, else None: nothing is rejected."""
    return ALPHA if float(np.mean(left_out >= ALPHA)) >= COVERAGE else None
