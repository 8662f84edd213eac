"""The settings turned into numbers for each calibrated channel: boundaries and thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from streamguard.verdict.boundaries import find_boundaries
from streamguard.verdict.calibration import ChannelCalibration, LegModel
from streamguard.verdict.cusum import ChangeDetector, ChangeModel, threshold_for
from streamguard.verdict.scores import Channel
from streamguard.verdict.settings import VerdictSettings, hops_of


@dataclass(frozen=True, slots=True)
class Rulebook:
    """Everything a track needs to judge; one per configuration and bundle. Read-only.

    The first one for a leg model costs about a second of simulation, later ones nothing: make one
    before the event loop turns.
    """

    settings: VerdictSettings
    models: Mapping[Channel, LegModel]
    """Only channels with a usable leg model; a window of another one is uncalibrated."""
    raise_llr: Mapping[Channel, float]
    accept_llr: Mapping[Channel, float]
    changes: Mapping[Channel, ChangeModel]
    thresholds: Mapping[Channel, float]
    horizon_hops: int

    @classmethod
    def make(
        cls, settings: VerdictSettings, calibrations: Mapping[Channel, ChannelCalibration]
    ) -> Rulebook:
        sequential, cusum = settings.sequential, settings.cusum
        horizon_hops = hops_of(sequential.horizon_net_speech_s)
        models = {
            channel: calibration.leg
            for channel, calibration in calibrations.items()
            if calibration.leg is not None and calibration.leg.tells_apart
        }
        boundaries = {
            channel: find_boundaries(
                model,
                false_alarm=sequential.false_alarm,
                miss=sequential.miss,
                first_look_hops=hops_of(sequential.min_net_speech_s),
                horizon_hops=horizon_hops,
                suspect_llr=settings.suspect_llr,
                clear_llr=settings.clear_llr,
            )
            for channel, model in models.items()
        }
        changes = {
            channel: ChangeModel(
                shift=cusum.shift or model.separation,
                # A model without noise still has some: a 10,000th of the separation squared.
                hop_variance=max(model.hop_variance, 1e-4 * model.separation**2),
                baseline_hops=hops_of(cusum.baseline_s),
            )
            for channel, model in models.items()
            if cusum.enabled
        }
        return cls(
            settings=settings,
            models=models,
            raise_llr={channel: found.raise_llr for channel, found in boundaries.items()},
            accept_llr={channel: found.accept_llr for channel, found in boundaries.items()},
            changes=changes,
            thresholds={
                channel: threshold_for(change, cusum.false_alarms_per_call_hour)
                for channel, change in changes.items()
            },
            horizon_hops=horizon_hops,
        )

    def detector(self, channel: Channel, *, downwards: bool) -> ChangeDetector | None:
        """A new change detector without a baseline; None if they are switched off."""
        if channel not in self.changes:
            return None
        return ChangeDetector(self.changes[channel], self.thresholds[channel], downwards=downwards)
