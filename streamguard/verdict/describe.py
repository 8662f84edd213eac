"""What the configured rule needs and what is to be expected of it, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from streamguard.clock import HOP_SECONDS, WINDOW_HOPS
from streamguard.verdict.boundaries import LIFE_HOPS, crossing_share
from streamguard.verdict.calibration import ChannelCalibration, FalseAlarms, LegModel
from streamguard.verdict.cusum import ChangeDetector
from streamguard.verdict.rulebook import Rulebook
from streamguard.verdict.scores import Channel
from streamguard.verdict.settings import VerdictSettings, hops_of

WARNING = "warning: "
"""Lines that begin with this say that the rule can't do what is hoped of it."""

CHANNEL_NAMES = {
    Channel.WIDE: "wide band",
    Channel.NARROW: "narrow band",
    Channel.LOW_RATE: "low rate",
}
"""Lines about one channel class begin with its name and a colon."""
_CALL_S = 180.0  # net speech of the legs that rates per call-hour are stated for
_BEFORE_S, _AFTER_S = 30.0, 20.0  # of the change of voice whose detection is stated
_P99 = 2.326  # standard normal
_SEED = 20240302
_LEGS = 2000
_CHANGED_LEGS = 200


def describe_rule(
    settings: VerdictSettings,
    calibrations: Mapping[Channel, ChannelCalibration],
    prior: float,
) -> list[str]:
    """Lines of text; rates are simulated from the leg model of each channel."""
    book = Rulebook.make(settings, calibrations)
    lines = [_rule(settings)]
    for channel, calibration in calibrations.items():
        name = CHANNEL_NAMES[channel]
        if channel not in book.models:
            lines.append(
                f"{WARNING}{name}: no usable leg model in the bundle: "
                "every window is rejected as uncalibrated"
            )
            continue
        judge = _majority if settings.rule == "majority" else _sequential
        lines += [line for line in judge(book, channel, calibration.false_alarms, prior) if line]
        lines += _change(book, channel, name)
        seen = calibration.exposure
        lines.append(
            f"{name}: these rates are simulated from {seen.legs} legs of {seen.speakers} speakers "
            f"({seen.hours:.1f} h, {seen.sources} sources), an extrapolation beyond them"
        )
    if not book.models:
        lines.append(f"{WARNING}no channel is calibrated: every leg will stay UNKNOWN")
    return lines


def _rule(settings: VerdictSettings) -> str:
    if settings.rule == "majority":
        votes = settings.majority
        return (
            f"rule majority: needs {votes.k} of the last {votes.n} accepted windows at LLR >= "
            f"{votes.window_llr:g}, adding {votes.min_votes_s:g} s of speech or more; "
            f"{votes.quorum} windows are the quorum; {votes.n} windows = up to "
            f"{votes.longest_s:g} s of speech; cleared at {votes.clear_k} votes or fewer"
        )
    test = settings.sequential
    return (
        f"rule sequential: at most {_percent(test.false_alarm)} of bona fide talk segments are "
        f"ever SPOOF and at most {_percent(test.miss)} of spoofed ones are ever BONAFIDE; evidence "
        f"gains no weight after {test.horizon_net_speech_s:g} s of net speech"
    )


