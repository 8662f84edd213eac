"""Suppress rules: what an operator does not want to hear of, why, and until when.

A rule mutes `raised` and `updated`. A raised alert still ends in its `cleared`, and what was muted
is counted.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from streamguard.alerts.context import LegContext

MAX_RULES = 1000


class Field(enum.StrEnum):
    """What a rule looks at."""

    SOURCE = "source"
    LEG_ROLE = "leg_role"
    CALL_ID = "call_id"
    ALERT_ID = "alert_id"


@dataclass(frozen=True, slots=True)
class Suppression:
    """One rule; there is none without a reason and an end."""

    rule_id: str
    field: Field
    value: str
    operator: str
    reason: str
    expires_utc: float

    def covers(self, context: LegContext, alert_id: str | None) -> bool:
        match self.field:
            case Field.SOURCE:
                return context.source == self.value
            case Field.LEG_ROLE:
                return context.role.value == self.value
            case Field.CALL_ID:
                return context.call == self.value
            case Field.ALERT_ID:
                return alert_id == self.value


class Suppressions:
    """The rules in force, bounded."""

    def __init__(self, rules: tuple[Suppression, ...] = ()) -> None:
        self._rules = {rule.rule_id: rule for rule in rules}

    def add(self, rule: Suppression) -> None:
        """Raises ValueError when there are too many."""
        if len(self._rules) >= MAX_RULES:
            raise ValueError(f"there are already {MAX_RULES} suppress rules")
        self._rules[rule.rule_id] = rule

    def expire(self, now_utc: float) -> list[Suppression]:
        """Forget and return what has run out."""
        gone = [rule for rule in self._rules.values() if rule.expires_utc <= now_utc]
        for rule in gone:
            del self._rules[rule.rule_id]
        return gone

    def match(
        self, context: LegContext, alert_id: str | None, now_utc: float
    ) -> Suppression | None:
        for rule in self._rules.values():
            if rule.expires_utc > now_utc and rule.covers(context, alert_id):
                return rule
        return None

    def rules(self) -> tuple[Suppression, ...]:
        return tuple(self._rules.values())
