"""False alarms of the default voting rule on human pseudo-legs: an extrapolation, and its bound."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from scipy.stats import beta, chi2

from streamguard.verdict.calibration import ChannelCalibration, FalseAlarms
from streamguard.verdict.describe import expected_false_alarms
from streamguard.verdict.rulebook import Rulebook
from streamguard.verdict.scores import Channel, State
from streamguard.verdict.settings import VerdictSettings
from streamguard.verdict.voter import Voter

if TYPE_CHECKING:
    from tools.calibration.detection import ChannelScores, Fitted, Heard

FOLDS = 4
_PRIOR = 0.01  # of no influence on states


def count_false_alarms(
    scores: Mapping[Channel, ChannelScores], fit: Callable[[ChannelScores], Fitted]
) -> dict[Channel, FalseAlarms]:
    """What the daemon's voter raises on bona fide legs, by numbers that others' sources gave.

    Legs of sources without which a channel class would not be calibrated are judged by nobody; a
    class in which none is left has no entry.
    """
    settings = VerdictSettings()
    found = {}
    for channel, part in scores.items():
        judged = []
        for held_out in source_folds(part):
            rest = part.without(held_out)
            if not rest.enough:
                continue
            fitted = fit(rest)
            judged += [
                _judge(leg, fitted, settings)
                for leg in part.distinct_legs
                if not leg.clip.spoof and leg.clip.source_repo in held_out
            ]
        kept = [one for one in judged if one[1] >= settings.sequential.min_net_speech_s]
        if not kept:
            continue
        book = Rulebook.make(settings, {channel: _calibration(fit(part))})
        found[channel] = summary(
            settings.rule,
            kept,
            expected_false_alarms(book, channel)[0] if channel in book.models else 0.0,
        )
    return found


def source_folds(part: ChannelScores) -> list[frozenset[str]]:
    """Sources of bona fide legs in groups with about as many of them each.

    Those of spoofed legs alone are in none: they have nobody to be judged.
    """
    legs = Counter(leg.clip.source_repo for leg in part.distinct_legs if not leg.clip.spoof)
    folds: list[set[str]] = [set() for _ in range(FOLDS)]
    sizes = [0] * FOLDS
    for source in sorted(legs, key=lambda name: (-legs[name], name)):
        smallest = sizes.index(min(sizes))
        folds[smallest].add(source)
        sizes[smallest] += legs[source]
    return [frozenset(fold) for fold in folds if fold]


def _calibration(fitted: Fitted) -> ChannelCalibration:
    return ChannelCalibration(llr=fitted.llr, leg=fitted.leg)


def _judge(leg: Heard, fitted: Fitted, settings: VerdictSettings) -> tuple[Heard, float, bool]:
    """The leg, its net speech in seconds, whether it was ever SPOOF."""
    calibrations = {leg.channel: _calibration(fitted)}
    voter = Voter(settings, calibrations, _PRIOR, False, leg.windows[0].leg)
    raised = False
    for window in leg.windows:
        assert window.raw is not None, "only windows that speak are kept"
        scored = dataclasses.replace(window, llr=fitted.llr.apply(window.raw))
        raised = voter.update(scored).state is State.SPOOF or raised
    return leg, voter.verdict.net_speech_s, raised


def summary(rule: str, judged: Sequence[tuple[Heard, float, bool]], modelled: float) -> FalseAlarms:
    """Rates and bounds from at least one leg."""
    raised = sum(alarm for _, _, alarm in judged)
    hours = sum(seconds for _, seconds, _ in judged) / 3600
    legs = len(judged)
    share = float(beta.ppf(0.95, raised + 1, legs - raised)) if raised < legs else 1.0
    per_1000 = 1000 / hours
    return FalseAlarms(
        rule=rule,
        legs=legs,
        speakers=len({(leg.clip.source_repo, leg.clip.speaker) for leg, _, _ in judged}),
        sources=len({leg.clip.source_repo for leg, _, _ in judged}),
        hours=round(hours, 4),
        raised=raised,
        per_1000_call_hours=round(raised * per_1000, 1),
        upper_95=round(float(chi2.ppf(0.95, 2 * (raised + 1))) / 2 * per_1000, 1),
        leg_share_upper_95=round(share, 4),
        modelled=round(modelled, 1),
    )
