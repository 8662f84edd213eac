"""State that the broker is asked to keep: what each topic should say now.

The publisher sends a topic again when its value changes, and all of them on every new connection.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any


class RetainedState:
    """Newest value per topic; as many entries as there are topics. For the event loop only."""

    def __init__(self, changed: asyncio.Event) -> None:
        self._changed = changed
        self._values: dict[str, bytes] = {}
        self._stale: dict[str, None] = {}

    def set(self, topic: str, value: Mapping[str, Any]) -> None:
        """Say this on ``topic`` from now on; must not carry a call id."""
        payload = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
        if self._values.get(topic) == payload:
            return
        self._values[topic] = payload
        self._stale[topic] = None
        self._changed.set()

    def forget(self, topic: str) -> None:
        """Take the topic off the broker (an empty retained message does that)."""
        if topic in self._values:
            self._values[topic] = b""
            self._stale[topic] = None
            self._changed.set()

    def all_stale(self) -> None:
        """A new connection: everything is to be said again."""
        self._stale = dict.fromkeys(self._values)

    def take(self) -> tuple[str, bytes] | None:
        """The next topic to publish; call :meth:`unsent` if that fails."""
        if not self._stale:
            return None
        topic = next(iter(self._stale))
        del self._stale[topic]
        return topic, self._values[topic]

    def unsent(self, topic: str) -> None:
        self._stale[topic] = None
