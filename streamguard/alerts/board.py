"""What is said of a source as a whole: the worst state among its calls."""

from __future__ import annotations

from collections import Counter
from typing import Any

from streamguard.alerts.schema import rfc3339
from streamguard.verdict.scores import State

# UNKNOWN is worse than BONAFIDE: with one leg undecided the source is not known to be genuine.
_WORST_FIRST = (State.SPOOF, State.SUSPECT, State.UNKNOWN, State.BONAFIDE)


class SourceBoard:
    """Pure. Values are for a retained topic and so name no call."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._legs: dict[str, dict[str, State]] = {}
        self._tallies: dict[str, Counter[State]] = {}
        """By source: legs in each state. Hundreds of legs say something twice a second."""
        self._said: dict[str, tuple[State, int, float, float]] = {}
        """By source: state, legs, since, published; the last three in POSIX seconds."""

    def reset(self, source: str, now_utc: float) -> dict[str, Any]:
        """At start-up: nothing is known of the source."""
        self._clear(source)
        return self._say(source, State.UNKNOWN, now_utc)

    def verdict(self, source: str, leg: str, state: State, now_utc: float) -> dict[str, Any] | None:
        """The source's value if it must be published: it changed, or half of its life is over."""
        if source not in self._legs:
            self._clear(source)
        before = self._legs[source].get(leg)
        if before is not state:
            self._legs[source][leg] = state
            self._tallies[source][state] += 1
            if before is not None:
                self._tallies[source][before] -= 1
        return self._changed(source, now_utc)

    def leg_ended(self, leg: str, now_utc: float) -> tuple[str, dict[str, Any] | None] | None:
        """(source, value or None) of the leg's source; None if the leg is not known."""
        for source, legs in self._legs.items():
            if (state := legs.pop(leg, None)) is not None:
                self._tallies[source][state] -= 1
                return source, self._changed(source, now_utc)
        return None

    def refresh(self, now_utc: float) -> dict[str, dict[str, Any]]:
        """By source: values that must be said again although no call has news (on hold, silent)."""
        values = {s: self._changed(s, now_utc) for s, legs in self._legs.items() if legs}
        return {source: value for source, value in values.items() if value is not None}

    def model_changed(self, now_utc: float) -> dict[str, dict[str, Any]]:
        """What was said of the calls does not hold any more, but they go on; values by source."""
        for source, legs in self._legs.items():
            legs.update(dict.fromkeys(legs, State.UNKNOWN))
            self._tallies[source] = Counter(legs.values())
        return self.refresh(now_utc)

    def source_lost(self, source: str, now_utc: float) -> dict[str, Any] | None:
        self._clear(source)
        return self._changed(source, now_utc)

    def forget(self, source: str) -> None:
        """It is no longer configured."""
        self._legs.pop(source, None)
        self._tallies.pop(source, None)
        self._said.pop(source, None)

    def sources(self) -> tuple[str, ...]:
        return tuple(self._legs)

    def _clear(self, source: str) -> None:
        self._legs[source] = {}
        self._tallies[source] = Counter()

    def _changed(self, source: str, now_utc: float) -> dict[str, Any] | None:
        legs, tally = self._legs[source], self._tallies[source]
        worst = next((state for state in _WORST_FIRST if tally[state]), State.UNKNOWN)
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
