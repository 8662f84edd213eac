"""Time: a clock that can be replaced, and the line from a leg's samples to the hour of the day."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol

SAMPLE_RATE_HZ = 16_000
"""The rate at which everything after the front end works."""
HOP_SAMPLES = 8_000
"""0.5 s: the unit of work."""
WINDOW_HOPS = 6
"""A window is the last six hops: 3 s."""
HOP_SECONDS = HOP_SAMPLES / SAMPLE_RATE_HZ


class Clock(Protocol):
    """What the daemon asks of time."""

    def monotonic(self) -> float:
        """Seconds on a clock that never steps back."""

    def utc(self) -> float:
        """POSIX seconds."""

    async def sleep_until(self, monotonic_s: float) -> None:
        """Return when :meth:`monotonic` has reached ``monotonic_s``."""


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def utc(self) -> float:
        return time.time()

    async def sleep_until(self, monotonic_s: float) -> None:
        await asyncio.sleep(max(0.0, monotonic_s - time.monotonic()))


class VirtualClock:
    """A clock that only the player of a recording moves: as fast as possible, and repeatable."""

    def __init__(self, start_utc: float = 0.0) -> None:
        self._now = 0.0
        self._start_utc = start_utc

    def monotonic(self) -> float:
        return self._now

    def utc(self) -> float:
        return self._start_utc + self._now

    def advance_to(self, monotonic_s: float) -> None:
        """Move forward; moving back is ignored, as time does."""
        self._now = max(self._now, monotonic_s)

    async def sleep_until(self, monotonic_s: float) -> None:
        self.advance_to(monotonic_s)
        await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class LegClock:
    """The hour of each sample of one leg."""

    start_utc: float
    """POSIX seconds of sample 0."""

    def utc_at(self, offset_s: float) -> float:
        """POSIX seconds of what lies so many seconds after sample 0."""
        return self.start_utc + offset_s
