"""What is said of a source as a whole: the worst state among its calls."""

from __future__ import annotations

from typing import Any

from streamguard.alerts.schema import rfc3339
from streamguard.verdict.scores import State

# UNKNOWN is worse than BONAFIDE: with one leg undecided the source is not known to be genuine.
_WORSE = {State.BONAFIDE: 0, State.UNKNOWN: 1, State.SUSPECT: 2, State.SPOOF: 3}


class SourceBoard:
    """Pure. Values are for a retained topic and so name no call."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._legs: dict[str, dict[str, State]] = {}
        self._said: dict[str, tuple[State, int, float, float]] = {}
        """By source: state, legs, since, published; the last three in POSIX seconds."""

    def reset(self, source: str, now_utc: float) -> dict[str, Any]:
        """At start-up: nothing is known of the source."""
        self._legs[source] = {}
        return self._say(source, State.UNKNOWN, now_utc)

    def verdict(self, source: str, leg: str, state: State, now_utc: float) -> dict[str, Any] | None:
        """The source's value if it must be published: it changed, or half of its life is over."""
        self._legs.setdefault(source, {})[leg] = state
        return self._changed(source, now_utc)

    def leg_ended(self, leg: str, now_utc: float) -> tuple[str, dict[str, Any] | None] | None:
        """(source, value or None) of the leg's source; None if the leg is not known."""
        for source, legs in self._legs.items():
            if legs.pop(leg, None) is not None:
                return source, self._changed(source, now_utc)
        return None

    def refresh(self, now_utc: float) -> dict[str, dict[str, Any]]:
        """By source: values that must be said again although no call has news (on hold, silent)."""
        values = {s: self._changed(s, now_utc) for s, legs in self._legs.items() if legs}
        return {source: value for source, value in values.items() if value is not None}

    def model_changed(self, now_utc: float) -> dict[str, dict[str, Any]]:
        """What was said of the calls does not hold any more, but they go on; values by source."""
        for legs in self._legs.values():
            legs.update(dict.fromkeys(legs, State.UNKNOWN))
        return self.refresh(now_utc)

    def source_lost(self, source: str, now_utc: float) -> dict[str, Any] | None:
        self._legs[source] = {}
        return self._changed(source, now_utc)

    def forget(self, source: str) -> None:
        """It is no longer configured."""
        self._legs.pop(source, None)
        self._said.pop(source, None)

    def sources(self) -> tuple[str, ...]:
        return tuple(self._legs)

    def _changed(self, source: str, now_utc: float) -> dict[str, Any] | None:
        legs = self._legs[source]
        worst = max(legs.values(), key=_WORSE.__getitem__, default=State.UNKNOWN)
        said = self._said.get(source)
        if said is not None:
            state, count, _, published = said
            if (state, count) == (worst, len(legs)) and now_utc - published < self._ttl_s / 2:
                return None
        return self._say(source, worst, now_utc)

    def _say(self, source: str, state: State, now_utc: float) -> dict[str, Any]:
        said = self._said.get(source)
        since = said[2] if said is not None and said[0] is state else now_utc
        legs = len(self._legs[source])
        self._said[source] = (state, legs, since, now_utc)
        return {
            "state": state.value,
            "legs": legs,
            "since": rfc3339(since),
            "expires_at": rfc3339(now_utc + self._ttl_s),
        }
