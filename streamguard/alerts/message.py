"""What waits in the outbox."""

from __future__ import annotations

from dataclasses import dataclass

from streamguard.alerts.alert import Kind


@dataclass(frozen=True, slots=True)
class Message:
    """One revision of an alert, ready to be sent."""

    alert_id: str
    revision: int
    kind: Kind
    topic: str
    payload: bytes
    created_utc: float
    """POSIX seconds at which it was handed over, by the machine's clock."""
    cause: bytes = b""
    """Of a raising: the state that it came from."""
    seq: int = 0
    """Position in the outbox; 0 until stored."""