def _sequential(
    book: Rulebook, channel: Channel, seen: FalseAlarms | None, prior: float
) -> Iterator[str]:
    settings, model, name = book.settings, book.models[channel], CHANNEL_NAMES[channel]
    first_s = settings.sequential.min_net_speech_s
    horizon_s = settings.sequential.horizon_net_speech_s
    level = book.raise_llr[channel]
    p_spoof = 1 / (1 + math.exp(-level) * (1 - prior) / prior)
    yield (
        f"{name}: raises after at least {first_s:.1f} s of net speech at LLR >= {level:.2f} "
        f"(p_spoof {p_spoof:.2f} at prior {prior:g}); SUSPECT from {settings.suspect_llr:.2f}, "
        f"BONAFIDE at <= {book.accept_llr[channel]:.2f}, SPOOF cleared at <= "
        f"{settings.clear_llr:.2f} after {settings.min_dwell_s:g} s at least"
    )
    first, horizon = hops_of(first_s), book.horizon_hops
    spoofed = crossing_share(model, level, first, horizon, spoofed=True)
    bonafide = crossing_share(model, level, first, horizon, spoofed=False)
    detected = share_by(spoofed, horizon)
    yield (
        f"{name}: of spoofed legs {_percent(share_by(spoofed, hops_of(10)))} are raised within "
        f"10 s of net speech, {_percent(detected)} within {horizon_s:g} s, "
        f"{_percent(share_by(spoofed, LIFE_HOPS))} within an hour; of bona fide legs "
        f"{_percent(share_by(bonafide, horizon))} within {horizon_s:g} s, "
        f"{_percent(share_by(bonafide, LIFE_HOPS))} within an hour"
    )
    accept = book.accept_llr[channel]
    calm = [
        share_by(
            crossing_share(model, accept, first, horizon, spoofed=spoofed, falling=True), horizon
        )
        for spoofed in (False, True)
    ]
    yield (
        f"{name}: BONAFIDE is said of {_percent(calm[0])} of bona fide and {_percent(calm[1])} of "
        f"spoofed legs within {horizon_s:g} s; what is neither stays UNKNOWN or SUSPECT"
    )
    yield from _false_alarms(book, channel, seen)
    best = model.llr(model.spoof_mean + _P99 * model.class_between_sd(spoofed=True), horizon)
    if best < level:
        yield (
            f"{WARNING}{name}: the boundary is out of reach: evidence saturates, and even the "
            f"most blatant 1 % of spoofed legs only come to LLR {best:.2f} of {level:.2f}"
        )
    yield _weak(name, detected, f"within {horizon_s:g} s of net speech")


def _majority(
    book: Rulebook, channel: Channel, seen: FalseAlarms | None, prior: float
) -> Iterator[str]:
    name = CHANNEL_NAMES[channel]
    detected = majority_share(book, book.models[channel], spoofed=True)
    false = majority_share(book, book.models[channel], spoofed=False)
    yield (
        f"{name}: of spoofed legs {_percent(detected)} are raised within {_CALL_S:g} s of net "
        f"speech, of bona fide legs {_percent(false)}; p_spoof uses the prior {prior:g}"
    )
    yield from _false_alarms(book, channel, seen)
    yield _weak(name, detected, f"within {_CALL_S:g} s of net speech")


def _change(book: Rulebook, channel: Channel, name: str) -> list[str]:
    if channel not in book.changes:
        return [f"{name}: the change detector is off"]
    cusum, change = book.settings.cusum, book.changes[channel]
    found = changes_found(book, channel)
    return [
        f"{name}: a change of voice raises when its LLR reaches {book.thresholds[channel]:.2f} "
        f"after a baseline of {cusum.baseline_s:g} s or more: at most "
        f"{cusum.false_alarms_per_call_hour:g} false alarms per hour of net speech of one leg; a "
        f"shift of {change.shift:.2f} after {_BEFORE_S:g} s is found within {_AFTER_S:g} s in "
        f"{_percent(found)}"
    ]


def expected_false_alarms(book: Rulebook, channel: Channel) -> tuple[float, float]:
    """Per 1,000 call-hours of bona fide legs of the usual length: ``(by level, by change)``.

    The first is simulated from the leg model, the second is a bound.
    """
    settings, model = book.settings, book.models[channel]
    if settings.rule == "majority":
        per_leg = majority_share(book, model, spoofed=False)
    else:
        first = hops_of(settings.sequential.min_net_speech_s)
        level = book.raise_llr[channel]
        curve = crossing_share(model, level, first, book.horizon_hops, spoofed=False)
        per_leg = share_by(curve, hops_of(_CALL_S))
    by_change = settings.cusum.false_alarms_per_call_hour if settings.cusum.enabled else 0.0
    return 1000 * 3600 / _CALL_S * per_leg, 1000 * by_change


