"""What a source is, and the bounded queue between what must not wait and what may.

A source is run by somebody (the supervisor, ``analyze``), to whom these rules hold:

* ``run`` announces itself with ``SourceUp`` and then emits calls, legs and their samples;
* it returns when its material has ended by itself: all its legs have ended and ``SourceDown`` is
  out; it raises ``SourceError`` (a file: ``AudioFileError``) when it dies;
* when it dies or is cancelled it emits nothing more: whoever runs it emits ``SourceDown``, which
  ends what is left of its legs.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from streamguard.errors import SourceError
from streamguard.events import Audio, Gap, Quality, SourceEvent, Tone

Emit = Callable[[SourceEvent], Awaitable[None]]
"""Take one event, in order. It may make the source wait: a replay then waits (back-pressure), a
live source keeps receiving into its own bounded queue and drops, counted, what is oldest."""


@dataclass(frozen=True, slots=True)
class SourceStats:
    """Counters of one source since it was made; a snapshot."""

    received: int
    """Datagrams, sound-card blocks or file chunks."""
    dropped: Mapping[str, int]
    """By reason."""
    legs_active: int
    legs_started: int
    last_audio_at: float | None
    """Monotonic time of the newest audio: a process that lives may yet hear nothing."""


class Source(Protocol):
    """One configured origin of audio."""

    @property
    def name(self) -> str:
        """As configured; unique in a daemon."""

    async def run(self, emit: Emit) -> None:
        """Emit events until the material ends; see the rules above. May be run again."""

    def stats(self) -> SourceStats:
        """Never blocks."""


def new_id() -> str:
    """An id for a call or leg that says nothing about who is on it."""
    return secrets.token_hex(8)


class EventQueue:
    """Events on their way from a callback that cannot wait to an ``emit`` that may.

    Bounded: when it is full the oldest samples go first (the intake sees the hole by their
    positions); what starts and ends calls and legs is always kept, and bounded by their number.
    """

    def __init__(self, limit: int, drops: Counter[str]) -> None:
        self._limit = limit
        self._drops = drops
        self._events: deque[SourceEvent] = deque()
        self._ready = asyncio.Event()
        self._error: SourceError | None = None

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: SourceEvent) -> None:
        """Never waits; on the event loop only."""
        if len(self._events) >= self._limit:
            self._drop_oldest()
        self._events.append(event)
        self._ready.set()

    def fail(self, error: SourceError) -> None:
        """The source has died; :meth:`pump` raises when it has passed on what came before."""
        self._error = self._error or error
        self._ready.set()

    async def pump(self, emit: Emit) -> None:
        """Pass on, in order, until cancelled or failed."""
        while True:
            await self._ready.wait()
            self._ready.clear()
            while self._events:
                await emit(self._events.popleft())
            if self._error is not None:
                raise self._error

    def _drop_oldest(self) -> None:
        for index, event in enumerate(self._events):
            if isinstance(event, Audio | Gap | Tone | Quality):
                del self._events[index]
                self._drops["overload"] += 1
                return
