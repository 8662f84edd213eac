"""The evidence of one talk segment: its hops counted once, its LLR saturating as it grows."""

from __future__ import annotations

import math
from collections.abc import Mapping

from streamguard.clock import WINDOW_HOPS
from streamguard.verdict.calibration import LegModel
from streamguard.verdict.scores import Channel

# A window further out than this is a freak of the model; it votes as the last credible one would.
_CREDIBLE_SDS = 5.0


def credible(model: LegModel, llr: float) -> float:
    """A window's LLR, no further out than a window of either class may credibly be."""
    margin = _CREDIBLE_SDS * math.sqrt(model.variance(WINDOW_HOPS))
    return min(max(llr, model.bonafide_mean - margin), model.spoof_mean + margin)


class Evidence:
    """Mean of the accepted window LLRs weighted by the hops that each adds, per channel class.

    The LLR is the log ratio of the densities of that mean under the random-effect model of a leg
    (``LegModel.llr``: it rises with the mean). It is bounded in the number of
    hops, because the leg's own microphone, room and speaker do not average out; beyond ``horizon``
    hops no more weight is added. When the channel changes within a segment, each channel's mean is
    judged by its own model with the hops of the whole segment and the results are averaged by
    hops: one leg has one random effect, so a second channel must not count as a second witness.
    """

    def __init__(self, models: Mapping[Channel, LegModel], horizon_hops: int) -> None:
        self._models = models
        self._horizon = horizon_hops
        self._parts: dict[Channel, tuple[float, int]] = {}
        self.hops = 0

    def add(self, channel: Channel, llr: float, hops: int) -> None:
        """Count a window for the hops that it adds; none if it adds none."""
        if hops > 0:
            total, count = self._parts.get(channel, (0.0, 0))
            self._parts[channel] = (total + llr * hops, count + hops)
            self.hops += hops

    def part(self, channel: Channel) -> tuple[float, int]:
        """Sum and number of the hops heard over this channel."""
        return self._parts.get(channel, (0.0, 0))

    def llr(self) -> float:
        """Natural log, positive for spoof, without a prior; 0 while there is no evidence."""
        if not self.hops:
            return 0.0
        weight = min(self.hops, self._horizon)
        return math.fsum(
            count / self.hops * self._models[channel].llr(total / count, weight)
            for channel, (total, count) in self._parts.items()
        )

    def level(self, levels: Mapping[Channel, float]) -> float:
        """A boundary for this mix of channels: theirs, averaged by hops."""
        if len(self._parts) == 1:
            return levels[next(iter(self._parts))]
        return math.fsum(
            count / self.hops * levels[channel] for channel, (_, count) in self._parts.items()
        )