def _false_alarms(book: Rulebook, channel: Channel, seen: FalseAlarms | None) -> Iterator[str]:
    by_level, by_change = expected_false_alarms(book, channel)
    name = CHANNEL_NAMES[channel]
    yield (
        f"{name}: expected false alarms per 1,000 call-hours (of bona fide legs with "
        f"{_CALL_S:g} s of net speech each): {by_level:.0f} by level, at most {by_change:.0f} by "
        "change; on a mixed line every talk segment counts as a leg"
    )
    if seen is not None:
        yield (
            f"{name}: of {seen.legs} human legs of the calibration ({seen.speakers} speakers, "
            f"{seen.sources} sources, {seen.hours:.2f} h of net speech) the default rule raised "
            f"{seen.raised}: {seen.per_1000_call_hours:.0f} per 1,000 call-hours, below "
            f"{seen.upper_95:.0f} with 95 % confidence, an extrapolation"
        )


def _weak(name: str, detected: float, when: str) -> str:
    if detected >= 0.5:
        return ""
    return (
        f"{WARNING}{name}: with these error rates this detector raises only {_percent(detected)} "
        f"of spoofed legs {when}; a higher false alarm rate or a better detector raises more"
    )


def share_by(curve: list[tuple[int, float]], hops: int) -> float:
    """The curve's value at a length, between its points in the logarithm of the length."""
    lengths, shares = zip(*curve, strict=True)
    return float(np.interp(math.log(hops), np.log(lengths), shares, left=0.0))


def majority_share(book: Rulebook, model: LegModel, *, spoofed: bool) -> float:
    """Share of legs that the votes raise within the stated call; one window per hop."""
    votes = book.settings.majority
    rng = np.random.default_rng(_SEED)
    noise = rng.standard_normal((_LEGS, hops_of(_CALL_S))) * math.sqrt(model.hop_variance)
    mean = model.spoof_mean if spoofed else model.bonafide_mean
    spread = model.class_between_sd(spoofed=spoofed)
    legs = mean + spread * rng.standard_normal((_LEGS, 1)) + noise
    total = np.cumsum(legs, axis=1)
    windows = total[:, WINDOW_HOPS - 1 :].copy()
    windows[:, 1:] -= total[:, :-WINDOW_HOPS]
    yes = np.cumsum(windows / WINDOW_HOPS >= votes.window_llr, axis=1, dtype=np.int64)
    recent = yes.copy()
    recent[:, votes.n :] -= yes[:, : -votes.n]
    # Past the first window each vote adds one hop.
    needed = max(votes.k, math.ceil(votes.min_votes_s / HOP_SECONDS))
    return float(np.mean(recent[:, votes.quorum - 1 :].max(axis=1) >= needed))


def changes_found(book: Rulebook, channel: Channel) -> float:
    """Share of changes by the expected shift that the detector finds in the stated time."""
    change, before, after = book.changes[channel], hops_of(_BEFORE_S), hops_of(_AFTER_S)
    rng = np.random.default_rng(_SEED)
    legs = rng.standard_normal((_CHANGED_LEGS, before + after)) * math.sqrt(change.hop_variance)
    legs[:, before:] += change.shift
    found = 0
    for leg in legs:
        detector = ChangeDetector(change, book.thresholds[channel])
        windows = np.convolve(leg, np.full(WINDOW_HOPS, 1 / WINDOW_HOPS), mode="valid")
        alarms = (
            detector.update(llr, 1 if place else WINDOW_HOPS)
            for place, llr in enumerate(windows.tolist())
        )
        found += any(alarm is not None for alarm in alarms)
    return found / _CHANGED_LEGS


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
