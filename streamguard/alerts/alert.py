"""An alert: one revision of what is said about one leg."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from streamguard.alerts.context import LatencySnapshot, LegContext, QualitySnapshot
from streamguard.verdict.scores import Verdict


class Kind(enum.StrEnum):
    """What a message does to its alert."""

    RAISED = "raised"
    UPDATED = "updated"
    CLEARED = "cleared"


class ClearedReason(enum.StrEnum):
    """Why an alert is over."""

    EVIDENCE = "evidence"
    CALL_ENDED = "call_ended"
    SOURCE_LOST = "source_lost"
    SHUTDOWN = "shutdown"
    MODEL_CHANGED = "model_changed"


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A person has seen it."""

    operator: str
    note: str
    at_utc: float


@dataclass(frozen=True, slots=True)
class Alert:
    """One revision. Immutable: a later revision is another object with the same ``alert_id``."""

    alert_id: str
    revision: int
    """From 1, without gaps."""
    kind: Kind
    at_utc: float
    """POSIX seconds of what the revision reports."""
    severity: int
    """Highest so far, 1 to 6."""
    first_seen_utc: float
    last_seen_utc: float
    context: LegContext
    verdict: Verdict
    quality: QualitySnapshot
    latency: LatencySnapshot
    acknowledged: Acknowledgement | None = None
    cleared_reason: ClearedReason | None = None
    cleared_detail: str | None = None
