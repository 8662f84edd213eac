"""A voice that changes in mid-call: CUSUM on the deviation from the leg's own baseline.

The baseline removes what the microphone, the room and the speaker add to every window of the leg;
what is left is noise of a known size, so a change of the size of the distance between the classes
shows long before the leg's mean has moved.

Page's CUSUM (1954) of the deviations, less half of the expected shift, finds where a change would
have begun: at its last zero. Windows since then are pending: they join the baseline only if it
returns to zero, so a change does not hide itself. The alarm does not look at the CUSUM but at the
log-likelihood ratio of "the mean has shifted there" against "it has not", with the baseline's own
uncertainty in its variance: the CUSUM of an imperfect baseline would drift off by itself in a long
call. It saturates with the length of the baseline: after ten seconds of human voice, no amount of
synthetic voice can be as sure as after a minute of it.

The alarm threshold comes from a simulation of hours of legs that do not change, in units of the
noise, with overlapping windows and a look at every hop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from streamguard.clock import WINDOW_HOPS

_HOUR_HOPS = 7200
_SHORT_HOPS = 340  # after the baseline: with the usual one of 10 s, a call of 3 minutes
_HOURS = 500  # of each length of call
_TAIL_LEGS = 60  # that many highest maxima shape the tail, where rates are rarer than counts
_SEED = 20240301
_SHIFT_STEPS = 16  # per doubling of the shift: a simulation serves shifts within 2 % of its own
_LEAST_LLR = 1.0  # noise that never looks like a change still leaves this to be shown

_Maxima = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ChangeModel:
    """What kind of change is looked for."""

    shift: float
    """Of the mean window LLR, upwards; positive."""
    hop_variance: float
    """What one hop adds to the variance of a sum over a long leg; positive."""
    baseline_hops: int
    """Least length of a baseline."""

    def llr(self, deviation: float, hops: int, baseline_hops: int) -> float:
        """Log ratio "shifted" against "not" for a mean deviation of so many hops."""
        variance = self.hop_variance * (1 / hops + 1 / baseline_hops)
        return self.shift * (deviation - self.shift / 2) / variance


@dataclass(frozen=True, slots=True)
class Change:
    """Where a leg has changed, and what it was like before."""

    windows: int
    """Accepted windows since the change, the newest one included."""
    baseline_sum: float
    baseline_hops: int


class ChangeDetector:
    """Watches one leg for one shift; a shift downwards with ``downwards``."""

    def __init__(self, model: ChangeModel, threshold: float, *, downwards: bool = False) -> None:
        self._model = model
        self._threshold = threshold
        self._sign = -1.0 if downwards else 1.0
        self._baseline_sum = 0.0
        self._baseline_hops = 0
        self._restart()

    def _restart(self) -> None:
        self._drift = 0.0
        self._pending_sum = 0.0
        self._pending_hops = 0
        self._pending_windows = 0

    def update(self, llr: float, hops: int) -> Change | None:
        """Count a window for the hops that it adds; the change, if it is one."""
        if hops <= 0:
            return None
        value = self._sign * llr
        if self._baseline_hops < self._model.baseline_hops:
            self._baseline_sum += value * hops
            self._baseline_hops += hops
            return None
        baseline = self._baseline_sum / self._baseline_hops
        self._drift += hops * (value - baseline - self._model.shift / 2)
        self._pending_sum += value * hops
        self._pending_hops += hops
        self._pending_windows += 1
        if self._drift <= 0:
            self._baseline_sum += self._pending_sum
            self._baseline_hops += self._pending_hops
            self._restart()
            return None
        deviation = self._pending_sum / self._pending_hops - baseline
        evidence = self._model.llr(deviation, self._pending_hops, self._baseline_hops)
        if evidence < self._threshold:
            return None
        return Change(
            windows=self._pending_windows,
            baseline_sum=self._sign * self._baseline_sum,
            baseline_hops=self._baseline_hops,
        )


@lru_cache(maxsize=64)
def threshold_for(model: ChangeModel, false_alarms_per_hour: float) -> float:
    """The alarm threshold that keeps the asked rate while nothing changes.

    Per hour of net speech, in short calls as in long ones: a young baseline errs more often, so an
    hour made of many calls needs a higher threshold than an hour of one call.
    """
    # Only the shift in units of the noise matters; rounding it lets similar models share a run.
    steps = round(math.log2(model.shift / math.sqrt(model.hop_variance)) * _SHIFT_STEPS)
    shift = 2 ** (steps / _SHIFT_STEPS)
    short_hops = model.baseline_hops + _SHORT_HOPS
    return max(
        _LEAST_LLR,
        *(
            _exceeded(_maxima(shift, model.baseline_hops, hops), hops, false_alarms_per_hour)
            for hops in (short_hops, _HOUR_HOPS)
        ),
    )


def _exceeded(maxima: _Maxima, hops: int, per_hour: float) -> float:
    """The level that legs of this length exceed so often."""
    # A rate is a Poisson rate: this share of the legs may see an alarm.
    share = -math.expm1(-per_hour * hops / _HOUR_HOPS)
    counted = _TAIL_LEGS / len(maxima)
    edge = float(np.quantile(maxima, 1 - max(share, counted)))
    if share >= counted:
        return edge
    # Rarer than the simulation can count: the maxima of long stretches have exponential tails.
    scale = float(np.mean(maxima[maxima >= edge]) - edge)
    return edge + scale * math.log(counted / share)


@lru_cache(maxsize=64)
def _maxima(shift: float, baseline_hops: int, hops: int) -> _Maxima:
    """Highest evidence of a change in each of many legs that do not change; unit noise.

    ``ChangeDetector.update`` on all legs at once: windows six hops long, one hop apart.
    """
    rng = np.random.default_rng(_SEED)
    legs = _HOURS * _HOUR_HOPS // hops
    noise = rng.standard_normal((hops, legs), dtype=np.float32)
    total = np.cumsum(noise, axis=0, dtype=np.float64)
    windows = (total[WINDOW_HOPS:] - total[:-WINDOW_HOPS]) / WINDOW_HOPS
    # Windows that fill the baseline: the first adds six hops, each of the others one.
    filling = max(0, baseline_hops - WINDOW_HOPS)
    base_sum = total[WINDOW_HOPS - 1] + windows[:filling].sum(axis=0)
    base_hops = np.full(legs, float(WINDOW_HOPS + filling))
    pending_sum, pending_hops = np.zeros(legs), np.zeros(legs)
    highest = np.zeros(legs)
    for window in windows[filling:]:
        pending_sum += window
        pending_hops += 1
        # The drift is positive where the pending mean lies above the baseline by half the shift.
        excess = pending_sum / pending_hops - base_sum / base_hops - shift / 2
        np.maximum(highest, excess * shift / (1 / pending_hops + 1 / base_hops), out=highest)
        quiet = excess <= 0
        base_sum += np.where(quiet, pending_sum, 0.0)
        base_hops += np.where(quiet, pending_hops, 0.0)
        pending_sum[quiet] = 0.0
        pending_hops[quiet] = 0.0
    return highest
