"""The bounded queue between what must not wait and what may."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass

from streamguard.errors import SourceError
from streamguard.events import (
    Answered,
    Audio,
    CallEnded,
    CallStarted,
    Gap,
    Hold,
    LegEnded,
    LegStarted,
    LegUpdated,
    MediaChanged,
    Quality,
    Resume,
    SegmentStarted,
    SourceDown,
    SourceEvent,
    SourceUp,
    Tone,
)
from streamguard.sources.base import Emit

_Sample = Audio | Gap | Tone | Quality
_Mark = MediaChanged | SegmentStarted | LegUpdated | Answered | Hold | Resume
_Droppable = _Sample | _Mark
_MARKS: dict[type[SourceEvent], str] = {
    MediaChanged: "media",
    SegmentStarted: "segment",
    LegUpdated: "leg",
    Answered: "answer",
    Hold: "hold",
    Resume: "hold",
}
"""What changes how later samples are taken, and which older ones a newer one makes void."""


@dataclass(frozen=True, slots=True)
class _Unseen:
    """What waits of a call, by itself: its starts and ends, and the legs."""

    keys: list[int]
    legs: list[str]


class EventQueue:
    """Events on their way from a callback that cannot wait to an ``emit`` that may.

    Bounded, at a constant cost per event. When ``limit`` events wait, room is made by the first of
    these that there is:

    1. the oldest sample goes (the intake sees the hole by the positions), or the oldest mark
       (codec, segment, hold ...) if that is older. Of the marks of a leg that went, the newest of
       each kind is passed on just before what comes next of the leg: no sample is misread;
    2. a call that began and ended while waiting goes as a whole, its samples having gone before.

    What then still waits is one end of each call that is known to the consumer, and one start of
    each that is up: no more than a few per leg, whatever a peer sends.
    """

    def __init__(self, limit: int, drops: Counter[str]) -> None:
        self._limit = limit
        self._drops = drops
        self._events: OrderedDict[int, SourceEvent] = OrderedDict()
        self._next_key = 0
        self._droppable: deque[int] = deque()
        """Keys of samples and marks, oldest first."""
        self._carried: dict[str, dict[str, SourceEvent]] = {}
        """By leg: marks to be passed on before its next event."""
        self._unseen: dict[str, _Unseen] = {}
        """By call of which nothing is passed on yet."""
        self._calls: dict[str, str] = {}
        """leg -> call, of the unseen."""
        self._over: deque[str] = deque()
        """Calls that had ended while they were unseen, oldest first."""
        self._ready = asyncio.Event()
        self._error: SourceError | None = None

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: SourceEvent) -> None:
        """Never waits; on the event loop only."""
        if len(self._events) >= self._limit:
            self._make_room()
        key = self._next_key
        self._next_key += 1
        self._events[key] = event
        if isinstance(event, _Droppable):
            self._droppable.append(key)
        else:
            self._note(event, key)
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
                for event in self._take():
                    await emit(event)
            if self._error is not None:
                raise self._error

    def _take(self) -> list[SourceEvent]:
        """The oldest event, and before it the marks that are carried to it."""
        key, event = self._events.popitem(last=False)
        if self._droppable and self._droppable[0] == key:
            self._droppable.popleft()
        if isinstance(event, _Sample) and not self._carried:
            return [event]  # nearly all events: one per packet
        match event:
            case CallStarted():
                self._forget(event.call)
                return [event]
            case CallEnded():
                if self._over and self._over[0] == event.call:
                    self._over.popleft()
                return [event]
            case LegStarted() | SourceUp() | SourceDown():
                return [event]  # no mark of a leg comes before its start
        carried = self._carried.pop(event.leg, {})
        carried.pop(_MARKS.get(type(event), ""), None)
        return [*carried.values(), event]

    def _make_room(self) -> None:
        if self._droppable:
            event = self._events.pop(self._droppable.popleft())
            if isinstance(event, _Mark):
                marks = self._carried.setdefault(event.leg, {})
                marks.pop(_MARKS[type(event)], None)  # so that the order stays that of coming
                marks[_MARKS[type(event)]] = event
            else:
                self._drops["overload"] += 1
            return
        while self._over:
            call = self._over.popleft()
            if call in self._unseen:
                self._drops["overload_call"] += 1
                gone = self._forget(call)
                for key in gone.keys:
                    del self._events[key]
                for leg in gone.legs:
                    self._carried.pop(leg, None)
                return

    def _note(self, event: SourceEvent, key: int) -> None:
        """Remember which starts and ends belong together."""
        match event:
            case CallStarted():
                self._unseen[event.call] = _Unseen([key], [])
            case LegStarted() if event.call in self._unseen:
                self._unseen[event.call].keys.append(key)
                self._unseen[event.call].legs.append(event.leg)
                self._calls[event.leg] = event.call
            case LegEnded() if event.leg in self._calls:
                self._unseen[self._calls[event.leg]].keys.append(key)
            case CallEnded() if event.call in self._unseen:
                self._unseen[event.call].keys.append(key)
                self._over.append(event.call)

    def _forget(self, call: str) -> _Unseen:
        """The call is passed on now, or goes as a whole."""
        unseen = self._unseen.pop(call)
        for leg in unseen.legs:
            del self._calls[leg]
        return unseen
