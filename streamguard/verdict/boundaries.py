"""Boundaries of the sequential test, found by seeded simulation of legs from their model.

A leg is ``x_i = class mean + u + e_i``: ``u`` (with the ``between_sd`` of its class) is the leg's
own, ``e_i`` is white with the variance ``within_sd² · correlation_hops``, which gives the mean of
any number of hops exactly the variance that ``LegModel`` states. (Correlated noise that
has the same variance in the long run wanders less within a leg, so it crosses less often.) Windows
are means of six hops and are weighted by the hops that they add, as ``Evidence`` does; every hop
is a look.

The noise paths are drawn once, in units of their own sd. Given a path, the leg crosses exactly if
``u`` exceeds a number that the path determines, so the probability is averaged over paths in
closed form instead of counting crossings (Rao-Blackwell): two thousand paths then give a false
alarm rate of 1 % to within about 1 % of itself for usual models.

A leg is followed for an hour of net speech. Past it nothing happens that matters: the mean of
7,200 hops still moves by a hundredth of the sd of one hop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from streamguard.clock import WINDOW_HOPS
from streamguard.verdict.calibration import LegModel

if TYPE_CHECKING:
    import numpy.typing as npt

LIFE_HOPS = 7200
"""One hour of net speech."""

_PATHS = 2000
_BATCH = 125  # paths at a time: 7,200 hops of them take some 20 MB while they are drawn
_SEED = 20240229
_DENSE_HOPS = 240  # every look separately; later ones in blocks of 2 % of the leg's length
_BISECTIONS = 20


@dataclass(frozen=True, slots=True)
class Boundaries:
    """Of the leg LLR, for one leg model."""

    raise_llr: float
    """SPOOF at this level or above: the lowest that keeps the asked false alarms."""
    accept_llr: float
    """BONAFIDE at this level or below: the highest that keeps the asked misses."""


@dataclass(frozen=True, slots=True, eq=False)
class _Paths:
    """Running means of unit noise at their highest, ``[paths, looks]``; read-only, shared."""

    hops: npt.NDArray[np.float32]
    """``[looks]``: length of the leg at a look (at the end of a block of looks)."""
    high: npt.NDArray[np.float32]
    """``[paths, looks]``: the running mean, or its highest value within the block."""


def running_mean(hops: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The mean that ``Evidence`` holds after each hop, ``[legs, hops]`` to the same shape.

    The first full window adds six hops, each later one adds the hop that is new in it.
    """
    total = np.cumsum(hops, axis=1, dtype=np.float64)
    weighted = total.copy()
    windows = (total[:, WINDOW_HOPS:] - total[:, :-WINDOW_HOPS]) / WINDOW_HOPS
    weighted[:, WINDOW_HOPS:] = total[:, WINDOW_HOPS - 1, None] + np.cumsum(windows, axis=1)
    weighted /= np.arange(1, hops.shape[1] + 1)
    return weighted.astype(np.float32)


