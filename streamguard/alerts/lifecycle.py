"""The life of alerts, as pure code: per leg raised, updated any number of times, cleared.

Hysteresis comes from the voter: SPOOF raises, and evidence clears only at the clear level or below
(``Verdict.clear``); a voice that merely begins anew clears nothing. Here are the dwell, the update
rate and the endings. Rates are counted in audio time, so a replay gives the same alerts as the call
did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from streamguard.alerts.alert import Acknowledgement, Alert, ClearedReason, Kind
from streamguard.alerts.context import LatencySnapshot, LegContext, QualitySnapshot
from streamguard.alerts.settings import AlertSettings, SeveritySettings
from streamguard.verdict.scores import Label, State, Verdict


@dataclass(slots=True)
class _Leg:
    """The newest of a leg, which may be newer than what its alert last said."""

    context: LegContext
    verdict: Verdict
    quality: QualitySnapshot
    latency: LatencySnapshot
    alert: Alert | None = None
    raised_offset_s: float = 0.0
    muted: bool = False


class Lifecycle:
    """All legs' alerts. Synchronous, without a clock of its own; at most one open alert per leg.

    ``new_id`` makes an alert id; it must never give the same one twice.
    """

    def __init__(self, settings: AlertSettings, new_id: Callable[[], str]) -> None:
        self._settings = settings
        self._new_id = new_id
        self._legs: dict[str, _Leg] = {}
        self.suppressed: Counter[str] = Counter()
        """By source: alerts that a rule kept from being raised, and updates that it muted."""

    def verdict(
        self,
        context: LegContext,
        verdict: Verdict,
        quality: QualitySnapshot,
        latency: LatencySnapshot,
        *,
        muted: bool = False,
    ) -> Alert | None:
        """Take a verdict; return the revision that it causes, if any."""
        leg = self._legs.get(context.leg)
        if leg is None:
            leg = self._legs[context.leg] = _Leg(context, verdict, quality, latency)
        else:
            leg.context, leg.verdict = context, verdict
            leg.quality, leg.latency = quality, latency
        if leg.alert is None:
            return self._maybe_raise(leg, muted=muted)
        if verdict.clear:
            if verdict.offset_s - leg.raised_offset_s < self._settings.min_dwell_s:
                return None
            return self._clear(leg, _hour(context, verdict), ClearedReason.EVIDENCE, None)
        return self._maybe_update(leg, leg.alert, muted=muted)

    def end_leg(
        self, leg: str, reason: ClearedReason, at_utc: float, detail: str | None = None
    ) -> Alert | None:
        """The leg is over: forget it; return what closes its alert, if one is open."""
        known = self._legs.pop(leg, None)
        if known is None or known.alert is None:
            return None
        return self._clear(known, at_utc, reason, detail)

    def end_source(self, source: str, at_utc: float, detail: str | None = None) -> list[Alert]:
        """The source is gone, and with it every leg of it."""
        legs = [name for name, leg in self._legs.items() if leg.context.source == source]
        return self._end(legs, ClearedReason.SOURCE_LOST, at_utc, detail)

    def end_all(
        self, reason: ClearedReason, at_utc: float, detail: str | None = None
    ) -> list[Alert]:
        """Close everything. After ``model_changed`` the legs go on and may raise anew."""
        return self._end(list(self._legs), reason, at_utc, detail)

    def acknowledge(self, alert_id: str, who: Acknowledgement) -> Alert | None:
        """An open alert with the acknowledgement on it; None if there is no such alert."""
        for leg in self._legs.values():
            if leg.alert is not None and leg.alert.alert_id == alert_id:
                marked = replace(leg.alert, acknowledged=who)
                return self._next(leg, marked, Kind.UPDATED, who.at_utc)
        return None

    def open_alerts(self) -> tuple[Alert, ...]:
        """The last revision of each open alert."""
        return tuple(leg.alert for leg in self._legs.values() if leg.alert is not None)

    def alert_of(self, leg: str) -> Alert | None:
        known = self._legs.get(leg)
        return known.alert if known else None

    def _maybe_raise(self, leg: _Leg, *, muted: bool) -> Alert | None:
        state = leg.verdict.state
        if state is not State.SPOOF and not (
            state is State.SUSPECT and self._settings.raise_on_suspect
        ):
            leg.muted = False
            return None
        if muted:
            if not leg.muted:
                leg.muted = True
                self.suppressed[leg.context.source] += 1
            return None
        leg.muted = False
        leg.raised_offset_s = leg.verdict.offset_s
        hour = _hour(leg.context, leg.verdict)
        leg.alert = Alert(
            alert_id=self._new_id(),
            revision=1,
            kind=Kind.RAISED,
            at_utc=hour,
            severity=severity(leg.verdict, self._settings.severity),
            first_seen_utc=hour,
            last_seen_utc=hour,
            context=leg.context,
            verdict=leg.verdict,
            quality=leg.quality,
            latency=leg.latency,
        )
        return leg.alert

    def _maybe_update(self, leg: _Leg, said: Alert, *, muted: bool) -> Alert | None:
        waited_s = leg.verdict.offset_s - said.verdict.offset_s
        if waited_s < self._settings.min_update_interval_s or not self._is_news(leg, said):
            return None
        if muted:
            if not leg.muted:
                leg.muted = True
                self.suppressed[leg.context.source] += 1
            return None
        leg.muted = False
        return self._next(leg, said, Kind.UPDATED, _hour(leg.context, leg.verdict))

    def _is_news(self, leg: _Leg, said: Alert) -> bool:
        now, then = leg.verdict, said.verdict
        return (
            now.state is not then.state
            or abs(now.llr - then.llr) >= self._settings.update_llr_step
            or severity(now, self._settings.severity) > said.severity
            or leg.context.role is not said.context.role
            or leg.context.codec != said.context.codec
            or _names(now) != _names(then)
        )

    def _next(self, leg: _Leg, said: Alert, kind: Kind, at_utc: float) -> Alert:
        leg.alert = replace(
            said,
            revision=said.revision + 1,
            kind=kind,
            # Hours of the samples and of the wall may disagree by a little; order must not.
            at_utc=max(at_utc, said.at_utc),
            severity=max(said.severity, severity(leg.verdict, self._settings.severity)),
            last_seen_utc=max(said.last_seen_utc, _hour(leg.context, leg.verdict)),
            context=leg.context,
            verdict=leg.verdict,
            quality=leg.quality,
            latency=leg.latency,
        )
        return leg.alert

    def _clear(self, leg: _Leg, at_utc: float, reason: ClearedReason, detail: str | None) -> Alert:
        assert leg.alert is not None
        closed = self._next(leg, leg.alert, Kind.CLEARED, at_utc)
        leg.alert, leg.muted = None, False
        return replace(closed, cleared_reason=reason, cleared_detail=detail)

    def _end(
        self, legs: Iterable[str], reason: ClearedReason, at_utc: float, detail: str | None
    ) -> list[Alert]:
        ended = (self.end_leg(leg, reason, at_utc, detail) for leg in legs)
        return [alert for alert in ended if alert is not None]


def severity(verdict: Verdict, settings: SeveritySettings) -> int:
    """Of a verdict by itself; an alert keeps the highest that it had."""
    if verdict.state is State.SPOOF:
        strong = verdict.llr >= settings.strong_llr
        return settings.strong_spoof if strong else settings.spoof
    return settings.suspect if verdict.state is State.SUSPECT else 1


def _hour(context: LegContext, verdict: Verdict) -> float:
    return context.clock.utc_at(verdict.offset_s)


def _names(verdict: Verdict) -> tuple[str | None, str | None]:
    labels = (verdict.attribution.technology, verdict.attribution.generator)
    technology, generator = (x.label if isinstance(x, Label) else None for x in labels)
    return technology, generator