@lru_cache(maxsize=1)
def _paths() -> _Paths:
    starts = list(range(_DENSE_HOPS))
    while starts[-1] < LIFE_HOPS:
        starts.append(starts[-1] + max(1, starts[-1] // 50))
    starts = [start for start in starts if start < LIFE_HOPS]
    ends = np.array([*starts[1:], LIFE_HOPS], dtype=np.float32)
    rng = np.random.default_rng(_SEED)
    high = []
    for _ in range(_PATHS // _BATCH // 2):
        mean = running_mean(rng.standard_normal((_BATCH, LIFE_HOPS), dtype=np.float32))
        # Each path and its mirror image: half the draws, and a symmetric set of paths.
        high += [np.maximum.reduceat(path, starts, axis=1) for path in (mean, -mean)]
    return _Paths(hops=ends, high=np.concatenate(high))


def mean_for(model: LegModel, level: float, hops: float) -> float:
    """The mean of so many hops at which the LLR is ``level``: the inverse of ``LegModel.llr``.

    Minus infinity below the lowest LLR that there is.
    """
    square, slope, constant = model.parabola(hops)
    inside = slope * slope - 4 * square * (constant - level)
    if inside < 0:
        return -math.inf
    return model.middle + 2 * (level - constant) / (slope + math.sqrt(inside))


def _needed(
    model: LegModel, level: float, first_look: int, horizon: int, *, spoofed: bool, falling: bool
) -> npt.NDArray[np.float32]:
    """What ``u`` must reach at each look for the LLR to reach ``level``, ``[paths, looks]``.

    ``falling``: what ``-u`` must reach for the LLR to fall to it; the set of paths is symmetric.
    """
    paths = _paths()
    looks = slice(first_look - 1, None)
    weights = np.minimum(paths.hops[looks], np.float32(horizon)).tolist()
    class_mean = model.spoof_mean if spoofed else model.bonafide_mean
    height = np.array([mean_for(model, level, hops) for hops in weights]) - class_mean
    if falling:
        height = -height
    noise = np.float32(math.sqrt(model.hop_variance)) * paths.high[:, looks]
    return height.astype(np.float32) - noise


def _share(model: LegModel, needed: npt.NDArray[np.floating], *, spoofed: bool) -> float:
    """Probability that ``u`` reaches what each path needs, averaged over the paths."""
    spread = max(model.class_between_sd(spoofed=spoofed), 1e-9) * math.sqrt(2)
    return sum(math.erfc(z) for z in (needed / np.float64(spread)).tolist()) / 2 / _PATHS


@lru_cache(maxsize=64)
def level_for(
    model: LegModel, rate: float, first_look: int, horizon: int, *, falling: bool = False
) -> float:
    """The lowest LLR level >= 0 that a share of at most ``rate`` of bona fide legs ever reaches.

    ``falling``: the lowest one >= 0 so that at most ``rate`` of spoofed legs ever fall to minus it.
    ``first_look`` and ``horizon`` in hops.
    """

    def share(level: float) -> float:
        needed = _needed(
            model,
            -level if falling else level,
            first_look,
            horizon,
            spoofed=falling,
            falling=falling,
        )
        return _share(model, needed.min(axis=1), spoofed=falling)

    low, high = 0.0, 1.0
    if share(low) <= rate:
        return low
    while share(high) > rate:
        low, high = high, 2 * high
    for _ in range(_BISECTIONS):
        level = (low + high) / 2
        low, high = (level, high) if share(level) > rate else (low, level)
    return high


def find_boundaries(
    model: LegModel,
    *,
    false_alarm: float,
    miss: float,
    first_look_hops: int,
    horizon_hops: int,
    suspect_llr: float,
    clear_llr: float,
) -> Boundaries:
    """Both boundaries; never a SPOOF below ``suspect_llr`` nor a BONAFIDE above ``clear_llr``."""
    return Boundaries(
        raise_llr=max(suspect_llr, level_for(model, false_alarm, first_look_hops, horizon_hops)),
        accept_llr=min(
            clear_llr, -level_for(model, miss, first_look_hops, horizon_hops, falling=True)
        ),
    )


def crossing_share(
    model: LegModel,
    level: float,
    first_look: int,
    horizon: int,
    *,
    spoofed: bool,
    falling: bool = False,
) -> list[tuple[int, float]]:
    """(hops, share of legs whose LLR has reached ``level`` by then), rising, at some 30 lengths.

    ``falling``: has fallen to it.
    """
    looks = _needed(model, level, first_look, horizon, spoofed=spoofed, falling=falling)
    needed = np.minimum.accumulate(looks, axis=1)
    hops = _paths().hops[first_look - 1 :]
    columns = np.unique(np.geomspace(1, len(hops), 30).astype(int)) - 1
    return [(int(hops[k]), _share(model, needed[:, k], spoofed=spoofed)) for k in columns.tolist()]
